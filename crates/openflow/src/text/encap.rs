//! Reading `encap` and `decap`.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use flow::text::{Pairs, TextError, Tok};

use super::args::{Result, hex_bytes, u8_arg, u16_arg};
use crate::action::*;

/// Name spaces of packet types (`OFPHTN_N_TYPES`).
const N_NAME_SPACES: u16 = 5;

/// `encap(nsh(md_type=1,tlv(0xCLASS,TYPE,0xBYTES)))`, `encap(ethernet)`, `encap(mpls)`.
pub(super) fn encap(v: Tok<'_>) -> Result<Action> {
    let Some(header) = Pairs::new(v).next() else {
        return Err(TextError::new(v, format!("Missing encap hdr: {}", v.text)));
    };
    let name = header.key.text;
    let Some(&(_, packet_type)) = ENCAP_HEADERS.iter().find(|h| h.0 == name) else {
        let text = format!("Encap hdr not supported: {}", header.value.text);
        return Err(TextError::new(header.key, text).hint("ethernet, nsh, mpls or mpls_mc"));
    };
    let mut props = Vec::new();
    for p in Pairs::new(header.value) {
        let key = p.key.text;
        if name != "nsh" || key != "md_type" && key != "tlv" {
            return Err(TextError::new(p.key, format!("Invalid property: {key}")));
        }
        if p.value.text.is_empty() {
            return Err(TextError::new(p.key, "Value missing for encap property"));
        }
        props.push(match key {
            "md_type" => match u8_arg(p.value, "md_type")? {
                t @ 1..=2 => EncapProp::NshMdType(t),
                _ => return Err(TextError::new(p.value, "invalid md_type").hint("1 or 2")),
            },
            _ => tlv(p.value)?,
        });
    }
    Ok(Action::Encap(Box::new(EncapAction { packet_type, hdr_size: 0, props })))
}

/// `0xCLASS,TYPE,0xBYTES`
fn tlv(v: Tok<'_>) -> Result<EncapProp> {
    let bad = || {
        TextError::new(v, format!("Invalid NSH TLV header: {}", v.text))
            .hint("tlv(0xCLASS,TYPE,0xBYTES)")
    };
    let parts: Vec<Tok<'_>> = v.split(',').collect();
    let [class, kind, data] = parts.as_slice() else { return Err(bad()) };
    let hex = |t: &str| t.strip_prefix("0x").filter(|d| !d.is_empty()).map(<str>::len);
    let n = hex(class.text).ok_or_else(bad)?;
    let digits = &class.text[class.text.len() - n..];
    let class = u16::from_str_radix(digits, 16).map_err(|_| bad())?;
    let kind = kind.text.parse().map_err(|_| bad())?;
    let n = hex(data.text).ok_or_else(bad)?;
    // A digit alone at the end is not looked at.
    let digits = data.slice(data.text.len() - n..data.text.len() - n % 2);
    let data = hex_bytes(digits, &bad().message)?;
    Ok(EncapProp::NshTlv { class, kind, data })
}

/// `decap()`, `decap(packet_type(ns=N,type=T))`.
pub(super) fn decap(v: Tok<'_>) -> Result<Action> {
    let Some(p) = Pairs::new(v).next() else { return Ok(Action::Decap(None)) };
    if p.key.text != "packet_type" {
        return Err(TextError::new(p.key, format!("Invalid decap argument: {}", p.key.text))
            .hint("packet_type(ns=N,type=T)"));
    }
    let mut args = Pairs::new(p.value);
    let mut next = |name: &str| {
        let q = args.next().filter(|q| q.key.text == name);
        q.map(|q| q.value)
            .ok_or_else(|| TextError::new(p.value, format!("Missing packet_type attribute {name}")))
    };
    let value = next("ns")?;
    let ns = u16_arg(value, "ns")?;
    if ns >= N_NAME_SPACES {
        return Err(TextError::new(value, format!("Unsupported ns value: {ns}")));
    }
    let typ = u16_arg(next("type")?, "type")?;
    match u32::from(ns) << 16 | u32::from(typ) {
        USE_NEXT_PROTO => Ok(Action::Decap(None)),
        t => Ok(Action::Decap(Some(t))),
    }
}
