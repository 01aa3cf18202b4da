//! All bridges that share a datapath.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::sync::atomic::{Ordering::Acquire, Ordering::Release};

use base::{DpPort, HashKey, Instant, OfPort, Zone};
use conntrack::PolicyId;
use dpif::{Generation, MeterStore};
use hashbrown::HashMap;
use services::mac::Stats as MacStats;

use crate::bridge::{Bridge, BridgeId, BridgeSpec};
use crate::port::PortSpec;
use crate::recirc::RecircStore;

/// What translations may ask of the datapath. Turning something off is for tests of what becomes of
/// packets without it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The `clone` action.
    pub clone: bool,
    /// Levels of `sample` actions, which can stand for `clone`.
    pub sample_nesting: usize,
    /// The `check_pkt_len` action.
    pub check_pkt_len: bool,
    /// The `add_mpls` action.
    pub add_mpls: bool,
}

impl Default for Support {
    fn default() -> Support {
        Support { clone: true, sample_nesting: 10, check_pkt_len: true, add_mpls: true }
    }
}

/// See the module. The daemon keeps it behind one lock: translations share it, everything else
/// has it alone.
#[derive(Debug)]
pub struct Switch {
    bridges: BTreeMap<BridgeId, Bridge>,
    names: HashMap<String, BridgeId>,
    by_dp: HashMap<DpPort, (BridgeId, OfPort)>,
    /// Interfaces by name, for patch ports.
    by_interface: HashMap<String, (BridgeId, OfPort)>,
    pub(crate) recircs: Arc<dyn RecircStore>,
    generation: Generation,
    hash: HashKey,
    /// `None`: the datapath has no meters.
    meters: Option<Arc<dyn MeterStore>>,
    last_bridge: u32,
    /// What the MAC tables of bridges that are gone counted.
    macs_of_gone: MacStats,
    support: Support,
    /// Timeout policies by zone.
    zone_policies: BTreeMap<Zone, PolicyId>,
}

impl Switch {
    /// A switch without bridges. `hash` keys the hash tables that strangers' packets look into.
    pub fn new(hash: HashKey, recircs: Arc<dyn RecircStore>) -> Switch {
        Switch::counting(hash, recircs, Generation::default())
    }

    /// The same, with its generation in a given place.
    pub fn counting(
        hash: HashKey,
        recircs: Arc<dyn RecircStore>,
        generation: Generation,
    ) -> Switch {
        generation.store(1, Release);
        Switch {
            bridges: BTreeMap::new(),
            names: HashMap::new(),
            by_dp: HashMap::new(),
            by_interface: HashMap::new(),
            recircs,
            generation,
            hash,
            meters: None,
            last_bridge: 0,
            macs_of_gone: MacStats::default(),
            support: Support::default(),
            zone_policies: BTreeMap::new(),
        }
    }

    /// Connections that are committed to these zones get these timeout policies.
    pub fn set_zone_policies(&mut self, policies: BTreeMap<Zone, PolicyId>) {
        if policies != self.zone_policies {
            self.zone_policies = policies;
            self.generation.fetch_add(1, Release);
        }
    }

    pub(crate) fn zone_policy(&self, zone: Zone) -> Option<PolicyId> {
        self.zone_policies.get(&zone).copied()
    }

    /// The datapath has meters. Bridges that were made before have none.
    pub fn set_meters(&mut self, store: Arc<dyn MeterStore>) {
        self.meters = Some(store);
    }

    /// What translations may ask of the datapath.
    pub fn support(&self) -> Support {
        self.support
    }

    /// See [`Switch::support`].
    pub fn set_support(&mut self, support: Support) {
        if self.support != support {
            self.support = support;
            self.generation.fetch_add(1, Release);
        }
    }

    /// Changes whenever a translation made before may be wrong now. The handle is read without
    /// the lock, before a translation starts.
    pub fn generation_handle(&self) -> Generation {
        self.generation.clone()
    }

    /// See [`Switch::generation_handle`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// The numbers of frozen pipelines.
    pub fn recircs(&self) -> &Arc<dyn RecircStore> {
        &self.recircs
    }

