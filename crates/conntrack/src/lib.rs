//! Connections, protocol state machines, zones, timeouts (sans-I/O).

#![no_std]
