//! The text of actions and flows, as `ovs-ofctl` writes and reads it.

pub mod actions;
mod choose;
mod ct;
mod encap;
pub mod flow;
pub mod format;
mod learn;
pub mod table;

pub use actions::parse_actions;
pub use flow::{FlowFile, parse_flow};
pub use format::{ActionsText, FlowModText, FlowStatsText};
