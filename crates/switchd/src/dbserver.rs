//! The database server alone: `ovsdb-server`.
//!
//! Serves database files of any schema on fixed remotes and on those that a column of a database
//! names (`db:DATABASE,TABLE,COLUMN`), which it follows. The server and its sessions are
//! [`DbHost`]'s, the remotes [`Managers`]'; here is the process around them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ovsdb::data::Data;
use ovsdb::types::Uuid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::commands::{DatabaseCommands, Databases, Process, ProcessCommands};
use crate::config::{self, ManagerConfig};
use crate::control::{self, Answer, Command};
use crate::coverage::{Counter, Coverage};
use crate::daemon::StartError;
use crate::dbhost::{self, DbHost};
use crate::log;
use crate::managers::Managers;
use crate::pidfile::PidFile;
use crate::remote::{Keys, OVSDB_PORT, Remote};
use crate::status;
use crate::vlog;

/// Name of the program.
const PROGRAM: &str = "ovsdb-server";
/// How often remotes are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How a database server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where sockets are.
    pub rundir: PathBuf,
    /// Database files, all of which exist.
    pub databases: Vec<PathBuf>,
    /// Remotes, as `--remote` takes them.
    pub remotes: Vec<String>,
    /// Pid file.
    pub pidfile: Option<PathBuf>,
    /// Start even if a running process holds the pid file.
    pub overwrite_pidfile: bool,
    /// Control socket in place of `RUNDIR/ovsdb-server.PID.ctl`.
    pub unixctl: Option<PathBuf>,
    /// Log file.
    pub log_file: Option<PathBuf>,
    /// Log levels, as `vlog/set` takes them.
    pub verbose: Vec<String>,
    /// Keys for TLS.
    pub tls: Option<tls::Files>,
}

/// What the one thread owns.
#[derive(Debug)]
struct DbServer {
    host: Rc<RefCell<DbHost>>,
    managers: Rc<RefCell<Managers>>,
    /// As they were given, `db:…` too.
    remotes: BTreeSet<String>,
    /// What could not be done about remotes, to say it once.
    complaints: Vec<String>,
    clock: Clock,
    coverage: Coverage,
    quit: Rc<Notify>,
}

/// Commands that only this daemon has.
const COMMANDS: &[Command<DbServer>] = &[
    Command {
        name: "ovsdb-server/add-remote",
        usage: "REMOTE",
        arity: (1, 1),
        run: |d, a| d.add_remote(&a[0]).into(),
    },
    Command {
        name: "ovsdb-server/remove-remote",
        usage: "REMOTE",
        arity: (1, 1),
        run: |d, a| d.remove_remote(&a[0]).into(),
    },
    Command {
        name: "ovsdb-server/reconnect",
        usage: "",
        arity: (0, 0),
        run: |d, _| {
            d.reconnect();
            Ok(String::new()).into()
        },
    },
    Command {
        name: "ovsdb-server/sync-status",
        usage: "",
        arity: (0, 0),
        run: |_, _| Answer::Now(Ok("state: active\n".to_owned())),
    },
];

/// Runs a database server until it is told to end. Calls `ready` once it listens.
///
/// # Errors
/// It could not start.
pub fn run(options: &Options, ready: Box<dyn FnOnce()>) -> Result<(), StartError> {
    vlog::set_program(PROGRAM);
    for spec in &options.verbose {
        vlog::set(spec).map_err(StartError::Verbose)?;
    }
    if let Some(path) = &options.log_file {
        vlog::open_file(path).map_err(|e| cannot(path, e))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::Io("cannot start the control thread".into(), e))?;
    LocalSet::new().block_on(&runtime, start(options, ready))
}

fn cannot(path: &Path, e: io::Error) -> StartError {
    StartError::Io(path.display().to_string(), e)
}

