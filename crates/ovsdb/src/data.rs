//! Rows of a database and how to read them.
//!
//! [`Data`] is the contents alone: the engine keeps one under its rules, a client's replica keeps
//! one in step with a server. Rows are shared and never change in place, so whoever holds a row or
//! a [`RowChange`] sees a consistent value for as long as he likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::schema::{COL_UUID, COL_VERSION, DbSchema, FIRST_COL, TableSchema};
use crate::types::{Atom, Datum, NoSymbols, Uuid};

/// One row: a value for every column of the table, in its order, each shared between versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Vec<Arc<Datum>>,
}

impl Row {
    /// A row with the default in every column.
    pub fn new(table: &TableSchema, uuid: Uuid) -> Row {
        let mut columns: Vec<Arc<Datum>> =
            table.columns.iter().map(|c| c.default.clone()).collect();
        columns[COL_UUID] = Arc::new(Datum::scalar(uuid));
        Row { columns }
    }

    /// The identity of the row.
    pub fn uuid(&self) -> Uuid {
        self.columns[COL_UUID].as_scalar().and_then(Atom::as_uuid).unwrap_or_default()
    }

    /// The value of column number `column`.
    pub fn get(&self, column: usize) -> &Arc<Datum> {
        &self.columns[column]
    }

    pub(crate) fn set(&mut self, column: usize, datum: Arc<Datum>) {
        self.columns[column] = datum;
    }

    pub(crate) fn get_mut(&mut self, column: usize) -> &mut Datum {
        Arc::make_mut(&mut self.columns[column])
    }

    pub(crate) fn set_version(&mut self, version: Uuid) {
        self.columns[COL_VERSION] = Arc::new(Datum::scalar(version));
    }

    /// Whether column number `column` is the same in both rows.
    pub fn same(&self, other: &Row, column: usize) -> bool {
        let (a, b) = (&self.columns[column], &other.columns[column]);
        Arc::ptr_eq(a, b) || a == b
    }

    /// Whether all columns but `_version` are the same.
    pub(crate) fn same_content(&self, other: &Row) -> bool {
        (FIRST_COL..self.columns.len()).all(|column| self.same(other, column))
    }
}

/// One row that came (`old` is none), went (`new` is none) or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// Number of the table in the schema.
    pub table: usize,
    /// Identity of the row.
    pub uuid: Uuid,
    /// Before.
    pub old: Option<Arc<Row>>,
    /// After.
    pub new: Option<Arc<Row>>,
}

impl RowChange {
    /// Whether column number `column` differs; always so for a row that came or went.
    pub fn changed(&self, column: usize) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => !old.same(new, column),
            _ => true,
        }
    }
}

/// The contents of a database.
#[derive(Debug, Clone)]
pub struct Data {
    schema: Arc<DbSchema>,
    tables: Vec<BTreeMap<Uuid, Arc<Row>>>,
}

impl Data {
    /// No rows.
    pub fn new(schema: Arc<DbSchema>) -> Data {
        let tables = schema.tables.iter().map(|_| BTreeMap::new()).collect();
        Data { schema, tables }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DbSchema> {
        &self.schema
    }

    /// The table of that name, or `None` if the schema has none.
    pub fn table(&self, name: &str) -> Option<TableRef<'_>> {
        self.schema.table_index(name).map(|i| self.table_at(i))
    }

    /// The table of that number.
    pub fn table_at(&self, table: usize) -> TableRef<'_> {
        TableRef { schema: &self.schema.tables[table], rows: &self.tables[table] }
    }

    /// All tables, in the order of the schema.
    pub fn tables(&self) -> impl Iterator<Item = TableRef<'_>> {
        (0..self.tables.len()).map(|i| self.table_at(i))
    }

    /// Number of rows in all tables.
    pub fn n_rows(&self) -> usize {
        self.tables.iter().map(BTreeMap::len).sum()
    }

    /// Every row as a change that inserts it.
    pub fn as_inserts(&self) -> Vec<RowChange> {
        let rows = self.tables.iter().enumerate().flat_map(|(table, rows)| {
            rows.iter().map(move |(&uuid, row)| RowChange {
                table,
                uuid,
                old: None,
                new: Some(row.clone()),
            })
        });
        rows.collect()
    }

    /// The same rows under another schema, as `ovsdb-tool convert` makes them: tables and columns
    /// that it lacks are dropped, those that are new have their defaults.
    ///
    /// # Errors
    /// `constraint violation` or `syntax error` if a value is not one of the column's new type.
    pub fn convert(&self, schema: Arc<DbSchema>) -> Result<Data> {
        let mut data = Data::new(schema.clone());
        for (number, new_table) in schema.tables.iter().enumerate() {
            let Some(table) = self.table(&new_table.name) else { continue };
            for old in table.iter() {
                let mut row = Row::new(new_table, old.uuid());
                row.set_version(old.uuid());
                for (i, column) in new_table.columns.iter().enumerate().skip(FIRST_COL) {
                    let Some(value) = old.get(&column.name) else { continue };
                    let value = column.ty.parse_json_datum(&value.to_json(), &mut NoSymbols)?;
                    row.set(i, Arc::new(value));
                }
                data.put(number, old.uuid(), Some(Arc::new(row)));
            }
        }
        Ok(data)
    }

    pub(crate) fn row(&self, table: usize, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables[table].get(&uuid)
    }

    pub(crate) fn rows(&self, table: usize) -> &BTreeMap<Uuid, Arc<Row>> {
        &self.tables[table]
    }

    pub(crate) fn put(
        &mut self,
        table: usize,
        uuid: Uuid,
        row: Option<Arc<Row>>,
    ) -> Option<Arc<Row>> {
        match row {
            Some(row) => self.tables[table].insert(uuid, row),
            None => self.tables[table].remove(&uuid),
        }
    }
}

