//! All rules with one mask.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use base::HashKey;
use flow::{FLOW_WORDS, FlowKey, Match, PacketKey};
use hashbrown::HashTable;

use crate::mini::ones;
use crate::prefixes::{Plens, Prefixes};
use crate::trie::Trie;

const PKT: usize = offset_of!(FlowKey, pkt);

/// The word that holds byte `offset` of the packet part of the key.
pub(crate) const fn word_of(offset: usize) -> usize {
    (PKT + offset) / 8
}

/// Words before which a stage ends: metadata, L2, L3, and L4 with the fields of ARP and neighbour
/// discovery, as in Open vSwitch.
const STAGE_ENDS: [usize; 4] = [
    word_of(offset_of!(PacketKey, dl_dst)),
    word_of(offset_of!(PacketKey, nsh_flags)),
    word_of(offset_of!(PacketKey, arp_sha)),
    FLOW_WORDS,
];

const NIL: u32 = u32::MAX;

/// Places without a rule that a subtable may have whatever its size.
const MIN_GAPS: usize = 64;

/// A rule in its subtable. Rules with the same key and lower priority follow by `next`.
#[derive(Clone, Debug)]
struct Slot<R> {
    rule: Option<R>,
    priority: i32,
    next: u32,
}

/// A word of the mask that has bits, and how it enters the hash.
///
/// The hash is the XOR of one keyed product per word, each with a key of its own: the products do not wait
/// for each other, and the hash of a stage is that of the stage before with more terms.
#[derive(Copy, Clone, Debug)]
struct Word {
    position: usize,
    mask: u64,
    key: u64,
}

impl Word {
    fn new(h: HashKey, position: usize, mask: u64) -> Word {
        Word { position, mask, key: h.finish(h.mix(h.start(position), 1)) | 1 }
    }

    /// The word's term, from its masked value.
    #[inline]
    fn term(&self, masked: u64) -> u64 {
        let p = u128::from(masked) * u128::from(self.key);
        (p as u64) ^ ((p >> 64) as u64)
    }

    #[inline]
    fn of(&self, key: &[u64; FLOW_WORDS]) -> u64 {
        key[self.position] & self.mask
    }
}

/// One step of a staged lookup: the words `from..to` of the subtable's compact words.
#[derive(Clone, Debug)]
struct Stage {
    /// Prefix fields that lie in words of this stage, one bit each.
    prefix_fields: u8,
    /// Compact words up to which this stage hashes.
    to: usize,
    /// Hashes of all rules up to here, with the number of distinct keys that have each. The last stage
    /// needs none: the rules themselves are found by the whole hash.
    hashes: HashTable<(u64, u32)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Subtable<R> {
    /// The mask.
    pub mask: FlowKey,
    /// Its non-zero words.
    words: Box<[Word]>,
    stages: Vec<Stage>,
    /// Prefix length of the mask in each prefix field; 0 when it is not a prefix.
    pub plens: Plens,
    /// Leading bits of the two ports up to the last that counts; 0 when no port counts.
    pub ports_len: u8,
    ports: Trie<u32>,
    /// Masked key words of slot `i`: `keys[i * n ..][..n]`.
    keys: Vec<u64>,
    /// In the order in which they came. Those without a rule are closed up when they are many.
    slots: Vec<Slot<R>>,
    /// First slot of each distinct key.
    heads: HashTable<u32>,
    /// How many rules have each priority.
    priorities: BTreeMap<i32, u32>,
    len: usize,
}

/// The two ports as one number, source first, as the trie wants them.
#[inline]
pub(crate) fn ports(k: &FlowKey) -> u32 {
    u32::from(k.pkt.tp_src) << 16 | u32::from(k.pkt.tp_dst)
}

impl<R> Subtable<R> {
    pub fn new(h: HashKey, mask: &FlowKey, prefixes: &Prefixes) -> Self {
        let map = mask.map();
        let words: Box<[Word]> = ones(map).map(|i| Word::new(h, i, mask.words()[i])).collect();
        let mut stages: Vec<Stage> = Vec::new();
        for end in STAGE_ENDS {
            let to = words.partition_point(|w| w.position < end);
            if to > stages.last().map_or(0, |s| s.to) {
                stages.push(Stage { to, prefix_fields: 0, hashes: HashTable::new() });
            }
        }
        let p = ports(mask);
        let mut s = Subtable {
            mask: *mask,
            words,
            stages,
            plens: Plens::default(),
            ports_len: if p == 0 { 0 } else { 32 - p.trailing_zeros() as u8 },
            ports: Trie::default(),
            keys: Vec::new(),
            slots: Vec::new(),
            heads: HashTable::new(),
            priorities: BTreeMap::new(),
            len: 0,
        };
        s.set_prefixes(prefixes);
        s
    }

