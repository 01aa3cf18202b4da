//! The figures: their names, units and which way is better, and the promises that are made of some of them.

use crate::memory;
use crate::part::Part;
use crate::system::System;

/// A figure that is measured. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// One TCP stream, received.
    Tcp,
    /// Four TCP streams together.
    Tcp4,
    /// Round trip of a flood ping, average.
    Rtt,
    /// TCP connections opened and closed.
    Connections,
    /// 64-byte UDP packets of one connection that arrive.
    Udp,
    /// Processor time of the idle daemon, of one processor.
    Idle,
    /// Resident memory of the idle daemon.
    Memory,
    /// From the start of the daemon to the first forwarded packet.
    Start,
    /// Adding 100,000 flows.
    AddFlows,
    /// Dumping them.
    DumpFlows,
    /// Longest time without forwarding while they are added: packets of a known flow,
    Gap,
    /// packets that each need a flow of their own.
    GapNew,
    /// Resident memory of the daemon with a million flows.
    FlowMemory,
    /// Resident memory of the daemon with 2,000,000 connections.
    ConnMemory,
    /// The same with 3,000,000.
    ConnMemoryMore,
    /// Listing them with `dpctl/dump-conntrack`.
    DumpConns,
    /// Longest time without forwarding with 3,000,000 connections: while nothing is done with them,
    GapQuiet,
    /// while they are listed by `dpctl/dump-conntrack`,
    GapDump,
    /// by `conntrack -L`,
    GapList,
    /// while a zone of a million is flushed,
    GapFlush,
    /// while a million of them expire.
    GapExpire,
    /// One TCP stream: alone,
    FloodAlone,
    /// beside a generator of frames whose frames nobody gets,
    FloodBeside,
    /// while the switch gets them, 10,000,000 SYNs from another port.
    FloodUnder,
    /// What is left of the stream beside the generator.
    FloodShare,
    /// Resident memory after the flood.
    FloodMemory,
    /// Established connections that are left after the flood.
    FloodKept,
    /// One TCP stream alone;
    AttackAlone,
    /// while 1,000 packets a second are crafted against the caches;
    StreamCrafted,
    /// what is left of it then;
    CraftedShare,
    /// masks of the megaflows by then.
    CraftedMasks,
    /// The stream while a scan from another port goes nowhere;
    StreamBesideScan,
    /// and while the switch gets it;
    StreamScanned,
    /// what is left of the former,
    ScanShare,
    /// and of the stream alone.
    ScanWhole,
    /// The tracker alone. A connection of 1,000,000 of TCP;
    ConnBytes,
    /// packets of one core: of one connection over and over,
    TrackOne,
    /// of 10,000 established ones,
    TrackMany,
    /// of 100,000,
    TrackMore,
    /// of 1,000,000;
    TrackMost,
    /// a new connection;
    Commit,
    /// to flush one with its zone;
    Flush,
    /// what two threads do of what one does: packets of the same known connections,
    TwoUpdate,
    /// each of as many as the one has,
    TwoUpdateEach,
    /// the same new connections,
    TwoInsert,
    /// each as many as the one.
    TwoInsertEach,
    /// Frames from memory: the case of this number.
    Frames(usize),
    /// The case of this number with two workers, and which column of it.
    Workers(usize, memory::workers::Column),
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// As much as can be.
    More,
    /// As little.
    Less,
}

impl Better {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Better::More => "more",
            Better::Less => "less",
        }
    }
}

/// What is to be said of a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub part: Part,
    /// Its name within the part, for programs.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Empty: a number of things, or a ratio.
    pub unit: &'static str,
    pub better: Better,
}

