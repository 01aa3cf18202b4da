//! `sekisho ovsdb-client`: looks into an OVSDB server from the command line (ovsdb-client(1)).
//!
//! Each command is a row of [`COMMANDS`]; most take `[SERVER] [DATABASE]` first. A first argument with
//! a colon is a server; an argument that is the name of one of its databases is the database.

use ovsdb::client::{Client, ClientError, transaction_error};
use ovsdb::remote::Remote;
use ovsdb::schema::FIRST_COL;
use ovsdb::types::NoSymbols;
use ovsdb::{DbSchema, TableSchema};
use serde_json::{Map, Value, json};

use crate::applet::{Failure, Outcome, Session, version_of};
use crate::control::{arm_timeout, parse_timeout, rundir, strerror};
use crate::getopt::{Arg, Opt, Order, parse};
use crate::pki::{self, Pki};
use crate::table::{Cell, Format, STYLE_OPTIONS, Style, StyleOpt, Table, pretty};

/// The database that is meant if a server has it and none is named.
const DEFAULT_DB: &str = "Open_vSwitch";

/// A command.
struct Command {
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    /// Fewest and most arguments behind server and database.
    args: (usize, usize),
    /// Whether a database may be named.
    database: bool,
    run: fn(&mut Call<'_, '_>) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "list-dbs",
        usage: "list-dbs [SERVER]",
        help: "list databases",
        args: (0, 0),
        database: false,
        run: list_dbs,
    },
    Command {
        name: "get-schema",
        usage: "get-schema [SERVER] [DATABASE]",
        help: "print the schema as JSON",
        args: (0, 0),
        database: true,
        run: get_schema,
    },
    Command {
        name: "get-schema-version",
        usage: "get-schema-version [SERVER] [DATABASE]",
        help: "print the schema's version",
        args: (0, 0),
        database: true,
        run: |c| c.schema().and_then(|s| c.line(&s.version)),
    },
    Command {
        name: "get-schema-cksum",
        usage: "get-schema-cksum [SERVER] [DATABASE]",
        help: "print the schema's checksum",
        args: (0, 0),
        database: true,
        run: |c| c.schema().and_then(|s| c.line(&s.cksum)),
    },
    Command {
        name: "list-tables",
        usage: "list-tables [SERVER] [DATABASE]",
        help: "list tables",
        args: (0, 0),
        database: true,
        run: list_tables,
    },
    Command {
        name: "list-columns",
        usage: "list-columns [SERVER] [DATABASE] [TABLE]",
        help: "list columns of one table, or of all",
        args: (0, 1),
        database: true,
        run: list_columns,
    },
    Command {
        name: "transact",
        usage: "transact [SERVER] TRANSACTION",
        help: "run the params of a \"transact\" request, print the results as JSON",
        args: (1, 1),
        database: false,
        run: transact,
    },
    Command {
        name: "query",
        usage: "query [SERVER] TRANSACTION",
        help: "the same, but change nothing",
        args: (1, 1),
        database: false,
        run: query,
    },
    Command {
        name: "dump",
        usage: "dump [SERVER] [DATABASE] [TABLE [COLUMN]...]",
        help: "print contents",
        args: (0, usize::MAX),
        database: true,
        run: dump,
    },
    Command {
        name: "monitor",
        usage: "monitor [SERVER] [DATABASE] TABLE [COLUMN,...]... | ALL",
        help: "print contents, then changes; COLUMN may be !initial, !insert, !delete, !modify",
        args: (1, usize::MAX),
        database: true,
        run: monitor,
    },
];

/// What an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Timeout,
    Timestamp,
    Help,
    Version,
    Style(StyleOpt),
    Pki,
    Ignored,
}

const fn opt(long: &'static str, short: Option<char>, arg: Arg, id: Id) -> Opt<Id> {
    Opt { long, short, arg, id }
}

const OPTIONS: &[Opt<Id>] = &[
    opt("timeout", Some('t'), Arg::Required, Id::Timeout),
    opt("timestamp", None, Arg::None, Id::Timestamp),
    opt("help", Some('h'), Arg::None, Id::Help),
    opt("version", Some('V'), Arg::None, Id::Version),
    opt("verbose", Some('v'), Arg::Optional, Id::Ignored),
    opt("log-file", None, Arg::Optional, Id::Ignored),
    opt("leader-only", None, Arg::None, Id::Ignored),
    opt("no-leader-only", None, Arg::None, Id::Ignored),
    opt("db-change-aware", None, Arg::None, Id::Ignored),
    opt("no-db-change-aware", None, Arg::None, Id::Ignored),
];

