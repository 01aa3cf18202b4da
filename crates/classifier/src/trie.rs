//! Sets of address prefixes, and how many leading bits of an address tell which of them it has.
//!
//! A path-compressed binary tree. A node stands for a prefix; its children's prefixes begin with
//! it. Nodes without a rule exist only where two branches part (and as the root).

use alloc::vec::Vec;
use core::fmt::Debug;

/// An address as an integer whose most significant bit is the first.
pub trait Bits: Copy + Eq + Debug {
    /// Number of bits.
    const LEN: u8;
    /// All zero.
    const ZERO: Self;
    /// Bit `i`, counted from the first, as 0 or 1.
    fn bit(self, i: u8) -> usize;
    /// The first `n` bits; the rest zero.
    fn prefix(self, n: u8) -> Self;
    /// How many leading bits `self` and `other` share.
    fn common(self, other: Self) -> u8;
}

macro_rules! bits {
    ($($t:ty)*) => {$(
        impl Bits for $t {
            const LEN: u8 = <$t>::BITS as u8;
            const ZERO: Self = 0;
            #[inline]
            fn bit(self, i: u8) -> usize {
                (self >> (Self::LEN - 1 - i)) as usize & 1
            }
            #[inline]
            fn prefix(self, n: u8) -> Self {
                if n == 0 { 0 } else { self & (<$t>::MAX << (Self::LEN - n)) }
            }
            #[inline]
            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
        }
    )*};
}
bits!(u32 u128);

const NIL: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Copy, Clone, Debug)]
struct Node<B> {
    prefix: B,
    plen: u8,
    n_rules: u32,
    kids: [u32; 2],
}

/// A multiset of prefixes.
#[derive(Clone, Debug)]
pub struct Trie<B> {
    nodes: Vec<Node<B>>,
    free: Vec<u32>,
}

/// What a lookup found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TrieMatch {
    /// Bit `n` is set when the set has a prefix of `n` bits that the address begins with (0 < `n`);
    /// `n` = 128 is bit 0.
    plens: u128,
    /// How many leading bits of the address decide `plens`.
    pub n_bits: u8,
}

impl TrieMatch {
    /// Whether the address begins with a prefix of `plen` bits that is in the set.
    #[inline]
    pub fn has(self, plen: u8) -> bool {
        self.plens >> (plen & 127) & 1 != 0
    }
}

impl<B: Bits> Default for Trie<B> {
    fn default() -> Self {
        let root = Node { prefix: B::ZERO, plen: 0, n_rules: 0, kids: [NIL; 2] };
        Trie { nodes: alloc::vec![root], free: Vec::new() }
    }
}

impl<B: Bits> Trie<B> {
    /// Adds one rule with the prefix of `plen` bits of `value`.
    pub fn insert(&mut self, value: B, plen: u8) {
        let value = value.prefix(plen);
        let mut at = ROOT;
        loop {
            let node = self.nodes[at as usize];
            if node.plen == plen {
                self.nodes[at as usize].n_rules += 1;
                return;
            }
            let side = value.bit(node.plen);
            let kid = node.kids[side];
            if kid == NIL {
                let leaf = self.alloc(value, plen, 1);
                self.nodes[at as usize].kids[side] = leaf;
                return;
            }
            let k = self.nodes[kid as usize];
            let shared = value.common(k.prefix).min(plen).min(k.plen);
            if shared < k.plen {
                // The paths part inside the edge.
                let mid = self.alloc(value.prefix(shared), shared, 0);
                self.nodes[mid as usize].kids[k.prefix.bit(shared)] = kid;
                self.nodes[at as usize].kids[side] = mid;
                at = mid;
            } else {
                at = kid;
            }
        }
    }

    /// Takes one rule with that prefix away. Does nothing if there is none.
    pub fn remove(&mut self, value: B, plen: u8) {
        let value = value.prefix(plen);
        let mut path: [(u32, usize); 2] = [(NIL, 0); 2];
        let mut at = ROOT;
        loop {
            let node = self.nodes[at as usize];
            if node.prefix != value.prefix(node.plen) || node.plen > plen {
                return;
            }
            if node.plen == plen {
                break;
            }
            let side = value.bit(node.plen);
            path = [path[1], (at, side)];
            at = node.kids[side];
            if at == NIL {
                return;
            }
        }
        let node = &mut self.nodes[at as usize];
        node.n_rules = node.n_rules.saturating_sub(1);
        if self.shrink(at, path[1]) {
            self.shrink(path[1].0, path[0]);
        }
    }

