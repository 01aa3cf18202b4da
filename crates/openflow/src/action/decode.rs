//! Actions and instructions off the wire.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use base::{MacAddr, OfPort, TableId};
use flow::{FieldId, VLAN_PRESENT};

use super::check::output_port;
use super::table::{Raw, raw_of};
use super::verify::{Outer, verify};
use super::*;
use crate::error::{DecodeError, OfError};
use crate::oxm;
use crate::version::Version;
use crate::wire::Reader;

type Result<T> = core::result::Result<T, DecodeError>;

/// Nicira's experimenter id.
pub const NX_VENDOR: u32 = 0x2320;
/// The ONF's.
pub const ONF_VENDOR: u32 = 0x4f4e_4600;
/// Deepest nesting of actions in actions (`clone`, `ct`, `write_actions`).
const MAX_DEPTH: u8 = 16;

/// Reads actions until the reader is empty.
pub fn actions(r: &mut Reader<'_>, v: Version) -> Result<Vec<Action>> {
    let start = *r;
    if !r.len().is_multiple_of(8) {
        return Err(start.error(OfError::OFPBRC_BAD_LEN));
    }
    let out = list(r, v, 0)?;
    verify(&out, v, Outer::Flow).map_err(|e| start.error(e.error))?;
    Ok(out)
}

fn list(r: &mut Reader<'_>, v: Version, depth: u8) -> Result<Vec<Action>> {
    if depth > MAX_DEPTH {
        return Err(r.error(OfError::OFPBAC_TOO_MANY));
    }
    let mut out = Vec::new();
    while !r.is_empty() {
        let here = *r;
        if r.len() < 4 {
            return Err(r.error(OfError::OFPBAC_BAD_LEN));
        }
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 8 || len % 8 != 0 || len > here.len() {
            return Err(here.error(OfError::OFPBAC_BAD_LEN));
        }
        let mut b = r.sub(len - 4)?;
        let (vendor, code) = if typ == 0xffff {
            let vendor = b.u32()?;
            if vendor != NX_VENDOR && vendor != ONF_VENDOR {
                return Err(here.error(OfError::OFPBAC_BAD_VENDOR));
            }
            if b.len() < 2 {
                return Err(here.error(OfError::OFPBAC_BAD_LEN));
            }
            (vendor, b.u16()?)
        } else {
            (0, typ)
        };
        let raw = raw_of(vendor, code, v).ok_or(here.error(if vendor == 0 {
            OfError::OFPBAC_BAD_TYPE
        } else {
            OfError::OFPBAC_BAD_VENDOR_TYPE
        }))?;
        let a = one(raw, &mut b, v, depth).map_err(|e| match e.error {
            OfError::OFPBRC_BAD_LEN => DecodeError { error: OfError::OFPBAC_BAD_LEN, at: e.at },
            OfError::OFPBMC_BAD_FIELD => {
                DecodeError { error: OfError::OFPBAC_BAD_SET_TYPE, at: e.at }
            }
            OfError::OFPBMC_BAD_LEN => DecodeError { error: OfError::OFPBAC_BAD_SET_LEN, at: e.at },
            OfError::OFPBMC_BAD_VALUE => {
                DecodeError { error: OfError::OFPBAC_BAD_SET_ARGUMENT, at: e.at }
            }
            _ => e,
        })?;
        if b.len() >= 8 && !raw.has_any_length() {
            return Err(here.error(OfError::OFPBAC_BAD_LEN));
        }
        if b.peek().iter().any(|&c| c != 0) && !matches!(raw, Raw::Note) {
            return Err(b.error(OfError::NXBAC_MUST_BE_ZERO));
        }
        out.push(a);
    }
    Ok(out)
}

/// A 1.1+ port number.
pub fn port32(r: &mut Reader<'_>) -> Result<OfPort> {
    let here = *r;
    OfPort::from_wire32(r.u32()?).ok_or(here.error(OfError::OFPBAC_BAD_OUT_PORT))
}

fn hash_fields(r: &mut Reader<'_>) -> Result<HashFields> {
    let here = *r;
    let v = r.u16()?;
    HashFields::ALL
        .into_iter()
        .find(|h| *h as u16 == v)
        .ok_or(here.error(OfError::OFPBAC_BAD_ARGUMENT))
}

