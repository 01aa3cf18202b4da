//! All megaflows, whoever uses them.
//!
//! Workers come here on a miss only: to install a translation, or to find that another worker
//! has it already. The control thread dumps, expires, revalidates and flushes. A flow that leaves
//! is killed first, so no cache answers with it any more, and stays with the zombies until no
//! worker holds it, so that its last packets are credited when statistics are pulled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use base::{Duration, Instant};
use dpif::{Megaflow, MegaflowSpec, Revalidation, SlowPath, Ufid};
use flow::PacketKey;
use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Flows {
    live: HashMap<Ufid, Arc<Megaflow>>,
    zombies: Vec<Arc<Megaflow>>,
}

impl Flows {
    fn bury(&mut self, flow: Arc<Megaflow>) {
        flow.kill();
        self.zombies.push(flow);
    }
}

/// The list of all megaflows.
#[derive(Debug)]
pub(crate) struct Registry {
    flows: Mutex<Flows>,
    n_writers: AtomicUsize,
    limit: AtomicUsize,
    /// Grows with each removal: workers that see a new value let go of dead flows.
    removals: AtomicU64,
}

impl Registry {
    pub(crate) fn new(n_writers: usize, limit: usize) -> Registry {
        Registry {
            flows: Mutex::default(),
            n_writers: AtomicUsize::new(n_writers),
            limit: AtomicUsize::new(limit),
            removals: AtomicU64::new(0),
        }
    }

    /// Megaflows made from now on have counters of their own for so many writers at least. True if that is more
    /// than those from before have.
    pub(crate) fn grow_writers(&self, n: usize) -> bool {
        self.n_writers.fetch_max(n, Relaxed) < n
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Relaxed)
    }

    /// The megaflow for a translation: an equal one that is there, or a new one. `None` when the
    /// limit is reached.
    pub(crate) fn install(
        &self,
        key: &PacketKey,
        spec: MegaflowSpec,
        now: Instant,
    ) -> Option<Arc<Megaflow>> {
        let generation = spec.generation;
        // Built outside the lock: its name is the hash of its key and mask.
        let mut new = Megaflow::new(*key, spec, self.n_writers.load(Relaxed), now);
        let mut flows = self.flows.lock();
        let n = flows.live.len();
        let old = flows.live.get(&new.ufid).cloned();
        match old {
            Some(old) if same(&old, &new) => {
                old.confirm(generation);
                return Some(old);
            }
            Some(old) => {
                old.kill();
                new = new.with_inherited(old.stats());
            }
            None if n >= self.limit() => return None,
            None => {}
        }
        let new = Arc::new(new);
        if let Some(old) = flows.live.insert(new.ufid, Arc::clone(&new)) {
            flows.bury(old);
            self.removals.fetch_add(1, Relaxed);
        }
        Some(new)
    }

    /// Removes a flow that was found wrong.
    pub(crate) fn remove(&self, flow: &Arc<Megaflow>) {
        let mut flows = self.flows.lock();
        if flows.live.get(&flow.ufid).is_some_and(|f| Arc::ptr_eq(f, flow)) {
            if let Some(f) = flows.live.remove(&flow.ufid) {
                flows.bury(f);
            }
            self.removals.fetch_add(1, Relaxed);
        } else {
            flow.kill();
        }
    }

    /// Of these names, the flows that are there.
    pub(crate) fn live(&self, names: &[Ufid]) -> Vec<Arc<Megaflow>> {
        let flows = self.flows.lock();
        if flows.live.is_empty() {
            return Vec::new();
        }
        names.iter().filter_map(|n| flows.live.get(n)).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.lock().live.len()
    }

    /// All flows, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Megaflow>> {
        let mut all: Vec<_> = self.flows.lock().live.values().cloned().collect();
        all.sort_by_key(|f| (f.created, f.ufid));
        all
    }

    /// Credits all that was counted.
    pub(crate) fn push_stats(&self) {
        // Credits run without the lock.
        let all: Vec<_> = {
            let flows = self.flows.lock();
            flows.live.values().chain(&flows.zombies).cloned().collect()
        };
        all.iter().for_each(|f| f.push_stats());
        drop(all);
        self.reap();
    }

    /// Lets go of zombies that nobody else holds. The last reference pushes what is left.
    fn reap(&self) {
        let gone: Vec<_> = {
            let mut flows = self.flows.lock();
            flows.zombies.extract_if(.., |f| Arc::strong_count(f) == 1).collect()
        };
        drop(gone);
    }

    /// Removes the flows for which `dead` says so; how many.
    fn retain(&self, mut dead: impl FnMut(&Megaflow) -> bool) -> usize {
        let n = {
            let mut flows = self.flows.lock();
            let gone: Vec<_> = flows.live.extract_if(|_, f| dead(f)).map(|(_, f)| f).collect();
            let n = gone.len();
            gone.into_iter().for_each(|f| flows.bury(f));
            n
        };
        if n > 0 {
            self.removals.fetch_add(1, Relaxed);
        }
        self.reap();
        n
    }

    pub(crate) fn flush(&self) -> usize {
        self.retain(|_| true)
    }

    /// Removes flows unused for longer than `max_idle`. Above the limit the patience is 100 ms,
    /// above twice the limit there is none.
    pub(crate) fn expire(&self, now: Instant, max_idle: Duration) -> usize {
        let (n, limit) = (self.len(), self.limit());
        let patience = if n > limit { max_idle.min(Duration::from_millis(100)) } else { max_idle };
        self.retain(|f| n > 2 * limit || now.since(f.last_active()) > patience)
    }

    /// Translates flows of an old generation again. Wrong ones are replaced in place, so that
    /// what a dump shows is right; how many were wrong.
    pub(crate) fn revalidate(&self, now: Instant, slow: &dyn SlowPath) -> usize {
        let generation = slow.generation();
        let stale: Vec<_> = {
            let flows = self.flows.lock();
            flows.live.values().filter(|f| f.generation() != generation).cloned().collect()
        };
        let mut n_wrong = 0;
        for flow in stale {
            match slow.revalidate(now, &flow.key) {
                Revalidation::Later => {}
                Revalidation::Flow(spec) if confirm(&flow, &spec) => {}
                Revalidation::Flow(spec) => {
                    n_wrong += 1;
                    let twin = Megaflow::new(flow.key, spec.clone(), 0, now).ufid == flow.ufid;
                    if !twin {
                        self.remove(&flow);
                    }
                    // Nobody used it now: one that is always replaced would never be idle.
                    self.install(&flow.key, spec, flow.last_active());
                }
                Revalidation::Gone => {
                    n_wrong += 1;
                    self.remove(&flow);
                }
            }
        }
        self.reap();
        n_wrong
    }
}

/// If the flow is what the translation says, it is as good as new.
pub(crate) fn confirm(flow: &Megaflow, spec: &MegaflowSpec) -> bool {
    let same = spec.is_same(flow);
    if same {
        flow.confirm(spec.generation);
    }
    same
}

/// Of the same name (which a stranger could forge, so the bits are compared too), and do the same.
fn same(a: &Megaflow, b: &Megaflow) -> bool {
    let credit = match (&a.credit, &b.credit) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is_same(&**b),
        _ => false,
    };
    credit
        && !a.is_dead()
        && a.actions == b.actions
        && a.significant_words() == b.significant_words()
}
