//! What the database asks for: rows of the Open_vSwitch schema as typed configuration.
//!
//! Reading is total: a row that says something impossible is read as what `ovs-vswitchd.conf.db(5)`
//! says the daemon does then (mostly the default), and the reason is kept in
//! [`Config::complaints`] for the log. Nothing here touches a device or a table; [`crate::reconcile`]
//! compares a [`Config`] with what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use base::MacAddr;
use flow::text::Tok;
use flow::{Field, FieldId};
use ofproto::port::{PriorityTags, VlanConfig, VlanMode};
use ofproto::{FailMode, MAX_PREFIX_FIELDS, PREFIX_FIELDS, RateLimit, TableSettings};
use openflow::Version;
use ovsdb::data::{Data, RowRef};
use ovsdb::types::Uuid;
use packet::header::ethertype;

use crate::kernelpath;
use crate::mirrors::MirrorConfig;
use crate::remote::{self, Remote};
use crate::rxq::{self, Settings};
use crate::zones::{self, ZonesConfig};
use datapath::KernelMode;

/// Longest wait between attempts to connect when the row says nothing.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// `inactivity_probe` when the row says nothing.
pub(crate) const PROBE: Duration = Duration::from_secs(5);

/// All bridges that there should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The one row of Open_vSwitch, if it exists yet.
    pub root: Option<Uuid>,
    /// Number of the configuration; `cur_cfg` follows it.
    pub next_cfg: i64,
    /// `other_config:kernel-fast-path`.
    pub kernel_mode: KernelMode,
    /// Open_vSwitch `other_config`.
    pub other_config: BTreeMap<String, String>,
    /// Workers and who polls what, of it.
    pub workers: Settings,
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeConfig>,
    /// OVSDB clients to serve besides those of `db.sock`, by target.
    pub managers: BTreeMap<String, ManagerConfig>,
    /// Keys for TLS.
    pub tls: Option<tls::Files>,
    /// Zones of the connection tracker.
    pub zones: ZonesConfig,
    /// What was asked for and cannot be.
    pub complaints: Vec<String>,
    /// What was asked for and is not allowed.
    pub refusals: Vec<String>,
}

/// A row of Bridge.
#[derive(Clone, Debug, PartialEq)]
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
    /// Its controllers, by target.
    pub controllers: BTreeMap<String, ControllerConfig>,
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
    /// `other_config:disable-in-band`.
    pub disable_in_band: bool,
    /// `other_config:in-band-queue`.
    pub in_band_queue: Option<u32>,
    /// `mirrors`, by row.
    pub mirrors: Vec<MirrorConfig>,
    /// `flow_tables`, by number.
    pub tables: BTreeMap<u8, TableSettings>,
    /// Ports by name.
    pub ports: BTreeMap<String, PortConfig>,
}

/// A row of Controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Row.
    pub uuid: Uuid,
    /// Where it is.
    pub remote: Remote,
    /// It rules the bridge and `fail_mode` is about it; otherwise it is of service now and then.
    pub primary: bool,
    /// Longest wait between attempts.
    pub max_backoff: Duration,
    /// Silence after which it is asked whether it lives; zero for never.
    pub probe: Duration,
    /// It hears asynchronous messages without asking for them.
    pub enable_async: bool,
    /// How fast it gets packets; `None` for as fast as they come.
    pub rate_limit: Option<RateLimit>,
    /// Packets that may wait for it while it does not read.
    pub queue_size: usize,
    /// The host reaches it over the bridge itself.
    pub in_band: bool,
}

/// Packets that may wait for a controller when its `controller_queue_size` does not say.
pub const DEFAULT_QUEUE: usize = 100;

/// A row of Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerConfig {
    /// Row.
    pub uuid: Uuid,
    /// Where it is.
    pub remote: Remote,
    /// Longest wait between attempts.
    pub max_backoff: Duration,
    /// Silence after which it is asked whether it lives; zero for never.
    pub probe: Duration,
    /// The host reaches it over its bridges.
    pub in_band: bool,
}

/// A row of Port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortConfig {
    /// Row.
    pub uuid: Uuid,
    /// VLANs, with the defaults that the columns give each other.
    pub vlan: VlanConfig,
    /// Protected ports do not talk to each other.
    pub protected: bool,
    /// DSCP that packets for a queue get, by queue (`qos`, `dscp` of its Queue rows).
    pub queue_dscp: BTreeMap<u32, u8>,
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
    /// `options:n_rxq`: receive queues, where the device can have several.
    pub n_rxq: usize,
    /// `other_config:pmd-rxq-affinity`: cores that queues are to be polled on.
    pub affinity: BTreeMap<u32, usize>,
}

