//! Whatever is cached, packets get what the slow path would say.

mod common;

use std::net::IpAddr;

use base::{DpPort, Duration, RecircId, Zone};
use common::{Net, Policy, Tcp, out, tcp, udp};
use conntrack::{ConnFilter, CtRequest, NatKind, NatRequest};
use datapath::Config;
use dpif::{DpAction, DropReason, SetGroup, SetMasked};
use flow::PacketKey;
use packet::PacketBuf;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// The number of the actions that set the TTL, for which they have to look at it.
const SET_TTL: u8 = 11;
/// The number of those that translate the source of what they commit.
const SNAT: u8 = 8;
/// The number of those that set a mark to the last byte of the source.
const MARK_OF_HOST: u8 = 12;

/// A random policy: rules tried in order, each a mask over a few fields; the megaflow's mask is
/// all bits looked at on the way, as a classifier would give.
#[derive(Clone, Debug)]
struct Table(Vec<RuleRow>);

#[derive(Clone, Debug)]
struct RuleRow {
    port: Option<u16>,
    net: Option<u8>,
    ct_state: Option<u8>,
    ct_mark: Option<u32>,
    ttl: bool,
    actions: u8,
}

impl Table {
    fn translate(&self, k: &PacketKey) -> (PacketKey, Vec<DpAction>) {
        let mut m = PacketKey::ZERO;
        for r in &self.0 {
            let mut hit = true;
            if let Some(p) = r.port {
                m.tp_dst = !0;
                hit &= k.tp_dst == p;
            }
            if let (true, Some(net)) = (hit, r.net) {
                m.nw_src |= 0xff;
                hit &= k.nw_src as u8 == net;
            }
            if let (true, Some(bit)) = (hit, r.ct_state) {
                m.ct_state |= bit;
                hit &= k.ct_state & bit != 0;
            }
            if let (true, Some(mark)) = (hit, r.ct_mark) {
                m.ct_mark = !0;
                hit &= k.ct_mark == mark;
            }
            if hit && r.ttl {
                m.nw_ttl = !0;
                hit &= k.nw_ttl == 64;
            }
            if hit {
                match r.actions {
                    SET_TTL => m.nw_ttl = !0,
                    MARK_OF_HOST => m.nw_src |= 0xff,
                    _ => {}
                }
                return (m, self.actions(k, r.actions));
            }
        }
        (m, vec![])
    }

