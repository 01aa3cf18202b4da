//! What one column of one row holds: a set or a map of atoms.
//!
//! Both are vectors sorted by atom (by key), without duplicates. All operations keep that, and the
//! ones that meet two datums are single merge passes, so a change costs the size of the changed
//! value and nothing else.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Value, json};

use super::atom::{Atom, AtomType, NoSymbols, Symbols};
use super::column_type::ColumnType;
use super::uuid::Uuid;
use crate::error::{Error, Result};

/// A set or map of atoms; a scalar is a set of one element.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// Sorted unique atoms. Build it with [`Datum::set`].
    Set(Vec<Atom>),
    /// Pairs sorted by unique key. Build it with [`Datum::map`].
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// One value.
    pub fn scalar(atom: impl Into<Atom>) -> Datum {
        Datum::Set(vec![atom.into()])
    }

    /// A set; duplicates collapse.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Datum {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort();
        atoms.dedup();
        Datum::Set(atoms)
    }

    /// A map; of equal keys the last wins.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum {
        let mut pairs: Vec<(Atom, Atom)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        // Stable sort: of equal keys the later stands behind, and replaces the earlier.
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
        Datum::Map(pairs)
    }

    /// Reads a `<value>` of type `ty` with its count and constraints.
    pub(super) fn parse_json(
        json: &Value,
        ty: &ColumnType,
        symbols: &mut dyn Symbols,
    ) -> Result<Datum> {
        let kind = if ty.is_map() { "map" } else { "set" };
        let class = match json.as_array().map(Vec::as_slice) {
            Some([Value::String(k), rest @ ..]) if k == "set" || k == "map" => Some((k, rest)),
            _ => None,
        };
        let expected = || Error::syntax(Some(json), format!("expected [\"{kind}\", <array>]"));
        let items = match class {
            Some((k, [Value::Array(items)])) if k == kind => items,
            _ if ty.is_map() => return Err(expected()),
            Some((k, _)) if k == "set" => return Err(expected()),
            _ => return Ok(Datum::Set(vec![ty.key.parse_atom_json(json, symbols)?])),
        };
        if !ty.allows_len(items.len()) {
            let n = items.len();
            let wanted = match (ty.min, ty.max) {
                (1, 1) => "exactly one member".to_owned(),
                (min, super::UNLIMITED) => format!("{min} or more members"),
                (min, max) => format!("{min} to {max} members"),
            };
            return Err(Error::syntax(
                Some(json),
                format!("{kind} must have {wanted} but {n} are present"),
            ));
        }
        match &ty.value {
            None => {
                let mut atoms = Vec::with_capacity(items.len());
                for item in items {
                    atoms.push(ty.key.parse_atom_json(item, symbols)?);
                }
                Datum::checked_set(atoms)
                    .map_err(|_| Error::new("ovsdb error", "set contains duplicate"))
            }
            Some(value) => {
                let mut pairs = Vec::with_capacity(items.len());
                for item in items {
                    let Some([k, v]) = item.as_array().map(Vec::as_slice) else {
                        return Err(Error::syntax(Some(item), "expected 2-element array"));
                    };
                    pairs.push((
                        ty.key.parse_atom_json(k, symbols)?,
                        value.parse_atom_json(v, symbols)?,
                    ));
                }
                Datum::checked_map(pairs)
                    .map_err(|_| Error::new("ovsdb error", "map contains duplicate key"))
            }
        }
    }

    /// A set of any size without constraints (an `enum`, for example).
    pub(super) fn parse_set_json(json: &Value, atom: AtomType) -> Result<Datum> {
        let ty = ColumnType { min: 0, max: super::UNLIMITED, ..ColumnType::scalar(atom) };
        Datum::parse_json(json, &ty, &mut NoSymbols)
    }

    /// A set of atoms that must be distinct; `Err` gives a duplicate.
    pub(super) fn checked_set(mut atoms: Vec<Atom>) -> std::result::Result<Datum, Atom> {
        atoms.sort();
        match atoms.windows(2).find(|w| w[0] == w[1]) {
            Some(w) => Err(w[0].clone()),
            None => Ok(Datum::Set(atoms)),
        }
    }

    /// A map with keys that must be distinct; `Err` gives a duplicate.
    pub(super) fn checked_map(mut pairs: Vec<(Atom, Atom)>) -> std::result::Result<Datum, Atom> {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        match pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            Some(w) => Err(w[0].0.clone()),
            None => Ok(Datum::Map(pairs)),
        }
    }

    /// The `<value>` of RFC 7047 §5.1; a set of one element is that element.
    pub fn to_json(&self) -> Value {
        self.to_json_named(&|_| None)
    }

    /// Like [`Datum::to_json`], but a UUID that `name` knows becomes a `named-uuid`.
    pub fn to_json_named(&self, name: &dyn Fn(Uuid) -> Option<String>) -> Value {
        match self {
            Datum::Set(atoms) => match atoms.as_slice() {
                [atom] => atom.to_json_named(name),
                atoms => {
                    let atoms: Vec<Value> = atoms.iter().map(|a| a.to_json_named(name)).collect();
                    json!(["set", atoms])
                }
            },
            Datum::Map(pairs) => {
                let pairs: Vec<Value> = pairs
                    .iter()
                    .map(|(k, v)| json!([k.to_json_named(name), v.to_json_named(name)]))
                    .collect();
                json!(["map", pairs])
            }
        }
    }

    /// The text of `ovs-vsctl list` for a column of type `ty`: no brackets around the element of
    /// a scalar or optional scalar.
    pub fn to_text(&self, ty: &ColumnType) -> String {
        match self {
            Datum::Set(atoms) if ty.max == 1 && atoms.len() == 1 => atoms[0].to_string(),
            _ => self.to_string(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Datum::Set(atoms) => atoms.len(),
            Datum::Map(pairs) => pairs.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of a set, or keys of a map.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Atom> {
        let (set, map): (&[Atom], &[(Atom, Atom)]) = match self {
            Datum::Set(atoms) => (atoms, &[]),
            Datum::Map(pairs) => (&[], pairs),
        };
        (0..set.len().max(map.len())).map(move |i| set.get(i).unwrap_or_else(|| &map[i].0))
    }

    /// Pairs of a map; none for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        if let Datum::Map(pairs) = self { pairs } else { &[] }
    }

    /// Whether `atom` is an element or a key.
    pub fn contains_key(&self, atom: &Atom) -> bool {
        match self {
            Datum::Set(atoms) => atoms.binary_search(atom).is_ok(),
            Datum::Map(pairs) => pairs.binary_search_by(|p| p.0.cmp(atom)).is_ok(),
        }
    }

    /// The value of `key` in a map.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let Datum::Map(pairs) = self else { return None };
        pairs.binary_search_by(|p| p.0.cmp(key)).ok().map(|i| &pairs[i].1)
    }

    /// The value of string key `key` in a map of strings.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let Datum::Map(pairs) = self else { return None };
        let found = pairs.binary_search_by(|p| p.0.as_str().unwrap_or("").cmp(key)).ok()?;
        pairs[found].1.as_str()
    }

    /// The only element of a set of one.
    pub fn as_scalar(&self) -> Option<&Atom> {
        match self {
            Datum::Set(atoms) if atoms.len() == 1 => atoms.first(),
            _ => None,
        }
    }

    /// Whether every element (pair) of `other` is in `self`.
    pub fn includes_all(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Set(_), Datum::Set(atoms)) => atoms.iter().all(|a| self.contains_key(a)),
            (Datum::Map(_), Datum::Map(pairs)) => pairs.iter().all(|(k, v)| self.get(k) == Some(v)),
            _ => other.is_empty(),
        }
    }

    /// Whether no element (pair) of `other` is in `self`.
    pub fn excludes_all(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Set(_), Datum::Set(atoms)) => !atoms.iter().any(|a| self.contains_key(a)),
            (Datum::Map(_), Datum::Map(pairs)) => {
                !pairs.iter().any(|(k, v)| self.get(k) == Some(v))
            }
            _ => true,
        }
    }

    /// Adds the elements of `other`; a key that is present keeps its value (RFC 7047 §5.1
    /// `insert`), unless `replace`.
    pub fn union(&mut self, other: &Datum, replace: bool) {
        match (self, other) {
            (Datum::Set(a), Datum::Set(b)) if b.len() <= FEW => {
                for atom in b {
                    if let Err(i) = a.binary_search(atom) {
                        a.insert(i, atom.clone());
                    }
                }
            }
            (Datum::Map(a), Datum::Map(b)) if b.len() <= FEW => {
                for pair in b {
                    match a.binary_search_by(|p| p.0.cmp(&pair.0)) {
                        Ok(i) if replace => a[i].1 = pair.1.clone(),
                        Ok(_) => {}
                        Err(i) => a.insert(i, pair.clone()),
                    }
                }
            }
            (Datum::Set(a), Datum::Set(b)) => {
                let mut out = Vec::with_capacity(a.len() + b.len());
                merge(a, b, Atom::cmp, |side| match side {
                    Side::Left(x) | Side::Right(x) | Side::Both(x, _) => out.push(x.clone()),
                });
                *a = out;
            }
            (Datum::Map(a), Datum::Map(b)) => {
                let mut out = Vec::with_capacity(a.len() + b.len());
                merge(a, b, cmp_keys, |side| match side {
                    Side::Both(_, y) if replace => out.push(y.clone()),
                    Side::Left(x) | Side::Right(x) | Side::Both(x, _) => out.push(x.clone()),
                });
                *a = out;
            }
            _ => {}
        }
    }

    /// Removes the elements of `other`: from a map, pairs that are equal, or with a set, keys.
    pub fn subtract(&mut self, other: &Datum) {
        match (self, other) {
            (Datum::Set(a), Datum::Set(_)) => a.retain(|atom| !other.contains_key(atom)),
            (Datum::Map(a), Datum::Set(_)) => a.retain(|pair| !other.contains_key(&pair.0)),
            (Datum::Map(a), Datum::Map(_)) => a.retain(|pair| other.get(&pair.0) != Some(&pair.1)),
            (Datum::Set(_), Datum::Map(_)) => {}
        }
    }

    /// The difference that [`Datum::apply_diff`] turns `self` into `new` with: what `update2` and
    /// the log carry. Elements in one of the two sets; pairs in one of the two maps, and the new
    /// pair where values differ.
    #[must_use]
    pub fn diff(&self, new: &Datum) -> Datum {
        match (self, new) {
            (Datum::Set(a), Datum::Set(b)) => {
                let mut out = Vec::new();
                merge(a, b, Atom::cmp, |side| match side {
                    Side::Both(..) => {}
                    Side::Left(x) | Side::Right(x) => out.push(x.clone()),
                });
                Datum::Set(out)
            }
            (Datum::Map(a), Datum::Map(b)) => Datum::Map(diff_maps(a, b)),
            _ => new.clone(),
        }
    }

    /// Applies a difference made by [`Datum::diff`].
    pub fn apply_diff(&mut self, diff: &Datum) {
        match (&mut *self, diff) {
            (Datum::Set(a), Datum::Set(b)) if b.len() <= FEW => {
                for atom in b {
                    match a.binary_search(atom) {
                        Ok(i) => drop(a.remove(i)),
                        Err(i) => a.insert(i, atom.clone()),
                    }
                }
            }
            (Datum::Map(a), Datum::Map(b)) => {
                let mut out = Vec::with_capacity(a.len() + b.len());
                merge(a, b, cmp_keys, |side| match side {
                    Side::Both(x, y) if x.1 == y.1 => {}
                    Side::Both(_, y) => out.push(y.clone()),
                    Side::Left(x) | Side::Right(x) => out.push(x.clone()),
                });
                *a = out;
            }
            _ => *self = self.diff(diff),
        }
    }

    /// Calls `f` for every element of a set, or pair of a map, that only `old` has (`false`) or
    /// only `new` has (`true`), with the key and, of a pair, the value.
    pub fn each_change<'a>(
        old: Option<&'a Datum>,
        new: Option<&'a Datum>,
        mut f: impl FnMut(bool, &Atom, Option<&Atom>),
    ) {
        let set = |datum: Option<&'_ Datum>| matches!(datum, None | Some(Datum::Set(_)));
        if set(old) && set(new) {
            let atoms = |datum: Option<&'a Datum>| -> &'a [Atom] {
                if let Some(Datum::Set(atoms)) = datum { atoms } else { &[] }
            };
            merge(atoms(old), atoms(new), Atom::cmp, |side| match side {
                Side::Both(..) => {}
                Side::Left(x) => f(false, x, None),
                Side::Right(x) => f(true, x, None),
            });
        } else {
            let (old, new) = (old.map_or(&[][..], Datum::pairs), new.map_or(&[][..], Datum::pairs));
            merge(old, new, cmp_keys, |side| match side {
                Side::Both(x, y) if x.1 == y.1 => {}
                Side::Both(x, y) => {
                    f(true, &y.0, Some(&y.1));
                    f(false, &x.0, Some(&x.1));
                }
                Side::Left(x) => f(false, &x.0, Some(&x.1)),
                Side::Right(x) => f(true, &x.0, Some(&x.1)),
            });
        }
    }
}

