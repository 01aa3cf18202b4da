//! The daemon's control commands: one table for the switch, one for the database server.
//!
//! Each topic has a table of its own; [`SWITCH`] and [`DATABASE`] list them.

mod conntrack;
mod db;
mod dpctl;
mod dummy;
mod fdb;
mod fragments;
mod general;
mod ofproto;
mod pmd;
mod status;
mod zones;

pub(crate) use db::{DatabaseCommands, Databases};
pub(crate) use general::{Process, ProcessCommands};

use crate::control::Command;
use crate::daemon::Daemon;

/// Commands of `ovs-vswitchd`.
pub const SWITCH: &[&[Command<Daemon>]] = &[
    Daemon::PROCESS,
    general::SWITCH_COMMANDS,
    fdb::COMMANDS,
    ofproto::COMMANDS,
    dpctl::COMMANDS,
    pmd::COMMANDS,
    conntrack::DPCTL_COMMANDS,
    fragments::COMMANDS,
    conntrack::COMMANDS,
    zones::COMMANDS,
    status::COMMANDS,
    dummy::COMMANDS,
];

/// Commands of `ovsdb-server`.
pub const DATABASE: &[&[Command<Daemon>]] = &[Daemon::PROCESS, Daemon::DATABASE];

/// The program's name as the datapath commands' errors begin.
const PROGRAM: &str = "ovs-vswitchd";

/// Names under which the one datapath is asked for, with and without its type.
const DATAPATHS: [&str; 6] = [
    "netdev@ovs-netdev",
    "ovs-netdev",
    "system@ovs-system",
    "ovs-system",
    "dummy@ovs-dummy",
    "ovs-dummy",
];

/// Splits options (`-m`, `--more`) from arguments.
fn options(args: &[String]) -> (Vec<&str>, Vec<&str>) {
    args.iter().map(String::as_str).partition(|a| a.len() > 1 && a.starts_with('-'))
}

/// Takes a datapath's name off the arguments, if the first is one.
///
/// # Errors
/// A name that no datapath has.
fn take_datapath<'a>(
    args: &mut Vec<&'a str>,
    is_argument: impl Fn(&'a str) -> bool,
) -> Result<(), String> {
    let Some(first) = args.first() else { return Ok(()) };
    if is_argument(first) {
        return Ok(());
    }
    if DATAPATHS.contains(first) {
        args.remove(0);
        return Ok(());
    }
    Err(format!("{PROGRAM}: datapath not found (Invalid argument)"))
}
