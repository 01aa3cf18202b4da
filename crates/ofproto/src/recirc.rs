//! Frozen pipelines: what a recirculated packet resumes with.
//!
//! A `ct` action with a table, and a paused `controller` action, need the rest of the pipeline to run
//! later. What the rest depends on besides the packet is a [`Frozen`]; it is known to the datapath by
//! a number ([`RecircId`]). Equal states have the same number, so that equal packets meet in the
//! same cache entry.
//!
//! Translations run at once under a shared lock on the tables, but each may need a number, so the
//! table of numbers has a lock of its own. This room has none to give: the daemon wraps
//! [`RecircTable`] in its mutex and implements [`RecircStore`] with it.
//!
//! A state is kept as long as somebody holds it (cached translations do, by [`crate::Credits`]) and
//! for a grace time after, for packets on their way.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Duration, Instant, OfPort, RecircId, TableId};
use flow::{FlowKey, TunMetadata, TunnelKey};
use hashbrown::HashMap;
use openflow::action::Action;
use openflow::version::Version;

use crate::BridgeId;

/// A value that was pushed on the stack: the bits, and how many.
pub type StackValue = (u128, u16);

/// What the rest of a pipeline depends on besides the packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frozen {
    /// Bridge to resume on.
    pub bridge: BridgeId,
    /// Table to resume in, unless `actions` say what to do.
    pub table: TableId,
    /// What is left to do of the actions that froze; empty to look `table` up.
    pub actions: HashableActions,
    /// The version that `actions` and `action_set` were said in.
    pub version: Version,
    /// The packet has been through the tracker: its `ct_*` fields stay.
    pub conntracked: bool,
    /// Port that the packet came in by.
    pub in_port: OfPort,
    /// OpenFlow metadata.
    pub metadata: u64,
    /// Registers.
    pub regs: [u32; 32],
    /// The tunnel.
    pub tunnel: TunnelKey,
    /// Options of the tunnel header.
    pub tun_metadata: TunMetadata,
    /// The stack.
    pub stack: Vec<StackValue>,
    /// The action set.
    pub action_set: HashableActions,
    /// Mirrors that have the packet as it is.
    pub mirrors: u32,
}

/// Actions as a part of a hashed key. They rarely differ when all else is equal, so the hash covers only
/// their number.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HashableActions(pub Box<[Action]>);

impl core::hash::Hash for HashableActions {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
    }
}

impl Frozen {
    /// Puts the frozen fields into a key.
    pub fn thaw(&self, key: &mut FlowKey) {
        key.metadata = self.metadata;
        key.regs = self.regs;
        key.pkt.tunnel = self.tunnel;
        key.tun_metadata = self.tun_metadata;
        key.pkt.in_port = u32::from(self.in_port.0);
    }
}

/// The table of frozen states as translations use it.
pub trait RecircStore: Send + Sync + core::fmt::Debug {
    /// The number of a state, a new one if it is not known, and the state to hold.
    fn intern(&self, state: Frozen) -> (RecircId, Arc<Frozen>);
    /// The state with this number.
    fn get(&self, id: RecircId) -> Option<Arc<Frozen>>;
}

#[derive(Debug)]
struct Entry {
    state: Arc<Frozen>,
    /// Since when nobody holds it, as far as was seen.
    unused: Option<Instant>,
}

/// The table itself.
#[derive(Debug, Default)]
pub struct RecircTable {
    by_id: HashMap<u32, Entry>,
    by_state: HashMap<Arc<Frozen>, u32>,
    last: u32,
}

impl RecircTable {
    /// See [`RecircStore::intern`].
    pub fn intern(&mut self, state: Frozen) -> (RecircId, Arc<Frozen>) {
        if let Some((s, &id)) = self.by_state.get_key_value(&state) {
            // One that nobody but this table holds is for packets on their way.
            if Arc::strong_count(s) > 2 {
                return (RecircId(id), s.clone());
            }
            self.by_state.remove(&state);
        }
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.by_id.contains_key(&self.last) {
                break;
            }
        }
        let state = Arc::new(state);
        self.by_state.insert(state.clone(), self.last);
        self.by_id.insert(self.last, Entry { state: state.clone(), unused: None });
        (RecircId(self.last), state)
    }

    /// See [`RecircStore::get`].
    pub fn get(&self, id: RecircId) -> Option<Arc<Frozen>> {
        self.by_id.get(&id.0).map(|e| e.state.clone())
    }

    /// Number of states.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Forgets states that nobody has held for `grace`. Call it every few seconds.
    pub fn collect(&mut self, now: Instant, grace: Duration) {
        let by_state = &mut self.by_state;
        self.by_id.retain(|id, e| {
            let here = 1 + usize::from(by_state.get(&e.state) == Some(id));
            if Arc::strong_count(&e.state) > here {
                e.unused = None;
                return true;
            }
            let since = *e.unused.get_or_insert(now);
            let keep = now < since + grace;
            if !keep && here > 1 {
                by_state.remove(&e.state);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(table: u8) -> Frozen {
        Frozen {
            bridge: BridgeId(1),
            table: TableId(table),
            actions: HashableActions::default(),
            version: Version::Of10,
            conntracked: true,
            in_port: OfPort(2),
            metadata: 0,
            regs: [0; 32],
            tunnel: TunnelKey::default(),
            tun_metadata: TunMetadata::default(),
            stack: Vec::new(),
            action_set: HashableActions::default(),
            mirrors: 0,
        }
    }

    #[test]
    fn equal_states_share_a_number_and_unused_ones_end() {
        let mut t = RecircTable::default();
        let (a, held) = t.intern(state(1));
        let (b, _) = t.intern(state(2));
        assert_eq!((a, b, t.intern(state(1)).0), (RecircId(1), RecircId(2), RecircId(1)));
        assert_eq!((t.intern(state(2)).0, t.get(b).is_some()), (RecircId(3), true), "not held");
        let (s, grace) = (Instant::from_secs, Duration::from_secs(10));
        t.collect(s(0), grace);
        t.collect(s(9), grace);
        assert!(t.get(b).is_some());
        t.collect(s(10), grace);
        assert!(t.get(b).is_none() && t.get(a).is_some());
        drop(held);
        t.collect(s(11), grace);
        let held = t.get(a);
        t.collect(s(12), grace);
        t.collect(s(22), grace);
        assert_eq!((t.get(a), t.len()), (held, 1), "used again within the grace time");
        t.collect(s(23), grace);
        t.collect(s(33), grace);
        assert!(t.is_empty());
        assert_eq!(t.intern(state(1)).0, RecircId(4), "numbers are not used again soon");
    }
}
