//! Flow keys and masks.
//!
//! Layout: stages of the classifier in order (pipeline metadata, packet metadata with conntrack,
//! L2, L3, L4), each field at a fixed place, so that a prefix of the words is a stage. Integers
//! are in host order; addresses that are arrays are in wire order. Fields that do not exist in a
//! packet are zero.

use core::fmt;
use core::ops::{BitAnd, BitOrAssign};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::tun_metadata::TunMetadata;

/// Set in [`VlanTag::tci`] when there is a tag (the CFI bit's place).
pub const VLAN_PRESENT: u16 = 0x1000;

/// Bits of `ct_state` (`ovs-fields(7)`).
pub mod ct_state {
    /// Beginning of a connection that is not committed yet.
    pub const NEW: u8 = 0x01;
    /// Part of an existing connection.
    pub const EST: u8 = 0x02;
    /// Related to an existing connection.
    pub const REL: u8 = 0x04;
    /// In the reply direction.
    pub const RPL: u8 = 0x08;
    /// The tracker could not make sense of it.
    pub const INV: u8 = 0x10;
    /// Has been through the tracker.
    pub const TRK: u8 = 0x20;
    /// Source was translated.
    pub const SNAT: u8 = 0x40;
    /// Destination was translated.
    pub const DNAT: u8 = 0x80;
}

/// `ct_state` bits of which a packet of a known connection has at least one.
pub(crate) const CT_STATE_VALID: u8 =
    ct_state::NEW | ct_state::EST | ct_state::REL | ct_state::RPL | ct_state::SNAT | ct_state::DNAT;

/// Names of the `ct_state` bits, in bit order.
pub const CT_STATE_FLAGS: [(&str, u8); 8] = [
    ("new", ct_state::NEW),
    ("est", ct_state::EST),
    ("rel", ct_state::REL),
    ("rpl", ct_state::RPL),
    ("inv", ct_state::INV),
    ("trk", ct_state::TRK),
    ("snat", ct_state::SNAT),
    ("dnat", ct_state::DNAT),
];

/// Bits of `nw_frag`.
pub mod nw_frag {
    /// Any fragment.
    pub const ANY: u8 = 1;
    /// A fragment with non-zero offset.
    pub const LATER: u8 = 2;
}

/// One VLAN tag. All zero when absent.
#[repr(C)]
#[derive(
    Copy, Clone, PartialEq, Eq, Hash, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VlanTag {
    /// Tag protocol, 0x8100 or 0x88a8.
    pub tpid: u16,
    /// PCP, [`VLAN_PRESENT`], VID.
    pub tci: u16,
}

/// The tunnel a packet came out of or goes into. All zero without one.
#[repr(C)]
#[derive(
    Copy, Clone, PartialEq, Eq, Hash, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TunnelKey {
    /// VNI, GRE key and the like.
    pub tun_id: u64,
    /// Outer IPv4 source.
    pub src: u32,
    /// Outer IPv4 destination.
    pub dst: u32,
    /// Outer IPv6 source.
    pub ipv6_src: [u8; 16],
    /// Outer IPv6 destination.
    pub ipv6_dst: [u8; 16],
    /// Don't-fragment, checksum, key, OAM.
    pub flags: u16,
    /// VXLAN group policy id.
    pub gbp_id: u16,
    /// VXLAN group policy flags.
    pub gbp_flags: u8,
    /// Outer TOS.
    pub tos: u8,
    /// Outer TTL.
    pub ttl: u8,
    /// ERSPAN version.
    pub erspan_ver: u8,
    /// ERSPAN index.
    pub erspan_idx: u32,
    /// ERSPAN direction.
    pub erspan_dir: u8,
    /// ERSPAN hardware id.
    pub erspan_hwid: u8,
    /// GTP-U flags.
    pub gtpu_flags: u8,
    /// GTP-U message type.
    pub gtpu_msgtype: u8,
}

