//! What two samples of a daemon say together: rates, shares and rows. Pure: the time is the daemon's own, in
//! the samples.
//!
//! A counter that went back, of a port that was made anew say, gives a rate of 0, and so does everything
//! of a daemon that was started anew, and what was not there before.

use std::collections::HashMap;

use datapath::DpStats;
use serde::Serialize;
use switchd::clock::iso8601;
use switchd::ctl::conntrack::{ConnRecord, ConnTuple, L4};
use switchd::ctl::status::{
    Connections, Flows, LinkState, Port, Reason, ReasonKind, Status, Worker, Zone,
};
use switchd::status::PortCounters;

use crate::conntrack_tool::protocol_name;

/// What is to be seen: also a line of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// When, by the daemon's wall clock (UTC, ISO 8601).
    pub time: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// `TYPE@NAME` of its datapath.
    pub datapath: String,
    /// Seconds between the two samples; 0 when there is nothing to compare with, and then all rates are.
    pub seconds: f64,
    /// Ports, by bridge and name.
    pub ports: Vec<PortRow>,
    /// Workers, the main thread as the last of all.
    pub workers: Vec<WorkerRow>,
    /// All workers together.
    pub all_workers: Work,
    /// Megaflows.
    pub flows: Flows,
    /// Tracked connections.
    pub connections: ConnectionRows,
    /// Connections that moved most, the busiest first.
    pub talkers: Vec<TalkerRow>,
    /// Why packets were dropped, refused or found invalid, the most frequent first.
    pub drops: Vec<DropRow>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortRow {
    /// Its bridge.
    pub bridge: String,
    /// Its name.
    pub name: String,
    /// OpenFlow number.
    pub ofport: Option<u16>,
    /// Type.
    pub kind: String,
    /// State of its link.
    pub link: LinkState,
    /// Why it does not run.
    pub error: Option<String>,
    /// What the switch received.
    pub rx: Direction,
    /// What the switch sent.
    pub tx: Direction,
}

/// One direction of a port. What the device does not count is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Direction {
    /// Packets a second.
    pub packets_per_s: Option<f64>,
    /// Bits a second.
    pub bits_per_s: Option<f64>,
    /// Frames lost a second.
    pub dropped_per_s: Option<f64>,
    /// Errors a second.
    pub errors_per_s: Option<f64>,
    /// Packets in all.
    pub packets: Option<u64>,
    /// Bytes in all.
    pub bytes: Option<u64>,
    /// Lost frames in all.
    pub dropped: Option<u64>,
    /// Errors in all.
    pub errors: Option<u64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerRow {
    /// `core 3`, `main` for the main thread, or `kernel` for what that forwards by itself.
    pub name: String,
    /// NUMA node.
    pub numa: usize,
    /// Receive queues that it polls.
    pub n_queues: usize,
    /// What it does.
    #[serde(flatten)]
    pub work: Work,
}

/// What one worker or several do.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Work {
    /// Packets received a second.
    pub packets_per_s: f64,
    /// Packets handed to ports a second.
    pub sent_per_s: f64,
    /// Look-ups a second.
    pub lookups_per_s: f64,
    /// Share of the look-ups that the connection cache answered.
    pub hit_connection: f64,
    /// … that the exact-match cache answered.
    pub hit_exact: f64,
    /// … that a megaflow answered.
    pub hit_megaflow: f64,
    /// … that nothing answered.
    pub missed: f64,
    /// Upcalls a second: look-ups that were translated by the slow path.
    pub upcalls_per_s: f64,
    /// Microseconds that an upcall took.
    pub us_per_upcall: f64,
    /// Share of the time that was spent on packets. Of several workers, their mean.
    pub busy: f64,
    /// Share of the time awake that was spent on packets: `processing cycles` of `pmd-stats-show`.
    pub processing: f64,
    /// Nanoseconds spent on a packet.
    pub ns_per_packet: f64,
}

