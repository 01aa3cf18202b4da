//! What identifies a connection: addresses, protocol, ports or ICMP id, and the zone.
//!
//! [`Tuple`] is one direction as a person reads it. [`Key`] is the same for both directions: the
//! two endpoints in a fixed order (ICMP queries: as the request goes), so that a tuple and its
//! reverse are equal, hash equal and need one index entry. Which way a packet went is one bit
//! beside the key.

use base::{HashKey, Zone, hash_words};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use packet::header::{icmp, icmpv6, ipproto};

/// Direction of a packet within its connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dir {
    /// As the packet that was committed.
    Orig = 0,
    /// The way back.
    Reply = 1,
}

impl Dir {
    /// The opposite direction.
    #[inline]
    pub const fn flip(self) -> Dir {
        match self {
            Dir::Orig => Dir::Reply,
            Dir::Reply => Dir::Orig,
        }
    }
}

/// One direction of a connection.
///
/// The transport part is two 16-bit words: ports for TCP, UDP and SCTP; for ICMP and ICMPv6 the
/// query's identifier and `type << 8 | code`; zero for other protocols.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port, or ICMP identifier.
    pub src_id: u16,
    /// Destination port, or ICMP type and code.
    pub dst_id: u16,
}

/// Query types that open a connection, with their answers (RFC 792). Address mask requests are
/// none, as in OVS: they went out of use (RFC 6918).
pub const ICMP_QUERIES: [(u8, u8); 3] = [
    (icmp::ECHO_REQUEST, icmp::ECHO_REPLY),
    (icmp::TIMESTAMP, icmp::TIMESTAMP_REPLY),
    (icmp::INFO_REQUEST, icmp::INFO_REPLY),
];

/// The same for ICMPv6 (RFC 4443).
pub const ICMPV6_QUERIES: [(u8, u8); 1] = [(icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY)];

fn queries(proto: u8) -> &'static [(u8, u8)] {
    if proto == ipproto::ICMPV6 { &ICMPV6_QUERIES } else { &ICMP_QUERIES }
}

/// The ICMP type of the other direction, if `ty` is a query or an answer to one.
fn opposite_type(proto: u8, ty: u8) -> Option<u8> {
    queries(proto).iter().find_map(|&(q, a)| match ty {
        t if t == q => Some(a),
        t if t == a => Some(q),
        _ => None,
    })
}

/// Whether an ICMP type is an answer.
pub(crate) fn is_icmp_answer(proto: u8, ty: u8) -> bool {
    queries(proto).iter().any(|&(_, a)| a == ty)
}

/// Whether an ICMP type is a query.
pub(crate) fn is_icmp_query(proto: u8, ty: u8) -> bool {
    queries(proto).iter().any(|&(q, _)| q == ty)
}

impl Tuple {
    /// A tuple with ports.
    pub const fn ports(src: IpAddr, dst: IpAddr, proto: u8, sport: u16, dport: u16) -> Tuple {
        Tuple { src, dst, proto, src_id: sport, dst_id: dport }
    }

    /// An ICMP or ICMPv6 query (by the address family).
    pub const fn icmp(src: IpAddr, dst: IpAddr, id: u16, ty: u8, code: u8) -> Tuple {
        let proto = if src.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        Tuple { src, dst, proto, src_id: id, dst_id: (ty as u16) << 8 | code as u16 }
    }

    /// ICMP over IPv4 or ICMPv6 over IPv6.
    #[inline]
    pub const fn is_icmp(&self) -> bool {
        self.proto == if self.is_ipv6() { ipproto::ICMPV6 } else { ipproto::ICMP }
    }

    /// IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// ICMP identifier, type and code.
    pub const fn icmp_parts(&self) -> Option<(u16, u8, u8)> {
        if self.is_icmp() {
            Some((self.src_id, (self.dst_id >> 8) as u8, self.dst_id as u8))
        } else {
            None
        }
    }

    /// `ct_tp_src` of `ovs-fields(7)`: the source port, or the ICMP type.
    pub const fn tp_src(&self) -> u16 {
        if self.is_icmp() { self.dst_id >> 8 } else { self.src_id }
    }

    /// `ct_tp_dst` of `ovs-fields(7)`: the destination port, or the ICMP code.
    pub const fn tp_dst(&self) -> u16 {
        if self.is_icmp() { self.dst_id & 0xff } else { self.dst_id }
    }

    /// The tuple of a packet that answers this one.
    pub fn reverse(&self) -> Tuple {
        let (src_id, dst_id) = if self.is_icmp() {
            let (ty, code) = ((self.dst_id >> 8) as u8, self.dst_id & 0xff);
            let ty = opposite_type(self.proto, ty).unwrap_or(ty);
            (self.src_id, u16::from(ty) << 8 | code)
        } else {
            (self.dst_id, self.src_id)
        };
        Tuple { src: self.dst, dst: self.src, proto: self.proto, src_id, dst_id }
    }

