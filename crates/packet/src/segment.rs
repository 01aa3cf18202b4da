//! What a device without offloads leaves to software: finishing partial checksums and cutting
//! large packets.
//!
//! [`finish_checksum`] completes one frame in place. [`Segments`] cuts a TCP or UDP packet that a
//! sender left large (TSO, USO) into frames of at most `gso_size` payload bytes, each complete:
//! lengths, IP identification, sequence number, flags, checksums. The cut frames are written into
//! a buffer of the caller's, so nothing is allocated once that is large enough.
//!
//! Offsets and sizes come from whoever sent the frame and are believed only as far as the headers
//! confirm them; a contradiction is a [`SegmentError`], never a panic.
//!
//! Invariant: the payloads of the segments, one after the other, are the payload of the packet.

use crate::checksum::{add, add16, add32, finish, fold, pseudo_v4, pseudo_v6};
use crate::crc32c::crc32c;
use crate::header::{
    ETH_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, VLAN_LEN, be16, be32, ethertype, ipproto,
    tcp_flag,
};
use crate::{GsoType, Offload, PacketBuf};

/// Offset of the checksum in a TCP header.
const TCP_CSUM: usize = 16;
/// Offset of the checksum in a UDP header.
const UDP_CSUM: usize = 6;
/// Offset of the checksum (CRC-32C) in an SCTP header. No Internet checksum has this offset.
const SCTP_CSUM: usize = 8;

/// Why a frame cannot be completed or cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The frame ends within a header.
    #[error("frame is cut off within its headers")]
    Truncated,
    /// The checksum's place is outside the frame or contradicts the headers.
    #[error("checksum offset {start}+{offset} contradicts the frame")]
    BadChecksumOffset {
        /// Where the checksum starts.
        start: u16,
        /// Where its field is, from the start.
        offset: u16,
    },
    /// The packet is not of the protocol its segmentation type says.
    #[error("segmentation type {0:?} contradicts the packet's protocol")]
    ProtocolMismatch(GsoType),
    /// Nothing here can cut this: UFO, or a type for a packet that is an IP fragment.
    #[error("packets of segmentation type {0:?} cannot be cut in software")]
    Unsupported(GsoType),
    /// A segment would have no payload.
    #[error("segment size is zero")]
    ZeroSize,
    /// A TCP packet that opens or resets a connection cannot be more than one segment.
    #[error("a TCP SYN or RST cannot be cut")]
    BadFlags,
    /// A segment's IP packet would be longer than 65,535 bytes.
    #[error("segment of {0} bytes is too long for IP")]
    SegmentTooLong(usize),
}

/// Completes a partial checksum and clears the note that it is partial. Frames without one are
/// left alone. A large packet must be cut instead.
pub fn finish_checksum(pkt: &mut PacketBuf) -> Result<(), SegmentError> {
    let Offload { needs_csum, csum_start, csum_offset, .. } = pkt.offload;
    if !needs_csum {
        return Ok(());
    }
    let bad = SegmentError::BadChecksumOffset { start: csum_start, offset: csum_offset };
    let offset = usize::from(csum_offset);
    if offset == SCTP_CSUM && is_sctp_at(pkt.frame(), csum_start) {
        let body = pkt.frame_mut().get_mut(usize::from(csum_start)..).ok_or(bad)?;
        body.get_mut(offset..offset + 4).ok_or(bad)?.fill(0);
        let crc = crc32c(body);
        body[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
    } else {
        let body = pkt.frame_mut().get_mut(usize::from(csum_start)..).ok_or(bad)?;
        let sum = nonzero(finish(add(0, body)));
        body.get_mut(offset..offset + 2).ok_or(bad)?.copy_from_slice(&sum.to_be_bytes());
    }
    pkt.offload.needs_csum = false;
    Ok(())
}

/// Notes on a frame that came without metadata that its checksum is partial, if it looks so: TCP or UDP
/// whose checksum is the sum over the pseudo-header alone, SCTP whose CRC is zero. So a sender on this
/// host leaves frames to its device.
///
/// One of 65,536 finished frames looks the same; finishing it again gives the same checksum. Fragments
/// and frames with padding are never partial.
pub fn note_partial_checksum(pkt: &mut PacketBuf) {
    let frame = pkt.frame();
    let Ok(at) = Layout::of(frame) else { return };
    if at.fragment {
        return;
    }
    let (ip, l4) = (&frame[at.l3..], &frame[at.l4..]);
    let said = be16(ip, if at.v6 { 4 } else { 2 }).map_or(0, usize::from);
    if said + if at.v6 { IPV6_LEN } else { 0 } != ip.len() {
        return;
    }
    let offset = match at.proto {
        ipproto::TCP => TCP_CSUM,
        ipproto::UDP => UDP_CSUM,
        ipproto::SCTP => SCTP_CSUM,
        _ => return,
    };
    let Some(field) = be16(l4, offset) else { return };
    let is_partial = if offset == SCTP_CSUM {
        be32(l4, offset) == Some(0)
    } else {
        let none = offset == UDP_CSUM && field == 0;
        !none && field == fold(pseudo_header(frame, at, l4.len()))
    };
    if is_partial {
        pkt.offload.needs_csum = true;
        pkt.offload.csum_start = at.l4 as u16;
        pkt.offload.csum_offset = offset as u16;
    }
}

/// A partial checksum that no virtio-net header can express: SCTP's is not an Internet checksum,
/// but its place is all the header says. Such a frame must be completed before it leaves.
pub fn needs_crc(o: &Offload) -> bool {
    o.needs_csum && usize::from(o.csum_offset) == SCTP_CSUM
}

fn is_sctp_at(frame: &[u8], at: u16) -> bool {
    Layout::of(frame).is_ok_and(|l| l.proto == ipproto::SCTP && l.l4 == usize::from(at))
}

/// The form of a computed checksum that does not mean "none" (RFC 768).
fn nonzero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// Where the headers of an IP packet are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Layout {
    l3: usize,
    v6: bool,
    l4: usize,
    proto: u8,
    /// An IP fragment, first or later.
    fragment: bool,
}

