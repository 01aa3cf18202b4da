//! `dpctl/*conntrack*`, `dpctl/ct-*`, and the words of [`crate::ctl::conntrack`]: connections.

use std::fmt::{self, Write};
use std::sync::Arc;

use base::{Instant, Zone};
use conntrack::text::{DumpLine, DumpOptions, ExpectLine, StatsText};
use conntrack::{ConnFilter as TableFilter, ConnSnapshot, CtConfig};
use datapath::CtTable;

use openflow::text::ct_flush;

use super::{PROGRAM, options, take_datapath};
use crate::aside;
use crate::connlog::record;
use crate::control::{Answer, Command, Text};
use crate::ctflush;
use crate::ctl::conntrack::{ConnEvents, ConnFilter, ConnRecord, ConnStats};
use crate::daemon::Daemon;

/// What OVS has.
pub(super) const DPCTL_COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "dpctl/dump-conntrack",
        usage: "[-m] [-s] [dp] [zone=N]",
        arity: (0, 4),
        run: |d, a| dump(d, a).unwrap_or_else(|e| Err(e).into()),
    },
    Command {
        name: "dpctl/dump-conntrack-exp",
        usage: "[dp] [zone=N]",
        arity: (0, 2),
        run: |d, a| dump_expected(d, a).into(),
    },
    Command {
        name: "dpctl/flush-conntrack",
        usage: "[dp] [zone=N] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]",
        arity: (0, 6),
        run: |d, a| flush(d, a).unwrap_or_else(|e| Err(e).into()),
    },
    Command {
        name: "dpctl/ct-stats-show",
        usage: "[dp] [zone=N]",
        arity: (0, 3),
        run: |d, a| stats_show(d, a).unwrap_or_else(|e| Err(e).into()),
    },
    Command {
        name: "dpctl/ct-bkts",
        usage: "[dp] [gt=N]",
        arity: (0, 2),
        run: |d, a| buckets(d, a).into(),
    },
    Command {
        name: "dpctl/ct-get-nconns",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, a| number(a, d.dp.conntrack().len()).into(),
    },
    Command {
        name: "dpctl/ct-get-maxconns",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, a| number(a, d.dp.conntrack().config().max_conns).into(),
    },
    Command {
        name: "dpctl/ct-set-maxconns",
        usage: "[dp] maxconns",
        arity: (1, 2),
        run: |d, a| set_maxconns(d, a).into(),
    },
    Command {
        name: "dpctl/ct-get-tcp-seq-chk",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, a| get_seq_chk(d, a).into(),
    },
    Command {
        name: "dpctl/ct-enable-tcp-seq-chk",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, a| set_seq_chk(d, a, true).into(),
    },
    Command {
        name: "dpctl/ct-disable-tcp-seq-chk",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, a| set_seq_chk(d, a, false).into(),
    },
    Command {
        name: "dpctl/ct-get-sweep-interval",
        usage: "[dp]",
        arity: (0, 1),
        run: |d, _| Ok(format!("{}\n", d.ct_sweep_ms)).into(),
    },
    Command {
        name: "dpctl/ct-set-sweep-interval",
        usage: "[dp] ms",
        arity: (1, 2),
        run: |d, a| set_sweep(d, a).into(),
    },
];

/// Takes the interval between sweeps of a table that needs none: connections go when they are due.
fn set_sweep(d: &mut Daemon, args: &[String]) -> Text {
    let ms = args.last().and_then(|ms| ms.parse().ok()).filter(|ms| *ms > 0_u32);
    d.ct_sweep_ms =
        ms.ok_or_else(|| format!("{PROGRAM}: invalid sweep value (Invalid argument)"))?;
    Ok("setting sweep interval successful\n".to_owned())
}

/// What the `conntrack` tool asks.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "conntrack/list",
        usage: "[FILTER]",
        arity: (0, 1),
        run: |d, a| list(d, a).unwrap_or_else(|e| Err(e).into()),
    },
    Command {
        name: "conntrack/delete",
        usage: "FILTER",
        arity: (1, 1),
        run: |d, a| delete(d, a).unwrap_or_else(|e| Err(e).into()),
    },
    Command { name: "conntrack/flush", usage: "", arity: (0, 0), run: flush_all },
    Command { name: "conntrack/count", usage: "", arity: (0, 0), run: count },
    Command { name: "conntrack/stats", usage: "", arity: (0, 0), run: stats },
    Command { name: "conntrack/events", usage: "[SEQ [FILTER]]", arity: (0, 2), run: events },
];

fn parse_zone(text: &str) -> Result<Zone, String> {
    text.parse()
        .map(Zone)
        .map_err(|_| format!("{PROGRAM}: failed to parse zone (Invalid argument)"))
}

/// An answer, or an error of the arguments.
type Checked = Result<Answer, String>;

