//! `ofproto/trace`: what a translation did, as text.
//!
//! A [`Trace`] is a tree that a translation fills as it goes: bridges and tables hold what
//! happened in them. [`Switch::trace`] runs a packet and, after it, every copy that recirculates,
//! with the connection states that the caller wants the tracker to give them.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::Ipv6Addr;

use base::{DpPort, Instant, OfPort, RecircId, TableId};
use conntrack::CtRequest;
use dpif::{DpAction, DropReason};
use flow::text::{FlowText, MatchText, NameMap, NoNames, value};
use flow::{CT_STATE_FLAGS, FlowKey, Match, PacketKey, ct_state};
use openflow::Subfield;
use openflow::action::{Action, NatAction, NatAddr, NatKind};
use openflow::text::ActionsText;
use openflow::version::Version;

use crate::bridge::BridgeId;
use crate::rule::Rule;
use crate::switch::Switch;
use crate::xlate::{Effect, Found, XlateOut};

/// What a line of a trace is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A bridge that the packet enters.
    Bridge,
    /// A lookup in a table and its result.
    Table,
    /// A frozen pipeline resumes.
    Thaw,
    /// A bucket of a group.
    Bucket,
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
pub(crate) struct Recirculated {
    pub id: RecircId,
    pub request: CtRequest,
    pub nat: Option<NatAction>,
    pub key: FlowKey,
}

/// A packet as it came to a `ct` action.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    /// The line that says what the tracker would refuse, empty if nothing.
    note: usize,
    pub request: CtRequest,
    pub key: FlowKey,
    /// It comes back with the verdict.
    pub resumes: bool,
}

/// What the connection tracker would refuse to do for a packet, as it comes to a `ct` action, and why.
pub type Refusals<'a> = &'a dyn Fn(&FlowKey, &CtRequest) -> Option<String>;

/// A packet that was looked up in a table.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub bridge: BridgeId,
    pub table: TableId,
    /// The packet as it was then.
    pub key: FlowKey,
    pub rule: Option<Arc<Rule>>,
    /// It is a fragment, and fragments are dropped.
    pub drop_frags: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Node 0 is the root, which has no line.
    nodes: Vec<Node>,
    place: usize,
    /// The packet is real: what its passage makes happen besides happens.
    pub(crate) is_real: bool,
    /// Write names instead of the numbers of ports.
    pub(crate) names: bool,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) recirculated: Vec<Recirculated>,
    pub(crate) tracked: Vec<Tracked>,
}

impl Default for Trace {
    fn default() -> Self {
        let root = Node { kind: NodeKind::Bridge, text: String::new(), subs: Vec::new() };
        Trace {
            nodes: alloc::vec![root],
            place: 0,
            is_real: false,
            names: false,
            lookups: Vec::new(),
            recirculated: Vec::new(),
            tracked: Vec::new(),
        }
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

    /// Notes a `ct` action at the present place.
    pub(crate) fn track(&mut self, request: CtRequest, key: FlowKey, resumes: bool) {
        let note = self.add(NodeKind::Warn, String::new());
        self.tracked.push(Tracked { note, request, key, resumes });
    }

    /// Writes what the tracker would refuse where the `ct` actions are.
    fn note_refusals(&mut self, refusals: Refusals<'_>) {
        for t in &self.tracked {
            self.nodes[t.note].text = refusals(&t.key, &t.request).unwrap_or_default();
        }
    }

    /// Makes a node the place of later lines; returns the place before.
    pub(crate) fn enter(&mut self, node: usize) -> usize {
        core::mem::replace(&mut self.place, node)
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
                NodeKind::Warn if text.is_empty() => Ok(()),
                NodeKind::Warn => writeln!(out, "{:indent$} >> {text}", ""),
                NodeKind::Error => writeln!(out, "{:indent$} >>>> {text} <<<<", ""),
                _ => writeln!(out, "{:indent$}{text}", ""),
            };
            self.print(s, level + more + more, out);
        }
    }
}

/// The line of a table lookup.
pub(crate) fn table_line(table: TableId, found: &Found, names: &dyn NameMap) -> String {
    let mut s = format!("{:2}. ", table.0);
    let _ = match found {
        Found::Miss => write!(s, "No match."),
        Found::MissToController => write!(s, "No match, and a \"packet-in\" is called for."),
        Found::DropFrags => {
            write!(s, "Packets are IP fragments and the fragment handling mode is \"drop\".")
        }
        Found::Rule(r) => {
            let m = r.match_.expand();
            let text = MatchText { m: &m, priority: None, names }.to_string();
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(s, "{text}{comma}priority {}", r.priority);
            if r.cookie.0 != 0 { write!(s, ", cookie {:#x}", r.cookie.0) } else { Ok(()) }
        }
    };
    s
}

/// The line of a flow that is a part of the conjunction that a lookup found.
pub(crate) fn conjunction_line(r: &Rule, names: &dyn NameMap) -> String {
    let m = r.match_.expand();
    format!("conj. {}", MatchText { m: &m, priority: Some(r.priority), names })
}

