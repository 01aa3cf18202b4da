//! The open way: a packet of a connection like most is tracked without its shard.
//!
//! What two processors write by turns they have to hand to and fro, and that costs more than to track a packet. A
//! shard is such a thing, a connection seldom is: its packets come by the same thread for a while. So a packet that
//! moves nothing but its connection *holds* that one and leaves the shard alone. Whatever else is to happen (a
//! connection begins, ends sooner, is translated, marked anew, reopened; somebody wants to hear of it; the packet is
//! invalid) is for who has the shard, and nothing has changed then.

use crate::conn::{Conn, Fit, Hold, Via};
use crate::known::{Known, Sent, Standing};
use crate::lookahead::Lookahead;
use crate::parse::Body;
use crate::tcp::{self, PeerState};
use crate::timeout::{N_CLASSES, TimeoutClass, TimeoutPolicy};
use crate::tracker::{Passage, Then};
use crate::tuple::Dir;
use crate::words::{Bits, U64};
use crate::{ConnId, CtInfo, CtRequest, CtState};
use base::{Duration, Instant, Zone};
use core::mem::offset_of;

const TCP_SEQ_CHK: u8 = 1;
/// Somebody wants to hear of events.
const EVENTS: u8 = 2;

/// What packets without the shard have to know of its settings. It is seldom written, so it stays with all who read it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Rules {
    flags: Bits,
    /// Of the default policy, in nanoseconds.
    timeouts: [U64; N_CLASSES],
    /// Which of them one of TCP has whose ends are in these states.
    classes: [[u8; N_STATES]; N_STATES],
}

/// States of an end, as many as there are or more.
const N_STATES: usize = 1 << Rules::STATE_BITS;

impl Default for Rules {
    fn default() -> Rules {
        Rules::new()
    }
}

impl Rules {
    pub(crate) const FLAGS_AT: usize = offset_of!(Rules, flags);
    pub(crate) const TIMEOUTS_AT: usize = offset_of!(Rules, timeouts);
    pub(crate) const CLASSES_AT: usize = offset_of!(Rules, classes);
    pub(crate) const STATE_BITS: usize = 3;
    pub(crate) const TCP_SEQ_CHK: u8 = TCP_SEQ_CHK;
    pub(crate) const EVENTS: u8 = EVENTS;

    pub(crate) fn new() -> Rules {
        let mut classes = [[0; N_STATES]; N_STATES];
        for (a, row) in PeerState::ALL.iter().zip(&mut classes) {
            for (b, class) in PeerState::ALL.iter().zip(row) {
                *class = tcp::timeout_class(*a, *b) as u8;
            }
        }
        let timeouts = [const { U64::new(0) }; N_CLASSES];
        let rules = Rules { flags: Bits::new(0), timeouts, classes };
        rules.set_timeouts(&TimeoutPolicy::DEFAULT);
        rules
    }

    pub(crate) fn set_tcp_seq_chk(&self, on: bool) {
        self.flags.put(TCP_SEQ_CHK, on);
    }

    pub(crate) fn set_events(&self, on: bool) {
        self.flags.put(EVENTS, on);
    }

    pub(crate) fn set_timeouts(&self, policy: &TimeoutPolicy) {
        for (word, class) in self.timeouts.iter().zip(TimeoutClass::ALL) {
            word.set(u64::try_from(policy.get(class).as_nanos()).unwrap_or(u64::MAX));
        }
    }

    fn timeout(&self, class: TimeoutClass) -> Duration {
        Duration::from_nanos(self.timeouts[class as usize].get())
    }
}

/// How far a connection of TCP is when it is lent. Whoever lets it be served before the packet goes on that brought it
/// there, if it is not done yet, has all that follow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// One end has spoken.
    Asked,
    /// Both have, and not both know it.
    Answered,
    /// It is over, or there is none.
    Done,
}

/// A connection that [was lent](Lookahead::lend).
#[derive(Copy, Clone, Debug)]
pub struct Lent {
    /// Where it lies; [`crate::layout`] says how.
    pub address: usize,
    /// Which of those that had its place.
    pub generation: u32,
    /// Which way the packets go.
    pub dir: Dir,
    /// How far its handshake is.
    pub handshake: Handshake,
    /// The verdict of such packets, as long as mark and label stay.
    pub standing: Standing,
}

