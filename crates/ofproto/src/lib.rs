//! OpenFlow semantics: tables, translation to datapath actions, sessions, trace (sans-I/O).
//!
//! A [`Switch`] holds the [`Bridge`]s of a datapath. A bridge has ports, flow tables and learned
//! addresses. [`Switch::xlate`] turns a packet's key into datapath actions, and says which bits of the key
//! decided them. A [`Session`] is one OpenFlow connection: bytes in, bytes out.
//!
//! # Who calls what
//! - The daemon reconciles its configuration by [`Switch::put_bridge`], [`Switch::put_port`] and
//!   their opposites, calls [`Bridge::expire`] when [`Switch::next_timeout`] says so, and hands
//!   what [`Bridge::take_events`] returns to every session of the bridge ([`Session::notify`]).
//! - Workers call [`Switch::xlate`] under a shared lock. They credit the packet to
//!   [`XlateOut::credits`] and pass [`XlateOut::effects`] on to whoever may lock the switch alone.
//!
//! # Invariants
//! - A translation changes nothing but atomic counters and the table of frozen states.
//! - Whenever a translation made before may be wrong, the generation has grown
//!   ([`Switch::generation_handle`]).
//! - A flow mod is refused whole or done whole.
//! - No message, packet or configuration makes it panic.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bridge;
mod change;
mod criteria;
mod event;
mod fair_queue;
pub mod group;
mod hash;
mod limits;
pub mod meter;
mod mirror;
mod own;
pub mod port;
pub mod recirc;
mod rule;
mod session;
mod switch;
pub mod table;
mod tlv;
mod trace;
mod uses;
mod why;
mod xlate;

pub use bridge::{Bridge, BridgeId, BridgeSpec, Execute, FailMode, WrongAddress};
pub use change::Change;
pub use classifier::{MAX_PREFIX_FIELDS, PREFIX_FIELDS};
pub use event::{Event, PacketInEvent, PortStatusEvent, Requester};
pub use fair_queue::FairQueue;
pub use limits::{TableMiss, TableSettings};
pub use mirror::{MAX_MIRRORS, MirrorId, MirrorOutput, MirrorSpec, MirrorStats};
pub use own::{InBand, InBandRemote};
pub use port::{Port, PortSpec};
pub use recirc::{Frozen, RecircStore, RecircTable};
pub use rule::{Credits, Rule, RuleStats, TableStats};
pub use session::{
    BUNDLE_IDLE_TIMEOUT, Closed, Environment, FlowModCounts, LimitStats, RateLimit, Refusal,
    Session, SessionKind,
};
pub use switch::{Support, Switch};
pub use table::{Criteria, FlowModDone, FlowModError, FlowTable, FlowTables};
pub use trace::{NodeKind, Refusals, Trace, TraceRequest, Traced};
pub use why::Verdict;
pub use xlate::{Effect, Learned, MAX_DEPTH, MAX_RESUBMITS, XlateOut};
