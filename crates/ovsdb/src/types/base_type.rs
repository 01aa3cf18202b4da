//! `<base-type>` of RFC 7047 §3.2: an atomic type and what its values must satisfy.

use serde_json::{Map, Value, json};

use super::atom::{Atom, AtomType, NoSymbols, Symbols};
use super::datum::Datum;
use crate::error::{Error, Result};

/// What values of a base type must satisfy. A type has at most one kind of constraint.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// Anything of the type.
    None,
    /// One of these values (a set).
    Enum(Datum),
    /// Integers from `.0` to `.1` inclusive.
    Integer(i64, i64),
    /// Reals from `.0` to `.1` inclusive.
    Real(f64, f64),
    /// Strings of `.0` to `.1` characters.
    Length(u32, u32),
    /// A row of `table`; a strong reference keeps the row alive.
    Reference {
        /// Name of the table.
        table: String,
        /// `refType` is `strong`.
        strong: bool,
    },
}

/// An atomic type with its constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseType {
    /// The type of the atoms.
    pub atom: AtomType,
    /// What else they must satisfy.
    pub constraint: Constraint,
}

impl From<AtomType> for BaseType {
    fn from(atom: AtomType) -> Self {
        BaseType { atom, constraint: Constraint::None }
    }
}

impl BaseType {
    /// Reads `<base-type>`.
    ///
    /// # Errors
    /// `syntax error` if the JSON is not a base type.
    pub fn parse_json(json: &Value) -> Result<BaseType> {
        let bad = |details: String| Error::syntax(Some(json), details);
        let name_of = |v: &Value| {
            v.as_str()
                .and_then(AtomType::from_name)
                .ok_or_else(|| Error::syntax(Some(v), "atomic-type expected"))
        };
        let Some(map) = json.as_object() else {
            return name_of(json).map(BaseType::from);
        };
        let atom = name_of(map.get("type").ok_or_else(|| {
            bad("Parsing ovsdb type failed: Required 'type' member is missing.".into())
        })?)?;
        let mut base = BaseType::from(atom);
        if let Some(value) = map.get("enum") {
            let set = Datum::parse_set_json(value, atom)?;
            if set.is_empty() {
                return Err(bad("enum must have at least one value".into()));
            }
            base.constraint = Constraint::Enum(set);
        }
        let number = |name: &str, wanted: AtomType| -> Result<Option<Atom>> {
            match map.get(name) {
                Some(v) if atom == wanted => {
                    let as_type =
                        if wanted == AtomType::String { AtomType::Integer } else { wanted };
                    as_type.parse_json(v, &mut NoSymbols).map(Some)
                }
                Some(_) => Err(bad(format!("{name} does not apply to type {}", atom.name()))),
                None => Ok(None),
            }
        };
        let int = |a: Option<Atom>, default| a.and_then(|a| a.as_integer()).unwrap_or(default);
        let real = |a: Option<Atom>, default| a.and_then(|a| a.as_real()).unwrap_or(default);
        let (low, high) = (
            int(number("minInteger", AtomType::Integer)?, i64::MIN),
            int(number("maxInteger", AtomType::Integer)?, i64::MAX),
        );
        if low > high {
            return Err(bad("minInteger exceeds maxInteger".into()));
        }
        let (rlow, rhigh) = (
            real(number("minReal", AtomType::Real)?, f64::MIN),
            real(number("maxReal", AtomType::Real)?, f64::MAX),
        );
        if rlow > rhigh {
            return Err(bad("minReal exceeds maxReal".into()));
        }
        let length = |a, default: u32| u32::try_from(int(a, i64::from(default)));
        let lengths = (
            length(number("minLength", AtomType::String)?, 0),
            length(number("maxLength", AtomType::String)?, u32::MAX),
        );
        let (Ok(short), Ok(long)) = lengths else {
            return Err(bad("minLength and maxLength must be small nonnegative integers".into()));
        };
        if short > long {
            return Err(bad("minLength exceeds maxLength".into()));
        }
        let found = match atom {
            AtomType::Integer if (low, high) != (i64::MIN, i64::MAX) => {
                Constraint::Integer(low, high)
            }
            AtomType::Real if (rlow, rhigh) != (f64::MIN, f64::MAX) => {
                Constraint::Real(rlow, rhigh)
            }
            AtomType::String if (short, long) != (0, u32::MAX) => Constraint::Length(short, long),
            _ => match map.get("refTable") {
                Some(Value::String(table)) if atom == AtomType::Uuid => {
                    let strong = match map.get("refType").map(Value::as_str) {
                        None | Some(Some("strong")) => true,
                        Some(Some("weak")) => false,
                        Some(_) => {
                            return Err(bad(
                                "refType must be \"strong\" or \"weak\" (not \"\")".into()
                            ));
                        }
                    };
                    Constraint::Reference { table: table.clone(), strong }
                }
                Some(_) => return Err(bad("refTable must name a table, for type uuid".into())),
                None => Constraint::None,
            },
        };
        if found != Constraint::None {
            if base.constraint != Constraint::None {
                return Err(bad("enum cannot be combined with other constraints".into()));
            }
            base.constraint = found;
        }
        Ok(base)
    }

