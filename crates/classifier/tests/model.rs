//! The classifier against a linear scan, wildcards included.

use std::collections::HashMap;

use classifier::{Classifier, Clause, Conjunctive, MAX_PREFIX_FIELDS, MiniMatch, PREFIX_FIELDS};
use flow::{FieldId, FlowKey, Match};
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

/// A rule that is known by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule(usize, Vec<Clause>);

impl Conjunctive for Rule {
    fn clauses(&self) -> impl Iterator<Item = Clause> {
        self.1.iter().copied()
    }
}

fn plain(id: usize) -> Rule {
    Rule(id, Vec::new())
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
        tracked in prop::sample::subsequence(PREFIX_FIELDS.to_vec(), 0..=MAX_PREFIX_FIELDS),
        from in 0usize..60,
    ) {
        let mut cls: Classifier<Rule> = Classifier::default();
        let mut list = Linear::default();
        for (id, (mask, w, priority, op)) in rules.into_iter().enumerate() {
            if id == from {
                cls.set_prefix_fields(&tracked);
            }
            let m = Match { key: &key(&w) & &mask, mask };
            let at = list.0.iter().position(|e| e.0 == m && e.1 == priority);
            prop_assert_eq!(cls.get(&m, priority).map(|r| r.0), at.map(|i| list.0[i].2));
            if op == 0 && !list.0.is_empty() {
                let (m, p, id) = list.0.swap_remove(id % list.0.len());
                prop_assert_eq!(cls.remove(&m, p), Some(plain(id)));
                prop_assert_eq!(cls.remove(&m, p), None);
            } else {
                let old = at.map(|i| list.0.swap_remove(i).2);
                prop_assert_eq!(cls.insert(&m, priority, plain(id)), old.map(plain));
                list.0.push((m, priority, id));
            }
            prop_assert_eq!(cls.len(), list.0.len());
        }

        let by_id = |id: usize| list.0.iter().find(|e| e.2 == id).copied();
        for (w, twin, noise) in probes {
            let k = key(&w);
            let mut wc = FlowKey::ZERO;
            let got = cls.lookup(&k, Some(&mut wc)).map(|r| r.0);
            prop_assert_eq!(got, cls.lookup(&k, None).map(|r| r.0));
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
            prop_assert_eq!(cls.lookup(&other, None).map(|r| r.0), got, "wildcards {:?}", wc);
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
        let within = cls.within(&c).map(|f| f.rule.0).collect();
        let want = list.0.iter().filter(|e| e.0.is_within(&c)).map(|e| e.2).collect();
        prop_assert_eq!(sorted(within), sorted(want));
        for p in 0..4 {
            let over = cls.overlapping(&c, p).map(|f| f.rule.0).collect();
            let want =
                list.0.iter().filter(|e| e.1 == p && e.0.overlaps(&c)).map(|e| e.2).collect();
            prop_assert_eq!(sorted(over), sorted(want));
        }
        for f in cls.iter() {
            let (m, p, _) = by_id(f.rule.0).ok_or_else(|| TestCaseError::fail("unknown rule"))?;
            prop_assert_eq!((f.match_(), f.priority), (m, p));
            let own = MiniMatch::from(&m);
            let mut shared = own.clone();
            cls.share_mask(&m, &mut shared);
            prop_assert_eq!((shared.expand(), &shared), (m, &own));
        }
        for (m, p, id) in &list.0 {
            prop_assert_eq!(cls.remove(m, *p), Some(plain(*id)));
        }
        prop_assert!(cls.is_empty() && cls.n_subtables() == 0);
    }
}

