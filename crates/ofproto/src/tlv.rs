//! Changes to the table of tunnel options (`NXT_TLV_TABLE_MOD`).
//!
//! A field that a flow matches or an action names cannot lose its option: what the flow means would
//! change. Source: `ovs-ofctl(8)`, "Geneve Option mapping".

use alloc::vec::Vec;

use flow::tun_metadata::TlvError;
use flow::{Match, TlvMap};
use openflow::Subfield;
use openflow::action::{Action, CtZone, LearnDst, LearnSrc, OptionLens};
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

    /// Whether there are the options that an action speaks of, and as long as it means.
    pub(crate) fn check_options(&self, a: &Action) -> Result<(), FlowModError> {
        let mut found = Ok(());
        each_option(a, &mut |i, end| {
            if !self.tlv.has(i) {
                found = Err(FlowModError::UnmappedOption);
            } else if found.is_ok() && end as usize > 8 * self.tlv.layout().len(i) {
                found = Err(FlowModError::OptionTooShort);
            }
        });
        found
    }

    /// How long the options are, for messages that name their fields.
    pub(crate) fn option_lens(&self) -> OptionLens {
        let mut lens = OptionLens::default();
        self.tlv.iter().for_each(|map| lens.set(map.index.into(), map.len));
        lens
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
    let mut used = rule.match_.expand().mask.tun_metadata.present >> i & 1 != 0;
    rule.walk(&mut |a| each_option(a, &mut |option, _| used |= option == i));
    used
}

/// Calls `f` for the options that an action itself speaks of, with the first bit behind the part that it means.
fn each_option(a: &Action, f: &mut dyn FnMut(usize, u32)) {
    let mut part = |s: &Subfield| {
        if let Some(i) = s.field.row().tun_option() {
            f(i, u32::from(s.ofs) + u32::from(s.n_bits));
        }
    };
    match a {
        Action::Load { dst: s, .. }
        | Action::StackPush(s)
        | Action::StackPop(s)
        | Action::CheckPktLarger { dst: s, .. }
        | Action::OutputReg { src: s, .. } => part(s),
        Action::Move { src, dst } => [src, dst].into_iter().for_each(part),
        Action::Multipath(m) => part(&m.dst),
        Action::Bundle(b) => b.dst.iter().for_each(part),
        Action::Sample(s) => [s.obs_domain_src, s.obs_point_src].iter().flatten().for_each(part),
        Action::Learn(l) => {
            l.result_dst.iter().for_each(&mut part);
            for spec in &l.specs {
                if let LearnSrc::Field(s) = &spec.src {
                    part(s);
                }
                if let LearnDst::Match(s) | LearnDst::Load(s) = &spec.dst {
                    part(s);
                }
            }
        }
        Action::Ct(ct) => {
            if let CtZone::Field(s) = &ct.zone {
                part(s);
            }
            ct.exec.iter().for_each(|a| each_option(a, f));
        }
        Action::SetTunOption { index, .. } => f((*index).into(), 0),
        Action::DeleteField(field) => field.row().tun_option().into_iter().for_each(|i| f(i, 0)),
        _ => {}
    }
}
