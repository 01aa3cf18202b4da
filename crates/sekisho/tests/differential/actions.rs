//! Actions: lists of them, of groups' buckets, of instructions.

use flow::field::Prereq;

use crate::fields::{Kind, MACS, copy, kind_of, set_field};
use crate::generate::{N_GROUPS, N_TABLES, Rng};

/// Where a list of actions stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub table: usize,
    /// In how many other lists.
    pub nested: usize,
    /// The rule matches packets of a connection that the tracker knows.
    pub tracked: bool,
}

impl Place {
    fn moves_on(self) -> bool {
        self.table + 1 < N_TABLES && self.nested < 2
    }
}

/// A list of actions for packets of a kind.
///
/// `kind` changes with the packet: its protocol is another under a label or in another header.
pub fn actions(rng: &mut Rng, kind: &mut &'static Kind, place: Place) -> String {
    if place.nested == 0 && rng.once_in(20) {
        return "drop".to_owned();
    }
    let mut list = Vec::new();
    for _ in 0..1 + rng.below(4) {
        list.push(action(rng, kind, place));
    }
    if place.nested > 0 {
        return list.join(",");
    }
    // Instructions have their order, and only the last of a list moves on.
    if rng.once_in(30) {
        list.push("clear_actions".to_owned());
    }
    if rng.once_in(4) {
        let mut set: Vec<String> = (0..1 + rng.below(3)).map(|_| in_set(rng, kind)).collect();
        set.dedup();
        list.push(format!("write_actions({})", set.join(",")));
    }
    if rng.once_in(6) {
        list.push(format!("write_metadata:{}", rng.pick(&["0x1", "0x2/0x3", "0x80000001"])));
    }
    if place.table + 1 < N_TABLES && rng.once_in(3) {
        list.push(format!("goto_table:{}", later(rng, place.table)));
    }
    list.join(",")
}

fn later(rng: &mut Rng, table: usize) -> usize {
    table + 1 + rng.below(N_TABLES - table - 1)
}

/// An action that may stand in an action set.
fn in_set(rng: &mut Rng, kind: &Kind) -> String {
    match rng.below(9) {
        0 => format!("group:{}", 1 + rng.below(N_GROUPS)),
        1 | 2 => set_field(rng, kind),
        3 if kind.is_ethernet() => rng
            .pick(&["pop_vlan", "push_vlan:0x8100", "push_mpls:0x8847", "set_queue:2"])
            .to_owned(),
        4 if kind.is_ip() => rng.pick(&["dec_ttl", "set_field:7->nw_ttl"]).to_owned(),
        4 if kind.has(Prereq::Mpls) => "dec_mpls_ttl".to_owned(),
        5 => "set_queue:1".to_owned(),
        // With more arguments it is Nicira's, which may not stand there.
        _ => output(rng).split('(').next().unwrap_or_default().to_owned(),
    }
}

pub fn output(rng: &mut Rng) -> String {
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
                    // Without a meter, through which what pauses passes since 3.7 only.
                    "userdata=07,pause",
                    "meter_id=1",
                    "reason=invalid_ttl",
                ])
            );
        }
        _ => "output:1",
    }
    .to_owned()
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

