//! Our `ofctl` against Open vSwitch's, command line by command line on two equal stock switches; and
//! our daemon's traces against its, on equal tables.
//!
//! The switches are stock `ovs-vswitchd`s with its dummy datapath, so neither a privilege nor a
//! network device is needed. Where Open vSwitch 3.1 is not installed the test says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A stock switch with bridge `br0` and ports `p1`, `p2` in a directory of its own.
struct Switch {
    dir: PathBuf,
    daemons: Vec<Child>,
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in &mut self.daemons {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Files that the lines name.
const FILES: [(&str, &str); 11] = [
    ("f1", "actions=drop\n\n# x\n  priority=3,tcp actions=normal"),
    ("f2", "actions=normal\nip,actions=drop\n"),
    (
        "f3",
        "delete\nadd table=1,actions=drop\nmodify table=1,actions=normal\ndelete_strict table=1\n",
    ),
    (
        "g1",
        "group_id=21,type=all,bucket=output:1\n# x\nadd group_id=22,type=all\n\n\
         modify group_id=21,type=select,bucket=weight:5,output:2\nadd_or_mod group_id=23,type=ff\n\
         delete group_id=22\n",
    ),
    ("g2", "group_id=24,type=all\n\ngroup_id=25,type=frob\n"),
    ("hello", "0100000800000000\n"),
    // Read by what shows how things are said on the wire.
    (
        "nxm",
        "# in order\n<any>\nNXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(0a000000/ff000000)\n\n\
         NXM_OF_ETH_TYPE(0806) NXM_OF_ARP_OP(0001)\nNXM_NX_REG5(000000ab)\n\
         NXM_NX_TUN_ID_W(0000000000000001/00000000000000ff)\nNXM_OF_IP_SRC(0a000001)\n\
         NXM_NX_COOKIE(0123456789abcdef)\nNXM_NX_COOKIE_W(0000000000000001/00000000000000ff)\n\
         NXM_NX_REG1(00000001), NXM_NX_REG1(00000001)\n00ff0402(0001)\n\
         NXM_OF_VLAN_TCI_W(1005/1fff)\nNXM_NX_CT_STATE_W(00000021/00000023)\n",
    ),
    (
        "oxm",
        "OXM_OF_ETH_TYPE(0800), OXM_OF_IP_PROTO(06), OXM_OF_TCP_DST(0050)\n\
         OXM_OF_METADATA_W(0000000000000001/000000000000000f)\nOXM_OF_IP_PROTO(06)\n\
         OXM_OF_VLAN_VID_W(1000/1000)\nNXM_NX_REG0(00000007)\n80006404(00000001)\n\
         OXM_OF_ETH_TYPE(86dd), OXM_OF_IPV6_FLABEL(000abcde)\n",
    ),
    (
        "match10",
        "003820ff 0000 xxxxxxxxxxxx xxxxxxxxxxxx xxxx xx xx xxxx xx xx xxxx xxxxxxxx xxxxxxxx xxxx xxxx\n\
         003820fe fff8 xxxxxxxxxxxx xxxxxxxxxxxx xxxx xx xx xxxx xx xx xxxx xxxxxxxx xxxxxxxx xxxx xxxx\n\
         003820ef xxxx xxxxxxxxxxxx xxxxxxxxxxxx xxxx xx xx 1234 xx xx xxxx xxxxxxxx xxxxxxxx xxxx xxxx\n",
    ),
    (
        "actions10",
        "0000 0008 0001 04d2\n0000 0010 fffe ffff 0000 0000 0000 0000\n0001 0008 0009 0000\n\
         ffff 0010 00002320 0002 0000 12345678\nffff 0018 00002320 0007 001f 00010004 000000000000f009\n\
         ffff 0018 00002320 0007 001f 000001fe 000000000000f009\n00ff 0008 0000 0000\n0000 000c 0001\n",
    ),
    (
        "instructions13",
        "0001 0008 07 000000\n0001 0010 07 000000 0000000000000000\n\
         0002 0018 00000000 fedcba9876543210 ff00ff00ff00ff00\n0002 0010 00000000 fedcba9876543210\n\
         0004 0018 00000000 0000 0010 00000005 ffff 000000000000\n0006 0008 00000001\n0009 0008 00000000\n\
         0001 0008 01 000000 0001 0008 02 000000\n0,0001 0008 00 000000\n",
    ),
];

impl Switch {
    /// A directory with the files.
    fn prepare(name: &str) -> Switch {
        let dir = std::env::temp_dir().join(format!("sekisho-ofctl-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory for the switch");
        for (file, text) in FILES {
            std::fs::write(dir.join(file), text).expect("a file for the lines");
        }
        Switch { dir, daemons: Vec::new() }
    }

    /// A stock switch.
    fn start(name: &str) -> Switch {
        let mut switch = Switch::prepare(name);
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../ovsdb/schemas/vswitch.ovsschema");
        switch.ok("ovsdb-tool", &["create", "conf.db", schema]);
        let socket = format!("unix:{}/db.sock", switch.dir.display());
        switch.daemon("ovsdb-server", &["conf.db", &format!("--remote=p{socket}")]);
        switch.wait_for("db.sock");
        let db = format!("--db={socket}");
        switch.ok("ovs-vsctl", &[&db, "--no-wait", "init"]);
        switch.daemon("ovs-vswitchd", &[&socket, "--enable-dummy=override", "--disable-system"]);
        switch.add_bridge();
        switch
    }

    /// Our switch, simulated.
    fn start_ours(name: &str) -> Switch {
        let mut switch = Switch::prepare(name);
        let rundir = format!("--rundir={}", switch.dir.display());
        let binary = env!("CARGO_BIN_EXE_sekisho");
        switch.daemon(binary, &["run", "--simulate", &rundir]);
        switch.wait_for("db.sock");
        switch.add_bridge();
        switch
    }

    fn add_bridge(&self) {
        let db = format!("--db=unix:{}/db.sock", self.dir.display());
        let line = "--timeout=10 add-br br0 -- set bridge br0 datapath_type=dummy fail-mode=secure \
                    other-config:hwaddr=5a:00:00:00:00:b0 \
                    protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15 \
                    -- add-port br0 p1 -- set int p1 type=dummy ofport_request=1 \
                    -- add-port br0 p2 -- set int p2 type=dummy ofport_request=2";
        let mut args = vec![db.as_str()];
        args.extend(line.split_whitespace());
        self.ok("ovs-vsctl", &args);
        self.wait_for("br0.mgmt");
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env_remove("OVS_CTL_TIMEOUT");
        for name in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(name, &self.dir);
        }
        command
    }

    fn daemon(&mut self, program: &str, args: &[&str]) {
        let child = self
            .command(program)
            .args(args)
            .args(["-vconsole:off"])
            .args(if program.ends_with("sekisho") { None } else { Some("--pidfile") })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a daemon");
        self.daemons.push(child);
    }

    fn ok(&self, program: &str, args: &[&str]) {
        let output = self.command(program).args(args).output().expect("a tool");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {why}");
    }

    /// Waits until somebody listens on a socket.
    fn wait_for(&self, file: &str) {
        for _ in 0..1000 {
            if std::os::unix::net::UnixStream::connect(self.dir.join(file)).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{file} did not come");
    }
}

/// Splits a line at spaces outside double quotes, which are taken away.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut any, mut quoted) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (any, quoted) = (true, !quoted),
            ' ' if !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
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

/// The words of a line, and what its command reads from standard input, by `< FILE` at the end.
fn words_and_input(line: &str, dir: &Path) -> (Vec<String>, Stdio) {
    let mut args = words(line);
    let file = match &args[..] {
        [.., less, file] if less == "<" => std::fs::File::open(dir.join(file)).expect("a file"),
        _ => return (args, Stdio::null()),
    };
    args.truncate(args.len() - 2);
    (args, file.into())
}

/// Puts `T` for what differs from run to run: times behind these keys, dates of logs, the directory.
fn normal(text: &[u8], dir: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(text).replace(&dir.display().to_string(), "DIR");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for key in [" duration=", ",duration=", " duration:", " idle_age=", " hard_age=", " time="]
        {
            if let Some(at) = line.find(key) {
                let from = at + key.len();
                let len = line[from..].find([',', ' ']).unwrap_or(line.len() - from);
                line.replace_range(from..from + len, "T");
            }
        }
        lines.push(match line.split_once("Z|") {
            Some((time, rest)) if time.len() == 19 => format!("T|{rest}"),
            _ => line,
        });
    }
    lines
}

/// Status, output and error text of a call. Flows come in the order of a hash: lines are sorted. What
/// OVS's libraries log beside the tool's own message does not count, nor do bytes they dump.
fn said(output: &Output, dir: &Path) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut out = normal(&output.stdout, dir);
    out.sort();
    let mut err = normal(&output.stderr, dir);
    err.retain(|line| !line.starts_with("T|") && !line.starts_with("000000"));
    (output.status.code(), out, err)
}

/// Whether Open vSwitch 3.1 is installed; says so if not.
fn have_3_1() -> bool {
    let installed = Command::new("ovs-ofctl").arg("--version").output();
    let is_3_1 =
        installed.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("(Open vSwitch) 3.1."));
    if !is_3_1 {
        eprintln!("skipped: Open vSwitch 3.1 is not installed");
    }
    is_3_1
}

