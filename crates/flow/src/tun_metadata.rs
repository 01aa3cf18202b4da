//! Tunnel metadata: the options of Geneve headers as the fields `tun_metadata0` to `63`.
//!
//! Which option is which field, and how long it is, says the switch's [`TlvTable`]
//! (`ovs-ofctl add-tlv-map`). All options of a packet share 256 bytes of its key. [`TunMetadata`] says
//! itself which of its words belong to which field, so a key or a match can be read without the table:
//! a match that comes from a user or from the wire makes its own layout, fields in ascending order, and
//! [`TlvTable::place`] moves it to the table's before it meets packets.
//!
//! Invariants: within one switch every key has the table's layout, so words compare bit by bit. A
//! mask owns the words that its key owns. What only the writing of a match needs to know
//! ([`TunMetadata::len`] in bytes, whether a mask was said) stands in the mask alone, where the keys
//! of packets have zeros, and is gone once a match is placed.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::key::Match;

/// Number of fields.
pub const N_OPTIONS: usize = 64;
/// Bytes for all options of a packet.
pub const OPTION_SPACE: usize = 256;
/// Bytes of the longest option.
pub const MAX_OPTION_LEN: usize = 124;

const N_WORDS: usize = OPTION_SPACE / 4;

/// The value of an option, right-aligned: the last bytes are the option's.
pub type OptionValue = [u8; MAX_OPTION_LEN];

/// The tunnel options of a packet, or the bits of them that a mask has.
#[repr(C)]
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TunMetadata {
    /// Bit `i`: the packet has the option (in a mask: must have it).
    pub present: u64,
    /// In a mask, bit `i`: a mask was said for field `i`, although it may have all bits.
    masked: u64,
    /// In a mask, bit `i`: field `i` was said without a mask, although it may have no byte.
    exact: u64,
    /// In a mask, bit `i` of both: bytes by which option `i` is shorter than its words.
    pad: [u64; 2],
    /// Field number plus one of each 4-byte word of `data`; 0 for a word of nobody.
    owner: [u8; N_WORDS],
    data: [u8; OPTION_SPACE],
}

impl Default for TunMetadata {
    fn default() -> Self {
        TunMetadata::new_zeroed()
    }
}

impl TunMetadata {
    /// The words of field `i`, in order.
    fn words(&self, i: usize) -> impl DoubleEndedIterator<Item = usize> + Clone + use<> {
        let owner = self.owner;
        (0..N_WORDS).filter(move |&w| usize::from(owner[w]) == i + 1)
    }

    /// Bytes of field `i`; 0 also when it has no place here.
    pub fn len(&self, i: usize) -> usize {
        let pad = (self.pad[0] >> i & 1) | (self.pad[1] >> i & 1) << 1;
        (self.words(i).count() * 4).saturating_sub(pad as usize)
    }

    /// Whether nothing is known of any option.
    pub fn is_empty(&self) -> bool {
        *self == TunMetadata::default()
    }

    /// Whether the packet has option `i`.
    pub fn has(&self, i: usize) -> bool {
        self.present >> i & 1 != 0
    }

    /// The value of field `i`; zero when it is not there.
    pub fn get(&self, i: usize) -> OptionValue {
        let mut v = [0; MAX_OPTION_LEN];
        for (w, to) in self.words(i).rev().zip(v.rchunks_exact_mut(4)) {
            to.copy_from_slice(&self.data[4 * w..4 * w + 4]);
        }
        v
    }

    /// Gives the packet option `i` with this value. Does nothing when the field has no place here.
    pub fn set(&mut self, i: usize, v: &OptionValue) {
        for (w, from) in self.words(i).rev().zip(v.rchunks_exact(4)) {
            self.data[4 * w..4 * w + 4].copy_from_slice(from);
            self.present |= 1 << i;
        }
    }

    /// The 128 bits of field `i` from bit `ofs` up.
    pub fn bits(&self, i: usize, ofs: usize) -> u128 {
        let v = self.get(i);
        let end = MAX_OPTION_LEN - (ofs / 8).min(MAX_OPTION_LEN);
        // Seventeen bytes hold 128 bits wherever they begin.
        let byte = |j: usize| end.checked_sub(j + 1).map_or(0, |at| u128::from(v[at]));
        let low = (0..16).fold(0, |x, j| x | byte(j) << (8 * j));
        let shift = ofs % 8;
        if shift == 0 { low } else { low >> shift | byte(16) << (128 - shift) }
    }

