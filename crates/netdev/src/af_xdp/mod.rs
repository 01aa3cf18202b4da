//! Ports on kernel devices by AF_XDP: the driver hands frames over before the host's stack has seen them.
//!
//! One socket per queue of the device receives, and sends for the workers that share it. An XDP program
//! (module `program`) hands each frame to the socket of its queue; it is held by a descriptor, so nothing of it
//! outlives the process, however that ends. There are three modes ([`Mode`]); which ones work is the
//! driver's business.
//!
//! What sets these ports apart: XDP knows no offloads. A frame has at most the size that the link
//! allows, and nothing beside it tells of its checksum. Therefore
//!
//! * large packets to such a port are cut in software (module `soft`);
//! * a virtual device (veth, tap) delivers frames whose checksum its peer has left to the device, and which
//!   nobody will finish: they are told by their look ([`packet::segment::note_partial_checksum`]), and go
//!   on as partial ones, which costs nothing if the next port takes them so;
//! * a frame with a partial checksum is sent with a note for the kernel where it takes such notes (copy
//!   mode, Linux 6.11), else finished in software;
//! * in native mode the program puts back the VLAN tag that a driver keeps beside the frame.
//!
//! Frames longer than a piece of the shared memory come and go in several pieces where kernel and driver
//! can do that (Linux 6.6).
//!
//! When the device goes down, receiving yields nothing until it is up again, and sends count
//! [`TxDrop::Down`]. When it is removed, receiving reports that it is gone.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bpf::{Kind, Map, Program, Types, xdp};
use packet::segment::note_partial_checksum;
use packet::{Offload, PacketBuf, header};
use parking_lot::Mutex;

use crate::exclusive::Claim;
use crate::link::{Ethtool, Links};
use crate::port::exceeds_mtu;
use crate::soft::{Softener, Takes};
use crate::sys::xdp::{
    Control, Flushed, RX_HEADROOM, Refused, RxHalf, Sizes, Socket, TxHalf, bind,
};
use crate::sys::{self, Errno};
use crate::{
    BATCH, Counters, Error, Port, PortState, Received, RxDrop, RxQueue, TxDrop, TxQueue, Warning,
};

mod program;

/// Most queues of a port, as in OVS.
pub const MAX_QUEUES: u32 = 16;

/// Chunks and ring entries of a queue for each direction. As many frames can wait.
const RX_RING: u32 = 2048;
const TX_RING: u32 = 1024;

/// How long the kernel may take to free the queue of a closed socket.
const CLOSING: Duration = Duration::from_millis(500);

/// How a device and its sockets work together; the names are those of OVS's `xdp-mode`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The driver runs the program and works on our memory.
    NativeZerocopy,
    /// The driver runs the program; frames are copied.
    Native,
    /// The host's stack runs the program, on any device; frames are copied.
    Generic,
}

impl Mode {
    /// All of them, best first.
    pub const ALL: &[Mode] = &[Mode::NativeZerocopy, Mode::Native, Mode::Generic];

    /// Name in OVS's `xdp-mode`.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::NativeZerocopy => "native-with-zerocopy",
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }

    fn attach_flags(self) -> u32 {
        match self {
            Mode::NativeZerocopy | Mode::Native => xdp::DRV_MODE,
            Mode::Generic => xdp::SKB_MODE,
        }
    }

    fn bind_flags(self) -> u16 {
        match self {
            Mode::NativeZerocopy => bind::ZEROCOPY,
            Mode::Native | Mode::Generic => bind::COPY,
        }
    }
}

/// How a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The only mode to be used; `None`: the best that works.
    pub mode: Option<Mode>,
    /// Queues, the first ones of the device, at most [`MAX_QUEUES`]; `None`: all that it has.
    pub queues: Option<u32>,
    /// Let the driver say when it must be woken, instead of waking it each time.
    pub need_wakeup: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { mode: None, queues: None, need_wakeup: true }
    }
}

