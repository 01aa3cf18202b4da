//! A part of a field: what `load`, `move`, `output:NXM_NX_REG0[0..15]` and the like speak of.

use flow::{Field, FieldId, FlowKey};

/// Bits `ofs..ofs + n_bits` of a field, bit 0 being the least significant.
///
/// As a value it is at most 128 bits; of a longer part, which only the options of a tunnel header have,
/// those are the lowest.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    /// The field.
    pub field: FieldId,
    /// First bit.
    pub ofs: u16,
    /// Number of bits, at least 1.
    pub n_bits: u16,
}

impl Subfield {
    /// The whole of a field.
    pub fn whole(field: FieldId) -> Subfield {
        Subfield { field, ofs: 0, n_bits: field.row().bits }
    }

    /// The field's row.
    pub fn row(self) -> &'static Field {
        self.field.row()
    }

    /// Whether it is all of its field.
    pub fn is_whole(self) -> bool {
        self.ofs == 0 && self.n_bits == self.row().bits
    }

    /// The highest value it holds.
    pub fn max(self) -> u128 {
        if self.n_bits >= 128 { u128::MAX } else { (1 << self.n_bits) - 1 }
    }

    /// Its bits, in place in the field.
    pub fn mask(self) -> u128 {
        self.max().checked_shl(self.ofs.into()).unwrap_or(0)
    }

    /// Its value in `key`.
    pub fn get(self, key: &FlowKey) -> u128 {
        match self.row().tun_option() {
            Some(i) => key.tun_metadata.bits(i, self.ofs.into()) & self.max(),
            None => ((self.row().get(key) & self.row().own_bits()) >> self.ofs) & self.max(),
        }
    }

    /// Sets it in `key`; higher bits of `value` are dropped.
    pub fn set(self, key: &mut FlowKey, value: u128) {
        match self.row().tun_option() {
            Some(i) => key.tun_metadata.set_bits(i, self.ofs.into(), value, self.max()),
            None => {
                let mask = self.mask() & self.row().own_bits();
                self.row().set_masked(key, (value & self.max()) << self.ofs, mask);
            }
        }
    }

    /// Its parts of at most 128 bits, lowest first.
    pub fn parts(self) -> impl Iterator<Item = Subfield> {
        (0..self.n_bits).step_by(128).map(move |at| Subfield {
            field: self.field,
            ofs: self.ofs + at,
            n_bits: (self.n_bits - at).min(128),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_only_its_bits() {
        let sf = Subfield { field: FieldId::Reg3, ofs: 4, n_bits: 8 };
        let mut k = FlowKey::ZERO;
        k.regs[3] = 0xffff_ffff;
        sf.set(&mut k, 0x1a5);
        assert_eq!(k.regs[3], 0xffff_fa5f);
        assert_eq!(sf.get(&k), 0xa5);
        assert!(Subfield::whole(FieldId::CtLabel).is_whole());
        assert_eq!(Subfield::whole(FieldId::CtLabel).max(), u128::MAX);
    }

    #[test]
    fn long_options_are_handled_in_parts() {
        let mut table = flow::TlvTable::default();
        table.add(flow::TlvMap { class: 1, kind: 2, len: 28, index: 3 }).unwrap();
        let mut k = FlowKey { tun_metadata: *table.layout(), ..FlowKey::ZERO };
        let sf = Subfield { field: FieldId::TunMetadata3, ofs: 60, n_bits: 160 };
        for (i, part) in sf.parts().enumerate() {
            part.set(&mut k, 0x1234_5678_9abc_def0 << (4 * i));
        }
        let got: std::vec::Vec<_> = sf.parts().map(|p| p.get(&k)).collect();
        assert_eq!(got, [0x1234_5678_9abc_def0, 0xabcd_ef00]);
        assert_eq!(Subfield { ofs: 0, n_bits: 60, ..sf }.get(&k), 0);
        assert_eq!(Subfield { ofs: 56, n_bits: 8, ..sf }.get(&k), 0);
        assert!(k.tun_metadata.has(3));
    }
}
