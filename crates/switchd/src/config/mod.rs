//! What the database asks for: rows of the Open_vSwitch schema as typed configuration.
//!
//! Reading is total: a row that says something impossible is read as what `ovs-vswitchd.conf.db(5)`
//! says the daemon does then (mostly the default), and the reason is kept in
//! [`Config::complaints`] for the log. Nothing here touches a device or a table; [`crate::reconcile`]
//! compares a [`Config`] with what runs.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::MacAddr;
use openflow::Version;
use ovsdb::types::Uuid;

pub use rows::{Row, Rows};

/// All bridges that there should be.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The one row of Open_vSwitch, if it exists yet.
    pub root: Option<Uuid>,
    /// Number of the configuration; `cur_cfg` follows it.
    pub next_cfg: i64,
    /// Open_vSwitch `other_config`.
    pub other_config: BTreeMap<String, String>,
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeConfig>,
    /// What was asked for and cannot be.
    pub complaints: Vec<String>,
}

/// What a bridge does when its controllers are gone.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum FailMode {
    /// Works as a learning switch.
    #[default]
    Standalone,
    /// Keeps its flows and adds none.
    Secure,
}

/// A row of Bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// Row.
    pub uuid: Uuid,
    /// `datapath_type`; empty, `system` and `netdev` are one.
    pub datapath_type: String,
    /// `other_config:datapath-id`, 16 hexadecimal digits.
    pub datapath_id: Option<u64>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<MacAddr>,
    /// `other_config:dp-desc`.
    pub dp_desc: Option<String>,
    /// `fail_mode`.
    pub fail_mode: FailMode,
    /// Targets of its controllers.
    pub controllers: BTreeMap<String, Uuid>,
    /// OpenFlow versions allowed; all that exist when the column is empty.
    pub protocols: Vec<Version>,
    /// `other_config:mac-aging-time`.
    pub mac_aging: Duration,
    /// `other_config:mac-table-size`.
    pub mac_table_size: usize,
    /// `other_config:forward-bpdu`.
    pub forward_bpdu: bool,
    /// VLANs in which frames are flooded instead of learned.
    pub flood_vlans: BTreeSet<u16>,
    /// Ports by name.
    pub ports: BTreeMap<String, PortConfig>,
}

/// How a port treats VLANs (Port `vlan_mode`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum VlanMode {
    /// Untagged frames of one VLAN.
    Access,
    /// Tagged frames of some VLANs.
    #[default]
    Trunk,
    /// A trunk whose native VLAN is tagged on output.
    NativeTagged,
    /// A trunk whose native VLAN is untagged on output.
    NativeUntagged,
    /// 802.1ad tunnel.
    Dot1qTunnel,
}

/// Whether priority-tagged frames are sent (Port `other_config:priority-tags`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum PriorityTags {
    /// Never.
    #[default]
    No,
    /// Frames of VLAN 0 with a priority.
    IfNonzero,
    /// All frames of VLAN 0.
    Always,
}

/// A row of Port.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Row.
    pub uuid: Uuid,
    /// VLAN mode, with the default that the other columns give.
    pub vlan_mode: VlanMode,
    /// Access or native VLAN.
    pub tag: Option<u16>,
    /// Trunked VLANs; empty for all.
    pub trunks: BTreeSet<u16>,
    /// Customer VLANs of a dot1q-tunnel; empty for all.
    pub cvlans: BTreeSet<u16>,
    /// `other_config:priority-tags`.
    pub priority_tags: PriorityTags,
    /// Protected ports do not talk to each other.
    pub protected: bool,
    /// Interfaces by name: one, or the members of a bond.
    pub interfaces: BTreeMap<String, InterfaceConfig>,
}

/// A row of Interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Row.
    pub uuid: Uuid,
    /// `type`; empty and `system` are one.
    pub kind: String,
    /// `ofport_request`.
    pub ofport_request: Option<u16>,
    /// `mac`: address that the device should have.
    pub mac: Option<MacAddr>,
    /// `mtu_request`.
    pub mtu_request: Option<u32>,
    /// `options`.
    pub options: BTreeMap<String, String>,
}

/// Reads the whole configuration.
pub fn read(db: &dyn Rows) -> Config {
    let mut config = Config::default();
    let Some(root) = db.uuids("Open_vSwitch").into_iter().next() else { return config };
    let row = Row::new(db, "Open_vSwitch", root);
    config.root = Some(root);
    config.next_cfg = row.integer("next_cfg").unwrap_or(0);
    config.other_config = row.strings("other_config");
    for uuid in row.refs("bridges") {
        let row = Row::new(db, "Bridge", uuid);
        let name = row.string("name");
        let bridge = read_bridge(db, &row, &name, &mut config.complaints);
        config.bridges.insert(name, bridge);
    }
    config
}

