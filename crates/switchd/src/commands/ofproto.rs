//! `ofproto/…`, `bridge/…`: OpenFlow tables and what they would do.

use base::{Instant, OfPort, TableId};
use conntrack::text::{DumpLine, DumpOptions};
use conntrack::{ConnSnapshot, CtInfo, CtRequest, CtState, Dir, Outcome};
use flow::text::{MatchText, Mode, NoNames, Tok, parse_exact};
use flow::{CT_STATE_FLAGS, FlowKey, PacketKey, ct_state, extract, nw_frag};
use ofproto::{Bridge, BridgeId, Rule, Switch, TraceRequest, Verdict};
use openflow::Match;
use openflow::text::{ActionsText, parse_actions};
use packet::PacketBuf;
use packet::header::{ETH_LEN, ethertype, ipproto, tcp_flag};

use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;
use crate::hex;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "bridge/dump-flows",
        usage: "[--offload-stats] bridge",
        arity: (1, 2),
        run: |d, args| dump_flows(d, args).into(),
    },
    Command { name: "ofproto/list", usage: "", arity: (0, 0), run: list },
    Command {
        name: "ofproto/trace",
        usage: "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        arity: (1, usize::MAX),
        run: |d, args| trace(d, args, None).into(),
    },
    Command {
        name: "ofproto/trace-packet-out",
        usage: "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] \
                [-generate|packet] actions",
        arity: (2, usize::MAX),
        run: |d, args| {
            let (actions, args) = args.split_last().map_or(("", args), |(a, rest)| (a, rest));
            trace(d, args, Some(actions)).into()
        },
    },
    Command {
        name: "sekisho/why",
        usage: "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [packet]",
        arity: (1, usize::MAX),
        run: |d, args| why(d, args).into(),
    },
];

/// `bridge/dump-flows`: all flows, the switch's own included.
fn dump_flows(d: &mut Daemon, args: &[String]) -> Text {
    let (options, args) = super::options(args);
    let [name] = args[..] else { return Err("Unknown bridge".to_owned()) };
    let offload = options.contains(&"--offload-stats");
    d.dp.push_stats();
    let now = d.clock.now();
    let switch = d.world.switch.read();
    let bridge = switch.bridge_by_name(name).ok_or("Unknown bridge")?;
    let mut out = String::new();
    let tables = (0..=u8::MAX).map_while(|t| bridge.tables().get(TableId(t)));
    for r in bridge.tables().own().chain(tables.flat_map(|t| t.rules())) {
        out += &own_words(r, offload, now);
    }
    Ok(out)
}

fn own_words(r: &Rule, offload: bool, now: Instant) -> String {
    let mut s = String::new();
    if r.cookie.0 != 0 {
        s += &format!("cookie={:#x}, ", r.cookie.0);
    }
    if r.table.0 != 0 {
        s += &format!("table_id={}, ", r.table.0);
    }
    s += &format!("duration={}s, ", now.since(r.created).as_secs());
    s += &format!("n_packets={}, n_bytes={}, ", r.stats.n_packets(), r.stats.n_bytes());
    if offload {
        s += "n_offload_packets=0, n_offload_bytes=0, ";
    }
    let m = r.match_.expand();
    let text = MatchText { m: &m, priority: Some(r.priority), names: &NoNames };
    let actions = ActionsText { actions: &r.actions, names: &NoNames, version: r.version };
    s + &format!("{text},actions={actions}\n")
}

fn list(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(d.rec.bridges.keys().map(|n| format!("{n}\n")).collect()).into()
}

