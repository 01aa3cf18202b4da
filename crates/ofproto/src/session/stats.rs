//! Statistics: flows, tables, ports.
//!
//! A reply longer than a message is sent in parts, all but the last with the "more" flag.

use alloc::sync::Arc;
use alloc::vec::Vec;

use base::{Duration, Instant, OfPort, TableId};
use openflow::action::{Action, OptionLens};
use openflow::message::parts::{self, Parts};
use openflow::message::{
    AggregateStats, Body, FlowStats, FlowStatsRequest, Message, PortStats, TableStats,
};
use openflow::version::Version;

use super::{Environment, Refusal, Session};
use crate::bridge::Bridge;
use crate::port::Port;
use crate::rule::Rule;
use crate::switch::Switch;
use crate::table::{Criteria, INTERNAL_TABLE, N_TABLES};

impl Session {
    pub(super) fn stats_request(
        &mut self,
        sw: &mut Switch,
        env: &dyn Environment,
        now: Instant,
        m: &Message,
        body: &Body,
    ) -> Result<(), Refusal> {
        let id = self.bridge;
        let Some(br) = sw.bridge(id) else { return Ok(()) };
        match body {
            Body::DescRequest => {
                self.reply(m, Body::DescReply(alloc::boxed::Box::new(br.spec.desc.clone())));
            }
            Body::FlowStatsRequest(r) => {
                let c = criteria(br, r)?;
                env.pull_flow_stats();
                // They are written piece by piece as the peer reads, without the tables.
                let rules: Vec<Arc<Rule>> = br.tables.select(&c).cloned().collect();
                let options = br.tables.option_lens();
                self.dump = Dump::new(self.codec(), m, rules, options, now);
            }
            Body::AggregateRequest(r) => {
                let c = criteria(br, r)?;
                env.pull_flow_stats();
                let mut sum = AggregateStats::default();
                for r in br.tables.select(&c) {
                    sum.n_packets = sum.n_packets.saturating_add(r.stats.n_packets());
                    sum.n_bytes = sum.n_bytes.saturating_add(r.stats.n_bytes());
                    sum.n_flows += 1;
                }
                self.reply(m, Body::AggregateReply(sum));
            }
            Body::TableStatsRequest => {
                env.pull_flow_stats();
                let features = super::features::all(br, m.version);
                let rows = br.tables.visible().zip(features).map(|((_, t), features)| TableStats {
                    features,
                    active: u32::try_from(t.len()).unwrap_or(u32::MAX),
                    lookup: t.stats.n_lookup(),
                    matched: t.stats.n_matched(),
                });
                self.reply_parts(m, rows, Body::TableStatsReply);
            }
            Body::TableFeaturesRequest(list) => {
                // A request may come in parts.
                self.table_features.extend(list.iter().cloned());
                if m.more && self.table_features.len() < 2 * N_TABLES {
                    return Ok(());
                }
                let list = core::mem::take(&mut self.table_features);
                let Some(br) = sw.bridge_mut(id) else { return Ok(()) };
                super::features::change(br, m.version, &list)?;
                let rows = super::features::all(br, m.version);
                self.reply_parts(m, rows.into_iter(), Body::TableFeaturesReply);
            }
            // Nothing exports yet.
            Body::IpfixBridgeRequest | Body::IpfixFlowRequest => {
                return Err(Refusal::StatsNotConfigured);
            }
            Body::TableDescRequest => {
                let rows = br.tables.visible().map(|(table, t)| t.config.desc(table, t.len()));
                self.reply_parts(m, rows, Body::TableDescReply);
            }
            Body::GroupStatsRequest(group) => self.group_stats(sw, env, now, m, *group),
            Body::GroupDescRequest(group) => self.group_descs(sw, m, *group),
            Body::GroupFeaturesRequest => self.group_features(m),
            Body::MeterStatsRequest(meter) | Body::MeterConfigRequest(meter) => {
                self.meter_request(sw, env, now, m, *meter)?;
            }
            Body::MeterFeaturesRequest => {
                self.reply(m, Body::MeterFeaturesReply(br.tables.meters.features()));
            }
            Body::PortStatsRequest(port) => {
                env.pull_flow_stats(); // which count for patch ports
                // A port that does not exist has no counters: an empty answer, as Open vSwitch's.
                let rows =
                    br.ports.values().filter(|p| *port == OfPort::NONE || *port == p.ofport).map(
                        |p| PortStats {
                            port: p.ofport,
                            duration: Some(whole_millis(now.since(p.created))),
                            ..env.port_stats(id, p)
                        },
                    );
                self.reply_parts(m, rows, Body::PortStatsReply);
            }
            Body::PortDescRequest(port) => {
                let all = *port == OfPort::NONE || m.version < Version::Of15;
                if !all && br.port(*port).is_none() {
                    return Err(Refusal::BadPort);
                }
                let rows = br.ports.values().filter(|p| all || *port == p.ofport).map(|p| p.desc());
                self.reply_parts(m, rows, Body::PortDescReply);
            }
            Body::QueueStatsRequest(port, queue) => {
                let rows = queue_rows(br, *port, *queue, |p| env.queue_stats(id, p), |q| q.queue)?;
                self.reply_parts(m, rows.into_iter(), Body::QueueStatsReply);
            }
            Body::QueueConfigRequest(port, queue) => {
                let rows = queue_rows(br, *port, *queue, |p| env.queues(id, p), |q| q.queue)?;
                let port = *port;
                self.reply_parts(m, rows.into_iter(), move |list| {
                    Body::QueueConfigReply(port, list)
                });
            }
            _ => return Err(Refusal::BadType),
        }
        Ok(())
    }

