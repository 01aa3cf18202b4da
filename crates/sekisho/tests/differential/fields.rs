//! Kinds of packets, the fields they have, and values from small pools, so that rules and packets
//! meet.

use std::fmt::Write;

use flow::field::{FIELDS, Field, MaskRule, Prereq};
use flow::text::{MatchText, Mode, NoNames, parse_match};
use flow::{FieldId, Match};

use crate::generate::Rng;

/// What a rule is about: the word that says so, and the fields that exist then.
#[derive(Debug)]
pub struct Kind {
    pub word: &'static str,
    pub fields: &'static [&'static str],
    /// Fields that actions may change too.
    pub writable: &'static [&'static str],
}

pub const L2: &[&str] = &["dl_src", "dl_dst", "vlan_tci", "dl_vlan", "vlan_vid"];
pub const PIPELINE: &[&str] = &[
    "in_port",
    "in_port_oxm",
    "metadata",
    "reg0",
    "reg1",
    "reg15",
    "xreg1",
    "xxreg1",
    "ct_state",
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

const NSH_FIELDS: &[&str] = &["nsh_flags", "nsh_mdtype", "nsh_np", "nsh_spi", "nsh_si", "nsh_ttl"];
const NSH_WRITABLE: &[&str] = &["nsh_flags", "nsh_spi", "nsh_si", "nsh_c1", "nsh_c4", "nsh_ttl"];

pub const KINDS: &[Kind] = &[
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
        word: "sctp6",
        fields: &["ipv6_dst", "tp_src", "tp_dst"],
        writable: &["ipv6_dst", "sctp_src", "sctp_dst"],
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
    Kind { word: "dl_type=0x894f", fields: NSH_FIELDS, writable: NSH_WRITABLE },
    // Packets that begin with something else than Ethernet, as they come from `encap` and `decap`.
    Kind { word: "packet_type=(1,0x894f)", fields: NSH_FIELDS, writable: NSH_WRITABLE },
    Kind {
        word: "packet_type=(1,0x0800)",
        fields: &["nw_src", "nw_dst", "nw_ttl"],
        writable: &["ip_src", "ip_dst", "ip_dscp", "nw_ttl"],
    },
    Kind {
        word: "packet_type=(1,0x86dd)",
        fields: &["ipv6_src", "ipv6_label", "nw_ttl"],
        writable: &["ipv6_src", "ipv6_dst", "nw_ttl"],
    },
];

pub fn kind_of(word: &str) -> &'static Kind {
    KINDS.iter().find(|k| k.word == word).unwrap_or(&KINDS[0])
}

impl Kind {
    pub fn is_ip(&self) -> bool {
        self.has(Prereq::Ip)
    }

    /// Whether its packets meet a prerequisite.
    pub fn has(&self, prereq: Prereq) -> bool {
        parse_match(self.word, &NoNames, Mode::Ovs).is_ok_and(|m| prereq.holds(&m.key.pkt))
    }

    pub fn is_ethernet(&self) -> bool {
        !self.word.starts_with("packet_type")
    }

    /// A field that its packets have, of all that there are.
    fn any_field(&self, rng: &mut Rng) -> Option<&'static Field> {
        let f = &FIELDS[rng.below(FIELDS.len())];
        let m = parse_match(self.word, &NoNames, Mode::Ovs).ok()?;
        (is_known(f) && f.prereq.holds(&m.key.pkt)).then_some(f)
    }
}

/// Whether the stock switch knows a field too, and rules and actions can name it.
fn is_known(f: &Field) -> bool {
    use FieldId as F;
    // Registers that came with Open vSwitch 3.7.
    let newer = (F::Reg16..=F::Reg31).contains(&f.id)
        || (F::Xreg8..=F::Xreg15).contains(&f.id)
        || (F::Xxreg4..=F::Xxreg7).contains(&f.id);
    // Options that no TLV map gives a place.
    let unmapped = f.tun_option().is_some_and(|i| i > 1);
    !newer && !unmapped && !f.oxms.is_empty()
}