impl Config {
    /// Drops controllers on unix sockets outside `rundir`: who may write to the database from afar
    /// shall not make the daemon talk to, or replace, just any socket of the host.
    pub fn forbid_sockets(&mut self, rundir: &Path) {
        let refusals = &mut self.refusals;
        for (name, bridge) in &mut self.bridges {
            bridge.controllers.retain(|target, c| {
                let dir = rundir.display();
                let advice = format!(
                    "or connect to \"unix:{dir}/{name}.mgmt\" (which is always available without \
                     special configuration)."
                );
                if let Remote::Unix(path) = &mut c.remote
                    && path.components().count() == 1
                    && path.is_relative()
                {
                    *path = rundir.join(&path);
                }
                match &c.remote {
                    Remote::Unix(path) if !lies_in(path, rundir) => refusals.push(format!(
                        "bridge {name}: Not connecting to socket controller \"{target}\" due to \
                         possibility for remote exploit.  Instead, specify socket in permitted \
                         directory \"unix:{dir}/\" {advice}"
                    )),
                    Remote::Punix(path) if !is_of_bridge(path, rundir, name) => {
                        refusals.push(format!(
                            "bridge {name}: Not adding Unix domain socket controller \"{target}\" \
                             due to possibility of overwriting local files. Instead, specify path \
                             in permitted format \"punix:{dir}/{name}.*\" {advice}"
                        ));
                    }
                    _ => return true,
                }
                false
            });
        }
    }
}

/// Whether a path is `RUNDIR/BRIDGE.SOMETHING`.
fn is_of_bridge(path: &Path, rundir: &Path, bridge: &str) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(bridge));
    path.parent() == Some(rundir) && name.is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a path names something below `dir`, without a way out.
fn lies_in(path: &Path, dir: &Path) -> bool {
    path.starts_with(dir) && path.components().all(|c| !matches!(c, Component::ParentDir))
}

/// Reads the whole configuration.
pub fn read(db: &Data) -> Config {
    let mut config = Config::default();
    let Some(root) = db.table("Open_vSwitch").and_then(|t| t.first()) else { return config };
    config.root = Some(root.uuid());
    config.next_cfg = root.integer("next_cfg").unwrap_or(0);
    config.other_config = strings(root, "other_config");
    config.kernel_mode = kernelpath::mode(&config.other_config, &mut config.complaints);
    config.workers = Settings::read(&config.other_config, &mut config.complaints);
    for row in refs(db, root, "bridges", "Bridge") {
        let name = string(row, "name");
        if name.contains('/') {
            // It is to be a file's name.
            config.complaints.push(format!("ignoring bridge with invalid name \"{name}\""));
            continue;
        }
        let bridge = read_bridge(db, row, &name, &mut config.complaints);
        config.bridges.insert(name, bridge);
    }
    for row in refs(db, root, "manager_options", "Manager") {
        config.managers.extend(read_manager(row, &mut config.complaints));
    }
    config.zones = zones::read(db, root);
    let ssl = refs(db, root, "ssl", "SSL").next();
    config.tls = ssl.map(|row| read_ssl(row, &mut config.complaints));
    config
}

/// The rows of `table` that a column refers to.
pub(crate) fn refs<'a>(
    db: &'a Data,
    row: RowRef<'a>,
    column: &'static str,
    table: &'static str,
) -> impl Iterator<Item = RowRef<'a>> {
    let table = db.table(table);
    row.uuids(column).filter_map(move |u| table?.row(u))
}

fn string(row: RowRef<'_>, column: &str) -> String {
    row.str(column).unwrap_or_default().to_owned()
}

fn strings(row: RowRef<'_>, column: &str) -> BTreeMap<String, String> {
    let pairs = row.get(column).map(|d| d.pairs()).unwrap_or_default().iter();
    pairs.filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()))).collect()
}

fn vlans(row: RowRef<'_>, column: &str) -> BTreeSet<u16> {
    let atoms = row.get(column).into_iter().flat_map(|d| d.keys());
    atoms.filter_map(|a| a.as_integer()).filter_map(vlan).collect()
}

