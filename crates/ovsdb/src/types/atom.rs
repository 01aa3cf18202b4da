//! One scalar value: integer, real, boolean, string or UUID.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use super::uuid::Uuid;
use crate::error::{Error, Result};

/// The five atomic types of RFC 7047 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AtomType {
    /// 64-bit signed integer.
    Integer,
    /// Double-precision number.
    Real,
    /// `true` or `false`.
    Boolean,
    /// UTF-8 text without NUL.
    String,
    /// Identity of a row, or any UUID.
    Uuid,
}

impl AtomType {
    /// All types with their names in a schema.
    pub const ALL: [(AtomType, &'static str); 5] = [
        (AtomType::Integer, "integer"),
        (AtomType::Real, "real"),
        (AtomType::Boolean, "boolean"),
        (AtomType::String, "string"),
        (AtomType::Uuid, "uuid"),
    ];

    /// The name in a schema.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The value a new row has in a column of this type that nobody set (RFC 7047 §5.2.1).
    pub fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(0.0),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(Arc::from("")),
            AtomType::Uuid => Atom::Uuid(Uuid::ZERO),
        }
    }

    /// Reads an atom of this type from JSON (RFC 7047 §5.1 `<atom>`), without constraints.
    ///
    /// # Errors
    /// `syntax error` if the JSON is not an atom of this type.
    pub fn parse_json(self, json: &Value, symbols: &mut dyn Symbols) -> Result<Atom> {
        match self {
            AtomType::Integer => json_integer(json).map(Atom::Integer),
            AtomType::Real => json.as_f64().map(Atom::real),
            AtomType::Boolean => json.as_bool().map(Atom::Boolean),
            AtomType::String => match json.as_str() {
                Some(s) if s.contains('\0') => {
                    return Err(Error::syntax(
                        Some(json),
                        "null bytes not supported in quoted strings",
                    ));
                }
                other => other.map(|s| Atom::String(Arc::from(s))),
            },
            AtomType::Uuid => return parse_uuid_json(json, symbols).map(Atom::Uuid),
        }
        .ok_or_else(|| Error::syntax(Some(json), format!("expected {}", self.name())))
    }
}

/// An integer of OVSDB: OVS takes `1.0` and `1e3` as integers too.
fn json_integer(json: &Value) -> Option<i64> {
    if let Some(n) = json.as_i64() {
        return Some(n);
    }
    let real = json.as_f64()?;
    // 2^63 itself is out of range; every smaller integral double converts exactly.
    let limit = 9_223_372_036_854_775_808.0;
    (real.fract() == 0.0 && real >= -limit && real < limit && !json.is_u64()).then_some(real as i64)
}

fn parse_uuid_json(json: &Value, symbols: &mut dyn Symbols) -> Result<Uuid> {
    if let Some([Value::String(kind), Value::String(text)]) = json.as_array().map(Vec::as_slice) {
        if kind == "uuid" {
            return text
                .parse()
                .map_err(|_| Error::syntax(Some(json), format!("\"{text}\" is not a valid UUID")));
        }
        if kind == "named-uuid" {
            if !is_id(text) {
                return Err(Error::syntax(Some(json), "named-uuid string is not a valid <id>"));
            }
            if let Some(uuid) = symbols.resolve(text) {
                return Ok(uuid);
            }
        }
    }
    Err(Error::syntax(Some(json), "expected [\"uuid\", <string>]"))
}

/// Whether `s` is an `<id>` of RFC 7047 §3.1: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_id(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Gives names of rows that are not inserted yet (`named-uuid`, `@name`) their UUID.
pub trait Symbols {
    /// The UUID `name` stands for; `None` if names are not allowed here.
    fn resolve(&mut self, name: &str) -> Option<Uuid>;
}

/// Symbols where no names are allowed.
#[derive(Debug, Clone, Copy)]
pub struct NoSymbols;

impl Symbols for NoSymbols {
    fn resolve(&mut self, _name: &str) -> Option<Uuid> {
        None
    }
}

