//! A count that many threads add to.

use crate::Apart;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each thread adds to one of so many cells, so that seldom two have to hand a cache line to and fro.
const CELLS: usize = 16;

/// A total that threads add to without getting into each other's way. To read it takes longer.
#[derive(Debug, Default)]
pub struct Tally([Apart<AtomicU64>; CELLS]);

impl Tally {
    /// Adds.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0[cell()].0.fetch_add(n, Relaxed);
    }

    /// The sum of all that was added.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|c| c.0.load(Relaxed)).sum()
    }
}

/// The cell of this thread, by where its stack is: threads' stacks are megabytes apart. To be wrong costs time only.
#[inline]
fn cell() -> usize {
    const STACK_BITS: u32 = 21;
    let here = 0_u8;
    let stack = core::ptr::from_ref(&here).addr() as u64 >> STACK_BITS;
    (stack.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % CELLS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn nothing_that_a_thread_adds_is_lost() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=40)
                .map(|n| {
                    let tally = &tally;
                    scope.spawn(move || (0..1000).for_each(|_| tally.add(n)))
                })
                .collect();
            assert_eq!(threads.len(), 40);
        });
        assert_eq!(tally.get(), 1000 * (40 * 41 / 2));
    }
}
