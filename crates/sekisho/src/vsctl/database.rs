//! The commands that work on any table: `list find get set add remove clear create destroy wait-until`.

use ovsdb::{Atom, Datum};

use super::command::{ANY, Command, Ctx, Stop};
use super::record::{
    check_mutable, column_named, column_of, condition, find_row, must_find_row, parse_operand,
    read, set_column, table_named,
};
use super::replica::RowId;
use crate::table::{Cell, Table};

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "comment",
        usage: "*ARG",
        help: "no effect; noted in the database's log",
        args: (0, ANY),
        options: &[],
        run: |_| Ok(()),
    },
    Command {
        name: "get",
        usage: "!TABLE !RECORD *COLUMN?:KEY",
        help: "print values of COLumns in RECord in TBL",
        args: (2, ANY),
        options: &["--if-exists", "--id="],
        run: get,
    },
    Command {
        name: "list",
        usage: "!TABLE *RECORD",
        help: "list RECord (or all records) in TBL",
        args: (1, ANY),
        options: &["--if-exists", "--columns="],
        run: list,
    },
    Command {
        name: "find",
        usage: "!TABLE *COLUMN?:KEY=VALUE",
        help: "list records satisfying CONDITION in TBL",
        args: (1, ANY),
        options: &["--columns="],
        run: find,
    },
    Command {
        name: "set",
        usage: "!TABLE !RECORD +COLUMN?:KEY=VALUE",
        help: "set COLumn values in RECord in TBL",
        args: (3, ANY),
        options: &["--if-exists"],
        run: set,
    },
    Command {
        name: "add",
        usage: "!TABLE !RECORD !COLUMN +?KEY=VALUE",
        help: "add (KEY=)VALUE to COLumn in RECord in TBL",
        args: (4, ANY),
        options: &["--if-exists"],
        run: add,
    },
    Command {
        name: "remove",
        usage: "!TABLE !RECORD !COLUMN +KEY|VALUE|KEY=VALUE",
        help: "remove (KEY=)VALUE from COLumn",
        args: (4, ANY),
        options: &["--if-exists"],
        run: remove,
    },
    Command {
        name: "clear",
        usage: "!TABLE !RECORD +COLUMN",
        help: "clear values from COLumn in RECord in TBL",
        args: (3, ANY),
        options: &["--if-exists"],
        run: clear,
    },
    Command {
        name: "create",
        usage: "!TABLE +COLUMN?:KEY=VALUE",
        help: "create and initialize new record",
        args: (2, ANY),
        options: &["--id="],
        run: create,
    },
    Command {
        name: "destroy",
        usage: "!TABLE *RECORD",
        help: "delete RECord from TBL",
        args: (1, ANY),
        options: &["--if-exists", "--all"],
        run: destroy,
    },
    Command {
        name: "wait-until",
        usage: "!TABLE !RECORD *COLUMN?:KEY=VALUE",
        help: "wait until condition is true",
        args: (2, ANY),
        options: &[],
        run: wait_until,
    },
];

/// The table that the first argument names.
fn table(ctx: &Ctx<'_, '_>) -> Result<usize, Stop> {
    table_named(ctx.txn.schema(), ctx.arg(1))
}

/// The row that the second argument names; `None` if it is missing and `--if-exists` was given.
fn row(ctx: &Ctx<'_, '_>, table: usize) -> Result<Option<RowId>, Stop> {
    if ctx.has("--if-exists") {
        find_row(ctx.txn, table, ctx.arg(2))
    } else {
        must_find_row(ctx.txn, table, ctx.arg(2)).map(Some)
    }
}

fn get(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    if ctx.has("--id") && ctx.has("--if-exists") {
        return Err(Stop::fatal("--if-exists and --id may not be specified together"));
    }
    let Some(id) = row(ctx, table)? else { return Ok(()) };
    if let Some(name) = ctx.option("--id") {
        ctx.symbols.create(name, Some(id.uuid), ctx.uuids).map_err(Stop::Fatal)?;
    }
    let schema = ctx.txn.schema().clone();
    for arg in &ctx.argv[3..] {
        let operand = parse_operand(&schema, table, arg, &[])?;
        let column = &schema.tables[table].columns[operand.column];
        ctx.txn.verify(id, operand.column);
        let value = read(ctx.txn, id, operand.column);
        let Some(key) = operand.key else {
            ctx.line(value.to_text(&column.ty));
            continue;
        };
        if !column.ty.is_map() {
            let name = &column.name;
            return Err(Stop::fatal(format!(
                "cannot specify key to get for non-map column {name}"
            )));
        }
        let key = column.ty.key.parse_text(key, &mut ctx.symbols.references(ctx.uuids, false))?;
        match value.get(&key) {
            Some(atom) => ctx.line(atom),
            None if ctx.has("--if-exists") => ctx.line(""),
            None => {
                let key = Datum::scalar(key).to_json();
                return Err(Stop::fatal(format!(
                    "no key {key} in {} record \"{}\" column {}",
                    schema.tables[table].name,
                    ctx.arg(2),
                    column.name
                )));
            }
        }
    }
    Ok(())
}

