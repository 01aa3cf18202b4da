//! The workers that there are, and which of them has which receive queue.
//!
//! Workers come and go while packets flow. A queue goes from one to another between two batches: the one lets
//! go of it with all its packets sent before the other takes it, so packets of a queue stay in their order and
//! its device stays open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use base::DpPort;
use netdev::poll::Waker;
use netdev::{Errno, TxQueue};
use parking_lot::Mutex;

use crate::ct;
use crate::datapath::{Cpu, Error, MAX_WORKERS, QueueUse, WorkerUse};
use crate::worker::{Command, Rx, Worker};

/// A worker as the control plane holds it. Ends with it.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Which counters are its own; from 1.
    pub(crate) number: usize,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) waker: Waker,
    /// Nanoseconds that it looks for packets before it sleeps, at most.
    pub(crate) spin: Arc<AtomicU64>,
    /// The kernel's number of its thread.
    thread: Option<i32>,
    /// Its real-time priority, as it was asked for.
    realtime: u8,
    commands: Sender<Command>,
    pub(crate) runs: Runs,
}

/// Where a worker runs.
#[derive(Debug)]
pub(crate) enum Runs {
    Thread(Option<JoinHandle<()>>),
    /// No thread: whoever has something to do locks it.
    Here(Box<Mutex<Worker>>),
}

impl Handle {
    /// Starts a worker on a thread of its own, on that processor if one is given.
    pub(crate) fn start(
        mut worker: Worker,
        commands: Sender<Command>,
        cpu: Option<Cpu>,
    ) -> Result<Handle, Error> {
        let (number, waker, spin) = (worker.engine.id, worker.waker(), worker.spin());
        let (pinned, is_pinned) = channel();
        let thread = std::thread::Builder::new().name(format!("datapath{number}"));
        let joiner = thread.spawn(move || {
            let pin = cpu.map_or(Ok(()), |c| netdev::cpu::pin(c.0));
            let may_run = pin.is_ok();
            netdev::cpu::go_before_others();
            // Whoever starts it waits for the answer, and may give it a priority from then on.
            let _ = pinned.send(pin.map(|()| netdev::cpu::thread_id()));
            if may_run {
                ct::set_lane(number);
                worker.run();
            }
        });
        let joiner = joiner.map_err(Error::Thread)?;
        let runs = Runs::Thread(Some(joiner));
        let mut handle =
            Handle { number, cpu, waker, spin, thread: None, realtime: 0, commands, runs };
        match (cpu, is_pinned.recv()) {
            (Some(cpu), Ok(Err(errno))) => return Err(Error::Pin(cpu, errno)),
            (_, answer) => handle.thread = answer.ok().and_then(Result::ok),
        }
        Ok(handle)
    }

    /// Gives its thread a real-time priority, or makes it an ordinary one (0).
    pub(crate) fn set_realtime(&mut self, priority: u8) -> Result<(), Errno> {
        let old = std::mem::replace(&mut self.realtime, priority);
        match self.thread {
            Some(thread) if old != priority => netdev::cpu::set_realtime(thread, priority),
            _ => Ok(()),
        }
    }

    /// A worker without a thread. Its processor is a name only.
    pub(crate) fn here(worker: Worker, commands: Sender<Command>, cpu: Option<Cpu>) -> Handle {
        let (number, waker, spin) = (worker.engine.id, worker.waker(), worker.spin());
        let runs = Runs::Here(Box::new(Mutex::new(worker)));
        Handle { number, cpu, waker, spin, thread: None, realtime: 0, commands, runs }
    }

    pub(crate) fn tell(&self, command: Command) {
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

impl Drop for Handle {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Runs::Thread(joiner) = &mut self.runs
            && let Some(joiner) = joiner.take()
        {
            // A worker that panicked has said so already.
            let _ = joiner.join();
        }
    }
}

#[derive(Debug)]
struct QueueEntry {
    worker: usize,
    /// Nanoseconds that workers spent on its packets.
    busy_ns: Arc<AtomicU64>,
    failed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct PortEntry {
    port: DpPort,
    /// What is received from; none before the port is complete.
    queues: Vec<QueueEntry>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    /// By number.
    pub(crate) handles: Vec<Handle>,
    ports: Vec<PortEntry>,
}

impl Workers {
    pub(crate) fn port_numbers(&self) -> impl Iterator<Item = DpPort> {
        self.ports.iter().map(|p| p.port)
    }

    /// A port, whose send queues the workers have.
    pub(crate) fn add_port(&mut self, port: DpPort) {
        self.ports.push(PortEntry { port, queues: Vec::new() });
    }

    pub(crate) fn remove_port(&mut self, port: DpPort) -> bool {
        let n = self.ports.len();
        self.ports.retain(|p| p.port != port);
        if self.ports.len() == n {
            return false;
        }
        self.handles.iter().for_each(|w| w.tell(Command::RemovePort(port)));
        true
    }

    /// Gives a queue of a port, the next, to the worker with the fewest.
    pub(crate) fn receive(&mut self, port: DpPort, queue: impl FnOnce(usize) -> Rx) {
        let Some(worker) = self.least_loaded() else { return };
        let Some(entry) = self.ports.iter_mut().find(|p| p.port == port) else { return };
        let rx = queue(entry.queues.len());
        let (busy_ns, failed) = (Arc::clone(&rx.busy_ns), Arc::clone(&rx.failed));
        entry.queues.push(QueueEntry { worker, busy_ns, failed });
        self.tell(worker, Command::AddRx(Box::new(rx)));
    }

