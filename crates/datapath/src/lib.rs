//! Receive, extract, cache, execute: batch after batch.
//!
//! [`Datapath`] owns workers (plain threads, or none: then [`Datapath::poll`] does the work on a
//! simulated clock; their number and processors may change at any time), the list of all megaflows and the connection table. A worker receives a
//! batch from a port, finds each packet's megaflow in its own caches (exact match, then tuple
//! space search), asks the [`dpif::SlowPath`] on a miss, executes the actions over runs of packets
//! and sends what came of it once per batch and port.
//!
//! Invariants: every packet that is received is sent, handed to the slow path, tracked on, held
//! as a fragment, or counted as dropped for one [`dpif::DropReason`]; packets of one port leave in the order in
//! which they came (fragments with the last of their datagram); a cached answer is given only while its generation is the slow path's.
//!
//! # Threads
//! Workers share the registry of megaflows (locks, taken on a miss), conntrack's shards, the
//! meters' token buckets (atomics), and nothing else that is written. Counters have one writer each.

mod admission;
mod alg;
mod cache;
mod conns;
mod ct;
mod datapath;
mod engine;
mod exec;
mod fragments;
mod kernel;
mod masks;
mod meter;
mod nat;
mod registry;
pub mod rewrite;
mod stats;
mod turns;
mod worker;
mod workers;

pub use ct::CtTable;
pub use datapath::{
    CONTROL, Config, Cpu, Datapath, Error, KERNEL, MAX_PORT, MAX_WORKERS, QueueUse, WorkerUse,
};
pub use fragments::FragTable;
pub use kernel::{KernelMode, KernelStats};
pub use meter::Meters;
pub use stats::DpStats;
pub use worker::{Clock, Event, EventSink};
