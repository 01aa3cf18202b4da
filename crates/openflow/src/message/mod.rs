//! Messages: what the two ends of an OpenFlow connection say.
//!
//! [`Body`] has one variant per thing that can be said, whatever the version. Requests and replies
//! of statistics ("multipart" since 1.3) are plain variants; [`Message::more`] tells that further
//! parts follow.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use base::{MacAddr, OfPort, TableId};
use flow::Match;

use crate::action::{Action, PacketInReason};
use crate::error::OfError;
use crate::flow_mod::{FlowMod, FlowModFlags};
use crate::version::Version;

mod asynch;
mod bundle;
mod codec;
mod continuation;
mod controllers;
mod features;
mod flows;
mod groups;
mod hello;
mod ipfix;
pub mod kind;
pub mod match10;
pub mod match11;
mod meters;
mod monitor;
mod nicira;
mod oxs;
mod packets;
pub mod parts;
mod ports;
mod queues;
mod removed;
mod stats;

pub use asynch::{AsyncClass, AsyncConfig, SetAsync};
pub use bundle::add_to_bundle;
pub(crate) use codec::read_kind;
pub use codec::{Session, frame_len};
pub use continuation::Continuation;
pub use controllers::{ControllerStatus, controller_reason};
pub use features::{
    ActionFeatures, FeaturesCommand, FieldSet, InstructionFeatures, TableFeatures, TableSet,
    TableStats,
};
pub use groups::{
    Bucket, GROUP_MAX, GroupCommand, GroupDesc, GroupFeatures, GroupMod, GroupStats, GroupType,
    METHOD_LEN, Selection, bucket_id, group_capability,
};
pub use hello::hello;
pub(crate) use hello::hello_is_plain;
pub use ipfix::IpfixStats;
pub use kind::Kind;
pub use meters::{
    Band, BandType, FLAG_NAMES as METER_FLAG_NAMES, MeterCommand, MeterConfig, MeterFeatures,
    MeterFlags, MeterMod, MeterStats, meter_id,
};
pub use nicira::{CtFlush, CtTuple, TlvCommand, TlvTable, TlvTableMod};
pub use packets::{PacketIn, PacketInFormat, PacketOut};
pub use queues::{QueueConfig, QueueStats};
pub use stats::{TableDesc, TableMod, TableReason, table_config};

