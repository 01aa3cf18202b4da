//! Header rewriting: whatever frame, whatever set action; a right checksum stays right.
//!
//! Input: a byte for the group of fields, one of flags, eight that value and mask are made from, the frame.

use datapath::rewrite;
use dpif::{SetGroup, SetMasked};
use flow::{PACKET_WORDS, PacketKey, nw_frag};
use packet::PacketBuf;
use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use packet::header::{ethertype, ipproto};

use crate::input::{Input, Random};

const GROUPS: [SetGroup; 11] = [
    SetGroup::Eth,
    SetGroup::Mpls,
    SetGroup::Ipv4,
    SetGroup::Ipv6,
    SetGroup::Arp,
    SetGroup::Nd,
    SetGroup::NdExtensions,
    SetGroup::Tcp,
    SetGroup::Udp,
    SetGroup::Sctp,
    SetGroup::Icmp,
];

fn word(b: &[u8]) -> u32 {
    b.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

fn address(b: &[u8]) -> &[u8; 16] {
    b.first_chunk().unwrap_or(&[0; 16])
}

/// Whether the checksums of a whole packet with its header directly before the transport header are right:
/// of the IPv4 header and of the transport header; `None` where there is none to be checked.
fn sums(pkt: &PacketBuf, key: &PacketKey) -> (Option<bool>, Option<bool>) {
    let (Some(l3), Some(l4)) = (pkt.l3(), pkt.l4()) else { return (None, None) };
    let ip = &pkt.frame()[l3..];
    let v4 = key.dl_type == ethertype::IPV4;
    let header = v4.then(|| checksum(&ip[..l4 - l3]) == 0);
    let end = if v4 { word(ip) & 0xffff } else { 40 + (word(&ip[4..]) >> 16) } as usize;
    // Behind an IPv6 routing header the sum is over another address than the header's.
    if key.nw_frag & nw_frag::ANY != 0 || end > ip.len() || (!v4 && l4 - l3 != 40) {
        return (header, None);
    }
    let Some(body) = ip.get(l4 - l3..end) else { return (header, None) };
    let len = body.len() as u32;
    let least = match key.nw_proto {
        ipproto::TCP => 20,
        ipproto::UDP => 8,
        ipproto::ICMP | ipproto::ICMPV6 => 8,
        _ => return (header, None),
    };
    if body.len() < least || (key.nw_proto == ipproto::UDP && body[6..8] == [0, 0]) {
        return (header, None);
    }
    let pseudo = match (v4, key.nw_proto) {
        (true, ipproto::ICMP) => 0,
        (true, ipproto::ICMPV6) | (false, ipproto::ICMP) => return (header, None),
        (true, p) => pseudo_v4(word(&ip[12..]), word(&ip[16..]), p, len),
        (false, p) => pseudo_v6(address(&ip[8..]), address(&ip[24..]), p, len),
    };
    (header, Some(finish(add(pseudo, body)) == 0))
}

/// Sets fields; then pushes and pops headers.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let group = GROUPS[input.below(GROUPS.len())];
    let flags = input.u8();
    let mut random = Random(input.u64());
    let mut words =
        || PacketKey::from_words(std::array::from_fn::<_, PACKET_WORDS, _>(|_| random.next_u64()));
    let mut mask = words();
    if flags & 1 != 0 {
        mask = PacketKey::from_words([u64::MAX; PACKET_WORDS]);
    }
    if matches!(group, SetGroup::Icmp) {
        // ICMP types and codes are numbers of 8 bits, in fields of 16.
        (mask.tp_src, mask.tp_dst) = (mask.tp_src & 0xff, mask.tp_dst & 0xff);
    }
    mask.ipv6_label &= 0xf_ffff;
    let value = &words() & &mask;
    let frame = input.rest();
    let mut pkt = PacketBuf::from_frame(frame);
    let mut key = PacketKey::ZERO;
    flow::extract(&mut pkt, &mut key);
    let before = sums(&pkt, &key);
    rewrite::set(&mut pkt, &mut key, &SetMasked { group, value, mask });
    assert_eq!(pkt.len(), frame.len(), "setting fields changes no length");
    let mut after_key = PacketKey::ZERO;
    let mut after_pkt = PacketBuf::from_frame(pkt.frame());
    flow::extract(&mut after_pkt, &mut after_key);
    assert_eq!((after_key.dl_type, after_pkt.l3()), (key.dl_type, pkt.l3()));
    let after = sums(&after_pkt, &after_key);
    if before.0 == Some(true) {
        assert_eq!(after.0, Some(true), "IP checksum, {group:?}");
    }
    if before.1 == Some(true) {
        assert_eq!(after.1, Some(true), "transport checksum, {group:?}");
    }
    let whole = pkt.frame().to_vec();
    rewrite::push_vlan(&mut pkt, ethertype::VLAN, 0x2005);
    if whole.len() >= 14 {
        assert!(rewrite::pop_vlan(&mut pkt));
    }
    assert_eq!(pkt.frame(), whole);
    rewrite::pop_vlan(&mut pkt);
    let mut key = PacketKey::ZERO;
    rewrite::push_mpls(&mut pkt, &mut key, ethertype::MPLS, 0x1140);
    flow::extract(&mut pkt, &mut key);
    rewrite::pop_mpls(&mut pkt, &mut key, ethertype::IPV4);
    rewrite::pop_eth(&mut pkt);
    rewrite::push_eth(&mut pkt, [2; 6], [4; 6], ethertype::IPV6);
    flow::extract(&mut pkt, &mut PacketKey::ZERO.clone());
}
