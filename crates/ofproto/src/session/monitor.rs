//! Flow monitors: who wants to hear of flows that come, go and change.
//!
//! A session with monitors gets the changes of every flow mod, bundle or expiry in one update. Its own
//! changes it gets before the answer to whatever it asked next, if need be abbreviated to the transaction
//! id of the request. A peer that does not read is not fed on: updates are suspended, and when it
//! has caught up, it gets the flows that came or changed meanwhile as they are then.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{OfPort, TableId};
use flow::Match;
use hashbrown::HashMap;
use openflow::flow_mod::GROUP_ANY;
use openflow::message::{
    Body, FlowChange, FlowEvent, FlowMonitor, FlowRemovedReason, FlowUpdate, Message,
    MonitorCommand, monitor_flag,
};
use openflow::version::Version;

use super::{Refusal, Session};
use crate::change::Change;
use crate::event::Requester;
use crate::rule::Rule;
use crate::switch::Switch;
use crate::table::{Criteria, N_TABLES};

/// Bytes of updates that a peer has not read beyond which updates are suspended.
const BACKLOG: usize = 128 << 10;

/// The flow monitors of a session.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    by_id: BTreeMap<u32, FlowMonitor>,
    /// While updates are suspended: the flows that came (`true`) or changed, by address.
    missed: Option<HashMap<usize, (Arc<Rule>, bool)>>,
    /// Bytes of updates in the output, and bytes that the daemon is sending.
    unread: [usize; 2],
}

fn address(r: &Arc<Rule>) -> usize {
    Arc::as_ptr(r) as usize
}

/// Whether a monitor is about a rule. `old` is what the rule was before, if it changed.
fn is_about(m: &FlowMonitor, rule: &Rule, old: Option<&Rule>) -> bool {
    let outputs = |r: &Rule| m.out_port == OfPort::NONE || r.outputs_to(m.out_port);
    (m.table == TableId::ALL || m.table == rule.table)
        && (outputs(rule) || old.is_some_and(outputs))
        && (matches!(m.out_group, 0 | GROUP_ANY) || rule.uses_group(m.out_group))
        && (m.match_ == Match::ANY || m.match_.covers(&rule.match_.expand()))
}

fn update(
    rule: &Rule,
    event: FlowEvent,
    reason: Option<FlowRemovedReason>,
    flags: u16,
) -> FlowUpdate {
    let actions = flags & monitor_flag::ACTIONS != 0;
    FlowUpdate::Flow(Box::new(FlowChange {
        event,
        reason,
        table: rule.table,
        priority: rule.told_priority(),
        idle_timeout: rule.timeouts().0,
        hard_timeout: rule.timeouts().1,
        cookie: rule.cookie.0,
        match_: rule.match_.expand(),
        actions: if actions { rule.actions.to_vec() } else { Vec::new() },
    }))
}

impl Monitors {
    /// Flags of all monitors that are about a rule and want `what`; 0 for none.
    fn wants(&self, what: u16, rule: &Rule, old: Option<&Rule>) -> u16 {
        let about = |m: &&FlowMonitor| m.flags & what != 0 && is_about(m, rule, old);
        self.by_id.values().filter(about).fold(0, |flags, m| flags | m.flags)
    }

    /// Notes a change while updates are suspended. Gives false if the peer never knew of the rule.
    fn note_missed(&mut self, change: &Change) -> bool {
        let Some(missed) = &mut self.missed else { return true };
        match change {
            Change::Group(_) => true,
            Change::Added(rule) => {
                missed.insert(address(rule), (rule.clone(), true));
                true
            }
            Change::Replaced { old, new, by_add } => {
                let came = missed.remove(&address(old)).is_some_and(|m| m.1);
                missed.insert(address(new), (new.clone(), came || *by_add));
                true
            }
            Change::Removed { rule, .. } => !missed.remove(&address(rule)).is_some_and(|m| m.1),
        }
    }

