//! Ports: descriptions and counters.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use base::OfPort;
use flow::text::{NameMap, PortText};

use super::{Bits, Seconds};
use crate::message::{
    PortDesc, PortMod, PortReason, PortStats, QueueConfig, QueueStats, port_feature,
};
use crate::version::Version;

/// Names of [`crate::message::port_config`] bits.
pub const CONFIG_NAMES: [&str; 7] =
    ["PORT_DOWN", "NO_STP", "NO_RECV", "NO_RECV_STP", "NO_FLOOD", "NO_FWD", "NO_PACKET_IN"];

/// Names of [`crate::message::port_state`] bits.
pub const STATE_NAMES: [&str; 10] =
    ["LINK_DOWN", "BLOCKED", "LIVE", "", "", "", "", "", "STP_LEARN", "STP_FORWARD"];

/// Mb/s of [`port_feature`] bits 0 to 9; the highest set bit counts.
const SPEEDS: [u32; 10] = [10, 10, 100, 100, 1000, 1000, 10_000, 40_000, 100_000, 1_000_000];

/// The speed in Mb/s that features tell, for versions that have no number for it.
fn speed_of(features: u32) -> u32 {
    (0..10).rev().find(|b| features & 1 << b != 0).map_or(0, |b: usize| SPEEDS[b])
}

/// Writes descriptions of ports in the order of their numbers.
pub fn write_descs(out: &mut impl Write, list: &[PortDesc], v: Version) -> fmt::Result {
    let mut sorted: alloc::vec::Vec<&PortDesc> = list.iter().collect();
    sorted.sort_by_key(|p| p.port.0);
    sorted.into_iter().try_for_each(|p| write_desc(out, p, v))
}

/// Writes what happened to a port.
pub(super) fn write_status(
    out: &mut impl Write,
    reason: PortReason,
    p: &PortDesc,
    v: Version,
) -> fmt::Result {
    let what = match reason {
        PortReason::Add => "ADD",
        PortReason::Delete => "DEL",
        PortReason::Modify => "MOD",
    };
    write!(out, " {what}:")?;
    write_desc(out, p, v)
}

/// Writes a change to a port.
pub(super) fn write_mod(out: &mut impl Write, m: &PortMod, names: &dyn NameMap) -> fmt::Result {
    let config = |bits| Bits { bits, names: &CONFIG_NAMES, separator: ' ' };
    writeln!(out, " port: {}: addr:{}", PortText(m.port, names), m.hw_addr)?;
    writeln!(out, "     config: {}", config(m.config))?;
    writeln!(out, "     mask:   {}", config(m.mask))?;
    match m.advertise {
        0 => writeln!(out, "     advertise: UNCHANGED"),
        bits => {
            let names = &port_feature::NAMES;
            writeln!(out, "     advertise: {}", Bits { bits, names, separator: ' ' })
        }
    }
}

/// Writes a port's description: its heading and indented lines.
pub fn write_desc(out: &mut impl Write, p: &PortDesc, v: Version) -> fmt::Result {
    let bits = |bits, names| Bits { bits, names, separator: ' ' };
    // What cannot be shown ends a name.
    let name = p.name.split(|c: char| c.is_control()).next().unwrap_or_default();
    writeln!(out, " {}({name}): addr:{}", p.port, p.hw_addr)?;
    writeln!(out, "     config:     {}", bits(p.config, &CONFIG_NAMES))?;
    writeln!(out, "     state:      {}", bits(p.state, &STATE_NAMES))?;
    let features = [
        ("current:   ", p.current),
        ("advertised:", p.advertised),
        ("supported: ", p.supported),
        ("peer:      ", p.peer),
    ];
    for (what, value) in features.into_iter().filter(|f| f.1 != 0) {
        writeln!(out, "     {what} {}", bits(value, &port_feature::NAMES))?;
    }
    let (now, max) = match v {
        Version::Of10 => (speed_of(p.current), speed_of(p.supported)),
        _ => (p.curr_speed / 1000, p.max_speed / 1000),
    };
    writeln!(out, "     speed: {now} Mbps now, {max} Mbps max")
}

