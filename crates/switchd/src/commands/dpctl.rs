//! `dpctl/…`, `dpif/…`, `upcall/…`, `revalidator/…`: the datapath and its megaflows.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use base::{DpPort, OfPort};
use datapath::MAX_PORT;
use dpif::text::{format_actions, format_key, format_stats};
use flow::text::{Mode, NameMap, parse_match};
use flow::{FlowKey, Match};
use serde_json::json;

use super::{options, take_datapath};
use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;
use crate::device::Kind;
use crate::features;
use crate::kernelpath;
use crate::reconcile::{DP_LOCAL, Iface};
use crate::status::PortCounters;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "kernel-fast-path/show",
        usage: "",
        arity: (0, 0),
        run: |d, _| Ok(kernelpath::show(d.dp.kernel_stats())).into(),
    },
    Command {
        name: "dpctl/show",
        usage: "[-s] [dp...]",
        arity: (0, usize::MAX),
        run: |d, a| show(d, a).into(),
    },
    Command { name: "dpctl/dump-dps", usage: "", arity: (0, 1), run: dump_dps },
    Command { name: "dpif/dump-dps", usage: "", arity: (0, 0), run: dump_bridges },
    Command {
        name: "dpctl/dump-flows",
        usage: "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]",
        arity: (0, 6),
        run: |d, a| dump_flows(d, a).into(),
    },
    Command {
        name: "dpif/show-dp-features",
        usage: "bridge",
        arity: (1, 1),
        run: |d, a| {
            let known = d.rec.bridges.contains_key(&a[0]);
            let list = || features::list(&d.world.switch.read().support());
            known.then(list).ok_or_else(|| "no such bridge".to_owned()).into()
        },
    },
    Command {
        name: "dpif/set-dp-features",
        usage: "[--force] bridge [feature [value]]",
        arity: (1, 4),
        run: |d, a| set_features(d, a).into(),
    },
    Command {
        name: "dpctl/get-flow",
        usage: "[dp] ufid",
        arity: (1, 4),
        run: |d, a| get_flow(d, a).into(),
    },
    Command {
        name: "dpif-dummy/change-port-number",
        usage: "dp port new-number",
        arity: (3, 3),
        run: |d, a| change_port_number(d, a).into(),
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

/// Each bridge with the type of its datapath.
fn dump_bridges(d: &mut Daemon, _: &[String]) -> Answer {
    let kind = d.datapath_name().split('@').next().unwrap_or_default();
    Ok(d.rec.bridges.keys().map(|bridge| format!("{kind}@{bridge}\n")).collect()).into()
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
    let filter = match rest.iter().find_map(|a| a.strip_prefix("filter=")) {
        Some(text) => {
            let m = parse_match(text, &DpNames(d), Mode::Ovs)
                .map_err(|e| format!("{}: Failed to parse filter ({e})", super::PROGRAM))?;
            Some(m)
        }
        None => None,
    };
    let mut s = String::new();
    let lines = flow_lines(d, more, names, |f| filter.as_ref().is_none_or(|m| may_share(m, f)));
    if !d.dp.flows().is_empty() {
        s += "flow-dump from the main thread:\n";
    }
    for line in lines {
        s += &line;
        s.push('\n');
    }
    Ok(s)
}

/// Ports of the datapath by their names.
struct DpNames<'a>(&'a Daemon);

impl NameMap for DpNames<'_> {
    fn number(&self, name: &str) -> Option<OfPort> {
        let port = self.0.rec.dp_port_by_name(name)?;
        u16::try_from(port.0).ok().map(OfPort)
    }

    fn name(&self, _: OfPort) -> Option<&str> {
        None
    }
}

/// Whether a megaflow asks for nothing else than the filter where it asks for something.
fn may_share(filter: &Match, flow: &dpif::Megaflow) -> bool {
    let [key, mask] = [flow.key, flow.mask].map(|pkt| FlowKey { pkt, ..FlowKey::ZERO });
    let words = key.words().iter().zip(mask.words());
    let filters = filter.key.words().iter().zip(filter.mask.words());
    words.zip(filters).all(|((k, m), (fk, fm))| (k ^ fk) & m & fm == 0)
}

fn get_flow(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, mut rest) = options(args);
    let more = opts.iter().any(|o| ["-m", "--more"].contains(o));
    if rest.len() > 1 {
        take_datapath(&mut rest, |_| false)?;
    }
    let [ufid] = rest[..] else { return Err("dpctl/get-flow [dp] ufid".to_owned()) };
    let ufid = ufid.strip_prefix("ufid:").unwrap_or(ufid);
    if ufid.len() != 36 || !ufid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Err(format!("{}: parsing flow ufid (Invalid argument)", super::PROGRAM));
    }
    let names = opts.contains(&"--names");
    let lines = flow_lines(d, more, names, |f| f.ufid.to_string() == ufid);
    let line = lines.into_iter().next();
    line.ok_or_else(|| format!("{}: getting flow (No such file or directory)", super::PROGRAM))
}

/// What may be forced on would be asked of a datapath that cannot do it: that is refused.
fn set_features(d: &mut Daemon, args: &[String]) -> Text {
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|a| *a != "--force").collect();
    let [bridge, rest @ ..] = &args[..] else { return Err("no such bridge".to_owned()) };
    if !d.rec.bridges.contains_key(*bridge) {
        return Err("no such bridge".to_owned());
    }
    let before = d.world.switch.read().support();
    let mut support = before;
    let said = features::set(&mut support, rest.first().copied(), rest.get(1).copied());
    if support != before {
        d.world.switch.write().set_support(support);
        flush(d);
    }
    Ok(said)
}

