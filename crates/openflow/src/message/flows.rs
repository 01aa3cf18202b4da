//! Bodies about flows: flow mod, flow removed, flow and aggregate statistics.

use alloc::vec::Vec;

use packet::header::ethertype;

use super::codec::{Encoded, Result, Session};
use super::oxs::{Oxs, duration, put_duration, read_oxs};
use super::*;
use crate::action::check::{Rules, check};
use crate::action::{OptionLens, decode, encode};
use crate::error::OfError;
use crate::flow_mod::{FlowModCommand, GROUP_ANY};
use crate::oxm;
use crate::protocol::Protocols;
use crate::wire::{Put, Reader};

const NO_BUFFER: u32 = u32::MAX;

/// Reads `ofp_match` (1.1+): type, length, entries, padding. Type 0 is 1.1's match of fixed size.
pub fn read_match(r: &mut Reader<'_>, lenient: bool) -> Result<Match> {
    let here = *r;
    let (typ, len) = (r.u16()?, usize::from(r.u16()?));
    if typ == 0 {
        if len != match11::LEN {
            return Err(here.error(OfError::OFPBMC_BAD_LEN));
        }
        return match11::read(&mut r.sub(len - 4)?);
    }
    if typ != 1 {
        return Err(here.error(OfError::OFPBMC_BAD_TYPE));
    }
    if len < 4 {
        return Err(here.error(OfError::OFPBMC_BAD_LEN));
    }
    let bad_len = here.error(OfError::OFPBMC_BAD_LEN);
    let mut body = r.sub(len - 4).map_err(|_| bad_len)?;
    r.skip(len.next_multiple_of(8) - len).map_err(|_| bad_len)?;
    Ok(oxm::read_match(&mut body, lenient)?.m)
}

/// Writes `ofp_match` (1.1+).
pub fn write_match(out: &mut Vec<u8>, m: &Match, v: Version) -> Encoded {
    if v == Version::Of11 {
        match11::write(out, m);
        return Ok(());
    }
    let start = out.len();
    out.put16(1);
    out.put16(0);
    oxm::put_match(out, m, Some(v))?;
    let len = out.len() - start;
    out.set16(start + 2, len as u16);
    out.pad8(start);
    Ok(())
}

/// Reads `len` bytes of NXM and the padding behind them.
pub fn read_nxm(r: &mut Reader<'_>, len: usize) -> Result<oxm::NxMatch> {
    let bad_len = r.error(OfError::OFPBMC_BAD_LEN);
    let mut body = r.sub(len).map_err(|_| bad_len)?;
    r.skip(len.next_multiple_of(8) - len).map_err(|_| bad_len)?;
    oxm::read_match(&mut body, false)
}

fn command(here: &Reader<'_>, c: u8) -> Result<FlowModCommand> {
    use FlowModCommand::{Add, Delete, DeleteStrict, Modify, ModifyStrict};
    [Add, Modify, ModifyStrict, Delete, DeleteStrict]
        .get(usize::from(c))
        .copied()
        .ok_or(here.error(OfError::OFPFMFC_BAD_COMMAND))
}

/// Command and table, packed as the session says.
fn read_command(r: &mut Reader<'_>, s: Session) -> Result<(FlowModCommand, Option<TableId>)> {
    let here = *r;
    let c = r.u16()?;
    let (c, table) = match s.flow_mod_table_id {
        true => (c & 0xff, c >> 8),
        false => (c, 255),
    };
    let c = u8::try_from(c).map_err(|_| here.error(OfError::OFPFMFC_BAD_COMMAND))?;
    Ok((command(&here, c)?, (table != 255).then_some(TableId(table as u8))))
}

fn write_command(out: &mut Vec<u8>, f: &FlowMod, s: Session) {
    let table = if s.flow_mod_table_id { f.table.unwrap_or(TableId::ALL).0 } else { 0 };
    out.put16(u16::from(table) << 8 | f.command as u16);
}

fn flags10(here: &Reader<'_>, flags: u16, command: FlowModCommand) -> Result<FlowModFlags> {
    let mut f = FlowModFlags::from_bits_truncate(flags & 3);
    f.set(FlowModFlags::EMERG, flags & 4 != 0);
    if flags & !7 != 0 {
        return Err(here.error(OfError::OFPFMFC_BAD_FLAGS));
    }
    // 1.0's add always starts the counters again, and nothing else does.
    f.set(FlowModFlags::RESET_COUNTS, command == FlowModCommand::Add);
    Ok(f)
}

