//! Text of keys, actions and whole megaflows, as `dpctl/dump-flows` writes it
//! (`ovs-dpctl(8)`). Groups stand in the order of OVS 3.7; OVS 3.1 writes the same ones in another.
//!
//! `table` lists the groups and their items once; formatting and parsing both read it.

mod actions;
mod key;
mod parse;
mod table;

use alloc::string::String;
use core::fmt;

use base::{DpPort, Instant};

use crate::{FlowStats, Megaflow};

pub use actions::{ActionsText, format_actions};
pub use key::{KeyText, format_key};
pub use parse::{ParseError, parse_key};
pub use table::TCP_FLAGS;

/// Names of datapath ports. Without a name the number is written.
pub type PortNames<'a> = &'a dyn Fn(DpPort) -> Option<String>;

/// Writes numbers for all ports.
pub const NO_NAMES: PortNames<'static> = &|_| None;

fn write_port(f: &mut fmt::Formatter<'_>, port: DpPort, names: PortNames<'_>) -> fmt::Result {
    match names(port) {
        Some(name) => f.write_str(&name),
        None => write!(f, "{}", port.0),
    }
}

/// `0x1f`, but `0` for zero, as C's `%#x` does.
struct CHex(u128);

impl fmt::Display for CHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// The statistics part of a flow: `packets:7, bytes:531, used:2.143s, flags:S`.
pub fn format_stats(stats: &FlowStats, now: Instant) -> impl fmt::Display {
    let stats = *stats;
    fmt::from_fn(move |f| {
        write!(f, "packets:{}, bytes:{}, used:", stats.n_packets, stats.n_bytes)?;
        match stats.used {
            None => f.write_str("never")?,
            Some(t) => {
                let ms = now.since(t).as_millis();
                write!(f, "{}.{:03}s", ms / 1000, ms % 1000)?;
            }
        }
        if stats.tcp_flags != 0 {
            f.write_str(", flags:")?;
            for (_, bit, letter) in TCP_FLAGS {
                if stats.tcp_flags & bit != 0 {
                    write!(f, "{letter}")?;
                }
            }
        }
        Ok(())
    })
}

impl Megaflow {
    /// The line of `dpctl/dump-flows`; with `more` that of `dump-flows -m`.
    pub fn text<'a>(
        &'a self,
        now: Instant,
        more: bool,
        names: PortNames<'a>,
    ) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            if more {
                write!(f, "ufid:{}, ", self.ufid)?;
            }
            let key = format_key(&self.key, Some(&self.mask), more, names);
            write!(f, "{key}, {}, ", format_stats(&self.stats(), now))?;
            if more {
                f.write_str("dp:ovs, ")?;
            }
            write!(f, "actions:{}", format_actions(&self.actions, names))?;
            if more {
                let (low, high) = key::miniflow_bits(&self.mask);
                write!(f, ", dp-extra-info:miniflow_bits({low},{high})")?;
            }
            Ok(())
        })
    }
}
