//! Port mirroring: which packets are copied, and where to (`ovs-vswitchd.conf.db(5)`, table Mirror).
//!
//! A bridge has at most [`MAX_MIRRORS`] mirrors, each in a slot. Translations remember by bits, one a
//! slot, which mirrors have the packet already; a mirror keeps its slot as long as it is there, because
//! frozen pipelines remember, too. The copying itself is done by [`crate::Switch::xlate`].

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::OfPort;
use dpif::FlowStats;
use flow::Match;

/// Most mirrors of a bridge.
pub const MAX_MIRRORS: usize = 32;

/// Mirrors of a bridge: a bit for each slot.
pub type MirrorBits = u32;

/// Tells a mirror from others for as long as it is configured: the number of its row.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorId(pub u128);

/// Where a mirror sends its copies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MirrorOutput {
    /// To a port, which is for nothing else then. [`OfPort::NONE`] for one that is not there.
    Port(OfPort),
    /// To all ports of a VLAN, into which the packet is moved.
    Vlan(u16),
}

/// What the daemon wants of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSpec {
    /// Every packet that comes or goes by any port.
    pub all: bool,
    /// What comes in by these ports.
    pub src: BTreeSet<OfPort>,
    /// What goes out by these ports.
    pub dst: BTreeSet<OfPort>,
    /// Only what is in these VLANs, 0 for none; empty for any.
    pub vlans: BTreeSet<u16>,
    /// Only what matches.
    pub filter: Option<Match>,
    /// Where it goes.
    pub output: MirrorOutput,
    /// Bytes of the packet that are copied; 0 and 65535 for all.
    pub snaplen: u16,
}

/// Packets that were sent to a mirror.
#[derive(Debug, Default)]
pub struct MirrorStats {
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
}

impl MirrorStats {
    pub(crate) fn credit(&self, d: &FlowStats) {
        self.n_packets.fetch_add(d.n_packets, Relaxed);
        self.n_bytes.fetch_add(d.n_bytes, Relaxed);
    }

    /// Packets so far.
    pub fn n_packets(&self) -> u64 {
        self.n_packets.load(Relaxed)
    }

    /// Bytes so far, of the packets before they were cut.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Relaxed)
    }
}

/// A mirror.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub id: MirrorId,
    pub spec: MirrorSpec,
    /// Mirrors with the same output, itself included.
    pub same_output: MirrorBits,
    pub stats: Arc<MirrorStats>,
}

/// The mirrors of a bridge.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Vec<Option<Mirror>>);

impl Mirrors {
    /// Makes the mirrors those that are wanted; what exceeds [`MAX_MIRRORS`] is left out. Returns
    /// whether that changed anything.
    pub fn set(&mut self, wanted: &[(MirrorId, MirrorSpec)]) -> bool {
        let wanted = &wanted[..wanted.len().min(MAX_MIRRORS)];
        let same = |m: &Mirror| wanted.contains(&(m.id, m.spec.clone()));
        if self.iter().count() == wanted.len() && self.iter().all(same) {
            return false;
        }
        for slot in &mut self.0 {
            slot.take_if(|m| !wanted.iter().any(|(id, _)| *id == m.id));
        }
        for (id, spec) in wanted {
            let known = self.0.iter_mut().flatten().find(|m| m.id == *id);
            if let Some(m) = known {
                m.spec.clone_from(spec);
                continue;
            }
            let (id, spec, stats) = (*id, spec.clone(), Arc::default());
            let mirror = Some(Mirror { id, spec, same_output: 0, stats });
            match self.0.iter_mut().find(|slot| slot.is_none()) {
                Some(slot) => *slot = mirror,
                None => self.0.push(mirror),
            }
        }
        let outputs: Vec<_> = self.0.iter().map(|m| m.as_ref().map(|m| m.spec.output)).collect();
        for m in self.0.iter_mut().flatten() {
            let output = Some(m.spec.output);
            m.same_output = bits(outputs.iter().map(|o| *o == output));
        }
        true
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mirror> {
        self.0.iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The one in a slot.
    pub fn get(&self, slot: u32) -> Option<&Mirror> {
        self.0.get(slot as usize)?.as_ref()
    }

    fn which(&self, selects: impl Fn(&MirrorSpec) -> bool) -> MirrorBits {
        bits(self.0.iter().map(|m| m.as_ref().is_some_and(|m| selects(&m.spec))))
    }

    /// Those that may want what comes in by a port.
    pub fn of_source(&self, port: OfPort) -> MirrorBits {
        self.which(|m| m.all || m.src.contains(&port))
    }

    /// Those that may want what goes out by a port.
    pub fn of_destination(&self, port: OfPort) -> MirrorBits {
        self.which(|m| m.all || m.dst.contains(&port))
    }

    /// Whether a port is there for mirrors only.
    pub fn has_output(&self, port: OfPort) -> bool {
        self.iter().any(|m| m.spec.output == MirrorOutput::Port(port))
    }
}

/// A bit for each that is set, the first lowest.
fn bits(set: impl Iterator<Item = bool>) -> MirrorBits {
    set.enumerate().fold(0, |bits, (i, set)| bits | MirrorBits::from(set) << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> MirrorSpec {
        MirrorSpec {
            all: true,
            src: BTreeSet::new(),
            dst: BTreeSet::new(),
            vlans: BTreeSet::new(),
            filter: None,
            output: MirrorOutput::Port(OfPort(port)),
            snaplen: 0,
        }
    }

    #[test]
    fn a_mirror_keeps_its_slot_and_counts_while_others_come_and_go() {
        let mut m = Mirrors::default();
        let id = MirrorId;
        assert!(m.is_empty() && !m.set(&[]));
        assert!(m.set(&[(id(1), to(5)), (id(2), to(6)), (id(3), to(5))]));
        assert!(!m.set(&[(id(3), to(5)), (id(1), to(5)), (id(2), to(6))]), "order says nothing");
        let same: Vec<_> = m.iter().map(|m| m.same_output).collect();
        assert_eq!(same, [0b101, 0b010, 0b101]);
        m.get(2).unwrap().stats.credit(&FlowStats { n_packets: 3, ..FlowStats::default() });
        assert!(m.set(&[(id(3), to(7))]));
        assert!(m.get(0).is_none() && m.get(1).is_none() && m.get(9).is_none());
        assert_eq!((m.get(2).unwrap().id, m.get(2).unwrap().stats.n_packets()), (id(3), 3));
        assert_eq!((m.of_source(OfPort(1)), m.get(2).unwrap().same_output), (0b100, 0b100));
        assert!(m.has_output(OfPort(7)) && !m.has_output(OfPort(5)));
        assert!(m.set(&[(id(3), to(7)), (id(4), to(7))]));
        assert_eq!((m.get(0).unwrap().id, m.get(0).unwrap().same_output), (id(4), 0b101));
    }

    #[test]
    fn there_are_no_more_than_fit_the_bits() {
        let mut m = Mirrors::default();
        let many: Vec<_> = (0..40).map(|n| (MirrorId(n), to(1))).collect();
        assert!(m.set(&many) && !m.set(&many));
        assert_eq!((m.iter().count(), m.of_destination(OfPort(3))), (MAX_MIRRORS, u32::MAX));
    }
}
