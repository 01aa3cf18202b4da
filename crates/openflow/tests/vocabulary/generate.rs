//! Lines of flows: a fixed list over every field and action, and random ones from a seed.

use flow::field::{FIELDS, Field, Format};

/// Random numbers from a seed (splitmix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// A number of at most `bits` bits, often a small or an extreme one.
    fn number(&mut self, bits: u32) -> u128 {
        let ones = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
        let wide = u128::from(self.next()) << 64 | u128::from(self.next());
        match self.below(6) {
            0 => 0,
            1 => 1,
            2 => ones,
            3 => (wide & 0xff) & ones,
            _ => wide & ones,
        }
    }
}

/// What stands before a field so that it exists.
pub fn context(f: &Field) -> &'static str {
    use flow::field::Prereq as P;
    match f.prereq {
        P::None | P::Ethernet => "",
        P::Vlan => "dl_vlan=7,",
        P::Arp => "arp,",
        P::Mpls => "mpls,",
        P::Nsh => "dl_type=0x894f,",
        P::Ipv4 | P::Ip => "ip,",
        P::Ipv6 => "ipv6,",
        P::Tcp => "tcp,",
        P::Udp => "udp6,",
        P::Sctp => "sctp,",
        P::Icmp => "icmp,",
        P::Icmpv6 => "icmp6,",
        P::Nd | P::NdSolicit => "icmp6,icmp_type=135,",
        P::NdAdvert => "icmp6,icmp_type=136,",
        P::CtValid => "ct_state=+trk+est,ip,ct_nw_proto=6,",
    }
}

/// A value of a field, sometimes with a mask.
pub fn value(r: &mut Rng, f: &Field) -> String {
    let bits = u32::from(f.bits).min(128);
    let masked = r.one_in(3);
    let plain = |r: &mut Rng| -> String {
        let n = r.number(bits);
        match f.format {
            Format::Ethernet => base::MacAddr::from_u64(n as u64).to_string(),
            Format::Ipv4 => std::net::Ipv4Addr::from(n as u32).to_string(),
            Format::Ipv6 => std::net::Ipv6Addr::from(n).to_string(),
            Format::Port | Format::Port32 => {
                r.pick(&["1", "LOCAL", "65279", "0", "in_port", "65534", "0xfffe"]).to_owned()
            }
            Format::Frag => r.pick(&["no", "yes", "first", "later", "not_later"]).to_owned(),
            Format::PacketType => format!("({},{:#x})", r.below(2), n as u16),
            Format::CtState => r
                .pick(&[
                    "+trk",
                    "+trk+est-new",
                    "est|trk",
                    "0x21/0x21",
                    "+trk-inv+rel",
                    "-trk",
                    "0",
                    "33",
                ])
                .to_owned(),
            Format::TcpFlags => {
                r.pick(&["+syn-ack", "syn|fin", "0x12", "+[200]", "0", "0x3/0xff"]).to_owned()
            }
            Format::TunFlags => r.pick(&["+oam", "-oam", "oam", "0", "1"]).to_owned(),
            Format::Decimal | Format::Hex if r.one_in(2) => {
                if n > u64::MAX.into() {
                    format!("{n:#x}")
                } else {
                    n.to_string()
                }
            }
            Format::Decimal | Format::Hex => format!("{n:#x}"),
        }
    };
    let v = plain(r);
    match f.format {
        Format::Ethernet | Format::Decimal | Format::Hex if masked => {
            format!("{v}/{}", plain(r))
        }
        Format::Ipv4 if masked && r.one_in(2) => format!("{v}/{}", r.below(33)),
        Format::Ipv6 if masked && r.one_in(2) => format!("{v}/{}", r.below(129)),
        // Stock takes a mask that begins with a decimal digit for the length of a prefix.
        Format::Ipv6 if masked => {
            let mask = std::net::Ipv6Addr::from(r.number(128) | 0xf << 124);
            format!("{v}/{mask}")
        }
        Format::Ipv4 if masked => format!("{v}/{}", plain(r)),
        _ => v,
    }
}