type Row = (Metric, Part, &'static str, &'static str, &'static str, Better);

#[rustfmt::skip]
const METRICS: [Row; 46] = [
    (Metric::Tcp, Part::Tcp, "tcp", "TCP, one stream", "Gb/s", Better::More),
    (Metric::Tcp4, Part::Tcp4, "tcp4", "TCP, four streams", "Gb/s", Better::More),
    (Metric::Rtt, Part::Rtt, "rtt", "flood ping RTT", "us", Better::Less),
    (Metric::Connections, Part::Connections, "connections", "TCP connect and close", "1/s", Better::More),
    (Metric::Udp, Part::Udp, "udp", "UDP of 64 bytes", "kpps", Better::More),
    (Metric::Idle, Part::Rest, "idle-processor", "idle processor", "%", Better::Less),
    (Metric::Memory, Part::Rest, "idle-memory", "idle memory", "MiB", Better::Less),
    (Metric::Start, Part::Rest, "start", "start to first packet", "ms", Better::Less),
    (Metric::AddFlows, Part::Flows, "add-flows", "adding 100,000 flows", "s", Better::Less),
    (Metric::DumpFlows, Part::Flows, "dump-flows", "dumping 100,000 flows", "s", Better::Less),
    (Metric::Gap, Part::Flows, "gap-adding", "gap while adding", "ms", Better::Less),
    (Metric::GapNew, Part::Flows, "gap-adding-new", "gap while adding, new flows", "ms", Better::Less),
    (Metric::FlowMemory, Part::Flows, "flow-memory", "memory with 1,000,000 flows", "MiB", Better::Less),
    (Metric::ConnMemory, Part::Conntrack, "memory-2m", "memory with 2,000,000 connections", "MiB", Better::Less),
    (Metric::ConnMemoryMore, Part::Conntrack, "memory-3m", "memory with 3,000,000 connections", "MiB", Better::Less),
    (Metric::DumpConns, Part::Conntrack, "dump", "dumping 3,000,000 connections", "s", Better::Less),
    (Metric::GapQuiet, Part::Conntrack, "gap-quiet", "gap with 3,000,000", "ms", Better::Less),
    (Metric::GapDump, Part::Conntrack, "gap-dump", "gap, dump-conntrack", "ms", Better::Less),
    (Metric::GapList, Part::Conntrack, "gap-list", "gap, conntrack -L", "ms", Better::Less),
    (Metric::GapFlush, Part::Conntrack, "gap-flush", "gap, flush of a zone", "ms", Better::Less),
    (Metric::GapExpire, Part::Conntrack, "gap-expire", "gap, expiry", "ms", Better::Less),
    (Metric::FloodAlone, Part::Flood, "alone", "stream alone", "Gb/s", Better::More),
    (Metric::FloodBeside, Part::Flood, "beside", "stream beside a generator", "Gb/s", Better::More),
    (Metric::FloodUnder, Part::Flood, "under", "stream under a SYN flood", "Gb/s", Better::More),
    (Metric::FloodShare, Part::Flood, "share", "share of that beside it", "", Better::More),
    (Metric::FloodMemory, Part::Flood, "memory", "memory after the flood", "MiB", Better::Less),
    (Metric::FloodKept, Part::Flood, "kept", "connections kept", "%", Better::More),
    (Metric::AttackAlone, Part::Attack, "alone", "stream alone", "Gb/s", Better::More),
    (Metric::StreamCrafted, Part::Attack, "under-crafted", "stream under crafted frames", "Gb/s", Better::More),
    (Metric::CraftedShare, Part::Attack, "share-crafted", "share under them", "", Better::More),
    (Metric::CraftedMasks, Part::Attack, "masks", "masks by then", "", Better::Less),
    (Metric::StreamBesideScan, Part::Attack, "beside-scan", "stream beside a scan", "Gb/s", Better::More),
    (Metric::StreamScanned, Part::Attack, "under-scan", "stream under a scan", "Gb/s", Better::More),
    (Metric::ScanShare, Part::Attack, "share-scan", "share of that beside it", "", Better::More),
    (Metric::ScanWhole, Part::Attack, "share-scan-alone", "share of the stream alone", "", Better::More),
    (Metric::ConnBytes, Part::Tracker, "bytes", "a connection", "bytes", Better::Less),
    (Metric::TrackOne, Part::Tracker, "one", "1 connection", "Mpps", Better::More),
    (Metric::TrackMany, Part::Tracker, "10k", "10,000 connections", "Mpps", Better::More),
    (Metric::TrackMore, Part::Tracker, "100k", "100,000 connections", "Mpps", Better::More),
    (Metric::TrackMost, Part::Tracker, "1m", "1,000,000 connections", "Mpps", Better::More),
    (Metric::Commit, Part::Tracker, "commit", "a new connection", "ns", Better::Less),
    (Metric::Flush, Part::Tracker, "flush", "flush of one with its zone", "ns", Better::Less),
    (Metric::TwoUpdate, Part::Tracker, "two-known", "two threads, known connections, by one", "", Better::More),
    (Metric::TwoUpdateEach, Part::Tracker, "two-known-each", "the same, each as many as one alone", "", Better::More),
    (Metric::TwoInsert, Part::Tracker, "two-new", "two threads, new connections, by one", "", Better::More),
    (Metric::TwoInsertEach, Part::Tracker, "two-new-each", "the same, each as many as one alone", "", Better::More),
];

impl Metric {
    /// What is to be said of it.
    pub fn facts(self) -> Facts {
        match self {
            Metric::Frames(case) => memory::facts(case),
            Metric::Workers(case, column) => memory::workers::facts(case, column),
            _ => {
                // Every other one has a row: a test sees to it.
                let row = METRICS.iter().find(|row| row.0 == self).unwrap_or(&METRICS[0]);
                let &(_, part, name, title, unit, better) = row;
                Facts { part, name: name.to_owned(), title: title.to_owned(), unit, better }
            }
        }
    }
}

/// A promise: the median of [`Target::ours`] stands in this relation to a bound.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub metric: Metric,
    /// The system whose median is the unit of the bound; none: the bound is absolute.
    pub against: Option<System>,
    pub at_least: bool,
    pub bound: f64,
    /// What that system did once, on another machine; it stands in where the system was not measured.
    pub recorded: Option<f64>,
}