/// An action as `ovs-ofctl` writes it.
pub(crate) fn action_text(a: &Action, names: &dyn NameMap, version: Version) -> String {
    ActionsText { actions: core::slice::from_ref(a), names, version }.to_string()
}

/// The value that a part of a field got.
pub(crate) fn subfield_line(sf: Subfield, v: u128) -> String {
    let row = sf.row();
    let mut s = format!("{sf} is now ");
    if sf.is_whole() {
        s.push_str(&value::to_text(row, v, row.all_ones(), &NoNames));
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

/// A trace that is wanted.
#[derive(Copy, Clone, Debug)]
pub struct TraceRequest<'a> {
    /// Where the packet comes in.
    pub bridge: BridgeId,
    /// The packet. Its `in_port` is an OpenFlow port.
    pub key: &'a FlowKey,
    /// There is a real packet: addresses are learned from it, and its actions are to be done.
    pub is_real: bool,
    /// Connection states for the passages through the tracker, in order; `trk|new` when there is
    /// none left.
    pub ct_next: &'a [u8],
    /// Do these instead of what the tables say (`ofproto/trace-packet-out`).
    pub actions: Option<&'a [Action]>,
    /// Write names instead of the numbers of ports.
    pub names: bool,
}

/// A trace.
#[derive(Debug, Default)]
pub struct Traced {
    /// What `ofproto/trace` prints.
    pub text: String,
    /// For a real packet: what happens besides.
    pub effects: Vec<Effect>,
    /// For a real packet: what the datapath is to do with it. Outputs and recirculations are taken
    /// out: packet-ins, samples and commits are left.
    pub actions: Vec<(PacketKey, Arc<[DpAction]>)>,
}

/// Most passages that a trace follows.
const MAX_RECIRCULATIONS: usize = 4096;

/// Puts what does not lead the packet out of `actions`.
fn without_outputs(actions: &[DpAction]) -> Vec<DpAction> {
    let kept = actions.iter().filter_map(|a| match a {
        DpAction::Output(_) | DpAction::Recirc(_) => None,
        DpAction::Clone(nested) => Some(DpAction::Clone(without_outputs(nested).into())),
        a => Some(a.clone()),
    });
    kept.collect()
}

impl Switch {
    /// Traces a packet as `ofproto/trace` does. What the tracker would refuse becomes a line at its `ct`
    /// action.
    pub fn trace(&self, now: Instant, r: &TraceRequest<'_>, refusals: Refusals<'_>) -> Traced {
        let mut done = Traced::default();
        let mut queue = VecDeque::new();
        self.trace_pass(now, r, refusals, r.key, &mut queue, &mut done);
        let mut next = r.ct_next.iter();
        let mut passes = 0;
        let line = "=".repeat(79);
        while let Some(c) = queue.pop_front() {
            passes += 1;
            if passes > MAX_RECIRCULATIONS {
                let _ = writeln!(
                    done.text,
                    "\n{line}\nTrace reached the recirculation limit.  Sopping the trace here.\n\
                     Queued but not processed: {} recirculations.",
                    queue.len() + 1
                );
                break;
            }
            let (state, how) = match next.next() {
                Some(&s) => (s, format!("ct_state={}", ct_state_text(s))),
                None => (
                    ct_state::TRK | ct_state::NEW,
                    "default ct_state=trk|new (use --ct-next to customize)".to_string(),
                ),
            };
            let mut key = c.key;
            key.pkt.recirc_id = c.id.0;
            key.pkt.ct_zone = c.request.zone.0;
            key.pkt.ct_state = state;
            let _ = writeln!(
                done.text,
                "\n{line}\nrecirc({:#x}) - resume conntrack with {how}",
                c.id.0
            );
            if let Some(nat) = &c.nat {
                simulate_nat(&mut done.text, &mut key, nat);
            }
            let _ = writeln!(done.text, "{line}\n");
            self.trace_pass(now, r, refusals, &key, &mut queue, &mut done);
        }
        done
    }

    /// One passage of a packet, from where it comes in or resumes to its end.
    fn trace_pass(
        &self,
        now: Instant,
        r: &TraceRequest<'_>,
        refusals: Refusals<'_>,
        key: &FlowKey,
        queue: &mut VecDeque<Recirculated>,
        done: &mut Traced,
    ) {
        let mut trace = Trace { is_real: r.is_real, names: r.names, ..Trace::default() };
        let x = match r.actions.filter(|_| key.pkt.recirc_id == 0) {
            Some(actions) => self.xlate_packet_out(now, r.bridge, key, actions, Some(&mut trace)),
            None => self.xlate_on(now, r.bridge, key, Some(&mut trace)),
        };
        trace.note_refusals(refusals);
        self.print_pass(&mut done.text, r, key, &x, &trace);
        queue.extend(trace.recirculated);
        if r.is_real {
            let mut key = key.pkt;
            let of = x.bridge.and_then(|b| self.bridge(b)?.port(OfPort(key.in_port as u16)));
            key.in_port = of.map_or(DpPort::NONE, |p| p.spec.dp_port).0;
            done.actions.push((key, without_outputs(&x.actions).into()));
            done.effects.extend(x.effects);
        }
    }

    fn print_pass(
        &self,
        out: &mut String,
        r: &TraceRequest<'_>,
        key: &FlowKey,
        x: &XlateOut,
        trace: &Trace,
    ) {
        let names: &dyn NameMap = match self.bridge(r.bridge).filter(|_| r.names) {
            Some(bridge) => bridge,
            None => &NoNames,
        };
        let mut initial = *key;
        if let Some(b) = self.bridge(r.bridge) {
            initial.tun_metadata = b.tables.tlv.rearrange(&initial.tun_metadata);
        }
        initial.actset_output = u32::from(OfPort::UNSET.0);
        let _ = writeln!(out, "Flow: {}", FlowText { key: &initial, names });
        out.push_str(&trace.text());
        let same = x.final_key == initial;
        // Of a packet that came without options of a tunnel, OVS does not show those it gets.
        let mut end = x.final_key;
        if r.is_real && key.pkt.recirc_id == 0 && key.tun_metadata.is_empty() {
            end.tun_metadata = Default::default();
        }
        let end = FlowText { key: &end, names };
        let _ = match same {
            true => writeln!(out, "\nFinal flow: unchanged"),
            false => writeln!(out, "\nFinal flow: {end}"),
        };
        let m = Match { key: key & &x.shown_mask, mask: x.shown_mask };
        let m = MatchText { m: &m, priority: None, names };
        let failed = x.drop.filter(|r| !is_meant(*r));
        let actions = if failed.is_some() { &[][..] } else { &x.actions[..] };
        let names = |dp| self.port_name(dp).filter(|_| r.names);
        let actions = dpif::text::format_actions(actions, &names);
        let _ = writeln!(out, "Megaflow: {m}\nDatapath actions: {actions}");
        if let Some(reason) = x.slow {
            let _ = writeln!(
                out,
                "This flow is handled by the userspace slow path because it:\n  - {}",
                reason.doc()
            );
        }
        if let Some(r) = failed {
            let _ = writeln!(out, "Translation failed ({}), packet is dropped.", failure(r));
        }
    }

    /// Name of the interface of a datapath port.
    pub(crate) fn port_name(&self, dp: DpPort) -> Option<String> {
        let (bridge, port) = self.port_of_dp(dp)?;
        Some(self.bridge(bridge)?.port(port)?.spec.name.clone())
    }
}

/// Whether a reason drops the packet without a fault of the tables.
fn is_meant(r: DropReason) -> bool {
    matches!(r, DropReason::Pipeline | DropReason::ForwardingDisabled | DropReason::Congestion)
}

/// Gives the packet the first address and port of a translation, and says so.
fn simulate_nat(out: &mut String, key: &mut FlowKey, nat: &NatAction) {
    let line = |key: &PacketKey| match nat.addr {
        NatAddr::Unspec => String::new(),
        NatAddr::V4(..) => {
            let [src, dst] = [key.nw_src, key.nw_dst].map(core::net::Ipv4Addr::from_bits);
            format!("nw_src={src},tp_src={},nw_dst={dst},tp_dst={}", key.tp_src, key.tp_dst)
        }
        NatAddr::V6(..) => {
            let [src, dst] = [key.ipv6_src, key.ipv6_dst].map(Ipv6Addr::from);
            format!("ipv6_src=[{src}],tp_src={},ipv6_dst=[{dst}],tp_dst={}", key.tp_src, key.tp_dst)
        }
    };
    let before = line(&key.pkt);
    let k = &mut key.pkt;
    let (v4, v6, port) = match nat.kind {
        Some(NatKind::Src) => (&mut k.nw_src, &mut k.ipv6_src, &mut k.tp_src),
        Some(NatKind::Dst) => (&mut k.nw_dst, &mut k.ipv6_dst, &mut k.tp_dst),
        None => return print_nat(out, &before, &before),
    };
    match nat.addr {
        NatAddr::Unspec => {}
        NatAddr::V4(first, _) => *v4 = first.to_bits(),
        NatAddr::V6(first, _) => *v6 = first.octets(),
    }
    if let Some((first, _)) = nat.ports.filter(|p| p.0 != 0 && nat.addr != NatAddr::Unspec) {
        *port = first;
    }
    let after = line(&key.pkt);
    print_nat(out, &before, &after);
}

fn print_nat(out: &mut String, before: &str, after: &str) {
    let _ = writeln!(
        out,
        "Replacing src/dst IP/ports to simulate NAT:\n Initial flow: {before}\n Modified flow: {after}"
    );
}