/// A value without bits outside its mask. What stock sends for others a switch refuses.
fn inside(r: &mut Rng, f: &'static Field) -> String {
    for _ in 0..100 {
        let text = value(r, f);
        let tok = flow::text::Tok::line(&text);
        match flow::text::value::parse_raw(f, tok, &flow::text::NoNames, flow::text::Mode::Ovs) {
            Ok((v, m)) if v & !m != 0 => {}
            _ => return text,
        }
    }
    "1".to_owned()
}

/// A field that 3.1 has too.
fn some_field(r: &mut Rng) -> &'static Field {
    loop {
        let f = &FIELDS[r.below(FIELDS.len())];
        // The tunnel's options and the registers are many.
        let rare = f.tun_option().is_some_and(|i| i > 2) || f.name.contains("reg") && r.one_in(2);
        if !rare && !newer(f) {
            return f;
        }
    }
}

/// Whether Open vSwitch 3.1 lacks the field.
pub fn newer(f: &Field) -> bool {
    use flow::FieldId as F;
    (F::Reg16..=F::Reg31).contains(&f.id)
        || (F::Xreg8..=F::Xreg15).contains(&f.id)
        || (F::Xxreg4..=F::Xxreg7).contains(&f.id)
}

fn name(r: &mut Rng, f: &Field) -> &'static str {
    let i = r.below(f.aliases.len() + 1);
    f.aliases.get(i).copied().unwrap_or_else(|| f.id.row().name)
}

const PROTOCOLS: [&str; 20] = [
    "",
    "",
    "ip",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "ipv6",
    "tcp6",
    "udp6",
    "sctp6",
    "icmp6",
    "arp",
    "rarp",
    "mpls",
    "mplsm",
    "eth",
    "dl_type=0x894f",
    "icmp6,icmp_type=135,icmp_code=0",
    "ct_state=+trk+est,ip,ct_nw_proto=17",
];

fn a_match(r: &mut Rng) -> String {
    let mut words: Vec<String> = Vec::new();
    let protocol = r.pick(&PROTOCOLS);
    if !protocol.is_empty() {
        words.push(protocol.to_owned());
    }
    let icmp = protocol.contains("icmp");
    for _ in 0..r.below(4) {
        let f = some_field(r);
        // Type and code share the place of the ports, with fewer bits.
        let shares = f.name.ends_with("p_src")
            || f.name.ends_with("p_dst")
            || ["tcp_flags", "arp_op"].contains(&f.name);
        let of_icmp = f.name.contains("icmp") || f.name.starts_with("nd_");
        if icmp && shares || !icmp && of_icmp {
            continue;
        }
        let before = context(f);
        if !before.is_empty() && r.one_in(2) && words.is_empty() {
            words.push(before.trim_end_matches(',').to_owned());
        }
        let name = name(r, f);
        words.push(format!("{name}={}", value(r, f)));
    }
    for (word, n) in [("priority", 65536), ("idle_timeout", 65536), ("hard_timeout", 65536)] {
        if r.one_in(8) {
            words.push(format!("{word}={}", r.below(n)));
        }
    }
    for word in ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts"] {
        if r.one_in(20) {
            words.push(word.to_owned());
        }
    }
    if r.one_in(6) {
        words.push(format!("table={}", r.below(255)));
    }
    if r.one_in(8) {
        words.push(format!("cookie={:#x}", r.next()));
    }
    if r.one_in(20) {
        words.push(format!("importance={}", r.below(65536)));
    }
    words.join(",")
}

/// A part of a field that can be written.
fn subfield(r: &mut Rng, bits: u16, writable: bool) -> String {
    for _ in 0..100 {
        let f = some_field(r);
        if f.bits >= bits && (f.writable || !writable || r.one_in(20)) && f.tun_option().is_none() {
            let name = match f.oxms.first() {
                Some(o) if r.one_in(2) => o.name,
                _ => f.name,
            };
            let at = r.below(usize::from(f.bits - bits) + 1);
            return match (bits, r.below(2)) {
                (b, _) if b == f.bits => format!("{name}[]"),
                (1, _) => format!("{name}[{at}]"),
                _ => format!("{name}[{at}..{}]", at + usize::from(bits) - 1),
            };
        }
    }
    "NXM_NX_REG0[0]".to_owned()
}

