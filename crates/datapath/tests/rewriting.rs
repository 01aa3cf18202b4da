//! Header rewriting against recomputation: whatever is set in whatever packet, checksums that
//! were right stay right, and nothing but the named fields changes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use dpif::{SetGroup, SetMasked};
use flow::PacketKey;
use packet::checksum::{add, checksum, finish, fold, pseudo_v4, pseudo_v6};
use packet::{Offload, PacketBuf};
use proptest::prelude::*;

#[derive(Copy, Clone, Debug)]
enum L4 {
    Tcp,
    Udp,
    UdpNoCsum,
    Icmp,
    Sctp,
    Nd,
    Fragment,
}

#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    l4: L4,
    tag: bool,
    partial: bool,
    payload: Vec<u8>,
    addresses: [u8; 32],
    ports: [u16; 2],
}

const SET_GROUPS: [SetGroup; 9] = [
    SetGroup::Eth,
    SetGroup::Ipv4,
    SetGroup::Ipv6,
    SetGroup::Tcp,
    SetGroup::Udp,
    SetGroup::Sctp,
    SetGroup::Icmp,
    SetGroup::Nd,
    SetGroup::NdExtensions,
];

fn proto(s: &Shape) -> u8 {
    match s.l4 {
        L4::Tcp => 6,
        L4::Udp | L4::UdpNoCsum | L4::Fragment => 17,
        L4::Sctp => 132,
        L4::Icmp | L4::Nd => {
            if s.v6 {
                58
            } else {
                1
            }
        }
    }
}

/// Offset of the checksum in the transport header, if it is an Internet checksum.
fn csum_at(s: &Shape) -> Option<usize> {
    match s.l4 {
        L4::Tcp => Some(16),
        L4::Udp | L4::UdpNoCsum => Some(6),
        L4::Icmp | L4::Nd => Some(2),
        L4::Sctp | L4::Fragment => None,
    }
}

fn pseudo(s: &Shape, ip: &[u8], len: usize) -> u32 {
    let (len, proto) = (len as u32, proto(s));
    if s.v6 {
        pseudo_v6(ip[8..24].try_into().unwrap(), ip[24..40].try_into().unwrap(), proto, len)
    } else if proto == 1 {
        0
    } else {
        let at = |i: usize| u32::from_be_bytes(ip[i..i + 4].try_into().unwrap());
        pseudo_v4(at(12), at(16), proto, len)
    }
}