/// A counter, `?` if it is not known.
struct Counter(u64);

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("?"),
            n => write!(f, "{n}"),
        }
    }
}

/// Names of [`PortStats::rfc2819`]'s counters in OVS's order, with the line (`rx` or `tx`) they stand in.
const RFC2819: [(&str, bool); 21] = [
    ("1_to_64_packets", true),
    ("65_to_127_packets", true),
    ("128_to_255_packets", true),
    ("256_to_511_packets", true),
    ("512_to_1023_packets", true),
    ("1024_to_1522_packets", true),
    ("1523_to_max_packets", true),
    ("1_to_64_packets", false),
    ("65_to_127_packets", false),
    ("128_to_255_packets", false),
    ("256_to_511_packets", false),
    ("512_to_1023_packets", false),
    ("1024_to_1522_packets", false),
    ("1523_to_max_packets", false),
    ("multicast_packets", false),
    ("broadcast_packets", true),
    ("broadcast_packets", false),
    ("undersized_errors", true),
    ("oversize_errors", true),
    ("rx_fragmented_errors", true),
    ("rx_jabber_errors", true),
];

/// Writes the counters of ports, behind the heading's colon.
pub fn write_stats(out: &mut impl Write, list: &[PortStats], names: &dyn NameMap) -> fmt::Result {
    writeln!(out, " {} ports", list.len())?;
    for p in list {
        let pad = if p.port.0 < 10 { " " } else { "" };
        writeln!(
            out,
            "  port {pad}{}: rx pkts={}, bytes={}, drop={}, errs={}, frame={}, over={}, crc={}",
            PortText(p.port, names),
            Counter(p.rx_packets),
            Counter(p.rx_bytes),
            Counter(p.rx_dropped),
            Counter(p.rx_errors),
            Counter(p.rx_frame_err),
            Counter(p.rx_over_err),
            Counter(p.rx_crc_err),
        )?;
        writeln!(
            out,
            "           tx pkts={}, bytes={}, drop={}, errs={}, coll={}",
            Counter(p.tx_packets),
            Counter(p.tx_bytes),
            Counter(p.tx_dropped),
            Counter(p.tx_errors),
            Counter(p.collisions),
        )?;
        if let Some(age) = p.duration {
            writeln!(out, "           duration={}", Seconds(age))?;
        }
        if let Some(counters) = &p.rfc2819 {
            for rx in [true, false] {
                let known = RFC2819.iter().zip(counters.iter());
                let mut line = known.filter(|((_, r), v)| *r == rx && **v != u64::MAX).peekable();
                if line.peek().is_some() {
                    write!(out, "           {} rfc2819", if rx { "rx" } else { "tx" })?;
                    for ((name, _), value) in line {
                        write!(out, " {name}={value},")?;
                    }
                    writeln!(out)?;
                }
            }
        }
        if !p.custom.is_empty() {
            write!(out, "           CUSTOM Statistics")?;
            for (i, (name, value)) in p.custom.iter().enumerate() {
                if i % 3 == 0 {
                    write!(out, "\n                      ")?;
                }
                let space = if i % 3 == 0 { "" } else { " " };
                write!(out, "{space}{name}={value},")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes the counters of queues, behind the heading's colon.
pub fn write_queues(out: &mut impl Write, list: &[QueueStats], names: &dyn NameMap) -> fmt::Result {
    writeln!(out, " {} queues", list.len())?;
    for q in list {
        write!(out, "  port {} queue ", PortText(q.port, names))?;
        write_queue_id(out, q.queue)?;
        write!(
            out,
            ": bytes={}, pkts={}, errors={}, duration=",
            Counter(q.tx_bytes),
            Counter(q.tx_packets),
            Counter(q.tx_errors)
        )?;
        match q.duration {
            Some(age) => writeln!(out, "{}", Seconds(age))?,
            None => writeln!(out, "?")?,
        }
    }
    Ok(())
}

/// Writes a queue's number, or `ALL`.
pub fn write_queue_id(out: &mut impl Write, queue: u32) -> fmt::Result {
    match queue {
        u32::MAX => out.write_str("ALL"),
        n => write!(out, "{n}"),
    }
}

/// Writes which queues' configuration is asked for.
pub(super) fn write_queue_config_request(
    out: &mut impl Write,
    port: OfPort,
    queue: u32,
    names: &dyn NameMap,
) -> fmt::Result {
    write!(out, " port=")?;
    write_any_port(out, port, names)?;
    if queue != u32::MAX {
        write!(out, " queue={queue}")?;
    }
    writeln!(out)
}

/// Writes the configuration of queues, by port.
pub(super) fn write_queue_configs(
    out: &mut impl Write,
    list: &[QueueConfig],
    names: &dyn NameMap,
) -> fmt::Result {
    let mut list: Vec<&QueueConfig> = list.iter().collect();
    list.sort_by_key(|q| (q.port.0, q.queue));
    write!(out, "{}", if list.is_empty() { "\n" } else { " " })?;
    let mut port = OfPort(0);
    for q in list {
        if q.port != port {
            port = q.port;
            write!(out, "port=")?;
            write_any_port(out, port, names)?;
            writeln!(out)?;
        }
        write!(out, "queue {}:", q.queue)?;
        for (name, rate) in [("min_rate", q.min_rate), ("max_rate", q.max_rate)] {
            match rate {
                Some(r) if r <= 1000 => write!(out, " {name}:{}.{}%", r / 10, r % 10)?,
                Some(_) => write!(out, " {name}:(disabled)")?,
                None => {}
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes a port in a request, where [`OfPort::NONE`] says `ANY`.
pub fn write_any_port(out: &mut impl Write, port: OfPort, names: &dyn NameMap) -> fmt::Result {
    match port {
        OfPort::NONE => out.write_str("ANY"),
        port => write!(out, "{}", PortText(port, names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::MacAddr;
    use core::time::Duration;
    use flow::text::NoNames;
    use std::string::String;

    #[test]
    fn a_description() {
        let port = PortDesc {
            port: OfPort(2),
            hw_addr: MacAddr([0x76, 0xa4, 0x36, 0xd4, 0x4b, 0x5b]),
            name: "vm1p".into(),
            config: 1,
            state: 1,
            current: port_feature::FD_10GB | port_feature::COPPER,
            ..PortDesc::default()
        };
        let mut text = String::new();
        write_desc(&mut text, &port, Version::Of10).unwrap();
        let want = " 2(vm1p): addr:76:a4:36:d4:4b:5b\n     config:     PORT_DOWN\n     state:      LINK_DOWN\n     \
                    current:    10GB-FD COPPER\n     speed: 10000 Mbps now, 0 Mbps max\n";
        assert_eq!(text, want);
    }

    #[test]
    fn counters() {
        let known = PortStats { port: OfPort(2), rx_packets: 39, ..PortStats::default() };
        let unknown = PortStats {
            port: OfPort::LOCAL,
            collisions: u64::MAX,
            duration: Some(Duration::from_millis(20_449)),
            ..PortStats::default()
        };
        let mut text = String::new();
        write_stats(&mut text, &[known, unknown], &NoNames).unwrap();
        let want = " 2 ports\n  port  2: rx pkts=39, bytes=0, drop=0, errs=0, frame=0, over=0, crc=0\n           \
                    tx pkts=0, bytes=0, drop=0, errs=0, coll=0\n  port LOCAL: rx pkts=0, bytes=0, drop=0, errs=0, \
                    frame=0, over=0, crc=0\n           tx pkts=0, bytes=0, drop=0, errs=0, coll=?\n           \
                    duration=20.449s\n";
        assert_eq!(text, want);
    }
}
