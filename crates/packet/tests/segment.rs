//! Cutting large packets: what comes out, put together again, is what went in.

#![allow(clippy::unwrap_used)] // the frames are the test's own

use packet::checksum::{add, checksum, fold, pseudo_v4, pseudo_v6};
use packet::header::{be16, be32, tcp_flag};
use packet::segment::{SegmentError, Segments, finish_checksum, note_partial_checksum};
use packet::{GsoType, Offload, PacketBuf};
use proptest::prelude::*;

/// A large packet to be built.
#[derive(Clone, Debug)]
struct Large {
    tags: usize,
    v6: bool,
    /// 4-byte IPv4 options or 8-byte IPv6 extension headers.
    extra: usize,
    tcp: bool,
    /// 4-byte TCP options.
    options: usize,
    payload: Vec<u8>,
    gso_size: u16,
    flags: u16,
    seq: u32,
    id: u16,
    partial: bool,
}

impl Large {
    fn l3(&self) -> usize {
        14 + 4 * self.tags
    }

    fn l4(&self) -> usize {
        self.l3() + if self.v6 { 40 + 8 * self.extra } else { 20 + 4 * self.extra }
    }

    fn body(&self) -> usize {
        self.l4() + if self.tcp { 20 + 4 * self.options } else { 8 }
    }

    fn pseudo(&self, frame: &[u8]) -> u32 {
        let ip = &frame[self.l3()..];
        let len = (frame.len() - self.l4()) as u32;
        let proto = if self.tcp { 6 } else { 17 };
        if self.v6 {
            let a = |at: usize| ip[at..at + 16].try_into().unwrap();
            pseudo_v6(&a(8), &a(24), proto, len)
        } else {
            pseudo_v4(be32(ip, 12).unwrap(), be32(ip, 16).unwrap(), proto, len)
        }
    }

    fn build(&self) -> PacketBuf {
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for i in 0..self.tags {
            f.extend(if i + 1 < self.tags { [0x88, 0xa8, 0, 7] } else { [0x81, 0, 0, 100] });
        }
        let proto = if self.tcp { 6 } else { 17 };
        let ip_len = self.body() + self.payload.len() - self.l3();
        if self.v6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            f.extend(((ip_len - 40) as u16).to_be_bytes());
            f.extend([if self.extra > 0 { 0 } else { proto }, 64]);
            f.extend((0..32).map(|i| 0xf0 ^ i as u8));
            for i in 0..self.extra {
                // Hop-by-hop first, then destination options, each of padding.
                f.extend([if i + 1 < self.extra { 60 } else { proto }, 0, 1, 4, 0, 0, 0, 0]);
            }
        } else {
            f.extend([8, 0, 0x45 + self.extra as u8, 0]);
            f.extend((ip_len as u16).to_be_bytes());
            f.extend(self.id.to_be_bytes());
            f.extend([0x40, 0, 64, proto, 0, 0, 10, 1, 2, 3, 192, 168, 77, 200]);
            f.resize(f.len() + 4 * self.extra, 1);
        }
        f.extend([0x30, 0x39, 0, 80]);
        if self.tcp {
            f.extend(self.seq.to_be_bytes());
            f.extend([9, 8, 7, 6]);
            f.extend((((5 + self.options as u16) << 12) | self.flags).to_be_bytes());
            f.extend([1, 0, 0, 0, 0, 0]);
            f.resize(f.len() + 4 * self.options, 1);
        } else {
            f.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            f.extend([0, 0]);
        }
        assert_eq!(f.len(), self.body());
        f.extend(&self.payload);
        let csum_offset = if self.tcp { 16 } else { 6 };
        let at = self.l4() + csum_offset;
        let sum = if self.partial {
            fold(self.pseudo(&f))
        } else {
            !fold(add(self.pseudo(&f), &f[self.l4()..]))
        };
        f[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut p = PacketBuf::from_frame(&f);
        p.offload = Offload {
            needs_csum: self.partial,
            csum_start: if self.partial { self.l4() as u16 } else { 0 },
            csum_offset: if self.partial { csum_offset as u16 } else { 0 },
            gso_type: match (self.tcp, self.v6) {
                (true, false) => GsoType::TcpV4,
                (true, true) => GsoType::TcpV6,
                _ => GsoType::UdpL4,
            },
            gso_size: self.gso_size,
            hdr_len: self.body() as u16,
            ..Offload::default()
        };
        p
    }
}

