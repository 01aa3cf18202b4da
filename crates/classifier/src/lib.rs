//! Finding the best rule for a packet, and which bits of the packet decided it.
//!
//! Tuple-space search (Srinivasan, Suri, Varghese, 1999): rules with the same mask share a
//! *subtable*, which is one hash table over the masked words. A lookup visits the subtables in
//! order of their highest priority and stops as soon as no later one could do better.
//!
//! Three things keep the *wildcards* small, that is the set of bits a lookup had to look at, so that
//! one cached answer serves as many packets as possible:
//!
//! - **Stages.** A subtable's words are hashed in up to four steps: pipeline and packet metadata,
//!   L2, L3, L4. When a step already shows that nothing matches, the later words stay unlooked-at.
//! - **Prefix trees.** For IP addresses, or the fields that the owner names, the set of prefixes in use tells, often by a few leading
//!   bits, that a subtable with a longer prefix cannot match ([`trie`]).
//! - **Port trees.** When everything but the L4 ports matches, the leading bits that tell the
//!   packet's ports from all those in the subtable are enough.
//!
//! Invariants: a packet that agrees with the one looked up on all bits in the wildcards gets the
//! same rule from the same set of rules (tested against a linear scan); the wildcards never have a
//! bit that no visited subtable's mask has.
//!
//! Rules may stand for clauses of conjunctions ([`Conjunctive`]).
//!
//! Storage is compact because tables of a million rules are normal: a rule costs its masked
//! non-zero words, a priority, a link and the rule value itself; the mask is stored once.
//!
//! No threads in here: the owner shares it behind a lock.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod classifier;
mod conjunction;
mod heads;
mod mini;
mod prefixes;
mod subtable;
pub mod trie;
mod two;

pub use classifier::{Classifier, Found};
pub use conjunction::{Clause, Conjunctive};
pub use mini::MiniMatch;
pub use prefixes::{MAX_PREFIX_FIELDS, PREFIX_FIELDS};
