//! Room: the ceiling of the table, who makes room when it is full, and what zones may hold.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use base::{Duration, Instant, Zone};
use common::Table;
use conntrack::{
    ConnFilter, Conntrack, CtConfig, CtInfo, CtRequest, Cursor, NatKind, NatRequest, Outcome,
    PacketView, Parse, ZoneLimits, parse,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const T0: Instant = Instant::from_secs(100);

impl Table {
    fn each(&self, f: impl FnMut(parking_lot::MutexGuard<'_, Conntrack>)) {
        self.0.iter().map(|s| s.lock()).for_each(f);
    }

    fn sum(&self, f: impl Fn(&Conntrack) -> usize) -> usize {
        self.0.iter().map(|s| f(&s.lock())).sum()
    }

    fn len(&self) -> usize {
        self.sum(Conntrack::len)
    }

    fn limit(&self) -> Arc<ZoneLimits> {
        let limits = Arc::new(ZoneLimits::new());
        self.each(|mut s| s.set_limits(Some(limits.clone())));
        limits
    }

    fn set_max(&self, max_conns: usize) {
        self.each(|mut s| s.set_config(CtConfig { max_conns, ..CtConfig::default() }));
    }

    fn send(&self, now: Instant, frame: &[u8], req: &CtRequest) -> CtInfo {
        let view = PacketView { frame, l3: 0, eth_type: 0x800, csum_trusted: true };
        let Parse::Packet(p) = parse(&view, req.zone) else { panic!("not a packet") };
        conntrack::process(self, now, &p, req)
    }

    fn open(&self, zone: u16, n: u32) -> Outcome {
        let req = CtRequest { zone: Zone(zone), commit: true, ..CtRequest::default() };
        self.send(T0, &datagram(n, true), &req).outcome
    }
}

/// A datagram between client `n` and the server; `up` to the server.
fn datagram(n: u32, up: bool) -> Vec<u8> {
    let client = (0x0a00_0000 + n).to_be_bytes();
    let server = [192, 0, 2, 1];
    let (src, dst) = if up { (client, server) } else { (server, client) };
    let ports = if up { [4, 0, 0, 53] } else { [0, 53, 4, 0] };
    let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(src);
    ip.extend(dst);
    let sum = packet::checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(ports);
    ip.extend([0, 8, 0, 0]);
    ip
}

const COMMIT: CtRequest = CtRequest { commit: true, ..CtRequest::LOOK };

/// Makes connection `n` a stream that must not be dropped.
fn assure(t: &Table, n: u32) {
    t.send(T0, &datagram(n, true), &COMMIT);
    t.send(T0, &datagram(n, false), &COMMIT);
    t.send(T0 + Duration::from_secs(3), &datagram(n, true), &COMMIT);
}

#[test]
fn the_ceiling_is_of_all_shards_together() {
    let t = Table::new(16, 100);
    let inserted = (0..5000).filter(|n| t.open(0, *n) == Outcome::Inserted).count();
    // A shard that is empty when the ceiling is reached has nobody who could make room.
    assert!(inserted > 100);
    assert_eq!(t.len(), 100);
    let dropped = t.sum(|s| s.counters().early_drop as usize);
    assert_eq!(inserted, 100 + dropped);
    assert_eq!(t.sum(|s| s.counters().drop as usize), 5000 - inserted);
}

#[test]
fn a_lower_ceiling_keeps_what_is_there_and_lets_nothing_in() {
    let t = Table::new(4, 1000);
    for n in 0..50 {
        assure(&t, n);
    }
    t.set_max(10);
    assert_eq!(t.len(), 50);
    assert!((100..200).all(|n| t.open(0, n) == Outcome::TableFull));
    // What ends gives no place back before the table is under its ceiling.
    let zone = ConnFilter::zone(Zone(0));
    for i in 0..4 {
        conntrack::visit(&t, i, |s| s.delete(T0, &mut Cursor::default(), &zone, usize::MAX));
    }
    assert_eq!(t.len(), 0);
    let inserted = (200..210).filter(|n| t.open(0, *n) == Outcome::Inserted).count();
    assert_eq!((inserted, t.len()), (10, 10));
    t.set_max(20);
    assert!((300..310).all(|n| t.open(0, n) == Outcome::Inserted));
}

#[test]
fn what_ends_in_one_shard_is_room_for_all() {
    let t = Table::new(16, 10);
    for round in 0..50 {
        let n = (0..40).filter(|n| t.open(0, round * 100 + n) == Outcome::Inserted).count();
        assert!(n >= 10 && t.len() == 10, "{round}: {n} {}", t.len());
        for i in 0..16 {
            let zone = ConnFilter::zone(Zone(0));
            conntrack::visit(&t, i, |s| s.delete(T0, &mut Cursor::default(), &zone, usize::MAX));
        }
    }
}

#[test]
fn unanswered_connections_make_room_and_assured_ones_never() {
    let t = Table::new(1, 200);
    for n in 0..100 {
        assure(&t, n);
    }
    for n in 100..200 {
        t.open(0, n);
    }
    // Half of these are answered, but no stream.
    (100..200).step_by(2).for_each(|n| {
        t.send(T0, &datagram(n, false), &COMMIT);
    });
    // A flood.
    for n in 1000..101_000 {
        t.open(0, n);
    }
    assert_eq!(t.len(), 200);
    let alive = |n: u32| {
        let req = CtRequest::default();
        t.send(T0, &datagram(n, true), &req).conn.is_some()
    };
    assert!((0..100).all(alive));
    // Those that were answered are met last.
    let answered = (100..200).step_by(2).filter(|n| alive(*n)).count();
    let unanswered = (101..200).step_by(2).filter(|n| alive(*n)).count();
    assert!(answered > 40 && unanswered == 0, "{answered} {unanswered}");
}

#[test]
fn a_table_of_assured_connections_refuses_at_a_bounded_price() {
    let t = Table::new(1, 2000);
    (0..2000).for_each(|n| assure(&t, n));
    assert!((5000..6000).all(|n| t.open(0, n) == Outcome::TableFull));
    let of = |f: fn(&conntrack::Counters) -> u64| f(t.0[0].lock().counters());
    assert_eq!((of(|c| c.early_drop), of(|c| c.drop), of(|c| c.insert_failed)), (0, 1000, 1000));
    let view = datagram(7000, true);
    let view = PacketView { frame: &view, l3: 0, eth_type: 0x800, csum_trusted: true };
    let Parse::Packet(p) = parse(&view, Zone(0)) else { panic!("not a packet") };
    assert_eq!(conntrack::peek(&t, T0, &p, &COMMIT).0.outcome, Outcome::TableFull);
}

#[test]
fn time_makes_room_before_anybody_is_dropped() {
    let t = Table::new(1, 64);
    (0..64).for_each(|n| assure(&t, n));
    let later = T0 + Duration::from_secs(1000);
    assert_eq!(t.send(later, &datagram(70, true), &COMMIT).outcome, Outcome::Inserted);
    let c = *t.0[0].lock().counters();
    assert_eq!((c.early_drop, c.expired), (0, 1));
}

#[test]
fn a_zone_holds_what_its_limit_says() {
    let t = Table::new(8, 10_000);
    // Some are there before there are limits.
    for zone in [1, 2, 3] {
        (0..5).for_each(|n| assert_eq!(t.open(zone, n), Outcome::Inserted));
    }
    let limits = t.limit();
    limits.set(Zone(1), Some(7));
    limits.set(Zone(2), Some(2));
    limits.set_default(Some(6));
    limits.set(Zone(4), Some(0));
    let tried = |zone| (5..25).filter(|n| t.open(zone, *n) == Outcome::Inserted).count();
    assert_eq!([1, 2, 3, 4, 5].map(tried), [2, 0, 1, 0, 6]);
    let len = |zone| t.sum(|s| s.zone_len(Zone(zone)));
    assert_eq!([1, 2, 3, 4, 5].map(len), [7, 5, 6, 0, 6]);
    assert_eq!(t.sum(|s| s.counters().zone_full as usize), 18 + 20 + 19 + 20 + 14);
    assert_eq!(limits.get(Zone(1)), Some(7));
    assert_eq!((limits.get(Zone(3)), limits.default_limit()), (None, Some(6)));
    assert_eq!(limits.iter().map(|(z, n)| (z.0, n)).collect::<Vec<_>>(), [(1, 7), (2, 2), (4, 0)]);
    // What a full zone gives up is there to be used again; a trace says so.
    let view = datagram(30, true);
    let view = PacketView { frame: &view, l3: 0, eth_type: 0x800, csum_trusted: true };
    let Parse::Packet(p) = parse(&view, Zone(1)) else { panic!("not a packet") };
    let req = CtRequest { zone: Zone(1), ..COMMIT };
    assert_eq!(conntrack::peek(&t, T0, &p, &req).0.outcome, Outcome::ZoneFull);
    for i in 0..8 {
        let zone = ConnFilter::zone(Zone(1));
        conntrack::visit(&t, i, |s| s.delete(T0, &mut Cursor::default(), &zone, usize::MAX));
    }
    assert_eq!(conntrack::peek(&t, T0, &p, &req).0.outcome, Outcome::Inserted);
    assert_eq!([1, 2, 3].map(tried), [7, 0, 0]);
    // Without limits nothing is counted, and a new set begins with what is there.
    t.each(|mut s| s.set_limits(None));
    assert_eq!(tried(1), 13);
    t.limit().set(Zone(1), Some(21));
    assert_eq!((100..110).filter(|n| t.open(1, *n) == Outcome::Inserted).count(), 1);
    assert_eq!(len(1), 21);
}

#[test]
fn translated_connections_count_like_others() {
    let t = Table::new(8, 10_000);
    t.limit().set(Zone(9), Some(3));
    let public = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    let nat = NatRequest {
        kind: Some(NatKind::Src),
        addrs: Some((public, public)),
        ..NatRequest::default()
    };
    let req = CtRequest { zone: Zone(9), nat: Some(nat), ..COMMIT };
    let outcomes: Vec<Outcome> =
        (0..5).map(|n| t.send(T0, &datagram(n, true), &req).outcome).collect();
    use Outcome::{Inserted, ZoneFull};
    assert_eq!(outcomes, [Inserted, Inserted, Inserted, ZoneFull, ZoneFull]);
    let later = T0 + Duration::from_secs(1000);
    for i in 0..8 {
        conntrack::visit(&t, i, |s| s.expire(later, usize::MAX));
    }
    assert_eq!(t.send(later, &datagram(7, true), &req).outcome, Inserted);
}

#[test]
fn threads_that_commit_at_once_never_pass_a_limit_or_the_ceiling() {
    let t = Table::new(16, 3000);
    let limits = t.limit();
    limits.set(Zone(1), Some(777));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let t = &t;
            scope.spawn(move || {
                for n in 0..4000 {
                    t.open(1 + (n % 2) as u16, thread * 10_000 + n);
                }
            });
        }
    });
    assert!(t.len() <= 3000 && t.len() > 2900, "{}", t.len());
    assert!(t.sum(|s| s.zone_len(Zone(1))) <= 777);
    let counted: usize = (1..3).map(|z| t.sum(|s| s.zone_len(Zone(z)))).sum();
    assert_eq!(counted, t.len());
}

#[test]
fn a_zone_is_emptied_in_steps_and_others_stay() {
    let t = Table::new(1, 10_000);
    for n in 0..1000 {
        t.open((n % 3) as u16, n);
    }
    let mut s = t.0[0].lock();
    let filter = ConnFilter::zone(Zone(1));
    let (mut cursor, mut steps) = (Cursor::default(), Vec::new());
    while !cursor.is_done() {
        let n = s.delete(T0, &mut cursor, &filter, 100);
        steps.push(n);
        // One comes in during each step, and stays.
        drop(s);
        t.open(1, 5000 + steps.len() as u32);
        s = t.0[0].lock();
    }
    assert_eq!(steps, [100, 100, 100, 33]);
    let of = |zone| s.zone_len(Zone(zone));
    assert_eq!((of(0), of(1), of(2)), (334, 4, 333));
    assert_eq!(s.zones().map(|(z, n)| (z.0, n)).collect::<Vec<_>>(), [(0, 334), (1, 4), (2, 333)]);
}
