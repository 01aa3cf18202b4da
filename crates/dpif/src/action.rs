//! Datapath actions.
//!
//! [`ActionKind`] names the actions of Linux `openvswitch.h` (`OVS_ACTION_ATTR_*`); [`DpAction`]
//! is what a megaflow holds. Actions act on the packet as the actions before them left it; an
//! empty list drops it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use base::{DpPort, MacAddr, RecircId};
use conntrack::CtRequest;
use flow::PacketKey;

use crate::DropReason;

macro_rules! action_kinds {
    ($($kind:ident = $number:literal, $text:literal, $doc:literal;)*) => {
        /// What an action is, by its number in `openvswitch.h`.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ActionKind {
            $(#[doc = $doc] $kind = $number,)*
        }

        impl ActionKind {
            /// All kinds: kind, the word that begins its text, what it does.
            pub const ALL: &'static [(ActionKind, &'static str, &'static str)] =
                &[$((ActionKind::$kind, $text, $doc),)*];
        }
    };
}

action_kinds! {
    Unspec = 0, "", "No action.";
    Output = 1, "", "Send to a port; the text is its number or name.";
    Userspace = 2, "userspace", "Hand to the slow path with a cookie.";
    Set = 3, "set", "Replace header fields entirely.";
    PushVlan = 4, "push_vlan", "Add an 802.1Q or 802.1ad tag.";
    PopVlan = 5, "pop_vlan", "Remove the outermost VLAN tag.";
    Sample = 6, "sample", "Run nested actions on a share of the packets.";
    Recirc = 7, "recirc", "Look the packet up again with a recirculation id.";
    Hash = 8, "hash", "Compute dp_hash.";
    PushMpls = 9, "push_mpls", "Add an MPLS label stack entry.";
    PopMpls = 10, "pop_mpls", "Remove the outermost MPLS label stack entry.";
    SetMasked = 11, "set", "Replace some bits of header fields.";
    Ct = 12, "ct", "Send through the connection tracker.";
    Trunc = 13, "trunc", "Cut the packet at its next output.";
    PushEth = 14, "push_eth", "Add an Ethernet header.";
    PopEth = 15, "pop_eth", "Remove the Ethernet header.";
    CtClear = 16, "ct_clear", "Forget the connection tracker's verdict.";
    PushNsh = 17, "push_nsh", "Add a network service header.";
    PopNsh = 18, "pop_nsh", "Remove the network service header.";
    Meter = 19, "meter", "Drop what exceeds a rate.";
    Clone = 20, "clone", "Run nested actions on a copy.";
    CheckPktLen = 21, "check_pkt_len", "Branch on the length of the packet.";
    AddMpls = 22, "add_mpls", "Add an MPLS label stack entry at L2 or L3.";
    DecTtl = 23, "dec_ttl", "Decrement the TTL or run nested actions if it is spent.";
    TunnelPush = 24, "tnl_push", "Add prepared tunnel headers.";
    TunnelPop = 25, "tnl_pop", "Remove tunnel headers and look up again.";
    Drop = 26, "drop", "Drop, for a reason.";
    LbOutput = 27, "lb_output", "Send to the bond member that dp_hash chooses.";
}

