//! Database schemas: RFC 7047 §3.2.
//!
//! Columns of a table are numbered: 0 is `_uuid`, 1 is `_version`, then those of the schema by name.
//! A row is a vector in that order, so a column is looked up by name once and by number afterwards.
//!
//! The two schemas a switch needs are data files of this crate: `Open_vSwitch` as published with
//! Open vSwitch 3.1 (8.3.1, Apache-2.0), and `_Server` (ovsdb-server(5)), which clients read first.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::types::{AtomType, ColumnType, Constraint, Datum, is_id};

/// Number of column `_uuid`.
pub const COL_UUID: usize = 0;
/// Number of column `_version`.
pub const COL_VERSION: usize = 1;
/// Number of the first column of the schema.
pub const FIRST_COL: usize = 2;

/// The text of the `Open_vSwitch` schema.
pub const OPEN_VSWITCH: &str = include_str!("../schemas/vswitch.ovsschema");
/// The text of the `_Server` schema.
pub const SERVER: &str = include_str!("../schemas/_server.ovsschema");

/// `<column-schema>`.
#[derive(Debug, Clone)]
pub struct ColumnSchema {
    /// Name, unique in the table.
    pub name: String,
    /// What values it holds.
    pub ty: ColumnType,
    /// Not stored on disk.
    pub ephemeral: bool,
    /// May change after the row is inserted.
    pub mutable: bool,
    /// What a new row has here, shared by all rows that did not change it.
    pub default: Arc<Datum>,
}

/// `<table-schema>`.
#[derive(Debug, Clone)]
pub struct TableSchema {
    /// Name, unique in the database.
    pub name: String,
    /// Columns, `_uuid` and `_version` first.
    pub columns: Vec<ColumnSchema>,
    by_name: HashMap<String, usize>,
    /// Most rows, or `None` for no limit.
    pub max_rows: Option<u64>,
    /// Rows live without a strong reference to them.
    pub is_root: bool,
    /// Sets of columns that identify a row, by number.
    pub indexes: Vec<Vec<usize>>,
}

/// `<database-schema>`.
#[derive(Debug, Clone)]
pub struct DbSchema {
    /// Name of the database.
    pub name: String,
    /// `x.y.z`.
    pub version: String,
    /// The checksum the schema carries (`"3012963480 26720"`), not verified here; may be empty.
    pub cksum: String,
    /// Tables by name.
    pub tables: Vec<TableSchema>,
    by_name: HashMap<String, usize>,
}

impl ColumnSchema {
    fn new(name: &str, ty: ColumnType, ephemeral: bool, mutable: bool) -> Self {
        let default = Arc::new(ty.default_datum());
        ColumnSchema { name: name.to_owned(), ty, ephemeral, mutable, default }
    }

    fn parse_json(name: &str, json: &Value) -> Result<Self> {
        let bad = |details: &str| Error::syntax(Some(json), details);
        let map = json.as_object().ok_or_else(|| bad("Object expected."))?;
        only_members(json, &["mutable", "ephemeral", "type"])?;
        let flag = |name: &str, default| match map.get(name) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(_) => Err(bad(&format!("Type mismatch for member '{name}'."))),
        };
        let ty = map.get("type").ok_or_else(|| bad("Required 'type' member is missing."))?;
        let ty = ColumnType::parse_json(ty)?;
        Ok(ColumnSchema::new(name, ty, flag("ephemeral", false)?, flag("mutable", true)?))
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("type".into(), self.ty.to_json());
        if self.ephemeral {
            map.insert("ephemeral".into(), json!(true));
        }
        if !self.mutable {
            map.insert("mutable".into(), json!(false));
        }
        Value::Object(map)
    }
}

fn only_members(json: &Value, allowed: &[&str]) -> Result<()> {
    for name in json.as_object().into_iter().flat_map(Map::keys) {
        if !allowed.contains(&name.as_str()) {
            return Err(Error::syntax(
                Some(json),
                format!("Member '{name}' is present but not allowed here."),
            ));
        }
    }
    Ok(())
}

