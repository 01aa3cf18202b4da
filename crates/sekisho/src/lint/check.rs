//! The findings about a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use base::{OfPort, TableId};
use flow::field::FieldId;
use flow::{CT_STATE_FLAGS, Field, ct_state};
use openflow::Action;

use super::graph::{self, Groups, Outcomes, Reached, Visitor, walk};
use super::kinds::Kind;
use super::policy::{Bad, Policy, Rule};
use super::space::{Region, Regions, States, covered};

/// Something about a line.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// Index of the line.
    pub line: usize,
    /// Where in the line.
    pub span: Range<usize>,
    /// What is so, and why.
    pub message: String,
    /// What would be right.
    pub hint: String,
    /// Another line (index) that has to do with it.
    pub other: Option<usize>,
}

/// What is known of the world beside the policy.
#[derive(Debug, Default)]
pub struct World {
    /// Ports of the switch, if they are known.
    pub ports: Option<BTreeSet<OfPort>>,
    /// Groups, if their files were given.
    pub groups: Option<Groups>,
}

/// Rules that may overlap one for it to be compared with them together. That one rule takes all of
/// another's packets is found among any number.
const MAX_OVERLAP: usize = 1024;

/// Finds what there is, in the order of the lines.
pub fn check(policy: &Policy, world: &World) -> Vec<Finding> {
    let none = Groups::new();
    let groups = world.groups.as_ref().unwrap_or(&none);
    let mut c = Checker {
        p: policy,
        world,
        groups,
        reached: Reached::new(),
        outcomes: Outcomes::of(&policy.rules, groups),
        learned: Learned::of(&policy.rules, groups),
        takes: policy.rules.iter().map(|r| r.states).collect(),
        found: Vec::new(),
    };
    c.reached = graph::reached(&policy.rules, groups, &c.takes);
    c.lines();
    c.states();
    c.shadows();
    // What never matches leads nowhere.
    c.reached = graph::reached(&policy.rules, groups, &c.takes);
    c.tables();
    c.tracking();
    c.ports();
    c.conjunctions();
    let mut found = c.found;
    found.sort_by_key(|f| (f.line, f.span.start, f.kind));
    found
}

struct Checker<'a> {
    p: &'a Policy,
    world: &'a World,
    groups: &'a Groups,
    reached: Reached,
    outcomes: Outcomes,
    learned: Learned,
    /// States of the packets that each rule takes; none if it never matches.
    takes: Vec<States>,
    found: Vec<Finding>,
}

/// Tables that `learn` fills, with the lines that do.
#[derive(Default)]
struct Learned {
    tables: BTreeMap<TableId, (usize, Action)>,
    line: usize,
}

impl Learned {
    fn of(rules: &[Rule], groups: &Groups) -> Learned {
        let mut learned = Learned::default();
        for r in rules {
            learned.line = r.line;
            walk(r, groups, States::ALL, &mut learned);
        }
        learned
    }
}

impl Visitor for Learned {
    fn lookup(&mut self, _: &Action, _: TableId, _: States) {}
    fn other(&mut self, a: &Action) {
        if let Action::Learn(learn) = a {
            self.tables.entry(learn.table).or_insert_with(|| (self.line, a.clone()));
        }
    }
}

/// `+new`, `+est-rel`: the bits of `mask` as they are in `value`.
fn flags(value: u8, mask: u8) -> String {
    CT_STATE_FLAGS
        .iter()
        .filter(|(_, bit)| mask & bit != 0)
        .map(|(name, bit)| format!("{}{name}", if value & bit != 0 { '+' } else { '-' }))
        .collect()
}

/// The value and mask of a rule's `ct_state`.
fn ct_bits(r: &Rule) -> (u8, u8) {
    let m = r.match_();
    (m.key.pkt.ct_state, m.mask.pkt.ct_state)
}

