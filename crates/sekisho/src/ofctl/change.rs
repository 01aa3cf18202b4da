//! Commands that change flows, and those that show what would be sent.

use std::io::Read;

use flow::field::Prereq;
use flow::text::{Mode, NoPorts, PortMap};
use openflow::message::{Body, BundleAdd, BundleCtrl, Kind, Message};
use openflow::text::flow::{FlowFile, LineError, Parsed};
use openflow::text::parse_flow;
use openflow::version::Version;
use openflow::{Action, FlowMod, FlowModCommand};

use super::Tool;
use super::conn::Conn;
use super::protocols::{self, Protocol, Set};
use crate::applet::{Failure, Outcome};
use crate::control::utc;

/// Reads a file, or standard input for `-`.
pub(crate) fn read_file(name: &str, failed: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = match name {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        _ => std::fs::read(name).map(|b| bytes = b),
    };
    read.map_err(|e| {
        Failure::fatal(format!("{name}: {failed} ({})", crate::control::strerror(&e)))
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let n = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n');
        Failure::fatal(format!("{name}:{}: not text in UTF-8", n.count() + 1))
    })
}

/// Reads the flows of a file.
///
/// # Errors
/// The first line that is no flow.
pub(super) fn parse_file(
    tool: &Tool<'_, '_>,
    name: &str,
    command: Option<FlowModCommand>,
    ports: &dyn PortMap,
    failed: &str,
) -> Result<Vec<Parsed>, Failure> {
    let text = read_file(name, failed)?;
    let shown = if name == "-" { "stdin" } else { name };
    let place = if tool.settings.mode == Mode::Ovs { name } else { shown };
    let file = FlowFile::parse(&text, command, ports, tool.settings.mode).map_err(
        |LineError { line, text, error }| tool.bad_text(Some((place, line)), &text, &error),
    )?;
    for (line, parsed) in &file.flows {
        check(tool, Some(&format!("{place}:{line}")), &parsed.flow)?;
    }
    Ok(file.flows.into_iter().map(|f| f.1).collect())
}

/// Says in OVS's log that parts of matches were dropped.
fn tell_normalized(tool: &mut Tool<'_, '_>, line: Option<&str>, parsed: &Parsed) {
    if !parsed.normalized {
        return;
    }
    let after = flow::text::MatchText { m: &parsed.flow.match_, priority: None, ports: &NoPorts };
    let before = line.unwrap_or_default();
    let now = std::time::SystemTime::now();
    let secs = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let lines = [
        "normalization changed ofp_match, details:".to_owned(),
        format!(" pre: {before}"),
        format!("post: {after}"),
    ];
    for text in lines {
        let n = tool.next_log();
        let _ = writeln!(tool.session.err, "{}|{n:05}|ofp_match|INFO|{text}", utc(secs));
    }
}

/// Whether the packets of a flow have what its actions work on. OVS's tool insists on it; a `ct` of ours
/// leaves other packets than IP untracked.
fn consistent(f: &FlowMod) -> bool {
    let changes_kind = |a: &Action| {
        matches!(a, Action::PushMpls(_) | Action::PopMpls(_) | Action::Encap(_) | Action::Decap(_))
            || matches!(
                a,
                Action::PushVlan(_) | Action::SetVlanVid { .. } | Action::SetVlanPcp { .. }
            )
    };
    f.actions.iter().take_while(|a| !changes_kind(a)).all(|a| match a {
        Action::Ct(_) => f.match_.has_prereq(Prereq::Ip),
        Action::SetField { field, .. } => f.match_.has_prereq(field.row().prereq),
        _ => true,
    })
}

/// In lenient mode, refuses what OVS's tool refuses before it asks a switch.
fn check(tool: &Tool<'_, '_>, place: Option<&str>, flow: &FlowMod) -> Result<(), Failure> {
    if tool.settings.mode == Mode::Strict || consistent(flow) {
        return Ok(());
    }
    let place = place.map_or_else(String::new, |p| format!("{p}:"));
    let why = "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)";
    Err(Failure::fatal(format!("{place}{}{why}", if place.is_empty() { "" } else { " " })))
}

