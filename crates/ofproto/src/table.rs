//! Flow tables of a bridge: adding, modifying, deleting and expiring rules.
//!
//! Semantics are those of OpenFlow 1.5.1 §6.4 and `ovs-ofctl(8)`. Nothing here changes anything
//! before all checks of a flow mod have passed.
//!
//! Timeouts: every rule with a timeout has one entry in a queue ordered by time. A packet moves an
//! idle timeout without touching the queue; when the entry's time comes, the true deadline is
//! looked at and the entry put back if it is later.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Cookie, HashKey, Instant, OfPort, TableId};
use classifier::{Classifier, MAX_PREFIX_FIELDS, MiniMatch, PREFIX_FIELDS};
use dpif::MeterStore;
use flow::{FlowKey, Match, TlvTable};
use hashbrown::HashMap;
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags, GROUP_ANY};
use openflow::message::{FlowRemovedReason, TableDesc, TableReason};
use openflow::version::Version;

use crate::change::Change;
pub use crate::criteria::Criteria;
use crate::group::{GroupChange, Groups};
use crate::limits::{Evictable, TableConfig, TableSettings};
use crate::meter::Meters;
use crate::rule::{Rule, RuleStats, TableStats};
use crate::uses::Users;
use crate::xlate::Learned;

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
    /// `OFPFMFC_TABLE_FULL`
    #[error("the table is full")]
    TableFull,
    /// `OFPFMFC_BAD_EMERG_TIMEOUT`
    #[error("an emergency flow cannot have timeouts")]
    EmergencyTimeout,
    /// `OFPBRC_BUFFER_UNKNOWN`
    #[error("no such buffer")]
    BufferUnknown,
    /// `OFPBRC_BAD_TABLE_ID`
    #[error("no table {}", .0.0)]
    BadTable(TableId),
    /// `OFPBRC_EPERM`
    #[error("table 254, dp_hash and recirc_id are the switch's own")]
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
    /// `NXFMFC_INVALID_TLV_FIELD`
    #[error("no option of tunnel headers is mapped to the field")]
    UnmappedOption,
    /// `OFPBAC_BAD_SET_LEN`
    #[error("the option of tunnel headers is shorter")]
    OptionTooShort,
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

/// One table.
#[derive(Debug)]
pub struct FlowTable {
    pub(crate) rules: Classifier<Arc<Rule>>,
    /// The switch's own rules, which go before all others ([`crate::own`]).
    pub(crate) own: Option<Box<Classifier<Arc<Rule>>>>,
    pub(crate) stats: Arc<TableStats>,
    pub(crate) config: TableConfig,
    evictable: Evictable,
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

    /// Most flows, as OVS tells it: no more than a million.
    pub(crate) fn max_entries(&self) -> u32 {
        const TOLD: u32 = 1_000_000;
        self.config.settings.max_flows.map_or(TOLD, |n| n.min(TOLD))
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<TableStats> {
        &self.stats
    }

    /// Its rules, in the order of dumps.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().map(|found| found.rule)
    }

    /// The rule for a packet; adds to `wc` what was looked at.
    pub fn lookup(&self, key: &FlowKey, wc: &mut FlowKey) -> Option<&Arc<Rule>> {
        if let Some(own) = self.own.as_ref().and_then(|own| own.lookup(key, Some(wc))) {
            return Some(own);
        }
        if self.rules.is_empty() { None } else { self.rules.lookup(key, Some(wc)) }
    }

    /// The same, and the rules whose clauses made up the conjunction that led to it, if one did.
    pub(crate) fn lookup_explained(
        &self,
        key: &FlowKey,
        wc: &mut FlowKey,
    ) -> (Option<&Arc<Rule>>, Vec<&Arc<Rule>>) {
        if let Some(own) = self.own.as_ref().and_then(|own| own.lookup(key, Some(wc))) {
            return (Some(own), Vec::new());
        }
        self.rules.lookup_explained(key, wc)
    }
}

