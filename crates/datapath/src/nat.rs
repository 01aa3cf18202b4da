//! Changing a packet as the tracker's translation says.
//!
//! An ordinary packet gets another address and port by the same code as a `set` action. An ICMP
//! error gets another address outside, and the packet that it quotes is changed back into what its
//! sender knows (RFC 5508 §4.2). Checksums are updated incrementally, so a wrong one stays wrong.

use std::net::IpAddr;

use conntrack::{NatKind, Translation, Tuple};
use dpif::{SetGroup, SetMasked};
use flow::PacketKey;
use packet::PacketBuf;
use packet::checksum::update16;
use packet::header::{ICMP_LEN, IPV4_LEN, IPV6_LEN, be16, ethertype, ipproto};

use crate::rewrite;

/// Changes a packet. `key` must be that of the packet, its layers must be set.
pub fn translate(pkt: &mut PacketBuf, key: &mut PacketKey, t: &Translation) {
    let addr = match t.kind {
        NatKind::Src => t.tuple.src,
        NatKind::Dst => t.tuple.dst,
    };
    set_addr(pkt, key, t.kind, addr);
    if t.quoted {
        translate_quoted(pkt, key, &t.tuple.reverse());
        return;
    }
    let group = match key.nw_proto {
        ipproto::TCP => SetGroup::Tcp,
        ipproto::UDP => SetGroup::Udp,
        ipproto::SCTP => SetGroup::Sctp,
        ipproto::ICMP | ipproto::ICMPV6 => {
            if let Some((id, ..)) = t.tuple.icmp_parts() {
                set_icmp_id(pkt, id);
            }
            return;
        }
        _ => return,
    };
    let mut set = SetMasked { group, value: PacketKey::ZERO, mask: PacketKey::ZERO };
    // Both: what gets another destination gets another source port, too, where the own one is taken.
    (set.value.tp_src, set.mask.tp_src) = (t.tuple.src_id, u16::MAX);
    (set.value.tp_dst, set.mask.tp_dst) = (t.tuple.dst_id, u16::MAX);
    rewrite::set(pkt, key, &set);
}

fn set_addr(pkt: &mut PacketBuf, key: &mut PacketKey, kind: NatKind, addr: IpAddr) {
    let group = if addr.is_ipv4() { SetGroup::Ipv4 } else { SetGroup::Ipv6 };
    let mut set = SetMasked { group, value: PacketKey::ZERO, mask: PacketKey::ZERO };
    let (v, m) = (&mut set.value, &mut set.mask);
    match (addr, kind) {
        (IpAddr::V4(a), NatKind::Src) => (v.nw_src, m.nw_src) = (a.to_bits(), u32::MAX),
        (IpAddr::V4(a), NatKind::Dst) => (v.nw_dst, m.nw_dst) = (a.to_bits(), u32::MAX),
        (IpAddr::V6(a), NatKind::Src) => (v.ipv6_src, m.ipv6_src) = (a.octets(), [0xff; 16]),
        (IpAddr::V6(a), NatKind::Dst) => (v.ipv6_dst, m.ipv6_dst) = (a.octets(), [0xff; 16]),
    }
    rewrite::set(pkt, key, &set);
}

/// Where the identifier of an ICMP or ICMPv6 query is.
const ICMP_ID: usize = 4;
/// Where their checksum is.
const ICMP_CSUM: usize = 2;

fn set_icmp_id(pkt: &mut PacketBuf, id: u16) {
    let Some(mut message) = Message::of(pkt) else { return };
    message.put(message.l4 + ICMP_ID, id);
}

/// An ICMP message whose checksum follows its words.
struct Message<'a> {
    frame: &'a mut [u8],
    l4: usize,
    /// The device computes the checksum.
    partial: bool,
}

