//! The generator with more in it: conjunctions, labels, frames of all shapes, more fields and actions.
//! What it found is not settled yet; then it takes the place of [`crate::generate`].
//!
//! Everything follows from a seed. Tables are such that both switches take them: fields have their
//! prerequisites, and packets move on to later tables only, so that every pipeline ends.

use std::fmt::Write;

use crate::frames::frame;
use crate::generate::{Rng, Table};

/// Tables that rules stand in; a packet enters the first.
const N_TABLES: usize = 6;

/// What a rule is about: the word that says so, and the fields that exist then.
struct Kind {
    word: &'static str,
    fields: &'static [&'static str],
    /// Fields that actions may change too.
    writable: &'static [&'static str],
}

const L2: &[&str] = &["dl_src", "dl_dst", "vlan_tci", "dl_vlan", "vlan_vid"];
const PIPELINE: &[&str] = &[
    "in_port",
    "in_port_oxm",
    "metadata",
    "reg0",
    "reg1",
    "reg15",
    "xreg1",
    "xxreg1",
    "ct_state",
    "ct_zone",
    "ct_mark",
    "ct_label",
    "pkt_mark",
    "tun_id",
    "tun_src",
    "tun_metadata0",
    "actset_output",
];
const WRITABLE: &[&str] = &[
    "eth_src",
    "eth_dst",
    "metadata",
    "reg0",
    "reg1",
    "reg15",
    "xreg1",
    "xxreg1",
    "pkt_mark",
    "tun_id",
    "tun_src",
    "tun_ipv6_dst",
    "tun_metadata0",
    "in_port",
];

const KINDS: &[Kind] = &[
    Kind { word: "", fields: &["dl_type"], writable: &[] },
    Kind {
        word: "arp",
        fields: &["arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"],
        writable: &["arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"],
    },
    Kind {
        word: "ip",
        fields: &["nw_src", "nw_dst", "nw_proto", "nw_tos", "ip_ecn", "nw_ttl", "ip_frag"],
        writable: &["ip_src", "ip_dst", "ip_dscp", "ip_ecn", "nw_ttl"],
    },
    Kind {
        word: "tcp",
        fields: &["nw_src", "nw_dst", "tp_src", "tp_dst", "tcp_flags", "nw_ttl"],
        writable: &["ip_src", "ip_dst", "nw_ttl", "tcp_src", "tcp_dst"],
    },
    Kind {
        word: "udp",
        fields: &["nw_src", "nw_dst", "tp_src", "tp_dst"],
        writable: &["ip_src", "ip_dst", "ip_dscp", "udp_src", "udp_dst"],
    },
    Kind {
        word: "icmp",
        fields: &["nw_src", "icmp_type", "icmp_code"],
        writable: &["ip_src", "icmp_type", "icmp_code"],
    },
    Kind {
        word: "sctp",
        fields: &["nw_dst", "tp_src", "tp_dst"],
        writable: &["ip_dst", "sctp_src", "sctp_dst"],
    },
    Kind {
        word: "ipv6",
        fields: &["ipv6_src", "ipv6_dst", "ipv6_label", "nw_proto", "nw_tos", "nw_ttl", "ip_frag"],
        writable: &["ipv6_src", "ipv6_dst", "ipv6_label", "ip_dscp", "nw_ttl"],
    },
    Kind {
        word: "tcp6",
        fields: &["ipv6_src", "tp_src", "tp_dst", "tcp_flags"],
        writable: &["ipv6_src", "tcp_src", "tcp_dst"],
    },
    Kind {
        word: "udp6",
        fields: &["ipv6_dst", "tp_src", "tp_dst"],
        writable: &["ipv6_dst", "udp_src", "udp_dst"],
    },
    Kind {
        word: "icmp6",
        fields: &["ipv6_src", "icmp_type", "icmp_code"],
        writable: &["ipv6_src", "icmpv6_type", "icmpv6_code"],
    },
    Kind {
        word: "icmp6,icmpv6_type=135,icmpv6_code=0",
        fields: &["nd_target", "nd_sll"],
        writable: &["nd_target", "nd_sll", "nd_reserved", "ipv6_src"],
    },
    Kind {
        word: "icmp6,icmpv6_type=136,icmpv6_code=0",
        fields: &["nd_target", "nd_tll"],
        writable: &["nd_target", "nd_tll", "nd_reserved", "nd_options_type"],
    },
    Kind {
        word: "mpls",
        fields: &["mpls_label", "mpls_tc", "mpls_bos", "mpls_ttl"],
        writable: &["mpls_label", "mpls_tc", "mpls_ttl"],
    },
    Kind {
        word: "mplsm",
        fields: &["mpls_label", "mpls_bos", "mpls_ttl"],
        writable: &["mpls_label", "mpls_ttl"],
    },
    Kind {
        word: "rarp",
        fields: &["arp_op", "arp_spa", "arp_sha"],
        writable: &["arp_spa", "arp_tpa", "arp_sha"],
    },
];

