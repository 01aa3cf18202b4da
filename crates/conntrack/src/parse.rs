//! From a frame to what the tracker needs of it: key, direction, TCP segment, quoted packet.
//!
//! Pure and without the table, so a front can parse before it takes a shard's lock. Nothing here
//! trusts a length, an offset or a checksum in the frame; a failure is an [`InvalidReason`].
//!
//! What counts as malformed follows OVS's userspace tracker as observed: fragments, wrong
//! checksums, port 0 and ICMP types that are neither query, answer nor error are invalid.

use crate::tcp::Segment;
use crate::tuple::{Ends, Key, is_icmp_answer, is_icmp_query};
use crate::{InvalidReason, InvalidReason as R};
use base::{HashKey, Zone};
use packet::PacketBuf;
use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use packet::header::{UDP_LEN, be16, be32, ethertype, icmp, icmpv6, ipproto, tcp_flag};

/// A frame and what the caller knows about it already.
#[derive(Copy, Clone, Debug)]
pub struct PacketView<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// Offset of the network header in the frame.
    pub l3: usize,
    /// EtherType of the network header.
    pub eth_type: u16,
    /// The transport checksum is partial or was checked by a device.
    pub csum_trusted: bool,
}

impl<'a> PacketView<'a> {
    /// From a buffer whose layers are set. A buffer without a network layer is invalid.
    pub fn of(pkt: &'a PacketBuf, eth_type: u16) -> PacketView<'a> {
        let (l3, eth_type) = match pkt.l3() {
            Some(l3) => (l3, eth_type),
            None => (0, 0),
        };
        PacketView { frame: pkt.frame(), l3, eth_type, csum_trusted: pkt.offload.csum_trusted() }
    }
}

/// What a parsed packet is to the state machines.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Body {
    Tcp(Segment),
    /// ICMP or ICMPv6 query or answer.
    Icmp {
        answer: bool,
    },
    /// ICMP or ICMPv6 error; the key is the quoted packet's, the direction its opposite.
    Error,
    /// UDP and everything else.
    Other,
}

/// A packet that can be tracked.
#[derive(Copy, Clone, Debug)]
pub struct Parsed {
    pub(crate) key: Key,
    /// The packet goes against the key's order.
    pub(crate) swapped: bool,
    pub(crate) body: Body,
    /// Bytes of the IP packet, header included.
    pub(crate) len: u32,
}

impl Parsed {
    /// Of no packet; a place for [`parse_into`].
    pub const NOTHING: Parsed =
        Parsed { key: Key::NOTHING, swapped: false, body: Body::Other, len: 0 };

    /// What TCP or UDP carries in the IP packet that this was read from.
    pub(crate) fn payload<'a>(&self, ip: &'a [u8]) -> &'a [u8] {
        let len = self.len as usize;
        let found = match &self.body {
            Body::Tcp(s) => ip.get(len.saturating_sub(s.payload as usize)..len),
            _ if self.key.is_ipv6() => ipv6(ip).ok().and_then(|ip| ip.payload.get(UDP_LEN..)),
            _ => ipv4(ip).ok().and_then(|ip| ip.payload.get(UDP_LEN..)),
        };
        found.unwrap_or_default()
    }

    /// The connection's key, equal for both directions (for ICMP errors: of the connection they
    /// are about).
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Symmetric keyed hash: both directions of a connection, and ICMP errors about it, have the
    /// same. The tables use the low bits; shard by the high ones ([`Parsed::shard`]).
    #[inline]
    pub fn hash(&self, secret: HashKey) -> u32 {
        self.key.hash(secret)
    }

    /// Which of `n` shards the connection lives in. `n` must not be zero.
    pub fn shard(&self, secret: HashKey, n: usize) -> usize {
        crate::shard_of(self.hash(secret), n)
    }
}

/// Result of [`parse`].
#[derive(Copy, Clone, Debug)]
pub enum Parse {
    /// Not fit for tracking.
    Invalid(InvalidReason),
    /// Can be looked up.
    Packet(Parsed),
}

/// Reads a frame for the connection table of `zone`.
pub fn parse(view: &PacketView<'_>, zone: Zone) -> Parse {
    let mut p = Parsed::NOTHING;
    match parse_into(view, zone, &mut p) {
        Ok(()) => Parse::Packet(p),
        Err(reason) => Parse::Invalid(reason),
    }
}

