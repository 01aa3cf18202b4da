//! Packets of conversations, written as rows of text.
//!
//! Rows that begin with `>` are packets from A (10.0.0.1 or fc00::1, port 1000) to B (10.0.0.2 or
//! fc00::2, port 80), those with `<` packets back:
//!
//! - `tcp FLAGS seq= ack= len= win= ws= doff= say=`, `udp len= ulen= hex=`,
//!   `icmp type= code= id= (quoted packet) quote=bytes router`, `sctp [CHUNK]`, `proto N`;
//! - for all `sport= dport= frag= split= badsum shortsum nosum badip`, and `a=N` or `b=N` for other
//!   hosts than A and B.
//!
//! `say=` is a line of text (with blanks for `_`), `hex=` bytes. `split=24,80` sends the packet in fragments
//! that end there, `split=80,24` those in another order. What else a row has is for who plays it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};

/// Types of SCTP chunks (RFC 9260 §3.2) by name.
const CHUNKS: [(&str, u8); 9] = [
    ("data", 0),
    ("init", 1),
    ("init-ack", 2),
    ("sack", 3),
    ("abort", 6),
    ("shutdown", 7),
    ("shutdown-ack", 8),
    ("cookie-echo", 10),
    ("shutdown-complete", 14),
];

/// The address of host `n`.
pub fn host(v6: bool, n: u8) -> IpAddr {
    match v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
        true => IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, u16::from(n))),
    }
}

/// Words and options of a packet row, and the packet it quotes.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// From A to B.
    up: bool,
    v6: bool,
    words: Vec<String>,
    options: HashMap<String, String>,
    inner: Option<Vec<u8>>,
}

impl Row {
    /// Reads a row with its `>` or `<`, of a conversation in one version of IP.
    ///
    /// # Panics
    /// On a row that cannot be read.
    pub fn parse(text: &str, v6: bool) -> Row {
        let (up, text) = match text.as_bytes().first() {
            Some(b'>') => (true, &text[1..]),
            Some(b'<') => (false, &text[1..]),
            _ => panic!("neither > nor <: {text}"),
        };
        let mut row = Row { up, v6, ..Row::default() };
        let mut text = text.to_owned();
        if let (Some(a), Some(b)) = (text.find("(>").or_else(|| text.find("(<")), text.rfind(')')) {
            row.inner = Some(Row::parse(text[a + 1..b].trim(), v6).packet());
            text.replace_range(a..=b, "");
        }
        for w in text.split_whitespace() {
            let (k, v) = w.split_once('=').unwrap_or((w, "1"));
            let is_flag = ["badsum", "shortsum", "nosum", "badip", "router", "nat"].contains(&w);
            if w.contains('=') || is_flag {
                row.options.insert(k.into(), v.into());
            } else {
                row.words.push(w.into());
            }
        }
        if let Some(inner) = &mut row.inner {
            let n = row.options.get("quote").map_or(inner.len(), |v| v.parse().expect("a number"));
            inner.truncate(n);
        }
        row
    }

