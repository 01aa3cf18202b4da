//! Reading matches and flows.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base::OfPort;
use packet::header::{ethertype, ipproto};

use super::scan::{Delim, Pair, Pairs, Tok};
use super::value;
use super::{Mode, NameMap, TextError};
use crate::field::{FIELDS, Field, FieldId, Prereq};
use crate::key::{FlowKey, Match, PacketKey};
use crate::tun_metadata::{N_OPTIONS, OPTION_SPACE, OptionMatch};

/// Words that stand for an EtherType and an IP protocol (0 for none).
pub const PROTOCOLS: [(&str, u16, u8); 18] = [
    ("ip", ethertype::IPV4, 0),
    ("ipv4", ethertype::IPV4, 0),
    ("ip4", ethertype::IPV4, 0),
    ("arp", ethertype::ARP, 0),
    ("icmp", ethertype::IPV4, ipproto::ICMP),
    ("tcp", ethertype::IPV4, ipproto::TCP),
    ("udp", ethertype::IPV4, ipproto::UDP),
    ("sctp", ethertype::IPV4, ipproto::SCTP),
    ("ipv6", ethertype::IPV6, 0),
    ("ip6", ethertype::IPV6, 0),
    ("icmp6", ethertype::IPV6, ipproto::ICMPV6),
    ("icmpv6", ethertype::IPV6, ipproto::ICMPV6),
    ("tcp6", ethertype::IPV6, ipproto::TCP),
    ("udp6", ethertype::IPV6, ipproto::UDP),
    ("sctp6", ethertype::IPV6, ipproto::SCTP),
    ("rarp", ethertype::RARP, 0),
    ("mpls", ethertype::MPLS, 0),
    ("mplsm", ethertype::MPLS_MCAST, 0),
];

fn protocol(name: &str) -> Option<(u16, u8)> {
    PROTOCOLS.iter().find(|p| p.0 == name).map(|p| (p.1, p.2))
}

/// Words that make a prerequisite hold, for hints.
fn words_for(p: Prereq) -> &'static str {
    match p {
        Prereq::None | Prereq::Ethernet => "eth",
        Prereq::Vlan => "dl_vlan",
        Prereq::Arp => "arp (or rarp)",
        Prereq::Mpls => "mpls (or mplsm)",
        Prereq::Nsh => "dl_type=0x894f",
        Prereq::Ipv4 => "ip",
        Prereq::Ipv6 => "ipv6",
        Prereq::Ip => "ip (or ipv6)",
        Prereq::Tcp => "tcp (or tcp6)",
        Prereq::Udp => "udp (or udp6)",
        Prereq::Sctp => "sctp (or sctp6)",
        Prereq::Icmp => "icmp",
        Prereq::Icmpv6 => "icmp6",
        Prereq::Nd => "icmp6,icmp_type=135 (or 136)",
        Prereq::NdSolicit => "icmp6,icmp_type=135",
        Prereq::NdAdvert => "icmp6,icmp_type=136",
        Prereq::CtValid => "ct_state=+trk-inv",
    }
}

/// The prerequisites of which one must hold for `name`: the old names of fields serve several
/// protocols.
fn alternatives(name: &str, f: &Field) -> Vec<Prereq> {
    match name {
        "tp_src" | "tp_dst" => {
            [Prereq::Tcp, Prereq::Udp, Prereq::Sctp, Prereq::Icmp, Prereq::Icmpv6].into()
        }
        "icmp_type" | "icmp_code" => [Prereq::Icmp, Prereq::Icmpv6].into(),
        "nw_src" | "nw_dst" => [Prereq::Ipv4, Prereq::Arp].into(),
        "nw_proto" => [Prereq::Ip, Prereq::Arp].into(),
        _ => [f.prereq].into(),
    }
}

/// Collects a match from pairs.
pub struct MatchParser<'a, 'p> {
    m: Match,
    mode: Mode,
    names: &'p dyn NameMap,
    seen: Vec<(Tok<'a>, Option<&'static Field>)>,
    said: Vec<(&'static Field, u128)>,
}

impl core::fmt::Debug for MatchParser<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MatchParser").field("m", &self.m).finish_non_exhaustive()
    }
}

