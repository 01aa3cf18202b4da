//! How bytes become headers: packet buffers with offload metadata, checksums, capture files.
//!
//! A [`PacketBuf`] owns one frame with headroom before it, so that tags and tunnel headers are
//! pushed without a copy of the payload. It carries its virtio-net header as data ([`Offload`]):
//! a 64 KB TCP segment with a partial checksum is one packet here, and only a port that cannot
//! take it pays for segmentation.
//!
//! Panic contract: functions that take bytes from outside return `Option` or `Result`; accessors
//! with an offset panic only if the caller broke the invariant stated in their docs.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod buf;
pub mod checksum;
pub mod crc32c;
pub mod header;
mod offload;
pub mod pcap;
pub mod segment;

pub use buf::{HEADROOM, PacketBuf};
pub use offload::{GsoType, Offload, VNET_HDR_LEN};
