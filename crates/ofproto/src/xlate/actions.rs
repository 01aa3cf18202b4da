//! The loop over actions, and what moves through tables.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use base::{OfPort, TableId};
use dpif::{DpAction, DropReason};
use flow::VLAN_PRESENT;
use openflow::action::{Action, ControllerAction, PacketInReason};
use packet::header::ethertype;

use super::{Ctx, MAX_DEPTH, MAX_DP_ACTIONS, MAX_RESUBMITS, MAX_STACK};
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
            if self.error.is_some() || self.exit {
                return;
            }
            let version = self.version;
            self.report(NodeKind::Action, || action_text(a, version));
            let last = last && i + 1 == actions.len() && self.action_set.is_empty();
            if !self.action(a, last) {
                return;
            }
        }
    }

    /// One action. `false` ends the list.
    fn action(&mut self, a: &Action, last: bool) -> bool {
        match a {
            Action::Output { port, max_len } => self.output(*port, *max_len),
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
                        self.output(port, *max_len);
                    }
                    None => self
                        .report(NodeKind::Warn, || format!("output port {v:#x} is out of range")),
                }
            }
            Action::OutputTrunc { port, max_len } => self.output_trunc(*port, *max_len),
            Action::Enqueue { port, .. } => self.output(*port, 0),
            Action::Controller(c) => self.controller(c),

            Action::SetVlanVid { vid, push } => self.set_vlan(vid & 0xfff, 0xfff, *push),
            Action::SetVlanPcp { pcp, push } => {
                self.set_vlan(u16::from(pcp & 7) << 13, 0xe000, *push);
            }
            Action::StripVlan => self.pop_vlan(),
            Action::PushVlan(tpid) => self.push_vlan(*tpid),
            Action::SetField { field, value, mask } => self.set_field(*field, *value, *mask),
            Action::Load { dst, value } => {
                self.set_field(dst.field, (value & dst.max()) << dst.ofs, dst.mask());
            }
            Action::Move { src, dst } => self.move_field(*src, *dst),
            Action::StackPush(src) => {
                if self.stack.len() >= MAX_STACK {
                    self.fail(DropReason::StackTooDeep, "resubmits yielded over 64 kB of stack");
                    return false;
                }
                self.look_at(*src);
                self.stack.push((src.get(&self.flow), src.n_bits));
            }
            Action::StackPop(dst) => match self.stack.pop() {
                Some((value, _)) => self.pop_into(*dst, value),
                None => self.report(NodeKind::Error, || "stack underflow".into()),
            },
            Action::DecTtl(ids) => return self.dec_ttl(ids),
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
            // Queues and their priorities are the daemon's to configure; there are none yet.
            Action::SetQueue(_) | Action::PopQueue => {}
            Action::CheckPktLarger { .. } | Action::DeleteField(_) => {}

            Action::Resubmit { port, table, with_ct } => {
                let in_port = match port {
                    None | Some(OfPort::IN_PORT) => self.in_port(),
                    Some(p) => *p,
                };
                let table = table.filter(|t| *t != TableId::ALL).unwrap_or(self.table);
                self.enter_table(in_port, table, false, *with_ct);
            }
            Action::GotoTable(t) => self.enter_table(self.in_port(), *t, true, false),
            Action::Ct(ct) => self.ct(ct),
            Action::CtClear => {
                if self.conntracked {
                    self.commit();
                    self.clear_ct_fields();
                    self.conntracked = false;
                    self.out.push(DpAction::CtClear);
                }
            }
            Action::Clone(nested) => self.clone_actions(nested, last),
            Action::Exit => self.exit = true,
            Action::Note(_) => {}
            Action::ClearActions => {
                self.report_action_set("was");
                self.action_set.clear();
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
            // Refused when the flow was added.
            Action::Group(_)
            | Action::Bundle(_)
            | Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::Encap(_)
            | Action::Decap(_)
            | Action::DecNshTtl
            | Action::Nat(_)
            | Action::Learn(_)
            | Action::Conjunction { .. }
            | Action::Multipath(_)
            | Action::Sample(_)
            | Action::FinTimeout { .. }
            | Action::DebugRecirc
            | Action::DebugSlow
            | Action::UnrollXlate { .. }
            | Action::Meter(_) => {
                self.report(NodeKind::Warn, || "action is not supported, ignored".into());
            }
        }
        true
    }

    /// Ends the translation: the packet is dropped.
    pub(super) fn fail(&mut self, reason: DropReason, text: &str) {
        self.report(NodeKind::Error, || text.into());
        self.error = Some(reason);
    }

    /// Whether there may be one more resubmit.
    fn may_resubmit(&mut self) -> bool {
        if self.depth >= MAX_DEPTH || self.nesting >= MAX_NESTING {
            self.fail(DropReason::RecursionTooDeep, "over max translation depth 64");
        } else if self.resubmits >= MAX_RESUBMITS {
            self.fail(DropReason::TooManyResubmits, "over 4096 resubmit actions");
        } else if self.out.len() > MAX_DP_ACTIONS {
            self.fail(DropReason::TooManyResubmits, "resubmits yielded over 64 kB of actions");
        } else {
            return true;
        }
        false
    }

    /// Goes on in `table` and comes back.
    pub(super) fn enter_table(
        &mut self,
        in_port: OfPort,
        table: TableId,
        may_miss: bool,
        with_ct: bool,
    ) {
        if table >= INTERNAL_TABLE || !self.may_resubmit() {
            return;
        }
        if with_ct {
            if self.flow.pkt.ct_nw_proto == 0 {
                self.report(NodeKind::Error, || {
                    "resubmit(ct) with non-tracked or non-IP packet!".into()
                });
                return;
            }
            self.swap_ct_tuple();
        }
        let old_table = core::mem::replace(&mut self.table, table);
        let (_, found) = self.lookup(table, in_port, may_miss);
        if with_ct {
            self.swap_ct_tuple();
        }
        let deepens = table <= old_table;
        self.depth += usize::from(deepens);
        self.nesting += 1;
        self.resubmits += 1;
        let place = self.report_table(table, &found);
        self.process(found);
        self.report_leave(place);
        self.nesting -= 1;
        self.depth -= usize::from(deepens);
        self.table = old_table;
    }

    /// `clone`: what the nested actions do to the packet is undone behind them.
    fn clone_actions(&mut self, nested: &[Action], last: bool) {
        let reversible = nested
            .iter()
            .all(|a| !matches!(a, Action::Ct(_) | Action::OutputTrunc { .. } | Action::Meter(_)));
        let in_place = reversible || last;
        if !in_place {
            self.commit();
        }
        let (flow, base) = (self.flow, self.base);
        let (stack, set) = (self.stack.clone(), core::mem::take(&mut self.action_set));
        let (exit, conntracked) = (self.exit, self.conntracked);
        let out = if in_place { None } else { Some(core::mem::take(&mut self.out)) };
        self.actions(nested, last);
        self.execute_action_set();
        if let Some(mut out) = out {
            let cloned = core::mem::take(&mut self.out);
            if !cloned.is_empty() {
                out.push(DpAction::Clone(cloned.into_boxed_slice()));
            }
            self.out = out;
            self.base = base;
        }
        // Actions in place have changed the packet itself; what differs is committed back when it
        // matters.
        self.flow = flow;
        (self.stack, self.action_set) = (stack, set);
        (self.exit, self.conntracked) = (exit, conntracked);
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
            self.controller(&ControllerAction {
                controller_id,
                reason: PacketInReason::InvalidTtl,
                ..ControllerAction::default()
            });
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
        for m in &mut self.wc.pkt.vlans[n.min(2)..] {
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
    fn write_action(&mut self, a: &Action) {
        let kind = set_order(a);
        if kind != SET_FIELDS {
            self.action_set.retain(|b| set_order(b) != kind);
        }
        self.action_set.push(a.clone());
        self.set_version = self.version;
    }

    /// The action set as it is done (OpenFlow 1.5.1 §5.6): in order, with one way out of the
    /// pipeline. Without any, nothing is done.
    fn ordered_action_set(&self) -> Vec<Action> {
        let ways = self.action_set.iter().map(set_order).filter(|o| *o > SET_QUEUE);
        let Some(way) = ways.max() else { return Vec::new() };
        let chosen = |a: &&Action| set_order(a) <= SET_QUEUE || set_order(a) == way;
        let mut set: Vec<Action> = self.action_set.iter().filter(chosen).cloned().collect();
        set.sort_by_key(set_order);
        set
    }

    fn report_action_set(&mut self, verb: &str) {
        if self.is_trace() {
            let set = self.ordered_action_set();
            let text: Vec<_> = set.iter().map(|a| action_text(a, self.version)).collect();
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
        let set = self.ordered_action_set();
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

const SET_FIELDS: u8 = 9;
const SET_QUEUE: u8 = 10;

/// Place of an action in the order in which an action set is done. Of those behind
/// [`SET_QUEUE`] only the one with the highest number is done.
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
        Action::SetQueue(_) => SET_QUEUE,
        Action::Ct(_) => 11,
        Action::Resubmit { .. } => 12,
        Action::Output { .. } | Action::Controller(_) | Action::OutputReg { .. } => 13,
        Action::Group(_) => 14,
        _ => SET_FIELDS,
    }
}

/// A `controller` action of an output to the reserved port.
pub(super) fn plain_controller(max_len: u16, reason: PacketInReason) -> Box<ControllerAction> {
    Box::new(ControllerAction { max_len, reason, ..ControllerAction::default() })
}