/// Tracked connections.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ConnectionRows {
    /// How many there are.
    pub n: usize,
    /// How many there may be.
    pub ceiling: usize,
    /// Committed a second.
    pub opened_per_s: f64,
    /// Gone a second.
    pub ended_per_s: f64,
    /// TCP connections by state and others by protocol, the most frequent first.
    pub kinds: Vec<(String, u64)>,
    /// The largest zones, largest first.
    pub zones: Vec<ZoneRow>,
    /// How many zones have connections.
    pub n_zones: usize,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZoneRow {
    /// Its number.
    pub zone: u16,
    /// How many connections it has.
    pub n: u64,
    /// How many it may have.
    pub limit: Option<u32>,
    /// As [`ConnectionRows::kinds`].
    pub kinds: Vec<(String, u64)>,
}

/// A connection that moved something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TalkerRow {
    /// Its protocol.
    pub protocol: String,
    /// Its initiator: address, and port or ICMP identifier.
    pub from: String,
    /// Whom that wanted.
    pub to: String,
    /// Its zone.
    pub zone: u16,
    /// State, of those protocols that have one.
    pub state: Option<String>,
    /// Bits a second, [from, to] the initiator.
    pub bits_per_s: [f64; 2],
    /// Packets a second, [from, to] the initiator.
    pub packets_per_s: [f64; 2],
}

impl TalkerRow {
    /// Bits a second of both directions.
    pub fn bits(&self) -> f64 {
        self.bits_per_s.iter().sum()
    }

    /// Packets a second of both directions.
    pub fn packets(&self) -> f64 {
        self.packets_per_s.iter().sum()
    }
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DropRow {
    /// What became of the packets.
    pub kind: ReasonKind,
    /// Name of the counter.
    pub name: String,
    /// What happened, in a sentence.
    pub text: String,
    /// The port that lost them.
    pub port: Option<String>,
    /// Packets a second.
    pub per_s: f64,
    /// Packets in all.
    pub n: u64,
}

impl View {
    /// What `now` says, compared with `before` as far as that is of the same daemon.
    pub fn of(now: &Status, before: Option<&Status>) -> View {
        let before = before.filter(|b| b.pid == now.pid && b.clock_ns < now.clock_ns);
        let seconds = before.map_or(0.0, |b| (now.clock_ns - b.clock_ns) as f64 / 1e9);
        let gap = Gap(seconds);
        let (gained, ports) = (gained(now, before), ports(now, before, gap));
        let mut all = DpStats::default();
        gained.iter().for_each(|(_, c)| all.add(c));
        let mut all_workers = work(&all, gap);
        // The main thread has other work.
        let n = now.workers.iter().filter(|w| w.core.is_some()).count();
        all_workers.busy = round(all_workers.busy / n.max(1) as f64);
        View {
            time: iso8601(std::time::Duration::from_micros(now.time_us)),
            pid: now.pid,
            datapath: now.datapath.clone(),
            seconds: round(seconds),
            ports,
            workers: gained.iter().map(|(w, c)| worker(w, c, gap)).collect(),
            all_workers,
            flows: now.flows,
            connections: connections(&now.connections, before.map(|b| &b.connections), gap),
            talkers: talkers(&now.connections),
            drops: drops(&now.reasons, before.map(|b| &b.reasons[..]), gap),
        }
    }

    /// Both directions of all ports together: what the switch received, what it sent.
    pub fn traffic(&self) -> [Direction; 2] {
        let sum = |side: fn(&PortRow) -> &Direction| {
            let of = |f: fn(&Direction) -> Option<f64>| {
                Some(self.ports.iter().filter_map(|p| f(side(p))).sum())
            };
            Direction {
                packets_per_s: of(|d| d.packets_per_s),
                bits_per_s: of(|d| d.bits_per_s),
                ..Direction::default()
            }
        };
        [sum(|p| &p.rx), sum(|p| &p.tx)]
    }

    /// Packets a second that were dropped or lost by ports; each counted once.
    pub fn dropped_per_s(&self) -> f64 {
        let lost = |d: &&DropRow| matches!(d.kind, ReasonKind::Drop | ReasonKind::Received);
        self.drops.iter().filter(lost).map(|d| d.per_s).sum()
    }
}

/// The seconds between two samples; none if there is nothing to compare with.
#[derive(Clone, Copy)]
struct Gap(f64);

impl Gap {
    /// What a counter gained a second. One that was not there before, or went back, gained nothing.
    fn rate(self, before: Option<u64>, now: u64) -> f64 {
        match before {
            Some(before) if self.0 > 0.0 => round(now.saturating_sub(before) as f64 / self.0),
            _ => 0.0,
        }
    }

