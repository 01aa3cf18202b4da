//! The datapath as the control plane sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use base::{DpPort, Duration, HashKey, Instant};
use conntrack::CtConfig;
use conntrack::frag::FragConfig;
use dpif::{DpAction, DropReason, Megaflow, SlowPath};
use flow::PacketKey;
use netdev::Port;
use netdev::poll::Waker;
use packet::PacketBuf;
use parking_lot::Mutex;

use crate::ct::CtTable;
use crate::engine::{Engine, Shared};
use crate::fragments::FragTable;
use crate::meter::Meters;
use crate::registry::Registry;
use crate::stats::{DpStats, WorkerStats};
use crate::worker::{Clock, Command, EventSink, Worker};

/// Largest datapath port number.
pub const MAX_PORT: DpPort = DpPort(0xffff);

/// How a datapath is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads. 0: none; whoever calls [`Datapath::poll`] does the work (tests, `dummy`).
    ///
    /// One by default: on two processors, which the guests need too, a second one gained about a
    /// tenth for one TCP stream, lost as little of the connections per second, and made the round
    /// trip half as long again, for a packet's answer comes in on another thread, which sleeps.
    pub n_threads: usize,
    /// Key of all hash tables that strangers' packets fill: drawn at random by the daemon.
    pub secret: HashKey,
    /// Most megaflows.
    pub flow_limit: usize,
    /// How long a worker looks for more packets before it sleeps, at most.
    pub spin: Duration,
    /// Whether the exact-match cache is used.
    pub exact_cache: bool,
    /// Most entries of a worker's connection cache for each IP version, 64 and 128 bytes each; 0 for none.
    pub conn_cache: usize,
    /// Shards of the connection table, at least; eight for each thread where there are several. With few of
    /// them many packets of a batch are tracked under one lock; with many, threads seldom meet at one.
    pub ct_shards: usize,
    /// Settings of the connection table.
    pub ct: CtConfig,
    /// The meters, which the slow path knows too.
    pub meters: Arc<Meters>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            n_threads: 1,
            secret: HashKey::default(),
            flow_limit: 200_000,
            spin: Duration::from_micros(40),
            exact_cache: true,
            conn_cache: 1 << 19,
            ct_shards: 4,
            ct: CtConfig::default(),
            meters: Arc::default(),
        }
    }
}

/// A thread could not be started or its poller not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a thread.
    #[error("cannot start datapath thread: {0}")]
    Thread(std::io::Error),
    /// The system refused a descriptor.
    #[error("cannot make the poll set of a datapath thread ({0})")]
    Poller(netdev::Errno),
    /// The port number is in use or too large.
    #[error("datapath port {} cannot be used: it is taken or above {}", .0.0, MAX_PORT.0)]
    PortNumber(DpPort),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] netdev::Error),
}

#[derive(Debug)]
struct Handle {
    commands: Sender<Command>,
    waker: Waker,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Thread(Option<JoinHandle<()>>),
    /// No thread: whoever has something to do locks it.
    Here(Box<Mutex<Worker>>),
}

#[derive(Debug)]
struct PortEntry {
    port: DpPort,
    worker: usize,
    /// Nanoseconds that the worker spent on its packets; `None` until something is received.
    busy_ns: Option<Arc<AtomicU64>>,
}

/// A receive queue and who polls it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueUse {
    /// The port whose queue it is.
    pub port: DpPort,
    /// The worker that polls it.
    pub worker: usize,
    /// Nanoseconds spent on its packets, by samples.
    pub busy_ns: u64,
}

/// A running datapath.
///
/// Methods that wait for workers ([`Datapath::open_port`], [`Datapath::receive`],
/// [`Datapath::remove_port`]) must not be called with a lock held that the slow path takes.
#[derive(Debug)]
pub struct Datapath {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    /// For packets that the control plane sends.
    control: Mutex<Engine>,
    ports: Mutex<Vec<PortEntry>>,
    spin: Arc<AtomicU64>,
}

