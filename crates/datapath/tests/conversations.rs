//! Packets in, packets out, on a simulated clock.

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use base::{DpPort, Duration, RecircId};
use common::{Net, Policy, Tcp, commit, five_tuple_mask, out, tcp, udp};
use conntrack::{ConnFilter, CtRequest};
use datapath::{Config, Error};
use dpif::{
    ControllerCookie, DpAction, DropReason, NshHeader, SetGroup, SetMasked, UserspaceCookie,
};
use flow::{PacketKey, ct_state};
use netdev::dummy::Dummy;
use packet::{GsoType, Offload, PacketBuf};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn counts(outputs: &[Vec<PacketBuf>]) -> Vec<usize> {
    outputs.iter().map(Vec::len).collect()
}

fn set_src_mac(last: u8) -> DpAction {
    let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
    (value.dl_src, mask.dl_src) = ([2, 0, 0, 0, 9, last], [0xff; 6]);
    DpAction::Set(Box::new(SetMasked { group: SetGroup::Eth, value, mask }))
}

#[test]
fn a_hit_does_what_the_miss_did() {
    let net = Net::simulated(3, Policy::new(|_| (five_tuple_mask(), vec![out(2), out(3)])));
    let p = udp(A, B, 1000, 53, b"query");
    for _ in 0..3 {
        let o = net.send(1, &p);
        assert_eq!(counts(&o), [0, 1, 1]);
        assert_eq!((o[1][0].frame(), o[2][0].frame()), (p.frame(), p.frame()));
    }
    let s = net.dp.stats();
    assert_eq!((s.missed, s.hit_megaflow, s.hit_exact + s.hit_conn, s.packets), (1, 1, 1, 3));
    let flow = &net.dp.flows()[0];
    assert_eq!((flow.stats().n_packets, flow.stats().n_bytes), (2, 2 * p.len() as u64));
    net.dp.push_stats();
    assert_eq!(net.policy.rule.n_packets.load(SeqCst), 3);
    assert_eq!(net.policy.rule.n_bytes.load(SeqCst), 3 * p.len() as u64);
}

#[test]
fn what_is_not_cached_asks_each_time() {
    let mut policy = Policy::new(|_| (PacketKey::ZERO, vec![out(2)]));
    policy.install = false;
    let net = Net::simulated(2, policy);
    for _ in 0..3 {
        assert_eq!(counts(&net.send(1, &udp(A, B, 1, 2, b""))), [0, 1]);
    }
    assert_eq!((net.dp.stats().missed, net.dp.n_flows()), (3, 0));
}

#[test]
fn each_output_sends_the_packet_as_it_was_then() {
    let policy = Policy::new(|_| {
        (
            PacketKey::ZERO,
            vec![
                out(2),
                set_src_mac(1),
                out(3),
                DpAction::PushVlan { tpid: 0x8100, tci: 5 },
                out(4),
                DpAction::Trunc(20),
                out(2),
                DpAction::PopVlan,
                out(3),
                DpAction::Clone(Box::new([set_src_mac(2), out(2)])),
                out(4),
            ],
        )
    });
    let net = Net::simulated(4, policy);
    let p = udp(A, B, 1, 2, b"payload");
    for _ in 0..2 {
        let o = net.send(1, &p);
        assert_eq!(counts(&o), [0, 3, 2, 2]);
        let mut mac1 = p.frame().to_vec();
        mac1[6..12].copy_from_slice(&[2, 0, 0, 0, 9, 1]);
        let mut tagged = mac1.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let mut mac2 = mac1.clone();
        mac2[11] = 2;
        assert_eq!(o[1][0].frame(), p.frame());
        assert_eq!(o[2][0].frame(), mac1);
        assert_eq!(o[3][0].frame(), tagged);
        assert_eq!(o[1][1].frame(), &tagged[..20]);
        assert_eq!(o[2][1].frame(), mac1);
        assert_eq!(o[1][2].frame(), mac2);
        assert_eq!(o[3][1].frame(), mac1, "the clone's change stays in the clone");
    }
}

