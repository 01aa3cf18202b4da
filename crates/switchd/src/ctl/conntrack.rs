//! Connection tracking over the control socket: the words, and the shapes of their arguments and replies.
//!
//! The reply text of every word is one JSON value. FILTER is a [`ConnFilter`] as JSON; without it, all.
//!
//! | word | arguments | reply |
//! |---|---|---|
//! | `conntrack/list` | `[FILTER]` | array of [`ConnRecord`], each in a line of its own |
//! | `conntrack/delete` | `FILTER` | array of the deleted [`ConnRecord`]s |
//! | `conntrack/flush` | | `{}` |
//! | `conntrack/count` | | number of connections |
//! | `conntrack/stats` | | array of [`ConnStats`], one for each worker |
//! | `conntrack/events` | `[SEQ [FILTER]]` | [`ConnEvents`] |
//!
//! `conntrack/events` without SEQ answers at once with the present sequence number and no events. With SEQ
//! it answers when there are events after it, or with none after about [`POLL`]; the client then asks
//! again with the number it was given. Events that the daemon no longer holds are counted as lost.
//!
//! A filter's field that is absent matches everything. Fields of a record that are absent are unknown
//! to the datapath (counters that are off, the state of a protocol that has none).

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long `conntrack/events` waits before it answers with nothing.
pub const POLL: Duration = Duration::from_secs(20);

/// Layer 3 protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, `AF_INET`.
    Ipv4,
    /// IPv6, `AF_INET6`.
    Ipv6,
}

impl Family {
    /// `ipv4` or `ipv6`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// The Linux address family number.
    pub fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// What a tuple says beyond addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum L4 {
    /// Nothing: a protocol that is tracked by addresses only.
    #[default]
    None,
    /// TCP, UDP, SCTP, DCCP, UDP-Lite: ports in host order.
    Ports {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Type of a packet in this direction.
        #[serde(rename = "type")]
        ty: u8,
        /// Code.
        code: u8,
        /// Identifier of a query.
        id: u16,
    },
}

/// One direction of a connection, as its packets show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Ports or ICMP fields.
    #[serde(default)]
    pub l4: L4,
}

/// Packets and bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnCounters {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnRecord {
    /// IP protocol number.
    pub proto: u8,
    /// From the initiator.
    pub orig: ConnTuple,
    /// To the initiator: what an answer looks like on the wire, NAT included.
    pub reply: ConnTuple,
    /// State by Linux conntrack's name (`ESTABLISHED`, `TIME_WAIT`), for protocols that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// State of the initiator's end by OVS's name (`FIN_WAIT_2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_orig: Option<String>,
    /// State of the other end by OVS's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reply: Option<String>,
    /// Seconds until it expires if no packet comes.
    pub timeout: u32,
    /// Traffic from the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_counters: Option<ConnCounters>,
    /// Traffic to the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_counters: Option<ConnCounters>,
    /// `ct_mark`.
    #[serde(default)]
    pub mark: u32,
    /// `ct_label`.
    #[serde(default, with = "hex128", skip_serializing_if = "is_zero128")]
    pub labels: u128,
    /// `ct_zone`.
    #[serde(default)]
    pub zone: u16,
    /// A packet came back.
    pub seen_reply: bool,
    /// Not to be evicted early: traffic went both ways long enough.
    pub assured: bool,
    /// A number that tells this connection from others.
    pub id: u32,
    /// Application-layer helper, `ftp` for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
}

impl ConnRecord {
    /// Layer 3 protocol.
    pub fn family(&self) -> Family {
        if self.orig.src.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Is the source rewritten (the reply does not go back to the original source)?
    pub fn source_nat(&self) -> bool {
        self.reply.dst != self.orig.src || ports(self.reply).1 != ports(self.orig).0
    }

    /// Is the destination rewritten?
    pub fn destination_nat(&self) -> bool {
        self.reply.src != self.orig.dst || ports(self.reply).0 != ports(self.orig).1
    }
}

/// Source and destination port, where there are ports.
fn ports(tuple: ConnTuple) -> (Option<u16>, Option<u16>) {
    match tuple.l4 {
        L4::Ports { sport, dport } => (Some(sport), Some(dport)),
        L4::None | L4::Icmp { .. } => (None, None),
    }
}

/// An address and which of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddrMatch {
    /// Address.
    pub addr: IpAddr,
    /// One bits are compared; of the same family as `addr`.
    pub mask: IpAddr,
}

