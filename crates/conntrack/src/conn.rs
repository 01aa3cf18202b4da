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
use crate::wheel;
use crate::words::{Bits, Time, U8, U16, U32, U64};
use crate::{
    ConnId, CtInfo, CtRequest, CtState, InvalidReason, Outcome, PolicyId, TimeoutClass,
    TimeoutPolicy,
};
use alloc::boxed::Box;
use base::{Duration, Instant, prefetch, prefetch_to_write};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, Ordering::*};
use packet::header::ipproto;
use parking_lot::Mutex;

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

/// Who has the shard puts it in, takes it out and links it. Its state (the second line, `expires`, `flags`, `talk`,
/// mark and label) is moved by packets: by one at a time, for those that come without the shard
/// ([`crate::open`]) come to [open](Conn::open_up) ones only and [hold](Conn::hold) them meanwhile, and so does who has
/// the shard.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Conn {
    // First line: found by, and what every packet reads or writes.
    key: [U64; 5],
    pub expires: Time,
    /// Next in the index chain, or in the free list.
    pub next: U32,
    pub generation: U32,
    pub policy: U16,
    flags: Bits,
    talk: U8,
    /// What the third line has that a packet needs ([`MARKED`], [`TRANSLATED`]).
    rare: Bits,
    pub timer_slot: U8,
    /// [`CLOSED`], [`OPEN`] or [`HELD`].
    lock: AtomicU8,
    // Second line.
    peers: [[U64; 2]; 2],
    /// Packets and bytes by direction.
    traffic: [[U64; 2]; 2],
    // Third line: a packet reads it only if `rare` says so.
    pub hash: U32,
    pub timer_prev: U32,
    pub timer_next: U32,
    mark: U32,
    label: [U64; 2],
    start: Time,
    /// Neighbours within the zone, by when they came.
    pub zone_newer: U32,
    pub zone_older: U32,
    extra: Mutex<Option<Box<Extra>>>,
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
    /// Only who has the shard can say.
    Unsettled,
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
/// Its replies have another tuple than its packets have, turned round.
const ALIASED: u8 = 16;
/// That tuple goes against its key's order.
const REPLY_SWAPPED: u8 = 32;

const ALIVE: u8 = 1;
/// The original direction goes against the key's order.
const SWAPPED: u8 = 2;
/// A packet of the reply direction was seen.
const SEEN_REPLY: u8 = 4;
/// Not to be dropped early.
const ASSURED: u8 = 8;

/// Packets come with the shard only.
const CLOSED: u8 = 0;
/// Packets may come without the shard.
const OPEN: u8 = 1;
/// One is there.
const HELD: u8 = 2;

const _: () = assert!(size_of::<Conn>() == 192);

/// An open connection that nobody else moves meanwhile.
pub(crate) struct Hold<'a>(&'a Conn);

impl Drop for Hold<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.lock.store(OPEN, Release);
    }
}

impl Hold<'_> {
    /// From now on packets come with the shard only.
    fn close(self) {
        self.0.lock.store(CLOSED, Release);
        core::mem::forget(self);
    }
}

/// By so much at most a thread's time is behind another's: a packet of such a batch makes no connection end sooner.
const SKEW: Duration = Duration::from_millis(1);

/// One whose original end goes on sending is assured after so long.
const STREAM: Duration = Duration::from_secs(2);

/// Who waits for a connection for longer than a packet takes calls this with the number of tries so far.
pub(crate) type Pause = fn(u32);

/// What [`crate::layout`] tells.
impl Conn {
    pub const FLAGS_AT: usize = offset_of!(Conn, flags);
    pub const TALK_AT: usize = offset_of!(Conn, talk);
    pub const RARE_AT: usize = offset_of!(Conn, rare);
    pub const LOCK_AT: usize = offset_of!(Conn, lock);
    pub const MARK_AT: usize = offset_of!(Conn, mark);
    pub const START_AT: usize = offset_of!(Conn, start);
    pub const PEERS_AT: usize = offset_of!(Conn, peers);
    pub const TRAFFIC_AT: usize = offset_of!(Conn, traffic);
    pub const ASSURED: u8 = ASSURED;
    pub const SEEN_REPLY: u8 = SEEN_REPLY;
    pub const MARKED: u8 = MARKED;
    pub const BOTH_WAYS: u8 = Talk::BothWays as u8;
    pub const OPEN: u8 = OPEN;
    pub const HELD: u8 = HELD;
    pub const SKEW: Duration = SKEW;
    pub const STREAM: Duration = STREAM;
}

