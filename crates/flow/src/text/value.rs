//! Values and masks of fields, in and out.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};

use base::{MacAddr, OfPort};

use super::number::{self, NumberError};
use super::scan::Tok;
use super::{Mode, NameMap, PortText, TextError, parse_port};
use crate::field::{Field, FieldId, Format, MaskRule};
use crate::key::CT_STATE_FLAGS;
use crate::tun_metadata::{MAX_OPTION_LEN, OptionMatch, OptionValue};

/// Names of the TCP flags, bit 0 first.
pub const TCP_FLAGS: [(&str, u16); 12] = [
    ("fin", 0x001),
    ("syn", 0x002),
    ("rst", 0x004),
    ("psh", 0x008),
    ("ack", 0x010),
    ("urg", 0x020),
    ("ece", 0x040),
    ("cwr", 0x080),
    ("ns", 0x100),
    ("[200]", 0x200),
    ("[400]", 0x400),
    ("[800]", 0x800),
];

/// Names of the tunnel flags. Only the first may be matched and set.
pub const TUN_FLAGS: [(&str, u16); 4] = [("oam", 1), ("df", 2), ("csum", 4), ("key", 8)];

/// Names of `nw_frag`: value and mask.
const FRAG: [(&str, u8, u8); 5] =
    [("no", 0, 3), ("yes", 1, 1), ("first", 1, 3), ("later", 3, 3), ("not_later", 0, 2)];

/// The flags of a field that is written as flags, as (name, bit).
fn flags_of(format: Format) -> Option<(&'static str, alloc::vec::Vec<(&'static str, u128)>)> {
    let of16 = |t: &'static [(&'static str, u16)]| t.iter().map(|&(n, b)| (n, b.into())).collect();
    match format {
        Format::CtState => {
            Some(("ct_state", CT_STATE_FLAGS.iter().map(|&(n, b)| (n, b.into())).collect()))
        }
        Format::TcpFlags => Some(("TCP", of16(&TCP_FLAGS))),
        Format::TunFlags => Some(("tunnel", of16(&TUN_FLAGS[..1]))),
        _ => None,
    }
}

/// Reads `NUMBER` or `NUMBER/NUMBER` of a field; the mask is `None` when there is none.
fn integers(
    f: &Field,
    tok: Tok<'_>,
    mode: Mode,
) -> Result<(OptionValue, Option<OptionValue>), TextError> {
    let n_bytes = usize::from(f.n_bytes);
    let number = |t: Tok<'_>, what: &str| {
        let bad = |why: NumberError| match why {
            NumberError::Range => {
                let text =
                    format!("{}: {what} too large for {n_bytes}-byte field {}", tok.text, f.name);
                let max = f.all_ones();
                TextError::new(t, text).hint(format!("{} holds 0 to {max} ({max:#x})", f.name))
            }
            NumberError::Syntax => {
                let text = format!("{}: bad syntax for {} {what}", tok.text, f.name);
                TextError::new(t, text)
                    .hint("a number in decimal or, with 0x before it, in hexadecimal")
            }
        };
        let (v, end) = number::wide(t.text, n_bytes).map_err(bad)?;
        let no_digits = t.text.eq_ignore_ascii_case("0x") && mode == Mode::Strict;
        if end != t.text.len() || no_digits {
            return Err(bad(NumberError::Syntax));
        }
        let wider =
            |v| f.id == FieldId::VlanVid && v <= 0x1fff || f.id == FieldId::DlVlan && v == 0xffff;
        let v128 = number::low(&v);
        // OVS asks for a flow label that no packet has; that is refused with `--lenient` too.
        let refuse = mode == Mode::Strict || f.id == FieldId::Ipv6Label;
        if refuse && f.bits <= 128 && v128 > f.all_ones() && !wider(v128) {
            let text = format!("{}: value too large for {}-bit field {}", t.text, f.bits, f.name);
            return Err(TextError::new(t, text).hint(format!(
                "{} holds 0 to {}",
                f.name,
                f.all_ones()
            )));
        }
        Ok(v)
    };
    match tok.split_once("/") {
        None => Ok((number(tok, "value")?, None)),
        Some((v, m)) => Ok((number(v, "value")?, Some(number(m, "mask")?))),
    }
}

