//! The system call.

#![allow(unsafe_code)] // it reads and writes structures through pointers

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::Error;

/// Commands of `enum bpf_cmd`.
#[derive(Copy, Clone)]
#[repr(i32)]
pub(crate) enum Command {
    MapCreate = 0,
    MapUpdate = 2,
    ProgLoad = 5,
    LinkCreate = 28,
}

/// Runs a command. `attr` is the head of its `union bpf_attr`.
///
/// # Safety
/// All pointers in `attr` are to what lives until the call returns, and is as large as the command takes it to be.
pub(crate) unsafe fn bpf<T>(
    what: &'static str,
    command: Command,
    attr: &T,
) -> Result<libc::c_long, Error> {
    let (attr, size) = (std::ptr::from_ref(attr), size_of::<T>());
    // SAFETY: the kernel reads the bytes of `attr` whose size is given and takes the rest of the union as zero; the
    // caller answers for what they point to.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, attr, size) };
    if ret < 0 { Err(last(what)) } else { Ok(ret) }
}

/// The same for commands that give a descriptor.
///
/// # Safety
/// As [`bpf`].
pub(crate) unsafe fn bpf_fd<T>(
    what: &'static str,
    command: Command,
    attr: &T,
) -> Result<OwnedFd, Error> {
    // SAFETY: the caller's.
    let fd = unsafe { bpf(what, command, attr) }?;
    // SAFETY: the kernel has just handed this descriptor out and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The error of the system call that has just failed.
pub(crate) fn last(what: &'static str) -> Error {
    Error::System { what, error: std::io::Error::last_os_error() }
}

/// What programs take for the time (`bpf_ktime_get_ns`), in nanoseconds.
pub fn monotonic() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure given. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
