//! What a `ct` action asks, and what the tracker answers.

use crate::nat::{NatRequest, Translation};
use crate::{CtState, Dir, Directed, Helper};
use base::Zone;

/// What a `ct` action wants done with the packet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CtRequest {
    /// The zone to look in.
    pub zone: Zone,
    /// Remember a new connection.
    pub commit: bool,
    /// With `commit`: a connection in the wrong direction is replaced by one in this direction.
    pub force: bool,
    /// With `commit`: value and mask for the connection's mark.
    pub mark: Option<(u32, u32)>,
    /// With `commit`: value and mask for the connection's label.
    pub label: Option<(u128, u128)>,
    /// With `commit` of a new connection: its timeout policy, if policies [cover](crate::TimeoutPolicy::covers)
    /// its protocol; `None` takes the defaults.
    pub timeout_policy: Option<PolicyId>,
    /// Translate addresses and ports.
    pub nat: Option<NatRequest>,
    /// With `commit` of a new connection of its protocol: what reads its packets from now on.
    pub helper: Option<Helper>,
    /// The connection and state ([`CtInfo::conn`], [`CtInfo::state`]) that an earlier `ct` action
    /// gave this same packet. If that is the connection the packet belongs to in this zone, the
    /// packet keeps the state and is not run through the state machine and counted again.
    pub prior: Option<(ConnId, CtState)>,
}

impl CtRequest {
    /// Looks in zone 0 and changes nothing: the default.
    pub const LOOK: CtRequest = CtRequest {
        zone: Zone(0),
        commit: false,
        force: false,
        mark: None,
        label: None,
        timeout_policy: None,
        nat: None,
        helper: None,
        prior: None,
    };
}

/// A timeout policy set by [`crate::Conntrack::set_policy`]; 0 is the default policy.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PolicyId(pub u16);

/// A connection for as long as it lives: shard, slot and generation, never given twice within 2³²
/// re-uses of the slot.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) shard: u16,
}

impl ConnId {
    /// As one number: slot, shard, and what is left for the generation, from the low bits on 32, 16
    /// and 16. Connections that live at the same time differ.
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 48 | (self.shard as u64) << 32 | self.slot as u64
    }

    /// Which shard it lives in.
    pub const fn shard(self) -> usize {
        self.shard as usize
    }

    /// Slot and generation, from the low bits on 32 each, and the shard.
    pub const fn to_parts(self) -> (u64, u16) {
        ((self.generation as u64) << 32 | self.slot as u64, self.shard)
    }

    /// The reverse of [`ConnId::to_parts`].
    pub const fn from_parts(id: u64, shard: u16) -> ConnId {
        ConnId { slot: id as u32, generation: (id >> 32) as u32, shard }
    }
}

/// What happened to the table because of the packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Nothing but the state machine and counters of an existing connection, or nothing at all.
    #[default]
    None,
    /// A connection was committed.
    Inserted,
    /// The connection's mark, label or protocol state changed.
    Updated,
    /// A commit was refused because the table holds `max_conns`, and none of those looked at may go.
    TableFull,
    /// A commit was refused because the zone holds as many as it may.
    ZoneFull,
    /// A commit was refused because no tuple was free to translate to. The packet must not go on
    /// as it is.
    NatExhausted,
}

/// The tracker's answer: what goes into the packet's `ct_*` fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CtInfo {
    /// `ct_state`.
    pub state: CtState,
    /// `ct_zone`; 0 for an untracked packet.
    pub zone: Zone,
    /// `ct_mark`.
    pub mark: u32,
    /// `ct_label`.
    pub label: u128,
    /// The original direction tuple (`ct_nw_src` … `ct_tp_dst`); `None` if untracked or invalid.
    pub orig: Option<Directed>,
    /// Direction within the connection.
    pub dir: Dir,
    /// The committed connection, if any.
    pub conn: Option<ConnId>,
    /// Why `inv` is set.
    pub invalid: Option<InvalidReason>,
    /// What happened to the table.
    pub outcome: Outcome,
    /// What to change in the packet.
    pub nat: Option<Translation>,
}