fn kind_of(word: &str) -> &'static Kind {
    KINDS.iter().find(|k| k.word == word).unwrap_or(&KINDS[0])
}

const MACS: &[&str] = &[
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "02:00:00:00:00:03",
    "01:00:5e:00:00:05",
    "ff:ff:ff:ff:ff:ff",
    "01:80:c2:00:00:00",
];
const IPS: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.0.1"];
const IP6S: &[&str] = &["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1"];
const PORTS: &[&str] = &["1", "80", "81", "1000", "65535"];

/// A value for a field, as packets have it.
fn value(rng: &mut Rng, field: &str) -> String {
    let text = match field {
        "in_port" | "in_port_oxm" | "actset_output" => rng.pick(&["1", "2", "3", "4"]),
        "dl_src" | "eth_src" | "arp_sha" | "nd_sll" => rng.pick(&MACS[..3]),
        "vlan_vid" => rng.pick(&["4106", "4116", "4096"]),
        "nd_options_type" => rng.pick(&["0", "1", "2"]),
        "nd_reserved" => rng.pick(&["0", "0x80000000", "5"]),
        "dl_dst" | "eth_dst" | "arp_tha" | "nd_tll" => rng.pick(MACS),
        "dl_vlan" => rng.pick(&["10", "20", "0"]),
        "dl_type" => rng.pick(&["0x0800", "0x86dd", "0x0806", "0x1234"]),
        "arp_op" => rng.pick(&["1", "2"]),
        "arp_spa" | "arp_tpa" | "nw_src" | "nw_dst" | "ip_src" | "ip_dst" | "tun_src" => {
            rng.pick(IPS)
        }
        "ipv6_src" | "ipv6_dst" | "nd_target" | "tun_ipv6_dst" => rng.pick(IP6S),
        "ipv6_label" => rng.pick(&["0", "0x1", "0xfffff"]),
        "nw_proto" => rng.pick(&["6", "17", "1", "47", "132"]),
        "nw_tos" => rng.pick(&["0", "4", "252"]),
        "ip_dscp" => rng.pick(&["0", "1", "63"]),
        "ip_ecn" => rng.pick(&["0", "1", "3"]),
        "nw_ttl" | "mpls_ttl" => rng.pick(&["0", "1", "2", "64", "255"]),
        "ip_frag" => rng.pick(&["no", "yes", "first", "later", "not_later"]),
        "tcp_flags" => rng.pick(&["syn", "ack", "syn|ack", "fin|ack"]),
        "icmp_type" | "icmpv6_type" => rng.pick(&["0", "8", "3", "128", "129"]),
        "icmp_code" | "icmpv6_code" | "mpls_bos" => rng.pick(&["0", "1"]),
        "mpls_label" => rng.pick(&["0", "16", "1048575"]),
        "mpls_tc" => rng.pick(&["0", "5"]),
        "ct_zone" => rng.pick(&["0", "7"]),
        _ if field.contains("tp_") || field.ends_with("_src") || field.ends_with("_dst") => {
            rng.pick(PORTS)
        }
        // Registers, marks, metadata.
        _ => rng.pick(&["0", "0x1", "0x2", "0x80000001"]),
    };
    text.to_owned()
}

