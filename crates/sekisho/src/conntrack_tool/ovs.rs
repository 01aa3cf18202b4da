//! The fallback for a daemon that lacks the `conntrack/*` words: a stock `ovs-vswitchd`.
//!
//! Its `dpctl/dump-conntrack -s` says less than a [`ConnRecord`] holds: no counters, no identifier, and
//! for protocols without a state not whether a packet came back. What is not said is filled with the
//! usual case (replied, not assured), so such a line shows no flag rather than a wrong one.

use std::net::IpAddr;

use switchd::ctl::conntrack::{ConnRecord, ConnTuple, L4};

use super::format::protocol_number;

/// TCP states: OVS's name, Linux conntrack's name, whether a reply was seen, whether assured.
const TCP_STATES: &[(&str, &str, bool, bool)] = &[
    ("CLOSED", "CLOSE", true, true),
    ("LISTEN", "LISTEN", false, false),
    ("SYN_SENT", "SYN_SENT", false, false),
    ("SYN_RECV", "SYN_RECV", true, false),
    ("ESTABLISHED", "ESTABLISHED", true, true),
    ("CLOSE_WAIT", "CLOSE_WAIT", true, true),
    ("FIN_WAIT_1", "FIN_WAIT", true, true),
    ("FIN_WAIT_2", "FIN_WAIT", true, true),
    ("CLOSING", "LAST_ACK", true, true),
    ("LAST_ACK", "LAST_ACK", true, true),
    ("TIME_WAIT", "TIME_WAIT", true, true),
];

/// Reads the whole text of `dpctl/dump-conntrack -s`.
///
/// # Errors
/// The first line that is not understood.
pub fn parse_dump(text: &str) -> Result<Vec<ConnRecord>, String> {
    text.lines()
        .filter(|l| !l.is_empty())
        .map(|l| parse_line(l).ok_or_else(|| format!("cannot read the daemon's line: {l}")))
        .collect()
}

/// One line: `tcp,orig=(src=…,dst=…,sport=…,dport=…),reply=(…),zone=…,timeout=…,protoinfo=(state=…)`.
fn parse_line(line: &str) -> Option<ConnRecord> {
    let mut fields = split(line).into_iter();
    let proto = protocol_number(fields.next()?)?;
    let (mut orig, mut reply) = (None, None);
    let mut record_rest = Rest { seen_reply: true, ..Rest::default() };
    for field in fields {
        let (key, value) = field.split_once('=')?;
        match key {
            "orig" => orig = Some(tuple(value)?),
            "reply" => reply = Some(tuple(value)?),
            "zone" => record_rest.zone = value.parse().ok()?,
            "mark" => record_rest.mark = number(value)?.try_into().ok()?,
            "labels" => record_rest.labels = number(value)?,
            "timeout" => record_rest.timeout = value.parse().ok()?,
            "helper" => record_rest.helper = Some(value.to_owned()),
            "id" => record_rest.id = value.parse().ok()?,
            "protoinfo" => {
                for (key, value) in split(inside(value)?).iter().filter_map(|f| f.split_once('=')) {
                    if key == "state" {
                        let row = TCP_STATES.iter().find(|s| s.0 == value);
                        record_rest.state = Some(row.map_or(value, |s| s.1).to_owned());
                        if let Some(row) = row {
                            (record_rest.seen_reply, record_rest.assured) = (row.2, row.3);
                        }
                    }
                }
            }
            // A later release may say more.
            _ => {}
        }
    }
    let rest = record_rest;
    Some(ConnRecord {
        proto,
        orig: orig?,
        reply: reply?,
        state: rest.state,
        state_orig: None,
        state_reply: None,
        timeout: rest.timeout,
        orig_counters: None,
        reply_counters: None,
        mark: rest.mark,
        labels: rest.labels,
        zone: rest.zone,
        seen_reply: rest.seen_reply,
        assured: rest.assured,
        id: rest.id,
        helper: rest.helper,
    })
}