impl<'a, 'p> MatchParser<'a, 'p> {
    /// Nothing yet.
    pub fn new(names: &'p dyn NameMap, mode: Mode) -> Self {
        MatchParser { m: Match::ANY, mode, names, seen: Vec::new(), said: Vec::new() }
    }

    /// Takes a pair. Gives false if its key is neither a field nor a protocol.
    pub fn take(&mut self, pair: &Pair<'a>) -> Result<bool, TextError> {
        let name = pair.key.text;
        let before = self.m;
        if let Some((dl_type, nw_proto)) = protocol(name) {
            if self.mode == Mode::Strict && pair.delim != Delim::None {
                return Err(TextError::new(pair.value, format!("{name} takes no value")));
            }
            self.m.set(FieldId::EthType, dl_type.into(), 0xffff);
            if nw_proto != 0 {
                self.m.set(FieldId::IpProto, nw_proto.into(), 0xff);
            }
            self.check_again(pair, before, None)?;
            return Ok(true);
        }
        if name == "eth" {
            self.m.set(FieldId::PacketType, 0, u32::MAX.into());
            return Ok(true);
        }
        let Some(field) = Field::by_name(name) else { return Ok(false) };
        let mut value = pair.value;
        if value.text.is_empty() {
            if self.mode == Mode::Strict && field.tun_option().is_none() {
                return Err(TextError::new(pair.key, format!("field {name} missing value"))
                    .hint(format!("write {name}=VALUE")));
            }
            // The field's being there is all that is asked for.
            value.text = "0/0";
        }
        if let Some(i) = field.tun_option() {
            let option = value::parse_option(field, value, self.mode)?;
            // Also one of no bits has to be said.
            self.said.push((field, u128::MAX));
            self.take_option(pair, i, &option)?;
            return Ok(true);
        }
        let (v, m) = value::parse_raw(field, value, self.names, self.mode)?;
        self.said.push((field, m));
        // OVS's last word on a field is the one that counts. These are parts of others.
        let part = matches!(
            field.id,
            FieldId::NwTos
                | FieldId::DlVlan
                | FieldId::VlanVid
                | FieldId::DlVlanPcp
                | FieldId::VlanPcp
        );
        if m == 0 || self.mode == Mode::Ovs && !part {
            self.m.forget(field.id);
        } else if self.mode == Mode::Ovs && field.id == FieldId::VlanVid {
            // This one counts for the bit of the tag's presence, too.
            self.m.key.pkt.vlans[0].tci &= !0x1fff;
            self.m.mask.pkt.vlans[0].tci &= !0x1fff;
        }
        self.m.set(field.id, v, m & value::ones(field));
        self.m.imply_ethernet(field.id);
        if m != 0 {
            self.check_again(pair, before, Some(field))?;
        }
        Ok(true)
    }

