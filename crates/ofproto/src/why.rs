//! `sekisho why`: what becomes of a packet and why, in plain words.
//!
//! [`Switch::why`] translates the packet as a trace does and tells the lookups: which rule of which
//! table decided, which others came close and by which field they failed. Where the packet passes
//! the connection tracker, the caller says what the tracker makes of it.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use base::Instant;
use conntrack::CtRequest;
use dpif::{DpAction, DropReason, UserspaceCookie};
use flow::field::{FIELDS, Field, FieldId, Prereq};
use flow::text::{FlowText, MatchText, value};
use flow::{FlowKey, PacketKey};
use openflow::text::ActionsText;

use crate::bridge::{Bridge, BridgeId};
use crate::rule::Rule;
use crate::switch::Switch;
use crate::table::FlowTable;
use crate::trace::{Lookup, Trace};
use crate::xlate::XlateOut;

/// What the connection tracker makes of a packet.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The packet with its `ct_*` fields as they are then.
    pub key: PacketKey,
    /// Why, in a sentence.
    pub why: String,
    /// What the `ct` action asks for is not done.
    pub is_refused: bool,
    /// The packet goes no further for it.
    pub is_dropped: Option<DropReason>,
}

/// Other rules that are told for each lookup.
const MAX_NEAR: usize = 3;
/// Passages through the tracker that are followed.
const MAX_PASSES: usize = 64;

impl Switch {
    /// Tells what becomes of a packet that comes in on a bridge. The `in_port` of `key` is an
    /// OpenFlow port. `tracker` gets the packet as it comes to a `ct` action, and whether it comes back with
    /// the verdict.
    pub fn why(
        &self,
        now: Instant,
        bridge: BridgeId,
        key: &FlowKey,
        tracker: &mut dyn FnMut(&FlowKey, &CtRequest, bool) -> Verdict,
    ) -> String {
        let mut out = String::new();
        let Some(br) = self.bridge(bridge) else { return out };
        let _ = writeln!(out, "Packet: {}", FlowText { key, names: br });
        let mut queue = VecDeque::from([*key]);
        let mut ends = Vec::new();
        let mut passes = 0;
        while let Some(key) = queue.pop_front() {
            passes += 1;
            if passes > MAX_PASSES {
                let _ = writeln!(out, "\nIt passes the connection tracker over and over.");
                break;
            }
            let mut trace = Trace::default();
            let mut x = self.xlate_on(now, bridge, &key, Some(&mut trace));
            for l in &trace.lookups {
                self.tell_lookup(&mut out, l);
            }
            let forked = !trace.recirculated.is_empty();
            let mut recirculated = core::mem::take(&mut trace.recirculated).into_iter();
            let mut dropped = None;
            for t in &trace.tracked {
                let resumed = if t.resumes { recirculated.next() } else { None };
                if dropped.is_some() {
                    continue;
                }
                let verdict = tracker(&t.key, &t.request, t.resumes);
                if t.resumes || verdict.is_refused {
                    let (zone, state) = (t.request.zone.0, state_text(verdict.key.ct_state));
                    let why = verdict.why;
                    let _ = writeln!(out, "\nConntrack, zone {zone}: {state}\n    {why}");
                }
                dropped = verdict.is_dropped;
                if dropped.is_some() {
                    // What stands behind it is not done.
                    let at = |a: &DpAction| matches!(a, DpAction::Ct(r) if **r == t.request);
                    let done = x.actions.iter().position(at).unwrap_or(x.actions.len());
                    x.actions.truncate(done);
                } else if let Some(r) = resumed {
                    let mut key = FlowKey { pkt: verdict.key, ..r.key };
                    key.pkt.recirc_id = r.id.0;
                    queue.push_back(key);
                }
            }
            match dropped {
                Some(reason) => {
                    let mut list = Vec::new();
                    self.list_ends(&x.actions, &mut list);
                    if !list.is_empty() {
                        ends.push(format!("It goes {}.", list.join(", and ")));
                    }
                    ends.push(format!("It is dropped: {}", reason.doc()));
                }
                None => self.tell_end(&mut ends, &key, &x, &trace, forked),
            }
        }
        let _ = writeln!(out);
        for end in ends {
            let _ = writeln!(out, "{end}");
        }
        out
    }

    /// A lookup, the rule that took the packet, and the next best.
    fn tell_lookup(&self, out: &mut String, l: &Lookup) {
        let Some(br) = self.bridge(l.bridge) else { return };
        let place = format!("Table {} of {}", l.table.0, br.name);
        let _ = match &l.rule {
            Some(r) => {
                let actions = ActionsText { actions: &r.actions, names: br, version: r.version };
                writeln!(out, "\n{place}: {}\n    does {actions}", rule_text(r, br))
            }
            None if l.drop_frags => {
                writeln!(out, "\n{place}: not looked up, fragments are dropped (ofctl set-frags)")
            }
            None => writeln!(out, "\n{place}: no rule matches"),
        };
        let rules = br.tables().get(l.table).into_iter().flat_map(FlowTable::rules);
        let mut near: Vec<(Vec<&Field>, &Rule)> = rules
            .filter(|r| !l.rule.as_ref().is_some_and(|it| Arc::ptr_eq(it, r)))
            .map(|r| (failing(r, &l.key), &**r))
            .collect();
        near.sort_by_key(|(failing, r)| {
            let fields: Vec<usize> = failing.iter().map(|f| f.id as usize).collect();
            (fields.len(), core::cmp::Reverse(r.priority), fields)
        });
        for (failing, r) in near.iter().take(MAX_NEAR) {
            let failed: Vec<String> = failing.iter().map(|f| failed(f, r, &l.key, br)).collect();
            let why = match failed.is_empty() {
                true => "matches too, and has a lower priority".to_string(),
                false => failed.join("; "),
            };
            let _ = writeln!(out, "    not {}: {why}", rule_text(r, br));
        }
    }

