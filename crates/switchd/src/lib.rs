//! The daemon: threads, clock, sockets, OVSDB rows to running bridges.

pub mod clock;
pub mod config;
pub mod control;
pub mod ctl;
pub mod pidfile;
pub mod unixctl;
pub mod vlog;