/// One message.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Version in its header.
    pub version: Version,
    /// Transaction id.
    pub xid: u32,
    /// Said in Nicira's form where the version has a standard one too (1.0: NXM).
    pub nicira: bool,
    /// More parts of this request or reply follow.
    pub more: bool,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Versions spoken, as a bitmap of [`Version::bit`].
    Hello(u32),
    /// A request failed.
    Error(ErrorMsg),
    /// Are you there?
    EchoRequest(Vec<u8>),
    /// Yes.
    EchoReply(Vec<u8>),
    /// What are you?
    FeaturesRequest,
    /// This.
    FeaturesReply(Box<Features>),
    /// Ask for the configuration.
    GetConfigRequest,
    /// The configuration.
    GetConfigReply(SwitchConfig),
    /// Set the configuration.
    SetConfig(SwitchConfig),
    /// A packet for the controller.
    PacketIn(Box<PacketIn>),
    /// A packet from the controller.
    PacketOut(Box<PacketOut>),
    /// Change flows.
    FlowMod(Box<FlowMod>),
    /// A flow is gone.
    FlowRemoved(Box<FlowRemoved>),
    /// A port came, changed or went.
    PortStatus(PortReason, Box<PortDesc>),
    /// Change a port.
    PortMod(PortMod),
    /// Change a table.
    TableMod(TableMod),
    /// Finish what came before.
    BarrierRequest,
    /// Finished.
    BarrierReply,
    /// Ask for or about a role.
    RoleRequest(Role),
    /// The role.
    RoleReply(Role),
    /// A role was taken away (1.4+).
    RoleStatus(Role, u8),
    /// Which asynchronous messages are wanted? (1.3+)
    GetAsyncRequest,
    /// These.
    GetAsyncReply(AsyncConfig),
    /// Want these.
    SetAsync(SetAsync),
    /// Controller id (Nicira).
    SetControllerId(u16),
    /// 1.0: which form flows are said in.
    SetFlowFormat(FlowFormat),
    /// 1.0: flow mods carry the table in their command.
    FlowModTableId(bool),
    /// Form of packet-ins.
    SetPacketInFormat(PacketInFormat),
    /// A paused packet goes on (Nicira); an `NXT_PACKET_IN2` in all but its kind.
    Resume(Box<PacketIn>),
    /// Nothing: flows of 1.0 tell their age anyway (Nicira).
    FlowAge,
    /// Forget the connections of a zone (Nicira).
    CtFlushZone(u16),
    /// Forget connections (Nicira).
    CtFlush(Box<CtFlush>),
    /// Change which tunnel options are which fields (Nicira).
    TlvTableMod(TlvTableMod),
    /// Which are? (Nicira)
    TlvTableRequest,
    /// These.
    TlvTableReply(TlvTable),
    /// Bundle control (1.4+, or ONF extension in 1.3).
    BundleCtrl(BundleCtrl),
    /// A message for a bundle.
    BundleAdd(Box<BundleAdd>),
    /// A table passed one of its vacancy thresholds (1.4+).
    TableStatus(TableReason, TableDesc),
    /// Something became of a controller (1.5).
    ControllerStatus(Box<ControllerStatus>),
    /// A flow monitor is not wanted any more (before 1.4, where a request says it).
    FlowMonitorCancel(u32),
    /// Updates of flow monitors are suspended (before 1.4, where an update says it).
    FlowMonitorPaused,
    /// They go on.
    FlowMonitorResumed,

    /// Who made you?
    DescRequest,
    /// These.
    DescReply(Box<SwitchDesc>),
    /// Which flows are there?
    FlowStatsRequest(FlowStatsRequest),
    /// These.
    FlowStatsReply(Vec<FlowStats>),
    /// How many and how much?
    AggregateRequest(FlowStatsRequest),
    /// So.
    AggregateReply(AggregateStats),
    /// Counters of what exports a bridge in IPFIX (Nicira)?
    IpfixBridgeRequest,
    /// These.
    IpfixBridgeReply(Vec<IpfixStats>),
    /// Counters of what exports for `sample` actions (Nicira)?
    IpfixFlowRequest,
    /// These.
    IpfixFlowReply(Vec<IpfixStats>),
    /// Counters of tables?
    TableStatsRequest,
    /// These.
    TableStatsReply(Vec<TableStats>),
    /// What can tables do? (1.3+)
    TableFeaturesRequest(Vec<TableFeatures>),
    /// This.
    TableFeaturesReply(Vec<TableFeatures>),
    /// Table configuration? (1.4+)
    TableDescRequest,
    /// This.
    TableDescReply(Vec<TableDesc>),
    /// Tell of flows, now and as they change.
    FlowMonitorRequest(Vec<FlowMonitor>),
    /// These are, were or changed.
    FlowMonitorReply(Vec<FlowUpdate>),
    /// Counters of a port, or of all ([`OfPort::NONE`])?
    PortStatsRequest(OfPort),
    /// These.
    PortStatsReply(Vec<PortStats>),
    /// Ports? 1.5 may ask for one.
    PortDescRequest(OfPort),
    /// These.
    PortDescReply(Vec<PortDesc>),
    /// Queue counters of a port (or [`OfPort::ALL`]) and queue (or 0xffffffff)?
    QueueStatsRequest(OfPort, u32),
    /// These.
    QueueStatsReply(Vec<QueueStats>),
    /// Configuration of a port's queues (or of all ports', [`OfPort::NONE`]) and, since 1.4, of one
    /// queue (or 0xffffffff)?
    QueueConfigRequest(OfPort, u32),
    /// These, of the port asked for.
    QueueConfigReply(OfPort, Vec<QueueConfig>),

    /// Change groups (1.1+, or Nicira's).
    GroupMod(Box<GroupMod>),
    /// Counters of a group, or of all ([`crate::flow_mod::GROUP_ALL`])?
    GroupStatsRequest(u32),
    /// These.
    GroupStatsReply(Vec<GroupStats>),
    /// What is a group, or all? 1.1 to 1.4 always ask for all.
    GroupDescRequest(u32),
    /// These.
    GroupDescReply(Vec<GroupDesc>),
    /// What can groups be?
    GroupFeaturesRequest,
    /// This.
    GroupFeaturesReply(Box<GroupFeatures>),
    /// Change meters (1.3+).
    MeterMod(Box<MeterMod>),
    /// Counters of a meter, or of all ([`meter_id::ALL`])?
    MeterStatsRequest(u32),
    /// These.
    MeterStatsReply(Vec<MeterStats>),
    /// What is a meter, or all?
    MeterConfigRequest(u32),
    /// These.
    MeterConfigReply(Vec<MeterConfig>),
    /// What can meters be?
    MeterFeaturesRequest,
    /// This.
    MeterFeaturesReply(MeterFeatures),
    /// Another controller's change of groups or meters (1.4+, or an extension).
    Requestforward(Box<Message>),
}

