//! Groups: what is said of them, and how it stands on the wire.
//!
//! OpenFlow 1.1 to 1.4 say buckets without ids; 1.5, and Nicira's messages in 1.0 in the same form, give
//! every bucket an id, may add and remove single buckets, and choose among buckets by a method.
//! Source: OpenFlow 1.5.1 §5.10, §7.3.4.3, §7.3.5.6 to 8; Netronome's selection method as
//! `ovs-ofctl(8)` describes it.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use base::OfPort;
use flow::FieldId;
use flow::field::MaskRule;

use super::Version;
use super::codec::{Encoded, Result, set_len};
use super::ports::{duration, put_duration};
use crate::action::encode::Known;
use crate::action::{Action, decode, encode};
use crate::error::{DecodeError, EncodeError, OfError};
use crate::flow_mod::GROUP_ANY;
use crate::oxm;
use crate::wire::{Put, Reader};

/// Highest number of a group (`OFPG_MAX`).
pub const GROUP_MAX: u32 = 0xffff_ff00;

/// Ids of buckets that are none (OpenFlow 1.5.1 §7.3.4.3).
pub mod bucket_id {
    /// Highest id of a bucket.
    pub const MAX: u32 = 0xffff_ff00;
    /// The first bucket.
    pub const FIRST: u32 = 0xffff_fffd;
    /// The last bucket.
    pub const LAST: u32 = 0xffff_fffe;
    /// All buckets; of a bucket that is to be sent: any id.
    pub const ALL: u32 = 0xffff_ffff;
}

/// What a group does with a packet.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum GroupType {
    /// A copy through every bucket.
    #[default]
    All = 0,
    /// Through one of the buckets, chosen by weight.
    Select = 1,
    /// Through its only bucket.
    Indirect = 2,
    /// Through the first bucket that is live.
    FastFailover = 3,
}

impl GroupType {
    /// All types, by number.
    pub const ALL_TYPES: [GroupType; 4] =
        [GroupType::All, GroupType::Select, GroupType::Indirect, GroupType::FastFailover];

    /// Its name in a group's text.
    pub fn name(self) -> &'static str {
        ["all", "select", "indirect", "ff"][self as usize]
    }

    fn read(r: &mut Reader<'_>) -> Result<GroupType> {
        let here = *r;
        let n = r.u8()?;
        let known = Self::ALL_TYPES.into_iter().find(|t| *t as u8 == n);
        known.ok_or(here.error(OfError::OFPGMFC_BAD_TYPE))
    }
}

/// What a group mod does. The numbers are the wire's.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u16)]
pub enum GroupCommand {
    /// A new group.
    #[default]
    Add = 0,
    /// Replaces a group.
    Modify = 1,
    /// Deletes a group, or all.
    Delete = 2,
    /// Adds buckets (1.5 and Nicira's).
    InsertBucket = 3,
    /// Removes one bucket or all (1.5 and Nicira's).
    RemoveBucket = 5,
    /// Replaces a group or makes it (OVS's own).
    AddOrModify = 0x8000,
}

impl GroupCommand {
    /// All commands.
    pub const ALL: [GroupCommand; 6] = [
        GroupCommand::Add,
        GroupCommand::Modify,
        GroupCommand::Delete,
        GroupCommand::InsertBucket,
        GroupCommand::RemoveBucket,
        GroupCommand::AddOrModify,
    ];

    /// Whether it is about buckets of a group that stays what it is.
    pub fn is_about_buckets(self) -> bool {
        matches!(self, GroupCommand::InsertBucket | GroupCommand::RemoveBucket)
    }
}

/// How a select group chooses (Netronome's extension).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// `hash`, `dp_hash` or, for the switch's choice, nothing. At most 15 bytes.
    pub method: String,
    /// A number for the method.
    pub param: u64,
    /// For `hash`: the fields that count and which bits of them, in the order of the field table.
    pub fields: Vec<(FieldId, u128)>,
}

/// Longest name of a method, and a zero behind it.
pub const METHOD_LEN: usize = 16;

