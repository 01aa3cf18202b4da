//! From what the database asks for to what runs.
//!
//! [`Reconciler`] holds what runs: bridges, their interfaces, open devices. [`Reconciler::apply`]
//! compares that with a [`Config`] and does the difference, removals first, so that a device or a
//! number that moves from one bridge to another is free when the other wants it. It can be called
//! at any time with any configuration; what failed before (a device that was not there) is tried
//! again when [`Reconciler::link_changed`] says that something about it changed.
//!
//! Datapath calls that wait for workers are made without the lock on the tables, because a worker
//! may be waiting for that lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{DpPort, Duration, HashKey, Instant, MacAddr, OfPort};
use datapath::Datapath;
use netdev::TxQueue;
use netdev::link::Link;
use ofproto::port::Peer;
use ofproto::{BridgeId, BridgeSpec, PortSpec};
use openflow::message::SwitchDesc;
use ovsdb::types::Uuid;

use crate::config::{BridgeConfig, Config, InterfaceConfig, PortConfig};
use crate::device::{Device, Kind};
use crate::features;
use crate::host::Host;
use crate::log;
use crate::mirrors;
use crate::status::PortCounters;
use crate::world::World;
use crate::zones::Zones;

mod vanish;

/// Number in the datapath of its own port, which has no device: `ovs-netdev`.
pub const DP_LOCAL: DpPort = DpPort(0);

/// MTU of an internal port whose bridge has no other ports.
const DEFAULT_MTU: u32 = 1500;

/// A bridge that runs.
#[derive(Debug)]
pub struct Bridge {
    /// Its tables.
    pub id: BridgeId,
    /// What is asked of it.
    pub config: BridgeConfig,
    /// Address while no port lends it one.
    default_mac: MacAddr,
    /// Its address.
    pub mac: MacAddr,
    /// Its datapath id.
    pub dpid: u64,
    /// The id was logged.
    announced: bool,
    /// Interfaces by name.
    pub ifaces: BTreeMap<String, Iface>,
    /// Numbers that interfaces had, so that one that comes back gets its own again.
    remembered: BTreeMap<String, OfPort>,
    /// When numbers became free.
    freed: BTreeMap<u16, Instant>,
    /// The number that was given last.
    last_given: u16,
    /// What was said of its mirrors last.
    mirror_complaints: Vec<mirrors::Complaint>,
}

impl flow::text::NameMap for Bridge {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.ifaces.get(name)?.ofport
    }

    fn name(&self, port: OfPort) -> Option<&str> {
        self.ifaces.iter().find(|(_, i)| i.ofport == Some(port)).map(|(name, _)| name.as_str())
    }
}

impl mirrors::Ports for Bridge {
    fn of(&self, port: &str) -> Option<Vec<OfPort>> {
        let port = self.config.ports.get(port)?;
        Some(port.interfaces.keys().filter_map(|name| self.ifaces.get(name)?.ofport).collect())
    }
}

/// An interface that is asked for, running or not.
#[derive(Debug)]
pub struct Iface {
    /// What is asked of it.
    pub config: InterfaceConfig,
    /// Its port's VLANs and the like.
    port: PortConfig,
    /// Its OpenFlow number while it runs.
    pub ofport: Option<OfPort>,
    /// Its device while it is open.
    pub device: Option<Device>,
    /// Why it does not run.
    pub error: Option<String>,
}

impl Iface {
    fn is_patch(&self) -> bool {
        Kind::of(&self.config.kind) == Some(Kind::Patch)
    }
}

/// What [`Reconciler::apply`] did that others must follow.
#[derive(Debug, Default)]
pub struct Done {
    /// Bridges that are new.
    pub added: Vec<String>,
    /// Bridges that are gone.
    pub removed: Vec<String>,
}

/// What is asked of a port's receive queues.
#[derive(Copy, Clone, Debug)]
pub struct QueueSpec<'a> {
    /// The interface.
    pub name: &'a str,
    /// NUMA node of its device, if it has one.
    pub numa: Option<usize>,
    /// Cores that queues are to be polled on.
    pub affinity: &'a BTreeMap<u32, usize>,
    /// A simulated device that has threads of its own.
    pub is_pmd: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Reconciler {
    world: Arc<World>,
    dp: Arc<Datapath>,
    /// Where devices come from.
    pub host: Host,
    /// Draws addresses for bridges without ports.
    seed: HashKey,
    /// What runs, by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// What is asked of the connection tracker's zones.
    pub zones: Zones,
}

