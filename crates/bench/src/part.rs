//! What is measured.

use std::fmt;

use anyhow::{Result, bail};

use crate::system::System;

/// A set of figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One TCP stream.
    Tcp,
    /// Four of them.
    Tcp4,
    /// Round trips.
    Rtt,
    /// Connections opened and closed.
    Connections,
    /// Small UDP packets.
    Udp,
    /// Frames from memory.
    Memory,
    /// Start, memory, idle processor.
    Rest,
    /// Large flow tables.
    Flows,
    /// Millions of tracked connections.
    Conntrack,
    /// A flood of new ones.
    Flood,
    /// Packets that no cache knows, made for that.
    Attack,
    /// The tracker without a switch.
    Tracker,
    /// Frames from memory with two workers.
    Workers,
}

/// A part, its name, the systems that have it, what it is.
type Row = (Part, &'static str, &'static [System], &'static str);

/// Systems between two machines.
const SWITCHES: &[System] = &[
    System::Sekisho,
    System::Afxdp,
    System::Ovs,
    System::OvsTso,
    System::OvsAfxdp,
    System::BrNetfilter,
    System::Bridge,
    System::Direct,
];
const DAEMONS: &[System] = &[System::Sekisho, System::Afxdp, System::Ovs, System::OvsAfxdp];
const OURS_AND_OVS: &[System] = &[System::Sekisho, System::Ovs];

const PARTS: [Row; 13] = [
    (Part::Tcp, "tcp", SWITCHES, "one TCP stream"),
    (Part::Tcp4, "tcp4", SWITCHES, "four TCP streams at once"),
    (Part::Rtt, "rtt", SWITCHES, "round trip of a flood ping"),
    (Part::Connections, "connections", SWITCHES, "TCP connections opened and closed"),
    (Part::Udp, "udp", SWITCHES, "UDP packets of 64 bytes of one connection"),
    (Part::Memory, "memory", &[System::Sekisho, System::OvsDpdk], "frames from memory, one thread"),
    (Part::Rest, "rest", DAEMONS, "start, memory and processor time of an idle daemon"),
    (Part::Flows, "flows", DAEMONS, "adding and dumping 100,000 flows, traffic meanwhile"),
    (Part::Conntrack, "conntrack", OURS_AND_OVS, "millions of connections (20 minutes)"),
    (Part::Flood, "flood", OURS_AND_OVS, "a flood of 10,000,000 new connections (10 minutes)"),
    (Part::Attack, "attack", OURS_AND_OVS, "packets made against caches (10 minutes)"),
    (Part::Tracker, "tracker", OURS_AND_OVS, "the connection tracker alone (developers)"),
    (Part::Workers, "workers", &[System::Sekisho], "two workers beside one, frames from memory"),
];

/// The parts whose systems stand side by side and forward between two machines.
pub const TRAFFIC: [Part; 5] = [Part::Tcp, Part::Tcp4, Part::Rtt, Part::Connections, Part::Udp];

impl Part {
    /// All of them, in the order of the tables.
    pub fn all() -> impl Iterator<Item = Part> {
        PARTS.iter().map(|row| row.0)
    }

    /// Those that are measured unless others are asked for.
    pub fn usual() -> Vec<Part> {
        TRAFFIC.into_iter().chain([Part::Memory]).collect()
    }

    /// The parts of a comma-separated list, in which names of groups may stand.
    ///
    /// # Errors
    /// If it has an unknown name.
    pub fn parse_list(list: &str) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for name in list.split(',') {
            match (PARTS.iter().find(|row| row.1 == name), name) {
                (Some(row), _) => parts.push(row.0),
                (None, "traffic") => parts.extend(TRAFFIC),
                (None, "all") => parts.extend(Part::all()),
                (None, _) => {
                    let names = PARTS.map(|row| row.1).join(", ");
                    bail!("there is no part \"{name}\"; there are {names}, and traffic, all")
                }
            }
        }
        Ok(parts)
    }

    fn row(self) -> &'static Row {
        // Every part has a row: a test sees to it.
        PARTS.iter().find(|row| row.0 == self).unwrap_or(&PARTS[0])
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        self.row().3
    }

    /// Whether there is something to measure of a system.
    pub(crate) fn has(self, system: System) -> bool {
        self.row().2.contains(&system)
    }

    /// Its lines in a list.
    pub(crate) fn with_systems(self) -> String {
        let mark = if Part::usual().contains(&self) { '*' } else { ' ' };
        let systems: Vec<&str> = self.row().2.iter().map(|s| s.name()).collect();
        format!("{mark} {:<12}{}\n{:14}of {}", self.name(), self.about(), "", systems.join(", "))
    }

    /// The programs it uses besides those that every part uses.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Part::Udp => &["nft"],
            Part::Flows | Part::Conntrack => &["chrt", "taskset"],
            _ => &[],
        }
    }
}

/// The lines of a list that tell of groups.
pub fn groups_text() -> String {
    let names = TRAFFIC.map(Part::name).join(", ");
    format!("  {:<12}{names}\n  {:<12}every part\n", "traffic", "all")
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_row_and_name() {
        for part in Part::all() {
            assert_eq!(Part::parse_list(part.name()).unwrap(), [part]);
            assert!(part.has(System::Sekisho));
        }
        assert!(Part::all().is_sorted());
        assert_eq!(Part::Workers.name(), "workers", "the last one has a row");
        assert_eq!(Part::parse_list("traffic,flows").unwrap().len(), 6);
        assert_eq!(Part::parse_list("all").unwrap().len(), PARTS.len());
        let error = Part::parse_list("tcp,tpc").unwrap_err().to_string();
        assert!(error.starts_with("there is no part \"tpc\"; there are tcp, tcp4, "), "{error}");
    }
}