/// The same into a place that the caller has: moving what was just written costs as much as reading
/// the packet. The error is why the packet is invalid; `out` is worthless then.
#[inline]
pub fn parse_into(
    view: &PacketView<'_>,
    zone: Zone,
    out: &mut Parsed,
) -> Result<(), InvalidReason> {
    let data = view.frame.get(view.l3..).ok_or(R::Truncated);
    match view.eth_type {
        ethertype::IPV4 => ipv4(data?).and_then(|ip| transport(&ip, zone, view.csum_trusted, out)),
        ethertype::IPV6 => ipv6(data?).and_then(|ip| transport(&ip, zone, view.csum_trusted, out)),
        _ => Err(R::NotIp),
    }
}

/// An IP packet whose header was read. `payload` is cut to the IP length where the frame is
/// longer (Ethernet padding).
struct Ip<'a> {
    ends: Ends,
    proto: u8,
    payload: &'a [u8],
    /// Bytes of the whole IP packet.
    len: u32,
}

#[inline(always)]
fn ipv4(data: &[u8]) -> Result<Ip<'_>, R> {
    if let Some(ip) = plain_ipv4(data) {
        return Ok(ip);
    }
    let (header_len, total) = ipv4_lengths(data)?;
    if total > data.len() {
        return Err(R::Truncated);
    }
    if checksum(&data[..header_len]) != 0 {
        return Err(R::L3Checksum);
    }
    ipv4_addresses(data, header_len, total, Whole::Wanted)
}

/// A packet with a header of twenty bytes that is right, as nearly all are. `None` says nothing.
#[inline(always)]
fn plain_ipv4(data: &[u8]) -> Option<Ip<'_>> {
    const MORE_OR_OFFSET: u16 = 0x3fff;
    const LEN: usize = 20;
    let header: &[u8; LEN] = data.first_chunk()?;
    let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u64::from(half(at)) << 16 | u64::from(half(at + 2));
    let total = usize::from(half(2));
    let sum = word(0) + word(4) + word(8) + word(12) + word(16);
    // All ones is the only sum of a right header: none is all zeros (RFC 1071).
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    if header[0] != 0x45 || sum != 0xffff || half(6) & MORE_OR_OFFSET != 0 {
        return None;
    }
    Some(Ip {
        ends: Ends { src: [0, word(12)], dst: [0, word(16)], ipv6: false },
        proto: header[9],
        payload: data.get(LEN..total)?,
        len: total as u32,
    })
}

/// Whether a packet has to be whole.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Whole {
    Wanted,
    /// A first fragment will do: it has the ports.
    FirstWillDo,
}

/// The header and total length of an IPv4 packet; the header is within `data`.
#[inline(always)]
fn ipv4_lengths(data: &[u8]) -> Result<(usize, usize), R> {
    let first = *data.first().ok_or(R::Truncated)?;
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < 20 {
        return Err(R::BadHeader);
    }
    if data.len() < header_len {
        return Err(R::Truncated);
    }
    let total = usize::from(be16(data, 2).ok_or(R::Truncated)?);
    if total < header_len { Err(R::BadHeader) } else { Ok((header_len, total)) }
}

/// The rest of the IPv4 header; `data` may be cut anywhere behind it.
#[inline(always)]
fn ipv4_addresses(data: &[u8], header_len: usize, total: usize, whole: Whole) -> Result<Ip<'_>, R> {
    const OFFSET: u16 = 0x1fff;
    const MORE_OR_OFFSET: u16 = 0x3fff;
    let bits = if whole == Whole::Wanted { MORE_OR_OFFSET } else { OFFSET };
    if be16(data, 6).ok_or(R::Truncated)? & bits != 0 {
        return Err(R::Fragment);
    }
    let addr = |at| be32(data, at).map(|a| [0, u64::from(a)]).ok_or(R::Truncated);
    Ok(Ip {
        ends: Ends { src: addr(12)?, dst: addr(16)?, ipv6: false },
        proto: *data.get(9).ok_or(R::Truncated)?,
        payload: &data[header_len..total.min(data.len())],
        len: total as u32,
    })
}

