//! From a key to bytes: a frame that [`crate::extract()`] reads back as the key.
//!
//! For simulation and traces. What a key does not say (identification, sequence numbers, what an
//! ICMP error quotes) is zero; lengths and checksums are right.

use alloc::vec::Vec;

use packet::checksum;
use packet::header::{ETH_LEN, IPV4_LEN, IPV6_LEN, ethertype, icmp, icmpv6, ipproto, tcp_flag};

use crate::key::{PacketKey, VLAN_PRESENT, nw_frag};

/// Offset of a later fragment, in units of eight bytes.
const LATER_OFFSET: u16 = 100;

/// A frame with the headers of `key`. `payload` goes into protocols that carry any bytes: UDP, ICMP
/// echo, and TCP segments that neither open nor close. A frame shorter than `min_len` is padded
/// with zeros at its innermost layer.
pub fn compose(key: &PacketKey, payload: &[u8], min_len: usize) -> Vec<u8> {
    let frame = build(key, payload, 0);
    match min_len.saturating_sub(frame.len()) {
        0 => frame,
        pad => build(key, payload, pad),
    }
}

fn build(key: &PacketKey, payload: &[u8], pad: usize) -> Vec<u8> {
    let mut f = Vec::with_capacity(ETH_LEN + 128 + payload.len() + pad);
    f.extend(key.dl_dst);
    f.extend(key.dl_src);
    for tag in key.vlans.iter().filter(|t| t.tci & VLAN_PRESENT != 0) {
        f.extend(tag.tpid.to_be_bytes());
        f.extend((tag.tci & !VLAN_PRESENT).to_be_bytes());
    }
    if key.dl_type == ethertype::NOT_ETH_TYPE {
        // 802.3: the field is the length of what follows.
        f.extend((ETH_LEN as u16).to_be_bytes());
        f.extend(core::iter::repeat_n(0, pad));
        return f;
    }
    f.extend(key.dl_type.to_be_bytes());
    match key.dl_type {
        ethertype::IPV4 => ipv4(key, payload, pad, &mut f),
        ethertype::IPV6 => ipv6(key, payload, pad, &mut f),
        other => {
            match other {
                ethertype::ARP | ethertype::RARP => arp(key, &mut f),
                ethertype::MPLS | ethertype::MPLS_MCAST => mpls(key, &mut f),
                ethertype::NSH => nsh(key, &mut f),
                _ => {}
            }
            f.extend(core::iter::repeat_n(0, pad));
        }
    }
    f
}

fn arp(key: &PacketKey, f: &mut Vec<u8>) {
    f.extend([0, 1, 8, 0, 6, 4, 0, key.nw_proto]);
    f.extend(key.arp_sha);
    f.extend(key.nw_src.to_be_bytes());
    f.extend(key.arp_tha);
    f.extend(key.nw_dst.to_be_bytes());
}

fn mpls(key: &PacketKey, f: &mut Vec<u8>) {
    const BOS: u32 = 0x100;
    let bottom = key.mpls_lse.iter().position(|l| l & BOS != 0);
    let n = bottom.map_or(key.mpls_lse.len(), |i| i + 1);
    key.mpls_lse[..n].iter().for_each(|l| f.extend(l.to_be_bytes()));
}

fn nsh(key: &PacketKey, f: &mut Vec<u8>) {
    let words: u16 = if key.nsh_mdtype == 1 { 6 } else { 2 };
    let first = u16::from(key.nsh_flags & 3) << 12 | u16::from(key.nsh_ttl & 0x3f) << 6 | words;
    f.extend(first.to_be_bytes());
    f.extend([key.nsh_mdtype, key.nsh_np]);
    f.extend(key.nsh_path.to_be_bytes());
    if key.nsh_mdtype == 1 {
        key.nsh_context.iter().for_each(|c| f.extend(c.to_be_bytes()));
    }
}

fn ipv4(key: &PacketKey, payload: &[u8], pad: usize, f: &mut Vec<u8>) {
    let l3 = f.len();
    let frag = match (key.nw_frag & nw_frag::ANY, key.nw_frag & nw_frag::LATER) {
        (0, _) => 0,
        (_, 0) => 0x2000,
        _ => 0x2000 | LATER_OFFSET,
    };
    f.extend([0x45, key.nw_tos, 0, 0, 0, 0]);
    f.extend(frag.to_be_bytes());
    f.extend([key.nw_ttl, key.nw_proto, 0, 0]);
    f.extend(key.nw_src.to_be_bytes());
    f.extend(key.nw_dst.to_be_bytes());
    transport(key, payload, pad, f);
    let total = (f.len() - l3) as u16;
    put16(f, l3 + 2, total);
    let sum = checksum::checksum(&f[l3..l3 + IPV4_LEN]);
    put16(f, l3 + 10, sum);
    let len = u32::from(total) - IPV4_LEN as u32;
    let pseudo = checksum::pseudo_v4(key.nw_src, key.nw_dst, key.nw_proto, len);
    sum_transport(key, pseudo, l3 + IPV4_LEN, f);
}

