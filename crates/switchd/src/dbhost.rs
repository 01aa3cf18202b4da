//! The embedded OVSDB server's sockets, timers and file.
//!
//! [`ovsdb::server::Server`] knows neither; here its bytes meet unix sockets on the control thread.
//! After every call into the server, the sessions that have something to send are woken, and so is
//! whoever waits for changes ([`DbHost::changed`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use base::Instant;
use ovsdb::engine::Database;
use ovsdb::log::{Log, Opened};
use ovsdb::schema::DbSchema;
use ovsdb::server::{Now, Server, SessionId, WatchId};
use ovsdb::types::UuidGen;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Notify;

use crate::clock::{self, Clock};
use crate::log;
use crate::managers::Tap;
use crate::remote::Stream;

/// Name of the database that the switch is configured by.
pub const DATABASE: &str = "Open_vSwitch";

/// The server and who is to be woken.
#[derive(Debug)]
pub struct DbHost {
    server: Server,
    clock: Clock,
    sessions: HashMap<SessionId, Rc<Notify>>,
    /// Notified after a change of the database, whoever made it.
    changed: Rc<Notify>,
    /// Notified when the next timeout may be earlier than it was.
    timers: Rc<Notify>,
    /// Sees the changes of [`DATABASE`], if the daemon obeys it.
    watch: Option<WatchId>,
}

impl DbHost {
    /// Opens (or creates) the database file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged beyond its end, or belongs to another server.
    pub fn open(path: &Path, clock: Clock) -> Result<DbHost, String> {
        let uuids = UuidGen::from_system().map_err(|e| format!("no random numbers: {e}"))?;
        let schema = DbSchema::open_vswitch();
        let mut opened = Log::open_or_create(path, schema.clone()).map_err(|e| e.to_string())?;
        let wall_ms = u64::try_from(clock::unix_time().as_millis()).unwrap_or(u64::MAX);
        if let Some(old) = opened.convert(schema, wall_ms).map_err(|e| e.to_string())? {
            log!(Info, OvsdbServer, "converted the database; the old one is {}", old.display());
        }
        let mut host = DbHost::new(uuids, clock);
        host.add(opened)?;
        let watch = host.server.watch(DATABASE);
        let no_switch = || format!("{}: is not a database named {DATABASE}", path.display());
        host.watch = Some(watch.ok_or_else(no_switch)?);
        Ok(host)
    }

    /// Opens database files of any schema. All of them exist.
    ///
    /// # Errors
    /// As [`DbHost::open`].
    pub fn open_all(paths: &[PathBuf], clock: Clock) -> Result<DbHost, String> {
        let uuids = UuidGen::from_system().map_err(|e| format!("no random numbers: {e}"))?;
        let mut host = DbHost::new(uuids, clock);
        for path in paths {
            host.add(Log::open(path).map_err(|e| e.to_string())?)?;
        }
        Ok(host)
    }

    fn new(uuids: UuidGen, clock: Clock) -> DbHost {
        DbHost {
            server: Server::new(uuids),
            clock,
            sessions: HashMap::new(),
            changed: Rc::new(Notify::new()),
            timers: Rc::new(Notify::new()),
            watch: None,
        }
    }

    fn add(&mut self, opened: Opened) -> Result<(), String> {
        if let Some(text) = &opened.recovered {
            log!(Warn, OvsdbFile, "{text}");
        }
        let db = Database::from_data(opened.data);
        self.server.add_db(db, Some(opened.log)).map_err(|e| e.to_string())
    }

