//! Bodies with packets: packet-in in its forms, packet-out.

use alloc::vec::Vec;

use flow::FieldId;

use super::codec::{Encoded, Result};
use super::flows::{read_match, write_match};
use super::*;
use crate::action::decode::port32;
use crate::action::{decode, encode};
use crate::error::OfError;
use crate::oxm;
use crate::wire::{Put, Reader};

/// A packet that goes to the controller.
#[derive(Clone, PartialEq, Debug)]
pub struct PacketIn {
    /// In which form it is said.
    pub format: PacketInFormat,
    /// Bytes, perhaps not all.
    pub packet: Vec<u8>,
    /// Length of the packet.
    pub total_len: u32,
    /// Buffer, if kept.
    pub buffer_id: Option<u32>,
    /// Why.
    pub reason: PacketInReason,
    /// Table of the flow.
    pub table: TableId,
    /// Cookie of the flow, if known.
    pub cookie: u64,
    /// Pipeline fields: in_port, metadata, tunnel, registers, ….
    pub metadata: Match,
    /// Bytes of the `controller` action.
    pub userdata: Vec<u8>,
    /// Frozen pipeline, if paused ([`Continuation`]).
    pub continuation: Vec<u8>,
}

/// Form of packet-ins (Nicira).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u32)]
pub enum PacketInFormat {
    /// The version's own.
    #[default]
    Standard = 0,
    /// `NXT_PACKET_IN`
    Nxt = 1,
    /// `NXT_PACKET_IN2`
    Nxt2 = 2,
}

/// A packet from the controller.
#[derive(Clone, PartialEq, Debug)]
pub struct PacketOut {
    /// Buffer to use instead of `packet`.
    pub buffer_id: Option<u32>,
    /// Pipeline fields, `in_port` among them (1.5 can say more).
    pub metadata: Match,
    /// What to do.
    pub actions: Vec<Action>,
    /// Bytes.
    pub packet: Vec<u8>,
}

const NO_BUFFER: u32 = u32::MAX;

fn blank() -> PacketIn {
    PacketIn {
        format: PacketInFormat::Standard,
        packet: Vec::new(),
        total_len: 0,
        buffer_id: None,
        reason: PacketInReason::Action,
        table: TableId(0),
        cookie: u64::MAX,
        metadata: Match::ANY,
        userdata: Vec::new(),
        continuation: Vec::new(),
    }
}

fn reason(r: &mut Reader<'_>) -> Result<PacketInReason> {
    let here = *r;
    PacketInReason::from_wire(r.u8()?).ok_or(here.error(OfError::NXBRC_BAD_REASON))
}

/// The reason as a version knows it. Kinds of misses are told apart inside only, and what 1.4 told
/// apart was all an action before.
fn reason_in(reason: PacketInReason, v: Version) -> u8 {
    use PacketInReason as R;
    let r = match reason {
        R::ExplicitMiss if v < Version::Of13 => R::Action,
        R::ExplicitMiss | R::ImplicitMiss => R::NoMatch,
        R::ActionSet | R::Group | R::PacketOut if v < Version::Of14 => R::Action,
        r => r,
    };
    r as u8
}

/// Reads a packet-in in its version's own form.
pub fn read_in(r: &mut Reader<'_>, v: Version) -> Result<PacketIn> {
    let mut p = blank();
    let b = r.u32()?;
    p.buffer_id = (b != NO_BUFFER).then_some(b);
    if v == Version::Of10 {
        p.total_len = r.u16()?.into();
        p.metadata.set(FieldId::InPort, r.u16()?.into(), 0xffff);
        p.reason = reason(r)?;
        r.skip(1)?;
        p.packet = r.rest().to_vec();
        return Ok(p);
    }
    if v == Version::Of11 {
        let port = port32(r)?;
        p.metadata.set(FieldId::InPort, port.0.into(), 0xffff);
        // The physical port, which a switch without port groups has no other of.
        r.skip(4)?;
    }
    p.total_len = r.u16()?.into();
    p.reason = reason(r)?;
    p.table = TableId(r.u8()?);
    if v == Version::Of11 {
        p.packet = r.rest().to_vec();
        return Ok(p);
    }
    if v >= Version::Of13 {
        p.cookie = r.u64()?;
    }
    p.metadata = read_match(r, true)?;
    r.skip(2)?;
    p.packet = r.rest().to_vec();
    Ok(p)
}

