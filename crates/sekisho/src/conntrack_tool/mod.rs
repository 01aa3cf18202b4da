//! `sekisho conntrack`: the switch's connections, with the options and outputs of conntrack-tools.
//!
//! The table belongs to the daemon, which is asked over its control socket by the words of
//! [`switchd::ctl::conntrack`]; a stock `ovs-vswitchd`, which does not know them, is asked by
//! `dpctl/…` ([`ovs`]). Results go to standard output, the closing count to standard error.
//!
//! Where conntrack-tools take nonsense in silence (`--dport ssh`, `-w 70000`), this tool refuses it unless
//! `--lenient` is given.
//! Beyond conntrack-tools: ports and state can be given without `-p`, and `-z 5` is `-w 5`.

mod format;
mod ovs;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use switchd::ctl::conntrack::{
    AddrMatch, ConnEventKind, ConnEvents, ConnFilter, ConnRecord, ConnStats, Family,
};

use crate::applet::{Failure, Outcome, Session};
use crate::control::{Control, DEFAULT_TARGET};
use crate::getopt::{Arg, Opt, Order, Parsed, parse_text};
use format::{Output, XML_HEAD, XML_TAIL};

/// The release of conntrack-tools whose texts these are.
const BANNER: &str = "conntrack v1.4.7 (conntrack-tools)";

/// What an option is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    List,
    Get,
    Delete,
    Event,
    Flush,
    Count,
    Stats,
    Unsupported,
    Version,
    Help,
    OrigSrc,
    OrigDst,
    ReplySrc,
    ReplyDst,
    MaskSrc,
    MaskDst,
    Proto,
    Family,
    Sport,
    Dport,
    ReplySport,
    ReplyDport,
    IcmpType,
    IcmpCode,
    IcmpIdent,
    State,
    Zone,
    Zero,
    Mark,
    Status,
    SrcNat,
    DstNat,
    AnyNat,
    EventMask,
    Output,
    Lenient,
    Ignored,
}

const fn opt(long: &'static str, short: Option<char>, arg: Arg, id: Id) -> Opt<Id> {
    Opt { long, short, arg, id }
}

const OPTIONS: &[Opt<Id>] = &[
    opt("dump", Some('L'), Arg::None, Id::List),
    opt("get", Some('G'), Arg::None, Id::Get),
    opt("delete", Some('D'), Arg::None, Id::Delete),
    opt("event", Some('E'), Arg::None, Id::Event),
    opt("flush", Some('F'), Arg::None, Id::Flush),
    opt("count", Some('C'), Arg::None, Id::Count),
    opt("stats", Some('S'), Arg::None, Id::Stats),
    opt("create", Some('I'), Arg::None, Id::Unsupported),
    opt("add", Some('A'), Arg::None, Id::Unsupported),
    opt("update", Some('U'), Arg::None, Id::Unsupported),
    opt("load-file", Some('R'), Arg::Required, Id::Unsupported),
    opt("version", Some('V'), Arg::None, Id::Version),
    opt("help", Some('h'), Arg::None, Id::Help),
    opt("src", Some('s'), Arg::Required, Id::OrigSrc),
    opt("orig-src", None, Arg::Required, Id::OrigSrc),
    opt("dst", Some('d'), Arg::Required, Id::OrigDst),
    opt("orig-dst", None, Arg::Required, Id::OrigDst),
    opt("reply-src", Some('r'), Arg::Required, Id::ReplySrc),
    opt("reply-dst", Some('q'), Arg::Required, Id::ReplyDst),
    opt("mask-src", None, Arg::Required, Id::MaskSrc),
    opt("mask-dst", None, Arg::Required, Id::MaskDst),
    opt("protonum", Some('p'), Arg::Required, Id::Proto),
    opt("proto", None, Arg::Required, Id::Proto),
    opt("family", Some('f'), Arg::Required, Id::Family),
    opt("sport", None, Arg::Required, Id::Sport),
    opt("orig-port-src", None, Arg::Required, Id::Sport),
    opt("dport", None, Arg::Required, Id::Dport),
    opt("orig-port-dst", None, Arg::Required, Id::Dport),
    opt("reply-port-src", None, Arg::Required, Id::ReplySport),
    opt("reply-port-dst", None, Arg::Required, Id::ReplyDport),
    opt("icmp-type", None, Arg::Required, Id::IcmpType),
    opt("icmp-code", None, Arg::Required, Id::IcmpCode),
    opt("icmp-id", None, Arg::Required, Id::IcmpIdent),
    opt("icmpv6-type", None, Arg::Required, Id::IcmpType),
    opt("icmpv6-code", None, Arg::Required, Id::IcmpCode),
    opt("icmpv6-id", None, Arg::Required, Id::IcmpIdent),
    opt("state", None, Arg::Required, Id::State),
    opt("zone", Some('w'), Arg::Required, Id::Zone),
    opt("orig-zone", None, Arg::Required, Id::Zone),
    opt("reply-zone", None, Arg::Required, Id::Zone),
    opt("zero", Some('z'), Arg::None, Id::Zero),
    opt("mark", Some('m'), Arg::Required, Id::Mark),
    opt("status", Some('u'), Arg::Required, Id::Status),
    opt("src-nat", Some('n'), Arg::Optional, Id::SrcNat),
    opt("dst-nat", Some('g'), Arg::Optional, Id::DstNat),
    opt("any-nat", Some('j'), Arg::Optional, Id::AnyNat),
    opt("event-mask", Some('e'), Arg::Required, Id::EventMask),
    opt("output", Some('o'), Arg::Required, Id::Output),
    opt("lenient", None, Arg::None, Id::Lenient),
    opt("buffer-size", Some('b'), Arg::Required, Id::Ignored),
];

