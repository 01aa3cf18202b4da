//! Processors: which there are, where they are, and running on one of them.

use std::path::Path;
use std::sync::OnceLock;

use crate::sys::{self, Errno};

/// The processors that the process could run on when it asked first, ascending: those that are online and that
/// its control group and whoever started it leave to it.
pub fn available() -> &'static [usize] {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    ALL.get_or_init(|| sys::affinity().unwrap_or_else(|_| vec![0]))
}

/// The NUMA node of a processor; 0 where the kernel does not say.
pub fn numa_node(cpu: usize) -> usize {
    let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
    let entries = std::fs::read_dir(Path::new(&dir)).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names.filter_map(|n| n.strip_prefix("node")?.parse().ok()).next().unwrap_or(0)
}

/// Makes the calling thread run on that processor and no other.
///
/// # Errors
/// `EINVAL`: there is no such processor, or it is not left to the process.
pub fn pin(cpu: usize) -> Result<(), Errno> {
    available();
    sys::set_affinity(cpu)
}

/// Nanoseconds: the shortest time slice that Linux gives.
const SHORT_SLICE: u64 = 100_000;

/// Niceness of who goes a little before others: it gets half as much again where they compete. Much more (-4 and less) has
/// it woken for every packet by itself, while who sends could have sent more.
const A_LITTLE_BEFORE: i32 = -2;

/// Gives the calling thread time slices that are short: when it wakes it need not wait until a thread with a longer one has
/// used it up, which takes milliseconds. And lets it go a little before others, so that it has not used up its own share
/// then; if the process was started with another niceness than is usual, that stays. Wishes: kernels before 6.12 have one
/// length for all slices, and the second takes `CAP_SYS_NICE`.
pub fn go_before_others() {
    let _ = sys::reschedule(SHORT_SLICE, A_LITTLE_BEFORE);
}

/// Niceness of who has much to do that nobody waits for at once: a third of the processor where another wants it.
const BEHIND: i32 = 5;

/// Lets others go before the calling thread, unless the process was started with another niceness than is usual.
pub fn go_behind_others() {
    let _ = sys::reschedule(0, BEHIND);
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> i32 {
    sys::thread_id()
}

/// Lets a thread go before all ordinary ones, with a priority from 1 to 99 among those that do (`SCHED_FIFO`); with 0 it
/// is an ordinary one again that [goes before others](go_before_others).
///
/// # Errors
/// `EPERM`: the process may not (`CAP_SYS_NICE`, or `RLIMIT_RTPRIO`). `ESRCH`: there is no such thread.
pub fn set_realtime(thread: i32, priority: u8) -> Result<(), Errno> {
    match priority {
        0 => sys::set_ordinary(thread, SHORT_SLICE, A_LITTLE_BEFORE),
        _ => sys::set_realtime(thread, priority.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_before_others_and_is_an_ordinary_one_again() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            go_before_others();
            tell.send((thread_id(), sys::time_slice())).unwrap();
            let _ = wait.recv();
            sys::time_slice()
        });
        let (id, slice) = told.recv().unwrap();
        let usual = sys::niceness(std::process::id() as i32).unwrap();
        let mut may = false;
        for priority in [1, 99] {
            match set_realtime(id, priority) {
                Ok(()) => assert_eq!(sys::realtime(id), Ok(priority.into())),
                Err(errno) => assert_eq!(errno, Errno(libc::EPERM)),
            }
            may = sys::realtime(id) != Ok(0);
        }
        let goes_before = if may && usual == 0 { A_LITTLE_BEFORE } else { usual };
        set_realtime(id, 0).unwrap();
        assert_eq!((sys::realtime(id), sys::niceness(id)), (Ok(0), Ok(goes_before)));
        drop(end);
        assert_eq!(thread.join().unwrap(), slice);
        assert_eq!(set_realtime(id, 1), Err(Errno(libc::ESRCH)));
    }

    #[test]
    fn slices_are_short_where_the_kernel_has_them() {
        let slice = std::thread::spawn(|| {
            let before = sys::time_slice();
            go_before_others();
            (before, sys::time_slice())
        });
        let (before, after) = slice.join().unwrap();
        let told = before.unwrap() != 0;
        assert_eq!(after, Ok(if told { SHORT_SLICE } else { 0 }));
    }

    #[test]
    fn others_go_before_who_says_so() {
        let usual = sys::niceness(std::process::id() as i32).unwrap();
        let behind = std::thread::spawn(|| {
            go_behind_others();
            sys::niceness(0)
        });
        assert_eq!(behind.join().unwrap(), Ok(if usual == 0 { BEHIND } else { usual }));
    }

    #[test]
    fn a_thread_stays_on_its_processor_and_the_others_are_not_forgotten() {
        let all = available().to_vec();
        let last = *all.last().unwrap();
        let pinned = std::thread::spawn(move || pin(last).and_then(|()| sys::affinity()));
        assert_eq!(pinned.join().unwrap(), Ok(vec![last]));
        assert_eq!(available(), all);
        assert!(numa_node(last) < 1024);
        let missing = (0..1024).rev().find(|c| !all.contains(c)).unwrap();
        let refused = std::thread::spawn(move || pin(missing)).join().unwrap();
        assert_eq!(refused, Err(Errno(libc::EINVAL)));
        assert_eq!(pin(usize::MAX), Err(Errno(libc::EINVAL)));
    }
}
