//! The classifier against a linear scan, wildcards included.

use classifier::Classifier;
use flow::{FlowKey, Match};
use proptest::prelude::*;

/// Values from a small world, so that rules and packets meet.
#[derive(Clone, Debug)]
struct World {
    in_port: u32,
    ct_state: u8,
    reg: u32,
    dl_type: u16,
    vlan: u16,
    nw_src: u32,
    nw_dst: u32,
    v6: u128,
    proto: u8,
    tp: (u16, u16),
    nd: u32,
}

fn world() -> impl Strategy<Value = World> {
    (
        (0u32..3, any::<u8>(), 0u32..4, 0u16..3, 0u16..3),
        (0u32..16, 0u32..16, 0u128..4, 0u8..3, (0u16..8, 0u16..8), 0u32..2),
    )
        .prop_map(|((in_port, ct_state, reg, dl_type, vlan), (s, d, v6, proto, tp, nd))| {
            World {
                in_port,
                ct_state: ct_state & 3,
                reg,
                dl_type,
                vlan,
                nw_src: s << 28 | s << 6,
                nw_dst: d << 28 | d,
                v6: v6 << 126 | v6,
                proto,
                tp: (tp.0 << 13 | tp.0, tp.1),
                nd,
            }
        })
}

fn key(w: &World) -> FlowKey {
    let mut k = FlowKey::ZERO;
    k.regs[0] = w.reg;
    k.pkt.in_port = w.in_port;
    k.pkt.ct_state = w.ct_state;
    k.pkt.dl_type = w.dl_type;
    k.pkt.vlans[0].tci = w.vlan;
    (k.pkt.nw_src, k.pkt.nw_dst) = (w.nw_src, w.nw_dst);
    k.pkt.ipv6_dst = w.v6.to_be_bytes();
    k.pkt.nw_proto = w.proto;
    (k.pkt.tp_src, k.pkt.tp_dst) = w.tp;
    k.pkt.nd_reserved = w.nd;
    k
}

/// A mask from a few choices per field, so that rules share subtables.
fn mask() -> impl Strategy<Value = FlowKey> {
    (any::<u16>(), 0usize..5, 0usize..5, 0usize..4, 0u8..4, 0usize..4).prop_map(
        |(fields, src, dst, v6, ct, tp)| {
            let on = |i: u16| fields >> i & 1 != 0;
            let mut m = FlowKey::ZERO;
            m.regs[0] = if on(0) { 3 } else { 0 };
            m.pkt.in_port = if on(1) { u32::MAX } else { 0 };
            m.pkt.ct_state = if on(2) { ct } else { 0 };
            m.pkt.dl_type = if on(3) { 0xffff } else { 0 };
            m.pkt.vlans[0].tci = if on(4) { 0xffff } else { 0 };
            m.pkt.nw_src = [0, u32::MAX, 0xf000_0000, 0xc000_0000, 0x1000_0040][src];
            m.pkt.nw_dst = [0, u32::MAX, 0xe000_0000, 0xffff_fffe, 0x8000_0000][dst];
            m.pkt.ipv6_dst = [0, u128::MAX, 3 << 126, 1 << 127][v6].to_be_bytes();
            m.pkt.nw_proto = if on(5) { 0xff } else { 0 };
            if on(6) {
                (m.pkt.tp_src, m.pkt.tp_dst) =
                    [(0xffff, 0), (0, 0xffff), (0xffff, 0xfffc), (0x8000, 1)][tp];
            }
            m.pkt.nd_reserved = if on(7) { 1 } else { 0 };
            m
        },
    )
}

/// The rules as a list.
#[derive(Default)]
struct Linear(Vec<(Match, i32, usize)>);

impl Linear {
    /// Highest priority of the rules that match.
    fn best(&self, k: &FlowKey) -> Option<i32> {
        self.0.iter().filter(|(m, ..)| m.matches(k)).map(|e| e.1).max()
    }
}

