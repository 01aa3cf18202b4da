//! `sekisho why`: asks the running switch what becomes of a packet, and why, in plain words.
//!
//! The daemon's word `sekisho/why` does it: it translates the packet as `ofproto/trace` does, asks
//! its connection tracker without changing it, and tells which rules decided and which came close.

use crate::applet::{Failure, Outcome, Session};
use crate::control::{Control, DEFAULT_TARGET, arm_timeout, parse_timeout};
use crate::getopt::{Arg, Opt, Order, parse};

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "ct-next", short: None, arg: Arg::Required, id: 'c' },
    Opt { long: "target", short: Some('t'), arg: Arg::Required, id: 't' },
    Opt { long: "timeout", short: Some('T'), arg: Arg::Required, id: 'T' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];

const HELP: &str = "\
usage: sekisho why [OPTION]... BRIDGE FLOW [PACKET]
       sekisho why [OPTION]... DATAPATH_FLOW [PACKET]
Says what becomes of a packet that comes in on BRIDGE, and why: which rule of which table takes it,
which rules came close and by which field they failed, what conntrack says, and where it goes.

FLOW is the packet as fields (\"in_port=3,tcp,nw_src=10.0.0.1,...\"); PACKET is the frame in hexadecimal,
of which FLOW then says only where it comes in (\"in_port=3\"). Nothing is sent, learned or committed.

Options:
      --ct-next=FLAGS  what conntrack says at its next turn, like trk,est (default: it is asked)
  -t, --target=TARGET  daemon to ask; default ovs-vswitchd
  -T, --timeout=SECS   give up after SECS seconds
  -h, --help           print this
";

/// Runs the tool.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let parsed = parse(session, OPTIONS, Order::Permute, args)?;
    let mut target = DEFAULT_TARGET;
    let mut timeout = None;
    let mut params = parsed.rest;
    for option in &parsed.options {
        match (option.id, option.value.as_deref().unwrap_or_default()) {
            ('c', value) => params.push(format!("--ct-next={value}")),
            ('t', value) => target = value,
            ('T', value) => timeout = Some(parse_timeout("-T or --timeout", value)?),
            _ => {
                write!(session.out, "{HELP}")?;
                return Ok(0);
            }
        }
    }
    if params.iter().all(|p| p.starts_with('-')) {
        return Err(Failure::fatal("which packet? (use --help for help)"));
    }
    arm_timeout(timeout);
    match Control::connect(session, target)?.call(session, "sekisho/why", &params)? {
        Ok(text) => {
            write!(session.out, "{text}")?;
            Ok(0)
        }
        Err(text) => Err(Failure::fatal(text.trim_end())),
    }
}
