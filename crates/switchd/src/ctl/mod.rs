//! What the control socket says in JSON: shapes shared by the daemon, which answers, and the tools, which ask.

pub mod conntrack;
pub mod status;
