//! Actions and instructions.
//!
//! [`Action`] says what is meant, whichever version said it. Instructions (`goto_table`,
//! `write_actions`, …) are actions here, as `ovs-ofctl` writes them; the codec sorts them into
//! instructions where the version has them. Source: OpenFlow 1.5.1 §5.5 to 5.8, `ovs-actions(7)`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use base::{MacAddr, OfPort, TableId};
use flow::FieldId;
use flow::tun_metadata::OptionMatch;

use crate::subfield::Subfield;

pub mod check;
pub mod decode;
pub mod encode;
mod encode_long;
pub mod table;
pub mod verify;

pub use encode::OptionLens;

/// An action or an instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send to a port. `max_len` counts only for the controller: bytes of the packet to send it.
    Output {
        /// Where to.
        port: OfPort,
        /// Bytes for a controller; 0xffff is the whole packet.
        max_len: u16,
    },
    /// Send to the port whose number is in a field.
    OutputReg {
        /// Where the number is.
        src: Subfield,
        /// Bytes for a controller.
        max_len: u16,
    },
    /// Send the first `max_len` bytes to a port.
    OutputTrunc {
        /// Where to.
        port: OfPort,
        /// Bytes to send, at least 14.
        max_len: u32,
    },
    /// Send to controllers, with details.
    Controller(Box<ControllerAction>),
    /// Send through a queue of a port.
    Enqueue {
        /// Where to.
        port: OfPort,
        /// Which queue.
        queue: u32,
    },
    /// Process through a group.
    Group(u32),
    /// Choose one of several ports by hash.
    Bundle(Box<BundleAction>),

    /// Set the VLAN id.
    SetVlanVid {
        /// 12 bits.
        vid: u16,
        /// Push a tag if there is none (`mod_vlan_vid` of 1.0).
        push: bool,
    },
    /// Set the VLAN priority.
    SetVlanPcp {
        /// 3 bits.
        pcp: u8,
        /// Push a tag if there is none (`mod_vlan_pcp` of 1.0).
        push: bool,
    },
    /// Remove the outermost VLAN tag, if any.
    StripVlan,
    /// Push a VLAN tag with this TPID, 0x8100 or 0x88a8.
    PushVlan(u16),
    /// `mod_dl_src`
    SetEthSrc(MacAddr),
    /// `mod_dl_dst`
    SetEthDst(MacAddr),
    /// `mod_nw_src`
    SetIpv4Src(Ipv4Addr),
    /// `mod_nw_dst`
    SetIpv4Dst(Ipv4Addr),
    /// `mod_nw_tos`: DSCP in the high 6 bits, the low 2 zero.
    SetNwTos(u8),
    /// `mod_nw_ecn`
    SetNwEcn(u8),
    /// `mod_nw_ttl`
    SetNwTtl(u8),
    /// `mod_tp_src`
    SetL4Src(u16),
    /// `mod_tp_dst`
    SetL4Dst(u16),
    /// Set the bits `mask` of a field. `value` has no bit outside `mask`.
    SetField {
        /// Which field.
        field: FieldId,
        /// New bits.
        value: u128,
        /// Bits to set; the field's [`flow::Field::wire_ones`] for the whole.
        mask: u128,
    },
    /// `set_field` of a `tun_metadata` field, which may be longer than other fields.
    SetTunOption {
        /// Number of the field.
        index: u8,
        /// New bits.
        option: Box<OptionMatch>,
    },
    /// Set a part of a field.
    Load {
        /// Where.
        dst: Subfield,
        /// What, right-aligned.
        value: u128,
    },
    /// Copy between parts of fields of the same width.
    Move {
        /// From.
        src: Subfield,
        /// To.
        dst: Subfield,
    },
    /// Push a part of a field on the stack.
    StackPush(Subfield),
    /// Pop the stack into a part of a field.
    StackPop(Subfield),
    /// Decrement the IP TTL; packets whose TTL ends go to these controller ids.
    DecTtl(Vec<u16>),
    /// `set_mpls_label`
    SetMplsLabel(u32),
    /// `set_mpls_tc`
    SetMplsTc(u8),
    /// `set_mpls_ttl`
    SetMplsTtl(u8),
    /// `dec_mpls_ttl`
    DecMplsTtl,
    /// Push a label stack entry with this EtherType.
    PushMpls(u16),
    /// Pop a label stack entry; the rest has this EtherType.
    PopMpls(u16),
    /// Push a header.
    Encap(Box<EncapAction>),
    /// Remove the outermost header; what follows has this packet type (`None`: see for yourself).
    Decap(Option<u32>),
    /// `dec_nsh_ttl`
    DecNshTtl,
    /// Set the tunnel id.
    SetTunnel {
        /// The id.
        id: u64,
        /// Said in the 64-bit form.
        wide: bool,
    },
    /// Choose the queue for later outputs.
    SetQueue(u32),
    /// Back to the default queue.
    PopQueue,
    /// Set a bit when the packet is longer than a number of bytes.
    CheckPktLarger {
        /// Bytes without the Ethernet header's CRC.
        len: u16,
        /// One bit.
        dst: Subfield,
    },
    /// Clear a field (tunnel metadata).
    DeleteField(FieldId),

    /// Look the packet up again.
    Resubmit {
        /// With this in_port instead; `None` keeps it.
        port: Option<OfPort>,
        /// In this table; `None` is the current one.
        table: Option<TableId>,
        /// With source and destination swapped for those of the connection's original direction.
        with_ct: bool,
    },
    /// Connection tracking.
    Ct(Box<CtAction>),
    /// Forget what connection tracking said.
    CtClear,
    /// Translate addresses (inside `ct`'s text only as [`CtAction::nat`]).
    Nat(Box<NatAction>),
    /// Add or change a flow from the packet.
    Learn(Box<LearnAction>),
    /// One part of a conjunctive match.
    Conjunction {
        /// Of which conjunction.
        id: u32,
        /// 0-based dimension.
        clause: u8,
        /// Dimensions in all, 2 to 64.
        n_clauses: u8,
    },
    /// Choose a link by hash.
    Multipath(Box<MultipathAction>),
    /// Bytes that mean nothing.
    Note(Vec<u8>),
    /// Stop here.
    Exit,
    /// Do these on a copy.
    Clone(Vec<Action>),
    /// Send a sample to collectors.
    Sample(Box<SampleAction>),
    /// Shorten timeouts on TCP FIN or RST. Seconds.
    FinTimeout {
        /// Idle timeout, 0 for unchanged.
        idle: u16,
        /// Hard timeout, 0 for unchanged.
        hard: u16,
    },
    /// `debug_recirc`, for tests.
    DebugRecirc,
    /// `debug_slow`, for tests.
    DebugSlow,
    /// Resume state of a frozen pipeline, for `NXT_RESUME`.
    UnrollXlate {
        /// Table of the rule.
        table: TableId,
        /// Cookie of the rule.
        cookie: u64,
    },

    /// Instruction: pass a meter.
    Meter(u32),
    /// Instruction: empty the action set.
    ClearActions,
    /// Instruction: merge into the action set.
    WriteActions(Vec<Action>),
    /// Instruction: set the metadata's bits `mask`.
    WriteMetadata {
        /// New bits.
        value: u64,
        /// Bits to set.
        mask: u64,
    },
    /// Instruction: continue in a later table.
    GotoTable(TableId),
}

