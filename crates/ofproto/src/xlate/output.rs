//! Output to ports, real and reserved.

use alloc::format;

use base::{DpPort, OfPort, TableId};
use dpif::DpAction;
use flow::{TunMetadata, TunnelKey};
use openflow::action::PacketInReason;
use openflow::message::port_config;
use packet::header::ethertype;

use super::Ctx;
use super::actions::Entry;
use super::actions::plain_controller;
use crate::port::Port;
use crate::trace::NodeKind;

impl<'a> Ctx<'a> {
    /// `output:port`. `max_len` counts for controllers.
    pub(super) fn output(&mut self, port: OfPort, max_len: u16, last: bool) {
        match port {
            OfPort::IN_PORT => self.send(self.in_port(), last),
            OfPort::TABLE => {
                let in_port = self.in_port();
                self.enter_table(Entry { in_port, may_miss: true, ..Entry::of(TableId(0)) });
            }
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false, last),
            OfPort::ALL => self.flood(true, last),
            OfPort::CONTROLLER => {
                let reason = if self.packet_out {
                    PacketInReason::PacketOut
                } else if self.in_bucket {
                    PacketInReason::Group
                } else if self.in_action_set {
                    PacketInReason::ActionSet
                } else {
                    PacketInReason::Action
                };
                self.controller(&plain_controller(max_len, reason));
            }
            OfPort::NONE => {}
            port if port == self.in_port() => {
                self.report(NodeKind::Warn, || "skipping output to input port".into());
            }
            port => self.send(port, last),
        }
    }

    /// `output(port=…,max_len=…)`.
    pub(super) fn output_trunc(&mut self, port: OfPort, max_len: u32, last: bool) {
        match port {
            OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::NONE => self
                .report(NodeKind::Warn, || format!("output_trunc does not support port: {port}")),
            p if p == self.in_port() => {
                self.report(NodeKind::Warn, || "skipping output to input port".into());
            }
            OfPort::IN_PORT => self.send_truncated(self.in_port(), max_len, last),
            p => self.send_truncated(p, max_len, last),
        }
    }

    fn send_truncated(&mut self, port: OfPort, max_len: u32, last: bool) {
        let to = self.br.port(port).filter(|p| p.spec.dp_port != DpPort::NONE);
        let Some(p) = to else {
            return self.report(NodeKind::Error, || {
                format!("output_trunc does not support patch port {port}")
            });
        };
        self.out.push(DpAction::Trunc(max_len));
        self.send_to(p, last);
    }

    /// Sends to all ports but the one the packet came in by.
    fn flood(&mut self, all: bool, last: bool) {
        let (br, in_port) = (self.br, self.in_port());
        let mut ports =
            br.flood_order().filter(|p| p.ofport != in_port && (all || p.floodable())).peekable();
        while let Some(p) = ports.next() {
            self.send_to(p, last && ports.peek().is_none());
        }
    }

    /// `enqueue`: sends with the priority of a queue, which is the queue's number.
    pub(super) fn enqueue(&mut self, port: OfPort, queue: u32, last: bool) {
        let old = self.flow.pkt.skb_priority;
        self.wc.pkt.skb_priority = u32::MAX;
        let port = match port {
            OfPort::IN_PORT => self.in_port(),
            p if p == self.in_port() => return,
            p => p,
        };
        self.flow.pkt.skb_priority = queue;
        self.send(port, last);
        self.flow.pkt.skb_priority = old;
    }

    /// With in-band control the host gets answers that give it an address, also if no flow says so.
    pub(super) fn answer_host(&mut self) {
        let k = &self.flow.pkt;
        let none = self.br.in_band().remotes.is_empty();
        if none || self.error.is_some() || !crate::own::is_dhcp_answer(k) {
            return;
        }
        let Some(local) = self.br.port(OfPort::LOCAL) else { return };
        if self.out.contains(&DpAction::Output(local.spec.dp_port)) {
            return;
        }
        let m = &mut self.wc.pkt;
        (m.dl_type, m.nw_proto, m.tp_src, m.tp_dst) = (u16::MAX, u8::MAX, u16::MAX, u16::MAX);
        self.report(NodeKind::Detail, || {
            "outputting DHCP packet to local port for in-band control".into()
        });
        self.send_to(local, true);
    }

    /// Gives later outputs a priority.
    pub(super) fn set_priority(&mut self, priority: u32) {
        self.wc.pkt.skb_priority = u32::MAX;
        self.flow.pkt.skb_priority = priority;
    }

    /// Sends to one port, the input port too.
    pub(super) fn send(&mut self, port: OfPort, last: bool) {
        match self.br.port(port) {
            Some(p) => self.send_to(p, last),
            None => self.report(NodeKind::Warn, || "Nonexistent output port".into()),
        }
    }

    pub(super) fn send_to(&mut self, p: &'a Port, last: bool) {
        if p.config & port_config::NO_FWD != 0 {
            self.report(NodeKind::Detail, || "OFPPC_NO_FWD set, skipping output".into());
            return;
        }
        if self.snaplen != 0 && p.spec.dp_port == DpPort::NONE {
            self.report(NodeKind::Warn, || "Mirror truncate to ODPP_NONE, skipping output".into());
            return;
        }
        let from = self.br.port(self.in_port());
        if p.spec.protected && from.is_some_and(|f| f.spec.protected) {
            self.report(NodeKind::Warn, || {
                "Flow is between protected ports, skipping output.".into()
            });
            return;
        }
        if self.flow.pkt.packet_type != 0 {
            self.report(NodeKind::Warn, || {
                "Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.".into()
            });
            return;
        }
        if let Some(peer) = &p.spec.peer {
            self.patch(p, &peer.port, last);
            return;
        }
        let tos = self.flow.pkt.nw_tos;
        self.set_queue_dscp(p);
        if p.spec.dp_port != DpPort::NONE {
            self.commit();
            if !matches!(self.snaplen, 0 | u16::MAX) {
                self.out.push(DpAction::Trunc(self.snaplen.into()));
            }
            self.out.push(DpAction::Output(p.spec.dp_port));
        }
        self.mirror_output(p);
        self.flow.pkt.nw_tos = tos;
    }

    /// Gives the packet the DSCP of the queue of a port that it is for.
    fn set_queue_dscp(&mut self, p: &Port) {
        if p.spec.queue_dscp.is_empty() {
            return;
        }
        const DSCP: u8 = 0xfc;
        self.wc.pkt.skb_priority = u32::MAX;
        let is_ip = matches!(self.flow.pkt.dl_type, ethertype::IPV4 | ethertype::IPV6);
        if let Some(dscp) = p.spec.queue_dscp.get(&self.flow.pkt.skb_priority).filter(|_| is_ip) {
            self.wc.pkt.nw_tos |= DSCP;
            let tos = &mut self.flow.pkt.nw_tos;
            *tos = (*tos & !DSCP) | dscp << 2;
        }
    }

    /// Through a patch port: the packet enters the peer's bridge as if it came over a wire. What
    /// happens to it there stays there.
    fn patch(&mut self, p: &Port, peer: &str, last: bool) {
        let Some((id, in_port)) = self.sw.port_of_interface(peer) else {
            self.report(NodeKind::Warn, || "Nonexistent output port".into());
            return;
        };
        let Some(br) = self.sw.bridge(id) else { return };
        if let Some(other) = br.port(in_port) {
            let ends = (p.patch_stats.clone(), other.patch_stats.clone());
            self.credits.patches.push(ends);
        }
        let old_br = core::mem::replace(&mut self.br, br);
        let (exit, conntracked, was_mpls) = (self.exit, self.conntracked, self.was_mpls);
        let packet_out = core::mem::replace(&mut self.packet_out, false);
        // Each bridge has its own mirrors.
        let mirrors = core::mem::take(&mut self.mirrors);
        let tunnel_mask = core::mem::take(&mut self.wc.pkt.tunnel);
        let kept = self.keep();
        self.stack.clear();
        self.action_set.clear();
        self.flow.metadata = 0;
        self.flow.regs = [0; 32];
        self.flow.actset_output = u32::from(OfPort::UNSET.0);
        self.flow.pkt.tunnel = TunnelKey::default();
        self.flow.tun_metadata = TunMetadata::default();
        self.flow.pkt.in_port = u32::from(in_port.0);
        self.clear_ct_fields();
        self.conntracked = false;
        let place = self.report_enter(NodeKind::Bridge, || format!("bridge(\"{}\")", br.name));
        if self.may_receive() {
            let entry =
                Entry { in_port, may_miss: true, last, clone: true, ..Entry::of(TableId(0)) };
            self.enter_table(entry);
            self.finish_pipeline();
        }
        self.report_leave(place);
        self.restore(kept);
        self.br = old_br;
        self.wc.pkt.tunnel = tunnel_mask;
        (self.exit, self.conntracked, self.was_mpls) = (exit, conntracked, was_mpls);
        (self.packet_out, self.mirrors) = (packet_out, mirrors);
        // What fails there does not fail here.
        self.error = None;
        self.cancel_freeze();
    }
}
