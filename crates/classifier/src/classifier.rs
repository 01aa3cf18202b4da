//! The set of subtables.

use alloc::vec::Vec;

use base::HashKey;
use flow::{FieldId, FlowKey, Match};
use hashbrown::HashMap;

use crate::conjunction::Conjunctive;
use crate::heads::NO_RULE;
use crate::mini::MiniMatch;
use crate::prefixes::{MAX_PREFIX_FIELDS, Prefixes};
use crate::subtable::Subtable;
use crate::trie::TrieMatch;

/// A set of rules, each with a match and a priority; `R` is whatever the owner keeps with them.
///
/// Two rules may overlap; of several that match a packet, the one with the highest priority wins,
/// and of equal priorities any one does.
#[derive(Clone, Debug)]
pub struct Classifier<R> {
    hash: HashKey,
    /// All subtables, never empty ones.
    subtables: Vec<Subtable<R>>,
    /// Highest priority and index of each subtable, highest first, else oldest first.
    order: Vec<(i32, u32)>,
    by_mask: HashMap<FlowKey, u32>,
    prefixes: Prefixes,
    len: usize,
    /// Rules that stand for clauses of conjunctions.
    n_soft: usize,
}

/// A rule that a search came upon.
pub(crate) struct Candidate<'a, R> {
    subtable: &'a Subtable<R>,
    slot: u32,
    pub priority: i32,
    pub rule: &'a R,
}

impl<'a, R> Candidate<'a, R> {
    /// The rule with the same match and the next lower priority.
    pub fn next(&self) -> Option<Candidate<'a, R>> {
        let subtable = self.subtable;
        let (slot, priority, rule) = subtable.chain(self.slot).nth(1)?;
        Some(Candidate { subtable, slot, priority, rule })
    }
}

/// A rule of a [`Classifier`] with what it is stored under.
#[derive(Debug)]
pub struct Found<'a, R> {
    subtable: &'a Subtable<R>,
    slot: u32,
    /// Its priority.
    pub priority: i32,
    /// The rule.
    pub rule: &'a R,
}

impl<R> Found<'_, R> {
    /// The match it is stored under.
    pub fn match_(&self) -> Match {
        self.subtable.match_of(self.slot)
    }
}

impl<R: Conjunctive> Default for Classifier<R> {
    fn default() -> Self {
        Self::new(HashKey::default())
    }
}