    /// Whether it goes from A to B.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is of IPv6.
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// An option that is a number.
    pub fn num(&self, key: &str, default: u32) -> u32 {
        let read = |v: &String| match v.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).expect("a hexadecimal number"),
            None => v.parse().expect("a number"),
        };
        self.options.get(key).map_or(default, read)
    }

    /// An option as it is written.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// Whether an option is there.
    pub fn has(&self, key: &str) -> bool {
        self.options.contains_key(key)
    }

    /// Source and destination.
    fn ends(&self) -> (IpAddr, IpAddr) {
        let (a, b) = (self.num("a", 1) as u8, self.num("b", 2) as u8);
        let (mut src, dst) = if self.up { (a, b) } else { (b, a) };
        if self.has("router") {
            src = 9;
        }
        (host(self.v6, src), host(self.v6, dst))
    }

    /// The packet from its IP header on.
    pub fn packet(&self) -> Vec<u8> {
        let (proto, segment) = self.segment();
        let frag = self.num("frag", 0) as u16;
        self.with_header(proto, &segment, frag, None)
    }

    /// The packet, or its fragments where it is sent in some.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        let Some(split) = self.get("split") else { return vec![self.packet()] };
        let (proto, segment) = self.segment();
        let mut ends: Vec<usize> = split.split(',').map(|n| n.parse().expect("a number")).collect();
        let reversed = ends.is_sorted_by(|a, b| a > b) && ends.len() > 1;
        ends.sort_unstable();
        ends.push(segment.len());
        let mut from = 0;
        let mut packets: Vec<Vec<u8>> = ends
            .iter()
            .map(|&to| {
                let part = &segment[from..to];
                let at = from as u16 | u16::from(to < segment.len());
                from = to;
                match self.v6 {
                    false => self.with_header(proto, part, at.rotate_right(3), None),
                    true => self.with_header(proto, part, 0, Some(at)),
                }
            })
            .collect();
        if reversed {
            packets.reverse();
        }
        packets
    }

    /// What follows the IP header, and its protocol.
    fn segment(&self) -> (u8, Vec<u8>) {
        let (a, b) = (self.num("sport", 1000) as u16, self.num("dport", 80) as u16);
        let (sport, dport) = if self.up { (a, b) } else { (b, a) };
        let mut s = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        let data = self.data();
        let (proto, sum_at) = match self.words[0].as_str() {
            "tcp" => {
                let flags: u8 = self.words[1]
                    .bytes()
                    .map(|c| "FSRPAUEC".bytes().position(|f| f == c).map_or(0, |i| 1 << i))
                    .sum();
                let ws: Vec<u8> =
                    if self.has("ws") { vec![3, 3, self.num("ws", 0) as u8, 1] } else { vec![] };
                let doff = self.num("doff", 5 + ws.len() as u32 / 4) as u8;
                s.extend(self.num("seq", 0).to_be_bytes());
                s.extend(self.num("ack", 0).to_be_bytes());
                s.extend([doff << 4, flags]);
                s.extend((self.num("win", 1000) as u16).to_be_bytes());
                s.extend([0; 4]);
                s.extend(ws);
                s.extend(data.unwrap_or_else(|| vec![b'x'; self.num("len", 0) as usize]));
                (6, Some(16))
            }
            "udp" => {
                let data = data.unwrap_or_else(|| vec![b'x'; self.num("len", 4) as usize]);
                s.extend((self.num("ulen", 8 + data.len() as u32) as u16).to_be_bytes());
                s.extend([0, 0]);
                s.extend(data);
                (17, Some(6))
            }
            "icmp" => {
                s = vec![self.num("type", 0) as u8, self.num("code", 0) as u8, 0, 0];
                match &self.inner {
                    Some(inner) => {
                        s.extend([0; 4]);
                        s.extend(inner);
                    }
                    None => {
                        s.extend((self.num("id", 7) as u16).to_be_bytes());
                        s.extend(b"\0\x01pingdata");
                        s.resize(s.len() + self.num("len", 0) as usize, b'x');
                    }
                }
                (if self.v6 { 58 } else { 1 }, Some(2))
            }
            "sctp" => {
                let name = self.words.get(1).map_or("init", |w| w);
                let chunk = CHUNKS.iter().find(|c| c.0 == name).expect("the name of a chunk").1;
                s.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4]);
                (132, None)
            }
            "proto" => {
                s = b"whatever".to_vec();
                (self.words[1].parse().expect("a protocol"), None)
            }
            other => panic!("unknown packet {other}"),
        };
        if let Some(at) = sum_at {
            let sum = self.checksum(proto, &s);
            s[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        (proto, s)
    }

    fn data(&self) -> Option<Vec<u8>> {
        let hex = |text: &str| {
            let byte = |i: usize| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("bytes");
            (0..text.len() / 2).map(byte).collect()
        };
        let say = |text: &str| format!("{}\r\n", text.replace('_', " ")).into_bytes();
        self.get("hex").map(hex).or_else(|| self.get("say").map(say))
    }

    fn checksum(&self, proto: u8, segment: &[u8]) -> u16 {
        let n = match self.has("shortsum") {
            true => self.num("ulen", 8) as usize,
            false => segment.len(),
        };
        let pseudo = match self.ends() {
            _ if proto == 1 => 0,
            (IpAddr::V4(s), IpAddr::V4(d)) => pseudo_v4(s.into(), d.into(), proto, n as u32),
            (IpAddr::V6(s), IpAddr::V6(d)) => pseudo_v6(&s.octets(), &d.octets(), proto, n as u32),
            _ => unreachable!("both ends are of one version"),
        };
        let sum = finish(add(pseudo, &segment[..n])) ^ if self.has("badsum") { 0x1234 } else { 0 };
        match sum {
            _ if self.has("nosum") => 0,
            0 if proto == 17 => 0xffff,
            sum => sum,
        }
    }

    /// An IPv4 packet with these bits of fragmentation, or an IPv6 packet, perhaps with a fragment header.
    fn with_header(&self, proto: u8, payload: &[u8], frag: u16, v6_frag: Option<u16>) -> Vec<u8> {
        let mut p = Vec::new();
        match self.ends() {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                p.extend([0x45, 0]);
                p.extend((20 + payload.len() as u16).to_be_bytes());
                p.extend([0, 1]);
                p.extend(frag.to_be_bytes());
                p.extend([64, proto, 0, 0]);
                p.extend(s.octets());
                p.extend(d.octets());
                let sum = checksum(&p) ^ if self.has("badip") { 0x5555 } else { 0 };
                p[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let extra = if v6_frag.is_some() { 8 } else { 0 };
                p.extend([0x60, 0, 0, 0]);
                p.extend((extra + payload.len() as u16).to_be_bytes());
                p.extend([if v6_frag.is_some() { 44 } else { proto }, 64]);
                p.extend(s.octets());
                p.extend(d.octets());
                if let Some(at) = v6_frag {
                    p.extend([proto, 0]);
                    p.extend(at.to_be_bytes());
                    p.extend([0, 0, 0, 1]);
                }
            }
            _ => unreachable!("both ends are of one version"),
        }
        p.extend(payload);
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_make_the_packet() {
        for v6 in [false, true] {
            let whole = Row::parse("> udp len=100", v6);
            let header = if v6 { 40 } else { 20 };
            for (split, order) in [("24,80", [0, 1, 2]), ("80,24", [2, 1, 0])] {
                let parts = Row::parse(&format!("> udp len=100 split={split}"), v6).packets();
                let extra = if v6 { 8 } else { 0 };
                let joined: Vec<u8> = order
                    .iter()
                    .flat_map(|&i: &usize| parts[i][header + extra..].to_vec())
                    .collect();
                assert_eq!(joined, whole.packet()[header..]);
            }
        }
        // More fragments, and an offset in words of eight bytes.
        let parts = Row::parse("> udp len=100 split=24", false).packets();
        assert_eq!([&parts[0][6..8], &parts[1][6..8]], [&[0x20, 0], &[0, 3]]);
        let parts = Row::parse("> udp len=100 split=24", true).packets();
        assert_eq!([&parts[0][42..44], &parts[1][42..44]], [&[0, 1], &[0, 24]]);
    }

    #[test]
    fn checksums_are_right_unless_they_are_to_be_wrong() {
        let sum = |row: &str| {
            let p = Row::parse(row, false).packet();
            let [s, d] =
                [&p[12..16], &p[16..20]].map(|a| u32::from_be_bytes(a.try_into().expect("4")));
            finish(add(pseudo_v4(s, d, p[9], p.len() as u32 - 20), &p[20..]))
        };
        assert_eq!(sum("> tcp S seq=1 ws=7 len=11"), 0);
        assert_eq!(sum("< udp hex=0001ff"), 0);
        assert_eq!(sum("< tcp PA say=PORT_10,0,0,1,4,1"), 0);
        assert_ne!(sum("> tcp S seq=1 badsum"), 0);
    }
}
