//! Network address translation: what a `ct` action asks, which tuple a new connection gets, and how
//! its packets have to be changed.
//!
//! A translated connection is found by two keys: that of its original direction, under which it is
//! stored, and that of the tuple its replies carry. For the second there is an [`Alias`], possibly
//! in another shard. Putting the alias in reserves the tuple, so no two connections ever wait for
//! the same replies.
//!
//! The choice is that of OVS's userspace tracker as observed, but that other addresses of the range
//! are tried when the first has no free port, and that ICMP identifiers are translated too where
//! they collide.

use base::{HashKey, Instant, Zone, hash_words};
use core::net::IpAddr;
use packet::header::ipproto;

use crate::slab::NIL;
use crate::tuple::{Dir, Key, Tuple};
use crate::{ConnId, CtState};

/// The end of a packet that a translation changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// Source address and port.
    Src,
    /// Destination address and port.
    Dst,
}

impl NatKind {
    /// What is changed in packets of the other direction.
    pub const fn flip(self) -> NatKind {
        match self {
            NatKind::Src => NatKind::Dst,
            NatKind::Dst => NatKind::Src,
        }
    }

    pub(crate) const fn in_dir(self, dir: Dir) -> NatKind {
        match dir {
            Dir::Orig => self,
            Dir::Reply => self.flip(),
        }
    }

    /// The bit of `ct_state` that tells of it.
    pub const fn state(self) -> CtState {
        match self {
            NatKind::Src => CtState::SNAT,
            NatKind::Dst => CtState::DNAT,
        }
    }
}

/// The `nat` of a `ct` action.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct NatRequest {
    /// With `commit` of a new connection: what to translate. `None` (and any packet of a known
    /// connection): as the connection says.
    pub kind: Option<NatKind>,
    /// First and last address, of the packet's IP version; `None` keeps the packet's.
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// First and last port, the first not zero; `None` keeps the packet's unless that is taken.
    pub ports: Option<(u16, u16)>,
    /// Choose among the ports at random. Otherwise a keyed hash of the tuple does.
    pub random: bool,
    /// `hash` was said, which changes nothing.
    pub hash: bool,
    /// The address depends on the packet's own address alone, and survives a restart.
    pub persistent: bool,
}

/// What is to be changed in a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The end of the packet that changes.
    pub kind: NatKind,
    /// The tuple that the packet must carry. Of an ICMP error: what the packet would carry that
    /// the error is about, turned round.
    pub tuple: Tuple,
    /// The packet is an ICMP error: its own address of that end is replaced, and the quoted packet
    /// must carry the reverse of the tuple.
    pub quoted: bool,
}

/// A connection's translation.
#[derive(Clone, Debug)]
pub(crate) struct Nat {
    pub kind: NatKind,
    /// Key of the tuple that replies carry.
    pub reply: Key,
    /// The reply tuple goes against the key's order.
    pub swapped: bool,
    /// Where the alias is; `None` if the translation changes nothing.
    pub alias: Option<AliasId>,
}

impl Nat {
    pub fn reply(&self) -> Tuple {
        self.reply.tuple(self.swapped)
    }

    /// What to do with a packet of direction `dir` of the connection with tuple `orig`.
    pub fn translation(&self, orig: &Tuple, dir: Dir, quoted: bool) -> Translation {
        let tuple = match dir {
            Dir::Orig => self.reply().reverse(),
            Dir::Reply => orig.reverse(),
        };
        Translation { kind: self.kind.in_dir(dir), tuple, quoted }
    }

    /// The bit of `ct_state` of a packet of this direction.
    pub fn state(&self, dir: Dir) -> CtState {
        self.kind.in_dir(dir).state()
    }
}

/// An alias for as long as it lives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct AliasId {
    pub shard: u16,
    pub slot: u32,
    pub generation: u32,
}

/// The entry by which a translated connection is found from its replies.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    key: Key,
    hash: u32,
    next: u32,
    generation: u32,
    alive: bool,
    /// The replies go against the key's order.
    pub swapped: bool,
    /// The connection, once it is there.
    pub conn: Option<ConnId>,
}

const _: () = assert!(size_of::<Alias>() <= 72);

impl Alias {
    pub fn new((key, swapped): (Key, bool), hash: u32) -> Alias {
        Alias { key, hash, next: NIL, generation: 1, alive: true, swapped, conn: None }
    }
}

crate::slab::entry!(Alias);

/// Addresses that are tried, from the chosen one on.
const MAX_ADDRS: u128 = 8;
/// Ports that are tried in the first round; each further one has half as many at another place.
const FIRST_ROUND: u32 = 128;
/// No round has fewer.
const LAST_ROUND: u32 = 16;
/// Where a port is looked for if the packet's own is taken: among those of its kind (as OVS).
const WELL_KNOWN: (u16, u16) = (1, 511);
const RESERVED: (u16, u16) = (600, 1023);
const EPHEMERAL: (u16, u16) = (1024, 65535);