/// An error message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorMsg {
    /// What is wrong; `None` if the number is not known.
    pub error: Option<OfError>,
    /// Type and code when `error` is `None`.
    pub raw: (u16, u16),
    /// At least the first 64 bytes of the offending message.
    pub data: Vec<u8>,
}

/// What a switch can do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// Datapath id.
    pub dpid: u64,
    /// Packets it can buffer.
    pub n_buffers: u32,
    /// Tables.
    pub n_tables: u8,
    /// Auxiliary connection (1.3+).
    pub auxiliary_id: u8,
    /// [`capability`] bits.
    pub capabilities: u32,
    /// 1.0's bitmap of actions.
    pub actions: u32,
    /// Ports, in 1.0 to 1.2.
    pub ports: Vec<PortDesc>,
}

/// Capability bits, as on the wire of 1.3.
pub mod capability {
    /// Flow statistics.
    pub const FLOW_STATS: u32 = 1;
    /// Table statistics.
    pub const TABLE_STATS: u32 = 1 << 1;
    /// Port statistics.
    pub const PORT_STATS: u32 = 1 << 2;
    /// 802.1D (1.0) or group statistics (1.1+).
    pub const GROUP_STATS: u32 = 1 << 3;
    /// Reassembles IP fragments.
    pub const IP_REASM: u32 = 1 << 5;
    /// Queue statistics.
    pub const QUEUE_STATS: u32 = 1 << 6;
    /// Matches addresses in ARP packets (1.0).
    pub const ARP_MATCH_IP: u32 = 1 << 7;
    /// Blocks looping ports (1.2+).
    pub const PORT_BLOCKED: u32 = 1 << 8;
    /// Bundles (1.4+).
    pub const BUNDLES: u32 = 1 << 9;
    /// Flow monitoring (1.4+).
    pub const FLOW_MONITORING: u32 = 1 << 10;
}

/// Configuration of a switch.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct SwitchConfig {
    /// 0 normal, 1 drop, 2 reassemble, 3 Nicira's match.
    pub frag: u8,
    /// Before 1.3: packets with invalid TTL go to the controller.
    pub invalid_ttl_to_controller: Option<bool>,
    /// Bytes of a packet that a table miss sends.
    pub miss_send_len: u16,
}

/// 1.0: form of flows (Nicira).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u32)]
pub enum FlowFormat {
    /// `ofp10_match`
    #[default]
    OpenFlow10 = 0,
    /// NXM
    Nxm = 2,
}

/// Why a flow is gone.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FlowRemovedReason {
    /// Idle timeout.
    IdleTimeout = 0,
    /// Hard timeout.
    HardTimeout = 1,
    /// Deleted.
    Delete = 2,
    /// Its group was deleted.
    GroupDelete = 3,
    /// Its meter was deleted.
    MeterDelete = 4,
    /// Evicted.
    Eviction = 5,
}

/// A flow that is gone.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowRemoved {
    /// Its match.
    pub match_: Match,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Why.
    pub reason: FlowRemovedReason,
    /// Its table.
    pub table: TableId,
    /// How long it was there.
    pub duration: Duration,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Packets; `u64::MAX` for unknown.
    pub n_packets: u64,
    /// Bytes; `u64::MAX` for unknown.
    pub n_bytes: u64,
}

/// What happened to a port.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PortReason {
    /// It came.
    Add = 0,
    /// It went.
    Delete = 1,
    /// It changed.
    Modify = 2,
}

/// A port. Bits of `config` and `state` are [`port_config`] and [`port_state`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortDesc {
    /// Number.
    pub port: OfPort,
    /// Ethernet address.
    pub hw_addr: MacAddr,
    /// Name.
    pub name: String,
    /// [`port_config`] bits.
    pub config: u32,
    /// [`port_state`] bits.
    pub state: u32,
    /// [`port_feature`] bits in use.
    pub current: u32,
    /// Advertised.
    pub advertised: u32,
    /// Supported.
    pub supported: u32,
    /// Advertised by the peer.
    pub peer: u32,
    /// kb/s (1.1+).
    pub curr_speed: u32,
    /// kb/s (1.1+).
    pub max_speed: u32,
}

/// Port configuration bits (1.0's; 1.1+ has four of them).
pub mod port_config {
    /// Administratively down.
    pub const PORT_DOWN: u32 = 1;
    /// No spanning tree (1.0).
    pub const NO_STP: u32 = 1 << 1;
    /// Drop what it receives.
    pub const NO_RECV: u32 = 1 << 2;
    /// Drop received spanning-tree packets (1.0).
    pub const NO_RECV_STP: u32 = 1 << 3;
    /// Not in floods (1.0).
    pub const NO_FLOOD: u32 = 1 << 4;
    /// Drop what is sent to it.
    pub const NO_FWD: u32 = 1 << 5;
    /// No packet-ins for its misses.
    pub const NO_PACKET_IN: u32 = 1 << 6;
}

