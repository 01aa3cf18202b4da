//! What can be asked for before a shard is visited.
//!
//! A visit costs least if all it reads is at hand: then it is short for whoever waits, and the waits for memory of
//! a whole batch are one. So the first look at the index is taken without the shard. What it sees may be changing
//! at that moment; it chooses what is prefetched and where the visit looks first, and decides nothing.

use crate::ConnId;
use crate::conn::Conn;
use crate::index::{Bucket, Buckets};
use crate::slab::Places;
use alloc::sync::Arc;
use base::prefetch;
use core::mem::offset_of;

/// See the module.
#[derive(Clone, Debug)]
pub struct Lookahead {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) places: Arc<Places>,
}

/// Where the lines of a connection begin that every packet needs.
const LINES: [usize; 2] = [offset_of!(Conn, key), offset_of!(Conn, peers)];

/// A bucket that was asked for.
pub(crate) struct Asked<'a> {
    bucket: &'a Bucket,
    places: &'a Places,
}

impl Lookahead {
    /// Asks for what the search for a packet's connection reads first.
    #[inline]
    pub(crate) fn ask(&self, hash: u32) -> Option<Asked<'_>> {
        let bucket = self.buckets.of(hash)?;
        prefetch(bucket);
        Some(Asked { bucket, places: &self.places })
    }

    /// Asks for the memory of a connection.
    #[inline]
    pub fn prefetch_known(&self, conn: ConnId) {
        self.places.prefetch::<Conn>(conn.slot, &LINES);
    }
}

impl Asked<'_> {
    /// Asks for the connection at which the search for `hash` will begin, and says where it is.
    #[inline]
    pub fn prefetch_conn(&self, hash: u32) -> Option<u32> {
        let slot = self.bucket.first(hash)?;
        self.places.prefetch::<Conn>(slot, &LINES);
        Some(slot)
    }
}