async fn start(options: &Options, ready: Box<dyn FnOnce()>) -> Result<(), StartError> {
    let take_pid = |path: &PathBuf| PidFile::create(path, options.overwrite_pidfile);
    let _pid = options.pidfile.as_ref().map(take_pid).transpose()?;
    let clock = Clock::default();
    let host = DbHost::open_all(&options.databases, clock.clone()).map_err(StartError::Database)?;
    let host = Rc::new(RefCell::new(host));
    let quit = Rc::new(Notify::new());
    let keys = Keys::default();
    keys.set(options.tls.clone());
    let mut server = DbServer {
        managers: Managers::new(Rc::clone(&host), keys),
        host: Rc::clone(&host),
        remotes: BTreeSet::new(),
        complaints: Vec::new(),
        clock,
        coverage: Coverage::default(),
        quit: Rc::clone(&quit),
    };
    for remote in &options.remotes {
        server.add_remote(remote).map_err(StartError::Database)?;
    }
    let server = Rc::new(RefCell::new(server));
    tokio::task::spawn_local(dbhost::timers(Rc::clone(&host)));
    let path = options
        .unixctl
        .clone()
        .unwrap_or_else(|| options.rundir.join(format!("{PROGRAM}.{}.ctl", std::process::id())));
    let listener =
        control::listen(&path).map_err(|e| StartError::Control(path.display().to_string(), e))?;
    const TABLES: &[&[Command<DbServer>]] = &[DbServer::PROCESS, DbServer::DATABASE, COMMANDS];
    tokio::task::spawn_local(control::serve(listener, Rc::clone(&server), TABLES));

    let end = |kind| signal(kind).map_err(|e| StartError::Io("cannot handle signals".into(), e));
    let (mut term, mut int) = (end(SignalKind::terminate())?, end(SignalKind::interrupt())?);
    // Listeners are tasks: let them begin before anybody is told that there are some.
    tokio::task::yield_now().await;
    ready();
    log!(Info, OvsdbServer, "{PROGRAM} (Open vSwitch) {}", crate::OVS_VERSION);
    let changed = host.borrow().changed();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = changed.notified() => server.borrow_mut().follow(),
            _ = ticks.tick() => server.borrow_mut().tick(),
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = quit.notified() => break,
        }
    }
    // Replies that are on their way get out before the sockets go.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _ = std::fs::remove_file(&path);
    server.borrow_mut().shut_down();
    Ok(())
}

/// A `db:DATABASE,TABLE,COLUMN` remote.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Column<'a> {
    db: &'a str,
    table: &'a str,
    column: &'a str,
}

impl<'a> Column<'a> {
    /// Reads one; `None` for a remote that is none.
    ///
    /// # Errors
    /// It begins as one and has not three parts.
    fn parse(remote: &'a str) -> Result<Option<Column<'a>>, String> {
        let Some(rest) = remote.strip_prefix("db:") else { return Ok(None) };
        let parts: Vec<&str> = rest.split(',').collect();
        let [db, table, column] = parts[..] else {
            return Err(format!("\"{remote}\": invalid syntax"));
        };
        Ok(Some(Column { db, table, column }))
    }

    /// The remotes that it names now: of rows it refers to, or the strings in it themselves.
    ///
    /// # Errors
    /// There is no such column.
    fn read(
        &self,
        data: &Data,
        complaints: &mut Vec<String>,
    ) -> Result<BTreeMap<String, ManagerConfig>, String> {
        let Column { db, table, column } = self;
        let named = format!("\"db:{db},{table},{column}\"");
        let rows = data.table(table).ok_or_else(|| format!("{named}: no table named {table}"))?;
        let kind = rows.schema().columns.iter().find(|c| c.name == *column);
        let kind = kind.ok_or_else(|| format!("{named}: no column named {column}"))?;
        let target = kind.ty.key.reference().and_then(|(t, _)| data.table(t));
        let mut found = BTreeMap::new();
        for row in rows.iter() {
            for referred in row.uuids(column).filter_map(|u| target?.row(u)) {
                found.extend(config::read_manager(referred, complaints));
            }
            for text in row.strs(column) {
                match fixed(text) {
                    Ok(manager) => drop(found.insert(text.to_owned(), manager)),
                    Err(e) => complaints.push(e),
                }
            }
        }
        Ok(found)
    }
}

/// A remote that no row of a table describes.
fn fixed(target: &str) -> Result<ManagerConfig, String> {
    let remote = Remote::parse(target, OVSDB_PORT).map_err(|e| e.to_string())?;
    Ok(ManagerConfig {
        uuid: Uuid::ZERO,
        remote,
        max_backoff: config::MAX_BACKOFF,
        probe: config::PROBE,
        in_band: false,
    })
}

impl DbServer {
    /// All remotes there are to be now.
    fn wanted(&self, complaints: &mut Vec<String>) -> BTreeMap<String, ManagerConfig> {
        let host = self.host.borrow();
        let mut all = BTreeMap::new();
        for remote in &self.remotes {
            let found = Column::parse(remote).and_then(|column| match column {
                None => Ok(BTreeMap::from([(remote.clone(), fixed(remote)?)])),
                Some(column) => {
                    let db = host.server().db(column.db);
                    let db = db.ok_or_else(|| format!("{remote}: no database named {}", column.db));
                    column.read(db?.data(), complaints)
                }
            });
            match found {
                Ok(found) => all.extend(found),
                Err(e) => complaints.push(e),
            }
        }
        all
    }

