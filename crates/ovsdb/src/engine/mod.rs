//! The database engine: contents, references between rows, indexes, transactions.
//!
//! A transaction ([`Database::execute`]) runs its operations on an overlay of the rows it touches
//! and, if all went well, checks what must hold between rows and returns a [`Commit`]; the database
//! itself changes only in [`Database::apply`]. So a failed transaction leaves nothing behind, and
//! the owner can write the commit to disk in between. Between `execute` and `apply` nothing else
//! may be applied.
//!
//! The cost of a transaction is that of the rows it touches (and of the rows a condition without
//! `_uuid` or an index has to look at), never of the database: counts of strong references, the
//! holders of weak references and the indexes are kept up to date row by row.
//!
//! The engine reads no clock and does no I/O.

mod commit;
mod condition;
mod mutation;
mod ops;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

pub use condition::Condition;
pub(crate) use ops::parse_columns;

use crate::data::{Data, Row, RowChange};
use crate::schema::{DbSchema, TableSchema};
use crate::types::{Constraint, Datum, Uuid, UuidGen};

/// A row of a table: number of the table and identity.
type RowId = (usize, Uuid);
/// The values of the columns of an index.
type IndexKey = Vec<Arc<Datum>>;

/// A database in memory.
#[derive(Debug, Clone)]
pub struct Database {
    data: Data,
    /// For each table, the strong references to its rows from anywhere.
    strong: Vec<HashMap<Uuid, u32>>,
    /// For each table, which rows refer to its rows weakly, and how often.
    weak: Vec<HashMap<Uuid, HashMap<RowId, u32>>>,
    /// For each table and each of its indexes, the row with these values.
    indexes: Vec<Vec<HashMap<IndexKey, Uuid>>>,
    refs: Arc<Vec<Vec<RefColumn>>>,
}

/// A column with references: which table its keys and values refer to, and how strongly.
#[derive(Debug, Clone)]
struct RefColumn {
    column: usize,
    key: Option<(usize, bool)>,
    value: Option<(usize, bool)>,
}

impl RefColumn {
    fn of_table(schema: &DbSchema, table: &TableSchema) -> Vec<RefColumn> {
        let target = |constraint: &Constraint| match constraint {
            Constraint::Reference { table, strong } => {
                schema.table_index(table).map(|i| (i, *strong))
            }
            _ => None,
        };
        let columns = table.columns.iter().enumerate().filter_map(|(column, c)| {
            let key = target(&c.ty.key.constraint);
            let value = c.ty.value.as_ref().and_then(|v| target(&v.constraint));
            (key.is_some() || value.is_some()).then_some(RefColumn { column, key, value })
        });
        columns.collect()
    }

    /// Calls `f` with every row that `new` refers to with that strength and `old` does not (true),
    /// or the other way round (false). Both are given for a pair whose value changed.
    fn each_change(
        &self,
        old: Option<&Datum>,
        new: Option<&Datum>,
        strong: bool,
        mut f: impl FnMut(bool, RowId),
    ) {
        let of = |target: Option<(usize, bool)>| target.filter(|t| t.1 == strong).map(|t| t.0);
        let (key_table, value_table) = (of(self.key), of(self.value));
        Datum::each_change(old, new, |came, key, value| {
            if let (Some(table), Some(uuid)) = (key_table, key.as_uuid()) {
                f(came, (table, uuid));
            }
            if let (Some(table), Some(uuid)) = (value_table, value.and_then(|v| v.as_uuid())) {
                f(came, (table, uuid));
            }
        });
    }

    fn has(&self, strong: bool) -> bool {
        [self.key, self.value].into_iter().flatten().any(|(_, s)| s == strong)
    }
}

/// Who runs a transaction, and under which conditions.
pub struct Context<'a> {
    /// Where the identities of new rows come from.
    pub uuids: &'a mut UuidGen,
    /// Whether the client holds the lock of that name.
    pub owns_lock: &'a dyn Fn(&str) -> bool,
    /// Milliseconds since the transaction was tried first; `u64::MAX` not to wait at all.
    pub waited_ms: u64,
    /// The database is the server's own; clients only read it.
    pub reserved: bool,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("waited_ms", &self.waited_ms).finish_non_exhaustive()
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Outcome {
    /// It ran to its end, good or bad.
    Done {
        /// One element for each operation and, if the commit failed, an `<error>` more.
        results: Vec<Value>,
        /// What to [`Database::apply`]; `None` if the transaction failed.
        commit: Option<Commit>,
    },
    /// A `wait` does not hold yet: try again when the database changes, or when this many
    /// milliseconds have passed since the first try; `None` for however long it takes.
    Wait(Option<u64>),
}