impl Message<'_> {
    fn of(pkt: &mut PacketBuf) -> Option<Message<'_>> {
        let l4 = pkt.l4()?;
        let partial = pkt.offload.needs_csum && usize::from(pkt.offload.csum_start) == l4;
        (pkt.len() >= l4 + ICMP_LEN).then(|| Message { frame: pkt.frame_mut(), l4, partial })
    }

    fn word(&self, at: usize) -> Option<u16> {
        be16(self.frame, at)
    }

    /// Overwrites a word at an even distance from the message's start; the old one if it changed.
    fn put(&mut self, at: usize, new: u16) -> Option<u16> {
        let old = self.word(at).filter(|&old| old != new)?;
        self.frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let csum = self.l4 + ICMP_CSUM;
        if !self.partial
            && let Some(field) = self.word(csum)
        {
            let field = update16(field, old, new);
            self.frame[csum..csum + 2].copy_from_slice(&field.to_be_bytes());
        }
        Some(old)
    }

    /// The same for the word of a quoted packet that checksums at `inner` cover.
    fn put_covered(&mut self, at: usize, new: u16, inner: &[Option<InnerSum>]) {
        let Some(old) = self.put(at, new) else { return };
        for sum in inner.iter().flatten() {
            let Some(field) = self.word(sum.at).filter(|&f| !(sum.may_be_none && f == 0)) else {
                continue;
            };
            match update16(field, old, new) {
                0 if sum.may_be_none => self.put(sum.at, 0xffff),
                field => self.put(sum.at, field),
            };
        }
    }
}

/// A checksum within a quoted packet. It may be cut off.
#[derive(Copy, Clone)]
struct InnerSum {
    at: usize,
    /// Zero means that there is none.
    may_be_none: bool,
}

/// Makes the packet that an ICMP error quotes one that has this tuple.
fn translate_quoted(pkt: &mut PacketBuf, key: &PacketKey, t: &Tuple) {
    let Some(mut m) = Message::of(pkt) else { return };
    let ip = m.l4 + ICMP_LEN;
    let inner = &m.frame[ip..];
    let (header, later) = match key.dl_type {
        ethertype::IPV4 => {
            let Some((&first, fragment)) = inner.first().zip(be16(inner, 6)) else { return };
            (Some((usize::from(first & 0xf) * 4, inner.get(9).copied())), fragment & 0x1fff != 0)
        }
        _ => (ipv6_header(inner), false),
    };
    let Some((len, Some(proto))) = header.filter(|h| inner.len() >= h.0.max(IPV4_LEN)) else {
        return;
    };
    let l4 = ip + len;
    let sum = |at, may_be_none| Some(InnerSum { at: l4 + at, may_be_none });
    let l4_sum = match proto {
        _ if later => None,
        ipproto::TCP => sum(16, false),
        ipproto::UDP => sum(6, true),
        ipproto::ICMP | ipproto::ICMPV6 => sum(ICMP_CSUM, false),
        _ => None,
    };
    // ICMP over IPv4 has no pseudo-header.
    let pseudo = l4_sum.filter(|_| proto != ipproto::ICMP);
    match (t.src, t.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let sums = [Some(InnerSum { at: ip + 10, may_be_none: false }), pseudo];
            put_words(&mut m, ip + 12, &src.octets(), &sums);
            put_words(&mut m, ip + 16, &dst.octets(), &sums);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            put_words(&mut m, ip + 8, &src.octets(), &[pseudo]);
            put_words(&mut m, ip + 24, &dst.octets(), &[pseudo]);
        }
        _ => return,
    }
    match proto {
        _ if later => {}
        ipproto::TCP | ipproto::UDP | ipproto::SCTP => {
            m.put_covered(l4, t.src_id, &[l4_sum]);
            m.put_covered(l4 + 2, t.dst_id, &[l4_sum]);
        }
        ipproto::ICMP | ipproto::ICMPV6 => m.put_covered(l4 + ICMP_ID, t.src_id, &[l4_sum]),
        _ => {}
    }
}

fn put_words(m: &mut Message<'_>, at: usize, bytes: &[u8], sums: &[Option<InnerSum>]) {
    for (i, word) in bytes.as_chunks::<2>().0.iter().enumerate() {
        m.put_covered(at + 2 * i, u16::from_be_bytes(*word), sums);
    }
}

/// Length of an IPv6 header with its extensions, and the protocol behind them.
fn ipv6_header(ip: &[u8]) -> Option<(usize, Option<u8>)> {
    let mut proto = *ip.get(6)?;
    let mut at = IPV6_LEN;
    while let ipproto::HOPOPTS | ipproto::DSTOPTS | ipproto::ROUTING | ipproto::FRAGMENT = proto {
        let (next, len) = ip.get(at).zip(ip.get(at + 1))?;
        // A fragment header has 0 where others have their length.
        let len = if proto == ipproto::FRAGMENT { 0 } else { usize::from(*len) };
        (proto, at) = (*next, at + (len + 1) * 8);
    }
    Some((at, Some(proto)))
}
