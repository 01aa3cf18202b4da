//! Reading keys: what [`super::format_key`] writes, in any order, with defaults for what is left
//! out. A group that is not named does not count (its mask is zero).

use alloc::string::{String, ToString};
use core::net::{Ipv4Addr, Ipv6Addr};

use base::{DpPort, MacAddr};
use flow::{CT_STATE_FLAGS, PacketKey, VLAN_PRESENT};
use packet::header::ethertype;

use super::table::{FRAGS, GROUPS, Item, Style, TCP_FLAGS};

/// The text is not a flow key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {at:?}")]
pub struct ParseError {
    /// What is wrong, and what would be right.
    pub what: String,
    /// The rest of the text from where it is wrong.
    pub at: String,
}

fn error<T>(what: &str, at: &str) -> Result<T, ParseError> {
    Err(ParseError { what: what.to_string(), at: at.to_string() })
}

/// Reads a key and its mask: `in_port(1),eth(src=…,dst=…),eth_type(0x0800),ipv4(…)`. `ports` finds
/// a port by name; numbers are tried first.
pub fn parse_key(
    text: &str,
    ports: &dyn Fn(&str) -> Option<DpPort>,
) -> Result<(PacketKey, PacketKey), ParseError> {
    let mut p = Parser { key: PacketKey::ZERO, mask: PacketKey::ZERO, n_tags: 0, depth: 0, ports };
    p.key.in_port = DpPort::NONE.0;
    p.groups(text)?;
    if p.mask.dl_type == 0 {
        // An Ethernet frame without a type is one with a length.
        (p.key.dl_type, p.mask.dl_type) = (ethertype::NOT_ETH_TYPE, u16::MAX);
    }
    Ok((p.key, p.mask))
}

/// Headers within headers.
const MAX_NESTING: usize = 32;

struct Parser<'a> {
    key: PacketKey,
    mask: PacketKey,
    n_tags: usize,
    /// Of `encap(` around what is being read.
    depth: usize,
    ports: &'a dyn Fn(&str) -> Option<DpPort>,
}

