//! Commands that ask and print.

use std::cmp::Ordering;
use std::time::Instant;

use base::OfPort;
use flow::field::Field;
use flow::text::NoNames;
use openflow::message::{
    Body, FlowStats, FlowStatsRequest, Message, Session as Agreed, SwitchConfig,
};
use openflow::print::{BytesText, ReadText, Style, frag_from_name, frag_name};
use openflow::text::{FlowStatsText, parse_flow};
use openflow::version::Version;
use openflow::{FlowModCommand, Match};

use super::Tool;
use super::conn::Conn;
use super::names::Names;
use super::protocols::{self, Protocols};
use crate::applet::{Failure, Outcome};

/// Asks one thing and prints all parts of the answer; an error of the switch is printed as well, and is
/// the exit status.
pub(super) fn dump(tool: &mut Tool<'_, '_>, conn: &mut Conn, request: &Message) -> Outcome {
    let mut bytes = conn.transact(request)?;
    let names = tool.names_out(&conn.asked)?;
    loop {
        let Some(reply) = tool.print(conn, &bytes, names.as_ref())? else { return Ok(1) };
        if matches!(reply.body, Body::Error(_)) {
            // OVS's tool prints the error and calls it a success.
            return Ok(u8::from(tool.settings.mode == flow::text::Mode::Strict));
        }
        if !reply.more {
            return Ok(0);
        }
        bytes = conn.reply(request.xid)?;
    }
}

/// Connects, asks and prints.
pub(super) fn dump_one(tool: &mut Tool<'_, '_>, target: &str, body: Body) -> Outcome {
    let mut conn = tool.open(target)?;
    let request = conn.message(tool.next_xid(), body);
    dump(tool, &mut conn, &request)
}

pub(super) fn show(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = tool.open(&args[0])?;
    let request = conn.message(tool.next_xid(), Body::FeaturesRequest);
    let bytes = conn.transact(&request)?;
    tool.print(&conn, &bytes, None)?;
    if conn.version >= Version::Of13 {
        let request = conn.message(tool.next_xid(), Body::PortDescRequest(OfPort::NONE));
        dump(tool, &mut conn, &request)?;
    }
    dump_one(tool, &args[0], Body::GetConfigRequest)
}

pub(super) fn dump_desc(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    dump_one(tool, &args[0], Body::DescRequest)
}

pub(super) fn dump_tables(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    dump_one(tool, &args[0], Body::TableStatsRequest)
}

pub(super) fn dump_table_desc(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = tool.open(&args[0])?;
    if conn.version < Version::Of14 {
        let text = "dump-table-desc needs OpenFlow 1.4 or later ('-O OpenFlow14')";
        return Err(Failure::fatal(text));
    }
    let request = conn.message(tool.next_xid(), Body::TableDescRequest);
    dump(tool, &mut conn, &request)
}

pub(super) fn dump_ports(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let port = match args.get(1) {
        Some(name) => tool.port(&args[0], name)?,
        None => OfPort::NONE,
    };
    dump_one(tool, &args[0], Body::PortStatsRequest(port))
}

pub(super) fn dump_ports_desc(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let port = match args.get(1) {
        Some(name) => tool.port(&args[0], name)?,
        None => OfPort::NONE,
    };
    dump_one(tool, &args[0], Body::PortDescRequest(port))
}

pub(super) fn queue_stats(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let any = |s: &String| s.eq_ignore_ascii_case("all");
    let port = match args.get(1).filter(|s| !any(s)) {
        Some(name) => tool.port(&args[0], name)?,
        None => OfPort::NONE,
    };
    let queue = queue(tool, args.get(2).map_or("all", String::as_str))?;
    dump_one(tool, &args[0], Body::QueueStatsRequest(port, queue))
}

/// A queue's number, or all of them.
fn queue(tool: &Tool<'_, '_>, text: &str) -> Result<u32, Failure> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(u32::MAX);
    }
    match text.parse() {
        Ok(n) => Ok(n),
        Err(_) if tool.settings.mode == flow::text::Mode::Ovs => Ok(u32::MAX),
        Err(_) => {
            let text = format!("{text}: not a queue number (a number, or ALL)");
            Err(Failure::fatal(text))
        }
    }
}

