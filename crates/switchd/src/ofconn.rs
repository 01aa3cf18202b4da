//! OpenFlow connections: the sockets of bridges, and the sessions on them.
//!
//! A bridge listens on `BRIDGE.mgmt` for tools, and on `BRIDGE.snoop` for who wants to hear what its
//! controllers say. [`ofproto::Session`] speaks the protocol; here its bytes meet sockets. Input of
//! a session is handled under the tables' write lock, one chunk of a socket read at a time, so that
//! a flood of flow mods is a few short locks and traffic goes on between them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use base::{Duration, Instant};
use datapath::Datapath;
use ofproto::{BridgeId, Environment, Event, Session, SessionKind};
use openflow::Version;
use openflow::message::PortStats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::control;
use crate::daemon::Daemon;
use crate::log;
use crate::reconcile::Reconciler;

/// Bytes that may wait for a peer that does not read; beyond it the connection is closed.
const MAX_OUTPUT: usize = 64 << 20;
/// Bytes handled under one lock.
const CHUNK: usize = 65_536;

#[derive(Debug)]
struct Connection {
    session: Session,
    wake: Rc<Notify>,
}

#[derive(Debug)]
struct BridgeConnections {
    id: BridgeId,
    listeners: Vec<AbortHandle>,
    paths: Vec<PathBuf>,
    connections: BTreeMap<u64, Connection>,
    tasks: Vec<AbortHandle>,
}

/// All OpenFlow connections, by bridge.
#[derive(Debug, Default)]
pub struct Connections {
    bridges: BTreeMap<String, BridgeConnections>,
}

impl Connections {
    /// None yet.
    pub fn new() -> Connections {
        Connections::default()
    }

    /// Tells a bridge's sessions what happened.
    pub fn notify(&mut self, id: BridgeId, _now: Instant, event: &Event) {
        for bridge in self.bridges.values_mut().filter(|b| b.id == id) {
            for c in bridge.connections.values_mut() {
                c.session.notify(event);
                if c.session.output_len() > 0 {
                    c.wake.notify_one();
                }
            }
        }
    }

    /// Looks after timers of connections.
    pub fn tick(&mut self, _now: Instant) {
        for bridge in self.bridges.values_mut() {
            bridge.tasks.retain(|t| !t.is_finished());
        }
    }

    /// Closes the sockets and connections of a bridge.
    pub fn close_bridge(&mut self, name: &str) {
        let Some(bridge) = self.bridges.remove(name) else { return };
        for path in bridge.paths {
            let _ = std::fs::remove_file(path);
        }
        bridge.listeners.iter().chain(&bridge.tasks).for_each(AbortHandle::abort);
    }
}

/// Opens the sockets of a new bridge.
///
/// # Errors
/// A socket cannot be made.
pub fn listen(
    daemon: &Rc<RefCell<Daemon>>,
    d: &mut Daemon,
    rundir: &Path,
    name: &str,
    id: BridgeId,
) -> io::Result<()> {
    let path = rundir.join(format!("{name}.mgmt"));
    let listener = control::listen(&path)?;
    log!(Info, Connmgr, "{name}: added service controller \"punix:{}\"", path.display());
    let task = tokio::task::spawn_local(accept(listener, Rc::clone(daemon), name.to_owned()));
    let snoop_path = rundir.join(format!("{name}.snoop"));
    let snoop = control::listen(&snoop_path)?;
    let snoop_task = tokio::task::spawn_local(hold(snoop));
    d.connections.bridges.insert(
        name.to_owned(),
        BridgeConnections {
            id,
            listeners: vec![task.abort_handle(), snoop_task.abort_handle()],
            paths: vec![path, snoop_path],
            connections: BTreeMap::new(),
            tasks: Vec::new(),
        },
    );
    Ok(())
}

