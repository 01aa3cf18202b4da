//! Writing matches, flows and megaflows, in OVS's order and spelling.

use core::fmt::{self, Write};

use base::OfPort;
use packet::header::{ethertype, icmpv6, ipproto};

use super::value::{
    PacketTypeText, TCP_FLAGS, TUN_FLAGS, Value, hex, hex_bytes, write_ct_state, write_eth,
    write_flags16, write_ipv4, write_ipv6,
};
use super::{NameMap, PortText};
use crate::field::FieldId;
use crate::key::{FlowKey, Match, VLAN_PRESENT, nw_frag};
use crate::tun_metadata::MAX_OPTION_LEN;

/// Default priority of a flow, which is not printed.
const DEFAULT_PRIORITY: u32 = 0x8000;

/// A match in text. With `recirc_id` in the mask it is written as a megaflow, which says `eth` too.
#[derive(Copy, Clone)]
pub struct MatchText<'a> {
    /// The match.
    pub m: &'a Match,
    /// Priority to write before it, unless it is the default 32768.
    pub priority: Option<u32>,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

/// A packet's key in text, as in the `Flow:` lines of `ofproto/trace`.
#[derive(Copy, Clone)]
pub struct FlowText<'a> {
    /// The key.
    pub key: &'a FlowKey,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

impl fmt::Debug for MatchText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for FlowText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FlowText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.key;
        let mut mask = flow_mask(k);
        // What a fresh packet has not is not worth reading.
        let p = &mut mask.pkt;
        macro_rules! skip_zero {
            ($($field:ident)*) => {
                $(if zerocopy::IntoBytes::as_bytes(&k.pkt.$field).iter().all(|&b| b == 0) {
                    p.$field = zerocopy::FromZeros::new_zeroed();
                })*
            };
        }
        skip_zero!(in_port skb_priority pkt_mark recirc_id dp_hash ct_state ct_zone ct_mark ct_label);
        if k.pkt.ct_state == 0 {
            p.ct_nw_src = 0;
            p.ct_nw_dst = 0;
            p.ct_ipv6_src = [0; 16];
            p.ct_ipv6_dst = [0; 16];
            p.ct_nw_proto = 0;
            p.ct_tp_src = 0;
            p.ct_tp_dst = 0;
        }
        if k.pkt.tunnel.tun_id == 0 {
            p.tunnel.tun_id = 0;
        }
        for (m, v) in mask.regs.iter_mut().zip(k.regs) {
            if v == 0 {
                *m = 0;
            }
        }
        if k.metadata == 0 {
            mask.metadata = 0;
        }
        mask.conj_id = if k.conj_id == 0 { 0 } else { mask.conj_id };
        let m = Match { key: k & &mask, mask };
        MatchText { m: &m, priority: None, names: self.names }.fmt(f)
    }
}

