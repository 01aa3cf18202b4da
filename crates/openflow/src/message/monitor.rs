//! Bodies about flow monitors, in three dialects: Nicira's (1.0 to 1.2), the ONF's extension (1.3) and
//! OpenFlow's own (1.4+, §7.3.5.20).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::codec::{Encoded, Result};
use super::*;
use crate::action::{decode, encode};
use crate::error::OfError;
use crate::flow_mod::GROUP_ANY;
use crate::oxm;
use crate::wire::{Put, Reader};

use super::flows::{read_match, read_nxm, write_match};
use super::removed::removed_reason;

/// Old dialects: "include own changes in full", which is [`monitor_flag::OWN`] now.
const OLD_OWN: u16 = 1 << 5;
const SAME: u16 = 0x1f;

fn old_flags(flags: u16) -> u16 {
    flags & SAME | if flags & monitor_flag::OWN != 0 { OLD_OWN } else { 0 }
}

fn check_flags(here: &Reader<'_>, flags: u16, known: u16) -> Result<()> {
    let when = monitor_flag::ADD | monitor_flag::DELETE | monitor_flag::MODIFY;
    match flags & when == 0 || flags & !known != 0 {
        true => Err(here.error(OfError::OFPMOFC_BAD_FLAGS)),
        false => Ok(()),
    }
}

fn zeros(r: &mut Reader<'_>, n: usize) -> Result<()> {
    let here = *r;
    match r.take(n)?.iter().all(|b| *b == 0) {
        true => Ok(()),
        false => Err(here.error(OfError::NXBRC_MUST_BE_ZERO)),
    }
}

/// Reads requests.
pub fn read_requests(r: &mut Reader<'_>, v: Version) -> Result<Vec<FlowMonitor>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        list.push(match v {
            Version::Of10 | Version::Of11 | Version::Of12 => read_nx(r)?,
            Version::Of13 => read_onf(r)?,
            _ => read_standard(r)?,
        });
    }
    Ok(list)
}

fn of_old_flags(flags: u16) -> u16 {
    flags & SAME | if flags & OLD_OWN != 0 { monitor_flag::OWN } else { 0 }
}

fn read_nx(r: &mut Reader<'_>) -> Result<FlowMonitor> {
    let id = r.u32()?;
    let here = *r;
    let flags = r.u16()?;
    check_flags(&here, flags, SAME | OLD_OWN)?;
    let (out_port, len, table) = (OfPort(r.u16()?), usize::from(r.u16()?), TableId(r.u8()?));
    zeros(r, 5)?;
    let flags = of_old_flags(flags);
    let match_ = read_nxm(r, len)?.m;
    let command = MonitorCommand::Add;
    Ok(FlowMonitor { id, command, flags, out_port, out_group: GROUP_ANY, table, match_ })
}

fn read_onf(r: &mut Reader<'_>) -> Result<FlowMonitor> {
    let id = r.u32()?;
    let here = *r;
    let flags = r.u16()?;
    check_flags(&here, flags, SAME | OLD_OWN)?;
    r.skip(2)?;
    let (out_port, table) = (decode::port32(r)?, TableId(r.u8()?));
    zeros(r, 3)?;
    let flags = of_old_flags(flags);
    let match_ = read_match(r, false)?;
    let command = MonitorCommand::Add;
    Ok(FlowMonitor { id, command, flags, out_port, out_group: GROUP_ANY, table, match_ })
}

fn read_standard(r: &mut Reader<'_>) -> Result<FlowMonitor> {
    let id = r.u32()?;
    let (mut port, out_group) = (r.sub(4)?, r.u32()?);
    let here = *r;
    let (flags, table) = (r.u16()?, TableId(r.u8()?));
    let command = match r.u8()? {
        0 => MonitorCommand::Add,
        1 => MonitorCommand::Modify,
        2 => MonitorCommand::Delete,
        _ => return Err(here.error(OfError::OFPMOFC_BAD_COMMAND)),
    };
    // Who deletes says nothing but the id, and OVS does not even say a match.
    if command == MonitorCommand::Delete {
        if !r.is_empty() {
            read_match(r, false)?;
        }
        return Ok(FlowMonitor::delete(id));
    }
    check_flags(&here, flags, SAME | monitor_flag::NO_ABBREV | monitor_flag::OWN)?;
    let out_port = decode::port32(&mut port)?;
    let match_ = read_match(r, false)?;
    Ok(FlowMonitor { id, command, flags, out_port, out_group, table, match_ })
}

/// Writes a request.
pub fn write_request(out: &mut Vec<u8>, m: &FlowMonitor, v: Version) -> Encoded {
    out.put32(m.id);
    match v {
        Version::Of10 | Version::Of11 | Version::Of12 => {
            out.put16(old_flags(m.flags));
            out.put16(m.out_port.0);
            let len_at = out.len();
            out.put16(0);
            out.put8(m.table.0);
            out.zeros(5);
            let start = out.len();
            oxm::put_match(out, &m.match_, None)?;
            let len = out.len() - start;
            out.set16(len_at, len as u16);
            out.pad8(start);
            Ok(())
        }
        Version::Of13 => {
            out.put16(old_flags(m.flags));
            let len_at = out.len();
            out.put16(0);
            out.put32(m.out_port.to_wire32());
            out.put8(m.table.0);
            out.zeros(3);
            let start = out.len();
            write_match(out, &m.match_, v)?;
            let len = out.len() - start;
            out.set16(len_at, len as u16);
            Ok(())
        }
        _ => {
            out.put32(m.out_port.to_wire32());
            out.put32(m.out_group);
            out.put16(m.flags);
            out.put8(m.table.0);
            out.put8(m.command as u8);
            write_match(out, &m.match_, v)
        }
    }
}

