//! Translation: from a packet's key, through the flow tables, to datapath actions and to the bits
//! of the key that decided them.
//!
//! [`Switch::xlate`] runs the pipeline on a copy of the key. Setting a field changes the copy
//! only; what differs from the packet is *committed* as datapath actions before something can see
//! the packet ([`commit`]). Every bit that is looked at or set is marked in `wc`; at the end `wc`
//! is the mask of a megaflow: any packet that agrees on those bits would have been translated the same.
//!
//! Nothing outside changes: what must happen besides (learning an address, …) comes back as
//! [`Effect`]s, and the counters to credit as [`Credits`]. So any number of translations run at
//! once under a shared lock.
//!
//! Limits are Open vSwitch's (`ovs-actions(7)`, "resubmit"): depth 64, 4,096 resubmits. Beyond
//! them the packet is dropped with the reason.
//!
//! Topics: [`actions`] (the loop), [`nest`] (copies), [`freeze`] (what waits for the datapath),
//! [`set_field`], [`learn`], [`mpls`], [`encap`], [`commit`], [`output`] (ports), [`choose`] (by hash), [`normal`], [`mirror`], [`ct`], [`controller`].

mod actions;
mod choose;
mod commit;
mod controller;
mod ct;
mod encap;
mod freeze;
mod group;
mod learn;
mod mirror;
mod mpls;
mod nest;
mod normal;
mod output;
mod set_field;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{DpPort, Instant, OfPort, RecircId, TableId};
use dpif::{DpAction, DropReason, SlowReason};
use flow::text::{FlowText, NameMap, NoNames};
use flow::{FlowKey, PacketKey, TunnelKey, VLAN_PRESENT, VlanTag, nw_frag};
use openflow::action::{Action, PacketInReason};
use openflow::message::meter_id;
use openflow::version::Version;
use packet::header::{ethertype, ipproto};
use services::mac::Sighting;

use self::encap::Pending;
use self::freeze::Freezing;
pub use self::learn::Learned;
use self::learn::NewFlow;
use crate::bridge::{Bridge, BridgeId};
use crate::limits::TableMiss;
use crate::mirror::MirrorBits;
use crate::recirc::{Frozen, StackValue};
use crate::rule::{Credits, Rule};
use crate::switch::Switch;
use crate::table::INTERNAL_TABLE;
use crate::trace::{Lookup, NodeKind, Trace};

/// Deepest nesting of resubmits backwards or to the same table.
pub const MAX_DEPTH: usize = 64;
/// Most resubmits of one translation.
pub const MAX_RESUBMITS: usize = 4096;
/// Most datapath actions that one translation may make: 64 kB of them as OVS counts.
const MAX_DP_ACTIONS: usize = 8191;
/// Most bytes on the stack.
const MAX_STACK: usize = 65536;

/// Something that a packet's passage makes happen besides.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A bridge learns an address ([`Bridge::learn_mac`]).
    LearnMac(BridgeId, Sighting),
    /// A bridge learns a flow.
    Learn(Box<Learned>),
}

impl Effect {
    /// Whether it would change anything.
    pub fn is_news(&self, sw: &Switch, now: Instant) -> bool {
        match self {
            Effect::LearnMac(bridge, sighting) => {
                sw.bridge(*bridge).is_some_and(|b| b.mac().would_change(sighting, now))
            }
            Effect::Learn(l) => sw
                .bridge(l.bridge)
                .is_some_and(|b| b.tables.learned(l).is_none() && b.tables.may_learn(l, 0)),
        }
    }
}

impl Effect {
    /// Does what needs no lock of one that is no news.
    pub fn refresh(&self, sw: &Switch, now: Instant) {
        if let Effect::Learn(l) = self
            && let Some(b) = sw.bridge(l.bridge)
            && let Some(rule) = b.tables.learned(l)
        {
            rule.stats.learn_again(now);
        }
    }
}

impl Switch {
    /// Does what a translation says is to happen besides.
    pub fn apply(&mut self, now: Instant, effects: &[Effect]) {
        for e in effects {
            match e {
                Effect::LearnMac(bridge, sighting) => {
                    if let Some(b) = self.bridge_mut(*bridge) {
                        b.learn_mac(sighting, now);
                    }
                }
                Effect::Learn(l) => {
                    if let Some(b) = self.bridge_mut(l.bridge) {
                        b.learn_flow(l, now);
                    }
                }
            }
        }
    }
}

