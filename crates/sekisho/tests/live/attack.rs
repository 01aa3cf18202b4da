//! Packets that are made to fill the caches, from one port: what others send passes, and masks stay few.

use packet::pcap;
use testkit::masks;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY_IP, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::BINARY;

/// Most masks of a port: `datapath::masks`.
const MOST: usize = 97;
/// Packets, each of which differs from the whitelist at other bits.
const CRAFTED: u32 = 6000;

/// The first words that differ from 10.0.0.1 to 192.168.0.4, port 12345 to 80: of each, a bit, and the rest by
/// chance.
fn crafted(n: u32) -> [u32; 4] {
    let at = n.wrapping_mul(0x2_4f35) % (1 << 18);
    let r = n.wrapping_mul(2_654_435_761);
    let differ = |value: u32, width: u32, at: u32, r: u32| {
        let bit = 1_u32 << (width - 1 - at);
        (value ^ bit) & !(bit - 1) | r & (bit - 1)
    };
    [
        differ(0x0a00_0001, 32, at % 32, r),
        differ(0xc0a8_0004, 32, at / 32 % 32, r.rotate_left(9)),
        differ(12_345, 16, at / 1024 % 16, r >> 16),
        differ(80, 16, at / 16_384, r & 0xffff),
    ]
}

/// A capture of them, and at its end of one that the whitelist lets pass.
fn capture(sut: &Sut<'_>) -> String {
    let mut bytes = pcap::file_header(65_535).to_vec();
    let passes = [0x0a00_0001, 0xc0a8_0005, 1, 1];
    for [src, dst, sport, dport] in (0..CRAFTED).map(crafted).chain([passes]) {
        let mut frame = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0].to_vec();
        frame.extend([0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(src.to_be_bytes());
        frame.extend(dst.to_be_bytes());
        let sum = packet::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend((sport as u16).to_be_bytes());
        frame.extend((dport as u16).to_be_bytes());
        // No checksum of UDP's own.
        frame.extend([0, 26, 0, 0]);
        frame.resize(60, b'A');
        bytes.extend(pcap::record_header(0, 0, frame.len() as u32));
        bytes.extend(frame);
    }
    let path = sut.file("crafted.pcap");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn counter(sut: &Sut<'_>, name: &str) -> u64 {
    let said = sut.ok(Whose::Ours, &format!("ovs-appctl coverage/read-counter {name}")).unwrap();
    said.trim().parse().unwrap()
}

#[test]
fn crafted_packets_stop_nobody_and_leave_few_masks() {
    let story = Story::new().unwrap();
    let sut = Sut::start(Whose::Ours, BINARY, &story.sw).unwrap();
    sut.add_bridge(Whose::Ours, &["vm1p", "vm2p"]).unwrap();
    sut.load_policy(Whose::Ours, POLICY_IP).unwrap();
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    for flow in [
        "priority=200,ip,in_port=4,actions=resubmit(,2)",
        "table=2,priority=100,ip,nw_src=10.0.0.1,actions=output:5",
        "table=2,priority=100,ip,nw_dst=192.168.0.4,actions=output:5",
        "table=2,priority=100,udp,tp_src=12345,actions=output:5",
        "table=2,priority=100,udp,tp_dst=80,actions=output:5",
        "table=2,priority=0,actions=drop",
    ] {
        ok(&format!("ovs-ofctl add-flow br0 {flow}"));
    }
    ok("ovs-vsctl add-port br0 n0 -- set Interface n0 type=null ofport_request=5");
    ok("ovs-ofctl mod-port br0 n0 no-flood");
    let file = capture(&sut);
    let replay = format!("type=replay options:pcap={file} options:loop=true ofport_request=4");
    ok(&format!("ovs-vsctl add-port br0 r0 -- set Interface r0 {replay}"));
    eventually("packets are crafted faster than masks", DEADLINE, || {
        Ok((counter(&sut, "datapath_widened") > 1000).then_some(()))
    })
    .unwrap();

    // Connections stand and are made meanwhile, and what is not allowed is not.
    story.transfer(Vm::One, 1_000_000).unwrap();
    assert!(story.ping(Vm::One, 3).unwrap() && !story.ping(Vm::Two, 1).unwrap());
    let dump = ok("ovs-appctl dpctl/dump-flows -m");
    let port = dump.lines().find(|l| l.contains("in_port(r0)")).map(|_| "in_port(r0)");
    let masks = masks::of(&dump, port.unwrap());
    assert!((32..=MOST).contains(&masks.len()), "{} masks: {masks:#?}", masks.len());

    // Each packet of the file got what the whitelist says, whichever flow it had.
    ok("ovs-vsctl del-port br0 r0");
    let flows = ok("ovs-ofctl dump-flows br0 table=2");
    let n = |of: &str| -> u64 {
        let line = flows.lines().find(|l| l.contains(of)).unwrap();
        let rest = line.split_once("n_packets=").unwrap().1;
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let (passed, dropped) = (n("nw_src=10.0.0.1"), n("priority=0"));
    assert!(dropped / u64::from(CRAFTED) <= passed + 1, "{flows}");
    assert!(passed <= dropped / u64::from(CRAFTED) + 1 && passed > 0, "{flows}");
    assert_eq!(n("nw_dst=") + n("tp_src=") + n("tp_dst="), 0, "{flows}");
    let sent = ok("ovs-ofctl dump-ports br0 n0");
    assert!(sent.contains(&format!("tx pkts={passed},")), "{passed}: {sent}");

    // The limit of flows is the setting's.
    let has_limit = |limit: &str| {
        eventually(limit, DEADLINE, || {
            Ok(ok("ovs-appctl upcall/show").contains(&format!("(limit {limit})")).then_some(()))
        })
        .unwrap();
    };
    ok("ovs-vsctl set Open_vSwitch . other_config:flow-limit=1000");
    has_limit("1000");
    ok("ovs-vsctl remove Open_vSwitch . other_config flow-limit");
    has_limit("200000");
}
