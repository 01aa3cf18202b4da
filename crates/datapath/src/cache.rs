//! A worker's two caches: exact match, and megaflows by tuple space search.
//!
//! The exact cache maps a hash of what identifies a connection to the megaflow that answered
//! last time. A hit is believed only if the megaflow matches the packet's whole key, so a
//! collision costs time and never correctness. It is small, keyed, and overwritten without
//! ceremony.
//!
//! The tuple space has one hash table per mask ("subtable"), searched in the order of their use. Each
//! port has a space of its own, for all flows match the port: what comes from one port does not
//! make look-ups for another any longer. [`crate::masks`] keeps subtables few.
//!
//! Everything here belongs to one worker; [`Local`] is its own handle of a shared megaflow, so
//! that counting references does not bounce between workers.

use std::mem::offset_of;
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::{HashKey, hash_words};
use dpif::{DpAction, Megaflow};
use flow::PacketKey;
use hashbrown::HashTable;
use packet::header::ethertype;

/// Entries of the exact cache, a power of two.
const EXACT_ENTRIES: usize = 8192;

/// Of so many flows that would push another one out of the exact cache, one does: with more
/// connections than entries, entries live long enough to be of use.
const REPLACE_ONE_OF: u32 = 16;

/// Look-ups in a port's subtables between two sortings of them.
const SORT_EVERY: u32 = 1 << 12;

/// Ports up to this number find their space by it.
const MAX_NUMBERED: u32 = 0xffff;

/// A worker's handle of a megaflow.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) flow: Arc<Megaflow>,
    pub(crate) actions: Arc<[DpAction]>,
    /// The words that count: index in the key, mask, value. Here, so that a look-up touches no
    /// further memory; the few that do not fit are in `rest`.
    words: ArrayVec<(u8, u64, u64), 8>,
    rest: Box<[(u8, u64, u64)]>,
}

impl Local {
    pub(crate) fn new(flow: Arc<Megaflow>) -> Arc<Local> {
        let actions = Arc::clone(&flow.actions);
        let words = flow.significant_words();
        let (words, rest) = words.split_at(words.len().min(8));
        let (words, rest) = (words.iter().copied().collect(), rest.into());
        Arc::new(Local { flow, actions, words, rest })
    }

    #[inline]
    fn matches(&self, key: &PacketKey) -> bool {
        let k = key.words();
        let agrees = |&(i, mask, value): &(u8, u64, u64)| k[usize::from(i)] & mask == value;
        self.words.iter().all(agrees) && self.rest.iter().all(agrees)
    }
}

macro_rules! word {
    ($field:ident) => {
        offset_of!(PacketKey, $field) / 8
    };
}

/// Hash of what tells connections apart: port, pass, conntrack's verdict and the five-tuple, or
/// the Ethernet addresses for what is not IP. TTL, TOS and TCP flags are left out on purpose:
/// they change within a connection.
#[inline]
pub(crate) fn connection_hash(secret: HashKey, key: &PacketKey) -> u64 {
    let w = key.words();
    let pass = w[word!(dp_hash)] ^ key.tunnel.tun_id.rotate_left(17);
    let a = secret.mix(secret.start(0), pass);
    let a = secret.mix(a, w[word!(in_port)]);
    let a = secret.mix(a, w[word!(ct_state)] ^ w[word!(vlans)].rotate_left(23));
    let b = secret.start(1);
    let b = match key.dl_type {
        ethertype::IPV4 => secret.mix(b, w[word!(nw_src)]),
        ethertype::IPV6 => {
            let at = word!(ipv6_src);
            (0..4).fold(b, |b, i| secret.mix(b, w[at + i]))
        }
        _ => {
            let at = word!(dl_dst);
            let l2 = secret.mix(secret.mix(b, w[at]), w[at + 1]);
            secret.mix(l2, w[word!(nw_src)])
        }
    };
    let b = secret.mix(b, w[word!(tp_src)] ^ u64::from(key.nw_proto) << 8);
    secret.finish(secret.mix(a, b))
}

#[derive(Debug)]
struct ExactEntry {
    hash: u64,
    local: Option<Arc<Local>>,
}

