//! What `ovs-vswitchd` and `ovsdb-server` have in common: options of the process, its files, going to
//! the background. The options' ids are their long names.

use std::path::PathBuf;

use crate::applet::{Failure, Session, version_of};
use crate::control::{logdir, rundir};
use crate::daemonize::{self, Fork, How};
use crate::getopt::{Arg, Opt, Order, Parsed, parse};
use crate::pki::{self, Pki};

/// Id of all options of TLS.
const PKI: &str = "pki";

/// An option's row.
pub const fn opt(long: &'static str, short: Option<char>, arg: Arg) -> Opt<&'static str> {
    Opt { long, short, arg, id: long }
}

/// Options of every daemon, besides those of TLS.
const COMMON: [Opt<&'static str>; 14] = [
    opt("help", Some('h'), Arg::None),
    opt("version", Some('V'), Arg::None),
    opt("unixctl", None, Arg::Required),
    opt("detach", None, Arg::None),
    opt("no-self-confinement", None, Arg::None),
    opt("no-chdir", None, Arg::None),
    opt("pidfile", None, Arg::Optional),
    opt("overwrite-pidfile", None, Arg::None),
    opt("monitor", None, Arg::None),
    opt("user", None, Arg::Required),
    opt("verbose", Some('v'), Arg::Optional),
    opt("log-file", None, Arg::Optional),
    opt("syslog-method", None, Arg::Required),
    opt("syslog-target", None, Arg::Required),
];

/// Help on [`COMMON`], after the daemon's own.
const HELP: &str = "
Daemon options:
  --detach                  run in background as daemon
  --monitor                 creates a process to monitor this daemon
  --no-chdir                do not chdir to '/'
  --pidfile[=FILE]          create pidfile (default: RUNDIR/PROGRAM.pid)
  --overwrite-pidfile       with --pidfile, start even if already running

Logging options:
  -vSPEC, --verbose=SPEC    set logging levels
  -v, --verbose             set maximum verbosity level
  --log-file[=FILE]         enable logging to specified FILE
                            (default: LOGDIR/PROGRAM.log)

Other options:
  --unixctl=SOCKET          override default control socket name
  -h, --help                display this help message
  -V, --version             display version information
";

/// What the common options say.
#[derive(Debug)]
pub struct Common {
    /// All options and arguments.
    pub parsed: Parsed<&'static str>,
    /// Foreground or background.
    pub how: How,
    /// Pid file to write.
    pub pidfile: Option<PathBuf>,
    /// Log file to write.
    pub log_file: Option<PathBuf>,
    /// Log levels.
    pub verbose: Vec<String>,
    /// Control socket in place of `RUNDIR/PROGRAM.PID.ctl`.
    pub unixctl: Option<PathBuf>,
    /// Keys for TLS.
    pub tls: Option<tls::Files>,
}

/// The argument of the last option of that name; `Some(None)` for one without an argument.
pub fn last(parsed: &Parsed<&'static str>, id: &str) -> Option<Option<String>> {
    parsed.options.iter().rev().find(|o| o.id == id).map(|o| o.value.clone())
}

/// Reads a command line. `Ok(None)`: it only asked for help or the version.
///
/// # Errors
/// An option that is none.
pub fn read(
    session: &mut Session<'_>,
    own: &[Opt<&'static str>],
    help: &str,
    args: Vec<String>,
) -> Result<Option<Common>, Failure> {
    let table = [&COMMON[..], &pki::options(PKI), own].concat();
    let parsed = parse(session, &table, Order::Permute, args)?;
    if parsed.has("help") {
        write!(session.out, "{help}{HELP}")?;
        return Ok(None);
    }
    if parsed.has("version") {
        write!(session.out, "{}", version_of(&session.program))?;
        return Ok(None);
    }
    let program = &session.program;
    // Names without a directory are of the run directory, or of the log directory.
    let file = |id: &str, dir: PathBuf, suffix: &str| {
        last(&parsed, id).map(|name| match name {
            Some(name) => dir.join(name),
            None => dir.join(format!("{program}.{suffix}")),
        })
    };
    let mut keys = Pki::default();
    for option in parsed.options.iter().filter(|o| o.id == PKI) {
        keys.set(&option.name, option.value.as_deref().unwrap_or_default())?;
    }
    let verbose = parsed.options.iter().filter(|o| o.id == "verbose");
    Ok(Some(Common {
        how: How {
            detach: parsed.has("detach"),
            monitor: parsed.has("monitor"),
            no_chdir: parsed.has("no-chdir"),
        },
        pidfile: file("pidfile", rundir(), "pid"),
        log_file: file("log-file", logdir(), "log"),
        unixctl: file("unixctl", rundir(), "ctl"),
        tls: keys.files()?,
        verbose: verbose.map(|o| o.value.clone().unwrap_or_else(|| "dbg".to_owned())).collect(),
        parsed,
    }))
}

impl Common {
    /// Goes to the background, as far as asked for, and runs the daemon there. `daemon` calls its
    /// argument once it serves.
    ///
    /// # Errors
    /// What the daemon says; it could not go to the background.
    pub fn run(
        &self,
        session: &Session<'_>,
        daemon: impl FnOnce(Box<dyn FnOnce()>) -> Result<(), String>,
    ) -> Result<u8, Failure> {
        match daemonize::start(self.how, &session.argv0)? {
            Fork::Parent(status) => Ok(status),
            Fork::Daemon(background) => {
                daemon(Box::new(move || background.ready())).map_err(Failure::fatal)?;
                Ok(0)
            }
        }
    }
}
