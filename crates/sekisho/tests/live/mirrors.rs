//! Mirrors: copies of packets in the simulated world and of real ones.

use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually};
use testkit::story::Vm;

use crate::ports::machines;
use crate::simulated::{UDP, captured, simulated};
use crate::{can_run, start, switch, tools};

/// Copies of real packets, cut, chosen by a filter and counted.
#[test]
fn a_mirror_of_real_packets() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 3);
    let ok = |line: &str| sut.ok(tools(), line).unwrap();
    ok("ovs-ofctl add-flow br0 in_port=1,actions=mod_vlan_vid:5,2");
    ok("ovs-vsctl --id=@p1 get Port p1 -- --id=@p3 get Port p3 -- --id=@m create Mirror name=m \
        select_src_port=@p1 output_port=@p3 snaplen=60 -- set Bridge br0 mirrors=@m");
    for _ in 0..3 {
        ok(&format!("ovs-appctl netdev-dummy/receive p1 {UDP}"));
    }
    let copies = captured(&sut, "p3");
    assert_eq!((copies.len(), copies[0].len()), (3, 60));
    assert_eq!(copies[0][..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0], "as it came");
    let sent = captured(&sut, "p2");
    assert_eq!((sent.len(), sent[0].len()), (3, 110), "with a tag");
    ok("ovs-appctl revalidator/wait");
    ok("ovs-appctl time/warp 6000 1000");
    let statistics = || ok("ovs-vsctl get Mirror m statistics");
    assert_eq!(statistics(), "{tx_bytes=318, tx_packets=3}\n");
    // Another choice of packets is in force at once, and the same row goes on counting.
    ok("ovs-vsctl set Mirror m select_src_port=[] select_all=true snaplen=[] select_vlan=5");
    ok(&format!("ovs-appctl netdev-dummy/receive p1 {UDP}"));
    let copies = captured(&sut, "p3");
    assert_eq!((copies.len(), copies[3].len(), &copies[3]), (4, 110, &captured(&sut, "p2")[3]));
    ok("ovs-appctl revalidator/wait");
    ok("ovs-appctl time/warp 6000 1000");
    assert_eq!(statistics(), "{tx_bytes=424, tx_packets=4}\n");
    // What comes in by the output port ends there.
    ok("ovs-ofctl add-flow br0 in_port=3,actions=2");
    ok(&format!("ovs-appctl netdev-dummy/receive p3 {UDP}"));
    assert_eq!(captured(&sut, "p2").len(), 4);
    ok("ovs-vsctl clear Bridge br0 mirrors");
    ok(&format!("ovs-appctl netdev-dummy/receive p3 {UDP}"));
    assert_eq!(captured(&sut, "p2").len(), 5);
    ok(&format!("ovs-appctl netdev-dummy/receive p1 {UDP}"));
    assert_eq!(captured(&sut, "p3").len(), 4);
}

/// An onlooker sees what two machines say to each other, streams whose segments are large too, and
/// cannot say anything itself.
#[test]
fn an_onlooker_at_a_mirror_sees_all_and_says_nothing() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    sut.ok(tools(), "ovs-vsctl add-port br0 look -- set Interface look type=internal").unwrap();
    let onlooker = story.sw.sibling("look").unwrap();
    story.sw.ip(&format!("link set look netns {}", onlooker.pid())).unwrap();
    onlooker.ip("addr add 192.168.0.101/24 dev look").unwrap();
    onlooker.ip("link set look up").unwrap();
    let says = |who: Vm| {
        let to = ["ping", "-c", "1", "-W", "1", who.ip()];
        onlooker.run(&to).unwrap().success()
    };
    eventually("it is a port like others", DEADLINE, || Ok(says(Vm::One).then_some(()))).unwrap();
    sut.ok(
        tools(),
        "ovs-vsctl --id=@look get Port look -- --id=@m create Mirror name=m select_all=true \
         output_port=@look -- set Bridge br0 mirrors=@m",
    )
    .unwrap();
    let seen = || -> [u64; 2] {
        let all = onlooker.ok(&["cat", "/proc/net/dev"]).unwrap();
        let line = all.lines().find_map(|l| l.trim().strip_prefix("look:")).unwrap();
        let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
        [numbers.next().unwrap(), numbers.next().unwrap()]
    };
    let before = seen();
    assert!(story.ping(Vm::One, 5).unwrap());
    let after_ping = seen();
    let n_seen = after_ping[1] - before[1];
    assert!((10..20).contains(&n_seen), "five requests and answers, once each: {n_seen}");
    story.transfer(Vm::One, 4 << 20).unwrap();
    let n_bytes = seen()[0] - after_ping[0];
    assert!(n_bytes >= 4 << 20, "{n_bytes}");
    assert!(!says(Vm::One) && !says(Vm::Two));
    eventually("the row counts", DEADLINE, || {
        let counted = sut.ok(tools(), "ovs-vsctl get Mirror m statistics")?;
        let bytes = counted.split(['=', ',']).nth(1).and_then(|n| n.parse::<u64>().ok());
        Ok(bytes.is_some_and(|n| n >= n_bytes).then_some(()))
    })
    .unwrap();
    sut.ok(tools(), "ovs-vsctl clear Bridge br0 mirrors").unwrap();
    eventually("it speaks again", DEADLINE, || Ok(says(Vm::One).then_some(()))).unwrap();
    sut.check_alive().unwrap();
}
