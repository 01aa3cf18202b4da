//! `ofproto/trace`: what a translation did, as text.
//!
//! A [`Trace`] is a tree that a translation fills as it goes: bridges and tables hold what
//! happened in them. [`Switch::trace`] runs a packet and, after it, every copy that recirculates,
//! with the connection states that the caller wants the tracker to give them.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use base::{Instant, OfPort, RecircId, TableId};
use dpif::DropReason;
use flow::text::{FlowText, MatchText, NoPorts, value};
use flow::{CT_STATE_FLAGS, FlowKey, Match, ct_state};
use openflow::Subfield;
use openflow::action::Action;
use openflow::text::ActionsText;
use openflow::version::Version;

use crate::bridge::BridgeId;
use crate::rule::Rule;
use crate::switch::Switch;
use crate::xlate::{Found, XlateOut};

/// What a line of a trace is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A bridge that the packet enters.
    Bridge,
    /// A lookup in a table and its result.
    Table,
    /// A frozen pipeline resumes.
    Thaw,
    /// An action.
    Action,
    /// What an action led to.
    Detail,
    /// Something that is probably not meant.
    Warn,
    /// Something that drops the packet.
    Error,
}

impl NodeKind {
    /// Whether nothing happens inside of it.
    fn is_leaf(self) -> bool {
        !matches!(self, NodeKind::Bridge | NodeKind::Table | NodeKind::Thaw)
    }
}

#[derive(Clone, Debug)]
struct Node {
    kind: NodeKind,
    text: String,
    subs: Vec<usize>,
}

/// A copy of the packet that went to recirculate.
#[derive(Clone, Debug)]
struct Recirculated {
    id: RecircId,
    zone: u16,
    key: FlowKey,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Node 0 is the root, which has no line.
    nodes: Vec<Node>,
    place: usize,
    recirculated: Vec<Recirculated>,
}

impl Default for Trace {
    fn default() -> Self {
        let root = Node { kind: NodeKind::Bridge, text: String::new(), subs: Vec::new() };
        Trace { nodes: alloc::vec![root], place: 0, recirculated: Vec::new() }
    }
}

impl Trace {
    /// Adds a line at the present place.
    pub(crate) fn add(&mut self, kind: NodeKind, text: String) -> usize {
        let i = self.nodes.len();
        self.nodes.push(Node { kind, text, subs: Vec::new() });
        self.nodes[self.place].subs.push(i);
        i
    }

    /// Makes a node the place of later lines; returns the place before.
    pub(crate) fn enter(&mut self, node: usize) -> usize {
        core::mem::replace(&mut self.place, node)
    }

    pub(crate) fn recirculated(&mut self, id: RecircId, zone: u16, key: &FlowKey) {
        self.recirculated.push(Recirculated { id, zone, key: *key });
    }

    /// The lines.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.print(0, 0, &mut out);
        out
    }

    fn print(&self, node: usize, level: usize, out: &mut String) {
        let subs = &self.nodes[node].subs;
        for (i, &s) in subs.iter().enumerate() {
            let n = &self.nodes[s];
            // What is last in its place needs no indentation of its own.
            let more = usize::from(n.kind.is_leaf() || i + 1 < subs.len());
            let indent = (level + more) * 4;
            let text = &n.text;
            let _ = match n.kind {
                NodeKind::Bridge => {
                    let line = "-".repeat(text.chars().count());
                    writeln!(out, "\n{:indent$}{text}\n{:indent$}{line}", "", "")
                }
                NodeKind::Detail => writeln!(out, "{:indent$} -> {text}", ""),
                NodeKind::Warn => writeln!(out, "{:indent$} >> {text}", ""),
                NodeKind::Error => writeln!(out, "{:indent$} >>>> {text} <<<<", ""),
                _ => writeln!(out, "{:indent$}{text}", ""),
            };
            self.print(s, level + more + more, out);
        }
    }
}

/// The line of a table lookup.
pub(crate) fn table_line(table: TableId, found: &Found) -> String {
    let mut s = format!("{:2}. ", table.0);
    let _ = match found {
        Found::Miss => write!(s, "No match."),
        Found::MissToController => write!(s, "No match, and a \"packet-in\" is called for."),
        Found::DropFrags => {
            write!(s, "Packets are IP fragments and the fragment handling mode is \"drop\".")
        }
        Found::Rule(r) => {
            let m = r.match_.expand();
            let text = MatchText { m: &m, priority: None, ports: &NoPorts }.to_string();
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(s, "{text}{comma}priority {}", r.priority);
            if r.cookie.0 != 0 { write!(s, ", cookie {:#x}", r.cookie.0) } else { Ok(()) }
        }
    };
    s
}

/// The line of a flow that is a part of the conjunction that a lookup found.
pub(crate) fn conjunction_line(r: &Rule) -> String {
    let m = r.match_.expand();
    format!("conj. {}", MatchText { m: &m, priority: Some(r.priority), ports: &NoPorts })
}

/// An action as `ovs-ofctl` writes it.
pub(crate) fn action_text(a: &Action, version: Version) -> String {
    ActionsText { actions: core::slice::from_ref(a), ports: &NoPorts, version }.to_string()
}