#[test]
fn packets_of_a_batch_leave_in_their_order_whatever_flows_they_hit() {
    let policy = Policy::new(|k| {
        let mut actions = vec![out(2)];
        if k.tp_dst % 3 == 0 && k.recirc_id == 0 {
            actions = vec![DpAction::Recirc(RecircId(7))];
        } else if k.tp_dst % 3 == 1 {
            actions.insert(0, set_src_mac(3));
        }
        (five_tuple_mask(), actions)
    });
    let net = Net::simulated(2, policy);
    for _ in 0..3 {
        let batch: Vec<_> = (0..30).map(|i| udp(A, B, 9, i % 7, &[i as u8])).collect();
        net.inject(1, &batch);
        net.run();
        let o = net.outputs();
        let seen: Vec<u8> = o[1].iter().map(|p| p.frame()[42]).collect();
        assert_eq!(seen, (0..30).collect::<Vec<u8>>());
    }
    assert!(net.dp.stats().recirculated > 0);
}

#[test]
fn a_large_packet_passes_whole_and_its_metadata_follows_the_tags() {
    let policy = Policy::new(|k| match k.in_port {
        1 => (PacketKey::ZERO, vec![DpAction::PushVlan { tpid: 0x8100, tci: 9 }, out(2)]),
        _ => (PacketKey::ZERO, vec![DpAction::PopVlan, out(1)]),
    });
    let net = Net::simulated(2, policy);
    let t = Tcp { src: A, dst: B, sport: 5, dport: 6, seq: 1, ack: 1, flags: 0x10 };
    let mut p = tcp(t, &vec![7; 60_000]);
    p.offload = Offload {
        needs_csum: true,
        gso_type: GsoType::TcpV4,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        ..Offload::default()
    };
    let o = net.send(1, &p);
    let tagged = &o[1][0];
    assert_eq!(tagged.len(), p.len() + 4);
    assert_eq!(tagged.offload, Offload { csum_start: 38, hdr_len: 58, ..p.offload });
    let o = net.send(2, tagged);
    assert_eq!((o[0][0].frame(), o[0][0].offload), (p.frame(), p.offload));
    let flow = net.dp.flows().into_iter().find(|f| f.key.in_port == 1).unwrap();
    net.send(1, &p);
    assert_eq!((flow.stats().n_packets, flow.stats().n_bytes), (1, p.len() as u64));
}

#[test]
fn endless_recirculation_ends_and_is_counted() {
    let policy = Policy::new(|k| {
        (PacketKey::ZERO, vec![out(2), DpAction::Recirc(RecircId(k.recirc_id + 1))])
    });
    let net = Net::simulated(2, policy);
    for _ in 0..2 {
        assert_eq!(counts(&net.send(1, &udp(A, B, 1, 2, b""))), [0, 7]);
    }
    assert_eq!(net.dp.stats().dropped(DropReason::Recirculation), 2);
}

#[test]
fn every_drop_has_its_reason() {
    let nested = (0..20).fold(out(2), |a, _| DpAction::Clone(Box::new([a, DpAction::CtClear])));
    let policy = Policy::new(move |k| {
        let actions = match k.tp_dst {
            1 => vec![],
            2 => vec![set_src_mac(1)],
            3 => vec![DpAction::Drop(DropReason::ForwardingDisabled), out(2)],
            4 => vec![out(9)],
            5 => vec![nested.clone()],
            6 => vec![DpAction::Ct(Box::default())],
            _ => vec![out(2)],
        };
        (five_tuple_mask(), actions)
    });
    let net = Net::simulated(2, policy);
    for _ in 0..2 {
        for port in 1..=7 {
            let o = net.send(1, &udp(A, B, 1, port, b""));
            assert_eq!(counts(&o), [0, usize::from(port == 7)], "{port}");
        }
        net.send(1, &PacketBuf::from_frame(&[1; 13]));
    }
    let s = net.dp.stats();
    let expected = [
        (DropReason::Pipeline, 6),
        (DropReason::ForwardingDisabled, 2),
        (DropReason::InvalidPort, 2),
        (DropReason::NestingTooDeep, 2),
        (DropReason::RxInvalidPacket, 2),
    ];
    for (reason, _, _) in DropReason::ALL {
        let want = expected.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        assert_eq!(s.dropped(*reason), want, "{reason}");
    }
}

