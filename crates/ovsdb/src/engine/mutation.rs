//! `<mutation>` of RFC 7047 §5.1: a change of one column in place.

use serde_json::Value;

use super::condition::find_column;
use crate::data::Row;
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::types::{Atom, AtomType, ColumnType, Datum, Symbols};

/// `<mutator>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Insert,
    Delete,
}

const MUTATORS: [(Mutator, &str); 7] = [
    (Mutator::Add, "+="),
    (Mutator::Subtract, "-="),
    (Mutator::Multiply, "*="),
    (Mutator::Divide, "/="),
    (Mutator::Modulo, "%="),
    (Mutator::Insert, "insert"),
    (Mutator::Delete, "delete"),
];

/// One mutation, ready to apply to rows.
#[derive(Debug, Clone)]
pub(super) struct Mutation {
    column: usize,
    mutator: Mutator,
    arg: Datum,
}

impl Mutation {
    pub(super) fn parse_json(
        json: &Value,
        table: &TableSchema,
        symbols: &mut dyn Symbols,
    ) -> Result<Mutation> {
        let Some([Value::String(column), Value::String(mutator), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(Error::syntax(Some(json), "Parse error in mutation."));
        };
        let column = find_column(table, column, json)?;
        let schema = &table.columns[column];
        if !schema.mutable {
            return Err(Error::constraint(format!(
                "Cannot mutate immutable column {} in table {}.",
                schema.name, table.name
            ))
            .at(Some(json)));
        }
        let Some((mutator, name)) = MUTATORS.iter().find(|row| row.1 == mutator) else {
            return Err(Error::new("unknown mutator", format!("No mutator named {mutator}.")));
        };
        let ty = &schema.ty;
        let arg_type = match mutator {
            Mutator::Insert if !ty.is_scalar() => Some(ty.unbounded()),
            Mutator::Delete if !ty.is_scalar() => {
                let by_key = ty.is_map() && arg.get(0).and_then(Value::as_str) != Some("map");
                let any = ty.unbounded();
                Some(if by_key { ColumnType { value: None, ..any } } else { any })
            }
            Mutator::Insert | Mutator::Delete => None,
            _ if ty.is_map() => None,
            Mutator::Modulo if ty.key.atom != AtomType::Integer => None,
            _ if !matches!(ty.key.atom, AtomType::Integer | AtomType::Real) => None,
            _ => Some(ColumnType::scalar(ty.key.atom)),
        };
        let arg_type = arg_type.ok_or_else(|| {
            Error::syntax(
                Some(json),
                format!(
                    "Type mismatch: \"{name}\" operator may not be applied to column {} of type \
                     {ty}.",
                    schema.name
                ),
            )
        })?;
        let arg = arg_type.parse_json_datum(arg, symbols)?;
        Ok(Mutation { column, mutator: *mutator, arg })
    }

    /// Applies the mutation to `row`, which keeps its type's constraints or is an error.
    pub(super) fn apply(&self, table: &TableSchema, row: &mut Row) -> Result<()> {
        let ty = &table.columns[self.column].ty;
        match self.mutator {
            Mutator::Insert => {
                if row.get(self.column).includes_all(&self.arg) {
                    return Ok(());
                }
                row.get_mut(self.column).union(&self.arg, false);
            }
            Mutator::Delete => {
                if self.arg.is_empty() || row.get(self.column).is_empty() {
                    return Ok(());
                }
                row.get_mut(self.column).subtract(&self.arg);
            }
            _ => {
                let Some(arg) = self.arg.as_scalar() else { return Ok(()) };
                let old = row.get(self.column);
                let atoms: Result<Vec<Atom>> =
                    old.keys().map(|atom| self.mutator.calculate(atom, arg)).collect();
                let n = old.len();
                let new = Datum::set(atoms?);
                if new.len() != n {
                    return Err(Error::constraint(format!(
                        "Result of \"{}\" operation contains duplicates.",
                        self.mutator.name()
                    )));
                }
                ty.check(&new)?;
                *row.get_mut(self.column) = new;
            }
        }
        let n = row.get(self.column).len();
        if ty.allows_len(n) {
            Ok(())
        } else {
            Err(Error::constraint(format!("Attempted to store {n} elements in {ty}.")))
        }
    }
}

impl Mutator {
    fn name(self) -> &'static str {
        MUTATORS[self as usize].1
    }

    fn calculate(self, a: &Atom, b: &Atom) -> Result<Atom> {
        let range = || {
            Error::new(
                "range error",
                format!("Result of \"{}\" operation is out of range.", self.name()),
            )
        };
        let zero = || Err(Error::new("domain error", "Division by zero."));
        match (a, b) {
            (Atom::Integer(a), Atom::Integer(b)) => match self {
                Mutator::Add => a.checked_add(*b),
                Mutator::Subtract => a.checked_sub(*b),
                Mutator::Multiply => a.checked_mul(*b),
                Mutator::Divide | Mutator::Modulo if *b == 0 => return zero(),
                Mutator::Divide => a.checked_div(*b),
                _ => a.checked_rem(*b),
            }
            .map(Atom::Integer)
            .ok_or_else(range),
            (Atom::Real(a), Atom::Real(b)) => {
                let result = match self {
                    Mutator::Add => a + b,
                    Mutator::Subtract => a - b,
                    Mutator::Multiply => a * b,
                    _ if *b == 0.0 => return zero(),
                    _ => a / b,
                };
                if result.is_finite() { Ok(Atom::real(result)) } else { Err(range()) }
            }
            // Mutations are parsed with the type of the column.
            _ => Ok(a.clone()),
        }
    }
}
