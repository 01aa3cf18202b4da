//! From bytes to a key.
//!
//! One pass over the headers. A header that is cut short or lies about its length ends the pass:
//! what was understood before it stays, the rest is zero, so a rule on a field of that header
//! cannot match by accident of garbage. Nothing here panics on any bytes.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use packet::PacketBuf;
use packet::header::{
    ARP_LEN, ETH_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, SCTP_LEN, TCP_LEN, UDP_LEN, be16, be32,
    ethertype, icmpv6, ipproto,
};

use crate::key::{PacketKey, VLAN_PRESENT, VlanTag, nw_frag};

/// VLAN tags that are looked at unless [`set_vlan_limit`] says more.
pub const DEFAULT_VLAN_LIMIT: usize = 1;

/// How packets are read is one for the whole program, as all their keys must agree.
static VLAN_LIMIT: AtomicUsize = AtomicUsize::new(DEFAULT_VLAN_LIMIT);

/// Sets how many VLAN tags are looked at, two at most; a deeper tag shows as the EtherType
/// (`other_config:vlan-limit`), and 0 for as many as can be. Returns whether that changes anything:
/// keys made before are of the old kind then.
pub fn set_vlan_limit(n: usize) -> bool {
    let most = PacketKey::ZERO.vlans.len();
    let n = if n == 0 { most } else { n.min(most) };
    VLAN_LIMIT.swap(n, Relaxed) != n
}

/// Makes of a key that somebody wrote what [`extract`] would make of its packet: behind the last tag
/// that is looked at, nothing is known.
pub fn forget_deep_tags(key: &mut PacketKey) {
    let limit = VLAN_LIMIT.load(Relaxed);
    let Some(deep) = key.vlans.get(limit).filter(|t| t.tci & VLAN_PRESENT != 0) else { return };
    let dl_type = deep.tpid;
    let (mut vlans, all) = (key.vlans, *key);
    vlans[limit..].fill(VlanTag::default());
    *key = PacketKey {
        tunnel: all.tunnel,
        skb_priority: all.skb_priority,
        pkt_mark: all.pkt_mark,
        dp_hash: all.dp_hash,
        recirc_id: all.recirc_id,
        in_port: all.in_port,
        dl_dst: all.dl_dst,
        dl_src: all.dl_src,
        dl_type,
        vlans,
        ..PacketKey::ZERO
    };
}

/// Fills the L2 to L4 fields of `key` from a packet and notes the layer offsets in `pkt`.
///
/// Packet metadata in `key` (packet type, ports, conntrack, tunnel) is left as the caller set it;
/// the header fields must be zero. The packet type says whether there is an Ethernet header.
pub fn extract(pkt: &mut PacketBuf, key: &mut PacketKey) {
    const ETHERTYPES: u32 = 1;
    let (l3, l4) = match key.packet_type >> 16 {
        0 => parse_ethernet(pkt.frame(), key, VLAN_LIMIT.load(Relaxed)),
        ETHERTYPES => {
            key.dl_type = key.packet_type as u16;
            (Some(0), parse_network(pkt.frame(), key))
        }
        _ => (None, None),
    };
    pkt.set_layers(l3, l4);
}

type Layers = (Option<usize>, Option<usize>);

fn parse_ethernet(frame: &[u8], key: &mut PacketKey, vlan_limit: usize) -> Layers {
    let Some(eth) = frame.first_chunk::<ETH_LEN>() else { return (None, None) };
    key.dl_dst.copy_from_slice(&eth[..6]);
    key.dl_src.copy_from_slice(&eth[6..12]);
    let mut at = 12;
    for tag in key.vlans.iter_mut().take(vlan_limit) {
        let tpid = match be16(frame, at) {
            Some(t @ (ethertype::VLAN | ethertype::QINQ)) => t,
            _ => break,
        };
        // A tag needs its TCI and an EtherType behind it.
        let (Some(tci), Some(_)) = (be16(frame, at + 2), be16(frame, at + 4)) else { break };
        *tag = VlanTag { tpid, tci: tci | VLAN_PRESENT };
        at += 4;
    }
    let Some((dl_type, l3)) = parse_ethertype(frame, at) else { return (None, None) };
    key.dl_type = dl_type;
    let l4 = parse_network(&frame[l3..], key);
    (Some(l3), l4.map(|o| l3 + o))
}