/// Reads value and mask of a `tun_metadata` field. `0/0` asks only that the option is there.
pub fn parse_option(f: &Field, tok: Tok<'_>, mode: Mode) -> Result<OptionMatch, TextError> {
    let (value, mask) = if tok.text == "*" {
        ([0; MAX_OPTION_LEN], Some([0; MAX_OPTION_LEN]))
    } else {
        integers(f, tok, mode)?
    };
    Ok(OptionMatch::new(value, mask))
}

/// Reads a dotted quad. OVS takes each octet modulo 256.
fn ipv4(text: &str, mode: Mode) -> Result<Option<u32>, usize> {
    let mut v: u32 = 0;
    let mut n = 0;
    for (i, octet) in text.split('.').enumerate() {
        if octet.is_empty() || octet.len() > 10 || !octet.bytes().all(|c| c.is_ascii_digit()) {
            return Ok(None);
        }
        let o: u64 = octet.parse().map_err(|_| i)?;
        if o > 255 && mode == Mode::Strict {
            return Err(i);
        }
        v = (v << 8) | (o as u32 & 0xff);
        n += 1;
    }
    Ok((n == 4).then_some(v))
}

fn prefix_mask(bits: u32, width: u32) -> u128 {
    let ones = if width == 128 { u128::MAX } else { (1 << width) - 1 };
    if bits == 0 { 0 } else { ones & (u128::MAX << (width - bits)) }
}

fn parse_ipv4(tok: Tok<'_>, mode: Mode) -> Result<(u128, u128), TextError> {
    let bad = |t: Tok<'_>| {
        TextError::new(t, format!("{}: invalid IP address", tok.text))
            .hint("an IPv4 address is four numbers from 0 to 255, like 192.168.0.1 or 10.0.0.0/8")
    };
    let addr = |t: Tok<'_>| match ipv4(t.text, mode) {
        Ok(Some(v)) => Ok(v),
        Ok(None) => Err(bad(t)),
        Err(i) => {
            let o = t.split('.').nth(i).unwrap_or(t);
            Err(TextError::new(o, format!("{}: octet {} is above 255", t.text, o.text))
                .hint("an octet of an IPv4 address is a number from 0 to 255"))
        }
    };
    let Some((a, m)) = tok.split_once("/") else {
        return Ok((addr(tok)?.into(), 0xffff_ffff));
    };
    let value = addr(a)?;
    let mask = match m.text.parse::<i32>() {
        Ok(n @ 0..=32) => prefix_mask(n as u32, 32),
        Ok(_) => {
            return Err(TextError::new(
                m,
                format!("{}: IPv4 network prefix bits not between 0 and 32, inclusive", tok.text),
            ));
        }
        Err(_) => addr(m)?.into(),
    };
    Ok((value.into(), mask))
}

fn parse_ipv6(tok: Tok<'_>) -> Result<(u128, u128), TextError> {
    let bad = |t: Tok<'_>| {
        TextError::new(t, format!("{}: invalid IPv6 address", tok.text))
            .hint("an IPv6 address is like fe80::1 or 2001:db8::/32")
    };
    let addr = |t: Tok<'_>| t.text.parse::<Ipv6Addr>().map(u128::from).map_err(|_| bad(t));
    let Some((a, m)) = tok.split_once("/") else {
        return Ok((addr(tok)?, u128::MAX));
    };
    let value = addr(a)?;
    let mask = match m.text.parse::<i32>() {
        Ok(n @ 0..=128) => prefix_mask(n as u32, 128),
        Ok(_) => {
            return Err(TextError::new(
                m,
                format!("{}: IPv6 network prefix bits not between 0 and 128, inclusive", tok.text),
            ));
        }
        Err(_) => addr(m)
            .map_err(|e| TextError { message: format!("{}: Invalid IPv6 mask", tok.text), ..e })?,
    };
    Ok((value, mask))
}

