//! An OVSDB server without sockets: bytes in, bytes out, for many sessions over some databases.
//!
//! The owner reads sockets and calls [`Server::input`]; after every call that may change something
//! he takes what [`Server::output`] has for the sessions in [`Server::take_ready`], and closes those
//! that [`Server::is_closed`]. Time is an argument: [`Server::poll`] at [`Server::next_timeout`]
//! ends `wait` operations whose time is over.
//!
//! The same process uses the databases without JSON-RPC: it reads [`Server::db`], writes with
//! [`Server::transact`], and learns of changes by [`Server::watch`].
//!
//! A commit goes in this order: constraints, log (a failing disk fails the transaction), memory,
//! notifications to all monitors, replies; then transactions that wait are tried again.
//!
//! Nothing a client sends ends the server or another session. A stream that is no JSON-RPC closes
//! its session, and so does a client that lets more than [`MAX_OUTPUT`] bytes pile up.

mod locks;
mod methods;
mod monitor;

use std::collections::{BTreeMap, BTreeSet};

use base::{Duration, Instant};
use serde_json::{Value, json};

use self::locks::Locks;
use self::monitor::Monitor;
use crate::data::RowChange;
use crate::engine::{Context, Database, Outcome};
use crate::error::Error;
use crate::jsonrpc::{Framer, Limits, Message};
use crate::log::Log;
use crate::schema::DbSchema;
use crate::types::{Uuid, UuidGen};

/// Bytes that may wait for a client that does not read.
pub const MAX_OUTPUT: usize = 256 << 20;

/// A connection, as its owner and the server call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A subscription made by [`Server::watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// The two clocks the server needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for timeouts.
    pub monotonic: Instant,
    /// Milliseconds since 1970, for the dates in the log.
    pub wall_ms: u64,
}

#[derive(Debug)]
struct Session {
    framer: Framer,
    output: Vec<u8>,
    /// By the text of the monitor's id.
    monitors: BTreeMap<String, Monitor>,
    closed: Option<String>,
}

impl Session {
    fn send(&mut self, message: Message) {
        if self.closed.is_some() {
            return;
        }
        self.output.extend(message.into_bytes());
        if self.output.len() > MAX_OUTPUT {
            self.output = Vec::new();
            self.close("too much output is waiting for the client");
        }
    }

    fn close(&mut self, why: impl Into<String>) {
        self.closed.get_or_insert(why.into());
        self.monitors.clear();
    }
}

/// A transaction that waits.
#[derive(Debug)]
struct Trigger {
    session: SessionId,
    id: Value,
    ops: Vec<Value>,
    started: Instant,
    timeout_ms: Option<u64>,
}

impl Trigger {
    fn deadline(&self) -> Option<Instant> {
        self.timeout_ms.map(|ms| self.started + Duration::from_millis(ms))
    }
}

#[derive(Debug)]
struct Hosted {
    db: Database,
    log: Option<Log>,
    triggers: Vec<Trigger>,
    watches: BTreeMap<WatchId, Vec<RowChange>>,
}

/// Databases and the sessions that use them.
#[derive(Debug)]
pub struct Server {
    dbs: BTreeMap<String, Hosted>,
    sessions: BTreeMap<SessionId, Session>,
    ready: BTreeSet<SessionId>,
    locks: Locks,
    uuids: UuidGen,
    id: Uuid,
    next_session: u64,
    next_watch: u64,
    limits: Limits,
    trouble: Vec<String>,
}

impl Server {
    /// A server with no database but `_Server`.
    pub fn new(mut uuids: UuidGen) -> Server {
        let id = uuids.generate();
        let mut server = Server {
            dbs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ready: BTreeSet::new(),
            locks: Locks::default(),
            uuids,
            id,
            next_session: 0,
            next_watch: 0,
            limits: Limits::default(),
            trouble: Vec::new(),
        };
        server.host(Database::new(DbSchema::server()), None);
        server
    }

    /// Bounds what sessions opened from now on may send.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Serves `db`, which `log` keeps on disk (a database without a log is forgotten at exit).
    ///
    /// # Errors
    /// If a database of that name is served already.
    pub fn add_db(&mut self, db: Database, log: Option<Log>) -> Result<(), Error> {
        let name = &db.schema().name;
        if self.dbs.contains_key(name) {
            return Err(Error::text(format!("{name}: database is served already")));
        }
        self.host(db, log);
        Ok(())
    }

