//! All rules with one mask.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem::offset_of;

use base::HashKey;
use flow::{FLOW_WORDS, FlowKey, Match, PacketKey};
use hashbrown::HashTable;

use crate::mini::ones;
use crate::trie::Trie;

const PKT: usize = offset_of!(FlowKey, pkt);

/// The word that holds byte `offset` of the packet part of the key.
pub(crate) const fn word_of(offset: usize) -> usize {
    (PKT + offset) / 8
}

/// Words before which a stage ends: metadata, L2, L3, L4.
const STAGE_ENDS: [usize; 4] = [
    word_of(offset_of!(PacketKey, dl_dst)),
    word_of(offset_of!(PacketKey, nw_src)),
    word_of(offset_of!(PacketKey, nd_reserved)),
    FLOW_WORDS,
];

const NIL: u32 = u32::MAX;

/// A rule in its subtable. Rules with the same key and lower priority follow by `next`.
#[derive(Clone, Debug)]
struct Slot<R> {
    rule: Option<R>,
    priority: i32,
    next: u32,
}

/// One step of a staged lookup: the words `from..to` of the subtable's compact words.
#[derive(Clone, Debug)]
struct Stage {
    /// Compact words up to which this stage hashes.
    to: usize,
    /// Words of the key that this and the earlier stages looked at.
    map: u64,
    /// Hashes of all rules up to here, with the number of distinct keys that have each. The last stage
    /// needs none: the rules themselves are found by the whole hash.
    hashes: HashTable<(u64, u32)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Subtable<R> {
    /// The mask.
    pub mask: FlowKey,
    /// Non-zero words of the mask.
    pub map: u64,
    /// Those words.
    mask_words: Box<[u64]>,
    /// For each compact word its position in the key.
    positions: Box<[u8]>,
    stages: Vec<Stage>,
    /// Prefix length of the mask in each prefix field; 0 when it is not a prefix.
    pub plens: [u8; crate::classifier::N_PREFIX_FIELDS],
    /// Leading bits of the two ports up to the last that counts; 0 when no port counts.
    pub ports_len: u8,
    ports: Trie<u32>,
    /// Masked key words of slot `i`: `keys[i * n ..][..n]`.
    keys: Vec<u64>,
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
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
    pub fn new(mask: &FlowKey, plens: [u8; crate::classifier::N_PREFIX_FIELDS]) -> Self {
        let map = mask.map();
        let words = mask.words();
        let positions: Box<[u8]> = ones(map).map(|i| i as u8).collect();
        let mask_words = ones(map).map(|i| words[i]).collect();
        let mut stages: Vec<Stage> = Vec::new();
        for end in STAGE_ENDS {
            let to = positions.partition_point(|&p| usize::from(p) < end);
            if to > stages.last().map_or(0, |s| s.to) {
                let map = if end >= 64 { map } else { map & ((1 << end) - 1) };
                stages.push(Stage { to, map, hashes: HashTable::new() });
            }
        }
        let p = ports(mask);
        Subtable {
            mask: *mask,
            map,
            mask_words,
            positions,
            stages,
            plens,
            ports_len: if p == 0 { 0 } else { 32 - p.trailing_zeros() as u8 },
            ports: Trie::default(),
            keys: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            heads: HashTable::new(),
            priorities: BTreeMap::new(),
            len: 0,
        }
    }

    fn n_words(&self) -> usize {
        self.mask_words.len()
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
    fn masked_hash(&self, h: HashKey, key: &[u64; FLOW_WORDS]) -> u64 {
        let mut x = h.start(0);
        for (&p, &m) in self.positions.iter().zip(&self.mask_words) {
            x = h.mix(x, key[usize::from(p) % FLOW_WORDS] & m);
        }
        x
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u64; FLOW_WORDS]) -> Option<u32> {
        self.heads
            .find(hash, |&s| {
                let words = self.key(s);
                self.positions
                    .iter()
                    .zip(&self.mask_words)
                    .zip(words)
                    .all(|((&p, &m), &w)| key[usize::from(p) % FLOW_WORDS] & m == w)
            })
            .copied()
    }

    /// The first (best) slot for a packet.
    #[inline]
    pub fn lookup(&self, h: HashKey, key: &FlowKey) -> Option<u32> {
        let words = key.words();
        self.find(self.masked_hash(h, words), words)
    }

    /// The best slot for a packet, noting in `wc` what was looked at. `skip` is asked before a
    /// stage with the words of that stage; when it says true the subtable is left (it has noted in
    /// `wc` why).
    #[inline]
    pub fn lookup_staged(
        &self,
        h: HashKey,
        key: &FlowKey,
        wc: &mut FlowKey,
        mut skip: impl FnMut(u64, &mut FlowKey) -> bool,
    ) -> Option<u32> {
        let words = key.words();
        let (mut x, mut from, mut seen) = (h.start(0), 0, 0);
        let last = self.stages.len().wrapping_sub(1);
        for (i, stage) in self.stages.iter().enumerate() {
            if skip(stage.map & !seen, wc) {
                self.fold(wc, seen);
                return None;
            }
            seen = stage.map;
            for j in from..stage.to {
                x = h.mix(
                    x,
                    words[usize::from(self.positions[j]) % FLOW_WORDS] & self.mask_words[j],
                );
            }
            from = stage.to;
            if i != last && stage.hashes.find(x, |e| e.0 == x).is_none() {
                self.fold(wc, seen);
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
            let before = match last {
                0 => 0,
                n => self.stages[n - 1].map,
            };
            // Other words of the last stage were looked at as well.
            self.fold(
                wc,
                before | self.map & !before & !(1 << word_of(offset_of!(PacketKey, tp_src))),
            );
            wc.pkt.nd_reserved |= self.mask.pkt.nd_reserved;
            return None;
        }
        self.fold(wc, self.map);
        found
    }

    /// Adds the mask's words that are in `map` to `wc`.
    #[inline]
    fn fold(&self, wc: &mut FlowKey, map: u64) {
        let out = wc.words_mut();
        for (&p, &m) in self.positions.iter().zip(&self.mask_words) {
            if map >> p & 1 != 0 {
                out[usize::from(p) % FLOW_WORDS] |= m;
            }
        }
    }

    /// Rule and priority in a slot that a lookup returned.
    #[inline]
    pub fn rule(&self, slot: u32) -> Option<(i32, &R)> {
        let s = &self.slots[slot as usize];
        Some((s.priority, s.rule.as_ref()?))
    }

    /// The slot of exactly this key and priority, and the one before it in its chain.
    fn exact(&self, h: HashKey, key: &FlowKey, priority: i32) -> Option<(u32, u32)> {
        let (mut prev, mut at) = (NIL, self.lookup(h, key)?);
        while at != NIL {
            let s = &self.slots[at as usize];
            if s.priority == priority {
                return Some((prev, at));
            }
            (prev, at) = (at, s.next);
        }
        None
    }

    pub fn get(&self, h: HashKey, key: &FlowKey, priority: i32) -> Option<&R> {
        let (_, at) = self.exact(h, key, priority)?;
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
    pub fn insert(&mut self, h: HashKey, key: &FlowKey, priority: i32, rule: R) -> Option<R> {
        if let Some((_, at)) = self.exact(h, key, priority) {
            return self.slots[at as usize].rule.replace(rule);
        }
        let words = key.words();
        let hash = self.masked_hash(h, words);
        let masked: Vec<u64> = self
            .positions
            .iter()
            .zip(&self.mask_words)
            .map(|(&p, &m)| words[usize::from(p) % FLOW_WORDS] & m)
            .collect();
        let slot = Slot { rule: Some(rule), priority, next: NIL };
        let new = match self.free.pop() {
            Some(i) => {
                self.slots[i as usize] = slot;
                let n = masked.len();
                self.keys[i as usize * n..][..n].copy_from_slice(&masked);
                i
            }
            None => {
                self.slots.push(slot);
                self.keys.extend_from_slice(&masked);
                (self.slots.len() - 1) as u32
            }
        };
        match self.find(hash, words) {
            None => {
                let (keys, n) = (&self.keys, masked.len());
                self.heads.insert_unique(hash, new, |&s| {
                    keys[s as usize * n..][..n].iter().fold(h.start(0), |x, &w| h.mix(x, w))
                });
                self.count_stages(h, &masked, 1);
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
    pub fn remove(&mut self, h: HashKey, key: &FlowKey, priority: i32) -> Option<R> {
        let (prev, at) = self.exact(h, key, priority)?;
        let next = self.slots[at as usize].next;
        if prev != NIL {
            self.slots[prev as usize].next = next;
        } else {
            let hash = self.masked_hash(h, key.words());
            if next != NIL {
                if let Some(e) = self.heads.find_mut(hash, |&s| s == at) {
                    *e = next;
                }
            } else {
                if let Ok(e) = self.heads.find_entry(hash, |&s| s == at) {
                    e.remove();
                }
                let masked: Vec<u64> = self.key(at).into();
                self.count_stages(h, &masked, -1);
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
        self.free.push(at);
        self.slots[at as usize].rule.take()
    }

    fn count_stages(&mut self, h: HashKey, masked: &[u64], by: i32) {
        let (mut x, mut from) = (h.start(0), 0);
        let last = self.stages.len().saturating_sub(1);
        for stage in self.stages.iter_mut().take(last) {
            x = masked[from..stage.to].iter().fold(x, |x, &w| h.mix(x, w));
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
        for (&p, &w) in self.positions.iter().zip(self.key(slot)) {
            out[usize::from(p) % FLOW_WORDS] = w;
        }
        Match { key, mask: self.mask }
    }

    /// Whether the rule in `slot` agrees with `key` on `mask`.
    pub fn agrees(&self, slot: u32, key: &FlowKey, mask: &FlowKey) -> bool {
        let (k, m) = (key.words(), mask.words());
        self.positions.iter().zip(self.key(slot)).all(|(&p, &w)| {
            let p = usize::from(p) % FLOW_WORDS;
            (w ^ k[p]) & m[p] == 0
        })
    }

    /// Slots in use with their rules, oldest place first.
    pub fn slots(&self) -> impl Iterator<Item = (u32, i32, &R)> + Clone {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((i as u32, s.priority, s.rule.as_ref()?)))
    }
}
