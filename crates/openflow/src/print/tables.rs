//! Tables: counters, features, configuration.
//!
//! Tables that say the same as the one before are told in one line of `ditto`; what only part of is the
//! same is told as `(same features)`.

use core::fmt::{self, Write};

use base::TableId;

use super::Bits;
use crate::message::{TableDesc, TableFeatures, TableMod, TableReason, TableStats, table_config};
use crate::version::Version;

/// Fields of 1.0's match: bits of `ofp10_match`'s wildcards, and their names in groups as printed.
const FIELDS10: [(u32, &str, &str); 12] = [
    (1, "", "in_port"),
    (1 << 2, "eth", "src"),
    (1 << 3, "eth", "dst"),
    (1 << 4, "eth", "type"),
    (1 << 1, "vlan", "vid"),
    (1 << 20, "vlan", "pcp"),
    (0x3f << 8, "ip", "src"),
    (0x3f << 14, "ip", "dst"),
    (1 << 5, "nw", "proto"),
    (1 << 21, "nw", "tos"),
    (1 << 6, "tcp", "src"),
    (1 << 7, "tcp", "dst"),
];

/// Writes names with a common beginning once: `eth_{src,dst,type}`.
fn write_grouped(out: &mut impl Write, names: &[(&str, &str)]) -> fmt::Result {
    let mut i = 0;
    while let Some(&(group, first)) = names.get(i) {
        let same = names[i..].iter().take_while(|n| n.0 == group && !group.is_empty()).count();
        match (group, same) {
            ("", _) => write!(out, " {first}")?,
            (_, 1) => write!(out, " {group}_{first}")?,
            _ => {
                write!(out, " {group}_{{")?;
                for (j, name) in names[i..i + same].iter().enumerate() {
                    write!(out, "{}{}", if j == 0 { "" } else { "," }, name.1)?;
                }
                write!(out, "}}")?;
            }
        }
        i += same.max(1);
    }
    Ok(())
}