    fn host(&mut self, db: Database, log: Option<Log>) {
        let schema = db.schema();
        let name = schema.name.clone();
        let row = json!({
            "name": name, "model": "standalone", "connected": true, "leader": true,
            "schema": schema.to_json().to_string(),
        });
        let hosted = Hosted { db, log, triggers: Vec::new(), watches: BTreeMap::new() };
        self.dbs.insert(name, hosted);
        let now = Now { monotonic: Instant::ZERO, wall_ms: 0 };
        self.transact("_Server", &[json!({"op": "insert", "table": "Database", "row": row})], now);
    }

    /// The database of that name.
    pub fn db(&self, name: &str) -> Option<&Database> {
        self.dbs.get(name).map(|hosted| &hosted.db)
    }

    /// Names of all databases.
    pub fn db_names(&self) -> impl Iterator<Item = &str> {
        self.dbs.keys().map(String::as_str)
    }

    /// What the log of a database is like, for `ovsdb-server/compact` and statistics.
    pub fn log(&self, name: &str) -> Option<&Log> {
        self.dbs.get(name)?.log.as_ref()
    }

    /// Rewrites the log of database `name` as a snapshot.
    ///
    /// # Errors
    /// If there is no such database or the disk fails; the old log stays.
    pub fn compact(&mut self, name: &str, wall_ms: u64) -> Result<(), Error> {
        let hosted = self
            .dbs
            .get_mut(name)
            .ok_or_else(|| Error::text(format!("{name}: no such database")))?;
        match &mut hosted.log {
            Some(log) => log.compact(hosted.db.data(), wall_ms),
            None => Ok(()),
        }
    }

