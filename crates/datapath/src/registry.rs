//! All megaflows, whoever uses them.
//!
//! Workers come here on a miss only: to install a translation, or to find that another worker
//! has it already. The control thread dumps, expires, revalidates and flushes. A flow that leaves
//! is killed first, so no cache answers with it any more, and stays with the zombies until no
//! worker holds it, so that its last packets are credited when statistics are pulled.
//!
//! Flows are spread over shards by their names. Whoever looks at all of them holds one shard's
//! lock at a time, so a miss never waits for more than that. What a port may have is counted in
//! one place ([`Masks`]). Each worker finds in its [`Tray`] the flows that left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use base::{Duration, HashKey, Instant};
use dpif::{Megaflow, MegaflowSpec, Revalidation, SlowPath, Ufid, installed_mask};
use flow::PacketKey;
use parking_lot::Mutex;

use crate::masks::Masks;

const SHARDS: usize = 64;

/// How long a flow is kept that nobody has used since it was made, if its port has many.
const PROBATION: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Flows {
    live: HashMap<Ufid, Arc<Megaflow>>,
    zombies: Vec<Arc<Megaflow>>,
}

impl Flows {
    fn bury(&mut self, flow: &Arc<Megaflow>) {
        flow.kill();
        self.zombies.push(Arc::clone(flow));
    }
}

/// Flows that left, for one holder of caches to let go of.
#[derive(Debug, Default)]
pub(crate) struct Tray {
    flows: Mutex<Vec<Arc<Megaflow>>>,
    n: AtomicUsize,
}

impl Tray {
    pub(crate) fn is_empty(&self) -> bool {
        self.n.load(Relaxed) == 0
    }

    /// Takes at most `n` of them.
    pub(crate) fn take(&self, n: usize) -> Vec<Arc<Megaflow>> {
        let mut flows = self.flows.lock();
        let at = flows.len().saturating_sub(n);
        let taken = flows.split_off(at);
        if flows.is_empty() {
            flows.shrink_to_fit();
        }
        self.n.store(flows.len(), Relaxed);
        taken
    }
}

/// What became of a translation that was to be cached.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) flow: Arc<Megaflow>,
    /// It has a wider mask than the translation asked for.
    pub(crate) is_widened: bool,
}

/// The list of all megaflows.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[Mutex<Flows>]>,
    masks: Mutex<Masks>,
    trays: Mutex<Vec<Weak<Tray>>>,
    n_writers: AtomicUsize,
    limit: AtomicUsize,
}