const PORTS: [&str; 12] = [
    "1",
    "2",
    "normal",
    "FLOOD",
    "all",
    "in_port",
    "local",
    "CONTROLLER",
    "table",
    "65279",
    "65280",
    "none",
];
const HASHES: [&str; 7] = [
    "eth_src",
    "symmetric_l4",
    "symmetric_l3l4",
    "symmetric_l3l4+udp",
    "nw_src",
    "nw_dst",
    "symmetric_l3",
];

/// Actions that need nothing of the packet, and those that go with a protocol.
pub fn action(r: &mut Rng, depth: usize) -> String {
    let nested = |r: &mut Rng, n: usize| {
        let list: Vec<String> = (0..r.below(n)).map(|_| action(r, depth + 1)).collect();
        list.join(",")
    };
    match r.below(if depth < 2 { 62 } else { 54 }) {
        0..=2 => format!("output:{}", r.pick(&PORTS)),
        3 => r.pick(&PORTS).to_owned(),
        4 => format!("output:{}", subfield(r, 16, false)),
        5 => format!("output(port={},max_len={})", r.pick(&PORTS), r.below(200)),
        6 => format!("controller:{}", r.below(65536)),
        7 => {
            let mut args = Vec::new();
            for a in [
                "max_len=128",
                "id=7",
                "reason=no_match",
                "reason=invalid_ttl",
                "pause",
                "userdata=01.ab.ff",
                "meter_id=5",
            ] {
                if r.one_in(3) {
                    args.push(a);
                }
            }
            format!("controller({})", args.join(","))
        }
        8 => format!("enqueue:{}:{}", r.pick(&PORTS), r.below(9)),
        9 => format!("group:{}", r.next() as u32),
        10 => format!(
            "bundle({},{},{},ofport,members:{})",
            r.pick(&HASHES),
            r.below(100),
            r.pick(&["hrw", "active_backup"]),
            r.pick(&["1,2", "3", "", "4,none,5", "LOCAL,1"])
        ),
        11 => format!(
            "bundle_load({},0,hrw,ofport,{},members:1,2)",
            r.pick(&HASHES),
            subfield(r, 16, true)
        ),
        12 => format!("mod_vlan_vid:{}", r.below(4096)),
        13 => format!("set_vlan_vid:{}", r.below(4096)),
        14 => format!("mod_vlan_pcp:{}", r.below(8)),
        15 => format!("set_vlan_pcp:{}", r.below(8)),
        16 => r.pick(&["strip_vlan", "pop_vlan"]).to_owned(),
        17 => format!("push_vlan:{}", r.pick(&["0x8100", "0x88a8", "0x1234"])),
        18 => format!("mod_dl_src:00:11:22:33:44:{:02x}", r.below(256)),
        19 => format!("mod_nw_dst:10.0.0.{}", r.below(256)),
        20 => format!("mod_nw_tos:{}", r.below(64) * 4),
        21 => format!("mod_nw_ecn:{}", r.below(4)),
        22 => format!("{}:{}", r.pick(&["mod_nw_ttl", "set_nw_ttl"]), r.below(256)),
        23 => format!("mod_tp_src:{}", r.below(65536)),
        24 => format!("mod_tp_dst:{}", r.below(65536)),
        25..=29 => {
            let f = some_field(r);
            format!("set_field:{}->{}", inside(r, f), name(r, f))
        }
        30 | 31 => {
            let bits = *[1, 3, 8, 16, 32, 48, 64].get(r.below(7)).unwrap_or(&1);
            let n = r.number(bits);
            format!("load:{n:#x}->{}", subfield(r, bits as u16, true))
        }
        32 | 33 => {
            let bits = *[1, 8, 16, 20, 32, 48, 128].get(r.below(7)).unwrap_or(&1);
            format!("move:{}->{}", subfield(r, bits, false), subfield(r, bits, true))
        }
        34 => format!("push:{}", subfield(r, 16, false)),
        35 => format!("pop:{}", subfield(r, 16, true)),
        36 => r.pick(&["dec_ttl", "dec_ttl(1)", "dec_ttl(1,2)", "dec_ttl()"]).to_owned(),
        37 => format!("set_mpls_label:{}", r.number(20)),
        38 => format!("set_mpls_tc:{}", r.below(8)),
        39 => format!("set_mpls_ttl:{}", r.below(256)),
        40 => "dec_mpls_ttl".to_owned(),
        41 => format!("push_mpls:{}", r.pick(&["0x8847", "0x8848"])),
        42 => format!("pop_mpls:{}", r.pick(&["0x0800", "0x86dd", "0x8847"])),
        43 => format!("{}:{:#x}", r.pick(&["set_tunnel", "set_tunnel64"]), r.number(33)),
        44 => format!("set_queue:{}", r.below(100)),
        45 => "pop_queue".to_owned(),
        46 => format!("check_pkt_larger({})->{}", r.below(65536), subfield(r, 1, true)),
        47 => format!("resubmit({},{})", r.pick(&["", "1", "in_port", "2"]), r.below(255)),
        48 => {
            r.pick(&["resubmit:3", "resubmit(,5,ct)", "resubmit(1,2,ct)", "resubmit(,)"]).to_owned()
        }
        49 => r
            .pick(&[
                "exit",
                "ct_clear",
                "note:01.02.03",
                "note:",
                "dec_nsh_ttl",
                "fin_timeout(idle_timeout=5)",
                "fin_timeout(idle_timeout=5,hard_timeout=6)",
            ])
            .to_owned(),
        50 => format!(
            "multipath({},{},{},{},{},{})",
            r.pick(&HASHES),
            r.below(100),
            r.pick(&["modulo_n", "hash_threshold", "hrw", "iter_hash"]),
            1 + r.below(16),
            r.below(5),
            subfield(r, 8, true)
        ),
        51 => {
            let mut s = format!("sample(probability={}", r.below(65536));
            for (word, n) in [
                ("collector_set_id", 5),
                ("obs_domain_id", 5),
                ("obs_point_id", 5),
                ("sampling_port", 9),
            ] {
                if r.one_in(2) {
                    s += &format!(",{word}={}", r.below(n));
                }
            }
            s + r.pick(&["", ",ingress", ",egress"]) + ")"
        }
        52 => r
            .pick(&[
                "encap(nsh)",
                "encap(nsh(md_type=1))",
                "encap(nsh(md_type=2,tlv(0x1000,10,0x12345678)))",
                "encap(ethernet)",
                "encap(mpls)",
                "encap(mpls_mc)",
                "decap()",
                "decap",
                "decap(packet_type(ns=0,type=0))",
                "decap(packet_type(ns=1,type=0x894f))",
            ])
            .to_owned(),
        53 => format!("delete_field:tun_metadata{}", r.below(64)),
        54 | 55 => ct(r, depth),
        56 => format!("clone({})", nested(r, 4)),
        57 => format!("write_actions({})", nested(r, 4)),
        58 => r
            .pick(&[
                "clear_actions",
                "write_metadata:0x5",
                "write_metadata:0x5/0xff",
                "meter:3",
                "goto_table:200",
            ])
            .to_owned(),
        59 | 60 => learn(r),
        _ => format!("conjunction({},{}/{})", r.below(1000), 1 + r.below(3), 2 + r.below(3)),
    }
}