/// One mask and the flows that have it.
#[derive(Debug)]
struct Subtable {
    mask: PacketKey,
    /// Of the mask.
    hash: u64,
    /// What its flows are hashed by besides [`common_hash`].
    words: Box<[(u8, u64)]>,
    flows: HashTable<Arc<Local>>,
    hits: u32,
}

impl Subtable {
    #[inline]
    fn hash(&self, secret: HashKey, common: u64, key: &PacketKey) -> u64 {
        masked_hash(secret, common, &self.words, key)
    }
}

/// Hash of what all flows match, for one look-up to compute once.
#[inline]
fn common_hash(secret: HashKey, key: &PacketKey) -> u64 {
    let in_port = u64::from(key.in_port) << 32 | u64::from(key.recirc_id);
    let kind = u64::from(key.packet_type) << 32 | u64::from(key.dl_type);
    secret.mix(secret.mix(secret.start(2), in_port), kind)
}

/// Hash of the masked words, on top of [`common_hash`].
#[inline]
fn masked_hash(secret: HashKey, common: u64, words: &[(u8, u64)], key: &PacketKey) -> u64 {
    let k = key.words();
    secret.finish(words.iter().fold(common, |h, &(i, m)| secret.mix(h, k[usize::from(i)] & m)))
}

/// The words of a mask, but those that have nothing but what [`common_hash`] has.
fn own_words(mask: &PacketKey) -> Box<[(u8, u64)]> {
    let common =
        PacketKey { in_port: !0, recirc_id: !0, packet_type: !0, dl_type: !0, ..PacketKey::ZERO };
    (0..)
        .zip(mask.words().iter().zip(common.words()))
        .filter(|(_, (bits, common))| *bits & !*common != 0)
        .map(|(at, (bits, _))| (at, *bits))
        .collect()
}

/// The megaflows of one port.
#[derive(Debug, Default)]
struct Space {
    subtables: Vec<Subtable>,
    since_sort: u32,
}

impl Space {
    #[inline]
    fn look_up(&mut self, secret: HashKey, key: &PacketKey) -> Option<(&Arc<Local>, u32)> {
        self.since_sort += 1;
        if self.since_sort >= SORT_EVERY {
            self.since_sort = 0;
            self.subtables.sort_by_key(|s| std::cmp::Reverse(s.hits));
            self.subtables.iter_mut().for_each(|s| s.hits /= 2);
        }
        let common = common_hash(secret, key);
        for (n, sub) in (1..).zip(&mut self.subtables) {
            let h = sub.hash(secret, common, key);
            let Some(local) = sub.flows.find(h, |l| l.matches(key)) else { continue };
            if local.flow.is_dead() {
                continue;
            }
            sub.hits = sub.hits.saturating_add(1);
            return Some((local, n));
        }
        None
    }

    fn find(&self, hash: u64, mask: &PacketKey) -> Option<usize> {
        self.subtables.iter().position(|s| s.hash == hash && s.mask == *mask)
    }
}

/// Which cache answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Exact,
    /// After a search of so many subtables.
    Megaflow(u32),
}

/// A worker's caches.
#[derive(Debug)]
pub(crate) struct Caches {
    secret: HashKey,
    exact: Box<[ExactEntry]>,
    /// By port, for what comes from none the last.
    spaces: Vec<Space>,
    /// Look-ups that the exact cache did not answer.
    n_slow: u32,
    exact_enabled: bool,
}

impl Caches {
    pub(crate) fn new(secret: HashKey, exact_enabled: bool) -> Caches {
        let n = if exact_enabled { EXACT_ENTRIES } else { 1 };
        Caches {
            secret,
            exact: (0..n).map(|_| ExactEntry { hash: 0, local: None }).collect(),
            spaces: Vec::new(),
            n_slow: 0,
            exact_enabled,
        }
    }

    pub(crate) fn secret(&self) -> HashKey {
        self.secret
    }

