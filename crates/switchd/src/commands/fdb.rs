//! `fdb/…`: learned addresses.

use base::{MacAddr, OfPort};
use ofproto::Bridge;
use serde_json::json;

use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command { name: "fdb/show", usage: "bridge", arity: (1, 1), run: show },
    Command { name: "fdb/flush", usage: "[bridge]", arity: (0, 1), run: flush },
    Command { name: "fdb/add", usage: "bridge port vlan mac", arity: (4, 4), run: add },
    Command { name: "fdb/del", usage: "bridge vlan mac", arity: (3, 3), run: del },
    Command { name: "fdb/stats-show", usage: "bridge", arity: (1, 1), run: stats_show },
    Command { name: "fdb/stats-clear", usage: "[bridge]", arity: (0, 1), run: stats_clear },
];

fn unknown() -> String {
    "no such bridge".to_owned()
}

fn show(d: &mut Daemon, args: &[String]) -> Answer {
    let now = d.clock.now();
    // What caches count keeps addresses young.
    d.dp.push_stats();
    let switch = d.world.switch.read();
    let Some(b) = switch.bridge_by_name(&args[0]) else { return Err(unknown()).into() };
    let mut text = String::from(" port  VLAN  MAC                Age\n");
    let mut rows = Vec::new();
    for row in b.mac().rows(now) {
        let port = port_text(row.port);
        let age = row.age.map_or_else(|| "static".to_owned(), |a| format!("{:3}", a.as_secs()));
        text += &format!("{port:>5}  {:4}  {}  {age}\n", row.vlan, row.mac);
        let (key, value) = match row.age {
            Some(age) => ("age", json!(age.as_secs())),
            None => ("static", json!(true)),
        };
        let mac = row.mac.to_string();
        rows.push(json!({"port": row.port.0, "vlan": row.vlan, "mac": mac, key: value}));
    }
    Answer::Either(text, rows.into())
}

/// Does something with the table of one bridge, or of all.
fn each(d: &Daemon, name: Option<&String>, f: impl Fn(&mut Bridge)) -> Result<(), String> {
    let mut switch = d.world.switch.write();
    match name {
        None => switch.bridges_mut().for_each(f),
        Some(name) => {
            let id = switch.bridge_by_name(name).map(|b| b.id).ok_or_else(unknown)?;
            if let Some(b) = switch.bridge_mut(id) {
                f(b);
            }
        }
    }
    Ok(())
}

fn flush(d: &mut Daemon, args: &[String]) -> Answer {
    each(d, args.first(), |b| b.with_mac(services::mac::MacTable::flush))
        .map(|()| "table successfully flushed\n".to_owned())
        .into()
}

fn stats_clear(d: &mut Daemon, args: &[String]) -> Answer {
    each(d, args.first(), |b| b.with_mac(services::mac::MacTable::clear_stats))
        .map(|()| "statistics successfully cleared\n".to_owned())
        .into()
}

fn stats_show(d: &mut Daemon, args: &[String]) -> Answer {
    let switch = d.world.switch.read();
    let Some(b) = switch.bridge_by_name(&args[0]) else { return Err(unknown()).into() };
    let (mac, s) = (b.mac(), b.mac().stats());
    Ok(format!(
        "Statistics for bridge \"{}\":\n  \
         Current/maximum MAC entries in the table: {}/{}\n  \
         Current static MAC entries in the table : {}\n  \
         Total number of learned MAC entries     : {}\n  \
         Total number of expired MAC entries     : {}\n  \
         Total number of evicted MAC entries     : {}\n  \
         Total number of port moved MAC entries  : {}\n",
        b.name,
        mac.len(),
        mac.max(),
        mac.n_static(),
        s.n_learned,
        s.n_expired,
        s.n_evicted,
        s.n_moved,
    ))
    .into()
}

fn parse_vlan_mac(vlan: &str, mac: &str) -> Result<(u16, MacAddr), String> {
    let vlan =
        vlan.parse().ok().filter(|v| *v < 4096).ok_or_else(|| format!("Invalid VLAN {vlan}"))?;
    Ok((vlan, mac.parse().map_err(|_| format!("Invalid MAC {mac}"))?))
}

fn add(d: &mut Daemon, args: &[String]) -> Answer {
    add_entry(d, args).into()
}

fn add_entry(d: &Daemon, args: &[String]) -> Text {
    let now = d.clock.now();
    let (vlan, mac) = parse_vlan_mac(&args[2], &args[3])?;
    let (port, old) = {
        let switch = d.world.switch.read();
        let b = switch.bridge_by_name(&args[0]).ok_or_else(unknown)?;
        let by_number = args[1].parse().ok().map(OfPort).filter(|p| b.port(*p).is_some());
        let port = by_number
            .or_else(|| b.port_by_name(&args[1]).map(|p| p.ofport))
            .ok_or_else(|| format!("no port named {}", args[1]))?;
        let old = b.mac().rows(now).find(|r| (r.vlan, r.mac) == (vlan, mac));
        (port, old.filter(|r| r.age.is_some() || r.port != port))
    };
    let entry = |b: &mut Bridge| {
        b.with_mac(|t| t.add_static(vlan, mac, port, now));
    };
    each(d, Some(&args[0]), entry)?;
    let told = old.map(|r| {
        let kind = if r.age.is_some() { "dynamic" } else { "static" };
        format!("Overriding already existing {kind} entry on {}\n", port_text(r.port))
    });
    Ok(told.unwrap_or_default())
}

/// A port as `fdb/show` names it.
fn port_text(port: OfPort) -> String {
    match port {
        OfPort::LOCAL => "LOCAL".to_owned(),
        p => p.0.to_string(),
    }
}

fn del(d: &mut Daemon, args: &[String]) -> Answer {
    let parsed = parse_vlan_mac(&args[1], &args[2]);
    let done = parsed.and_then(|(vlan, mac)| {
        each(d, args.first(), |b| {
            b.with_mac(|t| t.remove(vlan, mac));
        })
    });
    done.map(|()| String::new()).into()
}
