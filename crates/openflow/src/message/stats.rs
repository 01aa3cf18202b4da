//! Bodies about tables.

use alloc::vec::Vec;

use super::codec::Result;
use super::*;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Reads table counters.
pub fn read_tables(r: &mut Reader<'_>, v: Version) -> Result<Vec<TableStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let mut t = TableStats { table: TableId(r.u8()?), ..Default::default() };
        match v {
            Version::Of10 => {
                r.skip(3)?;
                t.name = r.text(32)?;
                t.wildcards = r.u32()?;
                t.max_entries = r.u32()?;
            }
            Version::Of11 => {
                r.skip(7)?;
                t.name = r.text(32)?;
                // Capabilities: wildcards, match, instructions, two of actions, config.
                r.skip(6 * 4)?;
                t.max_entries = r.u32()?;
            }
            Version::Of12 => {
                r.skip(7)?;
                t.name = r.text(32)?;
                // Capabilities: match, wildcards; two of actions, two of set-field, two of
                // metadata; instructions, config.
                r.skip(2 * 8 + 2 * 4 + 4 * 8 + 2 * 4)?;
                t.max_entries = r.u32()?;
            }
            _ => r.skip(3)?,
        }
        (t.active, t.lookup, t.matched) = (r.u32()?, r.u64()?, r.u64()?);
        list.push(t);
    }
    Ok(list)
}

/// Writes table counters. 1.1 and 1.2 tell no capabilities here.
pub fn write_table(out: &mut Vec<u8>, t: &TableStats, v: Version) {
    out.put8(t.table.0);
    match v {
        Version::Of10 => {
            out.zeros(3);
            out.text(&t.name, 32);
            out.put32(t.wildcards);
            out.put32(t.max_entries);
        }
        Version::Of11 => {
            out.zeros(7);
            out.text(&t.name, 32);
            out.zeros(6 * 4);
            out.put32(t.max_entries);
        }
        Version::Of12 => {
            out.zeros(7);
            out.text(&t.name, 32);
            out.zeros(2 * 8 + 2 * 4 + 4 * 8 + 2 * 4);
            out.put32(t.max_entries);
        }
        _ => out.zeros(3),
    }
    out.put32(t.active);
    out.put64(t.lookup);
    out.put64(t.matched);
}

/// Reads table features (1.3+).
pub fn read_features(r: &mut Reader<'_>) -> Result<Vec<TableFeatures>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let len = usize::from(r.u16()?);
        if len < 64 {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let mut e = r.sub(len - 2)?;
        let mut t = TableFeatures { table: TableId(e.u8()?), ..Default::default() };
        e.skip(5)?;
        t.name = e.text(32)?;
        (t.metadata_match, t.metadata_write) = (e.u64()?, e.u64()?);
        (t.config, t.max_entries) = (e.u32()?, e.u32()?);
        while e.len() >= 4 {
            let here = e;
            let (typ, len) = (e.u16()?, usize::from(e.u16()?));
            if len < 4 {
                return Err(here.error(OfError::OFPBPC_BAD_LEN));
            }
            let body = e.take(len - 4)?.to_vec();
            let pad = (len.next_multiple_of(8) - len).min(e.len());
            e.skip(pad)?;
            t.properties.push((typ, body));
        }
        list.push(t);
    }
    Ok(list)
}

/// Writes table features.
pub fn write_features(out: &mut Vec<u8>, t: &TableFeatures) {
    let start = out.len();
    out.put16(0);
    out.put8(t.table.0);
    out.zeros(5);
    out.text(&t.name, 32);
    out.put64(t.metadata_match);
    out.put64(t.metadata_write);
    out.put32(t.config);
    out.put32(t.max_entries);
    for (typ, body) in &t.properties {
        let at = out.len();
        out.put16(*typ);
        out.put16(4 + body.len() as u16);
        out.extend_from_slice(body);
        out.pad8(at);
    }
    let len = out.len() - start;
    out.set16(start, len as u16);
}

const EVICTION: u16 = 2;
const VACANCY: u16 = 3;

