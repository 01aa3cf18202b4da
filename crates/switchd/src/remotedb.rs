//! A database in another process: `sekisho run --ovsdb unix:PATH|tcp:HOST:PORT|ssl:HOST:PORT`.
//!
//! [`RemoteDb`] is a replica that a task ([`follow`]) keeps up to date over a connection, with
//! back-off when it breaks; what was known stays in force meanwhile. Like the stock daemon it holds
//! the database's lock `ovs_vswitchd` and looks at nothing without it, so two switches cannot obey
//! one database. Transactions are sent and not waited for: they write back status, and the next
//! comparison says it again if one was lost.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ovsdb::data::Data;
use ovsdb::jsonrpc::{Framer, Limits, Message};
use ovsdb::replica::{METHODS, Replica};
use ovsdb::schema::DbSchema;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::dbhost::DATABASE;
use crate::log;
use crate::remote::{self, Keys, Remote, Stream};

/// Name of the lock that a switch holds on its database.
const LOCK: &str = "ovs_vswitchd";
/// Longest wait between two attempts to connect.
const MAX_BACKOFF: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Debug, Default)]
pub struct RemoteDb {
    replica: Option<Replica>,
    locked: bool,
    /// It was said that somebody else has the lock.
    told: bool,
    news: bool,
    outgoing: Vec<u8>,
    /// Notified when there is something to send.
    wake: Rc<Notify>,
    changed: Rc<Notify>,
    next_id: u64,
}

impl RemoteDb {
    /// The contents, as far as they are known and ours to obey.
    pub fn data(&self) -> Option<&Data> {
        self.replica.as_ref().filter(|_| self.locked).map(Replica::data)
    }

    /// What to wait on for changes.
    pub fn changed(&self) -> Rc<Notify> {
        Rc::clone(&self.changed)
    }

    /// Whether there were changes since the last call.
    pub fn take_changes(&mut self) -> bool {
        std::mem::take(&mut self.news) && self.locked
    }

    /// Sends a transaction.
    ///
    /// # Errors
    /// There is no connection; nothing is kept for later.
    pub fn transact(&mut self, ops: &[Value]) -> Result<(), String> {
        if !self.locked {
            return Err("not connected to the database".to_owned());
        }
        let mut params = vec![json!(DATABASE), json!({"op": "assert", "lock": LOCK})];
        params.extend_from_slice(ops);
        self.request("transact", params);
        Ok(())
    }

    fn request(&mut self, method: &str, params: Vec<Value>) -> u64 {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.send(Message::Request { id, method: method.to_owned(), params });
        self.next_id
    }

    fn send(&mut self, message: Message) {
        self.outgoing.extend(message.into_bytes());
        self.wake.notify_one();
    }

    fn note(&mut self) {
        self.news = true;
        self.changed.notify_one();
    }
}

/// Where a conversation with the server stands.
#[derive(Debug)]
enum Stage {
    Schema(u64),
    /// The number of the request and which of [`METHODS`] it is.
    Monitor(u64, usize),
    Following,
}

