//! Bytes that should be a message, and dumps of bytes.

use core::fmt::{self, Write};

use super::{MessageText, Style, flows, raw_match, switch, write_decode_error, write_heading};
use crate::error::{DecodeError, OfError};
use crate::message::{Body, Kind, Message, hello_is_plain};
use crate::version::Version;
use crate::wire::Reader;

/// Bytes as lines of sixteen, in hexadecimal and in ASCII.
#[derive(Clone, Copy, Debug)]
pub struct HexDump<'a>(pub &'a [u8]);

impl fmt::Display for HexDump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.0.chunks(16).enumerate() {
            write!(f, "{:08x} ", i * 16)?;
            for j in 0..16 {
                let sep = if j == 8 { '-' } else { ' ' };
                match line.get(j) {
                    Some(b) => write!(f, "{sep}{b:02x}")?,
                    None if j == 8 && line.len() == 8 => f.write_str("-  ")?,
                    None => f.write_str("   ")?,
                }
            }
            f.write_str(" |")?;
            for j in 0..16 {
                f.write_char(match line.get(j) {
                    Some(&b) if b == b' ' || b.is_ascii_graphic() => b.into(),
                    Some(_) => '.',
                    None => ' ',
                })?;
            }
            f.write_str("|\n")?;
        }
        Ok(())
    }
}

/// Bytes as lines of sixteen in hexadecimal, without ASCII.
#[derive(Clone, Copy, Debug)]
pub struct HexLines<'a>(pub &'a [u8]);

impl fmt::Display for HexLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.0.chunks(16).enumerate() {
            write!(f, "{:08x} ", i * 16)?;
            for (j, byte) in line.iter().enumerate() {
                write!(f, "{}{byte:02x}", if j == 8 { '-' } else { ' ' })?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

/// Bytes in the text of the message they are, or of why they are none.
#[derive(Clone, Copy)]
pub struct BytesText<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// How.
    pub style: Style<'a>,
}

impl fmt::Debug for BytesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes `NAME (OF1.x) (xid=0x…):`; the version only above 1.0.
pub(super) fn heading(out: &mut impl Write, name: &str, v: Version, xid: u32) -> fmt::Result {
    out.write_str(name)?;
    if v != Version::Of10 {
        write!(out, " ({v})")?;
    }
    write!(out, " (xid={xid:#x}):")
}

impl fmt::Display for BytesText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = &Message::decode(self.bytes, self.style.session);
        ReadText { text: *self, read }.fmt(out)
    }
}

/// [`BytesText`] of bytes that were decoded already.
#[derive(Clone, Copy)]
pub struct ReadText<'a> {
    /// The bytes.
    pub text: BytesText<'a>,
    /// What [`Message::decode`] made of them.
    pub read: &'a Result<Message, DecodeError>,
}

impl fmt::Debug for ReadText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ReadText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.write(out, self.read)
    }
}

impl BytesText<'_> {
    fn write(
        &self,
        out: &mut fmt::Formatter<'_>,
        read: &Result<Message, DecodeError>,
    ) -> fmt::Result {
        if self.bytes.is_empty() {
            return out.write_str("OpenFlow message is empty\n");
        }
        let Some(h) = self.bytes.first_chunk::<8>() else {
            writeln!(out, "OpenFlow packet too short (only {} bytes):", self.bytes.len())?;
            return write!(out, "{}", HexDump(self.bytes));
        };
        let len = usize::from(u16::from_be_bytes([h[2], h[3]]));
        let (have, name) = (self.bytes.len(), Message::peek_kind(self.bytes));
        if len > have {
            if let Some((kind, v, xid)) = name {
                heading(out, kind.name(), v, xid)?;
                writeln!(out)?;
            }
            writeln!(out, "(***truncated to {have} bytes from {len}***)")?;
            return write!(out, "{}", HexDump(self.bytes));
        }
        if len < have {
            writeln!(out, "(***only uses {len} bytes out of {have}***)")?;
            return write!(out, "{}", HexDump(self.bytes));
        }
        match read {
            Ok(message) => {
                self.write_message(out, message)?;
                match self.style.verbosity {
                    0..=4 => Ok(()),
                    _ => write!(out, "{}", HexDump(self.bytes)),
                }
            }
            Err(e) => match name {
                Some((kind, v, xid)) => {
                    if cut_port(kind, v, have).is_none() {
                        heading(out, kind.name(), v, xid)?;
                        out.write_char(' ')?;
                    }
                    write_decode_error(out, e, self.bytes)
                }
                None => {
                    let error = match e.error {
                        // OVS says so of messages; only a connection has a version to be wrong.
                        OfError::OFPBRC_BAD_VERSION => OfError::OFPBRC_BAD_TYPE,
                        error => error,
                    };
                    writeln!(out, "***decode error: {error}***")?;
                    write!(out, "{}", HexDump(self.bytes))
                }
            },
        }
    }
}