async fn accept(listener: UnixListener, daemon: Rc<RefCell<Daemon>>, name: String) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let task =
                    tokio::task::spawn_local(serve(stream, Rc::clone(&daemon), name.clone()));
                let handle = task.abort_handle();
                if let Some(b) = daemon.borrow_mut().connections.bridges.get_mut(&name) {
                    b.tasks.push(handle);
                }
            }
            Err(e) => {
                log!(Warn, Vconn, "{name}: accept failed: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Keeps snoopers connected. Without a controller there is nothing for them to hear.
async fn hold(listener: UnixListener) {
    let mut held = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        held.retain(|s: &UnixStream| {
            !matches!(s.try_read(&mut [0; 64]), Ok(0)) // closed by the peer
        });
        held.push(stream);
    }
}

async fn serve(stream: UnixStream, daemon: Rc<RefCell<Daemon>>, name: String) {
    let wake = Rc::new(Notify::new());
    let Some(id) = open(&daemon, &name, Rc::clone(&wake)) else { return };
    if let Err(e) = converse(stream, &daemon, &name, id, &wake).await {
        log!(Dbg, Vconn, "{name}<->unix#{id}: {e}");
    }
    let mut d = daemon.borrow_mut();
    if let Some(b) = d.connections.bridges.get_mut(&name) {
        b.connections.remove(&id);
        let bridge = b.id;
        let wants = b.connections.values().any(|c| c.session.wants_misses());
        if let Some(b) = d.world.switch.write().bridge_mut(bridge) {
            b.set_miss_to_controller(wants);
        }
    }
}

fn open(daemon: &RefCell<Daemon>, name: &str, wake: Rc<Notify>) -> Option<u64> {
    let mut d = daemon.borrow_mut();
    let now = d.clock.now();
    let allowed = d.rec.bridges.get(name)?.config.protocols.iter();
    let allowed = allowed.fold(0, |m: u32, v: &Version| m | v.bit());
    let id = d.connections.bridges.get(name)?.id;
    let session = {
        let mut switch = d.world.switch.write();
        Session::new(switch.bridge_mut(id)?, SessionKind::Service, allowed, now)
    };
    let number = session.id;
    let connections = &mut d.connections.bridges.get_mut(name)?.connections;
    connections.insert(number, Connection { session, wake });
    Some(number)
}

async fn converse(
    stream: UnixStream,
    daemon: &RefCell<Daemon>,
    name: &str,
    id: u64,
    wake: &Notify,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut buf = vec![0; CHUNK];
    loop {
        let (output, closed) = {
            let mut d = daemon.borrow_mut();
            let Some(session) = d.connections.session(name, id) else { return Ok(()) };
            (session.take_output(), session.closed().map(|c| format!("{c:?}")))
        };
        if !output.is_empty() {
            writer.write_all(&output).await?;
            continue;
        }
        if let Some(why) = closed {
            return Err(io::Error::other(why));
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
        }
    }
}

impl Connections {
    fn session(&mut self, name: &str, id: u64) -> Option<&mut Session> {
        Some(&mut self.bridges.get_mut(name)?.connections.get_mut(&id)?.session)
    }
}

impl Daemon {
    fn openflow_input(&mut self, name: &str, id: u64, bytes: &[u8]) {
        let now = self.clock.now();
        let Some(bridge) = self.connections.bridges.get_mut(name) else { return };
        let bridge_id = bridge.id;
        let Some(c) = bridge.connections.get_mut(&id) else { return };
        let env = Env { rec: RefCell::new(&mut self.rec), dp: &self.dp };
        {
            let mut switch = self.world.switch.write();
            c.session.input(&mut switch, &env, now, bytes);
        }
        if c.session.output_len() > MAX_OUTPUT {
            log!(Warn, Vconn, "{name}<->unix#{id}: the peer does not read; connection dropped");
            bridge.connections.remove(&id);
        }
        let wants = bridge.connections.values().any(|c| c.session.wants_misses());
        if let Some(b) = self.world.switch.write().bridge_mut(bridge_id) {
            b.set_miss_to_controller(wants);
        }
        self.deliver_events();
    }
}

/// What sessions ask of the daemon.
struct Env<'a> {
    rec: RefCell<&'a mut Reconciler>,
    dp: &'a Arc<Datapath>,
}

impl Environment for Env<'_> {
    fn port_stats(&self, _bridge: BridgeId, port: &ofproto::Port) -> PortStats {
        let Some(c) = self.rec.borrow_mut().port_counters(&port.spec.name) else {
            return PortStats::default();
        };
        PortStats {
            rx_packets: c.rx_packets,
            tx_packets: c.tx_packets,
            rx_bytes: c.rx_bytes,
            tx_bytes: c.tx_bytes,
            rx_dropped: c.rx_dropped,
            tx_dropped: c.tx_dropped,
            rx_errors: c.rx_errors,
            tx_errors: c.tx_errors,
            rx_frame_err: c.rx_frame_err,
            rx_over_err: c.rx_over_err,
            rx_crc_err: c.rx_crc_err,
            collisions: c.collisions,
            ..PortStats::default()
        }
    }

    fn pull_flow_stats(&self) {
        self.dp.push_stats();
    }
}
