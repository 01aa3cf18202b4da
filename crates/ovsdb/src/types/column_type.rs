//! `<type>` of RFC 7047 §3.2: a base type, or two, and how many.

use std::fmt;

use serde_json::{Map, Value, json};

use super::atom::Symbols;
use super::base_type::BaseType;
use super::datum::Datum;
use crate::error::{Error, Result};

/// `"max": "unlimited"`.
pub const UNLIMITED: u32 = u32::MAX;

/// The type of a column: scalar, optional scalar, set or map.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// Type of the elements of a set, or of the keys of a map.
    pub key: BaseType,
    /// Type of the values of a map; `None` for a set.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements, at least 1; [`UNLIMITED`] for no limit.
    pub max: u32,
}

impl ColumnType {
    /// A scalar: exactly one `key`.
    pub fn scalar(key: impl Into<BaseType>) -> Self {
        ColumnType { key: key.into(), value: None, min: 1, max: 1 }
    }

    /// Reads `<type>`.
    ///
    /// # Errors
    /// `syntax error` if the JSON is not a type.
    pub fn parse_json(json: &Value) -> Result<ColumnType> {
        let Some(map) = json.as_object() else {
            return BaseType::parse_json(json).map(ColumnType::scalar);
        };
        let bad = |details: &str| Error::syntax(Some(json), details);
        let key = map
            .get("key")
            .ok_or_else(|| bad("Parsing ovsdb type failed: Required 'key' member is missing."))?;
        let key = BaseType::parse_json(key)?;
        let value = map.get("value").map(BaseType::parse_json).transpose()?;
        let count = |name: &str| match map.get(name) {
            None => Ok(1),
            Some(Value::String(s)) if s == "unlimited" && name == "max" => Ok(UNLIMITED),
            Some(v) => v
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| bad(&format!("bad min or max value: {name}"))),
        };
        let (min, max) = (count("min")?, count("max")?);
        if min > 1 || max < 1 {
            return Err(bad("ovsdb type fails constraint checks"));
        }
        Ok(ColumnType { key, value, min, max })
    }

    /// The `<type>`, in its shortest form.
    pub fn to_json(&self) -> Value {
        if (self.min, self.max) == (1, 1) && self.value.is_none() {
            let key = self.key.to_json();
            return if key.is_string() { key } else { json!({ "key": key }) };
        }
        let mut map = Map::new();
        map.insert("key".into(), self.key.to_json());
        if let Some(value) = &self.value {
            map.insert("value".into(), value.to_json());
        }
        if self.min != 1 {
            map.insert("min".into(), json!(self.min));
        }
        if self.max == UNLIMITED {
            map.insert("max".into(), json!("unlimited"));
        } else if self.max != 1 {
            map.insert("max".into(), json!(self.max));
        }
        Value::Object(map)
    }

    /// Whether values are maps.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Whether there is exactly one element (RFC 7047 §3.2).
    pub fn is_scalar(&self) -> bool {
        (self.min, self.max) == (1, 1) && self.value.is_none()
    }

    /// Whether there is at most one element, none included.
    pub fn is_optional_scalar(&self) -> bool {
        (self.min, self.max) == (0, 1) && self.value.is_none()
    }

    /// Whether a set of more than one element is possible.
    pub fn is_set(&self) -> bool {
        self.value.is_none() && (self.min, self.max) != (1, 1)
    }

    /// Base types of key and value.
    pub fn bases(&self) -> impl Iterator<Item = &BaseType> {
        std::iter::once(&self.key).chain(self.value.as_ref())
    }

    /// Whether any atom refers to a row (`strong` or weak).
    pub fn has_refs(&self, strong: bool) -> bool {
        self.bases().any(|base| base.reference().is_some_and(|(_, s)| s == strong))
    }

    /// The value a new row has if nobody sets the column (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        match (&self.value, self.min) {
            (None, 0) => Datum::Set(Vec::new()),
            (Some(_), 0) => Datum::Map(Vec::new()),
            (None, _) => Datum::Set(vec![self.key.atom.default_atom()]),
            (Some(value), _) => {
                Datum::Map(vec![(self.key.atom.default_atom(), value.atom.default_atom())])
            }
        }
    }

    /// Reads a `<value>` of RFC 7047 §5.1: count and constraints are checked.
    ///
    /// # Errors
    /// `syntax error`, `constraint violation` or `ovsdb error` (duplicates), as OVS words them.
    pub fn parse_json_datum(&self, json: &Value, symbols: &mut dyn Symbols) -> Result<Datum> {
        Datum::parse_json(json, self, symbols)
    }

    /// Checks constraints of all atoms; the count is not looked at.
    ///
    /// # Errors
    /// `constraint violation`.
    pub fn check(&self, datum: &Datum) -> Result<()> {
        match datum {
            Datum::Set(atoms) => atoms.iter().try_for_each(|atom| self.key.check(atom)),
            Datum::Map(pairs) => pairs.iter().try_for_each(|(key, value)| {
                self.key.check(key)?;
                self.value.as_ref().map_or(Ok(()), |base| base.check(value))
            }),
        }
    }

    /// Whether `n` elements are allowed.
    pub fn allows_len(&self, n: usize) -> bool {
        n >= self.min as usize && (self.max == UNLIMITED || n <= self.max as usize)
    }

    /// This type with the count `0..=unlimited`, which is what differences and conditions need.
    #[must_use]
    pub fn unbounded(&self) -> ColumnType {
        ColumnType { min: 0, max: UNLIMITED, ..self.clone() }
    }

    /// The same, with all constraints taken away.
    #[must_use]
    pub fn unconstrained(&self) -> ColumnType {
        ColumnType {
            key: self.key.atom.into(),
            value: self.value.as_ref().map(|v| v.atom.into()),
            min: 0,
            max: UNLIMITED,
        }
    }
}

/// English, for error messages: `set of up to 4096 integers`.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_scalar() {
            return f.write_str(self.key.atom.name());
        }
        f.write_str(if self.is_map() { "map of " } else { "set of " })?;
        if self.max == UNLIMITED {
            if self.min > 0 {
                write!(f, "{} or more ", self.min)?;
            }
        } else if self.min > 0 {
            write!(f, "{} to {} ", self.min, self.max)?;
        } else {
            write!(f, "up to {} ", self.max)?;
        }
        match &self.value {
            Some(value) => write!(f, "({}, {}) pairs", self.key.atom.name(), value.atom.name()),
            None => write!(f, "{}s", self.key.atom.name()),
        }
    }
}