impl Reconciler {
    /// Nothing runs yet.
    pub fn new(world: Arc<World>, dp: Arc<Datapath>, host: Host, seed: HashKey) -> Reconciler {
        let (bridges, zones) = (BTreeMap::new(), Zones::default());
        Reconciler { world, dp, host, seed, bridges, zones }
    }

    /// Makes what runs what `config` asks for.
    pub fn apply(&mut self, config: &Config, now: Instant) -> Done {
        let mut done = Done::default();
        self.zones.apply(&config.zones, self.dp.conntrack(), &self.world);
        let gone: Vec<String> =
            self.bridges.keys().filter(|n| !config.bridges.contains_key(*n)).cloned().collect();
        for name in gone {
            self.remove_bridge(&name);
            done.removed.push(name);
        }
        for (name, wanted) in &config.bridges {
            self.remove_interfaces(name, wanted, now);
        }
        for (name, wanted) in &config.bridges {
            if !self.bridges.contains_key(name) {
                self.add_bridge(name, wanted, now);
                done.added.push(name.clone());
            }
            self.put_interfaces(name, wanted, now);
            self.settle_bridge(name, wanted, now);
            self.level_mtu(name, now);
            self.put_mirrors(name);
        }
        done
    }

    fn add_bridge(&mut self, name: &str, wanted: &BridgeConfig, now: Instant) {
        if self.bridges.is_empty() {
            // As if the first bridge had opened it.
            features::tell(self.world.datapath_name());
        }
        let bytes = name.bytes().chain(wanted.uuid.0.to_be_bytes()).map(u64::from);
        let words: Vec<u64> = bytes.collect();
        // Locally administered, not a group.
        let drawn = base::hash_words(self.seed, &words) & 0xfcff_ffff_ffff | 0x0200_0000_0000;
        let default_mac = MacAddr::from_u64(drawn);
        let mac = wanted.hwaddr.unwrap_or(default_mac);
        let dpid = wanted.datapath_id.unwrap_or(mac.to_u64());
        let id = self.world.switch.write().put_bridge(name, spec(wanted, dpid), now);
        self.bridges.insert(
            name.to_owned(),
            Bridge {
                id,
                config: wanted.clone(),
                default_mac,
                mac,
                dpid,
                announced: false,
                ifaces: BTreeMap::new(),
                remembered: BTreeMap::new(),
                freed: BTreeMap::new(),
                last_given: 0,
                mirror_complaints: Vec::new(),
            },
        );
    }

    fn remove_bridge(&mut self, name: &str) {
        let Some(bridge) = self.bridges.remove(name) else { return };
        for (name, iface) in &bridge.ifaces {
            if let Some(device) = &iface.device {
                self.dp.remove_port(device.dp_port);
                self.host.closed(name);
            }
        }
        self.world.switch.write().remove_bridge(bridge.id);
        log!(Info, Bridge, "bridge {name}: removed");
    }

