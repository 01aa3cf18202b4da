//! `sekisho vsctl` (`ovs-vsctl`): reads and changes the configuration in the switch's database.
//!
//! One call is one transaction: the commands (separated by `--`) run one after the other on a copy of
//! the database ([`replica`]), then the difference is committed with conditions that nothing they
//! depended on has changed; if something has, all is done again on the newer copy. Output is
//! printed once the commit succeeded. Unless `--no-wait` is given, the tool then waits until the
//! switch has taken the change over (`cur_cfg` reaches `next_cfg`) and reports interfaces that could
//! not be set up.
//!
//! What OVS's tool takes in silence although it cannot be meant (`add-br x br0 abc`,
//! `--inactivity-probe=x`) is refused unless `--lenient` is given.

mod bridge;
mod command;
mod database;
mod model;
mod record;
mod replica;
mod settings;
mod show;
mod symbols;
mod zones;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovsdb::client::{Client, ClientError, transaction_error};
use ovsdb::remote::Remote;
use ovsdb::{Atom, Uuid, UuidGen};
use serde_json::{Value, json};

use crate::applet::{Failure, Outcome, Session, version_of};
use crate::control::{arm_timeout, log_warn, logdir, parse_timeout, rundir, strerror};
use crate::getopt::{Arg, Opt, Order, parse};
use crate::pki::{self, Pki};
use crate::table::{Format, STYLE_OPTIONS, Style, StyleOpt};
use command::{Command, Ctx, Invocation, Output, Stop, parse_commands};
use replica::{Replica, RowId, Txn};
use symbols::SymbolTable;

/// The database.
const DB: &str = "Open_vSwitch";
/// Its schema, as `--version` of OVS's tool names it.
const SCHEMA_VERSION: &str = "8.3.1";

/// All commands, by topic, in the order of `--help`.
const COMMANDS: &[(&str, &[Command])] = &[
    ("Overview", show::COMMANDS),
    ("Bridges, ports and interfaces", bridge::COMMANDS),
    ("Controllers, managers, TLS and the switch", settings::COMMANDS),
    ("Zones of the connection tracker", zones::COMMANDS),
    ("Database", database::COMMANDS),
];

/// What a general option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Db,
    NoWait,
    DryRun,
    Oneline,
    Timeout,
    Retry,
    Lenient,
    Help,
    Commands,
    Options,
    Version,
    Style(StyleOpt),
    /// Accepted, and without effect here: logging, TLS files, clusters.
    Pki,
    Ignored,
    /// An option of the first command.
    Local,
}

const fn opt(long: &'static str, short: Option<char>, arg: Arg, id: Id) -> Opt<Id> {
    Opt { long, short, arg, id }
}

const OPTIONS: &[Opt<Id>] = &[
    opt("db", None, Arg::Required, Id::Db),
    opt("no-syslog", None, Arg::None, Id::Ignored),
    opt("no-wait", None, Arg::None, Id::NoWait),
    opt("dry-run", None, Arg::None, Id::DryRun),
    opt("oneline", None, Arg::None, Id::Oneline),
    opt("timeout", Some('t'), Arg::Required, Id::Timeout),
    opt("retry", None, Arg::None, Id::Retry),
    opt("lenient", None, Arg::None, Id::Lenient),
    opt("help", Some('h'), Arg::None, Id::Help),
    opt("commands", None, Arg::None, Id::Commands),
    opt("options", None, Arg::None, Id::Options),
    opt("version", Some('V'), Arg::None, Id::Version),
    opt("leader-only", None, Arg::None, Id::Ignored),
    opt("no-leader-only", None, Arg::None, Id::Ignored),
    opt("shuffle-remotes", None, Arg::None, Id::Ignored),
    opt("no-shuffle-remotes", None, Arg::None, Id::Ignored),
    opt("verbose", Some('v'), Arg::Optional, Id::Ignored),
    opt("log-file", None, Arg::Optional, Id::Ignored),
    opt("syslog-method", None, Arg::Required, Id::Ignored),
    opt("syslog-target", None, Arg::Required, Id::Ignored),
];