pub(super) fn queue_get_config(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let port = tool.port(&args[0], args.get(1).map_or("any", String::as_str))?;
    let queue = queue(tool, args.get(2).map_or("all", String::as_str))?;
    let mut conn = tool.open(&args[0])?;
    // 1.0 tells of one port at a time.
    let ports: Vec<OfPort> = match port == OfPort::NONE && conn.version == Version::Of10 {
        true => match conn.ask(tool.next_xid(), Body::FeaturesRequest)?.body {
            Body::FeaturesReply(f) => {
                // OVS's tool goes on on a connection of its own.
                tool.xid += 1;
                f.ports.iter().map(|p| p.port).filter(|p| *p < OfPort::MAX).collect()
            }
            _ => return Err(Failure::fatal(format!("{}: received bad features reply", args[0]))),
        },
        false => vec![port],
    };
    for port in ports {
        let request = conn.message(tool.next_xid(), Body::QueueConfigRequest(port, queue));
        dump(tool, &mut conn, &request)?;
    }
    Ok(0)
}

pub(super) fn dump_ipfix_bridge(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    dump_one(tool, &args[0], Body::IpfixBridgeRequest)
}

pub(super) fn dump_ipfix_flow(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    dump_one(tool, &args[0], Body::IpfixFlowRequest)
}

pub(super) fn dump_tlv_map(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    dump_one(tool, &args[0], Body::TlvTableRequest)
}

/// Reads which flows are meant, behind a connection that tells the names of ports; and the formats that
/// can say it.
fn flow_request(
    tool: &mut Tool<'_, '_>,
    args: &[String],
) -> Result<(FlowStatsRequest, Protocols), Failure> {
    let mut usable = Protocols::ALL;
    let mut request = FlowStatsRequest {
        match_: Match::ANY,
        cookie: 0,
        cookie_mask: 0,
        out_port: OfPort::NONE,
        out_group: openflow::flow_mod::GROUP_ANY,
        table: base::TableId::ALL,
    };
    if let Some(text) = args.get(1) {
        let names = tool.names_in(&args[0])?;
        let parsed = parse_flow(text, FlowModCommand::Delete, &names, tool.settings.mode)
            .map_err(|e| tool.bad_text(None, text, &e))?;
        let f = parsed.flow;
        // Requests have a place for the table in every format.
        usable = parsed.usable.without_table();
        request = FlowStatsRequest {
            match_: f.match_,
            cookie: f.cookie,
            cookie_mask: f.cookie_mask,
            out_port: f.out_port,
            out_group: f.out_group,
            table: f.table.unwrap_or(base::TableId::ALL),
        };
    }
    Ok((request, usable))
}

pub(super) fn dump_flows(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let (request, usable) = flow_request(tool, args)?;
    if tool.settings.sort.is_empty() && tool.settings.stats && !tool.settings.names.1 {
        let (mut conn, nicira) = protocols::open_dump(tool, &args[0], usable)?;
        let mut message = conn.message(tool.next_xid(), Body::FlowStatsRequest(request));
        message.nicira = nicira;
        return dump(tool, &mut conn, &message);
    }
    let names = tool.names_out(&args[0])?;
    let shown = Names::or_none(names.as_ref());
    let (mut conn, nicira) = protocols::open_dump(tool, &args[0], usable)?;
    let mut flows = fetch_flows(tool, &mut conn, nicira, request)?;
    if !tool.settings.sort.is_empty() {
        flows.sort_by(|a, b| compare(&tool.settings.sort, a, b));
    }
    for f in &mut flows {
        // Nicira's ages are told only where nothing is added to what the switch says.
        if conn.version < Version::Of15 {
            f.idle_age = None;
            f.hard_age = None;
        }
        let stats = tool.settings.stats;
        let text = FlowStatsText { f, stats, version: conn.version, names: shown };
        match &tool.settings.colors {
            Some(colors) => writeln!(tool.session.out, " {}", colors.paint(&text.to_string()))?,
            None => writeln!(tool.session.out, " {text}")?,
        }
    }
    Ok(0)
}

