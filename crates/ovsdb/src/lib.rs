//! RFC 7047: JSON-RPC, schema, engine, durable log, server and client sessions.
//!
//! - [`types`]: atoms, sets and maps, their JSON and text; [`schema`]: tables and columns.
//! - [`jsonrpc`]: messages in a byte stream.
//! - [`remote`]: addresses; [`client`]: a blocking connection for tools.

pub mod client;
pub mod error;
pub mod jsonrpc;
pub mod remote;
pub mod schema;
pub mod types;

pub use error::{Error, Result};
pub use schema::{ColumnSchema, DbSchema, TableSchema};
pub use types::{Atom, AtomType, ColumnType, Datum, Uuid, UuidGen};
