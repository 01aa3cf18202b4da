//! What is measured against what.

use std::fmt;

use anyhow::{Result, bail};
use testkit::sut::Whose;

/// A switch, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// This project's switch, the machines' default offloads on.
    Sekisho,
    /// The same with ports of `type=afxdp`.
    Afxdp,
    /// Stock Open vSwitch, `datapath_type=netdev`, the machines' transmit offloads off.
    Ovs,
    /// The same with `userspace-tso-enable`, the machines' offloads on.
    OvsTso,
    /// Stock Open vSwitch with ports of `type=afxdp`, which one processor polls all the time.
    OvsAfxdp,
    /// Stock Open vSwitch with DPDK, on capture files.
    OvsDpdk,
    /// Linux bridge with br_netfilter, iptables and conntrack.
    BrNetfilter,
    /// Linux bridge, no policy.
    Bridge,
    /// A veth pair and no switch: the ceiling of the machine.
    Direct,
}

/// A system, its name, whether it is measured unless others are asked for, what it is.
const SYSTEMS: [(System, &str, bool, &str); 9] = [
    (System::Sekisho, "sekisho", true, "this switch"),
    (System::Afxdp, "afxdp", false, "this switch, ports of type=afxdp"),
    (
        System::Ovs,
        "ovs",
        true,
        "Open vSwitch, userspace datapath, the machines' transmit offloads off",
    ),
    (System::OvsTso, "ovs-tso", false, "Open vSwitch, userspace-tso-enable=true, offloads on"),
    (
        System::OvsAfxdp,
        "ovs-afxdp",
        false,
        "Open vSwitch, ports of type=afxdp, one processor polls",
    ),
    (System::OvsDpdk, "ovs-dpdk", true, "Open vSwitch with DPDK, frames from memory"),
    (
        System::BrNetfilter,
        "br_netfilter",
        true,
        "Linux bridge, the policy by iptables and conntrack",
    ),
    (System::Bridge, "bridge", true, "Linux bridge, no policy"),
    (
        System::Direct,
        "direct",
        false,
        "a veth pair, no switch, no policy: the ceiling of the machine",
    ),
];

impl System {
    /// Whose medians are the unit of ratios: the first of these that was measured.
    pub(crate) const REFERENCES: [System; 4] =
        [System::Ovs, System::OvsDpdk, System::BrNetfilter, System::Bridge];

    /// All of them, in the order of the tables.
    pub fn all() -> impl Iterator<Item = System> {
        SYSTEMS.iter().map(|row| row.0)
    }

    /// Those that are measured unless others are asked for.
    pub fn usual() -> Vec<System> {
        SYSTEMS.iter().filter(|row| row.2).map(|row| row.0).collect()
    }

    /// The systems of a comma-separated list.
    ///
    /// # Errors
    /// If it has an unknown name.
    pub fn parse_list(list: &str) -> Result<Vec<System>> {
        list.split(',').map(System::parse).collect()
    }

    fn parse(name: &str) -> Result<System> {
        match SYSTEMS.iter().find(|row| row.1 == name) {
            Some(row) => Ok(row.0),
            None => {
                let names = SYSTEMS.map(|row| row.1).join(", ");
                bail!("there is no system \"{name}\"; there are {names}")
            }
        }
    }

    fn row(self) -> &'static (System, &'static str, bool, &'static str) {
        // Every system has a row: a test sees to it.
        SYSTEMS.iter().find(|row| row.0 == self).unwrap_or(&SYSTEMS[0])
    }

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it is, in a line.
    pub fn about(self) -> &'static str {
        self.row().3
    }

    /// Its line in a list.
    pub(crate) fn line(self) -> String {
        let mark = if self.row().2 { '*' } else { ' ' };
        format!("{mark} {:<14}{}", self.name(), self.about())
    }

    /// Whose daemon it is, if it is one.
    pub(crate) fn whose(self) -> Option<Whose> {
        match self {
            System::Sekisho | System::Afxdp => Some(Whose::Ours),
            System::Ovs | System::OvsTso | System::OvsAfxdp | System::OvsDpdk => Some(Whose::Stock),
            System::BrNetfilter | System::Bridge | System::Direct => None,
        }
    }

    /// Whether the story's policy is in force.
    pub(crate) fn has_policy(self) -> bool {
        !matches!(self, System::Bridge | System::Direct)
    }

    /// Whether it takes a processor even when nothing is to be done, so that it must be stopped while it is not its turn.
    pub(crate) fn polls(self) -> bool {
        matches!(self, System::OvsAfxdp | System::OvsDpdk)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_its_row_and_name() {
        for system in System::all() {
            assert_eq!(System::parse_list(system.name()).unwrap(), [system]);
        }
        // In the order of the enumeration, which is that of reports.
        assert!(System::all().is_sorted());
        assert_eq!(System::Direct.name(), "direct", "the last one has a row");
        let error = System::parse_list("ovs,ovn").unwrap_err().to_string();
        assert!(error.starts_with("there is no system \"ovn\"; there are sekisho, "), "{error}");
    }
}