    /// What a change is to the peer.
    fn tell(&mut self, change: &Change, own: Option<u32>) -> Option<FlowUpdate> {
        let suspended = self.missed.is_some();
        let known = self.note_missed(change);
        let (what, rule, old, event, reason) = match change {
            Change::Group(_) => return None,
            Change::Added(rule) => (monitor_flag::ADD, rule, None, FlowEvent::Added, None),
            Change::Replaced { old, new, by_add } => {
                let changed_actions = old.actions != new.actions;
                if !by_add && !changed_actions && old.cookie == new.cookie {
                    return None;
                }
                let before = changed_actions.then_some(&**old);
                match by_add {
                    true => (monitor_flag::ADD, new, before, FlowEvent::Added, None),
                    false => (monitor_flag::MODIFY, new, before, FlowEvent::Modified, None),
                }
            }
            Change::Removed { rule, reason } => {
                (monitor_flag::DELETE, rule, None, FlowEvent::Removed, Some(*reason))
            }
        };
        if suspended && (event != FlowEvent::Removed || !known) {
            return None;
        }
        let flags = self.wants(what, rule, old);
        if flags == 0 {
            return None;
        }
        let full = flags & (monitor_flag::OWN | monitor_flag::NO_ABBREV) != 0 || suspended;
        match own {
            Some(xid) if !full => Some(FlowUpdate::Abbrev(xid)),
            _ => Some(update(rule, event, reason, flags)),
        }
    }
}

impl Session {
    /// Tells the session's monitors of changes that it caused itself.
    pub(super) fn tell_own(&mut self, changes: &[Change], by: Requester) {
        self.tell_monitors(changes, Some(by));
    }

    /// Tells the session's monitors of changes, requested by `by`.
    pub(super) fn tell_monitors(&mut self, changes: &[Change], by: Option<Requester>) {
        let Some(version) = self.version.filter(|_| !self.monitors.by_id.is_empty()) else {
            return;
        };
        let own = by.filter(|b| b.session == self.id).map(|b| b.xid);
        let mut updates: Vec<FlowUpdate> = Vec::new();
        for change in changes {
            let update = self.monitors.tell(change, own);
            let again = matches!(update, Some(FlowUpdate::Abbrev(_)))
                && updates.iter().any(|u| matches!(u, FlowUpdate::Abbrev(_)));
            updates.extend(update.filter(|_| !again));
        }
        if updates.is_empty() {
            return;
        }
        let before = self.output.len();
        let to = Message::new(version, 0, Body::FlowMonitorReply(Vec::new()));
        self.reply_parts(&to, updates.into_iter(), Body::FlowMonitorReply);
        self.monitors.unread[0] += self.output.len() - before;
        if self.monitors.missed.is_none() && self.monitors.unread.iter().sum::<usize>() > BACKLOG {
            self.monitors.missed = Some(HashMap::new());
            self.tell_suspension(version, FlowUpdate::Paused, Body::FlowMonitorPaused);
        }
    }

    /// Says that updates are suspended or go on: before 1.4 by a message, since by an update.
    fn tell_suspension(&mut self, version: Version, update: FlowUpdate, message: Body) {
        let before = self.output.len();
        let body = match version >= Version::Of14 {
            true => Body::FlowMonitorReply(alloc::vec![update]),
            false => message,
        };
        self.send(version, 0, false, body);
        self.monitors.unread[0] += self.output.len() - before;
    }

    /// The daemon takes the output, having sent all that it took before.
    pub(super) fn note_sent(&mut self) {
        let [taken, _] = self.monitors.unread;
        self.monitors.unread = [0, taken];
    }

    /// Whether updates are suspended and the peer has read all there was: call
    /// [`Session::resume_monitors`].
    pub fn may_resume_monitors(&self) -> bool {
        self.monitors.missed.is_some() && self.monitors.unread == [0, 0]
    }

