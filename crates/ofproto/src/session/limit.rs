//! The rate limit of packet-ins (`ovs-vswitchd.conf.db(5)`, Controller `controller_rate_limit`).
//!
//! Misses and packets that flows send have a limit each, so that one does not crowd out the other. What is
//! beyond the rate waits, the ports of the bridge taking turns; what is beyond the burst too is
//! dropped where most is waiting.

use alloc::vec::Vec;

use base::{Instant, TokenBucket};

use crate::fair_queue::FairQueue;

/// Packets a second, and how many more at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Packets a second, at least 1.
    pub rate: u32,
    /// Packets at once; 0 for a quarter of the rate.
    pub burst: u32,
}

impl RateLimit {
    fn burst(self) -> u32 {
        match self.burst {
            0 => self.rate / 4,
            n => n,
        }
        .max(1)
    }
}

/// What became of packet-ins under a limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitStats {
    /// Waiting now.
    pub backlog: u64,
    /// Sent at once.
    pub bypassed: u64,
    /// Had to wait.
    pub queued: u64,
    /// Dropped.
    pub dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: RateLimit,
    bucket: TokenBucket,
    /// Messages, by the port that the packet came in by.
    queue: FairQueue<u32, Vec<u8>>,
    stats: LimitStats,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Limiter {
        Limiter {
            limit,
            bucket: TokenBucket::new(limit.rate.max(1).into(), limit.burst().into(), now),
            queue: FairQueue::default(),
            stats: LimitStats::default(),
        }
    }

    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    pub(super) fn set_limit(&mut self, limit: RateLimit, now: Instant) {
        self.limit = limit;
        self.bucket = TokenBucket::new(limit.rate.max(1).into(), limit.burst().into(), now);
        while self.queue.len() > limit.burst() as usize {
            self.drop_one();
        }
    }

    /// A message of a packet that came in by `port`; gives it back if it may go now.
    pub(super) fn send(&mut self, now: Instant, port: u32, message: Vec<u8>) -> Option<Vec<u8>> {
        if self.queue.is_empty() && self.bucket.take(1, now) {
            self.stats.bypassed += 1;
            return Some(message);
        }
        if self.queue.len() >= self.limit.burst() as usize {
            self.drop_one();
        }
        self.queue.push(port, message);
        self.stats.queued += 1;
        None
    }

    /// The next message that waited long enough.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.queue.is_empty() || !self.bucket.take(1, now) {
            return None;
        }
        self.queue.pop()
    }

    /// When [`Limiter::take`] has something.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| self.bucket.ready_at(1))
    }

    pub(super) fn stats(&self) -> LimitStats {
        LimitStats { backlog: self.queue.len() as u64, ..self.stats }
    }

    fn drop_one(&mut self) {
        self.stats.dropped += u64::from(self.queue.drop_one());
    }
}