/// So many elements are put one by one into a large datum; more are merged.
const FEW: usize = 8;

fn diff_maps(a: &[(Atom, Atom)], b: &[(Atom, Atom)]) -> Vec<(Atom, Atom)> {
    let mut out = Vec::new();
    merge(a, b, cmp_keys, |side| match side {
        Side::Both(x, y) if x.1 == y.1 => {}
        Side::Both(_, y) => out.push(y.clone()),
        Side::Left(x) | Side::Right(x) => out.push(x.clone()),
    });
    out
}

fn cmp_keys(a: &(Atom, Atom), b: &(Atom, Atom)) -> Ordering {
    a.0.cmp(&b.0)
}

/// Where an element of a merge stands.
enum Side<'a, T> {
    Left(&'a T),
    Right(&'a T),
    Both(&'a T, &'a T),
}

/// Walks through sorted `a` and `b` together.
fn merge<'a, T>(
    a: &'a [T],
    b: &'a [T],
    cmp: impl Fn(&T, &T) -> Ordering,
    mut f: impl FnMut(Side<'a, T>),
) {
    let (mut i, mut j) = (0, 0);
    loop {
        let side = match (a.get(i), b.get(j)) {
            (None, None) => return,
            (Some(x), None) => Side::Left(x),
            (None, Some(y)) => Side::Right(y),
            (Some(x), Some(y)) => match cmp(x, y) {
                Ordering::Less => Side::Left(x),
                Ordering::Greater => Side::Right(y),
                Ordering::Equal => Side::Both(x, y),
            },
        };
        i += usize::from(!matches!(side, Side::Right(_)));
        j += usize::from(!matches!(side, Side::Left(_)));
        f(side);
    }
}

/// The text of `ovs-vsctl list` for a set or map: `[a, b]`, `{k=v}`.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Set(atoms) => {
                f.write_str("[")?;
                for (i, atom) in atoms.iter().enumerate() {
                    write!(f, "{}{atom}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Datum::Map(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}={value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn set(s: &BTreeSet<i64>) -> Datum {
        Datum::set(s.iter().copied())
    }

    fn map(m: &BTreeMap<i64, i64>) -> Datum {
        Datum::map(m.iter().map(|(k, v)| (*k, *v)))
    }

    proptest! {
        /// Against the sets and maps of the standard library, above and below what is done one
        /// by one.
        #[test]
        fn operations_are_those_of_sets_and_maps(
            a in prop::collection::btree_set(0i64..30, 0..20),
            b in prop::collection::btree_set(0i64..30, 0..20),
            m in prop::collection::btree_map(0i64..30, 0i64..3, 0..20),
            n in prop::collection::btree_map(0i64..30, 0i64..3, 0..20),
        ) {
            let mut union = set(&a);
            union.union(&set(&b), false);
            prop_assert_eq!(&union, &set(&(&a | &b)));
            let mut rest = set(&a);
            rest.subtract(&set(&b));
            prop_assert_eq!(&rest, &set(&(&a - &b)));
            prop_assert_eq!(set(&a).diff(&set(&b)), set(&(&a ^ &b)));
            prop_assert_eq!(set(&a).includes_all(&set(&b)), b.is_subset(&a));
            prop_assert_eq!(set(&a).excludes_all(&set(&b)), b.is_disjoint(&a));
            for replace in [false, true] {
                let mut union = map(&m);
                union.union(&map(&n), replace);
                let (first, then) = if replace { (&m, &n) } else { (&n, &m) };
                let expected: BTreeMap<i64, i64> =
                    first.iter().chain(then).map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(union, map(&expected));
            }
            let mut rest = map(&m);
            rest.subtract(&map(&n));
            let kept = m.iter().filter(|(k, v)| n.get(k) != Some(v)).map(|(k, v)| (*k, *v));
            prop_assert_eq!(rest, Datum::map(kept));
            for (old, new) in [(set(&a), set(&b)), (map(&m), map(&n))] {
                let mut patched = old.clone();
                patched.apply_diff(&old.diff(&new));
                prop_assert_eq!(&patched, &new);
                let (mut came, mut went) = (0, 0);
                Datum::each_change(Some(&old), Some(&new), |c, _, _| {
                    if c { came += 1 } else { went += 1 }
                });
                let mut only_old = old.clone();
                only_old.subtract(&new);
                let mut only_new = new.clone();
                only_new.subtract(&old);
                prop_assert_eq!((went, came), (only_old.len(), only_new.len()));
            }
        }
    }

    #[test]
    fn json_keeps_values() {
        let ty = ColumnType {
            value: Some(AtomType::Real.into()),
            min: 0,
            max: super::super::UNLIMITED,
            ..ColumnType::scalar(AtomType::String)
        };
        for json in [json!(["map", []]), json!(["map", [["a", 1], ["b", 0.5], ["c", 1e20]]])] {
            let datum = ty.parse_json_datum(&json, &mut NoSymbols).unwrap();
            assert_eq!(datum.to_json(), json);
        }
        let names = |uuid| (uuid == Uuid(7)).then(|| "row7".to_owned());
        let datum = Datum::set([Uuid(7), Uuid(8)]);
        let eight = Uuid(8).to_string();
        assert_eq!(
            datum.to_json_named(&names),
            json!(["set", [["named-uuid", "row7"], ["uuid", eight]]])
        );
    }
}
