//! Giving queues out anew when a worker has too much to do: `other_config:pmd-auto-lb` of `ovs-vswitchd.conf.db(5)`.
//!
//! [`Rules`] are what the database asks for. [`Balance`] is told each worker's load whenever a sample of it is taken
//! ([`Pmd`]). When the interval is over and a worker was overloaded in all samples of a minute, the [`Crew`] plans anew,
//! and if loads would then be less unequal ([`gain`]) by as much as is asked for, queues move. Workers that pinned
//! queues have for themselves do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::Instant;
use datapath::{Datapath, QueueUse};

use super::{Algorithm, Core, Crew, Queue, flag, number, plan};
use crate::log;
use crate::pmd::{INTERVALS, Pmd};
use crate::reconcile::Reconciler;

/// Seconds of a minute, in which intervals are given.
const MINUTE: u64 = 60;

/// What `pmd-auto-lb` and the settings that go with it ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    is_enabled: bool,
    /// Minutes between two looks at it, at least: `pmd-auto-lb-rebal-interval`.
    interval: u64,
    /// Percent from which on a worker is overloaded: `pmd-auto-lb-load-threshold`.
    load: u64,
    /// Percent by which it is to get better: `pmd-auto-lb-improvement-threshold`.
    improvement: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { is_enabled: false, interval: 1, load: 95, improvement: 25 }
    }
}

impl Rules {
    /// Reads them. What makes no sense is as if it were not there.
    pub(super) fn read(
        other_config: &BTreeMap<String, String>,
        complaints: &mut Vec<String>,
    ) -> Rules {
        let default = Rules::default();
        let mut number = |key, max| number(other_config, key, 0, max, complaints);
        let interval = number("pmd-auto-lb-rebal-interval", 20_000);
        let load = number("pmd-auto-lb-load-threshold", 100);
        let improvement = number("pmd-auto-lb-improvement-threshold", 100);
        let is_enabled = flag(other_config, "pmd-auto-lb", complaints).unwrap_or(false);
        Rules {
            is_enabled,
            interval: interval.filter(|n| *n > 0).unwrap_or(default.interval),
            load: load.unwrap_or(default.load),
            improvement: improvement.unwrap_or(default.improvement),
        }
    }

    /// What there is to say of rules that followed others, or none.
    pub(super) fn news(&self, old: Option<&Rules>) -> Vec<String> {
        let Rules { is_enabled, interval, load, improvement } = self;
        let mut said = Vec::new();
        for (what, value, before, unit) in [
            ("interval", interval, old.map(|o| o.interval), " mins"),
            ("improvement threshold", improvement, old.map(|o| o.improvement), "%"),
            ("load threshold", load, old.map(|o| o.load), "%"),
        ] {
            if before != Some(*value) {
                said.push(format!("PMD auto load balance {what} set to {value}{unit}"));
            }
        }
        if old != Some(self) {
            said.push(match is_enabled {
                true => format!(
                    "PMD auto load balance is enabled, interval {interval} mins, pmd load threshold {load}%, \
                     improvement threshold {improvement}%."
                ),
                false => "PMD auto load balance is disabled.".to_owned(),
            });
        }
        said
    }
}

/// Who was overloaded for how long, and when that was looked at.
#[derive(Debug, Default)]
pub(super) struct Balance {
    since: Option<Instant>,
    /// By worker: samples in a row in which it was overloaded, the last one included.
    overloaded: BTreeMap<usize, u64>,
}

