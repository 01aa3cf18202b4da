//! The daemon's clock: monotonic, and under a test's thumb when it wants to.
//!
//! `time/stop` freezes it, `time/warp` moves it on. Everybody who needs the time gets it as an
//! argument from code that asked here, so a warp is seen by all engines alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Instant;

/// Marks a running clock in [`Inner::frozen`].
const RUNNING: u64 = u64::MAX;

#[derive(Debug)]
struct Inner {
    start: std::time::Instant,
    /// Nanoseconds warped so far.
    warped: AtomicU64,
    /// Where the clock stands while stopped, in nanoseconds; [`RUNNING`] otherwise.
    frozen: AtomicU64,
}

/// A handle on the clock; clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

impl Default for Clock {
    fn default() -> Self {
        Clock(Arc::new(Inner {
            start: std::time::Instant::now(),
            warped: AtomicU64::new(0),
            frozen: AtomicU64::new(RUNNING),
        }))
    }
}

impl Clock {
    /// Now. Starts at one second, so that "an instant ago" exists from the beginning.
    pub fn now(&self) -> Instant {
        let frozen = self.0.frozen.load(Ordering::Relaxed);
        Instant::from_nanos(if frozen == RUNNING { self.real() } else { frozen })
    }

    fn real(&self) -> u64 {
        let passed = u64::try_from(self.0.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        1_000_000_000 + passed + self.0.warped.load(Ordering::Relaxed)
    }

    /// Freezes the clock (`time/stop`). There is no way to start it again, as in OVS.
    pub fn stop(&self) {
        let now = self.now().as_nanos();
        self.0.frozen.store(now, Ordering::Relaxed);
    }

    /// Whether `time/stop` was given.
    pub fn is_stopped(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed) != RUNNING
    }

    /// Moves the clock on by `by` (`time/warp`).
    pub fn warp(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        if self.is_stopped() {
            self.0.frozen.fetch_add(nanos, Ordering::Relaxed);
        } else {
            self.0.warped.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

/// The wall clock, for log lines and timestamps in the database.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `2026-11-23T06:26:44.352Z` for a time since 1970 (UTC).
pub fn iso8601(t: Duration) -> String {
    let (days, secs) = (t.as_secs() / 86_400, t.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        t.subsec_millis()
    )
}

/// Year, month and day of a day number since 1970-01-01 (proleptic Gregorian).
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years start in March here, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_415_204, "2026-11-23T06:26:44.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(iso8601(Duration::from_secs(secs)), text);
        }
    }

    #[test]
    fn stop_and_warp() {
        let c = Clock::default();
        c.stop();
        let t = c.now();
        assert_eq!(c.now(), t);
        c.warp(Duration::from_secs(5));
        assert_eq!(c.now(), t + Duration::from_secs(5));
    }
}
