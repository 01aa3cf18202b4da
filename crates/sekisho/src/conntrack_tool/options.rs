//! The command line of `conntrack`: its options, and what they say about connections, output and events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use switchd::ctl::conntrack::{AddrMatch, ConnEventKind, ConnFilter, Family};

use super::format::{self, Output};
use crate::getopt::{Arg, Opt, Parsed};

/// What an option is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    List,
    Get,
    Delete,
    Event,
    Flush,
    Count,
    Stats,
    Unsupported,
    Version,
    Help,
    OrigSrc,
    OrigDst,
    ReplySrc,
    ReplyDst,
    MaskSrc,
    MaskDst,
    Proto,
    Family,
    Sport,
    Dport,
    ReplySport,
    ReplyDport,
    IcmpType,
    IcmpCode,
    IcmpIdent,
    State,
    Zone,
    Zero,
    Mark,
    Status,
    SrcNat,
    DstNat,
    AnyNat,
    EventMask,
    Output,
    Lenient,
    Ignored,
}

const fn opt(long: &'static str, short: Option<char>, arg: Arg, id: Id) -> Opt<Id> {
    Opt { long, short, arg, id }
}

pub const OPTIONS: &[Opt<Id>] = &[
    opt("dump", Some('L'), Arg::None, Id::List),
    opt("get", Some('G'), Arg::None, Id::Get),
    opt("delete", Some('D'), Arg::None, Id::Delete),
    opt("event", Some('E'), Arg::None, Id::Event),
    opt("flush", Some('F'), Arg::None, Id::Flush),
    opt("count", Some('C'), Arg::None, Id::Count),
    opt("stats", Some('S'), Arg::None, Id::Stats),
    opt("create", Some('I'), Arg::None, Id::Unsupported),
    opt("add", Some('A'), Arg::None, Id::Unsupported),
    opt("update", Some('U'), Arg::None, Id::Unsupported),
    opt("load-file", Some('R'), Arg::Required, Id::Unsupported),
    opt("version", Some('V'), Arg::None, Id::Version),
    opt("help", Some('h'), Arg::None, Id::Help),
    opt("src", Some('s'), Arg::Required, Id::OrigSrc),
    opt("orig-src", None, Arg::Required, Id::OrigSrc),
    opt("dst", Some('d'), Arg::Required, Id::OrigDst),
    opt("orig-dst", None, Arg::Required, Id::OrigDst),
    opt("reply-src", Some('r'), Arg::Required, Id::ReplySrc),
    opt("reply-dst", Some('q'), Arg::Required, Id::ReplyDst),
    opt("mask-src", None, Arg::Required, Id::MaskSrc),
    opt("mask-dst", None, Arg::Required, Id::MaskDst),
    opt("protonum", Some('p'), Arg::Required, Id::Proto),
    opt("proto", None, Arg::Required, Id::Proto),
    opt("family", Some('f'), Arg::Required, Id::Family),
    opt("sport", None, Arg::Required, Id::Sport),
    opt("orig-port-src", None, Arg::Required, Id::Sport),
    opt("dport", None, Arg::Required, Id::Dport),
    opt("orig-port-dst", None, Arg::Required, Id::Dport),
    opt("reply-port-src", None, Arg::Required, Id::ReplySport),
    opt("reply-port-dst", None, Arg::Required, Id::ReplyDport),
    opt("icmp-type", None, Arg::Required, Id::IcmpType),
    opt("icmp-code", None, Arg::Required, Id::IcmpCode),
    opt("icmp-id", None, Arg::Required, Id::IcmpIdent),
    opt("icmpv6-type", None, Arg::Required, Id::IcmpType),
    opt("icmpv6-code", None, Arg::Required, Id::IcmpCode),
    opt("icmpv6-id", None, Arg::Required, Id::IcmpIdent),
    opt("state", None, Arg::Required, Id::State),
    opt("zone", Some('w'), Arg::Required, Id::Zone),
    opt("orig-zone", None, Arg::Required, Id::Zone),
    opt("reply-zone", None, Arg::Required, Id::Zone),
    opt("zero", Some('z'), Arg::None, Id::Zero),
    opt("mark", Some('m'), Arg::Required, Id::Mark),
    opt("status", Some('u'), Arg::Required, Id::Status),
    opt("src-nat", Some('n'), Arg::Optional, Id::SrcNat),
    opt("dst-nat", Some('g'), Arg::Optional, Id::DstNat),
    opt("any-nat", Some('j'), Arg::Optional, Id::AnyNat),
    opt("event-mask", Some('e'), Arg::Required, Id::EventMask),
    opt("output", Some('o'), Arg::Required, Id::Output),
    opt("lenient", None, Arg::None, Id::Lenient),
    opt("buffer-size", Some('b'), Arg::Required, Id::Ignored),
];

