//! The commands on controllers, managers, TLS, fail mode, Auto-Attach, and the whole switch
//! (`init`, `emer-reset`).

use ovsdb::Datum;

use super::command::{ANY, Command, Ctx, Stop};
use super::database::strings;
use super::model::{Model, insert};
use super::replica::RowId;
use super::zones::datapath;

const PROBE: &str = "--inactivity-probe=";

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "init",
        usage: "",
        help: "initialize database, if not yet initialized",
        args: (0, 0),
        options: &[],
        run: |_| Ok(()),
    },
    Command {
        name: "emer-reset",
        usage: "",
        help: "reset configuration to clean state",
        args: (0, 0),
        options: &[],
        run: emer_reset,
    },
    Command {
        name: "get-controller",
        usage: "!BRIDGE",
        help: "print the controllers for BRIDGE",
        args: (1, 1),
        options: &[],
        run: get_controller,
    },
    Command {
        name: "del-controller",
        usage: "!BRIDGE",
        help: "delete the controllers for BRIDGE",
        args: (1, 1),
        options: &[],
        run: del_controller,
    },
    Command {
        name: "set-controller",
        usage: "!BRIDGE +TARGET",
        help: "set the controllers for BRIDGE",
        args: (1, ANY),
        options: &[PROBE],
        run: set_controller,
    },
    Command {
        name: "get-fail-mode",
        usage: "!BRIDGE",
        help: "print the fail-mode for BRIDGE",
        args: (1, 1),
        options: &[],
        run: get_fail_mode,
    },
    Command {
        name: "del-fail-mode",
        usage: "!BRIDGE",
        help: "delete the fail-mode for BRIDGE",
        args: (1, 1),
        options: &[],
        run: del_fail_mode,
    },
    Command {
        name: "set-fail-mode",
        usage: "!BRIDGE !MODE",
        help: "set the fail-mode for BRIDGE to MODE",
        args: (2, 2),
        options: &[],
        run: set_fail_mode,
    },
    Command {
        name: "get-manager",
        usage: "",
        help: "print the managers",
        args: (0, 0),
        options: &[],
        run: get_manager,
    },
    Command {
        name: "del-manager",
        usage: "",
        help: "delete the managers",
        args: (0, 0),
        options: &[],
        run: del_manager,
    },
    Command {
        name: "set-manager",
        usage: "+TARGET",
        help: "set the list of managers to TARGET...",
        args: (1, ANY),
        options: &[PROBE],
        run: set_manager,
    },
    Command {
        name: "get-ssl",
        usage: "",
        help: "print the SSL configuration",
        args: (0, 0),
        options: &[],
        run: get_ssl,
    },
    Command {
        name: "del-ssl",
        usage: "",
        help: "delete the SSL configuration",
        args: (0, 0),
        options: &[],
        run: del_ssl,
    },
    Command {
        name: "set-ssl",
        usage: "!PRIVATE-KEY !CERTIFICATE !CA-CERT",
        help: "set the SSL configuration",
        args: (3, 3),
        options: &["--bootstrap"],
        run: set_ssl,
    },
    Command {
        name: "add-aa-mapping",
        usage: "!BRIDGE !I-SID !VLAN",
        help: "add Auto Attach mapping to BRIDGE",
        args: (3, 3),
        options: &[],
        run: add_aa_mapping,
    },
    Command {
        name: "del-aa-mapping",
        usage: "!BRIDGE !I-SID !VLAN",
        help: "delete Auto Attach mapping from BRIDGE",
        args: (3, 3),
        options: &[],
        run: del_aa_mapping,
    },
    Command {
        name: "get-aa-mapping",
        usage: "!BRIDGE",
        help: "get Auto Attach mappings from BRIDGE",
        args: (1, 1),
        options: &[],
        run: get_aa_mapping,
    },
    Command {
        name: "list-dp-cap",
        usage: "!DATAPATH",
        help: "print what the datapath can do",
        args: (1, 1),
        options: &[],
        run: list_dp_cap,
    },
];

/// Prints the targets of rows, sorted.
fn print_targets(ctx: &mut Ctx<'_, '_>, rows: &[RowId]) -> Result<(), Stop> {
    let mut targets =
        rows.iter().map(|r| ctx.txn.string(*r, "target")).collect::<Result<Vec<_>, _>>()?;
    targets.sort();
    targets.iter().for_each(|t| ctx.line(t));
    Ok(())
}

