//! `controller`: packets for controllers.
//!
//! The datapath hands a copy of the packet, as the actions so far made it, back to the daemon with
//! a cookie; [`Switch::packet_in`] makes the event of it. The pipeline's fields do not travel with
//! the packet: the cookie names a frozen state that has them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;

use base::{Instant, OfPort, RecircId, TableId};
use dpif::{ControllerCookie, DpAction, UserspaceCookie};
use flow::tun_metadata::OptionMatch;
use flow::{FieldId, FlowKey, Match, PacketKey};
use openflow::action::{Action, ControllerAction, PacketInReason};
use openflow::message::{Continuation, meter_id};
use openflow::version::Version;

use super::{Ctx, XlateOut, ct};
use crate::bridge::BridgeId;
use crate::event::{Event, PacketInEvent};
use crate::recirc::{Frozen, HashableActions};
use crate::switch::Switch;

impl Ctx<'_> {
    pub(super) fn controller(&mut self, c: &ControllerAction) {
        self.commit();
        let mut reason = c.reason;
        if reason == PacketInReason::Action && self.rule.as_ref().is_some_and(|r| r.is_table_miss())
        {
            reason = PacketInReason::ExplicitMiss;
        }
        let (recirc_id, held) = self.sw.recircs.intern(self.freeze(self.table));
        self.credits.frozen.push(held);
        self.push_controller(c, reason, recirc_id, false);
    }

    /// The datapath action that sends the packet up. `continuation`: the frozen state goes with it.
    pub(super) fn push_controller(
        &mut self,
        c: &ControllerAction,
        reason: PacketInReason,
        recirc_id: RecircId,
        continuation: bool,
    ) {
        let cookie = ControllerCookie {
            reason: reason as u8,
            dont_send: self.is_trace(),
            continuation,
            recirc_id,
            rule_cookie: self.rule_cookie,
            controller_id: c.controller_id,
            max_len: c.max_len,
            userdata: (!c.userdata.is_empty()).then(|| Arc::from(&c.userdata[..])),
        };
        let up = DpAction::Userspace(Box::new(UserspaceCookie::Controller(cookie)));
        // The meter that the action names, else the one that is for all.
        let meters = &self.br.tables.meters;
        let meter = c.meter.and_then(|id| meters.get(id)).or(meters.get(meter_id::CONTROLLER));
        self.out.push(up.metered(meter.map(|m| m.number)));
    }
}

impl Switch {
    /// The packet-in for a packet that a `controller` action sent up. The `in_port` of `key` is
    /// a datapath port. `None` if nobody is to get it.
    pub fn packet_in(
        &self,
        cookie: &ControllerCookie,
        frame: &[u8],
        key: &PacketKey,
    ) -> Option<(BridgeId, Event)> {
        if cookie.dont_send {
            return None;
        }
        let frozen = self.recircs.get(cookie.recirc_id)?;
        let bridge = self.bridge(frozen.bridge)?;
        let paused = cookie.continuation.then(|| Continuation {
            bridge: bridge.uuid(),
            stack: frozen.stack.iter().rev().copied().collect(),
            mirrors: frozen.mirrors,
            conntracked: frozen.conntracked,
            actions: frozen.actions.0.to_vec(),
            action_set: frozen.action_set.0.to_vec(),
            dp_port: key.in_port,
        });
        let mut flow = FlowKey::from(*key);
        frozen.thaw(&mut flow);
        if !frozen.conntracked {
            ct::clear(&mut flow.pkt);
        }
        let event = PacketInEvent {
            packet: Arc::from(frame),
            reason: reason(cookie.reason),
            table: frozen.table,
            cookie: cookie.rule_cookie,
            metadata: metadata(&flow),
            controller_id: cookie.controller_id,
            userdata: cookie.userdata.as_deref().unwrap_or_default().into(),
            paused,
        };
        Some((frozen.bridge, Event::PacketIn(Box::new(event))))
    }
}

