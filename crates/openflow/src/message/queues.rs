//! Queues: their counters, and bodies about their configuration.
//!
//! 1.0 to 1.3 have messages of their own for it, which say one port; since 1.4 it is a multipart
//! message. A queue's properties have the same numbers in both and another form.

use alloc::vec::Vec;

use super::codec::Result;
use super::ports::{read_port_no, write_port_no};
use super::*;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Configuration of a queue. Rates are in tenths of a per cent of the port's.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueConfig {
    /// Its port.
    pub port: OfPort,
    /// Which.
    pub queue: u32,
    /// Guaranteed rate, if said; more than 1000 says that there is none.
    pub min_rate: Option<u16>,
    /// Highest rate, likewise.
    pub max_rate: Option<u16>,
}

/// Counters of a queue; `u64::MAX` for unknown.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Port.
    pub port: OfPort,
    /// Queue.
    pub queue: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Dropped.
    pub tx_errors: u64,
    /// Age (1.3+); `None` for unknown.
    pub duration: Option<Duration>,
}

/// All queues.
const ALL: u32 = u32::MAX;
/// Property types.
const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

pub(super) fn read_request(r: &mut Reader<'_>, v: Version) -> Result<Body> {
    let here = *r;
    let port = read_port_no(r, v, 2, 0)?;
    let queue = match v {
        Version::Of10 => ALL,
        v if v >= Version::Of14 => r.u32()?,
        _ => {
            r.skip(4)?;
            ALL
        }
    };
    let one = port < OfPort::MAX || (port == OfPort::NONE && v > Version::Of10);
    if v < Version::Of14 && !one {
        return Err(here.error(OfError::OFPQOFC_BAD_PORT));
    }
    Ok(Body::QueueConfigRequest(port, queue))
}

pub(super) fn write_request(out: &mut Vec<u8>, port: OfPort, queue: u32, v: Version) {
    if v >= Version::Of14 {
        write_port_no(out, port, v, 0, 0);
        out.put32(queue);
    } else {
        write_port_no(out, port, v, 2, 4);
    }
}

pub(super) fn read_reply(r: &mut Reader<'_>, v: Version) -> Result<Body> {
    let mut all = OfPort::NONE;
    if v < Version::Of14 {
        all = read_port_no(r, v, 6, 4)?;
    }
    let mut list = Vec::new();
    while !r.is_empty() {
        let start = *r;
        let mut q = QueueConfig { port: all, ..QueueConfig::default() };
        if v >= Version::Of14 {
            q.port = read_port_no(r, v, 0, 0)?;
        }
        q.queue = r.u32()?;
        // The port of a queue that 1.2 and 1.3 tell is the one asked for.
        r.skip(if matches!(v, Version::Of12 | Version::Of13) { 4 } else { 0 })?;
        let len = usize::from(r.u16()?);
        r.skip(if v < Version::Of12 { 2 } else { 6 })?;
        let head = r.at() - start.at();
        if len < head || !len.is_multiple_of(8) {
            return Err(start.error(OfError::OFPBRC_BAD_LEN));
        }
        let mut props = r.sub(len - head)?;
        while !props.is_empty() {
            let here = props;
            let (typ, mut p) = props.property()?;
            let rate = match typ {
                MIN_RATE => &mut q.min_rate,
                MAX_RATE => &mut q.max_rate,
                _ => continue,
            };
            if v < Version::Of14 {
                if p.len() != 12 {
                    return Err(here.error(OfError::OFPBRC_BAD_LEN));
                }
                p.skip(4)?;
            }
            *rate = Some(p.u16()?).filter(|r| *r != u16::MAX);
        }
        list.push(q);
    }
    Ok(Body::QueueConfigReply(all, list))
}

pub(super) fn write_reply(out: &mut Vec<u8>, port: OfPort, list: &[QueueConfig], v: Version) {
    if v < Version::Of14 {
        write_port_no(out, port, v, 6, 4);
    }
    for q in list {
        let start = out.len();
        if v >= Version::Of14 {
            write_port_no(out, q.port, v, 0, 0);
        }
        out.put32(q.queue);
        if matches!(v, Version::Of12 | Version::Of13) {
            write_port_no(out, q.port, v, 0, 0);
        }
        let len_at = out.len();
        out.zeros(if v < Version::Of12 { 4 } else { 8 });
        for (typ, rate) in [(MIN_RATE, q.min_rate), (MAX_RATE, q.max_rate)] {
            let Some(rate) = rate else { continue };
            out.put16(typ);
            out.put16(if v < Version::Of14 { 16 } else { 8 });
            if v < Version::Of14 {
                out.zeros(4);
            }
            out.put16(rate);
            out.zeros(if v < Version::Of14 { 6 } else { 2 });
        }
        let len = out.len() - start;
        out.set16(len_at, len as u16);
    }
}