fn change_port_number(d: &mut Daemon, args: &[String]) -> Text {
    let name = d.datapath_name().split('@').nth(1).unwrap_or_default();
    if d.rec.host.sim.is_none() || args[0] != name {
        return Err("unknown datapath or not a dummy".to_owned());
    }
    let to = args[2].parse().ok().filter(|n| (1..=MAX_PORT.0).contains(n));
    let to = DpPort(to.ok_or("bad port number")?);
    let now = d.clock.now();
    d.rec.change_dp_port(&args[1], to, now)?;
    d.settle_queues(false);
    d.settle();
    Ok(String::new())
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
    d.n_flows_deleted += flush(d) as u64;
    Ok(String::new()).into()
}

fn dpif_show(d: &mut Daemon, _: &[String]) -> Answer {
    let stats = d.dp.stats();
    let name = d.datapath_name();
    let mut s = format!("{name}: hit:{} missed:{}\n", stats.hits(), stats.missed);
    let mut bridges = serde_json::Map::new();
    for (bridge_name, bridge) in &d.rec.bridges {
        let _ = writeln!(s, "  {bridge_name}:");
        let mut rows = serde_json::Map::new();
        for (name, iface) in &bridge.ifaces {
            let Some(ofport) = iface.ofport else { continue };
            let dp_port =
                iface.device.as_ref().map_or("none".to_owned(), |d| d.dp_port.0.to_string());
            let (kind, settings) = device_settings(iface);
            let pairs: Vec<String> = settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let text =
                if pairs.is_empty() { String::new() } else { format!(": {}", pairs.join(", ")) };
            let _ = writeln!(s, "    {name} {}/{dp_port}: ({kind}{text})", ofport.0);
            let mut row = json!({"ofport": ofport.0.to_string(), "type": kind});
            if iface.device.is_some() {
                row["port_no"] = dp_port.into();
            }
            if !settings.is_empty() {
                let config = settings.into_iter().map(|(k, v)| (k.to_owned(), v.into()));
                row["config"] = serde_json::Value::Object(config.collect());
            }
            rows.insert(name.clone(), row);
        }
        bridges.insert(bridge_name.clone(), rows.into());
    }
    let (hit, missed) = (stats.hits().to_string(), stats.missed.to_string());
    let datapath = json!({"bridges": bridges, "stats": {"hit": hit, "missed": missed}});
    Answer::Either(s, json!({ name: datapath }))
}

/// An interface's type and those of its settings that are shown.
fn device_settings(iface: &Iface) -> (&str, Vec<(&'static str, String)>) {
    let config = &iface.config;
    let option = |key: &'static str| Some((key, config.options.get(key)?.clone()));
    let Some(device) = &iface.device else {
        return ("patch", option("peer").into_iter().collect());
    };
    let kind = match device.kind {
        // The type that it stands for.
        Kind::Dummy if config.kind.is_empty() => "system",
        Kind::Dummy => config.kind.as_str(),
        kind => kind.shown(),
    };
    let mut settings = Vec::new();
    if device.kind == Kind::Replay {
        settings.extend(["loop", "pcap"].into_iter().filter_map(option));
    }
    if device.kind == Kind::AfXdp {
        settings.extend(option("n_rxq"));
        let mode = option("xdp-mode").map_or_else(|| "best-effort".to_owned(), |(_, m)| m);
        settings.push(("xdp-mode", mode));
    }
    if device.kind.is_simulated() {
        settings.extend(["ifindex", "pstream", "stream"].into_iter().filter_map(option));
    }
    if device.kind == Kind::DummyPmd {
        // As far as a device has queues whose datapath has no threads.
        for (key, default) in [("n_rxq", "1"), ("n_txq", "1"), ("numa_id", "0")] {
            settings.push(option(key).unwrap_or((key, default.to_owned())));
        }
    }
    settings.sort_unstable();
    (kind, settings)
}

fn dpif_dump_flows(d: &mut Daemon, args: &[String]) -> Text {
    let (opts, rest) = options(args);
    let [name] = rest[..] else { return Err("dpif/dump-flows [-m] bridge".to_owned()) };
    let more = opts.contains(&"-m");
    let names = (more || opts.contains(&"--names")) && !opts.contains(&"--no-names");
    let Some(bridge) = d.rec.bridges.get(name) else { return Err("no such bridge".to_owned()) };
    let ours: Vec<u32> =
        bridge.ifaces.values().filter_map(|i| Some(i.device.as_ref()?.dp_port.0)).collect();
    let now = d.clock.now();
    let name = |port: DpPort| if names { d.dp_port_name(port) } else { None };
    let mut s = String::new();
    // Unlike dpctl's line, it has the flow's name without a comma, and nothing of the datapath.
    for f in d.dp.flows().iter().filter(|f| ours.contains(&f.key.in_port)) {
        let ufid = if more { format!("ufid:{} ", f.ufid) } else { String::new() };
        let key = format_key(&f.key, Some(&f.mask), more, &name);
        let (stats, actions) = (f.stats(), format_actions(&f.actions, &name));
        let _ = writeln!(s, "{ufid}{key}, {}, actions:{actions}", format_stats(&stats, now));
    }
    Ok(s)
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

/// Removes all megaflows and credits what they counted; how many there were.
fn flush(d: &mut Daemon) -> usize {
    d.dp.push_stats();
    let n = d.dp.flush();
    d.dp.push_stats();
    n
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