/// A translation.
#[derive(Debug, Default)]
pub struct XlateOut {
    /// What the datapath does with the packet; empty to drop it because the pipeline says so.
    pub actions: Vec<DpAction>,
    /// Bits of the packet's key that decided it, the datapath's own requirements included.
    pub mask: PacketKey,
    /// The same without what only the datapath requires: what `ofproto/trace` shows. That of a failed
    /// translation has what was looked at of the pipeline, too.
    pub shown_mask: FlowKey,
    /// What counts the packet.
    pub credits: Credits,
    /// What else is to happen, for each packet that is translated.
    pub effects: Vec<Effect>,
    /// What is wrong with the tables, in sentences for a log.
    pub errors: Vec<String>,
    /// Why each packet like this one is to be translated by itself, if it is.
    pub slow: Option<SlowReason>,
    /// The datapath's number of the meter that packets pass on their way to the slow path.
    pub slow_meter: Option<u32>,
    /// Why the packet is dropped, if it is.
    pub drop: Option<DropReason>,
    /// The bridge that the packet entered.
    pub bridge: Option<BridgeId>,
    /// The pipeline's key at the end.
    pub final_key: FlowKey,
}

impl Switch {
    /// Translates a packet. The `in_port` of `key` is a datapath port. With `trace`, tells what
    /// happens; nothing is learned then and controllers get nothing.
    pub fn xlate(&self, now: Instant, key: &PacketKey, trace: Option<&mut Trace>) -> XlateOut {
        self.xlate_of_len(now, key, None, trace)
    }

    fn xlate_of_len(
        &self,
        now: Instant,
        key: &PacketKey,
        len: Option<usize>,
        trace: Option<&mut Trace>,
    ) -> XlateOut {
        let mut flow = FlowKey::from(*key);
        let bridge = if key.recirc_id == 0 {
            let Some((id, ofport)) = self.port_of_dp(DpPort(key.in_port)) else {
                return XlateOut::dropped(key, DropReason::BridgeNotFound);
            };
            flow.pkt.in_port = u32::from(ofport.0);
            id
        } else {
            BridgeId(0) // the frozen state knows it
        };
        let mut out = self.xlate_on_of_len(now, bridge, &flow, len, trace);
        // The datapath matches its own port number: the mask is all ones either way.
        out.mask.in_port = u32::MAX;
        out
    }

    /// The same of a packet of `len` bytes, which nobody traces.
    pub fn xlate_packet(&self, now: Instant, key: &PacketKey, len: usize) -> XlateOut {
        self.xlate_of_len(now, key, Some(len), None)
    }

    /// Translates a packet on a bridge, or resumes it where its `recirc_id` says. The `in_port` of
    /// `flow` is an OpenFlow port.
    pub fn xlate_on(
        &self,
        now: Instant,
        bridge: BridgeId,
        flow: &FlowKey,
        trace: Option<&mut Trace>,
    ) -> XlateOut {
        self.xlate_on_of_len(now, bridge, flow, None, trace)
    }

    fn xlate_on_of_len(
        &self,
        now: Instant,
        bridge: BridgeId,
        flow: &FlowKey,
        len: Option<usize>,
        trace: Option<&mut Trace>,
    ) -> XlateOut {
        let key = &flow.pkt;
        let mut flow = *flow;
        flow.actset_output = u32::from(OfPort::UNSET.0);
        if key.recirc_id == 0 {
            let Some(br) = self.bridge(bridge) else {
                return XlateOut::dropped(key, DropReason::BridgeNotFound);
            };
            let mut ctx = Ctx::new(self, br, now, flow, trace);
            ctx.packet_len = len;
            ctx.enter_bridge();
            ctx.run(TableId(0));
            return ctx.finish(key);
        }
        let Some(frozen) = self.recircs.get(RecircId(key.recirc_id)) else {
            return XlateOut::dropped(key, DropReason::NoRecirculationContext);
        };
        let Some(br) = self.bridge(frozen.bridge) else {
            return XlateOut::dropped(key, DropReason::NoRecirculationContext);
        };
        self.xlate_frozen(now, br, frozen, flow, len, trace)
    }