/// The general options, those of formatting, and those of commands: all may stand before the first one.
fn options() -> Vec<Opt<Id>> {
    let mut table = OPTIONS.to_vec();
    table.extend(pki::options(Id::Pki));
    table.extend(STYLE_OPTIONS.iter().map(|o| opt(o.long, o.short, o.arg, Id::Style(o.id))));
    for option in COMMANDS.iter().flat_map(|c| c.1).flat_map(|c| c.options) {
        let long = option.trim_start_matches("--").trim_end_matches(['=', '?']);
        let arg = match option.chars().last() {
            Some('=') => Arg::Required,
            Some('?') => Arg::Optional,
            _ => Arg::None,
        };
        if !table.iter().any(|o| o.long == long) {
            table.push(opt(long, None, arg, Id::Local));
        }
    }
    table
}

/// What the general options say.
struct Settings {
    remotes: Vec<Remote>,
    /// For TLS.
    keys: Option<tls::Context>,
    remote_text: String,
    wait: bool,
    dry_run: bool,
    oneline: bool,
    retry: bool,
    lenient: bool,
    style: Style,
    /// The command line, for the database's log.
    comment: String,
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let comment = format!("{}: {} {}", session.program, session.argv0, args.join(" "));
    let parsed = parse(session, &options(), Order::Stop, args)?;
    let mut timeout = None;
    let mut db = format!("unix:{}/db.sock", rundir().display());
    let mut settings = Settings {
        remotes: Vec::new(),
        keys: None,
        remote_text: String::new(),
        wait: true,
        dry_run: false,
        oneline: false,
        retry: false,
        lenient: false,
        style: Style::new(Format::List),
        comment,
    };
    let mut local = Vec::new();
    let mut keys = Pki::default();
    for option in parsed.options {
        let value = option.value.as_deref();
        match option.id {
            Id::Db => db = value.unwrap_or_default().to_owned(),
            Id::NoWait => settings.wait = false,
            Id::DryRun => settings.dry_run = true,
            Id::Oneline => settings.oneline = true,
            Id::Timeout => {
                timeout = Some(parse_timeout("-t or --timeout", value.unwrap_or_default())?);
            }
            Id::Retry => settings.retry = true,
            Id::Lenient => settings.lenient = true,
            Id::Style(style) => {
                settings.style.apply(style, value).map_err(Failure::fatal)?;
            }
            Id::Help => return help(session),
            Id::Version => {
                let text = version_of(&session.program);
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                write!(session.out, "{first}\nDB Schema {SCHEMA_VERSION}\n{rest}")?;
                return Ok(0);
            }
            Id::Commands => return list_commands(session),
            Id::Options => {
                for option in options().iter().filter(|o| o.id != Id::Local) {
                    let (equals, space) = match option.arg {
                        Arg::None => ("", ""),
                        _ => ("=ARG", " ARG"),
                    };
                    writeln!(session.out, "--{}{equals}", option.long)?;
                    if let Some(short) = option.short {
                        writeln!(session.out, "-{short}{space}")?;
                    }
                }
                return Ok(0);
            }
            Id::Pki => keys.set(&option.name, value.unwrap_or_default())?,
            Id::Ignored => {}
            Id::Local => local.push((format!("--{}", option.name), option.value)),
        }
    }
    let tables: Vec<&'static [Command]> = COMMANDS.iter().map(|c| c.1).collect();
    let commands = parse_commands(&tables, local, &parsed.rest).map_err(Failure::fatal)?;
    arm_timeout(timeout);
    settings.remotes = Remote::parse_list(&db).map_err(|e| Failure::fatal(e.to_string()))?;
    settings.remote_text = db;
    settings.keys = keys.context()?;
    Call::connect(session, &settings)?.run(session, &settings, &commands)
}

