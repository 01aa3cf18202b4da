//! Changing headers in place, with their checksums.
//!
//! Checksums are updated incrementally (RFC 1624), so a wrong one stays wrong and the payload is
//! not read. A partial checksum (`needs_csum`) holds the sum of the pseudo-header only, not
//! complemented: a changed address changes it, a changed port does not.
//!
//! A header that is not there is not changed; nothing here panics on any frame. Layers must be
//! those of the frame as it is now.

use dpif::{NshHeader, SetGroup, SetMasked};
use flow::{PacketKey, nw_frag};
use packet::PacketBuf;
use packet::checksum::{self, update16, update32};
use packet::header::{
    ARP_LEN, ETH_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, VLAN_LEN, be16, be32,
    ethertype, ipproto,
};

/// Where a transport protocol keeps its checksum, and the shortest header.
fn csum_place(proto: u8) -> Option<(usize, usize)> {
    match proto {
        ipproto::TCP => Some((16, TCP_LEN)),
        ipproto::UDP => Some((6, UDP_LEN)),
        ipproto::ICMPV6 => Some((2, 4)),
        _ => None,
    }
}

fn put16(frame: &mut [u8], at: usize, v: u16) {
    if let Some(b) = frame.get_mut(at..at + 2) {
        b.copy_from_slice(&v.to_be_bytes());
    }
}

fn put32(frame: &mut [u8], at: usize, v: u32) {
    if let Some(b) = frame.get_mut(at..at + 4) {
        b.copy_from_slice(&v.to_be_bytes());
    }
}

fn merge<const N: usize>(old: [u8; N], value: &[u8; N], mask: &[u8; N]) -> [u8; N] {
    core::array::from_fn(|i| (old[i] & !mask[i]) | (value[i] & mask[i]))
}

fn merge_at<const N: usize>(frame: &mut [u8], at: usize, value: &[u8; N], mask: &[u8; N]) {
    if let Some(b) = frame.get_mut(at..at + N).and_then(|b| b.first_chunk_mut::<N>()) {
        *b = merge(*b, value, mask);
    }
}

/// Overwrites header fields. `key` says what the packet is (protocol, fragment); metadata groups
/// change `key` itself.
pub fn set(pkt: &mut PacketBuf, key: &mut PacketKey, set: &SetMasked) {
    let (v, m) = (&set.value, &set.mask);
    match set.group {
        SetGroup::SkbPriority => {
            key.skb_priority = (key.skb_priority & !m.skb_priority) | v.skb_priority;
        }
        SetGroup::SkbMark => key.pkt_mark = (key.pkt_mark & !m.pkt_mark) | v.pkt_mark,
        SetGroup::Tunnel => key.tunnel = v.tunnel,
        SetGroup::Eth => {
            let frame = pkt.frame_mut();
            if frame.len() >= ETH_LEN {
                merge_at(frame, 0, &v.dl_dst, &m.dl_dst);
                merge_at(frame, 6, &v.dl_src, &m.dl_src);
            }
        }
        SetGroup::Mpls => {
            if let (Some(l3), ethertype::MPLS | ethertype::MPLS_MCAST) = (pkt.l3(), key.dl_type) {
                merge_at(
                    pkt.frame_mut(),
                    l3,
                    &v.mpls_lse[0].to_be_bytes(),
                    &m.mpls_lse[0].to_be_bytes(),
                );
            }
        }
        SetGroup::Nsh => set_nsh(pkt, key, v, m),
        SetGroup::Ipv4 => set_ipv4(pkt, key, v, m),
        SetGroup::Ipv6 => set_ipv6(pkt, key, v, m),
        SetGroup::Arp => set_arp(pkt, key, v, m),
        SetGroup::Nd => set_nd(pkt, key, v, m),
        SetGroup::NdExtensions => set_nd_reserved(pkt, key, v, m),
        SetGroup::Tcp => set_ports(pkt, key, ipproto::TCP, v, m),
        SetGroup::Udp => set_ports(pkt, key, ipproto::UDP, v, m),
        SetGroup::Sctp => set_sctp(pkt, key, v, m),
        SetGroup::Icmp => set_icmp(pkt, key, v, m),
    }
}

/// The transport header's offset, if the packet has one in this fragment.
fn l4_offset(pkt: &PacketBuf, key: &PacketKey) -> Option<usize> {
    if key.nw_frag & nw_frag::LATER != 0 { None } else { pkt.l4() }
}

