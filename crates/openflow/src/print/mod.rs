//! Messages in the text of `ovs-ofctl`: what `show`, the dumps, `monitor`, `snoop` and a printed error
//! consist of.
//!
//! One file per topic writes the part behind the heading; names of ports come from the caller's
//! [`PortMap`](flow::text::PortMap). Matches and actions are written by their own modules.
//!
//! Invariant: every text here ends its own lines; nothing is trimmed afterwards.

mod bits;
pub mod ports;

pub use bits::{Bits, Seconds};