    fn actions(&self, k: &PacketKey, kind_number: u8) -> Vec<DpAction> {
        let ct = |request| DpAction::Ct(Box::new(request));
        let (look, commit) =
            (CtRequest::default(), CtRequest { commit: true, ..Default::default() });
        let again = DpAction::Recirc(RecircId(k.recirc_id + 1));
        let may_go_on = k.recirc_id < 3;
        let public = Some((IpAddr::from([10, 0, 0, 77]), IpAddr::from([10, 0, 0, 77])));
        let kind = Some(NatKind::Src);
        let snat = NatRequest { kind, addrs: public, ..NatRequest::default() };
        match kind_number {
            0 => vec![out(2)],
            1 => vec![out(3), out(2)],
            2 if may_go_on => vec![ct(look), again],
            3 => vec![ct(commit), out(2)],
            4 => {
                vec![DpAction::PushVlan { tpid: 0x8100, tci: 3 }, out(2), DpAction::PopVlan, out(3)]
            }
            5 if may_go_on => vec![out(3), ct(commit), again],
            6 if may_go_on => {
                vec![ct(CtRequest { zone: Zone(1), mark: Some((5, 7)), ..commit }), again]
            }
            7 if may_go_on => vec![ct(CtRequest { zone: Zone(1), ..look }), again],
            SNAT if may_go_on => vec![ct(CtRequest { nat: Some(snat), ..commit }), again],
            9 if may_go_on => {
                vec![ct(CtRequest { nat: Some(NatRequest::default()), ..look }), again]
            }
            10 if may_go_on => vec![DpAction::CtClear, out(3), again],
            SET_TTL => {
                let (mut value, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
                (value.nw_ttl, mask.nw_ttl) = (9, !0);
                let set = SetMasked { group: SetGroup::Ipv4, value, mask };
                vec![DpAction::Set(Box::new(set)), out(2)]
            }
            MARK_OF_HOST => {
                vec![ct(CtRequest { mark: Some((u32::from(k.nw_src as u8), 3)), ..commit }), out(3)]
            }
            13 if may_go_on => vec![ct(CtRequest { force: true, ..commit }), again],
            14 => vec![DpAction::Drop(DropReason::Pipeline)],
            _ => vec![],
        }
    }
}

fn tables() -> impl Strategy<Value = Table> {
    let row = (
        proptest::option::of(0u16..3),
        proptest::option::of(1u8..4),
        proptest::option::of(proptest::sample::select(&[1u8, 2, 8, 0x20][..])),
        proptest::option::weighted(0.2, proptest::sample::select(&[0u32, 1, 5][..])),
        proptest::bool::weighted(0.2),
        0u8..16,
    );
    let row = row.prop_map(|(port, net, ct_state, ct_mark, ttl, actions)| RuleRow {
        port,
        net,
        ct_state,
        ct_mark,
        ttl,
        actions,
    });
    proptest::collection::vec(row, 1..6).prop_map(Table)
}

#[derive(Copy, Clone, Debug)]
struct Packet {
    host: u8,
    dport: u16,
    /// From the server, perhaps to an address that the host was translated to.
    reply: Option<bool>,
    /// A TCP segment with these flags.
    tcp: Option<u8>,
    ttl: u8,
}

impl Packet {
    fn frame(&self) -> PacketBuf {
        let host = match self.reply {
            Some(true) => [10, 0, 0, 77],
            _ => [10, 0, 0, self.host],
        };
        let (mut a, mut b) = ((host, 5), ([10, 0, 0, 9], self.dport));
        if self.reply.is_some() {
            (a, b) = (b, a);
        }
        let mut p = match self.tcp {
            None => udp(a.0, b.0, a.1, b.1, b"data"),
            Some(flags) => {
                let (src, dst, sport, dport) = (a.0, b.0, a.1, b.1);
                tcp(Tcp { src, dst, sport, dport, seq: 1, ack: 1, flags }, b"data")
            }
        };
        // The sum of the header stays right.
        let f = p.frame_mut();
        let sum = u16::from_be_bytes([f[24], f[25]]);
        let sum = packet::checksum::update16(
            sum,
            u16::from_be_bytes([f[22], f[23]]),
            u16::from_be_bytes([self.ttl, f[23]]),
        );
        f[22] = self.ttl;
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        p
    }
}

#[derive(Clone, Debug)]
enum Step {
    Batch(u32, Vec<Packet>),
    Change(Table),
    Confirm,
    Wait(u64),
    Flush,
    FlushConns,
    Revalidate,
    /// The port's queue goes to that worker, if there is one.
    Move(u32, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tcp = proptest::option::of(prop_oneof![
        8 => Just(0x10u8),
        1 => proptest::sample::select(&[0x02u8, 0x12, 0x18, 0x11, 0x14, 0x04][..])
    ]);
    let reply = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let ttl = prop_oneof![4 => Just(64u8), 1 => Just(63u8)];
    let packet = (1u8..4, 0u16..3, reply, tcp, ttl)
        .prop_map(|(host, dport, reply, tcp, ttl)| Packet { host, dport, reply, tcp, ttl });
    // The same again and again is what a cache is for.
    let packets =
        (proptest::collection::vec(packet, 1..6), 1usize..5).prop_map(|(p, n)| p.repeat(n));
    let batch = (1u32..4, packets).prop_map(|(port, packets)| Step::Batch(port, packets));
    let step = prop_oneof![
        10 => batch,
        1 => tables().prop_map(Step::Change),
        1 => Just(Step::Confirm),
        1 => (1u64..40).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        1 => Just(Step::FlushConns),
        1 => Just(Step::Revalidate),
        2 => (1u32..4, 1usize..3).prop_map(|(port, worker)| Step::Move(port, worker)),
    ];
    proptest::collection::vec(step, 1..30)
}

/// What can be seen from outside after each step: frames by port, connections, packets credited.
type Seen = (Vec<Vec<Vec<u8>>>, Vec<String>, u64, u64);

/// What may remember.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Caching {
    Nothing,
    Megaflows,
    Exact,
    Connections,
}

fn play(table: &Table, steps: &[Step], caching: Caching) -> (Vec<Seen>, u64) {
    let (seen, net) = play_by(1, table, steps, caching);
    (seen, net.dp.stats().hit_conn)
}

/// The same with so many workers.
fn play_by(n_workers: usize, table: &Table, steps: &[Step], caching: Caching) -> (Vec<Seen>, Net) {
    let start = table.clone();
    let mut policy = Policy::new(move |k| start.translate(k));
    policy.install = caching != Caching::Nothing;
    let config = Config {
        n_threads: 0,
        exact_cache: caching == Caching::Exact,
        conn_cache: if caching == Caching::Connections { 1 << 10 } else { 0 },
        ..Config::default()
    };
    let mut net = Net::with_workers(n_workers, 3, config, policy);
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Batch(port, packets) => {
                let batch: Vec<_> = packets.iter().map(Packet::frame).collect();
                net.inject(*port, &batch);
                net.run();
            }
            Step::Change(t) => {
                let t = t.clone();
                net.policy.change(move |k| t.translate(k));
            }
            Step::Confirm => {
                net.policy.generation.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            Step::Wait(secs) => {
                net.now += Duration::from_secs(*secs);
                net.dp.expire(net.now, Duration::from_secs(10));
                net.dp.conntrack().expire(net.now, usize::MAX);
            }
            Step::Flush => {
                net.dp.flush();
            }
            Step::FlushConns => {
                net.dp.conntrack().delete(net.now, &ConnFilter::default());
            }
            Step::Revalidate => {
                net.dp.revalidate(net.now);
            }
            Step::Move(port, worker) => {
                assert_eq!(net.dp.place(DpPort(*port), 0, *worker), *worker <= n_workers);
            }
        }
        net.dp.push_stats();
        let mut conns = Vec::new();
        net.dp.conntrack().dump(net.now, &ConnFilter::default(), |c| {
            let state = (c.mark, c.label, c.timeout, c.tcp);
            conns
                .push(format!("{:?} {:?} {:?} {:?} {state:?}", c.orig, c.reply, c.zone, c.traffic));
        });
        conns.sort();
        let outputs = net.outputs();
        let frames = outputs.iter().map(|o| o.iter().map(|p| p.frame().to_vec()).collect());
        let load = |a: &std::sync::atomic::AtomicU64| a.load(std::sync::atomic::Ordering::SeqCst);
        let rule = &net.policy.rule;
        seen.push((frames.collect(), conns, load(&rule.n_packets), load(&rule.n_bytes)));
    }
    (seen, net)
}