impl Parser<'_> {
    fn groups(&mut self, mut text: &str) -> Result<(), ParseError> {
        loop {
            text = text.trim_start_matches([',', ' ', '\t', '\r', '\n']);
            if text.is_empty() {
                return Ok(());
            }
            if text.starts_with("ufid:") {
                // The name of a flow in a dump: it follows from the rest.
                text = text.find([',', ' ']).map_or("", |end| &text[end..]);
                continue;
            }
            let Some((name, rest)) = text.split_once('(') else {
                return error("expected name(value)", text);
            };
            let mut depth = 1;
            let Some(end) = rest.find(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth == 0
            }) else {
                return error("missing closing parenthesis", text);
            };
            self.group(name.trim(), &rest[..end], text)?;
            text = &rest[end + 1..];
        }
    }

    fn group(&mut self, name: &str, body: &str, at: &str) -> Result<(), ParseError> {
        match name {
            "encap" => {
                self.depth += 1;
                if self.depth > MAX_NESTING {
                    return error("nested too deeply", at);
                }
                self.groups(body)?;
                self.depth -= 1;
                Ok(())
            }
            "in_port" => {
                let port = match body.parse() {
                    Ok(n) => Some(DpPort(n)),
                    Err(_) => (self.ports)(body),
                };
                let Some(port) = port else { return error("unknown port", at) };
                (self.key.in_port, self.mask.in_port) = (port.0, u32::MAX);
                Ok(())
            }
            "eth_type" => self.eth_type(body, at),
            "vlan" => self.vlan(body, at),
            "mpls" => self.mpls(body, at),
            "ct_state" => {
                let names = CT_STATE_FLAGS.map(|(n, bit)| (n, u16::from(bit)));
                let (v, m) = flags(body, &names, 0xff, at)?;
                (self.key.ct_state, self.mask.ct_state) = (v as u8, m as u8);
                Ok(())
            }
            "tcp_flags" => {
                let names = TCP_FLAGS.map(|(n, bit, _)| (n, bit));
                (self.key.tcp_flags, self.mask.tcp_flags) = flags(body, &names, 0xfff, at)?;
                Ok(())
            }
            _ => {
                let Some(group) = GROUPS.iter().find(|g| g.name == name) else {
                    return error("unknown field group", at);
                };
                items(&mut self.key, &mut self.mask, group.items, body, at)
            }
        }
    }

    fn eth_type(&mut self, body: &str, at: &str) -> Result<(), ParseError> {
        let (value, mask) = split_mask(body);
        let (Some(v), Some(m)) = (number(value), mask.map_or(Some(0xffff), number)) else {
            return error("expected an EtherType", at);
        };
        let (v, m) = (v as u16, m as u16);
        if matches!(v, ethertype::VLAN | ethertype::QINQ) && self.n_tags < self.key.vlans.len() {
            (self.key.vlans[self.n_tags].tpid, self.mask.vlans[self.n_tags].tpid) = (v, m);
        } else {
            (self.key.dl_type, self.mask.dl_type) = (v, m);
        }
        Ok(())
    }

    /// Label stack entries one after the other, each of four items.
    fn mpls(&mut self, body: &str, at: &str) -> Result<(), ParseError> {
        let mut rest = body;
        for i in 0..self.key.mpls_lse.len() {
            let end = rest.match_indices(',').nth(3).map_or(rest.len(), |(at, _)| at);
            let (mut key, mut mask) = (PacketKey::ZERO, PacketKey::ZERO);
            items(&mut key, &mut mask, super::table::MPLS.items, &rest[..end], at)?;
            (self.key.mpls_lse[i], self.mask.mpls_lse[i]) = (key.mpls_lse[0], mask.mpls_lse[0]);
            rest = rest[end..].trim_start_matches(',');
            if rest.is_empty() {
                return Ok(());
            }
        }
        error("too many labels", at)
    }

    fn vlan(&mut self, body: &str, at: &str) -> Result<(), ParseError> {
        let mut tags = GROUPS.iter().filter(|g| g.name == "vlan");
        let Some(group) = tags.nth(self.n_tags) else { return error("too many tags", at) };
        items(&mut self.key, &mut self.mask, group.items, body, at)?;
        self.key.vlans[self.n_tags].tci |= VLAN_PRESENT;
        self.mask.vlans[self.n_tags].tci |= VLAN_PRESENT;
        self.n_tags += 1;
        Ok(())
    }
}

fn items(
    key: &mut PacketKey,
    mask: &mut PacketKey,
    items: &[Item],
    body: &str,
    at: &str,
) -> Result<(), ParseError> {
    for part in body.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, text) = part.split_once('=').unwrap_or(("", part));
        let (name, text) = (name.trim(), text.trim());
        let Some(item) = items.iter().find(|i| i.name == name) else {
            return error("unknown field", if name.is_empty() { at } else { part });
        };
        let (value, m) = split_mask(text);
        let parsed = (item.parse(value), m.map_or(Some(item.all_ones()), |m| item.parse(m)));
        let (Some(v), Some(m)) = parsed else { return error("invalid value", part) };
        (item.set)(key, v);
        (item.set)(mask, m);
    }
    Ok(())
}

fn split_mask(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((v, m)) => (v, Some(m)),
        None => (text, None),
    }
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Item {
    fn parse(&self, text: &str) -> Option<u128> {
        let v = match self.style {
            Style::Mac => u128::from(text.parse::<MacAddr>().ok()?.to_u64()),
            Style::Ip4 => u128::from(u32::from(text.parse::<Ipv4Addr>().ok()?)),
            Style::Ip6 => u128::from(text.parse::<Ipv6Addr>().ok()?),
            Style::Frag => match FRAGS.iter().find(|(w, _)| *w == text) {
                Some((_, bits)) => u128::from(*bits),
                None => number(text)?,
            },
            _ => number(text)?,
        };
        (v <= self.all_ones()).then_some(v)
    }
}

