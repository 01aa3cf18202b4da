//! Fragments: conversations in both versions of IP on a simulated clock, and properties.

#![allow(clippy::unwrap_used, reason = "tests")]

use base::{Duration, HashKey, Instant, Zone};
use conntrack::frag::{
    FragConfig, FragCounters, FragHeader, FragState, MOST_PER_DATAGRAM, Offer, PURGE_AFTER, Piece,
    Reassembly, TIMEOUT, Whole,
};
use conntrack::{
    Conntrack, CtConfig, CtInfo, CtRequest, CtState, InvalidReason as R, PacketView, Parse, parse,
};
use packet::PacketBuf;
use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use proptest::prelude::*;

const A4: [u8; 4] = [10, 0, 0, 1];
const B4: [u8; 4] = [10, 0, 0, 2];
const A6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A datagram: what it carries, and how it travels.
#[derive(Clone, Debug)]
struct Datagram {
    v6: bool,
    id: u32,
    tags: usize,
    /// IPv6: extension headers before the fragment header, of eight bytes each.
    before: Vec<u8>,
    proto: u8,
    payload: Vec<u8>,
}

impl Datagram {
    /// UDP with `n` bytes of data.
    fn udp(v6: bool, id: u32, n: usize) -> Datagram {
        let mut l4 = [1000_u16.to_be_bytes(), 53_u16.to_be_bytes()].concat();
        l4.extend(((8 + n) as u16).to_be_bytes());
        l4.extend([0, 0]);
        l4.extend((0..n).map(|i| (i * 7 + i / 256) as u8));
        Datagram { v6, id, tags: 0, before: vec![], proto: 17, payload: l4 }.summed(6)
    }

    fn pseudo(&self) -> u32 {
        let n = self.payload.len() as u32;
        match self.v6 {
            false => pseudo_v4(u32::from_be_bytes(A4), u32::from_be_bytes(B4), self.proto, n),
            true => pseudo_v6(&A6, &B6, self.proto, n),
        }
    }

    fn summed(mut self, at: usize) -> Datagram {
        let pseudo = if self.proto == 1 { 0 } else { self.pseudo() };
        let sum = finish(add(pseudo, &self.payload));
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self
    }

    fn ethernet(&self) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        (0..self.tags).for_each(|i| f.extend([0x81, 0, 0, i as u8 + 1]));
        f.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        f
    }

    fn l3(&self) -> usize {
        14 + 4 * self.tags
    }

    fn eth_type(&self) -> u16 {
        if self.v6 { 0x86dd } else { 0x800 }
    }

    /// The frame with bytes `range` of the payload; with `more`, it is a fragment that others follow. `None`: unfragmented.
    fn frame(&self, fragment: Option<(usize, usize, bool)>) -> PacketBuf {
        let (from, to, more) = fragment.unwrap_or((0, self.payload.len(), false));
        let part = &self.payload[from..to];
        let mut f = self.ethernet();
        let l3 = f.len();
        if self.v6 {
            let chain: Vec<u8> = self.before.iter().copied().chain(fragment.map(|_| 44)).collect();
            let next = |i: usize| chain.get(i).copied().unwrap_or(self.proto);
            f.extend([0x60, 0, 0, 0]);
            f.extend(((chain.len() * 8 + part.len()) as u16).to_be_bytes());
            f.extend([next(0), 64]);
            f.extend(A6);
            f.extend(B6);
            self.before
                .iter()
                .enumerate()
                .for_each(|(i, _)| f.extend([next(i + 1), 0, 1, 4, 0, 0, 0, 0]));
            if fragment.is_some() {
                f.extend([self.proto, 0]);
                f.extend((from as u16 | u16::from(more)).to_be_bytes());
                f.extend(self.id.to_be_bytes());
            }
        } else {
            f.extend([0x45, 0]);
            f.extend(((20 + part.len()) as u16).to_be_bytes());
            f.extend((self.id as u16).to_be_bytes());
            let flag = if more { 0x2000 } else { 0 };
            f.extend((flag | (from as u16 / 8)).to_be_bytes());
            f.extend([64, self.proto, 0, 0]);
            f.extend(A4);
            f.extend(B4);
            let sum = checksum(&f[l3..]);
            f[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        }
        f.extend(part);
        let mut p = PacketBuf::from_frame(&f);
        p.set_layers(Some(l3), None);
        p
    }

    /// Fragments that end at these bytes of the payload and at its end.
    fn cut(&self, at: &[usize]) -> Vec<PacketBuf> {
        let ends = at.iter().copied().chain([self.payload.len()]);
        let mut from = 0;
        ends.map(|to| {
            let f = self.frame(Some((from, to, to < self.payload.len())));
            from = to;
            f
        })
        .collect()
    }
}

