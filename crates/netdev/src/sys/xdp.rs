//! AF_XDP sockets: frames in memory that process and kernel share (a *umem*), and four rings of
//! descriptors that say whose each piece of it is.
//!
//! A umem is an array of chunks. The kernel fills chunks that it finds in the *fill* ring and hands them
//! over in the *rx* ring; we fill chunks, hand them over in the *tx* ring and get them back in the
//! *completion* ring. A frame that does not fit one chunk takes several descriptors, all but the last
//! marked.
//!
//! Here the chunks are divided once: the first are [`RxHalf`]'s for ever, the others [`TxHalf`]'s. So
//! the halves share nothing but the descriptor and may live on two threads. Each half counts on the
//! kernel to hand back only chunks that it was given, and checks every address all the same.
//!
//! Source: `linux/if_xdp.h`; the kernel's `af_xdp` and `xsk-tx-metadata` documentation.

#![allow(unsafe_code)] // memory shared with the kernel

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Errno, Plain, cvt, getsockopt, setsockopt, socket};

const AF_XDP: i32 = 44;
const SOL_XDP: i32 = 283;
const XDP_MMAP_OFFSETS: i32 = 1;
const XDP_RX_RING: i32 = 2;
const XDP_TX_RING: i32 = 3;
const XDP_UMEM_REG: i32 = 4;
const XDP_UMEM_FILL_RING: i32 = 5;
const XDP_UMEM_COMPLETION_RING: i32 = 6;
const XDP_STATISTICS: i32 = 7;

const PGOFF_RX: i64 = 0;
const PGOFF_TX: i64 = 0x8000_0000;
const PGOFF_FILL: i64 = 0x1_0000_0000;
const PGOFF_COMPLETION: i64 = 0x1_8000_0000;

/// Flags of `struct sockaddr_xdp`.
pub(crate) mod bind {
    pub(crate) const COPY: u16 = 1 << 1;
    pub(crate) const ZEROCOPY: u16 = 1 << 2;
    pub(crate) const USE_NEED_WAKEUP: u16 = 1 << 3;
    pub(crate) const USE_SG: u16 = 1 << 4;
}

const UMEM_TX_METADATA_LEN: u32 = 1 << 2;
const RING_NEED_WAKEUP: u32 = 1;
/// Options of a descriptor.
const PKT_CONTD: u32 = 1;
const TX_METADATA: u32 = 2;
/// `XDP_TXMD_FLAGS_CHECKSUM`.
const TXMD_CHECKSUM: u64 = 2;
/// `struct xsk_tx_metadata`.
const TX_META_LEN: usize = 24;

/// Where a frame to send starts in its chunk: behind the metadata, aligned for the copy.
const TX_HEADROOM: usize = 64;
/// What the kernel keeps in front of a received frame (`XDP_PACKET_HEADROOM`).
pub(crate) const RX_HEADROOM: usize = 256;

/// `struct xdp_umem_reg`.
#[repr(C)]
#[derive(Copy, Clone)]
struct UmemReg {
    addr: u64,
    len: u64,
    chunk_size: u32,
    headroom: u32,
    flags: u32,
    tx_metadata_len: u32,
}
// SAFETY: integers at their natural offsets, 32 bytes, no padding.
unsafe impl Plain for UmemReg {}

/// `struct xdp_ring_offset`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
struct RingOffset {
    producer: u64,
    consumer: u64,
    desc: u64,
    flags: u64,
}

/// `struct xdp_mmap_offsets`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
struct MmapOffsets {
    rx: RingOffset,
    tx: RingOffset,
    fill: RingOffset,
    completion: RingOffset,
}
// SAFETY: sixteen integers, no padding.
unsafe impl Plain for MmapOffsets {}

/// `struct xdp_statistics`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Lost because there was no chunk, or the frame was too long.
    pub rx_dropped: u64,
    pub rx_invalid_descs: u64,
    pub tx_invalid_descs: u64,
    /// Lost because the rx ring was full.
    pub rx_ring_full: u64,
    pub rx_fill_ring_empty_descs: u64,
    pub tx_ring_empty_descs: u64,
}
// SAFETY: six integers, no padding.
unsafe impl Plain for Statistics {}

/// `struct sockaddr_xdp`.
#[repr(C)]
struct SockaddrXdp {
    family: u16,
    flags: u16,
    ifindex: u32,
    queue_id: u32,
    shared_umem_fd: u32,
}

