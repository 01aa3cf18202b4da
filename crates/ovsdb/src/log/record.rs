//! Records of the file: making and reading them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::sha1;
use crate::data::{Data, Row, RowChange};
use crate::engine::Commit;
use crate::schema::{DbSchema, FIRST_COL, TableSchema};
use crate::types::{NoSymbols, Uuid};

const MAGIC: &str = "OVSDB JSON ";
const CLUSTER_MAGIC: &[u8] = b"OVSDB CLUSTER ";
/// No header is longer: magic, 20 digits, space, 40 digits.
const MAX_HEADER: usize = MAGIC.len() + 20 + 1 + 40;

fn frame(json: &Value) -> Vec<u8> {
    let mut body = json.to_string();
    body.push('\n');
    let mut bytes = format!("{MAGIC}{} {}\n", body.len(), sha1::hex(body.as_bytes())).into_bytes();
    bytes.extend(body.into_bytes());
    bytes
}

/// The first record.
pub(super) fn schema(schema: &DbSchema) -> Vec<u8> {
    frame(&schema.to_json())
}

/// The columns of `row` that are stored and not default.
fn stored(table: &TableSchema, row: &Row) -> Value {
    let columns = table.columns.iter().enumerate().skip(FIRST_COL);
    columns
        .filter(|(i, column)| !column.ephemeral && *row.get(*i) != column.default)
        .map(|(i, column)| (column.name.clone(), row.get(i).to_json()))
        .collect()
}

/// The record of a commit; `None` if nothing of it is stored.
pub(super) fn transaction(schema: &DbSchema, commit: &Commit, date_ms: u64) -> Option<Vec<u8>> {
    let mut tables: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for change in &commit.changes {
        let table = &schema.tables[change.table];
        let json = match (&change.old, &change.new) {
            (_, None) => Value::Null,
            (None, Some(new)) => stored(table, new),
            (Some(old), Some(new)) => {
                let columns = table.columns.iter().enumerate().skip(FIRST_COL);
                let changed = columns.filter(|(i, c)| !c.ephemeral && !old.same(new, *i));
                let json: Map<String, Value> = changed
                    .map(|(i, column)| {
                        let value = if column.ty.max == 1 {
                            new.get(i).to_json()
                        } else {
                            old.get(i).diff(new.get(i)).to_json()
                        };
                        (column.name.clone(), value)
                    })
                    .collect();
                if json.is_empty() {
                    continue;
                }
                Value::Object(json)
            }
        };
        tables.entry(&table.name).or_default().insert(change.uuid.to_string(), json);
    }
    if tables.is_empty() {
        return None;
    }
    let mut record: Map<String, Value> =
        tables.into_iter().map(|(name, rows)| (name.to_owned(), Value::Object(rows))).collect();
    record.insert("_date".into(), json!(date_ms));
    record.insert("_is_diff".into(), json!(true));
    if let Some(comment) = &commit.comment {
        record.insert("_comment".into(), json!(comment));
    }
    Some(frame(&Value::Object(record)))
}

/// The whole file for `data`: schema and one transaction.
pub(super) fn snapshot(data: &Data, date_ms: u64) -> Vec<u8> {
    let mut bytes = schema(data.schema());
    let comment = Some("compacting database online".to_owned());
    let commit = Commit { changes: data.as_inserts(), comment, durable: true };
    bytes.extend(transaction(data.schema(), &commit, date_ms).unwrap_or_default());
    bytes
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) data: Data,
    /// Bytes from the start that are whole records.
    pub(super) good_len: usize,
    /// What is wrong with the bytes behind.
    pub(super) damage: Option<String>,
}

/// Whether `bytes` hold the beginning of another record behind their first one.
pub(super) fn contains_record(bytes: &[u8]) -> bool {
    let marker = format!("\n{MAGIC}");
    bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
}

