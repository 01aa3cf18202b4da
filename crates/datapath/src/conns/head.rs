//! The key of a plain packet in a few words.
//!
//! *Plain* is Ethernet with at most one 802.1Q tag, IPv4 without options or IPv6 without extension
//! headers, no fragment, and a whole TCP or UDP header or an ICMP echo (or its reply); TCP without SYN, FIN or RST, for
//! these move connections on. Of such a packet the words here say all that a [`flow::PacketKey`] would: what is not
//! in them is the same for all. [`Head::read`] must understand no packet otherwise than
//! [`flow::extract()`] does; the tests compare them.

use super::path::Path;
use base::{DpPort, HashKey};
use ebpf::{Key, Origin};
use flow::VLAN_PRESENT;
use packet::header::{ETH_LEN, IPV4_LEN, IPV6_LEN, TCP_LEN, UDP_LEN, ethertype, ipproto, tcp_flag};

/// Words of the key of an IPv4 packet: Ethernet addresses, port and tag (two words); ports and what
/// varies; addresses.
pub(crate) const V4_WORDS: usize = 4;
/// The same with longer addresses, and the flow label.
pub(crate) const V6_WORDS: usize = 8;

/// Bits of the third word that tell connections apart. The others are TOS, TTL and TCP flags.
pub(crate) const HARD: u64 = 0xffff_ffff_0000_f000;
/// Where the TOS is in the third word.
pub(crate) const TOS_SHIFT: u32 = 24;
/// Where the TTL is.
pub(crate) const TTL_SHIFT: u32 = 16;
/// The TCP flags of the third word.
pub(crate) const FLAGS: u64 = 0xfff;

const _: () = assert!(VLAN_PRESENT == Key::TAGGED);

const IS_TCP: u64 = 0x1000;
const IS_V6: u64 = 0x2000;
/// Type and code are in the place of the source port, the identifier in that of the other.
const IS_ICMP: u64 = 0x4000;

/// Flags of packets that are not plain.
const TURNS: u16 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;

/// A plain packet.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Head {
    /// The first [`V4_WORDS`] or all.
    pub words: [u64; V6_WORDS],
    pub hash: u64,
    /// Offset of the network header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
}

fn word(b: &[u8; 8]) -> u64 {
    u64::from_be_bytes(*b)
}

impl Head {
    pub const NOTHING: Head = Head { words: [0; V6_WORDS], hash: 0, l3: 0, l4: 0 };

    pub fn is_v6(&self) -> bool {
        self.words[2] & IS_V6 != 0
    }

    pub fn eth_type(&self) -> u16 {
        if self.is_v6() { ethertype::IPV6 } else { ethertype::IPV4 }
    }

    fn proto(&self) -> u8 {
        match self.words[2] & (IS_TCP | IS_ICMP) {
            IS_TCP => ipproto::TCP,
            IS_ICMP if self.is_v6() => ipproto::ICMPV6,
            IS_ICMP => ipproto::ICMP,
            _ => ipproto::UDP,
        }
    }

    pub fn tcp_flags(&self) -> u16 {
        (self.words[2] & FLAGS) as u16
    }

    /// It has a VLAN tag.
    pub fn is_tagged(&self) -> bool {
        self.words[1] as u16 & VLAN_PRESENT != 0
    }

    /// By what the kernel finds such a packet that comes by this device.
    pub fn kernel_key(&self, ifindex: u32) -> Key {
        let w = self.words.map(u64::to_be_bytes);
        let mut eth = [0; 12];
        eth[..8].copy_from_slice(&w[0]);
        eth[8..].copy_from_slice(&w[1][..4]);
        let [p0, p1, p2, p3, ..] = w[2];
        let ports = [p0, p1, p2, p3];
        let proto = self.proto();
        let origin = Origin { ifindex, eth, tci: self.words[1] as u16, proto };
        if !self.is_v6() {
            return Key::v4(&origin, &w[3], ports);
        }
        let mut addresses = [0; 32];
        addresses.as_chunks_mut().0.copy_from_slice(&w[3..7]);
        Key::v6(&origin, &addresses, ports)
    }