/// The bits of a key that mean something in a packet of its kind.
pub fn flow_mask(k: &FlowKey) -> FlowKey {
    let mut w =
        FlowKey { metadata: u64::MAX, conj_id: u32::MAX, regs: [u32::MAX; 32], ..FlowKey::ZERO };
    let options = k.tun_metadata.exact_mask();
    let (p, k) = (&mut w.pkt, &k.pkt);
    let t = &k.tunnel;
    if t.dst != 0 || t.ipv6_dst != [0; 16] {
        p.tunnel = crate::key::TunnelKey {
            // The key flag.
            tun_id: if t.flags & 8 != 0 { u64::MAX } else { 0 },
            src: u32::MAX,
            dst: u32::MAX,
            ipv6_src: [0xff; 16],
            ipv6_dst: [0xff; 16],
            flags: 0xf,
            gbp_id: u16::MAX,
            gbp_flags: u8::MAX,
            tos: u8::MAX,
            ttl: u8::MAX,
            erspan_ver: 0xf,
            erspan_idx: if t.erspan_ver == 1 { 0xfffff } else { 0 },
            erspan_dir: u8::from(t.erspan_ver == 2),
            erspan_hwid: if t.erspan_ver == 2 { 0x3f } else { 0 },
            gtpu_flags: u8::MAX,
            gtpu_msgtype: u8::MAX,
        };
        w.tun_metadata = options;
    } else if t.tun_id != 0 {
        p.tunnel.tun_id = u64::MAX;
    }
    p.skb_priority = u32::MAX;
    p.pkt_mark = u32::MAX;
    p.dp_hash = u32::MAX;
    p.recirc_id = u32::MAX;
    p.in_port = 0xffff;
    p.packet_type = u32::MAX;
    p.ct_state = u8::MAX;
    p.ct_zone = u16::MAX;
    p.ct_mark = u32::MAX;
    p.ct_label = [0xff; 16];
    if k.ct_nw_proto != 0 {
        if k.dl_type == ethertype::IPV6 {
            p.ct_ipv6_src = [0xff; 16];
            p.ct_ipv6_dst = [0xff; 16];
        } else {
            p.ct_nw_src = u32::MAX;
            p.ct_nw_dst = u32::MAX;
        }
        p.ct_nw_proto = u8::MAX;
        p.ct_tp_src = u16::MAX;
        p.ct_tp_dst = u16::MAX;
    }
    if k.packet_type == 0 {
        p.dl_dst = [0xff; 6];
        p.dl_src = [0xff; 6];
        for i in 0..k.vlans.len() {
            p.vlans[i].tci = u16::MAX;
            p.vlans[i].tpid = u16::MAX;
            if k.vlans[i].tci == 0 {
                break;
            }
        }
        p.dl_type = u16::MAX;
    }
    // What is no Ethernet says by its packet type what it is.
    let dl_type = if k.packet_type == 0 { k.dl_type } else { k.packet_type as u16 };
    match dl_type {
        ethertype::IPV4 => {
            p.nw_src = u32::MAX;
            p.nw_dst = u32::MAX;
        }
        ethertype::IPV6 => {
            p.ipv6_src = [0xff; 16];
            p.ipv6_dst = [0xff; 16];
            p.ipv6_label = 0xfffff;
        }
        ethertype::ARP | ethertype::RARP => {
            p.nw_src = u32::MAX;
            p.nw_dst = u32::MAX;
            p.nw_proto = u8::MAX;
            p.arp_sha = [0xff; 6];
            p.arp_tha = [0xff; 6];
            return w;
        }
        ethertype::MPLS | ethertype::MPLS_MCAST => {
            for i in 0..k.mpls_lse.len() {
                p.mpls_lse[i] = u32::MAX;
                if k.mpls_lse[i] & 0x100 != 0 {
                    break;
                }
            }
            return w;
        }
        _ if k.dl_type == ethertype::NSH => {
            p.nsh_flags = u8::MAX;
            p.nsh_ttl = u8::MAX;
            p.nsh_mdtype = u8::MAX;
            p.nsh_np = u8::MAX;
            p.nsh_path = u32::MAX;
            p.nsh_context = [u32::MAX; 4];
            p.nw_tos = u8::MAX;
            p.nw_ttl = u8::MAX;
            p.nw_frag = 3;
            p.nw_proto = u8::MAX;
            return w;
        }
        _ => return w,
    }
    p.nw_frag = 3;
    p.nw_tos = u8::MAX;
    p.nw_ttl = u8::MAX;
    p.nw_proto = u8::MAX;
    let v4 = dl_type == ethertype::IPV4;
    use ipproto::{ICMP, ICMPV6, IGMP, SCTP, TCP, UDP};
    let l4 = [TCP, UDP, SCTP, ICMP, IGMP, ICMPV6].contains(&k.nw_proto);
    if k.nw_frag & nw_frag::LATER == 0 && l4 {
        p.tp_src = u16::MAX;
        p.tp_dst = u16::MAX;
        if k.nw_proto == ipproto::TCP {
            p.tcp_flags = 0xfff;
        }
        let nd_types = [icmpv6::NEIGHBOR_SOLICIT, icmpv6::NEIGHBOR_ADVERT].map(u16::from);
        let nd_type = nd_types.contains(&k.tp_src) && k.tp_dst == 0;
        if !v4 && k.nw_proto == ipproto::ICMPV6 && nd_type {
            p.arp_sha = [0xff; 6];
            p.arp_tha = [0xff; 6];
            p.nd_target = [0xff; 16];
            // OVS does not show the extensions, `nd_reserved` and `nd_options_type`.
        }
    }
    w
}

/// Writes `name=value` items with commas between.
struct Items<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    names: &'a dyn NameMap,
    any: bool,
}

