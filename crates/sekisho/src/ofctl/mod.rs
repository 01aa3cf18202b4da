//! `sekisho ofctl` (`ovs-ofctl`): reads and changes flow tables and ports over OpenFlow.
//!
//! [`target`] finds the socket that a bridge's name or a connection method means, [`conn`] speaks
//! OpenFlow on it, [`protocols`] chooses the flow format. The commands stand in [`COMMANDS`]:
//! [`query`] asks and prints, [`change`] changes flows, [`groups`] groups and meters, [`compare`] compares and replaces them,
//! [`ports`] changes ports and sends packets, [`watch`] prints what comes.
//!
//! Flows are read in the strict way, which refuses what OVS takes although it cannot mean it, and
//! errors show the place with a hint; with `--lenient` flows and errors are OVS's.

mod bundle;
mod change;
mod codec;
mod colors;
mod compare;
mod conn;
mod flow_monitor;
mod groups;
mod log;
mod names;
mod nicira;
mod offline;
mod ports;
mod protocols;
mod query;
mod settings;
mod tables;
mod target;
mod watch;

use flow::text::{Mode, TextError};
use openflow::message::{Body, Message};
use openflow::print::ReadText;
use openflow::version::Version;
use std::io::Write;
use std::path::PathBuf;
use switchd::vlog;

use crate::applet::{Failure, Outcome, Session, version_of};
use crate::control::{arm_timeout, logdir, parse_timeout, rundir, strerror};
use crate::getopt::{Order, parse};
use crate::pki::{self, Pki};
pub(crate) use change::read_file;
use conn::Conn;
pub use names::Names;
use protocols::Protocols;
use settings::{Id, OPTIONS, Settings, parse_versions};

/// One command.
struct Command {
    name: &'static str,
    /// Its arguments, for `--help`.
    usage: &'static str,
    min: usize,
    max: usize,
    help: &'static str,
    run: fn(&mut Tool<'_, '_>, &[String]) -> Outcome,
    /// It changes the switch, which `--read-only` forbids.
    changes: bool,
}

impl Command {
    const fn changing(self) -> Command {
        Command { changes: true, ..self }
    }
}

const fn command(
    name: &'static str,
    usage: &'static str,
    counts: (usize, usize),
    help: &'static str,
    run: fn(&mut Tool<'_, '_>, &[String]) -> Outcome,
) -> Command {
    Command { name, usage, min: counts.0, max: counts.1, help, run, changes: false }
}

