//! `ofp11_match`: the 88-byte match of OpenFlow 1.1 (§A.2.3), type `OFPMT_STANDARD`.

use alloc::vec::Vec;

use base::{MacAddr, OfPort};
use flow::field::Prereq;
use flow::{FieldId, Match, VLAN_PRESENT};

use super::codec::Result;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Bytes of the match.
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
/// `dl_vlan` of packets with any tag.
const VLAN_ANY: u16 = 0xfffe;
/// `dl_vlan` of packets without one.
const VLAN_NONE: u16 = 0xffff;

/// What a match says of the VLAN, as it is on the wire.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct VlanSaid {
    /// VLAN; 0xffff for none, 0xfffe for any.
    pub vid: u16,
    /// It does not count.
    pub any_vid: bool,
    /// Priority.
    pub pcp: u8,
    /// It does not count.
    pub any_pcp: bool,
}

/// What the bytes of a match, with type and length, say of the VLAN. `None` if they are too few.
pub fn vlan_said(bytes: &[u8]) -> Option<VlanSaid> {
    let mut r = Reader::new(bytes, 0);
    r.skip(8).ok()?;
    let w = r.u32().ok()?;
    r.skip(24).ok()?;
    let (vid, pcp) = (r.u16().ok()?, r.u8().ok()?);
    Some(VlanSaid { vid, any_vid: w & DL_VLAN != 0, pcp, any_pcp: w & DL_VLAN_PCP != 0 })
}

