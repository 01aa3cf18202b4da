//! Groups of key fields and how their items are written: the table.

use flow::PacketKey;
use packet::header::{ethertype, icmpv6, ipproto};

/// How an item's value and its mask are written. A mask of all ones is not written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `80/0xff00`, empty mask `/0`.
    Dec,
    /// `0x1/0xf`, zero as `0`.
    Hex,
    /// `10/0xfff`, empty mask `/0x0`.
    Dec0x,
    /// `3/7`, both without a prefix, the mask in hexadecimal.
    DecX,
    /// `3`, and with a mask `0x03/0x07`.
    Dec2x,
    /// `0x3`, and with a mask `0x3/0x00000007`.
    Hex8x,
    /// Ethernet address.
    Mac,
    /// IPv4 address.
    Ip4,
    /// IPv6 address.
    Ip6,
    /// `no`, `first`, `later`; never a mask.
    Frag,
}

/// One item: `name=value/mask`.
pub(super) struct Item {
    pub name: &'static str,
    pub bits: u32,
    pub style: Style,
    pub get: fn(&PacketKey) -> u128,
    pub set: fn(&mut PacketKey, u128),
}

impl Item {
    pub(super) fn all_ones(&self) -> u128 {
        if self.bits == 128 { u128::MAX } else { (1 << self.bits) - 1 }
    }
}

/// `name(item,item,…)`.
pub(super) struct Group {
    pub name: &'static str,
    /// Whether a packet with this key has the group's header.
    pub exists: fn(&PacketKey) -> bool,
    pub items: &'static [Item],
}

trait Bits: Copy {
    fn to_u128(self) -> u128;
    fn from_u128(v: u128) -> Self;
}

macro_rules! bits_int {
    ($($t:ty)*) => {$(
        impl Bits for $t {
            fn to_u128(self) -> u128 { u128::from(self) }
            fn from_u128(v: u128) -> Self { v as $t }
        }
    )*};
}
bits_int!(u8 u16 u32 u64);

impl Bits for [u8; 6] {
    fn to_u128(self) -> u128 {
        u128::from(base::MacAddr(self).to_u64())
    }

    fn from_u128(v: u128) -> Self {
        base::MacAddr::from_u64(v as u64).0
    }
}

impl Bits for [u8; 16] {
    fn to_u128(self) -> u128 {
        u128::from_be_bytes(self)
    }

    fn from_u128(v: u128) -> Self {
        v.to_be_bytes()
    }
}

macro_rules! item {
    ($name:literal, $bits:literal, $style:ident, $($field:tt)+) => {
        Item {
            name: $name,
            bits: $bits,
            style: Style::$style,
            get: |k| Bits::to_u128(k.$($field)+),
            set: |k, v| k.$($field)+ = Bits::from_u128(v),
        }
    };
}

/// Bits `shift .. shift + bits` of an integer field.
macro_rules! part {
    ($name:literal, $bits:literal << $shift:literal, $style:ident, $ty:ty, $($field:tt)+) => {
        Item {
            name: $name,
            bits: $bits,
            style: Style::$style,
            get: |k| u128::from((k.$($field)+ >> $shift) & ((1 << $bits) - 1)),
            set: |k, v| {
                let all: $ty = (1 << $bits) - 1;
                k.$($field)+ = k.$($field)+ & !(all << $shift) | ((v as $ty & all) << $shift);
            },
        }
    };
}

const V4: fn(&PacketKey) -> bool = |k| k.dl_type == ethertype::IPV4;
const V6: fn(&PacketKey) -> bool = |k| k.dl_type == ethertype::IPV6;

/// IP of this protocol, and not a later fragment.
fn l4(k: &PacketKey, proto: u8) -> bool {
    (V4(k) || V6(k)) && k.nw_proto == proto && k.nw_frag & flow::nw_frag::LATER == 0
}

fn is_nd(k: &PacketKey) -> bool {
    V6(k)
        && l4(k, ipproto::ICMPV6)
        && [icmpv6::NEIGHBOR_SOLICIT, icmpv6::NEIGHBOR_ADVERT].iter().any(|&t| k.tp_src == t.into())
        && k.tp_dst == 0
}