    /// What a path wants of what else varies in such packets, as the kernel has it: which bits, and what they are.
    pub fn varying(&self, path: &Path) -> (u32, u32) {
        let wanted = path.varies.0 & (0xff << TOS_SHIFT | 0xff << TTL_SHIFT | FLAGS);
        (wanted as u32, (self.words[2] & wanted) as u32)
    }

    /// Reads a frame that came in by `port`; whether it is plain.
    #[inline]
    pub fn read(&mut self, frame: &[u8], port: DpPort, secret: HashKey) -> bool {
        self.try_read(frame, port, secret).is_some()
    }

    #[inline(always)]
    fn try_read(&mut self, frame: &[u8], port: DpPort, secret: HashKey) -> Option<()> {
        let eth = frame.first_chunk::<16>()?;
        let mut tci = 0;
        let mut l3 = ETH_LEN;
        let mut eth_type = u16::from_be_bytes([eth[12], eth[13]]);
        if eth_type == ethertype::VLAN {
            tci = u16::from_be_bytes([eth[14], eth[15]]) | VLAN_PRESENT;
            let inner = frame.get(16..)?.first_chunk::<2>()?;
            eth_type = u16::from_be_bytes(*inner);
            l3 += 4;
        }
        let body = frame.get(l3..)?;
        let (varies, l4) = match eth_type {
            ethertype::IPV4 => (self.read_v4(body)?, IPV4_LEN),
            ethertype::IPV6 => (self.read_v6(body)?, IPV6_LEN),
            _ => return None,
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *eth;
        let ports = u64::from(port.0 & 0xffff) << 16 | u64::from(tci);
        let w = &mut self.words;
        w[0] = word(&[a, b, c, d, e, f, g, h]);
        w[1] = u64::from(u32::from_be_bytes([i, j, k, l])) << 32 | ports;
        w[2] |= varies;
        (self.l3, self.l4) = (l3 as u16, (l3 + l4) as u16);
        let h = secret.mix(secret.start(2), w[0]);
        let h = secret.mix(h, w[1]);
        let g = secret.mix(secret.start(3), w[2] & HARD);
        let g = secret.mix(g, w[3]);
        let g = match w[2] & IS_V6 {
            0 => g,
            _ => w[4..7].iter().fold(g, |g, w| secret.mix(g, *w)),
        };
        self.hash = secret.finish(secret.mix(h, g));
        Some(())
    }

    /// Sets ports and addresses; gives what else the third word has.
    #[inline(always)]
    fn read_v4(&mut self, body: &[u8]) -> Option<u64> {
        const MORE_OR_OFFSET: u16 = 0x3fff;
        let ip = body.first_chunk::<{ IPV4_LEN + UDP_LEN }>()?;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if ip[0] != 0x45 || u16::from_be_bytes([ip[6], ip[7]]) & MORE_OR_OFFSET != 0 {
            return None;
        }
        let l4 = body.get(IPV4_LEN..total)?;
        let kind = transport(ip[9], l4, ECHOES)?;
        self.words[2] = ports(kind, l4)?;
        self.words[3] = word(ip[12..].first_chunk()?);
        Some(u64::from(ip[1]) << TOS_SHIFT | u64::from(ip[8]) << TTL_SHIFT | kind)
    }

    #[inline(always)]
    fn read_v6(&mut self, body: &[u8]) -> Option<u64> {
        let ip = body.first_chunk::<{ IPV6_LEN + UDP_LEN }>()?;
        let total = IPV6_LEN + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let first = u32::from_be_bytes([ip[0], ip[1], ip[2], ip[3]]);
        if first >> 28 != 6 {
            return None;
        }
        let l4 = body.get(IPV6_LEN..total)?;
        let kind = transport(ip[6], l4, ECHOES_V6)? | IS_V6;
        self.words[2] = ports(kind, l4)?;
        for (w, at) in self.words[3..7].iter_mut().zip((8..).step_by(8)) {
            *w = word(ip[at..].first_chunk()?);
        }
        self.words[7] = u64::from(first & 0xf_ffff);
        let tos = u64::from((first >> 20) as u8);
        Some(tos << TOS_SHIFT | u64::from(ip[7]) << TTL_SHIFT | kind)
    }
}

#[inline(always)]
fn ports(kind: u64, l4: &[u8]) -> Option<u64> {
    let &[a, b, c, d, e, f] = l4.first_chunk()?;
    let ports = if kind & IS_ICMP == 0 { [a, b, c, d] } else { [a, b, e, f] };
    Some(u64::from(u32::from_be_bytes(ports)) << 32)
}

/// The protocol that asks and answers, and the types that do.
type Echoes = (u8, [u8; 2]);
const ECHOES: Echoes = (ipproto::ICMP, [8, 0]);
const ECHOES_V6: Echoes = (ipproto::ICMPV6, [128, 129]);
/// Their header.
const ICMP_LEN: usize = 8;

/// Protocol and flags of a plain packet's transport header.
#[inline(always)]
fn transport(proto: u8, l4: &[u8], (icmp, echoes): Echoes) -> Option<u64> {
    match proto {
        ipproto::TCP => {
            let tcp = l4.first_chunk::<TCP_LEN>()?;
            let len = usize::from(tcp[12] >> 4) * 4;
            let flags = u16::from_be_bytes([tcp[12], tcp[13]]) & 0x0fff;
            let plain = (TCP_LEN..=l4.len()).contains(&len) && flags & TURNS == 0;
            plain.then_some(u64::from(flags) | IS_TCP)
        }
        ipproto::UDP if l4.len() >= UDP_LEN => Some(0),
        _ if proto == icmp && l4.len() >= ICMP_LEN => {
            (echoes.contains(&l4[0]) && l4[1] == 0).then_some(IS_ICMP)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::PacketKey;
    use packet::PacketBuf;
    use proptest::prelude::*;

    const SECRET: HashKey = HashKey([7, 8]);
    const PORT: DpPort = DpPort(9);

    /// What the words say, as a key.
    fn key_of(h: &Head) -> PacketKey {
        let w = &h.words;
        let mut k = PacketKey { in_port: (w[1] >> 16) as u16 as u32, ..PacketKey::ZERO };
        let (a, b) = (w[0].to_be_bytes(), w[1].to_be_bytes());
        k.dl_dst.copy_from_slice(&a[..6]);
        k.dl_src = [a[6], a[7], b[0], b[1], b[2], b[3]];
        k.dl_type = h.eth_type();
        if h.is_tagged() {
            k.vlans[0] = flow::VlanTag { tpid: ethertype::VLAN, tci: w[1] as u16 };
        }
        (k.tp_src, k.tp_dst) = ((w[2] >> 48) as u16, (w[2] >> 32) as u16);
        if w[2] & IS_ICMP != 0 {
            (k.tp_src, k.tp_dst) = (k.tp_src >> 8, k.tp_src & 0xff);
        }
        (k.nw_tos, k.nw_ttl) = ((w[2] >> TOS_SHIFT) as u8, (w[2] >> TTL_SHIFT) as u8);
        k.tcp_flags = h.tcp_flags();
        k.nw_proto = h.proto();
        if h.is_v6() {
            let addr = |a: u64, b: u64| (u128::from(a) << 64 | u128::from(b)).to_be_bytes();
            (k.ipv6_src, k.ipv6_dst) = (addr(w[3], w[4]), addr(w[5], w[6]));
            k.ipv6_label = w[7] as u32;
        } else {
            (k.nw_src, k.nw_dst) = ((w[3] >> 32) as u32, w[3] as u32);
        }
        k
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let v4 = (
            any::<[u8; 8]>(),
            any::<u8>(),
            any::<u8>(),
            prop_oneof![Just(0u16), Just(0x4000), any::<u16>()],
        );
        let protos = prop_oneof![
            Just(ipproto::TCP),
            Just(ipproto::UDP),
            Just(ipproto::ICMP),
            Just(ipproto::ICMPV6)
        ];
        let echo = prop_oneof![
            Just(None),
            prop_oneof![Just(0u8), Just(8), Just(128), Just(129), any::<u8>()].prop_map(Some)
        ];
        let l4 =
            ((protos, echo), any::<[u8; 24]>(), 0usize..8, prop_oneof![Just(5u8), any::<u8>()]);
        let lengths = (0usize..12, prop_oneof![4 => Just(0i32), 1 => -30..30i32]);
        (any::<[u8; 12]>(), any::<Option<u16>>(), any::<bool>(), v4, any::<[u8; 36]>(), l4, lengths)
            .prop_map(
                |(
                    macs,
                    tci,
                    is_v6,
                    (addrs, tos, ttl, frag),
                    v6,
                    ((proto, echo), mut l4, cut, offset),
                    (pad, lie),
                )| {
                    if let Some(ty) = echo {
                        (l4[0], l4[1]) = (ty, l4[1] & 1);
                    }
                    l4[12] = offset << 4 | l4[12] & 0xf;
                    l4[13] &= 0xf8 | l4[13] >> 5;
                    let l4 = &l4[..24 - cut];
                    let mut f = macs.to_vec();
                    if let Some(tci) = tci {
                        f.extend([0x81, 0]);
                        f.extend(tci.to_be_bytes());
                    }
                    let len = (l4.len() as i32 + lie).max(0) as u16;
                    if is_v6 {
                        f.extend([0x86, 0xdd, 0x60 | v6[32] & 0xf, v6[33], v6[34], v6[35]]);
                        f.extend(len.to_be_bytes());
                        f.extend([proto, ttl]);
                        f.extend(&v6[..32]);
                    } else {
                        f.extend([8, 0, 0x45, tos]);
                        f.extend((len + 20).to_be_bytes());
                        f.extend([0, 1]);
                        f.extend(frag.to_be_bytes());
                        f.extend([ttl, proto, 0, 0]);
                        f.extend(addrs);
                    }
                    f.extend(l4);
                    f.resize(f.len() + pad, 0);
                    f
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Every plain packet is understood as the long way understands it.
        #[test]
        fn the_words_say_what_the_key_says(frame in frames(), cut in 0usize..80) {
            for frame in [&frame[..], &frame[..cut.min(frame.len())]] {
                let mut head = Head::NOTHING;
                if !head.read(frame, PORT, SECRET) {
                    continue;
                }
                let mut buf = PacketBuf::from_frame(frame);
                let mut key = PacketKey { in_port: PORT.0, ..PacketKey::ZERO };
                flow::extract(&mut buf, &mut key);
                prop_assert_eq!(key_of(&head), key);
                let layers = (buf.l3(), buf.l4());
                prop_assert_eq!((Some(head.l3.into()), Some(head.l4.into())), layers);
            }
        }
    }

    #[test]
    fn plain_packets_are_and_others_are_not() {
        let mut f = vec![0; 12];
        f.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        f.extend([0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        let plain = |at: usize, byte: u8| {
            let mut f = f.clone();
            f[at] = byte;
            Head::NOTHING.clone().read(&f, PORT, SECRET)
        };
        assert!(plain(0, 1));
        for flags in [0x02, 0x12, 0x11, 0x04, 0x14] {
            assert!(!plain(47, flags), "flags {flags:x}");
        }
        assert!(!plain(14, 0x46), "options");
        assert!(!plain(20, 0x20), "a fragment");
        assert!(!plain(46, 0x60), "a header longer than the packet");
        f[23] = 1;
        for (ty, is_plain) in
            [(8, true), (0, true), (3, false), (11, false), (13, false), (128, false)]
        {
            for code in [0, 1] {
                f[34..36].copy_from_slice(&[ty, code]);
                let read = Head::NOTHING.clone().read(&f, PORT, SECRET);
                assert_eq!(read, is_plain && code == 0, "type {ty}, code {code}");
            }
        }
    }
}
