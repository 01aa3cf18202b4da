//! Open vSwitch with DPDK, as Debian's `openvswitch-switch-dpdk` has it, on capture files.
//!
//! Without huge pages, so that the machine need not be set up; one polling thread, on the second processor.

use std::path::Path;

use anyhow::Result;
use testkit::netns::Netns;
use testkit::sut::Sut;

use crate::machine::Lack;

/// Where the package has the daemon. It has another name on the path, if it is there at all.
pub const PROGRAM: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// The driver of capture files (`librte-net-pcap23`).
const DRIVERS: &str = "/usr/lib/x86_64-linux-gnu/dpdk";

/// What it needs and is not here.
pub fn lack() -> Option<Lack> {
    let has_driver = |dir: &Path| {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        files.into_iter().any(|f| f.file_name().to_string_lossy().contains("librte_net_pcap"))
    };
    let drivers = std::fs::read_dir(DRIVERS).into_iter().flatten().flatten();
    let here = Path::new(PROGRAM).exists() && drivers.into_iter().any(|d| has_driver(&d.path()));
    (!here).then(|| {
        Lack::new(
            "OVS-DPDK with its driver of capture files",
            "apt-get install openvswitch-switch-dpdk librte-net-pcap23 brings them (and makes the former the \
             ovs-vswitchd of the machine, which update-alternatives can take back)",
        )
    })
}

/// Starts it with an empty database.
pub fn start(ns: &Netns) -> Result<Sut<'_>> {
    let settings = [
        "other_config:dpdk-init=true",
        "other_config:dpdk-lcore-mask=0x1",
        "other_config:pmd-cpu-mask=0x2",
        "other_config:dpdk-extra=--no-pci --no-huge --legacy-mem --file-prefix=bench -m 2000",
    ];
    Sut::start_stock(Some(PROGRAM), &settings, ns)
}
