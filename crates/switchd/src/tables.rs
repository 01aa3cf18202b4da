//! The lock around the switch, made so that packets hardly wait while a controller loads flows.
//!
//! The control thread changes the tables message by message and lets the lock go between slices of
//! them. A worker with a packet that no megaflow knows registers while it waits, and
//! [`Tables::give_way`] leaves it the lock. It sleeps between its tries: spinning with
//! `sched_yield`, as locks do, gives its whole time slice to whoever else is on its processor, which
//! are the tools that load the flows (measured: gaps of 12 ms, with locks held for less than 2).
//! Packets of flows that are known do not wait at all ([`Tables::read_unless_changing`]).

use std::sync::atomic::Ordering::Release;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::AcqRel, Ordering::Acquire};
use std::thread::sleep;
use std::time::Duration;

use ofproto::Switch;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Between two tries to get the lock.
const NAP: Duration = Duration::from_micros(20);
/// Tries for which the control thread stays away from the lock at most.
const PATIENCE: u32 = 50;

/// See the module.
#[derive(Debug)]
pub struct Tables {
    switch: RwLock<Switch>,
    /// Threads that wait to read.
    n_waiting: AtomicU32,
    changing: AtomicBool,
}

/// As long as it lives, the tables count as being changed.
#[derive(Debug)]
pub struct Changing<'a>(&'a AtomicBool);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

impl Tables {
    /// Around `switch`.
    pub fn new(switch: Switch) -> Tables {
        Tables {
            switch: RwLock::new(switch),
            n_waiting: AtomicU32::new(0),
            changing: AtomicBool::new(false),
        }
    }

    /// To read; waits for whoever writes.
    pub fn read(&self) -> RwLockReadGuard<'_, Switch> {
        if let Some(guard) = self.switch.try_read() {
            return guard;
        }
        self.n_waiting.fetch_add(1, AcqRel);
        let guard = loop {
            sleep(NAP);
            if let Some(guard) = self.switch.try_read() {
                break guard;
            }
        };
        self.n_waiting.fetch_sub(1, AcqRel);
        guard
    }

    /// To read, unless that has to wait for changes that are under way.
    pub fn read_unless_changing(&self) -> Option<RwLockReadGuard<'_, Switch>> {
        match self.changing.load(Acquire) {
            true => self.switch.try_read(),
            false => Some(self.read()),
        }
    }

    /// To write.
    pub fn write(&self) -> RwLockWriteGuard<'_, Switch> {
        self.switch.write()
    }

    /// Begins a row of changes, each under a lock of its own. Nobody may be told that they are done
    /// before it ends.
    pub fn changing(&self) -> Changing<'_> {
        self.changing.store(true, Release);
        Changing(&self.changing)
    }

    /// Between two changes: lets those go first who wait, for some milliseconds at most.
    pub fn give_way(&self) {
        for _ in 0..PATIENCE {
            if self.n_waiting.load(Acquire) == 0 {
                return;
            }
            sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use std::sync::mpsc;
    use std::thread;

    fn world() -> World {
        World::new(base::HashKey([1, 2]), "test", dpif::Generation::default())
    }

    #[test]
    fn known_flows_do_not_wait_for_a_row_of_changes() {
        let world = world();
        let tables = &world.switch;
        let changing = tables.changing();
        let writer = tables.write();
        assert!(tables.read_unless_changing().is_none());
        drop(writer);
        assert!(tables.read_unless_changing().is_some(), "between two changes");
        drop(changing);
        assert!(tables.read_unless_changing().is_some());
    }

    #[test]
    fn without_a_row_of_changes_they_wait() {
        let world = world();
        let tables = &world.switch;
        let writer = tables.write();
        thread::scope(|s| {
            let (tell, told) = mpsc::channel();
            s.spawn(move || {
                drop(tables.read_unless_changing());
                tell.send(()).ok();
            });
            while tables.n_waiting.load(Acquire) == 0 {
                thread::yield_now();
            }
            assert!(told.try_recv().is_err());
            drop(writer);
            // The reader is let through, and nobody waits afterwards.
            told.recv().expect("it read");
            tables.give_way();
            assert_eq!(tables.n_waiting.load(Acquire), 0);
        });
    }
}
