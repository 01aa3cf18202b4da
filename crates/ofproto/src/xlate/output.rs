//! Output to ports, real and reserved.

use alloc::format;

use base::{DpPort, OfPort, TableId};
use dpif::{DpAction, DropReason};
use openflow::action::PacketInReason;
use openflow::message::port_config;

use super::actions::plain_controller;
use super::{Ctx, MAX_DEPTH};
use crate::port::Port;
use crate::trace::NodeKind;

impl<'a> Ctx<'a> {
    /// `output:port`. `max_len` counts for controllers.
    pub(super) fn output(&mut self, port: OfPort, max_len: u16) {
        match port {
            OfPort::IN_PORT => self.send(self.in_port()),
            OfPort::TABLE => self.enter_table(self.in_port(), TableId(0), true, false),
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood(false),
            OfPort::ALL => self.flood(true),
            OfPort::CONTROLLER => {
                let reason = if self.in_action_set {
                    PacketInReason::ActionSet
                } else if self.packet_out {
                    PacketInReason::PacketOut
                } else {
                    PacketInReason::Action
                };
                self.controller(&plain_controller(max_len, reason));
            }
            OfPort::NONE => {}
            port if port == self.in_port() => {
                self.report(NodeKind::Warn, || "skipping output to input port".into());
            }
            port => self.send(port),
        }
    }

    /// `output(port=…,max_len=…)`.
    pub(super) fn output_trunc(&mut self, port: OfPort, max_len: u32) {
        let before = self.out.len();
        self.commit();
        let at = self.out.len();
        match port {
            OfPort::IN_PORT => self.send(self.in_port()),
            p if p == self.in_port() => {
                self.report(NodeKind::Warn, || "skipping output to input port".into());
            }
            p => self.send(p),
        }
        if self.out.len() > at {
            self.out.insert(at, DpAction::Trunc(max_len));
        } else {
            debug_assert!(at >= before);
        }
    }

    /// Sends to all ports but the one the packet came in by.
    fn flood(&mut self, all: bool) {
        let br = self.br;
        for p in br.flood_order() {
            if p.ofport != self.in_port() && (all || p.floodable()) {
                self.send_to(p);
            }
        }
    }

    /// Sends to one port, the input port too.
    pub(super) fn send(&mut self, port: OfPort) {
        match self.br.port(port) {
            Some(p) => self.send_to(p),
            None => self.report(NodeKind::Warn, || "Nonexistent output port".into()),
        }
    }

    pub(super) fn send_to(&mut self, p: &'a Port) {
        if p.config & port_config::NO_FWD != 0 {
            self.report(NodeKind::Detail, || "OFPPC_NO_FWD set, skipping output".into());
            return;
        }
        let from = self.br.port(self.in_port());
        if p.spec.protected && from.is_some_and(|f| f.spec.protected) {
            self.report(NodeKind::Warn, || {
                "Flow is between protected ports, skipping output.".into()
            });
            return;
        }
        if let Some(peer) = &p.spec.peer {
            self.patch(&peer.port);
            return;
        }
        if p.spec.dp_port != DpPort::NONE {
            self.commit();
            self.out.push(DpAction::Output(p.spec.dp_port));
        }
    }

    /// Through a patch port: the packet enters the peer's bridge as if it came over a wire.
    fn patch(&mut self, peer: &str) {
        let Some((id, in_port)) = self.sw.port_of_interface(peer) else {
            self.report(NodeKind::Warn, || "Nonexistent output port".into());
            return;
        };
        let Some(br) = self.sw.bridge(id) else { return };
        if self.depth >= MAX_DEPTH {
            self.fail(DropReason::RecursionTooDeep, "over max translation depth 64");
            return;
        }
        let (old_br, flow) = (core::mem::replace(&mut self.br, br), self.flow);
        let (table, rule) = (self.table, self.rule.take());
        let stack = core::mem::take(&mut self.stack);
        let set = core::mem::take(&mut self.action_set);
        let (exit, conntracked) = (self.exit, self.conntracked);
        let packet_out = core::mem::replace(&mut self.packet_out, false);
        self.flow.metadata = 0;
        self.flow.regs = [0; 32];
        self.flow.pkt.in_port = u32::from(in_port.0);
        self.clear_ct_fields();
        self.conntracked = false;
        self.exit = false;
        self.depth += 1;
        self.nesting += 1;
        let place = self.report_enter(NodeKind::Bridge, || format!("bridge(\"{}\")", br.name));
        self.run(TableId(0));
        self.report_leave(place);
        self.nesting -= 1;
        self.depth -= 1;
        self.br = old_br;
        // The other bridge's changes stay with its packet.
        self.flow = flow;
        (self.table, self.rule, self.stack, self.action_set) = (table, rule, stack, set);
        (self.exit, self.conntracked, self.packet_out) = (exit, conntracked, packet_out);
        if self.error == Some(DropReason::ForwardingDisabled) {
            self.error = None; // dropped there, not here
        }
    }
}
