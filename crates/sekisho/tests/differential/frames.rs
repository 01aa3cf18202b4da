//! Frames of all shapes, byte by byte: tags and labels in stacks, extension headers, fragments,
//! options, and now and then one that ends too early.

use packet::checksum;

use crate::generate::Rng;

fn mac(rng: &mut Rng) -> [u8; 6] {
    [2, 0, 0, 0, 0, 1 + rng.below(3) as u8]
}

/// An Ethernet frame of at least 60 bytes.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(match rng.below(8) {
        0 => [0xff; 6],
        1 => [1, 0, 0x5e, 0, 0, 5],
        2 => [1, 0x80, 0xc2, 0, 0, 0],
        _ => mac(rng),
    });
    out.extend(mac(rng));
    let n_tags = [0, 0, 0, 0, 1, 1, 2, 3][rng.below(8)];
    for n in 0..n_tags {
        let outer = n + 1 < n_tags && !rng.once_in(4);
        out.extend(if outer { [0x88, 0xa8] } else { [0x81, 0] });
        let vid = [0u16, 10, 20, 30][rng.below(4)];
        out.extend(((rng.below(8) as u16) << 13 | vid).to_be_bytes());
    }
    let n_labels = [0, 0, 0, 0, 0, 1, 2, 3, 4][rng.below(9)];
    let (dl_type, payload) = match rng.below(10) {
        0..=3 => (0x0800u16, ipv4(rng)),
        4..=7 => (0x86dd, ipv6(rng)),
        8 => ([0x0806, 0x8035][rng.below(2)], arp(rng)),
        _ => ([0x1234, 0x88cc, 0x0026, 0x88a8][rng.below(4)], vec![7; rng.below(60)]),
    };
    if n_labels == 0 {
        out.extend(dl_type.to_be_bytes());
    } else {
        out.extend([0x88, 0x47 + u8::from(rng.once_in(5))]);
    }
    // Some stacks have no bottom as far as a switch looks. Of those, a label of zeros does not count, but
    // stock looks at the bottom's bit only: a switch with a cache takes them for others.
    let endless = n_labels > 2 && rng.once_in(8);
    for n in 0..n_labels {
        let label = [0u32, 2, 16, 1000, 0xfffff][rng.below(5)];
        let ttl = [0u32, 1, 2, 64, 255][rng.below(5)];
        let last = n + 1 == n_labels && !endless;
        let entry = label << 12 | (rng.below(8) as u32) << 9 | u32::from(last) << 8 | ttl;
        let entry = if endless { entry | 1 << 12 } else { entry };
        out.extend(entry.to_be_bytes());
    }
    out.extend(payload);
    if rng.once_in(12) {
        out.truncate(14 + rng.below(out.len() - 13));
    }
    out.resize(out.len().max(60), if n_labels > 0 { 0xff } else { 0 });
    out
}

fn arp(rng: &mut Rng) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, 1 + rng.below(4) as u8];
    if rng.once_in(10) {
        out[1] = 6;
    }
    for _ in 0..2 {
        out.extend(mac(rng));
        out.extend(ip4_address(rng));
    }
    out
}

fn ip4_address(rng: &mut Rng) -> [u8; 4] {
    [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 1, 1], [192, 168, 0, 1]][rng.below(4)]
}