/// What the datapath sees of a packet.
#[repr(C)]
#[derive(
    Copy, Clone, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PacketKey {
    /// Tunnel metadata.
    pub tunnel: TunnelKey,
    /// Linux packet priority.
    pub skb_priority: u32,
    /// Linux packet mark.
    pub pkt_mark: u32,
    /// Hash computed by the datapath's hash action.
    pub dp_hash: u32,
    /// Which frozen pipeline state to resume; 0 for a fresh packet.
    pub recirc_id: u32,
    /// Ingress port: a datapath port number in the datapath, an OpenFlow one in ofproto.
    pub in_port: u32,
    /// OpenFlow packet type: namespace in the high half; 0 is Ethernet.
    pub packet_type: u32,
    /// [`ct_state`] bits.
    pub ct_state: u8,
    /// IP protocol of the connection's original direction.
    pub ct_nw_proto: u8,
    /// Conntrack zone.
    pub ct_zone: u16,
    /// Connection mark.
    pub ct_mark: u32,
    /// Connection label.
    pub ct_label: [u8; 16],
    /// IPv4 source of the original direction.
    pub ct_nw_src: u32,
    /// IPv4 destination of the original direction.
    pub ct_nw_dst: u32,
    /// IPv6 source of the original direction.
    pub ct_ipv6_src: [u8; 16],
    /// IPv6 destination of the original direction.
    pub ct_ipv6_dst: [u8; 16],
    /// Source port of the original direction.
    pub ct_tp_src: u16,
    /// Destination port of the original direction.
    pub ct_tp_dst: u16,
    #[doc(hidden)]
    pub _pad_ct: u32,
    /// Ethernet destination.
    pub dl_dst: [u8; 6],
    /// Ethernet source.
    pub dl_src: [u8; 6],
    /// EtherType behind all VLAN tags; 0x05ff for 802.2 without SNAP.
    pub dl_type: u16,
    /// Of what is looked up in a flow table: not zero if there is no Ethernet header. Requirements of such
    /// headers ask for zero ([`crate::Match::tie_to_ethernet`]). Nowhere else is it anything but zero.
    pub not_ethernet: u16,
    /// VLAN tags, outermost first.
    pub vlans: [VlanTag; 2],
    /// MPLS label stack entries, outermost first.
    pub mpls_lse: [u32; 3],
    #[doc(hidden)]
    pub _pad_mpls: u32,
    /// NSH flags.
    pub nsh_flags: u8,
    /// NSH TTL.
    pub nsh_ttl: u8,
    /// NSH metadata type.
    pub nsh_mdtype: u8,
    /// NSH next protocol.
    pub nsh_np: u8,
    /// NSH service path id (24 bits) and index (8 bits).
    pub nsh_path: u32,
    /// NSH context headers.
    pub nsh_context: [u32; 4],
    /// IPv4 source, or ARP sender.
    pub nw_src: u32,
    /// IPv4 destination, or ARP target.
    pub nw_dst: u32,
    /// IPv6 source.
    pub ipv6_src: [u8; 16],
    /// IPv6 destination.
    pub ipv6_dst: [u8; 16],
    /// IPv6 flow label, 20 bits.
    pub ipv6_label: u32,
    /// IP protocol, or ARP opcode.
    pub nw_proto: u8,
    /// DSCP and ECN.
    pub nw_tos: u8,
    /// TTL or hop limit.
    pub nw_ttl: u8,
    /// [`nw_frag`] bits.
    pub nw_frag: u8,
    /// ARP sender hardware address, or ND source link-layer address.
    pub arp_sha: [u8; 6],
    /// ARP target hardware address, or ND target link-layer address.
    pub arp_tha: [u8; 6],
    /// TCP flags, 12 bits.
    pub tcp_flags: u16,
    /// ND options type.
    pub nd_options_type: u8,
    #[doc(hidden)]
    pub _pad_l3: u8,
    /// Neighbour discovery target.
    pub nd_target: [u8; 16],
    /// ND reserved word, or IGMP group.
    pub nd_reserved: u32,
    /// TCP/UDP/SCTP source port; ICMP type.
    pub tp_src: u16,
    /// TCP/UDP/SCTP destination port; ICMP code.
    pub tp_dst: u16,
}

/// Words of a [`PacketKey`].
pub const PACKET_WORDS: usize = size_of::<PacketKey>() / 8;
/// Words of a [`FlowKey`].
pub const FLOW_WORDS: usize = size_of::<FlowKey>() / 8;

// One u128 can tell which words of a key are in use.
const _: () = assert!(FLOW_WORDS <= 128);

/// What OpenFlow tables match: the packet and its pipeline state.
#[repr(C)]
#[derive(
    Copy, Clone, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlowKey {
    /// OpenFlow metadata.
    pub metadata: u64,
    /// Conjunction id.
    pub conj_id: u32,
    /// Output port in the action set, as a 16-bit OpenFlow number; unset is
    /// [`base::OfPort::UNSET`].
    pub actset_output: u32,
    /// Registers.
    pub regs: [u32; 32],
    /// Options of the tunnel header. The datapath's key has no room for them.
    pub tun_metadata: TunMetadata,
    /// The packet.
    pub pkt: PacketKey,
}

