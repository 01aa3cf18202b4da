//! What flows use beside the tables: ports, groups and meters must be there, and with a group or a
//! meter goes every flow that uses it.

use alloc::vec::Vec;

use base::{Instant, TableId};
use openflow::action::{Action, is_out_port};
use openflow::message::{FlowRemovedReason, GroupMod, MeterMod, meter_id};
use openflow::version::Version;

use crate::change::Change;
use crate::group::{GroupChange, GroupModError, Groups};
use crate::meter::MeterModError;
use crate::table::{Criteria, FlowModError, FlowTables, INTERNAL_TABLE};

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
        // In order of their numbers, as the group table is.
        let ends = changes.iter().filter(|c| c.new.is_none());
        let gone: Vec<u32> = ends.map(|c| c.id).collect();
        if !gone.is_empty() {
            let uses = |a: &Action| matches!(a, Action::Group(g) if gone.binary_search(g).is_ok());
            self.end_users(&uses, FlowRemovedReason::GroupDelete);
        }
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
        if !gone.is_empty() {
            let uses = |a: &Action| matches!(a, Action::Meter(m) if gone.binary_search(m).is_ok());
            self.end_users(&uses, FlowRemovedReason::MeterDelete);
        }
        Ok(())
    }

    /// Ends the flows that have an action.
    fn end_users(&mut self, uses: &dyn Fn(&Action) -> bool, reason: FlowRemovedReason) {
        let everything = Criteria::default();
        let users: Vec<_> = self.select(&everything).filter(|r| r.does(uses)).cloned().collect();
        for rule in users {
            self.remove(rule, reason);
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
                Action::Ct(ct) if ct.nat.is_some() || ct.alg.is_some() => {
                    return Err(FlowModError::BadAction);
                }
                Action::WriteActions(nested) | Action::Clone(nested) => {
                    self.check_actions(nested, table)?;
                }
                Action::Nat(_) | Action::UnrollXlate { .. } => {
                    return Err(FlowModError::BadAction);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