    /// The `<base-type>`, in its shortest form.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.into(), value);
        match &self.constraint {
            Constraint::None => return Value::from(self.atom.name()),
            Constraint::Enum(set) => {
                put("enum", set.to_json());
            }
            Constraint::Integer(low, high) => {
                if *low != i64::MIN {
                    put("minInteger", json!(low));
                }
                if *high != i64::MAX {
                    put("maxInteger", json!(high));
                }
            }
            Constraint::Real(low, high) => {
                if *low != f64::MIN {
                    put("minReal", Atom::real(*low).to_json());
                }
                if *high != f64::MAX {
                    put("maxReal", Atom::real(*high).to_json());
                }
            }
            Constraint::Length(low, high) => {
                if *low != 0 {
                    put("minLength", json!(low));
                }
                if *high != u32::MAX {
                    put("maxLength", json!(high));
                }
            }
            Constraint::Reference { table, strong } => {
                put("refTable", json!(table));
                if !strong {
                    put("refType", json!("weak"));
                }
            }
        }
        put("type", json!(self.atom.name()));
        Value::Object(map)
    }

    /// Reads an atom and checks its constraint.
    ///
    /// # Errors
    /// `syntax error` or `constraint violation`.
    pub fn parse_atom_json(&self, json: &Value, symbols: &mut dyn Symbols) -> Result<Atom> {
        let atom = self.atom.parse_json(json, symbols)?;
        self.check(&atom)?;
        Ok(atom)
    }

    /// The table and strength of the reference, if this is one.
    pub fn reference(&self) -> Option<(&str, bool)> {
        match &self.constraint {
            Constraint::Reference { table, strong } => Some((table, *strong)),
            _ => None,
        }
    }

    /// The allowed values, if they are enumerated.
    pub fn allowed(&self) -> Option<&Datum> {
        if let Constraint::Enum(set) = &self.constraint { Some(set) } else { None }
    }

    /// Checks `atom`, which must be of this atomic type, against the constraint.
    ///
    /// # Errors
    /// `constraint violation`, worded as OVS words it.
    pub fn check(&self, atom: &Atom) -> Result<()> {
        match (&self.constraint, atom) {
            (Constraint::Enum(set), _) if !set.contains_key(atom) => {
                Err(Error::constraint(format!("{atom} is not one of the allowed values ({set})")))
            }
            (Constraint::Integer(low, high), Atom::Integer(n)) if n < low || n > high => {
                let (has_low, has_high) = (*low != i64::MIN, *high != i64::MAX);
                Err(out_of_range(n, has_low.then_some(low), has_high.then_some(high)))
            }
            (Constraint::Real(low, high), Atom::Real(n)) if n < low || n > high => {
                let (has_low, has_high) = (*low != f64::MIN, *high != f64::MAX);
                Err(out_of_range(n, has_low.then_some(low), has_high.then_some(high)))
            }
            (Constraint::Length(low, high), Atom::String(s)) => {
                let n = s.chars().count();
                if n < *low as usize {
                    Err(Error::constraint(format!(
                        "\"{s}\" length {n} is less than minimum allowed length {low}"
                    )))
                } else if n > *high as usize {
                    Err(Error::constraint(format!(
                        "\"{s}\" length {n} is greater than maximum allowed length {high}"
                    )))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

fn out_of_range<T: std::fmt::Display>(n: &T, low: Option<&T>, high: Option<&T>) -> Error {
    Error::constraint(match (low, high) {
        (Some(low), Some(high)) => {
            format!("{n} is not in the valid range {low} to {high} (inclusive)")
        }
        (Some(low), None) => format!("{n} is less than minimum allowed value {low}"),
        (None, high) => {
            let high = high.unwrap_or(n);
            format!("{n} is greater than maximum allowed value {high}")
        }
    })
}
