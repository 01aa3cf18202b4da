//! NORMAL, ports, controllers: conversations.

mod common;

use base::{DpPort, MacAddr, OfPort};
use common::{NORMAL, World, flow_mod, output, resubmit};
use dpif::{DpAction, DropReason, UserspaceCookie};
use ofproto::port::{Peer, VlanConfig, VlanMode};
use ofproto::{BridgeSpec, Event, FailMode, PortSpec};
use openflow::action::{Action, ControllerAction, PacketInReason};
use openflow::message::port_config;
use services::mac::Sighting;

fn vlan(mode: VlanMode, tag: u16, trunks: &[u16]) -> VlanConfig {
    VlanConfig { mode, tag, trunks: trunks.to_vec(), ..VlanConfig::default() }
}

/// Access port 2 in VLAN 10, access port 3 in VLAN 20, trunk 4, native-untagged 5 with VLAN 10.
fn vlans() -> World {
    let mut w = World::new();
    w.port(2, 2, "a10", vlan(VlanMode::Access, 10, &[]));
    w.port(3, 3, "a20", vlan(VlanMode::Access, 20, &[]));
    w.port(4, 4, "trunk", vlan(VlanMode::Trunk, 0, &[10, 20]));
    w.port(5, 5, "native", vlan(VlanMode::NativeUntagged, 10, &[30]));
    w.add("", &[NORMAL]);
    w
}

#[test]
fn learns_then_forwards_then_forgets() {
    let mut w = World::new();
    w.add("", &[NORMAL]);
    let a = "in_port=2,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b";
    let b = "in_port=3,dl_src=02:00:00:00:00:0b,dl_dst=02:00:00:00:00:0a";
    assert_eq!(w.actions(a), "1,3", "unknown: to all others");
    assert_eq!(w.actions(b), "2");
    assert_eq!(w.actions(a), "3");
    let same = "in_port=3,dl_src=02:00:00:00:00:0c,dl_dst=02:00:00:00:00:0b";
    assert_eq!(w.actions(same), "drop", "it is where it came from");
    w.pass(301);
    let now = w.now;
    w.bridge().expire(now);
    assert!(w.bridge().mac().is_empty());
    assert_eq!(w.actions(a), "1,3");
}

#[test]
fn a_cached_translation_keeps_its_source_address_alive() {
    let mut w = World::new();
    w.add("", &[NORMAL]);
    let a = "in_port=2,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b";
    w.run(a);
    let x = w.run(a);
    assert!(x.effects.is_empty(), "nothing new in the same second");
    w.pass(200);
    let d = dpif::FlowStats { n_packets: 1, n_bytes: 60, used: Some(w.now), tcp_flags: 0 };
    x.credits.add(&d);
    w.pass(200);
    let now = w.now;
    w.bridge().expire(now);
    assert_eq!(w.bridge().mac().len(), 1);
}

#[test]
fn vlans_stay_apart_and_tags_come_and_go() {
    let mut w = vlans();
    let bc = "dl_dst=ff:ff:ff:ff:ff:ff";
    let from = |port: u16, rest: &str| {
        format!("in_port={port},dl_src=02:00:00:00:00:{port:02x},{bc}{rest}")
    };
    // LOCAL (1) is a trunk of all VLANs.
    assert_eq!(w.actions(&from(2, "")), "push_vlan(vid=10,pcp=0),1,4,pop_vlan,5");
    assert_eq!(w.actions(&from(3, "")), "push_vlan(vid=20,pcp=0),1,4");
    assert_eq!(w.actions(&from(4, ",dl_vlan=10")), "1,pop_vlan,2,5");
    assert_eq!(w.actions(&from(4, ",dl_vlan=30")), "drop", "not trunked");
    assert_eq!(w.actions(&from(5, ",dl_vlan=30")), "1");
    assert_eq!(
        w.actions(&from(5, "")),
        "push_vlan(vid=10,pcp=0),1,pop_vlan,2,push_vlan(vid=10,pcp=0),4"
    );
    assert_eq!(w.actions(&from(2, ",dl_vlan=10")), "drop", "tagged on an access port");
    let to2 = "in_port=4,dl_vlan=10,dl_src=02:00:00:00:00:04,dl_dst=02:00:00:00:00:02";
    assert_eq!(w.actions(to2), "pop_vlan,2");
    let other = "in_port=4,dl_vlan=20,dl_src=02:00:00:00:00:04,dl_dst=02:00:00:00:00:02";
    assert_eq!(w.actions(other), "1,pop_vlan,3", "learned in another VLAN");
}