/// Changes that satisfy all constraints and can be applied.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// One for each row that came, went or changed; a transaction may change nothing.
    pub changes: Vec<RowChange>,
    /// The `comment` operations, one line each.
    pub comment: Option<String>,
    /// The client wants it on the disk before the reply.
    pub durable: bool,
}

impl Database {
    /// A database without rows.
    pub fn new(schema: DbSchema) -> Database {
        Database::from_data(Data::new(Arc::new(schema)))
    }

    /// A database with these rows, as a log gives them. References and indexes are counted, not
    /// checked.
    pub fn from_data(data: Data) -> Database {
        let schema = data.schema().clone();
        let refs = schema.tables.iter().map(|t| RefColumn::of_table(&schema, t)).collect();
        let mut db = Database {
            strong: vec![HashMap::new(); schema.tables.len()],
            weak: vec![HashMap::new(); schema.tables.len()],
            indexes: schema.tables.iter().map(|t| vec![HashMap::new(); t.indexes.len()]).collect(),
            refs: Arc::new(refs),
            data: Data::new(schema),
        };
        for change in data.as_inserts() {
            db.apply_change(&change);
        }
        db
    }

    /// The rows.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DbSchema> {
        self.data.schema()
    }

    /// Runs `ops`, the operations of RFC 7047 §5.2, without changing the database.
    pub fn execute(&self, ops: &[Value], ctx: &mut Context<'_>) -> Outcome {
        ops::Transaction::new(self).run(ops, ctx)
    }

    /// Takes over the changes of a commit that [`Database::execute`] returned last.
    pub fn apply(&mut self, commit: &Commit) {
        commit.changes.iter().for_each(|change| self.apply_change(change));
    }

    /// Executes and applies: for owners without disk or waiting clients. A `wait` that does not
    /// hold times out.
    pub fn transact(&mut self, ops: &[Value], uuids: &mut UuidGen) -> (Vec<Value>, Commit) {
        let waited_ms = u64::MAX;
        let ctx = &mut Context { uuids, owns_lock: &|_| true, waited_ms, reserved: false };
        match self.execute(ops, ctx) {
            Outcome::Done { results, commit } => {
                let commit = commit.unwrap_or_default();
                self.apply(&commit);
                (results, commit)
            }
            Outcome::Wait(_) => {
                let error = crate::Error::new("timed out", "\"wait\" cannot wait here");
                (vec![error.to_json()], Commit::default())
            }
        }
    }

    fn apply_change(&mut self, change: &RowChange) {
        let RowChange { table, uuid, old, new } = change;
        let refs = self.refs.clone();
        for ref_column in &refs[*table] {
            if !change.changed(ref_column.column) {
                continue;
            }
            let datum = |row: &'_ Option<Arc<Row>>| {
                row.as_ref().map(|row| row.get(ref_column.column).clone())
            };
            let (old, new) = (datum(old), datum(new));
            let (old, new) = (old.as_deref(), new.as_deref());
            ref_column.each_change(old, new, true, |came, (t, u)| {
                count(&mut self.strong[t], u, came);
            });
            ref_column.each_change(old, new, false, |came, (t, u)| {
                let holders = self.weak[t].entry(u).or_default();
                count(holders, (*table, *uuid), came);
                if holders.is_empty() {
                    self.weak[t].remove(&u);
                }
            });
        }
        let schema = self.data.schema().clone();
        for (columns, index) in schema.tables[*table].indexes.iter().zip(&mut self.indexes[*table])
        {
            if columns.iter().any(|&c| change.changed(c)) {
                // Another change of the same commit may have taken the key over already.
                if let Some(key) = old.as_ref().map(|row| index_key(columns, row))
                    && index.get(&key) == Some(uuid)
                {
                    index.remove(&key);
                }
                if let Some(row) = new {
                    index.insert(index_key(columns, row), *uuid);
                }
            }
        }
        self.data.put(*table, *uuid, new.clone());
    }
}

/// Counts up or down; what is at zero is not kept.
fn count<K: Copy + Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: K, up: bool) {
    let n = counts.entry(key).or_default();
    *n = if up { *n + 1 } else { n.saturating_sub(1) };
    if *n == 0 {
        counts.remove(&key);
    }
}

fn index_key(columns: &[usize], row: &Row) -> IndexKey {
    columns.iter().map(|&column| row.get(column).clone()).collect()
}

#[cfg(test)]
mod tests;