/// States that a filter may name: TCP's, then SCTP's.
const STATES: &[&str] = &[
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "LISTEN",
    "SYN_SENT2",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
];

/// `-z 5` means `-w 5`; a `-z` with no number after it stays what it is.
pub fn zone_for_zero(mut args: Vec<String>) -> Vec<String> {
    for i in 1..args.len() {
        if args[i - 1] == "-z" && args[i].parse::<u64>().is_ok() {
            args[i - 1] = "-w".to_owned();
        }
    }
    args
}

/// Turns the options into a filter, an output form and the events that are wanted.
pub fn options(parsed: &Parsed<Id>) -> Result<(ConnFilter, Output, Vec<ConnEventKind>), String> {
    let mut filter = ConnFilter::default();
    let mut output = Output::default();
    let mut events = Vec::new();
    let (mut mask_src, mut mask_dst) = (None, None);
    let lenient = parsed.has(Id::Lenient);
    for option in &parsed.options {
        let value = option.value.as_deref().unwrap_or_default();
        let name = &option.name;
        let number = |max: u64| match value.parse::<u64>() {
            Ok(n) if n <= max => Ok(n),
            // As conntrack-tools: the low bits, or 0.
            n if lenient => Ok(n.unwrap_or(0) & max),
            _ => Err(format!("`{value}' is not a number from 0 to {max}, which `--{name}' takes")),
        };
        #[allow(clippy::cast_possible_truncation, reason = "number() has checked the range")]
        match option.id {
            Id::OrigSrc => filter.orig.src = Some(address(value)?),
            Id::OrigDst => filter.orig.dst = Some(address(value)?),
            Id::ReplySrc => filter.reply.src = Some(address(value)?),
            Id::ReplyDst => filter.reply.dst = Some(address(value)?),
            Id::MaskSrc => mask_src = Some(address(value)?.addr),
            Id::MaskDst => mask_dst = Some(address(value)?.addr),
            Id::Proto => match format::protocol_number(value) {
                Some(number) => filter.proto = Some(number),
                None => return Err(format!("`{value}' unsupported protocol")),
            },
            Id::Family => {
                filter.family = Some(match value {
                    "ipv4" => Family::Ipv4,
                    "ipv6" => Family::Ipv6,
                    _ => return Err(format!("`{value}' unsupported protocol")),
                });
            }
            Id::Sport => filter.orig.sport = Some(number(0xffff)? as u16),
            Id::Dport => filter.orig.dport = Some(number(0xffff)? as u16),
            Id::ReplySport => filter.reply.sport = Some(number(0xffff)? as u16),
            Id::ReplyDport => filter.reply.dport = Some(number(0xffff)? as u16),
            Id::IcmpType => filter.icmp_type = Some(number(0xff)? as u8),
            Id::IcmpCode => filter.icmp_code = Some(number(0xff)? as u8),
            Id::IcmpIdent => filter.icmp_id = Some(number(0xffff)? as u16),
            Id::Zone => filter.zone = Some(number(0xffff)? as u16),
            Id::Zero => filter.zero = true,
            Id::State if STATES.contains(&value) => filter.state = Some(value.to_owned()),
            Id::State => return Err(format!("unknown TCP state `{value}'")),
            Id::Mark => {
                filter.mark = Some(
                    mark(value).or_else(|e| if lenient { Ok((0, u32::MAX)) } else { Err(e) })?,
                )
            }
            Id::Status => {
                for word in value.split(',') {
                    match word {
                        "ASSURED" => filter.assured = Some(true),
                        "SEEN_REPLY" => filter.seen_reply = Some(true),
                        "UNREPLIED" => filter.seen_reply = Some(false),
                        "UNSET" => {}
                        _ => return Err(format!("Bad parameter `{word}'")),
                    }
                }
            }
            Id::SrcNat => {
                filter.src_nat = true;
                if !value.is_empty() {
                    filter.reply.dst = Some(address(value)?);
                }
            }
            Id::DstNat => {
                filter.dst_nat = true;
                if !value.is_empty() {
                    filter.reply.src = Some(address(value)?);
                }
            }
            Id::AnyNat => filter.any_nat = true,
            Id::EventMask => {
                use ConnEventKind::{Destroy, New, Update};
                for word in value.split(',') {
                    events.extend_from_slice(match word {
                        "ALL" => &[New, Update, Destroy],
                        "NEW" => &[New],
                        "UPDATES" => &[Update],
                        "DESTROY" => &[Destroy],
                        _ => return Err(format!("Bad parameter `{word}'")),
                    });
                }
            }
            Id::Output => {
                for word in value.split(',') {
                    match word {
                        "extended" => output.extended = true,
                        "id" => output.id = true,
                        "timestamp" => output.timestamp = true,
                        "labels" => output.labels = true,
                        "xml" => output.xml = true,
                        // Nothing of that kind is known here, as on a kernel that records none.
                        "ktimestamp" | "userspace" => {}
                        _ => return Err(format!("Bad parameter `{word}'")),
                    }
                }
            }
            _ => {}
        }
    }
    let masked = [(&mut filter.orig.src, mask_src), (&mut filter.orig.dst, mask_dst)];
    for (address, mask) in masked {
        if let (Some(address), Some(mask)) = (address, mask) {
            if address.addr.is_ipv4() != mask.is_ipv4() {
                return Err(format!("Invalid mask `{mask}' for `{}'", address.addr));
            }
            address.mask = mask;
        }
    }
    if events.is_empty() {
        events = vec![ConnEventKind::New, ConnEventKind::Update, ConnEventKind::Destroy];
    }
    Ok((filter, output, events))
}

