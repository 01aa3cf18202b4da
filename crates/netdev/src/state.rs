//! Counters of a port, one per reason, and the settings its queues read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::Errno;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $d:literal])* $id:ident = $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $d])* $id,)* }

        impl $name {
            /// All reasons, in the order of [`Counters`].
            pub const ALL: &[$name] = &[$($name::$id),*];

            /// Name in statistics and traces.
            pub const fn name(self) -> &'static str {
                match self { $($name::$id => $text,)* }
            }

            /// What happened, in a sentence.
            pub const fn text(self) -> &'static str {
                match self { $($name::$id => concat!($($d),*).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Why a frame was lost on its way in.
    RxDrop {
        /// The socket's buffer was full: the switch was too slow.
        Overrun = "rx-overrun";
        /// Longer than the receive buffer.
        Truncated = "rx-truncated";
        /// Shorter than an Ethernet header.
        Runt = "rx-runt";
        /// Segmentation metadata of a kind that the virtio-net header cannot say.
        UnknownOffload = "rx-unknown-offload";
        /// Any other error of the receive call.
        Error = "rx-error";
    }
}

reasons! {
    /// Why a frame was lost on its way out.
    TxDrop {
        /// The device's or socket's queue is full.
        QueueFull = "tx-queue-full";
        /// The device is administratively down.
        Down = "tx-down";
        /// The device no longer exists.
        Gone = "tx-gone";
        /// Larger than the MTU and not to be segmented.
        TooBig = "tx-too-big";
        /// Shorter than an Ethernet header, or offload metadata that contradicts the frame.
        Malformed = "tx-malformed";
        /// Any other error of the send call.
        Error = "tx-error";
    }
}

impl TxDrop {
    /// The reason behind a send call's error.
    pub(crate) fn from_errno(e: Errno) -> TxDrop {
        match e.0 {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => TxDrop::QueueFull,
            libc::ENETDOWN | libc::EIO => TxDrop::Down,
            libc::ENXIO | libc::ENODEV | libc::EBADFD => TxDrop::Gone,
            libc::EMSGSIZE => TxDrop::TooBig,
            libc::EINVAL => TxDrop::Malformed,
            _ => TxDrop::Error,
        }
    }
}

/// State of a port that its queues and the control plane share.
///
/// Queues add to the counters once per batch. A frame of 64 KB that the
/// device will segment counts once; one that was cut in software counts with each segment.
#[derive(Debug)]
pub struct PortState {
    mtu: AtomicU32,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    rx_drops: [AtomicU64; RxDrop::ALL.len()],
    tx_drops: [AtomicU64; TxDrop::ALL.len()],
    tx_segmented: AtomicU64,
}

/// A reading of [`PortState`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received by the switch.
    pub rx_packets: u64,
    /// Bytes received, from the Ethernet header on, without FCS.
    pub rx_bytes: u64,
    /// Frames that the device took.
    pub tx_packets: u64,
    /// Bytes that the device took.
    pub tx_bytes: u64,
    /// Lost on the way in, by [`RxDrop`].
    pub rx_drops: [u64; RxDrop::ALL.len()],
    /// Lost on the way out, by [`TxDrop`].
    pub tx_drops: [u64; TxDrop::ALL.len()],
    /// Frames that were segmented in software because the device cannot.
    pub tx_segmented: u64,
}

impl Counters {
    /// Frames lost on the way in for one reason.
    pub fn rx_drop(&self, reason: RxDrop) -> u64 {
        self.rx_drops[reason as usize]
    }

    /// Frames lost on the way out for one reason.
    pub fn tx_drop(&self, reason: TxDrop) -> u64 {
        self.tx_drops[reason as usize]
    }
}

impl PortState {
    /// All counters zero. `mtu` in bytes of network-layer packet; 0 for no limit.
    pub fn new(mtu: u32) -> PortState {
        PortState {
            mtu: AtomicU32::new(mtu),
            rx_packets: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_packets: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            rx_drops: [const { AtomicU64::new(0) }; RxDrop::ALL.len()],
            tx_drops: [const { AtomicU64::new(0) }; TxDrop::ALL.len()],
            tx_segmented: AtomicU64::new(0),
        }
    }

    /// Largest network-layer packet in bytes that is sent whole; 0 for no limit.
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Relaxed)
    }

    /// Tells the queues a new MTU. Does not change the device (see `link`).
    pub fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Relaxed);
    }

    /// Reads all counters. Not one atomic picture: counters move while they are read.
    pub fn counters(&self) -> Counters {
        let get = |a: &AtomicU64| a.load(Relaxed);
        Counters {
            rx_packets: get(&self.rx_packets),
            rx_bytes: get(&self.rx_bytes),
            tx_packets: get(&self.tx_packets),
            tx_bytes: get(&self.tx_bytes),
            rx_drops: std::array::from_fn(|i| get(&self.rx_drops[i])),
            tx_drops: std::array::from_fn(|i| get(&self.tx_drops[i])),
            tx_segmented: get(&self.tx_segmented),
        }
    }

    pub(crate) fn count_rx(&self, packets: usize, bytes: usize) {
        if packets > 0 {
            self.rx_packets.fetch_add(packets as u64, Relaxed);
            self.rx_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(crate) fn count_tx(&self, packets: usize, bytes: usize) {
        if packets > 0 {
            self.tx_packets.fetch_add(packets as u64, Relaxed);
            self.tx_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(crate) fn drop_rx(&self, reason: RxDrop, n: u64) {
        self.rx_drops[reason as usize].fetch_add(n, Relaxed);
    }

    pub(crate) fn drop_tx(&self, reason: TxDrop, n: u64) {
        self.tx_drops[reason as usize].fetch_add(n, Relaxed);
    }

    pub(crate) fn count_segmented(&self) {
        self.tx_segmented.fetch_add(1, Relaxed);
    }
}
