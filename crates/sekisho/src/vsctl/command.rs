//! The command line of `vsctl`: commands separated by `--`, each with its options before its name.

use std::collections::BTreeMap;

use ovsdb::UuidGen;

use super::replica::{RowId, Txn};
use super::symbols::SymbolTable;
use crate::table::Table;

/// One row of a table of commands.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, each behind a sign: `!` one, `?` one or none, `+` one or more, `*` any number; within
    /// one, `?` stands before what may be left away. `--commands` prints it as it is.
    pub usage: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
    /// Fewest and most arguments.
    pub args: (usize, usize),
    /// Options it takes: names with their dashes; a final `=` means that an argument is needed, a final
    /// `?` that one may follow.
    pub options: &'static [&'static str],
    /// What it does.
    pub run: fn(&mut Ctx<'_, '_>) -> Result<(), Stop>,
}

impl Command {
    /// Name and arguments for people: `get TABLE RECORD [COLUMN[:KEY]]...`.
    pub fn synopsis(&self) -> String {
        let mut text = self.name.to_owned();
        for word in self.usage.split(' ').filter(|w| !w.is_empty()) {
            let (sign, arg) = word.split_at(1);
            let arg = arg.replace("?:KEY", "[:KEY]").replace("?KEY=", "[KEY=]");
            text += &match sign {
                "?" => format!(" [{arg}]"),
                "+" => format!(" {arg}..."),
                "*" => format!(" [{arg}]..."),
                _ => format!(" {arg}"),
            };
        }
        text
    }
}

/// Most arguments of a command that takes any number.
pub const ANY: usize = usize::MAX;

/// Why a command did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// Message and exit status 1.
    Fatal(String),
    /// Exit with this status at once, nothing changed.
    Exit(u8),
    /// Try again when the database has changed.
    TryAgain,
}

impl Stop {
    /// A message.
    pub fn fatal(text: impl Into<String>) -> Self {
        Self::Fatal(text.into())
    }
}

impl From<ovsdb::Error> for Stop {
    fn from(e: ovsdb::Error) -> Self {
        Self::Fatal(e.to_string())
    }
}

/// A command of this call, checked against the table.
pub struct Invocation {
    /// Its row in the table.
    pub command: &'static Command,
    /// Options, with their dashes.
    pub options: BTreeMap<String, Option<String>>,
    /// Name and arguments.
    pub argv: Vec<String>,
}

/// What a command works with.
pub struct Ctx<'t, 'r> {
    /// The transaction.
    pub txn: &'t mut Txn<'r>,
    /// `@names`.
    pub symbols: &'t mut SymbolTable,
    /// Makes identities of new rows.
    pub uuids: &'t mut UuidGen,
    /// Interfaces added by this call, to look for errors once they are set up.
    pub new_interfaces: &'t mut Vec<RowId>,
    /// Warnings to print: module and text.
    pub warnings: &'t mut Vec<(&'static str, String)>,
    /// Options of this command.
    pub options: &'t BTreeMap<String, Option<String>>,
    /// Name and arguments of this command.
    pub argv: &'t [String],
    /// Words that should be numbers and are none count as 0.
    pub lenient: bool,
    /// What it prints.
    pub output: Output,
}

/// What a command prints once the transaction is committed.
#[derive(Debug, Default)]
pub struct Output {
    /// Text.
    pub text: String,
    /// Or a table.
    pub table: Option<Table>,
    /// Or the identity of a row that is inserted.
    pub created: Option<RowId>,
}

impl<'t> Ctx<'t, '_> {
    /// Was the option (with its dashes) given?
    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// Argument of an option.
    pub fn option(&self, option: &str) -> Option<&'t str> {
        self.options.get(option)?.as_deref()
    }

    /// The `n`th argument (1 is the first); empty if there is none.
    pub fn arg(&self, n: usize) -> &'t str {
        self.argv.get(n).map_or("", String::as_str)
    }

    /// Reads a number; what is none is refused with `hint`, or counts as its leading digits.
    pub fn number(&self, text: &str, hint: &str) -> Result<i64, Stop> {
        match text.parse() {
            Ok(n) => Ok(n),
            Err(_) if self.lenient => {
                let end = text.bytes().skip(1).take_while(u8::is_ascii_digit).count() + 1;
                Ok(text.get(..end).and_then(|t| t.parse().ok()).unwrap_or(0))
            }
            Err(_) => Err(Stop::fatal(format!("{hint} (--lenient takes \"{text}\" all the same)"))),
        }
    }

    /// Adds a line to the output.
    pub fn line(&mut self, text: impl std::fmt::Display) {
        use std::fmt::Write;
        let _ = writeln!(self.output.text, "{text}");
    }
}

