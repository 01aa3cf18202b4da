//! Which translations a worker has cached.
//!
//! A scan makes a flow of every packet and uses none: to install them, to have them evicted and to sweep them
//! out of caches costs as much as to translate them, and their memory comes on top. So a port has a
//! budget of new flows. Beyond it a packet's flow is cached when a packet like it comes a second time,
//! soon after the first: what repeats is worth a place, and a scan does not repeat.

use base::{Instant, TokenBucket};

/// New flows of a port in a second, and at once, that are cached without more ado.
const RATE: u64 = 4096;

/// Packets that are remembered, a power of two.
const REMEMBERED: usize = 1 << 16;

/// A worker's choice.
#[derive(Debug)]
pub(crate) struct Admission {
    /// By port; the last one's is of all ports that have no number.
    budgets: Vec<Option<TokenBucket>>,
    /// Parts of the hashes of packets that were turned away; made when one is.
    seen: Box<[u32]>,
}

/// Ports up to this number have a budget each.
const MAX_NUMBERED: u32 = 0xffff;

impl Admission {
    pub(crate) fn new() -> Admission {
        Admission { budgets: Vec::new(), seen: Box::default() }
    }

    /// Whether the translation of a packet is to be cached. `hash` tells its connection from others.
    pub(crate) fn admits(&mut self, now: Instant, port: u32, hash: u64) -> bool {
        let at = port.min(MAX_NUMBERED + 1) as usize;
        if self.budgets.len() <= at {
            self.budgets.resize(at + 1, None);
        }
        let budget = self.budgets[at].get_or_insert_with(|| TokenBucket::new(RATE, RATE, now));
        if budget.take(1, now) {
            return true;
        }
        if self.seen.is_empty() {
            self.seen = vec![0; REMEMBERED].into();
        }
        let (place, part) = (hash as usize % REMEMBERED, (hash >> 32) as u32);
        std::mem::replace(&mut self.seen[place], part) == part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number for each packet.
    fn hash(n: u64) -> u64 {
        base::hash_words(base::HashKey([1, 2]), &[n])
    }

    #[test]
    fn beyond_the_budget_only_what_comes_again_is_cached() {
        let (mut a, now) = (Admission::new(), Instant::from_secs(1));
        assert!((0..RATE).all(|n| a.admits(now, 1, hash(n))));
        let scanned = (RATE..200_000).filter(|&n| a.admits(now, 1, hash(n))).count();
        assert_eq!(scanned, 0);
        assert!(!a.admits(now, 1, hash(1)) && a.admits(now, 1, hash(1)));
        assert!(a.admits(now, 2, hash(3)), "another port has its own");
        let later = now + base::Duration::from_secs(1);
        assert!((0..RATE).all(|n| a.admits(later, 1, hash(n))) && !a.admits(later, 1, hash(7)));
    }
}