/// Reads a table mod.
pub fn read_table_mod(r: &mut Reader<'_>, v: Version) -> Result<TableMod> {
    let table = TableId(r.u8()?);
    r.skip(3)?;
    let mut t = TableMod { table, config: r.u32()?, eviction_flags: None, vacancy: None };
    while v >= Version::Of14 && r.len() >= 4 {
        let here = *r;
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mut b = r.sub(len - 4)?;
        r.skip((len.next_multiple_of(8) - len).min(r.len()))?;
        match typ {
            EVICTION => t.eviction_flags = Some(b.u32()?),
            VACANCY => t.vacancy = Some((b.u8()?, b.u8()?)),
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    Ok(t)
}

/// Writes a table mod.
pub fn write_table_mod(out: &mut Vec<u8>, t: &TableMod, v: Version) {
    out.put8(t.table.0);
    out.zeros(3);
    out.put32(t.config);
    if v < Version::Of14 {
        return;
    }
    put_props(out, t.eviction_flags, t.vacancy.map(|(d, u)| (d, u, 0)));
}

fn put_props(out: &mut Vec<u8>, eviction: Option<u32>, vacancy: Option<(u8, u8, u8)>) {
    if let Some(e) = eviction {
        out.put16(EVICTION);
        out.put16(8);
        out.put32(e);
    }
    if let Some((down, up, now)) = vacancy {
        out.put16(VACANCY);
        out.put16(8);
        for x in [down, up, now, 0] {
            out.put8(x);
        }
    }
}

/// Reads descriptions of tables (1.4+).
pub fn read_table_descs(r: &mut Reader<'_>) -> Result<Vec<TableDesc>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        list.push(read_table_desc(r)?);
    }
    Ok(list)
}

fn read_table_desc(r: &mut Reader<'_>) -> Result<TableDesc> {
    let here = *r;
    let len = usize::from(r.u16()?);
    if len < 8 {
        return Err(here.error(OfError::OFPBRC_BAD_LEN));
    }
    let mut e = r.sub(len - 2)?;
    let mut t = TableDesc { table: TableId(e.u8()?), ..Default::default() };
    e.skip(1)?;
    t.config = e.u32()?;
    while e.len() >= 4 {
        let here = e;
        let (typ, len) = (e.u16()?, usize::from(e.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mut b = e.sub(len - 4)?;
        match typ {
            EVICTION => t.eviction_flags = Some(b.u32()?),
            VACANCY => t.vacancy = Some((b.u8()?, b.u8()?, b.u8()?)),
            _ => {}
        }
    }
    Ok(t)
}

/// Reads a table's status (1.4+).
pub fn read_status(r: &mut Reader<'_>) -> Result<Body> {
    let here = *r;
    let reason = match r.u8()? {
        3 => TableReason::VacancyDown,
        4 => TableReason::VacancyUp,
        _ => return Err(here.error(OfError::NXBRC_BAD_REASON)),
    };
    r.skip(7)?;
    Ok(Body::TableStatus(reason, read_table_desc(r)?))
}

/// Writes a table's status.
pub fn write_status(out: &mut Vec<u8>, reason: TableReason, t: &TableDesc) {
    out.put8(reason as u8);
    out.zeros(7);
    write_table_desc(out, t);
}

/// Writes the description of a table.
pub fn write_table_desc(out: &mut Vec<u8>, t: &TableDesc) {
    let start = out.len();
    out.put16(0);
    out.put8(t.table.0);
    out.put8(0);
    out.put32(t.config);
    put_props(out, t.eviction_flags, t.vacancy);
    let len = out.len() - start;
    out.set16(start, len as u16);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of `struct ofp_table_stats` in each version's specification.
    #[test]
    fn table_counters_have_the_size_of_their_version() {
        let t = TableStats {
            table: TableId(3),
            active: 7,
            lookup: 8,
            matched: 9,
            ..TableStats::default()
        };
        let sizes = [64, 88, 128, 24, 24, 24];
        for (v, size) in Version::ALL.into_iter().zip(sizes) {
            let mut out = Vec::new();
            write_table(&mut out, &t, v);
            assert_eq!(out.len(), size, "{v}");
            let read = read_tables(&mut Reader::new(&out, 0), v).unwrap();
            let told = |t: &TableStats| (t.table, t.active, t.lookup, t.matched);
            assert_eq!(read.iter().map(told).collect::<Vec<_>>(), [told(&t)], "{v}");
        }
    }
}