    /// Removes the interfaces that are not wanted any more or not as they are.
    fn remove_interfaces(&mut self, name: &str, wanted: &BridgeConfig, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let wanted = interfaces(name, wanted);
        // One that has another number asks for it. One that is new takes what is free.
        let is_asked = |n: &str, number: Option<u16>| {
            let has_one = |o: &str| bridge.ifaces.get(o).is_some_and(|i| i.ofport.is_some());
            number.is_some()
                && wanted
                    .iter()
                    .any(|(o, (_, w))| *o != n && w.ofport_request == number && has_one(o))
        };
        // Another one asks for it as well, and has it.
        let is_held = |n: &str, number: Option<u16>| {
            bridge.ifaces.iter().any(|(o, i)| {
                *o != n
                    && i.ofport.map(|p| p.0) == number
                    && wanted.get(o.as_str()).is_some_and(|(_, w)| w.ofport_request == number)
            })
        };
        let gone: Vec<String> = bridge
            .ifaces
            .iter()
            .filter(|(n, i)| {
                wanted.get(n.as_str()).is_none_or(|(_, w)| {
                    let simulated = i.device.as_ref().is_some_and(|d| d.kind.is_simulated());
                    w.kind != i.config.kind
                        || (w.options != i.config.options && !simulated)
                        || w.uuid != i.config.uuid
                        || (w.ofport_request.is_some()
                            && w.ofport_request != i.ofport.map(|p| p.0)
                            && !is_held(n, w.ofport_request))
                        // Somebody else asks for its number, and it does not.
                        || (w.ofport_request != i.ofport.map(|p| p.0)
                            && is_asked(n, i.ofport.map(|p| p.0)))
                })
            })
            .map(|(n, _)| n.clone())
            .collect();
        for iface_name in gone {
            if let Some(iface) = bridge.ifaces.remove(&iface_name) {
                close(&self.world, &self.dp, bridge.id, &iface);
                self.host.closed(&iface_name);
                log!(Info, Bridge, "bridge {name}: deleted interface {iface_name}{}", on(&iface));
                if let Some(ofport) = iface.ofport {
                    bridge.freed.insert(ofport.0, now);
                }
            }
            if !wanted.contains_key(iface_name.as_str()) {
                bridge.remembered.remove(&iface_name);
            }
        }
    }

    /// Adds the interfaces that are wanted and not there, and changes the others.
    fn put_interfaces(&mut self, name: &str, wanted: &BridgeConfig, now: Instant) {
        let wanted = interfaces(name, wanted);
        // LOCAL first, then those that ask for a number, then the rest, each by name.
        let mut order: Vec<&str> = wanted.keys().copied().collect();
        order.sort_by_key(|n| (*n != name, wanted[n].1.ofport_request.is_none()));
        for iface_name in order {
            let (port, config) = &wanted[iface_name];
            let Some(bridge) = self.bridges.get_mut(name) else { return };
            let known = bridge.ifaces.get_mut(iface_name);
            match known {
                Some(iface) => {
                    if iface.config.options != config.options
                        && let Some(sim) = &mut self.host.sim
                    {
                        sim.configure(iface_name, &config.options);
                    }
                    let n_rxq = std::mem::replace(&mut iface.config.n_rxq, config.n_rxq);
                    if n_rxq != config.n_rxq
                        && let Some(device) = &iface.device
                        && device.kind == Kind::DummyPmd
                    {
                        let number = device.dp_port;
                        if let Err(e) = self.reopen(name, iface_name, number, now) {
                            log!(Warn, Bridge, "{iface_name}: {e}");
                        }
                    }
                    let Some(bridge) = self.bridges.get_mut(name) else { return };
                    let Some(iface) = bridge.ifaces.get_mut(iface_name) else { continue };
                    let device = (config.mac, config.mtu_request);
                    let is_news = device != (iface.config.mac, iface.config.mtu_request);
                    iface.port = (*port).clone();
                    iface.config = config.clone();
                    // Nobody tells when its file is there.
                    let again = iface.error.is_some() && config.kind == Kind::Replay.shown();
                    if again {
                        self.start(name, iface_name, now);
                    } else if is_news {
                        configure_device(&mut self.host, bridge, iface_name);
                    }
                }
                None => {
                    let iface = Iface {
                        config: config.clone(),
                        port: (*port).clone(),
                        ofport: None,
                        device: None,
                        error: None,
                    };
                    bridge.ifaces.insert(iface_name.to_owned(), iface);
                    self.start(name, iface_name, now);
                }
            }
            self.put_port(name, iface_name, now);
        }
    }

