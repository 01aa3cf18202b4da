//! All rules with one mask.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use base::HashKey;
use flow::{FLOW_WORDS, FlowKey, Match, PacketKey};
use hashbrown::HashTable;

use crate::heads::{Heads, NO_RULE};
use crate::mini::{MiniMask, ones};
use crate::prefixes::{Plens, Prefixes};
use crate::trie::Trie;
use crate::two::Two;

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
/// The hash is that of NH (Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC", 1999) with words of 32 bits: the
/// sum of a term for each word, which is the product of its halves after a secret number was added (as one
/// number of 64 bits; the carry between the halves costs a bit of what is proven). Two keys have the same sum
/// for at most one in 2^31 of the secrets. The terms do not wait for each other, SSE2 makes two at a time, and
/// the sum of a stage is that of the stage before with more terms.
#[derive(Copy, Clone, Debug)]
struct Word {
    position: usize,
    mask: u64,
    secret: u64,
}

impl Word {
    #[inline(always)]
    fn of(&self, key: &[u64; FLOW_WORDS]) -> u64 {
        key[self.position] & self.mask
    }

    /// The word's term, from its masked value.
    #[inline(always)]
    fn term(&self, masked: u64) -> u64 {
        let x = masked.wrapping_add(self.secret);
        (x & 0xffff_ffff) * (x >> 32)
    }
}

/// Two words of the mask, to be worked on together. A last one without a second has an empty mask in its
/// place, whose term is zero.
#[derive(Copy, Clone, Debug)]
struct Pair {
    positions: [usize; 2],
    masks: [u64; 2],
    secrets: [u64; 2],
}

impl Pair {
    fn new(words: &[Word]) -> Pair {
        let none = Word { position: 0, mask: 0, secret: 0 };
        let w = [words[0], words.get(1).copied().unwrap_or(none)];
        Pair {
            positions: w.map(|w| w.position),
            masks: w.map(|w| w.mask),
            secrets: w.map(|w| w.secret),
        }
    }
}

/// One step of a staged lookup: the words `from..to` of the subtable's compact words.
#[derive(Clone, Debug)]
struct Stage {
    /// Prefix fields that lie in words of this stage, one bit each.
    prefix_fields: u8,
    /// Compact words up to which this stage hashes.
    to: usize,
    /// What the keys of all rules look like up to here. The last stage needs nothing: the rules themselves are
    /// found by the whole hash.
    digests: Digests,
}

/// A set of 32-bit digests of keys, with the number of distinct keys that have each. A key that has one by
/// chance, one in thousands of millions for each rule, has more of it looked at than needed.
#[derive(Clone, Debug, Default)]
struct Digests(HashTable<(u32, u32)>);

impl Digests {
    /// The digest of a sum of terms: any bit of it depends on all of a term.
    #[inline(always)]
    fn of(sum: u64) -> u32 {
        fold(sum) as u32
    }

    /// The table looks at both ends.
    #[inline(always)]
    fn hash(digest: u32) -> u64 {
        u64::from(digest) << 32 | u64::from(digest)
    }

    #[inline(always)]
    fn has(&self, sum: u64) -> bool {
        let digest = Digests::of(sum);
        self.0.find(Digests::hash(digest), |e| e.0 == digest).is_some()
    }

    fn add(&mut self, sum: u64) {
        let digest = Digests::of(sum);
        let entry = self.0.entry(Digests::hash(digest), |e| e.0 == digest, |e| Digests::hash(e.0));
        entry.and_modify(|e| e.1 += 1).or_insert((digest, 1));
    }

    fn remove(&mut self, sum: u64) {
        let digest = Digests::of(sum);
        if let Ok(mut e) = self.0.find_entry(Digests::hash(digest), |e| e.0 == digest) {
            e.get_mut().1 -= 1;
            if e.get().1 == 0 {
                e.remove();
            }
        }
    }
}

/// A sum of terms with its better half in the lower one.
#[inline(always)]
fn fold(sum: u64) -> u64 {
    sum ^ sum >> 32
}

