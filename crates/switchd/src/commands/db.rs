//! Commands of the database server.

use crate::control::{Answer, Command};
use crate::daemon::Daemon;
use crate::dbhost::DATABASE;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command { name: "ovsdb-server/compact", usage: "", arity: (0, 1), run: compact },
    Command { name: "ovsdb-server/list-dbs", usage: "", arity: (0, 0), run: list_dbs },
    Command { name: "ovsdb-server/list-remotes", usage: "", arity: (0, 0), run: list_remotes },
];

fn compact(d: &mut Daemon, args: &[String]) -> Answer {
    if let Some(name) = args.first()
        && name != DATABASE
    {
        return Err(format!("{name}: unknown database")).into();
    }
    // These commands are those of the embedded server's socket.
    let Some(host) = d.db.host() else { return Err("no database here".to_owned()).into() };
    host.borrow_mut().compact().map(|()| String::new()).into()
}

fn list_dbs(d: &mut Daemon, _: &[String]) -> Answer {
    let Some(host) = d.db.host() else { return Ok(String::new()).into() };
    let db = host.borrow();
    Ok(db.server().db_names().map(|n| format!("{n}\n")).collect()).into()
}

fn list_remotes(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(format!("punix:{}\n", d.rundir.join("db.sock").display())).into()
}
