//! What the fuzzers do with bytes: one function per target.
//!
//! A target takes any bytes and panics if the program does wrong with them. The same functions are called by
//! libFuzzer (`fuzz/fuzz_targets`) and, on the kept corpus and on mutations of it, by this crate's test,
//! which needs no fuzzer. [`TARGETS`] lists them; the name is that of the corpus directory.
//!
//! Invariants: a target depends on its bytes only (no clock, no randomness), and keeps nothing between calls.

pub mod conntrack_seq;
pub mod fragments;
pub mod input;
pub mod mutate;
pub mod netlink;
pub mod ofproto_session;
pub mod openflow_msg;
pub mod ovsdb_db;
pub mod packets;
pub mod rewriting;
pub mod text;
pub mod unixctl;

/// A target: takes bytes, panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets with the names of their corpus directories.
pub const TARGETS: &[(&str, Target)] = &[
    ("packet", packets::target),
    ("conntrack", conntrack_seq::target),
    ("fragments", fragments::target),
    ("openflow", openflow_msg::target),
    ("ofproto", ofproto_session::target),
    ("flow_text", text::flows),
    ("odp_text", text::datapath_keys),
    ("ovsdb", ovsdb_db::sessions),
    ("ovsdb_log", ovsdb_db::log_files),
    ("unixctl", unixctl::target),
    ("rewrite", rewriting::target),
    ("netlink", netlink::target),
];
