//! Mirrors: who gets copies of which packets.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use base::{DpPort, OfPort};
use common::{NORMAL, World, ct, output, resubmit};
use dpif::FlowStats;
use flow::text::{Mode, NoNames, parse_match};
use ofproto::port::{Peer, VlanConfig, VlanMode};
use ofproto::{BridgeSpec, FailMode, MirrorId, MirrorOutput, MirrorSpec, PortSpec};
use openflow::action::Action;

fn ports(list: &[u16]) -> BTreeSet<OfPort> {
    list.iter().map(|p| OfPort(*p)).collect()
}

/// Of every packet, to a port.
fn all_to(port: u16) -> MirrorSpec {
    MirrorSpec { all: true, ..between(&[], &[], port) }
}

/// Of what comes by some ports and goes by some, to a port.
fn between(src: &[u16], dst: &[u16], port: u16) -> MirrorSpec {
    MirrorSpec {
        all: false,
        src: ports(src),
        dst: ports(dst),
        vlans: BTreeSet::new(),
        filter: None,
        output: MirrorOutput::Port(OfPort(port)),
        snaplen: 0,
    }
}

/// Ports 2 to 5, all trunks, and mirrors.
fn world(mirrors: &[MirrorSpec]) -> World {
    let mut w = World::new();
    w.port(4, 4, "p4", VlanConfig::default());
    w.port(5, 5, "p5", VlanConfig::default());
    set(&mut w, mirrors);
    w
}

fn set(w: &mut World, mirrors: &[MirrorSpec]) {
    let with_ids = mirrors.iter().cloned().enumerate();
    let all: Vec<_> = with_ids.map(|(i, m)| (MirrorId(i as u128), m)).collect();
    w.bridge().set_mirrors(&all);
}

const VID_17: Action = Action::SetVlanVid { vid: 17, push: true };

#[test]
fn a_packet_is_copied_once_as_it_came_and_again_when_it_was_changed() {
    let mut w = world(&[all_to(5)]);
    w.add("in_port=2", &[output(3), output(4)]);
    w.add("in_port=3", &[VID_17, output(2)]);
    w.add("in_port=4", &[Action::SetTunnel { id: 1, wide: false }, output(2)]);
    assert_eq!(w.actions("in_port=2,ip"), "5,3,4");
    assert_eq!(w.actions("in_port=3,ip"), "5,push_vlan(vid=17,pcp=0),2,5");
    set(&mut w, &[]);
    assert_eq!(w.actions("in_port=2,ip"), "3,4");
}

#[test]
fn sources_and_destinations_are_chosen_by_port() {
    let mut w = world(&[between(&[2], &[], 5)]);
    w.add("in_port=2", &[output(3)]);
    w.add("in_port=3", &[output(2)]);
    assert_eq!(w.actions("in_port=2,ip"), "5,3");
    assert_eq!(w.actions("in_port=3,ip"), "2");
    set(&mut w, &[between(&[], &[2], 5)]);
    assert_eq!(w.actions("in_port=2,ip"), "3");
    assert_eq!(w.actions("in_port=3,ip"), "2,5");
    // Two mirrors with one output send it one copy, with another two.
    set(&mut w, &[between(&[3], &[], 5), between(&[], &[2], 5), between(&[], &[2], 4)]);
    assert_eq!(w.actions("in_port=3,ip"), "5,2,4");
}

