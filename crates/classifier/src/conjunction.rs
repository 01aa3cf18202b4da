//! Conjunctive match (`ovs-fields(7)`, "CONJUNCTIVE MATCH FIELDS").
//!
//! A rule may stand for one *clause* of a conjunction, k of n. It is never found itself (a *soft*
//! match): when a packet matches rules of one priority for all n clauses, the packet is looked up
//! once more with `conj_id` set, this time among the other rules (*hard* matches) only.
//!
//! Order: the best hard match sets the floor. Above it, the soft matches are tried priority by
//! priority, highest first. Where those of one priority lead to nothing, each gives way to the rule
//! with the same match and the next lower priority, which may be hard or soft. So the outcome is
//! that of a search in which a conjunction has the priority of its clauses.

use alloc::sync::Arc;
use alloc::vec::Vec;

use flow::FlowKey;

use crate::classifier::{Candidate, Classifier};

/// Clause `clause` (from 0) of the `n_clauses` of conjunction `id`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Which conjunction.
    pub id: u32,
    /// Which of its dimensions, less than `n_clauses`.
    pub clause: u8,
    /// How many dimensions it has, 2 to 64.
    pub n_clauses: u8,
}

/// What a [`Classifier`] must know of its rules.
pub trait Conjunctive {
    /// The clauses that the rule stands for. A rule with any is never found itself.
    fn clauses(&self) -> impl Iterator<Item = Clause> {
        core::iter::empty()
    }

    /// Whether the rule stands for clauses.
    fn is_soft(&self) -> bool {
        self.clauses().next().is_some()
    }
}

impl<T: Conjunctive> Conjunctive for Arc<T> {
    fn clauses(&self) -> impl Iterator<Item = Clause> {
        T::clauses(self)
    }
}

/// Conjunctions of which some clause is met, with the clauses that are not.
#[derive(Default)]
struct Missing(Vec<(u32, u64)>);

impl Missing {
    /// Notes that a clause is met; tells whether all of its conjunction are.
    fn meet(&mut self, c: Clause) -> bool {
        let i = self.0.iter().position(|e| e.0 == c.id).unwrap_or_else(|| {
            let beyond = u64::MAX.checked_shl(c.n_clauses.into()).unwrap_or(0);
            self.0.push((c.id, !beyond));
            self.0.len() - 1
        });
        let missing = &mut self.0[i].1;
        *missing &= !1u64.checked_shl(c.clause.into()).unwrap_or(0);
        *missing == 0
    }
}

impl<R: Conjunctive> Classifier<R> {
    /// The best rule for a packet in a set that has clauses. `report` hears of the rules that made
    /// up the conjunction, if it was one.
    pub(crate) fn lookup_conjunctive<'a>(
        &'a self,
        key: &FlowKey,
        wc: &mut FlowKey,
        mut report: impl FnMut(&'a R),
    ) -> Option<&'a R> {
        let mut hard: Option<Candidate<'a, R>> = None;
        let mut soft: Vec<Candidate<'a, R>> = Vec::new();
        self.search(key, wc, |c| {
            if c.rule.is_soft() {
                soft.push(c);
                return false;
            }
            hard = Some(c);
            true
        });
        loop {
            let floor = hard.as_ref().map_or(i32::MIN, |h| h.priority);
            soft.retain(|c| c.priority > floor);
            let Some(top) = soft.iter().map(|c| c.priority).max() else { break };
            let level = || soft.iter().filter(|c| c.priority == top);
            let n = level().count();
            let mut missing = Missing::default();
            for clause in level().flat_map(|c| c.rule.clauses()) {
                // One rule meets one clause of a conjunction, so too few rules cannot meet all.
                if usize::from(clause.n_clauses) > n || !missing.meet(clause) {
                    continue;
                }
                let key = FlowKey { conj_id: clause.id, ..*key };
                if let Some(rule) = self.lookup_hard(&key, wc) {
                    let of_it = |c: &&Candidate<'a, R>| c.rule.clauses().any(|d| d.id == clause.id);
                    level().filter(of_it).for_each(|c| report(c.rule));
                    return Some(rule);
                }
            }
            for c in soft.iter_mut().filter(|c| c.priority == top) {
                let Some(next) = c.next() else {
                    // Out with it in the next round.
                    c.priority = i32::MIN;
                    continue;
                };
                if next.rule.is_soft() {
                    *c = next;
                    continue;
                }
                c.priority = i32::MIN;
                if hard.as_ref().is_none_or(|h| next.priority > h.priority) {
                    hard = Some(next);
                }
            }
        }
        hard.map(|c| c.rule)
    }

    /// The best rule for a packet, of those that stand for no clause. As in Open vSwitch, one that
    /// does hides those with the same match and lower priorities.
    fn lookup_hard<'a>(&'a self, key: &FlowKey, wc: &mut FlowKey) -> Option<&'a R> {
        let mut best = None;
        self.search(key, wc, |c| {
            let hard = !c.rule.is_soft();
            if hard {
                best = Some(c.rule);
            }
            hard
        });
        best
    }
}
