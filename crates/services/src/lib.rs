//! One sans-I/O engine per L2 protocol: MAC learning.
//!
//! Engines here know no sockets, no clock and no database: time and packets' fields come in as
//! arguments, effects go out as return values.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod mac;