#[test]
fn vlans_and_filters_choose_packets_and_are_looked_at() {
    let vlan = MirrorSpec { vlans: BTreeSet::from([11]), ..all_to(5) };
    let mut w = world(&[vlan]);
    w.add("in_port=2", &[output(3)]);
    assert_eq!(w.actions("in_port=2,ip"), "3");
    assert_eq!(w.actions("in_port=2,dl_vlan=10"), "3");
    assert_eq!(w.actions("in_port=2,dl_vlan=11"), "5,3");
    let key = w.dp_key("in_port=2,dl_vlan=11");
    assert_eq!(w.run_key(&key).mask.vlans[0].tci, 0x1fff);
    let filter = parse_match("tcp,tcp_dst=80", &NoNames, Mode::Strict).unwrap();
    set(&mut w, &[MirrorSpec { filter: Some(filter), ..all_to(5) }]);
    assert_eq!(w.actions("in_port=2,tcp,tcp_dst=80"), "5,3");
    assert_eq!(w.actions("in_port=2,tcp,tcp_dst=81"), "3");
    assert_eq!(w.actions("in_port=2,udp,udp_dst=80"), "3");
    let key = w.dp_key("in_port=2,tcp,tcp_dst=81");
    let mask = w.run_key(&key).mask;
    assert_eq!((mask.tp_dst, mask.tp_src, mask.nw_proto), (0xffff, 0, 0xff));
}

#[test]
fn the_output_port_is_for_nothing_else() {
    let mut w = world(&[between(&[2], &[], 5)]);
    w.add("", &[NORMAL]);
    let bc = "dl_src=02:00:00:00:00:0a,dl_dst=ff:ff:ff:ff:ff:ff";
    assert_eq!(w.actions(&format!("in_port=2,{bc}")), "5,1,3,4", "a copy, but no flood");
    assert_eq!(w.actions(&format!("in_port=5,{bc}")), "drop");
    assert_eq!(w.bridge().mac().len(), 1, "nothing is learned from it");
    // What was learned there before is not sent there.
    set(&mut w, &[between(&[2], &[], 4)]);
    w.actions("in_port=5,dl_src=02:00:00:00:00:0b,dl_dst=ff:ff:ff:ff:ff:ff");
    set(&mut w, &[between(&[3], &[], 5)]);
    assert_eq!(w.actions("in_port=2,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b"), "drop");
    // A port that is not there gets nothing, and nothing breaks.
    set(&mut w, &[between(&[2], &[], OfPort::NONE.0)]);
    assert_eq!(w.actions(&format!("in_port=2,{bc}")), "1,3,4,5");
}

#[test]
fn an_output_vlan_floods_copies() {
    let to_12 = MirrorSpec { output: MirrorOutput::Vlan(12), ..between(&[2], &[], 0) };
    let mut w = world(&[to_12]);
    w.port(4, 4, "p4", VlanConfig { mode: VlanMode::Access, tag: 12, ..VlanConfig::default() });
    w.port(5, 5, "p5", VlanConfig { mode: VlanMode::Access, tag: 13, ..VlanConfig::default() });
    w.add("in_port=2", &[output(3)]);
    // To all trunks, also that which it came by, and untagged to the VLAN's access port.
    let copies = "push_vlan(vid=12,pcp=0),1,2,3,pop_vlan,4,3";
    assert_eq!(w.actions("in_port=2,ip"), copies);
    assert_eq!(w.actions("in_port=2,dl_vlan=12"), "3", "it is there already");
    assert_eq!(
        w.actions("in_port=2,dl_dst=01:80:c2:00:00:00"),
        "3",
        "switches speak to each other"
    );
    // Who floods that VLAN on does not learn in it.
    let spec = BridgeSpec { flood_vlans: BTreeSet::from([12]), ..w.bridge().spec().clone() };
    let now = w.now;
    w.bridge().set_spec(spec, now);
    w.add("priority=40000", &[NORMAL]);
    set(&mut w, &[]);
    let a = "in_port=2,dl_vlan=12,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b";
    let b = "in_port=3,dl_vlan=12,dl_src=02:00:00:00:00:0b,dl_dst=02:00:00:00:00:0a";
    assert_eq!((w.actions(a), w.actions(b)), ("1,3,pop_vlan,4".into(), "1,2,pop_vlan,4".into()));
    assert!(w.bridge().mac().is_empty());
}

