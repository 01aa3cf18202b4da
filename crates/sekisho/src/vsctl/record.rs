//! How words of a command name tables, columns, rows and values (ovs-vsctl(8), "Identifying Tables,
//! Records, and Columns" and "Database Values").

use std::cmp::Ordering;

use ovsdb::types::TextParser;
use ovsdb::{Atom, ColumnSchema, ColumnType, Datum, DbSchema, Uuid, UuidGen};

use super::command::{Ctx, Stop};
use super::replica::{RowId, Txn};
use super::symbols::SymbolTable;

/// A way to name a row other than by its UUID.
struct RowName {
    /// Table whose rows are named.
    table: &'static str,
    /// Table that is searched, and its column that holds the name; no column means that the name is `.`.
    by: (&'static str, Option<&'static str>),
    /// Column of the found row that refers to the row that is meant, if it is another one.
    via: Option<&'static str>,
}

const ROW_NAMES: &[RowName] = &[
    RowName { table: "AutoAttach", by: ("Bridge", Some("name")), via: Some("auto_attach") },
    RowName { table: "Bridge", by: ("Bridge", Some("name")), via: None },
    RowName { table: "Controller", by: ("Bridge", Some("name")), via: Some("controller") },
    RowName {
        table: "Flow_Sample_Collector_Set",
        by: ("Flow_Sample_Collector_Set", Some("id")),
        via: None,
    },
    RowName { table: "Flow_Table", by: ("Flow_Table", Some("name")), via: None },
    RowName { table: "IPFIX", by: ("Bridge", Some("name")), via: Some("ipfix") },
    RowName { table: "Interface", by: ("Interface", Some("name")), via: None },
    RowName { table: "Manager", by: ("Manager", Some("target")), via: None },
    RowName { table: "Mirror", by: ("Mirror", Some("name")), via: None },
    RowName { table: "NetFlow", by: ("Bridge", Some("name")), via: Some("netflow") },
    RowName { table: "Open_vSwitch", by: ("Open_vSwitch", None), via: None },
    RowName { table: "Port", by: ("Port", Some("name")), via: None },
    RowName { table: "QoS", by: ("Port", Some("name")), via: Some("qos") },
    RowName { table: "SSL", by: ("Open_vSwitch", None), via: Some("ssl") },
    RowName { table: "sFlow", by: ("Bridge", Some("name")), via: Some("sflow") },
];

/// The name in `names` that `word` is, or abbreviates; case and `-` against `_` do not matter.
fn best_match<'n>(
    names: impl Iterator<Item = &'n str>,
    word: &str,
) -> Result<&'n str, Vec<&'n str>> {
    let plain = |s: &str| s.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(word);
    let mut partial = Vec::new();
    let mut same = None;
    for name in names {
        if name == word {
            return Ok(name);
        }
        let name_plain = plain(name);
        if name_plain == wanted {
            same = Some(name);
        } else if name_plain.starts_with(&wanted) {
            partial.push(name);
        }
    }
    match (same, partial.as_slice()) {
        (Some(name), _) | (None, &[name]) => Ok(name),
        _ => Err(partial),
    }
}

/// The number of the table that `word` names.
///
/// # Errors
/// No table, or more than one.
pub fn table_named(schema: &DbSchema, word: &str) -> Result<usize, Stop> {
    match best_match(schema.tables.iter().map(|t| t.name.as_str()), word) {
        Ok(name) => {
            schema.table_index(name).ok_or_else(|| Stop::fatal(format!("unknown table \"{word}\"")))
        }
        Err(many) if !many.is_empty() && !word.is_empty() => Err(Stop::fatal(format!(
            "\"{word}\" matches multiple table names: {}",
            many.join(", ")
        ))),
        Err(_) => Err(Stop::fatal(format!("unknown table \"{word}\""))),
    }
}

