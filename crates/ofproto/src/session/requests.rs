//! Requests and what is done about them.

use alloc::boxed::Box;
use alloc::sync::Arc;

use base::{DpPort, Instant, OfPort};
use dpif::FlowStats;
use flow::{FlowKey, PacketKey};
use openflow::action::Action;
use openflow::error::OfError;
use openflow::message::{
    Body, Continuation, CtFlush, Features, Message, PacketIn, PacketOut, Role, SwitchConfig,
    capability,
};
use openflow::version::Version;
use packet::PacketBuf;

use super::{Closed, Environment, Refusal, RoleKind, Session, SessionKind};
use crate::bridge::{Bridge, Execute};
use crate::event::{Event, Requester};
use crate::switch::Switch;
use crate::table::INTERNAL_TABLE;
use crate::xlate::XlateOut;

/// Actions that 1.0's features reply names: all of them.
const OF10_ACTIONS: u32 = 0xfff;
/// Tables that controllers see.
const N_VISIBLE: u8 = INTERNAL_TABLE.0;

impl Session {
    /// Does what a message asks; `frame` is its bytes. The caller answers an `Err` with an error message.
    pub(super) fn handle(
        &mut self,
        sw: &mut Switch,
        env: &dyn Environment,
        now: Instant,
        m: &Message,
        frame: &[u8],
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else {
            self.close(Closed::NoBridge);
            return Ok(());
        };
        if self.role == RoleKind::Slave && changes_switch(&m.body) {
            return Err(Refusal::IsSlave);
        }
        match &m.body {
            Body::Hello(_) | Body::EchoReply(_) | Body::Error(_) => {}
            Body::EchoRequest(data) => self.reply(m, Body::EchoReply(data.clone())),
            Body::BarrierRequest => self.reply(m, Body::BarrierReply),
            Body::FeaturesRequest => {
                let mut f = Features {
                    dpid: br.spec.dpid,
                    n_tables: N_VISIBLE,
                    capabilities: capability::FLOW_STATS
                        | capability::TABLE_STATS
                        | capability::PORT_STATS
                        | capability::QUEUE_STATS,
                    actions: OF10_ACTIONS,
                    ..Features::default()
                };
                if m.version >= Version::Of14 {
                    f.capabilities |= capability::BUNDLES;
                }
                if m.version == Version::Of10 {
                    f.capabilities |= capability::ARP_MATCH_IP;
                } else {
                    f.capabilities |= capability::GROUP_STATS;
                }
                if m.version < Version::Of13 {
                    f.ports = br.ports.values().map(|p| p.desc()).collect();
                }
                self.reply(m, Body::FeaturesReply(Box::new(f)));
            }
            Body::GetConfigRequest => {
                let config = SwitchConfig {
                    frag: br.config.frag,
                    invalid_ttl_to_controller: Some(self.hears_invalid_ttl()),
                    miss_send_len: self.miss_send_len,
                };
                self.reply(m, Body::GetConfigReply(config));
            }
            Body::SetConfig(c) => {
                // Reassembly is not possible and silently stays off.
                let may = self.is_service() || self.role != RoleKind::Slave;
                if may && c.frag != 2 && c.frag != br.config.frag {
                    br.config.frag = c.frag;
                    br.changed();
                }
                if let Some(v) = c.invalid_ttl_to_controller {
                    self.set_invalid_ttl(v);
                }
                self.miss_send_len = c.miss_send_len;
            }
            Body::FlowMod(fm) => {
                br.tables.apply(fm, m.version, now, false)?;
                self.flow_mods.count(fm.command);
                let by = Requester { session: self.id, xid: m.xid };
                let changes = br.publish_changes(Some(by), now);
                self.tell_own(&changes, by);
            }
            Body::GroupMod(group) => self.group_mod(sw, now, m, group)?,
            Body::MeterMod(meter) => self.meter_mod(sw, now, m, meter)?,
            Body::BundleCtrl(c) => self.bundle_control(sw, now, m, *c, frame)?,
            Body::FlowMonitorRequest(list) => self.monitor_request(sw, m, list)?,
            Body::FlowMonitorCancel(id) => self.cancel_monitor(sw, *id)?,
            Body::BundleAdd(add) => self.bundle_add(now, m, add, frame)?,
            Body::PacketOut(po) => {
                self.translate_packet_out(sw, now, po)?.execute(sw, now);
            }
            Body::Resume(p) => resume(sw, now, p, m.version)?,
            Body::PortMod(pm) => match br.port_mod(pm, Some(self.id)) {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::PortModBadPort),
                Err(crate::WrongAddress) => return Err(Refusal::PortModBadAddress),
            },
            Body::TableMod(t) => super::tables::configure(br, m.version, t)?,
            Body::RoleRequest(r) => self.role_request(sw, m, r)?,
            Body::GetAsyncRequest => {
                let config = self.async_config_told(m.version);
                self.reply(m, Body::GetAsyncReply(config));
            }
            Body::SetAsync(set) => self.set_async(set, m.version),
            Body::SetControllerId(id) => self.controller_id = *id,
            Body::SetFlowFormat(f) => self.flow_format = *f,
            Body::FlowModTableId(on) => self.flow_mod_table_id = *on,
            Body::SetPacketInFormat(f) => self.packet_in_format = *f,
            Body::FlowAge => {}
            Body::CtFlushZone(zone) => {
                env.ct_flush(&CtFlush { zone: Some(*zone), ..CtFlush::default() });
            }
            Body::CtFlush(which) => env.ct_flush(which),
            Body::TlvTableMod(change) => {
                br.tables.apply_tlv(change)?;
                br.changed();
            }
            Body::TlvTableRequest => {
                let table = br.tables.tlv_reply();
                self.reply(m, Body::TlvTableReply(table));
            }
            body => self.stats_request(sw, env, now, m, body)?,
        }
        Ok(())
    }

    /// Roles (OpenFlow 1.5.1 §6.3.6). A generation older than the newest seen is refused.
    fn role_request(&mut self, sw: &mut Switch, m: &Message, r: &Role) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        if matches!(r.role, 2 | 3)
            && let Some(id) = r.generation_id
        {
            if br.role_generation.is_some_and(|old| (id.wrapping_sub(old) as i64) < 0) {
                return Err(Refusal::RoleStale);
            }
            br.role_generation = Some(id);
        }
        self.role = match r.role {
            0 => self.role,
            1 => RoleKind::Equal,
            2 => {
                if self.role != RoleKind::Master {
                    br.role_term += 1;
                    self.term = br.role_term;
                    br.events.push(Event::Master {
                        session: self.id,
                        term: self.term,
                        generation_id: br.role_generation,
                    });
                }
                RoleKind::Master
            }
            3 => RoleKind::Slave,
            _ => return Err(Refusal::RoleBad),
        };
        let reply = Role { role: self.role as u32, generation_id: br.role_generation };
        self.reply(m, Body::RoleReply(reply));
        Ok(())
    }

    /// Translates the actions of a packet-out, without any effect yet.
    pub(super) fn translate_packet_out(
        &self,
        sw: &Switch,
        now: Instant,
        po: &PacketOut,
    ) -> Result<PendingPacket, Refusal> {
        if po.buffer_id.is_some() {
            return Err(Refusal::BufferUnknown);
        }
        let in_port = OfPort(po.metadata.key.pkt.in_port as u16);
        let from_nowhere = matches!(in_port, OfPort::NONE | OfPort::CONTROLLER);
        if !in_port.is_real() && !from_nowhere {
            return Err(Refusal::BadPort);
        }
        let Some(br) = sw.bridge(self.bridge) else { return Err(Refusal::BadPort) };
        br.tables.check_actions(&po.actions, None)?;
        let mut packet = PacketBuf::from_frame(&po.packet);
        let mut flow: FlowKey = po.metadata.key;
        flow.actset_output = u32::from(OfPort::UNSET.0);
        flow::extract(&mut packet, &mut flow.pkt);
        let xlate = sw.xlate_packet_out(now, self.bridge, &flow, &po.actions, None);
        let dp_port = br.port(in_port).map(|p| p.spec.dp_port);
        let mut key = flow.pkt;
        key.in_port = dp_port.unwrap_or(DpPort::NONE).0;
        Ok(PendingPacket { packet, key, xlate })
    }

    pub(super) fn is_service(&self) -> bool {
        self.kind == SessionKind::Service
    }
}

