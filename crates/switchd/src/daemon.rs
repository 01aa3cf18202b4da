//! The daemon: everything the control thread owns, and its loop.
//!
//! One thread runs a tokio runtime: sockets of OVSDB, OpenFlow and control are tasks on it, and
//! the loop in [`run`] turns: changes of the database become running bridges, links
//! come and go, flows, addresses and connections expire, megaflows are checked, status goes back to
//! the database. Tasks share the [`Daemon`] in a `RefCell`; no borrow is held across an await.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base::{DpPort, HashKey, Instant};
use datapath::{Datapath, KernelMode};
use dpif::Generation;
use netdev::link::{LinkEvent, Monitor};
use netdev::poll::Poller;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::commands;
use crate::config::{self, Config};
use crate::connlog::ConnLog;
use crate::control;
use crate::coverage::Coverage;
use crate::database::Db;
use crate::dbhost::{self, DbHost};
use crate::dplog;
use crate::host::Host;
use crate::inband::NextHops;
use crate::kernelpath;
use crate::log;
use crate::managers::Managers;
use crate::ofconn::Connections;
use crate::pidfile::PidFile;
use crate::pmd::Pmd;
use crate::reconcile::{Done, Reconciler};
use crate::remote::{self, Keys, OVSDB_PORT, Remote};
use crate::remotedb::{self, RemoteDb};
use crate::rxq::{Crew, default_workers};
use crate::sim::{Level, Sim};
use crate::status;
use crate::talkers::Looker;
use crate::vlog;
use crate::world::World;

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often megaflows are looked through.
const REVALIDATE: Duration = Duration::from_millis(500);
/// How long an unused megaflow is kept (`other_config:max-idle`).
const MAX_IDLE: Duration = Duration::from_secs(10);
/// How often statistics go to the database, at most and unless `other_config:stats-update-interval`
/// says otherwise.
const STATISTICS: Duration = Duration::from_secs(5);
/// How often unused frozen pipelines are let go of, and controllers' states written.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Turns of the simulated datapath at once: flows can make a device answer itself for ever.
const MAX_TURNS: usize = 10_000;
/// Connections that one turn of the loop expires at most, for each shard: some 200 µs of work in all, so
/// that the control thread does not keep a processor for long that a worker may want.
const CT_BUDGET: usize = 16;
/// How soon the next ones go when more are due.
const CT_PAUSE: Duration = Duration::from_millis(1);
/// Connection events kept between two turns, for each shard.
const CT_EVENTS: usize = 4096;