/// A flow mod of which all is checked that can be without looking at the tables, small enough that
/// a bundle can keep many.
#[derive(Clone, Debug)]
pub(crate) struct PreparedFlowMod {
    pub command: FlowModCommand,
    table: Option<TableId>,
    wanted_cookie: (u64, u64),
    new_cookie: Option<u64>,
    modify_cookie: bool,
    out_port: OfPort,
    out_group: u32,
    internal: bool,
    /// The flow to add or, for a modification, what is new about those that are there.
    pub rule: Rule,
}

impl PreparedFlowMod {
    /// Of a flow mod said in `version`. `internal` allows the internal table.
    pub fn new(
        fm: &FlowMod,
        version: Version,
        internal: bool,
    ) -> Result<PreparedFlowMod, FlowModError> {
        let deletes = matches!(fm.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        if let Some(t) = fm.table {
            if usize::from(t.0) >= N_TABLES {
                return Err(FlowModError::BadTable(t));
            }
            if t == INTERNAL_TABLE && !internal && !deletes {
                return Err(FlowModError::Permission);
            }
        }
        // What the datapath hashes and how it calls what is frozen is none of a controller's.
        let (key, mask) = (&fm.match_.key.pkt, &fm.match_.mask.pkt);
        let hidden = mask.dp_hash != 0 || key.recirc_id != 0;
        if fm.command == FlowModCommand::Add && hidden && !internal {
            return Err(FlowModError::Permission);
        }
        if !deletes && fm.buffer_id.is_some() {
            return Err(FlowModError::BufferUnknown);
        }
        if fm.flags.contains(FlowModFlags::EMERG) {
            // 1.0 names an error for emergency flows with timeouts only.
            let timeouts = fm.idle_timeout > 0 || fm.hard_timeout > 0;
            return Err(match timeouts {
                true => FlowModError::EmergencyTimeout,
                false => FlowModError::TableFull,
            });
        }
        let mut match_ = fm.match_;
        match_.tie_to_ethernet();
        Ok(PreparedFlowMod {
            command: fm.command,
            table: fm.table,
            wanted_cookie: (fm.cookie, fm.cookie_mask),
            new_cookie: fm.new_cookie,
            modify_cookie: fm.modify_cookie,
            // Only deletions look at them.
            out_port: if deletes { fm.out_port } else { OfPort::NONE },
            out_group: if deletes { fm.out_group } else { GROUP_ANY },
            internal,
            rule: Rule {
                match_: MiniMatch::from(&match_),
                priority: fm.priority.into(),
                table: fm.table.unwrap_or(TableId(0)),
                cookie: Cookie(fm.new_cookie.unwrap_or(0)),
                idle_timeout: fm.idle_timeout,
                hard_timeout: fm.hard_timeout,
                importance: fm.importance,
                flags: fm.flags,
                version,
                actions: fm.actions.clone().into_boxed_slice(),
                created: Instant::default(),
                modified: Instant::default(),
                stats: Arc::default(),
            },
        })
    }

    fn deletes(&self) -> bool {
        matches!(self.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict)
    }

    fn strict(&self) -> bool {
        matches!(self.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict)
    }
}

/// All tables of a bridge.
#[derive(Debug)]
pub struct FlowTables {
    pub(crate) hash: HashKey,
    pub(crate) tables: Vec<FlowTable>,
    /// Which options of tunnel headers are fields.
    pub(crate) tlv: TlvTable,
    /// (when to look, id of the rule).
    queue: BTreeMap<(Instant, u64), Arc<Rule>>,
    /// When each rule with a timeout is in the queue, by the address of its counters, which stays
    /// through modifications.
    queued: HashMap<usize, (Instant, u64)>,
    next_id: u64,
    /// What happened since somebody last asked.
    pub(crate) changes: Vec<Change>,
    /// Some table is to tell of its vacancy.
    tells_vacancy: bool,
    /// How many rules learn flows with this cookie into this table that are to go with them.
    learners: HashMap<(u64, TableId), usize>,
    /// Those of `learners` that have just become none.
    orphaned: Vec<(u64, TableId)>,
    /// Which rules use which groups and meters.
    pub(crate) users: Users,
    /// The group table.
    pub(crate) groups: Groups,
    /// The meter table.
    pub(crate) meters: Meters,
}

impl FlowTables {
    /// Empty tables. Without `meters` there can be none.
    pub(crate) fn new(hash: HashKey, meters: Option<Arc<dyn MeterStore>>) -> FlowTables {
        let table = || FlowTable {
            rules: Classifier::new(hash),
            own: None,
            stats: Arc::new(TableStats::default()),
            config: TableConfig::default(),
            evictable: Evictable::default(),
        };
        FlowTables {
            hash,
            tlv: TlvTable::default(),
            tables: (0..N_TABLES).map(|_| table()).collect(),
            queue: BTreeMap::new(),
            queued: HashMap::new(),
            next_id: 0,
            changes: Vec::new(),
            tells_vacancy: false,
            learners: HashMap::new(),
            orphaned: Vec::new(),
            users: Users::default(),
            groups: Groups::default(),
            meters: Meters::new(meters),
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

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }

    /// Where the list of changes ends now; for [`FlowTables::rollback`].
    pub(crate) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Undoes all changes since `mark`, the last one first.
    pub(crate) fn rollback(&mut self, mark: usize) {
        while self.changes.len() > mark {
            match self.changes.pop() {
                Some(Change::Added(rule)) => self.take_out(&rule),
                Some(Change::Removed { rule, .. }) => self.put_in(&rule),
                Some(Change::Replaced { old, new, .. }) => {
                    self.unqueue(&new);
                    self.put_in(&old);
                    self.forget(&new);
                }
                Some(Change::Group(GroupChange { id, old, .. })) => self.groups.put(id, old),
                None => break,
            }
        }
        self.orphaned.clear();
    }

    /// Applies a flow mod that was said in `version`, whole or, if it gives an error, not at all.
    /// `internal` allows the internal table.
    pub fn apply(
        &mut self,
        fm: &FlowMod,
        version: Version,
        now: Instant,
        internal: bool,
    ) -> Result<FlowModDone, FlowModError> {
        let prepared = PreparedFlowMod::new(fm, version, internal)?;
        self.apply_prepared(prepared, &fm.match_, now)
    }

    /// Applies a prepared flow mod, whose match is `m`.
    pub(crate) fn apply_prepared(
        &mut self,
        fm: PreparedFlowMod,
        m: &Match,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let done = self.change(fm, m, now);
        self.remove_orphans();
        done
    }

    fn change(
        &mut self,
        mut fm: PreparedFlowMod,
        m: &Match,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let mut m = self.placed(m)?;
        m.tie_to_ethernet();
        let m = &m;
        if m.mask.tun_metadata.present != 0 {
            fm.rule.match_ = MiniMatch::from(m);
        }
        if fm.command == FlowModCommand::Add {
            return self.add(fm, m, now);
        }
        let criteria = Criteria {
            match_: *m,
            strict: fm.strict().then_some(fm.rule.told_priority()),
            table: fm.table,
            cookie: fm.wanted_cookie,
            out_port: fm.out_port,
            out_group: fm.out_group,
        };
        if fm.deletes() {
            if fm.table == Some(INTERNAL_TABLE)
                && !fm.internal
                && self.select(&criteria).next().is_some()
            {
                return Err(FlowModError::Permission);
            }
            let deleted = self.delete(&criteria, FlowRemovedReason::Delete);
            return Ok(FlowModDone { deleted, ..FlowModDone::default() });
        }
        self.modify(fm, m, &criteria, now)
    }

    fn add(
        &mut self,
        fm: PreparedFlowMod,
        m: &Match,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let PreparedFlowMod { mut rule, new_cookie, .. } = fm;
        self.check_actions(&rule.actions, Some(rule.table))?;
        let t = &self.tables[usize::from(rule.table.0)];
        let old = t.rules.get(m, rule.rank()).cloned();
        if old.is_none()
            && rule.flags.contains(FlowModFlags::CHECK_OVERLAP)
            && t.rules.overlapping(m, rule.rank()).next().is_some()
        {
            return Err(FlowModError::Overlap);
        }
        (rule.created, rule.modified) = (now, now);
        t.rules.share_mask(m, &mut rule.match_);
        match old {
            Some(old) => {
                // What was counted goes on or not; since when it is idle stays either way.
                rule.stats = match rule.flags.contains(FlowModFlags::RESET_COUNTS) {
                    true => Arc::new(RuleStats::new(old.stats.used())),
                    false => old.stats.clone(),
                };
                // All ones say that a cookie is not to change.
                if new_cookie == Some(u64::MAX) {
                    rule.cookie = old.cookie;
                }
                self.replace(old, m, Arc::new(rule), true);
            }
            None => {
                self.make_room(rule.table)?;
                rule.stats.credit(&dpif::FlowStats { used: Some(now), ..Default::default() });
                let rule = Arc::new(rule);
                self.put(m, rule.clone());
                self.changes.push(Change::Added(rule));
            }
        }
        Ok(FlowModDone { added: 1, ..FlowModDone::default() })
    }

    /// Puts a rule in, in the place of the one with the same match and priority.
    fn put(&mut self, m: &Match, rule: Arc<Rule>) {
        self.enqueue(&rule, rule.modified);
        for learner in rule.learns_with_delete() {
            *self.learners.entry(learner).or_default() += 1;
        }
        self.users.put(&rule);
        let t = &mut self.tables[usize::from(rule.table.0)];
        t.rules.insert(m, rule.rank(), rule);
    }

    fn put_in(&mut self, rule: &Arc<Rule>) {
        self.put(&rule.match_.expand(), rule.clone());
    }

    fn take_out(&mut self, rule: &Arc<Rule>) {
        self.unqueue(rule);
        self.forget(rule);
        let t = &mut self.tables[usize::from(rule.table.0)];
        t.rules.remove(&rule.match_.expand(), rule.rank());
    }

    /// A rule is no longer there to learn, or to use anything.
    fn forget(&mut self, rule: &Rule) {
        self.users.take(rule);
        for learner in rule.learns_with_delete() {
            if let Some(n) = self.learners.get_mut(&learner) {
                *n -= 1;
                if *n == 0 {
                    self.learners.remove(&learner);
                    self.orphaned.push(learner);
                }
            }
        }
    }

    /// Removes learned flows that nobody learns any more and that were to go then.
    fn remove_orphans(&mut self) {
        while let Some(learner) = self.orphaned.pop() {
            if !self.learners.contains_key(&learner) {
                let cookie = (learner.0, u64::MAX);
                let c = Criteria { table: Some(learner.1), cookie, ..Criteria::default() };
                self.delete(&c, FlowRemovedReason::Delete);
            }
        }
    }

    /// Learns a flow. One that is there already stays as it is, but its hard timeout counts anew.
    /// `false`: there were as many as may be.
    pub(crate) fn learn(&mut self, l: &Learned, now: Instant) -> Result<bool, FlowModError> {
        if let Some(rule) = self.learned(l) {
            rule.stats.learn_again(now);
            return Ok(true);
        }
        if !self.may_learn(l, 0) {
            return Ok(false);
        }
        self.apply(&l.flow, l.version, now, false)?;
        if let Some(rule) = self.learned(l) {
            rule.stats.absorb(&l.stats);
        }
        Ok(true)
    }

    /// The rule that a learned flow is, if it is there as it would be learned.
    pub(crate) fn learned(&self, l: &Learned) -> Option<&Arc<Rule>> {
        let fm = &l.flow;
        let t = self.get(fm.table.unwrap_or(TableId(0)))?;
        let rule = t.rules.get(&fm.match_, i32::from(fm.priority))?;
        // A modification changes nothing else of it.
        let same = (!fm.modify_cookie || fm.new_cookie == Some(rule.cookie.0))
            && rule.actions[..] == fm.actions[..];
        same.then_some(rule)
    }

    /// Whether a flow may be learned besides those that have its cookie already, `more` of which are not
    /// in the table yet.
    pub(crate) fn may_learn(&self, l: &Learned, more: usize) -> bool {
        if l.limit == 0 {
            return true;
        }
        let cookie = (l.flow.new_cookie.unwrap_or(0), u64::MAX);
        let c = Criteria { table: l.flow.table, cookie, ..Criteria::default() };
        let limit = l.limit as usize;
        self.select(&c).take(limit).count() + more < limit
    }

    fn replace(&mut self, old: Arc<Rule>, m: &Match, new: Arc<Rule>, by_add: bool) {
        self.unqueue(&old);
        self.put(m, new.clone());
        self.forget(&old);
        self.changes.push(Change::Replaced { old, new, by_add });
    }

    fn modify(
        &mut self,
        fm: PreparedFlowMod,
        m: &Match,
        c: &Criteria,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let olds: Vec<Arc<Rule>> = self.select(c).cloned().collect();
        for old in &olds {
            if old.table == INTERNAL_TABLE && !fm.internal {
                return Err(FlowModError::Permission);
            }
            self.check_actions(&fm.rule.actions, Some(old.table))?;
        }
        if olds.is_empty() {
            // OpenFlow 1.0 and 1.1: a modification that finds nothing adds, unless it asked for a
            // cookie.
            return match fm.new_cookie {
                Some(c) if fm.wanted_cookie.1 == 0 && c != u64::MAX => self.add(fm, m, now),
                _ => Ok(FlowModDone::default()),
            };
        }
        let reset = fm.rule.flags.contains(FlowModFlags::RESET_COUNTS);
        let cookie = fm.new_cookie.filter(|c| fm.modify_cookie && *c != u64::MAX);
        let modified = olds.len();
        for old in olds {
            let rule = Rule {
                version: fm.rule.version,
                actions: fm.rule.actions.clone(),
                cookie: cookie.map_or(old.cookie, Cookie),
                modified: now,
                stats: match reset {
                    true => Arc::new(RuleStats::new(old.stats.used())),
                    false => old.stats.clone(),
                },
                ..Rule::clone(&old)
            };
            let m = old.match_.expand();
            self.replace(old, &m, Arc::new(rule), false);
        }
        Ok(FlowModDone { modified, ..FlowModDone::default() })
    }

    /// Deletes the flows that meet `c`; returns how many.
    pub(crate) fn delete(&mut self, c: &Criteria, reason: FlowRemovedReason) -> usize {
        let olds: Vec<Arc<Rule>> = self.select(c).cloned().collect();
        let n = olds.len();
        for old in olds {
            self.remove(old, reason);
        }
        self.remove_orphans();
        n
    }

    pub(crate) fn remove(&mut self, rule: Arc<Rule>, reason: FlowRemovedReason) {
        self.take_out(&rule);
        self.changes.push(Change::Removed { rule, reason });
    }

    /// Looks at a rule again when its time may be up. Packets may shorten the time of some, so those are
    /// looked at each second.
    fn enqueue(&mut self, rule: &Arc<Rule>, now: Instant) {
        let deadline = rule.deadline();
        let soon = rule.has_fin_timeout().then(|| now + base::Duration::from_secs(1));
        let at = match (deadline, soon) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => match a.or(b) {
                Some(at) => at,
                None => return,
            },
        };
        self.next_id += 1;
        self.queue.insert((at, self.next_id), rule.clone());
        self.queued.insert(rule.identity(), (at, self.next_id));
        if deadline.is_none() {
            return;
        }
        let t = &mut self.tables[usize::from(rule.table.0)];
        if t.config.evicts() {
            t.evictable.add(rule, &t.config.settings.groups, self.hash);
        }
    }

