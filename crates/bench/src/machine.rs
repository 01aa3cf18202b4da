//! The machine: what it is, what it lacks for a measurement, and which versions of everything are there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::netns::Netns;
use testkit::sut::{STOCK_PROGRAMS, STOCK_SCHEMA};
use testkit::{need, process};

use crate::alone;
use crate::memory::dpdk;
use crate::part::Part;
use crate::stage::Stage;
use crate::system::System;

/// Something that is needed and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What; behind "needs".
    pub what: String,
    /// What would bring it.
    pub remedy: String,
}

impl Lack {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Lack {
        Lack { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs {}; {}", self.what, self.remedy)
    }
}

/// Programs, and the Debian packages that have them.
const PACKAGES: [(&str, &str); 15] = [
    ("sh", "dash"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("chrt", "util-linux"),
    ("taskset", "util-linux"),
    ("ping", "iputils-ping"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("iptables", "iptables"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovsdb-server", "openvswitch-switch"),
    ("ovsdb-tool", "openvswitch-common"),
    ("ovs-vsctl", "openvswitch-common"),
];

/// What namespaces, addresses and pings are made with.
const ALWAYS: [&str; 6] = ["sh", "ip", "unshare", "nsenter", "setpriv", "ping"];

/// What of some programs is not there.
fn lack_programs<'a>(programs: impl IntoIterator<Item = &'a &'a str>) -> Option<Lack> {
    let missing: Vec<&str> =
        programs.into_iter().copied().filter(|p| need::find(p).is_none()).collect();
    if missing.is_empty() {
        return None;
    }
    let package = |program: &&str| {
        let row = PACKAGES.iter().find(|row| row.0 == *program);
        row.map_or("openvswitch-switch", |row| row.1)
    };
    let mut packages: Vec<&str> = missing.iter().map(package).collect();
    packages.sort_unstable();
    packages.dedup();
    let remedy = format!("apt-get install {} brings what is missing", packages.join(" "));
    Some(Lack::new(missing.join(", "), remedy))
}

/// What every measurement needs.
///
/// # Errors
/// What of it is not there, and what would bring it.
pub fn check() -> Result<(), String> {
    if let Some(lack) = lack_programs(&ALWAYS) {
        return Err(lack.to_string());
    }
    // A bridge as well as a namespace: a container may be allowed the one and not the other.
    let tried =
        Netns::new("probe").and_then(|ns| ns.ip("link add probe0 type veth peer name probe1"));
    match tried {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "{error:#}\n\
             Network namespaces with veth devices are needed: run it as root (in a container that is allowed to, like \
             those of --privileged), or as a user who may make user namespaces (sysctl user.max_user_namespaces above 0, \
             and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
        )),
    }
}

/// What a part of a system needs and is not there.
pub fn lack(part: Part, system: System) -> Option<Lack> {
    match (part, system) {
        (Part::Tracker, System::Ovs) => alone::lack_theirs(),
        (Part::Tracker, _) => alone::lack_ours(),
        _ => lack_of(system).or_else(|| lack_programs(part.programs())),
    }
}

/// What a system needs and is not there.
pub fn lack_of(system: System) -> Option<Lack> {
    let stock = || {
        lack_programs(STOCK_PROGRAMS).or_else(|| {
            let gone = !Path::new(STOCK_SCHEMA).exists();
            gone.then(|| Lack::new(STOCK_SCHEMA, "openvswitch-common has it"))
        })
    };
    match system {
        System::Sekisho | System::Afxdp | System::Bridge | System::Direct => None,
        System::Ovs | System::OvsAfxdp => stock().or_else(|| lack_programs(&["ethtool"])),
        System::OvsTso => stock(),
        System::OvsDpdk => stock().or_else(dpdk::lack),
        System::BrNetfilter => lack_programs(&["iptables"]).or_else(|| {
            let knob = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
            let gone = !knob.exists();
            gone.then(|| Lack::new("br_netfilter in the kernel", "modprobe br_netfilter loads it"))
        }),
    }
}

/// What there is.
#[derive(Debug, Clone)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    /// Processes that were ready to run, averaged over the minute before.
    load: f64,
    root: bool,
    versions: BTreeMap<System, String>,
}

impl Machine {
    /// Looks at this one, and for the versions of some systems.
    pub fn look(stage: &Stage<'_>, systems: &[System]) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kilobytes = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let version = |system: System| Some((system, version(stage, system)?));
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: value(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kilobytes.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024,
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
            root: process::host(&["id", "-u"]).is_ok_and(|id| id.trim() == "0"),
            versions: systems.iter().copied().filter_map(version).collect(),
        }
    }

    /// Of which version a system is; those of the kernel have none.
    pub fn version(&self, system: System) -> Option<&str> {
        self.versions.get(&system).map(String::as_str)
    }

    /// Its part of the document.
    pub fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "load": self.load,
            "root": self.root,
        })
    }

    #[cfg(test)]
    pub fn made_up() -> Machine {
        let versions = [(System::Sekisho, "0.1.0"), (System::Ovs, "3.1.0")];
        Machine {
            kernel: "6.18".into(),
            cpu: "AMD EPYC".into(),
            cores: 2,
            memory_mib: 8192,
            load: 0.25,
            root: true,
            versions: versions.map(|(system, v)| (system, v.to_owned())).into(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { kernel, cpu, cores, memory_mib, load, .. } = self;
        writeln!(f, "{cores} × {cpu}, {memory_mib} MiB, Linux {kernel}, load {load}")?;
        for (system, version) in &self.versions {
            writeln!(f, "{system}: {version}")?;
        }
        if *load >= 0.5 {
            writeln!(f, "Others were at work when it began: believe ratios at most.")?;
        }
        Ok(())
    }
}

/// What a daemon says of itself.
fn version(stage: &Stage<'_>, system: System) -> Option<String> {
    let (program, argument) = match system {
        System::Sekisho | System::Afxdp => (PathBuf::from(&stage.binary), "version"),
        System::Ovs | System::OvsTso | System::OvsAfxdp => {
            (need::find("ovs-vswitchd")?, "--version")
        }
        System::OvsDpdk => (dpdk::PROGRAM.into(), "--version"),
        System::BrNetfilter | System::Bridge | System::Direct => return None,
    };
    let ran = process::run(Command::new(program).arg(argument)).ok()?;
    Some(ran.stdout.lines().next()?.split(' ').next_back()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_missing_are_named_with_their_package() {
        assert_eq!(lack_programs(&["sh"]), None);
        let lack = lack_programs(&["sh", "ovs-no-such", "nor-such"]).unwrap();
        assert_eq!(
            lack.to_string(),
            "needs ovs-no-such, nor-such; apt-get install openvswitch-switch brings what is missing"
        );
        for part in Part::all() {
            for program in part.programs().iter().chain(&ALWAYS) {
                assert!(PACKAGES.iter().any(|row| row.0 == *program), "{program} is of no package");
            }
        }
    }

    #[test]
    fn a_busy_machine_is_told() {
        let machine = Machine::made_up();
        let text = machine.to_string();
        assert!(
            text.starts_with("2 × AMD EPYC, 8192 MiB, Linux 6.18, load 0.25\nsekisho: 0.1.0\n")
        );
        assert!(!text.contains("at work"), "{text}");
        assert!(Machine { load: 3.0, ..machine }.to_string().contains("at work"));
    }
}