/// What a command works with.
struct Call<'c, 's> {
    session: &'c mut Session<'s>,
    client: Client,
    /// The server as it was named.
    server: String,
    db: String,
    args: Vec<String>,
    style: Style,
    timestamp: bool,
}

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let mut table = OPTIONS.to_vec();
    table.extend(pki::options(Id::Pki));
    let mut keys = Pki::default();
    table.extend(STYLE_OPTIONS.iter().map(|o| opt(o.long, o.short, o.arg, Id::Style(o.id))));
    let parsed = parse(session, &table, Order::Permute, args)?;
    let mut style = Style::new(Format::Table);
    let (mut timeout, mut timestamp) = (None, false);
    for option in &parsed.options {
        let value = option.value.as_deref();
        match option.id {
            Id::Timeout => {
                timeout = Some(parse_timeout("-t or --timeout", value.unwrap_or_default())?);
            }
            Id::Timestamp => timestamp = true,
            Id::Help => return help(session),
            Id::Version => {
                write!(session.out, "{}", version_of(&session.program))?;
                return Ok(0);
            }
            Id::Style(option) => style.apply(option, value).map_err(Failure::fatal)?,
            Id::Pki => keys.set(&option.name, value.unwrap_or_default())?,
            Id::Ignored => {}
        }
    }
    let Some((name, args)) = parsed.rest.split_first() else {
        return Err(Failure::fatal("missing command name; use --help for help"));
    };
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        return Err(Failure::fatal(format!("unknown command '{name}'; use --help for help")));
    };
    let bad_syntax =
        || Failure::fatal(format!("invalid syntax for '{name}' (use --help for help)"));
    arm_timeout(timeout);
    let mut args = args.to_vec();
    let (min, max) = command.args;
    let named = |a: &String| a.contains(':') && a.starts_with(|c: char| c.is_ascii_alphabetic());
    let server = if args.len() > min && args.first().is_some_and(named) {
        args.remove(0)
    } else {
        format!("unix:{}/db.sock", rundir().display())
    };
    if args.len() < min || (!command.database && args.len() > max) {
        return Err(bad_syntax());
    }
    let mut client = connect(&server, keys.context()?.as_ref())?;
    let mut db = String::new();
    if command.database {
        let dbs = client.list_dbs().map_err(|e| lost(&server, &e))?;
        if args.len() > min && dbs.contains(&args[0]) {
            db = args.remove(0);
        } else if let Some(name) = dbs.iter().find(|d| *d == DEFAULT_DB).or(dbs.first()) {
            db = name.clone();
        } else {
            return Err(Failure::fatal("no default database, please specify a database name"));
        }
        if args.len() > max {
            return Err(bad_syntax());
        }
    }
    let mut call = Call { session, client, server, db, args, style, timestamp };
    (command.run)(&mut call)?;
    Ok(0)
}

fn help(session: &mut Session<'_>) -> Outcome {
    let program = &session.program;
    writeln!(session.out, "usage: {program} [OPTION]... COMMAND [ARG]...\n\nCommands:")?;
    for command in COMMANDS {
        writeln!(session.out, "  {}\n    {}", command.usage, command.help)?;
    }
    writeln!(
        session.out,
        "
SERVER is unix:PATH or tcp:HOST:PORT (default: unix:{}/db.sock).

Options:
  -f, --format=FORMAT  table, list, html, csv or json
  -d, --data=FORMAT    string, bare or json
  --no-headings        omit headings
  --pretty             indent JSON
  --bare               same as --format=list --data=bare --no-headings
  --timestamp          say when monitored changes came
  -t, --timeout=SECS   give up after SECS seconds
  -h, --help           print this
  -V, --version        print the version",
        rundir().display()
    )?;
    Ok(0)
}

fn connect(server: &str, keys: Option<&tls::Context>) -> Result<Client, Failure> {
    let remote: Remote = server.parse().map_err(|e: ovsdb::Error| Failure::fatal(e.to_string()))?;
    Client::connect(&remote, None, keys).map_err(|e| {
        let why = match &e {
            ClientError::Io(e) => strerror(e),
            other => other.to_string(),
        };
        Failure::fatal(format!("failed to connect to \"{server}\" ({why})"))
    })
}

fn lost(server: &str, e: &ClientError) -> Failure {
    match e {
        ClientError::Remote(error) => {
            Failure::fatal(format!("transaction returned error: {error}"))
        }
        ClientError::Closed => Failure::fatal(format!("{server}: connection closed")),
        other => Failure::fatal(format!("{server}: {other}")),
    }
}

impl Call<'_, '_> {
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.session.out, "{text}")?)
    }

    fn ask(&mut self, method: &str, params: Vec<Value>) -> Result<Value, Failure> {
        self.client.call(method, params).map_err(|e| lost(&self.server, &e))
    }

    fn schema(&mut self) -> Result<DbSchema, Failure> {
        self.client.get_schema(&self.db).map_err(|e| lost(&self.server, &e))
    }

    fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let mut text = String::new();
        if self.style.pretty {
            pretty(value, 0, &mut text);
        } else {
            text = value.to_string();
        }
        self.line(&text)
    }

    fn table(&mut self, table: &Table, first: bool) -> Result<(), Failure> {
        Ok(write!(self.session.out, "{}", table.print(self.style, first))?)
    }
}