/// Formats that can say all of the flows.
fn usable(flows: &[Parsed]) -> Set {
    flows.iter().fold(Set::ALL, |set, f| set.and(Set::usable(&f.flow)))
}

/// Sends flow mods, one after the other until one fails, or as a bundle.
pub(super) fn send(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    protocol: &Protocol,
    flows: Vec<FlowMod>,
) -> Result<(), Failure> {
    let version = conn.version;
    let flows = flows.into_iter().map(|mut f| {
        let delete = matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        if version > Version::Of10 && !delete {
            // From 1.1 on a switch does not choose the table.
            f.table.get_or_insert(base::TableId(0));
        }
        f
    });
    let bodies = flows.map(|f| Body::FlowMod(Box::new(f))).collect();
    send_all(tool, conn, protocol, bodies)
}

/// Sends changes, one after the other until one fails, or as a bundle.
pub(super) fn send_all(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    protocol: &Protocol,
    bodies: Vec<Body>,
) -> Result<(), Failure> {
    if tool.settings.read_only {
        return Ok(());
    }
    if tool.settings.bundle {
        return send_bundle(tool, conn, bodies);
    }
    match conn.change_many(bodies.into_iter(), protocol.nicira, || tool.next_xid())? {
        None => Ok(()),
        Some(error) => tool.refused(conn, &error),
    }
}

/// Bundle flags: atomic and ordered.
const BUNDLE_FLAGS: u16 = 3;

fn send_bundle(tool: &mut Tool<'_, '_>, conn: &mut Conn, bodies: Vec<Body>) -> Result<(), Failure> {
    const ID: u32 = 0;
    let control = |kind| Body::BundleCtrl(BundleCtrl { id: ID, kind, flags: BUNDLE_FLAGS });
    let mut failed = None;
    let mut request = |tool: &mut Tool<'_, '_>, conn: &mut Conn, kind| -> Result<bool, Failure> {
        let message = conn.message(tool.next_xid(), control(kind));
        conn.send(&message)?;
        loop {
            let bytes = conn.next(true)?;
            let reply = conn.decode(&bytes)?;
            match reply.body {
                Body::BundleCtrl(b) if b.kind == kind + 1 => return Ok(true),
                Body::Error(e) => {
                    failed.get_or_insert(e);
                    if reply.xid == message.xid {
                        return Ok(false);
                    }
                }
                _ => {}
            }
        }
    };
    let bodies: Vec<(u32, Body)> = bodies.into_iter().map(|b| (tool.next_xid(), b)).collect();
    let opened = request(tool, conn, 0)?;
    if opened {
        for (xid, body) in bodies {
            let inner = Message::new(conn.version, xid, body);
            let add = BundleAdd { id: ID, flags: BUNDLE_FLAGS, message: inner };
            let message = conn.message(xid, Body::BundleAdd(Box::new(add)));
            conn.send(&message)?;
        }
        // Errors of single messages come before the reply to the commit.
        request(tool, conn, 4)?;
    }
    match failed {
        None => Ok(()),
        Some(e) => {
            let name = e.error.map_or("unknown", |e| e.name());
            // What is wrong is the message inside.
            let inner = match Message::peek_kind(&e.data) {
                Some((Kind::BundleAdd | Kind::OnfBundleAdd, ..)) => e.data.get(16..),
                _ => None,
            };
            let inner = inner.unwrap_or(&e.data);
            let text = conn.text(inner, None, tool.settings.verbosity + 1);
            tool.session.out.flush()?;
            write!(tool.session.err, "Error {name} for: {text}")?;
            Err(Failure::fatal(format!("talking to {} (Protocol error)", conn.name)))
        }
    }
}

