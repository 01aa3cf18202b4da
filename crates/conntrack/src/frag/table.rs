//! The fragments that wait.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use base::Instant;

use super::{
    DatagramKey, FragConfig, FragCounters, FragHeader, MOST_PER_DATAGRAM, PURGE_AFTER, TIMEOUT,
};
use crate::InvalidReason;

/// The largest frame that a datagram may make.
const LARGEST_FRAME: usize = 65_535;

/// Datagrams whose time is over that one offer lets go: more than one, so that they never pile up.
const LET_GO: usize = 2;

/// A fragment of a datagram, and what its caller keeps of it.
#[derive(Debug)]
pub struct Piece<T> {
    /// What it says of itself.
    pub header: FragHeader,
    /// Whose share of the room it uses.
    owner: u32,
    /// Bytes of its frame.
    bytes: usize,
    /// The caller's.
    pub item: T,
}

/// What became of a fragment that was offered.
#[derive(Debug)]
pub enum Offer<T> {
    /// It waits.
    Held,
    /// It is refused, and invalid for the tracker.
    Refused(InvalidReason),
    /// Its datagram is whole: all its fragments in the order of their offsets, this one among them.
    Complete(Vec<Piece<T>>),
}

/// How far a datagram has come (`dpctl/ipf-get-status -m`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FragState {
    /// Neither the first nor the last fragment is there.
    Other,
    /// The first is.
    First,
    /// The last is.
    Last,
    /// Both are, and something between them is not.
    FirstLast,
}

impl fmt::Display for FragState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FragState::Other => "other frag",
            FragState::First => "first frag",
            FragState::Last => "last frag",
            FragState::FirstLast => "first/last frag",
        })
    }
}

/// A datagram that waits for the rest of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FragSnapshot {
    /// Which one.
    pub key: DatagramKey,
    /// Fragments that are there.
    pub n_fragments: usize,
    /// How far it has come.
    pub state: FragState,
}

#[derive(Debug)]
struct Datagram<T> {
    /// Its number in the order in which they began.
    number: u64,
    /// Who began it.
    owner: u32,
    expires: Instant,
    /// By their offsets.
    pieces: Vec<Piece<T>>,
}

impl<T> Datagram<T> {
    /// The place for a fragment, or why it fits nowhere.
    fn place(&self, h: &FragHeader) -> Result<usize, InvalidReason> {
        if self.pieces.len() >= MOST_PER_DATAGRAM {
            return Err(InvalidReason::FragmentsFull);
        }
        let at =
            self.pieces.partition_point(|p| (p.header.start, p.header.end) <= (h.start, h.end));
        let (before, behind) = self.pieces.split_at(at);
        let overlaps = |p: &Piece<T>| p.header.start < h.end && h.start < p.header.end;
        if before.last().is_some_and(overlaps) || behind.first().is_some_and(overlaps) {
            return Err(InvalidReason::FragmentOverlap);
        }
        // A datagram has one end, and nothing lies behind it.
        let fits = match self.last() {
            Some(last) if h.last => last.end == h.end,
            Some(_) => !behind.is_empty(),
            None => !h.last || behind.is_empty(),
        };
        if !fits {
            return Err(InvalidReason::FragmentBounds);
        }
        let first = if h.is_first() { Some(h) } else { self.first() };
        let end = behind.last().map_or(h.end, |p| p.header.end);
        if first.is_some_and(|f| f.payload + end as usize > LARGEST_FRAME) {
            return Err(InvalidReason::FragmentBig);
        }
        Ok(at)
    }

    fn first(&self) -> Option<&FragHeader> {
        self.pieces.first().map(|p| &p.header).filter(|h| h.is_first())
    }

    fn last(&self) -> Option<&FragHeader> {
        self.pieces.last().map(|p| &p.header).filter(|h| h.last)
    }

    fn is_whole(&self) -> bool {
        let joins = |p: &[Piece<T>]| p[0].header.end == p[1].header.start;
        self.first().is_some() && self.last().is_some() && self.pieces.windows(2).all(joins)
    }

    fn state(&self) -> FragState {
        match (self.first().is_some(), self.last().is_some()) {
            (false, false) => FragState::Other,
            (true, false) => FragState::First,
            (false, true) => FragState::Last,
            (true, true) => FragState::FirstLast,
        }
    }
}

