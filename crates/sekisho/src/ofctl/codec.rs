//! Commands that show how matches, actions and errors are said on the wire: `parse-nxm`, `parse-oxm`,
//! `parse-ofp10-match`, `parse-ofp11-match`, `parse-actions`, `parse-instructions`, `check-vlan`,
//! `print-error`, `encode-error-reply`, `encode-hello`, `parse-key-value`, `parse-pcap`.
//!
//! `ovs-ofctl` has them without telling; its own tests and those of other switches use them.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, Write};

use flow::field::Oxm;
use flow::text::{FlowText, MatchText, Mode, NoNames, Pairs, Tok, parse_match};
use flow::{Field, FieldId, FlowKey, Match};
use openflow::Action;
use openflow::action::check::{Rules, check};
use openflow::action::{decode, encode};
use openflow::error::{DecodeError, OfError};
use openflow::message::{Body, ErrorMsg, Message, Session as Agreed, hello, match10, match11};
use openflow::oxm::{self, NxMatch};
use openflow::print::raw_match::NxmText;
use openflow::print::{BytesText, Diagnosis, HexLines, Style};
use openflow::protocol::Protocols;
use openflow::text::ActionsText;
use openflow::version::Version;
use openflow::wire::{Put, Reader};
use packet::PacketBuf;

use super::offline::pcap_packets;
use super::query::hex_bytes;
use super::{Tool, log};
use crate::applet::{Failure, Outcome};
use crate::control::strerror;

/// `ofp_match`'s type of OXM.
const OFPMT_OXM: u16 = 1;

/// Lines of standard input. Comments begin with `#`; what is `told` gets the lines that say nothing.
fn input_lines(
    tool: &mut Tool<'_, '_>,
    tell_blank: bool,
    mut each: impl FnMut(&mut Tool<'_, '_>, &str) -> Result<(), Failure>,
) -> Outcome {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let said = line.split('#').next().unwrap_or_default();
        if !said.trim().is_empty() {
            each(tool, said)?;
        } else if tell_blank {
            let text = if line.starts_with('#') { &line } else { "" };
            writeln!(tool.session.out, "{text}")?;
        }
    }
    Ok(0)
}

fn hex_of(text: &str) -> Result<Vec<u8>, Failure> {
    hex_bytes(text).ok_or_else(|| Failure::fatal("Trailing garbage in hex data"))
}

/// Tells where the bytes `b` differ from `a`.
fn write_differences(
    tool: &mut Tool<'_, '_>,
    prefix: &str,
    a: &[u8],
    b: &[u8],
) -> Result<(), Failure> {
    let out = &mut tool.session.out;
    for i in 0..a.len().max(b.len()) {
        match (a.get(i), b.get(i)) {
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) => writeln!(out, "{prefix}{i:2}: {x:02x} -> {y:02x}")?,
            (None, Some(y)) => writeln!(out, "{prefix}{i:2}: (none) -> {y:02x}")?,
            (Some(x), None) => writeln!(out, "{prefix}{i:2}: {x:02x} -> (none)")?,
            (None, None) => {}
        }
    }
    Ok(())
}

/// The header that a name in an entry's text means, and whether a mask follows. Eight or sixteen
/// hexadecimal digits mean themselves.
enum Named {
    Field(&'static Field, &'static Oxm, bool),
    Header(Vec<u8>),
}

impl Named {
    fn find(name: &str) -> Option<Named> {
        if let Some((f, oxm)) = Field::by_oxm_name(name) {
            return Some(Named::Field(f, oxm, false));
        }
        let masked = name.strip_suffix("_W").and_then(Field::by_oxm_name);
        if let Some((f, oxm)) = masked.filter(|m| m.0.mask != flow::field::MaskRule::Exact) {
            return Some(Named::Field(f, oxm, true));
        }
        let cookie = |masked: bool| {
            let mut entry = Vec::new();
            oxm::put_cookie(&mut entry, 0, if masked { 1 } else { u64::MAX });
            entry.truncate(4);
            Some(Named::Header(entry))
        };
        match name {
            "NXM_NX_COOKIE" => return cookie(false),
            "NXM_NX_COOKIE_W" => return cookie(true),
            _ => {}
        }
        let bytes = matches!(name.len(), 8 | 16).then(|| hex_bytes(name)).flatten()?;
        // Only headers of experimenters have eight bytes.
        (bytes.len() == 4 || bytes.starts_with(&[0xff, 0xff])).then_some(Named::Header(bytes))
    }
}

