//! A copy of the database, and a transaction on it.
//!
//! [`Replica`] holds every row that the server reported and follows its updates. A [`Txn`] starts as a
//! cheap clone of it (rows are shared until written); commands read and write that clone, so a later
//! command of the same call sees what an earlier one did. [`Txn::operations`] then says the difference
//! as operations of RFC 7047: a `wait` for each row of which a decision depended, so that a change
//! by somebody else makes the whole transaction fail and be tried again; then inserts, updates, deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ovsdb::types::NoSymbols;
use ovsdb::{ColumnSchema, Datum, DbSchema, TableSchema, Uuid, UuidGen};
use serde_json::{Map, Value, json};

/// Values of a row in the order of the table's columns.
pub type Row = Vec<Datum>;

/// Names a row: number of its table, and its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Number of the table in the schema.
    pub table: usize,
    /// Identity.
    pub uuid: Uuid,
}

/// The rows of all tables.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The schema, as the server told it.
    pub schema: Arc<DbSchema>,
    tables: Vec<BTreeMap<Uuid, Arc<Row>>>,
}

impl Replica {
    /// An empty database.
    pub fn new(schema: Arc<DbSchema>) -> Self {
        let tables = vec![BTreeMap::new(); schema.tables.len()];
        Self { schema, tables }
    }

    /// The `<monitor-requests>` that make a server report everything.
    pub fn monitor_requests(schema: &DbSchema) -> Value {
        let requests: Map<String, Value> = schema
            .tables
            .iter()
            .map(|t| {
                let columns: Vec<&str> =
                    columns_of(t).map(|(_, column)| column.name.as_str()).collect();
                (t.name.clone(), json!([{"columns": columns}]))
            })
            .collect();
        Value::Object(requests)
    }

