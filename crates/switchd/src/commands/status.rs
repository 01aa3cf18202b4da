//! `sekisho/status`: all that `sekisho top` shows, in the shapes of [`crate::ctl::status`].

use datapath::KERNEL;
use std::sync::Arc;

use conntrack::CtStats;

use crate::aside;
use crate::clock;
use crate::connlog::record;
use crate::control::{Answer, Command};
use crate::ctl::status::{
    Connections, Flows, Kinds, LinkState, Look, Port, Status, Talker, Worker, Zone,
};
use crate::daemon::Daemon;
use crate::device::{Device, Kind};
use crate::reconcile::Iface;
use crate::status::PortCounters;
use crate::talkers;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] =
    &[Command { name: "sekisho/status", usage: "", arity: (0, 0), run: status }];

fn status(d: &mut Daemon, _: &[String]) -> Answer {
    let now = d.clock.now();
    let ports = ports(d);
    let ct = Arc::clone(d.dp.conntrack());
    let counters = ct.counters();
    let mut status = Status {
        pid: std::process::id(),
        datapath: d.datapath_name().to_owned(),
        clock_ns: now.as_nanos(),
        time_us: u64::try_from(clock::unix_time().as_micros()).unwrap_or(u64::MAX),
        ports,
        workers: workers(d),
        flows: Flows { n: d.dp.n_flows(), limit: d.dp.flow_limit() },
        connections: Connections {
            n: ct.len(),
            ceiling: ct.config().max_conns,
            opened: counters.insert,
            ended: counters.expired + counters.delete + counters.early_drop,
            look: Look::default(),
        },
        reasons: d.reasons(),
    };
    let eye = d.looker.eye();
    aside::work(move || {
        // Who waited for another's look has that.
        let look = eye.lock().look(&ct, now, std::time::Instant::now());
        status.connections.look = tell(&look, &ct);
        serde_json::to_string(&status).map_err(|e| e.to_string())
    })
}

fn ports(d: &mut Daemon) -> Vec<Port> {
    d.dp.collect();
    let rec = &mut d.rec;
    let mut all = Vec::new();
    for (bridge, b) in &rec.bridges {
        for (name, iface) in &b.ifaces {
            let device = iface.device.as_ref();
            let stats = device.and_then(|_| rec.host.link(name).0).map(|l| l.stats);
            all.push(Port {
                bridge: bridge.clone(),
                name: name.clone(),
                ofport: iface.ofport.map(|n| n.0),
                kind: kind(iface).to_owned(),
                link: link_state(device, iface.ofport.is_some()),
                error: iface.error.clone(),
                counters: device.map(|d| PortCounters::of(d, stats)),
            });
        }
    }
    all
}

/// What it is, or is to be.
fn kind(iface: &Iface) -> &str {
    let asked = match iface.config.kind.as_str() {
        "" => Kind::System.shown(),
        kind => kind,
    };
    iface.device.as_ref().map_or(asked, |d| d.kind.shown())
}

/// A patch port has no device, and a link while it runs.
fn link_state(device: Option<&Device>, runs: bool) -> LinkState {
    match device {
        None if runs => LinkState::Up,
        None => LinkState::Absent,
        Some(d) if d.link.is_none() => LinkState::Absent,
        Some(d) if d.link_up() => LinkState::Up,
        Some(d) if d.admin_up() => LinkState::Down,
        Some(_) => LinkState::Off,
    }
}

fn workers(d: &Daemon) -> Vec<Worker> {
    let queues = d.dp.queues();
    let tell = |(worker, counters): (super::pmd::Worker, _)| Worker {
        number: worker.core.map(|c| c.worker),
        core: worker.core.map(|c| c.id),
        numa: worker.core.map_or(0, |c| c.numa),
        n_queues: queues.iter().filter(|q| Some(q.worker) == worker.core.map(|c| c.worker)).count(),
        counters,
    };
    // What the kernel forwards beside them.
    let kernel = d.dp.kernel_stats().map(|_| Worker {
        number: Some(KERNEL),
        core: None,
        numa: 0,
        n_queues: 0,
        counters: d.dp.worker_stats(KERNEL),
    });
    super::pmd::workers(d).into_iter().map(tell).chain(kernel).collect()
}

fn tell(look: &talkers::Look, ct: &datapath::CtTable) -> Look {
    let limits = ct.limits();
    let limit = |zone| limits.as_ref().and_then(|l| l.get(zone).or_else(|| l.default_limit()));
    let zones = look.zones.iter().map(|(zone, stats)| Zone {
        zone: zone.0,
        limit: limit(*zone),
        kinds: tell_kinds(stats),
    });
    let talkers = look.talkers.iter().map(|(c, moved)| Talker {
        connection: record(c, false),
        packets: moved.map(|t| t.packets),
        bytes: moved.map(|t| t.bytes),
    });
    let window = look.since.map_or(0, |since| look.at.as_nanos().saturating_sub(since.as_nanos()));
    Look {
        clock_ns: look.at.as_nanos(),
        window_ns: window,
        kinds: tell_kinds(&look.all),
        zones: zones.collect(),
        n_zones: look.n_zones,
        talkers: talkers.collect(),
    }
}

fn tell_kinds(stats: &CtStats) -> Kinds {
    let owned = |(name, n): (&str, u64)| (n > 0).then(|| (name.to_owned(), n));
    Kinds {
        n: stats.total,
        protocols: stats.protocols().filter_map(owned).collect(),
        tcp_states: stats.tcp_states().filter_map(owned).collect(),
    }
}
