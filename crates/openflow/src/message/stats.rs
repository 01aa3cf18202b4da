//! Bodies about how tables are configured.

use alloc::vec::Vec;

use super::codec::Result;
use super::*;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// A change to a table.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TableMod {
    /// Which; [`TableId::ALL`] for all.
    pub table: TableId,
    /// Configuration bits of the wire.
    pub config: u32,
    /// 1.4+: eviction flags, if said.
    pub eviction_flags: Option<u32>,
    /// 1.4+: vacancy thresholds (down, up) in per cent, if said.
    pub vacancy: Option<(u8, u8)>,
}

/// Configuration of a table (1.4+).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableDesc {
    /// Which.
    pub table: TableId,
    /// Configuration bits.
    pub config: u32,
    /// Eviction flags, if said.
    pub eviction_flags: Option<u32>,
    /// Vacancy (down, up, now) in per cent, if said.
    pub vacancy: Option<(u8, u8, u8)>,
}

/// Configuration bits of a table.
pub mod table_config {
    /// 1.1 and 1.2: what becomes of packets that match no flow: 0 controller, 1 next table, 2 drop.
    pub const MISS_MASK: u32 = 3;
    /// 1.4+: a flow too many takes the place of another.
    pub const EVICTION: u32 = 1 << 2;
    /// 1.4+: tell when the table fills and empties.
    pub const VACANCY_EVENTS: u32 = 1 << 3;
}

/// What happened to a table (1.4+).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TableReason {
    /// Less of it is free than the lower threshold.
    VacancyDown = 3,
    /// More of it is free than the upper threshold.
    VacancyUp = 4,
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
