//! UUIDs: row identities (RFC 4122 text form) and the generator of random ones.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::error::Error;

/// A 128-bit row identity. The numeric order equals the order of the text form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub u128);

impl Uuid {
    /// All bits zero: the default of a column of type uuid, never the identity of a row.
    pub const ZERO: Uuid = Uuid(0);

    /// Whether all bits are zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The name the C and Python IDLs give a row while it is being inserted: `row` and the UUID
    /// with underscores instead of dashes.
    pub fn to_row_name(self) -> String {
        format!("row{self}").replace('-', "_")
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = Error;

    /// Parses the 36-character form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    fn from_str(s: &str) -> Result<Self, Error> {
        let bad = || Error::text(format!("\"{s}\" is not a valid UUID"));
        let bytes = s.as_bytes();
        if bytes.len() != 36 {
            return Err(bad());
        }
        let mut n = 0u128;
        for (i, &byte) in bytes.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(bad());
                }
            } else {
                let digit = (byte as char).to_digit(16).ok_or_else(bad)?;
                n = n << 4 | u128::from(digit);
            }
        }
        Ok(Uuid(n))
    }
}

/// A source of random (version 4) UUIDs: xoshiro256++ from a seed.
///
/// The engine reads no randomness of its own; its owner seeds this once (a test with a constant,
/// a daemon from the system), so the same inputs give the same database.
#[derive(Debug, Clone)]
pub struct UuidGen {
    s: [u64; 4],
}

impl UuidGen {
    /// A generator whose sequence is a function of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        // SplitMix64 spreads the seed over the state, as the authors of xoshiro advise.
        let mut z = seed;
        let mut next = || {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        UuidGen { s: [next(), next(), next(), next()] }
    }

    /// A generator seeded with 256 bits of the system's randomness.
    ///
    /// # Errors
    /// If `/dev/urandom` cannot be read.
    pub fn from_system() -> io::Result<Self> {
        use std::io::Read;
        let mut bytes = [0u8; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut s = [0u64; 4];
        for (word, chunk) in s.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().fold(0, |n, &b| n << 8 | u64::from(b));
        }
        s[0] |= 1; // The all-zero state would stay zero.
        Ok(UuidGen { s })
    }

    fn next_u64(&mut self) -> u64 {
        let s = &mut self.s;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A new random UUID (RFC 4122 version 4).
    pub fn generate(&mut self) -> Uuid {
        let n = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        let n = n & !(0xf << 76) | 4 << 76;
        Uuid(n & !(0x3 << 62) | 2 << 62)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_rejects() {
        let text = "4e8a3372-498a-4259-8ff4-c19044975729";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.to_row_name(), "row4e8a3372_498a_4259_8ff4_c19044975729");
        for bad in
            ["", "4e8a3372-498a-4259-8ff4-c1904497572", "4e8a3372x498a-4259-8ff4-c19044975729"]
        {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_are_version_4_and_distinct() {
        let mut gen1 = UuidGen::from_seed(7);
        let mut gen2 = UuidGen::from_seed(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let uuid = gen1.generate();
            assert_eq!(uuid, gen2.generate());
            let text = uuid.to_string();
            assert_eq!(&text[14..15], "4");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
            assert!(seen.insert(uuid));
        }
    }
}