    /// Takes over which prefixes are tracked.
    pub fn set_prefixes(&mut self, prefixes: &Prefixes) {
        self.plens = prefixes.plens(&self.mask);
        let mut from = 0;
        for stage in &mut self.stages {
            let words = &self.words[from..stage.to];
            let in_stage = |i: usize| words.iter().any(|w| w.position == i);
            stage.prefix_fields = prefixes.in_words(&self.plens, in_stage);
            from = stage.to;
        }
    }

    fn n_words(&self) -> usize {
        self.words.len()
    }

    fn key(&self, slot: u32) -> &[u64] {
        let n = self.n_words();
        &self.keys[slot as usize * n..][..n]
    }

    /// Rules in here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Highest priority of its rules.
    pub fn max_priority(&self) -> i32 {
        self.priorities.last_key_value().map_or(i32::MIN, |(&p, _)| p)
    }

    #[inline]
    fn hash(&self, key: &[u64; FLOW_WORDS]) -> u64 {
        self.words.iter().fold(0, |x, w| x ^ w.term(w.of(key)))
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u64; FLOW_WORDS]) -> Option<u32> {
        self.heads
            .find(hash, |&s| self.words.iter().zip(self.key(s)).all(|(w, &v)| w.of(key) == v))
            .copied()
    }