/// Every command, in the order of `--help`.
const COMMANDS: &[Command] = &[
    command("show", "SWITCH", (1, 1), "show OpenFlow information", query::show),
    command("dump-desc", "SWITCH", (1, 1), "print switch description", query::dump_desc),
    command("dump-tables", "SWITCH", (1, 1), "print table counters", query::dump_tables),
    command(
        "dump-table-desc",
        "SWITCH",
        (1, 1),
        "print table configuration",
        query::dump_table_desc,
    ),
    command(
        "dump-table-features",
        "SWITCH",
        (1, 1),
        "print what tables can do",
        tables::dump_table_features,
    ),
    command(
        "mod-table",
        "SWITCH TABLE SETTING",
        (3, 3),
        "change how a table is configured",
        tables::mod_table,
    )
    .changing(),
    command("dump-ports", "SWITCH [PORT]", (1, 2), "print port counters", query::dump_ports),
    command(
        "dump-ports-desc",
        "SWITCH [PORT]",
        (1, 2),
        "print port descriptions",
        query::dump_ports_desc,
    ),
    command("dump-flows", "SWITCH [FLOW]", (1, 2), "print flows", query::dump_flows),
    command(
        "dump-aggregate",
        "SWITCH [FLOW]",
        (1, 2),
        "print sums over flows",
        query::dump_aggregate,
    ),
    command(
        "queue-stats",
        "SWITCH [PORT [QUEUE]]",
        (1, 3),
        "print queue counters",
        query::queue_stats,
    ),
    command(
        "queue-get-config",
        "SWITCH [PORT [QUEUE]]",
        (1, 3),
        "print the configuration of queues",
        query::queue_get_config,
    ),
    command("get-frags", "SWITCH", (1, 1), "print how fragments are treated", query::get_frags),
    command("set-frags", "SWITCH MODE", (2, 2), "set how fragments are treated", query::set_frags)
        .changing(),
    command(
        "add-flow",
        "SWITCH FLOW",
        (2, 2),
        "add a flow (\"-\": flows from stdin)",
        change::add_flow,
    )
    .changing(),
    command("add-flows", "SWITCH FILE", (2, 2), "add flows from a file", change::add_flows)
        .changing(),
    command("mod-flows", "SWITCH FLOW", (2, 2), "change actions of flows", change::mod_flows)
        .changing(),
    command("del-flows", "SWITCH [FLOW]", (1, 2), "delete flows", change::del_flows).changing(),
    command(
        "replace-flows",
        "SWITCH FILE",
        (2, 2),
        "make a switch's flows those of a file",
        compare::replace_flows,
    )
    .changing(),
    command("bundle", "SWITCH FILE", (2, 2), "make all changes of a file or none", bundle::bundle)
        .changing(),
    command(
        "diff-flows",
        "SOURCE1 SOURCE2",
        (2, 2),
        "compare the flows of two switches or files",
        compare::diff_flows,
    ),
    command("add-group", "SWITCH GROUP", (1, 2), "add a group", groups::add_group).changing(),
    command("add-groups", "SWITCH FILE", (2, 2), "add groups from a file", groups::add_groups)
        .changing(),
    command("mod-group", "SWITCH GROUP", (1, 2), "replace a group", groups::mod_group).changing(),
    command("del-groups", "SWITCH [GROUP]", (1, 2), "delete groups", groups::del_groups).changing(),
    command(
        "insert-buckets",
        "SWITCH GROUP",
        (1, 2),
        "add buckets to a group",
        groups::insert_buckets,
    )
    .changing(),
    command(
        "remove-buckets",
        "SWITCH GROUP",
        (1, 2),
        "remove buckets from a group",
        groups::remove_buckets,
    )
    .changing(),
    command("dump-groups", "SWITCH [GROUP]", (1, 2), "print groups", groups::dump_groups),
    command(
        "dump-group-stats",
        "SWITCH [GROUP]",
        (1, 2),
        "print counters of groups",
        groups::dump_group_stats,
    ),
    command(
        "dump-group-features",
        "SWITCH",
        (1, 1),
        "print what groups can be",
        groups::dump_group_features,
    ),
    command("add-meter", "SWITCH METER", (2, 2), "add a meter", groups::add_meter).changing(),
    command("mod-meter", "SWITCH METER", (2, 2), "replace a meter", groups::mod_meter).changing(),
    command("del-meter", "SWITCH METER", (1, 2), "delete a meter", groups::del_meters).changing(),
    command("del-meters", "SWITCH", (1, 2), "delete all meters", groups::del_meters).changing(),
    command("dump-meter", "SWITCH METER", (1, 2), "print a meter", groups::dump_meters),
    command("dump-meters", "SWITCH", (1, 2), "print all meters", groups::dump_meters),
    command(
        "meter-stats",
        "SWITCH [METER]",
        (1, 2),
        "print counters of meters",
        groups::meter_stats,
    ),
    command("meter-features", "SWITCH", (1, 1), "print what meters can be", groups::meter_features),
    command("mod-port", "SWITCH PORT ACTION", (3, 3), "change a port", ports::mod_port).changing(),
    command(
        "packet-out",
        "SWITCH IN_PORT ACTIONS PACKET... | SWITCH PACKET-OUT",
        (2, usize::MAX),
        "process a packet",
        ports::packet_out,
    )
    .changing(),
    command(
        "ct-flush-zone",
        "SWITCH ZONE",
        (2, 2),
        "forget the connections of a zone",
        nicira::ct_flush_zone,
    )
    .changing(),
    command(
        "ct-flush",
        "SWITCH [zone=N] [mark=X[/M]] [labels=Y[/N]] [ORIG-TUPLE [REPLY-TUPLE]]",
        (1, 6),
        "forget connections",
        nicira::ct_flush,
    )
    .changing(),
    command(
        "add-tlv-map",
        "SWITCH MAP",
        (2, 2),
        "map tunnel options to fields",
        nicira::add_tlv_map,
    )
    .changing(),
    command("del-tlv-map", "SWITCH [MAP]", (1, 2), "unmap tunnel options", nicira::del_tlv_map)
        .changing(),
    command(
        "dump-tlv-map",
        "SWITCH",
        (1, 1),
        "print what options are mapped to",
        query::dump_tlv_map,
    ),
    command(
        "dump-ipfix-bridge",
        "SWITCH",
        (1, 1),
        "print counters of what exports a bridge in IPFIX",
        query::dump_ipfix_bridge,
    ),
    command(
        "dump-ipfix-flow",
        "SWITCH",
        (1, 1),
        "print counters of what exports for sample actions",
        query::dump_ipfix_flow,
    ),
    command(
        "monitor",
        "SWITCH [MISSLEN] [invalid_ttl] [resume] [watch:[...]]",
        (1, usize::MAX),
        "print the messages a switch sends",
        watch::monitor,
    ),
    command(
        "snoop",
        "SWITCH",
        (1, 1),
        "print what a switch and its controller say to each other",
        watch::snoop,
    ),
    command("probe", "TARGET", (1, 1), "ask whether TARGET is there", query::probe),
    command("ping", "TARGET [N]", (1, 2), "time echos of N bytes", query::ping),
    command("benchmark", "TARGET N COUNT", (3, 3), "time COUNT echos of N bytes", query::benchmark),
    command(
        "parse-flow",
        "FLOW",
        (1, 1),
        "print a flow as it would be sent",
        change::parse_flow_command,
    ),
    command("parse-flows", "FILE", (1, 1), "print a file's flows as sent", change::parse_flows),
    command(
        "parse-group",
        "GROUP",
        (1, 1),
        "print a group as it would be sent",
        groups::parse_group_command,
    ),
    command("parse-nxm", "", (0, 0), "print entries of NXM as understood", codec::parse_nxm),
    command("parse-nx-match", "", (0, 0), "the same", codec::parse_nxm),
    command("parse-oxm", "VERSION", (1, 1), "print entries of OXM as understood", codec::parse_oxm),
    command(
        "parse-ofp10-match",
        "",
        (0, 0),
        "print matches of OpenFlow 1.0 as understood",
        codec::parse_ofp10_match,
    ),
    command(
        "parse-ofp11-match",
        "",
        (0, 0),
        "print matches of OpenFlow 1.1 as understood",
        codec::parse_ofp11_match,
    ),
    command(
        "parse-actions",
        "VERSION",
        (1, 1),
        "print actions as understood",
        codec::parse_actions,
    ),
    command(
        "parse-instructions",
        "VERSION",
        (1, 1),
        "print instructions as understood",
        codec::parse_instructions,
    ),
    command("parse-key-value", "TEXT...", (1, usize::MAX), "print pairs", codec::parse_key_value),
    command(
        "parse-pcap",
        "FILE...",
        (1, usize::MAX),
        "print the flows of the packets in files of tcpdump's",
        codec::parse_pcap,
    ),
    command(
        "check-vlan",
        "TCI MASK",
        (2, 2),
        "print how a match of a VLAN is said",
        codec::check_vlan,
    ),
    command("print-error", "ERROR", (1, 1), "print an error's numbers", codec::print_error),
    command(
        "encode-error-reply",
        "ERROR REQUEST",
        (2, 2),
        "print the bytes of an error",
        codec::encode_error_reply,
    ),
    command("encode-hello", "BITMAP", (1, 1), "print the bytes of a hello", codec::encode_hello),
    command("ofp-print", "HEX [VERBOSITY]", (1, 2), "print a message", query::ofp_print),
    command("ofp-parse", "FILE", (1, 1), "print the messages in a file", offline::ofp_parse),
    command(
        "ofp-parse-pcap",
        "FILE [PORT...]",
        (1, usize::MAX),
        "print the messages in a capture of tcpdump's",
        offline::ofp_parse_pcap,
    ),
    command(
        "compose-packet",
        "FLOW [PAYLOAD]",
        (1, 2),
        "print the packet that a flow describes",
        offline::compose_packet,
    ),
    command(
        "parse-packet",
        "",
        (0, 0),
        "print the flow of a packet on stdin",
        offline::parse_packet,
    ),
    command("list-commands", "", (0, usize::MAX), "list the commands", offline::list_commands),
    command("help", "[COMMAND]", (0, usize::MAX), "tell about a command", help_command),
];