/// A step of opening a device that the kernel refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making a socket and its memory.
    Socket,
    /// Making the map of sockets.
    Map,
    /// Loading the program.
    Load,
    /// Attaching the program.
    Attach,
    /// Binding the socket of this queue.
    Bind(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Socket => f.write_str("making an AF_XDP socket"),
            Step::Map => f.write_str("making a BPF map"),
            Step::Load => f.write_str("loading the XDP program"),
            Step::Attach => f.write_str("attaching the XDP program"),
            Step::Bind(queue) => write!(f, "binding the AF_XDP socket of queue {queue}"),
        }
    }
}

/// Why the kernel may have refused a step, for the user.
fn hint(step: Step, errno: Errno, mode: Mode) -> &'static str {
    match (step, errno.0, mode) {
        (_, libc::EPERM | libc::EACCES, _) => "; CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF are needed",
        (Step::Socket, libc::EAFNOSUPPORT, _) => "; this kernel has no AF_XDP",
        (Step::Socket, libc::ENOBUFS, _) => "; the limit of locked memory (ulimit -l) is too low",
        (Step::Attach, libc::EBUSY | libc::EEXIST, _) => {
            "; another XDP program is attached (ip link show tells)"
        }
        (Step::Attach, libc::ERANGE, _) => {
            "; the MTU of the device or its peer is too large for XDP"
        }
        (Step::Attach, libc::EOPNOTSUPP, Mode::NativeZerocopy | Mode::Native) => {
            "; its driver has no native XDP: options:xdp-mode=generic"
        }
        (Step::Bind(_), libc::EOPNOTSUPP, Mode::NativeZerocopy) => {
            "; its driver has no zero-copy: options:xdp-mode=native"
        }
        (Step::Bind(_), libc::EINVAL, _) => "; the device has no such queue (ethtool -l tells)",
        (Step::Bind(_), libc::EBUSY, _) => "; another AF_XDP socket has the queue",
        _ => "",
    }
}

/// A kernel device as a port.
#[derive(Debug)]
pub struct AfXdp {
    name: String,
    ifindex: u32,
    mode: Mode,
    state: Arc<PortState>,
    /// Its frames come from this host, and may have their checksums left to do.
    is_virtual: bool,
    queues: Vec<Queue>,
    /// The queue whose sending half the next one gets that asks.
    next_tx: AtomicUsize,
    warnings: Vec<Warning>,
    /// Held for their effect: the link keeps the program attached, the membership makes the device
    /// take frames to any address.
    _link: OwnedFd,
    _promiscuous: OwnedFd,
    _claim: Claim,
}

#[derive(Debug)]
struct Queue {
    control: Control,
    rx: Option<RxHalf>,
    tx: Arc<Mutex<TxHalf>>,
    /// Of the frames that the kernel lost for want of room, those that were counted.
    counted: AtomicU64,
}

/// What a mode that works has brought.
struct Opened {
    link: OwnedFd,
    sockets: Vec<Socket>,
    tags_lost: bool,
}

