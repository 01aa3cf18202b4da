//! A bridge: its ports, flow tables and learned addresses.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Release;

use base::{HashKey, Instant, MacAddr, OfPort};
use dpif::{Generation, MeterStore};
use openflow::action::Action;
use openflow::flow_mod::{FlowMod, FlowModFlags};
use openflow::message::{
    FlowRemovedReason, GroupMod, MeterMod, PortDesc, PortMod, PortReason, SwitchConfig, SwitchDesc,
    port_config,
};
use openflow::version::Version;
use packet::PacketBuf;
use services::mac::{MacTable, Sighting};

use crate::change::Change;
use crate::event::{Event, PortStatusEvent, Requester};
use crate::group::{GroupChange, GroupModError};
use crate::limits::TableSettings;
use crate::meter::MeterModError;
use crate::mirror::{MirrorId, MirrorSpec, MirrorStats, Mirrors};
use crate::own::InBand;
use crate::port::{Port, PortSpec};
use crate::table::{Criteria, FlowModDone, FlowModError, FlowTables, INTERNAL_TABLE};
use crate::xlate::Learned;

/// Names a bridge for as long as the daemon runs; never given twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeId(pub u32);

/// What a bridge does while it has no controller (`ovs-vswitchd.conf.db(5)`, Bridge `fail_mode`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum FailMode {
    /// Forwards as a learning switch would.
    #[default]
    Standalone,
    /// Only what flows say.
    Secure,
}

/// What the daemon wants of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BridgeSpec {
    /// Datapath id.
    pub dpid: u64,
    /// See [`FailMode`].
    pub fail_mode: FailMode,
    /// Controllers are configured.
    pub has_controllers: bool,
    /// NORMAL forwards what 802.1D reserves (`other_config:forward-bpdu`).
    pub forward_bpdu: bool,
    /// Age and number of learned addresses; `None` for the defaults.
    pub mac_idle: Option<base::Duration>,
    /// Most learned addresses.
    pub mac_max: Option<usize>,
    /// VLANs in which NORMAL learns nothing and floods all: those that carry mirrors' copies.
    pub flood_vlans: BTreeSet<u16>,
    /// What is said of single tables, by number.
    pub tables: BTreeMap<u8, TableSettings>,
    /// Who made it, as `ovs-ofctl dump-desc` shows.
    pub desc: SwitchDesc,
}

/// The address that a port mod gives as a check is not the port's.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the port has another address")]
pub struct WrongAddress;

/// A bridge.
#[derive(Debug)]
pub struct Bridge {
    /// Its id.
    pub id: BridgeId,
    /// Its name.
    pub name: String,
    pub(crate) spec: BridgeSpec,
    pub(crate) tables: FlowTables,
    in_band: InBand,
    pub(crate) ports: BTreeMap<OfPort, Port>,
    pub(crate) mac: MacTable,
    pub(crate) mirrors: Mirrors,
    pub(crate) config: SwitchConfig,
    /// Some controller wants packets that match no flow.
    pub(crate) miss_to_controller: bool,
    /// Some controller is there.
    controlled: bool,
    /// Highest generation id of a role request.
    pub(crate) role_generation: Option<u64>,
    /// Masters that there were.
    pub(crate) role_term: u64,
    pub(crate) next_session: u64,
    /// When it was made.
    born: Instant,
    /// Flow monitors of all its sessions.
    pub(crate) n_monitors: usize,
    pub(crate) events: Vec<Event>,
    generation: Generation,
}

/// Names of its ports.
impl flow::text::NameMap for Bridge {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.port_by_name(name).map(|p| p.ofport)
    }

    fn name(&self, port: OfPort) -> Option<&str> {
        self.port(port).map(|p| p.spec.name.as_str())
    }
}

impl Bridge {
    pub(crate) fn new(
        id: BridgeId,
        name: String,
        spec: BridgeSpec,
        hash: HashKey,
        generation: Generation,
        meters: Option<Arc<dyn MeterStore>>,
        now: Instant,
    ) -> Bridge {
        let mut b = Bridge {
            id,
            name,
            spec,
            tables: FlowTables::new(hash, meters),
            in_band: InBand::default(),
            ports: BTreeMap::new(),
            mac: MacTable::default(),
            mirrors: Mirrors::default(),
            config: SwitchConfig::default(),
            miss_to_controller: false,
            controlled: false,
            role_generation: None,
            role_term: 0,
            next_session: 0,
            born: now,
            n_monitors: 0,
            events: Vec::new(),
            generation,
        };
        b.configure_mac();
        b.configure_tables(now);
        b.flush_flows(now);
        b
    }

