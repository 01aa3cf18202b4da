//! Open vSwitch with DPDK, as Debian's `openvswitch-switch-dpdk` has it, on capture files.
//!
//! Without huge pages, so that the machine need not be set up; one polling thread, on the second processor.

use std::path::Path;

use anyhow::{Context, Result};
use testkit::netns::Netns;
use testkit::process::{DEADLINE, Proc, eventually};
use testkit::sut::{Sut, Whose};

/// Where the package has the daemon. It has another name on the path, if it is there at all.
const PROGRAM: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// The driver of capture files (`librte-net-pcap23`).
const DRIVERS: &str = "/usr/lib/x86_64-linux-gnu/dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Whether it can be run here.
pub fn is_installed() -> bool {
    let has_driver = |dir: &Path| {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        files.into_iter().any(|f| f.file_name().to_string_lossy().contains("librte_net_pcap"))
    };
    let drivers = std::fs::read_dir(DRIVERS).into_iter().flatten().flatten();
    Path::new(PROGRAM).exists() && drivers.into_iter().any(|d| has_driver(&d.path()))
}

/// A running daemon; ended when dropped.
#[derive(Debug)]
pub struct Dpdk<'a> {
    sut: Sut<'a>,
    /// Database server and switch.
    procs: [Proc; 2],
}

impl<'a> Dpdk<'a> {
    /// Starts it with an empty database.
    pub fn start(ns: &'a Netns) -> Result<Dpdk<'a>> {
        let sut = Sut::stage("", ns)?;
        let (dir, database) = (sut.rundir().to_owned(), sut.database());
        sut.run(&["ovsdb-tool", "create", &database, SCHEMA])?.ok()?;
        let remote = format!("--remote=punix:{dir}/db.sock");
        let server = format!("ovsdb-server {database} {remote} --pidfile -vconsole:off");
        let server = sut.spawn_tool(Whose::Stock, &server)?;
        eventually("the database takes clients", DEADLINE, || {
            Ok(sut.run(&["ovs-vsctl", "--no-wait", "init"])?.success().then_some(()))
        })?;
        let mut settings = vec!["ovs-vsctl", "--no-wait", "set", "Open_vSwitch", "."];
        settings.extend([
            "other_config:dpdk-init=true",
            "other_config:dpdk-lcore-mask=0x1",
            "other_config:pmd-cpu-mask=0x2",
            "other_config:dpdk-extra=--no-pci --no-huge --legacy-mem --file-prefix=bench -m 2000",
        ]);
        sut.run(&settings)?.ok()?;
        let switch = format!(
            "{PROGRAM} unix:{dir}/db.sock --pidfile={dir}/ovs-vswitchd.pid \
             --unixctl={dir}/ovs-vswitchd.ctl --log-file={dir}/log -vconsole:off"
        );
        let mut switch = sut.spawn_tool(Whose::Stock, &switch)?;
        eventually("OVS-DPDK answers", DEADLINE, || {
            anyhow::ensure!(switch.alive(), "OVS-DPDK ended: {}", switch.stderr());
            let argv = ["ovs-appctl", "-t", &format!("{dir}/ovs-vswitchd.ctl"), "version"];
            Ok(sut.run(&argv)?.success().then_some(()))
        })?;
        Ok(Dpdk { sut, procs: [server, switch] })
    }

    /// Process id of the switch.
    pub fn pid(&self) -> u32 {
        self.procs[1].pid()
    }

    /// Runs the words of a tool's line; its standard output.
    pub fn ok(&self, line: &str) -> Result<String> {
        let control = format!("{}/ovs-vswitchd.ctl", self.sut.rundir());
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"ovs-appctl") {
            words.splice(1..1, ["-t", &control]);
        }
        self.sut.run(&words)?.ok()
    }

    /// The error of an interface whose port was added, if it has one.
    pub fn check(&self, interface: &str) -> Result<()> {
        let error = self.ok(&format!("ovs-vsctl get Interface {interface} error"))?;
        anyhow::ensure!(error.trim() == "[]", "OVS-DPDK: {interface}: {}", error.trim());
        Ok(())
    }
}

impl Drop for Dpdk<'_> {
    fn drop(&mut self) {
        // A stopped process has to go on to end; one that has ended needs nothing.
        let _ = testkit::process::signal(self.pid(), "CONT").context("it is gone");
        self.procs.iter_mut().for_each(Proc::kill);
    }
}
