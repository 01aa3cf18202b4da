//! Ports of a bridge: what the operator configured and what the link says.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::{DpPort, Instant, MacAddr, OfPort};
use openflow::message::{PortDesc, port_config, port_state};

/// How a port takes part in VLANs (`ovs-vswitchd.conf.db(5)`, Port `vlan_mode`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum VlanMode {
    /// Carries the VLANs of `trunks`, all if empty.
    #[default]
    Trunk,
    /// Carries VLAN `tag`, without a tag on the wire.
    Access,
    /// A trunk whose untagged packets belong to VLAN `tag`, which leaves tagged.
    NativeTagged,
    /// A trunk whose untagged packets belong to VLAN `tag`, which leaves untagged.
    NativeUntagged,
    /// What comes in gets a tag of VLAN `tag` around it, which is taken off on the way out.
    Dot1qTunnel,
}

/// When a packet in no VLAN leaves with a priority tag (`other_config:priority-tags`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum PriorityTags {
    /// Never.
    #[default]
    Never,
    /// If it has a priority.
    IfNonzero,
    /// Always.
    Always,
}

/// VLAN configuration of a port.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VlanConfig {
    /// How it takes part.
    pub mode: VlanMode,
    /// The access or native VLAN.
    pub tag: u16,
    /// VLANs that a trunk carries, sorted; empty for all. 0 stands for untagged packets.
    pub trunks: Vec<u16>,
    /// Tags for packets in no VLAN.
    pub priority_tags: PriorityTags,
    /// Customer VLANs that a dot1q-tunnel carries, sorted; empty for all.
    pub cvlans: Vec<u16>,
    /// TPID of the tag that a dot1q-tunnel puts around (`other_config:qinq-ethtype`).
    pub qinq_ethertype: u16,
}

impl VlanConfig {
    /// Whether a trunk carries `vid`.
    pub fn trunks(&self, vid: u16) -> bool {
        self.trunks.is_empty() || self.trunks.binary_search(&vid).is_ok()
    }

    /// Whether a dot1q-tunnel carries the customer's `vid`.
    pub fn admits_customer(&self, vid: u16) -> bool {
        self.cvlans.is_empty() || self.cvlans.binary_search(&vid).is_ok()
    }

    /// Whether packets with these VLANs, outermost first, go out of the port; 0 for none.
    pub fn carries(&self, [vid, customer]: [u16; 2]) -> bool {
        match self.mode {
            VlanMode::Access => vid == self.tag && customer == 0,
            VlanMode::Trunk => self.trunks(vid),
            // What has no tag is of the native VLAN, so there is nothing in none.
            VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                vid == self.tag || (vid != 0 && self.trunks(vid))
            }
            VlanMode::Dot1qTunnel => vid == self.tag && self.admits_customer(customer),
        }
    }
}

/// The other end of a patch port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name of the interface that is the other end.
    pub port: String,
}

/// What the daemon wants of a port.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortSpec {
    /// Name.
    pub name: String,
    /// Its number in the datapath; [`DpPort::NONE`] for a patch port.
    pub dp_port: DpPort,
    /// Ethernet address.
    pub mac: MacAddr,
    /// VLANs.
    pub vlan: VlanConfig,
    /// Protected ports do not talk to each other (Port `protected`).
    pub protected: bool,
    /// DSCP (0 to 63) that IP packets get which are for a queue, by queue.
    pub queue_dscp: BTreeMap<u32, u8>,
    /// The other end of a patch port.
    pub peer: Option<Peer>,
    /// Administratively up.
    pub admin_up: bool,
    /// Has a link.
    pub link_up: bool,
    /// [`openflow::message::port_feature`] bits in use.
    pub current: u32,
    /// kb/s.
    pub curr_speed: u32,
    /// kb/s.
    pub max_speed: u32,
}

/// Packets through one end of a patch: no device counts them.
#[derive(Debug, Default)]
pub struct PatchStats {
    rx: [AtomicU64; 2],
    tx: [AtomicU64; 2],
}

