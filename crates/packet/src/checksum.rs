//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Running sums are 32-bit one's-complement sums of big-endian 16-bit words, not yet folded.

/// Adds `data` to the running sum. An odd last byte is padded with zero, so only the last part
/// of a message may be odd.
#[inline]
pub fn add(sum: u32, data: &[u8]) -> u32 {
    // In the other byte order, and turned round at the end (RFC 1071 §2 (B)): eight bytes at a time.
    let halves = |w: u64| (w & 0xffff_ffff) + (w >> 32);
    let (eights, rest) = data.as_chunks::<8>();
    let mut wide: u64 = eights.iter().map(|c| halves(u64::from_le_bytes(*c))).sum();
    let (twos, last) = rest.as_chunks::<2>();
    wide += twos.iter().map(|c| u64::from(u16::from_le_bytes(*c))).sum::<u64>();
    wide += last.first().map_or(0, |a| u64::from(*a));
    let folded = fold32(halves(wide));
    u32::from(fold(u32::from(fold(sum)) + u32::from(folded.swap_bytes())))
}

/// Folds a sum of 33 bits to 16.
#[inline]
fn fold32(wide: u64) -> u16 {
    let s = (wide & 0xffff) + ((wide >> 16) & 0xffff) + (wide >> 32);
    let s = (s & 0xffff) + (s >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// Adds one 16-bit word to the running sum.
pub fn add16(sum: u32, word: u16) -> u32 {
    u32::from(fold(sum)) + u32::from(word)
}

/// Adds one 32-bit word to the running sum.
pub fn add32(sum: u32, word: u32) -> u32 {
    add16(add16(sum, (word >> 16) as u16), word as u16)
}

/// Folds a running sum to 16 bits without complementing it.
#[inline]
pub fn fold(sum: u32) -> u16 {
    let s = (sum & 0xffff) + (sum >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// The checksum field's value for a running sum.
#[inline]
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum of a whole message.
#[inline]
pub fn checksum(data: &[u8]) -> u16 {
    finish(add(0, data))
}

/// Running sum of the IPv4 pseudo-header. Addresses as integers, `len` in bytes.
#[inline]
pub fn pseudo_v4(src: u32, dst: u32, proto: u8, len: u32) -> u32 {
    let halves = |w: u32| (w & 0xffff) + (w >> 16);
    u32::from(fold(halves(src) + halves(dst) + halves(len) + u32::from(proto)))
}

/// Running sum of the IPv6 pseudo-header (RFC 8200 §8.1). `len` in bytes.
pub fn pseudo_v6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len: u32) -> u32 {
    add32(add16(add(add(0, src), dst), u16::from(proto)), len)
}

/// New value of a checksum field after a 16-bit word changed (RFC 1624 eqn. 3).
pub fn update16(field: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!field) + u32::from(!old) + u32::from(new))
}

/// New value of a checksum field after a 32-bit word changed.
pub fn update32(field: u16, old: u32, new: u32) -> u16 {
    let f = update16(field, (old >> 16) as u16, (new >> 16) as u16);
    update16(f, old as u16, new as u16)
}

/// New value of a checksum field after an IPv6 address changed.
pub fn update128(field: u16, old: &[u8; 16], new: &[u8; 16]) -> u16 {
    let inverted = old.map(|b| !b);
    finish(add(add(u32::from(!field), &inverted), new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example() {
        assert_eq!(fold(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn wide_and_narrow_sums_agree_for_every_length() {
        let data: [u8; 41] = core::array::from_fn(|i| (i * 37 + 200) as u8);
        for n in 0..data.len() {
            let mut narrow = 0;
            for c in data[..n].chunks(2) {
                let b = c.get(1).copied().unwrap_or(0);
                narrow = add16(narrow, u16::from_be_bytes([c[0], b]));
            }
            assert_eq!(fold(add(0, &data[..n])), fold(narrow), "length {n}");
        }
    }

    #[test]
    fn update_equals_recomputing() {
        let mut msg = [0u8; 40];
        for (i, b) in msg.iter_mut().enumerate() {
            *b = (i * 91 + 3) as u8;
        }
        let old = checksum(&msg);
        let old_word = u32::from_be_bytes([msg[8], msg[9], msg[10], msg[11]]);
        msg[8..12].copy_from_slice(&[192, 168, 7, 9]);
        assert_eq!(update32(old, old_word, 0xc0a8_0709), checksum(&msg));
        let before = checksum(&msg);
        let old16: [u8; 16] = msg[16..32].try_into().unwrap();
        msg[16..32].copy_from_slice(&[0xfe; 16]);
        assert_eq!(update128(before, &old16, &[0xfe; 16]), checksum(&msg));
    }
}