    /// Fields and masks that were said so far, in the bytes of the wire.
    pub fn said(&self) -> &[(&'static Field, u128)] {
        &self.said
    }

    /// Takes a part of a field: `value`, `mask` in place.
    pub fn take_part(
        &mut self,
        pair: &Pair<'a>,
        field: &'static Field,
        value: u128,
        mask: u128,
    ) -> Result<(), TextError> {
        let before = self.m;
        // With what is asked of the rest of the field.
        self.said.push((field, mask | field.get(&self.m.mask)));
        self.m.set(field.id, value, mask);
        self.m.imply_ethernet(field.id);
        self.check_again(pair, before, Some(field))
    }

    fn take_option(&mut self, pair: &Pair<'a>, i: usize, o: &OptionMatch) -> Result<(), TextError> {
        let name = pair.key.text;
        let used: usize = (0..N_OPTIONS).filter_map(|j| self.m.tun_option(j)).map(|o| o.len).sum();
        let text = if self.m.tun_option(i).is_some() {
            format!("field {name} set multiple times")
        } else if used + o.len > OPTION_SPACE || !self.m.set_tun_option(i, o) {
            format!(
                "field {name} exceeds maximum size for tunnel metadata (used {}, max {OPTION_SPACE})",
                used + o.len
            )
        } else {
            return Ok(());
        };
        Err(TextError::new(pair.key, text))
    }

    /// Strict: nothing twice, nothing against what was said before.
    fn check_again(
        &mut self,
        pair: &Pair<'a>,
        before: Match,
        field: Option<&'static Field>,
    ) -> Result<(), TextError> {
        if self.mode == Mode::Ovs {
            return Ok(());
        }
        let key = pair.key;
        if self.seen.iter().any(|(k, _)| k.text == key.text) {
            return Err(TextError::new(key, format!("{} is given twice", key.text))
                .hint("a flow matches each field once"));
        }
        if !before.key.eq_masked(&self.m.key, &before.mask) {
            let old = self.contradicted(&before);
            return Err(TextError::new(key, format!("{} contradicts {old}", key.text))
                .hint("no packet can match both; make it two flows"));
        }
        self.seen.push((key, field));
        Ok(())
    }

    /// The word whose requirement the last one changed.
    fn contradicted(&self, before: &Match) -> String {
        for (key, field) in &self.seen {
            let changed = |f: &Field| f.get(&before.key) != f.get(&self.m.key);
            let hit = match field {
                Some(f) => changed(f),
                None => {
                    let (_, proto) = protocol(key.text).unwrap_or_default();
                    changed(FieldId::EthType.row()) || proto != 0 && changed(FieldId::IpProto.row())
                }
            };
            if hit {
                return String::from(key.text);
            }
        }
        String::from("what is said before")
    }

    /// The match. In strict mode every field's prerequisite must hold; in OVS's mode fields
    /// without it are dropped ([`Match::normalize`]), and the second value tells if any was.
    pub fn finish(mut self) -> Result<(Match, bool), TextError> {
        self.m.forget_default_packet_type();
        if self.mode == Mode::Ovs {
            let changed = self.m.normalize();
            return Ok((self.m, changed));
        }
        for (key, field) in &self.seen {
            let Some(field) = field else { continue };
            let alternatives = alternatives(key.text, field);
            if !alternatives.iter().any(|&p| self.m.has_prereq(p)) {
                let words = words_for(alternatives[0]);
                return Err(TextError::new(
                    *key,
                    format!("{} needs {words} in the match", key.text),
                )
                .hint(format!(
                    "without it the field does not exist and would be ignored; add {words}"
                )));
            }
        }
        Ok((self.m, false))
    }

    /// What is collected so far.
    pub fn so_far(&self) -> &Match {
        &self.m
    }
}

/// Reads a whole match.
pub fn parse_match(text: &str, names: &dyn NameMap, mode: Mode) -> Result<Match, TextError> {
    let mut p = MatchParser::new(names, mode);
    for pair in Pairs::new(Tok::line(text)) {
        if !p.take(&pair)? {
            return Err(unknown_key(pair.key, &[]));
        }
    }
    Ok(p.finish()?.0)
}

/// "unknown keyword", with the nearest known word as a hint. `more` are words that are known
/// beside fields and protocols.
pub fn unknown_key(key: Tok<'_>, more: &[&str]) -> TextError {
    let e = TextError::new(key, format!("unknown keyword {}", key.text));
    let words = FIELDS
        .iter()
        .flat_map(|f| f.aliases.iter().copied().chain([f.name]))
        .chain(PROTOCOLS.iter().map(|p| p.0))
        .chain(more.iter().copied());
    match nearest(key.text, words) {
        Some(w) => e.hint(format!("did you mean {w}?")),
        None => e,
    }
}

/// The word that differs least from `text`, if it is near enough to be meant.
pub fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let limit = 1 + text.len() / 4;
    words.map(|w| (distance(text, w), w)).filter(|d| d.0 <= limit).min_by_key(|d| d.0).map(|d| d.1)
}

/// Insertions, deletions and replacements from one word to another, letter case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let x = x.to_ascii_lowercase();
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

