//! The record of one connection: three cache lines.
//!
//! The first has all a lookup and an expiry test need, the second the protocol state and
//! counters, the third what is rarely written.

use crate::tcp::{Peer, PeerState};
use crate::tuple::{Dir, Key, Tuple};
use crate::{ConnId, PolicyId, TimeoutClass};
use base::Instant;
use packet::header::ipproto;

/// "No slot" in the links.
pub(crate) const NIL: u32 = u32::MAX;

/// How far a connection without a handshake has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Talk {
    /// One packet.
    First,
    /// More from the same end.
    OneWay,
    /// Both ends have sent.
    BothWays,
}

/// Packets and bytes of one direction.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets, headers included.
    pub bytes: u64,
}

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Conn {
    // First line.
    pub key: Key,
    pub hash: u32,
    /// Next in the index chain, or in the free list.
    pub next: u32,
    pub expires: Instant,
    pub generation: u32,
    pub policy: PolicyId,
    pub alive: bool,
    /// The original direction goes against the key's order.
    pub swapped: bool,
    // Second line.
    pub peers: [Peer; 2],
    pub traffic: [Traffic; 2],
    // Third line.
    pub talk: Talk,
    pub class: TimeoutClass,
    pub seen_reply: bool,
    pub assured: bool,
    pub timer_slot: u8,
    pub timer_prev: u32,
    pub timer_next: u32,
    pub mark: u32,
    pub label: [u64; 2],
    pub start: Instant,
}

const _: () = assert!(size_of::<Conn>() == 192);

impl Conn {
    pub fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generation }
    }

    pub fn is_tcp(&self) -> bool {
        self.key.proto() == ipproto::TCP
    }

    /// The tuple of the original direction.
    pub fn orig(&self) -> Tuple {
        self.key.tuple(self.swapped)
    }

    /// Direction of a packet, given whether it goes against the key's order.
    #[inline]
    pub fn dir(&self, swapped: bool) -> Dir {
        if swapped == self.swapped { Dir::Orig } else { Dir::Reply }
    }

    pub fn label(&self) -> u128 {
        u128::from(self.label[0]) << 64 | u128::from(self.label[1])
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_mark(&mut self, (value, mask): (u32, u32)) -> bool {
        let new = value & mask | self.mark & !mask;
        core::mem::replace(&mut self.mark, new) != new
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_label(&mut self, (value, mask): (u128, u128)) -> bool {
        let old = self.label();
        let new = value & mask | old & !mask;
        self.label = [(new >> 64) as u64, new as u64];
        old != new
    }

    #[inline]
    pub fn expired(&self, now: Instant) -> bool {
        self.expires <= now
    }
}

/// The state of a TCP connection in the vocabulary of the Linux kernel's tracker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KernelTcpState {
    /// SYN seen.
    SynSent,
    /// SYN and SYN+ACK seen.
    SynRecv,
    /// Handshake complete.
    Established,
    /// One FIN seen.
    FinWait,
    /// One FIN seen and acknowledged.
    CloseWait,
    /// Both FINs seen.
    LastAck,
    /// Both FINs acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// Two SYNs seen (simultaneous open).
    SynSent2,
}

impl KernelTcpState {
    /// From the two ends.
    pub fn of(orig: PeerState, reply: PeerState) -> KernelTcpState {
        use PeerState as P;
        match (orig.min(reply), orig.max(reply)) {
            (_, P::TimeWait) => KernelTcpState::Close,
            (P::FinWait2, _) => KernelTcpState::TimeWait,
            (P::Closing, _) => KernelTcpState::LastAck,
            (_, P::FinWait2) => KernelTcpState::CloseWait,
            (_, P::Closing) => KernelTcpState::FinWait,
            (P::Established, _) => KernelTcpState::Established,
            (P::SynSent, P::SynSent) => KernelTcpState::SynSent2,
            (P::SynSent, _) => KernelTcpState::SynRecv,
            _ => KernelTcpState::SynSent,
        }
    }

    /// The name that `conntrack -L` prints.
    pub const fn name(self) -> &'static str {
        match self {
            KernelTcpState::SynSent => "SYN_SENT",
            KernelTcpState::SynRecv => "SYN_RECV",
            KernelTcpState::Established => "ESTABLISHED",
            KernelTcpState::FinWait => "FIN_WAIT",
            KernelTcpState::CloseWait => "CLOSE_WAIT",
            KernelTcpState::LastAck => "LAST_ACK",
            KernelTcpState::TimeWait => "TIME_WAIT",
            KernelTcpState::Close => "CLOSE",
            KernelTcpState::SynSent2 => "SYN_SENT2",
        }
    }
}