    /// Goes on with a frozen pipeline.
    fn xlate_frozen(
        &self,
        now: Instant,
        br: &Bridge,
        frozen: Arc<Frozen>,
        mut flow: FlowKey,
        len: Option<usize>,
        trace: Option<&mut Trace>,
    ) -> XlateOut {
        let key = flow.pkt;
        frozen.thaw(&mut flow);
        let mut ctx = Ctx::new(self, br, now, flow, trace);
        ctx.packet_len = len;
        ctx.enter_bridge();
        ctx.thaw(&frozen);
        ctx.credits.frozen.push(frozen.clone());
        if frozen.actions.0.is_empty() {
            ctx.run(frozen.table);
        } else {
            ctx.run_actions(&frozen.actions.0);
        }
        ctx.finish(&key)
    }

    /// Translates the actions of a packet-out on a bridge. The `in_port` of `flow` is an OpenFlow
    /// port.
    pub fn xlate_packet_out(
        &self,
        now: Instant,
        bridge: BridgeId,
        flow: &FlowKey,
        actions: &[Action],
        trace: Option<&mut Trace>,
    ) -> XlateOut {
        let Some(br) = self.bridge(bridge) else {
            return XlateOut::dropped(&flow.pkt, DropReason::BridgeNotFound);
        };
        let is_traced = trace.is_some();
        let mut ctx = Ctx::new(self, br, now, *flow, trace);
        // A traced one is what its actions are in a table.
        ctx.packet_out = !is_traced;
        ctx.enter_bridge();
        ctx.run_actions(actions);
        ctx.finish(&flow.pkt)
    }
}

impl XlateOut {
    fn dropped(key: &PacketKey, reason: DropReason) -> XlateOut {
        let mask = dpif::required_mask(key);
        XlateOut {
            actions: alloc::vec![DpAction::Drop(reason)],
            mask,
            shown_mask: FlowKey { pkt: mask, ..FlowKey::ZERO },
            drop: Some(reason),
            final_key: FlowKey::from(*key),
            ..XlateOut::default()
        }
    }
}

/// State of a translation.
struct Ctx<'a> {
    sw: &'a Switch,
    br: &'a Bridge,
    now: Instant,
    /// The packet and pipeline as they are now.
    flow: FlowKey,
    /// The packet as the datapath actions so far have left it.
    base: PacketKey,
    /// Its priority as it came.
    orig_priority: u32,
    /// Bits looked at or set.
    wc: FlowKey,
    out: Vec<DpAction>,
    credits: Credits,
    effects: Vec<Effect>,
    /// Flows that the packet has learned on its way, which its own lookups do not find.
    learned: Vec<NewFlow>,
    table: TableId,
    rule: Option<Arc<Rule>>,
    /// Cookie of `rule`, or of the rule whose frozen actions these are; all ones for none.
    rule_cookie: u64,
    /// Nested resubmits that did not go forward.
    depth: usize,
    /// Nested calls, which use this thread's stack.
    nesting: usize,
    resubmits: usize,
    exit: bool,
    error: Option<DropReason>,
    /// What is wrong with the tables.
    errors: Vec<String>,
    slow: Option<SlowReason>,
    freezing: Option<Freezing>,
    /// A header to add or remove before anything else is done to the packet.
    pending: Option<Pending>,
    conntracked: bool,
    /// The last label was popped: what is behind it has not been seen.
    was_mpls: bool,
    /// Bits of `ct_mark` and `ct_label` that the `exec` of the present `ct` sets.
    ct_set: FlowKey,
    stack: Vec<StackValue>,
    action_set: Vec<Action>,
    in_action_set: bool,
    /// The present actions are those of a bucket.
    in_bucket: bool,
    /// The version that the action set was said in.
    set_version: Version,
    packet_out: bool,
    /// Bytes of the packet, if there is one.
    packet_len: Option<usize>,
    /// Mirrors that have the packet as it is.
    mirrors: MirrorBits,
    /// The pipeline goes on where it was frozen: the packet came in before.
    resumed: bool,
    /// Bytes of the packet that the mirror that is sent to wants; 0 for all, and when it is none.
    snaplen: u16,
    /// The version that the present actions were said in.
    version: Version,
    trace: Option<&'a mut Trace>,
    /// In a trace: the flows whose conjunction the last lookup found to be complete.
    conjunction: Vec<&'a Arc<Rule>>,
}

