//! The system calls the backends stand on, each behind a safe function.
//!
//! Everything here takes and returns plain Rust values; no raw pointer leaves this module.
//! Structures whose layout is the kernel's are declared where they are used, with their source.

#![allow(unsafe_code)] // system calls without a safe wrapper in std are this module's only content

use std::ffi::CStr;
use std::fmt;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(crate) mod mmsg;
pub(crate) mod ring;
pub(crate) mod xdp;

/// An error number of the kernel. Its text is the C library's, as OVS prints it.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// What the calling thread's last failed system call said.
    pub(crate) fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// From an I/O error; one that is not the system's becomes `EIO`.
    pub fn from_io(e: &std::io::Error) -> Errno {
        Errno(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<bpf::Error> for Errno {
    fn from(e: bpf::Error) -> Errno {
        Errno(e.errno())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as libc::c_char; 128];
        // SAFETY: the buffer is writable for the length given, and strerror_r (POSIX variant)
        // ends what it writes with NUL within it.
        let rc = unsafe { libc::strerror_r(self.0, text.as_mut_ptr(), text.len()) };
        if rc != 0 {
            return write!(f, "Unknown error {}", self.0);
        }
        // SAFETY: NUL-terminated by strerror_r above, and alive until the end of this function.
        f.write_str(&unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.0)
    }
}

impl std::error::Error for Errno {}

/// A system call's return value, or the error it left.
pub(crate) fn cvt(ret: impl Into<i64>) -> Result<i64, Errno> {
    let ret = ret.into();
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// Takes ownership of a descriptor that a system call has just returned.
fn own(ret: impl Into<i64>) -> Result<OwnedFd, Errno> {
    let fd = cvt(ret)? as RawFd;
    // SAFETY: the kernel has just handed this descriptor out and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a close-on-exec, non-blocking socket.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: integers in, descriptor out.
    own(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) })
}

/// Types without padding or invalid bit patterns that the kernel may read and write as bytes.
///
/// # Safety
/// Implementors are `repr(C)` or primitive, have no padding, and any bytes are a valid value.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for i32 {}
// SAFETY: integers.
unsafe impl Plain for u32 {}

/// `struct packet_mreq` of `linux/if_packet.h`.
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct PacketMreq {
    pub ifindex: i32,
    pub kind: u16,
    pub alen: u16,
    pub address: [u8; 8],
}
// SAFETY: integers at their natural offsets, 16 bytes, no padding.
unsafe impl Plain for PacketMreq {}

/// `struct tpacket_stats` of `linux/if_packet.h`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
pub(crate) struct TpacketStats {
    pub packets: u32,
    pub drops: u32,
}
// SAFETY: two integers, no padding.
unsafe impl Plain for TpacketStats {}

/// `struct sockaddr_ll` of `linux/if_packet.h`.
#[repr(C)]
#[derive(Copy, Clone)]
struct SockaddrLl {
    family: u16,
    protocol_be: u16,
    ifindex: i32,
    hatype: u16,
    pkttype: u8,
    halen: u8,
    addr: [u8; 8],
}

/// Sets a socket option.
pub(crate) fn setsockopt<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads exactly the bytes of `value`, which is plain data.
    cvt(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Reads a socket option into `value`, which keeps its old content where the kernel writes less.
pub(crate) fn getsockopt<T: Plain>(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    mut value: T,
) -> Result<T, Errno> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `value`, for which any bytes are valid.
    cvt(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut value).cast(),
            &mut len,
        )
    })?;
    Ok(value)
}

/// What a packet socket receives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hears {
    Nothing,
    /// All but what leaves by the device.
    Incoming,
}