#[test]
fn a_full_port_is_counted() {
    let net = Net::simulated(1, Policy::new(|_| (PacketKey::ZERO, vec![out(5)])));
    let (mut small, end) = Dummy::new("small", 64);
    net.dp.add_port(DpPort(5), &mut small).unwrap();
    net.send(1, &udp(A, B, 1, 2, &[0; 200]));
    net.send(1, &udp(A, B, 1, 2, &[0; 10]));
    assert_eq!(net.dp.stats().dropped(DropReason::TxFull), 1);
    assert_eq!(std::iter::from_fn(|| end.take()).count(), 1);
}

#[test]
fn each_ct_action_sees_the_packet_as_it_is_by_then() {
    let to = |last: u8| {
        let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
        (value.nw_dst, mask.nw_dst) = (u32::from_be_bytes([10, 0, 0, last]), u32::MAX);
        DpAction::Set(Box::new(SetMasked { group: SetGroup::Ipv4, value, mask }))
    };
    let net = Net::simulated(
        2,
        Policy::new(move |k| match k.recirc_id {
            0 => (
                five_tuple_mask(),
                vec![commit(1), commit(2), to(7), commit(2), DpAction::Recirc(RecircId(1))],
            ),
            _ => (five_tuple_mask(), vec![commit(3), to(8), commit(3), out(2)]),
        }),
    );
    // The second is read into the place of the first.
    for (port, round) in [(1000, 1), (1001, 2)] {
        let o = net.send(1, &udp(A, B, port, 53, b"query"));
        assert_eq!(o[1][0].frame()[30..34], [10, 0, 0, 8]);
        let mut seen = Vec::new();
        net.dp.conntrack().dump(net.now, &ConnFilter::default(), |c| {
            seen.extend((c.orig.src_id == port).then_some((c.zone.0, c.orig.dst)));
        });
        seen.sort_unstable();
        let expected = [(1, 2), (2, 2), (2, 7), (3, 7), (3, 8)];
        let expected = expected.map(|(zone, last)| (zone, Ipv4Addr::new(10, 0, 0, last).into()));
        assert_eq!((seen, net.dp.conntrack().len()), (expected.to_vec(), round * 5));
    }
}

#[test]
fn ct_actions_behind_a_pushed_tag_see_what_it_hides() {
    let push = DpAction::PushVlan { tpid: 0x88a8, tci: 7 };
    let actions = vec![push, commit(1), commit(2), out(2)];
    let net = Net::simulated(2, Policy::new(move |_| (five_tuple_mask(), actions.clone())));
    let mut frame = udp(A, B, 1000, 53, b"query").frame().to_vec();
    frame.splice(12..12, [0x81, 0, 0, 5]);
    net.send(1, &PacketBuf::from_frame(&frame));
    let mut zones = Vec::new();
    net.dp.conntrack().dump(net.now, &ConnFilter::default(), |c| zones.push(c.zone.0));
    zones.sort_unstable();
    assert_eq!(zones, [1, 2]);
}

/// The seven lines of the story on ports 2 and 3: 2 may open connections, 3 may only answer.
fn stateful(k: &PacketKey) -> (PacketKey, Vec<DpAction>) {
    let mut m = PacketKey::ZERO;
    let ct = |commit| DpAction::Ct(Box::new(CtRequest { commit, ..CtRequest::default() }));
    if k.recirc_id == 0 {
        return (m, vec![ct(false), DpAction::Recirc(RecircId(1))]);
    }
    m.ct_state = ct_state::NEW | ct_state::EST;
    let actions = match (k.in_port, k.ct_state & ct_state::NEW, k.ct_state & ct_state::EST) {
        (2, 1, _) => vec![ct(true), out(3)],
        (3, 1, _) => vec![],
        (2, _, 2) => vec![out(3)],
        (3, _, 2) => vec![out(2)],
        _ => vec![],
    };
    (m, actions)
}

