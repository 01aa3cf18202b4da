//! Groups and meters under traffic, in the simulated world.

use testkit::netns::Netns;

use crate::simulated::{captured, simulated};
use crate::tools;

/// A TCP packet from `p1` of one flow among many. (The hash has no ports of UDP in it, as in OVS.)
fn packet(source: u16) -> String {
    format!(
        "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src={source},dst=9),tcp_flags(0)"
    )
}

#[test]
fn flows_spread_over_buckets_and_move_when_a_port_fails() {
    let ns = Netns::new("groups").unwrap();
    let sut = simulated(&ns, 3);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    let ofctl = |line: &str| sut.ok(tools(), &format!("ovs-ofctl -O OpenFlow15 {line}")).unwrap();
    let arrived = || [2, 3].map(|n| captured(&sut, &format!("p{n}")).len());
    let send = |n: u16| {
        (0..n).for_each(|i| {
            app(&format!("netdev-dummy/receive p1 {}", packet(1000 + i)));
        })
    };
    ofctl(
        "add-group br0 group_id=1,type=select,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3",
    );
    ofctl(
        "add-group br0 group_id=2,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3",
    );
    ofctl("add-flow br0 in_port=1,actions=group:1");
    send(32);
    let [a, b] = arrived();
    assert!(a + b == 32 && a.min(b) >= 6, "{a} and {b}");
    // The same flows go the same ways.
    send(32);
    assert_eq!(arrived(), [2 * a, 2 * b]);
    // At most the slots of the group, and what asks for the hash, are in the datapath.
    let flows = app("dpctl/dump-flows");
    assert!(flows.lines().count() <= 2 + 16, "{flows}");
    assert!(flows.contains("actions:hash(sym_l4(0)),recirc("), "{flows}");
    let stats = ofctl("dump-group-stats br0 group_id=1");
    for counted in [
        "packet_count=64,byte_count=7552".to_owned(),
        format!("bucket0:packet_count={},byte_count={}", 2 * a, 2 * a * 118),
        format!("bucket1:packet_count={},byte_count={}", 2 * b, 2 * b * 118),
    ] {
        assert!(stats.contains(&counted), "{counted} in {stats}");
    }
    // One port fails: its flows move, the others stay.
    app("netdev-dummy/set-admin-state p2 down");
    send(32);
    assert_eq!(arrived(), [2 * a, 2 * b + 32]);
    // And where one is preferred, it is taken again when it is back.
    ofctl("mod-flows br0 in_port=1,actions=group:2");
    send(1);
    assert_eq!(arrived(), [2 * a, 2 * b + 33]);
    app("netdev-dummy/set-admin-state p2 up");
    send(1);
    assert_eq!(arrived(), [2 * a + 1, 2 * b + 33]);
    // Without its group no flow stays.
    ofctl("del-groups br0 group_id=2");
    assert!(!ofctl("dump-flows br0").contains("group"), "{}", ofctl("dump-flows br0"));
    send(1);
    assert_eq!(arrived(), [2 * a + 1, 2 * b + 33]);
}

#[test]
fn a_meter_lets_its_rate_through_on_a_clock_that_stands_still() {
    let ns = Netns::new("meters").unwrap();
    let sut = simulated(&ns, 2);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    let ofctl = |line: &str| sut.ok(tools(), &format!("ovs-ofctl -O OpenFlow13 {line}")).unwrap();
    app("time/stop");
    ofctl("add-meter br0 meter=1,pktps,burst,stats,bands=type=drop,rate=1,burst_size=2");
    ofctl("add-flow br0 in_port=1,actions=meter:1,2");
    let send = |n: u16| {
        for _ in 0..n {
            app(&format!("netdev-dummy/receive p1 {}", packet(7)));
        }
        captured(&sut, "p2").len()
    };
    assert_eq!(send(5), 2);
    app("time/warp 1000");
    assert_eq!(send(5), 3);
    app("time/warp 10000");
    assert_eq!(send(5), 5);
    let stats = ofctl("meter-stats br0 meter=1");
    assert!(stats.contains("packet_in_count:15 byte_in_count:1770"), "{stats}");
    assert!(stats.contains("0: packet_count:10 byte_count:1180"), "{stats}");
    // Flows that use a meter go with it.
    ofctl("del-meter br0 meter=1");
    assert!(!ofctl("dump-flows br0").contains("meter"), "{}", ofctl("dump-flows br0"));
    assert_eq!(send(1), 5);
}

#[test]
fn meters_hold_back_what_goes_to_the_slow_path_and_to_controllers() {
    let ns = Netns::new("meters").unwrap();
    let sut = simulated(&ns, 2);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    let ofctl = |line: &str| sut.ok(tools(), &format!("ovs-ofctl -O OpenFlow13 {line}")).unwrap();
    app("time/stop");
    let send = |n: u16| {
        for _ in 0..n {
            app(&format!("netdev-dummy/receive p1 {}", packet(7)));
        }
        captured(&sut, "p2").len()
    };
    // A packet meets the flow as it was before the meter, not the revalidator, which comes when it comes.
    app("revalidator/pause");
    ofctl("add-flow br0 in_port=1,actions=debug_slow,2");
    assert_eq!(send(4), 4);
    ofctl("add-meter br0 meter=slowpath,pktps,burst,bands=type=drop,rate=1,burst_size=2");
    assert_eq!(send(5), 7, "the one that makes the flow, and two behind it");
    let flows = app("dpctl/dump-flows");
    let metered =
        "actions:sample(sample=100.0%,actions(meter(0),userspace(pid=0,slow_path(action))))";
    assert!(flows.contains(metered), "{flows}");
    app("time/warp 1000");
    assert_eq!(send(5), 8);
    ofctl("mod-meter br0 meter=slowpath,pktps,burst,bands=type=drop,rate=1000,burst_size=1000");
    assert_eq!(send(5), 13);
    ofctl("del-meter br0 meter=slowpath");
    assert_eq!(send(5), 18);
    // What flows send to controllers has a meter of its own.
    ofctl("add-meter br0 meter=controller,pktps,burst,stats,bands=type=drop,rate=1,burst_size=2");
    ofctl("add-flow br0 in_port=1,actions=controller,2");
    assert_eq!(send(5), 23, "the packets themselves go on");
    let stats = ofctl("meter-stats br0 meter=controller");
    assert!(
        stats.contains("packet_in_count:5 ") && stats.contains("0: packet_count:3 "),
        "{stats}"
    );
}