    /// The key of the connection in `zone` that this tuple belongs to, and whether the tuple runs
    /// against the key's order.
    pub fn key(&self, zone: Zone) -> (Key, bool) {
        let ends = Ends { src: words(self.src), dst: words(self.dst), ipv6: self.is_ipv6() };
        if self.is_icmp() {
            ends.icmp_key(self.proto, self.src_id, self.dst_id, zone)
        } else {
            ends.ports_key(self.proto, self.src_id, self.dst_id, zone)
        }
    }
}

/// The addresses of a packet as words, as the key has them.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ends {
    pub src: [u64; 2],
    pub dst: [u64; 2],
    pub ipv6: bool,
}

impl Ends {
    #[inline]
    fn key(self, proto: u8, src_id: u16, dst_id: u16, zone: Zone) -> Key {
        let meta = u64::from(src_id)
            | u64::from(dst_id) << 16
            | u64::from(zone.0) << 32
            | u64::from(proto) << 48
            | u64::from(self.ipv6) << 56;
        Key([self.src[0], self.src[1], self.dst[0], self.dst[1], meta])
    }

    /// The way back.
    #[inline]
    pub fn flip(self) -> Ends {
        Ends { src: self.dst, dst: self.src, ..self }
    }

    /// Key and "against the key's order" of anything but ICMP.
    #[inline]
    pub fn ports_key(self, proto: u8, sport: u16, dport: u16, zone: Zone) -> (Key, bool) {
        if (self.src, sport) > (self.dst, dport) {
            (self.flip().key(proto, dport, sport, zone), true)
        } else {
            (self.key(proto, sport, dport, zone), false)
        }
    }

    /// The same of an ICMP query or answer, with `type << 8 | code`.
    pub fn icmp_key(self, proto: u8, id: u16, type_code: u16, zone: Zone) -> (Key, bool) {
        let ty = (type_code >> 8) as u8;
        match opposite_type(proto, ty) {
            Some(query) if is_icmp_answer(proto, ty) => {
                let type_code = u16::from(query) << 8 | type_code & 0xff;
                (self.flip().key(proto, id, type_code, zone), true)
            }
            _ => (self.key(proto, id, type_code, zone), false),
        }
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, d) = (self.src, self.dst);
        match self.icmp_parts() {
            Some((id, ty, code)) => {
                write!(f, "{}:{s}>{d} id={id} type={ty} code={code}", self.proto)
            }
            None => write!(f, "{}:{s}.{}>{d}.{}", self.proto, self.src_id, self.dst_id),
        }
    }
}

#[inline]
fn words(a: IpAddr) -> [u64; 2] {
    match a {
        IpAddr::V4(a) => [0, u64::from(u32::from(a))],
        IpAddr::V6(a) => {
            let v = u128::from(a);
            [(v >> 64) as u64, v as u64]
        }
    }
}

/// A connection's identity, equal for both directions.
///
/// Five words: first endpoint's address, second endpoint's address, and
/// `first id | second id << 16 | zone << 32 | protocol << 48 | ipv6 << 56`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Key(pub(crate) [u64; 5]);

impl Key {
    /// Of nothing.
    pub(crate) const NOTHING: Key = Key([0; 5]);

    /// The zone.
    #[inline]
    pub const fn zone(&self) -> Zone {
        Zone((self.0[4] >> 32) as u16)
    }

    /// Makes it the key of the same packet in another zone.
    #[inline]
    pub(crate) fn set_zone(&mut self, zone: Zone) {
        const ZONE: u64 = 0xffff << 32;
        self.0[4] = self.0[4] & !ZONE | u64::from(zone.0) << 32;
    }

    /// IP protocol number.
    #[inline]
    pub const fn proto(&self) -> u8 {
        (self.0[4] >> 48) as u8
    }