/// One datapath action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DpAction {
    /// Send to a port.
    Output(DpPort),
    /// Hand to [`crate::SlowPath::userspace`].
    Userspace(Box<UserspaceCookie>),
    /// Overwrite the bits of `mask` in one group of fields.
    Set(Box<SetMasked>),
    /// Add a VLAN tag. The VID and PCP are those of `tci`.
    PushVlan {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// PCP and VID; [`flow::VLAN_PRESENT`] is ignored.
        tci: u16,
    },
    /// Remove the outermost VLAN tag, if there is one.
    PopVlan,
    /// Add an MPLS label stack entry.
    PushMpls {
        /// 0x8847 or 0x8848.
        ethertype: u16,
        /// The whole label stack entry.
        lse: u32,
    },
    /// Remove the outermost label; the EtherType becomes `ethertype`.
    PopMpls {
        /// EtherType of what is beneath.
        ethertype: u16,
    },
    /// Add an Ethernet header.
    PushEth {
        /// Destination.
        dst: MacAddr,
        /// Source.
        src: MacAddr,
    },
    /// Remove the Ethernet header.
    PopEth,
    /// Add a label stack entry before everything; the packet becomes MPLS without Ethernet.
    AddMpls {
        /// 0x8847 or 0x8848.
        ethertype: u16,
        /// The whole label stack entry.
        lse: u32,
    },
    /// Add a network service header before everything.
    PushNsh(Box<NshHeader>),
    /// Remove the network service header.
    PopNsh,
    /// Look the packet up again with this id.
    Recirc(RecircId),
    /// Compute `dp_hash`.
    Hash {
        /// How.
        alg: HashAlg,
        /// Added to the hash.
        basis: u32,
    },
    /// Send through the connection tracker; the verdict goes into the key's `ct_*` fields.
    /// [`CtRequest::prior`] is the datapath's to fill.
    Ct(Box<CtRequest>),
    /// Forget the connection tracker's verdict.
    CtClear,
    /// The next output sends at most this many bytes.
    Trunc(u32),
    /// Run these on a copy; the packet goes on unchanged.
    Clone(Box<[DpAction]>),
    /// Run these on a copy of the share `probability` / 2^32 of the packets.
    Sample {
        /// `u32::MAX` is "always".
        probability: u32,
        /// What to run.
        actions: Box<[DpAction]>,
    },
    /// Drop what exceeds the meter of this number.
    Meter(u32),
    /// Branch on the frame's length.
    CheckPktLen {
        /// Longest frame, in bytes, that is not "greater".
        len: u16,
        /// For longer frames.
        greater: Box<[DpAction]>,
        /// For the others.
        less_or_equal: Box<[DpAction]>,
    },
    /// Drop and count the reason.
    Drop(DropReason),
}

impl DpAction {
    /// The action for the packets that a meter lets pass, if there is one, on a copy of each.
    #[must_use]
    pub fn metered(self, meter: Option<u32>) -> DpAction {
        match meter {
            Some(number) => DpAction::Sample {
                probability: u32::MAX,
                actions: [DpAction::Meter(number), self].into(),
            },
            None => self,
        }
    }

    /// Which kind of action this is.
    pub fn kind(&self) -> ActionKind {
        match self {
            DpAction::Output(_) => ActionKind::Output,
            DpAction::Userspace(_) => ActionKind::Userspace,
            DpAction::Set(_) => ActionKind::SetMasked,
            DpAction::PushVlan { .. } => ActionKind::PushVlan,
            DpAction::PopVlan => ActionKind::PopVlan,
            DpAction::PushMpls { .. } => ActionKind::PushMpls,
            DpAction::PopMpls { .. } => ActionKind::PopMpls,
            DpAction::PushEth { .. } => ActionKind::PushEth,
            DpAction::PopEth => ActionKind::PopEth,
            DpAction::AddMpls { .. } => ActionKind::AddMpls,
            DpAction::PushNsh(_) => ActionKind::PushNsh,
            DpAction::PopNsh => ActionKind::PopNsh,
            DpAction::Recirc(_) => ActionKind::Recirc,
            DpAction::Hash { .. } => ActionKind::Hash,
            DpAction::Ct(_) => ActionKind::Ct,
            DpAction::CtClear => ActionKind::CtClear,
            DpAction::Trunc(_) => ActionKind::Trunc,
            DpAction::Clone(_) => ActionKind::Clone,
            DpAction::Sample { .. } => ActionKind::Sample,
            DpAction::Meter(_) => ActionKind::Meter,
            DpAction::CheckPktLen { .. } => ActionKind::CheckPktLen,
            DpAction::Drop(_) => ActionKind::Drop,
        }
    }
}

/// A network service header (RFC 8300 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NshHeader {
    /// O bit and reserved bits.
    pub flags: u8,
    /// TTL.
    pub ttl: u8,
    /// Metadata type, 1 or 2.
    pub mdtype: u8,
    /// Next protocol.
    pub np: u8,
    /// Service path id (24 bits) and index (8 bits).
    pub path: u32,
    /// Context headers of metadata type 1.
    pub context: [u32; 4],
    /// Context headers of metadata type 2, a multiple of 4 bytes.
    pub tlvs: Box<[u8]>,
}

