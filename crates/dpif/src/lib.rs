//! The language between slow and fast path: megaflows, datapath actions, upcalls, and their text.
//!
//! A datapath caches translations. A [`Megaflow`] is one of them: "packets that look like `key`
//! under `mask` get `actions`". What is in no cache goes to the [`SlowPath`], which answers with
//! an [`Upcall`]: what to do with this packet, and what to cache for the next ones.
//!
//! # Who counts what
//! The slow path itself credits the packet of an upcall to the rules it met. Packets that hit the
//! megaflow afterwards are counted in it, and [`Megaflow::push_stats`] hands the difference since
//! the last call to the flow's [`Credit`]. Counters never go back, every packet is handed over
//! exactly once whatever the threads do, and the last ones when the flow is dropped.
//!
//! # Generations
//! The slow path has a [`SlowPath::generation`] that changes whenever an old translation may be
//! wrong. A megaflow of another generation is translated anew before it is used again, unless the
//! tables are just being changed: packets do not wait for that.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod action;
mod drop_reason;
mod megaflow;
mod meter;
mod slow_path;
pub mod text;

pub use action::{
    ActionKind, ControllerCookie, DpAction, HashAlg, NshHeader, SetGroup, SetMasked, SlowReason,
    UserspaceCookie,
};
pub use drop_reason::DropReason;
pub use megaflow::{
    Credit, FlowStats, Megaflow, MegaflowSpec, Ufid, installed_mask, required_mask,
};
pub use meter::{BandKind, BandSpec, MAX_BANDS, MAX_METERS, MeterCounters, MeterSpec, MeterStore};
pub use slow_path::{Generation, Revalidation, SlowPath, Upcall};
