//! Groups of a bridge.
//!
//! A group is immutable; a modification makes another. Its counters are atomics in an `Arc` of their own,
//! so that a cached translation can credit them without the lock on the tables.
//!
//! Select groups choose a bucket by a hash: of the datapath's (`dp_hash`) over a table of slots that
//! buckets share by weight; of fields that the controller names; or, where neither will do, of the
//! addresses and ports. Source: OpenFlow 1.5.1 §5.10, §6.5, §7.3.4.3; `ovs-ofctl(8)`, "Group Syntax".

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::Instant;
use dpif::{FlowStats, HashAlg};
use openflow::flow_mod::GROUP_ALL;
use openflow::message::{
    Bucket, GROUP_MAX, GroupCommand, GroupDesc, GroupMod, GroupType, Selection, bucket_id,
};
use openflow::text::group::fields_text;
use openflow::version::Version;

/// Why a group mod was refused. Nothing of it was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupModError {
    /// `OFPGMFC_GROUP_EXISTS`
    #[error("the group is there already")]
    Exists,
    /// `OFPGMFC_INVALID_GROUP`
    #[error("no group can have this number")]
    Invalid,
    /// `OFPGMFC_UNKNOWN_GROUP`
    #[error("no such group")]
    Unknown,
    /// `OFPGMFC_UNKNOWN_BUCKET`
    #[error("the group has no such bucket")]
    UnknownBucket,
    /// `OFPGMFC_BUCKET_EXISTS`
    #[error("the group has a bucket with this id already")]
    BucketExists,
}

/// Packets and bytes.
#[derive(Debug, Default)]
struct Counter {
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
}

impl Counter {
    fn credit(&self, d: &FlowStats) {
        self.n_packets.fetch_add(d.n_packets, Relaxed);
        self.n_bytes.fetch_add(d.n_bytes, Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.n_packets.load(Relaxed), self.n_bytes.load(Relaxed))
    }
}

/// What was counted for a group.
#[derive(Debug, Default)]
pub struct GroupCounters {
    all: Counter,
    buckets: Vec<Counter>,
}

impl GroupCounters {
    /// Counts packets that went through a bucket, by its place, or through every bucket.
    pub fn credit(&self, d: &FlowStats, bucket: Option<usize>) {
        self.all.credit(d);
        match bucket {
            Some(i) => self.buckets.get(i).into_iter().for_each(|b| b.credit(d)),
            None => self.buckets.iter().for_each(|b| b.credit(d)),
        }
    }

    /// Packets and bytes of the group.
    pub fn all(&self) -> (u64, u64) {
        self.all.read()
    }

    /// Packets and bytes of its buckets.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().map(Counter::read)
    }
}

/// How a select group chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// By a hash of addresses and ports that is the same for both directions.
    Symmetric,
    /// By a hash of the fields of [`Selection::fields`].
    Fields,
    /// By the datapath's hash: its low bits name a slot, and the slot a bucket by its place. There
    /// are 2^n slots.
    DpHash { alg: HashAlg, basis: u32, slots: Vec<u16> },
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// What it is.
    pub desc: GroupDesc,
    /// The version its actions were said in, which traces repeat.
    pub version: Version,
    /// When it was added.
    pub created: Instant,
    pub(crate) choice: Choice,
    /// What was counted for it since it was added or modified.
    pub counters: Arc<GroupCounters>,
}

/// Most slots of [`Choice::DpHash`].
const MAX_SLOTS: u64 = 256;
/// Fewest.
const MIN_SLOTS: u64 = 16;

/// Least weight that is not 0, and all weights together; `None` if there is none.
fn weights(buckets: &[Bucket]) -> Option<(u64, u64)> {
    let weights = || buckets.iter().map(|b| u64::from(b.weight));
    Some((weights().filter(|w| *w > 0).min()?, weights().sum()))
}

/// Slots that buckets want, so that each with a weight gets one.
fn wanted_slots(buckets: &[Bucket]) -> Option<u64> {
    let (least, total) = weights(buckets)?;
    let comfortable = (buckets.len() as u64 * 4).min(MAX_SLOTS);
    Some(total.div_ceil(least).max(comfortable).max(MIN_SLOTS).next_power_of_two())
}