fn ct(r: &mut Rng, depth: usize) -> String {
    let mut args: Vec<String> = Vec::new();
    if r.one_in(2) {
        args.push("commit".into());
    }
    if r.one_in(6) {
        args.push("force".into());
    }
    if r.one_in(3) {
        args.push(format!("table={}", r.below(256)));
    }
    if r.one_in(3) {
        args.push(match r.below(3) {
            0 => format!("zone={}", subfield(r, 16, false)),
            _ => format!("zone={}", r.below(65536)),
        });
    }
    if r.one_in(4) {
        args.push(r.pick(&["alg=ftp", "alg=tftp", "alg=sip"]).into());
    }
    if r.one_in(3) {
        let range = r.pick(&[
            "",
            "=10.0.0.1",
            "=10.0.0.1-10.0.0.9",
            "=10.0.0.1:5-9",
            "=10.0.0.9-10.0.0.1",
            "=fe80::1",
            "=[fe80::1]:80",
            "=[fe80::1]-[fe80::9]:80-90",
            "=10.0.0.1:80",
            "=1.2.3.4-1.2.3.4:7-7",
        ]);
        let flags =
            r.pick(&["", ",persistent", ",hash", ",random", ",persistent,random", ",hash,random"]);
        args.push(match r.below(4) {
            0 => "nat".into(),
            1 => format!("nat(dst{range}{flags})"),
            2 => format!("nat(src{range}{flags})"),
            _ => format!("nat({})", r.pick(&["src,dst", "random", "bogus", "dst=1.2.3.4,hash"])),
        });
    }
    if r.one_in(4) {
        let inner = match r.below(6) {
            0 => action(r, depth + 1),
            1 => "move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]".into(),
            2 => "load:5->NXM_NX_CT_LABEL[3..8]".into(),
            3 => "set_field:0x1/0xf->ct_mark".into(),
            4 => "set_field:0x1->ct_label,load:1->ct_mark[]".into(),
            _ => "set_field:7->ct_mark".to_owned(),
        };
        args.push(format!("exec({inner})"));
    }
    format!("ct({})", args.join(","))
}