/// The columns to show: those of `--columns`, or all in alphabetical order.
fn columns(ctx: &Ctx<'_, '_>, table: usize) -> Result<Vec<usize>, Stop> {
    let schema = ctx.txn.schema();
    match ctx.option("--columns") {
        Some(list) => {
            let names: Vec<&str> =
                list.split([',', ' ', '\t', '\n', '\r']).filter(|n| !n.is_empty()).collect();
            if names.is_empty() {
                return Err(Stop::fatal("must specify at least one column name"));
            }
            names.into_iter().map(|n| column_named(schema, table, n)).collect()
        }
        None => {
            let all = &schema.tables[table].columns;
            let mut numbers: Vec<usize> =
                (0..all.len()).filter(|i| *i != ovsdb::schema::COL_VERSION).collect();
            numbers.sort_by_key(|i| &all[*i].name);
            Ok(numbers)
        }
    }
}

fn empty_table(ctx: &Ctx<'_, '_>, table: usize, columns: &[usize]) -> Table {
    Table::new(columns.iter().map(|i| column_of(ctx.txn, table, *i).name.clone()))
}

fn push_row(ctx: &Ctx<'_, '_>, output: &mut Table, id: RowId, columns: &[usize]) {
    let cells = columns
        .iter()
        .map(|i| Cell::Value(read(ctx.txn, id, *i), column_of(ctx.txn, id.table, *i).ty.clone()));
    output.rows.push(cells.collect());
}

fn list(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let columns = columns(ctx, table)?;
    let mut output = empty_table(ctx, table, &columns);
    let mut rows = Vec::new();
    if ctx.argv.len() > 2 {
        for word in &ctx.argv[2..] {
            let found = if ctx.has("--if-exists") {
                find_row(ctx.txn, table, word)?
            } else {
                Some(must_find_row(ctx.txn, table, word)?)
            };
            rows.extend(found);
        }
    } else {
        rows.extend(ctx.txn.rows(table).map(|(id, _)| id));
    }
    for id in rows {
        push_row(ctx, &mut output, id, &columns);
    }
    ctx.output.table = Some(output);
    Ok(())
}

