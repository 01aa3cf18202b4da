//! What a table is told about itself: its name, how many flows it may hold, who goes when there is one
//! too many (OpenFlow 1.5.1 §6.5, Flow_Table in `ovs-vswitchd.conf.db(5)`), when to speak of vacancy
//! (§7.3.4.1), and what becomes of packets that it has no flow for (1.1 and 1.2).
//!
//! Eviction takes the flow that matters least and ends soonest from the largest group. Groups are
//! flows with the same values in certain fields, so that one who adds many flows loses their own.
//! Only flows with a timeout are in them. A packet moves a flow's end without touching its place:
//! places are looked at again when they come up, and put back if the end is later.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::HashKey;
use flow::FieldId;
use hashbrown::HashMap;
use openflow::message::{TableDesc, TableReason, table_config};
use openflow::subfield::Subfield;

use crate::rule::Rule;

/// What the database says of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSettings {
    /// Its name; empty if it has none there.
    pub name: String,
    /// Most flows; `None` for no limit.
    pub max_flows: Option<u32>,
    /// A flow too many takes the place of another; otherwise it is refused.
    pub evict: bool,
    /// What tells groups apart.
    pub groups: Vec<Subfield>,
    /// Fields whose prefixes the lookup tracks; `None` for IPv4 and IPv6 addresses.
    pub prefixes: Option<Vec<FieldId>>,
}

/// The only kind of eviction there is: by groups (`OFPTMPEF_OTHER`), importance and lifetime.
pub(crate) const EVICTION_FLAGS: u32 = 0b111;

/// What a table does with packets that match none of its flows, if told so (1.1 and 1.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TableMiss {
    /// They go to a controller.
    Controller,
    /// They go on to the next table.
    Continue,
    /// They end here.
    Drop,
}

/// What a table is told about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableConfig {
    /// By the database.
    pub settings: TableSettings,
    /// A name that a controller gave; the database's goes before it.
    pub name: String,
    /// A controller wants eviction.
    pub evict: bool,
    /// By a controller.
    pub miss: Option<TableMiss>,
    /// Vacancy (down, up) in per cent.
    pub vacancy: (u8, u8),
    /// The event to send next, if they are wanted.
    pub event: Option<TableReason>,
}

impl TableConfig {
    /// The name to tell.
    pub fn name(&self) -> &str {
        if self.settings.name.is_empty() { &self.name } else { &self.settings.name }
    }

    /// Whether a flow too many takes the place of another.
    pub fn evicts(&self) -> bool {
        self.evict || self.settings.evict
    }

    /// Most flows.
    pub fn max_flows(&self) -> usize {
        self.settings.max_flows.map_or(usize::MAX, |n| n as usize)
    }

    /// How much of the table is free, in per cent.
    fn vacant(&self, n_flows: usize) -> u8 {
        // What has no limit counts as OVS counts it.
        let max = u64::from(self.settings.max_flows.unwrap_or(u32::MAX));
        match max.checked_sub(n_flows as u64) {
            _ if max == 0 => 100,
            Some(free) => (u128::from(free) * 100 / u128::from(max)) as u8,
            None => 0,
        }
    }

    /// The description that 1.4 tells of a table with so many flows.
    pub fn desc(&self, table: base::TableId, n_flows: usize) -> TableDesc {
        let mut config = 0;
        if self.evict {
            config |= table_config::EVICTION;
        }
        if self.event.is_some() {
            config |= table_config::VACANCY_EVENTS;
        }
        let (down, up) = self.vacancy;
        TableDesc {
            table,
            config,
            eviction_flags: Some(EVICTION_FLAGS),
            vacancy: Some((down, up, self.vacant(n_flows))),
        }
    }

    /// Turns vacancy events on or off.
    pub fn set_vacancy(&mut self, on: bool, thresholds: (u8, u8), n_flows: usize) {
        self.vacancy = thresholds;
        if !on {
            self.event = None;
        } else if self.event.is_none() {
            self.event = Some(match self.vacant(n_flows) < self.vacancy.1 {
                true => TableReason::VacancyUp,
                false => TableReason::VacancyDown,
            });
        }
    }

    /// The event that is due now that the table has so many flows.
    pub fn vacancy_event(&mut self, n_flows: usize) -> Option<TableReason> {
        let wanted = self.event?;
        let vacant = self.vacant(n_flows);
        let due = if vacant < self.vacancy.0 {
            TableReason::VacancyDown
        } else if vacant > self.vacancy.1 {
            TableReason::VacancyUp
        } else {
            return None;
        };
        if due != wanted {
            return None;
        }
        self.event = Some(match due {
            TableReason::VacancyDown => TableReason::VacancyUp,
            TableReason::VacancyUp => TableReason::VacancyDown,
        });
        Some(due)
    }
}

/// Importance, end in nanoseconds, number: the least goes first.
type Place = (u16, u64, u64);

/// The flows of a table that may be evicted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evictable {
    groups: HashMap<u64, BTreeMap<Place, Arc<Rule>>>,
    /// Size and id of each group.
    sizes: BTreeSet<(usize, u64)>,
    places: HashMap<usize, (u64, Place)>,
    last: u64,
}

impl Evictable {
    fn resize(&mut self, group: u64, from: usize, to: usize) {
        self.sizes.remove(&(from, group));
        if to > 0 {
            self.sizes.insert((to, group));
        }
    }

    /// Adds a rule, if it ever ends.
    pub fn add(&mut self, rule: &Arc<Rule>, fields: &[Subfield], hash: HashKey) {
        let Some(end) = rule.deadline() else { return };
        let key = rule.match_.expand().key;
        let words: Vec<u64> = fields
            .iter()
            .flat_map(|f| {
                let v = if f.row().prereq.holds(&key.pkt) { f.get(&key) } else { 0 };
                [v as u64, (v >> 64) as u64]
            })
            .collect();
        let group = base::hash_words(hash, &words);
        self.last += 1;
        let place = (rule.importance, end.as_nanos(), self.last);
        let members = self.groups.entry(group).or_default();
        members.insert(place, rule.clone());
        let n = members.len();
        self.places.insert(rule.identity(), (group, place));
        self.resize(group, n - 1, n);
    }

    /// Takes a rule out.
    pub fn remove(&mut self, rule: &Rule) {
        let Some((group, place)) = self.places.remove(&rule.identity()) else { return };
        let Some(members) = self.groups.get_mut(&group) else { return };
        members.remove(&place);
        let n = members.len();
        if n == 0 {
            self.groups.remove(&group);
        }
        self.resize(group, n + 1, n);
    }

    /// The rule that goes next.
    pub fn choose(&mut self) -> Option<Arc<Rule>> {
        let &(_, group) = self.sizes.last()?;
        let members = self.groups.get_mut(&group)?;
        loop {
            let (&place, rule) = members.first_key_value()?;
            let end = rule.deadline().map_or(place.1, |d| d.as_nanos());
            if end <= place.1 {
                return Some(rule.clone());
            }
            let later = (place.0, end, place.2);
            let rule = members.remove(&place)?;
            self.places.insert(rule.identity(), (group, later));
            members.insert(later, rule);
        }
    }
}