/// What a command works with.
struct Tool<'a, 's> {
    session: &'a mut Session<'s>,
    settings: Settings,
    xid: u32,
    known: names::Known,
}

impl<'a, 's> Tool<'a, 's> {
    fn new(session: &'a mut Session<'s>, settings: Settings) -> Self {
        Self { session, settings, xid: 0, known: names::Known::default() }
    }

    /// A transaction id that has not been used.
    fn next_xid(&mut self) -> u32 {
        self.xid += 1;
        self.xid
    }

    /// Connects.
    fn open(&mut self, target: &str) -> Result<Conn, Failure> {
        Conn::open(self, target, conn::Socket::Management)
    }

    /// Sends what is answered only if it fails, and waits until it is done. An error of the switch is
    /// shown and ends the tool.
    fn change(&mut self, conn: &mut Conn, body: Body, nicira: bool) -> Result<(), Failure> {
        let mut message = Message::new(conn.version, self.next_xid(), body);
        message.nicira = nicira;
        let barrier = self.next_xid();
        match conn.change(&message, barrier)? {
            None => Ok(()),
            Some(bytes) => self.refused(conn, &bytes),
        }
    }

    /// Shows an error of the switch, which ends the tool.
    fn refused<T>(&mut self, conn: &Conn, error: &[u8]) -> Result<T, Failure> {
        let names = self.names_out(&conn.asked)?;
        let text = conn.text(error, names.as_ref(), self.settings.verbosity + 2);
        self.session.out.flush()?;
        write!(self.session.err, "{text}")?;
        Err(Failure::Silent(1))
    }

