//! The table: time, limits, ids, dumps, deletes, events, counters; and random input.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use base::{Duration, HashKey, Instant, Zone};
use conntrack::{
    ConnFilter, ConnSnapshot, Conntrack, CtConfig, CtInfo, CtRequest, CtState, Cursor, EventKind,
    InvalidReason, KernelTcpState, PacketView, Parse, PolicyId, TimeoutClass, TimeoutPolicy, Tuple,
    TupleFilter, parse,
};
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

const SECRET: HashKey = HashKey([5, 6]);
const T0: Instant = Instant::from_secs(100);

fn ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

fn ipv4(src: u8, dst: u8, proto: u8, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0];
    p.extend((20 + body.len() as u16).to_be_bytes());
    p.extend([0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst]);
    let sum = packet::checksum::checksum(&p);
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p.extend(body);
    p
}

/// A UDP packet without checksum.
fn udp(src: u8, dst: u8, sport: u16, dport: u16) -> Vec<u8> {
    ipv4(src, dst, 17, &[&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0, 8, 0, 0]].concat())
}

/// A TCP segment with a wrong checksum, for `trusted`.
fn tcp(src: u8, dst: u8, ports: (u16, u16), flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut s = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    s.extend(seq.to_be_bytes());
    s.extend(ack.to_be_bytes());
    s.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    ipv4(src, dst, 6, &s)
}

fn new(config: CtConfig) -> Conntrack {
    Conntrack::new(SECRET, config)
}

fn send(ct: &mut Conntrack, now: Instant, pkt: &[u8], req: &CtRequest) -> CtInfo {
    ct.process(
        now,
        &PacketView { frame: pkt, l3: 0, eth_type: 0x0800, csum_trusted: true },
        req,
        &mut None,
    )
}

const COMMIT: CtRequest = CtRequest { commit: true, ..CtRequest::LOOK };

fn all(ct: &Conntrack, now: Instant, filter: &ConnFilter) -> Vec<ConnSnapshot> {
    let (mut out, mut cursor) = (Vec::new(), Cursor::default());
    while !cursor.is_done() {
        ct.dump(now, &mut cursor, filter, 7, |c| out.push(*c));
    }
    out
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn what_is_not_ip_is_invalid() {
    let mut ct = new(CtConfig::default());
    let view = PacketView { frame: &[0; 60], l3: 14, eth_type: 0x0806, csum_trusted: false };
    let info = ct.process(T0, &view, &COMMIT, &mut None);
    assert_eq!(info, CtInfo::invalid(COMMIT.zone, InvalidReason::NotIp));
    assert_eq!((ct.counters().invalid_by(InvalidReason::NotIp), ct.len()), (1, 0));
}

#[test]
fn expiry_is_bounded_by_its_budget_and_goes_on_where_it_stopped() {
    let mut ct = new(CtConfig::default());
    for port in 1..=1000 {
        send(&mut ct, T0, &udp(1, 2, port, 53), &COMMIT);
    }
    let first = ct.next_timeout().unwrap();
    assert!(first <= T0 + secs(60), "{first:?}");
    assert_eq!(ct.expire(T0 + secs(59), 10_000).removed, 0);
    let later = T0 + secs(61);
    let (mut removed, mut calls) = (0, 0);
    loop {
        let e = ct.expire(later, 64);
        assert!(e.removed <= 64);
        (removed, calls) = (removed + e.removed, calls + 1);
        if !e.more {
            break;
        }
        assert_eq!(ct.next_timeout(), Some(Instant::ZERO));
    }
    assert_eq!((removed, ct.len()), (1000, 0));
    assert!(calls >= 1000 / 64);
    assert_eq!(ct.next_timeout(), None);
    assert_eq!(ct.counters().expired, 1000);
}

#[test]
fn a_used_connection_outlives_its_first_deadline_and_a_day_is_no_trouble() {
    let mut ct = new(CtConfig::default());
    let (go, back) = (udp(1, 2, 9, 53), udp(2, 1, 53, 9));
    send(&mut ct, T0, &go, &COMMIT);
    let mut now = T0;
    for _ in 0..5000 {
        now += secs(20);
        assert_eq!(ct.expire(now, 100).removed, 0);
        let info = send(&mut ct, now, &back, &COMMIT);
        assert_eq!(info.state, CtState::TRK | CtState::EST | CtState::RPL);
    }
    assert_eq!(ct.expire(now + secs(30), 100).removed, 1);
    // Established TCP waits a day: the wheel carries it over its levels.
    send(&mut ct, now, &tcp(1, 2, (5, 6), 2, 100, 0), &COMMIT);
    send(&mut ct, now, &tcp(2, 1, (6, 5), 18, 500, 101), &COMMIT);
    send(&mut ct, now, &tcp(1, 2, (5, 6), 16, 101, 501), &COMMIT);
    let mut looks = 0;
    while !ct.is_empty() {
        now = ct.next_timeout().unwrap();
        ct.expire(now, 100);
        looks += 1;
    }
    assert!(looks < 10, "looked {looks} times");
}

#[test]
fn a_shorter_timeout_moves_the_deadline_forward() {
    let mut ct = new(CtConfig::default());
    send(&mut ct, T0, &tcp(1, 2, (5, 6), 2, 100, 0), &COMMIT);
    send(&mut ct, T0, &tcp(2, 1, (6, 5), 18, 500, 101), &COMMIT);
    send(&mut ct, T0, &tcp(1, 2, (5, 6), 16, 101, 501), &COMMIT);
    assert_eq!(ct.expire(T0 + secs(1000), 10).removed, 0);
    send(&mut ct, T0 + secs(1000), &tcp(1, 2, (5, 6), 4, 101, 0), &COMMIT);
    assert_eq!(ct.expire(T0 + secs(1031), 10).removed, 1);
}

#[test]
fn an_expired_connection_is_gone_before_anyone_swept_it() {
    let mut ct = new(CtConfig::default());
    let info = send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT);
    let id = info.conn.unwrap();
    let later = T0 + secs(60);
    assert!(ct.get(later, id).is_none());
    assert!(all(&ct, later, &ConnFilter::default()).is_empty());
    assert!(ct.find(later, &Tuple::ports(ip(1), ip(2), 17, 9, 53), Zone(0)).is_none());
    let back = send(&mut ct, later, &udp(2, 1, 53, 9), &CtRequest::default());
    assert_eq!((back.state, back.conn), (CtState::TRK | CtState::NEW, None));
    assert_eq!(ct.len(), 0);
}