#[test]
fn the_stateful_policy_lets_one_side_open_connections() {
    let net = Net::simulated(3, Policy::new(stateful));
    let ab = Tcp { src: A, dst: B, sport: 4000, dport: 80, seq: 100, ack: 0, flags: 2 };
    let ba = Tcp { src: B, dst: A, sport: 80, dport: 4000, seq: 500, ack: 101, flags: 0x12 };
    // Unasked from 3: stopped.
    assert_eq!(counts(&net.send(3, &tcp(Tcp { flags: 2, ack: 0, ..ba }, b""))), [0, 0, 0]);
    // Handshake opened by 2, and data both ways.
    assert_eq!(counts(&net.send(2, &tcp(ab, b""))), [0, 0, 1]);
    assert_eq!(counts(&net.send(3, &tcp(ba, b""))), [0, 1, 0]);
    let ab = Tcp { seq: 101, ack: 501, flags: 0x10, ..ab };
    let ba = Tcp { seq: 501, ack: 101, flags: 0x18, ..ba };
    for _ in 0..2 {
        assert_eq!(counts(&net.send(2, &tcp(ab, b""))), [0, 0, 1]);
        assert_eq!(counts(&net.send(3, &tcp(ba, b"hello"))), [0, 1, 0]);
    }
    let mut conns = Vec::new();
    net.dp.conntrack().dump(net.now, &ConnFilter::default(), |c| conns.push(*c));
    assert_eq!(conns.len(), 1);
    assert!(conns[0].assured && conns[0].seen_reply);
    assert_eq!(conns[0].tcp.unwrap().state().name(), "ESTABLISHED");
    // What the later pass of a stopped packet looks like in a dump.
    let stopped = net.dp.flows().into_iter().find(|f| f.actions.is_empty()).unwrap();
    let text = stopped.text(net.now, false, dpif::text::NO_NAMES).to_string();
    assert_eq!(
        text,
        "recirc_id(0x1),in_port(3),ct_state(+new-est),packet_type(ns=0,id=0),eth_type(0x0800),\
         ipv4(frag=no), packets:0, bytes:0, used:never, actions:drop"
    );
    assert_eq!(net.dp.conntrack().delete(net.now, &ConnFilter::default()), 1);
    assert_eq!(counts(&net.send(3, &tcp(Tcp { flags: 2, ..ba }, b""))), [0, 0, 0]);
}