    /// Sets the bits `mask << ofs` of field `i`.
    pub fn set_bits(&mut self, i: usize, ofs: usize, value: u128, mask: u128) {
        let mut v = self.get(i);
        for j in (0..128).filter(|j| mask >> j & 1 != 0) {
            let Some(at) = (MAX_OPTION_LEN - 1).checked_sub((ofs + j) / 8) else { break };
            let bit = 1 << ((ofs + j) % 8);
            v[at] = v[at] & !bit | if value >> j & 1 != 0 { bit } else { 0 };
        }
        self.set(i, &v);
    }

    /// Sets the bits of field `i` that `o` speaks of; all of them when it has no mask.
    pub fn set_masked(&mut self, i: usize, o: &OptionMatch) {
        let old = self.get(i);
        let bits = |at: usize| if o.masked { o.mask[at] } else { 0xff };
        self.set(i, &core::array::from_fn(|at| old[at] & !bits(at) | o.value[at] & bits(at)));
    }

    /// A mask of all bits of the options that are there.
    pub fn exact_mask(&self) -> TunMetadata {
        let mut m = TunMetadata { present: self.present, ..TunMetadata::default() };
        for (w, &o) in self.owner.iter().enumerate() {
            if o != 0 && self.has(usize::from(o) - 1) {
                m.owner[w] = o;
                m.data[4 * w..4 * w + 4].fill(0xff);
            }
        }
        m
    }

    /// Takes option `i` away, not its place.
    pub fn delete(&mut self, i: usize) {
        self.set(i, &[0; MAX_OPTION_LEN]);
        self.present &= !(1 << i);
    }

    /// Whether field `i` of this mask was said with a mask. One of no bits asks for the option alone.
    pub fn is_masked(&self, i: usize) -> bool {
        if (self.masked | self.exact) >> i & 1 != 0 {
            return self.masked >> i & 1 != 0;
        }
        let len = self.len(i);
        len == 0 || self.get(i)[MAX_OPTION_LEN - len..].iter().any(|&b| b != 0xff)
    }

    /// Numbers of the fields that are there (in a mask: that must be).
    pub fn fields(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let present = self.present;
        (0..N_OPTIONS).filter(move |&i| present >> i & 1 != 0)
    }

    /// Gives field `i` room for `len` bytes in the lowest free words; false when there is not enough.
    fn allocate(&mut self, i: usize, len: usize) -> bool {
        let n = len.div_ceil(4);
        if self.owner.iter().filter(|&&o| o == 0).count() < n {
            return false;
        }
        let free = self.owner.iter_mut().filter(|o| **o == 0);
        free.take(n).for_each(|o| *o = i as u8 + 1);
        let pad = (4 * n - len) as u64;
        self.pad[0] |= (pad & 1) << i;
        self.pad[1] |= (pad >> 1) << i;
        true
    }
}

/// One wanted option of a match.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct OptionMatch {
    /// The value wanted; no bit outside `mask`.
    pub value: OptionValue,
    /// Its significant bits; none when the option only has to be there.
    pub mask: OptionValue,
    /// Bytes of the option.
    pub len: usize,
    /// A mask was said.
    pub masked: bool,
}

impl OptionMatch {
    /// From value and mask as they were said; `None` is a mask of all bits. The option is as long as
    /// the longer of them without leading zeros.
    pub fn new(value: OptionValue, mask: Option<OptionValue>) -> OptionMatch {
        let mask = mask.filter(|m| m.iter().any(|&b| b != 0xff));
        let len =
            |v: &OptionValue| v.iter().position(|&b| b != 0).map_or(0, |i| MAX_OPTION_LEN - i);
        let n = len(&value).max(mask.as_ref().map_or(0, len));
        let value = match mask {
            Some(m) => core::array::from_fn(|i| value[i] & m[i]),
            None => value,
        };
        let ones = core::array::from_fn(|i| if MAX_OPTION_LEN - i <= n { 0xff } else { 0 });
        OptionMatch { value, mask: mask.unwrap_or(ones), len: n, masked: mask.is_some() }
    }
}

impl Match {
    /// What is wanted of `tun_metadata` field `i`, if anything is.
    pub fn tun_option(&self, i: usize) -> Option<OptionMatch> {
        let (k, m) = (&self.key.tun_metadata, &self.mask.tun_metadata);
        m.has(i).then(|| OptionMatch {
            value: k.get(i),
            mask: m.get(i),
            len: m.len(i),
            masked: m.is_masked(i),
        })
    }