    /// Applies `<table-updates>` (RFC 7047 section 4.1.6).
    ///
    /// # Errors
    /// Text that says what is wrong with them.
    pub fn apply(&mut self, updates: &Value) -> Result<(), String> {
        for (table_name, rows) in updates.as_object().into_iter().flatten() {
            let table = self
                .schema
                .table_index(table_name)
                .ok_or_else(|| format!("update of unknown table {table_name}"))?;
            let schema = &self.schema.tables[table];
            for (uuid, update) in rows.as_object().into_iter().flatten() {
                let uuid: Uuid = uuid.parse().map_err(|e| format!("update of a row: {e}"))?;
                let Some(new) = update.get("new").and_then(Value::as_object) else {
                    self.tables[table].remove(&uuid);
                    continue;
                };
                let row = self.tables[table]
                    .entry(uuid)
                    .or_insert_with(|| Arc::new(default_row(schema, uuid)));
                let row = Arc::make_mut(row);
                for (name, value) in new {
                    if let Some(i) = schema.column_index(name) {
                        row[i] = schema.columns[i]
                            .ty
                            .unconstrained()
                            .parse_json_datum(value, &mut NoSymbols)
                            .map_err(|e| format!("{table_name} column {name}: {e}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A row, if it exists.
    pub fn row(&self, id: RowId) -> Option<&Row> {
        self.tables[id.table].get(&id.uuid).map(Arc::as_ref)
    }

    /// All rows of a table, in the order of their identities.
    pub fn rows(&self, table: usize) -> impl Iterator<Item = (RowId, &Row)> {
        self.tables[table].iter().map(move |(&uuid, row)| (RowId { table, uuid }, row.as_ref()))
    }
}

/// Columns that a client may ask for (all but `_uuid` and `_version`), with their numbers.
fn columns_of(table: &TableSchema) -> impl Iterator<Item = (usize, &ColumnSchema)> {
    table.columns.iter().enumerate().skip(ovsdb::schema::FIRST_COL)
}

/// A row as it is when nobody has set anything.
fn default_row(table: &TableSchema, uuid: Uuid) -> Row {
    let mut row: Row = table.columns.iter().map(|c| Datum::clone(&c.default)).collect();
    row[ovsdb::schema::COL_UUID] = Datum::scalar(uuid);
    row
}

/// Changes to a replica that are not committed yet.
#[derive(Debug)]
pub struct Txn<'r> {
    base: &'r Replica,
    work: Replica,
    inserted: BTreeSet<RowId>,
    deleted: BTreeSet<RowId>,
    written: BTreeMap<RowId, BTreeSet<usize>>,
    verified: BTreeMap<RowId, BTreeSet<usize>>,
}

impl<'r> Txn<'r> {
    /// A transaction without changes.
    pub fn new(base: &'r Replica) -> Self {
        Self {
            base,
            work: base.clone(),
            inserted: BTreeSet::new(),
            deleted: BTreeSet::new(),
            written: BTreeMap::new(),
            verified: BTreeMap::new(),
        }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DbSchema> {
        &self.base.schema
    }

    /// The row as changed so far.
    pub fn row(&self, id: RowId) -> Option<&Row> {
        self.work.row(id)
    }

    /// All rows of a table as changed so far.
    pub fn rows(&self, table: usize) -> impl Iterator<Item = (RowId, &Row)> {
        self.work.rows(table)
    }

    /// Inserts a row with default values. The identity is a stand-in until the server gave one.
    pub fn insert(&mut self, table: usize, uuid: Uuid) -> RowId {
        let id = RowId { table, uuid };
        let row = default_row(&self.base.schema.tables[table], uuid);
        self.work.tables[table].insert(uuid, Arc::new(row));
        self.inserted.insert(id);
        id
    }

    /// Deletes a row.
    pub fn delete(&mut self, id: RowId) {
        self.work.tables[id.table].remove(&id.uuid);
        self.written.remove(&id);
        if !self.inserted.remove(&id) {
            self.deleted.insert(id);
        }
    }

    /// Sets a column of a row that exists.
    pub fn write(&mut self, id: RowId, column: usize, value: Datum) {
        if let Some(row) = self.work.tables[id.table].get_mut(&id.uuid) {
            Arc::make_mut(row)[column] = value;
            self.written.entry(id).or_default().insert(column);
        }
    }

    /// The transaction only makes sense while the server's value of this column is the one we have.
    pub fn verify(&mut self, id: RowId, column: usize) {
        if column >= ovsdb::schema::FIRST_COL && self.base.row(id).is_some() {
            self.verified.entry(id).or_default().insert(column);
        }
    }

    /// The name an inserted row has within the operations, `None` for other rows.
    pub fn name_of(&self, id: RowId) -> Option<String> {
        self.inserted.contains(&id).then(|| id.uuid.to_row_name())
    }

    /// `[["_uuid", "==", …]]` for a row.
    pub fn where_uuid(&self, id: RowId) -> Value {
        let uuid = match self.name_of(id) {
            Some(name) => json!(["named-uuid", name]),
            None => json!(["uuid", id.uuid.to_string()]),
        };
        json!([["_uuid", "==", uuid]])
    }

    /// The operations, and for each inserted row the number of its `insert`. Empty if nothing changes.
    pub fn operations(&self) -> (Vec<Value>, Vec<(RowId, usize)>) {
        let inserted: BTreeSet<Uuid> = self.inserted.iter().map(|id| id.uuid).collect();
        let name = |u: Uuid| inserted.contains(&u).then(|| u.to_row_name());
        let table_of = |id: RowId| &self.base.schema.tables[id.table];
        let values = |id: RowId, row: &Row, columns: &mut dyn Iterator<Item = usize>| -> Value {
            let schema = table_of(id);
            let map: Map<String, Value> = columns
                .map(|i| (schema.columns[i].name.clone(), row[i].to_json_named(&name)))
                .collect();
            Value::Object(map)
        };
        let mut changes = Vec::new();
        for &id in &self.deleted {
            if table_of(id).is_root {
                let where_ = self.where_uuid(id);
                changes.push((
                    None,
                    json!({"op": "delete", "table": table_of(id).name, "where": where_}),
                ));
            }
        }
        for &id in &self.inserted {
            let Some(row) = self.work.row(id) else { continue };
            let mut set = columns_of(table_of(id))
                .filter(|(i, column)| row[*i] != *column.default)
                .map(|(i, _)| i);
            let op = json!({
                "op": "insert",
                "table": table_of(id).name,
                "uuid-name": id.uuid.to_row_name(),
                "row": values(id, row, &mut set),
            });
            changes.push((Some(id), op));
        }
        for (&id, columns) in &self.written {
            let (Some(old), Some(new)) = (self.base.row(id), self.work.row(id)) else { continue };
            let mut changed = columns.iter().copied().filter(|&i| old[i] != new[i]).peekable();
            if changed.peek().is_some() {
                let op = json!({
                    "op": "update",
                    "table": table_of(id).name,
                    "where": self.where_uuid(id),
                    "row": values(id, new, &mut changed),
                });
                changes.push((None, op));
            }
        }
        if changes.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let mut operations = Vec::new();
        for (&id, columns) in &self.verified {
            let Some(row) = self.base.row(id) else { continue };
            let names: Vec<&str> =
                columns.iter().map(|&i| table_of(id).columns[i].name.as_str()).collect();
            operations.push(json!({
                "op": "wait",
                "table": table_of(id).name,
                "where": [["_uuid", "==", ["uuid", id.uuid.to_string()]]],
                "columns": names,
                "until": "==",
                "rows": [values(id, row, &mut columns.iter().copied())],
                "timeout": 0,
            }));
        }
        let mut inserts = Vec::new();
        for (id, op) in changes {
            if let Some(id) = id {
                inserts.push((id, operations.len()));
            }
            operations.push(op);
        }
        (operations, inserts)
    }
}

/// Gives new rows their stand-in identities.
pub fn generator() -> std::io::Result<UuidGen> {
    UuidGen::from_system()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> Replica {
        let mut r = Replica::new(Arc::new(DbSchema::open_vswitch()));
        r.apply(&json!({
            "Open_vSwitch": {"11111111-1111-4111-8111-111111111111": {"new": {
                "bridges": ["uuid", "22222222-2222-4222-8222-222222222222"], "next_cfg": 3}}},
            "Bridge": {"22222222-2222-4222-8222-222222222222": {"new": {
                "name": "br0", "ports": ["set", []], "other_config": ["map", [["a", "1"]]]}}},
        }))
        .unwrap();
        r
    }

    fn only(r: &Replica, table: &str) -> RowId {
        let table = r.schema.table_index(table).unwrap();
        r.rows(table).next().unwrap().0
    }

    #[test]
    fn updates_come_and_go() {
        let mut r = replica();
        let id = only(&r, "Bridge");
        let name = r.schema.table("Bridge").unwrap().column_index("name").unwrap();
        assert_eq!(r.row(id).unwrap()[name], Datum::scalar("br0"));
        assert_eq!(r.row(id).unwrap()[0], Datum::scalar(id.uuid));
        r.apply(&json!({"Bridge": {"22222222-2222-4222-8222-222222222222": {"old": {}}}})).unwrap();
        assert!(r.row(id).is_none());
        assert!(r.apply(&json!({"Frob": {}})).is_err());
        assert!(r.apply(&json!({"Bridge": {"x": {"new": {}}}})).is_err());
    }

    #[test]
    fn operations_say_the_difference() {
        let r = replica();
        let (ovs, bridge) = (only(&r, "Open_vSwitch"), only(&r, "Bridge"));
        let col = |t: &str, c: &str| r.schema.table(t).unwrap().column_index(c).unwrap();
        let mut txn = Txn::new(&r);
        let bridges = col("Open_vSwitch", "bridges");
        txn.verify(ovs, bridges);
        // A write of what is there already, and the wait alone, are no transaction.
        txn.write(bridge, col("Bridge", "name"), Datum::scalar("br0"));
        assert!(txn.operations().0.is_empty());
        let new = txn.insert(bridge.table, Uuid(7));
        txn.write(new, col("Bridge", "name"), Datum::scalar("br1"));
        txn.write(ovs, bridges, Datum::set([bridge.uuid, new.uuid]));
        let (ops, inserts) = txn.operations();
        assert_eq!(inserts, [(new, 1)]);
        let name = "row00000000_0000_0000_0000_000000000007";
        assert_eq!(
            Value::from(ops),
            json!([
                {"op": "wait", "table": "Open_vSwitch", "until": "==", "timeout": 0,
                 "where": [["_uuid", "==", ["uuid", "11111111-1111-4111-8111-111111111111"]]],
                 "columns": ["bridges"],
                 "rows": [{"bridges": ["uuid", "22222222-2222-4222-8222-222222222222"]}]},
                {"op": "insert", "table": "Bridge", "uuid-name": name, "row": {"name": "br1"}},
                {"op": "update", "table": "Open_vSwitch",
                 "where": [["_uuid", "==", ["uuid", "11111111-1111-4111-8111-111111111111"]]],
                 "row": {"bridges": ["set", [["named-uuid", name],
                                             ["uuid", "22222222-2222-4222-8222-222222222222"]]]}},
            ])
        );
        txn.delete(new);
        txn.write(ovs, bridges, Datum::set([bridge.uuid]));
        assert!(txn.operations().0.is_empty());
    }
}