fn ipv6(data: &[u8]) -> Result<Ip<'_>, R> {
    let ip = ipv6_head(data, Whole::Wanted)?;
    if ip.len as usize > data.len() { Err(R::Truncated) } else { Ok(ip) }
}

/// Reads an IPv6 header and its extension headers; `data` may be cut anywhere behind them.
fn ipv6_head(data: &[u8], whole: Whole) -> Result<Ip<'_>, R> {
    let first = *data.first().ok_or(R::Truncated)?;
    if first >> 4 != 6 {
        return Err(R::BadHeader);
    }
    if data.len() < 40 {
        return Err(R::Truncated);
    }
    let mut proto = data[6];
    let mut total = usize::from(be16(data, 4).ok_or(R::Truncated)?) + 40;
    if total == 40 && proto == ipproto::HOPOPTS {
        // A jumbogram (RFC 2675) carries its length in an option; the frame's length will do.
        total = data.len();
    }
    let word = |at: usize| {
        let w: Option<&[u8; 8]> = data.get(at..).and_then(|d| d.first_chunk());
        w.map(|w| u64::from_be_bytes(*w)).ok_or(R::Truncated)
    };
    let (src, dst) = ([word(8)?, word(16)?], [word(24)?, word(32)?]);
    let ends = Ends { src, dst, ipv6: true };
    let mut payload = &data[40..total.min(data.len())];
    // Extension headers (RFC 8200 §4); the length limits how many there can be.
    loop {
        let len = match proto {
            ipproto::HOPOPTS | ipproto::ROUTING | ipproto::DSTOPTS | ipproto::MH => {
                (usize::from(*payload.get(1).ok_or(R::Truncated)?) + 1) * 8
            }
            ipproto::AH => (usize::from(*payload.get(1).ok_or(R::Truncated)?) + 2) * 4,
            ipproto::FRAGMENT => {
                const OFFSET: u16 = 0xfff8;
                const OFFSET_OR_MORE: u16 = 0xfff9;
                let bits = if whole == Whole::Wanted { OFFSET_OR_MORE } else { OFFSET };
                if be16(payload, 2).ok_or(R::Truncated)? & bits != 0 {
                    return Err(R::Fragment);
                }
                8
            }
            _ => break,
        };
        let next = payload[0];
        payload = payload.get(len..).ok_or(R::Truncated)?;
        proto = next;
    }
    Ok(Ip { ends, proto, payload, len: total as u32 })
}

/// Whether the checksum over the transport bytes and the pseudo-header is right.
fn transport_sum_ok(ip: &Ip<'_>, proto: u8, bytes: &[u8]) -> bool {
    let len = bytes.len() as u32;
    let Ends { src, dst, ipv6 } = ip.ends;
    let pseudo = if ipv6 {
        let octets = |[hi, lo]: [u64; 2]| (u128::from(hi) << 64 | u128::from(lo)).to_be_bytes();
        pseudo_v6(&octets(src), &octets(dst), proto, len)
    } else {
        pseudo_v4(src[1] as u32, dst[1] as u32, proto, len)
    };
    finish(add(pseudo, bytes)) == 0
}

#[inline(always)]
fn transport(ip: &Ip<'_>, zone: Zone, csum_trusted: bool, out: &mut Parsed) -> Result<(), R> {
    out.len = ip.len;
    let data = ip.payload;
    let ports = match (ip.proto, !ip.ends.ipv6) {
        (ipproto::TCP, _) => {
            out.body = Body::Tcp(sound_tcp(ip, csum_trusted)?);
            ports_of(ip)?
        }
        (ipproto::UDP, _) => {
            sound_udp(ip, csum_trusted)?;
            out.body = Body::Other;
            ports_of(ip)?
        }
        (ipproto::SCTP, _) => {
            if data.len() < packet::header::SCTP_LEN {
                return Err(R::Truncated);
            }
            out.body = Body::Other;
            ports_of(ip)?
        }
        (ipproto::ICMP, true) => {
            if !csum_trusted && checksum(data) != 0 {
                return Err(R::L4Checksum);
            }
            return icmp_message(ip, zone, out);
        }
        (ipproto::ICMPV6, false) => {
            if !csum_trusted && !transport_sum_ok(ip, ipproto::ICMPV6, data) {
                return Err(R::L4Checksum);
            }
            return icmp_message(ip, zone, out);
        }
        (ipproto::ICMP | ipproto::ICMPV6, _) => return Err(R::IcmpVersion),
        _ => {
            out.body = Body::Other;
            NO_PORTS
        }
    };
    (out.key, out.swapped) = key_of(ip, ports, zone);
    Ok(())
}

