//! One cached translation and its counters.
//!
//! # Threads
//! Key, mask, actions and credit never change; a translation that changed is another megaflow.
//! Counters have one slot per writer (a worker), so that counting needs no locked instruction, and one
//! more for all writers that came after the megaflow was made, which share it; any thread may read and
//! push them at any time.

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
    /// Whether `flow` is right: it looks at all that this would, and does the same. One that
    /// looks at more is as right, for fewer packets.
    pub fn confirms(&self, flow: &Megaflow) -> bool {
        let needed = installed_mask(&flow.key, &self.mask);
        (needed.words().iter().zip(flow.mask.words())).all(|(needs, has)| needs & !has == 0)
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
    m
}

/// The mask that a megaflow gets for a translation's mask: with the required bits, and for a
/// tagged packet its VLAN, as OVS's datapath adds it (a flow dump shows it, a trace does not).
pub fn installed_mask(key: &PacketKey, mask: &PacketKey) -> PacketKey {
    let mut m = *mask;
    m |= &required_mask(key);
    if key.vlans[0].tpid != 0 {
        m.vlans[0].tpid = u16::MAX;
        m.vlans[0].tci |= VLAN_PRESENT | 0xfff;
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
    /// One for each writer, and the one that writers share who have none.
    slots: Box<[Slot]>,
    pushed_packets: AtomicU64,
    pushed_bytes: AtomicU64,
}

impl Megaflow {
    /// A megaflow for packets like `key`, with counters for `n_writers` writers.
    pub fn new(key: PacketKey, spec: MegaflowSpec, n_writers: usize, now: Instant) -> Megaflow {
        let mask = installed_mask(&key, &spec.mask);
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
            slots: (0..=n_writers).map(|_| Slot::default()).collect(),
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

    /// Counts packets that hit the flow. Each `writer` number belongs to one thread; those below `n_writers`
    /// count without a locked instruction.
    #[inline]
    pub fn count(&self, writer: usize, now: Instant, n_packets: u64, n_bytes: u64, flags: u16) {
        let [slots @ .., shared] = &*self.slots else { return };
        let Some(s) = slots.get(writer) else {
            shared.n_bytes.fetch_add(n_bytes, Relaxed);
            shared.n_packets.fetch_add(n_packets, Relaxed);
            shared.used.fetch_max(now.as_nanos().saturating_add(1), Relaxed);
            shared.tcp_flags.fetch_or(flags, Relaxed);
            return;
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use std::sync::Mutex;
    use std::thread;

    #[derive(Debug, Default)]
    struct Sum(Mutex<(u64, u64)>);

    #[derive(Debug)]
    struct To(Arc<Sum>);

    impl Credit for To {
        fn credit(&self, d: &FlowStats) {
            let mut sum = self.0.0.lock().unwrap();
            *sum = (sum.0 + d.n_packets, sum.1 + d.n_bytes);
        }

        fn is_same(&self, other: &dyn Credit) -> bool {
            other.as_any().downcast_ref::<To>().is_some_and(|o| Arc::ptr_eq(&o.0, &self.0))
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn spec(sum: &Arc<Sum>) -> MegaflowSpec {
        MegaflowSpec {
            mask: PacketKey::ZERO,
            actions: Arc::new([]),
            credit: Some(Arc::new(To(Arc::clone(sum)))),
            generation: 3,
        }
    }

    #[test]
    fn counts_are_handed_over_exactly_once_whoever_pulls() {
        const WRITERS: usize = 3;
        const N: u64 = 20_000;
        let sum = Arc::new(Sum::default());
        let flow = Megaflow::new(PacketKey::ZERO, spec(&sum), WRITERS, Instant::ZERO);
        thread::scope(|s| {
            for w in 0..WRITERS {
                let flow = &flow;
                s.spawn(move || {
                    (0..N).for_each(|i| flow.count(w, Instant::from_nanos(i), 2, 100, 1 << w));
                });
            }
            for _ in 0..2 {
                s.spawn(|| (0..2000).for_each(|_| flow.push_stats()));
            }
        });
        let all = flow.stats();
        assert_eq!((all.n_packets, all.tcp_flags), (WRITERS as u64 * 2 * N, 7));
        assert_eq!(all.used, Some(Instant::from_nanos(N - 1)));
        drop(flow);
        assert_eq!(*sum.0.lock().unwrap(), (WRITERS as u64 * 2 * N, WRITERS as u64 * 100 * N));
    }

    #[test]
    fn a_flow_is_the_same_only_if_mask_actions_and_credit_are() {
        let sum = Arc::new(Sum::default());
        let key = PacketKey { dl_type: 0x0800, in_port: 4, ..PacketKey::ZERO };
        let flow = Megaflow::new(key, spec(&sum), 1, Instant::ZERO);
        assert!(spec(&sum).confirms(&flow));
        let wider = MegaflowSpec { mask: PacketKey { tp_dst: 1, ..PacketKey::ZERO }, ..spec(&sum) };
        assert!(!wider.confirms(&flow));
        assert!(spec(&sum).confirms(&Megaflow::new(key, wider, 1, Instant::ZERO)));
        let other = MegaflowSpec { actions: Arc::new([DpAction::CtClear]), ..spec(&sum) };
        assert!(!other.confirms(&flow));
        assert!(!spec(&Arc::new(Sum::default())).confirms(&flow));
        assert!(!MegaflowSpec { credit: None, ..spec(&sum) }.confirms(&flow));
        assert!(flow.matches(&PacketKey { tp_dst: 9, ..key }));
        assert!(!flow.matches(&PacketKey { in_port: 5, ..key }));
        assert!(!flow.matches(&PacketKey { nw_frag: 1, ..key }));
    }

    #[test]
    fn a_killed_flow_stays_dead() {
        let sum = Arc::new(Sum::default());
        let flow = Megaflow::new(PacketKey::ZERO, spec(&sum), 1, Instant::ZERO);
        flow.confirm(9);
        assert_eq!((flow.generation(), flow.is_dead()), (9, false));
        flow.kill();
        flow.confirm(10);
        assert!(flow.is_dead());
    }

    #[test]
    fn a_replacement_shows_what_was_counted_and_hands_over_only_its_own() {
        let sum = Arc::new(Sum::default());
        let old = FlowStats { n_packets: 5, n_bytes: 500, used: None, tcp_flags: 2 };
        let flow = Megaflow::new(PacketKey::ZERO, spec(&sum), 1, Instant::ZERO).with_inherited(old);
        flow.count(0, Instant::from_secs(1), 1, 60, 0x10);
        flow.push_stats();
        assert_eq!((flow.stats().n_packets, flow.stats().tcp_flags), (6, 0x12));
        assert_eq!(*sum.0.lock().unwrap(), (1, 60));
    }

    #[test]
    fn the_vlan_of_a_tagged_packet_counts() {
        let sum = Arc::new(Sum::default());
        let mut key = PacketKey { dl_type: 0x0806, ..PacketKey::ZERO };
        key.vlans[0] = flow::VlanTag { tpid: 0x8100, tci: 0x700a };
        let text = Megaflow::new(key, spec(&sum), 1, Instant::ZERO)
            .text(Instant::ZERO, false, crate::text::NO_NAMES)
            .to_string();
        assert_eq!(
            text,
            "recirc_id(0),in_port(0),packet_type(ns=0,id=0),eth_type(0x8100),vlan(vid=10,pcp=3/0x0),\
             encap(eth_type(0x0806)), packets:0, bytes:0, used:never, actions:drop"
        );
    }

    #[test]
    fn the_name_depends_on_the_bits_that_count() {
        let sum = Arc::new(Sum::default());
        let named = |tp_dst, in_port| {
            let key = PacketKey { tp_dst, in_port, ..PacketKey::ZERO };
            Megaflow::new(key, spec(&sum), 1, Instant::ZERO).ufid
        };
        assert_eq!(named(1, 1), named(2, 1));
        assert_ne!(named(1, 1), named(1, 2));
        assert_eq!(Ufid(0x9aaee493_50be_437d_91b5_98ed46aef39a).to_string().len(), 36);
        assert_eq!(
            Ufid(0x9aaee493_50be_437d_91b5_98ed46aef39a).to_string(),
            "9aaee493-50be-437d-91b5-98ed46aef39a"
        );
    }
}
