//! The operations of a transaction: RFC 7047 §5.2.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::condition::{Condition, find_column};
use super::mutation::Mutation;
use super::{Commit, Context, Database, Outcome, RowId};
use crate::data::Row;
use crate::error::{Error, Result};
use crate::schema::{COL_UUID, COL_VERSION, TableSchema};
use crate::types::{Datum, Symbols, Uuid, UuidGen, is_id};

/// A row the transaction touched.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) old: Option<Arc<Row>>,
    pub(super) new: Option<Arc<Row>>,
}

/// A transaction while it runs: the database and the rows that differ from it.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    pub(super) db: &'a Database,
    pub(super) tables: Vec<BTreeMap<Uuid, Entry>>,
    pub(super) comments: Vec<String>,
    durable: bool,
    names: HashMap<String, Name>,
}

/// What a `uuid-name` stands for.
#[derive(Debug)]
struct Name {
    uuid: Uuid,
    inserted: bool,
}

/// Names of this transaction, which get their UUID when they are used first.
struct Names<'a> {
    names: &'a mut HashMap<String, Name>,
    uuids: &'a mut UuidGen,
}

impl Symbols for Names<'_> {
    fn resolve(&mut self, name: &str) -> Option<Uuid> {
        let uuids = &mut self.uuids;
        let entry = self.names.entry(name.to_owned());
        Some(entry.or_insert_with(|| Name { uuid: uuids.generate(), inserted: false }).uuid)
    }
}

/// Result of one operation.
enum Step {
    Next(Value),
    Wait(Option<u64>),
}

/// The members of an operation, and which of them were asked for.
struct Members<'a> {
    map: &'a Map<String, Value>,
    used: Vec<&'static str>,
}