/// Puts a header around the packet, or takes the outermost off.
fn header(rng: &mut Rng, kind: &mut &'static Kind) -> String {
    let is_nsh = kind.has(Prereq::Nsh);
    if is_nsh && rng.once_in(3) {
        return rng
            .pick(&["dec_nsh_ttl", "set_field:0x5->nsh_spi", "set_field:7->nsh_si"])
            .to_owned();
    }
    if !kind.is_ethernet() && rng.once_in(2) {
        *kind = if is_nsh { kind_of("dl_type=0x894f") } else { kind_of("") };
        return "encap(ethernet)".to_owned();
    }
    if rng.once_in(2) {
        *kind = kind_of("packet_type=(1,0x894f)");
        let encap = rng.pick(&[
            "encap(nsh)",
            "encap(nsh(md_type=1))",
            "encap(nsh(md_type=2,tlv(0x1000,10,0x12345678)))",
        ]);
        return match rng.once_in(2) {
            true => format!("{encap},{}", set_field(rng, kind)),
            false => encap.to_owned(),
        };
    }
    *kind = match kind.word {
        "ip" | "tcp" | "udp" | "icmp" | "sctp" => kind_of("packet_type=(1,0x0800)"),
        w if w.starts_with("ipv6") || w.contains('6') && kind.is_ip() => {
            kind_of("packet_type=(1,0x86dd)")
        }
        "dl_type=0x894f" => kind_of("packet_type=(1,0x894f)"),
        _ => kind_of(""),
    };
    "decap()".to_owned()
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
            "fin_timeout(hard_timeout=20,idle_timeout=5)",
            "dec_ttl",
            "move:NXM_OF_TCP_SRC[]->NXM_OF_TCP_DST[]",
            "push:NXM_OF_TCP_SRC[],push:NXM_OF_TCP_DST[],pop:NXM_OF_TCP_SRC[],pop:NXM_OF_TCP_DST[]",
            "dec_ttl(1,2)",
            "mod_tp_dst:80",
        ],
        w if w.starts_with("icmp6,") => &[
            "move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]",
            "load:0x5->NXM_NX_ND_TARGET[0..31]",
            "dec_ttl",
        ],
        "ip" | "udp" | "icmp" | "sctp" => &[
            "dec_ttl",
            "dec_ttl(1,2)",
            "mod_nw_ttl:1",
            "mod_nw_tos:16",
            "mod_nw_ecn:2",
            "mod_nw_src:10.0.0.9",
            "mod_nw_dst:10.0.0.1",
            "move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]",
            "push:NXM_OF_IP_SRC[],push:NXM_OF_IP_DST[],pop:NXM_OF_IP_SRC[],pop:NXM_OF_IP_DST[]",
        ],
        _ if kind.is_ip() => {
            &["dec_ttl", "dec_ttl(1,2)", "mod_nw_ttl:1", "mod_nw_tos:16", "mod_nw_ecn:1"]
        }
        _ => &["load:0x1->NXM_NX_REG1[31]", "exit"],
    };
    rng.pick(of).to_owned()
}

fn action(rng: &mut Rng, kind: &mut &'static Kind, place: Place) -> String {
    let (ip, table) = (kind.is_ip(), place.table);
    match rng.below(40) {
        0..=5 => output(rng),
        6..=9 => set_field(rng, kind),
        n @ 10..=13 => match (kind.is_ethernet(), n) {
            (false, _) => of_kind(rng, kind),
            (_, 10) if rng.once_in(4) => format!("mod_dl_src:{}", rng.pick(&MACS[..3])),
            (_, 10) if rng.once_in(4) => format!("mod_dl_dst:{}", rng.pick(MACS)),
            (_, 10) => format!("mod_vlan_vid:{}", rng.pick(&["10", "20"])),
            (_, 11) => format!("mod_vlan_pcp:{}", rng.pick(&["0", "5"])),
            (_, 12) => "strip_vlan".to_owned(),
            _ => format!("push_vlan:{}", rng.pick(&["0x8100", "0x88a8"])),
        },
        14 => "load:0x5->NXM_NX_REG0[4..11]".to_owned(),
        15 => format!("move:{}", rng.pick(MOVES)),
        16 => format!("push:{}", rng.pick(&["NXM_NX_REG0[]", "NXM_NX_REG1[0..7]"])),
        17 => format!("pop:{}", rng.pick(&["NXM_NX_REG0[]", "NXM_NX_REG1[0..7]"])),
        18 | 19 => of_kind(rng, kind),
        20 | 21 if place.moves_on() => format!("resubmit(,{})", later(rng, table)),
        22 if place.moves_on() => {
            format!("resubmit({},{})", rng.pick(&["1", "2", "in_port"]), later(rng, table))
        }
        23..=25 if place.moves_on() && place.tracked && ip => {
            format!("resubmit(,{},ct)", later(rng, table))
        }
        23 | 24 if ip && place.moves_on() => ct(rng, table),
        25 if place.moves_on() && rng.once_in(4) => ct(rng, table),
        26 if place.nested < 2 => {
            let nested = Place { nested: place.nested + 1, ..place };
            format!("clone({})", actions(rng, kind, nested))
        }
        27 => format!("group:{}", 1 + rng.below(N_GROUPS)),
        28 => "ct_clear".to_owned(),
        29 => rng.pick(OFTEN).to_owned(),
        30 if rng.once_in(2) => "exit".to_owned(),
        31 | 32 => label(rng, kind),
        33 => format!(
            "check_pkt_larger({})->{}",
            rng.pick(&["60", "100", "1000"]),
            rng.pick(&["NXM_NX_REG0[0]", "NXM_NX_REG1[31]", "OXM_OF_METADATA[1]"])
        ),
        34 => rng.pick(SELDOM).to_owned(),
        35 => copy(rng, kind).unwrap_or_else(|| "note:03".to_owned()),
        36 => learn(rng, kind),
        37 if place.nested == 0 => header(rng, kind),
        _ => output(rng),
    }
}

