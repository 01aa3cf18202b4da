//! The database that the switch obeys: embedded, or in another process.

use std::cell::RefCell;
use std::rc::Rc;

use ovsdb::data::Data;
use serde_json::Value;
use tokio::sync::Notify;

use crate::dbhost::DbHost;
use crate::remotedb::RemoteDb;

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub enum Db {
    /// Ours, with its server.
    Embedded(Rc<RefCell<DbHost>>),
    /// A replica of somebody else's.
    Remote(Rc<RefCell<RemoteDb>>),
}

impl Db {
    /// Does something with the contents, if they are known.
    pub fn with<T>(&self, f: impl FnOnce(&Data) -> T) -> Option<T> {
        match self {
            Db::Embedded(host) => host.borrow().db().map(|db| f(db.data())),
            Db::Remote(db) => db.borrow().data().map(f),
        }
    }

    /// What to wait on for changes.
    pub fn changed(&self) -> Rc<Notify> {
        match self {
            Db::Embedded(host) => host.borrow().changed(),
            Db::Remote(db) => db.borrow().changed(),
        }
    }

    /// Whether there were changes since the last call.
    pub fn take_changes(&self) -> bool {
        match self {
            Db::Embedded(host) => !host.borrow_mut().take_changes().is_empty(),
            Db::Remote(db) => db.borrow_mut().take_changes(),
        }
    }

    /// Runs a transaction of the daemon's own.
    ///
    /// # Errors
    /// Why it did not happen, as far as that is known at once.
    pub fn transact(&self, ops: &[Value]) -> Result<(), String> {
        match self {
            Db::Embedded(host) => host.borrow_mut().transact(ops).map(drop),
            Db::Remote(db) => db.borrow_mut().transact(ops),
        }
    }

    /// The embedded server, if it is that.
    pub fn host(&self) -> Option<&Rc<RefCell<DbHost>>> {
        match self {
            Db::Embedded(host) => Some(host),
            Db::Remote(_) => None,
        }
    }
}