/// Offset and number of bits, packed as Nicira does.
fn ofs_nbits(r: &mut Reader<'_>) -> Result<(u16, u16)> {
    let v = r.u16()?;
    Ok((v >> 6, (v & 0x3f) + 1))
}

fn one(raw: Raw, r: &mut Reader<'_>, v: Version, depth: u8) -> Result<Action> {
    let bad = r.error(OfError::OFPBAC_BAD_ARGUMENT);
    Ok(match raw {
        Raw::Output10 | Raw::Output => {
            let here = *r;
            let port = if matches!(raw, Raw::Output10) { OfPort(r.u16()?) } else { port32(r)? };
            output_port(port).map_err(|e| here.error(e))?;
            Action::Output { port, max_len: r.u16()? }
        }
        Raw::Enqueue10 => {
            let port = OfPort(r.u16()?);
            r.skip(6)?;
            Action::Enqueue { port, queue: r.u32()? }
        }
        Raw::SetVlanVid => {
            let vid = r.u16()?;
            if vid & !0xfff != 0 {
                return Err(bad);
            }
            Action::SetVlanVid { vid, push: v == Version::Of10 }
        }
        Raw::SetVlanPcp => {
            let pcp = r.u8()?;
            if pcp > 7 {
                return Err(bad);
            }
            Action::SetVlanPcp { pcp, push: v == Version::Of10 }
        }
        Raw::StripVlan => Action::StripVlan,
        Raw::PushVlan => match r.u16()? {
            t @ (0x8100 | 0x88a8) => Action::PushVlan(t),
            _ => return Err(bad),
        },
        Raw::SetEthSrc => Action::SetEthSrc(MacAddr(r.array()?)),
        Raw::SetEthDst => Action::SetEthDst(MacAddr(r.array()?)),
        Raw::SetIpv4Src => Action::SetIpv4Src(Ipv4Addr::from(r.u32()?)),
        Raw::SetIpv4Dst => Action::SetIpv4Dst(Ipv4Addr::from(r.u32()?)),
        Raw::SetNwTos => match r.u8()? {
            t if t & 3 == 0 => Action::SetNwTos(t),
            _ => return Err(bad),
        },
        Raw::SetNwEcn => match r.u8()? {
            t if t <= 3 => Action::SetNwEcn(t),
            _ => return Err(bad),
        },
        Raw::SetNwTtl => Action::SetNwTtl(r.u8()?),
        Raw::SetL4Src => Action::SetL4Src(r.u16()?),
        Raw::SetL4Dst => Action::SetL4Dst(r.u16()?),
        Raw::SetMplsLabel | Raw::NxSetMplsLabel => {
            if matches!(raw, Raw::NxSetMplsLabel) {
                r.skip(2)?;
            }
            match r.u32()? {
                l if l < 1 << 20 => Action::SetMplsLabel(l),
                _ => return Err(bad),
            }
        }
        Raw::SetMplsTc => match r.u8()? {
            t if t <= 7 => Action::SetMplsTc(t),
            _ => return Err(bad),
        },
        Raw::SetMplsTtl => Action::SetMplsTtl(r.u8()?),
        Raw::DecMplsTtl => Action::DecMplsTtl,
        Raw::PushMpls => match r.u16()? {
            t @ (0x8847 | 0x8848) => Action::PushMpls(t),
            _ => return Err(bad),
        },
        Raw::PopMpls => Action::PopMpls(r.u16()?),
        Raw::SetQueue => Action::SetQueue(r.u32()?),
        Raw::NxSetQueue => {
            r.skip(2)?;
            Action::SetQueue(r.u32()?)
        }
        Raw::PopQueue => Action::PopQueue,
        Raw::Group => Action::Group(r.u32()?),
        Raw::NxGroup => {
            r.skip(2)?;
            Action::Group(r.u32()?)
        }
        Raw::DecTtl => Action::DecTtl(Vec::new()),
        Raw::DecTtlCntIds => {
            let n = r.u16()?;
            r.skip(4)?;
            let ids: Result<Vec<u16>> = (0..n).map(|_| r.u16()).collect();
            match ids? {
                ids if ids.is_empty() => return Err(bad),
                ids => Action::DecTtl(ids),
            }
        }
        Raw::SetField | Raw::RegLoad2 => {
            let h = oxm::read_header(r)?;
            if h.has_mask && matches!(raw, Raw::SetField) && v < Version::Of15 {
                return Err(r.error(OfError::OFPBAC_BAD_SET_MASK));
            }
            if let Some(i) = h.field.tun_option() {
                let option = Box::new(oxm::read_option(r, &h)?);
                return Ok(Action::SetTunOption { index: i as u8, option });
            }
            let (value, mask) = oxm::read_value(r, &h)?;
            // 1.2 and later do not set the port of entry, and ask for the bit that says that there is a tag.
            let standard = matches!(raw, Raw::SetField);
            let no_port = standard && h.field.id == FieldId::InPortOxm;
            let present = u128::from(VLAN_PRESENT);
            let no_tag = standard && h.field.id == FieldId::VlanVid && value & mask & present == 0;
            if !h.field.writable || no_port || no_tag {
                return Err(r.error(OfError::OFPBAC_BAD_SET_ARGUMENT));
            }
            Action::SetField { field: h.field.id, value, mask }
        }
        Raw::RegLoad => {
            let (ofs, n) = ofs_nbits(r)?;
            let dst = oxm::read_subfield(r, ofs, n).map_err(|e| match e.error {
                OfError::OFPBMC_BAD_LEN => DecodeError { error: OfError::OFPBAC_BAD_SET_TYPE, ..e },
                _ => e,
            })?;
            let value = u128::from(r.u64()?);
            if value > dst.max() {
                return Err(bad);
            }
            if !dst.row().writable {
                return Err(r.error(OfError::OFPBAC_BAD_SET_ARGUMENT));
            }
            Action::Load { dst, value }
        }
        Raw::RegMove | Raw::CopyField => {
            // The ONF's form before 1.5 has a number of 32 bits, of which 16 are read.
            if matches!(raw, Raw::CopyField) && v < Version::Of15 {
                r.skip(2)?;
            }
            let (n, s, d) = (r.u16()?, r.u16()?, r.u16()?);
            if matches!(raw, Raw::CopyField) {
                r.skip(2)?;
            }
            let (src, dst) = (oxm::read_subfield(r, s, n)?, oxm::read_subfield(r, d, n)?);
            if !dst.row().writable {
                return Err(r.error(OfError::OFPBAC_BAD_SET_ARGUMENT));
            }
            Action::Move { src, dst }
        }
        Raw::StackPush | Raw::StackPop => {
            let ofs = r.u16()?;
            let mut header = *r;
            // The header comes before the number of bits, which it needs.
            let mut after = *r;
            oxm::read_header(&mut after)?;
            let n = after.u16()?;
            let sf = oxm::read_subfield(&mut header, ofs, n)?;
            *r = after;
            if matches!(raw, Raw::StackPush) { Action::StackPush(sf) } else { Action::StackPop(sf) }
        }
        Raw::OutputReg => {
            let (ofs, n) = ofs_nbits(r)?;
            let src = oxm::read_subfield(r, ofs, n)?;
            Action::OutputReg { src, max_len: r.u16()? }
        }
        Raw::OutputReg2 => {
            let (ofs, n) = ofs_nbits(r)?;
            let max_len = r.u16()?;
            Action::OutputReg { src: oxm::read_subfield(r, ofs, n)?, max_len }
        }
        Raw::OutputTrunc => Action::OutputTrunc { port: OfPort(r.u16()?), max_len: r.u32()? },
        Raw::Controller => Action::Controller(Box::new(ControllerAction {
            max_len: r.u16()?,
            controller_id: r.u16()?,
            reason: PacketInReason::from_wire(r.u8()?).ok_or(bad)?,
            ..Default::default()
        })),
        Raw::Controller2 => controller2(r)?,
        Raw::SetTunnel => {
            r.skip(2)?;
            Action::SetTunnel { id: r.u32()?.into(), wide: false }
        }
        Raw::SetTunnel64 => {
            r.skip(6)?;
            Action::SetTunnel { id: r.u64()?, wide: true }
        }
        Raw::Resubmit => resubmit(OfPort(r.u16()?), None, false),
        Raw::ResubmitTable | Raw::ResubmitTableCt => {
            let port = OfPort(r.u16()?);
            let table = match r.u8()? {
                255 => None,
                t => Some(TableId(t)),
            };
            resubmit(port, table, matches!(raw, Raw::ResubmitTableCt))
        }
        Raw::Ct => ct(r, v, depth)?,
        Raw::CtClear => Action::CtClear,
        Raw::Nat => Action::Nat(Box::new(nat(r)?)),
        Raw::Learn | Raw::Learn2 => learn(r, matches!(raw, Raw::Learn2))?,
        Raw::Conjunction => {
            let (clause, n_clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
            if clause >= n_clauses || !(2..=64).contains(&n_clauses) {
                return Err(r.error(OfError::NXBAC_BAD_CONJUNCTION));
            }
            Action::Conjunction { id, clause, n_clauses }
        }
        Raw::Multipath => {
            let (fields, basis) = (hash_fields(r)?, r.u16()?);
            r.skip(2)?;
            let (algorithm, max_link, arg) = (r.u16()?, r.u16()?, r.u32()?);
            r.skip(2)?;
            let (ofs, n) = ofs_nbits(r)?;
            let dst = oxm::read_subfield(r, ofs, n)?;
            if algorithm > 3 {
                return Err(bad);
            }
            if !dst.row().writable {
                return Err(r.error(OfError::OFPBAC_BAD_SET_ARGUMENT));
            }
            Action::Multipath(Box::new(MultipathAction {
                fields,
                basis,
                algorithm,
                max_link,
                arg,
                dst,
            }))
        }
        Raw::Bundle | Raw::BundleLoad => {
            let (algorithm, fields, basis) = (r.u16()?, hash_fields(r)?, r.u16()?);
            let _member_type = r.u32()?;
            let n = r.u16()?;
            let (ofs, bits) = ofs_nbits(r)?;
            let dst = if matches!(raw, Raw::BundleLoad) {
                if bits < 16 {
                    return Err(bad);
                }
                Some(oxm::read_subfield(r, ofs, bits)?)
            } else {
                r.skip(4)?;
                None
            };
            r.skip(4)?;
            let members: Result<Vec<_>> = (0..n).map(|_| r.u16().map(OfPort)).collect();
            if algorithm > 1 {
                return Err(bad);
            }
            let members = members?;
            Action::Bundle(Box::new(BundleAction { fields, basis, algorithm, members, dst }))
        }
        Raw::Note => Action::Note(r.rest().to_vec()),
        Raw::Exit => Action::Exit,
        Raw::Clone => {
            r.skip(6)?;
            let here = *r;
            let inner = list(r, v, depth + 1)?;
            verify(&inner, v, Outer::Clone).map_err(|e| here.error(e.error))?;
            Action::Clone(inner)
        }
        Raw::Sample | Raw::Sample2 | Raw::Sample3 => {
            let mut s = SampleAction {
                probability: r.u16()?,
                collector_set_id: r.u32()?,
                obs_domain_id: r.u32()?,
                obs_point_id: r.u32()?,
                sampling_port: OfPort::NONE,
                ..SampleAction::default()
            };
            if !matches!(raw, Raw::Sample) {
                s.sampling_port = OfPort(r.u16()?);
                s.direction = r.u8()?;
            }
            if s.probability == 0 || s.direction > 2 {
                return Err(bad);
            }
            Action::Sample(Box::new(s))
        }
        Raw::Sample4 => {
            let (probability, collector_set_id) = (r.u16()?, r.u32()?);
            let mut id = || -> Result<(u32, Option<Subfield>)> {
                let mut src = *r;
                if r.u32()? == 0 {
                    return Ok((r.u32()?, None));
                }
                let (ofs, n) = ofs_nbits(r)?;
                r.skip(2)?;
                let sf = oxm::read_subfield(&mut src, ofs, n)?;
                if n > 32 { Err(src.error(OfError::OFPBAC_BAD_SET_LEN)) } else { Ok((0, Some(sf))) }
            };
            let ((obs_domain_id, obs_domain_src), (obs_point_id, obs_point_src)) = (id()?, id()?);
            let s = SampleAction {
                probability,
                collector_set_id,
                obs_domain_id,
                obs_domain_src,
                obs_point_id,
                obs_point_src,
                sampling_port: OfPort(r.u16()?),
                direction: r.u8()?,
            };
            if s.probability == 0 || s.direction > 2 {
                return Err(bad);
            }
            Action::Sample(Box::new(s))
        }
        Raw::FinTimeout => Action::FinTimeout { idle: r.u16()?, hard: r.u16()? },
        Raw::CheckPktLarger => {
            let len = r.u16()?;
            let ofs = r.u16()?;
            let dst = oxm::read_subfield(r, ofs, 1)?;
            if !dst.row().writable {
                return Err(r.error(OfError::OFPBAC_BAD_SET_ARGUMENT));
            }
            Action::CheckPktLarger { len, dst }
        }
        Raw::DeleteField => Action::DeleteField(oxm::read_header(r)?.field.id),
        Raw::Encap => encap(r)?,
        Raw::Decap => {
            r.skip(2)?;
            match r.u32()? {
                USE_NEXT_PROTO => Action::Decap(None),
                t => Action::Decap(Some(t)),
            }
        }
        Raw::DecNshTtl => Action::DecNshTtl,
        Raw::DebugSlow => Action::DebugSlow,
        Raw::DebugRecirc => Action::DebugRecirc,
        Raw::NxWriteMetadata => {
            r.skip(6)?;
            Action::WriteMetadata { value: r.u64()?, mask: r.u64()? }
        }
        Raw::Meter => Action::Meter(r.u32()?),
    })
}

fn resubmit(port: OfPort, table: Option<TableId>, with_ct: bool) -> Action {
    Action::Resubmit { port: (port != OfPort::IN_PORT).then_some(port), table, with_ct }
}

fn controller2(r: &mut Reader<'_>) -> Result<Action> {
    let mut c = ControllerAction::default();
    r.skip(6)?;
    while r.len() >= 4 {
        let here = *r;
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mut p = r.sub(len - 4)?;
        let pad = (len.next_multiple_of(8) - len).min(r.len());
        r.skip(pad)?;
        match typ {
            0 => c.max_len = p.u16()?,
            1 => c.controller_id = p.u16()?,
            2 => {
                c.reason = PacketInReason::from_wire(p.u8()?)
                    .ok_or(here.error(OfError::OFPBAC_BAD_ARGUMENT))?;
            }
            3 => c.userdata = p.rest().to_vec(),
            4 => c.pause = true,
            5 => c.meter = Some(p.u32()?),
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    Ok(Action::Controller(Box::new(c)))
}

fn ct(r: &mut Reader<'_>, v: Version, depth: u8) -> Result<Action> {
    let here = *r;
    let bad = here.error(OfError::OFPBAC_BAD_ARGUMENT);
    let flags = r.u16()?;
    let mut src = *r;
    let zone_src = r.u32()?;
    let imm = r.u16()?;
    let zone = if zone_src == 0 {
        CtZone::Imm(imm)
    } else {
        let sf = oxm::read_subfield(&mut src, imm >> 6, (imm & 0x3f) + 1)?;
        if sf.n_bits != 16 {
            return Err(here.error(OfError::OFPBAC_BAD_SET_LEN));
        }
        CtZone::Field(sf)
    };
    let table = r.u8()?;
    r.skip(3)?;
    let alg = match r.u16()? {
        0 => None,
        21 => Some(CtAlg::Ftp),
        69 => Some(CtAlg::Tftp),
        _ => return Err(bad),
    };
    let mut c = CtAction {
        commit: flags & 1 != 0,
        force: flags & 2 != 0,
        zone,
        recirc_table: (table != 255).then_some(TableId(table)),
        alg,
        nat: None,
        nat_at: 0,
        exec: Vec::new(),
    };
    if flags & !3 != 0 || c.force && !c.commit {
        return Err(bad);
    }
    for a in list(r, v, depth + 1)? {
        match a {
            Action::Nat(n) if c.nat.is_none() => {
                (c.nat, c.nat_at) = (Some(*n), c.exec.len() as u16);
            }
            Action::SetField { field: FieldId::CtMark | FieldId::CtLabel, .. } => c.exec.push(a),
            Action::Load { dst, .. } | Action::Move { dst, .. }
                if matches!(dst.field, FieldId::CtMark | FieldId::CtLabel) =>
            {
                c.exec.push(a);
            }
            _ => return Err(bad),
        }
    }
    let plain_nat = c.nat.as_ref().is_none_or(|n| n.kind.is_none());
    if !c.commit && (!c.exec.is_empty() || !plain_nat) {
        return Err(bad);
    }
    Ok(Action::Ct(Box::new(c)))
}

fn nat(r: &mut Reader<'_>) -> Result<NatAction> {
    let bad = r.error(OfError::OFPBAC_BAD_ARGUMENT);
    r.skip(2)?;
    let (flags, present) = (r.u16()?, r.u16()?);
    let kind = match flags & 3 {
        0 => None,
        1 => Some(NatKind::Src),
        2 => Some(NatKind::Dst),
        _ => return Err(bad),
    };
    if flags & !0x1f != 0 || flags & 0x18 == 0x18 {
        return Err(bad);
    }
    let mut n = NatAction {
        kind,
        persistent: flags & 4 != 0,
        hash: flags & 8 != 0,
        random: flags & 0x10 != 0,
        ..Default::default()
    };
    let has = |bit: u16| present & (1 << bit) != 0;
    if has(0) || has(1) {
        let min = if has(0) { Ipv4Addr::from(r.u32()?) } else { return Err(bad) };
        let max = if has(1) { Some(Ipv4Addr::from(r.u32()?)) } else { None };
        if min.is_unspecified() || max.is_some_and(|m| m < min) {
            return Err(bad);
        }
        n.addr = NatAddr::V4(min, max);
    }
    if has(2) || has(3) {
        if !has(2) || n.addr != NatAddr::Unspec {
            return Err(bad);
        }
        let min = Ipv6Addr::from(r.array::<16>()?);
        let max = if has(3) { Some(Ipv6Addr::from(r.array::<16>()?)) } else { None };
        if min.is_unspecified() || max.is_some_and(|m| m < min) {
            return Err(bad);
        }
        n.addr = NatAddr::V6(min, max);
    }
    if has(4) {
        let (min, max) = (r.u16()?, if has(5) { Some(r.u16()?) } else { None });
        if min == 0 || max.is_some_and(|m| m < min) || n.addr == NatAddr::Unspec {
            return Err(bad);
        }
        n.ports = Some((min, max));
    } else if has(5) {
        return Err(bad);
    }
    if present & !0x3f != 0 || n.kind.is_none() && (n.addr != NatAddr::Unspec || n.ports.is_some())
    {
        return Err(bad);
    }
    Ok(n)
}

fn learn(r: &mut Reader<'_>, two: bool) -> Result<Action> {
    let bad = r.error(OfError::OFPBAC_BAD_ARGUMENT);
    let (idle_timeout, hard_timeout, priority, cookie) = (r.u16()?, r.u16()?, r.u16()?, r.u64()?);
    let flags = r.u16()?;
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let (fin_idle_timeout, fin_hard_timeout) = (r.u16()?, r.u16()?);
    let mut l = LearnAction {
        idle_timeout,
        hard_timeout,
        priority,
        cookie,
        table,
        fin_idle_timeout,
        fin_hard_timeout,
        send_flow_rem: flags & 1 != 0,
        delete_learned: flags & 2 != 0,
        ..LearnAction::default()
    };
    if flags & !7 != 0 || table == TableId::ALL {
        return Err(bad);
    }
    if two {
        l.limit = r.u32()?;
        let ofs = r.u16()?;
        r.skip(2)?;
        if flags & 4 != 0 {
            let dst = oxm::read_subfield(r, ofs, 1)?;
            l.result_dst = Some(dst);
        }
    }
    while r.len() >= 2 {
        let h = r.u16()?;
        if h == 0 {
            break;
        }
        let n_bits = h & 0x7ff;
        let src = if h & 0x2000 != 0 {
            let bytes = usize::from(n_bits.div_ceil(16)) * 2;
            // A constant has at most 128 bits, also for longer fields.
            let mut body = r.sub(bytes)?;
            if body.take(bytes.saturating_sub(16))?.iter().any(|&b| b != 0) {
                return Err(r.error(OfError::OFPBAC_BAD_ARGUMENT));
            }
            LearnSrc::Value(body.uint(bytes.min(16))?)
        } else {
            let mut header = *r;
            oxm::read_header(r)?;
            let ofs = r.u16()?;
            LearnSrc::Field(oxm::read_subfield(&mut header, ofs, n_bits)?)
        };
        let mut dst = || -> Result<Subfield> {
            let mut header = *r;
            oxm::read_header(r)?;
            let ofs = r.u16()?;
            oxm::read_subfield(&mut header, ofs, n_bits)
        };
        let dst = match h & 0x1800 {
            0 => LearnDst::Match(dst()?),
            0x0800 => LearnDst::Load(dst()?),
            0x1000 => LearnDst::Output,
            _ => return Err(r.error(OfError::OFPBAC_BAD_ARGUMENT)),
        };
        l.specs.push(LearnSpec { n_bits, src, dst });
    }
    Ok(Action::Learn(Box::new(l)))
}

fn encap(r: &mut Reader<'_>) -> Result<Action> {
    let hdr_size = r.u16()?;
    let packet_type = r.u32()?;
    let mut props = Vec::new();
    while r.len() >= 4 {
        let here = *r;
        let (class, typ, len) = (r.u16()?, r.u8()?, usize::from(r.u8()?));
        if len < 4 {
            return Err(here.error(OfError::NXBAC_BAD_ED_PROP));
        }
        let mut p = r.sub(len - 4)?;
        let pad = (len.next_multiple_of(8) - len).min(r.len());
        r.skip(pad)?;
        props.push(match (class, typ) {
            (4, 1) => EncapProp::NshMdType(p.u8()?),
            (4, 2) => {
                let (class, kind, n) = (p.u16()?, p.u8()?, usize::from(p.u8()?));
                // The padding of the bytes is part of the property.
                if p.len() != n.next_multiple_of(8) {
                    return Err(here.error(OfError::NXBAC_BAD_ED_PROP));
                }
                EncapProp::NshTlv { class, kind, data: p.take(n)?.to_vec() }
            }
            _ => return Err(here.error(OfError::NXBAC_UNKNOWN_ED_PROP)),
        });
    }
    Ok(Action::Encap(Box::new(EncapAction { packet_type, hdr_size, props })))
}

/// Reads instructions (1.1+) until the reader is empty, as actions in order of execution.
pub fn instructions(r: &mut Reader<'_>, v: Version) -> Result<Vec<Action>> {
    // Meter, apply, clear, write, metadata, goto.
    let mut parts: [Option<Vec<Action>>; 6] = Default::default();
    let start = *r;
    while !r.is_empty() {
        let here = *r;
        if r.len() < 4 {
            return Err(here.error(OfError::OFPBIC_BAD_LEN));
        }
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 8 || len % 8 != 0 || len > here.len() {
            return Err(here.error(OfError::OFPBIC_BAD_LEN));
        }
        let mut b = r.sub(len - 4)?;
        let fixed = match typ {
            1 | 5 => Some(8),
            2 => Some(24),
            6 if v >= Version::Of13 && v < Version::Of15 => Some(8),
            _ => None,
        };
        if fixed.is_some_and(|fixed| fixed != len) {
            return Err(here.error(OfError::OFPBIC_BAD_LEN));
        }
        let (slot, actions) = match typ {
            1 => (5, [Action::GotoTable(TableId(b.u8()?))].into()),
            2 => {
                b.skip(4)?;
                (4, [Action::WriteMetadata { value: b.u64()?, mask: b.u64()? }].into())
            }
            3 => {
                b.skip(4)?;
                let inner = list(&mut b, v, 1)?;
                verify(&inner, v, Outer::WriteActions).map_err(|e| here.error(e.error))?;
                if !inner.iter().all(Action::fits_action_set) {
                    return Err(here.error(OfError::OFPBAC_BAD_TYPE));
                }
                (3, [Action::WriteActions(inner)].into())
            }
            4 => {
                b.skip(4)?;
                (1, list(&mut b, v, 0)?)
            }
            5 => (2, [Action::ClearActions].into()),
            6 if v >= Version::Of13 && v < Version::Of15 => (0, [Action::Meter(b.u32()?)].into()),
            0xffff => return Err(here.error(OfError::OFPBIC_BAD_EXPERIMENTER)),
            _ => return Err(here.error(OfError::OFPBIC_UNKNOWN_INST)),
        };
        if parts[slot].replace(actions).is_some() {
            return Err(here.error(OfError::OFPBIC_DUP_INST));
        }
    }
    let actions: Vec<Action> = parts.into_iter().flatten().flatten().collect();
    verify(&actions, v, Outer::Flow).map_err(|e| start.error(e.error))?;
    Ok(actions)
}