/// `struct xdp_desc`.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
struct Desc {
    addr: u64,
    len: u32,
    options: u32,
}

/// A mapping, gone when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory; who may touch what is the rings' business.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared access is by atomics and, to chunks, by their one owner.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize, flags: i32, fd: i32, offset: i64) -> Result<Mapping, Errno> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset)
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Mapping { start, len }),
            _ => Err(Errno::last()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, of which its owner has let go.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A ring of `n` (a power of two) entries, of which one end is ours.
#[derive(Debug)]
struct Ring<T> {
    map: Mapping,
    at: (usize, usize, usize, usize),
    n: u32,
    entry: std::marker::PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    fn new(
        fd: BorrowedFd<'_>,
        option: i32,
        n: u32,
        at: RingOffset,
        page: i64,
    ) -> Result<Ring<T>, Errno> {
        setsockopt(fd, SOL_XDP, option, &n)?;
        let len = at.desc as usize + n as usize * size_of::<T>();
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let map = Mapping::new(len, flags, fd.as_raw_fd(), page)?;
        let at = (at.producer as usize, at.consumer as usize, at.flags as usize, at.desc as usize);
        // The offsets are the kernel's and within what it maps; nothing here depends on its word.
        let fits = |word: usize| word.is_multiple_of(4) && word + 4 <= len;
        let all_fit = fits(at.0) && fits(at.1) && fits(at.2) && at.3.is_multiple_of(8);
        if !n.is_power_of_two() || !all_fit {
            return Err(Errno(libc::EPROTO));
        }
        Ok(Ring { map, at, n, entry: std::marker::PhantomData })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: aligned and within the mapping, as `new` made sure; both sides access these words as
        // a whole, and they live as long as the mapping.
        unsafe { AtomicU32::from_ptr(self.map.start.as_ptr().add(at).cast()) }
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.at.0)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.at.1)
    }

    /// Whether the kernel waits for a call before it goes on with this ring.
    fn needs_wakeup(&self) -> bool {
        self.word(self.at.2).load(Ordering::Relaxed) & RING_NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> *mut T {
        // SAFETY: the index is taken modulo the ring's size, so it is within the mapping.
        unsafe {
            self.map.start.as_ptr().add(self.at.3).cast::<T>().add((index & (self.n - 1)) as usize)
        }
    }

    /// Entries that the kernel has produced and we did not release.
    fn waiting(&self) -> u32 {
        let consumed = self.consumer().load(Ordering::Relaxed);
        self.producer().load(Ordering::Acquire).wrapping_sub(consumed).min(self.n)
    }

    /// The `i`th of [`Ring::waiting`].
    fn get(&self, i: u32) -> T {
        let at = self.consumer().load(Ordering::Relaxed).wrapping_add(i);
        // SAFETY: within the ring; integers, of which any bytes are valid.
        unsafe { self.entry(at).read() }
    }

    /// Gives `n` entries back to the kernel.
    fn release(&mut self, n: u32) {
        let consumed = self.consumer().load(Ordering::Relaxed);
        self.consumer().store(consumed.wrapping_add(n), Ordering::Release);
    }

    /// Entries that we produced and the kernel has not consumed.
    fn unread(&self) -> u32 {
        let produced = self.producer().load(Ordering::Relaxed);
        produced.wrapping_sub(self.consumer().load(Ordering::Acquire)).min(self.n)
    }

    /// Writes the `i`th entry behind those that were submitted. There must be room.
    fn put(&mut self, i: u32, entry: T) {
        let at = self.producer().load(Ordering::Relaxed).wrapping_add(i);
        // SAFETY: within the ring; the kernel does not read it before the producer index says so.
        unsafe { self.entry(at).write(entry) };
    }

    /// Shows `n` entries to the kernel.
    fn submit(&mut self, n: u32) {
        let produced = self.producer().load(Ordering::Relaxed);
        self.producer().store(produced.wrapping_add(n), Ordering::Release);
    }
}

/// What a socket has for frames.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Sizes {
    /// Bytes of a chunk, a power of two from 2,048 to the page size.
    pub chunk: u32,
    /// Chunks and ring entries for receiving, a power of two.
    pub rx: u32,
    /// Chunks and ring entries for sending, a power of two.
    pub tx: u32,
    /// The kernel says when it must be called.
    pub need_wakeup: bool,
}

/// A socket and its memory.
#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    umem: Mapping,
    sizes: Sizes,
}

