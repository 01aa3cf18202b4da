//! Ports on existing kernel devices: veth ends, NICs, taps that another process opened.
//!
//! One packet socket receives, one more per [`TxQueue`] sends (bound with protocol 0, so that it
//! receives nothing). Small frames are read from a ring in memory shared with the kernel, without
//! a system call; large ones, which would need slots of 64 KB, from the socket, in the order that
//! the ring tells. With `PACKET_VNET_HDR` a virtio-net header of 10 bytes precedes each frame
//! in both directions and carries segmentation size and checksum state. The kernel takes the
//! outer VLAN tag out of received frames and hands it over as auxiliary data; here it goes back
//! into the frame. `PACKET_IGNORE_OUTGOING` keeps frames that the host or we send on the device
//! from coming back.
//!
//! A packet socket is a listener: the host's stack gets the frames too, unless an attachment
//! ([`crate::exclusive`]), which [`AfPacket::open`] makes, takes them away behind the socket.
//!
//! Several receiving halves ([`Options::n_queues`]) are sockets of a `PACKET_FANOUT` group: the kernel hands each
//! frame to one of them by a hash of its addresses and ports, the same for both directions. Fragments go by
//! their addresses alone; the kernel is not asked to put them together, for that changes frames.
//!
//! When the device goes down, receiving yields nothing until it is up again. When it is removed,
//! sends count [`TxDrop::Gone`] and receiving yields nothing for ever (the kernel does not tell a
//! packet socket the difference; `link::Monitor` does).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use packet::{Offload, PacketBuf, VNET_HDR_LEN, header};

use crate::exclusive::{Attachment, Claim, Method};
use crate::link::{LinkStats, Links};
use crate::soft::{Softener, Takes};
use crate::state::Unreported;
use crate::sys::mmsg::{self, RxMeta};
use crate::sys::ring::Ring;
use crate::sys::{self, Errno, Hears, PacketMreq, TpacketStats};
use crate::{
    BATCH, Bypass, Counters, Error, Port, PortState, Received, RxDrop, RxQueue, TxDrop, TxQueue,
    Warning, Way,
};

/// `linux/if_packet.h` and `asm/socket.h`, where the libc crate lacks them.
const PACKET_ADD_MEMBERSHIP: i32 = 1;
const PACKET_STATISTICS: i32 = 6;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_FANOUT: i32 = 18;
const PACKET_QDISC_BYPASS: i32 = 20;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_MR_PROMISC: u16 = 1;
const ETH_P_ALL: u16 = 3;
/// `PACKET_FANOUT_FLAG_…` in their place above the group's number: the kernel finds a number; frames that we send
/// do not come back (kernels before 5.17 do not know that one). The algorithm beside them is
/// `PACKET_FANOUT_HASH`, which is 0.
const NEW_GROUP: i32 = 0x2000 << 16 | IGNORE_OUTGOING;
const IGNORE_OUTGOING: i32 = 0x4000 << 16;

/// How a device is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pass segmentation and checksum metadata (`PACKET_VNET_HDR`). Without it, large frames of
    /// the peer arrive broken and ours are segmented in software: for measurements and tests.
    pub vnet_hdr: bool,
    /// Receive frames to any address.
    pub promiscuous: bool,
    /// Send past the device's queueing discipline (`PACKET_QDISC_BYPASS`). Off by default: the
    /// kernel then drops every frame that the device cannot take as it is (a large packet for a
    /// device without TSO, such as a tap whose guest has its offloads off) instead of cutting it,
    /// and on veth it gains nothing.
    pub qdisc_bypass: bool,
    /// How to keep the host's stack from the frames, in order of preference; none: share them.
    pub exclusive: &'static [Method],
    /// Frames that the receive ring holds; 0 for no ring. A frame takes 2 KB. When it is full,
    /// frames are lost ([`RxDrop::Overrun`]).
    pub ring: usize,
    /// Receiving halves, at least one.
    pub n_queues: usize,
    /// What forwards packets in the kernel, if the device is taken by [`Method::Tcx`].
    pub bypass: Option<Arc<Bypass>>,
    /// Socket buffer for each direction in bytes. A 64 KB frame is accounted with its overhead.
    pub buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            vnet_hdr: true,
            promiscuous: true,
            qdisc_bypass: false,
            exclusive: Method::ALL,
            ring: 1024,
            n_queues: 1,
            bypass: None,
            buffer: 16 << 20,
        }
    }
}