/// Reads `NXT_PACKET_IN`.
pub fn read_nx_in(r: &mut Reader<'_>) -> Result<PacketIn> {
    let mut p = blank();
    p.format = PacketInFormat::Nxt;
    let b = r.u32()?;
    p.buffer_id = (b != NO_BUFFER).then_some(b);
    p.total_len = r.u16()?.into();
    p.reason = reason(r)?;
    p.table = TableId(r.u8()?);
    p.cookie = r.u64()?;
    let len = usize::from(r.u16()?);
    r.skip(6)?;
    let mut m = r.sub(len)?;
    r.skip(len.next_multiple_of(8) - len)?;
    p.metadata = oxm::read_match(&mut m, true)?.m;
    r.skip(2)?;
    p.packet = r.rest().to_vec();
    Ok(p)
}

/// Property types of `NXT_PACKET_IN2`.
mod prop {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const BUFFER_ID: u16 = 2;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
    pub const CONTINUATION: u16 = 8;
}

/// Reads `NXT_PACKET_IN2`, or `NXT_RESUME`, where what is not known is an error (`strict`).
pub fn read_nx_in2(r: &mut Reader<'_>, strict: bool) -> Result<PacketIn> {
    // What is not said is 0.
    let mut p = PacketIn { reason: PacketInReason::NoMatch, ..blank() };
    p.format = PacketInFormat::Nxt2;
    let mut full = None;
    let start = *r;
    while !r.is_empty() {
        let here = *r;
        let (typ, mut b) = r.property()?;
        match typ {
            prop::PACKET => p.packet = b.rest().to_vec(),
            prop::FULL_LEN => full = Some(b.u32()?),
            prop::BUFFER_ID => p.buffer_id = Some(b.u32()?),
            prop::TABLE_ID => p.table = TableId(b.u8()?),
            prop::COOKIE => {
                b.skip(4)?;
                p.cookie = b.u64()?;
            }
            prop::REASON => p.reason = reason(&mut b)?,
            prop::METADATA => p.metadata = oxm::read_match(&mut b, !strict)?.m,
            prop::USERDATA => p.userdata = b.rest().to_vec(),
            prop::CONTINUATION => {
                b.skip(4)?;
                p.continuation = b.rest().to_vec();
            }
            _ if strict => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
            _ => {}
        }
    }
    p.total_len = full.unwrap_or(p.packet.len() as u32);
    if p.packet.is_empty() || (p.total_len as usize) < p.packet.len() {
        return Err(start.error(OfError::OFPBRC_BAD_LEN));
    }
    Ok(p)
}

/// Writes a packet-in in its form.
pub fn write_in(out: &mut Vec<u8>, p: &PacketIn, v: Version) -> Encoded {
    match p.format {
        PacketInFormat::Standard => write_std(out, p, v),
        PacketInFormat::Nxt => {
            out.put32(p.buffer_id.unwrap_or(NO_BUFFER));
            out.put16(p.total_len as u16);
            out.put8(reason_in(p.reason, v));
            out.put8(p.table.0);
            out.put64(p.cookie);
            let len_at = out.len();
            out.zeros(8);
            let start = out.len();
            oxm::put_match(out, &p.metadata, None)?;
            let len = out.len() - start;
            out.set16(len_at, len as u16);
            out.pad8(start);
            out.zeros(2);
            out.extend_from_slice(&p.packet);
            Ok(())
        }
        PacketInFormat::Nxt2 => write_nx_in2(out, p, v),
    }
}

fn write_std(out: &mut Vec<u8>, p: &PacketIn, v: Version) -> Encoded {
    out.put32(p.buffer_id.unwrap_or(NO_BUFFER));
    if v == Version::Of11 {
        let port = OfPort(p.metadata.key.pkt.in_port as u16).to_wire32();
        out.put32(port);
        out.put32(port);
        out.put16(p.total_len as u16);
        out.put8(reason_in(p.reason, v));
        out.put8(p.table.0);
        out.extend_from_slice(&p.packet);
        return Ok(());
    }
    out.put16(p.total_len as u16);
    if v == Version::Of10 {
        out.put16(p.metadata.key.pkt.in_port as u16);
        out.put8(reason_in(p.reason, v));
        out.put8(0);
    } else {
        out.put8(reason_in(p.reason, v));
        out.put8(p.table.0);
        if v >= Version::Of13 {
            out.put64(p.cookie);
        }
        write_match(out, &p.metadata, v)?;
        out.zeros(2);
    }
    out.extend_from_slice(&p.packet);
    Ok(())
}