/// Sets a packet socket's filter.
pub(crate) fn set_filter(fd: BorrowedFd<'_>, hears: Hears) -> Result<(), Errno> {
    const PKTTYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let step = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let (drop, take) = (step(libc::BPF_RET, 0, 0), step(libc::BPF_RET, 0, u32::MAX));
    let outgoing = step(IF_EQUAL, 1, u32::from(libc::PACKET_OUTGOING));
    let mut steps = match hears {
        Hears::Nothing => vec![drop],
        Hears::Incoming => vec![step(LOAD, 0, PKTTYPE), outgoing, take, drop],
    };
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program has as many instructions as it says, and the kernel checks and copies them.
    cvt(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Binds a packet socket to a device; `protocol` in host byte order, 0 for a socket that only
/// sends.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32, protocol: u16) -> Result<(), Errno> {
    let addr = SockaddrLl {
        family: libc::AF_PACKET as u16,
        protocol_be: protocol.to_be(),
        ifindex: ifindex as i32,
        hatype: 0,
        pkttype: 0,
        halen: 0,
        addr: [0; 8],
    };
    // SAFETY: `addr` is a sockaddr_ll and its whole size is given.
    cvt(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&addr).cast(),
            size_of_val(&addr) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// `struct sockaddr_nl` of `linux/netlink.h`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
struct SockaddrNl {
    family: u16,
    pad: u16,
    pid: u32,
    groups: u32,
}

/// Binds a netlink socket to multicast groups (a bit mask, may be 0).
pub(crate) fn bind_netlink(fd: BorrowedFd<'_>, groups: u32) -> Result<(), Errno> {
    let addr = SockaddrNl { family: libc::AF_NETLINK as u16, pad: 0, pid: 0, groups };
    // SAFETY: `addr` is a sockaddr_nl and its whole size is given.
    cvt(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&addr).cast(),
            size_of_val(&addr) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Sends one datagram to the connected or default peer.
pub(crate) fn send(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    // SAFETY: pointer and length are a slice's.
    let n = unsafe { libc::send(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), 0) };
    Ok(cvt(n as i64)? as usize)
}

/// Receives one datagram; the returned length is its real one even if `buf` is shorter.
pub(crate) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: pointer and length are a writable slice's.
    let n =
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_TRUNC) };
    Ok(cvt(n as i64)? as usize)
}

/// Waits until `fd` is readable, at most for `timeout`. True if it is (or has an error).
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: std::time::Duration) -> bool {
    let mut fds = [pollfd(fd)];
    poll(&mut fds, Some(timeout)).is_ok() && fds[0].revents != 0
}

/// Longest device name in bytes (`IFNAMSIZ` - 1).
pub(crate) const IFNAME_MAX: usize = 15;

/// `struct ifreq` of `linux/if.h` with the union as bytes.
#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub(crate) struct Ifreq {
    pub name: [u8; 16],
    pub data: [u8; 24],
}

impl Ifreq {
    /// For the device `name`; `ENAMETOOLONG`/`EINVAL` if no device can have that name.
    pub(crate) fn new(name: &str) -> Result<Ifreq, Errno> {
        if name.len() > IFNAME_MAX {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        if name.is_empty() || name.bytes().any(|c| c == 0) {
            return Err(Errno(libc::EINVAL));
        }
        let mut r = Ifreq { name: [0; 16], data: [0; 24] };
        r.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(r)
    }

    /// The union as a native integer.
    pub(crate) fn int(&self) -> i32 {
        i32::from_ne_bytes([self.data[0], self.data[1], self.data[2], self.data[3]])
    }

    /// Stores a 16-bit value in the union.
    pub(crate) fn set_u16(&mut self, v: u16) {
        self.data[..2].copy_from_slice(&v.to_ne_bytes());
    }
}

/// An ioctl that reads and writes an `ifreq` and nothing it points to.
pub(crate) fn ioctl_ifreq(fd: BorrowedFd<'_>, op: u64, req: &mut Ifreq) -> Result<(), Errno> {
    // SAFETY: `req` is at least as large as the kernel's ifreq; the callers' operations use the
    // union by value.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), op as _, std::ptr::from_mut(req)) })?;
    Ok(())
}

/// SIOCETHTOOL: `cmd` is the ethtool structure, command word first, to be read and written.
pub(crate) fn ioctl_ethtool(fd: BorrowedFd<'_>, name: &str, cmd: &mut [u32]) -> Result<(), Errno> {
    let mut req = Ifreq::new(name)?;
    let ptr = cmd.as_mut_ptr() as usize;
    req.data[..size_of::<usize>()].copy_from_slice(&ptr.to_ne_bytes());
    // SAFETY: the union holds a pointer to `cmd`, which the callers make large enough for the
    // answer of the command in its first word (see `link::ethtool`), and it outlives the call.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as _, &mut req) })?;
    Ok(())
}

/// An ioctl with an integer behind a pointer.
pub(crate) fn ioctl_int_ptr(fd: BorrowedFd<'_>, op: u64, value: i32) -> Result<(), Errno> {
    // SAFETY: the operations used read one int.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), op as _, std::ptr::from_ref(&value)) })?;
    Ok(())
}

/// An ioctl with an integer as the argument itself.
pub(crate) fn ioctl_val(fd: BorrowedFd<'_>, op: u64, value: u64) -> Result<(), Errno> {
    // SAFETY: the operations used take the argument by value.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), op as _, value as libc::c_ulong) })?;
    Ok(())
}

/// `readv` of a small header and a large body. Returns the bytes read in all.
pub(crate) fn readv2(fd: BorrowedFd<'_>, a: &mut [u8], b: &mut [u8]) -> Result<usize, Errno> {
    let iov = [
        libc::iovec { iov_base: a.as_mut_ptr().cast(), iov_len: a.len() },
        libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() },
    ];
    // SAFETY: two vectors, each a writable slice.
    let n = unsafe { libc::readv(fd.as_raw_fd(), iov.as_ptr(), 2) };
    Ok(cvt(n as i64)? as usize)
}