/// What a rule wants of a field, perhaps with a mask.
fn wanted(rng: &mut Rng, field: &str) -> String {
    let mask = match field {
        "vlan_tci" => {
            // Those that OpenFlow 1.5 can say.
            let forms = &["vlan_tci=0x0000/0x1fff", "vlan_vid=0x1000/0x1000", "dl_vlan_pcp=5"];
            return rng.pick(forms).to_owned();
        }
        "ct_state" => {
            return format!(
                "ct_state={}",
                rng.pick(&[
                    "+trk",
                    "-trk",
                    "+new+trk",
                    "+est+trk",
                    "-new+trk",
                    "+inv",
                    "0x20/0x21"
                ])
            );
        }
        "tcp_flags" if rng.once_in(2) => {
            return format!("tcp_flags={}", rng.pick(&["+syn-ack", "+ack", "-rst", "0x010/0x012"]));
        }
        "nw_src" | "nw_dst" | "arp_spa" | "arp_tpa" => {
            rng.pick(&["", "/8", "/24", "/31", "/255.0.0.255", "/0.0.255.1"])
        }
        "ipv6_src" | "ipv6_dst" | "nd_target" => {
            rng.pick(&["", "/32", "/64", "/127", "/ffff::ffff"])
        }
        "dl_src" => rng.pick(&["", "/ff:ff:ff:00:00:00", "/00:00:00:00:00:03"]),
        "dl_dst" => rng.pick(&["", "/01:00:00:00:00:00", "/00:00:00:00:00:ff"]),
        "tp_src" | "tp_dst" => rng.pick(&["", "", "/0xfff0", "/0x1"]),
        "metadata" | "reg0" | "reg1" | "reg15" | "xreg1" | "xxreg1" | "ct_mark" | "ct_label"
        | "pkt_mark" | "tun_id" | "tun_metadata0" => rng.pick(&["", "/0x1", "/0xffff0000"]),
        "vlan_vid" => rng.pick(&["", "/0x1001"]),
        _ => "",
    };
    let value = value(rng, field);
    // A mask that leaves nothing of the value is refused by neither, but says nothing either.
    format!("{field}={value}{mask}")
}

/// A table of rules with groups.
pub fn table(rng: &mut Rng) -> Table {
    let n = match rng.below(10) {
        0 => 1 + rng.below(3),
        1 => 150 + rng.below(50),
        _ => 5 + rng.below(40),
    };
    let groups = (1..=N_GROUPS).map(|id| group(rng, id)).collect();
    // OVS 3.1 ends with a failed assertion if a packet with an action set is tracked.
    let tracks = rng.once_in(2);
    // What is not IP, as under a label, our tracker leaves untracked; theirs says `+inv`.
    let apart = |l: &String| l.contains("write_actions") || l.contains("push_mpls");
    let taken = |l: &String| !if tracks { apart(l) } else { is_tracking(l) };
    let mut flows: Vec<String> = (0..n).map(|_| flow(rng)).collect();
    for id in 1..=rng.below(4) {
        conjunction(rng, id, &mut flows);
    }
    flows.retain(taken);
    Table { groups, flows }
}

/// A conjunctive match: clauses that each has several ways to meet, and what then is done.
///
/// Its priority is its own, since of rules of one priority either may be found.
fn conjunction(rng: &mut Rng, id: usize, flows: &mut Vec<String>) {
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
    let start = format!("table={table},priority={},{word}", 10 * rng.below(5) + id);
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
    let actions = actions(rng, &mut kind, table, 0);
    if !actions.contains("strip_vlan") && !actions.contains("pop_vlan") {
        flows.push(format!("{start},conj_id={id},actions={actions}"));
    }
}

/// Whether some action of a flow, nested ones included, sends the packet through the tracker.
fn is_tracking(line: &str) -> bool {
    ["=ct(", ",ct(", "(ct("].iter().any(|w| line.contains(w))
}

