//! Which flows a request is about.

use base::{OfPort, TableId};
use flow::Match;
use openflow::flow_mod::GROUP_ANY;

use crate::rule::Rule;

/// Which flows a dump, modification or deletion is about.
#[derive(Clone, Debug)]
pub struct Criteria {
    /// Flows within this match.
    pub match_: Match,
    /// Only with exactly this match and priority.
    pub strict: Option<u16>,
    /// Only in this table.
    pub table: Option<TableId>,
    /// Cookie and the bits of it that count.
    pub cookie: (u64, u64),
    /// Only flows that output here; [`OfPort::NONE`] for any.
    pub out_port: OfPort,
    /// Only flows that use this group; [`GROUP_ANY`] for any.
    pub out_group: u32,
}

impl Default for Criteria {
    fn default() -> Self {
        Criteria {
            match_: Match::ANY,
            strict: None,
            table: None,
            cookie: (0, 0),
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
        }
    }
}

impl Criteria {
    pub(crate) fn admits(&self, r: &Rule) -> bool {
        (r.cookie.0 ^ self.cookie.0) & self.cookie.1 == 0
            && self.strict.is_none_or(|p| u32::from(p) == r.priority)
            && (self.out_port == OfPort::NONE || r.outputs_to(self.out_port))
            && (self.out_group == GROUP_ANY || r.uses_group(self.out_group))
    }
}
