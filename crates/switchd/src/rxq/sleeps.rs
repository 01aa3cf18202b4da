//! How long workers may sleep: `other_config:pmd-sleep-max` of `ovs-vswitchd.conf.db(5)`, for all or core by core.
//!
//! A sleep ends when a packet comes, so how long it may be is nothing to a worker; whether it may sleep at all is. A
//! worker whose longest sleep is zero never sleeps. Where nothing is said, workers sleep.
//!
//! And what workers wait for when they have packets: `pmd-spin-max` and `pmd-rt-priority` are given to them here too.

use std::collections::BTreeMap;
use std::time::Duration;

use datapath::Datapath;

use super::{Core, Crew};
use crate::log;

/// The longest sleep that can be asked for, in microseconds.
const LONGEST: u64 = 10_000;

/// What the database says of it, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sleeps {
    default: Option<u64>,
    cores: BTreeMap<usize, u64>,
}

impl Sleeps {
    /// Reads a list of `MICROSECONDS` and `CORE:MICROSECONDS`. What makes no sense is as if it were not there.
    pub(super) fn read(text: &str, complaints: &mut Vec<String>) -> Sleeps {
        let mut sleeps = Sleeps::default();
        let is_between = |c: char| c == ',' || c.is_ascii_whitespace();
        for item in text.split(is_between).filter(|item| !item.is_empty()) {
            let (core, us) = match item.split_once([':', '=']) {
                Some((core, us)) => (core.parse().ok().map(Some), us),
                None => (Some(None), item),
            };
            let (Some(core), Ok(us)) = (core, us.parse::<u64>()) else {
                complaints.push(format!(
                    "ignoring {item} of other_config:pmd-sleep-max={text}: neither microseconds from 0 to \
                     {LONGEST} nor CORE:MICROSECONDS"
                ));
                continue;
            };
            if us > LONGEST {
                complaints.push(format!(
                    "other_config:pmd-sleep-max={text}: {us} stands for {LONGEST}, the longest sleep"
                ));
            }
            match core {
                Some(core) => drop(sleeps.cores.insert(core, us.min(LONGEST))),
                None => sleeps.default = Some(us.min(LONGEST)),
            }
        }
        sleeps
    }

    fn of(&self, core: usize) -> Option<u64> {
        self.cores.get(&core).copied().or(self.default)
    }
}

impl Crew {
    /// The longest sleep of all that have none of their own, in microseconds. Simulated workers are no threads and
    /// have, unless something is said, that of Open vSwitch's.
    pub fn default_sleep(&self) -> u64 {
        let unless_said = if self.is_simulated { 0 } else { LONGEST };
        self.settings.sleeps.default.unwrap_or(unless_said)
    }

    /// A worker's longest sleep, in microseconds.
    pub fn sleep_of(&self, core: &Core) -> u64 {
        self.settings.sleeps.of(core.id).unwrap_or(self.default_sleep())
    }

    /// Says how long workers may sleep.
    pub(super) fn tell_sleeps(&self) {
        let us = self.default_sleep();
        log!(Info, DpifNetdev, "Default PMD thread max sleep: {us:4} us.");
        for core in &self.cores {
            log!(Info, DpifNetdev, "{}", self.sleep_text(core));
        }
    }

    pub(super) fn sleep_text(&self, core: &Core) -> String {
        let (Core { id, numa, .. }, us) = (core, self.sleep_of(core));
        format!("PMD thread on numa_id: {numa}, core id: {id:2}, max sleep: {us:4} us.")
    }

    /// How long workers look for packets before they sleep, and what they wait for when they wake, as settings say it.
    pub(super) fn set_waits(&self, dp: &Datapath) {
        for core in &self.cores {
            let spin = match self.settings.sleeps.of(core.id) {
                Some(0) => Duration::MAX,
                _ => self.settings.spin,
            };
            dp.set_spin(core.worker, spin);
            let priority = self.settings.realtime;
            if let Err(errno) = dp.set_realtime(core.worker, priority) {
                let worker = core.worker;
                log!(
                    Warn,
                    DpifNetdev,
                    "worker {worker} has no real-time priority (other_config:pmd-rt-priority={priority}): {errno}; it \
                     takes CAP_SYS_NICE"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rxq::Settings;

    fn read(text: &str) -> (Option<u64>, Vec<(usize, u64)>, usize) {
        let mut complaints = Vec::new();
        let Sleeps { default, cores } = Sleeps::read(text, &mut complaints);
        (default, cores.into_iter().collect(), complaints.len())
    }

    #[test]
    fn a_list_of_one_for_all_and_some_for_cores() {
        assert_eq!(read(""), (None, vec![], 0));
        assert_eq!(read("90"), (Some(90), vec![], 0));
        assert_eq!(read("3:300,0:100,5:400"), (None, vec![(0, 100), (3, 300), (5, 400)], 0));
        assert_eq!(read("50, 3:300,0=100"), (Some(50), vec![(0, 100), (3, 300)], 0));
        // The last one counts.
        assert_eq!(read("3:400,200,3:1,7"), (Some(7), vec![(3, 1)], 0));
        assert_eq!(read("10000,1:0"), (Some(10_000), vec![(1, 0)], 0));
        assert_eq!(read("10001,1:99999"), (Some(10_000), vec![(1, 10_000)], 2));
        assert_eq!(read("qwe"), (None, vec![], 1));
        assert_eq!(read("50,1:qwe,2:0,x:3,-1"), (Some(50), vec![(2, 0)], 3));
    }

    #[test]
    fn a_core_has_its_own_or_that_of_all() {
        let sleep = |is_simulated, text: &str, id| {
            let mut crew = Crew::new(is_simulated, Some(&[0, 0]));
            let sleeps = Sleeps::read(text, &mut Vec::new());
            crew.settings = Settings { sleeps, ..Settings::default() };
            let core = Core { id, numa: 0, worker: id + 1 };
            (crew.default_sleep(), crew.sleep_of(&core), crew.sleep_text(&core))
        };
        let text = "PMD thread on numa_id: 0, core id:  3, max sleep:  300 us.".to_owned();
        assert_eq!(sleep(true, "50,3:300", 3), (50, 300, text));
        let shown = |is_simulated, text, id| {
            let (default, own, _) = sleep(is_simulated, text, id);
            (default, own)
        };
        assert_eq!(shown(true, "50,3:300", 0), (50, 50));
        assert_eq!(shown(true, "3:300", 0), (0, 0));
        assert_eq!(shown(false, "3:300", 0), (10_000, 10_000));
        assert_eq!(shown(false, "0", 0), (0, 0));
    }
}
