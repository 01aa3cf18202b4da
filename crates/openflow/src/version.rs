//! Versions of the protocol.

use core::fmt;

/// A version of OpenFlow. The number is that of the header's first byte.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    /// 1.0
    Of10 = 1,
    /// 1.1
    Of11 = 2,
    /// 1.2
    Of12 = 3,
    /// 1.3
    Of13 = 4,
    /// 1.4
    Of14 = 5,
    /// 1.5
    Of15 = 6,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Version; 6] =
        [Version::Of10, Version::Of11, Version::Of12, Version::Of13, Version::Of14, Version::Of15];

    /// The version with this wire number.
    pub fn from_wire(v: u8) -> Option<Version> {
        Version::ALL.into_iter().find(|x| *x as u8 == v)
    }

    /// The version called `OpenFlow10`, `OpenFlow1.0`, …, in letters of any case.
    pub fn from_name(name: &str) -> Option<Version> {
        let (word, digits) = name.split_at_checked(8)?;
        if !word.eq_ignore_ascii_case("OpenFlow") {
            return None;
        }
        Version::ALL.into_iter().find(|v| {
            let minor = v.minor();
            digits.strip_prefix("1").map(|d| d.strip_prefix('.').unwrap_or(d)) == Some(minor)
        })
    }

    fn minor(self) -> &'static str {
        ["0", "1", "2", "3", "4", "5"][self as usize - 1]
    }

    /// `OpenFlow10` to `OpenFlow15`.
    pub fn name(self) -> &'static str {
        ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"]
            [self as usize - 1]
    }

    /// The version's bit in a hello bitmap.
    pub fn bit(self) -> u32 {
        1 << (self as u8)
    }

    /// The highest version in a hello bitmap that this crate knows.
    pub fn highest(bitmap: u32) -> Option<Version> {
        Version::ALL.into_iter().rev().find(|v| v.bit() & bitmap != 0)
    }
}

/// `OF1.3`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OF1.{}", self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_bits_agree() {
        for v in Version::ALL {
            assert_eq!(Version::from_wire(v as u8), Some(v));
            assert_eq!(Version::from_name(v.name()), Some(v));
            assert_eq!(Version::highest(v.bit() | 1), Some(v));
        }
        assert_eq!(Version::from_name("OpenFlow1.3"), Some(Version::Of13));
        assert_eq!(Version::from_name("OpenFlow99"), None);
        assert_eq!(Version::highest(1 << 9), None);
    }
}