fn flow(rng: &mut Rng) -> String {
    // Most rules where packets come first, and some that any packet meets.
    let table = rng.below(N_TABLES).min(rng.below(N_TABLES));
    let kind = if rng.once_in(3) { &KINDS[0] } else { &KINDS[rng.below(KINDS.len())] };
    let mut line = format!("table={table},priority={}", rng.below(5) * 10);
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
        let clash = |u: &&str| *u == field || (field.contains("vlan") && u.contains("vlan"));
        // Registers overlap.
        let clash = used.iter().any(|u| clash(u) || (field.contains("reg") && u.contains("reg")));
        if !clash {
            let _ = write!(line, ",{}", wanted(rng, field));
            used.push(field);
        }
    }
    let mut actions = actions(rng, &mut { kind }, table, 0);
    // Since OpenFlow 1.1 a tag is only taken off packets that are known to have one.
    if actions.contains("strip_vlan") || actions.contains("pop_vlan") {
        if used.iter().any(|u| u.contains("vlan")) {
            actions = actions.replace("strip_vlan", "note:02").replace("pop_vlan", "output:3");
        } else {
            line += ",vlan_vid=0x1000/0x1000";
        }
    }
    let cookie = rng.below(4);
    line + &format!(",cookie={cookie},actions={actions}")
}

/// A list of actions for packets of a kind in a table; `nested` in another list.
///
/// `kind` changes with the packet: its protocol is another under a label.
fn actions(rng: &mut Rng, kind: &mut &'static Kind, table: usize, nested: usize) -> String {
    if nested == 0 && rng.once_in(20) {
        return "drop".to_owned();
    }
    let mut list = Vec::new();
    for _ in 0..1 + rng.below(4) {
        list.push(action(rng, kind, table, nested));
    }
    // Instructions have their order, and only the last of a list moves on.
    if nested == 0 && rng.once_in(4) {
        let mut set: Vec<String> = (0..1 + rng.below(3)).map(|_| in_set(rng, kind)).collect();
        set.dedup();
        list.push(format!("write_actions({})", set.join(",")));
    }
    if nested == 0 && rng.once_in(6) {
        list.push(format!("write_metadata:{}", rng.pick(&["0x1", "0x2/0x3", "0x80000001"])));
    }
    if nested == 0 && table + 1 < N_TABLES && rng.once_in(3) {
        list.push(format!("goto_table:{}", later(rng, table)));
    }
    list.join(",")
}

fn later(rng: &mut Rng, table: usize) -> usize {
    table + 1 + rng.below(N_TABLES - table - 1)
}

/// An action that may stand in an action set.
fn in_set(rng: &mut Rng, kind: &Kind) -> String {
    match rng.below(8) {
        0 => format!("group:{}", 1 + rng.below(N_GROUPS)),
        1 | 2 => set_field(rng, kind),
        3 => rng.pick(&["pop_vlan", "push_vlan:0x8100", "set_queue:2"]).to_owned(),
        4 if is_ip(kind) => rng.pick(&["dec_ttl", "set_field:7->nw_ttl"]).to_owned(),
        4 if kind.word == "mpls" => "dec_mpls_ttl".to_owned(),
        _ => output(rng),
    }
}

fn output(rng: &mut Rng) -> String {
    match rng.below(14) {
        0 => "in_port",
        1 => "all",
        2 => "flood",
        3 | 4 => "normal",
        5 => "controller",
        6 => "local",
        7 => "output:9",
        n @ 8..=11 => return format!("output:{}", n - 7),
        12 => {
            return format!(
                "controller({})",
                rng.pick(&[
                    "max_len=100,reason=no_match,id=3",
                    "userdata=01.02.03",
                    "pause",
                    "userdata=07,pause,meter_id=1",
                ])
            );
        }
        _ => "output:1",
    }
    .to_owned()
}