#[test]
fn every_trace_says_what_ovs_vswitchd_says() {
    compare_traces("traces", include_str!("commands/trace.txt"), 40);
}

#[test]
fn every_trace_through_groups_and_meters_says_what_ovs_vswitchd_says() {
    compare_traces("groups", include_str!("commands/trace-groups.txt"), 100);
}

/// Lines of traces: `flow FLOW` adds a flow to both switches, and so on by [`SAID_TO_BOTH`];
/// `COMMAND ARG...` is asked of both.
fn compare_traces(name: &str, lines: &str, at_least: usize) {
    if !have_3_1() {
        return;
    }
    let a = Switch::start_ours(&format!("ours-{name}"));
    let b = Switch::start(&format!("their-{name}"));
    let mut differences = String::new();
    let mut n = 0;
    let lines: Vec<&str> = lines.lines().filter(|l| !l.starts_with('#')).collect();
    let verb = |line: &str| {
        let (word, _) = line.split_once(' ')?;
        SAID_TO_BOTH.iter().find(|(w, _)| *w == word).map(|(_, verb)| *verb)
    };
    for said in
        lines.chunk_by(|a, b| verb(a).is_some_and(|v| v.ends_with('s') && verb(b) == Some(v)))
    {
        let line = said[0];
        if let Some(verb) = verb(line) {
            let text: String =
                said.iter().filter_map(|l| Some(l.split_once(' ')?.1.to_owned() + "\n")).collect();
            for switch in [&a, &b] {
                std::fs::write(switch.dir.join("said"), &text).expect("a file for the lines");
                let said = if verb.ends_with('s') { "said" } else { text.trim_end() };
                switch.ok("ovs-ofctl", &["-O", "OpenFlow15", verb, "br0", said]);
            }
            continue;
        }
        n += 1;
        let args = words(line);
        let [ours, theirs] = [&a, &b].map(|switch| {
            let output = switch.command("ovs-appctl").arg("--timeout=10").args(&args).output();
            let output = output.expect("the tool runs");
            let mut said = renumbered(&output.stdout);
            // Why the tracker refuses a packet is told by ours alone.
            said.retain(|l| !l.trim_start().starts_with(">> conntrack: "));
            (output.status.code(), said, renumbered(&output.stderr))
        });
        if ours != theirs {
            let _ = writeln!(differences, "{line}");
            let lines = |said: &(Option<i32>, Vec<String>, Vec<String>)| {
                let status = format!("status {:?}", said.0);
                [&[status][..], &said.1[..], &said.2[..]].concat()
            };
            let (ours, theirs) = (lines(&ours), lines(&theirs));
            for l in ours.iter().filter(|l| !theirs.contains(l)) {
                let _ = writeln!(differences, "  ours   {l}");
            }
            for l in theirs.iter().filter(|l| !ours.contains(l)) {
                let _ = writeln!(differences, "  theirs {l}");
            }
        }
    }
    assert!(n >= at_least, "the table has shrunk to {n} lines");
    assert!(differences.is_empty(), "\n{differences}");
}

