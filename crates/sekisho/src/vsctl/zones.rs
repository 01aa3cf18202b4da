//! Zones of the connection tracker: timeouts and limits.

use ovsdb::{Atom, Datum};

use super::command::{ANY, Command, Ctx, Stop};
use super::model::insert;
use super::replica::RowId;

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "add-zone-tp",
        usage: "!DATAPATH !zone=ZONE +KEY=SECS",
        help: "add a timeout policy for a zone",
        args: (3, ANY),
        options: &["--may-exist"],
        run: add_zone_tp,
    },
    Command {
        name: "del-zone-tp",
        usage: "!DATAPATH !zone=ZONE",
        help: "delete the timeout policy of a zone",
        args: (2, 2),
        options: &["--if-exists"],
        run: del_zone_tp,
    },
    Command {
        name: "list-zone-tp",
        usage: "!DATAPATH",
        help: "print the timeout policies of all zones",
        args: (1, 1),
        options: &[],
        run: list_zone_tp,
    },
    Command {
        name: "set-zone-limit",
        usage: "!DATAPATH !ZONE !LIMIT",
        help: "limit the connections of ZONE, or of each zone without a limit (default)",
        args: (3, 3),
        options: &[],
        run: set_zone_limit,
    },
    Command {
        name: "del-zone-limit",
        usage: "!DATAPATH !ZONE",
        help: "delete the limit of ZONE or default",
        args: (2, 2),
        options: &["--if-exists"],
        run: del_zone_limit,
    },
    Command {
        name: "list-zone-limits",
        usage: "!DATAPATH",
        help: "print the limits of all zones",
        args: (1, 1),
        options: &[],
        run: list_zone_limits,
    },
];

/// The row of `Datapath` that the first argument names by its type; `missing` is the text if there is none.
pub(super) fn datapath(ctx: &Ctx<'_, '_>, missing: &str) -> Result<RowId, Stop> {
    let name = ctx.arg(1);
    let root = ctx.txn.root()?;
    let table = ctx.txn.table("Datapath")?;
    let rows = ctx.txn.value(root, "datapaths")?;
    rows.get(&Atom::from(name))
        .and_then(Atom::as_uuid)
        .map(|uuid| RowId { table, uuid })
        .ok_or_else(|| Stop::fatal(missing.replace("NAME", name)))
}

/// The zone of an argument `zone=N`; the server knows the range.
fn zone_argument(ctx: &Ctx<'_, '_>) -> Result<i64, Stop> {
    let text = ctx.arg(2);
    let number = text.strip_prefix("zone=").unwrap_or("");
    ctx.number(number, &format!("{text}: a zone is given as zone=NUMBER"))
}

/// The row of `CT_Zone` that a datapath has for a zone.
fn ct_zone(ctx: &Ctx<'_, '_>, dp: RowId, zone: i64) -> Result<Option<RowId>, Stop> {
    let table = ctx.txn.table("CT_Zone")?;
    let zones = ctx.txn.value(dp, "ct_zones")?;
    Ok(zones.get(&Atom::Integer(zone)).and_then(Atom::as_uuid).map(|uuid| RowId { table, uuid }))
}

/// Gives a datapath a row for a zone.
fn add(ctx: &mut Ctx<'_, '_>, dp: RowId, zone: i64) -> Result<RowId, Stop> {
    let row = insert(ctx, "CT_Zone")?;
    ctx.txn.depends_on(dp, "ct_zones")?;
    let mut zones = ctx.txn.value(dp, "ct_zones")?;
    zones.union(&Datum::map([(zone, row.uuid)]), true);
    ctx.txn.set(dp, "ct_zones", zones)?;
    Ok(row)
}

/// Takes a zone's row from a datapath.
fn forget(ctx: &mut Ctx<'_, '_>, dp: RowId, zone: i64) -> Result<(), Stop> {
    ctx.txn.depends_on(dp, "ct_zones")?;
    let mut zones = ctx.txn.value(dp, "ct_zones")?;
    zones.subtract(&Datum::set([zone]));
    ctx.txn.set(dp, "ct_zones", zones)
}

fn add_zone_tp(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let dp = datapath(ctx, "datapath NAME does not exist")?;
    let zone = zone_argument(ctx)?;
    let existing = ct_zone(ctx, dp, zone)?;
    if existing.is_some() && !ctx.has("--may-exist") {
        return Err(Stop::fatal(format!("zone id {zone} already exists")));
    }
    let settings = ctx.argv[3..].to_vec();
    let timeouts = settings
        .iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let hint = format!("{text}: a timeout is given as NAME=SECONDS");
            Ok((key.to_owned(), ctx.number(value, &hint)?))
        })
        .collect::<Result<Vec<_>, Stop>>()?;
    let policy = insert(ctx, "CT_Timeout_Policy")?;
    ctx.txn.set(policy, "timeouts", Datum::map(timeouts))?;
    let row = match existing {
        Some(row) => row,
        None => add(ctx, dp, zone)?,
    };
    ctx.txn.set(row, "timeout_policy", Datum::scalar(policy.uuid))
}