impl Balance {
    /// Takes the workers' loads in the last sample, in percent. Returns whether it is time to see if queues are to be
    /// given out anew.
    fn is_due(
        &mut self,
        rules: &Rules,
        now: Instant,
        loads: impl Iterator<Item = (usize, u64)>,
    ) -> bool {
        if !rules.is_enabled {
            *self = Balance::default();
            return false;
        }
        let before = std::mem::take(&mut self.overloaded);
        let overloaded = loads.filter(|(_, load)| *load >= rules.load);
        self.overloaded =
            overloaded.map(|(w, _)| (w, before.get(&w).map_or(1, |n| n + 1))).collect();
        let since = *self.since.get_or_insert(now);
        if now.since(since) < Duration::from_secs(rules.interval * MINUTE) {
            return false;
        }
        self.since = Some(now);
        self.overloaded.values().any(|n| *n >= INTERVALS)
    }
}

/// How unequal loads are: their variance, times the square of their number.
fn variance(loads: &[u64]) -> u64 {
    let sum: u64 = loads.iter().sum();
    let squares: u64 = loads.iter().map(|l| l * l).sum();
    loads.len() as u64 * squares - sum * sum
}

/// By how many percent the variance gets less from some loads to others of the same workers.
fn gain(now: &[u64], then: &[u64]) -> u64 {
    let (now, then) = (variance(now), variance(then));
    if then < now { (now - then) * 100 / now } else { 0 }
}

impl Crew {
    /// Takes note of the workers' loads after a sample of them. Returns whether queues are to be given out anew.
    pub fn is_unbalanced(
        &mut self,
        rec: &Reconciler,
        dp: &Datapath,
        pmd: &Pmd,
        now: Instant,
    ) -> bool {
        let free: Vec<Core> = self.cores.iter().filter(|c| !self.is_isolated(c)).copied().collect();
        let loads = free.iter().map(|c| (c.worker, pmd.load(c.worker)));
        if !self.balance.is_due(&self.settings.balance, now, loads) {
            return false;
        }
        if self.settings.algorithm == Algorithm::RoundRobin {
            log!(
                Dbg,
                DpifNetdev,
                "PMD auto load balance nothing to do, pmd-rxq-assign=roundrobin assignment type configured."
            );
            return false;
        }
        let all = dp.queues();
        let mut queues = self.queues(rec, &all);
        queues.iter_mut().for_each(|q| q.busy = pmd.percent(pmd.busy(q.port, q.queue)));
        let places = self.places(&queues, &all);
        // Two workers that queues could move between, and one of them has two.
        let n_queues = |core: &Core| places.iter().filter(|p| self.is_at(**p, core)).count();
        if free.len() < 2 || !free.iter().any(|c| n_queues(c) > 1) {
            log!(
                Dbg,
                DpifNetdev,
                "PMD auto load balance nothing to do, not enough non-isolated PMDs or RxQs."
            );
            return false;
        }
        let is_better = self.would_gain(&queues, &places, &free);
        if is_better {
            log!(
                Info,
                DpifNetdev,
                "PMD auto load balance: a datapath thread is overloaded, queues are given out anew"
            );
            self.balance.overloaded.clear();
        }
        is_better
    }

    /// Which of the cores has each queue.
    fn places(&self, queues: &[Queue], all: &[QueueUse]) -> Vec<Option<usize>> {
        let place = |q: &Queue| {
            let used = all.iter().find(|u| (u.port, u.queue) == (q.port, q.queue))?;
            self.cores.iter().position(|c| c.worker == used.worker)
        };
        queues.iter().map(place).collect()
    }

    fn is_at(&self, place: Option<usize>, core: &Core) -> bool {
        place.is_some_and(|at| self.cores[at] == *core)
    }

