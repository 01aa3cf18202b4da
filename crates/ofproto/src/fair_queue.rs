//! A queue in which senders take turns: one that sends much makes only itself wait.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Bound::{Excluded, Unbounded};

/// Items of several senders `K`. [`FairQueue::pop`] serves the senders in turn, each in order;
/// [`FairQueue::drop_one`] makes room where most is waiting.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    queues: BTreeMap<K, VecDeque<T>>,
    len: usize,
    /// Who was served last.
    last: Option<K>,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        FairQueue { queues: BTreeMap::new(), len: 0, last: None }
    }
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    /// Items of all senders.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item.
    pub fn push(&mut self, sender: K, item: T) {
        self.queues.entry(sender).or_default().push_back(item);
        self.len += 1;
    }

    /// The next item, of the sender behind the one served last.
    pub fn pop(&mut self) -> Option<T> {
        let behind = match self.last {
            Some(k) => self.queues.range((Excluded(k), Unbounded)).next(),
            None => None,
        };
        let sender = *behind.or_else(|| self.queues.iter().next())?.0;
        self.last = Some(sender);
        self.take_of(sender)
    }

    /// Drops the oldest item of a sender that has most; false if there is none.
    pub fn drop_one(&mut self) -> bool {
        let longest = self.queues.iter().max_by_key(|(_, q)| q.len()).map(|(k, _)| *k);
        longest.and_then(|k| self.take_of(k)).is_some()
    }

    fn take_of(&mut self, sender: K) -> Option<T> {
        let queue = self.queues.get_mut(&sender)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&sender);
        }
        self.len -= usize::from(item.is_some());
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn senders_take_turns_and_the_greediest_loses() {
        let mut q = FairQueue::default();
        for n in 0..5 {
            q.push('a', n);
        }
        q.push('b', 10);
        q.push('c', 20);
        q.push('c', 21);
        assert!(q.drop_one() && q.drop_one());
        assert_eq!(q.len(), 6);
        let all: Vec<i32> = core::iter::from_fn(|| q.pop()).collect();
        assert_eq!(all, [2, 10, 20, 3, 21, 4]);
        assert!(q.is_empty() && !q.drop_one());
        q.push('a', 1);
        q.push('c', 2);
        assert_eq!(q.pop(), Some(2), "c was not served since");
    }
}