impl CtInfo {
    /// Not tracked.
    pub const UNTRACKED: CtInfo = CtInfo {
        state: CtState::UNTRACKED,
        zone: Zone(0),
        mark: 0,
        label: 0,
        orig: None,
        dir: Dir::Orig,
        conn: None,
        invalid: None,
        outcome: Outcome::None,
        nat: None,
    };

    /// `inv` with its reason.
    pub const fn invalid(zone: Zone, reason: InvalidReason) -> CtInfo {
        CtInfo { state: CtState::INVALID, zone, invalid: Some(reason), ..CtInfo::UNTRACKED }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $id:ident $name:literal $text:literal;)*) => {
        /// Why a packet is `inv`. Each reason is a counter and a trace line.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum InvalidReason {
            $(#[doc = $text] $id,)*
        }

        impl InvalidReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[InvalidReason] = &[$(InvalidReason::$id,)*];

            /// Short name for counters.
            pub const fn name(self) -> &'static str {
                match self { $(InvalidReason::$id => $name,)* }
            }

            /// One sentence for a person.
            pub const fn text(self) -> &'static str {
                match self { $(InvalidReason::$id => $text,)* }
            }
        }
    };
}

reasons! {
    NotIp "not_ip" "Neither IPv4 nor IPv6, as far as the headers can be read: only those are tracked.";
    Truncated "truncated" "The packet ends before its headers do.";
    BadHeader "bad_header" "A header contradicts itself: version, length or offset.";
    Fragment "fragment" "An IP fragment, which cannot be tracked without reassembly.";
    FragmentSmall "fragment_small" "An IP fragment smaller than the minimum (dpctl/ipf-set-min-frag), and not the last of its datagram.";
    FragmentOverlap "fragment_overlap" "An IP fragment that overlaps another one of its datagram, or comes twice.";
    FragmentBounds "fragment_bounds" "An IP fragment that disagrees about the end of its datagram, or whose length is no multiple of eight.";
    FragmentBig "fragment_big" "An IP fragment of a datagram that would make a frame of more than 65,535 bytes.";
    FragmentsFull "fragments_full" "As many IP fragments wait for the rest of their datagrams as may (dpctl/ipf-set-max-nfrags).";
    L3Checksum "l3_checksum" "The IPv4 header checksum is wrong.";
    L4Checksum "l4_checksum" "The transport checksum is wrong.";
    IcmpType "icmp_type" "An ICMP type and code that neither asks, answers nor reports an error.";
    IcmpVersion "icmp_version" "ICMP over IPv6 or ICMPv6 over IPv4.";
    IcmpInner "icmp_inner" "The packet quoted by an ICMP error cannot be read.";
    IcmpNoConn "icmp_no_conn" "An ICMP error about a connection that is not known.";
    IcmpUnasked "icmp_unasked" "An ICMP answer to a question that was not seen.";
    TcpFlags "tcp_flags" "A combination of TCP flags that no stack sends.";
    TcpNoSyn "tcp_no_syn" "A TCP packet of no known connection, with pick-up turned off.";
    TcpSynAck "tcp_syn_ack" "A SYN+ACK whose SYN was not seen.";
    TcpState "tcp_state" "The TCP flags do not fit the state of the connection.";
    TcpSeqHigh "tcp_seq_high" "TCP data beyond the window that the receiver opened.";
    TcpSeqLow "tcp_seq_low" "TCP data more than one window behind what was sent.";
    TcpAckHigh "tcp_ack_high" "A TCP acknowledgment of data that was not sent.";
    TcpAckLow "tcp_ack_low" "A TCP acknowledgment too far behind what was acknowledged.";
    TcpRstSeq "tcp_rst_seq" "A TCP RST whose sequence number is not the expected one.";
    NatExhausted "nat_exhausted" "No address and port is free to translate the connection to.";
    NatClash "nat_clash" "Packets of both directions commit the connection at once, again and again.";
    AlgSyntax "alg_syntax" "An FTP message that names a data connection and cannot be read.";
    AlgSplit "alg_split" "An FTP message that names a data connection and is cut in two.";
    AlgForeign "alg_foreign" "An FTP message that invites to another host than its sender.";
    AlgPort "alg_port" "An FTP message that invites to a port below 1024.";
    AlgClash "alg_clash" "An FTP message that invites to a port to which another client expects a connection.";
    AlgFull "alg_full" "No room for another expected connection.";
}