fn vlan(v: i64) -> Option<u16> {
    u16::try_from(v).ok().filter(|v| *v < 4096)
}

fn read_bridge(
    db: &Data,
    row: RowRef<'_>,
    name: &str,
    complaints: &mut Vec<String>,
) -> BridgeConfig {
    let other = strings(row, "other_config");
    let seconds = other.get("mac-aging-time").and_then(|s| s.parse().ok()).filter(|s| *s > 0);
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
        u64::from_str_radix(digits, 16).ok().filter(|id| *id != 0 && digits.len() <= 16)
    });
    let protocols: Vec<Version> = row.strs("protocols").filter_map(Version::from_name).collect();
    BridgeConfig {
        uuid: row.uuid(),
        datapath_type: string(row, "datapath_type"),
        datapath_id,
        hwaddr,
        dp_desc: other.get("dp-desc").cloned(),
        fail_mode: match row.str("fail_mode") {
            Some("secure") => FailMode::Secure,
            _ => FailMode::Standalone,
        },
        controllers: refs(db, row, "controller", "Controller")
            .filter_map(|c| read_controller(c, name, complaints))
            .collect(),
        protocols: if protocols.is_empty() { Version::ALL.to_vec() } else { protocols },
        mac_aging: Duration::from_secs(seconds.unwrap_or(300)),
        mac_table_size: size.unwrap_or(8192).clamp(10, 1_000_000),
        forward_bpdu: other.get("forward-bpdu").is_some_and(|v| v == "true"),
        flood_vlans: vlans(row, "flood_vlans"),
        disable_in_band: other.get("disable-in-band").is_some_and(|v| v == "true"),
        in_band_queue: other.get("in-band-queue").and_then(|n| n.parse().ok()),
        mirrors: refs(db, row, "mirrors", "Mirror").map(|m| read_mirror(db, m)).collect(),
        tables: read_tables(db, row, name, complaints),
        ports: refs(db, row, "ports", "Port")
            .map(|p| (string(p, "name"), read_port(db, p, complaints)))
            .collect(),
    }
}

/// `flow_tables`: rows of Flow_Table by number.
fn read_tables(
    db: &Data,
    row: RowRef<'_>,
    bridge: &str,
    complaints: &mut Vec<String>,
) -> BTreeMap<u8, TableSettings> {
    let rows = db.table("Flow_Table");
    let pairs = row.get("flow_tables").map(|d| d.pairs()).unwrap_or_default().iter();
    let pairs = pairs.filter_map(|(n, row)| Some((n.as_integer()?, row.as_uuid()?)));
    let mut tables = BTreeMap::new();
    for (n, uuid) in pairs {
        let Some(row) = rows.and_then(|t| t.row(uuid)) else { continue };
        let Ok(number) = u8::try_from(n) else { continue };
        if number >= ofproto::table::INTERNAL_TABLE.0 {
            complaints.push(format!(
                "bridge {bridge}: ignoring configuration for flow table {n} not supported by this \
                 datapath"
            ));
            continue;
        }
        let groups = row.strs("groups").filter_map(|text| {
            let parsed = openflow::text::parse_subfield(Tok::line(text));
            parsed
                .map_err(|e| {
                    complaints.push(format!(
                        "bridge {bridge} table {n}: error parsing 'groups' ({})",
                        e.message
                    ));
                })
                .ok()
        });
        let groups = groups.collect();
        let settings = TableSettings {
            groups,
            prefixes: prefixes(row, bridge, complaints),
            name: string(row, "name"),
            max_flows: row.integer("flow_limit").and_then(|n| u32::try_from(n).ok()),
            evict: row.str("overflow_policy") == Some("evict"),
        };
        tables.insert(number, settings);
    }
    tables
}

/// `prefixes` of a Flow_Table.
fn prefixes(row: RowRef<'_>, bridge: &str, complaints: &mut Vec<String>) -> Option<Vec<FieldId>> {
    let mut fields = Vec::new();
    let mut said = false;
    for name in row.strs("prefixes") {
        if name == "none" {
            return Some(Vec::new());
        }
        let what = match Field::by_name(name) {
            None => "unknown field",
            Some(f) if !PREFIX_FIELDS.contains(&f.id) => "incompatible field",
            Some(_) if fields.len() >= MAX_PREFIX_FIELDS => "too many fields, field not used",
            Some(f) => {
                fields.push(f.id);
                said = true;
                continue;
            }
        };
        complaints.push(format!("bridge {bridge}: 'prefixes' with {what}: {name}"));
    }
    said.then_some(fields)
}

