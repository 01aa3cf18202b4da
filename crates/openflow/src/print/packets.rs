//! Packets to and from controllers.

use core::fmt::{self, Write};

use flow::text::{FlowText, MatchText, NoNames, TableText};
use packet::PacketBuf;

use super::{HexLines, Style};
use crate::message::{Continuation, PacketIn, PacketInFormat, PacketOut};
use crate::text::ActionsText;
use crate::version::Version;

/// Names of packet-in forms: of `-P`, and as printed first.
const FORMATS: [(&str, PacketInFormat); 5] = [
    ("standard", PacketInFormat::Standard),
    ("nxt_packet_in", PacketInFormat::Nxt),
    ("nxt_packet_in2", PacketInFormat::Nxt2),
    ("openflow10", PacketInFormat::Standard),
    ("nxm", PacketInFormat::Nxt),
];

/// The name of a form of packet-ins.
pub fn format_name(format: PacketInFormat) -> &'static str {
    FORMATS.iter().find(|f| f.1 == format).map_or("standard", |f| f.0)
}

/// The form of packet-ins with this name.
pub fn format_from_name(name: &str) -> Option<PacketInFormat> {
    FORMATS.iter().find(|f| f.0 == name).map(|f| f.1)
}

/// Writes a frame as the fields it has, and a newline.
pub fn write_frame(out: &mut impl Write, frame: &[u8]) -> fmt::Result {
    let mut buf = PacketBuf::from_frame(frame);
    let mut key = flow::FlowKey::default();
    flow::extract(&mut buf, &mut key.pkt);
    // The frame alone says nothing of where it came in.
    let text = alloc::format!("{}", FlowText { key: &key, names: &NoNames });
    out.write_str(&text.replacen("in_port=0,", "", 1))?;
    let transport = buf.l4().and_then(|at| buf.frame().get(at..)).unwrap_or_default();
    let checksum = match key.pkt.nw_proto {
        6 => Some(("tcp", 16)),
        17 => Some(("udp", 6)),
        132 => Some(("sctp", 8)),
        1 => Some(("icmp", 2)),
        58 => Some(("icmp6", 2)),
        _ => None,
    };
    if let Some((name, at)) = checksum {
        match key.pkt.nw_proto {
            132 => {
                if let Some(sum) = packet::header::be32(transport, at) {
                    write!(out, " {name}_csum:{sum:x}")?;
                }
            }
            _ => {
                if let Some(sum) = packet::header::be16(transport, at) {
                    write!(out, " {name}_csum:{sum:x}")?;
                }
            }
        }
    }
    out.write_char('\n')
}

/// Writes a packet-in.
pub(super) fn write_in(
    out: &mut impl Write,
    x: &PacketIn,
    version: Version,
    style: Style<'_>,
) -> fmt::Result {
    if x.table.0 != 0 || style.names.table_name(x.table).is_some() {
        write!(out, " table_id={}", TableText(x.table, style.names))?;
    }
    if x.cookie != u64::MAX {
        write!(out, " cookie={:#x}", x.cookie)?;
    }
    let metadata = MatchText { m: &x.metadata, priority: None, names: style.names };
    write!(out, " total_len={} {metadata} (via {})", x.total_len, x.reason.name())?;
    let len = x.packet.len() as u64;
    write!(out, " data_len={len}")?;
    match x.buffer_id {
        None => {
            write!(out, " (unbuffered)")?;
            if u64::from(x.total_len) != len {
                write!(out, " (***total_len != data_len***)")?;
            }
        }
        Some(id) => {
            write!(out, " buffer={id:#010x}")?;
            if u64::from(x.total_len) < len {
                write!(out, " (***total_len < data_len***)")?;
            }
        }
    }
    writeln!(out)?;
    if !x.userdata.is_empty() {
        write!(out, " userdata=")?;
        for (i, b) in x.userdata.iter().enumerate() {
            write!(out, "{}{b:02x}", if i == 0 { "" } else { "." })?;
        }
        writeln!(out)?;
    }
    if !x.continuation.is_empty() {
        match Continuation::decode(&x.continuation, version, false) {
            Ok(c) => write_continuation(out, &c, version, style)?,
            Err(_) => writeln!(out, " continuation: {} bytes", x.continuation.len())?,
        }
    }
    write_packet(out, &x.packet, style)
}

/// Writes a packet as the verbosity asks for.
fn write_packet(out: &mut impl Write, packet: &[u8], style: Style<'_>) -> fmt::Result {
    if style.verbosity > 0 {
        write_frame(out, packet)?;
    }
    if style.verbosity > 2 {
        write!(out, "{}", HexLines(packet))?;
    }
    Ok(())
}

/// Writes what a paused pipeline goes on with.
fn write_continuation(
    out: &mut impl Write,
    c: &Continuation,
    version: Version,
    style: Style<'_>,
) -> fmt::Result {
    if c.bridge != [0; 16] {
        // A UUID whose four words are in the order of an x86 CPU.
        let [a, b, c, d] = [0, 4, 8, 12].map(|i| {
            let word = c.bridge[i..].first_chunk().copied();
            u32::from_le_bytes(word.unwrap_or_default())
        });
        let (b1, b2, c1, c2) = (b >> 16, b & 0xffff, c >> 16, c & 0xffff);
        writeln!(out, " continuation.bridge={a:08x}-{b1:04x}-{b2:04x}-{c1:04x}-{c2:04x}{d:08x}")?;
    }
    if !c.stack.is_empty() {
        write!(out, " continuation.stack=(top)")?;
        c.stack.iter().try_for_each(|(value, _)| write!(out, " {value:#x}"))?;
        writeln!(out, " (bottom)")?;
    }
    if c.mirrors != 0 {
        writeln!(out, " continuation.mirrors={:#x}", c.mirrors)?;
    }
    if c.conntracked {
        writeln!(out, " continuation.conntracked=true")?;
    }
    for (name, actions) in [("actions", &c.actions), ("action_set", &c.action_set)] {
        if !actions.is_empty() {
            let text = ActionsText { actions, names: style.names, version };
            writeln!(out, " continuation.{name}={text}")?;
        }
    }
    match c.dp_port {
        0 => Ok(()),
        n => writeln!(out, " continuation.odp_port={n}"),
    }
}

/// Writes a packet-out.
pub(super) fn write_out(
    out: &mut impl Write,
    x: &PacketOut,
    version: Version,
    style: Style<'_>,
) -> fmt::Result {
    write!(out, " {}", MatchText { m: &x.metadata, priority: None, names: style.names })?;
    let actions = ActionsText { actions: &x.actions, names: style.names, version };
    write!(out, " actions={actions}")?;
    match x.buffer_id {
        Some(id) => writeln!(out, " buffer={id:#010x}"),
        None => {
            writeln!(out, " data_len={}", x.packet.len())?;
            match x.packet.is_empty() {
                true => Ok(()),
                false => write_packet(out, &x.packet, style),
            }
        }
    }
}