    /// Prints a message on standard output, and gives it, if it is one.
    fn print(
        &mut self,
        conn: &Conn,
        bytes: &[u8],
        names: Option<&Names>,
    ) -> Result<Option<Message>, Failure> {
        let read = Message::decode(bytes, conn.agreed);
        log::message(bytes, &read);
        let text = conn.bytes_text(bytes, names, self.settings.verbosity + 1);
        let mut text = ReadText { text, read: &read }.to_string();
        if let Some(colors) = &self.settings.colors {
            text = colors.paint_lines(&text);
        }
        self.session.out.write_all(text.as_bytes())?;
        Ok(read.ok())
    }

    /// A flow that could not be read: OVS's text, and in strict mode the place and a hint.
    fn bad_text(&self, place: Option<(&str, usize)>, line: &str, e: &TextError) -> Failure {
        let strict = self.settings.mode == Mode::Strict;
        let column = line.get(..e.span.start).map_or(0, |s| s.chars().count());
        let mut text = match place {
            Some((file, n)) if strict => format!("{file}:{n}:{}: {}", column + 1, e.message),
            Some((file, n)) => format!("{file}:{n}: {}", e.message),
            None => e.message.clone(),
        };
        if strict {
            let width = line.get(e.span.clone()).map_or(1, |s| s.chars().count().max(1));
            text += &format!("\n  {line}\n  {:column$}{}", "", "^".repeat(width));
            if let Some(hint) = &e.hint {
                text += &format!("\n  hint: {hint}");
            }
        }
        Failure::fatal(text)
    }
}

