//! What every room shares: points in time, identifiers, a keyed hash, a tally, a token bucket, hints on memory.
//!
//! Nothing here reads a clock, allocates or does I/O. Engines get [`Instant`] as an argument.

#![no_std]

#[cfg(test)]
extern crate std;

mod apart;
mod hash;
mod ids;
mod mac;
mod prefetch;
mod tally;
mod time;
mod token_bucket;

pub use apart::Apart;
pub use hash::{HashKey, hash_words};
pub use ids::{Cookie, DpPort, OfPort, RecircId, TableId, Zone};
pub use mac::{MacAddr, ParseMacError};
pub use prefetch::{prefetch, prefetch_to_write};
pub use tally::Tally;
pub use time::{Duration, Instant};
pub use token_bucket::TokenBucket;