impl PatchStats {
    /// Counts packets that went out of this end and into the other.
    pub(crate) fn pass(&self, other: &PatchStats, n_packets: u64, n_bytes: u64) {
        for counters in [&self.tx, &other.rx] {
            counters[0].fetch_add(n_packets, Relaxed);
            counters[1].fetch_add(n_bytes, Relaxed);
        }
    }

    /// Packets and bytes that came in by it.
    pub fn rx(&self) -> (u64, u64) {
        (self.rx[0].load(Relaxed), self.rx[1].load(Relaxed))
    }

    /// Packets and bytes that went out of it.
    pub fn tx(&self) -> (u64, u64) {
        (self.tx[0].load(Relaxed), self.tx[1].load(Relaxed))
    }
}

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its number on the bridge.
    pub ofport: OfPort,
    /// What the daemon wants.
    pub spec: PortSpec,
    /// [`port_config`] bits that controllers set; [`port_config::PORT_DOWN`] mirrors the device.
    pub config: u32,
    /// When it was added.
    pub created: Instant,
    /// What went through it, if it is a patch port.
    pub patch_stats: Arc<PatchStats>,
    /// It forwards: told after it was added, as a switch that looks at it later would.
    pub(crate) enabled: bool,
}

impl Port {
    pub(crate) fn new(ofport: OfPort, spec: PortSpec, now: Instant) -> Port {
        let config = if spec.admin_up { 0 } else { port_config::PORT_DOWN };
        Port { ofport, spec, config, created: now, patch_stats: Arc::default(), enabled: false }
    }

    /// Whether floods reach it.
    pub fn floodable(&self) -> bool {
        self.config & port_config::NO_FLOOD == 0
    }

    /// Whether it can send what it is given.
    pub fn is_live(&self) -> bool {
        self.enabled && self.spec.link_up && self.config & port_config::PORT_DOWN == 0
    }

    /// As OpenFlow describes it.
    pub fn desc(&self) -> PortDesc {
        let link = if self.spec.link_up { 0 } else { port_state::LINK_DOWN };
        let live = if self.is_live() { port_state::LIVE } else { 0 };
        PortDesc {
            port: self.ofport,
            hw_addr: self.spec.mac,
            name: self.spec.name.clone(),
            config: self.config,
            state: link | live,
            current: self.spec.current,
            advertised: 0,
            supported: 0,
            peer: 0,
            curr_speed: self.spec.curr_speed,
            max_speed: self.spec.max_speed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_vlans_go_out_of_which_port() {
        let cfg = |mode, tag, trunks: &[u16]| VlanConfig {
            mode,
            tag,
            trunks: trunks.into(),
            ..VlanConfig::default()
        };
        for (c, yes, no) in [
            (cfg(VlanMode::Access, 5, &[]), &[5][..], &[0, 6][..]),
            (cfg(VlanMode::Trunk, 0, &[]), &[0, 1, 4095], &[]),
            (cfg(VlanMode::Trunk, 0, &[2, 9]), &[2, 9], &[0, 3]),
            (cfg(VlanMode::NativeUntagged, 5, &[2]), &[2, 5], &[0, 3]),
            (cfg(VlanMode::NativeTagged, 5, &[]), &[5, 2], &[0]),
        ] {
            assert!(yes.iter().all(|&v| c.carries([v, 0])), "{c:?}");
            assert!(!no.iter().any(|&v| c.carries([v, 0])), "{c:?}");
        }
        let tunnel = VlanConfig { cvlans: [8].into(), ..cfg(VlanMode::Dot1qTunnel, 5, &[]) };
        assert!(tunnel.carries([5, 8]) && !tunnel.carries([5, 9]) && !tunnel.carries([8, 8]));
        assert!(!cfg(VlanMode::Access, 5, &[]).carries([5, 8]), "a tag would be left");
    }
}