    /// Whether a new plan makes loads of some NUMA node's workers so much more equal as is asked for.
    fn would_gain(&self, queues: &[Queue], places: &[Option<usize>], free: &[Core]) -> bool {
        log!(Dbg, DpifNetdev, "PMD auto load balance performing dry run.");
        let nodes: BTreeSet<usize> = self.cores.iter().map(|c| c.numa).collect();
        let planned =
            plan(&self.cores, queues, self.settings.algorithm, self.settings.isolate).places;
        let is_far = |(q, place): (&Queue, &Option<usize>)| {
            let numa = place.map(|at| self.cores[at].numa);
            q.pinned.is_none() && q.numa.is_some() && numa.is_some() && q.numa != numa
        };
        // What a packet costs there is not known.
        if nodes.len() > 1 && queues.iter().zip(&planned).any(is_far) {
            log!(
                Dbg,
                DpifNetdev,
                "PMD auto load balance detected cross-numa polling with multiple numa nodes. Unable to \
                 accurately estimate."
            );
            return false;
        }
        let least = self.settings.balance.improvement;
        let gain_of = |numa: usize| {
            let of_node: Vec<&Core> = free.iter().filter(|c| c.numa == numa).collect();
            let loads = |places: &[Option<usize>]| -> Vec<u64> {
                let load = |core: &&Core| {
                    let its = queues.iter().zip(places).filter(|(_, p)| self.is_at(**p, core));
                    its.map(|(q, _)| q.busy).sum()
                };
                of_node.iter().map(load).collect()
            };
            let gain = gain(&loads(places), &loads(&planned));
            log!(Dbg, DpifNetdev, "Numa node {numa}. Variance improvement {gain}%.");
            gain
        };
        let is_met = nodes.into_iter().map(gain_of).fold(false, |met, g| met | (g >= least));
        let met = if is_met { "met" } else { "not met" };
        log!(Dbg, DpifNetdev, "PMD load variance improvement threshold {least}% is {met}.");
        is_met
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rxq::Settings;

    fn read(pairs: &[(&str, &str)]) -> (Rules, Vec<String>) {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut complaints = Vec::new();
        (Rules::read(&map, &mut complaints), complaints)
    }

    #[test]
    fn settings_have_the_manuals_ranges_and_defaults() {
        assert_eq!(read(&[]), (Rules::default(), vec![]));
        let (rules, complaints) = read(&[
            ("pmd-auto-lb", "true"),
            ("pmd-auto-lb-rebal-interval", "20000"),
            ("pmd-auto-lb-load-threshold", "0"),
            ("pmd-auto-lb-improvement-threshold", "100"),
        ]);
        let wanted = Rules { is_enabled: true, interval: 20_000, load: 0, improvement: 100 };
        assert_eq!((rules, complaints.len()), (wanted, 0));
        // No time at all is the shortest.
        assert_eq!(read(&[("pmd-auto-lb-rebal-interval", "0")]), (Rules::default(), vec![]));
        for (key, value, says) in [
            ("pmd-auto-lb", "yes", "pmd-auto-lb=yes: neither true nor false"),
            ("pmd-auto-lb-rebal-interval", "20001", "not a number from 0 to 20000"),
            ("pmd-auto-lb-load-threshold", "101", "not a number from 0 to 100"),
            ("pmd-auto-lb-improvement-threshold", "-1", "not a number from 0 to 100"),
        ] {
            let (rules, complaints) = read(&[(key, value)]);
            assert_eq!(rules, Rules::default(), "{key}");
            assert!(complaints.len() == 1 && complaints[0].contains(says), "{complaints:?}");
        }
    }

    #[test]
    fn what_changed_is_told() {
        let old = Rules::default();
        assert_eq!(old.news(Some(&old)), Vec::<String>::new());
        assert_eq!(
            old.news(None),
            [
                "PMD auto load balance interval set to 1 mins",
                "PMD auto load balance improvement threshold set to 25%",
                "PMD auto load balance load threshold set to 95%",
                "PMD auto load balance is disabled.",
            ]
        );
        let new = Rules { is_enabled: true, load: 70, ..old.clone() };
        assert_eq!(
            new.news(Some(&old)),
            [
                "PMD auto load balance load threshold set to 70%",
                "PMD auto load balance is enabled, interval 1 mins, pmd load threshold 70%, improvement \
                 threshold 25%.",
            ]
        );
    }

    /// The samples, one every five seconds, after which it is due; `load` is that of workers 1 and 2.
    fn due(rules: &Rules, n: u64, load: impl Fn(u64) -> [u64; 2]) -> Vec<u64> {
        let mut balance = Balance::default();
        let is_due = |i: &u64| {
            let [a, b] = load(*i);
            balance.is_due(rules, Instant::from_secs(100 + 5 * i), [(1, a), (2, b)].into_iter())
        };
        (0..n).filter(is_due).collect()
    }

    #[test]
    fn it_takes_a_minute_of_overload_and_the_interval() {
        let rules = Rules { is_enabled: true, ..Rules::default() };
        assert_eq!(due(&rules, 40, |_| [96, 10]), [12, 24, 36]);
        assert_eq!(due(&rules, 40, |_| [10, 95]), [12, 24, 36]);
        assert_eq!(due(&rules, 40, |_| [94, 94]), [0u64; 0]);
        // Both in turn: neither for a minute.
        assert_eq!(due(&rules, 40, |i| if i % 8 < 4 { [99, 0] } else { [0, 99] }), [0u64; 0]);
        // One that began late is found at the next look.
        assert_eq!(due(&rules, 40, |i| [if i < 3 { 0 } else { 99 }, 0]), [24, 36]);
        let seldom = Rules { interval: 2, ..rules };
        assert_eq!(due(&seldom, 60, |_| [96, 10]), [24, 48]);
        assert_eq!(due(&Rules::default(), 40, |_| [99, 99]), [0u64; 0]);
    }

    #[test]
    fn gain_is_how_much_less_unequal_loads_are() {
        assert_eq!(gain(&[90, 10], &[50, 50]), 100);
        assert_eq!(gain(&[90, 10], &[70, 30]), 75);
        assert_eq!(gain(&[90, 10], &[10, 90]), 0);
        assert_eq!(gain(&[50, 50], &[50, 50]), 0);
        assert_eq!(gain(&[50, 50], &[100, 0]), 0);
        assert_eq!((variance(&[]), variance(&[7])), (0, 0));
    }

    #[test]
    fn a_plan_is_followed_if_it_helps_enough() {
        let core = |id, numa| Core { id, numa, worker: id + 1 };
        let mut crew = Crew::new(true, Some(&[0, 0, 1]));
        crew.cores = vec![core(0, 0), core(1, 0)];
        crew.settings = Settings::default();
        let queues: Vec<Queue> = [60, 30, 5]
            .into_iter()
            .zip(0..)
            .map(|(busy, queue)| Queue {
                port: base::DpPort(1),
                queue,
                name: "p1".to_owned(),
                numa: Some(0),
                pinned: None,
                busy,
            })
            .collect();
        let gains = |crew: &Crew, queues: &[Queue], places: [usize; 3]| {
            crew.would_gain(queues, &places.map(Some), &crew.cores)
        };
        // 95 and 0 become 60 and 35.
        assert!(gains(&crew, &queues, [0, 0, 0]));
        // As the plan has it already.
        assert!(!gains(&crew, &queues, [0, 1, 1]));
        // 65 and 30 are no quarter worse.
        crew.settings.balance.improvement = 60;
        assert!(!gains(&crew, &queues, [0, 1, 0]));
        crew.settings.balance.improvement = 40;
        assert!(gains(&crew, &queues, [0, 1, 0]));
        // From another node packets cost something else.
        crew.cores.push(core(2, 1));
        assert!(gains(&crew, &queues, [0, 0, 0]));
        let mut far = queues;
        far[2].numa = Some(1);
        assert!(gains(&crew, &far, [0, 0, 2]), "its own node has a core");
        far[2].numa = Some(5);
        assert!(!gains(&crew, &far, [0, 0, 0]));
        far[2].pinned = Some(1);
        crew.settings.algorithm = Algorithm::Group;
        crew.settings.isolate = false;
        assert!(gains(&crew, &far, [0, 0, 1]), "one that is pinned does not move");
    }
}
