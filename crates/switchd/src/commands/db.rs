//! Commands of the database server, embedded or alone.

use std::cell::RefCell;
use std::rc::Rc;

use crate::control::{Answer, Command};
use crate::daemon::Daemon;
use crate::dbhost::DbHost;

/// A daemon with databases in it.
pub(crate) trait Databases: Sized + 'static {
    /// The server.
    fn host(&self) -> Option<&Rc<RefCell<DbHost>>>;

    /// Where clients find it, or it them.
    fn remotes(&self) -> Vec<String>;
}

/// Commands of every daemon with databases.
pub(crate) trait DatabaseCommands: Databases {
    /// The table.
    const DATABASE: &'static [Command<Self>] = &[
        Command {
            name: "ovsdb-server/compact",
            usage: "[db]",
            arity: (0, 1),
            run: compact::<Self>,
        },
        Command { name: "ovsdb-server/list-dbs", usage: "", arity: (0, 0), run: list_dbs::<Self> },
        Command {
            name: "ovsdb-server/list-remotes",
            usage: "",
            arity: (0, 0),
            run: |d, _| Ok(d.remotes().iter().map(|r| format!("{r}\n")).collect()).into(),
        },
    ];
}

impl<D: Databases> DatabaseCommands for D {}

fn compact<D: Databases>(d: &mut D, args: &[String]) -> Answer {
    // These commands are those of a server's socket.
    let Some(host) = d.host() else { return Err("no database here".to_owned()).into() };
    let mut host = host.borrow_mut();
    let names: Vec<String> = host.server().db_names().map(str::to_owned).collect();
    if let Some(name) = args.first().filter(|n| !names.contains(n)) {
        return Err(format!("{name}: unknown database")).into();
    }
    let chosen = |n: &&String| args.first().is_none_or(|a| a == *n) && !n.starts_with('_');
    let done = names.iter().filter(chosen).try_for_each(|n| host.compact(n));
    done.map(|()| String::new()).into()
}

fn list_dbs<D: Databases>(d: &mut D, _: &[String]) -> Answer {
    let Some(host) = d.host() else { return Ok(String::new()).into() };
    let db = host.borrow();
    Ok(db.server().db_names().map(|n| format!("{n}\n")).collect()).into()
}

impl Databases for Daemon {
    fn host(&self) -> Option<&Rc<RefCell<DbHost>>> {
        self.db.host()
    }

    fn remotes(&self) -> Vec<String> {
        let own = format!("punix:{}", self.rundir.join("db.sock").display());
        std::iter::once(own).chain(self.config.managers.keys().cloned()).collect()
    }
}