    fn unqueue(&mut self, rule: &Rule) {
        if let Some(place) = self.queued.remove(&rule.identity()) {
            self.queue.remove(&place);
            self.tables[usize::from(rule.table.0)].evictable.remove(rule);
        }
    }

    /// Evicts rules until there is room for one more.
    fn make_room(&mut self, table: TableId) -> Result<(), FlowModError> {
        let mark = self.mark();
        loop {
            let t = &mut self.tables[usize::from(table.0)];
            if t.len() < t.config.max_flows() {
                return Ok(());
            }
            match t.evictable.choose() {
                Some(rule) => self.remove(rule, FlowRemovedReason::Eviction),
                None => {
                    self.rollback(mark);
                    return Err(FlowModError::TableFull);
                }
            }
        }
    }

    /// Changes what the database says of a table. Flows too many are evicted, as far as they may be.
    pub(crate) fn set_settings(&mut self, table: TableId, settings: &TableSettings) {
        let Some(t) = self.tables.get_mut(usize::from(table.0)) else { return };
        if t.config.settings == *settings {
            return;
        }
        let before = t.config.evicts();
        let groups = t.config.settings.groups == settings.groups;
        t.config.settings = settings.clone();
        let default = &PREFIX_FIELDS[..MAX_PREFIX_FIELDS];
        t.rules.set_prefix_fields(settings.prefixes.as_deref().unwrap_or(default));
        self.evictable_anew(table, before, groups);
        loop {
            let t = &mut self.tables[usize::from(table.0)];
            if t.len() <= t.config.max_flows() {
                return;
            }
            let Some(rule) = t.evictable.choose() else { return };
            self.remove(rule, FlowRemovedReason::Eviction);
        }
    }