/// What an ingress port has waiting.
#[derive(Debug, Default)]
struct Owner {
    n: usize,
    bytes: usize,
    /// Datagrams that it began, by number.
    began: BTreeMap<u64, DatagramKey>,
}

/// Fragments that wait for the rest of their datagrams, each with a `T`.
#[derive(Debug)]
pub struct Reassembly<T> {
    config: FragConfig,
    waiting: BTreeMap<DatagramKey, Datagram<T>>,
    /// By number, so by the time when they began.
    by_age: BTreeMap<u64, DatagramKey>,
    owners: BTreeMap<u32, Owner>,
    n: usize,
    bytes: usize,
    next_number: u64,
    v4: FragCounters,
    v6: FragCounters,
}

/// Why datagrams are dropped.
#[derive(Copy, Clone)]
enum Cause {
    Expired,
    Purged,
    Evicted,
}

impl<T> Reassembly<T> {
    /// Nothing waits.
    pub fn new(config: FragConfig) -> Reassembly<T> {
        Reassembly {
            config,
            waiting: BTreeMap::new(),
            by_age: BTreeMap::new(),
            owners: BTreeMap::new(),
            n: 0,
            bytes: 0,
            next_number: 0,
            v4: FragCounters::default(),
            v6: FragCounters::default(),
        }
    }

    /// The settings.
    pub fn config(&self) -> &FragConfig {
        &self.config
    }

    /// Changes the settings. What waits goes on waiting.
    pub fn set_config(&mut self, config: FragConfig) {
        self.config = config;
    }

    /// Totals for IPv6 or for IPv4.
    pub fn counters(&self, v6: bool) -> &FragCounters {
        if v6 { &self.v6 } else { &self.v4 }
    }

    /// Fragments that wait.
    pub fn len(&self) -> usize {
        self.n
    }

    /// No fragment waits.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Bytes of the frames that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When [`Reassembly::expire`] has work next.
    pub fn next_timeout(&self) -> Option<Instant> {
        let (_, key) = self.by_age.first_key_value()?;
        self.waiting.get(key).map(|d| d.expires)
    }

    /// The datagrams that wait, as they lie in the tree.
    pub fn dump(&self) -> impl Iterator<Item = FragSnapshot> {
        self.waiting.iter().map(|(key, d)| FragSnapshot {
            key: *key,
            n_fragments: d.pieces.len(),
            state: d.state(),
        })
    }

    /// Takes a fragment of `bytes` bytes of frame that came in by `owner`. `hold` makes what waits; it is called unless the
    /// fragment is refused. Also how many fragments were dropped to make room or for their time being over, in this order.
    pub fn offer(
        &mut self,
        now: Instant,
        header: FragHeader,
        owner: u32,
        bytes: usize,
        hold: impl FnOnce() -> T,
    ) -> (Offer<T>, [usize; 2]) {
        let expired = self.expire(now, LET_GO);
        let mut evicted = 0;
        let offer = match self.admit(&header, owner, bytes, &mut evicted) {
            Err(reason) => {
                let c = self.counters_mut(header.key.is_ipv6());
                match reason {
                    InvalidReason::FragmentSmall => c.too_small += 1,
                    InvalidReason::FragmentOverlap => c.overlap += 1,
                    InvalidReason::FragmentBig => c.too_big += 1,
                    InvalidReason::FragmentsFull => c.full += 1,
                    InvalidReason::FragmentBounds => c.bounds += 1,
                    _ => {}
                }
                Offer::Refused(reason)
            }
            Ok(at) => self.hold(now, Piece { header, owner, bytes, item: hold() }, at),
        };
        (offer, [evicted, expired])
    }

    /// Where in its datagram a fragment goes, if it may wait at all.
    fn admit(
        &mut self,
        h: &FragHeader,
        owner: u32,
        bytes: usize,
        evicted: &mut usize,
    ) -> Result<usize, InvalidReason> {
        let rules = self.config.rules(h.key.is_ipv6());
        if !rules.enabled {
            return Err(InvalidReason::Fragment);
        }
        if !h.last && h.ip_len < rules.min_len {
            return Err(InvalidReason::FragmentSmall);
        }
        if h.payload + h.end as usize > LARGEST_FRAME {
            return Err(InvalidReason::FragmentBig);
        }
        if let Some(d) = self.waiting.get(&h.key) {
            d.place(h)?;
        }
        *evicted = self.make_room(owner, bytes)?;
        // Another place than before if the datagram itself had to go.
        self.waiting.get(&h.key).map_or(Ok(0), |d| d.place(h))
    }