    /// Opens an interface's device and gives it its numbers.
    fn start(&mut self, bridge_name: &str, name: &str, now: Instant) {
        let dp_port = self.free_dp_port(name);
        let Some(bridge) = self.bridges.get_mut(bridge_name) else { return };
        let ofport = match free_ofport(bridge, bridge_name, name, now) {
            Some(p) => p,
            None => {
                let text = format!("no free OpenFlow port number for {name}");
                fail(bridge, bridge_name, name, text);
                return;
            }
        };
        let Some(iface) = bridge.ifaces.get_mut(name) else { return };
        if !iface.is_patch() {
            let opened = self.host.open_device(name, &iface.config).and_then(|(kind, port)| {
                self.dp.open_port(dp_port, &*port).map_err(|e| e.to_string())?;
                Ok(Device::new(name, kind, dp_port, port, now))
            });
            match opened {
                Ok(mut device) => {
                    let (link, ethtool) = self.host.link(name);
                    device.see(link, ethtool);
                    iface.device = Some(device);
                }
                Err(text) => {
                    fail(bridge, bridge_name, name, text);
                    return;
                }
            }
        }
        iface.error = None;
        iface.ofport = Some(ofport);
        if ofport.is_real() && iface.config.ofport_request != Some(ofport.0) {
            bridge.last_given = ofport.0;
        }
        bridge.remembered.insert(name.to_owned(), ofport);
        log!(Info, Bridge, "bridge {bridge_name}: added interface {name} on port {}", ofport.0);
        configure_device(&mut self.host, bridge, name);
    }

    /// The number in the datapath for a new port. The simulated datapath takes it from the name's
    /// first digits if it can, those of bridges from 100 on, so that tests know it.
    fn free_dp_port(&self, name: &str) -> DpPort {
        let devices = self.bridges.values().flat_map(|b| b.ifaces.values());
        let used: BTreeSet<u32> =
            devices.filter_map(|i| i.device.as_ref()).map(|d| d.dp_port.0).collect();
        if self.host.sim.is_some() {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let base = if name.starts_with("br") { 100 } else { 0 };
            let number = digits[..end].parse::<u32>().ok().map(|n| n.saturating_add(base));
            if let Some(n) = number
                .filter(|n| *n > DP_LOCAL.0 && *n <= datapath::MAX_PORT.0 && !used.contains(n))
            {
                return DpPort(n);
            }
        }
        DpPort((DP_LOCAL.0 + 1..).find(|n| !used.contains(n)).unwrap_or(u32::MAX))
    }

    /// Tells the tables what there is to know of a port. If it is new, frames are received from then on.
    fn put_port(&mut self, bridge_name: &str, name: &str, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(bridge_name) else { return };
        let Some(iface) = bridge.ifaces.get_mut(name) else { return };
        let Some(ofport) = iface.ofport else { return };
        let device = iface.device.as_ref();
        let peer = iface
            .is_patch()
            .then(|| Peer { port: iface.config.options.get("peer").cloned().unwrap_or_default() });
        let is_patch = peer.is_some();
        let settings = device.map(|d| d.settings).unwrap_or_default();
        let spec = PortSpec {
            name: name.to_owned(),
            dp_port: device.map_or(DpPort::NONE, |d| d.dp_port),
            mac: device.map_or(bridge.mac, Device::mac),
            vlan: iface.port.vlan.clone(),
            protected: iface.port.protected,
            queue_dscp: iface.port.queue_dscp.clone(),
            peer,
            admin_up: is_patch || device.is_some_and(Device::admin_up),
            link_up: is_patch || device.is_some_and(Device::link_up),
            current: settings.current.bits(),
            curr_speed: settings.speed.unwrap_or(0).saturating_mul(1000),
            max_speed: settings.supported.max_mbps().saturating_mul(1000),
        };
        self.world.switch.write().put_port(bridge.id, ofport, spec, now);
        if let Some(device) = &mut iface.device {
            self.dp.receive(device.dp_port, &mut *device.port);
        }
    }

    /// Gives a bridge its address and datapath id, and its other settings.
    fn settle_bridge(&mut self, name: &str, wanted: &BridgeConfig, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        bridge.config = wanted.clone();
        let lent = bridge.ifaces.iter().filter(|(n, _)| n.as_str() != name);
        let lent = lent.filter_map(|(_, i)| i.device.as_ref());
        let lent = lent.filter(|d| d.kind.is_host_device()).map(Device::mac);
        let lowest = lent.filter(|m| *m != MacAddr::ZERO && !m.is_multicast()).min();
        let mac = wanted.hwaddr.or(lowest).unwrap_or(bridge.default_mac);
        let dpid = wanted.datapath_id.unwrap_or(mac.to_u64());
        let local = bridge.ifaces.get_mut(name).and_then(|i| i.device.as_mut());
        let mut changed = false;
        if let Some(local) = local
            && local.mac() != mac
            && self.host.set_mac(name, mac).is_ok()
        {
            changed = local.see(self.host.link(name).0, None);
        }
        if dpid != bridge.dpid || !std::mem::replace(&mut bridge.announced, true) {
            log!(Info, Bridge, "bridge {name}: using datapath ID {dpid:016x}");
        }
        (bridge.mac, bridge.dpid) = (mac, dpid);
        self.world.switch.write().put_bridge(name, spec(wanted, dpid), now);
        if changed {
            self.put_port(name, name, now);
        }
    }