/// A kernel device as a port.
#[derive(Debug)]
pub struct AfPacket {
    name: String,
    ifindex: u32,
    options: Options,
    state: Arc<PortState>,
    /// Receiving halves that were not given out, the next one last.
    rx: Vec<Rx>,
    /// The receiving halves' sockets, to read the kernel's counter of lost frames from.
    rx_fds: Vec<Arc<OwnedFd>>,
    warnings: Vec<Warning>,
    unreported: Unreported,
    attachment: Option<Attachment>,
    _claim: Claim,
}

impl AfPacket {
    /// Opens the device `name` of the calling thread's network namespace.
    ///
    /// # Errors
    /// There is no such device, or no right to it, or it is somebody else's.
    pub fn open(name: &str, options: Options) -> Result<AfPacket, Error> {
        let fail = |e| Error::open(name, e);
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(fail)?;
        // No device can have a name that is too long.
        let mut req = sys::Ifreq::new(name).map_err(|_| fail(Errno(libc::ENODEV)))?;
        sys::ioctl_ifreq(fd.as_fd(), libc::SIOCGIFINDEX, &mut req).map_err(fail)?;
        let ifindex = req.int() as u32;
        sys::ioctl_ifreq(fd.as_fd(), libc::SIOCGIFMTU, &mut req).map_err(fail)?;
        let state = Arc::new(PortState::new(req.int() as u32));
        let mut links = Links::open()?;
        let claim = Claim::take(name, ifindex, &mut links)?;

        let mut port = AfPacket {
            name: name.to_owned(),
            ifindex,
            options,
            state,
            rx: Vec::new(),
            rx_fds: Vec::new(),
            warnings: Vec::new(),
            unreported: Unreported::default(),
            attachment: None,
            _claim: claim,
        };
        port.open_rx(fd)?;
        if port.options.promiscuous {
            join_promiscuous(port.rx_fds[0].as_fd(), ifindex).map_err(fail)?;
        }
        sys::bind_packet(port.rx_fds[0].as_fd(), ifindex, ETH_P_ALL).map_err(fail)?;
        if port.options.n_queues > 1 {
            port.fan_out();
        }
        port.rx.reverse();
        let (methods, bypass) = (port.options.exclusive, port.options.bypass.as_deref());
        let (attachment, warning) = Attachment::new(name, ifindex, methods, bypass, &mut links);
        port.warnings.extend(warning);
        port.attachment = attachment;
        port.let_bypass(&mut links);
        Ok(port)
    }

    /// Makes a receiving half of a socket, not yet bound.
    fn open_rx(&mut self, fd: OwnedFd) -> Result<(), Error> {
        let fail = |e| Error::open(&self.name, e);
        let on = 1i32;
        let set = |opt| sys::setsockopt(fd.as_fd(), libc::SOL_PACKET, opt, &on);
        set(mmsg::PACKET_AUXDATA).map_err(fail)?;
        set(PACKET_IGNORE_OUTGOING).map_err(fail)?;
        if self.options.vnet_hdr {
            set(PACKET_VNET_HDR).map_err(fail)?;
        }
        let is_first = self.rx.is_empty();
        if let Some(got) = set_buffer(fd.as_fd(), true, self.options.buffer).filter(|_| is_first) {
            let (device, want) = (self.name.clone(), self.options.buffer);
            self.warnings.push(Warning::SmallBuffer { device, want, got });
        }
        let ring = match self.options.ring {
            0 => None,
            n => match Ring::new(fd.as_fd(), n) {
                Ok(ring) => Some(ring),
                Err(errno) => {
                    self.refused("PACKET_RX_RING", errno);
                    None
                }
            },
        };
        let fd = Arc::new(fd);
        self.rx_fds.push(Arc::clone(&fd));
        self.rx.push(Rx {
            fd,
            ring,
            messages: mmsg::RxRing::new(),
            vnet: self.options.vnet_hdr,
            state: Arc::clone(&self.state),
        });
        Ok(())
    }