fn to_flags10(f: FlowModFlags) -> u16 {
    f.bits() & 3 | u16::from(f.contains(FlowModFlags::EMERG)) << 2
}

fn flags11(
    here: &Reader<'_>,
    flags: u16,
    v: Version,
    command: FlowModCommand,
) -> Result<FlowModFlags> {
    let known: u16 = match v {
        Version::Of11 => 3,
        Version::Of12 => 7,
        _ => 0x1f,
    };
    if flags & !known != 0 {
        return Err(here.error(OfError::OFPFMFC_BAD_FLAGS));
    }
    let mut f = FlowModFlags::from_bits_truncate(flags);
    if v == Version::Of11 {
        f.set(FlowModFlags::RESET_COUNTS, command == FlowModCommand::Add);
    }
    Ok(f)
}

/// Whether a command deletes.
fn deletes(c: FlowModCommand) -> bool {
    matches!(c, FlowModCommand::Delete | FlowModCommand::DeleteStrict)
}

/// Whether the cookie of a message of 1.1+ is one to give. 1.1's modification adds a flow if it finds
/// none, unless it looks for a cookie; since 1.2 it never adds.
fn gives_cookie(v: Version, command: FlowModCommand, cookie_mask: u64) -> bool {
    match command {
        FlowModCommand::Add => true,
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
            v == Version::Of11 && cookie_mask == 0
        }
        FlowModCommand::Delete | FlowModCommand::DeleteStrict => false,
    }
}

/// A cookie of 1.0 or Nicira, where all ones say that there is none.
fn old_new_cookie(f: &mut FlowMod, cookie: u64) {
    f.new_cookie = (cookie != u64::MAX).then_some(cookie);
    f.modify_cookie = f.new_cookie.is_some();
}

