//! The record of one connection: three cache lines.
//!
//! The first has all a lookup and an expiry test need, the second the protocol state and
//! counters, the third what is rarely written.

use crate::helper::{Helper, Watch};
use crate::nat::{Nat, Translation};
use crate::parse::Body;
use crate::slab::NIL;
use crate::tcp::{self, Peer, PeerState, Segment, Step};
use crate::tracker::{Passage, Then};
use crate::tuple::{Dir, Directed, Key, Tuple};
use crate::{
    ConnId, CtInfo, CtRequest, CtState, InvalidReason, Outcome, PolicyId, TimeoutClass,
    TimeoutPolicy,
};
use alloc::boxed::Box;
use base::{Duration, Instant};
use packet::header::ipproto;

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

#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Conn {
    // First line: found by, and what every packet reads or writes.
    pub key: Key,
    /// Next in the index chain, or in the free list.
    pub next: u32,
    pub generation: u32,
    pub expires: Instant,
    pub policy: PolicyId,
    pub alive: bool,
    /// The original direction goes against the key's order.
    pub swapped: bool,
    pub talk: Talk,
    pub seen_reply: bool,
    pub assured: bool,
    /// What the third line has that a packet needs ([`MARKED`], [`TRANSLATED`]).
    rare: u8,
    // Second line.
    pub peers: [Peer; 2],
    pub traffic: [Traffic; 2],
    // Third line: a packet reads it only if `rare` says so.
    pub hash: u32,
    pub timer_prev: u32,
    pub timer_next: u32,
    mark: u32,
    label: [u64; 2],
    pub start: Instant,
    /// Neighbours within the zone, by when they came.
    pub zone_newer: u32,
    pub zone_older: u32,
    pub timer_slot: u8,
    extra: Option<Box<Extra>>,
}

/// What few connections have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub nat: Option<Nat>,
    pub alg: Option<Box<Alg>>,
}

/// What connections of protocols have that announce others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alg {
    /// It announces connections.
    pub watch: Option<Watch>,
    /// It was announced by the connection of this tuple.
    parent: Option<Tuple>,
}

/// By which of its tuples the connection of a packet was found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Orig,
    Reply,
}

/// What the state machines make of a packet of a known connection.
pub(crate) enum Fit {
    /// Part of it; `true` if it is still unanswered, so `new`.
    Part(bool),
    /// Opens another connection in its place.
    Reopen,
    Invalid(InvalidReason),
}

/// The timeout of a class in one of these policies.
#[inline]
pub(crate) fn timeout(
    policies: &[TimeoutPolicy],
    policy: PolicyId,
    class: TimeoutClass,
) -> Duration {
    policies.get(usize::from(policy.0)).unwrap_or(&TimeoutPolicy::DEFAULT).get(class)
}

/// Mark or label may be other than zero.
const MARKED: u8 = 1;
/// Addresses or ports are translated.
const TRANSLATED: u8 = 2;
/// A helper reads its packets.
const HELPED: u8 = 4;
/// Another connection announced it.
const RELATED: u8 = 8;

crate::slab::entry!(Conn, peers, hash);

const _: () = assert!(size_of::<Conn>() == 192);

impl Conn {
    /// No connection; a place for one. What was just written costs more to move than to write.
    pub const BLANK: Conn = Conn {
        key: Key::NOTHING,
        next: NIL,
        generation: 1,
        expires: Instant::ZERO,
        policy: PolicyId(0),
        alive: true,
        swapped: false,
        talk: Talk::First,
        seen_reply: false,
        assured: false,
        rare: 0,
        peers: [Peer::SILENT; 2],
        traffic: [Traffic { packets: 0, bytes: 0 }; 2],
        hash: 0,
        timer_prev: NIL,
        timer_next: NIL,
        mark: 0,
        label: [0; 2],
        start: Instant::ZERO,
        zone_newer: NIL,
        zone_older: NIL,
        timer_slot: 0,
        extra: None,
    };

    /// Makes a blank one a connection whose first packet has `len` bytes; in no table yet.
    #[inline]
    pub fn open(
        &mut self,
        (key, swapped): (&Key, bool),
        hash: u32,
        peers: &[Peer; 2],
        now: Instant,
        len: u32,
    ) {
        (self.key, self.swapped, self.hash) = (*key, swapped, hash);
        (self.peers, self.start) = (*peers, now);
        self.traffic[Dir::Orig as usize] = Traffic { packets: 1, bytes: u64::from(len) };
    }