fn read_bridge(
    db: &dyn Rows,
    row: &Row<'_>,
    name: &str,
    complaints: &mut Vec<String>,
) -> BridgeConfig {
    let other = row.strings("other_config");
    let seconds = other.get("mac-aging-time").and_then(|s| s.parse().ok()).filter(|s| *s >= 15);
    let size = other.get("mac-table-size").and_then(|s| s.parse::<usize>().ok());
    let hwaddr = other.get("hwaddr").and_then(|s| match s.parse::<MacAddr>() {
        Ok(mac) if !mac.is_multicast() && mac != MacAddr::ZERO => Some(mac),
        _ => {
            complaints.push(format!("bridge {name}: cannot set MAC address to {s}"));
            None
        }
    });
    let datapath_id = other.get("datapath-id").and_then(|s| {
        let digits = s.strip_prefix("0x").unwrap_or(s);
        let id = u64::from_str_radix(digits, 16).ok().filter(|id| *id != 0 && digits.len() <= 16);
        if id.is_none() {
            complaints.push(format!("bridge {name}: {s}: invalid datapath-id"));
        }
        id
    });
    let controllers = row.refs("controller").into_iter();
    let protocols: Vec<Version> =
        row.set("protocols").iter().filter_map(|s| Version::from_name(s)).collect();
    BridgeConfig {
        uuid: row.uuid,
        datapath_type: row.string("datapath_type"),
        datapath_id,
        hwaddr,
        dp_desc: other.get("dp-desc").cloned(),
        fail_mode: match row.string("fail_mode").as_str() {
            "secure" => FailMode::Secure,
            _ => FailMode::Standalone,
        },
        controllers: controllers
            .map(|u| (Row::new(db, "Controller", u).string("target"), u))
            .collect(),
        protocols: if protocols.is_empty() { Version::ALL.to_vec() } else { protocols },
        mac_aging: Duration::from_secs(seconds.unwrap_or(300)),
        mac_table_size: size.unwrap_or(8192).clamp(10, 1_000_000),
        forward_bpdu: other.get("forward-bpdu").is_some_and(|v| v == "true"),
        flood_vlans: row.integers("flood_vlans").into_iter().filter_map(vlan).collect(),
        ports: row
            .refs("ports")
            .into_iter()
            .map(|u| {
                let row = Row::new(db, "Port", u);
                let port = read_port(db, &row);
                (row.string("name"), port)
            })
            .collect(),
    }
}

fn vlan(v: i64) -> Option<u16> {
    u16::try_from(v).ok().filter(|v| *v < 4096)
}

fn read_port(db: &dyn Rows, row: &Row<'_>) -> PortConfig {
    let tag = row.integer("tag").and_then(vlan);
    let trunks: BTreeSet<u16> = row.integers("trunks").into_iter().filter_map(vlan).collect();
    // Without a mode: trunks make a trunk, a tag alone an access port.
    let vlan_mode = match row.string("vlan_mode").as_str() {
        "access" => VlanMode::Access,
        "native-tagged" => VlanMode::NativeTagged,
        "native-untagged" => VlanMode::NativeUntagged,
        "dot1q-tunnel" => VlanMode::Dot1qTunnel,
        "trunk" => VlanMode::Trunk,
        _ if tag.is_some() => VlanMode::Access,
        _ => VlanMode::Trunk,
    };
    let other = row.strings("other_config");
    PortConfig {
        uuid: row.uuid,
        vlan_mode,
        tag,
        trunks,
        cvlans: row.integers("cvlans").into_iter().filter_map(vlan).collect(),
        priority_tags: match other.get("priority-tags").map(String::as_str) {
            Some("true" | "if-nonzero") => PriorityTags::IfNonzero,
            Some("always") => PriorityTags::Always,
            _ => PriorityTags::No,
        },
        protected: row.boolean("protected"),
        interfaces: row
            .refs("interfaces")
            .into_iter()
            .map(|u| {
                let row = Row::new(db, "Interface", u);
                (row.string("name"), read_interface(&row))
            })
            .collect(),
    }
}

fn read_interface(row: &Row<'_>) -> InterfaceConfig {
    let kind = row.string("type");
    InterfaceConfig {
        uuid: row.uuid,
        kind: if kind == "system" { String::new() } else { kind },
        ofport_request: row.integer("ofport_request").and_then(|v| u16::try_from(v).ok()),
        mac: row.string("mac").parse().ok(),
        mtu_request: row.integer("mtu_request").and_then(|v| u32::try_from(v).ok()),
        options: row.strings("options"),
    }
}