/// The number of the column of `table` that `word` names.
///
/// # Errors
/// No column, or more than one.
pub fn column_named(schema: &DbSchema, table: usize, word: &str) -> Result<usize, Stop> {
    let table = &schema.tables[table];
    let names = table.columns.iter().map(|c| c.name.as_str()).filter(|n| *n != "_version");
    match best_match(names, word) {
        Ok(name) => Ok(table.column_index(name).unwrap_or_default()),
        Err(mut many) if !many.is_empty() => {
            many.sort_unstable();
            Err(Stop::fatal(format!(
                "{} contains more than one column whose name matches \"{word}\": {}",
                table.name,
                many.join(", ")
            )))
        }
        Err(_) => Err(Stop::fatal(format!(
            "{} does not contain a column whose name matches \"{word}\"",
            table.name
        ))),
    }
}

/// The row of `table` that `word` names: a UUID, one of [`ROW_NAMES`], or the beginning of a UUID.
///
/// # Errors
/// More than one row.
pub fn find_row(txn: &Txn<'_>, table: usize, word: &str) -> Result<Option<RowId>, Stop> {
    if let Ok(uuid) = word.parse::<Uuid>() {
        let id = RowId { table, uuid };
        return Ok(txn.row(id).map(|_| id));
    }
    let schema = txn.schema();
    let table_name = &schema.tables[table].name;
    for way in ROW_NAMES.iter().filter(|w| w.table == table_name) {
        let Some(by) = schema.table_index(way.by.0) else { continue };
        let column = |name: &str| schema.tables[by].column_index(name);
        let mut found = None;
        for (id, row) in txn.rows(by) {
            let matches = match way.by.1 {
                None => word == ".",
                Some(name) => column(name).is_some_and(|i| {
                    row[i].as_scalar().is_some_and(|atom| match atom {
                        Atom::String(s) => &**s == word,
                        other => other.to_string() == word,
                    })
                }),
            };
            if matches {
                if found.is_some() {
                    return Err(Stop::fatal(format!(
                        "multiple rows in {} match \"{word}\"",
                        way.by.0
                    )));
                }
                found = Some((id, row));
            }
        }
        let target = match (found, way.via) {
            (Some((id, _)), None) => Some(id),
            (Some((_, row)), Some(via)) => {
                let refs: Vec<Uuid> = column(via)
                    .map(|i| row[i].keys().filter_map(Atom::as_uuid).collect())
                    .unwrap_or_default();
                match refs.as_slice() {
                    &[uuid] => Some(RowId { table, uuid }),
                    _ => None,
                }
            }
            (None, _) => None,
        };
        if let Some(id) = target.filter(|id| txn.row(*id).is_some()) {
            return Ok(Some(id));
        }
    }
    if word.len() >= 4 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        let wanted = word.to_ascii_lowercase();
        let mut matches =
            txn.rows(table).map(|(id, _)| id).filter(|id| id.uuid.to_string().starts_with(&wanted));
        if let Some(id) = matches.next() {
            if matches.next().is_some() {
                return Err(Stop::fatal(format!(
                    "{table_name} contains 2 or more rows whose UUIDs begin with {word}"
                )));
            }
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// As [`find_row`], and a row that does not exist is a mistake.
///
/// # Errors
/// No row, or more than one.
pub fn must_find_row(txn: &Txn<'_>, table: usize, word: &str) -> Result<RowId, Stop> {
    find_row(txn, table, word)?.ok_or_else(|| {
        let table = &txn.schema().tables[table].name;
        Stop::fatal(format!("no row \"{word}\" in table {table}"))
    })
}

/// An argument `column[:key][OPERATOR value]`, taken apart.
pub struct Operand<'a> {
    /// Number of the column.
    pub column: usize,
    /// Text of the key.
    pub key: Option<&'a str>,
    /// Operator and text of the value.
    pub value: Option<(&'a str, &'a str)>,
}

/// Takes an argument apart; `operators` lists those that may follow (longest first where one begins
/// another), none means that nothing may.
///
/// # Errors
/// As OVS words them.
pub fn parse_operand<'a>(
    schema: &DbSchema,
    table: usize,
    arg: &'a str,
    operators: &[&'static str],
) -> Result<Operand<'a>, Stop> {
    let mut p = TextParser::new(arg);
    let name = p.token()?;
    if name.is_empty() {
        return Err(Stop::fatal(format!("{arg}: missing column name")));
    }
    let column = column_named(schema, table, name)?;
    let key = if p.eat(":") { Some(p.token()?) } else { None };
    if operators.is_empty() {
        return if p.rest().is_empty() {
            Ok(Operand { column, key, value: None })
        } else {
            let rest = p.rest();
            Err(Stop::fatal(format!("{arg}: trailing garbage \"{rest}\" in argument")))
        };
    }
    let rest = p.rest();
    let operator = operators.iter().filter(|o| rest.starts_with(**o)).max_by_key(|o| o.len());
    match operator {
        Some(operator) if rest.len() > operator.len() => {
            Ok(Operand { column, key, value: Some((operator, &rest[operator.len()..])) })
        }
        _ => {
            let quoted: Vec<String> = operators.iter().map(|o| format!("\"{o}\"")).collect();
            let list = match quoted.as_slice() {
                [one] => one.clone(),
                [all @ .., last] => format!("{}, or {last}", all.join(", ")),
                [] => String::new(),
            };
            Err(Stop::fatal(format!("{arg}: argument does not end in {list} followed by a value.")))
        }
    }
}

