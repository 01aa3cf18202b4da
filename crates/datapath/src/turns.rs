//! Whose turn it is: a worker's time, shared out among its receive queues.
//!
//! A batch of one queue may take a hundred times as long as a batch of another: no cache knows its packets, or a
//! controller wants them. So what queues get in equal parts is time. A round visits each queue that has packets and
//! a turn, for one batch, and the queue is charged with what the batch took. A queue is *behind* if its last batch left
//! packets waiting. `time` is what the one with least of those behind had used when a round began; it never goes back.
//!
//! - A queue has a turn unless it has used more than a [`QUANTUM`] beyond `time`. Of those behind, one always
//!   has: so a queue alone loses nothing.
//! - Nobody waits for a queue that is not behind: it gets all it wants, and more visits would only make its batches
//!   smaller.
//! - A queue that comes with packets is at most a quantum below `time`: it gets nothing for what it left to others.
//! - As long as two queues are behind, what they get differs by no more than four quanta and two batches. A queue waits
//!   for a turn while each other one uses no more than two quanta and two batches.
//! - A batch counts as no longer than [`LONGEST`]: the thread may have stood still meanwhile.
//!
//! A round costs a few instructions for each queue that has packets. The clock is the caller's.

use std::time::Duration;

/// How far, in nanoseconds, a queue may be ahead of the others and still have a turn, and how much it may save while it has
/// no packets. Some batches: so queues whose batches cost about the same are all visited in each round.
const QUANTUM: u64 = 100_000;

/// Nanoseconds that a batch counts as at most.
const LONGEST: u64 = 10_000_000;

/// See the module. A queue is a small number.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Nanoseconds, by queue.
    used: Vec<u64>,
    time: u64,
}

impl Turns {
    /// A queue that is new, or was another one's before.
    pub(crate) fn join(&mut self, queue: usize) {
        if self.used.len() <= queue {
            self.used.resize(queue + 1, 0);
        }
        self.used[queue] = self.time;
    }

    /// A round begins; these have packets, and are behind or not.
    pub(crate) fn round(&mut self, ready: impl Iterator<Item = (usize, bool)>) {
        let floor = self.time.saturating_sub(QUANTUM);
        let (mut least, mut most) = (u64::MAX, 0);
        for (queue, is_behind) in ready {
            let Some(used) = self.used.get_mut(queue) else { continue };
            *used = floor.max(*used);
            most = most.max(*used);
            if is_behind {
                least = least.min(*used);
            }
        }
        self.time = self.time.max(least.min(most));
    }

    /// Whether a queue that has packets is visited in this round.
    pub(crate) fn has_turn(&self, queue: usize) -> bool {
        self.used.get(queue).is_some_and(|used| *used <= self.time + QUANTUM)
    }