    pub fn id(&self, shard: u16, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generation, shard }
    }

    pub fn is_tcp(&self) -> bool {
        self.key.proto() == ipproto::TCP
    }

    /// The tuple of the original direction.
    pub fn orig(&self) -> Tuple {
        self.key.tuple(self.swapped)
    }

    /// The same as the tables have it.
    #[inline]
    pub fn directed(&self) -> Directed {
        Directed::new(self.key, self.swapped)
    }

    /// The tuple that packets of the reply direction carry.
    pub fn reply(&self) -> Tuple {
        self.nat().map_or_else(|| self.orig().reverse(), |n| n.reply())
    }

    /// Its translation, if it has one.
    #[inline]
    pub fn nat(&self) -> Option<&Nat> {
        if self.rare & TRANSLATED == 0 { None } else { self.extra.as_deref()?.nat.as_ref() }
    }

    pub fn set_nat(&mut self, nat: Nat) {
        self.extra.get_or_insert_default().nat = Some(nat);
        self.rare |= TRANSLATED;
    }

    /// It announces connections, or was announced.
    #[inline]
    pub fn has_alg(&self) -> bool {
        self.rare & (HELPED | RELATED) != 0
    }

    #[inline]
    pub fn is_helped(&self) -> bool {
        self.rare & HELPED != 0
    }

    #[inline]
    pub fn is_related(&self) -> bool {
        self.rare & RELATED != 0
    }

    fn alg(&self) -> Option<&Alg> {
        if self.has_alg() { self.extra.as_deref()?.alg.as_deref() } else { None }
    }

    fn alg_mut(&mut self) -> &mut Alg {
        self.extra.get_or_insert_default().alg.get_or_insert_default()
    }

    /// What it remembers as a control connection, if it is one.
    pub fn watch(&self) -> Option<&Watch> {
        self.alg()?.watch.as_ref()
    }

    pub fn watch_mut(&mut self) -> Option<&mut Watch> {
        if self.is_helped() { self.alg_mut().watch.as_mut() } else { None }
    }

    pub fn set_helper(&mut self, helper: Helper) {
        self.alg_mut().watch = Some(Watch::new(helper));
        self.rare |= HELPED;
    }

    /// Tuple of the connection that announced it.
    pub fn parent(&self) -> Option<&Tuple> {
        self.alg()?.parent.as_ref()
    }

    pub fn set_parent(&mut self, parent: Tuple) {
        self.alg_mut().parent = Some(parent);
        self.rare |= RELATED;
    }

    #[inline]
    pub fn has_extra(&self) -> bool {
        self.rare & !MARKED != 0
    }

    /// Whether its replies have another tuple than its packets have, turned round.
    #[inline]
    pub fn is_translated(&self) -> bool {
        self.nat().is_some_and(|n| n.alias.is_some())
    }

    /// Gives away what few connections have. It is none of them any more.
    pub fn take_extra(&mut self) -> Option<Box<Extra>> {
        self.rare &= MARKED;
        self.extra.take()
    }

    /// Whether a packet that was found by this tuple is as its sender made it, rather than translated
    /// already.
    pub fn is_raw(&self, dir: Dir, via: Via) -> bool {
        match self.nat() {
            Some(n) if n.alias.is_some() => (dir == Dir::Orig) == (via == Via::Orig),
            _ => true,
        }
    }

    /// What an event tells of, if it changes.
    #[inline]
    pub fn stage(&self) -> ([PeerState; 2], bool, bool) {
        (self.peers.map(|p| p.state), self.seen_reply, self.assured)
    }

    /// Moves the state machine, the counters and the clock by a packet of a direction.
    #[inline(always)]
    pub fn advance(
        &mut self,
        now: Instant,
        (dir, via): (Dir, Via),
        (body, len): (&Body, u32),
        tcp_seq_chk: bool,
        policies: &[TimeoutPolicy],
    ) -> Fit {
        let mut still_new = false;
        let class = match body {
            Body::Tcp(segment) => {
                let unmoved;
                let segment = match self.is_helped() {
                    false => segment,
                    true => {
                        unmoved = self.unmoved(dir, via, segment);
                        &unmoved
                    }
                };
                let step = tcp::update(&mut self.peers, dir, segment, tcp_seq_chk);
                self.assured |= self.peers.iter().all(|p| p.state == PeerState::Established);
                match step {
                    Ok(Step::Fits(class)) => Some(class),
                    Ok(Step::Tolerated) => None,
                    Ok(Step::Opening) => {
                        still_new = true;
                        Some(TimeoutClass::TcpSynSent)
                    }
                    Ok(Step::Reopen) => return Fit::Reopen,
                    Err(reason) => return Fit::Invalid(reason),
                }
            }
            Body::Icmp { .. } => {
                if dir == Dir::Reply {
                    self.talk = Talk::BothWays;
                }
                still_new = self.talk != Talk::BothWays;
                Some(if still_new { TimeoutClass::IcmpFirst } else { TimeoutClass::IcmpReply })
            }
            Body::Other | Body::Error => {
                match (dir, self.talk) {
                    (Dir::Reply, _) => self.talk = Talk::BothWays,
                    (Dir::Orig, Talk::First) => self.talk = Talk::OneWay,
                    (Dir::Orig, _) => {}
                }
                still_new = self.talk != Talk::BothWays;
                // When it began stands where a packet seldom has to look.
                if self.seen_reply && !self.assured && dir == Dir::Orig {
                    const STREAM: Duration = Duration::from_secs(2);
                    self.assured = now.since(self.start) > STREAM;
                }
                Some(if still_new { TimeoutClass::UdpSingle } else { TimeoutClass::UdpMultiple })
            }
        };
        let t = &mut self.traffic[dir as usize];
        t.packets += 1;
        t.bytes += u64::from(len);
        self.seen_reply |= dir == Dir::Reply;
        if let Some(class) = class {
            self.expires = now + timeout(policies, self.policy, class);
        }
        Fit::Part(still_new)
    }

    /// Sets what a commit says of mark and label; whether that changed anything.
    #[inline]
    pub fn label_by(&mut self, req: &CtRequest) -> bool {
        if self.is_related() {
            return false;
        }
        let mark = req.mark.is_some_and(|mark| self.set_mark(mark));
        req.label.is_some_and(|label| self.set_label(label)) | mark
    }

    /// The verdict of a packet of this connection, field by field: one that is made elsewhere would have to
    /// be moved.
    #[inline(always)]
    pub fn answer(
        &self,
        id: ConnId,
        x: &Passage<'_>,
        (dir, via): (Dir, Via),
        state: CtState,
        then: &mut Then,
        out: &mut CtInfo,
    ) {
        (out.state, out.zone, out.dir) = (state, x.req.zone, dir);
        (out.mark, out.label) = (0, 0);
        out.orig = Some(self.directed());
        (out.conn, out.invalid) = (Some(id), None);
        (out.outcome, out.nat) = (Outcome::None, None);
        if self.rare != 0 {
            (out.mark, out.label) = (self.mark(), self.label());
            if self.has_extra() {
                *then = self.elaborate((dir, via), x, out);
            }
        }
    }

    /// How an action translates a packet; adds to `state` that it does.
    #[inline]
    pub fn translation(
        &self,
        (dir, via): (Dir, Via),
        req: &CtRequest,
        quoted: bool,
        state: &mut CtState,
    ) -> Option<Translation> {
        if req.nat.is_none() || state.intersects(CtState::SNAT | CtState::DNAT) {
            return None;
        }
        let n = self.nat().filter(|_| self.is_raw(dir, via))?;
        *state |= n.state(dir);
        Some(n.translation(&self.orig(), dir, quoted))
    }

    /// Completes the verdict of a packet: how it is translated, what announced its connection, and who
    /// reads it, unless it was translated before now.
    #[inline(never)]
    pub fn elaborate(&self, (dir, via): (Dir, Via), x: &Passage<'_>, out: &mut CtInfo) -> Then {
        let quoted = matches!(x.p.body, Body::Error);
        out.nat = self.translation((dir, via), x.req, quoted, &mut out.state);
        if !self.has_alg() {
            return Then::Done;
        }
        if let Some(parent) = self.parent() {
            out.state |= CtState::REL;
            out.orig = Some(Directed::of(parent));
        }
        let translated =
            out.state.intersects(CtState::SNAT | CtState::DNAT) || !self.is_raw(dir, via);
        let reads = out.nat.is_some() || !translated;
        self.watch().filter(|_| reads).map_or(Then::Done, |w| Then::Help(w.helper))
    }

    /// A segment in the numbers of the ends that count them: what was moved on the way is moved back.
    #[cold]
    pub fn unmoved(&self, dir: Dir, via: Via, s: &Segment) -> Segment {
        let Some(w) = self.watch() else { return *s };
        let (sent, acked) = (&w.shifts[dir as usize], &w.shifts[dir.flip() as usize]);
        match self.is_raw(dir, via) {
            true => Segment { ack: acked.sent(s.ack), ..*s },
            false => Segment { seq: sent.sent(s.seq), ..*s },
        }
    }

    /// Direction of a packet, given by which tuple it was found and whether it goes against the
    /// order of that tuple's key.
    #[inline]
    pub fn dir(&self, swapped: bool, via: Via) -> Dir {
        match via {
            Via::Orig if swapped == self.swapped => Dir::Orig,
            Via::Orig => Dir::Reply,
            Via::Reply if self.nat().is_some_and(|n| n.swapped != swapped) => Dir::Orig,
            Via::Reply => Dir::Reply,
        }
    }

    #[inline]
    pub fn mark(&self) -> u32 {
        if self.rare & MARKED != 0 { self.mark } else { 0 }
    }

    #[inline]
    pub fn label(&self) -> u128 {
        if self.rare & MARKED == 0 {
            return 0;
        }
        u128::from(self.label[0]) << 64 | u128::from(self.label[1])
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_mark(&mut self, (value, mask): (u32, u32)) -> bool {
        let old = self.mark();
        let new = value & mask | old & !mask;
        self.mark = new;
        self.rare |= if new != 0 { MARKED } else { 0 };
        old != new
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_label(&mut self, (value, mask): (u128, u128)) -> bool {
        let old = self.label();
        let new = value & mask | old & !mask;
        self.label = [(new >> 64) as u64, new as u64];
        self.rare |= if new != 0 { MARKED } else { 0 };
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