/// One scalar value.
///
/// Atoms of one type are totally ordered: integers and reals by value, `false` before `true`,
/// strings by their bytes, UUIDs as numbers. Atoms of different types never meet in a datum; they
/// order by type.
#[derive(Clone)]
pub enum Atom {
    /// See [`AtomType::Integer`].
    Integer(i64),
    /// See [`AtomType::Real`]; never NaN or minus zero, see [`Atom::real`].
    Real(f64),
    /// See [`AtomType::Boolean`].
    Boolean(bool),
    /// See [`AtomType::String`].
    String(Arc<str>),
    /// See [`AtomType::Uuid`].
    Uuid(Uuid),
}

impl Atom {
    /// A real; minus zero becomes zero, and NaN (which JSON cannot carry) too.
    pub fn real(value: f64) -> Atom {
        Atom::Real(if value == 0.0 || value.is_nan() { 0.0 } else { value })
    }

    /// The type of this atom.
    pub fn atom_type(&self) -> AtomType {
        match self {
            Atom::Integer(_) => AtomType::Integer,
            Atom::Real(_) => AtomType::Real,
            Atom::Boolean(_) => AtomType::Boolean,
            Atom::String(_) => AtomType::String,
            Atom::Uuid(_) => AtomType::Uuid,
        }
    }

    /// The integer, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        if let Atom::Integer(n) = self { Some(*n) } else { None }
    }

    /// The real, if it is one.
    pub fn as_real(&self) -> Option<f64> {
        if let Atom::Real(n) = self { Some(*n) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Atom::Boolean(b) = self { Some(*b) } else { None }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Atom::String(s) = self { Some(s) } else { None }
    }

    /// The UUID, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Atom::Uuid(u) = self { Some(*u) } else { None }
    }

    /// The `<atom>` of RFC 7047 §5.1.
    pub fn to_json(&self) -> Value {
        self.to_json_named(&|_| None)
    }

    /// Like [`Atom::to_json`], but a UUID that `name` knows becomes a `named-uuid`.
    pub fn to_json_named(&self, name: &dyn Fn(Uuid) -> Option<String>) -> Value {
        match self {
            Atom::Integer(n) => Value::from(*n),
            Atom::Real(n) => real_to_json(*n),
            Atom::Boolean(b) => Value::from(*b),
            Atom::String(s) => Value::from(&**s),
            Atom::Uuid(u) => match name(*u) {
                Some(name) => Value::from(vec!["named-uuid".to_owned(), name]),
                None => Value::from(vec!["uuid".to_owned(), u.to_string()]),
            },
        }
    }
}

/// OVS writes an integral real without a fraction.
fn real_to_json(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 1e15 { Value::from(n as i64) } else { Value::from(n) }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Atom::Integer(a), Atom::Integer(b)) => a.cmp(b),
            (Atom::Real(a), Atom::Real(b)) => a.total_cmp(b),
            (Atom::Boolean(a), Atom::Boolean(b)) => a.cmp(b),
            (Atom::String(a), Atom::String(b)) => a.cmp(b),
            (Atom::Uuid(a), Atom::Uuid(b)) => a.cmp(b),
            (a, b) => a.atom_type().cmp(&b.atom_type()),
        }
    }
}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Atom::Integer(n) => n.hash(state),
            Atom::Real(n) => n.to_bits().hash(state),
            Atom::Boolean(b) => b.hash(state),
            Atom::String(s) => s.hash(state),
            Atom::Uuid(u) => u.hash(state),
        }
    }
}

/// The text form of `ovs-vsctl list`.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::text::atom_to_text(self))
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i64> for Atom {
    fn from(n: i64) -> Self {
        Atom::Integer(n)
    }
}

impl From<bool> for Atom {
    fn from(b: bool) -> Self {
        Atom::Boolean(b)
    }
}

impl From<&str> for Atom {
    fn from(s: &str) -> Self {
        Atom::String(Arc::from(s))
    }
}

impl From<String> for Atom {
    fn from(s: String) -> Self {
        Atom::String(Arc::from(s))
    }
}

impl From<Uuid> for Atom {
    fn from(u: Uuid) -> Self {
        Atom::Uuid(u)
    }
}