/// One way through a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its id; [`bucket_id::ALL`] in a request that leaves it to the sender's side.
    pub id: u32,
    /// For select groups: its share.
    pub weight: u16,
    /// Live only while this port is; [`OfPort::NONE`] for no such condition.
    pub watch_port: OfPort,
    /// Live only while this group is; [`GROUP_ANY`] for no such condition.
    pub watch_group: u32,
    /// What it does, as an action set.
    pub actions: Vec<Action>,
}

impl Bucket {
    /// Whether its use depends on a port or a group.
    pub fn has_liveness(&self) -> bool {
        self.watch_port != OfPort::NONE || self.watch_group != GROUP_ANY
    }
}

/// A change of groups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// What kind of group it is to be.
    pub type_: GroupType,
    /// Which; [`crate::flow_mod::GROUP_ALL`] to delete all.
    pub group: u32,
    /// Where to insert, or what to remove; else [`bucket_id::ALL`].
    pub command_bucket: u32,
    /// How to choose.
    pub selection: Selection,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

/// What a group is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupDesc {
    /// Its number.
    pub group: u32,
    /// What it does.
    pub type_: GroupType,
    /// How it chooses.
    pub selection: Selection,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

/// Counters of a group; `u64::MAX` for unknown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupStats {
    /// Its number.
    pub group: u32,
    /// Flows that use it.
    pub ref_count: u32,
    /// Packets.
    pub n_packets: u64,
    /// Bytes.
    pub n_bytes: u64,
    /// Age (1.3+, and 1.0); `None` if not told.
    pub duration: Option<Duration>,
    /// Packets and bytes of each bucket.
    pub buckets: Vec<(u64, u64)>,
}

/// What groups can be. Arrays are by [`GroupType`].
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupFeatures {
    /// Bits of the types.
    pub types: u32,
    /// [`group_capability`] bits.
    pub capabilities: u32,
    /// Most groups.
    pub max_groups: [u32; 4],
    /// Actions in buckets, by the numbers of the version ([`crate::action::table::bitmap`]).
    pub actions: [u32; 4],
}

/// Capability bits of groups.
pub mod group_capability {
    /// Select groups obey weights.
    pub const SELECT_WEIGHT: u32 = 1;
    /// Select groups obey liveness.
    pub const SELECT_LIVENESS: u32 = 1 << 1;
    /// Buckets may lead to groups.
    pub const CHAINING: u32 = 1 << 2;
}

/// Whether a version says groups as 1.5 does.
fn is_15(v: Version) -> bool {
    v == Version::Of10 || v >= Version::Of15
}

/// Reads a group mod and checks what can be checked without a switch.
pub fn read_mod(r: &mut Reader<'_>, v: Version) -> Result<GroupMod> {
    let here = *r;
    let number = r.u16()?;
    let known = GroupCommand::ALL.into_iter().find(|c| *c as u16 == number);
    let command = known
        .filter(|c| is_15(v) || !c.is_about_buckets())
        .ok_or(here.error(OfError::OFPGMFC_BAD_COMMAND))?;
    let type_ = GroupType::read(r)?;
    r.skip(1)?;
    let group = r.u32()?;
    let mut m =
        GroupMod { command, type_, group, command_bucket: bucket_id::ALL, ..GroupMod::default() };
    if is_15(v) {
        let len = usize::from(r.u16()?);
        r.skip(2)?;
        let at_bucket = *r;
        m.command_bucket = r.u32()?;
        let all = m.command_bucket == bucket_id::ALL;
        let fits = match command {
            GroupCommand::InsertBucket => is_place(m.command_bucket),
            GroupCommand::RemoveBucket => is_place(m.command_bucket) || all,
            _ => all,
        };
        if !fits {
            return Err(at_bucket.error(OfError::OFPGMFC_BAD_BUCKET));
        }
        m.buckets = read_buckets15(&mut r.sub(len)?, v, type_)?;
        m.selection = read_selection(r, type_, command)?;
    } else {
        m.buckets = read_buckets11(r, v)?;
        if v >= Version::Of13 && command == GroupCommand::Delete && !m.buckets.is_empty() {
            return Err(here.error(OfError::OFPGMFC_INVALID_GROUP));
        }
    }
    check_mod(&m).map_err(|error| here.error(error))?;
    Ok(m)
}

