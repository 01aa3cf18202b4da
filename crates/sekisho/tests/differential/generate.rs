//! Random flow tables and packets.
//!
//! Everything follows from a seed. Tables are such that both switches take them: fields have their
//! prerequisites, and packets move on to later tables only, so that every pipeline ends.

use std::collections::HashSet;
use std::fmt::Write;

use flow::text::{Mode, NoNames};
use openflow::FlowModCommand;
use openflow::protocol::Protocols;
use openflow::text::parse_flow;

use crate::actions::{Place, actions, group};
use crate::fields::{KINDS, Kind, L2, PIPELINE, kind_of, value, wanted, wanted_of_any};
use crate::frames::frame;

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Tables that rules stand in; a packet enters the first.
pub const N_TABLES: usize = 6;
pub const N_GROUPS: usize = 4;

/// A flow table and groups, line by line as `add-flows` and `add-groups` read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub groups: Vec<String>,
    pub flows: Vec<String>,
}

/// Where a packet enters, and its headers as a flow or, behind a space, its bytes.
pub type Packet = (usize, String);

/// A table of rules with groups.
pub fn table(rng: &mut Rng) -> Table {
    let n = match rng.below(10) {
        0 => 1 + rng.below(3),
        1 => 150 + rng.below(50),
        _ => 5 + rng.below(40),
    };
    let mut groups: Vec<String> = (1..=N_GROUPS).map(|id| group(rng, id)).collect();
    let mut priorities = Priorities::default();
    let mut flows: Vec<String> = Vec::new();
    while flows.len() < n {
        let line = flow(rng, &mut priorities);
        if is_sayable(&line) {
            flows.push(line);
        }
    }
    for id in 1..=rng.below(4) {
        conjunction(rng, id, &mut priorities, &mut flows);
    }
    apart(rng, &mut flows, &mut groups);
    Table { groups, flows }
}

/// Keeps apart what the stock switch cannot do together.
fn apart(rng: &mut Rng, flows: &mut Vec<String>, groups: &mut [String]) {
    let has = |line: &str, words: &[&str]| words.iter().any(|w| line.contains(w));
    // OVS 3.1 ends with a failed assertion if a packet with an action set is tracked.
    const TRACKING: &[&str] = &["=ct(", ",ct(", "(ct("];
    // A packet that `check_pkt_larger` finds to be no longer has no action set and stack in OVS up to 3.7,
    // and the headers that were to be put around a longer one, of which 3.1 dies too.
    const LENGTH: &[&str] = &["check_pkt_larger"];
    const SET: &[&str] = &["write_actions"];
    const STACK_AND_HEADERS: &[&str] = &["push:", "pop:", "encap(", "decap("];
    // In a trace it does not end to be frozen by what pauses in a list of its own.
    const PAUSE: &[&str] = &["pause"];
    const OWN_LIST: &[&str] = &["clone("];
    // A label on what has no Ethernet header makes it show the tuple of a connection that there is not.
    const DECAP: &[&str] = &["decap("];
    const LABEL: &[&str] = &["push_mpls"];
    let headers = if rng.once_in(2) { DECAP } else { LABEL };
    // What a packet that is traced, or one of two lengths, learns is there for its own later passes in
    // stock, and for the next packet only here.
    const LEARN: &[&str] = &["learn("];
    let without = match rng.below(4) {
        0 => [headers, SET, STACK_AND_HEADERS, PAUSE, LEARN],
        1 => [headers, SET, LENGTH, PAUSE, LEARN],
        2 => [headers, TRACKING, LENGTH, PAUSE, &[]],
        _ => [headers, TRACKING, LENGTH, OWN_LIST, &[]],
    };
    flows.retain(|l| !without.iter().any(|w| has(l, w)));
    // Packets that begin with NSH all hash to 0, by which stock knows those that are not hashed yet.
    let nsh = flows.iter().any(|l| l.contains("encap(nsh"));
    for g in groups {
        if nsh {
            *g = g.replace(
                "selection_method=dp_hash,selection_method_param=3",
                "selection_method=hash",
            );
            *g = g.replace("type=select,bucket", "type=select,selection_method=hash,bucket");
        }
        if without.contains(&LENGTH) {
            *g = g.replace("check_pkt_larger(100)->NXM_NX_REG0[0],", "");
        }
        if without.contains(&PAUSE) {
            *g = g.replace("pause", "id=1");
        }
        if without.contains(&LABEL) {
            *g = g.replace("push_mpls:0x8847,set_field:16->mpls_label,", "");
        }
    }
}

