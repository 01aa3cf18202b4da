//! `group`: through some buckets of a group (`ovs-ofctl(8)`, "Group Syntax").
//!
//! A bucket is an action set, done on a copy of the packet: what it changes is undone behind it.
//! Liveness is looked at here, so a translation holds until a port comes up or goes down.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use base::OfPort;
use dpif::DropReason;
use flow::hash::{hash_2words, hash_bytes, hash_u64};
use openflow::action::HashFields;
use openflow::flow_mod::GROUP_ANY;
use openflow::message::{Bucket, GroupType, port_config, port_state};

use super::Ctx;
use super::actions::ordered;
use super::set_field::mark;
use crate::group::{Choice, Group};
use crate::hash::{hash_fields, mask_hash_fields};
use crate::trace::NodeKind;

/// Deepest chain of watched groups.
const MAX_LIVENESS_DEPTH: usize = 128;

/// A bucket by its place in its group.
type Place = usize;

impl<'a> Ctx<'a> {
    /// Goes through a group. `false` if there is none: the list of actions ends.
    pub(super) fn group(&mut self, id: u32, last: bool) -> bool {
        if !self.may_resubmit() {
            return true;
        }
        let br = self.br;
        let Some(group) = br.tables.groups.get(id) else {
            self.report(NodeKind::Warn, || format!("output to nonexistent group {id}"));
            return false;
        };
        let buckets = &group.desc.buckets;
        let chosen = match group.desc.type_ {
            GroupType::All | GroupType::Indirect => {
                for (i, b) in buckets.iter().enumerate() {
                    self.bucket(group, b, last && i + 1 == buckets.len());
                }
                self.credits.groups.push((group.counters.clone(), None));
                return true;
            }
            GroupType::Select => self.choose(group),
            GroupType::FastFailover => self.first_live(group, 0),
        };
        match chosen {
            Some(place) => {
                let b = &buckets[place];
                self.report(NodeKind::Detail, || format!("using bucket {}", b.id));
                self.bucket(group, b, last);
                self.credits.groups.push((group.counters.clone(), Some(place)));
            }
            None if self.freezing.is_none() => {
                self.report(NodeKind::Detail, || "no live bucket".into());
            }
            None => {}
        }
        true
    }

    /// Does what a bucket says.
    fn bucket(&mut self, group: &Group, b: &Bucket, last: bool) {
        let place = self.report_enter(NodeKind::Bucket, || format!("bucket {}", b.id));
        let (flow, was_mpls) = (self.flow, self.was_mpls);
        let version = core::mem::replace(&mut self.version, group.version);
        let in_bucket = core::mem::replace(&mut self.in_bucket, true);
        self.depth += 1;
        self.nesting += 1;
        self.actions(&ordered(&b.actions), last);
        self.nesting -= 1;
        self.depth -= 1;
        if self.freezing.is_some() {
            self.finish_pipeline();
        }
        (self.in_bucket, self.version) = (in_bucket, version);
        (self.flow, self.was_mpls) = (flow, was_mpls);
        // That a bucket ends early says nothing of what comes behind the group.
        self.exit = false;
        let of_the_bucket =
            [DropReason::TooManyMplsLabels, DropReason::UnsupportedPacketType].map(Some);
        if of_the_bucket.contains(&self.error) {
            self.error = None;
        }
        self.report_leave(place);
    }

