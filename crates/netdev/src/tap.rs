//! The switch's own ports: taps that it creates and holds (a bridge's internal port).
//!
//! The frames that the host sends through the device are what the switch receives. The descriptor
//! speaks virtio-net headers of 10 bytes with all offloads on, so the host's stack hands over
//! whole TCP segments and unfinished checksums. One system call moves one frame; reads and writes
//! of different threads do not disturb each other, so sending halves are duplicates of the
//! descriptor. The device disappears when the last descriptor is closed, and may be moved to
//! another network namespace meanwhile.
//!
//! With several queues (`IFF_MULTI_QUEUE`) each has a descriptor. The kernel puts the frames of a connection
//! into the queue by which frames of it were sent to the host last, else into the one that a hash says.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use packet::{Offload, PacketBuf, VNET_HDR_LEN, header};

use crate::link::LinkStats;
use crate::port::exceeds_mtu;
use crate::soft::{Softener, Takes};
use crate::state::Unreported;
use crate::sys::{self, Errno};
use crate::{BATCH, Error, Port, PortState, Received, RxDrop, RxQueue, TxDrop, TxQueue, Warning};

/// `TUN_F_*` of `linux/if_tun.h`.
const TUN_F_CSUM: u64 = 0x01;
const TUN_F_TSO4: u64 = 0x02;
const TUN_F_TSO6: u64 = 0x04;
const TUN_F_TSO_ECN: u64 = 0x08;
const TUN_F_USO4: u64 = 0x20;
const TUN_F_USO6: u64 = 0x40;

/// A tap of our own as a port.
#[derive(Debug)]
pub struct Tap {
    name: String,
    ifindex: u32,
    /// One for each queue, at least one.
    fds: Vec<Arc<OwnedFd>>,
    state: Arc<PortState>,
    /// Receiving halves that were given out.
    n_taken: usize,
    /// Sending halves that were.
    n_tx: AtomicUsize,
    warnings: Vec<Warning>,
    unreported: Unreported,
}

impl Tap {
    /// Creates the device `name` in the calling thread's network namespace, or takes over an
    /// existing tap of that name which nobody holds. It starts down.
    ///
    /// # Errors
    /// It cannot be made, or is somebody else's.
    pub fn open(name: &str) -> Result<Tap, Error> {
        Tap::with_queues(name, 1)
    }

    /// The same with so many queues, at least one and at most 256.
    ///
    /// # Errors
    /// As [`Tap::open`]; a tap that exists has to be made for several queues or for one.
    pub fn with_queues(name: &str, n_queues: usize) -> Result<Tap, Error> {
        let fail = |e| Error::open(name, e);
        if name.contains('%') {
            return Err(fail(Errno(libc::EINVAL))); // the kernel would make up a name
        }
        let mut warnings = Vec::new();
        let mut fds = Vec::with_capacity(n_queues);
        for queue in 0..n_queues.max(1) {
            match open_queue(name, n_queues > 1, queue == 0, &mut warnings) {
                Ok(fd) => fds.push(Arc::new(fd)),
                Err(e) if queue == 0 => return Err(e),
                Err(e) => {
                    let option = "IFF_MULTI_QUEUE";
                    let errno = e.errno();
                    warnings.push(Warning::Option { device: name.to_owned(), option, errno });
                    break;
                }
            }
        }

        let probe = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).map_err(fail)?;
        let mut req = sys::Ifreq::new(name).map_err(fail)?;
        sys::ioctl_ifreq(probe.as_fd(), libc::SIOCGIFINDEX, &mut req).map_err(fail)?;
        let ifindex = req.int() as u32;
        sys::ioctl_ifreq(probe.as_fd(), libc::SIOCGIFMTU, &mut req).map_err(fail)?;
        let state = Arc::new(PortState::new(req.int() as u32));
        let (name, n_tx) = (name.to_owned(), AtomicUsize::new(0));
        let unreported = Unreported::default();
        Ok(Tap { name, ifindex, fds, state, n_taken: 0, n_tx, warnings, unreported })
    }
}

/// Opens a queue of a tap; the first says what all have.
fn open_queue(
    name: &str,
    is_one_of_many: bool,
    is_first: bool,
    warnings: &mut Vec<Warning>,
) -> Result<OwnedFd, Error> {
    let fail = |e| Error::open(name, e);
    let mut req = sys::Ifreq::new(name).map_err(fail)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|e| fail(Errno::from_io(&e)))?;
    let fd = OwnedFd::from(file);
    let tap = fd.as_fd();
    let many = if is_one_of_many { libc::IFF_MULTI_QUEUE } else { 0 };
    req.set_u16((libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | many) as u16);
    sys::ioctl_ifreq(tap, libc::TUNSETIFF, &mut req).map_err(|e| match e {
        Errno(libc::EBUSY) => Error::Busy {
            device: name.to_owned(),
            holder: "another process has the tap open".to_owned(),
        },
        e => fail(e),
    })?;
    sys::ioctl_int_ptr(tap, libc::TUNSETVNETHDRSZ, VNET_HDR_LEN as i32).map_err(fail)?;
    let mut note = |option, r: Result<(), Errno>| {
        if let Err(errno) = r
            && is_first
        {
            warnings.push(Warning::Option { device: name.to_owned(), option, errno });
        }
    };
    let tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let offload = |flags| sys::ioctl_val(tap, libc::TUNSETOFFLOAD, flags);
    // Kernels before 6.2 know no USO.
    let r = offload(tso | TUN_F_USO4 | TUN_F_USO6).or_else(|_| offload(tso));
    note("TUNSETOFFLOAD", r);
    note("TUNSETSNDBUF", sys::ioctl_int_ptr(tap, libc::TUNSETSNDBUF, i32::MAX));
    Ok(fd)
}

