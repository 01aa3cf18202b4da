//! A worker: receive queues, the engine, and the loop of its thread.
//!
//! The loop takes one batch from each ready queue that has a turn ([`Turns`]): a flooding port gets no more than its
//! share of the worker's time, whatever its packets cost. Queues whose frames are seen in memory need no
//! system call to be found, but every few rounds all are asked. Without work it looks again for a while, up to
//! `spin` and only if that paid lately ([`Spin`]), before it sleeps in the kernel without a limit; commands ring
//! a bell that ends the sleep.
//!
//! What the control plane commands is done between two rounds, when all packets of the last one are sent: so a
//! queue that goes to another worker leaves none behind.
//!
//! A queue whose device is gone is let go and reported. One that the kernel calls readable again
//! and again without there being anything to read is treated the same, so nothing spins for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use base::{DpPort, Instant};
use netdev::poll::{Poller, Spin, Waited, Waker};
use netdev::{BATCH, PortState, RxDrop, RxQueue, TxQueue};

use crate::engine::Engine;
use crate::turns::Turns;

/// Where the loop gets the time from.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What workers report to the control plane.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The port's device vanished or its queue failed: nothing is received any more.
    PortFailed(DpPort),
    /// A worker met a bug in processing a batch: its packets were lost, its caches emptied, and
    /// it goes on. The panic's message went to standard error.
    Panicked {
        /// Which worker.
        worker: usize,
    },
}

/// Takes events; called on the worker's thread and must not wait.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// Readable without anything to read, so many times in a row: the queue has failed.
const MAX_EMPTY: u32 = 1024;

/// Least time between two sweeps of the caches for removed flows, which look at every entry.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// Rounds in a row over queues that are seen to have frames, before all are asked.
const MAX_PEEKS: u32 = 8;

/// A queue that was seen so many times to have frames is set aside from the others that the kernel is asked for.
const BUSY: u32 = 256;

/// Most queues that are set aside: a sleep asks for each of them.
const MAX_ASIDE: usize = 8;

/// How long a worker sleeps that has queues without a descriptor.
const NO_FD_SLEEP: Duration = Duration::from_millis(1);

/// What the control plane tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    AddTx(DpPort, Box<dyn TxQueue>),
    AddRx(Box<Rx>),
    /// Hand back a port's queue, if it is there.
    TakeRx(DpPort, u32, Sender<Box<Rx>>),
    RemovePort(DpPort),
    /// Answer when everything before was done.
    Sync(Sender<()>),
    Stop,
}

/// A receive queue.
#[derive(Debug)]
pub(crate) struct Rx {
    port: DpPort,
    /// Which of the port's.
    number: u32,
    queue: Box<dyn RxQueue>,
    /// Not in the poller: asked each time.
    no_fd: bool,
    /// The last reception left some, probably.
    more: bool,
    /// Times that it was seen to have frames, since the last queues were set aside.
    seen: u32,
    /// Receptions in a row that brought nothing.
    empty: u32,
    /// Frames that the queue had read and refused by then.
    refused: u64,
    state: Arc<PortState>,
    /// Nanoseconds spent on its packets.
    pub(crate) busy_ns: Arc<AtomicU64>,
    /// No worker has it any more.
    pub(crate) failed: Arc<AtomicBool>,
}

impl Rx {
    pub(crate) fn new(
        port: DpPort,
        number: u32,
        queue: Box<dyn RxQueue>,
        state: Arc<PortState>,
    ) -> Rx {
        let no_fd = queue.fd().is_none();
        let (more, seen, empty, refused, busy_ns, failed) = Default::default();
        Rx { port, number, queue, no_fd, more, seen, empty, refused, state, busy_ns, failed }
    }

    /// Whether the queue looks readable for ever without there being anything to read. A frame
    /// that was read and refused is something.
    fn is_stuck(&mut self, n: usize) -> bool {
        if n > 0 || self.no_fd {
            self.empty = 0;
            return false;
        }
        self.empty += 1;
        if self.empty <= MAX_EMPTY {
            return false;
        }
        let counters = self.state.counters();
        let refused = [RxDrop::Runt, RxDrop::Truncated, RxDrop::UnknownOffload]
            .iter()
            .map(|&r| counters.rx_drop(r))
            .sum();
        self.empty = 0;
        std::mem::replace(&mut self.refused, refused) == refused
    }
}