    fn refused(&mut self, option: &'static str, errno: Errno) {
        if !self
            .warnings
            .iter()
            .any(|w| matches!(w, Warning::Option { option: o, .. } if *o == option))
        {
            self.warnings.push(Warning::Option { device: self.name.clone(), option, errno });
        }
    }

    /// Adds the other receiving halves. Without them the first gets all frames, as do those there are if one
    /// cannot be had.
    fn fan_out(&mut self) {
        // Kernels before 6.13 want the device up for this.
        if let Err(errno) = self.join_group(0, NEW_GROUP) {
            self.refused("PACKET_FANOUT", errno);
            return;
        }
        let fd = self.rx_fds[0].as_fd();
        let group = sys::getsockopt(fd, libc::SOL_PACKET, PACKET_FANOUT, 0i32);
        // What the sockets were told of outgoing frames does not count in a group.
        let group = match group.and_then(|g| sys::set_filter(fd, Hears::Incoming).map(|()| g)) {
            Ok(group) => group & 0xffff | IGNORE_OUTGOING,
            Err(errno) => return self.refused("PACKET_FANOUT", errno),
        };
        for at in 1..self.options.n_queues {
            if let Err(e) = self.add_queue(at, group) {
                self.rx.truncate(at);
                self.rx_fds.truncate(at);
                self.refused("PACKET_FANOUT", e.errno());
                return;
            }
        }
    }

    fn add_queue(&mut self, at: usize, group: i32) -> Result<(), Error> {
        let device = self.name.clone();
        let fail = |e| Error::open(&device, e);
        self.open_rx(sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(fail)?)?;
        let fd = Arc::clone(&self.rx_fds[at]);
        // Between being bound and being in the group it would get frames that the others get, too.
        sys::set_filter(fd.as_fd(), Hears::Nothing).map_err(fail)?;
        sys::bind_packet(fd.as_fd(), self.ifindex, ETH_P_ALL).map_err(fail)?;
        self.join_group(at, group).map_err(fail)?;
        sys::set_filter(fd.as_fd(), Hears::Incoming).map_err(fail)
    }

    fn join_group(&self, at: usize, group: i32) -> Result<(), Errno> {
        sys::setsockopt(self.rx_fds[at].as_fd(), libc::SOL_PACKET, PACKET_FANOUT, &group)
    }

    /// Lets the bypass take packets from the sockets, now that it forwards what it takes.
    fn let_bypass(&mut self, links: &mut Links) {
        let Some(bypass) = self.options.bypass.clone() else { return };
        if self.exclusive() != Some(Method::Tcx) {
            return;
        }
        for fd in &self.rx_fds {
            if let Err(e) = bpf::attach_filter(fd.as_fd(), &bypass.filter) {
                return self.refused("SO_ATTACH_BPF", e.into());
            }
        }
        let link = links.by_index(self.ifindex).ok().flatten();
        self.state.set_bypass(link.map_or(Way::Nowhere, |l| l.way()));
    }

    /// How the host's stack is kept from the frames.
    pub fn exclusive(&self) -> Option<Method> {
        self.attachment.as_ref().map(Attachment::method)
    }
}