/// What a search with conjunctions may find, by going through the priorities one by one. More
/// than one answer is possible only where conjunctions of the same priority overlap.
fn conjunctive(rules: &[(Match, i32, Rule)], k: &FlowKey) -> Vec<usize> {
    let hard_only = |k: &FlowKey| {
        let mut best: HashMap<Match, &(Match, i32, Rule)> = HashMap::new();
        for e in rules.iter().filter(|e| e.0.matches(k)) {
            let old = best.entry(e.0).or_insert(e);
            if old.1 < e.1 {
                *old = e;
            }
        }
        best.values().filter(|e| !e.2.is_soft()).map(|e| e.1).max()
    };
    for p in (0..4).rev() {
        let level: Vec<&Rule> =
            rules.iter().filter(|e| e.1 == p && e.0.matches(k)).map(|e| &e.2).collect();
        let hard: Vec<usize> = level.iter().filter(|r| !r.is_soft()).map(|r| r.0).collect();
        if !hard.is_empty() {
            return hard;
        }
        let mut found = Vec::new();
        for id in 0..3 {
            let clauses = || level.iter().flat_map(|r| &r.1).filter(|c| c.id == id);
            let n = 2 + id as u8;
            if usize::from(n) <= level.len() && (0..n).all(|i| clauses().any(|c| c.clause == i)) {
                let k = FlowKey { conj_id: id, ..*k };
                if let Some(p) = hard_only(&k) {
                    let best =
                        |e: &&(Match, i32, Rule)| e.1 == p && e.0.matches(&k) && !e.2.is_soft();
                    found.extend(rules.iter().filter(best).map(|e| e.2.0));
                }
            }
        }
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// No clause, or clauses of conjunctions 0 to 2, which have 2 to 4 of them.
fn clauses() -> impl Strategy<Value = Vec<Clause>> {
    let clause = (0u32..3, 0u8..4).prop_map(|(id, clause)| {
        let n_clauses = 2 + id as u8;
        Clause { id, clause: clause % n_clauses, n_clauses }
    });
    prop_oneof![1 => Just(Vec::new()), 3 => prop::collection::vec(clause, 1..4)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn conjunctions_agree_with_a_linear_scan(
        rules in prop::collection::vec((mask(), world(), 0i32..4, clauses(), 0u32..6), 1..60),
        probes in prop::collection::vec((world(), world()), 1..12),
    ) {
        let mut cls: Classifier<Rule> = Classifier::default();
        let mut list: Vec<(Match, i32, Rule)> = Vec::new();
        for (id, (mut mask, w, priority, clauses, conj_id)) in rules.into_iter().enumerate() {
            // Wide matches, so that packets meet several clauses.
            for (i, w) in mask.words_mut().iter_mut().enumerate() {
                *w = if (id + i) % 3 == 0 { *w } else { 0 };
            }
            let mut k = key(&w);
            if clauses.is_empty() && conj_id < 3 {
                mask.conj_id = u32::MAX;
                k.conj_id = conj_id;
            }
            let m = Match { key: &k & &mask, mask };
            let r = Rule(id, clauses);
            if let Some(i) = list.iter().position(|e| e.0 == m && e.1 == priority) {
                let old = list.swap_remove(i).2;
                if id % 2 == 0 {
                    prop_assert_eq!(cls.remove(&m, priority), Some(old));
                } else {
                    prop_assert_eq!(cls.insert(&m, priority, r.clone()), Some(old));
                    list.push((m, priority, r));
                }
                continue;
            }
            cls.insert(&m, priority, r.clone());
            list.push((m, priority, r));
        }
        for (w, twin) in probes {
            let k = key(&w);
            let mut wc = FlowKey::ZERO;
            let got = cls.lookup(&k, Some(&mut wc)).cloned();
            let want = conjunctive(&list, &k);
            match &got {
                None => prop_assert_eq!(&want, &[]),
                Some(r) => prop_assert!(want.contains(&r.0), "{:?} not in {:?}", r, want),
            }
            prop_assert_eq!(cls.lookup(&k, None), got.as_ref());
            let (explained, parts) = cls.lookup_explained(&k, &mut FlowKey::default());
            prop_assert_eq!(explained, got.as_ref());
            if let Some(first) = parts.first() {
                let whole = |id: u32| {
                    parts.iter().all(|r| r.1.iter().any(|c| c.id == id))
                        && (0..2 + id as u8).all(|i| {
                            parts.iter().any(|r| r.1.iter().any(|c| (c.id, c.clause) == (id, i)))
                        })
                };
                prop_assert!(first.1.iter().any(|c| whole(c.id)), "{:?}", parts);
            }

            let mut other = key(&twin);
            for ((o, k), m) in other.words_mut().iter_mut().zip(k.words()).zip(wc.words()) {
                *o = (*o & !m) | (k & m);
            }
            prop_assert_eq!(cls.lookup(&other, None), got.as_ref(), "wildcards {:?}", wc);
        }
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
    cls.insert(&state(1), 1, plain(1));
    cls.insert(&state(2), 1, plain(2));
    let mut k = state(2).key;
    let mut wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&plain(2)));
    assert_eq!(wc.pkt.ct_state, 3);
    k.pkt.ct_state = 1;
    wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&plain(1)));
    assert_eq!(wc.pkt.ct_state, 1, "the second subtable cannot do better");
}