/// The ports and tables of a switch, for other tools.
///
/// # Errors
/// No connection.
pub fn names_of(session: &mut Session<'_>, target: &str) -> Result<Names, Failure> {
    let settings = Settings { versions: Version::Of13.bit(), ..Settings::new() };
    Tool::new(session, settings).names_of(target)
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let table = [OPTIONS, &pki::options(Id::Pki)].concat();
    vlog::set_program(&session.program);
    let parsed = parse(session, &table, Order::Permute, args)?;
    let mut timeout = None;
    let mut keys = Pki::default();
    let mut format = Protocols::ALL;
    let mut settings = Settings::new();
    for option in &parsed.options {
        let value = option.value.as_deref().unwrap_or_default();
        match option.id {
            Id::Protocols => settings.versions = parse_versions(value)?,
            Id::FlowFormat => format = protocols::parse(value)?,
            Id::PacketInFormat => {
                let format = openflow::print::packets::format_from_name(value);
                settings.packet_in = Some(format.ok_or_else(|| {
                    Failure::fatal(format!("unknown packet-in format `{value}'"))
                })?);
            }
            Id::Strict => settings.strict = true,
            Id::Readd => settings.readd = true,
            Id::MayCreate => settings.may_create = true,
            Id::Bundle => settings.bundle = true,
            Id::ReadOnly => settings.read_only = true,
            Id::Names => settings.names = (true, true),
            Id::NoNames => settings.names = (false, false),
            Id::Stats => settings.stats = true,
            Id::NoStats => settings.stats = false,
            Id::Sort | Id::Rsort => {
                let field = option.value.clone().unwrap_or_else(|| "priority".to_owned());
                query::check_sort_field(&field)?;
                settings.sort.push((field, option.id == Id::Rsort));
            }
            Id::More => settings.verbosity = settings.verbosity.saturating_add(1).min(9),
            Id::Timeout => timeout = Some(parse_timeout("-t or --timeout", value)?),
            Id::Timestamp => settings.timestamp = true,
            Id::Lenient => settings.mode = Mode::Ovs,
            Id::Help => return help(session),
            Id::Version => {
                let text = version_of(&session.program);
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                write!(session.out, "{first}\nOpenFlow versions 0x1:0x6\n{rest}")?;
                return Ok(0);
            }
            Id::Commands => {
                for c in COMMANDS {
                    writeln!(session.out, ",{},{}", c.name, c.usage)?;
                }
                return Ok(0);
            }
            Id::Color => {
                let when = option.value.as_deref().unwrap_or("auto");
                settings.colors = colors::Palette::wanted(when).map_err(Failure::fatal)?;
            }
            Id::Pki => keys.set(&option.name, value)?,
            Id::Detach => settings.background.how.detach = true,
            Id::Respawn => settings.background.how.monitor = true,
            Id::NoChdir => settings.background.how.no_chdir = true,
            Id::Pidfile => {
                let name = option.value.clone();
                let name = name.unwrap_or_else(|| format!("{}.pid", session.program));
                settings.background.pidfile = Some(rundir().join(name));
            }
            Id::OverwritePidfile => settings.background.overwrite = true,
            Id::Unixctl => settings.background.unixctl = Some(rundir().join(value)),
            Id::Pcap => settings.pcap = true,
            Id::Bare => settings.bare = true,
            Id::BadCsum => settings.bad_csum = true,
            Id::Verbose => {
                vlog::set(option.value.as_deref().unwrap_or("dbg")).map_err(Failure::fatal)?
            }
            Id::LogFile => {
                let name = format!("{}.log", session.program);
                let path = option.value.as_ref().map_or_else(|| logdir().join(name), PathBuf::from);
                vlog::open_file(&path).map_err(|e| {
                    let why = strerror(&e);
                    Failure::fatal(format!("failed to open {} ({why})", path.display()))
                })?;
            }
            Id::Ignored => {}
        }
    }
    settings.bundle |= parsed.rest.first().is_some_and(|c| c == "bundle");
    if settings.bundle {
        let capable = Version::Of13.bit() | Version::Of14.bit() | Version::Of15.bit();
        settings.versions &= capable;
        if settings.versions == 0 {
            settings.versions = Version::Of14.bit();
        }
    }
    settings.protocols = format.and(Protocols::of_versions(settings.versions));
    if settings.protocols.is_empty() {
        let names: Vec<&str> = Version::ALL
            .into_iter()
            .filter(|v| v.bit() & settings.versions != 0)
            .map(Version::name)
            .collect();
        return Err(Failure::fatal(format!(
            "None of the enabled OpenFlow versions ({}) supports any of the enabled flow formats ({format}).  \
             (Use -O to enable additional OpenFlow versions or -F to enable additional flow formats.)",
            names.join(", ")
        )));
    }
    let Some((name, args)) = parsed.rest.split_first() else {
        return Err(Failure::fatal("missing command name; use --help for help"));
    };
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        return Err(Failure::fatal(format!("unknown command '{name}'; use --help for help")));
    };
    if args.len() < command.min {
        let text = format!("'{name}' command requires at least {} arguments", command.min);
        return Err(Failure::fatal(text));
    }
    if args.len() > command.max {
        let text = format!("'{name}' command takes at most {} arguments", command.max);
        return Err(Failure::fatal(text));
    }
    settings.keys = keys.context()?;
    if settings.read_only && command.changes {
        let text = format!("'{name}' command does not work in read only mode");
        return Err(Failure::fatal(text));
    }
    arm_timeout(timeout);
    (command.run)(&mut Tool::new(session, settings), args)
}

