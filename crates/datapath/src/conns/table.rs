//! The connections that a worker knows, by the words of their packets.
//!
//! A set has two places, and a packet two sets; it is taken into the second only if the first is full. An
//! entry begins on a cache line and holds the key, which path its packets take,
//! and up to two connections. The table begins small and is replaced by an empty one several times as large
//! when entries in use had to go.
//!
//! What comes leaves only a mark, until it comes for the third time while the mark is there: then it is taken in.
//! So a scan pushes nobody out, and of a TCP connection that is closed as soon as it stands, which has two plain
//! packets, nothing is learned.

use conntrack::ConnId;

use super::head::{HARD, Head, V4_WORDS, V6_WORDS};

/// Words behind the key: path, two connections, and their shards.
const META: usize = 4;
/// Words of a cache line.
const LINE: usize = 8;
/// Sets of a new table.
const FIRST_SETS: usize = 1 << 7;

/// How much larger a table gets at a time.
const GROWTH: usize = 8;

/// Of so many entries that would push out another one, when the table can't grow, one does.
const REPLACE_ONE_OF: usize = 16;

/// Connections that an entry has.
pub(crate) const MAX_CONNS: usize = 2;

/// Which path, and which of those that had its place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRef {
    pub at: u32,
    /// Not zero.
    pub stamp: u32,
}

/// What is known of a packet.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry {
    pub path: PathRef,
    pub conns: [ConnId; MAX_CONNS],
}

impl Entry {
    pub const NOTHING: Entry = {
        let nobody = ConnId::from_parts(0, 0);
        Entry { path: PathRef { at: 0, stamp: 0 }, conns: [nobody; MAX_CONNS] }
    };
}

/// What a search found.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Sight {
    Known(Entry),
    /// It has been seen lately, often enough to be taken in.
    Again,
    New,
}

/// Entries whose keys have `K` words, in `E` words each.
#[derive(Debug)]
pub(crate) struct Table<const K: usize, const E: usize> {
    words: Vec<u64>,
    /// Where the first cache line begins.
    start: usize,
    n_sets: usize,
    max_sets: usize,
    /// Entries that were in use and had to go, since the table has its size.
    evicted: usize,
    /// Entries that had no place.
    refused: usize,
    dice: u64,
    /// What packets without an entry have left: six bits of their hash, and how often they came.
    marks: Vec<u8>,
}

/// The bits of a mark that count.
const TIMES: u8 = 3;
/// Packets that come before the one that is taken in.
const SEEN_BEFORE: u8 = 2;

pub(crate) type TableV4 = Table<V4_WORDS, { V4_WORDS + META }>;
pub(crate) type TableV6 = Table<V6_WORDS, { V6_WORDS + META + 4 }>;

impl<const K: usize, const E: usize> Table<K, E> {
    /// An empty table that may have so many entries.
    pub fn new(max_entries: usize) -> Self {
        let max_sets = (max_entries / 2).next_power_of_two();
        // Memory that nobody has touched is none.
        let marks = vec![0; max_sets * 2];
        let (words, start, n_sets) = (Vec::new(), 0, 0);
        let mut t =
            Table { words, start, n_sets, max_sets, evicted: 0, refused: 0, dice: 1, marks };
        t.clear(FIRST_SETS.min(max_sets));
        t
    }

    /// Becomes an empty table of so many sets.
    fn clear(&mut self, n_sets: usize) {
        // From the system as zeros, so nobody waits for a large one.
        self.words = vec![0; n_sets * 2 * E + LINE];
        netdev::memory::prefer_huge_pages(&self.words);
        self.start = self.words.as_ptr().align_offset(LINE * size_of::<u64>()).min(LINE);
        (self.n_sets, self.evicted) = (n_sets, 0);
    }

    /// The places of a packet.
    #[inline]
    fn places(&self, hash: u64) -> [usize; 4] {
        let set = |h: u64| self.start + (h as usize & (self.n_sets - 1)) * 2 * E;
        let (a, b) = (set(hash), set(hash >> 32));
        [a, a + E, b, b + E]
    }

