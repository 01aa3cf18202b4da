//! The interface of all backends.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use packet::PacketBuf;

use crate::link::LinkStats;
use crate::{Counters, Error, PortState, Warning};

/// Most frames that one receive or send call handles.
pub const BATCH: usize = 32;

/// Frame bytes that a receive buffer must hold: 64 KB of IP packet, the Ethernet header, tags.
pub const FRAME_CAPACITY: usize = 65_536 + 64;

/// [`BATCH`] receive buffers of [`FRAME_CAPACITY`] (2 MB; pages are touched only as large frames
/// arrive).
pub fn new_batch() -> Vec<PacketBuf> {
    (0..BATCH).map(|_| PacketBuf::with_capacity(FRAME_CAPACITY)).collect()
}

/// What a receive call did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The first `n` buffers hold frames.
    pub n: usize,
    /// More is probably waiting: call again before going to sleep.
    pub more: bool,
    /// The device no longer exists and this queue will never receive again: stop polling it.
    pub gone: bool,
}

/// The receiving half of a port.
pub trait RxQueue: Send + fmt::Debug {
    /// Descriptor to poll for readability, level-triggered. `None`: call `recv` in turn.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether a frame is seen to wait without a system call. `false` says nothing: ask the
    /// descriptor.
    fn is_ready(&self) -> bool {
        false
    }

    /// Receives without waiting into the first buffers of `bufs` (each of [`FRAME_CAPACITY`]),
    /// resetting them. Frames come from their Ethernet header on, all VLAN tags in place, with
    /// the sender's offload metadata; layers are not yet known.
    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received;
}

/// A sending half of a port.
pub trait TxQueue: Send + fmt::Debug {
    /// Sends frames in order without waiting and returns how many the device took; a packet that
    /// had to be cut in software counts with each of its segments. What the device did not take
    /// is dropped and counted. Nothing of the packets is kept or changed.
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize;
}

/// One open device. Dropping it gives the device back to the host; drop its queues before, for a
/// queue that lives on keeps working.
pub trait Port: Send + fmt::Debug {
    /// Device name.
    fn name(&self) -> &str;

    /// Kernel interface index; `None` for a port that is not a kernel device.
    fn ifindex(&self) -> Option<u32>;

    /// Counters and settings shared with the queues. To report counters, read
    /// [`Port::counters`] instead.
    fn state(&self) -> &Arc<PortState>;

    /// The receiving half, or the next of them where the device spreads its frames over several: those of a
    /// connection always come by the same. `None` when all were taken.
    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>>;

    /// Another sending half.
    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error>;

    /// Reads all counters, also those that the kernel keeps for the port.
    fn counters(&self) -> Counters {
        self.state().counters()
    }

    /// Takes in what the kernel counts of the device, for losses that it tells in no other way. Call it once when
    /// the port is opened, then as often as counters are read.
    fn note_device(&self, _stats: &LinkStats) {}

    /// Counters that only this kind of port has, by OVS's names for them.
    fn custom_counters(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// What only this kind of port has to tell of how it works, by OVS's names for it.
    fn status(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What does not work as well as it should.
    fn warnings(&self) -> &[Warning] {
        &[]
    }
}

/// A frame that is too long for the MTU and will not be segmented on its way.
pub(crate) fn exceeds_mtu(pkt: &PacketBuf, mtu: u32) -> bool {
    mtu != 0 && !pkt.offload.is_gso() && pkt.len() > frame_limit(pkt, mtu)
}

/// Bytes that a frame like `pkt` may have on a link of `mtu`. Up to two VLAN tags are free.
pub(crate) fn frame_limit(pkt: &PacketBuf, mtu: u32) -> usize {
    use packet::header::{ETH_LEN, VLAN_LEN, be16, ethertype};
    let is_tag = |at| matches!(be16(pkt.frame(), at), Some(ethertype::VLAN | ethertype::QINQ));
    let tags = match (is_tag(12), is_tag(16)) {
        (true, true) => 2,
        (true, false) => 1,
        _ => 0,
    };
    mtu as usize + ETH_LEN + tags * VLAN_LEN
}
