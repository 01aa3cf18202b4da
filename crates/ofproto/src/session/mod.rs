//! One OpenFlow connection: negotiation, requests, asynchronous messages.
//!
//! Sans-I/O: [`Session::input`] takes what came, [`Session::take_output`] gives what is to go.
//! Requests are answered in order, so a barrier is answered when its turn comes. A request that cannot be
//! done is answered with an error that carries its first bytes; a peer that does not speak
//! OpenFlow at all ends its own session and no other.
//!
//! Source: OpenFlow 1.5.1 §6 and §7; `ovs-vswitchd(8)` and OVS's "Asynchronous Messages" design
//! for what service connections get.

mod bundle;
mod features;
mod groups;
mod limit;
mod monitor;
mod notify;
mod refuse;
mod requests;
pub(crate) mod stats;
mod tables;
mod wire;

use alloc::string::String;
use alloc::vec::Vec;

use base::Instant;
use openflow::flow_mod::FlowModCommand;
use openflow::message::{
    AsyncConfig, Body, CtFlush, FlowFormat, PacketInFormat, PortStats, QueueConfig, QueueStats,
    TableFeatures,
};
use openflow::version::Version;

use crate::bridge::{Bridge, BridgeId};
use crate::port::Port;
use crate::switch::Switch;

use bundle::Bundles;
use limit::Limiter;
use monitor::Monitors;
use stats::Dump;

pub use bundle::BUNDLE_IDLE_TIMEOUT;
pub use limit::{LimitStats, RateLimit};
pub use refuse::Refusal;

/// What only the daemon knows.
pub trait Environment {
    /// Counters of a port. `port` and `duration` are filled in by the caller.
    fn port_stats(&self, bridge: BridgeId, port: &Port) -> PortStats;

    /// Hands what caches have counted to the rules, so that counters are exact now.
    fn pull_flow_stats(&self);

    /// Forgets tracked connections.
    fn ct_flush(&self, which: &CtFlush);

    /// The queues of a port. There are none unless QoS is configured.
    fn queues(&self, _bridge: BridgeId, _port: &Port) -> Vec<QueueConfig> {
        Vec::new()
    }

    /// Counters of a port's queues. There are none unless QoS is configured.
    fn queue_stats(&self, _bridge: BridgeId, _port: &Port) -> Vec<QueueStats> {
        Vec::new()
    }
}

/// Who is at the other end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A configured controller.
    Controller,
    /// A tool on the management socket, which hears nothing it has not asked for.
    Service,
}

/// Role of a controller, with OpenFlow 1.2's numbers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RoleKind {
    Equal = 1,
    Master = 2,
    Slave = 3,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No common version.
    NoCommonVersion,
    /// What came is not OpenFlow; says how.
    Nonsense(String),
    /// The bridge is gone.
    NoBridge,
}

/// Flow mods by kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowModCounts {
    /// That add.
    pub adds: u64,
    /// That delete.
    pub deletes: u64,
    /// That modify.
    pub modifications: u64,
}

impl FlowModCounts {
    fn count(&mut self, command: FlowModCommand) {
        *match command {
            FlowModCommand::Add => &mut self.adds,
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => &mut self.modifications,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => &mut self.deletes,
        } += 1;
    }
}

