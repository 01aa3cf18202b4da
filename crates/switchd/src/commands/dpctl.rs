//! `dpctl/…`, `dpif/…`, `upcall/…`, `revalidator/…`: the datapath and its megaflows.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use base::{DpPort, OfPort};

use super::{options, take_datapath};
use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;
use crate::device::Kind;
use crate::reconcile::DP_LOCAL;
use crate::status::PortCounters;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "dpctl/show",
        usage: "[-s] [dp...]",
        arity: (0, usize::MAX),
        run: |d, a| show(d, a).into(),
    },
    Command { name: "dpctl/dump-dps", usage: "", arity: (0, 1), run: dump_dps },
    Command { name: "dpif/dump-dps", usage: "", arity: (0, 0), run: dump_dps },
    Command {
        name: "dpctl/dump-flows",
        usage: "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]",
        arity: (0, 6),
        run: |d, a| dump_flows(d, a).into(),
    },
    Command { name: "dpctl/del-flows", usage: "[dp] [file]", arity: (0, 2), run: del_flows },
    Command { name: "dpif/show", usage: "", arity: (0, 0), run: dpif_show },
    Command {
        name: "dpif/dump-flows",
        usage: "[-m] [--names | --no-names] bridge",
        arity: (1, 3),
        run: |d, a| dpif_dump_flows(d, a).into(),
    },
    Command { name: "upcall/show", usage: "", arity: (0, 0), run: upcall_show },
    Command {
        name: "upcall/set-flow-limit",
        usage: "flow-limit-number",
        arity: (1, 1),
        run: set_flow_limit,
    },
    Command {
        name: "upcall/disable-megaflows",
        usage: "",
        arity: (0, 0),
        run: |d, _| set_megaflows(d, false),
    },
    Command {
        name: "upcall/enable-megaflows",
        usage: "",
        arity: (0, 0),
        run: |d, _| set_megaflows(d, true),
    },
    Command {
        name: "upcall/disable-ufid",
        usage: "",
        arity: (0, 0),
        run: |d, _| set_ufids(d, false),
    },
    Command {
        name: "upcall/enable-ufid",
        usage: "",
        arity: (0, 0),
        run: |d, _| set_ufids(d, true),
    },
    Command {
        name: "revalidator/pause",
        usage: "",
        arity: (0, 0),
        run: |d, _| {
            d.revalidation_paused = true;
            Ok(String::new()).into()
        },
    },
    Command {
        name: "revalidator/resume",
        usage: "",
        arity: (0, 0),
        run: |d, _| {
            d.revalidation_paused = false;
            Ok(String::new()).into()
        },
    },
    Command { name: "revalidator/wait", usage: "", arity: (0, 0), run: wait },
    Command { name: "revalidator/purge", usage: "", arity: (0, 0), run: purge },
];

fn dump_dps(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(format!("{}\n", d.datapath_name())).into()
}

/// Datapath ports with names and kinds, by number.
fn ports(d: &Daemon) -> Vec<(DpPort, String, Kind)> {
    let kind = if d.rec.host.sim.is_some() { Kind::DummyInternal } else { Kind::Internal };
    let mut all = vec![(DP_LOCAL, d.dp_port_name(DP_LOCAL).unwrap_or_default(), kind)];
    for bridge in d.rec.bridges.values() {
        for (name, iface) in &bridge.ifaces {
            if let Some(device) = &iface.device {
                all.push((device.dp_port, name.clone(), device.kind));
            }
        }
    }
    all.sort_by_key(|(n, _, _)| *n);
    all
}

/// ` (3.2 KiB)` as `dpctl/show -s` adds to larger counts of bytes.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = None;
    for name in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(name);
    }
    unit.map(|u| format!(" ({value:.1} {u})")).unwrap_or_default()
}

fn show(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, mut rest) = options(args);
    while !rest.is_empty() {
        take_datapath(&mut rest, |_| false)?;
    }
    let with_statistics = opts.iter().any(|o| ["-s", "--statistics"].contains(o));
    let stats = d.dp.stats();
    let mut s = format!(
        "{}:\n  lookups: hit:{} missed:{} lost:{}\n  flows: {}\n",
        d.datapath_name(),
        stats.hits(),
        stats.missed,
        stats.lost,
        d.dp.n_flows(),
    );
    for (number, name, kind) in ports(d) {
        let shown =
            if kind == Kind::System { String::new() } else { format!(" ({})", kind.shown()) };
        let _ = writeln!(s, "  port {}: {name}{shown}", number.0);
        if with_statistics {
            let c = d.rec.port_counters(&name).unwrap_or_default();
            port_statistics(&mut s, &c);
        }
    }
    Ok(s)
}

fn port_statistics(s: &mut String, c: &PortCounters) {
    let n = |v: u64| match v {
        PortCounters::UNKNOWN => "?".to_owned(),
        v => v.to_string(),
    };
    // Transmissions that were aborted or lost their carrier are counted with the other errors.
    let other = if c.tx_errors == PortCounters::UNKNOWN { "?" } else { "0" };
    let _ = writeln!(
        s,
        "    RX packets:{} errors:{} dropped:{} overruns:{} frame:{}\n    \
         TX packets:{} errors:{} dropped:{} aborted:{} carrier:{}\n    \
         collisions:{}\n    \
         RX bytes:{}{}  TX bytes:{}{}",
        n(c.rx_packets),
        n(c.rx_errors),
        n(c.rx_dropped),
        n(c.rx_over_err),
        n(c.rx_frame_err),
        n(c.tx_packets),
        n(c.tx_errors),
        n(c.tx_dropped),
        other,
        other,
        n(c.collisions),
        n(c.rx_bytes),
        human(c.rx_bytes),
        n(c.tx_bytes),
        human(c.tx_bytes),
    );
}