/// Reads the text of a whole value of a column.
///
/// # Errors
/// As OVS words them.
pub fn parse_value(
    ty: &ColumnType,
    text: &str,
    symbols: &mut SymbolTable,
    uuids: &mut UuidGen,
) -> Result<Datum, Stop> {
    Ok(ty.parse_text(text, &mut symbols.references(uuids, ty.has_refs(true)))?)
}

/// A column that commands may change.
///
/// # Errors
/// The column is read-only.
pub fn check_mutable(schema: &DbSchema, table: usize, column: usize) -> Result<(), Stop> {
    let table = &schema.tables[table];
    let column = &table.columns[column];
    if column.mutable && !column.name.starts_with('_') {
        return Ok(());
    }
    let (name, table) = (&column.name, &table.name);
    Err(Stop::fatal(format!("cannot modify read-only column {name} in table {table}")))
}

/// Sets a column, or one key of it, by an argument `column[:key]=value`.
///
/// # Errors
/// As OVS words them.
pub fn set_column(ctx: &mut Ctx<'_, '_>, id: RowId, arg: &str, creating: bool) -> Result<(), Stop> {
    let schema = ctx.txn.schema().clone();
    let operand = parse_operand(&schema, id.table, arg, &["="])?;
    let column = &schema.tables[id.table].columns[operand.column];
    if !creating {
        check_mutable(&schema, id.table, operand.column)?;
    }
    let (_, text) = operand.value.unwrap_or_default();
    let value = match operand.key {
        None => parse_value(&column.ty, text, ctx.symbols, ctx.uuids)?,
        Some(key) => {
            let Some(value_type) = &column.ty.value else {
                let name = &column.name;
                let text = format!("cannot specify key to set for non-map column {name}");
                return Err(Stop::fatal(text));
            };
            let mut refs = ctx.symbols.references(ctx.uuids, column.ty.has_refs(true));
            let key = column.ty.key.parse_text(key, &mut refs)?;
            let pair = Datum::Map(vec![(key, value_type.parse_text(text, &mut refs)?)]);
            ctx.txn.verify(id, operand.column);
            let mut datum = read(ctx.txn, id, operand.column);
            datum.union(&pair, true);
            datum
        }
    };
    ctx.txn.write(id, operand.column, value);
    Ok(())
}