fn read_controller(
    row: RowRef<'_>,
    bridge: &str,
    complaints: &mut Vec<String>,
) -> Option<(String, ControllerConfig)> {
    let target = string(row, "target");
    let remote = match Remote::parse(&target, remote::OPENFLOW_PORT) {
        Ok(remote) => remote,
        Err(e) => {
            complaints.push(format!("bridge {bridge}: controller {e}"));
            return None;
        }
    };
    let primary = match row.str("type") {
        Some("primary") => true,
        Some("service") => false,
        _ => !remote.is_passive(),
    };
    let controller = ControllerConfig {
        uuid: row.uuid(),
        remote,
        primary,
        max_backoff: millis(row, "max_backoff").unwrap_or(MAX_BACKOFF),
        probe: probe(row),
        enable_async: row.bool("enable_async_messages").unwrap_or(true),
        rate_limit: number(row, "controller_rate_limit").map(|rate| RateLimit {
            rate,
            burst: number(row, "controller_burst_limit").unwrap_or(0),
        }),
        queue_size: number(row, "controller_queue_size").map_or(DEFAULT_QUEUE, |n| n as usize),
        in_band: row.str("connection_mode") != Some("out-of-band"),
    };
    Some((target, controller))
}

pub(crate) fn read_manager(
    row: RowRef<'_>,
    complaints: &mut Vec<String>,
) -> Option<(String, ManagerConfig)> {
    let target = string(row, "target");
    let remote = match Remote::parse(&target, remote::OVSDB_PORT) {
        Ok(remote) => remote,
        Err(e) => {
            complaints.push(format!("manager {e}"));
            return None;
        }
    };
    let manager = ManagerConfig {
        uuid: row.uuid(),
        remote,
        max_backoff: millis(row, "max_backoff").unwrap_or(MAX_BACKOFF),
        probe: probe(row),
        in_band: row.str("connection_mode") != Some("out-of-band"),
    };
    Some((target, manager))
}

fn millis(row: RowRef<'_>, column: &str) -> Option<Duration> {
    row.integer(column).and_then(|v| u64::try_from(v).ok()).map(Duration::from_millis)
}

/// A positive number.
fn number(row: RowRef<'_>, column: &str) -> Option<u32> {
    row.integer(column).and_then(|v| u32::try_from(v).ok()).filter(|n| *n > 0)
}

/// `inactivity_probe`: zero for never, and no less than the default, as OVS has it.
fn probe(row: RowRef<'_>) -> Duration {
    match millis(row, "inactivity_probe") {
        Some(Duration::ZERO) => Duration::ZERO,
        asked => asked.unwrap_or(PROBE).max(PROBE),
    }
}

/// The row of SSL.
fn read_ssl(row: RowRef<'_>, complaints: &mut Vec<String>) -> tls::Files {
    let path = |column| PathBuf::from(string(row, column));
    let mut protocols = tls::Protocols::default();
    let versions = string(row, "ssl_protocols");
    if !versions.is_empty()
        && let Err(e) = protocols.set_versions(&versions)
    {
        complaints.push(format!("SSL: {e}"));
    }
    for column in ["ssl_ciphers", "ssl_ciphersuites"] {
        protocols.restrict(&string(row, column));
    }
    tls::Files {
        private_key: path("private_key"),
        certificate: path("certificate"),
        ca: match row.bool("bootstrap_ca_cert") {
            _ if row.str("ca_cert") == Some("none") => tls::Ca::None,
            Some(true) => tls::Ca::Bootstrap(path("ca_cert")),
            _ => tls::Ca::File(path("ca_cert")),
        },
        present: None,
        protocols,
    }
}

fn read_mirror(db: &Data, row: RowRef<'_>) -> MirrorConfig {
    let ports = |column| refs(db, row, column, "Port").map(|p| string(p, "name")).collect();
    let output_port = refs(db, row, "output_port", "Port").next();
    MirrorConfig {
        uuid: row.uuid(),
        name: string(row, "name"),
        select_all: row.bool("select_all").unwrap_or(false),
        select_src: ports("select_src_port"),
        select_dst: ports("select_dst_port"),
        select_vlan: vlans(row, "select_vlan"),
        output_port: output_port.map(|p| string(p, "name")),
        output_vlan: row.integer("output_vlan").and_then(vlan),
        snaplen: row.integer("snaplen").and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
        filter: row.str("filter").map(str::to_owned),
    }
}

