//! A worker's two caches: exact match, and megaflows by tuple space search.
//!
//! The exact cache maps a hash of what identifies a connection to the megaflow that answered
//! last time. A hit is believed only if the megaflow matches the packet's whole key, so a
//! collision costs time and never correctness. It is small, keyed, and overwritten without
//! ceremony.
//!
//! The tuple space has one hash table per mask ("subtable"), searched in the order of their use.
//!
//! Everything here belongs to one worker; [`Local`] is its own handle of a shared megaflow, so
//! that counting references does not bounce between workers.

use std::mem::offset_of;
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::HashKey;
use dpif::{DpAction, Megaflow, Ufid};
use flow::PacketKey;
use hashbrown::HashTable;
use packet::header::ethertype;

/// Entries of the exact cache, a power of two.
const EXACT_ENTRIES: usize = 8192;

/// Of so many flows that would push another one out of the exact cache, one does: with more
/// connections than entries, entries live long enough to be of use.
const REPLACE_ONE_OF: u32 = 16;

/// Look-ups between two sortings of the subtables.
const SORT_EVERY: u32 = 1 << 14;

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
    words: Box<[(u8, u64)]>,
    flows: HashTable<Arc<Local>>,
    hits: u32,
}

impl Subtable {
    #[inline]
    fn hash(&self, secret: HashKey, key: &PacketKey) -> u64 {
        let k = key.words();
        let h = secret.start(self.words.len());
        secret.finish(self.words.iter().fold(h, |h, &(i, m)| secret.mix(h, k[usize::from(i)] & m)))
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
    subtables: Vec<Subtable>,
    until_sort: u32,
    exact_enabled: bool,
}

impl Caches {
    pub(crate) fn new(secret: HashKey, exact_enabled: bool) -> Caches {
        let n = if exact_enabled { EXACT_ENTRIES } else { 1 };
        Caches {
            secret,
            exact: (0..n).map(|_| ExactEntry { hash: 0, local: None }).collect(),
            subtables: Vec::new(),
            until_sort: SORT_EVERY,
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

    fn look_up_megaflow(&mut self, hash: u64, key: &PacketKey) -> Option<(&Arc<Local>, Hit)> {
        self.until_sort -= 1;
        if self.until_sort == 0 {
            self.until_sort = SORT_EVERY;
            self.subtables.sort_by_key(|s| std::cmp::Reverse(s.hits));
            self.subtables.iter_mut().for_each(|s| s.hits /= 2);
        }
        for (n, sub) in (1..).zip(&mut self.subtables) {
            let h = sub.hash(self.secret, key);
            let Some(local) = sub.flows.find(h, |l| l.matches(key)) else { continue };
            if local.flow.is_dead() {
                continue;
            }
            sub.hits = sub.hits.saturating_add(1);
            if self.exact_enabled {
                let at = hash as usize & (self.exact.len() - 1);
                let e = &mut self.exact[at];
                let free = e.hash == hash || e.local.is_none();
                if free || self.until_sort.is_multiple_of(REPLACE_ONE_OF) {
                    *e = ExactEntry { hash, local: Some(Arc::clone(local)) };
                }
            }
            return Some((local, Hit::Megaflow(n)));
        }
        None
    }

    /// Adds a flow; one of the same mask and key is replaced.
    pub(crate) fn insert(&mut self, local: &Arc<Local>) {
        let flow = &local.flow;
        let at = match self.subtables.iter().position(|s| s.mask == flow.mask) {
            Some(at) => at,
            None => {
                let words = flow.significant_words().iter().map(|&(i, m, _)| (i, m)).collect();
                self.subtables.push(Subtable {
                    mask: flow.mask,
                    words,
                    flows: HashTable::new(),
                    hits: 0,
                });
                self.subtables.len() - 1
            }
        };
        let (sub, secret) = (&mut self.subtables[at], self.secret);
        let hash = sub.hash(secret, &flow.key);
        if let Some(old) = sub.flows.find_mut(hash, |l| l.matches(&flow.key)) {
            *old = Arc::clone(local);
            return;
        }
        // Hashes are computed anew when the table grows.
        let words = std::mem::take(&mut sub.words);
        let rehash = |l: &Arc<Local>| {
            let k = l.flow.key.words();
            let h = secret.start(words.len());
            secret.finish(words.iter().fold(h, |h, &(i, m)| secret.mix(h, k[usize::from(i)] & m)))
        };
        sub.flows.insert_unique(hash, Arc::clone(local), rehash);
        sub.words = words;
    }

    /// Lets go of all flows.
    pub(crate) fn clear(&mut self) {
        self.exact.iter_mut().for_each(|e| e.local = None);
        self.subtables.clear();
    }

    /// Lets go of dead flows; gives their names.
    pub(crate) fn sweep(&mut self) -> Vec<Ufid> {
        let mut gone = Vec::new();
        for e in &mut self.exact {
            if e.local.as_ref().is_some_and(|l| l.flow.is_dead()) {
                e.local = None;
            }
        }
        for sub in &mut self.subtables {
            let dead = sub.flows.extract_if(|l| l.flow.is_dead());
            gone.extend(dead.map(|l| l.flow.ufid));
        }
        self.subtables.retain(|s| !s.flows.is_empty());
        gone
    }
}