/// The value that a part of a field got.
pub(crate) fn subfield_line(sf: Subfield, v: u128) -> String {
    let row = sf.row();
    let mut s = format!("{sf} is now ");
    if sf.is_whole() {
        s.push_str(&value::to_text(row, v, row.all_ones(), &NoPorts));
    } else {
        let _ = value::hex(&mut s, v);
    }
    s
}

/// Why a translation failed, in OVS's words.
fn failure(r: DropReason) -> &'static str {
    match r {
        DropReason::BridgeNotFound => "Bridge not found",
        DropReason::RecursionTooDeep => "Recursion too deep",
        DropReason::TooManyResubmits => "Too many resubmits",
        DropReason::StackTooDeep => "Stack too deep",
        DropReason::NoRecirculationContext => "No recirculation context",
        DropReason::RecirculationConflict => "Recirculation conflict",
        DropReason::TooManyMplsLabels => "Too many MPLS labels",
        DropReason::InvalidTunnelMetadata => "Invalid tunnel metadata",
        DropReason::UnsupportedPacketType => "Unsupported packet type",
        DropReason::Congestion => "Congestion Drop",
        DropReason::ForwardingDisabled => "Forwarding is disabled",
        other => other.doc(),
    }
}

/// `new|trk`.
fn ct_state_text(state: u8) -> String {
    let names: Vec<&str> =
        CT_STATE_FLAGS.iter().filter(|(_, bit)| state & bit != 0).map(|(n, _)| *n).collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

impl Switch {
    /// Traces a packet on a bridge as `ofproto/trace` does. The `in_port` of `key` is an OpenFlow
    /// port. Each time the packet resumes from the connection tracker, it gets the next of
    /// `ct_next` as its state, and `trk|new` when there is none left. With `actions`, those are
    /// done instead of the tables' (`ofproto/trace bridge flow actions`).
    pub fn trace(
        &self,
        now: Instant,
        bridge: BridgeId,
        key: &FlowKey,
        ct_next: &[u8],
        actions: Option<&[Action]>,
    ) -> String {
        let mut out = String::new();
        let mut queue: VecDeque<Recirculated> = VecDeque::new();
        let mut trace = Trace::default();
        let x = self.trace_one(now, bridge, key, actions, &mut trace);
        print_pass(&mut out, key, &x, &trace);
        queue.extend(trace.recirculated);
        let mut next = ct_next.iter();
        while let Some(r) = queue.pop_front() {
            let line = "=".repeat(79);
            let (state, how) = match next.next() {
                Some(&s) => (s, format!("ct_state={}", ct_state_text(s))),
                None => (
                    ct_state::TRK | ct_state::NEW,
                    "default ct_state=trk|new (use --ct-next to customize)".to_string(),
                ),
            };
            let _ = writeln!(
                out,
                "\n{line}\nrecirc({:#x}) - resume conntrack with {how}\n{line}\n",
                r.id.0
            );
            let mut key = r.key;
            key.pkt.recirc_id = r.id.0;
            key.pkt.ct_zone = r.zone;
            key.pkt.ct_state = state;
            let mut trace = Trace::default();
            let x = self.trace_one(now, bridge, &key, None, &mut trace);
            print_pass(&mut out, &key, &x, &trace);
            queue.extend(trace.recirculated);
        }
        out
    }

    fn trace_one(
        &self,
        now: Instant,
        bridge: BridgeId,
        key: &FlowKey,
        actions: Option<&[Action]>,
        trace: &mut Trace,
    ) -> XlateOut {
        if let Some(a) = actions {
            return self.xlate_packet_out(now, bridge, key, a, Some(trace));
        }
        self.xlate_on(now, bridge, key, Some(trace))
    }
}

fn print_pass(out: &mut String, key: &FlowKey, x: &XlateOut, trace: &Trace) {
    let mut initial = *key;
    initial.actset_output = u32::from(OfPort::UNSET.0);
    let _ = writeln!(out, "Flow: {}", FlowText { key: &initial, ports: &NoPorts });
    out.push_str(&trace.text());
    let same = x.final_key == initial;
    let end = FlowText { key: &x.final_key, ports: &NoPorts };
    let _ = match same {
        true => writeln!(out, "\nFinal flow: unchanged"),
        false => writeln!(out, "\nFinal flow: {end}"),
    };
    let mask = FlowKey { pkt: x.shown_mask, ..FlowKey::ZERO };
    let m = Match { key: key & &mask, mask };
    let m = MatchText { m: &m, priority: None, ports: &NoPorts };
    // These drop the packet without a fault of the tables.
    let meant = [DropReason::Pipeline, DropReason::ForwardingDisabled, DropReason::Congestion];
    let failed = x.drop.filter(|r| !meant.contains(r));
    let actions = if failed.is_some() { &[][..] } else { &x.actions[..] };
    let actions = dpif::text::format_actions(actions, dpif::text::NO_NAMES);
    let _ = writeln!(out, "Megaflow: {m}\nDatapath actions: {actions}");
    if let Some(r) = failed {
        let _ = writeln!(out, "Translation failed ({}), packet is dropped.", failure(r));
    }
}
