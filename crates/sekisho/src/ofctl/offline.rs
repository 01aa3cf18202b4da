//! Commands that need no switch: messages and packets in files.

use std::io::{IsTerminal, Read};

use base::OfPort;
use flow::text::{FlowText, NoNames, parse_exact};
use flow::{FlowKey, PacketKey};
use openflow::message::{Session as Agreed, frame_len};
use openflow::print::{BytesText, HexLines, Style};
use packet::PacketBuf;
use packet::header::{ethertype, ipproto, tcp_flag};

use super::query::hex_bytes;
use super::{COMMANDS, Tool};
use crate::applet::{Failure, Outcome};
use crate::control::strerror;

/// Bytes of a file, or of standard input for `-`.
pub(super) fn read_bytes(name: &str, failed: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match name {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        _ => std::fs::read(name).map(|b| bytes = b),
    };
    read.map_err(|e| Failure::fatal(format!("{name}: {failed} ({})", strerror(&e))))?;
    Ok(bytes)
}

/// Prints a message, with `more` verbosity than the options say.
fn print(tool: &mut Tool<'_, '_>, bytes: &[u8], more: u8) -> Result<(), Failure> {
    let session = Agreed { flow_mod_table_id: true };
    let style = Style { names: &NoNames, verbosity: tool.settings.verbosity + more, session };
    Ok(write!(tool.session.out, "{}", BytesText { bytes, style })?)
}

/// Prints a file of messages, one after the other as on a connection.
pub(super) fn ofp_parse(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let name = &args[0];
    let bytes = read_bytes(name, "open")?;
    let mut rest = &bytes[..];
    let short = || Failure::fatal(format!("{name}: unexpected end of file mid-message"));
    while !rest.is_empty() {
        let header = rest.first_chunk::<8>().ok_or_else(short)?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if len < 8 {
            let text = format!("{name}: {len}-byte message is too short for OpenFlow");
            return Err(Failure::fatal(text));
        }
        let (message, more) = rest.split_at_checked(len).ok_or_else(short)?;
        print(tool, message, 2)?;
        rest = more;
    }
    Ok(0)
}

/// Ports on which OpenFlow is spoken: that of IANA, and that of before.
const OPENFLOW_PORTS: [u16; 2] = [6653, 6633];

/// One direction of a TCP connection.
#[derive(Default)]
struct Direction {
    ends: PacketKey,
    /// What comes next, in sequence numbers.
    next: u32,
    unread: Vec<u8>,
    broken: bool,
}