/// States that a filter may name: TCP's, then SCTP's.
const STATES: &[&str] = &[
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "LISTEN",
    "SYN_SENT2",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
];

const HELP: &str = "\
usage: conntrack COMMAND [OPTION]...
Lists, watches and deletes the connections that the running switch tracks.

Commands:
  -L [TABLE]              list connections
  -G                      show one connection
  -D                      delete the connections that match
  -F                      delete all connections
  -E                      print events as they happen
  -C                      print the number of connections
  -S                      print statistics of each worker

Which connections:
  -s, --src IP[/MASK]     source address, original direction
  -d, --dst IP[/MASK]     destination address, original direction
  -r, --reply-src IP      source address, reply direction
  -q, --reply-dst IP      destination address, reply direction
  -p, --protonum PROTO    tcp, udp, icmp, icmpv6, sctp, ... or a number
  -f, --family PROTO      ipv4 or ipv6
  --sport, --dport PORT   ports, original direction
  --reply-port-src PORT, --reply-port-dst PORT
  --state STATE           ESTABLISHED, TIME_WAIT, ...
  --icmp-type, --icmp-code, --icmp-id NUMBER
  -w, --zone ZONE         connection tracking zone
  -m, --mark MARK[/MASK]  ct_mark
  -u, --status STATUS     ASSURED, SEEN_REPLY or UNREPLIED
  -n, -g, -j              source, destination, any address or port rewritten

Output:
  -o, --output TYPE[,...] extended, id, timestamp, labels, xml
  -e, --event-mask EVENT[,...]  NEW, UPDATES, DESTROY or ALL
  -z, --zero              with -L: zero the counters that are read
  --lenient               take numbers that are none or too large
";

/// A mistake in the arguments: exit status 2 and where to look.
fn usage(session: &mut Session<'_>, text: impl std::fmt::Display) -> Failure {
    let _ = writeln!(
        session.err,
        "{BANNER}: {text}\nTry `conntrack -h' or 'conntrack --help' for more information."
    );
    Failure::Silent(2)
}

