//! Controllers: keeping the connections that the Controller table asks for, and what a bridge does
//! without them.
//!
//! A primary controller is connected to as long as its row is there; one that is lost is tried again
//! ([`crate::reconnect`]). A bridge whose `fail_mode` is standalone and whose primary controllers
//! have all been away for three times the probe interval forwards as a learning switch until one is
//! back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use base::Instant;
use ovsdb::types::Uuid;
use tokio::task::AbortHandle;

use crate::config::{BridgeConfig, ControllerConfig};
use crate::daemon::Daemon;
use crate::log;
use crate::reconnect::{Due, Reconnect, State};
use crate::remote::{Listener, Remote, Stream, reason};
use crate::vlog::Module;

use super::{BridgeConnections, Connections, Who, accept, serve};

/// Probe intervals without a controller before a bridge helps itself.
const FAIL_OPEN: u32 = 3;
/// The probe interval that counts then when none is configured.
const LEAST_PROBE: Duration = Duration::from_secs(5);

/// A controller that there should be.
#[derive(Debug)]
pub(super) struct Controller {
    /// What is asked of it.
    pub(super) config: ControllerConfig,
    /// Tells it from one that had its target before.
    serial: u64,
    /// The attempt to connect, or the listener.
    task: Option<AbortHandle>,
    link: Link,
}

#[derive(Debug)]
enum Link {
    Active(Reconnect),
    /// When it last was connected to us.
    Passive(Instant),
}

/// What the Controller table is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `is_connected`.
    pub is_connected: bool,
    /// `role`.
    pub role: Option<&'static str>,
    /// `status`.
    pub pairs: Vec<(String, String)>,
}

impl Controller {
    /// Stops connecting and listening.
    pub(super) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    fn kind(&self) -> &'static str {
        if self.config.primary { "primary" } else { "service" }
    }

    fn down_for(&self, now: Instant) -> Duration {
        match &self.link {
            Link::Active(r) => r.down_for(now),
            Link::Passive(t) => now.since(*t),
        }
    }
}

impl Connections {
    /// Makes a bridge's controllers those of its configuration.
    pub(crate) fn configure(&mut self, name: &str, config: &BridgeConfig, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        bridge.standalone = config.fail_mode == ofproto::FailMode::Standalone;
        let gone: Vec<String> = bridge
            .controllers
            .iter()
            .filter(|(target, c)| {
                config.controllers.get(*target).is_none_or(|w| {
                    w.uuid != c.config.uuid
                        || w.primary != c.config.primary
                        || w.enable_async != c.config.enable_async
                })
            })
            .map(|(target, _)| target.clone())
            .collect();
        for target in gone {
            bridge.remove_controller(name, &target);
        }
        for (target, wanted) in &config.controllers {
            match self.bridges.get_mut(name).and_then(|b| b.controllers.get_mut(target)) {
                Some(c) if c.config == *wanted => {}
                Some(c) => {
                    c.config = wanted.clone();
                    if let Link::Active(r) = &mut c.link {
                        r.set_max_backoff(wanted.max_backoff, now);
                    }
                    let probe = wanted.probe;
                    let bridge = self.bridges.get_mut(name);
                    for c in bridge.into_iter().flat_map(|b| b.connections.values_mut()) {
                        if c.target.as_ref() == Some(target) {
                            c.live.set_interval(probe);
                            c.session.set_packet_in_limit(wanted.rate_limit, now);
                            c.max_waiting = wanted.queue_size;
                        }
                    }
                }
                None => self.add_controller(name, target, wanted, now),
            }
        }
        self.news = true;
    }

    fn add_controller(
        &mut self,
        name: &str,
        target: &str,
        config: &ControllerConfig,
        now: Instant,
    ) {
        let serial = self.serial();
        let Some(daemon) = self.daemon.upgrade() else { return };
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        let mut task = None;
        let link = if config.remote.is_passive() {
            let who =
                Who { name: name.into(), target: Some(target.into()), primary: config.primary };
            let listening = listen(daemon, who, config.remote.clone());
            task = Some(tokio::task::spawn_local(listening).abort_handle());
            Link::Passive(now)
        } else {
            let peer = format!("{name}<->{target}");
            Link::Active(Reconnect::new(peer, Module::Rconn, config.max_backoff, now))
        };
        let controller = Controller { config: config.clone(), serial, task, link };
        log!(Info, Connmgr, "{name}: added {} controller \"{target}\"", controller.kind());
        bridge.controllers.insert(target.to_owned(), controller);
    }

    /// Starts the attempts to connect that are due, and gives up those that take too long.
    pub(super) fn dial(&mut self, now: Instant) {
        let Some(daemon) = self.daemon.upgrade() else { return };
        for (name, bridge) in &mut self.bridges {
            for (target, c) in &mut bridge.controllers {
                match &mut c.link {
                    Link::Active(r) => match r.poll(now) {
                        None => {}
                        Some(Due::Connect) => {
                            let who = Who {
                                name: name.clone(),
                                target: Some(target.clone()),
                                primary: c.config.primary,
                            };
                            let attempt =
                                dial(Rc::clone(&daemon), who, c.config.remote.clone(), c.serial);
                            c.task = Some(tokio::task::spawn_local(attempt).abort_handle());
                            self.news = true;
                        }
                        Some(Due::GiveUp) => {
                            if let Some(task) = c.task.take() {
                                task.abort();
                            }
                            bridge.connections.retain(|_, c| c.target.as_ref() != Some(target));
                            r.disconnected(Some("Connection timed out"), now);
                            self.news = true;
                        }
                    },
                    Link::Passive(up) => {
                        let mut all = bridge.connections.values();
                        if all.any(|c| c.target.as_ref() == Some(target)) {
                            *up = now;
                        }
                    }
                }
            }
        }
    }

