//! The rules of the house that a compiler does not check.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The floors, lowest first. A room may use rooms on lower floors only. `ARCHITECTURE.md` shows the
/// same table.
pub const FLOORS: &[&[&str]] = &[
    &["base"],
    &["packet", "tls", "bpf"],
    &["flow", "ovsdb"],
    &["classifier", "conntrack", "services"],
    &["openflow", "dpif", "netdev", "ebpf"],
    &["ofproto", "datapath"],
    &["switchd", "bench"],
    &["sekisho"],
];

/// The root of the project.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// All files of the project whose names end so, without what builds make.
fn files(ending: &str) -> Result<Vec<PathBuf>> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<()> {
        let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    walk(&path, ending, found)?;
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found)?;
    found.sort();
    Ok(found)
}

/// How many source files and lines a room has.
pub fn size_of_room(room: &str) -> Result<(usize, usize)> {
    let inside = root().join("crates").join(room);
    let mut lines = 0;
    let mut n = 0;
    for path in files(".rs")?.iter().filter(|path| path.starts_with(&inside)) {
        n += 1;
        lines += std::fs::read_to_string(path)?.lines().count();
    }
    Ok((n, lines))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    /// Rooms that know no clock, socket or thread.
    const NO_STD: &[&str] = &[
        "base",
        "packet",
        "flow",
        "classifier",
        "conntrack",
        "services",
        "openflow",
        "dpif",
        "ofproto",
    ];

    /// Libraries that read clocks, open sockets or start threads, and the rooms that may use them.
    const WORLDLY: &[(&str, &[&str])] = &[
        ("tokio", &["ovsdb", "switchd", "bench", "sekisho"]),
        ("rustls", &["tls"]),
        ("tokio-rustls", &["switchd"]),
        ("socket2", &["netdev", "switchd", "sekisho"]),
        ("libc", &["bpf", "netdev", "datapath", "switchd", "sekisho"]),
        ("parking_lot", &["conntrack", "netdev", "datapath", "switchd", "sekisho"]),
    ];

    /// A file longer than this has more than one subject.
    const MOST_LINES: usize = 800;

    /// Files that are tables: rows are their subject however many there are.
    const TABLES: &[&str] = &["crates/flow/src/field.rs"];

    fn relative(path: &Path) -> String {
        path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn metadata() -> Vec<serde_json::Value> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let out = Command::new(cargo)
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        all["packages"].as_array().unwrap().clone()
    }

    /// The directory name of a package is its room.
    fn room(package: &serde_json::Value) -> String {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        manifest.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn arrows_run_down() {
        let floor: BTreeMap<&str, usize> = FLOORS
            .iter()
            .enumerate()
            .flat_map(|(floor, rooms)| rooms.iter().map(move |&room| (room, floor)))
            .collect();
        let packages = metadata();
        let rooms: BTreeMap<String, String> =
            packages.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), room(p))).collect();
        let mut wrong = Vec::new();
        for package in &packages {
            let from = room(package);
            let beside = !package["manifest_path"].as_str().unwrap().contains("/crates/");
            if !beside && !floor.contains_key(from.as_str()) {
                wrong.push(format!("{from} stands on no floor"));
            }
            for dependency in package["dependencies"].as_array().unwrap() {
                let name = dependency["name"].as_str().unwrap();
                let for_tests = dependency["kind"].as_str() == Some("dev");
                if let Some((_, users)) = WORLDLY.iter().find(|(library, _)| *library == name)
                    && !for_tests
                    && !beside
                    && !users.contains(&from.as_str())
                {
                    wrong.push(format!("{from} must not use {name}"));
                }
                let Some(to) = rooms.get(name) else { continue };
                if to == "testkit" {
                    // Demo and benchmarks play on the tests' stage.
                    if !for_tests && from != "sekisho" && from != "bench" {
                        wrong.push(format!("{from} uses testkit outside of tests"));
                    }
                    continue;
                }
                let (Some(above), Some(below)) = (floor.get(from.as_str()), floor.get(to.as_str()))
                else {
                    continue;
                };
                // A room may test itself with what stands beside it, not with what stands above.
                if below > above || (below == above && !for_tests) {
                    wrong.push(format!("{from} (F{above}) must not use {to} (F{below})"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_package_has_its_licence_and_a_description() {
        for package in metadata() {
            let name = &package["name"];
            assert_eq!(package["license"], "Apache-2.0 OR MIT", "{name}");
            assert!(package["description"].as_str().is_some_and(|d| d.len() > 10), "{name}");
            assert_eq!(package["publish"], serde_json::json!([]), "{name}");
        }
    }

    #[test]
    fn pure_rooms_say_so() {
        for room in NO_STD {
            let lib = root().join("crates").join(room).join("src/lib.rs");
            let text = std::fs::read_to_string(&lib).unwrap();
            assert!(
                text.lines().any(|line| line == "#![no_std]"
                    || line == "#![cfg_attr(not(test), no_std)]"
                    || line == "#![cfg_attr(not(any(test, feature = \"std\")), no_std)]"),
                "{room} must be no_std"
            );
        }
    }

    #[test]
    fn files_are_of_a_size_to_read() {
        let mut long = Vec::new();
        for path in files(".rs").unwrap() {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            let name = relative(&path);
            if lines > MOST_LINES && !TABLES.contains(&name.as_str()) {
                long.push(format!("{lines} {name}"));
            }
        }
        assert!(long.is_empty(), "over {MOST_LINES} lines:\n{}", long.join("\n"));
        for table in TABLES {
            assert!(root().join(table).exists(), "{table} is gone: take it off the list");
        }
    }

    #[test]
    fn nothing_is_left_unfinished() {
        // Put together here, so that this file does not contain them.
        let words = ["to", "unimple", "FIX", "X", "d"]
            .iter()
            .zip(["do!(", "mented!(", "ME", "XX", "bg!("])
            .map(|(a, b)| format!("{a}{b}"));
        let words: Vec<String> = words.collect();
        let mut found = Vec::new();
        for path in files(".rs").unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            for (n, line) in text.lines().enumerate() {
                for word in words.iter().filter(|word| has_word(line, word)) {
                    found.push(format!("{}:{}: {word}", relative(&path), n + 1));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// Whether `line` contains `word` as a word of its own.
    fn has_word(line: &str, word: &str) -> bool {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        line.match_indices(word).any(|(at, _)| {
            let after = &line[at + word.len()..];
            !line[..at].ends_with(inside) && (word.ends_with('(') || !after.starts_with(inside))
        })
    }

    #[test]
    fn nothing_names_one_machine() {
        let homes = ["work", "farm", "home"].map(|dir| format!("/{dir}/"));
        for ending in [".rs", ".toml", ".md", "Makefile", ".ci/run", ".sh", ".flow"] {
            for path in files(ending).unwrap() {
                let text = std::fs::read_to_string(&path).unwrap();
                for home in &homes {
                    let absolute = text.match_indices(home.as_str()).any(|(at, _)| {
                        !text[..at].ends_with(|c: char| c.is_alphanumeric() || "./-_*~".contains(c))
                    });
                    assert!(!absolute, "{} names a path under {home}", relative(&path));
                }
            }
        }
    }

    #[test]
    fn the_map_shows_every_room_on_its_floor() {
        let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        for (number, floor) in FLOORS.iter().enumerate() {
            let shown = map.lines().find_map(|line| line.strip_prefix(&format!("F{number} ")));
            let shown = shown.unwrap_or_else(|| panic!("ARCHITECTURE.md does not show F{number}"));
            for room in *floor {
                assert!(shown.split_whitespace().any(|word| word == *room), "{room}: {shown}");
                assert!(map.contains(&format!("| `{room}` |")), "{room} has no row");
            }
        }
    }

    #[test]
    fn the_readme_leads_to_the_map() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        assert!(readme.contains("](ARCHITECTURE.md)"));
    }

    #[test]
    fn every_room_on_the_map_exists() {
        for room in FLOORS.iter().copied().flatten() {
            assert!(root().join("crates").join(room).join("Cargo.toml").exists(), "{room}");
        }
    }
}