/// Whether OpenFlow 1.5 can say a flow, and its fields and actions go together. That the reader of
/// flows says so of the same as the stock one is another test's, of the vocabulary.
fn is_sayable(line: &str) -> bool {
    parse_flow(line, FlowModCommand::Add, &NoNames, Mode::Ovs)
        .is_ok_and(|p| p.usable.contains(Protocols::OF15_UP))
}

/// Priorities that rules have, by table. Each has its own, since of those of one priority either may
/// be found.
#[derive(Default)]
struct Priorities(HashSet<(usize, usize)>);

impl Priorities {
    fn new_one(&mut self, rng: &mut Rng, table: usize) -> usize {
        loop {
            // Those that end in 5, and those above, are of learned rules.
            let priority = 10 * rng.below(60) + rng.below(5);
            if self.0.insert((table, priority)) {
                return priority;
            }
        }
    }
}

/// A conjunctive match: clauses that each has several ways to meet, and what then is done.
fn conjunction(rng: &mut Rng, id: usize, priorities: &mut Priorities, flows: &mut Vec<String>) {
    const CLAUSES: &[(&str, &[&str])] = &[
        ("", &["in_port", "dl_src", "dl_dst", "reg0", "metadata", "vlan_vid", "pkt_mark"]),
        ("ip", &["nw_src", "nw_dst", "nw_ttl", "nw_proto", "in_port", "dl_dst"]),
        ("tcp", &["nw_src", "nw_dst", "tp_src", "tp_dst", "dl_src", "tcp_flags"]),
        ("ipv6", &["ipv6_src", "ipv6_dst", "ipv6_label", "nw_proto", "in_port"]),
        ("udp", &["nw_src", "nw_dst", "tp_src", "tp_dst", "reg0"]),
        ("arp", &["arp_spa", "arp_tpa", "arp_op", "dl_src"]),
        ("mpls", &["mpls_label", "mpls_ttl", "dl_src", "in_port"]),
    ];
    let (word, fields) = CLAUSES[rng.below(CLAUSES.len())];
    let table = rng.below(N_TABLES).min(rng.below(N_TABLES));
    let start = format!("table={table},priority={},{word}", priorities.new_one(rng, table));
    let n = 2 + rng.below(2);
    let first = rng.below(fields.len());
    for clause in 0..n {
        let field = fields[(first + clause) % fields.len()];
        let mut ways: Vec<String> = (0..1 + rng.below(3)).map(|_| wanted(rng, field)).collect();
        ways.sort();
        ways.dedup();
        for way in ways {
            let clause = clause + 1;
            flows.push(format!("{start},{way},actions=conjunction({id},{clause}/{n})"));
        }
    }
    let mut kind = kind_of(word);
    let place = Place { table, nested: 0, tracked: false };
    let line = format!("{start},conj_id={id},actions={}", actions(rng, &mut kind, place));
    if is_sayable(&line) {
        flows.push(line);
    }
}

fn flow(rng: &mut Rng, priorities: &mut Priorities) -> String {
    // Most rules where packets come first, and some that any packet meets.
    let table = rng.below(N_TABLES).min(rng.below(N_TABLES));
    let kind = if rng.once_in(3) { &KINDS[0] } else { &KINDS[rng.below(KINDS.len())] };
    let mut line = format!("table={table},priority={}", priorities.new_one(rng, table));
    if !kind.word.is_empty() {
        let _ = write!(line, ",{}", kind.word);
    }
    let mut used: Vec<&str> = Vec::new();
    for _ in 0..rng.below(4) {
        let pool = match rng.below(4) {
            0 => L2,
            1 => PIPELINE,
            _ => kind.fields,
        };
        let field = rng.pick(pool);
        if !kind.is_ethernet() && L2.contains(&field) {
            continue;
        }
        let clash = |u: &&str| *u == field || (field.contains("vlan") && u.contains("vlan"));
        // Registers overlap.
        let clash = used.iter().any(|u| clash(u) || (field.contains("reg") && u.contains("reg")));
        if !clash {
            let _ = write!(line, ",{}", wanted(rng, field));
            used.push(field);
        }
    }
    if let Some(said) = rng.once_in(2).then(|| wanted_of_any(rng, kind)).flatten() {
        let name = said.split('=').next().unwrap_or_default();
        // Said twice, the first is forgotten or the rule refused.
        if !line.contains("ct_") && !line.contains(name) && !name.contains("reg") {
            line += &format!(",{said}");
        }
    }
    let place = Place { table, nested: 0, tracked: line.contains("ct_state=+") };
    let mut actions = actions(rng, &mut { kind }, place);
    // Since OpenFlow 1.1 a tag is only taken off packets that are known to have one.
    if actions.contains("strip_vlan") || actions.contains("pop_vlan") {
        if line.contains("vlan") || !kind.is_ethernet() {
            actions = actions.replace("strip_vlan", "note:02").replace("pop_vlan", "output:3");
        } else {
            line += ",vlan_vid=0x1000/0x1000";
        }
    }
    let cookie = rng.below(4);
    line + &format!(",cookie={cookie},actions={actions}")
}