fn is_place(id: u32) -> bool {
    id <= bucket_id::MAX || matches!(id, bucket_id::FIRST | bucket_id::LAST)
}

/// What is wrong with a group mod whatever the switch has.
fn check_mod(m: &GroupMod) -> core::result::Result<(), OfError> {
    let delete = m.command == GroupCommand::Delete;
    if m.type_ == GroupType::Indirect && !delete && m.buckets.len() != 1 {
        return Err(OfError::OFPGMFC_INVALID_GROUP);
    }
    if m.command == GroupCommand::RemoveBucket && !m.buckets.is_empty() {
        return Err(OfError::OFPGMFC_BAD_BUCKET);
    }
    for b in &m.buckets {
        let insert = m.command == GroupCommand::InsertBucket;
        if b.weight != 0 && m.type_ != GroupType::Select && !insert {
            return Err(OfError::OFPGMFC_INVALID_GROUP);
        }
        match m.type_ {
            GroupType::All | GroupType::Indirect if b.has_liveness() => {
                return Err(OfError::OFPGMFC_WATCH_UNSUPPORTED);
            }
            GroupType::FastFailover if !b.has_liveness() => {
                return Err(OfError::OFPGMFC_INVALID_GROUP);
            }
            _ => {}
        }
    }
    Ok(())
}

fn bucket_actions(r: &mut Reader<'_>, len: usize, v: Version) -> Result<Vec<Action>> {
    let start = *r;
    let actions = decode::actions(&mut r.sub(len)?, v)?;
    match actions.iter().all(Action::has_good_ports) {
        true => Ok(actions),
        false => Err(start.error(OfError::OFPBAC_BAD_OUT_PORT)),
    }
}

fn read_buckets11(r: &mut Reader<'_>, v: Version) -> Result<Vec<Bucket>> {
    let mut list: Vec<Bucket> = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let bad = here.error(OfError::OFPGMFC_BAD_BUCKET);
        if r.len() < 16 {
            return Err(bad);
        }
        let len = usize::from(r.u16()?);
        if len < 16 || len > here.len() {
            return Err(bad);
        }
        let weight = r.u16()?;
        let at_port = *r;
        let port = r.u32()?;
        let watch_group = r.u32()?;
        r.skip(4)?;
        let actions = bucket_actions(r, len - 16, v)?;
        let watch_port =
            OfPort::from_wire32(port).ok_or(at_port.error(OfError::OFPGMFC_BAD_WATCH))?;
        list.push(Bucket { id: list.len() as u32, weight, watch_port, watch_group, actions });
    }
    Ok(list)
}

fn write_bucket11(out: &mut Vec<u8>, b: &Bucket, v: Version) -> Encoded {
    let start = out.len();
    out.put16(0);
    out.put16(b.weight);
    out.put32(b.watch_port.to_wire32());
    out.put32(b.watch_group);
    out.zeros(4);
    encode::actions(out, &b.actions, v, Known::default())?;
    set_len(out, start, start)
}

const WEIGHT: u16 = 0;
const WATCH_PORT: u16 = 1;
const WATCH_GROUP: u16 = 2;
const EXPERIMENTER: u16 = 0xffff;
/// Netronome's number, and the wrong one that OVS 2.4 used.
const NTR_VENDOR: [u32; 2] = [0x154d, 0x1540];
const NTR_SELECTION_METHOD: u32 = 1;

/// A property: its type and what is behind type and length.
fn property<'a>(r: &mut Reader<'a>) -> Result<(u16, Reader<'a>)> {
    let bad = r.error(OfError::OFPBPC_BAD_LEN);
    if r.len() < 4 {
        return Err(bad);
    }
    let whole = r.len();
    let (typ, len) = (r.u16()?, usize::from(r.u16()?));
    if len < 4 || len.next_multiple_of(8) > whole {
        return Err(bad);
    }
    let body = r.sub(len - 4)?;
    r.skip(len.next_multiple_of(8) - len)?;
    Ok((typ, body))
}