#[test]
fn a_new_generation_confirms_what_is_right_and_replaces_what_is_wrong() {
    let net = Net::simulated(3, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    let p = udp(A, B, 1, 2, b"");
    (0..2).for_each(|_| drop(net.send(1, &p)));
    let flow = net.dp.flows()[0].clone();
    // Same translation: the megaflow stays, the packet counts as any other.
    net.policy.change(|_| (five_tuple_mask(), vec![out(2)]));
    assert_eq!(counts(&net.send(1, &p)), [0, 1, 0]);
    assert!(Arc::ptr_eq(&flow, &net.dp.flows()[0]));
    let s = net.dp.stats();
    assert_eq!((s.missed, s.stale, flow.stats().n_packets), (1, 1, 2));
    // Another translation: it is replaced, and what it had counted is still shown.
    net.policy.change(|_| (five_tuple_mask(), vec![out(3)]));
    assert_eq!(counts(&net.send(1, &p)), [0, 0, 1]);
    assert!(flow.is_dead());
    assert_eq!((net.dp.n_flows(), net.dp.flows()[0].actions[0].clone()), (1, out(3)));
    // Wider: the old one goes.
    net.policy.change(|_| (PacketKey::ZERO, vec![out(2)]));
    assert_eq!(counts(&net.send(1, &p)), [0, 1, 0]);
    assert_eq!(net.dp.n_flows(), 1);
    net.dp.push_stats();
    assert_eq!(net.policy.rule.n_packets.load(SeqCst), 5);
}

#[test]
fn while_the_tables_change_a_known_flow_goes_on_as_before() {
    let net = Net::simulated(3, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    let p = udp(A, B, 1, 2, b"");
    (0..2).for_each(|_| drop(net.send(1, &p)));
    net.policy.changing.store(true, SeqCst);
    net.policy.change(|_| (five_tuple_mask(), vec![out(3)]));
    assert_eq!(counts(&net.send(1, &p)), [0, 1, 0]);
    assert_eq!(net.dp.revalidate(net.now), 0);
    net.policy.changing.store(false, SeqCst);
    assert_eq!(counts(&net.send(1, &p)), [0, 0, 1]);
    let s = net.dp.stats();
    assert_eq!((s.missed, s.stale), (2, 1));
}

#[test]
fn the_revalidator_puts_flows_right_that_nobody_uses() {
    let net = Net::simulated(3, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    (0..5).for_each(|i| drop(net.send(1, &udp(A, B, 1, i, b""))));
    (0..5).for_each(|i| drop(net.send(1, &udp(A, B, 1, i, b""))));
    assert_eq!(net.dp.revalidate(net.now), 0);
    net.policy.change(|k| (five_tuple_mask(), vec![out(if k.tp_dst < 3 { 2 } else { 3 })]));
    assert_eq!(net.dp.revalidate(net.now), 2);
    let flows = net.dp.flows();
    assert_eq!(flows.len(), 5);
    for f in &flows {
        let right = if f.key.tp_dst < 3 { 2 } else { 3 };
        assert_eq!((f.actions[0].clone(), f.stats().n_packets), (out(right), 1));
    }
    let before = net.dp.stats().missed;
    assert_eq!(counts(&net.send(1, &udp(A, B, 1, 0, b""))), [0, 1, 0]);
    assert_eq!(net.dp.stats().missed, before);
    // Also packets of those that were wrong need no translation, and are counted by the flow.
    assert_eq!(counts(&net.send(1, &udp(A, B, 1, 4, b""))), [0, 0, 1]);
    assert_eq!(net.dp.stats().missed, before);
    assert!(net.dp.flows().iter().any(|f| f.key.tp_dst == 4 && f.stats().n_packets == 2));
    net.policy.change(|_| (PacketKey::ZERO, vec![out(2)]));
    net.dp.revalidate(net.now);
    assert_eq!(net.dp.n_flows(), 1);
}

#[test]
fn a_flow_that_is_replaced_again_and_again_gets_idle_all_the_same() {
    let mut net = Net::simulated(3, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    (0..2).for_each(|_| drop(net.send(1, &udp(A, B, 1, 0, b""))));
    for i in 0..11 {
        assert_eq!(net.dp.expire(net.now, Duration::from_secs(10)), 0, "{i} s");
        let port = 2 + (i + 1) % 2;
        net.policy.change(move |_| (five_tuple_mask(), vec![out(port)]));
        assert_eq!(net.dp.revalidate(net.now), 1);
        net.now += Duration::from_secs(1);
    }
    assert_eq!(net.dp.expire(net.now, Duration::from_secs(10)), 1);
}

#[test]
fn idle_flows_leave_and_their_packets_are_credited() {
    let mut net = Net::simulated(2, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    let idle = Duration::from_secs(10);
    for port in 0..3 {
        (0..4).for_each(|_| drop(net.send(1, &udp(A, B, 1, port, b""))));
    }
    net.now += Duration::from_secs(8);
    net.send(1, &udp(A, B, 1, 0, b""));
    assert_eq!(net.dp.expire(net.now, idle), 0);
    net.now += Duration::from_secs(3);
    assert_eq!(net.dp.expire(net.now, idle), 2);
    assert_eq!(net.dp.n_flows(), 1);
    net.dp.push_stats();
    assert_eq!(net.policy.rule.n_packets.load(SeqCst), 13);
    assert_eq!(net.dp.flush(), 1);
    assert_eq!(counts(&net.send(1, &udp(A, B, 1, 0, b""))), [0, 1]);
    assert_eq!(net.dp.stats().missed, 4);
}

#[test]
fn the_flow_limit_holds_and_nothing_is_lost_but_speed() {
    let net = Net::simulated(2, Policy::new(|_| (five_tuple_mask(), vec![out(2)])));
    net.dp.set_flow_limit(10);
    for port in 0..50 {
        assert_eq!(counts(&net.send(1, &udp(A, B, 1, port, b""))), [0, 1]);
    }
    assert_eq!((net.dp.n_flows(), net.dp.stats().lost), (10, 40));
    net.dp.set_flow_limit(4);
    assert_eq!(net.dp.expire(net.now, Duration::from_secs(10)), 10, "more than twice the limit");
}

#[test]
fn userspace_gets_the_packet_and_says_what_then() {
    let cookie = UserspaceCookie::Controller(ControllerCookie::default());
    let mut policy = Policy::new(move |_| {
        (PacketKey::ZERO, vec![DpAction::Userspace(Box::new(cookie.clone())), out(2)])
    });
    policy.then = Some([set_src_mac(1), out(3)].into());
    let net = Net::simulated(3, policy);
    let p = udp(A, B, 1, 2, b"");
    for _ in 0..2 {
        let o = net.send(1, &p);
        assert_eq!(counts(&o), [0, 1, 1]);
        assert_eq!(o[1][0].frame(), p.frame());
        assert_eq!(o[2][0].frame()[6..12], [2, 0, 0, 0, 9, 1]);
    }
    assert_eq!(net.policy.n_userspace.load(SeqCst), 2);
}

#[test]
fn long_and_short_packets_part() {
    let policy = Policy::new(|_| {
        let check = DpAction::CheckPktLen {
            len: 100,
            greater: Box::new([DpAction::Recirc(RecircId(1))]),
            less_or_equal: Box::new([out(2)]),
        };
        (PacketKey::ZERO, vec![check])
    });
    policy.change({
        let f = std::mem::replace(&mut *policy.translate.write(), Box::new(|_| unreachable!()));
        move |k| if k.recirc_id == 1 { (PacketKey::ZERO, vec![out(3)]) } else { f(k) }
    });
    let net = Net::simulated(3, policy);
    let batch: Vec<_> = (0..10).map(|i| udp(A, B, 1, 2, &vec![0; i * 20])).collect();
    for _ in 0..2 {
        net.inject(1, &batch);
        net.run();
        assert_eq!(counts(&net.outputs()), [0, 3, 7]);
    }
}

#[test]
fn control_plane_packets_take_actions_and_recirculate() {
    let net = Net::simulated(3, Policy::new(|k| (PacketKey::ZERO, vec![out(k.recirc_id)])));
    let p = udp(A, B, 1, 2, b"out");
    let key = PacketKey { in_port: DpPort::NONE.0, ..PacketKey::ZERO };
    net.dp.execute(net.now, &p, &key, &[out(2), DpAction::Recirc(RecircId(3))]);
    let o = net.outputs();
    assert_eq!(counts(&o), [0, 1, 1]);
    assert_eq!(o[2][0].frame(), p.frame());
    net.dp.execute(net.now, &PacketBuf::from_frame(&[0; 3]), &key, &[out(2)]);
    assert_eq!(counts(&net.outputs()), [0, 1, 0], "any bytes can be sent");
}

#[test]
fn mpls_labels_are_pushed_set_and_popped() {
    let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
    (value.mpls_lse[0], mask.mpls_lse[0]) = (77 << 12, 0xffff_f000);
    let set = DpAction::Set(Box::new(SetMasked { group: SetGroup::Mpls, value, mask }));
    let push = DpAction::PushMpls { ethertype: 0x8847, lse: 5 << 12 | 0x140 };
    let policy = Policy::new(move |_| {
        let pop = DpAction::PopMpls { ethertype: 0x0800 };
        (PacketKey::ZERO, vec![push.clone(), set.clone(), out(2), pop, out(3)])
    });
    let net = Net::simulated(3, policy);
    let p = udp(A, B, 1, 2, b"");
    let o = net.send(1, &p);
    assert_eq!(o[1][0].frame()[12..18], [0x88, 0x47, 0, 4, 0xd1, 0x40]);
    assert_eq!(o[1][0].frame()[18..], p.frame()[14..]);
    assert_eq!(o[2][0].frame(), p.frame());
}

#[test]
fn headers_go_around_packets_and_come_off_again() {
    let nsh = NshHeader {
        flags: 1,
        ttl: 63,
        mdtype: 1,
        np: 3,
        path: 0x1234 << 8 | 255,
        context: [1, 2, 3, 4],
        tlvs: Box::default(),
    };
    let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
    (value.nsh_ttl, mask.nsh_ttl) = (62, 0xff);
    (value.nsh_context[3], mask.nsh_context[3]) = (9, 0xffff);
    let set = DpAction::Set(Box::new(SetMasked { group: SetGroup::Nsh, value, mask }));
    let eth = DpAction::PushEth { dst: Default::default(), src: Default::default() };
    let policy = Policy::new(move |k| match k.recirc_id {
        0 => {
            let push = DpAction::PushNsh(Box::new(nsh.clone()));
            let mpls = DpAction::AddMpls { ethertype: 0x8847, lse: 5 << 12 | 0x140 };
            let all = vec![push, set.clone(), mpls, eth.clone(), out(2), DpAction::PopEth];
            let pop = DpAction::PopMpls { ethertype: 0x894f };
            let last = [pop, DpAction::PopNsh, DpAction::Recirc(RecircId(1))];
            (PacketKey::ZERO, [all, last.to_vec()].concat())
        }
        _ => {
            assert_eq!((k.packet_type, k.dl_type, k.tp_dst), (0, 0x0800, 2));
            (PacketKey::ZERO, vec![out(3)])
        }
    });
    let net = Net::simulated(3, policy);
    let p = udp(A, B, 1, 2, b"inside");
    let o = net.send(1, &p);
    let frame = o[1][0].frame();
    assert_eq!(frame[12..18], [0x88, 0x47, 0, 0, 0x51, 0x40]);
    assert_eq!(frame[18..26], [0x1f, 0x86, 1, 3, 0, 0x12, 0x34, 255]);
    assert_eq!(frame[26..42], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 9]);
    assert_eq!(&frame[42..], p.frame());
    assert_eq!(o[2][0].frame(), p.frame());
}

#[test]
fn ports_come_and_go() {
    let net = Net::simulated(2, Policy::new(|_| (PacketKey::ZERO, vec![out(2)])));
    let p = udp(A, B, 1, 2, b"");
    assert_eq!(counts(&net.send(1, &p)), [0, 1]);
    let (mut twin, _) = Dummy::new("twin", 0);
    assert!(matches!(net.dp.add_port(DpPort(2), &mut twin), Err(Error::PortNumber(_))));
    assert!(matches!(net.dp.add_port(DpPort(1 << 20), &mut twin), Err(Error::PortNumber(_))));
    assert!(net.dp.remove_port(DpPort(2)) && !net.dp.remove_port(DpPort(2)));
    assert_eq!(counts(&net.send(1, &p)), [0, 0]);
    assert_eq!(net.dp.stats().dropped(DropReason::InvalidPort), 1);
    net.dp.add_port(DpPort(2), &mut twin).unwrap();
    assert_eq!(net.dp.ports().len(), 2);
    net.dp.remove_port(DpPort(1));
    net.inject(1, &[p]);
    net.run();
    assert_eq!(net.dp.stats().packets, 2, "a removed port receives nothing");
}

#[test]
fn threads_forward_while_ports_and_flows_come_and_go() {
    let policy = Policy::new(|k| (five_tuple_mask(), vec![out(3 - k.in_port), out(7)]));
    let config = Config { n_threads: 2, ..Config::default() };
    let net = Net::new(2, config, policy);
    let mut n = 0;
    for round in 0..40 {
        let (mut port, _end) = Dummy::new("seven", 0);
        net.dp.add_port(DpPort(7), &mut port).unwrap();
        for i in 0..50 {
            net.inject(1 + i % 2, &[udp(A, B, i as u16 % 5, 1, b"x")]);
            n += 1;
        }
        if round % 3 == 0 {
            net.dp.flush();
        }
        net.policy.generation.fetch_add(1, SeqCst);
        net.dp.push_stats();
        assert!(net.dp.remove_port(DpPort(7)));
    }
    // All packets arrive (the wait is for the threads, not for a time).
    let mut arrived = 0;
    while arrived < n {
        arrived += net.outputs().iter().map(Vec::len).sum::<usize>();
        std::thread::yield_now();
    }
    assert_eq!(arrived, n);
    let rule = Arc::clone(&net.policy.rule);
    drop(net.dp);
    assert_eq!(rule.n_packets.load(SeqCst), n as u64, "counted once each, none lost");
}
