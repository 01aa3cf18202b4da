//! The binary: run, demo and the tools.

fn main() {}
