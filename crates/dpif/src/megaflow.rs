//! One cached translation and its counters.
//!
//! # Threads
//! Key, mask, actions and credit never change; a translation that changed is another megaflow.
//! Counters have one slot per writer (a worker), so that counting needs no locked instruction;
//! any thread may read and push them at any time.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

use base::{HashKey, Instant, hash_words};
use flow::{PacketKey, VLAN_PRESENT};
use packet::header::ethertype;

use crate::DpAction;

/// Name of a megaflow: 128 bits, shown as a UUID.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ufid(pub u128);

impl fmt::Display for Ufid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Ufid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Packets counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct FlowStats {
    /// Packets; a large (GSO) packet is one.
    pub n_packets: u64,
    /// Frame bytes.
    pub n_bytes: u64,
    /// When the last one was processed; `None` if never.
    pub used: Option<Instant>,
    /// All TCP flags seen, ORed together.
    pub tcp_flags: u16,
}

/// Who gets the packets of a megaflow: rules to count them for, learned addresses to keep alive.
///
/// Called by whichever thread pulls statistics or lets go of a flow last, also a worker. It must
/// not wait for a lock that is held while a datapath is called.
pub trait Credit: Send + Sync + fmt::Debug {
    /// Packets since the last call: `n_packets`, `n_bytes` are the difference; `used` and
    /// `tcp_flags` are of the whole life.
    fn credit(&self, delta: &FlowStats);

    /// Whether crediting `other` instead would do exactly the same. If so, a re-translated flow
    /// keeps its megaflow.
    fn is_same(&self, other: &dyn Credit) -> bool;

    /// For [`Credit::is_same`] to see the other's type.
    fn as_any(&self) -> &dyn Any;
}

/// What the slow path wants cached.
#[derive(Clone, Debug)]
pub struct MegaflowSpec {
    /// Significant bits of the packet's key. [`required_mask`] is added.
    pub mask: PacketKey,
    /// What to do with matching packets.
    pub actions: Arc<[DpAction]>,
    /// Who gets the packets.
    pub credit: Option<Arc<dyn Credit>>,
    /// [`crate::SlowPath::generation`] read *before* the translation looked at any table.
    pub generation: u64,
}

impl MegaflowSpec {
    /// Whether `flow` does the same as this would.
    pub fn is_same(&self, flow: &Megaflow) -> bool {
        let mut mask = self.mask;
        mask |= &required_mask(&flow.key);
        mask == flow.mask
            && (Arc::ptr_eq(&self.actions, &flow.actions) || self.actions == flow.actions)
            && match (&self.credit, &flow.credit) {
                (None, None) => true,
                (Some(a), Some(b)) => a.is_same(&**b),
                _ => false,
            }
    }
}

/// Bits that every megaflow matches: without them a cached answer would be given to packets of
/// another port, another pass or another protocol.
pub fn required_mask(key: &PacketKey) -> PacketKey {
    let mut m = PacketKey::ZERO;
    m.in_port = u32::MAX;
    m.recirc_id = u32::MAX;
    m.packet_type = u32::MAX;
    m.dl_type = u16::MAX;
    if key.dl_type == ethertype::IPV4 || key.dl_type == ethertype::IPV6 {
        m.nw_frag = u8::MAX;
    }
    if key.vlans[0].tpid != 0 {
        m.vlans[0].tpid = u16::MAX;
        m.vlans[0].tci = VLAN_PRESENT | 0xfff;
    }
    m
}

/// Generation of a flow that was removed.
const DEAD: u64 = u64::MAX;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    /// Nanoseconds + 1; 0 is "never".
    used: AtomicU64,
    tcp_flags: AtomicU16,
}

/// One cached translation.
#[derive(Debug)]
pub struct Megaflow {
    /// The packet that made it, with all its bits; those outside `mask` do not count.
    pub key: PacketKey,
    /// Significant bits.
    pub mask: PacketKey,
    /// What to do.
    pub actions: Arc<[DpAction]>,
    /// Who gets the packets.
    pub credit: Option<Arc<dyn Credit>>,
    /// Its name.
    pub ufid: Ufid,
    /// When it was made.
    pub created: Instant,
    generation: AtomicU64,
    /// The words that count: index in the key, mask, value.
    words: Box<[(u8, u64, u64)]>,
    /// What an earlier megaflow of the same key had counted: shown, not pushed again.
    inherited: FlowStats,
    slots: Box<[Slot]>,
    pushed_packets: AtomicU64,
    pushed_bytes: AtomicU64,
}