/// Prints the OpenFlow messages of the TCP connections in a file of tcpdump's: those on the ports given,
/// or on those of OpenFlow.
pub(super) fn ofp_parse_pcap(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let name = &args[0];
    let bytes = read_bytes(name, "failed to open for reading")?;
    let bad = |why: &str| Failure::fatal(format!("{name}: {why}"));
    let packets = pcap_packets(&bytes).map_err(bad)?;
    let mut ports = Vec::new();
    for arg in &args[1..] {
        let port = arg.parse::<u16>();
        ports.push(port.map_err(|_| Failure::fatal(format!("{arg}: not a port number")))?);
    }
    if ports.is_empty() {
        ports.extend(OPENFLOW_PORTS);
    }
    let mut is_first = true;
    let mut directions: Vec<Direction> = Vec::new();
    for Captured { seconds, micros, frame } in packets {
        let mut packet = PacketBuf::from_frame(frame);
        let mut key = PacketKey::ZERO;
        flow::extract(&mut packet, &mut key);
        let is_openflow = ports.contains(&key.tp_src) || ports.contains(&key.tp_dst);
        let (true, Some((seq, payload))) = (is_openflow, tcp_payload(&packet, &key)) else {
            continue;
        };
        let ends = PacketKey { tcp_flags: 0, ..ends_of(&key) };
        let d = match directions.iter().position(|d| d.ends == ends) {
            Some(i) => &mut directions[i],
            None => {
                directions.push(Direction { ends, next: seq, ..Direction::default() });
                let last = directions.len() - 1;
                &mut directions[last]
            }
        };
        if key.tcp_flags & tcp_flag::SYN != 0 {
            *d = Direction { ends, next: seq.wrapping_add(1), ..Direction::default() };
            continue;
        }
        // A part that was seen already, or one that is missing.
        let seen = d.next.wrapping_sub(seq) as usize;
        if d.broken || seen > payload.len() {
            d.broken |= seen <= 1 << 30 || !payload.is_empty();
            continue;
        }
        d.unread.extend_from_slice(&payload[seen..]);
        d.next = seq.wrapping_add(payload.len() as u32);
        let mut messages = Vec::new();
        loop {
            match frame_len(&d.unread) {
                Ok(Some(len)) if len <= d.unread.len() => {
                    messages.push(d.unread.drain(..len).collect::<Vec<u8>>());
                }
                Ok(_) => break,
                Err(_) => {
                    d.broken = true;
                    break;
                }
            }
        }
        for message in messages {
            let out = &mut tool.session.out;
            if !std::mem::replace(&mut is_first, false) {
                writeln!(out)?;
            }
            if tool.settings.timestamp {
                let date = crate::control::utc(seconds.into());
                let time = date.split('T').nth(1).unwrap_or_default().trim_end_matches('Z');
                write!(out, "{time}.{:03} ", micros / 1000)?;
            }
            let [src, dst] = addresses(&key);
            writeln!(out, "{src}.{} > {dst}.{}:", key.tp_src, key.tp_dst)?;
            print(tool, &message, 1)?;
        }
    }
    Ok(0)
}

/// What tells one direction of a connection from others.
fn ends_of(key: &PacketKey) -> PacketKey {
    PacketKey {
        nw_src: key.nw_src,
        nw_dst: key.nw_dst,
        ipv6_src: key.ipv6_src,
        ipv6_dst: key.ipv6_dst,
        tp_src: key.tp_src,
        tp_dst: key.tp_dst,
        ..PacketKey::ZERO
    }
}

fn addresses(key: &PacketKey) -> [String; 2] {
    match key.dl_type {
        ethertype::IPV6 => {
            [key.ipv6_src, key.ipv6_dst].map(|a| std::net::Ipv6Addr::from(a).to_string())
        }
        _ => [key.nw_src, key.nw_dst].map(|a| std::net::Ipv4Addr::from(a).to_string()),
    }
}

/// Sequence number and data of a TCP segment.
fn tcp_payload<'a>(packet: &'a PacketBuf, key: &PacketKey) -> Option<(u32, &'a [u8])> {
    if key.nw_proto != ipproto::TCP {
        return None;
    }
    let frame = packet.frame();
    let (l3, l4) = (packet.l3()?, packet.l4()?);
    let ip = frame.get(l3..)?;
    let length = match key.dl_type {
        ethertype::IPV4 => usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?])),
        ethertype::IPV6 => 40 + usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?])),
        _ => return None,
    };
    let segment = frame.get(l4..(l3 + length).min(frame.len()))?;
    let header = usize::from(segment.get(12)? >> 4) * 4;
    let seq = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
    Some((seq, segment.get(header..)?))
}

/// A packet of a file of tcpdump's.
pub(super) struct Captured<'a> {
    seconds: u32,
    micros: u32,
    pub(super) frame: &'a [u8],
}