fn set_field(rng: &mut Rng, kind: &Kind) -> String {
    let pool = if rng.once_in(2) || kind.writable.is_empty() { WRITABLE } else { kind.writable };
    let field = rng.pick(pool);
    let value = value(rng, field);
    let mask = match field {
        "metadata" | "reg0" | "reg1" | "xreg1" | "xxreg1" | "pkt_mark" if rng.once_in(2) => "/0x1",
        "ip_src" | "ip_dst" if rng.once_in(3) => "/0.0.0.255",
        "eth_src" | "eth_dst" if rng.once_in(3) => "/00:00:00:00:00:ff",
        "tcp_src" | "tcp_dst" | "udp_src" | "udp_dst" if rng.once_in(3) => "/0xff",
        _ => "",
    };
    // The value may have no bit outside the mask.
    let value = match mask {
        "/0x1" => "0x1".to_owned(),
        "/0.0.0.255" => "0.0.0.9".to_owned(),
        "/00:00:00:00:00:ff" => "00:00:00:00:00:09".to_owned(),
        "/0xff" => "9".to_owned(),
        _ => value,
    };
    format!("set_field:{value}{mask}->{field}")
}

fn is_ip(kind: &Kind) -> bool {
    !["", "arp", "rarp", "mpls", "mplsm"].contains(&kind.word)
}

/// Puts a label on, or takes it off and tells what was under it, be that so or not.
fn label(rng: &mut Rng, kind: &mut &'static Kind) -> String {
    if kind.word.starts_with("mpls") && !rng.once_in(3) {
        let (action, under) = [
            ("pop_mpls:0x0800", "ip"),
            ("pop_mpls:0x86dd", "ipv6"),
            ("pop_mpls:0x8847", "mpls"),
            ("pop_mpls:0x1234", ""),
        ][rng.below(4)];
        *kind = kind_of(under);
        return action.to_owned();
    }
    *kind = kind_of(rng.pick(&["mpls", "mpls", "mplsm"]));
    let mut said = format!("push_mpls:{}", if kind.word == "mpls" { "0x8847" } else { "0x8848" });
    if rng.once_in(2) {
        said += &format!(",{}", set_field(rng, kind));
    }
    said
}

/// What only packets of a kind have.
fn of_kind(rng: &mut Rng, kind: &Kind) -> String {
    let of: &[&str] = match kind.word {
        "arp" => &[
            "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
            "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]",
            "move:NXM_OF_ETH_SRC[]->NXM_NX_ARP_SHA[]",
            "load:0x2->NXM_OF_ARP_OP[]",
            "push:NXM_OF_ARP_SPA[],push:NXM_OF_ARP_TPA[],pop:NXM_OF_ARP_SPA[],pop:NXM_OF_ARP_TPA[]",
            "load:0xa000001->NXM_OF_ARP_SPA[]",
        ],
        "mpls" | "mplsm" => &[
            "dec_mpls_ttl",
            "set_mpls_ttl:1",
            "set_mpls_label:77",
            "set_mpls_tc:3",
            "move:OXM_OF_MPLS_LABEL[]->NXM_NX_REG0[0..19]",
            "push:OXM_OF_MPLS_LABEL[],pop:NXM_NX_REG1[0..19]",
        ],
        "tcp" | "tcp6" => &[
            "fin_timeout(idle_timeout=10)",
            "dec_ttl",
            "move:NXM_OF_TCP_SRC[]->NXM_OF_TCP_DST[]",
            "push:NXM_OF_TCP_SRC[],push:NXM_OF_TCP_DST[],pop:NXM_OF_TCP_SRC[],pop:NXM_OF_TCP_DST[]",
            "dec_ttl(1,2)",
        ],
        w if w.starts_with("icmp6,") => &[
            "move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]",
            "load:0x5->NXM_NX_ND_TARGET[0..31]",
            "dec_ttl",
        ],
        _ if is_ip(kind) => {
            &["dec_ttl", "dec_ttl(1,2)", "mod_nw_ttl:1", "mod_nw_tos:16", "dec_ttl"]
        }
        _ => &["load:0x1->NXM_NX_REG1[31]", "exit"],
    };
    rng.pick(of).to_owned()
}