fn learn(r: &mut Rng) -> String {
    let mut args: Vec<String> = vec![format!("table={}", r.below(256))];
    for a in [
        "idle_timeout=10",
        "hard_timeout=20",
        "fin_idle_timeout=1",
        "fin_hard_timeout=2",
        "priority=5",
        "cookie=0x12",
        "send_flow_rem",
        "delete_learned",
        "limit=4",
        "result_dst=reg0[3]",
    ] {
        if r.one_in(5) {
            args.push(a.into());
        }
    }
    for _ in 0..r.below(4) {
        let bits = *[1, 8, 16, 32, 48].get(r.below(5)).unwrap_or(&1);
        args.push(match r.below(7) {
            0 => "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]".into(),
            1 => "output:NXM_OF_IN_PORT[]".into(),
            2 => format!("load:{:#x}->{}", r.number(bits), subfield(r, bits as u16, true)),
            3 => format!(
                "load:{}->{}",
                subfield(r, bits as u16, false),
                subfield(r, bits as u16, true)
            ),
            4 => subfield(r, bits as u16, false),
            5 => {
                let f = some_field(r);
                format!("{}={}", f.name, value(r, f))
            }
            _ => format!("{}={}", subfield(r, bits as u16, false), subfield(r, bits as u16, false)),
        });
    }
    format!("learn({})", args.join(","))
}

/// A random line.
pub fn line(r: &mut Rng) -> String {
    let m = a_match(r);
    let mut actions: Vec<String> = (0..r.below(4)).map(|_| action(r, 0)).collect();
    if actions.is_empty() {
        actions.push("drop".into());
    }
    let comma = if m.is_empty() { "" } else { "," };
    format!("{m}{comma}actions={}", actions.join(","))
}