/// Keeps a replica of the database at `remote`. Runs for ever.
pub async fn follow(remote: Remote, name: String, keys: Keys, db: Rc<RefCell<RemoteDb>>) {
    let mut backoff = Duration::from_secs(1);
    loop {
        log!(Info, Reconnect, "{name}: connecting...");
        match Stream::connect(&remote, &keys).await {
            Ok(stream) => {
                log!(Info, Reconnect, "{name}: connected");
                backoff = Duration::from_secs(1);
                match converse(stream, &db).await {
                    Ok(()) => log!(Info, Reconnect, "{name}: connection closed by peer"),
                    Err(e) => {
                        let why = remote::reason(&e);
                        log!(Warn, Reconnect, "{name}: connection dropped ({why})");
                    }
                }
            }
            Err(e) => {
                let why = remote::reason(&e);
                log!(Info, Reconnect, "{name}: connection attempt failed ({why})");
            }
        }
        {
            let mut db = db.borrow_mut();
            db.locked = false;
            db.outgoing.clear();
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

async fn converse(stream: Stream, db: &RefCell<RemoteDb>) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let wake = Rc::clone(&db.borrow().wake);
    let mut framer = Framer::new(Limits::default());
    let mut stage = {
        let mut db = db.borrow_mut();
        db.request("lock", vec![json!(LOCK)]);
        Stage::Schema(db.request("get_schema", vec![json!(DATABASE)]))
    };
    let lock_id = match stage {
        Stage::Schema(id) => id - 1,
        _ => 0,
    };
    let mut buf = vec![0; 65_536];
    loop {
        let output = std::mem::take(&mut db.borrow_mut().outgoing);
        if !output.is_empty() {
            writer.write_all(&output).await?;
            continue;
        }
        tokio::select! {
            n = reader.read(&mut buf) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                framer.push(&buf[..n]);
                while let Some(value) = framer.next_value().map_err(io::Error::other)? {
                    let message = Message::from_json(value).map_err(io::Error::other)?;
                    receive(&mut db.borrow_mut(), &mut stage, lock_id, message)?;
                }
            }
            () = wake.notified() => {}
        }
    }
}

fn receive(db: &mut RemoteDb, stage: &mut Stage, lock_id: u64, message: Message) -> io::Result<()> {
    match message {
        Message::Request { id, method, params } if method == "echo" => {
            db.send(Message::echo_reply(id, params));
        }
        Message::Request { id, method, .. } => {
            db.send(Message::Error { id, error: json!(format!("unknown method {method}")) });
        }
        Message::Notification { method, params } => match method.as_str() {
            "locked" => {
                db.locked = true;
                db.note();
            }
            "stolen" => {
                log!(Warn, OvsdbIdl, "another switch took the lock on the database");
                db.locked = false;
            }
            _ => {
                let replica = db.replica.as_mut();
                let changes = replica.map(|r| r.update(&method, &params)).transpose();
                if changes.map_err(io::Error::other)?.flatten().is_some() {
                    db.note();
                }
            }
        },
        Message::Reply { id, result } => answer(db, stage, lock_id, &id, &result)?,
        Message::Error { id, error } => match *stage {
            // An older server: the next best way to follow.
            Stage::Monitor(request, method)
                if id == json!(request) && method + 1 < METHODS.len() =>
            {
                *stage = monitor(db, method + 1);
            }
            Stage::Following => log!(Warn, OvsdbIdl, "a transaction failed: {error}"),
            _ => return Err(io::Error::other(error.to_string())),
        },
    }
    Ok(())
}

fn answer(
    db: &mut RemoteDb,
    stage: &mut Stage,
    lock_id: u64,
    id: &Value,
    result: &Value,
) -> io::Result<()> {
    if *id == json!(lock_id) {
        db.locked = result["locked"] == json!(true);
        if !db.locked && !std::mem::replace(&mut db.told, true) {
            log!(
                Err,
                Bridge,
                "another ovs-vswitchd process is running, disabling this process (pid {}) until \
                 it goes away",
                std::process::id()
            );
        }
        return Ok(());
    }
    match *stage {
        Stage::Schema(request) if *id == json!(request) => {
            let schema = DbSchema::parse_json(result).map_err(io::Error::other)?;
            let known = db.replica.as_ref().map(|r| r.data().schema());
            if known.is_none_or(|s| s.version != schema.version) {
                db.replica = Some(Replica::new(Arc::new(schema)));
            }
            *stage = monitor(db, 0);
        }
        Stage::Monitor(request, method) if *id == json!(request) => {
            if let Some(replica) = &mut db.replica {
                replica.load(METHODS[method], result).map_err(io::Error::other)?;
            }
            *stage = Stage::Following;
            db.note();
        }
        _ => {
            let results = result.as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(error) = results.iter().find(|r| r.get("error").is_some()) {
                log!(Warn, OvsdbIdl, "a transaction failed: {error}");
            }
        }
    }
    Ok(())
}

fn monitor(db: &mut RemoteDb, method: usize) -> Stage {
    let params = db.replica.as_ref().map(|r| r.monitor_params(METHODS[method]));
    Stage::Monitor(db.request(METHODS[method], params.unwrap_or_default()), method)
}
