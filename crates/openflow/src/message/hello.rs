//! Hellos: which versions the two ends speak.

use super::codec::Result;
use super::{Body, Message};
use crate::version::Version;
use crate::wire::Reader;

/// A hello that offers the versions of a bitmap, the highest in its header.
pub fn hello(xid: u32, bitmap: u32) -> Message {
    let version = Version::highest(bitmap).unwrap_or(Version::Of10);
    Message::new(version, xid, Body::Hello(bitmap))
}

/// Reads a hello, which may come in a version that is not known: `v` is that of its header.
pub(super) fn read(r: &mut Reader<'_>, v: u8, xid: u32) -> Result<Message> {
    // Without a bitmap, all versions up to the header's are meant.
    let mut bitmap = if v >= 31 { u32::MAX - 1 } else { (1 << (v + 1)) - 2 };
    while r.len() >= 4 {
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 || len - 4 > r.len() {
            break;
        }
        let mut e = r.sub(len - 4)?;
        let pad = (len.next_multiple_of(8) - len).min(r.len());
        r.skip(pad)?;
        // Versions beyond 31 do not fit in the first word, and no version is 0.
        if typ == 1 && e.len() >= 4 && e.len().is_multiple_of(4) {
            match e.u32()? & !1 {
                0 => {}
                said => bitmap = said,
            }
        }
    }
    let version = Version::ALL.into_iter().rev().find(|x| *x as u8 <= v).unwrap_or(Version::Of10);
    Ok(Message::new(version, xid, Body::Hello(bitmap)))
}

/// Whether a hello holds nothing but bitmaps of versions that can be understood.
pub(crate) fn hello_is_plain(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes.get(8..).unwrap_or_default(), 8);
    while !r.is_empty() {
        let (Ok(typ), Ok(len)) = (r.u16(), r.u16()) else { return false };
        let len = usize::from(len);
        let Some(Ok(mut e)) = len.next_multiple_of(8).checked_sub(4).map(|n| r.sub(n)) else {
            return false;
        };
        let bits = len >= 8 && len.is_multiple_of(4) && e.u32().is_ok_and(|bits| bits & !1 != 0);
        if typ != 1 || !bits {
            return false;
        }
    }
    true
}