    /// Gives a bridge its mirrors, whose ports have the numbers that they have now.
    fn put_mirrors(&mut self, name: &str) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let (specs, complaints) = mirrors::specs(name, &bridge.config.mirrors, &*bridge);
        if complaints != bridge.mirror_complaints {
            complaints.iter().for_each(mirrors::Complaint::tell);
            bridge.mirror_complaints = complaints;
        }
        if let Some(b) = self.world.switch.write().bridge_mut(bridge.id) {
            b.set_mirrors(&specs);
        }
    }

    /// Gives the bridge's internal ports that ask for no other MTU the smallest of its other ports,
    /// so that what the host sends there fits everywhere.
    fn level_mtu(&mut self, name: &str, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let is_internal = |d: &Device| matches!(d.kind, Kind::Internal | Kind::DummyInternal);
        let mtu = |d: &Device| d.link.as_ref().map(|l| l.mtu);
        let devices = || bridge.ifaces.values().filter_map(|i| Some((i, i.device.as_ref()?)));
        let least = devices().filter(|(_, d)| !is_internal(d)).filter_map(|(_, d)| mtu(d)).min();
        let least = least.unwrap_or(DEFAULT_MTU);
        let lower: Vec<String> = devices()
            .filter(|(i, d)| is_internal(d) && i.config.mtu_request.is_none())
            .filter(|(_, d)| mtu(d).is_some_and(|m| m != least))
            .map(|(_, d)| d.name.clone())
            .collect();
        for port in lower {
            if let Err(e) = self.host.set_mtu(&port, least) {
                log!(Warn, Bridge, "{e}");
            }
            let link = self.host.link(&port).0;
            let Some(bridge) = self.bridges.get_mut(name) else { return };
            if let Some(device) = bridge.ifaces.get_mut(&port).and_then(|i| i.device.as_mut()) {
                device.see(link, None);
            }
            self.put_port(name, &port, now);
        }
    }

    /// A controller wants a device up or down.
    pub fn set_admin(&mut self, id: BridgeId, ofport: OfPort, up: bool, now: Instant) {
        let bridge = self.bridges.values().find(|b| b.id == id);
        let name = bridge.and_then(|b| {
            b.ifaces.iter().find(|(_, i)| i.ofport == Some(ofport)).map(|(n, _)| n.clone())
        });
        let Some(name) = name else { return };
        if let Err(e) = self.host.set_up(&name, up) {
            log!(Warn, Bridge, "{e}");
        }
        self.link_changed(&name, now);
    }

    /// Counters of the port of this name, if it has a device.
    pub fn port_counters(&mut self, name: &str) -> Option<PortCounters> {
        self.dp.collect_now_and_then();
        let link = self.host.link(name).0;
        let mut ifaces = self.bridges.values().flat_map(|b| &b.ifaces);
        let device = ifaces.find_map(|(n, i)| i.device.as_ref().filter(|_| n == name))?;
        // Nobody else tells of a new queueing discipline.
        link.iter().for_each(|l| device.state.note_link(l));
        Some(PortCounters::of(device, link.map(|l| l.stats)))
    }

    /// Counters that only an interface's kind of device has.
    pub fn custom_counters(&self, name: &str) -> Vec<(String, u64)> {
        let mut ifaces = self.bridges.values().flat_map(|b| &b.ifaces);
        let device = ifaces.find_map(|(n, i)| i.device.as_ref().filter(|_| n == name));
        device.map(|d| d.port.custom_counters()).unwrap_or_default()
    }

    /// What the mirrors of a bridge got: rows, packets and bytes.
    pub fn mirror_counts(&self, bridge: &Bridge) -> Vec<(Uuid, [u64; 2])> {
        let switch = self.world.switch.read();
        let counts = switch.bridge(bridge.id).into_iter().flat_map(|b| b.mirror_stats());
        counts.map(|(id, s)| (Uuid(id.0), [s.n_packets(), s.n_bytes()])).collect()
    }

    /// Gives an interface another number in the datapath, with a device opened anew.
    ///
    /// # Errors
    /// There is no such interface, or the number is taken.
    pub fn change_dp_port(&mut self, name: &str, to: DpPort, now: Instant) -> Result<(), String> {
        let bridge = self.bridges.iter().find(|(_, b)| b.ifaces.contains_key(name));
        let (bridge_name, _) = bridge.ok_or("unknown port")?;
        if self.dp.ports().contains(&to) {
            return Err("port already in use".to_owned());
        }
        self.reopen(&bridge_name.clone(), name, to, now)
    }

    /// Closes an interface's device and opens it as its row says now, under that number in the datapath.
    fn reopen(
        &mut self,
        bridge_name: &str,
        name: &str,
        to: DpPort,
        now: Instant,
    ) -> Result<(), String> {
        let bridge = self.bridges.get_mut(bridge_name).ok_or("unknown port")?;
        let iface = bridge.ifaces.get_mut(name).ok_or("unknown port")?;
        let device = iface.device.as_mut().ok_or("unknown port")?;
        self.dp.remove_port(device.dp_port);
        let (_, port) = self.host.open_device(name, &iface.config)?;
        self.dp.open_port(to, &*port).map_err(|e| e.to_string())?;
        *device = Device::new(name, device.kind, to, port, now);
        let (link, ethtool) = self.host.link(name);
        device.see(link, ethtool);
        self.put_port(bridge_name, name, now);
        Ok(())
    }

    /// What is asked of a datapath port's receive queues.
    pub fn queue_spec(&self, port: DpPort) -> Option<QueueSpec<'_>> {
        let ifaces = self.bridges.values().flat_map(|b| &b.ifaces);
        let mut of_port = ifaces.filter_map(|(name, i)| {
            let device = i.device.as_ref().filter(|d| d.dp_port == port)?;
            let numa = i.config.options.get("numa_id").and_then(|n| n.parse().ok());
            let numa = numa.filter(|_| device.kind.is_simulated());
            Some(QueueSpec {
                name,
                numa: numa.or_else(|| self.host.numa_node(name, device.kind)),
                affinity: &i.config.affinity,
                is_pmd: device.kind == Kind::DummyPmd,
            })
        });
        of_port.next()
    }

    /// Opens another send queue of a datapath port.
    ///
    /// # Errors
    /// The device refuses, or there is none.
    pub fn open_tx(&self, port: DpPort) -> Result<Box<dyn TxQueue>, netdev::Error> {
        match self.by_dp_port(port) {
            Some((_, device)) => device.port.open_tx(),
            None => Err(netdev::Error::gone(&format!("port {}", port.0))),
        }
    }

    /// The number in the datapath of an interface.
    pub fn dp_port_by_name(&self, name: &str) -> Option<DpPort> {
        let iface = self.bridges.values().find_map(|b| b.ifaces.get(name))?;
        iface.device.as_ref().map(|d| d.dp_port)
    }

    /// The interface that has this number in the datapath.
    pub fn by_dp_port(&self, dp_port: DpPort) -> Option<(&str, &Device)> {
        let all = self.bridges.values().flat_map(|b| &b.ifaces);
        all.filter_map(|(n, i)| Some((n.as_str(), i.device.as_ref()?)))
            .find(|(_, d)| d.dp_port == dp_port)
    }
}