/// Reads pairs of hexadecimal digits from the front of a text.
fn hex_prefix(text: &str) -> (Vec<u8>, &str) {
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let mut bytes = Vec::new();
    while let Some(byte) = rest.get(..2).filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit())) {
        bytes.extend(u8::from_str_radix(byte, 16));
        rest = rest[2..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    (bytes, rest)
}

/// Reads entries, `NAME(HEX)` or `NAME_W(HEX/HEX)`, as they would be on the wire.
fn entries_of(text: &str) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    if text == "<any>" {
        return Ok(out);
    }
    let separators = [',', ' '];
    let mut rest = text.trim_start_matches(separators);
    while !rest.is_empty() {
        let (name, tail) = rest
            .split_once('(')
            .ok_or_else(|| Failure::fatal(format!("{text}: missing ( at end of nx_match")))?;
        let named = Named::find(name)
            .ok_or_else(|| Failure::fatal(format!("{text}: unknown field `{name}'")))?;
        let (value, mut tail) = hex_prefix(tail);
        let mut header = Vec::new();
        let (masked, width, variable) = match &named {
            Named::Field(f, oxm, masked) => {
                oxm::put_header(&mut header, f, oxm, *masked);
                (*masked, usize::from(f.n_bytes), f.tun_option().is_some())
            }
            Named::Header(bytes) => {
                header.clone_from(bytes);
                let masked = bytes[2] & 1 != 0;
                let length = usize::from(bytes[3]).saturating_sub(bytes.len() - 4);
                (masked, if masked { length / 2 } else { length }, false)
            }
        };
        if variable && value.len() <= width {
            header[3] = value.len() as u8 * if masked { 2 } else { 1 };
        } else if value.len() != width {
            let most = if variable { "at most " } else { "" };
            let n = value.len();
            let text = format!("expected to read {most}{width} bytes but got {n}");
            return Err(Failure::fatal(text));
        }
        out.extend_from_slice(&header);
        out.extend_from_slice(&value);
        if masked {
            tail = tail.trim_start_matches(' ').strip_prefix('/').ok_or_else(|| {
                Failure::fatal(format!("{text}: missing / in masked field {name}"))
            })?;
            let (mask, after) = hex_prefix(tail);
            if mask.len() != value.len() {
                let at: String = after.chars().take(2).collect();
                return Err(Failure::fatal(format!("{at}: hex digits expected")));
            }
            out.extend_from_slice(&mask);
            tail = after;
        }
        rest = tail
            .trim_start_matches(' ')
            .strip_prefix(')')
            .ok_or_else(|| Failure::fatal(format!("{text}: missing ) following field {name}")))?
            .trim_start_matches(separators);
    }
    Ok(out)
}

