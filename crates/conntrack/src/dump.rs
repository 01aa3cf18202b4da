//! Looking at the table from outside: snapshots, filters, cursors.
//!
//! A dump or a flush goes through the slots in bounded steps ([`Cursor`]); between two steps the
//! table is free for packets. A connection that lives through all steps is met exactly once.

use crate::conn::{Conn, Traffic};
use crate::tcp::{KernelTcpState, PeerState, Scale};
use crate::tuple::Tuple;
use crate::{ConnId, Helper, PolicyId};
use base::{Duration, Instant, Zone};
use core::net::IpAddr;
use core::ops::Range;

/// TCP's part of a snapshot; `[orig, reply]`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// How far each end has come.
    pub states: [PeerState; 2],
    /// Window shift each end offered; `None` if it did not or its SYN was not seen.
    pub wscale: [Option<u8>; 2],
    /// The handshake was not seen, so windows are taken for as large as can be.
    pub liberal: bool,
}

impl TcpInfo {
    /// The one state that OVS prints: that of the end further on; an acknowledged FIN is
    /// `TIME_WAIT`.
    pub fn state(&self) -> PeerState {
        match self.states[0].max(self.states[1]) {
            PeerState::FinWait2 => PeerState::TimeWait,
            s => s,
        }
    }

    /// In the vocabulary of the Linux kernel.
    pub fn kernel_state(&self) -> KernelTcpState {
        KernelTcpState::of(self.states[0], self.states[1])
    }
}

/// A connection as it was at one moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ConnSnapshot {
    /// Its id.
    pub id: ConnId,
    /// Its zone.
    pub zone: Zone,
    /// Tuple of the original direction.
    pub orig: Tuple,
    /// Tuple that packets of the reply direction carry.
    pub reply: Tuple,
    /// Packets and bytes; `[orig, reply]`.
    pub traffic: [Traffic; 2],
    /// `ct_mark`.
    pub mark: u32,
    /// `ct_label`.
    pub label: u128,
    /// Until it expires if nothing comes.
    pub timeout: Duration,
    /// Since when it exists.
    pub start: Instant,
    /// TCP only.
    pub tcp: Option<TcpInfo>,
    /// A packet of the reply direction was seen.
    pub seen_reply: bool,
    /// Not to be dropped early: an established TCP connection or a UDP stream.
    pub assured: bool,
    /// Its timeout policy.
    pub policy: PolicyId,
    /// What reads its packets.
    pub helper: Option<Helper>,
    /// Tuple of the connection that announced it.
    pub parent: Option<Tuple>,
}

impl ConnSnapshot {
    pub(crate) fn of(c: &Conn, id: ConnId, now: Instant) -> ConnSnapshot {
        let (orig, peers) = (c.orig(), c.peers());
        ConnSnapshot {
            id,
            zone: c.key().zone(),
            orig,
            reply: c.reply(),
            traffic: c.traffic(),
            mark: c.mark(),
            label: c.label(),
            timeout: c.expires.get().since(now),
            start: c.start(),
            tcp: c.is_tcp().then(|| TcpInfo {
                states: peers.map(|p| p.state),
                wscale: peers.map(|p| p.scale.offered()),
                liberal: peers.iter().any(|p| p.scale == Scale::UNKNOWN),
            }),
            seen_reply: c.seen_reply(),
            assured: c.assured(),
            policy: PolicyId(c.policy.get()),
            helper: c.helper(),
            parent: c.parent(),
        }
    }
}

/// Part of a tuple; `None` matches anything.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Source port; of ICMP connections, which have none, only 0 matches.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// ICMP identifier.
    pub icmp_id: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

impl TupleFilter {
    /// Whether a tuple has all that the filter names.
    pub fn matches(&self, t: &Tuple) -> bool {
        let ports = if t.is_icmp() { (0, 0) } else { (t.src_id, t.dst_id) };
        let (id, ty, code) = match t.icmp_parts() {
            Some((i, t, c)) => (Some(i), Some(t), Some(c)),
            None => (None, None, None),
        };
        self.src.is_none_or(|v| v == t.src)
            && self.dst.is_none_or(|v| v == t.dst)
            && self.proto.is_none_or(|v| v == t.proto)
            && self.sport.is_none_or(|v| v == ports.0)
            && self.dport.is_none_or(|v| v == ports.1)
            && self.icmp_id.is_none_or(|v| Some(v) == id)
            && self.icmp_type.is_none_or(|v| Some(v) == ty)
            && self.icmp_code.is_none_or(|v| Some(v) == code)
    }
}

/// Which connections are meant; the default is all.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnFilter {
    /// In this zone only.
    pub zone: Option<Zone>,
    /// Tuple of the original direction.
    pub orig: TupleFilter,
    /// Tuple of the reply direction.
    pub reply: TupleFilter,
    /// Value and mask of the mark.
    pub mark: Option<(u32, u32)>,
    /// Value and mask of the label.
    pub label: Option<(u128, u128)>,
    /// IPv6 only, or IPv4 only.
    pub ipv6: Option<bool>,
}

impl ConnFilter {
    /// All connections of a zone.
    pub fn zone(zone: Zone) -> ConnFilter {
        ConnFilter { zone: Some(zone), ..ConnFilter::default() }
    }

    /// The zone, if all its connections are meant.
    pub(crate) fn whole_zone(&self) -> Option<Zone> {
        self.zone.filter(|zone| *self == ConnFilter::zone(*zone))
    }

    pub(crate) fn matches(&self, c: &Conn) -> bool {
        if self.zone.is_some_and(|z| z != c.key().zone())
            || self.ipv6.is_some_and(|v| v != c.key().is_ipv6())
            || self.mark.is_some_and(|(v, m)| (c.mark() ^ v) & m != 0)
            || self.label.is_some_and(|(v, m)| (c.label() ^ v) & m != 0)
        {
            return false;
        }
        let any = TupleFilter::default();
        if self.orig == any && self.reply == any {
            return true;
        }
        let orig = c.orig();
        self.orig.matches(&orig) && self.reply.matches(&c.reply())
    }
}

/// Where a dump or flush is; starts at the default.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) slot: u32,
    /// Of a zone that is emptied: how many are still to go.
    pub(crate) left: Option<u32>,
    pub(crate) done: bool,
}

impl Cursor {
    /// The next slots of a table that has `slots`, no more than `budget`.
    pub(crate) fn step(&mut self, slots: u32, budget: usize) -> Range<u32> {
        let start = self.slot;
        let end = (u64::from(start) + budget as u64).min(u64::from(slots)) as u32;
        self.done = end == slots;
        self.slot = end.max(start);
        start..self.slot
    }

    /// The whole table was seen.
    pub const fn is_done(&self) -> bool {
        self.done
    }
}
