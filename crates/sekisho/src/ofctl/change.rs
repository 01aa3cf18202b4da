//! Commands that change flows, and those that show what would be sent.

use std::io::Read;

use flow::text::{Mode, NameMap, NoNames};
use openflow::message::{Body, BundleAdd, BundleCtrl, Kind, Message, Session as Agreed};
use openflow::text::flow::{Parsed, parse_line};
use openflow::text::parse_flow;
use openflow::version::Version;
use openflow::{FlowMod, FlowModCommand};

use super::conn::{Conn, Socket, fatal};
use super::protocols::{self, Protocol, Protocols};
use super::{Tool, log};
use crate::applet::{Failure, Outcome};

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
    names: &dyn NameMap,
    failed: &str,
) -> Result<Vec<Parsed>, Failure> {
    let text = read_file(name, failed)?;
    parse_lines(tool, name, &text, command, names).map(|line| Ok(line?.1)).collect()
}

/// The flows of a file that was read, with the numbers of their lines.
fn parse_lines<'a>(
    tool: &'a Tool<'_, '_>,
    name: &'a str,
    text: &'a str,
    command: Option<FlowModCommand>,
    names: &'a dyn NameMap,
) -> impl Iterator<Item = Result<(usize, Parsed), Failure>> + 'a {
    let mode = tool.settings.mode;
    let place = shown(tool, name);
    (1..).zip(text.lines()).filter_map(move |(n, line)| {
        let parsed = parse_line(line, command, names, mode)?;
        Some(match parsed {
            Ok(parsed) => Ok((n, parsed)),
            Err(e) => Err(tool.bad_text(Some((place, n)), line, &e)),
        })
    })
}

/// What a file is called in errors.
pub(super) fn shown<'a>(tool: &Tool<'_, '_>, name: &'a str) -> &'a str {
    match (name, tool.settings.mode) {
        ("-", Mode::Strict) => "stdin",
        _ => name,
    }
}

/// Where the changes that are sent come from.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// The number of each change's line.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    /// A file and its text.
    pub(super) fn new(tool: &Tool<'_, '_>, file: &'a str, text: &'a str) -> Self {
        Self { file: shown(tool, file), text, lines: Vec::new() }
    }

    /// The next change is of this line.
    pub(super) fn push(&mut self, line: usize) {
        self.lines.push(line);
    }

    /// Says that the switch refused the change with this number.
    fn refused(&self, i: usize, why: &str) -> Option<Failure> {
        let n = *self.lines.get(i)?;
        let line = self.text.lines().nth(n - 1)?;
        Some(Failure::fatal(format!("{}:{n}: refused by the switch{why}\n  {line}", self.file)))
    }
}

/// The name of the error in a message, in parentheses.
fn reason(conn: &Conn, error: &[u8]) -> String {
    match conn.decode(error).map(|m| m.body) {
        Ok(Body::Error(e)) => e.error.map_or(String::new(), |e| format!(" ({})", e.name())),
        _ => String::new(),
    }
}

/// Says in the log that parts of a match were dropped.
fn tell_normalized(parsed: &Parsed) {
    if parsed.normalized {
        let mut after = parsed.flow.match_;
        after.normalize();
        log::normalized(&parsed.flow.match_, &after);
    }
}

/// Formats that can say all of the flows.
fn usable(flows: &[Parsed]) -> Protocols {
    flows.iter().fold(Protocols::ALL, |set, f| set.and(f.usable))
}

/// Sends flow mods, one after the other until one fails, or as a bundle.
pub(super) fn send(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    protocol: &Protocol,
    flows: Vec<FlowMod>,
    source: Option<&Source<'_>>,
) -> Result<(), Failure> {
    let version = conn.version;
    let bodies = flows.into_iter().map(|mut f| {
        name_table(&mut f, version);
        Body::FlowMod(Box::new(f))
    });
    send_all(tool, conn, protocol, bodies.collect(), source)
}

/// From 1.1 on a switch does not choose the table.
fn name_table(f: &mut FlowMod, version: Version) {
    let delete = matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    if version > Version::Of10 && !delete {
        f.table.get_or_insert(base::TableId(0));
    }
}