    /// Asks for the first set of a packet, and its mark.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let [at, ..] = self.places(hash);
        base::prefetch(&self.words[at]);
        base::prefetch(&self.words[at + E]);
        base::prefetch(&self.marks[self.mark_at(hash)]);
    }

    /// Where the mark of a packet is.
    #[inline]
    fn mark_at(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.marks.len() - 1)
    }

    /// Looks for a packet. `varies` gives the bits of the third word, and of the last, that the
    /// path looks at besides those that all do; `None` if there is no such path any more.
    #[inline]
    pub fn find(&mut self, head: &Head, varies: impl Fn(PathRef) -> Option<(u64, u64)>) -> Sight {
        for at in self.places(head.hash) {
            let Some(e) = self.words.get(at..at + E).and_then(|e| e.first_chunk::<E>()) else {
                break;
            };
            let Some(path) = path_of::<K, E>(e) else { continue };
            if hard::<K, E>(e, head) != 0
                || varies(path).is_none_or(|bits| soft::<K, E>(e, head, bits) != 0)
            {
                continue;
            }
            let shards = e[K + 3];
            let conns = [
                ConnId::from_parts(e[K + 1], shards as u16),
                ConnId::from_parts(e[K + 2], (shards >> 16) as u16),
            ];
            return Sight::Known(Entry { path, conns });
        }
        let at = self.mark_at(head.hash);
        let (mark, place) = ((head.hash >> 56) as u8 & !TIMES, &mut self.marks[at]);
        if *place & TIMES == 0 {
            *place = mark | 1;
        } else if *place & !TIMES != mark {
            // Of those that come in turn to one place, one is to find its mark in the end.
            self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *place -= (self.dice >> 63) as u8;
        } else if *place & TIMES == SEEN_BEFORE {
            *place = 0;
            return Sight::Again;
        } else {
            *place += 1;
        }
        Sight::New
    }

    /// Takes a packet in; `varies` is as in [`Table::find`]. What was known of it is replaced.
    pub fn insert(
        &mut self,
        head: &Head,
        entry: &Entry,
        varies: impl Fn(PathRef) -> Option<(u64, u64)>,
    ) {
        let mut free = None;
        let mut same = None;
        let places = self.places(head.hash);
        for at in places {
            let Some(e) = self.words.get(at..at + E).and_then(|e| e.first_chunk::<E>()) else {
                break;
            };
            match path_of::<K, E>(e).and_then(&varies) {
                None => free = free.or(Some(at)),
                Some(bits) if hard::<K, E>(e, head) | soft::<K, E>(e, head, bits) == 0 => {
                    same = Some(at);
                    break;
                }
                Some(_) => {}
            }
        }
        let place = match same.or(free) {
            Some(place) => place,
            None => {
                self.refused += 1;
                if self.n_sets == self.max_sets && !self.refused.is_multiple_of(REPLACE_ONE_OF) {
                    return;
                }
                self.evicted += 1;
                places[(head.hash >> 62) as usize]
            }
        };
        let e = &mut self.words[place..place + E];
        e[..K].copy_from_slice(&head.words[..K]);
        e[K] = u64::from(entry.path.stamp) << 32 | u64::from(entry.path.at);
        let [(a, shard_a), (b, shard_b)] = entry.conns.map(ConnId::to_parts);
        (e[K + 1], e[K + 2]) = (a, b);
        e[K + 3] = u64::from(shard_b) << 16 | u64::from(shard_a);
        // A larger table is empty at first: moving all at once would hold packets up.
        if self.evicted > self.n_sets / 8 && self.n_sets < self.max_sets {
            self.clear(self.max_sets.min(self.n_sets * GROWTH));
        }
    }
}

/// Which path an entry has, if it is one.
#[inline]
fn path_of<const K: usize, const E: usize>(e: &[u64; E]) -> Option<PathRef> {
    Some(PathRef { at: e[K] as u32, stamp: (e[K] >> 32) as u32 }).filter(|p| p.stamp != 0)
}