impl Items<'_, '_> {
    fn sep(&mut self) -> fmt::Result {
        if self.any {
            self.out.write_char(',')?;
        }
        self.any = true;
        Ok(())
    }

    fn word(&mut self, args: fmt::Arguments<'_>) -> fmt::Result {
        self.sep()?;
        self.out.write_fmt(args)
    }

    /// `%#x`, with `/mask` unless the mask is all `ones`; nothing for a zero mask.
    fn hex(&mut self, name: &str, v: u64, m: u64, ones: u64) -> fmt::Result {
        if m == 0 {
            return Ok(());
        }
        self.word(format_args!("{name}="))?;
        hex(self.out, v.into())?;
        if m != ones {
            self.out.write_char('/')?;
            hex(self.out, m.into())?;
        }
        Ok(())
    }

    /// Decimal; with a mask `0x…/0x…`.
    fn dec(&mut self, name: &str, v: u32, m: u32, ones: u32) -> fmt::Result {
        match m {
            0 => Ok(()),
            m if m == ones => self.word(format_args!("{name}={v}")),
            m => self.word(format_args!("{name}={v:#x}/{m:#x}")),
        }
    }

    fn ip(&mut self, name: &str, v: u32, m: u32) -> fmt::Result {
        if m == 0 {
            return Ok(());
        }
        self.word(format_args!("{name}="))?;
        write_ipv4(self.out, v, m)
    }

    fn ip6(&mut self, name: &str, v: [u8; 16], m: [u8; 16]) -> fmt::Result {
        if m == [0; 16] {
            return Ok(());
        }
        self.word(format_args!("{name}="))?;
        write_ipv6(self.out, u128::from_be_bytes(v), u128::from_be_bytes(m))
    }

    fn eth(&mut self, name: &str, v: [u8; 6], m: [u8; 6]) -> fmt::Result {
        if m == [0; 6] {
            return Ok(());
        }
        self.word(format_args!("{name}="))?;
        let n = |a: [u8; 6]| u128::from(base::MacAddr(a).to_u64());
        write_eth(self.out, n(v), n(m))
    }

    /// A field as its row says.
    fn field(&mut self, id: FieldId, name: &str, x: &Match) -> fmt::Result {
        let f = id.row();
        let (value, mask) = (f.get(&x.key), f.get(&x.mask));
        if mask == 0 {
            return Ok(());
        }
        let v = Value::of_match(f, value, mask, self.names);
        self.word(format_args!("{name}={v}"))
    }
}

impl fmt::Display for MatchText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut o = Items { out: f, names: self.names, any: false };
        if let Some(p) = self.priority
            && p != DEFAULT_PRIORITY
        {
            o.word(format_args!("priority={p}"))?;
        }
        let m = self.m;
        pipeline(&mut o, m)?;
        let proto_named = packet_kind(&mut o, m)?;
        context(&mut o, m)?;
        l2(&mut o, m, proto_named.0)?;
        l3(&mut o, m, proto_named.1)?;
        l4(&mut o, m)
    }
}

/// What the pipeline knows about a packet, and connection tracking.
fn pipeline(o: &mut Items<'_, '_>, x: &Match) -> fmt::Result {
    let (k, m) = (&x.key.pkt, &x.mask.pkt);
    let all = u64::from(u32::MAX);
    o.hex("pkt_mark", k.pkt_mark.into(), m.pkt_mark.into(), all)?;
    o.hex("recirc_id", k.recirc_id.into(), m.recirc_id.into(), all)?;
    o.hex("dp_hash", k.dp_hash.into(), m.dp_hash.into(), all)?;
    o.dec("conj_id", x.key.conj_id, x.mask.conj_id, u32::MAX)?;
    o.hex("skb_priority", k.skb_priority.into(), m.skb_priority.into(), all)?;
    if x.mask.actset_output != 0 {
        let port = PortText(OfPort(x.key.actset_output as u16), o.names);
        o.word(format_args!("actset_output={port}"))?;
    }
    if m.ct_state != 0 {
        o.word(format_args!("ct_state="))?;
        write_ct_state(o.out, k.ct_state, m.ct_state)?;
    }
    o.dec("ct_zone", k.ct_zone.into(), m.ct_zone.into(), 0xffff)?;
    o.hex("ct_mark", k.ct_mark.into(), m.ct_mark.into(), all)?;
    o.field(FieldId::CtLabel, "ct_label", x)?;
    o.ip("ct_nw_src", k.ct_nw_src, m.ct_nw_src)?;
    o.ip6("ct_ipv6_src", k.ct_ipv6_src, m.ct_ipv6_src)?;
    o.ip("ct_nw_dst", k.ct_nw_dst, m.ct_nw_dst)?;
    o.ip6("ct_ipv6_dst", k.ct_ipv6_dst, m.ct_ipv6_dst)?;
    o.dec("ct_nw_proto", k.ct_nw_proto.into(), m.ct_nw_proto.into(), 0xff)?;
    o.dec("ct_tp_src", k.ct_tp_src.into(), m.ct_tp_src.into(), 0xffff)?;
    o.dec("ct_tp_dst", k.ct_tp_dst.into(), m.ct_tp_dst.into(), 0xffff)
}