fn help(session: &mut Session<'_>) -> Outcome {
    let program = session.program.clone();
    let out = &mut session.out;
    writeln!(out, "{program}: reads and changes the configuration of the switch")?;
    writeln!(
        out,
        "usage: {program} [OPTIONS] COMMAND [ARG...] [-- [OPTIONS] COMMAND [ARG...]]..."
    )?;
    for (topic, commands) in COMMANDS {
        writeln!(out, "\n{topic}:")?;
        for command in *commands {
            writeln!(out, "  {}\n      {}", command.synopsis(), command.help)?;
        }
    }
    writeln!(
        out,
        "
Options:
  --db=DATABASE               connect to DATABASE (default: unix:{}/db.sock)
  --no-wait                   do not wait for the switch to take the change over
  --retry                     keep trying to connect
  -t, --timeout=SECS          give up after SECS seconds
  --dry-run                   do not change the database
  --lenient                   take what is no number for 0, as ovs-vsctl of Open vSwitch does
  --oneline                   print exactly one line of output per command
  -f, --format=FORMAT         list, table, html, csv or json
  -d, --data=FORMAT           string, bare or json
  --no-headings               omit headings
  --max-column-width=N        cut columns of tables to N characters
  --pretty                    indent JSON
  --bare                      same as --format=list --data=bare --no-headings
  -h, --help                  print this
  -V, --version               print the version",
        rundir().display()
    )?;
    Ok(0)
}

/// `--commands`: for scripts that complete command lines.
fn list_commands(session: &mut Session<'_>) -> Outcome {
    for command in COMMANDS.iter().flat_map(|c| c.1) {
        let options: String = command.options.iter().map(|o| format!("[{o}] ")).collect();
        writeln!(session.out, "{options},{},{}", command.name, command.usage)?;
    }
    Ok(0)
}

/// A connection, and the copy of the database that it keeps.
struct Call {
    client: Client,
    replica: Replica,
    uuids: UuidGen,
}

/// How a try ended.
enum Try {
    /// Committed, or nothing to commit.
    Done(Vec<Output>),
    /// Has to be repeated once the database has changed.
    Again,
}

impl Call {
    fn connect(session: &mut Session<'_>, settings: &Settings) -> Result<Self, Failure> {
        let mut client = loop {
            let mut last = None;
            let keys = settings.keys.as_ref();
            let mut try_one =
                |remote| Client::connect(remote, None, keys).map_err(|e| last = Some(e)).ok();
            let attempt = settings.remotes.iter().find_map(&mut try_one);
            match (attempt, last) {
                (Some(client), _) => break client,
                (None, _) if settings.retry => std::thread::sleep(Duration::from_secs(1)),
                (None, error) => {
                    let why = match error {
                        Some(ClientError::Io(e)) => strerror(&e),
                        Some(e) => e.to_string(),
                        None => "no database given".to_owned(),
                    };
                    let text =
                        format!("{}: database connection failed ({why})", settings.remote_text);
                    return Err(Failure::fatal(text));
                }
            }
        };
        let broken = |e: ClientError| lost(settings, &e);
        let schema = Arc::new(client.get_schema(DB).map_err(broken)?);
        let mut replica = Replica::new(Arc::clone(&schema));
        let requests = Replica::monitor_requests(&schema);
        let initial =
            client.call("monitor", vec![json!(DB), Value::Null, requests]).map_err(broken)?;
        replica.apply(&initial).map_err(Failure::fatal)?;
        let uuids = replica::generator()?;
        let _ = session.out.flush();
        Ok(Self { client, replica, uuids })
    }

