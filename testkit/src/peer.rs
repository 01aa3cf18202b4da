//! The network program `peer` that plays client and server in namespaces and guests.
//!
//! [`crate::peer_program`] says what it can do. It is compiled at the first use by `rustc` alone,
//! as a static program (it must run in an initramfs), and kept beside the build; a program that
//! carries it inside names itself instead ([`use_program`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::scratch::Scratch;
use crate::{need, process};

/// The program's main file, and where what it does stands.
const MAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer/main.rs");
const SOURCES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/peer_program.rs"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/peer_files.rs"),
];

static PATH: OnceLock<std::result::Result<String, String>> = OnceLock::new();

/// Says that `program` is the network program when it is called `sekisho-peer`, as which it is linked in a
/// directory. Without effect after the first use.
///
/// # Errors
/// If the link cannot be made.
pub fn use_program(program: &str, dir: &Scratch) -> Result<()> {
    let link = dir.join("sekisho-peer");
    std::os::unix::fs::symlink(program, &link).with_context(|| format!("cannot make {link}"))?;
    let _ = PATH.set(Ok(link));
    Ok(())
}

/// Path of the program, compiled if need be.
pub fn path() -> Result<String> {
    PATH.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

/// A directory for what tests build and download: `testkit` in cargo's target directory.
pub fn cache_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    // target/<profile>/deps/<test> and target/<profile>/<binary>
    let target = exe
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .or_else(|| exe.parent())
        .context("a program without a directory")?;
    let dir = target.join("testkit");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn build() -> Result<String> {
    let _turn = need::turn("peer")?;
    let program = cache_dir()?.join("peer");
    if !SOURCES.iter().all(|source| is_newer(&program, Path::new(source))) {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let fresh = program.with_extension("new");
        process::run_with(
            Command::new(rustc)
                .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static"])
                .args(["-C", "strip=symbols", "-o"])
                .arg(&fresh)
                .arg(MAIN),
            b"",
            Duration::from_secs(120),
        )?
        .ok()
        .context("cannot compile the peer program")?;
        std::fs::rename(&fresh, &program)?;
    }
    Ok(program.to_string_lossy().into_owned())
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    changed(file) >= changed(than) && file.exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    #[test]
    fn servers_answer_clients() {
        let peer = path().unwrap();
        let ns = Netns::new("peer").unwrap();
        let mut server = ns.spawn(&[&peer, "serve", "192.0.2.7"]).unwrap();
        server.wait_for("serves", |out| out.contains("serving")).unwrap();
        for (client, answer) in [
            (vec!["tcp", "127.0.0.1", "23", "2000"], "OK\n"),
            (vec!["udp", "127.0.0.1", "7", "2000"], "OK\n"),
            (vec!["dns", "127.0.0.1", "www.example.org", "2000"], "192.0.2.7\n"),
        ] {
            let argv: Vec<_> = [peer.as_str()].into_iter().chain(client).collect();
            assert_eq!(ns.ok(&argv).unwrap(), answer);
        }
        let mut sink = ns.spawn(&[&peer, "sink", "9"]).unwrap();
        sink.wait_for("listens", |out| out.contains("listening")).unwrap();
        let sent = ns.ok(&[&peer, "send", "127.0.0.1", "9", "100001"]).unwrap();
        let received = sink.finish(process::DEADLINE).unwrap().ok().unwrap();
        assert_eq!(sent.strip_prefix("sent 100001 "), received.split("received 100001 ").nth(1));
    }

    #[test]
    fn a_client_without_server_fails() {
        let peer = path().unwrap();
        let ns = Netns::new("peer").unwrap();
        for argv in [
            [&peer, "tcp", "127.0.0.1", "23", "200"],
            [&peer, "udp", "127.0.0.1", "7", "50"],
            [&peer, "nonsense", "", "", ""],
        ] {
            assert!(!ns.run(&argv).unwrap().success(), "{argv:?}");
        }
    }
}