/// A worker.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    rx: Vec<Option<Box<Rx>>>,
    n_no_fd: usize,
    poller: Poller,
    ready: Vec<u64>,
    turns: Turns,
    /// Which queue the time goes to, and since when.
    current: Option<(usize, Instant)>,
    commands: Receiver<Command>,
    events: EventSink,
    clock: Clock,
    /// Nanoseconds.
    spin: Arc<AtomicU64>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(
        engine: Engine,
        commands: Receiver<Command>,
        events: EventSink,
        clock: Clock,
        spin: Arc<AtomicU64>,
    ) -> Result<Worker, netdev::Errno> {
        Ok(Worker {
            engine,
            rx: Vec::new(),
            n_no_fd: 0,
            poller: Poller::new()?,
            ready: Vec::new(),
            turns: Turns::default(),
            current: None,
            commands,
            events,
            clock,
            spin,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Nanoseconds that it looks for packets before it sleeps, at most. Whoever changes them wakes it.
    pub(crate) fn spin(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.spin)
    }

    /// The loop of a worker's thread.
    pub(crate) fn run(&mut self) {
        let mut last = std::time::Instant::now();
        let mut last_sweep = last;
        let mut spin_max = self.spin.load(Relaxed);
        let mut spin = Spin::new(Duration::from_nanos(spin_max));
        let mut n_peeked = 0;
        loop {
            if !self.obey() {
                return;
            }
            if self.engine.sweep_is_due() && last_sweep.elapsed() >= SWEEP_EVERY {
                self.engine.sweep();
                last_sweep = std::time::Instant::now();
            }
            let wanted = self.spin.load(Relaxed);
            if wanted != spin_max {
                (spin_max, spin) = (wanted, Spin::new(Duration::from_nanos(wanted)));
            }
            let timeout = match (self.n_no_fd, self.engine.sweep_is_due()) {
                (0, false) => None,
                (0, true) => Some(SWEEP_EVERY),
                _ => Some(NO_FD_SLEEP),
            };
            n_peeked = if n_peeked < MAX_PEEKS && self.peek() { n_peeked + 1 } else { 0 };
            let mut waited = Waited::default();
            if n_peeked == 0 {
                let rx = &self.rx;
                let rx_at = |at: u64| rx.get(at as usize).and_then(Option::as_ref);
                let has_frames = |at| rx_at(at).is_some_and(|rx| rx.queue.is_ready());
                match self.poller.wait_spinning(&mut spin, timeout, &mut self.ready, has_frames) {
                    Ok(w) => waited = w,
                    // Only a broken descriptor set can fail here; do not spin on it.
                    Err(_) => std::thread::sleep(NO_FD_SLEEP),
                }
            }
            let is_busy = self.poll_guarded(waited) > 0;
            let now = std::time::Instant::now();
            self.account(is_busy, now - last, waited);
            last = now;
        }
    }

    /// Counts a turn of the loop that took `spent`.
    fn account(&self, is_busy: bool, spent: Duration, waited: Waited) {
        let stats = self.engine.stats();
        let ns = |d: Duration| d.as_nanos() as u64;
        let busy = if is_busy {
            stats.busy_polls.add(1);
            spent.saturating_sub(waited.slept + waited.looked)
        } else {
            stats.idle_polls.add(1);
            Duration::ZERO
        };
        stats.busy_ns.add(ns(busy));
        if waited != Waited::default() || !is_busy {
            stats.sleeps.add(u64::from(!waited.slept.is_zero()));
            stats.sleep_ns.add(ns(waited.slept));
            stats.idle_ns.add(ns(spent.saturating_sub(busy + waited.slept)));
        }
    }

    /// Collects the queues that are seen to have frames, and those that should have; whether there are any of the first.
    fn peek(&mut self) -> bool {
        let (mut any, mut busy) = (false, None);
        self.ready.clear();
        for (at, rx) in self.rx.iter_mut().enumerate() {
            let Some(rx) = rx else { continue };
            let is_ready = rx.queue.is_ready();
            any |= is_ready;
            if is_ready && rx.seen < BUSY && busy.is_none() {
                rx.seen += 1;
                busy = (rx.seen == BUSY).then_some(at);
            }
            if is_ready || rx.more {
                self.ready.push(at as u64);
            }
        }
        if let Some(at) = busy {
            self.set_aside(at);
        }
        any
    }

    /// Spares those who send to a queue what it costs them to tell of it.
    #[cold]
    fn set_aside(&mut self, at: usize) {
        if self.poller.aside().len() == MAX_ASIDE {
            // Let the busiest find each other again.
            for at in self.poller.aside().to_vec() {
                self.put_back(at as usize);
            }
        }
        let fd = self.rx[at].as_ref().and_then(|rx| rx.queue.fd());
        // One that cannot be is found where it was.
        fd.map(|fd| self.poller.set_aside(fd, at as u64));
    }

    /// Undoes [`Worker::set_aside`].
    fn put_back(&mut self, at: usize) {
        let Some(rx) = self.rx[at].as_mut() else { return };
        rx.seen = 0;
        let Some(fd) = rx.queue.fd() else { return };
        let back = self.poller.remove(fd).and_then(|()| self.poller.add(fd, at as u64));
        if back.is_err()
            && let Some(rx) = self.remove_rx(at)
        {
            self.report(&rx);
        }
    }

    /// One round of batches. A packet that makes the engine or the slow path panic must not stop
    /// all others.
    fn poll_guarded(&mut self, waited: Waited) -> usize {
        let now = (self.clock)();
        self.settle(now - (waited.looked + waited.slept));
        let round = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.poll_ready(now)));
        round.unwrap_or_else(|_| {
            self.engine.reset();
            (self.events)(Event::Panicked { worker: self.engine.id });
            0
        })
    }

    /// Carries out what was commanded. Returns false on `Stop`.
    pub(crate) fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddTx(port, queue) => self.engine.add_tx(port, queue),
                Command::AddRx(rx) => self.add_rx(rx),
                Command::TakeRx(port, number, to) => {
                    let mut all = self.rx.iter();
                    let is_it = |rx: &Rx| rx.port == port && rx.number == number;
                    let at = all.position(|rx| rx.as_deref().is_some_and(is_it));
                    if let Some(rx) = at.and_then(|at| self.remove_rx(at)) {
                        // Whoever asked for it waits for it.
                        let _ = to.send(rx);
                    }
                }
                Command::RemovePort(port) => {
                    self.engine.remove_tx(port);
                    for at in 0..self.rx.len() {
                        if self.rx[at].as_ref().is_some_and(|r| r.port == port) {
                            self.remove_rx(at);
                        }
                    }
                }
                // Nobody waiting for the answer any more is no reason to stop.
                Command::Sync(done) => drop(done.send(())),
                Command::Stop => return false,
            }
        }
        true
    }

    fn add_rx(&mut self, mut rx: Box<Rx>) {
        rx.seen = 0;
        let at = self.rx.iter().position(Option::is_none).unwrap_or(self.rx.len());
        if let Some(fd) = rx.queue.fd()
            && self.poller.add(fd, at as u64).is_err()
        {
            self.report(&rx);
            return;
        }
        self.n_no_fd += usize::from(rx.no_fd);
        self.turns.join(at);
        match self.rx.get_mut(at) {
            Some(place) => *place = Some(rx),
            None => self.rx.push(Some(rx)),
        }
    }

    fn remove_rx(&mut self, at: usize) -> Option<Box<Rx>> {
        let rx = self.rx[at].take()?;
        self.engine.offers.forget(rx.port);
        self.current = self.current.filter(|(queue, _)| *queue != at);
        self.n_no_fd -= usize::from(rx.no_fd);
        if let Some(fd) = rx.queue.fd() {
            // A closed descriptor leaves the set by itself.
            let _ = self.poller.remove(fd);
        }
        Some(rx)
    }

    /// One batch from each ready queue that has a turn. Returns packets received.
    fn poll_ready(&mut self, now: Instant) -> usize {
        let ready = std::mem::take(&mut self.ready);
        let more = |at: usize| self.rx.get(at).and_then(Option::as_ref).is_some_and(|rx| rx.more);
        self.turns.round(ready.iter().map(|&at| (at as usize, more(at as usize))));
        let mut n = 0;
        for at in ready.iter().map(|&at| at as usize) {
            if !self.turns.has_turn(at) {
                continue;
            }
            // The clock is not for free: the first batch began with the round, the last one ends with the next.
            let began = if self.current.is_some() { (self.clock)() } else { now };
            self.settle(began);
            self.current = Some((at, began));
            n += self.receive(at, now);
        }
        self.ready = ready;
        if self.n_no_fd > 0 {
            self.settle((self.clock)());
            n += self.poll_without_fd(now);
        }
        n
    }

    /// The time until `now` goes to the queue whose batch was the last.
    fn settle(&mut self, now: Instant) {
        let Some((at, began)) = self.current.take() else { return };
        let took = now.since(began);
        self.turns.charge(at, took);
        if let Some(Some(rx)) = self.rx.get(at) {
            // Nobody else writes it.
            let busy_ns = rx.busy_ns.load(Relaxed) + took.as_nanos() as u64;
            rx.busy_ns.store(busy_ns, Relaxed);
        }
    }

    fn poll_without_fd(&mut self, now: Instant) -> usize {
        let mut n = 0;
        for at in 0..self.rx.len() {
            if self.rx[at].as_ref().is_some_and(|r| r.no_fd) {
                n += self.receive(at, now);
            }
        }
        n
    }

    /// One batch from every queue, ready or not. Returns packets received.
    pub(crate) fn poll_all(&mut self, now: Instant) -> usize {
        (0..self.rx.len()).map(|i| self.receive(i, now)).sum()
    }

    /// One batch from one queue. Returns packets received. If there is more, the poller says so.
    fn receive(&mut self, at: usize, now: Instant) -> usize {
        let Some(Some(rx)) = self.rx.get_mut(at) else { return 0 };
        let got = rx.queue.recv(&mut self.engine.bufs[..BATCH]);
        let port = rx.port;
        rx.more = got.more && !rx.no_fd;
        let failed = got.gone || rx.is_stuck(got.n);
        if got.n > 0 {
            self.engine.process(now, port, got.n);
        }
        // What came meanwhile, and what waits in another queue.
        let waits = |rx: &Rx| rx.port == port && (rx.more || rx.queue.is_ready());
        let any_waits = || got.more || self.rx.iter().flatten().any(|rx| waits(rx));
        self.engine.offers.settle(port, any_waits);
        if failed && let Some(rx) = self.remove_rx(at) {
            self.report(&rx);
        }
        got.n
    }

    /// Tells the control plane of a queue that failed.
    fn report(&self, rx: &Rx) {
        rx.failed.store(true, Relaxed);
        (self.events)(Event::PortFailed(rx.port));
    }
}