/// The only number of a property.
fn number(body: &mut Reader<'_>) -> Result<u32> {
    match body.len() {
        4 => body.u32(),
        _ => Err(body.error(OfError::OFPBPC_BAD_LEN)),
    }
}

fn unknown_property(at: Reader<'_>, typ: u16, mut body: Reader<'_>) -> DecodeError {
    at.error(match typ {
        EXPERIMENTER if body.len() < 8 => OfError::OFPBPC_BAD_LEN,
        EXPERIMENTER if body.u32() == Ok(0) => OfError::OFPBPC_BAD_EXPERIMENTER,
        EXPERIMENTER => OfError::OFPBPC_BAD_EXP_TYPE,
        _ => OfError::OFPBPC_BAD_TYPE,
    })
}

fn read_buckets15(r: &mut Reader<'_>, v: Version, type_: GroupType) -> Result<Vec<Bucket>> {
    let mut list: Vec<Bucket> = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let bad = here.error(OfError::OFPGMFC_BAD_BUCKET);
        if r.len() < 8 {
            return Err(bad);
        }
        let (len, actions_len) = (usize::from(r.u16()?), usize::from(r.u16()?));
        if len < 8 || len > here.len() || actions_len > len - 8 {
            return Err(bad);
        }
        let mut b = Bucket {
            id: r.u32()?,
            weight: u16::from(type_ == GroupType::Select),
            watch_port: OfPort::NONE,
            watch_group: GROUP_ANY,
            actions: bucket_actions(r, actions_len, v)?,
        };
        let mut props = r.sub(len - 8 - actions_len)?;
        while !props.is_empty() {
            let at = props;
            let (typ, mut body) = property(&mut props)?;
            match typ {
                // Two bytes in a property of eight; OVS takes any length that holds them.
                WEIGHT => {
                    b.weight = body
                        .u16()
                        .map_err(|e| DecodeError { error: OfError::OFPBPC_BAD_LEN, at: e.at })?;
                }
                WATCH_PORT => {
                    let at = body;
                    b.watch_port = OfPort::from_wire32(number(&mut body)?)
                        .ok_or(at.error(OfError::OFPGMFC_BAD_WATCH))?;
                }
                WATCH_GROUP => b.watch_group = number(&mut body)?,
                _ => return Err(unknown_property(at, typ, body)),
            }
        }
        if b.id > bucket_id::MAX || list.iter().any(|o| o.id == b.id) {
            return Err(bad);
        }
        list.push(b);
    }
    Ok(list)
}

fn write_bucket15(out: &mut Vec<u8>, b: &Bucket, id: u32, type_: GroupType, v: Version) -> Encoded {
    let start = out.len();
    out.put16(0);
    out.put16(0);
    out.put32(id);
    encode::actions(out, &b.actions, v, Known::default())?;
    set_len(out, start + 8, start + 2)?;
    if type_ == GroupType::Select || b.weight != 0 {
        out.put16(WEIGHT);
        out.put16(8);
        out.put16(b.weight);
        out.put16(0);
    }
    if b.watch_port != OfPort::NONE {
        out.put16(WATCH_PORT);
        out.put16(8);
        out.put32(b.watch_port.to_wire32());
    }
    if b.watch_group != GROUP_ANY {
        out.put16(WATCH_GROUP);
        out.put16(8);
        out.put32(b.watch_group);
    }
    set_len(out, start, start)
}

/// Writes all buckets; those without an id get the lowest that no other has.
fn write_buckets15(out: &mut Vec<u8>, buckets: &[Bucket], type_: GroupType, v: Version) -> Encoded {
    let mut next = 0;
    for b in buckets {
        let id = if b.id > bucket_id::MAX {
            while buckets.iter().any(|o| o.id == next) {
                next += 1;
            }
            next += 1;
            next - 1
        } else {
            b.id
        };
        write_bucket15(out, b, id, type_, v)?;
    }
    Ok(())
}

