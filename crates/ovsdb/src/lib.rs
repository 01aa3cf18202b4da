//! RFC 7047: JSON-RPC, schema, engine, durable log, server and client sessions.
//!
//! - [`types`]: atoms, sets and maps, their JSON and text; [`schema`]: tables and columns.
//! - [`jsonrpc`]: messages in a byte stream.
//! - [`data`]: rows and how to read them; [`engine`]: transactions and what must hold.
//! - [`log`]: the file of a database; [`server`]: sessions over databases, without sockets.
//! - [`replica`]: a copy that follows a server.
//! - [`remote`]: addresses; [`client`]: a blocking connection for tools.

pub mod client;
pub mod data;
pub mod engine;
pub mod error;
pub mod jsonrpc;
pub mod log;
pub mod remote;
pub mod replica;
pub mod schema;
pub mod server;
pub mod types;

pub use data::{Data, Row, RowChange, RowRef, TableRef};
pub use engine::{Commit, Condition, Database};
pub use error::{Error, Result};
pub use log::Log;
pub use schema::{ColumnSchema, DbSchema, TableSchema};
pub use server::Server;
pub use types::{Atom, AtomType, ColumnType, Datum, Uuid, UuidGen};