/// `help [COMMAND]`.
fn help_command(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let Some(name) = args.first() else { return help(tool.session) };
    let c = COMMANDS
        .iter()
        .find(|c| c.name == name)
        .ok_or_else(|| Failure::fatal(format!("unknown command '{name}'; use --help for help")))?;
    let program = tool.session.program.clone();
    let out = &mut tool.session.out;
    writeln!(out, "usage: {program} [OPTIONS] {} {}\n\n{}", c.name, c.usage, c.help)?;
    if c.changes {
        writeln!(out, "It changes the switch: --read-only forbids it.")?;
    }
    Ok(0)
}

fn help(session: &mut Session<'_>) -> Outcome {
    let program = session.program.clone();
    let out = &mut session.out;
    writeln!(out, "{program}: reads and changes OpenFlow switches")?;
    writeln!(out, "usage: {program} [OPTIONS] COMMAND [ARG...]\n\nCommands:")?;
    for c in COMMANDS {
        writeln!(out, "  {} {}\n      {}", c.name, c.usage, c.help)?;
    }
    writeln!(
        out,
        "
SWITCH and TARGET are the name of a bridge, unix:PATH or tcp:HOST[:PORT].

Options:
  -O, --protocols=VERSION,...    OpenFlow versions to offer (default: OpenFlow10)
  -F, --flow-format=FORMAT,...   flow formats to use
  -P, --packet-in-format=FORMAT  standard, nxt_packet_in or nxt_packet_in2
  --strict                       mod-flows, del-flows: only flows with just this match and priority
  --bundle                       all changes or none, in one transaction (OpenFlow 1.4+)
  --may-create                   mod-group: make the group if there is none
  --readd                        replace-flows: also flows that have not changed
  --read-only                    do not change anything
  --names, --no-names            print names of ports; take no names for numbers
  --color[=always|never|auto]    colour flows (with OVS_COLORS' colours)
  --stats, --no-stats            dump-flows: print counters, or only what is not usual
  --sort[=FIELD], --rsort[=FIELD]  dump-flows: in order of a field (default: priority)
  -m, --more                     print more of messages
  -v, --verbose=SPEC             log levels, as ovs-appctl vlog/set has them
  --log-file[=FILE]              log there as well
  -t, --timeout=SECS             give up after SECS seconds
  --timestamp                    monitor, snoop: print the time before each message
  --detach, --no-chdir           monitor, snoop: run in the background, in this directory
  --pidfile[=FILE]               monitor, snoop: write the process id to a file
  --unixctl=SOCKET               monitor, snoop: listen there for ovs-appctl
  --pcap, --bare, --bad-csum     compose-packet: how to write it; with wrong checksums
  --lenient                      read flows as ovs-ofctl of Open vSwitch does, with its messages
                                 (also if SEKISHO_LENIENT is in the environment)
  -h, --help                     print this
  -V, --version                  print the version"
    )?;
    Ok(0)
}