/// A table to read.
#[derive(Debug, Clone, Copy)]
pub struct TableRef<'a> {
    schema: &'a TableSchema,
    rows: &'a BTreeMap<Uuid, Arc<Row>>,
}

impl<'a> TableRef<'a> {
    /// Its schema.
    pub fn schema(self) -> &'a TableSchema {
        self.schema
    }

    /// Number of rows.
    pub fn len(self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(self) -> bool {
        self.rows.is_empty()
    }

    /// The row of that identity.
    pub fn row(self, uuid: Uuid) -> Option<RowRef<'a>> {
        self.rows.get(&uuid).map(|row| RowRef { schema: self.schema, row })
    }

    /// All rows, by identity.
    pub fn iter(self) -> impl Iterator<Item = RowRef<'a>> {
        self.rows.values().map(move |row| RowRef { schema: self.schema, row })
    }

    /// The first row, for tables that have one only (`Open_vSwitch`).
    pub fn first(self) -> Option<RowRef<'a>> {
        self.iter().next()
    }

    /// The first row whose column `column` is the single value `atom`. Looks at all rows.
    pub fn find(self, column: &str, atom: impl Into<Atom>) -> Option<RowRef<'a>> {
        let column = self.schema.column_index(column)?;
        let atom = atom.into();
        self.iter().find(|row| row.row.get(column).as_scalar() == Some(&atom))
    }
}

/// A row to read, by names of columns.
///
/// A name that the schema lacks reads as an absent value, so a program works with schemas that are
/// older than it.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    schema: &'a TableSchema,
    row: &'a Arc<Row>,
}

impl<'a> RowRef<'a> {
    /// A row of table `schema`, for reading one out of a [`RowChange`].
    pub fn new(schema: &'a TableSchema, row: &'a Arc<Row>) -> Self {
        RowRef { schema, row }
    }

    /// The schema of its table.
    pub fn schema(self) -> &'a TableSchema {
        self.schema
    }

    /// The row itself, to keep.
    pub fn row(self) -> &'a Arc<Row> {
        self.row
    }

    /// Its identity.
    pub fn uuid(self) -> Uuid {
        self.row.uuid()
    }

    /// The value of `column`.
    pub fn get(self, column: &str) -> Option<&'a Datum> {
        self.schema.column_index(column).map(|i| &**self.row.get(i))
    }

    /// The only element of `column`, if there is exactly one.
    pub fn atom(self, column: &str) -> Option<&'a Atom> {
        self.get(column)?.as_scalar()
    }

    /// The string in `column`; `None` for an empty optional.
    pub fn str(self, column: &str) -> Option<&'a str> {
        self.atom(column)?.as_str()
    }

    /// The integer in `column`; `None` for an empty optional.
    pub fn integer(self, column: &str) -> Option<i64> {
        self.atom(column)?.as_integer()
    }

    /// The boolean in `column`; `None` for an empty optional.
    pub fn bool(self, column: &str) -> Option<bool> {
        self.atom(column)?.as_bool()
    }

    /// The UUID in `column`; `None` for an empty optional.
    pub fn uuid_in(self, column: &str) -> Option<Uuid> {
        self.atom(column)?.as_uuid()
    }

    /// All UUIDs that are elements (in a map: keys or values) of `column`.
    pub fn uuids(self, column: &str) -> impl Iterator<Item = Uuid> + use<'a> {
        let datum = self.get(column);
        let keys = datum.into_iter().flat_map(Datum::keys).filter_map(Atom::as_uuid);
        let values = datum.into_iter().flat_map(Datum::pairs).filter_map(|(_, v)| v.as_uuid());
        keys.chain(values)
    }

    /// All strings that are elements of `column`.
    pub fn strs(self, column: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(column).into_iter().flat_map(Datum::keys).filter_map(Atom::as_str)
    }

    /// The value of `key` in the string map `column` (`other_config`, `options`, …).
    pub fn map_str(self, column: &str, key: &str) -> Option<&'a str> {
        self.get(column)?.get_str(key)
    }
}
