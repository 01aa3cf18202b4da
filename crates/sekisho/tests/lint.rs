//! `sekisho lint` as it is called: what it prints, and its exit statuses.

use std::io::Write;
use std::process::{Command, Stdio};

/// Status, standard output and standard error of a call with a policy on standard input.
fn lint(args: &[&str], policy: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .arg("lint")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let written = child.stdin.take().expect("a pipe").write_all(policy.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    // A call that only fails reads nothing.
    assert!(written.is_ok() || output.status.code() == Some(2));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn findings_show_their_place() {
    let policy =
        "# web\npriority=9,ip,actions=output:eth1\npriority=8,tcp,tcp_dst=80,actions=output:3\n";
    let (status, out, err) = lint(&["--ports", "1,eth1=2", "-"], policy);
    let wanted = "\
-:3:12: warning: never matches: line 2 (priority 9) takes all its packets [shadowed]
  priority=8,tcp,tcp_dst=80,actions=output:3
             ^^^^^^^^^^^^^^
  hint: give it a priority above 9 (it has 8), or delete it
-:3:35: error: the switch has no port 3 [missing-port]
  priority=8,tcp,tcp_dst=80,actions=output:3
                                    ^^^^^^^^
  hint: there are 1, 2
2 rules: 1 error, 1 warning
";
    assert_eq!((status, out.as_str(), err.as_str()), (Some(1), wanted, ""));
    let allow = ["--ports", "1,eth1=2", "--allow=shadowed,missing-port", "-"];
    assert_eq!(lint(&allow, policy).0, Some(0));
}

#[test]
fn json_says_the_same() {
    let (status, out, _) = lint(&["--json", "-"], "ip,actions=drop\nip,actions=normal\n");
    assert_eq!(status, Some(1));
    let list: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        list,
        serde_json::json!([{
            "kind": "replaced", "level": "warning", "file": "-", "line": 1, "column": 1, "length": 2,
            "text": "ip,actions=drop",
            "message": "replaced by line 2: same table, priority and match",
            "hint": "keep one of the two lines",
            "other": { "file": "-", "line": 2 },
        }])
    );
    assert_eq!(lint(&["--json", "-"], "actions=drop").1, "[]\n");
}

#[test]
fn statuses_tell_notes_from_faults_and_from_failures() {
    assert_eq!(lint(&["-"], "actions=normal").0, Some(0));
    let noted = "priority=1,ip,ct_state=-trk,actions=ct(table=1)\n\
                 table=1,ct_state=+est,actions=normal\n\
                 table=1,ct_state=+trk+inv,actions=drop\n\
                 table=1,ct_state=+trk+rel-new-est,actions=normal\n";
    let (status, out, _) = lint(&["-"], noted);
    assert_eq!(status, Some(0));
    assert!(out.ends_with("4 rules: 1 note\n"), "{out}");
    for args in [&["/nonexistent"][..], &[], &["--frob"], &["--ports=x", "-"], &["-a", "x", "-"]] {
        let (status, out, err) = lint(args, "actions=normal");
        assert_eq!((status, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(!err.is_empty(), "{args:?}");
    }
}

#[test]
fn groups_lead_to_tables() {
    let file = std::env::temp_dir().join(format!("sekisho-lint-{}", std::process::id()));
    std::fs::write(&file, "group_id=1,type=all,bucket=resubmit(,4),bucket=output:1\n")
        .expect("a file");
    let groups = format!("--groups={}", file.display());
    let policy = "actions=group:1\ntable=4,ip,actions=group:2\ntable=5,actions=drop\n";
    let (status, out, err) = lint(&[&groups, "-"], policy);
    let kinds: Vec<&str> = out.lines().filter_map(|l| l.rsplit_once(" [")).map(|l| l.1).collect();
    assert_eq!((status, err.as_str()), (Some(1), ""));
    assert_eq!(kinds, ["missing-group]", "unreached-table]"], "{out}");
    std::fs::write(&file, "group_id=1,type=bogus\n").expect("a file");
    let (status, _, err) = lint(&[&groups, "-"], policy);
    std::fs::remove_file(&file).expect("the file");
    assert_eq!(status, Some(2));
    assert!(err.contains(":1: "), "{err}");
}

/// The page of findings tells of every kind; its first example has the finding, and what cures it has not.
#[test]
fn every_finding_of_the_page_is_found_and_cured() {
    let page = include_str!("../../../docs/lint.md");
    let groups = std::env::temp_dir().join(format!("sekisho-lint-groups-{}", std::process::id()));
    std::fs::write(&groups, "group_id=1,type=all,bucket=output:1\n").expect("a file of groups");
    let groups_option = format!("--groups={}", groups.display());
    let mut told = Vec::new();
    for section in page.split("\n## ").skip(1) {
        let (name, text) = section.split_once('\n').expect("a heading");
        let examples: Vec<&str> = text
            .split("```flow\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap_or_default())
            .collect();
        let [bad, cured] = examples[..] else { panic!("{name}: {} examples", examples.len()) };
        let args = match name {
            "missing-port" => vec!["--ports=1,2,3", "-"],
            "missing-group" => vec![groups_option.as_str(), "-"],
            _ => vec!["-"],
        };
        let mark = format!("[{name}]");
        // "and more than a thousand of these"
        let more = match bad.contains("# ... ") {
            true => (0..1100)
                .map(|i| {
                    format!("priority=5,ip,nw_src=10.1.{}.{},actions=normal\n", i / 256, i % 256)
                })
                .collect(),
            false => String::new(),
        };
        let (_, out, _) = lint(&args, &format!("{bad}{more}"));
        assert!(out.contains(&mark), "{name} is not found:\n{out}");
        let (_, out, _) = lint(&args, cured);
        assert!(!out.contains(&mark), "{name} is not cured:\n{out}");
        told.push(name);
    }
    let _ = std::fs::remove_file(groups);
    let (_, kinds, _) = lint(&["--kinds"], "");
    let listed: Vec<&str> = kinds
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .filter(|w| told.contains(w))
        .collect();
    assert_eq!(listed, told, "{kinds}");
    assert_eq!(kinds.lines().filter(|l| !l.starts_with(' ') && !l.is_empty()).count(), told.len());
}