impl Layout {
    /// Walks Ethernet, any VLAN tags, IP and its options or extension headers.
    fn of(frame: &[u8]) -> Result<Layout, SegmentError> {
        use SegmentError::Truncated;
        let mut l3 = ETH_LEN;
        let mut ty = be16(frame, ETH_LEN - 2).ok_or(Truncated)?;
        while matches!(ty, ethertype::VLAN | ethertype::QINQ) {
            ty = be16(frame, l3 + 2).ok_or(Truncated)?;
            l3 += VLAN_LEN;
        }
        let ip = frame.get(l3..).ok_or(Truncated)?;
        match (ty, ip.first().map(|b| b >> 4)) {
            (ethertype::IPV4, Some(4)) => {
                let len = usize::from(ip[0] & 0xf) * 4;
                if len < IPV4_LEN || ip.len() < len {
                    return Err(Truncated);
                }
                let frag = be16(ip, 6).ok_or(Truncated)?;
                let fragment = frag & 0x3fff != 0;
                Ok(Layout { l3, v6: false, l4: l3 + len, proto: ip[9], fragment })
            }
            (ethertype::IPV6, Some(6)) => {
                let mut at = IPV6_LEN;
                let mut proto = *ip.get(6).ok_or(Truncated)?;
                let mut fragment = false;
                loop {
                    let next = match proto {
                        ipproto::HOPOPTS | ipproto::ROUTING | ipproto::DSTOPTS => {
                            8 + 8 * usize::from(*ip.get(at + 1).ok_or(Truncated)?)
                        }
                        ipproto::AH => 8 + 4 * usize::from(*ip.get(at + 1).ok_or(Truncated)?),
                        ipproto::FRAGMENT => {
                            // An atomic fragment (RFC 6946) is whole.
                            fragment |= be16(ip, at + 2).ok_or(Truncated)? & 0xfff9 != 0;
                            8
                        }
                        _ => break,
                    };
                    proto = *ip.get(at).ok_or(Truncated)?;
                    at += next;
                }
                if ip.len() < at {
                    return Err(Truncated);
                }
                Ok(Layout { l3, v6: true, l4: l3 + at, proto, fragment })
            }
            _ => Err(Truncated),
        }
    }
}

/// Bytes of the longest frame that a large TCP packet becomes, as far as its metadata tells;
/// the frame's own length for any other packet.
#[inline]
pub fn longest_frame(pkt: &PacketBuf) -> usize {
    let o = &pkt.offload;
    if !matches!(o.gso_type, GsoType::TcpV4 | GsoType::TcpV6) {
        return pkt.len();
    }
    let l4 = if o.needs_csum { Some(usize::from(o.csum_start)) } else { pkt.l4() };
    let data_offset = |l4: usize| pkt.frame().get(l4 + 12).map(|b| usize::from(b >> 4) * 4);
    match l4.and_then(|l4| Some(l4 + data_offset(l4)?)) {
        Some(payload) => pkt.len().min(payload + usize::from(o.gso_size)),
        None => pkt.len(),
    }
}

