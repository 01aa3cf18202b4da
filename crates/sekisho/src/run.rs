//! `sekisho run`: the daemon.

use std::path::PathBuf;

use switchd::daemon::{self, Options, Source};
use switchd::sim::Level;

use crate::applet::{Failure, Outcome, Session};
use crate::control::{dbdir, logdir, rundir};
use crate::getopt::{Arg, Opt, Order, parse};
use crate::pki::{self, Pki};

const OPTIONS: &[Opt<char>] = &[
    Opt { long: "rundir", short: None, arg: Arg::Required, id: 'r' },
    Opt { long: "db", short: None, arg: Arg::Required, id: 'd' },
    Opt { long: "ovsdb", short: None, arg: Arg::Required, id: 'o' },
    Opt { long: "log-file", short: None, arg: Arg::Optional, id: 'l' },
    Opt { long: "verbose", short: Some('v'), arg: Arg::Optional, id: 'v' },
    Opt { long: "simulate", short: None, arg: Arg::None, id: 's' },
    Opt { long: "help", short: Some('h'), arg: Arg::None, id: 'h' },
];
/// Id of all options of TLS.
const PKI: char = 'k';

const HELP: &str = "\
usage: sekisho run [OPTION]...
Runs the switch: database server, OpenFlow and datapath in one process.

Options:
      --rundir=DIR      sockets and pid files (default: $OVS_RUNDIR, else /var/run/openvswitch)
      --db=FILE         database, created if absent (default: $OVS_DBDIR/conf.db,
                        else /etc/openvswitch/conf.db)
      --ovsdb=REMOTE    obey the database server at unix:PATH, tcp:HOST[:PORT] or
                        ssl:HOST[:PORT] and run none
      --log-file[=FILE] also log to FILE (default: $OVS_LOGDIR/ovs-vswitchd.log)
  -v, --verbose[=SPEC]  log levels, as \"sekisho appctl vlog/set SPEC\"
  -p, --private-key=FILE, -c, --certificate=FILE, -C, --ca-cert=FILE,
      --bootstrap-ca-cert=FILE, --peer-ca-cert=FILE, --ssl-protocols=LIST, --ssl-ciphers=LIST
                        keys for TLS where the table SSL has none
      --simulate        all devices are simulated and the clock can be stopped: for tests
  -h, --help            print this

The stock tools find a daemon that was started with --rundir=DIR by OVS_RUNDIR=DIR.
It ends on SIGTERM, SIGINT, or \"sekisho appctl exit\".
";

/// Runs the daemon until it ends.
pub fn run(session: &mut Session<'_>, args: Vec<String>) -> Outcome {
    let table = [OPTIONS, &pki::options(PKI)].concat();
    let parsed = parse(session, &table, Order::Permute, args)?;
    if let Some(extra) = parsed.rest.first() {
        return Err(Failure::fatal(format!(
            "unexpected argument \"{extra}\"; use --help for help"
        )));
    }
    if parsed.has('h') {
        write!(session.out, "{HELP}")?;
        return Ok(0);
    }
    let value = |id| parsed.options.iter().rev().find(|o| o.id == id).and_then(|o| o.value.clone());
    let log_file = parsed
        .has('l')
        .then(|| value('l').map_or_else(|| logdir().join("ovs-vswitchd.log"), PathBuf::from));
    let verbose = parsed.options.iter().filter(|o| o.id == 'v');
    let mut keys = Pki::default();
    for option in parsed.options.iter().filter(|o| o.id == PKI) {
        keys.set(&option.name, option.value.as_deref().unwrap_or_default())?;
    }
    let dir = value('r').map_or_else(rundir, PathBuf::from);
    let options = Options {
        source: match value('o') {
            Some(target) => Source::Server(target),
            None => Source::File(value('d').map_or_else(|| dbdir().join("conf.db"), PathBuf::from)),
        },
        pidfile: Some(dir.join("ovs-vswitchd.pid")),
        overwrite_pidfile: false,
        unixctl: None,
        tls: keys.files()?,
        log_file,
        verbose: verbose.map(|o| o.value.clone().unwrap_or_else(|| "dbg".to_owned())).collect(),
        dummy: parsed.has('s').then_some(Level::Override),
        dummy_numa: None,
        rundir: dir,
    };
    daemon::run(&options, Box::new(|| {})).map_err(|e| Failure::fatal(e.to_string()))?;
    Ok(0)
}
