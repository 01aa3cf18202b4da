//! Zones of the connection tracker, in the simulated world: how many connections they may have, and
//! how long those live.

use testkit::netns::Netns;
use testkit::sut::Sut;

use crate::simulated::simulated;
use crate::tools;

/// A datagram of client `n` to the server comes in.
fn open(sut: &Sut<'_>, port: u16, n: u16) {
    let frame = format!(
        "in_port({port}),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src={n},dst=53)"
    );
    app(sut, &format!("netdev-dummy/receive p{port} {frame}"));
}

fn app(sut: &Sut<'_>, line: &str) -> String {
    sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap()
}

fn refused(sut: &Sut<'_>, line: &str) -> String {
    let argv: Vec<&str> = ["ovs-appctl"].into_iter().chain(line.split(' ')).collect();
    let ran = sut.tool(tools(), &argv).unwrap();
    assert_eq!(ran.status, Some(2), "{ran}");
    ran.stderr.lines().next().unwrap_or_default().to_owned()
}

/// Two ports whose connections are of zones 1 and 2.
fn two_zones(ns: &Netns) -> Sut<'_> {
    let sut = simulated(ns, 3);
    for port in [1, 2] {
        let flow = format!("in_port={port},udp,actions=ct(commit,zone={port},table=1)");
        sut.ok(tools(), &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
    }
    sut.ok(tools(), "ovs-ofctl add-flow br0 table=1,actions=3").unwrap();
    sut
}

#[test]
fn zones_have_limits() {
    let ns = Netns::new("zones").unwrap();
    let sut = two_zones(&ns);
    assert_eq!(app(&sut, "dpctl/ct-get-limits"), "default limit=0\n");
    app(&sut, "dpctl/ct-set-limits default=4 zone=2,limit=2 zone=7,limit=0");
    for n in 0..6 {
        open(&sut, 1, 100 + n);
        open(&sut, 2, 100 + n);
    }
    assert_eq!(
        app(&sut, "dpctl/ct-get-limits"),
        "default limit=4\nzone=2,limit=2,count=2\nzone=7,limit=0,count=0\n"
    );
    assert_eq!(
        app(&sut, "dpctl/ct-get-limits zone=1,2"),
        "default limit=4\nzone=1,limit=4,count=4\nzone=2,limit=2,count=2\n"
    );
    let counters = app(&sut, "coverage/show");
    let full = counters.lines().find(|l| l.starts_with("conntrack_zone_full"));
    assert!(full.is_some_and(|l| l.contains("total: 6")), "{counters}");
    let why =
        "sekisho/why br0 in_port=1,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=999,udp_dst=53";
    let why = app(&sut, why);
    assert!(why.contains("the zone has as many connections as it may"), "{why}");
    // A flush makes room, in its zone only.
    app(&sut, "dpctl/flush-conntrack zone=1");
    assert_eq!(app(&sut, "dpctl/dump-conntrack").lines().count(), 2);
    open(&sut, 1, 200);
    assert_eq!(app(&sut, "dpctl/dump-conntrack zone=1").lines().count(), 1);
    // Without limits, as many as come.
    app(&sut, "dpctl/ct-del-limits default zone=2");
    assert_eq!(app(&sut, "dpctl/ct-get-limits"), "default limit=0\nzone=7,limit=0,count=0\n");
    (0..6).for_each(|n| open(&sut, 2, 300 + n));
    assert_eq!(app(&sut, "dpctl/dump-conntrack zone=2").lines().count(), 8);
    for (line, why) in [
        ("ct-set-limits default=-1", "invalid default limit"),
        ("ct-set-limits default=4294967296", "invalid default limit"),
        ("ct-set-limits zone=1", "failed to parse zone limit"),
        ("ct-set-limits zone=65536,limit=1", "failed to parse field zone"),
        ("ct-set-limits zone=1,limit=x", "failed to parse field limit"),
        ("ct-set-limits zone=1,limit=", "field limit missing value"),
        ("ct-set-limits zone=1,limits=3", "invalid zone limit field: limits"),
        ("ct-set-limits elsewhere default=1", "datapath not found"),
        ("ct-del-limits zone=x", "invalid zone"),
        ("ct-get-limits zone=1,x", "invalid zone"),
        ("ct-set-maxconns many", "maxconns missing or malformed"),
        ("ct-get-nconns elsewhere", "datapath not found"),
    ] {
        let got = refused(&sut, &format!("dpctl/{line}"));
        assert_eq!(got, format!("ovs-vswitchd: {why} (Invalid argument)"), "{line}");
    }
    assert_eq!(app(&sut, "dpctl/ct-get-limits"), "default limit=0\nzone=7,limit=0,count=0\n");
}

