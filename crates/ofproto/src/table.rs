//! Flow tables of a bridge: adding, modifying, deleting and expiring rules.
//!
//! Semantics are those of OpenFlow 1.5.1 §6.4 and `ovs-ofctl(8)`. Nothing here changes anything
//! before all checks of a flow mod have passed.
//!
//! Timeouts: every rule with a timeout has one entry in a queue ordered by time. A packet moves an
//! idle timeout without touching the queue; when the entry's time comes, the true deadline is
//! looked at and the entry put back if it is later.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Cookie, HashKey, Instant, OfPort, TableId};
use classifier::{Classifier, MiniMatch};
use flow::{FlowKey, Match};
use hashbrown::HashMap;
use openflow::action::Action;
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags, GROUP_ANY};
use openflow::message::FlowRemovedReason;
use openflow::version::Version;

use crate::rule::{Rule, RuleStats, TableStats};

/// Tables, the internal one included.
pub const N_TABLES: usize = 255;
/// The switch's own table, which controllers may neither see nor change.
pub const INTERNAL_TABLE: TableId = TableId(254);

/// Why a flow mod was refused. Nothing of it was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowModError {
    /// `OFPFMFC_OVERLAP`
    #[error("the flow overlaps another of the same priority and check_overlap was asked")]
    Overlap,
    /// `OFPBRC_BAD_TABLE_ID`
    #[error("no table {}", .0.0)]
    BadTable(TableId),
    /// `OFPBRC_EPERM`
    #[error("table 254 is the switch's own")]
    Permission,
    /// `OFPBAC_BAD_OUT_PORT`
    #[error("cannot output to port {0}")]
    BadOutPort(OfPort),
    /// `OFPBAC_BAD_OUT_GROUP`
    #[error("no group {0}")]
    BadOutGroup(u32),
    /// `OFPMMFC_INVALID_METER`
    #[error("no meter {0}")]
    BadMeter(u32),
    /// `OFPBIC_BAD_TABLE_ID`
    #[error("goto_table from table {} to table {}, which must be a later one", .0.0, .1.0)]
    BadGoto(TableId, TableId),
    /// `OFPBAC_BAD_TYPE`
    #[error("the action is not supported")]
    BadAction,
}

/// What a flow mod did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowModDone {
    /// Flows added or replaced.
    pub added: usize,
    /// Flows changed.
    pub modified: usize,
    /// Flows deleted.
    pub deleted: usize,
}

/// A rule that went, and why.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Why.
    pub reason: FlowRemovedReason,
}

/// One table.
#[derive(Debug)]
pub struct FlowTable {
    pub(crate) rules: Classifier<Arc<Rule>>,
    /// The switch's own rule, which goes before all others and matches everything.
    pub(crate) over: Option<Arc<Rule>>,
    pub(crate) stats: Arc<TableStats>,
}

impl FlowTable {
    /// Rules in it.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<TableStats> {
        &self.stats
    }

    /// The rule for a packet; adds to `wc` what was looked at.
    pub fn lookup(&self, key: &FlowKey, wc: &mut FlowKey) -> Option<&Arc<Rule>> {
        if self.over.is_some() {
            return self.over.as_ref();
        }
        if self.rules.is_empty() { None } else { self.rules.lookup(key, Some(wc)) }
    }
}

/// Which flows a dump, modification or deletion is about.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// Flows within this match.
    pub match_: Match,
    /// Only with exactly this match and priority.
    pub strict: Option<u16>,
    /// Only in this table.
    pub table: Option<TableId>,
    /// Cookie and the bits of it that count.
    pub cookie: (u64, u64),
    /// Only flows that output here; [`OfPort::NONE`] for any.
    pub out_port: OfPort,
    /// Only flows that use this group; [`GROUP_ANY`] for any.
    pub out_group: u32,
}

impl Default for Criteria {
    fn default() -> Self {
        Criteria {
            match_: Match::ANY,
            strict: None,
            table: None,
            cookie: (0, 0),
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
        }
    }
}

