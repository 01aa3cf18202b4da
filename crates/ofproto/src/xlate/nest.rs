//! Lists of actions on a copy of the packet: `clone`, and what comes behind `check_pkt_larger`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use dpif::{DpAction, SlowReason};
use flow::{FlowKey, PacketKey};
use openflow::Subfield;
use openflow::action::Action;

use super::Ctx;
use crate::recirc::StackValue;
use crate::trace::NodeKind;

/// Levels of samples that there must be more of for one to stand for a copy.
const CLONE_BY_SAMPLE: usize = 3;

/// What a copy does not change for the packet.
pub(super) struct Kept {
    flow: FlowKey,
    stack: Vec<StackValue>,
    action_set: Vec<Action>,
}

/// What else a copy of the datapath's does not change.
struct KeptBelow {
    base: PacketKey,
    was_mpls: bool,
    conntracked: bool,
}

impl Ctx<'_> {
    /// Puts the packet's state aside; a copy begins with the same.
    pub(super) fn keep(&self) -> Kept {
        let (stack, action_set) = (self.stack.clone(), self.action_set.clone());
        Kept { flow: self.flow, stack, action_set }
    }

    /// Back to the packet.
    pub(super) fn restore(&mut self, kept: Kept) {
        self.flow = kept.flow;
        self.stack = kept.stack;
        self.action_set = kept.action_set;
    }

    fn keep_below(&self) -> KeptBelow {
        let (base, was_mpls, conntracked) = (self.base, self.was_mpls, self.conntracked);
        KeptBelow { base, was_mpls, conntracked }
    }

    fn restore_below(&mut self, kept: &KeptBelow) {
        self.base = kept.base;
        (self.was_mpls, self.conntracked) = (kept.was_mpls, kept.conntracked);
    }

    /// `clone`: what the nested actions do to the packet is undone behind them. That needs a copy
    /// in the datapath only if other datapath actions cannot undo it.
    pub(super) fn clone_actions(&mut self, nested: &[Action], last: bool) {
        let kept = self.keep();
        let in_bucket = core::mem::replace(&mut self.in_bucket, false);
        if last || nested.iter().all(is_reversible) {
            self.actions(nested, last);
            self.finish_pipeline();
        } else if !self.sw.support().clone && self.sw.support().sample_nesting <= CLONE_BY_SAMPLE {
            self.report(NodeKind::Error, || "Failed to compose clone action".into());
        } else {
            self.commit();
            let below = self.keep_below();
            let copy = self.nested(|ctx| {
                ctx.actions(nested, true);
                ctx.finish_pipeline();
            });
            if !copy.is_empty() {
                self.out.push(match self.sw.support().clone {
                    true => DpAction::Clone(copy),
                    // Every one of the packets is a sample.
                    false => DpAction::Sample { probability: u32::MAX, actions: copy },
                });
            }
            self.restore_below(&below);
        }
        self.in_bucket = in_bucket;
        self.restore(kept);
    }

    /// The datapath actions that `f` makes.
    pub(super) fn nested(&mut self, f: impl FnOnce(&mut Self)) -> Box<[DpAction]> {
        let out = core::mem::take(&mut self.out);
        f(self);
        core::mem::replace(&mut self.out, out).into_boxed_slice()
    }

    /// `check_pkt_larger`: the datapath knows the length, so the rest of the list is translated for
    /// either answer.
    ///
    /// Returns whether the list goes on: without the datapath's help each packet is translated by
    /// itself, whose length is known.
    pub(super) fn check_pkt_larger(&mut self, len: u16, dst: Subfield, rest: &[Action]) -> bool {
        if !self.sw.support().check_pkt_len {
            self.slow = Some(SlowReason::Action);
            let larger = self.packet_len.is_some_and(|n| n > usize::from(len));
            dst.set(&mut self.flow, larger.into());
            return true;
        }
        let kept = self.keep();
        self.commit();
        let below = self.keep_below();
        let (exit, mirrors) = (self.exit, self.mirrors);
        let mut branch = |answer: u128, exit: bool| {
            self.flow = kept.flow;
            self.stack.clone_from(&kept.stack);
            self.action_set.clone_from(&kept.action_set);
            self.restore_below(&below);
            // A packet goes only one of the ways.
            (self.exit, self.mirrors) = (exit, mirrors);
            dst.set(&mut self.flow, answer);
            self.nested(|ctx| {
                ctx.actions(rest, true);
                ctx.finish_pipeline();
            })
        };
        let greater = branch(1, exit);
        let less_or_equal = branch(0, false);
        self.restore_below(&below);
        self.out.push(DpAction::CheckPktLen { len, greater, less_or_equal });
        self.restore(kept);
        false
    }
}

/// Whether what the action does to the packet can be undone by setting fields.
fn is_reversible(a: &Action) -> bool {
    !matches!(
        a,
        Action::Ct(_)
            | Action::Meter(_)
            | Action::Nat(_)
            | Action::OutputTrunc { .. }
            | Action::Encap(_)
            | Action::Decap(_)
            | Action::DecNshTtl
    )
}
