//! The daemon: threads, clock, sockets, OVSDB rows to running bridges.