    /// Adds a bridge, or changes the one with this name.
    pub fn put_bridge(&mut self, name: &str, spec: BridgeSpec, now: Instant) -> BridgeId {
        if let Some(&id) = self.names.get(name) {
            if let Some(b) = self.bridges.get_mut(&id) {
                b.set_spec(spec, now);
            }
            return id;
        }
        self.last_bridge += 1;
        let id = BridgeId(self.last_bridge);
        let b = Bridge::new(
            id,
            name.to_string(),
            spec,
            self.hash,
            self.generation.clone(),
            self.meters.clone(),
            now,
        );
        b.changed();
        self.bridges.insert(id, b);
        self.names.insert(name.to_string(), id);
        id
    }

    /// Removes a bridge and its ports.
    pub fn remove_bridge(&mut self, id: BridgeId) -> Option<Bridge> {
        let b = self.bridges.remove(&id)?;
        self.names.remove(&b.name);
        self.by_dp.retain(|_, v| v.0 != id);
        self.by_interface.retain(|_, v| v.0 != id);
        self.macs_of_gone += b.mac().totals();
        b.changed();
        Some(b)
    }

    /// What the MAC tables of all bridges counted, also of those that are gone.
    pub fn mac_totals(&self) -> MacStats {
        let mut totals = self.macs_of_gone;
        self.bridges.values().for_each(|b| totals += b.mac().totals());
        totals
    }

    /// Adds a port with this number, or changes it. A number or datapath port that was another's
    /// goes over to this one.
    pub fn put_port(&mut self, id: BridgeId, ofport: OfPort, spec: PortSpec, now: Instant) {
        let Some(b) = self.bridges.get_mut(&id) else { return };
        if let Some(old) = b.port(ofport) {
            let (dp, name) = (old.spec.dp_port, old.spec.name.clone());
            if self.by_dp.get(&dp) == Some(&(id, ofport)) {
                self.by_dp.remove(&dp);
            }
            if self.by_interface.get(&name) == Some(&(id, ofport)) {
                self.by_interface.remove(&name);
            }
            if name != spec.name {
                b.remove_port(ofport);
            }
        }
        if spec.dp_port != DpPort::NONE {
            self.by_dp.insert(spec.dp_port, (id, ofport));
        }
        self.by_interface.insert(spec.name.clone(), (id, ofport));
        b.put_port(ofport, spec, now);
    }

    /// Removes a port.
    pub fn remove_port(&mut self, id: BridgeId, ofport: OfPort) {
        let Some(b) = self.bridges.get_mut(&id) else { return };
        let Some(addresses) = b.remove_port(ofport) else { return };
        self.by_dp.retain(|_, v| *v != (id, ofport));
        self.by_interface.retain(|_, v| *v != (id, ofport));
        // Whoever was behind it may come back by another bridge, which patch ports join.
        for b in self.bridges.values_mut() {
            let mut forgot = false;
            for (vlan, mac) in &addresses {
                forgot |= b.mac.forget(*vlan, *mac);
            }
            if forgot {
                b.changed();
            }
        }
    }

    /// A bridge.
    pub fn bridge(&self, id: BridgeId) -> Option<&Bridge> {
        self.bridges.get(&id)
    }

    /// A bridge.
    pub fn bridge_mut(&mut self, id: BridgeId) -> Option<&mut Bridge> {
        self.bridges.get_mut(&id)
    }

    /// The bridge with this name.
    pub fn bridge_by_name(&self, name: &str) -> Option<&Bridge> {
        self.bridges.get(self.names.get(name)?)
    }

    /// All bridges, in the order they were added.
    pub fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridges.values()
    }

    /// All bridges, in the order they were added.
    pub fn bridges_mut(&mut self) -> impl Iterator<Item = &mut Bridge> {
        self.bridges.values_mut()
    }

    /// The bridge and port that a datapath port belongs to.
    pub fn port_of_dp(&self, dp: DpPort) -> Option<(BridgeId, OfPort)> {
        self.by_dp.get(&dp).copied()
    }

    /// The bridge and port of an interface.
    pub fn port_of_interface(&self, name: &str) -> Option<(BridgeId, OfPort)> {
        self.by_interface.get(name).copied()
    }

    /// When some bridge's [`Bridge::expire`] is to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.bridges.values().filter_map(Bridge::next_timeout).min()
    }
}