/// `ADDRESS`, `ADDRESS/PREFIX` or `ADDRESS/MASK`.
fn address(text: &str) -> Result<AddrMatch, String> {
    let (addr_text, mask_text) = match text.split_once('/') {
        Some((addr, mask)) => (addr, Some(mask)),
        None => (text, None),
    };
    let addr: IpAddr =
        addr_text.parse().map_err(|_| format!("Invalid IP address `{addr_text}'"))?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let invalid = |mask: &str| format!("Invalid mask `{mask}' for `{addr}'");
    let mask = match mask_text {
        None => prefix(addr, width),
        Some(text) => match (text.parse::<u32>(), text.parse::<IpAddr>()) {
            (Ok(bits), _) if bits <= width => prefix(addr, bits),
            (_, Ok(mask)) if mask.is_ipv4() == addr.is_ipv4() => mask,
            _ => return Err(invalid(text)),
        },
    };
    Ok(AddrMatch { addr, mask })
}

/// The mask of `bits` leading ones, in the family of `addr`.
fn prefix(addr: IpAddr, bits: u32) -> IpAddr {
    if addr.is_ipv4() {
        Ipv4Addr::from_bits(!u32::MAX.checked_shr(bits).unwrap_or(0)).into()
    } else {
        Ipv6Addr::from_bits(!u128::MAX.checked_shr(bits).unwrap_or(0)).into()
    }
}

