//! OpenFlow connections: the sockets of bridges, and the sessions on them.
//!
//! A bridge listens on `BRIDGE.mgmt` for tools, and on `BRIDGE.snoop` for who wants to hear what is
//! said between it and its controllers (`snoop`); to or for its controllers it connects or listens
//! as the Controller table says (`controller`). [`ofproto::Session`] speaks the protocol; here its
//! bytes meet sockets. Input of a session is handled under the tables' write lock, one chunk of a
//! socket read at a time, so that a flood of flow mods is a few short locks and traffic goes on
//! between them.

mod controller;
mod env;
mod report;
mod snoop;
mod spoken;
mod told;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use base::Instant;
use ofproto::{BridgeId, Event, Session, SessionKind};
use openflow::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::config::DEFAULT_QUEUE;
use crate::daemon::Daemon;
use crate::log;
use crate::reconnect::{Liveness, Pulse};
use crate::remote::{Listener, Stream};

pub use controller::Status;

use controller::Controller;
use env::Env;
use report::FlowModReport;
use snoop::{Cutter, Snooper};
use spoken::Spoken;
use told::Told;

/// Silence after which a client of `BRIDGE.mgmt` is asked whether it lives.
const CLIENT_PROBE: Duration = Duration::from_secs(60);
/// Bytes that may wait for a peer that does not read; beyond it the connection is closed.
const MAX_OUTPUT: usize = 64 << 20;
/// Bytes that may wait for a peer before it gets no more packets: packet-ins are the one kind of
/// message that strangers can cause and that may be lost.
const MAX_PACKET_INS: usize = 1 << 20;
/// Bytes read at once.
const CHUNK: usize = 65_536;
/// Bytes handled under one lock: some ten flow mods, a fraction of a millisecond.
const SLICE: usize = 1024;

/// An open connection.
#[derive(Debug)]
struct Connection {
    session: Session,
    /// What the socket is called in the log.
    peer: String,
    /// Its controller's target; `None` on the management socket.
    target: Option<String>,
    /// What it says is copied to snoopers.
    cutter: Option<Cutter>,
    spoken: Spoken,
    flow_mods: FlowModReport,
    live: Liveness,
    /// A write to the socket has not come to its end.
    writing: bool,
    /// Packet-ins that came since the last write began, and how many may.
    n_waiting: usize,
    max_waiting: usize,
    /// There is something to send.
    wake: Rc<Notify>,
    /// Ends it, with the reason.
    end: Option<oneshot::Sender<String>>,
}

impl Connection {
    fn end(&mut self, why: &str) {
        if let Some(end) = self.end.take() {
            // Nobody listens if it is ending already.
            let _ = end.send(why.to_owned());
        }
    }

    /// Whether the peer is to get no more packets until it has read some.
    fn is_backlogged(&self) -> bool {
        let n = self.session.output_len();
        n > MAX_PACKET_INS || self.writing && self.n_waiting >= self.max_waiting
    }

    fn wake_if_output(&self) {
        if self.session.output_len() > 0 {
            self.wake.notify_one();
        }
    }
}

#[derive(Debug)]
struct BridgeConnections {
    id: BridgeId,
    /// `fail_mode` is standalone.
    standalone: bool,
    /// Of the management and snoop sockets.
    listeners: Vec<AbortHandle>,
    connections: BTreeMap<u64, Connection>,
    controllers: BTreeMap<String, Controller>,
    snoopers: BTreeMap<u64, Snooper>,
    tasks: Vec<AbortHandle>,
    /// What was told of each controller.
    told: BTreeMap<String, Told>,
}

/// All OpenFlow connections, by bridge.
#[derive(Debug)]
pub struct Connections {
    daemon: Weak<RefCell<Daemon>>,
    bridges: BTreeMap<String, BridgeConnections>,
    /// Tells controllers and snoopers from those that had their place before.
    next_serial: u64,
    /// What the Controller table is told changed.
    news: bool,
    /// How long a bundle may lie untouched (`other_config:bundle-idle-timeout`).
    bundle_timeout: base::Duration,
    /// Packets that no controller wanted.
    n_unsent: u64,
    /// Packets that were not sent because a controller does not read.
    n_overflows: u64,
}

impl Connections {
    /// None yet.
    pub fn new(daemon: Weak<RefCell<Daemon>>) -> Connections {
        Connections {
            daemon,
            bridges: BTreeMap::new(),
            next_serial: 0,
            news: false,
            bundle_timeout: ofproto::BUNDLE_IDLE_TIMEOUT,
            n_unsent: 0,
            n_overflows: 0,
        }
    }

    fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    /// Tells a bridge's sessions what happened.
    pub fn notify(&mut self, now: Instant, id: BridgeId, event: &Event) {
        let role = matches!(event, Event::Master { .. });
        let droppable = matches!(event, Event::PacketIn(_));
        let mut heard = false;
        for bridge in self.bridges.values_mut().filter(|b| b.id == id) {
            for c in bridge.connections.values_mut() {
                if droppable && c.is_backlogged() {
                    self.n_overflows += 1;
                    continue;
                }
                heard |= c.session.notify(now, event);
                c.n_waiting += usize::from(droppable);
                c.wake_if_output();
            }
        }
        self.n_unsent += u64::from(droppable && !heard);
        self.news |= role;
    }

    /// What counts packets that controllers did not get.
    pub(crate) fn counters(&self) -> [(&'static str, u64); 2] {
        [("connmgr_async_unsent", self.n_unsent), ("rconn_overflow", self.n_overflows)]
    }

    /// Looks after timers of connections.
    fn check_liveness(&mut self, now: Instant) {
        for bridge in self.bridges.values_mut() {
            bridge.tasks.retain(|t| !t.is_finished());
            for c in bridge.connections.values_mut() {
                if c.flow_mods.is_due(now) {
                    c.flow_mods.log(&c.peer, now);
                }
                match c.live.poll(now) {
                    Pulse::Fine => {}
                    Pulse::Ask(idle) => {
                        let (peer, secs) = (&c.peer, idle.as_secs());
                        log!(Dbg, Rconn, "{peer}: idle {secs} seconds, sending inactivity probe");
                        c.session.send_echo();
                        c.wake_if_output();
                    }
                    Pulse::Dead => c.end("no response to inactivity probe"),
                }
            }
        }
    }

    /// Sets how long a bundle may lie untouched, in seconds; 0 and nonsense are the default.
    pub fn set_bundle_timeout(&mut self, seconds: Option<&String>) {
        let seconds = seconds.and_then(|s| s.parse().ok()).filter(|s| *s > 0);
        self.bundle_timeout =
            seconds.map_or(ofproto::BUNDLE_IDLE_TIMEOUT, base::Duration::from_secs);
    }

    /// Drops bundles that were left lying.
    fn expire_bundles(&mut self, now: Instant) {
        for c in self.bridges.values_mut().flat_map(|b| b.connections.values_mut()) {
            c.session.expire_bundles(now, self.bundle_timeout);
            c.wake_if_output();
        }
    }

    /// Opens the sockets of a new bridge.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub fn open_bridge(
        &mut self,
        rundir: &std::path::Path,
        name: &str,
        id: BridgeId,
    ) -> io::Result<()> {
        let Some(daemon) = self.daemon.upgrade() else { return Ok(()) };
        let path = rundir.join(format!("{name}.mgmt"));
        let listener = Listener::unix(&path)?;
        let snoop = Listener::unix(&rundir.join(format!("{name}.snoop")))?;
        log!(Info, Connmgr, "{name}: added service controller \"punix:{}\"", path.display());
        let who = Who { name: name.to_owned(), target: None, primary: false };
        let tasks = [
            tokio::task::spawn_local(accept(listener, Rc::clone(&daemon), who)),
            tokio::task::spawn_local(snoop::accept(snoop, daemon, name.to_owned())),
        ];
        let bridge = BridgeConnections {
            id,
            standalone: false,
            listeners: tasks.map(|t| t.abort_handle()).into(),
            connections: BTreeMap::new(),
            controllers: BTreeMap::new(),
            snoopers: BTreeMap::new(),
            tasks: Vec::new(),
            told: BTreeMap::new(),
        };
        self.bridges.insert(name.to_owned(), bridge);
        Ok(())
    }

    /// Closes the sockets and connections of a bridge.
    pub fn close_bridge(&mut self, name: &str) {
        let Some(bridge) = self.bridges.remove(name) else { return };
        bridge.controllers.values().for_each(Controller::stop);
        bridge.listeners.iter().chain(&bridge.tasks).for_each(AbortHandle::abort);
    }
}

/// Whose connection it is.
#[derive(Clone, Debug)]
struct Who {
    /// The bridge.
    name: String,
    /// The controller's target; `None` on the management socket.
    target: Option<String>,
    primary: bool,
}

