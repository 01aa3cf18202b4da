//! What flows use beside the tables: ports, groups and meters must be there, and with a group or a
//! meter goes every flow that uses it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Instant, TableId};
use hashbrown::HashMap;
use openflow::action::{Action, is_out_port};
use openflow::message::{FlowRemovedReason, GroupMod, MeterMod, meter_id};
use openflow::version::Version;

use crate::change::Change;
use crate::group::{GroupChange, GroupModError, Groups};
use crate::meter::MeterModError;
use crate::rule::Rule;
use crate::table::{FlowModError, FlowTables, INTERNAL_TABLE};

/// What a flow can use.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Used {
    Group(u32),
    Meter(u32),
}

/// Which rules use which groups and meters.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// By what they use, those that came first at first.
    rules: BTreeMap<(Used, u64), Arc<Rule>>,
    /// The number of each of them, by its address.
    numbers: HashMap<usize, u64>,
    next: u64,
}

impl Users {
    pub(crate) fn put(&mut self, rule: &Arc<Rule>) {
        each_use(rule, |used| {
            self.rules.insert((used, self.next), rule.clone());
            self.numbers.insert(address(rule), self.next);
        });
        self.next += 1;
    }

    pub(crate) fn take(&mut self, rule: &Rule) {
        if let Some(n) = self.numbers.remove(&address(rule)) {
            each_use(rule, |used| drop(self.rules.remove(&(used, n))));
        }
    }

    fn of(&self, used: Used) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.range((used, 0)..=(used, u64::MAX)).map(|(_, rule)| rule)
    }

    /// How often rules use something.
    pub(crate) fn count(&self, used: Used) -> u32 {
        let mut n = 0;
        self.of(used).for_each(|rule| each_use(rule, |u| n += u32::from(u == used)));
        n
    }
}

fn address(rule: &Rule) -> usize {
    core::ptr::from_ref(rule) as usize
}

fn each_use(rule: &Rule, mut f: impl FnMut(Used)) {
    rule.walk(&mut |a| match a {
        Action::Group(g) => f(Used::Group(*g)),
        Action::Meter(m) => f(Used::Meter(*m)),
        _ => {}
    });
}

impl FlowTables {
    /// Applies a group mod that was said in `version`, whole or, if it gives an error, not at all.
    /// Flows that use a group end with it.
    pub(crate) fn apply_group(
        &mut self,
        m: &GroupMod,
        version: Version,
        now: Instant,
    ) -> Result<Vec<GroupChange>, GroupModError> {
        let changes = self.groups.plan(m, version, now)?;
        let ends = changes.iter().filter(|c| c.new.is_none());
        let gone: Vec<u32> = ends.map(|c| c.id).collect();
        self.end_users(&gone, Used::Group, FlowRemovedReason::GroupDelete);
        for change in &changes {
            self.groups.put(change.id, change.new.clone());
            self.changes.push(Change::Group(change.clone()));
        }
        Ok(changes)
    }

    /// Applies a meter mod, whole or, if it gives an error, not at all. Flows that use a meter end
    /// with it. It cannot be undone.
    pub(crate) fn apply_meter(&mut self, m: &MeterMod, now: Instant) -> Result<(), MeterModError> {
        let gone = self.meters.apply(m, now)?;
        self.end_users(&gone, Used::Meter, FlowRemovedReason::MeterDelete);
        Ok(())
    }

    /// Ends the flows that use groups or meters.
    fn end_users(&mut self, gone: &[u32], used: fn(u32) -> Used, reason: FlowRemovedReason) {
        for &number in gone {
            let users: Vec<_> = self.users.of(used(number)).cloned().collect();
            for rule in users {
                self.remove(rule, reason);
            }
        }
    }

    /// Deletes all groups and meters. Flows must be gone before.
    pub(crate) fn flush_groups_and_meters(&mut self) {
        self.groups = Groups::default();
        self.meters.delete(meter_id::ALL);
    }

    /// Whether the switch can do these actions in `table` (`None`: outside any, as in a packet-out).
    pub(crate) fn check_actions(
        &self,
        actions: &[Action],
        table: Option<TableId>,
    ) -> Result<(), FlowModError> {
        for a in actions {
            match a {
                Action::Output { port, .. }
                | Action::OutputTrunc { port, .. }
                | Action::Enqueue { port, .. }
                    if !is_out_port(*port) =>
                {
                    return Err(FlowModError::BadOutPort(*port));
                }
                Action::Group(g) if self.groups.get(*g).is_none() => {
                    return Err(FlowModError::BadOutGroup(*g));
                }
                Action::Meter(m) if self.meters.get(*m).is_none() => {
                    return Err(FlowModError::BadMeter(*m));
                }
                Action::GotoTable(to)
                    if table.is_some_and(|t| *to <= t) || *to >= INTERNAL_TABLE =>
                {
                    return Err(FlowModError::BadGoto(table.unwrap_or(TableId(0)), *to));
                }
                Action::WriteActions(nested) | Action::Clone(nested) => {
                    self.check_actions(nested, table)?;
                }
                Action::Nat(_) | Action::UnrollXlate { .. } => {
                    return Err(FlowModError::BadAction);
                }
                a => self.check_options(a)?,
            }
        }
        Ok(())
    }
}