impl Megaflow {
    /// A megaflow for packets like `key`, with counters for `n_writers` writers.
    pub fn new(key: PacketKey, spec: MegaflowSpec, n_writers: usize, now: Instant) -> Megaflow {
        let mut mask = spec.mask;
        mask |= &required_mask(&key);
        let words = (key.words().iter().zip(mask.words()).enumerate())
            .filter(|(_, (_, m))| **m != 0)
            .map(|(i, (k, m))| (i as u8, *m, k & m))
            .collect();
        Megaflow {
            ufid: ufid(&key, &mask),
            words,
            key,
            mask,
            actions: spec.actions,
            credit: spec.credit,
            created: now,
            generation: AtomicU64::new(spec.generation),
            inherited: FlowStats::default(),
            slots: (0..n_writers.max(1)).map(|_| Slot::default()).collect(),
            pushed_packets: AtomicU64::new(0),
            pushed_bytes: AtomicU64::new(0),
        }
    }

    /// Shows `stats` (of the megaflow that this one replaces) in addition to its own counts.
    pub fn with_inherited(mut self, stats: FlowStats) -> Megaflow {
        self.inherited = stats;
        self
    }

    /// Whether a packet with this key is this flow's.
    #[inline]
    pub fn matches(&self, key: &PacketKey) -> bool {
        let k = key.words();
        self.words.iter().all(|&(i, mask, value)| k[usize::from(i)] & mask == value)
    }

    /// The words that count: index in the key, mask, value.
    pub fn significant_words(&self) -> &[(u8, u64, u64)] {
        &self.words
    }

    /// Generation of the slow path that the translation is known to be right for.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// A new translation of `generation` gave the same: the flow is as good as new.
    pub fn confirm(&self, generation: u64) {
        self.generation.fetch_max(generation, Relaxed);
    }

    /// From now on no cache may use the flow: it is of no generation.
    pub fn kill(&self) {
        self.generation.store(DEAD, Relaxed);
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.generation() == DEAD
    }

    /// Counts packets that hit the flow. Each `writer` number below `n_writers` belongs to one
    /// thread.
    #[inline]
    pub fn count(&self, writer: usize, now: Instant, n_packets: u64, n_bytes: u64, flags: u16) {
        let s = &self.slots[writer];
        let add = |a: &AtomicU64, n: u64| a.store(a.load(Relaxed) + n, Relaxed);
        add(&s.n_bytes, n_bytes);
        add(&s.n_packets, n_packets);
        s.used.store(now.as_nanos().saturating_add(1), Relaxed);
        let old = s.tcp_flags.load(Relaxed);
        if old | flags != old {
            s.tcp_flags.store(old | flags, Relaxed);
        }
    }

    /// All that was counted, with what was inherited.
    pub fn stats(&self) -> FlowStats {
        let (own, inherited) = (self.own_stats(), &self.inherited);
        FlowStats {
            n_packets: own.n_packets + inherited.n_packets,
            n_bytes: own.n_bytes + inherited.n_bytes,
            used: own.used.max(inherited.used),
            tcp_flags: own.tcp_flags | inherited.tcp_flags,
        }
    }

    fn own_stats(&self) -> FlowStats {
        let mut t = FlowStats::default();
        let mut used = 0;
        for s in &self.slots {
            t.n_packets += s.n_packets.load(Relaxed);
            t.n_bytes += s.n_bytes.load(Relaxed);
            used = used.max(s.used.load(Relaxed));
            t.tcp_flags |= s.tcp_flags.load(Relaxed);
        }
        t.used = used.checked_sub(1).map(Instant::from_nanos);
        t
    }

    /// When it was last used, else when it was made.
    pub fn last_active(&self) -> Instant {
        self.stats().used.unwrap_or(self.created).max(self.created)
    }

    /// Hands what was counted since the last call to the credit, if it is anything.
    ///
    /// Any number of threads may do so at once: `pushed` only grows, and who moved it from `a`
    /// to `b` credits `b - a`.
    pub fn push_stats(&self) {
        let Some(credit) = &self.credit else { return };
        let mut t = self.own_stats();
        t.n_packets =
            t.n_packets.saturating_sub(self.pushed_packets.fetch_max(t.n_packets, Relaxed));
        t.n_bytes = t.n_bytes.saturating_sub(self.pushed_bytes.fetch_max(t.n_bytes, Relaxed));
        if t.n_packets | t.n_bytes != 0 {
            credit.credit(&t);
        }
    }
}

impl Drop for Megaflow {
    fn drop(&mut self) {
        self.push_stats();
    }
}

/// The name of a flow depends on the bits that count only, so that it stays when the flow is made
/// again for another packet.
fn ufid(key: &PacketKey, mask: &PacketKey) -> Ufid {
    let masked = key & mask;
    let half = |seed: u64| {
        let k = HashKey([seed, !seed]);
        u128::from(k.finish(k.mix(hash_words(k, masked.words()), hash_words(k, mask.words()))))
    };
    Ufid(half(0x9e37_79b9_7f4a_7c15) << 64 | half(0xd1b5_4a32_d192_ed03))
}