impl Checker<'_> {
    fn add(
        &mut self,
        kind: Kind,
        line: usize,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> &mut Finding {
        let (message, hint) = (message.into(), hint.into());
        self.found.push(Finding { kind, line, span, message, hint, other: None });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Whether a rule never matches.
    fn is_dead(&self, i: usize) -> bool {
        self.takes[i].is_empty()
    }

    /// `line 7`, or `other.flow:7` from another file.
    fn place(&self, line: usize, from: usize) -> String {
        let (a, b) = (&self.p.lines[line], &self.p.lines[from]);
        match a.file == b.file {
            true => format!("line {}", a.number),
            false => format!("line {} of file {}", a.number, a.file + 1),
        }
    }

    /// Lines that are wrong by themselves, and those that a later one replaces.
    fn lines(&mut self) {
        for (line, bad) in &self.p.bad {
            let (kind, error, message) = match bad {
                Bad::Unreadable(e) => (Kind::Syntax, e, e.message.clone()),
                Bad::Lenient { error, instead: Some(rest) } => {
                    let text = format!("{}: ignored, the rule matches {rest}", error.message);
                    (Kind::IgnoredMatch, error, text)
                }
                Bad::Lenient { error, instead: None } => {
                    (Kind::NotMeant, error, error.message.clone())
                }
            };
            let hint = error.hint.clone().unwrap_or_default();
            self.add(kind, *line, error.span.clone(), message, hint);
        }
        for &(old, new) in &self.p.replaced {
            let place = self.place(new, old);
            let span = self.p.match_span(old, &[]);
            let message = format!("replaced by {place}: same table, priority and match");
            self.add(Kind::Replaced, old, span, message, "keep one of the two lines").other =
                Some(new);
        }
    }

    /// Rules whose connection state cannot be.
    fn states(&mut self) {
        for (i, r) in self.p.rules.iter().enumerate() {
            let (value, mask) = ct_bits(r);
            let span = self.p.match_span(r.line, &["ct_state"]);
            if r.states.is_empty() {
                self.takes[i] = States::NONE;
                self.add(
                    Kind::ImpossibleState,
                    r.line,
                    span,
                    format!("no packet is {}", flags(value, mask)),
                    "+new, +est and +inv exclude each other, a reply is never +new, and without \
                     +trk no flag is set: make it several rules",
                );
                continue;
            }
            let Some(&here) = self.reached.get(&r.table) else { continue };
            if r.states.and(here).is_empty() {
                self.takes[i] = States::NONE;
                let (message, hint) = if States::UNTRACKED.within(r.states) {
                    (
                        format!(
                            "{} never matches: all packets come to table {} through ct",
                            flags(value, mask),
                            r.table.0
                        ),
                        "untracked packets are those before ct(table=...)".to_owned(),
                    )
                } else {
                    let before = format!(
                        "{} never matches: no packet has been through conntrack before table {}",
                        flags(value, mask),
                        r.table.0
                    );
                    (before, self.send_through(r))
                };
                self.add(Kind::Untracked, r.line, span, message, hint);
                continue;
            }
            if here == States::UNTRACKED {
                // `ct_mark` and the like are zero without the tracker.
                let key = r.match_().key;
                let of_ct = |f: &&Field| f.name.starts_with("ct_") && f.get(&key) != 0;
                let asked = flow::field::FIELDS.iter().find(of_ct);
                if let Some(f) = asked {
                    self.takes[i] = States::NONE;
                    let span = self.p.match_span(r.line, &names_of(f));
                    let message = format!(
                        "{} never matches: no packet has been through conntrack before table {}",
                        f.name, r.table.0
                    );
                    let hint = self.send_through(r);
                    self.add(Kind::Untracked, r.line, span, message, hint);
                }
            }
        }
    }

    fn send_through(&self, r: &Rule) -> String {
        format!(
            "send them there by ct(table={0}), e.g. \"ip,ct_state=-trk,actions=ct(table={0})\" in a \
             table before, and match the state in table {0}",
            if r.table.0 == 0 { 1 } else { r.table.0 }
        )
    }

    /// Rules whose packets others take.
    fn shadows(&mut self) {
        let mut by_table: BTreeMap<TableId, Vec<usize>> = BTreeMap::new();
        for (i, r) in self.p.rules.iter().enumerate().filter(|(i, _)| !self.is_dead(*i)) {
            by_table.entry(r.table).or_default().push(i);
        }
        for (table, members) in by_table {
            let here = self.reached.get(&table).copied().unwrap_or(States::ALL);
            let regions = members.iter().map(|&i| {
                let r = &self.p.rules[i];
                let mut region = Region::of(&r.match_());
                region.states = region.states.and(here);
                (region, r.priority)
            });
            let mut regions = Regions::new(regions);
            // Rules that were not compared with all that overlap them.
            let mut cut: Vec<usize> = Vec::new();
            for m in 0..members.len() {
                let containing = regions.containing(m);
                let over = regions.overlapping(m, MAX_OVERLAP);
                let (all, over) = (over.is_some(), over.unwrap_or_default());
                if !self.shadow(&members, m, &regions, &containing, &over) {
                    self.ambiguous(&members, m, &regions, &over);
                    if !all {
                        cut.push(members[m]);
                    }
                }
            }
            if let [first, ..] = cut[..] {
                let line = self.p.rules[first].line;
                let (n, table) = (cut.len(), table.0);
                let rules = if n == 1 { "rule overlaps" } else { "rules overlap" };
                let message = format!(
                    "{n} {rules} more than {MAX_OVERLAP} others of table {table}: whether several \
                     of these together shadow one, and whether one of the same priority takes some \
                     of its packets, was not looked at"
                );
                let span = self.p.match_span(line, &[]);
                let hint = "check a part of the policy by itself, or spread it over tables";
                self.add(Kind::NotCompared, line, span, message, hint);
            }
        }
    }

    /// Whether the `m`th of a table's `members` is shadowed, which is told. Of the others,
    /// `containing` contain its packets and `over` overlap it.
    fn shadow(
        &mut self,
        members: &[usize],
        m: usize,
        regions: &Regions,
        containing: &[usize],
        over: &[usize],
    ) -> bool {
        let rules = &self.p.rules;
        let r = &rules[members[m]];
        let takes = |o: &usize| {
            let other = &rules[members[*o]];
            !other.is_clause() && other.priority > r.priority
        };
        let mine = regions.states(m);
        let mut left = mine;
        let mut message = None;
        let mut hint = "give it a higher priority than theirs, or delete it".to_owned();
        for o in containing.iter().copied().filter(takes) {
            let by = &rules[members[o]];
            if mine.within(regions.states(o)) {
                let (place, high) = (self.place(by.line, r.line), by.priority);
                message = Some((
                    format!("never matches: {place} (priority {high}) takes all its packets"),
                    by.line,
                ));
                hint = format!(
                    "give it a priority above {high} (it has {}), or delete it",
                    r.priority
                );
                break;
            }
            // States in which others take all packets do not come on from here.
            left = left.but(regions.states(o));
        }
        if message.is_none() {
            let higher: Vec<usize> = over.iter().copied().filter(takes).collect();
            let by: Vec<_> = higher.iter().map(|&o| regions.get(o)).collect();
            if covered(&regions.get(m), &by) == Some(true) {
                let mut lines: Vec<usize> =
                    higher.iter().map(|&o| rules[members[o]].line).collect();
                lines.sort_unstable();
                let places: Vec<String> =
                    lines.iter().take(4).map(|&l| self.place(l, r.line)).collect();
                let more = if lines.len() > places.len() { ", …" } else { "" };
                let places = places.join(", ");
                message = Some((
                    format!("never matches: {places}{more} together take all its packets"),
                    lines[0],
                ));
            }
        }
        let Some((message, other)) = message else {
            self.takes[members[m]] = left;
            return false;
        };
        self.takes[members[m]] = States::NONE;
        let span = self.p.match_span(r.line, &[]);
        self.add(Kind::Shadowed, r.line, span, message, hint).other = Some(other);
        true
    }

    /// Whether an earlier rule of the same priority takes some of its packets for something else.
    fn ambiguous(&mut self, members: &[usize], m: usize, regions: &Regions, over: &[usize]) {
        let rules = &self.p.rules;
        let r = &rules[members[m]];
        if r.is_clause() {
            return;
        }
        let over = over.iter().copied().filter(|&o| !rules[members[o]].is_clause());
        let equal = over.clone().find(|&o| {
            let by = &rules[members[o]];
            o < m && by.priority == r.priority && by.actions != r.actions
        });
        let Some(o) = equal else { return };
        let by = &rules[members[o]];
        let (region, other) = (regions.get(m), regions.get(o));
        // There is no quarrel where rules of higher priority take it all.
        let higher = over.filter(|&h| rules[members[h]].priority > r.priority);
        let higher: Vec<_> = higher.map(|h| regions.get(h)).collect();
        if covered(&region.common(&other), &higher) == Some(true) {
            return;
        }
        let what = if region.is_within(&other) { "all" } else { "some of" };
        let message = format!(
            "{what} its packets are also matched by {}, at the same priority {}: which of the two \
             acts is not defined",
            self.place(by.line, r.line),
            r.priority
        );
        let span = self.p.match_span(r.line, &[]);
        let (line, other) = (r.line, by.line);
        let hint = "give the one that is to act a higher priority";
        self.add(Kind::Ambiguous, line, span, message, hint).other = Some(other);
    }

    /// Tables that nothing leads to, and lookups in tables where nothing is.
    fn tables(&mut self) {
        let filled: BTreeSet<TableId> = self.p.rules.iter().map(|r| r.table).collect();
        let unknown_groups = self.world.groups.is_none()
            && self.p.rules.iter().any(|r| r.actions.iter().any(|a| matches!(a, Action::Group(_))));
        let mut first: BTreeMap<TableId, &Rule> = BTreeMap::new();
        for r in &self.p.rules {
            first.entry(r.table).or_insert(r);
        }
        // Buckets of groups that are not known may lead anywhere.
        if !unknown_groups {
            for (table, r) in first {
                if !self.reached.contains_key(&table) {
                    let n = self.p.rules.iter().filter(|r| r.table == table).count();
                    let span = self.p.match_span(r.line, &["table"]);
                    let rules =
                        if n == 1 { "its rule never matches" } else { "its rules never match" };
                    let message =
                        format!("nothing leads from table 0 to table {}: {rules}", table.0);
                    let hint = format!(
                        "send packets there: resubmit(,{0}), goto_table:{0} or ct(table={0})",
                        table.0
                    );
                    self.add(Kind::UnreachedTable, r.line, span, message, hint);
                }
            }
            for (table, (line, action)) in std::mem::take(&mut self.learned.tables) {
                if !self.reached.contains_key(&table) {
                    let span = self.p.action_span(line, &action);
                    let message = format!("nothing looks into table {}, which it fills", table.0);
                    let hint =
                        format!("add resubmit(,{}) where the learned flows are to act", table.0);
                    self.add(Kind::UnreachedTable, line, span, message, hint);
                }
                self.learned.tables.insert(table, (line, action));
            }
        }
        for (i, r) in self.p.rules.iter().enumerate() {
            if self.is_dead(i) || !self.reached.contains_key(&r.table) {
                continue;
            }
            let mut lookups = Lookups::default();
            walk(r, self.groups, States::ALL, &mut lookups);
            let mut told = BTreeSet::new();
            for (action, table) in lookups.0 {
                if filled.contains(&table)
                    || self.learned.tables.contains_key(&table)
                    || !told.insert(table)
                {
                    continue;
                }
                let span = self.p.action_span(r.line, &action);
                let message = format!("table {} has no rules: its packets are dropped", table.0);
                let hint = format!("add rules with table={}", table.0);
                self.add(Kind::EmptyTable, r.line, span, message, hint);
            }
            self.endless(r);
        }
    }

    /// A lookup of the unchanged packet in its rule's own table.
    fn endless(&mut self, r: &Rule) {
        for a in &r.actions {
            match a {
                Action::Resubmit { port: None, table, with_ct: false }
                    if table.is_none_or(|t| t == r.table) =>
                {
                    let span = self.p.action_span(r.line, a);
                    self.add(
                        Kind::EndlessResubmit,
                        r.line,
                        span,
                        "finds this rule again, and again, until the limit of 64 drops the packet",
                        "look into another table, or change what this rule matches before",
                    );
                    return;
                }
                // These leave what is matched as it is.
                Action::Output { .. }
                | Action::Controller(_)
                | Action::SetQueue(_)
                | Action::Note(_)
                | Action::Clone(_)
                | Action::StackPush(_) => {}
                _ => return,
            }
        }
    }

    /// How conntrack's states are used.
    fn tracking(&mut self) {
        let est = States::matching(ct_state::EST, ct_state::EST);
        let new = States::matching(ct_state::NEW, ct_state::NEW);
        let asks_est =
            self.p.rules.iter().enumerate().any(|(i, r)| !self.is_dead(i) && r.states.within(est));
        let mut tables: BTreeMap<TableId, Vec<usize>> = BTreeMap::new();
        for (i, r) in self.p.rules.iter().enumerate() {
            let Some(&here) = self.reached.get(&r.table).filter(|_| !self.is_dead(i)) else {
                continue;
            };
            tables.entry(r.table).or_default().push(i);
            self.trk(r, here);
            if !asks_est || !r.states.within(new) {
                continue;
            }
            let outcome = self.outcomes.of_rule(r, self.groups);
            if outcome.forwards && !outcome.commits {
                let at = self.p.match_span(r.line, &["ct_state"]);
                self.add(
                    Kind::NoCommit,
                    r.line,
                    at,
                    "new connections are let through and never committed: none becomes +est",
                    "put ct(commit) before the output",
                );
            }
        }
        for (table, members) in tables {
            let line_of = |set: States| {
                members.iter().map(|&i| &self.p.rules[i]).find(|r| r.states.within(set))
            };
            let Some(asks) = line_of(est).into_iter().chain(line_of(new)).min_by_key(|r| r.line)
            else {
                continue;
            };
            let here = self.reached[&table];
            self.rel(table, &members, asks.line, here);
            self.inv(table, &members, asks.line, here);
        }
    }

    /// Flags without `+trk`.
    fn trk(&mut self, r: &Rule, here: States) {
        let (value, mask) = ct_bits(r);
        if mask == 0 || mask & ct_state::TRK != 0 {
            return;
        }
        let span = self.p.match_span(r.line, &["ct_state"]);
        let text = flags(value, mask);
        if value != 0 {
            let message = format!(
                "{text} without +trk: right as it is, only tracked packets are {}",
                flags(value, value)
            );
            self.add(Kind::NoTrk, r.line, span, message, format!("write ct_state=+trk{text}"));
        } else if !here.and(States::UNTRACKED).is_empty() {
            let message = format!("{text} also matches packets that were never tracked");
            self.add(
                Kind::UntrackedToo,
                r.line,
                span,
                message,
                format!("write ct_state=+trk{text}"),
            );
        }
    }

    /// Whether packets of related connections find a line.
    fn rel(&mut self, table: TableId, members: &[usize], asks: usize, here: States) {
        let rel = States::matching(ct_state::REL, ct_state::REL);
        // What belongs to no connection of its own: ICMP errors.
        let alone = rel.and(States::matching(0, ct_state::NEW | ct_state::EST)).and(here);
        if alone.is_empty() {
            return;
        }
        let mut taker = None;
        for &i in members {
            let r = &self.p.rules[i];
            if r.states.and(alone).is_empty() {
                continue;
            }
            if r.states.within(rel) || !r.actions.is_empty() {
                return;
            }
            taker = taker.or(Some(r.line));
        }
        let end = self.end(taker, asks);
        let span = self.p.match_span(asks, &["ct_state"]);
        let message = format!(
            "table {} has no line for +rel: ICMP errors of allowed connections are dropped by {end}",
            table.0
        );
        let hint = format!("add \"table={},ct_state=+trk+rel-new-est,actions=...\"", table.0);
        self.add(Kind::NoRel, asks, span, message, hint).other = taker;
    }

    /// Whether invalid packets find a line.
    fn inv(&mut self, table: TableId, members: &[usize], asks: usize, here: States) {
        let inv = States::matching(ct_state::INV, ct_state::INV).and(here);
        if inv.is_empty() {
            return;
        }
        let mut takers: Vec<&Rule> = members
            .iter()
            .map(|&i| &self.p.rules[i])
            .filter(|r| !r.states.and(inv).is_empty())
            .collect();
        if takers.iter().any(|r| r.states.within(inv)) {
            return;
        }
        takers.sort_by_key(|r| std::cmp::Reverse(r.priority));
        let open = takers.iter().find(|r| self.outcomes.of_rule(r, self.groups).forwards);
        let hint =
            format!("add \"table={},priority=65535,ct_state=+trk+inv,actions=drop\"", table.0);
        if let Some(r) = open {
            let (line, span) = (r.line, self.p.match_span(r.line, &["ct_state"]));
            let message = format!(
                "packets that conntrack calls invalid (+inv) are let through here: table {} has no \
                 line for them",
                table.0
            );
            self.add(Kind::InvForwarded, line, span, message, hint).other = Some(asks);
            return;
        }
        let taker = takers.first().map(|r| r.line);
        let end = self.end(taker, asks);
        let span = self.p.match_span(asks, &["ct_state"]);
        let message = format!(
            "table {} has no line for +inv: invalid packets are dropped by {end}, uncounted",
            table.0
        );
        self.add(Kind::NoInv, asks, span, message, hint).other = taker;
    }

    fn end(&self, taker: Option<usize>, from: usize) -> String {
        match taker {
            Some(line) => self.place(line, from),
            None => "the end of the table".into(),
        }
    }

    /// Ports that are not there, and outputs to where the packet came from.
    fn ports(&mut self) {
        for r in &self.p.rules {
            let in_port = r.match_().exact(FieldId::InPort).map(|v| OfPort(v as u16));
            if let (Some(port), Some(ports)) = (in_port, &self.world.ports)
                && is_missing(port, ports)
            {
                let span = self.p.match_span(r.line, &names_of(FieldId::InPort.row()));
                let message = format!("never matches: the switch has no port {}", port.0);
                self.add(Kind::MissingPort, r.line, span, message, ports_hint(&self.world.ports));
            }
            let mut outputs = Outputs::default();
            walk(r, self.groups, States::ALL, &mut outputs);
            for (action, port) in outputs.0 {
                let span = self.p.action_span(r.line, &action);
                if self.world.ports.as_ref().is_some_and(|ports| is_missing(port, ports)) {
                    let message = format!("the switch has no port {}", port.0);
                    self.add(
                        Kind::MissingPort,
                        r.line,
                        span,
                        message,
                        ports_hint(&self.world.ports),
                    );
                } else if in_port == Some(port) && port < OfPort::MAX {
                    let message = format!(
                        "does nothing: packets that came in through port {} are not sent back there",
                        port.0
                    );
                    let hint = "write in_port if that is meant";
                    self.add(Kind::SamePort, r.line, span, message, hint);
                }
            }
            if let Some(groups) = &self.world.groups {
                let missing = r.actions.iter().find_map(|a| match a {
                    Action::Group(id) if !groups.contains_key(id) => Some((a, *id)),
                    _ => None,
                });
                if let Some((action, id)) = missing {
                    let span = self.p.action_span(r.line, action);
                    let message = format!("the files of groups have no group {id}");
                    let hint = format!("add group_id={id},type=...");
                    self.add(Kind::MissingGroup, r.line, span, message, hint);
                }
            }
        }
    }

    /// Conjunctions that cannot hold, or that nobody asks for.
    fn conjunctions(&mut self) {
        /// What is known of one id in one table.
        #[derive(Default)]
        struct Conj<'a> {
            clauses: Vec<(&'a Rule, u8, u8)>,
            asked: Vec<&'a Rule>,
        }
        let mut all: BTreeMap<(TableId, u32), Conj<'_>> = BTreeMap::new();
        for r in &self.p.rules {
            for a in &r.actions {
                if let Action::Conjunction { id, clause, n_clauses } = a {
                    let conj = all.entry((r.table, *id)).or_default();
                    conj.clauses.push((r, *clause, *n_clauses));
                }
            }
            if let Some(id) = r.match_().exact(FieldId::ConjId) {
                all.entry((r.table, id as u32)).or_default().asked.push(r);
            }
        }
        for ((table, id), conj) in all {
            let Some(&(first, _, n)) = conj.clauses.first() else {
                for r in conj.asked {
                    let span = self.p.match_span(r.line, &["conj_id"]);
                    let message =
                        format!("never matches: table {} has no conjunction({id},...)", table.0);
                    let hint = format!("add rules with actions=conjunction({id},K/N) for each K");
                    self.add(Kind::ConjWithoutClauses, r.line, span, message, hint);
                }
                continue;
            };
            let at = |a: &Rule| {
                let is_it =
                    |a: &&Action| matches!(a, Action::Conjunction { id: i, .. } if *i == id);
                let action = a.actions.iter().find(is_it);
                action.map_or(0..0, |action| self.p.action_span(a.line, action))
            };
            if conj.asked.is_empty() {
                let span = at(first);
                let message = format!("no rule of table {} matches conj_id={id}", table.0);
                let hint = format!("add \"table={},conj_id={id},actions=...\"", table.0);
                self.add(Kind::ConjUnused, first.line, span, message, hint);
            }
            let odd =
                conj.clauses.iter().find(|(r, _, of)| *of != n || r.priority != first.priority);
            let missing: Vec<String> = (0..n)
                .filter(|k| !conj.clauses.iter().any(|(_, clause, _)| clause == k))
                .map(|k| format!("{}/{n}", k + 1))
                .collect();
            if let Some((r, ..)) = odd {
                let (line, span) = (r.line, at(r));
                let message = format!(
                    "conjunction {id} never holds with this rule: {} has another priority or number \
                     of dimensions",
                    self.place(first.line, line)
                );
                let hint =
                    "all rules of a conjunction have one priority and one number of dimensions";
                self.add(Kind::ConjIncomplete, line, span, message, hint).other = Some(first.line);
            } else if !missing.is_empty() {
                let span = at(first);
                let message =
                    format!("conjunction {id} never holds: no rule has {}", missing.join(", "));
                let hint = format!("add a rule with actions=conjunction({id},{})", missing[0]);
                self.add(Kind::ConjIncomplete, first.line, span, message, hint);
            }
        }
    }
}

#[derive(Default)]
struct Lookups(Vec<(Action, TableId)>);

impl Visitor for Lookups {
    fn lookup(&mut self, action: &Action, table: TableId, _: States) {
        self.0.push((action.clone(), table));
    }
    fn other(&mut self, _: &Action) {}
}

#[derive(Default)]
struct Outputs(Vec<(Action, OfPort)>);

impl Visitor for Outputs {
    fn lookup(&mut self, _: &Action, _: TableId, _: States) {}
    fn other(&mut self, a: &Action) {
        match a {
            Action::Output { port, .. } | Action::Enqueue { port, .. } => {
                self.0.push((a.clone(), *port))
            }
            Action::OutputTrunc { port, .. } => self.0.push((a.clone(), *port)),
            Action::Bundle(b) => self.0.extend(b.members.iter().map(|p| (a.clone(), *p))),
            _ => {}
        }
    }
}

fn is_missing(port: OfPort, ports: &BTreeSet<OfPort>) -> bool {
    port < OfPort::MAX && !ports.contains(&port)
}

fn ports_hint(ports: &Option<BTreeSet<OfPort>>) -> String {
    let all: Vec<String> = ports.iter().flatten().take(16).map(|p| p.to_string()).collect();
    format!("there are {}", if all.is_empty() { "none".into() } else { all.join(", ") })
}

/// All names of a field.
fn names_of(f: &'static Field) -> Vec<&'static str> {
    f.aliases.iter().copied().chain([f.name]).collect()
}

#[cfg(test)]
mod tests;
