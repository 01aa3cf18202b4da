//! Which connections to flush, as `ovs-ofctl ct-flush` and `dpctl/flush-conntrack` take it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::net::{Ipv4Addr, Ipv6Addr};

use flow::text::{Pairs, Tok};

use crate::message::{CtFlush, CtTuple};

/// A number in C's notations.
fn number(text: &str) -> Option<u128> {
    flow::text::number::parse_number(text).flatten()
}

/// `NUMBER[/MASK]`.
fn masked(text: &str) -> Option<(u128, Option<u128>)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, Some(number(mask)?))),
        None => Some((number(text)?, None)),
    }
}

/// Reads `[zone=N] [mark=X[/M]] [labels=Y[/N]] [ORIG_TUPLE [REPLY_TUPLE]]`.
///
/// # Errors
/// What is wrong, in the words of OVS.
pub fn parse<T: AsRef<str>>(args: &[T]) -> Result<CtFlush, String> {
    let mut which = CtFlush::default();
    let mut args = args.iter().map(T::as_ref).peekable();
    let mut take = |key: &str| args.next_if(|a| a.starts_with(key)).map(|a| &a[key.len()..]);
    if let Some(text) = take("zone=") {
        let zone = text.parse().map_err(|_| "failed to parse zone")?;
        which.zone = Some(zone);
    }
    if let Some(text) = take("mark=") {
        let small = |n: u128| u32::try_from(n).ok();
        let (value, mask) = masked(text).ok_or("failed to parse mark")?;
        which.mark = Some(small(value).ok_or("failed to parse mark")?);
        which.mark_mask = mask.and_then(small);
    }
    if let Some(text) = take("labels=") {
        let (value, mask) = masked(text).ok_or("failed to parse labels")?;
        (which.label, which.label_mask) = (Some(value), mask);
    }
    let mut v6 = None;
    for tuple in [&mut which.orig, &mut which.reply] {
        let Some(text) = args.next() else { break };
        *tuple = Some(parse_tuple(text, &mut which.proto, &mut v6)?)
            .filter(|t| *t != CtTuple::default());
    }
    match args.next() {
        Some(_) => Err("invalid arguments".to_owned()),
        None => Ok(which),
    }
}

/// Reads one direction of connections: `ct_nw_src=…,ct_nw_proto=…,…`. `v6` is the family that was
/// named first.
fn parse_tuple(text: &str, proto: &mut u8, v6: &mut Option<bool>) -> Result<CtTuple, String> {
    let mut tuple = CtTuple::default();
    for pair in Pairs::new(Tok::line(text)) {
        let (key, value) = (pair.key.text, pair.value.text);
        if value.is_empty() {
            return Err(format!("field {key} missing value"));
        }
        let bad = || format!("failed to parse field {key}");
        let small = || number(value).and_then(|n| u16::try_from(n).ok()).ok_or_else(bad);
        let byte = || number(value).and_then(|n| u8::try_from(n).ok()).ok_or_else(bad);
        match key {
            "ct_nw_src" | "ct_nw_dst" | "ct_ipv6_src" | "ct_ipv6_dst" => {
                let is_v6 = key.starts_with("ct_ipv6");
                if v6.is_some_and(|v6| v6 != is_v6) {
                    return Err(format!("the L3 protocol does not match {value}"));
                }
                let slot = if key.ends_with("src") { &mut tuple.src } else { &mut tuple.dst };
                if slot.is_some() {
                    return Err(format!("{key} is set multiple times"));
                }
                let address: Option<Ipv6Addr> = match is_v6 {
                    true => value.parse().ok(),
                    false => value.parse::<Ipv4Addr>().ok().map(|a| a.to_ipv6_mapped()),
                };
                *slot = Some(address.ok_or_else(bad)?);
                *v6 = Some(is_v6);
            }
            "ct_nw_proto" => *proto = byte()?,
            "ct_tp_src" => tuple.src_port = Some(small()?),
            "ct_tp_dst" => tuple.dst_port = Some(small()?),
            "icmp_type" | "icmp_code" | "icmp_id" if !matches!(*proto, 1 | 58) => {
                return Err("invalid L4 fields".to_owned());
            }
            "icmp_type" => tuple.icmp_type = Some(byte()?),
            "icmp_code" => tuple.icmp_code = Some(byte()?),
            "icmp_id" => tuple.icmp_id = Some(small()?),
            _ => return Err(format!("invalid conntrack tuple field: {key}")),
        }
    }
    if *proto == 0 && (tuple.src_port.is_some() || tuple.dst_port.is_some()) {
        return Err("port is set without protocol".to_owned());
    }
    Ok(tuple)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(args: &[&str]) -> Result<CtFlush, String> {
        parse(args)
    }

    #[test]
    fn which_connections() {
        let v4 = |a: [u8; 4]| Some(Ipv4Addr::from(a).to_ipv6_mapped());
        let tuple = "ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=17,ct_tp_src=1";
        let f = flush(&["zone=5", "mark=0x1/0x3", "labels=7", tuple]).unwrap();
        assert_eq!((f.zone, f.mark, f.mark_mask), (Some(5), Some(1), Some(3)));
        assert_eq!((f.label, f.label_mask, f.proto), (Some(7), None, 17));
        let orig = f.orig.unwrap();
        assert_eq!((orig.src, orig.dst), (v4([10, 1, 1, 1]), v4([10, 1, 1, 2])));
        assert_eq!((orig.src_port, orig.dst_port, f.reply), (Some(1), None, None));
        for (args, why) in [
            (&["zone=x"][..], "failed to parse zone"),
            (&["mark=x"], "failed to parse mark"),
            (&["labels=x"], "failed to parse labels"),
            (&["ct_nw_src=1"], "failed to parse field ct_nw_src"),
            (&["ct_nw_src"], "field ct_nw_src missing value"),
            (&["ct_nw_src=1.1.1.1,ct_nw_src=1.1.1.2"], "ct_nw_src is set multiple times"),
            (&["ct_nw_src=1.1.1.1,ct_ipv6_dst=::1"], "the L3 protocol does not match ::1"),
            (&["ct_tp_src=1"], "port is set without protocol"),
            (&["icmp_id=1"], "invalid L4 fields"),
            (&["bogus=1"], "invalid conntrack tuple field: bogus"),
            (&["", "", "zone=1"], "invalid arguments"),
        ] {
            assert_eq!(flush(args).unwrap_err(), why, "{args:?}");
        }
    }
}