/// Anything else that fails: exit status 1.
fn failed(session: &mut Session<'_>, text: impl std::fmt::Display) -> Failure {
    let _ = session.out.flush();
    let _ = writeln!(session.err, "{BANNER}: {text}");
    Failure::Silent(1)
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = match parse_text("", OPTIONS, Order::Permute, zone_for_zero(args)) {
        Ok(parsed) => parsed,
        Err(text) => {
            // getopt says `: invalid option -- 'Q'` or `: unrecognized option '--frob'`.
            let word = text.rsplit('\'').nth(1).unwrap_or_default();
            let dashes = if text.contains("invalid option --") { "-" } else { "" };
            let text = match text.contains("requires an argument") {
                true => format!("option `{dashes}{word}' requires an argument"),
                false => format!("unknown option `{dashes}{word}'"),
            };
            return Err(usage(session, text));
        }
    };
    let mut commands = parsed.options.iter().filter(|o| {
        use Id::{Count, Delete, Event, Flush, Get, Help, List, Stats, Unsupported, Version};
        matches!(
            o.id,
            List | Get | Delete | Event | Flush | Count | Stats | Unsupported | Version | Help
        )
    });
    let Some(command) = commands.next() else {
        write!(session.out, "{HELP}")?;
        return Ok(0);
    };
    if commands.next().is_some() {
        return Err(usage(session, "Invalid commands combination"));
    }
    let own_table = match parsed.rest.first().map(String::as_str) {
        None | Some("conntrack") => true,
        Some("expect" | "dying" | "unconfirmed") => false,
        Some(other) => return Err(usage(session, format_args!("unknown type `{other}'"))),
    };
    if let Some(extra) = parsed.rest.get(1) {
        return Err(usage(session, format_args!("unknown argument `{extra}'")));
    }
    let (filter, output, events) = match options(&parsed) {
        Ok(done) => done,
        Err(text) => return Err(usage(session, text)),
    };
    match command.id {
        Id::Version => writeln!(session.out, "{BANNER}").map(|()| 0).map_err(Failure::Io),
        Id::Help => write!(session.out, "{HELP}").map(|()| 0).map_err(Failure::Io),
        Id::Unsupported => {
            let name = &command.name;
            let text = format!("`--{name}' is not supported: only packets make connections here");
            Err(usage(session, text))
        }
        _ if !own_table => other_table(session, command.id, &parsed.rest[0]),
        _ => {
            let mut daemon = Daemon::connect(session)?;
            match command.id {
                Id::Get => get(session, &mut daemon, &filter, output),
                Id::Delete => delete(session, &mut daemon, &filter, output),
                Id::Event => watch(session, &mut daemon, &filter, output, &events),
                Id::Flush => flush(session, &mut daemon),
                Id::Count => count(session, &mut daemon),
                Id::Stats => stats(session, &mut daemon),
                _ => list(session, &mut daemon, &filter, output),
            }
        }
    }
}

/// `-z 5` means `-w 5`; a `-z` with no number after it stays what it is.
fn zone_for_zero(mut args: Vec<String>) -> Vec<String> {
    for i in 1..args.len() {
        if args[i - 1] == "-z" && args[i].parse::<u64>().is_ok() {
            args[i - 1] = "-w".to_owned();
        }
    }
    args
}

/// The tables that Linux has beside the connections; there is never anything in them here.
fn other_table(session: &mut Session<'_>, command: Id, table: &str) -> Outcome {
    let what = if table == "expect" { "expectations" } else { "flow entries" };
    match command {
        Id::Count => writeln!(session.out, "0")?,
        Id::List => writeln!(session.err, "{BANNER}: 0 {what} have been shown.")?,
        Id::Flush if table == "expect" => {
            writeln!(session.err, "{BANNER}: expectation table has been emptied.")?;
        }
        _ => return Err(usage(session, format_args!("there is nothing to do with `{table}'"))),
    }
    Ok(0)
}