/// Reads a file of tcpdump's (`pcap-savefile(5)`).
pub(super) fn pcap_packets(bytes: &[u8]) -> Result<Vec<Captured<'_>>, &'static str> {
    let magic = bytes.first_chunk::<4>().ok_or("failed to read pcap header")?;
    let word: fn([u8; 4]) -> u32 = match *magic {
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        _ => return Err("bad magic (expected 0xa1b2c3d4 or 0xd4c3b2a1)"),
    };
    let nanos = word(*magic) == 0xa1b2_3c4d;
    let mut rest = bytes.get(24..).ok_or("failed to read pcap header")?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let header = rest.first_chunk::<16>().ok_or("failed to read pcap packet header")?;
        let field = |i: usize| word([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let len = usize::try_from(field(8)).map_err(|_| "bad length")?;
        let frame =
            rest.get(16..).and_then(|r| r.get(..len)).ok_or("failed to read packet data")?;
        let micros = if nanos { field(4) / 1000 } else { field(4) };
        packets.push(Captured { seconds: field(0), micros, frame });
        rest = &rest[16 + len..];
    }
    Ok(packets)
}

/// Bytes of payload in a packet that is made from a flow.
const L7_LEN: usize = 64;

/// Makes the packet that a flow describes.
pub(super) fn compose_packet(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    if tool.settings.pcap && tool.settings.bare {
        return Err(Failure::fatal("--bare and --pcap are mutually exclusive"));
    }
    if tool.settings.pcap && std::io::stdout().is_terminal() {
        return Err(Failure::fatal(
            "not writing pcap data to stdout; redirect to a file or pipe to tcpdump instead",
        ));
    }
    let key = parse_exact(&args[0], &NoNames).map_err(|e| Failure::fatal(e.message))?;
    let payload = match args.get(1) {
        Some(hex) => hex_bytes(hex)
            .ok_or_else(|| Failure::fatal(format!("{hex}: trailing garbage in packet data")))?,
        None => (0..L7_LEN).map(|i| i as u8).collect(),
    };
    let mut frame = flow::compose(&key.pkt, &payload, 0);
    if tool.settings.bad_csum {
        spoil_checksum(&mut frame);
    }
    let out = &mut tool.session.out;
    if tool.settings.pcap {
        out.write_all(&packet::pcap::file_header(1518))?;
        out.write_all(&packet::pcap::record_header(0, 0, frame.len() as u32))?;
        out.write_all(&frame)?;
    } else if tool.settings.bare {
        for byte in &frame {
            write!(out, "{byte:02x}")?;
        }
    } else {
        write!(out, "{}", HexLines(&frame))?;
    }
    let mut read = FlowKey::ZERO;
    read.actset_output = key.actset_output;
    flow::extract(&mut PacketBuf::from_frame(&frame), &mut read.pkt);
    read.pkt.in_port = OfPort::NONE.0.into();
    if read != key {
        tool.session.out.flush()?;
        let [said, read] = [key, read].map(|k| FlowText { key: &k, names: &NoNames }.to_string());
        writeln!(
            tool.session.err,
            "specified and extracted flows differ:\nspecified: {said}\nextracted: {read}"
        )?;
        return Ok(1);
    }
    Ok(0)
}

/// Makes the IPv4 checksum of a frame wrong, if it has one.
fn spoil_checksum(frame: &mut [u8]) {
    let mut packet = PacketBuf::from_frame(frame);
    let mut key = PacketKey::ZERO;
    flow::extract(&mut packet, &mut key);
    if let (ethertype::IPV4, Some(l3)) = (key.dl_type, packet.l3())
        && let Some(byte) = frame.get_mut(l3 + 10)
    {
        *byte = byte.wrapping_add(1);
    }
}

/// Prints the flow of a packet that comes on standard input.
pub(super) fn parse_packet(tool: &mut Tool<'_, '_>, _: &[String]) -> Outcome {
    let frame = read_bytes("-", "failed to read packet from stdin")?;
    let mut text = String::new();
    openflow::print::packets::write_frame(&mut text, &frame)
        .map_err(|e| Failure::fatal(e.to_string()))?;
    write!(tool.session.out, "{text}")?;
    Ok(0)
}

/// Lists the commands.
pub(super) fn list_commands(tool: &mut Tool<'_, '_>, _: &[String]) -> Outcome {
    writeln!(tool.session.out, "The available commands are:")?;
    let mut all: Vec<_> = COMMANDS.iter().collect();
    all.sort_by_key(|c| c.name);
    for c in all {
        writeln!(tool.session.out, "  {:<23} {}", c.name, c.usage)?;
    }
    Ok(0)
}