impl core::ops::AddAssign for FlowModCounts {
    fn add_assign(&mut self, more: FlowModCounts) {
        self.adds += more.adds;
        self.deletes += more.deletes;
        self.modifications += more.modifications;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// Tells it from the other sessions of its bridge.
    pub id: u64,
    bridge: BridgeId,
    kind: SessionKind,
    /// Versions that may be spoken.
    allowed: u32,
    version: Option<Version>,
    /// Versions that the peer speaks, once it has said so.
    peer_versions: u32,
    role: RoleKind,
    /// Which master of the bridge it last was.
    term: u64,
    /// What it wants, once it said so.
    async_config: Option<AsyncConfig>,
    miss_send_len: u16,
    flow_format: FlowFormat,
    flow_mod_table_id: bool,
    packet_in_format: PacketInFormat,
    controller_id: u16,
    bundles: Bundles,
    monitors: Monitors,
    /// Of packets that flows send, and of those that no flow matched.
    limiters: [Option<Limiter>; 2],
    /// Parts of a request that came so far.
    table_features: Vec<TableFeatures>,
    /// A dump of flows that is being written: its next messages come when the output before is taken,
    /// and until its end no request is handled.
    dump: Option<Dump>,
    /// Flow mods that were done, since somebody last asked.
    flow_mods: FlowModCounts,
    /// Flows that were left out of dumps, since somebody last asked.
    n_omitted: u64,
    input: Vec<u8>,
    output: Vec<u8>,
    closed: Option<Closed>,
    last_input: Instant,
}

/// Bytes of a packet that a table miss sends to a controller that says nothing else.
const DEFAULT_MISS_SEND_LEN: u16 = 128;
/// Bytes of an offending message that an error carries at most: all of it, if the error then fits a
/// message.
const MAX_ERROR_DATA: usize = u16::MAX as usize - 32;

/// Bytes of a dump that are written ahead of the peer.
const DUMP_STEP: usize = 256 << 10;

impl Session {
    /// A session that begins by saying hello. `allowed` is a bitmap of [`Version::bit`]; 0 means
    /// all that OVS allows by default, 1.0 to 1.5.
    pub fn new(bridge: &mut Bridge, kind: SessionKind, allowed: u32, now: Instant) -> Session {
        bridge.next_session += 1;
        let all = Version::ALL.iter().fold(0, |m, v| m | v.bit());
        let allowed = if allowed & all == 0 { all } else { allowed & all };
        let mut s = Session {
            id: bridge.next_session,
            bridge: bridge.id,
            kind,
            allowed,
            version: None,
            peer_versions: 0,
            role: RoleKind::Equal,
            term: 0,
            async_config: None,
            miss_send_len: match kind {
                SessionKind::Controller => DEFAULT_MISS_SEND_LEN,
                SessionKind::Service => 0,
            },
            flow_format: FlowFormat::default(),
            flow_mod_table_id: false,
            packet_in_format: PacketInFormat::default(),
            controller_id: 0,
            bundles: Bundles::default(),
            monitors: Monitors::default(),
            limiters: [None, None],
            table_features: Vec::new(),
            dump: None,
            flow_mods: FlowModCounts::default(),
            n_omitted: 0,
            input: Vec::new(),
            output: Vec::new(),
            closed: None,
            last_input: now,
        };
        let highest = Version::highest(allowed).unwrap_or(Version::Of10);
        s.send(highest, 0, false, Body::Hello(allowed));
        s
    }

    /// The bridge it is about.
    pub fn bridge(&self) -> BridgeId {
        self.bridge
    }

    /// The version agreed on.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Bitmaps of the versions that may be spoken and of those that the peer speaks (0 before it has
    /// said so).
    pub fn versions(&self) -> (u32, u32) {
        (self.allowed, self.peer_versions)
    }

    /// Whether all that came are whole messages.
    pub fn is_between_messages(&self) -> bool {
        self.input.is_empty()
    }

    /// Why it ended, if it did: send what is left of the output and close the connection.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Bytes to send, once all that was taken before is sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.note_sent();
        let mut output = core::mem::take(&mut self.output);
        while output.len() < DUMP_STEP
            && let Some(dump) = &mut self.dump
        {
            if !dump.append(&mut output) {
                self.n_omitted += dump.n_omitted();
                self.dump = None;
            }
        }
        output
    }

    /// How many flows of dumps that ended since the last call no message of the peer's version
    /// could say, so that they were left out.
    pub fn take_omitted(&mut self) -> u64 {
        core::mem::take(&mut self.n_omitted)
    }

    /// Flow mods of the peer that were done since the last call, those of bundles included.
    pub fn take_flow_mods(&mut self) -> FlowModCounts {
        core::mem::take(&mut self.flow_mods)
    }