impl Port for Tap {
    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> Option<u32> {
        Some(self.ifindex)
    }

    fn state(&self) -> &Arc<PortState> {
        &self.state
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        let fd = Arc::clone(self.fds.get(self.n_taken)?);
        self.n_taken += 1;
        Some(Box::new(Rx { fd, state: Arc::clone(&self.state) }))
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        // Each worker sends by a queue of its own as far as there are some.
        let fd = &self.fds[self.n_tx.fetch_add(1, Relaxed) % self.fds.len()];
        let (fd, state) = (Arc::clone(fd), Arc::clone(&self.state));
        Ok(Box::new(Tx { fd, state, soft: Softener::default() }))
    }

    fn note_device(&self, stats: &LinkStats) {
        // What the host sends is dropped where its queues are full, which we did not read in time.
        self.state.drop_rx(RxDrop::Overrun, self.unreported.read(stats.tx_dropped, 0));
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// The receiving half.
#[derive(Debug)]
struct Rx {
    fd: Arc<OwnedFd>,
    state: Arc<PortState>,
}

impl RxQueue for Rx {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let want = bufs.len().min(BATCH);
        let mut out = Received { n: 0, more: true, gone: false };
        let mut bytes = 0;
        for _ in 0..want {
            let buf = &mut bufs[out.n];
            let mut hdr = [0; VNET_HDR_LEN];
            let len = match sys::readv2(self.fd.as_fd(), &mut hdr, buf.recv_space()) {
                Ok(n) => n.saturating_sub(VNET_HDR_LEN),
                Err(Errno(libc::EINTR)) => continue,
                // A frame was read, and lost: its segmentation cannot be told.
                Err(Errno(libc::EINVAL)) => {
                    self.state.drop_rx(RxDrop::UnknownOffload, 1);
                    continue;
                }
                Err(e) => {
                    // Down: EIO or nothing to read. Removed: EBADFD.
                    out.gone = e.0 == libc::EBADFD;
                    out.more = false;
                    if !matches!(e.0, libc::EAGAIN | libc::EBADFD | libc::EIO) {
                        self.state.drop_rx(RxDrop::Error, 1);
                    }
                    break;
                }
            };
            let Some(offload) = Offload::from_bytes(&hdr) else {
                self.state.drop_rx(RxDrop::UnknownOffload, 1);
                continue;
            };
            if len < header::ETH_LEN {
                self.state.drop_rx(RxDrop::Runt, 1);
                continue;
            }
            // A read that fills the buffer may have cut the frame; no device is that large.
            if len >= buf.capacity() {
                self.state.drop_rx(RxDrop::Truncated, 1);
                continue;
            }
            buf.set_len(len);
            buf.offload = offload;
            out.n += 1;
            bytes += len;
        }
        self.state.count_rx(out.n, bytes);
        out
    }
}

/// A sending half.
#[derive(Debug)]
struct Tx {
    fd: Arc<OwnedFd>,
    state: Arc<PortState>,
    soft: Softener,
}

impl TxQueue for Tx {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        let (mut n, mut bytes) = (0, 0);
        let Tx { fd, state, soft } = self;
        let mtu = state.mtu();
        soft.run(Takes::VirtioNet, pkts, state, |batch| {
            for pkt in batch {
                // A tap takes anything; the MTU of the link is ours to keep.
                let sent = if exceeds_mtu(pkt, mtu) {
                    Err(TxDrop::TooBig)
                } else {
                    write(fd.as_fd(), pkt).map_err(TxDrop::from_errno)
                };
                match sent {
                    Ok(()) => {
                        n += 1;
                        bytes += pkt.len();
                    }
                    Err(reason) => state.drop_tx(reason, 1),
                }
            }
        });
        state.count_tx(n, bytes);
        n
    }
}

/// Writes one frame, again when a signal came between.
fn write(fd: BorrowedFd<'_>, pkt: &PacketBuf) -> Result<(), Errno> {
    let hdr = pkt.offload.to_bytes();
    loop {
        match sys::writev2(fd, &hdr, pkt.frame()) {
            Ok(_) => return Ok(()),
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::new_batch;

    /// An epoll descriptor refuses to be read as a tap does whose frame's segmentation cannot be told.
    #[test]
    fn a_frame_that_cannot_be_told_is_no_end_of_the_batch() {
        let state = Arc::new(PortState::new(1500));
        let fd = Arc::new(sys::epoll_create().unwrap());
        let mut rx = Rx { fd, state: Arc::clone(&state) };
        let got = rx.recv(&mut new_batch());
        assert_eq!(got, Received { n: 0, more: true, gone: false });
        let counters = state.counters();
        assert_eq!(counters.rx_drop(RxDrop::UnknownOffload), BATCH as u64);
        assert_eq!(counters.rx_drop(RxDrop::Error), 0);
    }

    #[test]
    fn any_other_error_is_counted_once_and_ends_the_batch() {
        let dir = std::fs::File::open("/").unwrap();
        let state = Arc::new(PortState::new(1500));
        let mut rx = Rx { fd: Arc::new(OwnedFd::from(dir)), state: Arc::clone(&state) };
        assert_eq!(rx.recv(&mut new_batch()), Received::default());
        assert_eq!(state.counters().rx_drop(RxDrop::Error), 1);
    }
}
