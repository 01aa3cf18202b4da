//! The text of actions and flows, as `ovs-ofctl` writes and reads it.

pub mod actions;
mod args;
mod choose;
mod ct;
pub mod ct_flush;
mod encap;
pub mod flow;
pub mod format;
pub mod group;
mod learn;
pub mod meter;
pub mod table;

pub use actions::parse_actions;
pub use args::parse_subfield;
pub use flow::{parse_flow, parse_line};
pub use format::{ActionsText, FlowModText, FlowStatsText};
pub use group::{GroupId, GroupModText, GroupText, ParsedGroup, parse_group, parse_group_file};
pub use meter::{MeterId, MeterModText, MeterText, parse_meter, parse_meter_id};