impl<R: Conjunctive> Classifier<R> {
    /// An empty one, hashing under `hash`.
    pub fn new(hash: HashKey) -> Self {
        Classifier {
            hash,
            subtables: Vec::new(),
            order: Vec::new(),
            by_mask: HashMap::new(),
            prefixes: Prefixes::default(),
            len: 0,
            n_soft: 0,
        }
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of distinct masks.
    pub fn n_subtables(&self) -> usize {
        self.subtables.len()
    }

    /// Tracks the prefixes of these fields instead, the first [`MAX_PREFIX_FIELDS`] of those that
    /// [`PREFIX_FIELDS`](crate::PREFIX_FIELDS) has. A new classifier tracks IPv4 and IPv6 addresses.
    pub fn set_prefix_fields(&mut self, fields: &[FieldId]) {
        if self.prefixes.tracks(fields) {
            return;
        }
        let mut prefixes = Prefixes::new(fields);
        for s in &mut self.subtables {
            s.set_prefixes(&prefixes);
            for (slot, ..) in s.slots() {
                prefixes.change(&s.match_of(slot).key, &s.plens, true);
            }
        }
        self.prefixes = prefixes;
    }

    fn subtable(&self, mask: &FlowKey) -> Option<&Subtable<R>> {
        self.by_mask.get(mask).map(|&i| &self.subtables[i as usize])
    }

    /// Lets `mini`, the small form of `m`, share its mask with those of other rules with the same mask.
    pub fn share_mask(&self, m: &Match, mini: &mut MiniMatch) {
        if let Some(s) = self.subtable(&m.mask) {
            mini.share(&s.mini);
        }
    }

    /// Puts `rule` in; gives back the rule that had the same match and priority.
    pub fn insert(&mut self, m: &Match, priority: i32, rule: R) -> Option<R> {
        let i = match self.by_mask.get(&m.mask) {
            Some(&i) => i,
            None => {
                let i = self.subtables.len() as u32;
                self.subtables.push(Subtable::new(self.hash, &m.mask, &self.prefixes));
                self.order.push((i32::MIN, i));
                self.by_mask.insert(m.mask, i);
                i
            }
        };
        self.n_soft += usize::from(rule.is_soft());
        let s = &mut self.subtables[i as usize];
        let replaced = s.insert(&m.key, priority, rule);
        if let Some(old) = &replaced {
            self.n_soft -= usize::from(old.is_soft());
        } else {
            self.len += 1;
            self.prefixes.change(&m.key, &s.plens, true);
            self.reorder(i);
        }
        replaced
    }

    /// Takes the rule with exactly this match and priority out.
    pub fn remove(&mut self, m: &Match, priority: i32) -> Option<R> {
        let i = *self.by_mask.get(&m.mask)?;
        let s = &mut self.subtables[i as usize];
        let rule = s.remove(&m.key, priority)?;
        self.len -= 1;
        self.n_soft -= usize::from(rule.is_soft());
        self.prefixes.change(&m.key, &s.plens, false);
        if s.len() > 0 {
            self.reorder(i);
            return Some(rule);
        }
        self.by_mask.remove(&m.mask);
        self.order.retain(|e| e.1 != i);
        // The last subtable moves into the gap.
        self.subtables.swap_remove(i as usize);
        let moved = self.subtables.len() as u32;
        if let Some(s) = self.subtables.get(i as usize) {
            self.by_mask.insert(s.mask, i);
            for e in &mut self.order {
                if e.1 == moved {
                    e.1 = i;
                }
            }
        }
        Some(rule)
    }

    fn reorder(&mut self, subtable: u32) {
        let max = self.subtables[subtable as usize].max_priority();
        if let Some(e) = self.order.iter_mut().find(|e| e.1 == subtable)
            && e.0 != max
        {
            e.0 = max;
            self.order.sort_by_key(|e| core::cmp::Reverse(e.0));
        }
    }

    /// The rule with exactly this match and priority.
    pub fn get(&self, m: &Match, priority: i32) -> Option<&R> {
        self.subtable(&m.mask)?.get(&m.key, priority)
    }

    /// The best rule for a packet. With `wc`, adds the bits that were looked at to it.
    #[inline]
    pub fn lookup(&self, key: &FlowKey, wc: Option<&mut FlowKey>) -> Option<&R> {
        match (wc, self.n_soft) {
            (None, 0) => match &*self.subtables {
                [only] => Self::lookup_one(only, key),
                _ => self.lookup_many(key),
            },
            (Some(wc), 0) => self.lookup_wc(key, wc),
            (Some(wc), _) => self.lookup_conjunctive(key, wc, |_| ()),
            (None, _) => self.lookup(key, Some(&mut FlowKey::default())),
        }
    }

    /// The same, for a trace: also gives the rules whose clauses made up the conjunction that led
    /// to the rule, if one did.
    pub fn lookup_explained(&self, key: &FlowKey, wc: &mut FlowKey) -> (Option<&R>, Vec<&R>) {
        let mut parts = Vec::new();
        (self.lookup_conjunctive(key, wc, |r| parts.push(r)), parts)
    }

    #[inline(never)]
    fn lookup_one<'a>(only: &'a Subtable<R>, key: &FlowKey) -> Option<&'a R> {
        only.rule(only.lookup_alone(key)).1
    }

    fn lookup_many(&self, key: &FlowKey) -> Option<&R> {
        let mut best: Option<(i32, &R)> = None;
        for &(max, i) in &self.order {
            if best.is_some_and(|(p, _)| max <= p) {
                break;
            }
            let s = &self.subtables[i as usize];
            let slot = s.lookup(key);
            if slot != NO_RULE
                && let (p, Some(r)) = s.rule(slot)
                && best.is_none_or(|(b, _)| p > b)
            {
                best = Some((p, r));
            }
        }
        best.map(|(_, r)| r)
    }

    fn lookup_wc(&self, key: &FlowKey, wc: &mut FlowKey) -> Option<&R> {
        if let [only] = &*self.subtables
            && let Some(rule) = Self::lookup_one(only, key)
        {
            // Where a rule is found all of the mask counts, and the stages have nothing to say.
            only.note_all(wc);
            return Some(rule);
        }
        let mut best = None;
        self.search(key, wc, |c| {
            best = Some(c.rule);
            true
        });
        best
    }

    /// Goes through the subtables and gives `take` the best rule that each has for the packet, if
    /// it is better than all that were taken before; `take` tells whether it takes it.
    #[inline]
    pub(crate) fn search<'a>(
        &'a self,
        key: &FlowKey,
        wc: &mut FlowKey,
        mut take: impl FnMut(Candidate<'a, R>) -> bool,
    ) {
        let mut best = i32::MIN;
        let mut tries: [Option<TrieMatch>; MAX_PREFIX_FIELDS] = [None; MAX_PREFIX_FIELDS];
        for &(max, i) in &self.order {
            if max <= best {
                break;
            }
            let s = &self.subtables[i as usize];
            let skip = |fields: u8, wc: &mut FlowKey| {
                for (f, &plen) in s.plens.iter().enumerate() {
                    if fields >> f & 1 == 0 {
                        continue;
                    }
                    let m = *tries[f].get_or_insert_with(|| self.prefixes.lookup(f, key));
                    // Never more bits than the subtable itself would have looked at.
                    if !m.has(plen) && m.n_bits <= plen {
                        self.prefixes.note(wc, f, m.n_bits);
                        return true;
                    }
                }
                false
            };
            let slot = s.lookup_staged(key, wc, skip);
            if let (priority, Some(rule)) = s.rule(slot)
                && priority > best
                && take(Candidate { subtable: s, slot, priority, rule })
            {
                best = priority;
            }
        }
    }

    fn in_order(&self) -> impl Iterator<Item = &Subtable<R>> {
        self.order.iter().map(|&(_, i)| &self.subtables[i as usize])
    }

    fn found<'a>(s: &'a Subtable<R>, (slot, priority, rule): (u32, i32, &'a R)) -> Found<'a, R> {
        Found { subtable: s, slot, priority, rule }
    }

    /// All rules, mask by mask. The mask of the highest priority comes first; of rules with one mask,
    /// the one that was there first, which a rule that replaces it inherits.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_, R>> {
        self.in_order().flat_map(|s| s.slots().map(move |e| Self::found(s, e)))
    }

    /// All rules whose matches lie within `criteria` (a "loose" flow mod or dump): those that
    /// match only packets that `criteria` matches too. In the order of [`Classifier::iter`].
    pub fn within<'a>(&'a self, criteria: &'a Match) -> impl Iterator<Item = Found<'a, R>> {
        let covers = |s: &&Subtable<R>| {
            let (a, b) = (criteria.mask.words(), s.mask.words());
            a.iter().zip(b).all(|(a, b)| a & !b == 0)
        };
        self.in_order().filter(covers).flat_map(move |s| {
            // With the same mask one lookup finds them all.
            let same = s.mask == criteria.mask;
            let exact = same.then(|| s.chain(s.find(&criteria.key)));
            let scan =
                (!same).then(|| s.slots().filter(|e| s.agrees(e.0, &criteria.key, &criteria.mask)));
            exact
                .into_iter()
                .flatten()
                .chain(scan.into_iter().flatten())
                .map(move |e| Self::found(s, e))
        })
    }

    /// All rules of one priority that share some packet with `m` (`OFPFF_CHECK_OVERLAP`).
    pub fn overlapping<'a>(
        &'a self,
        m: &'a Match,
        priority: i32,
    ) -> impl Iterator<Item = Found<'a, R>> {
        self.subtables.iter().filter(move |s| s.max_priority() >= priority).flat_map(move |s| {
            let common = &m.mask & &s.mask;
            s.slots()
                .filter(move |e| e.1 == priority && s.agrees(e.0, &m.key, &common))
                .map(move |e| Self::found(s, e))
        })
    }
}
