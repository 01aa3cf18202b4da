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

/// Gives the calling thread time slices that are short: it gets no less of a processor, and when it wakes it need not
/// wait until a thread with a longer one has used it up, which takes milliseconds. A wish: kernels before 6.12 have
/// one length for all.
pub fn prefer_short_slices() {
    let _ = sys::set_time_slice(SHORT_SLICE);
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> i32 {
    sys::thread_id()
}

/// Lets a thread go before all ordinary ones, with a priority from 1 to 99 among those that do (`SCHED_FIFO`); with 0 it
/// is an ordinary one again, with short time slices.
///
/// # Errors
/// `EPERM`: the process may not (`CAP_SYS_NICE`, or `RLIMIT_RTPRIO`). `ESRCH`: there is no such thread.
pub fn set_realtime(thread: i32, priority: u8) -> Result<(), Errno> {
    sys::set_realtime(thread, priority.into(), SHORT_SLICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_before_others_and_is_an_ordinary_one_again() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            prefer_short_slices();
            tell.send((thread_id(), sys::time_slice())).unwrap();
            let _ = wait.recv();
            sys::time_slice()
        });
        let (id, slice) = told.recv().unwrap();
        for priority in [1, 99] {
            match set_realtime(id, priority) {
                Ok(()) => assert_eq!(sys::realtime(id), Ok(priority.into())),
                Err(errno) => assert_eq!(errno, Errno(libc::EPERM)),
            }
        }
        set_realtime(id, 0).unwrap();
        assert_eq!(sys::realtime(id), Ok(0));
        drop(end);
        assert_eq!(thread.join().unwrap(), slice);
        assert_eq!(set_realtime(id, 1), Err(Errno(libc::ESRCH)));
    }

    #[test]
    fn slices_are_short_where_the_kernel_has_them() {
        let slice = std::thread::spawn(|| {
            let before = sys::time_slice();
            prefer_short_slices();
            (before, sys::time_slice())
        });
        let (before, after) = slice.join().unwrap();
        let told = before.unwrap() != 0;
        assert_eq!(after, Ok(if told { SHORT_SLICE } else { 0 }));
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