#[test]
fn a_failed_stage_leaves_later_layers_unlooked_at() {
    let mut cls = Classifier::default();
    let m = rule(|k, m| {
        (k.pkt.in_port, m.pkt.in_port) = (1, u32::MAX);
        (k.pkt.tp_dst, m.pkt.tp_dst) = (80, 0xffff);
    });
    cls.insert(&m, 5, plain(0));
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
fn only_prefixes_of_tracked_fields_decide() {
    let mut cls = Classifier::default();
    for (bits, len) in [(0x0a00_0000u32, 8u32), (0x0a01_0203, 32)] {
        let m = rule(|k, m| {
            (k.pkt.tunnel.src, m.pkt.tunnel.src) = (bits, u32::MAX << (32 - len));
        });
        cls.insert(&m, len as i32, plain(len as usize));
    }
    let looked_at = |cls: &Classifier<Rule>| {
        let mut k = FlowKey::ZERO;
        k.pkt.tunnel.src = 0xc0a8_0001;
        let mut wc = FlowKey::ZERO;
        assert_eq!(cls.lookup(&k, Some(&mut wc)), None);
        wc.pkt.tunnel.src
    };
    assert_eq!(looked_at(&cls), u32::MAX);
    cls.set_prefix_fields(&[FieldId::TunSrc]);
    assert_eq!(looked_at(&cls), 0x8000_0000);
    cls.set_prefix_fields(&[]);
    assert_eq!(looked_at(&cls), u32::MAX);
}

#[test]
fn prefixes_in_use_decide_by_their_first_bits() {
    let mut cls = Classifier::default();
    for (net, len) in [(0x0a00_0000u32, 8u32), (0x0a01_0203, 32)] {
        let m = rule(|k, m| {
            (k.pkt.nw_dst, m.pkt.nw_dst) = (net, u32::MAX << (32 - len));
        });
        cls.insert(&m, len as i32, plain(len as usize));
    }
    let mut k = FlowKey::ZERO;
    k.pkt.nw_dst = 0xc0a8_0001;
    let mut wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), None);
    assert_eq!(wc.pkt.nw_dst, 0x8000_0000);
    k.pkt.nw_dst = 0x0a80_0001;
    wc = FlowKey::ZERO;
    assert_eq!(cls.lookup(&k, Some(&mut wc)), Some(&plain(8)));
    assert_eq!(wc.pkt.nw_dst, 0xff80_0000);
}

#[test]
fn rules_of_one_mask_stay_in_the_order_in_which_they_came() {
    let mut cls = Classifier::default();
    let of = |reg: u32| rule(move |k, m| (k.regs[0], m.regs[0]) = (reg, u32::MAX));
    let mut list: Vec<(u32, i32, usize)> = Vec::new();
    let mut seed = 1u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (seed >> 33) % n
    };
    for id in 0..6000 {
        // Grows, then shrinks, so that the gaps are closed now and then.
        let removes = if id < 3000 { next(10) < 3 } else { next(10) < 7 };
        if removes && !list.is_empty() {
            let (reg, p, id) = list.remove(next(list.len() as u64) as usize);
            assert_eq!(cls.remove(&of(reg), p), Some(plain(id)));
        } else {
            let (reg, p) = (next(900) as u32, next(3) as i32);
            cls.insert(&of(reg), p, plain(id));
            match list.iter_mut().find(|e| (e.0, e.1) == (reg, p)) {
                Some(e) => e.2 = id,
                None => list.push((reg, p, id)),
            }
        }
        if id % 50 == 0 {
            let order: Vec<usize> = cls.iter().map(|f| f.rule.0).collect();
            assert_eq!(order, list.iter().map(|e| e.2).collect::<Vec<_>>());
            for reg in 0..900 {
                let best = list.iter().filter(|e| e.0 == reg).max_by_key(|e| e.1).map(|e| e.2);
                assert_eq!(cls.lookup(&of(reg).key, None).map(|r| r.0), best);
            }
        }
    }
    // Another mask comes first while it has the highest priority.
    let other = rule(|k, m| (k.regs[1], m.regs[1]) = (1, u32::MAX));
    cls.insert(&other, 3, plain(6000));
    assert_eq!(cls.iter().next().map(|f| f.rule.0), Some(6000));
    cls.remove(&other, 3);
    cls.insert(&other, -1, plain(6001));
    assert_eq!(cls.iter().last().map(|f| f.rule.0), Some(6001));
}
