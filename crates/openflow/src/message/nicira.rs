//! Bodies of Nicira's own messages: tables of tunnel options, flushes of connections.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use flow::TlvMap;
use flow::tun_metadata::{MAX_OPTION_LEN, N_OPTIONS};

use super::codec::Result;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// What a change of the table of tunnel options does.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum TlvCommand {
    /// Maps options that are not mapped.
    Add = 0,
    /// Unmaps fields.
    Delete = 1,
    /// Unmaps all.
    Clear = 2,
}

/// A change of the table of tunnel options, done whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvTableMod {
    /// What.
    pub command: TlvCommand,
    /// To which.
    pub maps: Vec<TlvMap>,
}

/// The table of tunnel options.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvTable {
    /// Bytes that all options together may have.
    pub max_space: u32,
    /// Fields that there are.
    pub max_fields: u16,
    /// What is mapped.
    pub maps: Vec<TlvMap>,
}

fn read_maps(r: &mut Reader<'_>, max_fields: u16) -> Result<Vec<TlvMap>> {
    let mut maps = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let m = TlvMap { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        if !m.len.is_multiple_of(4) || usize::from(m.len) > MAX_OPTION_LEN {
            return Err(here.error(OfError::NXTTMFC_BAD_OPT_LEN));
        }
        if m.index >= max_fields {
            return Err(here.error(OfError::NXTTMFC_BAD_FIELD_IDX));
        }
        maps.push(m);
    }
    Ok(maps)
}

fn write_maps(out: &mut Vec<u8>, maps: &[TlvMap]) {
    for m in maps {
        out.put16(m.class);
        out.put8(m.kind);
        out.put8(m.len);
        out.put16(m.index);
        out.put16(0);
    }
}

pub(super) fn read_tlv_mod(r: &mut Reader<'_>) -> Result<TlvTableMod> {
    let here = *r;
    let command = match r.u16()? {
        0 => TlvCommand::Add,
        1 => TlvCommand::Delete,
        2 => TlvCommand::Clear,
        _ => return Err(here.error(OfError::NXTTMFC_BAD_COMMAND)),
    };
    r.skip(6)?;
    Ok(TlvTableMod { command, maps: read_maps(r, N_OPTIONS as u16)? })
}

pub(super) fn write_tlv_mod(out: &mut Vec<u8>, m: &TlvTableMod) {
    out.put16(m.command as u16);
    out.zeros(6);
    write_maps(out, &m.maps);
}

pub(super) fn read_tlv_table(r: &mut Reader<'_>) -> Result<TlvTable> {
    let (max_space, max_fields) = (r.u32()?, r.u16()?);
    r.skip(10)?;
    Ok(TlvTable { max_space, max_fields, maps: read_maps(r, max_fields)? })
}

pub(super) fn write_tlv_table(out: &mut Vec<u8>, t: &TlvTable) {
    out.put32(t.max_space);
    out.put16(t.max_fields);
    out.zeros(10);
    write_maps(out, &t.maps);
}

/// One direction of the connections to flush. What is not said is any.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtTuple {
    /// Source; IPv4 as IPv4-mapped.
    pub src: Option<Ipv6Addr>,
    /// Destination.
    pub dst: Option<Ipv6Addr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// ICMP id.
    pub icmp_id: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

/// Connections to flush (`NXT_CT_FLUSH`). What is not said is any.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct CtFlush {
    /// IP protocol; 0 for any.
    pub proto: u8,
    /// The direction of the first packet.
    pub orig: Option<CtTuple>,
    /// The other.
    pub reply: Option<CtTuple>,
    /// Zone.
    pub zone: Option<u16>,
    /// Mark.
    pub mark: Option<u32>,
    /// Bits of the mark that count; all if only the mark is said.
    pub mark_mask: Option<u32>,
    /// Label.
    pub label: Option<u128>,
    /// Bits of the label that count; all if only the label is said.
    pub label_mask: Option<u128>,
}

impl CtFlush {
    /// The mark and the bits of it that count.
    pub fn mark(&self) -> (u32, u32) {
        match (self.mark, self.mark_mask) {
            (Some(v), None) => (v, u32::MAX),
            (v, m) => (v.unwrap_or(0), m.unwrap_or(0)),
        }
    }

    /// The label and the bits of it that count.
    pub fn label(&self) -> (u128, u128) {
        match (self.label, self.label_mask) {
            (Some(v), None) => (v, u128::MAX),
            (v, m) => (v.unwrap_or(0), m.unwrap_or(0)),
        }
    }
}

/// Property types of `NXT_CT_FLUSH`.
mod prop {
    pub const ORIG: u16 = 0;
    pub const REPLY: u16 = 1;
    pub const ZONE: u16 = 2;
    pub const MARK: u16 = 3;
    pub const MARK_MASK: u16 = 4;
    pub const LABEL: u16 = 5;
    pub const LABEL_MASK: u16 = 6;
}

