//! Flows: mods, removals, counters and their requests.

use core::fmt::{self, Write};

use base::{OfPort, TableId};
use flow::Match;
use flow::text::{MatchText, NameMap, PortText, TableText};

use super::{Seconds, Style};
use crate::flow_mod::{FlowMod, GROUP_ANY};
use crate::message::{
    AggregateStats, FlowRemoved, FlowRemovedReason, FlowStats, FlowStatsRequest, Message,
};
use crate::text::{FlowModText, FlowStatsText};
use crate::version::Version;

/// Writes a flow mod, with its match in the text of `raw_match`, if there is one.
pub(super) fn write_mod(
    out: &mut impl Write,
    f: &FlowMod,
    version: Version,
    style: Style<'_>,
    raw_match: Option<&dyn fmt::Display>,
) -> fmt::Result {
    writeln!(out, " {}", FlowModText { f, version, names: style.names, raw_match })
}

/// The name of a reason.
pub(super) fn reason_name(reason: FlowRemovedReason) -> &'static str {
    match reason {
        FlowRemovedReason::IdleTimeout => "idle",
        FlowRemovedReason::HardTimeout => "hard",
        FlowRemovedReason::Delete => "delete",
        FlowRemovedReason::GroupDelete => "group_delete",
        FlowRemovedReason::MeterDelete => "meter_delete",
        FlowRemovedReason::Eviction => "eviction",
    }
}

/// Writes a removal. 1.0's standard form tells no table.
pub(super) fn write_removed(
    out: &mut impl Write,
    x: &FlowRemoved,
    m: &Message,
    style: Style<'_>,
) -> fmt::Result {
    let text = MatchText { m: &x.match_, priority: Some(x.priority.into()), names: style.names };
    write!(out, " {text} reason={}", reason_name(x.reason))?;
    if x.table != TableId::ALL && (m.version > Version::Of10 || m.nicira) {
        write!(out, " table_id={}", TableText(x.table, style.names))?;
    }
    if x.cookie != 0 {
        write!(out, " cookie:{:#x}", x.cookie)?;
    }
    write!(out, " duration{} idle{}", Seconds(x.duration), x.idle_timeout)?;
    if m.version > Version::Of10 && x.hard_timeout != 0 {
        write!(out, " hard{}", x.hard_timeout)?;
    }
    writeln!(out, " pkts{} bytes{}", x.n_packets, x.n_bytes)
}

/// Writes which flows a request asks for.
pub(super) fn write_request(
    out: &mut impl Write,
    x: &FlowStatsRequest,
    names: &dyn NameMap,
) -> fmt::Result {
    if x.table != TableId::ALL {
        write!(out, " table={}", TableText(x.table, names))?;
    }
    if x.out_port != OfPort::NONE {
        write!(out, " out_port={}", PortText(x.out_port, names))?;
    }
    if x.out_group != GROUP_ANY {
        write!(out, " out_group={}", x.out_group)?;
    }
    if x.match_ != Match::ANY {
        write!(out, " {}", MatchText { m: &x.match_, priority: None, names })?;
    }
    writeln!(out)
}

/// Writes flows with their counters.
pub(super) fn write_stats(
    out: &mut impl Write,
    list: &[FlowStats],
    version: Version,
    names: &dyn NameMap,
) -> fmt::Result {
    for f in list {
        write!(out, "\n {}", FlowStatsText { f, stats: true, version, names })?;
    }
    writeln!(out)
}

/// Writes sums over flows.
pub(super) fn write_aggregate(out: &mut impl Write, x: &AggregateStats) -> fmt::Result {
    let (packets, bytes) = (x.n_packets, x.n_bytes);
    writeln!(out, " packet_count={packets} byte_count={bytes} flow_count={}", x.n_flows)
}
