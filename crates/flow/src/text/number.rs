//! Numbers as the C library reads them: decimal, `0x` and hexadecimal, or `0` and octal.

use crate::tun_metadata::{MAX_OPTION_LEN, OptionValue};

/// Why a text is no number for its place.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum NumberError {
    /// It does not begin with one.
    Syntax,
    /// It is too large.
    Range,
}

/// Reads a number as OVS does. `None` if it is not one; the value is `None` if it does not fit 128 bits.
pub fn parse_number(text: &str) -> Option<Option<u128>> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if radix == 16 && digits.is_empty() {
        return Some(Some(0)); // as OVS does; the strict mode looks for it
    }
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u128::from_str_radix(digits, radix).ok())
}

/// `strtoull(text, &end, 0)`: the number, negative ones modulo 2^64, and the bytes it takes.
pub fn strtoull(text: &str) -> Result<(u64, usize), NumberError> {
    let s = text.as_bytes();
    let mut i = s.iter().take_while(|c| c.is_ascii_whitespace()).count();
    let negative = s.get(i) == Some(&b'-');
    i += usize::from(matches!(s.get(i), Some(b'-' | b'+')));
    let hex = |at: usize| s.get(at).is_some_and(u8::is_ascii_hexdigit);
    let radix = match (s.get(i), s.get(i + 1)) {
        (Some(b'0'), Some(b'x' | b'X')) if hex(i + 2) => {
            i += 2;
            16
        }
        (Some(b'0'), _) => 8,
        _ => 10,
    };
    let digits = s[i..].iter().take_while(|c| char::from(**c).is_digit(radix)).count();
    if digits == 0 {
        return Err(NumberError::Syntax);
    }
    let v = u64::from_str_radix(&text[i..i + digits], radix).map_err(|_| NumberError::Range)?;
    Ok((if negative { v.wrapping_neg() } else { v }, i + digits))
}

/// A whole text as a signed number (`strtoll` with base 0).
pub fn signed(text: &str) -> Option<i64> {
    let (v, end) = strtoull(text).ok()?;
    let negative = text.trim_ascii_start().starts_with('-');
    let fits = if negative { v == 0 || v >= 1 << 63 } else { v < 1 << 63 };
    (fits && end == text.len()).then_some(v as i64)
}

/// A whole text as an unsigned number of 64 bits (`strtoull` with base 0).
pub fn unsigned(text: &str) -> Option<u64> {
    strtoull(text).ok().filter(|n| n.1 == text.len()).map(|n| n.0)
}

/// Reads a number of `n_bytes`, right-aligned, and the bytes of text that it takes. Hexadecimal digits
/// may be as many as fit and have white space between; other numbers have at most 64 bits.
pub fn wide(text: &str, n_bytes: usize) -> Result<(OptionValue, usize), NumberError> {
    let mut out = [0; MAX_OPTION_LEN];
    let Some(rest) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        let (v, end) = strtoull(text)?;
        let fits = n_bytes >= 8 || v >> (8 * n_bytes) == 0;
        if let Some(low) = out.last_chunk_mut() {
            *low = v.to_be_bytes();
        }
        return if fits { Ok((out, end)) } else { Err(NumberError::Range) };
    };
    let mut n_digits = 0;
    let mut end = 2;
    for c in rest.bytes() {
        if !matches!(c, b' ' | b'\t' | b'\r' | b'\n') {
            let Some(d) = char::from(c).to_digit(16) else { break };
            if d != 0 || n_digits > 0 {
                if n_digits + 1 > 2 * n_bytes {
                    return Err(NumberError::Range);
                }
                n_digits += 1;
            }
        }
        end += 1;
    }
    let digits = rest.as_bytes()[..end - 2].iter().filter_map(|&c| char::from(c).to_digit(16));
    for (i, d) in digits.rev().take(n_digits).enumerate() {
        out[MAX_OPTION_LEN - 1 - i / 2] |= (d as u8) << (4 * (i % 2));
    }
    Ok((out, end))
}

/// The lowest 128 bits of a value.
pub fn low(v: &OptionValue) -> u128 {
    v.last_chunk().map_or(0, |b| u128::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_c() {
        assert_eq!(strtoull("12,"), Ok((12, 2)));
        assert_eq!(strtoull(" +0x1F"), Ok((31, 6)));
        assert_eq!(strtoull("010"), Ok((8, 3)));
        assert_eq!(strtoull("0x"), Ok((0, 1)));
        assert_eq!(strtoull("-1"), Ok((u64::MAX, 2)));
        assert_eq!(strtoull("x"), Err(NumberError::Syntax));
        assert_eq!(strtoull("18446744073709551616"), Err(NumberError::Range));
        assert_eq!(
            (signed("-5"), signed("5x"), signed("9223372036854775808")),
            (Some(-5), None, None)
        );
        assert_eq!(
            (unsigned("0xf"), unsigned("-1"), unsigned("")),
            (Some(15), Some(u64::MAX), None)
        );
    }

    #[test]
    fn wide_numbers() {
        let value = |s: &str, n| wide(s, n).map(|(v, end)| (low(&v), end));
        assert_eq!(value("0x12 34/", 2), Ok((0x1234, 7)));
        assert_eq!(value("0x00012345", 2), Err(NumberError::Range));
        assert_eq!(value("0x0001234", 2), Ok((0x1234, 9)));
        assert_eq!(value("0x", 4), Ok((0, 2)));
        assert_eq!(value("65536", 2), Err(NumberError::Range));
        assert_eq!(value("-1", 4), Err(NumberError::Range));
        assert_eq!(value("-1", 8), Ok((u64::MAX.into(), 2)));
        assert_eq!(value("5.5", 4), Ok((5, 1)));
        let digits = alloc::string::String::from("0x1f") + &"00".repeat(123);
        let (v, _) = wide(&digits, 124).unwrap();
        assert_eq!((v[0], v[1]), (0x1f, 0));
    }
}