/// One packet per batch: within a batch, conntrack runs over all packets of a run before any of them is
/// looked up again, so there the grouping shows.
fn one_by_one(steps: Vec<Step>) -> Vec<Step> {
    let single = |s| match s {
        Step::Batch(port, packets) => {
            packets.into_iter().map(|p| Step::Batch(port, vec![p])).collect()
        }
        other => vec![other],
    };
    steps.into_iter().flat_map(single).collect()
}

proptest! {
    #[test]
    fn caches_change_nothing_that_can_be_seen(table in tables(), steps in steps()) {
        let steps = one_by_one(steps);
        let (plain, _) = play(&table, &steps, Caching::Nothing);
        for caching in [Caching::Megaflows, Caching::Exact, Caching::Connections] {
            prop_assert_eq!(&play(&table, &steps, caching).0, &plain, "{:?}", caching);
        }
    }

}

proptest! {
    // Each case plays its steps four times.
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Two workers, the ports shared out anyhow and anew at any time, each with caches of its own: both directions
    /// of a connection may come to different ones. What is counted adds up.
    #[test]
    fn nor_do_two_workers(table in tables(), steps in steps()) {
        let steps = one_by_one(steps);
        let (plain, _) = play(&table, &steps, Caching::Nothing);
        for caching in [Caching::Megaflows, Caching::Exact, Caching::Connections] {
            let (seen, net) = play_by(2, &table, &steps, caching);
            prop_assert_eq!(&seen, &plain, "{:?}", caching);
            let n = steps.iter().filter(|s| matches!(s, Step::Batch(..))).count() as u64;
            let all = net.dp.stats();
            let mut sum = net.dp.worker_stats(datapath::CONTROL);
            (1..3).for_each(|w| sum.add(&net.dp.worker_stats(w)));
            prop_assert_eq!((all.packets, all.hits() + all.missed), (n, n + all.recirculated));
            prop_assert_eq!(sum, all);
        }
    }
}