/// The header of the key's EtherType and what is behind it; gives the offset of the transport.
fn parse_network(body: &[u8], key: &mut PacketKey) -> Option<usize> {
    match key.dl_type {
        ethertype::IPV4 => parse_ipv4(body, key),
        ethertype::IPV6 => parse_ipv6(body, key),
        ethertype::ARP | ethertype::RARP => {
            parse_arp(body, key);
            None
        }
        ethertype::MPLS | ethertype::MPLS_MCAST => {
            for (i, lse) in key.mpls_lse.iter_mut().enumerate() {
                let Some(v) = be32(body, 4 * i) else { break };
                *lse = v;
                if v & 0x100 != 0 {
                    break;
                }
            }
            None
        }
        ethertype::NSH => {
            parse_nsh(body, key);
            None
        }
        _ => None,
    }
}

/// The EtherType at `at` and where its payload starts; looks through LLC/SNAP.
fn parse_ethertype(frame: &[u8], at: usize) -> Option<(u16, usize)> {
    let t = be16(frame, at)?;
    if t >= ethertype::MIN {
        return Some((t, at + 2));
    }
    const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];
    let body = &frame[at + 2..];
    if body.starts_with(&SNAP)
        && let Some(snap) = be16(body, 6)
        && snap >= ethertype::MIN
    {
        return Some((snap, at + 10));
    }
    Some((ethertype::NOT_ETH_TYPE, at + 2))
}

fn parse_arp(body: &[u8], key: &mut PacketKey) {
    let Some(arp) = body.first_chunk::<ARP_LEN>() else { return };
    // Ethernet, IPv4, address lengths 6 and 4.
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return;
    }
    if arp[6] == 0 {
        key.nw_proto = arp[7];
    }
    key.arp_sha.copy_from_slice(&arp[8..14]);
    key.nw_src = be32(arp, 14).unwrap_or(0);
    key.arp_tha.copy_from_slice(&arp[18..24]);
    key.nw_dst = be32(arp, 24).unwrap_or(0);
}

fn parse_ipv4(body: &[u8], key: &mut PacketKey) -> Option<usize> {
    let ip = body.first_chunk::<IPV4_LEN>()?;
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let total = usize::from(be16(ip, 2)?);
    if ip[0] >> 4 != 4 || header_len < IPV4_LEN || total < header_len || total > body.len() {
        return None;
    }
    key.nw_src = be32(ip, 12)?;
    key.nw_dst = be32(ip, 16)?;
    key.nw_proto = ip[9];
    key.nw_tos = ip[1];
    key.nw_ttl = ip[8];
    let frag = be16(ip, 6)?;
    if frag & 0x3fff != 0 {
        key.nw_frag = nw_frag::ANY;
        if frag & 0x1fff != 0 {
            key.nw_frag |= nw_frag::LATER;
            return Some(header_len);
        }
    }
    parse_transport(&body[header_len..total], key);
    Some(header_len)
}

fn parse_ipv6(body: &[u8], key: &mut PacketKey) -> Option<usize> {
    let ip = body.first_chunk::<IPV6_LEN>()?;
    let total = IPV6_LEN + usize::from(be16(ip, 4)?);
    if ip[0] >> 4 != 6 || total > body.len() {
        return None;
    }
    key.ipv6_src.copy_from_slice(&ip[8..24]);
    key.ipv6_dst.copy_from_slice(&ip[24..40]);
    let Some((proto, at)) = skip_ipv6_extensions(&body[..total], ip[6], key) else {
        // Of a chain that is cut short, OVS knows the addresses only.
        key.nw_frag = 0;
        return None;
    };
    let first = be32(ip, 0)?;
    key.ipv6_label = first & 0xf_ffff;
    key.nw_tos = (first >> 20) as u8;
    key.nw_ttl = ip[7];
    key.nw_proto = proto;
    if key.nw_frag & nw_frag::LATER == 0 {
        parse_transport(&body[at..total], key);
    }
    Some(at)
}

/// Walks the extension headers that precede a transport header (RFC 8200 §4). `None` when one is
/// cut short; otherwise the protocol and offset behind them.
fn skip_ipv6_extensions(ip: &[u8], first: u8, key: &mut PacketKey) -> Option<(u8, usize)> {
    let (mut proto, mut at) = (first, IPV6_LEN);
    loop {
        let len = match proto {
            ipproto::HOPOPTS | ipproto::ROUTING | ipproto::DSTOPTS => {
                (usize::from(*ip.get(at + 1)?) + 1) * 8
            }
            ipproto::AH => (usize::from(*ip.get(at + 1)?) + 2) * 4,
            ipproto::FRAGMENT => {
                let frag = be16(ip, at + 2)?;
                ip.get(at + 7)?;
                // A packet in one piece (RFC 6946) is no fragment.
                if frag != 0 {
                    key.nw_frag = nw_frag::ANY;
                }
                if frag & 0xfff8 != 0 {
                    // As OVS has it: what the first fragment says of the protocol is not looked at.
                    key.nw_frag |= nw_frag::LATER;
                    return Some((ipproto::FRAGMENT, at + 8));
                }
                8
            }
            _ => return Some((proto, at)),
        };
        proto = *ip.get(at)?;
        at += len;
        if at > ip.len() {
            return None;
        }
    }
}