/// `writev` of a small header and a large body.
pub(crate) fn writev2(fd: BorrowedFd<'_>, a: &[u8], b: &[u8]) -> Result<usize, Errno> {
    let iov = [
        libc::iovec { iov_base: a.as_ptr().cast_mut().cast(), iov_len: a.len() },
        libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() },
    ];
    // SAFETY: two vectors, each a slice; writev only reads them.
    let n = unsafe { libc::writev(fd.as_raw_fd(), iov.as_ptr(), 2) };
    Ok(cvt(n as i64)? as usize)
}

/// Binds a unix datagram socket to an abstract name. `EADDRINUSE` if someone holds it.
pub(crate) fn bind_abstract(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let mut addr = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    let n = name.len().min(addr.sun_path.len() - 1);
    for (to, from) in addr.sun_path[1..].iter_mut().zip(&name[..n]) {
        *to = *from as libc::c_char;
    }
    let len = size_of::<libc::sa_family_t>() + 1 + n;
    // SAFETY: `addr` is a sockaddr_un and `len` is within it.
    cvt(unsafe {
        libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&addr).cast(), len as libc::socklen_t)
    })?;
    Ok(())
}

/// The processors that the calling thread may run on, ascending.
pub(crate) fn affinity() -> Result<Vec<usize>, Errno> {
    // SAFETY: a set of bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size given; 0 is the calling thread.
    cvt(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    // SAFETY: the number is below the set's size.
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(is_set).collect())
}

/// Leaves one processor to the calling thread.
pub(crate) fn set_affinity(cpu: usize) -> Result<(), Errno> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: a set of bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the size given; 0 is the calling thread.
    cvt(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })?;
    Ok(())
}

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: it reads a number.
    unsafe { libc::gettid() }
}

/// How a thread is scheduled; 0 is the calling one.
fn scheduling(thread: i32) -> Result<libc::sched_attr, Errno> {
    // SAFETY: numbers, for which zero is a value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attr) as u32;
    // SAFETY: the kernel writes at most the size given.
    cvt(unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &mut attr, size, 0) })?;
    Ok(attr)
}

fn schedule(thread: i32, attr: &libc::sched_attr) -> Result<(), Errno> {
    // SAFETY: the kernel reads the size that the structure gives.
    cvt(unsafe { libc::syscall(libc::SYS_sched_setattr, thread, attr, 0) })?;
    Ok(())
}

/// The real-time priority of a thread, 0 of an ordinary one.
#[cfg(test)]
pub(crate) fn realtime(thread: i32) -> Result<u32, Errno> {
    Ok(scheduling(thread)?.sched_priority)
}

/// The niceness of a thread; 0 of one that is no ordinary one.
#[cfg(test)]
pub(crate) fn niceness(thread: i32) -> Result<i32, Errno> {
    Ok(scheduling(thread)?.sched_nice)
}

/// Gives a thread a real-time priority (`SCHED_FIFO`).
pub(crate) fn set_realtime(thread: i32, priority: u32) -> Result<(), Errno> {
    let mut attr = scheduling(thread)?;
    (attr.sched_policy, attr.sched_priority) = (libc::SCHED_FIFO as u32, priority);
    attr.sched_runtime = 0;
    schedule(thread, &attr)
}

/// Makes a thread an ordinary one with that time slice in nanoseconds, if it has any (0: as others), and with that
/// niceness if the process's own is 0 and it may.
pub(crate) fn set_ordinary(thread: i32, slice: u64, nice: i32) -> Result<(), Errno> {
    let mut attr = scheduling(thread)?;
    (attr.sched_policy, attr.sched_priority) = (libc::SCHED_OTHER as u32, 0);
    attr.sched_runtime = slice;
    let usual = scheduling(std::process::id() as i32)?.sched_nice;
    attr.sched_nice = if usual == 0 { nice } else { usual };
    schedule(thread, &attr).or_else(|_| {
        attr.sched_nice = usual;
        schedule(thread, &attr)
    })
}