fn ip6_address(rng: &mut Rng) -> [u8; 16] {
    let mut out = [0; 16];
    out[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    out[15] = 1 + rng.below(2) as u8;
    match rng.below(4) {
        0 => out[7] = 1,
        1 => out[..4].copy_from_slice(&[0xfe, 0x80, 0, 0]),
        _ => {}
    }
    out
}

fn ttl(rng: &mut Rng) -> u8 {
    [0, 1, 2, 64, 255][rng.below(5)]
}

fn ipv4(rng: &mut Rng) -> Vec<u8> {
    let (src, dst) = (ip4_address(rng), ip4_address(rng));
    let proto = [6, 17, 1, 132, 47, 2, 6, 17][rng.below(8)];
    let (fragment, later) = match rng.below(8) {
        0 => (0x2000u16, false),
        1 => (0x2003, true),
        2 => (0x0003, true),
        3 => (0x4000, false),
        _ => (0, false),
    };
    // Stock sets the type of ICMP where a later fragment has something else.
    let proto = if later && proto == 1 { 17 } else { proto };
    let options = if rng.once_in(6) { vec![1, 1, 1, 0] } else { Vec::new() };
    let pseudo =
        |len| checksum::pseudo_v4(u32::from_be_bytes(src), u32::from_be_bytes(dst), proto, len);
    let payload = if later { vec![9; 24] } else { transport(rng, proto, &pseudo) };
    let len = 20 + options.len() + payload.len();
    let mut out = vec![0x40 | ((len - payload.len()) as u8 / 4), rng.below(4) as u8];
    out[1] |= [0, 4, 252][rng.below(3)];
    out.extend((len as u16).to_be_bytes());
    out.extend([0, 1]);
    out.extend(fragment.to_be_bytes());
    out.extend([ttl(rng), proto, 0, 0]);
    out.extend(src);
    out.extend(dst);
    out.extend(options);
    let sum = checksum::checksum(&out);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(payload);
    out
}

fn ipv6(rng: &mut Rng) -> Vec<u8> {
    let (src, dst) = (ip6_address(rng), ip6_address(rng));
    let proto = [6, 17, 58, 132, 47, 59, 58, 17][rng.below(8)];
    let pseudo = |len| checksum::pseudo_v6(&src, &dst, proto, len);
    // Extension headers in a chain, each with the number of the next.
    let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut later = false;
    for _ in 0..[0, 0, 0, 1, 2][rng.below(5)] {
        extensions.push(match rng.below(5) {
            0 => (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
            1 => (43, vec![0, 0, 0, 0, 0, 0, 0, 0]),
            2 => (60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            3 => (51, vec![0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
            _ => {
                let at = [0x0000u16, 0x0001, 0x0019, 0x0018][rng.below(4)];
                later |= at >> 3 != 0;
                let [high, low] = at.to_be_bytes();
                (44, vec![0, 0, high, low, 0, 0, 0, 1])
            }
        });
    }
    let payload = if later { vec![9; 24] } else { transport(rng, proto, &pseudo) };
    let (mut next, mut body) = (proto, payload);
    for (number, mut header) in extensions.into_iter().rev() {
        header[0] = next;
        header.extend(body);
        (next, body) = (number, header);
    }
    let label = [0u32, 1, 0xfffff][rng.below(3)];
    let class = (rng.below(4) as u32) | [0, 4, 252][rng.below(3)];
    let mut out = (6 << 28 | class << 20 | label).to_be_bytes().to_vec();
    out.extend((body.len() as u16).to_be_bytes());
    out.extend([next, ttl(rng)]);
    out.extend(src);
    out.extend(dst);
    out.extend(body);
    out
}

fn port(rng: &mut Rng) -> [u8; 2] {
    [1u16, 80, 81, 1000, 65535][rng.below(5)].to_be_bytes()
}

/// What a protocol's header says, and some payload, of which the sum is right.
fn transport(rng: &mut Rng, proto: u8, pseudo: &dyn Fn(u32) -> u32) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = vec![b'x'; [0, 5, 30, 200, 1300][rng.below(5)]];
    let sum_at = match proto {
        6 => {
            out.extend([port(rng), port(rng)].concat());
            out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
            out.extend([0x50, [0x02, 0x10, 0x12, 0x11, 0x04][rng.below(5)], 0xff, 0xff]);
            out.extend([0, 0, 0, 0]);
            Some(16)
        }
        17 => {
            out.extend([port(rng), port(rng)].concat());
            out.extend((8 + payload.len() as u16).to_be_bytes());
            out.extend([0, 0]);
            Some(6)
        }
        1 => {
            out.extend([[0, 8, 8, 3][rng.below(4)], rng.below(2) as u8, 0, 0, 0, 1, 0, 1]);
            Some(2)
        }
        58 => {
            let kind = [128, 129, 135, 136, 135, 136, 1][rng.below(7)];
            out.extend([kind, u8::from(rng.once_in(6)), 0, 0]);
            out.extend([[0, 0, 0, 0], [0x60, 0, 0, 5]][rng.below(2)]);
            if kind == 135 || kind == 136 {
                out.extend(ip6_address(rng));
                for _ in 0..rng.below(3) {
                    out.extend([[1, 2, 1, 5][rng.below(4)], 1]);
                    out.extend(mac(rng));
                }
            }
            Some(2)
        }
        132 => {
            out.extend([port(rng), port(rng)].concat());
            out.extend([0, 0, 0, 1, 0, 0, 0, 0]);
            None
        }
        2 => {
            out.extend([0x16, 0, 0, 0, 224, 0, 0, 5]);
            Some(2)
        }
        _ => {
            out.extend([0, 0, 8, 0]);
            None
        }
    };
    // Options of neighbour discovery go to the end of the packet.
    let is_nd = proto == 58 && out.len() > 8;
    if !is_nd && proto != 59 {
        out.extend(payload);
    }
    if let Some(at) = sum_at {
        let start = if proto == 1 || proto == 2 { 0 } else { pseudo(out.len() as u32) };
        let sum = checksum::finish(checksum::add(start, &out));
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    out
}
