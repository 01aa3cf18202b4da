//! Arguments of actions: numbers, addresses, bytes, parts of fields. Texts of errors are OVS's.
//!
//! OVS's mode reads some numbers as C's `atoi` does, which never fails; the strict one asks for
//! numbers everywhere.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use base::{MacAddr, OfPort, TableId};
use flow::Field;
use flow::text::number::{self, NumberError};
use flow::text::parse::nearest;
use flow::text::value;
use flow::text::{Mode, NameMap, NoNames, TextError, Tok, parse_port, parse_table};

use crate::subfield::Subfield;

pub(super) type Result<T> = core::result::Result<T, TextError>;

/// A number up to 65,535; `what` names it in the error.
pub(super) fn u16_arg(tok: Tok<'_>, what: &str) -> Result<u16> {
    small(tok, what, u16::MAX.into()).map(|n| n as u16)
}

/// A number up to 255.
pub(super) fn u8_arg(tok: Tok<'_>, what: &str) -> Result<u8> {
    small(tok, what, u8::MAX.into()).map(|n| n as u8)
}

fn small(tok: Tok<'_>, what: &str, max: i64) -> Result<i64> {
    number::signed(tok.text).filter(|n| (0..=max).contains(n)).ok_or_else(|| {
        TextError::new(tok, format!("invalid {what} \"{}\"", tok.text))
            .hint(format!("a number from 0 to {max}"))
    })
}

/// A number of 32 bits.
pub(super) fn u32_arg(tok: Tok<'_>) -> Result<u32> {
    let n = number::signed(tok.text).and_then(|n| u32::try_from(n).ok());
    n.ok_or_else(|| not_numeric(tok))
}

/// A number of 64 bits; negative ones are modulo 2^64.
pub(super) fn u64_arg(tok: Tok<'_>) -> Result<u64> {
    number::unsigned(tok.text).ok_or_else(|| not_numeric(tok))
}

fn not_numeric(tok: Tok<'_>) -> TextError {
    if tok.text.is_empty() {
        return TextError::new(tok, "missing required numeric argument");
    }
    TextError::new(tok, format!("invalid numeric format {}", tok.text))
        .hint("a number in decimal or, with 0x before it, in hexadecimal")
}

/// A number as `atoi` reads it in OVS's mode; a number up to `max` in the strict one.
pub(super) fn loose(tok: Tok<'_>, what: &str, max: u32, mode: Mode) -> Result<u32> {
    if mode == Mode::Strict {
        return small(tok, what, max.into()).map(|n| n as u32);
    }
    let t = tok.text.trim_start();
    let (negative, digits) = match t.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, t.strip_prefix('+').unwrap_or(t)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let n = digits.fold(0i64, |n, d| n.saturating_mul(10).saturating_add(i64::from(d - b'0')));
    Ok((if negative { -n } else { n }) as u32)
}

/// A table that may be looked up.
pub(super) fn table_arg(tok: Tok<'_>, error: String, names: &dyn NameMap) -> Result<TableId> {
    parse_table(tok.text, names).ok_or_else(|| no_table(tok, error))
}

fn no_table(tok: Tok<'_>, error: String) -> TextError {
    TextError::new(tok, error)
        .hint("a table is a number from 0 to 254, or the name of a table of the switch's")
}

