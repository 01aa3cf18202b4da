//! The story in namespaces: what passes, what is stopped, and what the switch says about it.

use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY, POLICY_IP, Reach, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::{BINARY, can_run};

/// How long to wait for what must not come through, in milliseconds. Under the second after which
/// TCP repeats a SYN, so that each attempt is one packet.
const PATIENCE: u32 = 400;

/// Packets counted on the flow of `table` whose text contains all `words`.
fn packets(flows: &str, table: u8, words: &[&str]) -> u64 {
    let table = format!(" table={table},");
    let matching: Vec<&str> = flows
        .lines()
        .filter(|line| line.contains(&table) && words.iter().all(|word| line.contains(word)))
        .collect();
    let [line] = matching[..] else { panic!("{words:?} fits {matching:?} in\n{flows}") };
    let (_, count) = line.split_once("n_packets=").unwrap();
    count.split(',').next().unwrap().parse().unwrap()
}

/// Waits until what was counted is shown: at once with ours, when its revalidator has been round
/// with the stock switch.
pub fn settle(sut: &Sut<'_>) {
    if sut.whose() == Whose::Stock {
        sut.ok(Whose::Stock, "ovs-appctl revalidator/wait").unwrap();
    }
}

fn play(switch: Whose, tools: Whose) {
    if !can_run(switch, tools) {
        return;
    }
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    if switch == Whose::Stock {
        story.offloads_off().unwrap();
    }
    let mut sut = Sut::start(switch, BINARY, &story.sw).unwrap();
    sut.add_bridge(tools, &["vm1p", "vm2p"]).unwrap();
    for (port, number) in [("vm1p", "2\n"), ("vm2p", "3\n")] {
        let ofport = sut.ok(tools, &format!("ovs-vsctl get Interface {port} ofport")).unwrap();
        assert_eq!(ofport, number);
    }

    // A fresh bridge is a plain switch.
    assert!(story.ping(Vm::One, 2).unwrap() && story.ping(Vm::Two, 2).unwrap());
    assert_eq!(story.reach(Vm::Two, 5000).unwrap(), Reach::ALL);

    // Only our own tools take the policy as it stands; the stock daemon refuses it as well.
    let verbatim = switch == Whose::Ours && tools == Whose::Ours;
    sut.load_policy(tools, if verbatim { POLICY } else { POLICY_IP }).unwrap();
    sut.ok(tools, "ovs-appctl dpctl/flush-conntrack").unwrap();
    let fresh = sut.ok(tools, "ovs-ofctl dump-flows br0").unwrap();
    assert_eq!(fresh.matches("n_packets=0,").count(), 7, "{fresh}");

    // VM2 may not open anything: four attempts, four packets on the line that stops them.
    assert_eq!(story.reach(Vm::Two, PATIENCE).unwrap(), Reach::NONE);
    settle(&sut);
    let flows = sut.ok(tools, "ovs-ofctl dump-flows br0").unwrap();
    assert_eq!(packets(&flows, 1, &["+new", "in_port=3"]), 4, "{flows}");
    assert_eq!(packets(&flows, 1, &["+new", "in_port=2"]), 0, "{flows}");
    assert_eq!(packets(&flows, 1, &["+est", "in_port=2"]), 0, "{flows}");
    assert_eq!(packets(&flows, 1, &["+est", "in_port=3"]), 0, "{flows}");
    assert_eq!(packets(&flows, 0, &["priority=100"]), 4, "{flows}");
    let connections = sut.ok(tools, "ovs-appctl dpctl/dump-conntrack").unwrap();
    assert_eq!(connections, "", "a stopped packet is not committed");

    // VM1 may, and is answered.
    assert_eq!(story.reach(Vm::One, 5000).unwrap(), Reach::ALL);
    settle(&sut);
    let flows = sut.ok(tools, "ovs-ofctl dump-flows br0").unwrap();
    let table_1 = [("+new", 2), ("+est", 2), ("+new", 3), ("+est", 3)]
        .map(|(state, port)| packets(&flows, 1, &[state, &format!("in_port={port}")]));
    let [new_2, est_2, new_3, est_3] = table_1;
    assert_eq!((new_2, new_3), (4, 4), "one first packet each\n{flows}");
    assert!(est_2 >= 3 && est_3 >= 6, "a TCP connection and four answers\n{flows}");
    assert_eq!(
        packets(&flows, 0, &["priority=100"]),
        table_1.iter().sum::<u64>(),
        "every IP packet went through both tables\n{flows}"
    );
    let arp = packets(&flows, 0, &["priority=10,"]);
    assert_eq!(packets(&flows, 0, &["priority=1 "]), 0, "{flows}");

    // The connection table.
    let connections = sut.ok(tools, "ovs-appctl dpctl/dump-conntrack").unwrap();
    for (start, end) in [
        ("icmp,orig=(src=192.168.0.1,dst=192.168.0.2,id=", "type=0,code=0)"),
        ("tcp,orig=(src=192.168.0.1,dst=192.168.0.2,sport=", "),protoinfo=(state=TIME_WAIT)"),
        ("udp,orig=(src=192.168.0.1,dst=192.168.0.2,sport=", ")"),
    ] {
        let found = connections.lines().filter(|l| l.starts_with(start) && l.ends_with(end));
        let want = if start.starts_with("udp") { 2 } else { 1 };
        assert_eq!(found.count(), want, "{start}: {connections}");
    }
    assert_eq!(connections.lines().count(), 4, "{connections}");
    if switch == Whose::Ours && tools == Whose::Ours {
        conntrack_tool(&sut);
    }

    // Bulk data, arrived whole.
    story.transfer(Vm::One, 16 << 20).unwrap();

    // Ports saw all of it, both MACs are known.
    let ports = sut.ok(tools, "ovs-ofctl dump-ports br0").unwrap();
    assert!(ports.starts_with("OFPST_PORT reply") && ports.contains(": 3 ports\n"), "{ports}");
    let fdb = sut.ok(tools, "ovs-appctl fdb/show br0").unwrap();
    for (vm, port) in [(Vm::One, "    2     0  "), (Vm::Two, "    3     0  ")] {
        assert!(fdb.contains(&format!("{port}{}", vm.mac())), "{fdb}");
    }

    // Counters only grow, and IP alone did.
    settle(&sut);
    let flows = sut.ok(tools, "ovs-ofctl dump-flows br0").unwrap();
    assert!(packets(&flows, 1, &["+est", "in_port=2"]) > est_2 + 10, "{flows}");
    assert_eq!(packets(&flows, 0, &["priority=10,"]), arp, "{flows}");
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

/// `conntrack` prints the story's table in the format of conntrack-tools.
fn conntrack_tool(sut: &Sut<'_>) {
    let ran = sut.tool(Whose::Ours, &["conntrack", "-L"]).unwrap();
    assert!(ran.success(), "{ran}");
    let count = ran.stderr.trim_end();
    assert!(
        count.starts_with("conntrack v") && count.ends_with("4 flow entries have been shown."),
        "{ran}"
    );
    for (start, middle) in [
        ("icmp     1 ", " src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id="),
        ("tcp      6 ", " TIME_WAIT src=192.168.0.1 dst=192.168.0.2 sport="),
        ("udp      17 ", " src=192.168.0.1 dst=192.168.0.2 sport="),
    ] {
        let line = ran.stdout.lines().find(|l| l.starts_with(start) && l.contains(middle));
        assert!(line.is_some_and(|l| l.ends_with(" mark=0 use=1")), "{start}{middle}: {ran}");
    }
    assert_eq!(sut.ok(Whose::Ours, "conntrack -C").unwrap(), "4\n");
    let tcp = sut.ok(Whose::Ours, "conntrack -L -p tcp --dport 23").unwrap();
    assert!(tcp.contains("dport=23 ") && tcp.contains("[ASSURED]"), "{tcp}");
    assert_eq!(tcp.lines().count(), 1, "{tcp}");
}

#[test]
fn story_our_tools_our_switch() {
    play(Whose::Ours, Whose::Ours);
}

#[test]
fn story_stock_tools_our_switch() {
    play(Whose::Ours, Whose::Stock);
}

#[test]
fn story_our_tools_stock_switch() {
    play(Whose::Stock, Whose::Ours);
}

/// The other three mean something because this one passes.
#[test]
fn story_stock_tools_stock_switch() {
    play(Whose::Stock, Whose::Stock);
}

/// Our daemon says why it refuses the policy from a stock client, or rather the client does, and
/// nothing of the file is applied.
#[test]
fn stock_tools_refuse_the_verbatim_policy() {
    if !can_run(Whose::Ours, Whose::Stock) {
        return;
    }
    let story = Story::new().unwrap();
    let sut = Sut::start(Whose::Ours, BINARY, &story.sw).unwrap();
    sut.add_bridge(Whose::Stock, &["vm1p", "vm2p"]).unwrap();
    sut.ok(Whose::Stock, "ovs-ofctl del-flows br0").unwrap();
    let ran = sut.tool(Whose::Stock, &["ovs-ofctl", "add-flows", "br0", POLICY]).unwrap();
    assert!(ran.stderr.contains("OFPBAC_MATCH_INCONSISTENT"), "{ran}");
    let flows = sut.ok(Whose::Stock, "ovs-ofctl dump-flows br0").unwrap();
    assert_eq!(flows.lines().filter(|l| l.contains("cookie=")).count(), 0, "{flows}");
}

/// Both directions of one connection at once, large segments and default offloads on both sides.
#[test]
fn bulk_transfers_arrive_whole_in_parallel() {
    if !can_run(crate::switch(), crate::tools()) {
        return;
    }
    let story = Story::new().unwrap();
    if crate::switch() == Whose::Stock {
        story.offloads_off().unwrap();
    }
    let sut = crate::start(&story.sw);
    sut.add_bridge(crate::tools(), &["vm1p", "vm2p"]).unwrap();
    eventually("the switch forwards", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(())))
        .unwrap();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| story.transfer(Vm::One, 24 << 20));
        let back = scope.spawn(|| story.transfer(Vm::Two, 24 << 20));
        there.join().unwrap().unwrap();
        back.join().unwrap().unwrap();
    });
}