/// The length of a port, if a message ends inside one of those it consists of, so that it is none of
/// its kind.
pub(super) fn cut_port(kind: Kind, v: Version, len: usize) -> Option<usize> {
    let port = if v == Version::Of10 { 48 } else { 64 };
    let ports = len.checked_sub(32).filter(|_| kind == Kind::FeaturesReply && v < Version::Of13)?;
    (!ports.is_multiple_of(port)).then_some(port)
}

impl BytesText<'_> {
    /// Writes the message that the bytes are.
    fn write_message(&self, out: &mut fmt::Formatter<'_>, message: &Message) -> fmt::Result {
        let (style, bytes) = (self.style, self.bytes);
        match &message.body {
            Body::Hello(bitmap) => {
                // It may be of a version that is not known.
                match Version::from_wire(bytes[0]) {
                    Some(v) => heading(out, "OFPT_HELLO", v, message.xid)?,
                    None => {
                        let (v, xid) = (bytes[0], message.xid);
                        write!(out, "OFPT_HELLO (OF {v:#04x}) (xid={xid:#x}):")?;
                    }
                }
                let unknown = (!hello_is_plain(bytes)).then_some(bytes);
                switch::write_hello(out, *bitmap, unknown)
            }
            // 1.0 says "any table" in the command's high byte.
            Body::FlowMod(f)
                if message.version == Version::Of10
                    && f.table.is_none()
                    && style.session.flow_mod_table_id =>
            {
                let f = crate::FlowMod { table: Some(base::TableId::ALL), ..(**f).clone() };
                let raw = (style.verbosity >= 3)
                    .then(|| raw_match::of_flow_mod(bytes, style.verbosity))
                    .flatten();
                write_heading(out, message)?;
                let raw = raw.as_ref().map(|r| r as &dyn fmt::Display);
                flows::write_mod(out, &f, message.version, style, raw)
            }
            Body::FlowMod(f) if style.verbosity >= 3 => {
                let Some(raw) = raw_match::of_flow_mod(bytes, style.verbosity) else {
                    return write!(out, "{}", MessageText { message, style });
                };
                write_heading(out, message)?;
                flows::write_mod(out, f, message.version, style, Some(&raw))
            }
            _ => write!(out, "{}", MessageText { message, style }),
        }
    }
}

impl Message {
    /// What the headers of a message, which may be cut off behind them, say: kind, version and
    /// transaction.
    pub fn peek_kind(bytes: &[u8]) -> Option<(crate::message::Kind, Version, u32)> {
        let mut r = Reader::new(bytes, 0);
        let (v, typ) = (r.u8().ok()?, r.u8().ok()?);
        r.skip(2).ok()?;
        let xid = r.u32().ok()?;
        let version = Version::from_wire(v)?;
        let (kind, _) = crate::message::read_kind(&mut r, version, typ).ok()?;
        Some((kind, version, xid))
    }
}
