//! `ovsdb-server`: the database server alone, with OVS's command line.

use std::path::PathBuf;

use switchd::dbserver::{self, Options};

use crate::applet::{Failure, Outcome, Session};
use crate::control::{dbdir, rundir};
use crate::daemons::{self, opt};
use crate::getopt::{Arg, Opt};

const OPTIONS: &[Opt<&'static str>] = &[
    opt("remote", None, Arg::Required),
    opt("no-dbs", None, Arg::None),
    opt("disable-file-column-diff", None, Arg::None),
    opt("disable-file-no-data-conversion", None, Arg::None),
];

const HELP: &str = "\
ovsdb-server: Open vSwitch database server
usage: ovsdb-server [OPTIONS] [DATABASE...]
where each DATABASE is a database file in ovsdb format.
The default DATABASE, if none is given, is DBDIR/conf.db.

JSON-RPC options (may be specified any number of times):
  --remote=REMOTE           connect or listen to REMOTE:
                            punix:FILE, ptcp:PORT[:IP], unix:FILE, tcp:IP:PORT,
                            db:DATABASE,TABLE,COLUMN
";

/// Runs the server until it ends.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let Some(common) = daemons::read(session, OPTIONS, HELP, args)? else { return Ok(0) };
    let parsed = &common.parsed;
    let named: Vec<PathBuf> = parsed.rest.iter().map(PathBuf::from).collect();
    let databases = match (named.is_empty(), parsed.has("no-dbs")) {
        (true, false) => vec![dbdir().join("conf.db")],
        (false, true) => {
            let text = "--no-dbs cannot be used with databases on the command line";
            return Err(Failure::fatal(text));
        }
        _ => named,
    };
    let remotes = parsed.options.iter().filter(|o| o.id == "remote");
    let options = Options {
        rundir: rundir(),
        databases,
        remotes: remotes.filter_map(|o| o.value.clone()).collect(),
        pidfile: common.pidfile.clone(),
        overwrite_pidfile: parsed.has("overwrite-pidfile"),
        unixctl: common.unixctl.clone(),
        log_file: common.log_file.clone(),
        verbose: common.verbose.clone(),
        tls: common.tls.clone(),
    };
    common.run(session, |ready| dbserver::run(&options, ready).map_err(|e| e.to_string()))
}