#[rustfmt::skip]
const TARGETS: [Target; 34] = [
    Target { metric: Metric::Tcp, against: Some(System::Ovs), at_least: true, bound: 18.0, recorded: None },
    Target { metric: Metric::Tcp, against: Some(System::BrNetfilter), at_least: true, bound: 1.0, recorded: None },
    Target { metric: Metric::Tcp, against: Some(System::OvsTso), at_least: true, bound: 1.1, recorded: None },
    Target { metric: Metric::Udp, against: Some(System::Ovs), at_least: true, bound: 2.0, recorded: None },
    Target { metric: Metric::Udp, against: Some(System::OvsAfxdp), at_least: true, bound: 1.2, recorded: None },
    Target { metric: Metric::Rtt, against: Some(System::Ovs), at_least: false, bound: 0.6, recorded: None },
    Target { metric: Metric::Rtt, against: Some(System::OvsAfxdp), at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::Connections, against: Some(System::Ovs), at_least: true, bound: 1.5, recorded: None },
    Target { metric: Metric::Idle, against: None, at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::Memory, against: None, at_least: false, bound: 20.0, recorded: None },
    Target { metric: Metric::Start, against: None, at_least: false, bound: 200.0, recorded: None },
    Target { metric: Metric::AddFlows, against: Some(System::Ovs), at_least: false, bound: 0.5, recorded: None },
    Target { metric: Metric::DumpFlows, against: Some(System::Ovs), at_least: false, bound: 0.5, recorded: None },
    Target { metric: Metric::Gap, against: None, at_least: false, bound: 5.0, recorded: None },
    Target { metric: Metric::GapNew, against: Some(System::Ovs), at_least: false, bound: 0.1, recorded: None },
    Target { metric: Metric::FlowMemory, against: Some(System::Ovs), at_least: false, bound: 0.6, recorded: None },
    Target { metric: Metric::ConnMemory, against: None, at_least: false, bound: 600.0, recorded: None },
    Target { metric: Metric::GapDump, against: None, at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::GapList, against: None, at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::GapFlush, against: None, at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::GapExpire, against: None, at_least: false, bound: 1.0, recorded: None },
    Target { metric: Metric::FloodShare, against: None, at_least: true, bound: 0.8, recorded: None },
    // The ceiling of 3,000,000 connections at 256 bytes each, and the daemon.
    Target { metric: Metric::FloodMemory, against: None, at_least: false, bound: 752.0, recorded: None },
    Target { metric: Metric::FloodKept, against: None, at_least: true, bound: 100.0, recorded: None },
    Target { metric: Metric::CraftedShare, against: None, at_least: true, bound: 0.9, recorded: None },
    Target { metric: Metric::ScanShare, against: None, at_least: true, bound: 0.5, recorded: None },
    Target { metric: Metric::ConnBytes, against: None, at_least: false, bound: 256.0, recorded: None },
    Target { metric: Metric::TrackOne, against: Some(System::Ovs), at_least: true, bound: 1.5, recorded: None },
    Target { metric: Metric::TrackMany, against: Some(System::Ovs), at_least: true, bound: 2.0, recorded: None },
    Target { metric: Metric::TrackMore, against: Some(System::Ovs), at_least: true, bound: 2.5, recorded: None },
    Target { metric: Metric::Commit, against: Some(System::Ovs), at_least: false, bound: 0.5, recorded: None },
    Target { metric: Metric::Flush, against: Some(System::Ovs), at_least: false, bound: 0.5, recorded: None },
    Target { metric: Metric::TwoUpdate, against: None, at_least: true, bound: 1.8, recorded: None },
    Target { metric: Metric::TwoInsert, against: None, at_least: true, bound: 1.8, recorded: None },
];

impl Target {
    /// Whose median it is of: with ports of the same type where the other's are of one.
    pub fn ours(&self) -> System {
        match self.against {
            Some(System::OvsAfxdp) => System::Afxdp,
            _ => System::Sekisho,
        }
    }

    /// All of them, in the order of the tables.
    pub fn all() -> Vec<Target> {
        let mut all = TARGETS.to_vec();
        all.extend(memory::targets());
        all.sort_by_key(|target| target.metric);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_row_and_no_name_stands_twice() {
        let mut names: Vec<_> = METRICS.iter().map(|row| (row.1, row.2)).collect();
        assert!(METRICS.iter().map(|row| row.0).is_sorted(), "not in the order of the enumeration");
        assert_eq!(Metric::TwoInsertEach.facts().name, "two-new-each", "the last one has a row");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for target in Target::all() {
            let part = target.metric.facts().part;
            assert!(part.has(target.ours()), "{target:?}");
            assert!(target.against.is_none_or(|system| part.has(system)), "{target:?}");
        }
    }
}
