//! Flow modifications.

use alloc::vec::Vec;

use base::{OfPort, TableId};
use bitflags::bitflags;
use flow::Match;

use crate::action::Action;

/// What a flow mod does.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum FlowModCommand {
    /// Add or replace.
    #[default]
    Add = 0,
    /// Change the actions of all flows within the match (1.0: adds one if there is none).
    Modify = 1,
    /// Change the actions of the flow with this match and priority.
    ModifyStrict = 2,
    /// Delete all flows within the match.
    Delete = 3,
    /// Delete the flow with this match and priority.
    DeleteStrict = 4,
}

bitflags! {
    /// Flags of a flow mod; the bits are OpenFlow 1.5's.
    #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
    pub struct FlowModFlags: u16 {
        /// Tell when the flow goes.
        const SEND_FLOW_REM = 1;
        /// Refuse if it overlaps another flow of the same priority.
        const CHECK_OVERLAP = 1 << 1;
        /// Start the counters again.
        const RESET_COUNTS = 1 << 2;
        /// Packets need not be counted.
        const NO_PKT_COUNTS = 1 << 3;
        /// Bytes need not be counted.
        const NO_BYT_COUNTS = 1 << 4;
        /// 1.0's emergency flows, which are not supported.
        const EMERG = 1 << 14;
        /// Hidden from controllers; never on the wire.
        const HIDDEN = 1 << 15;
    }
}

/// A flow mod.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Which packets (or which flows, for modify and delete).
    pub match_: Match,
    /// Priority.
    pub priority: u16,
    /// Only flows whose cookie agrees with this in the bits of `cookie_mask` (modify, delete).
    pub cookie: u64,
    /// Bits of `cookie` that count; 0 for any cookie.
    pub cookie_mask: u64,
    /// The cookie of a flow that is added, also by a modification that finds none; `None` is 0 and, for
    /// a modification, that it adds none.
    pub new_cookie: Option<u64>,
    /// A modification gives what it finds `new_cookie` too (1.0 and Nicira's form).
    pub modify_cookie: bool,
    /// The table; `None` is "any" for delete and "the switch's choice" for add.
    pub table: Option<TableId>,
    /// Seconds without a packet until removal; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until removal; 0 for never.
    pub hard_timeout: u16,
    /// For eviction (1.4+).
    pub importance: u16,
    /// A buffered packet to process, if any.
    pub buffer_id: Option<u32>,
    /// Only flows that output to this port (delete); `OfPort::NONE` for any.
    pub out_port: OfPort,
    /// Only flows with this group (delete); [`crate::flow_mod::GROUP_ANY`] for any.
    pub out_group: u32,
    /// Flags.
    pub flags: FlowModFlags,
    /// Actions and instructions.
    pub actions: Vec<Action>,
}

/// `OFPG_ANY`.
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// `OFPG_ALL`.
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// `OFP_DEFAULT_PRIORITY`.
pub const DEFAULT_PRIORITY: u16 = 0x8000;

impl Default for FlowMod {
    fn default() -> Self {
        FlowMod {
            command: FlowModCommand::Add,
            match_: Match::ANY,
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: None,
            modify_cookie: false,
            table: None,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            buffer_id: None,
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
            flags: FlowModFlags::empty(),
            actions: Vec::new(),
        }
    }
}