impl AddrMatch {
    /// Does `other` agree in the bits that count?
    pub fn matches(&self, other: IpAddr) -> bool {
        match (self.addr, self.mask, other) {
            (IpAddr::V4(a), IpAddr::V4(m), IpAddr::V4(o)) => {
                (a.to_bits() ^ o.to_bits()) & m.to_bits() == 0
            }
            (IpAddr::V6(a), IpAddr::V6(m), IpAddr::V6(o)) => {
                (a.to_bits() ^ o.to_bits()) & m.to_bits() == 0
            }
            _ => false,
        }
    }
}

/// Addresses and ports wanted in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TupleFilter {
    /// Source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<AddrMatch>,
    /// Destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<AddrMatch>,
    /// Source port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
}

impl TupleFilter {
    fn matches(&self, tuple: ConnTuple) -> bool {
        let (sport, dport) = ports(tuple);
        self.src.is_none_or(|m| m.matches(tuple.src))
            && self.dst.is_none_or(|m| m.matches(tuple.dst))
            && (self.sport.is_none() || self.sport == sport)
            && (self.dport.is_none() || self.dport == dport)
    }
}

/// Which connections are meant; every field that is given has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnFilter {
    /// Layer 3 protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// IP protocol number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<u8>,
    /// From the initiator.
    #[serde(default)]
    pub orig: TupleFilter,
    /// To the initiator.
    #[serde(default)]
    pub reply: TupleFilter,
    /// ICMP type from the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code from the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// ICMP identifier from the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// State by Linux conntrack's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `ct_zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// `ct_mark`: value and mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<(u32, u32)>,
    /// Only where a packet came back (true) or none did (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_reply: Option<bool>,
    /// Only where assured, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assured: Option<bool>,
    /// Only where the source is rewritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub src_nat: bool,
    /// Only where the destination is rewritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dst_nat: bool,
    /// Only where either is rewritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_nat: bool,
    /// `conntrack/list` only: set the counters of what is listed to zero after reading them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero: bool,
}

impl ConnFilter {
    /// Is this connection meant?
    pub fn matches(&self, c: &ConnRecord) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, got: T) -> bool {
            wanted.as_ref().is_none_or(|w| *w == got)
        }
        let icmp = match c.orig.l4 {
            L4::Icmp { ty, code, id } => {
                is(&self.icmp_type, ty) && is(&self.icmp_code, code) && is(&self.icmp_id, id)
            }
            _ => self.icmp_type.is_none() && self.icmp_code.is_none() && self.icmp_id.is_none(),
        };
        is(&self.family, c.family())
            && is(&self.proto, c.proto)
            && self.orig.matches(c.orig)
            && self.reply.matches(c.reply)
            && icmp
            && (self.state.is_none() || self.state == c.state)
            && is(&self.zone, c.zone)
            && self.mark.is_none_or(|(value, mask)| (c.mark ^ value) & mask == 0)
            && is(&self.seen_reply, c.seen_reply)
            && is(&self.assured, c.assured)
            && (!self.src_nat || c.source_nat())
            && (!self.dst_nat || c.destination_nat())
            && (!self.any_nat || c.source_nat() || c.destination_nat())
    }
}