impl AfXdp {
    /// Opens the device `name` of the calling thread's network namespace.
    ///
    /// # Errors
    /// There is no such device, somebody else has it, or the kernel refuses a step, which
    /// [`Error::Xdp`] tells.
    pub fn open(name: &str, options: &Options) -> Result<AfXdp, Error> {
        let fail = |e| Error::open(name, e);
        let mut links = Links::open()?;
        let link = links.by_name(name)?.ok_or_else(|| fail(Errno(libc::ENODEV)))?;
        let ifindex = link.ifindex;
        let claim = Claim::take(name, ifindex, &mut links)?;
        let channels = Ethtool::open().map_or(1, |tool| tool.rx_queues(name));
        let n = options.queues.unwrap_or(channels).clamp(1, MAX_QUEUES);
        let promiscuous = crate::af_packet::promiscuous(ifindex).map_err(fail)?;
        let modes = options.mode.as_ref().map_or(Mode::ALL, std::slice::from_ref);
        let mut opened = Err((Step::Socket, Errno(libc::EINVAL), Mode::Generic));
        for &mode in modes {
            opened = open_in(mode, ifindex, n, link.mtu, options.need_wakeup)
                .map(|opened| (mode, opened))
                .map_err(|(step, errno)| (step, errno, mode));
            // What is not the mode's fault will not be better in another.
            let is_final = match &opened {
                Ok(_) => true,
                Err((Step::Socket | Step::Map | Step::Bind(1..), ..)) => true,
                Err((_, e, _)) => {
                    matches!(e.0, libc::EPERM | libc::EACCES | libc::EBUSY | libc::ENODEV)
                }
            };
            if is_final {
                break;
            }
        }
        let (mode, Opened { link: attached, sockets, tags_lost }) =
            opened.map_err(|(step, errno, mode)| Error::Xdp {
                device: name.to_owned(),
                errno,
                step,
                mode,
                hint: hint(step, errno, mode),
            })?;
        let mut warnings = Vec::new();
        let device = || name.to_owned();
        if n < channels {
            warnings.push(Warning::FewQueues { device: device(), read: n, has: channels });
        }
        if tags_lost {
            warnings.push(Warning::TagsLost { device: device() });
        }
        let queues = sockets.into_iter().map(|socket| {
            let (control, rx, tx) = socket.split();
            let (rx, tx) = (Some(rx), Arc::new(Mutex::new(tx)));
            Queue { control, rx, tx, counted: AtomicU64::new(0) }
        });
        let is_virtual = link.kind.is_some();
        let state = Arc::new(PortState::new(link.mtu));
        Ok(AfXdp {
            name: name.to_owned(),
            ifindex,
            mode,
            state,
            is_virtual,
            queues: queues.collect(),
            next_tx: AtomicUsize::new(0),
            warnings,
            _link: attached,
            _promiscuous: promiscuous,
            _claim: claim,
        })
    }

    /// The mode in use.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How many queues are used.
    pub fn n_queues(&self) -> usize {
        self.queues.len()
    }
}

/// Attaches a program and binds sockets in one mode.
fn open_in(
    mode: Mode,
    ifindex: u32,
    n: u32,
    mtu: u32,
    need_wakeup: bool,
) -> Result<Opened, (Step, Errno)> {
    // The smallest piece that holds a frame of an ordinary MTU, with two tags.
    let whole = mtu as usize + header::ETH_LEN + 2 * header::VLAN_LEN;
    let sizes = Sizes {
        chunk: if whole + RX_HEADROOM <= 2048 { 2048 } else { 4096 },
        rx: RX_RING,
        tx: TX_RING,
        need_wakeup,
    };
    let map = Map::xsk(n).map_err(|e| (Step::Map, e.into()))?;
    let native = mode != Mode::Generic;
    let tagged = native.then(Types::of_kernel).flatten();
    let tagged = tagged.and_then(|t| t.function("bpf_xdp_metadata_rx_vlan_tag"));
    let load = |tag: Option<u32>, flags| {
        let program = program::program(map.as_fd(), tag);
        let ifindex = if flags & xdp::DEV_BOUND_ONLY != 0 { ifindex } else { 0 };
        Program::load(Kind::Xdp { flags, ifindex }, "sekisho_xsk", &program)
    };
    let attach = |program: Program| program.attach_xdp(ifindex, mode.attach_flags());
    // A driver that tells nothing of frames takes no program that asks.
    let with_tag = tagged.and_then(|tag| {
        let program = load(Some(tag), xdp::HAS_FRAGS | xdp::DEV_BOUND_ONLY).ok()?;
        attach(program).ok()
    });
    let tags_lost = with_tag.is_none();
    let link = match with_tag {
        Some(link) => link,
        None => {
            let program = load(None, xdp::HAS_FRAGS).or_else(|_| load(None, 0));
            attach(program.map_err(|e| (Step::Load, e.into()))?)
                .map_err(|e| (Step::Attach, e.into()))?
        }
    };
    let wakeup = if need_wakeup { bind::USE_NEED_WAKEUP } else { 0 };
    let flags = mode.bind_flags() | wakeup;
    let mut sockets = Vec::new();
    for queue in 0..n {
        let open = |flags| open_socket(sizes, ifindex, queue, flags);
        let socket = match open(flags | bind::USE_SG) {
            // Kernel or driver know no frames in pieces.
            Err((Step::Bind(_), Errno(libc::EINVAL | libc::EOPNOTSUPP))) => open(flags)?,
            socket => socket?,
        };
        map.set_socket(queue, socket.fd()).map_err(|e| (Step::Map, e.into()))?;
        sockets.push(socket);
    }
    Ok(Opened { link, sockets, tags_lost })
}