/// Reads a flow mod in its version's own form.
pub fn read_mod(r: &mut Reader<'_>, v: Version, s: Session) -> Result<FlowMod> {
    let mut f = FlowMod::default();
    if v == Version::Of10 {
        let exact = match10::is_exact(r);
        f.match_ = match10::read(r)?;
        old_new_cookie(&mut f, r.u64()?);
        (f.command, f.table) = read_command(r, s)?;
        (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
        if exact {
            // 1.0: flows without wildcards go before all others.
            f.priority = u16::MAX;
        }
        let b = r.u32()?;
        f.buffer_id = (b != NO_BUFFER).then_some(b);
        f.out_port = OfPort(r.u16()?);
        let here = *r;
        f.flags = flags10(&here, r.u16()?, f.command)?;
        read_actions(r, &mut f, v)?;
        return Ok(f);
    }
    let (cookie, mask) = (r.u64()?, r.u64()?);
    let here = *r;
    let table = r.u8()?;
    f.table = (table != 255).then_some(TableId(table));
    f.command = command(&here, r.u8()?)?;
    if table == 255 && (v == Version::Of11 || !deletes(f.command)) {
        return Err(here.error(OfError::OFPFMFC_BAD_TABLE_ID));
    }
    match gives_cookie(v, f.command, mask) {
        true => f.new_cookie = Some(cookie),
        false => (f.cookie, f.cookie_mask) = (cookie & mask, mask),
    }
    (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
    let b = r.u32()?;
    f.buffer_id = (b != NO_BUFFER).then_some(b);
    f.out_port = any_port(r)?;
    let group = r.u32()?;
    f.out_group = if deletes(f.command) { group } else { GROUP_ANY };
    let here = *r;
    f.flags = flags11(&here, r.u16()?, v, f.command)?;
    let importance = r.u16()?;
    if v >= Version::Of14 && f.command == FlowModCommand::Add {
        f.importance = importance;
    }
    f.match_ = read_match(r, false)?;
    read_actions(r, &mut f, v)?;
    Ok(f)
}

/// A port, or any.
fn any_port(r: &mut Reader<'_>) -> Result<OfPort> {
    decode::port32(r)
}

/// Reads `NXT_FLOW_MOD`.
pub fn read_nx_mod(r: &mut Reader<'_>, v: Version, s: Session) -> Result<FlowMod> {
    let mut f = FlowMod::default();
    let cookie = r.u64()?;
    (f.command, f.table) = read_command(r, s)?;
    (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
    let b = r.u32()?;
    f.buffer_id = (b != NO_BUFFER).then_some(b);
    f.out_port = OfPort(r.u16()?);
    let here = *r;
    f.flags = flags10(&here, r.u16()?, f.command)?;
    let len = usize::from(r.u16()?);
    r.skip(6)?;
    let here = *r;
    let m = read_nxm(r, len)?;
    f.match_ = m.m;
    let old = m.cookie.unwrap_or_default();
    if f.command == FlowModCommand::Add && old.1 != 0 {
        return Err(here.error(OfError::NXBRC_NXM_INVALID));
    }
    (f.cookie, f.cookie_mask) = old;
    old_new_cookie(&mut f, cookie);
    read_actions(r, &mut f, v)?;
    Ok(f)
}

/// Whether addresses of a connection are asked for in packets of their kind only.
fn ct_tuple_agrees(m: &Match) -> bool {
    let (k, w) = (&m.key.pkt, &m.mask.pkt);
    let v4 = w.ct_nw_src != 0 || w.ct_nw_dst != 0;
    let v6 = w.ct_ipv6_src != [0; 16] || w.ct_ipv6_dst != [0; 16];
    (!v4 || k.dl_type == ethertype::IPV4) && (!v6 || k.dl_type == ethertype::IPV6)
}

/// Reads what a flow does, and checks that it makes sense for the flow's packets.
fn read_actions(r: &mut Reader<'_>, f: &mut FlowMod, v: Version) -> Result<()> {
    let here = *r;
    f.actions = match v {
        Version::Of10 => decode::actions(r, v)?,
        _ => decode::instructions(r, v)?,
    };
    if !ct_tuple_agrees(&f.match_) {
        return Err(here.error(OfError::OFPBAC_MATCH_INCONSISTENT));
    }
    let allowed =
        check(&f.actions, &f.match_, f.table, Rules::Tracked).map_err(|e| here.error(e))?;
    // What 1.0 lets do nothing, the others refuse.
    match v == Version::Of10 || !allowed.and(Protocols::of_versions(v.bit())).is_empty() {
        true => Ok(()),
        false => Err(here.error(OfError::OFPBAC_MATCH_INCONSISTENT)),
    }
}

/// The cookie field of 1.0 and Nicira's flow mods.
fn old_cookie(f: &FlowMod) -> u64 {
    match f.command {
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => f.new_cookie.unwrap_or(u64::MAX),
        _ => f.new_cookie.unwrap_or(0),
    }
}

/// Writes a flow mod in its version's own form.
pub fn write_mod(out: &mut Vec<u8>, f: &FlowMod, v: Version, s: Session) -> Encoded {
    let known = encode::Known::from(&f.match_);
    if v == Version::Of10 {
        match10::write(out, &f.match_);
        out.put64(old_cookie(f));
        write_command(out, f, s);
        out.put16(f.idle_timeout);
        out.put16(f.hard_timeout);
        out.put16(f.priority);
        out.put32(f.buffer_id.unwrap_or(NO_BUFFER));
        out.put16(f.out_port.0);
        out.put16(to_flags10(f.flags));
        return encode::flow_actions(out, &f.actions, v, known);
    }
    out.put64(match gives_cookie(v, f.command, f.cookie_mask) {
        true => f.new_cookie.unwrap_or(0),
        false => f.cookie,
    });
    out.put64(f.cookie_mask);
    // Only deletions may be about all tables.
    let all = v > Version::Of11 && deletes(f.command);
    out.put8(f.table.unwrap_or(if all { TableId::ALL } else { TableId(0) }).0);
    out.put8(f.command as u8);
    out.put16(f.idle_timeout);
    out.put16(f.hard_timeout);
    out.put16(f.priority);
    out.put32(f.buffer_id.unwrap_or(NO_BUFFER));
    out.put32(f.out_port.to_wire32());
    out.put32(f.out_group);
    let bits = f.flags.bits()
        & match v {
            Version::Of11 => 3,
            Version::Of12 => 7,
            _ => 0x1f,
        };
    out.put16(bits);
    let importance = v >= Version::Of14 && f.command == FlowModCommand::Add;
    out.put16(if importance { f.importance } else { 0 });
    write_match(out, &f.match_, v)?;
    encode::flow_actions(out, &f.actions, v, known)
}

/// Writes `NXT_FLOW_MOD`.
pub fn write_nx_mod(out: &mut Vec<u8>, f: &FlowMod, v: Version, s: Session) -> Encoded {
    out.put64(old_cookie(f));
    write_command(out, f, s);
    out.put16(f.idle_timeout);
    out.put16(f.hard_timeout);
    out.put16(f.priority);
    out.put32(f.buffer_id.unwrap_or(NO_BUFFER));
    out.put16(f.out_port.0);
    out.put16(to_flags10(f.flags));
    let len_at = out.len();
    out.zeros(8);
    let start = out.len();
    oxm::put_match(out, &f.match_, None)?;
    if f.command != FlowModCommand::Add {
        oxm::put_cookie(out, f.cookie, f.cookie_mask);
    }
    let len = out.len() - start;
    out.set16(len_at, len as u16);
    out.pad8(start);
    encode::flow_actions(out, &f.actions, v, encode::Known::from(&f.match_))
}

/// Reads a request of flow or aggregate statistics.
pub fn read_request(r: &mut Reader<'_>, v: Version) -> Result<FlowStatsRequest> {
    if v == Version::Of10 {
        let match_ = match10::read(r)?;
        let table = TableId(r.u8()?);
        r.skip(1)?;
        let out_port = OfPort(r.u16()?);
        return Ok(FlowStatsRequest {
            match_,
            cookie: 0,
            cookie_mask: 0,
            out_port,
            out_group: GROUP_ANY,
            table,
        });
    }
    let table = TableId(r.u8()?);
    r.skip(3)?;
    let out_port = any_port(r)?;
    let out_group = r.u32()?;
    r.skip(4)?;
    let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
    let cookie = cookie & cookie_mask;
    let match_ = read_match(r, false)?;
    // 1.5 may ask for only some of the counters; all are told.
    r.rest();
    Ok(FlowStatsRequest { match_, cookie, cookie_mask, out_port, out_group, table })
}

/// Writes a request of flow or aggregate statistics.
pub fn write_request(out: &mut Vec<u8>, q: &FlowStatsRequest, v: Version) -> Encoded {
    if v == Version::Of10 {
        match10::write(out, &q.match_);
        out.put8(q.table.0);
        out.put8(0);
        out.put16(q.out_port.0);
        return Ok(());
    }
    out.put8(q.table.0);
    out.zeros(3);
    out.put32(q.out_port.to_wire32());
    out.put32(q.out_group);
    out.zeros(4);
    out.put64(q.cookie);
    out.put64(q.cookie_mask);
    write_match(out, &q.match_, v)
}

/// Reads Nicira's request of flow or aggregate statistics.
pub fn read_nx_request(r: &mut Reader<'_>) -> Result<FlowStatsRequest> {
    let (out_port, len, table) = (OfPort(r.u16()?), usize::from(r.u16()?), TableId(r.u8()?));
    r.skip(3)?;
    let m = read_nxm(r, len)?;
    let (cookie, cookie_mask) = m.cookie.unwrap_or_default();
    Ok(FlowStatsRequest { match_: m.m, cookie, cookie_mask, out_port, out_group: GROUP_ANY, table })
}

/// Writes Nicira's request of flow or aggregate statistics.
pub fn write_nx_request(out: &mut Vec<u8>, q: &FlowStatsRequest) -> Encoded {
    out.put16(q.out_port.0);
    let len_at = out.len();
    out.put16(0);
    out.put8(q.table.0);
    out.zeros(3);
    let start = out.len();
    oxm::put_match(out, &q.match_, None)?;
    oxm::put_cookie(out, q.cookie, q.cookie_mask);
    let len = out.len() - start;
    out.set16(len_at, len as u16);
    out.pad8(start);
    Ok(())
}

/// A reader of the next entry, whose length its first two bytes tell.
fn entry<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>> {
    let mut peek = *r;
    let here = *r;
    let len = usize::from(peek.u16()?);
    if len < 2 {
        return Err(here.error(OfError::OFPBRC_BAD_LEN));
    }
    let mut e = r.sub(len)?;
    e.skip(2)?;
    Ok(e)
}

/// Reads flow statistics.
pub fn read_stats(r: &mut Reader<'_>, v: Version) -> Result<Vec<FlowStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let mut e = entry(r)?;
        list.push(match v {
            Version::Of10 => read_stats10(&mut e)?,
            Version::Of15 => read_stats15(&mut e)?,
            _ => read_stats11(&mut e, v)?,
        });
    }
    Ok(list)
}

fn blank() -> FlowStats {
    FlowStats {
        match_: Match::ANY,
        cookie: 0,
        table: TableId(0),
        priority: 0,
        duration: Duration::ZERO,
        idle_timeout: 0,
        hard_timeout: 0,
        idle_age: None,
        hard_age: None,
        n_packets: 0,
        n_bytes: 0,
        importance: 0,
        flags: FlowModFlags::empty(),
        actions: Vec::new(),
    }
}

fn read_stats10(r: &mut Reader<'_>) -> Result<FlowStats> {
    let mut f = blank();
    f.table = TableId(r.u8()?);
    r.skip(1)?;
    f.match_ = match10::read_as_said(r)?;
    f.duration = duration(r)?;
    (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(6)?;
    (f.cookie, f.n_packets, f.n_bytes) = (r.u64()?, r.u64()?, r.u64()?);
    f.actions = decode::actions(r, Version::Of10)?;
    Ok(f)
}

fn read_stats11(r: &mut Reader<'_>, v: Version) -> Result<FlowStats> {
    let mut f = blank();
    f.table = TableId(r.u8()?);
    r.skip(1)?;
    f.duration = duration(r)?;
    (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let here = *r;
    let flags = r.u16()?;
    f.flags = if v >= Version::Of13 {
        flags11(&here, flags, v, FlowModCommand::Add)?
    } else {
        FlowModFlags::empty()
    };
    f.importance = r.u16()?;
    if v < Version::Of14 {
        f.importance = 0;
    }
    r.skip(2)?;
    (f.cookie, f.n_packets, f.n_bytes) = (r.u64()?, r.u64()?, r.u64()?);
    f.match_ = read_match(r, false)?;
    f.actions = decode::instructions(r, v)?;
    Ok(f)
}

fn read_stats15(r: &mut Reader<'_>) -> Result<FlowStats> {
    let mut f = blank();
    r.skip(2)?;
    f.table = TableId(r.u8()?);
    r.skip(1)?;
    (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let here = *r;
    f.flags = flags11(&here, r.u16()?, Version::Of15, FlowModCommand::Add)?;
    (f.importance, f.cookie) = (r.u16()?, r.u64()?);
    f.match_ = read_match(r, false)?;
    let s = read_oxs(r)?;
    (f.duration, f.idle_age, f.n_packets, f.n_bytes) = (s.duration, s.idle, s.n_packets, s.n_bytes);
    f.actions = decode::instructions(r, Version::Of15)?;
    Ok(f)
}

/// Reads Nicira's flow statistics.
pub fn read_nx_stats(r: &mut Reader<'_>) -> Result<Vec<FlowStats>> {
    // They are large in memory, so that growing would copy much; on the wire few have under 80 bytes.
    let mut list = Vec::with_capacity(r.len() / 80);
    while !r.is_empty() {
        let mut e = entry(r)?;
        let r = &mut e;
        let mut f = blank();
        f.table = TableId(r.u8()?);
        r.skip(1)?;
        f.duration = duration(r)?;
        (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
        let len = usize::from(r.u16()?);
        let (idle, hard) = (r.u16()?, r.u16()?);
        f.idle_age = idle.checked_sub(1).map(u32::from);
        f.hard_age = hard.checked_sub(1).map(u32::from);
        (f.cookie, f.n_packets, f.n_bytes) = (r.u64()?, r.u64()?, r.u64()?);
        f.match_ = read_nxm(r, len)?.m;
        f.actions = decode::actions(r, Version::Of10)?;
        list.push(f);
    }
    Ok(list)
}

/// Writes the length of the entry that begins at `start` into its first two bytes.
pub fn end_entry(out: &mut Vec<u8>, start: usize) -> Encoded {
    let len = u16::try_from(out.len() - start)
        .map_err(|_| crate::error::EncodeError::TooLong("flow".into()))?;
    out.set16(start, len);
    Ok(())
}

/// Writes a flow's statistics.
pub fn write_stats<A: AsRef<[Action]>>(
    out: &mut Vec<u8>,
    f: &FlowStats<A>,
    v: Version,
    options: &OptionLens,
) -> Encoded {
    let start = out.len();
    let known = encode::Known::from(&f.match_).with_options(options);
    out.put16(0);
    let times = |out: &mut Vec<u8>| {
        out.put16(f.priority);
        out.put16(f.idle_timeout);
        out.put16(f.hard_timeout);
    };
    let bits = f.flags.bits() & 0x1f;
    match v {
        Version::Of10 => {
            out.put8(f.table.0);
            out.put8(0);
            match10::write(out, &f.match_);
            put_duration(out, f.duration);
            times(out);
            out.zeros(6);
            out.put64(f.cookie);
            out.put64(f.n_packets);
            out.put64(f.n_bytes);
        }
        Version::Of15 => {
            out.zeros(2);
            out.put8(f.table.0);
            out.put8(0);
            times(out);
            out.put16(bits);
            out.put16(f.importance);
            out.put64(f.cookie);
            write_match(out, &f.match_, v)?;
            let s = Oxs {
                duration: f.duration,
                idle: f.idle_age,
                n_packets: f.n_packets,
                n_bytes: f.n_bytes,
                n_flows: None,
            };
            s.write(out, true);
        }
        _ => {
            out.put8(f.table.0);
            out.put8(0);
            put_duration(out, f.duration);
            times(out);
            out.put16(if v >= Version::Of13 { bits } else { 0 });
            out.put16(if v >= Version::Of14 { f.importance } else { 0 });
            out.put16(0);
            out.put64(f.cookie);
            out.put64(f.n_packets);
            out.put64(f.n_bytes);
            write_match(out, &f.match_, v)?;
        }
    }
    encode::flow_actions(out, f.actions.as_ref(), v, known)?;
    end_entry(out, start)
}

/// Writes a flow's statistics in Nicira's form.
pub fn write_nx_stats<A: AsRef<[Action]>>(
    out: &mut Vec<u8>,
    f: &FlowStats<A>,
    options: &OptionLens,
) -> Encoded {
    let start = out.len();
    let age = |a: Option<u32>| a.map_or(0, |a| u16::try_from(a + 1).unwrap_or(u16::MAX));
    out.put16(0);
    out.put8(f.table.0);
    out.put8(0);
    put_duration(out, f.duration);
    out.put16(f.priority);
    out.put16(f.idle_timeout);
    out.put16(f.hard_timeout);
    let len_at = out.len();
    out.put16(0);
    out.put16(age(f.idle_age));
    out.put16(age(f.hard_age));
    out.put64(f.cookie);
    out.put64(f.n_packets);
    out.put64(f.n_bytes);
    let m = out.len();
    oxm::put_match(out, &f.match_, None)?;
    let len = out.len() - m;
    out.set16(len_at, len as u16);
    out.pad8(m);
    let known = encode::Known::from(&f.match_).with_options(options);
    encode::flow_actions(out, f.actions.as_ref(), Version::Of10, known)?;
    end_entry(out, start)
}

/// Reads aggregate statistics.
pub fn read_aggregate(r: &mut Reader<'_>, v: Version) -> Result<AggregateStats> {
    if v >= Version::Of15 {
        let s = read_oxs(r)?;
        return Ok(AggregateStats {
            n_packets: s.n_packets,
            n_bytes: s.n_bytes,
            n_flows: s.n_flows.unwrap_or(0),
        });
    }
    let a = AggregateStats { n_packets: r.u64()?, n_bytes: r.u64()?, n_flows: r.u32()? };
    r.skip(4)?;
    Ok(a)
}

/// Writes aggregate statistics.
pub fn write_aggregate(out: &mut Vec<u8>, a: &AggregateStats, v: Version) {
    if v >= Version::Of15 {
        let s = Oxs {
            duration: Duration::ZERO,
            idle: None,
            n_packets: a.n_packets,
            n_bytes: a.n_bytes,
            n_flows: Some(a.n_flows),
        };
        s.write(out, false);
        return;
    }
    out.put64(a.n_packets);
    out.put64(a.n_bytes);
    out.put32(a.n_flows);
    out.zeros(4);
}
