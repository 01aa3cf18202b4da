//! What a packet is to the switch: THE field table, flow keys and masks, extraction.
//!
//! [`PacketKey`] is what the datapath sees of a packet; [`FlowKey`] adds what only OpenFlow knows
//! (registers, metadata). Both are plain structs without padding, seen as arrays of 64-bit words by
//! whoever hashes, masks or compares them. A mask is a value of the same type whose 1-bits are the
//! significant ones.
//!
//! [`Field`] rows ([`field::FIELDS`]) drive everything that speaks of fields by name or by wire id:
//! parsing, formatting, OXM/NXM codecs, prerequisites, `move` and `load`. Nothing about a field
//! is listed anywhere else.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod compose;
pub mod extract;
pub mod field;
pub mod hash;
mod key;
mod match_set;
pub mod text;
pub mod tun_metadata;

pub use compose::compose;
pub use extract::extract;
pub use field::{Field, FieldId};
pub use key::{
    CT_STATE_FLAGS, FLOW_WORDS, FlowKey, Match, PACKET_WORDS, PacketKey, TunnelKey, VLAN_PRESENT,
    VlanTag, ct_state, nw_frag,
};
pub use tun_metadata::{TlvError, TlvMap, TlvTable, TunMetadata};