    /// Messages for the daemon's log about trouble that no client was told of.
    pub fn take_trouble(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trouble)
    }

    /// A new connection.
    pub fn open_session(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let session = Session {
            framer: Framer::new(self.limits),
            output: Vec::new(),
            monitors: BTreeMap::new(),
            closed: None,
        };
        self.sessions.insert(id, session);
        id
    }

    /// The connection is gone: its monitors, waiting transactions and locks are, too.
    pub fn close_session(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.ready.remove(&id);
        for hosted in self.dbs.values_mut() {
            hosted.triggers.retain(|trigger| trigger.session != id);
        }
        for (name, next) in self.locks.leave(id) {
            self.notify(next, "locked", vec![json!(name)]);
        }
    }

    /// Number of connections.
    pub fn n_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Why the server wants this connection closed, once its output is sent.
    pub fn is_closed(&self, id: SessionId) -> Option<&str> {
        self.sessions.get(&id)?.closed.as_deref()
    }

    /// Sessions that got output or were closed since the last call.
    pub fn take_ready(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.ready).into_iter().collect()
    }

    /// Takes the bytes to send on a connection.
    pub fn output(&mut self, id: SessionId) -> Vec<u8> {
        self.sessions.get_mut(&id).map(|s| std::mem::take(&mut s.output)).unwrap_or_default()
    }

    /// Bytes arrived on a connection, in any pieces.
    pub fn input(&mut self, id: SessionId, now: Now, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.framer.push(bytes);
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            if session.closed.is_some() {
                return;
            }
            let message = match session.framer.next_value() {
                Ok(None) => return,
                Ok(Some(value)) => Message::from_json(value),
                Err(e) => Err(e),
            };
            match message {
                Ok(message) => self.message(id, now, message),
                Err(e) => {
                    session.close(e.to_string());
                    self.ready.insert(id);
                }
            }
        }
    }

    /// Tries waiting transactions whose time is over.
    pub fn poll(&mut self, now: Now) {
        let names: Vec<String> = self.dbs.keys().cloned().collect();
        for name in names {
            let Some(hosted) = self.dbs.get_mut(&name) else { continue };
            let due = |t: &mut Trigger| t.deadline().is_some_and(|at| at <= now.monotonic);
            let due: Vec<Trigger> = hosted.triggers.extract_if(.., due).collect();
            for trigger in due {
                self.attempt(&name, trigger, now);
            }
            self.retry(&name, now);
        }
    }

    /// When [`Server::poll`] has something to do next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.dbs.values().flat_map(|h| &h.triggers).filter_map(Trigger::deadline).min()
    }

    /// Runs a transaction of this process itself; a `wait` that does not hold fails at once.
    ///
    /// The result is that of `transact`: an element for each operation, and an `<error>` more if
    /// the commit failed.
    pub fn transact(&mut self, db: &str, ops: &[Value], now: Now) -> Vec<Value> {
        let results = match self.run(db, ops, None, u64::MAX, now) {
            None => {
                vec![Error::new("unknown database", format!("no database named {db}")).to_json()]
            }
            Some(Ok(results)) => results,
            Some(Err(_)) => {
                vec![Error::new("timed out", "\"where\" clause test failed").to_json()]
            }
        };
        self.retry(db, now);
        results
    }

    /// Collects the changes of database `db` from now on for [`Server::take_changes`]; the rows
    /// there are come first, as inserts. `None` if there is no such database.
    pub fn watch(&mut self, db: &str) -> Option<WatchId> {
        let hosted = self.dbs.get_mut(db)?;
        let id = WatchId(self.next_watch);
        self.next_watch += 1;
        hosted.watches.insert(id, hosted.db.data().as_inserts());
        Some(id)
    }

    /// Takes the changes a watch collected, oldest first. A row may occur more than once.
    pub fn take_changes(&mut self, id: WatchId) -> Vec<RowChange> {
        let mut watches = self.dbs.values_mut().filter_map(|h| h.watches.get_mut(&id));
        watches.next().map(std::mem::take).unwrap_or_default()
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: WatchId) {
        for hosted in self.dbs.values_mut() {
            hosted.watches.remove(&id);
        }
    }

    fn send(&mut self, id: SessionId, message: Message) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(message);
            self.ready.insert(id);
        }
    }

    fn notify(&mut self, id: SessionId, method: &str, params: Vec<Value>) {
        self.send(id, Message::Notification { method: method.to_owned(), params });
    }

    /// Executes, stores, applies and announces. `None`: no such database; `Err`: must wait.
    fn run(
        &mut self,
        name: &str,
        ops: &[Value],
        session: Option<SessionId>,
        waited_ms: u64,
        now: Now,
    ) -> Option<Result<Vec<Value>, Option<u64>>> {
        let hosted = self.dbs.get_mut(name)?;
        let locks = &self.locks;
        let mut context = Context {
            uuids: &mut self.uuids,
            owns_lock: &|lock| session.is_none_or(|id| locks.owns(lock, id)),
            waited_ms,
            // Clients only read what the server says about itself.
            reserved: name == "_Server" && session.is_some(),
        };
        let (mut results, commit) = match hosted.db.execute(ops, &mut context) {
            Outcome::Wait(timeout) => return Some(Err(timeout)),
            Outcome::Done { results, commit } => (results, commit),
        };
        let Some(commit) = commit else { return Some(Ok(results)) };
        if let Some(log) = &mut hosted.log
            && let Err(error) = log.append(hosted.db.schema(), &commit, now.wall_ms)
        {
            self.trouble.push(error.to_string());
            results.push(error.to_json());
            return Some(Ok(results));
        }
        if commit.changes.is_empty() {
            return Some(Ok(results));
        }
        hosted.db.apply(&commit);
        if let Some(log) = &mut hosted.log
            && log.wants_compaction()
            && let Err(error) = log.compact(hosted.db.data(), now.wall_ms)
        {
            self.trouble.push(error.to_string());
        }
        for changes in hosted.watches.values_mut() {
            changes.extend_from_slice(&commit.changes);
        }
        let schema = hosted.db.schema();
        for (&id, session) in &mut self.sessions {
            let mut messages = Vec::new();
            for monitor in session.monitors.values().filter(|m| m.db == name) {
                if let Some(update) = monitor.update(schema, &commit.changes) {
                    messages.push(methods::update_message(monitor, update));
                }
            }
            if !messages.is_empty() {
                messages.into_iter().for_each(|message| session.send(message));
                self.ready.insert(id);
            }
        }
        Some(Ok(results))
    }

    /// Tries a transaction; it is answered, or put (back) with those that wait.
    fn attempt(&mut self, db: &str, mut trigger: Trigger, now: Now) -> bool {
        let waited = now.monotonic.since(trigger.started);
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        match self.run(db, &trigger.ops, Some(trigger.session), waited_ms, now) {
            None => false,
            Some(Ok(results)) => {
                self.send(
                    trigger.session,
                    Message::Reply { id: trigger.id, result: Value::from(results) },
                );
                true
            }
            Some(Err(timeout_ms)) => {
                trigger.timeout_ms = timeout_ms;
                if let Some(hosted) = self.dbs.get_mut(db) {
                    hosted.triggers.push(trigger);
                }
                false
            }
        }
    }

    /// Tries all waiting transactions until none of them gets on.
    fn retry(&mut self, db: &str, now: Now) {
        loop {
            let Some(hosted) = self.dbs.get_mut(db) else { return };
            if hosted.triggers.is_empty() {
                return;
            }
            let mut progress = false;
            for trigger in std::mem::take(&mut hosted.triggers) {
                progress |= self.attempt(db, trigger, now);
            }
            if !progress {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