#[test]
fn bridge_group_addresses_are_not_forwarded() {
    let mut w = World::new();
    w.add("", &[NORMAL]);
    let bpdu = "in_port=2,dl_src=02:00:00:00:00:0a,dl_dst=01:80:c2:00:00:00";
    assert_eq!(w.actions(bpdu), "drop");
    assert!(w.bridge().mac().is_empty());
    let spec = BridgeSpec { forward_bpdu: true, ..w.bridge().spec().clone() };
    let now = w.now;
    w.bridge().set_spec(spec, now);
    assert_eq!(w.actions(bpdu), "1,3");
}

#[test]
fn reserved_ports() {
    let mut w = World::new();
    let port = |port| Action::Output { port, max_len: 0 };
    w.add("priority=1", &[port(OfPort::FLOOD)]);
    w.add("priority=2,udp", &[port(OfPort::ALL), port(OfPort::IN_PORT)]);
    w.add("priority=2,tcp", &[output(2), port(OfPort::LOCAL), output(9)]);
    w.add("priority=2,arp", &[port(OfPort::NONE.min(OfPort::LOCAL))]);
    assert_eq!(w.actions("in_port=2,dl_type=0x1234"), "1,3");
    assert_eq!(w.actions("in_port=2,udp"), "1,3,2");
    assert_eq!(w.actions("in_port=2,tcp"), "1", "never back out, never to what is not there");
    assert_eq!(w.actions("in_port=3,tcp"), "2,1");
    assert_eq!(w.actions("in_port=2,arp"), "1");
}

#[test]
fn port_configuration_stops_packets() {
    use port_config::{NO_FLOOD, NO_FWD, NO_RECV};
    let mut w = World::new();
    w.add("priority=1", &[Action::Output { port: OfPort::FLOOD, max_len: 0 }]);
    w.add("priority=2,tcp", &[output(3)]);
    w.add("priority=2,udp", &[NORMAL]);
    assert_eq!(w.actions("in_port=2,tcp"), "3");
    w.config(3, NO_FLOOD);
    assert_eq!(w.actions("in_port=2,arp"), "1");
    assert_eq!(w.actions("in_port=2,udp,dl_dst=ff:ff:ff:ff:ff:ff"), "1");
    // To itself: where it is, is known by the time that is looked up.
    assert_eq!(w.actions("in_port=2,udp"), "drop");
    assert_eq!(w.actions("in_port=2,tcp"), "3");
    w.config(3, NO_FWD);
    assert_eq!(w.actions("in_port=2,tcp"), "drop");
    w.config(3, 0);
    w.config(2, NO_RECV);
    let x = w.run("in_port=2,tcp");
    assert_eq!(x.actions, [DpAction::Drop(DropReason::ForwardingDisabled)]);
    let nowhere =
        w.sw.xlate(w.now, &flow::PacketKey { in_port: 77, ..flow::PacketKey::ZERO }, None);
    assert_eq!(nowhere.drop, Some(DropReason::BridgeNotFound));
}

#[test]
fn protected_ports_do_not_talk_to_each_other() {
    let mut w = World::new();
    w.add("", &[NORMAL]);
    for (n, name) in [(2, "vm1p"), (3, "vm2p")] {
        let old = w.bridge().port(OfPort(n)).unwrap().spec.clone();
        assert_eq!(old.name, name);
        let (br, now) = (w.br, w.now);
        w.sw.put_port(br, OfPort(n), PortSpec { protected: true, ..old }, now);
    }
    assert_eq!(w.actions("in_port=2,arp,dl_dst=ff:ff:ff:ff:ff:ff"), "1");
    assert_eq!(w.actions("in_port=LOCAL,arp,dl_dst=ff:ff:ff:ff:ff:ff"), "2,3");
}

#[test]
fn resubmits_are_bounded() {
    let mut w = World::new();
    w.add("priority=1", &[resubmit(0)]);
    let x = w.run("in_port=2,ip");
    assert_eq!(x.drop, Some(DropReason::RecursionTooDeep));
    assert_eq!(x.actions, [DpAction::Drop(DropReason::RecursionTooDeep)]);
    // Twelve tables that each resubmit twice to the next: 8190 resubmits, depth 0.
    let mut w = World::new();
    for t in 0..12 {
        w.add(&format!("table={t}"), &[resubmit(t + 1), resubmit(t + 1)]);
    }
    assert_eq!(w.run("in_port=2,ip").drop, Some(DropReason::TooManyResubmits));
}