/// Port state bits (1.1+'s; 1.0's link bit is the same).
pub mod port_state {
    /// No link.
    pub const LINK_DOWN: u32 = 1;
    /// Blocked (1.1+).
    pub const BLOCKED: u32 = 1 << 1;
    /// Live for fast failover (1.1+).
    pub const LIVE: u32 = 1 << 2;
    /// 1.0: spanning tree listening (value 1 of bits 8 and 9), kept in OVS's place.
    pub const STP_LISTEN: u32 = 0 << 8;
    /// 1.0: spanning tree learning.
    pub const STP_LEARN: u32 = 1 << 8;
    /// 1.0: spanning tree forwarding.
    pub const STP_FORWARD: u32 = 2 << 8;
    /// 1.0: spanning tree blocking.
    pub const STP_BLOCK: u32 = 3 << 8;
    /// 1.0: mask of the spanning tree state.
    pub const STP_MASK: u32 = 3 << 8;
}

/// Port feature bits (1.1+'s order).
pub mod port_feature {
    /// Names in bit order, as `ovs-ofctl` prints them.
    pub const NAMES: [&str; 16] = [
        "10MB-HD",
        "10MB-FD",
        "100MB-HD",
        "100MB-FD",
        "1GB-HD",
        "1GB-FD",
        "10GB-FD",
        "40GB-FD",
        "100GB-FD",
        "1TB-FD",
        "OTHER",
        "COPPER",
        "FIBER",
        "AUTO_NEG",
        "AUTO_PAUSE",
        "AUTO_PAUSE_ASYM",
    ];
    /// 10 Gb/s full duplex.
    pub const FD_10GB: u32 = 1 << 6;
    /// Copper.
    pub const COPPER: u32 = 1 << 11;
}

/// A change to a port.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PortMod {
    /// Which.
    pub port: OfPort,
    /// Its address, as a check.
    pub hw_addr: MacAddr,
    /// New [`port_config`] bits.
    pub config: u32,
    /// Bits to change.
    pub mask: u32,
    /// Features to advertise; 0 for no change.
    pub advertise: u32,
}

/// A controller's role.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// 0 no change, 1 equal, 2 master, 3 slave (1.2's numbers).
    pub role: u32,
    /// Generation, if said.
    pub generation_id: Option<u64>,
}

/// Flags of a bundle.
pub mod bundle_flag {
    /// Packets see all of it or nothing.
    pub const ATOMIC: u16 = 1;
    /// Its messages are applied in their order.
    pub const ORDERED: u16 = 1 << 1;
}

/// Bundle control.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BundleCtrl {
    /// Which.
    pub id: u32,
    /// 0 open request, 1 open reply, 2 close request, …, 7 discard reply.
    pub kind: u16,
    /// 1 atomic, 2 ordered.
    pub flags: u16,
}

/// A message for a bundle.
#[derive(Clone, PartialEq, Debug)]
pub struct BundleAdd {
    /// Which.
    pub id: u32,
    /// 1 atomic, 2 ordered.
    pub flags: u16,
    /// The message.
    pub message: Message,
}

/// Who made a switch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SwitchDesc {
    /// Manufacturer, up to 255 bytes.
    pub mfr_desc: String,
    /// Hardware, up to 255 bytes.
    pub hw_desc: String,
    /// Software, up to 255 bytes.
    pub sw_desc: String,
    /// Serial number, up to 31 bytes.
    pub serial_num: String,
    /// Datapath, up to 255 bytes.
    pub dp_desc: String,
}

/// Which flows.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowStatsRequest {
    /// Within this.
    pub match_: Match,
    /// With this cookie in the bits of `cookie_mask`.
    pub cookie: u64,
    /// Bits of the cookie that count.
    pub cookie_mask: u64,
    /// That output to this port; [`OfPort::NONE`] for any.
    pub out_port: OfPort,
    /// That use this group; [`crate::flow_mod::GROUP_ANY`] for any.
    pub out_group: u32,
    /// In this table; [`TableId::ALL`] for all.
    pub table: TableId,
}

