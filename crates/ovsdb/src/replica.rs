//! A copy of a database that follows a server by `monitor`, without sockets.
//!
//! The owner sends [`Replica::monitor_params`] with the best of [`METHODS`] the server knows, gives
//! the reply to [`Replica::load`] and every notification to [`Replica::update`], and reads
//! [`Replica::data`]. What changed comes back as row changes, the same that the engine reports, so
//! a program need not care whether its database is in the process or elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::data::{Data, Row, RowChange};
use crate::error::{Error, Result};
use crate::schema::{COL_VERSION, DbSchema, FIRST_COL, TableSchema};
use crate::types::{NoSymbols, Uuid};

/// The methods that start a monitor, the best first. A server that lacks one answers
/// `unknown method`.
pub const METHODS: [&str; 3] = ["monitor_cond_since", "monitor_cond", "monitor"];

/// A copy of (parts of) a database.
#[derive(Debug, Clone)]
pub struct Replica {
    data: Data,
    id: Value,
    /// By number of the table: which columns are wanted; empty for none of the table.
    columns: Vec<Vec<usize>>,
    last_id: Uuid,
}

impl Replica {
    /// An empty replica of all tables and columns of `schema`.
    pub fn new(schema: Arc<DbSchema>) -> Replica {
        let all = |t: &TableSchema| (FIRST_COL..t.columns.len()).collect();
        let columns = schema.tables.iter().map(all).collect();
        let id = json!(["monid", schema.name]);
        Replica { data: Data::new(schema), id, columns, last_id: Uuid::ZERO }
    }

    /// Wants these tables only, each with these columns; names the schema lacks are left out, so
    /// a program works with older schemas.
    pub fn with_columns(schema: Arc<DbSchema>, wanted: &[(&str, &[&str])]) -> Replica {
        let mut replica = Replica::new(schema);
        let schema = replica.data.schema().clone();
        for (table, columns) in schema.tables.iter().zip(&mut replica.columns) {
            columns.clear();
            for (_, names) in wanted.iter().filter(|(name, _)| *name == table.name) {
                columns.extend(names.iter().filter_map(|name| table.column_index(name)));
            }
        }
        replica
    }

    /// The rows there are. Columns that are not wanted read as their defaults.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The parameters of the request `method`, one of [`METHODS`].
    pub fn monitor_params(&self, method: &str) -> Vec<Value> {
        let schema = self.data.schema();
        let requests: Map<String, Value> = schema
            .tables
            .iter()
            .zip(&self.columns)
            .filter(|(_, columns)| !columns.is_empty())
            .map(|(table, columns)| {
                let names: Vec<&str> =
                    columns.iter().map(|&c| table.columns[c].name.as_str()).collect();
                (table.name.clone(), json!({ "columns": names }))
            })
            .collect();
        let mut params = vec![json!(schema.name), self.id.clone(), Value::Object(requests)];
        if method == METHODS[0] {
            params.push(json!(self.last_id.to_string()));
        }
        params
    }

    /// Takes the reply of `method`; returns how the contents changed by it. After a new connection
    /// this is the difference between what the replica knew and what there is.
    ///
    /// # Errors
    /// `syntax error` if the reply is none; the replica is as before.
    pub fn load(&mut self, method: &str, reply: &Value) -> Result<Vec<RowChange>> {
        let mut fresh = Data::new(self.data.schema().clone());
        let mut last_id = self.last_id;
        let updates = if method == METHODS[0] {
            let Some([found, id, updates]) = reply.as_array().map(Vec::as_slice) else {
                return Err(Error::syntax(Some(reply), "reply of monitor_cond_since expected"));
            };
            last_id = parse_uuid(id)?;
            if *found == json!(true) {
                fresh = self.data.clone();
            }
            updates
        } else {
            reply
        };
        apply(&mut fresh, updates)?;
        self.last_id = last_id;
        let mut changes = Vec::new();
        for table in 0..self.columns.len() {
            let (old, new) = (self.data.rows(table), fresh.rows(table));
            let uuids = old.keys().chain(new.keys().filter(|uuid| !old.contains_key(uuid)));
            for &uuid in uuids {
                let (old, new) = (old.get(&uuid).cloned(), new.get(&uuid).cloned());
                if old != new {
                    changes.push(RowChange { table, uuid, old, new });
                }
            }
        }
        self.data = fresh;
        Ok(changes)
    }

