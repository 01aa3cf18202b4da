//! What the kernel knows of one direction of a connection.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use base::Instant;
use conntrack::Lent;

/// By what a packet finds its entry: the device it came by, Ethernet addresses, VLAN tag, protocol, addresses and ports.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// Of an IPv4 packet.
    V4([u8; Key::SIZE_V4]),
    /// Of an IPv6 packet.
    V6([u8; Key::SIZE_V6]),
}

/// What keys of both IP versions begin with.
#[derive(Copy, Clone, Debug)]
pub struct Origin {
    /// The device it came by.
    pub ifindex: u32,
    /// Ethernet destination and source.
    pub eth: [u8; 12],
    /// 0, or the tag's with [`Key::TAGGED`].
    pub tci: u16,
    /// Of TCP, UDP, or ICMP for echoes.
    pub proto: u8,
}

impl Key {
    /// Bytes of a key.
    pub const SIZE_V4: usize = Key::PORTS_V4 + 4;
    /// Bytes of a key.
    pub const SIZE_V6: usize = Key::PORTS_V6 + 4;
    // Where what is.
    pub(crate) const ETH: usize = 0;
    pub(crate) const TCI: usize = 12;
    pub(crate) const PROTO: usize = 14;
    pub(crate) const IFINDEX: usize = 16;
    pub(crate) const ADDRESSES: usize = 20;
    pub(crate) const PORTS_V4: usize = Key::ADDRESSES + 8;
    pub(crate) const PORTS_V6: usize = Key::ADDRESSES + 32;

    /// Of a tag control information: there is a tag. It is the bit that a tag does not need where there is one.
    pub const TAGGED: u16 = 0x1000;

    /// Addresses and ports as the packet has them; of an echo type, code and identifier in their place.
    pub fn v4(origin: &Origin, addresses: &[u8; 8], ports: [u8; 4]) -> Key {
        Key::V4(Key::of(origin, addresses, ports))
    }

    /// The same of IPv6.
    pub fn v6(origin: &Origin, addresses: &[u8; 32], ports: [u8; 4]) -> Key {
        Key::V6(Key::of(origin, addresses, ports))
    }

    /// Ethernet destination and source of its packets.
    pub fn eth(&self) -> [[u8; 6]; 2] {
        let bytes = match self {
            Key::V4(k) => &k[..],
            Key::V6(k) => &k[..],
        };
        let all = bytes[Key::ETH..].as_chunks().0;
        [all[0], all[1]]
    }

    fn of<const N: usize>(o: &Origin, addresses: &[u8], ports: [u8; 4]) -> [u8; N] {
        let mut k = [0; N];
        k[Key::ETH..][..12].copy_from_slice(&o.eth);
        k[Key::TCI..][..2].copy_from_slice(&o.tci.to_ne_bytes());
        k[Key::PROTO..][..2].copy_from_slice(&u16::from(o.proto).to_ne_bytes());
        k[Key::IFINDEX..][..4].copy_from_slice(&o.ifindex.to_ne_bytes());
        k[Key::ADDRESSES..][..addresses.len()].copy_from_slice(addresses);
        k[N - 4..].copy_from_slice(&ports);
        k
    }
}

/// Where packets go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Out by this device.
    Device(u32),
    /// To the other end of this one, a veth whose other end is in another network namespace.
    Peer(u32),
}

/// What an entry is to say.
#[derive(Copy, Clone, Debug)]
pub struct Terms {
    /// The connection. Its verdict must be what the flows want.
    pub lent: Lent,
    /// Bits of the mark that must stay.
    pub mark_mask: u32,
    /// Which of TOS (bits 24 to 31), TTL (16 to 23) and TCP flags (0 to 11) must be as they are in the packet, and what
    /// they are.
    pub varies: (u32, u32),
    /// The longest frame; of a packet that a device is to cut, the longest of those that it makes.
    pub max_len: u32,
    /// Where to.
    pub target: Target,
}

/// What its packets counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// When the last one came; zero if none did.
    pub used: Instant,
    /// All TCP flags together.
    pub tcp_flags: u16,
}

pub(crate) const TO_DEVICE: u32 = 1;
pub(crate) const TO_PEER: u32 = 2;

/// One direction of a connection.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Entry {
    // First line: what is read.
    /// Zero: serves nothing.
    pub(crate) generation: AtomicU64,
    pub(crate) conn: AtomicU32,
    pub(crate) conn_generation: AtomicU32,
    pub(crate) ifindex: AtomicU32,
    pub(crate) how: AtomicU32,
    pub(crate) dir: AtomicU32,
    pub(crate) shift: AtomicU32,
    pub(crate) timeout: AtomicU32,
    pub(crate) max_len: AtomicU32,
    pub(crate) varies_mask: AtomicU32,
    pub(crate) varies: AtomicU32,
    pub(crate) mark_mask: AtomicU32,
    pub(crate) mark: AtomicU32,
    _pad: AtomicU64,
    // Second line: written by packets that hold the connection.
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) used: AtomicU64,
    pub(crate) flags: AtomicU64,
}

impl Entry {
    /// Says something else. It must serve nothing.
    pub fn set(&self, t: &Terms) {
        let set = |word: &AtomicU32, v: u32| word.store(v, Relaxed);
        self.lead(t.target, t.max_len);
        // Programs know the lower half of an address.
        set(&self.conn, t.lent.address as u32);
        set(&self.conn_generation, t.lent.generation);
        set(&self.dir, t.lent.dir as u32);
        set(&self.shift, t.lent.shift.into());
        set(&self.timeout, t.lent.timeout as u32);
        set(&self.varies_mask, t.varies.0);
        set(&self.varies, t.varies.1 & t.varies.0);
        set(&self.mark_mask, t.mark_mask);
        set(&self.mark, t.lent.standing.mark & t.mark_mask);
    }

    /// Sends its packets there from now on: another way to what it led to before, or all is said anew.
    pub fn lead(&self, target: Target, max_len: u32) {
        let (ifindex, how) = match target {
            Target::Device(ifindex) => (ifindex, TO_DEVICE),
            Target::Peer(ifindex) => (ifindex, TO_PEER),
        };
        self.ifindex.store(ifindex, Relaxed);
        self.how.store(how, Relaxed);
        self.max_len.store(max_len, Relaxed);
    }

    /// Whether packets that it serves leave by the device, which counts them.
    pub fn leads_out(&self) -> bool {
        self.how.load(Relaxed) == TO_DEVICE
    }

    /// Serves packets as long as the slow path is of this generation, which is not zero.
    pub fn serve(&self, generation: u64) {
        self.generation.store(generation, Release);
    }

    /// Serves no more packets but those that have found it already. It may say something else a second later.
    pub fn retire(&self) {
        self.generation.store(0, Release);
    }

    /// The generation that it serves; zero if it does not.
    pub fn serves(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// All that its packets counted.
    pub fn counted(&self) -> Counted {
        Counted {
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            used: Instant::from_nanos(self.used.load(Relaxed)),
            tcp_flags: self.flags.load(Relaxed) as u16,
        }
    }

    /// Counts from zero. It must serve nothing.
    pub fn clear(&self) {
        for word in [&self.packets, &self.bytes, &self.used, &self.flags] {
            word.store(0, Relaxed);
        }
    }
}
