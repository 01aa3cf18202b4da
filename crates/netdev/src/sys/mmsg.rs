//! `recvmmsg` and `sendmmsg` over packet sockets: a virtio-net header and a frame per message.

#![allow(unsafe_code)] // scatter/gather arrays hold raw pointers by their nature

use std::fmt;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use packet::{PacketBuf, VNET_HDR_LEN};

use super::{Errno, cvt};
use crate::BATCH;

/// Bytes of control data for one `PACKET_AUXDATA` message, in 8-byte words.
const CONTROL_WORDS: usize = 6;

/// What came beside one frame.
#[derive(Copy, Clone, Default)]
pub(crate) struct RxMeta {
    /// Bytes of the frame.
    pub len: usize,
    /// The frame did not fit and its end is lost.
    pub truncated: bool,
    /// `tp_status` of the auxiliary data (`TP_STATUS_*`).
    pub status: u32,
    /// Tag that the kernel took out of the frame: (TPID, TCI).
    pub vlan: Option<(u16, u16)>,
}

/// Arrays for one receive call, kept between calls.
pub(crate) struct RxRing {
    msgs: [libc::mmsghdr; BATCH],
    iovs: [[libc::iovec; 2]; BATCH],
    hdrs: [[u8; VNET_HDR_LEN]; BATCH],
    control: [[u64; CONTROL_WORDS]; BATCH],
}

// SAFETY: the raw pointers inside are rewritten at the start of every call, from borrows that
// live as long as that call, and are not used outside of it.
unsafe impl Send for RxRing {}

impl fmt::Debug for RxRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RxRing")
    }
}

impl RxRing {
    pub(crate) fn new() -> Box<RxRing> {
        // SAFETY: null pointers, zero lengths and zero bytes are valid values of all the fields.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// The virtio-net header of message `i` of the last call.
    pub(crate) fn vnet_hdr(&self, i: usize) -> &[u8; VNET_HDR_LEN] {
        &self.hdrs[i]
    }

    /// Receives up to `min(bufs.len(), BATCH)` frames without waiting; frame `i` is in the
    /// receive space of `bufs[i]`, whose length is not yet set. With `vnet`, the header goes
    /// apart ([`RxRing::vnet_hdr`]).
    pub(crate) fn recv(
        &mut self,
        fd: BorrowedFd<'_>,
        bufs: &mut [PacketBuf],
        vnet: bool,
    ) -> Result<usize, Errno> {
        let n = bufs.len().min(BATCH);
        for (i, buf) in bufs[..n].iter_mut().enumerate() {
            let space = buf.recv_space();
            self.iovs[i] = [
                libc::iovec { iov_base: self.hdrs[i].as_mut_ptr().cast(), iov_len: VNET_HDR_LEN },
                libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() },
            ];
            let iov = if vnet { &mut self.iovs[i][..] } else { &mut self.iovs[i][1..] };
            let h = &mut self.msgs[i].msg_hdr;
            h.msg_iov = iov.as_mut_ptr();
            h.msg_iovlen = iov.len() as _;
            h.msg_control = self.control[i].as_mut_ptr().cast();
            h.msg_controllen = (CONTROL_WORDS * 8) as _;
            h.msg_flags = 0;
        }
        // SAFETY: the first `n` messages point to vectors, headers and control words of `self`
        // and to the receive spaces of `bufs`, all borrowed mutably for this call.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.msgs.as_mut_ptr(),
                n as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        Ok(cvt(got)? as usize)
    }