macro_rules! groups {
    ($($id:ident = $name:literal, $exists:expr, [$($item:expr),* $(,)?];)*) => {
        $(pub(super) static $id: Group = Group { name: $name, exists: $exists, items: &[$($item),*] };)*
        /// All groups, for the parser.
        pub(super) static GROUPS: &[&Group] = &[$(&$id),*];
    };
}

groups! {
    SKB_PRIORITY = "skb_priority", |_| true, [item!("", 32, Hex, skb_priority)];
    SKB_MARK = "skb_mark", |_| true, [item!("", 32, Hex, pkt_mark)];
    TUNNEL = "tunnel", |k| k.tunnel.dst != 0 || k.tunnel.ipv6_dst != [0; 16], [
        item!("tun_id", 64, Hex, tunnel.tun_id),
        item!("src", 32, Ip4, tunnel.src), item!("dst", 32, Ip4, tunnel.dst),
        item!("ipv6_src", 128, Ip6, tunnel.ipv6_src), item!("ipv6_dst", 128, Ip6, tunnel.ipv6_dst),
        item!("tos", 8, Hex, tunnel.tos), item!("ttl", 8, Dec, tunnel.ttl),
        item!("flags", 16, Hex, tunnel.flags)];
    CT_ZONE = "ct_zone", |_| true, [item!("", 16, Hex, ct_zone)];
    CT_MARK = "ct_mark", |_| true, [item!("", 32, Hex, ct_mark)];
    CT_LABEL = "ct_label", |_| true, [item!("", 128, Hex, ct_label)];
    CT_TUPLE4 = "ct_tuple4", |k| k.ct_nw_proto != 0 && k.dl_type == ethertype::IPV4, [
        item!("src", 32, Ip4, ct_nw_src), item!("dst", 32, Ip4, ct_nw_dst),
        item!("proto", 8, Dec, ct_nw_proto),
        item!("tp_src", 16, Dec, ct_tp_src), item!("tp_dst", 16, Dec, ct_tp_dst)];
    CT_TUPLE6 = "ct_tuple6", |k| k.ct_nw_proto != 0 && k.dl_type == ethertype::IPV6, [
        item!("src", 128, Ip6, ct_ipv6_src), item!("dst", 128, Ip6, ct_ipv6_dst),
        item!("proto", 8, Dec, ct_nw_proto),
        item!("tp_src", 16, Dec, ct_tp_src), item!("tp_dst", 16, Dec, ct_tp_dst)];
    RECIRC_ID = "recirc_id", |_| true, [item!("", 32, Hex, recirc_id)];
    DP_HASH = "dp_hash", |_| true, [item!("", 32, Hex, dp_hash)];
    PACKET_TYPE = "packet_type", |_| true, [
        part!("ns", 16 << 16, Dec, u32, packet_type), part!("id", 16 << 0, Hex, u32, packet_type)];
    ETH = "eth", |k| k.packet_type == 0, [
        item!("src", 48, Mac, dl_src), item!("dst", 48, Mac, dl_dst)];
    VLAN = "vlan", |k| k.vlans[0].tpid != 0, [
        part!("vid", 12 << 0, Dec0x, u16, vlans[0].tci),
        part!("pcp", 3 << 13, Dec0x, u16, vlans[0].tci)];
    VLAN_INNER = "vlan", |k| k.vlans[1].tpid != 0, [
        part!("vid", 12 << 0, Dec0x, u16, vlans[1].tci),
        part!("pcp", 3 << 13, Dec0x, u16, vlans[1].tci)];
    MPLS = "mpls", |k| matches!(k.dl_type, ethertype::MPLS | ethertype::MPLS_MCAST), [
        part!("label", 20 << 12, Dec0x, u32, mpls_lse[0]),
        part!("tc", 3 << 9, DecX, u32, mpls_lse[0]),
        part!("ttl", 8 << 0, Dec0x, u32, mpls_lse[0]),
        part!("bos", 1 << 8, DecX, u32, mpls_lse[0])];
    NSH = "nsh", |k| k.dl_type == ethertype::NSH, [
        item!("flags", 8, Dec2x, nsh_flags), item!("ttl", 8, Dec2x, nsh_ttl),
        item!("mdtype", 8, Dec2x, nsh_mdtype), item!("np", 8, Dec2x, nsh_np),
        part!("spi", 24 << 8, Hex8x, u32, nsh_path), part!("si", 8 << 0, Dec2x, u32, nsh_path),
        item!("c1", 32, Hex8x, nsh_context[0]), item!("c2", 32, Hex8x, nsh_context[1]),
        item!("c3", 32, Hex8x, nsh_context[2]), item!("c4", 32, Hex8x, nsh_context[3])];
    IPV4 = "ipv4", V4, [
        item!("src", 32, Ip4, nw_src), item!("dst", 32, Ip4, nw_dst),
        item!("proto", 8, Dec, nw_proto), item!("tos", 8, Hex, nw_tos),
        item!("ttl", 8, Dec, nw_ttl), item!("frag", 8, Frag, nw_frag)];
    IPV6 = "ipv6", V6, [
        item!("src", 128, Ip6, ipv6_src), item!("dst", 128, Ip6, ipv6_dst),
        part!("label", 20 << 0, Hex, u32, ipv6_label), item!("proto", 8, Dec, nw_proto),
        item!("tclass", 8, Hex, nw_tos), item!("hlimit", 8, Dec, nw_ttl),
        item!("frag", 8, Frag, nw_frag)];
    ARP = "arp", |k| matches!(k.dl_type, ethertype::ARP | ethertype::RARP), [
        item!("sip", 32, Ip4, nw_src), item!("tip", 32, Ip4, nw_dst),
        item!("op", 8, Dec, nw_proto),
        item!("sha", 48, Mac, arp_sha), item!("tha", 48, Mac, arp_tha)];
    TCP = "tcp", |k| l4(k, ipproto::TCP), [
        item!("src", 16, Dec, tp_src), item!("dst", 16, Dec, tp_dst)];
    UDP = "udp", |k| l4(k, ipproto::UDP), [
        item!("src", 16, Dec, tp_src), item!("dst", 16, Dec, tp_dst)];
    SCTP = "sctp", |k| l4(k, ipproto::SCTP), [
        item!("src", 16, Dec, tp_src), item!("dst", 16, Dec, tp_dst)];
    ICMP = "icmp", |k| V4(k) && l4(k, ipproto::ICMP), [
        item!("type", 8, Dec, tp_src), item!("code", 8, Dec, tp_dst)];
    ICMPV6 = "icmpv6", |k| V6(k) && l4(k, ipproto::ICMPV6), [
        item!("type", 8, Dec, tp_src), item!("code", 8, Dec, tp_dst)];
    ND = "nd", is_nd, [
        item!("target", 128, Ip6, nd_target),
        item!("sll", 48, Mac, arp_sha), item!("tll", 48, Mac, arp_tha)];
    ND_EXT = "nd_ext", |_| false, [
        item!("nd_reserved", 32, Hex, nd_reserved),
        item!("nd_options_type", 8, Dec, nd_options_type)];
}