/// Shares slots among buckets by weight (Webster's method). `None` if they want too many or none.
fn share(buckets: &[Bucket]) -> Option<Vec<u16>> {
    let n = wanted_slots(buckets).filter(|n| *n <= MAX_SLOTS)?;
    let mut divisors: Vec<u64> = buckets.iter().map(|_| 1).collect();
    let mut slots = Vec::new();
    for _ in 0..n {
        // The first of those with the highest quotient.
        let mut winner = 0;
        for (i, b) in buckets.iter().enumerate() {
            let (weight, best) = (u64::from(b.weight), u64::from(buckets[winner].weight));
            if weight * divisors[winner] > best * divisors[i] {
                winner = i;
            }
        }
        divisors[winner] += 2;
        slots.push(winner as u16);
    }
    Some(slots)
}

fn choice(selection: &Selection, buckets: &[Bucket]) -> Choice {
    let slots = |alg, basis| match share(buckets) {
        Some(slots) => Choice::DpHash { alg, basis, slots },
        None => Choice::Symmetric,
    };
    match &*selection.method {
        "hash" if selection.fields.is_empty() => Choice::Symmetric,
        "hash" => Choice::Fields,
        // The parameter's high half names the algorithm, its low half the basis.
        "dp_hash" if selection.param >> 32 == 1 => slots(HashAlg::SymL4, selection.param as u32),
        "dp_hash" => slots(HashAlg::L4, selection.param as u32),
        _ => slots(HashAlg::SymL4, 0),
    }
}

/// What OVS's debug log tells of how a select group came to choose as it does. `verb` says why it is
/// told.
fn explain(verb: &str, id: u32, selection: &Selection, buckets: &[Bucket]) -> Vec<String> {
    let mut lines = alloc::vec![format!("{verb} select group {id}")];
    let choice = choice(selection, buckets);
    match &*selection.method {
        "" => lines.push("No selection method specified. Trying dp_hash.".into()),
        method => lines.push(format!("Selection method specified: {method}.")),
    }
    if selection.method == "hash" {
        lines.push(match choice {
            Choice::Fields => format!("Hash fields: {}", fields_text(selection).join(",")),
            _ => "No hash fields. Falling back to default hash method.".into(),
        });
        return lines;
    }
    match (weights(buckets), wanted_slots(buckets)) {
        _ if buckets.is_empty() => {
            lines.push("  Don't apply dp_hash method without buckets.".into());
        }
        (Some((least, total)), Some(n)) => {
            lines.push(format!("  Minimum weight: {least}, total weight: {total}"));
            let Choice::DpHash { slots, .. } = &choice else {
                lines.push(format!("  Too many hash values required: {n}"));
                lines.push("Falling back to default hash method.".into());
                return lines;
            };
            lines.push(format!("  Using {n} hash values:"));
            for (i, b) in buckets.iter().enumerate() {
                let target = (n * u64::from(b.weight)) as f64 / total as f64;
                let hits = slots.iter().filter(|s| usize::from(**s) == i).count();
                let (id, weight) = (b.id, b.weight);
                let text =
                    format!("  Bucket {id}: weight={weight}, target={target:.2} hits={hits}");
                lines.push(text);
            }
        }
        _ => lines.push("  Total weight is zero. No active buckets.".into()),
    }
    lines.push(match &choice {
        Choice::DpHash { alg, slots, .. } => {
            let alg = u8::from(*alg == HashAlg::SymL4);
            format!("Use dp_hash with {} hash values using algorithm {alg}.", slots.len())
        }
        _ => "Falling back to default hash method.".into(),
    });
    lines
}

/// The same of a group mod and what it changed: a group that is modified is made first as the mod
/// describes it.
pub(crate) fn explain_mod(m: &GroupMod, changes: &[GroupChange]) -> Vec<String> {
    let [GroupChange { id, old, new: Some(new) }] = changes else { return Vec::new() };
    if new.desc.type_ != GroupType::Select {
        return Vec::new();
    }
    let mut lines = explain("Constructing", *id, &new.desc.selection, &m.buckets);
    if old.is_some() {
        lines.extend(explain("Modifying", *id, &new.desc.selection, &new.desc.buckets));
    }
    lines
}

