//! Flow monitors: requests and updates.

use core::fmt::{self, Write};

use base::{OfPort, TableId};
use flow::Match;
use flow::text::{MatchText, PortText, TableText};

use super::{Bits, Hex, Style, flows::reason_name};
use crate::flow_mod::GROUP_ANY;
use crate::message::{FlowEvent, FlowMonitor, FlowUpdate, MonitorCommand};
use crate::text::ActionsText;
use crate::version::Version;

/// Names of [`crate::message::monitor_flag`] bits.
const FLAGS: [&str; 7] = ["initial", "add", "delete", "modify", "actions", "no-abbrev", "own"];

/// Writes requests, behind the heading's colon.
pub(super) fn write_requests(
    out: &mut impl Write,
    list: &[FlowMonitor],
    style: Style<'_>,
) -> fmt::Result {
    for m in list {
        write!(out, "\n id={}", m.id)?;
        if m.command == MonitorCommand::Delete {
            write!(out, " command=delete")?;
            continue;
        }
        write!(out, " flags={}", Bits { bits: m.flags.into(), names: &FLAGS, separator: ',' })?;
        if m.out_port != OfPort::NONE {
            write!(out, " out_port={}", PortText(m.out_port, style.names))?;
        }
        if !matches!(m.out_group, 0 | GROUP_ANY) {
            write!(out, " out_group={}", m.out_group)?;
        }
        if m.table != TableId::ALL {
            write!(out, " table={}", TableText(m.table, style.names))?;
        }
        if m.match_ != Match::ANY {
            write!(out, " {}", MatchText { m: &m.match_, priority: None, names: style.names })?;
        }
    }
    writeln!(out)
}

/// Writes updates, behind the heading's colon.
pub(super) fn write_updates(
    out: &mut impl Write,
    list: &[FlowUpdate],
    version: Version,
    style: Style<'_>,
) -> fmt::Result {
    for u in list {
        write!(out, "\n event=")?;
        let f = match u {
            FlowUpdate::Abbrev(xid) => {
                write!(out, "ABBREV xid={xid:#x}")?;
                continue;
            }
            FlowUpdate::Paused => {
                write!(out, "PAUSED")?;
                continue;
            }
            FlowUpdate::Resumed => {
                write!(out, "RESUMED")?;
                continue;
            }
            FlowUpdate::Flow(f) => f,
        };
        match (f.event, f.reason) {
            (FlowEvent::Initial, _) => write!(out, "INITIAL")?,
            (FlowEvent::Added, _) => write!(out, "ADDED")?,
            (FlowEvent::Modified, _) => write!(out, "MODIFIED")?,
            (FlowEvent::Removed, reason) => {
                write!(out, "DELETED reason={}", reason.map_or("delete", reason_name))?;
            }
        }
        write!(out, " table={}", TableText(f.table, style.names))?;
        if f.idle_timeout != 0 {
            write!(out, " idle_timeout={}", f.idle_timeout)?;
        }
        if f.hard_timeout != 0 {
            write!(out, " hard_timeout={}", f.hard_timeout)?;
        }
        write!(out, " cookie={} ", Hex(f.cookie))?;
        let priority =
            (f.priority != crate::flow_mod::DEFAULT_PRIORITY).then_some(f.priority.into());
        let bare = f.match_ == Match::ANY && priority.is_none();
        write!(out, "{}", MatchText { m: &f.match_, priority, names: style.names })?;
        if !f.actions.is_empty() {
            let space = if bare { "" } else { " " };
            let text = ActionsText { actions: &f.actions, names: style.names, version };
            write!(out, "{space}actions={text}")?;
        }
    }
    writeln!(out)
}
