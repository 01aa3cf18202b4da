//! Port backends: how frames enter and leave the switch, and what the host knows of its links.
//!
//! A [`Port`] is one device. It gives out its [`RxQueue`]s (mostly one) and any number of [`TxQueue`]s, one per
//! worker that sends; the halves live on different threads. All of them are non-blocking and work
//! on batches of at most [`BATCH`] frames; a frame travels in a [`packet::PacketBuf`] together
//! with its virtio-net header as data, so a 64 KB TCP segment with a partial checksum is one frame
//! from one device to the other. Devices that cannot take that get software segmentation
//! ([`packet::segment`]) behind [`TxQueue::send`].
//!
//! Backends: [`af_packet`] (any kernel device: veth, NIC, a tap that QEMU opened), [`af_xdp`] (the same
//! by way of the driver, without offloads), [`tap`] (the switch's own ports), [`null`] and [`replay`] (memory, for measuring), [`dummy`] (memory, for tests
//! and `datapath_type=dummy`).
//!
//! # A worker's loop
//! ```no_run
//! # use netdev::{BATCH, RxQueue, TxQueue, new_batch, poll::{Poller, Spin}};
//! # use std::time::Duration;
//! # fn f(mut rx: Vec<Box<dyn RxQueue>>, tx: &mut dyn TxQueue) -> Result<(), netdev::Errno> {
//! let mut bufs = new_batch(); // once per worker; frames stay where they were received
//! let mut spin = Spin::new(Duration::from_micros(40));
//! let (mut poller, mut ready) = (Poller::new()?, Vec::new()); // rx[i] was added with token i
//! loop {
//!     poller.wait_spinning(&mut spin, None, &mut ready, |_| false)?;
//!     for &i in &ready {
//!         let got = rx[i as usize].recv(&mut bufs); // one system call, up to BATCH frames
//!         let out: [&packet::PacketBuf; BATCH] = std::array::from_fn(|k| &bufs[k]);
//!         tx.send(&out[..got.n]); // one system call for all frames of one output
//!     }
//! }
//! # }
//! ```
//! One batch per ready queue and turn keeps queues fair; a queue with more stays ready. Gather what
//! goes to one port and send it by one call. On a two-core virtual machine this loop
//! (`examples/forward.rs`) moves one TCP stream between two namespaces at 0.85 to 1 times the rate
//! of the Linux bridge (14 to 17 Gb/s) and 64-byte frames at 440,000 a second; a round trip takes
//! 15 µs with [`poll::Spin`], 40 µs when it sleeps each time, 7 µs through the bridge. Larger batches,
//! `PACKET_QDISC_BYPASS`, and socket buffers above 4 MB gained nothing measurable.
//!
//! Poll descriptors level-triggered. Nothing here fails because of traffic or because a device
//! went down: what could not be done is counted, by reason, in [`PortState`].
//!
//! # Threads
//! [`PortState`] is shared and atomic. Everything else is owned by one thread at a time.

pub mod af_packet;
pub mod af_xdp;
mod bypass;
pub mod cpu;
pub mod dummy;
mod error;
pub mod exclusive;
pub mod internal;
pub mod link;
pub mod memory;
mod netlink;
pub mod null;
pub mod poll;
mod port;
pub mod replay;
pub mod route;
mod soft;
mod state;
mod sys;
pub mod tap;

pub use bypass::{Bypass, Way};
pub use error::{Error, Warning};
pub use port::{BATCH, FRAME_CAPACITY, Port, Received, RxQueue, TxQueue, new_batch};
pub use state::{Counters, PortState, RxDrop, TxDrop};
pub use sys::Errno;
