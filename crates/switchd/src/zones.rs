//! Zones of the connection tracker: what the rows of Datapath, CT_Zone and CT_Timeout_Policy ask of
//! them, and doing it.
//!
//! Zones with the same timeouts share one policy of the tracker. A connection keeps the policy that
//! it was committed with; if the row goes, the policy becomes the default, and its number is not
//! given again before all others were.

use std::collections::{BTreeMap, BTreeSet};

use base::Zone;
use conntrack::{PolicyId, TimeoutPolicy};
use datapath::CtTable;
use ovsdb::data::{Data, RowRef};

use crate::config::refs;
use crate::world::World;

/// Seconds by key of a timeout policy.
type Timeouts = BTreeMap<String, u32>;

/// What is asked of zones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZonesConfig {
    /// Most connections of zones that `limits` does not name.
    pub default_limit: Option<u32>,
    /// Most connections by zone.
    pub limits: BTreeMap<Zone, u32>,
    /// Timeouts by zone.
    pub timeouts: BTreeMap<Zone, Timeouts>,
}

/// Reads what the datapaths ask. Ours is one, whatever its type is called.
pub fn read(db: &Data, root: RowRef<'_>) -> ZonesConfig {
    let mut zones = ZonesConfig::default();
    for dp in refs(db, root, "datapaths", "Datapath") {
        zones.default_limit = zones.default_limit.or(unsigned(dp, "ct_zone_default_limit"));
        let rows = db.table("CT_Zone");
        for (zone, row) in dp.get("ct_zones").map(|d| d.pairs()).unwrap_or_default() {
            let zone = zone.as_integer().and_then(|z| u16::try_from(z).ok()).map(Zone);
            let row = row.as_uuid().and_then(|uuid| rows?.row(uuid));
            let (Some(zone), Some(row)) = (zone, row) else { continue };
            zones.limits.extend(unsigned(row, "limit").map(|n| (zone, n)));
            let policy = refs(db, row, "timeout_policy", "CT_Timeout_Policy").next();
            let timeouts = policy.and_then(|p| p.get("timeouts")).map(|d| d.pairs());
            let timeouts: Timeouts = (timeouts.unwrap_or_default().iter())
                .filter_map(|(k, v)| {
                    Some((k.as_str()?.to_owned(), u32::try_from(v.as_integer()?).ok()?))
                })
                .collect();
            if !timeouts.is_empty() {
                zones.timeouts.insert(zone, timeouts);
            }
        }
    }
    zones
}

fn unsigned(row: RowRef<'_>, column: &str) -> Option<u32> {
    row.integer(column).and_then(|n| u32::try_from(n).ok())
}

/// What was done.
#[derive(Debug, Default)]
pub struct Zones {
    config: ZonesConfig,
    policies: BTreeMap<Timeouts, PolicyId>,
    last_policy: u16,
}

impl Zones {
    /// Whether limits come from the database, so that commands may not change them.
    pub fn limits_are_configured(&self) -> bool {
        self.config.default_limit.is_some() || !self.config.limits.is_empty()
    }

    /// Makes the tracker's zones what `wanted` asks for.
    pub fn apply(&mut self, wanted: &ZonesConfig, ct: &CtTable, world: &World) {
        if *wanted == self.config {
            return;
        }
        let old = std::mem::replace(&mut self.config, wanted.clone());
        if old.default_limit != wanted.default_limit {
            ct.change_limits(|l| l.set_default(wanted.default_limit));
        }
        if old.limits != wanted.limits {
            ct.change_limits(|l| {
                for zone in old.limits.keys().filter(|z| !wanted.limits.contains_key(z)) {
                    l.set(*zone, None);
                }
                for (zone, limit) in &wanted.limits {
                    l.set(*zone, Some(*limit));
                }
            });
        }
        if old.timeouts != wanted.timeouts {
            self.set_policies(ct);
            let of = |t: &Timeouts| self.policies.get(t).copied();
            let policies = wanted.timeouts.iter().filter_map(|(z, t)| Some((*z, of(t)?)));
            world.switch.write().set_zone_policies(policies.collect());
        }
    }

    /// Gives each set of timeouts a policy, and takes those back that no zone has.
    fn set_policies(&mut self, ct: &CtTable) {
        let wanted: BTreeSet<&Timeouts> = self.config.timeouts.values().collect();
        self.policies.retain(|timeouts, id| {
            let keep = wanted.contains(timeouts);
            if !keep {
                ct.set_policy(*id, TimeoutPolicy::DEFAULT);
            }
            keep
        });
        let mut taken: BTreeSet<PolicyId> = self.policies.values().copied().collect();
        for timeouts in wanted {
            if self.policies.contains_key(timeouts) {
                continue;
            }
            let Some(id) = next_free(&taken, &mut self.last_policy) else { return };
            taken.insert(id);
            let mut policy = TimeoutPolicy::DEFAULT;
            for (key, secs) in timeouts {
                // The schema knows the keys.
                policy.set_key(key, *secs);
            }
            ct.set_policy(id, policy);
            self.policies.insert(timeouts.clone(), id);
        }
    }
}

/// The next number after `last` that no policy has; 0 is the default policy's.
fn next_free(taken: &BTreeSet<PolicyId>, last: &mut u16) -> Option<PolicyId> {
    let follow = |n: u16| n % u16::MAX + 1;
    let id = std::iter::successors(Some(follow(*last)), |n| Some(follow(*n)))
        .take(usize::from(u16::MAX))
        .map(PolicyId)
        .find(|id| !taken.contains(id))?;
    *last = id.0;
    Some(id)
}
