//! Fragments at a `ct` action: they wait in a table that all workers share, and go on together.
//!
//! The fragments of a whole datagram get its verdict, each with its own metadata, and go the way of the one that came last: the
//! actions behind its `ct`. So a flow that treats first and later fragments differently before it tracks them
//! treats all as the last one to arrive, as OVS does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::Instant;
use conntrack::frag::{
    FragConfig, FragCounters, FragHeader, FragSnapshot, Offer, Reassembly, Whole,
};
use conntrack::{CtInfo, CtRequest, InvalidReason, Outcome, PacketView};
use dpif::DropReason;
use flow::PacketKey;
use packet::PacketBuf;
use packet::segment::finish_checksum;
use parking_lot::Mutex;

use crate::engine::{Engine, Meta};
use crate::{alg, ct, nat};

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) buf: PacketBuf,
    pub(crate) meta: Meta,
}

/// The table of fragments for all workers.
#[derive(Debug)]
pub struct FragTable {
    table: Mutex<Reassembly<Waiting>>,
    /// When the oldest datagram expires, in nanoseconds, so that nobody takes the lock to see that there is nothing to do.
    due: AtomicU64,
}

/// Never.
const IDLE: u64 = u64::MAX;

impl FragTable {
    pub(crate) fn new(config: FragConfig) -> FragTable {
        FragTable { table: Mutex::new(Reassembly::new(config)), due: AtomicU64::new(IDLE) }
    }

    /// Does something with the table, and notes when it has to be looked at again.
    fn with<R>(&self, f: impl FnOnce(&mut Reassembly<Waiting>) -> R) -> R {
        let mut table = self.table.lock();
        let out = f(&mut table);
        self.due.store(table.next_timeout().map_or(IDLE, Instant::as_nanos), Relaxed);
        out
    }

    /// Whether something may have expired.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.load(Relaxed) < now.as_nanos()
    }

    /// The settings.
    pub fn config(&self) -> FragConfig {
        *self.table.lock().config()
    }

    /// Changes the settings.
    pub fn set_config(&self, config: FragConfig) {
        self.with(|t| t.set_config(config));
    }

    /// Totals for IPv6 or for IPv4.
    pub fn counters(&self, v6: bool) -> FragCounters {
        *self.table.lock().counters(v6)
    }

    /// Fragments that wait.
    pub fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// No fragment waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The datagrams that wait.
    pub fn dump(&self) -> Vec<FragSnapshot> {
        self.table.lock().dump().collect()
    }

    /// Drops what has waited for long while no packet came; how many fragments.
    pub(crate) fn purge(&self, now: Instant) -> usize {
        if self.is_due(now) { self.with(|t| t.purge(now)) } else { 0 }
    }
}

/// What a `ct` action makes of a fragment.
pub(crate) enum Fate {
    /// It goes on alone, invalid.
    Refused(CtInfo),
    /// It waits, or is dropped with its datagram: what is left of it is the caller's to release.
    Gone,
    /// It goes on with all of its datagram, itself among them, each with its verdict. What is left of
    /// it is the caller's to release.
    Whole(Vec<Waiting>),
}

impl Engine {
    /// A fragment, whose key is up to date, at a `ct` action.
    #[cold]
    pub(crate) fn fragment(&mut self, slot: u16, request: &CtRequest) -> Fate {
        let s = usize::from(slot);
        let (buf, meta) = (&self.bufs[s], &self.meta[s]);
        let eth_type = meta.key.dl_type;
        let refuse = |reason| Fate::Refused(self.shared.ct.refuse(request.zone, reason));
        // No device cuts a fragment once more.
        if buf.offload.is_gso() {
            return refuse(InvalidReason::BadHeader);
        }
        let view = PacketView::of(buf, eth_type);
        let header = match FragHeader::parse(&view, request.zone, meta.key.recirc_id) {
            Ok(header) => header,
            Err(reason) => return refuse(reason),
        };
        let owner = meta.key.in_port;
        let hold = || {
            let mut copy = PacketBuf::with_capacity(buf.len());
            copy.copy_from(buf);
            Waiting { buf: copy, meta: meta.alone() }
        };
        let (offer, [evicted, expired]) =
            self.shared.fragments.with(|t| t.offer(self.now, header, owner, buf.len(), hold));
        self.drop_packets(DropReason::FragmentEvicted, evicted);
        self.drop_packets(DropReason::FragmentExpired, expired);
        let mut pieces = match offer {
            Offer::Held => return Fate::Gone,
            Offer::Refused(reason) => return refuse(reason),
            Offer::Complete(pieces) => pieces,
        };
        let prior = pieces.first().and_then(|p| p.item.meta.prior);
        let Some(mut whole) = Whole::join(&pieces, |w| &w.buf) else { return Fate::Gone };
        // A packet without an Ethernet header is read as one.
        let mut key = PacketKey { packet_type: meta.key.packet_type, ..PacketKey::ZERO };
        flow::extract(&mut whole.packet, &mut key);
        let request = CtRequest { prior, ..*request };
        let mut edit = None;
        let mut info =
            self.shared.ct.process(self.now, &whole.packet, eth_type, &request, &mut edit);
        if info.invalid == Some(InvalidReason::Fragment) {
            // A fragment within the fragments.
            info = self.shared.ct.refuse(request.zone, InvalidReason::Fragment);
        }
        if info.outcome == Outcome::NatExhausted {
            self.drop_packets(DropReason::NatExhausted, pieces.len());
            return Fate::Gone;
        }
        let unfinished = whole.packet.offload.needs_csum;
        let resizes = edit.and_then(|e| e.text).is_some_and(|t| usize::from(t.len) != t.text.len());
        if resizes {
            // The fragments keep their sizes, and none of them is dropped without a word.
            info = self.shared.ct.refuse(request.zone, InvalidReason::AlgSplit);
        } else if let Some(edit) = &edit {
            alg::edit(&mut whole.packet, &key, edit);
        }
        if let Some(translation) = &info.nat {
            nat::translate(&mut whole.packet, &mut key, translation);
        }
        // What is left to a device to sum is more than it will see in one piece.
        let summed = unfinished && finish_checksum(&mut whole.packet).is_ok();
        for p in &mut pieces {
            let Waiting { buf, meta } = &mut p.item;
            if summed || info.nat.is_some() {
                whole.share(&p.header, buf);
                meta.stale = true;
            }
            if summed && p.header.is_first() {
                buf.offload.needs_csum = false;
            }
            ct::store(&mut meta.key, &info);
            meta.prior = info.conn.map(|c| (c, info.state));
        }
        Fate::Whole(pieces.into_iter().map(|p| p.item).collect())
    }

    /// Lets fragments go whose time is over.
    pub(crate) fn expire_fragments_if_due(&mut self) {
        if self.shared.fragments.is_due(self.now) {
            self.expire_fragments();
        }
    }

    #[cold]
    fn expire_fragments(&mut self) {
        let n = self.shared.fragments.with(|t| t.expire(self.now, 1));
        self.drop_packets(DropReason::FragmentExpired, n);
    }
}
