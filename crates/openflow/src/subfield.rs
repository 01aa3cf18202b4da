//! A part of a field: what `load`, `move`, `output:NXM_NX_REG0[0..15]` and the like speak of.

use flow::{Field, FieldId, FlowKey};

/// Bits `ofs..ofs + n_bits` of a field, bit 0 being the least significant.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    /// The field.
    pub field: FieldId,
    /// First bit.
    pub ofs: u8,
    /// Number of bits, 1 to 128.
    pub n_bits: u8,
}

impl Subfield {
    /// The whole of a field.
    pub fn whole(field: FieldId) -> Subfield {
        Subfield { field, ofs: 0, n_bits: field.row().bits as u8 }
    }

    /// The field's row.
    pub fn row(self) -> &'static Field {
        self.field.row()
    }

    /// Whether it is all of its field.
    pub fn is_whole(self) -> bool {
        self.ofs == 0 && u16::from(self.n_bits) == self.row().bits
    }

    /// The highest value it holds.
    pub fn max(self) -> u128 {
        if self.n_bits >= 128 { u128::MAX } else { (1 << self.n_bits) - 1 }
    }

    /// Its bits, in place in the field.
    pub fn mask(self) -> u128 {
        self.max() << self.ofs
    }

    /// Its value in `key`.
    pub fn get(self, key: &FlowKey) -> u128 {
        (self.row().get(key) >> self.ofs) & self.max()
    }

    /// Sets it in `key`; higher bits of `value` are dropped.
    pub fn set(self, key: &mut FlowKey, value: u128) {
        self.row().set_masked(key, (value & self.max()) << self.ofs, self.mask());
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
}