    /// What the Controller table is told, by row.
    pub(crate) fn controllers(&self, now: Instant) -> impl Iterator<Item = (Uuid, Status)> {
        self.bridges.values().flat_map(move |b| {
            b.controllers.iter().map(move |(t, c)| (c.config.uuid, b.status(t, c, now)))
        })
    }
}

impl BridgeConnections {
    fn remove_controller(&mut self, name: &str, target: &str) {
        let Some(c) = self.controllers.remove(target) else { return };
        c.stop();
        for c in self.connections.values_mut() {
            if c.target.as_deref() == Some(target) {
                c.end("the controller is not configured any more");
            }
        }
        log!(Info, Connmgr, "{name}: removed {} controller \"{target}\"", c.kind());
    }

    /// Those who connect to us are not told of, as OVS has it: they may be many or none.
    fn status(&self, target: &str, c: &Controller, now: Instant) -> Status {
        let Link::Active(r) = &c.link else { return Status::default() };
        let connection = self.connections.values().find(|c| c.target.as_deref() == Some(target));
        let connected = connection.filter(|_| r.is_connected());
        let mut pairs = r.status(connected.is_some_and(|c| c.live.is_idle()), now);
        for (name, s) in connected.iter().flat_map(|c| c.session.packet_in_stats()) {
            for (what, n) in [
                ("backlog", s.backlog),
                ("bypassed", s.bypassed),
                ("queued", s.queued),
                ("dropped", s.dropped),
            ] {
                pairs.push((format!("packet-in-{name}-{what}"), n.to_string()));
            }
        }
        Status {
            is_connected: connected.is_some(),
            role: connected.map(|c| c.session.role()),
            pairs,
        }
    }
}

/// Connects to a controller and talks to it to the end.
async fn dial(daemon: Rc<RefCell<Daemon>>, who: Who, remote: Remote, serial: u64) {
    let target = who.target.clone().unwrap_or_default();
    let keys = daemon.borrow().keys.clone();
    let result = match Stream::connect(&remote, &keys).await {
        Ok(stream) => serve(stream, &daemon, &who, &format!("{}<->{target}", who.name)).await,
        Err(e) => Err(reason(&e)),
    };
    let mut d = daemon.borrow_mut();
    let now = d.clock.now();
    let bridge = d.connections.bridges.get_mut(&who.name);
    let controller = bridge.and_then(|b| b.controllers.get_mut(&target));
    if let Some(c) = controller.filter(|c| c.serial == serial)
        && let Link::Active(r) = &mut c.link
    {
        c.task = None;
        r.disconnected(result.err().as_deref(), now);
    }
    d.write_controllers(now);
}

/// Listens for controllers. A port that is in use may be free later.
async fn listen(daemon: Rc<RefCell<Daemon>>, who: Who, remote: Remote) {
    let mut said = String::new();
    let keys = daemon.borrow().keys.clone();
    let listener = loop {
        match Listener::bind(&remote, &keys).await {
            Ok(listener) => break listener,
            Err(e) => {
                let text = reason(&e);
                if text != said {
                    log!(Err, Connmgr, "{}: cannot listen on {remote}: {text}", who.name);
                    said = text;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    accept(listener, daemon, who).await;
}

impl Daemon {
    /// Something came from a connection: with the hellos exchanged, its controller is connected.
    pub(super) fn controller_spoke(&mut self, name: &str, id: u64, now: Instant) {
        let Some(bridge) = self.connections.bridges.get_mut(name) else { return };
        let Some(c) = bridge.connections.get(&id) else { return };
        let Some(controller) = c.target.as_ref().and_then(|t| bridge.controllers.get_mut(t)) else {
            return;
        };
        if let Link::Active(r) = &mut controller.link
            && r.state() == State::Connecting
            && c.session.version().is_some()
        {
            r.connected(now);
            self.connections.news = true;
        }
    }

    /// Makes learning switches of the bridges that lost their controllers, and no more of those
    /// that have one again.
    pub(super) fn check_fail_open(&mut self, now: Instant) {
        for bridge in self.connections.bridges.values() {
            let primary = || bridge.controllers.values().filter(|c| c.config.primary);
            let down = primary().map(|c| c.down_for(now)).min();
            let probe = primary().map(|c| c.config.probe).max().unwrap_or_default();
            let open =
                bridge.standalone && down.is_some_and(|d| d >= FAIL_OPEN * probe.max(LEAST_PROBE));
            let is_open =
                self.world.switch.read().bridge(bridge.id).is_some_and(|b| b.is_fail_open());
            if open == is_open {
                continue;
            }
            if open {
                log!(
                    Warn,
                    FailOpen,
                    "Could not connect to controller (or switch failed controller's \
                     post-connection admission control policy) for {} seconds, failing open",
                    down.unwrap_or_default().as_secs()
                );
            } else {
                log!(Warn, FailOpen, "No longer in fail-open mode");
            }
            if let Some(b) = self.world.switch.write().bridge_mut(bridge.id) {
                b.set_fail_open(open, now);
            }
        }
    }
}
