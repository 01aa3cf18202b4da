//! The connection cache: a packet of a connection that a worker has seen costs one search.
//!
//! OVS looks such a packet up once for each pass: exact match or megaflow, connection, megaflow again. Here
//! an entry, found by the exact words of the packet's headers ([`head`]), has the connections that the
//! packet is of and the composed actions of all its passes ([`path`]). The connections' state moves as ever
//! ([`conntrack::Conntrack::track_known`]), and the flows of all passes are counted, so nothing that can be seen
//! from outside depends on whether a packet was served from here.
//!
//! An entry is believed only while all its flows are alive and of the slow path's generation, its
//! connections live, and each verdict is, in the bits that the flows behind it looked at, the one that was
//! recorded. Any other packet goes the long way, with the verdicts that it already has.
//!
//! Entries belong to one worker. What is plain enough to be served says [`head`]; what makes no
//! path, [`path`].

mod foresee;
mod head;
mod path;
mod serve;
mod table;

use arrayvec::ArrayVec;
use base::{HashKey, hash_words};
use conntrack::{Sent, Translation};
use hashbrown::HashTable;
use netdev::BATCH;
use std::sync::Arc;

use crate::cache::Local;
use foresee::Foreseen;
pub(crate) use head::Head;
use path::{Conns, MAX_FLOWS, compose};
pub(crate) use path::{Errand, Path, Replay, Trail};
use table::{Entry, PathRef, Sight, TableV4, TableV6};

/// A path with its place.
#[derive(Debug)]
struct PathSlot {
    path: Option<Arc<Path>>,
    /// Which path of those that had this place.
    stamp: u32,
    /// The batch in which it was last seen whether the path is right, and what was seen.
    seen: (u64, bool),
}

/// Which way a packet of the batch goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Way {
    Long,
    /// The long way, to be remembered.
    Noted,
    /// By its entry, which has so many connections.
    Short(u8),
}

/// How a packet with an entry fared in the tracker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// As its path expects.
    Fits,
    /// And it is to be translated.
    Translated,
    Differs,
}

/// A worker's connection cache.
#[derive(Debug)]
pub(crate) struct ConnCache {
    secret: HashKey,
    v4: TableV4,
    v6: TableV6,
    paths: Vec<PathSlot>,
    free: Vec<u32>,
    by_flows: HashTable<u32>,
    batch: u64,
    // Of the batch: what was read of each packet.
    heads: Box<[Head; BATCH]>,
    sent: Box<[Sent; BATCH]>,
    ways: [Way; BATCH],
    entries: [Entry; BATCH],
    fates: [Fate; BATCH],
    /// Slot, step and translation.
    nats: Vec<(usize, usize, Translation)>,
    /// Slot, and the verdicts that the packet had before one differed.
    replays: Vec<(usize, Replay)>,
    /// Not there while it is in use.
    foreseen: Option<Box<Foreseen>>,
}

impl ConnCache {
    /// A cache that may have so many entries, if that is more than none.
    pub fn of(secret: HashKey, max_entries: usize) -> Option<Box<ConnCache>> {
        (max_entries > 0).then(|| Box::new(ConnCache::new(secret, max_entries)))
    }

    /// An empty cache that may have so many entries of each IP version.
    fn new(secret: HashKey, max_entries: usize) -> ConnCache {
        ConnCache {
            secret,
            v4: TableV4::new(max_entries),
            v6: TableV6::new(max_entries),
            paths: Vec::new(),
            free: Vec::new(),
            by_flows: HashTable::new(),
            batch: 0,
            heads: Box::new([Head::NOTHING; BATCH]),
            sent: Box::new([Sent::NOTHING; BATCH]),
            ways: [Way::Long; BATCH],
            entries: [Entry::NOTHING; BATCH],
            fates: [Fate::Fits; BATCH],
            nats: Vec::new(),
            replays: Vec::new(),
            foreseen: Some(Box::default()),
        }
    }

    /// Lets go of paths with dead flows.
    pub fn sweep(&mut self) {
        for at in 0..self.paths.len() {
            if self.paths[at].path.as_ref().is_some_and(|p| p.is_dead()) {
                self.drop_path(at);
            }
        }
    }

