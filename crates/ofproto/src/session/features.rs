//! What tables can do, told from the tables of the vocabulary, and what of it controllers may change.
//!
//! All tables can do the same but for going on to later tables.

use alloc::vec::Vec;

use base::TableId;
use flow::field::{FIELDS, Field, MaskRule};
use openflow::action::table::bitmap;
use openflow::message::{
    ActionFeatures, FeaturesCommand, FieldSet, InstructionFeatures, TableFeatures,
};
use openflow::version::Version;

use super::Refusal;
use crate::bridge::Bridge;
use crate::limits::TableMiss;
use crate::table::INTERNAL_TABLE;

/// `goto_table`, `write_metadata`, `write_actions`, `apply_actions`, `clear_actions`, `meter`: bit
/// 1 << number.
const INSTRUCTIONS: u32 = 0b111_1110;
const GOTO_TABLE: u32 = 1 << 1;
/// An instruction since 1.3.
const METER: u32 = 1 << 6;

/// The features of all tables of a bridge, as said in `version`.
pub(super) fn all(br: &Bridge, version: Version) -> Vec<TableFeatures> {
    let fields = |admit: fn(&Field) -> bool| -> FieldSet {
        FIELDS.iter().filter(|f| !f.oxms.is_empty() && admit(f)).map(|f| f.id).collect()
    };
    let actions = bitmap(version).fold(0, |m, (_, bit)| m | bit);
    let set_fields =
        if version > Version::Of11 { fields(|f| f.writable) } else { FieldSet::default() };
    let a = ActionFeatures { actions, set_fields };
    let match_ = fields(|_| true);
    let mask = fields(|f| f.mask == MaskRule::Bitwise);
    let metadata = if version > Version::Of11 { u64::MAX } else { 0 };
    let one = |(table, t): (TableId, &crate::table::FlowTable)| {
        let mut instructions = INSTRUCTIONS;
        if version < Version::Of13 {
            instructions &= !METER;
        }
        if table.0 + 1 == INTERNAL_TABLE.0 {
            instructions &= !GOTO_TABLE;
        }
        let next = (table.0 + 1..INTERNAL_TABLE.0).collect();
        let x = InstructionFeatures { next, instructions, write: a, apply: a };
        TableFeatures {
            table,
            command: FeaturesCommand::Replace,
            name: t.config.name().into(),
            metadata_match: metadata,
            metadata_write: metadata,
            miss_config: Some(match t.config.miss {
                None | Some(TableMiss::Controller) => 0,
                Some(TableMiss::Continue) => 1,
                Some(TableMiss::Drop) => 2,
            }),
            capabilities: Some((true, true)),
            max_entries: t.max_entries(),
            has_properties: true,
            nonmiss: x,
            miss: x,
            match_,
            mask,
            wildcard: match_,
        }
    };
    br.tables.visible().map(one).collect()
}

fn covers_actions(a: &ActionFeatures, b: &ActionFeatures) -> bool {
    b.actions & !a.actions == 0 && a.set_fields.covers(&b.set_fields)
}

fn covers_instructions(a: &InstructionFeatures, b: &InstructionFeatures) -> bool {
    b.instructions & !a.instructions == 0
        && a.next.covers(&b.next)
        && covers_actions(&a.write, &b.write)
        && covers_actions(&a.apply, &b.apply)
}

/// Whether `a` can do all that `b` can.
fn covers(a: &TableFeatures, b: &TableFeatures) -> bool {
    b.metadata_match & !a.metadata_match == 0
        && b.metadata_write & !a.metadata_write == 0
        && covers_instructions(&a.nonmiss, &b.nonmiss)
        && covers_instructions(&a.miss, &b.miss)
        && a.match_.covers(&b.match_)
        && a.mask.covers(&b.mask)
        && a.wildcard.covers(&b.wildcard)
}

/// Does what a request of table features asks: a table's name can be changed. A table may be said to do
/// less than it can (and then does more than was asked, which OpenFlow allows), but no table can be
/// taken away or added.
pub(super) fn change(
    br: &mut Bridge,
    version: Version,
    list: &[TableFeatures],
) -> Result<(), Refusal> {
    let Some(first) = list.first() else { return Ok(()) };
    let old = all(br, version);
    let mut seen = [false; 256];
    for t in list {
        let seen = &mut seen[usize::from(t.table.0)];
        if core::mem::replace(seen, true) {
            return Err(Refusal::TableFeaturesDuplicate);
        }
    }
    match first.command {
        FeaturesCommand::Enable | FeaturesCommand::Disable => return Err(Refusal::TableFeatures),
        // All tables must be there.
        FeaturesCommand::Replace if old.iter().any(|t| !seen[usize::from(t.table.0)]) => {
            return Err(Refusal::TableFeatures);
        }
        FeaturesCommand::Replace | FeaturesCommand::Modify => {}
    }
    for t in list {
        // Whatever is not visible is not there or the switch's own.
        let of = old.get(usize::from(t.table.0)).ok_or(Refusal::TableFeatures)?;
        let bare = first.command == FeaturesCommand::Modify && !t.has_properties;
        let named = &br.tables.get(t.table).ok_or(Refusal::TableFeatures)?.config.settings.name;
        if t.max_entries != of.max_entries
            || !bare && !covers(of, t)
            || !named.is_empty() && *named != t.name
        {
            return Err(Refusal::TableFeatures);
        }
    }
    for t in list {
        br.tables.configure(t.table, |c, _| {
            if c.settings.name.is_empty() {
                c.name.clone_from(&t.name);
            }
        });
    }
    Ok(())
}