/// Splits arguments at `--` and checks every command; `first_options` are those given among the
/// general options, which belong to the first command.
///
/// # Errors
/// The text to print.
pub fn parse_commands(
    tables: &[&'static [Command]],
    first_options: Vec<(String, Option<String>)>,
    args: &[String],
) -> Result<Vec<Invocation>, String> {
    // Repeating a flag among the general options is harmless.
    let mut options: BTreeMap<_, _> = first_options.into_iter().collect();
    let mut invocations = Vec::new();
    let mut groups: Vec<&[String]> = args.split(|a| a == "--").collect();
    // Empty groups are allowed, but there must be a command.
    groups.retain(|g| !g.is_empty());
    if groups.is_empty() {
        return Err("missing command name (use --help for help)".to_owned());
    }
    for group in groups {
        invocations.push(parse_command(tables, std::mem::take(&mut options), group)?);
    }
    Ok(invocations)
}

fn parse_command(
    tables: &[&'static [Command]],
    mut options: BTreeMap<String, Option<String>>,
    args: &[String],
) -> Result<Invocation, String> {
    let n_options = args.iter().take_while(|a| a.starts_with('-')).count();
    for arg in &args[..n_options] {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        if options.insert(name.to_owned(), value).is_some() {
            return Err(format!("'{arg}' option specified multiple times"));
        }
    }
    let argv = &args[n_options..];
    let Some(name) = argv.first() else {
        return Err("missing command name (use --help for help)".to_owned());
    };
    let Some(command) = tables.iter().copied().flatten().find(|c| c.name == name) else {
        return Err(format!("unknown command '{name}'; use --help for help"));
    };
    for (option, value) in &options {
        let row = command.options.iter().find(|o| o.trim_end_matches(['=', '?']) == option);
        match row {
            None => return Err(format!("'{name}' command has no '{option}' option")),
            Some(row) if row.ends_with('=') && value.is_none() => {
                return Err(format!("missing argument to '{option}' option on '{name}' command"));
            }
            Some(row) if !row.ends_with(['=', '?']) && value.is_some() => {
                return Err(format!("'{option}' option on '{name}' does not accept an argument"));
            }
            Some(_) => {}
        }
    }
    let n_args = argv.len() - 1;
    let (min, max) = command.args;
    if n_args < min {
        return Err(format!("'{name}' command requires at least {min} arguments"));
    }
    if n_args > max {
        let note = if argv[1..].iter().any(|a| a.starts_with('-')) {
            " (note that options must precede command names and follow a \"--\" argument)"
        } else {
            ""
        };
        return Err(format!("'{name}' command takes at most {max} arguments{note}"));
    }
    Ok(Invocation { command, options, argv: argv.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Command] = &[
        Command {
            name: "list-br",
            usage: "",
            help: "",
            args: (0, 0),
            options: &["--real"],
            run: |_| Ok(()),
        },
        Command {
            name: "create",
            usage: "",
            help: "",
            args: (2, ANY),
            options: &["--id="],
            run: |_| Ok(()),
        },
    ];

    fn parse(args: &[&str]) -> Result<Vec<Invocation>, String> {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        parse_commands(&[TABLE], Vec::new(), &args)
    }

    #[test]
    fn chains() {
        let all = parse(&["list-br", "--", "--id=@x", "create", "a", "b", "--"]).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].options["--id"].as_deref(), Some("@x"));
        assert_eq!(all[1].argv, ["create", "a", "b"]);
    }

    #[test]
    fn synopses() {
        let usage = "!TABLE ?RECORD +COLUMN?:KEY=VALUE *ARG";
        let c = Command { name: "x", usage, help: "", args: (0, 0), options: &[], run: |_| Ok(()) };
        assert_eq!(c.synopsis(), "x TABLE [RECORD] COLUMN[:KEY]=VALUE... [ARG]...");
    }

    #[test]
    fn mistakes() {
        for (args, text) in [
            (&[][..], "missing command name (use --help for help)"),
            (&["--", "--"], "missing command name (use --help for help)"),
            (&["--", "--real"], "missing command name (use --help for help)"),
            (&["frob"], "unknown command 'frob'; use --help for help"),
            (&["--frob", "list-br"], "'list-br' command has no '--frob' option"),
            (&["--real", "--real", "list-br"], "'--real' option specified multiple times"),
            (&["--real=1", "list-br"], "'--real' option on 'list-br' does not accept an argument"),
            (
                &["--id", "create", "a", "b"],
                "missing argument to '--id' option on 'create' command",
            ),
            (&["create", "a"], "'create' command requires at least 2 arguments"),
            (&["list-br", "x"], "'list-br' command takes at most 0 arguments"),
            (
                &["list-br", "--real"],
                "'list-br' command takes at most 0 arguments (note that options must precede \
                 command names and follow a \"--\" argument)",
            ),
        ] {
            assert_eq!(parse(args).map(|v| v.len()).unwrap_err(), text);
        }
    }
}