impl Port for AfPacket {
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
        self.rx.pop().map(|rx| Box::new(rx) as _)
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        let fail = |e| Error::open(&self.name, e);
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(fail)?;
        let on = 1i32;
        if self.options.vnet_hdr {
            sys::setsockopt(fd.as_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &on).map_err(fail)?;
        }
        if self.options.qdisc_bypass {
            // Only speed depends on it.
            let _ = sys::setsockopt(fd.as_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, &on);
        }
        set_buffer(fd.as_fd(), false, self.options.buffer);
        sys::bind_packet(fd.as_fd(), self.ifindex, 0).map_err(fail)?;
        Ok(Box::new(Tx {
            fd,
            ring: mmsg::TxRing::new(),
            vnet: self.options.vnet_hdr,
            state: Arc::clone(&self.state),
            soft: Softener::default(),
        }))
    }

    fn counters(&self) -> Counters {
        for fd in &self.rx_fds {
            let (fd, empty) = (fd.as_fd(), TpacketStats::default());
            // Reading clears the kernel's counter.
            if let Ok(stats) = sys::getsockopt(fd, libc::SOL_PACKET, PACKET_STATISTICS, empty) {
                self.state.drop_rx(RxDrop::Overrun, u64::from(stats.drops));
            }
        }
        self.state.counters()
    }

    fn note_device(&self, stats: &LinkStats) {
        let told = self.state.counters().tx_drop(TxDrop::QueueFull);
        let n = self.unreported.read(stats.tx_dropped, told);
        self.state.drop_tx(TxDrop::Device, n);
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Makes a device take frames to any address as long as the socket is open.
fn join_promiscuous(fd: BorrowedFd<'_>, ifindex: u32) -> Result<(), Errno> {
    let (ifindex, kind) = (ifindex as i32, PACKET_MR_PROMISC);
    let m = PacketMreq { ifindex, kind, alen: 0, address: [0; 8] };
    sys::setsockopt(fd, libc::SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m)
}

/// What makes a device take frames to any address as long as it is held. It receives nothing itself.
pub(crate) fn promiscuous(ifindex: u32) -> Result<OwnedFd, Errno> {
    let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    join_promiscuous(fd.as_fd(), ifindex)?;
    Ok(fd)
}

/// Enlarges a socket buffer, past the system's limit if we may. The size got, if it is less.
fn set_buffer(fd: BorrowedFd<'_>, rx: bool, want: usize) -> Option<usize> {
    let (force, plain) = if rx {
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)
    } else {
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)
    };
    let v = want.min(i32::MAX as usize / 2) as i32;
    if sys::setsockopt(fd, libc::SOL_SOCKET, force, &v).is_ok() {
        return None;
    }
    let _ = sys::setsockopt(fd, libc::SOL_SOCKET, plain, &v);
    // The kernel doubles the value for its own overhead.
    let got = sys::getsockopt(fd, libc::SOL_SOCKET, plain, 0i32).unwrap_or(0) as usize / 2;
    (got < v as usize).then_some(got)
}

/// The receiving half.
#[derive(Debug)]
struct Rx {
    fd: Arc<OwnedFd>,
    ring: Option<Ring>,
    messages: Box<mmsg::RxRing>,
    vnet: bool,
    state: Arc<PortState>,
}

/// Makes a received frame of what a buffer holds.
fn finish(
    buf: &mut PacketBuf,
    meta: &RxMeta,
    vnet: Option<&[u8; VNET_HDR_LEN]>,
) -> Result<(), RxDrop> {
    if meta.truncated {
        return Err(RxDrop::Truncated);
    }
    if meta.len < header::ETH_LEN {
        return Err(RxDrop::Runt);
    }
    let mut offload = match vnet {
        Some(header) => Offload::from_bytes(header).ok_or(RxDrop::UnknownOffload)?,
        None => Offload::default(),
    };
    offload.csum_valid |= meta.status & mmsg::TP_STATUS_CSUM_VALID != 0;
    buf.set_len(meta.len);
    buf.offload = offload;
    if let Some((tpid, tci)) = meta.vlan {
        buf.insert(12, header::VLAN_LEN);
        let [t, c] = [tpid.to_be_bytes(), tci.to_be_bytes()];
        buf.frame_mut()[12..16].copy_from_slice(&[t[0], t[1], c[0], c[1]]);
    }
    Ok(())
}

impl Rx {
    /// Reads frames from the socket. Returns how many were read, and how many of them the first
    /// buffers hold.
    fn recv_messages(&mut self, bufs: &mut [PacketBuf]) -> Result<(usize, usize), Errno> {
        let got = self.messages.recv(self.fd.as_fd(), bufs, self.vnet)?;
        let mut n = 0;
        for i in 0..got {
            let vnet = self.vnet.then(|| self.messages.vnet_hdr(i));
            match finish(&mut bufs[i], &self.messages.meta(i, self.vnet), vnet) {
                Ok(()) => {
                    bufs.swap(n, i);
                    n += 1;
                }
                Err(reason) => self.state.drop_rx(reason, 1),
            }
        }
        Ok((got, n))
    }

