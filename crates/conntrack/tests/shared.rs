//! A table that several threads use at once: nothing is lost, nobody waits for ever.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use base::{Duration, Instant, Zone};
use common::{SECRET, Table, frame, view};
use conntrack::{
    ConnFilter, ConnSnapshot, CtRequest, CtState, Cursor, Outcome, Shards, Tracked, process_batch,
    visit,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const T0: Instant = Instant::from_secs(100);
const CONNS: u8 = 8;
const THREADS: u64 = 4;
const ROUNDS: u64 = 10_000;

/// A packet of connection `n`: every other one is TCP's.
fn read(n: u8, up: bool) -> Tracked {
    let mut t = Tracked::NOTHING;
    let tcp = n.is_multiple_of(2).then_some(0x10);
    t.read(&view(&frame(n, up, tcp)), Zone(0), SECRET).unwrap();
    t
}

/// Packets of each kind that were seen.
#[derive(Default)]
struct Seen {
    new: AtomicU64,
    known: AtomicU64,
    invalid: AtomicU64,
}

/// Sends packets of all connections, both ways, from several threads, while `meanwhile` is done again and again in
/// another.
fn storm(
    table: &Table,
    now: impl Fn(u64) -> Instant + Sync,
    meanwhile: impl Fn(u64) + Sync,
) -> Seen {
    let seen = Seen::default();
    let going = AtomicU64::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (seen, going, now) = (&seen, &going, &now);
            scope.spawn(move || {
                // Each thread has some connections to itself, and all have some in common.
                let packets: Vec<Tracked> = (0..CONNS)
                    .filter(|n| *n < 4 || u64::from(n % 4) == thread)
                    .flat_map(|n| [read(n, true), read(n, false)])
                    .collect();
                for round in 0..ROUNDS {
                    let commit = CtRequest { commit: round % 7 == 0, ..CtRequest::LOOK };
                    process_batch(
                        table,
                        now(round),
                        &packets,
                        &commit,
                        |_| &[],
                        |_, info, _| {
                            let kind = match info.state {
                                s if s.contains(CtState::INV) => &seen.invalid,
                                _ if info.conn.is_some() && info.outcome != Outcome::Inserted => {
                                    &seen.known
                                }
                                _ => &seen.new,
                            };
                            kind.fetch_add(1, Relaxed);
                        },
                    );
                }
                going.fetch_sub(1, Relaxed);
            });
        }
        let mut n = 0;
        while going.load(Relaxed) > 0 {
            meanwhile(n);
            n += 1;
        }
    });
    seen
}

fn connections(table: &Table, now: Instant) -> Vec<ConnSnapshot> {
    let mut all = Vec::new();
    for shard in &table.0 {
        let mut cursor = Cursor::default();
        shard.lock().dump(now, &mut cursor, &ConnFilter::default(), usize::MAX, |c| all.push(*c));
    }
    all
}

#[test]
fn every_packet_is_counted_once() {
    let table = Table::new(4, 1000);
    let seen = storm(&table, |_| T0, |_| drop(connections(&table, T0)));
    let counters = table.counters();
    let of = |n: &AtomicU64| n.load(Relaxed);
    assert_eq!(counters.found, of(&seen.known));
    assert_eq!(counters.new, of(&seen.new));
    assert_eq!(counters.invalid, of(&seen.invalid));
    assert!(table.1.get() > counters.found / 2, "most need no shard");
    let all = connections(&table, T0);
    assert_eq!((all.len() as u64, all.len()), (counters.insert, usize::from(CONNS)));
    let packets: u64 = all.iter().flat_map(|c| c.traffic).map(|t| t.packets).sum();
    assert_eq!(packets, counters.found + counters.insert);
    let bytes: u64 = all.iter().flat_map(|c| c.traffic.map(|t| t.bytes)).sum();
    let of_proto = |p| all.iter().filter(move |c| c.orig.proto == p).flat_map(|c| c.traffic);
    let sum = |p| of_proto(p).map(|t| t.packets).sum::<u64>();
    assert_eq!(bytes, 40 * sum(6) + 28 * sum(17));
}

