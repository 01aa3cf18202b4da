//! A client with a replica of one database that it keeps in step.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Client, ClientError, Notification};
use crate::data::{Data, RowChange};
use crate::replica::{METHODS, Replica};

/// A connection and what it knows of a database.
#[derive(Debug)]
pub struct Idl {
    client: Client,
    replica: Replica,
    db: String,
}

impl Idl {
    /// Monitors database `db` on `client`: the tables and columns in `wanted`, or all if `None`.
    ///
    /// # Errors
    /// If the server has no such database, or the connection breaks.
    pub fn new(
        mut client: Client,
        db: &str,
        wanted: Option<&[(&str, &[&str])]>,
    ) -> Result<Idl, ClientError> {
        let schema = Arc::new(client.get_schema(db)?);
        let mut replica = match wanted {
            Some(wanted) => Replica::with_columns(schema, wanted),
            None => Replica::new(schema),
        };
        for method in METHODS {
            match client.call(method, replica.monitor_params(method)) {
                Ok(reply) => {
                    replica.load(method, &reply).map_err(|e| answer(method, &e))?;
                    return Ok(Idl { client, replica, db: db.to_owned() });
                }
                Err(ClientError::Remote(error)) if is_unknown_method(&error) => {}
                Err(e) => return Err(e),
            }
        }
        Err(ClientError::Answer { method: "monitor", what: "the server cannot monitor".into() })
    }

    /// The contents as of the last change that was waited for.
    pub fn data(&self) -> &Data {
        self.replica.data()
    }

    /// The connection, for other calls.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Runs a transaction and takes in all changes that were reported before its reply, its own
    /// among them. See [`Client::transact`].
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn transact(&mut self, ops: Vec<Value>) -> Result<Vec<Value>, ClientError> {
        let results = self.client.transact(&self.db, ops)?;
        while let Some(notification) = self.client.take_notification() {
            self.take(&notification)?;
        }
        Ok(results)
    }

    /// Waits until the contents change; `None` if they do not until `until` (or the deadline).
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<Option<Vec<RowChange>>, ClientError> {
        while let Some(notification) = self.client.notification(until)? {
            if let Some(changes) = self.take(&notification)? {
                return Ok(Some(changes));
            }
        }
        Ok(None)
    }

    fn take(&mut self, n: &Notification) -> Result<Option<Vec<RowChange>>, ClientError> {
        self.replica.update(&n.method, &n.params).map_err(|e| answer("monitor", &e))
    }
}

fn answer(method: &'static str, error: &crate::Error) -> ClientError {
    ClientError::Answer { method, what: error.to_string() }
}

fn is_unknown_method(error: &Value) -> bool {
    *error == json!("unknown method") || error.get("error") == Some(&json!("unknown method"))
}