fn del_zone_tp(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let dp = datapath(ctx, "datapath NAME does not exist")?;
    let zone = zone_argument(ctx)?;
    if ct_zone(ctx, dp, zone)?.is_none() {
        if ctx.has("--if-exists") {
            return Ok(());
        }
        return Err(Stop::fatal(format!("zone id {zone} does not exist")));
    }
    forget(ctx, dp, zone)
}

fn list_zone_tp(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let dp = datapath(ctx, "datapath: NAME record not found")?;
    let zones = ctx.txn.value(dp, "ct_zones")?;
    for (zone, row) in zones.pairs() {
        let Some(uuid) = row.as_uuid() else { continue };
        let row = RowId { table: ctx.txn.table("CT_Zone")?, uuid };
        let mut text = format!("Zone:{zone}, Timeout Policies: ");
        match ctx.txn.refs(row, "timeout_policy", "CT_Timeout_Policy")?.first() {
            Some(policy) => {
                let timeouts = ctx.txn.value(*policy, "timeouts")?;
                let words: Vec<String> =
                    timeouts.pairs().iter().map(|(k, v)| format!("{k}={v}")).collect();
                text += &words.join(" ");
            }
            None => text += "system default",
        }
        ctx.line(text);
    }
    Ok(())
}

/// What a limit is set for: a zone, or (`None`) all that have no limit of their own.
fn limit_of(ctx: &Ctx<'_, '_>) -> Result<Option<i64>, Stop> {
    match ctx.arg(2) {
        "default" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(zone) if !(0..=0xffff).contains(&zone) => {
                Err(Stop::fatal(format!("zone_id ({zone}) out of range")))
            }
            Ok(zone) => Ok(Some(zone)),
            Err(_) => Err(Stop::fatal(format!("invalid zone id, {text}"))),
        },
    }
}

fn set_zone_limit(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let zone = limit_of(ctx)?;
    let text = ctx.arg(3);
    let limit: i64 = text.parse().map_err(|_| Stop::fatal(format!("invalid limit, {text}")))?;
    let dp = datapath(ctx, "datapath NAME does not exist")?;
    if u32::try_from(limit).is_err() {
        return Err(Stop::fatal(format!("limit ({limit}) out of range")));
    }
    let Some(zone) = zone else {
        return ctx.txn.set(dp, "ct_zone_default_limit", Datum::scalar(limit));
    };
    let row = match ct_zone(ctx, dp, zone)? {
        Some(row) => row,
        None => add(ctx, dp, zone)?,
    };
    ctx.txn.set(row, "limit", Datum::scalar(limit))
}

fn del_zone_limit(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let zone = limit_of(ctx)?;
    let dp = datapath(ctx, "datapath NAME does not exist")?;
    let must_exist = !ctx.has("--if-exists");
    let Some(zone) = zone else {
        if must_exist && ctx.txn.value(dp, "ct_zone_default_limit")?.is_empty() {
            let name = ctx.arg(1);
            return Err(Stop::fatal(format!("datapath {name} does not have a limit")));
        }
        return ctx.txn.set(dp, "ct_zone_default_limit", Datum::set::<Atom>([]));
    };
    let row = ct_zone(ctx, dp, zone)?;
    let limited = match row {
        Some(row) => !ctx.txn.value(row, "limit")?.is_empty(),
        None => false,
    };
    if must_exist && !limited {
        return Err(Stop::fatal(format!("zone_id {zone} does not have a limit")));
    }
    match row {
        None => Ok(()),
        Some(row) if ctx.txn.value(row, "timeout_policy")?.is_empty() => forget(ctx, dp, zone),
        Some(row) => ctx.txn.set(row, "limit", Datum::set::<Atom>([])),
    }
}

fn list_zone_limits(ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
    let dp = datapath(ctx, "datapath: NAME record not found")?;
    if let Some(limit) = ctx.txn.value(dp, "ct_zone_default_limit")?.keys().next() {
        ctx.line(format_args!("Default, Limit: {limit}"));
    }
    let zones = ctx.txn.value(dp, "ct_zones")?;
    for (zone, row) in zones.pairs() {
        let Some(uuid) = row.as_uuid() else { continue };
        let row = RowId { table: ctx.txn.table("CT_Zone")?, uuid };
        if let Some(limit) = ctx.txn.value(row, "limit")?.keys().next() {
            ctx.line(format_args!("Zone: {zone}, Limit: {limit}"));
        }
    }
    Ok(())
}