fn action(rng: &mut Rng, kind: &mut &'static Kind, table: usize, nested: usize) -> String {
    let ip = is_ip(kind);
    let moves_on = table + 1 < N_TABLES && nested < 2;
    match rng.below(35) {
        0..=5 => output(rng),
        6..=9 => set_field(rng, kind),
        10 => format!("mod_vlan_vid:{}", rng.pick(&["10", "20"])),
        11 => format!("mod_vlan_pcp:{}", rng.pick(&["0", "5"])),
        12 => "strip_vlan".to_owned(),
        13 => format!("push_vlan:{}", rng.pick(&["0x8100", "0x88a8"])),
        14 => "load:0x5->NXM_NX_REG0[4..11]".to_owned(),
        15 => format!(
            "move:{}",
            rng.pick(&["NXM_NX_REG0[]->NXM_NX_REG1[]", "NXM_OF_ETH_SRC[0..15]->NXM_NX_REG1[16..31]", "NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", "NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]", "NXM_NX_XXREG1[0..31]->NXM_NX_REG0[]"])
        ),
        16 => format!("push:{}", rng.pick(&["NXM_NX_REG0[]", "NXM_OF_ETH_SRC[]", "NXM_NX_REG1[0..7]"])),
        17 => format!("pop:{}", rng.pick(&["NXM_NX_REG0[]", "NXM_OF_ETH_DST[]", "NXM_NX_REG1[0..7]"])),
        18 | 19 => of_kind(rng, kind),
        20 | 21 if moves_on => format!("resubmit(,{})", later(rng, table)),
        22 if moves_on => {
            format!("resubmit({},{})", rng.pick(&["1", "2", "in_port"]), later(rng, table))
        }
        23 | 24 if ip && moves_on => ct(rng, table),
        25 if nested < 2 => format!("clone({})", actions(rng, kind, table, nested + 1)),
        26 => format!("group:{}", 1 + rng.below(N_GROUPS)),
        27 if ip => "ct_clear".to_owned(),
        28 => rng
            .pick(&["note:01.02", "set_queue:3", "pop_queue", "output:NXM_NX_REG0[0..15]", "output(port=2,max_len=64)", "multipath(symmetric_l4,7,modulo_n,4,0,NXM_NX_REG1[0..7])", "multipath(eth_src,0,hrw,3,0,NXM_NX_REG1[0..7])", "bundle(nw_dst,0,hrw,ofport,members:1,2,3)", "bundle_load(symmetric_l3l4,3,active_backup,ofport,NXM_NX_REG0[0..15],members:2,3)",  "sample(probability=32768,collector_set_id=1,obs_domain_id=2,obs_point_id=3)", "learn(table=5,priority=40,idle_timeout=100,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])"])
            .to_owned(),
        29 => "exit".to_owned(),
        30 | 31 => label(rng, kind),
        32 => format!(
            "check_pkt_larger({})->{}",
            rng.pick(&["60", "100", "1000"]),
            rng.pick(&["NXM_NX_REG0[0]", "NXM_NX_REG1[31]", "OXM_OF_METADATA[1]"])
        ),
        33 => rng.pick(SELDOM).to_owned(),
        _ => output(rng),
    }
}

const SELDOM: &[&str] = &[
    "delete_field:tun_metadata0",
    "load:0x5->NXM_NX_TUN_METADATA0[0..3]",
    "move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG0[0..15]",
    "set_tunnel:0x123",
    "meter:1",
    "enqueue:2:1",
    "push:NXM_NX_XXREG1[],pop:NXM_NX_XXREG1[]",
    "push:OXM_OF_METADATA[],pop:NXM_NX_REG1[]",
    "multipath(symmetric_l3l4+udp,1,hash_threshold,5,0,NXM_NX_REG1[0..7])",
    "multipath(nw_src,3,iter_hash,6,0,NXM_NX_REG0[0..7])",
    "bundle(eth_src,7,active_backup,ofport,members:2,4)",
    "bundle_load(nw_src,0,hrw,ofport,NXM_NX_REG1[0..15],members:1,4)",
    "learn(table=4,priority=35,idle_timeout=60,hard_timeout=90,cookie=0x9,eth_type=0x800,nw_proto=6,\
     NXM_OF_IP_SRC[]=NXM_OF_IP_DST[],NXM_OF_TCP_SRC[]=NXM_OF_TCP_DST[],\
     load:0x2->NXM_NX_REG1[0..3],output:NXM_OF_IN_PORT[])",
    "learn(table=3,priority=45,limit=2,result_dst=NXM_NX_REG0[8],NXM_OF_VLAN_TCI[0..11],\
     NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_NX_REG1[]->NXM_NX_REG0[])",
    "learn(table=2,priority=55,delete_learned,fin_idle_timeout=5,in_port=2,reg0[0..3]=1)",
];