fn dump(d: &mut Daemon, args: &[String]) -> Checked {
    let (opts, mut rest) = options(args);
    let has = |names: [&str; 2]| opts.iter().any(|o| names.contains(o));
    let shown =
        DumpOptions { more: has(["-m", "--more"]), statistics: has(["-s", "--statistics"]) };
    let filter = TableFilter { zone: zone_of_dump(&mut rest)?, ..TableFilter::default() };
    let (now, ct) = (d.clock.now(), Arc::clone(d.dp.conntrack()));
    Ok(aside::write(move |out| {
        let mut done = Ok(());
        ct.dump(now, &filter, |c| {
            done = done.and_then(|()| writeln!(out, "{}", DumpLine(c, shown)));
        });
        done
    }))
}

fn dump_expected(d: &mut Daemon, args: &[String]) -> Text {
    let zone = zone_of_dump(&mut args.iter().map(String::as_str).collect())?;
    let mut s = String::new();
    d.dp.conntrack().dump_expected(d.clock.now(), zone, |e| {
        let _ = writeln!(s, "{}", ExpectLine(e));
    });
    Ok(s)
}

/// `[dp] [zone=N]`.
fn zone_of_dump(args: &mut Vec<&str>) -> Result<Option<Zone>, String> {
    // As OVS reads it: what is no zone must be a datapath.
    let is_zone = |a: &str| a.strip_prefix("zone=").is_some_and(|z| z.parse::<u16>().is_ok());
    take_datapath(args, is_zone)?;
    let mut zone = None;
    for arg in args {
        let text = arg.strip_prefix("zone=");
        let text =
            text.ok_or_else(|| format!("{PROGRAM}: invalid argument {arg} (Invalid argument)"))?;
        zone = Some(parse_zone(text)?);
    }
    Ok(zone)
}

fn flush(d: &mut Daemon, args: &[String]) -> Checked {
    let mut rest: Vec<&str> = args.iter().map(String::as_str).collect();
    take_datapath(&mut rest, |a| a.is_empty() || a.contains('='))?;
    let which = ct_flush::parse(&rest).map_err(|e| format!("{PROGRAM}: {e} (Invalid argument)"))?;
    let (now, ct, name) = (d.clock.now(), Arc::clone(d.dp.conntrack()), d.datapath_name());
    Ok(aside::work(move || {
        ctflush::flush(&ct, now, name, &which);
        Ok(String::new())
    }))
}

fn stats_show(d: &mut Daemon, args: &[String]) -> Checked {
    let (opts, mut rest) = options(args);
    let mut more = opts.iter().any(|o| ["-m", "--more"].contains(o));
    take_datapath(&mut rest, |a| a.starts_with("zone=") || a == "verbose")?;
    let mut filter = TableFilter::default();
    for arg in rest {
        match arg.strip_prefix("zone=") {
            Some(zone) => filter.zone = Some(parse_zone(zone)?),
            None if arg == "verbose" => more = true,
            None => return Err(format!("{PROGRAM}: invalid argument {arg} (Invalid argument)")),
        }
    }
    let (now, ct) = (d.clock.now(), Arc::clone(d.dp.conntrack()));
    Ok(aside::work(move || Ok(StatsText { stats: &ct.stats(now, &filter), more }.to_string())))
}

/// How evenly connections are spread: over the shards, which are what this tracker has of buckets.
fn buckets(d: &mut Daemon, args: &[String]) -> Text {
    const PER_ROW: usize = 8;
    let mut rest: Vec<&str> = args.iter().map(String::as_str).collect();
    let over = rest.last().and_then(|a| a.strip_prefix("gt=")).and_then(|n| n.parse().ok());
    if over.is_some() {
        rest.pop();
    }
    take_datapath(&mut rest, |_| false)?;
    let over: u16 = over.unwrap_or(0);
    let shards = d.dp.conntrack().shard_lens();
    let n: usize = shards.iter().sum();
    let mut s = format!("Total Buckets: {}\nCurrent Connections: {n}\n\n", shards.len());
    if n == 0 {
        return Ok(s);
    }
    let rule = format!("+{:-<11}+{:-<41}+\n", "", "");
    let _ = write!(s, "{rule}|  Buckets  |         Connections per Buckets         |\n{rule}");
    for (row, shards) in shards.chunks(PER_ROW).enumerate() {
        let first = row * PER_ROW;
        let _ = write!(s, "{} {first:3}..{:3}   | ", if row > 0 { "\n" } else { "" }, first + 7);
        for n in shards {
            let _ = match *n > usize::from(over) {
                true => write!(s, "{n:5}"),
                false => write!(s, "{:>5}", "."),
            };
        }
    }
    Ok(s + "\n\n")
}

/// A number of the datapath that the arguments may name.
fn number(args: &[String], n: usize) -> Text {
    only_datapath(args)?;
    Ok(format!("{n}\n"))
}

/// Takes no arguments but, perhaps, the datapath.
fn only_datapath(args: &[String]) -> Result<(), String> {
    take_datapath(&mut args.iter().map(String::as_str).collect(), |_| false)
}