/// All flows of a switch that a request asks for.
///
/// # Errors
/// The connection broke; the switch answers with an error.
pub(super) fn fetch_flows(
    tool: &mut Tool<'_, '_>,
    conn: &mut Conn,
    nicira: bool,
    request: FlowStatsRequest,
) -> Result<Vec<FlowStats>, Failure> {
    let mut message = conn.message(tool.next_xid(), Body::FlowStatsRequest(request));
    message.nicira = nicira;
    let mut bytes = conn.transact(&message)?;
    let mut flows = Vec::new();
    loop {
        let reply = conn.decode(&bytes)?;
        match reply.body {
            Body::FlowStatsReply(list) => flows.extend(list),
            _ => {
                return tool.refused(conn, &bytes);
            }
        }
        if !reply.more {
            return Ok(flows);
        }
        bytes = conn.reply(message.xid)?;
    }
}

/// Whether flows can be sorted by a field.
pub(super) fn check_sort_field(name: &str) -> Result<(), Failure> {
    let known = name == "priority" || Field::by_name(name).is_some();
    match known {
        true => Ok(()),
        false => Err(Failure::fatal(format!("{name}: unknown field name"))),
    }
}

/// The order of two flows: a flow that says nothing of a field comes last, whichever the direction.
fn compare(sort: &[(String, bool)], a: &FlowStats, b: &FlowStats) -> Ordering {
    for (name, down) in sort {
        let order = if name == "priority" {
            a.priority.cmp(&b.priority)
        } else {
            let Some(row) = Field::by_name(name) else { continue };
            let of = |f: &FlowStats| {
                let set = f.match_.has_prereq(row.prereq) && row.get(&f.match_.mask) != 0;
                set.then(|| row.get(&f.match_.key))
            };
            match (of(a), of(b)) {
                (None, None) => continue,
                (None, Some(_)) => return Ordering::Greater,
                (Some(_), None) => return Ordering::Less,
                (Some(a), Some(b)) => a.cmp(&b),
            }
        };
        let order = if *down { order.reverse() } else { order };
        if order != Ordering::Equal {
            return order;
        }
    }
    // What is still equal goes by priority, downward.
    b.priority.cmp(&a.priority)
}

pub(super) fn dump_aggregate(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let (request, usable) = flow_request(tool, args)?;
    let (mut conn, nicira) = protocols::open_dump(tool, &args[0], usable)?;
    let mut message = conn.message(tool.next_xid(), Body::AggregateRequest(request));
    message.nicira = nicira;
    dump(tool, &mut conn, &message)
}

/// The configuration of a switch.
pub(super) fn config(tool: &mut Tool<'_, '_>, conn: &mut Conn) -> Result<SwitchConfig, Failure> {
    match conn.ask(tool.next_xid(), Body::GetConfigRequest)?.body {
        Body::GetConfigReply(config) => Ok(config),
        _ => Err(Failure::fatal(format!("{}: bad reply to config request", conn.name))),
    }
}

pub(super) fn get_frags(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = tool.open(&args[0])?;
    let config = config(tool, &mut conn)?;
    writeln!(tool.session.out, "{}", frag_name(config.frag))?;
    Ok(0)
}

pub(super) fn set_frags(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let unknown = || Failure::fatal(format!("{}: unknown fragment handling mode", args[1]));
    let frag = frag_from_name(&args[1]).ok_or_else(unknown)?;
    let mut conn = tool.open(&args[0])?;
    let old = config(tool, &mut conn)?;
    if old.frag == frag {
        return Ok(0);
    }
    tool.change(&mut conn, Body::SetConfig(SwitchConfig { frag, ..old }), false)?;
    if config(tool, &mut conn)?.frag != frag {
        let text = format!(
            "{}: setting fragment handling mode failed (this switch probably doesn't support mode \
             \"{}\")",
            args[0],
            frag_name(frag)
        );
        return Err(Failure::fatal(text));
    }
    Ok(0)
}