/// Reads six hexadecimal octets. OVS takes each modulo 256.
fn eth(text: &str, mode: Mode) -> Option<MacAddr> {
    if let Ok(m) = text.parse() {
        return Some(m);
    }
    let mut a = [0; 6];
    let mut octets = text.split(':');
    for byte in &mut a {
        let digits = octets.next()?;
        let hex = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        if !hex || mode == Mode::Strict {
            return None;
        }
        let low = &digits[digits.len().saturating_sub(2)..];
        *byte = u8::from_str_radix(low, 16).ok()?;
    }
    octets.next().is_none().then_some(MacAddr(a))
}

fn parse_eth(tok: Tok<'_>, mode: Mode) -> Result<(u128, u128), TextError> {
    let addr = |t: Tok<'_>| {
        eth(t.text, mode).map(|m| u128::from(m.to_u64())).ok_or_else(|| {
            TextError::new(t, format!("{}: invalid Ethernet address", tok.text))
                .hint("six hexadecimal octets, like 52:54:00:12:34:56")
        })
    };
    match tok.split_once("/") {
        None => Ok((addr(tok)?, 0xffff_ffff_ffff)),
        Some((a, m)) => Ok((addr(a)?, addr(m)?)),
    }
}

/// Reads `NUMBER/NUMBER`, `+a-b` or `a|b`. The mask is `None` for the last form: all flags.
fn parse_flags(
    tok: Tok<'_>,
    what: &str,
    flags: &[(&str, u128)],
) -> Result<(u128, Option<u128>), TextError> {
    let all = flags.iter().fold(0, |a, f| a | f.1);
    let unknown = |t: Tok<'_>, text: Tok<'_>| {
        let names = flags.iter().map(|f| f.0).collect::<alloc::vec::Vec<_>>().join(", ");
        TextError::new(t, format!("{}: unknown {what} flag(s)", text.text))
            .hint(format!("the flags are {names}"))
    };
    let s = tok.text;
    // A number with a mask; what may follow them is not looked at.
    if let Some((v, m)) = tok.split_once("/")
        && let (Some(a), Ok((b, _))) = (number::unsigned(v.text), number::strtoull(m.text))
    {
        let (a, b) = (u128::from(a as u32), u128::from(b as u32));
        return match (a | b) & !all {
            0 => Ok((a, Some(b))),
            _ => Err(unknown(tok, tok)),
        };
    }
    let (mut v, mut m) = (0, 0);
    let mut i = 0;
    if !s.starts_with(['+', '-']) {
        while i < s.len() {
            let end = s[i..].find('|').map_or(s.len(), |n| i + n);
            let t = tok.slice(i..end);
            v |= match (number::unsigned(t.text), flags.iter().find(|f| f.0 == t.text)) {
                (Some(n), _) if u128::from(n) & !all == 0 => n.into(),
                (None, Some(f)) => f.1,
                _ => return Err(unknown(t, tok)),
            };
            i = (end + 1).min(s.len());
        }
        return Ok((v, None));
    }
    while i < s.len() {
        let end = s[i + 1..].find(['+', '-']).map_or(s.len(), |n| i + 1 + n);
        let (t, rest) = (tok.slice(i + 1..end), tok.slice(i + 1..s.len()));
        let Some(&(_, bit)) = flags.iter().find(|f| f.0 == t.text) else {
            return Err(unknown(t, rest));
        };
        if m & bit != 0 {
            let text = format!("{}: Each {what} flag can be specified only once", rest.text);
            return Err(TextError::new(t, text).hint("a flag is either set (+) or clear (-)"));
        }
        m |= bit;
        if s[i..].starts_with('+') {
            v |= bit;
        }
        i = end;
    }
    Ok((v, Some(m)))
}