fn set_maxconns(d: &mut Daemon, args: &[String]) -> Text {
    let mut rest: Vec<&str> = args.iter().map(String::as_str).collect();
    if rest.len() > 1 {
        take_datapath(&mut rest, |_| false)?;
    }
    let max_conns: u32 = rest[0]
        .parse()
        .map_err(|_| format!("{PROGRAM}: maxconns missing or malformed (Invalid argument)"))?;
    let max_conns = max_conns as usize;
    let ct = d.dp.conntrack();
    ct.set_config(CtConfig { max_conns, ..ct.config() });
    Ok("setting maxconns successful\n".to_owned())
}

fn get_seq_chk(d: &mut Daemon, args: &[String]) -> Text {
    only_datapath(args)?;
    let on = if d.dp.conntrack().config().tcp_seq_chk { "enabled" } else { "disabled" };
    Ok(format!("TCP sequence checking: {on}\n"))
}

fn set_seq_chk(d: &mut Daemon, args: &[String], on: bool) -> Text {
    only_datapath(args)?;
    let ct = d.dp.conntrack();
    ct.set_config(CtConfig { tcp_seq_chk: on, ..ct.config() });
    Ok(format!("{} TCP sequence checking successful\n", if on { "enabling" } else { "disabling" }))
}

// ---- the conntrack tool ------------------------------------------------------------------------

fn parse_filter(text: Option<&String>) -> Result<ConnFilter, String> {
    match text {
        None => Ok(ConnFilter::default()),
        Some(text) => serde_json::from_str(text).map_err(|e| format!("bad filter: {e}")),
    }
}

fn json(value: &impl serde::Serialize) -> Text {
    serde_json::to_string(value).map_err(|e| e.to_string())
}

/// Calls `visit` for the connections that a filter means.
fn select(
    ct: &CtTable,
    now: Instant,
    filter: &ConnFilter,
    accounting: bool,
    mut visit: impl FnMut(&ConnSnapshot, ConnRecord),
) {
    let coarse = TableFilter { zone: filter.zone.map(Zone), ..TableFilter::default() };
    ct.dump(now, &coarse, |c| {
        let record = record(c, accounting);
        if filter.matches(&record) {
            visit(c, record);
        }
    });
}

fn list(d: &mut Daemon, args: &[String]) -> Checked {
    let filter = parse_filter(args.first())?;
    let (now, ct) = (d.clock.now(), Arc::clone(d.dp.conntrack()));
    let accounting = d.ct_accounting();
    Ok(aside::write(move |out| {
        let (mut done, mut before) = (Ok(()), "[");
        select(&ct, now, &filter, accounting, |_, record| {
            done = done.and_then(|()| {
                let record = json(&record).map_err(|_| fmt::Error)?;
                write!(out, "{}{record}", std::mem::replace(&mut before, ",\n"))
            });
        });
        done.and_then(|()| out.write_str(if before == "[" { "[]" } else { "]" }))
    }))
}

fn delete(d: &mut Daemon, args: &[String]) -> Checked {
    let filter = parse_filter(args.first())?;
    let (now, ct) = (d.clock.now(), Arc::clone(d.dp.conntrack()));
    let accounting = d.ct_accounting();
    Ok(aside::work(move || {
        let mut found = Vec::new();
        select(&ct, now, &filter, accounting, |c, record| found.push((c.orig, c.zone, record)));
        found.retain(|(orig, zone, _)| ct.delete_tuple(now, orig, *zone));
        json(&found.iter().map(|(_, _, record)| record).collect::<Vec<_>>())
    }))
}

fn flush_all(d: &mut Daemon, _: &[String]) -> Answer {
    let (now, ct) = (d.clock.now(), Arc::clone(d.dp.conntrack()));
    aside::work(move || {
        ct.delete(now, &TableFilter::default());
        Ok("{}".to_owned())
    })
}

fn count(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(d.dp.conntrack().len().to_string()).into()
}

fn stats(d: &mut Daemon, _: &[String]) -> Answer {
    let c = d.dp.conntrack().counters();
    json(&[ConnStats {
        found: c.found,
        invalid: c.invalid,
        insert: c.insert,
        insert_failed: c.insert_failed,
        drop: c.drop,
        early_drop: c.early_drop,
        error: c.error,
        ..ConnStats::default()
    }])
    .into()
}

fn events(d: &mut Daemon, args: &[String]) -> Answer {
    d.want_connection_events();
    let now = d.clock.now();
    let Some(seq) = args.first() else {
        let seq = d.connlog.seq(now);
        return json(&ConnEvents { seq, ..ConnEvents::default() }).into();
    };
    let Ok(seq) = seq.parse() else { return Err(format!("{seq}: not a number")).into() };
    match parse_filter(args.get(1)) {
        Ok(filter) => Answer::Later(d.connlog.wait(now, seq, filter)),
        Err(text) => Err(text).into(),
    }
}