pub const MACS: &[&str] = &[
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
pub fn value(rng: &mut Rng, field: &str) -> String {
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
        "arp_spa" | "arp_tpa" | "nw_src" | "nw_dst" | "ip_src" | "ip_dst" | "tun_src"
        | "tun_dst" | "ct_nw_src" | "ct_nw_dst" => rng.pick(IPS),
        "ipv6_src" | "ipv6_dst" | "nd_target" | "tun_ipv6_src" | "tun_ipv6_dst" | "ct_ipv6_src"
        | "ct_ipv6_dst" => rng.pick(IP6S),
        "ipv6_label" => rng.pick(&["0", "0x1", "0xfffff"]),
        "nw_proto" | "ct_nw_proto" => rng.pick(&["6", "17", "1", "47", "132"]),
        "nw_tos" => rng.pick(&["0", "4", "252"]),
        "ip_dscp" => rng.pick(&["0", "1", "63"]),
        "ip_ecn" => rng.pick(&["0", "1", "3"]),
        "nw_ttl" | "mpls_ttl" => rng.pick(&["0", "1", "2", "64", "255"]),
        "nsh_ttl" | "nsh_flags" | "nsh_mdtype" => rng.pick(&["1", "2"]),
        "nsh_np" => rng.pick(&["1", "2", "3", "4"]),
        "nsh_spi" => rng.pick(&["0", "0x1", "0x123456"]),
        "nsh_si" => rng.pick(&["255", "1", "0"]),
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
pub fn wanted(rng: &mut Rng, field: &str) -> String {
    let mask = match field {
        "vlan_tci" => {
            // Those that OpenFlow 1.5 can say.
            let forms = &["vlan_tci=0x0000/0x1fff", "vlan_vid=0x1000/0x1000", "dl_vlan_pcp=5"];
            return rng.pick(forms).to_owned();
        }
        "ct_state" => {
            let states = &[
                "+trk",
                "-trk",
                "+new+trk",
                "+est+trk",
                "-new+trk",
                "+inv",
                "+rpl+trk",
                "+rel+trk",
                "0x20/0x21",
            ];
            return format!("ct_state={}", rng.pick(states));
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
        | "pkt_mark" | "tun_id" | "tun_metadata0" | "nsh_c1" => {
            rng.pick(&["", "/0x1", "/0xffff0000"])
        }
        "vlan_vid" => rng.pick(&["", "/0x1001"]),
        _ => "",
    };
    let value = value(rng, field);
    // A mask that leaves nothing of the value is refused by neither, but says nothing either.
    format!("{field}={value}{mask}")
}

/// What a rule wants of any field that packets of a kind have, and of which the field is. Fields of
/// a connection come with the state that they need.
pub fn wanted_of_any(rng: &mut Rng, kind: &Kind) -> Option<String> {
    if rng.once_in(8) {
        let (word, end) = match kind.is_ip() {
            true if kind.has(Prereq::Ipv4) => ("ct_nw_", ["src", "dst"]),
            true => ("ct_ipv6_", ["src", "dst"]),
            false => return None,
        };
        let proto = rng.pick(&["6", "17"]);
        let mut said = format!("ct_state=+trk{},ct_nw_proto={proto}", rng.pick(&["+est", "+new"]));
        match rng.below(3) {
            0 => {
                let field = format!("{word}{}", rng.pick(&end));
                let _ = write!(said, ",{field}={}", value(rng, &field));
            }
            1 => {
                let field = format!("ct_tp_{}", rng.pick(&end));
                let _ = write!(said, ",{field}={}", value(rng, &field));
            }
            _ => {}
        }
        return Some(said);
    }
    let f = kind.any_field(rng)?;
    match f.id {
        // What a switch calls its frozen pipelines and what it hashes to is its own affair: it refuses
        // rules that want to know.
        // Of one that wants none it writes the type of ICMP as of a megaflow, but with the mask of a rule.
        FieldId::RecircId if kind.word.contains("icmp") => return None,
        FieldId::RecircId => return Some("recirc_id=0".to_owned()),
        FieldId::DpHash => return None,
        // Said by the kind, or made of several rules.
        FieldId::PacketType | FieldId::EthType | FieldId::IpProto | FieldId::ConjId => return None,
        // A tag's are among those that rules often want.
        FieldId::VlanTci | FieldId::VlanVid | FieldId::VlanPcp | FieldId::ArpOp => return None,
        FieldId::Icmpv6Type | FieldId::Icmpv6Code if kind.word.contains(',') => return None,
        // Of these the stock 3.1 prints no match, or not the mask.
        FieldId::TunErspanVer
        | FieldId::TunErspanIdx
        | FieldId::TunErspanDir
        | FieldId::TunErspanHwid
        | FieldId::TunGbpFlags => return None,
        // It prints them with this type only.
        FieldId::NshC1 | FieldId::NshC2 | FieldId::NshC3 | FieldId::NshC4 => {
            return Some(format!("nsh_mdtype=1,{}={}", f.name, number(rng, f)));
        }
        _ => {}
    }
    let ones = f.all_ones();
    let (mut v, mut mask) = (number(rng, f), ones);
    if f.mask == MaskRule::Bitwise && rng.once_in(2) {
        mask = number(rng, f);
        v &= mask;
    }
    if mask == 0 || !f.is_valid(v) || !f.is_valid(mask & ones) {
        return None;
    }
    // Options have the length that the map gives them; and the names that are printed for GTP-U's fields
    // cannot be read.
    if f.tun_option().is_some() || f.name.contains("gtpu") {
        return Some(format!("{}={:#x}/{:#x}", f.name, v & 0xffff_ffff, mask & 0xffff_ffff));
    }
    let mut m = Match::ANY;
    f.set(&mut m.key, v);
    f.set(&mut m.mask, mask);
    let text = MatchText { m: &m, priority: None, names: &NoNames }.to_string();
    (!text.is_empty()).then_some(text)
}

/// A number for a field, of few that there are.
fn number(rng: &mut Rng, f: &Field) -> u128 {
    let n = [0, 1, 2, 0x11, 0x8000_0001, u128::MAX][rng.below(6)];
    n & f.all_ones()
}

/// A `set_field` of a field that packets of a kind have.
pub fn set_field(rng: &mut Rng, kind: &Kind) -> String {
    if rng.once_in(4)
        && let Some(f) = kind.any_field(rng).filter(|f| f.writable)
        && let Some(said) = set_any(rng, f)
    {
        return said;
    }
    let pool = if rng.once_in(2) || kind.writable.is_empty() { WRITABLE } else { kind.writable };
    let field = rng.pick(pool);
    let field = if field.starts_with("eth_") && !kind.is_ethernet() { "reg1" } else { field };
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

/// Sets any field, or a part of it, to one of few numbers.
fn set_any(rng: &mut Rng, f: &'static Field) -> Option<String> {
    // The marks of a connection are set in `ct` only, and a tag's number with the tag.
    let is_special = matches!(
        f.id,
        FieldId::CtMark
            | FieldId::CtLabel
            | FieldId::VlanVid
            | FieldId::VlanPcp
            | FieldId::InPortOxm
    );
    let v = number(rng, f);
    if is_special || !f.is_valid(v) || f.tun_option().is_some() {
        return None;
    }
    let name = f.oxms[0].name;
    let bits = usize::from(f.bits);
    if rng.once_in(2) && f.mask == MaskRule::Bitwise {
        let n = 1 + rng.below(bits.min(64));
        let start = rng.below(bits + 1 - n);
        let v = v & ((1 << n) - 1);
        return Some(format!("load:{v:#x}->{name}[{start}..{}]", start + n - 1));
    }
    let n = v.to_be_bytes();
    Some(match f.format {
        flow::field::Format::Ethernet => {
            let mac = n[10..].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
            format!("set_field:{mac}->{}", f.name)
        }
        flow::field::Format::Ipv4 => {
            format!("set_field:{}->{}", std::net::Ipv4Addr::from(v as u32), f.name)
        }
        flow::field::Format::Ipv6 => {
            format!("set_field:{}->{}", std::net::Ipv6Addr::from(v), f.name)
        }
        _ if bits <= 64 => format!("load:{v:#x}->{name}[]"),
        _ => format!("set_field:{v:#x}->{}", f.name),
    })
}

/// A part of any field that packets of a kind have, of `n` bits: `NXM_NX_REG0[0..7]`.
fn part(rng: &mut Rng, kind: &Kind, n: usize, written: bool) -> Option<String> {
    let f = kind.any_field(rng)?;
    let bits = usize::from(f.bits);
    let sum =
        matches!(f.id, FieldId::CtMark | FieldId::CtLabel | FieldId::DpHash | FieldId::RecircId);
    if n > bits || sum || (written && !f.writable) || f.tun_option().is_some() {
        return None;
    }
    // Fields that are set as one are taken as one.
    let whole = f.mask == MaskRule::Exact && written;
    if whole && n != bits {
        return None;
    }
    let start = rng.below(bits + 1 - n);
    Some(format!("{}[{start}..{}]", f.oxms[0].name, start + n - 1))
}

/// A `move` or a passage over the stack between any two fields.
pub fn copy(rng: &mut Rng, kind: &Kind) -> Option<String> {
    let n = [1, 3, 8, 12, 16, 32, 48, 64, 128][rng.below(9)];
    let (mut source, mut target) = (None, None);
    for _ in 0..20 {
        source = source.or_else(|| part(rng, kind, n, false));
        target = target.or_else(|| part(rng, kind, n, true));
    }
    let (source, target) = (source?, target?);
    Some(match rng.once_in(3) {
        true => format!("push:{source},pop:{target}"),
        false => format!("move:{source}->{target}"),
    })
}
