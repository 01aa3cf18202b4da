//! The daemon: threads, clock, sockets, OVSDB rows to running bridges.

pub mod ctl;
pub mod unixctl;
