//! `sekisho top`: what it shows of a switch at work, as JSON, as text and on a terminal.

use std::io::Write;
use std::process::{ChildStdin, Stdio};

use serde_json::Value;
use testkit::need;
use testkit::netns::Netns;
use testkit::process::{DEADLINE, Proc, eventually};
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::BINARY;

/// What VM1 opens, VM2 may answer, in zone 5; VM2 may open nothing.
const POLICY: &str = "priority=100,ip,actions=ct(table=1,zone=5)\n\
                      priority=10,arp,actions=normal\n\
                      table=1,in_port=2,ct_state=+new,actions=ct(commit,zone=5),normal\n\
                      table=1,ct_state=+est,actions=normal\n\
                      table=1,in_port=3,ct_state=+new,actions=drop\n";

fn under_policy(story: &Story) -> Sut<'_> {
    let sut = Sut::start(Whose::Ours, BINARY, &story.sw).unwrap();
    sut.add_bridge(Whose::Ours, &["vm1p", "vm2p"]).unwrap();
    let file = sut.file("policy.flow");
    std::fs::write(&file, POLICY).unwrap();
    sut.load_policy(Whose::Ours, &file).unwrap();
    sut
}

/// Pings the other machine, and lets that ping back in vain, until it is dropped.
fn traffic(story: &Story) -> [Proc; 2] {
    [Vm::One, Vm::Two].map(|vm| {
        let argv = ["ping", "-q", "-n", "-s", "1000", "-i", "0.01", vm.other().ip()];
        story.vm(vm).spawn(&argv).unwrap()
    })
}

/// The row of a list that has this at a key.
fn row<'a>(rows: &'a Value, key: &str, value: &Value) -> Option<&'a Value> {
    rows.as_array()?.iter().find(|r| r[key] == *value)
}

fn is_moving(view: &Value) -> Option<()> {
    let more_than_nothing = |v: &Value| v.as_f64().is_some_and(|x| x > 0.0);
    let port = row(&view["ports"], "name", &"vm1p".into())?;
    let zone = row(&view["connections"]["zones"], "zone", &5.into())?;
    let drop = row(&view["drops"], "name", &"drop_action_of_pipeline".into())?;
    let talker = view["talkers"].get(0)?;
    let rates = [
        &port["rx"]["packets_per_s"],
        &port["rx"]["bits_per_s"],
        &port["tx"]["bits_per_s"],
        &zone["n"],
        &drop["per_s"],
        &talker["bits_per_s"][0],
        &talker["bits_per_s"][1],
        &view["all_workers"]["packets_per_s"],
        &view["all_workers"]["busy"],
        // The connection cache has none of ICMP.
        &view["all_workers"]["hit_exact"],
    ];
    rates.into_iter().all(more_than_nothing).then_some(())
}

#[test]
fn a_look_tells_ports_zones_talkers_and_drops() {
    let story = Story::new().unwrap();
    let sut = under_policy(&story);
    let _traffic = traffic(&story);
    let view = eventually("all of it moves", DEADLINE, || {
        let out = sut.ok(Whose::Ours, "top --once --json -i 0.5")?;
        assert_eq!(out.lines().count(), 1, "{out}");
        let view: Value = serde_json::from_str(&out)?;
        Ok(is_moving(&view).map(|()| view))
    })
    .unwrap();
    assert_eq!(view["pid"], sut.pid().unwrap());
    let port = row(&view["ports"], "name", &"vm1p".into()).unwrap();
    assert_eq!((&port["bridge"], &port["ofport"]), (&"br0".into(), &2.into()));
    assert_eq!((&port["link"], &port["rx"]["dropped"]), (&"up".into(), &0.into()));
    assert_eq!(view["connections"]["n_zones"], 1);
    let talker = &view["talkers"][0];
    let from = talker["from"].as_str().unwrap();
    assert!(from.starts_with("192.168.0.1 id "), "{talker}");
    assert_eq!((&talker["to"], &talker["zone"]), (&"192.168.0.2".into(), &5.into()));
    assert_eq!(talker["protocol"], "icmp");
    // Shares are of the whole.
    let shares = ["hit_connection", "hit_exact", "hit_megaflow", "missed"];
    let sum: f64 = shares.iter().map(|s| view["all_workers"][s].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 0.001, "{view}");

    // Nowhere is a terminal, so it is text with the option and without.
    for line in ["top --once -i 0.5", "top -i 0.5"] {
        let text = sut.ok(Whose::Ours, line).unwrap();
        let begins = |words: &str| text.lines().any(|l| l.starts_with(words));
        for words in ["PORT", "vm1p ", "vm2p ", "core 0 ", "5  ", "192.168.0.1 id "] {
            assert!(begins(words), "{words}: {text}");
        }
        assert!(
            text.contains("drop_action_of_pipeline") && text.contains("The flow tables say so")
        );
    }
    let commands = sut.ok(Whose::Ours, "ovs-appctl list-commands").unwrap();
    assert!(commands.contains("\n  sekisho/status "), "{commands}");
}