const MOVES: &[&str] = &[
    "NXM_NX_REG0[]->NXM_NX_REG1[]",
    "NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]",
    "NXM_NX_XXREG1[0..31]->NXM_NX_REG0[]",
    "NXM_NX_REG0[0..15]->NXM_OF_IN_PORT[]",
];

const OFTEN: &[&str] = &[
    "note:01.02",
    "set_queue:3",
    "pop_queue",
    "output:NXM_NX_REG0[0..15]",
    "output(port=2,max_len=64)",
    "multipath(symmetric_l4,7,modulo_n,4,0,NXM_NX_REG1[0..7])",
    "multipath(eth_src,0,hrw,3,0,NXM_NX_REG1[0..7])",
    "bundle(nw_dst,0,hrw,ofport,members:1,2,3)",
    "bundle_load(symmetric_l3l4,3,active_backup,ofport,NXM_NX_REG0[0..15],members:2,3)",
    "sample(probability=32768,collector_set_id=1,obs_domain_id=2,obs_point_id=3)",
    "learn(table=5,priority=75,idle_timeout=100,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],\
     load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
];

const SELDOM: &[&str] = &[
    "delete_field:tun_metadata0",
    "load:0x5->NXM_NX_TUN_METADATA0[0..3]",
    "move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG0[0..15]",
    "set_field:0x11223344->tun_metadata1",
    "set_tunnel:0x123",
    "set_tunnel64:0x123456789a",
    "meter:1",
    "enqueue:2:1",
    "push:NXM_NX_XXREG1[],pop:NXM_NX_XXREG1[]",
    "push:OXM_OF_METADATA[],pop:NXM_NX_REG1[]",
    "multipath(symmetric_l3l4+udp,1,hash_threshold,5,0,NXM_NX_REG1[0..7])",
    "multipath(symmetric_l3,0,modulo_n,5,0,NXM_NX_REG1[0..7])",
    "multipath(nw_src,3,iter_hash,6,0,NXM_NX_REG0[0..7])",
    "bundle(eth_src,7,active_backup,ofport,members:2,4)",
    "bundle(symmetric_l4,0,hrw,ofport,members:9,2,4)",
    "bundle_load(nw_src,0,hrw,ofport,NXM_NX_REG1[0..15],members:1,4)",
    "sample(probability=65535,collector_set_id=1,sampling_port=2,egress)",
    "debug_recirc",
    "debug_slow",
    // Back to where the packet came from, stock sends nothing that is cut, against its manual.
    "output(port=LOCAL,max_len=70)",
    "learn(table=4,priority=35,idle_timeout=60,hard_timeout=90,cookie=0x9,eth_type=0x800,nw_proto=6,\
     NXM_OF_IP_SRC[]=NXM_OF_IP_DST[],NXM_OF_TCP_SRC[]=NXM_OF_TCP_DST[],\
     load:0x2->NXM_NX_REG1[0..3],output:NXM_OF_IN_PORT[])",
    "learn(table=3,priority=45,limit=2,result_dst=NXM_NX_REG0[8],NXM_OF_VLAN_TCI[0..11],\
     NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_NX_REG1[]->NXM_NX_REG0[])",
    "learn(table=2,priority=55,delete_learned,fin_idle_timeout=5,eth_type=0x800,nw_proto=6,in_port=2,\
     reg0[0..3]=1)",
];