    /// The flow for a key whose [`connection_hash`] is `hash`. It may be of an old generation.
    #[inline]
    pub(crate) fn look_up(&mut self, hash: u64, key: &PacketKey) -> Option<(&Arc<Local>, Hit)> {
        let at = hash as usize & (self.exact.len() - 1);
        let e = &self.exact[at];
        let known = e.hash == hash && e.local.as_ref().is_some_and(|l| l.matches(key));
        if known && !self.exact[at].local.as_ref().is_some_and(|l| l.flow.is_dead()) {
            return self.exact[at].local.as_ref().map(|l| (l, Hit::Exact));
        }
        self.look_up_megaflow(hash, key)
    }

    /// Asks for where [`Caches::look_up`] begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        base::prefetch(&self.exact[hash as usize & (self.exact.len() - 1)]);
    }

    fn look_up_megaflow(&mut self, hash: u64, key: &PacketKey) -> Option<(&Arc<Local>, Hit)> {
        self.n_slow = self.n_slow.wrapping_add(1);
        let space = self.spaces.get_mut(place(key.in_port))?;
        let (local, n) = space.look_up(self.secret, key)?;
        if self.exact_enabled {
            let at = hash as usize & (self.exact.len() - 1);
            let e = &mut self.exact[at];
            let free = e.hash == hash || e.local.is_none();
            if free || self.n_slow.is_multiple_of(REPLACE_ONE_OF) {
                *e = ExactEntry { hash, local: Some(Arc::clone(local)) };
            }
        }
        Some((local, Hit::Megaflow(n)))
    }

    /// Adds a flow; one of the same mask and key is replaced.
    pub(crate) fn insert(&mut self, local: &Arc<Local>) {
        let (flow, secret) = (&local.flow, self.secret);
        let place = place(flow.key.in_port);
        if self.spaces.len() <= place {
            self.spaces.resize_with(place + 1, Space::default);
        }
        let space = &mut self.spaces[place];
        let hash = hash_words(secret, flow.mask.words());
        let at = space.find(hash, &flow.mask).unwrap_or_else(|| {
            let (words, flows) = (own_words(&flow.mask), HashTable::new());
            space.subtables.push(Subtable { mask: flow.mask, hash, words, flows, hits: 0 });
            space.subtables.len() - 1
        });
        let Subtable { words, flows, .. } = &mut space.subtables[at];
        let hash_of = |key: &PacketKey| masked_hash(secret, common_hash(secret, key), words, key);
        let hash = hash_of(&flow.key);
        match flows.find_mut(hash, |l| l.matches(&flow.key)) {
            Some(old) => *old = Arc::clone(local),
            // Hashes are computed anew when the table grows.
            None => {
                flows.insert_unique(hash, Arc::clone(local), |l| hash_of(&l.flow.key));
            }
        }
    }

    /// Lets go of all flows.
    pub(crate) fn clear(&mut self) {
        self.exact.iter_mut().for_each(|e| e.local = None);
        self.spaces.clear();
    }

    /// Lets go of a flow that was removed. Returns whether it was here. The exact cache does not
    /// answer with it any more and has it until [`Caches::sweep`].
    pub(crate) fn remove(&mut self, flow: &Arc<Megaflow>) -> bool {
        let Some(space) = self.spaces.get_mut(place(flow.key.in_port)) else { return false };
        let hash = hash_words(self.secret, flow.mask.words());
        let Some(at) = space.find(hash, &flow.mask) else { return false };
        let sub = &mut space.subtables[at];
        let hash = sub.hash(self.secret, common_hash(self.secret, &flow.key), &flow.key);
        let Ok(entry) = sub.flows.find_entry(hash, |l| Arc::ptr_eq(&l.flow, flow)) else {
            return false;
        };
        entry.remove();
        if sub.flows.is_empty() {
            space.subtables.remove(at);
        }
        true
    }

    /// Lets go of dead flows in the exact cache.
    pub(crate) fn sweep(&mut self) {
        for e in &mut self.exact {
            if e.local.as_ref().is_some_and(|l| l.flow.is_dead()) {
                e.local = None;
            }
        }
    }
}

/// Where the space of a port is.
#[inline]
fn place(port: u32) -> usize {
    port.min(MAX_NUMBERED + 1) as usize
}
