//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Running sums are 32-bit one's-complement sums of big-endian 16-bit words, not yet folded.

/// Adds `data` to the running sum. An odd last byte is padded with zero, so only the last part
/// of a message may be odd.
pub fn add(sum: u32, data: &[u8]) -> u32 {
    let mut wide: u64 = u64::from(sum);
    let mut chunks = data.chunks_exact(4);
    for c in &mut chunks {
        wide += u64::from(u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
    }
    match *chunks.remainder() {
        [a] => wide += u64::from(a) << 8,
        [a, b] => wide += u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => {
            wide += u64::from(u16::from_be_bytes([a, b]));
            wide += u64::from(c) << 8;
        }
        _ => {}
    }
    let wide = (wide & 0xffff_ffff) + (wide >> 32);
    let wide = (wide & 0xffff_ffff) + (wide >> 32);
    u32::from(fold(wide as u32))
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
pub fn fold(sum: u32) -> u16 {
    let s = (sum & 0xffff) + (sum >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// The checksum field's value for a running sum.
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum of a whole message.
pub fn checksum(data: &[u8]) -> u16 {
    finish(add(0, data))
}

/// Running sum of the IPv4 pseudo-header. Addresses as integers, `len` in bytes.
pub fn pseudo_v4(src: u32, dst: u32, proto: u8, len: u32) -> u32 {
    add32(add16(add32(add32(0, src), dst), u16::from(proto)), len)
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
