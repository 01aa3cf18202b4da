//! The samples, their medians, and the targets they are held against.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};

/// What is measured against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// This project's switch, the machines' default offloads on.
    Sekisho,
    /// The same with ports of `type=afxdp`.
    Afxdp,
    /// Stock Open vSwitch, `datapath_type=netdev`, the machines' transmit offloads off.
    Ovs,
    /// The same with ports of `type=afxdp`, which one processor polls all the time.
    OvsAfxdp,
    /// Linux bridge with br_netfilter, iptables and conntrack.
    Bridge,
    /// A veth pair and no switch: the ceiling of the machine.
    Direct,
}

impl System {
    const NAMES: [(System, &'static str); 6] = [
        (System::Sekisho, "sekisho"),
        (System::Afxdp, "afxdp"),
        (System::Ovs, "ovs"),
        (System::OvsAfxdp, "ovs-afxdp"),
        (System::Bridge, "bridge"),
        (System::Direct, "direct"),
    ];

    /// The system called `name`.
    pub fn parse(name: &str) -> Result<System> {
        match Self::NAMES.iter().find(|(_, n)| *n == name) {
            Some((system, _)) => Ok(*system),
            None => {
                let names = Self::NAMES.map(|(_, name)| name).join(", ");
                bail!("unknown system {name}: there are {names}")
            }
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(s, _)| s == self).map_or("?", |(_, name)| *name);
        f.pad(name)
    }
}

/// A figure that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// One TCP stream, received, Gb/s.
    Tcp,
    /// Round trip of a flood ping, average, microseconds.
    Rtt,
    /// 64-byte UDP packets of one connection that arrive, thousands per second.
    Udp,
    /// TCP connections opened and closed, per second.
    Connections,
    /// Processor time of the idle daemon, percent of one processor.
    Idle,
    /// Resident memory of the idle daemon, MiB.
    Memory,
    /// From the start of the daemon to the first forwarded packet, ms.
    Start,
    /// Adding 100,000 flows, s.
    AddFlows,
    /// Dumping them, s.
    DumpFlows,
    /// Longest time without forwarding while they are added, ms.
    Gap,
    GapNew,
    /// Resident memory of the daemon with a million flows, MiB.
    FlowMemory,
    /// Resident memory of the daemon with 2,000,000 connections, MiB.
    ConnMemory,
    /// The same with 3,000,000.
    ConnMemoryMore,
    /// Listing them with `dpctl/dump-conntrack`, s.
    DumpConns,
    /// Longest time without forwarding with 3,000,000 connections, ms: while nothing is done with them,
    GapQuiet,
    /// while they are listed by `dpctl/dump-conntrack`,
    GapDump,
    /// by `conntrack -L`,
    GapList,
    /// while a zone of a million is flushed,
    GapFlush,
    /// while a million of them expire.
    GapExpire,
    /// One TCP stream, Gb/s: alone,
    StreamAlone,
    /// beside a generator of frames whose frames nobody gets,
    StreamBeside,
    /// while the switch gets them, 10,000,000 SYNs from another port.
    StreamUnder,
    /// What is left of the stream beside the generator.
    FloodShare,
    /// Resident memory after the flood, MiB.
    FloodMemory,
    /// Established connections that are left after the flood, percent.
    FloodKept,
    /// The stream while 1,000 packets a second are crafted against the caches, Gb/s;
    StreamCrafted,
    /// what is left of it then;
    CraftedShare,
    /// masks of the megaflows by then.
    CraftedMasks,
    /// The stream while a scan from another port goes nowhere, Gb/s;
    StreamBesideScan,
    /// and while the switch gets it;
    StreamScanned,
    /// what is left of the former,
    ScanShare,
    /// and of the stream alone.
    ScanWhole,
    /// The tracker alone. Bytes a connection of 1,000,000 of TCP:
    ConnBytes,
    /// millions of packets a second of one core: of one connection over and over,
    TrackOne,
    /// of 10,000 established ones,
    TrackMany,
    /// of 100,000,
    TrackMore,
    /// of 1,000,000;
    TrackMost,
    /// a new connection, ns;
    Commit,
    /// to flush one with its zone, ns;
    Flush,
    /// what two threads do of what one does: packets of known connections,
    TwoUpdate,
    /// new connections.
    TwoInsert,
}

/// A promise: the median of ours stands in this relation to a bound.
struct Target {
    metric: Metric,
    /// The system whose median is the unit of the bound; none: the bound is absolute.
    against: Option<System>,
    at_least: bool,
    bound: f64,
}