/// `(NS,TYPE)`, each in hexadecimal above 9.
pub(super) struct PacketTypeText(pub u32);

impl fmt::Display for PacketTypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ns, kind) = (self.0 >> 16, self.0 & 0xffff);
        let hex = |n: u32| if n > 9 { "0x" } else { "" };
        write!(f, "({}{ns:x},{}{kind:x})", hex(ns), hex(kind))
    }
}

fn parse_packet_type(tok: Tok<'_>, mode: Mode) -> Result<u128, TextError> {
    let bad = |at: &str, why: &str| {
        TextError::new(tok, format!("{at}: bad syntax for packet type {why}"))
            .hint("a packet type is a name space and a type, like (1,0x800)")
    };
    let inner = tok.text.strip_prefix('(').ok_or_else(|| bad(tok.text, "missing '('"))?;
    let (ns, end) = number::wide(inner, 2).map_err(|_| bad(inner, "ns"))?;
    let rest = inner[end..].strip_prefix(',').ok_or_else(|| bad(inner, "missing ','"))?;
    let (ty, end) = number::wide(rest, 2).map_err(|_| bad(rest, "ns_type"))?;
    match rest[end..].strip_prefix(')') {
        Some(garbage) if garbage.is_empty() || mode == Mode::Ovs => {
            Ok(number::low(&ns) << 16 | number::low(&ty))
        }
        _ => Err(bad(rest, "missing ')'")),
    }
}

/// All bits of a field as a match has it: those of [`Field::all_ones`], and of `vlan_vid` also the one
/// that says that there is a tag.
pub fn ones(f: &Field) -> u128 {
    if f.id == FieldId::VlanVid { 0x1fff } else { f.all_ones() }
}

/// Reads the value, and mask if any, of a field. `*` is "any".
///
/// The result is right-aligned in the field; `vlan_vid` has 13 bits here (the highest says that
/// there is a tag), and `dl_vlan` may be 0xffff for "no tag".
pub fn parse(
    f: &'static Field,
    tok: Tok<'_>,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<(u128, u128), TextError> {
    parse_raw(f, tok, names, mode).map(|(v, m)| (v, m & ones(f)))
}

/// As [`parse`], but the mask has all bits of the field's bytes on the wire: [`Field::wire_ones`] when
/// there is none.
pub fn parse_raw(
    f: &'static Field,
    tok: Tok<'_>,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<(u128, u128), TextError> {
    if tok.text == "*" {
        return Ok((0, 0));
    }
    let ones = f.wire_ones();
    let (value, mask) = match f.format {
        Format::Decimal | Format::Hex => {
            let (v, m) = integers(f, tok, mode)?;
            (number::low(&v), m.map_or(ones, |m| number::low(&m)))
        }
        Format::Ethernet => parse_eth(tok, mode)?,
        Format::Ipv4 => parse_ipv4(tok, mode)?,
        Format::Ipv6 => parse_ipv6(tok)?,
        Format::Port | Format::Port32 => {
            let port = parse_port(tok.text, names).ok_or_else(|| {
                let why = match f.format {
                    Format::Port => "invalid or unknown port",
                    _ => "port value out of range",
                };
                TextError::new(tok, format!("{}: {why} for {}", tok.text, f.name))
                    .hint("a port's number or name, or LOCAL")
            })?;
            return Ok((port_value(f, port), ones));
        }
        Format::CtState | Format::TcpFlags | Format::TunFlags => {
            let Some((what, flags)) = flags_of(f.format) else { return Ok((0, 0)) };
            let (v, m) = parse_flags(tok, what, &flags)?;
            (v, m.unwrap_or(ones))
        }
        Format::Frag => match FRAG.iter().find(|x| x.0.eq_ignore_ascii_case(tok.text)) {
            Some(&(_, v, m)) => (v.into(), u128::from(m | 0xfc)),
            None => {
                let text = format!(
                    "{}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \"later\", \"not_later\"",
                    tok.text
                );
                return Err(TextError::new(tok, text));
            }
        },
        Format::PacketType => (parse_packet_type(tok, mode)?, ones),
    };
    if f.mask == MaskRule::Exact && mask != ones && mask != 0 {
        return Err(bad_mask(f, tok));
    }
    if mode == Mode::Strict && value & !mask != 0 && mask != 0 && f.id != FieldId::DlVlan {
        let right = Value { field: f, value: value & mask, mask, names };
        return Err(TextError::new(tok, format!("{}: value has bits outside its mask", tok.text))
            .hint(format!("write {}={right}", f.name)));
    }
    Ok((value, mask))
}