fn dump_flows(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, mut rest) = options(args);
    let more = opts.iter().any(|o| ["-m", "--more"].contains(o));
    let names = more || opts.contains(&"--names");
    let names = names && !opts.contains(&"--no-names");
    take_datapath(&mut rest, |a| a.contains('='))?;
    for arg in &rest {
        let (key, value) = arg.split_once('=').unwrap_or((arg, ""));
        match key {
            "type"
                if ["all", "ovs", "non-offloaded", "dpdk", "partially-offloaded"]
                    .contains(&value) => {}
            "type" if ["offloaded", "tc"].contains(&value) => return Ok(String::new()),
            "filter" | "pmd" => {}
            _ => {
                return Err(format!(
                    "{}: invalid argument {arg} (Invalid argument)",
                    super::PROGRAM
                ));
            }
        }
    }
    let filter = rest.iter().find_map(|a| a.strip_prefix("filter="));
    let mut s = String::new();
    let lines = flow_lines(d, more, names, |_| true);
    if !lines.is_empty() {
        s += "flow-dump from the main thread:\n";
    }
    for line in lines {
        if filter.is_none_or(|f| f.split(',').all(|part| line.contains(part.trim()))) {
            s += &line;
            s.push('\n');
        }
    }
    Ok(s)
}

fn flow_lines(
    d: &Daemon,
    more: bool,
    names: bool,
    wanted: impl Fn(&dpif::Megaflow) -> bool,
) -> Vec<String> {
    let now = d.clock.now();
    let name = |port: DpPort| if names { d.dp_port_name(port) } else { None };
    let flows = d.dp.flows();
    flows.iter().filter(|f| wanted(f)).map(|f| f.text(now, more, &name).to_string()).collect()
}

fn del_flows(d: &mut Daemon, _: &[String]) -> Answer {
    flush(d);
    Ok(String::new()).into()
}

fn dpif_show(d: &mut Daemon, _: &[String]) -> Answer {
    let stats = d.dp.stats();
    let mut s = format!("{}: hit:{} missed:{}\n", d.datapath_name(), stats.hits(), stats.missed);
    for (bridge_name, bridge) in &d.rec.bridges {
        let _ = writeln!(s, "  {bridge_name}:");
        let mut ifaces: Vec<_> = bridge.ifaces.iter().filter(|(_, i)| i.ofport.is_some()).collect();
        ifaces.sort_by_key(|(name, _)| name.as_str());
        for (name, iface) in ifaces {
            let number = iface.ofport.unwrap_or(OfPort::NONE).0;
            let _ = match &iface.device {
                Some(device) => {
                    let kind = device.kind.shown();
                    writeln!(s, "    {name} {number}/{}: ({kind})", device.dp_port.0)
                }
                None => {
                    let peer = iface.config.options.get("peer").map_or("", String::as_str);
                    writeln!(s, "    {name} {number}/none: (patch: peer={peer})")
                }
            };
        }
    }
    Ok(s).into()
}

fn dpif_dump_flows(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, rest) = options(args);
    let [name] = rest[..] else { return Err("dpif/dump-flows [-m] bridge".to_owned()) };
    let more = opts.contains(&"-m");
    let names = opts.contains(&"--names");
    let Some(bridge) = d.rec.bridges.get(name) else { return Err("no such bridge".to_owned()) };
    let ours: Vec<u32> =
        bridge.ifaces.values().filter_map(|i| Some(i.device.as_ref()?.dp_port.0)).collect();
    let lines = flow_lines(d, more, names, |f| ours.contains(&f.key.in_port));
    Ok(lines.into_iter().map(|l| l + "\n").collect())
}

fn upcall_show(d: &mut Daemon, _: &[String]) -> Answer {
    let (n, limit) = (d.dp.n_flows(), d.dp.flow_limit());
    Ok(format!(
        "{}:\n  flows         : (current {n}) (avg {n}) (max {n}) (limit {limit})\n  \
         dump duration : 1ms\n  ufid enabled : {}\n\n  0: (keys {n})\n",
        d.datapath_name(),
        d.ufids,
    ))
    .into()
}

/// Caches translations for all packets like the first one, or for its like only.
fn set_megaflows(d: &mut Daemon, on: bool) -> Answer {
    d.world.megaflows.store(on, Relaxed);
    flush(d);
    Ok(format!("megaflows {}", if on { "enabled" } else { "disabled" })).into()
}

fn set_ufids(d: &mut Daemon, on: bool) -> Answer {
    d.ufids = on;
    let text = if on { "enabled for supported datapaths" } else { "disabled" };
    Ok(format!("Datapath dumping tersely using UFID {text}")).into()
}

/// Removes all megaflows and credits what they counted.
fn flush(d: &mut Daemon) {
    d.dp.push_stats();
    d.dp.flush();
    d.dp.push_stats();
}

fn set_flow_limit(d: &mut Daemon, args: &[String]) -> Answer {
    match args[0].parse() {
        Ok(limit) => {
            d.dp.set_flow_limit(limit);
            Ok(format!("set flow_limit to {limit}\n")).into()
        }
        Err(_) => Err(format!("{}: not a number", args[0])).into(),
    }
}

fn wait(d: &mut Daemon, _: &[String]) -> Answer {
    let now = d.clock.now();
    d.revalidate(now);
    d.dp.push_stats();
    Ok(String::new()).into()
}

fn purge(d: &mut Daemon, _: &[String]) -> Answer {
    flush(d);
    Ok(String::new()).into()
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human(1023), "");
        assert_eq!(human(3228), " (3.2 KiB)");
        assert_eq!(human(5 << 20), " (5.0 MiB)");
    }
}