/// The same of the calling thread, if it is an ordinary one.
pub(crate) fn reschedule(slice: u64, nice: i32) -> Result<(), Errno> {
    match scheduling(0)?.sched_policy == libc::SCHED_OTHER as u32 {
        true => set_ordinary(0, slice, nice),
        false => Ok(()),
    }
}

/// The time slice of the calling thread in nanoseconds, if it has one that the kernel tells.
#[cfg(test)]
pub(crate) fn time_slice() -> Result<u64, Errno> {
    Ok(scheduling(0)?.sched_runtime)
}

/// Asks for huge pages for the whole pages of a piece of memory.
pub(crate) fn advise_huge_pages<T>(memory: &[T]) -> Result<(), Errno> {
    const PAGE: usize = 4096;
    let all = memory.as_ptr_range();
    let (from, to) = (all.start.addr().next_multiple_of(PAGE), all.end.addr() & !(PAGE - 1));
    let start = all.start.with_addr(from).cast_mut().cast();
    // SAFETY: the pages are within borrowed memory, and the advice changes nothing that can be read there.
    cvt(unsafe { libc::madvise(start, to.saturating_sub(from), libc::MADV_HUGEPAGE) })?;
    Ok(())
}

/// A new epoll set.
pub(crate) fn epoll_create() -> Result<OwnedFd, Errno> {
    // SAFETY: a flag in, a descriptor out.
    own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Adds a descriptor for reading, level-triggered.
pub(crate) fn epoll_add(ep: BorrowedFd<'_>, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
    let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: `ev` is read for the length of the call.
    cvt(unsafe { libc::epoll_ctl(ep.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut ev) })?;
    Ok(())
}

/// Removes a descriptor.
pub(crate) fn epoll_del(ep: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the event is not read for this operation.
    cvt(unsafe {
        libc::epoll_ctl(ep.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut())
    })?;
    Ok(())
}

/// A timeout for the kernel, rounded up, so that a short wait does not become a busy loop.
fn milliseconds(timeout: Option<std::time::Duration>) -> i32 {
    timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

/// For [`poll`]: asks whether a descriptor is readable.
pub(crate) fn pollfd(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits until one of the descriptors is readable or in error, which `revents` tells, or the time is over.
pub(crate) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<std::time::Duration>,
) -> Result<(), Errno> {
    let n = fds.len() as libc::nfds_t;
    // SAFETY: the kernel writes within the `n` entries of the slice.
    match cvt(unsafe { libc::poll(fds.as_mut_ptr(), n, milliseconds(timeout)) }) {
        Ok(_) => Ok(()),
        Err(Errno(libc::EINTR)) => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Waits and calls `each` with the token of every ready descriptor (up to 64 at a time). A
/// signal ends the wait early without an error.
pub(crate) fn epoll_wait(
    ep: BorrowedFd<'_>,
    timeout: Option<std::time::Duration>,
    mut each: impl FnMut(u64),
) -> Result<(), Errno> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    // SAFETY: the kernel writes at most 64 events into the array.
    let r = cvt(unsafe {
        libc::epoll_wait(ep.as_raw_fd(), events.as_mut_ptr(), 64, milliseconds(timeout))
    });
    match r {
        Ok(n) => {
            for e in &events[..n as usize] {
                each(e.u64);
            }
            Ok(())
        }
        Err(Errno(libc::EINTR)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A new event counter.
pub(crate) fn eventfd() -> Result<OwnedFd, Errno> {
    // SAFETY: integers in, a descriptor out.
    own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Makes an event counter readable. Cannot fail but when it is readable anyway.
pub(crate) fn eventfd_ring(fd: BorrowedFd<'_>) {
    // SAFETY: an eventfd takes eight bytes.
    unsafe { libc::write(fd.as_raw_fd(), 1u64.to_ne_bytes().as_ptr().cast(), 8) };
}

/// Makes an event counter unreadable.
pub(crate) fn eventfd_clear(fd: BorrowedFd<'_>) {
    let mut count = [0u8; 8];
    // SAFETY: an eventfd gives eight bytes.
    unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
}
