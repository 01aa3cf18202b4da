//! Fragments under a sequence of packets, settings and time steps, and the whole of what became whole.
//!
//! Input: records. Kind 0 to 3 is a packet: a byte of circumstances (zone, place, port, partial checksum, whether the IPv4
//! header's checksum is put right), a byte of time in units of 100 ms, the frame. Kind 4 lets seconds pass and expires or
//! purges, 5 changes the settings.

use base::{Duration, HashKey, Instant, Zone};
use conntrack::frag::{FragConfig, FragCounters, FragHeader, Offer, Piece, Reassembly, Whole};
use conntrack::{Conntrack, CtConfig, CtRequest, InvalidReason, PacketView, Parse, parse};
use flow::PacketKey;
use packet::PacketBuf;
use packet::checksum::checksum;

use crate::input::Input;

fn waiting(c: &FragCounters) -> u64 {
    c.accepted - c.completed - c.expired - c.purged - c.evicted
}

fn check(table: &Reassembly<PacketBuf>) {
    let n = waiting(table.counters(false)) + waiting(table.counters(true));
    assert_eq!(n, table.len() as u64, "what came and has not gone is there");
    assert_eq!(table.dump().map(|d| d.n_fragments).sum::<usize>(), table.len());
    assert_eq!(table.is_empty(), table.bytes() == 0);
    assert_eq!(table.is_empty(), table.next_timeout().is_none());
}

/// Makes the IPv4 header's checksum right, so that what is behind it matters.
fn repair(pkt: &mut PacketBuf) {
    let Some(ip) = pkt.l3().and_then(|l3| pkt.frame_mut().get_mut(l3..)) else { return };
    let len = ip.first().map_or(0, |b| usize::from(b & 0xf) * 4);
    if let Some(header) = ip.get_mut(..len).filter(|h| h.len() >= 20) {
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Joins a datagram, lets the tracker judge it, and brings a change of it back.
fn complete(ct: &mut Conntrack, now: Instant, pieces: Vec<Piece<PacketBuf>>, req: &CtRequest) {
    let end = pieces.last().map_or(0, |p| p.header.end);
    let covered: u32 = pieces.iter().map(|p| p.header.end - p.header.start).sum();
    assert_eq!(covered, end, "each byte is there once");
    assert!(pieces.windows(2).all(|p| p[0].header.end == p[1].header.start));
    let Some(mut whole) = Whole::join(&pieces, |p| p) else { panic!("there are pieces") };
    let mut key = PacketKey::ZERO;
    flow::extract(&mut whole.packet, &mut key);
    ct.process(now, &PacketView::of(&whole.packet, key.dl_type), req, &mut None);
    // Sharing what did not change changes nothing.
    for mut p in pieces {
        let before = p.item.frame().to_vec();
        whole.share(&p.header, &mut p.item);
        assert!(before == p.item.frame() || p.header.start > 0, "the first is as it was");
        assert_eq!(before[p.header.payload..], p.item.frame()[p.header.payload..]);
    }
}

/// Feeds the table and checks after each step that what is counted, listed and limited agrees.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ct = Conntrack::new(HashKey([3, 4]), CtConfig { max_conns: 8, ..CtConfig::default() });
    let mut config = FragConfig { max_fragments: 12, max_bytes: 8000, ..FragConfig::default() };
    (config.v4.min_len, config.v6.min_len) = (28, 56);
    let mut table: Reassembly<PacketBuf> = Reassembly::new(config);
    let mut now = Instant::from_secs(1000);
    let mut steps = 0;
    while let Some((kind, mut body)) = input.record() {
        steps += 1;
        if steps > 200 {
            break;
        }
        match kind % 6 {
            0..=3 => {
                let flags = body.u8();
                now += Duration::from_millis(u64::from(body.u8()) * 100);
                let mut pkt = PacketBuf::from_frame(body.rest());
                let mut key = PacketKey::ZERO;
                flow::extract(&mut pkt, &mut key);
                if flags & 0x40 != 0 && key.dl_type == 0x800 {
                    repair(&mut pkt);
                }
                if flags & 0x20 != 0
                    && let Some(l4) = pkt.l4()
                {
                    let o = &mut pkt.offload;
                    (o.needs_csum, o.csum_start, o.csum_offset) = (true, l4 as u16, 6);
                }
                let req = CtRequest {
                    zone: Zone(u16::from(flags & 1)),
                    commit: true,
                    ..CtRequest::default()
                };
                let view = PacketView::of(&pkt, key.dl_type);
                if !matches!(parse(&view, req.zone), Parse::Invalid(InvalidReason::Fragment)) {
                    continue;
                }
                let place = u32::from(flags >> 1 & 1);
                let Ok(header) = FragHeader::parse(&view, req.zone, place) else { continue };
                assert!(header.end >= header.start);
                assert!(header.payload + (header.end - header.start) as usize <= pkt.len());
                let owner = u32::from(flags >> 2 & 3);
                let (offer, _) = table.offer(now, header, owner, pkt.len(), || pkt.clone());
                if let Offer::Complete(pieces) = offer {
                    complete(&mut ct, now, pieces, &req);
                }
            }
            4 => {
                now += Duration::from_secs(u64::from(body.u8()));
                if body.u8() & 1 == 0 {
                    table.expire(now, 3);
                } else {
                    table.purge(now);
                }
            }
            _ => {
                let mut config = *table.config();
                let flags = body.u8();
                config.max_fragments = u32::from(flags & 0xf);
                (config.v4.enabled, config.v6.enabled) = (flags & 0x10 == 0, flags & 0x20 == 0);
                config.max_bytes = body.u16().into();
                config.v4.min_len = body.u8().into();
                config.v6.min_len = body.u8().into();
                table.set_config(config);
            }
        }
        check(&table);
        assert!(table.len() <= 15, "no settings allow more");
    }
}
