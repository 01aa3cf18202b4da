//! `sekisho dpctl` (`ovs-dpctl`): the datapath's commands, asked of the daemon that owns it.
//!
//! OVS's tool of this name talks to the Linux kernel; here the datapath lives in the daemon, so
//! `dpctl WORD …` is `appctl dpctl/WORD …`. Options are handed on, and the daemon's messages
//! carry this tool's name.

use crate::applet::{Failure, Outcome, Session, version_of};
use crate::control::{Control, DEFAULT_TARGET, arm_timeout, parse_timeout};
use crate::getopt::{Arg, Opt, Order, parse};

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "statistics", short: Some('s'), arg: Arg::None, id: 'p' },
    Opt { long: "more", short: Some('m'), arg: Arg::None, id: 'p' },
    Opt { long: "clear", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "zero", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "may-create", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "read-only", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "names", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "no-names", short: None, arg: Arg::None, id: 'p' },
    Opt { long: "timeout", short: Some('t'), arg: Arg::Required, id: 't' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
    Opt { long: "version", short: Some('V'), arg: Arg::None, id: 'V' },
    Opt { long: "verbose", short: Some('v'), arg: Arg::Optional, id: 'v' },
    Opt { long: "log-file", short: None, arg: Arg::Optional, id: 'v' },
];

const HELP: &str = "\
usage: ovs-dpctl [OPTION]... COMMAND [ARG]...
Sends dpctl/COMMAND to the running switch and prints its answer.

Options:
  -s, --statistics     with statistics
  -m, --more           more detail
      --names          port names instead of numbers
      --no-names       port numbers
  -t, --timeout=SECS   give up after SECS seconds
  -h, --help           print this
  -V, --version        print the version

Some commands: show, dump-flows, dump-conntrack, flush-conntrack, ct-stats-show, ct-get-nconns.
\"ovs-appctl list-commands\" lists all, there with \"dpctl/\" before their names.
";

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Permute, args)?;
    let mut params = Vec::new();
    let mut timeout = None;
    for option in &parsed.options {
        match (option.id, option.value.as_deref().unwrap_or_default()) {
            ('p', _) => params.push(format!("--{}", option.name)),
            ('t', value) => timeout = Some(parse_timeout("-t or --timeout", value)?),
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
    let Some((command, rest)) = parsed.rest.split_first() else {
        return Err(Failure::fatal("missing command name; use --help for help"));
    };
    params.extend_from_slice(rest);
    arm_timeout(timeout);
    let mut control = Control::connect(session, DEFAULT_TARGET)?;
    match control.call(session, &format!("dpctl/{command}"), &params)? {
        Ok(text) => {
            write!(session.out, "{text}")?;
            Ok(0)
        }
        Err(text) => {
            session.out.flush()?;
            let unknown = format!("\"dpctl/{command}\" is not a valid command");
            if text.starts_with(&unknown) {
                let text = format!("unknown command '{command}'; use --help for help");
                return Err(Failure::fatal(text));
            }
            let daemon = format!("{DEFAULT_TARGET}: ");
            let arity = format!("\"dpctl/{command}\" command ");
            for line in text.lines() {
                let line = line.strip_prefix(&daemon).unwrap_or(line);
                match line.strip_prefix(&arity) {
                    Some(rest) => session.warn(format_args!("'{command}' command {rest}")),
                    None => session.warn(line),
                }
            }
            Err(Failure::Silent(1))
        }
    }
}