/// The state that `--ct-next` gives: flags with commas, spaces, or as traces print them.
fn parse_ct_state(text: &str) -> Result<u8, String> {
    let mut state = 0;
    for word in text.split(['|', ',', '+', ' ']).filter(|w| !w.is_empty()) {
        let bit = CT_STATE_FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit);
        state |= bit.ok_or_else(|| format!("{word}: unknown connection tracking state flag"))?;
    }
    use flow::ct_state::{EST, INV, NEW, RPL, TRK};
    let wrong = [
        (state != 0 && state & TRK == 0, "If \"trk\" is unset, no other flags are set"),
        (
            state & INV != 0 && state & !(TRK | INV) != 0,
            "when \"inv\" is set, only \"trk\" may also be set",
        ),
        (state & NEW != 0 && state & EST != 0, "\"new\" and \"est\" are mutually exclusive"),
        (state & NEW != 0 && state & RPL != 0, "\"new\" and \"rpy\" are mutually exclusive"),
    ];
    let names: Vec<&str> =
        CT_STATE_FLAGS.iter().filter(|(_, bit)| state & bit != 0).map(|(name, _)| *name).collect();
    let names = names.join("|");
    let errors: String = wrong
        .iter()
        .filter(|(is_wrong, _)| *is_wrong)
        .map(|(_, why)| format!("{names}: invalid connection state: {why}\n"))
        .collect();
    if errors.is_empty() { Ok(state) } else { Err(errors) }
}

/// A packet written in hexadecimal.
fn parse_packet(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = hex::parse(text).ok_or("Trailing garbage in packet data")?;
    if bytes.len() < ETH_LEN { Err("Packet data too short for Ethernet") } else { Ok(bytes) }
}

/// Bytes of payload in a packet that is made from a flow, if nothing else is said.
const L7_LEN: usize = 64;
/// And the most there may be.
const MAX_L7_LEN: usize = 64_000;

/// What a command line asks to trace.
#[derive(Debug)]
struct Traceable {
    bridge: BridgeId,
    /// The flow, or that of the packet.
    key: FlowKey,
    packet: Option<PacketBuf>,
    ct_next: Vec<u8>,
    names: bool,
    consistent: bool,
}

/// Reads `[OPTIONS] {[DP] ODP_FLOW | BRIDGE FLOW} [PACKET]`.
fn parse_trace(switch: &Switch, simulated: bool, args: &[String]) -> Result<Traceable, String> {
    let mut ct_next = Vec::new();
    let (mut names, mut generate, mut consistent) = (false, false, false);
    let mut payload = Payload::Length(L7_LEN);
    let mut words = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let (option, inline) = match arg.split_once('=').filter(|_| arg.starts_with("--")) {
            Some((option, value)) => (option, Some(value)),
            None => (arg, None),
        };
        let mut value = || {
            inline
                .or_else(|| args.next())
                .ok_or_else(|| format!("Missing argument for option {option}"))
        };
        match option {
            "-generate" | "--generate" => generate = true,
            "-consistent" | "--consistent" => consistent = true,
            "-names" | "--names" => names = true,
            "--ct-next" => ct_next.push(parse_ct_state(value()?)?),
            "--l7" => {
                let bytes = hex::parse(value()?).ok_or("Trailing garbage in packet data")?;
                payload = Payload::Bytes(bytes);
            }
            "--l7-len" => {
                let text = value()?;
                let len = text.parse().unwrap_or(0);
                if len > MAX_L7_LEN {
                    return Err(format!("{text}: too much L7 data"));
                }
                payload = Payload::Length(len);
            }
            _ if arg.starts_with('-') => return Err(format!("{arg}: unknown option")),
            _ if words.len() == 3 => return Err("too many arguments".to_owned()),
            _ => words.push(arg),
        }
    }
    let mut packet = None;
    if let (false, [.., last]) = (generate || words.len() < 2, &words[..]) {
        match parse_packet(last) {
            Ok(bytes) => {
                packet = Some(bytes);
                words.pop();
            }
            Err(e) if words.len() > 2 => return Err(e.to_owned()),
            Err(_) => {}
        }
    }
    let flow = match &words[..] {
        [flow] | [_, flow] => *flow,
        _ => return Err("Syntax error".to_owned()),
    };
    let (bridge, mut key) = match (datapath_key(switch, flow), &words[..]) {
        // A bridge's name is none of a datapath.
        (Ok(_), [dp, _]) if !is_datapath(dp, simulated) => {
            return Err("Cannot find the datapath".to_owned());
        }
        (Ok(key), _) => datapath_flow(switch, key)?,
        (Err(e), [_]) => return Err(format!("{e} (or the bridge name was omitted)")),
        (Err(_), [name, ..]) => {
            let bridge =
                switch.bridge_by_name(name).ok_or_else(|| format!("{name}: unknown bridge"))?;
            let key = parse_exact(flow, bridge)
                .map_err(|e| format!("Bad openflow flow syntax: {}", e.message))?;
            (bridge, key)
        }
        (Err(_), []) => return Err("Syntax error".to_owned()),
    };
    let packet = match (generate, packet) {
        (true, _) => Some(PacketBuf::from_frame(&flow::compose(&key.pkt, &payload.bytes(), 0))),
        (false, Some(bytes)) => {
            let mut packet = PacketBuf::from_frame(&bytes);
            let metadata = key.pkt;
            key = FlowKey { pkt: flow::PacketKey::ZERO, ..FlowKey::ZERO };
            key.actset_output = u32::from(OfPort::UNSET.0);
            let k = &mut key.pkt;
            (k.in_port, k.tunnel, k.recirc_id) =
                (metadata.in_port, metadata.tunnel, metadata.recirc_id);
            (k.pkt_mark, k.skb_priority, k.dp_hash) =
                (metadata.pkt_mark, metadata.skb_priority, metadata.dp_hash);
            (k.ct_state, k.ct_zone, k.ct_mark, k.ct_label) =
                (metadata.ct_state, metadata.ct_zone, metadata.ct_mark, metadata.ct_label);
            extract(&mut packet, k);
            Some(packet)
        }
        (false, None) => None,
    };
    Ok(Traceable { bridge: bridge.id, key, packet, ct_next, names, consistent })
}