impl Datapath {
    /// A datapath without ports.
    pub fn new(
        config: &Config,
        slow: Arc<dyn SlowPath>,
        clock: Clock,
        events: EventSink,
    ) -> Result<Datapath, Error> {
        let n_workers = config.n_threads.max(1);
        let n_writers = n_workers + 1;
        let for_threads = if n_workers > 1 { 8 * n_workers } else { 1 };
        let n_shards = config.ct_shards.max(for_threads);
        let shared = Arc::new(Shared {
            slow,
            registry: Registry::new(n_writers, config.flow_limit),
            ct: Arc::new(CtTable::new(config.secret, config.ct, n_shards)),
            fragments: FragTable::new(FragConfig::default()),
            meters: Arc::clone(&config.meters),
            stats: (0..n_writers).map(|_| WorkerStats::new()).collect(),
        });
        let spin = Arc::new(AtomicU64::new(config.spin.as_nanos() as u64));
        let engine = |id| Engine::new(id, Arc::clone(&shared), config);
        let mut workers = Vec::with_capacity(n_workers);
        for id in 0..n_workers {
            let (commands, receiver) = channel();
            let (clock, events) = (Arc::clone(&clock), Arc::clone(&events));
            let mut worker = Worker::new(engine(id), receiver, events, clock, Arc::clone(&spin))
                .map_err(Error::Poller)?;
            let waker = worker.waker();
            let runs = if config.n_threads == 0 {
                Runs::Here(Box::new(Mutex::new(worker)))
            } else {
                let thread = std::thread::Builder::new().name(format!("datapath{id}"));
                let joiner = thread.spawn(move || worker.run()).map_err(Error::Thread)?;
                Runs::Thread(Some(joiner))
            };
            workers.push(Handle { commands, waker, runs });
        }
        let control = Mutex::new(engine(n_workers));
        Ok(Datapath { shared, workers, control, ports: Mutex::default(), spin })
    }

    /// Opens a port, to send and to receive: [`Datapath::open_port`], [`Datapath::receive`].
    pub fn add_port(&self, number: DpPort, port: &mut dyn Port) -> Result<(), Error> {
        self.open_port(number, port)?;
        self.receive(number, port);
        Ok(())
    }

    /// Opens a port: a send queue goes to each worker. Nothing is received from it before
    /// [`Datapath::receive`], so that its first frame meets tables that know the port.
    pub fn open_port(&self, number: DpPort, port: &dyn Port) -> Result<(), Error> {
        let mut ports = self.ports.lock();
        if number > MAX_PORT || ports.iter().any(|p| p.port == number) {
            return Err(Error::PortNumber(number));
        }
        // All queues first: a port is added whole or not at all.
        let queues: Vec<_> =
            self.workers.iter().map(|_| port.open_tx()).collect::<Result<_, _>>()?;
        let control = port.open_tx()?;
        let load = |w: usize| ports.iter().filter(|p| p.worker == w).count();
        let worker = (0..self.workers.len()).min_by_key(|&w| load(w)).unwrap_or(0);
        for (handle, queue) in self.workers.iter().zip(queues) {
            handle.tell(Command::AddTx(number, queue));
        }
        self.control.lock().add_tx(number, control);
        // Received packets may go to any port, so all workers must know it before.
        self.sync();
        ports.push(PortEntry { port: number, worker, busy_ns: None });
        Ok(())
    }

    /// Begins to receive from a port that was opened: its receive queue goes to the worker with the
    /// fewest ports, further ones to the workers after it. Does nothing if that was done before.
    pub fn receive(&self, number: DpPort, port: &mut dyn Port) {
        let mut ports = self.ports.lock();
        let Some(entry) = ports.iter_mut().find(|p| p.port == number) else { return };
        let queues = std::iter::from_fn(|| port.take_rx()).collect::<Vec<_>>();
        if queues.is_empty() {
            return;
        }
        let busy_ns = entry.busy_ns.get_or_insert_default();
        for (i, rx) in queues.into_iter().enumerate() {
            let (state, busy_ns) = (Arc::clone(port.state()), Arc::clone(busy_ns));
            let worker = &self.workers[(entry.worker + i) % self.workers.len()];
            worker.tell(Command::AddRx(number, rx, state, busy_ns));
        }
        self.sync();
    }

    /// The receive queues.
    pub fn queues(&self) -> Vec<QueueUse> {
        let ports = self.ports.lock();
        let queue = |p: &PortEntry| {
            let busy_ns = p.busy_ns.as_ref()?.load(Relaxed);
            Some(QueueUse { port: p.port, worker: p.worker, busy_ns })
        };
        ports.iter().filter_map(queue).collect()
    }

    /// Closes a port. When this returns, no worker uses its queues.
    pub fn remove_port(&self, number: DpPort) -> bool {
        let mut ports = self.ports.lock();
        let Some(at) = ports.iter().position(|p| p.port == number) else { return false };
        ports.remove(at);
        self.workers.iter().for_each(|w| w.tell(Command::RemovePort(number)));
        self.control.lock().remove_tx(number);
        self.sync();
        true
    }

    /// Numbers of the ports, each with the worker that receives from it.
    pub fn ports(&self) -> Vec<(DpPort, usize)> {
        self.ports.lock().iter().map(|p| (p.port, p.worker)).collect()
    }

