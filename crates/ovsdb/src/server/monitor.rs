//! Monitors: what a client wants to hear of (RFC 7047 §4.1.5, ovsdb-server(7) `monitor_cond`).
//!
//! A [`Monitor`] turns row changes into the updates of its dialect. It keeps no copy of the rows:
//! whether a row was visible to the client before follows from the old version of the row, so an
//! update costs what changed.

use serde_json::{Map, Value, json};

use crate::data::{Data, Row, RowChange};
use crate::engine::{Condition, parse_columns};
use crate::error::{Error, Result};
use crate::schema::{COL_UUID, DbSchema, TableSchema};
use crate::types::{NoSymbols, Uuid};

/// Which request made the monitor, hence how updates look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `monitor`, `update`: old and new values.
    V1,
    /// `monitor_cond`, `update2`: differences, conditions.
    V2,
    /// `monitor_cond_since`, `update3`: the same with the id of the transaction.
    V3,
}

/// For which events a column is reported.
#[derive(Debug, Clone, Copy, Default)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

#[derive(Debug, Clone)]
struct MonitorTable {
    columns: Vec<(usize, Select)>,
    /// The events any of the requests for the table asks for. A client that asks for no columns
    /// still hears which rows there are; the IDL of `ovs-vsctl` counts on it.
    select: Select,
    condition: Condition,
}

impl MonitorTable {
    fn wants(&self, event: fn(&Select) -> bool) -> bool {
        event(&self.select)
    }

    fn columns(&self, event: fn(&Select) -> bool) -> impl Iterator<Item = usize> {
        self.columns.iter().filter(move |(_, select)| event(select)).map(|(column, _)| *column)
    }
}

/// One monitor of one session.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub(super) db: String,
    pub(super) id: Value,
    pub(super) dialect: Dialect,
    /// By number of the table.
    tables: Vec<Option<MonitorTable>>,
}

impl Monitor {
    /// Reads `<monitor-requests>`.
    pub(super) fn parse_json(
        schema: &DbSchema,
        id: &Value,
        requests: &Value,
        dialect: Dialect,
    ) -> Result<Monitor> {
        let map = requests
            .as_object()
            .ok_or_else(|| Error::syntax(Some(requests), "<monitor-requests> is not an object"))?;
        let mut tables = vec![None; schema.tables.len()];
        for (name, request) in map {
            let number = find_table(schema, name)?;
            let one = std::slice::from_ref(request);
            let requests = request.as_array().map_or(one, Vec::as_slice);
            let table = &schema.tables[number];
            let mut monitored = MonitorTable {
                columns: Vec::new(),
                select: Select::default(),
                condition: Condition::default(),
            };
            for request in requests {
                parse_request(table, request, dialect, &mut monitored)?;
            }
            tables[number] = Some(monitored);
        }
        Ok(Monitor { db: schema.name.clone(), id: id.clone(), dialect, tables })
    }

    /// The rows there are, for the reply.
    pub(super) fn initial(&self, data: &Data) -> Value {
        let mut out = Map::new();
        for (number, monitored) in self.tables.iter().enumerate() {
            let Some(monitored) = monitored.as_ref().filter(|m| m.wants(|s| s.initial)) else {
                continue;
            };
            let schema = &data.schema().tables[number];
            let mut rows = Map::new();
            for (uuid, row) in data.rows(number) {
                if self.sees(monitored, row) {
                    let columns = monitored.columns(|s| s.initial);
                    let (member, row) = match self.dialect {
                        Dialect::V1 => ("new", row_json(schema, row, columns, false)),
                        _ => ("initial", row_json(schema, row, columns, true)),
                    };
                    rows.insert(uuid.to_string(), json!({ member: row }));
                }
            }
            if !rows.is_empty() {
                out.insert(schema.name.clone(), Value::Object(rows));
            }
        }
        Value::Object(out)
    }

    fn sees(&self, monitored: &MonitorTable, row: &Row) -> bool {
        self.dialect == Dialect::V1 || monitored.condition.matches_any(row)
    }

