//! Waiting for many queues at once: epoll, and a bell to wake a sleeping worker.
//!
//! Level-triggered: a queue that was not emptied is reported again.
//!
//! Whoever sends to a queue pays for each set that it is in, a tenth of what a small frame costs him on a veth,
//! whether somebody sleeps or not. A queue that is busy, and whose frames are seen in memory, can therefore be [set
//! aside](Poller::set_aside): the kernel is then asked for it with `poll`, which puts it into a set for as long as the
//! sleep takes.
//!
//! Going to sleep and being woken costs 20 to 50 µs of a packet's round trip on a virtual machine,
//! a look at all descriptors well under 1 µs. [`Poller::wait_spinning`] therefore looks for a
//! while before it sleeps, and learns from how long the sleeps were whether that pays
//! ([`Spin`]): an idle switch uses no processor time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::sys::{self, Errno};

/// Token of the poller's own [`Waker`]; never reported.
const WAKER: u64 = u64::MAX;

/// Looks without a sleep before those that were set aside are asked for, too.
const LOOKS: u32 = 1024;

/// How long to look before sleeping; adapts as KVM's halt polling does.
///
/// A sleep that was short would have been saved by looking for longer, so the time grows; with
/// every long sleep it shrinks, soon to nothing.
#[derive(Clone, Debug)]
pub struct Spin {
    now: Duration,
    max: Duration,
}

impl Spin {
    /// Grows from nothing to this at first.
    const START: Duration = Duration::from_micros(10);
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// Looks for at most `max` (40 µs is a good value; zero never looks; an hour and more is for ever). On a
    /// machine with one processor it never does unless for ever, because nobody could send meanwhile.
    pub fn new(max: Duration) -> Spin {
        if max >= Spin::FOR_EVER {
            return Spin { now: max, max };
        }
        let alone = cpu::available().len() == 1;
        Spin { now: Duration::ZERO, max: if alone { Duration::ZERO } else { max } }
    }

    /// Learns that a wait took so long. The time of being woken is in it, so a wait of several
    /// times the maximum may well have been for a frame that came within it.
    fn waited(&mut self, for_: Duration) {
        if for_ <= self.max * 4 {
            self.now = (self.now * 2).clamp(Spin::START.min(self.max), self.max);
        } else {
            self.now = if self.now > Spin::START { self.now / 2 } else { Duration::ZERO };
        }
    }
}

/// How a wait spent its time.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Looking, beyond the first look.
    pub looked: Duration,
    /// Asleep, from the decision to sleep until running again.
    pub slept: Duration,
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    bell: Arc<OwnedFd>,
    /// The set itself, and then those that were set aside, whose tokens are in `aside`.
    polled: Vec<libc::pollfd>,
    aside: Vec<u64>,
}

/// Ends a [`Poller::wait`] from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    bell: Arc<OwnedFd>,
}

impl Waker {
    /// Ends the current or, if there is none, the next wait.
    pub fn wake(&self) {
        sys::eventfd_ring(self.bell.as_fd());
    }
}

impl Poller {
    /// An empty set.
    pub fn new() -> Result<Poller, Errno> {
        let epoll = sys::epoll_create()?;
        let bell = sys::eventfd()?;
        sys::epoll_add(epoll.as_fd(), bell.as_fd(), WAKER)?;
        let polled = vec![sys::pollfd(epoll.as_fd())];
        Ok(Poller { epoll, bell: Arc::new(bell), polled, aside: Vec::new() })
    }

    /// A bell for this set.
    pub fn waker(&self) -> Waker {
        Waker { bell: Arc::clone(&self.bell) }
    }

