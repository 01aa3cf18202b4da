//! What a datagram of a TFTP client says about a data connection.

/// Whether a datagram asks to read or to write a file (RFC 1350 §5): its answer comes from another port
/// than it went to.
pub(super) fn is_request(payload: &[u8]) -> bool {
    // Opcode, file name and mode, both ended by zero.
    let strings = payload.get(2..).unwrap_or_default().iter().filter(|&&b| b == 0).count();
    matches!(payload, [0, 1 | 2, name, ..] if *name != 0) && strings >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_nothing_else() {
        for text in [
            &b"\0\x01a.txt\0octet\0"[..],
            b"\0\x02a\0netascii\0",
            b"\0\x01a\0octet\0blksize\x001428\0",
        ] {
            assert!(is_request(text), "{text:?}");
        }
        for text in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01a",
            b"\0\x01a\0octet",
            b"\0\x01\0\0",
            b"\0\x03\0\x01data\0\0",
            b"\x01\x01a\0b\0",
        ] {
            assert!(!is_request(text), "{text:?}");
        }
    }
}
