//! The words of `ovs-appctl` and of `conntrack`, spoken to a switch at work.

use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY_IP, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::{can_run, start, switch, tools};

/// A switch of ours with the story's policy.
fn under_policy(story: &Story) -> Sut<'_> {
    let sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    sut.load_policy(tools(), POLICY_IP).unwrap();
    sut
}

fn skipped() -> bool {
    switch() == Whose::Stock || !can_run(Whose::Ours, Whose::Ours)
}

#[test]
fn every_word_answers() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    assert!(story.ping(Vm::One, 1).unwrap());
    let commands = sut.ok(tools(), "ovs-appctl list-commands").unwrap();
    for (line, word) in [
        ("version", "ovs-vswitchd"),
        ("fdb/show br0", "52:54:00:00:00:01"),
        ("fdb/stats-show br0", "2/8192"),
        ("ofproto/list", "br0"),
        ("ofproto/trace br0 in_port=2", "Datapath actions:"),
        ("dpif/show", "vm1p 2/"),
        ("dpctl/show", "vm1p"),
        ("dpctl/dump-flows", "in_port("),
        ("dpctl/dump-conntrack", ""),
        ("dpctl/ct-stats-show", "Total: 0"),
        ("dpctl/flush-conntrack", ""),
        ("coverage/show", ""),
        ("vlog/list", "console"),
        ("vlog/set dbg", ""),
        ("vlog/set vswitchd:file:info", ""),
        ("vlog/set ANY:console:off", ""),
        ("fdb/flush br0", "table successfully flushed"),
    ] {
        let answer = sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
        assert!(answer.contains(word), "{line}: {answer}");
        let command = line.split(' ').next().unwrap();
        assert!(
            commands.lines().any(|l| l.split_whitespace().next() == Some(command)),
            "{command}"
        );
    }
    let fdb = sut.ok(tools(), "ovs-appctl fdb/show br0").unwrap();
    assert_eq!(fdb.lines().count(), 1, "flushed: {fdb}");
}

#[test]
fn exit_ends_the_daemon() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p"]).unwrap();
    sut.ok(tools(), "ovs-appctl exit").unwrap();
    eventually("the switch ends", DEADLINE, || Ok(sut.check_alive().err())).unwrap();
    sut.start_again().unwrap();
    assert_eq!(sut.ok(tools(), "ovs-vsctl list-ports br0").unwrap(), "vm1p\n");
}

/// A minute of timeouts in no time.
#[test]
fn a_stopped_clock_goes_where_it_is_told() {
    if skipped() {
        return;
    }
    let story = Story::new().unwrap();
    let sut = under_policy(&story);
    let ok = |line: &str| sut.ok(tools(), line).unwrap();
    ok("ovs-appctl time/stop");
    ok("ovs-ofctl add-flow br0 table=5,idle_timeout=10,actions=drop");
    ok("ovs-ofctl add-flow br0 table=6,hard_timeout=50,actions=drop");
    assert!(story.ping(Vm::One, 1).unwrap());
    let count = |table: u8| {
        let flows = ok(&format!("ovs-ofctl dump-flows br0 table={table}"));
        flows.lines().filter(|line| line.contains("actions=")).count()
    };
    let connections = || ok("ovs-appctl dpctl/dump-conntrack").lines().count();
    ok("ovs-appctl time/warp 9000 1000");
    assert_eq!((count(5), count(6), connections()), (1, 1, 1));
    ok("ovs-appctl time/warp 3000 1000");
    assert_eq!((count(5), count(6), connections()), (0, 1, 1));
    ok("ovs-appctl time/warp 60000 1000");
    assert_eq!((count(5), count(6), connections()), (0, 0, 0));
    let fresh = ok("ovs-ofctl dump-flows br0 table=1");
    assert!(fresh.contains("duration=72."), "{fresh}");
}

