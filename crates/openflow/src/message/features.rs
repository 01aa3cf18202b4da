//! What tables can do and what they counted: table statistics, of which those of 1.0 to 1.2 tell
//! capabilities too, and table features (1.3+).

use alloc::string::String;
use alloc::vec::Vec;

use base::TableId;
use flow::field::{FIELDS, class};
use flow::{Field, FieldId};

use super::codec::Result;
use super::table_config;
use crate::error::OfError;
use crate::oxm::{put_header, read_header, wire_type};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// A set of fields.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSet([u64; 4]);

impl FieldSet {
    /// Whether a field is in it.
    pub fn has(&self, f: FieldId) -> bool {
        self.0[f as usize / 64] >> (f as usize % 64) & 1 != 0
    }

    /// Adds a field.
    pub fn add(&mut self, f: FieldId) {
        self.0[f as usize / 64] |= 1 << (f as usize % 64);
    }

    /// The rows of its fields, in their order.
    pub fn iter(self) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(move |f| self.has(f.id))
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Those that are in both, or, with `not`, those that are not in the other.
    pub fn and(self, other: FieldSet, not: bool) -> FieldSet {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a &= if not { !b } else { b };
        }
        out
    }

    /// Those that are in either.
    pub fn or(self, other: FieldSet) -> FieldSet {
        let mut out = self;
        out.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        out
    }

    /// Whether it has all that another has.
    pub fn covers(&self, other: &FieldSet) -> bool {
        other.and(*self, true).is_empty()
    }
}

impl FromIterator<FieldId> for FieldSet {
    fn from_iter<I: IntoIterator<Item = FieldId>>(fields: I) -> FieldSet {
        let mut set = FieldSet::default();
        fields.into_iter().for_each(|f| set.add(f));
        set
    }
}

/// A set of tables.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct TableSet([u64; 4]);

impl TableSet {
    /// Whether a table is in it.
    pub fn has(&self, t: u8) -> bool {
        self.0[usize::from(t) / 64] >> (t % 64) & 1 != 0
    }

    /// Adds or removes a table.
    pub fn set(&mut self, t: u8, yes: bool) {
        let bit = 1 << (t % 64);
        let word = &mut self.0[usize::from(t) / 64];
        *word = if yes { *word | bit } else { *word & !bit };
    }

    /// Its tables, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..255).filter(move |t| self.has(*t))
    }

    /// Whether it has no table.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Whether it has all that another has.
    pub fn covers(&self, other: &TableSet) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| b & !a == 0)
    }
}

impl FromIterator<u8> for TableSet {
    fn from_iter<I: IntoIterator<Item = u8>>(tables: I) -> TableSet {
        let mut set = TableSet::default();
        tables.into_iter().for_each(|t| set.set(t, true));
        set
    }
}

/// What actions can do in one place.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct ActionFeatures {
    /// Actions, by the numbers of the version ([`crate::action::table::bitmap`]).
    pub actions: u32,
    /// Fields that `set_field` can set.
    pub set_fields: FieldSet,
}

/// What flows can do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct InstructionFeatures {
    /// Tables that `goto_table` can go to.
    pub next: TableSet,
    /// Instructions: bit 1 << number.
    pub instructions: u32,
    /// In `write_actions`.
    pub write: ActionFeatures,
    /// In `apply_actions`.
    pub apply: ActionFeatures,
}

/// What a request of table features does (1.5; before it always replaces).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum FeaturesCommand {
    /// Makes the tables those of the request.
    #[default]
    Replace = 0,
    /// Changes the tables of the request.
    Modify = 1,
    /// Adds tables to the pipeline.
    Enable = 2,
    /// Takes tables out of the pipeline.
    Disable = 3,
}

impl FeaturesCommand {
    /// All, by number.
    pub const ALL: [FeaturesCommand; 4] = [
        FeaturesCommand::Replace,
        FeaturesCommand::Modify,
        FeaturesCommand::Enable,
        FeaturesCommand::Disable,
    ];
}

/// What a table can do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableFeatures {
    /// Which.
    pub table: TableId,
    /// 1.5: what a request does.
    pub command: FeaturesCommand,
    /// Name, up to 31 bytes.
    pub name: String,
    /// Metadata bits it can match.
    pub metadata_match: u64,
    /// Metadata bits it can write.
    pub metadata_write: u64,
    /// 1.1 and 1.2: what becomes of packets that match no flow ([`table_config::MISS_MASK`]).
    pub miss_config: Option<u32>,
    /// 1.4+: whether it can evict, and whether it can tell of vacancy.
    pub capabilities: Option<(bool, bool)>,
    /// Most flows; 0 if not told.
    pub max_entries: u32,
    /// What follows is told (a request that only gives a name leaves it out).
    pub has_properties: bool,
    /// What flows can do.
    pub nonmiss: InstructionFeatures,
    /// What table-miss flows can do.
    pub miss: InstructionFeatures,
    /// Fields it can match.
    pub match_: FieldSet,
    /// Those of them that can have a mask.
    pub mask: FieldSet,
    /// Those that may be left out.
    pub wildcard: FieldSet,
}