    /// A batch of the queue took so long.
    pub(crate) fn charge(&mut self, queue: usize, took: Duration) {
        if let Some(used) = self.used.get_mut(queue) {
            *used += u64::try_from(took.as_nanos()).map_or(LONGEST, |ns| ns.min(LONGEST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const N: usize = 4;

    /// How many packets a queue has.
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    enum Load {
        None,
        /// A batch takes them all.
        Few,
        Many,
    }
    use Load::{Few, Many};

    /// Queues and what they got.
    struct Sim {
        turns: Turns,
        behind: [bool; N],
        got: [u64; N],
        n_batches: [u64; N],
    }

    impl Sim {
        fn new() -> Sim {
            let mut turns = Turns::default();
            (0..N).for_each(|q| turns.join(q));
            Sim { turns, behind: [false; N], got: [0; N], n_batches: [0; N] }
        }

        /// One round; the costs are those of a batch of each queue.
        fn round(&mut self, load: [Load; N], costs: [u64; N]) {
            let ready = |q: &usize| load[*q] != Load::None;
            self.turns.round((0..N).filter(ready).map(|q| (q, self.behind[q])));
            for q in (0..N).filter(ready) {
                if self.turns.has_turn(q) {
                    self.turns.charge(q, Duration::from_nanos(costs[q]));
                    self.behind[q] = load[q] == Many;
                    self.got[q] += costs[q];
                    self.n_batches[q] += 1;
                }
            }
        }
    }

    #[test]
    fn a_queue_of_costly_packets_gets_as_much_time_as_the_others() {
        let mut sim = Sim::new();
        for _ in 0..10_000 {
            sim.round([Many, Many, Many, Load::None], [2_000, 3_000, 320_000, 1]);
        }
        let [a, b, c, _] = sim.got;
        assert!(a.abs_diff(c) < 1_000_000 && b.abs_diff(c) < 1_000_000, "{:?}", sim.got);
        // Three quarters of the rounds are the cheap one's, and hardly any the costly one's.
        assert!(sim.n_batches[0] > 9_990 && sim.n_batches[2] < 70, "{:?}", sim.n_batches);
    }

    #[test]
    fn who_had_nothing_gets_no_more_than_a_quantum_for_it() {
        let mut sim = Sim::new();
        (0..1_000).for_each(|_| sim.round([Many, Load::None, Load::None, Load::None], [50_000; N]));
        let before = sim.got[0];
        (0..1_000).for_each(|_| sim.round([Many, Many, Load::None, Load::None], [50_000; N]));
        let ahead = sim.got[1].abs_diff(sim.got[0] - before);
        assert!(ahead <= QUANTUM + 2 * 50_000, "{ahead}");
    }

    #[test]
    fn queues_that_cost_the_same_are_all_visited_in_each_round() {
        let mut sim = Sim::new();
        (0..1_000).for_each(|i| sim.round([Many; N], [10_000 + i % 3 * 100; N]));
        assert_eq!(sim.n_batches, [1_000; N]);
    }

    #[test]
    fn a_place_that_another_queue_takes_has_neither_debt_nor_credit() {
        let mut sim = Sim::new();
        (0..100).for_each(|_| sim.round([Many; N], [5_000, LONGEST * 9, 5_000, 5_000]));
        assert!(!sim.turns.has_turn(1));
        assert!(sim.turns.used[1] <= sim.turns.time + QUANTUM + LONGEST, "what is too long is cut");
        sim.turns.join(1);
        assert!(sim.turns.has_turn(1) && sim.turns.used[1] == sim.turns.time);
        assert!(!sim.turns.has_turn(N) && !Turns::default().has_turn(0));
    }

    #[test]
    fn nobody_waits_for_a_queue_that_is_not_behind() {
        let mut sim = Sim::new();
        let none = Load::None;
        (0..1_000).for_each(|_| sim.round([Few, Many, none, none], [1_000, 500_000, 0, 0]));
        (0..1_000).for_each(|_| sim.round([Few, Few, none, none], [1_000, 500_000, 0, 0]));
        assert_eq!(sim.n_batches, [2_000, 2_000, 0, 0]);
        // It has no claim on what the other used meanwhile.
        let before = sim.got;
        (0..1_000).for_each(|_| sim.round([Many, Many, none, none], [1_000, 500_000, 0, 0]));
        let [a, b] = [0, 1].map(|q| sim.got[q] - before[q]);
        assert!(a.abs_diff(b) <= QUANTUM + 2 * 500_000, "{a} {b}");
    }

    /// What queues have in a round, for some rounds; and what batches cost then.
    fn phases() -> impl Strategy<Value = Vec<([Load; N], Vec<[u64; N]>)>> {
        let load = proptest::sample::select(&[Load::None, Few, Many, Many][..]);
        let loads = [load.clone(), load.clone(), load.clone(), load];
        let cost = prop_oneof![0u64..1_000, 1_000u64..100_000, 100_000u64..2 * LONGEST];
        let costs = [cost.clone(), cost.clone(), cost.clone(), cost];
        proptest::collection::vec((loads, proptest::collection::vec(costs, 1..60)), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// As long as two queues are behind, they get the same but for four quanta and two batches; none waits for
        /// longer than the others take for two quanta and two batches each; and somebody always has a turn.
        #[test]
        fn time_is_shared_whatever_batches_cost(phases in phases()) {
            let mut sim = Sim::new();
            let pairs = || (0..N).flat_map(|a| (0..a).map(move |b| (a, b)));
            // What all had got when two were behind for the first time, and when one had its last turn.
            let mut since = [[None; N]; N];
            let mut waits = [None; N];
            for (load, rounds) in phases {
                for costs in rounds {
                    let costs = costs.map(|c| c.min(LONGEST));
                    let is_behind = |sim: &Sim, q: usize| sim.behind[q] && load[q] == Many;
                    for (a, b) in pairs() {
                        let both = is_behind(&sim, a) && is_behind(&sim, b);
                        since[a][b] = both.then(|| since[a][b].unwrap_or(sim.got));
                    }
                    for q in 0..N {
                        waits[q] = (load[q] != Load::None).then(|| waits[q].unwrap_or(sim.got));
                    }
                    let before = sim.n_batches;
                    sim.round(load, costs);
                    let n_ready = load.iter().filter(|l| **l != Load::None).count();
                    prop_assert!(n_ready == 0 || sim.n_batches != before, "nobody has a turn");
                    for (a, b) in pairs() {
                        let Some(began) = since[a][b] else { continue };
                        let [a, b] = [a, b].map(|q: usize| sim.got[q] - began[q]);
                        prop_assert!(a.abs_diff(b) <= 4 * QUANTUM + 2 * LONGEST, "{} {}", a, b);
                    }
                    for q in 0..N {
                        let Some(began) = waits[q] else { continue };
                        if sim.n_batches[q] > before[q] {
                            waits[q] = None;
                            continue;
                        }
                        prop_assert!(n_ready > 1, "alone");
                        for other in (0..N).filter(|o| *o != q) {
                            let used = sim.got[other] - began[other];
                            prop_assert!(used <= 2 * QUANTUM + 2 * LONGEST, "{}", used);
                        }
                    }
                }
            }
        }
    }
}