/// A tracker with fragments before it.
struct Net {
    ct: Conntrack,
    table: Reassembly<PacketBuf>,
    now: Instant,
    zone: Zone,
    place: u32,
    owner: u32,
    /// Fragments dropped to make room, and for being too old.
    dropped: [usize; 2],
}

/// What became of a packet.
#[derive(Debug, PartialEq)]
enum Out {
    Held,
    Alone(CtInfo),
    /// The fragments that go on, and the verdict of all.
    Together(Vec<Vec<u8>>, CtInfo),
}

impl Net {
    fn new() -> Net {
        let secret = HashKey([3, 4]);
        Net {
            ct: Conntrack::new(secret, CtConfig::default()),
            table: Reassembly::new(FragConfig::default()),
            now: Instant::from_secs(100),
            zone: Zone(0),
            place: 0,
            owner: 1,
            dropped: [0; 2],
        }
    }

    /// One that takes fragments of 400 bytes, in both versions.
    fn small() -> Net {
        let mut net = Net::new();
        net.configure(|c| (c.v4.min_len, c.v6.min_len) = (400, 400));
        net
    }

    fn configure(&mut self, f: impl FnOnce(&mut FragConfig)) {
        let mut config = *self.table.config();
        f(&mut config);
        self.table.set_config(config);
    }

    fn request(&self) -> CtRequest {
        CtRequest { zone: self.zone, commit: true, ..CtRequest::default() }
    }

    fn offer(&mut self, p: &PacketBuf, eth_type: u16) -> Result<Offer<PacketBuf>, R> {
        let header = FragHeader::parse(&PacketView::of(p, eth_type), self.zone, self.place)?;
        let (offer, dropped) =
            self.table.offer(self.now, header, self.owner, p.len(), || p.clone());
        self.dropped.iter_mut().zip(dropped).for_each(|(sum, n)| *sum += n);
        Ok(offer)
    }

    fn send(&mut self, p: &PacketBuf, eth_type: u16) -> Out {
        let request = self.request();
        let view = PacketView::of(p, eth_type);
        if !matches!(parse(&view, self.zone), Parse::Invalid(R::Fragment)) {
            return Out::Alone(self.ct.process(self.now, &view, &request, &mut None));
        }
        match self.offer(p, eth_type) {
            Ok(Offer::Held) => Out::Held,
            Ok(Offer::Refused(reason)) | Err(reason) => {
                Out::Alone(self.ct.refuse(self.zone, reason))
            }
            Ok(Offer::Complete(pieces)) => {
                let whole = join(&pieces);
                let info = self.ct.process(
                    self.now,
                    &PacketView::of(&whole.packet, eth_type),
                    &request,
                    &mut None,
                );
                let frames = pieces.iter().map(|p| p.item.frame().to_vec()).collect();
                Out::Together(frames, info)
            }
        }
    }

    fn counters(&self, v6: bool) -> FragCounters {
        *self.table.counters(v6)
    }

    /// What waits is what came and has not gone.
    fn check_books(&self) {
        let of = |c: FragCounters| c.accepted - c.completed - c.expired - c.purged - c.evicted;
        let waiting = of(self.counters(false)) + of(self.counters(true));
        assert_eq!(waiting, self.table.len() as u64);
        assert_eq!(self.table.len(), self.table.dump().map(|d| d.n_fragments).sum::<usize>());
        assert_eq!(self.table.is_empty(), self.table.next_timeout().is_none());
        assert!(self.table.bytes() <= self.table.config().max_bytes);
        assert!(self.table.len() <= self.table.config().max_fragments as usize);
    }
}