/// Replaces the rows that `column` of `owner` refers to by one for each target.
fn set_targets(
    ctx: &mut Ctx<'_, '_>,
    owner: RowId,
    column: &str,
    table: &str,
    targets: &[String],
) -> Result<(), Stop> {
    ctx.txn.depends_on(owner, column)?;
    for row in ctx.txn.refs(owner, column, table)? {
        ctx.txn.delete(row);
    }
    let probe = match ctx.option("--inactivity-probe") {
        None => None,
        Some(text) => {
            let hint = format!("--inactivity-probe={text}: a number of milliseconds is needed");
            Some(ctx.number(text, &hint)?)
        }
    };
    let mut rows = Vec::new();
    for target in targets {
        let class = target.split(':').next().unwrap_or_default();
        let known = ["tcp", "ssl", "unix", "ptcp", "pssl", "punix"];
        if !known.contains(&class) || !target.contains(':') {
            let text = format!("target type \"{target}\" is possibly erroneous");
            ctx.warnings.push(("vsctl", text));
        }
        let row = insert(ctx, table)?;
        ctx.txn.set(row, "target", Datum::scalar(target.as_str()))?;
        if let Some(msecs) = probe {
            ctx.txn.set(row, "inactivity_probe", Datum::scalar(msecs))?;
        }
        rows.push(row.uuid);
    }
    ctx.txn.set(owner, column, Datum::set(rows))
}

fn get_controller(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.bridge(ctx.arg(1))?.row;
    ctx.txn.depends_on(bridge, "controller")?;
    let rows = ctx.txn.refs(bridge, "controller", "Controller")?;
    print_targets(ctx, &rows)
}

fn del_controller(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    set_targets(ctx, bridge, "controller", "Controller", &[])
}

fn set_controller(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    let targets = ctx.argv[2..].to_vec();
    set_targets(ctx, bridge, "controller", "Controller", &targets)
}

fn get_fail_mode(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.bridge(ctx.arg(1))?.row;
    ctx.txn.depends_on(bridge, "fail_mode")?;
    let mode = ctx.txn.string(bridge, "fail_mode")?;
    if !mode.is_empty() {
        ctx.line(mode);
    }
    Ok(())
}

fn del_fail_mode(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    ctx.txn.set(bridge, "fail_mode", Datum::Set(Vec::new()))
}

fn set_fail_mode(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    let mode = ctx.arg(2).to_owned();
    if !["standalone", "secure"].contains(&mode.as_str()) {
        return Err(Stop::fatal("fail-mode must be \"standalone\" or \"secure\""));
    }
    ctx.txn.set(bridge, "fail_mode", Datum::scalar(mode))
}

fn get_manager(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    ctx.txn.depends_on(root, "manager_options")?;
    let rows = ctx.txn.refs(root, "manager_options", "Manager")?;
    print_targets(ctx, &rows)
}

fn del_manager(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    set_targets(ctx, root, "manager_options", "Manager", &[])
}

fn set_manager(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    let targets = ctx.argv[1..].to_vec();
    set_targets(ctx, root, "manager_options", "Manager", &targets)
}

fn get_ssl(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    ctx.txn.depends_on(root, "ssl")?;
    for ssl in ctx.txn.refs(root, "ssl", "SSL")? {
        for (title, column) in [
            ("Private key", "private_key"),
            ("Certificate", "certificate"),
            ("CA Certificate", "ca_cert"),
        ] {
            let value = ctx.txn.string(ssl, column)?;
            ctx.line(format_args!("{title}: {value}"));
        }
        let bootstrap = ctx.txn.value(ssl, "bootstrap_ca_cert")?;
        ctx.line(format_args!("Bootstrap: {}", bootstrap == Datum::scalar(true)));
    }
    Ok(())
}

fn del_ssl(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    for ssl in ctx.txn.refs(root, "ssl", "SSL")? {
        ctx.txn.delete(ssl);
    }
    ctx.txn.change_refs(root, "ssl", Vec::clear)
}

fn set_ssl(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    del_ssl(ctx)?;
    let ssl = insert(ctx, "SSL")?;
    for (n, column) in [(1, "private_key"), (2, "certificate"), (3, "ca_cert")] {
        let value = Datum::scalar(ctx.arg(n));
        ctx.txn.set(ssl, column, value)?;
    }
    let bootstrap = Datum::scalar(ctx.has("--bootstrap"));
    ctx.txn.set(ssl, "bootstrap_ca_cert", bootstrap)?;
    let root = ctx.txn.root()?;
    ctx.txn.change_refs(root, "ssl", |refs| refs.push(ssl.uuid))
}

/// Columns that `emer-reset` empties (ovs-vsctl(8)).
const RESET: &[(&str, &[&str])] = &[
    ("Bridge", &["controller", "fail_mode", "mirrors", "netflow", "sflow", "ipfix", "flood_vlans"]),
    ("Interface", &["ingress_policing_rate", "ingress_policing_burst"]),
];

