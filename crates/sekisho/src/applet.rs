//! The table of applets and the one place where a call becomes an exit status.
//!
//! Each row of [`APPLETS`] is one tool: its word after `sekisho`, the name(s) under which Open vSwitch
//! or conntrack-tools ship it, a line of help and the function that runs it. An applet gets a
//! [`Session`] (its name for messages, its standard output and error) and its arguments; it returns
//! the exit status, or a [`Failure`] that [`main`] prints as `NAME: TEXT`, as those tools do.
//!
//! Standard output is buffered here and flushed before the process ends. A reader that went away
//! (`sekisho vsctl show | head -1`) is success, not an error.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// One tool of the multi-call binary.
pub struct Applet {
    /// The word after `sekisho`.
    pub name: &'static str,
    /// Names under which other packages ship the tool; the first one is used in messages.
    pub aliases: &'static [&'static str],
    /// One line for `sekisho help`.
    pub help: &'static str,
    /// Runs the tool.
    pub run: fn(&mut Session<'_>, Vec<String>) -> Outcome,
}

/// Every tool there is, in the order of `sekisho help`.
pub const APPLETS: &[Applet] = &[
    Applet { name: "run", aliases: &[], help: "run the switch", run: crate::run::run },
    Applet {
        name: "vswitchd",
        aliases: &["ovs-vswitchd"],
        help: "run the switch alone, on a database server elsewhere",
        run: crate::vswitchd::run,
    },
    Applet {
        name: "ovsdb-server",
        aliases: &["ovsdb-server"],
        help: "serve databases alone",
        run: crate::ovsdb_server::run,
    },
    Applet {
        name: "vsctl",
        aliases: &["ovs-vsctl"],
        help: "show and change the configuration of the switch",
        run: crate::vsctl::run,
    },
    Applet {
        name: "ofctl",
        aliases: &["ovs-ofctl"],
        help: "show and change flows and ports over OpenFlow",
        run: crate::ofctl::run,
    },
    Applet {
        name: "appctl",
        aliases: &["ovs-appctl"],
        help: "ask a running daemon, or tell it something",
        run: crate::appctl::run,
    },
    Applet {
        name: "dpctl",
        aliases: &["ovs-dpctl"],
        help: "show and change the datapath",
        run: crate::dpctl::run,
    },
    Applet {
        name: "ovsdb-client",
        aliases: &["ovsdb-client"],
        help: "look into a database server",
        run: crate::ovsdb_client::run,
    },
    Applet {
        name: "conntrack",
        aliases: &["conntrack"],
        help: "list, watch and delete tracked connections",
        run: crate::conntrack_tool::run,
    },
    Applet {
        name: "lint",
        aliases: &[],
        help: "say what is wrong with a file of flows",
        run: crate::lint::run,
    },
    Applet {
        name: "why",
        aliases: &[],
        help: "say what becomes of a packet, and why",
        run: crate::why::run,
    },
    Applet {
        name: "top",
        aliases: &[],
        help: "show what the running switch does, live",
        run: crate::top::run,
    },
    Applet {
        name: "demo",
        aliases: &[],
        help: "play the story live in network namespaces",
        run: crate::demo::run_demo,
    },
    Applet {
        name: "demo-peer",
        aliases: &["sekisho-peer"],
        help: "the network program of the demo's machines",
        run: crate::demo::run_peer,
    },
    Applet {
        name: "bench",
        aliases: &[],
        help: "measure this switch beside Open vSwitch and the Linux bridge, on this machine",
        run: crate::bench::run,
    },
    Applet {
        name: "bench-end",
        aliases: &[],
        help: "one end of the traffic that bench makes",
        run: crate::bench::run_end,
    },
    Applet {
        name: "install-links",
        aliases: &[],
        help: "make links DIR/ovs-vsctl, DIR/ovs-ofctl, … to this program",
        run: crate::links::run,
    },
    Applet { name: "help", aliases: &[], help: "print this list", run: help },
    Applet { name: "version", aliases: &[], help: "print the version", run: version },
];

/// What an applet works with.
pub struct Session<'a> {
    /// Name of the tool in its messages: `ovs-vsctl` whether called so or as `sekisho vsctl`.
    pub program: String,
    /// `argv[0]` as the user typed it, which getopt's own messages show.
    pub argv0: String,
    /// Standard output, buffered.
    pub out: &'a mut dyn Write,
    /// Standard error, unbuffered.
    pub err: &'a mut dyn Write,
}

impl Session<'_> {
    /// Prints `PROGRAM: TEXT` on standard error, where nothing can be done if that fails.
    pub fn warn(&mut self, text: impl std::fmt::Display) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{}: {text}", self.program);
    }
}

/// What `--version` prints: the line that scripts read, then who is really speaking.
pub fn version_of(program: &str) -> String {
    let ours = env!("CARGO_PKG_VERSION");
    format!("{program} (Open vSwitch) {}\nSekisho {ours}\n", switchd::OVS_VERSION)
}

/// Exit status, or why there is none.
pub type Outcome = Result<u8, Failure>;

/// Why an applet stopped early.
#[derive(Debug)]
pub enum Failure {
    /// Print `PROGRAM: TEXT` on standard error and exit with this status.
    Fatal(u8, String),
    /// Everything has been said already; exit with this status.
    Silent(u8),
    /// Reading or writing failed; a broken pipe on output is not a failure.
    Io(io::Error),
}

