//! What workers did: since somebody asked to count anew, and in the last minute.
//!
//! [`Pmd`] holds no counters. It holds what the workers' were when counting began ([`Pmd::clear`]),
//! and samples of their time, one every five seconds for a minute ([`Pmd::sample`]).

use std::collections::{BTreeMap, VecDeque};

use base::{DpPort, Duration, Instant};
use datapath::{DpStats, QueueUse, WorkerUse};

/// Time between samples.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How far back samples reach, in seconds.
pub const MAX_SECS: u64 = INTERVALS * INTERVAL.as_secs();
/// As many samples reach so far back.
pub const INTERVALS: u64 = 12;

/// Nanoseconds on packets, as counted at one time.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: Instant,
    /// By worker.
    workers: BTreeMap<usize, u64>,
    /// By port and queue: the worker that had it, and what was spent on it.
    queues: BTreeMap<(DpPort, u32), (usize, u64)>,
}

/// The part of its time that a worker spent on packets, lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Percent of the time, for each of its queues that there is, by port and number.
    pub queues: BTreeMap<(DpPort, u32), u64>,
    /// Percent on all packets.
    pub busy: u64,
    /// Percent beyond that of its queues.
    pub overhead: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Pmd {
    began: Instant,
    /// By worker, its counters when it was cleared and when that was.
    zero: BTreeMap<usize, (DpStats, Instant)>,
    samples: VecDeque<Sample>,
}

impl Pmd {
    /// All is counted from `now` on.
    pub fn new(now: Instant) -> Pmd {
        Pmd { began: now, zero: BTreeMap::new(), samples: VecDeque::new() }
    }

    /// Begins to count a worker's anew: it is new itself, or somebody asked for it.
    pub fn clear(&mut self, worker: usize, now: Instant, stats: DpStats) {
        self.zero.insert(worker, (stats, now));
    }

    /// What a worker counted since it was cleared, and how long ago that is.
    pub fn since(&self, worker: usize, now: Instant, stats: &DpStats) -> (DpStats, Duration) {
        match self.zero.get(&worker) {
            Some((zero, at)) => (stats.since(zero), now.since(*at)),
            None => (*stats, now.since(self.began)),
        }
    }