/// Turns the options into a filter, an output form and the events that are wanted.
fn options(parsed: &Parsed<Id>) -> Result<(ConnFilter, Output, Vec<ConnEventKind>), String> {
    let mut filter = ConnFilter::default();
    let mut output = Output::default();
    let mut events = Vec::new();
    let (mut mask_src, mut mask_dst) = (None, None);
    let lenient = parsed.has(Id::Lenient);
    for option in &parsed.options {
        let value = option.value.as_deref().unwrap_or_default();
        let name = &option.name;
        let number = |max: u64| match value.parse::<u64>() {
            Ok(n) if n <= max => Ok(n),
            // As conntrack-tools: the low bits, or 0.
            n if lenient => Ok(n.unwrap_or(0) & max),
            _ => Err(format!("`{value}' is not a number from 0 to {max}, which `--{name}' takes")),
        };
        #[allow(clippy::cast_possible_truncation, reason = "number() has checked the range")]
        match option.id {
            Id::OrigSrc => filter.orig.src = Some(address(value)?),
            Id::OrigDst => filter.orig.dst = Some(address(value)?),
            Id::ReplySrc => filter.reply.src = Some(address(value)?),
            Id::ReplyDst => filter.reply.dst = Some(address(value)?),
            Id::MaskSrc => mask_src = Some(address(value)?.addr),
            Id::MaskDst => mask_dst = Some(address(value)?.addr),
            Id::Proto => match format::protocol_number(value) {
                Some(number) => filter.proto = Some(number),
                None => return Err(format!("`{value}' unsupported protocol")),
            },
            Id::Family => {
                filter.family = Some(match value {
                    "ipv4" => Family::Ipv4,
                    "ipv6" => Family::Ipv6,
                    _ => return Err(format!("`{value}' unsupported protocol")),
                });
            }
            Id::Sport => filter.orig.sport = Some(number(0xffff)? as u16),
            Id::Dport => filter.orig.dport = Some(number(0xffff)? as u16),
            Id::ReplySport => filter.reply.sport = Some(number(0xffff)? as u16),
            Id::ReplyDport => filter.reply.dport = Some(number(0xffff)? as u16),
            Id::IcmpType => filter.icmp_type = Some(number(0xff)? as u8),
            Id::IcmpCode => filter.icmp_code = Some(number(0xff)? as u8),
            Id::IcmpIdent => filter.icmp_id = Some(number(0xffff)? as u16),
            Id::Zone => filter.zone = Some(number(0xffff)? as u16),
            Id::Zero => filter.zero = true,
            Id::State if STATES.contains(&value) => filter.state = Some(value.to_owned()),
            Id::State => return Err(format!("unknown TCP state `{value}'")),
            Id::Mark => {
                filter.mark = Some(
                    mark(value).or_else(|e| if lenient { Ok((0, u32::MAX)) } else { Err(e) })?,
                )
            }
            Id::Status => {
                for word in value.split(',') {
                    match word {
                        "ASSURED" => filter.assured = Some(true),
                        "SEEN_REPLY" => filter.seen_reply = Some(true),
                        "UNREPLIED" => filter.seen_reply = Some(false),
                        "UNSET" => {}
                        _ => return Err(format!("Bad parameter `{word}'")),
                    }
                }
            }
            Id::SrcNat => {
                filter.src_nat = true;
                if !value.is_empty() {
                    filter.reply.dst = Some(address(value)?);
                }
            }
            Id::DstNat => {
                filter.dst_nat = true;
                if !value.is_empty() {
                    filter.reply.src = Some(address(value)?);
                }
            }
            Id::AnyNat => filter.any_nat = true,
            Id::EventMask => {
                use ConnEventKind::{Destroy, New, Update};
                for word in value.split(',') {
                    events.extend_from_slice(match word {
                        "ALL" => &[New, Update, Destroy],
                        "NEW" => &[New],
                        "UPDATES" => &[Update],
                        "DESTROY" => &[Destroy],
                        _ => return Err(format!("Bad parameter `{word}'")),
                    });
                }
            }
            Id::Output => {
                for word in value.split(',') {
                    match word {
                        "extended" => output.extended = true,
                        "id" => output.id = true,
                        "timestamp" => output.timestamp = true,
                        "labels" => output.labels = true,
                        "xml" => output.xml = true,
                        // Nothing of that kind is known here, as on a kernel that records none.
                        "ktimestamp" | "userspace" => {}
                        _ => return Err(format!("Bad parameter `{word}'")),
                    }
                }
            }
            _ => {}
        }
    }
    let masked = [(&mut filter.orig.src, mask_src), (&mut filter.orig.dst, mask_dst)];
    for (address, mask) in masked {
        if let (Some(address), Some(mask)) = (address, mask) {
            if address.addr.is_ipv4() != mask.is_ipv4() {
                return Err(format!("Invalid mask `{mask}' for `{}'", address.addr));
            }
            address.mask = mask;
        }
    }
    if events.is_empty() {
        events = vec![ConnEventKind::New, ConnEventKind::Update, ConnEventKind::Destroy];
    }
    Ok((filter, output, events))
}

/// `ADDRESS`, `ADDRESS/PREFIX` or `ADDRESS/MASK`.
fn address(text: &str) -> Result<AddrMatch, String> {
    let (addr_text, mask_text) = match text.split_once('/') {
        Some((addr, mask)) => (addr, Some(mask)),
        None => (text, None),
    };
    let addr: IpAddr =
        addr_text.parse().map_err(|_| format!("Invalid IP address `{addr_text}'"))?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let invalid = |mask: &str| format!("Invalid mask `{mask}' for `{addr}'");
    let mask = match mask_text {
        None => prefix(addr, width),
        Some(text) => match (text.parse::<u32>(), text.parse::<IpAddr>()) {
            (Ok(bits), _) if bits <= width => prefix(addr, bits),
            (_, Ok(mask)) if mask.is_ipv4() == addr.is_ipv4() => mask,
            _ => return Err(invalid(text)),
        },
    };
    Ok(AddrMatch { addr, mask })
}

