//! Checks of the house: arrows, file sizes, table completeness.

fn main() {}