impl Registry {
    pub(crate) fn new(secret: HashKey, n_writers: usize, limit: usize) -> Registry {
        Registry {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            masks: Mutex::new(Masks::new(secret)),
            trays: Mutex::default(),
            n_writers: AtomicUsize::new(n_writers),
            limit: AtomicUsize::new(limit),
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

    fn shard(&self, name: Ufid) -> &Mutex<Flows> {
        &self.shards[name.0 as usize % SHARDS]
    }

    /// A tray that all flows come to that leave from now on.
    pub(crate) fn tray(&self) -> Arc<Tray> {
        let tray = Arc::default();
        self.trays.lock().push(Arc::downgrade(&tray));
        tray
    }

    /// Puts flows that left into all trays.
    fn tell(&self, flows: &[Arc<Megaflow>]) {
        if flows.is_empty() {
            return;
        }
        self.trays.lock().retain(|tray| {
            let Some(tray) = tray.upgrade() else { return false };
            let mut left = tray.flows.lock();
            left.extend_from_slice(flows);
            tray.n.store(left.len(), Relaxed);
            true
        });
    }

    /// Gives back the places of flows.
    fn uncount(&self, flows: &[Arc<Megaflow>]) {
        let mut masks = self.masks.lock();
        flows.iter().for_each(|f| masks.remove(f.key.in_port, &f.mask));
    }

    /// The megaflow for a translation: an equal one that is there, or a new one. `None` when the
    /// limit is reached.
    pub(crate) fn install(
        &self,
        key: &PacketKey,
        mut spec: MegaflowSpec,
        now: Instant,
    ) -> Option<Installed> {
        let generation = spec.generation;
        let needed = installed_mask(key, &spec.mask);
        let (mask, has_room) = self.masks.lock().add(key.in_port, &needed, self.limit());
        let is_widened = mask != needed;
        spec.mask = mask;
        // Built outside the lock: its name is the hash of its key and mask.
        let mut new = Megaflow::new(*key, spec, self.n_writers.load(Relaxed), now);
        let mut flows = self.shard(new.ufid).lock();
        let old = flows.live.get(&new.ufid).cloned();
        match &old {
            Some(old) if same(old, &new) => {
                old.confirm(generation);
                drop(flows);
                if has_room {
                    self.uncount(std::slice::from_ref(old));
                }
                return Some(Installed { flow: Arc::clone(old), is_widened });
            }
            // It leaves its place to the new one.
            Some(old) if has_room || old.mask == new.mask => {
                new = new.with_inherited(old.stats());
                flows.bury(old);
            }
            None if has_room => {}
            _ => return None,
        }
        let flow = Arc::new(new);
        flows.live.insert(flow.ufid, Arc::clone(&flow));
        drop(flows);
        if let Some(old) = old {
            if has_room {
                self.uncount(std::slice::from_ref(&old));
            }
            self.tell(&[old]);
        }
        Some(Installed { flow, is_widened })
    }

    /// Removes a flow that was found wrong.
    pub(crate) fn remove(&self, flow: &Arc<Megaflow>) {
        let mut flows = self.shard(flow.ufid).lock();
        if flows.live.get(&flow.ufid).is_some_and(|f| Arc::ptr_eq(f, flow)) {
            flows.live.remove(&flow.ufid);
            flows.bury(flow);
            drop(flows);
            self.uncount(std::slice::from_ref(flow));
            self.tell(std::slice::from_ref(flow));
        } else {
            flow.kill();
        }
    }

    /// The flow of a name.
    pub(crate) fn live(&self, name: Ufid) -> Option<Arc<Megaflow>> {
        self.shard(name).lock().live.get(&name).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.masks.lock().n_flows()
    }

    /// The live flows for which `wanted` says so.
    fn select(&self, wanted: impl Fn(&Megaflow) -> bool) -> Vec<Arc<Megaflow>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().live.values().filter(|f| wanted(f)).cloned());
        }
        all
    }

    /// All flows, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Megaflow>> {
        let mut all = self.select(|_| true);
        all.sort_by_key(|f| (f.created, f.ufid));
        all
    }

    /// Credits all that was counted.
    pub(crate) fn push_stats(&self) {
        for shard in &self.shards {
            // Credits run without the lock.
            let all: Vec<_> = {
                let flows = shard.lock();
                flows.live.values().chain(&flows.zombies).cloned().collect()
            };
            all.iter().for_each(|f| f.push_stats());
        }
        self.reap();
    }

    /// Lets go of zombies that nobody else holds. The last reference pushes what is left.
    fn reap(&self) {
        for shard in &self.shards {
            let gone: Vec<_> = {
                let mut flows = shard.lock();
                flows.zombies.extract_if(.., |f| Arc::strong_count(f) == 1).collect()
            };
            drop(gone);
        }
    }

    /// Removes the flows for which `dead` says so; how many.
    fn retain(&self, mut dead: impl FnMut(&Megaflow) -> bool) -> usize {
        let mut n = 0;
        for shard in &self.shards {
            let gone: Vec<_> = {
                let mut flows = shard.lock();
                let gone: Vec<_> = flows.live.extract_if(|_, f| dead(f)).map(|(_, f)| f).collect();
                gone.iter().for_each(|f| flows.bury(f));
                gone
            };
            n += gone.len();
            self.uncount(&gone);
            self.tell(&gone);
        }
        self.reap();
        n
    }

    pub(crate) fn flush(&self) -> usize {
        self.retain(|_| true)
    }

    /// Removes flows unused for longer than `max_idle`. Of ports with many flows or masks those
    /// that were never used have a second. Above the limit the patience is 100 ms, above twice the
    /// limit there is none.
    pub(crate) fn expire(&self, now: Instant, max_idle: Duration) -> usize {
        let (n, limit, crowded) = {
            let masks = self.masks.lock();
            (masks.n_flows(), self.limit(), masks.crowded())
        };
        let short = if n > limit { max_idle.min(Duration::from_millis(100)) } else { max_idle };
        self.retain(|f| {
            let is_new = crowded.contains(&f.key.in_port) && f.stats().n_packets == 0;
            let patience = if is_new { short.min(PROBATION) } else { short };
            n > 2 * limit || now.since(f.last_active()) > patience
        })
    }

    /// Translates flows of an old generation again. Wrong ones are replaced in place, so that
    /// what a dump shows is right; so are those that look at more than they need to, if the port's
    /// masks allow. How many were replaced or removed.
    pub(crate) fn revalidate(&self, now: Instant, slow: &dyn SlowPath) -> usize {
        let generation = slow.generation();
        let mut n_wrong = 0;
        for flow in self.select(|f| f.generation() != generation) {
            match slow.revalidate(now, &flow.key) {
                Revalidation::Later => {}
                Revalidation::Flow(spec) => {
                    let is_right = confirm(&flow, &spec);
                    if is_right && installed_mask(&flow.key, &spec.mask) == flow.mask {
                        continue;
                    }
                    // Nobody used it now: one that is always replaced would never be idle.
                    let new = self.install(&flow.key, spec, flow.last_active());
                    let other = new.as_ref().is_some_and(|new| new.flow.ufid != flow.ufid);
                    if other || new.is_none() && !is_right {
                        self.remove(&flow);
                    }
                    n_wrong += usize::from(other || !is_right);
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

/// If the flow does what the translation says, it is as good as new.
pub(crate) fn confirm(flow: &Megaflow, spec: &MegaflowSpec) -> bool {
    let same = spec.confirms(flow);
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