/// Whether a word means the datapath: its name, or its type alone. The simulated one is no other.
fn is_datapath(word: &str, simulated: bool) -> bool {
    let is_one = |word: &str| super::DATAPATHS.contains(&word);
    (is_one(word) || is_one(&format!("ovs-{word}"))) && word.contains("dummy") == simulated
}

/// What is behind the headers of a packet that is made from a flow.
enum Payload {
    /// So many bytes, counting up.
    Length(usize),
    /// These.
    Bytes(Vec<u8>),
}

impl Payload {
    fn bytes(self) -> Vec<u8> {
        match self {
            Payload::Length(n) => (0..n).map(|i| i as u8).collect(),
            Payload::Bytes(bytes) => bytes,
        }
    }
}

/// `ofproto/trace`, or with the text of `actions` `ofproto/trace-packet-out`.
fn trace(d: &mut Daemon, args: &[String], actions: Option<&str>) -> Text {
    let now = d.clock.now();
    let switch = d.world.switch.read();
    let actions = match actions {
        Some(text) => Some(
            parse_actions(Tok::line(text), &Match::ANY, &NoNames, Mode::Ovs)
                .map_err(|e| e.message)?,
        ),
        None => None,
    };
    let t = parse_trace(&switch, d.rec.host.sim.is_some(), args)?;
    if t.consistent && actions.is_none() {
        return Err("-consistent: unknown option".to_owned());
    }
    if let Some(actions) = &actions {
        let port = OfPort(t.key.pkt.in_port as u16);
        let is_usable = port.is_real() || port >= OfPort::MAX;
        if !is_usable {
            return Err("invalid in_port".to_owned());
        }
        let bridge = switch.bridge(t.bridge).ok_or("no such bridge")?;
        bridge.check_packet_out(actions).map_err(|e| format!("Bad actions: {}", e.name()))?;
    }
    let request = TraceRequest {
        bridge: t.bridge,
        key: &t.key,
        is_real: t.packet.is_some(),
        ct_next: &t.ct_next,
        actions: actions.as_deref(),
        names: t.names,
    };
    let table = d.dp.conntrack();
    let refusals = |key: &FlowKey, ct: &CtRequest| {
        let is_waiting = is_reassembled(d, key);
        let (info, ..) = (!is_waiting).then(|| peek(table, now, key, t.packet.as_ref(), ct))?;
        // Of a flow it cannot be known whether a packet is valid, but that a connection has no room.
        let invalid = info.invalid.filter(|_| t.packet.is_some());
        let refused =
            refusal(info.outcome).map(|why| format!("conntrack refuses the connection: {why}"));
        refused.or_else(|| Some(format!("conntrack: invalid. {}", invalid?.text())))
    };
    let done = switch.trace(now, &request, &refusals);
    drop(switch);
    d.world.apply(now, &done.effects);
    if let Some(packet) = &t.packet {
        for (key, actions) in &done.actions {
            d.dp.execute(now, packet, key, actions);
        }
    }
    Ok(done.text)
}