    /// What came beside message `i` of the last call, which was asked `vnet`.
    pub(crate) fn meta(&self, i: usize, vnet: bool) -> RxMeta {
        let h = &self.msgs[i].msg_hdr;
        let before = if vnet { VNET_HDR_LEN } else { 0 };
        let mut meta = RxMeta {
            len: (self.msgs[i].msg_len as usize).saturating_sub(before),
            truncated: h.msg_flags & libc::MSG_TRUNC != 0,
            ..RxMeta::default()
        };
        // One control message at most: cmsghdr { len: usize, level: int, type: int }, then
        // struct tpacket_auxdata (linux/if_packet.h): status, len, snaplen: u32; mac, net,
        // vlan_tci, vlan_tpid: u16.
        let c = &self.control[i];
        let header = size_of::<libc::cmsghdr>();
        if h.msg_controllen < header + 20 || header != 16 {
            return meta;
        }
        let word = |at: usize, bytes: usize| {
            let b = c[at / 8].to_ne_bytes();
            (0..bytes).fold([0u8; 4], |mut w, k| {
                w[k] = b[at % 8 + k];
                w
            })
        };
        let int = |at| i32::from_ne_bytes(word(at, 4));
        let short = |at| {
            let w = word(at, 2);
            u16::from_ne_bytes([w[0], w[1]])
        };
        if int(8) == libc::SOL_PACKET && int(12) == PACKET_AUXDATA {
            meta.status = int(16) as u32;
            meta.vlan = vlan(meta.status, short(16 + 18), short(16 + 16));
        }
        meta
    }
}

/// `PACKET_AUXDATA`, and the status bits, of `linux/if_packet.h`.
pub(crate) const PACKET_AUXDATA: i32 = 8;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
/// The transport checksum was found right.
pub(crate) const TP_STATUS_CSUM_VALID: u32 = 1 << 7;

/// The tag that the kernel took out of a frame, as `tp_status` and its neighbours tell.
pub(crate) fn vlan(status: u32, tpid: u16, tci: u16) -> Option<(u16, u16)> {
    let known = status & TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if known { tpid } else { packet::header::ethertype::VLAN };
    (status & TP_STATUS_VLAN_VALID != 0).then_some((tpid, tci))
}

/// Arrays for one send call, kept between calls.
pub(crate) struct TxRing {
    msgs: [libc::mmsghdr; BATCH],
    iovs: [[libc::iovec; 2]; BATCH],
    hdrs: [[u8; VNET_HDR_LEN]; BATCH],
}

// SAFETY: as for `RxRing`: pointers are written and used within one call only.
unsafe impl Send for TxRing {}

impl fmt::Debug for TxRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TxRing")
    }
}

impl TxRing {
    pub(crate) fn new() -> Box<TxRing> {
        // SAFETY: null pointers, zero lengths and zero bytes are valid values of all the fields.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// Lays out up to [`BATCH`] packets and hands them to `report` as they are taken or refused:
    /// `report(index, outcome)`, once for each. `give_up` says which errors end the batch: the
    /// rest is then reported with the same error without another system call.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        pkts: &[&PacketBuf],
        vnet: bool,
        give_up: fn(Errno) -> bool,
        mut report: impl FnMut(usize, Result<(), Errno>),
    ) {
        let n = pkts.len().min(BATCH);
        for (i, pkt) in pkts[..n].iter().enumerate() {
            self.hdrs[i] = pkt.offload.to_bytes();
            let frame = pkt.frame();
            self.iovs[i] = [
                libc::iovec { iov_base: self.hdrs[i].as_mut_ptr().cast(), iov_len: VNET_HDR_LEN },
                libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() },
            ];
            let iov = if vnet { &mut self.iovs[i][..] } else { &mut self.iovs[i][1..] };
            let h = &mut self.msgs[i].msg_hdr;
            h.msg_iov = iov.as_mut_ptr();
            h.msg_iovlen = iov.len() as _;
        }
        let mut done = 0;
        while done < n {
            // SAFETY: messages `done..n` point to vectors and headers of `self` and to frames
            // borrowed for this call; sendmmsg only reads them (and writes msg_len).
            let sent = unsafe {
                libc::sendmmsg(
                    fd.as_raw_fd(),
                    self.msgs[done..n].as_mut_ptr(),
                    (n - done) as _,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match cvt(sent) {
                Ok(0) => {
                    (done..n).for_each(|i| report(i, Err(Errno(libc::EIO))));
                    return;
                }
                Ok(k) => {
                    let k = (k as usize).min(n - done);
                    (done..done + k).for_each(|i| report(i, Ok(())));
                    done += k;
                }
                Err(Errno(libc::EINTR)) => {}
                Err(e) if give_up(e) => {
                    (done..n).for_each(|i| report(i, Err(e)));
                    return;
                }
                Err(e) => {
                    report(done, Err(e));
                    done += 1;
                }
            }
        }
    }
}