/// Counters of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableStats {
    /// Which table; and, before 1.3, what it can do.
    pub features: TableFeatures,
    /// Flows.
    pub active: u32,
    /// Lookups.
    pub lookup: u64,
    /// Lookups that found a flow.
    pub matched: u64,
}

/// Fields of the fixed matches, with their bits in 1.0's and 1.1's bitmaps of fields.
const FIXED: [(FieldId, u32, u32); 12] = [
    (FieldId::InPort, 1, 1),
    (FieldId::VlanVid, 1 << 1, 1 << 1),
    (FieldId::VlanPcp, 1 << 20, 1 << 2),
    (FieldId::EthSrc, 1 << 2, 1 << 11),
    (FieldId::EthDst, 1 << 3, 1 << 12),
    (FieldId::EthType, 1 << 4, 1 << 3),
    (FieldId::IpProto, 1 << 5, 1 << 5),
    (FieldId::NwTos, 1 << 21, 1 << 4),
    (FieldId::IpSrc, 0x3f << 8, 1 << 13),
    (FieldId::IpDst, 0x3f << 14, 1 << 14),
    (FieldId::TcpSrc, 1 << 6, 1 << 6),
    (FieldId::TcpDst, 1 << 7, 1 << 7),
];

/// Fields that only 1.1's bitmap has.
const FIXED11: [(FieldId, u32); 3] =
    [(FieldId::MplsLabel, 1 << 8), (FieldId::MplsTc, 1 << 9), (FieldId::Metadata, 1 << 15)];

fn bits_of(v: Version) -> impl Iterator<Item = (FieldId, u32)> {
    let old = FIXED.iter().map(move |r| (r.0, if v == Version::Of10 { r.1 } else { r.2 }));
    old.chain(FIXED11.into_iter().filter(move |_| v > Version::Of10))
}

fn of_fixed(bits: u32, v: Version) -> FieldSet {
    bits_of(v).filter(|(_, b)| bits & b != 0).map(|(f, _)| f).collect()
}

fn to_fixed(set: FieldSet, v: Version) -> u32 {
    bits_of(v).filter(|(f, _)| set.has(*f)).fold(0, |m, (_, b)| m | b)
}

/// Fields by their numbers in OpenFlow's basic class, as 1.2 has them in bitmaps.
fn basic() -> impl Iterator<Item = (FieldId, u64)> {
    FIELDS.iter().filter_map(|f| {
        let o = wire_type(f, Some(Version::Of12))?;
        (o.class == class::OXM_OF && o.field < 64).then(|| (f.id, 1 << o.field))
    })
}

/// Fields that came with later versions do not count.
fn of_basic(bits: u64) -> FieldSet {
    let is_known = |f: FieldId| {
        wire_type(f.row(), Some(Version::Of12)).is_some_and(|o| o.version <= Version::Of12 as u8)
    };
    basic().filter(|(f, b)| bits & b != 0 && is_known(*f)).map(|(f, _)| f).collect()
}

fn to_basic(set: FieldSet) -> u64 {
    basic().filter(|(f, _)| set.has(*f)).fold(0, |m, (_, b)| m | b)
}