/// `sekisho/why`: a packet's way and the reasons. Unlike a trace it asks the connection tracker itself,
/// unless `--ct-next` says what to assume.
fn why(d: &mut Daemon, args: &[String]) -> Text {
    let now = d.clock.now();
    let switch = d.world.switch.read();
    let t = parse_trace(&switch, d.rec.host.sim.is_some(), args)?;
    if t.consistent {
        return Err("-consistent: unknown option".to_owned());
    }
    let table = d.dp.conntrack();
    let mut assumed = t.ct_next.iter();
    let mut tracker = |key: &FlowKey, request: &CtRequest, resumes: bool| {
        if resumes && let Some(&state) = assumed.next() {
            let pkt = PacketKey { ct_state: state, ct_zone: request.zone.0, ..key.pkt };
            return verdict(pkt, "as --ct-next says".to_owned());
        }
        match is_reassembled(d, key) {
            true => ask_fragment(table, now, key, request),
            false => ask(table, now, key, t.packet.as_ref(), request),
        }
    };
    Ok(switch.why(now, t.bridge, &t.key, &mut tracker))
}

/// Whether a packet is a fragment that waits for the others of its datagram.
fn is_reassembled(d: &Daemon, key: &FlowKey) -> bool {
    let is_v6 = key.pkt.dl_type == ethertype::IPV6;
    key.pkt.nw_frag & nw_frag::ANY != 0 && d.dp.fragments().config().rules(is_v6).enabled
}

/// Why a connection is not committed.
fn refusal(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::TableFull => Some("the table of connections is full (dpctl/ct-set-maxconns)"),
        Outcome::ZoneFull => {
            Some("the zone has as many connections as it may (dpctl/ct-set-limits)")
        }
        Outcome::NatExhausted => Some("no address and port is free to translate it to"),
        Outcome::None | Outcome::Inserted | Outcome::Updated => None,
    }
}

/// What is as it was asked for.
fn verdict(key: PacketKey, why: String) -> Verdict {
    Verdict { key, why, is_refused: false, is_dropped: None }
}

/// What the connection tracker would say of a packet, the connection it is of, the key as it would be,
/// and what was assumed.
fn peek(
    table: &datapath::CtTable,
    now: base::Instant,
    key: &FlowKey,
    packet: Option<&PacketBuf>,
    request: &CtRequest,
) -> (CtInfo, Option<ConnSnapshot>, PacketKey, &'static str) {
    let of_key = |k: &PacketKey| {
        let mut packet = PacketBuf::from_frame(&flow::compose(k, &[], 0));
        let mut read = PacketKey::ZERO;
        extract(&mut packet, &mut read);
        packet
    };
    let made;
    let mut note = "";
    let packet = match packet {
        Some(packet) => packet,
        None => {
            let mut k = key.pkt;
            if k.nw_proto == ipproto::TCP && k.tcp_flags == 0 {
                // No TCP packet is without flags: one that opens, or one of what is open.
                k.tcp_flags = tcp_flag::SYN;
                note = " (taken for a SYN: the flow says no tcp_flags)";
                if table.peek(now, &of_key(&k), &k, request).1.is_some() {
                    k.tcp_flags = tcp_flag::ACK;
                    note = " (taken for an ACK: the flow says no tcp_flags)";
                }
            }
            made = of_key(&k);
            &made
        }
    };
    let (info, conn, pkt) = table.peek(now, packet, &key.pkt, request);
    (info, conn, pkt, note)
}

