//! Packets that are made to have many masks: megaflows have few, and packets get what the tables say.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use base::{Duration, HashKey};
use classifier::{Classifier, Conjunctive};
use common::{Net, Policy, out, udp};
use datapath::Config;
use flow::{FlowKey, Match, PacketKey};
use packet::PacketBuf;
use proptest::prelude::*;

/// Most masks of a port: `datapath::masks`.
const MOST: usize = 97;

/// Where a rule sends packets.
#[derive(Debug)]
struct To(u32);

impl Conjunctive for To {}

/// A tuple of addresses and ports.
type Tuple = [u32; 4];

const WIDTHS: [u32; 4] = [32, 32, 16, 16];

/// A match of some prefix of each field.
#[derive(Clone, Debug)]
struct Rule {
    value: Tuple,
    lengths: [u32; 4],
    priority: i32,
    port: u32,
}

fn put(key: &mut FlowKey, t: Tuple) {
    (key.pkt.nw_src, key.pkt.nw_dst) = (t[0], t[1]);
    (key.pkt.tp_src, key.pkt.tp_dst) = (t[2] as u16, t[3] as u16);
}

impl Rule {
    fn match_(&self) -> Match {
        let mut m = Match::ANY;
        let mask = std::array::from_fn(|i| {
            let (width, len) = (WIDTHS[i], self.lengths[i]);
            ((1_u64 << width) - (1_u64 << (width - len))) as u32
        });
        put(&mut m.mask, mask);
        put(&mut m.key, std::array::from_fn(|i| self.value[i] & mask[i]));
        (m.key.pkt.dl_type, m.mask.pkt.dl_type) = (0x0800, !0);
        (m.key.pkt.nw_proto, m.mask.pkt.nw_proto) = (17, !0);
        m
    }
}

/// What a table says of a packet, and which bits it looked at.
fn translation(rules: &[Rule]) -> impl Fn(&PacketKey) -> (PacketKey, Vec<dpif::DpAction>) + use<> {
    let mut table = Classifier::new(HashKey([3, 4]));
    for rule in rules {
        table.insert(&rule.match_(), rule.priority, To(rule.port));
    }
    move |key| {
        let mut wc = FlowKey::ZERO;
        let found = table.lookup(&FlowKey::from(*key), Some(&mut wc));
        (wc.pkt, found.map(|to| out(to.0)).into_iter().collect())
    }
}

fn frame(t: Tuple) -> PacketBuf {
    udp(t[0].to_be_bytes(), t[1].to_be_bytes(), t[2] as u16, t[3] as u16, b"x")
}

/// A tuple that differs from another one first at these bits, and behind them as `r` has it.
fn differing(t: Tuple, at: [u32; 4], r: Tuple) -> Tuple {
    std::array::from_fn(|i| {
        let width = WIDTHS[i];
        match at[i] {
            at if at >= width => t[i],
            at => {
                let bit = 1 << (width - 1 - at);
                (t[i] ^ bit) & !(bit - 1) | r[i] & (bit - 1)
            }
        }
    })
}

/// One field each, and what is let pass.
fn whitelist(allowed: Tuple) -> Vec<Rule> {
    let rule = |at: usize| {
        let lengths = std::array::from_fn(|i| if i == at { WIDTHS[i] } else { 0 });
        Rule { value: allowed, lengths, priority: 10, port: 2 }
    };
    (0..4).map(rule).collect()
}

fn masks(net: &Net) -> BTreeMap<u32, BTreeSet<[u64; flow::PACKET_WORDS]>> {
    let mut masks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for f in net.dp.flows() {
        masks.entry(f.key.in_port).or_default().insert(*f.mask.words());
    }
    masks
}

fn net(rules: &[Rule], install: bool) -> Net {
    let mut policy = Policy::new(translation(rules));
    policy.install = install;
    Net::new(4, Config { n_threads: 0, ..Config::default() }, policy)
}

const ALLOWED: Tuple = [0x0a00_0001, 0xc0a8_0004, 12_345, 80];

/// All combinations of bits, mixed.
fn crafted(n: u32) -> Tuple {
    let at = n.wrapping_mul(0x2_4f35) % (1 << 18);
    let r = n.wrapping_mul(2_654_435_761);
    let bits = [at % 32, at / 32 % 32, at / 1024 % 16, at / 16_384];
    differing(ALLOWED, bits, [r, r.rotate_left(7), r >> 16, r & 0xffff])
}

