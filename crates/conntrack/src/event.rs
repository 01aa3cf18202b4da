//! What happened to connections, for whoever listens (`conntrack -E`).

use crate::ConnSnapshot;
use alloc::collections::VecDeque;

/// Kind of event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A connection was committed.
    New,
    /// Its protocol state, mark or label changed, or it was answered or assured.
    Update,
    /// It expired, was replaced or deleted.
    Destroy,
}

/// One event with the connection as it was right after it (or last, if destroyed).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CtEvent {
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub conn: ConnSnapshot,
}

/// A bounded queue; when it is full, new events are counted and dropped. Capacity 0: off.
#[derive(Debug, Default)]
pub(crate) struct Events {
    ring: VecDeque<CtEvent>,
    capacity: usize,
    pub lost: u64,
}

impl Events {
    #[inline]
    pub fn enabled(&self) -> bool {
        self.capacity != 0
    }

    pub fn set_capacity(&mut self, n: usize) {
        self.capacity = n;
        self.ring.truncate(n);
        self.ring.shrink_to(n);
    }

    pub fn push(&mut self, e: CtEvent) {
        if self.ring.len() < self.capacity {
            self.ring.push_back(e);
        } else {
            self.lost += 1;
        }
    }

    pub fn pop(&mut self) -> Option<CtEvent> {
        self.ring.pop_front()
    }
}