impl Shared {
    /// `len` bytes at `addr`, if they are within the chunks from `first` to before `end`.
    fn place(&self, addr: u64, len: usize, (first, end): (u32, u32)) -> Option<NonNull<u8>> {
        let chunk = u64::from(self.sizes.chunk);
        let (first, end) = (u64::from(first) * chunk, u64::from(end) * chunk);
        if addr < first || addr.checked_add(len as u64)? > end {
            return None;
        }
        // SAFETY: within the mapping, which has room for all chunks.
        Some(unsafe { self.umem.start.add(addr as usize) })
    }

    fn n_chunks(&self) -> u32 {
        self.sizes.rx + self.sizes.tx
    }
}

/// An AF_XDP socket that is not bound yet.
#[derive(Debug)]
pub(crate) struct Socket {
    shared: Arc<Shared>,
    rx: RxHalf,
    tx: TxHalf,
}

impl Socket {
    /// A socket with memory and rings. `ENOBUFS`: no right to lock so much memory.
    pub(crate) fn new(sizes: Sizes) -> Result<Socket, Errno> {
        let fd = socket(AF_XDP, libc::SOCK_RAW, 0)?;
        let len = (sizes.rx + sizes.tx) as usize * sizes.chunk as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let umem = Mapping::new(len, flags, -1, 0)?;
        let reg = |flags, tx_metadata_len| UmemReg {
            addr: umem.start.as_ptr() as u64,
            len: len as u64,
            chunk_size: sizes.chunk,
            headroom: 0,
            flags,
            tx_metadata_len,
        };
        let register = |reg| setsockopt(fd.as_fd(), SOL_XDP, XDP_UMEM_REG, &reg);
        // Kernels before 6.11 do not know the flag.
        let has_metadata = register(reg(UMEM_TX_METADATA_LEN, TX_META_LEN as u32)).is_ok();
        if !has_metadata {
            register(reg(0, 0))?;
        }
        let at: MmapOffsets =
            getsockopt(fd.as_fd(), SOL_XDP, XDP_MMAP_OFFSETS, MmapOffsets::default())?;
        let f = fd.as_fd();
        let fill = Ring::new(f, XDP_UMEM_FILL_RING, sizes.rx, at.fill, PGOFF_FILL)?;
        let (option, page) = (XDP_UMEM_COMPLETION_RING, PGOFF_COMPLETION);
        let completion = Ring::new(f, option, sizes.tx, at.completion, page)?;
        let rx = Ring::new(f, XDP_RX_RING, sizes.rx, at.rx, PGOFF_RX)?;
        let tx = Ring::new(f, XDP_TX_RING, sizes.tx, at.tx, PGOFF_TX)?;
        let shared = Arc::new(Shared { fd, umem, sizes });
        let mut rx = RxHalf { shared: Arc::clone(&shared), rx, fill, taken: 0 };
        for i in 0..sizes.rx {
            rx.fill.put(i, u64::from(i) * u64::from(sizes.chunk));
        }
        rx.fill.submit(sizes.rx);
        let tx = TxHalf {
            shared: Arc::clone(&shared),
            tx,
            completion,
            free: (sizes.rx..sizes.rx + sizes.tx).collect(),
            staged: 0,
            ledger: Ledger::default(),
            has_metadata,
            pieces: 1,
            zerocopy: false,
        };
        Ok(Socket { shared, rx, tx })
    }

    /// Binds it to a queue of a device; `flags` of [`bind`].
    pub(crate) fn bind(&mut self, ifindex: u32, queue_id: u32, flags: u16) -> Result<(), Errno> {
        let family = AF_XDP as u16;
        let addr = SockaddrXdp { family, flags, ifindex, queue_id, shared_umem_fd: 0 };
        // SAFETY: `addr` is a sockaddr_xdp and its whole size is given.
        cvt(unsafe {
            libc::bind(
                self.shared.fd.as_raw_fd(),
                std::ptr::from_ref(&addr).cast(),
                size_of::<SockaddrXdp>() as libc::socklen_t,
            )
        })?;
        self.tx.zerocopy = flags & bind::ZEROCOPY != 0;
        // A driver that takes our memory as it is must say itself that it can finish checksums.
        self.tx.has_metadata &= !self.tx.zerocopy;
        // The kernel's limit (MAX_SKB_FRAGS), one piece being the head.
        self.tx.pieces = if flags & bind::USE_SG != 0 { 16 } else { 1 };
        Ok(())
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// What remains of the socket for the control side, and its halves.
    pub(crate) fn split(self) -> (Control, RxHalf, TxHalf) {
        (Control { shared: self.shared }, self.rx, self.tx)
    }
}

/// To ask a socket for its statistics.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
}