#[test]
fn a_long_chain_of_tables_is_no_recursion() {
    let mut w = World::new();
    for t in 0..253u8 {
        w.add(&format!("table={t}"), &[Action::GotoTable(base::TableId(t + 1))]);
    }
    w.add("table=253", &[output(3)]);
    assert_eq!(w.actions("in_port=2,ip"), "3");
}

#[test]
fn a_controller_gets_the_packet_and_the_pipeline_with_it() {
    let mut w = World::new();
    let reg = Action::SetField { field: flow::FieldId::Reg5, value: 77, mask: 0xffff_ffff };
    let c = ControllerAction { max_len: 40, userdata: vec![1, 2], ..Default::default() };
    let set = Action::SetEthSrc(base::MacAddr([2; 6]));
    w.add("table=4,cookie=99", &[set, Action::Controller(Box::new(c))]);
    w.add("", &[reg, resubmit(4), output(3)]);
    let key = w.dp_key("in_port=2,udp");
    let x = w.run_key(&key);
    let [DpAction::Set(_), DpAction::Userspace(cookie), DpAction::Output(DpPort(3))] =
        &x.actions[..]
    else {
        panic!("{:?}", x.actions)
    };
    let UserspaceCookie::Controller(cookie) = &**cookie else { panic!() };
    let (br, event) = w.sw.packet_in(cookie, &[7; 60], &key).unwrap();
    assert_eq!(br, w.br);
    let Event::PacketIn(p) = event else { panic!() };
    assert_eq!((p.table.0, p.cookie, p.reason), (4, 99, PacketInReason::Action));
    assert_eq!((p.metadata.key.regs[5], p.metadata.key.pkt.in_port), (77, 2));
    let m = p.message(Default::default(), openflow::version::Version::Of13);
    assert_eq!((m.packet.len(), m.total_len, &m.userdata[..]), (60, 60, &[1, 2][..]));
}

#[test]
fn a_spent_ttl_goes_to_the_controller_and_ends_the_list() {
    let mut w = World::new();
    w.add("", &[Action::DecTtl(vec![0]), output(3)]);
    assert_eq!(w.actions("in_port=2,ip,nw_ttl=9,nw_proto=6"), "set(ipv4(ttl=8)),3");
    assert_eq!(w.actions("in_port=2,dl_type=0x1234"), "3");
    let x = w.run("in_port=2,ip,nw_ttl=1");
    let [DpAction::Userspace(c)] = &x.actions[..] else { panic!("{:?}", x.actions) };
    let UserspaceCookie::Controller(c) = &**c else { panic!() };
    assert_eq!(c.reason, PacketInReason::InvalidTtl as u8);
}

#[test]
fn misses_go_to_a_controller_that_wants_them() {
    let mut w = World::new();
    assert_eq!(w.actions("in_port=2,ip"), "drop");
    let before = w.sw.generation();
    w.bridge().set_miss_to_controller(true);
    assert_ne!(w.sw.generation(), before);
    let x = w.run("in_port=2,ip");
    assert!(matches!(x.actions[..], [DpAction::Userspace(_)]));
    w.add("table=0", &[resubmit(1)]);
    assert_eq!(w.actions("in_port=2,ip"), "drop", "a resubmit that finds nothing is no miss");
    w.add("table=0", &[Action::GotoTable(base::TableId(1))]);
    assert!(matches!(w.run("in_port=2,ip").actions[..], [DpAction::Userspace(_)]));
}

#[test]
fn a_clone_leaves_the_packet_as_it_was() {
    let mut w = World::new();
    let ttl = Action::SetNwTtl(3);
    w.add("", &[Action::Clone(vec![ttl, output(2)]), output(1), output(3)]);
    w.port(1, 4, "p1", VlanConfig::default());
    let got = w.actions("in_port=3,ip,nw_proto=6,nw_ttl=9");
    assert_eq!(got, "set(ipv4(ttl=3)),2,set(ipv4(ttl=9)),4");
    let inner = vec![common::ct(None, true), output(2)];
    w.add("", &[Action::Clone(inner), output(1)]);
    assert_eq!(w.actions("in_port=3,ip,nw_proto=6"), "clone(ct(commit),2),4");
}