/// Sends changes, one after the other until one fails, or as a bundle.
pub(super) fn send_all(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    protocol: &Protocol,
    bodies: Vec<Body>,
    source: Option<&Source<'_>>,
) -> Result<(), Failure> {
    if tool.settings.bundle {
        return send_bundle(tool, conn, bodies, source);
    }
    let (version, agreed, nicira) = (conn.version, conn.agreed, protocol.nicira);
    let encode = |body| {
        let message = Message { nicira, ..Message::new(version, 0, body) };
        message.encode(agreed).map_err(fatal)
    };
    let messages: Result<_, Failure> = bodies.into_iter().map(encode).collect();
    send_encoded(tool, conn, messages?, source)
}

/// Sends encoded changes until one fails.
fn send_encoded(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    requests: Vec<Vec<u8>>,
    source: Option<&Source<'_>>,
) -> Result<(), Failure> {
    let Some((i, error)) = conn.change_many(requests, || tool.next_xid())? else { return Ok(()) };
    let Err(shown) = tool.refused::<()>(conn, &error) else { return Ok(()) };
    let strict = tool.settings.mode == Mode::Strict;
    let place = source.filter(|_| strict).and_then(|s| {
        s.refused(i, &format!("{}; what follows was not sent", reason(conn, &error)))
    });
    Err(place.unwrap_or(shown))
}

/// Bundle flags: atomic and ordered.
const BUNDLE_FLAGS: u16 = 3;

fn send_bundle(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    bodies: Vec<Body>,
    source: Option<&Source<'_>>,
) -> Result<(), Failure> {
    const ID: u32 = 0;
    let control = |kind| Body::BundleCtrl(BundleCtrl { id: ID, kind, flags: BUNDLE_FLAGS });
    let mut failed = Vec::new();
    // Errors of single messages come before the reply.
    let mut request = |tool: &mut Tool<'_, '_>, conn: &mut Conn, body| -> Result<bool, Failure> {
        let message = conn.message(tool.next_xid(), body);
        conn.send(&message)?;
        loop {
            let bytes = conn.next(true)?;
            let reply = conn.decode(&bytes)?;
            match (reply.body, &message.body) {
                (Body::BundleCtrl(b), Body::BundleCtrl(asked)) if b.kind == asked.kind + 1 => {
                    return Ok(failed.is_empty());
                }
                (Body::BarrierReply, Body::BarrierRequest) => return Ok(failed.is_empty()),
                (Body::Error(e), _) => {
                    failed.push(e);
                    if reply.xid == message.xid {
                        return Ok(false);
                    }
                }
                _ => {}
            }
        }
    };
    let bodies: Vec<(u32, Body)> = bodies.into_iter().map(|b| (tool.next_xid(), b)).collect();
    let first = bodies.first().map_or(0, |b| b.0);
    if request(tool, conn, control(0))? {
        for (xid, body) in bodies {
            let inner = Message::new(conn.version, xid, body);
            let add = BundleAdd { id: ID, flags: BUNDLE_FLAGS, message: inner };
            let message = conn.message(xid, Body::BundleAdd(Box::new(add)));
            conn.send(&message)?;
        }
        // A switch may keep a bundle without the messages that it refused: only a whole one is committed.
        let end = if request(tool, conn, Body::BarrierRequest)? { 4 } else { 6 };
        request(tool, conn, control(end))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let strict = tool.settings.mode == Mode::Strict;
    let names = tool.names_out(&conn.asked)?;
    tool.session.out.flush()?;
    // What follows from the first error is told where OVS tells it.
    let told = if strict { 1 } else { failed.len() };
    let mut place = None;
    for e in failed.iter().take(told) {
        let name = e.error.map_or("unknown", |e| e.name());
        // What is wrong is the message inside.
        let inner = match Message::peek_kind(&e.data) {
            Some((Kind::BundleAdd, ..)) => e.data.get(16..),
            Some((Kind::OnfBundleAdd, ..)) => e.data.get(24..),
            _ => None,
        };
        let inner = inner.unwrap_or(&e.data);
        let text = conn.text(inner, names.as_ref(), tool.settings.verbosity + 1);
        write!(tool.session.err, "Error {name} for: {text}")?;
        if let Some(source) = source.filter(|_| strict) {
            let i = super::conn::xid_of(inner).wrapping_sub(first) as usize;
            place = source.refused(i, &format!(" ({name}); nothing of the file was done"));
        }
    }
    let broken = || Failure::fatal(format!("talking to {} (Protocol error)", conn.name));
    Err(place.unwrap_or_else(broken))
}

/// Sends parsed flows to a switch.
fn apply(
    tool: &mut Tool<'_, '_>,
    target: &str,
    flows: Vec<Parsed>,
    source: Option<&Source<'_>>,
) -> Outcome {
    let (mut conn, protocol) = protocols::open(tool, target, usable(&flows))?;
    send(tool, &mut conn, protocol, flows.into_iter().map(|f| f.flow).collect(), source)?;
    Ok(0)
}

fn one_flow(tool: &mut Tool<'_, '_>, args: &[String], command: FlowModCommand) -> Outcome {
    let text = args.get(1).map_or("", String::as_str);
    if text == "-" {
        return file(tool, args, Some(command));
    }
    let names = tool.names_in(&args[0])?;
    let parsed = parse_flow(text, command, &names, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, text, &e))?;
    tell_normalized(&parsed);
    apply(tool, &args[0], vec![parsed], None)
}