impl<'a> Ctx<'a> {
    fn new(
        sw: &'a Switch,
        br: &'a Bridge,
        now: Instant,
        mut flow: FlowKey,
        trace: Option<&'a mut Trace>,
    ) -> Ctx<'a> {
        flow.tun_metadata = br.tables.tlv.rearrange(&flow.tun_metadata);
        let mut wc = FlowKey::ZERO;
        wc.pkt = dpif::required_mask(&flow.pkt);
        Ctx {
            sw,
            br,
            now,
            flow,
            base: flow.pkt,
            orig_priority: flow.pkt.skb_priority,
            wc,
            out: Vec::new(),
            credits: Credits::default(),
            effects: Vec::new(),
            learned: Vec::new(),
            table: TableId(0),
            rule: None,
            rule_cookie: u64::MAX,
            depth: 0,
            nesting: 0,
            resubmits: 0,
            exit: false,
            error: None,
            errors: Vec::new(),
            slow: None,
            freezing: None,
            pending: None,
            conntracked: false,
            was_mpls: false,
            ct_set: FlowKey::ZERO,
            stack: Vec::new(),
            action_set: Vec::new(),
            in_action_set: false,
            in_bucket: false,
            set_version: Version::Of10,
            packet_out: false,
            packet_len: None,
            mirrors: 0,
            resumed: false,
            snaplen: 0,
            version: Version::Of10,
            trace,
            conjunction: Vec::new(),
        }
    }

    fn in_port(&self) -> OfPort {
        OfPort(self.flow.pkt.in_port as u16)
    }

    /// Whether side effects are wanted: not when tracing.
    fn is_trace(&self) -> bool {
        self.trace.as_ref().is_some_and(|t| !t.is_real)
    }

    /// Names of ports for what is reported, if they are wanted.
    fn port_names(&self) -> &'a dyn NameMap {
        match self.trace.as_ref().is_some_and(|t| t.names) {
            true => self.br,
            false => &NoNames,
        }
    }

    fn report(&mut self, kind: NodeKind, text: impl FnOnce() -> String) {
        if let Some(t) = &mut self.trace {
            t.add(kind, text());
        } else if kind == NodeKind::Error {
            let packet = FlowKey::from(self.base);
            let packet = FlowText { key: &packet, names: &NoNames };
            let bridge = &self.br.name;
            self.errors.push(format!("{} on bridge {bridge} while processing {packet}", text()));
        }
    }

    /// Adds a node and makes it the place of what is reported next; returns the place before.
    fn report_enter(&mut self, kind: NodeKind, text: impl FnOnce() -> String) -> usize {
        match &mut self.trace {
            Some(t) => {
                let node = t.add(kind, text());
                t.enter(node)
            }
            None => 0,
        }
    }

    fn report_leave(&mut self, place: usize) {
        if let Some(t) = &mut self.trace {
            t.enter(place);
        }
    }

    fn enter_bridge(&mut self) {
        let name = &self.br.name;
        self.report_enter(NodeKind::Bridge, || format!("bridge(\"{name}\")"));
    }

    /// The pipeline from `table` on.
    fn run(&mut self, table: TableId) {
        self.table = table;
        let (table, found) = self.lookup(table, self.in_port(), true);
        self.table = table;
        let old = self.report_table(table, &found);
        if self.came_by_mirror_port() {
            // Nothing is done with it.
        } else if self.may_receive() {
            self.mirror_input();
            let cookie = if let Found::Rule(r) = &found { r.cookie.0 } else { u64::MAX };
            self.process(found, true, false);
            // The action set counts as said by the rule that the pipeline began with.
            self.rule_cookie = cookie;
            self.finish_pipeline();
        } else {
            self.error = Some(DropReason::ForwardingDisabled);
        }
        self.report_leave(old);
    }

    /// Actions in place of a table.
    fn run_actions(&mut self, actions: &[Action]) {
        if self.came_by_mirror_port() {
            return;
        }
        self.mirror_input();
        self.actions(actions, true);
        self.finish_pipeline();
    }

    /// Whether the input port, if there is one, lets packets in.
    fn may_receive(&self) -> bool {
        use openflow::message::port_config::{NO_RECV, NO_RECV_STP};
        let stp = self.flow.pkt.dl_dst == STP_ADDRESS;
        let bit = if stp { NO_RECV_STP } else { NO_RECV };
        self.br.port(self.in_port()).is_none_or(|p| p.config & bit == 0)
    }

    /// What a table says of the packet, and which one: with `may_miss`, a miss may lead on to later
    /// tables, or to a controller.
    fn lookup(&mut self, table: TableId, in_port: OfPort, may_miss: bool) -> (TableId, Found) {
        let mut key = self.flow;
        key.pkt.in_port = u32::from(in_port.0);
        key.pkt.not_ethernet = if key.pkt.packet_type == 0 { 0 } else { u16::MAX };
        if key.pkt.nw_frag & nw_frag::ANY != 0 {
            match self.br.config.frag {
                0 => (key.pkt.tp_src, key.pkt.tp_dst) = (0, 0),
                1 => {
                    self.note_lookup(table, &key, None, true);
                    return (table, Found::DropFrags);
                }
                _ => {}
            }
        }
        let mut table = table;
        while let Some(t) = self.br.tables.get(table) {
            let rule = if self.trace.is_some() {
                let (rule, parts) = t.lookup_explained(&key, &mut self.wc);
                self.conjunction = parts;
                rule
            } else {
                t.lookup(&key, &mut self.wc)
            };
            let rule = rule.cloned();
            // It follows from the packet type, on which megaflows always depend.
            self.wc.pkt.not_ethernet = 0;
            self.note_lookup(table, &key, rule.as_ref(), false);
            self.credits.tables.push((t.stats.clone(), rule.is_some()));
            if let Some(r) = rule {
                self.credits.rules.push(r.stats.clone());
                return (table, Found::Rule(r));
            }
            let quiet = openflow::message::port_config::NO_PACKET_IN;
            let speaks = self.br.port(in_port).is_some_and(|p| p.config & quiet == 0);
            let to_controller = match t.config.miss.filter(|_| may_miss) {
                Some(TableMiss::Continue) if table.0 + 1 < INTERNAL_TABLE.0 => {
                    table = TableId(table.0 + 1);
                    continue;
                }
                Some(TableMiss::Continue | TableMiss::Controller) => true,
                Some(TableMiss::Drop) => false,
                None => may_miss && self.br.miss_to_controller,
            };
            if to_controller && speaks {
                return (table, Found::MissToController);
            }
            break;
        }
        (table, Found::Miss)
    }

    /// Keeps a lookup for who wants to know why.
    fn note_lookup(
        &mut self,
        table: TableId,
        key: &FlowKey,
        rule: Option<&Arc<Rule>>,
        drop_frags: bool,
    ) {
        let bridge = self.br.id;
        if let Some(t) = &mut self.trace {
            t.lookups.push(Lookup { bridge, table, key: *key, rule: rule.cloned(), drop_frags });
        }
    }

    fn report_table(&mut self, table: TableId, found: &Found) -> usize {
        let ports = self.port_names();
        let line = || crate::trace::table_line(table, found, ports);
        let old = self.report_enter(NodeKind::Table, line);
        for r in core::mem::take(&mut self.conjunction) {
            self.report(NodeKind::Detail, || crate::trace::conjunction_line(r, ports));
        }
        old
    }

    /// Does what a lookup found; on a copy of the packet with `clone`.
    fn process(&mut self, found: Found, last: bool, clone: bool) {
        let miss;
        let (rule, actions): (_, &[Action]) = match found {
            Found::Rule(ref r) => (Some(r.clone()), &r.actions),
            Found::MissToController => {
                let reason = PacketInReason::ImplicitMiss;
                miss = [Action::Controller(actions::plain_controller(u16::MAX, reason))];
                (None, &miss)
            }
            Found::Miss | Found::DropFrags => (None, &[]),
        };
        let old = (self.rule_cookie, self.version, self.in_bucket);
        self.in_bucket = false;
        // What is not a controller's rule is the switch's own, with a cookie of zero.
        self.rule_cookie = rule.as_ref().map_or(0, |r| r.cookie.0);
        self.version = rule.as_ref().map_or(self.version, |r| r.version);
        let old_rule = core::mem::replace(&mut self.rule, rule);
        if clone {
            self.clone_actions(actions, last);
        } else {
            self.actions(actions, last);
        }
        self.rule = old_rule;
        (self.rule_cookie, self.version, self.in_bucket) = old;
    }

    /// The result; `key` is the packet's key as it came.
    fn finish(mut self, key: &PacketKey) -> XlateOut {
        // Nothing comes behind a copy made last: it may as well be the packet itself.
        if let Some(DpAction::Clone(nested)) = self.out.pop_if(|a| matches!(a, DpAction::Clone(_)))
        {
            self.out.extend(nested);
        }
        if self.out.len() > MAX_DP_ACTIONS {
            self.slow = Some(SlowReason::Action);
        }
        let mut drop = self.error;
        if drop.is_some() {
            self.out.clear();
        } else if self.out.is_empty() {
            drop = Some(DropReason::Pipeline);
        }
        if let Some(r) = drop.filter(|&r| r != DropReason::Pipeline) {
            self.out.push(DpAction::Drop(r));
        }
        let mut mask = finish_mask(self.wc.pkt, key);
        // OVS leaves the mask of a failed translation as it is.
        let shown_mask = match self.error {
            Some(_) => self.wc,
            None => FlowKey { pkt: mask, ..FlowKey::ZERO },
        };
        // Tagged and untagged packets are different flows whatever the tables say, because
        // actions act on what is behind the tag.
        for tag in &mut mask.vlans {
            tag.tci |= VLAN_PRESENT;
        }
        // Of a stack without bottom, labels that are zero do not count.
        let bottomless = key.mpls_lse.iter().all(|l| l & mpls::BOS == 0);
        if mpls::is_mpls(key.dl_type) && bottomless && key.mpls_lse.contains(&0) {
            mask.mpls_lse = [u32::MAX; 3];
        }
        let mut final_key = self.flow;
        final_key.pkt.recirc_id = key.recirc_id;
        XlateOut {
            actions: self.out,
            mask,
            shown_mask,
            credits: self.credits,
            effects: self.effects,
            errors: self.errors,
            slow: self.slow.filter(|_| self.error.is_none()),
            slow_meter: self.br.tables.meters.get(meter_id::SLOWPATH).map(|m| m.number),
            drop,
            bridge: Some(self.br.id),
            final_key,
        }
    }
}

