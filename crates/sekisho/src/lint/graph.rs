//! Which tables are reached, in which connection states, and what can happen from there on.

use std::collections::{BTreeMap, BTreeSet};

use base::TableId;
use openflow::Action;

use super::policy::Rule;
use super::space::States;

/// Buckets of groups, by the number of the group.
pub type Groups = BTreeMap<u32, Vec<Vec<Action>>>;

/// What a walk over actions comes by.
pub trait Visitor {
    /// A lookup in a table, of packets in these states.
    fn lookup(&mut self, action: &Action, table: TableId, states: States);
    /// Any other action.
    fn other(&mut self, action: &Action);
}

/// Walks over what a rule does to packets that come in `states`.
pub fn walk(rule: &Rule, groups: &Groups, states: States, v: &mut dyn Visitor) {
    let mut walk = Walk { rule, groups, v, depth: 0 };
    walk.actions(&rule.actions, states);
}

/// How deep groups may name each other.
const MAX_GROUPS: usize = 16;

struct Walk<'a> {
    rule: &'a Rule,
    groups: &'a Groups,
    v: &'a mut dyn Visitor,
    depth: usize,
}

impl Walk<'_> {
    fn actions(&mut self, actions: &[Action], mut states: States) {
        for a in actions {
            self.v.other(a);
            match a {
                Action::Resubmit { table, .. } => {
                    self.v.lookup(a, table.unwrap_or(self.rule.table), states);
                }
                Action::GotoTable(table) => self.v.lookup(a, *table, states),
                Action::Ct(ct) => {
                    if let Some(table) = ct.recirc_table {
                        self.v.lookup(a, table, States::TRACKED);
                    }
                    states = States::UNTRACKED;
                }
                Action::CtClear => states = States::UNTRACKED,
                Action::Clone(nested) | Action::WriteActions(nested) => {
                    self.actions(nested, states);
                }
                Action::Group(id) if self.depth < MAX_GROUPS => {
                    self.depth += 1;
                    for bucket in self.groups.get(id).into_iter().flatten() {
                        self.actions(bucket, states);
                    }
                    self.depth -= 1;
                }
                _ => {}
            }
        }
    }
}

/// The states in which packets come to each table that is reached.
pub type Reached = BTreeMap<TableId, States>;

/// What is reached from table 0, if the rules take packets in the states `takes`.
pub fn reached(rules: &[Rule], groups: &Groups, takes: &[States]) -> Reached {
    let mut by_table: BTreeMap<TableId, Vec<usize>> = BTreeMap::new();
    for (i, r) in rules.iter().enumerate() {
        by_table.entry(r.table).or_default().push(i);
    }
    let mut reached = Reached::from([(TableId(0), States::UNTRACKED)]);
    let mut open = BTreeSet::from([TableId(0)]);
    while let Some(table) = open.pop_first() {
        let states = reached[&table];
        for &i in by_table.get(&table).into_iter().flatten() {
            let r = &rules[i];
            let mut targets = Targets::default();
            let matching = takes[i].and(states);
            if !matching.is_empty() {
                walk(r, groups, matching, &mut targets);
            }
            for (to, states) in targets.0 {
                let old = reached.get(&to).copied();
                let new = old.unwrap_or(States::NONE).or(states);
                if old != Some(new) {
                    reached.insert(to, new);
                    open.insert(to);
                }
            }
        }
    }
    reached
}

#[derive(Default)]
struct Targets(Vec<(TableId, States)>);

impl Visitor for Targets {
    fn lookup(&mut self, _: &Action, table: TableId, states: States) {
        self.0.push((table, states));
    }
    fn other(&mut self, _: &Action) {}
}

/// What can come of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// It may leave by a port.
    pub forwards: bool,
    /// Its connection may be committed.
    pub commits: bool,
}

impl Outcome {
    fn or(self, o: Outcome) -> Outcome {
        Outcome { forwards: self.forwards || o.forwards, commits: self.commits || o.commits }
    }
}

/// What can come of a packet in each table, later tables included.
#[derive(Debug, Default)]
pub struct Outcomes(BTreeMap<TableId, Outcome>);

#[derive(Default)]
struct Ends {
    outcome: Outcome,
    next: Vec<TableId>,
}

impl Visitor for Ends {
    fn lookup(&mut self, _: &Action, table: TableId, _: States) {
        self.next.push(table);
    }

    fn other(&mut self, a: &Action) {
        match a {
            Action::Output { .. }
            | Action::OutputReg { .. }
            | Action::OutputTrunc { .. }
            | Action::Enqueue { .. }
            | Action::Bundle(_) => self.outcome.forwards = true,
            // Its buckets may not be known.
            Action::Group(_) => self.outcome = Outcome { forwards: true, commits: true },
            Action::Ct(ct) => self.outcome.commits |= ct.commit,
            // Learned flows may send, and a controller may do anything.
            Action::Learn(_) | Action::Controller(_) => self.outcome.commits = true,
            _ => {}
        }
    }
}

impl Outcomes {
    /// Of all tables.
    pub fn of(rules: &[Rule], groups: &Groups) -> Outcomes {
        let mut all = Outcomes::default();
        let ends: Vec<Ends> = rules.iter().map(|r| ends(r, groups)).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (r, e) in rules.iter().zip(&ends) {
                let old = all.0.get(&r.table).copied().unwrap_or_default();
                let new = old.or(all.follow(e));
                changed |= new != old;
                all.0.insert(r.table, new);
            }
        }
        all
    }

    fn follow(&self, e: &Ends) -> Outcome {
        e.next.iter().fold(e.outcome, |o, t| o.or(self.0.get(t).copied().unwrap_or_default()))
    }

    /// Of one rule.
    pub fn of_rule(&self, r: &Rule, groups: &Groups) -> Outcome {
        self.follow(&ends(r, groups))
    }
}

fn ends(r: &Rule, groups: &Groups) -> Ends {
    let mut ends = Ends::default();
    walk(r, groups, States::ALL, &mut ends);
    ends
}
