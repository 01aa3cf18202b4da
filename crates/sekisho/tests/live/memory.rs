//! Ports in memory: `type=null` and `type=replay`.

use packet::pcap;
use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually};
use testkit::sut::{Sut, Whose};

use crate::BINARY;

/// A capture of `n` UDP datagrams of different sources.
pub(crate) fn capture(sut: &Sut<'_>, name: &str, n: u8) -> String {
    let mut bytes = pcap::file_header(65_535).to_vec();
    for source in 0..n {
        let mut frame = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0].to_vec();
        let ip = [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, source, 10, 2, 0, 1];
        frame.extend(ip);
        let sum = packet::checksum::checksum(&ip);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        // No checksum of UDP's own.
        frame.extend([4, 0, 0, 53, 0, 26, 0, 0]);
        frame.resize(60, b'A');
        bytes.extend(pcap::record_header(0, 0, frame.len() as u32));
        bytes.extend(frame);
    }
    let path = sut.file(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn ours(ns: &Netns) -> Sut<'_> {
    let sut = Sut::start(Whose::Ours, BINARY, ns).unwrap();
    sut.ok(Whose::Ours, "ovs-vsctl add-br br0 -- add-port br0 n0 -- set Interface n0 type=null")
        .unwrap();
    sut
}

fn get(sut: &Sut<'_>, what: &str) -> String {
    sut.ok(Whose::Ours, &format!("ovs-vsctl --if-exists get Interface {what}"))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn what_a_file_holds_is_received_once_and_counted_where_it_goes() {
    let ns = Netns::new("mem").unwrap();
    let sut = ours(&ns);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    let file = capture(&sut, "a.pcap", 100);
    ok("ovs-ofctl del-flows br0");
    ok("ovs-ofctl add-flow br0 udp,nw_src=10.1.0.0/27,actions=output:1");
    ok(&format!("ovs-vsctl add-port br0 r0 -- set Interface r0 type=replay options:pcap={file}"));
    eventually("all frames come", DEADLINE, || {
        let said = ok("ovs-ofctl dump-ports br0 r0");
        Ok(said.contains("rx pkts=100, bytes=6000, drop=0").then_some(()))
    })
    .unwrap();
    // Of 100 sources, 32 match.
    let flows = ok("ovs-ofctl dump-flows br0");
    assert!(flows.contains("n_packets=32, n_bytes=1920"), "{flows}");
    let null = ok("ovs-ofctl dump-ports br0 n0");
    assert!(
        null.contains("rx pkts=0, bytes=0,") && null.contains("tx pkts=32, bytes=1920"),
        "{null}"
    );
    let shown = ok("ovs-appctl dpif/show");
    assert!(shown.contains("n0 1/2: (null)\n"), "{shown}");
    assert!(shown.contains(&format!("r0 2/3: (replay: pcap={file})\n")), "{shown}");
    let ports = ok("ovs-ofctl show br0");
    assert!(ports.contains(" 2(r0): addr:"), "{ports}");
    assert_eq!((get(&sut, "r0 error"), get(&sut, "r0 link_state")), ("[]".into(), "up".into()));
    eventually("statistics are written", DEADLINE, || {
        let written = get(&sut, "r0 statistics:rx_packets");
        Ok((written == "100").then_some(()))
    })
    .unwrap();
    // Another file is another device.
    let other = capture(&sut, "b.pcap", 7);
    ok(&format!("ovs-vsctl set Interface r0 options:pcap={other}"));
    eventually("the other file's frames come", DEADLINE, || {
        Ok(ok("ovs-ofctl dump-ports br0 r0").contains("rx pkts=7, bytes=420,").then_some(()))
    })
    .unwrap();
}

#[test]
fn a_loop_goes_on_until_its_port_is_deleted() {
    let ns = Netns::new("mem").unwrap();
    let sut = ours(&ns);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    let file = capture(&sut, "a.pcap", 3);
    ok("ovs-ofctl del-flows br0");
    ok("ovs-ofctl add-flow br0 in_port=2,actions=output:1");
    ok(&format!(
        "ovs-vsctl add-port br0 r0 -- set Interface r0 type=replay options:pcap={file} options:loop=true"
    ));
    let received = || -> u64 {
        let said = ok("ovs-ofctl dump-ports br0 r0");
        let rest = said.split_once("rx pkts=").unwrap().1;
        rest.split(',').next().unwrap().parse().unwrap()
    };
    eventually("the file comes again and again", DEADLINE, || {
        Ok((received() > 100_000).then_some(()))
    })
    .unwrap();
    // The control plane and other ports have their turn all the same.
    let second = capture(&sut, "b.pcap", 50);
    ok(&format!("ovs-vsctl add-port br0 r1 -- set Interface r1 type=replay options:pcap={second}"));
    eventually("another port's frames come", DEADLINE, || {
        Ok(ok("ovs-ofctl dump-ports br0 r1").contains("rx pkts=50,").then_some(()))
    })
    .unwrap();
    ok("ovs-vsctl del-port br0 r0");
    let flows = || ok("ovs-ofctl dump-flows br0");
    let before = flows();
    assert!(!before.contains("n_packets=0"), "{before}");
    assert_eq!(
        before.split_once("n_packets").unwrap().1,
        flows().split_once("n_packets").unwrap().1
    );
}

#[test]
fn errors_are_in_the_row_and_go_with_their_cause() {
    let ns = Netns::new("mem").unwrap();
    let sut = ours(&ns);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    ok("ovs-vsctl add-port br0 r0 -- set Interface r0 type=replay");
    let error = || get(&sut, "r0 error");
    assert!(error().contains("r0: type=replay needs options:pcap=FILE"), "{}", error());
    let path = sut.file("later.pcap");
    ok(&format!("ovs-vsctl set Interface r0 options:pcap={path}"));
    let expected = format!("could not open network device r0 ({path}: No such file or directory)");
    assert_eq!(error(), format!("\"{expected}\""));
    assert_eq!(get(&sut, "r0 ofport"), "-1");
    std::fs::write(&path, "no capture").unwrap();
    ok("ovs-vsctl set Interface r0 external_ids:try=again");
    assert!(error().contains("not a capture file: it begins with 6e6f2063, a pcap"), "{}", error());
    capture(&sut, "later.pcap", 1);
    ok("ovs-vsctl set Interface r0 external_ids:try=another");
    assert_eq!((error(), get(&sut, "r0 ofport")), ("[]".to_owned(), "2".to_owned()));
    ok("ovs-vsctl set Interface r0 options:lop=true");
    assert!(error().contains("type=replay has no options:lop; it has"), "{}", error());
    ok("ovs-vsctl set Interface n0 options:pcap=x");
    assert!(
        get(&sut, "n0 error").contains("type=null has no options"),
        "{}",
        get(&sut, "n0 error")
    );
}

/// The number behind `key` in a text.
fn number(text: &str, key: &str) -> u64 {
    let rest = text.split_once(key).unwrap_or_else(|| panic!("no {key} in {text}")).1;
    rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn workers_say_what_they_did_since_they_were_cleared() {
    let ns = Netns::new("mem").unwrap();
    let sut = ours(&ns);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    ok("ovs-ofctl del-flows br0");
    ok("ovs-ofctl add-flow br0 ip,actions=ct(table=1)");
    ok("ovs-ofctl add-flow br0 table=1,actions=output:1");
    let play = |n: u8| {
        let file = capture(&sut, &format!("{n}.pcap"), n);
        let line = "ovs-vsctl --if-exists del-port r0 -- add-port br0 r0 -- set Interface r0";
        ok(&format!("{line} type=replay options:pcap={file}"));
        eventually("all frames come", DEADLINE, || {
            let said = ok("ovs-ofctl dump-ports br0 r0");
            Ok(said.contains(&format!("rx pkts={n},")).then_some(()))
        })
        .unwrap();
    };
    play(40);
    ok("ovs-appctl dpif-netdev/pmd-stats-clear");
    assert_eq!(number(&ok("ovs-appctl dpif-netdev/pmd-stats-show"), "packets received:"), 0);
    play(100);
    let shown = ok("ovs-appctl dpif-netdev/pmd-stats-show -pmd 0 ovs-netdev");
    assert!(shown.starts_with("pmd thread numa_id 0 core_id 0:\n"), "{shown}");
    assert!(!shown.contains("main thread"), "{shown}");
    let n = |key: &str| number(&shown, key);
    assert_eq!((n("packets received:"), n("recirculations:")), (100, 100));
    assert!(shown.contains("avg. datapath passes per packet: 2.00\n"), "{shown}");
    // Each pass of each packet was answered by one of them.
    let answered =
        n("emc hits:") + n("megaflow hits:") + n("success upcall:") + n("failed upcall:");
    assert_eq!(answered, 200, "{shown}");
    assert!(n("processing cycles:") > 0, "{shown}");
    let both = ok("ovs-appctl dpif-netdev/pmd-stats-show");
    assert!(both.contains("\nmain thread:\n  packets received: 0\n"), "{both}");

    let perf = ok("ovs-appctl dpif-netdev/pmd-perf-show -nh -it 5");
    assert_eq!((number(&perf, "Rx packets:"), number(&perf, "Tx packets:")), (100, 100), "{perf}");
    assert_eq!(number(&perf, "Datapath passes:"), 200, "{perf}");
    assert!(number(&perf, "busy iterations:") >= 4, "{perf}");

    let queues = ok("ovs-appctl dpif-netdev/pmd-rxq-show");
    let begin = "Displaying last 60 seconds pmd usage %\npmd thread numa_id 0 core_id 0:\n  \
                 isolated : false\n  port: br0               queue-id:  0 (enabled)   pmd usage: ";
    assert!(queues.starts_with(begin), "{queues}");
    // A port that receives nothing has no queue.
    assert!(queues.contains("  port: r0 ") && !queues.contains("n0"), "{queues}");
    assert!(queues.contains("\n  overhead: "), "{queues}");
    assert_eq!(ok("ovs-appctl dpif-netdev/pmd-rxq-show -pmd 7"), "");
}
