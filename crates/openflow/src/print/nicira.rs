//! Nicira's own messages: tables of tunnel options, flushes of connections.

use core::fmt::{self, Write};
use core::net::Ipv6Addr;

use flow::TlvMap;

use crate::message::{CtFlush, CtTuple, IpfixStats, TlvCommand, TlvTable, TlvTableMod};

fn write_maps(out: &mut impl Write, maps: &[TlvMap]) -> fmt::Result {
    writeln!(out, " mapping table:")?;
    writeln!(out, "  class  type  length  match field")?;
    writeln!(out, " ------  ----  ------  --------------")?;
    for m in maps {
        // As C's `%#x` has it: no `0x` before zero.
        let hex = |v: u16| if v == 0 { "0".into() } else { alloc::format!("{v:#x}") };
        let (class, typ) = (hex(m.class), hex(m.kind.into()));
        writeln!(out, " {class:>6}  {typ:>4}  {:>6}  tun_metadata{}", m.len, m.index)?;
    }
    Ok(())
}

/// Writes a change of the table of tunnel options.
pub(super) fn write_tlv_mod(out: &mut impl Write, m: &TlvTableMod) -> fmt::Result {
    let command = match m.command {
        TlvCommand::Add => "ADD",
        TlvCommand::Delete => "DEL",
        TlvCommand::Clear => return writeln!(out, "\n CLEAR"),
    };
    write!(out, "\n {command}")?;
    write_maps(out, &m.maps)
}

/// Writes the table of tunnel options.
pub(super) fn write_tlv_table(out: &mut impl Write, t: &TlvTable) -> fmt::Result {
    let used: u32 = t.maps.iter().map(|m| u32::from(m.len)).sum();
    writeln!(out, "\n max option space={} max fields={}", t.max_space, t.max_fields)?;
    writeln!(out, " allocated option space={used}\n")?;
    write_maps(out, &t.maps)
}

impl fmt::Display for CtFlush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ct_flush(f, self)
    }
}

/// Writes a flush of connections.
fn write_ct_flush(out: &mut impl Write, f: &CtFlush) -> fmt::Result {
    write!(out, "zone={} ", f.zone.unwrap_or(0))?;
    let hex = |v: u128| if v == 0 { "0".into() } else { alloc::format!("{v:#x}") };
    let (mark, mark_mask) = f.mark();
    let (label, label_mask) = f.label();
    for (name, value, mask, ones) in [
        ("mark", mark.into(), mark_mask.into(), u32::MAX.into()),
        ("labels", label, label_mask, u128::MAX),
    ] {
        if mask == ones {
            write!(out, "{name}={} ", hex(value))?;
        } else if mask != 0 {
            write!(out, "{name}={}/{} ", hex(value), hex(mask))?;
        }
    }
    let (orig, reply) = (f.orig.unwrap_or_default(), f.reply.unwrap_or_default());
    let said = [orig.src, orig.dst, reply.src, reply.dst].into_iter().flatten().next_back();
    let v4 = said.is_some_and(|a| a.to_ipv4_mapped().is_some());
    write!(out, "'")?;
    write_tuple(out, &orig, f.proto, v4)?;
    write!(out, ",ct_nw_proto={}' '", f.proto)?;
    write_tuple(out, &reply, f.proto, v4)?;
    write!(out, "'")
}

fn write_tuple(out: &mut impl Write, t: &CtTuple, proto: u8, v4: bool) -> fmt::Result {
    let l3 = if v4 { "nw" } else { "ipv6" };
    for (comma, side, a) in [("", "src", t.src), (",", "dst", t.dst)] {
        let a = a.unwrap_or(Ipv6Addr::UNSPECIFIED);
        write!(out, "{comma}ct_{l3}_{side}=")?;
        match a.to_ipv4_mapped() {
            Some(v4) => write!(out, "{v4}")?,
            None => write!(out, "{a}")?,
        }
    }
    if matches!(proto, 1 | 58) {
        let (id, typ, code) = (t.icmp_id, t.icmp_type, t.icmp_code);
        let (typ, code) = (typ.unwrap_or(0), code.unwrap_or(0));
        return write!(out, ",icmp_id={},icmp_type={typ},icmp_code={code}", id.unwrap_or(0));
    }
    let (src, dst) = (t.src_port.unwrap_or(0), t.dst_port.unwrap_or(0));
    write!(out, ",ct_tp_src={src},ct_tp_dst={dst}")
}

/// Writes an exporter's counters: a line of what went well, and an indented one of what did not.
fn write_ipfix(out: &mut impl Write, s: &IpfixStats, indent: usize) -> fmt::Result {
    let number = |out: &mut dyn Write, name: &str, n: u64, end: &str| match n {
        u64::MAX => write!(out, "{name}=?{end}"),
        n => write!(out, "{name}={n}{end}"),
    };
    for (name, n) in [
        ("flows", s.total_flows),
        ("current flows", s.current_flows),
        ("sampled pkts", s.n_packets),
        ("ipv4 ok", s.ipv4),
        ("ipv6 ok", s.ipv6),
    ] {
        number(out, name, n, ", ")?;
    }
    number(out, "tx pkts", s.tx, "\n")?;
    write!(out, "{:indent$}", "")?;
    for (name, n) in
        [("pkts errs", s.errors), ("ipv4 errs", s.ipv4_errors), ("ipv6 errs", s.ipv6_errors)]
    {
        number(out, name, n, ", ")?;
    }
    number(out, "tx errs", s.tx_errors, "\n")
}

/// Writes counters of what exports a bridge in IPFIX, behind the heading's colon.
pub(super) fn write_ipfix_bridge(out: &mut impl Write, list: &[IpfixStats]) -> fmt::Result {
    for s in list {
        write!(out, "\n  bridge ipfix: ")?;
        write_ipfix(out, s, 16)?;
    }
    if list.is_empty() { writeln!(out) } else { Ok(()) }
}

/// Writes counters of what exports for `sample` actions, behind the heading's colon.
pub(super) fn write_ipfix_flow(out: &mut impl Write, list: &[IpfixStats]) -> fmt::Result {
    writeln!(out, " {} ids", list.len())?;
    for s in list {
        write!(out, "  id {:3}: ", s.collector_set_id)?;
        write_ipfix(out, s, 10)?;
    }
    Ok(())
}