/// Writes `NXT_PACKET_IN2` or `NXT_RESUME`.
pub fn write_nx_in2(out: &mut Vec<u8>, p: &PacketIn, v: Version) -> Encoded {
    let put = |out: &mut Vec<u8>, typ: u16, body: &[u8]| {
        let start = out.len();
        out.put16(typ);
        out.put16(4 + body.len() as u16);
        out.extend_from_slice(body);
        out.pad8(start);
    };
    let wide = |body: &[u8]| [&[0; 4], body].concat();
    put(out, prop::PACKET, &p.packet);
    if p.total_len as usize != p.packet.len() {
        put(out, prop::FULL_LEN, &p.total_len.to_be_bytes());
    }
    if let Some(b) = p.buffer_id {
        put(out, prop::BUFFER_ID, &b.to_be_bytes());
    }
    put(out, prop::TABLE_ID, &[p.table.0]);
    if p.cookie != u64::MAX {
        put(out, prop::COOKIE, &wide(&p.cookie.to_be_bytes()));
    }
    put(out, prop::REASON, &[reason_in(p.reason, v)]);
    let mut m = Vec::new();
    oxm::put_match(&mut m, &p.metadata, if v == Version::Of10 { None } else { Some(v) })?;
    put(out, prop::METADATA, &m);
    if !p.userdata.is_empty() {
        put(out, prop::USERDATA, &p.userdata);
    }
    if !p.continuation.is_empty() {
        put(out, prop::CONTINUATION, &wide(&p.continuation));
    }
    Ok(())
}

/// Whether a match speaks of nothing but what goes with a packet through the tables: tunnel, metadata,
/// registers, port and type of packet (1.5 §7.2.3.9).
fn is_pipeline_only(m: &Match) -> bool {
    let mut rest = m.mask;
    (rest.metadata, rest.regs, rest.tun_metadata) = Default::default();
    let tunnel = flow::TunnelKey {
        tos: rest.pkt.tunnel.tos,
        ttl: rest.pkt.tunnel.ttl,
        ..flow::TunnelKey::default()
    };
    (rest.pkt.in_port, rest.pkt.packet_type, rest.pkt.tunnel) = (0, 0, tunnel);
    rest == flow::FlowKey::ZERO
}

/// Reads a packet-out.
pub fn read_out(r: &mut Reader<'_>, v: Version) -> Result<PacketOut> {
    let b = r.u32()?;
    let buffer_id = (b != NO_BUFFER).then_some(b);
    let mut m = Match::ANY;
    let len;
    match v {
        Version::Of10 => {
            m.set(FieldId::InPort, r.u16()?.into(), 0xffff);
            len = usize::from(r.u16()?);
        }
        Version::Of15 => {
            len = usize::from(r.u16()?);
            r.skip(2)?;
            let here = *r;
            m = read_match(r, true)?;
            if !is_pipeline_only(&m) {
                return Err(here.error(OfError::OFPBRC_PIPELINE_FIELDS_ONLY));
            }
        }
        _ => {
            let here = *r;
            let port = port32(r).map_err(|_| here.error(OfError::OFPBRC_BAD_PORT))?;
            m.set(FieldId::InPort, port.0.into(), 0xffff);
            len = usize::from(r.u16()?);
            r.skip(6)?;
        }
    }
    let port = OfPort(m.key.pkt.in_port as u16);
    let reserved = [OfPort::LOCAL, OfPort::CONTROLLER, OfPort::NONE];
    if m.mask.pkt.in_port == 0 || port.0 >= OfPort::MAX.0 && !reserved.contains(&port) {
        return Err(r.error(OfError::OFPBRC_BAD_PORT));
    }
    let bad_len = r.error(OfError::OFPBRC_BAD_LEN);
    let mut a = r.sub(len).map_err(|_| bad_len)?;
    let actions = decode::actions(&mut a, v)?;
    let packet = r.rest().to_vec();
    Ok(PacketOut { buffer_id, metadata: m, actions, packet })
}

/// Writes a packet-out.
pub fn write_out(out: &mut Vec<u8>, p: &PacketOut, v: Version) -> Encoded {
    out.put32(p.buffer_id.unwrap_or(NO_BUFFER));
    let port = OfPort(p.metadata.key.pkt.in_port as u16);
    let len_at;
    match v {
        Version::Of10 => {
            out.put16(port.0);
            len_at = out.len();
            out.put16(0);
        }
        Version::Of15 => {
            len_at = out.len();
            out.zeros(4);
            write_match(out, &p.metadata, v)?;
        }
        _ => {
            out.put32(port.to_wire32());
            len_at = out.len();
            out.zeros(8);
        }
    }
    let start = out.len();
    encode::actions(out, &p.actions, v, encode::Known::default())?;
    let len = u16::try_from(out.len() - start)
        .map_err(|_| crate::error::EncodeError::TooLong("list of actions".into()))?;
    out.set16(len_at, len);
    out.extend_from_slice(&p.packet);
    Ok(())
}