macro_rules! words {
    ($ty:ident, $n:ident) => {
        impl $ty {
            /// All bits zero: as a key an empty packet, as a mask "matches everything".
            pub const ZERO: $ty = zerocopy::transmute!([0u64; $n]);

            /// The key as words.
            #[inline]
            pub fn words(&self) -> &[u64; $n] {
                zerocopy::transmute_ref!(self)
            }

            /// The key as writable words.
            #[inline]
            pub fn words_mut(&mut self) -> &mut [u64; $n] {
                zerocopy::transmute_mut!(self)
            }

            /// The key with these words.
            pub fn from_words(words: [u64; $n]) -> Self {
                zerocopy::transmute!(words)
            }

            /// Bit `i` is set when word `i` is not zero.
            #[inline]
            pub fn map(&self) -> u128 {
                self.words().iter().enumerate().fold(0, |m, (i, &w)| m | (u128::from(w != 0) << i))
            }

            /// Whether no bit is set.
            pub fn is_zero(&self) -> bool {
                self.words().iter().all(|&w| w == 0)
            }

            /// Whether `self` and `other` agree on all bits that are set in `mask`.
            #[inline]
            pub fn eq_masked(&self, other: &Self, mask: &Self) -> bool {
                let (a, b, m) = (self.words(), other.words(), mask.words());
                (0..$n).all(|i| (a[i] ^ b[i]) & m[i] == 0)
            }
        }

        impl BitAnd for &$ty {
            type Output = $ty;

            fn bitand(self, rhs: &$ty) -> $ty {
                let (a, b) = (self.words(), rhs.words());
                $ty::from_words(core::array::from_fn(|i| a[i] & b[i]))
            }
        }

        impl BitOrAssign<&$ty> for $ty {
            fn bitor_assign(&mut self, rhs: &$ty) {
                for (a, b) in self.words_mut().iter_mut().zip(rhs.words()) {
                    *a |= b;
                }
            }
        }

        impl fmt::Debug for $ty {
            /// The non-zero fields by name.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::field::debug_fields(f, self)
            }
        }
    };
}

words!(PacketKey, PACKET_WORDS);
words!(FlowKey, FLOW_WORDS);

impl From<PacketKey> for FlowKey {
    fn from(pkt: PacketKey) -> FlowKey {
        FlowKey { pkt, actset_output: u32::from(base::OfPort::UNSET.0), ..FlowKey::new_zeroed() }
    }
}

/// A value and the bits of it that count. `key` has no bit outside `mask`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Match {
    /// The value wanted.
    pub key: FlowKey,
    /// Its significant bits.
    pub mask: FlowKey,
}

impl Match {
    /// Matches every packet.
    pub const ANY: Match = Match { key: FlowKey::ZERO, mask: FlowKey::ZERO };

    /// Whether `key` agrees with this match.
    pub fn matches(&self, key: &FlowKey) -> bool {
        self.key.eq_masked(key, &self.mask)
    }

    /// Whether every packet that `self` matches is matched by `other` too.
    pub fn is_within(&self, other: &Match) -> bool {
        let (m, n) = (self.mask.words(), other.mask.words());
        m.iter().zip(n).all(|(m, n)| n & !m == 0) && self.key.eq_masked(&other.key, &other.mask)
    }

    /// Whether some packet could match both.
    pub fn overlaps(&self, other: &Match) -> bool {
        self.key.eq_masked(&other.key, &(&self.mask & &other.mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_caches_count_on() {
        assert_eq!(size_of::<PacketKey>(), 312);
        assert_eq!(size_of::<FlowKey>(), 312 + 144 + size_of::<TunMetadata>());
        assert_eq!(align_of::<FlowKey>(), 8);
    }

    #[test]
    fn words_and_fields_are_the_same_memory() {
        let mut k = FlowKey::ZERO;
        k.pkt.tp_dst = 80;
        assert_eq!(k.map().count_ones(), 1);
        let mut m = FlowKey::ZERO;
        m.pkt.tp_dst = 0xff;
        let mut other = k;
        other.pkt.tp_dst = 0x150;
        assert!(k.eq_masked(&other, &m));
        m.pkt.tp_dst = 0x1ff;
        assert!(!k.eq_masked(&other, &m));
    }

    #[test]
    fn within_and_overlap() {
        let mut wide = Match::ANY;
        wide.mask.pkt.dl_type = 0xffff;
        wide.key.pkt.dl_type = 0x800;
        let mut narrow = wide;
        narrow.mask.pkt.nw_proto = 0xff;
        narrow.key.pkt.nw_proto = 6;
        assert!(narrow.is_within(&wide) && !wide.is_within(&narrow));
        assert!(wide.overlaps(&narrow));
        let mut other = wide;
        other.key.pkt.dl_type = 0x806;
        assert!(!other.overlaps(&narrow));
    }
}