/// `+syn-ack`, `syn|ack` or a number with an optional mask.
fn flags(text: &str, names: &[(&str, u16)], all: u16, at: &str) -> Result<(u16, u16), ParseError> {
    let bit = |name: &str| names.iter().find(|(n, _)| *n == name).map(|(_, b)| *b);
    if text.starts_with(['+', '-']) {
        let (mut v, mut m) = (0, 0);
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            let end = rest[1..].find(['+', '-']).map_or(rest.len(), |n| n + 1);
            let Some(b) = bit(&rest[1..end]) else { return error("unknown flag", rest) };
            m |= b;
            v |= if sign == '+' { b } else { 0 };
            rest = &rest[end..];
        }
        return Ok((v, m));
    }
    let (value, mask) = split_mask(text);
    if let (Some(v), Some(m)) = (number(value), mask.map_or(Some(all.into()), number)) {
        return Ok((v as u16 & all, m as u16 & all));
    }
    let Some(v) = value.split('|').try_fold(0, |v, name| Some(v | bit(name)?)) else {
        return error("unknown flag", at);
    };
    Ok((v, all))
}

#[cfg(test)]
mod tests {
    use super::super::{NO_NAMES, format_key};
    use super::*;

    fn no_ports(_: &str) -> Option<DpPort> {
        None
    }

    /// Lines as OVS 3.7 prints them: plain text of a key, the verbose text of the same flow.
    const FLOWS: &[(&str, &str)] = &[
        (
            "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01/ff:00:00:00:00:00,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.1/255.0.0.0,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=5/0xff,dst=80),tcp_flags(syn|ack)",
            "recirc_id(0),dp_hash(0/0),skb_priority(0/0),in_port(1),skb_mark(0/0),ct_state(0/0),ct_zone(0/0),ct_mark(0/0),ct_label(0/0),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01/ff:00:00:00:00:00,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.1/255.0.0.0,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=5/0xff,dst=80),tcp_flags(syn|ack)",
        ),
        (
            "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x86dd),ipv6(src=fe80::1/ffff::,dst=fe80::2,label=0x5/0xf,proto=17,tclass=0x70/0xfc,hlimit=64,frag=first),udp(src=53,dst=99)",
            "recirc_id(0),dp_hash(0/0),skb_priority(0/0),in_port(1),skb_mark(0/0),ct_state(0/0),ct_zone(0/0),ct_mark(0/0),ct_label(0/0),packet_type(ns=0,id=0),eth(src=00:00:00:00:00:00/00:00:00:00:00:00,dst=00:00:00:00:00:00/00:00:00:00:00:00),eth_type(0x86dd),ipv6(src=fe80::1/ffff::,dst=fe80::2,label=0x5/0xf,proto=17,tclass=0x70/0xfc,hlimit=64,frag=first),udp(src=53,dst=99)",
        ),
        (
            "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3/0x0),encap(eth_type(0x0806),arp(sip=1.2.3.4,tip=1.2.3.5,op=1,sha=02:00:00:00:00:01,tha=00:00:00:00:00:00))",
            "recirc_id(0),dp_hash(0/0),skb_priority(0/0),in_port(1),skb_mark(0/0),ct_state(0/0),ct_zone(0/0),ct_mark(0/0),ct_label(0/0),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3/0x0),encap(eth_type(0x0806),arp(sip=1.2.3.4,tip=1.2.3.5,op=1,sha=02:00:00:00:00:01,tha=00:00:00:00:00:00))",
        ),
        (
            "recirc_id(0x7),dp_hash(0x5/0xf),skb_priority(0x5),in_port(1),skb_mark(0x3/0xf),ct_state(+est+trk),ct_zone(0x5),ct_mark(0x7/0xff),ct_label(0x1/0x3),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=132,tos=0,ttl=64,frag=later)",
            "recirc_id(0x7),dp_hash(0x5/0xf),skb_priority(0x5),in_port(1),skb_mark(0x3/0xf),ct_state(0x22/0x22),ct_zone(0x5),ct_mark(0x7/0xff),ct_label(0x1/0x3),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=132,tos=0,ttl=64,frag=later)",
        ),
    ];

    #[test]
    fn text_that_ovs_prints_comes_back_the_same() {
        for (plain, verbose) in FLOWS {
            let (key, mask) = parse_key(plain, &no_ports).unwrap();
            let text = |more| format_key(&key, Some(&mask), more, NO_NAMES).to_string();
            assert_eq!(text(false), *plain);
            assert_eq!(text(true), *verbose);
            assert_eq!(parse_key(verbose, &no_ports).unwrap(), (key, mask), "{verbose}");
        }
    }