/// The parts of a line that may be absent.
#[derive(Default)]
struct Rest {
    state: Option<String>,
    timeout: u32,
    mark: u32,
    labels: u128,
    zone: u16,
    seen_reply: bool,
    assured: bool,
    id: u32,
    helper: Option<String>,
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn tuple(text: &str) -> Option<ConnTuple> {
    let (mut src, mut dst): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut sport, mut dport, mut ty, mut code, mut id) = (None, None, None, 0, 0);
    for field in split(inside(text)?) {
        let (key, value) = field.split_once('=')?;
        match key {
            "src" => src = Some(value.parse().ok()?),
            "dst" => dst = Some(value.parse().ok()?),
            "sport" => sport = Some(value.parse().ok()?),
            "dport" => dport = Some(value.parse().ok()?),
            "type" => ty = Some(value.parse().ok()?),
            "code" => code = value.parse().ok()?,
            "id" => id = value.parse().ok()?,
            _ => {}
        }
    }
    let l4 = match (sport, dport, ty) {
        (Some(sport), Some(dport), _) => L4::Ports { sport, dport },
        (_, _, Some(ty)) => L4::Icmp { ty, code, id },
        _ => L4::None,
    };
    Some(ConnTuple { src: src?, dst: dst?, l4 })
}

/// Arguments of `dpctl/flush-conntrack` that name exactly this connection.
pub fn flush_args(c: &ConnRecord) -> Vec<String> {
    let v6 = if c.orig.src.is_ipv6() { "ipv6" } else { "nw" };
    let mut spec =
        format!("ct_{v6}_src={},ct_{v6}_dst={},ct_nw_proto={}", c.orig.src, c.orig.dst, c.proto);
    spec += &match c.orig.l4 {
        L4::None => String::new(),
        L4::Ports { sport, dport } => format!(",ct_tp_src={sport},ct_tp_dst={dport}"),
        L4::Icmp { ty, code, id } => format!(",icmp_type={ty},icmp_code={code},icmp_id={id}"),
    };
    vec![format!("zone={}", c.zone), spec]
}

#[cfg(test)]
mod tests {
    use super::super::format::{Output, record};
    use super::*;

    #[test]
    fn lines() {
        let text = "\
icmp,orig=(src=192.168.0.1,dst=192.168.0.2,id=13180,type=8,code=0),reply=(src=192.168.0.2,dst=192.168.0.1,id=13180,type=0,code=0),timeout=20
tcp,orig=(src=192.168.0.1,dst=192.168.0.2,sport=40116,dport=23),reply=(src=192.168.0.2,dst=192.168.0.1,sport=23,dport=40116),zone=5,mark=7,labels=0x1,timeout=86396,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=fe80::1,dst=fe80::2,sport=1,dport=2),reply=(src=fe80::2,dst=fe80::1,sport=2,dport=1),timeout=20,protoinfo=(state=FIN_WAIT_2)
";
        let records = parse_dump(text).unwrap();
        let lines: Vec<String> = records.iter().map(|c| record(c, Output::default())).collect();
        assert_eq!(
            lines,
            [
                "icmp     1 20 src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id=13180 \
                 src=192.168.0.2 dst=192.168.0.1 type=0 code=0 id=13180 mark=0 use=1",
                "tcp      6 86396 ESTABLISHED src=192.168.0.1 dst=192.168.0.2 sport=40116 dport=23 \
                 src=192.168.0.2 dst=192.168.0.1 sport=23 dport=40116 [ASSURED] mark=7 zone=5 use=1",
                "tcp      6 20 FIN_WAIT src=fe80::1 dst=fe80::2 sport=1 dport=2 src=fe80::2 \
                 dst=fe80::1 sport=2 dport=1 [ASSURED] mark=0 use=1",
            ]
        );
        assert_eq!(records[1].labels, 1);
        assert_eq!(
            flush_args(&records[1]),
            [
                "zone=5",
                "ct_nw_src=192.168.0.1,ct_nw_dst=192.168.0.2,ct_nw_proto=6,\
                        ct_tp_src=40116,ct_tp_dst=23"
            ]
        );
    }

    #[test]
    fn nonsense_is_reported() {
        for bad in ["tcp", "frob,orig=()", "tcp,orig=(src=1.2.3.4),reply=(src=1.2.3.4,dst=1.2.3.4)"]
        {
            assert!(parse_dump(bad).unwrap_err().ends_with(bad));
        }
    }
}
