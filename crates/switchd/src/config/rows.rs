//! Typed access to rows of a database.

use std::collections::BTreeMap;

use ovsdb::types::{Atom, Datum, Uuid};

/// A database that can be read.
pub trait Rows {
    /// The rows of a table, in no order.
    fn uuids(&self, table: &str) -> Vec<Uuid>;

    /// A column of a row; `None` if there is no such row or column.
    fn datum(&self, table: &str, row: Uuid, column: &str) -> Option<&Datum>;
}

/// One row. A column that is absent or empty reads as the type's default.
pub struct Row<'a> {
    db: &'a dyn Rows,
    table: &'static str,
    /// Which.
    pub uuid: Uuid,
}

impl std::fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.table, self.uuid)
    }
}

impl<'a> Row<'a> {
    /// A row of `table`.
    pub fn new(db: &'a dyn Rows, table: &'static str, uuid: Uuid) -> Self {
        Row { db, table, uuid }
    }

    fn datum(&self, column: &str) -> Option<&'a Datum> {
        self.db.datum(self.table, self.uuid, column)
    }

    fn atoms(&self, column: &str) -> impl Iterator<Item = &'a Atom> {
        self.datum(column).into_iter().flat_map(Datum::keys)
    }

    /// A string; empty if there is none.
    pub fn string(&self, column: &str) -> String {
        self.atoms(column).next().and_then(Atom::as_str).unwrap_or_default().to_owned()
    }

    /// An integer, if there is one.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.atoms(column).next().and_then(Atom::as_integer)
    }

    /// A boolean; false if there is none.
    pub fn boolean(&self, column: &str) -> bool {
        self.atoms(column).next().and_then(Atom::as_bool).unwrap_or_default()
    }

    /// A set of integers.
    pub fn integers(&self, column: &str) -> Vec<i64> {
        self.atoms(column).filter_map(Atom::as_integer).collect()
    }

    /// A set of strings.
    pub fn set(&self, column: &str) -> Vec<String> {
        self.atoms(column).filter_map(Atom::as_str).map(str::to_owned).collect()
    }

    /// A set of references.
    pub fn refs(&self, column: &str) -> Vec<Uuid> {
        self.atoms(column).filter_map(Atom::as_uuid).collect()
    }

    /// A map of strings to strings.
    pub fn strings(&self, column: &str) -> BTreeMap<String, String> {
        let pairs = self.datum(column).map(Datum::pairs).unwrap_or_default().iter();
        pairs.filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()))).collect()
    }
}
