//! What one worker offers: when, and when the kernel may begin to serve it.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use base::{DpPort, Duration, Instant};
use conntrack::ConnId;
use ebpf::Entry;

use super::Candidate;

/// One packet of about so many that the cache serves is offered.
const OFFER_ONE_OF: u32 = 32;

/// Rounds after which an entry serves even if the queue never was empty: more packets than wait in a ring.
const PATIENCE: u32 = 64;

/// Connections that a worker has offered and nobody has answered, at most.
const MAX_ASKED: usize = 512;

/// Who waits longer for an answer is no longer counted.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What a worker offered and the kernel does not serve yet.
#[derive(Debug)]
pub(crate) struct Offers {
    pub(super) made: ArrayVec<Offer, 8>,
    countdown: u32,
    /// Not zero.
    random: u32,
    /// Ports and addresses that were told lately, and how often they need not be told again.
    told: [(DpPort, [u8; 6], u8); 4],
    /// What was offered before it was answered, and when, about in that order.
    asked: VecDeque<(ConnId, Instant)>,
}

impl Default for Offers {
    fn default() -> Offers {
        let told = [(DpPort(0), [0; 6], 0); 4];
        let (made, asked) = (ArrayVec::new(), VecDeque::new());
        Offers { made, countdown: 0, random: 1, told, asked }
    }
}

#[derive(Debug)]
pub(super) struct Offer {
    port: DpPort,
    entry: &'static Entry,
    generation: u64,
    rounds: u32,
}

impl Offers {
    /// Whether one more packet is to be offered.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        if self.countdown > 0 {
            self.countdown -= 1;
            return false;
        }
        // Connections may take turns, so we do not: Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.countdown = OFFER_ONE_OF / 2 + self.random % OFFER_ONE_OF;
        !self.made.is_full()
    }

    /// Whether somebody should [hear](super::Kernel::hear) that a frame of this address has come by a port.
    #[inline]
    pub fn is_news(&mut self, port: DpPort, src: [u8; 6]) -> bool {
        let told = &mut self.told[port.0 as usize % 4];
        let is_old = (told.0, told.1) == (port, src) && told.2 > 0;
        *told = (port, src, if is_old { told.2 - 1 } else { u8::MAX });
        !is_old
    }

    /// Whether a connection may be offered that is not answered yet: not if many wait for their answers, for most of those
    /// will get none, and entries are few.
    pub fn may_ask(&mut self, now: Instant, is_asking: impl Fn(ConnId) -> bool) -> bool {
        // As two leave where one comes, there is room again soon, whoever else waits.
        for _ in 0..2 {
            if self.asked.len() < MAX_ASKED {
                break;
            }
            let oldest = self.asked.pop_front();
            let waits = |o: &(ConnId, Instant)| now.since(o.1) < ANSWER_TIME && is_asking(o.0);
            self.asked.extend(oldest.filter(waits));
        }
        self.asked.len() < MAX_ASKED
    }

    /// A connection was offered that is not answered yet.
    pub fn ask(&mut self, conn: ConnId, now: Instant) {
        self.asked.push_back((conn, now));
    }

    /// After a batch of a port was sent: its entries serve from now on if nothing waits there.
    #[inline]
    pub fn settle(&mut self, port: DpPort, waits: impl FnOnce() -> bool) {
        if self.made.is_empty() {
            return;
        }
        let has_more = waits();
        self.made.retain(|o| {
            if o.port != port {
                return true;
            }
            o.rounds += 1;
            if has_more && o.rounds < PATIENCE {
                return true;
            }
            o.entry.serve(o.generation);
            false
        });
    }

    /// No batch of a port, or not all that wait there, will come by this worker any more: its entries may be offered again
    /// where they do.
    pub fn forget(&mut self, port: DpPort) {
        self.made.retain(|o| o.port != port);
    }

    /// An entry that was made for a candidate is to serve when nothing waits.
    pub(super) fn add(&mut self, c: &Candidate<'_>, entry: &'static Entry) {
        if self.made.iter().any(|o| std::ptr::eq(o.entry, entry)) {
            return;
        }
        let (port, generation) = (c.in_port, c.generation);
        // There was room when it was offered.
        let _ = self.made.try_push(Offer { port, entry, generation, rounds: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(offers: &mut Offers, port: u32) -> &'static Entry {
        let entry: &'static Entry = Box::leak(Box::default());
        let offer = Offer { port: DpPort(port), entry, generation: 3, rounds: 0 };
        offers.made.try_push(offer).expect("room");
        entry
    }

    #[test]
    fn an_entry_serves_when_nothing_waits_or_for_too_long() {
        let mut offers = Offers::default();
        let [a, b] = [1, 2].map(|port| offered(&mut offers, port));
        offers.settle(DpPort(1), || true);
        offers.settle(DpPort(2), || false);
        assert_eq!((a.serves(), b.serves()), (0, 3));
        (2..PATIENCE).for_each(|_| offers.settle(DpPort(1), || true));
        assert_eq!(a.serves(), 0);
        offers.settle(DpPort(1), || true);
        assert_eq!(a.serves(), 3);
        assert!(offers.made.is_empty());
    }

    #[test]
    fn an_address_is_news_once_in_a_while() {
        let mut offers = Offers::default();
        let mut news = |port, n| offers.is_news(DpPort(port), [0, 0, 0, 0, 0, n]);
        assert!(news(2, 1) && news(3, 1) && news(2, 2));
        assert!(!news(3, 1) && !news(2, 2) && news(2, 1));
        // The port may be another by now.
        assert_eq!((0..2560).filter(|_| news(3, 1)).count(), 10);
    }

    /// Nobody waits long behind those that get no answer, and these give way in time.
    #[test]
    fn few_are_offered_before_they_are_answered() {
        let mut offers = Offers::default();
        // Of so many, those that are offered at a time where the first ones are not answered.
        let mut asks = |n: u64, at, n_deaf: u64| {
            let now = Instant::from_secs(at);
            let mut one = |id| {
                let may = offers.may_ask(now, |c| c.to_parts().0 < n_deaf);
                may.then(|| offers.ask(ConnId::from_parts(id, 0), now)).is_some()
            };
            (0..n).filter(|id| one(*id)).count()
        };
        let most = MAX_ASKED as u64;
        assert_eq!(asks(4 * most, 5, 0), 4 * MAX_ASKED);
        assert!(asks(4 * most, 5, 10) > 4 * MAX_ASKED - 50);
        assert_eq!(asks(4 * most, 5, u64::MAX), 0);
        assert_eq!(asks(4 * most, 6, u64::MAX), MAX_ASKED);
    }

    /// Connections that take turns are all offered some time.
    #[test]
    fn no_connection_is_passed_over_for_ever() {
        for n in 1..=64 {
            let mut offers = Offers::default();
            let mut seen = vec![false; n];
            for i in 0..n * 2000 {
                seen[i % n] |= offers.is_due();
            }
            assert!(seen.iter().all(|s| *s), "of {n}");
        }
    }

    /// They would take the place of others for ever, and say later that an entry serves that is another's.
    #[test]
    fn what_was_offered_of_a_queue_that_is_gone_is_forgotten() {
        let mut offers = Offers::default();
        let [gone, other] = [1, 2].map(|port| offered(&mut offers, port));
        offers.forget(DpPort(1));
        offers.settle(DpPort(1), || false);
        offers.settle(DpPort(2), || false);
        assert_eq!((gone.serves(), other.serves()), (0, 3));
    }
}
