//! `ofp11_match`: the 88-byte match of OpenFlow 1.1 (§A.2.3), whose masks say which bits do not count.

use alloc::vec::Vec;

use base::MacAddr;
use flow::{FieldId, Match, VLAN_PRESENT};
use packet::header::{ethertype, ipproto};

use super::codec::Result;
use crate::action::decode;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Its length, with type and length.
pub const LEN: usize = 88;

const IN_PORT: u32 = 1;
const DL_VLAN: u32 = 1 << 1;
const DL_VLAN_PCP: u32 = 1 << 2;
const DL_TYPE: u32 = 1 << 3;
const NW_TOS: u32 = 1 << 4;
const NW_PROTO: u32 = 1 << 5;
const TP_SRC: u32 = 1 << 6;
const TP_DST: u32 = 1 << 7;
const MPLS_LABEL: u32 = 1 << 8;
const MPLS_TC: u32 = 1 << 9;
/// "Any VLAN".
const VLAN_ANY: u16 = 0xfffe;
/// "No VLAN".
const VLAN_NONE: u16 = 0xffff;

const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;

/// Reads a match behind its type and length. Fields that packets of the match do not have are dropped,
/// as 1.1 says.
pub fn read(r: &mut Reader<'_>) -> Result<Match> {
    let bad = r.error(OfError::OFPBMC_BAD_VALUE);
    let mut port = r.sub(4)?;
    let w = r.u32()?;
    let mut m = Match::ANY;
    if w & IN_PORT == 0 {
        m.set(FieldId::InPort, decode::port32(&mut port)?.0.into(), 0xffff);
    }
    for field in [FieldId::EthSrc, FieldId::EthDst] {
        let (value, mask) = (MacAddr(r.array()?).to_u64(), MacAddr(r.array()?).to_u64());
        m.set(field, value.into(), u128::from(!mask) & field.row().all_ones());
    }
    let (vlan, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    if w & DL_VLAN == 0 {
        let (mut tci, mut mask) = match vlan {
            VLAN_NONE => (0, u16::MAX),
            VLAN_ANY => (VLAN_PRESENT, VLAN_PRESENT),
            v if v <= VID => (VLAN_PRESENT | v, VLAN_PRESENT | VID),
            _ => return Err(bad),
        };
        if vlan != VLAN_NONE && w & DL_VLAN_PCP == 0 {
            if pcp > 7 {
                return Err(bad);
            }
            (tci, mask) = (tci | u16::from(pcp) << 13, mask | PCP);
        }
        m.set(FieldId::VlanTci, tci.into(), mask.into());
    }
    let dl_type = r.u16()?;
    let mut exact = |wild: bool, field: FieldId, value: u32| {
        if !wild {
            m.set(field, value.into(), field.row().all_ones());
        }
    };
    exact(w & DL_TYPE != 0, FieldId::EthType, dl_type.into());
    let known = |t: u16| w & DL_TYPE == 0 && dl_type == t;
    let ip = known(ethertype::IPV4);
    let nw = ip || known(ethertype::ARP) || known(ethertype::RARP);
    let (tos, proto) = (r.u8()?, r.u8()?);
    if ip && w & NW_TOS == 0 && tos & 3 != 0 {
        return Err(bad);
    }
    exact(!ip || w & NW_TOS != 0, FieldId::NwTos, tos.into());
    exact(!nw || w & NW_PROTO != 0, FieldId::IpProto, proto.into());
    let (src, src_mask, dst, dst_mask) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let (tp_src, tp_dst) = (r.u16()?, r.u16()?);
    let transport = if !ip || w & NW_PROTO != 0 { 0 } else { proto };
    let fields = match transport {
        ipproto::ICMP => Some((FieldId::IcmpType, FieldId::IcmpCode)),
        ipproto::TCP | ipproto::UDP | ipproto::SCTP => Some((FieldId::TcpSrc, FieldId::TcpDst)),
        _ => None,
    };
    if let Some((a, b)) = fields {
        let too_large = |wild: bool, v: u16| !wild && u128::from(v) > a.row().all_ones();
        if too_large(w & TP_SRC != 0, tp_src) || too_large(w & TP_DST != 0, tp_dst) {
            return Err(r.error(OfError::OFPBMC_BAD_FIELD));
        }
        exact(w & TP_SRC != 0, a, tp_src.into());
        exact(w & TP_DST != 0, b, tp_dst.into());
    }
    let (label, tc) = (r.u32()?, r.u8()?);
    r.skip(3)?;
    let mpls = known(ethertype::MPLS) || known(ethertype::MPLS_MCAST);
    exact(!mpls || w & MPLS_LABEL != 0, FieldId::MplsLabel, label);
    exact(!mpls || w & MPLS_TC != 0, FieldId::MplsTc, tc.into());
    if nw {
        m.set(FieldId::IpSrc, src.into(), (!src_mask).into());
        m.set(FieldId::IpDst, dst.into(), (!dst_mask).into());
    }
    let (metadata, mask) = (r.u64()?, r.u64()?);
    m.set(FieldId::Metadata, metadata.into(), (!mask).into());
    Ok(m)
}

/// Writes a match with its type and length; what 1.1 cannot say is left out.
pub fn write(out: &mut Vec<u8>, m: &Match) {
    let (k, x) = (&m.key.pkt, &m.mask.pkt);
    let get = |f: FieldId| (f.row().get(&m.key), f.row().get(&m.mask));
    let (tci, vm) = (k.vlans[0].tci, x.vlans[0].tci);
    let (vlan, vlan_wild) = if vm == 0 {
        (0, DL_VLAN | DL_VLAN_PCP)
    } else if vm & VLAN_PRESENT != 0 && tci & VLAN_PRESENT == 0 {
        (VLAN_NONE, DL_VLAN_PCP)
    } else {
        let pcp = if vm & PCP == 0 { DL_VLAN_PCP } else { 0 };
        (if vm & VID == 0 { VLAN_ANY } else { tci & VID }, pcp)
    };
    let (label, tc) = (get(FieldId::MplsLabel), get(FieldId::MplsTc));
    let mut w = vlan_wild;
    for (mask, bit) in [
        (u128::from(x.in_port), IN_PORT),
        (x.dl_type.into(), DL_TYPE),
        (u128::from(x.nw_tos & 0xfc), NW_TOS),
        (x.nw_proto.into(), NW_PROTO),
        (x.tp_src.into(), TP_SRC),
        (x.tp_dst.into(), TP_DST),
        (label.1, MPLS_LABEL),
        (tc.1, MPLS_TC),
    ] {
        w |= if mask == 0 { bit } else { 0 };
    }
    out.put16(0);
    out.put16(LEN as u16);
    out.put32(if w & IN_PORT != 0 { 0 } else { base::OfPort(k.in_port as u16).to_wire32() });
    out.put32(w);
    for (value, mask) in [(k.dl_src, x.dl_src), (k.dl_dst, x.dl_dst)] {
        out.extend_from_slice(&value);
        out.extend_from_slice(&mask.map(|b| !b));
    }
    out.put16(vlan);
    out.put8(if w & DL_VLAN_PCP == 0 { (tci >> 13) as u8 } else { 0 });
    out.put8(0);
    out.put16(k.dl_type);
    out.put8(k.nw_tos & 0xfc);
    out.put8(k.nw_proto);
    for (value, mask) in [(k.nw_src, x.nw_src), (k.nw_dst, x.nw_dst)] {
        out.put32(value);
        out.put32(!mask);
    }
    out.put16(k.tp_src);
    out.put16(k.tp_dst);
    out.put32(label.0 as u32);
    out.put8(tc.0 as u8);
    out.zeros(3);
    out.put64(m.key.metadata);
    out.put64(!m.mask.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::text::{Mode, NoPorts, parse_match};

    #[test]
    fn matches_survive() {
        for text in [
            "",
            "in_port=7",
            "in_port=LOCAL,dl_src=01:02:03:04:05:06,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            "vlan_tci=0",
            "vlan_tci=0x1000/0x1000",
            "dl_vlan=5",
            "dl_vlan=5,dl_vlan_pcp=3",
            "vlan_tci=0xb000/0xf000",
            "ip,nw_src=10.0.0.0/255.0.0.255,nw_dst=1.2.3.4,nw_tos=32",
            "tcp,tp_src=80,tp_dst=443",
            "udp,tp_dst=53",
            "sctp,tp_src=9",
            "icmp,icmp_type=8,icmp_code=0",
            "arp,nw_src=1.2.3.0/24,arp_op=1",
            "dl_type=0x8847,mpls_label=77,mpls_tc=3",
            "metadata=0x12/0xff",
            "dl_type=0x86dd",
        ] {
            let m = parse_match(text, &NoPorts, Mode::Ovs).unwrap();
            let mut out = Vec::new();
            write(&mut out, &m);
            assert_eq!(out.len(), LEN, "{text}");
            assert_eq!(read(&mut Reader::new(&out[4..], 4)), Ok(m), "{text}");
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let m = parse_match("icmp,icmp_type=8", &NoPorts, Mode::Ovs).unwrap();
        let mut good = Vec::new();
        write(&mut good, &m);
        let broken = |at: usize, value: u8, clear: u32| {
            let mut bytes = good.clone();
            bytes[at] = value;
            let w = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) & !clear;
            bytes[8..12].copy_from_slice(&w.to_be_bytes());
            read(&mut Reader::new(&bytes[4..], 4)).map_err(|e| e.error)
        };
        assert_eq!(broken(36, 0x20, DL_VLAN), Err(OfError::OFPBMC_BAD_VALUE), "VLAN 8192");
        assert_eq!(broken(42, 1, NW_TOS), Err(OfError::OFPBMC_BAD_VALUE), "ECN bits");
        assert_eq!(broken(60, 1, 0), Err(OfError::OFPBMC_BAD_FIELD), "ICMP type 256 + 8");
    }
}