fn join(pieces: &[Piece<PacketBuf>]) -> Whole {
    let mut whole = Whole::join(pieces, |p| p).unwrap();
    let l3 = pieces[0].header.l3;
    whole.packet.set_layers(Some(l3), None);
    whole
}

fn refused(out: &Out) -> Option<R> {
    match out {
        Out::Alone(info) => info.invalid,
        _ => None,
    }
}

/// A datagram of three fragments for each version of IP.
fn each() -> [(Datagram, Vec<PacketBuf>); 2] {
    [false, true].map(|v6| {
        let d = Datagram::udp(v6, 7, 3000);
        let parts = d.cut(&[1400, 2800]);
        (d, parts)
    })
}

/// The verdict of the datagram that was never cut.
fn verdict_of(d: &Datagram) -> CtInfo {
    match Net::new().send(&d.frame(None), d.eth_type()) {
        Out::Alone(info) => info,
        out => panic!("{out:?}"),
    }
}

#[test]
fn in_any_order_all_fragments_go_on_with_the_verdict_of_the_whole() {
    for (d, parts) in each() {
        let want = verdict_of(&d);
        assert!(want.state == CtState::TRK | CtState::NEW && want.conn.is_some());
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut net = Net::new();
            assert_eq!(net.send(&parts[order[0]], d.eth_type()), Out::Held, "{order:?}");
            assert_eq!(net.send(&parts[order[1]], d.eth_type()), Out::Held, "{order:?}");
            let out = net.send(&parts[order[2]], d.eth_type());
            // As they came, in the order of their offsets.
            let frames = parts.iter().map(|p| p.frame().to_vec()).collect();
            assert_eq!(out, Out::Together(frames, want), "{order:?}");
            assert!(net.table.is_empty() && net.table.bytes() == 0);
            assert_eq!(net.counters(d.v6).accepted, 3);
            assert_eq!(net.counters(d.v6).completed, 3);
            net.check_books();
        }
    }
}

#[test]
fn the_joined_packet_is_the_one_that_was_cut() {
    for (mut d, _) in each() {
        for (tags, before) in [(0, vec![]), (1, vec![0]), (2, vec![0, 43, 60])] {
            d.tags = tags;
            d.before = if d.v6 { before } else { vec![] };
            let mut net = Net::new();
            let mut parts = d.cut(&[1400, 2800]);
            // Padding of a short frame is not part of it.
            let last = parts.pop().unwrap();
            let mut padded = last.frame().to_vec();
            padded.extend([0; 10]);
            let mut padded = PacketBuf::from_frame(&padded);
            padded.set_layers(Some(d.l3()), None);
            net.offer(&padded, d.eth_type()).unwrap();
            net.offer(&parts[1], d.eth_type()).unwrap();
            let Ok(Offer::Complete(pieces)) = net.offer(&parts[0], d.eth_type()) else { panic!() };
            let whole = join(&pieces);
            assert_eq!(whole.packet.frame(), d.frame(None).frame(), "{tags} tags");
        }
    }
}