fn ct(rng: &mut Rng, table: usize) -> String {
    let mut parts: Vec<String> = Vec::new();
    let commit = rng.once_in(2);
    if commit {
        parts.push("commit".to_owned());
        if rng.once_in(3) {
            parts.push("force".to_owned());
        }
    }
    if rng.once_in(2) {
        parts.push(format!("zone={}", rng.pick(&["7", "NXM_NX_REG1[0..15]"])));
    }
    if !commit || rng.once_in(2) {
        parts.push(format!("table={}", later(rng, table)));
    }
    if commit && rng.once_in(2) {
        parts.push(format!(
            "exec({})",
            rng.pick(&[
                "set_field:0x5->ct_mark",
                "set_field:0x1/0x1->ct_mark",
                "load:0x7->NXM_NX_CT_LABEL[0..31]",
                "move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]"
            ])
        ));
    }
    format!("ct({})", parts.join(","))
}

const N_GROUPS: usize = 4;

fn group(rng: &mut Rng, id: usize) -> String {
    let kind = rng.pick(&["all", "indirect", "ff", "select"]);
    let n = if kind == "indirect" { 1 } else { 1 + rng.below(3) };
    let mut line = format!("group_id={id},type={kind}");
    // What is chosen by the datapath's own hash is comparable only if all buckets are alike.
    let by_hash = kind == "select" && rng.once_in(3);
    if by_hash {
        line += rng.pick(&["", ",selection_method=dp_hash,selection_method_param=3"]);
    } else if kind == "select" {
        line += ",selection_method=hash,fields(eth_src,ip_dst)";
    }
    let mut buckets: Vec<String> = Vec::new();
    for _ in 0..n {
        let watch =
            if kind == "ff" { format!("watch_port:{},", 1 + rng.below(4)) } else { String::new() };
        // No group of a higher number, so that none leads back to itself.
        let action = match rng.below(6) {
            4 => "push_mpls:0x8847,set_field:16->mpls_label,output:2".to_owned(),
            5 => format!("check_pkt_larger(100)->NXM_NX_REG0[0],{}", output(rng)),
            0 => set_field(rng, &KINDS[0]) + ",output:2",
            1 if id > 1 => format!("group:{}", 1 + rng.below(id - 1)),
            2 => "push_vlan:0x8100,set_field:4106->vlan_vid,output:1".to_owned(),
            _ => output(rng),
        };
        buckets.push(format!(",bucket={watch}actions={action}"));
    }
    if by_hash {
        let first = buckets[0].clone();
        buckets.fill(first);
    }
    line + &buckets.concat()
}

/// A packet: where it enters, and its headers as a flow.
pub fn packet(rng: &mut Rng) -> (usize, String) {
    if rng.once_in(2) {
        let port = 1 + rng.below(4);
        let hex: String = frame(rng).iter().map(|b| format!("{b:02x}")).collect();
        return (port, format!("in_port={port} {hex}"));
    }
    let port = 1 + rng.below(4);
    // What is between a rule's kinds is a packet's too.
    let kind = &KINDS[1 + rng.below(KINDS.len() - 1)];
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
            "mpls_bos" => rng.pick(&["0", "1", "1"]).to_owned(),
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
    if !kind.fields.contains(&"nw_ttl") && is_ip(kind) {
        let _ = write!(flow, ",nw_ttl={}", rng.pick(&["1", "64"]));
    }
    (port, flow)
}