    /// What its clock says.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    fn both(&self) -> Now {
        let wall = clock::unix_time().as_millis();
        Now { monotonic: self.clock.now(), wall_ms: u64::try_from(wall).unwrap_or(u64::MAX) }
    }

    /// What to wait on for changes.
    pub fn changed(&self) -> Rc<Notify> {
        Rc::clone(&self.changed)
    }

    /// The database of the switch.
    pub fn db(&self) -> Option<&Database> {
        self.server.db(DATABASE)
    }

    /// The server, to ask it things.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Changes since the last call. The rows that were there at the start come first.
    pub fn take_changes(&mut self) -> Vec<ovsdb::data::RowChange> {
        self.watch.map(|w| self.server.take_changes(w)).unwrap_or_default()
    }

    /// Runs a transaction of the daemon's own.
    ///
    /// # Errors
    /// The first error among the results.
    pub fn transact(&mut self, ops: &[Value]) -> Result<Vec<Value>, String> {
        let now = self.both();
        let results = self.server.transact(DATABASE, ops, now);
        self.wake();
        match results.iter().find(|r| r.get("error").is_some()) {
            Some(error) => Err(error.to_string()),
            None => Ok(results),
        }
    }

    /// Rewrites a database's file as a snapshot.
    ///
    /// # Errors
    /// The disk refused.
    pub fn compact(&mut self, name: &str) -> Result<(), String> {
        let now = self.both();
        self.server.compact(name, now.wall_ms).map_err(|e| e.to_string())
    }

    /// Ends waits whose time is over (also after a warp of the clock).
    pub fn poll(&mut self) {
        let now = self.both();
        self.server.poll(now);
        self.wake();
    }

    fn input(&mut self, id: SessionId, bytes: &[u8]) {
        let now = self.both();
        self.server.input(id, now, bytes);
        self.wake();
    }

    fn wake(&mut self) {
        for id in self.server.take_ready() {
            if let Some(n) = self.sessions.get(&id) {
                n.notify_one();
            }
        }
        for text in self.server.take_trouble() {
            log!(Err, OvsdbFile, "{text}");
        }
        self.changed.notify_one();
        self.timers.notify_one();
    }
}

/// Serves OVSDB on a listener until it fails.
pub async fn serve(listener: UnixListener, host: Rc<RefCell<DbHost>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let host = Rc::clone(&host);
                tokio::task::spawn_local(async move {
                    if let Err(e) = session(Stream::Unix(stream), host, None).await {
                        log!(Dbg, Jsonrpc, "session ended: {e}");
                    }
                });
            }
            Err(e) => {
                log!(Warn, OvsdbServer, "accept failed: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one client to the end: `Ok` if it closed the connection. `tap` is a manager's.
///
/// # Errors
/// Why the connection ended otherwise.
pub(crate) async fn session(
    stream: Stream,
    host: Rc<RefCell<DbHost>>,
    tap: Option<Rc<Tap>>,
) -> io::Result<()> {
    let wake = tap.as_ref().map_or_else(|| Rc::new(Notify::new()), |t| t.wake());
    let id = {
        let mut host = host.borrow_mut();
        let id = host.server.open_session();
        host.sessions.insert(id, Rc::clone(&wake));
        id
    };
    let tap = tap.as_deref();
    let over = async {
        match tap {
            Some(tap) => tap.over().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        r = converse(stream, &host, id, &wake, tap) => r,
        () = over => Err(io::ErrorKind::TimedOut.into()),
    };
    let mut host = host.borrow_mut();
    host.sessions.remove(&id);
    host.server.close_session(id);
    host.wake();
    result
}

/// Asks a client whether it lives. The server takes no notice of the reply.
const ECHO: &[u8] = br#"{"id":"echo","method":"echo","params":[]}"#;

async fn converse(
    stream: Stream,
    host: &RefCell<DbHost>,
    id: SessionId,
    wake: &Notify,
    tap: Option<&Tap>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buf = vec![0; 65_536];
    loop {
        if tap.is_some_and(Tap::take_ask) {
            writer.write_all(ECHO).await?;
        }
        let output = host.borrow_mut().server.output(id);
        if !output.is_empty() {
            writer.write_all(&output).await?;
            continue;
        }
        if let Some(why) = host.borrow().server.is_closed(id) {
            return Err(io::Error::other(why.to_owned()));
        }
        tokio::select! {
            n = reader.read(&mut buf) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                let mut host = host.borrow_mut();
                if let Some(tap) = tap {
                    tap.heard(host.now());
                }
                host.input(id, &buf[..n]);
            }
            () = wake.notified() => {}
        }
    }
}

/// Ends `wait` operations when their time is over. Runs for ever.
pub async fn timers(host: Rc<RefCell<DbHost>>) {
    let (clock, wake) = {
        let host = host.borrow();
        (host.clock.clone(), Rc::clone(&host.timers))
    };
    loop {
        let due = host.borrow().server.next_timeout();
        match due {
            None => wake.notified().await,
            Some(at) => {
                let left = at.since(clock.now()).max(Duration::from_millis(1));
                tokio::select! {
                    () = tokio::time::sleep(left) => host.borrow_mut().poll(),
                    () = wake.notified() => {}
                }
            }
        }
    }
}