/// The transport header with its checksum as it must be.
fn sum(s: &Shape, ip: &[u8], l4: &[u8]) -> Vec<u8> {
    let mut l4 = l4.to_vec();
    if let L4::Sctp = s.l4 {
        l4[8..12].fill(0);
        let crc = packet::crc32c::crc32c(&l4);
        l4[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    let (Some(at), false) = (csum_at(s), matches!(s.l4, L4::UdpNoCsum)) else { return l4 };
    l4[at..at + 2].fill(0);
    let head = pseudo(s, ip, l4.len());
    let field = if s.partial { fold(head) } else { finish(add(head, &l4)) };
    let field = if field == 0 && proto(s) == 17 && !s.partial { 0xffff } else { field };
    l4[at..at + 2].copy_from_slice(&field.to_be_bytes());
    l4
}

fn build(s: &Shape) -> PacketBuf {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if s.tag {
        f.extend([0x81, 0, 0x20, 7]);
    }
    let mut l4: Vec<u8> = s.ports.iter().flat_map(|p| p.to_be_bytes()).collect();
    match s.l4 {
        L4::Tcp => l4.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 2, 0, 0, 0, 0]),
        L4::Udp | L4::UdpNoCsum => {
            l4.extend((8 + s.payload.len() as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        L4::Icmp => l4 = vec![8, 0, 0, 0, 0, 1, 0, 2],
        L4::Sctp => l4.extend([0, 0, 0, 9, 0, 0, 0, 0]),
        L4::Nd => {
            l4 = vec![135, 0, 0, 0, 0, 0, 0, 0];
            l4.extend(&s.addresses[..16]);
            l4.extend([1, 1, 1, 2, 3, 4, 5, 6, 2, 1, 6, 5, 4, 3, 2, 1]);
        }
        L4::Fragment => l4 = vec![1; 8],
    }
    if !matches!(s.l4, L4::Nd) {
        l4.extend(&s.payload);
    }
    let mut ip;
    if s.v6 {
        let fragment = matches!(s.l4, L4::Fragment);
        ip = vec![0x61, 0x23, 0x45, 0x67];
        ip.extend((l4.len() as u16 + if fragment { 8 } else { 0 }).to_be_bytes());
        ip.extend([if fragment { 44 } else { proto(s) }, 60]);
        ip.extend(s.addresses);
        if fragment {
            ip.extend([17, 0, 0, 0x81, 0, 0, 0, 5]);
        }
    } else {
        ip = vec![0x45, 0x10];
        ip.extend((20 + l4.len() as u16).to_be_bytes());
        ip.extend([0, 1]);
        ip.extend(if matches!(s.l4, L4::Fragment) { [0x20, 0x10] } else { [0x40, 0] });
        ip.extend([60, proto(s), 0, 0]);
        ip.extend(&s.addresses[..8]);
        let c = checksum(&ip);
        ip[10..12].copy_from_slice(&c.to_be_bytes());
    }
    f.extend(if s.v6 { [0x86, 0xdd] } else { [8, 0] });
    let l4 = sum(s, &ip, &l4);
    f.extend(&ip);
    let l4_at = f.len();
    f.extend(&l4);
    let mut p = PacketBuf::from_frame(&f);
    if let (true, Some(at)) = (s.partial, csum_at(s)) {
        p.offload = Offload {
            needs_csum: true,
            csum_start: l4_at as u16,
            csum_offset: at as u16,
            ..Offload::default()
        };
    }
    p
}

fn shapes() -> impl Strategy<Value = Shape> {
    let l4 = prop_oneof![
        Just(L4::Tcp),
        Just(L4::Udp),
        Just(L4::UdpNoCsum),
        Just(L4::Icmp),
        Just(L4::Sctp),
        Just(L4::Nd),
        Just(L4::Fragment)
    ];
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    (any::<bool>(), l4, any::<bool>(), any::<bool>(), bytes, any::<[u8; 32]>(), any::<[u16; 2]>())
        .prop_map(|(v6, l4, tag, partial, payload, addresses, ports)| {
            let v6 = (v6 || matches!(l4, L4::Nd)) && !matches!(l4, L4::UdpNoCsum);
            let summed = matches!(l4, L4::Tcp | L4::Udp);
            Shape { v6, l4, tag, partial: partial && summed, payload, addresses, ports }
        })
}

fn parsed(p: &mut PacketBuf) -> PacketKey {
    let mut key = PacketKey::ZERO;
    flow::extract(p, &mut key);
    key
}

/// The fields of one group.
fn group_mask(g: SetGroup) -> PacketKey {
    let mut m = PacketKey::ZERO;
    match g {
        SetGroup::Eth => (m.dl_src, m.dl_dst) = ([!0; 6], [!0; 6]),
        SetGroup::Ipv4 => {
            (m.nw_src, m.nw_dst, m.nw_tos, m.nw_ttl) = (!0, !0, !0, !0);
        }
        SetGroup::Ipv6 => {
            (m.ipv6_src, m.ipv6_dst, m.nw_tos, m.nw_ttl) = ([!0; 16], [!0; 16], !0, !0);
            m.ipv6_label = 0xf_ffff;
        }
        SetGroup::Icmp => (m.tp_src, m.tp_dst) = (0xff, 0xff),
        SetGroup::Nd => {
            (m.nd_target, m.arp_sha, m.arp_tha) = ([!0; 16], [!0; 6], [!0; 6]);
        }
        SetGroup::NdExtensions => m.nd_reserved = !0,
        _ => (m.tp_src, m.tp_dst) = (!0, !0),
    }
    m
}

fn applies(g: SetGroup, s: &Shape) -> bool {
    match g {
        SetGroup::Eth => true,
        SetGroup::Ipv4 => !s.v6,
        SetGroup::Ipv6 => s.v6,
        SetGroup::Tcp => matches!(s.l4, L4::Tcp),
        SetGroup::Udp => matches!(s.l4, L4::Udp | L4::UdpNoCsum),
        SetGroup::Sctp => matches!(s.l4, L4::Sctp),
        SetGroup::Icmp => matches!(s.l4, L4::Icmp | L4::Nd),
        _ => matches!(s.l4, L4::Nd),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn set_equals_building_the_packet_anew(
        s in shapes(),
        group in proptest::sample::select(&SET_GROUPS[..]),
        value in any::<[u64; flow::PACKET_WORDS]>(),
        noise in any::<[u64; flow::PACKET_WORDS]>(),
    ) {
        let mut p = build(&s);
        let mut key = parsed(&mut p);
        let before = key;
        let noise = PacketKey::from_words(noise);
        let mask = &group_mask(group) & &noise;
        let value = &PacketKey::from_words(value) & &mask;
        datapath::rewrite::set(&mut p, &mut key, &SetMasked { group, value, mask });
        let after = parsed(&mut p);
        // The named bits have the value, all others are as before. (A changed ICMP type may make
        // a packet ND or no ND, so what ND shows is not compared then.)
        let mut want = before;
        if applies(group, &s) {
            for i in 0..flow::PACKET_WORDS {
                let m = mask.words()[i];
                want.words_mut()[i] = before.words()[i] & !m | value.words()[i];
            }
        }
        let mut got = after;
        if group == SetGroup::Icmp {
            for k in [&mut want, &mut got] {
                (k.nd_target, k.nd_reserved, k.nd_options_type) = ([0; 16], 0, 0);
                (k.arp_sha, k.arp_tha) = ([0; 6], [0; 6]);
            }
        }
        if matches!(s.l4, L4::Nd) && matches!(group, SetGroup::Nd | SetGroup::Icmp) {
            // An all-zero address in an option reads as none.
            (want.nd_options_type, got.nd_options_type) = (0, 0);
        }
        prop_assert_eq!(got, want);
        // Checksums are those of a packet built with these contents.
        let (l3, frame) = (p.l3().unwrap(), p.frame());
        if !s.v6 {
            prop_assert_eq!(checksum(&frame[l3..l3 + 20]), 0);
        }
        let l4 = p.l4().unwrap();
        let fresh = sum(&s, &frame[l3..], &frame[l4..]);
        // 0 and 0xffff are the same sum.
        let mut old = frame[l4..].to_vec();
        if let Some(at) = csum_at(&s) {
            for b in [&mut old] {
                if b[at..at + 2] == [0xff, 0xff] && fresh[at..at + 2] == [0, 0]
                    || b[at..at + 2] == [0, 0] && fresh[at..at + 2] == [0xff, 0xff]
                {
                    b[at..at + 2].copy_from_slice(&fresh[at..at + 2]);
                }
            }
        }
        prop_assert_eq!(old, fresh);
    }

    #[test]
    fn no_bytes_make_rewriting_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        dl_type in proptest::sample::select(&[0x0800u16, 0x86dd, 0x0806, 0x8847, 0x894f, 0x1234][..]),
        nw_proto in proptest::sample::select(&[1u8, 6, 17, 58, 132, 9][..]),
        l3 in 0usize..60,
        l4 in 0usize..100,
        value in any::<[u64; flow::PACKET_WORDS]>(),
    ) {
        let value = PacketKey::from_words(value);
        for group in SET_GROUPS.into_iter().chain([SetGroup::Arp, SetGroup::Mpls, SetGroup::Nsh]) {
            let mut p = PacketBuf::from_frame(&bytes);
            p.set_layers(Some(l3), Some(l4));
            let mut key = PacketKey { dl_type, nw_proto, ..PacketKey::ZERO };
            (key.nsh_mdtype, key.nsh_np) = (1, value.nsh_np & 7);
            let set = SetMasked { group, value, mask: value };
            datapath::rewrite::set(&mut p, &mut key, &set);
            prop_assert_eq!(p.len(), bytes.len());
            datapath::rewrite::pop_mpls(&mut p, &mut key, 0x0800);
            datapath::rewrite::push_mpls(&mut p, &mut key, 0x8847, 1);
            datapath::rewrite::pop_vlan(&mut p);
            datapath::rewrite::push_vlan(&mut p, 0x8100, 1);
            datapath::rewrite::pop_eth(&mut p);
            datapath::rewrite::push_eth(&mut p, [0; 6], [0; 6], 1);
            key.packet_type = 0x1894f;
            datapath::rewrite::pop_nsh(&mut p, &mut key);
            datapath::rewrite::add_mpls(&mut p, &mut key, 0x8847, 1);
            datapath::rewrite::pop_mpls(&mut p, &mut key, 0x0800);
        }
    }

    #[test]
    fn tags_pushed_and_popped_leave_the_packet_as_it_was(
        s in shapes(),
        tags in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..4),
    ) {
        let mut p = build(&s);
        parsed(&mut p);
        let (frame, offload, layers) = (p.frame().to_vec(), p.offload, (p.l3(), p.l4()));
        for (outer, tci) in &tags {
            let tpid = if *outer { 0x88a8 } else { 0x8100 };
            datapath::rewrite::push_vlan(&mut p, tpid, *tci);
            let start = usize::from(p.offload.csum_start);
            prop_assert!(!p.offload.needs_csum || Some(start) == p.l4());
        }
        prop_assert_eq!(p.len(), frame.len() + 4 * tags.len());
        for _ in &tags {
            prop_assert!(datapath::rewrite::pop_vlan(&mut p));
        }
        prop_assert_eq!(p.frame(), &frame[..]);
        prop_assert_eq!((p.offload, (p.l3(), p.l4())), (offload, layers));
    }
}