#[test]
fn what_is_not_ip_goes_to_the_tracker_too() {
    let mut w = World::new();
    w.add("table=0", &[common::ct(Some(1), false)]);
    w.add("table=1,priority=1", &[]);
    w.add("table=1,priority=2,ct_state=+trk+inv", &[output(3)]);
    let mut key = w.dp_key("in_port=2,arp");
    let x = w.run_key(&key);
    let [DpAction::Ct(_), DpAction::Recirc(id)] = x.actions[..] else { panic!("{:?}", x.actions) };
    key.recirc_id = id.0;
    key.ct_state = flow::ct_state::TRK | flow::ct_state::INV;
    let x = w.run_key(&key);
    assert_eq!(x.actions, [DpAction::Output(DpPort(3))]);
}

#[test]
fn a_patch_port_is_a_wire_to_another_bridge() {
    let mut w = World::new();
    w.add("in_port=2", &[Action::SetVlanVid { vid: 5, push: true }, output(9), output(3)]);
    let now = w.now;
    let spec = BridgeSpec { fail_mode: FailMode::Standalone, ..BridgeSpec::default() };
    let other = w.sw.put_bridge("br1", spec, now);
    let patch = |name: &str, peer: &str| PortSpec {
        name: name.into(),
        dp_port: DpPort::NONE,
        peer: Some(Peer { port: peer.into() }),
        admin_up: true,
        ..PortSpec::default()
    };
    let br = w.br;
    w.sw.put_port(br, OfPort(9), patch("p01", "p10"), now);
    w.sw.put_port(other, OfPort(1), patch("p10", "p01"), now);
    let tap = PortSpec { name: "t".into(), dp_port: DpPort(8), ..PortSpec::default() };
    w.sw.put_port(other, OfPort(2), tap, now);
    let got = w.actions("in_port=2,dl_src=02:00:00:00:00:0a,dl_dst=ff:ff:ff:ff:ff:ff");
    assert_eq!(got, "push_vlan(vid=5,pcp=0),8,3");
    let learned = w.sw.bridge(other).unwrap().mac().rows(now).next().unwrap();
    assert_eq!((learned.port, learned.vlan), (OfPort(1), 5));
    let ends = [(br, 9), (other, 1)].map(|(id, port)| {
        let stats = &w.sw.bridge(id).unwrap().port(OfPort(port)).unwrap().patch_stats;
        (stats.rx(), stats.tx())
    });
    assert_eq!(ends, [((0, 0), (1, 60)), ((1, 60), (0, 0))]);
}

#[test]
fn a_port_that_goes_takes_its_addresses_out_of_all_bridges() {
    let mut w = World::new();
    let (br, now) = (w.br, w.now);
    let other = w.sw.put_bridge("br1", BridgeSpec::default(), now);
    let port = |name: &str| PortSpec { name: name.into(), ..PortSpec::default() };
    w.sw.put_port(other, OfPort(1), port("x"), now);
    let learn = |sw: &mut ofproto::Switch, br, mac, port| {
        let seen = Sighting { vlan: 0, mac, port, gratuitous_arp: false, bond: false };
        sw.bridge_mut(br).unwrap().learn_mac(&seen, now);
    };
    let (moving, staying) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    learn(&mut w.sw, br, moving, OfPort(2));
    learn(&mut w.sw, other, moving, OfPort(1));
    learn(&mut w.sw, other, staying, OfPort(1));
    let fixed = |sw: &mut ofproto::Switch, mac| {
        sw.bridge_mut(other).unwrap().with_mac(|t| t.add_static(9, mac, OfPort(1), now))
    };
    learn(&mut w.sw, br, staying, OfPort(3));
    assert!(fixed(&mut w.sw, moving));
    w.sw.remove_port(br, OfPort(2));
    let left: Vec<_> =
        w.sw.bridge(other).unwrap().mac().rows(now).map(|r| (r.vlan, r.mac)).collect();
    assert_eq!(left, [(0, staying), (9, moving)]);
    assert_eq!(w.sw.bridge(br).unwrap().mac().len(), 1);
}

#[test]
fn changes_that_matter_grow_the_generation() {
    let mut w = World::new();
    let mut last = w.sw.generation();
    let mut grew = |w: &World| {
        let now = w.sw.generation();
        core::mem::replace(&mut last, now) != now
    };
    w.add("", &[NORMAL]);
    assert!(grew(&w));
    w.run("in_port=2,dl_src=02:00:00:00:00:0a");
    assert!(grew(&w), "a new address");
    w.run("in_port=2,dl_src=02:00:00:00:00:0a");
    assert!(!grew(&w));
    w.config(2, port_config::NO_FLOOD);
    assert!(grew(&w));
    let (br, now) = (w.br, w.now);
    w.sw.remove_port(br, OfPort(2));
    assert!(grew(&w));
    let fm = flow_mod("", &[]);
    w.bridge().flow_mod(&fm, now).unwrap();
    assert!(grew(&w));
}

