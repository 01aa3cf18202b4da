//! Tables: counters, features, configuration.
//!
//! Tables that say the same as the one before are told in one line of `ditto`; what only part of is the
//! same is told as `(same features)`.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use base::TableId;
use flow::text::{NameMap, TableText};

use super::Bits;
use crate::action::table::bitmap;
use crate::message::{
    ActionFeatures, FeaturesCommand, FieldSet, InstructionFeatures, TableDesc, TableFeatures,
    TableMod, TableReason, TableStats, table_config,
};
use crate::version::Version;

/// How many of the first names have a common beginning that ends in `_`, behind the `skip` bytes that
/// all have, and how long it is.
fn common_run(names: &[&str], skip: usize) -> (usize, usize) {
    let common = |a: &str, b: &str| {
        let same = a.bytes().zip(b.bytes()).skip(skip).take_while(|(x, y)| x == y);
        let same: usize = same.count() + skip;
        a[skip..same].rfind('_').map_or(0, |i| i + 1)
    };
    let [first, rest @ ..] = names else { return (0, 0) };
    let mut len = usize::MAX;
    let mut n = 1;
    for name in rest {
        match common(first, name) {
            0 => break,
            l => (len, n) = (len.min(l), n + 1),
        }
    }
    if n == 1 { (1, 0) } else { (n, len) }
}

/// How many of the first names end in numbers that count up, if they are more than two.
fn counting_run(names: &[&str]) -> usize {
    let split = |n: &str| {
        let stem = n.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        Some((stem, n[stem..].parse::<u32>().ok()?))
    };
    let follows = |a: &str, b: &str| match (split(a), split(b)) {
        (Some((i, x)), Some((j, y))) => a[..i] == b[..j] && x + 1 == y,
        _ => false,
    };
    let n = 1 + names.windows(2).take_while(|w| follows(w[0], w[1])).count();
    if n == 2 { 1 } else { n }
}

/// Writes names with a common beginning once, and those that count up as a range:
/// `eth_{src,dst} reg0...reg7`.
fn write_names(out: &mut impl Write, mut names: &[&str], skip: usize) -> fmt::Result {
    let mut separator = "";
    while let [first, ..] = names {
        write!(out, "{separator}")?;
        separator = if skip > 0 { "," } else { " " };
        let (common, len) = common_run(names, skip);
        let counting = counting_run(names);
        let run = common.max(counting);
        if counting >= common {
            write!(out, "{}", &first[skip..])?;
            if run > 1 {
                write!(out, "...{}", &names[run - 1][skip..])?;
            }
        } else {
            write!(out, "{}{{", &first[skip..skip + len])?;
            write_names(out, &names[..run], skip + len)?;
            write!(out, "}}")?;
        }
        names = &names[run..];
    }
    Ok(())
}

fn write_fields(out: &mut impl Write, fields: FieldSet) -> fmt::Result {
    let names: Vec<&str> = fields.iter().map(|f| f.name).collect();
    if !names.is_empty() {
        write!(out, " ")?;
    }
    write_names(out, &names, 0)
}

/// Instructions by number, in OVS's order.
const INSTRUCTIONS: [(u8, &str); 6] = [
    (6, "meter"),
    (4, "apply_actions"),
    (5, "clear_actions"),
    (3, "write_actions"),
    (2, "write_metadata"),
    (1, "goto_table"),
];