/// Writes what 1.0's table counters tell beyond counters. The codec keeps nothing of the capabilities
/// that 1.1 and 1.2 tell here.
fn write_capabilities(out: &mut impl Write, t: &TableStats, v: Version) -> fmt::Result {
    if v > Version::Of12 {
        return Ok(());
    }
    writeln!(out, "    max_entries={}", t.max_entries)?;
    if v > Version::Of10 {
        return Ok(());
    }
    let of = |wild: bool, list: &mut [(&'static str, &'static str); 12]| {
        let mut n = 0;
        for (bit, group, name) in FIELDS10 {
            if (t.wildcards & bit != 0) == wild {
                list[n] = (group, name);
                n += 1;
            }
        }
        n
    };
    writeln!(out, "    matching:")?;
    for (what, wild) in [("exact match or wildcard", true), ("must exact match", false)] {
        let mut list = [("", ""); 12];
        let n = of(wild, &mut list);
        if n > 0 {
            write!(out, "      {what}:")?;
            write_grouped(out, &list[..n])?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Whether two tables can do the same.
fn same_features(a: &TableStats, b: &TableStats) -> bool {
    a.wildcards == b.wildcards && a.max_entries == b.max_entries
}

/// Writes counters of tables, behind the heading's colon.
pub(super) fn write_stats(out: &mut impl Write, list: &[TableStats], v: Version) -> fmt::Result {
    let named = |t: &TableStats| !t.name.is_empty() && !is_default_name(t);
    let mut i = 0;
    while let Some(t) = list.get(i) {
        let before = i.checked_sub(1).and_then(|j| list.get(j));
        let same = before.map_or(0, |b| {
            let counters = |t: &TableStats| (t.active, t.lookup, t.matched);
            let like = |t: &&TableStats| {
                same_features(b, t) && counters(b) == counters(t) && !named(t) && !named(b)
            };
            list[i..].iter().take_while(like).count()
        });
        if same > 0 {
            let (first, last) = (t.table.0, list[i + same - 1].table.0);
            match same {
                1 => writeln!(out, "\n  table {first}: ditto")?,
                _ => writeln!(out, "\n  tables {first}...{last}: ditto")?,
            }
            i += same;
            continue;
        }
        write!(out, "\n  table {}", t.table.0)?;
        if named(t) {
            write!(out, " (\"{}\")", t.name)?;
        }
        writeln!(out, ":")?;
        writeln!(out, "    active={}, lookup={}, matched={}", t.active, t.lookup, t.matched)?;
        match before {
            Some(b) if v <= Version::Of12 && same_features(b, t) => {
                writeln!(out, "    (same features)")?;
            }
            _ => write_capabilities(out, t, v)?,
        }
        i += 1;
    }
    if list.is_empty() { writeln!(out) } else { Ok(()) }
}

/// OVS calls a table that has no name `tableN`, on the wire only.
fn is_default_name(t: &TableStats) -> bool {
    t.name.strip_prefix("table").is_some_and(|n| n.parse() == Ok(t.table.0))
}

/// Writes features of tables: what is told in numbers; of properties how many there are.
pub(super) fn write_features(out: &mut impl Write, list: &[TableFeatures]) -> fmt::Result {
    writeln!(out)?;
    for t in list {
        write!(out, "  table {}", t.table.0)?;
        if !t.name.is_empty() {
            write!(out, " (\"{}\")", t.name)?;
        }
        writeln!(out, ":")?;
        if t.metadata_match != 0 || t.metadata_write != 0 {
            let (read, write) = (t.metadata_match, t.metadata_write);
            writeln!(out, "    metadata: match={read:#x} write={write:#x}")?;
        }
        writeln!(out, "    max_entries={}", t.max_entries)?;
        writeln!(out, "    properties: {}", t.properties.len())?;
    }
    Ok(())
}

/// `on` or `off`.
fn on(set: bool) -> &'static str {
    if set { "on" } else { "off" }
}

/// Writes a change to a table.
pub(super) fn write_mod(out: &mut impl Write, t: &TableMod, v: Version) -> fmt::Result {
    match t.table {
        TableId::ALL => write!(out, " table_id: ALL_TABLES")?,
        TableId(n) => write!(out, " table_id={n}")?,
    }
    if v < Version::Of13 {
        let miss = ["controller", "continue", "drop", "(unknown)"][(t.config & 3) as usize];
        write!(out, ", flow_miss_config={miss}")?;
    }
    if v >= Version::Of14 {
        write!(out, ", eviction={}, ", on(t.config & table_config::EVICTION != 0))?;
        write!(out, "vacancy={}", on(t.config & table_config::VACANCY_EVENTS != 0))?;
        if let Some((down, up)) = t.vacancy.filter(|_| t.config & table_config::VACANCY_EVENTS != 0)
        {
            write!(out, " vacancy_down={down}% vacancy_up={up}%")?;
        }
    }
    writeln!(out)
}

/// Names of the bits of eviction flags.
const EVICTION_FLAGS: [&str; 3] = ["OTHER", "IMPORTANCE", "LIFETIME"];

/// Writes the configuration of a table.
fn write_desc(out: &mut impl Write, t: &TableDesc) -> fmt::Result {
    writeln!(out, "\n  table {}:", t.table.0)?;
    let evicts = on(t.config & table_config::EVICTION != 0);
    write!(out, "   eviction={evicts} eviction_flags=")?;
    match t.eviction_flags {
        Some(bits) => write!(out, "{}", Bits { bits, names: &EVICTION_FLAGS, separator: '|' })?,
        None => write!(out, "(default)")?,
    }
    let vacancy = t.config & table_config::VACANCY_EVENTS != 0;
    write!(out, "\n   vacancy={}", on(vacancy))?;
    if let Some((down, up, now)) = t.vacancy.filter(|_| vacancy) {
        write!(out, " vacancy_down={down}% vacancy_up={up}% vacancy={now}%")?;
    }
    writeln!(out)
}

/// Writes configurations of tables.
pub(super) fn write_descs(out: &mut impl Write, list: &[TableDesc]) -> fmt::Result {
    list.iter().try_for_each(|t| write_desc(out, t))
}

/// Writes what happened to a table.
pub(super) fn write_status(
    out: &mut impl Write,
    reason: TableReason,
    t: &TableDesc,
) -> fmt::Result {
    let reason = match reason {
        TableReason::VacancyDown => "VACANCY_DOWN",
        TableReason::VacancyUp => "VACANCY_UP",
    };
    write!(out, " reason={reason}\ntable_desc:-")?;
    write_desc(out, t)
}