/// The interfaces a bridge is to have, with their ports. Its own is internal whatever the row says.
fn interfaces<'a>(
    bridge: &str,
    config: &'a BridgeConfig,
) -> BTreeMap<&'a str, (&'a PortConfig, InterfaceConfig)> {
    let mut all = BTreeMap::new();
    for port in config.ports.values() {
        for (name, iface) in &port.interfaces {
            let mut iface = iface.clone();
            if name == bridge {
                iface.kind = "internal".to_owned();
            }
            all.insert(name.as_str(), (port, iface));
        }
    }
    all
}

fn on(iface: &Iface) -> String {
    iface.ofport.map_or_else(String::new, |p| format!(" on port {}", p.0))
}

fn fail(bridge: &mut Bridge, bridge_name: &str, name: &str, text: String) {
    if let Some(iface) = bridge.ifaces.get_mut(name) {
        if iface.error.as_ref() != Some(&text) {
            log!(Warn, Bridge, "bridge {bridge_name}: {text}");
        }
        iface.error = Some(text);
    }
}

/// Takes an interface off the datapath and the tables.
fn close(world: &World, dp: &Datapath, bridge: BridgeId, iface: &Iface) {
    if let Some(device) = &iface.device {
        dp.remove_port(device.dp_port);
    }
    if let Some(ofport) = iface.ofport {
        world.switch.write().remove_port(bridge, ofport);
    }
}

