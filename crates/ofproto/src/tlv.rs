//! Changes to the table of tunnel options (`NXT_TLV_TABLE_MOD`).
//!
//! A field that a flow matches or an action names cannot lose its option: what the flow means would
//! change. Source: `ovs-ofctl(8)`, "Geneve Option mapping".

use alloc::vec::Vec;

use flow::tun_metadata::TlvError;
use flow::{FieldId, Match, TlvMap};
use openflow::action::Action;
use openflow::message::{TlvCommand, TlvTable, TlvTableMod};

use crate::rule::Rule;
use crate::table::{Criteria, FlowModError, FlowTables};

/// Why a change is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvModError {
    /// A line of it.
    #[error("the mapping is not possible: {0:?}")]
    Map(TlvError),
    /// A flow uses the field.
    #[error("a flow uses the field")]
    InUse,
}

impl FlowTables {
    /// Changes the table of tunnel options, whole or, if it gives an error, not at all.
    pub(crate) fn apply_tlv(&mut self, m: &TlvTableMod) -> Result<(), TlvModError> {
        let mut new = self.tlv.clone();
        let gone: Vec<TlvMap> = match m.command {
            TlvCommand::Add => {
                m.maps.iter().try_for_each(|map| new.add(*map)).map_err(TlvModError::Map)?;
                Vec::new()
            }
            TlvCommand::Delete => m.maps.clone(),
            TlvCommand::Clear => new.iter().collect(),
        };
        for map in gone {
            let i = usize::from(map.index);
            if new.has(i) && self.select(&Criteria::default()).any(|r| uses(r, i)) {
                return Err(TlvModError::InUse);
            }
            new.remove(map.index);
        }
        self.tlv = new;
        Ok(())
    }

    /// A match with its options where this bridge has them.
    pub(crate) fn placed(&self, m: &Match) -> Result<Match, FlowModError> {
        let mut m = *m;
        if m.mask.tun_metadata.present != 0 {
            self.tlv.place(&mut m).map_err(|_| FlowModError::UnmappedOption)?;
        }
        Ok(m)
    }

    /// The table as a controller is told of it.
    pub(crate) fn tlv_reply(&self) -> TlvTable {
        use flow::tun_metadata::{N_OPTIONS, OPTION_SPACE};
        TlvTable {
            max_space: OPTION_SPACE as u32,
            max_fields: N_OPTIONS as u16,
            maps: self.tlv.iter().collect(),
        }
    }
}

/// Whether a flow needs option field `i`.
fn uses(rule: &Rule, i: usize) -> bool {
    let is = |field: FieldId| field.row().tun_option() == Some(i);
    rule.match_.expand().mask.tun_metadata.present >> i & 1 != 0
        || rule.does(&|a| match a {
            Action::SetTunOption { index, .. } => usize::from(*index) == i,
            Action::Load { dst: s, .. }
            | Action::StackPush(s)
            | Action::StackPop(s)
            | Action::OutputReg { src: s, .. } => is(s.field),
            Action::Move { src, dst } => is(src.field) || is(dst.field),
            Action::DeleteField(field) => is(*field),
            _ => false,
        })
}