    /// Says that translations made before may be wrong.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Release);
    }

    /// What the daemon wants of it.
    pub fn spec(&self) -> &BridgeSpec {
        &self.spec
    }

    /// Changes what is wanted. Flows go when the bridge gets its first or loses its last
    /// controller, or changes its fail mode without one.
    pub fn set_spec(&mut self, spec: BridgeSpec, now: Instant) {
        if spec == self.spec {
            return;
        }
        let old = core::mem::replace(&mut self.spec, spec);
        self.configure_mac();
        if old.tables != self.spec.tables {
            self.configure_tables(now);
        }
        if old.has_controllers != self.spec.has_controllers
            || (!self.spec.has_controllers && old.fail_mode != self.spec.fail_mode)
        {
            self.flush_flows(now);
        }
        self.changed();
    }

    fn configure_tables(&mut self, now: Instant) {
        let default = TableSettings::default();
        for table in 0..INTERNAL_TABLE.0 {
            let settings = self.spec.tables.get(&table).unwrap_or(&default);
            self.tables.set_settings(base::TableId(table), settings);
        }
        self.after_flows(now);
    }

    fn configure_mac(&mut self) {
        use services::mac::{DEFAULT_IDLE, DEFAULT_MAX};
        let idle = self.spec.mac_idle.unwrap_or(DEFAULT_IDLE);
        self.mac.configure(idle, self.spec.mac_max.unwrap_or(DEFAULT_MAX));
    }

    /// Deletes all flows, groups and meters. A standalone bridge without controllers gets the one that makes it a
    /// learning switch.
    pub fn flush_flows(&mut self, now: Instant) {
        self.tables.delete(&Criteria::default(), FlowRemovedReason::Delete);
        self.tables.flush_groups_and_meters();
        if !self.spec.has_controllers && self.spec.fail_mode == FailMode::Standalone {
            let fm = FlowMod {
                priority: 0,
                actions: alloc::vec![Action::Output { port: OfPort::NORMAL, max_len: 0 }],
                ..FlowMod::default()
            };
            // The table is empty and the action is always possible.
            let _ = self.tables.apply(&fm, Version::Of10, now, true);
        }
        self.after_flows(now);
    }

    /// Whether it acts as a learning switch in place of controllers that cannot be reached. Its
    /// flows stay, and count again once the controllers are back.
    pub fn is_fail_open(&self) -> bool {
        self.tables.is_fail_open()
    }

    /// See [`Bridge::is_fail_open`]. When to say so is the daemon's to know.
    pub fn set_fail_open(&mut self, on: bool, now: Instant) {
        if on != self.is_fail_open() {
            self.tables.set_fail_open(on, now);
            self.changed();
        }
    }

    /// Whom the host reaches over this bridge whatever its flows say.
    pub fn in_band(&self) -> &InBand {
        &self.in_band
    }

    /// See [`Bridge::in_band`].
    pub fn set_in_band(&mut self, wanted: InBand, now: Instant) {
        if wanted != self.in_band {
            self.tables.set_in_band(&wanted, now);
            self.in_band = wanted;
            self.changed();
        }
    }

    /// Names it in paused packets, of which some may be of another daemon's time.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&self.born.as_nanos().to_be_bytes());
        uuid[12..].copy_from_slice(&self.id.0.to_be_bytes());
        uuid
    }

    /// The flow tables.
    pub fn tables(&self) -> &FlowTables {
        &self.tables
    }

    /// Applies a flow mod of a controller that speaks 1.0, or of the daemon.
    pub fn flow_mod(&mut self, fm: &FlowMod, now: Instant) -> Result<FlowModDone, FlowModError> {
        self.flow_mod_in(fm, Version::Of10, now)
    }

    /// Applies a flow mod of a controller.
    pub fn flow_mod_in(
        &mut self,
        fm: &FlowMod,
        version: Version,
        now: Instant,
    ) -> Result<FlowModDone, FlowModError> {
        let done = self.tables.apply(fm, version, now, false)?;
        self.after_flows(now);
        Ok(done)
    }

    /// Applies a group mod of a controller; gives what it changed.
    ///
    /// # Errors
    /// It cannot be done, and nothing was.
    pub fn group_mod(
        &mut self,
        m: &GroupMod,
        version: Version,
        now: Instant,
    ) -> Result<Vec<GroupChange>, GroupModError> {
        let changes = self.tables.apply_group(m, version, now)?;
        self.after_flows(now);
        Ok(changes)
    }

    /// Applies a meter mod of a controller.
    ///
    /// # Errors
    /// It cannot be done, and nothing was.
    pub fn meter_mod(&mut self, m: &MeterMod, now: Instant) -> Result<(), MeterModError> {
        self.tables.apply_meter(m, now)?;
        self.after_flows(now);
        self.changed();
        Ok(())
    }

    /// Whether a controller is there, for groups that watch for it.
    pub(crate) fn is_controlled(&self) -> bool {
        self.controlled
    }

    /// Some configured controller is connected, or none is.
    pub fn set_controlled(&mut self, yes: bool) {
        if self.controlled != yes {
            self.controlled = yes;
            self.changed();
        }
    }

    /// Tells the world of changes that nobody asked for by a message.
    fn after_flows(&mut self, now: Instant) {
        self.publish_changes(None, now);
    }

    /// Tells the world what became of the tables since the last call: who is to hear that flows went
    /// or changed does, and translations made before are stale. Gives the changes for the flow monitors
    /// of the session that caused them, `by`; other sessions get them as an event.
    pub(crate) fn publish_changes(&mut self, by: Option<Requester>, now: Instant) -> Arc<[Change]> {
        let changes = self.tables.take_changes();
        if changes.is_empty() {
            return Arc::default();
        }
        for change in &changes {
            if let Change::Removed { rule, reason } = change
                && rule.flags.contains(FlowModFlags::SEND_FLOW_REM)
            {
                self.events.push(Event::flow_removed(rule, *reason, now));
            }
        }
        for (desc, reason) in self.tables.vacancy_events() {
            self.events.push(Event::TableStatus(reason, desc));
        }
        self.changed();
        if self.n_monitors == 0 {
            return Arc::default();
        }
        let changes: Arc<[Change]> = changes.into();
        self.events.push(Event::FlowChanges(changes.clone(), by));
        changes
    }

    /// Removes flows and addresses whose time is up, a bounded number at once. Pull the counters
    /// of caches before. Returns whether there is more to do at once.
    pub fn expire(&mut self, now: Instant) -> bool {
        const LIMIT: usize = 2000;
        let n = self.tables.expire(now, LIMIT);
        if n > 0 {
            self.after_flows(now);
        }
        if self.mac.next_timeout().is_some_and(|t| t <= now) && self.mac.expire(now) {
            self.changed();
        }
        self.tables.next_timeout().is_some_and(|t| t < now)
    }

    /// When [`Bridge::expire`] is to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        match (self.tables.next_timeout(), self.mac.next_timeout()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Its ports, by number.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// Its ports in the order of floods: LOCAL, then by number.
    pub(crate) fn flood_order(&self) -> impl Iterator<Item = &Port> {
        self.ports
            .get(&OfPort::LOCAL)
            .into_iter()
            .chain(self.ports.range(..OfPort::LOCAL).map(|e| e.1))
    }

    /// A port.
    pub fn port(&self, ofport: OfPort) -> Option<&Port> {
        self.ports.get(&ofport)
    }

    /// The port with this name.
    pub fn port_by_name(&self, name: &str) -> Option<&Port> {
        self.ports.values().find(|p| p.spec.name == name)
    }

    pub(crate) fn put_port(&mut self, ofport: OfPort, spec: PortSpec, now: Instant) {
        match self.ports.get_mut(&ofport) {
            Some(p) if p.spec == spec => return,
            Some(p) => {
                let before = p.desc();
                if p.spec.vlan != spec.vlan {
                    self.mac.flush_port(ofport);
                }
                if p.spec.admin_up != spec.admin_up {
                    p.config &= !port_config::PORT_DOWN;
                    p.config |= if spec.admin_up { 0 } else { port_config::PORT_DOWN };
                }
                p.spec = spec;
                let after = p.desc();
                self.port_changed(before, after, None);
            }
            None => {
                let mut p = Port::new(ofport, spec, now);
                let added = p.desc();
                p.enabled = true;
                let enabled = p.desc();
                self.ports.insert(ofport, p);
                self.port_status(PortReason::Add, added.clone(), None, None);
                self.port_changed(added, enabled, None);
            }
        }
        self.changed();
    }

    /// Returns the addresses that were behind it; `None` if there is no such port.
    pub(crate) fn remove_port(&mut self, ofport: OfPort) -> Option<Vec<(u16, MacAddr)>> {
        let p = self.ports.remove(&ofport)?;
        let addresses = self.mac.flush_port(ofport);
        self.port_status(PortReason::Delete, p.desc(), None, None);
        self.changed();
        Some(addresses)
    }

    fn port_status(
        &mut self,
        reason: PortReason,
        port: PortDesc,
        old: Option<PortDesc>,
        source: Option<u64>,
    ) {
        let event = PortStatusEvent { reason, port, old, source };
        self.events.push(Event::PortStatus(Box::new(event)));
    }

    fn port_changed(&mut self, old: PortDesc, new: PortDesc, source: Option<u64>) {
        if old != new {
            self.port_status(PortReason::Modify, new, Some(old), source);
        }
    }

    /// A controller changes a port; `source` is its session. `Ok(false)` if there is none.
    pub fn port_mod(&mut self, m: &PortMod, source: Option<u64>) -> Result<bool, WrongAddress> {
        let Some(p) = self.ports.get_mut(&m.port) else { return Ok(false) };
        if p.spec.mac != m.hw_addr {
            return Err(WrongAddress);
        }
        use port_config::{NO_FLOOD, NO_FWD, NO_PACKET_IN, NO_RECV, NO_RECV_STP, PORT_DOWN};
        let can = PORT_DOWN | NO_RECV | NO_RECV_STP | NO_FLOOD | NO_FWD | NO_PACKET_IN;
        let new = (p.config & !(m.mask & can)) | (m.config & m.mask & can);
        if new != p.config {
            let toggled = new ^ p.config;
            let old = p.desc();
            p.config = new;
            let new_desc = p.desc();
            if toggled & PORT_DOWN != 0 {
                let up = new & PORT_DOWN == 0;
                self.events.push(Event::SetPortAdmin { port: m.port, up });
            }
            self.port_changed(old, new_desc, source);
            self.changed();
        }
        Ok(true)
    }

    /// Makes its mirrors those that are wanted, at most [`crate::MAX_MIRRORS`]. One that was there goes
    /// on counting.
    pub fn set_mirrors(&mut self, wanted: &[(MirrorId, MirrorSpec)]) {
        if self.mirrors.set(wanted) {
            self.changed();
        }
    }

    /// What its mirrors got.
    pub fn mirror_stats(&self) -> impl Iterator<Item = (MirrorId, &MirrorStats)> {
        self.mirrors.iter().map(|m| (m.id, &*m.stats))
    }

    /// The learned addresses.
    pub fn mac(&self) -> &MacTable {
        &self.mac
    }

    /// Learns an address; an effect of a translation.
    pub fn learn_mac(&mut self, s: &Sighting, now: Instant) {
        if self.mac.learn(s, now) {
            self.changed();
        }
    }

    /// Learns a flow; an effect of a translation.
    pub(crate) fn learn_flow(&mut self, l: &Learned, now: Instant) {
        // One that cannot be is not learned; there is nobody to tell.
        if self.tables.learn(l, now).is_ok_and(|learned| learned) {
            self.after_flows(now);
        }
    }

    /// Changes the learned addresses (`fdb/flush`, `fdb/add`, `fdb/del`).
    pub fn with_mac<T>(&mut self, f: impl FnOnce(&mut MacTable) -> T) -> T {
        let out = f(&mut self.mac);
        self.changed();
        out
    }

    /// Whether packets without a flow go to a controller: some session is of OpenFlow 1.2 or
    /// older and wants them. The daemon sets it when sessions come, go or change.
    pub fn set_miss_to_controller(&mut self, yes: bool) {
        if self.miss_to_controller != yes {
            self.miss_to_controller = yes;
            self.changed();
        }
    }

    /// What happened since the last call and concerns controllers or the daemon.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// Whether a table belongs to controllers.
    pub fn is_visible(table: base::TableId) -> bool {
        table < INTERNAL_TABLE
    }

    /// The bridge's own address, that of its LOCAL port.
    pub fn local_mac(&self) -> MacAddr {
        self.ports.get(&OfPort::LOCAL).map_or(MacAddr::ZERO, |p| p.spec.mac)
    }
}

/// A packet for the datapath to send on behalf of a controller.
#[derive(Debug)]
pub struct Execute {
    /// The packet, its layers set.
    pub packet: PacketBuf,
    /// Its key, with a datapath port in `in_port`.
    pub key: flow::PacketKey,
    /// What to do with it.
    pub actions: Arc<[dpif::DpAction]>,
}