/// Reads table counters.
pub fn read_stats(r: &mut Reader<'_>, v: Version) -> Result<Vec<TableStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let mut t = TableFeatures { table: TableId(r.u8()?), ..Default::default() };
        match v {
            Version::Of10 => {
                r.skip(3)?;
                t.name = r.text(32)?;
                t.wildcard = of_fixed(r.u32()?, v);
                t.match_ = t.wildcard;
                t.max_entries = r.u32()?;
            }
            Version::Of11 => {
                r.skip(7)?;
                t.name = r.text(32)?;
                t.wildcard = of_fixed(r.u32()?, v);
                t.match_ = of_fixed(r.u32()?, v).or(t.wildcard);
                t.nonmiss.instructions = r.u32()?;
                t.nonmiss.write.actions = r.u32()?;
                t.nonmiss.apply.actions = r.u32()?;
                t.miss_config = Some(r.u32()? & table_config::MISS_MASK);
                t.max_entries = r.u32()?;
            }
            Version::Of12 => {
                r.skip(7)?;
                t.name = r.text(32)?;
                t.match_ = of_basic(r.u64()?);
                t.wildcard = of_basic(r.u64()?);
                t.match_ = t.match_.or(t.wildcard);
                t.nonmiss.write.actions = r.u32()?;
                t.nonmiss.apply.actions = r.u32()?;
                t.nonmiss.write.set_fields = of_basic(r.u64()?);
                t.nonmiss.apply.set_fields = of_basic(r.u64()?);
                (t.metadata_match, t.metadata_write) = (r.u64()?, r.u64()?);
                t.nonmiss.instructions = r.u32()?;
                t.miss_config = Some(r.u32()? & table_config::MISS_MASK);
                t.max_entries = r.u32()?;
            }
            _ => r.skip(3)?,
        }
        t.miss = t.nonmiss;
        let (active, lookup, matched) = (r.u32()?, r.u64()?, r.u64()?);
        list.push(TableStats { features: t, active, lookup, matched });
    }
    Ok(list)
}

/// Writes table counters.
pub fn write_stats(out: &mut Vec<u8>, s: &TableStats, v: Version) {
    let t = &s.features;
    out.put8(t.table.0);
    match v {
        Version::Of10 => {
            out.zeros(3);
            out.text(&t.name, 32);
            out.put32(to_fixed(t.wildcard, v));
            out.put32(t.max_entries);
        }
        Version::Of11 => {
            out.zeros(7);
            out.text(&t.name, 32);
            out.put32(to_fixed(t.wildcard, v));
            out.put32(to_fixed(t.match_, v));
            out.put32(t.nonmiss.instructions);
            out.put32(t.nonmiss.write.actions);
            out.put32(t.nonmiss.apply.actions);
            out.put32(t.miss_config.unwrap_or(0));
            out.put32(t.max_entries);
        }
        Version::Of12 => {
            out.zeros(7);
            out.text(&t.name, 32);
            out.put64(to_basic(t.match_));
            out.put64(to_basic(t.wildcard));
            out.put32(t.nonmiss.write.actions);
            out.put32(t.nonmiss.apply.actions);
            out.put64(to_basic(t.nonmiss.write.set_fields));
            out.put64(to_basic(t.nonmiss.apply.set_fields));
            out.put64(t.metadata_match);
            out.put64(t.metadata_write);
            out.put32(t.nonmiss.instructions);
            out.put32(t.miss_config.unwrap_or(0));
            out.put32(t.max_entries);
        }
        _ => out.zeros(3),
    }
    out.put32(s.active);
    out.put64(s.lookup);
    out.put64(s.matched);
}

/// Property types (`enum ofp_table_feature_prop_type`). Those about table-miss flows are one higher.
mod prop {
    pub const INSTRUCTIONS: u16 = 0;
    pub const NEXT_TABLES: u16 = 2;
    pub const WRITE_ACTIONS: u16 = 4;
    pub const APPLY_ACTIONS: u16 = 6;
    pub const MATCH: u16 = 8;
    pub const WILDCARDS: u16 = 10;
    pub const WRITE_SETFIELD: u16 = 12;
    pub const APPLY_SETFIELD: u16 = 14;
}

/// Bits of the properties that must be there.
const REQUIRED: u32 = 1 << prop::INSTRUCTIONS
    | 1 << prop::NEXT_TABLES
    | 1 << prop::WRITE_ACTIONS
    | 1 << prop::APPLY_ACTIONS
    | 1 << prop::MATCH
    | 1 << prop::WILDCARDS
    | 1 << prop::WRITE_SETFIELD
    | 1 << prop::APPLY_SETFIELD;

/// Numbers of a list of instruction or action headers, as a bitmap; experimenters' are not in it.
fn read_ids(r: &mut Reader<'_>) -> Result<u32> {
    let mut bits = 0;
    while !r.is_empty() {
        let here = *r;
        let (id, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        r.skip(len - 4).map_err(|_| here.error(OfError::OFPBPC_BAD_LEN))?;
        bits |= 1u32.checked_shl(id.into()).unwrap_or(0);
    }
    Ok(bits)
}

fn read_fields(r: &mut Reader<'_>, fields: &mut FieldSet, masks: &mut FieldSet) -> Result<()> {
    while !r.is_empty() {
        let h = read_header(r)?;
        fields.add(h.field.id);
        if h.has_mask {
            masks.add(h.field.id);
        }
    }
    Ok(())
}

/// Reads table features.
pub fn read_features(r: &mut Reader<'_>, v: Version) -> Result<Vec<TableFeatures>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let bad_len = r.error(OfError::OFPBPC_BAD_LEN);
        let len = usize::from(r.u16()?);
        if len < 64 || len % 8 != 0 {
            return Err(bad_len);
        }
        let mut e = r.sub(len - 2).map_err(|_| bad_len)?;
        list.push(read_one(&mut e, v)?);
    }
    Ok(list)
}