    /// The `<table-updates>` of a commit; `None` if it is of no interest.
    pub(super) fn update(&self, schema: &DbSchema, changes: &[RowChange]) -> Option<Value> {
        let mut out = Map::new();
        for change in changes {
            let Some(monitored) = &self.tables[change.table] else { continue };
            let table = &schema.tables[change.table];
            let seen = |row: &Option<std::sync::Arc<Row>>| {
                row.clone().filter(|row| self.sees(monitored, row))
            };
            let update = match (seen(&change.old), seen(&change.new)) {
                (None, None) => None,
                (None, Some(new)) => self.inserted(table, monitored, &new),
                (Some(old), None) => self.deleted(table, monitored, &old),
                (Some(old), Some(new)) => self.modified(table, monitored, &old, &new),
            };
            put(&mut out, table, change.uuid, update);
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }

    fn inserted(&self, table: &TableSchema, monitored: &MonitorTable, new: &Row) -> Option<Value> {
        monitored.wants(|s| s.insert).then(|| {
            let columns = monitored.columns(|s| s.insert);
            match self.dialect {
                Dialect::V1 => json!({"new": row_json(table, new, columns, false)}),
                _ => json!({"insert": row_json(table, new, columns, true)}),
            }
        })
    }

    fn deleted(&self, table: &TableSchema, monitored: &MonitorTable, old: &Row) -> Option<Value> {
        monitored.wants(|s| s.delete).then(|| match self.dialect {
            Dialect::V1 => {
                json!({"old": row_json(table, old, monitored.columns(|s| s.delete), false)})
            }
            _ => json!({"delete": null}),
        })
    }

    fn modified(
        &self,
        table: &TableSchema,
        monitored: &MonitorTable,
        old: &Row,
        new: &Row,
    ) -> Option<Value> {
        let changed: Vec<usize> =
            monitored.columns(|s| s.modify).filter(|&c| !old.same(new, c)).collect();
        if changed.is_empty() {
            return None;
        }
        if self.dialect == Dialect::V1 {
            let new = row_json(table, new, monitored.columns(|s| s.modify), false);
            return Some(
                json!({"old": row_json(table, old, changed.into_iter(), false), "new": new}),
            );
        }
        let difference = changed.into_iter().map(|c| {
            let column = &table.columns[c];
            // What holds at most one element is sent whole (ovsdb-server(7), `update2`).
            let value = if column.ty.max == 1 {
                new.get(c).to_json()
            } else {
                old.get(c).diff(new.get(c)).to_json()
            };
            (column.name.clone(), value)
        });
        Some(json!({"modify": difference.collect::<Map<_, _>>()}))
    }

    /// `monitor_cond_change`: takes over new conditions and returns what comes and goes by them.
    pub(super) fn change_conditions(
        &mut self,
        data: &Data,
        requests: &Value,
    ) -> Result<Option<Value>> {
        let schema = data.schema();
        let map = requests.as_object().ok_or_else(|| {
            Error::syntax(Some(requests), "<monitor-cond-update-requests> is not an object")
        })?;
        let mut conditions = Vec::new();
        for (name, request) in map {
            let number = find_table(schema, name)?;
            if self.tables[number].is_none() {
                return Err(Error::syntax(None, format!("table {name} is not monitored")));
            }
            let one = std::slice::from_ref(request);
            for request in request.as_array().map_or(one, Vec::as_slice) {
                let table = &schema.tables[number];
                let condition = match request.get("where") {
                    Some(json) => Condition::parse_json(json, table, &mut NoSymbols)?,
                    None => Condition::default(),
                };
                conditions.push((number, condition));
            }
        }
        let mut out = Map::new();
        for (number, condition) in conditions {
            let Some(monitored) = &mut self.tables[number] else { continue };
            let before = std::mem::replace(&mut monitored.condition, condition);
            let Some(monitored) = &self.tables[number] else { continue };
            let table = &schema.tables[number];
            for (&uuid, row) in data.rows(number) {
                let update = match (before.matches_any(row), monitored.condition.matches_any(row)) {
                    (false, true) => self.inserted(table, monitored, row),
                    (true, false) => self.deleted(table, monitored, row),
                    _ => None,
                };
                put(&mut out, table, uuid, update);
            }
        }
        Ok((!out.is_empty()).then_some(Value::Object(out)))
    }
}

fn put(out: &mut Map<String, Value>, table: &TableSchema, uuid: Uuid, update: Option<Value>) {
    let Some(update) = update else { return };
    let rows = out.entry(table.name.clone()).or_insert_with(|| Value::Object(Map::new()));
    if let Some(rows) = rows.as_object_mut() {
        rows.insert(uuid.to_string(), update);
    }
}

fn find_table(schema: &DbSchema, name: &str) -> Result<usize> {
    schema.table_index(name).ok_or_else(|| Error::syntax(None, format!("no table named {name}")))
}

fn row_json(
    table: &TableSchema,
    row: &Row,
    columns: impl Iterator<Item = usize>,
    omit_defaults: bool,
) -> Value {
    let columns = columns.filter(|&c| !omit_defaults || *row.get(c) != table.columns[c].default);
    columns.map(|c| (table.columns[c].name.clone(), row.get(c).to_json())).collect()
}

/// Reads one `<monitor-request>` into `monitored`.
fn parse_request(
    table: &TableSchema,
    request: &Value,
    dialect: Dialect,
    monitored: &mut MonitorTable,
) -> Result<()> {
    let bad = |details: String| {
        Error::syntax(Some(request), format!("Parsing table {} failed: {details}", table.name))
    };
    let map = request.as_object().ok_or_else(|| bad("Object expected.".into()))?;
    let allowed = |name: &str| {
        matches!(name, "columns" | "select") || (name == "where" && dialect != Dialect::V1)
    };
    if let Some(name) = map.keys().find(|name| !allowed(name)) {
        return Err(bad(format!("Member '{name}' is present but not allowed here.")));
    }
    let flag = |name: &str| match map.get("select").and_then(|s| s.get(name)) {
        None => Ok(true),
        Some(Value::Bool(b)) => Ok(*b),
        Some(_) => Err(bad(format!("Type mismatch for member '{name}'."))),
    };
    let select = Select {
        initial: flag("initial")?,
        insert: flag("insert")?,
        delete: flag("delete")?,
        modify: flag("modify")?,
    };
    let all = &mut monitored.select;
    all.initial |= select.initial;
    all.insert |= select.insert;
    all.delete |= select.delete;
    all.modify |= select.modify;
    let columns = match map.get("columns") {
        Some(json) => parse_columns(json, table)?,
        None => (0..table.columns.len()).filter(|&c| c != COL_UUID).collect(),
    };
    for column in columns {
        if monitored.columns.iter().any(|(c, _)| *c == column) {
            let name = &table.columns[column].name;
            return Err(Error::syntax(
                None,
                format!("{}: column {name} mentioned more than once", table.name),
            ));
        }
        monitored.columns.push((column, select));
    }
    if let Some(json) = map.get("where") {
        monitored.condition = Condition::parse_json(json, table, &mut NoSymbols)?;
    }
    Ok(())
}