/// Are all conditions (arguments from `first` on) true of the row?
fn satisfies(ctx: &mut Ctx<'_, '_>, id: RowId, first: usize) -> Result<bool, Stop> {
    for arg in &ctx.argv[first..] {
        if !condition(ctx.txn, id, arg, ctx.symbols, ctx.uuids)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn find(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let columns = columns(ctx, table)?;
    let mut output = empty_table(ctx, table, &columns);
    let rows: Vec<RowId> = ctx.txn.rows(table).map(|(id, _)| id).collect();
    // A mistake in a condition is one even if there is no row to try it on.
    for arg in &ctx.argv[2..] {
        let nobody = RowId { table, uuid: ovsdb::Uuid::ZERO };
        condition(ctx.txn, nobody, arg, ctx.symbols, ctx.uuids)?;
    }
    for id in rows {
        if satisfies(ctx, id, 2)? {
            push_row(ctx, &mut output, id, &columns);
        }
    }
    ctx.output.table = Some(output);
    Ok(())
}

fn set(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let Some(id) = row(ctx, table)? else { return Ok(()) };
    for arg in &ctx.argv[3..] {
        set_column(ctx, id, arg, false)?;
    }
    Ok(())
}

/// The column that the third argument names, which must be one to change.
fn column_to_change(ctx: &Ctx<'_, '_>, table: usize, word: &str) -> Result<usize, Stop> {
    let column = column_named(ctx.txn.schema(), table, word)?;
    check_mutable(ctx.txn.schema(), table, column)?;
    Ok(column)
}

fn add(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let Some(id) = row(ctx, table)? else { return Ok(()) };
    let column = column_to_change(ctx, table, ctx.arg(3))?;
    let ty = column_of(ctx.txn, table, column).ty.clone();
    let mut value = read(ctx.txn, id, column);
    for text in &ctx.argv[4..] {
        let mut refs = ctx.symbols.references(ctx.uuids, ty.has_refs(true));
        let more = ty.parse_text_any_len(text, &mut refs)?;
        if more.len() > ty.max as usize {
            return Err(Stop::fatal(format!(
                "{text}: {} value(s) specified but the maximum number is {}",
                more.len(),
                ty.max
            )));
        }
        value.union(&more, true);
    }
    if !ty.allows_len(value.len()) {
        // The server would say so.
        let details = format!("Attempted to store {} elements in {ty}.", value.len());
        let error = ovsdb::Error::constraint(details).to_json();
        let text = format!("transaction error: {error}");
        ctx.warnings.push(("ovsdb_idl", text.clone()));
        return Err(Stop::Fatal(text));
    }
    ctx.txn.verify(id, column);
    ctx.txn.write(id, column, value);
    Ok(())
}

fn remove(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let Some(id) = row(ctx, table)? else { return Ok(()) };
    let column = column_to_change(ctx, table, ctx.arg(3))?;
    let ty = column_of(ctx.txn, table, column).ty.clone();
    let mut value = read(ctx.txn, id, column);
    for text in &ctx.argv[4..] {
        let mut refs = ctx.symbols.references(ctx.uuids, false);
        // From a map, pairs or just keys can be removed.
        let loose = ty.unbounded();
        let less = match loose.parse_text_any_len(text, &mut refs) {
            Err(_) if ty.is_map() => {
                let keys = ovsdb::ColumnType { value: None, ..loose };
                keys.parse_text_any_len(text, &mut refs)?
            }
            other => other?,
        };
        value.subtract(&less);
    }
    if value.len() < ty.min as usize {
        let schema = ctx.txn.schema();
        return Err(Stop::fatal(format!(
            "\"remove\" operation would put {} {} in column {} of table {} but the minimum number is {}",
            value.len(),
            if ty.is_map() { "pairs" } else { "values" },
            column_of(ctx.txn, table, column).name,
            schema.tables[table].name,
            ty.min
        )));
    }
    ctx.txn.verify(id, column);
    ctx.txn.write(id, column, value);
    Ok(())
}

fn clear(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let Some(id) = row(ctx, table)? else { return Ok(()) };
    for word in &ctx.argv[3..] {
        let column = column_to_change(ctx, table, word)?;
        let schema = column_of(ctx.txn, table, column);
        if schema.ty.min > 0 {
            return Err(Stop::fatal(format!(
                "\"clear\" operation cannot be applied to column {} of table {}, which is not \
                 allowed to be empty",
                schema.name,
                ctx.txn.schema().tables[table].name
            )));
        }
        let empty = schema.ty.default_datum();
        ctx.txn.write(id, column, empty);
    }
    Ok(())
}

fn create(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let schema = ctx.txn.schema().clone();
    let uuid = match ctx.option("--id") {
        Some(name) => {
            let uuid = ctx.symbols.create(name, None, ctx.uuids).map_err(Stop::Fatal)?;
            if schema.tables[table].is_root {
                // Such a row lives without a reference.
                ovsdb::types::Symbols::resolve(&mut ctx.symbols.references(ctx.uuids, true), name);
            }
            uuid
        }
        None => {
            if !schema.tables[table].is_root {
                let text = format!(
                    "applying \"create\" command to table {} without --id option will have no effect",
                    schema.tables[table].name
                );
                ctx.warnings.push(("db_ctl_base", text));
            }
            ctx.uuids.generate()
        }
    };
    let id = ctx.txn.insert(table, uuid);
    for arg in &ctx.argv[2..] {
        set_column(ctx, id, arg, true)?;
    }
    ctx.output.created = Some(id);
    Ok(())
}

fn destroy(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    if ctx.has("--all") && ctx.argv.len() > 2 {
        return Err(Stop::fatal("--all and records argument should not be specified together"));
    }
    if ctx.has("--all") && ctx.has("--if-exists") {
        return Err(Stop::fatal("--all and --if-exists should not be specified together"));
    }
    let mut rows = Vec::new();
    if ctx.has("--all") {
        rows.extend(ctx.txn.rows(table).map(|(id, _)| id));
    }
    for word in &ctx.argv[2..] {
        if ctx.has("--if-exists") {
            rows.extend(find_row(ctx.txn, table, word)?);
        } else {
            rows.push(must_find_row(ctx.txn, table, word)?);
        }
    }
    for id in rows {
        ctx.txn.delete(id);
    }
    Ok(())
}

fn wait_until(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = table(ctx)?;
    let Some(id) = find_row(ctx.txn, table, ctx.arg(2))? else { return Err(Stop::TryAgain) };
    if satisfies(ctx, id, 3)? { Ok(()) } else { Err(Stop::TryAgain) }
}

/// Strings of a column that is a set of them, or one string.
pub fn strings(datum: &Datum) -> Vec<String> {
    datum.keys().filter_map(Atom::as_str).map(str::to_owned).collect()
}