/// A socket on a queue. The kernel takes a queue from a socket that was closed only some time later, so one
/// that seems to be in use is asked for again for a while.
fn open_socket(
    sizes: Sizes,
    ifindex: u32,
    queue: u32,
    flags: u16,
) -> Result<Socket, (Step, Errno)> {
    let mut left = CLOSING;
    loop {
        let mut socket = Socket::new(sizes).map_err(|e| (Step::Socket, e))?;
        match socket.bind(ifindex, queue, flags) {
            Ok(()) => return Ok(socket),
            Err(Errno(libc::EBUSY)) if !left.is_zero() => {
                let pause = Duration::from_millis(5);
                left = left.saturating_sub(pause);
                std::thread::sleep(pause);
            }
            Err(e) => return Err((Step::Bind(queue), e)),
        }
    }
}

impl Port for AfXdp {
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
        let half = self.queues.iter_mut().find_map(|q| q.rx.take())?;
        let state = Arc::clone(&self.state);
        Some(Box::new(Rx { half, is_virtual: self.is_virtual, state }))
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        let at = self.next_tx.fetch_add(1, Relaxed) % self.queues.len();
        Ok(Box::new(Tx {
            half: Arc::clone(&self.queues[at].tx),
            state: Arc::clone(&self.state),
            soft: Softener::default(),
            failed: None,
        }))
    }

    fn counters(&self) -> Counters {
        for queue in &self.queues {
            let Ok(s) = queue.control.statistics() else { continue };
            let lost = s.rx_dropped + s.rx_ring_full;
            let sent = queue.tx.lock().sent();
            self.state.count_tx(sent.frames, sent.bytes);
            let before = queue.counted.fetch_max(lost, Relaxed);
            self.state.drop_rx(RxDrop::Overrun, lost.saturating_sub(before));
        }
        self.state.counters()
    }

    fn custom_counters(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for (i, queue) in self.queues.iter().enumerate() {
            let Ok(s) = queue.control.statistics() else { continue };
            let rows = [
                ("rx_dropped", s.rx_dropped),
                ("rx_fill_ring_empty_descs", s.rx_fill_ring_empty_descs),
                ("rx_invalid_descs", s.rx_invalid_descs),
                ("rx_ring_full", s.rx_ring_full),
                ("tx_invalid_descs", s.tx_invalid_descs),
            ];
            all.extend(rows.map(|(name, n)| (format!("xsk_queue_{i}_{name}"), n)));
        }
        all
    }

    fn status(&self) -> Vec<(&'static str, String)> {
        vec![("xdp-mode", self.mode.name().to_owned())]
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// The receiving half of a queue.
#[derive(Debug)]
struct Rx {
    half: RxHalf,
    is_virtual: bool,
    state: Arc<PortState>,
}

impl RxQueue for Rx {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.half.fd())
    }

    fn is_ready(&self) -> bool {
        self.half.is_ready()
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let want = bufs.len().min(BATCH);
        let (mut n, mut read, mut bytes) = (0, 0, 0);
        while n < want && read < 2 * BATCH {
            let buf = &mut bufs[n];
            let Some(len) = self.half.next_into(buf.recv_space()) else { break };
            read += 1;
            if len > buf.capacity() {
                self.state.drop_rx(RxDrop::Truncated, 1);
                continue;
            }
            if len < header::ETH_LEN {
                self.state.drop_rx(RxDrop::Runt, 1);
                continue;
            }
            buf.set_len(len);
            buf.offload = Offload::default();
            if self.is_virtual {
                note_partial_checksum(buf);
            }
            n += 1;
            bytes += len;
        }
        self.half.give_back();
        self.state.count_rx(n, bytes);
        Received { n, more: n == want, gone: read == 0 && self.is_gone() }
    }
}

