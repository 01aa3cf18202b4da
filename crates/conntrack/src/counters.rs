//! What the tracker counts: one table of counters, one by reason of invalidity, and the
//! statistics of what is alive.

use crate::tcp::PeerState;
use crate::{ConnSnapshot, InvalidReason};
use packet::header::ipproto;

/// A number for each reason.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct ByReason([u64; InvalidReason::ALL.len()]);

impl Default for ByReason {
    fn default() -> Self {
        ByReason([0; InvalidReason::ALL.len()])
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident;)*) => {
        /// Totals since the tracker was made. Those that many packets add to come first.
        #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $field: u64,)*
            invalid_by: ByReason,
        }

        impl Counters {
            /// Name and value of each, without the reasons of invalidity.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }

            /// What the counter of this name counts, in a sentence.
            pub fn text(name: &str) -> Option<&'static str> {
                match name {
                    $(stringify!($field) => Some(concat!($($doc),*).trim_ascii()),)*
                    _ => None,
                }
            }

            /// Adds another shard's counters.
            pub fn add(&mut self, o: &Counters) {
                $(self.$field += o.$field;)*
                for (a, b) in self.invalid_by.0.iter_mut().zip(o.invalid_by.0) {
                    *a += b;
                }
            }
        }
    };
}

counters! {
    /// Packets that belonged to a known connection.
    found;
    /// Packets of no known connection.
    new;
    /// Connections committed.
    insert;
    /// Packets that were `inv`.
    invalid;
    /// Commits refused.
    insert_failed;
    /// Packets whose commit was refused because the table was full.
    drop;
    /// Packets whose commit was refused because the zone was full.
    zone_full;
    /// Connections that had to make room for others.
    early_drop;
    /// Packets too damaged to be looked up.
    error;
    /// Connections whose time ran out.
    expired;
    /// Connections removed on request, by `force` or by a SYN that reopened them.
    delete;
    /// Connections that control connections announced.
    expect;
}

impl Counters {
    pub(crate) fn count_invalid(&mut self, r: InvalidReason) {
        self.invalid += 1;
        self.invalid_by.0[r as usize] += 1;
    }

    /// Packets that were `inv` for this reason.
    pub fn invalid_by(&self, r: InvalidReason) -> u64 {
        self.invalid_by.0[r as usize]
    }
}

/// How many connections there are of which kind (`dpctl/ct-stats-show`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CtStats {
    /// All.
    pub total: u64,
    /// By protocol, in the order of [`CtStats::PROTOS`].
    pub by_proto: [u64; 8],
    /// TCP connections by the state that OVS prints, in the order of [`PeerState`].
    pub by_tcp_state: [u64; PeerState::ALL.len()],
}

impl CtStats {
    /// Names of the kinds.
    pub const PROTOS: [&str; 8] =
        ["TCP", "UDP", "SCTP", "ICMP", "DCCP", "IGMP", "Other", CtStats::ICMPV6];

    /// The kind that OVS counts in the total only.
    pub const ICMPV6: &str = "ICMPv6";

    /// Names and numbers of the kinds.
    pub fn protocols(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CtStats::PROTOS.into_iter().zip(self.by_proto)
    }

    /// Names and numbers of the states of TCP connections.
    pub fn tcp_states(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PeerState::ALL.map(PeerState::name).into_iter().zip(self.by_tcp_state)
    }

    /// Counts one more.
    pub fn count(&mut self, c: &ConnSnapshot) {
        const DCCP: u8 = 33;
        self.total += 1;
        let kind = match c.orig.proto {
            ipproto::TCP => 0,
            ipproto::UDP => 1,
            ipproto::SCTP => 2,
            ipproto::ICMP => 3,
            ipproto::ICMPV6 => 7,
            DCCP => 4,
            ipproto::IGMP => 5,
            _ => 6,
        };
        self.by_proto[kind] += 1;
        if let Some(t) = &c.tcp {
            self.by_tcp_state[t.state() as usize] += 1;
        }
    }
}