fn bad_mask(f: &Field, tok: Tok<'_>) -> TextError {
    TextError::new(tok, format!("{}: invalid mask for field {}", tok.text, f.name))
        .hint(format!("{} is matched exactly or not at all", f.name))
}

/// A port as a value of `f`.
pub(crate) fn port_value(f: &Field, port: OfPort) -> u128 {
    match f.format {
        Format::Port32 => port.to_wire32().into(),
        _ => port.0.into(),
    }
}

/// The port that a value of `f` means.
pub(crate) fn value_port(f: &Field, value: u128) -> OfPort {
    match f.format {
        Format::Port32 => OfPort::from_wire32(value as u32).unwrap_or(OfPort::NONE),
        _ => OfPort(value as u16),
    }
}

/// A field's value in text. With a mask of [`Field::wire_ones`] the value alone, else `value/mask`; `ANY` for a
/// mask of zero.
#[derive(Copy, Clone)]
pub struct Value<'a> {
    /// The field.
    pub field: &'static Field,
    /// Value.
    pub value: u128,
    /// Mask.
    pub mask: u128,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (f, v, m) = (self.field, self.value, self.mask);
        let full = m == f.wire_ones();
        if m == 0 {
            return out.write_str("ANY");
        }
        match f.format {
            Format::Decimal if full => write!(out, "{v}"),
            Format::Decimal => {
                write!(out, "{v}/")?;
                hex(out, m)
            }
            Format::Hex if full => hex(out, v),
            Format::Hex => {
                hex(out, v)?;
                out.write_char('/')?;
                hex(out, m)
            }
            Format::Ethernet => write_eth(out, v, m),
            Format::Ipv4 => write_ipv4(out, v as u32, m as u32),
            Format::Ipv6 => write_ipv6(out, v, m),
            Format::Port | Format::Port32 if full => {
                write!(out, "{}", PortText(value_port(f, v), self.names))
            }
            Format::Port | Format::Port32 => {
                write!(out, "{v}/")?;
                hex(out, m)
            }
            Format::CtState => write_ct_state(out, v as u8, m as u8),
            Format::TcpFlags => write_flags16(out, &TCP_FLAGS, v as u16, m as u16, 0xfff),
            Format::TunFlags => write_flags16(out, &TUN_FLAGS, v as u16, m as u16, 1),
            Format::Frag => out.write_str(frag_name(v as u8, m as u8)),
            Format::PacketType => write!(out, "{}", PacketTypeText(v as u32)),
        }
    }
}

/// `%#x`: zero has no 0x.
pub fn hex(out: &mut impl Write, v: u128) -> fmt::Result {
    if v == 0 { out.write_char('0') } else { write!(out, "{v:#x}") }
}

/// Bytes as one hexadecimal number: zero has no 0x.
pub fn hex_bytes(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    let Some(first) = bytes.iter().position(|&b| b != 0) else { return out.write_char('0') };
    write!(out, "{:#x}", bytes[first])?;
    bytes[first + 1..].iter().try_for_each(|b| write!(out, "{b:02x}"))
}