/// The metadata that lets a TCP packet be cut into frames of at most `room` bytes; `None` if it
/// cannot be: not TCP, a fragment, no payload, or headers that leave no room.
///
/// Cutting TCP changes no byte that an end sees, so it stands in for the fragmentation that a
/// switch cannot ask a sender for.
pub fn cut_to(pkt: &PacketBuf, room: usize) -> Option<Offload> {
    let frame = pkt.frame();
    let at = Layout::of(frame).ok()?;
    let flags = be16(frame, at.l4 + 12)?;
    let payload = at.l4 + usize::from(flags >> 12) * 4;
    let unable = flags & (tcp_flag::SYN | tcp_flag::RST | tcp_flag::URG) != 0;
    if at.proto != ipproto::TCP || at.fragment || unable || payload < at.l4 + TCP_LEN {
        return None;
    }
    if payload >= room || payload >= frame.len() {
        return None;
    }
    Some(Offload {
        gso_type: if at.v6 { GsoType::TcpV6 } else { GsoType::TcpV4 },
        gso_size: u16::try_from(room - payload).ok()?,
        hdr_len: u16::try_from(payload).ok()?,
        ..pkt.offload
    })
}

/// The segments of a large packet, one by one.
#[derive(Debug)]
pub struct Segments<'a> {
    frame: &'a [u8],
    at: Layout,
    tcp: bool,
    /// UDP over IPv4 whose sender left the checksum out.
    no_csum: bool,
    /// Offset of the payload.
    payload: usize,
    size: usize,
    n_segments: usize,
    next: usize,
}