/// Reads the match behind its type and length. What 1.1 says to ignore is dropped.
pub fn read(r: &mut Reader<'_>) -> Result<Match> {
    let bad = r.error(OfError::OFPBMC_BAD_VALUE);
    let bad_field = r.error(OfError::OFPBMC_BAD_FIELD);
    let (in_port, w) = (r.u32()?, r.u32()?);
    let mut mac = || Ok::<_, crate::error::DecodeError>(MacAddr(r.array()?).to_u64());
    let (dl_src, dl_src_wild, dl_dst, dl_dst_wild) = (mac()?, mac()?, mac()?, mac()?);
    let (dl_vlan, dl_vlan_pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    let (dl_type, nw_tos, nw_proto) = (r.u16()?, r.u8()?, r.u8()?);
    let (nw_src, nw_src_wild, nw_dst, nw_dst_wild) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let (tp_src, tp_dst) = (r.u16()?, r.u16()?);
    let (mpls_label, mpls_tc) = (r.u32()?, r.u8()?);
    r.skip(3)?;
    let (metadata, metadata_wild) = (r.u64()?, r.u64()?);

    let mut m = Match::ANY;
    let said = |bit: u32| w & bit == 0;
    let whole = |m: &mut Match, f: FieldId, v: u128| m.set(f, v, f.row().all_ones());
    if said(IN_PORT) {
        let port = OfPort::from_wire32(in_port).ok_or(bad)?;
        whole(&mut m, FieldId::InPort, port.0.into());
    }
    m.set(FieldId::EthSrc, dl_src.into(), u128::from(!dl_src_wild) & 0xffff_ffff_ffff);
    m.set(FieldId::EthDst, dl_dst.into(), u128::from(!dl_dst_wild) & 0xffff_ffff_ffff);
    if said(DL_VLAN) {
        match dl_vlan {
            VLAN_NONE => m.set(FieldId::VlanTci, 0, 0xffff),
            VLAN_ANY => m.set(FieldId::VlanTci, VLAN_PRESENT.into(), VLAN_PRESENT.into()),
            vid @ 0..=0xfff => whole(&mut m, FieldId::DlVlan, vid.into()),
            _ => return Err(bad),
        }
        if dl_vlan != VLAN_NONE && said(DL_VLAN_PCP) {
            match dl_vlan_pcp {
                pcp @ 0..=7 => whole(&mut m, FieldId::DlVlanPcp, pcp.into()),
                _ => return Err(bad),
            }
        }
    }
    if said(DL_TYPE) {
        whole(&mut m, FieldId::EthType, dl_type.into());
    }
    let ipv4 = m.has_prereq(Prereq::Ipv4);
    if ipv4 && said(NW_TOS) {
        match nw_tos & 3 {
            0 => whole(&mut m, FieldId::NwTos, nw_tos.into()),
            _ => return Err(bad),
        }
    }
    if ipv4 || m.has_prereq(Prereq::Arp) {
        if said(NW_PROTO) {
            whole(&mut m, FieldId::IpProto, nw_proto.into());
        }
        m.set(FieldId::IpSrc, nw_src.into(), (!nw_src_wild).into());
        m.set(FieldId::IpDst, nw_dst.into(), (!nw_dst_wild).into());
    }
    let icmp = m.has_prereq(Prereq::Icmp);
    let ports = [Prereq::Tcp, Prereq::Udp, Prereq::Sctp].iter().any(|&p| m.has_prereq(p));
    for (bit, v, port, kind) in [
        (TP_SRC, tp_src, FieldId::TcpSrc, FieldId::IcmpType),
        (TP_DST, tp_dst, FieldId::TcpDst, FieldId::IcmpCode),
    ] {
        if ipv4 && said(bit) && icmp {
            if v > 0xff {
                return Err(bad_field);
            }
            whole(&mut m, kind, v.into());
        } else if ipv4 && said(bit) && ports {
            whole(&mut m, port, v.into());
        }
    }
    if m.has_prereq(Prereq::Mpls) {
        if said(MPLS_LABEL) {
            whole(&mut m, FieldId::MplsLabel, mpls_label.into());
        }
        if said(MPLS_TC) {
            whole(&mut m, FieldId::MplsTc, mpls_tc.into());
        }
    }
    m.set(FieldId::Metadata, metadata.into(), (!metadata_wild).into());
    Ok(m)
}

/// Writes a match with its type and length; what 1.1 cannot say is left out.
pub fn write(out: &mut Vec<u8>, m: &Match) {
    let (k, x) = (&m.key.pkt, &m.mask.pkt);
    let mut w = 0;
    let mut part = |is: bool, bit: u32, v: u32| {
        if is {
            return v;
        }
        w |= bit;
        0
    };
    let in_port = part(x.in_port != 0, IN_PORT, OfPort(k.in_port as u16).to_wire32());
    let (tci, vm) = (k.vlans[0].tci, x.vlans[0].tci);
    let none = vm & VLAN_PRESENT != 0 && tci & VLAN_PRESENT == 0;
    let vid = match vm & 0xfff {
        _ if none => VLAN_NONE,
        0 => VLAN_ANY,
        _ => tci & 0xfff,
    };
    let vid = part(vm != 0, DL_VLAN, vid.into());
    let pcp = part(vm & 0xe000 != 0 && !none, DL_VLAN_PCP, (tci >> 13).into());
    let dl_type = part(x.dl_type != 0, DL_TYPE, k.dl_type.into());
    let tos = part(x.nw_tos & 0xfc != 0, NW_TOS, (k.nw_tos & 0xfc).into());
    let proto = part(x.nw_proto != 0, NW_PROTO, k.nw_proto.into());
    let tp_src = part(x.tp_src != 0, TP_SRC, k.tp_src.into());
    let tp_dst = part(x.tp_dst != 0, TP_DST, k.tp_dst.into());
    let lse = k.mpls_lse[0];
    let label = part(x.mpls_lse[0] >> 12 != 0, MPLS_LABEL, lse >> 12);
    let tc = part(x.mpls_lse[0] & 0xe00 != 0, MPLS_TC, lse >> 9 & 7);

    out.put16(0);
    out.put16(LEN as u16);
    out.put32(in_port);
    out.put32(w);
    for (v, mask) in [(k.dl_src, x.dl_src), (k.dl_dst, x.dl_dst)] {
        out.extend_from_slice(&v);
        out.extend_from_slice(&mask.map(|b| !b));
    }
    out.put16(vid as u16);
    out.put8(pcp as u8);
    out.put8(0);
    out.put16(dl_type as u16);
    out.put8(tos as u8);
    out.put8(proto as u8);
    for (v, mask) in [(k.nw_src, x.nw_src), (k.nw_dst, x.nw_dst)] {
        out.put32(v);
        out.put32(!mask);
    }
    out.put16(tp_src as u16);
    out.put16(tp_dst as u16);
    out.put32(label);
    out.put8(tc as u8);
    out.zeros(3);
    out.put64(m.key.metadata);
    out.put64(!m.mask.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::text::{Mode, NoNames, parse_match};

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
            let m = parse_match(text, &NoNames, Mode::Ovs).unwrap();
            let mut out = Vec::new();
            write(&mut out, &m);
            assert_eq!(out.len(), LEN, "{text}");
            assert_eq!(read(&mut Reader::new(&out[4..], 4)), Ok(m), "{text}");
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let m = parse_match("icmp,icmp_type=8", &NoNames, Mode::Ovs).unwrap();
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