/// Serves a listener until its task is aborted.
async fn accept(listener: Listener, daemon: Rc<RefCell<Daemon>>, who: Who) {
    let mut n = 0;
    loop {
        match listener.accept().await {
            Ok(caller) => {
                let peer = format!("{}<->{}#{n}", who.name, caller.kind());
                n += 1;
                let (daemon_of, who_of) = (Rc::clone(&daemon), who.clone());
                let task = tokio::task::spawn_local(async move {
                    let ended = match caller.open().await {
                        Ok(stream) => serve(stream, &daemon_of, &who_of, &peer).await,
                        Err(e) => Err(crate::remote::reason(&e)),
                    };
                    match ended {
                        Ok(()) => log!(Dbg, Rconn, "{peer}: connection closed by peer"),
                        Err(e) => log!(Dbg, Rconn, "{peer}: connection dropped ({e})"),
                    }
                });
                let handle = task.abort_handle();
                if let Some(b) = daemon.borrow_mut().connections.bridges.get_mut(&who.name) {
                    b.tasks.push(handle);
                }
            }
            Err(e) => {
                log!(Warn, Vconn, "{}: accept failed: {e}", who.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Holds the conversation on a connection to its end: `Ok` if the peer closed it.
async fn serve(
    stream: Stream,
    daemon: &RefCell<Daemon>,
    who: &Who,
    peer: &str,
) -> Result<(), String> {
    let wake = Rc::new(Notify::new());
    let (end, ended) = oneshot::channel();
    let id = daemon.borrow_mut().open_session(who, peer, Rc::clone(&wake), end);
    let Some(id) = id else { return Err("the bridge is gone".into()) };
    let result = tokio::select! {
        r = converse(stream, daemon, &who.name, id, &wake) => {
            r.map_err(|e| crate::remote::reason(&e))
        }
        Ok(why) = ended => Err(why),
    };
    let mut d = daemon.borrow_mut();
    if let Some(b) = d.connections.bridges.get_mut(&who.name) {
        if let Some(mut c) = b.connections.remove(&id) {
            c.flow_mods.log(&c.peer, d.clock.now());
            c.session.leave(&mut d.world.switch.write());
            d.connections.news |= who.target.is_some();
        }
        d.update_bridge(&who.name);
    }
    result
}

async fn converse(
    stream: Stream,
    daemon: &RefCell<Daemon>,
    name: &str,
    id: u64,
    wake: &Notify,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buf = vec![0; CHUNK];
    loop {
        let (output, closed, later, waiting) = {
            let mut d = daemon.borrow_mut();
            let now = d.clock.now();
            let Some(bridge) = d.connections.bridges.get_mut(name) else { return Ok(()) };
            let Some(c) = bridge.connections.get_mut(&id) else { return Ok(()) };
            c.session.run(now);
            let mut output = c.session.take_output();
            if output.is_empty() && c.session.may_resume_monitors() {
                c.session.resume_monitors();
                output = c.session.take_output();
            }
            if c.session.take_omitted() > 0 {
                log!(
                    Warn,
                    OfpFlow,
                    "Flow exceeded the maximum flow statistics reply size and was excluded from \
                     the response set"
                );
            }
            (c.writing, c.n_waiting) = (!output.is_empty(), 0);
            let later = c.session.next_timeout().map(|t| t.since(now));
            let closed = c.session.closed().map(|c| format!("{c:?}"));
            let waiting = c.session.has_waiting_input();
            if let (Some(target), Some(_)) = (&c.target, &c.cutter) {
                snoop::copy(&mut bridge.snoopers, target, &output);
            }
            (output, closed, later, waiting)
        };
        if !output.is_empty() {
            writer.write_all(&output).await?;
            let d = daemon.borrow();
            let bridge = d.connections.bridges.get(name);
            if let Some(c) = bridge.and_then(|b| b.connections.get(&id)) {
                c.spoken.sent(c.session.codec(), &output);
            }
            continue;
        }
        if let Some(why) = closed {
            return Err(io::Error::other(why));
        }
        if waiting {
            daemon.borrow_mut().openflow_input(name, id, &[]);
            continue;
        }
        tokio::select! {
            n = reader.read(&mut buf) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                daemon.borrow_mut().openflow_input(name, id, &buf[..n]);
            }
            () = wake.notified() => {}
            () = sleep(later) => {}
        }
    }
}

/// Waits for a time, or for ever.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    fn open_session(
        &mut self,
        who: &Who,
        peer: &str,
        wake: Rc<Notify>,
        end: oneshot::Sender<String>,
    ) -> Option<u64> {
        let now = self.clock.now();
        let allowed = self.rec.bridges.get(&who.name)?.config.protocols.iter();
        let allowed = allowed.fold(0, |m: u32, v: &Version| m | v.bit());
        let bridge = self.connections.bridges.get_mut(&who.name)?;
        let controller = match &who.target {
            Some(target) => Some(&bridge.controllers.get(target)?.config),
            None => None,
        };
        let kind = if who.primary { SessionKind::Controller } else { SessionKind::Service };
        let mut session = {
            let mut switch = self.world.switch.write();
            Session::new(switch.bridge_mut(bridge.id)?, kind, allowed, now)
        };
        if controller.is_some_and(|c| !c.enable_async) {
            session.disable_async();
        }
        session.set_packet_in_limit(controller.and_then(|c| c.rate_limit), now);
        let id = session.id;
        let probe = controller.map_or(CLIENT_PROBE, |c| c.probe);
        let connection = Connection {
            session,
            peer: peer.to_owned(),
            target: who.target.clone(),
            cutter: who.primary.then(Cutter::default),
            spoken: Spoken::new(who.target.clone().unwrap_or_else(|| "unix".to_owned())),
            flow_mods: FlowModReport::default(),
            live: Liveness::new(probe, now),
            writing: false,
            n_waiting: 0,
            max_waiting: controller.map_or(DEFAULT_QUEUE, |c| c.queue_size),
            wake,
            end: Some(end),
        };
        bridge.connections.insert(id, connection);
        Some(id)
    }

    fn openflow_input(&mut self, name: &str, id: u64, bytes: &[u8]) {
        let now = self.clock.now();
        let dp_name = self.datapath_name();
        let Some(bridge) = self.connections.bridges.get_mut(name) else { return };
        let Some(c) = bridge.connections.get_mut(&id) else { return };
        if c.session.version().is_none()
            && let Ok(Some(n)) = openflow::message::frame_len(bytes)
            && let Some((hello, rest @ [_, ..])) = bytes.split_at_checked(n)
        {
            // In the log, what was agreed on stands before what is said then.
            self.openflow_input(name, id, hello);
            return self.openflow_input(name, id, rest);
        }
        c.live.heard(now);
        if let (Some(cutter), Some(target)) = (&mut c.cutter, &c.target) {
            cutter.push(bytes, |messages| snoop::copy(&mut bridge.snoopers, target, messages));
        }
        c.spoken.received(&c.session, bytes);
        let (role, version) = (c.session.role(), c.session.version());
        let env = Env { rec: RefCell::new(&mut self.rec), dp: &self.dp, dp_name, now };
        let changing = self.world.switch.changing();
        for slice in bytes.chunks(SLICE) {
            c.session.input(&mut self.world.switch.write(), &env, now, slice);
            self.world.switch.give_way();
        }
        drop(changing);
        c.flow_mods.count(c.session.take_flow_mods(), now);
        if let (None, Some(v)) = (version, c.session.version()) {
            let (ours, theirs) = c.session.versions();
            c.spoken.negotiated(v, ours, theirs);
            self.connections.news |= c.target.is_some();
        }
        self.connections.news |= role != c.session.role();
        if c.session.output_len() > MAX_OUTPUT {
            log!(Warn, Vconn, "{}: the peer does not read; connection dropped", c.peer);
            c.end("the peer does not read");
        }
        self.controller_spoke(name, id, now);
        self.update_bridge(name);
        self.settle();
    }

    /// Tells the bridge whether somebody wants packets that no flow matches, and whether a
    /// controller is there.
    fn update_bridge(&mut self, name: &str) {
        let Some(bridge) = self.connections.bridges.get(name) else { return };
        let wants = bridge.connections.values().any(|c| c.session.wants_misses());
        let is_controller = |c: &Connection| c.cutter.is_some() && c.session.version().is_some();
        let controlled = bridge.connections.values().any(is_controller);
        if let Some(b) = self.world.switch.write().bridge_mut(bridge.id) {
            b.set_miss_to_controller(wants);
            b.set_controlled(controlled);
        }
    }

    /// Does what is due about connections.
    pub(crate) fn openflow_tick(&mut self, now: Instant) {
        self.connections.check_liveness(now);
        self.connections.expire_bundles(now);
        self.connections.dial(now);
        self.check_fail_open(now);
        if std::mem::take(&mut self.connections.news) {
            self.write_controllers(now);
            self.connections.tell_statuses(now);
        }
    }
}
