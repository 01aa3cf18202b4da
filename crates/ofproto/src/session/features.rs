//! What tables can do (OpenFlow 1.3+ table features), told from the tables of the vocabulary.
//!
//! All tables can do the same but for going on to later tables.

use alloc::vec::Vec;

use flow::field::{FIELDS, Field, MaskRule, Prereq};
use openflow::message::TableFeatures;
use openflow::oxm::{put_header, wire_type};
use openflow::version::Version;

use crate::bridge::Bridge;
use crate::table::INTERNAL_TABLE;

/// Property types (`enum ofp_table_feature_prop_type`). Those with `MISS` next to them are said once:
/// the same holds for table-miss flows.
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

/// `goto_table`, `write_metadata`, `write_actions`, `apply_actions`, `clear_actions`.
const INSTRUCTIONS: [u16; 5] = [1, 2, 3, 4, 5];
/// `output`, `push_vlan`, `pop_vlan`, `set_queue`, `set_nw_ttl`, `dec_nw_ttl`, `set_field`.
const ACTIONS: [u16; 7] = [0, 17, 18, 21, 23, 24, 25];

/// The features of all tables of a bridge, as said in `version`.
pub(super) fn all(br: &Bridge, version: Version) -> Vec<TableFeatures> {
    let instructions = ids(&INSTRUCTIONS);
    let actions = ids(&ACTIONS);
    let fields = |admit: fn(&Field) -> bool, masked: fn(&Field) -> bool| {
        let mut out = Vec::new();
        for f in FIELDS.iter().filter(|f| supported(f) && admit(f)) {
            if let Some(o) = wire_type(f, Some(version)) {
                put_header(&mut out, f, o, masked(f));
            }
        }
        out
    };
    let matched = fields(|_| true, |f| f.mask == MaskRule::Bitwise);
    let wildcards = fields(|_| true, |_| false);
    let set = fields(|f| f.writable, |_| false);
    br.tables
        .visible()
        .map(|(table, t)| TableFeatures {
            table,
            name: t.config.name().into(),
            metadata_match: u64::MAX,
            metadata_write: u64::MAX,
            max_entries: t.max_entries(),
            properties: alloc::vec![
                (prop::INSTRUCTIONS, instructions.clone()),
                (prop::NEXT_TABLES, (table.0 + 1..INTERNAL_TABLE.0).collect()),
                (prop::WRITE_ACTIONS, actions.clone()),
                (prop::APPLY_ACTIONS, actions.clone()),
                (prop::MATCH, matched.clone()),
                (prop::WILDCARDS, wildcards.clone()),
                (prop::WRITE_SETFIELD, set.clone()),
                (prop::APPLY_SETFIELD, set.clone()),
            ],
            ..TableFeatures::default()
        })
        .collect()
}

/// A list of instruction or action headers.
fn ids(kinds: &[u16]) -> Vec<u8> {
    kinds.iter().flat_map(|k| [k.to_be_bytes(), 4u16.to_be_bytes()]).flatten().collect()
}

/// Whether packets can have the field here: MPLS labels and NSH cannot be changed yet.
fn supported(f: &Field) -> bool {
    !matches!(f.prereq, Prereq::Mpls | Prereq::Nsh)
}
