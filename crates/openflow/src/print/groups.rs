//! Groups and meters: changes, descriptions, counters, features.

use core::fmt::{self, Write};

use super::{Bits, Seconds, Style, switch};
use crate::message::{
    BandType, Body, GroupDesc, GroupFeatures, GroupStats, METER_FLAG_NAMES, Message, MeterConfig,
    MeterFeatures, MeterStats,
};
use crate::text::{GroupModText, GroupText, MeterId, MeterModText, MeterText};
use crate::version::Version;

/// Writes descriptions of groups.
pub(super) fn write_descs(
    out: &mut impl Write,
    list: &[GroupDesc],
    version: Version,
    style: Style<'_>,
) -> fmt::Result {
    let names = style.names;
    for d in list {
        let (selection, buckets) = (&d.selection, &d.buckets[..]);
        let type_ = Some(d.type_);
        let text = GroupText { group: d.group, type_, selection, buckets, version, names };
        write!(out, "\n {text}")?;
    }
    writeln!(out)
}

/// Writes counters of groups.
pub(super) fn write_stats(out: &mut impl Write, list: &[GroupStats]) -> fmt::Result {
    for g in list {
        write!(out, "\n group_id={},", g.group)?;
        if let Some(d) = g.duration {
            write!(out, "duration={},", Seconds(d))?;
        }
        write!(out, "ref_count={},", g.ref_count)?;
        write!(out, "packet_count={},byte_count={}", g.n_packets, g.n_bytes)?;
        for (i, (packets, bytes)) in g.buckets.iter().enumerate() {
            if *packets != u64::MAX {
                write!(out, ",bucket{i}:packet_count={packets},byte_count={bytes}")?;
            }
        }
    }
    writeln!(out)
}

/// Writes what groups can be.
pub(super) fn write_features(
    out: &mut impl Write,
    f: &GroupFeatures,
    version: Version,
) -> fmt::Result {
    write!(out, "\n Group table:\n    Types:  {:#x}\n", f.types)?;
    writeln!(out, "    Capabilities:  {:#x}", f.capabilities)?;
    for (i, name) in ["all", "select", "indirect", "fast failover"].into_iter().enumerate() {
        if f.types & 1 << i != 0 {
            writeln!(out, "    {name} group:\n       max_groups={:#x}", f.max_groups[i])?;
            write!(out, "       actions:")?;
            match f.actions[i] {
                0 => writeln!(out, " (none)")?,
                bits => switch::write_actions(out, bits, version)?,
            }
        }
    }
    Ok(())
}

/// Writes what meters are.
pub(super) fn write_meters(out: &mut impl Write, list: &[MeterConfig]) -> fmt::Result {
    list.iter().try_for_each(|m| write!(out, "\n{}", MeterText(m)))?;
    if list.is_empty() { writeln!(out) } else { Ok(()) }
}

/// Writes counters of meters.
pub(super) fn write_meter_stats(out: &mut impl Write, list: &[MeterStats]) -> fmt::Result {
    for m in list {
        write!(out, "\nmeter:{} flow_count:{}", MeterId(m.meter), m.flow_count)?;
        write!(out, " packet_in_count:{} byte_in_count:{}", m.n_packets, m.n_bytes)?;
        writeln!(out, " duration:{} bands:", Seconds(m.duration.unwrap_or_default()))?;
        for (i, (packets, bytes)) in m.bands.iter().enumerate() {
            writeln!(out, "{i}: packet_count:{packets} byte_count:{bytes}")?;
        }
    }
    if list.is_empty() { writeln!(out) } else { Ok(()) }
}

/// Writes what meters can be.
pub(super) fn write_meter_features(out: &mut impl Write, f: &MeterFeatures) -> fmt::Result {
    // Types are numbered from 1.
    let [drop, remark] = BandType::NAMES;
    let types = Bits { bits: f.band_types, names: &["", drop, remark], separator: ' ' };
    let flags = Bits { bits: f.capabilities, names: &METER_FLAG_NAMES, separator: ' ' };
    write!(out, "\nmax_meter:{} max_bands:{}", f.max_meters, f.max_bands)?;
    writeln!(out, " max_color:{}", f.max_color)?;
    writeln!(out, "band_types: {types}\ncapabilities: {flags}")
}

/// Writes another controller's request.
pub(super) fn write_forwarded(out: &mut impl Write, m: &Message, style: Style<'_>) -> fmt::Result {
    match &m.body {
        Body::GroupMod(group) => {
            let text = GroupModText { group, version: m.version, names: style.names };
            writeln!(out, " reason=group_mod\n {text}")
        }
        Body::MeterMod(meter) => write!(out, " reason=meter_mod {}", MeterModText(meter)),
        _ => writeln!(out),
    }
}