/// Words of lines of traces, and the verb of `ovs-ofctl` by which what follows is said to both: those
/// in the plural take many lines at once.
const SAID_TO_BOTH: [(&str, &str); 4] = [
    ("flow", "add-flows"),
    ("group", "add-groups"),
    ("mod-group", "mod-group"),
    ("meter", "add-meter"),
];

/// The lines of a text, with recirculation ids in the order in which they appear. Ports are flooded in
/// the order of a hash: the order of those at the end does not count.
fn renumbered(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut seen: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("recirc") {
        let from = rest[at..].find(['(', '=']).map_or(rest.len(), |n| at + n + 1);
        let len = rest[from..].find(|c: char| !c.is_ascii_alphanumeric());
        let (id, next) = rest[from..].split_at(len.unwrap_or(rest.len() - from));
        out += &rest[..from];
        if id.starts_with(|c: char| c.is_ascii_digit()) && id != "0" {
            let i = seen.iter().position(|s| *s == id).unwrap_or(seen.len());
            seen.extend((i == seen.len()).then_some(id));
            let _ = write!(out, "#{i}");
        } else {
            out += id;
        }
        rest = next;
    }
    out += rest;
    let sorted = |line: &str| {
        let Some(actions) = line.strip_prefix("Datapath actions: ") else {
            return line.to_owned();
        };
        let (head, ports) = actions.split_at(actions.rfind(['(', ')']).map_or(0, |n| n + 1));
        let mut ports: Vec<&str> = ports.split(',').collect();
        ports.sort_unstable();
        format!("Datapath actions: {head}{}", ports.join(","))
    };
    out.lines().map(sorted).collect()
}