    /// Removes node `at` if it stands for nothing; tells whether its parent may now do so.
    fn shrink(&mut self, at: u32, (parent, side): (u32, usize)) -> bool {
        if at == ROOT || parent == NIL {
            return false;
        }
        let node = self.nodes[at as usize];
        if node.n_rules != 0 || node.kids.iter().all(|&k| k != NIL) {
            return false;
        }
        let heir = if node.kids[0] != NIL { node.kids[0] } else { node.kids[1] };
        self.nodes[parent as usize].kids[side] = heir;
        self.free.push(at);
        heir == NIL
    }

    /// Which prefixes of the set `value` begins with.
    pub fn lookup(&self, value: B) -> TrieMatch {
        let mut plens = 0;
        let mut node = &self.nodes[ROOT as usize];
        loop {
            if node.n_rules > 0 && node.plen > 0 {
                plens |= 1 << (node.plen & 127);
            }
            if node.plen == B::LEN || node.kids == [NIL; 2] {
                return TrieMatch { plens, n_bits: node.plen };
            }
            let kid = node.kids[value.bit(node.plen)];
            if kid == NIL {
                return TrieMatch { plens, n_bits: node.plen + 1 };
            }
            let k = &self.nodes[kid as usize];
            let shared = value.common(k.prefix);
            if shared < k.plen {
                return TrieMatch { plens, n_bits: shared + 1 };
            }
            node = k;
        }
    }

    fn alloc(&mut self, prefix: B, plen: u8, n_rules: u32) -> u32 {
        let node = Node { prefix, plen, n_rules, kids: [NIL; 2] };
        if let Some(i) = self.free.pop() {
            self.nodes[i as usize] = node;
            return i;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    #[cfg(test)]
    fn n_nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn bits_needed_are_the_fewest() {
        let mut t = Trie::<u32>::default();
        assert_eq!(t.lookup(5), TrieMatch { plens: 0, n_bits: 0 }, "nothing to tell apart");
        t.insert(0xc0a8_0000, 16);
        let m = t.lookup(0xc0a8_0101);
        assert!(m.has(16) && !m.has(24));
        assert_eq!(m.n_bits, 16, "nothing below the leaf");
        assert_eq!(t.lookup(0x0a00_0001).n_bits, 1, "the first bit differs");
        assert_eq!(t.lookup(0xc0a9_0001).n_bits, 16);
        t.insert(0xc0a8_0100, 24);
        let m = t.lookup(0xc0a8_0101);
        assert!(m.has(16) && m.has(24));
        assert_eq!(t.lookup(0xc0a8_8001).n_bits, 17);
        t.remove(0xc0a8_0100, 24);
        t.remove(0xc0a8_0000, 16);
        assert_eq!(t.n_nodes(), 1);
    }

    proptest! {
        /// Against a list: the prefixes found are right and depend on the first n_bits only.
        #[test]
        fn agrees_with_a_list(
            ops in prop::collection::vec((any::<bool>(), 0u32..64, 1u8..=32), 0..60),
            probe in 0u32..64, noise in any::<u32>(),
        ) {
            let mut t = Trie::<u32>::default();
            let mut list: Vec<(u32, u8)> = Vec::new();
            for (add, v, plen) in ops {
                let v = (v << 26 | v << 10).prefix(plen);
                if add {
                    t.insert(v, plen);
                    list.push((v, plen));
                } else {
                    t.remove(v, plen);
                    if let Some(i) = list.iter().position(|&e| e == (v, plen)) {
                        list.swap_remove(i);
                    }
                }
            }
            let value = probe << 26 | probe << 10;
            let m = t.lookup(value);
            let want = |value: u32, n: u8| list.iter().any(|&(v, p)| p == n && value.prefix(n) == v);
            let twin = value.prefix(m.n_bits) | (noise & !u32::MAX.prefix(m.n_bits));
            for n in 1..=32 {
                prop_assert_eq!(m.has(n), want(value, n));
                prop_assert_eq!(m.has(n), want(twin, n), "twin {:x} of {:x}", twin, value);
            }
            for (v, p) in list {
                t.remove(v, p);
            }
            prop_assert_eq!(t.n_nodes(), 1);
        }
    }

    #[test]
    fn full_length_ipv6_prefixes() {
        let mut t = Trie::<u128>::default();
        t.insert(7, 128);
        assert!(t.lookup(7).has(128));
        assert!(!t.lookup(6).has(128));
        assert_eq!(t.lookup(6).n_bits, 128);
    }
}