/// The groups of fields that one set action can change.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetGroup {
    /// `skb_priority`.
    SkbPriority,
    /// `pkt_mark`.
    SkbMark,
    /// Tunnel metadata for the output that follows.
    Tunnel,
    /// `dl_src`, `dl_dst`.
    Eth,
    /// The outermost label stack entry, `mpls_lse[0]`.
    Mpls,
    /// Flags, TTL, path and context of the network service header.
    Nsh,
    /// `nw_src`, `nw_dst`, `nw_tos`, `nw_ttl` of IPv4.
    Ipv4,
    /// `ipv6_src`, `ipv6_dst`, `ipv6_label`, `nw_tos`, `nw_ttl` of IPv6.
    Ipv6,
    /// `nw_proto` (opcode), `nw_src`, `nw_dst`, `arp_sha`, `arp_tha` of ARP.
    Arp,
    /// `nd_target`, `arp_sha`, `arp_tha` of neighbour discovery.
    Nd,
    /// `nd_reserved`, `nd_options_type` of neighbour discovery.
    NdExtensions,
    /// `tp_src`, `tp_dst` of TCP.
    Tcp,
    /// `tp_src`, `tp_dst` of UDP.
    Udp,
    /// `tp_src`, `tp_dst` of SCTP.
    Sctp,
    /// `tp_src` (type), `tp_dst` (code) of ICMP and ICMPv6.
    Icmp,
}

/// A set action. Only the group's fields are looked at; `value` has no bit outside `mask`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMasked {
    /// Which header.
    pub group: SetGroup,
    /// New bits.
    pub value: PacketKey,
    /// Which bits are new.
    pub mask: PacketKey,
}

/// How `dp_hash` is computed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashAlg {
    /// Over the five-tuple (`hash_l4`).
    L4,
    /// Over the five-tuple, the same for both directions (`sym_l4`).
    SymL4,
}

/// Why a packet is wanted in userspace, and what it needs to know there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserspaceCookie {
    /// For the slow path to process each packet of the flow itself.
    SlowPath(SlowReason),
    /// For a controller.
    Controller(ControllerCookie),
    /// sFlow sample.
    SFlow {
        /// TCI of the output.
        vlan_tci: u16,
        /// Encoded output interface.
        output: u32,
    },
    /// IPFIX sample on a bridge.
    Ipfix {
        /// Output port, if the sample is taken there.
        output: Option<DpPort>,
    },
}

/// What makes a packet-in of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ControllerCookie {
    /// OpenFlow packet-in reason.
    pub reason: u8,
    /// Do not send it: only for a continuation.
    pub dont_send: bool,
    /// The pipeline waits for the controller (NXT_PACKET_IN2 continuation).
    pub continuation: bool,
    /// Names the frozen state: bridge, table, registers, metadata.
    pub recirc_id: RecircId,
    /// Cookie of the rule.
    pub rule_cookie: u64,
    /// Controller to send to; 0 for all.
    pub controller_id: u16,
    /// Most bytes of the packet to send.
    pub max_len: u16,
    /// Opaque data of the action, for the controller.
    pub userdata: Option<Arc<[u8]>>,
}

macro_rules! slow_reasons {
    ($($reason:ident, $text:literal, $doc:literal;)*) => {
        /// Why each packet of a flow needs the slow path.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum SlowReason {
            $(#[doc = $doc] $reason,)*
        }

        impl SlowReason {
            /// All reasons: reason, its word in flow dumps, what it means.
            pub const ALL: &'static [(SlowReason, &'static str, &'static str)] =
                &[$((SlowReason::$reason, $text, $doc),)*];
        }
    };
}

impl SlowReason {
    /// What it means, in a sentence.
    pub fn doc(self) -> &'static str {
        Self::ALL[self as usize].2
    }
}

slow_reasons! {
    Cfm, "cfm", "Consists of CFM packets.";
    Bfd, "bfd", "Consists of BFD packets.";
    Lacp, "lacp", "Consists of LACP packets.";
    Stp, "stp", "Consists of STP packets.";
    Lldp, "lldp", "Consists of LLDP packets.";
    Action, "action", "Uses action(s) not supported by datapath.";
    Match, "match", "Datapath can't match specifically enough.";
    Controller, "controller", "Sends packets to a controller.";
}