/// Applies `update` to the transport checksum: it gets the field as a complemented sum. A UDP
/// checksum of zero is none. `pseudo`: the change is in the pseudo-header.
fn fix_l4_csum(pkt: &mut PacketBuf, key: &PacketKey, pseudo: bool, update: impl Fn(u16) -> u16) {
    let (Some(l4), Some((at, len))) = (l4_offset(pkt, key), csum_place(key.nw_proto)) else {
        return;
    };
    let partial = pkt.offload.needs_csum && usize::from(pkt.offload.csum_start) == l4;
    let frame = pkt.frame_mut();
    if frame.len() < l4 + len {
        return;
    }
    let Some(field) = be16(frame, l4 + at) else { return };
    let new = match (partial, pseudo) {
        (true, true) => !update(!field),
        (true, false) => return,
        (false, _) if key.nw_proto == ipproto::UDP => match (field, update(field)) {
            (0, _) => return,
            (_, 0) => 0xffff,
            (_, f) => f,
        },
        (false, _) => update(field),
    };
    put16(frame, l4 + at, new);
}

/// Where the parts of a network service header are (RFC 8300 §2).
mod nsh {
    /// The first 16-bit word: version, O, TTL, length.
    pub const FIRST: usize = 0;
    pub const PATH: usize = 4;
    pub const CONTEXT: usize = 8;
    pub const BASE_LEN: usize = 8;
}

fn set_nsh(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let is_nsh = key.dl_type == ethertype::NSH && key.nsh_mdtype != 0;
    let Some(at) = pkt.l3().filter(|_| is_nsh) else { return };
    let word =
        |k: &PacketKey| (u16::from(k.nsh_flags & 3) << 12) | (u16::from(k.nsh_ttl & 0x3f) << 6);
    let frame = pkt.frame_mut();
    merge_at(frame, at + nsh::FIRST, &word(v).to_be_bytes(), &word(m).to_be_bytes());
    merge_at(frame, at + nsh::PATH, &v.nsh_path.to_be_bytes(), &m.nsh_path.to_be_bytes());
    if key.nsh_mdtype == 1 {
        for (i, (v, m)) in v.nsh_context.iter().zip(&m.nsh_context).enumerate() {
            merge_at(frame, at + nsh::CONTEXT + 4 * i, &v.to_be_bytes(), &m.to_be_bytes());
        }
    }
}

fn set_ipv4(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let Some(ip) = pkt.l3().filter(|_| key.dl_type == ethertype::IPV4) else { return };
    if pkt.len() < ip + IPV4_LEN {
        return;
    }
    for (at, value, mask) in [(12, v.nw_src, m.nw_src), (16, v.nw_dst, m.nw_dst)] {
        let frame = pkt.frame_mut();
        let Some(old) = be32(frame, ip + at).filter(|_| mask != 0) else { continue };
        let new = (old & !mask) | (value & mask);
        if new == old {
            continue;
        }
        put32(frame, ip + at, new);
        let csum = update32(be16(frame, ip + 10).unwrap_or(0), old, new);
        put16(frame, ip + 10, csum);
        fix_l4_csum(pkt, key, true, |c| update32(c, old, new));
    }
    let frame = pkt.frame_mut();
    // TOS and TTL are the low and high byte of their 16-bit words.
    for (word, high, value, mask) in [(0, false, v.nw_tos, m.nw_tos), (8, true, v.nw_ttl, m.nw_ttl)]
    {
        let Some(old) = be16(frame, ip + word).filter(|_| mask != 0) else { continue };
        let shift = if high { 8 } else { 0 };
        let (value, mask) = (u16::from(value & mask) << shift, u16::from(mask) << shift);
        let new = (old & !mask) | value;
        put16(frame, ip + word, new);
        let csum = update16(be16(frame, ip + 10).unwrap_or(0), old, new);
        put16(frame, ip + 10, csum);
    }
}

fn set_ipv6(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let Some(ip) = pkt.l3().filter(|_| key.dl_type == ethertype::IPV6) else { return };
    if pkt.len() < ip + IPV6_LEN {
        return;
    }
    for (at, value, mask) in [(8, &v.ipv6_src, &m.ipv6_src), (24, &v.ipv6_dst, &m.ipv6_dst)] {
        let routed = at == 24 && has_routing_header(&pkt.frame()[ip..]);
        let Some(place) = pkt.frame_mut()[ip + at..].first_chunk_mut::<16>() else { continue };
        let (old, new) = (*place, merge(*place, value, mask));
        if new == old {
            continue;
        }
        *place = new;
        // Behind a routing header, the checksum covers the final destination instead.
        if !routed {
            fix_l4_csum(pkt, key, true, |c| checksum::update128(c, &old, &new));
        }
    }
    let frame = pkt.frame_mut();
    let first = be32(frame, ip).unwrap_or(0);
    let value = (u32::from(v.nw_tos & m.nw_tos) << 20) | (v.ipv6_label & m.ipv6_label & 0xf_ffff);
    let mask = (u32::from(m.nw_tos) << 20) | (m.ipv6_label & 0xf_ffff);
    put32(frame, ip, (first & !mask) | value);
    frame[ip + 7] = (frame[ip + 7] & !m.nw_ttl) | (v.nw_ttl & m.nw_ttl);
}

