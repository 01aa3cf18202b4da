//! Looks through the table of connections, for those who watch it: what kinds there are, and who moved most
//! since the last look.
//!
//! A look meets every connection once, in steps with rests in between ([`CtTable::dump`]), on a thread of its
//! own. What it found is kept for whoever asks again soon: looks take at most a fifth of the time.
//!
//! What a connection moved is its traffic now, less what it was at the last look. Of that, [`REMEMBERED`] connections are
//! remembered: those with most bytes. Any other had at most as many as the last of these, so what it moved
//! is known to within that, and told as the least that it can be. In tables with fewer connections it is
//! exact. All is forgotten when nobody asked for a while.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant as Real};

use base::{Instant, Zone};
use conntrack::{ConnFilter, ConnSnapshot, CtStats, Traffic};
use datapath::CtTable;
use parking_lot::Mutex;

/// Connections whose traffic is remembered until the next look (some megabytes).
const REMEMBERED: usize = 32_768;
/// Talkers that a look tells.
const TALKERS: usize = 100;
/// Zones that a look tells.
const ZONES: usize = 256;
/// Time between looks, at least.
const PAUSE: Duration = Duration::from_millis(50);
/// Parts of the time without a look for each part with one.
const REST: u32 = 4;
/// How long after the last question all is remembered.
const LINGER: Duration = Duration::from_secs(60);

/// What a look saw.
#[derive(Debug, Default)]
pub struct Look {
    /// When it began.
    pub at: Instant,
    /// Since when talkers were counted, if this is not the first look.
    pub since: Option<Instant>,
    /// All connections by kind.
    pub all: CtStats,
    /// The largest zones, largest first.
    pub zones: Vec<(Zone, CtStats)>,
    /// Zones with connections.
    pub n_zones: usize,
    /// Who moved most bytes, the busiest first, and what each moved.
    pub talkers: Vec<(ConnSnapshot, [Traffic; 2])>,
}

/// Takes looks for those who ask. See the module.
#[derive(Debug, Default)]
pub struct Looker {
    eye: Arc<Mutex<Eye>>,
    asked: Option<Real>,
}

impl Looker {
    /// What looks, for a thread that may take its time.
    pub fn eye(&mut self) -> Arc<Mutex<Eye>> {
        self.asked = Some(Real::now());
        Arc::clone(&self.eye)
    }

    /// Forgets all if nobody asked for a while.
    pub fn forget_unless_asked(&mut self, now: Real) {
        if self.asked.is_some_and(|asked| now.saturating_duration_since(asked) > LINGER) {
            *self = Looker::default();
        }
    }
}

/// The last look, and what is remembered of it.
#[derive(Debug, Default)]
pub struct Eye {
    last: Arc<Look>,
    memory: Memory,
    /// No other look before.
    rest_until: Option<Real>,
}

impl Eye {
    /// What there is to see at `now`, which is when it `begin`s, or lately.
    pub fn look(&mut self, table: &CtTable, now: Instant, begin: Real) -> Arc<Look> {
        if self.rest_until.is_some_and(|t| begin < t) {
            return Arc::clone(&self.last);
        }
        let (mut all, mut zones) = (CtStats::default(), BTreeMap::<Zone, CtStats>::new());
        let mut talkers = Heaviest::new(TALKERS);
        let mut next = Heaviest::new(REMEMBERED);
        table.dump(now, &ConnFilter::default(), |c| {
            all.count(c);
            zones.entry(c.zone).or_default().count(c);
            let id = c.id.to_u64();
            next.offer(sum(&c.traffic).bytes, || (id, c.traffic));
            if let Some(moved) = self.memory.moved(id, c.start, &c.traffic) {
                talkers.offer(sum(&moved).bytes, || (*c, moved));
            }
        });
        let since = self.memory.at;
        self.memory = Memory::of(next, now);
        let n_zones = zones.len();
        let mut zones: Vec<_> = zones.into_iter().collect();
        zones.sort_by_key(|(zone, stats)| (Reverse(stats.total), *zone));
        zones.truncate(ZONES);
        let talkers = talkers.into_sorted();
        self.last = Arc::new(Look { at: now, since, all, zones, n_zones, talkers });
        let took = Real::now().saturating_duration_since(begin);
        self.rest_until = Some(begin + took + PAUSE.max(took * REST));
        Arc::clone(&self.last)
    }
}