    /// Wants option `i`, in a layout of the match's own. False when all options together are too long.
    pub fn set_tun_option(&mut self, i: usize, option: &OptionMatch) -> bool {
        let old = *self;
        let (mut k, mut m) = (TunMetadata::default(), TunMetadata::default());
        for j in 0..N_OPTIONS {
            let wanted = if j == i { Some(*option) } else { old.tun_option(j) };
            let Some(o) = wanted else { continue };
            if !m.allocate(j, o.len) {
                return false;
            }
            k.owner = m.owner;
            m.masked |= u64::from(o.masked) << j;
            m.exact |= u64::from(!o.masked) << j;
            for (t, v) in [(&mut k, &o.value), (&mut m, &o.mask)] {
                t.set(j, v);
                t.present |= 1 << j;
            }
        }
        // An option may be wanted absent.
        k.present &= !(old.mask.tun_metadata.present & !old.key.tun_metadata.present & !(1 << i));
        (self.key.tun_metadata, self.mask.tun_metadata) = (k, m);
        true
    }
}

/// A line of the [`TlvTable`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TlvMap {
    /// Geneve option class.
    pub class: u16,
    /// Geneve option type.
    pub kind: u8,
    /// Bytes of the option, a multiple of 4 up to [`MAX_OPTION_LEN`].
    pub len: u8,
    /// Number of the `tun_metadata` field.
    pub index: u16,
}

/// Why a [`TlvMap`] is not taken: the errors of `NXT_TLV_TABLE_MOD` (`NXTTMFC_*`).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum TlvError {
    /// The length is no multiple of 4 or too large.
    BadOptLen,
    /// There is no field with that number.
    BadFieldIdx,
    /// No room for so many bytes.
    TableFull,
    /// The field has an option already.
    AlreadyMapped,
    /// The option has a field already.
    DupEntry,
}

/// Which option is which field, in one switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlvTable {
    /// Class and type of each field's option.
    options: alloc::collections::BTreeMap<u8, (u16, u8)>,
    layout: TunMetadata,
}

impl TlvTable {
    /// Adds a line. Whoever adds several at once works on a copy: all or nothing.
    pub fn add(&mut self, map: TlvMap) -> Result<(), TlvError> {
        let i = usize::from(map.index);
        if i >= N_OPTIONS {
            return Err(TlvError::BadFieldIdx);
        }
        if !map.len.is_multiple_of(4) || usize::from(map.len) > MAX_OPTION_LEN {
            return Err(TlvError::BadOptLen);
        }
        if self.options.contains_key(&(i as u8)) {
            return Err(TlvError::AlreadyMapped);
        }
        if self.field_of(map.class, map.kind).is_some() {
            return Err(TlvError::DupEntry);
        }
        if !self.layout.allocate(i, map.len.into()) {
            return Err(TlvError::TableFull);
        }
        self.options.insert(i as u8, (map.class, map.kind));
        Ok(())
    }

    /// Takes the line of field `index` out, if there is one. The caller makes sure that no flow uses
    /// it ([`TunMetadata::present`] of the flows' masks).
    pub fn remove(&mut self, index: u16) {
        if let Ok(i) = u8::try_from(index)
            && self.options.remove(&i).is_some()
        {
            self.layout.owner.iter_mut().filter(|o| **o == i + 1).for_each(|o| *o = 0);
        }
    }