#[test]
fn what_is_changed_in_the_whole_is_changed_in_its_fragments() {
    for (d, parts) in each() {
        let mut net = Net::new();
        let offers = parts.iter().map(|p| net.offer(p, d.eth_type()).unwrap());
        let Some(Offer::Complete(mut pieces)) = offers.last() else { panic!() };
        let mut whole = join(&pieces);
        // Another source address and port, another byte at the end.
        let (l3, n) = (d.l3(), whole.packet.len());
        let frame = whole.packet.frame_mut();
        let (src, l4) = if d.v6 { (l3 + 8 + 15, l3 + 40) } else { (l3 + 12 + 3, l3 + 20) };
        frame[src] = 99;
        frame[l4] = 77;
        frame[n - 1] = 55;
        let mut want = d.clone();
        want.payload[0] = 77;
        *want.payload.last_mut().unwrap() = 55;
        for (p, cut) in pieces.iter_mut().zip(want.cut(&[1400, 2800])) {
            whole.share(&p.header, &mut p.item);
            let mut cut = cut.frame().to_vec();
            cut[src] = 99;
            if !d.v6 {
                cut[l3 + 10..l3 + 12].fill(0);
                let sum = checksum(&cut[l3..l3 + 20]);
                cut[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(p.item.frame(), cut);
        }
    }
}

#[test]
fn a_partial_checksum_is_one_of_the_whole_and_a_checked_one_is_not() {
    for (mut d, _) in each() {
        d.before = if d.v6 { vec![0] } else { vec![] };
        let partial = !finish(d.pseudo());
        d.payload[6..8].copy_from_slice(&partial.to_be_bytes());
        let l4 = if d.v6 { d.l3() + 40 + 16 } else { d.l3() + 20 };
        for partial in [true, false] {
            let mut parts = d.cut(&[1400, 2800]);
            let o = &mut parts[0].offload;
            (o.needs_csum, o.csum_valid) = (partial, !partial);
            (o.csum_start, o.csum_offset) = (l4 as u16, 6);
            let mut net = Net::new();
            let outs: Vec<_> = parts.iter().map(|p| net.send(p, d.eth_type())).collect();
            let Some(Out::Together(_, info)) = outs.last() else { panic!() };
            let want = if partial { None } else { Some(R::L4Checksum) };
            assert_eq!(info.invalid, want);
            let mut net = Net::new();
            let offers = parts.iter().map(|p| net.offer(p, d.eth_type()).unwrap());
            let Some(Offer::Complete(pieces)) = offers.last() else { panic!() };
            let o = join(&pieces).packet.offload;
            assert_eq!(o.needs_csum, partial);
            assert!(!o.csum_valid);
            if partial {
                let whole_l4 = d.l3() + if d.v6 { 48 } else { 20 };
                assert_eq!((usize::from(o.csum_start), o.csum_offset), (whole_l4, 6));
            }
        }
    }
}

#[test]
fn fragments_that_come_twice_or_overlap_are_refused_and_those_before_stay() {
    for (d, parts) in each() {
        let mut net = Net::small();
        let ty = d.eth_type();
        net.send(&parts[0], ty);
        net.send(&parts[2], ty);
        let part = |from, to, more| d.frame(Some((from, to, more)));
        let n = d.payload.len();
        for (what, p) in [
            ("the first again", parts[0].clone()),
            ("the last again", parts[2].clone()),
            ("eight bytes of the first", part(1392, 2800, true)),
            ("eight bytes of the last", part(1400, 2808, true)),
            ("within the first", part(400, 1200, true)),
            ("around the last", part(2400, n, false)),
            ("around both", part(0, n, false)),
            ("around the first", part(0, 2000, true)),
        ] {
            if what == "around both" && !d.v6 {
                // In IPv4 that is no fragment.
                continue;
            }
            let out = net.send(&p, ty);
            if what == "around both" {
                // An atomic fragment is a packet of its own (RFC 6946).
                assert!(matches!(out, Out::Alone(i) if i.invalid.is_none()), "{what}: {out:?}");
            } else {
                assert_eq!(refused(&out), Some(R::FragmentOverlap), "{what}: {out:?}");
            }
        }
        assert_eq!(net.counters(d.v6).overlap, 7);
        assert_eq!(net.ct.counters().invalid_by(R::FragmentOverlap), 7);
        let out = net.send(&parts[1], ty);
        assert!(matches!(out, Out::Together(f, i) if f.len() == 3 && i.invalid.is_none()));
        net.check_books();
    }
}

#[test]
fn a_datagram_has_one_end() {
    for (d, parts) in each() {
        let ty = d.eth_type();
        let n = d.payload.len();
        let mut longer = d.clone();
        longer.payload.extend([0; 2000]);
        let mut net = Net::small();
        net.send(&parts[2], ty);
        // Behind the last one; another last one before and behind it.
        for p in [
            longer.frame(Some((n.next_multiple_of(8), n.next_multiple_of(8) + 800, true))),
            longer.frame(Some((4000, 5008, false))),
            longer.frame(Some((1400, 2400, false))),
        ] {
            assert_eq!(refused(&net.send(&p, ty)), Some(R::FragmentBounds));
        }
        // A last one where others are behind it.
        let mut net = Net::small();
        net.send(&longer.frame(Some((3200, 4000, true))), ty);
        assert_eq!(refused(&net.send(&parts[2], ty)), Some(R::FragmentBounds));
        assert_eq!(net.counters(d.v6).bounds, 1);
        // Nothing follows on 1,401 bytes.
        let odd = d.frame(Some((0, 1401, true)));
        assert_eq!(refused(&net.send(&odd, ty)), Some(R::FragmentBounds));
        net.check_books();
    }
}

#[test]
fn small_fragments_are_refused_unless_they_are_the_last() {
    for (d, _) in each() {
        let mut net = Net::new();
        let header = if d.v6 { 48 } else { 20 };
        let min: usize = if d.v6 { 1280 } else { 1200 };
        let fits = (min - header).next_multiple_of(8);
        let small = d.frame(Some((0, fits - 8, true)));
        assert_eq!(refused(&net.send(&small, d.eth_type())), Some(R::FragmentSmall));
        assert_eq!(net.counters(d.v6).too_small, 1);
        assert_eq!(net.send(&d.frame(Some((0, fits, true))), d.eth_type()), Out::Held);
        let last = d.frame(Some((fits, fits + 1, false)));
        let mut cut_short = d.clone();
        cut_short.payload.truncate(fits + 1);
        assert!(matches!(net.send(&last, d.eth_type()), Out::Together(..)), "one byte is enough");
    }
}

#[test]
fn empty_fragments_are_held_and_never_come_twice() {
    // As OVS's own tests have them: last ones without a byte.
    let d = Datagram::udp(false, 1, 3000);
    let mut net = Net::new();
    let empty = d.frame(Some((1400, 1400, false)));
    assert_eq!(net.send(&empty, 0x800), Out::Held);
    assert_eq!(net.send(&empty, 0x800), Out::Held);
    let first = d.frame(Some((0, 1400, true)));
    let out = net.send(&first, 0x800);
    assert!(matches!(out, Out::Together(f, _) if f.len() == 3));
    assert!(net.table.is_empty());
}

#[test]
fn what_is_not_whole_in_time_is_dropped() {
    for (d, parts) in each() {
        let ty = d.eth_type();
        let other = Datagram { id: 8, ..d.clone() }.cut(&[1400, 2800]);
        let mut net = Net::new();
        net.send(&parts[0], ty);
        net.now += Duration::from_secs(10);
        net.send(&parts[1], ty);
        net.now += TIMEOUT - Duration::from_secs(10);
        assert_eq!(net.table.next_timeout(), Some(net.now));
        // In the last moment it can still become whole, and if not, it cannot any more.
        assert_eq!(net.table.expire(net.now, 9), 0);
        net.now += Duration::from_millis(1);
        net.send(&other[0], ty);
        assert_eq!(net.dropped, [0, 2]);
        assert_eq!(net.counters(d.v6).expired, 2);
        assert_eq!(net.send(&parts[2], ty), Out::Held);
        net.check_books();
        // Without packets, it takes longer.
        net.now += TIMEOUT + PURGE_AFTER - Duration::from_millis(1);
        assert_eq!(net.table.purge(net.now), 0);
        net.now += Duration::from_millis(1);
        assert_eq!(net.table.purge(net.now), 2);
        assert_eq!(net.counters(d.v6).purged, 2);
        assert!(net.table.is_empty());
        net.check_books();
    }
}

#[test]
fn too_large_a_datagram_is_refused_whichever_fragment_tells() {
    for (mut d, _) in each() {
        let ty = d.eth_type();
        let header = if d.v6 { 48 } else { 20 };
        d.payload.resize(70_000, 0);
        let most = 65_535 - 14 - header;
        // The last byte that is possible, and one more.
        let at = most / 8 * 8;
        let mut net = Net::new();
        assert_eq!(net.send(&d.frame(Some((at, most, false))), ty), Out::Held);
        d.id += 1;
        assert_eq!(
            refused(&net.send(&d.frame(Some((at, most + 1, false))), ty)),
            Some(R::FragmentBig)
        );
        // A first fragment with longer headers than the others.
        d.id += 1;
        assert_eq!(net.send(&d.frame(Some((at, most, false))), ty), Out::Held);
        let tagged = Datagram { tags: 1, ..d.clone() };
        assert_eq!(
            refused(&net.send(&tagged.frame(Some((0, 1400, true))), ty)),
            Some(R::FragmentBig)
        );
        assert_eq!(net.counters(d.v6).too_big, 2);
    }
}

#[test]
fn zones_places_identifications_and_versions_are_apart() {
    for (d, parts) in each() {
        let ty = d.eth_type();
        let mut net = Net::new();
        net.send(&parts[0], ty);
        let elsewhere: [fn(&mut Net); 2] = [|n| n.zone = Zone(9), |n| n.place = 4];
        for go in elsewhere {
            let (zone, place) = (net.zone, net.place);
            go(&mut net);
            assert_eq!(net.send(&parts[0], ty), Out::Held);
            (net.zone, net.place) = (zone, place);
        }
        let other = Datagram { id: 70_000, ..d.clone() }.cut(&[1400, 2800]);
        assert_eq!(net.send(&other[1], ty), Out::Held);
        net.send(&parts[1], ty);
        let states: Vec<_> =
            net.table.dump().map(|f| (f.key.zone.0, f.key.place, f.n_fragments, f.state)).collect();
        assert!(states.contains(&(0, 0, 2, FragState::First)), "{states:?}");
        assert!(states.contains(&(9, 0, 1, FragState::First)), "{states:?}");
        assert!(states.contains(&(0, 4, 1, FragState::First)), "{states:?}");
        assert!(states.contains(&(0, 0, 1, FragState::Other)), "{states:?}");
        assert!(matches!(net.send(&parts[2], ty), Out::Together(f, _) if f.len() == 3));
        assert_eq!(net.table.len(), 3);
        net.check_books();
    }
}

#[test]
fn turned_off_for_one_version_fragments_of_it_are_invalid() {
    for off_v6 in [false, true] {
        let mut net = Net::new();
        net.configure(|c| c.rules_mut(off_v6).enabled = false);
        for (d, parts) in each() {
            let out = net.send(&parts[0], d.eth_type());
            let want = if d.v6 == off_v6 { Some(R::Fragment) } else { None };
            assert_eq!(refused(&out), want, "{out:?}");
        }
        net.check_books();
    }
}

#[test]
fn a_full_table_refuses_and_lets_nothing_go_for_the_port_that_filled_it() {
    for (d, parts) in each() {
        let ty = d.eth_type();
        for by_bytes in [false, true] {
            let mut net = Net::new();
            net.configure(|c| match by_bytes {
                true => c.max_bytes = parts[0].len() * 10,
                false => c.max_fragments = 10,
            });
            for id in 100..110 {
                let first = &Datagram { id, ..d.clone() }.cut(&[1400, 2800])[0];
                assert_eq!(net.send(first, ty), Out::Held);
            }
            // Neither another datagram nor another fragment of one that waits.
            let full = Some(R::FragmentsFull);
            assert_eq!(refused(&net.send(&parts[0], ty)), full);
            let second = &Datagram { id: 105, ..d.clone() }.cut(&[1400, 2800])[1];
            assert_eq!(refused(&net.send(second, ty)), full);
            assert_eq!((net.counters(d.v6).full, net.dropped), (2, [0, 0]));
            // Another port takes room from the one that has most: from its oldest.
            net.owner = 2;
            for p in &parts[..2] {
                assert_eq!(net.send(p, ty), Out::Held);
            }
            assert_eq!(net.dropped, [2, 0]);
            assert!(matches!(net.send(&parts[2], ty), Out::Together(f, _) if f.len() == 3));
            let left: Vec<u32> = net.table.dump().map(|f| f.key.id).collect();
            assert!(!left.contains(&100) && left.contains(&105), "{left:?}");
            net.check_books();
        }
    }
}

#[test]
fn a_flood_of_fragments_by_one_port_stops_no_datagram_of_another() {
    let mut net = Net::new();
    net.configure(|c| c.max_fragments = 100);
    let (mut n_whole, flood) = (0, Datagram::udp(false, 0, 3000));
    for round in 0..900_u32 {
        net.owner = 66;
        net.now += Duration::from_micros(10);
        for i in 0..4 {
            let junk = Datagram { id: round * 4 + i, ..flood.clone() };
            net.send(&junk.cut(&[1400, 2800])[1], 0x800);
        }
        // Six datagrams of others are on the way all the time.
        let id = round % 18;
        let victim = Datagram::udp(false, id / 3, 3001 + (id / 3) as usize);
        net.owner = 1 + id / 3;
        let mut victim = Datagram { id: 60_000 + id / 3, ..victim }.cut(&[1400, 2800]);
        let out = net.send(&victim.swap_remove(id as usize % 3), 0x800);
        n_whole += u32::from(matches!(out, Out::Together(_, i) if i.invalid.is_none()));
        net.check_books();
    }
    assert_eq!(n_whole, 300);
    assert!(net.table.len() > 90);
}

#[test]
fn a_datagram_may_have_so_many_fragments_and_no_more() {
    let mut net = Net::new();
    net.configure(|c| c.v6.min_len = 400);
    // Extension headers make fragments of eight bytes large enough.
    let mut d = Datagram::udp(true, 1, 8 * MOST_PER_DATAGRAM + 100);
    d.before = vec![60; 50];
    for i in 0..MOST_PER_DATAGRAM {
        assert_eq!(net.send(&d.frame(Some((i * 8, i * 8 + 8, true))), 0x86dd), Out::Held);
    }
    let at = MOST_PER_DATAGRAM * 8;
    let one_more = d.frame(Some((at, at + 8, true)));
    assert_eq!(refused(&net.send(&one_more, 0x86dd)), Some(R::FragmentsFull));
}

#[test]
fn what_cannot_be_read_is_refused_and_leaves_nothing() {
    for (d, parts) in each() {
        let frame = parts[1].frame();
        for n in 0..frame.len() {
            let mut short = PacketBuf::from_frame(&frame[..n]);
            short.set_layers(Some(d.l3().min(n)), None);
            let mut net = Net::new();
            assert!(net.offer(&short, d.eth_type()).is_err(), "{n}");
        }
        let view = d.frame(None);
        let view = PacketView::of(&view, d.eth_type());
        assert_eq!(FragHeader::parse(&view, Zone(0), 0).unwrap_err(), R::BadHeader);
    }
    let mut bad = Datagram::udp(false, 1, 3000).cut(&[1400]).remove(0);
    bad.frame_mut()[14 + 10] ^= 1;
    let view = PacketView::of(&bad, 0x800);
    assert_eq!(FragHeader::parse(&view, Zone(0), 0).unwrap_err(), R::L3Checksum);
}

#[test]
fn an_error_that_comes_in_fragments_is_about_its_connection() {
    for v6 in [false, true] {
        let asked = Datagram::udp(v6, 1, 1000);
        let mut net = Net::small();
        let ty = asked.eth_type();
        let Out::Alone(info) = net.send(&asked.frame(None), ty) else { panic!() };
        assert!(info.conn.is_some());
        // The error goes the other way: it is the tuple of the quoted packet that counts.
        let quoted = asked.frame(None).frame()[14..].to_vec();
        let head = if v6 { [1, 4, 0, 0, 0, 0, 0, 0] } else { [3, 3, 0, 0, 0, 0, 0, 0] };
        let payload = [&head[..], &quoted].concat();
        let proto = if v6 { 58 } else { 1 };
        let error = Datagram { v6, id: 9, tags: 0, before: vec![], proto, payload }.summed(2);
        let mut last = Out::Held;
        for mut p in error.cut(&[800]) {
            turn_around(&mut p, v6);
            last = net.send(&p, ty);
        }
        let Out::Together(_, info) = last else { panic!("{last:?}") };
        assert_eq!(info.state, CtState::TRK | CtState::REL | CtState::RPL);
    }
}

/// Exchanges the addresses, which leaves all sums as they are.
fn turn_around(p: &mut PacketBuf, v6: bool) {
    let (at, n) = if v6 { (14 + 8, 16) } else { (14 + 12, 4) };
    let frame = p.frame_mut();
    for i in 0..n {
        frame.swap(at + i, at + n + i);
    }
}

/// A datagram, where to cut it, in which order its fragments come and which of them come again.
fn cuts() -> impl Strategy<Value = (Datagram, Vec<usize>, Vec<usize>)> {
    let size = 900_usize..9000;
    (any::<bool>(), size, 0_usize..3, prop::collection::vec(50_usize..180, 1..18), 0_usize..3)
        .prop_flat_map(|(v6, n, tags, steps, n_before)| {
            let mut d = Datagram::udp(v6, 77, n);
            d.tags = tags;
            d.before = if v6 { vec![0, 60][..n_before.min(2)].to_vec() } else { vec![] };
            let mut at = 0;
            let cut: Vec<usize> = steps
                .iter()
                .map(|s| {
                    at += s * 8;
                    at
                })
                .take_while(|at| *at < d.payload.len())
                .collect();
            let n = cut.len() + 1;
            let again = prop::collection::vec(0..n, 0..n);
            let order = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
            (Just(d), Just(cut), order, again).prop_map(|(d, cut, mut order, again)| {
                for (i, a) in again.into_iter().enumerate() {
                    // Not behind all others: that would begin the datagram anew.
                    let last = order.len() - 1;
                    if order[last] != a {
                        order.insert((i * 5) % order.len(), a);
                    }
                }
                (d, cut, order)
            })
        })
        .prop_filter("cut at all", |(_, cut, _)| !cut.is_empty())
}

proptest! {
    #[test]
    fn order_and_repetition_change_neither_verdict_nor_fragments((d, cut, order) in cuts()) {
        let parts = d.cut(&cut);
        let mut net = Net::small();
        let mut whole = None;
        for &i in &order {
            prop_assert!(whole.is_none());
            match net.send(&parts[i], d.eth_type()) {
                Out::Held => {}
                Out::Together(frames, info) => whole = Some((frames, info)),
                out => prop_assert_eq!(refused(&out), Some(R::FragmentOverlap)),
            }
            net.check_books();
        }
        let (frames, info) = whole.unwrap();
        prop_assert_eq!(info, verdict_of(&d));
        prop_assert_eq!(frames, parts.iter().map(|p| p.frame().to_vec()).collect::<Vec<_>>());
        prop_assert!(net.table.is_empty());
    }

    #[test]
    fn whatever_comes_room_is_bounded_and_nothing_is_lost(
        steps in prop::collection::vec(
            (0_u32..6, any::<bool>(), 0_usize..40, 1_usize..40, any::<bool>(), 0_u32..4, 0_u64..4000),
            1..200,
        ),
    ) {
        let mut net = Net::small();
        net.configure(|c| (c.max_fragments, c.max_bytes) = (20, 20_000));
        for (id, v6, from, n, more, owner, ms) in steps {
            let mut d = Datagram::udp(v6, id, 3000);
            d.payload.resize(8 * 80, 0);
            // Large enough whatever it is, so that the interesting rules are met.
            d.before = if v6 { vec![60; 40] } else { vec![] };
            net.configure(|c| c.v4.min_len = 28);
            net.owner = owner;
            net.now += Duration::from_millis(ms);
            let before = net.table.len();
            let dropped: usize = net.dropped.iter().sum();
            let p = d.frame(Some((from * 8, (from + n) * 8, more)));
            let out = net.send(&p, d.eth_type());
            let dropped = net.dropped.iter().sum::<usize>() - dropped;
            match out {
                Out::Held => prop_assert_eq!(net.table.len() + dropped, before + 1),
                Out::Together(frames, _) => {
                    prop_assert_eq!(net.table.len() + dropped + frames.len(), before + 1);
                }
                Out::Alone(_) => prop_assert_eq!(net.table.len() + dropped, before),
            }
            net.check_books();
        }
        net.now += Duration::from_secs(100);
        net.table.purge(net.now);
        prop_assert!(net.table.is_empty() && net.table.bytes() == 0);
    }
}