/// What a packet of a known connection of TCP, UDP or ICMP queries has for the state machines, and its length.
#[inline]
pub(crate) fn read_known(view: &PacketView<'_>) -> Option<(Body, u32)> {
    let data = view.frame.get(view.l3..)?;
    let ip = match view.eth_type {
        ethertype::IPV4 => ipv4(data).ok()?,
        ethertype::IPV6 => ipv6(data).ok()?,
        _ => return None,
    };
    let body = match ip.proto {
        ipproto::TCP => Body::Tcp(sound_tcp(&ip, view.csum_trusted).ok()?),
        ipproto::UDP => sound_udp(&ip, view.csum_trusted).map(|()| Body::Other).ok()?,
        ipproto::ICMP | ipproto::ICMPV6 => known_query(&ip, view.csum_trusted)?,
        _ => return None,
    };
    Some((body, ip.len))
}

fn known_query(ip: &Ip<'_>, csum_trusted: bool) -> Option<Body> {
    let (&ty, data) = (ip.payload.first()?, ip.payload);
    let answer = is_icmp_answer(ip.proto, ty);
    if (ip.proto == ipproto::ICMPV6) != ip.ends.ipv6 || !answer && !is_icmp_query(ip.proto, ty) {
        return None;
    }
    let is_sound = match ip.ends.ipv6 {
        _ if csum_trusted => true,
        true => transport_sum_ok(ip, ipproto::ICMPV6, data),
        false => checksum(data) == 0,
    };
    is_sound.then_some(Body::Icmp { answer })
}

#[inline(always)]
fn sound_tcp(ip: &Ip<'_>, csum_trusted: bool) -> Result<Segment, R> {
    let segment = tcp(ip.payload)?;
    if !csum_trusted && !transport_sum_ok(ip, ipproto::TCP, ip.payload) {
        return Err(R::L4Checksum);
    }
    Ok(segment)
}

#[inline(always)]
fn sound_udp(ip: &Ip<'_>, csum_trusted: bool) -> Result<(), R> {
    let data = ip.payload;
    let len = usize::from(be16(data, 4).ok_or(R::Truncated)?);
    let datagram = data.get(..len).ok_or(R::Truncated)?;
    let sum = be16(datagram, 6).ok_or(R::BadHeader)?;
    // Zero means "none", which IPv4 alone allows (RFC 768, RFC 8200 §8.1).
    let unchecked = csum_trusted || (sum == 0 && !ip.ends.ipv6);
    // Receivers sum as far as the length says; OVS and Linux track what is right up to the
    // packet's end.
    let right = |bytes| transport_sum_ok(ip, ipproto::UDP, bytes);
    if !unchecked && !right(datagram) && (len == data.len() || !right(data)) {
        return Err(R::L4Checksum);
    }
    Ok(())
}

/// Of a protocol without ports: addresses and protocol number are all.
const NO_PORTS: (u16, u16) = (0, 0);

/// The key of a packet with these ports, and whether it goes against its order.
#[inline(always)]
fn key_of(ip: &Ip<'_>, (sport, dport): (u16, u16), zone: Zone) -> (Key, bool) {
    ip.ends.ports_key(ip.proto, sport, dport, zone)
}

/// Source and destination port, of which none is 0.
#[inline(always)]
fn ports_of(ip: &Ip<'_>) -> Result<(u16, u16), R> {
    let sport = be16(ip.payload, 0).ok_or(R::Truncated)?;
    let dport = be16(ip.payload, 2).ok_or(R::Truncated)?;
    if sport == 0 || dport == 0 {
        return Err(R::BadHeader);
    }
    Ok((sport, dport))
}

