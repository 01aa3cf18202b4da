//! `ofp10_match`: the 40-byte match of OpenFlow 1.0 (§5.2.3).

use alloc::vec::Vec;

use flow::{FieldId, Match, VLAN_PRESENT};
use packet::header::{ethertype, ipproto};

use super::codec::Result;
use crate::wire::{Put, Reader};

/// Bytes of it.
pub const LEN: usize = 40;

pub(crate) const IN_PORT: u32 = 1;
/// Wildcard bit.
pub const DL_VLAN: u32 = 1 << 1;
pub(crate) const DL_SRC: u32 = 1 << 2;
pub(crate) const DL_DST: u32 = 1 << 3;
pub(crate) const DL_TYPE: u32 = 1 << 4;
pub(crate) const NW_PROTO: u32 = 1 << 5;
pub(crate) const TP_SRC: u32 = 1 << 6;
pub(crate) const TP_DST: u32 = 1 << 7;
pub(crate) const NW_SRC_SHIFT: u32 = 8;
pub(crate) const NW_DST_SHIFT: u32 = 14;
/// Wildcard bit.
pub const DL_VLAN_PCP: u32 = 1 << 20;
pub(crate) const NW_TOS: u32 = 1 << 21;
const ALL: u32 = (1 << 22) - 1;
const VLAN_NONE: u16 = 0xffff;

/// Whether the match that comes next says something of every field.
pub fn is_exact(r: &Reader<'_>) -> bool {
    let mut r = *r;
    r.u32().is_ok_and(|w| w & ALL == 0)
}

/// Its fields as they are on the wire.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    /// Fields that may be anything, and how many bits of the addresses.
    pub wildcards: u32,
    /// Port.
    pub in_port: u16,
    /// Ethernet source.
    pub dl_src: [u8; 6],
    /// Ethernet destination.
    pub dl_dst: [u8; 6],
    /// VLAN; 0xffff for none.
    pub dl_vlan: u16,
    /// VLAN priority.
    pub dl_vlan_pcp: u8,
    /// Ethernet type.
    pub dl_type: u16,
    /// DSCP, in the bits of the old type of service.
    pub nw_tos: u8,
    /// IP protocol, or ARP operation.
    pub nw_proto: u8,
    /// IPv4 source.
    pub nw_src: u32,
    /// IPv4 destination.
    pub nw_dst: u32,
    /// Source port, or ICMP type.
    pub tp_src: u16,
    /// Destination port, or ICMP code.
    pub tp_dst: u16,
}

impl Raw {
    /// Reads them.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Raw> {
        let (wildcards, in_port, dl_src, dl_dst) = (r.u32()?, r.u16()?, r.array()?, r.array()?);
        let (dl_vlan, dl_vlan_pcp) = (r.u16()?, r.u8()?);
        r.skip(1)?;
        let (dl_type, nw_tos, nw_proto) = (r.u16()?, r.u8()?, r.u8()?);
        r.skip(2)?;
        let (nw_src, nw_dst, tp_src, tp_dst) = (r.u32()?, r.u32()?, r.u16()?, r.u16()?);
        Ok(Raw {
            wildcards,
            in_port,
            dl_src,
            dl_dst,
            dl_vlan,
            dl_vlan_pcp,
            dl_type,
            nw_tos,
            nw_proto,
            nw_src,
            nw_dst,
            tp_src,
            tp_dst,
        })
    }
}

/// Reads a match. Fields whose prerequisites do not hold are dropped, as 1.0 says.
///
/// # Errors
/// There are fewer than [`LEN`] bytes.
pub fn read(r: &mut Reader<'_>) -> Result<Match> {
    let mut m = read_as_said(r)?;
    m.normalize();
    Ok(m)
}

