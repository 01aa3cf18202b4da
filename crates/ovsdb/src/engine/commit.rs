//! What must hold between rows at the end of a transaction (RFC 7047 §3.2 and §5.2).
//!
//! In this order: strong references point to rows that exist, and nobody deleted a row that is
//! referred to; rows of non-root tables without a strong reference are deleted, again and again;
//! weak references to rows that are gone are removed; then the number of rows and the indexes are
//! checked. Only rows the transaction touched are looked at, and rows that refer weakly to rows it
//! deleted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::ops::{Entry, Transaction};
use super::{IndexKey, RowId, index_key};
use crate::data::{Row, RowChange};
use crate::error::{Error, Result};
use crate::types::{Datum, Uuid, UuidGen};

/// Changes of strong reference counts against the database.
#[derive(Default)]
struct Counts {
    delta: HashMap<RowId, i64>,
    /// Rows whose count fell, or that are new: they may have no reference.
    suspects: Vec<RowId>,
}

impl Counts {
    fn add(&mut self, id: RowId) {
        *self.delta.entry(id).or_default() += 1;
    }

    fn sub(&mut self, id: RowId) {
        *self.delta.entry(id).or_default() -= 1;
        self.suspects.push(id);
    }
}

impl Transaction<'_> {
    /// Checks everything and returns the changes, with new `_version`s.
    pub(super) fn finish(mut self, uuids: &mut UuidGen) -> Result<Vec<RowChange>> {
        for table in &mut self.tables {
            table.retain(|_, entry| match (&entry.old, &entry.new) {
                (Some(old), Some(new)) => !Arc::ptr_eq(old, new) && !old.same_content(new),
                (None, None) => false,
                _ => true,
            });
        }
        let mut counts = self.count_references()?;
        self.check_deleted(&counts)?;
        // Removing a weak reference from a map can remove a strong one with it.
        loop {
            self.collect_garbage(&mut counts);
            self.drop_weak_references(&mut counts)?;
            if counts.suspects.is_empty() {
                break;
            }
        }
        self.check_max_rows()?;
        self.check_indexes()?;
        let mut changes = Vec::new();
        for (table, entries) in self.tables.into_iter().enumerate() {
            for (uuid, Entry { old, mut new }) in entries {
                match (&old, &mut new) {
                    (None, None) => continue,
                    (Some(old), Some(new)) if old.same_content(new) => continue,
                    (_, Some(new)) => Arc::make_mut(new).set_version(uuids.generate()),
                    (Some(_), None) => {}
                }
                changes.push(RowChange { table, uuid, old, new });
            }
        }
        Ok(changes)
    }

    fn count(&self, counts: &Counts, id: RowId) -> i64 {
        let before = self.db.strong[id.0].get(&id.1).copied().unwrap_or(0);
        i64::from(before) + counts.delta.get(&id).copied().unwrap_or(0)
    }

    /// Counts the references that came and went; those that came must have a target.
    fn count_references(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for (table, entries) in self.tables.iter().enumerate() {
            for (&uuid, entry) in entries {
                if entry.old.is_none() {
                    counts.suspects.push((table, uuid));
                }
                for ref_column in self.db.refs[table].iter().filter(|c| c.has(true)) {
                    let column = ref_column.column;
                    if let (Some(old), Some(new)) = (&entry.old, &entry.new)
                        && old.same(new, column)
                    {
                        continue;
                    }
                    let datum =
                        |row: &'_ Option<Arc<Row>>| row.as_ref().map(|r| r.get(column).clone());
                    let (old, new) = (datum(&entry.old), datum(&entry.new));
                    let mut missing = None;
                    // A reference that stays, to a row that goes, is for `check_deleted` to word.
                    ref_column.each_change(old.as_deref(), new.as_deref(), true, |came, id| {
                        if !came {
                            counts.sub(id);
                            return;
                        }
                        counts.add(id);
                        if self.get(id).is_none() && missing.is_none() {
                            missing = Some(id);
                        }
                    });
                    if let Some((target, missing)) = missing {
                        let schema = self.db.schema();
                        let from = &schema.tables[table];
                        return Err(Error::new(
                            "referential integrity violation",
                            format!(
                                "Table {} column {} row {uuid} references nonexistent row \
                                 {missing} in table {}.",
                                from.name, from.columns[column].name, schema.tables[target].name
                            ),
                        ));
                    }
                }
            }
        }
        Ok(counts)
    }

    /// Rows that were deleted by an operation must not be referred to.
    fn check_deleted(&self, counts: &Counts) -> Result<()> {
        for (table, entries) in self.tables.iter().enumerate() {
            for (&uuid, entry) in entries {
                let n = self.count(counts, (table, uuid));
                if entry.new.is_none() && n > 0 {
                    let name = &self.db.schema().tables[table].name;
                    return Err(Error::new(
                        "referential integrity violation",
                        format!(
                            "cannot delete {name} row {uuid} because of {n} remaining reference(s)"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn collect_garbage(&mut self, counts: &mut Counts) {
        while let Some(id) = counts.suspects.pop() {
            if self.db.schema().tables[id.0].is_root || self.count(counts, id) > 0 {
                continue;
            }
            let Some(row) = self.get(id).cloned() else { continue };
            for ref_column in &self.db.refs[id.0] {
                let old = Some(&**row.get(ref_column.column));
                ref_column.each_change(old, None, true, |_, target| counts.sub(target));
            }
            self.put(id, None);
        }
    }

    /// Removes weak references to rows that do not exist (any more).
    fn drop_weak_references(&mut self, counts: &mut Counts) -> Result<()> {
        let mut rows = BTreeSet::new();
        for (table, entries) in self.tables.iter().enumerate() {
            let has_weak = self.db.refs[table].iter().any(|c| c.has(false));
            for (&uuid, entry) in entries {
                if entry.new.is_none() {
                    let holders = self.db.weak[table].get(&uuid);
                    rows.extend(holders.into_iter().flat_map(|h| h.keys().copied()));
                } else if has_weak {
                    rows.insert((table, uuid));
                }
            }
        }
        let refs = self.db.refs.clone();
        for id in rows {
            let Some(mut row) = self.get(id).cloned() else { continue };
            let mut changed = false;
            for ref_column in refs[id.0].iter().filter(|c| c.has(false)) {
                let old = row.get(ref_column.column).clone();
                let gone = |target: Option<(usize, bool)>, uuid: Option<Uuid>| match (target, uuid)
                {
                    (Some((table, false)), Some(uuid)) => self.get((table, uuid)).is_none(),
                    _ => false,
                };
                let new = match &*old {
                    Datum::Set(atoms) => {
                        let keep = |a: &&_| !gone(ref_column.key, crate::Atom::as_uuid(a));
                        Datum::Set(atoms.iter().filter(keep).cloned().collect())
                    }
                    Datum::Map(pairs) => {
                        let keep = |(k, v): &&(crate::Atom, crate::Atom)| {
                            !gone(ref_column.key, k.as_uuid())
                                && !gone(ref_column.value, v.as_uuid())
                        };
                        Datum::Map(pairs.iter().filter(keep).cloned().collect())
                    }
                };
                let n_gone = old.len() - new.len();
                if n_gone == 0 {
                    continue;
                }
                let schema = &self.db.schema().tables[id.0];
                let column = &schema.columns[ref_column.column];
                if !column.ty.allows_len(new.len()) {
                    return Err(Error::constraint(format!(
                        "Deletion of {n_gone} weak reference(s) to deleted (or never-existing) \
                         rows from column \"{}\" in \"{}\" row {} caused this column to become \
                         empty, but constraints on this column disallow an empty column.",
                        column.name, schema.name, id.1
                    )));
                }
                ref_column.each_change(Some(&old), Some(&new), true, |came, target| {
                    if came { counts.add(target) } else { counts.sub(target) }
                });
                Arc::make_mut(&mut row).set(ref_column.column, Arc::new(new));
                changed = true;
            }
            if changed {
                self.put(id, Some(row));
            }
        }
        Ok(())
    }

    fn check_max_rows(&self) -> Result<()> {
        for (table, entries) in self.tables.iter().enumerate() {
            let schema = &self.db.schema().tables[table];
            let Some(max) = schema.max_rows else { continue };
            let came = entries.values().filter(|e| e.old.is_none() && e.new.is_some()).count();
            let went = entries.values().filter(|e| e.old.is_some() && e.new.is_none()).count();
            let n = self.db.data.rows(table).len() + came - went;
            if came > went && n as u64 > max {
                return Err(Error::constraint(format!(
                    "transaction causes \"{}\" table to contain {n} rows, greater than the \
                     schema-defined limit of {max} row(s)",
                    schema.name
                )));
            }
        }
        Ok(())
    }

    fn check_indexes(&self) -> Result<()> {
        for (table, entries) in self.tables.iter().enumerate() {
            let schema = &self.db.schema().tables[table];
            for (columns, index) in schema.indexes.iter().zip(&self.db.indexes[table]) {
                let mut seen: HashMap<IndexKey, Uuid> = HashMap::new();
                let live = entries.iter().filter_map(|(u, e)| e.new.as_ref().map(|row| (*u, row)));
                for (uuid, row) in live {
                    let key = index_key(columns, row);
                    let untouched = |holder: &&Uuid| !entries.contains_key(holder);
                    if let Some(&other) = seen.get(&key) {
                        return Err(self.duplicate(table, columns, &key, other, uuid));
                    }
                    if let Some(&other) = index.get(&key).filter(untouched) {
                        return Err(self.duplicate(table, columns, &key, other, uuid));
                    }
                    seen.insert(key, uuid);
                }
            }
        }
        Ok(())
    }

    fn duplicate(
        &self,
        table: usize,
        columns: &[usize],
        key: &IndexKey,
        first: Uuid,
        second: Uuid,
    ) -> Error {
        let schema = &self.db.schema().tables[table];
        let texts = |key: &IndexKey| {
            let texts = columns.iter().zip(key).map(|(&c, d)| d.to_text(&schema.columns[c].ty));
            and(&texts.collect::<Vec<_>>())
        };
        let values = texts(key);
        let names: Vec<String> =
            columns.iter().map(|&c| format!("\"{}\"", schema.columns[c].name)).collect();
        let s = if names.len() == 1 { "" } else { "s" };
        let origin = |uuid: Uuid| {
            let entry = self.tables[table].get(&uuid);
            let old: Option<&Arc<Row>> = match entry {
                Some(entry) => entry.old.as_ref(),
                None => self.db.data.row(table, uuid),
            };
            match (entry, old) {
                (None, _) => "existed in the database before this transaction and was not \
                              modified by the transaction"
                    .to_owned(),
                (Some(_), None) => "was inserted by this transaction".to_owned(),
                (Some(_), Some(old)) if index_key(columns, old) == *key => {
                    "existed in the database before this transaction, which modified some of the \
                     row's columns but not any columns in this index"
                        .to_owned()
                }
                (Some(_), Some(old)) => {
                    let old = texts(&index_key(columns, old));
                    format!("had the following index values before the transaction: {old}")
                }
            }
        };
        Error::constraint(format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({values}) \
             for index on column{s} {}.  First row, with UUID {first}, {}.  Second row, with \
             UUID {second}, {}.",
            schema.name,
            and(&names),
            origin(first),
            origin(second)
        ))
    }
}

/// `a`, `a and b`, `a, b, and c`.
fn and(items: &[String]) -> String {
    match items {
        [rest @ .., last] if rest.len() > 1 => format!("{}, and {last}", rest.join(", ")),
        items => items.join(" and "),
    }
}
