//! The devices that interfaces can be: the host's, or simulated ones in their place, or those in memory.

use std::sync::Arc;

use base::MacAddr;
use netdev::link::{Ethtool, Link, Links};
use netdev::{Bypass, Port, af_packet::AfPacket, af_xdp::AfXdp, internal};

use crate::afxdp;
use crate::config::InterfaceConfig;
use crate::device::Kind;
use crate::log;
use crate::memory::Memory;
use crate::sim::{Level, Sim};

/// See the module.
#[derive(Debug)]
pub struct Host {
    links: Links,
    ethtool: Option<Ethtool>,
    memory: Memory,
    /// What forwards packets in the kernel.
    bypass: Option<Arc<Bypass>>,
    /// The simulated devices, if there are any.
    pub sim: Option<Sim>,
}

impl Host {
    /// The host, with simulated devices in `sim` if there are to be some. `bypass` forwards packets in the kernel.
    ///
    /// # Errors
    /// The kernel's links cannot be asked for.
    pub fn open(sim: Option<Sim>, bypass: Option<Bypass>) -> Result<Host, netdev::Error> {
        let (memory, ethtool) = (Memory::default(), Ethtool::open().ok());
        let bypass = bypass.map(Arc::new);
        Ok(Host { links: Links::open()?, ethtool, memory, bypass, sim })
    }

    /// What an Interface `type` means here.
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        let kind = Kind::of(name)?;
        let level = self.sim.as_ref().map(|s| s.level);
        match kind {
            Kind::Patch | Kind::Null | Kind::Replay => Some(kind),
            Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd => level.map(|_| kind),
            Kind::Internal if level.is_some() && name == "internal" => Some(Kind::DummyInternal),
            Kind::Internal if level == Some(Level::Override) => Some(Kind::Dummy),
            Kind::System if level.is_some_and(|l| l >= Level::System) => Some(Kind::Dummy),
            Kind::System | Kind::AfXdp | Kind::Internal => Some(kind),
        }
    }

    /// Opens the device of an interface.
    ///
    /// # Errors
    /// The text for the `error` column.
    pub fn open_device(
        &mut self,
        name: &str,
        config: &InterfaceConfig,
    ) -> Result<(Kind, Box<dyn Port>), String> {
        let kind = self.kind_of(&config.kind).ok_or_else(|| {
            format!(
                "could not open network device {name} (Address family not supported by protocol)"
            )
        })?;
        let port: Box<dyn Port> = match (kind, &mut self.sim) {
            (Kind::System, _) => {
                let n_queues = config.n_rxq;
                let bypass = self.bypass.clone();
                let options = netdev::af_packet::Options { n_queues, bypass, ..Default::default() };
                Box::new(AfPacket::open(name, options).map_err(|e| e.to_string())?)
            }
            (Kind::AfXdp, _) => {
                let options = afxdp::options(name, &config.options)?;
                let port = AfXdp::open(name, &options).map_err(|e| e.to_string())?;
                let (n, mode) = (port.n_queues(), port.mode().name());
                log!(Info, NetdevLinux, "{name}: AF_XDP on {n} queue(s) in {mode} mode");
                Box::new(port)
            }
            (Kind::Internal, _) => internal::open(name, config.n_rxq).map_err(|e| e.to_string())?,
            (Kind::Null, _) => self.memory.open_null(name, &config.options)?,
            (Kind::Replay, sim) => self.memory.open_replay(name, config, sim.is_none())?,
            (Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd, Some(sim)) => {
                let n_queues = if kind == Kind::DummyPmd { config.n_rxq } else { 1 };
                sim.open(name, &config.options, n_queues)
            }
            _ => return Err(format!("{name}: has no device")),
        };
        for w in port.warnings() {
            log!(Info, NetdevLinux, "{w}");
        }
        Ok((kind, port))
    }

    /// An interface's device is closed.
    pub fn closed(&mut self, name: &str) {
        self.memory.close(name);
        if let Some(sim) = &mut self.sim {
            sim.close(name);
        }
    }

    /// The device of this name, and how to ask for its speed and driver, if it has such.
    pub fn link(&mut self, name: &str) -> (Option<Link>, Option<&Ethtool>) {
        if let Some(link) = self.memory.get(name) {
            return (Some(link.clone()), None);
        }
        if let Some(device) = self.sim.as_ref().and_then(|s| s.get(name)) {
            return (Some(device.link.clone()), None);
        }
        if self.sim.as_ref().is_some_and(|s| s.level == Level::Override) {
            return (None, None);
        }
        (self.links.by_name(name).ok().flatten(), self.ethtool.as_ref())
    }

    /// The NUMA node of the hardware behind a device, if there is any.
    pub fn numa_node(&self, name: &str, kind: Kind) -> Option<usize> {
        let file = || std::fs::read_to_string(format!("/sys/class/net/{name}/device/numa_node"));
        // -1 where the hardware is not said to be at one.
        if kind.is_host_device() { file().ok()?.trim().parse().ok() } else { None }
    }

    /// Whether the host's routes are those of the bridges' LOCAL ports: these are its devices.
    pub fn has_routes(&self) -> bool {
        self.sim.is_none()
    }

    /// Sets a device's address.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_mac(&mut self, name: &str, mac: MacAddr) -> Result<(), netdev::Error> {
        match self.in_memory(name) {
            Some(link) => link.mac = mac,
            None => self.links.set_mac(name, mac)?,
        }
        Ok(())
    }

    /// Sets a device's MTU.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), netdev::Error> {
        match self.in_memory(name) {
            Some(link) => link.mtu = mtu,
            None => self.links.set_mtu(name, mtu)?,
        }
        Ok(())
    }

    /// Takes a device up or down.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), netdev::Error> {
        match self.in_memory(name) {
            Some(link) => link.up = up,
            None => self.links.set_up(name, up)?,
        }
        Ok(())
    }

    fn in_memory(&mut self, name: &str) -> Option<&mut Link> {
        let simulated = self.sim.as_mut().and_then(|s| s.get_mut(name)).map(|d| &mut d.link);
        self.memory.get_mut(name).or(simulated)
    }
}