fn read_port(db: &Data, row: RowRef<'_>, complaints: &mut Vec<String>) -> PortConfig {
    let tag = row.integer("tag").and_then(vlan);
    // Without a mode: a tag makes an access port.
    let mode = match row.str("vlan_mode") {
        Some("access") => VlanMode::Access,
        Some("native-tagged") => VlanMode::NativeTagged,
        Some("native-untagged") => VlanMode::NativeUntagged,
        Some("trunk") => VlanMode::Trunk,
        Some("dot1q-tunnel") => VlanMode::Dot1qTunnel,
        _ if tag.is_some() => VlanMode::Access,
        _ => VlanMode::Trunk,
    };
    PortConfig {
        uuid: row.uuid(),
        vlan: VlanConfig {
            mode,
            tag: tag.unwrap_or(0),
            trunks: vlans(row, "trunks").into_iter().collect(),
            priority_tags: match row.map_str("other_config", "priority-tags") {
                Some("true" | "if-nonzero") => PriorityTags::IfNonzero,
                Some("always") => PriorityTags::Always,
                _ => PriorityTags::Never,
            },
            cvlans: vlans(row, "cvlans").into_iter().collect(),
            qinq_ethertype: match row.map_str("other_config", "qinq-ethtype") {
                Some("802.1q") => ethertype::VLAN,
                _ => ethertype::QINQ,
            },
        },
        protected: row.bool("protected").unwrap_or(false),
        queue_dscp: read_queue_dscp(db, row),
        interfaces: refs(db, row, "interfaces", "Interface")
            .map(|i| (string(i, "name"), read_interface(i, complaints)))
            .collect(),
    }
}

/// `dscp` of the queues of a Port's `qos`.
fn read_queue_dscp(db: &Data, port: RowRef<'_>) -> BTreeMap<u32, u8> {
    let queues = db.table("Queue");
    let qos = refs(db, port, "qos", "QoS").find(|q| q.str("type").is_some_and(|t| !t.is_empty()));
    let pairs = qos.and_then(|q| q.get("queues")).map(|d| d.pairs()).unwrap_or_default().iter();
    let pairs = pairs.filter_map(|(n, row)| {
        let row = queues?.row(row.as_uuid()?)?;
        let dscp = row.integer("dscp").and_then(|d| u8::try_from(d).ok())?;
        Some((u32::try_from(n.as_integer()?).ok()?, dscp & 0x3f))
    });
    pairs.collect()
}

fn read_interface(row: RowRef<'_>, complaints: &mut Vec<String>) -> InterfaceConfig {
    let (name, kind) = (string(row, "name"), string(row, "type"));
    let options = strings(row, "options");
    let n_rxq = options.get("n_rxq").and_then(|text| {
        let n = text.parse().ok().filter(|n| (1..=rxq::MAX_QUEUES).contains(n));
        // AF_XDP has limits of its own.
        if n.is_none() && kind != "afxdp" {
            complaints.push(format!(
                "interface {name}: ignoring options:n_rxq={text}: not a number from 1 to {}",
                rxq::MAX_QUEUES
            ));
        }
        n
    });
    let other = strings(row, "other_config");
    let affinity = other.get("pmd-rxq-affinity").and_then(|text| {
        let affinity = rxq::read_affinity(text);
        if affinity.is_none() {
            complaints.push(format!(
                "interface {name}: ignoring other_config:pmd-rxq-affinity={text}: not a list of QUEUE:CORE, \
                 such as 0:3,1:7"
            ));
        }
        affinity
    });
    InterfaceConfig {
        uuid: row.uuid(),
        kind: if kind == "system" { String::new() } else { kind },
        ofport_request: row.integer("ofport_request").and_then(|v| u16::try_from(v).ok()),
        mac: row.str("mac").and_then(|m| m.parse().ok()),
        mtu_request: row.integer("mtu_request").and_then(|v| u32::try_from(v).ok()),
        options,
        n_rxq: n_rxq.unwrap_or(1),
        affinity: affinity.unwrap_or_default(),
    }
}
