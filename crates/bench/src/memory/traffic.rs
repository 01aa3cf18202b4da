//! What is replayed: capture files of 60-byte frames, one for each connection, and rules over the same
//! addresses.
//!
//! The machines are those of the story: `52:54:00:00:00:01` behind port 2, `…:02` behind port 3. One connection is
//! 64 times the same frame. Checksums are right.

use std::fmt::Write;
use std::net::Ipv4Addr;

use packet::checksum;
use packet::pcap;

use crate::flows::Rng;

/// Of which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams of 18 bytes.
    Udp,
    /// Segments of six bytes in the middle of a connection, in the window both ways.
    Tcp,
    /// Connections that begin.
    Syn,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the machine behind port 2 to the one behind port 3.
    Forth,
    /// The replies.
    Back,
}

const MACS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2]];
/// Bytes of a frame, without FCS.
const LEN: usize = 60;

/// The frame of connection `i`.
fn frame(way: Way, protocol: Protocol, i: u32) -> [u8; LEN] {
    let client = 0x0a01_0000 | (i.wrapping_mul(40_503) & 0xffff);
    let server = 0x0a02_0000 | ((i.wrapping_mul(30_011) >> 3) & 0xffff);
    let client_port = (1024 + (i >> 16) * 977 + i % 911) as u16;
    let server_port = [80, 443, 53, 8080][i as usize & 3];
    let (macs, src, dst, sport, dport) = match way {
        Way::Forth => ([MACS[1], MACS[0]], client, server, client_port, server_port),
        Way::Back => ([MACS[0], MACS[1]], server, client, server_port, client_port),
    };
    let (number, l4_len) = match protocol {
        Protocol::Udp => (17, 26),
        Protocol::Tcp => (6, 26),
        Protocol::Syn => (6, 20),
    };
    let mut f = [0; LEN];
    f[..6].copy_from_slice(&macs[0]);
    f[6..12].copy_from_slice(&macs[1]);
    f[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut f[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(20 + l4_len as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&(i as u16).to_be_bytes());
    (ip[6], ip[8], ip[9]) = (0x40, 64, number);
    ip[12..16].copy_from_slice(&src.to_be_bytes());
    ip[16..20].copy_from_slice(&dst.to_be_bytes());
    let sum = checksum::checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let l4 = &mut f[34..34 + l4_len];
    l4[..2].copy_from_slice(&sport.to_be_bytes());
    l4[2..4].copy_from_slice(&dport.to_be_bytes());
    let (sum_at, payload) = match protocol {
        Protocol::Udp => {
            l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            (6, 8)
        }
        Protocol::Tcp | Protocol::Syn => {
            let (seq, ack, flags) = match (protocol, way) {
                (Protocol::Syn, _) => (1000u32, 0u32, 0x02),
                (_, Way::Forth) => (1000, 2000, 0x18),
                (_, Way::Back) => (2000, 1000, 0x18),
            };
            l4[4..8].copy_from_slice(&seq.to_be_bytes());
            l4[8..12].copy_from_slice(&ack.to_be_bytes());
            (l4[12], l4[13]) = (0x50, flags);
            l4[14..16].copy_from_slice(&64_000u16.to_be_bytes());
            (16, 20)
        }
    };
    l4[payload..].fill(b'A');
    let pseudo = checksum::pseudo_v4(src, dst, number, l4_len as u32);
    let sum = checksum::finish(checksum::add(pseudo, l4));
    l4[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    f
}

/// A capture file with a frame of each of `n` connections.
pub fn capture(way: Way, protocol: Protocol, n: u32) -> Vec<u8> {
    let n_frames = if n == 1 { 64 } else { n };
    let mut file = pcap::file_header(65_535).to_vec();
    for at in 0..n_frames {
        let frame = frame(way, protocol, if n == 1 { 0 } else { at });
        file.extend(pcap::record_header(at / 1_000_000, at % 1_000_000, LEN as u32));
        file.extend(frame);
    }
    file
}

/// A prefix of so many bits; the address has no others.
fn prefix(octets: [u64; 4], len: u64) -> String {
    let addr = u32::from_be_bytes(octets.map(|o| o as u8));
    format!("{}/{len}", Ipv4Addr::from(addr & u32::MAX << (32 - len)))
}

/// `n` flows over the addresses of the connections: prefixes of many lengths, with and without ports.
pub fn rules(n: usize) -> Result<String, std::fmt::Error> {
    let mut rng = Rng(7);
    let mut out =
        "priority=1,in_port=2,actions=output:3\npriority=1,in_port=3,actions=output:2\n".to_owned();
    for _ in 0..n.saturating_sub(2) {
        let mut r = |n: u64| rng.below(n);
        let kind = r(6);
        write!(out, "priority={},in_port=2,udp", 2 + r(59_998))?;
        if matches!(kind, 0 | 2 | 3) {
            write!(out, ",nw_src={}", prefix([10, 1, r(256), r(256)], 17 + r(14)))?;
        }
        if matches!(kind, 1 | 2 | 4) {
            write!(out, ",nw_dst={}", prefix([10, 2, r(256), r(256)], 17 + r(14)))?;
        }
        if kind >= 3 {
            write!(out, ",tp_dst={}", [80, 443, 53, 8080, 22, 25][r(6) as usize])?;
        }
        if kind == 5 {
            write!(out, ",tp_src={}", 1024 + r(911))?;
        }
        writeln!(out, ",actions={}", if r(4) == 0 { "drop" } else { "output:3" })?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_no_bits_that_do_not_count() {
        assert_eq!(prefix([10, 1, 107, 118], 26), "10.1.107.64/26");
        assert_eq!(prefix([10, 2, 255, 255], 17), "10.2.128.0/17");
        assert_eq!(prefix([10, 1, 2, 3], 30), "10.1.2.0/30");
    }

    #[test]
    fn frames_are_right_and_replies_fit() {
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Syn] {
            for i in [0, 1, 99_999] {
                let (there, back) = (frame(Way::Forth, protocol, i), frame(Way::Back, protocol, i));
                assert_eq!((&there[26..30], &there[30..34]), (&back[30..34], &back[26..30]));
                assert_eq!((&there[34..36], &there[36..38]), (&back[36..38], &back[34..36]));
                assert_eq!((&there[..6], &there[6..12]), (&back[6..12], &back[..6]));
                for f in [there, back] {
                    assert_eq!(checksum::checksum(&f[14..34]), 0);
                    let len = usize::from(u16::from_be_bytes([f[16], f[17]])) - 20;
                    let word = |at| u32::from_be_bytes([f[at], f[at + 1], f[at + 2], f[at + 3]]);
                    let pseudo = checksum::pseudo_v4(word(26), word(30), f[23], len as u32);
                    let sum = checksum::finish(checksum::add(pseudo, &f[34..34 + len]));
                    assert_eq!(sum, 0, "{protocol:?} {i}");
                }
            }
        }
    }

    #[test]
    fn a_million_connections_differ() {
        let file = capture(Way::Forth, Protocol::Udp, 1_000_000);
        let mut tuples: Vec<_> = pcap::frames(&file)
            .unwrap()
            .map(|f| <[u8; 12]>::try_from(&f.unwrap().bytes[26..38]).unwrap())
            .collect();
        tuples.sort_unstable();
        tuples.dedup();
        assert_eq!(tuples.len(), 1_000_000);
        assert_eq!(pcap::frames(&capture(Way::Back, Protocol::Tcp, 1)).unwrap().count(), 64);
    }

    #[test]
    fn there_are_as_many_rules_as_asked_for() {
        let rules = rules(1000).unwrap();
        assert_eq!(rules.lines().count(), 1000);
        assert!(rules.lines().skip(2).all(|l| l.contains("in_port=2,udp")));
    }
}
