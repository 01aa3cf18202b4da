//! Matches as they were said: the entries of an NXM or OXM match, and the 40 bytes of OpenFlow 1.0's.
//!
//! Elsewhere a match is printed as what it means. These texts show what a peer really sent, and what is
//! wrong with it.

use alloc::string::String;
use core::fmt::{self, Write};

use base::{MacAddr, OfPort};
use flow::text::{NoNames, PortText};
use packet::header::{ethertype, ipproto};

use crate::message::{Kind, Message, match10};
use crate::oxm;
use crate::version::Version;
use crate::wire::Reader;

/// Entries of NXM or OXM: `NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(0a000000/ff000000)`; `<any>` for none.
#[derive(Clone, Copy, Debug)]
pub struct NxmText<'a>(pub &'a [u8]);

impl fmt::Display for NxmText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<any>");
        }
        let mut r = Reader::new(self.0, 0);
        let mut separator = "";
        while !r.is_empty() {
            let Some(oxm::RawEntry { name, value, mask }) = oxm::read_raw_entry(&mut r) else {
                return write!(f, "{separator}<{} invalid bytes>", r.len());
            };
            write!(f, "{separator}{name}(")?;
            value.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            if let Some(mask) = mask {
                f.write_char('/')?;
                mask.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            }
            f.write_char(')')?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The match of OpenFlow 1.0: `tcp,in_port=1,nw_src=10.0.0.0/8`; from verbosity 2 on with a `*` for each
/// field that may be anything.
#[derive(Clone, Copy, Debug)]
pub struct Match10Text<'a> {
    /// Its 40 bytes.
    pub bytes: &'a [u8; match10::LEN],
    /// How much to tell.
    pub verbosity: u8,
}

impl fmt::Display for Match10Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(m) = match10::Raw::read(&mut Reader::new(self.bytes, 0)) else { return Ok(()) };
        let mut text = String::new();
        let has = |bit: u32| m.wildcards & bit == 0;
        let protocol = match (m.dl_type, has(match10::NW_PROTO), m.nw_proto) {
            _ if !has(match10::DL_TYPE) => None,
            (ethertype::IPV4, true, ipproto::ICMP) => Some("icmp,"),
            (ethertype::IPV4, true, ipproto::TCP) => Some("tcp,"),
            (ethertype::IPV4, true, ipproto::UDP) => Some("udp,"),
            (ethertype::IPV4, true, ipproto::SCTP) => Some("sctp,"),
            (ethertype::IPV4, ..) => Some("ip,"),
            (ethertype::ARP, ..) => Some("arp,"),
            (ethertype::RARP, ..) => Some("rarp,"),
            (ethertype::MPLS, ..) => Some("mpls,"),
            (ethertype::MPLS_MCAST, ..) => Some("mplsm,"),
            _ => None,
        };
        text.push_str(protocol.unwrap_or_default());
        let says_proto = protocol.is_some_and(|p| !matches!(p, "ip," | "arp," | "rarp,"))
            && m.dl_type == ethertype::IPV4;
        let mut put = |name: &str, is_known: bool, value: &dyn fmt::Display| match is_known {
            true => write!(text, "{name}={value},"),
            false if self.verbosity >= 2 => write!(text, "{name}=*,"),
            false => Ok(()),
        };
        put("in_port", has(match10::IN_PORT), &PortText(OfPort(m.in_port), &NoNames))?;
        put("dl_vlan", has(match10::DL_VLAN), &m.dl_vlan)?;
        put("dl_vlan_pcp", has(match10::DL_VLAN_PCP), &m.dl_vlan_pcp)?;
        put("dl_src", has(match10::DL_SRC), &MacAddr(m.dl_src))?;
        put("dl_dst", has(match10::DL_DST), &MacAddr(m.dl_dst))?;
        if protocol.is_none() {
            put("dl_type", has(match10::DL_TYPE), &format_args!("{:#06x}", m.dl_type))?;
        }
        for (name, address, shift) in [
            ("nw_src", m.nw_src, match10::NW_SRC_SHIFT),
            ("nw_dst", m.nw_dst, match10::NW_DST_SHIFT),
        ] {
            let ip = core::net::Ipv4Addr::from(address);
            match m.wildcards >> shift & 0x3f {
                0 => put(name, true, &ip)?,
                n @ 1..32 => put(name, true, &format_args!("{ip}/{}", 32 - n))?,
                _ => put(name, false, &"")?,
            }
        }
        if !says_proto {
            let is_arp = matches!(m.dl_type, ethertype::ARP | ethertype::RARP);
            let name = if is_arp { "arp_op" } else { "nw_proto" };
            put(name, has(match10::NW_PROTO), &m.nw_proto)?;
        }
        put("nw_tos", has(match10::NW_TOS), &m.nw_tos)?;
        let (src, dst) = match m.nw_proto {
            ipproto::ICMP => ("icmp_type", "icmp_code"),
            _ => ("tp_src", "tp_dst"),
        };
        put(src, has(match10::TP_SRC), &m.tp_src)?;
        put(dst, has(match10::TP_DST), &m.tp_dst)?;
        f.write_str(text.strip_suffix(',').unwrap_or(&text))
    }
}

/// The match of a flow mod as it was said, where a form exists for it: of 1.0, and Nicira's.
pub(super) fn of_flow_mod(bytes: &[u8], verbosity: u8) -> Option<String> {
    let (kind, version, _) = Message::peek_kind(bytes)?;
    match kind {
        Kind::FlowMod if version == Version::Of10 => {
            let bytes = bytes.get(8..)?.first_chunk()?;
            Some(alloc::format!("{}", Match10Text { bytes, verbosity }))
        }
        Kind::NxFlowMod => {
            let len = u16::from_be_bytes(*bytes.get(40..)?.first_chunk()?);
            Some(alloc::format!("{}", NxmText(bytes.get(48..)?.get(..len.into())?)))
        }
        _ => None,
    }
}