/// How long a number that became free is not given to another interface if that can be helped:
/// flows may still mean the old one.
const REUSE: Duration = Duration::from_secs(3600);

/// The number an interface gets: LOCAL for the bridge's own, the requested one if it is free, the one
/// it had, else the next that nobody has, asks for or had lately; if there is none such, the one that
/// has been free for longest.
fn free_ofport(bridge: &Bridge, bridge_name: &str, name: &str, now: Instant) -> Option<OfPort> {
    if name == bridge_name {
        return Some(OfPort::LOCAL);
    }
    let others = || bridge.ifaces.iter().filter(|(n, _)| n.as_str() != name);
    let used: BTreeSet<u16> = others().filter_map(|(_, i)| Some(i.ofport?.0)).collect();
    let asked: BTreeSet<u16> = others().filter_map(|(_, i)| i.config.ofport_request).collect();
    let kept: BTreeSet<u16> =
        bridge.remembered.iter().filter(|(n, _)| n.as_str() != name).map(|(_, p)| p.0).collect();
    let requested = bridge.ifaces.get(name).and_then(|i| i.config.ofport_request);
    let had = bridge.remembered.get(name).map(|p| p.0);
    if let Some(n) = requested.filter(|n| !used.contains(n) && OfPort(*n).is_real()) {
        return Some(OfPort(n));
    }
    if let Some(n) = had.filter(|n| !used.contains(n) && !asked.contains(n)) {
        return Some(OfPort(n));
    }
    let free = || {
        let round = (bridge.last_given + 1..OfPort::MAX.0).chain(1..=bridge.last_given);
        round.filter(|n| !used.contains(n))
    };
    let is_fresh = |n: &u16| bridge.freed.get(n).is_none_or(|t| now.since(*t) >= REUSE);
    free()
        .find(|n| !asked.contains(n) && !kept.contains(n) && is_fresh(n))
        .or_else(|| free().min_by_key(|n| bridge.freed.get(n).copied()))
        .map(OfPort)
}

/// Sets what the interface's row asks of the device itself.
fn configure_device(host: &mut Host, bridge: &mut Bridge, name: &str) {
    let Some(iface) = bridge.ifaces.get_mut(name) else { return };
    let Some(device) = &mut iface.device else { return };
    let internal = !device.kind.is_host_device();
    let mut result = Ok(());
    if let Some(mac) = iface.config.mac.filter(|m| internal && *m != device.mac()) {
        result = host.set_mac(name, mac);
    }
    if let Some(mtu) = iface.config.mtu_request {
        result = result.and(host.set_mtu(name, mtu));
    }
    match result {
        Ok(()) => {
            device.see(host.link(name).0, None);
        }
        Err(e) => log!(Warn, Bridge, "{e}"),
    }
}

fn spec(config: &BridgeConfig, dpid: u64) -> BridgeSpec {
    BridgeSpec {
        dpid,
        fail_mode: config.fail_mode,
        has_controllers: config.controllers.values().any(|c| c.primary),
        forward_bpdu: config.forward_bpdu,
        mac_idle: Some(config.mac_aging),
        mac_max: Some(config.mac_table_size),
        flood_vlans: config.flood_vlans.clone(),
        tables: config.tables.clone(),
        desc: SwitchDesc {
            mfr_desc: "Nicira, Inc.".to_owned(),
            hw_desc: "Open vSwitch".to_owned(),
            sw_desc: crate::OVS_VERSION.to_owned(),
            serial_num: "None".to_owned(),
            dp_desc: config.dp_desc.clone().unwrap_or_else(|| "None".to_owned()),
        },
    }
}
