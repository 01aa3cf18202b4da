//! `@names` of rows within one call: given by `--id=@name`, used where a UUID is expected, in any order.

use std::collections::BTreeMap;

use ovsdb::types::Symbols;
use ovsdb::{Uuid, UuidGen};

/// What is known of one name.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    uuid: Uuid,
    created: bool,
    strong_ref: bool,
    weak_ref: bool,
}

/// All names of a call.
#[derive(Debug, Default)]
pub struct SymbolTable {
    symbols: BTreeMap<String, Symbol>,
}

impl SymbolTable {
    fn entry(&mut self, name: &str, uuids: &mut UuidGen) -> &mut Symbol {
        self.symbols.entry(name.to_owned()).or_insert_with(|| Symbol {
            uuid: uuids.generate(),
            created: false,
            strong_ref: false,
            weak_ref: false,
        })
    }

    /// `--id=NAME`: the identity that the row has to get; `existing` if the row has one already.
    ///
    /// # Errors
    /// A name without `@`, or one that was given before.
    pub fn create(
        &mut self,
        name: &str,
        existing: Option<Uuid>,
        uuids: &mut UuidGen,
    ) -> Result<Uuid, String> {
        if !name.starts_with('@') {
            return Err(format!("row id \"{name}\" does not begin with \"@\""));
        }
        let symbol = self.entry(name, uuids);
        if symbol.created {
            return Err(format!("row id \"{name}\" may only be specified on one --id option"));
        }
        symbol.created = true;
        if let Some(uuid) = existing {
            // A name of an existing row has to be given before it is used.
            symbol.strong_ref = true;
            symbol.uuid = uuid;
        }
        Ok(symbol.uuid)
    }

    /// Reads names in a value of a column whose references are strong or not.
    pub fn references<'a>(&'a mut self, uuids: &'a mut UuidGen, strong: bool) -> References<'a> {
        References { table: self, uuids, strong }
    }

    /// Names that are used but never given, and given but never used.
    ///
    /// # Errors
    /// The text for the first name that is never given.
    pub fn check(&self) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        for (name, symbol) in &self.symbols {
            if !symbol.created {
                return Err(format!(
                    "row id \"{name}\" is referenced but never created \
                     (e.g. with \"-- --id={name} create ...\")"
                ));
            }
            if !symbol.strong_ref {
                let what = if symbol.weak_ref { "only a weak reference" } else { "no reference" };
                warnings.push(format!(
                    "row id \"{name}\" was created but {what} to it was inserted, so it will not \
                     actually appear in the database"
                ));
            }
        }
        Ok(warnings)
    }
}

/// Resolves the names in one value.
pub struct References<'a> {
    table: &'a mut SymbolTable,
    uuids: &'a mut UuidGen,
    strong: bool,
}

impl Symbols for References<'_> {
    fn resolve(&mut self, name: &str) -> Option<Uuid> {
        let symbol = self.table.entry(name, self.uuids);
        if self.strong {
            symbol.strong_ref = true;
        } else {
            symbol.weak_ref = true;
        }
        Some(symbol.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let (mut t, mut g) = (SymbolTable::default(), UuidGen::from_seed(1));
        let used = t.references(&mut g, true).resolve("@a").unwrap();
        assert!(
            t.check().unwrap_err().starts_with("row id \"@a\" is referenced but never created")
        );
        assert_eq!(t.create("@a", None, &mut g).unwrap(), used);
        assert!(
            t.create("@a", None, &mut g).unwrap_err().contains("only be specified on one --id")
        );
        assert!(t.create("a", None, &mut g).unwrap_err().contains("does not begin with"));
        assert!(t.check().unwrap().is_empty());
        t.create("@b", None, &mut g).unwrap();
        assert!(t.check().unwrap()[0].contains("no reference to it"));
        t.references(&mut g, false).resolve("@b");
        assert!(t.check().unwrap()[0].contains("only a weak reference to it"));
        t.create("@c", Some(Uuid(5)), &mut g).unwrap();
        assert_eq!(t.references(&mut g, true).resolve("@c"), Some(Uuid(5)));
    }
}