    /// Applies the updates that have come, waiting for one if none has and `wait` is set.
    fn update(&mut self, settings: &Settings, mut wait: bool) -> Result<(), Failure> {
        loop {
            let until = if wait { None } else { Some(Instant::now()) };
            let notification = self.client.notification(until).map_err(|e| lost(settings, &e))?;
            match notification {
                Some(n) if n.method == "update" => {
                    if let [_, updates] = n.params.as_slice() {
                        self.replica.apply(updates).map_err(Failure::fatal)?;
                        wait = false;
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    fn run(
        mut self,
        session: &mut Session<'_>,
        settings: &Settings,
        commands: &[Invocation],
    ) -> Outcome {
        loop {
            let mut new_interfaces = Vec::new();
            match self.attempt(session, settings, commands, &mut new_interfaces)? {
                (Try::Done(outputs), next_cfg) => {
                    print(session, settings, commands, &outputs)?;
                    session.out.flush()?;
                    if let Some(next_cfg) = next_cfg {
                        self.wait_for_switch(session, settings, next_cfg, &new_interfaces)?;
                    }
                    return Ok(0);
                }
                (Try::Again, _) => self.update(settings, true)?,
            }
        }
    }

    /// Runs the commands and commits. With the outputs comes the configuration number to wait for.
    fn attempt(
        &mut self,
        session: &mut Session<'_>,
        settings: &Settings,
        commands: &[Invocation],
        new_interfaces: &mut Vec<RowId>,
    ) -> Result<(Try, Option<i64>), Failure> {
        let stopped = |stop: Stop| match stop {
            Stop::Fatal(text) => Err(Failure::fatal(text)),
            Stop::Exit(status) => Err(Failure::Silent(status)),
            Stop::TryAgain => Ok((Try::Again, None)),
        };
        let mut txn = Txn::new(&self.replica);
        let root = match open_vswitch(&mut txn, &mut self.uuids) {
            Ok(root) => root,
            Err(stop) => return stopped(stop),
        };
        let mut symbols = SymbolTable::default();
        let mut outputs = Vec::new();
        let mut warnings = Vec::new();
        for invocation in commands {
            let mut ctx = Ctx {
                txn: &mut txn,
                symbols: &mut symbols,
                uuids: &mut self.uuids,
                new_interfaces,
                warnings: &mut warnings,
                options: &invocation.options,
                argv: &invocation.argv,
                lenient: settings.lenient,
                output: Output::default(),
            };
            match (invocation.command.run)(&mut ctx) {
                Ok(()) => outputs.push(ctx.output),
                Err(stop) => {
                    if !matches!(stop, Stop::TryAgain) {
                        log(session, &warnings);
                    }
                    return stopped(stop);
                }
            }
        }
        let unused = symbols.check().map_err(Failure::fatal)?;
        warnings.extend(unused.into_iter().map(|text| ("vsctl", text)));
        log(session, &warnings);

        let (mut operations, inserts) = txn.operations();
        if operations.is_empty() || settings.dry_run {
            return Ok((Try::Done(outputs), None));
        }
        let next_cfg_at = settings.wait.then(|| {
            let where_ = txn.where_uuid(root);
            operations.push(json!({"op": "mutate", "table": DB, "where": where_,
                "mutations": [["next_cfg", "+=", 1]]}));
            operations.push(json!({"op": "select", "table": DB, "where": where_,
                "columns": ["next_cfg"]}));
            operations.len() - 1
        });
        operations.push(json!({"op": "comment", "comment": settings.comment}));
        let results = self.client.transact(DB, operations).map_err(|e| lost(settings, &e))?;
        if let Some((at, error)) = transaction_error(&results) {
            if error.tag == "timed out" {
                // What we depended on was changed; the update is here or on its way.
                return Ok((Try::Again, None));
            }
            let text = format!("transaction error: {}", results[at]);
            log_warn(session.err, 2, "ovsdb_idl", &text);
            return Err(Failure::fatal(text));
        }
        let result = |at: usize| results.get(at).unwrap_or(&Value::Null);
        // Stand-in identities become the server's.
        let real = |id: RowId| -> RowId {
            let at = inserts.iter().find(|(row, _)| *row == id).map(|(_, at)| *at);
            let uuid = at
                .and_then(|at| result(at)["uuid"][1].as_str())
                .and_then(|text| text.parse::<Uuid>().ok());
            RowId { uuid: uuid.unwrap_or(id.uuid), ..id }
        };
        for output in &mut outputs {
            output.created = output.created.map(real);
        }
        new_interfaces.iter_mut().for_each(|id| *id = real(*id));
        let next_cfg = next_cfg_at.and_then(|at| result(at)["rows"][0]["next_cfg"].as_i64());
        Ok((Try::Done(outputs), next_cfg))
    }

    /// Waits until the switch has reached `next_cfg`, then says which interfaces it could not set up.
    fn wait_for_switch(
        &mut self,
        session: &mut Session<'_>,
        settings: &Settings,
        next_cfg: i64,
        new_interfaces: &[RowId],
    ) -> Result<(), Failure> {
        let fatal = |stop: Stop| match stop {
            Stop::Fatal(text) => Failure::fatal(text),
            _ => Failure::Silent(1),
        };
        loop {
            let txn = Txn::new(&self.replica);
            // The row may have been made by this very call, and not be in our copy yet.
            if let Ok(root) = txn.root() {
                let cur_cfg = txn.value(root, "cur_cfg").map_err(fatal)?;
                if cur_cfg.as_scalar().and_then(Atom::as_integer).is_some_and(|n| n >= next_cfg) {
                    break;
                }
            }
            self.update(settings, true)?;
        }
        let txn = Txn::new(&self.replica);
        let mut any = false;
        for &interface in new_interfaces {
            if txn.row(interface).is_none() {
                continue;
            }
            let name = txn.string(interface, "name").map_err(fatal)?;
            let error = txn.string(interface, "error").map_err(fatal)?;
            let ofport = txn.value(interface, "ofport").map_err(fatal)?;
            let no_port = ofport.as_scalar().and_then(Atom::as_integer) == Some(-1);
            let why = match (error.is_empty(), no_port) {
                (false, _) => format!(": {error}."),
                (true, true) => ".".to_owned(),
                (true, false) => continue,
            };
            session.warn(format_args!(
                "Error detected while setting up '{name}'{why}  See ovs-vswitchd log for details."
            ));
            any = true;
        }
        if any {
            let dir = logdir();
            session.warn(format_args!("The default log directory is \"{}\".", dir.display()));
        }
        Ok(())
    }
}

/// Prints warnings, each with its module.
fn log(session: &mut Session<'_>, warnings: &[(&str, String)]) {
    for (module, text) in warnings {
        log_warn(session.err, 2, module, text);
    }
}

/// The row of the switch, made if the database is fresh.
fn open_vswitch(txn: &mut Txn<'_>, uuids: &mut UuidGen) -> Result<RowId, Stop> {
    let table = txn.table(DB)?;
    match txn.root() {
        Ok(root) => Ok(root),
        Err(_) => Ok(txn.insert(table, uuids.generate())),
    }
}

/// The connection broke.
fn lost(settings: &Settings, e: &ClientError) -> Failure {
    let why = match e {
        ClientError::Closed => "End of file".to_owned(),
        ClientError::Io(e) => strerror(e),
        other => other.to_string(),
    };
    Failure::fatal(format!("{}: database connection failed ({why})", settings.remote_text))
}

/// Prints what the commands had to say.
fn print(
    session: &mut Session<'_>,
    settings: &Settings,
    commands: &[Invocation],
    outputs: &[Output],
) -> Result<(), Failure> {
    debug_assert_eq!(commands.len(), outputs.len());
    let mut first_table = true;
    for output in outputs {
        let mut text = output.text.clone();
        if let Some(id) = output.created {
            text = format!("{}\n", id.uuid);
        }
        if let Some(table) = &output.table {
            text = table.print(settings.style, first_table);
            first_table = false;
        }
        if settings.oneline {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            writeln!(session.out, "{}", line.replace('\\', "\\\\").replace('\n', "\\n"))?;
        } else {
            write!(session.out, "{text}")?;
        }
    }
    Ok(())
}