/// Why a packet goes to a controller. Numbers are OpenFlow 1.4's.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum PacketInReason {
    /// No matching flow.
    NoMatch = 0,
    /// An output to the controller.
    #[default]
    Action = 1,
    /// TTL ran out.
    InvalidTtl = 2,
    /// An output in an action set.
    ActionSet = 3,
    /// An output in a group's bucket.
    Group = 4,
    /// An output in a packet-out.
    PacketOut = 5,
    /// No match in a table whose miss entry is explicit.
    ExplicitMiss = 6,
    /// No match in a table whose miss entry is implicit.
    ImplicitMiss = 7,
}

impl PacketInReason {
    /// Names, in order of their numbers.
    pub const NAMES: [&'static str; 8] = [
        "no_match",
        "action",
        "invalid_ttl",
        "action_set",
        "group",
        "packet_out",
        "explicit_miss",
        "implicit_miss",
    ];
    const ALL: [PacketInReason; 8] = [
        PacketInReason::NoMatch,
        PacketInReason::Action,
        PacketInReason::InvalidTtl,
        PacketInReason::ActionSet,
        PacketInReason::Group,
        PacketInReason::PacketOut,
        PacketInReason::ExplicitMiss,
        PacketInReason::ImplicitMiss,
    ];

    /// The reason with this number.
    pub fn from_wire(v: u8) -> Option<PacketInReason> {
        Self::ALL.get(usize::from(v)).copied()
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<PacketInReason> {
        Self::NAMES.iter().position(|n| *n == name).map(|i| Self::ALL[i])
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// `controller(…)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerAction {
    /// Bytes of the packet to send; 0xffff is all.
    pub max_len: u16,
    /// Controller id.
    pub controller_id: u16,
    /// Why.
    pub reason: PacketInReason,
    /// Opaque bytes returned with the packet.
    pub userdata: Vec<u8>,
    /// Stop the pipeline until the controller resumes it.
    pub pause: bool,
    /// Rate-limiting meter; `None` for the default.
    pub meter: Option<u32>,
}

impl Default for ControllerAction {
    fn default() -> Self {
        ControllerAction {
            max_len: u16::MAX,
            controller_id: 0,
            reason: PacketInReason::Action,
            userdata: Vec::new(),
            pause: false,
            meter: None,
        }
    }
}

/// The zone of a `ct` action.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CtZone {
    /// A number.
    Imm(u16),
    /// In a field of 16 bits.
    Field(Subfield),
}

impl Default for CtZone {
    fn default() -> Self {
        CtZone::Imm(0)
    }
}

/// A helper for protocols that open further connections. The number is its port.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum CtAlg {
    /// FTP
    Ftp = 21,
    /// TFTP
    Tftp = 69,
}