impl Criteria {
    fn admits(&self, r: &Rule) -> bool {
        (r.cookie.0 ^ self.cookie.0) & self.cookie.1 == 0
            && self.strict.is_none_or(|p| p == r.priority)
            && (self.out_port == OfPort::NONE || r.outputs_to(self.out_port))
            && (self.out_group == GROUP_ANY || r.uses_group(self.out_group))
    }
}

/// All tables of a bridge.
#[derive(Debug)]
pub struct FlowTables {
    tables: Vec<FlowTable>,
    /// (when to look, id of the rule).
    queue: BTreeMap<(Instant, u64), Arc<Rule>>,
    /// When each rule with a timeout is in the queue, by the address of its counters, which stays
    /// through modifications.
    queued: HashMap<usize, (Instant, u64)>,
    next_id: u64,
    removed: Vec<Removed>,
}

fn identity(r: &Rule) -> usize {
    Arc::as_ptr(&r.stats) as usize
}

impl FlowTables {
    pub(crate) fn new(hash: HashKey) -> FlowTables {
        let table = || FlowTable {
            rules: Classifier::new(hash),
            over: None,
            stats: Arc::new(TableStats::default()),
        };
        FlowTables {
            tables: (0..N_TABLES).map(|_| table()).collect(),
            queue: BTreeMap::new(),
            queued: HashMap::new(),
            next_id: 0,
            removed: Vec::new(),
        }
    }

    /// A table; `None` beyond the last.
    pub fn get(&self, id: TableId) -> Option<&FlowTable> {
        self.tables.get(usize::from(id.0))
    }

    /// The tables that controllers see, in order.
    pub fn visible(&self) -> impl Iterator<Item = (TableId, &FlowTable)> {
        (0..INTERNAL_TABLE.0).map(TableId).zip(&self.tables)
    }

    /// Flows that controllers see.
    pub fn n_visible(&self) -> usize {
        self.visible().map(|(_, t)| t.len()).sum()
    }

    /// The flows that meet `c`, in order of table. Hidden ones never do, unless their table is
    /// named.
    pub fn select<'a>(&'a self, c: &'a Criteria) -> impl Iterator<Item = &'a Arc<Rule>> {
        let tables = match c.table {
            Some(t) => usize::from(t.0)..usize::from(t.0).saturating_add(1).min(N_TABLES),
            None => 0..usize::from(INTERNAL_TABLE.0),
        };
        self.tables.get(tables).unwrap_or_default().iter().flat_map(move |t| {
            let one = c.strict.map(|p| t.rules.get(&c.match_, i32::from(p)));
            let many = c.strict.is_none().then(|| t.rules.within(&c.match_).map(|f| f.rule));
            one.flatten().into_iter().chain(many.into_iter().flatten()).filter(|r| c.admits(r))
        })
    }

    /// Rules that went since the last call.
    pub fn take_removed(&mut self) -> Vec<Removed> {
        core::mem::take(&mut self.removed)
    }

    /// Applies a flow mod that was said in `version`. `internal` allows the internal table.
    pub fn apply(
        &mut self,
        fm: &FlowMod,
        version: Version,
        now: Instant,
        internal: bool,
    ) -> Result<FlowModDone, FlowModError> {
        if let Some(t) = fm.table {
            if usize::from(t.0) >= N_TABLES {
                return Err(FlowModError::BadTable(t));
            }
            if t == INTERNAL_TABLE && !internal {
                return Err(FlowModError::Permission);
            }
        }
        let strict =
            matches!(fm.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
        let mut criteria = Criteria {
            match_: fm.match_,
            strict: strict.then_some(fm.priority),
            table: fm.table,
            cookie: (fm.cookie, fm.cookie_mask),
            ..Criteria::default()
        };
        match fm.command {
            FlowModCommand::Add => self.add(fm, version, now),
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
                self.modify(fm, &criteria, version, now)
            }
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => {
                (criteria.out_port, criteria.out_group) = (fm.out_port, fm.out_group);
                Ok(FlowModDone {
                    deleted: self.delete(&criteria, FlowRemovedReason::Delete),
                    ..FlowModDone::default()
                })
            }
        }
    }