    fn least_loaded(&self) -> Option<usize> {
        let load = |w: usize| self.queues().filter(|q| q.worker == w).count();
        self.handles.iter().map(|h| h.number).min_by_key(|&w| load(w))
    }

    /// Whether the port was given to be received from.
    pub(crate) fn receives(&self, port: DpPort) -> bool {
        self.ports.iter().any(|p| p.port == port && !p.queues.is_empty())
    }

    /// Whether a receive queue of the port has failed.
    pub(crate) fn has_failed(&self, port: DpPort) -> bool {
        let queues = self.ports.iter().filter(|p| p.port == port).flat_map(|p| &p.queues);
        queues.into_iter().any(|q| q.failed.load(Relaxed))
    }

    /// All receive queues, by port as they were added and by their numbers.
    pub(crate) fn queues(&self) -> impl Iterator<Item = QueueUse> {
        self.ports.iter().flat_map(|p| {
            p.queues.iter().zip(0..).map(|(q, queue)| QueueUse {
                port: p.port,
                queue,
                worker: q.worker,
                busy_ns: q.busy_ns.load(Relaxed),
            })
        })
    }

    pub(crate) fn list(&self) -> Vec<WorkerUse> {
        self.handles.iter().map(|h| WorkerUse { number: h.number, cpu: h.cpu }).collect()
    }

    fn tell(&self, worker: usize, command: Command) {
        if let Some(handle) = self.handles.iter().find(|h| h.number == worker) {
            handle.tell(command);
        }
    }

    /// Moves a queue to another worker. False if there is no such queue or worker.
    pub(crate) fn place(&mut self, port: DpPort, queue: u32, worker: usize) -> bool {
        if self.handles.iter().all(|h| h.number != worker) {
            return false;
        }
        let entry = self.ports.iter_mut().find(|p| p.port == port);
        let Some(entry) = entry.and_then(|p| p.queues.get_mut(queue as usize)) else {
            return false;
        };
        let from = std::mem::replace(&mut entry.worker, worker);
        if from == worker {
            return true;
        }
        let (given, taken) = channel();
        self.tell(from, Command::TakeRx(port, queue, given));
        // It comes when its last packet is sent, and not at all if its device has failed.
        if let Ok(rx) = taken.recv() {
            self.tell(worker, Command::AddRx(rx));
        }
        true
    }

    /// What differs between the workers that there are and those that are wanted.
    pub(crate) fn difference(&self, wanted: &[Option<Cpu>]) -> (Vec<Option<Cpu>>, Vec<usize>) {
        let (mut missing, mut leaving) = (wanted.to_vec(), Vec::new());
        for handle in &self.handles {
            match missing.iter().position(|cpu| *cpu == handle.cpu) {
                Some(at) => drop(missing.remove(at)),
                None => leaving.push(handle.number),
            }
        }
        (missing, leaving)
    }

    /// The lowest number that no worker has, but for those in `taken`.
    pub(crate) fn free_number(&self, taken: &[usize]) -> Result<usize, Error> {
        let is_free = |n: &usize| !taken.contains(n) && self.handles.iter().all(|h| h.number != *n);
        (1..=MAX_WORKERS).find(is_free).ok_or(Error::TooManyWorkers)
    }

    /// Workers leave, whose queues go to the others.
    pub(crate) fn dismiss(&mut self, leaving: &[usize]) {
        let (stay, leave) = std::mem::take(&mut self.handles)
            .into_iter()
            .partition::<Vec<_>, _>(|h| !leaving.contains(&h.number));
        self.handles = stay;
        let orphans: Vec<_> = self.queues().filter(|q| leaving.contains(&q.worker)).collect();
        let targets: Vec<_> = (orphans.iter())
            .filter_map(|q| {
                let to = self.least_loaded()?;
                let entry = self.ports.iter_mut().find(|p| p.port == q.port)?;
                entry.queues.get_mut(q.queue as usize)?.worker = to;
                Some((q, to))
            })
            .collect();
        for (q, to) in targets {
            let (given, taken) = channel();
            if let Some(from) = leave.iter().find(|h| h.number == q.worker) {
                from.tell(Command::TakeRx(q.port, q.queue, given));
            }
            if let Ok(rx) = taken.recv() {
                self.tell(to, Command::AddRx(rx));
            }
        }
    }

    /// A worker comes, with send queues of all ports.
    pub(crate) fn join(&mut self, handle: Handle, queues: Vec<(DpPort, Box<dyn TxQueue>)>) {
        for (port, queue) in queues {
            handle.tell(Command::AddTx(port, queue));
        }
        self.handles.push(handle);
        self.handles.sort_by_key(|h| h.number);
    }

    /// Waits until all workers have done what they were told.
    pub(crate) fn sync(&self) {
        let waits: Vec<_> = (self.handles.iter())
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

    /// Workers let go of removed flows, also those that sleep.
    pub(crate) fn sweep(&self) {
        for w in &self.handles {
            match &w.runs {
                Runs::Thread(_) => w.waker.wake(),
                Runs::Here(worker) => {
                    if let Some(mut w) = worker.try_lock() {
                        w.engine.sweep_all();
                    }
                }
            }
        }
    }
}