    /// Makes room for one more fragment. How many had to go.
    fn make_room(&mut self, owner: u32, bytes: usize) -> Result<usize, InvalidReason> {
        let mut evicted = 0;
        loop {
            let too_many = self.n >= self.config.max_fragments as usize;
            if !too_many && self.bytes + bytes <= self.config.max_bytes {
                return Ok(evicted);
            }
            let share = |o: &Owner| if too_many { o.n } else { o.bytes };
            let mine = self.owners.get(&owner).map_or(0, share) + if too_many { 1 } else { bytes };
            let most =
                self.owners.values().filter(|o| !o.began.is_empty()).max_by_key(|o| share(o));
            let oldest = most.filter(|o| share(o) > mine).and_then(|o| o.began.first_key_value());
            let Some((_, &key)) = oldest else { return Err(InvalidReason::FragmentsFull) };
            evicted += self.drop_datagram(&key, Cause::Evicted);
        }
    }

    /// Puts a fragment in, and takes its datagram out if that makes it whole.
    fn hold(&mut self, now: Instant, piece: Piece<T>, at: usize) -> Offer<T> {
        let (key, owner) = (piece.header.key, piece.owner);
        self.counters_mut(key.is_ipv6()).accepted += 1;
        self.n += 1;
        self.bytes += piece.bytes;
        let share = self.owners.entry(owner).or_default();
        share.n += 1;
        share.bytes += piece.bytes;
        let datagram = self.waiting.entry(key).or_insert_with(|| {
            let number = self.next_number;
            self.next_number += 1;
            self.by_age.insert(number, key);
            share.began.insert(number, key);
            Datagram { number, owner, expires: now + TIMEOUT, pieces: Vec::new() }
        });
        datagram.pieces.insert(at, piece);
        if !datagram.is_whole() {
            return Offer::Held;
        }
        let pieces = self.take(&key);
        self.counters_mut(key.is_ipv6()).completed += pieces.len() as u64;
        Offer::Complete(pieces)
    }

    /// Takes a datagram out.
    fn take(&mut self, key: &DatagramKey) -> Vec<Piece<T>> {
        let Some(d) = self.waiting.remove(key) else { return Vec::new() };
        self.by_age.remove(&d.number);
        if let Some(o) = self.owners.get_mut(&d.owner) {
            o.began.remove(&d.number);
        }
        for p in &d.pieces {
            self.n -= 1;
            self.bytes -= p.bytes;
            if let Some(o) = self.owners.get_mut(&p.owner) {
                o.n -= 1;
                o.bytes -= p.bytes;
                if o.n == 0 && o.began.is_empty() {
                    self.owners.remove(&p.owner);
                }
            }
        }
        d.pieces
    }

    fn drop_datagram(&mut self, key: &DatagramKey, cause: Cause) -> usize {
        let n = self.take(key).len();
        let c = self.counters_mut(key.is_ipv6());
        match cause {
            Cause::Expired => c.expired += n as u64,
            Cause::Purged => c.purged += n as u64,
            Cause::Evicted => c.evicted += n as u64,
        }
        n
    }

    /// Lets go of at most `budget` datagrams whose time is over; how many fragments that were. To be called when packets come.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        (0..budget).map_while(|_| self.drop_oldest(now, Cause::Expired)).sum()
    }

    /// Lets go of all datagrams whose time has been over for long, because no packet came that would have let them
    /// expire; how many fragments that were. To be called every few seconds.
    pub fn purge(&mut self, now: Instant) -> usize {
        core::iter::from_fn(|| self.drop_oldest(now, Cause::Purged)).sum()
    }

    /// Drops the oldest datagram if its time is over.
    fn drop_oldest(&mut self, now: Instant, cause: Cause) -> Option<usize> {
        let expires = self.next_timeout()?;
        let due = match cause {
            Cause::Purged => now >= expires + PURGE_AFTER,
            Cause::Expired | Cause::Evicted => now > expires,
        };
        let (_, &key) = self.by_age.first_key_value().filter(|_| due)?;
        Some(self.drop_datagram(&key, cause))
    }

    fn counters_mut(&mut self, v6: bool) -> &mut FragCounters {
        if v6 { &mut self.v6 } else { &mut self.v4 }
    }
}