/// A column's value; the default of its type if the row is gone.
pub fn read(txn: &Txn<'_>, id: RowId, column: usize) -> Datum {
    match txn.row(id) {
        Some(row) => row[column].clone(),
        None => column_of(txn, id.table, column).ty.default_datum(),
    }
}

/// The schema of a column.
pub fn column_of<'s>(txn: &'s Txn<'_>, table: usize, column: usize) -> &'s ColumnSchema {
    &txn.schema().tables[table].columns[column]
}

/// Operators of conditions, in the order of OVS's message.
const RELATIONS: &[&str] = &[
    "=", "!=", "<", ">", "<=", ">=", "{=}", "{!=}", "{<}", "{>}", "{<=}", "{>=}", "{in}",
    "{not-in}",
];

/// Is the condition `column[:key]OPERATORvalue` true of the row?
///
/// # Errors
/// As OVS words them.
pub fn condition(
    txn: &Txn<'_>,
    id: RowId,
    arg: &str,
    symbols: &mut SymbolTable,
    uuids: &mut UuidGen,
) -> Result<bool, Stop> {
    let schema = txn.schema().clone();
    let operand = parse_operand(&schema, id.table, arg, RELATIONS)?;
    let (operator, text) = operand.value.unwrap_or_default();
    let column = &schema.tables[id.table].columns[operand.column];
    let have = read(txn, id, operand.column);
    let (have, want, present) = match operand.key {
        None => (have, parse_value(&column.ty, text, symbols, uuids)?, true),
        Some(key) => {
            let Some(value_type) = &column.ty.value else {
                let name = &column.name;
                return Err(Stop::fatal(format!(
                    "cannot specify key to check for non-map column {name}"
                )));
            };
            let key = column.ty.key.parse_text(key, &mut symbols.references(uuids, false))?;
            let value = have.get(&key).cloned();
            // With a key, the sets that are compared hold the value of that key, or nothing.
            let set = ColumnType {
                key: value_type.clone(),
                value: None,
                min: 0,
                max: ovsdb::types::UNLIMITED,
            };
            let want = if operator.starts_with('{') {
                parse_value(&set, text, symbols, uuids)?
            } else {
                let scalar = ColumnType::scalar(value_type.clone());
                parse_value(&scalar, text, symbols, uuids)?
            };
            let present = value.is_some();
            (Datum::Set(value.into_iter().collect()), want, present)
        }
    };
    Ok(match operator {
        "{=}" => have == want,
        "{!=}" => have != want,
        "{<=}" | "{in}" => want.includes_all(&have),
        "{<}" => want.includes_all(&have) && have.len() < want.len(),
        "{>=}" => have.includes_all(&want),
        "{>}" => have.includes_all(&want) && have.len() > want.len(),
        "{not-in}" => have.excludes_all(&want),
        _ if !present => false,
        _ => {
            let order = compare(&have, &want);
            match operator {
                "=" => order.is_eq(),
                "!=" => order.is_ne(),
                "<" => order.is_lt(),
                ">" => order.is_gt(),
                "<=" => order.is_le(),
                _ => order.is_ge(),
            }
        }
    })
}

/// The order of values that ovs-vsctl(8) "find" describes: fewer elements first, then keys, then values.
fn compare(a: &Datum, b: &Datum) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.keys().cmp(b.keys()))
        .then_with(|| a.pairs().iter().map(|p| &p.1).cmp(b.pairs().iter().map(|p| &p.1)))
}

