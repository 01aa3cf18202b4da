//! Messages that are encoded already, for a bundle.

use alloc::vec::Vec;

use super::codec::Encoded;
use super::kind::Kind;
use crate::action::decode::ONF_VENDOR;
use crate::error::EncodeError;
use crate::version::Version;
use crate::wire::Put;

/// Appends the message that adds `inner`, of the same version and transaction, to bundle `id`.
///
/// # Errors
/// The two together are too long; then nothing is appended.
pub fn add_to_bundle(
    out: &mut Vec<u8>,
    v: Version,
    xid: u32,
    (id, flags): (u32, u16),
    inner: &[u8],
) -> Encoded {
    let native = Kind::BundleAdd.code(v);
    let head = if native.is_some() { 16 } else { 24 };
    let too_long = || EncodeError::TooLong(Kind::BundleAdd.name().into());
    let len = u16::try_from(head + inner.len()).map_err(|_| too_long())?;
    out.put8(v as u8);
    out.put8(native.map_or(4, |code| code as u8));
    out.put16(len);
    out.put32(xid);
    if native.is_none() {
        let code = Kind::OnfBundleAdd.code(v);
        out.put32(ONF_VENDOR);
        out.put32(code.unwrap_or_default().into());
    }
    out.put32(id);
    out.put16(0);
    out.put16(flags);
    out.extend_from_slice(inner);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, BundleAdd, Message, Session};
    use alloc::boxed::Box;

    #[test]
    fn as_if_it_were_encoded_with_its_message() {
        for v in Version::ALL {
            let inner = Message::new(v, 7, Body::FlowMod(Box::default()));
            let bytes = inner.encode(Session::default()).unwrap();
            let mut got = Vec::new();
            add_to_bundle(&mut got, v, 7, (3, 2), &bytes).unwrap();
            let add = BundleAdd { id: 3, flags: 2, message: inner };
            let want = Message::new(v, 7, Body::BundleAdd(Box::new(add)));
            assert_eq!(got, want.encode(Session::default()).unwrap(), "{v}");
        }
    }
}