/// Destination of spanning tree packets.
const STP_ADDRESS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];

/// What a lookup found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A rule.
    Rule(Arc<Rule>),
    /// Nothing.
    Miss,
    /// Nothing, and a controller wants to hear of it.
    MissToController,
    /// The packet is a fragment and fragments are dropped.
    DropFrags,
}

/// Tidies a mask: bits of what this packet does not have are not significant.
fn finish_mask(mut m: PacketKey, key: &PacketKey) -> PacketKey {
    let icmp = (key.dl_type == ethertype::IPV4 && key.nw_proto == ipproto::ICMP)
        || (key.dl_type == ethertype::IPV6 && key.nw_proto == ipproto::ICMPV6);
    if icmp {
        m.tp_src &= 0xff;
        m.tp_dst &= 0xff;
    }
    if key.nw_frag & nw_frag::LATER != 0 {
        (m.tp_src, m.tp_dst) = (0, 0);
    }
    if !mpls::is_mpls(key.dl_type) {
        m.mpls_lse = [0; 3]; // pushed and set, not looked at
    }
    if key.tunnel.dst == 0 && key.tunnel.ipv6_dst == [0; 16] {
        m.tunnel = TunnelKey::default();
    }
    if key.packet_type != 0 {
        (m.dl_src, m.dl_dst) = ([0; 6], [0; 6]);
    }
    for (tag, k) in m.vlans.iter_mut().zip(&key.vlans) {
        if k.tci & VLAN_PRESENT == 0 {
            // Setting or pushing a tag marked it; that there is none is always known.
            *tag = VlanTag::default();
        } else if tag.tci != 0 {
            tag.tci |= VLAN_PRESENT;
        }
    }
    m
}