/// Reads a match's entries, writes them again, and prints what became of them.
fn reparse(tool: &mut Tool<'_, '_>, text: &str, form: oxm::Form) -> Result<(), Failure> {
    let entries = entries_of(text)?;
    let lenient = !tool.settings.strict;
    let read: Result<NxMatch, DecodeError> =
        oxm::read_match(&mut Reader::new(&entries, 0), lenient);
    let out = &mut tool.session.out;
    let read = match read {
        Ok(read) => read,
        Err(e) => {
            writeln!(out, "nx_pull_match() returned error {}", e.error)?;
            return Ok(());
        }
    };
    let mut bytes = Vec::new();
    if form.is_some() {
        bytes.put16(OFPMT_OXM);
        bytes.put16(0);
    }
    let start = bytes.len();
    oxm::put_match(&mut bytes, &read.m, form).map_err(|e| Failure::fatal(e.to_string()))?;
    if let (None, Some((cookie, mask))) = (form, read.cookie) {
        oxm::put_cookie(&mut bytes, cookie, mask);
    }
    writeln!(out, "{}", NxmText(&bytes[start..]))?;
    if tool.settings.verbosity > 0 {
        if start > 0 {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        write!(out, "{}", HexLines(&bytes))?;
    }
    Ok(())
}

/// Reads lines of NXM entries and prints what is understood of them.
pub(super) fn parse_nxm(tool: &mut Tool<'_, '_>, _: &[String]) -> Outcome {
    input_lines(tool, true, |tool, line| reparse(tool, line, None))
}

fn version_named(name: &str) -> Result<Version, Failure> {
    Version::from_name(name)
        .ok_or_else(|| Failure::fatal(format!("{name}: not a valid OpenFlow version")))
}

/// The same for OXM entries of a version.
pub(super) fn parse_oxm(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let version = Version::from_name(&args[0])
        .filter(|v| *v >= Version::Of12)
        .ok_or_else(|| Failure::fatal(format!("{}: not a valid version for OXM", args[0])))?;
    input_lines(tool, true, |tool, line| reparse(tool, line, Some(version)))
}

/// A random hexadecimal digit.
fn random_digit(n: usize) -> char {
    let random = RandomState::new().hash_one(n);
    char::from_digit((random & 0xf) as u32, 16).unwrap_or('0')
}

fn sized(bytes: Vec<u8>, len: usize) -> Result<Vec<u8>, Failure> {
    match bytes.len() == len {
        true => Ok(bytes),
        false => {
            let text = format!("Input is {} bytes, expected {len}", bytes.len());
            Err(Failure::fatal(text))
        }
    }
}

fn write_match(tool: &mut Tool<'_, '_>, m: &Match) -> Result<(), Failure> {
    let text = MatchText { m, priority: None, names: &NoNames };
    Ok(writeln!(tool.session.out, "{text}")?)
}

/// Reads lines of the bytes of 1.0's match, prints what each means and where it would be said
/// differently. `x` is any digit, said as 0.
pub(super) fn parse_ofp10_match(tool: &mut Tool<'_, '_>, _: &[String]) -> Outcome {
    input_lines(tool, false, |tool, line| {
        let expected = sized(hex_of(&line.replace('x', "0"))?, match10::LEN)?;
        let filled: String = line
            .chars()
            .enumerate()
            .map(|(i, c)| if c == 'x' { random_digit(i) } else { c })
            .collect();
        let bytes = sized(hex_of(&filled)?, match10::LEN)?;
        let mut m = match10::read_as_said(&mut Reader::new(&bytes, 0)).map_err(undecodable)?;
        write_match(tool, &m)?;
        let before = m;
        let said = |m: &Match| {
            let mut out = Vec::new();
            match10::write(&mut out, m);
            out
        };
        let again = said(&m);
        write_differences(tool, "", &expected, &again)?;
        m.normalize();
        if m != before {
            log::normalized(&before, &m);
        }
        write_differences(tool, "normal: ", &again, &said(&m))?;
        Ok(writeln!(tool.session.out)?)
    })
}

fn undecodable(e: DecodeError) -> Failure {
    Failure::fatal(e.to_string())
}

/// The same for 1.1's match.
pub(super) fn parse_ofp11_match(tool: &mut Tool<'_, '_>, _: &[String]) -> Outcome {
    input_lines(tool, false, |tool, line| {
        let bytes = sized(hex_of(line)?, match11::LEN)?;
        let mut r = Reader::new(&bytes, 0);
        let (typ, len) = (r.u16().map_err(undecodable)?, r.u16().map_err(undecodable)?);
        let read = match (typ, usize::from(len)) {
            (0, match11::LEN) => match11::read(&mut r).map_err(|e| e.error),
            (0, _) => Err(OfError::OFPBMC_BAD_LEN),
            _ => Err(OfError::OFPBMC_BAD_TYPE),
        };
        match read {
            Ok(m) => {
                write_match(tool, &m)?;
                let mut again = Vec::new();
                match11::write(&mut again, &m);
                write_differences(tool, "", &bytes, &again)?;
                Ok(writeln!(tool.session.out)?)
            }
            Err(e) => {
                let port = bytes.get(4..8).and_then(|b| b.first_chunk::<4>());
                let port = port.map(|b| u32::from_be_bytes(*b));
                if let Some(n) = port.filter(|n| base::OfPort::from_wire32(*n).is_none()) {
                    switchd::log!(
                        Warn,
                        OfpPort,
                        "port {n} is outside the supported range 0 through 65279 or 0xffffff00 \
                         through 0xffffffff"
                    );
                }
                Ok(writeln!(tool.session.out, "bad ofp11_match: {e}\n")?)
            }
        }
    })
}

/// Reads lines of the bytes of actions, perhaps behind a table and a comma, prints what they mean and
/// where they would be said differently.
fn reparse_actions(tool: &mut Tool<'_, '_>, name: &str, instructions: bool) -> Outcome {
    let version = version_named(name)?;
    input_lines(tool, false, |tool, line| {
        let (table, hex) = line.split_once(',').unwrap_or(("0", line));
        let table = base::TableId(table.trim().parse().unwrap_or(0));
        let bytes = hex_of(hex)?;
        let mut r = Reader::new(&bytes, 0);
        let read = match instructions && version > Version::Of10 {
            true => decode::instructions(&mut r, version),
            false => decode::actions(&mut r, version),
        };
        let instructions_of = instructions && version > Version::Of10;
        let read = read.map_err(|e| {
            if !instructions_of {
                log::diagnosis(&Diagnosis::of_actions(&bytes, 0, e));
            }
            e.error
        });
        let read = read.and_then(|actions| {
            if !instructions
                && actions.iter().any(|a| !matches!(a, Action::Meter(_)) && a.is_instruction())
            {
                return Err(OfError::OFPBIC_UNSUP_INST);
            }
            if instructions {
                let allowed = check(&actions, &Match::ANY, Some(table), Rules::Tracked)?;
                let can_say = allowed.and(Protocols::of_versions(version.bit()));
                if version > Version::Of10 && can_say.is_empty() {
                    return Err(OfError::OFPBAC_MATCH_INCONSISTENT);
                }
            }
            Ok(actions)
        });
        let out = &mut tool.session.out;
        let actions = match read {
            Ok(actions) => actions,
            Err(e) => {
                let what = if instructions { "instructions" } else { "actions" };
                return Ok(writeln!(out, "bad {name} {what}: {e}\n")?);
            }
        };
        let text = ActionsText { actions: &actions, names: &NoNames, version };
        writeln!(out, "actions={text}")?;
        let mut again = Vec::new();
        let known = encode::Known::default();
        let said = match instructions {
            true => encode::flow_actions(&mut again, &actions, version, known),
            false => encode::actions(&mut again, &actions, version, known),
        };
        said.map_err(|e| Failure::fatal(e.to_string()))?;
        write_differences(tool, "", &bytes, &again)?;
        Ok(writeln!(tool.session.out)?)
    })
}

pub(super) fn parse_actions(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    reparse_actions(tool, &args[0], false)
}

pub(super) fn parse_instructions(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    reparse_actions(tool, &args[0], true)
}

/// Prints how each form says a match of the VLAN's TCI, and what is read again of it.
pub(super) fn check_vlan(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let number = |text: &String| {
        u16::from_str_radix(text.trim_start_matches("0x"), 16)
            .map_err(|_| Failure::fatal(format!("{text}: not a hexadecimal number of 16 bits")))
    };
    let mut m = Match::ANY;
    m.set(FieldId::VlanTci, number(&args[0])?.into(), number(&args[1])?.into());
    let tci = |m: &Match| (m.key.pkt.vlans[0].tci, m.mask.pkt.vlans[0].tci);
    let show = |m: &Match| format!("{:04x}/{:04x}", tci(m).0, tci(m).1);
    let out = &mut tool.session.out;

    let text = MatchText { m: &m, priority: None, names: &NoNames }.to_string();
    let read = parse_match(&text, &NoNames, Mode::Ovs).map_err(|e| Failure::fatal(e.message))?;
    writeln!(out, "{text} -> {}", show(&read))?;

    for (name, form) in [("NXM", None), ("OXM", Some(Version::Of12))] {
        let mut bytes = Vec::new();
        oxm::put_match(&mut bytes, &m, form).map_err(|e| Failure::fatal(e.to_string()))?;
        write!(out, "{name}: {} -> ", NxmText(&bytes))?;
        match oxm::read_match(&mut Reader::new(&bytes, 0), false) {
            Err(e) => writeln!(out, "{}", e.error)?,
            Ok(read) if form.is_none() => writeln!(out, "{}", show(&read.m))?,
            Ok(read) => {
                // OXM has the priority in a field of its own.
                let (value, mask) = tci(&read.m);
                write!(out, "{:04x}/{:04x},", value & 0x1fff, mask & 0x1fff)?;
                match value & 0x1fff != 0 && mask >> 13 != 0 {
                    true => writeln!(out, "{:02}", value >> 13)?,
                    false => writeln!(out, "--")?,
                }
            }
        }
    }

    let mut bytes = Vec::new();
    match10::write(&mut bytes, &m);
    let raw = match10::Raw::read(&mut Reader::new(&bytes, 0)).map_err(undecodable)?;
    let read = match10::read_as_said(&mut Reader::new(&bytes, 0)).map_err(undecodable)?;
    let wild = |bit: u32| u8::from(raw.wildcards & bit != 0);
    writeln!(
        out,
        "OF1.0: {:04x}/{},{:02x}/{} -> {}",
        raw.dl_vlan,
        wild(match10::DL_VLAN),
        raw.dl_vlan_pcp,
        wild(match10::DL_VLAN_PCP),
        show(&read)
    )?;

    let mut bytes = Vec::new();
    match11::write(&mut bytes, &m);
    let vlan = match11::vlan_said(&bytes).ok_or_else(|| Failure::fatal("no match of 1.1"))?;
    let read = match11::read(&mut Reader::new(&bytes[4..], 4)).map_err(undecodable)?;
    writeln!(
        out,
        "OF1.1: {:04x}/{},{:02x}/{} -> {}",
        vlan.vid,
        u8::from(vlan.any_vid),
        vlan.pcp,
        u8::from(vlan.any_pcp),
        show(&read)
    )?;
    Ok(0)
}

fn error_named(name: &str) -> Result<OfError, Failure> {
    OfError::all()
        .find(|e| e.name() == name)
        .ok_or_else(|| Failure::fatal(format!("unknown error \"{name}\"")))
}

/// Prints an error's numbers in each version that has it.
pub(super) fn print_error(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let error = error_named(&args[0])?;
    for v in Version::ALL {
        if let Some((vendor, typ, code)) = error.numbers(v) {
            let vendor = openflow::print::Hex(vendor.into());
            let minor = v as u8 - 1;
            let out = &mut tool.session.out;
            writeln!(out, "OpenFlow 1.{minor}: vendor {vendor}, type {typ}, code {code}")?;
        }
    }
    Ok(0)
}

/// Prints the bytes of the answer that a request with an error in it gets.
pub(super) fn encode_error_reply(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let error = error_named(&args[0])?;
    let request = hex_of(&args[1])?;
    let header = request.first_chunk::<8>().ok_or_else(|| Failure::fatal("Request too short"))?;
    if usize::from(u16::from_be_bytes([header[2], header[3]])) != request.len() {
        return Err(Failure::fatal("Request size inconsistent"));
    }
    let version = Version::from_wire(header[0]).unwrap_or(Version::Of10);
    let xid = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    // What does not fit behind the longest header of an error is left out.
    let data = request[..request.len().min(usize::from(u16::MAX) - 20)].to_vec();
    if error.numbers(version).is_none() {
        let minor = version as u8 - 1;
        switchd::log!(Err, OfpErrors, "cannot encode {} for OpenFlow 1.{minor}", error.name());
    }
    let body = Body::Error(ErrorMsg { error: Some(error), raw: (0, 0), data });
    let reply = Message::new(version, xid, body).encode(Agreed::default());
    let reply = reply.map_err(|e| Failure::fatal(e.to_string()))?;
    write!(tool.session.out, "{}", HexLines(&reply))?;
    Ok(0)
}

/// Prints the bytes of a hello that offers the versions in a bitmap.
pub(super) fn encode_hello(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let bitmap = flow::text::number::signed(&args[0])
        .and_then(|n| u32::try_from(n).ok())
        .filter(|bits| Version::highest(*bits).is_some())
        .ok_or_else(|| Failure::fatal(format!("{}: not a bitmap of versions 1 to 6", args[0])))?;
    let session = Agreed { flow_mod_table_id: true };
    let bytes = hello(tool.next_xid(), bitmap).encode(session);
    let bytes = bytes.map_err(|e| Failure::fatal(e.to_string()))?;
    let style = Style { names: &NoNames, verbosity: tool.settings.verbosity, session };
    let text = BytesText { bytes: &bytes, style };
    write!(tool.session.out, "{}{text}", HexLines(&bytes))?;
    Ok(0)
}

/// Prints the pairs of keys and values that texts consist of.
pub(super) fn parse_key_value(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    for arg in args {
        for (i, pair) in Pairs::new(Tok::line(arg)).enumerate() {
            let separator = if i > 0 { ", " } else { "" };
            write!(tool.session.out, "{separator}{}", pair.key.text)?;
            if !pair.value.text.is_empty() {
                write!(tool.session.out, "={}", pair.value.text)?;
            }
        }
        writeln!(tool.session.out)?;
    }
    Ok(0)
}

/// Prints the flows of the packets in files of tcpdump's.
pub(super) fn parse_pcap(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut status = 0;
    for name in args {
        let bytes = match std::fs::read(name) {
            Ok(bytes) => bytes,
            Err(e) => {
                let (program, why) = (&tool.session.program, strerror(&e));
                writeln!(tool.session.err, "{program}: {name}: open failed ({why})")?;
                status = e.raw_os_error().and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
                continue;
            }
        };
        match pcap_packets(&bytes) {
            Ok(packets) => {
                for packet in packets {
                    let mut key = FlowKey::ZERO;
                    flow::extract(&mut PacketBuf::from_frame(packet.frame), &mut key.pkt);
                    key.pkt.in_port = base::OfPort::NONE.0.into();
                    writeln!(tool.session.out, "{}", FlowText { key: &key, names: &NoNames })?;
                }
            }
            Err(why) => {
                writeln!(tool.session.err, "{}: {name}: {why}", tool.session.program)?;
                status = 1;
            }
        }
    }
    Ok(status)
}
