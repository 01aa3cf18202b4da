//! Asynchronous messages: who hears what.

use openflow::action::PacketInReason;
use openflow::message::{AsyncConfig, Body, Message, PacketInFormat, Role};
use openflow::version::Version;

use super::{RoleKind, Session};
use crate::event::{Event, PacketInEvent};

impl Session {
    /// Tells the peer what happened, if it wants to hear it.
    pub fn notify(&mut self, event: &Event) {
        if self.closed.is_some() {
            return;
        }
        if let Event::Master { session, term } = event {
            if *session != self.id && self.role == RoleKind::Master && *term > self.term {
                self.role_lost();
            }
            return;
        }
        let Some(version) = self.version else { return };
        match event {
            Event::FlowRemoved(r) if self.hears(|c| c.flow_removed, r.reason as u32) => {
                self.send_async(version, false, Body::FlowRemoved(r.clone()));
            }
            Event::PortStatus(reason, desc) if self.hears(|c| c.port_status, *reason as u32) => {
                let body = Body::PortStatus(*reason, alloc::boxed::Box::new(desc.clone()));
                self.send_async(version, false, body);
            }
            Event::PacketIn(p) => self.packet_in(version, p),
            _ => {}
        }
    }

    /// Another session became master. OpenFlow 1.4+ says so.
    fn role_lost(&mut self) {
        let hears = self.hears(|c| c.role_status, 0);
        self.role = RoleKind::Slave;
        if let Some(version) = self.version.filter(|v| *v >= Version::Of14 && hears) {
            let role = Role { role: 3, generation_id: None };
            self.send_async(version, false, Body::RoleStatus(role, 0));
        }
    }

    fn packet_in(&mut self, version: Version, p: &PacketInEvent) {
        if p.controller_id != self.controller_id || !self.hears(|c| c.packet_in, p.reason as u32) {
            return;
        }
        let miss = matches!(p.reason, PacketInReason::NoMatch | PacketInReason::ImplicitMiss);
        let len = if miss { p.max_len.min(self.miss_len()) } else { p.max_len };
        let body = Body::PacketIn(alloc::boxed::Box::new(p.message(self.packet_in_format, len)));
        let nicira = self.packet_in_format != PacketInFormat::Standard;
        self.send_async(version, nicira, body);
    }

    fn send_async(&mut self, version: Version, nicira: bool, body: Body) {
        // 1.0 has two forms of everything that holds a match.
        let nicira = nicira
            || (version == Version::Of10
                && matches!(body, Body::FlowRemoved(_))
                && self.flow_format == openflow::message::FlowFormat::Nxm);
        let m = Message { version, xid: 0, nicira, more: false, body };
        self.push(&m);
    }

    /// Whether a message with this reason is wanted. Service connections hear nothing until they
    /// set a miss send length.
    fn hears(&self, of: impl Fn(&AsyncConfig) -> [u32; 2], reason: u32) -> bool {
        if self.is_service() && self.miss_len() == 0 {
            return false;
        }
        let side = usize::from(self.role == RoleKind::Slave);
        of(&self.async_config())[side] >> reason & 1 != 0
    }

    /// What is wanted: what was asked for, else the default of the version.
    pub(super) fn async_config(&self) -> AsyncConfig {
        if let Some(c) = self.async_config {
            return c;
        }
        let version = self.version.unwrap_or(Version::Of10);
        let bits =
            |reasons: &[PacketInReason]| reasons.iter().fold(0, |m, r| m | 1u32 << (*r as u32));
        use PacketInReason as R;
        let mut packet_in =
            bits(&[R::NoMatch, R::Action, R::ActionSet, R::Group, R::PacketOut, R::ExplicitMiss]);
        if version < Version::Of13 {
            packet_in |= bits(&[R::ImplicitMiss]);
        }
        if self.invalid_ttl {
            packet_in |= bits(&[R::InvalidTtl]);
        }
        let flow_removed = match version {
            Version::Of10 | Version::Of11 | Version::Of12 => 0b111,
            Version::Of13 => 0b1111,
            _ => 0b11_1111,
        };
        let newer = |bits| if version >= Version::Of14 { [bits, 0] } else { [0, 0] };
        AsyncConfig {
            packet_in: [packet_in, 0],
            port_status: [0b111, 0b111],
            flow_removed: [flow_removed, 0],
            role_status: newer(0b111),
            table_status: newer(0),
            requestforward: [0, 0],
        }
    }
}