/// The reply tuples that a new connection may get, best first; finitely many.
pub(crate) fn candidates(
    orig: Tuple,
    zone: Zone,
    kind: NatKind,
    req: &NatRequest,
    secret: HashKey,
    now: Instant,
) -> impl Iterator<Item = Tuple> {
    let reply = orig.reverse();
    let (own, own_port) = match kind {
        NatKind::Src => (orig.src, orig.src_id),
        NatKind::Dst => (orig.dst, orig.dst_id),
    };
    let hash = tuple_hash(secret, &orig, zone);
    let chance = move |n: u64| hash_words(secret, &[hash, now.as_nanos(), n]);
    let by = if req.persistent { tuple_hash_of_addr(own) } else { hash };
    let range =
        req.addrs.filter(|(min, _)| !min.is_unspecified() && min.is_ipv6() == own.is_ipv6());
    let n_addrs = range.map_or(1, |(min, max)| number(max).saturating_sub(number(min)) + 1);
    let addr = move |i: u128| match range {
        Some((min, _)) => offset(min, (u128::from(by) + i) % n_addrs),
        None => own,
    };
    let has_ports = matches!(orig.proto, ipproto::TCP | ipproto::UDP | ipproto::SCTP);
    let asked = req.ports.filter(|p| has_ports && p.0 != 0);
    let first = match asked {
        Some((min, max)) => {
            let r = if req.random { chance(0) } else { hash };
            min + (r % (u64::from(max.saturating_sub(min)) + 1)) as u16
        }
        None => own_port,
    };
    // Ports of the end that is translated; then, if that is the destination, of the other.
    let near = match (asked, kind) {
        (Some(range), _) => Search::of(first, range),
        (None, NatKind::Src) if has_ports => Search::of(first, spare_ports(orig.src_id)),
        (None, NatKind::Src) if orig.is_icmp() => Search::of(first, (0, u16::MAX)),
        (None, _) => Search::only(first),
    };
    let far = (kind == NatKind::Dst)
        .then(|| match (has_ports, orig.is_icmp()) {
            (true, _) => Some(Search::of(orig.src_id, spare_ports(orig.src_id))),
            (false, true) => Some(Search::of(orig.src_id, (0, u16::MAX))),
            (false, false) => None,
        })
        .flatten();
    (0..n_addrs.min(MAX_ADDRS)).flat_map(move |i| {
        let addr = addr(i);
        let near = near.ports(move |n| chance(n + 1)).map(move |port| match kind {
            NatKind::Src if orig.is_icmp() => Tuple { dst: addr, src_id: port, ..reply },
            NatKind::Src => Tuple { dst: addr, dst_id: port, ..reply },
            NatKind::Dst if orig.is_icmp() => Tuple { src: addr, ..reply },
            NatKind::Dst => Tuple { src: addr, src_id: port, ..reply },
        });
        let far = far.into_iter().flat_map(move |s| s.ports(move |n| chance(n + 101)));
        let far = far.map(move |port| match orig.is_icmp() {
            true => Tuple { src: addr, src_id: port, ..reply },
            false => Tuple { src: addr, src_id: first, dst_id: port, ..reply },
        });
        near.chain(far)
    })
}

/// A bounded search through a range of ports.
#[derive(Copy, Clone)]
struct Search {
    first: u16,
    range: (u16, u16),
}

impl Search {
    fn of(first: u16, range: (u16, u16)) -> Search {
        Search { first, range }
    }

    fn only(port: u16) -> Search {
        Search { first: port, range: (port, port) }
    }

    /// The first port, those that follow it in the range, and those from other places of it that
    /// `place` gives.
    fn ports(self, place: impl Fn(u64) -> u64) -> impl Iterator<Item = u16> {
        let (min, max) = self.range;
        let n = u32::from(max.saturating_sub(min)) + 1;
        let rounds = core::iter::successors(Some(n.min(FIRST_ROUND)), move |&len| {
            (len < n && len >= LAST_ROUND).then_some(len / 2)
        });
        let rest = rounds.enumerate().flat_map(move |(round, len)| {
            let start = match round {
                0 => u32::from(self.first.max(min) - min),
                _ => (place(round as u64) % u64::from(n)) as u32,
            };
            (0..len).map(move |i| min + ((start + i) % n) as u16)
        });
        // The packet's own port may lie outside the range that a spare is looked for in.
        let outside = !(min..=max).contains(&self.first);
        outside.then_some(self.first).into_iter().chain(rest)
    }
}

/// Ports like this one.
fn spare_ports(port: u16) -> (u16, u16) {
    match port {
        0..512 => WELL_KNOWN,
        512..1024 => RESERVED,
        _ => EPHEMERAL,
    }
}