fn write_actions(out: &mut impl Write, a: &ActionFeatures, v: Version) -> fmt::Result {
    if a.actions != 0 {
        write!(out, "        actions:")?;
        for (name, _) in bitmap(v).filter(|(_, bit)| a.actions & bit != 0) {
            write!(out, " {name}")?;
        }
        writeln!(out)?;
    }
    if !a.set_fields.is_empty() {
        write!(out, "        supported on Set-Field:")?;
        write_fields(out, a.set_fields)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_instructions(
    out: &mut impl Write,
    x: &InstructionFeatures,
    before: Option<&InstructionFeatures>,
    v: Version,
) -> fmt::Result {
    if !x.next.is_empty() {
        write!(out, "      next tables: ")?;
        let mut separator = "";
        let mut next = x.next.iter().peekable();
        while let Some(first) = next.next() {
            let mut last = first;
            while next.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match first == last {
                true => write!(out, "{separator}{first}")?,
                false => write!(out, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        writeln!(out)?;
    }
    if x.instructions != 0 {
        if before.is_some_and(|b| b.instructions == x.instructions) {
            writeln!(out, "      (same instructions)")?;
        } else {
            write!(out, "      instructions:")?;
            for (_, name) in INSTRUCTIONS.iter().filter(|i| x.instructions >> i.0 & 1 != 0) {
                write!(out, " {name}")?;
            }
            writeln!(out)?;
        }
    }
    let same = before.is_some_and(|b| (b.write, b.apply) == (x.write, x.apply));
    if same && !x.write.set_fields.is_empty() {
        writeln!(out, "      (same actions)")
    } else if x.write != x.apply {
        writeln!(out, "      Write-Actions features:")?;
        write_actions(out, &x.write, v)?;
        writeln!(out, "      Apply-Actions features:")?;
        write_actions(out, &x.apply, v)
    } else if x.write != ActionFeatures::default() {
        writeln!(out, "      Write-Actions and Apply-Actions features:")?;
        write_actions(out, &x.write, v)
    } else {
        Ok(())
    }
}

/// Whether two tables have the same instructions: going to the next one, too, where each can go to all
/// that are later.
fn same_instructions(
    a: &InstructionFeatures,
    table_a: u8,
    b: &InstructionFeatures,
    table_b: u8,
) -> bool {
    let (mut x, mut y) = (*a, *b);
    if table_b == table_a.wrapping_add(1) && x.next.has(table_b) && !y.next.has(table_b) {
        x.next.set(table_b, false);
    } else if table_a == table_b.wrapping_add(1) && y.next.has(table_a) && !x.next.has(table_a) {
        y.next.set(table_a, false);
    }
    x == y
}

fn same_features(a: &TableFeatures, b: &TableFeatures) -> bool {
    let rest = |t: &TableFeatures| {
        let of = (t.metadata_match, t.metadata_write, t.miss_config, t.capabilities);
        (of, t.max_entries, t.match_)
    };
    let (ta, tb) = (a.table.0, b.table.0);
    rest(a) == rest(b)
        && same_instructions(&a.nonmiss, ta, &b.nonmiss, tb)
        && same_instructions(&a.miss, ta, &b.miss, tb)
}

/// Whether nothing is told of what a table can do.
fn is_empty(t: &TableFeatures) -> bool {
    let bare = TableFeatures {
        table: t.table,
        command: t.command,
        name: t.name.clone(),
        has_properties: t.has_properties,
        ..TableFeatures::default()
    };
    *t == bare
}

fn miss_name(config: u32) -> &'static str {
    ["controller", "continue", "drop", "(unknown)"][(config & 3) as usize]
}

/// Writes what a table can do, as far as it differs from the table before.
fn write_capabilities(
    out: &mut impl Write,
    t: &TableFeatures,
    before: Option<&TableFeatures>,
    v: Version,
) -> fmt::Result {
    let (read, write) = (t.metadata_match, t.metadata_write);
    if read != 0 || write != 0 {
        writeln!(out, "    metadata: match={read:#x} write={write:#x}")?;
    }
    if let Some(miss) = t.miss_config {
        writeln!(out, "    config={}", miss_name(miss))?;
    }
    if let Some((evicts, tells)) = t.capabilities {
        let not = |yes: bool| if yes { "" } else { "not " };
        writeln!(out, "    eviction: {}supported", not(evicts))?;
        writeln!(out, "    vacancy events: {}supported", not(tells))?;
    }
    if t.max_entries != 0 {
        writeln!(out, "    max_entries={}", t.max_entries)?;
    }
    let (nonmiss, miss) = (before.map(|b| &b.nonmiss), before.map(|b| &b.miss));
    let none = InstructionFeatures::default();
    let same = before.is_some_and(|b| {
        same_instructions(&t.nonmiss, t.table.0, &b.nonmiss, b.table.0)
            && same_instructions(&t.miss, t.table.0, &b.miss, b.table.0)
    });
    if same {
        if t.nonmiss != none {
            writeln!(out, "    (same instructions)")?;
        }
    } else if t.nonmiss != t.miss {
        writeln!(out, "    instructions (other than table miss):")?;
        write_instructions(out, &t.nonmiss, nonmiss, v)?;
        writeln!(out, "    instructions (table miss):")?;
        write_instructions(out, &t.miss, miss, v)?;
    } else if t.nonmiss != none {
        writeln!(out, "    instructions (table miss and others):")?;
        write_instructions(out, &t.nonmiss, nonmiss, v)?;
    }
    if t.match_.is_empty() {
        return Ok(());
    }
    if before.is_some_and(|b| b.match_ == t.match_) {
        return writeln!(out, "    (same matching)");
    }
    writeln!(out, "    matching:")?;
    let masked = t.match_.and(t.mask, false);
    let plain = t.match_.and(t.mask, true);
    for (what, fields) in [
        ("arbitrary mask", masked.and(t.wildcard, false)),
        ("exact match or wildcard", plain.and(t.wildcard, false)),
        ("must exact match", plain.and(t.wildcard, true)),
    ] {
        if !fields.is_empty() {
            write!(out, "      {what}:")?;
            write_fields(out, fields)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Counters of a table, if they are told.
type Counters = Option<(u32, u64, u64)>;

/// Writes tables, behind the heading's colon.
fn write_tables(
    out: &mut impl Write,
    list: &[(&TableFeatures, Counters)],
    v: Version,
) -> fmt::Result {
    if let Some((first, _)) = list.first().filter(|t| t.0.command != FeaturesCommand::Replace) {
        let name = match first.command {
            FeaturesCommand::Replace => "replace",
            FeaturesCommand::Modify => "modify",
            FeaturesCommand::Enable => "enable",
            FeaturesCommand::Disable => "disable",
        };
        write!(out, "\n  command: {name}")?;
    }
    // The first and last of the tables that are like the one before.
    let mut ditto: Option<(u8, u8)> = None;
    let finish = |out: &mut dyn Write, ditto: &mut Option<(u8, u8)>| match ditto.take() {
        None => Ok(()),
        Some((a, b)) if a == b => writeln!(out, "\n  table {a}: ditto"),
        Some((a, b)) => writeln!(out, "\n  tables {a}...{b}: ditto"),
    };
    for (i, &(t, counters)) in list.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| list[i]);
        let same_counters = counters.is_none() || before.is_some_and(|b| b.1 == counters);
        let same = before.is_some_and(|b| same_features(t, b.0));
        let table = t.table.0;
        let named = !t.name.is_empty();
        if same_counters && same && !named {
            ditto = Some((ditto.map_or(table, |d| d.0), table));
            continue;
        }
        finish(out, &mut ditto)?;
        write!(out, "\n  table {table}")?;
        if named {
            write!(out, " (\"{}\")", t.name)?;
        }
        if same_counters && same {
            write!(out, ": ditto")?;
            continue;
        }
        writeln!(out, ":")?;
        if let Some((active, lookup, matched)) = counters {
            writeln!(out, "    active={active}, lookup={lookup}, matched={matched}")?;
        }
        match same {
            true if is_empty(t) => {}
            true => writeln!(out, "    (same features)")?,
            false => write_capabilities(out, t, before.map(|b| b.0), v)?,
        }
    }
    finish(out, &mut ditto)?;
    if list.is_empty() { writeln!(out) } else { Ok(()) }
}

/// Writes counters of tables, behind the heading's colon.
pub(super) fn write_stats(out: &mut impl Write, list: &[TableStats], v: Version) -> fmt::Result {
    let rows: Vec<_> =
        list.iter().map(|s| (&s.features, Some((s.active, s.lookup, s.matched)))).collect();
    write_tables(out, &rows, v)
}

/// Features of tables, behind the heading's colon, as said in a version.
#[derive(Clone, Copy, Debug)]
pub struct TableFeaturesText<'a>(pub &'a [TableFeatures], pub Version);

impl fmt::Display for TableFeaturesText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.0.iter().map(|t| (t, None)).collect();
        write_tables(out, &rows, self.1)
    }
}

/// `on` or `off`.
fn on(set: bool) -> &'static str {
    if set { "on" } else { "off" }
}

/// Writes a change to a table.
pub(super) fn write_mod(
    out: &mut impl Write,
    t: &TableMod,
    v: Version,
    names: &dyn NameMap,
) -> fmt::Result {
    match t.table {
        TableId::ALL => write!(out, " table_id: ALL_TABLES")?,
        t => write!(out, " table_id={}", TableText(t, names))?,
    }
    if v < Version::Of13 {
        write!(out, ", flow_miss_config={}", miss_name(t.config))?;
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
fn write_desc(out: &mut impl Write, t: &TableDesc, names: &dyn NameMap) -> fmt::Result {
    writeln!(out, "\n  table {}:", TableText(t.table, names))?;
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
pub(super) fn write_descs(
    out: &mut impl Write,
    list: &[TableDesc],
    names: &dyn NameMap,
) -> fmt::Result {
    match list {
        [] => writeln!(out),
        list => list.iter().try_for_each(|t| write_desc(out, t, names)),
    }
}

/// Writes what happened to a table.
pub(super) fn write_status(
    out: &mut impl Write,
    reason: TableReason,
    t: &TableDesc,
    names: &dyn NameMap,
) -> fmt::Result {
    let reason = match reason {
        TableReason::VacancyDown => "VACANCY_DOWN",
        TableReason::VacancyUp => "VACANCY_UP",
    };
    write!(out, " reason={reason}\ntable_desc:-")?;
    write_desc(out, t, names)
}