/// The order in which a key is written: before `in_port`, …
pub(super) static BEFORE_PORT: &[&Group] = &[&RECIRC_ID, &DP_HASH, &SKB_PRIORITY, &TUNNEL];
/// … between it and `ct_state` …
pub(super) static MARK: &[&Group] = &[&SKB_MARK];
/// … behind that, as far as the EtherType …
pub(super) static BEFORE_TYPE: &[&Group] =
    &[&CT_ZONE, &CT_MARK, &CT_LABEL, &CT_TUPLE4, &CT_TUPLE6, &PACKET_TYPE, &ETH];
/// … and behind the EtherType.
pub(super) static HEADERS: &[&Group] =
    &[&NSH, &IPV4, &IPV6, &ARP, &MPLS, &TCP, &UDP, &SCTP, &ICMP, &ICMPV6, &ND];

/// TCP flags: name, bit, letter in flow statistics; in the order of those letters.
pub const TCP_FLAGS: [(&str, u16, char); 9] = [
    ("syn", 0x002, 'S'),
    ("fin", 0x001, 'F'),
    ("psh", 0x008, 'P'),
    ("rst", 0x004, 'R'),
    ("urg", 0x020, 'U'),
    ("ack", 0x010, '.'),
    ("ece", 0x040, 'E'),
    ("cwr", 0x080, 'C'),
    ("ns", 0x100, 'N'),
];

/// `frag` words.
pub(super) const FRAGS: [(&str, u8); 3] = [
    ("no", 0),
    ("first", flow::nw_frag::ANY),
    ("later", flow::nw_frag::ANY | flow::nw_frag::LATER),
];