/// Whether a routing header with segments left stands before the transport header.
fn has_routing_header(ip: &[u8]) -> bool {
    let Some(&(mut proto)) = ip.get(6) else { return false };
    let mut at = IPV6_LEN;
    while let (ipproto::HOPOPTS | ipproto::DSTOPTS | ipproto::ROUTING, Some(h)) =
        (proto, ip.get(at..at + 4))
    {
        if proto == ipproto::ROUTING && h[3] > 0 {
            return true;
        }
        (proto, at) = (h[0], at + (usize::from(h[1]) + 1) * 8);
    }
    false
}

fn set_arp(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let is_arp = matches!(key.dl_type, ethertype::ARP | ethertype::RARP);
    let Some(at) = pkt.l3().filter(|at| is_arp && pkt.len() >= at + ARP_LEN) else { return };
    let frame = pkt.frame_mut();
    merge_at(frame, at + 7, &[v.nw_proto], &[m.nw_proto]);
    merge_at(frame, at + 8, &v.arp_sha, &m.arp_sha);
    merge_at(frame, at + 14, &v.nw_src.to_be_bytes(), &m.nw_src.to_be_bytes());
    merge_at(frame, at + 18, &v.arp_tha, &m.arp_tha);
    merge_at(frame, at + 24, &v.nw_dst.to_be_bytes(), &m.nw_dst.to_be_bytes());
}

/// Overwrites `N` bytes that the transport checksum covers. `at` must be at an even distance from
/// the checksum's start.
fn merge_covered<const N: usize>(
    pkt: &mut PacketBuf,
    key: &PacketKey,
    at: usize,
    value: &[u8; N],
    mask: &[u8; N],
) {
    let Some(place) = pkt.frame_mut().get_mut(at..).and_then(|b| b.first_chunk_mut::<N>()) else {
        return;
    };
    let (old, new) = (*place, merge(*place, value, mask));
    if new == old {
        return;
    }
    *place = new;
    let inverted = old.map(|b| !b);
    // Padding an odd last byte of the inverted old value adds nothing: both are padded by zero.
    fix_l4_csum(pkt, key, false, |c| {
        checksum::finish(checksum::add(checksum::add(u32::from(!c), &inverted), &new))
    });
}

fn nd_offset(pkt: &PacketBuf, key: &PacketKey) -> Option<usize> {
    let nd = key.dl_type == ethertype::IPV6 && key.nw_proto == ipproto::ICMPV6;
    l4_offset(pkt, key).filter(|l4| nd && pkt.len() >= l4 + 24)
}

fn set_nd(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let Some(l4) = nd_offset(pkt, key) else { return };
    merge_covered(pkt, key, l4 + 8, &v.nd_target, &m.nd_target);
    let mut at = l4 + 24;
    while let Some(option) = pkt.frame().get(at..at + 8) {
        let (kind, len) = (option[0], usize::from(option[1]) * 8);
        match (kind, len) {
            (_, 0) => return,
            (1, 8) => merge_covered(pkt, key, at + 2, &v.arp_sha, &m.arp_sha),
            (2, 8) => merge_covered(pkt, key, at + 2, &v.arp_tha, &m.arp_tha),
            _ => {}
        }
        at += len;
    }
}

fn set_nd_reserved(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let Some(l4) = nd_offset(pkt, key) else { return };
    let (value, mask) = (v.nd_reserved.to_be_bytes(), m.nd_reserved.to_be_bytes());
    merge_covered(pkt, key, l4 + 4, &value, &mask);
    // The type of the first option stands in one 16-bit word with its length.
    let Some(len) = pkt.frame().get(l4 + 25).copied() else { return };
    let kind = [v.nd_options_type, len];
    merge_covered(pkt, key, l4 + 24, &kind, &[m.nd_options_type, 0]);
}

fn set_ports(pkt: &mut PacketBuf, key: &PacketKey, proto: u8, v: &PacketKey, m: &PacketKey) {
    let Some(l4) = l4_offset(pkt, key).filter(|_| key.nw_proto == proto) else { return };
    if pkt.len() < l4 + UDP_LEN {
        return;
    }
    merge_covered(pkt, key, l4, &v.tp_src.to_be_bytes(), &m.tp_src.to_be_bytes());
    merge_covered(pkt, key, l4 + 2, &v.tp_dst.to_be_bytes(), &m.tp_dst.to_be_bytes());
}

