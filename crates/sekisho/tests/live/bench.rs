//! `sekisho bench` measures, says so in its document, and leaves nothing behind, however it ends.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::need;
use testkit::process::{Proc, Ran, eventually, run, run_with, signal};
use testkit::scratch::Scratch;
use testkit::sut::Whose;

use crate::{BINARY, can_run};

/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The command, with its files in a directory of its own.
fn bench(dir: &Scratch, words: &str) -> Command {
    let mut bench = Command::new(BINARY);
    bench.arg("bench").args(words.split_whitespace()).env("TMPDIR", dir.path());
    bench
}

/// Files that are left, and processes: all that it starts inherit the name of its directory, and namespaces live as long as
/// a process in them.
fn left_behind(dir: &Scratch) -> Vec<String> {
    let mut left: Vec<String> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| format!("{:?}", e.unwrap())).collect();
    let mark = format!("TMPDIR={}\0", dir.path().display());
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        // It may have ended in between, or be somebody else's.
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(&mark) {
            let argv = std::fs::read_to_string(process.path().join("cmdline"));
            left.push(format!("{:?}: {argv:?}", process.path()));
        }
    }
    left
}

/// Whether this machine has what is measured here.
fn skipped() -> bool {
    !can_run(Whose::Ours, Whose::Ours) || !need::programs(&["nft", "ping"]).unwrap()
}

#[test]
fn figures_come_as_a_document_and_nothing_stays() {
    if skipped() {
        return;
    }
    let dir = Scratch::new().unwrap();
    let words = "--parts traffic,memory --cases output-1 --only sekisho,direct --rounds 1 --seconds 1 --json";
    let ran = run_with(&mut bench(&dir, words), b"", PATIENCE).unwrap();
    assert!(ran.success(), "{ran}");
    assert_eq!(left_behind(&dir), Vec::<String>::new());

    let all: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&all["schema"], &all["rounds"], &all["seconds"]),
        (&"sekisho-bench/1".into(), &1.into(), &1.into())
    );
    for key in ["kernel", "cpu"] {
        assert!(!all["machine"][key].as_str().unwrap().is_empty(), "{key}");
    }
    assert!(all["machine"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(all["systems"][0]["name"], "sekisho");
    assert_eq!(all["systems"][0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(all["left_out"], Value::Array(vec![]));
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&all["parts"]), ["tcp", "tcp4", "rtt", "connections", "udp", "memory"]);
    for part in all["parts"].as_array().unwrap() {
        let [metric] = &part["metrics"].as_array().unwrap()[..] else { panic!("{part}") };
        assert!(!metric["unit"].as_str().unwrap().is_empty());
        let systems: &[&str] =
            if part["name"] == "memory" { &["sekisho"] } else { &["sekisho", "direct"] };
        let figures = metric["figures"].as_array().unwrap();
        assert_eq!(
            figures.iter().map(|f| f["system"].as_str().unwrap()).collect::<Vec<_>>(),
            systems
        );
        for figure in figures {
            let [round] = &figure["rounds"].as_array().unwrap()[..] else { panic!("{figure}") };
            assert!(round.as_f64().unwrap() > 0.0, "{figure}");
            assert_eq!(round, &figure["median"]);
        }
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    for (name, words) in [
        ("INT", "--parts tcp --only sekisho,direct --seconds 60"),
        ("TERM", "--parts memory --cases output-1 --only sekisho --seconds 60"),
    ] {
        let dir = Scratch::new().unwrap();
        let mut running = Proc::spawn(&mut bench(&dir, words)).unwrap();
        let begun = if words.contains("tcp") { "round 1 of 3: sekisho" } else { "output-1" };
        eventually("it measures", PATIENCE, || Ok(running.stderr().contains(begun).then_some(())))
            .unwrap();
        assert_ne!(left_behind(&dir).len(), 0, "it has begun");
        signal(running.pid(), name).unwrap();
        assert_eq!(
            running.wait(Duration::from_secs(30)).unwrap(),
            Some(130),
            "{}",
            running.stderr()
        );
        assert!(
            running.stderr().ends_with("interrupted; nothing is left behind\n"),
            "{}",
            running.stderr()
        );
        assert_eq!(left_behind(&dir), Vec::<String>::new());
    }
}

fn told(words: &str) -> Ran {
    run(Command::new(BINARY).arg("bench").args(words.split_whitespace())).unwrap()
}

#[test]
fn what_cannot_be_measured_is_told_with_what_would_be_right() {
    let ran = told("--parts tpc");
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.stderr.starts_with("sekisho bench: there is no part \"tpc\"; there are tcp, "),
        "{ran}"
    );
    if skipped() {
        return;
    }
    let ran = told("--parts memory --only bridge");
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran}");
    assert!(ran.stderr.contains("of sekisho, ovs-dpdk"), "{ran}");
    if need::find("ovstest").is_some() {
        return;
    }
    let mut tracker = Command::new(BINARY);
    tracker.args(["bench", "--parts", "tracker", "--only", "ovs"]).env_remove("OVSTEST");
    let ran = run(&mut tracker).unwrap();
    assert_eq!(ran.status, Some(3), "{ran}");
    assert!(ran.stderr.contains("needs ovstest, which no package has"), "{ran}");
}

#[test]
fn a_machine_without_namespaces_is_told_what_it_needs() {
    if skipped() || !need::programs(&["setpriv"]).unwrap() {
        return;
    }
    // As in a container: nobody may make namespaces, not even root.
    let dir = Scratch::new().unwrap();
    let mut poor = Command::new("setpriv");
    poor.args([
        "--bounding-set=-sys_admin",
        "--inh-caps=-sys_admin",
        "--",
        BINARY,
        "bench",
        "--parts",
        "tcp",
    ]);
    let ran = run(poor.env("TMPDIR", dir.path())).unwrap();
    if ran.stderr.contains("setpriv:") {
        need::absent("the right to drop capabilities (root)").unwrap();
        return;
    }
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(3), ""), "{ran}");
    assert!(
        ran.stderr.contains("Network namespaces with veth devices are needed: run it as root"),
        "{ran}"
    );
    assert_eq!(left_behind(&dir), Vec::<String>::new());
}
