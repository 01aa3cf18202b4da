//! How often things happened, and at what rate: `coverage/show`.
//!
//! Counters live where they are counted (workers, connection tracker); here are samples of them: one
//! every five seconds for a minute, one a minute for an hour. Rates are differences of samples.

use std::collections::VecDeque;
use std::fmt::Write;

use base::{Duration, Instant};

/// Time between samples of the last minute.
pub const SHORT: Duration = Duration::from_secs(5);
const PER_MINUTE: usize = 12;
const PER_HOUR: usize = 60;

/// A counter and its value.
pub type Counter = (String, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Samples five seconds apart, oldest first; one more than intervals.
    short: VecDeque<Vec<u64>>,
    /// Samples a minute apart.
    long: VecDeque<Vec<u64>>,
    due: Instant,
    n_samples: usize,
}

impl Coverage {
    /// Whether the next sample is due.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Takes a sample. The counters have the same order each time.
    pub fn sample(&mut self, now: Instant, counters: &[Counter]) {
        self.due = now + SHORT;
        let values: Vec<u64> = counters.iter().map(|(_, n)| *n).collect();
        if self.n_samples.is_multiple_of(PER_MINUTE) {
            push(&mut self.long, values.clone(), PER_HOUR + 1);
        }
        push(&mut self.short, values, PER_MINUTE + 1);
        self.n_samples += 1;
    }

    /// The text of `coverage/show` for the counters as they are now.
    pub fn show(&self, counters: &[Counter]) -> String {
        let mut hash: u32 = 0;
        let mut s = String::new();
        let mut never = 0;
        for (i, (name, total)) in counters.iter().enumerate() {
            if *total == 0 {
                never += 1;
                continue;
            }
            for byte in name.bytes() {
                hash = hash.rotate_left(5) ^ u32::from(byte);
            }
            let at = |samples: &VecDeque<Vec<u64>>, back: usize| {
                let index = samples.len().saturating_sub(back);
                samples.get(index).and_then(|v| v.get(i)).copied().unwrap_or(0)
            };
            let last = at(&self.short, 1);
            let rate = |then: u64, now: u64, secs: f64| now.saturating_sub(then) as f64 / secs;
            let five = rate(at(&self.short, 2), last, 5.0);
            let minute = rate(oldest(&self.short, i, PER_MINUTE + 1), last, 60.0);
            let hour = rate(oldest(&self.long, i, PER_HOUR + 1), *total, 3600.0);
            let _ = writeln!(
                s,
                "{name:<24} {five:5.1}/sec {minute:9.3}/sec {hour:13.4}/sec   total: {total}"
            );
        }
        format!(
            "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  \
             hash={hash:08x}:\n{s}{never} events never hit\n"
        )
    }
}

fn push(samples: &mut VecDeque<Vec<u64>>, values: Vec<u64>, capacity: usize) {
    if samples.len() == capacity {
        samples.pop_front();
    }
    samples.push_back(values);
}

/// The value at the beginning of a full window; before it is full, the counter began at zero.
fn oldest(samples: &VecDeque<Vec<u64>>, i: usize, full: usize) -> u64 {
    if samples.len() < full {
        return 0;
    }
    samples.front().and_then(|v| v.get(i)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_over_three_windows() {
        let mut c = Coverage::default();
        let mut now = Instant::from_secs(100);
        let counters = |n: u64| vec![("tried".to_owned(), n), ("never".to_owned(), 0)];
        for n in 0..=24 {
            assert!(c.is_due(now));
            c.sample(now, &counters(10 * n));
            now += SHORT;
        }
        let text = c.show(&counters(241));
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "tried                      2.0/sec     2.000/sec        0.0669/sec   total: 241"
        );
        assert!(text.ends_with("1 events never hit\n"));
    }
}
