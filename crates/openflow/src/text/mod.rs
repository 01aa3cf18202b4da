//! The text of actions and flows, as `ovs-ofctl` writes and reads it.

pub mod actions;
pub mod flow;
pub mod format;
pub mod table;

pub use actions::parse_actions;
pub use flow::{FlowFile, parse_flow};
pub use format::{ActionsText, FlowModText, FlowStatsText};