#[cfg(test)]
mod tests {
    use super::super::replica::Replica;
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn text(stop: Stop) -> String {
        match stop {
            Stop::Fatal(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn replica() -> Replica {
        let mut r = Replica::new(Arc::new(DbSchema::open_vswitch()));
        r.apply(&json!({
            "Bridge": {
                "abcd1111-1111-4111-8111-111111111111": {"new": {"name": "br0", "flood_vlans":
                    ["set", [1, 2]], "other_config": ["map", [["foo", "1"]]]}},
                "abcd2222-1111-4111-8111-111111111111": {"new": {"name": "br1"}},
            },
        }))
        .unwrap();
        r
    }

    #[test]
    fn names() {
        let s = DbSchema::open_vswitch();
        let table = |w: &str| table_named(&s, w).map(|i| s.tables[i].name.clone()).map_err(text);
        assert_eq!(table("Bridge"), Ok("Bridge".into()));
        assert_eq!(table("b"), Ok("Bridge".into()));
        assert_eq!(table("net"), Ok("NetFlow".into()));
        assert_eq!(table("open-v"), Ok("Open_vSwitch".into()));
        assert_eq!(
            table("c"),
            Err("\"c\" matches multiple table names: CT_Timeout_Policy, CT_Zone, Controller".into())
        );
        assert_eq!(table("nosuch"), Err("unknown table \"nosuch\"".into()));
        let bridge = s.table_index("Bridge").unwrap();
        let column = |w: &str| {
            column_named(&s, bridge, w)
                .map(|i| s.tables[bridge].columns[i].name.clone())
                .map_err(text)
        };
        assert_eq!(column("NAM"), Ok("name".into()));
        assert_eq!(column("other-config"), Ok("other_config".into()));
        assert_eq!(column("_u"), Ok("_uuid".into()));
        assert_eq!(
            column("p"),
            Err("Bridge contains more than one column whose name matches \"p\": ports, protocols"
                .into())
        );
        assert_eq!(
            column("bogus"),
            Err("Bridge does not contain a column whose name matches \"bogus\"".into())
        );
    }

    #[test]
    fn rows() {
        let r = replica();
        let txn = Txn::new(&r);
        let bridge = r.schema.table_index("Bridge").unwrap();
        let find = |w: &str| {
            find_row(&txn, bridge, w).map(|r| r.map(|r| r.uuid.to_string()[..8].to_owned()))
        };
        assert_eq!(find("br0").unwrap().as_deref(), Some("abcd1111"));
        assert_eq!(
            find("abcd2222-1111-4111-8111-111111111111").unwrap().as_deref(),
            Some("abcd2222")
        );
        assert_eq!(find("abcd2").unwrap().as_deref(), Some("abcd2222"));
        assert_eq!(find("br9").unwrap(), None);
        assert!(
            text(find("abcd").unwrap_err()).contains("2 or more rows whose UUIDs begin with abcd")
        );
    }

    #[test]
    fn conditions() {
        let r = replica();
        let txn = Txn::new(&r);
        let bridge = r.schema.table_index("Bridge").unwrap();
        let br0 = must_find_row(&txn, bridge, "br0").unwrap();
        let check = |arg: &str| {
            let (mut s, mut g) = (SymbolTable::default(), UuidGen::from_seed(1));
            condition(&txn, br0, arg, &mut s, &mut g)
        };
        for yes in [
            "name=br0",
            "name!=br1",
            "name<br1",
            "other_config:foo=1",
            "other_config:bar{!=}1",
            "flood_vlans=1,2",
            "flood_vlans{>=}1",
            "flood_vlans{>}1",
            "flood_vlans{<=}1,2,3",
            "flood_vlans{not-in}7,8",
            "flood_vlans<1,2,3",
            "_uuid=abcd1111-1111-4111-8111-111111111111",
            "name{in}br0",
        ] {
            assert!(check(yes).unwrap(), "{yes}");
        }
        for no in ["name=br1", "other_config:bar!=1", "flood_vlans{in}1", "flood_vlans{<}1,2"] {
            assert!(!check(no).unwrap(), "{no}");
        }
        assert!(text(check("name").unwrap_err()).starts_with(
            "name: argument does not end in \"=\", \"!=\", \"<\", \">\", \"<=\", \">=\", \"{=}\", "
        ));
        assert!(
            text(check("name").unwrap_err()).ends_with(", or \"{not-in}\" followed by a value.")
        );
        assert_eq!(text(check("=1").unwrap_err()), "=1: missing column name");
    }
}
