//! One packet out of its fragments, and back.

use packet::PacketBuf;
use packet::checksum::update16;
use packet::header::{IPV4_LEN, IPV6_LEN};

use super::{FragHeader, Piece};

/// Where the addresses begin in the IP headers.
const ADDRESSES_V4: usize = 12;
const ADDRESSES_V6: usize = 8;

/// The fragment bits of IPv4 that a whole datagram does not have.
const OFFSET_OR_MORE: u16 = 0x3fff;

/// A datagram as one packet.
#[derive(Debug)]
pub struct Whole {
    /// The packet. Its layers are not set. It has the first fragment's frame header and IP header; an IPv6 packet has
    /// no fragment header.
    pub packet: PacketBuf,
    l3: usize,
    payload: usize,
}

impl Whole {
    /// Joins the fragments of a complete datagram, in the order in which [`super::Offer::Complete`] has them. `frame`
    /// gives the frame of an item, as it was when it was offered. `None` if there are none.
    pub fn join<T>(pieces: &[Piece<T>], frame: impl Fn(&T) -> &PacketBuf) -> Option<Whole> {
        let (first, last) = (pieces.first()?, pieces.last()?);
        let h = &first.header;
        let v6 = h.key.is_ipv6();
        let head = if v6 { h.frag_at } else { h.payload };
        let whole = head + last.header.end as usize;
        let mut packet = PacketBuf::with_capacity(whole);
        let space = packet.recv_space();
        let start = frame(&first.item);
        copy(start.frame(), 0, space, 0, head);
        for p in pieces {
            let FragHeader { start, end, payload, .. } = p.header;
            let (start, end) = (start as usize, end as usize);
            copy(frame(&p.item).frame(), payload, space, head + start, end - start);
        }
        // What is held makes no larger frame than the length's 16 bits can say.
        let ip_len = (whole - h.l3) as u16;
        let ip = &mut space[h.l3..];
        if v6 {
            put(ip, 4, ip_len - IPV6_LEN as u16);
            // What the fragment header announced comes at once.
            copy(start.frame(), h.frag_at, space, h.next_at, 1);
        } else {
            put_summed(ip, 2, ip_len);
            put_summed(ip, 6, word(ip, 6) & !OFFSET_OR_MORE);
        }
        packet.set_len(whole);
        // A partial checksum in the first fragment can only mean the whole datagram. That a device has checked a
        // fragment says nothing of it.
        let offload = start.offload;
        if offload.needs_csum && usize::from(offload.csum_start) == h.payload {
            packet.offload.needs_csum = true;
            packet.offload.csum_start = head as u16;
            packet.offload.csum_offset = offload.csum_offset;
        }
        Some(Whole { packet, l3: h.l3, payload: head })
    }

    /// Brings addresses and payload of the packet, whose length must not have changed, into one of its fragments.
    pub fn share(&self, header: &FragHeader, part: &mut PacketBuf) {
        let (whole, part) = (self.packet.frame(), part.frame_mut());
        let (start, end) = (header.start as usize, header.end as usize);
        copy(whole, self.payload + start, part, header.payload, end - start);
        if header.key.is_ipv6() {
            copy(whole, self.l3 + ADDRESSES_V6, part, header.l3 + ADDRESSES_V6, 32);
        } else if let (Some(from), Some(ip)) =
            (whole.get(self.l3..self.l3 + IPV4_LEN), part.get_mut(header.l3..header.l3 + IPV4_LEN))
        {
            (ADDRESSES_V4..IPV4_LEN).step_by(2).for_each(|at| put_summed(ip, at, word(from, at)));
        }
    }
}

/// Copies bytes that are there on both sides.
fn copy(from: &[u8], at: usize, to: &mut [u8], place: usize, n: usize) {
    if let (Some(from), Some(to)) = (from.get(at..at + n), to.get_mut(place..place + n)) {
        to.copy_from_slice(from);
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, new: u16) {
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// Overwrites a word of an IPv4 header, whose checksum follows.
fn put_summed(ip: &mut [u8], at: usize, new: u16) {
    const CHECKSUM: usize = 10;
    let sum = update16(word(ip, CHECKSUM), word(ip, at), new);
    put(ip, at, new);
    put(ip, CHECKSUM, sum);
}