/// The mask of `bits` leading ones, in the family of `addr`.
fn prefix(addr: IpAddr, bits: u32) -> IpAddr {
    if addr.is_ipv4() {
        Ipv4Addr::from_bits(!u32::MAX.checked_shr(bits).unwrap_or(0)).into()
    } else {
        Ipv6Addr::from_bits(!u128::MAX.checked_shr(bits).unwrap_or(0)).into()
    }
}

/// `VALUE` or `VALUE/MASK`, decimal or `0x…`.
fn mark(text: &str) -> Result<(u32, u32), String> {
    let number = |t: &str| match t.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => t.parse(),
    };
    let parsed = match text.split_once('/') {
        Some((value, mask)) => number(value).and_then(|v| number(mask).map(|m| (v, m))),
        None => number(text).map(|v| (v, u32::MAX)),
    };
    parsed.map_err(|_| format!("`{text}' is not a mark: want VALUE or VALUE/MASK of 32 bits"))
}

/// The daemon, and whether it is one of ours.
struct Daemon {
    control: Control,
}

impl Daemon {
    fn connect(session: &mut Session<'_>) -> Result<Self, Failure> {
        match Control::connect(session, DEFAULT_TARGET) {
            Ok(control) => Ok(Self { control }),
            Err(Failure::Fatal(_, text)) => Err(failed(session, text)),
            Err(other) => Err(other),
        }
    }

    /// Asks by one of the `conntrack/*` words; `None` if the daemon does not know it.
    fn ask<T: for<'de> serde::Deserialize<'de>>(
        &mut self,
        session: &mut Session<'_>,
        word: &str,
        args: &[String],
    ) -> Result<Option<T>, Failure> {
        match self.control.call(session, word, args)? {
            Ok(text) => match serde_json::from_str(&text) {
                Ok(value) => Ok(Some(value)),
                Err(e) => Err(failed(session, format_args!("cannot read the daemon's reply: {e}"))),
            },
            Err(text) if text.contains("is not a valid command") => Ok(None),
            Err(text) => Err(failed(session, text.trim_end())),
        }
    }

    /// Asks a stock daemon; its text.
    fn stock(
        &mut self,
        session: &mut Session<'_>,
        word: &str,
        args: &[String],
    ) -> Result<String, Failure> {
        match self.control.call(session, word, args)? {
            Ok(text) => Ok(text),
            Err(text) => Err(failed(session, text.trim_end())),
        }
    }

    /// The connections that match, from either kind of daemon.
    fn list(
        &mut self,
        session: &mut Session<'_>,
        filter: &ConnFilter,
    ) -> Result<Vec<ConnRecord>, Failure> {
        if let Some(records) = self.ask(session, "conntrack/list", &[json(filter)?])? {
            return Ok(records);
        }
        let text = self.stock(session, "dpctl/dump-conntrack", &["-s".to_owned()])?;
        let mut records = ovs::parse_dump(&text).map_err(|e| failed(session, e))?;
        records.retain(|c| filter.matches(c));
        Ok(records)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::fatal(e.to_string()))
}

/// Prints connections and the closing count.
fn show(
    session: &mut Session<'_>,
    records: &[ConnRecord],
    output: Output,
    done: &str,
) -> Result<(), Failure> {
    if output.xml && !records.is_empty() {
        write!(session.out, "{XML_HEAD}")?;
    }
    for c in records {
        writeln!(session.out, "{}", format::record(c, output))?;
    }
    if output.xml && !records.is_empty() {
        write!(session.out, "{XML_TAIL}")?;
    }
    session.out.flush()?;
    writeln!(session.err, "{BANNER}: {} flow entries have been {done}.", records.len())?;
    Ok(())
}

fn list(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    let records = daemon.list(session, filter)?;
    show(session, &records, output, "shown")?;
    Ok(0)
}

fn get(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    let records = daemon.list(session, filter)?;
    if records.is_empty() {
        return Err(failed(session, "Operation failed: such conntrack doesn't exist"));
    }
    show(session, &records[..1], output, "shown")?;
    Ok(0)
}