    /// What becomes of the packet in the end.
    fn tell_end(
        &self,
        ends: &mut Vec<String>,
        key: &FlowKey,
        x: &XlateOut,
        trace: &Trace,
        forked: bool,
    ) {
        let Some(br) = x.bridge.and_then(|b| self.bridge(b)) else { return };
        let mut list = Vec::new();
        self.list_ends(&x.actions, &mut list);
        if !list.is_empty() {
            let changed = changes(key, &x.final_key, br);
            let changed = match changed.is_empty() {
                true => String::new(),
                false => format!(", with {}", changed.join(", ")),
            };
            ends.push(format!("It goes {}{changed}.", list.join(", and ")));
            return;
        }
        match x.drop {
            Some(DropReason::Pipeline) | None if forked => {}
            Some(DropReason::Pipeline) | None => {
                let last = trace.lookups.last();
                let by = match last {
                    Some(Lookup { drop_frags: true, .. }) => "fragments are dropped".to_string(),
                    Some(Lookup { rule: Some(r), table, .. }) if r.actions.is_empty() => {
                        format!("the rule {} of table {} says so", rule_text(r, br), table.0)
                    }
                    Some(Lookup { rule: Some(r), table, .. }) => format!(
                        "nothing that the rule {} of table {} does sends it anywhere (a packet is not \
                         sent back to the port it came from)",
                        rule_text(r, br),
                        table.0
                    ),
                    Some(Lookup { table, .. }) => format!("no rule of table {} matches", table.0),
                    None => "there is nothing to do".to_string(),
                };
                ends.push(format!("It is dropped: {by}."));
            }
            Some(reason) => ends.push(format!("It is dropped: {}", reason.doc())),
        }
    }

    /// Where datapath actions send a packet.
    fn list_ends(&self, actions: &[DpAction], list: &mut Vec<String>) {
        for a in actions {
            match a {
                DpAction::Output(dp) => list.push(match self.port_of_dp(*dp) {
                    Some((b, port)) => {
                        let name = self.port_name(*dp).unwrap_or_default();
                        let bridge = self.bridge(b).map_or("", |b| &b.name);
                        format!("out of port {port} ({name}) of {bridge}")
                    }
                    None => format!("out of datapath port {}", dp.0),
                }),
                DpAction::Userspace(cookie)
                    if matches!(**cookie, UserspaceCookie::Controller(_)) =>
                {
                    list.push("to the controllers".to_string());
                }
                DpAction::Clone(nested) => self.list_ends(nested, list),
                _ => {}
            }
        }
    }
}

/// `"priority=100,ip"`.
fn rule_text(r: &Rule, br: &Bridge) -> String {
    let m = r.match_.expand();
    let text = MatchText { m: &m, priority: None, names: br }.to_string();
    let comma = if text.is_empty() { "" } else { "," };
    format!("\"priority={}{comma}{text}\"", r.priority)
}

fn state_text(state: u8) -> String {
    let names: Vec<&str> =
        flow::CT_STATE_FLAGS.iter().filter(|f| state & f.1 != 0).map(|f| f.0).collect();
    if names.is_empty() { "untracked".to_string() } else { names.join("|") }
}

/// Which fields keep a rule from matching. Those of another kind of packet do not count once the kind
/// is wrong.
fn failing(r: &Rule, key: &FlowKey) -> Vec<&'static Field> {
    let m = r.match_.expand();
    let mut rest = m.mask;
    for ((w, k), v) in rest.words_mut().iter_mut().zip(key.words()).zip(m.key.words()) {
        *w &= k ^ v;
    }
    let mut failed = Vec::new();
    for f in &FIELDS {
        if f.get(&rest) == 0 || f.prereq != Prereq::None && !f.prereq.holds(&m.key.pkt) {
            continue;
        }
        // A tag is told by its parts, unless the rule asks for all of it.
        if f.id == FieldId::VlanTci && f.get(&m.mask) != f.all_ones() {
            continue;
        }
        failed.push(f);
        f.set(&mut rest, 0);
        if matches!(f.id, FieldId::EthType | FieldId::IpProto) {
            break;
        }
    }
    failed
}

/// What a rule wants of a field, and what the packet has.
fn failed(f: &'static Field, r: &Rule, key: &FlowKey, br: &Bridge) -> String {
    let m = r.match_.expand();
    let has = match f.id {
        FieldId::CtState => state_text(key.pkt.ct_state),
        _ if f.prereq != Prereq::None && !f.prereq.holds(&key.pkt) => "none".to_string(),
        _ => value::to_text(f, f.get(key), f.all_ones(), br),
    };
    let wants = value::to_text(f, f.get(&m.key), f.get(&m.mask), br);
    format!("wants {}={wants}, the packet has {has}", f.name)
}

/// Fields that the packet leaves with another value than it came with.
fn changes(before: &FlowKey, after: &FlowKey, br: &Bridge) -> Vec<String> {
    let mut rest = FlowKey { pkt: after.pkt, ..FlowKey::ZERO };
    for (w, k) in rest.pkt.words_mut().iter_mut().zip(before.pkt.words()) {
        *w ^= k;
    }
    let mut changed = Vec::new();
    // What the tracker said is gone by then.
    for f in FIELDS.iter().filter(|f| f.writable && !f.name.starts_with("ct_")) {
        if f.get(&rest) == 0 || f.prereq != Prereq::None && !f.prereq.holds(&after.pkt) {
            continue;
        }
        changed.push(format!("{}={}", f.name, value::to_text(f, f.get(after), f.all_ones(), br)));
        f.set(&mut rest, 0);
    }
    changed
}
