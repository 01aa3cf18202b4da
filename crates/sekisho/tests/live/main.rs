//! The whole switch, alive: the binary in network namespaces and with QEMU guests, driven by our
//! tools and by the stock ones.
//!
//! `SEKISHO_SUT=stock` puts the stock Open vSwitch in the place of our daemon in the tests that
//! name no switch themselves, which tells a fault of the harness from a fault of the switch;
//! `SEKISHO=PATH` takes another build of the binary.

#![allow(clippy::unwrap_used)]

mod afxdp;
mod attack;
mod bad_clients;
mod bad_devices;
mod bench;
mod controllers;
mod conversations;
mod demo;
mod devices;
mod external_database;
mod fragments;
mod fragments_side_by_side;
mod groups;
mod kernel_path;
mod kill_nine;
mod memory;
mod mirrors;
mod monitor;
mod nat;
mod ports;
mod refusals;
mod security_groups;
mod simulated;
mod story;
mod story_qemu;
mod tls;
mod top;
mod traffic;
mod transcript;
mod transfers;
mod wild;
mod words;
mod workers;
mod zones;

use std::collections::BTreeMap;

use testkit::need;
use testkit::netns::Netns;
use testkit::sut::{Sut, Whose, have_stock};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_sekisho");

/// The switch under test where a test does not name one.
pub fn switch() -> Whose {
    match std::env::var("SEKISHO_SUT") {
        Ok(name) if name == "stock" => Whose::Stock,
        _ => Whose::Ours,
    }
}

/// The tools to set things up with where a test is not about tools: those of the switch, or the
/// stock ones with `SEKISHO_TOOLS=stock`.
pub fn tools() -> Whose {
    match std::env::var("SEKISHO_TOOLS") {
        Ok(name) if name == "stock" => Whose::Stock,
        _ => switch(),
    }
}

/// Starts the switch under test in `ns`.
pub fn start(ns: &Netns) -> Sut<'_> {
    Sut::start(switch(), BINARY, ns).unwrap()
}

/// The daemon's counters by their names.
pub fn coverage(sut: &Sut<'_>) -> BTreeMap<String, u64> {
    let text = sut.ok(tools(), "ovs-appctl coverage/show").unwrap();
    let row = |l: &str| {
        let (_, total) = l.rsplit_once("total: ")?;
        Some((l.split_whitespace().next()?.to_owned(), total.trim().parse().unwrap()))
    };
    text.lines().filter_map(row).collect()
}

/// Whether this machine can run `switch` with `tools` (notes what is missing).
pub fn can_run(switch: Whose, tools: Whose) -> bool {
    if switch == Whose::Stock && !need::programs(&["ethtool"]).unwrap() {
        return false;
    }
    (switch == Whose::Ours && tools == Whose::Ours) || have_stock().unwrap()
}
