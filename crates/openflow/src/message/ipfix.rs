//! Bodies about flows that are exported in IPFIX (Nicira's).

use alloc::vec::Vec;

use super::codec::Result;
use crate::wire::{Put, Reader};

/// Counters of an exporter. `u64::MAX` is unknown.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct IpfixStats {
    /// Flows so far.
    pub total_flows: u64,
    /// Flows in the cache.
    pub current_flows: u64,
    /// Packets that were sampled.
    pub n_packets: u64,
    /// Those of IPv4.
    pub ipv4: u64,
    /// Those of IPv6.
    pub ipv6: u64,
    /// Packets that could not be read.
    pub errors: u64,
    /// Those of IPv4.
    pub ipv4_errors: u64,
    /// Those of IPv6.
    pub ipv6_errors: u64,
    /// Messages to collectors.
    pub tx: u64,
    /// Those that could not be sent.
    pub tx_errors: u64,
    /// Whose exporter it is, where `sample` actions export.
    pub collector_set_id: u32,
}

/// Reads counters of exporters.
pub fn read(r: &mut Reader<'_>) -> Result<Vec<IpfixStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        list.push(IpfixStats {
            total_flows: r.u64()?,
            current_flows: r.u64()?,
            n_packets: r.u64()?,
            ipv4: r.u64()?,
            ipv6: r.u64()?,
            errors: r.u64()?,
            ipv4_errors: r.u64()?,
            ipv6_errors: r.u64()?,
            tx: r.u64()?,
            tx_errors: r.u64()?,
            collector_set_id: r.u32()?,
        });
        r.skip(4)?;
    }
    Ok(list)
}

/// Writes counters of exporters.
pub fn write(out: &mut Vec<u8>, list: &[IpfixStats]) {
    for s in list {
        for n in [
            s.total_flows,
            s.current_flows,
            s.n_packets,
            s.ipv4,
            s.ipv6,
            s.errors,
            s.ipv4_errors,
            s.ipv6_errors,
            s.tx,
            s.tx_errors,
        ] {
            out.put64(n);
        }
        out.put32(s.collector_set_id);
        out.zeros(4);
    }
}