#[test]
fn zones_have_timeouts() {
    let ns = Netns::new("zones").unwrap();
    let sut = two_zones(&ns);
    let vsctl = |line: &str| sut.ok(tools(), &format!("ovs-vsctl {line}")).unwrap();
    app(&sut, "time/stop");
    vsctl(
        "-- --id=@dp create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:netdev=@dp",
    );
    vsctl("add-zone-tp netdev zone=1 udp_first=5 udp_single=5");
    vsctl("add-zone-tp netdev zone=2 udp_first=20");
    let zones = || {
        let dump = app(&sut, "dpctl/dump-conntrack");
        ["zone=1", "zone=2"].map(|zone| dump.lines().filter(|l| l.contains(zone)).count())
    };
    open(&sut, 1, 1);
    open(&sut, 2, 1);
    let flows = app(&sut, "dpctl/dump-flows");
    assert!(flows.contains("ct(commit,zone=1,timeout="), "{flows}");
    assert_eq!(zones(), [1, 1]);
    app(&sut, "time/warp 6000 1000");
    assert_eq!(zones(), [0, 1]);
    app(&sut, "time/warp 15000 1000");
    assert_eq!(zones(), [0, 0]);
    // Policies come and go: megaflows are made anew, and connections age as they were meant to.
    vsctl("del-zone-tp netdev zone=1");
    open(&sut, 1, 2);
    open(&sut, 2, 2);
    vsctl("del-zone-tp netdev zone=2");
    open(&sut, 2, 3);
    app(&sut, "time/warp 25000 1000");
    assert_eq!(zones(), [1, 1]);
    app(&sut, "time/warp 40000 1000");
    assert_eq!(zones(), [0, 0]);
    let flows = app(&sut, "dpctl/dump-flows");
    assert!(!flows.contains("timeout="), "{flows}");
}

#[test]
fn a_tuple_or_a_mark_says_what_to_flush() {
    let ns = Netns::new("zones").unwrap();
    let sut = simulated(&ns, 3);
    for (port, mark) in [(1, 0x11), (2, 0x22)] {
        let flow = format!(
            "in_port={port},udp,actions=ct(commit,zone={port},exec(set_field:{mark}->ct_mark)),3"
        );
        sut.ok(tools(), &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
    }
    let refill = || [1, 2].map(|port| (1..=3).for_each(|n| open(&sut, port, n)));
    let left = || app(&sut, "dpctl/dump-conntrack").lines().count();
    for (which, n) in [
        // Either direction, in zone 0 unless another is said.
        ("ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=1,ct_tp_dst=53", 6),
        ("zone=1 ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.1,ct_nw_proto=17,ct_tp_src=53,ct_tp_dst=1", 5),
        ("ct_nw_proto=17,ct_tp_src=2", 4),
        ("zone=2 ct_nw_src=10.0.0.1", 3),
        ("mark=0x1/0x1", 3),
        ("mark=0x22", 3),
        ("mark=0x3", 6),
        ("", 0),
    ] {
        refill();
        assert_eq!(left(), 6);
        app(&sut, &format!("dpctl/flush-conntrack {which}"));
        assert_eq!(left(), n, "{which}");
    }
    let why = refused(&sut, "dpctl/flush-conntrack mark=x");
    assert_eq!(why, "ovs-vswitchd: failed to parse mark (Invalid argument)");
}

#[test]
fn a_full_table_drops_who_was_not_answered() {
    let ns = Netns::new("zones").unwrap();
    let sut = two_zones(&ns);
    app(&sut, "dpctl/ct-set-maxconns 10");
    assert_eq!(app(&sut, "dpctl/ct-get-maxconns"), "10\n");
    (0..200).for_each(|n| open(&sut, 1, 1000 + n));
    assert_eq!(app(&sut, "dpctl/ct-get-nconns"), "10\n");
    let stats = app(&sut, "coverage/show");
    let early = stats.lines().find(|l| l.starts_with("conntrack_early_drop"));
    assert!(early.is_some(), "{stats}");
    let buckets = app(&sut, "dpctl/ct-bkts");
    assert!(buckets.contains("\nCurrent Connections: 10\n"), "{buckets}");
}
