//! The daemon: threads, clock, sockets, OVSDB rows to running bridges.

pub mod afxdp;
pub mod aside;
pub mod clock;
mod commands;
pub mod config;
pub mod connlog;
pub mod control;
mod counters;
pub mod coverage;
pub mod ctflush;
pub mod ctl;
pub mod daemon;
pub mod database;
pub mod dbhost;
pub mod dbserver;
pub mod device;
pub mod dplog;
pub mod features;
pub mod hex;
pub mod host;
pub mod inband;
mod kernelpath;
pub mod managers;
pub mod memory;
pub mod mirrors;
pub mod ofconn;
pub mod pidfile;
pub mod pmd;
pub mod reconcile;
pub mod reconnect;
pub mod remote;
pub mod remotedb;
pub mod rxq;
pub mod sim;
pub mod status;
pub mod tables;
mod talkers;
pub mod unixctl;
pub mod vlog;
pub mod world;
pub mod writeback;
pub mod zones;

/// The release of Open vSwitch whose behaviour, schema and texts this daemon has.
pub const OVS_VERSION: &str = "3.1.0";
