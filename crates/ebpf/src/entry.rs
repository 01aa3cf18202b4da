//! What the kernel knows of one direction of a connection.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::*};

use base::Instant;
use conntrack::Lent;
use packet::header::VLAN_LEN;

/// By what a packet finds its entry: the device it came by, Ethernet addresses, VLAN tag, IP version, protocol, addresses
/// and ports.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key([u8; Key::SIZE]);

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
    const SIZE: usize = Key::WORDS * 8;
    /// Words of eight bytes that it is read by.
    pub(crate) const WORDS: usize = 7;
    // Where what is.
    pub(crate) const ETH: usize = 0;
    pub(crate) const TCI: usize = 12;
    pub(crate) const PROTO: usize = 14;
    pub(crate) const VERSION: usize = 15;
    pub(crate) const IFINDEX: usize = 16;
    pub(crate) const PORTS: usize = 20;
    pub(crate) const ADDRESSES: usize = 24;

    /// Of a tag control information: there is a tag. It is the bit that a tag does not need where there is one.
    pub const TAGGED: u16 = 0x1000;

    /// Addresses and ports as the packet has them; of an echo type, code and identifier in their place.
    pub fn v4(origin: &Origin, addresses: &[u8; 8], ports: [u8; 4]) -> Key {
        Key::of(origin, 4, addresses, ports)
    }

    /// The same of IPv6.
    pub fn v6(origin: &Origin, addresses: &[u8; 32], ports: [u8; 4]) -> Key {
        Key::of(origin, 6, addresses, ports)
    }

    /// Ethernet destination and source of its packets.
    pub fn eth(&self) -> [[u8; 6]; 2] {
        let all = self.0[Key::ETH..].as_chunks().0;
        [all[0], all[1]]
    }

    fn of(o: &Origin, version: u8, addresses: &[u8], ports: [u8; 4]) -> Key {
        let mut k = [0; Key::SIZE];
        k[Key::ETH..][..12].copy_from_slice(&o.eth);
        k[Key::TCI..][..2].copy_from_slice(&o.tci.to_ne_bytes());
        (k[Key::PROTO], k[Key::VERSION]) = (o.proto, version);
        k[Key::IFINDEX..][..4].copy_from_slice(&o.ifindex.to_ne_bytes());
        k[Key::PORTS..][..4].copy_from_slice(&ports);
        k[Key::ADDRESSES..][..addresses.len()].copy_from_slice(addresses);
        Key(k)
    }

    /// As it lies in memory.
    pub fn words(&self) -> [u64; Key::WORDS] {
        let words = self.0.as_chunks().0;
        std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
    }

    fn from_words(words: [u64; Key::WORDS]) -> Key {
        let mut k = [0; Key::SIZE];
        k.as_chunks_mut().0.iter_mut().zip(words).for_each(|(b, w)| *b = w.to_ne_bytes());
        Key(k)
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

/// What becomes of a frame's VLAN tag.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Retag {
    /// Nothing.
    Keep,
    /// It gets one.
    Push {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// PCP and VID.
        tci: u16,
    },
    /// It loses it.
    Pop,
}

impl Retag {
    /// By how many bytes the frame is longer.
    pub fn longer(self) -> i32 {
        match self {
            Retag::Keep => 0,
            Retag::Push { .. } => VLAN_LEN as i32,
            Retag::Pop => -(VLAN_LEN as i32),
        }
    }

    /// For the program: a tag to put on, [`POP`], or zero.
    fn code(self) -> u32 {
        match self {
            Retag::Keep => 0,
            Retag::Push { tpid, tci } => u32::from(tpid) << 16 | u32::from(tci & !Key::TAGGED),
            Retag::Pop => POP,
        }
    }
}

/// What an entry is to say.
#[derive(Copy, Clone, Debug)]
pub struct Terms {
    /// The connection, if packets are tracked. Its verdict must be what the flows want.
    pub lent: Option<Lent>,
    /// Bits of the mark that must stay.
    pub mark_mask: u32,
    /// Which of TOS (bits 24 to 31), TTL (16 to 23) and TCP flags (0 to 11) must be as they are in the packet, and what
    /// they are.
    pub varies: (u32, u32),
    /// The longest frame; of a packet that a device is to cut, the longest of those that it makes.
    pub max_len: u32,
    /// What becomes of its tag.
    pub tag: Retag,
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

/// The tag is to be taken off.
pub(crate) const POP: u32 = 1;

pub(crate) const TO_DEVICE: u8 = 1;
pub(crate) const TO_PEER: u8 = 2;

/// One direction of a connection, or of what is not tracked.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Entry {
    pub(crate) key: [AtomicU64; Key::WORDS],
    /// Zero: serves nothing.
    pub(crate) generation: AtomicU64,
    pub(crate) conn: AtomicU32,
    pub(crate) conn_generation: AtomicU32,
    pub(crate) ifindex: AtomicU32,
    pub(crate) max_len: AtomicU32,
    pub(crate) varies_mask: AtomicU32,
    pub(crate) varies: AtomicU32,
    pub(crate) mark_mask: AtomicU32,
    pub(crate) mark: AtomicU32,
    pub(crate) how: AtomicU8,
    pub(crate) dir: AtomicU8,
    // Written by packets: of a connection while they hold it.
    pub(crate) flags: AtomicU16,
    // And read.
    pub(crate) retag: AtomicU32,
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) used: AtomicU64,
}

const _: () = assert!(size_of::<Entry>() == 128);

impl Entry {
    /// Says something else. It must serve nothing.
    pub fn set(&self, t: &Terms) {
        let set = |word: &AtomicU32, v: u32| word.store(v, Relaxed);
        self.lead(t.target, t.max_len);
        // Programs know the lower half of an address; none is zero.
        set(&self.conn, t.lent.map_or(0, |l| l.address as u32));
        set(&self.conn_generation, t.lent.map_or(0, |l| l.generation));
        self.dir.store(t.lent.map_or(0, |l| l.dir as u8), Relaxed);
        set(&self.varies_mask, t.varies.0);
        set(&self.varies, t.varies.1 & t.varies.0);
        set(&self.retag, t.tag.code());
        set(&self.mark_mask, t.mark_mask);
        set(&self.mark, t.lent.map_or(0, |l| l.standing.mark) & t.mark_mask);
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

    /// Asks for its memory.
    pub fn prefetch(&self) {
        base::prefetch(&self.key);
        base::prefetch(&self.packets);
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
            tcp_flags: self.flags.load(Relaxed),
        }
    }

    /// Counts from zero. It must serve nothing.
    pub fn clear(&self) {
        for word in [&self.packets, &self.bytes, &self.used] {
            word.store(0, Relaxed);
        }
        self.flags.store(0, Relaxed);
    }

    /// By what packets find it, or found it last.
    pub fn key(&self) -> Key {
        Key::from_words(self.key.each_ref().map(|w| w.load(Relaxed)))
    }
}