/// Reads the properties of a group.
fn read_selection(
    r: &mut Reader<'_>,
    type_: GroupType,
    command: GroupCommand,
) -> Result<Selection> {
    let mut selection = Selection::default();
    while !r.is_empty() {
        let at = *r;
        let (typ, body) = property(r)?;
        let mut b = body;
        let known = typ == EXPERIMENTER
            && b.len() >= 8
            && NTR_VENDOR.contains(&b.u32()?)
            && b.u32()? == NTR_SELECTION_METHOD;
        if !known {
            return Err(unknown_property(at, typ, body));
        }
        let chooses =
            matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify);
        if type_ != GroupType::Select || !chooses {
            return Err(at.error(OfError::OFPBPC_BAD_VALUE));
        }
        if b.len() < 4 + METHOD_LEN + 8 {
            return Err(at.error(OfError::OFPBPC_BAD_LEN));
        }
        b.skip(4)?;
        let name = b;
        selection.method = b.text(METHOD_LEN)?;
        if !matches!(&*selection.method, "hash" | "dp_hash") {
            return Err(name.error(OfError::OFPBPC_BAD_VALUE));
        }
        selection.param = b.u64()?;
        if !b.is_empty() && selection.method != "hash" {
            return Err(b.error(OfError::OFPBPC_BAD_VALUE));
        }
        selection.fields.clear();
        while !b.is_empty() {
            let here = b;
            let h = oxm::read_header(&mut b)?;
            if h.has_mask {
                return Err(here.error(OfError::OFPBMC_BAD_MASK));
            }
            let mask = b.uint(usize::from(h.field.n_bytes))? & h.field.all_ones();
            if selection.fields.iter().any(|f| f.0 == h.field.id) {
                return Err(here.error(OfError::OFPBMC_DUP_FIELD));
            }
            let exact = h.field.mask == MaskRule::Exact;
            if exact && mask != 0 && mask != h.field.all_ones() {
                return Err(here.error(OfError::OFPBMC_BAD_MASK));
            }
            selection.fields.push((h.field.id, mask));
        }
        selection.fields.sort_unstable();
    }
    Ok(selection)
}

fn write_selection(out: &mut Vec<u8>, s: &Selection, v: Version) -> Encoded {
    if s.method.is_empty() {
        return Ok(());
    }
    let start = out.len();
    out.put16(EXPERIMENTER);
    out.put16(0);
    out.put32(NTR_VENDOR[0]);
    out.put32(NTR_SELECTION_METHOD);
    out.zeros(4);
    out.text(&s.method, METHOD_LEN);
    out.put64(s.param);
    let form = (v != Version::Of10).then_some(v);
    for (id, mask) in &s.fields {
        oxm::put_field_header(out, *id, form)?;
        out.put_uint(*mask, usize::from(id.row().n_bytes));
    }
    set_len(out, start, start + 2)?;
    out.pad8(start);
    Ok(())
}

/// Writes a group mod. 1.1 to 1.4 cannot say what is about single buckets.
pub fn write_mod(out: &mut Vec<u8>, m: &GroupMod, v: Version) -> Encoded {
    if !is_15(v) {
        if m.command.is_about_buckets() {
            return Err(EncodeError::Message("a change of single buckets"));
        }
        out.put16(m.command as u16);
        out.put8(m.type_ as u8);
        out.put8(0);
        out.put32(m.group);
        return m.buckets.iter().try_for_each(|b| write_bucket11(out, b, v));
    }
    let start = out.len();
    out.put16(m.command as u16);
    out.put8(m.type_ as u8);
    out.put8(0);
    out.put32(m.group);
    out.zeros(4);
    out.put32(m.command_bucket);
    let at = out.len();
    write_buckets15(out, &m.buckets, m.type_, v)?;
    set_len(out, at, start + 8)?;
    write_selection(out, &m.selection, v)
}

/// Reads a number of a group and what pads it.
pub fn read_request(r: &mut Reader<'_>) -> Result<u32> {
    let group = r.u32()?;
    r.skip(4)?;
    Ok(group)
}

