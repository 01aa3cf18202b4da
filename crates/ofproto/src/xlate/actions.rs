//! The loop over actions, and what moves through tables.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base::{OfPort, TableId};
use dpif::{DpAction, DropReason, SlowReason};
use flow::VLAN_PRESENT;
use openflow::action::{Action, ControllerAction, PacketInReason};
use packet::header::ethertype;

use super::mpls::acts_without_l3;
use super::{Ctx, MAX_DEPTH, MAX_DP_ACTIONS, MAX_RESUBMITS, MAX_STACK};
use crate::recirc::StackValue;
use crate::table::INTERNAL_TABLE;
use crate::trace::{NodeKind, action_text};

/// Nested calls of one translation; a bound on this thread's stack. Forward jumps are bounded by
/// the number of tables, others by [`MAX_DEPTH`].
const MAX_NESTING: usize = 512;

impl Ctx<'_> {
    /// Does what a list of actions says. `last`: nothing comes after it for this packet.
    pub(super) fn actions(&mut self, actions: &[Action], last: bool) {
        if actions.is_empty() {
            self.report(NodeKind::Action, || "drop".into());
            return;
        }
        for (i, a) in actions.iter().enumerate() {
            if self.error.is_some() {
                return;
            }
            if !self.exit && self.was_mpls && !acts_without_l3(a) {
                self.trigger_freeze();
            }
            if self.exit {
                self.freeze_rest(&actions[i..]);
                return;
            }
            let version = self.version;
            let ports = self.port_names();
            self.report(NodeKind::Action, || action_text(a, ports, version));
            self.note_change(a);
            let rest = &actions[i + 1..];
            let last = last && rest.is_empty() && self.action_set.is_empty();
            match self.action(a, rest, last) {
                Then::Next => {
                    // It waits itself, unless what waits is within a table that it went to.
                    let enters = matches!(a, Action::Resubmit { .. } | Action::GotoTable(_));
                    if self.exit && !enters && self.freezes_first() {
                        self.freeze_rest(&actions[i..]);
                        return;
                    }
                }
                Then::Freeze => {
                    self.trigger_freeze();
                    self.freeze_rest(rest);
                    return;
                }
                Then::Leave => return,
            }
        }
    }

    /// One action. `rest` is what comes behind it in its list.
    fn action(&mut self, a: &Action, rest: &[Action], last: bool) -> Then {
        match a {
            Action::Output { port, max_len } => self.output(*port, *max_len, last),
            Action::OutputReg { src, max_len } => {
                self.look_at(*src);
                let v = src.get(&self.flow);
                let port = if src.n_bits > 16 {
                    u32::try_from(v).ok().and_then(OfPort::from_wire32)
                } else {
                    Some(OfPort(v as u16))
                };
                match port {
                    Some(port) => {
                        self.report(NodeKind::Detail, || format!("output port is {port}"));
                        self.output(port, *max_len, last);
                    }
                    None => self
                        .report(NodeKind::Warn, || format!("output port {v:#x} is out of range")),
                }
            }
            Action::OutputTrunc { port, max_len } => self.output_trunc(*port, *max_len, last),
            Action::Enqueue { port, queue } => self.enqueue(*port, *queue, last),
            Action::Controller(c) if c.pause => {
                self.pause(c);
                return Then::Freeze;
            }
            Action::Controller(c) => self.controller(c),

            Action::SetVlanVid { vid, push } => self.set_vlan(vid & 0xfff, 0xfff, *push),
            Action::SetVlanPcp { pcp, push } => {
                self.set_vlan(u16::from(pcp & 7) << 13, 0xe000, *push);
            }
            Action::StripVlan => self.pop_vlan(),
            Action::PushVlan(tpid) => self.push_vlan(*tpid),
            Action::SetField { field, value, mask } => self.set_field(*field, *value, *mask),
            Action::SetTunOption { index, option } => {
                self.flow.tun_metadata.set_masked((*index).into(), option);
            }
            Action::Load { dst, value } => self.set_part(*dst, *value),
            Action::Move { src, dst } => {
                src.parts().zip(dst.parts()).for_each(|(s, d)| self.move_field(s, d));
            }
            Action::StackPush(src) => {
                self.look_at(*src);
                self.stack.push((src.get(&self.flow), src.n_bits));
            }
            Action::StackPop(dst) => match self.stack.pop() {
                Some((value, _)) => self.pop_into(*dst, value),
                None => self.report(NodeKind::Error, || "stack underflow".into()),
            },
            Action::DecTtl(ids) if !self.dec_ttl(ids) => return Then::Leave,
            Action::DecTtl(_) => {}
            Action::SetEthSrc(_)
            | Action::SetEthDst(_)
            | Action::SetIpv4Src(_)
            | Action::SetIpv4Dst(_)
            | Action::SetNwTos(_)
            | Action::SetNwEcn(_)
            | Action::SetNwTtl(_)
            | Action::SetL4Src(_)
            | Action::SetL4Dst(_) => self.set_header(a),
            Action::SetTunnel { id, .. } => self.flow.pkt.tunnel.tun_id = *id,
            Action::SetQueue(queue) => self.set_priority(*queue),
            Action::PopQueue => {
                let priority = self.orig_priority;
                if self.flow.pkt.skb_priority != priority {
                    self.report(NodeKind::Detail, || {
                        let mut text = "queue = ".into();
                        let _ = flow::text::value::hex(&mut text, priority.into());
                        text
                    });
                }
                self.set_priority(priority);
            }
            Action::CheckPktLarger { len, dst } if !self.check_pkt_larger(*len, *dst, rest) => {
                return Then::Leave;
            }
            Action::CheckPktLarger { .. } => {}
            Action::DeleteField(field) => self.delete_field(*field),

            Action::Resubmit { port, table, with_ct } => {
                let in_port = match port {
                    None | Some(OfPort::IN_PORT) => self.in_port(),
                    Some(p) => *p,
                };
                let table = table.filter(|t| *t != TableId::ALL).unwrap_or(self.table);
                self.enter_table(Entry { in_port, with_ct: *with_ct, last, ..Entry::of(table) });
            }
            Action::GotoTable(t) => {
                let in_port = self.in_port();
                self.enter_table(Entry { in_port, may_miss: true, last, ..Entry::of(*t) });
            }
            Action::Ct(ct) => self.ct(ct),
            Action::CtClear => {
                if self.conntracked {
                    self.clear_ct_fields();
                    self.conntracked = false;
                    self.out.push(DpAction::CtClear);
                }
            }
            Action::Clone(nested) => self.clone_actions(nested, last),
            Action::Exit => self.exit = true,
            Action::Note(_) => {}
            Action::Encap(e) => self.encap(e),
            Action::Decap(new_type) if self.decap(*new_type) => return Then::Freeze,
            Action::Decap(_) => {}
            Action::DecNshTtl if !self.dec_nsh_ttl() => return Then::Leave,
            Action::DecNshTtl => {}
            Action::Learn(l) => self.learn(l),
            Action::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard),
            // There is nobody to sample for unless an exporter is configured.
            Action::Sample(_) => {}
            Action::Multipath(m) => self.multipath(m),
            Action::Bundle(b) => self.bundle(b, last),
            Action::DebugRecirc => return Then::Freeze,
            Action::DebugSlow => self.slow = Some(SlowReason::Action),
            Action::UnrollXlate { table, cookie } => {
                (self.table, self.rule_cookie) = (*table, *cookie);
                self.report(NodeKind::Thaw, || {
                    let prefix = if *cookie == 0 { "" } else { "0x" };
                    format!("restored state: table={}, cookie={prefix}{cookie:x}", table.0)
                });
            }
            Action::SetMplsLabel(label) => self.set_mpls_label(*label),
            Action::SetMplsTc(tc) => self.set_mpls_tc(*tc),
            Action::SetMplsTtl(ttl) => self.set_mpls_ttl(*ttl),
            Action::DecMplsTtl if !self.dec_mpls_ttl() => return Then::Leave,
            Action::DecMplsTtl => {}
            Action::PushMpls(ethertype) => self.push_mpls(*ethertype),
            Action::PopMpls(ethertype) => self.pop_mpls(*ethertype),
            Action::ClearActions => {
                self.report_action_set("was");
                self.action_set.clear();
                self.note_set_output();
            }
            Action::WriteActions(set) => {
                for a in set {
                    self.write_action(a);
                }
                self.report_action_set("is");
            }
            Action::WriteMetadata { value, mask } => {
                self.flow.metadata = (self.flow.metadata & !mask) | (value & mask);
            }
            // Flows that have one are never executed, but a packet-out may.
            Action::Conjunction { .. } => {
                self.report(NodeKind::Error, || "executing no-op conjunction action".into());
            }
            Action::Group(id) if !self.group(*id, last) => return Then::Leave,
            Action::Group(_) => {}
            // What the datapath has no number for was refused when the flow was added, or went with
            // its meter.
            Action::Meter(id) => {
                if let Some(m) = self.br.tables.meters.get(*id) {
                    self.out.push(DpAction::Meter(m.number));
                }
            }
            // Refused when the flow was added.
            Action::Nat(_) => {
                self.report(NodeKind::Warn, || "action is not supported, ignored".into());
            }
        }
        Then::Next
    }

    /// Ends the translation: the packet is dropped.
    pub(super) fn fail(&mut self, reason: DropReason, text: &str) {
        self.report(NodeKind::Error, || text.into());
        self.error = Some(reason);
    }

    /// Whether there may be one more resubmit.
    pub(super) fn may_resubmit(&mut self) -> bool {
        if self.depth >= MAX_DEPTH || self.nesting >= MAX_NESTING {
            self.fail(DropReason::RecursionTooDeep, "over max translation depth 64");
        } else if self.resubmits >= MAX_RESUBMITS {
            self.fail(DropReason::TooManyResubmits, "over 4096 resubmit actions");
        } else if self.out.len() > MAX_DP_ACTIONS {
            self.report(NodeKind::Error, || "resubmits yielded over 64 kB of actions".into());
            self.exit = true;
        } else if self.stack.iter().map(stack_bytes).sum::<usize>() >= MAX_STACK {
            self.fail(DropReason::StackTooDeep, "resubmits yielded over 64 kB of stack");
        } else {
            return true;
        }
        false
    }

    /// Goes on in another table and comes back.
    pub(super) fn enter_table(&mut self, entry: Entry) {
        let Entry { in_port, table, may_miss, with_ct, last, clone } = entry;
        if self.was_mpls {
            return self.trigger_freeze();
        }
        if table >= INTERNAL_TABLE || !self.may_resubmit() {
            return;
        }
        if with_ct {
            if self.flow.pkt.ct_nw_proto == 0 || !flow::field::Prereq::Ip.holds(&self.flow.pkt) {
                self.report(NodeKind::Error, || {
                    "resubmit(ct) with non-tracked or non-IP packet!".into()
                });
                return;
            }
            self.swap_ct_tuple();
        }
        let old_table = core::mem::replace(&mut self.table, table);
        let (found_in, found) = self.lookup(table, in_port, may_miss);
        self.table = found_in;
        if with_ct {
            self.swap_ct_tuple();
        }
        let deepens = table <= old_table;
        self.depth += usize::from(deepens);
        self.nesting += 1;
        self.resubmits += 1;
        let place = self.report_table(table, &found);
        self.process(found, last, clone);
        self.report_leave(place);
        self.nesting -= 1;
        self.depth -= usize::from(deepens);
        self.table = old_table;
    }

    fn dec_ttl(&mut self, ids: &[u16]) -> bool {
        let v6 = match self.flow.pkt.dl_type {
            ethertype::IPV4 => false,
            ethertype::IPV6 => true,
            _ => return true,
        };
        (self.wc.pkt.nw_ttl, self.wc.pkt.nw_proto) = (0xff, 0xff);
        if self.flow.pkt.nw_ttl > 1 {
            self.flow.pkt.nw_ttl -= 1;
            return true;
        }
        let ids: &[u16] = if ids.is_empty() { &[0] } else { ids };
        for &controller_id in ids {
            self.ttl_exception(controller_id);
        }
        self.report(NodeKind::Warn, || {
            format!("IPv{} decrement TTL exception", if v6 { 6 } else { 4 })
        });
        false
    }

    /// Sets bits of the outermost TCI.
    fn set_vlan(&mut self, tci: u16, mask: u16, push: bool) {
        self.wc.pkt.vlans[0].tci |= mask | VLAN_PRESENT;
        let tag = &mut self.flow.pkt.vlans[0];
        if tag.tci & VLAN_PRESENT != 0 || push {
            if tag.tpid == 0 {
                tag.tpid = ethertype::VLAN;
            }
            tag.tci = (tag.tci & !mask) | tci | VLAN_PRESENT;
        }
    }

    fn push_vlan(&mut self, tpid: u16) {
        let n = self.n_vlans();
        // What is there moves inwards, and may have to be written anew.
        for m in &mut self.wc.pkt.vlans[..n] {
            (m.tpid, m.tci) = (0xffff, 0xffff);
        }
        let v = &mut self.flow.pkt.vlans;
        v[1] = v[0];
        v[0] = flow::VlanTag { tpid, tci: VLAN_PRESENT };
    }

    fn pop_vlan(&mut self) {
        let n = self.n_vlans();
        let v = &mut self.flow.pkt.vlans;
        if n > 1 {
            self.wc.pkt.vlans[1] = flow::VlanTag { tpid: 0xffff, tci: 0xffff };
            v[0] = v[1];
        }
        if n > 0 {
            v[n - 1] = flow::VlanTag::default();
        }
    }

    fn n_vlans(&self) -> usize {
        self.flow.pkt.vlans.iter().take_while(|t| t.tci & VLAN_PRESENT != 0).count()
    }

    /// Adds an action to the action set: sets of fields add up, others replace their kind.
    pub(super) fn write_action(&mut self, a: &Action) {
        let kind = set_order(a);
        if kind != SET_FIELDS {
            self.action_set.retain(|b| set_order(b) != kind);
        }
        self.action_set.push(a.clone());
        self.set_version = self.version;
        self.note_set_output();
    }

    /// Tells `actset_output` what the action set outputs to; a group hides it.
    fn note_set_output(&mut self) {
        let output = |a: &Action| match a {
            Action::Output { port, .. } => Some(*port),
            _ => None,
        };
        let set = &self.action_set;
        let has_group = set.iter().any(|a| matches!(a, Action::Group(_)));
        let port = set.iter().rev().find_map(output).filter(|_| !has_group);
        self.flow.actset_output = u32::from(port.unwrap_or(OfPort::UNSET).0);
    }

    fn report_action_set(&mut self, verb: &str) {
        if self.trace.is_some() {
            let (set, ports) = (ordered(&self.action_set), self.port_names());
            let text: Vec<_> = set.iter().map(|a| action_text(a, ports, self.version)).collect();
            self.report(NodeKind::Detail, || match text.is_empty() {
                true => format!("action set {verb} empty"),
                false => format!("action set {verb}: {}", text.join(",")),
            });
        }
    }

    /// Does what the action set says and empties it.
    pub(super) fn execute_action_set(&mut self) {
        if self.action_set.is_empty() || self.error.is_some() {
            return;
        }
        let set = ordered(&self.action_set);
        self.action_set.clear();
        if !set.is_empty() {
            self.in_action_set = true;
            let version = core::mem::replace(&mut self.version, self.set_version);
            let place = self.report_enter(NodeKind::Table, || "--. Executing action set:".into());
            self.actions(&set, true);
            self.report_leave(place);
            self.in_action_set = false;
            self.version = version;
        }
    }

    /// Reports a value that an action gave a field.
    pub(super) fn report_subfield(&mut self, sf: openflow::Subfield) {
        let value = sf.get(&self.flow);
        self.report(NodeKind::Detail, || crate::trace::subfield_line(sf, value));
    }
}

