//! What happens on a bridge that somebody outside must hear of.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Instant, OfPort, TableId};
use flow::Match;
use openflow::action::PacketInReason;
use openflow::message::{FlowRemoved, PacketIn, PacketInFormat, PortDesc, PortReason};

use crate::bridge::Execute;
use crate::table::Removed;

/// See the module. Those that concern controllers are given to every session
/// ([`crate::Session::notify`]); [`Event::Execute`] and [`Event::SetPortAdmin`] are the daemon's.
#[derive(Debug)]
pub enum Event {
    /// A flow that asked for it went.
    FlowRemoved(Box<FlowRemoved>),
    /// A port came, changed or went.
    PortStatus(PortReason, PortDesc),
    /// A packet for controllers.
    PacketIn(Box<PacketInEvent>),
    /// A session became master: those that were it before become slaves.
    Master {
        /// Its id.
        session: u64,
        /// How many mastered before it, on this bridge.
        term: u64,
    },
    /// The datapath is to send a packet.
    Execute(Box<Execute>),
    /// A controller wants a device up or down.
    SetPortAdmin {
        /// The port.
        port: OfPort,
        /// Up.
        up: bool,
    },
}

/// A packet for controllers. Each session cuts and forms it as it likes.
#[derive(Clone, Debug)]
pub struct PacketInEvent {
    /// The whole packet.
    pub packet: Arc<[u8]>,
    /// Most bytes of it to send; for [`PacketInReason::NoMatch`] the session's own limit counts.
    pub max_len: u16,
    /// Why.
    pub reason: PacketInReason,
    /// Table of the flow.
    pub table: TableId,
    /// Cookie of the flow; `u64::MAX` for none.
    pub cookie: u64,
    /// Pipeline fields.
    pub metadata: Match,
    /// Only for controllers with this id.
    pub controller_id: u16,
    /// Bytes of the action.
    pub userdata: Vec<u8>,
}

impl PacketInEvent {
    /// The message in one of its forms, with at most `max_len` bytes of the packet.
    pub fn message(&self, format: PacketInFormat, max_len: u16) -> PacketIn {
        let n = usize::from(max_len).min(self.packet.len());
        PacketIn {
            format,
            packet: self.packet[..n].into(),
            total_len: self.packet.len() as u32,
            buffer_id: None,
            reason: self.reason,
            table: self.table,
            cookie: self.cookie,
            metadata: self.metadata,
            userdata: self.userdata.clone(),
            continuation: Vec::new(),
        }
    }
}

impl Event {
    pub(crate) fn flow_removed(r: &Removed, now: Instant) -> Event {
        let rule = &r.rule;
        Event::FlowRemoved(Box::new(FlowRemoved {
            match_: rule.match_.expand(),
            priority: rule.priority,
            cookie: rule.cookie.0,
            reason: r.reason,
            table: rule.table,
            duration: crate::session::stats::whole_millis(now.since(rule.created)),
            idle_timeout: rule.idle_timeout,
            hard_timeout: rule.hard_timeout,
            n_packets: rule.stats.n_packets(),
            n_bytes: rule.stats.n_bytes(),
        }))
    }
}