    /// Takes a notification; `None` if it is not one for this replica.
    ///
    /// # Errors
    /// `syntax error` if it does not fit the contents; then connect anew.
    pub fn update(&mut self, method: &str, params: &[Value]) -> Result<Option<Vec<RowChange>>> {
        let updates = match (method, params) {
            ("update" | "update2", [id, updates]) if *id == self.id => updates,
            ("update3", [id, last_id, updates]) if *id == self.id => {
                self.last_id = parse_uuid(last_id)?;
                updates
            }
            _ => return Ok(None),
        };
        apply(&mut self.data, updates).map(Some)
    }
}

fn parse_uuid(json: &Value) -> Result<Uuid> {
    let bad = || Error::syntax(Some(json), "transaction id expected");
    json.as_str().and_then(|s| s.parse().ok()).ok_or_else(bad)
}

/// Applies `<table-updates>` of any dialect, all of it or nothing.
fn apply(data: &mut Data, updates: &Value) -> Result<Vec<RowChange>> {
    let bad = |details: String| Error::syntax(Some(updates), details);
    let mut changes = BTreeMap::new();
    for (name, rows) in updates.as_object().ok_or_else(|| bad("object expected".into()))? {
        let schema = data.schema();
        let table =
            schema.table_index(name).ok_or_else(|| bad(format!("no table named {name}")))?;
        let rows = rows.as_object().ok_or_else(|| bad(format!("{name}: object expected")))?;
        for (uuid, update) in rows {
            let uuid: Uuid = uuid.parse()?;
            let old = data.row(table, uuid).cloned();
            let new = new_row(&schema.tables[table], uuid, old.as_ref(), update)?;
            if old != new {
                changes.insert((table, uuid), RowChange { table, uuid, old, new });
            }
        }
    }
    let changes: Vec<RowChange> = changes.into_values().collect();
    for change in &changes {
        data.put(change.table, change.uuid, change.new.clone());
    }
    Ok(changes)
}

/// What a `<row-update>` or `<row-update2>` makes of the row `old`.
fn new_row(
    table: &TableSchema,
    uuid: Uuid,
    old: Option<&Arc<Row>>,
    update: &Value,
) -> Result<Option<Arc<Row>>> {
    let member = |name: &str| update.get(name);
    let fresh = || Arc::new(Row::new(table, uuid));
    let (mut row, columns, is_diff) = if let Some(modify) = member("modify") {
        let old = old.ok_or_else(|| {
            Error::syntax(Some(update), format!("{}: no row {uuid} to modify", table.name))
        })?;
        (old.clone(), modify, true)
    } else if let Some(new) = member("initial").or(member("insert")) {
        (fresh(), new, false)
    } else if let Some(new) = member("new").filter(|new| !new.is_null()) {
        (old.cloned().unwrap_or_else(fresh), new, false)
    } else if member("delete").is_some() || member("old").is_some() {
        return Ok(None);
    } else {
        return Err(Error::syntax(Some(update), "<row-update> expected"));
    };
    let columns = columns
        .as_object()
        .ok_or_else(|| Error::syntax(Some(update), "<row> must be an object"))?;
    let new = Arc::make_mut(&mut row);
    for (name, value) in columns {
        // A newer server may report a column this schema lacks only if asked, so this is wrong.
        let column = table
            .column_index(name)
            .ok_or_else(|| Error::syntax(Some(update), format!("no column named {name}")))?;
        let ty = &table.columns[column].ty;
        let datum = ty.unconstrained().parse_json_datum(value, &mut NoSymbols)?;
        if is_diff && ty.max > 1 {
            new.get_mut(column).apply_diff(&datum);
        } else if column == COL_VERSION || column >= FIRST_COL {
            new.set(column, Arc::new(datum));
        }
    }
    Ok(Some(row))
}
