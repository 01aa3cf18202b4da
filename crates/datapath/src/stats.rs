//! What a worker counts. One thread writes, any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dpif::DropReason;

macro_rules! worker_stats {
    ($($field:ident, $doc:literal;)*) => {
        /// A worker's counters.
        #[derive(Debug)]
        #[repr(align(128))]
        pub(crate) struct WorkerStats {
            $(pub(crate) $field: Counter,)*
            drops: [Counter; DropReason::COUNT],
        }

        /// Counters of one worker, or of all together.
        #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
        pub struct DpStats {
            $(#[doc = $doc] pub $field: u64,)*
            /// Dropped packets by [`DropReason`].
            pub drops: [u64; DropReason::COUNT],
        }

        impl WorkerStats {
            pub(crate) fn new() -> WorkerStats {
                WorkerStats {
                    $($field: Counter::default(),)*
                    drops: std::array::from_fn(|_| Counter::default()),
                }
            }

            pub(crate) fn read(&self) -> DpStats {
                DpStats {
                    $($field: self.$field.get(),)*
                    drops: std::array::from_fn(|i| self.drops[i].get()),
                }
            }
        }

        impl DpStats {
            /// Names and values, without the drops.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }

            /// Sets the counter of this name; whether there is one.
            pub fn set(&mut self, name: &str, n: u64) -> bool {
                match name {
                    $(stringify!($field) => self.$field = n,)*
                    _ => return false,
                }
                true
            }

            /// What was counted since `before`.
            pub fn since(&self, before: &DpStats) -> DpStats {
                DpStats {
                    $($field: self.$field.saturating_sub(before.$field),)*
                    drops: std::array::from_fn(|i| self.drops[i].saturating_sub(before.drops[i])),
                }
            }

            /// Adds another worker's.
            pub fn add(&mut self, o: &DpStats) {
                $(self.$field += o.$field;)*
                self.drops.iter_mut().zip(o.drops).for_each(|(a, b)| *a += b);
            }
        }
    };
}

worker_stats! {
    packets, "Packets received.";
    batches, "Batches they came in.";
    hit_conn, "Look-ups that the connection cache answered.";
    hit_kernel, "Look-ups that the kernel answered, for packets that it forwarded.";
    hit_exact, "Look-ups that the exact-match cache answered.";
    hit_megaflow, "Look-ups that a megaflow answered.";
    missed, "Look-ups that nothing answered: translated by the slow path.";
    stale, "Look-ups whose megaflow was of an old generation: translated again.";
    lost, "Translations that could not be cached because the flow limit was reached.";
    widened, "Translations cached with a wider mask, because the port has many masks.";
    passed_over, "Translations not cached at first sight, because the port had many new flows.";
    recirculated, "Look-ups after a recirculation (counted above too).";
    subtables_searched, "Subtables that were searched for the look-ups that a megaflow answered.";
    slow_ns, "Nanoseconds in the slow path for the look-ups that nothing answered.";
    sent, "Packets handed to ports.";
    sent_batches, "Batches they went in.";
    busy_polls, "Looks for packets that found some.";
    idle_polls, "Looks for packets that found none.";
    sleeps, "Times the worker went to sleep.";
    busy_ns, "Nanoseconds spent on packets, from looking for them to sending them.";
    idle_ns, "Nanoseconds spent awake without packets.";
    sleep_ns, "Nanoseconds asleep.";
}

impl DpStats {
    /// Packets dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Look-ups that needed no translation, as `dpctl/show` counts.
    pub fn hits(&self) -> u64 {
        self.hit_kernel + self.hit_conn + self.hit_exact + self.megaflow_hits()
    }

    /// Look-ups that a megaflow answered. One of an old generation that was found right is a hit, too.
    pub fn megaflow_hits(&self) -> u64 {
        self.hit_megaflow + self.stale
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl WorkerStats {
    #[inline]
    pub(crate) fn drop(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].add(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_make_the_counters_that_they_are_of() {
        let mut all = DpStats::default();
        let n_rows = all.rows().count();
        for (i, (name, _)) in DpStats::default().rows().enumerate() {
            assert!(all.set(name, 1 + i as u64), "{name}");
        }
        assert!(all.rows().map(|(_, n)| n).eq(1..=n_rows as u64));
        assert!(!all.set("no_such", 1));
    }
}