impl TableSchema {
    fn parse_json(name: &str, json: &Value) -> Result<Self> {
        let bad = |details: String| Error::syntax(Some(json), details);
        only_members(json, &["columns", "maxRows", "isRoot", "indexes"])?;
        let Some(Value::Object(columns)) = json.get("columns") else {
            return Err(bad("Required 'columns' member is missing.".into()));
        };
        if columns.is_empty() {
            return Err(bad("table must have at least one column".into()));
        }
        let uuid = ColumnType::scalar(AtomType::Uuid);
        let mut table = TableSchema {
            name: name.to_owned(),
            columns: vec![
                ColumnSchema::new("_uuid", uuid.clone(), false, false),
                ColumnSchema::new("_version", uuid, true, false),
            ],
            by_name: HashMap::new(),
            max_rows: match json.get("maxRows").map(Value::as_u64) {
                None => None,
                Some(Some(n @ 1..)) => Some(n),
                Some(_) => return Err(bad("maxRows must be at least 1".into())),
            },
            is_root: match json.get("isRoot").map(Value::as_bool) {
                None => false,
                Some(Some(is_root)) => is_root,
                Some(None) => return Err(bad("Type mismatch for member 'isRoot'.".into())),
            },
            indexes: Vec::new(),
        };
        for (name, column) in columns {
            if name.starts_with('_') {
                return Err(bad(format!("names beginning with \"_\" are reserved: {name}")));
            }
            if !is_id(name) {
                return Err(bad(format!("name must be a valid id: {name}")));
            }
            table.columns.push(ColumnSchema::parse_json(name, column)?);
        }
        table.by_name =
            table.columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        for index in json.get("indexes").and_then(Value::as_array).into_iter().flatten() {
            let mut numbers = Vec::new();
            for name in index.as_array().into_iter().flatten() {
                let number = name.as_str().and_then(|name| table.column_index(name));
                numbers.push(number.ok_or_else(|| {
                    Error::syntax(Some(index), format!("{name} is not a valid column name"))
                })?);
            }
            if numbers.is_empty() {
                return Err(Error::syntax(Some(index), "index must have at least one column"));
            }
            if let Some(&i) = numbers.iter().find(|&&i| table.columns[i].ephemeral) {
                let name = &table.columns[i].name;
                return Err(bad(format!("ephemeral columns (such as {name}) may not be indexed")));
            }
            table.indexes.push(numbers);
        }
        Ok(table)
    }

    fn to_json(&self, write_root: bool) -> Value {
        let columns: Map<String, Value> =
            self.columns[FIRST_COL..].iter().map(|c| (c.name.clone(), c.to_json())).collect();
        let mut map = Map::new();
        map.insert("columns".into(), Value::Object(columns));
        if let Some(n) = self.max_rows {
            map.insert("maxRows".into(), json!(n));
        }
        if write_root && self.is_root {
            map.insert("isRoot".into(), json!(true));
        }
        if !self.indexes.is_empty() {
            let names = |index: &Vec<usize>| -> Vec<&str> {
                index.iter().map(|&i| self.columns[i].name.as_str()).collect()
            };
            map.insert("indexes".into(), json!(self.indexes.iter().map(names).collect::<Vec<_>>()));
        }
        Value::Object(map)
    }

    /// The number of column `name`.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The column `name`.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.column_index(name).map(|i| &self.columns[i])
    }
}

impl DbSchema {
    /// The `Open_vSwitch` schema 8.3.1.
    pub fn open_vswitch() -> DbSchema {
        DbSchema::parse_str(OPEN_VSWITCH).expect("the schema in this crate is valid")
    }

    /// The `_Server` schema 1.2.0.
    pub fn server() -> DbSchema {
        DbSchema::parse_str(SERVER).expect("the schema in this crate is valid")
    }

    /// Reads the text of a `.ovsschema` file.
    ///
    /// # Errors
    /// `syntax error` if it is not JSON or not a schema.
    pub fn parse_str(text: &str) -> Result<DbSchema> {
        let json: Value = serde_json::from_str(text)
            .map_err(|e| Error::syntax(None, format!("schema is not JSON: {e}")))?;
        DbSchema::parse_json(&json)
    }