#[test]
fn a_policy_sets_other_timeouts() {
    let mut ct = new(CtConfig::default());
    let mut policy = TimeoutPolicy::DEFAULT;
    assert!(policy.set_key("udp_first", 5) && policy.set_key("tcp_unack", 5));
    assert!(!policy.set_key("udp", 5));
    assert_eq!(policy.get(TimeoutClass::UdpFirst), secs(5));
    ct.set_policy(PolicyId(3), policy);
    let req = CtRequest { timeout_policy: Some(PolicyId(3)), ..COMMIT };
    let id = send(&mut ct, T0, &udp(1, 2, 9, 53), &req).conn.unwrap();
    assert_eq!(ct.get(T0, id).unwrap().timeout, secs(5));
    let other = send(&mut ct, T0, &udp(1, 2, 8, 53), &COMMIT).conn.unwrap();
    assert_eq!(ct.get(T0, other).unwrap().timeout, secs(60));
}

#[test]
fn an_id_names_one_connection_only() {
    let mut ct = new(CtConfig::default());
    let a = send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT).conn.unwrap();
    assert!(ct.delete_id(T0, a) && !ct.delete_id(T0, a));
    let b = send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT).conn.unwrap();
    assert_ne!(a, b);
    assert!(ct.get(T0, a).is_none() && ct.get(T0, b).is_some());
}

#[test]
fn the_second_pass_of_one_packet_is_not_counted() {
    let mut ct = new(CtConfig::default());
    let first = send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT);
    let prior = Some((first.conn.unwrap(), first.state));
    let again = send(&mut ct, T0, &udp(1, 2, 9, 53), &CtRequest { prior, ..CtRequest::default() });
    assert_eq!((again.state, again.conn), (first.state, first.conn));
    assert_eq!(ct.get(T0, first.conn.unwrap()).unwrap().traffic[0].packets, 1);
    assert_eq!(ct.counters().found, 0);
    send(&mut ct, T0, &udp(1, 2, 9, 53), &CtRequest::default());
    let t = ct.get(T0, first.conn.unwrap()).unwrap().traffic[0];
    assert_eq!((t.packets, t.bytes), (2, 56));
}