pub(super) fn probe(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = tool.open(&args[0])?;
    match conn.ask(tool.next_xid(), Body::EchoRequest(Vec::new()))?.body {
        Body::EchoReply(data) if data.is_empty() => Ok(0),
        _ => Err(Failure::fatal("reply does not match request")),
    }
}

/// Echos of a `ping`.
const PINGS: u32 = 10;
/// The longest payload of an echo.
const MAX_PAYLOAD: usize = 65_535 - 8;

pub(super) fn ping(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let text = args.get(1).map_or("64", String::as_str);
    let len: usize = text.parse().map_err(|_| Failure::fatal(format!("{text}: not a length")))?;
    if len > MAX_PAYLOAD {
        let text = format!("payload must be at most {MAX_PAYLOAD} bytes");
        return Err(Failure::fatal(text));
    }
    let mut conn = tool.open(&args[0])?;
    for round in 0..PINGS {
        let data: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(31) ^ round) as u8).collect();
        let xid = tool.next_xid();
        let start = Instant::now();
        let reply = conn.ask(xid, Body::EchoRequest(data.clone()))?;
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        if reply.body != Body::EchoReply(data) {
            writeln!(tool.session.out, "Reply does not match request:")?;
        }
        writeln!(tool.session.out, "{len} bytes from {}: xid={xid:08x} time={ms:.1} ms", args[0])?;
    }
    Ok(0)
}

pub(super) fn benchmark(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let number = |text: &String| {
        text.parse::<usize>().map_err(|_| Failure::fatal(format!("{text}: not a number")))
    };
    let (payload, count) = (number(&args[1])?, number(&args[2])?);
    if payload > MAX_PAYLOAD {
        let text = format!("payload must be between 0 and {MAX_PAYLOAD} bytes");
        return Err(Failure::fatal(text));
    }
    let size = payload + 8;
    let total = count * size;
    writeln!(
        tool.session.out,
        "Sending {count} packets * {size} bytes (with header) = {total} bytes total"
    )?;
    let mut conn = tool.open(&args[0])?;
    let start = Instant::now();
    for _ in 0..count {
        let xid = tool.next_xid();
        conn.ask(xid, Body::EchoRequest(vec![0; payload]))?;
    }
    let secs = start.elapsed().as_secs_f64();
    let (packets, bytes) = (count as f64 / secs, total as f64 / secs);
    writeln!(
        tool.session.out,
        "Finished in {:.1} ms ({packets:.0} packets/s) ({bytes:.0} bytes/s)",
        secs * 1000.0
    )?;
    Ok(0)
}

/// Reads hexadecimal digits, white space between them allowed.
pub(super) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pair = |p: &[u8]| Some(digit(p[0])? << 4 | digit(*p.get(1)?)?);
    digits.chunks(2).map(pair).collect()
}

pub(super) fn ofp_print(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let hex = match &args[0][..] {
        "-" if tool.settings.pcap => None,
        "-" => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            Some(line)
        }
        hex => Some(hex.to_owned()),
    };
    let bytes = match hex {
        None => super::offline::read_bytes("-", "read failed")?,
        Some(hex) => {
            hex_bytes(&hex).ok_or_else(|| Failure::fatal("trailing garbage following hex bytes"))?
        }
    };
    let more: u8 = match args.get(1) {
        Some(text) => text.parse().map_err(|_| Failure::fatal(format!("{text}: not a number")))?,
        None => 2,
    };
    let session = Agreed { flow_mod_table_id: true };
    let read = Message::decode(&bytes, session);
    super::log::message(&bytes, &read);
    let style = Style { names: &NoNames, verbosity: more, session };
    let text = BytesText { bytes: &bytes, style };
    write!(tool.session.out, "{}", ReadText { text, read: &read })?;
    Ok(0)
}