fn parse_transport(l4: &[u8], key: &mut PacketKey) {
    let ports = |key: &mut PacketKey| {
        key.tp_src = be16(l4, 0).unwrap_or(0);
        key.tp_dst = be16(l4, 2).unwrap_or(0);
    };
    let ipv6 = key.dl_type == ethertype::IPV6;
    match key.nw_proto {
        // A header that says another length than it can have is none.
        ipproto::TCP if l4.len() >= TCP_LEN && (TCP_LEN..=l4.len()).contains(&tcp_len(l4)) => {
            ports(key);
            key.tcp_flags = be16(l4, 12).unwrap_or(0) & 0x0fff;
        }
        ipproto::UDP if l4.len() >= UDP_LEN => ports(key),
        ipproto::SCTP if l4.len() >= SCTP_LEN => ports(key),
        ipproto::ICMP if !ipv6 && l4.len() >= ICMP_LEN => {
            (key.tp_src, key.tp_dst) = (u16::from(l4[0]), u16::from(l4[1]));
        }
        ipproto::IGMP if !ipv6 && l4.len() >= 8 => {
            (key.tp_src, key.tp_dst) = (u16::from(l4[0]), u16::from(l4[1]));
            key.nd_reserved = be32(l4, 4).unwrap_or(0);
        }
        ipproto::ICMPV6 if ipv6 && l4.len() >= ICMP_LEN => parse_icmpv6(l4, key),
        _ => {}
    }
}

/// Bytes of a TCP header, as it says itself.
fn tcp_len(tcp: &[u8]) -> usize {
    usize::from(tcp[12] >> 4) * 4
}

fn parse_icmpv6(l4: &[u8], key: &mut PacketKey) {
    (key.tp_src, key.tp_dst) = (u16::from(l4[0]), u16::from(l4[1]));
    let nd = matches!(l4[0], icmpv6::NEIGHBOR_SOLICIT | icmpv6::NEIGHBOR_ADVERT);
    let Some(target) = l4.get(8..24) else { return };
    if !nd || l4[1] != 0 {
        return;
    }
    key.nd_reserved = be32(l4, 4).unwrap_or(0);
    let (mut sll, mut tll, mut kind) = ([0; 6], [0; 6], 0);
    let mut options = &l4[24..];
    while options.len() >= 8 {
        let len = usize::from(options[1]) * 8;
        if len == 0 || len > options.len() {
            return; // a lying option: none of them is believed
        }
        let place = match options[0] {
            1 => &mut sll,
            2 => &mut tll,
            _ => {
                options = &options[len..];
                continue;
            }
        };
        if len == 8 {
            if *place != [0; 6] {
                return; // given twice
            }
            place.copy_from_slice(&options[2..8]);
            kind = options[0];
        }
        options = &options[len..];
    }
    key.nd_target.copy_from_slice(target);
    (key.arp_sha, key.arp_tha, key.nd_options_type) = (sll, tll, kind);
}