/// `eth`, `tcp`, …. Gives whether the EtherType and the IP protocol need no more words.
fn packet_kind(o: &mut Items<'_, '_>, x: &Match) -> Result<(bool, bool), fmt::Error> {
    let (k, m) = (&x.key.pkt, &x.mask.pkt);
    let mut dl_type = k.dl_type;
    if k.packet_type != 0 {
        o.word(format_args!("packet_type={}", PacketTypeText(k.packet_type)))?;
        if k.packet_type >> 16 == 1 {
            dl_type = k.packet_type as u16;
        }
    } else if m.recirc_id != 0 && (m.packet_type != 0 || m.not_ethernet != 0 || m.dl_type != 0) {
        o.word(format_args!("eth"))?;
    }
    if m.dl_type == 0 {
        return Ok((false, false));
    }
    let proto = (m.nw_proto != 0).then_some(k.nw_proto);
    let (word, proto_named) = match (dl_type, proto) {
        (ethertype::IPV4, Some(ipproto::ICMP)) => ("icmp", true),
        (ethertype::IPV4, Some(ipproto::TCP)) => ("tcp", true),
        (ethertype::IPV4, Some(ipproto::UDP)) => ("udp", true),
        (ethertype::IPV4, Some(ipproto::SCTP)) => ("sctp", true),
        (ethertype::IPV4, _) => ("ip", false),
        (ethertype::IPV6, Some(ipproto::ICMPV6)) => ("icmp6", true),
        (ethertype::IPV6, Some(ipproto::TCP)) => ("tcp6", true),
        (ethertype::IPV6, Some(ipproto::UDP)) => ("udp6", true),
        (ethertype::IPV6, Some(ipproto::SCTP)) => ("sctp6", true),
        (ethertype::IPV6, _) => ("ipv6", false),
        (ethertype::ARP, _) => ("arp", false),
        (ethertype::RARP, _) => ("rarp", false),
        (ethertype::MPLS, _) => ("mpls", false),
        (ethertype::MPLS_MCAST, _) => ("mplsm", false),
        _ => return Ok((false, false)),
    };
    o.word(format_args!("{word}"))?;
    Ok((true, proto_named))
}