fn list_dbs(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let mut dbs = call.client.list_dbs().map_err(|e| lost(&call.server, &e))?;
    dbs.sort();
    dbs.iter().try_for_each(|db| call.line(db))
}

fn get_schema(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let schema = call.ask("get_schema", vec![json!(call.db)])?;
    call.json(&schema)
}

fn list_tables(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let schema = call.schema()?;
    let mut table = Table::new(["Table"]);
    table.rows = schema.tables.iter().map(|t| vec![Cell::Text(t.name.clone())]).collect();
    call.table(&table, true)
}

fn list_columns(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let schema = call.schema()?;
    let wanted = call.args.first().cloned();
    let mut table = match wanted {
        Some(_) => Table::new(["Column", "Type"]),
        None => Table::new(["Table", "Column", "Type"]),
    };
    for t in schema.tables.iter().filter(|t| wanted.as_ref().is_none_or(|w| *w == t.name)) {
        for column in &t.columns {
            let mut row = vec![Cell::Text(column.name.clone()), Cell::Json(column.ty.to_json())];
            if wanted.is_none() {
                row.insert(0, Cell::Text(t.name.clone()));
            }
            table.rows.push(row);
        }
    }
    call.table(&table, true)
}

/// The params of a `transact` request from the command line.
fn transaction(call: &Call<'_, '_>) -> Result<Vec<Value>, Failure> {
    let text = &call.args[0];
    let json: Value =
        serde_json::from_str(text).map_err(|e| Failure::fatal(format!("\"{text}\": {e}")))?;
    match json {
        Value::Array(params) if params.first().is_some_and(Value::is_string) => Ok(params),
        _ => Err(Failure::fatal("not a valid OVSDB query")),
    }
}

fn transact(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let params = transaction(call)?;
    let results = call.ask("transact", params)?;
    call.json(&results)
}

fn query(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let mut params = transaction(call)?;
    params.push(json!({"op": "abort"}));
    let mut results = call.ask("transact", params)?;
    if let Value::Array(results) = &mut results {
        // The result of our "abort", which is an error.
        results.pop();
    }
    call.json(&results)
}

/// The table of that name, with the message that fits the command.
fn table_of<'s>(
    schema: &'s DbSchema,
    name: &str,
    missing: String,
) -> Result<&'s TableSchema, Failure> {
    schema.table(name).ok_or_else(|| Failure::fatal(missing))
}