impl Control {
    /// What the kernel counted. Before 5.9 only the first three.
    pub(crate) fn statistics(&self) -> Result<Statistics, Errno> {
        getsockopt(self.shared.fd.as_fd(), SOL_XDP, XDP_STATISTICS, Statistics::default())
    }
}

/// Receives.
#[derive(Debug)]
pub(crate) struct RxHalf {
    shared: Arc<Shared>,
    rx: Ring<Desc>,
    fill: Ring<u64>,
    /// Of the waiting descriptors, those that were looked at and not given back.
    taken: u32,
}

impl RxHalf {
    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// Whether something has been received.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.rx.waiting() > self.taken
    }

    /// Writes the next frame into `to`. Returns its length, which is more than there was room for if
    /// it is cut, or `None` if there is no whole frame.
    pub(crate) fn next_into(&mut self, to: &mut [u8]) -> Option<usize> {
        let waiting = self.rx.waiting();
        let last = (self.taken..waiting).find(|&i| self.rx.get(i).options & PKT_CONTD == 0)?;
        let mut len = 0;
        for i in self.taken..=last {
            let desc = self.rx.get(i);
            let n = desc.len as usize;
            let place = self.shared.place(desc.addr, n, (0, self.shared.sizes.rx));
            if let (Some(place), Some(to)) = (place, to.get_mut(len..len + n)) {
                // SAFETY: within chunks of this half, which are ours until they are given back by
                // `give_back`; `to` is no part of them.
                unsafe { place.as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), n) };
            }
            len += n;
        }
        self.taken = last + 1;
        Some(len)
    }

    /// Lets the kernel have the chunks of all frames that were read.
    pub(crate) fn give_back(&mut self) {
        let n = std::mem::take(&mut self.taken);
        if n == 0 {
            return;
        }
        for i in 0..n {
            // As many as were taken out of it have room in it.
            self.fill.put(i, self.rx.get(i).addr);
        }
        self.fill.submit(n);
        self.rx.release(n);
        // In copy mode the kernel looks into the ring for each frame.
        if self.fill.needs_wakeup() {
            self.wake();
        }
    }

    /// Tells a driver that there are chunks again.
    #[cold]
    fn wake(&self) {
        let fd = self.shared.fd.as_raw_fd();
        // SAFETY: no memory is given to be filled. It fails only where there is nothing to wake.
        unsafe {
            let nowhere = std::ptr::null_mut();
            libc::recvfrom(fd, nowhere, 0, libc::MSG_DONTWAIT, nowhere.cast(), nowhere.cast());
        }
    }
}

/// Why a frame could not be handed over.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No chunk or no entry of the ring is free.
    Full,
    /// It would take more pieces than a frame may have.
    TooLong,
}

/// Frames, and the bytes of them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub frames: usize,
    pub bytes: usize,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, more: Sent) {
        self.frames += more.frames;
        self.bytes += more.bytes;
    }
}

/// What [`TxHalf::flush`] did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// What the kernel took, some of it maybe from earlier times.
    pub sent: Sent,
    /// Frames that it took and is known to have lost.
    pub lost: usize,
    /// What keeps it from sending.
    pub error: Option<Errno>,
}

/// Which frames of a tx ring the kernel has taken.
#[derive(Debug, Default)]
struct Ledger {
    /// Index behind the last entry that is accounted for.
    seen: u32,
    /// Bytes of the pieces before it of a frame that it is in the middle of.
    pieces: usize,
    /// Frames behind it that the kernel has dropped: it shows them as taken with the next one that it sends.
    hidden: u32,
}

impl Ledger {
    /// The frames that were taken meanwhile, without those that the kernel dropped. `dropped`: it says that the last
    /// one that it took is one of these.
    fn settle(&mut self, ring: &Ring<Desc>, dropped: bool) -> Sent {
        self.settle_to(ring, ring.consumer().load(Ordering::Acquire), dropped)
    }