/// `ct(…)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CtAction {
    /// Remember the connection.
    pub commit: bool,
    /// Replace a connection of the other direction.
    pub force: bool,
    /// In which zone.
    pub zone: CtZone,
    /// Send a copy through the tracker and on to this table.
    pub recirc_table: Option<TableId>,
    /// Helper.
    pub alg: Option<CtAlg>,
    /// Address translation.
    pub nat: Option<NatAction>,
    /// How many of `exec` come before `nat`.
    pub nat_at: u16,
    /// Sets of `ct_mark` and `ct_label`.
    pub exec: Vec<Action>,
}

/// `nat(…)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NatAction {
    /// Translate what; `None` only translates packets of translated connections.
    pub kind: Option<NatKind>,
    /// Keep the choice over restarts.
    pub persistent: bool,
    /// Choose the port by hash.
    pub hash: bool,
    /// Choose the port at random.
    pub random: bool,
    /// Addresses to choose from.
    pub addr: NatAddr,
    /// Ports to choose from; the second is `None` for one port.
    pub ports: Option<(u16, Option<u16>)>,
}

/// Which side NAT rewrites.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum NatKind {
    /// `src=`
    Src,
    /// `dst=`
    Dst,
}

/// Addresses for NAT. The second is `None` for one address.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum NatAddr {
    /// None given.
    #[default]
    Unspec,
    /// IPv4.
    V4(Ipv4Addr, Option<Ipv4Addr>),
    /// IPv6.
    V6(Ipv6Addr, Option<Ipv6Addr>),
}

/// `learn(…)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnAction {
    /// Seconds; 0 for none.
    pub idle_timeout: u16,
    /// Seconds; 0 for none.
    pub hard_timeout: u16,
    /// Priority of the flow.
    pub priority: u16,
    /// Cookie of the flow.
    pub cookie: u64,
    /// Table of the flow.
    pub table: TableId,
    /// Seconds after FIN or RST; 0 for none.
    pub fin_idle_timeout: u16,
    /// Seconds after FIN or RST; 0 for none.
    pub fin_hard_timeout: u16,
    /// The learned flow tells its removal.
    pub send_flow_rem: bool,
    /// Learned flows go with this one.
    pub delete_learned: bool,
    /// Most flows with this cookie in the table; 0 for any number.
    pub limit: u32,
    /// A bit that tells whether the flow is there.
    pub result_dst: Option<Subfield>,
    /// What the flow matches and does.
    pub specs: Vec<LearnSpec>,
}

impl Default for LearnAction {
    fn default() -> Self {
        LearnAction {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 0x8000,
            cookie: 0,
            table: TableId(1),
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            send_flow_rem: false,
            delete_learned: false,
            limit: 0,
            result_dst: None,
            specs: Vec::new(),
        }
    }
}

/// One clause of `learn`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct LearnSpec {
    /// Bits copied.
    pub n_bits: u16,
    /// From where.
    pub src: LearnSrc,
    /// To where.
    pub dst: LearnDst,
}

/// Where `learn` takes bits from.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LearnSrc {
    /// The packet.
    Field(Subfield),
    /// A constant.
    Value(u128),
}

/// Where `learn` puts bits.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum LearnDst {
    /// The learned flow's match.
    Match(Subfield),
    /// A load among its actions.
    Load(Subfield),
    /// An output among its actions.
    Output,
}

/// Which fields a hash covers.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum HashFields {
    /// `eth_src`
    EthSrc = 0,
    /// `symmetric_l4`
    SymmetricL4 = 1,
    /// `symmetric_l3l4`
    SymmetricL3L4 = 2,
    /// `symmetric_l3l4+udp`
    SymmetricL3L4Udp = 3,
    /// `nw_src`
    NwSrc = 4,
    /// `nw_dst`
    NwDst = 5,
    /// `symmetric_l3`
    SymmetricL3 = 6,
}

