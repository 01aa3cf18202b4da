//! `learn`: flows that packets add, and `fin_timeout`, which ends them.
//!
//! A translation changes no table. What a packet learns is an [`Effect`], done when the translation is:
//! as in OVS, the packet's own lookups do not find it. [`Ctx::learned`] has it for what is learned
//! behind it.
//! What is learned already is no news; packets that hit a cached translation learn it again by
//! their credit.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use base::{OfPort, TableId};
use flow::Match;
use flow::text::{MatchText, NoNames};
use openflow::action::{Action, LearnAction, LearnDst, LearnSrc};
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
use openflow::text::ActionsText;
use openflow::version::Version;

use super::{Ctx, Effect};
use crate::bridge::BridgeId;
use crate::rule::RuleStats;
use crate::trace::NodeKind;

/// A flow that a packet learned.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The bridge that learns it.
    pub(crate) bridge: BridgeId,
    /// A strict modification, which adds.
    pub(crate) flow: FlowMod,
    pub(crate) version: Version,
    /// Most flows with its cookie in its table; 0 for any number.
    pub(crate) limit: u32,
    /// What was counted for it before it was in its table.
    pub(crate) stats: Arc<RuleStats>,
}

/// A learned flow that is not in its table yet.
pub(super) struct NewFlow {
    bridge: BridgeId,
    table: TableId,
    match_: Match,
    priority: u16,
    cookie: u64,
}

impl Ctx<'_> {
    pub(super) fn learn(&mut self, l: &LearnAction) {
        for s in &l.specs {
            if let LearnSrc::Field(sf) = s.src {
                self.look_at(sf);
            }
        }
        if self.is_trace() {
            return self.report(NodeKind::Warn, || {
                "suppressing side effects, so learn action ignored".into()
            });
        }
        let flow = self.learned_flow(l);
        let version = self.version;
        self.report(NodeKind::Detail, || flow_text(&flow, version));
        let stats = Arc::new(RuleStats::new(self.now));
        let learned = Learned { bridge: self.br.id, flow, version, limit: l.limit, stats };
        let success = self.learn_flow(learned);
        if let Some(dst) = l.result_dst {
            self.load(dst, success.into());
            self.report_subfield(dst);
        }
        if !success {
            self.report(NodeKind::Detail, || "Limit exceeded, learn failed".into());
        }
    }

    /// `false` if there are as many such flows as may be.
    fn learn_flow(&mut self, l: Learned) -> bool {
        let (m, table) = (&l.flow.match_, l.flow.table.unwrap_or(TableId(0)));
        if let Some(rule) = self.br.tables.learned(&l) {
            self.credits.learned.push(rule.stats.clone());
            self.effects.push(Effect::Learn(Box::new(l)));
            return true;
        }
        let new = NewFlow {
            bridge: l.bridge,
            table,
            match_: *m,
            priority: l.flow.priority,
            cookie: l.flow.new_cookie.unwrap_or(0),
        };
        let others = self.learned.iter().filter(|o| {
            (o.bridge, o.table, o.cookie) == (new.bridge, table, new.cookie)
                && (o.match_ != new.match_ || o.priority != new.priority)
        });
        if !self.br.tables.may_learn(&l, others.count()) {
            return false;
        }
        self.learned.push(new);
        self.effects.push(Effect::Learn(Box::new(l)));
        true
    }

    /// What a `learn` action makes of the packet.
    fn learned_flow(&self, l: &LearnAction) -> FlowMod {
        let mut match_ = Match::ANY;
        let mut actions = Vec::new();
        if l.fin_idle_timeout > 0 || l.fin_hard_timeout > 0 {
            let (idle, hard) = (l.fin_idle_timeout, l.fin_hard_timeout);
            actions.push(Action::FinTimeout { idle, hard });
        }
        for s in &l.specs {
            let value = match s.src {
                LearnSrc::Field(sf) => sf.get(&self.flow),
                LearnSrc::Value(v) => v,
            };
            match s.dst {
                LearnDst::Match(dst) => {
                    dst.set(&mut match_.key, value);
                    dst.set(&mut match_.mask, u128::MAX);
                }
                LearnDst::Load(dst) => actions.push(Action::Load { dst, value: value & dst.max() }),
                LearnDst::Output => {
                    if let Ok(port) = u16::try_from(value).map(OfPort)
                        && (port < OfPort::MAX || is_output(port))
                    {
                        actions.push(Action::Output { port, max_len: 0 });
                    }
                }
            }
        }
        match_.tie_to_ethernet();
        FlowMod {
            command: FlowModCommand::ModifyStrict,
            match_,
            priority: l.priority,
            new_cookie: Some(l.cookie),
            modify_cookie: l.cookie != u64::MAX,
            table: Some(l.table),
            idle_timeout: l.idle_timeout,
            hard_timeout: l.hard_timeout,
            flags: match l.send_flow_rem {
                true => FlowModFlags::SEND_FLOW_REM,
                false => FlowModFlags::empty(),
            },
            actions,
            ..FlowMod::default()
        }
    }

    /// `fin_timeout`: packets with FIN or RST shorten the life of the rule that says so.
    pub(super) fn fin_timeout(&mut self, idle: u16, hard: u16) {
        self.wc.pkt.nw_proto = 0xff;
        if let Some(rule) = &self.rule {
            self.credits.fin_timeouts.push((rule.stats.clone(), idle, hard));
        }
    }
}

/// Whether a reserved port may be where a learned flow outputs to.
fn is_output(port: OfPort) -> bool {
    matches!(port, OfPort::IN_PORT | OfPort::FLOOD | OfPort::LOCAL | OfPort::ALL)
}

/// The line of a trace.
fn flow_text(fm: &FlowMod, version: Version) -> String {
    let mut s = format!("table={} ", fm.table.unwrap_or(TableId(0)).0);
    let m = MatchText { m: &fm.match_, priority: None, names: &NoNames };
    let _ = write!(s, "{m} priority={}", fm.priority);
    if let Some(c) = fm.new_cookie.filter(|c| *c != 0) {
        let _ = write!(s, " cookie={c:#x}");
    }
    if fm.idle_timeout > 0 {
        let _ = write!(s, " idle={}", fm.idle_timeout);
    }
    if fm.hard_timeout > 0 {
        let _ = write!(s, " hard={}", fm.hard_timeout);
    }
    if fm.flags.contains(FlowModFlags::SEND_FLOW_REM) {
        s.push_str(" send_flow_rem");
    }
    let actions = ActionsText { actions: &fm.actions, names: &NoNames, version };
    let _ = write!(s, " actions={actions}");
    s
}
