//! The lines of `dpctl/dump-conntrack` and `dpctl/ct-stats-show`, as OVS prints them.

use crate::{ConnSnapshot, CtStats, ExpectSnapshot, TcpInfo, Tuple};
use core::fmt::{self, Write};
use packet::header::ipproto;

/// What a dump shows beyond the connection itself.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// `-m`, `--more`: id, status, both ends' TCP states.
    pub more: bool,
    /// `-s`, `--statistics`: time left.
    pub statistics: bool,
}

/// Protocols that OVS names; others are numbers.
const PROTO_NAMES: [(u8, &str); 8] = [
    (ipproto::ICMP, "icmp"),
    (ipproto::ICMPV6, "icmpv6"),
    (ipproto::TCP, "tcp"),
    (ipproto::UDP, "udp"),
    (ipproto::SCTP, "sctp"),
    (33, "dccp"),
    (ipproto::IGMP, "igmp"),
    (136, "udplite"),
];

/// A connection as a line of `dpctl/dump-conntrack`, without the line's end.
#[derive(Copy, Clone, Debug)]
pub struct DumpLine<'a>(pub &'a ConnSnapshot, pub DumpOptions);

impl fmt::Display for DumpLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DumpLine(c, options) = *self;
        proto_name(f, c.orig.proto)?;
        f.write_str(",orig=(")?;
        tuple(f, &c.orig)?;
        f.write_str("),reply=(")?;
        tuple(f, &c.reply)?;
        f.write_char(')')?;
        if options.more {
            // OVS's userspace tracker gives its connections no number.
            f.write_str(",id=0")?;
        }
        if c.zone.0 != 0 {
            write!(f, ",zone={}", c.zone.0)?;
        }
        if options.more {
            f.write_str(",status=0")?;
        }
        if options.statistics {
            write!(f, ",timeout={}", c.timeout.as_secs())?;
        }
        marks(f, c.mark, c.label)?;
        if let Some(tcp) = &c.tcp {
            protoinfo(f, tcp, options.more)?;
        }
        if let Some(helper) = c.helper {
            write!(f, ",helper={}", helper.name())?;
        }
        if let Some(parent) = c.parent.filter(|_| options.more) {
            f.write_str(",parent=(")?;
            tuple(f, &parent)?;
            f.write_char(')')?;
        }
        Ok(())
    }
}

fn protoinfo(f: &mut fmt::Formatter<'_>, tcp: &TcpInfo, more: bool) -> fmt::Result {
    if !more {
        return write!(f, ",protoinfo=(state={})", tcp.state().name());
    }
    let [orig, reply] = tcp.states;
    write!(f, ",protoinfo=(state_orig={},state_reply={}", orig.name(), reply.name())?;
    let shifts = tcp.wscale.map(|w| w.unwrap_or(0));
    if shifts != [0, 0] {
        write!(f, ",wscale_orig={},wscale_reply={}", shifts[0], shifts[1])?;
    }
    let flags = |scale: Option<u8>| match scale {
        Some(_) => "WINDOW_SCALE",
        None if tcp.liberal => "BE_LIBERAL",
        None => "0",
    };
    write!(f, ",flags_orig={},flags_reply={}", flags(tcp.wscale[0]), flags(tcp.wscale[1]))?;
    f.write_char(')')
}

/// An expectation as a line of `dpctl/dump-conntrack-exp`, without the line's end.
#[derive(Copy, Clone, Debug)]
pub struct ExpectLine<'a>(pub &'a ExpectSnapshot);

impl fmt::Display for ExpectLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        proto_name(f, e.orig.proto)?;
        f.write_str(",orig=(")?;
        tuple(f, &e.orig)?;
        f.write_char(')')?;
        if e.zone.0 != 0 {
            write!(f, ",zone={}", e.zone.0)?;
        }
        marks(f, e.mark, e.label)?;
        f.write_str(",parent=(")?;
        tuple(f, &e.parent)?;
        f.write_char(')')
    }
}

fn marks(f: &mut fmt::Formatter<'_>, mark: u32, label: u128) -> fmt::Result {
    if mark != 0 {
        write!(f, ",mark={mark}")?;
    }
    if label != 0 {
        write!(f, ",labels={label:#x}")?;
    }
    Ok(())
}

fn proto_name(f: &mut fmt::Formatter<'_>, proto: u8) -> fmt::Result {
    match PROTO_NAMES.iter().find(|(p, _)| *p == proto) {
        Some((_, name)) => f.write_str(name),
        None => write!(f, "{proto}"),
    }
}

fn tuple(f: &mut fmt::Formatter<'_>, t: &Tuple) -> fmt::Result {
    write!(f, "src={},dst={}", t.src, t.dst)?;
    match t.icmp_parts() {
        Some((id, ty, code)) => write!(f, ",id={id},type={ty},code={code}"),
        None => write!(f, ",sport={},dport={}", t.src_id, t.dst_id),
    }
}

/// The answer of `dpctl/ct-stats-show`; `more` adds the states of TCP connections.
#[derive(Copy, Clone, Debug)]
pub struct StatsText<'a> {
    /// What was counted.
    pub stats: &'a CtStats,
    /// `-m`, `verbose`.
    pub more: bool,
}

impl fmt::Display for StatsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Connections Stats:\n    Total: {}", self.stats.total)?;
        for (name, n) in self.stats.protocols() {
            if n == 0 || name == CtStats::ICMPV6 {
                continue;
            }
            writeln!(f, "  {name}: {n}")?;
            if name == "TCP" && self.more {
                writeln!(f, "    Conn per TCP states:")?;
                for (state, n) in self.stats.tcp_states() {
                    if n != 0 {
                        writeln!(f, "\t  [{state}]={n}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
