//! `diff-flows` and `replace-flows`: sets of flows side by side.

use std::collections::BTreeMap;

use base::{OfPort, TableId};
use flow::text::{MatchText, NameMap, NoNames};
use openflow::flow_mod::{DEFAULT_PRIORITY, GROUP_ANY};
use openflow::message::FlowStatsRequest;
use openflow::text::ActionsText;
use openflow::version::Version;
use openflow::{Action, FlowMod, FlowModCommand, FlowModFlags, Match};

use super::Tool;
use super::change::{parse_file, send};
use super::protocols::{self, Protocols};
use super::query::fetch_flows;
use crate::applet::{Failure, Outcome};

/// What makes two flows the same flow: table, priority (downward) and match in text, which orders them.
type Key = (u8, u16, String);

/// What two versions of a flow can differ in.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    match_: Match,
    priority: u16,
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    importance: u16,
    flags: FlowModFlags,
    actions: Vec<Action>,
}

/// Flows by key.
type Flows = BTreeMap<Key, Entry>;

/// Flags that a switch keeps.
const KEPT: FlowModFlags = FlowModFlags::SEND_FLOW_REM
    .union(FlowModFlags::NO_PKT_COUNTS)
    .union(FlowModFlags::NO_BYT_COUNTS);

fn key(table: u8, e: &Entry) -> Key {
    let text = MatchText { m: &e.match_, priority: None, names: &NoNames };
    (table, u16::MAX - e.priority, text.to_string())
}

/// The flows of a file.
fn of_file(
    tool: &Tool<'_, '_>,
    name: &str,
    names: &dyn NameMap,
    usable: &mut Protocols,
) -> Result<Flows, Failure> {
    let mut flows = Flows::new();
    for parsed in parse_file(tool, name, Some(FlowModCommand::Add), names, "open")? {
        *usable = usable.and(parsed.usable);
        let f = parsed.flow;
        let entry = Entry {
            match_: f.match_,
            priority: f.priority,
            cookie: f.new_cookie.unwrap_or(0),
            idle_timeout: f.idle_timeout,
            hard_timeout: f.hard_timeout,
            importance: f.importance,
            flags: f.flags & KEPT,
            actions: f.actions,
        };
        flows.insert(key(f.table.map_or(0, |t| t.0), &entry), entry);
    }
    Ok(flows)
}

/// The flows of a switch.
fn of_switch(
    tool: &mut Tool<'_, '_>,
    conn: &mut super::conn::Conn,
    nicira: bool,
) -> Result<Flows, Failure> {
    let request = FlowStatsRequest {
        match_: Match::ANY,
        cookie: 0,
        cookie_mask: 0,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table: TableId::ALL,
    };
    let mut flows = Flows::new();
    for f in fetch_flows(tool, conn, nicira, request)? {
        let entry = Entry {
            match_: f.match_,
            priority: f.priority,
            cookie: f.cookie,
            idle_timeout: f.idle_timeout,
            hard_timeout: f.hard_timeout,
            importance: f.importance,
            flags: f.flags & KEPT,
            actions: f.actions,
        };
        flows.insert(key(f.table.0, &entry), entry);
    }
    Ok(flows)
}

/// Whether two versions of a flow are the same, as far as a version of OpenFlow tells.
fn same(a: &Entry, b: &Entry, version: Version) -> bool {
    let told = |e: &Entry| {
        // Their matches are the same in text.
        let mut e = Entry { match_: Match::ANY, ..e.clone() };
        if version < Version::Of14 {
            e.importance = 0;
        }
        if version < Version::Of13 {
            e.flags = FlowModFlags::empty();
        }
        e
    };
    told(a) == told(b)
}

