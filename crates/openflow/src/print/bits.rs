//! Bit sets by name, and times.

use core::fmt;
use core::time::Duration;

/// The bits of a number by name, lowest first, and what has no name as one number in the end; `0` for none.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    /// The number.
    pub bits: u32,
    /// Names of bits 0, 1, …; an empty one is no name.
    pub names: &'a [&'a str],
    /// What stands between two names.
    pub separator: char,
}

impl fmt::Display for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == 0 {
            return f.write_str("0");
        }
        let mut rest = self.bits;
        let mut first = true;
        for (i, name) in self.names.iter().enumerate() {
            let bit = 1u32.checked_shl(i as u32).unwrap_or(0);
            if rest & bit != 0 && !name.is_empty() {
                if !first {
                    write!(f, "{}", self.separator)?;
                }
                first = false;
                f.write_str(name)?;
                rest &= !bit;
            }
        }
        if rest != 0 {
            if !first {
                write!(f, "{}", self.separator)?;
            }
            write!(f, "{rest:#x}")?;
        }
        Ok(())
    }
}

/// A number in hexadecimal digits with `0x` in front, but for a plain `0`, as C's `%#x` has it.
#[derive(Clone, Copy, Debug)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            n => write!(f, "{n:#x}"),
        }
    }
}

/// A time in seconds with as many decimals as it needs, at least 3: `20.260s`; whole seconds as `20s`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.0.as_secs(), self.0.subsec_nanos());
        match ns {
            0 => write!(f, "{s}s"),
            _ if ns % 1_000_000 == 0 => write!(f, "{s}.{:03}s", ns / 1_000_000),
            _ => {
                let digits = alloc::format!("{ns:09}");
                write!(f, "{s}.{}s", digits.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn bits_have_names_or_a_number() {
        let text = |bits| Bits { bits, names: &["A", "", "C"], separator: ' ' }.to_string();
        assert_eq!(text(0), "0");
        assert_eq!(text(5), "A C");
        assert_eq!(text(0x17), "A C 0x12");
        assert_eq!(text(8), "0x8");
    }

    #[test]
    fn seconds_have_the_decimals_they_need() {
        let text = |ns| Seconds(Duration::from_nanos(ns)).to_string();
        assert_eq!(text(20_260_000_000), "20.260s");
        assert_eq!(text(3_000_000_000), "3s");
        assert_eq!(text(1_000_002_000), "1.000002s");
        assert_eq!(text(500_000), "0.0005s");
        assert_eq!(text(7), "0.000000007s");
    }
}
