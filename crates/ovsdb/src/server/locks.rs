//! Named locks of clients: RFC 7047 §4.1.8.

use std::collections::{BTreeMap, VecDeque};

use super::SessionId;

/// Who holds which lock, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// The first of a queue holds the lock. No queue is empty.
    queues: BTreeMap<String, VecDeque<SessionId>>,
}

impl Locks {
    /// Whether `session` holds or waits for lock `name`.
    pub(super) fn has(&self, name: &str, session: SessionId) -> bool {
        self.queues.get(name).is_some_and(|queue| queue.contains(&session))
    }

    /// Whether `session` holds lock `name`.
    pub(super) fn owns(&self, name: &str, session: SessionId) -> bool {
        self.queues.get(name).and_then(VecDeque::front) == Some(&session)
    }

    /// Takes the lock or gets in line; returns whether it was free.
    pub(super) fn lock(&mut self, name: &str, session: SessionId) -> bool {
        let queue = self.queues.entry(name.to_owned()).or_default();
        queue.push_back(session);
        queue.len() == 1
    }

    /// Takes the lock from its holder, who is returned and stands next in line.
    pub(super) fn steal(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let queue = self.queues.entry(name.to_owned()).or_default();
        let victim = queue.front().copied();
        queue.push_front(session);
        victim
    }

    /// Gives the lock up, or leaves the line; returns who holds it now, if that changed.
    pub(super) fn unlock(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let queue = self.queues.get_mut(name)?;
        let owned = queue.front() == Some(&session);
        queue.retain(|s| *s != session);
        let next = queue.front().copied();
        if next.is_none() {
            self.queues.remove(name);
        }
        next.filter(|_| owned)
    }

    /// Gives up everything; returns the locks that changed hands and their new holders.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<(String, SessionId)> {
        let names: Vec<String> = self.queues.keys().cloned().collect();
        names
            .into_iter()
            .filter_map(|name| self.unlock(&name, session).map(|next| (name, next)))
            .collect()
    }
}
