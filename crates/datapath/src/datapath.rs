//! The datapath as the control plane sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;

use base::{DpPort, Duration, HashKey, Instant};
use conntrack::CtConfig;
use conntrack::frag::FragConfig;
use dpif::{DpAction, DropReason, Megaflow, SlowPath};
use ebpf::KernelPath;
use flow::PacketKey;
use netdev::{Errno, Port, TxQueue};
use packet::PacketBuf;
use parking_lot::Mutex;

use crate::ct::CtTable;
use crate::engine::{Engine, Shared};
use crate::fragments::FragTable;
use crate::kernel::{Kernel, KernelMode, KernelStats};
use crate::meter::Meters;
use crate::registry::Registry;
use crate::stats::{DpStats, WorkerStats};
use crate::worker::{Clock, Command, EventSink, Rx, Worker};
use crate::workers::{Handle, Runs, Workers};

/// Largest datapath port number.
pub const MAX_PORT: DpPort = DpPort(0xffff);

/// Most workers at a time.
pub const MAX_WORKERS: usize = 64;

/// Number of what runs on the control plane's thread ([`Datapath::execute`]) where workers are numbered.
pub const CONTROL: usize = 0;

/// How a datapath is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads to begin with; see [`Datapath::set_workers`]. 0: none, also later; whoever calls
    /// [`Datapath::poll`] does the work (tests, `dummy`).
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
    /// Shards of the connection table, at least; four for each thread to begin with where there are several.
    /// With few of them many packets of a batch are tracked under one lock; with many, threads seldom meet at one.
    pub ct_shards: usize,
    /// Settings of the connection table.
    pub ct: CtConfig,
    /// The meters, which the slow path knows too.
    pub meters: Arc<Meters>,
    /// What forwards known connections in the kernel; the slow path's generation is [there](KernelPath::generation).
    pub kernel: Option<Arc<KernelPath>>,
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
            kernel: None,
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
    /// A thread cannot run on that processor.
    #[error("cannot run a datapath thread on processor {cpu} ({1})", cpu = .0.0)]
    Pin(Cpu, Errno),
    /// There are [`MAX_WORKERS`] already.
    #[error("more than {MAX_WORKERS} datapath threads cannot be had")]
    TooManyWorkers,
    /// The port number is in use or too large.
    #[error("datapath port {} cannot be used: it is taken or above {}", .0.0, MAX_PORT.0)]
    PortNumber(DpPort),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] netdev::Error),
}

/// Number of what the kernel forwards where workers are numbered.
pub const KERNEL: usize = MAX_WORKERS + 1;

/// A processor, by the kernel's number.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(pub usize);

/// A worker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WorkerUse {
    /// Its number, from 1. One that is free again is given again.
    pub number: usize,
    /// The processor that it runs on, if not wherever the system puts it.
    pub cpu: Option<Cpu>,
}

/// A receive queue and who polls it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueUse {
    /// The port whose queue it is.
    pub port: DpPort,
    /// Which of its queues.
    pub queue: u32,
    /// The worker that polls it.
    pub worker: usize,
    /// Nanoseconds spent on its packets, by samples.
    pub busy_ns: u64,
}

/// A running datapath.
///
/// Methods that wait for workers ([`Datapath::open_port`], [`Datapath::receive`], [`Datapath::remove_port`],
/// [`Datapath::set_workers`], [`Datapath::place`]) must not be called with a lock held that the slow path takes.
pub struct Datapath {
    shared: Arc<Shared>,
    /// What new workers are made from.
    config: Config,
    clock: Clock,
    events: EventSink,
    workers: Mutex<Workers>,
    /// For packets that the control plane sends.
    control: Mutex<Engine>,
}