fn file(tool: &mut Tool<'_, '_>, args: &[String], command: Option<FlowModCommand>) -> Outcome {
    let names = tool.names_in(&args[0])?;
    let text = read_file(&args[1], "open failed")?;
    let xid = tool.xid;
    if !tool.settings.bundle
        && let Some(sent) = send_file(tool, args, &text, command, &names)?
    {
        return Ok(sent);
    }
    tool.xid = xid;
    let mut source = Source::new(tool, &args[1], &text);
    let mut flows = Vec::new();
    for line in parse_lines(tool, &args[1], &text, command, &names) {
        let (n, parsed) = line?;
        source.push(n);
        flows.push(parsed);
    }
    for f in &flows {
        tell_normalized(f);
    }
    apply(tool, &args[0], flows, Some(&source))
}

/// Sends the flows of a file one after the other until one fails. Files are large: of each flow
/// no more is kept than its message, and nothing is sent before all are read.
///
/// `None`, with nothing sent, if that does not work out: there is no connection, or no format of its
/// version says all flows.
fn send_file(
    tool: &mut Tool<'_, '_>,
    args: &[String],
    text: &str,
    command: Option<FlowModCommand>,
    names: &dyn NameMap,
) -> Result<Option<u8>, Failure> {
    let Ok(mut conn) = Conn::open(tool, &args[0], Socket::Management) else { return Ok(None) };
    let version = conn.version;
    let formats = tool.settings.protocols;
    'format: for protocol in formats.iter().filter(|p| p.version == version) {
        let (mut messages, mut normalized) = (Vec::new(), Vec::new());
        let mut source = Source::new(tool, &args[1], text);
        for line in parse_lines(tool, &args[1], text, command, names) {
            let (n, mut parsed) = line?;
            source.push(n);
            name_table(&mut parsed.flow, version);
            if parsed.normalized {
                normalized.push(parsed.clone());
            }
            if !parsed.usable.iter().any(|p| p.name == protocol.name) {
                continue 'format;
            }
            let flow = Body::FlowMod(Box::new(parsed.flow));
            let message = Message { nicira: protocol.nicira, ..Message::new(version, 0, flow) };
            let agreed = Agreed { flow_mod_table_id: protocol.table_id };
            let Ok(mut bytes) = message.encode(agreed) else { continue 'format };
            bytes.shrink_to_fit();
            messages.push(bytes);
        }
        for parsed in &normalized {
            tell_normalized(parsed);
        }
        if !tool.settings.read_only {
            protocols::set(protocol, tool, &mut conn)?;
            send_encoded(tool, &mut conn, messages, Some(&source))?;
        }
        return Ok(Some(0));
    }
    Ok(None)
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
    writeln!(tool.session.out, "chosen protocol: {}", protocol.name)?;
    for f in flows {
        let body = Body::FlowMod(Box::new(f.flow));
        let mut message = Message::new(protocol.version, tool.next_xid(), body);
        message.nicira = protocol.nicira;
        let session = openflow::message::Session { flow_mod_table_id: protocol.table_id };
        let bytes = message.encode(session).map_err(|e| Failure::fatal(e.to_string()))?;
        let style =
            openflow::print::Style { names: &NoNames, verbosity: tool.settings.verbosity, session };
        let text = openflow::print::BytesText { bytes: &bytes, style };
        write!(tool.session.out, "{text}")?;
    }
    Ok(0)
}

pub(super) fn parse_flow_command(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let parsed = parse_flow(&args[0], FlowModCommand::Add, &NoNames, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, &args[0], &e))?;
    tell_normalized(&parsed);
    show_flows(tool, vec![parsed])
}

pub(super) fn parse_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let flows = parse_file(tool, &args[0], None, &NoNames, "open failed")?;
    show_flows(tool, flows)
}
