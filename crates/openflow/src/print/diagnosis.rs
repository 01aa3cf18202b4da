//! What there is to say of a message that could not be read or was read differently, beyond the error.
//!
//! An error has a number and a place ([`DecodeError`]); the bytes there are looked at again, which nobody
//! waits for. The texts and their subjects are those of OVS's log.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use flow::Match;

use super::HexLines;
use super::bytes::cut_port;
use crate::error::{DecodeError, OfError};
use crate::message::kind::{Kind, Space};
use crate::message::{AsyncClass, Body, Message, match10};
use crate::version::Version;
use crate::wire::Reader;

/// A line of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// The module of OVS's that has the subject.
    pub module: &'static str,
    /// The text.
    pub text: String,
}

impl Diagnosis {
    /// Of bytes that should be a message, and what [`Message::decode`] made of them.
    pub fn of_message(bytes: &[u8], read: &Result<Message, DecodeError>) -> Vec<Diagnosis> {
        let len = bytes.first_chunk::<4>().map(|h| u16::from_be_bytes([h[2], h[3]]));
        if bytes.len() < 8 || len.map(usize::from) != Some(bytes.len()) {
            return Vec::new(); // no message at all
        }
        match read {
            Ok(Message { body: Body::Hello(_), .. }) => of_hello(bytes),
            Ok(_) => Vec::new(),
            Err(e) => of_error(bytes, *e).into_iter().collect(),
        }
    }

    /// Of bytes that should be actions, `start` bytes into their message.
    pub fn of_actions(bytes: &[u8], start: usize, e: DecodeError) -> Diagnosis {
        let (mut at, wanted) = (0, e.at.saturating_sub(start));
        // The beginning of the action with the wrong byte in it.
        while let Some(h) = bytes.get(at..).and_then(|b| b.first_chunk::<4>()) {
            let len = usize::from(u16::from_be_bytes([h[2], h[3]]));
            if len < 8 || at + len > wanted {
                break;
            }
            at += len;
        }
        let hex = format!("{}", HexLines(bytes));
        // The middle of a line is marked, also where it ends there.
        let end = if bytes.len() % 16 == 8 { "-" } else { "" };
        let text = format!("bad action at offset {at} ({}):\n{}{end}", e.error, hex.trim_end());
        Diagnosis { module: "ofp_actions", text }
    }
}

/// A hello with a bitmap of versions that there are not.
fn of_hello(bytes: &[u8]) -> Vec<Diagnosis> {
    let mut r = Reader::new(bytes.get(8..).unwrap_or_default(), 8);
    let (Ok(1), Ok(8..), Ok(said)) = (r.u16(), r.u16(), r.u32()) else { return Vec::new() };
    let zero = (said & 1 != 0).then_some("peer claims to support invalid OpenFlow version 0x00");
    let none = (said & !1 == 0)
        .then_some("peer does not support any OpenFlow version (between 0x01 and 0x1f)");
    let texts = zero.into_iter().chain(none);
    texts.map(|text| Diagnosis { module: "ofp_util", text: text.into() }).collect()
}