    fn share_of_time(self, ns: u64) -> f64 {
        if self.0 > 0.0 { round(ns as f64 / 1e9 / self.0) } else { 0.0 }
    }
}

/// To thousandths, which is more than there is to know.
fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// A share to hundred-thousandths.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e5).round() / 1e5 }
}

fn ports(now: &Status, before: Option<&Status>, gap: Gap) -> Vec<PortRow> {
    let before: HashMap<_, _> = before
        .iter()
        .flat_map(|b| &b.ports)
        .map(|p| ((p.bridge.as_str(), p.name.as_str()), p))
        .collect();
    let row = |p: &Port| {
        let old = before.get(&(p.bridge.as_str(), p.name.as_str())).and_then(|b| b.counters);
        let direction = |fields: [fn(&PortCounters) -> u64; 4]| {
            let known = |c: PortCounters, f: fn(&PortCounters) -> u64| {
                Some(f(&c)).filter(|n| *n != PortCounters::UNKNOWN)
            };
            let [packets, bytes, dropped, errors] =
                fields.map(|f| p.counters.and_then(|c| known(c, f)));
            let old = fields.map(|f| old.and_then(|c| known(c, f)));
            let rate = |i: usize, n: Option<u64>| n.map(|n| gap.rate(old[i], n));
            Direction {
                packets_per_s: rate(0, packets),
                bits_per_s: rate(1, bytes).map(|bytes| round(8.0 * bytes)),
                dropped_per_s: rate(2, dropped),
                errors_per_s: rate(3, errors),
                packets,
                bytes,
                dropped,
                errors,
            }
        };
        PortRow {
            bridge: p.bridge.clone(),
            name: p.name.clone(),
            ofport: p.ofport,
            kind: p.kind.clone(),
            link: p.link,
            error: p.error.clone(),
            rx: direction([|c| c.rx_packets, |c| c.rx_bytes, |c| c.rx_dropped, |c| c.rx_errors]),
            tx: direction([|c| c.tx_packets, |c| c.tx_bytes, |c| c.tx_dropped, |c| c.tx_errors]),
        }
    };
    now.ports.iter().map(row).collect()
}

/// The workers, and what each counted in between. One that was not there before has the counters of another that
/// had its number, and so counted nothing yet.
fn gained<'a>(now: &'a Status, before: Option<&Status>) -> Vec<(&'a Worker, DpStats)> {
    let old = |w: &Worker| before?.workers.iter().find(|o| o.number == w.number);
    let gain = |w: &Worker| old(w).map_or(DpStats::default(), |o| w.counters.since(&o.counters));
    now.workers.iter().map(|w| (w, gain(w))).collect()
}

fn worker(w: &Worker, gained: &DpStats, gap: Gap) -> WorkerRow {
    WorkerRow {
        name: match (w.core, w.number) {
            (Some(core), _) => format!("core {core}"),
            (None, Some(_)) => "kernel".to_owned(),
            (None, None) => "main".to_owned(),
        },
        numa: w.numa,
        n_queues: w.n_queues,
        work: work(gained, gap),
    }
}

fn work(c: &DpStats, gap: Gap) -> Work {
    let lookups = c.hits() + c.missed;
    let per_s = |n: u64| gap.rate(Some(0), n);
    let each = |ns: u64, n: u64| if n == 0 { 0.0 } else { ns as f64 / n as f64 };
    Work {
        packets_per_s: per_s(c.packets),
        sent_per_s: per_s(c.sent),
        lookups_per_s: per_s(lookups),
        hit_connection: share(c.hit_conn + c.hit_kernel, lookups),
        hit_exact: share(c.hit_exact, lookups),
        hit_megaflow: share(c.megaflow_hits(), lookups),
        missed: share(c.missed, lookups),
        upcalls_per_s: per_s(c.missed),
        us_per_upcall: round(each(c.slow_ns, c.missed) / 1000.0),
        busy: gap.share_of_time(c.busy_ns),
        processing: share(c.busy_ns, c.busy_ns + c.idle_ns),
        ns_per_packet: round(each(c.busy_ns, c.packets)),
    }
}