impl Group {
    fn new(desc: GroupDesc, version: Version, created: Instant) -> Group {
        let buckets = desc.buckets.iter().map(|_| Counter::default()).collect();
        Group {
            choice: choice(&desc.selection, &desc.buckets),
            desc,
            version,
            created,
            counters: Arc::new(GroupCounters { all: Counter::default(), buckets }),
        }
    }
}

/// The groups of a bridge.
#[derive(Debug, Default)]
pub struct Groups(BTreeMap<u32, Arc<Group>>);

/// What a group mod does to one group.
#[derive(Clone, Debug)]
pub struct GroupChange {
    /// Its number.
    pub id: u32,
    /// What was.
    pub old: Option<Arc<Group>>,
    /// What is.
    pub new: Option<Arc<Group>>,
}

impl Groups {
    /// A group.
    pub fn get(&self, id: u32) -> Option<&Arc<Group>> {
        self.0.get(&id)
    }

    /// One group, or all for [`GROUP_ALL`], by number.
    pub fn select(&self, id: u32) -> impl Iterator<Item = &Arc<Group>> {
        let range = if id == GROUP_ALL { 0..=u32::MAX } else { id..=id };
        self.0.range(range).map(|g| g.1)
    }

    /// What a group mod that was said in `version` would change; nothing is changed yet.
    ///
    /// # Errors
    /// It cannot be done.
    pub(crate) fn plan(
        &self,
        m: &GroupMod,
        version: Version,
        now: Instant,
    ) -> Result<Vec<GroupChange>, GroupModError> {
        let old = self.get(m.group);
        let one = |new| {
            alloc::vec![GroupChange { id: m.group, old: old.cloned(), new: Some(Arc::new(new)) }]
        };
        let desc = || GroupDesc {
            group: m.group,
            type_: m.type_,
            selection: m.selection.clone(),
            buckets: m.buckets.clone(),
        };
        match (m.command, old) {
            (GroupCommand::Delete, _) => Ok(self
                .select(m.group)
                .map(|g| GroupChange { id: g.desc.group, old: Some(g.clone()), new: None })
                .collect()),
            (GroupCommand::Add, Some(_)) => Err(GroupModError::Exists),
            (GroupCommand::Add | GroupCommand::AddOrModify, None) => match m.group <= GROUP_MAX {
                true => Ok(one(Group::new(desc(), version, now))),
                false => Err(GroupModError::Invalid),
            },
            (_, None) => Err(GroupModError::Unknown),
            (GroupCommand::Modify | GroupCommand::AddOrModify, Some(g)) => {
                Ok(one(Group::new(desc(), version, g.created)))
            }
            (GroupCommand::InsertBucket, Some(g)) => {
                let buckets = inserted(&g.desc.buckets, &m.buckets, m.command_bucket)?;
                Ok(one(Group::new(GroupDesc { buckets, ..g.desc.clone() }, version, g.created)))
            }
            (GroupCommand::RemoveBucket, Some(g)) => {
                let buckets = removed(&g.desc.buckets, m.command_bucket)?;
                Ok(one(Group::new(GroupDesc { buckets, ..g.desc.clone() }, version, g.created)))
            }
        }
    }

    /// Puts a group into its place, or what was there back.
    pub(crate) fn put(&mut self, id: u32, group: Option<Arc<Group>>) {
        match group {
            Some(g) => self.0.insert(id, g),
            None => self.0.remove(&id),
        };
    }
}

/// Buckets with new ones after the one with the id `at`, or first or last.
fn inserted(old: &[Bucket], new: &[Bucket], at: u32) -> Result<Vec<Bucket>, GroupModError> {
    let place = match at {
        bucket_id::FIRST => 0,
        bucket_id::LAST => old.len(),
        id => 1 + old.iter().position(|b| b.id == id).ok_or(GroupModError::UnknownBucket)?,
    };
    if new.iter().any(|n| old.iter().any(|o| o.id == n.id)) {
        return Err(GroupModError::BucketExists);
    }
    let (before, after) = old.split_at(place);
    Ok([before, new, after].concat())
}