/// The hash that a sum of terms becomes for the rules: spread by a multiplication as well, because similar keys
/// may have sums that differ in few places. Its best bits are at both ends.
#[inline(always)]
fn finish(sum: u64) -> u64 {
    fold(sum).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(39)
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Subtable<R> {
    /// The mask.
    pub mask: FlowKey,
    /// The same, for the matches of its rules to share.
    pub mini: Arc<MiniMask>,
    /// Its non-zero words.
    words: Box<[Word]>,
    /// The same, two by two.
    pairs: Box<[Pair]>,
    stages: Vec<Stage>,
    /// Prefix length of the mask in each prefix field; 0 when it is not a prefix.
    pub plens: Plens,
    /// Leading bits of the two ports up to the last that counts; 0 when no port counts.
    pub ports_len: u8,
    ports: Trie<u32>,
    /// Masked key words of slot `i`: `keys[i * n ..][..n]`.
    keys: Vec<u64>,
    /// In the order in which they came, after one that never has a rule ([`NO_RULE`]). Others without a rule
    /// are closed up when they are many.
    slots: Vec<Slot<R>>,
    /// First slot of each distinct key.
    heads: Heads,
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
        let secret = |i: usize| h.finish(h.mix(h.start(i), 1));
        let word = |i: usize| Word { position: i, mask: mask.words()[i], secret: secret(i) };
        let words: Box<[Word]> = ones(mask.map()).map(word).collect();
        let mut stages: Vec<Stage> = Vec::new();
        for end in STAGE_ENDS {
            let to = words.partition_point(|w| w.position < end);
            if to > stages.last().map_or(0, |s| s.to) {
                stages.push(Stage { to, prefix_fields: 0, digests: Digests::default() });
            }
        }
        let (p, n_words) = (ports(mask), words.len());
        let mut s = Subtable {
            mask: *mask,
            mini: Arc::new(MiniMask::from(mask)),
            pairs: words.chunks(2).map(Pair::new).collect(),
            words,
            stages,
            plens: Plens::default(),
            ports_len: if p == 0 { 0 } else { 32 - p.trailing_zeros() as u8 },
            ports: Trie::default(),
            keys: vec![0; n_words],
            slots: vec![Slot { rule: None, priority: i32::MIN, next: NIL }],
            heads: Heads::default(),
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
        finish(self.words.iter().fold(0, |x, w| w.term(w.of(key)).wrapping_add(x)))
    }

    /// The first (best) slot for a packet, [`NO_RULE`] if there is none.
    pub fn find(&self, key: &FlowKey) -> u32 {
        self.find_hashed(self.hash(key.words()), key.words())
    }

    #[inline]
    fn find_hashed(&self, hash: u64, key: &[u64; FLOW_WORDS]) -> u32 {
        let bucket = self.heads.bucket(hash);
        match bucket.first(bucket.tagged(hash)) {
            NO_RULE if !bucket.overflows() => NO_RULE,
            slot if slot != NO_RULE && self.has_key(slot, key) => slot,
            _ => self.search(hash, key),
        }
    }

    /// The same, where the first place that may have it does not.
    #[cold]
    #[inline(never)]
    fn search(&self, hash: u64, key: &[u64; FLOW_WORDS]) -> u32 {
        self.heads.search(hash, |slot| self.has_key(slot, key))
    }

    #[inline]
    fn has_key(&self, slot: u32, key: &[u64; FLOW_WORDS]) -> bool {
        let words = self.words.iter().zip(self.key(slot));
        words.fold(0, |d, (w, &v)| d | (w.of(key) ^ v)) == 0
    }

    /// The same, made for one of many subtables: most have no rule for the packet, and say so early.
    #[inline(always)]
    pub fn lookup(&self, key: &FlowKey) -> u32 {
        macro_rules! by_words {
            ($($n:literal)*) => {
                match self.n_words() {
                    $($n => self.lookup_words::<$n>(key),)*
                    _ => self.find(key),
                }
            };
        }
        by_words!(1 2 3 4 5 6 7 8 9 10 11 12)
    }

    /// The same for a mask with `N` words. The loops are none in machine code.
    #[inline(always)]
    fn lookup_words<const N: usize>(&self, key: &FlowKey) -> u32 {
        let Some(words) = self.words.first_chunk::<N>() else { return NO_RULE };
        let mut masked = [0; N];
        let mut sum = 0u64;
        for i in 0..N {
            masked[i] = words[i].of(key.words());
            sum = sum.wrapping_add(words[i].term(masked[i]));
        }
        let hash = finish(sum);
        let bucket = self.heads.bucket(hash);
        let tagged = bucket.tagged(hash);
        if tagged == 0 {
            return if bucket.overflows() { self.search(hash, key.words()) } else { NO_RULE };
        }
        let slot = bucket.first(tagged);
        let Some(row) = self.row::<N>(slot) else { return NO_RULE };
        let mut differ = 0;
        for i in 0..N {
            differ |= row[i] ^ masked[i];
        }
        if differ == 0 { slot } else { self.search(hash, key.words()) }
    }

    /// The key of a slot.
    #[inline(always)]
    fn row<const N: usize>(&self, slot: u32) -> Option<&[u64; N]> {
        let at = slot as usize * N;
        self.keys.get(at..at + N)?.first_chunk()
    }

    /// The same, made for a subtable that is alone: that the packet has a rule and that it has none take the
    /// same way, because which it is cannot be guessed.
    #[inline(always)]
    pub fn lookup_alone(&self, key: &FlowKey) -> u32 {
        macro_rules! by_pairs {
            ($($n:literal $p:literal,)*) => {
                match self.n_words() {
                    $($n => self.lookup_pairs::<$n, $p>(key),)*
                    _ => self.find(key),
                }
            };
        }
        by_pairs!(1 1, 2 1, 3 2, 4 2, 5 3, 6 3, 7 4, 8 4, 9 5, 10 5, 11 6, 12 6,)
    }

    /// The same for a mask with `N` words in `P` pairs.
    #[inline(always)]
    fn lookup_pairs<const N: usize, const P: usize>(&self, key: &FlowKey) -> u32 {
        let words = key.words();
        let Some(pairs) = self.pairs.first_chunk::<P>() else { return NO_RULE };
        let mut masked = [Two::new([0; 2]); P];
        let mut sum = Two::new([0; 2]);
        for i in 0..P {
            let Pair { positions: [a, b], masks, secrets } = pairs[i];
            masked[i] = Two::new([words[a], words[b]]).and(Two::new(masks));
            sum = sum.add(masked[i].add(Two::new(secrets)).halves_multiplied());
        }
        let hash = finish(sum.sum());
        let bucket = self.heads.bucket(hash);
        let slot = bucket.first(bucket.tagged(hash));
        let Some(row) = self.row::<N>(slot) else { return NO_RULE };
        let mut differ = Two::new([0; 2]);
        for i in 0..P {
            let second = if 2 * i + 1 < N { row[2 * i + 1] } else { 0 };
            differ = differ.or(Two::new([row[2 * i], second]).xor(masked[i]));
        }
        let other = (slot != NO_RULE) & !differ.is_zero();
        let elsewhere = (slot == NO_RULE) & bucket.overflows();
        if other | elsewhere { self.search(hash, words) } else { slot }
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
    ) -> u32 {
        let words = key.words();
        let (mut x, mut from) = (0u64, 0);
        let last = self.stages.len().wrapping_sub(1);
        for (i, stage) in self.stages.iter().enumerate() {
            if stage.prefix_fields != 0 && skip(stage.prefix_fields, wc) {
                self.fold(wc, from);
                return NO_RULE;
            }
            for w in &self.words[from..stage.to] {
                x = w.term(w.of(words)).wrapping_add(x);
            }
            from = stage.to;
            if i != last && !stage.digests.has(x) {
                self.fold(wc, from);
                return NO_RULE;
            }
        }
        let found = self.find_hashed(finish(x), words);
        if found == NO_RULE && self.ports_len > 0 {
            let m = self.ports.lookup(ports(key) & ports(&self.mask));
            let looked_at =
                ports(&self.mask) & (if m.n_bits == 0 { 0 } else { u32::MAX << (32 - m.n_bits) });
            wc.pkt.tp_src |= (looked_at >> 16) as u16;
            wc.pkt.tp_dst |= looked_at as u16;
            // The ports are in the last word; the others were looked at as well.
            self.fold(wc, from - 1);
            wc.pkt.nd_reserved |= self.mask.pkt.nd_reserved;
            return NO_RULE;
        }
        self.fold(wc, from);
        found
    }

    /// Notes in `wc` that all of the mask was looked at.
    #[inline]
    pub fn note_all(&self, wc: &mut FlowKey) {
        self.fold(wc, self.n_words());
    }

    /// Adds the mask's first `n` words to `wc`.
    #[inline]
    fn fold(&self, wc: &mut FlowKey, n: usize) {
        let out = wc.words_mut();
        for w in &self.words[..n] {
            out[w.position] |= w.mask;
        }
    }

    /// Priority and rule in a slot that a lookup returned; the lowest priority and none in [`NO_RULE`].
    #[inline]
    pub fn rule(&self, slot: u32) -> (i32, Option<&R>) {
        let s = &self.slots[slot as usize];
        (s.priority, s.rule.as_ref())
    }

    /// The slot of exactly this key and priority, and the one before it in its chain.
    fn exact(&self, key: &FlowKey, priority: i32) -> Option<(u32, u32)> {
        let (mut prev, mut at) = (NIL, self.find(key));
        while at != NO_RULE && at != NIL {
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
    pub fn chain(&self, head: u32) -> impl Iterator<Item = (u32, i32, &R)> {
        let mut at = head;
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
        match self.find_hashed(hash, words) {
            NO_RULE => {
                let (keys, ws) = (&self.keys, &self.words);
                self.heads.insert(hash, new, |s| {
                    let key = &keys[s as usize * ws.len()..][..ws.len()];
                    let terms = ws.iter().zip(key).map(|(w, &v)| w.term(v));
                    finish(terms.fold(0, u64::wrapping_add))
                });
                self.count_stages(&masked, Digests::add);
                if self.ports_len > 0 {
                    self.ports.insert(ports(key) & ports(&self.mask), self.ports_len);
                }
            }
            head if self.slots[head as usize].priority < priority => {
                self.slots[new as usize].next = head;
                self.heads.replace(hash, head, new);
            }
            head => {
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
                self.heads.replace(hash, at, next);
            } else {
                self.heads.remove(hash, at);
                let masked: Vec<u64> = self.key(at).into();
                self.count_stages(&masked, Digests::remove);
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
        let mut to = 1;
        for (at, place) in moved.iter_mut().enumerate().skip(1) {
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

    /// Tells the stages of a key that came or went.
    fn count_stages(&mut self, masked: &[u64], count: fn(&mut Digests, u64)) {
        let (mut x, mut from) = (0u64, 0);
        let last = self.stages.len().saturating_sub(1);
        for stage in self.stages.iter_mut().take(last) {
            for (w, &v) in self.words[from..stage.to].iter().zip(&masked[from..stage.to]) {
                x = w.term(v).wrapping_add(x);
            }
            from = stage.to;
            count(&mut stage.digests, x);
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Keys that differ in a few bits only, wherever those are, fill as many places as random ones would.
    #[test]
    fn hashes_of_similar_keys_differ() {
        const N: u64 = 4096;
        let patterns: [fn(u64) -> [u64; 2]; 8] = [
            |i| [i, 0],
            |i| [i << 20, 0],
            |i| [i << 52, 0],
            |i| [i << 26, i],
            |i| [i.reverse_bits(), 5],
            |i| [i, i],
            |i| [i, i << 32],
            |i| [i & 63 | (i & !63) << 26, i >> 6],
        ];
        for key in 0..20 {
            let h = HashKey([key, key.wrapping_mul(0x9e37_79b9_7f4a_7c15)]);
            let mut mask = FlowKey::ZERO;
            mask.words_mut()[3] = u64::MAX;
            mask.words_mut()[90] = u64::MAX;
            let s: Subtable<()> = Subtable::new(h, &mask, &Prefixes::default());
            for (p, values) in patterns.iter().enumerate() {
                let hash = |i| {
                    let mut k = [0; FLOW_WORDS];
                    [k[3], k[90]] = values(i);
                    s.hash(&k)
                };
                let hashes: HashSet<u64> = (0..N).map(hash).collect();
                assert_eq!(hashes.len() as u64, N, "key {key}, pattern {p}");
                // Random ones fill 2589 of 4096 places, give or take 30.
                let low: HashSet<u64> = (0..N).map(|i| hash(i) & (N - 1)).collect();
                let high: HashSet<u64> = (0..N).map(|i| hash(i) >> 52).collect();
                let n = low.len().min(high.len());
                assert!(n >= 2400, "key {key}, pattern {p}: {n} of 4096 places");
            }
        }
    }
}