/// Reads a match with all that it says, as flows that are told of had it.
///
/// # Errors
/// There are fewer than [`LEN`] bytes.
pub fn read_as_said(r: &mut Reader<'_>) -> Result<Match> {
    let raw = Raw::read(r)?;
    let Raw { in_port, dl_src, dl_dst, dl_vlan, dl_vlan_pcp, dl_type, nw_tos, .. } = raw;
    let Raw { nw_proto, nw_src, nw_dst, tp_src, tp_dst, .. } = raw;
    let w = raw.wildcards & ALL;

    let mut m = Match::ANY;
    let mut set = |bit: u32, f: FieldId, v: u128| {
        if w & bit == 0 {
            m.set(f, v, f.row().all_ones());
        }
    };
    set(IN_PORT, FieldId::InPort, in_port.into());
    set(DL_SRC, FieldId::EthSrc, base::MacAddr(dl_src).to_u64().into());
    set(DL_DST, FieldId::EthDst, base::MacAddr(dl_dst).to_u64().into());
    set(DL_TYPE, FieldId::EthType, dl_type.into());
    set(NW_TOS, FieldId::NwTos, nw_tos.into());
    set(NW_PROTO, FieldId::IpProto, nw_proto.into());
    let icmp =
        w & (DL_TYPE | NW_PROTO) == 0 && dl_type == ethertype::IPV4 && nw_proto == ipproto::ICMP;
    let (src, dst) = if icmp {
        (FieldId::IcmpType, FieldId::IcmpCode)
    } else {
        (FieldId::TcpSrc, FieldId::TcpDst)
    };
    set(TP_SRC, src, tp_src.into());
    set(TP_DST, dst, tp_dst.into());
    let prefix = |shift: u32| match w >> shift & 0x3f {
        n @ 0..32 => u32::MAX << n,
        _ => 0,
    };
    for (f, v, shift) in
        [(FieldId::IpSrc, nw_src, NW_SRC_SHIFT), (FieldId::IpDst, nw_dst, NW_DST_SHIFT)]
    {
        m.set(f, v.into(), prefix(shift).into());
    }
    if w & DL_VLAN == 0 && dl_vlan == VLAN_NONE {
        m.set(FieldId::VlanTci, 0, 0xffff);
    } else {
        if w & DL_VLAN == 0 {
            m.set(FieldId::DlVlan, (dl_vlan & 0xfff).into(), 0xfff);
        }
        if w & DL_VLAN_PCP == 0 {
            m.set(FieldId::DlVlanPcp, dl_vlan_pcp.into(), 7);
        }
    }
    Ok(m)
}

/// Writes a match; what 1.0 cannot say is left out.
pub fn write(out: &mut Vec<u8>, m: &Match) {
    let (k, x) = (&m.key.pkt, &m.mask.pkt);
    let mut w = 0;
    let mut wild = |any: bool, bit: u32| {
        if any {
            w |= bit;
        }
    };
    wild(x.in_port == 0, IN_PORT);
    wild(x.dl_src != [0xff; 6], DL_SRC);
    wild(x.dl_dst != [0xff; 6], DL_DST);
    wild(x.dl_type == 0, DL_TYPE);
    wild(x.nw_tos & 0xfc == 0, NW_TOS);
    wild(x.nw_proto == 0, NW_PROTO);
    wild(x.tp_src & 0xff != 0xff, TP_SRC);
    wild(x.tp_dst & 0xff != 0xff, TP_DST);
    let tci = k.vlans[0].tci;
    let vm = x.vlans[0].tci;
    let none = vm & VLAN_PRESENT != 0 && tci & VLAN_PRESENT == 0;
    let (vid, pcp) = if none { (VLAN_NONE, 0) } else { (tci & 0xfff, (tci >> 13) as u8) };
    wild(!none && vm & 0xfff == 0, DL_VLAN);
    wild(!none && vm & 0xe000 == 0, DL_VLAN_PCP);
    w |= (32 - x.nw_src.leading_ones()) << NW_SRC_SHIFT;
    w |= (32 - x.nw_dst.leading_ones()) << NW_DST_SHIFT;
    // Nothing at all is said as all ones in these.
    if *m == Match::ANY {
        w = ALL & !(0x1f << NW_SRC_SHIFT) & !(0x1f << NW_DST_SHIFT);
    }
    out.put32(w);
    out.put16(k.in_port as u16);
    out.extend_from_slice(&k.dl_src);
    out.extend_from_slice(&k.dl_dst);
    out.put16(if w & DL_VLAN == 0 { vid } else { 0 });
    out.put8(if w & DL_VLAN_PCP == 0 { pcp } else { 0 });
    out.put8(0);
    out.put16(k.dl_type);
    out.put8(k.nw_tos & 0xfc);
    out.put8(k.nw_proto);
    out.zeros(2);
    out.put32(k.nw_src);
    out.put32(k.nw_dst);
    out.put16(k.tp_src);
    out.put16(k.tp_dst);
}