    /// Tells what the peer missed while updates were suspended; they go on.
    pub fn resume_monitors(&mut self) {
        let Some(version) = self.version else { return };
        let Some(missed) = self.monitors.missed.take() else { return };
        let mut updates = Vec::new();
        for (rule, came) in missed.into_values() {
            let (what, event) = match came {
                true => (monitor_flag::ADD | monitor_flag::MODIFY, FlowEvent::Added),
                false => (monitor_flag::MODIFY, FlowEvent::Modified),
            };
            let flags = self.monitors.wants(what, &rule, None);
            if flags != 0 {
                updates.push(update(&rule, event, None, flags));
            }
        }
        if !updates.is_empty() {
            let to = Message::new(version, 0, Body::FlowMonitorReply(Vec::new()));
            self.reply_parts(&to, updates.into_iter(), Body::FlowMonitorReply);
        }
        self.tell_suspension(version, FlowUpdate::Resumed, Body::FlowMonitorResumed);
        self.monitors.unread = [0, 0];
    }

    /// Does what a request about monitors asks: all of it, or nothing but an error.
    pub(super) fn monitor_request(
        &mut self,
        sw: &mut Switch,
        m: &Message,
        list: &[FlowMonitor],
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        let before = self.monitors.by_id.clone();
        let mut new = Vec::new();
        for r in list {
            if let Err(refusal) = self.monitor_one(r, &mut new) {
                self.monitors.by_id = before;
                return Err(refusal);
            }
        }
        br.n_monitors += self.monitors.by_id.len();
        br.n_monitors -= before.len();
        let initial = new.iter().filter_map(|id| self.monitors.by_id.get(id));
        let initial: Vec<&FlowMonitor> =
            initial.filter(|r| r.flags & monitor_flag::INITIAL != 0).collect();
        // A flow that several monitors are about is told once.
        let mut told = hashbrown::HashSet::new();
        let mut updates = Vec::new();
        for r in &initial {
            let c = Criteria {
                match_: r.match_,
                table: (r.table != TableId::ALL).then_some(r.table),
                out_port: r.out_port,
                out_group: if r.out_group == 0 { GROUP_ANY } else { r.out_group },
                ..Criteria::default()
            };
            for rule in br.tables.select(&c) {
                if initial.len() == 1 || told.insert(address(rule)) {
                    let wants = initial.iter().filter(|m| is_about(m, rule, None));
                    let flags = wants.fold(0, |flags, m| flags | m.flags);
                    updates.push(update(rule, FlowEvent::Initial, None, flags));
                }
            }
        }
        self.reply_parts(m, updates.into_iter(), Body::FlowMonitorReply);
        Ok(())
    }

    /// Adds, changes or deletes one monitor; adds to `new` whose flows are to be told.
    fn monitor_one(&mut self, r: &FlowMonitor, new: &mut Vec<u32>) -> Result<(), Refusal> {
        if r.table != TableId::ALL && usize::from(r.table.0) >= N_TABLES {
            return Err(Refusal::BadTable);
        }
        let old = self.monitors.by_id.get(&r.id);
        match (r.command, old.is_some()) {
            (MonitorCommand::Add, true) => return Err(Refusal::MonitorExists),
            (MonitorCommand::Modify | MonitorCommand::Delete, false) => {
                return Err(Refusal::MonitorUnknown);
            }
            (MonitorCommand::Delete, true) => {
                self.monitors.by_id.remove(&r.id);
            }
            (MonitorCommand::Add | MonitorCommand::Modify, _) => {
                self.monitors.by_id.insert(r.id, r.clone());
                new.push(r.id);
            }
        }
        Ok(())
    }

    /// Ends one monitor.
    pub(super) fn cancel_monitor(&mut self, sw: &mut Switch, id: u32) -> Result<(), Refusal> {
        self.monitors.by_id.remove(&id).ok_or(Refusal::MonitorUnknown)?;
        if let Some(br) = sw.bridge_mut(self.bridge) {
            br.n_monitors -= 1;
        }
        Ok(())
    }

    /// Takes leave of the bridge: nobody is to prepare anything for this session any more.
    pub fn leave(&self, sw: &mut Switch) {
        if let Some(br) = sw.bridge_mut(self.bridge) {
            br.n_monitors -= self.monitors.by_id.len();
        }
    }
}
