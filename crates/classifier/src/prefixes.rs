//! The prefix trees of a classifier, one for each field that it tracks.

use alloc::vec::Vec;

use flow::{FieldId, FlowKey};

use crate::trie::{Trie, TrieMatch};

/// Fields whose prefixes can be tracked (`ovs-vswitchd.conf.db(5)`, Flow_Table, `prefixes`).
pub const PREFIX_FIELDS: [FieldId; 9] = [
    FieldId::IpDst,
    FieldId::IpSrc,
    FieldId::Ipv6Dst,
    FieldId::Ipv6Src,
    FieldId::TunId,
    FieldId::TunSrc,
    FieldId::TunDst,
    FieldId::TunIpv6Src,
    FieldId::TunIpv6Dst,
];

/// Most fields that are tracked at once.
pub const MAX_PREFIX_FIELDS: usize = 4;

/// Prefix length of a mask in each tracked field; 0 where it is none, or not a prefix.
pub(crate) type Plens = [u8; MAX_PREFIX_FIELDS];

/// The values of a field are its leading bits.
#[derive(Clone, Debug)]
enum Tree {
    Short(Trie<u32>),
    Long(Trie<u128>),
}

/// A field and the prefixes of it that rules match.
#[derive(Clone, Debug)]
struct Tracked {
    field: FieldId,
    tree: Tree,
}

/// The value of a field, its first bit first.
#[inline]
fn leading(field: FieldId, k: &FlowKey) -> u128 {
    // The common ones without a detour.
    match field {
        FieldId::IpDst => u128::from(k.pkt.nw_dst) << 96,
        FieldId::IpSrc => u128::from(k.pkt.nw_src) << 96,
        FieldId::Ipv6Dst => u128::from_be_bytes(k.pkt.ipv6_dst),
        FieldId::Ipv6Src => u128::from_be_bytes(k.pkt.ipv6_src),
        _ => field.row().get(k) << (128 - u32::from(field.row().bits)),
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes(Vec<Tracked>);

impl Default for Prefixes {
    /// IPv4 and IPv6 addresses.
    fn default() -> Self {
        Prefixes::new(&PREFIX_FIELDS[..MAX_PREFIX_FIELDS])
    }
}

impl Prefixes {
    /// Trees for the first [`MAX_PREFIX_FIELDS`] of `fields` that can have one.
    pub fn new(fields: &[FieldId]) -> Prefixes {
        let fields = fields.iter().filter(|f| PREFIX_FIELDS.contains(f)).take(MAX_PREFIX_FIELDS);
        let track = |&field: &FieldId| {
            let short = field.row().bits <= 32;
            let tree =
                if short { Tree::Short(Trie::default()) } else { Tree::Long(Trie::default()) };
            Tracked { field, tree }
        };
        Prefixes(fields.map(track).collect())
    }

    /// Whether these are the fields.
    pub fn tracks(&self, fields: &[FieldId]) -> bool {
        self.0.iter().map(|t| t.field).eq(fields.iter().copied())
    }

    /// Prefix lengths of a mask.
    pub fn plens(&self, mask: &FlowKey) -> Plens {
        let mut plens = Plens::default();
        for (plen, t) in plens.iter_mut().zip(&self.0) {
            let m = leading(t.field, mask);
            if m.leading_ones() == m.count_ones() {
                *plen = m.leading_ones() as u8;
            }
        }
        plens
    }

    /// Which fields have bits in these words of a mask, one bit for each field.
    pub fn in_words(&self, plens: &Plens, words: impl Fn(usize) -> bool) -> u8 {
        let lies_in = |t: &Tracked| {
            let mut k = FlowKey::ZERO;
            t.field.row().set(&mut k, t.field.row().all_ones());
            k.words().iter().enumerate().any(|(i, &w)| w != 0 && words(i))
        };
        let fields = self.0.iter().zip(plens).enumerate();
        fields.filter(|(_, (t, plen))| **plen > 0 && lies_in(t)).fold(0, |m, (i, _)| m | 1 << i)
    }

    /// Adds the prefixes that a rule matches, or takes them away.
    pub fn change(&mut self, key: &FlowKey, plens: &Plens, add: bool) {
        for (t, &plen) in self.0.iter_mut().zip(plens).filter(|e| *e.1 > 0) {
            let value = leading(t.field, key);
            match (&mut t.tree, add) {
                (Tree::Short(tree), true) => tree.insert((value >> 96) as u32, plen),
                (Tree::Short(tree), false) => tree.remove((value >> 96) as u32, plen),
                (Tree::Long(tree), true) => tree.insert(value, plen),
                (Tree::Long(tree), false) => tree.remove(value, plen),
            }
        }
    }

    /// Which prefixes of field `i` the packet has.
    pub fn lookup(&self, i: usize, key: &FlowKey) -> TrieMatch {
        let value = leading(self.0[i].field, key);
        match &self.0[i].tree {
            Tree::Short(tree) => tree.lookup((value >> 96) as u32),
            Tree::Long(tree) => tree.lookup(value),
        }
    }

    /// Marks the first `n` bits of field `i` as looked at.
    pub fn note(&self, wc: &mut FlowKey, i: usize, n: u8) {
        let row = self.0[i].field.row();
        let first = u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0);
        row.set(wc, row.get(wc) | first >> (128 - u32::from(row.bits)));
    }
}
