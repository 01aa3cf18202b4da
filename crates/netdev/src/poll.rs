//! Waiting for many queues at once: epoll, and a bell to wake a sleeping worker.
//!
//! Level-triggered: a queue that was not emptied is reported again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sys::{self, Errno};

/// Token of the poller's own [`Waker`]; never reported.
const WAKER: u64 = u64::MAX;

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    bell: Arc<OwnedFd>,
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
        Ok(Poller { epoll, bell: Arc::new(bell) })
    }

    /// A bell for this set.
    pub fn waker(&self) -> Waker {
        Waker { bell: Arc::clone(&self.bell) }
    }

    /// Adds a descriptor; `token` (any but `u64::MAX`) is what [`Poller::wait`] reports.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        sys::epoll_add(self.epoll.as_fd(), fd, token)
    }

    /// Removes a descriptor.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        sys::epoll_del(self.epoll.as_fd(), fd)
    }

    /// Waits until a descriptor is readable (or in error), the bell rings, or `timeout` is over
    /// (`None`: no limit; zero: look only). `ready` becomes the tokens of readable descriptors.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> Result<(), Errno> {
        ready.clear();
        sys::epoll_wait(self.epoll.as_fd(), timeout, |token| {
            if token == WAKER {
                sys::eventfd_clear(self.bell.as_fd());
            } else {
                ready.push(token);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_ends_a_wait_and_is_not_reported() {
        let p = Poller::new().unwrap();
        p.waker().wake();
        let mut ready = vec![7];
        p.wait(None, &mut ready).unwrap();
        assert!(ready.is_empty());
        p.wait(Some(Duration::ZERO), &mut ready).unwrap();
    }

    #[test]
    fn a_readable_descriptor_is_reported_by_its_token_until_removed() {
        use std::io::Write;
        let p = Poller::new().unwrap();
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
}
