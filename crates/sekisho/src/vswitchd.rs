//! `ovs-vswitchd`: the switch alone, obeying a database server elsewhere, with OVS's command line.

use switchd::daemon::{self, Options, Source};
use switchd::sim::Level;

use crate::applet::{Failure, Outcome, Session};
use crate::control::rundir;
use crate::daemons::{self, last, opt};
use crate::getopt::{Arg, Opt};

const OPTIONS: &[Opt<&'static str>] = &[
    opt("mlockall", None, Arg::None),
    opt("hw-rawio-access", None, Arg::None),
    opt("dpdk", None, Arg::Optional),
    opt("enable-dummy", None, Arg::Optional),
    opt("disable-system", None, Arg::None),
    opt("disable-system-route", None, Arg::None),
    opt("dummy-numa", None, Arg::Required),
];

const HELP: &str = "\
ovs-vswitchd: Open vSwitch daemon
usage: ovs-vswitchd [OPTIONS] [DATABASE]
where DATABASE is a socket on which ovsdb-server is listening
      (default: \"unix:RUNDIR/db.sock\").

Simulation:
  --enable-dummy[=override|=system]  simulated devices and datapath, on a clock that can be stopped
  --disable-system          no datapath in the kernel (there never is one)
  --disable-system-route    no routes of the host
  --dummy-numa=NODE,...     simulated NUMA node of each core
";

/// Runs the daemon until it ends.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let Some(common) = daemons::read(session, OPTIONS, HELP, args)? else { return Ok(0) };
    if common.parsed.has("dpdk") {
        return Err(Failure::fatal("Using --dpdk to configure DPDK is not supported."));
    }
    let database = match common.parsed.rest.as_slice() {
        [] => format!("unix:{}", rundir().join("db.sock").display()),
        [one] => one.clone(),
        _ => {
            let text = "at most one non-option argument accepted; use --help for usage";
            return Err(Failure::fatal(text));
        }
    };
    let dummy = last(&common.parsed, "enable-dummy").map(|level| match level.as_deref() {
        None => Ok(Level::Beside),
        Some("system") => Ok(Level::System),
        Some("override") => Ok(Level::Override),
        Some(other) => Err(Failure::fatal(format!("--enable-dummy: unknown level \"{other}\""))),
    });
    let dummy_numa = match last(&common.parsed, "dummy-numa").flatten() {
        Some(list) => Some(read_nodes(&list)?),
        None => None,
    };
    let options = Options {
        source: Source::Server(database),
        pidfile: common.pidfile.clone(),
        overwrite_pidfile: common.parsed.has("overwrite-pidfile"),
        unixctl: common.unixctl.clone(),
        tls: common.tls.clone(),
        log_file: common.log_file.clone(),
        verbose: common.verbose.clone(),
        dummy: dummy.transpose()?,
        dummy_numa,
        rundir: rundir(),
    };
    common.run(session, |ready| daemon::run(&options, ready).map_err(|e| e.to_string()))
}

/// NUMA nodes of simulated cores, from core 0 on.
fn read_nodes(list: &str) -> Result<Vec<usize>, Failure> {
    let nodes: Result<Vec<_>, _> = list.split(',').map(|n| n.trim().parse()).collect();
    nodes.map_err(|_| {
        let text = format!(
            "--dummy-numa={list}: not a list of NUMA nodes, one for each core, such as 0,0,1"
        );
        Failure::fatal(text)
    })
}
