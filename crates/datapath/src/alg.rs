//! Changing a packet of an FTP control connection as the tracker's helper says: the address in its
//! text, and the sequence numbers that earlier such changes moved.

use conntrack::{Edit, TextEdit};
use flow::PacketKey;
use packet::PacketBuf;
use packet::checksum::{add, finish, pseudo_v4, pseudo_v6, update16};
use packet::header::{TCP_LEN, be16, be32, ethertype, ipproto, tcp_flag};

use crate::rewrite;

const SEQ: usize = 4;
const ACK: usize = 8;
const CSUM: usize = 16;

/// Changes a TCP packet, whose checksum was found right. `key` must be that of the packet, its layers
/// must be set.
pub(crate) fn edit(pkt: &mut PacketBuf, key: &PacketKey, edit: &Edit) {
    let Some(l4) = pkt.l4().filter(|_| key.nw_proto == ipproto::TCP) else { return };
    let end = rewrite::ip_end(pkt, key);
    let Some(header_len) = header_len(pkt, l4).filter(|len| l4 + len <= end) else { return };
    let header = &mut pkt.frame_mut()[l4..l4 + header_len];
    map32(header, SEQ, |seq| seq.wrapping_add(edit.seq));
    if header[13] & tcp_flag::ACK as u8 != 0 {
        map32(header, ACK, |ack| edit.ack(ack));
        map_sack(&mut header[TCP_LEN..], |edge| edit.ack(edge));
    }
    if let Some(text) = &edit.text {
        replace(pkt, key, l4 + header_len, end, text);
    }
    sum(pkt, key, l4);
}

fn header_len(pkt: &PacketBuf, l4: usize) -> Option<usize> {
    let len = usize::from(be16(pkt.frame(), l4 + 12)? >> 12) * 4;
    (len >= TCP_LEN && pkt.len() >= l4 + len).then_some(len)
}

fn map32(bytes: &mut [u8], at: usize, f: impl Fn(u32) -> u32) {
    let Some(old) = be32(bytes, at) else { return };
    bytes[at..at + 4].copy_from_slice(&f(old).to_be_bytes());
}

/// Changes the edges of selective acknowledgments (RFC 2018 §3).
fn map_sack(options: &mut [u8], f: impl Fn(u32) -> u32) {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const SACK: u8 = 5;
    let mut at = 0;
    while let Some(&kind) = options.get(at).filter(|&&kind| kind != END) {
        if kind == NOP {
            at += 1;
            continue;
        }
        let Some(len) = options.get(at + 1).map(|&n| usize::from(n)).filter(|&n| n >= 2) else {
            return;
        };
        let Some(option) = options.get_mut(at..at + len).filter(|_| kind == SACK) else {
            at += len;
            continue;
        };
        for edge in option[2..].as_chunks_mut::<4>().0 {
            *edge = f(u32::from_be_bytes(*edge)).to_be_bytes();
        }
        at += len;
    }
}

/// Replaces a text in the payload and says so in the IP header.
fn replace(pkt: &mut PacketBuf, key: &PacketKey, payload: usize, end: usize, text: &TextEdit) {
    let (at, n) = (payload + usize::from(text.at), usize::from(text.len));
    let Some(l3) = pkt.l3().filter(|_| at + n <= end) else { return };
    let longer = (text.text.len() as u16).wrapping_sub(text.len);
    pkt.splice(at, n, text.text.as_bytes());
    let (field, csum) = match key.dl_type {
        ethertype::IPV4 => (l3 + 2, Some(l3 + 10)),
        _ => (l3 + 4, None),
    };
    let frame = pkt.frame_mut();
    let Some(old) = be16(frame, field) else { return };
    let new = old.wrapping_add(longer);
    frame[field..field + 2].copy_from_slice(&new.to_be_bytes());
    if let Some(csum) = csum
        && let Some(sum) = be16(frame, csum)
    {
        frame[csum..csum + 2].copy_from_slice(&update16(sum, old, new).to_be_bytes());
    }
}

/// Computes the transport checksum, or the part of it that the device completes.
fn sum(pkt: &mut PacketBuf, key: &PacketKey, l4: usize) {
    let end = rewrite::ip_end(pkt, key);
    let partial = pkt.offload.needs_csum && usize::from(pkt.offload.csum_start) == l4;
    let Some(segment) = pkt.frame_mut().get_mut(l4..end).filter(|s| s.len() >= TCP_LEN) else {
        return;
    };
    let len = segment.len() as u32;
    let pseudo = match key.dl_type {
        ethertype::IPV4 => pseudo_v4(key.nw_src, key.nw_dst, ipproto::TCP, len),
        _ => pseudo_v6(&key.ipv6_src, &key.ipv6_dst, ipproto::TCP, len),
    };
    segment[CSUM..CSUM + 2].fill(0);
    let sum = if partial { !finish(pseudo) } else { finish(add(pseudo, segment)) };
    segment[CSUM..CSUM + 2].copy_from_slice(&sum.to_be_bytes());
}