/// A flow and its counters. `A` holds the actions, or borrows them to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowStats<A = Vec<Action>> {
    /// Match.
    pub match_: Match,
    /// Cookie.
    pub cookie: u64,
    /// Table.
    pub table: TableId,
    /// Priority.
    pub priority: u16,
    /// Age.
    pub duration: Duration,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Seconds without a packet; `None` if not told.
    pub idle_age: Option<u32>,
    /// Seconds without a change; `None` if not told or the same as `duration`.
    pub hard_age: Option<u32>,
    /// Packets; `u64::MAX` for unknown.
    pub n_packets: u64,
    /// Bytes; `u64::MAX` for unknown.
    pub n_bytes: u64,
    /// Importance.
    pub importance: u16,
    /// Flags.
    pub flags: FlowModFlags,
    /// Actions and instructions.
    pub actions: A,
}

/// What a request does to a flow monitor.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum MonitorCommand {
    /// A new one.
    Add = 0,
    /// In the place of one that is there (1.4+).
    Modify = 1,
    /// It is not wanted any more (1.4+).
    Delete = 2,
}

/// Flags of a flow monitor, as OVS numbers them.
pub mod monitor_flag {
    /// Tell of flows that are there.
    pub const INITIAL: u16 = 1;
    /// Of flows that come.
    pub const ADD: u16 = 1 << 1;
    /// Of flows that go.
    pub const DELETE: u16 = 1 << 2;
    /// Of flows that change.
    pub const MODIFY: u16 = 1 << 3;
    /// With their actions.
    pub const ACTIONS: u16 = 1 << 4;
    /// Own changes in full (1.4+).
    pub const NO_ABBREV: u16 = 1 << 5;
    /// OVS: own changes in full, too. (OpenFlow 1.4 means "own changes only" by this bit, but then OVS's
    /// tools, which set it always, would not hear what others do.)
    pub const OWN: u16 = 1 << 6;
}

/// A request about a flow monitor.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowMonitor {
    /// Tells it from other monitors of the connection.
    pub id: u32,
    /// What to do.
    pub command: MonitorCommand,
    /// [`monitor_flag`] bits.
    pub flags: u16,
    /// Only flows that output to this port; [`OfPort::NONE`] for any.
    pub out_port: OfPort,
    /// Only flows that use this group; [`crate::flow_mod::GROUP_ANY`] for any.
    pub out_group: u32,
    /// Only flows of this table; [`TableId::ALL`] for all.
    pub table: TableId,
    /// Only flows within this.
    pub match_: Match,
}

impl FlowMonitor {
    /// A request to delete a monitor (1.4+).
    pub fn delete(id: u32) -> FlowMonitor {
        FlowMonitor {
            id,
            command: MonitorCommand::Delete,
            flags: 0,
            out_port: OfPort::NONE,
            out_group: crate::flow_mod::GROUP_ANY,
            table: TableId(0),
            match_: Match::ANY,
        }
    }
}

/// What happened to a flow.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum FlowEvent {
    /// It was there before. Before 1.4 this is said as "added".
    Initial,
    /// It came.
    Added,
    /// It went.
    Removed,
    /// It changed.
    Modified,
}

/// One thing that a flow monitor tells.
#[derive(Clone, PartialEq, Debug)]
pub enum FlowUpdate {
    /// A flow.
    Flow(Box<FlowChange>),
    /// The monitor's own connection changed flows by the message with this transaction id.
    Abbrev(u32),
    /// 1.4+: no updates until "resumed": the peer does not read fast enough.
    Paused,
    /// 1.4+: updates go on.
    Resumed,
}

/// What a flow monitor tells of a flow.
#[derive(Clone, PartialEq, Debug)]
pub struct FlowChange {
    /// What happened to it.
    pub event: FlowEvent,
    /// Why it went.
    pub reason: Option<FlowRemovedReason>,
    /// Table.
    pub table: TableId,
    /// Priority.
    pub priority: u16,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Cookie.
    pub cookie: u64,
    /// Match.
    pub match_: Match,
    /// Actions and instructions, if asked for.
    pub actions: Vec<Action>,
}

/// Sums over flows; `u64::MAX` for unknown.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct AggregateStats {
    /// Packets.
    pub n_packets: u64,
    /// Bytes.
    pub n_bytes: u64,
    /// Flows.
    pub n_flows: u32,
}

/// Counters of a port; `u64::MAX` for unknown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Which.
    pub port: OfPort,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// To send and dropped.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Frame alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// CRC errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// Age (1.3+); `None` for unknown.
    pub duration: Option<Duration>,
    /// Nicira's counters beyond (1.4+ property), in OVS's order, if told.
    pub custom: Vec<(String, u64)>,
    /// RFC 2819 counters (1.4+), if told: see `print`.
    pub rfc2819: Option<Box<[u64; 21]>>,
}