    /// Waits until all workers have done what they were told.
    fn sync(&self) {
        let waits: Vec<_> = (self.workers.iter())
            .map(|w| {
                let (sender, receiver) = channel();
                w.tell(Command::Sync(sender));
                receiver
            })
            .collect();
        // A worker that is gone answers by dropping its end.
        for wait in waits {
            let _ = wait.recv();
        }
    }

    /// Without threads: receives and processes one batch from each port. Returns the number of
    /// packets.
    pub fn poll(&self, now: Instant) -> usize {
        let mut n = 0;
        for w in &self.workers {
            if let Runs::Here(worker) = &w.runs {
                let mut worker = worker.lock();
                worker.obey();
                worker.engine.sweep();
                n += worker.poll_all(now);
            }
        }
        n
    }

    /// Runs actions on a packet now, on the calling thread. `key` gives its metadata.
    pub fn execute(&self, now: Instant, pkt: &PacketBuf, key: &PacketKey, actions: &[DpAction]) {
        let mut engine = self.control.lock();
        engine.sweep();
        engine.execute_one(now, pkt, key, actions);
    }

    /// All megaflows, oldest first. Their counters are alive.
    pub fn flows(&self) -> Vec<Arc<Megaflow>> {
        self.shared.registry.list()
    }

    /// How many megaflows there are.
    pub fn n_flows(&self) -> usize {
        self.shared.registry.len()
    }

    /// Most megaflows that are kept.
    pub fn flow_limit(&self) -> usize {
        self.shared.registry.limit()
    }

    /// Sets [`Datapath::flow_limit`].
    pub fn set_flow_limit(&self, limit: usize) {
        self.shared.registry.set_limit(limit);
    }

    /// Hands all that was counted to the flows' credits, also of flows that are gone.
    pub fn push_stats(&self) {
        self.shared.registry.push_stats();
    }

    /// Removes all megaflows; how many.
    pub fn flush(&self) -> usize {
        self.after_removal(self.shared.registry.flush())
    }

    /// Removes megaflows unused for longer than `max_idle` (sooner above the flow limit); how
    /// many. To be called a few times a second.
    pub fn expire(&self, now: Instant, max_idle: Duration) -> usize {
        self.after_removal(self.shared.registry.expire(now, max_idle))
    }

    /// Translates megaflows of old generations again and replaces wrong ones; how many were.
    pub fn revalidate(&self, now: Instant) -> usize {
        let n = self.shared.registry.revalidate(now, &*self.shared.slow);
        self.after_removal(n)
    }

    /// Workers let go of removed flows, also those that sleep.
    fn after_removal(&self, n: usize) -> usize {
        if n > 0 {
            for w in &self.workers {
                match &w.runs {
                    Runs::Thread(_) => w.waker.wake(),
                    Runs::Here(worker) => {
                        if let Some(mut w) = worker.try_lock() {
                            w.engine.sweep();
                        }
                    }
                }
            }
            self.control.lock().sweep();
        }
        n
    }

    /// The connection table.
    pub fn conntrack(&self) -> &Arc<CtTable> {
        &self.shared.ct
    }

    /// The fragments that wait for the rest of their datagrams.
    pub fn fragments(&self) -> &FragTable {
        &self.shared.fragments
    }

    /// Drops fragments that have waited for long while no packet came to let them expire. To be called every few
    /// seconds.
    pub fn purge_fragments(&self, now: Instant) {
        let n = self.shared.fragments.purge(now);
        if n > 0 {
            self.control.lock().drop_packets(DropReason::FragmentExpired, n);
        }
    }

    /// Counters of all workers together.
    pub fn stats(&self) -> DpStats {
        let mut sum = DpStats::default();
        self.shared.stats.iter().for_each(|s| sum.add(&s.read()));
        sum
    }

    /// Counters of each worker; the last are those of [`Datapath::execute`].
    pub fn worker_stats(&self) -> Vec<DpStats> {
        self.shared.stats.iter().map(WorkerStats::read).collect()
    }

    /// How long workers look for more packets before they sleep, at most.
    pub fn set_spin(&self, spin: Duration) {
        self.spin.store(spin.as_nanos() as u64, Relaxed);
        self.workers.iter().for_each(|w| w.waker.wake());
    }
}

impl Handle {
    fn tell(&self, command: Command) {
        // A worker that is gone needs no commands.
        let _ = self.commands.send(command);
        match &self.runs {
            Runs::Thread(_) => self.waker.wake(),
            Runs::Here(worker) => {
                worker.lock().obey();
            }
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.workers.iter().for_each(|w| w.tell(Command::Stop));
        for w in &mut self.workers {
            if let Runs::Thread(joiner) = &mut w.runs
                && let Some(joiner) = joiner.take()
            {
                // A worker that panicked has said so already.
                let _ = joiner.join();
            }
        }
    }
}
