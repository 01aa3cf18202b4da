//! Rate limits: a bucket that fills with time and is emptied by events.

use crate::{Duration, Instant};

/// A token bucket: `rate` tokens a second up to `burst`.
#[derive(Copy, Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    burst: u64,
    /// Tokens in billionths, so that slow rates fill smoothly.
    nano_tokens: u128,
    last: Instant,
}

const SCALE: u128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. `rate` is in tokens per second, `burst` in tokens.
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        TokenBucket { rate, burst, nano_tokens: u128::from(burst) * SCALE, last: now }
    }

    /// Takes `n` tokens if there are so many.
    pub fn take(&mut self, n: u64, now: Instant) -> bool {
        let passed: Duration = now.since(self.last);
        self.last = self.last.max(now);
        let full = u128::from(self.burst) * SCALE;
        self.nano_tokens =
            full.min(self.nano_tokens.saturating_add(u128::from(self.rate) * passed.as_nanos()));
        let want = u128::from(n) * SCALE;
        let ok = self.nano_tokens >= want;
        if ok {
            self.nano_tokens -= want;
        }
        ok
    }

    /// When there will be `n` tokens; never if that is more than the burst.
    pub fn ready_at(&self, n: u64) -> Instant {
        let missing = (u128::from(n) * SCALE).saturating_sub(self.nano_tokens);
        if missing == 0 {
            return self.last;
        }
        let never = n > self.burst || self.rate == 0;
        let nanos = if never { u128::MAX } else { missing.div_ceil(self.rate.into()) };
        self.last + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let t0 = Instant::from_secs(1);
        let mut b = TokenBucket::new(10, 3, t0);
        assert!((0..3).all(|_| b.take(1, t0)));
        assert!(!b.take(1, t0 + Duration::from_millis(99)));
        assert!(b.take(1, t0 + Duration::from_millis(100)));
        assert!(!b.take(4, t0 + Duration::from_secs(100)), "never more than the burst");
        assert!(b.take(3, t0 + Duration::from_secs(100)));
    }

    #[test]
    fn when_there_is_enough() {
        let t0 = Instant::from_secs(1);
        let mut b = TokenBucket::new(10, 3, t0);
        assert_eq!(b.ready_at(3), t0);
        assert!(b.take(3, t0));
        let at = b.ready_at(2);
        assert_eq!(at, t0 + Duration::from_millis(200));
        assert!(!b.take(2, t0 + Duration::from_millis(199)) && b.take(2, at));
        assert!(b.ready_at(4) > t0 + Duration::from_secs(1 << 30));
    }
}