impl HashFields {
    /// All, in order of their numbers.
    pub const ALL: [HashFields; 7] = [
        HashFields::EthSrc,
        HashFields::SymmetricL4,
        HashFields::SymmetricL3L4,
        HashFields::SymmetricL3L4Udp,
        HashFields::NwSrc,
        HashFields::NwDst,
        HashFields::SymmetricL3,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        [
            "eth_src",
            "symmetric_l4",
            "symmetric_l3l4",
            "symmetric_l3l4+udp",
            "nw_src",
            "nw_dst",
            "symmetric_l3",
        ][self as usize]
    }
}

/// Names of [`MultipathAction::algorithm`].
pub const MULTIPATH_ALGORITHMS: [&str; 4] = ["modulo_n", "hash_threshold", "hrw", "iter_hash"];

/// Names of [`BundleAction::algorithm`].
pub const BUNDLE_ALGORITHMS: [&str; 2] = ["active_backup", "hrw"];

/// `multipath(…)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MultipathAction {
    /// What is hashed.
    pub fields: HashFields,
    /// Basis of the hash.
    pub basis: u16,
    /// Place in [`MULTIPATH_ALGORITHMS`].
    pub algorithm: u16,
    /// Number of links less one.
    pub max_link: u16,
    /// Argument of `iter_hash`.
    pub arg: u32,
    /// Where the link number goes.
    pub dst: Subfield,
}

/// `bundle(…)` and `bundle_load(…)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleAction {
    /// What is hashed.
    pub fields: HashFields,
    /// Basis of the hash.
    pub basis: u16,
    /// Place in [`BUNDLE_ALGORITHMS`].
    pub algorithm: u16,
    /// Ports to choose from.
    pub members: Vec<OfPort>,
    /// Load the port's number instead of sending to it.
    pub dst: Option<Subfield>,
}

/// `sample(…)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SampleAction {
    /// Of 65,535.
    pub probability: u16,
    /// Collector set.
    pub collector_set_id: u32,
    /// Observation domain.
    pub obs_domain_id: u32,
    /// Where the observation domain is instead, at most 32 bits.
    pub obs_domain_src: Option<Subfield>,
    /// Observation point.
    pub obs_point_id: u32,
    /// Where the observation point is instead, at most 32 bits.
    pub obs_point_src: Option<Subfield>,
    /// Output port that is sampled; 0xffff for none.
    pub sampling_port: OfPort,
    /// 0 none, 1 `ingress`, 2 `egress`.
    pub direction: u8,
}

/// Headers that can be pushed, with their packet types.
pub const ENCAP_HEADERS: [(&str, u32); 4] =
    [("ethernet", 0), ("nsh", 0x1_894f), ("mpls", 0x1_8847), ("mpls_mc", 0x1_8848)];

/// The packet type that says: see for yourself (`PT_USE_NEXT_PROTO`).
pub const USE_NEXT_PROTO: u32 = 0xfffe;

/// `encap(…)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncapAction {
    /// Packet type of the new header.
    pub packet_type: u32,
    /// Bytes of header to reserve, 0 for the usual.
    pub hdr_size: u16,
    /// Properties.
    pub props: Vec<EncapProp>,
}

/// A property of `encap`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EncapProp {
    /// `nsh(md_type=…)`
    NshMdType(u8),
    /// `nsh(tlv(class,type,value))`
    NshTlv {
        /// Class.
        class: u16,
        /// Type.
        kind: u8,
        /// Bytes.
        data: Vec<u8>,
    },
}

/// Whether packets can be output to a port: a switch can have it, or it is reserved for that.
pub fn is_out_port(port: OfPort) -> bool {
    let reserved = matches!(
        port,
        OfPort::IN_PORT
            | OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::LOCAL
    );
    reserved || port < OfPort::MAX
}

impl ControllerAction {
    /// Whether a plain output to the controller says as much.
    pub fn is_plain(&self) -> bool {
        self.reason == PacketInReason::Action
            && self.controller_id == 0
            && self.userdata.is_empty()
            && !self.pause
            && self.meter.is_none()
    }
}