fn dump(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let schema = call.schema()?;
    let (table, columns) = match call.args.split_first() {
        Some((table, columns)) => (Some(table.clone()), columns.to_vec()),
        None => (None, Vec::new()),
    };
    let tables: Vec<&TableSchema> = match &table {
        Some(name) => vec![table_of(&schema, name, format!("No table \"{name}\" found."))?],
        None => schema.tables.iter().collect(),
    };
    let mut selects = Vec::new();
    let mut shown = Vec::new();
    for t in &tables {
        let names: Vec<&str> = if columns.is_empty() {
            std::iter::once("_uuid")
                .chain(t.columns[FIRST_COL..].iter().map(|c| c.name.as_str()))
                .collect()
        } else {
            columns.iter().map(String::as_str).collect()
        };
        for name in &names {
            if t.column(name).is_none() {
                let text = format!("Table \"{}\" has no column {name}.", t.name);
                return Err(Failure::fatal(text));
            }
        }
        selects.push(json!({"op": "select", "table": t.name, "where": [], "columns": names}));
        shown.push((*t, names));
    }
    let results = call.client.transact(&call.db, selects).map_err(|e| lost(&call.server, &e))?;
    if let Some((_, error)) = transaction_error(&results) {
        return Err(Failure::fatal(format!("transaction returned error: {}", error.to_json())));
    }
    for (i, ((t, names), result)) in shown.into_iter().zip(&results).enumerate() {
        let mut output = Table::new(names.iter().copied());
        output.caption = Some(format!("{} table", t.name));
        let mut rows: Vec<(String, Vec<Cell>)> = Vec::new();
        for row in result["rows"].as_array().into_iter().flatten() {
            let cells: Vec<Cell> = names.iter().map(|name| cell(t, name, &row[*name])).collect();
            let key =
                names.iter().filter(|n| **n != "_uuid").map(|n| row[*n].to_string()).collect();
            rows.push((key, cells));
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        output.rows = rows.into_iter().map(|r| r.1).collect();
        call.table(&output, i == 0)?;
    }
    Ok(())
}

/// A value from the wire, with its type if it fits.
fn cell(table: &TableSchema, column: &str, value: &Value) -> Cell {
    let ty = table.column(column).map(|c| c.ty.clone());
    match ty.map(|ty| (ty.unconstrained().parse_json_datum(value, &mut NoSymbols), ty)) {
        Some((Ok(datum), ty)) => Cell::Value(datum, ty),
        _ => Cell::Json(value.clone()),
    }
}

/// What is shown of a monitored table.
struct Monitored {
    columns: Vec<String>,
    select: Map<String, Value>,
}

fn monitor(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let schema = call.schema()?;
    let (name, specs) = (call.args[0].clone(), call.args[1..].to_vec());
    let all = name == "ALL" && specs.is_empty();
    let place = format!("{}: ", call.server);
    let tables: Vec<&TableSchema> = if all {
        schema.tables.iter().collect()
    } else {
        let missing = format!("{place}{} does not have a table named \"{name}\"", schema.name);
        vec![table_of(&schema, &name, missing)?]
    };
    let mut requests = Map::new();
    let mut shown = Vec::new();
    for t in tables {
        let m = monitored(t, &specs, &schema.name)
            .map_err(|e| Failure::fatal(format!("{place}{e}")))?;
        requests.insert(t.name.clone(), json!([{"columns": m.columns, "select": m.select}]));
        shown.push((t, m));
    }
    let initial =
        call.ask("monitor", vec![json!(call.db), Value::Null, Value::Object(requests)])?;
    let mut first = true;
    print_updates(call, &shown, &initial, true, all, &mut first)?;
    loop {
        call.session.out.flush()?;
        let Some(n) = call.client.notification(None).map_err(|e| lost(&call.server, &e))? else {
            return Ok(());
        };
        if let ("update", [_, updates]) = (n.method.as_str(), n.params.as_slice()) {
            print_updates(call, &shown, updates, false, all, &mut first)?;
        }
    }
}

/// Reads the column arguments of `monitor`.
fn monitored(t: &TableSchema, specs: &[String], db: &str) -> Result<Monitored, String> {
    let mut columns: Vec<String> = Vec::new();
    let mut select = Map::new();
    for word in specs.iter().flat_map(|s| s.split([',', ' '])).filter(|w| !w.is_empty()) {
        match word {
            "!initial" | "!insert" | "!delete" | "!modify" => {
                select.insert(word[1..].to_owned(), Value::Bool(false));
            }
            _ if t.column(word).is_none() => {
                return Err(format!(
                    "table \"{}\" in {db} does not have a column named \"{word}\"",
                    t.name
                ));
            }
            _ if columns.iter().any(|c| c == word) => {
                return Err(format!("column \"{word}\" mentioned multiple times"));
            }
            _ => columns.push(word.to_owned()),
        }
    }
    if columns.is_empty() {
        columns = t.columns[FIRST_COL..].iter().map(|c| c.name.clone()).collect();
        columns.push("_version".to_owned());
    }
    Ok(Monitored { columns, select })
}

fn print_updates(
    call: &mut Call<'_, '_>,
    shown: &[(&TableSchema, Monitored)],
    updates: &Value,
    initial: bool,
    caption: bool,
    first: &mut bool,
) -> Result<(), Failure> {
    if call.timestamp && updates.as_object().is_some_and(|u| !u.is_empty()) {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let utc = crate::control::utc(now.as_secs());
        let text = utc.replace('T', " ").replace('Z', "");
        if !std::mem::take(first) {
            call.line("")?;
        }
        call.line(&format!("{text}.{:03}", now.subsec_millis()))?;
        *first = true;
    }
    for (t, m) in shown {
        let Some(rows) = updates[&t.name].as_object() else { continue };
        let headings = ["row", "action"].into_iter().chain(m.columns.iter().map(String::as_str));
        let mut output = Table::new(headings);
        output.caption = caption.then(|| t.name.clone());
        let mut push = |row: &str, action: &str, values: &Value| {
            let mut cells = vec![Cell::Text(row.to_owned()), Cell::Text(action.to_owned())];
            cells.extend(m.columns.iter().map(|c| match values.get(c) {
                Some(value) => cell(t, c, value),
                None if call.style.format == Format::Json => Cell::Json(Value::Null),
                None => Cell::Text(String::new()),
            }));
            output.rows.push(cells);
        };
        for (uuid, update) in rows {
            match (update.get("old"), update.get("new")) {
                (None, Some(new)) => push(uuid, if initial { "initial" } else { "insert" }, new),
                (Some(old), None) => push(uuid, "delete", old),
                (Some(old), Some(new)) => {
                    push(uuid, "old", old);
                    push("", "new", new);
                }
                (None, None) => {}
            }
        }
        call.table(&output, std::mem::take(first) || call.style.format == Format::Json)?;
    }
    Ok(())
}