/// All targets, in the order in which they are shown.
const TARGETS: [Target; 30] = [
    Target { metric: Metric::Tcp, against: Some(System::Ovs), at_least: true, bound: 12.0 },
    Target { metric: Metric::Tcp, against: Some(System::Bridge), at_least: true, bound: 0.7 },
    Target { metric: Metric::Rtt, against: Some(System::Ovs), at_least: false, bound: 0.9 },
    Target { metric: Metric::Connections, against: Some(System::Ovs), at_least: true, bound: 1.2 },
    Target { metric: Metric::Idle, against: None, at_least: false, bound: 1.0 },
    Target { metric: Metric::Memory, against: None, at_least: false, bound: 20.0 },
    Target { metric: Metric::Start, against: None, at_least: false, bound: 200.0 },
    Target { metric: Metric::AddFlows, against: Some(System::Ovs), at_least: false, bound: 0.5 },
    Target { metric: Metric::DumpFlows, against: Some(System::Ovs), at_least: false, bound: 0.5 },
    Target { metric: Metric::Gap, against: None, at_least: false, bound: 5.0 },
    Target { metric: Metric::GapNew, against: Some(System::Ovs), at_least: false, bound: 0.1 },
    Target { metric: Metric::FlowMemory, against: Some(System::Ovs), at_least: false, bound: 0.6 },
    Target { metric: Metric::ConnMemory, against: None, at_least: false, bound: 600.0 },
    Target { metric: Metric::GapDump, against: None, at_least: false, bound: 1.0 },
    Target { metric: Metric::GapList, against: None, at_least: false, bound: 1.0 },
    Target { metric: Metric::GapFlush, against: None, at_least: false, bound: 1.0 },
    Target { metric: Metric::GapExpire, against: None, at_least: false, bound: 1.0 },
    Target { metric: Metric::FloodShare, against: None, at_least: true, bound: 0.8 },
    // The ceiling of 3,000,000 connections at 256 bytes each, and the daemon.
    Target { metric: Metric::FloodMemory, against: None, at_least: false, bound: 752.0 },
    Target { metric: Metric::FloodKept, against: None, at_least: true, bound: 100.0 },
    Target { metric: Metric::CraftedShare, against: None, at_least: true, bound: 0.9 },
    Target { metric: Metric::ScanShare, against: None, at_least: true, bound: 0.5 },
    Target { metric: Metric::ConnBytes, against: None, at_least: false, bound: 256.0 },
    Target { metric: Metric::TrackOne, against: Some(System::Ovs), at_least: true, bound: 1.5 },
    Target { metric: Metric::TrackMany, against: Some(System::Ovs), at_least: true, bound: 2.0 },
    Target { metric: Metric::TrackMore, against: Some(System::Ovs), at_least: true, bound: 2.5 },
    Target { metric: Metric::Commit, against: Some(System::Ovs), at_least: false, bound: 0.5 },
    Target { metric: Metric::Flush, against: Some(System::Ovs), at_least: false, bound: 0.5 },
    Target { metric: Metric::TwoUpdate, against: None, at_least: true, bound: 1.8 },
    Target { metric: Metric::TwoInsert, against: None, at_least: true, bound: 1.8 },
];

