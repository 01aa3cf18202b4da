//! The switch's own flows: in-band control and fail-open.
#![allow(clippy::unwrap_used)]

mod common;

use base::MacAddr;
use common::peer::{all_flows, one, send, session};
use common::{NORMAL, World, flow_mod, output};
use ofproto::{InBand, InBandRemote, SessionKind};
use openflow::action::Action;
use openflow::flow_mod::{FlowMod, FlowModCommand};
use openflow::message::Body;
use openflow::version::Version;

const LOCAL: MacAddr = MacAddr([0xaa, 0, 0, 0, 0, 1]);
const HOP: MacAddr = MacAddr([0xbb, 0, 0, 0, 0, 9]);

fn remote(last: u8, next_hop: Option<MacAddr>) -> InBandRemote {
    InBandRemote { addr: [192, 0, 2, last].into(), port: 6653, next_hop }
}

fn in_band(queue: Option<u32>, remotes: &[InBandRemote]) -> InBand {
    InBand { queue, local_mac: Some(LOCAL), remotes: remotes.to_vec() }
}

fn set(w: &mut World, wanted: InBand) {
    let now = w.now;
    w.bridge().set_in_band(wanted, now);
}

/// Priorities of the own flows, less that of the first kind of in-band control.
fn kinds(w: &mut World) -> Vec<u32> {
    let mut all: Vec<u32> = w.bridge().tables().own().map(|r| r.priority - 180_000).collect();
    all.sort_unstable();
    all
}

#[test]
fn the_host_reaches_its_controllers_whatever_the_flows_say() {
    let mut w = World::new();
    w.add("priority=65535", &[]);
    let ends = "dl_src=00:00:00:00:00:07,dl_dst=00:00:00:00:00:08";
    let arp = "in_port=2,arp,dl_src=00:00:00:00:00:02";
    let packets = [
        "in_port=LOCAL,udp,dl_src=aa:00:00:00:00:01,udp_src=68,udp_dst=67".to_owned(),
        format!("{arp},dl_dst=aa:00:00:00:00:01,arp_op=2"),
        "in_port=LOCAL,arp,dl_src=aa:00:00:00:00:01,arp_op=1".to_owned(),
        format!("{arp},dl_dst=bb:00:00:00:00:09,arp_op=2"),
        "in_port=2,arp,dl_src=bb:00:00:00:00:09,arp_op=1".to_owned(),
        format!("{arp},arp_op=2,arp_tpa=192.0.2.1"),
        format!("{arp},arp_op=1,arp_spa=192.0.2.1"),
        format!("in_port=LOCAL,tcp,{ends},nw_dst=192.0.2.1,tcp_dst=6653"),
        format!("in_port=2,tcp,{ends},nw_src=192.0.2.1,tcp_src=6653"),
    ];
    assert!(packets.iter().all(|p| w.actions(p) == "drop"));
    let before = w.sw.generation();
    set(&mut w, in_band(None, &[remote(1, Some(HOP))]));
    assert_ne!(w.sw.generation(), before, "translations made before are wrong");
    assert_eq!(kinds(&mut w), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (kind, p) in packets.iter().enumerate() {
        assert_ne!(w.actions(p), "drop", "{p}");
        let trace = w.trace(p, &[]);
        assert!(trace.contains(&format!(" priority {}\n    NORMAL\n", 180_000 + kind)), "{trace}");
    }
    for other in [
        "in_port=2,tcp,nw_src=192.0.2.1,tcp_src=6654",
        "in_port=2,tcp,nw_src=192.0.2.3,tcp_src=6653",
        "in_port=2,udp,dl_src=aa:00:00:00:00:01,udp_src=68,udp_dst=67",
        "in_port=2,arp,arp_op=1,arp_spa=192.0.2.3",
    ] {
        assert_eq!(w.actions(other), "drop", "{other}");
    }
    // What a host without an address is answered reaches it, and nothing that only looks like it.
    let answer = "in_port=2,udp,udp_src=67,udp_dst=68";
    assert_eq!(w.actions(answer), "1");
    assert!(w.trace(answer, &[]).contains(" -> outputting DHCP packet to local port"));
    assert_eq!(w.actions("in_port=2,udp,udp_src=68,udp_dst=67"), "drop");
    w.add("priority=65535", &[output(3), NORMAL]);
    assert_eq!(w.actions(answer), "3,1", "not twice to the same");
    set(&mut w, InBand::default());
    assert!(kinds(&mut w).is_empty());
    w.add("priority=65535", &[]);
    assert_eq!(w.actions(answer), "drop");
}

#[test]
fn own_flows_follow_what_is_known_and_go_on_counting() {
    let mut w = World::new();
    let tcp = "in_port=2,tcp,nw_src=192.0.2.1,tcp_src=6653";
    set(&mut w, in_band(None, &[remote(1, None)]));
    assert_eq!(kinds(&mut w), [0, 1, 2, 5, 6, 7, 8]);
    w.run(tcp);
    set(&mut w, in_band(Some(5), &[remote(1, Some(HOP)), remote(2, Some(HOP))]));
    assert_eq!(kinds(&mut w), [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8], "one set a next hop");
    w.run(tcp);
    let counts: Vec<u64> = w.bridge().tables().own().map(|r| r.stats.n_packets()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 2);
    assert_eq!(counts.iter().max(), Some(&2));
    assert!(w.bridge().tables().own().all(|r| r.actions[..] == [Action::SetQueue(5), NORMAL]));
    // An address of its own that is not known yet.
    set(&mut w, InBand { local_mac: None, ..in_band(None, &[remote(1, None)]) });
    assert_eq!(kinds(&mut w), [5, 6, 7, 8]);
    // It and fail-open do not touch each other.
    let now = w.now;
    w.bridge().set_fail_open(true, now);
    assert!(w.bridge().is_fail_open() && kinds(&mut w).len() == 5);
    assert!(w.trace(tcp, &[]).contains(" 0. priority 15790320\n"));
    set(&mut w, InBand::default());
    assert!(w.bridge().is_fail_open());
    w.bridge().set_fail_open(false, now);
    assert!(!w.bridge().is_fail_open() && kinds(&mut w).is_empty());
}

#[test]
fn no_message_shows_or_changes_them() {
    for v in [Version::Of10, Version::Of15] {
        let mut w = World::new();
        set(&mut w, in_band(None, &[remote(1, Some(HOP))]));
        let mut s = session(&mut w, SessionKind::Controller, v);
        let dump = one(&mut w, &mut s, Body::FlowStatsRequest(all_flows()));
        assert_eq!(dump, Body::FlowStatsReply(Vec::new()));
        let Body::TableStatsReply(tables) = one(&mut w, &mut s, Body::TableStatsRequest) else {
            panic!()
        };
        assert_eq!(tables[0].active, 0);
        for command in [FlowModCommand::Delete, FlowModCommand::Modify] {
            let fm = FlowMod { command, new_cookie: None, ..flow_mod("", &[]) };
            send(&mut w, &mut s, v, Body::FlowMod(Box::new(fm)));
        }
        assert_eq!(kinds(&mut w).len(), 9);
        assert!(w.bridge().tables().own().all(|r| r.actions[..] == [NORMAL]));
    }
}
