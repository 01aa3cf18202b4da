//! Freezing: what is left of the pipeline runs later, on the packet as the datapath will have it.
//!
//! Some actions need what only the datapath can say: the header behind a popped label, a hash. They
//! *trigger* a freeze. The lists of actions that are being done then end one after the other, and each
//! leaves what it had not done yet; at the end of the pipeline all that is interned as a
//! [`Frozen`] and the packet recirculates with its number ([`Ctx::finish_pipeline`]).

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base::TableId;
use dpif::{DpAction, HashAlg};
use flow::FieldId;
use openflow::action::{Action, ControllerAction};

use super::Ctx;
use crate::recirc::{Frozen, HashableActions};
use crate::trace::{NodeKind, action_text};

/// A freeze under way.
#[derive(Debug, Default)]
pub(super) struct Freezing {
    /// What is left to do, innermost list first.
    actions: Vec<Action>,
    /// Where the last of `actions` that needs to know was said.
    said: Option<(TableId, u64)>,
    /// The packet gets a `dp_hash` on its way.
    hash: Option<(HashAlg, u32)>,
    /// The packet does not come back: a controller gets it and says when it goes on.
    pause: Option<Box<ControllerAction>>,
}

impl Ctx<'_> {
    /// Ends the lists of actions; what is left of them is kept for later.
    pub(super) fn trigger_freeze(&mut self) {
        self.exit = true;
        self.freezing.get_or_insert_default();
    }

    /// The same, and the packet comes back with a hash.
    pub(super) fn trigger_freeze_with_hash(&mut self, alg: HashAlg, basis: u32) {
        self.trigger_freeze();
        if let Some(f) = &mut self.freezing {
            f.hash = Some((alg, basis));
        }
    }

    /// The same, and it is a controller that sends the packet back.
    pub(super) fn pause(&mut self, c: &ControllerAction) {
        self.trigger_freeze();
        if let Some(f) = &mut self.freezing {
            f.pause = Some(Box::new(c.clone()));
        }
    }

    /// Whether a freeze was triggered and no list has left anything yet.
    pub(super) fn freezes_first(&self) -> bool {
        self.freezing.as_ref().is_some_and(|f| f.actions.is_empty())
    }

    /// Keeps what a list had not done.
    pub(super) fn freeze_rest(&mut self, rest: &[Action]) {
        let here = (self.table, self.rule_cookie);
        let Some(f) = &mut self.freezing else { return };
        for a in rest {
            let needs_place = match a {
                Action::Note(_) | Action::Conjunction { .. } => continue,
                // These may send packet-ins, which tell the table and cookie.
                Action::Output { .. }
                | Action::OutputReg { .. }
                | Action::OutputTrunc { .. }
                | Action::Controller(_)
                | Action::Group(_)
                | Action::DecTtl(_)
                | Action::DecMplsTtl
                | Action::DecNshTtl => true,
                // And this one means the table it is said in.
                Action::Resubmit { table, .. } => table.is_none_or(|t| t == TableId::ALL),
                _ => false,
            };
            if needs_place && f.said != Some(here) {
                f.said = Some(here);
                f.actions.push(Action::UnrollXlate { table: here.0, cookie: here.1 });
            }
            f.actions.push(match a {
                // Instructions as the actions that do the same.
                Action::GotoTable(t) => {
                    Action::Resubmit { port: None, table: Some(*t), with_ct: false }
                }
                Action::WriteMetadata { value, mask } => Action::SetField {
                    field: FieldId::Metadata,
                    value: (*value).into(),
                    mask: (*mask).into(),
                },
                a => a.clone(),
            });
        }
    }

    /// No freeze after all.
    pub(super) fn cancel_freeze(&mut self) {
        self.freezing = None;
    }

    /// What comes when no list of actions is left: the action set, unless the rest is for later.
    pub(super) fn finish_pipeline(&mut self) {
        if self.freezing.is_none() {
            self.execute_action_set();
        }
        let Some(f) = self.freezing.take() else { return self.answer_host() };
        if self.error.is_some() {
            return;
        }
        self.commit();
        let frozen = Frozen {
            actions: HashableActions(f.actions.into_boxed_slice()),
            ..self.freeze(TableId(0))
        };
        let (id, held) = self.sw.recircs.intern(frozen);
        self.credits.frozen.push(held);
        if let Some(c) = f.pause {
            if !self.is_trace() {
                self.push_controller(&c, c.reason, id, true);
            }
            return;
        }
        if let Some((alg, basis)) = f.hash {
            self.out.push(DpAction::Hash { alg, basis });
        }
        self.out.push(DpAction::Recirc(id));
    }

    /// What the pipeline needs to go on later in `table`.
    pub(super) fn freeze(&self, table: TableId) -> Frozen {
        Frozen {
            bridge: self.br.id,
            table,
            actions: HashableActions::default(),
            version: self.version,
            conntracked: self.conntracked,
            in_port: self.in_port(),
            metadata: self.flow.metadata,
            regs: self.flow.regs,
            tunnel: self.flow.pkt.tunnel,
            tun_metadata: self.flow.tun_metadata,
            stack: self.stack.clone(),
            action_set: HashableActions(self.action_set.clone().into_boxed_slice()),
            mirrors: self.mirrors,
        }
    }

    /// Goes on where a frozen pipeline stopped; its fields are in the key already.
    pub(super) fn thaw(&mut self, frozen: &Frozen) {
        let old = self.report_enter(NodeKind::Thaw, || "thaw".into());
        self.report(NodeKind::Thaw, || format!("Resuming from table {}", frozen.table.0));
        self.conntracked = frozen.conntracked;
        (self.mirrors, self.resumed) = (frozen.mirrors, true);
        if !frozen.conntracked {
            self.clear_ct_fields();
        }
        self.stack.clone_from(&frozen.stack);
        (self.version, self.set_version) = (frozen.version, frozen.version);
        let ports = self.port_names();
        let list = |actions: &[Action]| {
            let all: Vec<_> =
                actions.iter().map(|a| action_text(a, ports, frozen.version)).collect();
            all.join(",")
        };
        if !frozen.action_set.0.is_empty() {
            self.report(NodeKind::Thaw, || {
                format!("Restoring action set: {}", list(&frozen.action_set.0))
            });
            frozen.action_set.0.iter().for_each(|a| self.write_action(a));
        }
        if !frozen.actions.0.is_empty() {
            self.report(NodeKind::Thaw, || {
                format!("Restoring actions: {}", list(&frozen.actions.0))
            });
        }
        self.report_leave(old);
        self.table = frozen.table;
    }
}