const METRICS: [(Metric, &str); 42] = [
    (Metric::Tcp, "TCP, one stream, Gb/s"),
    (Metric::Rtt, "flood ping RTT, us"),
    (Metric::Udp, "UDP of 64 bytes, kpps"),
    (Metric::Connections, "TCP connections/s"),
    (Metric::Idle, "idle processor, %"),
    (Metric::Memory, "idle memory, MiB"),
    (Metric::Start, "start to first packet, ms"),
    (Metric::AddFlows, "adding 100,000 flows, s"),
    (Metric::DumpFlows, "dumping 100,000 flows, s"),
    (Metric::Gap, "gap while adding, ms"),
    (Metric::GapNew, "the same, new flows, ms"),
    (Metric::FlowMemory, "1,000,000 flows, MiB"),
    (Metric::ConnMemory, "2,000,000 conns, MiB"),
    (Metric::ConnMemoryMore, "3,000,000 conns, MiB"),
    (Metric::DumpConns, "dumping 3,000,000, s"),
    (Metric::GapQuiet, "gap with 3,000,000, ms"),
    (Metric::GapDump, "gap, dump-conntrack, ms"),
    (Metric::GapList, "gap, conntrack -L, ms"),
    (Metric::GapFlush, "gap, flush of a zone, ms"),
    (Metric::GapExpire, "gap, expiry, ms"),
    (Metric::StreamAlone, "stream alone, Gb/s"),
    (Metric::StreamBeside, "beside a generator, Gb/s"),
    (Metric::StreamUnder, "under a SYN flood, Gb/s"),
    (Metric::FloodShare, "share under the flood"),
    (Metric::FloodMemory, "memory after it, MiB"),
    (Metric::FloodKept, "connections kept, %"),
    (Metric::StreamCrafted, "under crafted frames, Gb/s"),
    (Metric::CraftedShare, "share under them"),
    (Metric::CraftedMasks, "masks by then"),
    (Metric::StreamBesideScan, "beside a scan, Gb/s"),
    (Metric::StreamScanned, "under a scan, Gb/s"),
    (Metric::ScanShare, "share of that beside it"),
    (Metric::ScanWhole, "share of the stream alone"),
    (Metric::ConnBytes, "bytes a connection"),
    (Metric::TrackOne, "1 connection, Mpps"),
    (Metric::TrackMany, "10,000, Mpps"),
    (Metric::TrackMore, "100,000, Mpps"),
    (Metric::TrackMost, "1,000,000, Mpps"),
    (Metric::Commit, "a new connection, ns"),
    (Metric::Flush, "zone flush, ns each"),
    (Metric::TwoUpdate, "two threads, known, x one"),
    (Metric::TwoInsert, "two threads, new, x one"),
];

/// Samples by system and metric.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<(Metric, System), Vec<f64>>);

impl Report {
    /// Takes a sample.
    pub fn add(&mut self, system: System, metric: Metric, value: f64) {
        self.0.entry((metric, system)).or_default().push(value);
    }

    /// Smallest, median and largest sample.
    fn spread(&self, system: System, metric: Metric) -> Option<[f64; 3]> {
        let mut samples = self.0.get(&(metric, system))?.clone();
        samples.sort_by(f64::total_cmp);
        Some([*samples.first()?, median(&samples)?, *samples.last()?])
    }
}

/// The median of sorted samples.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

/// Three significant digits, without an exponent.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26}", "median [min..max]")?;
        let systems: Vec<System> = System::NAMES
            .map(|(system, _)| system)
            .into_iter()
            .filter(|system| self.0.keys().any(|(_, s)| s == system))
            .collect();
        for system in &systems {
            write!(f, " {system:>24}")?;
        }
        writeln!(f)?;
        for (metric, name) in METRICS {
            write!(f, "{name:<26}")?;
            for &system in &systems {
                let cell = self.spread(system, metric).map_or("-".to_owned(), |[min, mid, max]| {
                    format!("{} [{}..{}]", short(mid), short(min), short(max))
                });
                write!(f, " {cell:>24}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for Target { metric, against, at_least, bound } in TARGETS {
            let name = METRICS.iter().find(|(m, _)| *m == metric).map_or("", |(_, name)| *name);
            let unit = against.map(|system| self.spread(system, metric));
            let ours = self.spread(System::Sekisho, metric);
            let (Some([_, ours, _]), None | Some(Some(_))) = (ours, unit) else { continue };
            let (value, of) = match (unit, against) {
                (Some(Some([_, theirs, _])), Some(system)) => {
                    (ours / theirs, format!(" x {system}"))
                }
                _ => (ours, String::new()),
            };
            let met = if at_least { value >= bound } else { value <= bound };
            writeln!(
                f,
                "{} {name:<26} {}{of} (target: {} {bound})",
                if met { "met   " } else { "MISSED" },
                short(value),
                if at_least { "at least" } else { "at most" },
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_verdicts() {
        let mut report = Report::default();
        for value in [9.0, 7.0, 8.0] {
            report.add(System::Sekisho, Metric::Tcp, value);
        }
        for value in [0.5, 0.6] {
            report.add(System::Ovs, Metric::Tcp, value);
        }
        report.add(System::Sekisho, Metric::Start, 250.0);
        let text = report.to_string();
        assert!(text.contains("8.00 [7.00..9.00]") && text.contains("0.55 [0.50..0.60]"), "{text}");
        assert!(text.contains("met    TCP, one stream, Gb/s      14.5 x ovs"), "{text}");
        assert!(
            text.contains("MISSED start to first packet, ms  250 (target: at most 200)"),
            "{text}"
        );
        assert!(!text.contains("x bridge"), "nothing was measured there: {text}");
    }
}