#[inline(always)]
fn tcp(data: &[u8]) -> Result<Segment, R> {
    let word = be16(data, 12).ok_or(R::Truncated)?;
    let header_len = usize::from(word >> 12) * 4;
    if header_len < packet::header::TCP_LEN {
        return Err(R::BadHeader);
    }
    let header = data.get(..header_len).ok_or(R::Truncated)?;
    let flags = word & 0x1ff;
    Ok(Segment {
        seq: be32(data, 4).ok_or(R::Truncated)?,
        ack: be32(data, 8).ok_or(R::Truncated)?,
        window: be16(data, 14).ok_or(R::Truncated)?,
        flags: flags as u8,
        payload: (data.len() - header_len) as u32,
        wscale: if flags & tcp_flag::SYN != 0 { window_scale(&header[20..]) } else { None },
    })
}

/// The window scale option (RFC 7323 §2.2), limited to 14.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match *options {
            [] | [0, ..] => return None,
            [1, ref rest @ ..] => options = rest,
            [3, 3, shift, ..] => return Some(shift.min(14)),
            [_, len, ..] if len >= 2 => options = options.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

const ICMP_ERRORS: [u8; 5] =
    [icmp::DST_UNREACH, icmp::SOURCE_QUENCH, icmp::REDIRECT, icmp::TIME_EXCEEDED, icmp::PARAM_PROB];
const ICMPV6_ERRORS: [u8; 4] =
    [icmpv6::DST_UNREACH, icmpv6::PACKET_TOO_BIG, icmpv6::TIME_EXCEEDED, icmpv6::PARAM_PROB];

fn icmp_message(ip: &Ip<'_>, zone: Zone, out: &mut Parsed) -> Result<(), R> {
    let data = ip.payload;
    let rest = data.get(8..).ok_or(R::Truncated)?;
    let errors: &[u8] = if ip.ends.ipv6 { &ICMPV6_ERRORS } else { &ICMP_ERRORS };
    if errors.contains(&data[0]) {
        let (sender, (key, swapped)) = quoted(rest, !ip.ends.ipv6, zone).ok_or(R::IcmpInner)?;
        // Who reports an error reports it to the sender of the quoted packet.
        if sender != ip.ends.dst {
            return Err(R::IcmpInner);
        }
        (out.key, out.swapped, out.body) = (key, !swapped, Body::Error);
        return Ok(());
    }
    let (key, swapped) = icmp_query(ip, zone)?;
    (out.key, out.swapped, out.body) = (key, swapped, Body::Icmp { answer: swapped });
    Ok(())
}

fn icmp_query(ip: &Ip<'_>, zone: Zone) -> Result<(Key, bool), R> {
    let data = ip.payload;
    let (ty, code) = (*data.first().ok_or(R::Truncated)?, *data.get(1).ok_or(R::Truncated)?);
    // All queries have code 0; the IP version was tested, so the protocol tells the registry.
    if code != 0 || !(is_icmp_query(ip.proto, ty) || is_icmp_answer(ip.proto, ty)) {
        return Err(R::IcmpType);
    }
    let id = be16(data, 4).ok_or(R::Truncated)?;
    Ok(ip.ends.icmp_key(ip.proto, id, u16::from(ty) << 8 | u16::from(code), zone))
}

/// Sender and key of the packet that an ICMP error quotes. It may be cut 8 bytes into its
/// transport header (RFC 792) and its checksums are not ours to judge.
fn quoted(data: &[u8], v4: bool, zone: Zone) -> Option<([u64; 2], (Key, bool))> {
    let ip = if v4 {
        let (header_len, total) = ipv4_lengths(data).ok()?;
        ipv4_addresses(data, header_len, total, Whole::FirstWillDo).ok()?
    } else {
        ipv6_head(data, Whole::FirstWillDo).ok()?
    };
    let key = match ip.proto {
        ipproto::TCP | ipproto::UDP | ipproto::SCTP if ip.payload.len() >= 8 => {
            key_of(&ip, ports_of(&ip).ok()?, zone)
        }
        ipproto::TCP | ipproto::UDP | ipproto::SCTP => return None,
        ipproto::ICMP if v4 => icmp_query(&ip, zone).ok()?,
        ipproto::ICMPV6 if !v4 => icmp_query(&ip, zone).ok()?,
        ipproto::ICMP | ipproto::ICMPV6 => return None,
        _ => key_of(&ip, NO_PORTS, zone),
    };
    Some((ip.ends.src, key))
}
