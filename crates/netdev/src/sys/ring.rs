//! The receive ring of a packet socket (`PACKET_RX_RING`, version 2): the kernel writes frames
//! into memory that it shares with us, so that receiving one costs no system call.
//!
//! The ring is an array of slots that kernel and reader pass through in the same order. A slot
//! belongs to the kernel while its status is 0 and to the reader otherwise; the status is the only
//! word that both touch at once. With `PACKET_COPY_THRESH`, a frame that does not fit its slot is also
//! queued whole on the socket, and its slot says so ([`Slot::is_apart`]): slots tell the order of
//! frames of all sizes.
//!
//! Source: `linux/if_packet.h`; the kernel's `packet_mmap` documentation.

#![allow(unsafe_code)] // memory shared with the kernel

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use packet::VNET_HDR_LEN;

use super::mmsg::{RxMeta, vlan};
use super::{Errno, Plain, setsockopt};

const PACKET_RX_RING: i32 = 5;
const PACKET_COPY_THRESH: i32 = 7;
const PACKET_VERSION: i32 = 10;
const TPACKET_V2: i32 = 1;

const TP_STATUS_COPY: u32 = 1 << 1;

/// Bytes of a slot: its header and a frame of 1,500 bytes of IP with tags.
const SLOT: usize = 2048;
/// Bytes that the kernel allocates in one piece.
const BLOCK: usize = 64 << 10;

/// `struct tpacket_req`.
#[repr(C)]
#[derive(Copy, Clone)]
struct Request {
    block_size: u32,
    n_blocks: u32,
    frame_size: u32,
    n_frames: u32,
}
// SAFETY: four integers, no padding.
unsafe impl Plain for Request {}

/// `struct tpacket2_hdr`.
#[repr(C)]
#[derive(Copy, Clone)]
struct Header {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

/// The ring, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: NonNull<u8>,
    n: usize,
    next: usize,
}

// SAFETY: the memory is this value's alone but for the kernel, which does not care for threads.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives an unbound packet socket a ring of at least `n` slots. Options that change what is
    /// in a slot (`PACKET_VNET_HDR`) must be set before.
    pub(crate) fn new(fd: BorrowedFd<'_>, n: usize) -> Result<Ring, Errno> {
        let n_blocks = (n * SLOT).div_ceil(BLOCK);
        let n = n_blocks * BLOCK / SLOT;
        let set = |name, value: i32| setsockopt(fd, libc::SOL_PACKET, name, &value);
        set(PACKET_VERSION, TPACKET_V2)?;
        set(PACKET_COPY_THRESH, 1)?;
        let request = Request {
            block_size: BLOCK as u32,
            n_blocks: n_blocks as u32,
            frame_size: SLOT as u32,
            n_frames: n as u32,
        };
        setsockopt(fd, libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping of the whole ring at an address that the kernel chooses.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                n * SLOT,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(memory.cast::<u8>()) {
            Some(memory) if memory.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Ring { memory, n, next: 0 })
            }
            _ => {
                let failed = Errno::last();
                // A ring that nobody reads would swallow what the socket is to receive.
                let none = Request { block_size: 0, n_blocks: 0, frame_size: 0, n_frames: 0 };
                setsockopt(fd, libc::SOL_PACKET, PACKET_RX_RING, &none)?;
                Err(failed)
            }
        }
    }

    /// Start of a slot.
    fn at(&self, i: usize) -> *mut u8 {
        // SAFETY: within the mapping, which has `n` slots.
        unsafe { self.memory.as_ptr().add(i % self.n * SLOT) }
    }

    fn status(&self, i: usize) -> &AtomicU32 {
        // SAFETY: the first word of a slot, aligned as the slot is; both sides access it as a
        // whole, and it lives as long as the mapping.
        unsafe { AtomicU32::from_ptr(self.at(i).cast()) }
    }

    /// The oldest frame that was not released yet.
    #[inline]
    pub(crate) fn first(&self) -> Option<Slot<'_>> {
        let status = self.status(self.next).load(Ordering::Acquire);
        if status == 0 {
            return None;
        }
        let start = self.at(self.next);
        // SAFETY: the slot is ours until its status is written, which takes `&mut self`; it
        // begins with a header, and any bytes are a valid header.
        let header = unsafe { start.cast::<Header>().read() };
        // SAFETY: as above; the whole slot is within the mapping.
        let bytes = unsafe { std::slice::from_raw_parts(start, SLOT) };
        Some(Slot { status, header, bytes })
    }

    /// How many of the oldest frames, up to `max`, wait on the socket.
    pub(crate) fn n_apart(&self, max: usize) -> usize {
        let apart =
            |i: &usize| self.status(self.next + i).load(Ordering::Acquire) & TP_STATUS_COPY != 0;
        (0..max.min(self.n)).take_while(apart).count()
    }

    /// Gives the oldest `n` slots back to the kernel.
    pub(crate) fn release(&mut self, n: usize) {
        for _ in 0..n {
            self.status(self.next).store(0, Ordering::Release);
            self.next = (self.next + 1) % self.n;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.n * SLOT) };
    }
}

/// A slot that is the reader's.
pub(crate) struct Slot<'a> {
    status: u32,
    header: Header,
    bytes: &'a [u8],
}

impl<'a> Slot<'a> {
    /// The whole frame is to be read from the socket.
    pub(crate) fn is_apart(&self) -> bool {
        self.status & TP_STATUS_COPY != 0
    }

    /// The frame, or as much of it as fitted.
    pub(crate) fn frame(&self) -> &'a [u8] {
        let start = usize::from(self.header.mac);
        self.bytes.get(start..start + self.header.snaplen as usize).unwrap_or_default()
    }

    /// The virtio-net header, if the socket was told to make one.
    pub(crate) fn vnet_hdr(&self) -> Option<&'a [u8; VNET_HDR_LEN]> {
        let end = usize::from(self.header.mac);
        self.bytes.get(end.checked_sub(VNET_HDR_LEN)?..end)?.try_into().ok()
    }

    /// What else is known of the frame.
    pub(crate) fn meta(&self) -> RxMeta {
        let h = &self.header;
        RxMeta {
            len: h.len as usize,
            truncated: self.frame().len() < h.len as usize,
            status: self.status,
            vlan: vlan(self.status, h.vlan_tpid, h.vlan_tci),
        }
    }
}