/// What the connection tracker would make of a packet, and why.
fn ask(
    table: &datapath::CtTable,
    now: base::Instant,
    key: &FlowKey,
    packet: Option<&PacketBuf>,
    request: &CtRequest,
) -> Verdict {
    let (info, conn, pkt, note) = peek(table, now, key, packet, request);
    let refused = refusal(info.outcome);
    let why = match (info.invalid, conn) {
        (Some(reason), _) => reason.text().to_owned(),
        (None, Some(c)) => {
            let way = match info.dir {
                Dir::Orig => "in the direction that opened it",
                Dir::Reply => "in the direction of answers",
            };
            let line = DumpLine(&c, DumpOptions::default());
            let what = match info.state.contains(CtState::REL) {
                true => "it is about a connection that is known",
                false if info.state.contains(CtState::NEW) => {
                    "it is of a connection that was committed and has not been answered"
                }
                false => "it is of a connection that is known",
            };
            format!("{what}, {way}{note}: {line}")
        }
        (None, None) => {
            let but = match refused {
                Some(why) => format!(", but {why}"),
                None if info.outcome == Outcome::Inserted && table.is_full() => {
                    ", in the place of one that was not answered, as the table is full".to_owned()
                }
                None => String::new(),
            };
            format!("no connection between these ends is known: it would begin one{note}{but}")
        }
    };
    let is_dropped =
        (info.outcome == Outcome::NatExhausted).then_some(dpif::DropReason::NatExhausted);
    let is_refused = refused.is_some() || info.invalid.is_some();
    Verdict { key: pkt, why, is_refused, is_dropped }
}

/// The same of a fragment, which gets the verdict of its datagram.
fn ask_fragment(
    table: &datapath::CtTable,
    now: base::Instant,
    key: &FlowKey,
    request: &CtRequest,
) -> Verdict {
    let wait = "a fragment waits until its datagram is whole, and gets its verdict";
    if key.pkt.nw_frag & nw_frag::LATER != 0 {
        let ct_state = ct_state::TRK | ct_state::NEW;
        let pkt = PacketKey { ct_state, ct_zone: request.zone.0, ..key.pkt };
        let why = format!(
            "{wait}; this one does not say what the datagram is: taken for one that begins a connection \
             (--ct-next=STATE assumes something else)"
        );
        return verdict(pkt, why);
    }
    let pkt = PacketKey { nw_frag: 0, ..key.pkt };
    let whole = ask(table, now, &FlowKey { pkt, ..*key }, None, request);
    let pkt = PacketKey { nw_frag: key.pkt.nw_frag, ..whole.key };
    Verdict { key: pkt, why: format!("{wait}: {}", whole.why), ..whole }
}

/// Reads a flow in the datapath's words.
fn datapath_key(switch: &Switch, text: &str) -> Result<PacketKey, String> {
    let by_name = |name: &str| {
        let (bridge, port) = switch.port_of_interface(name)?;
        Some(switch.bridge(bridge)?.port(port)?.spec.dp_port)
    };
    let (key, _) =
        dpif::text::parse_key(text, &by_name).map_err(|e| format!("syntax error at {}", e.at))?;
    Ok(key)
}

/// The bridge that the port of a datapath's flow is on, and the flow there.
fn datapath_flow(switch: &Switch, key: PacketKey) -> Result<(&Bridge, FlowKey), String> {
    if key.recirc_id != 0 && switch.recircs().get(base::RecircId(key.recirc_id)).is_none() {
        return Err(format!("no recirculation data for recirc_id {:#x}", key.recirc_id));
    }
    let no_port = || format!("no OpenFlow port for datapath port {}", key.in_port);
    let (bridge, port) = switch.port_of_dp(base::DpPort(key.in_port)).ok_or_else(no_port)?;
    let bridge = switch.bridge(bridge).ok_or_else(no_port)?;
    let mut flow = FlowKey::from(key);
    flow.pkt.in_port = u32::from(port.0);
    flow::extract::forget_deep_tags(&mut flow.pkt);
    Ok((bridge, flow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_states_in_any_spelling() {
        for text in ["trk,est", "est|trk", "+trk+est", "trk est"] {
            assert_eq!(parse_ct_state(text), Ok(0x22), "{text}");
        }
        let refused = |text: &str| parse_ct_state(text).unwrap_err();
        assert_eq!(refused("bogus"), "bogus: unknown connection tracking state flag");
        assert_eq!(
            refused("new,est"),
            "new|est: invalid connection state: If \"trk\" is unset, no other flags are set\n\
             new|est: invalid connection state: \"new\" and \"est\" are mutually exclusive\n"
        );
        assert!(refused("trk,inv,rel").contains("only \"trk\" may also be set"));
        assert!(refused("trk,new,rpl").contains("\"new\" and \"rpy\""));
    }
}