/// Reads descriptions of groups.
pub fn read_descs(r: &mut Reader<'_>, v: Version) -> Result<Vec<GroupDesc>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let bad = here.error(OfError::OFPBRC_BAD_LEN);
        let len = usize::from(r.u16()?);
        let header = if is_15(v) { 16 } else { 8 };
        if len < header || len > here.len() {
            return Err(bad);
        }
        let mut e = r.sub(len - 2)?;
        let type_ = GroupType::read(&mut e)?;
        e.skip(1)?;
        let mut d = GroupDesc { group: e.u32()?, type_, ..GroupDesc::default() };
        if is_15(v) {
            let buckets_len = usize::from(e.u16()?);
            e.skip(6)?;
            let mut buckets = e.sub(buckets_len)?;
            d.buckets = read_buckets15(&mut buckets, v, type_)?;
            d.selection = read_selection(&mut e, type_, GroupCommand::Add)?;
        } else {
            d.buckets = read_buckets11(&mut e, v)?;
        }
        list.push(d);
    }
    Ok(list)
}

/// Writes the description of a group.
pub fn write_desc(out: &mut Vec<u8>, d: &GroupDesc, v: Version) -> Encoded {
    let start = out.len();
    out.put16(0);
    out.put8(d.type_ as u8);
    out.put8(0);
    out.put32(d.group);
    if is_15(v) {
        out.zeros(8);
        let at = out.len();
        write_buckets15(out, &d.buckets, d.type_, v)?;
        set_len(out, at, start + 8)?;
        write_selection(out, &d.selection, v)?;
    } else {
        d.buckets.iter().try_for_each(|b| write_bucket11(out, b, v))?;
    }
    set_len(out, start, start)
}

/// Whether a version tells the age of groups.
fn has_duration(v: Version) -> bool {
    !matches!(v, Version::Of11 | Version::Of12)
}

/// Reads counters of groups.
pub fn read_stats(r: &mut Reader<'_>, v: Version) -> Result<Vec<GroupStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let header = if has_duration(v) { 40 } else { 32 };
        let len = usize::from(r.u16()?);
        if len < header || len > here.len() || !(len - header).is_multiple_of(16) {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let mut e = r.sub(len - 2)?;
        e.skip(2)?;
        let (group, ref_count) = (e.u32()?, e.u32()?);
        e.skip(4)?;
        let (n_packets, n_bytes) = (e.u64()?, e.u64()?);
        let duration = if has_duration(v) { duration(&mut e)? } else { None };
        let mut buckets = Vec::new();
        while !e.is_empty() {
            buckets.push((e.u64()?, e.u64()?));
        }
        list.push(GroupStats { group, ref_count, n_packets, n_bytes, duration, buckets });
    }
    Ok(list)
}

/// Writes the counters of a group.
pub fn write_stats(out: &mut Vec<u8>, g: &GroupStats, v: Version) -> Encoded {
    let start = out.len();
    out.put16(0);
    out.zeros(2);
    out.put32(g.group);
    out.put32(g.ref_count);
    out.zeros(4);
    out.put64(g.n_packets);
    out.put64(g.n_bytes);
    if has_duration(v) {
        put_duration(out, g.duration);
    }
    for (packets, bytes) in &g.buckets {
        out.put64(*packets);
        out.put64(*bytes);
    }
    set_len(out, start, start)
}

/// Reads what groups can be.
pub fn read_features(r: &mut Reader<'_>) -> Result<GroupFeatures> {
    let mut f = GroupFeatures { types: r.u32()?, capabilities: r.u32()?, ..Default::default() };
    for set in [&mut f.max_groups, &mut f.actions] {
        for x in set {
            *x = r.u32()?;
        }
    }
    Ok(f)
}

/// Writes what groups can be.
pub fn write_features(out: &mut Vec<u8>, f: &GroupFeatures) {
    out.put32(f.types);
    out.put32(f.capabilities);
    f.max_groups.iter().chain(&f.actions).for_each(|x| out.put32(*x));
}
