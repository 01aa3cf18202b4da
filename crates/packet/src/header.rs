//! Header numbers and sizes: one table per protocol registry.
//!
//! Sources: IEEE 802 numbers, IANA protocol numbers, the RFCs named beside each group.

/// Ethernet header bytes.
pub const ETH_LEN: usize = 14;
/// 802.1Q tag bytes.
pub const VLAN_LEN: usize = 4;
/// IPv4 header bytes without options.
pub const IPV4_LEN: usize = 20;
/// IPv6 header bytes without extension headers.
pub const IPV6_LEN: usize = 40;
/// TCP header bytes without options.
pub const TCP_LEN: usize = 20;
/// UDP header bytes.
pub const UDP_LEN: usize = 8;
/// SCTP common header bytes.
pub const SCTP_LEN: usize = 12;
/// ICMP header bytes.
pub const ICMP_LEN: usize = 8;
/// ARP for Ethernet and IPv4 bytes.
pub const ARP_LEN: usize = 28;

macro_rules! numbers {
    ($(#[$doc:meta])* $vis:vis mod $name:ident: $ty:ty { $($(#[$d:meta])* $id:ident = $v:expr;)* }) => {
        $(#[$doc])*
        $vis mod $name {
            $($(#[$d])* pub const $id: $ty = $v;)*
        }
    };
}

numbers! {
    /// EtherTypes. Frames with a length field instead have [`ethertype::NOT_ETH_TYPE`] in keys.
    pub mod ethertype: u16 {
        /// OpenFlow's number for an 802.2 frame without SNAP.
        NOT_ETH_TYPE = 0x05ff;
        /// Smallest EtherType; below it the field is an 802.3 length.
        MIN = 0x0600;
        /// IPv4.
        IPV4 = 0x0800;
        /// ARP.
        ARP = 0x0806;
        /// RARP.
        RARP = 0x8035;
        /// 802.1Q customer tag.
        VLAN = 0x8100;
        /// IPv6.
        IPV6 = 0x86dd;
        /// MPLS unicast.
        MPLS = 0x8847;
        /// MPLS multicast.
        MPLS_MCAST = 0x8848;
        /// 802.1ad service tag.
        QINQ = 0x88a8;
        /// LACP and other slow protocols.
        SLOW = 0x8809;
        /// Ethernet within something that has EtherTypes.
        TEB = 0x6558;
        /// NSH, RFC 8300.
        NSH = 0x894f;
    }
}

numbers! {
    /// IP protocol numbers.
    pub mod ipproto: u8 {
        /// ICMP.
        ICMP = 1;
        /// IGMP.
        IGMP = 2;
        /// TCP.
        TCP = 6;
        /// UDP.
        UDP = 17;
        /// IPv6 hop-by-hop options.
        HOPOPTS = 0;
        /// IPv6 routing header.
        ROUTING = 43;
        /// IPv6 fragment header.
        FRAGMENT = 44;
        /// GRE.
        GRE = 47;
        /// Authentication header.
        AH = 51;
        /// ICMPv6.
        ICMPV6 = 58;
        /// IPv6 no next header.
        NONE = 59;
        /// IPv6 destination options.
        DSTOPTS = 60;
        /// SCTP.
        SCTP = 132;
        /// Mobility header.
        MH = 135;
    }
}

numbers! {
    /// TCP flag bits of header bytes 12 and 13 (RFC 9293 §3.1; bit 8 is NS).
    pub mod tcp_flag: u16 {
        /// No more data from sender.
        FIN = 0x001;
        /// Synchronize sequence numbers.
        SYN = 0x002;
        /// Reset the connection.
        RST = 0x004;
        /// Push.
        PSH = 0x008;
        /// Acknowledgment field significant.
        ACK = 0x010;
        /// Urgent pointer significant.
        URG = 0x020;
        /// ECN echo.
        ECE = 0x040;
        /// Congestion window reduced.
        CWR = 0x080;
        /// ECN nonce.
        NS = 0x100;
    }
}

numbers! {
    /// ICMP types (RFC 792).
    pub mod icmp: u8 {
        /// Echo reply.
        ECHO_REPLY = 0;
        /// Destination unreachable.
        DST_UNREACH = 3;
        /// Source quench.
        SOURCE_QUENCH = 4;
        /// Redirect.
        REDIRECT = 5;
        /// Echo request.
        ECHO_REQUEST = 8;
        /// Time exceeded.
        TIME_EXCEEDED = 11;
        /// Parameter problem.
        PARAM_PROB = 12;
        /// Timestamp request.
        TIMESTAMP = 13;
        /// Timestamp reply.
        TIMESTAMP_REPLY = 14;
        /// Information request.
        INFO_REQUEST = 15;
        /// Information reply.
        INFO_REPLY = 16;
        /// Address mask request.
        MASK_REQUEST = 17;
        /// Address mask reply.
        MASK_REPLY = 18;
    }
}

numbers! {
    /// ICMPv6 types (RFC 4443, RFC 4861).
    pub mod icmpv6: u8 {
        /// Destination unreachable.
        DST_UNREACH = 1;
        /// Packet too big.
        PACKET_TOO_BIG = 2;
        /// Time exceeded.
        TIME_EXCEEDED = 3;
        /// Parameter problem.
        PARAM_PROB = 4;
        /// Echo request.
        ECHO_REQUEST = 128;
        /// Echo reply.
        ECHO_REPLY = 129;
        /// Router solicitation.
        ROUTER_SOLICIT = 133;
        /// Router advertisement.
        ROUTER_ADVERT = 134;
        /// Neighbour solicitation.
        NEIGHBOR_SOLICIT = 135;
        /// Neighbour advertisement.
        NEIGHBOR_ADVERT = 136;
        /// Redirect.
        REDIRECT = 137;
    }
}

/// Big-endian 16-bit word at `at`, if the slice reaches so far.
#[inline]
pub fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// Big-endian 32-bit word at `at`, if the slice reaches so far.
#[inline]
pub fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}
