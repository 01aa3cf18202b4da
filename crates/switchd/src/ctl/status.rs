//! `sekisho/status` over the control socket: all that `sekisho top` shows, as one JSON object ([`Status`]).
//!
//! Counters are totals, and the daemon's clock stands beside them: who asks twice has rates. What is said of
//! connections ([`Connections::look`]) comes from a look through the whole table, which rests between
//! its steps and takes at most a fifth of the time, so a look can be older than the rest; it says when it began and how
//! long after the one before. Nobody looks while nobody asks.

use std::collections::BTreeMap;

use datapath::DpStats;
use serde::{Deserialize, Serialize};

use super::conntrack::ConnRecord;
use crate::status::PortCounters;

/// The whole.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Process id of the daemon. Counters of another process are others.
    pub pid: u32,
    /// `TYPE@NAME` of the datapath.
    pub datapath: String,
    /// When the counters were read: nanoseconds on the daemon's monotonic clock.
    pub clock_ns: u64,
    /// The same on the wall clock: microseconds since 1970.
    pub time_us: u64,
    /// Ports, by bridge and name.
    pub ports: Vec<Port>,
    /// Workers, the main thread as the last of all.
    pub workers: Vec<Worker>,
    /// Megaflows.
    pub flows: Flows,
    /// Tracked connections.
    pub connections: Connections,
    /// Why packets were dropped, refused or found invalid: the reasons that there are any of.
    pub reasons: Vec<Reason>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its bridge.
    pub bridge: String,
    /// Its interface's name.
    pub name: String,
    /// OpenFlow number; none while it does not run.
    pub ofport: Option<u16>,
    /// Type, as `dpif/show` tells it.
    pub kind: String,
    /// State of its link.
    pub link: LinkState,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// As the Interface table's `statistics`; none of a port without a device (`patch`).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "columns")]
    pub counters: Option<PortCounters>,
}

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Frames can pass.
    Up,
    /// Nothing at the other end.
    Down,
    /// Administratively down.
    Off,
    /// There is no device.
    Absent,
}

impl LinkState {
    /// `up`, `down`, `off` or `absent`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Off => "off",
            Self::Absent => "absent",
        }
    }
}

/// A thread that processes packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number in the datapath, which its counters go by; `None` is the main thread.
    pub number: Option<usize>,
    /// Core, or place among the workers where they are not bound to cores.
    pub core: Option<usize>,
    /// NUMA node of the core.
    pub numa: usize,
    /// Receive queues that it polls.
    pub n_queues: usize,
    /// Its counters by name, without drops.
    #[serde(with = "rows")]
    pub counters: DpStats,
}

/// Megaflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flows {
    /// How many there are.
    pub n: usize,
    /// How many there may be.
    pub limit: usize,
}

/// Tracked connections.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are.
    pub n: usize,
    /// How many there may be.
    pub ceiling: usize,
    /// How many were committed so far.
    pub opened: u64,
    /// How many are gone: expired, deleted, or made room for others.
    pub ended: u64,
    /// What the last look through the table saw.
    pub look: Look,
}

/// What a look through the table of connections saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Look {
    /// When it began: nanoseconds on the daemon's monotonic clock.
    pub clock_ns: u64,
    /// Nanoseconds since the one before began; 0 of the first look, which knows no talkers.
    pub window_ns: u64,
    /// All connections by kind.
    pub kinds: Kinds,
    /// The zones with most connections, the largest first.
    pub zones: Vec<Zone>,
    /// How many zones have connections.
    pub n_zones: usize,
    /// Connections that moved most bytes in the window, the busiest first.
    pub talkers: Vec<Talker>,
}

/// Connections by kind. Kinds that there are none of are absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kinds {
    /// All.
    pub n: u64,
    /// By protocol, as `dpctl/ct-stats-show` names them.
    pub protocols: BTreeMap<String, u64>,
    /// TCP connections by state.
    pub tcp_states: BTreeMap<String, u64>,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its number.
    pub zone: u16,
    /// How many connections it may have, if that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Its connections.
    pub kinds: Kinds,
}

/// A connection that moved bytes in the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talker {
    /// The connection.
    pub connection: ConnRecord,
    /// Packets in the window, [from, to] its initiator.
    pub packets: [u64; 2],
    /// Bytes in the window, from the IP header on, [from, to] its initiator.
    pub bytes: [u64; 2],
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasonKind {
    /// The datapath dropped it.
    Drop,
    /// A port lost it on the way in.
    Received,
    /// A port lost it on the way out. The datapath counts it as dropped, too.
    Sent,
    /// The tracker did not commit its connection; it went on.
    Refused,
    /// The tracker found it invalid; what then happens is up to the flows.
    Invalid,
}

/// A reason and how many packets it befell so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What became of them.
    pub kind: ReasonKind,
    /// Name of the counter, as in `coverage/show`.
    pub name: String,
    /// What happened, in a sentence.
    pub text: String,
    /// The port that lost them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// How many packets.
    pub n: u64,
}

/// Counters of a worker as an object.
mod rows {
    use super::{BTreeMap, Deserialize, DpStats};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(all: &DpStats, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(all.rows())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DpStats, D::Error> {
        let mut all = DpStats::default();
        for (name, n) in BTreeMap::<String, u64>::deserialize(d)? {
            // A daemon of another release may count more.
            all.set(&name, n);
        }
        Ok(all)
    }
}

/// Counters of a port as an object.
mod columns {
    use super::{BTreeMap, Deserialize, PortCounters};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(all: &Option<PortCounters>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(all.iter().flat_map(PortCounters::columns))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PortCounters>, D::Error> {
        let all = Option::<BTreeMap<String, u64>>::deserialize(d)?;
        Ok(all.map(PortCounters::from_columns))
    }
}