/// A zone with a limit, one without, and a port that is not there, with the clock at rest.
#[test]
fn limits_and_errors_are_told() {
    let ns = Netns::new("top").unwrap();
    let sut = crate::simulated::simulated(&ns, 2);
    let app = |line: &str| sut.ok(Whose::Ours, &format!("ovs-appctl {line}")).unwrap();
    app("dpctl/ct-set-limits zone=7,limit=1");
    sut.ok(Whose::Ours, "ovs-ofctl add-flow br0 udp,actions=ct(commit,zone=7)").unwrap();
    for port in [7, 8] {
        let frame = crate::simulated::UDP.replace("src=7,", &format!("src={port},"));
        app(&format!("netdev-dummy/receive p1 {frame}"));
    }
    let argv =
        ["ovs-vsctl", "add-port", "br0", "nodev", "--", "set", "Interface", "nodev", "type=x"];
    sut.tool(Whose::Ours, &argv).unwrap();
    let out = sut.ok(Whose::Ours, "top --once --json -i 0.2").unwrap();
    let view: Value = serde_json::from_str(&out).unwrap();
    let zone = row(&view["connections"]["zones"], "zone", &7.into()).unwrap();
    assert_eq!(
        (&zone["n"], &zone["limit"], &zone["kinds"][0][0]),
        (&1.into(), &1.into(), &"UDP".into())
    );
    let refused = row(&view["drops"], "name", &"conntrack_zone_full".into()).unwrap();
    assert_eq!((&refused["kind"], &refused["n"]), (&"refused".into(), &1.into()));
    let port = row(&view["ports"], "name", &"nodev".into()).unwrap();
    assert_eq!((&port["link"], &port["kind"]), (&"absent".into(), &"x".into()));
    assert!(port["error"].is_string() && port["rx"]["bits_per_s"].is_null(), "{port}");
    // A simulated device counts no drops.
    let port = row(&view["ports"], "name", &"p1".into()).unwrap();
    assert_eq!((&port["rx"]["packets"], &port["rx"]["dropped"]), (&2.into(), &Value::Null));
    let text = sut.ok(Whose::Ours, "top --once -i 0.2").unwrap();
    let line = text.lines().find(|l| l.starts_with("7 ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["7", "1", "1", "100%", "UDP", "1"]);
}

#[test]
fn whom_it_cannot_ask_it_says() {
    let ns = Netns::new("top").unwrap();
    let mut sut = crate::simulated::simulated(&ns, 1);
    for (argv, says) in [
        (&["top", "--once", "-t", "nobody"][..], "cannot read pidfile"),
        (
            &["top", "--once", "-t", "ovsdb-server"],
            "ovsdb-server does not know sekisho/status: it has to be a Sekisho switch",
        ),
        (&["top", "--once", "-i", "0"], "value 0 on -i or --interval is invalid"),
        (&["top", "br0"], "what is \"br0\"? There are options only"),
    ] {
        let ran = sut.tool(Whose::Ours, argv).unwrap();
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran}");
        assert!(ran.stderr.contains(says), "{ran}");
    }
    sut.kill();
    let ran = sut.tool(Whose::Ours, &["top", "--once"]).unwrap();
    assert_eq!(ran.status, Some(1), "{ran}");
}

/// Looks go on over the end of a daemon, and the counters of the next make no rates with those of the last.
#[test]
fn json_goes_on_with_the_next_daemon() {
    let story = Story::new().unwrap();
    let mut sut = under_policy(&story);
    let _traffic = traffic(&story);
    let mut top = sut.spawn_tool(Whose::Ours, "top --json -i 0.1").unwrap();
    let first = sut.pid().unwrap();
    let of = |pid: u32| move |out: &str| out.contains(&format!("\"pid\":{pid},"));
    top.wait_for("looks", of(first)).unwrap();
    sut.start_again().unwrap();
    let second = sut.pid().unwrap();
    let lines_of = |out: &str, pid| out.lines().filter(|l| of(pid)(l)).count();
    let out = top.wait_for("looks again", |out| lines_of(out, second) > 2).unwrap();
    assert_eq!(top.stderr().matches("; trying again").count(), 1, "{}", top.stderr());
    let complete = &out[..out.rfind('\n').unwrap()];
    let views: Vec<Value> = complete.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of_second = views.iter().find(|v| v["pid"] == second).unwrap();
    assert_eq!(of_second["seconds"], 0.0);
    for view in &views {
        for port in view["ports"].as_array().unwrap() {
            let rate = port["rx"]["packets_per_s"].as_f64().unwrap_or(0.0);
            assert!((0.0..100_000.0).contains(&rate), "{port}");
        }
    }
}

/// `sekisho top` on a terminal of its own.
struct Screen {
    script: Proc,
    keys: ChildStdin,
}

impl Screen {
    /// On a terminal of that size. What it was like before and after is compared, and the exit status told.
    fn open(sut: &Sut<'_>, rows: u16, columns: u16) -> Screen {
        let binary = std::env::var("SEKISHO").unwrap_or_else(|_| BINARY.to_owned());
        let command = format!(
            "stty rows {rows} cols {columns}; before=$(stty -g); {binary} top -i 0.2; status=$?; \
             [ \"$before\" = \"$(stty -g)\" ] && echo \"as before, status $status\""
        );
        let mut script = sut.ns().command("script");
        script.args(["-qefc", &command, "/dev/null"]).stdin(Stdio::piped());
        script.env("OVS_RUNDIR", sut.rundir()).env("TERM", "xterm-256color");
        let mut script = Proc::start(&mut script, "script").unwrap();
        let keys = script.take_stdin().unwrap();
        Screen { script, keys }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until all this stands on it, in this order.
    fn wait_for(&mut self, words: &[&str]) {
        let stand = |out: &str| {
            let shown = shown(out);
            let after = words.iter().try_fold(&*shown, |rest, w| Some(rest.split_once(w)?.1));
            after.is_some()
        };
        self.script.wait_for(&words.join(", "), stand).unwrap();
    }

    /// Quits by a key, and sees that all is as it was.
    fn quit(mut self, key: &str) {
        self.press(key);
        let ran = self.script.finish(DEADLINE).unwrap();
        let (display, after) = ran.stdout.rsplit_once("\u{1b}[?1049l").expect("the other screen");
        assert!(display.contains("\u{1b}[?1049h") && display.contains("\u{1b}[?25h"), "{ran}");
        assert_eq!(after.trim(), "as before, status 0", "{ran}");
    }
}

/// What stands on a terminal after that output, as far as it is of the display: text, places, and the whole cleared.
fn shown(out: &str) -> String {
    let mut lines: Vec<Vec<char>> = Vec::new();
    let (mut x, mut y) = (0, 0);
    let mut chars = out.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            if lines.len() <= y {
                lines.resize(y + 1, Vec::new());
            }
            if lines[y].len() <= x {
                lines[y].resize(x + 1, ' ');
            }
            lines[y][x] = c;
            x += 1;
            continue;
        }
        // Up to its final letter.
        let mut sequence = String::new();
        for c in chars.by_ref() {
            sequence.push(c);
            if c.is_ascii_alphabetic() {
                break;
            }
        }
        match (sequence.strip_suffix('H'), &*sequence) {
            (Some(place), _) => {
                let (row, column) = place[1..].split_once(';').unwrap_or(("1", "1"));
                let number = |n: &str| n.parse::<usize>().map_or(0, |n| n - 1);
                (x, y) = (number(column), number(row));
            }
            (None, "[2J") => lines.clear(),
            _ => {}
        }
    }
    let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
    lines.join("\n")
}