/// Address, or address/mask.
pub(crate) fn write_eth(out: &mut impl Write, v: u128, m: u128) -> fmt::Result {
    write!(out, "{}", MacAddr::from_u64(v as u64))?;
    if m != 0xffff_ffff_ffff {
        write!(out, "/{}", MacAddr::from_u64(m as u64))?;
    }
    Ok(())
}

/// Address, address/prefix length, or address/mask.
pub(crate) fn write_ipv4(out: &mut impl Write, v: u32, m: u32) -> fmt::Result {
    write!(out, "{}", Ipv4Addr::from(v))?;
    if m == u32::MAX {
        Ok(())
    } else if m.leading_ones() == m.count_ones() {
        write!(out, "/{}", m.leading_ones())
    } else {
        write!(out, "/{}", Ipv4Addr::from(m))
    }
}

/// An IPv6 address as the C library writes it: like RFC 5952, and `::1.2.3.4` for the
/// IPv4-compatible ones.
pub fn write_ipv6_addr(out: &mut impl Write, v: u128) -> fmt::Result {
    if v >> 32 == 0 && v >> 16 != 0 {
        write!(out, "::{}", Ipv4Addr::from(v as u32))
    } else {
        write!(out, "{}", Ipv6Addr::from(v))
    }
}

/// Address, address/prefix length, or address/mask.
pub(crate) fn write_ipv6(out: &mut impl Write, v: u128, m: u128) -> fmt::Result {
    write_ipv6_addr(out, v)?;
    if m == u128::MAX {
        Ok(())
    } else if m.leading_ones() == m.count_ones() {
        write!(out, "/{}", m.leading_ones())
    } else {
        out.write_char('/')?;
        write_ipv6_addr(out, m)
    }
}

fn frag_name(v: u8, m: u8) -> &'static str {
    FRAG.iter().find(|x| x.1 == v & 3 && x.2 == m & 3).map_or(
        match (v & 1, m & 3) {
            (0, 1) => "no",
            (_, 2) => "later",
            _ => "<error>",
        },
        |x| x.0,
    )
}

/// `ct_state` bits: `a|b` if all are in the mask, else `+a-b`.
pub fn write_ct_state(out: &mut impl Write, v: u8, m: u8) -> fmt::Result {
    let flags = CT_STATE_FLAGS.map(|(n, b)| (n, u16::from(b)));
    write_flags16(out, &flags, v.into(), m.into(), 0xff)
}

/// Flags: `a|b` or 0 if the mask is `all`, else `+a-b`.
pub fn write_flags16(
    out: &mut impl Write,
    names: &[(&str, u16)],
    v: u16,
    m: u16,
    all: u16,
) -> fmt::Result {
    if m & all == all {
        if v & all == 0 {
            return out.write_char('0');
        }
        let mut sep = "";
        for (name, bit) in names {
            if v & bit != 0 {
                write!(out, "{sep}{name}")?;
                sep = "|";
            }
        }
        return Ok(());
    }
    for (name, bit) in names {
        if m & bit != 0 {
            write!(out, "{}{name}", if v & bit != 0 { '+' } else { '-' })?;
        }
    }
    Ok(())
}

impl<'a> Value<'a> {
    /// With a mask as a match has it: [`ones`] for the whole.
    pub fn of_match(
        field: &'static Field,
        value: u128,
        mask: u128,
        names: &'a dyn NameMap,
    ) -> Value<'a> {
        let mask = if mask == ones(field) { field.wire_ones() } else { mask };
        Value { field, value, mask, names }
    }
}

/// The text of a value with the mask of a match.
pub fn to_text(field: &'static Field, value: u128, mask: u128, names: &dyn NameMap) -> String {
    format!("{}", Value::of_match(field, value, mask, names))
}
