//! Values and their types: RFC 7047 §3.2 and §5.1.
//!
//! An [`Atom`] is one scalar; a [`Datum`] is what a column of a row holds, a sorted set or map of
//! atoms. [`BaseType`] and [`ColumnType`] say which values are allowed, read them from JSON and
//! from the text a person types, and word the errors as the OVS tools do.
//!
//! Invariants: the elements of a `Datum` are sorted and unique, so equal values are equal bytes;
//! strings hold no NUL.

mod atom;
mod base_type;
mod column_type;
mod datum;
mod text;
mod uuid;

pub use atom::{Atom, AtomType, NoSymbols, Symbols, is_id};
pub use base_type::{BaseType, Constraint};
pub use column_type::{ColumnType, UNLIMITED};
pub use datum::Datum;
pub use text::{TextParser, atom_to_text, needs_quotes};
pub use uuid::{Uuid, UuidGen};