#[test]
fn crafted_packets_leave_few_masks_and_all_are_dropped() {
    let mut net = net(&whitelist(ALLOWED), true);
    for batch in 0..100 {
        let packets: Vec<_> = (batch * 30..(batch + 1) * 30).map(|n| frame(crafted(n))).collect();
        net.inject(1, &packets);
        net.run();
        assert!(net.outputs().iter().all(Vec::is_empty));
        net.now += Duration::from_millis(30);
        if batch % 16 == 15 {
            net.dp.expire(net.now, Duration::from_secs(10));
        }
    }
    let masks = masks(&net);
    let n = masks[&1].len();
    assert!((64..=MOST).contains(&n), "{n} masks");
    assert!(net.dp.stats().widened > 1000, "{:?}", net.dp.stats());
    // Nobody used them: they do not stay for ten seconds.
    assert!(net.dp.n_flows() < 1600, "{} flows", net.dp.n_flows());
    // What another port has is as it was asked for.
    net.inject(3, &[frame(differing(ALLOWED, [3, 5, 7, 9], [0; 4]))]);
    net.run();
    let flows = net.dp.flows();
    let other = flows.iter().find(|f| f.key.in_port == 3).unwrap();
    assert_eq!((other.mask.nw_src, other.mask.tp_dst), (0xf000_0000, 0xffc0));
    // And what is allowed passes.
    net.inject(1, &[frame(differing(ALLOWED, [0, 1, 2, 16], [5; 4]))]);
    net.run();
    assert_eq!(net.outputs()[1].len(), 1);
    // Flows with more bits than the tables look at are as right as others.
    let before = net.dp.n_flows();
    net.policy.generation.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    net.dp.revalidate(net.now);
    assert!(net.dp.n_flows() >= before / 2, "{} of {before}", net.dp.n_flows());
    assert!(self::masks(&net)[&1].len() <= MOST);
    // When the rush is over masks are what tables ask for again.
    net.now += Duration::from_secs(11);
    net.dp.expire(net.now, Duration::from_secs(10));
    assert_eq!(net.dp.n_flows(), 0);
    net.inject(1, &[frame(differing(ALLOWED, [3, 5, 7, 9], [0; 4]))]);
    net.run();
    assert_eq!(net.dp.flows()[0].mask.nw_src, 0xf000_0000);
}

#[test]
fn a_scan_is_not_remembered_and_what_comes_again_is() {
    // A policy that looks at all: each packet is a flow of its own.
    let mut all = FlowKey::ZERO;
    put(&mut all, [!0; 4]);
    let policy = Policy::new(move |_| (all.pkt, Vec::new()));
    let net = Net::new(4, Config { n_threads: 0, ..Config::default() }, policy);
    let scanned = |n: u32| {
        let r = n.wrapping_mul(2_654_435_761);
        [r, r.rotate_left(11), r >> 16, r & 0xffff]
    };
    for batch in 0..1000 {
        let packets: Vec<_> = (batch * 30..(batch + 1) * 30).map(|n| frame(scanned(n))).collect();
        net.inject(1, &packets);
        net.run();
    }
    assert!(net.dp.n_flows() <= 4096, "{}", net.dp.n_flows());
    assert!(net.dp.stats().passed_over > 10_000);
    let again = frame([1, 2, 3, 4]);
    let missed = net.dp.stats().missed;
    for _ in 0..5 {
        net.inject(1, std::slice::from_ref(&again));
        net.run();
    }
    assert!(net.dp.stats().missed <= missed + 2);
    // Another port's first packet is.
    let before = net.dp.n_flows();
    net.inject(3, &[frame(scanned(7))]);
    net.run();
    assert_eq!(net.dp.n_flows(), before + 1);
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>())
        .prop_map(|(a, b, c, d)| [a, b, c.into(), d.into()])
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let length = |width: u32| prop_oneof![2 => Just(0), 2 => Just(width), 1 => 0..=width];
    let lengths = (length(32), length(32), length(16), length(16));
    let rule = (tuple(), lengths, 0..4_i32, 2..5_u32).prop_map(|(value, l, priority, port)| Rule {
        value,
        lengths: l.into(),
        priority,
        port,
    });
    prop_oneof![
        tuple().prop_map(whitelist),
        proptest::collection::vec(rule, 1..12),
        // Rules of one value, the hardest to tell from each other.
        (tuple(), proptest::collection::vec(0..=32_u32, 4..40)).prop_map(|(value, lengths)| {
            let rule = |l: &[u32]| Rule {
                value,
                lengths: std::array::from_fn(|i| l[i].min(WIDTHS[i])),
                priority: l[0] as i32,
                port: 2 + l[1] % 3,
            };
            lengths.chunks_exact(4).map(rule).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any tables, and packets that differ from what the rules say at any bits: all go where the tables
    /// send them, and masks are few, also after tables were changed.
    #[test]
    fn bounds_change_no_verdict(
        tables in proptest::collection::vec(rules(), 1..3),
        packets in proptest::collection::vec((any::<proptest::sample::Index>(), any::<[u32; 4]>(), tuple(), 1..3_u32), 400..800),
    ) {
        let (bounded, plain) = (net(&tables[0], true), net(&tables[0], false));
        for table in &tables {
            for net in [&bounded, &plain] {
                net.policy.change(translation(table));
            }
            bounded.dp.revalidate(bounded.now);
            for (which, bits, r, port) in &packets {
                let rule = which.get(table);
                let bits = std::array::from_fn(|i| bits[i] % (WIDTHS[i] + 3));
                let packet = [frame(differing(rule.value, bits, *r))];
                let sent = [&bounded, &plain].map(|net| {
                    net.inject(*port, &packet);
                    net.run();
                    net.outputs().iter().map(Vec::len).collect::<Vec<_>>()
                });
                prop_assert_eq!(&sent[0], &sent[1]);
            }
            prop_assert!(masks(&bounded).values().all(|m| m.len() <= MOST));
        }
    }
}
