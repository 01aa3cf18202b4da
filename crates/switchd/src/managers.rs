//! OVSDB clients besides those of `db.sock`: the connections of the Manager table.
//!
//! An active manager is connected to and then served like any client; it is tried again when it is
//! lost ([`crate::reconnect`]). A passive one is a listener. Clients that say nothing for the probe
//! interval are asked whether they live, and dropped if they do not answer. What became of it all
//! goes back to the table.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use base::Instant;
use ovsdb::types::Uuid;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::config::ManagerConfig;
use crate::dbhost::{self, DbHost};
use crate::log;
use crate::reconnect::{Due, Liveness, Pulse, Reconnect};
use crate::remote::{Keys, Listener, Remote, Stream, reason};
use crate::vlog::Module;

/// What a task that serves a client and the timers say to each other.
#[derive(Debug)]
pub(crate) struct Tap {
    live: RefCell<Liveness>,
    /// The client is to be asked whether it lives.
    ask: Cell<bool>,
    wake: Rc<Notify>,
    /// It did not answer, or its manager is not configured any more.
    over: Notify,
}

impl Tap {
    /// Something came.
    pub(crate) fn heard(&self, now: Instant) {
        self.live.borrow_mut().heard(now);
    }

    /// Whether to ask now, once.
    pub(crate) fn take_ask(&self) -> bool {
        self.ask.take()
    }

    /// What to wait for beside the client; then [`Tap::take_ask`].
    pub(crate) fn wake(&self) -> Rc<Notify> {
        Rc::clone(&self.wake)
    }

    /// Waits until the conversation is to end.
    pub(crate) async fn over(&self) {
        self.over.notified().await;
    }
}

#[derive(Debug)]
struct Manager {
    config: ManagerConfig,
    /// Tells it from one that had its target before.
    serial: u64,
    task: Option<AbortHandle>,
    /// The port it listens on, if any.
    port: Rc<Cell<Option<u16>>>,
    /// For an active one.
    reconnect: Option<Reconnect>,
    clients: BTreeMap<u64, Rc<Tap>>,
}

/// All of them.
#[derive(Debug)]
pub struct Managers {
    me: Weak<RefCell<Managers>>,
    host: Rc<RefCell<DbHost>>,
    keys: Keys,
    all: BTreeMap<String, Manager>,
    next_serial: u64,
    news: bool,
}

/// What the Manager table is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `is_connected`.
    pub is_connected: bool,
    /// `status`.
    pub pairs: Vec<(String, String)>,
}

impl Managers {
    /// None yet; clients will be served from `host`, those of TLS with `keys`.
    pub fn new(host: Rc<RefCell<DbHost>>, keys: Keys) -> Rc<RefCell<Managers>> {
        Rc::new_cyclic(|me| {
            RefCell::new(Managers {
                me: me.clone(),
                host,
                keys,
                all: BTreeMap::new(),
                next_serial: 0,
                news: false,
            })
        })
    }

    /// Makes the managers those of the table.
    pub fn configure(&mut self, wanted: &BTreeMap<String, ManagerConfig>, now: Instant) {
        let changed = |t: &str, m: &Manager| wanted.get(t).is_none_or(|w| w.uuid != m.config.uuid);
        let gone: Vec<String> =
            self.all.iter().filter(|(t, m)| changed(t, m)).map(|(t, _)| t.clone()).collect();
        for target in gone {
            if let Some(m) = self.all.remove(&target) {
                m.stop();
            }
        }
        for (target, config) in wanted {
            match self.all.get_mut(target) {
                Some(m) if m.config == *config => continue,
                Some(m) => {
                    m.config = config.clone();
                    if let Some(r) = &mut m.reconnect {
                        r.set_max_backoff(config.max_backoff, now);
                    }
                    for tap in m.clients.values() {
                        tap.live.borrow_mut().set_interval(config.probe);
                    }
                }
                None => self.add(target, config, now),
            }
            self.news = true;
        }
    }

    fn add(&mut self, target: &str, config: &ManagerConfig, now: Instant) {
        let Some(me) = self.me.upgrade() else { return };
        self.next_serial += 1;
        let serial = self.next_serial;
        let port = Rc::new(Cell::new(None));
        let (mut task, mut reconnect) = (None, None);
        if config.remote.is_passive() {
            let who = Who { target: target.to_owned(), serial };
            let listening = listen(me, who, config.remote.clone(), Rc::clone(&port));
            task = Some(tokio::task::spawn_local(listening).abort_handle());
        } else {
            let name = target.to_owned();
            reconnect = Some(Reconnect::new(name, Module::Reconnect, config.max_backoff, now));
        }
        let config = config.clone();
        let m = Manager { config, serial, task, port, reconnect, clients: BTreeMap::new() };
        self.all.insert(target.to_owned(), m);
    }

