//! What flow mods, timeouts and evictions do to the tables, as a list.
//!
//! Every change of a rule is noted, in order. From the list come the messages that controllers get
//! (flow removed, flow monitors), and a bundle that fails is undone by going through it backward.

use alloc::sync::Arc;

use openflow::message::FlowRemovedReason;

use crate::group::GroupChange;
use crate::rule::Rule;

/// A change of one rule.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is new.
    Added(Arc<Rule>),
    /// `new` took the place of `old`, which has the same table, match and priority.
    Replaced {
        /// What was.
        old: Arc<Rule>,
        /// What is.
        new: Arc<Rule>,
        /// By adding a flow; otherwise by modifying one.
        by_add: bool,
    },
    /// Of the group table; flows that go with a group are told of on their own.
    Group(GroupChange),
    /// It went.
    Removed {
        /// What was.
        rule: Arc<Rule>,
        /// Why.
        reason: FlowRemovedReason,
    },
}