impl Switch {
    /// Translates what is left to do for a packet that a controller sends on. `flow` has the
    /// packet's fields and the pipeline's, with an OpenFlow `in_port`; `version` is the controller's.
    /// `None` if the bridge where it paused is gone.
    pub(crate) fn xlate_resume(
        &self,
        now: Instant,
        flow: &FlowKey,
        c: Continuation,
        version: Version,
    ) -> Option<XlateOut> {
        let bridge = self.bridges().find(|b| b.uuid() == c.bridge)?;
        let mut actions = c.actions;
        if actions.is_empty() {
            // Nothing to do is something else than a table to look into.
            actions.push(Action::Note(vec![]));
        }
        let frozen = Frozen {
            bridge: bridge.id,
            table: TableId(0),
            actions: HashableActions(actions.into()),
            version,
            conntracked: c.conntracked,
            in_port: OfPort(flow.pkt.in_port as u16),
            metadata: flow.metadata,
            regs: flow.regs,
            tunnel: flow.pkt.tunnel,
            tun_metadata: flow.tun_metadata,
            stack: c.stack.into_iter().rev().collect(),
            action_set: HashableActions(c.action_set.into()),
            mirrors: c.mirrors,
        };
        Some(self.xlate_frozen(now, bridge, Arc::new(frozen), *flow, None, None))
    }
}

fn reason(n: u8) -> PacketInReason {
    use PacketInReason as R;
    [
        R::NoMatch,
        R::Action,
        R::InvalidTtl,
        R::ActionSet,
        R::Group,
        R::PacketOut,
        R::ExplicitMiss,
        R::ImplicitMiss,
    ]
    .into_iter()
    .find(|r| *r as u8 == n)
    .unwrap_or_default()
}

/// The pipeline fields that a packet-in tells: `in_port`, and what is not zero of the others.
fn metadata(flow: &FlowKey) -> Match {
    let mut m = Match::ANY;
    let mut take = |id: FieldId, always: bool| {
        let row = id.row();
        let v = row.get(flow);
        if v != 0 || always {
            row.set(&mut m.key, v);
            row.set(&mut m.mask, row.all_ones());
        }
    };
    take(FieldId::InPort, true);
    for id in [
        FieldId::TunId,
        FieldId::TunSrc,
        FieldId::TunDst,
        FieldId::TunIpv6Src,
        FieldId::TunIpv6Dst,
        FieldId::TunFlags,
        FieldId::TunGbpId,
        FieldId::TunGbpFlags,
        FieldId::TunErspanVer,
        FieldId::TunErspanIdx,
        FieldId::TunErspanDir,
        FieldId::TunErspanHwid,
        FieldId::TunGtpuFlags,
        FieldId::TunGtpuMsgtype,
        FieldId::Metadata,
        FieldId::PktMark,
        FieldId::PacketType,
        FieldId::CtState,
        FieldId::CtZone,
        FieldId::CtMark,
        FieldId::CtLabel,
    ] {
        take(id, false);
    }
    for id in flow::field::FIELDS.iter().map(|f| f.id) {
        if (FieldId::Reg0..=FieldId::Reg31).contains(&id) {
            take(id, false);
        }
    }
    if flow.pkt.ct_state != 0 {
        // Says how to understand the tuple.
        take(FieldId::EthType, true);
    }
    if flow.pkt.ct_state != 0 && flow.pkt.ct_nw_proto != 0 {
        let tuple: &[FieldId] = if flow.pkt.dl_type == packet::header::ethertype::IPV6 {
            &[FieldId::CtIpv6Src, FieldId::CtIpv6Dst]
        } else {
            &[FieldId::CtNwSrc, FieldId::CtNwDst]
        };
        for &id in tuple {
            take(id, true);
        }
        for id in [FieldId::CtNwProto, FieldId::CtTpSrc, FieldId::CtTpDst] {
            take(id, true);
        }
    }
    for i in flow.tun_metadata.fields().filter(|i| flow.tun_metadata.has(*i)) {
        m.set_tun_option(i, &OptionMatch::new(flow.tun_metadata.get(i), None));
    }
    m
}