    /// Sends items in as many messages as needed, at least one.
    pub(super) fn reply_parts<T>(
        &mut self,
        m: &Message,
        items: impl Iterator<Item = T>,
        make: impl Fn(Vec<T>) -> Body,
    ) {
        let session = self.codec();
        parts::append(&mut self.output, session, m, items, make);
    }
}

/// A dump of flows that is being written.
#[derive(Debug)]
pub(super) struct Dump {
    to: Message,
    parts: Parts,
    rules: alloc::vec::IntoIter<Arc<Rule>>,
    options: OptionLens,
    now: Instant,
}

impl Dump {
    fn new(
        session: openflow::message::Session,
        to: &Message,
        rules: Vec<Arc<Rule>>,
        options: OptionLens,
        now: Instant,
    ) -> Option<Dump> {
        let parts = Parts::new(session, to, Body::FlowStatsReply(Vec::new()))?;
        let to = Message { body: Body::BarrierReply, ..to.clone() };
        Some(Dump { to, parts, rules: rules.into_iter(), options, now })
    }

    /// Flows that were left out.
    pub fn n_omitted(&self) -> u64 {
        self.parts.n_omitted()
    }

    /// Appends the next message; gives whether there are more.
    pub fn append(&mut self, out: &mut Vec<u8>) -> bool {
        let (to, now) = (&self.to, self.now);
        self.parts.append(out, &mut self.rules, |out, rule| {
            parts::append_flow(out, to, &flow_stats(&rule, now), &self.options)
        })
    }
}

fn criteria(br: &Bridge, r: &FlowStatsRequest) -> Result<Criteria, Refusal> {
    if r.table == INTERNAL_TABLE {
        return Err(Refusal::BadTable);
    }
    Ok(Criteria {
        match_: br.tables.placed(&r.match_)?,
        strict: None,
        table: (r.table != TableId::ALL).then_some(r.table),
        cookie: (r.cookie, r.cookie_mask),
        out_port: r.out_port,
        out_group: r.out_group,
    })
}

/// Ages are told in milliseconds, as OVS keeps them.
pub(crate) fn whole_millis(d: Duration) -> Duration {
    Duration::new(d.as_secs(), d.subsec_millis() * 1_000_000)
}

fn flow_stats(r: &Rule, now: Instant) -> FlowStats<&[Action]> {
    let secs = |t: Instant| u32::try_from(now.since(t).as_secs()).unwrap_or(u32::MAX);
    FlowStats {
        match_: r.match_.expand(),
        cookie: r.cookie.0,
        table: r.table,
        priority: r.told_priority(),
        duration: whole_millis(now.since(r.created)),
        idle_timeout: r.timeouts().0,
        hard_timeout: r.timeouts().1,
        idle_age: Some(secs(r.stats.used())),
        hard_age: Some(secs(r.modified())),
        n_packets: r.stats.n_packets(),
        n_bytes: r.stats.n_bytes(),
        importance: r.importance,
        flags: r.flags,
        actions: &r.actions,
    }
}

/// What `of_port` says of the queues that a request is about; `number` is that of a row.
fn queue_rows<T>(
    br: &Bridge,
    port: OfPort,
    queue: u32,
    of_port: impl Fn(&Port) -> Vec<T>,
    number: impl Fn(&T) -> u32,
) -> Result<Vec<T>, Refusal> {
    let all = matches!(port, OfPort::NONE | OfPort::ALL);
    if !all && br.port(port).is_none() {
        return Err(Refusal::QueueBadPort);
    }
    let ports = br.ports.values().filter(|p| all || port == p.ofport);
    let wanted = |q: &T| queue == u32::MAX || queue == number(q);
    let rows: Vec<T> = ports.flat_map(of_port).filter(wanted).collect();
    if rows.is_empty() && queue != u32::MAX {
        return Err(Refusal::QueueBadQueue);
    }
    Ok(rows)
}