fn write_entry(tool: &mut Tool<'_, '_>, sign: char, table: u8, e: &Entry) -> Result<(), Failure> {
    let out = &mut tool.session.out;
    write!(out, "{sign}")?;
    if table != 0 {
        write!(out, "table={table} ")?;
    }
    let priority = (e.priority != DEFAULT_PRIORITY).then_some(e.priority.into());
    write!(out, "{}", MatchText { m: &e.match_, priority, names: &NoNames })?;
    if e.cookie != 0 {
        write!(out, " cookie={:#x}", e.cookie)?;
    }
    if e.idle_timeout != 0 {
        write!(out, " idle_timeout={}", e.idle_timeout)?;
    }
    if e.hard_timeout != 0 {
        write!(out, " hard_timeout={}", e.hard_timeout)?;
    }
    if e.importance != 0 {
        write!(out, " importance={}", e.importance)?;
    }
    let text = ActionsText { actions: &e.actions, names: &NoNames, version: Version::Of13 };
    Ok(writeln!(out, " actions={text}")?)
}

/// The flows of a file if there is one by that name, else of a switch.
fn source(tool: &mut Tool<'_, '_>, name: &str) -> Result<(Flows, Version), Failure> {
    if name.contains('/') && !name.contains(':') || std::path::Path::new(name).is_file() {
        let is_socket = std::fs::metadata(name)
            .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()));
        if !is_socket {
            let mut usable = Protocols::ALL;
            return Ok((of_file(tool, name, &NoNames, &mut usable)?, Version::Of15));
        }
    }
    let (mut conn, nicira) = protocols::open_dump(tool, name, Protocols::ALL)?;
    Ok((of_switch(tool, &mut conn, nicira)?, conn.version))
}

pub(super) fn diff_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let (a, version_a) = source(tool, &args[0])?;
    let (b, version_b) = source(tool, &args[1])?;
    let version = version_a.min(version_b);
    let mut differ = false;
    let mut keys: Vec<&Key> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for k in keys {
        let (old, new) = (a.get(k), b.get(k));
        if let (Some(old), Some(new)) = (old, new)
            && same(old, new, version)
        {
            continue;
        }
        differ = true;
        if let Some(old) = old {
            write_entry(tool, '-', k.0, old)?;
        }
        if let Some(new) = new {
            write_entry(tool, '+', k.0, new)?;
        }
    }
    Ok(if differ { 2 } else { 0 })
}

fn flow_mod(table: u8, e: &Entry, command: FlowModCommand) -> FlowMod {
    let delete = command == FlowModCommand::DeleteStrict;
    let base = FlowMod {
        command,
        match_: e.match_,
        priority: e.priority,
        table: Some(TableId(table)),
        ..FlowMod::default()
    };
    match delete {
        true => base,
        false => FlowMod {
            new_cookie: Some(e.cookie),
            idle_timeout: e.idle_timeout,
            hard_timeout: e.hard_timeout,
            importance: e.importance,
            flags: e.flags,
            actions: e.actions.clone(),
            ..base
        },
    }
}

pub(super) fn replace_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let names = tool.names_in(&args[0])?;
    let mut usable = Protocols::ALL;
    let wanted = of_file(tool, &args[1], &names, &mut usable)?;
    // The table is said even where it is 0: a switch may choose another one for "any".
    let usable = usable.and(Protocols::TABLE_ID);
    let (mut conn, protocol) = protocols::open(tool, &args[0], usable)?;
    let there = of_switch(tool, &mut conn, protocol.nicira)?;
    let mut mods = Vec::new();
    let mut keys: Vec<&Key> = wanted.keys().chain(there.keys()).collect();
    keys.sort();
    keys.dedup();
    for k in keys {
        match (wanted.get(k), there.get(k)) {
            (None, Some(old)) => mods.push(flow_mod(k.0, old, FlowModCommand::DeleteStrict)),
            (Some(new), old) => {
                let kept = old.filter(|_| !tool.settings.readd);
                if !kept.is_some_and(|old| same(old, new, conn.version)) {
                    mods.push(flow_mod(k.0, new, FlowModCommand::Add));
                }
            }
            (None, None) => {}
        }
    }
    send(tool, &mut conn, protocol, mods, None)?;
    Ok(0)
}