fn connections(now: &Connections, before: Option<&Connections>, gap: Gap) -> ConnectionRows {
    let row =
        |z: &Zone| ZoneRow { zone: z.zone, n: z.kinds.n, limit: z.limit, kinds: kinds(&z.kinds) };
    ConnectionRows {
        n: now.n,
        ceiling: now.ceiling,
        opened_per_s: gap.rate(before.map(|b| b.opened), now.opened),
        ended_per_s: gap.rate(before.map(|b| b.ended), now.ended),
        kinds: kinds(&now.look.kinds),
        zones: now.look.zones.iter().map(row).collect(),
        n_zones: now.look.n_zones,
    }
}

/// TCP connections by state and others by protocol.
fn kinds(k: &switchd::ctl::status::Kinds) -> Vec<(String, u64)> {
    let others = k.protocols.iter().filter(|(name, _)| name.as_str() != "TCP");
    let all = k.tcp_states.iter().chain(others);
    let mut all: Vec<_> = all.map(|(name, n)| (name.clone(), *n)).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

fn talkers(c: &Connections) -> Vec<TalkerRow> {
    let gap = Gap(c.look.window_ns as f64 / 1e9);
    let row = |t: &switchd::ctl::status::Talker| {
        let c = &t.connection;
        TalkerRow {
            protocol: protocol(c),
            from: end(&c.orig, true),
            to: end(&c.orig, false),
            zone: c.zone,
            state: c.state.clone(),
            bits_per_s: t.bytes.map(|n| round(8.0 * gap.rate(Some(0), n))),
            packets_per_s: t.packets.map(|n| gap.rate(Some(0), n)),
        }
    };
    c.look.talkers.iter().map(row).collect()
}

fn protocol(c: &ConnRecord) -> String {
    match protocol_name(c.proto) {
        "unknown" => format!("ip {}", c.proto),
        name => name.to_owned(),
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1` of an ICMP connection, whose identifier its initiator has.
fn end(t: &ConnTuple, is_initiator: bool) -> String {
    let ip = if is_initiator { t.src } else { t.dst };
    match t.l4 {
        L4::Ports { sport, dport } => {
            let port = if is_initiator { sport } else { dport };
            std::net::SocketAddr::new(ip, port).to_string()
        }
        L4::Icmp { id, .. } if is_initiator => format!("{ip} id {id}"),
        L4::Icmp { .. } | L4::None => ip.to_string(),
    }
}

fn drops(now: &[Reason], before: Option<&[Reason]>, gap: Gap) -> Vec<DropRow> {
    // Reasons that nothing was counted for are not told, so one that is new began with none.
    let old: Option<HashMap<_, _>> =
        before.map(|all| all.iter().map(|r| ((r.name.as_str(), r.port.as_deref()), r.n)).collect());
    let row = |r: &Reason| {
        let key = (r.name.as_str(), r.port.as_deref());
        let before = old.as_ref().map(|old| old.get(&key).copied().unwrap_or(0));
        DropRow {
            kind: r.kind,
            name: r.name.clone(),
            text: r.text.clone(),
            port: r.port.clone(),
            per_s: gap.rate(before, r.n),
            n: r.n,
        }
    };
    let mut all: Vec<_> = now.iter().map(row).collect();
    all.sort_by(|a, b| b.per_s.total_cmp(&a.per_s).then(b.n.cmp(&a.n)));
    all
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A daemon as it was `ms` milliseconds after its start, when a counter that gains `rate` a second was `n`.
    pub fn status(ms: u64) -> Status {
        let n = |per_s: u64| per_s * ms / 1000;
        let port = |name: &str, ofport: u16, rx: u64, tx: u64| {
            json!({
                "bridge": "br0", "name": name, "ofport": ofport, "kind": "system", "link": "up",
                "counters": {
                    "rx_packets": n(rx), "rx_bytes": n(1000 * rx), "rx_dropped": 0, "rx_errors": 0,
                    "tx_packets": n(tx), "tx_bytes": n(1000 * tx), "tx_dropped": n(3), "tx_errors": 0,
                },
            })
        };
        let worker = |core: Option<usize>, packets: u64| {
            json!({
                "number": core, "core": core, "numa": 0, "n_queues": core.map_or(0, |_| 2),
                "counters": {
                    "packets": n(packets), "hit_conn": n(packets / 2), "hit_exact": n(packets / 4),
                    "hit_megaflow": n(packets / 5), "missed": n(packets / 20), "sent": n(packets),
                    "slow_ns": n(packets * 100), "busy_ns": n(packets * 500),
                    "idle_ns": n(packets * 500),
                },
            })
        };
        let tuple = |ip: &str| json!({"src": ip, "dst": "10.0.0.2", "l4": {"ports": {"sport": 40_000, "dport": 443}}});
        let talker = |ip: &str, mbytes: u64| {
            json!({
                "connection": {
                    "proto": 6, "orig": tuple(ip), "reply": tuple(ip), "state": "ESTABLISHED",
                    "timeout": 60, "mark": 0, "zone": 7, "seen_reply": true, "assured": true, "id": 1,
                },
                "packets": [mbytes * 700, mbytes * 350], "bytes": [mbytes * 1_000_000, mbytes * 20_000],
            })
        };
        serde_json::from_value(json!({
            "pid": 4711, "datapath": "netdev@ovs-netdev",
            "clock_ns": 1_000_000_000 + ms * 1_000_000, "time_us": 1_795_783_757_000_000 + ms * 1000,
            "ports": [port("vm1p", 2, 1_240_000, 620_000), port("vm2p", 3, 620_000, 1_240_000),
                {"bridge": "br0", "name": "gone0", "ofport": null, "kind": "system", "link": "absent",
                 "error": "could not open network device gone0 (No such device)"},
                {"bridge": "br0", "name": "patch0", "ofport": 4, "kind": "patch", "link": "up"}],
            "workers": [worker(Some(0), 1_000_000), worker(Some(1), 200_000), worker(None, 0)],
            "flows": {"n": 123, "limit": 200_000},
            "connections": {
                "n": 52_345, "ceiling": 3_000_000, "opened": n(1200), "ended": n(1100),
                "look": {
                    "clock_ns": 1_000_000_000 + ms * 1_000_000, "window_ns": 1_000_000_000,
                    "kinds": {"n": 52_345, "protocols": {"TCP": 52_000, "UDP": 345},
                        "tcp_states": {"ESTABLISHED": 50_000, "SYN_SENT": 2000}},
                    "zones": [
                        {"zone": 7, "limit": 100_000, "kinds": {"n": 52_000, "protocols": {"TCP": 52_000},
                            "tcp_states": {"ESTABLISHED": 50_000, "SYN_SENT": 2000}}},
                        {"zone": 9, "kinds": {"n": 345, "protocols": {"UDP": 345}, "tcp_states": {}}}],
                    "n_zones": 2,
                    "talkers": [talker("10.0.0.1", 400), talker("fd00::1", 3)],
                },
            },
            "reasons": [
                {"kind": "drop", "name": "drop_action_of_pipeline", "n": n(12) + 100,
                 "text": "The flow tables say so: a drop action, an empty action list or a table miss."},
                {"kind": "sent", "name": "tx-queue-full", "port": "vm1p", "n": n(3) + 1,
                 "text": "The device's or socket's queue is full."},
                {"kind": "invalid", "name": "conntrack_invalid_l4_checksum", "n": 40,
                 "text": "The transport checksum is wrong."}],
        }))
        .unwrap()
    }

    #[test]
    fn two_samples_make_rates() {
        let v = View::of(&status(4000), Some(&status(2000)));
        assert_eq!((v.seconds, v.time.as_str()), (2.0, "2026-11-27T12:49:21.000Z"));
        let port = &v.ports[0];
        assert_eq!(port.rx.packets_per_s, Some(1_240_000.0));
        assert_eq!(port.rx.bits_per_s, Some(9_920_000_000.0));
        assert_eq!((port.rx.dropped_per_s, port.tx.dropped_per_s), (Some(0.0), Some(3.0)));
        // A patch port counts nothing.
        assert_eq!(v.ports[3].rx, Direction::default());
        let [rx, tx] = v.traffic();
        assert_eq!((rx.packets_per_s, tx.packets_per_s), (Some(1_860_000.0), Some(1_860_000.0)));
        let w = &v.workers[0];
        assert_eq!((w.name.as_str(), w.n_queues, w.work.packets_per_s), ("core 0", 2, 1e6));
        let w = w.work;
        assert_eq!(
            (w.hit_connection, w.hit_exact, w.hit_megaflow, w.missed),
            (0.5, 0.25, 0.2, 0.05)
        );
        assert_eq!(
            (w.busy, w.processing, w.ns_per_packet, w.us_per_upcall),
            (0.5, 0.5, 500.0, 2.0)
        );
        assert_eq!(v.all_workers.packets_per_s, 1.2e6);
        assert_eq!((v.all_workers.hit_connection, v.all_workers.busy), (0.5, 0.3));
        assert_eq!(v.workers[2].name, "main");
        let c = &v.connections;
        assert_eq!((c.opened_per_s, c.ended_per_s), (1200.0, 1100.0));
        let kinds = [("ESTABLISHED", 50_000), ("SYN_SENT", 2000), ("UDP", 345)];
        assert!(c.kinds.iter().map(|(k, n)| (k.as_str(), *n)).eq(kinds), "{:?}", c.kinds);
        assert_eq!(v.dropped_per_s(), 12.0);
        let drops: Vec<_> = v.drops.iter().map(|d| (d.name.as_str(), d.per_s, d.n)).collect();
        assert_eq!(
            drops,
            [
                ("drop_action_of_pipeline", 12.0, 148),
                ("tx-queue-full", 3.0, 13),
                ("conntrack_invalid_l4_checksum", 0.0, 40)
            ]
        );
    }

    #[test]
    fn talkers_have_the_rates_of_their_own_window() {
        let mut now = status(4000);
        now.connections.look.window_ns = 4_000_000_000;
        let v = View::of(&now, Some(&status(3000)));
        let t = &v.talkers[0];
        assert_eq!((t.from.as_str(), t.to.as_str()), ("10.0.0.1:40000", "10.0.0.2:443"));
        assert_eq!((t.bits_per_s, t.packets_per_s), ([8e8, 1.6e7], [70_000.0, 35_000.0]));
        assert_eq!((t.protocol.as_str(), t.zone), ("tcp", 7));
        assert_eq!(v.talkers[1].from, "[fd00::1]:40000");
    }

    /// Nothing to compare with gives no rates, and never a huge one.
    #[test]
    fn what_was_not_before_has_no_rate() {
        let idle = |v: &View| {
            assert_eq!(v.seconds, 0.0);
            assert_eq!(
                (v.ports[0].rx.packets_per_s, v.ports[0].rx.bits_per_s),
                (Some(0.0), Some(0.0))
            );
            assert_eq!(v.all_workers, Work::default());
            assert!(v.drops.iter().all(|d| d.per_s == 0.0));
            assert_eq!(v.connections.opened_per_s, 0.0);
        };
        idle(&View::of(&status(5000), None));
        // Another daemon, a clock that stands still, and one that went back.
        let other = Status { pid: 4712, ..status(1000) };
        idle(&View::of(&status(5000), Some(&other)));
        idle(&View::of(&status(5000), Some(&status(5000))));
        idle(&View::of(&status(5000), Some(&status(6000))));
        // A port that is new, and a reason.
        let mut before = status(4000);
        before.ports.remove(0);
        before.reasons.remove(0);
        before.workers.remove(1);
        let v = View::of(&status(5000), Some(&before));
        assert_eq!(v.ports[0].rx.packets_per_s, Some(0.0));
        assert_eq!(v.workers[1].work, Work::default());
        assert_eq!(v.all_workers.packets_per_s, 1e6);
        assert_eq!(v.ports[1].rx.packets_per_s, Some(620_000.0));
        assert_eq!(v.drops[0].per_s, 160.0, "none are told until there are some");
    }

    #[test]
    fn counters_that_went_back_give_nothing() {
        let before = status(100_000);
        let mut now = status(101_000);
        let anew = status(10);
        now.ports = anew.ports;
        now.workers = anew.workers;
        now.reasons = anew.reasons;
        now.connections.opened = 0;
        let v = View::of(&now, Some(&before));
        assert_eq!((v.ports[0].rx.packets_per_s, v.ports[0].tx.bits_per_s), (Some(0.0), Some(0.0)));
        assert_eq!((v.all_workers.packets_per_s, v.all_workers.busy), (0.0, 0.0));
        assert!(v.drops.iter().all(|d| d.per_s == 0.0));
        assert_eq!(v.connections.opened_per_s, 0.0);
    }
}
