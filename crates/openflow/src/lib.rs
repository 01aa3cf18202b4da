//! OpenFlow 1.0 to 1.5 with Nicira's extensions: messages, actions, errors, their wire form and the
//! text of `ovs-ofctl`.
//!
//! Sans-I/O: `Message::decode` takes the bytes of one message, `Message::encode` gives them
//! back; `frame_len` cuts a stream. What is said ([`Body`], [`Action`], [`FlowMod`]) does not
//! depend on the version it is said in; the tables (actions, message kinds,
//! errors) hold the names and the numbers of each version, once.
//!
//! Invariants: decoding never panics and never drops what it does not know: that is an error with
//! the OpenFlow (type, code) that names it. Decode, encode, decode is the identity.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod action;
pub mod error;
pub mod flow_mod;
pub mod message;
pub mod oxm;
pub mod print;
pub mod protocol;
pub mod subfield;
pub mod text;
pub mod version;
pub mod wire;

pub use action::Action;
pub use flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
pub use message::{Body, Message};
pub use subfield::Subfield;
pub use version::Version;

/// The match of a flow: [`flow::Match`].
pub use flow::Match;