/// A `learn` with parts of any kind.
fn learn(rng: &mut Rng, kind: &Kind) -> String {
    let table = 2 + rng.below(N_TABLES - 2);
    // Its priority is one that no rule has, and hardly another such action.
    let priority = 1000 + rng.below(64000);
    let mut parts = vec![format!("table={table}"), format!("priority={priority}")];
    if rng.once_in(2) {
        parts.push(rng.pick(&["idle_timeout=60", "hard_timeout=100", "cookie=0x7"]).to_owned());
    }
    if rng.once_in(4) {
        parts.push(rng.pick(&["limit=1", "limit=3", "send_flow_rem"]).to_owned());
    }
    // Stock takes the kind of an option of neighbour discovery for TCP's flags.
    if kind.has(Prereq::Ipv4) && rng.once_in(4) {
        parts.push("fin_hard_timeout=4".to_owned());
    }
    let matches: &[&str] = match kind {
        k if k.is_ip() && k.has(Prereq::Ipv4) => &[
            "eth_type=0x800,NXM_OF_IP_SRC[]",
            "eth_type=0x800,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[]",
            "eth_type=0x800,nw_proto=17,NXM_OF_UDP_DST[]=NXM_NX_REG0[0..15]",
            "eth_type=0x800,NXM_OF_IP_PROTO[]",
        ],
        k if k.is_ip() => &[
            "eth_type=0x86dd,NXM_NX_IPV6_SRC[]=NXM_NX_IPV6_DST[]",
            "eth_type=0x86dd,NXM_NX_IPV6_DST[0..63]",
        ],
        k if k.is_ethernet() => {
            &["NXM_OF_ETH_SRC[]", "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]", "in_port=1"]
        }
        _ => &["NXM_OF_IN_PORT[]", "reg0=1"],
    };
    parts.push(rng.pick(matches).to_owned());
    if rng.once_in(2) {
        parts.push(
            rng.pick(&["NXM_OF_IN_PORT[]", "NXM_NX_REG1[0..7]=NXM_NX_REG0[0..7]", "metadata=2"])
                .to_owned(),
        );
    }
    for _ in 0..rng.below(3) {
        parts.push(
            rng.pick(&[
                "load:0x7->NXM_NX_REG1[0..3]",
                "load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]",
                "load:NXM_NX_REG0[]->NXM_NX_REG1[]",
                "output:NXM_OF_IN_PORT[]",
                "output:NXM_NX_REG0[0..15]",
            ])
            .to_owned(),
        );
    }
    format!("learn({})", parts.join(","))
}

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
        let exec = &[
            "set_field:0x5->ct_mark",
            "set_field:0x1/0x1->ct_mark",
            "load:0x7->NXM_NX_CT_LABEL[0..31]",
            "move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]",
        ];
        parts.push(format!("exec({})", rng.pick(exec)));
    }
    format!("ct({})", parts.join(","))
}

/// A group; buckets lead to groups of lower numbers only, so that none leads back to itself.
pub fn group(rng: &mut Rng, id: usize) -> String {
    let kind = rng.pick(&["all", "indirect", "ff", "select", "select"]);
    let n = if kind == "indirect" { 1 } else { 1 + rng.below(3) };
    let mut line = format!("group_id={id},type={kind}");
    let by_hash = kind == "select" && rng.once_in(2);
    if by_hash {
        line += rng.pick(&["", ",selection_method=dp_hash,selection_method_param=3"]);
    } else if kind == "select" {
        line += ",selection_method=hash";
        line += rng.pick(&["", ",fields(eth_src,ip_dst)", ",fields(ip_src,tcp_dst=80)"]);
    }
    for bucket in 0..n {
        let mut said = String::new();
        if kind == "ff" || (kind == "select" && rng.once_in(6)) {
            said += &format!("watch_port:{},", rng.pick(&["1", "2", "3", "4", "9"]));
        } else if kind == "ff" || (kind == "select" && id > 1 && rng.once_in(8)) {
            said += &format!("watch_group:{},", 1 + rng.below(id - 1));
        }
        if kind == "select" && rng.once_in(3) {
            said += &format!("weight:{},", rng.pick(&["1", "3", "50"]));
        }
        line +=
            &format!(",bucket=bucket_id:{bucket},{said}actions={}", in_bucket(rng, id, by_hash));
    }
    line
}

/// The actions of a bucket. Each datapath hashes as it likes, so that what one chooses `by_hash` may
/// not show later: it learns nothing.
fn in_bucket(rng: &mut Rng, id: usize, by_hash: bool) -> String {
    let output = match output(rng) {
        o if by_hash && o == "normal" => "flood".to_owned(),
        o => o,
    };
    match rng.below(8) {
        0 => set_field(rng, kind_of("")) + ",output:2",
        1 if id > 1 && !by_hash => format!("group:{}", 1 + rng.below(id - 1)),
        2 => "push_vlan:0x8100,set_field:4106->vlan_vid,output:1".to_owned(),
        3 => "push_mpls:0x8847,set_field:16->mpls_label,output:2".to_owned(),
        4 => format!("check_pkt_larger(100)->NXM_NX_REG0[0],{output}"),
        5 => format!("{output},output:4"),
        _ => output,
    }
}