/// Forms that are easy to get wrong.
const ODD: &[&str] = &[
    "",
    ",",
    "actions=",
    "actions=drop,drop",
    "actions=drop,1",
    "actions=1,,2",
    "actions=output(port=1,max_len=14),output(port=1),output(max_len=14)",
    "actions=output(port=1,max_len=13)",
    "actions=output:65535",
    "actions=output:4294967295",
    "actions=output:NONE",
    "actions=NORMAL,FLOOD,ALL,IN_PORT,LOCAL,CONTROLLER,TABLE",
    "actions=enqueue(5,6),enqueue:7:8",
    "actions=controller,controller:65535,controller:65536",
    "actions=controller(reason=action,max_len=0,id=7,userdata=01.02.0x,pause,meter_id=9)",
    "actions=controller(userdata=1.2.3,pause)",
    "actions=controller(bogus=1)",
    "actions=resubmit:5,resubmit(,6),resubmit(7,),resubmit(8,9),resubmit(,10,ct)",
    "actions=resubmit()",
    "ip,actions=dec_ttl,dec_ttl(),dec_ttl(1,2)",
    "ip,actions=dec_ttl(1,2,bogus)",
    "actions=note:,note:11.22,note:11.2",
    "actions=note:112233445566.77",
    "actions=fin_timeout(idle_timeout=5)",
    "tcp,actions=fin_timeout(idle_timeout=5,hard_timeout=10),fin_timeout()",
    "actions=conjunction(7,1/2)",
    "actions=conjunction(7,1/2),conjunction(8,2/64)",
    "actions=conjunction(7,0/2)",
    "actions=conjunction(7,3/2)",
    "actions=conjunction(7,1/65)",
    "actions=conjunction(7,1/2),1",
    "actions=note:11,conjunction(7,1/2)",
    "actions=clone(conjunction(7,1/2))",
    "actions=group:5,group:ALL",
    "actions=meter:5,meter:0,1",
    "actions=1,meter:5",
    "actions=goto_table:7,1",
    "actions=goto_table:7,goto_table:8",
    "actions=1,write_metadata:0x5/0xff,goto_table:255",
    "table=7,actions=goto_table:7",
    "actions=write_metadata:5,write_metadata:6",
    "actions=write_actions(output:1,group:5,set_field:1->reg1)",
    "actions=write_actions(resubmit:1)",
    "actions=write_actions(drop)",
    "actions=write_actions()",
    "actions=clear_actions,apply_actions(1)",
    "actions=write_actions(clear_actions)",
    "actions=clone(),clone(1,clone(2)),clone(goto_table:1)",
    "actions=clone(1",
    "actions=sample(probability=0)",
    "actions=sample(probability=65535,collector_set_id=1,obs_domain_id=2,obs_point_id=3)",
    "actions=sample(probability=1,sampling_port=1,egress),sample(probability=1,ingress)",
    "actions=bundle(eth_src,50,active_backup,ofport,members:1,2),bundle(symmetric_l4,1,hrw,ofport,slaves:)",
    "actions=bundle(eth_src,50,bogus,ofport,members:1)",
    "actions=bundle_load(eth_src,50,hrw,ofport,NXM_NX_REG0[0..15],members:1)",
    "actions=bundle_load(eth_src,50,hrw,ofport,NXM_NX_REG0[0..14],members:1)",
    "actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[])",
    "actions=multipath(eth_src,50,modulo_n,64,0,NXM_NX_REG0[0..4])",
    "actions=multipath(nw_src,50,iter_hash,65536,0,NXM_NX_REG0[])",
    "ip,actions=ct",
    "ip,actions=ct()",
    "actions=ct(commit)",
    "ip,actions=ct(commit,force,zone=5,table=3,nat,exec(set_field:1->ct_mark))",
    "ip,actions=ct(commit,zone=NXM_NX_REG0[0..15],nat(src=10.0.0.1-10.0.0.9:10-20,hash))",
    "ip,actions=ct(zone=NXM_NX_REG0[0..14])",
    "ip,actions=ct(force)",
    "ip,actions=ct(table=0)",
    "table=3,ip,actions=ct(table=255)",
    "ip,actions=ct(alg=ftp)",
    "tcp,actions=ct(commit,alg=ftp),ct(alg=tftp)",
    "udp,actions=ct(commit,alg=tftp)",
    "ip,actions=ct(commit,alg=bogus)",
    "ip,actions=ct(exec(set_field:1->reg0))",
    "ip,actions=ct(commit,exec(set_field:1->reg0))",
    "ip,actions=ct(commit,exec(load:1->NXM_NX_CT_LABEL[0],move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]))",
    "ip,actions=ct(nat(dst=1.2.3.4,persistent,random)),ct(nat(src))",
    "ip,actions=ct(commit,nat(src=1.2.3.4,random,hash))",
    "ip,actions=ct(commit,nat(src=1.2.3.4,dst=1.2.3.4))",
    "ipv6,actions=ct(commit,nat(dst=[fe80::1]-[fe80::9]:5-6)),ct(commit,nat(dst=fe80::1))",
    "ip,actions=ct(commit,nat(dst=[fe80::1]))",
    "actions=ct_clear",
    "actions=learn()",
    "actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15])",
    "actions=learn(table=1,delete_learned,limit=5,result_dst=NXM_NX_REG0[3],output:NXM_OF_IN_PORT[])",
    "actions=learn(table=255)",
    "actions=learn(priority=65536)",
    "actions=learn(NXM_OF_IP_DST[]=NXM_OF_IP_SRC[])",
    "actions=learn(eth_type=0x800,NXM_OF_IP_DST[]=0x01020304,load:0x7->NXM_NX_REG1[4..6])",
    "actions=learn(tcp_src=80)",
    "actions=encap(ethernet),decap,decap()",
    "actions=encap(nsh(md_type=1)),encap(nsh(md_type=2,tlv(0x1000,10,0x12345678)))",
    "actions=encap(bogus)",
    "packet_type=(1,0x800),actions=decap(packet_type(ns=1,type=0x800))",
    "packet_type=(1,0x800),actions=encap(ethernet)",
    "actions=check_pkt_larger(1000)->NXM_NX_REG0[1]",
    "actions=check_pkt_larger(1000)->NXM_NX_REG0[]",
    "actions=check_pkt_larger(1000)",
    "actions=delete_field:tun_metadata0,delete_field:reg0",
    "actions=set_queue:5,pop_queue,exit",
    "actions=set_tunnel:0x100000000,set_tunnel64:7",
    "actions=set_mpls_label(1048576)",
    "mpls,actions=set_mpls_label(5),set_mpls_tc:7,set_mpls_ttl(1),dec_mpls_ttl,pop_mpls:0x800,dec_ttl",
    "ip,actions=push_mpls:0x8847,dec_ttl",
    "actions=push_vlan:0x8100,push_vlan:0x88a8,push_vlan:0x8100",
    "actions=push_vlan:0x9100",
    "actions=pop_vlan",
    "actions=mod_vlan_vid:4096",
    "actions=mod_vlan_pcp:8",
    "actions=set_vlan_vid:5",
    "vlan_tci=0x1000/0x1000,actions=set_vlan_vid:5,strip_vlan",
    "actions=mod_nw_tos:1,mod_nw_ecn:4",
    "ip,actions=mod_nw_tos:252,mod_nw_ecn:3,mod_nw_ttl:5,mod_nw_src:1.2.3.4",
    "ipv6,actions=mod_nw_src:1.2.3.4",
    "tcp,actions=mod_tp_src:5,mod_tp_dst:65535",
    "ip,actions=mod_tp_src:5",
    "actions=mod_dl_src:1:2:3:4:5:6,mod_dl_dst:garbage",
    "actions=move:NXM_NX_REG0[0..5]->NXM_NX_REG1[0..6]",
    "actions=load:0x10->NXM_NX_REG0[0..3]",
    "actions=load:1->NXM_NX_REG0[31..0]",
    "actions=load:1->NXM_NX_REG0[32]",
    "actions=set_field:0x1/0x3->reg0,set_field:0x5/0x3->reg0",
    "actions=set_field:1->reg0[0..5]",
    "actions=bogus",
    "actions=bogus:1",
    "actions=debug_recirc,debug_slow",
    "actions=unroll_xlate",
    "vlan_tci=0",
    "vlan_tci=0/0x1fff",
    "vlan_tci=0x1123/0x1fff",
    "vlan_tci=0x1fff/0xffff",
    "dl_vlan=0xffff",
    "dl_vlan=4095",
    "dl_vlan=4096",
    "dl_vlan_pcp=7,dl_vlan=0",
    "vlan_vid=0x1000/0x1000",
    "vlan_vid=0",
    "dl_vlan_pcp=3,dl_vlan_pcp=1/0x0",
    "dl_vlan_pcp=3,dl_vlan=7,dl_vlan_pcp=1/0x0",
    "dl_vlan_pcp=3,vlan_vid=0x1007,vlan_vid=0/0",
    "vlan_vid=0x1007,vlan_vid=0/0",
    "dl_vlan_pcp=3,vlan_vid=0xb9/194,vlan_vid=247/3161",
    "dl_vlan=3,vlan_tci=0/0",
    "dl_vlan=3,dl_vlan_pcp=4,dl_vlan=0xffff",
    "ip,ip_frag=no",
    "ip,nw_frag=not_later",
    "ip,ip_frag=bogus",
    "ip,nw_tos=3",
    "ip,nw_dst=1.2.3.4/33",
    "ip,nw_dst=1.2.3.4/255.0.255.0",
    "ipv6,ipv6_src=fe80::1/129",
    "ipv6,ipv6_src=fe80::1/ffff::ffff",
    "ipv6,ipv6_label=0x100000",
    "ct_state=+new-est",
    "ip,ct_state=+trk+new,ct_zone=5,ct_mark=1/3,ct_label=0x1/0x3",
    "ip,ct_state=0x3/0x3",
    "ip,ct_state=new",
    "ip,ct_state=+bogus",
    "ip,ct_state=+trk+trk",
    "tcp,tcp_flags=+syn-ack",
    "tcp,tcp_flags=0x12/0xfff",
    "tcp,tcp_flags=syn|ack",
    "tcp,tcp_flags=[800]",
    "tun_flags=oam",
    "tun_flags=-oam",
    "tun_flags=+csum",
    "packet_type=(0,0)",
    "packet_type=(1,0x800),nw_src=1.2.3.4",
    "packet_type=(1,0x800),dl_src=1:2:3:4:5:6",
    "packet_type=(2,0)",
    "packet_type=(1)",
    "eth,packet_type=(1,0x800)",
    "priority=65536",
    "priority=-1",
    "cookie=5/6",
    "cookie=0x1ffffffffffffffff",
    "table=255",
    "table=256",
    "idle_timeout=65536",
    "importance=65535",
    "out_port=5",
    "out_group=5",
    "duration=5",
    "n_packets=1,n_bytes=2,idle_age=3,hard_age=4",
    "send_flow_rem,check_overlap,reset_counts,no_packet_counts,no_byte_counts",
    "bogus",
    "bogus=1",
    "reg0=1,reg0=2",
    "reg0[0..3]=5",
    "reg0[0..3]=5/6",
    "reg0[3]=1,reg0[4]=0",
    "reg0[32]=1",
    "NXM_NX_REG0=5,OXM_OF_METADATA=6",
    "ip,tcp",
    "tcp,udp",
    "ip,dl_type=0x806",
    "nw_src=1.2.3.4",
    "ip,tp_src=5",
    "tcp,tp_src=0x50/0xf0",
    "tcp,tp_src=080",
    "arp,arp_spa=1.2.3.4,nw_proto=2,arp_op=1",
    "icmp,icmp_type=256",
    "icmp6,nd_target=fe80::1",
    "icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::1/64,nd_sll=1:2:3:4:5:6",
    "icmp6,icmp_type=136,icmp_code=0,nd_sll=1:2:3:4:5:6",
    "in_port=LOCAL",
    "in_port=bogus",
    "in_port=65535",
    "in_port=4294967294",
    "in_port=ANY",
];