fn delete(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
) -> Outcome {
    let records: Vec<ConnRecord> =
        match daemon.ask(session, "conntrack/delete", &[json(filter)?])? {
            Some(records) => records,
            None => {
                let records = daemon.list(session, filter)?;
                for c in &records {
                    daemon.stock(session, "dpctl/flush-conntrack", &ovs::flush_args(c))?;
                }
                records
            }
        };
    show(session, &records, output, "deleted")?;
    Ok(u8::from(records.is_empty()))
}

fn flush(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    let done: Option<serde_json::Value> = daemon.ask(session, "conntrack/flush", &[])?;
    if done.is_none() {
        daemon.stock(session, "dpctl/flush-conntrack", &[])?;
    }
    writeln!(session.err, "{BANNER}: connection tracking table has been emptied.")?;
    Ok(0)
}

fn count(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    match daemon.ask::<u64>(session, "conntrack/count", &[])? {
        Some(n) => writeln!(session.out, "{n}")?,
        None => {
            let text = daemon.stock(session, "dpctl/ct-get-nconns", &[])?;
            writeln!(session.out, "{}", text.trim_end())?;
        }
    }
    Ok(0)
}

fn stats(session: &mut Session<'_>, daemon: &mut Daemon) -> Outcome {
    let Some(workers) = daemon.ask::<Vec<ConnStats>>(session, "conntrack/stats", &[])? else {
        return Err(failed(session, "this daemon keeps no such statistics"));
    };
    for (i, s) in workers.iter().enumerate() {
        writeln!(
            session.out,
            "cpu={i:<4}\tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} \
             error={} search_restart={} clash_resolve={} chaintoolong={} ",
            s.found,
            s.invalid,
            s.insert,
            s.insert_failed,
            s.drop,
            s.early_drop,
            s.error,
            s.search_restart,
            s.clash_resolve,
            s.chaintoolong,
        )?;
    }
    Ok(0)
}