fn read_one(r: &mut Reader<'_>, v: Version) -> Result<TableFeatures> {
    let here = *r;
    let mut t = TableFeatures { table: TableId(r.u8()?), ..Default::default() };
    let command = usize::from(r.u8()?);
    if v >= Version::Of15 {
        let known = FeaturesCommand::ALL.get(command).copied();
        t.command = known.ok_or(here.error(OfError::OFPTFFC_BAD_COMMAND))?;
    }
    if t.table == TableId::ALL {
        return Err(here.error(OfError::OFPTFFC_BAD_TABLE));
    }
    r.skip(4)?;
    t.name = r.text(32)?;
    (t.metadata_match, t.metadata_write) = (r.u64()?, r.u64()?);
    let config = r.u32()?;
    t.capabilities = (v >= Version::Of14).then_some((
        config & table_config::EVICTION != 0,
        config & table_config::VACANCY_EVENTS != 0,
    ));
    t.max_entries = r.u32()?;
    t.has_properties = !r.is_empty();
    let mut seen = 0u32;
    let mut no_masks = FieldSet::default();
    while !r.is_empty() {
        let here = *r;
        let (typ, mut p) = r.property()?;
        let p = &mut p;
        let bit = 1u32.checked_shl(typ.into()).unwrap_or(0);
        if seen & bit != 0 {
            return Err(here.error(OfError::OFPTFFC_BAD_FEATURES));
        }
        seen |= bit;
        let x = if typ & 1 == 0 { &mut t.nonmiss } else { &mut t.miss };
        match (typ & !1, typ) {
            (prop::INSTRUCTIONS, _) => x.instructions = read_ids(p)?,
            (prop::NEXT_TABLES, _) => x.next = p.rest().iter().copied().collect(),
            (prop::WRITE_ACTIONS, _) => x.write.actions = read_ids(p)?,
            (prop::APPLY_ACTIONS, _) => x.apply.actions = read_ids(p)?,
            (_, prop::MATCH) => read_fields(p, &mut t.match_, &mut t.mask)?,
            (_, prop::WILDCARDS) => read_fields(p, &mut t.wildcard, &mut no_masks)?,
            (prop::WRITE_SETFIELD, _) => {
                read_fields(p, &mut x.write.set_fields, &mut no_masks)?;
            }
            (prop::APPLY_SETFIELD, _) => {
                read_fields(p, &mut x.apply.set_fields, &mut no_masks)?;
            }
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    if seen & REQUIRED != REQUIRED && (t.has_properties || v < Version::Of15) {
        return Err(here.error(OfError::OFPTFFC_BAD_FEATURES));
    }
    // What is not said of table-miss flows is as for others.
    let unsaid = |typ: u16| seen & 1 << (typ + 1) == 0;
    if unsaid(prop::INSTRUCTIONS) {
        t.miss.instructions = t.nonmiss.instructions;
    }
    if unsaid(prop::NEXT_TABLES) {
        t.miss.next = t.nonmiss.next;
    }
    if unsaid(prop::WRITE_ACTIONS) {
        t.miss.write.actions = t.nonmiss.write.actions;
    }
    if unsaid(prop::APPLY_ACTIONS) {
        t.miss.apply.actions = t.nonmiss.apply.actions;
    }
    if unsaid(prop::WRITE_SETFIELD) {
        t.miss.write.set_fields = t.nonmiss.write.set_fields;
    }
    if unsaid(prop::APPLY_SETFIELD) {
        t.miss.apply.set_fields = t.nonmiss.apply.set_fields;
    }
    // What can have a mask can be left out.
    t.wildcard = t.wildcard.or(t.mask).and(t.match_, false);
    Ok(t)
}

fn property(out: &mut Vec<u8>, typ: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put16(typ);
    out.put16(0);
    write(out);
    let len = out.len() - start;
    out.set16(start + 2, len as u16);
    out.pad8(start);
}

fn write_ids(out: &mut Vec<u8>, bits: u32) {
    for id in (0..32u16).filter(|i| bits >> i & 1 != 0) {
        out.put16(id);
        out.put16(4);
    }
}

fn write_fields(out: &mut Vec<u8>, v: Version, fields: FieldSet, masks: FieldSet) {
    for f in fields.iter() {
        if let Some(o) = wire_type(f, Some(v)) {
            put_header(out, f, o, masks.has(f.id));
        }
    }
}

/// Writes table features.
pub fn write_features(out: &mut Vec<u8>, t: &TableFeatures, v: Version) {
    let start = out.len();
    out.put16(0);
    out.put8(t.table.0);
    out.put8(if v >= Version::Of15 { t.command as u8 } else { 0 });
    out.zeros(4);
    out.text(&t.name, 32);
    out.put64(t.metadata_match);
    out.put64(t.metadata_write);
    let (evicts, tells) = t.capabilities.filter(|_| v >= Version::Of14).unwrap_or_default();
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    out.put32(bit(evicts, table_config::EVICTION) | bit(tells, table_config::VACANCY_EVENTS));
    out.put32(t.max_entries);
    if t.has_properties {
        let none = FieldSet::default();
        for (miss, x) in [(0, &t.nonmiss), (1, &t.miss)] {
            property(out, prop::INSTRUCTIONS + miss, |o| write_ids(o, x.instructions));
            property(out, prop::NEXT_TABLES + miss, |o| o.extend(x.next.iter()));
            for (actions, fields, a) in [
                (prop::WRITE_ACTIONS, prop::WRITE_SETFIELD, &x.write),
                (prop::APPLY_ACTIONS, prop::APPLY_SETFIELD, &x.apply),
            ] {
                property(out, actions + miss, |o| write_ids(o, a.actions));
                property(out, fields + miss, |o| write_fields(o, v, a.set_fields, none));
            }
        }
        property(out, prop::MATCH, |o| write_fields(o, v, t.match_, t.mask));
        property(out, prop::WILDCARDS, |o| write_fields(o, v, t.wildcard, none));
    }
    let len = out.len() - start;
    out.set16(start, len as u16);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> TableFeatures {
        let fields: FieldSet = [FieldId::InPort, FieldId::EthSrc, FieldId::IpSrc, FieldId::TcpDst]
            .into_iter()
            .collect();
        let x = InstructionFeatures {
            next: [4, 5, 250].into_iter().collect(),
            instructions: 0b11_1110,
            write: ActionFeatures { actions: 1 | 1 << 22, set_fields: fields },
            apply: ActionFeatures { actions: 1, set_fields: fields },
        };
        TableFeatures {
            table: TableId(3),
            name: "main".into(),
            max_entries: 77,
            has_properties: true,
            nonmiss: x,
            miss: InstructionFeatures { instructions: 0b10_0000, ..x },
            match_: fields,
            mask: [FieldId::EthSrc, FieldId::IpSrc].into_iter().collect(),
            wildcard: fields,
            ..TableFeatures::default()
        }
    }

    /// The sizes of `struct ofp_table_stats` in each version's specification.
    #[test]
    fn counters_have_the_size_of_their_version() {
        for (v, size) in Version::ALL.into_iter().zip([64, 88, 128, 24, 24, 24]) {
            let s = TableStats { features: some(), active: 7, lookup: 8, matched: 9 };
            let mut out = Vec::new();
            write_stats(&mut out, &s, v);
            assert_eq!(out.len(), size, "{v}");
            let read = read_stats(&mut Reader::new(&out, 0), v).unwrap();
            let told = |s: &TableStats| (s.features.table, s.active, s.lookup, s.matched);
            assert_eq!(read.iter().map(told).collect::<Vec<_>>(), [told(&s)], "{v}");
            let mut again = Vec::new();
            write_stats(&mut again, &read[0], v);
            assert_eq!(read_stats(&mut Reader::new(&again, 0), v), Ok(read), "{v}");
        }
    }

    #[test]
    fn features_survive() {
        for v in [Version::Of13, Version::Of14, Version::Of15] {
            let mut t = some();
            t.capabilities = (v >= Version::Of14).then_some((true, false));
            let mut out = Vec::new();
            write_features(&mut out, &t, v);
            assert_eq!(read_features(&mut Reader::new(&out, 0), v), Ok(Vec::from([t])), "{v}");
        }
    }

    #[test]
    fn features_without_what_is_required_are_refused() {
        let t = TableFeatures { has_properties: false, ..some() };
        for v in [Version::Of13, Version::Of14, Version::Of15] {
            let mut out = Vec::new();
            write_features(&mut out, &t, v);
            let read = read_features(&mut Reader::new(&out, 0), v);
            match v {
                Version::Of15 => assert_eq!(read.unwrap()[0].name, "main"),
                _ => assert_eq!(read.unwrap_err().error, OfError::OFPTFFC_BAD_FEATURES),
            }
        }
    }
}