fn large() -> impl Strategy<Value = Large> {
    (
        (0..3usize, any::<bool>(), 0..3usize, any::<bool>(), 0..10usize),
        (prop::collection::vec(any::<u8>(), 0..6000), 1..2000u16),
        (prop::sample::select(vec![0x10, 0x18, 0x19, 0x90, 0xd9, 0x51]), any::<u32>()),
        (any::<u16>(), any::<bool>()),
    )
        .prop_map(|(shape, (payload, gso_size), (flags, seq), (id, partial))| Large {
            tags: shape.0,
            v6: shape.1,
            extra: shape.2,
            tcp: shape.3,
            options: shape.4,
            payload,
            gso_size,
            flags,
            seq,
            id,
            partial,
        })
}

proptest! {
    #[test]
    fn segments_are_complete_and_join_to_the_original(l in large()) {
        let p = l.build();
        let mut cut = Segments::of(&p).unwrap();
        let n = cut.remaining();
        prop_assert_eq!(n, l.payload.len().div_ceil(l.gso_size as usize).max(1));
        let mut out = PacketBuf::with_capacity(64);
        let mut joined = Vec::new();
        let mut i = 0;
        while cut.next_into(&mut out) {
            let f = out.frame();
            let body = &f[l.body()..];
            prop_assert!(body.len() <= l.gso_size as usize);
            prop_assert_eq!(body.len() == l.gso_size as usize || i + 1 == n, true);
            prop_assert_eq!(&f[..l.l3()], &p.frame()[..l.l3()]);
            prop_assert_eq!((out.l3(), out.l4()), (Some(l.l3()), Some(l.l4())));
            prop_assert_eq!(out.offload, Offload::default());
            let ip = &f[l.l3()..];
            if l.v6 {
                prop_assert_eq!(be16(ip, 4).unwrap() as usize, ip.len() - 40);
            } else {
                prop_assert_eq!(be16(ip, 2).unwrap() as usize, ip.len());
                prop_assert_eq!(be16(ip, 4).unwrap(), l.id.wrapping_add(i as u16));
                prop_assert_eq!(checksum(&f[l.l3()..l.l4()]), 0);
            }
            let l4 = &f[l.l4()..];
            prop_assert_eq!(fold(add(l.pseudo(f), l4)), 0xffff);
            if l.tcp {
                let seq = l.seq.wrapping_add(joined.len() as u32);
                prop_assert_eq!(be32(l4, 4).unwrap(), seq);
                let mut want = l.flags;
                if i + 1 < n {
                    want &= !(tcp_flag::FIN | tcp_flag::PSH);
                }
                if i > 0 {
                    want &= !tcp_flag::CWR;
                }
                prop_assert_eq!(be16(l4, 12).unwrap() & 0x1ff, want);
            } else {
                prop_assert_eq!(be16(l4, 4).unwrap() as usize, l4.len());
                prop_assert_ne!(be16(l4, 6).unwrap(), 0);
            }
            joined.extend_from_slice(body);
            i += 1;
        }
        prop_assert_eq!(i, n);
        prop_assert_eq!(joined, l.payload);
    }

    #[test]
    fn finishing_a_partial_checksum_makes_it_right(l in large()) {
        let mut p = Large { partial: true, ..l.clone() }.build();
        p.offload.gso_type = GsoType::None;
        finish_checksum(&mut p).unwrap();
        prop_assert!(!p.offload.needs_csum);
        let f = p.frame();
        prop_assert_eq!(fold(add(l.pseudo(f), &f[l.l4()..])), 0xffff);
    }

    #[test]
    fn nonsense_is_refused_or_cut_but_never_a_panic(
        l in large(),
        cut_to in 0..200usize,
        broken in prop::collection::vec((0..120usize, any::<u8>()), 0..6),
        start in any::<u16>(),
        offset in any::<u16>(),
        gso in 0..4usize,
    ) {
        let mut p = l.build();
        if start & 3 == 0 {
            p.truncate(cut_to);
        }
        for (at, v) in broken {
            if let Some(b) = p.frame_mut().get_mut(at) {
                *b = v;
            }
        }
        if start & 4 == 0 {
            (p.offload.csum_start, p.offload.csum_offset) = (start, offset);
        }
        p.offload.gso_type =
            [GsoType::TcpV4, GsoType::TcpV6, GsoType::UdpL4, GsoType::Udp][gso];
        let mut out = PacketBuf::with_capacity(0);
        if let Ok(mut s) = Segments::of(&p) {
            while s.next_into(&mut out) {}
        }
        let _ = finish_checksum(&mut p);
    }
}