/// How to go on in another table.
#[derive(Copy, Clone)]
pub(super) struct Entry {
    /// Looks the table up with this input port.
    pub(super) in_port: OfPort,
    pub(super) table: TableId,
    /// A miss may go to controllers.
    pub(super) may_miss: bool,
    /// Looks up the tuple of the connection's original direction.
    pub(super) with_ct: bool,
    /// Nothing comes after it for this packet.
    pub(super) last: bool,
    /// What is found there is done to a copy of the packet.
    pub(super) clone: bool,
}

impl Entry {
    pub(super) fn of(table: TableId) -> Entry {
        let in_port = OfPort::NONE;
        Entry { in_port, table, may_miss: false, with_ct: false, last: false, clone: false }
    }
}

/// What comes behind an action.
enum Then {
    /// The next of its list.
    Next,
    /// The next of its list, when the packet has been through the datapath.
    Freeze,
    /// Nothing: its list ends here.
    Leave,
}

/// Bytes that a value takes on the stack, as its limit counts them.
fn stack_bytes((_, n_bits): &StackValue) -> usize {
    usize::from(n_bits.div_ceil(8)) + 1
}

/// Sets of fields, which add up in the order they were written.
const SET_FIELDS: u8 = 10;

/// Place of an action in the order in which an action set is done, from 1; 0 is not done at all. Of
/// those behind [`SET_FIELDS`] only the one with the highest number is done.
fn set_order(a: &Action) -> u8 {
    match a {
        Action::StripVlan => 1,
        Action::PopMpls(_) => 2,
        Action::Decap(_) => 3,
        Action::Encap(_) => 4,
        Action::PushMpls(_) => 5,
        Action::PushVlan(_) => 6,
        Action::DecTtl(_) => 7,
        Action::DecMplsTtl => 8,
        Action::DecNshTtl => 9,
        Action::Ct(_) => 11,
        Action::CtClear => 12,
        Action::Resubmit { .. } => 13,
        Action::Output { .. } => 14,
        Action::Group(_) => 15,
        _ if a.fits_action_set() => SET_FIELDS,
        _ => 0,
    }
}

/// An action set as it is done (OpenFlow 1.5.1 §5.6): in order, the last of each kind, with one way
/// out of the pipeline. Without any, nothing is done.
pub(super) fn ordered(set: &[Action]) -> Vec<Action> {
    let ways = set.iter().map(set_order).filter(|o| *o > SET_FIELDS);
    let Some(way) = ways.max() else { return Vec::new() };
    let is_last = |(i, a): &(usize, &Action)| {
        let kind = set_order(a);
        kind == SET_FIELDS || !set[i + 1..].iter().any(|b| set_order(b) == kind)
    };
    let chosen = |a: &&Action| (1..=SET_FIELDS).contains(&set_order(a)) || set_order(a) == way;
    let last = set.iter().enumerate().filter(is_last).map(|(_, a)| a);
    let mut set: Vec<Action> = last.filter(chosen).cloned().collect();
    set.sort_by_key(set_order);
    set
}

/// A `controller` action of an output to the reserved port.
pub(super) fn plain_controller(max_len: u16, reason: PacketInReason) -> Box<ControllerAction> {
    Box::new(ControllerAction { max_len, reason, ..ControllerAction::default() })
}
