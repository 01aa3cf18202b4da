//! What happens on a bridge that somebody outside must hear of.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Instant, OfPort, TableId};
use flow::Match;
use openflow::action::PacketInReason;
use openflow::message::{
    Bucket, Continuation, ControllerStatus, FlowRemoved, FlowRemovedReason, GroupMod, MeterMod,
    PacketIn, PacketInFormat, PortDesc, PortReason, TableDesc, TableReason,
};
use openflow::version::Version;

use crate::bridge::Execute;
use crate::change::Change;
use crate::rule::Rule;

/// Who asked for a change: the request of a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Its id.
    pub session: u64,
    /// The request's transaction id.
    pub xid: u32,
}

/// See the module. Those that concern controllers are given to every session
/// ([`crate::Session::notify`]); [`Event::Execute`] and [`Event::SetPortAdmin`] are the daemon's.
#[derive(Debug)]
pub enum Event {
    /// A flow that asked for it went.
    FlowRemoved(Box<FlowRemoved>),
    /// Flows came, changed or went while there were flow monitors, and on whose request.
    FlowChanges(Arc<[Change]>, Option<Requester>),
    /// A table passed one of its vacancy thresholds.
    TableStatus(TableReason, TableDesc),
    /// Something became of a controller.
    ControllerStatus(ControllerStatus),
    /// A port came, changed or went.
    PortStatus(Box<PortStatusEvent>),
    /// A controller changed groups or meters: others may want to hear of it.
    Requestforward(Requester, Box<ForwardedMod>),
    /// A packet for controllers.
    PacketIn(Box<PacketInEvent>),
    /// A session became master: those that were it before become slaves.
    Master {
        /// Its id.
        session: u64,
        /// How many mastered before it, on this bridge.
        term: u64,
        /// Generation of the newest role request.
        generation_id: Option<u64>,
    },
    /// What may be told in the log of debugging.
    Debug(Vec<String>),
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

/// What a controller changed.
#[derive(Clone, Debug)]
pub enum ForwardedMod {
    /// Groups.
    Group {
        /// What it said.
        group: GroupMod,
        /// Buckets of the group now.
        buckets: Vec<Bucket>,
        /// The group was there before.
        existed: bool,
    },
    /// Meters.
    Meter(MeterMod),
}

impl ForwardedMod {
    /// Its reason in asynchronous messages (`OFPRFR_*`).
    pub fn reason(&self) -> u32 {
        match self {
            ForwardedMod::Group { .. } => 0,
            ForwardedMod::Meter(_) => 1,
        }
    }
}

/// A port came, changed or went.
#[derive(Clone, Debug)]
pub struct PortStatusEvent {
    /// Which of them.
    pub reason: PortReason,
    /// As it is now, or was last.
    pub port: PortDesc,
    /// As it was before a change. Who would not see the difference is not told.
    pub old: Option<PortDesc>,
    /// The session whose port mod it was.
    pub source: Option<u64>,
}

/// A packet for controllers. Each session forms it as it likes.
#[derive(Clone, Debug)]
pub struct PacketInEvent {
    /// The whole packet.
    pub packet: Arc<[u8]>,
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
    /// What the pipeline goes on with once a controller says so, if it paused.
    pub paused: Option<Continuation>,
}

/// Bytes of a packet that a message has room for, besides all that may accompany it.
const MAX_PACKET: usize = 60_000;

impl PacketInEvent {
    /// The message in one of its forms. It has the whole packet, as a switch that keeps none has to
    /// send it (OpenFlow 1.3.5 §6.4.5), whatever `max_len` an action says; a packet that exceeds a
    /// message is cut.
    pub fn message(&self, format: PacketInFormat, version: Version) -> PacketIn {
        // A version that cannot say what is left to do cannot resume it.
        let continuation = self.paused.as_ref().and_then(|c| c.encode(version).ok());
        let n = self.packet.len().min(MAX_PACKET);
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
            continuation: continuation.unwrap_or_default(),
        }
    }
}

impl Event {
    pub(crate) fn flow_removed(rule: &Rule, reason: FlowRemovedReason, now: Instant) -> Event {
        Event::FlowRemoved(Box::new(FlowRemoved {
            match_: rule.match_.expand(),
            priority: rule.told_priority(),
            cookie: rule.cookie.0,
            reason,
            table: rule.table,
            duration: crate::session::stats::whole_millis(now.since(rule.created)),
            idle_timeout: rule.timeouts().0,
            hard_timeout: rule.timeouts().1,
            n_packets: rule.stats.n_packets(),
            n_bytes: rule.stats.n_bytes(),
        }))
    }
}