    /// The bucket of a select group for the packet. `None` may mean that the packet comes back when its
    /// hash, or the header behind its labels, is known.
    fn choose(&mut self, group: &Arc<Group>) -> Option<Place> {
        if self.was_mpls {
            self.trigger_freeze();
            return None;
        }
        match &group.choice {
            Choice::Symmetric => {
                mask_hash_fields(&self.flow.pkt, &mut self.wc.pkt, HashFields::SymmetricL4);
                let basis = hash_fields(&self.flow.pkt, HashFields::SymmetricL4, 0);
                self.best_live(group, basis)
            }
            Choice::Fields => {
                let basis = self.hash_of_fields(group);
                self.best_live(group, basis)
            }
            Choice::DpHash { alg, basis, .. } if self.flow.pkt.dp_hash == 0 => {
                self.trigger_freeze_with_hash(*alg, *basis);
                self.report(NodeKind::Detail, || {
                    "selection method in use: dp_hash, recirculating".into()
                });
                None
            }
            Choice::DpHash { slots, .. } => {
                let mask = slots.len() - 1;
                self.wc.pkt.dp_hash |= mask as u32;
                let first = self.flow.pkt.dp_hash as usize;
                // Buckets stand mixed in the slots, so the next live one keeps to the weights.
                (0..slots.len())
                    .map(|i| Place::from(slots[first.wrapping_add(i) & mask]))
                    .find(|&place| self.is_live(group, &group.desc.buckets[place], 0))
            }
        }
    }

    fn hash_of_fields(&mut self, group: &Group) -> u32 {
        let selection = &group.desc.selection;
        let mut hash = hash_u64(selection.param);
        for &(id, mask) in &selection.fields {
            let row = id.row();
            if !self.has_prereq(row.prereq) {
                continue;
            }
            let value = row.get(&self.flow) & mask;
            let n = usize::from(row.n_bytes);
            hash = hash_bytes(&value.to_be_bytes()[16 - n..], hash);
            mark(row, mask, &mut self.wc);
        }
        hash
    }

    /// The live bucket with the highest score: its share of a hash of the packet and its id.
    fn best_live(&mut self, group: &Arc<Group>, basis: u32) -> Option<Place> {
        let mut best: Option<(u32, Place)> = None;
        for (place, b) in group.desc.buckets.iter().enumerate() {
            if !self.is_live(group, b, 0) {
                self.report_dead(b);
                continue;
            }
            let score = (hash_2words(b.id, basis) & 0xffff) * u32::from(b.weight);
            if best.is_none_or(|(highest, _)| score >= highest) {
                best = Some((score, place));
            }
            self.report(NodeKind::Detail, || format!("bucket {}: score {score}", b.id));
        }
        best.map(|b| b.1)
    }

    fn first_live(&mut self, group: &Group, depth: usize) -> Option<Place> {
        for (place, b) in group.desc.buckets.iter().enumerate() {
            if self.is_live(group, b, depth) {
                return Some(place);
            }
            self.report_dead(b);
        }
        None
    }

    fn is_live(&mut self, group: &Group, b: &Bucket, depth: usize) -> bool {
        if depth >= MAX_LIVENESS_DEPTH {
            self.report(NodeKind::Error, || {
                format!("bucket chaining exceeded {MAX_LIVENESS_DEPTH} links")
            });
            return false;
        }
        // What has no weight is not used in a select group.
        if group.desc.type_ == GroupType::Select && b.weight == 0 {
            return false;
        }
        let br = self.br;
        !b.has_liveness()
            || match b.watch_port {
                OfPort::NONE => false,
                OfPort::CONTROLLER => br.is_controlled(),
                port => br.port(port).is_some_and(|p| {
                    let d = p.desc();
                    d.config & port_config::PORT_DOWN == 0 && d.state & port_state::LINK_DOWN == 0
                }),
            }
            || (b.watch_group != GROUP_ANY && self.is_group_live(b.watch_group, depth + 1))
    }

    fn is_group_live(&mut self, id: u32, depth: usize) -> bool {
        let br = self.br;
        br.tables.groups.get(id).is_some_and(|g| self.first_live(g, depth).is_some())
    }

    fn report_dead(&mut self, b: &Bucket) {
        self.report(NodeKind::Detail, || {
            let mut why = String::new();
            if b.watch_port != OfPort::NONE {
                why = format!("port {}", b.watch_port);
            }
            if b.watch_group != GROUP_ANY {
                let and = if why.is_empty() { "" } else { " and " };
                why += &format!("{and}port {}", b.watch_group);
            }
            format!("bucket {}: not live due to {why}", b.id)
        });
    }
}