/// Buckets without the one with the id `at`, the first, the last, or without any.
fn removed(old: &[Bucket], at: u32) -> Result<Vec<Bucket>, GroupModError> {
    let place = match at {
        bucket_id::ALL => return Ok(Vec::new()),
        bucket_id::FIRST => 0,
        bucket_id::LAST => old.len().saturating_sub(1),
        id => old.iter().position(|b| b.id == id).ok_or(GroupModError::UnknownBucket)?,
    };
    let others = old.iter().enumerate().filter(|(i, _)| *i != place);
    Ok(others.map(|(_, b)| b.clone()).collect())
}

/// The same group mod for those who speak another version: 1.1 to 1.4 have no commands for single
/// buckets, and no version knows OVS's own command. `buckets` are what the group has now.
pub(crate) fn as_told(
    m: &GroupMod,
    buckets: &[Bucket],
    existed: bool,
    version: Version,
) -> GroupMod {
    let mut m = m.clone();
    let single = version == Version::Of10 || version >= Version::Of15;
    if m.command.is_about_buckets() && !single {
        (m.command, m.command_bucket) = (GroupCommand::Modify, bucket_id::ALL);
        m.buckets = buckets.into();
    } else if m.command == GroupCommand::AddOrModify {
        m.command = if existed { GroupCommand::Modify } else { GroupCommand::Add };
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::OfPort;

    fn buckets(weights: &[u16]) -> Vec<Bucket> {
        let bucket = |(i, &weight)| Bucket {
            id: i as u32,
            weight,
            watch_port: OfPort::NONE,
            watch_group: openflow::flow_mod::GROUP_ANY,
            actions: Vec::new(),
        };
        weights.iter().enumerate().map(bucket).collect()
    }

    fn counts(weights: &[u16]) -> Option<Vec<usize>> {
        let slots = share(&buckets(weights))?;
        let count = |i: usize| slots.iter().filter(|s| usize::from(**s) == i).count();
        Some((0..weights.len()).map(count).collect())
    }

    /// The figures are what OVS's own log tells of its groups.
    #[test]
    fn slots_are_shared_by_weight() {
        assert_eq!(counts(&[1, 1]), Some([8, 8].into()));
        assert_eq!(counts(&[5, 7, 3, 1]), Some([5, 7, 3, 1].into()));
        assert_eq!(counts(&[100, 200, 50, 50]), Some([4, 8, 2, 2].into()));
        assert_eq!(counts(&[1, 0, 1]), Some([8, 0, 8].into()));
        assert_eq!(counts(&[1, 255]), Some([1, 255].into()));
        assert_eq!(counts(&[1, 256]), None);
        assert_eq!(counts(&[0, 0]), None);
        assert_eq!(counts(&[]), None);
        assert_eq!(counts(&[1; 5]).map(|c| c.iter().sum()), Some(32));
        assert_eq!(counts(&[1; 65]).map(|c| c.iter().sum()), Some(256));
        assert_eq!(counts(&[1; 257]), None);
    }

    #[test]
    fn buckets_go_where_they_are_told() {
        let old = buckets(&[0, 0]);
        let mut new = buckets(&[0, 0]);
        (new[0].id, new[1].id) = (7, 8);
        let ids = |r: Result<Vec<Bucket>, _>| r.map(|b| b.iter().map(|b| b.id).collect::<Vec<_>>());
        assert_eq!(ids(inserted(&old, &new, bucket_id::FIRST)), Ok([7, 8, 0, 1].into()));
        assert_eq!(ids(inserted(&old, &new, bucket_id::LAST)), Ok([0, 1, 7, 8].into()));
        assert_eq!(ids(inserted(&old, &new, 0)), Ok([0, 7, 8, 1].into()));
        assert_eq!(ids(inserted(&old, &new, 9)), Err(GroupModError::UnknownBucket));
        assert_eq!(ids(inserted(&old, &old, 0)), Err(GroupModError::BucketExists));
        assert_eq!(ids(removed(&old, bucket_id::FIRST)), Ok([1].into()));
        assert_eq!(ids(removed(&old, bucket_id::LAST)), Ok([0].into()));
        assert_eq!(ids(removed(&old, bucket_id::ALL)), Ok([].into()));
        assert_eq!(ids(removed(&old, 1)), Ok([0].into()));
        assert_eq!(ids(removed(&old, 2)), Err(GroupModError::UnknownBucket));
        assert_eq!(ids(removed(&[], bucket_id::LAST)), Ok([].into()));
    }
}
