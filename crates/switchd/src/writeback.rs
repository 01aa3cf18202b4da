//! What the daemon writes into the database: status, numbers, errors.
//!
//! [`WriteBack::set`] compares with what the row says already, so only news become a transaction, and
//! writing back is idempotent however often it is done.

use std::collections::BTreeMap;

use ovsdb::data::Data;
use ovsdb::types::{Datum, Uuid};
use serde_json::{Map, Value, json};

/// A transaction in the making.
#[derive(Debug)]
pub struct WriteBack<'a> {
    db: &'a Data,
    rows: BTreeMap<(&'static str, Uuid), Map<String, Value>>,
}

impl<'a> WriteBack<'a> {
    /// Nothing to write to `db` yet.
    pub fn new(db: &'a Data) -> Self {
        WriteBack { db, rows: BTreeMap::new() }
    }

    /// The column of that row is to be `value`. Without effect if the row is gone or says so
    /// already.
    pub fn set(&mut self, table: &'static str, uuid: Uuid, column: &str, value: &Datum) {
        let row = self.db.table(table).and_then(|t| t.row(uuid));
        if row.and_then(|r| r.get(column)).is_some_and(|old| old != value) {
            self.rows.entry((table, uuid)).or_default().insert(column.to_owned(), value.to_json());
        }
    }

    /// A set with one string, or none.
    pub fn string(&mut self, table: &'static str, uuid: Uuid, column: &str, value: Option<&str>) {
        self.set(table, uuid, column, &Datum::set(value.map(str::to_owned)));
    }

    /// A string that is always there.
    pub fn string_scalar(&mut self, table: &'static str, uuid: Uuid, column: &str, value: &str) {
        self.set(table, uuid, column, &Datum::scalar(value.to_owned()));
    }

    /// A set with one integer, or none.
    pub fn integer(&mut self, table: &'static str, uuid: Uuid, column: &str, value: Option<i64>) {
        self.set(table, uuid, column, &Datum::set(value));
    }

    /// The operations of the transaction; empty if there is nothing to say.
    pub fn into_ops(self) -> Vec<Value> {
        let op = |((table, uuid), row): ((&str, Uuid), Map<String, Value>)| {
            json!({
                "op": "update",
                "table": table,
                "where": [["_uuid", "==", ["uuid", uuid.to_string()]]],
                "row": row,
            })
        };
        self.rows.into_iter().map(op).collect()
    }
}