/// RFC 8300 §2.
fn parse_nsh(body: &[u8], key: &mut PacketKey) {
    let Some(h) = body.first_chunk::<8>() else { return };
    let word = u16::from_be_bytes([h[0], h[1]]);
    let len = usize::from(word & 0x3f) * 4;
    let mdtype = h[2] & 0xf;
    let fits = match mdtype {
        1 => len == 24,
        2 => len >= 8,
        _ => false,
    };
    if word >> 14 != 0 || len > body.len() || !fits {
        return;
    }
    key.nsh_flags = ((word >> 12) & 3) as u8;
    key.nsh_ttl = ((word >> 6) & 0x3f) as u8;
    key.nsh_mdtype = mdtype;
    key.nsh_np = h[3];
    key.nsh_path = be32(h, 4).unwrap_or(0);
    if mdtype == 1 {
        for (i, c) in key.nsh_context.iter_mut().enumerate() {
            *c = be32(body, 8 + 4 * i).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn key_of(frame: &[u8]) -> (PacketKey, Layers) {
        let mut p = PacketBuf::from_frame(frame);
        let mut k = PacketKey::ZERO;
        extract(&mut p, &mut k);
        (k, (p.l3(), p.l4()))
    }

    fn eth(dl_type: u16, body: &[u8]) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        f.extend_from_slice(&dl_type.to_be_bytes());
        f.extend_from_slice(body);
        f
    }

    fn ipv4(proto: u8, frag: u16, l4: &[u8]) -> Vec<u8> {
        let mut b = vec![0x45, 0x10];
        b.extend_from_slice(&(20 + l4.len() as u16).to_be_bytes());
        b.extend_from_slice(&[0, 1]);
        b.extend_from_slice(&frag.to_be_bytes());
        b.extend_from_slice(&[64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        b.extend_from_slice(l4);
        eth(0x0800, &b)
    }

    fn tcp() -> Vec<u8> {
        let mut t = vec![0; 20];
        t[..4].copy_from_slice(&[0x9c, 0x40, 0, 23]);
        t[12..14].copy_from_slice(&[0x50, 0x12]);
        t
    }

    #[test]
    fn tcp_over_ipv4() {
        let (k, layers) = key_of(&ipv4(6, 0x4000, &tcp()));
        assert_eq!((k.nw_src, k.nw_dst, k.nw_proto), (0x0a00_0001, 0x0a00_0002, 6));
        assert_eq!((k.nw_tos, k.nw_ttl, k.nw_frag), (0x10, 64, 0));
        assert_eq!((k.tp_src, k.tp_dst, k.tcp_flags), (40000, 23, 0x12));
        assert_eq!(layers, (Some(14), Some(34)));
    }

    #[test]
    fn fragments() {
        let (first, _) = key_of(&ipv4(6, 0x2000, &tcp()));
        assert_eq!((first.nw_frag, first.tp_dst), (nw_frag::ANY, 23));
        let (later, _) = key_of(&ipv4(6, 0x0010, &tcp()));
        assert_eq!((later.nw_frag, later.tp_dst), (nw_frag::ANY | nw_frag::LATER, 0));
    }

    #[test]
    fn vlan_and_the_tag_behind_it() {
        let mut inner = vec![0x60, 0x64, 0x81, 0, 0, 5];
        inner.extend_from_slice(&[8, 0]);
        let (k, _) = key_of(&eth(0x8100, &inner));
        assert_eq!(k.vlans[0], VlanTag { tpid: 0x8100, tci: 0x7064 });
        assert_eq!((k.vlans[1], k.dl_type), (VlanTag::default(), 0x8100));
    }

    #[test]
    fn lying_lengths_leave_the_header_unread() {
        for (at, value) in [(0, 0x44), (0, 0x65), (0, 0x4f), (2, 0xff)] {
            let mut f = ipv4(6, 0, &tcp());
            f[14 + at] = value;
            let (k, (_, l4)) = key_of(&f);
            assert_eq!((k.dl_type, k.nw_proto, k.tp_dst, l4), (0x0800, 0, 0, None), "{at}");
        }
        let (k, _) = key_of(&ipv4(6, 0, &tcp()[..19]));
        assert_eq!((k.nw_proto, k.tp_dst), (6, 0), "a short TCP header has no ports");
    }

    #[test]
    fn ipv6_extension_headers_and_nd() {
        let mut nd = vec![135, 0, 0, 0, 0, 0, 0, 0];
        nd.extend_from_slice(&[0xfe; 16]);
        nd.extend_from_slice(&[1, 1, 2, 3, 4, 5, 6, 7]);
        let mut b = vec![0x60, 0x10, 0, 7];
        b.extend_from_slice(&(8 + nd.len() as u16).to_be_bytes());
        b.extend_from_slice(&[0, 255]);
        b.extend_from_slice(&[1; 16]);
        b.extend_from_slice(&[2; 16]);
        b.extend_from_slice(&[58, 0, 0, 0, 0, 0, 0, 0]);
        b.extend_from_slice(&nd);
        let (k, (_, l4)) = key_of(&eth(0x86dd, &b));
        assert_eq!((k.nw_proto, k.tp_src, k.nw_tos, k.ipv6_label), (58, 135, 1, 7));
        assert_eq!(
            (k.nd_target, k.arp_sha, k.nd_options_type),
            ([0xfe; 16], [2, 3, 4, 5, 6, 7], 1)
        );
        assert_eq!(l4, Some(14 + 48));
        assert!(crate::field::Prereq::NdSolicit.holds(&k));
    }

    #[test]
    fn arp_and_snap() {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend_from_slice(&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let (k, _) = key_of(&eth(0x0806, &arp));
        assert_eq!((k.nw_proto, k.nw_src, k.nw_dst), (1, 0x0a00_0001, 0x0a00_0002));
        let (k, _) = key_of(&eth(8, &[0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x06]));
        assert_eq!(k.dl_type, 0x0806);
        let (k, _) = key_of(&eth(3, &[0x42, 0x42, 3]));
        assert_eq!(k.dl_type, ethertype::NOT_ETH_TYPE);
    }

    #[test]
    fn every_truncation_is_survived() {
        let mut f = ipv4(6, 0, &tcp());
        f.splice(12..12, [0x81, 0, 0, 9]);
        for n in 0..f.len() {
            key_of(&f[..n]);
        }
    }
}
