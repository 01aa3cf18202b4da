//! Port backends: how frames enter and leave the switch, and what the host knows of its links.
//!
//! A [`Port`] is one device. It gives out one [`RxQueue`] and any number of [`TxQueue`]s, one per
//! worker that sends; the halves live on different threads. All of them are non-blocking and work
//! on batches of at most [`BATCH`] frames; a frame travels in a [`packet::PacketBuf`] together
//! with its virtio-net header as data, so a 64 KB TCP segment with a partial checksum is one frame
//! from one device to the other. Devices that cannot take that get software segmentation
//! ([`packet::segment`]) behind [`TxQueue::send`].
//!
//! Backends: [`af_packet`] (any kernel device: veth, NIC, a tap that QEMU opened), [`tap`] (the
//! switch's own ports), [`dummy`] (memory, for tests and `datapath_type=dummy`).
//!
//! # A worker's loop
//! ```no_run
//! # use netdev::{BATCH, RxQueue, TxQueue, new_batch};
//! # fn f(rx: &mut dyn RxQueue, tx: &mut dyn TxQueue) {
//! let mut bufs = new_batch(); // once per worker
//! let got = rx.recv(&mut bufs);
//! let out: Vec<&packet::PacketBuf> = bufs[..got.n].iter().collect(); // an ArrayVec in real life
//! tx.send(&out);
//! # }
//! ```
//! Poll descriptors level-triggered. Nothing here fails because of traffic or because a device
//! went down: what could not be done is counted, by reason, in [`PortState`].
//!
//! # Threads
//! [`PortState`] is shared and atomic. Everything else is owned by one thread at a time.

pub mod af_packet;
pub mod dummy;
mod error;
pub mod exclusive;
pub mod link;
mod netlink;
pub mod poll;
mod port;
mod soft;
mod state;
mod sys;
pub mod tap;

pub use error::{Error, Warning};
pub use port::{BATCH, FRAME_CAPACITY, Port, Received, RxQueue, TxQueue, new_batch};
pub use state::{Counters, PortState, RxDrop, TxDrop};
pub use sys::Errno;