fn sample() -> Large {
    Large {
        tags: 0,
        v6: false,
        extra: 0,
        tcp: true,
        options: 3,
        payload: vec![7; 4000],
        gso_size: 1448,
        flags: 0x18,
        seq: 1,
        id: 1,
        partial: true,
    }
}

#[test]
fn lies_are_named() {
    let of = |change: fn(&mut PacketBuf)| {
        let mut p = sample().build();
        change(&mut p);
        Segments::of(&p).map(|s| s.remaining())
    };
    assert_eq!(of(|_| ()), Ok(3));
    assert_eq!(of(|p| p.offload.gso_size = 0), Err(SegmentError::ZeroSize));
    assert_eq!(
        of(|p| p.offload.gso_type = GsoType::TcpV6),
        Err(SegmentError::ProtocolMismatch(GsoType::TcpV6))
    );
    assert_eq!(
        of(|p| p.offload.csum_start = 30),
        Err(SegmentError::BadChecksumOffset { start: 30, offset: 16 })
    );
    assert_eq!(
        of(|p| p.frame_mut()[20] = 0x20),
        Err(SegmentError::Unsupported(GsoType::TcpV4)),
        "an IP fragment"
    );
    assert_eq!(of(|p| p.frame_mut()[47] |= 2), Err(SegmentError::BadFlags), "SYN");
    assert_eq!(of(|p| p.frame_mut()[46] = 0x40), Err(SegmentError::Truncated), "data offset 4");
    assert_eq!(of(|p| p.truncate(50)), Err(SegmentError::Truncated));
}

#[test]
fn udp_without_a_checksum_over_ipv4_stays_without() {
    let mut p = Large { tcp: false, partial: false, ..sample() }.build();
    p.frame_mut()[40..42].fill(0);
    let mut s = Segments::of(&p).unwrap();
    let mut out = PacketBuf::with_capacity(0);
    while s.next_into(&mut out) {
        assert_eq!(&out.frame()[40..42], &[0, 0]);
    }
}

#[test]
fn ipv6_routing_header_puts_the_final_destination_under_the_checksum() {
    let mut p = Large { v6: true, ..sample() }.build();
    // A type 4 routing header with one segment left: its list holds the final destination.
    let last = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    p.insert(54, 24);
    p.offload.csum_start = 78;
    p.frame_mut()[54..62].copy_from_slice(&[6, 2, 4, 1, 0, 0, 0, 0]);
    p.frame_mut()[62..78].copy_from_slice(&last);
    p.frame_mut()[20] = 43;
    let mut s = Segments::of(&p).unwrap();
    let mut out = PacketBuf::with_capacity(0);
    while s.next_into(&mut out) {
        let f = out.frame();
        let src = f[22..38].try_into().unwrap();
        let sum = add(pseudo_v6(&src, &last, 6, (f.len() - 78) as u32), &f[78..]);
        assert_eq!(fold(sum), 0xffff);
    }
}