    /// The lines, by field number.
    pub fn iter(&self) -> impl Iterator<Item = TlvMap> + '_ {
        self.options.iter().map(|(&i, &(class, kind))| TlvMap {
            class,
            kind,
            len: self.layout.len(i.into()) as u8,
            index: i.into(),
        })
    }

    /// Whether field `i` has an option.
    pub fn has(&self, i: usize) -> bool {
        u8::try_from(i).is_ok_and(|i| self.options.contains_key(&i))
    }

    /// Number of the field for an option.
    pub fn field_of(&self, class: u16, kind: u8) -> Option<u8> {
        self.options.iter().find(|(_, o)| **o == (class, kind)).map(|(&i, _)| i)
    }

    /// Tunnel metadata of a packet without options: the layout alone.
    pub fn layout(&self) -> &TunMetadata {
        &self.layout
    }

    /// `from`'s options in this table's layout; those without a line here are dropped.
    pub fn rearrange(&self, from: &TunMetadata) -> TunMetadata {
        let mut to = self.layout;
        for i in from.fields().filter(|&i| self.has(i)) {
            to.set(i, &from.get(i));
            to.present |= 1 << i;
        }
        to
    }

    /// Moves a match to this table's layout. A field without a line here is the error
    /// (`NXFMFC_INVALID_TLV_FIELD`).
    pub fn place(&self, m: &mut Match) -> Result<(), u8> {
        let (key, mask) = (m.key.tun_metadata, m.mask.tun_metadata);
        let (mut k, mut w) = (TunMetadata::default(), TunMetadata::default());
        for i in mask.fields() {
            if !self.has(i) {
                return Err(i as u8);
            }
            for (o, l) in w.owner.iter_mut().zip(self.layout.owner) {
                if usize::from(l) == i + 1 {
                    *o = l;
                }
            }
            k.owner = w.owner;
            let mut bits = mask.get(i);
            if !mask.is_masked(i) {
                // Exact means all of the option, also what was left out as leading zeros.
                bits = [0xff; MAX_OPTION_LEN];
            }
            k.set(i, &key.get(i));
            w.set(i, &bits);
        }
        k.present = key.present & mask.present;
        w.present = mask.present;
        (m.key.tun_metadata, m.mask.tun_metadata) = (k, w);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn value(bytes: &[u8]) -> OptionValue {
        let mut v = [0; MAX_OPTION_LEN];
        v[MAX_OPTION_LEN - bytes.len()..].copy_from_slice(bytes);
        v
    }

    fn exact(bytes: &[u8]) -> OptionMatch {
        let mut mask = [0; MAX_OPTION_LEN];
        mask[MAX_OPTION_LEN - bytes.len()..].fill(0xff);
        OptionMatch { value: value(bytes), mask, len: bytes.len(), masked: false }
    }

    fn map(class: u16, kind: u8, len: u8, index: u16) -> TlvMap {
        TlvMap { class, kind, len, index }
    }

    #[test]
    fn the_table_refuses_what_cannot_be() {
        let mut t = TlvTable::default();
        assert_eq!(t.add(map(1, 2, 6, 0)), Err(TlvError::BadOptLen));
        assert_eq!(t.add(map(1, 2, 128, 0)), Err(TlvError::BadOptLen));
        assert_eq!(t.add(map(1, 2, 4, 64)), Err(TlvError::BadFieldIdx));
        assert_eq!(t.add(map(1, 2, 124, 3)), Ok(()));
        assert_eq!(t.add(map(1, 3, 4, 3)), Err(TlvError::AlreadyMapped));
        assert_eq!(t.add(map(1, 2, 4, 4)), Err(TlvError::DupEntry));
        assert_eq!(t.add(map(1, 3, 124, 4)), Ok(()));
        assert_eq!(t.add(map(1, 4, 12, 5)), Err(TlvError::TableFull));
        assert_eq!(t.add(map(1, 4, 8, 5)), Ok(()));
        assert_eq!(t.iter().map(|m| m.index).collect::<Vec<_>>(), [3, 4, 5]);
        t.remove(3);
        t.remove(3);
        assert_eq!(t.add(map(1, 2, 120, 3)), Ok(()));
        assert_eq!(t.field_of(1, 2), Some(3));
    }

    #[test]
    fn a_match_keeps_what_was_said_whatever_the_order() {
        let (a, b) = (exact(&[1, 2, 3, 4, 5]), exact(&[9]));
        let (mut x, mut y) = (Match::ANY, Match::ANY);
        assert!(x.set_tun_option(7, &a) && x.set_tun_option(2, &b));
        assert!(y.set_tun_option(2, &b) && y.set_tun_option(7, &a));
        assert_eq!(x, y);
        assert_eq!((x.tun_option(7), x.tun_option(2), x.tun_option(3)), (Some(a), Some(b), None));
        assert_eq!(x.key, &x.key & &x.mask);
        // 124 + 124 + 8 bytes are all there is.
        let big = exact(&[1; 124]);
        assert!(x.set_tun_option(8, &big));
        assert!(!x.set_tun_option(9, &big));
        assert!(x.tun_option(9).is_none());
    }

    #[test]
    fn a_placed_match_meets_packets() {
        let mut t = TlvTable::default();
        for m in [map(1, 1, 4, 9), map(1, 2, 8, 0), map(1, 3, 4, 1)] {
            t.add(m).unwrap();
        }
        let mut m = Match::ANY;
        assert!(m.set_tun_option(9, &exact(&[5])));
        assert!(m.set_tun_option(0, &exact(&[7, 0, 0, 0, 0])));
        t.place(&mut m).unwrap();
        let mut k = crate::FlowKey::ZERO;
        k.tun_metadata = *t.layout();
        assert!(!m.matches(&k));
        k.tun_metadata.set(9, &value(&[5]));
        k.tun_metadata.set(0, &value(&[7, 0, 0, 0, 0]));
        k.tun_metadata.set(1, &value(&[1]));
        assert!(m.matches(&k));
        k.tun_metadata.set(9, &value(&[1, 0, 0, 5]));
        assert!(!m.matches(&k), "exact is exact in all bytes");
        k.tun_metadata.set(9, &value(&[5]));
        k.tun_metadata.delete(0);
        assert!(!m.matches(&k));
        let mut absent = Match::ANY;
        assert!(absent.set_tun_option(2, &exact(&[5])));
        assert_eq!(t.place(&mut absent), Err(2));
    }
}