impl std::fmt::Debug for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datapath").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Datapath {
    /// A datapath without ports.
    pub fn new(
        config: &Config,
        slow: Arc<dyn SlowPath>,
        clock: Clock,
        events: EventSink,
    ) -> Result<Datapath, Error> {
        // Before any of them has a processor of its own.
        netdev::cpu::available();
        let n_workers = config.n_threads.max(1);
        let for_threads = if n_workers > 1 { 2 * n_workers } else { 1 };
        let n_shards = config.ct_shards.max(for_threads);
        let memory = config.kernel.as_ref().map(|k| k.memory());
        let shared = Arc::new(Shared {
            kernel: config.kernel.clone().map(|path| Kernel::new(config.secret, path)),
            slow,
            registry: Registry::new(config.secret, 1, config.flow_limit),
            ct: Arc::new(CtTable::new(config.secret, config.ct, n_shards, memory)),
            fragments: FragTable::new(FragConfig::default()),
            meters: Arc::clone(&config.meters),
            stats: (0..=KERNEL).map(|_| WorkerStats::new()).collect(),
        });
        let control = Mutex::new(Engine::new(CONTROL, Arc::clone(&shared), config));
        let (config, workers) = (config.clone(), Mutex::default());
        let dp = Datapath { shared, config, clock, events, workers, control };
        dp.shared.registry.grow_writers(n_workers + 1);
        for number in 1..=n_workers.min(MAX_WORKERS) {
            let worker = dp.start(number, None)?;
            dp.workers.lock().join(worker, Vec::new());
        }
        Ok(dp)
    }

    /// Makes the workers those that are wanted: one for each place, on that processor or wherever the system puts
    /// it. Those that are there already stay; the queues of those that go are shared out among the others without
    /// a packet lost or out of order. `open_tx` opens another send queue of a port ([`Port::open_tx`]). Without
    /// threads the processors are names. Returns whether anything changed.
    ///
    /// # Errors
    /// A worker or one of its send queues cannot be had: then all is as it was. A port whose device is gone
    /// (`ENODEV`, `ENXIO`) has none and does not count.
    pub fn set_workers(
        &self,
        wanted: &[Option<Cpu>],
        open_tx: &dyn Fn(DpPort) -> Result<Box<dyn TxQueue>, netdev::Error>,
    ) -> Result<bool, Error> {
        let mut workers = self.workers.lock();
        let (missing, leaving) = workers.difference(wanted);
        if missing.is_empty() && leaving.is_empty() {
            return Ok(false);
        }
        let mut new: Vec<(Handle, Vec<_>)> = Vec::new();
        for cpu in missing {
            let mut queues = Vec::new();
            for port in workers.port_numbers() {
                match open_tx(port) {
                    Ok(queue) => queues.push((port, queue)),
                    Err(e) if e.is_gone() => {}
                    Err(e) => return Err(e.into()),
                }
            }
            let taken: Vec<_> = new.iter().map(|(h, _)| h.number).collect();
            let number = workers.free_number(&taken)?;
            new.push((self.start(number, cpu)?, queues));
        }
        let most = new.iter().map(|(h, _)| h.number).max();
        // Flows that have no counters for the new ones would be counted by all of them in one place.
        let grows = most.is_some_and(|n| self.shared.registry.grow_writers(n + 1));
        new.into_iter().for_each(|(handle, queues)| workers.join(handle, queues));
        workers.sync();
        workers.dismiss(&leaving);
        if grows {
            let n = self.shared.registry.flush();
            self.after_removal(n, &workers);
        }
        Ok(true)
    }

    fn start(&self, number: usize, cpu: Option<Cpu>) -> Result<Handle, Error> {
        let (commands, receiver) = channel();
        let engine = Engine::new(number, Arc::clone(&self.shared), &self.config);
        let (clock, events) = (Arc::clone(&self.clock), Arc::clone(&self.events));
        let spin = Arc::new(AtomicU64::new(nanoseconds(self.config.spin)));
        let worker = Worker::new(engine, receiver, events, clock, spin).map_err(Error::Poller)?;
        match self.config.n_threads {
            0 => Ok(Handle::here(worker, commands, cpu)),
            _ => Handle::start(worker, commands, cpu),
        }
    }

    /// The workers, by number.
    pub fn workers(&self) -> Vec<WorkerUse> {
        self.workers.lock().list()
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
        let mut workers = self.workers.lock();
        if number > MAX_PORT || workers.port_numbers().any(|p| p == number) {
            return Err(Error::PortNumber(number));
        }
        // All queues first: a port is added whole or not at all.
        let queues: Vec<_> =
            workers.handles.iter().map(|_| port.open_tx()).collect::<Result<_, _>>()?;
        let control = port.open_tx()?;
        for (handle, queue) in workers.handles.iter().zip(queues) {
            handle.tell(Command::AddTx(number, queue));
        }
        self.control.lock().add_tx(number, control);
        if let Some(kernel) = &self.shared.kernel {
            kernel.add_port(number, port);
        }
        // Received packets may go to any port, so all workers must know it before.
        workers.sync();
        workers.add_port(number);
        Ok(())
    }

    /// Begins to receive from a port that was opened: its receive queues go to the workers with the
    /// fewest. Does nothing if that was done before.
    pub fn receive(&self, number: DpPort, port: &mut dyn Port) {
        let mut workers = self.workers.lock();
        if workers.receives(number) {
            return;
        }
        while let Some(queue) = port.take_rx() {
            let state = Arc::clone(port.state());
            workers.receive(number, |n| Rx::new(number, n as u32, queue, state));
        }
        workers.sync();
    }

    /// Whether a receive queue of the port has failed: then nothing is received by it any more.
    /// [`crate::Event::PortFailed`] says when to ask, but may be of a port that had the number before.
    pub fn has_failed(&self, port: DpPort) -> bool {
        self.workers.lock().has_failed(port)
    }

    /// Moves a receive queue to another worker. False if there is no such queue or worker.
    pub fn place(&self, port: DpPort, queue: u32, worker: usize) -> bool {
        self.workers.lock().place(port, queue, worker)
    }

    /// The receive queues, by port as they were added and by their numbers.
    pub fn queues(&self) -> Vec<QueueUse> {
        self.workers.lock().queues().collect()
    }

    /// Closes a port. When this returns, no worker uses its queues.
    pub fn remove_port(&self, number: DpPort) -> bool {
        let mut workers = self.workers.lock();
        if !workers.remove_port(number) {
            return false;
        }
        if let Some(kernel) = &self.shared.kernel {
            kernel.remove_port(number);
        }
        self.control.lock().remove_tx(number);
        workers.sync();
        true
    }

    /// Numbers of the ports, as they were added.
    pub fn ports(&self) -> Vec<DpPort> {
        self.workers.lock().port_numbers().collect()
    }

    /// Without threads: receives and processes one batch from each queue. Returns the number of
    /// packets.
    pub fn poll(&self, now: Instant) -> usize {
        let workers = self.workers.lock();
        workers.handles.iter().map(|w| Datapath::poll_one(w, now)).sum()
    }

    /// The same for one worker's queues.
    pub fn poll_worker(&self, number: usize, now: Instant) -> usize {
        let workers = self.workers.lock();
        let it = workers.handles.iter().find(|w| w.number == number);
        it.map_or(0, |w| Datapath::poll_one(w, now))
    }

    fn poll_one(handle: &Handle, now: Instant) -> usize {
        let Runs::Here(worker) = &handle.runs else { return 0 };
        let mut worker = worker.lock();
        worker.obey();
        worker.engine.sweep_all();
        worker.poll_all(now)
    }

    /// Runs actions on a packet now, on the calling thread. `key` gives its metadata.
    pub fn execute(&self, now: Instant, pkt: &PacketBuf, key: &PacketKey, actions: &[DpAction]) {
        let mut engine = self.control.lock();
        engine.sweep_all();
        engine.execute_one(now, pkt, key, actions);
    }

    /// All megaflows, oldest first. Their counters are alive.
    pub fn flows(&self) -> Vec<Arc<Megaflow>> {
        self.collect();
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
        self.collect();
        self.shared.registry.push_stats();
    }

    /// Removes all megaflows; how many.
    pub fn flush(&self) -> usize {
        self.after_removal(self.shared.registry.flush(), &self.workers.lock())
    }

    /// Removes megaflows unused for longer than `max_idle` (sooner above the flow limit); how
    /// many. To be called a few times a second.
    pub fn expire(&self, now: Instant, max_idle: Duration) -> usize {
        self.collect();
        self.after_removal(self.shared.registry.expire(now, max_idle), &self.workers.lock())
    }

    /// Translates megaflows of old generations again and replaces wrong ones; how many were.
    pub fn revalidate(&self, now: Instant) -> usize {
        let n = self.shared.registry.revalidate(now, &*self.shared.slow);
        self.after_removal(n, &self.workers.lock())
    }

    fn after_removal(&self, n: usize, workers: &Workers) -> usize {
        if n > 0 {
            self.collect();
            workers.sweep();
            self.control.lock().sweep_all();
        }
        n
    }

    /// Brings home what the kernel counted of the packets that it forwarded: flows, ports and the tracker have it then.
    pub fn collect(&self) {
        if let Some(kernel) = &self.shared.kernel {
            kernel.collect(&self.clock, &self.shared.ct, &self.shared.stats[KERNEL]);
        }
    }

    /// The same for those who read the counters of one port after the other.
    pub fn collect_now_and_then(&self) {
        if let Some(kernel) = &self.shared.kernel {
            kernel.collect_now_and_then(&self.clock, &self.shared.ct, &self.shared.stats[KERNEL]);
        }
    }

    /// From now on the kernel may forward so much.
    pub fn set_kernel_mode(&self, mode: KernelMode) {
        if self.shared.kernel.as_ref().is_some_and(|k| k.set_mode(mode)) {
            self.collect();
        }
    }

    /// How much the kernel forwards, if it does at all.
    pub fn kernel_stats(&self) -> Option<KernelStats> {
        self.collect();
        self.shared.kernel.as_ref().map(Kernel::stats)
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
        self.collect();
        let mut sum = DpStats::default();
        self.shared.stats.iter().for_each(|s| sum.add(&s.read()));
        sum
    }

    /// Counters of a worker, or of [`CONTROL`]: of all that had its number.
    pub fn worker_stats(&self, number: usize) -> DpStats {
        self.shared.stats.get(number).map(WorkerStats::read).unwrap_or_default()
    }

    /// How long a worker looks for more packets before it sleeps, at most; with [`Duration::MAX`] it never sleeps. A
    /// new one begins with [`Config::spin`].
    pub fn set_spin(&self, worker: usize, spin: Duration) {
        let workers = self.workers.lock();
        let Some(handle) = workers.handles.iter().find(|w| w.number == worker) else { return };
        let ns = nanoseconds(spin);
        if handle.spin.swap(ns, Relaxed) != ns {
            handle.waker.wake();
        }
    }

    /// Gives a worker's thread a real-time priority from 1 to 99, or makes it an ordinary one (0), if it is not that
    /// already. A new one is.
    ///
    /// # Errors
    /// Those of [`netdev::cpu::set_realtime`]; they are not told again until another priority is asked for.
    pub fn set_realtime(&self, worker: usize, priority: u8) -> Result<(), netdev::Errno> {
        let mut workers = self.workers.lock();
        let handle = workers.handles.iter_mut().find(|w| w.number == worker);
        handle.map_or(Ok(()), |h| h.set_realtime(priority))
    }
}

fn nanoseconds(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