/// Which database a daemon obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// That of the embedded server, kept in this file; created if absent.
    File(PathBuf),
    /// A database server elsewhere (`unix:PATH`, `tcp:HOST[:PORT]`).
    Server(String),
}

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where sockets and pid files are.
    pub rundir: PathBuf,
    /// Where the configuration comes from.
    pub source: Source,
    /// Pid file of the switch.
    pub pidfile: Option<PathBuf>,
    /// Start even if a running process holds the pid file.
    pub overwrite_pidfile: bool,
    /// Control socket in place of `RUNDIR/ovs-vswitchd.PID.ctl`.
    pub unixctl: Option<PathBuf>,
    /// Log file.
    pub log_file: Option<PathBuf>,
    /// Log levels, as `vlog/set` takes them.
    pub verbose: Vec<String>,
    /// Keys for TLS where the SSL table has none.
    pub tls: Option<tls::Files>,
    /// Simulated devices, and what they take the place of.
    pub dummy: Option<Level>,
    /// NUMA nodes of simulated cores, from core 0 on; `None` for the host's cores.
    pub dummy_numa: Option<Vec<usize>>,
}

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or socket could not be made.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The control socket could not be made.
    #[error("could not initialize control socket {0} ({why})", why = remote::reason(.1))]
    Control(String, io::Error),
    /// Another daemon runs here.
    #[error(transparent)]
    Running(#[from] crate::pidfile::Error),
    /// The database cannot be used.
    #[error("{0}")]
    Database(String),
    /// The datapath could not be started.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The kernel's links cannot be asked for.
    #[error(transparent)]
    Netdev(#[from] netdev::Error),
    /// A log level that is none.
    #[error("{0}")]
    Verbose(String),
}

/// What the control thread owns.
#[derive(Debug)]
pub struct Daemon {
    /// The clock of everything.
    pub clock: Clock,
    /// Tables, shared with the workers.
    pub world: Arc<World>,
    /// The datapath.
    pub dp: Arc<Datapath>,
    /// The database.
    pub db: Db,
    /// What runs.
    pub rec: Reconciler,
    /// OpenFlow connections.
    pub connections: Connections,
    /// Rates of what is counted.
    pub coverage: Coverage,
    /// What workers did lately.
    pub pmd: Pmd,
    /// The workers and who polls what.
    pub crew: Crew,
    /// Events of connections, for those who listen.
    pub connlog: ConnLog,
    /// Keys of TLS connections.
    pub keys: Keys,
    /// Those that count when the SSL table has none.
    default_keys: Option<tls::Files>,
    /// OVSDB clients of the Manager table.
    pub managers: Option<Rc<RefCell<Managers>>>,
    /// The configuration as last read.
    pub config: Config,
    /// Where sockets are.
    pub rundir: PathBuf,
    /// `revalidator/pause` was given.
    pub revalidation_paused: bool,
    /// Megaflows that somebody deleted by command.
    pub n_flows_deleted: u64,
    /// What `dpctl/ct-set-sweep-interval` was given, in milliseconds.
    pub ct_sweep_ms: u32,
    /// Looks through the connection table, for those who watch it.
    pub(crate) looker: Looker,
    /// Ways to controllers and managers.
    pub(crate) next_hops: NextHops,
    /// Flows go by their names where these are shorter (`upcall/disable-ufid`).
    pub ufids: bool,
    /// Notified when the daemon is to end.
    pub quit: Rc<Notify>,
    due: Due,
}

/// When the next of each is due.
#[derive(Debug, Default)]
struct Due {
    revalidate: Instant,
    housekeeping: Instant,
    /// When statistics were written last.
    statistics: Instant,
    generation: u64,
    ct_events: bool,
    /// More connections have to expire.
    connections: bool,
    /// Fragments of datagrams too large that were told of, by [IPv4, IPv6].
    big_fragments: [u64; 2],
}

/// Runs a daemon until it is told to end. Calls `ready` once it serves and has obeyed its database
/// for the first time.
///
/// # Errors
/// It could not start.
pub fn run(options: &Options, ready: Box<dyn FnOnce()>) -> Result<(), StartError> {
    for spec in &options.verbose {
        vlog::set(spec).map_err(StartError::Verbose)?;
    }
    std::fs::create_dir_all(&options.rundir)
        .map_err(|e| StartError::Io(options.rundir.display().to_string(), e))?;
    if let Some(path) = &options.log_file {
        vlog::open_file(path).map_err(|e| StartError::Io(path.display().to_string(), e))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::Io("cannot start the control thread".into(), e))?;
    let local = LocalSet::new();
    local.block_on(&runtime, start(options, ready))
}

async fn start(options: &Options, ready: Box<dyn FnOnce()>) -> Result<(), StartError> {
    let rundir = &options.rundir;
    let take_pid = |path: &PathBuf| PidFile::create(path, options.overwrite_pidfile);
    let _pid = options.pidfile.as_ref().map(take_pid).transpose()?;
    let embedded = matches!(options.source, Source::File(_));
    let server_pid = embedded.then(|| rundir.join("ovsdb-server.pid"));
    let _server_pid = server_pid.as_ref().map(take_pid).transpose()?;
    let clock = Clock::default();
    let keys = Keys::default();
    keys.set(options.tls.clone());
    let db = open_database(options, &clock, &keys)?;
    let secret = random_key().map_err(|e| StartError::Io("no random numbers".into(), e))?;
    // The simulated world has no packets in the kernel.
    let path = options.dummy.is_none().then(|| kernelpath::open(&clock, secret)).flatten();
    let (kernel, bypass) = path.unzip();
    let generation =
        kernel.as_ref().map_or_else(Generation::default, |k| Generation::Lent(k.generation()));
    let world = Arc::new(World::new(secret, datapath_name(options.dummy.is_some()), generation));
    let (failed, mut failures) = mpsc::unbounded_channel();
    let dp_clock = clock.clone();
    let dp = Datapath::new(
        &datapath::Config {
            secret,
            // In the simulated world nothing happens by itself.
            n_threads: if options.dummy.is_some() { 0 } else { default_workers() },
            meters: Arc::clone(&world.meters),
            kernel,
            ..datapath::Config::default()
        },
        Arc::clone(&world) as Arc<dyn dpif::SlowPath>,
        Arc::new(move || dp_clock.now()),
        Arc::new(move |event| {
            // The control thread is gone when nobody listens.
            let _ = failed.send(event);
        }),
    )?;
    let dp = Arc::new(dp);
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let sim = options.dummy.map(|level| Sim::new(level, arrivals));
    let host = Host::open(sim, bypass)?;
    let rec = Reconciler::new(Arc::clone(&world), Arc::clone(&dp), host, secret);
    let pmd = Pmd::new(clock.now());
    let crew = Crew::new(options.dummy.is_some(), options.dummy_numa.as_deref());
    let quit = Rc::new(Notify::new());
    let daemon = Rc::new_cyclic(|me| {
        RefCell::new(Daemon {
            clock,
            world: Arc::clone(&world),
            dp,
            db: db.clone(),
            rec,
            connections: Connections::new(me.clone()),
            coverage: Coverage::default(),
            pmd,
            crew,
            managers: db.host().map(|host| Managers::new(Rc::clone(host), keys.clone())),
            keys,
            default_keys: options.tls.clone(),
            connlog: ConnLog::default(),
            config: Config::default(),
            rundir: rundir.clone(),
            revalidation_paused: false,
            n_flows_deleted: 0,
            ct_sweep_ms: 20_000,
            looker: Looker::default(),
            next_hops: NextHops::default(),
            ufids: true,
            quit: Rc::clone(&quit),
            due: Due::default(),
        })
    });
    log!(Info, Vswitchd, "ovs-vswitchd (Open vSwitch) {}", crate::OVS_VERSION);

    // Bridges of an earlier run come up before anybody can ask about them.
    let mut links = watch_links()?;
    let mut ready = Some(ready);
    if db.take_changes() {
        reconfigure(&daemon);
    }
    let mut sockets = Sockets::default();
    if let Some(host) = db.host() {
        let listener = sockets.open(rundir.join("db.sock"))?;
        tokio::task::spawn_local(dbhost::serve(listener, Rc::clone(host)));
        tokio::task::spawn_local(dbhost::timers(Rc::clone(host)));
        let listener = sockets.open(control_socket(rundir, "ovsdb-server"))?;
        let daemon = Rc::clone(&daemon);
        tokio::task::spawn_local(control::serve(listener, daemon, commands::DATABASE));
    }
    let ctl = options.unixctl.clone();
    let listener = sockets.open(ctl.unwrap_or_else(|| control_socket(rundir, "ovs-vswitchd")))?;
    tokio::task::spawn_local(control::serve(listener, Rc::clone(&daemon), commands::SWITCH));

    let end = |kind| signal(kind).map_err(|e| StartError::Io("cannot handle signals".into(), e));
    let (mut term, mut int) = (end(SignalKind::terminate())?, end(SignalKind::interrupt())?);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let changed = db.changed();
    if embedded && let Some(ready) = ready.take() {
        ready();
    }
    loop {
        let expires = daemon.borrow().due.connections;
        tokio::select! {
            () = changed.notified() => {
                if db.take_changes() {
                    reconfigure(&daemon);
                    if let Some(ready) = ready.take() {
                        ready();
                    }
                }
            }
            () = world.events.notified() => daemon.borrow_mut().settle(),
            Some((name, frame)) = arrived.recv() => daemon.borrow_mut().frame_arrived(&name, &frame),
            Some(event) = failures.recv() => daemon.borrow_mut().datapath_event(event),
            Some(events) = links.recv() => daemon.borrow_mut().links_changed(&events),
            _ = ticks.tick() => daemon.borrow_mut().tick(),
            () = tokio::time::sleep(CT_PAUSE), if expires => {
                daemon.borrow_mut().expire_connections();
            }
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = quit.notified() => break,
        }
    }
    // Replies that are on their way get out before the sockets go.
    tokio::time::sleep(Duration::from_millis(20)).await;
    sockets.paths.iter().for_each(|p| drop(std::fs::remove_file(p)));
    daemon.borrow_mut().shut_down();
    Ok(())
}

/// Reports changes of the host's links. A thread of its own waits for them, and ends with the process.
fn watch_links() -> Result<mpsc::UnboundedReceiver<Vec<LinkEvent>>, StartError> {
    let cannot = |e| StartError::Io("cannot watch the host's links".into(), e);
    let mut monitor = Monitor::open()?;
    // What is there already is found when it is opened.
    let _ = monitor.poll();
    let mut poller = Poller::new().map_err(|e| cannot(io::Error::from_raw_os_error(e.0)))?;
    poller.add(monitor.as_fd(), 0).map_err(|e| cannot(io::Error::from_raw_os_error(e.0)))?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let watch = move || {
        let mut ready = Vec::new();
        loop {
            let events = match poller.wait(None, &mut ready) {
                Ok(()) => monitor.poll(),
                Err(_) => Ok(Vec::new()),
            };
            match events {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    if sender.send(events).is_err() {
                        return;
                    }
                }
                Err(e) => {
                    log!(Warn, NetdevLinux, "{e}");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    };
    std::thread::Builder::new().name("links".into()).spawn(watch).map_err(cannot)?;
    Ok(receiver)
}

/// The database that the options name.
fn open_database(options: &Options, clock: &Clock, keys: &Keys) -> Result<Db, StartError> {
    let target = match &options.source {
        Source::Server(target) => target,
        Source::File(path) => {
            let host = DbHost::open(path, clock.clone()).map_err(StartError::Database)?;
            return Ok(Db::Embedded(Rc::new(RefCell::new(host))));
        }
    };
    let remote =
        Remote::parse(target, OVSDB_PORT).map_err(|e| StartError::Database(e.to_string()))?;
    if remote.is_passive() {
        let places = "unix:PATH, tcp:HOST[:PORT] or ssl:HOST[:PORT]";
        let text = format!("{target}: the database must be at {places}");
        return Err(StartError::Database(text));
    }
    let db = Rc::new(RefCell::new(RemoteDb::default()));
    let following = remotedb::follow(remote, target.clone(), keys.clone(), Rc::clone(&db));
    tokio::task::spawn_local(following);
    Ok(Db::Remote(db))
}

/// `TYPE@NAME` of the one datapath.
fn datapath_name(simulated: bool) -> &'static str {
    if simulated { "dummy@ovs-dummy" } else { "netdev@ovs-netdev" }
}

fn control_socket(rundir: &Path, program: &str) -> PathBuf {
    rundir.join(format!("{program}.{}.ctl", std::process::id()))
}

/// Sockets that go with the daemon.
#[derive(Default)]
struct Sockets {
    paths: Vec<PathBuf>,
}

impl Sockets {
    fn open(&mut self, path: PathBuf) -> Result<UnixListener, StartError> {
        let listener = control::listen(&path)
            .map_err(|e| StartError::Control(path.display().to_string(), e))?;
        self.paths.push(path);
        Ok(listener)
    }
}

fn random_key() -> io::Result<HashKey> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    let word = |i: usize| bytes[i..].first_chunk().map_or(0, |b: &[u8; 8]| u64::from_ne_bytes(*b));
    Ok(HashKey([word(0), word(8)]))
}

/// Follows the database.
fn reconfigure(daemon: &Rc<RefCell<Daemon>>) {
    let mut d = daemon.borrow_mut();
    let now = d.clock.now();
    // Without a database what runs goes on.
    let Some(mut config) = d.db.with(config::read) else { return };
    config.forbid_sockets(&d.rundir);
    for text in config.complaints.iter().filter(|c| !d.config.complaints.contains(c)) {
        log!(Warn, Bridge, "{text}");
    }
    for text in config.refusals.iter().filter(|r| !d.config.refusals.contains(r)) {
        log!(Err, Bridge, "{text}");
    }
    let keys = config.tls.clone().or_else(|| d.default_keys.clone());
    d.keys.set(keys);
    // Before there are ports that it might do too much for.
    d.set_kernel_mode(config.kernel_mode);
    // What the daemon writes itself asks for nothing.
    let done = if config == d.config { Done::default() } else { d.rec.apply(&config, now) };
    let dp = Arc::clone(&d.dp);
    d.crew.configure(&config.workers, &dp, !config.bridges.is_empty());
    d.config = config;
    d.settle_queues(false);
    for name in &done.removed {
        d.connections.close_bridge(name);
    }
    for name in &done.added {
        let Some(bridge) = d.rec.bridges.get(name) else { continue };
        let id = bridge.id;
        let rundir = d.rundir.clone();
        if let Err(e) = d.connections.open_bridge(&rundir, name, id) {
            log!(Err, Connmgr, "{name}: cannot listen for OpenFlow: {e}");
        }
    }
    let d = &mut *d;
    let vlan_limit = d.config.other_config.get("vlan-limit").and_then(|n| n.parse().ok());
    if flow::extract::set_vlan_limit(vlan_limit.unwrap_or(flow::extract::DEFAULT_VLAN_LIMIT)) {
        d.dp.flush();
    }
    d.connections.set_bundle_timeout(d.config.other_config.get("bundle-idle-timeout"));
    for (name, bridge) in &d.config.bridges {
        d.connections.configure(name, bridge, now);
    }
    d.configure_in_band(now);
    d.openflow_tick(now);
    if let Some(managers) = &d.managers {
        managers.borrow_mut().configure(&d.config.managers, now);
    }
    d.settle();
    d.write_status();
}

impl Daemon {
    /// Tells the datapath what the kernel may do: this, or nothing while time stands still here.
    pub(crate) fn set_kernel_mode(&self, wanted: KernelMode) {
        let mode = if self.clock.is_stopped() { KernelMode::Off } else { wanted };
        self.dp.set_kernel_mode(mode);
    }

    /// Writes to the database what is news.
    pub fn write_status(&mut self) {
        let ops = self.db.with(|data| status::operations(data, &self.config, &self.rec));
        self.write(&ops.unwrap_or_default());
    }

    /// Tells the Controller table how its controllers are.
    pub(crate) fn write_controllers(&self, now: Instant) {
        let ops = self.db.with(|data| status::controllers(data, self.connections.controllers(now)));
        self.write(&ops.unwrap_or_default());
    }

    fn write_managers(&self, now: Instant) {
        let Some(managers) = &self.managers else { return };
        let ops = self.db.with(|data| status::managers(data, managers.borrow().status(now)));
        self.write(&ops.unwrap_or_default());
    }

    fn write_statistics(&mut self) {
        let rec = &mut self.rec;
        let ops = self.db.with(|data| status::statistics(data, rec));
        self.write(&ops.unwrap_or_default());
    }

    fn write(&self, ops: &[serde_json::Value]) {
        if !ops.is_empty()
            && let Err(e) = self.db.transact(ops)
        {
            log!(Warn, Bridge, "cannot write status to the database: {e}");
        }
    }

    fn datapath_event(&mut self, event: datapath::Event) {
        match event {
            datapath::Event::PortFailed(port) => {
                self.rec.port_failed(port, self.clock.now());
                self.settle_queues(false);
                self.write_status();
            }
            datapath::Event::Panicked { worker } => {
                log!(Err, DpifNetdev, "worker {worker} survived a defect; a batch was lost");
            }
        }
    }

    fn links_changed(&mut self, events: &[LinkEvent]) {
        let now = self.clock.now();
        let mut ours = false;
        for event in events {
            let names = match event {
                LinkEvent::Added(l) | LinkEvent::Removed(l) => [Some(&l.name), None],
                LinkEvent::Changed { old, new } if old.name != new.name => {
                    [Some(&old.name), Some(&new.name)]
                }
                LinkEvent::Changed { new, .. } => [Some(&new.name), None],
            };
            for name in names.into_iter().flatten() {
                ours |= self.rec.link_changed(name, now);
            }
        }
        if ours {
            // What the kernel sends to a device depends on it.
            self.dp.collect();
            self.settle_queues(false);
            self.settle();
            self.write_status();
        }
    }

    /// A frame came over a simulated device's cable.
    fn frame_arrived(&mut self, name: &str, frame: &[u8]) {
        let sim = self.rec.host.sim.as_mut();
        if let Some(device) = sim.and_then(|s| s.get_mut(name)) {
            device.receive(frame);
            self.settle();
        }
    }

    /// A simulated device came, went or changed.
    pub fn link_changed(&mut self, name: &str) {
        if self.rec.link_changed(name, self.clock.now()) {
            self.settle_queues(false);
            self.settle();
            self.write_status();
        }
    }

    /// Lets what was set in motion come to rest: events are delivered, and in the simulated world,
    /// where nobody else does, packets processed.
    pub fn settle(&mut self) {
        self.deliver_events();
        if self.rec.host.sim.is_none() {
            return;
        }
        for _ in 0..MAX_TURNS {
            let n = self.dp.poll(self.clock.now());
            self.deliver_events();
            let answered = self.rec.host.sim.as_mut().is_some_and(Sim::collect);
            if n == 0 && !answered {
                return;
            }
        }
        log!(Warn, NetdevDummy, "packets go in circles; the rest of them waits");
    }

    /// Takes the bridges' events to controllers, the datapath and devices.
    fn deliver_events(&mut self) {
        let now = self.clock.now();
        loop {
            let events: Vec<_> = {
                let mut switch = self.world.switch.write();
                let of = |b: &mut ofproto::Bridge| (b.id, b.take_events());
                switch.bridges_mut().map(of).filter(|(_, e)| !e.is_empty()).collect()
            };
            let packet_ins = self.world.take_packet_ins();
            if events.is_empty() && packet_ins.is_empty() {
                return;
            }
            for (id, packet_in) in packet_ins {
                self.connections.notify(now, id, &packet_in);
            }
            for (id, events) in events {
                for event in events {
                    match event {
                        ofproto::Event::Debug(lines) => {
                            for line in lines {
                                log!(Dbg, OfprotoDpif, "{line}");
                            }
                        }
                        ofproto::Event::Execute(x) => {
                            self.dp.execute(now, &x.packet, &x.key, &x.actions);
                        }
                        ofproto::Event::SetPortAdmin { port, up } => {
                            self.rec.set_admin(id, port, up, now);
                        }
                        other => self.connections.notify(now, id, &other),
                    }
                }
            }
        }
    }

    /// Does what is due. Also after each step of a warp of the clock.
    pub fn tick(&mut self) {
        let now = self.clock.now();
        let due = self.world.switch.read().next_timeout().is_some_and(|t| t <= now);
        if due {
            self.dp.push_stats();
            let mut switch = self.world.switch.write();
            for bridge in switch.bridges_mut() {
                bridge.expire(now);
            }
            drop(switch);
            self.settle();
        }
        let generation = self.world.switch.read().generation();
        if now >= self.due.revalidate || generation != self.due.generation {
            self.due.revalidate = now + REVALIDATE;
            self.due.generation = generation;
            self.revalidate(now);
        }
        self.conntrack_tick(now);
        self.looker.forget_unless_asked(std::time::Instant::now());
        self.follow_in_band(now);
        self.openflow_tick(now);
        let news = self.managers.as_ref().is_some_and(|m| m.borrow_mut().tick(now));
        if news {
            self.write_managers(now);
        }
        if self.coverage.is_due(now) {
            let counters = self.counters();
            self.coverage.sample(now, &counters);
        }
        if self.pmd.is_due(now) {
            let (dp, stats) = (&self.dp, |worker| self.dp.worker_stats(worker));
            self.pmd.sample(now, &dp.workers(), &dp.queues(), stats);
            if self.crew.is_unbalanced(&self.rec, &self.dp, &self.pmd, now) {
                self.settle_queues(true);
            }
        }
        if now >= self.due.statistics + self.statistics_interval() {
            self.due.statistics = now;
            self.write_statistics();
        }
        if now >= self.due.housekeeping {
            self.due.housekeeping = now + HOUSEKEEPING;
            self.world.collect_recircs(now);
            self.tell_of_big_fragments();
            self.write_controllers(now);
            self.write_managers(now);
        }
    }

    fn statistics_interval(&self) -> Duration {
        let ms = self.config.other_config.get("stats-update-interval");
        let ms = ms.and_then(|ms| ms.parse().ok()).map_or(STATISTICS, Duration::from_millis);
        ms.max(STATISTICS)
    }

    /// Looks through the megaflows: wrong ones are replaced, unused ones go.
    pub fn revalidate(&mut self, now: Instant) {
        if self.revalidation_paused {
            return;
        }
        let before = dplog::wants_flows().then(|| self.dp.flows());
        self.dp.revalidate(now);
        let max_idle = self.config.other_config.get("max-idle").and_then(|ms| ms.parse().ok());
        self.dp.expire(now, max_idle.map_or(MAX_IDLE, Duration::from_millis));
        if let Some(before) = before {
            let name = self.datapath_name();
            dplog::dumped(name, &before, now);
            dplog::changed(name, &before, &self.dp.flows(), now);
        }
    }

    fn conntrack_tick(&mut self, now: Instant) {
        let wanted = self.connlog.is_wanted(now);
        let ct = self.dp.conntrack();
        if wanted != self.due.ct_events {
            ct.set_events(if wanted { CT_EVENTS } else { 0 });
            self.due.ct_events = wanted;
        }
        self.expire_connections();
        self.dp.purge_fragments(now);
        if wanted {
            let accounting = self.ct_accounting();
            let ct = self.dp.conntrack();
            ct.drain_events(|e| self.connlog.push(&e, accounting));
            self.connlog.answer(now);
        }
    }

    /// Lets go of some connections whose time is over.
    fn expire_connections(&mut self) {
        self.due.connections = self.dp.conntrack().expire(self.clock.now(), CT_BUDGET);
    }

    /// Says that datagrams were too large to be tracked, since the last time.
    fn tell_of_big_fragments(&mut self) {
        for (v6, told) in self.due.big_fragments.iter_mut().enumerate() {
            let n = self.dp.fragments().counters(v6 == 1).too_big;
            let new = n - std::mem::replace(told, n);
            if new > 0 {
                let version = ["v4", "v6"][v6];
                log!(
                    Warn,
                    Ipf,
                    "Unsupported big reassembled {version} packet: refused {new} fragments"
                );
            }
        }
    }

    /// Whether listings of connections show their traffic.
    pub fn ct_accounting(&self) -> bool {
        self.config.other_config.get("ct-acct").is_some_and(|v| v == "true")
    }

    /// Collects connection events from now on.
    pub fn want_connection_events(&mut self) {
        let now = self.clock.now();
        self.connlog.seq(now);
        self.conntrack_tick(now);
    }

    /// `TYPE@NAME` of the datapath.
    pub fn datapath_name(&self) -> &'static str {
        self.world.datapath_name()
    }

    /// Name of a datapath port.
    pub fn dp_port_name(&self, port: DpPort) -> Option<String> {
        if port == crate::reconcile::DP_LOCAL {
            return self.datapath_name().split('@').nth(1).map(str::to_owned);
        }
        self.rec.by_dp_port(port).map(|(name, _)| name.to_owned())
    }

    /// Gives back what the host lent.
    fn shut_down(&mut self) {
        let names: Vec<String> = self.rec.bridges.keys().cloned().collect();
        for name in names {
            self.connections.close_bridge(&name);
        }
        let now = self.clock.now();
        self.rec.apply(&Config::default(), now);
    }
}