impl Failure {
    /// The usual failure: a message and exit status 1.
    pub fn fatal(text: impl Into<String>) -> Self {
        Self::Fatal(1, text.into())
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Finds the applet with that name or alias.
fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|a| a.name == name || a.aliases.contains(&name))
}

/// Runs the program with its argument vector (`argv[0]` included).
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    // Not locked: a watchdog or worker thread may have something to say as well.
    let mut err = io::stderr();
    ExitCode::from(dispatch(argv, &mut out, &mut err))
}

/// Runs the applet that `argv` names, writing to `out` and `err`; returns the exit status.
fn dispatch(argv: Vec<OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut args = Vec::with_capacity(argv.len());
    for arg in argv {
        match arg.into_string() {
            Ok(s) => args.push(s),
            Err(s) => {
                let _ = writeln!(err, "sekisho: argument {s:?} is not valid UTF-8");
                return 1;
            }
        }
    }
    let mut args = args.into_iter();
    let mut argv0 = args.next().unwrap_or_else(|| "sekisho".into());
    let base = argv0.rsplit('/').next().unwrap_or_default().to_owned();
    // By link: any alias. `sekisho` itself, or an unknown name of the binary, takes the next word.
    let by_link = APPLETS.iter().find(|a| a.aliases.contains(&base.as_str()));
    let applet = match by_link {
        Some(applet) => applet,
        None => {
            let word = match args.next().as_deref() {
                None | Some("--help" | "-h") => "help".to_owned(),
                Some("--version" | "-V") => "version".to_owned(),
                Some(word) => word.to_owned(),
            };
            match find(&word) {
                Some(applet) => {
                    argv0 = match applet.aliases.first() {
                        Some(alias) => (*alias).to_owned(),
                        None => format!("{base} {word}"),
                    };
                    applet
                }
                None => {
                    let _ = writeln!(
                        err,
                        "sekisho: there is no tool \"{word}\" (try \"sekisho help\")"
                    );
                    return 1;
                }
            }
        }
    };
    let program = match applet.aliases.first() {
        Some(_) if by_link.is_some() => base,
        Some(alias) => (*alias).to_owned(),
        None => argv0.clone(),
    };
    let mut session = Session { program, argv0, out, err };
    let outcome = (applet.run)(&mut session, args.collect());
    finish(&mut session, outcome)
}

/// Flushes the output, prints what went wrong and decides the exit status.
fn finish(session: &mut Session<'_>, outcome: Outcome) -> u8 {
    let flushed = session.out.flush();
    let outcome = match (outcome, flushed) {
        (Ok(status), Ok(())) => Ok(status),
        (Ok(_), Err(e)) => Err(Failure::Io(e)),
        (Err(failure), _) => Err(failure),
    };
    match outcome {
        Ok(status) | Err(Failure::Silent(status)) => status,
        Err(Failure::Fatal(status, text)) => {
            session.warn(text);
            status
        }
        Err(Failure::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Failure::Io(e)) => {
            session.warn(e);
            1
        }
    }
}

/// `sekisho help`: what there is.
fn help(session: &mut Session<'_>, _args: Vec<String>) -> Outcome {
    writeln!(session.out, "sekisho: a stateful virtual switch")?;
    writeln!(session.out, "usage: sekisho TOOL [ARG...]\n\nTools:")?;
    for applet in APPLETS {
        let also = match applet.aliases {
            [] => String::new(),
            aliases => format!(" (also called as {})", aliases.join(", ")),
        };
        writeln!(session.out, "  {:<15}{}{also}", applet.name, applet.help)?;
    }
    writeln!(session.out, "\n\"sekisho TOOL --help\" tells more about one tool.")?;
    Ok(0)
}

/// `sekisho version`.
fn version(session: &mut Session<'_>, _args: Vec<String>) -> Outcome {
    writeln!(session.out, "sekisho {}", env!("CARGO_PKG_VERSION"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(argv: &[&str]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = dispatch(argv.iter().map(OsString::from).collect(), &mut out, &mut err);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn names_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for a in APPLETS {
            for name in a.aliases.iter().filter(|n| **n != a.name).chain([&a.name]) {
                assert!(seen.insert(*name), "{name} stands for two tools");
            }
        }
    }

    #[test]
    fn help_lists_every_applet() {
        let (status, out, _) = call(&["/usr/bin/sekisho", "help"]);
        assert_eq!(status, 0);
        for a in APPLETS {
            assert!(out.contains(a.name), "{} is missing", a.name);
        }
        assert_eq!(call(&["sekisho"]).1, out);
        assert_eq!(call(&["sekisho", "--help"]).1, out);
    }

    #[test]
    fn unknown_tool() {
        let (status, out, err) = call(&["sekisho", "frob"]);
        assert_eq!((status, out.as_str()), (1, ""));
        assert_eq!(err, "sekisho: there is no tool \"frob\" (try \"sekisho help\")\n");
    }

    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let mut err = Vec::new();
        let argv = vec!["sekisho".into(), "help".into()];
        assert_eq!(dispatch(argv, &mut Gone, &mut err), 0);
        assert!(err.is_empty());
    }
}