impl Action {
    /// Its name, in text and in texts of errors.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Output { .. } => "output",
            Action::OutputReg { .. } => "output_reg",
            Action::OutputTrunc { .. } => "output_trunc",
            Action::Controller(_) => "controller",
            Action::Enqueue { .. } => "enqueue",
            Action::Group(_) => "group",
            Action::Bundle(_) => "bundle",
            Action::SetVlanVid { .. } => "set_vlan_vid",
            Action::SetVlanPcp { .. } => "set_vlan_pcp",
            Action::StripVlan => "strip_vlan",
            Action::PushVlan(_) => "push_vlan",
            Action::SetEthSrc(_) => "mod_dl_src",
            Action::SetEthDst(_) => "mod_dl_dst",
            Action::SetIpv4Src(_) => "mod_nw_src",
            Action::SetIpv4Dst(_) => "mod_nw_dst",
            Action::SetNwTos(_) => "mod_nw_tos",
            Action::SetNwEcn(_) => "mod_nw_ecn",
            Action::SetNwTtl(_) => "mod_nw_ttl",
            Action::SetL4Src(_) => "mod_tp_src",
            Action::SetL4Dst(_) => "mod_tp_dst",
            Action::SetField { .. } | Action::SetTunOption { .. } | Action::Load { .. } => {
                "set_field"
            }
            Action::Move { .. } => "move",
            Action::StackPush(_) => "push",
            Action::StackPop(_) => "pop",
            Action::DecTtl(_) => "dec_ttl",
            Action::SetMplsLabel(_) => "set_mpls_label",
            Action::SetMplsTc(_) => "set_mpls_tc",
            Action::SetMplsTtl(_) => "set_mpls_ttl",
            Action::DecMplsTtl => "dec_mpls_ttl",
            Action::PushMpls(_) => "push_mpls",
            Action::PopMpls(_) => "pop_mpls",
            Action::Encap(_) => "encap",
            Action::Decap(_) => "decap",
            Action::DecNshTtl => "dec_nsh_ttl",
            Action::SetTunnel { .. } => "set_tunnel",
            Action::SetQueue(_) => "set_queue",
            Action::PopQueue => "pop_queue",
            Action::CheckPktLarger { .. } => "check_pkt_larger",
            Action::DeleteField(_) => "delete_field",
            Action::Resubmit { .. } => "resubmit",
            Action::Ct(_) => "ct",
            Action::CtClear => "ct_clear",
            Action::Nat(_) => "nat",
            Action::Learn(_) => "learn",
            Action::Conjunction { .. } => "conjunction",
            Action::Multipath(_) => "multipath",
            Action::Note(_) => "note",
            Action::Exit => "exit",
            Action::Clone(_) => "clone",
            Action::Sample(_) => "sample",
            Action::FinTimeout { .. } => "fin_timeout",
            Action::DebugRecirc => "debug_recirc",
            Action::DebugSlow => "debug_slow",
            Action::UnrollXlate { .. } => "unroll_xlate",
            Action::Meter(_) => "meter",
            Action::ClearActions => "clear_actions",
            Action::WriteActions(_) => "write_actions",
            Action::WriteMetadata { .. } => "write_metadata",
            Action::GotoTable(_) => "goto_table",
        }
    }

    /// Whether every port that it outputs to is one a switch can have, or reserved for that.
    pub fn has_good_ports(&self) -> bool {
        match self {
            Action::Output { port, .. }
            | Action::OutputTrunc { port, .. }
            | Action::Enqueue { port, .. } => is_out_port(*port),
            Action::WriteActions(nested) | Action::Clone(nested) => {
                nested.iter().all(Action::has_good_ports)
            }
            _ => true,
        }
    }

    /// Whether an action set does it. Others are refused in `write_actions` and passed over in the
    /// buckets of groups.
    pub fn fits_action_set(&self) -> bool {
        !matches!(
            self,
            Action::OutputReg { .. }
                | Action::OutputTrunc { .. }
                | Action::Controller(_)
                | Action::Enqueue { .. }
                | Action::Bundle(_)
                | Action::StackPush(_)
                | Action::StackPop(_)
                | Action::PopQueue
                | Action::CheckPktLarger { .. }
                | Action::DeleteField(_)
                | Action::Nat(_)
                | Action::Learn(_)
                | Action::Conjunction { .. }
                | Action::Multipath(_)
                | Action::Note(_)
                | Action::Exit
                | Action::Clone(_)
                | Action::Sample(_)
                | Action::FinTimeout { .. }
                | Action::DebugRecirc
                | Action::DebugSlow
                | Action::UnrollXlate { .. }
                | Action::Meter(_)
        ) && !self.is_instruction()
    }

    /// Whether 1.1+ has it as an instruction (`meter` until 1.4).
    pub fn is_instruction(&self) -> bool {
        matches!(
            self,
            Action::Meter(_)
                | Action::ClearActions
                | Action::WriteActions(_)
                | Action::WriteMetadata { .. }
                | Action::GotoTable(_)
        )
    }
}