fn ipv6(key: &PacketKey, payload: &[u8], pad: usize, f: &mut Vec<u8>) {
    let l3 = f.len();
    let first = 6 << 28 | u32::from(key.nw_tos) << 20 | (key.ipv6_label & 0xf_ffff);
    f.extend(first.to_be_bytes());
    let is_fragment = key.nw_frag & nw_frag::ANY != 0;
    let next = if is_fragment { ipproto::FRAGMENT } else { key.nw_proto };
    f.extend([0, 0, next, key.nw_ttl]);
    f.extend(key.ipv6_src);
    f.extend(key.ipv6_dst);
    if is_fragment {
        let later = key.nw_frag & nw_frag::LATER != 0;
        let offset = if later { LATER_OFFSET << 3 } else { 0 } | 1;
        f.extend([key.nw_proto, 0]);
        f.extend(offset.to_be_bytes());
        f.extend([0; 4]);
    }
    let l4 = f.len();
    transport(key, payload, pad, f);
    let len = f.len() - l3 - IPV6_LEN;
    put16(f, l3 + 4, len as u16);
    let l4_len = (f.len() - l4) as u32;
    let pseudo = checksum::pseudo_v6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, l4_len);
    sum_transport(key, pseudo, l4, f);
}

/// The transport header without its checksum, the payload, the padding.
fn transport(key: &PacketKey, payload: &[u8], pad: usize, f: &mut Vec<u8>) {
    if key.nw_frag & nw_frag::LATER == 0 {
        header(key, payload, pad, f);
    }
    f.extend(core::iter::repeat_n(0, pad));
}

fn header(key: &PacketKey, payload: &[u8], pad: usize, f: &mut Vec<u8>) {
    let (kind, code) = (key.tp_src as u8, key.tp_dst as u8);
    let ports = |f: &mut Vec<u8>| {
        f.extend(key.tp_src.to_be_bytes());
        f.extend(key.tp_dst.to_be_bytes());
    };
    match key.nw_proto {
        ipproto::TCP => {
            ports(f);
            f.extend([0; 8]);
            f.extend((5 << 12 | key.tcp_flags & 0xfff).to_be_bytes());
            f.extend([0; 6]);
            if key.tcp_flags & (tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST) == 0 {
                f.extend(payload);
            }
        }
        ipproto::UDP => {
            ports(f);
            f.extend(((8 + payload.len() + pad) as u16).to_be_bytes());
            f.extend([0; 2]);
            f.extend(payload);
        }
        ipproto::SCTP => {
            ports(f);
            f.extend([0; 8]);
        }
        ipproto::ICMP => {
            f.extend([kind, code, 0, 0, 0, 0, 0, 0]);
            if matches!(kind, icmp::ECHO_REQUEST | icmp::ECHO_REPLY) && code == 0 {
                f.extend(payload);
            }
        }
        ipproto::IGMP => {
            f.extend([kind, code, 0, 0]);
            f.extend(key.nd_reserved.to_be_bytes());
        }
        ipproto::ICMPV6 => {
            f.extend([kind, code, 0, 0]);
            f.extend(key.nd_reserved.to_be_bytes());
            match kind {
                _ if code != 0 => {}
                icmpv6::NEIGHBOR_SOLICIT | icmpv6::NEIGHBOR_ADVERT => {
                    f.extend(key.nd_target);
                    for (option, mac) in [(1, key.arp_sha), (2, key.arp_tha)] {
                        if mac != [0; 6] {
                            f.extend([option, 1]);
                            f.extend(mac);
                        }
                    }
                }
                icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY => f.extend(payload),
                _ => {}
            }
        }
        _ => {}
    }
}

/// Puts the checksum into the transport header at `l4`, which reaches to the end.
fn sum_transport(key: &PacketKey, pseudo: u32, l4: usize, f: &mut [u8]) {
    if key.nw_frag & nw_frag::LATER != 0 {
        return;
    }
    let (at, begin) = match key.nw_proto {
        ipproto::TCP => (16, pseudo),
        ipproto::UDP => (6, pseudo),
        ipproto::ICMP | ipproto::IGMP => (2, 0),
        ipproto::ICMPV6 => (2, pseudo),
        _ => return,
    };
    let sum = checksum::finish(checksum::add(begin, &f[l4..]));
    // UDP says "no checksum" by zero.
    let sum = if sum == 0 && key.nw_proto == ipproto::UDP { 0xffff } else { sum };
    put16(f, l4 + at, sum);
}