    /// Does what is due. Returns whether there is something new to tell the table.
    pub fn tick(&mut self, now: Instant) -> bool {
        let Some(me) = self.me.upgrade() else { return false };
        for (target, m) in &mut self.all {
            for tap in m.clients.values() {
                match tap.live.borrow_mut().poll(now) {
                    Pulse::Fine => continue,
                    Pulse::Ask(_) => tap.ask.set(true),
                    Pulse::Dead => {
                        log!(Err, Reconnect, "{target}: no response to inactivity probe");
                        tap.over.notify_one();
                    }
                }
                tap.wake.notify_one();
            }
            let Some(r) = &mut m.reconnect else { continue };
            match r.poll(now) {
                None => {}
                Some(Due::Connect) => {
                    let who = Who { target: target.clone(), serial: m.serial };
                    let attempt = dial(Rc::clone(&me), who, m.config.remote.clone());
                    m.task = Some(tokio::task::spawn_local(attempt).abort_handle());
                    self.news = true;
                }
                Some(Due::GiveUp) => {
                    if let Some(task) = m.task.take() {
                        task.abort();
                    }
                    r.disconnected(Some("Connection timed out"), now);
                    self.news = true;
                }
            }
        }
        std::mem::take(&mut self.news)
    }

    /// What the Manager table is told, by row.
    pub fn status(&self, now: Instant) -> impl Iterator<Item = (Uuid, Status)> {
        self.all.values().map(move |m| (m.config.uuid, m.status(now)))
    }

    fn get(&mut self, who: &Who) -> Option<&mut Manager> {
        self.all.get_mut(&who.target).filter(|m| m.serial == who.serial)
    }
}

impl Manager {
    fn stop(&self) {
        for tap in self.clients.values() {
            tap.over.notify_one();
        }
        // The task of an active one ends by itself with its client.
        let ends_itself = self.reconnect.is_some() && !self.clients.is_empty();
        if let Some(task) = self.task.as_ref().filter(|_| !ends_itself) {
            task.abort();
        }
    }

    fn status(&self, now: Instant) -> Status {
        let n = self.clients.len();
        let pairs = match &self.reconnect {
            Some(r) => r.status(self.clients.values().any(|t| t.live.borrow().is_idle()), now),
            None => {
                let port = self.port.get().map(|p| ("bound_port", p.to_string()));
                let n = (n > 1).then(|| ("n_connections", n.to_string()));
                let always = ["sec_since_connect", "sec_since_disconnect"];
                let always = always.map(|k| (k, "0".to_owned()));
                let all = port.into_iter().chain(n).chain(always);
                all.map(|(k, v)| (k.to_owned(), v)).collect()
            }
        };
        Status { is_connected: n > 0, pairs }
    }
}

/// Which manager a task is for.
#[derive(Clone, Debug)]
struct Who {
    target: String,
    serial: u64,
}

/// Serves one client of a manager to the end.
async fn serve(managers: &RefCell<Managers>, who: &Who, stream: Stream) -> Result<(), String> {
    let (host, tap, id) = {
        let mut all = managers.borrow_mut();
        let now = all.host.borrow().now();
        all.next_serial += 1;
        let id = all.next_serial;
        all.news = true;
        let host = Rc::clone(&all.host);
        let Some(m) = all.get(who) else { return Ok(()) };
        let tap = Rc::new(Tap {
            live: RefCell::new(Liveness::new(m.config.probe, now)),
            ask: Cell::new(false),
            wake: Rc::new(Notify::new()),
            over: Notify::new(),
        });
        m.clients.insert(id, Rc::clone(&tap));
        if let Some(r) = &mut m.reconnect {
            r.connected(now);
        }
        (host, tap, id)
    };
    let result = dbhost::session(stream, host, Some(tap)).await;
    let mut all = managers.borrow_mut();
    all.news = true;
    if let Some(m) = all.get(who) {
        m.clients.remove(&id);
    }
    result.map_err(|e| reason(&e))
}

async fn dial(managers: Rc<RefCell<Managers>>, who: Who, remote: Remote) {
    let keys = managers.borrow().keys.clone();
    let result = match Stream::connect(&remote, &keys).await {
        Ok(stream) => serve(&managers, &who, stream).await,
        Err(e) => Err(reason(&e)),
    };
    let mut all = managers.borrow_mut();
    let now = all.host.borrow().now();
    all.news = true;
    if let Some(m) = all.get(&who) {
        m.task = None;
        if let Some(r) = &mut m.reconnect {
            r.disconnected(result.err().as_deref(), now);
        }
    }
}

async fn listen(
    managers: Rc<RefCell<Managers>>,
    who: Who,
    remote: Remote,
    port: Rc<Cell<Option<u16>>>,
) {
    let mut said = String::new();
    let keys = managers.borrow().keys.clone();
    let listener = loop {
        match Listener::bind(&remote, &keys).await {
            Ok(listener) => break listener,
            Err(e) => {
                let text = reason(&e);
                if text != said {
                    log!(Err, OvsdbServer, "{}: listen failed: {text}", who.target);
                    said = text;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    port.set(listener.port());
    managers.borrow_mut().news = true;
    loop {
        match listener.accept().await {
            Ok(peer) => {
                let (managers, who) = (Rc::clone(&managers), who.clone());
                tokio::task::spawn_local(async move {
                    let ended = match peer.open().await {
                        Ok(stream) => serve(&managers, &who, stream).await,
                        Err(e) => Err(reason(&e)),
                    };
                    if let Err(e) = ended {
                        log!(Dbg, Jsonrpc, "{}: session ended: {e}", who.target);
                    }
                });
            }
            Err(e) => {
                log!(Warn, OvsdbServer, "{}: accept failed: {e}", who.target);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