/// Traffic of both directions.
fn sum([a, b]: &[Traffic; 2]) -> Traffic {
    Traffic { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// The traffic of connections as it was.
#[derive(Debug, Default)]
struct Memory {
    known: HashMap<u64, [Traffic; 2]>,
    /// Bytes that a connection has at most that is not known.
    floor: u64,
    /// When that was, if there was a look.
    at: Option<Instant>,
}

impl Memory {
    fn of(heaviest: Heaviest<(u64, [Traffic; 2])>, at: Instant) -> Memory {
        let floor = heaviest.least();
        Memory { known: heaviest.into_sorted().into_iter().collect(), floor, at: Some(at) }
    }

    /// What a connection moved since, [from, to] its initiator, or the least that it can be. `None` if that is nothing,
    /// or not known because this is the first look.
    fn moved(&self, id: u64, start: Instant, now: &[Traffic; 2]) -> Option<[Traffic; 2]> {
        let at = self.at?;
        let before = match self.known.get(&id) {
            // It may have the place of another that is gone.
            _ if start > at => [Traffic::default(); 2],
            Some(before) => *before,
            None => self.most(now),
        };
        let less = |i: usize| Traffic {
            packets: now[i].packets.saturating_sub(before[i].packets),
            bytes: now[i].bytes.saturating_sub(before[i].bytes),
        };
        let moved = [less(0), less(1)];
        (sum(&moved).bytes > 0).then_some(moved)
    }

    /// The most that a connection can have had that is not known: the floor, in the shares that it has now.
    fn most(&self, now: &[Traffic; 2]) -> [Traffic; 2] {
        let total = sum(now).bytes.max(1);
        let share = |n: u64| {
            let part = u128::from(n) * u128::from(self.floor.min(total)) / u128::from(total);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        now.map(|t| Traffic { packets: share(t.packets), bytes: share(t.bytes) })
    }
}

/// The heaviest of all that are offered, up to a number.
#[derive(Debug)]
struct Heaviest<T> {
    most: usize,
    heap: BinaryHeap<Reverse<Weighed<T>>>,
}

#[derive(Debug)]
struct Weighed<T>(u64, T);

impl<T> Heaviest<T> {
    fn new(most: usize) -> Heaviest<T> {
        Heaviest { most, heap: BinaryHeap::new() }
    }

    fn offer(&mut self, weight: u64, item: impl FnOnce() -> T) {
        if self.heap.len() < self.most {
            self.heap.push(Reverse(Weighed(weight, item())));
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0.0 < weight
        {
            *least = Reverse(Weighed(weight, item()));
        }
    }

    /// What all have that were left out, at most.
    fn least(&self) -> u64 {
        match self.heap.peek() {
            Some(Reverse(least)) if self.heap.len() == self.most => least.0,
            _ => 0,
        }
    }

    /// The heaviest first.
    fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(Weighed(_, item))| item).collect()
    }
}

impl<T> PartialEq for Weighed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Weighed<T> {}

impl<T> PartialOrd for Weighed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Weighed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(out: u64, back: u64) -> [Traffic; 2] {
        [out, back].map(|bytes| Traffic { packets: bytes / 100, bytes })
    }

    /// What a look with room for `room` connections remembers of these.
    fn memory(room: usize, connections: &[(u64, [Traffic; 2])]) -> Memory {
        let mut all = Heaviest::new(room);
        for c in connections {
            all.offer(sum(&c.1).bytes, || *c);
        }
        Memory::of(all, Instant::from_secs(10))
    }

    #[test]
    fn looks_rest_and_are_forgotten() {
        let table = CtTable::new(base::HashKey::default(), conntrack::CtConfig::default(), 2, None);
        let mut looker = Looker::default();
        let now = Real::now();
        let eye = looker.eye();
        let look = |at, begin| eye.lock().look(&table, Instant::from_secs(at), begin);
        let first = look(10, now);
        assert_eq!((first.at, first.since), (Instant::from_secs(10), None));
        // Too soon: what was seen is told again.
        assert!(Arc::ptr_eq(&first, &look(11, now)));
        let second = look(3610, now + Duration::from_secs(3600));
        assert_eq!(second.since, Some(first.at));

        looker.forget_unless_asked(now + LINGER);
        assert!(Arc::ptr_eq(&eye, &looker.eye()), "somebody asked a moment ago");
        looker.forget_unless_asked(Real::now() + LINGER + Duration::from_secs(1));
        assert!(!Arc::ptr_eq(&eye, &looker.eye()));
    }

    const OLD: Instant = Instant::from_secs(5);

    #[test]
    fn the_heaviest_are_kept() {
        let mut all = Heaviest::new(3);
        assert_eq!(all.least(), 0);
        for n in [5, 1, 9, 2, 8, 3] {
            all.offer(n, || n);
        }
        assert_eq!(all.least(), 5);
        assert_eq!(all.into_sorted(), [9, 8, 5]);
    }

    #[test]
    fn the_first_look_knows_of_no_movement() {
        assert_eq!(Memory::default().moved(1, OLD, &traffic(1000, 1000)), None);
    }

    #[test]
    fn with_room_for_all_it_is_exact() {
        let m = memory(10, &[(1, traffic(1000, 500)), (2, traffic(7000, 0))]);
        assert_eq!(m.moved(1, OLD, &traffic(1600, 900)), Some(traffic(600, 400)));
        assert_eq!(m.moved(2, OLD, &traffic(7000, 0)), None);
        // One that began since, in the place of another.
        let new = Instant::from_secs(11);
        assert_eq!(m.moved(1, new, &traffic(300, 0)), Some(traffic(300, 0)));
        assert_eq!(m.moved(3, new, &traffic(300, 0)), Some(traffic(300, 0)));
        // Counters never go back, and if they did nothing was moved.
        assert_eq!(m.moved(1, OLD, &traffic(10, 10)), None);
    }

    #[test]
    fn without_it_is_the_least_that_it_can_be() {
        let m = memory(2, &[(1, traffic(9000, 0)), (2, traffic(4000, 0)), (3, traffic(1000, 0))]);
        assert_eq!(m.floor, 4000);
        assert_eq!(m.moved(1, OLD, &traffic(9500, 0)), Some(traffic(500, 0)));
        // It had 1000, which nobody knows.
        assert_eq!(m.moved(3, OLD, &traffic(6000, 2000)), Some(traffic(3000, 1000)));
        assert_eq!(m.moved(3, OLD, &traffic(3000, 0)), None);
    }
}