proptest! {
    #[test]
    fn the_exact_cache_changes_nothing_in_batches_either(table in tables(), steps in steps()) {
        let with = play(&table, &steps, Caching::Exact).0;
        prop_assert_eq!(with, play(&table, &steps, Caching::Megaflows).0);
    }

    /// But for the order of what connections send that have nothing to do with each other, and for which
    /// of them gets a port first.
    #[test]
    fn nor_does_the_connection_cache(mut table in tables(), mut steps in steps()) {
        let changes = steps.iter_mut().filter_map(|s| match s {
            Step::Change(t) => Some(t),
            _ => None,
        });
        for row in changes.chain([&mut table]).flat_map(|t| &mut t.0) {
            if row.actions == SNAT {
                row.actions = 9;
            }
        }
        let [with, without] = [Caching::Connections, Caching::Megaflows].map(|caching| {
            let mut seen = play(&table, &steps, caching).0;
            seen.iter_mut().flat_map(|s| &mut s.0).for_each(|frames| frames.sort());
            seen
        });
        prop_assert_eq!(with, without);
    }
}

/// The property of two workers shows nothing if one has all the work, or no connection is of both.
#[test]
fn both_workers_work_in_such_steps() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut by, mut hits) = ([0; 2], [0; 2]);
    for _ in 0..100 {
        let case = (tables(), steps()).new_tree(&mut runner).unwrap().current();
        let net = play_by(2, &case.0, &one_by_one(case.1), Caching::Connections).1;
        for (worker, n) in by.iter_mut().enumerate() {
            let stats = net.dp.worker_stats(worker + 1);
            *n += stats.packets;
            hits[worker] += stats.hit_conn;
        }
    }
    let (packets, hits) = ((by[0].min(by[1]), by[0].max(by[1])), hits[0].min(hits[1]));
    assert!(3 * packets.0 > packets.1 && 8 * hits > packets.0, "{by:?} {hits}");
}

/// A property of a cache that is never asked shows nothing.
#[test]
fn the_connection_cache_is_used_in_such_steps() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut hits, mut packets) = (0, 0);
    for _ in 0..100 {
        let case = (tables(), steps()).new_tree(&mut runner).unwrap().current();
        // Thrice, for a packet is known from the fourth of its kind on.
        let steps = [case.1.clone(), case.1.clone(), case.1].map(one_by_one).concat();
        hits += play(&case.0, &steps, Caching::Connections).1;
        packets += steps.iter().filter(|s| matches!(s, Step::Batch(..))).count() as u64;
    }
    assert!(hits * 4 > packets, "{hits} of {packets}");
}