    /// Whether requests came that wait for the end of a dump, and it has ended: give [`Session::input`]
    /// a chance, with no more bytes.
    pub fn has_waiting_input(&self) -> bool {
        let whole = |len| matches!(len, Ok(Some(n)) if n <= self.input.len());
        self.dump.is_none() && whole(openflow::message::frame_len(&self.input))
    }

    /// Bytes that wait to be sent.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// When something last came.
    pub fn last_input(&self) -> Instant {
        self.last_input
    }

    /// `other`, `master` or `slave`, as the Controller table's `role` column says.
    pub fn role(&self) -> &'static str {
        match self.role {
            RoleKind::Equal => "other",
            RoleKind::Master => "master",
            RoleKind::Slave => "slave",
        }
    }

    /// The same as OpenFlow numbers it (`OFPCR_ROLE_*`).
    pub fn role_number(&self) -> u32 {
        self.role as u32
    }

    /// Whether packets that match no flow concern it: it speaks 1.2 or older, where a miss goes to
    /// the controller, and takes them ([`Bridge::set_miss_to_controller`]).
    pub fn wants_misses(&self) -> bool {
        let old = self.version.is_none_or(|v| v < Version::Of13);
        let listens = self.kind == SessionKind::Controller || self.miss_send_len > 0;
        old && listens && self.controller_id == 0 && self.closed.is_none()
    }

    /// Limits how fast the peer gets packets.
    pub fn set_packet_in_limit(&mut self, limit: Option<RateLimit>, now: Instant) {
        for l in &mut self.limiters {
            match (limit, &mut *l) {
                (Some(limit), Some(l)) if l.limit() == limit => {}
                (Some(limit), Some(l)) => l.set_limit(limit, now),
                (limit, l) => *l = limit.map(|limit| Limiter::new(limit, now)),
            }
        }
    }

    /// What became of packet-ins, by `action` and `miss`, if they are limited.
    pub fn packet_in_stats(&self) -> impl Iterator<Item = (&'static str, LimitStats)> {
        let stats = |l: &Option<Limiter>| l.as_ref().map(Limiter::stats);
        let [action, miss] = [stats(&self.limiters[0]), stats(&self.limiters[1])];
        [("action", action), ("miss", miss)].into_iter().filter_map(|(n, s)| Some((n, s?)))
    }

    /// When [`Session::run`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.limiters.iter().flatten().filter_map(Limiter::next_timeout).min()
    }

    /// Sends the packets that have waited long enough.
    pub fn run(&mut self, now: Instant) {
        for l in self.limiters.iter_mut().flatten() {
            while let Some(message) = l.take(now) {
                self.output.extend_from_slice(&message);
            }
        }
    }

    /// The peer is to hear no asynchronous messages until it asks for some.
    pub fn disable_async(&mut self) {
        self.async_config = Some(AsyncConfig::default());
    }

    /// Asks whether the peer lives; it answers with an echo reply, which counts as input.
    pub fn send_echo(&mut self) {
        let version = self.version.unwrap_or(Version::Of10);
        self.send(version, 0, false, Body::EchoRequest(Vec::new()));
    }

    /// Takes bytes that came.
    pub fn input(&mut self, sw: &mut Switch, env: &dyn Environment, now: Instant, bytes: &[u8]) {
        if self.closed.is_some() {
            return;
        }
        self.last_input = now;
        self.input.extend_from_slice(bytes);
        let input = core::mem::take(&mut self.input);
        let mut rest = &input[..];
        while self.closed.is_none() && self.dump.is_none() {
            match openflow::message::frame_len(rest) {
                Ok(Some(n)) if n <= rest.len() => {
                    let (frame, tail) = rest.split_at(n);
                    rest = tail;
                    self.frame(sw, env, now, frame);
                }
                Ok(_) => break,
                Err(e) => self.close(Closed::Nonsense(alloc::format!("{e}"))),
            }
        }
        if self.closed.is_none() {
            self.input = rest.to_vec();
        }
    }

    fn close(&mut self, why: Closed) {
        self.closed = Some(why);
    }
}