impl Conn {
    /// No connection; a place for one.
    pub const fn blank() -> Conn {
        const SILENT: [u64; 2] = Peer::SILENT.to_words();
        Conn {
            key: [const { U64::new(0) }; 5],
            next: U32::new(NIL),
            generation: U32::new(1),
            expires: Time::new(Instant::ZERO),
            policy: U16::new(0),
            flags: Bits::new(0),
            talk: U8::new(Talk::First as u8),
            rare: Bits::new(0),
            timer_slot: U8::new(0),
            lock: AtomicU8::new(CLOSED),
            peers: [const { [U64::new(SILENT[0]), U64::new(SILENT[1])] }; 2],
            traffic: [const { [U64::new(0), U64::new(0)] }; 2],
            hash: U32::new(0),
            timer_prev: U32::new(NIL),
            timer_next: U32::new(NIL),
            mark: U32::new(0),
            label: [U64::new(0), U64::new(0)],
            start: Time::new(Instant::ZERO),
            zone_newer: U32::new(NIL),
            zone_older: U32::new(NIL),
            extra: Mutex::new(None),
        }
    }

    /// Makes a place in which nothing lives blank again, but for the generation.
    pub fn clear(&self) {
        self.flags.set_all(0);
        self.talk.set(Talk::First as u8);
        self.rare.set_all(0);
        self.next.set(NIL);
        self.traffic.iter().flatten().for_each(|w| w.set(0));
    }

    /// Makes a blank one a connection whose first packet has `len` bytes; in no table yet.
    #[inline]
    pub fn begin(&self, (key, swapped): (&Key, bool), hash: u32, now: Instant, len: u32) {
        self.key.iter().zip(key.0).for_each(|(word, v)| word.set(v));
        self.flags.put(SWAPPED, swapped);
        self.hash.set(hash);
        self.start.set(now);
        let [packets, bytes] = &self.traffic[Dir::Orig as usize];
        packets.set(1);
        bytes.set(u64::from(len));
    }

    /// Lets packets come without the shard from now on, if it is a connection like most. It must be closed.
    #[inline]
    pub fn open_up(&self) {
        if !self.has_extra() {
            self.lock.store(OPEN, Release);
        }
    }