impl<'a> Members<'a> {
    fn optional(&mut self, name: &'static str) -> Option<&'a Value> {
        self.used.push(name);
        self.map.get(name)
    }

    fn required(&mut self, name: &'static str) -> Result<&'a Value> {
        self.optional(name)
            .ok_or_else(|| parse_error(format!("Required '{name}' member is missing.")))
    }

    fn string(&mut self, name: &'static str) -> Result<&'a str> {
        self.required(name)?.as_str().ok_or_else(|| mismatch(name))
    }

    fn array(&mut self, name: &'static str) -> Result<&'a Value> {
        let value = self.required(name)?;
        if value.is_array() { Ok(value) } else { Err(mismatch(name)) }
    }

    fn object(&mut self, name: &'static str) -> Result<&'a Value> {
        let value = self.required(name)?;
        if value.is_object() { Ok(value) } else { Err(mismatch(name)) }
    }

    fn finish(&self) -> Result<()> {
        match self.map.keys().find(|name| !self.used.contains(&name.as_str())) {
            Some(name) => {
                Err(parse_error(format!("Member '{name}' is present but not allowed here.")))
            }
            None => Ok(()),
        }
    }
}

/// An error in the form of an operation; [`Transaction::run`] says which operation.
fn parse_error(details: String) -> Error {
    Error::new(PARSE, details)
}

/// Marks errors of [`parse_error`] until they are given out.
const PARSE: &str = "parse";

fn mismatch(name: &str) -> Error {
    parse_error(format!("Type mismatch for member '{name}'."))
}

impl<'a> Transaction<'a> {
    pub(super) fn new(db: &'a Database) -> Self {
        let tables = db.schema().tables.iter().map(|_| BTreeMap::new()).collect();
        Transaction { db, tables, comments: Vec::new(), durable: false, names: HashMap::new() }
    }

    pub(super) fn run(mut self, ops: &[Value], ctx: &mut Context<'_>) -> Outcome {
        let mut results = Vec::with_capacity(ops.len() + 1);
        for (i, op) in ops.iter().enumerate() {
            match self.operation(op, ctx) {
                Ok(Step::Next(result)) => results.push(result),
                Ok(Step::Wait(timeout)) => return Outcome::Wait(timeout),
                Err(mut error) => {
                    if error.tag == PARSE {
                        let details = error.details.unwrap_or_default();
                        let n = ops.len();
                        error = Error::syntax(
                            op.is_object().then_some(op),
                            format!("Parsing ovsdb operation {} of {n} failed: {details}", i + 1),
                        );
                    }
                    results.push(error.to_json());
                    results.resize(ops.len(), Value::Null);
                    return Outcome::Done { results, commit: None };
                }
            }
        }
        let (comments, durable) = (std::mem::take(&mut self.comments), self.durable);
        match self.finish(ctx.uuids) {
            Ok(changes) => {
                let comment = (!comments.is_empty()).then(|| comments.join("\n"));
                let commit = Some(Commit { changes, comment, durable });
                Outcome::Done { results, commit }
            }
            Err(error) => {
                results.push(error.to_json());
                Outcome::Done { results, commit: None }
            }
        }
    }

    fn operation(&mut self, op: &Value, ctx: &mut Context<'_>) -> Result<Step> {
        let Value::Object(map) = op else { return Err(parse_error("Object expected.".into())) };
        let mut members = Members { map, used: Vec::new() };
        let name = members.string("op")?;
        let writes = matches!(name, "insert" | "update" | "mutate" | "delete");
        if writes && ctx.reserved {
            let db = &self.db.schema().name;
            return Err(Error::new(
                "not allowed",
                format!("{name} operation not allowed on table in reserved database {db}"),
            ));
        }
        match name {
            "insert" => self.insert(&mut members, ctx).map(Step::Next),
            "select" => self.select(&mut members, ctx).map(Step::Next),
            "update" => self.update(op, &mut members, ctx).map(Step::Next),
            "mutate" => self.mutate(&mut members, ctx).map(Step::Next),
            "delete" => self.delete(&mut members, ctx).map(Step::Next),
            "wait" => self.wait(&mut members, ctx),
            "commit" => {
                let durable = members.required("durable")?;
                self.durable |= durable.as_bool().ok_or_else(|| mismatch("durable"))?;
                members.finish()?;
                Ok(Step::Next(json!({})))
            }
            "abort" => {
                members.finish()?;
                Err(Error::new("aborted", "aborted by request"))
            }
            "comment" => {
                let comment = members.string("comment")?;
                members.finish()?;
                self.comments.push(comment.to_owned());
                Ok(Step::Next(json!({})))
            }
            "assert" => {
                let lock = members.string("lock")?;
                members.finish()?;
                if (ctx.owns_lock)(lock) {
                    Ok(Step::Next(json!({})))
                } else {
                    Err(Error::new("not owner", format!("Asserted lock {lock} not held.")))
                }
            }
            other => Err(parse_error(format!("No operation \"{other}\""))),
        }
    }

    fn table(&self, members: &mut Members<'_>) -> Result<(usize, &'a TableSchema)> {
        let name = members.string("table")?;
        let schema = self.db.schema();
        let table = schema
            .table_index(name)
            .ok_or_else(|| parse_error(format!("No table named {name}.")))?;
        Ok((table, &schema.tables[table]))
    }

    fn condition(
        &mut self,
        members: &mut Members<'_>,
        table: &TableSchema,
        ctx: &mut Context<'_>,
    ) -> Result<Condition> {
        let json = members.array("where")?;
        members.finish()?;
        Condition::parse_json(json, table, &mut self.names(ctx))
    }

    fn names<'b>(&'b mut self, ctx: &'b mut Context<'_>) -> Names<'b> {
        Names { names: &mut self.names, uuids: ctx.uuids }
    }

    /// Reads `<row>`: numbers of columns and their values.
    fn row(
        &mut self,
        json: &Value,
        table: &TableSchema,
        ctx: &mut Context<'_>,
    ) -> Result<Vec<(usize, Arc<Datum>)>> {
        let map =
            json.as_object().ok_or_else(|| Error::syntax(Some(json), "row must be JSON object"))?;
        let mut names = self.names(ctx);
        map.iter()
            .map(|(name, value)| {
                let column = find_column(table, name, json)?;
                let ty = &table.columns[column].ty;
                Ok((column, Arc::new(ty.parse_json_datum(value, &mut names)?)))
            })
            .collect()
    }

    /// The row as this transaction sees it.
    pub(super) fn get(&self, (table, uuid): RowId) -> Option<&Arc<Row>> {
        match self.tables[table].get(&uuid) {
            Some(entry) => entry.new.as_ref(),
            None => self.db.data.row(table, uuid),
        }
    }

    /// Replaces a row in the overlay; `None` deletes it.
    pub(super) fn put(&mut self, (table, uuid): RowId, new: Option<Arc<Row>>) {
        match self.tables[table].get_mut(&uuid) {
            Some(entry) => entry.new = new,
            None => {
                let old = self.db.data.row(table, uuid).cloned();
                self.tables[table].insert(uuid, Entry { old, new });
            }
        }
    }

    /// The rows that satisfy `condition`, by identity.
    fn query(&self, table: usize, condition: &Condition) -> Vec<Uuid> {
        let matches =
            |uuid: &Uuid| self.get((table, *uuid)).is_some_and(|row| condition.matches_all(row));
        if let Some(uuid) = condition.uuid() {
            return Some(uuid).into_iter().filter(matches).collect();
        }
        let overlay = &self.tables[table];
        let indexes = &self.db.schema().tables[table].indexes;
        for (columns, index) in indexes.iter().zip(&self.db.indexes[table]) {
            let key: Option<Vec<Arc<Datum>>> =
                columns.iter().map(|&c| condition.equal_to(c).cloned().map(Arc::new)).collect();
            if let Some(key) = key {
                // The row of the index, and rows this transaction changed.
                let found: BTreeSet<Uuid> =
                    index.get(&key).into_iter().chain(overlay.keys()).copied().collect();
                return found.into_iter().filter(matches).collect();
            }
        }
        let mut found: Vec<Uuid> =
            self.db.data.rows(table).keys().copied().filter(matches).collect();
        let inserted = overlay.iter().filter(|(_, entry)| entry.old.is_none());
        found.extend(inserted.map(|(uuid, _)| *uuid).filter(matches));
        found.sort_unstable();
        found
    }

    fn insert(&mut self, members: &mut Members<'_>, ctx: &mut Context<'_>) -> Result<Value> {
        let (table, schema) = self.table(members)?;
        let row_json = members.object("row")?;
        let name_json = members.optional("uuid-name");
        let uuid_json = members.optional("uuid");
        let name = match name_json {
            None => None,
            Some(Value::String(name)) if is_id(name) => Some(name),
            Some(_) => return Err(mismatch("uuid-name")),
        };
        members.finish()?;
        let wanted = match uuid_json {
            None => None,
            Some(json) => {
                let uuid: Uuid = json
                    .as_str()
                    .and_then(|s| s.parse().ok())
                    .ok_or_else(|| Error::syntax(Some(json), "bad uuid"))?;
                let taken = self.tables[table].contains_key(&uuid)
                    || self.db.data.row(table, uuid).is_some();
                if taken {
                    return Err(Error::new(
                        "duplicate uuid",
                        "This UUID would duplicate a UUID already present within the table or \
                         deleted within the same transaction.",
                    )
                    .at(Some(json)));
                }
                Some(uuid)
            }
        };
        let uuid = match name {
            None => wanted.unwrap_or_else(|| ctx.uuids.generate()),
            Some(name) => {
                let known = self.names.get(name).map(|n| (n.uuid, n.inserted));
                let uuid = match known {
                    Some((_, true)) => {
                        return Err(Error::new(
                            "duplicate uuid-name",
                            "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                        )
                        .at(name_json));
                    }
                    // The name was referred to before, so its UUID is fixed already.
                    Some((uuid, false)) => uuid,
                    None => wanted.unwrap_or_else(|| ctx.uuids.generate()),
                };
                self.names.insert(name.clone(), Name { uuid, inserted: true });
                uuid
            }
        };
        let mut row = Row::new(schema, uuid);
        let mut given = BTreeSet::from([COL_UUID, COL_VERSION]);
        for (column, datum) in self.row(row_json, schema, ctx)? {
            if given.insert(column) {
                row.set(column, datum);
            }
        }
        // A default that a constraint forbids must have been given.
        for (column, schema) in schema.columns.iter().enumerate() {
            if !given.contains(&column) && schema.ty.min > 0 {
                schema.ty.check(&schema.default)?;
            }
        }
        self.put((table, uuid), Some(Arc::new(row)));
        Ok(json!({"uuid": ["uuid", uuid.to_string()]}))
    }

    fn columns(&self, json: Option<&Value>, table: &TableSchema) -> Result<Vec<usize>> {
        match json {
            None => Ok((0..table.columns.len()).collect()),
            Some(json) => parse_columns(json, table),
        }
    }

    fn select(&mut self, members: &mut Members<'_>, ctx: &mut Context<'_>) -> Result<Value> {
        let (table, schema) = self.table(members)?;
        let columns_json = members.optional("columns");
        let condition = self.condition(members, schema, ctx)?;
        let columns = self.columns(columns_json, schema)?;
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for uuid in self.query(table, &condition) {
            let Some(row) = self.get((table, uuid)) else { continue };
            let values: Vec<Arc<Datum>> = columns.iter().map(|&c| row.get(c).clone()).collect();
            let names = columns.iter().map(|&c| schema.columns[c].name.clone());
            let json: Map<String, Value> = names.zip(values.iter().map(|v| v.to_json())).collect();
            if seen.insert(values) {
                rows.push(Value::Object(json));
            }
        }
        Ok(json!({ "rows": rows }))
    }

    fn update(
        &mut self,
        op: &Value,
        members: &mut Members<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<Value> {
        let (table, schema) = self.table(members)?;
        let row_json = members.object("row")?;
        let where_json = members.array("where")?;
        members.finish()?;
        let values = self.row(row_json, schema, ctx)?;
        if let Some(column) = values.iter().map(|v| &schema.columns[v.0]).find(|c| !c.mutable) {
            return Err(Error::constraint(format!(
                "Cannot update immutable column {} in table {}.",
                column.name, schema.name
            ))
            .at(Some(op)));
        }
        let condition = Condition::parse_json(where_json, schema, &mut self.names(ctx))?;
        let found = self.query(table, &condition);
        for &uuid in &found {
            let Some(mut row) = self.get((table, uuid)).cloned() else { continue };
            let new = Arc::make_mut(&mut row);
            for (column, datum) in &values {
                if new.get(*column) != datum {
                    new.set(*column, datum.clone());
                }
            }
            self.put((table, uuid), Some(row));
        }
        Ok(json!({"count": found.len()}))
    }

    fn mutate(&mut self, members: &mut Members<'_>, ctx: &mut Context<'_>) -> Result<Value> {
        let (table, schema) = self.table(members)?;
        let mutations_json = members.array("mutations")?;
        let where_json = members.array("where")?;
        members.finish()?;
        let mut mutations = Vec::new();
        for json in mutations_json.as_array().into_iter().flatten() {
            mutations.push(Mutation::parse_json(json, schema, &mut self.names(ctx))?);
        }
        let condition = Condition::parse_json(where_json, schema, &mut self.names(ctx))?;
        let found = self.query(table, &condition);
        for &uuid in &found {
            let Some(mut row) = self.get((table, uuid)).cloned() else { continue };
            let new = Arc::make_mut(&mut row);
            mutations.iter().try_for_each(|mutation| mutation.apply(schema, new))?;
            self.put((table, uuid), Some(row));
        }
        Ok(json!({"count": found.len()}))
    }

    fn delete(&mut self, members: &mut Members<'_>, ctx: &mut Context<'_>) -> Result<Value> {
        let (table, schema) = self.table(members)?;
        let condition = self.condition(members, schema, ctx)?;
        let found = self.query(table, &condition);
        for &uuid in &found {
            self.put((table, uuid), None);
        }
        Ok(json!({"count": found.len()}))
    }

    fn wait(&mut self, members: &mut Members<'_>, ctx: &mut Context<'_>) -> Result<Step> {
        let (table, schema) = self.table(members)?;
        let timeout_json = members.optional("timeout");
        let until = members.string("until")?;
        let columns_json = members.optional("columns");
        let rows_json = members.array("rows")?;
        let condition = self.condition(members, schema, ctx)?;
        let timeout = match timeout_json {
            None => None,
            Some(json) => match (json.as_u64(), json.as_i64()) {
                (Some(ms), _) => Some(ms),
                (None, Some(_)) => {
                    return Err(Error::syntax(Some(json), "timeout must be nonnegative"));
                }
                _ => return Err(mismatch("timeout")),
            },
        };
        let equal = match until {
            "==" => true,
            "!=" => false,
            other => {
                return Err(Error::syntax(
                    Some(&json!(other)),
                    "\"until\" must be \"==\" or \"!=\"",
                ));
            }
        };
        let columns = self.columns(columns_json, schema)?;
        let mut expected = BTreeSet::new();
        for json in rows_json.as_array().into_iter().flatten() {
            let mut row = Row::new(schema, Uuid::ZERO);
            self.row(json, schema, ctx)?.into_iter().for_each(|(c, datum)| row.set(c, datum));
            expected.insert(columns.iter().map(|&c| row.get(c).clone()).collect::<Vec<_>>());
        }
        let found: BTreeSet<Vec<Arc<Datum>>> = self
            .query(table, &condition)
            .into_iter()
            .filter_map(|uuid| self.get((table, uuid)))
            .map(|row| columns.iter().map(|&c| row.get(c).clone()).collect())
            .collect();
        if (found == expected) == equal {
            return Ok(Step::Next(json!({})));
        }
        match timeout {
            Some(0) => Err(Error::new("timed out", "\"where\" clause test failed")),
            Some(ms) if ctx.waited_ms >= ms => {
                let waited = if ctx.waited_ms == u64::MAX { ms } else { ctx.waited_ms };
                Err(Error::new("timed out", format!("\"wait\" timed out after {waited} ms")))
            }
            timeout => Ok(Step::Wait(timeout)),
        }
    }
}

/// Reads an array of names of columns.
pub(crate) fn parse_columns(json: &Value, table: &TableSchema) -> Result<Vec<usize>> {
    let bad = |details: &str| Error::syntax(Some(json), details);
    let names = json.as_array().ok_or_else(|| bad("array of distinct column names expected"))?;
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let name = name.as_str().ok_or_else(|| bad("array of distinct column names expected"))?;
        let column = table
            .column_index(name)
            .ok_or_else(|| bad(&format!("{name} is not a valid column name")))?;
        if columns.contains(&column) {
            return Err(bad("array of distinct column names expected"));
        }
        columns.push(column);
    }
    Ok(columns)
}
