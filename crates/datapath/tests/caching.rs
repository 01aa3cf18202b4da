//! Whatever is cached, packets get what the slow path would say.

mod common;

use base::{Duration, RecircId};
use common::{Net, Policy, out, udp};
use conntrack::{ConnFilter, CtRequest};
use datapath::Config;
use dpif::DpAction;
use flow::PacketKey;
use proptest::prelude::*;

/// A random policy: rules tried in order, each a mask over a few fields; the megaflow's mask is
/// all bits looked at on the way, as a classifier would give.
#[derive(Clone, Debug)]
struct Table(Vec<RuleRow>);

#[derive(Clone, Debug)]
struct RuleRow {
    port: Option<u16>,
    net: Option<u8>,
    ct_state: Option<u8>,
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
            if hit {
                return (m, self.actions(k, r.actions));
            }
        }
        (m, vec![])
    }

    fn actions(&self, k: &PacketKey, kind: u8) -> Vec<DpAction> {
        let ct = |commit| DpAction::Ct(Box::new(CtRequest { commit, ..CtRequest::default() }));
        let again = DpAction::Recirc(RecircId(k.recirc_id + 1));
        match kind {
            0 => vec![out(2)],
            1 => vec![out(3), out(2)],
            2 if k.recirc_id < 2 => vec![ct(false), again],
            3 => vec![ct(true), out(2)],
            4 => {
                vec![DpAction::PushVlan { tpid: 0x8100, tci: 3 }, out(2), DpAction::PopVlan, out(3)]
            }
            5 if k.recirc_id < 2 => vec![out(3), ct(true), again],
            _ => vec![],
        }
    }
}

fn tables() -> impl Strategy<Value = Table> {
    let row = (
        proptest::option::of(0u16..3),
        proptest::option::of(1u8..4),
        proptest::option::of(proptest::sample::select(&[1u8, 2, 8, 0x20][..])),
        0u8..7,
    );
    let row =
        row.prop_map(|(port, net, ct_state, actions)| RuleRow { port, net, ct_state, actions });
    proptest::collection::vec(row, 1..6).prop_map(Table)
}

#[derive(Clone, Debug)]
enum Step {
    Batch(u32, Vec<(u8, u16)>),
    Change(Table),
    Confirm,
    Wait(u64),
    Flush,
    FlushConns,
    Revalidate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = (1u32..4, proptest::collection::vec((1u8..4, 0u16..3), 1..12))
        .prop_map(|(port, packets)| Step::Batch(port, packets));
    let step = prop_oneof![
        10 => batch,
        1 => tables().prop_map(Step::Change),
        1 => Just(Step::Confirm),
        1 => (1u64..40).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        1 => Just(Step::FlushConns),
        1 => Just(Step::Revalidate),
    ];
    proptest::collection::vec(step, 1..30)
}

/// What can be seen from outside after each step: frames by port, connections, packets credited.
type Seen = (Vec<Vec<Vec<u8>>>, Vec<String>, u64, u64);

fn play(table: &Table, steps: &[Step], exact_cache: bool, install: bool) -> Vec<Seen> {
    let start = table.clone();
    let mut policy = Policy::new(move |k| start.translate(k));
    policy.install = install;
    let config = Config { n_threads: 0, exact_cache, ..Config::default() };
    let mut net = Net::new(3, config, policy);
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Batch(port, packets) => {
                let batch: Vec<_> = packets
                    .iter()
                    .map(|&(host, dport)| udp([10, 0, 0, host], [10, 0, 0, 9], 5, dport, b"data"))
                    .collect();
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
            Step::Flush => drop(net.dp.flush()),
            Step::FlushConns => {
                net.dp.conntrack().delete(net.now, &ConnFilter::default());
            }
            Step::Revalidate => drop(net.dp.revalidate(net.now)),
        }
        net.dp.push_stats();
        let mut conns = Vec::new();
        net.dp.conntrack().dump(net.now, &ConnFilter::default(), |c| {
            conns.push(format!("{:?} {:?} {:?}", c.orig, c.traffic, c.timeout));
        });
        conns.sort();
        let outputs = net.outputs();
        let frames = outputs.iter().map(|o| o.iter().map(|p| p.frame().to_vec()).collect());
        let load = |a: &std::sync::atomic::AtomicU64| a.load(std::sync::atomic::Ordering::SeqCst);
        let rule = &net.policy.rule;
        seen.push((frames.collect(), conns, load(&rule.n_packets), load(&rule.n_bytes)));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn caches_change_nothing_that_can_be_seen(table in tables(), steps in steps()) {
        // One packet per batch: within a batch, conntrack runs over all packets of a run before
        // any of them is looked up again, so there the grouping shows.
        let steps: Vec<Step> = steps
            .into_iter()
            .flat_map(|s| match s {
                Step::Batch(port, packets) =>
                    packets.into_iter().map(|p| Step::Batch(port, vec![p])).collect(),
                other => vec![other],
            })
            .collect();
        let plain = play(&table, &steps, false, false);
        prop_assert_eq!(&play(&table, &steps, false, true), &plain, "megaflows");
        prop_assert_eq!(&play(&table, &steps, true, true), &plain, "exact cache and megaflows");
    }

    #[test]
    fn the_exact_cache_changes_nothing_in_batches_either(table in tables(), steps in steps()) {
        prop_assert_eq!(play(&table, &steps, true, true), play(&table, &steps, false, true));
    }
}