    fn drop_path(&mut self, at: usize) {
        let slot = &mut self.paths[at];
        let Some(path) = slot.path.take() else { return };
        slot.stamp = slot.stamp.wrapping_add(1).max(1);
        let hash = path_hash(self.secret, &path);
        if let Ok(entry) = self.by_flows.find_entry(hash, |&i| i as usize == at) {
            entry.remove();
        }
        self.free.push(at as u32);
    }

    /// What is known of the packet in a slot.
    #[inline]
    fn sight(&mut self, slot: usize) -> Sight {
        let head = &self.heads[slot];
        let varies = |p| path_at(&self.paths, p).map(|p| p.varies);
        match head.is_v6() {
            false => self.v4.find(head, varies),
            true => self.v6.find(head, varies),
        }
    }

    /// The path of an entry, if its flows are right.
    #[inline]
    fn path(&mut self, at: PathRef, generation: u64) -> Option<&Arc<Path>> {
        let slot = self.paths.get_mut(at.at as usize).filter(|s| s.stamp == at.stamp)?;
        let path = slot.path.as_ref()?;
        if slot.seen.0 != self.batch {
            slot.seen = (self.batch, !path.never && path.is_right(generation));
        }
        slot.seen.1.then_some(path)
    }

    /// Remembers what a packet met on the long way, if it is worth it.
    fn learn(&mut self, trail: &mut Trail) {
        if let Some((path, conns)) = self.path_of(trail) {
            self.remember(&trail.head, path, &conns);
        }
        trail.end();
    }

    /// The path that a trail comes to, if any, and the connections on it.
    fn path_of(&mut self, trail: &Trail) -> Option<(PathRef, Conns)> {
        if trail.is_fleeting() {
            return None;
        }
        let hash = flows_hash(self.secret, trail.flows());
        let mut conns = None;
        let paths = &self.paths;
        let found = self.by_flows.find(hash, |&at| {
            conns = paths[at as usize].path.as_ref().and_then(|p| p.conns_of(trail));
            conns.is_some()
        });
        if let (Some(&at), Some(conns)) = (found, conns) {
            return Some((PathRef { at, stamp: paths[at as usize].stamp }, conns));
        }
        let (path, conns) = compose(trail)?;
        Some((self.add(hash, path), conns))
    }

    fn remember(&mut self, head: &Head, path: PathRef, conns: &Conns) {
        let mut entry = Entry { path, ..Entry::NOTHING };
        entry.conns[..conns.len()].copy_from_slice(conns);
        let varies = |p| path_at(&self.paths, p).map(|p| p.varies);
        match head.is_v6() {
            false => self.v4.insert(head, &entry, varies),
            true => self.v6.insert(head, &entry, varies),
        }
    }

    /// A place for a path; `hash` is that of its flows.
    fn add(&mut self, hash: u64, path: Path) -> PathRef {
        let (secret, paths) = (self.secret, &mut self.paths);
        let path = Some(Arc::new(path));
        let at = match self.free.pop() {
            Some(at) => {
                let slot = &mut paths[at as usize];
                (slot.path, slot.seen) = (path, (0, false));
                at
            }
            None => {
                paths.push(PathSlot { path, stamp: 1, seen: (0, false) });
                paths.len() as u32 - 1
            }
        };
        let rehash =
            |&at: &u32| paths[at as usize].path.as_ref().map_or(0, |p| path_hash(secret, p));
        self.by_flows.insert_unique(hash, at, rehash);
        PathRef { at, stamp: paths[at as usize].stamp }
    }
}

/// The path that has a place, if it is still this one.
#[inline]
fn path_at(paths: &[PathSlot], at: PathRef) -> Option<&Arc<Path>> {
    paths.get(at.at as usize).filter(|s| s.stamp == at.stamp)?.path.as_ref()
}

fn flows_hash<'a>(secret: HashKey, flows: impl IntoIterator<Item = &'a Arc<Local>>) -> u64 {
    let flows = flows.into_iter();
    let words: ArrayVec<u64, MAX_FLOWS> = flows.map(|f| Arc::as_ptr(f) as u64).collect();
    hash_words(secret, &words)
}

fn path_hash(secret: HashKey, path: &Path) -> u64 {
    flows_hash(secret, path.flows.iter().map(|f| &f.local))
}