#[test]
fn a_dot1q_tunnel_puts_a_tag_around_and_takes_it_off() {
    let mut w = World::new();
    let tunnel = VlanConfig {
        cvlans: vec![0, 7],
        qinq_ethertype: 0x88a8,
        ..vlan(VlanMode::Dot1qTunnel, 30, &[])
    };
    w.port(2, 2, "customer", tunnel);
    w.port(3, 3, "trunk", vlan(VlanMode::Trunk, 0, &[30]));
    w.port(OfPort::LOCAL.0, 1, "br0", vlan(VlanMode::Access, 1, &[]));
    w.add("", &[NORMAL]);
    let from = |port: u16, tag: &str| {
        format!("in_port={port},dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b,{tag}")
    };
    assert_eq!(w.actions(&from(2, "")), "push_vlan(tpid=0x88a8,vid=30,pcp=0),3");
    assert_eq!(
        w.actions(&from(2, "dl_vlan=7,dl_vlan_pcp=3")),
        "push_vlan(tpid=0x88a8,vid=30,pcp=0),3"
    );
    assert_eq!(w.actions(&from(2, "dl_vlan=8")), "drop", "no VLAN of this customer");
    assert_eq!(w.actions(&from(3, "dl_vlan=30")), "pop_vlan,2");
    assert_eq!(w.actions(&from(3, "dl_vlan=31")), "drop");
}

#[test]
fn packets_for_a_queue_get_its_dscp() {
    let mut w = World::new();
    let mut spec = w.bridge().port(OfPort(3)).unwrap().spec.clone();
    spec.queue_dscp = [(1, 1), (2, 2)].into();
    let now = w.now;
    w.sw.put_port(w.br, OfPort(3), spec, now);
    let enqueue = |queue| Action::Enqueue { port: OfPort(3), queue };
    w.add("", &[enqueue(1), enqueue(2), common::output(3), common::output(1)]);
    let local = Action::Output { port: OfPort::LOCAL, max_len: 0 };
    w.add("priority=40000,in_port=2,ip,nw_tos=4", &[enqueue(2), local.clone()]);
    assert_eq!(
        w.actions("in_port=2,ip,nw_tos=252"),
        "set(ipv4(tos=0x4/0xfc)),set(skb_priority(0x1)),3,\
         set(ipv4(tos=0x8/0xfc)),set(skb_priority(0x2)),3,\
         set(ipv4(tos=0xfc/0xfc)),set(skb_priority(0)),3"
    );
    let back = "set(ipv4(tos=0x8/0xfc)),set(skb_priority(0x2)),3,\
                set(ipv4(tos=0x4/0xfc)),set(skb_priority(0)),1";
    assert_eq!(w.actions("in_port=2,ip,nw_tos=4"), back, "for that port only");
    assert_eq!(
        w.actions("in_port=2,arp"),
        "set(skb_priority(0x1)),3,set(skb_priority(0x2)),3,set(skb_priority(0)),3"
    );
    let key = w.dp_key("in_port=2,ip,nw_tos=4");
    assert_eq!(w.run_key(&key).mask.skb_priority, u32::MAX);
}

#[test]
fn a_static_address_elsewhere_is_counted_and_not_learned() {
    let mut w = World::new();
    w.add("", &[NORMAL]);
    let (mac, now) = (MacAddr([2, 0, 0, 0, 0, 10]), w.now);
    w.bridge().with_mac(|t| t.add_static(0, mac, OfPort(2), now));
    let from = |p: u16| format!("in_port={p},dl_src={mac},dl_dst=02:00:00:00:00:0b");
    w.run(&from(2));
    assert_eq!(w.bridge().mac().totals().n_static_elsewhere, 0);
    w.run(&from(3));
    assert_eq!(w.bridge().mac().lookup(0, mac, now), Some(OfPort(2)));
    w.bridge().with_mac(|t| t.clear_stats());
    let mac = w.bridge().mac();
    assert_eq!((mac.totals().n_static_elsewhere, mac.stats().n_static_elsewhere), (1, 0));
}