    #[test]
    fn bits_that_do_not_count_are_shown_by_m_only() {
        let verbose = "recirc_id(0x2),dp_hash(0/0),skb_priority(0/0),in_port(3),skb_mark(0/0),ct_state(0x2a/0x3),ct_zone(0/0),ct_mark(0/0),ct_label(0/0),ct_tuple4(src=192.168.0.1/0.0.0.0,dst=192.168.0.2/0.0.0.0,proto=1/0,tp_src=8/0,tp_dst=0/0),packet_type(ns=0,id=0),eth(src=52:54:00:00:00:02,dst=52:54:00:00:00:01),eth_type(0x0800),ipv4(src=192.168.0.2/0.0.0.0,dst=192.168.0.1/0.0.0.0,proto=1/0,tos=0/0,ttl=64/0,frag=no),icmp(type=0/0,code=0/0)";
        let (key, mask) = parse_key(verbose, &no_ports).unwrap();
        assert_eq!(format_key(&key, Some(&mask), true, NO_NAMES).to_string(), verbose);
        assert_eq!(
            format_key(&key, Some(&mask), false, NO_NAMES).to_string(),
            "recirc_id(0x2),in_port(3),ct_state(-new+est),packet_type(ns=0,id=0),eth(src=52:54:00:00:00:02,dst=52:54:00:00:00:01),eth_type(0x0800),ipv4(frag=no)"
        );
        assert_eq!(super::super::key::miniflow_bits(&mask), (5, 1));
        let tcp6 = "eth_type(0x86dd),ipv6(src=fe80::1/::,dst=fe80::2/::,label=0x5/0,proto=6/0,tclass=0/0,hlimit=64/0,frag=no),tcp(src=5/0,dst=80/0),tcp_flags(0/0)";
        let (key, mask) = parse_key(tcp6, &no_ports).unwrap();
        assert!(format_key(&key, Some(&mask), true, NO_NAMES).to_string().ends_with(tcp6));
        let mpls = "eth_type(0x8847),mpls(label=100/0x0,tc=3/0,ttl=64/0x0,bos=1/0)";
        let (key, mask) = parse_key(mpls, &no_ports).unwrap();
        assert!(format_key(&key, Some(&mask), true, NO_NAMES).to_string().ends_with(mpls));
        for mpls in [
            "eth_type(0x8847),mpls(label=5/0xfffff,tc=0/0,ttl=64/0x0,bos=0/1,label=7/0x0,tc=0/0,ttl=9/0x0,bos=1/1)",
            "eth_type(0x8847),mpls(label=5,tc=0,ttl=64,bos=0,label=7,tc=3,ttl=9,bos=1)",
        ] {
            let (key, mask) = parse_key(mpls, &no_ports).unwrap();
            assert!(format_key(&key, Some(&mask), false, NO_NAMES).to_string().ends_with(mpls));
        }
    }

    #[test]
    fn ports_go_by_name_or_number() {
        let ports = |n: &str| (n == "vm1p").then_some(DpPort(7));
        assert_eq!(parse_key("in_port(vm1p)", &ports).unwrap().0.in_port, 7);
        assert_eq!(parse_key("in_port(9)", &ports).unwrap().0.in_port, 9);
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |n: usize| "encap(".repeat(n) + &")".repeat(n);
        assert!(parse_key(&nested(32), &no_ports).is_ok());
        assert_eq!(parse_key(&nested(1000), &no_ports).unwrap_err().what, "nested too deeply");
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_place() {
        for (text, at) in [
            ("in_port(1),bogus(1)", "bogus(1)"),
            ("in_port(1", "in_port(1"),
            ("in_port(eth9)", "in_port(eth9)"),
            ("eth(src=02:00)", "src=02:00"),
            ("eth_type(0x800),ipv4(src=1.2.3.400)", "src=1.2.3.400"),
            ("eth_type(0x800),ipv4(proto=256)", "proto=256"),
            ("ct_state(+nix)", "+nix"),
            ("tcp_flags(syn|nix)", "tcp_flags(syn|nix)"),
            ("hello", "hello"),
        ] {
            assert_eq!(parse_key(text, &no_ports).unwrap_err().at, at, "{text}");
        }
    }
}