/// A table, where 255 is none.
pub(super) fn table_or_any(
    tok: Tok<'_>,
    error: String,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<Option<TableId>> {
    match table_arg(tok, error.clone(), names)? {
        TableId::ALL if mode == Mode::Strict => Err(no_table(tok, error)),
        TableId::ALL => Ok(None),
        t => Ok(Some(t)),
    }
}

/// An Ethernet address.
pub(super) fn mac_arg(tok: Tok<'_>, mode: Mode) -> Result<MacAddr> {
    let error = || TextError::new(tok, format!("invalid mac address {}", tok.text));
    if let Ok(m) = tok.text.parse() {
        return Ok(m);
    }
    // OVS does not look at what follows.
    let end = tok.text.find(|c: char| c != ':' && !c.is_ascii_hexdigit()).filter(|&e| e > 0);
    match end {
        Some(end) if mode == Mode::Ovs => {
            let t = tok.slice(0..end);
            let (v, _) = value::parse(flow::FieldId::EthSrc.row(), t, &NoNames, mode)
                .map_err(|_| error())?;
            Ok(MacAddr::from_u64(v as u64))
        }
        _ => Err(error().hint("six hexadecimal octets, like 52:54:00:12:34:56")),
    }
}

/// An IPv4 address.
pub(super) fn ip_arg(tok: Tok<'_>) -> Result<Ipv4Addr> {
    tok.text.parse().map_err(|_| {
        TextError::new(tok, format!("{}: could not convert to IP address", tok.text))
            .hint("an IPv4 address is four numbers from 0 to 255, like 192.168.0.1")
    })
}

/// A port.
pub(super) fn port_arg(tok: Tok<'_>, error: String, names: &dyn NameMap) -> Result<OfPort> {
    parse_port(tok.text, names).ok_or_else(|| {
        TextError::new(tok, error).hint(
            "a port's number or name, or one of in_port, normal, flood, all, local, controller",
        )
    })
}

/// Pairs of hexadecimal digits, with dots or white space between if wanted.
pub(super) fn hex_bytes(tok: Tok<'_>, error: &str) -> Result<Vec<u8>> {
    let bad = || TextError::new(tok, error).hint("pairs of hex digits, like 01.ab");
    let mut out = Vec::new();
    let mut rest = tok.text;
    loop {
        rest = rest.trim_start_matches([' ', '.', '\t', '\r', '\n']);
        let Some(pair) = rest.get(..2) else { break };
        if !pair.bytes().all(|c| c.is_ascii_hexdigit()) {
            break;
        }
        out.push(u8::from_str_radix(pair, 16).map_err(|_| bad())?);
        rest = &rest[2..];
    }
    if rest.is_empty() { Ok(out) } else { Err(bad()) }
}

/// Reads `NAME[]`, `NAME[5]`, `NAME[0..15]` or `NAME`, the whole, from the front of a text. Gives
/// what is behind it too.
pub(super) fn subfield_prefix(tok: Tok<'_>) -> Result<(Subfield, Tok<'_>)> {
    let name_end = tok.text.find(['[', '-']).unwrap_or(tok.text.len());
    let name = tok.slice(0..name_end);
    let row = Field::by_oxm_name(name.text).map(|x| x.0).or_else(|| Field::by_name(name.text));
    let row = row.ok_or_else(|| {
        let e = TextError::new(name, format!("{}: unknown field `{}'", tok.text, name.text));
        let known = flow::field::FIELDS.iter().flat_map(|f| f.oxms.iter().map(|o| o.name));
        match nearest(name.text, known) {
            Some(w) => e.hint(format!("did you mean {w}?")),
            None => e,
        }
    })?;
    let after = tok.slice(name_end..tok.text.len());
    let (mut from, mut to) = (0, row.bits - 1);
    let mut end = name_end;
    if let Some(inside) = after.text.strip_prefix('[') {
        let bad = || {
            let why = "syntax error expecting [] or [<bit>] or [<start>..<end>]";
            TextError::new(tok, format!("{}: {why}", tok.text))
        };
        let (inside, _) = inside.split_once(']').ok_or_else(bad)?;
        end += inside.len() + 2;
        if !inside.is_empty() {
            let (a, b) = inside.split_once("..").unwrap_or((inside, inside));
            from = a.trim().parse().map_err(|_| bad())?;
            to = b.trim().parse().map_err(|_| bad())?;
        }
    }
    let bad = |why: String| TextError::new(tok, format!("{}: {why}", tok.text));
    let narrow = |which: &str, bit: u16| {
        let bits = row.bits;
        bad(format!("{which} bit {bit} is not valid because field is only {bits} bits wide"))
    };
    if from > to {
        return Err(bad(format!("starting bit {from} is after ending bit {to}")));
    }
    if from >= row.bits {
        return Err(narrow("starting", from));
    }
    if to >= row.bits {
        return Err(narrow("ending", to));
    }
    let sf = Subfield { field: row.id, ofs: from, n_bits: to - from + 1 };
    Ok((sf, tok.slice(end..tok.text.len())))
}

/// Reads a part of a field.
pub fn parse_subfield(tok: Tok<'_>) -> Result<Subfield> {
    match subfield_prefix(tok)? {
        (sf, rest) if rest.text.is_empty() => Ok(sf),
        (_, rest) => Err(TextError::new(rest, "unexpected input following field syntax")),
    }
}

/// A part of a field that Nicira's actions can name.
pub(super) fn nicira_subfield(tok: Tok<'_>, whole: Tok<'_>) -> Result<Subfield> {
    let sf = parse_subfield(tok)?;
    if crate::oxm::nicira_type(sf.row()).is_some() {
        return Ok(sf);
    }
    let text = format!("{}: experimenter OXM field '{}' not supported", whole.text, tok.text);
    Err(TextError::new(tok, text))
}

/// A number for a part of a field. `whole` is the text that the error tells.
pub(super) fn value_for(sf: Subfield, tok: Tok<'_>, whole: Tok<'_>) -> Result<u128> {
    let f = sf.row();
    let syntax = || TextError::new(tok, format!("{}: cannot parse integer value", whole.text));
    let (v, _) = match number::wide(tok.text, f.n_bytes.into()) {
        Ok(v) if v.1 == tok.text.len() => v,
        Ok(_) | Err(NumberError::Syntax | NumberError::Range) => return Err(syntax()),
    };
    let n = number::low(&v);
    let high = v.iter().rev().skip(16).any(|&b| b != 0);
    if n > sf.max() || high {
        let mut shown = String::new();
        let _ = if high {
            value::hex_bytes(&mut shown, &v)
        } else {
            let v = value::Value { field: f, value: n, mask: f.wire_ones(), names: &NoNames };
            core::fmt::Write::write_fmt(&mut shown, format_args!("{v}"))
        };
        let text = format!("{}: value {shown} does not fit into {} bits", whole.text, sf.n_bits);
        return Err(TextError::new(tok, text));
    }
    Ok(n)
}