#[test]
fn deletes_take_what_the_filter_names() {
    let mut ct = new(CtConfig::default());
    for zone in 0..3 {
        for port in 1..=10 {
            let mark = Some((u32::from(port % 2), 1));
            let req = CtRequest { zone: Zone(zone), mark, ..COMMIT };
            send(&mut ct, T0, &udp(1, 2, port, 53), &req);
        }
    }
    let delete = |ct: &mut Conntrack, f: &ConnFilter| {
        let (mut n, mut cursor) = (0, Cursor::default());
        while !cursor.is_done() {
            n += ct.delete(T0, &mut cursor, f, 4);
        }
        n
    };
    let zone2 = ConnFilter::zone(Zone(2));
    let one = ConnFilter {
        orig: TupleFilter { sport: Some(4), src: Some(ip(1)), ..TupleFilter::default() },
        reply: TupleFilter { sport: Some(53), ..TupleFilter::default() },
        ..zone2
    };
    assert_eq!(delete(&mut ct, &one), 1);
    assert_eq!(delete(&mut ct, &ConnFilter { mark: Some((1, 1)), ..zone2 }), 5);
    assert_eq!(delete(&mut ct, &ConnFilter { ipv6: Some(true), ..ConnFilter::default() }), 0);
    assert_eq!(delete(&mut ct, &zone2), 4);
    assert_eq!((ct.len(), all(&ct, T0, &zone2).len()), (20, 0));
    assert_eq!(all(&ct, T0, &ConnFilter::zone(Zone(1))).len(), 10);
    assert_eq!(ct.flush(T0), 20);
    assert_eq!(ct.counters().delete, 30);
}

#[test]
fn events_tell_a_life_and_a_full_queue_counts() {
    let mut ct = new(CtConfig::default());
    ct.set_events(3);
    send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT);
    send(&mut ct, T0, &udp(1, 2, 9, 53), &COMMIT);
    send(&mut ct, T0, &udp(2, 1, 53, 9), &COMMIT);
    ct.flush(T0);
    let kinds: Vec<_> = std::iter::from_fn(|| ct.next_event()).map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::New, EventKind::Update, EventKind::Destroy]);
    for port in 1..=5 {
        send(&mut ct, T0, &udp(1, 2, port, 53), &COMMIT);
    }
    assert_eq!(ct.lost_events(), 2);
}

#[test]
fn the_kernel_names_of_a_life() {
    let mut ct = new(CtConfig::default());
    let (f, s, r, a) = (1, 2, 4, 16);
    let rows = [
        (true, s, 100, 0, KernelTcpState::SynSent),
        (false, s | a, 500, 101, KernelTcpState::SynRecv),
        (true, a, 101, 501, KernelTcpState::Established),
        (true, f | a, 101, 501, KernelTcpState::FinWait),
        (false, a, 501, 102, KernelTcpState::CloseWait),
        (false, f | a, 501, 102, KernelTcpState::LastAck),
        (true, a, 102, 502, KernelTcpState::TimeWait),
        (true, r, 102, 0, KernelTcpState::Close),
    ];
    for (up, flags, seq, ack, want) in rows {
        let (src, dst, ports) = if up { (1, 2, (5, 6)) } else { (2, 1, (6, 5)) };
        send(&mut ct, T0, &tcp(src, dst, ports, flags, seq, ack), &COMMIT);
        let c = ct.find(T0, &Tuple::ports(ip(1), ip(2), 6, 5, 6), Zone(0)).unwrap();
        let got = c.tcp.unwrap().kernel_state();
        assert_eq!(got, want, "{} after flags {flags:#x}", got.name());
        assert_eq!(c.assured, !matches!(want, KernelTcpState::SynSent | KernelTcpState::SynRecv));
        assert_eq!(c.seen_reply, want != KernelTcpState::SynSent);
    }
}

#[test]
fn reasons_are_counted() {
    let mut ct = new(CtConfig::default());
    let info = send(&mut ct, T0, &tcp(1, 2, (5, 6), 18, 1, 1), &COMMIT);
    assert_eq!(info.invalid, Some(InvalidReason::TcpSynAck));
    let mut cut = udp(1, 2, 5, 6);
    cut.truncate(25);
    assert_eq!(send(&mut ct, T0, &cut, &COMMIT).invalid, Some(InvalidReason::Truncated));
    assert_eq!(ct.counters().invalid_by(InvalidReason::TcpSynAck), 1);
    assert_eq!((ct.counters().invalid, ct.counters().error), (2, 1));
    let names: HashSet<_> = InvalidReason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), InvalidReason::ALL.len());
}

