//! What can be done before a shard is visited.
//!
//! A visit costs least if all it reads is at hand: then it is short for whoever waits, and the waits for memory of
//! a whole batch are one. So the first look at the index is taken without the shard. What it sees may be changing
//! at that moment; it chooses what is prefetched and where the visit looks first, and decides nothing.
//!
//! Most packets need no visit at all: see [`open`](crate::open).

use crate::conn::Conn;
use crate::conns::Places;
use crate::index::{Bucket, Buckets};
use crate::{Ceiling, ConnId};
use alloc::sync::Arc;
use base::prefetch;

/// See the module.
#[derive(Clone, Debug)]
pub struct Lookahead {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) places: Arc<Places>,
    pub(crate) shared: Arc<Ceiling>,
    /// Of the shard.
    pub(crate) number: u16,
}

/// A bucket that was asked for.
#[derive(Copy, Clone)]
pub(crate) struct Asked<'a> {
    bucket: &'a Bucket,
    pub ahead: &'a Lookahead,
}

impl Lookahead {
    /// Asks for what the search for a packet's connection reads first.
    #[inline]
    pub(crate) fn ask(&self, hash: u32) -> Option<Asked<'_>> {
        let bucket = self.buckets.of(hash)?;
        prefetch(bucket);
        Some(Asked { bucket, ahead: self })
    }

    /// Asks for the memory of a connection.
    #[inline]
    pub fn prefetch_known(&self, conn: ConnId) {
        self.places.get(conn.slot).into_iter().for_each(Conn::prefetch_hot);
    }
}

impl<'a> Asked<'a> {
    /// Asks for the connection at which the search for `hash` will begin, and says where it is.
    #[inline]
    pub fn prefetch_conn(&self, hash: u32) -> Option<(u32, &'a Conn)> {
        let slot = self.bucket.first(hash)?;
        let conn = self.ahead.places.get(slot)?;
        conn.prefetch_hot();
        Some((slot, conn))
    }
}