    /// Holds it, unless somebody else does or it is closed.
    #[inline(always)]
    pub fn try_hold(&self) -> Option<Hold<'_>> {
        self.lock.compare_exchange(OPEN, HELD, Acquire, Relaxed).ok().map(|_| Hold(self))
    }

    /// Its packets come with the shard only.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.lock.load(Relaxed) == CLOSED
    }

    /// Somebody holds it.
    pub fn is_held(&self) -> bool {
        self.lock.load(Relaxed) == HELD
    }

    /// Holds it for who has the shard; nothing to hold if it is closed.
    #[inline(always)]
    pub fn hold(&self, pause: Pause) -> Option<Hold<'_>> {
        if self.is_closed() { None } else { self.wait(pause) }
    }

    #[inline(never)]
    fn wait(&self, pause: Pause) -> Option<Hold<'_>> {
        let mut tries = 0;
        loop {
            // Only who has the shard opens and closes.
            match self.try_hold() {
                Some(hold) => return Some(hold),
                None => pause(tries),
            }
            tries += 1;
        }
    }

    /// No packet comes without the shard any more.
    #[inline]
    pub fn close(&self, pause: Pause) {
        if let Some(hold) = self.hold(pause) {
            hold.close();
        }
    }

    /// Closes it if its time has run out; whether it has.
    #[inline]
    pub fn close_if_expired(&self, now: Instant, pause: Pause) -> bool {
        if !self.expired(now) {
            return false;
        }
        let hold = self.hold(pause);
        // A packet may have come meanwhile.
        if !self.expired(now) {
            return false;
        }
        if let Some(hold) = hold {
            hold.close();
        }
        true
    }

    /// Asks for all of it, to become another.
    #[inline]
    pub fn prefetch_to_write(&self) {
        prefetch_to_write(&self.key);
        prefetch_to_write(&self.peers);
        prefetch_to_write(&self.hash);
    }

    /// Asks for the lines that every packet needs.
    #[inline]
    pub fn prefetch_hot(&self) {
        prefetch(&self.key);
        prefetch(&self.peers);
    }

    pub fn is_alive(&self) -> bool {
        self.flags.has(ALIVE)
    }

    pub fn set_alive(&self, alive: bool) {
        self.flags.put(ALIVE, alive);
    }

    pub fn seen_reply(&self) -> bool {
        self.flags.has(SEEN_REPLY)
    }

    pub fn assured(&self) -> bool {
        self.flags.has(ASSURED)
    }

    fn swapped(&self) -> bool {
        self.flags.has(SWAPPED)
    }

    #[inline]
    pub fn key(&self) -> Key {
        Key(self.key.each_ref().map(U64::get))
    }

    /// Whether this is its key, without a branch.
    #[inline]
    pub fn has_key(&self, key: &Key) -> bool {
        self.key().is(key)
    }

    #[inline(always)]
    pub fn peers(&self) -> [Peer; 2] {
        self.peers.each_ref().map(|p| Peer::from_words(p.each_ref().map(U64::get)))
    }

    #[inline(always)]
    pub fn set_peers(&self, peers: &[Peer; 2]) {
        for (words, peer) in self.peers.iter().zip(peers) {
            words.iter().zip(peer.to_words()).for_each(|(word, v)| word.set(v));
        }
    }

    /// By direction.
    pub fn traffic(&self) -> [Traffic; 2] {
        self.traffic
            .each_ref()
            .map(|[packets, bytes]| Traffic { packets: packets.get(), bytes: bytes.get() })
    }

    pub fn start(&self) -> Instant {
        self.start.get()
    }

    fn talk(&self) -> Talk {
        match self.talk.get() {
            0 => Talk::First,
            1 => Talk::OneWay,
            _ => Talk::BothWays,
        }
    }

    pub fn id(&self, shard: u16, slot: u32) -> ConnId {
        ConnId { slot, generation: self.generation.get(), shard }
    }

    /// Another like this, in no table.
    pub fn copied(&self) -> Conn {
        let copy = Conn::blank();
        copy.become_copy(self);
        copy
    }

    /// Becomes what another is that lives in another table, in state but not in place.
    pub fn become_copy(&self, o: &Conn) {
        self.begin((&o.key(), o.swapped()), o.hash.get(), o.start(), 0);
        self.set_peers(&o.peers());
        self.flags.set_all(o.flags.all() | ALIVE);
        self.talk.set(o.talk.get());
        self.rare.set_all(o.rare.all());
        self.expires.set(o.expires.get());
        self.policy.set(o.policy.get());
        self.mark.set(o.mark.get());
        self.label.iter().zip(&o.label).for_each(|(word, o)| word.set(o.get()));
        for (words, o) in self.traffic.iter().zip(&o.traffic) {
            words.iter().zip(o).for_each(|(word, o)| word.set(o.get()));
        }
        *self.extra.lock() = o.extra.lock().clone();
    }

    pub fn is_tcp(&self) -> bool {
        self.key().proto() == ipproto::TCP
    }

    /// The tuple of the original direction.
    pub fn orig(&self) -> Tuple {
        self.key().tuple(self.swapped())
    }

    /// The same as the tables have it.
    #[inline]
    pub fn directed(&self) -> Directed {
        Directed::new(self.key(), self.swapped())
    }

    /// The tuple that packets of the reply direction carry.
    pub fn reply(&self) -> Tuple {
        self.nat().map_or_else(|| self.orig().reverse(), |n| n.reply())
    }

    fn with_extra<R>(&self, f: impl FnOnce(&Extra) -> Option<R>) -> Option<R> {
        self.extra.lock().as_deref().and_then(f)
    }

    /// Its translation, if it has one.
    #[inline]
    pub fn nat(&self) -> Option<Nat> {
        if !self.rare.has(TRANSLATED) { None } else { self.with_extra(|e| e.nat.clone()) }
    }

    /// Translates its packets from now on. It must be closed, and is not opened again.
    pub fn set_nat(&self, nat: Nat) {
        self.rare.put(TRANSLATED, true);
        self.rare.put(ALIASED, nat.alias.is_some());
        self.rare.put(REPLY_SWAPPED, nat.swapped);
        self.extra.lock().get_or_insert_default().nat = Some(nat);
    }

    /// It announces connections, or was announced.
    #[inline]
    pub fn has_alg(&self) -> bool {
        self.rare.has(HELPED | RELATED)
    }

    #[inline]
    pub fn is_helped(&self) -> bool {
        self.rare.has(HELPED)
    }

    #[inline]
    pub fn is_related(&self) -> bool {
        self.rare.has(RELATED)
    }

    /// Does something with what it remembers as a control connection, if it is one.
    pub fn with_watch<R>(&self, f: impl FnOnce(&mut Watch) -> R) -> Option<R> {
        if !self.is_helped() {
            return None;
        }
        let mut extra = self.extra.lock();
        extra.as_deref_mut()?.alg.as_deref_mut()?.watch.as_mut().map(f)
    }

    /// Who reads its packets.
    pub fn helper(&self) -> Option<Helper> {
        self.with_watch(|w| w.helper)
    }

    /// Lets a helper read its packets from now on. It must be closed, and is not opened again.
    pub fn set_helper(&self, helper: Helper) {
        self.announce(|alg| alg.watch = Some(Watch::new(helper)));
        self.rare.put(HELPED, true);
    }

    /// Tuple of the connection that announced it.
    pub fn parent(&self) -> Option<Tuple> {
        if !self.is_related() { None } else { self.with_extra(|e| e.alg.as_ref()?.parent) }
    }

    pub fn set_parent(&self, parent: Tuple) {
        self.announce(|alg| alg.parent = Some(parent));
        self.rare.put(RELATED, true);
    }

    /// Changes what it has of connections that announce others.
    fn announce(&self, change: impl FnOnce(&mut Alg)) {
        change(self.extra.lock().get_or_insert_default().alg.get_or_insert_default());
    }

    #[inline]
    pub fn has_extra(&self) -> bool {
        self.rare.has(!MARKED)
    }

    /// Whether its replies have another tuple than its packets have, turned round.
    #[inline]
    pub fn is_translated(&self) -> bool {
        self.rare.has(ALIASED)
    }

    /// Gives away what few connections have. It is none of them any more.
    pub fn take_extra(&self) -> Option<Box<Extra>> {
        self.rare.set_all(self.rare.all() & MARKED);
        self.extra.lock().take()
    }

    /// Whether a packet that was found by this tuple is as its sender made it, rather than translated
    /// already.
    pub fn is_raw(&self, dir: Dir, via: Via) -> bool {
        !self.is_translated() || (dir == Dir::Orig) == (via == Via::Orig)
    }

    /// What an event tells of, if it changes.
    #[inline]
    pub fn stage(&self) -> ([PeerState; 2], bool, bool) {
        (self.peers().map(|p| p.state), self.seen_reply(), self.assured())
    }

    /// Moves the state machine, the counters and the clock by a packet of a direction. `timeout` is that of a class.
    ///
    /// Who has the `shard` learns whether the connection ends sooner than the wheel looks at it. Without it nothing moves but
    /// what no one else needs to know of: [`Fit::Unsettled`] else, and nothing has changed.
    #[inline(always)]
    pub fn advance(
        &self,
        now: Instant,
        (dir, via): (Dir, Via),
        (body, len): (&Body, u32),
        tcp_seq_chk: bool,
        shard: Option<&mut bool>,
        timeout: impl Fn(TimeoutClass) -> Duration,
    ) -> Fit {
        let mut still_new = false;
        let (mut assured, mut talk) = (self.assured(), self.talk());
        let mut moved = None;
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
                let peers = moved.insert(self.peers());
                let step = tcp::update(peers, dir, segment, tcp_seq_chk);
                assured |= peers.iter().all(|p| p.state == PeerState::Established);
                match step {
                    Ok(Step::Fits(class)) => Some(class),
                    Ok(Step::Tolerated) => None,
                    Ok(Step::Opening) => {
                        still_new = true;
                        Some(TimeoutClass::TcpSynSent)
                    }
                    _ if shard.is_none() => return Fit::Unsettled,
                    Ok(Step::Reopen) => return Fit::Reopen,
                    Err(reason) => return Fit::Invalid(reason),
                }
            }
            Body::Icmp { .. } => {
                if dir == Dir::Reply {
                    talk = Talk::BothWays;
                }
                still_new = talk != Talk::BothWays;
                Some(if still_new { TimeoutClass::IcmpFirst } else { TimeoutClass::IcmpReply })
            }
            Body::Other | Body::Error => {
                match (dir, talk) {
                    (Dir::Reply, _) => talk = Talk::BothWays,
                    (Dir::Orig, Talk::First) => talk = Talk::OneWay,
                    (Dir::Orig, _) => {}
                }
                still_new = talk != Talk::BothWays;
                // When it began stands where a packet seldom has to look.
                if self.seen_reply() && !assured && dir == Dir::Orig {
                    assured = now.since(self.start()) > STREAM;
                }
                Some(if still_new { TimeoutClass::UdpSingle } else { TimeoutClass::UdpMultiple })
            }
        };
        if let Some(class) = class {
            let (old, expires) = (self.expires.get(), now + timeout(class));
            if expires >= old {
                self.expires.set(expires);
            } else if old.since(expires) >= SKEW {
                if !wheel::is_looked_at(self.timer_slot.get(), now, expires) {
                    // The wheel has to know.
                    let Some(sooner) = shard else { return Fit::Unsettled };
                    *sooner = true;
                }
                self.expires.set(expires);
            }
        }
        match &moved {
            Some(peers) => self.set_peers(peers),
            None => self.talk.set(talk as u8),
        }
        let mut flags = self.flags.all();
        flags |= if assured { ASSURED } else { 0 };
        flags |= if dir == Dir::Reply { SEEN_REPLY } else { 0 };
        self.flags.set_all(flags);
        let [packets, bytes] = &self.traffic[dir as usize];
        packets.set(packets.get() + 1);
        bytes.set(bytes.get() + u64::from(len));
        Fit::Part(still_new)
    }

    /// Whether a commit would change mark or label.
    #[inline]
    pub fn is_labelled_by(&self, req: &CtRequest) -> bool {
        let differs = |old: u128, (value, mask): (u128, u128)| (old ^ value) & mask != 0;
        let wide = |(value, mask): (u32, u32)| (u128::from(value), u128::from(mask));
        !self.is_related()
            && (req.mark.is_some_and(|mark| differs(self.mark().into(), wide(mark)))
                || req.label.is_some_and(|label| differs(self.label(), label)))
    }

    /// Sets what a commit says of mark and label; whether that changed anything.
    #[inline]
    pub fn label_by(&self, req: &CtRequest) -> bool {
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
        if self.rare.all() != 0 {
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
            out.orig = Some(Directed::of(&parent));
        }
        let translated =
            out.state.intersects(CtState::SNAT | CtState::DNAT) || !self.is_raw(dir, via);
        let reads = out.nat.is_some() || !translated;
        self.helper().filter(|_| reads).map_or(Then::Done, Then::Help)
    }

    /// A segment in the numbers of the ends that count them: what was moved on the way is moved back.
    #[cold]
    pub fn unmoved(&self, dir: Dir, via: Via, s: &Segment) -> Segment {
        let raw = self.is_raw(dir, via);
        let unmoved = self.with_watch(|w| {
            let (sent, acked) = (&w.shifts[dir as usize], &w.shifts[dir.flip() as usize]);
            match raw {
                true => Segment { ack: acked.sent(s.ack), ..*s },
                false => Segment { seq: sent.sent(s.seq), ..*s },
            }
        });
        unmoved.unwrap_or(*s)
    }

    /// Direction of a packet, given by which tuple it was found and whether it goes against the
    /// order of that tuple's key.
    #[inline]
    pub fn dir(&self, swapped: bool, via: Via) -> Dir {
        match via {
            Via::Orig if swapped == self.swapped() => Dir::Orig,
            Via::Orig => Dir::Reply,
            Via::Reply if self.rare.has(REPLY_SWAPPED) != swapped => Dir::Orig,
            Via::Reply => Dir::Reply,
        }
    }

    #[inline]
    pub fn mark(&self) -> u32 {
        if self.rare.has(MARKED) { self.mark.get() } else { 0 }
    }

    #[inline]
    pub fn label(&self) -> u128 {
        if !self.rare.has(MARKED) {
            return 0;
        }
        u128::from(self.label[0].get()) << 64 | u128::from(self.label[1].get())
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_mark(&self, (value, mask): (u32, u32)) -> bool {
        let (old, label) = (self.mark(), self.label());
        let new = value & mask | old & !mask;
        self.note(new, label);
        old != new
    }

    /// Sets what mask selects; whether that changed anything.
    pub fn set_label(&self, (value, mask): (u128, u128)) -> bool {
        let (mark, old) = (self.mark(), self.label());
        let new = value & mask | old & !mask;
        self.note(mark, new);
        old != new
    }

    fn note(&self, mark: u32, label: u128) {
        self.mark.set(mark);
        self.label[0].set((label >> 64) as u64);
        self.label[1].set(label as u64);
        if mark != 0 || label != 0 {
            self.rare.put(MARKED, true);
        }
    }

    #[inline]
    pub fn expired(&self, now: Instant) -> bool {
        self.expires.get() <= now
    }
}