/// Counters of one worker, with the meaning `conntrack -S` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnStats {
    /// Lookups that found a connection.
    pub found: u64,
    /// Packets that cannot be tracked.
    pub invalid: u64,
    /// Connections created.
    pub insert: u64,
    /// Creations that failed.
    pub insert_failed: u64,
    /// Packets dropped because a connection could not be created.
    pub drop: u64,
    /// Connections evicted early to make room.
    pub early_drop: u64,
    /// ICMP errors that belong to nothing.
    pub error: u64,
    /// Lookups repeated because the table changed meanwhile.
    pub search_restart: u64,
    /// Insertions that met their twin.
    pub clash_resolve: u64,
    /// Insertions refused because a hash chain is too long.
    pub chaintoolong: u64,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnEventKind {
    /// Committed.
    New,
    /// State, mark, labels, helper or a flag changed.
    Update,
    /// Expired or deleted.
    Destroy,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnEvent {
    /// What happened.
    pub kind: ConnEventKind,
    /// When, in microseconds since 1970-01-01 UTC.
    pub time_us: u64,
    /// The connection just after that (just before, if destroyed).
    pub record: ConnRecord,
}

/// The reply of `conntrack/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnEvents {
    /// Sequence number to ask for next.
    pub seq: u64,
    /// Events after the SEQ asked for that are not held any more.
    #[serde(default)]
    pub lost: u64,
    /// The events, oldest first.
    pub events: Vec<ConnEvent>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero128(v: &u128) -> bool {
    *v == 0
}

/// A 128-bit number as a string `0x…`, which every JSON reader can hold.
mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(v: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{v:#x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u128::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> ConnRecord {
        let (a, b) = ("192.168.0.1".parse().unwrap(), "192.168.0.2".parse().unwrap());
        ConnRecord {
            proto: 6,
            orig: ConnTuple { src: a, dst: b, l4: L4::Ports { sport: 1000, dport: 22 } },
            reply: ConnTuple { src: b, dst: a, l4: L4::Ports { sport: 22, dport: 1000 } },
            state: Some("ESTABLISHED".into()),
            state_orig: None,
            state_reply: None,
            timeout: 100,
            orig_counters: Some(ConnCounters { packets: 1, bytes: 60 }),
            reply_counters: None,
            mark: 0x2a,
            labels: 1 << 127,
            zone: 5,
            seen_reply: true,
            assured: false,
            id: 7,
            helper: None,
        }
    }

    #[test]
    fn json_round_trip() {
        let event = ConnEvent { kind: ConnEventKind::Update, time_us: 1, record: tcp() };
        let events = ConnEvents { seq: 9, lost: 0, events: vec![event] };
        let text = serde_json::to_string(&events).unwrap();
        assert_eq!(serde_json::from_str::<ConnEvents>(&text).unwrap(), events);
        let filter = ConnFilter { src_nat: true, zone: Some(0), ..ConnFilter::default() };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<ConnFilter>(&text).unwrap(), filter);
        assert!(serde_json::from_str::<ConnFilter>("{\"frob\":1}").is_err());
        assert_eq!(serde_json::from_str::<ConnFilter>("{}").unwrap(), ConnFilter::default());
    }

    #[test]
    fn filter() {
        let c = tcp();
        let ok = |json: &str| serde_json::from_str::<ConnFilter>(json).unwrap().matches(&c);
        assert!(ok("{}"));
        assert!(ok(
            r#"{"family":"ipv4","proto":6,"zone":5,"state":"ESTABLISHED","assured":false}"#
        ));
        assert!(!ok(r#"{"family":"ipv6"}"#));
        assert!(!ok(r#"{"icmp_type":8}"#));
        assert!(ok(r#"{"mark":[42,255]}"#) && !ok(r#"{"mark":[43,255]}"#));
        assert!(ok(r#"{"mark":[43,254]}"#));
        assert!(ok(r#"{"orig":{"src":{"addr":"192.168.9.9","mask":"255.255.0.0"},"dport":22}}"#));
        assert!(!ok(r#"{"orig":{"src":{"addr":"192.168.9.9","mask":"255.255.255.0"}}}"#));
        assert!(!ok(r#"{"orig":{"src":{"addr":"::1","mask":"::"}}}"#));
        assert!(!ok(r#"{"reply":{"dport":22}}"#));
        assert!(!ok(r#"{"any_nat":true}"#));
        let mut nat = c.clone();
        nat.reply.dst = "10.0.0.1".parse().unwrap();
        assert!(nat.source_nat() && !nat.destination_nat());
        let filter = ConnFilter { src_nat: true, ..ConnFilter::default() };
        assert!(filter.matches(&nat) && !filter.matches(&c));
    }
}