#[test]
fn conntrack_lists_deletes_and_watches() {
    if skipped() {
        return;
    }
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let sut = under_policy(&story);
    let watch = sut.spawn_tool(Whose::Ours, "conntrack -E").unwrap();
    let seen = |words: &[&str]| {
        eventually(&format!("event {words:?}"), DEADLINE, || {
            let text = watch.stdout();
            let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            Ok(found.then_some(()))
        })
        .unwrap_or_else(|e| panic!("{e}\n{}{}", watch.stdout(), watch.stderr()));
    };
    // Until the watcher listens.
    eventually("the first event", DEADLINE, || {
        assert!(story.ping(Vm::One, 1)?);
        Ok(watch.stdout().contains("[NEW] icmp").then_some(()))
    })
    .unwrap();
    seen(&["[UPDATE] icmp     1 ", "src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id="]);
    assert!(story.ask(Vm::One, "tcp", &["23", "5000"]).unwrap());
    seen(&["[NEW] tcp      6 ", " SYN_SENT src=192.168.0.1", "dport=23 [UNREPLIED]"]);
    seen(&["[UPDATE] tcp      6 ", " ESTABLISHED src=192.168.0.1", "[ASSURED]"]);
    assert!(story.ask(Vm::One, "udp", &["7", "5000"]).unwrap());

    let tool = |line: &str| {
        let mut words = vec!["conntrack"];
        words.extend(line.split_whitespace());
        sut.tool(Whose::Ours, &words).unwrap()
    };
    for (line, shown) in [
        ("-L -p udp", 1),
        ("-L -p tcp --dport 23", 1),
        ("-L -p tcp --dport 24", 0),
        ("-L -s 192.168.0.1 -d 192.168.0.2 -p udp", 1),
        ("-L -s 192.168.0.2", 0),
        ("-L -m 1", 0),
    ] {
        let ran = tool(line);
        assert!(ran.success(), "{ran}");
        assert_eq!(ran.stdout.lines().count(), shown, "{ran}");
        assert!(ran.stderr.contains(&format!("{shown} flow entries have been shown.")), "{ran}");
    }
    assert!(!tool("-L -p").success(), "a word without its value is a mistake");
    let extended = tool("-L -p udp -o extended");
    assert!(extended.stdout.starts_with("ipv4     2 udp      17 "), "{extended}");
    let statistics = tool("-S");
    assert!(statistics.success() && statistics.stdout.starts_with("cpu=0"), "{statistics}");

    let deleted = tool("-D -p udp");
    assert!(deleted.success() && deleted.stdout.starts_with("udp      17 "), "{deleted}");
    assert!(deleted.stderr.contains("1 flow entries have been deleted."), "{deleted}");
    seen(&["[DESTROY] udp      17 "]);
    let none = tool("-D -p udp");
    assert!(none.stderr.contains("0 flow entries have been deleted."), "{none}");
    assert_eq!(none.status, Some(1), "{none}");
    assert!(tool("-F").stderr.contains("connection tracking table has been emptied."));
    assert_eq!(tool("-C").stdout, "0\n");
}

#[test]
fn why_asks_the_tables_and_the_tracker() {
    if skipped() {
        return;
    }
    let story = Story::new().unwrap();
    let sut = under_policy(&story);
    let why = |flow: &str| sut.ok(Whose::Ours, &format!("why br0 {flow}")).unwrap();
    let back = "in_port=3,icmp,nw_src=192.168.0.2,nw_dst=192.168.0.1,icmp_type=8";
    let text = why(back);
    assert!(text.contains("Conntrack, zone 0: new|trk\n    no connection between"), "{text}");
    assert!(text.contains("wants ct_state=+est, the packet has new|trk"), "{text}");
    let end = "ct_state=+new,ip,in_port=vm2p\" of table 1 says so.\n";
    assert!(text.ends_with(end), "{text}");
    // Asking changes nothing.
    assert!(story.ping(Vm::One, 1).unwrap());
    let dump = || sut.ok(Whose::Ours, "ovs-appctl dpctl/dump-conntrack").unwrap();
    let before = dump();
    assert!(before.contains("icmp"), "{before}");
    let open = "in_port=2,tcp,nw_src=192.168.0.1,nw_dst=192.168.0.2,tp_src=40000,tp_dst=23";
    assert!(why(open).contains("does ct(commit),NORMAL"));
    assert_eq!(dump(), before);
}