    fn settle_to(&mut self, ring: &Ring<Desc>, taken: u32, dropped: bool) -> Sent {
        let n = taken.wrapping_sub(self.seen);
        let mut sent = Sent::default();
        if n > ring.n {
            return sent; // behind what was given up
        }
        for i in 0..n {
            // SAFETY: within the ring; an entry that was submitted stays as it is until another is put in its place,
            // which we do ourselves; integers, of which any bytes are valid.
            let desc = unsafe { ring.entry(self.seen.wrapping_add(i)).read() };
            self.pieces += desc.len as usize;
            if desc.options & PKT_CONTD != 0 {
                continue;
            }
            let bytes = std::mem::take(&mut self.pieces);
            if self.hidden > 0 {
                self.hidden -= 1;
            } else if !(dropped && i + 1 == n) {
                sent += Sent { frames: 1, bytes };
            }
        }
        self.seen = taken;
        self.hidden += u32::from(dropped && n == 0);
        sent
    }
}

/// Sends.
#[derive(Debug)]
pub(crate) struct TxHalf {
    shared: Arc<Shared>,
    tx: Ring<Desc>,
    completion: Ring<u64>,
    /// Numbers of chunks that are ours.
    free: Vec<u32>,
    /// Descriptors that were written and not submitted.
    staged: u32,
    ledger: Ledger,
    has_metadata: bool,
    /// Most pieces of a frame.
    pieces: usize,
    zerocopy: bool,
}

impl TxHalf {
    /// Whether a frame may leave its checksum to be finished.
    pub(crate) fn takes_checksums(&self) -> bool {
        self.has_metadata
    }

    /// Bytes of a frame in one chunk.
    fn room(&self) -> usize {
        self.shared.sizes.chunk as usize - TX_HEADROOM
    }

    /// Takes back the chunks of frames that were sent.
    pub(crate) fn reclaim(&mut self) {
        let n = self.completion.waiting();
        if n == 0 {
            return;
        }
        for i in 0..n {
            let chunk = (self.completion.get(i) / u64::from(self.shared.sizes.chunk)) as u32;
            // One of another half would be given away twice.
            if (self.shared.sizes.rx..self.shared.n_chunks()).contains(&chunk)
                && self.free.len() < self.shared.sizes.tx as usize
            {
                self.free.push(chunk);
            }
        }
        self.completion.release(n);
    }

    /// Writes a frame behind those to be sent next. `checksum`: where the sum starts that is to be
    /// finished, and its field from there (only if [`TxHalf::takes_checksums`]).
    pub(crate) fn put(
        &mut self,
        frame: &[u8],
        checksum: Option<(u16, u16)>,
    ) -> Result<(), Refused> {
        let room = self.room();
        let pieces = frame.len().div_ceil(room).max(1);
        if pieces > self.pieces {
            return Err(Refused::TooLong);
        }
        let used = self.tx.unread() + self.staged;
        if self.free.len() < pieces || used as usize + pieces > self.tx.n as usize {
            return Err(Refused::Full);
        }
        for (i, piece) in frame.chunks(room).enumerate() {
            let Some(chunk) = self.free.pop() else { return Err(Refused::Full) };
            let start = u64::from(chunk) * u64::from(self.shared.sizes.chunk);
            let addr = start + TX_HEADROOM as u64;
            let mine = (self.shared.sizes.rx, self.shared.n_chunks());
            let Some(place) = self.shared.place(addr, piece.len(), mine) else { continue };
            let mut options = if i + 1 < pieces { PKT_CONTD } else { 0 };
            // SAFETY: within a chunk of this half that the kernel has given back and that no other
            // frame has, `&mut self` being the only way to it; the metadata is in front of the frame
            // in the same chunk, whose headroom is larger, at an address that is a multiple of 8.
            unsafe {
                place.as_ptr().copy_from_nonoverlapping(piece.as_ptr(), piece.len());
                if let (Some((start, offset)), 0) = (checksum, i) {
                    options |= TX_METADATA;
                    let meta = place.as_ptr().sub(TX_META_LEN).cast::<u64>();
                    meta.write(TXMD_CHECKSUM);
                    meta.add(1).cast::<[u16; 4]>().write([start, offset, 0, 0]);
                    meta.add(2).write(0);
                }
            }
            let len = piece.len() as u32;
            self.tx.put(self.staged, Desc { addr, len, options });
            self.staged += 1;
        }
        Ok(())
    }