#[test]
fn copies_are_cut() {
    let mut w = world(&[MirrorSpec { snaplen: 100, ..all_to(5) }]);
    w.add("in_port=2", &[VID_17, output(3)]);
    assert_eq!(w.actions("in_port=2"), "trunc(100),5,push_vlan(vid=17,pcp=0),3,trunc(100),5");
    set(&mut w, &[MirrorSpec { snaplen: u16::MAX, ..between(&[2], &[], 5) }]);
    assert_eq!(w.actions("in_port=2"), "5,push_vlan(vid=17,pcp=0),3");
    // One that copies to several ports cuts for each of them.
    let to_12 = MirrorOutput::Vlan(12);
    set(&mut w, &[MirrorSpec { snaplen: 64, output: to_12, ..between(&[2], &[], 0) }]);
    assert!(w.actions("in_port=2").starts_with(
        "push_vlan(vid=12,pcp=0),trunc(64),1,trunc(64),2,trunc(64),3,trunc(64),4,trunc(64),5"
    ));
}

#[test]
fn a_packet_that_comes_back_from_the_datapath_is_not_copied_again() {
    let mut w = world(&[all_to(5)]);
    w.add("ip", &[ct(Some(1), false)]);
    w.add("table=1", &[output(3)]);
    let key = w.dp_key("in_port=2,ip");
    let x = w.run_key(&key);
    let Some(dpif::DpAction::Recirc(id)) = x.actions.last() else { panic!("{:?}", x.actions) };
    assert_eq!(x.actions[0], dpif::DpAction::Output(DpPort(5)));
    let key = flow::PacketKey { recirc_id: id.0, ct_state: 0x21, ..key };
    assert_eq!(w.run_key(&key).actions, [dpif::DpAction::Output(DpPort(3))]);
}

#[test]
fn each_bridge_has_its_own_mirrors() {
    let mut w = world(&[all_to(5)]);
    let now = w.now;
    let spec = BridgeSpec { fail_mode: FailMode::Secure, ..BridgeSpec::default() };
    let other = w.sw.put_bridge("br1", spec, now);
    let patch = |name: &str, peer: &str| PortSpec {
        name: name.into(),
        dp_port: DpPort::NONE,
        peer: Some(Peer { port: peer.into() }),
        ..PortSpec::default()
    };
    w.sw.put_port(w.br, OfPort(9), patch("to1", "to0"), now);
    w.sw.put_port(other, OfPort(9), patch("to0", "to1"), now);
    for n in [6, 7] {
        let (name, dp_port) = (format!("q{n}"), DpPort(n));
        w.sw.put_port(
            other,
            OfPort(n as u16),
            PortSpec { name, dp_port, ..PortSpec::default() },
            now,
        );
    }
    let there = w.sw.bridge_mut(other).unwrap();
    there.flow_mod(&common::flow_mod("", &[output(6)]), now).unwrap();
    there.set_mirrors(&[(MirrorId(1), all_to(7))]);
    w.add("in_port=2", &[output(9), output(3)]);
    assert_eq!(w.actions("in_port=2,ip"), "5,6,7,3");
}

#[test]
fn what_was_copied_is_counted() {
    let mut w = world(&[between(&[2], &[], 5), between(&[3], &[], 5)]);
    w.add("", &[resubmit(1)]);
    w.add("table=1", &[output(4)]);
    let key = w.dp_key("in_port=2,ip");
    let x = w.run_key(&key);
    let d = FlowStats { n_packets: 3, n_bytes: 300, ..FlowStats::default() };
    x.credits.add(&d);
    let counted = |w: &mut World| -> Vec<_> {
        w.bridge().mirror_stats().map(|(id, s)| (id.0, s.n_packets(), s.n_bytes())).collect()
    };
    assert_eq!(counted(&mut w), [(0, 4, 360), (1, 0, 0)], "one by running it");
    // A change does not begin anew, and what was cached before goes on counting for it.
    set(&mut w, &[between(&[2], &[], 4), between(&[3], &[], 5)]);
    x.credits.add(&d);
    assert_eq!(counted(&mut w)[0], (0, 7, 660));
}
