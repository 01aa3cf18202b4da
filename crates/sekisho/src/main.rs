//! The binary: `sekisho run`, `sekisho demo` and the tools, in one multi-call program.
//!
//! Called as `ovs-vsctl`, `ovs-appctl`, `conntrack`, … (by a link, see `sekisho install-links`) it is
//! that tool; called as `sekisho vsctl …` it is the same. The one list of what there is stands in
//! [`applet`]; exit codes are decided there as well.

mod appctl;
mod applet;
mod bench;
mod conntrack_tool;
mod control;
mod daemonize;
mod daemons;
mod demo;
mod dpctl;
mod getopt;
mod links;
mod lint;
mod ofctl;
mod ovsdb_client;
mod ovsdb_server;
mod pki;
mod run;
mod table;
mod top;
mod vsctl;
mod vswitchd;
mod why;

fn main() -> std::process::ExitCode {
    applet::main(std::env::args_os().collect())
}