    /// Shows the frames that were written to the kernel and makes it send them. What it did not take stays in the
    /// ring for the next time.
    pub(crate) fn flush(&mut self) -> Flushed {
        let staged = std::mem::take(&mut self.staged);
        if staged > 0 {
            self.tx.submit(staged);
        }
        // In copy mode the kernel sends in this call, so many descriptors at a time.
        let calls = if self.zerocopy { 1 } else { 2 + self.tx.unread() / 16 };
        let mut done = Flushed::default();
        for _ in 0..calls {
            if self.tx.unread() == 0 || !self.must_call() {
                break;
            }
            let result = self.call();
            // Dropped by the device: one frame, and the others are still to be sent. A driver that
            // sends by itself says so when it cannot be called now.
            let dropped = result == Err(Errno(libc::EBUSY)) && !self.zerocopy;
            done.lost += usize::from(dropped);
            done.sent += self.ledger.settle(&self.tx, dropped);
            match result {
                Ok(()) | Err(Errno(libc::EBUSY | libc::EAGAIN | libc::EINTR)) => {}
                Err(Errno(libc::ENOBUFS | libc::ENOMEM)) => break,
                Err(e) => {
                    done.error = Some(e);
                    break;
                }
            }
        }
        done.sent += self.sent();
        done
    }

    /// Frames that the kernel has taken since the last question: it goes on with what waits when it is polled.
    pub(crate) fn sent(&mut self) -> Sent {
        self.ledger.settle(&self.tx, false)
    }

    /// Gives up what waits in the ring; how many frames. Once.
    pub(crate) fn abandon(&mut self) -> usize {
        self.ledger.settle_to(&self.tx, self.tx.producer().load(Ordering::Relaxed), false).frames
    }

    fn must_call(&self) -> bool {
        !self.zerocopy || !self.shared.sizes.need_wakeup || self.tx.needs_wakeup()
    }

    fn call(&self) -> Result<(), Errno> {
        let fd = self.shared.fd.as_raw_fd();
        // SAFETY: no memory is given.
        let rc = unsafe {
            libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        cvt(rc as i64).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tx ring of eight entries whose other end is ours too.
    fn ring() -> Ring<Desc> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let map = Mapping::new(4096, flags, -1, 0).unwrap();
        Ring { map, at: (0, 4, 8, 64), n: 8, entry: std::marker::PhantomData }
    }

    fn put(ring: &mut Ring<Desc>, frames: &[&[u32]]) {
        for pieces in frames {
            for (i, &len) in pieces.iter().enumerate() {
                let options = if i + 1 < pieces.len() { PKT_CONTD } else { 0 };
                ring.put(0, Desc { addr: 0, len, options });
                ring.submit(1);
            }
        }
    }

    #[test]
    fn frames_are_sent_when_the_kernel_took_them_and_did_not_drop_them() {
        let (mut ring, mut ledger) = (ring(), Ledger::default());
        let sent = |frames, bytes| Sent { frames, bytes };
        // More than once around the ring.
        for _ in 0..5 {
            put(&mut ring, &[&[100], &[60], &[1000, 500], &[70], &[80]]);
            assert_eq!(ledger.settle(&ring, false), sent(0, 0), "they wait");
            ring.release(1);
            assert_eq!(ledger.settle(&ring, false), sent(1, 100));
            assert_eq!(ledger.settle(&ring, false), sent(0, 0), "once");
            // The next is dropped, which shows with the one after; of that the first piece comes before.
            assert_eq!(ledger.settle(&ring, true), sent(0, 0));
            ring.release(2);
            assert_eq!(ledger.settle(&ring, false), sent(0, 0));
            ring.release(1);
            assert_eq!(ledger.settle(&ring, false), sent(1, 1500));
            // One is sent and one is dropped in the same call.
            ring.release(2);
            assert_eq!(ledger.settle(&ring, true), sent(1, 70));
        }
    }

    #[test]
    fn what_waits_is_given_up_once() {
        let (mut ring, mut ledger) = (ring(), Ledger::default());
        put(&mut ring, &[&[100], &[60, 20], &[70]]);
        ring.release(1);
        let all = ring.producer().load(Ordering::Relaxed);
        assert_eq!(ledger.settle(&ring, false).frames, 1);
        assert_eq!(ledger.settle(&ring, true).frames, 0, "dropped, not shown");
        assert_eq!(ledger.settle_to(&ring, all, false).frames, 1);
        assert_eq!(ledger.settle_to(&ring, all, false).frames, 0);
        // The device takes it after all.
        assert_eq!(ledger.settle(&ring, false).frames, 0);
        ring.release(3);
        assert_eq!(ledger.settle(&ring, false).frames, 0);
        put(&mut ring, &[&[100]]);
        ring.release(1);
        assert_eq!(ledger.settle(&ring, false).frames, 1);
    }
}