/// A packet that a controller sends, translated.
#[derive(Debug)]
pub(super) struct PendingPacket {
    packet: PacketBuf,
    key: PacketKey,
    xlate: XlateOut,
}

impl PendingPacket {
    /// Counts it, does what its translation says besides, and hands it to the datapath.
    pub(super) fn execute(self, sw: &mut Switch, now: Instant) {
        let PendingPacket { packet, key, xlate: x } = self;
        let n_bytes = packet.len() as u64;
        x.credits.add(&FlowStats {
            n_packets: 1,
            n_bytes,
            used: Some(now),
            tcp_flags: key.tcp_flags,
        });
        sw.apply(now, &x.effects);
        let Some(br) = x.bridge.and_then(|id| sw.bridge_mut(id)) else { return };
        let actions: Arc<[dpif::DpAction]> = x.actions.into();
        br.events.push(Event::Execute(Box::new(Execute { packet, key, actions })));
    }
}

impl Bridge {
    /// Whether a packet-out may have these actions.
    ///
    /// # Errors
    /// The error that the controller would get.
    pub fn check_packet_out(&self, actions: &[Action]) -> Result<(), OfError> {
        self.tables.check_actions(actions, None).map_err(|e| Refusal::from(e).error())
    }
}

/// A paused packet goes on.
fn resume(sw: &mut Switch, now: Instant, p: &PacketIn, version: Version) -> Result<(), Refusal> {
    let c = Continuation::decode(&p.continuation, version, true)
        .map_err(|e| Refusal::Continuation(e.error))?;
    let br = sw.bridges().find(|b| b.uuid() == c.bridge).ok_or(Refusal::ResumeStale)?;
    for list in c.actions.split(|a| matches!(a, Action::UnrollXlate { .. })) {
        br.tables.check_actions(list, None)?;
    }
    br.tables.check_actions(&c.action_set, None)?;
    let mut packet = PacketBuf::from_frame(&p.packet);
    let mut flow = p.metadata.key;
    flow.actset_output = u32::from(OfPort::UNSET.0);
    flow::extract(&mut packet, &mut flow.pkt);
    let mut key = flow.pkt;
    key.in_port = if c.dp_port == 0 { DpPort::NONE.0 } else { c.dp_port };
    let x = sw.xlate_resume(now, &flow, c, version).ok_or(Refusal::ResumeStale)?;
    PendingPacket { packet, key, xlate: x }.execute(sw, now);
    Ok(())
}

/// Whether only a master or equal may ask it.
fn changes_switch(body: &Body) -> bool {
    matches!(
        body,
        Body::FlowMod(_)
            | Body::GroupMod(_)
            | Body::MeterMod(_)
            | Body::PacketOut(_)
            | Body::PortMod(_)
            | Body::TableMod(_)
            | Body::TlvTableMod(_)
            | Body::BundleCtrl(_)
            | Body::BundleAdd(_)
    )
}