/// Packets, some of which answer others or come again.
pub fn packets(rng: &mut Rng, n: usize) -> Vec<Packet> {
    let mut all: Vec<Packet> = Vec::new();
    while all.len() < n {
        let (port, said) = match rng.below(8) {
            0 if !all.is_empty() => all[rng.below(all.len())].clone(),
            1 | 2 if !all.is_empty() => {
                let (_, asked) = &all[rng.below(all.len())];
                answer(1 + rng.below(4), asked)
            }
            _ => packet(rng),
        };
        all.push((port, said));
    }
    all
}

/// A packet of the same connection that goes the other way, if `asked` is given as a flow.
fn answer(port: usize, asked: &str) -> Packet {
    let turned = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let name = match (name.strip_suffix("src"), name.strip_suffix("dst")) {
            (Some(start), _) => format!("{start}dst"),
            (_, Some(start)) => format!("{start}src"),
            _ if name == "in_port" => return Some(format!("in_port={port}")),
            _ => return None,
        };
        Some(format!("{name}={value}"))
    };
    if asked.contains(' ') {
        let bytes = asked.split(' ').next_back().unwrap_or_default();
        return (port, format!("in_port={port} {bytes}"));
    }
    let words = asked.split(',').map(|w| turned(w).unwrap_or_else(|| w.to_owned()));
    (port, words.collect::<Vec<_>>().join(","))
}

fn packet(rng: &mut Rng) -> Packet {
    let port = 1 + rng.below(4);
    if rng.once_in(2) {
        let hex: String = frame(rng).iter().map(|b| format!("{b:02x}")).collect();
        return (port, format!("in_port={port} {hex}"));
    }
    // What is between a rule's kinds is a packet's too.
    let kind = &KINDS[1 + rng.below(KINDS.len() - 1)];
    if !kind.is_ethernet() {
        return packet(rng);
    }
    (port, headers(rng, port, kind))
}

/// The headers of a packet of a kind as a flow.
fn headers(rng: &mut Rng, port: usize, kind: &Kind) -> String {
    let mut flow = format!("in_port={port},{}", kind.word);
    for field in ["dl_src", "dl_dst"] {
        let _ = write!(flow, ",{field}={}", value(rng, field));
    }
    if rng.once_in(3) {
        let _ =
            write!(flow, ",dl_vlan={},dl_vlan_pcp={}", rng.pick(&["10", "20", "0"]), rng.below(8));
    }
    for &field in kind.fields {
        let value = match field {
            // A packet is a fragment or not.
            "ip_frag" => {
                if rng.once_in(4) { rng.pick(&["first", "later"]) } else { "no" }.to_owned()
            }
            "mpls_bos" => "1".to_owned(),
            "tcp_flags" => rng.pick(&["0x002", "0x010", "0x012", "0x011"]).to_owned(),
            // Protocols with headers of their own are kinds of their own.
            "nw_proto" => rng.pick(&["47", "2", "0xfd"]).to_owned(),
            _ => value(rng, field),
        };
        let field = match field.strip_prefix("tp_") {
            Some(end) => format!("{}_{end}", kind.word.trim_end_matches('6')),
            None if kind.word == "icmp6" => field.replace("icmp_", "icmpv6_"),
            None => field.to_owned(),
        };
        let _ = write!(flow, ",{field}={value}");
    }
    if !kind.fields.contains(&"nw_ttl") && kind.is_ip() {
        let _ = write!(flow, ",nw_ttl={}", rng.pick(&["1", "64"]));
    }
    flow
}