fn have_terminals() -> bool {
    need::programs(&["script", "stty"]).unwrap()
}

#[test]
fn a_terminal_is_used_and_given_back() {
    if !have_terminals() {
        return;
    }
    let story = Story::new().unwrap();
    let sut = under_policy(&story);
    let _traffic = traffic(&story);
    for quit in ["q", "\u{1b}", "\u{3}"] {
        let mut screen = Screen::open(&sut, 24, 80);
        // Whatever the sections say, they stand there in this order.
        let words = ["sekisho top", "PORT", "WORKER", "ZONE", "TALKER", "DROPS", "quit"];
        screen.wait_for(&words);
        screen.wait_for(&["TALKER", "192.168.0.1 id ", "DROPS", "dropped "]);
        screen.quit(quit);
    }
    // One section, paused, on a small terminal.
    let mut screen = Screen::open(&sut, 10, 60);
    // All of them, the main thread, a core, and the kernel where that forwards.
    let forwards = sut.ok(Whose::Ours, "ovs-appctl kernel-fast-path/show").unwrap();
    let workers = if forwards.contains("mode: ") { "WORKER 1/4" } else { "WORKER 1/3" };
    screen.wait_for(&["PORT 1/3", workers, "ZONE 1/2", "quit"]);
    screen.press("4");
    screen.wait_for(&["TALKER", "192.168.0.1 id ", "scroll"]);
    screen.press(" ");
    screen.wait_for(&["paused", "TALKER"]);
    screen.quit("q");
}

