//! Groups and meters: changes and questions.

use alloc::boxed::Box;
use alloc::vec::Vec;

use base::Instant;
use openflow::action::table::bitmap;
use openflow::message::{
    AsyncClass, Body, Bucket, GROUP_MAX, GroupFeatures, GroupMod, GroupStats, Message, MeterMod,
    MeterStats, group_capability, meter_id,
};
use openflow::version::Version;

use super::stats::whole_millis;
use super::{Environment, Refusal, Session};
use crate::event::{Event, ForwardedMod, Requester};
use crate::group::{GroupChange, as_told, explain_mod};
use crate::switch::Switch;
use crate::uses::Used;

/// What is to be told of a group mod: in the log, and to other controllers.
pub(super) fn events_of(m: &GroupMod, changes: &[GroupChange], by: Requester) -> [Event; 2] {
    let buckets: Vec<Bucket> = match changes {
        [GroupChange { new: Some(g), .. }] => g.desc.buckets.clone(),
        _ => Vec::new(),
    };
    let existed = changes.iter().any(|c| c.old.is_some());
    let forwarded = ForwardedMod::Group { group: m.clone(), buckets, existed };
    [Event::Debug(explain_mod(m, changes)), Event::Requestforward(by, Box::new(forwarded))]
}

impl Session {
    pub(super) fn group_mod(
        &mut self,
        sw: &mut Switch,
        now: Instant,
        m: &Message,
        group: &GroupMod,
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        let changes = br.tables.apply_group(group, m.version, now)?;
        let by = Requester { session: self.id, xid: m.xid };
        br.events.extend(events_of(group, &changes, by));
        let changes = br.publish_changes(Some(by), now);
        self.tell_own(&changes, by);
        Ok(())
    }

    pub(super) fn meter_mod(
        &mut self,
        sw: &mut Switch,
        now: Instant,
        m: &Message,
        meter: &MeterMod,
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        br.tables.apply_meter(meter, now)?;
        // Also where no flow went: a translation may name a meter by its number.
        br.changed();
        let by = Requester { session: self.id, xid: m.xid };
        br.events.push(Event::Requestforward(by, Box::new(ForwardedMod::Meter(meter.clone()))));
        let changes = br.publish_changes(Some(by), now);
        self.tell_own(&changes, by);
        Ok(())
    }

    /// Tells of another controller's change of groups or meters.
    pub(super) fn forward(&mut self, version: Version, by: Requester, what: &ForwardedMod) {
        let meter_unknown = matches!(what, ForwardedMod::Meter(_)) && version < Version::Of13;
        if by.session == self.id
            || meter_unknown
            || !self.hears(AsyncClass::Requestforward, what.reason())
        {
            return;
        }
        let inner = match what {
            ForwardedMod::Group { group, buckets, existed } => {
                Body::GroupMod(Box::new(as_told(group, buckets, *existed, version)))
            }
            ForwardedMod::Meter(m) => Body::MeterMod(Box::new(m.clone())),
        };
        let inner = Box::new(Message::new(version, by.xid, inner));
        self.send(version, 0, false, Body::Requestforward(inner));
    }

    pub(super) fn group_stats(
        &mut self,
        sw: &Switch,
        env: &dyn Environment,
        now: Instant,
        m: &Message,
        group: u32,
    ) {
        let Some(br) = sw.bridge(self.bridge) else { return };
        env.pull_flow_stats();
        let rows = br.tables.groups.select(group).map(|g| {
            let (n_packets, n_bytes) = g.counters.all();
            GroupStats {
                group: g.desc.group,
                ref_count: br.tables.users.count(Used::Group(g.desc.group)),
                n_packets,
                n_bytes,
                duration: Some(whole_millis(now.since(g.created))),
                buckets: g.counters.buckets().collect(),
            }
        });
        self.reply_parts(m, rows, Body::GroupStatsReply);
    }

    pub(super) fn group_descs(&mut self, sw: &Switch, m: &Message, group: u32) {
        let Some(br) = sw.bridge(self.bridge) else { return };
        let rows = br.tables.groups.select(group).map(|g| g.desc.clone());
        self.reply_parts(m, rows, Body::GroupDescReply);
    }

    pub(super) fn group_features(&mut self, m: &Message) {
        let actions = bitmap(m.version).fold(0, |bits, a| bits | a.1);
        let features = GroupFeatures {
            types: 0xf,
            capabilities: group_capability::SELECT_WEIGHT
                | group_capability::SELECT_LIVENESS
                | group_capability::CHAINING,
            max_groups: [GROUP_MAX; 4],
            actions: [actions; 4],
        };
        self.reply(m, Body::GroupFeaturesReply(Box::new(features)));
    }

    pub(super) fn meter_request(
        &mut self,
        sw: &Switch,
        env: &dyn Environment,
        now: Instant,
        m: &Message,
        meter: u32,
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge(self.bridge) else { return Ok(()) };
        let meters = &br.tables.meters;
        if meter != meter_id::ALL && meters.get(meter).is_none() {
            return Err(Refusal::Meter(crate::meter::MeterModError::Unknown));
        }
        if matches!(m.body, Body::MeterConfigRequest(_)) {
            let rows = meters.select(meter).map(|x| x.config.clone());
            self.reply_parts(m, rows, Body::MeterConfigReply);
            return Ok(());
        }
        env.pull_flow_stats();
        let rows = meters.select(meter).map(|x| {
            let c = meters.counters(x);
            MeterStats {
                meter: x.config.meter,
                flow_count: br.tables.users.count(Used::Meter(x.config.meter)),
                n_packets: c.n_packets,
                n_bytes: c.n_bytes,
                duration: Some(whole_millis(now.since(x.created))),
                bands: c.bands,
            }
        });
        self.reply_parts(m, rows, Body::MeterStatsReply);
        Ok(())
    }
}