/// Every field in every form.
pub fn fixed() -> Vec<String> {
    let mut out: Vec<String> = ODD
        .iter()
        .map(|l| if l.contains("actions") { (*l).to_owned() } else { format!("{l},actions=1") })
        .collect();
    let mut r = Rng(7);
    for f in FIELDS.iter().filter(|f| !newer(f) && f.tun_option().is_none_or(|i| i < 3)) {
        let before = context(f);
        let mut put = |text: String| out.push(text);
        for name in f.aliases.iter().chain([&f.name]) {
            put(format!("{before}{name},actions=drop"));
            for v in ["0", "1", "*", "0x", "garbage", "0/0", "1/1", "0xff/0xff", "-1", "1/"] {
                put(format!("{before}{name}={v},actions=drop"));
            }
            put(format!("{name}={},actions=drop", value(&mut r, f)));
        }
        put(format!("{before}actions=set_field:{}->{}", inside(&mut r, f), f.name));
        put(format!("{before}actions=set_field:1->{}", f.name));
        put(format!("actions=set_field:1->{}", f.name));
        put(format!("{before}actions=load:1->{}[0]", f.name));
        put(format!("{before}actions=move:{}[0]->NXM_NX_REG1[1]", f.name));
        put(format!("{before}actions=push:{}[],pop:{}[]", f.name, f.name));
        for o in f.oxms {
            put(format!("{before}actions=load:0->{}[]", o.name));
            put(format!("actions=learn(table=2,{}[])", o.name));
        }
    }
    out
}