    fn add(
        &mut self,
        fm: &FlowMod,
        version: Version,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let table = fm.table.unwrap_or(TableId(0));
        check_actions(&fm.actions, Some(table))?;
        let t = &self.tables[usize::from(table.0)];
        let old = t.rules.get(&fm.match_, i32::from(fm.priority)).cloned();
        if old.is_none()
            && fm.flags.contains(FlowModFlags::CHECK_OVERLAP)
            && t.rules.overlapping(&fm.match_, i32::from(fm.priority)).next().is_some()
        {
            return Err(FlowModError::Overlap);
        }
        let keep = !fm.flags.contains(FlowModFlags::RESET_COUNTS);
        if let Some(old) = &old {
            self.unqueue(old);
        }
        let stats = match &old {
            Some(old) if keep => {
                // The idle timeout counts anew.
                old.stats.credit(&dpif::FlowStats { used: Some(now), ..Default::default() });
                old.stats.clone()
            }
            _ => Arc::new(RuleStats::new(now)),
        };
        let rule = Arc::new(Rule {
            match_: MiniMatch::from(&fm.match_),
            priority: fm.priority,
            table,
            cookie: Cookie(fm.new_cookie.unwrap_or(0)),
            idle_timeout: fm.idle_timeout,
            hard_timeout: fm.hard_timeout,
            importance: fm.importance,
            flags: fm.flags,
            version,
            actions: fm.actions.clone().into_boxed_slice(),
            created: now,
            modified: now,
            stats,
        });
        self.insert(&fm.match_, rule);
        Ok(FlowModDone { added: 1, ..FlowModDone::default() })
    }

    /// Puts `NORMAL` before all flows of table 0, or takes it away. Nobody sees this flow in a
    /// dump, and no flow mod reaches it.
    pub(crate) fn set_fail_open(&mut self, on: bool, now: Instant) {
        self.tables[0].over = on.then(|| {
            Arc::new(Rule {
                match_: MiniMatch::from(&Match::ANY),
                priority: u16::MAX,
                table: TableId(0),
                cookie: Cookie(0),
                idle_timeout: 0,
                hard_timeout: 0,
                importance: 0,
                flags: FlowModFlags::default(),
                version: Version::Of10,
                actions: [Action::Output { port: OfPort::NORMAL, max_len: 0 }].into(),
                created: now,
                modified: now,
                stats: Arc::new(RuleStats::new(now)),
            })
        });
    }

    fn insert(&mut self, m: &Match, rule: Arc<Rule>) {
        self.enqueue(&rule);
        let t = &mut self.tables[usize::from(rule.table.0)];
        t.rules.insert(m, i32::from(rule.priority), rule);
    }

    fn modify(
        &mut self,
        fm: &FlowMod,
        c: &Criteria,
        version: Version,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let olds: Vec<Arc<Rule>> = self.select(c).cloned().collect();
        for old in &olds {
            check_actions(&fm.actions, Some(old.table))?;
        }
        if olds.is_empty() {
            // OpenFlow 1.0: a modification that finds nothing adds.
            return match fm.new_cookie {
                Some(_) if fm.cookie_mask == 0 => self.add(fm, version, now),
                _ => Ok(FlowModDone::default()),
            };
        }
        let reset = fm.flags.contains(FlowModFlags::RESET_COUNTS);
        for old in &olds {
            self.unqueue(old);
            let rule = Rule {
                version,
                actions: fm.actions.clone().into_boxed_slice(),
                cookie: fm.new_cookie.map_or(old.cookie, Cookie),
                modified: now,
                stats: if reset { Arc::new(RuleStats::new(now)) } else { old.stats.clone() },
                ..Rule::clone(old)
            };
            self.insert(&old.match_.expand(), Arc::new(rule));
        }
        Ok(FlowModDone { modified: olds.len(), ..FlowModDone::default() })
    }

    /// Deletes the flows that meet `c`; returns how many.
    pub(crate) fn delete(&mut self, c: &Criteria, reason: FlowRemovedReason) -> usize {
        let olds: Vec<Arc<Rule>> = self.select(c).cloned().collect();
        for old in &olds {
            self.remove(old, reason);
        }
        olds.len()
    }