fn sorted(mut v: Vec<usize>) -> Vec<usize> {
    v.sort_unstable();
    v
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn same_answers_as_a_linear_scan(
        rules in prop::collection::vec((mask(), world(), 0i32..4, 0u8..5), 1..40),
        probes in prop::collection::vec((world(), world(), any::<u64>()), 1..12),
        criteria in (mask(), world()),
    ) {
        let mut cls = Classifier::default();
        let mut list = Linear::default();
        for (id, (mask, w, priority, op)) in rules.into_iter().enumerate() {
            let m = Match { key: &key(&w) & &mask, mask };
            let at = list.0.iter().position(|e| e.0 == m && e.1 == priority);
            prop_assert_eq!(cls.get(&m, priority).copied(), at.map(|i| list.0[i].2));
            if op == 0 && !list.0.is_empty() {
                let (m, p, id) = list.0.swap_remove(id % list.0.len());
                prop_assert_eq!(cls.remove(&m, p), Some(id));
                prop_assert_eq!(cls.remove(&m, p), None);
            } else {
                let old = at.map(|i| list.0.swap_remove(i).2);
                prop_assert_eq!(cls.insert(&m, priority, id), old);
                list.0.push((m, priority, id));
            }
            prop_assert_eq!(cls.len(), list.0.len());
        }

        let by_id = |id: usize| list.0.iter().find(|e| e.2 == id).copied();
        for (w, twin, noise) in probes {
            let k = key(&w);
            let mut wc = FlowKey::ZERO;
            let got = cls.lookup(&k, Some(&mut wc)).copied();
            prop_assert_eq!(got, cls.lookup(&k, None).copied());
            let rule = got.and_then(by_id);
            prop_assert!(rule.is_none_or(|(m, ..)| m.matches(&k)));
            prop_assert_eq!(rule.map(|e| e.1), list.best(&k));

            // Any packet that agrees on the bits looked at gets the same answer.
            let mut other = key(&twin);
            other.pkt.nw_src ^= noise as u32;
            other.pkt.tp_src ^= (noise >> 32) as u16;
            for ((o, k), m) in other.words_mut().iter_mut().zip(k.words()).zip(wc.words()) {
                *o = (*o & !m) | (k & m);
            }
            prop_assert_eq!(cls.lookup(&other, None).copied(), got, "wildcards {:?}", wc);
            prop_assert_eq!(list.best(&other), list.best(&k));

            // No bit was looked at that no rule has.
            let mut union = FlowKey::ZERO;
            for (m, ..) in &list.0 {
                union |= &m.mask;
            }
            for (w, (u, f)) in wc.words().iter().zip(union.words().iter().zip(0..)) {
                prop_assert_eq!(w & !u, 0, "word {}", f);
            }
        }

        let c = Match { key: &key(&criteria.1) & &criteria.0, mask: criteria.0 };
        let within = cls.within(&c).map(|f| *f.rule).collect();
        let want = list.0.iter().filter(|e| e.0.is_within(&c)).map(|e| e.2).collect();
        prop_assert_eq!(sorted(within), sorted(want));
        for p in 0..4 {
            let over = cls.overlapping(&c, p).map(|f| *f.rule).collect();
            let want =
                list.0.iter().filter(|e| e.1 == p && e.0.overlaps(&c)).map(|e| e.2).collect();
            prop_assert_eq!(sorted(over), sorted(want));
        }
        for f in cls.iter() {
            let (m, p, _) = by_id(*f.rule).ok_or_else(|| TestCaseError::fail("unknown rule"))?;
            prop_assert_eq!((f.match_(), f.priority), (m, p));
            prop_assert_eq!(f.mini_match().expand(), m);
        }
        for (m, p, id) in &list.0 {
            prop_assert_eq!(cls.remove(m, *p), Some(*id));
        }
        prop_assert!(cls.is_empty() && cls.n_subtables() == 0);
    }
}

fn rule(f: impl Fn(&mut FlowKey, &mut FlowKey)) -> Match {
    let mut m = Match::ANY;
    f(&mut m.key, &mut m.mask);
    m.key = &m.key & &m.mask;
    m
}

#[test]
fn only_the_looked_at_conntrack_bits_are_significant() {
    let mut cls = Classifier::default();
    let state = |bit: u8| {
        rule(move |k, m| {
            (k.pkt.in_port, m.pkt.in_port) = (2, u32::MAX);
            (k.pkt.ct_state, m.pkt.ct_state) = (bit, bit);
            (k.pkt.dl_type, m.pkt.dl_type) = (0x800, 0xffff);
        })
    };
    cls.insert(&state(1), 1, "new");
    cls.insert(&state(2), 1, "est");
    let mut k = state(2).key;
    let mut wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&"est"));
    assert_eq!(wc.pkt.ct_state, 3);
    k.pkt.ct_state = 1;
    wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&"new"));
    assert_eq!(wc.pkt.ct_state, 1, "the second subtable cannot do better");
}

#[test]
fn a_failed_stage_leaves_later_layers_unlooked_at() {
    let mut cls = Classifier::default();
    let m = rule(|k, m| {
        (k.pkt.in_port, m.pkt.in_port) = (1, u32::MAX);
        (k.pkt.tp_dst, m.pkt.tp_dst) = (80, 0xffff);
    });
    cls.insert(&m, 5, ());
    let mut wc = FlowKey::ZERO;
    let mut k = FlowKey::ZERO;
    k.pkt.in_port = 2;
    assert!(cls.lookup(&k, Some(&mut wc)).is_none());
    assert_eq!((wc.pkt.in_port, wc.pkt.tp_dst), (u32::MAX, 0));
    k.pkt.in_port = 1;
    k.pkt.tp_dst = 22;
    assert!(cls.lookup(&k, Some(&mut wc)).is_none());
    assert_eq!(wc.pkt.tp_dst, 0xffc0, "22 differs from 80 in the tenth bit");
}

#[test]
fn prefixes_in_use_decide_by_their_first_bits() {
    let mut cls = Classifier::default();
    for (net, len) in [(0x0a00_0000u32, 8u32), (0x0a01_0203, 32)] {
        let m = rule(|k, m| {
            (k.pkt.nw_dst, m.pkt.nw_dst) = (net, u32::MAX << (32 - len));
        });
        cls.insert(&m, len as i32, len);
    }
    let mut k = FlowKey::ZERO;
    k.pkt.nw_dst = 0xc0a8_0001;
    let mut wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), None);
    assert_eq!(wc.pkt.nw_dst, 0x8000_0000);
    k.pkt.nw_dst = 0x0a80_0001;
    wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&8));
    assert_eq!(wc.pkt.nw_dst, 0xff80_0000);
}