/// Keys of `other_config` that `emer-reset` removes.
const RESET_KEYS: &[(&str, &[&str])] =
    &[("Bridge", &["hwaddr", "hw-addr"]), ("Port", &["hwaddr", "hw-addr"])];

fn emer_reset(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let root = ctx.txn.root()?;
    for (column, table) in [("manager_options", "Manager"), ("ssl", "SSL")] {
        for row in ctx.txn.refs(root, column, table)? {
            ctx.txn.delete(row);
        }
        ctx.txn.set(root, column, Datum::Set(Vec::new()))?;
    }
    for (table, columns) in RESET {
        let table = ctx.txn.table(table)?;
        let rows: Vec<RowId> = ctx.txn.rows(table).map(|(id, _)| id).collect();
        for row in rows {
            for column in *columns {
                let number = ctx.txn.column(table, column)?;
                let default = super::record::column_of(ctx.txn, table, number).ty.default_datum();
                ctx.txn.write(row, number, default);
            }
        }
    }
    for (table, keys) in RESET_KEYS {
        let table = ctx.txn.table(table)?;
        let rows: Vec<RowId> = ctx.txn.rows(table).map(|(id, _)| id).collect();
        for row in rows {
            let mut config = ctx.txn.value(row, "other_config")?;
            config.subtract(&Datum::set(keys.iter().copied()));
            ctx.txn.set(row, "other_config", config)?;
        }
    }
    // Nothing refers to these any more.
    for table in ["Mirror", "NetFlow", "sFlow", "IPFIX", "Controller"] {
        let table = ctx.txn.table(table)?;
        let rows: Vec<RowId> = ctx.txn.rows(table).map(|(id, _)| id).collect();
        rows.into_iter().for_each(|row| ctx.txn.delete(row));
    }
    Ok(())
}

/// Reads a number of an Auto-Attach mapping.
fn mapping_number(ctx: &Ctx<'_, '_>, n: usize, max: i64, what: &str) -> Result<i64, Stop> {
    match ctx.arg(n).parse::<i64>() {
        Ok(number) if (0..=max).contains(&number) => Ok(number),
        _ => Err(Stop::fatal(format!("{}: {what} must be between 0 and {max}", ctx.arg(n)))),
    }
}

fn add_aa_mapping(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let isid = mapping_number(ctx, 2, 0xff_ffff, "I-SID")?;
    let vlan = mapping_number(ctx, 3, 4095, "VLAN")?;
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    let aa = match ctx.txn.refs(bridge, "auto_attach", "AutoAttach")?.first() {
        Some(row) => *row,
        None => {
            let row = insert(ctx, "AutoAttach")?;
            ctx.txn.change_refs(bridge, "auto_attach", |refs| refs.push(row.uuid))?;
            row
        }
    };
    ctx.txn.depends_on(aa, "mappings")?;
    let mut mappings = ctx.txn.value(aa, "mappings")?;
    mappings.union(&Datum::map([(isid, vlan)]), true);
    ctx.txn.set(aa, "mappings", mappings)
}

fn del_aa_mapping(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let isid = mapping_number(ctx, 2, 0xff_ffff, "I-SID")?;
    let vlan = mapping_number(ctx, 3, 4095, "VLAN")?;
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    for aa in ctx.txn.refs(bridge, "auto_attach", "AutoAttach")? {
        ctx.txn.depends_on(aa, "mappings")?;
        let mut mappings = ctx.txn.value(aa, "mappings")?;
        mappings.subtract(&Datum::map([(isid, vlan)]));
        ctx.txn.set(aa, "mappings", mappings)?;
    }
    Ok(())
}

fn get_aa_mapping(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let bridge = Model::read(ctx.txn)?.real_bridge(ctx.arg(1))?.row;
    for aa in ctx.txn.refs(bridge, "auto_attach", "AutoAttach")? {
        for (isid, vlan) in ctx.txn.value(aa, "mappings")?.pairs() {
            ctx.line(format_args!("{isid} {vlan}"));
        }
    }
    Ok(())
}

fn list_dp_cap(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let dp = datapath(ctx, "datapath \"NAME\" record not found")?;
    let capabilities = ctx.txn.value(dp, "capabilities")?;
    let words: Vec<String> = capabilities
        .pairs()
        .iter()
        .map(|(k, v)| match (strings(&Datum::set([k.clone()])).pop(), v.as_str()) {
            (Some(k), Some(v)) => format!("{k}={v}"),
            _ => format!("{k}={v}"),
        })
        .collect();
    if !words.is_empty() {
        ctx.line(words.join(" "));
    }
    Ok(())
}
