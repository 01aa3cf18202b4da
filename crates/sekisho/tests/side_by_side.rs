//! Our tools against Open vSwitch's, command line by command line on equal databases.
//!
//! Each side has its own stock `ovsdb-server`; the lines of a file in `commands/` run on both in order, and
//! standard output, standard error and exit status are compared. Where Open vSwitch 3.1 is not
//! installed there is nothing to compare with, and the test says so.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A stock `ovsdb-server` with an empty database in a directory of its own.
struct Server {
    dir: PathBuf,
    child: Child,
}

impl Server {
    fn start(name: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("sekisho-tools-{}-{name}", std::process::id()));
        // Something of an earlier process with our id may be there.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory for the server");
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../ovsdb/schemas/vswitch.ovsschema");
        let db = dir.join("conf.db");
        let created =
            Command::new("ovsdb-tool").arg("create").arg(&db).arg(schema).output().ok()?;
        let why = String::from_utf8_lossy(&created.stderr);
        assert!(created.status.success(), "ovsdb-tool create {}: {why}", db.display());
        let child = Command::new("ovsdb-server")
            .arg(&db)
            .arg(format!("--remote=punix:{}/db.sock", dir.display()))
            .arg(format!("--unixctl={}/ovsdb-server.ctl", dir.display()))
            .arg("-vconsole:off")
            .env("OVS_RUNDIR", &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { dir, child };
        for _ in 0..500 {
            if server.dir.join("db.sock").exists() {
                return Some(server);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("ovsdb-server did not come up");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Splits a line at spaces outside single and double quotes; single quotes are taken away, double ones
/// only where they are not inside single ones.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut any, mut quote) = (Vec::new(), String::new(), false, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                any = true;
            }
            (None, ' ') => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

/// Puts `U` for every UUID, `T` for a log line's time, and sorts lines and the elements of sets of UUIDs.
fn normal(text: &[u8], dir: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(text).replace(&dir.display().to_string(), "DIR");
    let is_uuid = |s: &[u8]| {
        s.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
    };
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let (mut out, mut rest) = (String::new(), line);
            while !rest.is_empty() {
                let bytes = rest.as_bytes();
                if bytes.len() >= 36 && is_uuid(&bytes[..36]) {
                    out.push('U');
                    rest = &rest[36..];
                } else {
                    let n = rest.chars().next().map_or(1, char::len_utf8);
                    out.push_str(&rest[..n]);
                    rest = &rest[n..];
                }
            }
            match out.split_once("Z|") {
                Some((time, text)) if time.len() == 19 => format!("T|{text}"),
                _ => out,
            }
        })
        .collect();
    lines.sort();
    lines
}

#[derive(Debug, PartialEq)]
struct Said {
    status: Option<i32>,
    out: Vec<String>,
    err: Vec<String>,
}

/// Runs a tool with the sockets of a server.
fn call(command: &mut Command, server: &Server, args: &[String]) -> Said {
    let dir = server.dir.display().to_string();
    let args = args.iter().map(|a| {
        a.replace("$DB", &format!("unix:{dir}/db.sock"))
            .replace("$CTL", &format!("{dir}/ovsdb-server.ctl"))
    });
    let output = command
        .args(args)
        .env("OVS_RUNDIR", &server.dir)
        .env_remove("OVS_CTL_TIMEOUT")
        .output()
        .expect("the tool runs");
    Said {
        status: output.status.code(),
        out: normal(&output.stdout, &server.dir),
        err: normal(&output.stderr, &server.dir),
    }
}

/// Our tool under the name that messages show.
fn ours(server: &Server, tool: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let link = server.dir.join(tool);
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sekisho"), &link).expect("a link");
    }
    let mut command = Command::new(link);
    command.arg0(tool);
    command
}

/// Runs every line of `table` with both tools, behind the options `first`.
fn compare(tool: &str, first: &[&str], table: &str, at_least: usize) {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let installed = Command::new(tool).arg("--version").output();
    let is_3_1 =
        installed.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("(Open vSwitch) 3.1."));
    if !is_3_1 {
        eprintln!("skipped: {tool} of Open vSwitch 3.1 is not installed");
        return;
    }
    let servers = (
        Server::start(&format!("{tool}-{run}-ours")),
        Server::start(&format!("{tool}-{run}-theirs")),
    );
    let (Some(a), Some(b)) = servers else {
        eprintln!("skipped: ovsdb-server is not installed");
        return;
    };
    let mut differences = String::new();
    let mut n = 0;
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        n += 1;
        let mut args: Vec<String> = first.iter().map(|a| (*a).to_owned()).collect();
        args.extend(words(line.trim_start_matches('!')));
        let ours = call(&mut ours(&a, tool), &a, &args);
        if line.starts_with('!') {
            assert_eq!(ours.status, Some(1), "{line}");
            assert_eq!(ours.err.len(), 1, "{line}: {:?}", ours.err);
            continue;
        }
        let theirs = call(&mut Command::new(tool), &b, &args);
        if ours != theirs {
            use std::fmt::Write;
            let _ = writeln!(differences, "{line}\n  ours   {ours:?}\n  theirs {theirs:?}");
        }
    }
    assert!(n >= at_least, "the table has shrunk to {n} lines");
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn vsctl() {
    let first = ["--no-wait", "--timeout=10"];
    compare("ovs-vsctl", &first, include_str!("commands/vsctl.txt"), 280);
}

#[test]
fn vsctl_values() {
    let first = ["--no-wait", "--timeout=10"];
    compare("ovs-vsctl", &first, include_str!("commands/vsctl-values.txt"), 190);
}

#[test]
fn ovsdb_client() {
    let first = ["--timeout=10"];
    compare("ovsdb-client", &first, include_str!("commands/ovsdb-client.txt"), 45);
}

#[test]
fn appctl() {
    compare("ovs-appctl", &[], include_str!("commands/ovs-appctl.txt"), 20);
}

#[test]
fn a_database_that_is_not_there() {
    let output = Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .args(["vsctl", "--db=unix:/nonexistent/db.sock", "show"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "ovs-vsctl: unix:/nonexistent/db.sock: database connection failed (No such file or directory)\n"
    );
}