    fn remove(&mut self, rule: &Arc<Rule>, reason: FlowRemovedReason) {
        self.unqueue(rule);
        let t = &mut self.tables[usize::from(rule.table.0)];
        if t.rules.remove(&rule.match_.expand(), i32::from(rule.priority)).is_some()
            && rule.flags.contains(FlowModFlags::SEND_FLOW_REM)
        {
            self.removed.push(Removed { rule: rule.clone(), reason });
        }
    }

    fn enqueue(&mut self, rule: &Arc<Rule>) {
        let Some(at) = rule.deadline() else { return };
        self.next_id += 1;
        self.queue.insert((at, self.next_id), rule.clone());
        self.queued.insert(identity(rule), (at, self.next_id));
    }

    fn unqueue(&mut self, rule: &Rule) {
        if let Some(place) = self.queued.remove(&identity(rule)) {
            self.queue.remove(&place);
        }
    }

    /// Removes rules whose time is up, looking at no more than `limit`. Pull the counters of
    /// caches before. Returns how many were removed.
    pub fn expire(&mut self, now: Instant, limit: usize) -> usize {
        let mut n = 0;
        for _ in 0..limit {
            let Some((&(at, _), rule)) = self.queue.first_key_value() else { break };
            if at > now {
                break;
            }
            let rule = rule.clone();
            match rule.deadline() {
                Some(d) if d > now => {
                    self.unqueue(&rule);
                    self.enqueue(&rule);
                }
                _ => {
                    let hard = rule.hard_timeout > 0
                        && rule.modified + base::Duration::from_secs(u64::from(rule.hard_timeout))
                            <= now;
                    let reason = if hard {
                        FlowRemovedReason::HardTimeout
                    } else {
                        FlowRemovedReason::IdleTimeout
                    };
                    self.remove(&rule, reason);
                    n += 1;
                }
            }
        }
        n
    }

    /// When [`FlowTables::expire`] has something to look at.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&(at, _), _)| at)
    }
}

/// Whether the switch can do these actions in `table` (`None`: outside any, as in a packet-out).
pub(crate) fn check_actions(
    actions: &[Action],
    table: Option<TableId>,
) -> Result<(), FlowModError> {
    for a in actions {
        match a {
            Action::Output { port, .. }
            | Action::OutputTrunc { port, .. }
            | Action::Enqueue { port, .. } => check_out_port(*port)?,
            Action::Group(g) => return Err(FlowModError::BadOutGroup(*g)),
            Action::Meter(m) => return Err(FlowModError::BadMeter(*m)),
            Action::GotoTable(to) if table.is_some_and(|t| *to <= t) || *to >= INTERNAL_TABLE => {
                return Err(FlowModError::BadGoto(table.unwrap_or(TableId(0)), *to));
            }
            Action::Controller(c) if c.meter.is_some() => {
                return Err(FlowModError::BadAction);
            }
            Action::Ct(ct) if ct.nat.is_some() || ct.alg.is_some() => {
                return Err(FlowModError::BadAction);
            }
            Action::WriteActions(nested) | Action::Clone(nested) => {
                check_actions(nested, table)?;
            }
            Action::Learn(_)
            | Action::Conjunction { .. }
            | Action::Sample(_)
            | Action::Encap(_)
            | Action::Decap(_)
            | Action::DecNshTtl
            | Action::FinTimeout { .. }
            | Action::DeleteField(_)
            | Action::Nat(_)
            | Action::DebugSlow
            | Action::UnrollXlate { .. } => return Err(FlowModError::BadAction),
            _ => {}
        }
    }
    Ok(())
}

fn check_out_port(port: OfPort) -> Result<(), FlowModError> {
    let reserved = matches!(
        port,
        OfPort::IN_PORT
            | OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::LOCAL
    );
    if reserved || port < OfPort::MAX { Ok(()) } else { Err(FlowModError::BadOutPort(port)) }
}