fn number(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn offset(a: IpAddr, by: u128) -> IpAddr {
    match a {
        IpAddr::V4(a) => IpAddr::V4(a.to_bits().wrapping_add(by as u32).into()),
        IpAddr::V6(a) => IpAddr::V6(a.to_bits().wrapping_add(by).into()),
    }
}

fn tuple_hash(secret: HashKey, t: &Tuple, zone: Zone) -> u64 {
    let (src, dst) = (number(t.src), number(t.dst));
    let ids = u64::from(t.src_id) << 32 | u64::from(t.dst_id) << 16 | u64::from(zone.0);
    let words = [(src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64, ids];
    hash_words(secret, &words) ^ u64::from(t.proto)
}

/// Depends on nothing that a restart changes.
fn tuple_hash_of_addr(a: IpAddr) -> u64 {
    let n = number(a);
    hash_words(HashKey([0, 0]), &[(n >> 64) as u64, n as u64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    const KEY: HashKey = HashKey([5, 6]);

    fn ip(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
    }

    fn all(orig: Tuple, kind: NatKind, req: NatRequest) -> Vec<Tuple> {
        candidates(orig, Zone(1), kind, &req, KEY, Instant::from_secs(9)).collect()
    }

    fn orig() -> Tuple {
        Tuple::ports(ip(1), ip(2), ipproto::TCP, 40_000, 80)
    }

    #[test]
    fn a_source_keeps_its_port_if_it_can() {
        let req = NatRequest { addrs: Some((ip(9), ip(9))), ..NatRequest::default() };
        let found = all(orig(), NatKind::Src, req);
        assert_eq!(found[0], Tuple::ports(ip(2), ip(9), ipproto::TCP, 80, 40_000));
        assert_eq!(found[1].dst_id, 40_001);
        assert!(found.iter().all(|t| t.dst == ip(9) && t.src == ip(2) && t.src_id == 80));
        // Bounded, however large the range is: 128, 64, 32, 16 and 8 ports.
        assert_eq!(found.len(), 128 + 64 + 32 + 16 + 8);
        let low = Tuple { src_id: 300, ..orig() };
        assert!(all(low, NatKind::Src, req).iter().all(|t| (1..512).contains(&t.dst_id)));
    }

    #[test]
    fn a_range_of_ports_is_gone_through_whole() {
        let ports = Some((5000, 5009));
        let req = NatRequest { addrs: Some((ip(9), ip(9))), ports, ..NatRequest::default() };
        let found: BTreeSet<_> = all(orig(), NatKind::Src, req).iter().map(|t| t.dst_id).collect();
        assert_eq!(found, (5000..5010).collect());
        let req = NatRequest { ports: Some((u16::MAX, u16::MAX)), ..req };
        assert_eq!(all(orig(), NatKind::Src, req)[0].dst_id, u16::MAX);
    }

    #[test]
    fn addresses_of_the_range_follow_when_one_is_used_up() {
        let range = Some((ip(100), ip(103)));
        let req = NatRequest { addrs: range, ports: Some((1, 1)), ..NatRequest::default() };
        let found: BTreeSet<_> = all(orig(), NatKind::Src, req).iter().map(|t| t.dst).collect();
        assert_eq!(found, (100..104).map(ip).collect());
        let persistent = NatRequest { persistent: true, ..req };
        let other = Tuple { src_id: 1, dst_id: 2, dst: ip(77), ..orig() };
        let first = |t| all(t, NatKind::Src, persistent)[0].dst;
        assert_eq!(first(orig()), first(other), "depends on the source alone");
    }

    #[test]
    fn a_destination_may_need_another_source_port() {
        let ports = Some((8080, 8080));
        let req = NatRequest { addrs: Some((ip(9), ip(9))), ports, ..NatRequest::default() };
        let found = all(orig(), NatKind::Dst, req);
        assert_eq!(found[0], Tuple::ports(ip(9), ip(1), ipproto::TCP, 8080, 40_000));
        let next = found.iter().find(|t| t.dst_id != 40_000).expect("another source port");
        assert_eq!((next.src, next.src_id), (ip(9), 8080));
    }

    #[test]
    fn pings_get_another_identifier_and_other_protocols_only_an_address() {
        let ping = Tuple::icmp(ip(1), ip(2), 77, 8, 0);
        let req = NatRequest { addrs: Some((ip(9), ip(9))), ..NatRequest::default() };
        let found = all(ping, NatKind::Src, req);
        assert_eq!(found[0], Tuple { src: ip(9), ..ping }.reverse());
        assert_eq!(found[1], Tuple { src: ip(9), src_id: 78, ..ping }.reverse());
        let gre = Tuple::ports(ip(1), ip(2), 47, 0, 0);
        assert_eq!(all(gre, NatKind::Src, req), [Tuple { src: ip(9), ..gre }.reverse()]);
    }
}