#[test]
fn sctp_gets_its_crc() {
    let mut f = vec![0; 12];
    f.extend([8, 0, 0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, 132, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend([0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 11, 0, 0, 4]);
    let mut p = PacketBuf::from_frame(&f);
    p.offload = Offload { needs_csum: true, csum_start: 34, csum_offset: 8, ..Offload::default() };
    assert!(packet::segment::needs_crc(&p.offload));
    finish_checksum(&mut p).unwrap();
    let crc = packet::crc32c::crc32c(&f[34..]).to_le_bytes();
    assert_eq!(&p.frame()[42..46], &crc);
    assert!(!p.offload.needs_csum);
}

/// A frame of a sample without its metadata, as a device that cannot tell it delivers.
fn stripped(v6: bool, tcp: bool, payload: usize, finished: bool) -> PacketBuf {
    let body = vec![0x5a; payload];
    let mut p = Large { v6, tcp, payload: body, partial: true, flags: 0x18, ..sample() }.build();
    p.offload.gso_type = GsoType::None;
    if finished {
        finish_checksum(&mut p).unwrap();
    }
    PacketBuf::from_frame(p.frame())
}

#[test]
fn a_partial_checksum_is_told_by_its_look() {
    for (v6, tcp, payload) in
        [(false, true, 0), (false, false, 9), (true, true, 100), (true, false, 1)]
    {
        let whole = stripped(v6, tcp, payload, true);
        let mut same = whole.clone();
        note_partial_checksum(&mut same);
        assert_eq!(same.offload, Offload::default());

        let mut p = stripped(v6, tcp, payload, false);
        note_partial_checksum(&mut p);
        assert!(p.offload.needs_csum, "{v6} {tcp}");
        finish_checksum(&mut p).unwrap();
        assert_eq!(p.frame(), whole.frame());
    }
    // One that is cut, padded or a fragment is left alone.
    let p = stripped(false, true, 50, false);
    for n in 0..p.len() {
        let mut cut = PacketBuf::from_frame(&p.frame()[..n]);
        note_partial_checksum(&mut cut);
        assert!(!cut.offload.needs_csum, "{n}");
    }
    let mut padded = PacketBuf::from_frame(&[p.frame(), &[0; 4]].concat());
    note_partial_checksum(&mut padded);
    assert!(!padded.offload.needs_csum);
    let l3 = sample().l3();
    let mut fragment = p.clone();
    fragment.frame_mut()[l3 + 6] |= 0x20;
    note_partial_checksum(&mut fragment);
    assert!(!fragment.offload.needs_csum);
    // UDP without a checksum, and a finished one that looks partial, come out as they went in.
    let mut none = stripped(false, false, 9, false);
    let at = sample().l3() + 20 + 4 * sample().extra;
    none.frame_mut()[at + 6..at + 8].fill(0);
    note_partial_checksum(&mut none);
    assert!(!none.offload.needs_csum);
    let mut alike = stripped(false, true, 2, true);
    let end = alike.len();
    for guess in 0..=u16::MAX {
        alike.frame_mut()[end - 2..].copy_from_slice(&guess.to_be_bytes());
        alike.frame_mut()[at + 16..at + 18].fill(0);
        let l4 = alike.frame()[at..].to_vec();
        let ip = &alike.frame()[l3..];
        let pseudo = pseudo_v4(be32(ip, 12).unwrap(), be32(ip, 16).unwrap(), 6, l4.len() as u32);
        let sum = !fold(add(pseudo, &l4));
        if sum == fold(pseudo) {
            alike.frame_mut()[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
            let before = alike.frame().to_vec();
            note_partial_checksum(&mut alike);
            assert!(alike.offload.needs_csum);
            finish_checksum(&mut alike).unwrap();
            assert_eq!(alike.frame(), before);
            return;
        }
    }
    panic!("some payload makes them alike");
}