/// Bits that differ of those that always count.
#[inline]
fn hard<const K: usize, const E: usize>(e: &[u64; E], head: &Head) -> u64 {
    let w = &head.words;
    let first = e[0] ^ w[0] | e[1] ^ w[1] | (e[2] ^ w[2]) & HARD;
    (3..K.min(7)).fold(first, |d, i| d | (e[i] ^ w[i]))
}

/// Bits that differ of those that count for a path.
#[inline]
fn soft<const K: usize, const E: usize>(
    e: &[u64; E],
    head: &Head,
    (third, last): (u64, u64),
) -> u64 {
    let label = if K == V6_WORDS { (e[7] ^ head.words[7]) & last } else { 0 };
    (e[2] ^ head.words[2]) & third | label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conns::head::TTL_SHIFT;
    use base::HashKey;

    const PATH: PathRef = PathRef { at: 7, stamp: 1 };

    fn entry(n: u32) -> Entry {
        Entry { path: PATH, conns: [ConnId::from_parts(n.into(), 3), ConnId::from_parts(9, 4)] }
    }

    fn head(n: u32, ttl: u64) -> Head {
        let secret = HashKey([5, 6]);
        let mut h = Head::NOTHING;
        h.words[2] = 80 << 32 | ttl << TTL_SHIFT;
        h.words[3] = n.into();
        h.hash = secret.finish(secret.mix(secret.start(1), n.into()));
        h
    }

    /// Nothing but the hard words counts.
    fn any(path: PathRef) -> Option<(u64, u64)> {
        (path == PATH).then_some((0, 0))
    }

    /// One packet of each of `n` flows; how many were known.
    fn round(t: &mut TableV4, n: u32) -> u32 {
        let mut known = 0;
        for i in 0..n {
            match t.find(&head(i, 64), any) {
                Sight::Known(e) => {
                    assert_eq!(e.conns, entry(i).conns);
                    known += 1;
                }
                Sight::Again => t.insert(&head(i, 64), &entry(i), any),
                Sight::New => {}
            }
        }
        known
    }

    #[test]
    fn a_table_grows_until_what_is_in_use_fits() {
        let mut t = TableV4::new(1 << 16);
        let known: Vec<u32> = (0..40).map(|_| round(&mut t, 20_000)).collect();
        assert!(
            known[..3].iter().all(|n| *n < 20),
            "what comes the third time is not known yet: {known:?}"
        );
        assert!(known[39] > 19_000, "{known:?}");
        let mut small = TableV4::new(1 << 10);
        let few = (0..200).map(|_| round(&mut small, 5_000)).last().unwrap();
        assert!(few > 500, "entries live long enough to be of use: {few}");
    }

    #[test]
    fn what_a_path_looks_at_counts() {
        let mut t = TableV4::new(1 << 10);
        let ttl = |_| Some((0xff << TTL_SHIFT, 0));
        t.insert(&head(1, 64), &entry(1), ttl);
        assert!(matches!(t.find(&head(1, 64), ttl), Sight::Known(_)));
        assert!(matches!(t.find(&head(1, 63), any), Sight::Known(_)));
        assert!(!matches!(t.find(&head(1, 63), ttl), Sight::Known(_)));
        assert!(!matches!(t.find(&head(2, 64), ttl), Sight::Known(_)));
        // Its place is taken again once its path is gone.
        assert!(!matches!(t.find(&head(1, 64), |_| None), Sight::Known(_)));
    }

    #[test]
    fn a_scan_pushes_nobody_out() {
        let mut t = TableV4::new(1 << 10);
        let before = (0..20).map(|_| round(&mut t, 300)).last().unwrap();
        for i in 1_000..20_000 {
            if let Sight::Again = t.find(&head(i, 64), any) {
                t.insert(&head(i, 64), &entry(i), any);
            }
        }
        let after = round(&mut t, 300);
        assert!(before > 290 && after > 280, "{before} {after}");
    }
}
