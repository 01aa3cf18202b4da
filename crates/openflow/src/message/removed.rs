//! Flow removed.

use alloc::vec::Vec;

use super::codec::{Encoded, Result};
use super::flows::{read_match, read_nxm, write_match};
use super::oxs::{Oxs, duration, put_duration, read_oxs};
use super::*;
use crate::error::OfError;
use crate::oxm;
use crate::wire::{Put, Reader};

/// The reason with this number.
pub fn removed_reason(r: &Reader<'_>, v: u8) -> Result<FlowRemovedReason> {
    use FlowRemovedReason as R;
    [R::IdleTimeout, R::HardTimeout, R::Delete, R::GroupDelete, R::MeterDelete, R::Eviction]
        .get(usize::from(v))
        .copied()
        .ok_or(r.error(OfError::NXBRC_BAD_REASON))
}

/// Reads a flow-removed in its version's own form.
pub fn read_removed(r: &mut Reader<'_>, v: Version) -> Result<FlowRemoved> {
    if v == Version::Of10 {
        let match_ = match10::read_as_said(r)?;
        let (cookie, priority, reason) = (r.u64()?, r.u16()?, r.u8()?);
        r.skip(1)?;
        let duration = duration(r)?;
        let idle_timeout = r.u16()?;
        r.skip(2)?;
        return Ok(FlowRemoved {
            match_,
            priority,
            cookie,
            reason: removed_reason(r, reason)?,
            table: TableId::ALL,
            duration,
            idle_timeout,
            hard_timeout: 0,
            n_packets: r.u64()?,
            n_bytes: r.u64()?,
        });
    }
    if v >= Version::Of15 {
        let (table, reason, priority) = (r.u8()?, r.u8()?, r.u16()?);
        let (idle_timeout, hard_timeout, cookie) = (r.u16()?, r.u16()?, r.u64()?);
        let match_ = read_match(r, false)?;
        let s = read_oxs(r)?;
        return Ok(FlowRemoved {
            match_,
            priority,
            cookie,
            reason: removed_reason(r, reason)?,
            table: TableId(table),
            duration: s.duration,
            idle_timeout,
            hard_timeout,
            n_packets: s.n_packets,
            n_bytes: s.n_bytes,
        });
    }
    let (cookie, priority, reason, table) = (r.u64()?, r.u16()?, r.u8()?, r.u8()?);
    let duration = duration(r)?;
    let (idle_timeout, hard_timeout, n_packets, n_bytes) = (r.u16()?, r.u16()?, r.u64()?, r.u64()?);
    Ok(FlowRemoved {
        match_: read_match(r, false)?,
        priority,
        cookie,
        reason: removed_reason(r, reason)?,
        table: TableId(table),
        duration,
        idle_timeout,
        hard_timeout,
        n_packets,
        n_bytes,
    })
}

/// Writes a flow-removed in its version's own form.
pub fn write_removed(out: &mut Vec<u8>, f: &FlowRemoved, v: Version) -> Encoded {
    let reason = f.reason as u8;
    if v == Version::Of10 {
        match10::write(out, &f.match_);
        out.put64(f.cookie);
        out.put16(f.priority);
        out.put8(reason);
        out.put8(0);
        put_duration(out, f.duration);
        out.put16(f.idle_timeout);
        out.put16(0);
        out.put64(f.n_packets);
        out.put64(f.n_bytes);
        return Ok(());
    }
    if v >= Version::Of15 {
        out.put8(f.table.0);
        out.put8(reason);
        out.put16(f.priority);
        out.put16(f.idle_timeout);
        out.put16(f.hard_timeout);
        out.put64(f.cookie);
        write_match(out, &f.match_, v)?;
        let s = Oxs {
            duration: f.duration,
            idle: None,
            n_packets: f.n_packets,
            n_bytes: f.n_bytes,
            n_flows: None,
        };
        s.write(out, true);
        return Ok(());
    }
    out.put64(f.cookie);
    out.put16(f.priority);
    out.put8(reason);
    out.put8(f.table.0);
    put_duration(out, f.duration);
    out.put16(f.idle_timeout);
    out.put16(f.hard_timeout);
    out.put64(f.n_packets);
    out.put64(f.n_bytes);
    write_match(out, &f.match_, v)
}

/// Reads `NXT_FLOW_REMOVED`.
pub fn read_nx_removed(r: &mut Reader<'_>) -> Result<FlowRemoved> {
    let (cookie, priority, reason, table) = (r.u64()?, r.u16()?, r.u8()?, r.u8()?);
    let duration = duration(r)?;
    let (idle_timeout, len) = (r.u16()?, usize::from(r.u16()?));
    let (n_packets, n_bytes) = (r.u64()?, r.u64()?);
    Ok(FlowRemoved {
        match_: read_nxm(r, len)?.m,
        priority,
        cookie,
        reason: removed_reason(r, reason)?,
        table: if table == 0 { TableId::ALL } else { TableId(table - 1) },
        duration,
        idle_timeout,
        hard_timeout: 0,
        n_packets,
        n_bytes,
    })
}

/// Writes `NXT_FLOW_REMOVED`.
pub fn write_nx_removed(out: &mut Vec<u8>, f: &FlowRemoved) -> Encoded {
    out.put64(f.cookie);
    out.put16(f.priority);
    out.put8(f.reason as u8);
    // 0 says that the table is not told.
    out.put8(f.table.0.wrapping_add(1));
    put_duration(out, f.duration);
    out.put16(f.idle_timeout);
    let len_at = out.len();
    out.put16(0);
    out.put64(f.n_packets);
    out.put64(f.n_bytes);
    let start = out.len();
    oxm::put_match(out, &f.match_, None)?;
    let len = out.len() - start;
    out.set16(len_at, len as u16);
    out.pad8(start);
    Ok(())
}