/// A property of a fixed size, which OVS wants to the byte.
fn exact<'a>(p: Reader<'a>, n: usize) -> Result<Reader<'a>> {
    if p.len() == n { Ok(p) } else { Err(p.error(OfError::OFPBPC_BAD_LEN)) }
}

/// A property of at least a size; short numbers are padded.
fn at_least<'a>(p: Reader<'a>, n: usize) -> Result<Reader<'a>> {
    if p.len() >= n { Ok(p) } else { Err(p.error(OfError::OFPBPC_BAD_LEN)) }
}

pub(super) fn read_ct_flush(r: &mut Reader<'_>) -> Result<CtFlush> {
    let mut f = CtFlush { proto: r.u8()?, ..CtFlush::default() };
    let here = *r;
    if r.take(7)?.iter().any(|b| *b != 0) {
        return Err(here.error(OfError::NXBRC_MUST_BE_ZERO));
    }
    while !r.is_empty() {
        let here = *r;
        let (typ, p) = r.property()?;
        match typ {
            prop::ORIG => f.orig = Some(read_tuple(p)?),
            prop::REPLY => f.reply = Some(read_tuple(p)?),
            prop::ZONE => f.zone = Some(at_least(p, 2)?.u16()?),
            prop::MARK => f.mark = Some(exact(p, 4)?.u32()?),
            prop::MARK_MASK => f.mark_mask = Some(exact(p, 4)?.u32()?),
            prop::LABEL => f.label = Some(exact(p, 16)?.uint(16)?),
            prop::LABEL_MASK => f.label_mask = Some(exact(p, 16)?.uint(16)?),
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    match one_family(&f) {
        true => Ok(f),
        false => Err(here.error(OfError::OFPBPC_BAD_VALUE)),
    }
}

fn read_tuple(p: Reader<'_>) -> Result<CtTuple> {
    let mut p = at_least(p, 4)?;
    p.skip(4)?;
    let mut t = CtTuple::default();
    while !p.is_empty() {
        let here = p;
        let (typ, b) = p.property()?;
        match typ {
            0 => t.src = Some(exact(b, 16)?.array()?.into()),
            1 => t.dst = Some(exact(b, 16)?.array()?.into()),
            2 => t.src_port = Some(at_least(b, 2)?.u16()?),
            3 => t.dst_port = Some(at_least(b, 2)?.u16()?),
            4 => t.icmp_id = Some(at_least(b, 2)?.u16()?),
            5 => t.icmp_type = Some(at_least(b, 1)?.u8()?),
            6 => t.icmp_code = Some(at_least(b, 1)?.u8()?),
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    Ok(t)
}

/// Whether all addresses that are said are of one family.
fn one_family(f: &CtFlush) -> bool {
    let tuples = [f.orig, f.reply].into_iter().flatten();
    let mut v4 =
        tuples.flat_map(|t| [t.src, t.dst]).flatten().map(|a| a.to_ipv4_mapped().is_some());
    v4.next().is_none_or(|first| v4.all(|other| other == first))
}

fn put_prop(out: &mut Vec<u8>, typ: u16, body: &[u8]) {
    let start = out.len();
    out.put16(typ);
    out.put16(4 + body.len() as u16);
    out.extend_from_slice(body);
    out.pad8(start);
}

/// A 16-bit number, which counts its padding.
fn put_short(out: &mut Vec<u8>, typ: u16, v: u16) {
    let [a, b] = v.to_be_bytes();
    put_prop(out, typ, &[a, b, 0, 0]);
}

pub(super) fn write_ct_flush(out: &mut Vec<u8>, f: &CtFlush) {
    out.put8(f.proto);
    out.zeros(7);
    for (typ, tuple) in [(prop::ORIG, &f.orig), (prop::REPLY, &f.reply)] {
        if let Some(t) = tuple {
            let start = out.len();
            out.put16(typ);
            out.zeros(6);
            write_tuple(out, t);
            let len = out.len() - start;
            out.set16(start + 2, len as u16);
        }
    }
    if let Some(z) = f.zone {
        put_short(out, prop::ZONE, z);
    }
    for (typ, v) in [(prop::MARK, f.mark), (prop::MARK_MASK, f.mark_mask)] {
        if let Some(v) = v {
            put_prop(out, typ, &v.to_be_bytes());
        }
    }
    for (typ, v) in [(prop::LABEL, f.label), (prop::LABEL_MASK, f.label_mask)] {
        if let Some(v) = v {
            put_prop(out, typ, &v.to_be_bytes());
        }
    }
}

fn write_tuple(out: &mut Vec<u8>, t: &CtTuple) {
    for (typ, a) in [(0, t.src), (1, t.dst)] {
        if let Some(a) = a {
            put_prop(out, typ, &a.octets());
        }
    }
    for (typ, v) in [(2, t.src_port), (3, t.dst_port), (4, t.icmp_id)] {
        if let Some(v) = v {
            put_short(out, typ, v);
        }
    }
    for (typ, v) in [(5, t.icmp_type), (6, t.icmp_code)] {
        if let Some(v) = v {
            put_prop(out, typ, &[v]);
        }
    }
}
