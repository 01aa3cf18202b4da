//! Connections, protocol state machines, zones, timeouts (sans-I/O).
//!
//! [`Conntrack`] holds the connections of one shard. A packet comes as bytes
//! ([`PacketView`]) with the time and a [`CtRequest`]; the answer ([`CtInfo`]) is what a `ct`
//! action writes into the packet's `ct_state`, `ct_zone`, `ct_mark`, `ct_label` and original
//! tuple. A packet that is not IP is not tracked: its state is 0.
//!
//! How: [`parse()`] reads and checks the packet without the table, and gives a [`Key`] that is the
//! same for both directions. The index finds the `slab` slot; the TCP machine ([`tcp`]) or the
//! simpler ones move; the connection's `expires` is written. A timer wheel removes in bounded
//! steps what nobody uses, and a connection whose time has run out is gone for every packet and
//! every dump, swept or not.
//!
//! Invariants: each live connection is in the slab, in the index once and in the wheel once; the
//! wheel holds it not later than `expires`; `new` and `est` are never set together, `inv` only
//! with `trk`; no packet, whatever its bytes, panics or allocates (but for the slab's and the
//! index's growth on commit).
//!
//! A connection whose addresses are translated has a second key, that of its replies; an `alias` under
//! it leads to the connection.
//!
//! Threads: none here. To use several, make `n` shards with one secret, put each behind a lock,
//! implement [`Shards`], and [`process()`] takes a parsed packet where it belongs: both directions
//! and ICMP errors about a connection fall into one shard, and only the replies of a translated one
//! may have to visit two, one after the other. Packets of a batch that move nothing but their connection need not visit
//! any ([`Lookahead`]).

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod alias;
mod ceiling;
mod conn;
mod conns;
mod counters;
mod dump;
mod event;
pub mod frag;
mod front;
mod helper;
mod index;
mod known;
pub mod layout;
mod lookahead;
mod nat;
mod open;
mod parse;
mod room;
mod settings;
mod slab;
mod state;
pub mod tcp;
pub mod text;
mod timeout;
mod tracker;
mod tuple;
mod verdict;
mod wheel;
mod words;
mod zone;

pub use ceiling::Ceiling;
pub use conn::Traffic;
pub use conns::{Memory, Segment};
pub use counters::{Counters, CtStats};
pub use dump::{ConnFilter, ConnSnapshot, Cursor, TcpInfo, TupleFilter};
pub use event::{CtEvent, EventKind};
pub use front::{
    Shards, Tracked, as_they_come, delete, peek, process, process_batch, track, visit,
};
pub use helper::{Edit, ExpectSnapshot, Helper, LIFETIME, MAX_EXPECTED, TextEdit};
pub use known::{Known, Sent, Standing};
pub use lookahead::Lookahead;
pub use nat::{NatKind, NatRequest, Translation};
pub use open::{Handshake, Lent, Rules};
pub use parse::{PacketView, Parse, Parsed, parse, parse_into};
pub use settings::CtConfig;
pub use state::CtState;
pub use tcp::KernelTcpState;
pub use timeout::{N_CLASSES, TimeoutClass, TimeoutPolicy, UNUSED_POLICY_KEYS};
pub use tracker::{Conntrack, Expired};
pub use tuple::{Dir, Directed, ICMP_QUERIES, ICMPV6_QUERIES, Key, Tuple};
pub use verdict::{ConnId, CtInfo, CtRequest, InvalidReason, Outcome, PolicyId};
pub use zone::ZoneLimits;

/// Which of `n` shards (not zero) a symmetric hash belongs to; uses its high bits.
#[inline]
pub fn shard_of(hash: u32, n: usize) -> usize {
    ((u64::from(hash) * n as u64) >> 32) as usize
}