/// SCTP's CRC32c covers the whole packet and has no incremental form here: it is computed anew,
/// plus the error that it had before.
fn set_sctp(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let is_sctp = key.nw_proto == ipproto::SCTP;
    let Some(l4) = l4_offset(pkt, key).filter(|l4| is_sctp && pkt.len() >= l4 + 12) else {
        return;
    };
    let end = ip_end(pkt, key);
    let partial = pkt.offload.needs_csum && usize::from(pkt.offload.csum_start) == l4;
    let frame = pkt.frame_mut();
    let Some(sctp) = frame.get_mut(l4..end).filter(|s| s.len() >= 12) else { return };
    let error = u32::from_le_bytes([sctp[8], sctp[9], sctp[10], sctp[11]]) ^ crc32c_sctp(sctp);
    merge_at(sctp, 0, &v.tp_src.to_be_bytes(), &m.tp_src.to_be_bytes());
    merge_at(sctp, 2, &v.tp_dst.to_be_bytes(), &m.tp_dst.to_be_bytes());
    if !partial {
        let crc = crc32c_sctp(sctp) ^ error;
        sctp[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// End of the IP packet in the frame; Ethernet padding follows it.
pub(crate) fn ip_end(pkt: &PacketBuf, key: &PacketKey) -> usize {
    let Some(l3) = pkt.l3() else { return pkt.len() };
    let len = match key.dl_type {
        ethertype::IPV4 => be16(pkt.frame(), l3 + 2).map(usize::from),
        _ => be16(pkt.frame(), l3 + 4).map(|n| usize::from(n) + IPV6_LEN),
    };
    len.map_or(pkt.len(), |n| (l3 + n).min(pkt.len()))
}

/// The checksum (RFC 9260 §6.8) of an SCTP packet, computed with its field as zero.
fn crc32c_sctp(sctp: &mut [u8]) -> u32 {
    let Some(field) = sctp.get_mut(8..12) else { return 0 };
    let old: [u8; 4] = [field[0], field[1], field[2], field[3]];
    field.fill(0);
    let crc = packet::crc32c::crc32c(sctp);
    sctp[8..12].copy_from_slice(&old);
    crc
}

fn set_icmp(pkt: &mut PacketBuf, key: &PacketKey, v: &PacketKey, m: &PacketKey) {
    let Some(l4) = l4_offset(pkt, key).filter(|l4| pkt.len() >= l4 + ICMP_LEN) else { return };
    let value = [v.tp_src as u8, v.tp_dst as u8];
    let mask = [m.tp_src as u8, m.tp_dst as u8];
    match (key.dl_type, key.nw_proto) {
        (ethertype::IPV6, ipproto::ICMPV6) => merge_covered(pkt, key, l4, &value, &mask),
        (ethertype::IPV4, ipproto::ICMP) => {
            let frame = pkt.frame_mut();
            let old = be16(frame, l4).unwrap_or(0);
            merge_at(frame, l4, &value, &mask);
            let new = be16(frame, l4).unwrap_or(0);
            let csum = update16(be16(frame, l4 + 2).unwrap_or(0), old, new);
            put16(frame, l4 + 2, csum);
        }
        _ => {}
    }
}

/// Adds a VLAN tag behind the addresses.
pub fn push_vlan(pkt: &mut PacketBuf, tpid: u16, tci: u16) {
    if pkt.len() < ETH_LEN {
        return;
    }
    pkt.insert(12, VLAN_LEN);
    put16(pkt.frame_mut(), 12, tpid);
    put16(pkt.frame_mut(), 14, tci & !flow::VLAN_PRESENT);
}

/// Removes the outermost VLAN tag. Returns whether there was one.
pub fn pop_vlan(pkt: &mut PacketBuf) -> bool {
    let tagged = matches!(be16(pkt.frame(), 12), Some(ethertype::VLAN | ethertype::QINQ));
    if tagged && pkt.len() >= ETH_LEN + VLAN_LEN {
        pkt.remove(12, VLAN_LEN);
        return true;
    }
    false
}

/// A packet type that says an EtherType.
fn packet_type_of(ethertype: u16) -> u32 {
    match ethertype {
        ethertype::TEB => 0,
        other => 1 << 16 | u32::from(other),
    }
}

/// What is before the network header says another EtherType: the Ethernet header or the packet type.
fn set_ethertype(pkt: &mut PacketBuf, key: &mut PacketKey, l3: usize, ethertype: u16) {
    if key.packet_type == 0 {
        put16(pkt.frame_mut(), l3.saturating_sub(2), ethertype);
    } else {
        key.packet_type = packet_type_of(ethertype);
    }
}

/// Adds a label stack entry before the network header; the EtherType becomes `ethertype`.
pub fn push_mpls(pkt: &mut PacketBuf, key: &mut PacketKey, ethertype: u16, lse: u32) {
    let least = if key.packet_type == 0 { ETH_LEN } else { 0 };
    let Some(l3) = pkt.l3().filter(|l3| *l3 >= least) else { return };
    pkt.insert(l3, 4);
    put32(pkt.frame_mut(), l3, lse);
    set_ethertype(pkt, key, l3, ethertype);
    // The stack is the network header now, and offloads do not reach behind it.
    pkt.set_layers(Some(l3), None);
    key.dl_type = ethertype;
}

/// Removes the outermost label stack entry, behind however many tags; the EtherType becomes
/// `ethertype`.
pub fn pop_mpls(pkt: &mut PacketBuf, key: &mut PacketKey, ethertype: u16) {
    let least = if key.packet_type == 0 { ETH_LEN } else { 0 };
    let Some(l3) = pkt.l3().filter(|l3| *l3 >= least && pkt.len() >= l3 + 4) else { return };
    let before = match key.packet_type {
        0 => be16(pkt.frame(), l3 - 2),
        other => Some(other as u16),
    };
    if !matches!(before, Some(ethertype::MPLS | ethertype::MPLS_MCAST)) {
        return;
    }
    set_ethertype(pkt, key, l3, ethertype);
    pkt.remove(l3, 4);
    pkt.set_layers(Some(l3), None);
    key.dl_type = ethertype;
}

/// Adds a label stack entry before everything: the packet has no Ethernet header of its own then.
pub fn add_mpls(pkt: &mut PacketBuf, key: &mut PacketKey, ethertype: u16, lse: u32) {
    pkt.push_front(4);
    put32(pkt.frame_mut(), 0, lse);
    key.packet_type = packet_type_of(ethertype);
}

/// Adds a network service header before everything. What is behind it is what the packet is.
pub fn push_nsh(pkt: &mut PacketBuf, key: &mut PacketKey, h: &NshHeader) {
    let body: usize = if h.mdtype == 1 { 16 } else { h.tlvs.len() };
    let len = nsh::BASE_LEN + body;
    pkt.push_front(len);
    let frame = pkt.frame_mut();
    let words = (len / 4) as u16 & 0x3f;
    let first = (u16::from(h.flags & 3) << 12) | (u16::from(h.ttl & 0x3f) << 6) | words;
    put16(frame, nsh::FIRST, first);
    (frame[2], frame[3]) = (h.mdtype & 0xf, h.np);
    put32(frame, nsh::PATH, h.path);
    if h.mdtype == 1 {
        for (i, c) in h.context.iter().enumerate() {
            put32(frame, nsh::CONTEXT + 4 * i, *c);
        }
    } else {
        frame[nsh::CONTEXT..len].copy_from_slice(&h.tlvs);
    }
    key.packet_type = packet_type_of(ethertype::NSH);
}

/// Removes the network service header of a packet that begins with it. Returns whether what was behind
/// it is known.
pub fn pop_nsh(pkt: &mut PacketBuf, key: &mut PacketKey) -> bool {
    let packet_type = match key.nsh_np {
        1 => packet_type_of(ethertype::IPV4),
        2 => packet_type_of(ethertype::IPV6),
        3 => 0,
        4 => packet_type_of(ethertype::NSH),
        _ => return false,
    };
    let len = usize::from(be16(pkt.frame(), nsh::FIRST).unwrap_or(0) & 0x3f) * 4;
    let is_nsh = key.packet_type == packet_type_of(ethertype::NSH) && key.nsh_mdtype != 0;
    if !is_nsh || pkt.len() < len {
        return false;
    }
    pkt.pull_front(len);
    key.packet_type = packet_type;
    true
}

/// Adds an Ethernet header before a packet that has none.
pub fn push_eth(pkt: &mut PacketBuf, dst: [u8; 6], src: [u8; 6], ethertype: u16) {
    pkt.push_front(ETH_LEN);
    let frame = pkt.frame_mut();
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    put16(frame, 12, ethertype);
}

/// Removes the Ethernet header and its tags.
pub fn pop_eth(pkt: &mut PacketBuf) {
    if let Some(l3) = pkt.l3() {
        pkt.pull_front(l3);
    }
}