    /// Adds a descriptor; `token` (any but `u64::MAX`) is what [`Poller::wait`] reports.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        sys::epoll_add(self.epoll.as_fd(), fd, token)
    }

    /// Removes a descriptor, which must still be open.
    pub fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let is_it = |p: &libc::pollfd| p.fd == fd.as_raw_fd();
        match self.polled[1..].iter().position(is_it) {
            Some(at) => {
                self.aside.remove(at);
                self.polled.remove(1 + at);
                Ok(())
            }
            None => sys::epoll_del(self.epoll.as_fd(), fd),
        }
    }

    /// A descriptor of the set is asked for one by one from now on, until it is removed: worth it for some that are
    /// readable most of the time.
    pub fn set_aside(&mut self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        self.remove(fd)?;
        self.aside.push(token);
        self.polled.push(sys::pollfd(fd));
        Ok(())
    }

    /// Tokens of those that were set aside, the first ones first.
    pub fn aside(&self) -> &[u64] {
        &self.aside
    }

    /// Waits until a descriptor is readable (or in error), the bell rings, or `timeout` is over
    /// (`None`: no limit; zero: look only). `ready` becomes the tokens of readable descriptors.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> Result<(), Errno> {
        self.look(timeout, ready).map(drop)
    }

    /// As [`Poller::wait`]; true if something happened, be it the bell.
    fn look(&mut self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> Result<bool, Errno> {
        ready.clear();
        if self.aside.is_empty() {
            return self.look_at_set(timeout, ready);
        }
        sys::poll(&mut self.polled, timeout)?;
        let [set, aside @ ..] = &*self.polled else { return Ok(false) };
        let tokens = self.aside.iter().zip(aside).filter(|(_, p)| p.revents != 0);
        ready.extend(tokens.map(|(&token, _)| token));
        let rung = set.revents != 0 && self.look_at_set(Some(Duration::ZERO), ready)?;
        Ok(rung || !ready.is_empty())
    }

    fn look_at_set(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> Result<bool, Errno> {
        let mut rung = false;
        sys::epoll_wait(self.epoll.as_fd(), timeout, |token| {
            if token == WAKER {
                rung = true;
                sys::eventfd_clear(self.bell.as_fd());
            } else {
                ready.push(token);
            }
        })?;
        Ok(rung || !ready.is_empty())
    }

    /// As [`Poller::wait`], but looks for a while before it sleeps. `has_frames`: whether the queue of this token, which
    /// was set aside, is seen to have some.
    pub fn wait_spinning(
        &mut self,
        spin: &mut Spin,
        timeout: Option<Duration>,
        ready: &mut Vec<u64>,
        has_frames: impl Fn(u64) -> bool,
    ) -> Result<Waited, Errno> {
        if self.look(Some(Duration::ZERO), ready)? {
            return Ok(Waited::default());
        }
        let start = Instant::now();
        let limit = timeout.map_or(spin.now, |t| spin.now.min(t));
        let mut n_looks = 0u32;
        let looked = loop {
            let looked = start.elapsed();
            if looked >= limit {
                break looked;
            }
            std::hint::spin_loop();
            ready.clear();
            ready.extend(self.aside.iter().copied().filter(|&token| has_frames(token)));
            // A device that is gone has no frames, and who never sleeps is to hear of it too.
            n_looks = n_looks.wrapping_add(1);
            let found = if !ready.is_empty() {
                true
            } else if n_looks.is_multiple_of(LOOKS) {
                self.look(Some(Duration::ZERO), ready)?
            } else {
                self.look_at_set(Some(Duration::ZERO), ready)?
            };
            if found {
                return Ok(Waited { looked: start.elapsed(), slept: Duration::ZERO });
            }
        };
        if timeout.is_some_and(|t| t <= limit) {
            return Ok(Waited { looked, slept: Duration::ZERO });
        }
        self.wait(timeout, ready)?;
        let waited = start.elapsed();
        spin.waited(waited);
        Ok(Waited { looked, slept: waited - looked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_ends_a_wait_and_is_not_reported() {
        let mut p = Poller::new().unwrap();
        p.waker().wake();
        let mut ready = vec![7];
        p.wait(None, &mut ready).unwrap();
        assert!(ready.is_empty());
        p.wait(Some(Duration::ZERO), &mut ready).unwrap();
    }

    #[test]
    fn looking_pays_after_short_waits_and_not_after_long_ones() {
        let us = Duration::from_micros;
        let mut s = Spin { now: Duration::ZERO, max: us(40) };
        let mut seen = Vec::new();
        for slept in [30, 20, 160, 40, 161, 161, 161, 5] {
            s.waited(us(slept));
            seen.push(s.now);
        }
        assert_eq!(seen, [10, 20, 40, 40, 20, 10, 0, 10].map(us));
        let mut never = Spin { max: Duration::ZERO, ..s };
        never.waited(Duration::ZERO);
        assert_eq!(never.now, Duration::ZERO);
    }

    #[test]
    fn the_bell_ends_a_spinning_wait_too() {
        let mut p = Poller::new().unwrap();
        let mut spin = Spin { now: Duration::from_micros(50), max: Duration::from_micros(50) };
        let waker = p.waker();
        waker.wake();
        let mut ready = Vec::new();
        let mut slept = |timeout| {
            p.wait_spinning(&mut spin, Some(timeout), &mut ready, |_| false).unwrap().slept
        };
        assert_eq!(slept(Duration::ZERO), Duration::ZERO);
        waker.wake();
        assert_eq!(slept(Duration::from_secs(3600)), Duration::ZERO);
        assert!(slept(Duration::from_millis(1)) > Duration::ZERO);
        assert!(ready.is_empty());
    }

    #[test]
    fn a_readable_descriptor_is_reported_by_its_token_until_removed() {
        use std::io::Write;
        let mut p = Poller::new().unwrap();
        let (mut a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        p.add(b.as_fd(), 42).unwrap();
        let mut ready = Vec::new();
        a.write_all(b"x").unwrap();
        for _ in 0..2 {
            p.wait(None, &mut ready).unwrap();
            assert_eq!(ready, [42]);
        }
        p.remove(b.as_fd()).unwrap();
        p.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn what_is_set_aside_is_reported_beside_the_others_and_the_bell() {
        use std::io::{Read, Write};
        let mut p = Poller::new().unwrap();
        let mut pairs = [(); 3].map(|()| std::os::unix::net::UnixStream::pair().unwrap());
        for (token, (_, b)) in (0..).zip(&pairs) {
            p.add(b.as_fd(), token).unwrap();
        }
        for token in [2, 0] {
            p.set_aside(pairs[token].1.as_fd(), token as u64).unwrap();
        }
        assert_eq!(p.aside(), [2, 0]);
        let mut ready = vec![7];
        p.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
        // The bell ends a sleep.
        p.waker().wake();
        p.wait(None, &mut ready).unwrap();
        assert!(ready.is_empty());
        for (a, _) in &mut pairs {
            a.write_all(b"x").unwrap();
        }
        p.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [2, 0, 1]);
        pairs[2].1.read_exact(&mut [0]).unwrap();
        pairs[1].1.read_exact(&mut [0]).unwrap();
        p.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [0]);
        // Looking sees it in memory only.
        let mut spin = Spin { now: Duration::from_micros(50), max: Duration::from_micros(50) };
        pairs[0].1.read_exact(&mut [0]).unwrap();
        let mut wait = |within| p.wait_spinning(&mut spin, within, &mut ready, |token| token == 2);
        assert_eq!(wait(None).unwrap().slept, Duration::ZERO);
        assert_eq!(ready, [2]);
        pairs[0].0.write_all(b"x").unwrap();
        // Back among the others.
        p.remove(pairs[0].1.as_fd()).unwrap();
        p.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
        p.add(pairs[0].1.as_fd(), 5).unwrap();
        p.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [5]);
        // An end that is closed is readable.
        let [(_a, other), _, (a, _b)] = pairs;
        drop(a);
        let mut for_ever = Spin::new(Spin::FOR_EVER);
        p.remove(other.as_fd()).unwrap();
        p.wait_spinning(&mut for_ever, None, &mut ready, |_| false).unwrap();
        assert_eq!(ready, [2]);
    }
}