/// Sends parsed flows to a switch.
fn apply(tool: &mut Tool<'_, '_>, target: &str, flows: Vec<Parsed>) -> Outcome {
    let (mut conn, protocol) = protocols::open(tool, target, usable(&flows))?;
    send(tool, &mut conn, protocol, flows.into_iter().map(|f| f.flow).collect())?;
    Ok(0)
}

fn one_flow(tool: &mut Tool<'_, '_>, args: &[String], command: FlowModCommand) -> Outcome {
    let text = args.get(1).map_or("", String::as_str);
    if text == "-" {
        return file(tool, args, Some(command));
    }
    let names = tool.names_in(&args[0])?;
    // Names of tables, which OVS's tool asks for on a connection of its own.
    tool.xid += 2;
    let parsed = parse_flow(text, command, &names, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, text, &e))?;
    tell_normalized(tool, before_actions(text), &parsed);
    check(tool, None, &parsed.flow)?;
    apply(tool, &args[0], vec![parsed])
}

/// What a flow's text says before its actions, for the log.
fn before_actions(text: &str) -> Option<&str> {
    let head = text.split("actions").next()?;
    Some(head.trim_end_matches([',', ' ']))
}

fn file(tool: &mut Tool<'_, '_>, args: &[String], command: Option<FlowModCommand>) -> Outcome {
    let names = tool.names_in(&args[0])?;
    tool.xid += 2;
    let flows = parse_file(tool, &args[1], command, &names, "open failed")?;
    for f in &flows {
        tell_normalized(tool, None, f);
    }
    apply(tool, &args[0], flows)
}

/// The command for `loose`, or its strict twin with `--strict`.
fn strict(tool: &Tool<'_, '_>, loose: FlowModCommand) -> FlowModCommand {
    match (loose, tool.settings.strict) {
        (FlowModCommand::Modify, true) => FlowModCommand::ModifyStrict,
        (FlowModCommand::Delete, true) => FlowModCommand::DeleteStrict,
        (command, _) => command,
    }
}

pub(super) fn add_flow(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    if args[1] == "-" {
        return file(tool, args, None);
    }
    one_flow(tool, args, FlowModCommand::Add)
}

pub(super) fn add_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    file(tool, args, None)
}

pub(super) fn mod_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let command = strict(tool, FlowModCommand::Modify);
    one_flow(tool, args, command)
}

pub(super) fn del_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let command = strict(tool, FlowModCommand::Delete);
    one_flow(tool, args, command)
}

/// Prints the flows as they would be sent.
fn show_flows(tool: &mut Tool<'_, '_>, flows: Vec<Parsed>) -> Outcome {
    let usable = usable(&flows);
    let allowed = usable.and(tool.settings.protocols);
    let Some(protocol) = allowed.iter().next() else {
        writeln!(tool.session.out, "usable protocols: {usable}")?;
        return Err(Failure::fatal("no usable protocol"));
    };
    writeln!(tool.session.out, "usable protocols: {usable}")?;
    writeln!(tool.session.out, "chosen protocol: {}", protocol.name())?;
    for f in flows {
        let body = Body::FlowMod(Box::new(f.flow));
        let mut message = Message::new(protocol.version, tool.next_xid(), body);
        message.nicira = protocol.nicira;
        let session = openflow::message::Session { flow_mod_table_id: protocol.table_id };
        let bytes = message.encode(session).map_err(|e| Failure::fatal(e.to_string()))?;
        let style =
            openflow::print::Style { ports: &NoPorts, verbosity: tool.settings.verbosity, session };
        let text = openflow::print::BytesText { bytes: &bytes, style };
        write!(tool.session.out, "{text}")?;
    }
    Ok(0)
}

pub(super) fn parse_flow_command(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let parsed = parse_flow(&args[0], FlowModCommand::Add, &NoPorts, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, &args[0], &e))?;
    tell_normalized(tool, before_actions(&args[0]), &parsed);
    show_flows(tool, vec![parsed])
}

pub(super) fn parse_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let flows = parse_file(tool, &args[0], None, &NoPorts, "open failed")?;
    show_flows(tool, flows)
}
