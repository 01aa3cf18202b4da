//! OpenFlow semantics: tables, translation to datapath actions, sessions, trace (sans-I/O).

#![no_std]