impl Lookahead {
    /// Whether packets may go the open way.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.shared.rules.flags.has(EVENTS)
    }

    /// Tracks a packet whose connection `x.hint` is, and says whether that moved the connection, which an earlier
    /// pass may have done. `None` if it takes the shard.
    #[inline(always)]
    pub(crate) fn enter(&self, x: &Passage<'_>, out: &mut CtInfo) -> Option<bool> {
        let (slot, conn) = x.hint.filter(|_| !matches!(x.p.body, Body::Error))?;
        let _hold = hold(conn)?;
        let dir = conn.dir(x.p.swapped, Via::Orig);
        if !conn.has_key(&x.p.key) || !fits(conn, x.now, x.req, dir) {
            return None;
        }
        let id = conn.id(self.number, slot);
        let prior = x.prior.filter(|(prior, _)| *prior == id);
        let state = match prior {
            Some((_, state)) => state,
            None => self.advance(conn, x.now, dir, &x.p.body, x.p.len)?,
        };
        conn.answer(id, x, (dir, Via::Orig), state, &mut Then::Done, out);
        Some(prior.is_none())
    }

    /// [`Conntrack::track_known`] of a connection of this shard, but for what takes the shard: `None`, and nothing has
    /// changed.
    ///
    /// [`Conntrack::track_known`]: crate::Conntrack::track_known
    #[inline]
    pub fn track_known(
        &self,
        now: Instant,
        known: Known,
        sent: &Sent,
        req: &CtRequest,
        prior: Option<(ConnId, CtState)>,
    ) -> Option<Standing> {
        let Known { conn: id, dir, .. } = known;
        let conn = self.places.get(id.slot)?;
        let _hold = hold(conn)?;
        if conn.generation.get() != id.generation || !fits(conn, now, req, dir) {
            return None;
        }
        let state = match prior.filter(|(prior, _)| *prior == id) {
            Some((_, state)) => state,
            None => self.advance(conn, now, dir, &sent.body, sent.len)?,
        };
        Some(Standing { base: state, state, mark: conn.mark(), label: conn.label() })
    }

    /// Whether a connection of this shard is still there and more than a few last packets may come of it.
    pub fn is_lasting(&self, id: ConnId) -> bool {
        let lasts =
            |c: &Conn| !c.is_tcp() || c.peers().iter().any(|p| p.state < PeerState::Closing);
        self.places.same(id.slot, id.generation).is_some_and(lasts)
    }

    /// The verdict of a packet of a connection of this shard once it has been answered, as long as mark and label stay: if it
    /// is one like most, and the zone its own.
    pub fn foresee(&self, known: Known, zone: Zone) -> Option<CtInfo> {
        let Known { conn: id, dir, .. } = known;
        let conn = self.places.get(id.slot)?;
        let _hold = hold(conn)?;
        if conn.generation.get() != id.generation || conn.key().zone() != zone {
            return None;
        }
        Some(CtInfo {
            state: CtState::of_known(false, dir),
            zone,
            dir,
            mark: conn.mark(),
            label: conn.label(),
            orig: Some(conn.directed()),
            conn: Some(id),
            ..CtInfo::UNTRACKED
        })
    }

    /// Whether a connection of this shard is still there and waits for an answer.
    pub fn is_asking(&self, id: ConnId) -> bool {
        self.places.same(id.slot, id.generation).is_some_and(|c| !c.seen_reply())
    }

    /// Lends a connection of this shard to a program of the kernel, if packets of this direction that move nothing else
    /// can be tracked by it as they are here, and the connection lies where it sees it. Of TCP neither end has closed.
    pub fn lend(&self, known: Known) -> Option<Lent> {
        let Known { conn: id, dir, .. } = known;
        let conn = self.places.lent(id.slot)?;
        let _hold = hold(conn)?;
        if conn.generation.get() != id.generation || conn.policy.get() != 0 {
            return None;
        }
        use PeerState::{Closed, Established, SynSent};
        let handshake = match conn.peers().map(|p| p.state) {
            _ if !conn.is_tcp() => Handshake::Done,
            [Established, Established] => Handshake::Done,
            [SynSent, Closed] => Handshake::Asked,
            [SynSent | Established, SynSent | Established] => Handshake::Answered,
            _ => return None,
        };
        Some(Lent {
            address: core::ptr::from_ref(conn) as usize,
            generation: id.generation,
            dir,
            handshake,
            standing: Standing {
                base: CtState::of_known(false, dir),
                state: CtState::of_known(false, dir),
                mark: conn.mark(),
                label: conn.label(),
            },
        })
    }

    /// The state of a packet whose connection is held.
    #[inline(always)]
    fn advance(
        &self,
        conn: &Conn,
        now: Instant,
        dir: Dir,
        body: &Body,
        len: u32,
    ) -> Option<CtState> {
        let check = self.shared.rules.flags.has(TCP_SEQ_CHK);
        let timeout = |class| self.shared.rules.timeout(class);
        match conn.advance(now, (dir, Via::Orig), (body, len), check, None, timeout) {
            Fit::Part(still_new) => Some(CtState::of_known(still_new, dir)),
            _ => None,
        }
    }
}

/// How often one looks whether a connection that another packet holds is free again.
const TRIES: usize = 64;

#[inline(always)]
fn hold(conn: &Conn) -> Option<Hold<'_>> {
    if conn.is_closed() {
        return None;
    }
    conn.try_hold().or_else(|| hold_soon(conn))
}

#[cold]
fn hold_soon(conn: &Conn) -> Option<Hold<'_>> {
    for _ in 0..TRIES {
        if !conn.is_held() {
            break;
        }
        core::hint::spin_loop();
    }
    conn.try_hold()
}

/// Whether a packet may move a connection that is held without its shard.
#[inline(always)]
fn fits(conn: &Conn, now: Instant, req: &CtRequest, dir: Dir) -> bool {
    let forced = req.commit && req.force && dir == Dir::Reply;
    let labelled = req.commit && conn.is_labelled_by(req);
    !(conn.expired(now) || conn.policy.get() != 0 || forced || labelled)
}