/// Reads a flow as `ofproto/trace` does: exact values of fields, each once, prerequisites first. A
/// packet that says no `in_port` came in by none.
pub fn parse_exact(text: &str, names: &dyn NameMap) -> Result<FlowKey, TextError> {
    let mut key = FlowKey { actset_output: u32::from(OfPort::UNSET.0), ..FlowKey::ZERO };
    // Which bits were said.
    let mut said = FlowKey::ZERO;
    let mut options = Match::ANY;
    for pair in Pairs::new(Tok::line(text)) {
        let name = pair.key.text;
        let err = |why: String| Err(TextError::new(pair.key, format!("{text}: {why}")));
        if let Some((dl_type, nw_proto)) = protocol(name) {
            if said.pkt.dl_type != 0 {
                return err(String::from("Ethernet type set multiple times"));
            }
            key.pkt.dl_type = dl_type;
            said.pkt.dl_type = u16::MAX;
            if nw_proto != 0 {
                if said.pkt.nw_proto != 0 {
                    return err(String::from("network protocol set multiple times"));
                }
                key.pkt.nw_proto = nw_proto;
                said.pkt.nw_proto = u8::MAX;
            }
            continue;
        }
        if name == "eth" {
            continue;
        }
        let Some(field) = Field::by_name(name) else {
            return err(format!("unknown field {name}"));
        };
        // A packet without an Ethernet header has the type of its own.
        let dl_type = match key.pkt.packet_type >> 16 {
            1 => key.pkt.packet_type as u16,
            _ => key.pkt.dl_type,
        };
        if !field.prereq.holds(&PacketKey { dl_type, ..key.pkt }) && field.prereq != Prereq::Vlan {
            return err(format!("prerequisites not met for setting {name}"));
        }
        if field.get(&said) != 0 {
            return err(format!("field {name} set multiple times"));
        }
        let bad = |why: &str| {
            Err(TextError::new(pair.value, format!("{text}: bad value for {name} ({why})")))
        };
        if let Some(i) = field.tun_option() {
            if options.tun_option(i).is_some() {
                return err(format!("field {name} set multiple times"));
            }
            let option = match value::parse_option(field, pair.value, Mode::Ovs) {
                Ok(option) => option,
                Err(e) => return bad(&e.message),
            };
            if option.masked {
                return bad(&format!("{}: wildcards not allowed here", pair.value.text));
            }
            if !options.set_tun_option(i, &option) {
                return bad("all options together are too long");
            }
            continue;
        }
        let (v, m) = match value::parse(field, pair.value, names, Mode::Ovs) {
            Ok(vm) => vm,
            Err(e) => return bad(&e.message),
        };
        let ones = if field.id == FieldId::VlanVid { 0x1fff } else { field.all_ones() };
        let flags = field.id == FieldId::CtState && m == 0xff;
        if m != ones && !flags && field.id != FieldId::IpFrag && field.id != FieldId::TunFlags {
            return bad(&format!("{}: wildcards not allowed here", pair.value.text));
        }
        let mut one = Match::ANY;
        one.set(field.id, v, m);
        key |= &one.key;
        said |= &one.mask;
    }
    key.tun_metadata = options.key.tun_metadata;
    if key.pkt.vlans[0].tci != 0 {
        key.pkt.vlans[0].tpid = ethertype::VLAN;
    }
    if key.pkt.in_port == 0 {
        key.pkt.in_port = OfPort::NONE.0.into();
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::super::NoNames;
    use super::*;

    fn strict(s: &str) -> Result<Match, TextError> {
        parse_match(s, &NoNames, Mode::Strict)
    }

    #[test]
    fn the_type_of_a_packet_without_ethernet_makes_prerequisites_hold() {
        let k = parse_exact("packet_type=(1,0x894f),nsh_mdtype=1", &NoNames).unwrap();
        assert_eq!(k.pkt.nsh_mdtype, 1);
        assert!(parse_exact("packet_type=(1,0x800),nsh_mdtype=1", &NoNames).is_err());
    }

    /// Each line is refused with a caret under the second text and a message with the third.
    #[test]
    fn strict_mode_refuses_what_cannot_be_meant() {
        for (line, at, what) in [
            ("ip,nw_src=300.1.2.3", "300", "above 255"),
            ("ip,arp", "arp", "contradicts ip"),
            ("dl_vlan=5000", "5000", "too large"),
            ("tcp_dst=80", "tcp_dst", "needs tcp"),
            ("udp,tcp_dst=80", "tcp_dst", "needs tcp"),
            ("nw_src=10.0.0.1", "nw_src", "needs ip"),
            ("ip,nw_src=10.0.0.1/24", "10.0.0.1/24", "outside its mask"),
            ("in_port=2,in_port=3", "in_port", "twice"),
            ("in_port=2,in_port=2", "in_port", "twice"),
            ("ip,ip", "ip", "twice"),
            ("vlan_tci=0x1/0x", "0x", "bad syntax"),
            ("metadata=0x1/0xf0", "0x1/0xf0", "outside its mask"),
            ("reg0", "reg0", "missing value"),
            ("icmp6,nd_target=fe80::1", "nd_target", "needs icmp6,icmp_type=135"),
        ] {
            let e = strict(line).unwrap_err();
            assert_eq!(&line[e.span.clone()], at, "{line}: {e}");
            assert!(e.message.contains(what), "{line}: {e}");
            assert!(parse_match(line, &NoNames, Mode::Ovs).is_ok(), "OVS takes {line}");
        }
    }

    #[test]
    fn both_modes_refuse_with_the_same_words() {
        for (line, message) in [
            ("in_port=abc", "abc: invalid or unknown port for in_port"),
            (
                "ip,nw_src=10.0.0.0/33",
                "10.0.0.0/33: IPv4 network prefix bits not between 0 and 32, inclusive",
            ),
            ("dl_src=zz:00:00:00:00:00", "zz:00:00:00:00:00: invalid Ethernet address"),
            ("ip,ct_state=+bogus", "bogus: unknown ct_state flag(s)"),
            ("ip,ct_state=+new+new", "new: Each ct_state flag can be specified only once"),
            ("ip,ct_state=+new-new", "new: Each ct_state flag can be specified only once"),
            ("ip,ct_state=0x1/0xffff", "0x1/0xffff: unknown ct_state flag(s)"),
            ("ip,ct_state=+", ": unknown ct_state flag(s)"),
            ("icmp,icmp_type=999", "999: value too large for 1-byte field icmp_type"),
            ("reg0=-1", "-1: value too large for 4-byte field reg0"),
            ("reg0=5.5", "5.5: bad syntax for reg0 value"),
            ("reg0=1/2/3", "1/2/3: bad syntax for reg0 mask"),
            ("dl_vlan=65536", "65536: value too large for 2-byte field dl_vlan"),
            ("dl_vlan=5/0xff", "5/0xff: invalid mask for field dl_vlan"),
            ("dl_type=0x800/0xff00", "0x800/0xff00: invalid mask for field eth_type"),
            ("ct_zone=5/0xff", "5/0xff: invalid mask for field ct_zone"),
            ("reg99=1", "unknown keyword reg99"),
            ("packet_type=5", "5: bad syntax for packet type missing '('"),
        ] {
            for mode in [Mode::Strict, Mode::Ovs] {
                assert_eq!(parse_match(line, &NoNames, mode).unwrap_err().message, message);
            }
        }
    }

    #[test]
    fn near_words_are_offered() {
        let hint = |s: &str| strict(s).unwrap_err().hint.unwrap_or_default();
        assert_eq!(hint("PRIORTY=5,nw_scr=1.2.3.4"), "");
        assert_eq!(hint("nw_scr=1.2.3.4"), "did you mean nw_src?");
    }

    #[test]
    fn the_flow_of_trace() {
        let k = parse_exact("in_port=1,tcp,nw_ttl=64,tcp_flags=syn,dl_vlan=5", &NoNames).unwrap();
        assert_eq!((k.pkt.in_port, k.pkt.nw_proto, k.pkt.nw_ttl, k.pkt.tcp_flags), (1, 6, 64, 2));
        assert_eq!((k.pkt.vlans[0].tpid, k.pkt.vlans[0].tci), (0x8100, 0x1005));
        for (s, e) in [
            ("in_port=9,bogus", "unknown field bogus"),
            ("in_port=1,in_port=2", "field in_port set multiple times"),
            ("in_port=1,tcp_dst=5", "prerequisites not met for setting tcp_dst"),
            ("ip,tcp", "Ethernet type set multiple times"),
            ("reg0=4/4", "bad value for reg0 (4/4: wildcards not allowed here)"),
            ("tcp,ct_state=+new", "bad value for ct_state (+new: wildcards not allowed here)"),
            ("tcp,in_port", "bad value for in_port (: invalid or unknown port for in_port)"),
            (
                "tcp,nw_ttl=300",
                "bad value for nw_ttl (300: value too large for 1-byte field nw_ttl)",
            ),
        ] {
            assert_eq!(parse_exact(s, &NoNames).unwrap_err().message, format!("{s}: {e}"));
        }
    }
}