impl Rx {
    /// Whether the device was removed, which the kernel tells as the socket's error.
    #[cold]
    fn is_gone(&self) -> bool {
        let error = sys::getsockopt(self.half.fd(), libc::SOL_SOCKET, libc::SO_ERROR, 0i32);
        error == Ok(libc::ENETDOWN)
    }
}

/// A sending half: the queue's, which others may share.
#[derive(Debug)]
struct Tx {
    half: Arc<Mutex<TxHalf>>,
    state: Arc<PortState>,
    soft: Softener,
    /// The last attempt failed for this reason, and frames may still wait in the ring.
    failed: Option<TxDrop>,
}

impl Tx {
    /// Makes the kernel send what waits. Returns how many frames it lost.
    fn flush(half: &mut TxHalf, state: &PortState, failed: &mut Option<TxDrop>) -> usize {
        let Flushed { sent, lost, error } = half.flush();
        state.count_tx(sent.frames, sent.bytes);
        state.drop_tx(TxDrop::QueueFull, lost as u64);
        *failed = error.map(TxDrop::from_errno);
        if *failed == Some(TxDrop::Gone) {
            state.drop_tx(TxDrop::Gone, half.abandon() as u64);
        }
        half.reclaim();
        lost
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // Nobody may come who would make the kernel send what waits.
        if let Some(reason) = self.failed {
            self.state.drop_tx(reason, self.half.lock().abandon() as u64);
        }
    }
}

impl TxQueue for Tx {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        let Tx { half, state, soft, failed } = self;
        let mut half = half.lock();
        half.reclaim();
        if failed.is_some() {
            Tx::flush(&mut half, state, failed);
        }
        if let Some(reason) = *failed {
            // Nothing is added for a device that takes nothing.
            state.drop_tx(reason, pkts.len() as u64);
            return 0;
        }
        let mut n = 0;
        let mtu = state.mtu();
        let takes = if half.takes_checksums() { Takes::Checksums } else { Takes::Finished };
        soft.run(takes, pkts, state, |batch| {
            let before = n;
            for pkt in batch {
                let put =
                    if exceeds_mtu(pkt, mtu) { Err(TxDrop::TooBig) } else { put(&mut half, pkt) };
                match put {
                    Ok(()) => n += 1,
                    Err(reason) => state.drop_tx(reason, 1),
                }
            }
            // Some may be of an earlier batch.
            let lost = Tx::flush(&mut half, state, failed);
            n -= lost.min(n - before);
        });
        n
    }
}

/// Hands over one frame.
fn put(half: &mut TxHalf, pkt: &PacketBuf) -> Result<(), TxDrop> {
    if pkt.len() < header::ETH_LEN {
        return Err(TxDrop::Malformed);
    }
    let o = &pkt.offload;
    let checksum = o.needs_csum.then_some((o.csum_start, o.csum_offset));
    if let Some((start, offset)) = checksum
        && usize::from(start) + usize::from(offset) + 2 > pkt.len()
    {
        // The kernel would stop at a frame that contradicts itself.
        return Err(TxDrop::Malformed);
    }
    half.put(pkt.frame(), checksum).map_err(|refused| match refused {
        Refused::Full => TxDrop::QueueFull,
        Refused::TooLong => TxDrop::TooBig,
    })
}