/// Registers, tunnel, metadata, port of entry.
fn context(o: &mut Items<'_, '_>, x: &Match) -> fmt::Result {
    let all = u64::from(u32::MAX);
    for i in 0..x.mask.regs.len() {
        if x.mask.regs[i] != 0 {
            let (v, m) = (x.key.regs[i], x.mask.regs[i]);
            o.word(format_args!("reg{i}="))?;
            hex(o.out, v.into())?;
            if u64::from(m) != all {
                o.out.write_char('/')?;
                hex(o.out, m.into())?;
            }
        }
    }
    let (k, m) = (&x.key.pkt.tunnel, &x.mask.pkt.tunnel);
    o.hex("tun_id", k.tun_id, m.tun_id, u64::MAX)?;
    o.ip("tun_src", k.src, m.src)?;
    o.ip("tun_dst", k.dst, m.dst)?;
    o.ip6("tun_ipv6_src", k.ipv6_src, m.ipv6_src)?;
    o.ip6("tun_ipv6_dst", k.ipv6_dst, m.ipv6_dst)?;
    o.dec("tun_gbp_id", k.gbp_id.into(), m.gbp_id.into(), 0xffff)?;
    o.hex("tun_gbp_flags", k.gbp_flags.into(), m.gbp_flags.into(), 0xff)?;
    if m.tos != 0 {
        o.word(format_args!("tun_tos={:x}", k.tos))?;
    }
    if m.ttl != 0 {
        o.word(format_args!("tun_ttl={}", k.ttl))?;
    }
    o.dec("tun_erspan_ver", k.erspan_ver.into(), m.erspan_ver.into(), 0xf)?;
    o.hex("tun_erspan_idx", k.erspan_idx.into(), m.erspan_idx.into(), 0xfffff)?;
    o.dec("tun_erspan_dir", k.erspan_dir.into(), m.erspan_dir.into(), 1)?;
    o.hex("tun_erspan_hwid", k.erspan_hwid.into(), m.erspan_hwid.into(), 0x3f)?;
    o.hex("gtpu_flags", k.gtpu_flags.into(), m.gtpu_flags.into(), 0xff)?;
    o.dec("gtpu_msgtype", k.gtpu_msgtype.into(), m.gtpu_msgtype.into(), 0xff)?;
    if m.flags != 0 {
        o.word(format_args!("tun_flags="))?;
        write_flags16(o.out, &TUN_FLAGS, k.flags, m.flags, 0xf)?;
    }
    for i in x.mask.tun_metadata.fields() {
        let Some(w) = x.tun_option(i) else { continue };
        o.word(format_args!("tun_metadata{i}"))?;
        if !x.key.tun_metadata.has(i) {
            // Wanted absent.
            o.out.write_str("=NP")?;
            continue;
        }
        if w.masked && w.mask.iter().all(|&b| b == 0) {
            continue;
        }
        o.out.write_char('=')?;
        hex_bytes(o.out, &w.value)?;
        let whole = &w.mask[MAX_OPTION_LEN - w.len..];
        if whole.iter().any(|&b| b != 0xff) {
            o.out.write_char('/')?;
            hex_bytes(o.out, &w.mask)?;
        }
    }
    o.hex("metadata", x.key.metadata, x.mask.metadata, u64::MAX)?;
    if x.mask.pkt.in_port != 0 {
        let port = PortText(OfPort(x.key.pkt.in_port as u16), o.names);
        o.word(format_args!("in_port={port}"))?;
    }
    Ok(())
}

/// VLANs, addresses and, unless it has been named, the EtherType.
fn l2(o: &mut Items<'_, '_>, x: &Match, type_named: bool) -> fmt::Result {
    const VID: u16 = 0x0fff;
    const PCP: u16 = 0xe000;
    let (k, m) = (&x.key.pkt, &x.mask.pkt);
    for (i, (k, m)) in k.vlans.iter().zip(m.vlans).enumerate() {
        if m.tci == 0 {
            break;
        }
        let n = ["", "1"][i];
        let (vid, pcp) = (m.tci & VID, m.tci & PCP);
        let whole = (vid == 0 || vid == VID) && (pcp == 0 || pcp == PCP) && vid | pcp != 0;
        if m.tci & k.tci & VLAN_PRESENT != 0 && whole {
            if vid != 0 {
                o.word(format_args!("dl_vlan{n}={}", k.tci & VID))?;
            }
            if pcp != 0 {
                o.word(format_args!("dl_vlan_pcp{n}={}", k.tci >> 13))?;
            }
        } else if m.tci == u16::MAX {
            o.word(format_args!("vlan_tci{n}={:#06x}", k.tci))?;
        } else {
            o.word(format_args!("vlan_tci{n}={:#06x}/{:#06x}", k.tci, m.tci))?;
        }
    }
    o.eth("dl_src", k.dl_src, m.dl_src)?;
    o.eth("dl_dst", k.dl_dst, m.dl_dst)?;
    if !type_named && m.dl_type != 0 {
        let of_packet = m.packet_type != 0 && k.packet_type >> 16 == 1;
        let dl_type = if of_packet { k.packet_type as u16 } else { k.dl_type };
        o.word(format_args!("dl_type={dl_type:#06x}"))?;
    }
    Ok(())
}

