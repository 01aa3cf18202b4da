//! IP fragments: held until their datagram is whole, judged as one packet, sent on as they came.
//!
//! How: [`FragHeader::parse`] reads a fragment without any table. [`Reassembly::offer`] holds it, with
//! whatever its caller needs to go on with it, or refuses it with an [`InvalidReason`](crate::InvalidReason),
//! or gives all fragments of its datagram back when it was the last one missing. [`Whole::join`] makes one packet
//! of them, for [`process`](crate::process()); [`Whole::share`] brings what a translation changed in it back into each fragment.
//!
//! What is a fragment too small, too many or too late follows OVS (`ovs-vswitchd(8)`, `dpctl/ipf-*`); what overlaps
//! is refused and the fragments that were there before stay (RFC 5722 would drop these too, which
//! lets whoever guesses an identification end a datagram with one packet).
//!
//! Invariants: number and bytes of what waits are bounded; the fragments of a complete datagram cover each of its bytes
//! once; who is full pays first: when there is no room, room is made by the oldest datagram of that ingress port
//! which holds most, and only for a port that holds less. All searches are in trees, so nobody can choose addresses
//! or identifications that make one slow.
//!
//! Threads: none here.

mod header;
mod table;
mod whole;

pub use header::{DatagramKey, FragHeader};
pub use table::{FragSnapshot, FragState, Offer, Piece, Reassembly};
pub use whole::Whole;

use base::Duration;

/// How long a datagram may take to become whole.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// How much longer fragments stay when no packet comes that would let them go.
pub const PURGE_AFTER: Duration = Duration::from_secs(10);

/// The least that [`FragRules::min_len`] can be.
pub const LEAST_MIN_LEN: u32 = 400;

/// The most that [`FragConfig::max_fragments`] can be.
pub const MOST_FRAGMENTS: u32 = 5000;

/// Most fragments of one datagram: 65,535 bytes in parts of [`LEAST_MIN_LEN`] are fewer.
pub const MOST_PER_DATAGRAM: usize = 256;

/// Rules for one version of IP.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FragRules {
    /// Fragments are reassembled at all.
    pub enabled: bool,
    /// Least bytes of a fragment with its IP header, the last one of a datagram excepted.
    pub min_len: u32,
}

/// Settings that may change while fragments wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FragConfig {
    /// For IPv4.
    pub v4: FragRules,
    /// For IPv6.
    pub v6: FragRules,
    /// Most fragments that wait at a time.
    pub max_fragments: u32,
    /// Most bytes of frames that wait at a time.
    pub max_bytes: usize,
}

impl Default for FragConfig {
    fn default() -> FragConfig {
        FragConfig {
            v4: FragRules { enabled: true, min_len: 1200 },
            v6: FragRules { enabled: true, min_len: 1280 },
            max_fragments: 1000,
            max_bytes: 16 << 20,
        }
    }
}

impl FragConfig {
    /// The rules for IPv6 or for IPv4.
    pub const fn rules(&self, v6: bool) -> &FragRules {
        if v6 { &self.v6 } else { &self.v4 }
    }

    /// The same, to be changed.
    pub const fn rules_mut(&mut self, v6: bool) -> &mut FragRules {
        if v6 { &mut self.v6 } else { &mut self.v4 }
    }
}

macro_rules! frag_counters {
    ($($field:ident $doc:literal;)*) => {
        /// Totals for one version of IP. Each counts fragments.
        #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
        pub struct FragCounters {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl FragCounters {
            /// Name and value of each.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

frag_counters! {
    accepted "Held.";
    completed "Given back because their datagram was whole.";
    expired "Dropped because the rest did not come in time.";
    too_small "Refused: smaller than the minimum.";
    overlap "Refused: overlapping, or twice the same.";
    purged "Dropped long after the time was over, with no packet coming.";
    bounds "Refused: the datagram's end or a length cannot be.";
    too_big "Refused: the datagram would be too large.";
    full "Refused: no room.";
    evicted "Dropped to make room for the fragments of another port.";
}