/// Reads a file.
///
/// # Errors
/// If there is no whole schema at the start.
pub(super) fn read_all(bytes: &[u8]) -> Result<Read, String> {
    if bytes.starts_with(CLUSTER_MAGIC) {
        return Err("this is a clustered database; only standalone ones can be opened".into());
    }
    let (json, mut good_len) = read_one(bytes)
        .map_err(|e| format!("this is not a database: {e}"))?
        .ok_or("this is not a database: the file is empty")?;
    let schema = DbSchema::parse_json(&json).map_err(|e| e.to_string())?;
    let mut data = Data::new(Arc::new(schema));
    let damage = loop {
        match read_one(&bytes[good_len..]) {
            Ok(None) => break None,
            Ok(Some((json, len))) => match replay(&mut data, &json) {
                Ok(()) => good_len += len,
                Err(e) => break Some(e),
            },
            Err(e) => break Some(e),
        }
    };
    Ok(Read { data, good_len, damage })
}

/// Reads the record `bytes` begin with: its JSON and length. `None` at the end.
fn read_one(bytes: &[u8]) -> Result<Option<(Value, usize)>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let head = &bytes[..bytes.len().min(MAX_HEADER + 1)];
    let newline = head.iter().position(|&b| b == b'\n').ok_or("incomplete record header")?;
    let header = std::str::from_utf8(&head[..newline]).map_err(|_| "bad record header")?;
    let fields = header.strip_prefix(MAGIC).and_then(|rest| rest.split_once(' '));
    let (len, digest) = fields.ok_or("bad record header")?;
    let len: usize = len.parse().map_err(|_| "bad length in record header")?;
    let start = newline + 1;
    let body = start
        .checked_add(len)
        .and_then(|end| bytes.get(start..end))
        .ok_or("record ends in the middle")?;
    if sha1::hex(body) != digest {
        return Err("record has a bad checksum".into());
    }
    let json = serde_json::from_slice(body).map_err(|e| format!("record is not JSON: {e}"))?;
    Ok(Some((json, start + len)))
}

/// Applies a transaction record; a record with an error in it is not applied at all.
fn replay(data: &mut Data, record: &Value) -> Result<(), String> {
    let record = record.as_object().ok_or("record is not an object")?;
    let is_diff = record.get("_is_diff") == Some(&Value::Bool(true));
    let mut changes = Vec::new();
    for (name, rows) in record.iter().filter(|(name, _)| !name.starts_with('_')) {
        let schema = data.schema();
        let table = schema.table_index(name).ok_or_else(|| format!("no table named {name}"))?;
        let table_schema = &schema.tables[table];
        let rows = rows.as_object().ok_or_else(|| format!("{name}: rows are not an object"))?;
        for (uuid, json) in rows {
            let uuid: Uuid = uuid.parse().map_err(|e| format!("{name}: {e}"))?;
            let old = data.row(table, uuid).cloned();
            let new = match json {
                Value::Null => None,
                Value::Object(columns) => {
                    let exists = old.is_some();
                    let mut row =
                        old.clone().unwrap_or_else(|| Arc::new(Row::new(table_schema, uuid)));
                    let new = Arc::make_mut(&mut row);
                    for (column, value) in columns {
                        read_column(table_schema, new, column, value, is_diff && exists)?;
                    }
                    // The log has no versions; the identity is as good as any.
                    new.set_version(uuid);
                    Some(row)
                }
                _ => return Err(format!("{name}: row is neither object nor null")),
            };
            changes.push(RowChange { table, uuid, old, new });
        }
    }
    for change in changes {
        data.put(change.table, change.uuid, change.new);
    }
    Ok(())
}

fn read_column(
    table: &TableSchema,
    row: &mut Row,
    name: &str,
    value: &Value,
    is_diff: bool,
) -> Result<(), String> {
    let number = table
        .column_index(name)
        .ok_or_else(|| format!("no column {name} in table {}", table.name))?;
    if number < FIRST_COL {
        return Ok(());
    }
    let ty = &table.columns[number].ty;
    let datum = ty
        .unconstrained()
        .parse_json_datum(value, &mut NoSymbols)
        .map_err(|e| format!("{}: {e}", table.name))?;
    if is_diff && ty.max > 1 {
        row.get_mut(number).apply_diff(&datum);
    } else {
        row.set(number, Arc::new(datum));
    }
    Ok(())
}
