//! Packets of one conversation, and what may be wrong with them.

use conntrack::Dir;
use ebpf::{Key, Origin};
use packet::header::{ethertype, ipproto, tcp_flag};
use packet::{PacketBuf, checksum};

pub const MACS: [[u8; 6]; 2] = [[2, 0xab, 0, 0, 0, 1], [2, 0xab, 0, 0, 0, 2]];
pub const FIN: u8 = tcp_flag::FIN as u8;
pub const SYN: u8 = tcp_flag::SYN as u8;
pub const RST: u8 = tcp_flag::RST as u8;
pub const ACK: u8 = tcp_flag::ACK as u8;

/// Which sum a packet has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sum {
    Partial,
    /// The same in a packet that nobody said so of.
    Pretended,
    Whole,
    Wrong,
    Zero,
}

/// One end of a conversation to the other.
#[derive(Clone, Debug)]
pub struct Shape {
    pub v6: bool,
    pub proto: u8,
    pub dir: Dir,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: u8,
    pub payload: usize,
    pub sum: Sum,
    pub tos: u8,
    pub ttl: u8,
    pub tci: Option<u16>,
    /// TCP's, a multiple of four bytes.
    pub options: Vec<u8>,
    /// What is wrong with the IP header, if anything.
    pub odd: Odd,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    No,
    Fragment,
    HeaderSum,
    Options,
    /// The packet says that it is longer than its frame.
    TooLong,
    /// The frame is longer.
    Padded,
    /// TCP's header is said to be as long as can be; UDP's length is shorter than the packet's.
    Transport,
}

pub const ADDRESSES: [[u8; 16]; 2] = [
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2],
];
pub const PORTS: [u16; 2] = [4001, 80];

impl Shape {
    pub fn new(v6: bool, proto: u8, dir: Dir) -> Shape {
        let (seq, ack, window, flags, payload) = (0, 0, 1000, ACK, 10);
        let (sum, tos, ttl, tci, odd) = (Sum::Whole, 0, 64, None, Odd::No);
        let options = Vec::new();
        Shape { v6, proto, dir, seq, ack, window, flags, payload, sum, tos, ttl, tci, options, odd }
    }

    pub fn l4(&self) -> (Vec<u8>, usize) {
        let [from, to] = match self.dir {
            Dir::Orig => [PORTS[0], PORTS[1]],
            Dir::Reply => [PORTS[1], PORTS[0]],
        };
        let mut l4 = Vec::new();
        let at = match self.proto {
            ipproto::TCP => {
                l4.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                l4.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
                let offset = match self.odd {
                    Odd::Transport => 0xf0,
                    _ => (5 + self.options.len() as u8 / 4) << 4,
                };
                l4.extend([offset, self.flags]);
                l4.extend(self.window.to_be_bytes());
                l4.extend([0; 4]);
                l4.extend(&self.options);
                16
            }
            ipproto::UDP => {
                l4.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                let short = u16::from(self.odd == Odd::Transport && self.payload > 0);
                l4.extend((8 + self.payload as u16 - short).to_be_bytes());
                l4.extend([0; 2]);
                6
            }
            _ => {
                let types = if self.v6 { [128, 129] } else { [8, 0] };
                l4.extend([types[self.dir as usize], 0, 0, 0, 0x12, 0x34, 0, self.seq as u8]);
                2
            }
        };
        l4.extend((0..self.payload).map(|i| (i as u8).wrapping_mul(7)));
        (l4, at)
    }

    /// The frame.
    pub fn packet(&self) -> PacketBuf {
        let (src, dst) = (self.dir as usize, self.dir.flip() as usize);
        let (mut l4, at) = self.l4();
        let mut f = [MACS[dst], MACS[src]].concat();
        if let Some(tci) = self.tci {
            f.extend(ethertype::VLAN.to_be_bytes());
            f.extend(tci.to_be_bytes());
        }
        let more = if self.odd == Odd::TooLong { 9 } else { 0 };
        let pseudo = if self.v6 {
            f.extend(ethertype::IPV6.to_be_bytes());
            f.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
            f.extend((l4.len() as u16 + more).to_be_bytes());
            f.extend([self.proto, self.ttl]);
            f.extend([ADDRESSES[src], ADDRESSES[dst]].concat());
            let len = l4.len() as u32;
            checksum::pseudo_v6(&ADDRESSES[src], &ADDRESSES[dst], self.proto, len)
        } else {
            f.extend(ethertype::IPV4.to_be_bytes());
            let options: &[u8] = if self.odd == Odd::Options { &[1; 4] } else { &[] };
            let mut ip = vec![0x45 + options.len() as u8 / 4, self.tos];
            ip.extend((20 + options.len() as u16 + l4.len() as u16 + more).to_be_bytes());
            ip.extend([0, 1, if self.odd == Odd::Fragment { 0x20 } else { 0x40 }, 0]);
            ip.extend([self.ttl, self.proto, 0, 0]);
            ip.extend([&ADDRESSES[src][12..], &ADDRESSES[dst][12..], options].concat());
            let sum = checksum::checksum(&ip) ^ u16::from(self.odd == Odd::HeaderSum);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            f.extend(&ip);
            let [a, b] = [src, dst].map(|i| ADDRESSES[i]);
            let word = |a: [u8; 16]| u32::from_be_bytes([a[12], a[13], a[14], a[15]]);
            match self.proto {
                ipproto::ICMP => 0,
                proto => checksum::pseudo_v4(word(a), word(b), proto, l4.len() as u32),
            }
        };
        let sum = match self.sum {
            Sum::Zero => 0,
            Sum::Partial | Sum::Pretended => checksum::fold(pseudo),
            Sum::Whole => checksum::finish(checksum::add(pseudo, &l4)),
            Sum::Wrong => checksum::finish(checksum::add(pseudo, &l4)) ^ 0x101,
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let start = f.len();
        f.extend(&l4);
        if self.odd == Odd::Padded {
            f.extend([0xee; 5]);
        }
        let mut p = PacketBuf::from_frame(&f);
        if self.sum == Sum::Partial {
            (p.offload.needs_csum, p.offload.csum_start) = (true, start as u16);
            p.offload.csum_offset = at as u16;
        }
        p
    }

    pub fn key(&self, ifindex: u32) -> Key {
        let (src, dst) = (self.dir as usize, self.dir.flip() as usize);
        let eth = [MACS[dst], MACS[src]].concat().try_into().unwrap();
        let tci = self.tci.map_or(0, |t| t | Key::TAGGED);
        let origin = Origin { ifindex, eth, tci, proto: self.proto };
        let l4 = self.l4().0;
        let ports = match self.proto {
            ipproto::TCP | ipproto::UDP => [l4[0], l4[1], l4[2], l4[3]],
            _ => [l4[0], l4[1], l4[4], l4[5]],
        };
        let addresses = [ADDRESSES[src], ADDRESSES[dst]];
        match self.v6 {
            true => Key::v6(&origin, &addresses.concat().try_into().unwrap(), ports),
            false => {
                let v4 = [&addresses[0][12..], &addresses[1][12..]].concat();
                Key::v4(&origin, &v4.try_into().unwrap(), ports)
            }
        }
    }
}