    /// Reads a `<database-schema>`.
    ///
    /// # Errors
    /// `syntax error`.
    pub fn parse_json(json: &Value) -> Result<DbSchema> {
        let bad = |details: String| Error::syntax(Some(json), details);
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let missing = |name: &str| {
            bad(format!("Parsing database schema failed: Required '{name}' member is missing."))
        };
        let name = text("name").ok_or_else(|| missing("name"))?;
        if !is_id(&name) {
            return Err(bad(format!("name must be a valid id: {name}")));
        }
        let Some(Value::Object(tables)) = json.get("tables") else { return Err(missing("tables")) };
        let mut schema = DbSchema {
            name,
            version: text("version").unwrap_or_default(),
            cksum: text("cksum").unwrap_or_default(),
            tables: Vec::with_capacity(tables.len()),
            by_name: HashMap::new(),
        };
        let version: Vec<&str> = schema.version.split('.').collect();
        if version.len() != 3 || version.iter().any(|part| part.parse::<u32>().is_err()) {
            return Err(bad(format!("schema version \"{}\" not in format x.y.z", schema.version)));
        }
        for (name, table) in tables {
            if !is_id(name) || name.starts_with('_') {
                return Err(bad(format!("name must be a valid id: {name}")));
            }
            schema.by_name.insert(name.clone(), schema.tables.len());
            schema.tables.push(TableSchema::parse_json(name, table)?);
        }
        // RFC 7047 §3.2: without any root table, every table is one.
        if !schema.tables.iter().any(|t| t.is_root) {
            schema.tables.iter_mut().for_each(|t| t.is_root = true);
        }
        for table in &schema.tables {
            for column in &table.columns {
                for base in column.ty.bases() {
                    if let Constraint::Reference { table: target, .. } = &base.constraint
                        && !schema.by_name.contains_key(target)
                    {
                        return Err(bad(format!(
                            "Column {} in table {} refers to undefined table {target}.",
                            column.name, table.name
                        )));
                    }
                }
            }
        }
        Ok(schema)
    }

    /// The `<database-schema>`, in its shortest form, as `get_schema` answers.
    pub fn to_json(&self) -> Value {
        let mixed_roots = !self.tables.iter().all(|t| t.is_root);
        let tables: Map<String, Value> =
            self.tables.iter().map(|t| (t.name.clone(), t.to_json(mixed_roots))).collect();
        let mut map = Map::new();
        map.insert("name".into(), json!(self.name));
        map.insert("version".into(), json!(self.version));
        if !self.cksum.is_empty() {
            map.insert("cksum".into(), json!(self.cksum));
        }
        map.insert("tables".into(), Value::Object(tables));
        Value::Object(map)
    }

    /// Whether both describe the same tables, whatever their version and checksum are.
    pub fn same_tables(&self, other: &DbSchema) -> bool {
        let tables = |schema: &DbSchema| schema.to_json().get("tables").cloned();
        tables(self) == tables(other)
    }

    /// The number of table `name`.
    pub fn table_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The table `name`.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.table_index(name).map(|i| &self.tables[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_schemas_survive_json() {
        for schema in [DbSchema::open_vswitch(), DbSchema::server()] {
            let again = DbSchema::parse_json(&schema.to_json()).unwrap();
            assert_eq!(again.to_json(), schema.to_json());
        }
        let schema = DbSchema::open_vswitch();
        assert_eq!((schema.name.as_str(), schema.version.as_str()), ("Open_vSwitch", "8.3.1"));
        let bridge = schema.table("Bridge").unwrap();
        assert!(!bridge.is_root && schema.table("Open_vSwitch").unwrap().is_root);
        assert!(!bridge.column("name").unwrap().mutable);
        assert!(bridge.column("status").unwrap().ephemeral);
        assert_eq!(bridge.indexes, [vec![bridge.column_index("name").unwrap()]]);
        assert!(DbSchema::server().tables.iter().all(|t| t.is_root));
    }

    #[test]
    fn bad_schemas_are_refused() {
        let column = |ty: &str| {
            format!(
                r#"{{"name":"D","version":"1.0.0","tables":{{"T":{{"columns":{{"c":{{"type":{ty}}}}}}}}}}}"#
            )
        };
        assert!(DbSchema::parse_str(&column("\"integer\"")).is_ok());
        for ty in [
            r#""int""#,
            r#"{"key":"integer","min":2}"#,
            r#"{"key":"integer","max":0}"#,
            r#"{"key":{"type":"uuid","refTable":"Nope"}}"#,
            r#"{"key":{"type":"uuid","refTable":"T","refType":"weird"}}"#,
            r#"{"key":{"type":"integer","minInteger":2,"maxInteger":1}}"#,
            r#"{"key":{"type":"integer","enum":["set",[1]],"minInteger":2}}"#,
            r#"{"key":{"type":"string","minInteger":2}}"#,
            r#"{}"#,
        ] {
            assert!(DbSchema::parse_str(&column(ty)).is_err(), "{ty}");
        }
        assert!(DbSchema::parse_str(r#"{"name":"D","version":"1","tables":{}}"#).is_err());
    }
}