    /// IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.0[4] >> 56 != 0
    }

    /// The key of what comes from `src`, whatever its port, to `port` of `dst`. It has a direction, so
    /// it is not the key of a connection.
    pub(crate) fn to_port(src: IpAddr, dst: IpAddr, proto: u8, port: u16, zone: Zone) -> Key {
        Ends { src: words(src), dst: words(dst), ipv6: dst.is_ipv6() }.key(proto, 0, port, zone)
    }

    /// [`Key::to_port`] of the packets that go in the key's order, or against it.
    pub(crate) fn towards(&self, swapped: bool) -> Key {
        let [a, b, c, d, meta] = self.0;
        let (first, rest) = (meta & 0xffff, meta & !0xffff_ffff);
        match swapped {
            true => Key([c, d, a, b, rest | first << 16]),
            false => Key([a, b, c, d, meta & !0xffff]),
        }
    }

    /// Whether two keys are equal, without a call and without a branch.
    #[inline]
    pub(crate) fn is(&self, o: &Key) -> bool {
        let [a, b] = [&self.0, &o.0];
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) == 0
    }

    /// The keyed hash, the same for both directions. Low bits index tables.
    #[inline]
    pub fn hash(&self, key: HashKey) -> u32 {
        let h = if self.is_ipv6() {
            hash_words(key, &self.0)
        } else {
            hash_words(key, &[self.0[1] << 32 | self.0[3], self.0[4]])
        };
        (h ^ (h >> 32)) as u32
    }

    /// The tuple in the key's order, or against it.
    pub fn tuple(&self, swapped: bool) -> Tuple {
        let addr = |hi: u64, lo: u64| {
            if self.is_ipv6() {
                IpAddr::V6(Ipv6Addr::from(u128::from(hi) << 64 | u128::from(lo)))
            } else {
                IpAddr::V4(Ipv4Addr::from(lo as u32))
            }
        };
        let k = &self.0;
        let t = Tuple {
            src: addr(k[0], k[1]),
            dst: addr(k[2], k[3]),
            proto: self.proto(),
            src_id: k[4] as u16,
            dst_id: (k[4] >> 16) as u16,
        };
        if swapped { t.reverse() } else { t }
    }
}

/// A tuple as the tables have it: a connection's key, and whether the tuple runs against its order. It is
/// made and compared without a look at the protocol; [`Directed::tuple`] is what a person reads.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Directed {
    key: Key,
    swapped: bool,
}

impl Directed {
    #[inline]
    pub(crate) const fn new(key: Key, swapped: bool) -> Directed {
        Directed { key, swapped }
    }

    /// Of a tuple; the zone is of no importance.
    pub(crate) fn of(tuple: &Tuple) -> Directed {
        let (key, swapped) = tuple.key(Zone(0));
        Directed { key, swapped }
    }

    /// The tuple.
    pub fn tuple(&self) -> Tuple {
        self.key.tuple(self.swapped)
    }

    /// IP protocol number.
    #[inline]
    pub const fn proto(&self) -> u8 {
        self.key.proto()
    }

    /// Source and destination address as numbers. Those of IPv4 are in the low 32 bits.
    #[inline]
    pub const fn addrs(&self) -> (u128, u128) {
        let [a, b, c, d, _] = self.key.0;
        let (first, second) = ((a as u128) << 64 | b as u128, (c as u128) << 64 | d as u128);
        if self.swapped { (second, first) } else { (first, second) }
    }

    /// IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.key.is_ipv6()
    }

    /// `ct_tp_src` and `ct_tp_dst` of `ovs-fields(7)`: the ports, or the ICMP type and code.
    #[inline]
    pub fn tp(&self) -> (u16, u16) {
        match self.key.proto() {
            ipproto::ICMP | ipproto::ICMPV6 => {
                let t = self.tuple();
                (t.tp_src(), t.tp_dst())
            }
            _ => {
                let (first, second) = (self.key.0[4] as u16, (self.key.0[4] >> 16) as u16);
                if self.swapped { (second, first) } else { (first, second) }
            }
        }
    }
}

impl fmt::Debug for Directed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tuple().fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} zone {}", self.tuple(false), self.zone().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, a))
    }

    #[test]
    fn a_tuple_and_its_reverse_share_the_key_and_give_themselves_back() {
        let v6 = |x: u16| IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, x));
        let mut all = std::vec![
            Tuple::ports(v4(1), v4(2), 6, 1000, 80),
            Tuple::ports(v4(2), v4(1), 6, 1000, 80),
            Tuple::ports(v4(1), v4(1), 17, 5, 4),
            Tuple::ports(v6(9), v6(1), 17, 5, 4),
            Tuple::ports(v6(9), v6(1), 47, 0, 0),
            Tuple::icmp(v6(9), v6(1), 77, 128, 0),
        ];
        for (q, _) in ICMP_QUERIES {
            all.push(Tuple::icmp(v4(2), v4(1), 77, q, 0));
            all.push(Tuple::icmp(v4(1), v4(2), 77, q, 0));
        }
        for t in all {
            let (k, swapped) = t.key(Zone(7));
            let (kr, swapped_r) = t.reverse().key(Zone(7));
            assert_eq!(k, kr, "{t:?}");
            assert_ne!(swapped, swapped_r, "{t:?}");
            assert_eq!(k.tuple(swapped), t);
            assert_eq!(k.tuple(swapped_r), t.reverse());
            assert_ne!(k, t.key(Zone(8)).0);
            let secret = HashKey([3, 4]);
            assert_eq!(k.hash(secret), kr.hash(secret));
        }
    }

    #[test]
    fn pings_of_both_ends_with_one_id_are_two_connections() {
        let a = Tuple::icmp(v4(1), v4(2), 9, 8, 0).key(Zone(0)).0;
        let b = Tuple::icmp(v4(2), v4(1), 9, 8, 0).key(Zone(0)).0;
        assert_ne!(a, b);
    }
}