fn of_error(bytes: &[u8], e: DecodeError) -> Option<Diagnosis> {
    let say = |module, text| Some(Diagnosis { module, text });
    let Some((kind, v, _)) = Message::peek_kind(bytes) else {
        let (version, typ) = (bytes.first()?, bytes.get(1)?);
        let text = format!("unknown OpenFlow message (version {version}, type {typ})");
        return say("ofp_msgs", text);
    };
    if let Some(port) = cut_port(kind, v, bytes.len()) {
        let (name, len) = (kind.name(), bytes.len());
        let text = format!(
            "received {name} with incorrect length {len} (must be exactly 32 bytes or longer by an \
             integer multiple of {port} bytes)"
        );
        return say("ofp_msgs", text);
    }
    // A property's type and value, where the error is about one.
    let mut r = Reader::new(bytes.get(e.at..)?, e.at);
    let typ = r.u16().ok()?;
    match (kind, e.error) {
        (_, OfError::OFPACFC_UNSUPPORTED) => {
            say("ofp_connection", format!("unknown async config property type {typ}"))
        }
        (_, OfError::OFPACFC_INVALID) => {
            let (class, _) = AsyncClass::of_property(typ, v)?;
            r.skip(2).ok()?;
            let (value, allowed) = (r.u32().ok()?, class.allowed(v));
            let name = class.name();
            let text = format!("bad value {value:#x} for {name} (allowed mask {allowed:#x})");
            say("ofp_connection", text)
        }
        (Kind::BundleAdd | Kind::OnfBundleAdd, OfError::OFPBFC_MSG_UNSUP) => {
            let inner = Kind::find(Space::Type, typ & 0xff, Version::from_wire((typ >> 8) as u8)?)?;
            let text =
                format!("{} message not allowed inside OFPT14_BUNDLE_ADD_MESSAGE", inner.name());
            say("ofp_bundle", text)
        }
        (Kind::NxCtFlush, OfError::OFPBPC_BAD_TYPE) => {
            // One of the message's own stands behind the other ones, one of a tuple inside one.
            let mut own = Reader::new(bytes.get(24..)?, 24);
            while own.at() < e.at && own.property().is_ok() {}
            let what = if own.at() == e.at { "FLUSH" } else { "TUPLE" };
            say("ofp_ct", format!("unknown NXT_CT_{what} property type {typ}"))
        }
        _ => None,
    }
}

/// The match of 1.0's flow mod as it was said, and as it is meant, if they differ.
pub fn normalized(bytes: &[u8]) -> Option<(Match, Match)> {
    let (kind, v, _) = Message::peek_kind(bytes)?;
    if (kind, v) != (Kind::FlowMod, Version::Of10) {
        return None;
    }
    let said = match10::read_as_said(&mut Reader::new(bytes.get(8..)?, 8)).ok()?;
    let mut meant = said;
    meant.normalize();
    (meant != said).then_some((said, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(hex: &str) -> Option<String> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let pair = |p: &[u8]| u8::from_str_radix(core::str::from_utf8(p).unwrap(), 16).unwrap();
        let bytes: Vec<u8> = digits.chunks(2).map(pair).collect();
        let read = Message::decode(&bytes, crate::message::Session::default());
        let all = Diagnosis::of_message(&bytes, &read);
        let lines: Vec<String> = all.iter().map(|d| format!("{}: {}", d.module, d.text)).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    #[test]
    fn what_is_wrong_with_messages() {
        for (hex, want) in [
            ("00bb0008eeff0011", "ofp_msgs: unknown OpenFlow message (version 0, type 187)"),
            (
                "01000010 00000000 00010008 00000000",
                "ofp_util: peer does not support any OpenFlow version (between 0x01 and 0x1f)",
            ),
            (
                "051c0010 00000002 00000008 00000040",
                "ofp_connection: bad value 0x40 for PACKET_IN (allowed mask 0x3f)",
            ),
            (
                "051c0010 00000002 00110008 00000040",
                "ofp_connection: unknown async config property type 17",
            ),
            (
                "05220018 00000002 00000001 00000001 05000008 00000002",
                "ofp_bundle: OFPT_HELLO message not allowed inside OFPT14_BUNDLE_ADD_MESSAGE",
            ),
            (
                "01040020 00000003 00002320 00000020 06000000 00000000 00800008 00000000",
                "ofp_ct: unknown NXT_CT_FLUSH property type 128",
            ),
        ] {
            assert_eq!(told(hex).as_deref(), Some(want), "{hex}");
        }
        assert_eq!(told("0100000800000000"), None);
        assert_eq!(told("0110ccddeeff0011"), None);
    }

    #[test]
    fn the_action_that_is_wrong() {
        let bytes = [0, 0, 0, 8, 0, 1, 0, 0, 0, 0x63, 0, 8, 0, 0, 0, 0];
        let e = DecodeError { error: OfError::OFPBAC_BAD_TYPE, at: 28 };
        let text = Diagnosis::of_actions(&bytes, 20, e).text;
        assert!(
            text.starts_with("bad action at offset 8 (OFPBAC_BAD_TYPE):\n00000000  00"),
            "{text}"
        );
    }
}