fn l3(o: &mut Items<'_, '_>, x: &Match, proto_named: bool) -> fmt::Result {
    let (k, m) = (&x.key.pkt, &x.mask.pkt);
    let dl_type = if k.packet_type >> 16 == 1 { k.packet_type as u16 } else { k.dl_type };
    let arp = dl_type == ethertype::ARP || dl_type == ethertype::RARP;
    match dl_type {
        ethertype::IPV6 => {
            o.ip6("ipv6_src", k.ipv6_src, m.ipv6_src)?;
            o.ip6("ipv6_dst", k.ipv6_dst, m.ipv6_dst)?;
            match m.ipv6_label {
                0 => {}
                0xfffff => o.word(format_args!("ipv6_label={:#07x}", k.ipv6_label))?,
                w => o.word(format_args!("ipv6_label={:#07x}/{w:#07x}", k.ipv6_label))?,
            }
        }
        ethertype::ARP | ethertype::RARP => {
            o.ip("arp_spa", k.nw_src, m.nw_src)?;
            o.ip("arp_tpa", k.nw_dst, m.nw_dst)?;
        }
        ethertype::NSH => nsh(o, x)?,
        _ => {
            o.ip("nw_src", k.nw_src, m.nw_src)?;
            o.ip("nw_dst", k.nw_dst, m.nw_dst)?;
        }
    }
    if !proto_named {
        o.dec(if arp { "arp_op" } else { "nw_proto" }, k.nw_proto.into(), m.nw_proto.into(), 0xff)?;
    }
    if arp {
        o.eth("arp_sha", k.arp_sha, m.arp_sha)?;
        o.eth("arp_tha", k.arp_tha, m.arp_tha)?;
    }
    if m.nw_tos & 0xfc != 0 {
        o.word(format_args!("nw_tos={}", k.nw_tos & 0xfc))?;
    }
    if m.nw_tos & 3 != 0 {
        o.word(format_args!("nw_ecn={}", k.nw_tos & 3))?;
    }
    o.dec("nw_ttl", k.nw_ttl.into(), m.nw_ttl.into(), 0xff)?;
    for (id, name) in [
        (FieldId::MplsLabel, "mpls_label"),
        (FieldId::MplsTc, "mpls_tc"),
        (FieldId::MplsTtl, "mpls_ttl"),
        (FieldId::MplsBos, "mpls_bos"),
    ] {
        o.field(id, name, x)?;
    }
    for (i, name) in [(1, "mpls_lse1"), (2, "mpls_lse2")] {
        match (k.mpls_lse[i], m.mpls_lse[i]) {
            (_, 0) => {}
            (v, u32::MAX) => o.word(format_args!("{name}={v}"))?,
            (v, mask) => o.word(format_args!("{name}={v:#010x}/{mask:#010x}"))?,
        }
    }
    o.field(FieldId::IpFrag, "nw_frag", x)
}

fn nsh(o: &mut Items<'_, '_>, x: &Match) -> fmt::Result {
    use FieldId::{NshC1, NshC2, NshC3, NshC4, NshFlags, NshMdtype, NshNp, NshSi, NshSpi, NshTtl};
    for id in [NshFlags, NshTtl, NshMdtype, NshNp, NshSpi, NshSi, NshC1, NshC2, NshC3, NshC4] {
        let f = id.row();
        let (v, m) = (f.get(&x.key), f.get(&x.mask));
        // Only metadata of type 1 has context headers.
        if m == 0 || matches!(id, NshC1 | NshC2 | NshC3 | NshC4) && x.key.pkt.nsh_mdtype != 1 {
            continue;
        }
        // Zero keeps its 0x here.
        match (f.format, m == f.all_ones()) {
            (crate::field::Format::Hex, true) => o.word(format_args!("{}={v:#x}", f.name))?,
            (_, true) => o.word(format_args!("{}={v}", f.name))?,
            (_, false) if f.bits == 8 => o.word(format_args!("{}={v:#04x}/{m:#04x}", f.name))?,
            (_, false) => o.word(format_args!("{}={v:#x}/{m:#x}", f.name))?,
        }
    }
    Ok(())
}