fn put16(f: &mut [u8], at: usize, value: u16) {
    f[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::VlanTag;
    use packet::PacketBuf;

    fn base(dl_type: u16) -> PacketKey {
        let mut k = PacketKey::ZERO;
        (k.dl_dst, k.dl_src, k.dl_type) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], dl_type);
        k
    }

    fn ip(dl_type: u16, proto: u8, ports: (u16, u16)) -> PacketKey {
        let mut k = base(dl_type);
        (k.nw_proto, k.nw_tos, k.nw_ttl) = (proto, 0x44, 63);
        (k.tp_src, k.tp_dst) = ports;
        if dl_type == ethertype::IPV4 {
            (k.nw_src, k.nw_dst) = (0x0a00_0001, 0x0a00_0002);
        } else {
            (k.ipv6_src, k.ipv6_dst, k.ipv6_label) = ([0xfe; 16], [0xfd; 16], 0x12345);
        }
        k
    }

    /// Keys of every protocol that extraction knows.
    fn keys() -> Vec<PacketKey> {
        let mut all = Vec::new();
        for dl_type in [ethertype::IPV4, ethertype::IPV6] {
            let mut tcp = ip(dl_type, ipproto::TCP, (1000, 80));
            tcp.tcp_flags = 0x12;
            all.extend([tcp, ip(dl_type, ipproto::UDP, (53, 99)), ip(dl_type, 132, (5, 6))]);
            let mut first = ip(dl_type, ipproto::UDP, (1, 2));
            first.nw_frag = nw_frag::ANY;
            let mut later = ip(dl_type, ipproto::UDP, (0, 0));
            later.nw_frag = nw_frag::ANY | nw_frag::LATER;
            if dl_type == ethertype::IPV6 {
                later.nw_proto = ipproto::FRAGMENT; // all that is known of it
            }
            all.extend([first, later, ip(dl_type, 99, (0, 0))]);
        }
        all.push(ip(ethertype::IPV4, ipproto::ICMP, (8, 0)));
        all.push(ip(ethertype::IPV4, ipproto::ICMP, (3, 1)));
        let mut igmp = ip(ethertype::IPV4, ipproto::IGMP, (0x16, 0));
        igmp.nd_reserved = 0xe000_0001;
        all.push(igmp);
        all.push(ip(ethertype::IPV6, ipproto::ICMPV6, (128, 0)));
        let mut nd = ip(ethertype::IPV6, ipproto::ICMPV6, (135, 0));
        (nd.nd_target, nd.arp_sha, nd.nd_options_type) = ([0xfc; 16], [2, 0, 0, 0, 0, 9], 1);
        all.push(nd);
        let mut arp = base(ethertype::ARP);
        (arp.nw_proto, arp.nw_src, arp.nw_dst) = (1, 1, 2);
        (arp.arp_sha, arp.arp_tha) = ([2, 0, 0, 0, 0, 1], [0; 6]);
        all.push(arp);
        let mut mpls = base(ethertype::MPLS);
        mpls.mpls_lse = [0x1040, 0x2140, 0];
        all.push(mpls);
        let mut nsh = base(ethertype::NSH);
        (nsh.nsh_mdtype, nsh.nsh_np, nsh.nsh_path, nsh.nsh_ttl) = (1, 3, 0x1234_05ff, 63);
        nsh.nsh_context = [1, 2, 3, 4];
        all.push(nsh);
        all.push(base(ethertype::NOT_ETH_TYPE));
        all.push(base(0x9999));
        let mut tagged = ip(ethertype::IPV4, ipproto::UDP, (7, 8));
        tagged.vlans[0] = VlanTag { tpid: ethertype::VLAN, tci: 0x700a };
        all.push(tagged);
        all
    }

    #[test]
    fn what_is_composed_is_extracted_as_the_same_key() {
        for key in keys() {
            for (payload, min_len) in [(&[][..], 0), (&[1, 2, 3][..], 0), (&[][..], 100)] {
                if key.nd_target != [0; 16] && min_len > 0 {
                    continue; // zeros are options that lie about their length
                }
                let frame = compose(&key, payload, min_len);
                assert!(frame.len() >= min_len);
                let mut read = PacketKey::ZERO;
                crate::extract(&mut PacketBuf::from_frame(&frame), &mut read);
                assert_eq!(read, key, "{frame:02x?}");
            }
        }
    }

    #[test]
    fn checksums_are_those_of_a_host() {
        let mut key = ip(ethertype::IPV4, ipproto::ICMP, (8, 0));
        (key.nw_tos, key.nw_ttl) = (0, 64);
        let frame = compose(&key, &[0, 1, 2], 0);
        // ICMP echo request: 8 << 8 | bytes 0, 1, 2.
        assert_eq!(frame[36..38], (!(0x0800u16 + 0x0001 + 0x0200)).to_be_bytes());
        assert_eq!(checksum::checksum(&frame[14..34]), 0);
    }
}