    /// Fills the first buffers from the socket alone.
    fn recv_socket(&mut self, bufs: &mut [PacketBuf]) -> Received {
        match self.recv_messages(bufs) {
            Ok((got, n)) => Received { n, more: got == bufs.len(), gone: false },
            Err(Errno(libc::EINTR)) => Received { more: true, ..Received::default() },
            Err(Errno(libc::EINVAL)) => {
                self.state.drop_rx(RxDrop::UnknownOffload, 1);
                Received { more: true, ..Received::default() }
            }
            // Nothing there; or went down or was removed, which is reported once.
            Err(Errno(libc::EAGAIN | libc::ENETDOWN | libc::ENXIO | libc::ENODEV)) => {
                Received::default()
            }
            Err(_) => {
                self.state.drop_rx(RxDrop::Error, 1);
                Received::default()
            }
        }
    }

    /// Fills the first buffers from the ring and, where it says so, from the socket.
    fn recv_ring(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let want = bufs.len();
        let (mut n, mut read) = (0, 0);
        while n < want
            && let Some(ring) = &mut self.ring
            && let Some(slot) = ring.first()
        {
            let (taken, kept) = if slot.is_apart() {
                let waiting = ring.n_apart(want - n);
                match self.recv_messages(&mut bufs[n..n + waiting]) {
                    Ok(done) => done,
                    // Down or removed is told once, before the frames that wait: the slot's still does.
                    Err(Errno(libc::EINTR | libc::ENETDOWN)) => break,
                    Err(Errno(libc::EINVAL)) => {
                        self.state.drop_rx(RxDrop::UnknownOffload, 1);
                        (1, 0)
                    }
                    Err(_) => {
                        self.state.drop_rx(RxDrop::Error, 1);
                        (1, 0)
                    }
                }
            } else {
                let (buf, frame) = (&mut bufs[n], slot.frame());
                let vnet = self.vnet.then(|| slot.vnet_hdr()).flatten();
                buf.recv_space()[..frame.len()].copy_from_slice(frame);
                match finish(buf, &slot.meta(), vnet) {
                    Ok(()) => (1, 1),
                    Err(reason) => {
                        // A large frame that the socket had no room for any more.
                        let full = reason == RxDrop::Truncated;
                        self.state.drop_rx(if full { RxDrop::Overrun } else { reason }, 1);
                        (1, 0)
                    }
                }
            };
            if let Some(ring) = &mut self.ring {
                ring.release(taken);
            }
            read += taken;
            n += kept;
        }
        if read == 0 {
            // An error (the device went down) makes the socket readable until it is read.
            let _ = sys::getsockopt(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR, 0i32);
        }
        Received { n, more: n == want, gone: false }
    }
}

impl RxQueue for Rx {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn is_ready(&self) -> bool {
        self.ring.as_ref().is_some_and(|r| r.first().is_some())
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let want = bufs.len().min(BATCH);
        let bufs = &mut bufs[..want];
        let got = if self.ring.is_some() { self.recv_ring(bufs) } else { self.recv_socket(bufs) };
        let bytes = bufs[..got.n].iter().map(PacketBuf::len).sum();
        self.state.count_rx(got.n, bytes);
        got
    }
}

/// A sending half.
#[derive(Debug)]
struct Tx {
    fd: OwnedFd,
    ring: Box<mmsg::TxRing>,
    vnet: bool,
    state: Arc<PortState>,
    soft: Softener,
}

/// Errors that the rest of the batch would meet as well.
fn hopeless(e: Errno) -> bool {
    matches!(e.0, libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EAGAIN)
}

impl TxQueue for Tx {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        let (mut n, mut bytes) = (0, 0);
        let Tx { fd, ring, vnet, state, soft } = self;
        soft.run(Takes::with_vnet(*vnet), pkts, state, |batch| {
            ring.send(fd.as_fd(), batch, *vnet, hopeless, |i, outcome| match outcome {
                Ok(()) => {
                    n += 1;
                    bytes += batch[i].len();
                }
                Err(e) => state.drop_tx(TxDrop::from_errno(e), 1),
            });
        });
        state.count_tx(n, bytes);
        n
    }
}