    /// Whether the next sample is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|s| now.since(s.at) >= INTERVAL)
    }

    /// Takes a sample.
    pub fn sample(
        &mut self,
        now: Instant,
        workers: &[WorkerUse],
        queues: &[QueueUse],
        stats: impl Fn(usize) -> DpStats,
    ) {
        if self.samples.len() as u64 > INTERVALS {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at: now,
            workers: workers.iter().map(|w| (w.number, stats(w.number).busy_ns)).collect(),
            queues: queues.iter().map(|q| ((q.port, q.queue), (q.worker, q.busy_ns))).collect(),
        });
    }

    /// Nanoseconds that were spent on a queue's packets, as far back as there are samples.
    pub fn busy(&self, port: DpPort, queue: u32) -> u64 {
        let at =
            |s: Option<&Sample>| s.and_then(|s| s.queues.get(&(port, queue))).map_or(0, |q| q.1);
        at(self.samples.back()).saturating_sub(at(self.samples.front()))
    }

    /// A worker's use of the last `secs` seconds, as far as there are samples; `None` without.
    pub fn usage(&self, worker: usize, secs: u64) -> Option<Usage> {
        let last = self.samples.back()?;
        let n = secs.div_ceil(INTERVAL.as_secs()).clamp(1, INTERVALS) as usize;
        let first = self.samples.get(self.samples.len().saturating_sub(n + 1))?;
        let total = u64::try_from(last.at.since(first.at).as_nanos()).ok().filter(|t| *t > 0)?;
        let busy = |s: &Sample| s.workers.get(&worker).copied().unwrap_or(0);
        let percent = |ns: u64| (u128::from(ns) * 100 / u128::from(total)).min(100) as u64;
        let mut of_queues = 0;
        let mut queues = BTreeMap::new();
        for (queue, (_, ns)) in last.queues.iter().filter(|(_, (w, _))| *w == worker) {
            // One that came since, or anew under the old one's number, began with nothing.
            let before = first.queues.get(queue).map_or(0, |q| q.1).min(*ns);
            of_queues += ns - before;
            queues.insert(*queue, percent(ns - before));
        }
        let busy = busy(last).saturating_sub(busy(first));
        let overhead = percent(busy.saturating_sub(of_queues));
        Some(Usage { queues, busy: percent(busy), overhead })
    }

    /// The percentage of the last interval that a worker spent on packets; none before there is one.
    pub fn load(&self, worker: usize) -> u64 {
        self.usage(worker, 1).map_or(0, |u| u.busy)
    }

    /// So many nanoseconds as a percentage of the time that samples reach back.
    pub fn percent(&self, ns: u64) -> u64 {
        let at = |s: Option<&Sample>| s.map_or(Instant::ZERO, |s| s.at);
        let total = at(self.samples.back()).since(at(self.samples.front())).as_nanos();
        u64::try_from(u128::from(ns) * 100 / total.max(1)).map_or(100, |p| p.min(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(packets: u64, busy_ns: u64) -> DpStats {
        DpStats { packets, busy_ns, ..DpStats::default() }
    }

    #[test]
    fn counting_begins_anew_for_the_one_that_is_cleared() {
        let mut pmd = Pmd::new(Instant::from_secs(10));
        pmd.clear(0, Instant::from_secs(20), stats(100, 0));
        let now = Instant::from_secs(25);
        let (counted, duration) = pmd.since(0, now, &stats(130, 0));
        assert_eq!((counted.packets, duration), (30, Duration::from_secs(5)));
        let (counted, duration) = pmd.since(1, now, &stats(7, 0));
        assert_eq!((counted.packets, duration), (7, Duration::from_secs(15)));
    }

    #[test]
    fn usage_is_that_of_the_seconds_asked_for() {
        let mut pmd = Pmd::new(Instant::ZERO);
        assert_eq!(pmd.usage(0, 60), None);
        let queue =
            |port, worker, ns| QueueUse { port: DpPort(port), queue: 0, worker, busy_ns: ns };
        let workers = [0, 1].map(|number| WorkerUse { number, cpu: None });
        let second = 1_000_000_000;
        // Port 1 takes a tenth of the time, from the tenth sample on half of it.
        let (mut one, mut busy) = (0, 0);
        for n in 0..14 {
            let now = Instant::from_secs(100 + 5 * n);
            assert!(pmd.is_due(now) && !pmd.is_due(Instant::from_secs(99 + 5 * n)) | (n == 0));
            let queues = [queue(1, 0, one), queue(2, 0, 0), queue(3, 1, 9 * second)];
            pmd.sample(now, &workers, &queues, |w| stats(0, if w == 0 { busy } else { 0 }));
            one += if n < 10 { second / 2 } else { 5 * second / 2 };
            busy += if n < 10 { second } else { 3 * second };
        }
        let shares = |secs| {
            let usage = pmd.usage(0, secs).unwrap();
            let of = |port| usage.queues[&(DpPort(port), 0)];
            (of(1), of(2), usage.overhead)
        };
        assert_eq!(shares(5), (50, 0, 10));
        assert_eq!(shares(11), (50, 0, 10));
        // Twelve intervals: nine of a tenth and three of a half.
        assert_eq!(shares(60), (20, 0, 10));
        assert_eq!(shares(1000), shares(60));
        assert_eq!((pmd.load(0), pmd.load(1), pmd.load(7)), (60, 0, 0));
        assert_eq!((pmd.percent(12 * second), pmd.percent(1000 * second)), (20, 100));
        assert_eq!(pmd.usage(1, 60).unwrap().queues, [((DpPort(3), 0), 0)].into());
        assert_eq!((pmd.busy(DpPort(1), 0), pmd.busy(DpPort(9), 0)), (12 * second, 0));
    }
}
