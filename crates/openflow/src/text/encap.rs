//! Reading `encap` and `decap`.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use flow::text::{Pairs, TextError, Tok};

use super::actions::{Result, hex_bytes, number};
use crate::action::*;

/// `encap(nsh(md_type=1,tlv(CLASS,TYPE,0xBYTES)))`, `encap(ethernet)`, `encap(mpls)`.
pub(super) fn encap(v: Tok<'_>) -> Result<Action> {
    let Some(header) = Pairs::new(v).next() else {
        return Err(TextError::new(v, "missing encap hdr"));
    };
    let packet_type = match header.key.text {
        "ethernet" => 0,
        "nsh" => 0x1_894f,
        "mpls" => 0x1_8847,
        "mpls_mcast" => 0x1_8848,
        k => {
            return Err(TextError::new(header.key, format!("Encap hdr not supported: {k}"))
                .hint("ethernet, nsh, mpls or mpls_mcast"));
        }
    };
    let mut props = Vec::new();
    for p in Pairs::new(header.value) {
        props.push(match p.key.text {
            "md_type" => EncapProp::NshMdType(number(p.value, "md_type", 2)? as u8),
            "tlv" => {
                let parts: Vec<Tok<'_>> = p.value.split(',').map(Tok::trim).collect();
                let [class, kind, data] = parts.as_slice() else {
                    return Err(
                        TextError::new(p.value, "Invalid NSH TLV").hint("tlv(CLASS,TYPE,0xBYTES)")
                    );
                };
                let start = if data.text.starts_with("0x") { 2 } else { 0 };
                EncapProp::NshTlv {
                    class: number(*class, "class", 0xffff)? as u16,
                    kind: number(*kind, "type", 0xff)? as u8,
                    data: hex_bytes(data.slice(start..data.text.len()))?,
                }
            }
            k => {
                return Err(TextError::new(p.key, format!("Invalid property: {k}")));
            }
        });
    }
    Ok(Action::Encap(Box::new(EncapAction { packet_type, hdr_size: 0, props })))
}

/// `decap()`, `decap(packet_type(ns=N,type=T))`.
pub(super) fn decap(v: Tok<'_>) -> Result<Action> {
    let Some(p) = Pairs::new(v).next() else { return Ok(Action::Decap(None)) };
    if p.key.text != "packet_type" {
        return Err(TextError::new(p.key, format!("Invalid decap argument: {}", p.key.text))
            .hint("packet_type(ns=N,type=T)"));
    }
    let (mut ns, mut typ) = (0, 0);
    for q in Pairs::new(p.value) {
        match q.key.text {
            "ns" => ns = number(q.value, "ns", 0xffff)?,
            "type" => typ = number(q.value, "type", 0xffff)?,
            k => {
                let text = format!("Invalid decap packet_type argument: {k}");
                return Err(TextError::new(q.key, text));
            }
        }
    }
    Ok(Action::Decap(Some((ns << 16 | typ) as u32)))
}