    /// Changes what controllers say of a table.
    pub(crate) fn configure(
        &mut self,
        table: TableId,
        change: impl FnOnce(&mut TableConfig, usize),
    ) {
        let Some(t) = self.tables.get_mut(usize::from(table.0)) else { return };
        let before = t.config.evicts();
        change(&mut t.config, t.rules.len());
        self.evictable_anew(table, before, true);
        self.tells_vacancy = self.tables.iter().any(|t| t.config.event.is_some());
    }

    /// Makes the list of rules to evict again, if whether or how to evict has changed.
    fn evictable_anew(&mut self, table: TableId, before: bool, same_groups: bool) {
        let t = &mut self.tables[usize::from(table.0)];
        if before == t.config.evicts() && same_groups {
            return;
        }
        t.evictable = Evictable::default();
        if t.config.evicts() {
            for found in t.rules.iter() {
                t.evictable.add(found.rule, &t.config.settings.groups, self.hash);
            }
        }
    }

    /// The vacancy events that are due.
    pub(crate) fn vacancy_events(&mut self) -> Vec<(TableDesc, TableReason)> {
        let mut due = Vec::new();
        if !self.tells_vacancy {
            return due;
        }
        for (i, t) in self.tables.iter_mut().enumerate().filter(|(_, t)| t.config.event.is_some()) {
            let n = t.rules.len();
            if let Some(reason) = t.config.vacancy_event(n) {
                // It tells how things are; which event comes next has changed already.
                due.push((t.config.desc(TableId(i as u8), n), reason));
            }
        }
        due
    }

    /// Removes rules whose time is up, looking at no more than `limit`. Pull the counters of
    /// caches before. Returns how many were removed.
    pub fn expire(&mut self, now: Instant, limit: usize) -> usize {
        let mut n = 0;
        for _ in 0..limit {
            let Some((&(at, _), rule)) = self.queue.first_key_value() else { break };
            if at >= now {
                break;
            }
            let rule = rule.clone();
            match rule.deadline() {
                None => {
                    self.unqueue(&rule);
                    self.enqueue(&rule, now);
                }
                // At the very moment it is still there, as in Open vSwitch.
                Some(d) if d >= now => {
                    self.unqueue(&rule);
                    self.enqueue(&rule, now);
                }
                _ => {
                    let hard = rule.hard_deadline().is_some_and(|d| d < now);
                    let reason = if hard {
                        FlowRemovedReason::HardTimeout
                    } else {
                        FlowRemovedReason::IdleTimeout
                    };
                    self.remove(rule, reason);
                    n += 1;
                }
            }
        }
        self.remove_orphans();
        n
    }

    /// The moment after which [`FlowTables::expire`] has something to look at.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&(at, _), _)| at)
    }
}