impl<'a> Segments<'a> {
    /// Examines a packet with a segmentation type. The frame's own layer offsets are not used.
    pub fn of(pkt: &'a PacketBuf) -> Result<Segments<'a>, SegmentError> {
        let o = &pkt.offload;
        let frame = pkt.frame();
        if o.gso_type == GsoType::Udp || o.gso_type == GsoType::None {
            return Err(SegmentError::Unsupported(o.gso_type));
        }
        if o.gso_size == 0 {
            return Err(SegmentError::ZeroSize);
        }
        let at = Layout::of(frame)?;
        let (tcp, fits, csum) = match o.gso_type {
            GsoType::TcpV4 => (true, at.proto == ipproto::TCP && !at.v6, TCP_CSUM),
            GsoType::TcpV6 => (true, at.proto == ipproto::TCP && at.v6, TCP_CSUM),
            _ => (false, at.proto == ipproto::UDP, UDP_CSUM),
        };
        if !fits {
            return Err(SegmentError::ProtocolMismatch(o.gso_type));
        }
        if at.fragment {
            return Err(SegmentError::Unsupported(o.gso_type));
        }
        if o.needs_csum
            && (usize::from(o.csum_start) != at.l4 || usize::from(o.csum_offset) != csum)
        {
            return Err(SegmentError::BadChecksumOffset {
                start: o.csum_start,
                offset: o.csum_offset,
            });
        }
        let l4 = frame.get(at.l4..).ok_or(SegmentError::Truncated)?;
        let l4_len = if tcp {
            let len = l4.get(12).map_or(0, |b| usize::from(b >> 4) * 4);
            if len < TCP_LEN { usize::MAX } else { len }
        } else {
            UDP_LEN
        };
        if l4.len() < l4_len {
            return Err(SegmentError::Truncated);
        }
        let payload = at.l4 + l4_len;
        // Whoever looked at the packet before has believed its length, and not seen headers behind it.
        // A jumbo packet says 0.
        let said = match be16(frame, at.l3 + if at.v6 { 4 } else { 2 }).unwrap_or(0) {
            0 => usize::MAX,
            n => usize::from(n) + if at.v6 { IPV6_LEN } else { 0 },
        };
        if said < payload - at.l3 {
            return Err(SegmentError::Truncated);
        }
        let size = usize::from(o.gso_size);
        let n_segments = (frame.len() - payload).div_ceil(size).max(1);
        let flags = be16(l4, 12).unwrap_or(0);
        if tcp && n_segments > 1 && flags & (tcp_flag::SYN | tcp_flag::RST) != 0 {
            return Err(SegmentError::BadFlags);
        }
        let longest = payload - at.l3 + size.min(frame.len() - payload);
        if longest > usize::from(u16::MAX) {
            return Err(SegmentError::SegmentTooLong(longest));
        }
        let no_csum = !tcp && !at.v6 && !o.needs_csum && be16(l4, UDP_CSUM) == Some(0);
        Ok(Segments { frame, at, tcp, no_csum, payload, size, n_segments, next: 0 })
    }

    /// How many segments are still to come.
    pub fn remaining(&self) -> usize {
        self.n_segments - self.next
    }

    /// Writes the next segment to `out`, which grows if it must; false if there is none left.
    pub fn next_into(&mut self, out: &mut PacketBuf) -> bool {
        if self.next >= self.n_segments {
            return false;
        }
        let i = self.next;
        self.next += 1;
        let last = self.next == self.n_segments;
        let start = self.payload + i * self.size;
        let body = &self.frame[start..(start + self.size).min(self.frame.len())];
        let len = self.payload + body.len();

        out.reserve(len);
        out.reset();
        out.set_len(len);
        let f = out.frame_mut();
        f[..self.payload].copy_from_slice(&self.frame[..self.payload]);
        f[self.payload..].copy_from_slice(body);

        let Layout { l3, l4, .. } = self.at;
        let l4_bytes = len - l4;
        self.write_ip(&mut f[l3..], i);
        let pseudo = pseudo_header(self.frame, self.at, l4_bytes);
        if self.tcp {
            self.write_tcp(&mut f[l4..], i, last, pseudo);
        } else {
            put16(&mut f[l4..], 4, l4_bytes as u16);
            put16(&mut f[l4..], UDP_CSUM, 0);
            if !self.no_csum {
                let sum = nonzero(finish(add(pseudo, &f[l4..])));
                put16(&mut f[l4..], UDP_CSUM, sum);
            }
        }
        out.set_layers(Some(l3), Some(l4));
        true
    }

    /// Lengths, identification and header checksum of segment `i`; `ip` starts at the header.
    fn write_ip(&self, ip: &mut [u8], i: usize) {
        if self.at.v6 {
            let len = (ip.len() - IPV6_LEN) as u16;
            put16(ip, 4, len);
            return;
        }
        let len = ip.len() as u16;
        put16(ip, 2, len);
        let id = be16(ip, 4).unwrap_or(0).wrapping_add(i as u16);
        put16(ip, 4, id);
        put16(ip, 10, 0);
        let sum = finish(add(0, &ip[..self.at.l4 - self.at.l3]));
        put16(ip, 10, sum);
    }

    /// Sequence number, flags and checksum of segment `i`.
    fn write_tcp(&self, tcp: &mut [u8], i: usize, last: bool, pseudo: u32) {
        let seq = be32(tcp, 4).unwrap_or(0).wrapping_add((i * self.size) as u32);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        let mut flags = be16(tcp, 12).unwrap_or(0);
        if !last {
            flags &= !(tcp_flag::FIN | tcp_flag::PSH);
        }
        if i > 0 {
            // Once for the whole window, on its first segment (RFC 3168 §6.1.2).
            flags &= !tcp_flag::CWR;
        }
        put16(tcp, 12, flags);
        put16(tcp, TCP_CSUM, 0);
        let sum = finish(add(pseudo, tcp));
        put16(tcp, TCP_CSUM, sum);
    }
}

/// Running sum over the pseudo-header of an IP packet whose transport header and payload have so many bytes.
fn pseudo_header(frame: &[u8], at: Layout, l4_bytes: usize) -> u32 {
    let ip = &frame[at.l3..];
    if !at.v6 {
        let a = |at| be32(ip, at).unwrap_or(0);
        return pseudo_v4(a(12), a(16), at.proto, l4_bytes as u32);
    }
    match (ip[8..].first_chunk::<16>(), final_destination(ip, at.l4 - at.l3)) {
        (Some(src), Some(dst)) => pseudo_v6(src, dst, at.proto, l4_bytes as u32),
        _ => add32(add16(0, u16::from(at.proto)), l4_bytes as u32),
    }
}

/// The destination that the IPv6 pseudo-header counts (RFC 8200 §8.1): the last address of a
/// routing header with segments left, else the header's own.
fn final_destination(ip: &[u8], l4: usize) -> Option<&[u8; 16]> {
    let own = ip[24..].first_chunk::<16>();
    let mut proto = ip[6];
    let mut at = IPV6_LEN;
    while at < l4 {
        let len = match proto {
            ipproto::AH => 8 + 4 * usize::from(*ip.get(at + 1)?),
            ipproto::FRAGMENT => 8,
            _ => 8 + 8 * usize::from(*ip.get(at + 1)?),
        };
        if proto == ipproto::ROUTING && *ip.get(at + 3)? > 0 {
            return match *ip.get(at + 2)? {
                // Types 0 and 2: addresses in travel order. Type 4 (RFC 8754): in reverse.
                0 | 2 if len >= 24 => ip.get(at + len - 16..)?.first_chunk(),
                4 if len >= 24 => ip.get(at + 8..)?.first_chunk(),
                _ => own,
            };
        }
        proto = *ip.get(at)?;
        at += len;
    }
    own
}

fn put16(data: &mut [u8], at: usize, v: u16) {
    data[at..at + 2].copy_from_slice(&v.to_be_bytes());
}
