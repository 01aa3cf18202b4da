//! `dpctl/ct-*-limits`: how many connections zones may have.

use std::fmt::Write;

use base::Zone;

use super::{PROGRAM, take_datapath};
use crate::control::{Command, Text};
use crate::daemon::Daemon;

pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "dpctl/ct-set-limits",
        usage: "[dp] [default=L] [zone=N,limit=L]...",
        arity: (1, usize::MAX),
        run: |d, a| set(d, a).into(),
    },
    Command {
        name: "dpctl/ct-del-limits",
        usage: "[dp] [default] [zone=N1[,N2]...]",
        arity: (1, 3),
        run: |d, a| delete(d, a).into(),
    },
    Command {
        name: "dpctl/ct-get-limits",
        usage: "[dp] [zone=N1[,N2]...]",
        arity: (0, 2),
        run: |d, a| get(d, a).into(),
    },
];

fn invalid(what: impl std::fmt::Display) -> String {
    format!("{PROGRAM}: {what} (Invalid argument)")
}

/// The arguments after the datapath.
fn arguments(args: &[String]) -> Result<Vec<&str>, String> {
    let mut rest: Vec<&str> = args.iter().map(String::as_str).collect();
    take_datapath(&mut rest, |a| a.starts_with("default") || a.starts_with("zone="))?;
    Ok(rest)
}

/// Commands leave alone what the database says.
fn check_free(d: &Daemon, command: &str) -> Result<(), String> {
    if d.rec.zones.limits_are_configured() {
        return Err(format!(
            "{PROGRAM}: the zone limits are set via database, use 'ovs-vsctl {command}-zone-limit \
             <...>' instead. (Operation not permitted)"
        ));
    }
    Ok(())
}

fn set(d: &mut Daemon, args: &[String]) -> Text {
    let rest = arguments(args)?;
    let mut rest = rest.as_slice();
    let mut default = None;
    if let [first, more @ ..] = rest
        && let Some(limit) = first.strip_prefix("default=")
    {
        let limit: u32 = limit.parse().map_err(|_| invalid("invalid default limit"))?;
        default = Some(limit);
        rest = more;
    }
    if rest.is_empty() && default.is_none() {
        return Err(invalid("too few arguments"));
    }
    let limits = rest.iter().map(|arg| parse_limit(arg)).collect::<Result<Vec<_>, _>>()?;
    check_free(d, "set")?;
    d.dp.conntrack().change_limits(|l| {
        if let Some(limit) = default {
            // Without a default a zone may have any number.
            l.set_default((limit != 0).then_some(limit));
        }
        for (zone, limit) in limits {
            l.set(zone, Some(limit));
        }
    });
    Ok(String::new())
}

/// `zone=N,limit=L`.
fn parse_limit(text: &str) -> Result<(Zone, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for pair in text.split([',', ' ']).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(invalid(format_args!("field {key} missing value")));
        }
        let bad = |_| invalid(format_args!("failed to parse field {key}"));
        match key {
            "zone" => zone = Some(Zone(value.parse().map_err(bad)?)),
            "limit" => limit = Some(value.parse().map_err(bad)?),
            _ => return Err(invalid(format_args!("invalid zone limit field: {key}"))),
        }
    }
    zone.zip(limit).ok_or_else(|| invalid("failed to parse zone limit"))
}

/// `zone=N1,N2`.
fn parse_zones(text: &str) -> Result<Vec<Zone>, String> {
    let zones = text.strip_prefix("zone=");
    let zones = zones.ok_or_else(|| invalid(format_args!("invalid argument {text}")))?;
    (zones.split(',').filter(|z| !z.is_empty()))
        .map(|z| z.parse().map(Zone).map_err(|_| invalid("invalid zone")))
        .collect()
}

fn delete(d: &mut Daemon, args: &[String]) -> Text {
    let rest = arguments(args)?;
    let (default, rest) = match rest.as_slice() {
        ["default", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let zones = match rest {
        [] if default => Vec::new(),
        [] => return Err(invalid("too few arguments")),
        [zones, ..] => parse_zones(zones)?,
    };
    check_free(d, "del")?;
    let ct = d.dp.conntrack();
    if ct.limits().is_some() {
        ct.change_limits(|l| {
            if default {
                l.set_default(None);
            }
            for zone in zones {
                l.set(zone, None);
            }
        });
    }
    Ok(String::new())
}

fn get(d: &mut Daemon, args: &[String]) -> Text {
    let rest = arguments(args)?;
    let ct = d.dp.conntrack();
    let limits = ct.limits();
    let default = limits.as_ref().and_then(|l| l.default_limit()).unwrap_or(0);
    let own = |zone| limits.as_ref().and_then(|l| l.get(zone));
    let zones: Vec<Zone> = match rest.first() {
        Some(zones) => parse_zones(zones)?,
        None => limits.iter().flat_map(|l| l.iter()).map(|(zone, _)| zone).collect(),
    };
    let mut s = format!("default limit={default}");
    for zone in zones {
        let (limit, count) = (own(zone).unwrap_or(default), ct.zone_len(zone));
        let _ = write!(s, "\nzone={},limit={limit},count={count}", zone.0);
    }
    Ok(s + "\n")
}