fn l4(o: &mut Items<'_, '_>, x: &Match) -> fmt::Result {
    let (k, m) = (&x.key.pkt, &x.mask.pkt);
    let dl_type = if k.packet_type >> 16 == 1 { k.packet_type as u16 } else { k.dl_type };
    let icmp = dl_type == ethertype::IPV4 && k.nw_proto == ipproto::ICMP;
    let icmp6 = dl_type == ethertype::IPV6 && k.nw_proto == ipproto::ICMPV6;
    let ip = dl_type == ethertype::IPV4 || dl_type == ethertype::IPV6;
    if icmp || icmp6 {
        // Type and code have 8 bits of the 16, which a megaflow's mask shows.
        let megaflow = m.recirc_id != 0;
        let wide = |m: u16| if m & 0xff == 0xff && !megaflow { 0xffff } else { u32::from(m) };
        o.dec("icmp_type", k.tp_src.into(), wide(m.tp_src), 0xffff)?;
        o.dec("icmp_code", k.tp_dst.into(), wide(m.tp_dst), 0xffff)?;
        if icmp6 {
            o.ip6("nd_target", k.nd_target, m.nd_target)?;
            o.eth("nd_sll", k.arp_sha, m.arp_sha)?;
            o.eth("nd_tll", k.arp_tha, m.arp_tha)?;
            o.dec("nd_reserved", k.nd_reserved, m.nd_reserved, u32::MAX)?;
            o.dec("nd_options_type", k.nd_options_type.into(), m.nd_options_type.into(), 0xff)?;
        }
    } else {
        o.dec("tp_src", k.tp_src.into(), m.tp_src.into(), 0xffff)?;
        o.dec("tp_dst", k.tp_dst.into(), m.tp_dst.into(), 0xffff)?;
    }
    if ip && k.nw_proto == ipproto::TCP && m.tcp_flags != 0 {
        o.word(format_args!("tcp_flags="))?;
        write_flags16(o.out, &TCP_FLAGS, k.tcp_flags, m.tcp_flags, 0xfff)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, NoNames, parse_exact, parse_match};
    use super::*;
    use std::string::ToString;

    #[test]
    fn matches_are_written_as_ovs_writes_them() {
        for line in include_str!("testdata/matches.txt").lines().filter(|l| !l.is_empty()) {
            let (input, want) = line.split_once(" => ").unwrap();
            let m = parse_match(input, &NoNames, Mode::Ovs).unwrap();
            let got = MatchText { m: &m, priority: None, names: &NoNames }.to_string();
            assert_eq!(got, want, "{input}");
            // What is written reads back as the same; that packets are Ethernet is not written.
            let mut again = m;
            if m.key.pkt.packet_type == 0 {
                again.mask.pkt.packet_type = 0;
            }
            assert_eq!(parse_match(&got, &NoNames, Mode::Ovs).unwrap(), again, "{input}");
        }
    }

    #[test]
    fn flows_are_written_as_trace_writes_them() {
        for line in include_str!("testdata/flows.txt").lines().filter(|l| !l.is_empty()) {
            let (input, want) = line.split_once(" => ").unwrap();
            let key = parse_exact(input, &NoNames).unwrap();
            assert_eq!(FlowText { key: &key, names: &NoNames }.to_string(), want, "{input}");
        }
    }

    #[test]
    fn megaflows_show_how_wide_icmp_is() {
        let mut m = parse_match("icmp,icmp_type=8", &NoNames, Mode::Ovs).unwrap();
        let text = |m: &Match| MatchText { m, priority: None, names: &NoNames }.to_string();
        assert_eq!(text(&m), "icmp,icmp_type=8");
        m.mask.pkt.recirc_id = u32::MAX;
        m.mask.pkt.tp_src = 0xff;
        assert_eq!(text(&m), "recirc_id=0,eth,icmp,icmp_type=0x8/0xff");
    }

    #[test]
    fn megaflows_say_eth() {
        let m = parse_match(
            "recirc_id=1,ct_state=+new,ip,in_port=2,nw_frag=no",
            &NoNames,
            Mode::Strict,
        );
        let text = MatchText { m: &m.unwrap(), priority: None, names: &NoNames }.to_string();
        assert_eq!(text, "recirc_id=0x1,ct_state=+new,eth,ip,in_port=2,nw_frag=no");
    }

    #[test]
    fn priority_comes_first_unless_default() {
        let m = parse_match("ip", &NoNames, Mode::Strict).unwrap();
        let text = |p| MatchText { m: &m, priority: Some(p), names: &NoNames }.to_string();
        assert_eq!((text(100), text(32768)), ("priority=100,ip".into(), "ip".into()));
    }
}