/// `VALUE` or `VALUE/MASK`, decimal or `0x…`.
fn mark(text: &str) -> Result<(u32, u32), String> {
    let number = |t: &str| match t.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => t.parse(),
    };
    let parsed = match text.split_once('/') {
        Some((value, mask)) => number(value).and_then(|v| number(mask).map(|m| (v, m))),
        None => number(text).map(|v| (v, u32::MAX)),
    };
    parsed.map_err(|_| format!("`{text}' is not a mark: want VALUE or VALUE/MASK of 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt::{Order, parse_text};

    fn filter(args: &[&str]) -> Result<ConnFilter, String> {
        let args = zone_for_zero(args.iter().map(|s| (*s).to_owned()).collect());
        let parsed = parse_text("", OPTIONS, Order::Permute, args)?;
        options(&parsed).map(|(filter, _, _)| filter)
    }

    #[test]
    fn filters() {
        let f = filter(&["-p", "tcp", "--sport", "1000", "--orig-port-dst=22", "-w5"]).unwrap();
        assert_eq!(
            (f.proto, f.orig.sport, f.orig.dport, f.zone),
            (Some(6), Some(1000), Some(22), Some(5))
        );
        let f = filter(&["-L", "-z", "5", "-m", "0x2a/0xff"]).unwrap();
        assert_eq!((f.zone, f.mark, f.zero), (Some(5), Some((42, 255)), false));
        assert!(filter(&["-L", "-z", "-p", "6"]).unwrap().zero);
        let f = filter(&["-s", "10.0.0.0/8", "-d", "fe80::/10"]).unwrap();
        assert_eq!(f.orig.src.unwrap().mask, "255.0.0.0".parse::<IpAddr>().unwrap());
        assert_eq!(f.orig.dst.unwrap().mask, "ffc0::".parse::<IpAddr>().unwrap());
        let f = filter(&["-s", "10.0.0.1", "--mask-src", "255.255.0.0"]).unwrap();
        assert_eq!(f.orig.src.unwrap().mask, "255.255.0.0".parse::<IpAddr>().unwrap());
        assert_eq!(
            filter(&["-s", "0.0.0.0/0"]).unwrap().orig.src.unwrap().mask,
            Ipv4Addr::UNSPECIFIED
        );
        let f =
            filter(&["-u", "ASSURED,SEEN_REPLY", "--state", "TIME_WAIT", "-f", "ipv6"]).unwrap();
        assert_eq!(
            (f.assured, f.seen_reply, f.family),
            (Some(true), Some(true), Some(Family::Ipv6))
        );
    }

    #[test]
    fn nonsense_is_taken_if_asked_for() {
        let f = filter(&["-w", "70000", "--dport", "ssh", "-m", "abc", "--lenient"]).unwrap();
        assert_eq!((f.zone, f.orig.dport, f.mark), (Some(4464), Some(0), Some((0, u32::MAX))));
    }

    #[test]
    fn nonsense_is_refused() {
        for (args, text) in [
            (&["-p", "bogus"][..], "`bogus' unsupported protocol"),
            (&["-f", "bogus"], "`bogus' unsupported protocol"),
            (&["-s", "300.1.1.1"], "Invalid IP address `300.1.1.1'"),
            (&["-s", "10.0.0.0/33"], "Invalid mask `33' for `10.0.0.0'"),
            (&["--state", "BOGUS"], "unknown TCP state `BOGUS'"),
            (&["-u", "bogus"], "Bad parameter `bogus'"),
            (&["-o", "bogus"], "Bad parameter `bogus'"),
            (&["-e", "BOGUS"], "Bad parameter `BOGUS'"),
            (&["--dport", "ssh"], "`ssh' is not a number from 0 to 65535, which `--dport' takes"),
            (&["-w", "70000"], "`70000' is not a number from 0 to 65535, which `--zone' takes"),
            (&["-m", "abc"], "`abc' is not a mark: want VALUE or VALUE/MASK of 32 bits"),
        ] {
            assert_eq!(filter(args).unwrap_err(), text);
        }
    }
}
