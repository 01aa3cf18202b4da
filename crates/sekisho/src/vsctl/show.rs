//! `show`: the switch as an indented tree.

use std::fmt::Write;

use ovsdb::{Atom, Uuid};

use super::command::{Command, Ctx, Stop};
use super::record::{column_of, read};
use super::replica::{RowId, Txn};

/// The command.
pub const COMMANDS: &[Command] = &[Command {
    name: "show",
    args: (0, 0),
    usage: "",
    help: "print overview of database contents",
    options: &[],
    run: show,
}];

/// What is shown of a row: the column that names it, then columns in this order.
struct Shown {
    table: &'static str,
    name: &'static str,
    columns: &'static [&'static str],
}

const SHOWN: &[Shown] = &[
    Shown {
        table: "Open_vSwitch",
        name: "",
        columns: &["manager_options", "bridges", "ovs_version"],
    },
    Shown {
        table: "Bridge",
        name: "name",
        columns: &["controller", "fail_mode", "datapath_type", "ports"],
    },
    Shown { table: "Port", name: "name", columns: &["tag", "trunks", "interfaces"] },
    Shown { table: "Interface", name: "name", columns: &["type", "options", "error"] },
    Shown { table: "Controller", name: "target", columns: &["is_connected"] },
    Shown { table: "Manager", name: "target", columns: &["is_connected"] },
];

fn show(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let table = ctx.txn.table(SHOWN[0].table)?;
    let rows: Vec<RowId> = ctx.txn.rows(table).map(|(id, _)| id).collect();
    for id in rows {
        row(ctx.txn, id, &SHOWN[0], 0, &mut ctx.output.text)?;
    }
    Ok(())
}

fn row(
    txn: &Txn<'_>,
    id: RowId,
    shown: &Shown,
    depth: usize,
    out: &mut String,
) -> Result<(), Stop> {
    let indent = " ".repeat(4 * depth);
    let title = if shown.name.is_empty() {
        id.uuid.to_string()
    } else {
        let column = txn.column(id.table, shown.name)?;
        let name = read(txn, id, column).to_text(&column_of(txn, id.table, column).ty);
        format!("{} {name}", shown.table)
    };
    let _ = writeln!(out, "{indent}{title}");
    for name in shown.columns {
        let column = txn.column(id.table, name)?;
        let schema = column_of(txn, id.table, column);
        let value = read(txn, id, column);
        let target = schema.ty.key.reference().map(|(table, _)| table);
        if let Some(below) = target.and_then(|t| SHOWN.iter().find(|s| s.table == t)) {
            let table = txn.table(below.table)?;
            let uuids: Vec<Uuid> = value.keys().filter_map(Atom::as_uuid).collect();
            for uuid in uuids {
                let id = RowId { table, uuid };
                if txn.row(id).is_some() {
                    row(txn, id, below, depth + 1, out)?;
                }
            }
        } else if value != schema.ty.default_datum() {
            let _ = writeln!(out, "{indent}    {name}: {}", value.to_text(&schema.ty));
        }
    }
    Ok(())
}