    /// The first (best) slot for a packet.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<u32> {
        let key = key.words();
        macro_rules! by_words {
            ($($n:literal)*) => {
                match self.words.len() {
                    $($n => self.lookup_words::<$n>(key),)*
                    _ => self.find(self.hash(key), key),
                }
            };
        }
        by_words!(1 2 3 4 5 6 7 8 9 10 11 12)
    }

    /// The same for a mask with `N` words, without loops and without branches that depend on `N`.
    #[inline(always)]
    fn lookup_words<const N: usize>(&self, key: &[u64; FLOW_WORDS]) -> Option<u32> {
        let words: &[Word; N] = self.words.first_chunk()?;
        let masked: [u64; N] = core::array::from_fn(|i| words[i].of(key));
        let hash = (0..N).fold(0, |x, i| x ^ words[i].term(masked[i]));
        let (rows, _) = self.keys.as_chunks::<N>();
        let differ = |row: &[u64; N]| (0..N).fold(0, |d, i| d | (row[i] ^ masked[i]));
        self.heads.find(hash, |&s| differ(&rows[s as usize]) == 0).copied()
    }

    /// The best slot for a packet, noting in `wc` what was looked at. `skip` is asked before a
    /// stage that has prefix fields, with those; when it says true the subtable is left (it has
    /// noted in `wc` why).
    #[inline]
    pub fn lookup_staged(
        &self,
        key: &FlowKey,
        wc: &mut FlowKey,
        mut skip: impl FnMut(u8, &mut FlowKey) -> bool,
    ) -> Option<u32> {
        let words = key.words();
        let (mut x, mut from) = (0, 0);
        let last = self.stages.len().wrapping_sub(1);
        for (i, stage) in self.stages.iter().enumerate() {
            if stage.prefix_fields != 0 && skip(stage.prefix_fields, wc) {
                self.fold(wc, from);
                return None;
            }
            for w in &self.words[from..stage.to] {
                x ^= w.term(w.of(words));
            }
            from = stage.to;
            if i != last && stage.hashes.find(x, |e| e.0 == x).is_none() {
                self.fold(wc, from);
                return None;
            }
        }
        let found = self.find(x, words);
        if found.is_none() && self.ports_len > 0 {
            let m = self.ports.lookup(ports(key) & ports(&self.mask));
            let looked_at =
                ports(&self.mask) & (if m.n_bits == 0 { 0 } else { u32::MAX << (32 - m.n_bits) });
            wc.pkt.tp_src |= (looked_at >> 16) as u16;
            wc.pkt.tp_dst |= looked_at as u16;
            // The ports are in the last word; the others were looked at as well.
            self.fold(wc, from - 1);
            wc.pkt.nd_reserved |= self.mask.pkt.nd_reserved;
            return None;
        }
        self.fold(wc, from);
        found
    }

    /// Adds the mask's first `n` words to `wc`.
    #[inline]
    fn fold(&self, wc: &mut FlowKey, n: usize) {
        let out = wc.words_mut();
        for w in &self.words[..n] {
            out[w.position] |= w.mask;
        }
    }

    /// Rule and priority in a slot that a lookup returned.
    #[inline]
    pub fn rule(&self, slot: u32) -> Option<(i32, &R)> {
        let s = &self.slots[slot as usize];
        Some((s.priority, s.rule.as_ref()?))
    }

    /// The slot of exactly this key and priority, and the one before it in its chain.
    fn exact(&self, key: &FlowKey, priority: i32) -> Option<(u32, u32)> {
        let (mut prev, mut at) = (NIL, self.lookup(key)?);
        while at != NIL {
            let s = &self.slots[at as usize];
            if s.priority == priority {
                return Some((prev, at));
            }
            (prev, at) = (at, s.next);
        }
        None
    }

    pub fn get(&self, key: &FlowKey, priority: i32) -> Option<&R> {
        let (_, at) = self.exact(key, priority)?;
        self.slots[at as usize].rule.as_ref()
    }

    /// The slots from `head` on: all rules with one key, best first.
    pub fn chain(&self, head: Option<u32>) -> impl Iterator<Item = (u32, i32, &R)> {
        let mut at = head.unwrap_or(NIL);
        core::iter::from_fn(move || {
            let (this, s) = (at, self.slots.get(at as usize)?);
            at = s.next;
            Some((this, s.priority, s.rule.as_ref()?))
        })
    }

    /// Puts a rule in; gives back the one with the same key and priority.
    pub fn insert(&mut self, key: &FlowKey, priority: i32, rule: R) -> Option<R> {
        if let Some((_, at)) = self.exact(key, priority) {
            return self.slots[at as usize].rule.replace(rule);
        }
        let words = key.words();
        let hash = self.hash(words);
        let masked: Vec<u64> = self.words.iter().map(|w| w.of(words)).collect();
        let slot = Slot { rule: Some(rule), priority, next: NIL };
        if self.slots.len() - self.len > self.len.max(MIN_GAPS) {
            self.close_gaps();
        }
        self.slots.push(slot);
        self.keys.extend_from_slice(&masked);
        let new = (self.slots.len() - 1) as u32;
        match self.find(hash, words) {
            None => {
                let (keys, ws) = (&self.keys, &self.words);
                self.heads.insert_unique(hash, new, |&s| {
                    let key = &keys[s as usize * ws.len()..][..ws.len()];
                    ws.iter().zip(key).fold(0, |x, (w, &v)| x ^ w.term(v))
                });
                self.count_stages(&masked, 1);
                if self.ports_len > 0 {
                    self.ports.insert(ports(key) & ports(&self.mask), self.ports_len);
                }
            }
            Some(head) if self.slots[head as usize].priority < priority => {
                self.slots[new as usize].next = head;
                if let Some(e) = self.heads.find_mut(hash, |&s| s == head) {
                    *e = new;
                }
            }
            Some(head) => {
                let mut at = head;
                loop {
                    let next = self.slots[at as usize].next;
                    if next == NIL || self.slots[next as usize].priority < priority {
                        self.slots[new as usize].next = next;
                        self.slots[at as usize].next = new;
                        break;
                    }
                    at = next;
                }
            }
        }
        *self.priorities.entry(priority).or_insert(0) += 1;
        self.len += 1;
        None
    }

    /// Takes a rule out.
    pub fn remove(&mut self, key: &FlowKey, priority: i32) -> Option<R> {
        let (prev, at) = self.exact(key, priority)?;
        let next = self.slots[at as usize].next;
        if prev != NIL {
            self.slots[prev as usize].next = next;
        } else {
            let hash = self.hash(key.words());
            if next != NIL {
                if let Some(e) = self.heads.find_mut(hash, |&s| s == at) {
                    *e = next;
                }
            } else {
                if let Ok(e) = self.heads.find_entry(hash, |&s| s == at) {
                    e.remove();
                }
                let masked: Vec<u64> = self.key(at).into();
                self.count_stages(&masked, -1);
                if self.ports_len > 0 {
                    self.ports.remove(ports(key) & ports(&self.mask), self.ports_len);
                }
            }
        }
        if let Some(n) = self.priorities.get_mut(&priority) {
            *n -= 1;
            if *n == 0 {
                self.priorities.remove(&priority);
            }
        }
        self.len -= 1;
        self.slots[at as usize].rule.take()
    }

    /// Moves rules into the places of those that went. Their order stays.
    fn close_gaps(&mut self) {
        let n = self.n_words();
        let mut moved = vec![NIL; self.slots.len()];
        let mut to = 0;
        for (at, place) in moved.iter_mut().enumerate() {
            if self.slots[at].rule.is_some() {
                *place = to as u32;
                self.slots.swap(to, at);
                self.keys.copy_within(at * n..(at + 1) * n, to * n);
                to += 1;
            }
        }
        self.slots.truncate(to);
        self.keys.truncate(to * n);
        let new_place = |at: &mut u32| *at = moved.get(*at as usize).copied().unwrap_or(NIL);
        self.slots.iter_mut().for_each(|s| new_place(&mut s.next));
        self.heads.iter_mut().for_each(new_place);
    }

    fn count_stages(&mut self, masked: &[u64], by: i32) {
        let (mut x, mut from) = (0, 0);
        let last = self.stages.len().saturating_sub(1);
        for stage in self.stages.iter_mut().take(last) {
            for (w, &v) in self.words[from..stage.to].iter().zip(&masked[from..stage.to]) {
                x ^= w.term(v);
            }
            from = stage.to;
            if by > 0 {
                stage
                    .hashes
                    .entry(x, |e| e.0 == x, |e| e.0)
                    .and_modify(|e| e.1 += 1)
                    .or_insert((x, 1));
            } else if let Ok(mut e) = stage.hashes.find_entry(x, |e| e.0 == x) {
                e.get_mut().1 -= 1;
                if e.get().1 == 0 {
                    e.remove();
                }
            }
        }
    }

    /// The match of the rule in `slot`.
    pub fn match_of(&self, slot: u32) -> Match {
        let mut key = FlowKey::ZERO;
        let out = key.words_mut();
        for (w, &v) in self.words.iter().zip(self.key(slot)) {
            out[w.position] = v;
        }
        Match { key, mask: self.mask }
    }

    /// Whether the rule in `slot` agrees with `key` on `mask`.
    pub fn agrees(&self, slot: u32, key: &FlowKey, mask: &FlowKey) -> bool {
        let (k, m) = (key.words(), mask.words());
        self.words
            .iter()
            .zip(self.key(slot))
            .all(|(w, &v)| (v ^ k[w.position]) & m[w.position] == 0)
    }

    /// Slots in use with their rules, those that came first before others.
    pub fn slots(&self) -> impl Iterator<Item = (u32, i32, &R)> + Clone {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((i as u32, s.priority, s.rule.as_ref()?)))
    }
}