/// `-E`: prints events until the reader leaves, the daemon stops, or SIGINT or SIGTERM comes.
fn watch(
    session: &mut Session<'_>,
    daemon: &mut Daemon,
    filter: &ConnFilter,
    output: Output,
    wanted: &[ConnEventKind],
) -> Outcome {
    let shown = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    count_on_signal(std::sync::Arc::clone(&shown), output.xml)?;
    let filter = json(filter)?;
    let Some(start) = daemon.ask::<ConnEvents>(session, "conntrack/events", &[])? else {
        return Err(failed(session, "this daemon does not report events"));
    };
    let mut seq = start.seq;
    if output.xml {
        write!(session.out, "{XML_HEAD}")?;
    }
    loop {
        session.out.flush()?;
        let args = [seq.to_string(), filter.clone()];
        let Some(batch) = daemon.ask::<ConnEvents>(session, "conntrack/events", &args)? else {
            return Err(failed(session, "the daemon stopped reporting events"));
        };
        seq = batch.seq;
        if batch.lost != 0 {
            session.out.flush()?;
            writeln!(session.err, "{BANNER}: {} events were lost", batch.lost)?;
        }
        for e in batch.events.iter().filter(|e| wanted.contains(&e.kind)) {
            writeln!(session.out, "{}", format::event(e, output))?;
            shown.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Prints the closing count and ends the process when it is asked to stop.
fn count_on_signal(
    shown: std::sync::Arc<std::sync::atomic::AtomicU64>,
    xml: bool,
) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (int, term) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            if let (Ok(mut int), Ok(mut term)) = (int, term) {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                let n = shown.load(std::sync::atomic::Ordering::Relaxed);
                if xml {
                    // The main thread holds the lock of standard output: go around it.
                    let _ = std::fs::OpenOptions::new()
                        .append(true)
                        .open("/dev/stdout")
                        .and_then(|mut f| f.write_all(XML_TAIL.as_bytes()));
                }
                let mut err = std::io::stderr();
                let _ = writeln!(err, "{BANNER}: {n} flow events have been shown.");
                std::process::exit(0);
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(args: &[&str]) -> Result<ConnFilter, String> {
        let args = zone_for_zero(args.iter().map(|s| (*s).to_owned()).collect());
        let parsed = parse_text("", OPTIONS, Order::Permute, args)?;
        options(&parsed).map(|(filter, _, _)| filter)
    }

    #[test]
    fn filters() {
        let f = filter(&["-p", "tcp", "--sport", "1000", "--orig-port-dst=22", "-w5"]).unwrap();
        assert_eq!(
            (f.proto, f.orig.sport, f.orig.dport, f.zone),
            (Some(6), Some(1000), Some(22), Some(5))
        );
        let f = filter(&["-L", "-z", "5", "-m", "0x2a/0xff"]).unwrap();
        assert_eq!((f.zone, f.mark, f.zero), (Some(5), Some((42, 255)), false));
        assert!(filter(&["-L", "-z", "-p", "6"]).unwrap().zero);
        let f = filter(&["-s", "10.0.0.0/8", "-d", "fe80::/10"]).unwrap();
        assert_eq!(f.orig.src.unwrap().mask, "255.0.0.0".parse::<IpAddr>().unwrap());
        assert_eq!(f.orig.dst.unwrap().mask, "ffc0::".parse::<IpAddr>().unwrap());
        let f = filter(&["-s", "10.0.0.1", "--mask-src", "255.255.0.0"]).unwrap();
        assert_eq!(f.orig.src.unwrap().mask, "255.255.0.0".parse::<IpAddr>().unwrap());
        assert_eq!(
            filter(&["-s", "0.0.0.0/0"]).unwrap().orig.src.unwrap().mask,
            Ipv4Addr::UNSPECIFIED
        );
        let f =
            filter(&["-u", "ASSURED,SEEN_REPLY", "--state", "TIME_WAIT", "-f", "ipv6"]).unwrap();
        assert_eq!(
            (f.assured, f.seen_reply, f.family),
            (Some(true), Some(true), Some(Family::Ipv6))
        );
    }

    #[test]
    fn nonsense_is_taken_if_asked_for() {
        let f = filter(&["-w", "70000", "--dport", "ssh", "-m", "abc", "--lenient"]).unwrap();
        assert_eq!((f.zone, f.orig.dport, f.mark), (Some(4464), Some(0), Some((0, u32::MAX))));
    }

    #[test]
    fn nonsense_is_refused() {
        for (args, text) in [
            (&["-p", "bogus"][..], "`bogus' unsupported protocol"),
            (&["-f", "bogus"], "`bogus' unsupported protocol"),
            (&["-s", "300.1.1.1"], "Invalid IP address `300.1.1.1'"),
            (&["-s", "10.0.0.0/33"], "Invalid mask `33' for `10.0.0.0'"),
            (&["--state", "BOGUS"], "unknown TCP state `BOGUS'"),
            (&["-u", "bogus"], "Bad parameter `bogus'"),
            (&["-o", "bogus"], "Bad parameter `bogus'"),
            (&["-e", "BOGUS"], "Bad parameter `BOGUS'"),
            (&["--dport", "ssh"], "`ssh' is not a number from 0 to 65535, which `--dport' takes"),
            (&["-w", "70000"], "`70000' is not a number from 0 to 65535, which `--zone' takes"),
            (&["-m", "abc"], "`abc' is not a mark: want VALUE or VALUE/MASK of 32 bits"),
        ] {
            assert_eq!(filter(args).unwrap_err(), text);
        }
    }

    fn call(args: &[&str]) -> (Result<u8, u8>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session = Session {
            program: "conntrack".into(),
            argv0: "conntrack".into(),
            out: &mut out,
            err: &mut err,
        };
        let outcome = run(&mut session, args.iter().map(|s| (*s).to_owned()).collect());
        let status = outcome.map_err(|f| match f {
            Failure::Silent(status) => status,
            other => panic!("{other:?}"),
        });
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn texts_of_conntrack_tools() {
        let hint = "\nTry `conntrack -h' or 'conntrack --help' for more information.\n";
        for (args, text) in [
            (&["-Q"][..], "unknown option `-Q'"),
            (&["--frob"], "unknown option `--frob'"),
            (&["-L", "-C"], "Invalid commands combination"),
            (&["-L", "bogus"], "unknown type `bogus'"),
        ] {
            let (status, out, err) = call(args);
            assert_eq!((status, out.as_str()), (Err(2), ""));
            assert_eq!(err, format!("{BANNER}: {text}{hint}"));
        }
        assert_eq!(call(&["-V"]).1, "conntrack v1.4.7 (conntrack-tools)\n");
        assert_eq!(call(&["-C", "expect"]).1, "0\n");
        let shown = "conntrack v1.4.7 (conntrack-tools): 0 expectations have been shown.\n";
        assert_eq!(call(&["-L", "expect"]).2, shown);
    }
}