/// Connections are deleted one by one, by zone and by filter, and their time runs out, while packets come. What is
/// said of them adds up, and nothing is left.
#[test]
fn connections_go_while_packets_come() {
    let table = Table::new(4, 1000);
    // The time of packets and that of who removes differ by more than a timeout now and then.
    let now = |round: u64| T0 + Duration::from_secs(round * 3);
    let clear = |n: u64| {
        let filters =
            [ConnFilter::zone(Zone(0)), ConnFilter { ipv6: Some(false), ..ConnFilter::default() }];
        for i in 0..table.n() {
            let mut cursor = Cursor::default();
            match n % 3 {
                0 => drop(visit(&table, i, |t| t.expire(now(n % ROUNDS), 64))),
                k => drop(visit(&table, i, |t| {
                    t.delete(T0, &mut cursor, &filters[k as usize - 1], 2)
                })),
            }
        }
    };
    let seen = storm(&table, now, clear);
    let counters = table.counters();
    let of = |n: &AtomicU64| n.load(Relaxed);
    assert_eq!(counters.found, of(&seen.known));
    assert_eq!(counters.new, of(&seen.new));
    assert_eq!(counters.invalid, of(&seen.invalid));
    let left: u64 = table.0.iter().map(|s| s.lock().len() as u64).sum();
    assert_eq!(counters.insert, counters.delete + counters.expired + left);
    for i in 0..table.n() {
        visit(&table, i, |t| t.flush(T0));
    }
    assert!(table.0.iter().all(|s| s.lock().is_empty()));
    assert!(connections(&table, T0).is_empty());
}

/// Two threads that have the two directions of a connection do not have quite the same time. That shortens no
/// connection's life.
#[test]
fn packets_of_a_thread_that_is_a_little_behind_need_no_shard() {
    let table = Table::new(4, 1000);
    let [up, down] = [read(1, true), read(1, false)];
    let send = |t: &Tracked, now: Instant| {
        let req = CtRequest { commit: true, ..CtRequest::LOOK };
        process_batch(&table, now, std::slice::from_ref(t), &req, |_| &[], |_, _, _| ());
        table.1.get()
    };
    let ms = |n: u64| T0 + Duration::from_micros(1000 * n);
    assert_eq!(send(&up, ms(0)), 0);
    // Answered, it lives for a shorter time, which its shard has to know.
    assert_eq!(send(&down, ms(1)), 0);
    assert_eq!(send(&up, ms(2)), 1);
    let expires = |now| connections(&table, now)[0].timeout;
    let timeout = expires(ms(2));
    assert_eq!(send(&down, ms(2)), 2);
    let behind = T0 + Duration::from_micros(1900);
    assert_eq!(send(&down, behind), 3);
    assert_eq!(expires(ms(2)), timeout);
    // A clock that goes back by more shortens it, by less than the wheel has to know.
    assert_eq!(send(&down, ms(0)), 4);
    assert!(expires(ms(2)) < timeout);
}

/// A connection that ends soon after it began is closed without its shard, for the wheel looks at it in time. One that has
/// stood for long is not.
#[test]
fn short_connections_are_closed_without_their_shard() {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    for stands in [0, 100] {
        let table = Table::new(4, 1000);
        let send = |(up, flags): (bool, u8), secs: u64| {
            let mut t = Tracked::NOTHING;
            t.read(&view(&frame(1, up, Some(flags))), Zone(0), SECRET).unwrap();
            let req = CtRequest { commit: true, ..CtRequest::LOOK };
            let (now, batch) = (T0 + Duration::from_secs(secs), std::slice::from_ref(&t));
            process_batch(
                &table,
                now,
                batch,
                &req,
                |_| &[],
                |_, info, _| {
                    assert_eq!(info.invalid, None);
                },
            );
        };
        let expire = |secs| {
            let now = T0 + Duration::from_secs(secs);
            for i in 0..table.n() {
                visit(&table, i, |t| t.expire(now, 64));
            }
        };
        for segment in [(true, SYN), (false, SYN | ACK), (true, ACK)] {
            send(segment, 0);
        }
        assert_eq!(table.1.get(), 2);
        expire(stands);
        for segment in [(true, FIN | ACK), (false, FIN | ACK), (true, ACK)] {
            send(segment, stands);
        }
        assert_eq!(table.1.get(), if stands == 0 { 5 } else { 2 });
        let now = T0 + Duration::from_secs(stands);
        assert_eq!(connections(&table, now)[0].timeout, Duration::from_secs(30));
        expire(stands + 31);
        assert!(table.0.iter().all(|s| s.lock().is_empty()));
    }
}
