//! `sekisho appctl` (`ovs-appctl`): sends one command to a running daemon and prints what it answers.
//!
//! The text of a result goes to standard output; the text of an error to standard error, followed by a
//! line that names the daemon, and the exit status is 2. Trouble in reaching the daemon is status 1.

use crate::applet::{Failure, Outcome, Session, version_of};
use crate::control::{Control, DEFAULT_TARGET, arm_timeout, parse_timeout};
use crate::getopt::{Arg, Opt, Order, parse};

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "target", short: Some('t'), arg: Arg::Required, id: 't' },
    Opt { long: "timeout", short: Some('T'), arg: Arg::Required, id: 'T' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
    Opt { long: "version", short: Some('V'), arg: Arg::None, id: 'V' },
    Opt { long: "verbose", short: Some('v'), arg: Arg::Optional, id: 'v' },
    Opt { long: "log-file", short: None, arg: Arg::Optional, id: 'v' },
    Opt { long: "syslog-method", short: None, arg: Arg::Required, id: 'v' },
    Opt { long: "syslog-target", short: None, arg: Arg::Required, id: 'v' },
];

const HELP: &str = "\
usage: ovs-appctl [OPTION]... COMMAND [ARG]...
Sends COMMAND to a running daemon and prints its answer.

Options:
  -t, --target=TARGET  daemon: a name (its pid file is looked up in the run directory) or
                       the absolute path of a control socket; default ovs-vswitchd
  -T, --timeout=SECS   give up after SECS seconds
  -h, --help           print this
  -V, --version        print the version

Commands every daemon has:
  list-commands        list what the daemon understands
  version              print the daemon's version
  vlog/list            list the log levels
  vlog/set [SPEC]      set log levels
";

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Stop, args)?;
    let mut target = DEFAULT_TARGET;
    let mut timeout = None;
    for option in &parsed.options {
        match (option.id, option.value.as_deref().unwrap_or_default()) {
            ('t', value) => target = value,
            ('T', value) => timeout = Some(parse_timeout("-T or --timeout", value)?),
            ('h', _) => {
                write!(session.out, "{HELP}")?;
                return Ok(0);
            }
            ('V', _) => {
                write!(session.out, "{}", version_of(&session.program))?;
                return Ok(0);
            }
            _ => {}
        }
    }
    let Some((command, params)) = parsed.rest.split_first() else {
        let text = "at least one non-option argument is required (use --help for help)";
        return Err(Failure::fatal(text));
    };
    arm_timeout(timeout);
    match Control::connect(session, target)?.call(session, command, params)? {
        Ok(text) => {
            write!(session.out, "{text}")?;
            Ok(0)
        }
        Err(text) => {
            session.out.flush()?;
            session.err.write_all(text.as_bytes())?;
            session.warn(format_args!("{target}: server returned an error"));
            Err(Failure::Silent(2))
        }
    }
}