/// Numbers of events: 1.4's, and those of the older dialects, where a flow that was there is "added".
const EVENTS: [(FlowEvent, u16, u16); 4] = [
    (FlowEvent::Added, 1, 0),
    (FlowEvent::Removed, 2, 1),
    (FlowEvent::Modified, 3, 2),
    (FlowEvent::Initial, 0, 0),
];
const ABBREV: (u16, u16) = (4, 3);
const PAUSED: u16 = 5;
const RESUMED: u16 = 6;

/// Reads updates.
pub fn read_updates(r: &mut Reader<'_>, v: Version) -> Result<Vec<FlowUpdate>> {
    let mut list = Vec::new();
    let new = v >= Version::Of14;
    while !r.is_empty() {
        let bad_len = r.error(OfError::OFPBRC_BAD_LEN);
        let mut peek = *r;
        let len = usize::from(peek.u16()?);
        if len < 8 || len % 8 != 0 {
            return Err(bad_len);
        }
        let mut e = r.sub(len)?;
        e.skip(2)?;
        let here = e;
        let number = e.u16()?;
        let abbrev = if new { ABBREV.0 } else { ABBREV.1 };
        if number == abbrev || new && matches!(number, PAUSED | RESUMED) {
            let xid = e.u32()?;
            if !e.is_empty() {
                return Err(bad_len);
            }
            list.push(match number {
                n if n == abbrev => FlowUpdate::Abbrev(xid),
                PAUSED => FlowUpdate::Paused,
                _ => FlowUpdate::Resumed,
            });
            continue;
        }
        let row = EVENTS.iter().find(|row| number == if new { row.1 } else { row.2 });
        let event = row.ok_or(here.error(OfError::NXBRC_FM_BAD_EVENT))?.0;
        list.push(FlowUpdate::Flow(Box::new(read_full(&mut e, event, v)?)));
    }
    Ok(list)
}

fn read_full(r: &mut Reader<'_>, event: FlowEvent, v: Version) -> Result<FlowChange> {
    let here = *r;
    let (table, reason, times, priority, match_len);
    if v >= Version::Of14 {
        (table, reason) = (r.u8()?, r.u8()?);
        times = (r.u16()?, r.u16()?);
        (priority, match_len) = (r.u16()?, 0);
        r.skip(4)?;
    } else {
        let wide = r.u16()?;
        reason = u8::try_from(wide).map_err(|_| here.error(OfError::NXBRC_BAD_REASON))?;
        priority = r.u16()?;
        times = (r.u16()?, r.u16()?);
        (match_len, table) = (usize::from(r.u16()?), r.u8()?);
        r.skip(1)?;
    }
    let cookie = r.u64()?;
    let reason = match event {
        FlowEvent::Removed => Some(removed_reason(&here, reason)?),
        _ => None,
    };
    let (match_, actions) = if v <= Version::Of12 {
        (read_nxm(r, match_len)?.m, decode::actions(r, v)?)
    } else {
        (read_match(r, false)?, decode::instructions(r, v)?)
    };
    let (idle_timeout, hard_timeout) = times;
    Ok(FlowChange {
        event,
        reason,
        table: TableId(table),
        priority,
        idle_timeout,
        hard_timeout,
        cookie,
        match_,
        actions,
    })
}

/// Writes an update.
pub fn write_update(out: &mut Vec<u8>, u: &FlowUpdate, v: Version) -> Encoded {
    let new = v >= Version::Of14;
    let short = |out: &mut Vec<u8>, event: u16, xid: u32| {
        out.put16(8);
        out.put16(event);
        out.put32(xid);
    };
    match u {
        FlowUpdate::Abbrev(xid) => short(out, if new { ABBREV.0 } else { ABBREV.1 }, *xid),
        FlowUpdate::Paused => short(out, PAUSED, 0),
        FlowUpdate::Resumed => short(out, RESUMED, 0),
        FlowUpdate::Flow(f) => write_full(out, f, v)?,
    }
    Ok(())
}

fn write_full(out: &mut Vec<u8>, f: &FlowChange, v: Version) -> Encoded {
    let new = v >= Version::Of14;
    let start = out.len();
    let row = EVENTS.iter().find(|row| row.0 == f.event);
    let reason = f.reason.map_or(0, |r| r as u8);
    out.put16(0);
    out.put16(row.map_or(0, |row| if new { row.1 } else { row.2 }));
    let len_at;
    if new {
        out.put8(f.table.0);
        out.put8(reason);
        out.put16(f.idle_timeout);
        out.put16(f.hard_timeout);
        out.put16(f.priority);
        len_at = None;
        out.zeros(4);
    } else {
        out.put16(reason.into());
        out.put16(f.priority);
        out.put16(f.idle_timeout);
        out.put16(f.hard_timeout);
        len_at = Some(out.len());
        out.put16(0);
        out.put8(f.table.0);
        out.put8(0);
    }
    out.put64(f.cookie);
    let m = out.len();
    let known = encode::Known::from(&f.match_);
    if v <= Version::Of12 {
        oxm::put_match(out, &f.match_, None)?;
    } else {
        write_match(out, &f.match_, v)?;
    }
    if let Some(at) = len_at {
        let len = out.len() - m;
        out.set16(at, len as u16);
        out.pad8(m);
    }
    match v <= Version::Of12 {
        true => encode::actions(out, &f.actions, v, known)?,
        false => encode::flow_actions(out, &f.actions, v, known)?,
    }
    super::flows::end_entry(out, start)
}
