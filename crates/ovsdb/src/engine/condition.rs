//! `<condition>` of RFC 7047 §5.1: which rows of a table.

use std::sync::Arc;

use serde_json::Value;

use crate::data::Row;
use crate::error::{Error, Result};
use crate::schema::{COL_UUID, TableSchema};
use crate::types::{Atom, AtomType, Datum, Symbols, Uuid};

/// `<function>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    Includes,
    Excludes,
}

const FUNCTIONS: [(Function, &str); 8] = [
    (Function::Less, "<"),
    (Function::LessOrEqual, "<="),
    (Function::Equal, "=="),
    (Function::NotEqual, "!="),
    (Function::GreaterOrEqual, ">="),
    (Function::Greater, ">"),
    (Function::Includes, "includes"),
    (Function::Excludes, "excludes"),
];

/// `<condition>`: one test of one column, or (an extension of OVS) a constant.
#[derive(Debug, Clone)]
enum Clause {
    Constant(bool),
    Test { column: usize, function: Function, arg: Datum },
}

/// A list of clauses. `where` of an operation wants all of them, a monitor any.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    clauses: Vec<Clause>,
}

/// A column lookup that words its error as OVS does.
pub(crate) fn find_column(table: &TableSchema, name: &str, at: &Value) -> Result<usize> {
    table.column_index(name).ok_or_else(|| {
        Error::new("unknown column", format!("No column {name} in table {}.", table.name))
            .at(Some(at))
    })
}

impl Clause {
    fn parse_json(json: &Value, table: &TableSchema, symbols: &mut dyn Symbols) -> Result<Clause> {
        if let Some(constant) = json.as_bool() {
            return Ok(Clause::Constant(constant));
        }
        let Some([Value::String(column), Value::String(function), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(Error::syntax(Some(json), "Parse error in condition."));
        };
        let column = find_column(table, column, json)?;
        let Some((function, name)) = FUNCTIONS.iter().find(|row| row.1 == function) else {
            return Err(Error::new("unknown function", format!("No function named {function}.")));
        };
        let schema = &table.columns[column];
        let mut ty = schema.ty.clone();
        match function {
            Function::Equal | Function::NotEqual => {}
            Function::Includes | Function::Excludes => ty = ty.unbounded(),
            _ => {
                let number = matches!(ty.key.atom, AtomType::Integer | AtomType::Real);
                if !number || !(ty.is_scalar() || ty.is_optional_scalar()) {
                    return Err(Error::syntax(
                        Some(json),
                        format!(
                            "Type mismatch: \"{name}\" operator may not be applied to column {} \
                             of type {ty}.",
                            schema.name
                        ),
                    ));
                }
                // A comparison with nothing would be false whatever the row.
                ty.min = 1;
            }
        }
        let arg = ty.parse_json_datum(arg, symbols)?;
        Ok(Clause::Test { column, function: *function, arg })
    }

    fn matches(&self, row: &Row) -> bool {
        let (column, function, arg) = match self {
            Clause::Constant(constant) => return *constant,
            Clause::Test { column, function, arg } => (*column, *function, arg),
        };
        let value: &Arc<Datum> = row.get(column);
        let compare = |want: fn(std::cmp::Ordering) -> bool| {
            // An empty optional compares with nothing (ovsdb-server(7)).
            match (value.as_scalar(), arg.as_scalar()) {
                (Some(a), Some(b)) => want(a.cmp(b)),
                _ => false,
            }
        };
        match function {
            Function::Equal => **value == *arg,
            Function::NotEqual => **value != *arg,
            Function::Includes => value.includes_all(arg),
            Function::Excludes => value.excludes_all(arg),
            Function::Less => compare(std::cmp::Ordering::is_lt),
            Function::LessOrEqual => compare(std::cmp::Ordering::is_le),
            Function::Greater => compare(std::cmp::Ordering::is_gt),
            Function::GreaterOrEqual => compare(std::cmp::Ordering::is_ge),
        }
    }
}

impl Condition {
    /// Reads an array of clauses.
    ///
    /// # Errors
    /// `syntax error`, `unknown column`, `unknown function`.
    pub fn parse_json(
        json: &Value,
        table: &TableSchema,
        symbols: &mut dyn Symbols,
    ) -> Result<Condition> {
        let clauses = json.as_array().ok_or_else(|| Error::syntax(Some(json), "array expected"))?;
        let clauses: Result<Vec<Clause>> =
            clauses.iter().map(|clause| Clause::parse_json(clause, table, symbols)).collect();
        Ok(Condition { clauses: clauses? })
    }

    /// Whether all clauses hold: `where` of RFC 7047.
    pub fn matches_all(&self, row: &Row) -> bool {
        self.clauses.iter().all(|clause| clause.matches(row))
    }

    /// Whether any clause holds, or there is none: `where` of `monitor_cond`.
    pub fn matches_any(&self, row: &Row) -> bool {
        self.clauses.is_empty() || self.clauses.iter().any(|clause| clause.matches(row))
    }

    /// The row, if a clause names one by `_uuid`.
    pub(super) fn uuid(&self) -> Option<Uuid> {
        self.equal_to(COL_UUID)?.as_scalar().and_then(Atom::as_uuid)
    }

    /// The value column number `column` must have, if a clause says so.
    pub(super) fn equal_to(&self, column: usize) -> Option<&Datum> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Test { column: c, function: Function::Equal, arg } if *c == column => Some(arg),
            _ => None,
        })
    }
}
