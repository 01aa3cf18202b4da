//! Counters of a port, one per reason, and the settings its queues read.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::link::Link;
use crate::{Errno, Way};

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
        /// The device took the frame and dropped it: who is behind it does not read, or not fast enough.
        Device = "tx-device";
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

/// Frames that a device dropped without telling whoever sent them: the kernel counts them with the device.
#[derive(Debug, Default)]
pub(crate) struct Unreported {
    /// What the kernel had counted by the last reading, and what was told to the sender.
    last: Mutex<Option<(u64, u64)>>,
}

impl Unreported {
    /// Takes in what the kernel counts now, and how many drops senders were told, some of which the kernel has
    /// counted too. Returns how many more nobody was told. What was counted before the first reading is not ours.
    pub(crate) fn read(&self, counted: u64, told: u64) -> u64 {
        let before = self.last.lock().replace((counted, told));
        let (last, told_then) = before.unwrap_or((counted, told));
        counted.saturating_sub(last).saturating_sub(told.saturating_sub(told_then))
    }
}

/// State of a port that its queues and the control plane share.
///
/// Queues add to the counters once per batch. A frame of 64 KB that the
/// device will segment counts once; one that was cut in software counts with each segment.
#[derive(Debug)]
pub struct PortState {
    mtu: AtomicU32,
    /// 0, or one more than a [`Way`].
    bypass: AtomicU8,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    rx_drops: [AtomicU64; RxDrop::ALL.len()],
    tx_drops: [AtomicU64; TxDrop::ALL.len()],
    tx_segmented: AtomicU64,
    /// Packets and bytes.
    tx_past_device: [AtomicU64; 2],
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
    /// Of the frames sent, those that the device does not count: they went to [its other end](Way::Peer).
    pub past_device: u64,
    /// Their bytes.
    pub bytes_past_device: u64,
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
            bypass: AtomicU8::new(0),
            rx_packets: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_packets: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            rx_drops: [const { AtomicU64::new(0) }; RxDrop::ALL.len()],
            tx_drops: [const { AtomicU64::new(0) }; TxDrop::ALL.len()],
            tx_segmented: AtomicU64::new(0),
            tx_past_device: [const { AtomicU64::new(0) }; 2],
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

    /// How the kernel may [send](crate::Bypass) packets to the port without us; `None` if it takes none that come by it.
    pub fn bypass(&self) -> Option<Way> {
        match self.bypass.load(Relaxed) {
            0 => None,
            1 => Some(Way::Nowhere),
            2 => Some(Way::Device),
            _ => Some(Way::Peer),
        }
    }

    pub(crate) fn set_bypass(&self, way: Way) {
        self.bypass.store(1 + way as u8, Relaxed);
    }

    /// Tells the queues what the host says of the device.
    pub fn note_link(&self, link: &Link) {
        self.set_mtu(link.mtu);
        if self.bypass().is_some() {
            self.set_bypass(link.way());
        }
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
            past_device: get(&self.tx_past_device[0]),
            bytes_past_device: get(&self.tx_past_device[1]),
        }
    }

    /// Counts frames that came in.
    pub fn count_rx(&self, packets: usize, bytes: usize) {
        if packets > 0 {
            self.rx_packets.fetch_add(packets as u64, Relaxed);
            self.rx_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// Counts frames that the device took.
    pub fn count_tx(&self, packets: usize, bytes: usize) {
        if packets > 0 {
            self.tx_packets.fetch_add(packets as u64, Relaxed);
            self.tx_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// Counts frames that went to the device's other end, besides [counting](PortState::count_tx) them as sent.
    pub fn count_past_device(&self, packets: u64, bytes: u64) {
        self.tx_past_device[0].fetch_add(packets, Relaxed);
        self.tx_past_device[1].fetch_add(bytes, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_explained() {
        let page = include_str!("../../../docs/losses.md");
        let names =
            RxDrop::ALL.iter().map(|r| r.name()).chain(TxDrop::ALL.iter().map(|r| r.name()));
        for name in names {
            assert!(page.contains(&format!("\n| `{name}` | ")), "docs/losses.md lacks {name}");
        }
    }

    #[test]
    fn drops_that_senders_were_told_count_once() {
        let device = Unreported::default();
        assert_eq!(device.read(100, 5), 0, "of before");
        assert_eq!(device.read(130, 5), 30);
        // Ten of these, and then all, were told to the sender.
        assert_eq!(device.read(150, 15), 10);
        assert_eq!(device.read(160, 25), 0);
        // A queue in front of the device was full: the device knows nothing of it.
        assert_eq!(device.read(160, 1000), 0);
        assert_eq!(device.read(161, 1000), 1);
    }
}