/// A monitor in the background, of a stock switch: it is told what to do over its control socket and
/// prints into files.
#[test]
fn a_detached_monitor_obeys_its_control_socket() {
    use std::os::unix::process::CommandExt;
    if !have_3_1() {
        return;
    }
    let switch = Switch::start("monitored");
    let monitor = |args: &[&str]| {
        let mut command = switch.command(env!("CARGO_BIN_EXE_sekisho"));
        // Its standard error stays open as long as it runs.
        command.arg0("ovs-ofctl").args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("our tool runs");
        assert!(status.success(), "{args:?}: {status:?}");
    };
    let tell = |args: &[&str]| {
        let mut command = switch.command("ovs-appctl");
        command.args(["--timeout=10", "-t", "ovs-ofctl"]).args(args);
        let output = command.output().expect("the tool runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let said = |file: &str| std::fs::read_to_string(switch.dir.join(file)).unwrap_or_default();
    monitor(&["monitor", "br0", "65534", "--detach", "--no-chdir", "--pidfile"]);
    let ok = (Some(0), String::new());
    assert_eq!(tell(&["ofctl/set-output-file", "one.log"]), ok);
    let echo = "0102000800000001";
    assert_eq!(tell(&["ofctl/send", echo]), (Some(0), "sent\n".into()));
    let hello = "0100000800000002";
    let bad = tell(&["ofctl/send", hello, "01", "0102000900000001", "xy"]);
    let why = "sent\nMessage too short for OpenFlow\n\
               Message size does not match length in OpenFlow header\nTrailing garbage in hex data\n";
    assert_eq!(bad, (Some(2), format!("{why}ovs-appctl: ovs-ofctl: server returned an error\n")));
    let packet = "in_port=controller,packet=ffffffffffff5254000000998899,actions=controller";
    assert_eq!(tell(&["ofctl/packet-out", packet]), ok);
    assert_eq!(tell(&["ofctl/packet-out", "bogus"]).0, Some(2));
    assert_eq!(tell(&["ofctl/barrier"]), ok);
    let log = said("one.log");
    assert!(log.starts_with("send: OFPT_ECHO_REQUEST (xid=0x1):"), "{log}");
    for line in
        ["OFPT_ECHO_REPLY (xid=0x1)", "OFPT_PACKET_OUT", "NXT_PACKET_IN2", "OFPT_BARRIER_REPLY"]
    {
        assert!(log.contains(line), "{line} is missing in\n{log}");
    }
    // While it is blocked it prints nothing of what comes.
    assert_eq!(tell(&["ofctl/block"]), ok);
    assert_eq!(tell(&["ofctl/block"]), (Some(0), "already blocking\n".into()));
    assert_eq!(tell(&["ofctl/set-output-file", "two.log"]), ok);
    assert_eq!(tell(&["ofctl/packet-out", packet]), ok);
    switch.ok("ovs-ofctl", &["probe", "br0"]);
    assert!(!said("two.log").contains("NXT_PACKET_IN2"), "{}", said("two.log"));
    assert_eq!(tell(&["ofctl/unblock"]), ok);
    assert_eq!(tell(&["ofctl/barrier"]), ok);
    assert!(said("two.log").contains("NXT_PACKET_IN2"), "{}", said("two.log"));
    assert_eq!(said("one.log"), log);
    assert_eq!(tell(&["exit"]), ok);
    for _ in 0..1000 {
        if !switch.dir.join("ovs-ofctl.pid").exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the monitor did not end");
}

#[test]
fn every_line_says_what_ovs_ofctl_says() {
    use std::os::unix::process::CommandExt;
    if !have_3_1() {
        return;
    }
    let (a, b) = (Switch::start("ours"), Switch::start("theirs"));
    let link = a.dir.join("ovs-ofctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sekisho"), &link).expect("a link");
    let mut differences = String::new();
    let mut n = 0;
    for line in include_str!("commands/ofctl.txt").lines().filter(|l| !l.starts_with('#')) {
        n += 1;
        let (args, input) = words_and_input(line, &a.dir);
        let mut ours = a.command(&link);
        ours.arg0("ovs-ofctl").args(["--lenient", "--timeout=10"]).args(&args).stdin(input);
        let (args, input) = words_and_input(line, &b.dir);
        let mut theirs = b.command("ovs-ofctl");
        theirs.arg("--timeout=10").args(&args).stdin(input);
        let ours = said(&ours.output().expect("our tool runs"), &a.dir);
        let theirs = said(&theirs.output().expect("their tool runs"), &b.dir);
        if ours != theirs {
            let _ = writeln!(differences, "{line}\n  ours   {ours:?}\n  theirs {theirs:?}");
        }
    }
    assert!(n >= 80, "the table has shrunk to {n} lines");
    assert!(differences.is_empty(), "\n{differences}");
}

/// The lines of groups and meters, said by `ovs-ofctl` to our switch and to a stock one.
#[test]
fn our_switch_answers_every_line_of_groups_and_meters_as_ovs_vswitchd_does() {
    if !have_3_1() {
        return;
    }
    let (a, b) = (Switch::start_ours("ours-lines"), Switch::start("their-lines"));
    let mut differences = String::new();
    let mut n = 0;
    let lines = include_str!("commands/ofctl.txt").lines();
    // Our meters can also remark.
    let same = |l: &&str| !l.starts_with('#') && !l.contains("meter-features");
    for line in lines.skip_while(|l| *l != "add-group br0").filter(same) {
        n += 1;
        let [ours, theirs] = [&a, &b].map(|switch| {
            let output = switch.command("ovs-ofctl").arg("--timeout=10").args(words(line)).output();
            said(&output.expect("their tool runs"), &switch.dir)
        });
        if ours != theirs {
            let _ = writeln!(differences, "{line}\n  ours   {ours:?}\n  theirs {theirs:?}");
        }
    }
    assert!(n >= 100, "the table has shrunk to {n} lines");
    assert!(differences.is_empty(), "\n{differences}");
}
