//! Packets whose connection the caller has found before.
//!
//! A cache in front of the tracker remembers which connection the packets of a tuple are of. It saves the
//! search, and nothing else: the packet is read and judged, moves the state machine and is counted as
//! ever. What this path has no answer for changes nothing, and the caller takes the long way
//! ([`crate::process`]).

use crate::conn::{Fit, Via};
use crate::nat::Translation;
use crate::parse::{Body, PacketView, read_known};
use crate::tracker::Moved;
use crate::{ConnId, Conntrack, CtRequest, CtState, Dir};
use base::Instant;

/// What the state machines need of a packet of TCP, UDP or ICMP queries.
#[derive(Copy, Clone, Debug)]
pub struct Sent {
    pub(crate) body: Body,
    /// Bytes of the IP packet, header included.
    pub(crate) len: u32,
}

impl Sent {
    /// Of no packet; a place to be written.
    pub const NOTHING: Sent = Sent { body: Body::Other, len: 0 };

    /// Reads a whole packet of TCP, UDP or ICMP queries. `None` for any other, and for one that would be invalid.
    #[inline]
    pub fn read(view: &PacketView<'_>) -> Option<Sent> {
        let (body, len) = read_known(view)?;
        Some(Sent { body, len })
    }
}

/// A connection and the direction of the packets in question.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The connection.
    pub conn: ConnId,
    /// Which way the packet goes.
    pub dir: Dir,
    /// The packet has the tuple that its sender gave it, and is to be translated.
    pub translated: bool,
}

/// The verdict of a packet of a known connection: what may differ from that of an earlier one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `ct_state` before translation added to it: the state to go on with as
    /// [`CtRequest::prior`], should the packet have to go the long way after all.
    pub base: CtState,
    /// `ct_state`.
    pub state: CtState,
    /// `ct_mark`.
    pub mark: u32,
    /// `ct_label`.
    pub label: u128,
}

impl Conntrack {
    /// Runs a packet of a known connection through the tracker. `prior` is as in [`CtRequest::prior`];
    /// that of `req` does not count. `nat` becomes what to change in the packet.
    ///
    /// `None` if the connection is gone or its time has run out, if a helper reads its packets, or if the
    /// packet would be invalid or open another connection: nothing has changed then.
    #[inline]
    pub fn track_known(
        &mut self,
        now: Instant,
        known: Known,
        sent: &Sent,
        req: &CtRequest,
        prior: Option<(ConnId, CtState)>,
        nat: &mut Option<Translation>,
    ) -> Option<Standing> {
        let Known { conn, dir, translated } = known;
        let c = self.conn(conn)?;
        let prior = prior.filter(|p| p.0 == conn);
        let forced = req.commit && req.force && dir == Dir::Reply;
        if c.expired(now) || c.has_alg() || forced {
            return None;
        }
        // As its sender made it, unless an earlier action has translated it.
        let via = match (c.is_translated(), dir) {
            (true, _) if !translated && prior.is_none() => return None,
            (true, Dir::Reply) => Via::Reply,
            _ => Via::Orig,
        };
        let hold = c.hold(self.pause);
        let mut moved = Moved::default();
        let base = match prior {
            Some((_, state)) => state,
            None => {
                let fit;
                (fit, moved) = self.advance(now, c, (dir, via), &sent.body, sent.len);
                let Fit::Part(still_new) = fit else { return None };
                CtState::of_known(still_new, dir)
            }
        };
        let mut state = base;
        *nat = c.translation((dir, via), req, false, &mut state);
        let labelled = req.commit && c.label_by(req);
        moved.changed |= labelled && self.events.enabled();
        let standing = Standing { base, state, mark: c.mark(), label: c.label() };
        drop(hold);
        self.note(now, conn.slot, moved);
        Some(standing)
    }
}
