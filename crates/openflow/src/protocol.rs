//! Flow formats: the ways of saying a flow, and which of them can say what.
//!
//! OpenFlow 1.0 has two forms, its own and Nicira's (NXM), each with or without Nicira's way of saying
//! the table. Names and order are those of `ovs-ofctl -F`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use flow::Field;
use flow::field::{Fixed, MaskRule};

use crate::version::Version;

/// One flow format.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: Version,
    /// In Nicira's form (1.0).
    pub nicira: bool,
    /// Says the table (1.0's extension).
    pub table_id: bool,
}

const fn row(name: &'static str, version: Version, nicira: bool, table_id: bool) -> Protocol {
    Protocol { name, version, nicira, table_id }
}

/// All formats, in order of preference.
pub const PROTOCOLS: [Protocol; 9] = [
    row("OpenFlow10-table_id", Version::Of10, false, false),
    row("OpenFlow10+table_id", Version::Of10, false, true),
    row("NXM-table_id", Version::Of10, true, false),
    row("NXM+table_id", Version::Of10, true, true),
    row("OpenFlow11", Version::Of11, false, true),
    row("OXM-OpenFlow12", Version::Of12, false, true),
    row("OXM-OpenFlow13", Version::Of13, false, true),
    row("OXM-OpenFlow14", Version::Of14, false, true),
    row("OXM-OpenFlow15", Version::Of15, false, true),
];

/// A set of formats: bit N is row N of [`PROTOCOLS`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocols(u16);

/// Names of sets.
const ABBREVIATIONS: [(&str, Protocols); 4] = [
    ("any", Protocols::ALL),
    ("OpenFlow10", Protocols(0b11)),
    ("NXM", Protocols(0b1100)),
    ("OXM", Protocols(0b1_1110_0000)),
];

impl Protocols {
    /// No format.
    pub const NONE: Protocols = Protocols(0);
    /// Every format.
    pub const ALL: Protocols = Protocols(0b1_1111_1111);
    /// Those of 1.0.
    pub const OF10: Protocols = Protocols(0b1111);
    /// Nicira's, and 1.2 and later.
    pub const NXM_OXM: Protocols = Protocols(0b1_1110_1100);
    /// Nicira's, and 1.1 and later.
    pub const NXM_OF11_UP: Protocols = Protocols(0b1_1111_1100);
    /// 1.1 and later.
    pub const OF11_UP: Protocols = Protocols(0b1_1111_0000);
    /// 1.2 and later.
    pub const OF12_UP: Protocols = Protocols(0b1_1110_0000);
    /// 1.3 and later.
    pub const OF13_UP: Protocols = Protocols(0b1_1100_0000);
    /// 1.5.
    pub const OF15_UP: Protocols = Protocols(0b1_0000_0000);
    /// Those that say the table.
    pub const TABLE_ID: Protocols = Protocols(0b1_1111_1010);

    /// Those of the versions in a bitmap.
    pub fn of_versions(bitmap: u32) -> Protocols {
        Protocols::of(|p| p.version.bit() & bitmap != 0)
    }

    /// Those that `f` says.
    pub fn of(f: impl Fn(&Protocol) -> bool) -> Protocols {
        let bits = PROTOCOLS.iter().enumerate().filter(|p| f(p.1)).map(|p| 1 << p.0);
        Protocols(bits.fold(0, |a, b: u16| a | b))
    }

    /// Those in which the whole of a field can be matched or set.
    pub fn exact(f: &Field) -> Protocols {
        match f.fixed {
            [Fixed::No, Fixed::No] if f.oxms.is_empty() && !f.is_vlan_alias() => Protocols::NONE,
            [Fixed::No, Fixed::No] => Protocols::NXM_OXM,
            [Fixed::No, _] => Protocols::NXM_OF11_UP,
            _ => Protocols::ALL,
        }
    }

    /// Those in which a match may ask for the bits `mask` of a field: `ones` is all of its bytes.
    pub fn masked(f: &Field, mask: u128, ones: u128) -> Protocols {
        let prefix = mask as u32;
        match f.fixed {
            _ if mask == ones => Protocols::exact(f),
            _ if mask == 0 => Protocols::ALL,
            [Fixed::Prefix, _] if prefix.leading_ones() == prefix.count_ones() => Protocols::ALL,
            [_, Fixed::Bits] => Protocols::NXM_OF11_UP,
            _ if f.mask == MaskRule::Exact => Protocols::NONE,
            _ => Protocols::NXM_OXM,
        }
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Protocols) -> Protocols {
        Protocols(self.0 & other.0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Also the formats that lack but the table.
    pub fn without_table(self) -> Protocols {
        Protocols(self.0 | self.0 >> 1 & 0b101)
    }

    /// Whether all of `other` are among them.
    pub fn contains(self, other: Protocols) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rows.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = &'static Protocol> {
        PROTOCOLS.iter().enumerate().filter(move |p| self.0 & 1 << p.0 != 0).map(|p| p.1)
    }

    /// The formats with this name, of one or of several; letter case does not matter.
    pub fn by_name(name: &str) -> Option<Protocols> {
        let several = ABBREVIATIONS.iter().find(|a| a.0.eq_ignore_ascii_case(name)).map(|a| a.1);
        let one = || Protocols::of(|p| p.name.eq_ignore_ascii_case(name));
        Some(several.unwrap_or_else(one)).filter(|p| !p.is_empty())
    }

    /// Those in either.
    #[must_use]
    pub fn or(self, other: Protocols) -> Protocols {
        Protocols(self.0 | other.0)
    }
}

/// `any`, `none`, or names with commas between.
impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut names: Vec<&str> = Vec::new();
        for (name, set) in ABBREVIATIONS {
            if rest & set.0 == set.0 {
                names.push(name);
                rest &= !set.0;
            }
        }
        names.extend(Protocols(rest).iter().map(|p| p.name));
        let text: String = if names.is_empty() { "none".into() } else { names.join(",") };
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use flow::FieldId;

    #[test]
    fn sets_read_and_write() {
        assert_eq!(Protocols::ALL.to_string(), "any");
        assert_eq!(Protocols::NONE.to_string(), "none");
        assert_eq!(Protocols::of_versions(Version::Of10.bit()), Protocols::OF10);
        assert_eq!(Protocols::OF10.to_string(), "OpenFlow10,NXM");
        assert_eq!(Protocols::OF11_UP.to_string(), "OXM,OpenFlow11");
        assert_eq!(Protocols::by_name("oxm-openflow13"), Some(Protocols(1 << 6)));
        assert_eq!(Protocols::by_name("bogus"), None);
    }

    #[test]
    fn masks_decide_who_can_say_a_field() {
        let of =
            |id: FieldId, mask| Protocols::masked(id.row(), mask, id.row().wire_ones()).to_string();
        assert_eq!(of(FieldId::IpSrc, 0xffff_0000), "any");
        assert_eq!(of(FieldId::IpSrc, 0xff), "NXM,OXM,OpenFlow11");
        assert_eq!(of(FieldId::TcpDst, 0xffff), "any");
        assert_eq!(of(FieldId::TcpDst, 0xff), "NXM,OXM");
        assert_eq!(of(FieldId::TunTtl, 0xff), "none");
        assert_eq!(of(FieldId::Reg0, 0), "any");
    }
}
