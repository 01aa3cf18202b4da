//! The kernel fast path: packets of known connections go from port to port without leaving the kernel.
//!
//! It is an accelerator of the connection cache, and decides nothing by itself. An [`Entry`] says of the packets of one
//! direction of a connection, found by exactly what their headers say, that all they need is to be tracked and sent to one
//! port. The [program](filter) tracks them in the very record that the tracker has of the connection
//! ([`conntrack::layout`]), holding it as a worker would, so there is one state and nothing to be brought in line. What
//! would be more than that (another flag, a number outside the window, another generation of the slow path, a connection
//! that is gone) it leaves alone, and the packet goes to a worker as if there were no kernel path. Nor does it serve those
//! that follow, which would overtake that packet, until a worker [says so](Entry::serve).
//!
//! Invariants: an entry serves nothing once the slow path's generation, which lies in the same memory, is newer than the
//! entry's, or its connection's place has another generation. What packets counted is read from their entry and stays there
//! until the entry [was let go of](Entry::retire) for long enough that no program can be at it.
//!
//! It takes Linux 6.10 (memory in common with programs, and atomics there) and the right to load programs. Without them
//! [`KernelPath::new`] says what is missing, and all packets go to workers.

mod entry;
mod filter;
mod ingress;
mod table;
mod track;

pub use entry::{Counted, Entry, Key, Origin, Retag, Target, Terms};

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::*};

use base::{HashKey, Instant};
use bpf::{Arena, Error, Kind, Map, Program};
use conntrack::{Memory, Rules, Segment};
use table::Table;

/// What all packets look at.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Control {
    /// The slow path's.
    generation: AtomicU64,
    /// Nothing is served if it is not zero.
    off: AtomicU64,
    /// What the kernel's monotonic clock is behind ours, in nanoseconds.
    clock: AtomicI64,
    /// Where the table is, and in the upper half by what numbers of buckets are cut.
    table: AtomicU64,
}

/// The memory that programs see, and what lies in it.
#[derive(Debug)]
struct Shared {
    arena: Arena,
    control: &'static Control,
    rules: &'static Rules,
}

impl Memory for Shared {
    fn segment(&self) -> Option<&'static Segment> {
        self.arena.place(Segment::default)
    }

    fn rules(&self) -> Option<&'static Rules> {
        Some(self.rules)
    }
}

/// See the module.
#[derive(Debug)]
pub struct KernelPath {
    shared: Arc<Shared>,
    table: Table,
    max_entries: u32,
}

/// The programs that ports have; see `netdev::Bypass`.
#[derive(Debug)]
pub struct Programs {
    /// Decides which packets the kernel forwards.
    pub filter: Program,
    /// Forwards them.
    pub ingress: Program,
}

impl KernelPath {
    /// A path without entries, of which there may be so many, and its programs. Nobody else may know the secret.
    ///
    /// # Errors
    /// The kernel lacks something, or we the right to it.
    pub fn new(secret: HashKey, max_entries: u32) -> Result<(KernelPath, Programs), Error> {
        if cfg!(target_endian = "big") {
            // The programs take numbers apart as the smaller end comes first.
            let error = std::io::ErrorKind::Unsupported.into();
            return Err(Error::System { what: "programs for this byte order", error });
        }
        let arena = Arena::new()?;
        let full = || Error::System {
            what: "memory in common with programs",
            error: std::io::ErrorKind::OutOfMemory.into(),
        };
        let control = arena.place(Control::default).ok_or_else(full)?;
        let rules = arena.place(Rules::default).ok_or_else(full)?;
        let table = Table::new(&arena, control, secret, max_entries).ok_or_else(full)?;
        // What the one program tells the other of a packet.
        let verdict = Map::scratch(ingress::VERDICT_SIZE)?;
        let unknown = || Error::System {
            what: "the kernel's description of its types",
            error: std::io::ErrorKind::Unsupported.into(),
        };
        let summed = filter::Summed::of_kernel().ok_or_else(unknown)?;
        let filter = filter::assemble(&filter::Parts {
            arena: &arena,
            hash: &table.hash,
            verdict: &verdict,
            control,
            rules,
            summed,
        });
        let programs = Programs {
            filter: Program::load(Kind::SocketFilter, "sekisho_path", &filter)?,
            ingress: Program::load(Kind::TcxIngress, "sekisho_send", &ingress::assemble(&verdict))?,
        };
        let shared = Arc::new(Shared { arena, control, rules });
        Ok((KernelPath { shared, table, max_entries }, programs))
    }

    /// Where the tracker has to have its connections, for the programs to see them.
    pub fn memory(&self) -> Arc<dyn Memory> {
        self.shared.clone()
    }

    /// Where the slow path has to have its generation.
    pub fn generation(&self) -> &'static AtomicU64 {
        &self.shared.control.generation
    }

    /// Most entries.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Serves packets, or not: an entry alone does nothing.
    pub fn enable(&self, on: bool) {
        self.shared.control.off.store(u64::from(!on), Release);
    }

    /// Whether packets are served.
    pub fn is_enabled(&self) -> bool {
        self.shared.control.off.load(Relaxed) == 0
    }

    /// Tells what time it is by the tracker's clock, which must go on as the kernel's monotonic one does.
    ///
    /// Programs that are behind workers by a millisecond leave packets to them, so it is asked a few times, in case this
    /// thread has to wait between the two clocks.
    pub fn set_clock(&self, now: impl Fn() -> Instant) {
        const TIMES: usize = 8;
        let samples = (0..TIMES).map(|_| {
            let before = bpf::monotonic();
            let now = now().as_nanos() as i64;
            (bpf::monotonic() - before, now - before as i64)
        });
        if let Some((_, ahead)) = samples.min() {
            self.shared.control.clock.store(ahead, Relaxed);
        }
    }

    /// Whether what the programs take for the time is what `now` gives, however long this thread has to wait meanwhile.
    pub fn is_in_time(&self, now: impl Fn() -> Instant) -> bool {
        const CLOSE: i64 = 100_000_000;
        let before = bpf::monotonic() as i64;
        let now = now().as_nanos() as i64;
        let after = bpf::monotonic() as i64;
        let ahead = self.shared.control.clock.load(Relaxed);
        (now - after - CLOSE..=now - before + CLOSE).contains(&ahead)
    }

    /// An entry that serves nothing yet. `None` if there is no room.
    pub fn entry(&self) -> Option<&'static Entry> {
        self.shared.arena.place(Entry::default)
    }

    /// Lets packets of `key` find an entry. No other may have that key.
    ///
    /// # Errors
    /// There is no room where it would have to be.
    pub fn put(&self, key: &Key, entry: &'static Entry) -> Result<(), Error> {
        let Shared { arena, control, .. } = &*self.shared;
        self.table.put(arena, control, key, entry)
    }

    /// No packet finds the entry any more, but those that have found it already.
    pub fn take(&self, entry: &'static Entry) {
        self.table.take(entry);
    }
}