    /// Follows what the columns say.
    fn follow(&mut self) {
        let mut complaints = Vec::new();
        let wanted = self.wanted(&mut complaints);
        for text in complaints.iter().filter(|c| !self.complaints.contains(c)) {
            log!(Warn, OvsdbServer, "{text}");
        }
        self.complaints = complaints;
        self.managers.borrow_mut().configure(&wanted, self.clock.now());
    }

    fn add_remote(&mut self, remote: &str) -> Result<String, String> {
        match Column::parse(remote)? {
            None => drop(fixed(remote)?),
            Some(column) => {
                let host = self.host.borrow();
                let db = host.server().db(column.db);
                let db = db.ok_or_else(|| format!("{remote}: no database named {}", column.db))?;
                column.read(db.data(), &mut Vec::new())?;
            }
        }
        self.remotes.insert(remote.to_owned());
        self.follow();
        Ok(String::new())
    }

    fn remove_remote(&mut self, remote: &str) -> Result<String, String> {
        if !self.remotes.remove(remote) {
            return Err("no such remote".to_owned());
        }
        self.follow();
        Ok(String::new())
    }

    /// Ends all connections and begins anew.
    fn reconnect(&mut self) {
        self.managers.borrow_mut().configure(&BTreeMap::new(), self.clock.now());
        self.follow();
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let news = self.managers.borrow_mut().tick(now);
        if news {
            self.write_status();
        }
        if self.coverage.is_due(now) {
            let counters = self.counters();
            self.coverage.sample(now, &counters);
        }
    }

    /// Tells the Manager table of a switch's database how its managers are.
    fn write_status(&self) {
        let now = self.clock.now();
        let ops = {
            let host = self.host.borrow();
            let Some(db) = host.db() else { return };
            status::managers(db.data(), self.managers.borrow().status(now))
        };
        if !ops.is_empty()
            && let Err(e) = self.host.borrow_mut().transact(&ops)
        {
            log!(Warn, OvsdbServer, "cannot write the status of remotes: {e}");
        }
    }

    /// Lets go of sockets.
    fn shut_down(&mut self) {
        self.managers.borrow_mut().configure(&BTreeMap::new(), self.clock.now());
    }
}

impl Process for DbServer {
    const PROGRAM: &'static str = PROGRAM;

    fn quit(&self) -> &Notify {
        &self.quit
    }

    fn counters(&self) -> Vec<Counter> {
        let host = self.host.borrow();
        vec![("ovsdb_sessions".to_owned(), host.server().n_sessions() as u64)]
    }

    fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    fn memory(&self) -> String {
        let host = self.host.borrow();
        let server = host.server();
        let cells = |name: &str| -> usize {
            let tables = server.db(name).into_iter().flat_map(|db| db.data().tables());
            tables.map(|t| t.len() * t.schema().columns.len()).sum()
        };
        let cells: usize = server.db_names().map(cells).sum();
        format!("cells:{cells} sessions:{}\n", server.n_sessions())
    }
}

impl Databases for DbServer {
    fn host(&self) -> Option<&Rc<RefCell<DbHost>>> {
        Some(&self.host)
    }

    fn remotes(&self) -> Vec<String> {
        self.remotes.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_as_remotes() {
        let parsed = Column::parse("db:Open_vSwitch,Open_vSwitch,manager_options").unwrap();
        let column = parsed.unwrap();
        assert_eq!((column.db, column.column), ("Open_vSwitch", "manager_options"));
        assert_eq!(Column::parse("punix:db.sock"), Ok(None));
        assert!(Column::parse("db:Open_vSwitch,Open_vSwitch").is_err());
    }
}