#[test]
fn settings_for_pick_up_and_sequence_checks() {
    let config = CtConfig { tcp_pick_up: false, tcp_seq_chk: false, ..CtConfig::default() };
    let mut ct = new(config);
    let info = send(&mut ct, T0, &tcp(1, 2, (5, 6), 16, 1, 1), &COMMIT);
    assert_eq!(info.invalid, Some(InvalidReason::TcpNoSyn));
    send(&mut ct, T0, &tcp(1, 2, (5, 6), 2, 100, 0), &COMMIT);
    send(&mut ct, T0, &tcp(2, 1, (6, 5), 18, 500, 101), &COMMIT);
    let wild = send(&mut ct, T0, &tcp(1, 2, (5, 6), 17, 0x7000_0000, 0x7000_0000), &COMMIT);
    assert!(wild.state.contains(CtState::EST));
}

#[test]
fn both_directions_and_errors_fall_into_one_shard() {
    let go = udp(1, 2, 9, 53);
    let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
    icmp.extend(&go);
    let packets = [go.clone(), udp(2, 1, 53, 9), ipv4(7, 1, 1, &icmp)];
    let shards: Vec<_> = packets
        .iter()
        .map(|p| {
            let view = PacketView { frame: p, l3: 0, eth_type: 0x0800, csum_trusted: true };
            match parse(&view, Zone(4)) {
                Parse::Packet(p) => (*p.key(), p.shard(SECRET, 13)),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(shards.iter().all(|s| *s == shards[0] && s.1 < 13));
}

#[test]
fn growth_keeps_every_connection_findable() {
    let mut ct = new(CtConfig::default());
    let tuple = |n: u32| {
        let (a, port) = ((n / 60_000) as u8, (n % 60_000) as u16 + 1);
        (udp(a, 200, port, 53), Tuple::ports(ip(a), ip(200), 17, port, 53))
    };
    const N: u32 = 150_000;
    for n in 0..N {
        send(&mut ct, T0, &tuple(n).0, &COMMIT);
    }
    for n in (0..N).step_by(3) {
        let c = ct.find(T0, &tuple(n).1, Zone(0)).unwrap();
        assert!(ct.delete_id(T0, c.id));
    }
    assert_eq!(ct.len() as u32, N - N / 3);
    for n in 0..N {
        assert_eq!(ct.find(T0, &tuple(n).1.reverse(), Zone(0)).is_some(), n % 3 != 0, "{n}");
    }
    assert_eq!(all(&ct, T0, &ConnFilter::default()).len() as u32, N - N / 3);
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Op {
    Udp { src: u8, dst: u8, sport: u16, zone: u16, commit: bool, force: bool },
    Tcp { up: bool, sport: u16, flags: u8, seq: u32, ack: u32 },
    Wait(u64),
    Expire(usize),
    Delete(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let seq = || prop_oneof![Just(0), Just(100), Just(101), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        4 => (1..4u8, 1..4u8, 1..4u16, 0..2u16, any::<bool>(), any::<bool>()).prop_map(
            |(src, dst, sport, zone, commit, force)| Op::Udp { src, dst, sport, zone, commit, force }
        ),
        6 => (any::<bool>(), 1..3u16, 0..64u8, seq(), seq())
            .prop_map(|(up, sport, flags, seq, ack)| Op::Tcp { up, sport, flags, seq, ack }),
        2 => (0..70u64).prop_map(Op::Wait),
        1 => (0..1_000_000u64).prop_map(Op::Wait),
        2 => (0..5usize).prop_map(Op::Expire),
        1 => (0..2u16).prop_map(Op::Delete),
    ]
}

proptest! {
    #[test]
    fn no_life_confuses_the_table(ops in prop::collection::vec(op(), 1..200)) {
        let mut ct = new(CtConfig::default());
        let mut now = T0;
        for op in ops {
            match op {
                Op::Udp { src, dst, sport, zone, commit, force } => {
                    let req = CtRequest { zone: Zone(zone), commit, force, ..COMMIT };
                    let info = send(&mut ct, now, &udp(src, dst, sport, 2), &req);
                    prop_assert!(info.invalid.is_none());
                    prop_assert!(!commit || info.conn.is_some());
                    if force && commit && info.conn.is_some() {
                        prop_assert!(!info.state.contains(CtState::RPL));
                    }
                }
                Op::Tcp { up, sport, flags, seq, ack } => {
                    let p = if up {
                        tcp(1, 2, (sport, 80), flags, seq, ack)
                    } else {
                        tcp(2, 1, (80, sport), flags, seq, ack)
                    };
                    let info = send(&mut ct, now, &p, &COMMIT);
                    let s = info.state;
                    prop_assert!(s.contains(CtState::TRK));
                    prop_assert!(!s.contains(CtState::NEW | CtState::EST));
                    prop_assert!(!s.contains(CtState::INV) || s == CtState::INVALID);
                }
                Op::Wait(s) => now += secs(s),
                Op::Expire(budget) => { ct.expire(now, budget); }
                Op::Delete(zone) => {
                    ct.delete(now, &mut Cursor::default(), &ConnFilter::zone(Zone(zone)), 3);
                }
            }
            let alive = all(&ct, now, &ConnFilter::default());
            prop_assert!(alive.len() <= ct.len());
            for c in &alive {
                let by_orig = ct.find(now, &c.orig, c.zone).unwrap();
                let by_reply = ct.find(now, &c.reply, c.zone).unwrap();
                prop_assert_eq!(by_orig.id, c.id);
                prop_assert_eq!(by_reply.id, c.id);
            }
            let c = ct.counters();
            prop_assert_eq!(ct.len() as u64, c.insert - c.expired - c.delete);
            prop_assert_eq!(ct.zones().map(|(_, n)| n).sum::<usize>(), ct.len());
            for (zone, n) in ct.zones() {
                prop_assert!(all(&ct, now, &ConnFilter::zone(zone)).len() <= n);
            }
        }
        // A tick of the wheel is 2^27 ns; after it, swept and seen agree.
        now += Duration::from_nanos(1 << 27);
        while ct.expire(now, 3).more {}
        prop_assert_eq!(ct.len(), all(&ct, now, &ConnFilter::default()).len());
        while let Some(t) = ct.next_timeout() {
            ct.expire(t, 1000);
        }
        prop_assert!(ct.is_empty());
    }

    #[test]
    fn no_bytes_panic(
        seed in 0..6usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
        l3 in 0..70usize,
        ipv6 in any::<bool>(),
        trusted in any::<bool>(),
    ) {
        let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
        icmp.extend(udp(1, 2, 9, 53));
        let mut v6 = vec![0x60, 0, 0, 0, 0, 40, 0, 64];
        v6.extend([1; 32]);
        v6.extend([43, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend([0, 1, 0, 2, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let mut pkt = match seed {
            0 => udp(1, 2, 9, 53),
            1 => tcp(1, 2, (9, 10), 2, 0, 0),
            2 => ipv4(2, 1, 1, &icmp),
            3 => ipv4(1, 2, 1, &[8, 0, 0, 0, 0, 1, 0, 1]),
            4 => ipv4(1, 2, 132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
            _ => v6,
        };
        for (at, v) in edits {
            let i = at.index(pkt.len());
            pkt[i] = v;
        }
        if !keep {
            pkt.truncate(cut.index(pkt.len() + 1));
        }
        let l3 = if keep { 0 } else { l3 };
        let eth_type = if ipv6 || seed == 5 { 0x86dd } else { 0x0800 };
        let mut ct = new(CtConfig::default());
        let view = PacketView { frame: &pkt, l3, eth_type, csum_trusted: trusted };
        for _ in 0..3 {
            let info = ct.process(T0, &view, &COMMIT, &mut None);
            prop_assert!(info.state.contains(CtState::TRK));
            if let (Some(id), Some(orig)) = (info.conn, info.orig.map(|o| o.tuple())) {
                let (k, _) = orig.key(Zone(0));
                let (kr, _) = orig.reverse().key(Zone(0));
                prop_assert_eq!(k, kr);
                prop_assert_eq!(ct.find(T0, &orig.reverse(), Zone(0)).unwrap().id, id);
            }
        }
    }
}