#[test]
fn a_daemon_that_goes_is_told_of_and_found_again() {
    if !have_terminals() {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = under_policy(&story);
    let mut screen = Screen::open(&sut, 24, 80);
    screen.wait_for(&["cache hits", "vm1p", "DROPS", "quit"]);
    sut.kill();
    screen.wait_for(&["trying again; this was seen last", "vm1p"]);
    sut.start_again().unwrap();
    screen.wait_for(&["cache hits", "vm1p"]);
    screen.quit("q");
}

/// Ended by a signal, it gives the terminal back as well.
#[test]
fn a_signal_gives_the_terminal_back() {
    if !have_terminals() {
        return;
    }
    let ns = Netns::new("top").unwrap();
    let sut = crate::simulated::simulated(&ns, 1);
    let mut screen = Screen::open(&sut, 24, 80);
    screen.wait_for(&["DROPS", "quit"]);
    let tops = sut.run(&["pgrep", "-P", &child_of(screen.script.pid()), "-f", " top "]).unwrap();
    testkit::process::signal(tops.stdout.trim().parse().unwrap(), "TERM").unwrap();
    let ran = screen.script.finish(DEADLINE).unwrap();
    assert!(ran.stdout.contains("\u{1b}[?1049l"), "{ran}");
    assert!(ran.stdout.trim_end().ends_with("as before, status 143"), "{ran}");
}

/// The only child of a process.
fn child_of(pid: u32) -> String {
    let file = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}
