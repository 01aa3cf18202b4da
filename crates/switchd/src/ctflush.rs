//! Flushing connections that a controller or a command names.

use std::net::Ipv6Addr;

use base::{Instant, Zone};
use conntrack::{ConnFilter, Tuple, TupleFilter};
use datapath::CtTable;
use openflow::message::{CtFlush, CtTuple};

use crate::log;

/// Removes the connections. `dp` is the datapath's name in the log.
pub fn flush(ct: &CtTable, now: Instant, dp: &str, which: &CtFlush) {
    let (mark, label) = (which.mark(), which.label());
    let whole = which.orig.is_none() && which.reply.is_none() && mark.1 == 0 && label.1 == 0;
    match which.zone.filter(|_| whole) {
        _ if !whole => log!(Dbg, CtDpif, "{dp}: ct_flush: {which}"),
        Some(zone) => log!(Dbg, CtDpif, "{dp}: ct_flush: zone {zone}"),
        None => log!(Dbg, CtDpif, "{dp}: ct_flush: <all>"),
    }
    let filter = ConnFilter {
        zone: which.zone.map(Zone),
        orig: tuple_filter(which.orig, which.proto),
        reply: tuple_filter(which.reply, which.proto),
        mark: (mark.1 != 0).then_some(mark),
        label: (label.1 != 0).then_some(label),
        ipv6: None,
    };
    let only_orig = which.reply.is_none() && mark.1 == 0 && label.1 == 0;
    // A tuple that says everything names a connection by either direction.
    match whole_tuple(&filter.orig).filter(|_| only_orig) {
        Some(tuple) => {
            ct.delete_tuple(now, &tuple, filter.zone.unwrap_or_default());
        }
        None => {
            ct.delete(now, &filter);
        }
    }
}

/// The tuple, if nothing is left open.
fn whole_tuple(f: &TupleFilter) -> Option<Tuple> {
    let (src, dst, proto) = (f.src?, f.dst?, f.proto?);
    let icmp = Tuple::icmp(src, dst, f.icmp_id.unwrap_or(0), 0, 0).proto == proto;
    if icmp {
        return Some(Tuple::icmp(src, dst, f.icmp_id?, f.icmp_type?, f.icmp_code?));
    }
    Some(Tuple::ports(src, dst, proto, f.sport?, f.dport?))
}

/// What is said of one direction. Port 0 is any, as Open vSwitch has it, and so is a tuple of zeros,
/// which its tools send for ICMP when nothing was said.
fn tuple_filter(t: Option<CtTuple>, proto: u8) -> TupleFilter {
    let zeros =
        CtTuple { icmp_id: Some(0), icmp_type: Some(0), icmp_code: Some(0), ..CtTuple::default() };
    let t = t.filter(|t| *t != zeros).unwrap_or_default();
    let address = |a: Option<Ipv6Addr>| a.filter(|a| !a.is_unspecified()).map(|a| a.to_canonical());
    TupleFilter {
        src: address(t.src),
        dst: address(t.dst),
        proto: (proto != 0).then_some(proto),
        sport: t.src_port.filter(|p| *p != 0),
        dport: t.dst_port.filter(|p| *p != 0),
        icmp_id: t.icmp_id,
        icmp_type: t.icmp_type,
        icmp_code: t.icmp_code,
    }
}
