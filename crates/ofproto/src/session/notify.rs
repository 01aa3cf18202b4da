//! Asynchronous messages: who hears what.
//!
//! Source: OpenFlow 1.5.1 §6.3.6 and §7.3.10; OVS's "Asynchronous Messages" design.

use alloc::boxed::Box;

use base::Instant;
use openflow::action::PacketInReason;
use openflow::message::{AsyncClass, AsyncConfig, Body, FlowFormat, Message, Role, SetAsync};
use openflow::version::Version;

use super::{DEFAULT_MISS_SEND_LEN, RoleKind, Session};
use crate::event::{Event, PacketInEvent, PortStatusEvent};

/// `OFPCRR_MASTER_REQUEST`
const PRIMARY_REQUEST: u8 = 0;

fn bits(reasons: &[PacketInReason]) -> u32 {
    reasons.iter().fold(0, |m, r| m | 1 << (*r as u32))
}

impl Session {
    /// Tells the peer what happened, if it wants to hear it. Returns whether it does.
    pub fn notify(&mut self, now: Instant, event: &Event) -> bool {
        if self.closed.is_some() {
            return false;
        }
        if let Event::Master { session, term, generation_id } = event {
            if *session != self.id && self.role == RoleKind::Master && *term > self.term {
                self.role_lost(*generation_id);
            }
            return true;
        }
        let Some(version) = self.version else { return false };
        match event {
            Event::FlowRemoved(r) if self.hears(AsyncClass::FlowRemoved, r.reason as u32) => {
                self.send_async(version, false, Body::FlowRemoved(r.clone()));
            }
            Event::PortStatus(p) if self.hears(AsyncClass::PortStatus, p.reason as u32) => {
                self.port_status(version, p);
            }
            Event::FlowChanges(changes, by) if by.is_none_or(|b| b.session != self.id) => {
                self.tell_monitors(changes, *by);
            }
            Event::TableStatus(reason, t)
                if self.hears(AsyncClass::TableStatus, *reason as u32) =>
            {
                self.send_async(version, false, Body::TableStatus(*reason, t.clone()));
            }
            Event::ControllerStatus(s)
                if version >= Version::Of15
                    && self.hears(AsyncClass::ControllerStatus, s.reason.into()) =>
            {
                self.send_async(version, false, Body::ControllerStatus(Box::new(s.clone())));
            }
            Event::Requestforward(by, what) => self.forward(version, *by, what),
            Event::PacketIn(p) if self.hears_packet_in(p) => self.packet_in(version, now, p),
            _ => return false,
        }
        true
    }

    /// Another session became primary. Who speaks 1.3 or newer is told, whatever it asked for.
    fn role_lost(&mut self, generation_id: Option<u64>) {
        self.role = RoleKind::Slave;
        if let Some(version) = self.version.filter(|v| *v >= Version::Of13) {
            let role = Role { role: RoleKind::Slave as u32, generation_id };
            self.send_async(version, false, Body::RoleStatus(role, PRIMARY_REQUEST));
        }
    }

    /// Before 1.5 who changes a port is not told of it. Nor is anybody told what its version cannot
    /// say.
    fn port_status(&mut self, version: Version, p: &PortStatusEvent) {
        if p.source == Some(self.id) && version < Version::Of15 {
            return;
        }
        let message = |port| {
            let body = Body::PortStatus(p.reason, Box::new(port));
            Message::new(version, 0, body).encode(self.codec()).ok()
        };
        let Some(new) = message(p.port.clone()) else { return };
        if p.old.clone().and_then(message).as_ref() != Some(&new) {
            self.output.extend_from_slice(&new);
        }
    }

    fn hears_packet_in(&self, p: &PacketInEvent) -> bool {
        p.controller_id == self.controller_id && self.hears(AsyncClass::PacketIn, p.reason as u32)
    }

    fn packet_in(&mut self, version: Version, now: Instant, p: &PacketInEvent) {
        let body = Body::PacketIn(Box::new(p.message(self.packet_in_format, version)));
        let Ok(message) = Message::new(version, 0, body).encode(self.codec()) else { return };
        use PacketInReason as R;
        let miss = matches!(p.reason, R::NoMatch | R::ExplicitMiss | R::ImplicitMiss);
        let now = match &mut self.limiters[usize::from(miss)] {
            Some(l) => l.send(now, p.metadata.key.pkt.in_port, message),
            None => Some(message),
        };
        self.output.extend_from_slice(&now.unwrap_or_default());
    }

    fn send_async(&mut self, version: Version, nicira: bool, body: Body) {
        // 1.0 has two forms of everything that holds a match.
        let nicira = nicira
            || (version == Version::Of10
                && matches!(body, Body::FlowRemoved(_))
                && self.flow_format == FlowFormat::Nxm);
        self.push(&Message { version, xid: 0, nicira, more: false, body });
    }

    /// Whether a message with this reason is wanted. Service connections hear nothing until they
    /// set a miss send length.
    pub(super) fn hears(&self, class: AsyncClass, reason: u32) -> bool {
        if self.is_service() && self.miss_send_len == 0 {
            return false;
        }
        let secondary = self.role == RoleKind::Slave;
        self.async_config().mask(class, secondary) >> reason & 1 != 0
    }

    /// What is wanted: what was asked for, else the default of the version.
    pub(super) fn async_config(&self) -> AsyncConfig {
        self.async_config.unwrap_or_else(|| default_config(self.version.unwrap_or(Version::Of10)))
    }

    /// The same as the version can say it.
    pub(super) fn async_config_told(&self, version: Version) -> AsyncConfig {
        let mut c = self.async_config();
        for class in AsyncClass::all() {
            for secondary in [false, true] {
                *c.mask_mut(class, secondary) &= class.allowed(version);
            }
        }
        c
    }

    /// Takes what the peer says it wants. Reasons that are told apart only inside, or only in later
    /// versions, follow the one that the version has for them.
    pub(super) fn set_async(&mut self, set: &SetAsync, version: Version) {
        use PacketInReason as R;
        // Who asks for messages is sent some, also a tool that said nothing of misses.
        if self.miss_send_len == 0 && self.is_service() {
            self.miss_send_len = DEFAULT_MISS_SEND_LEN;
        }
        let mut c = set.apply(&self.async_config());
        for secondary in [false, true] {
            let m = c.mask_mut(AsyncClass::PacketIn, secondary);
            *m &= !bits(&[R::ExplicitMiss, R::ImplicitMiss]);
            if *m & bits(&[R::NoMatch]) != 0 {
                *m |= bits(&[R::ExplicitMiss]);
                if version < Version::Of13 {
                    *m |= bits(&[R::ImplicitMiss]);
                }
            }
            if version < Version::Of14 && *m & bits(&[R::Action]) != 0 {
                *m |= bits(&[R::ActionSet, R::Group, R::PacketOut]);
            }
        }
        self.async_config = Some(c);
    }

    /// Whether packets whose TTL ran out are wanted (`OFPC_INVALID_TTL_TO_CONTROLLER`).
    pub(super) fn hears_invalid_ttl(&self) -> bool {
        let mask = self.async_config().mask(AsyncClass::PacketIn, false);
        mask & bits(&[PacketInReason::InvalidTtl]) != 0
    }

    /// See [`Session::hears_invalid_ttl`].
    pub(super) fn set_invalid_ttl(&mut self, on: bool) {
        let mut c = self.async_config();
        let m = c.mask_mut(AsyncClass::PacketIn, false);
        let bit = bits(&[PacketInReason::InvalidTtl]);
        *m = if on { *m | bit } else { *m & !bit };
        self.async_config = Some(c);
    }
}

/// What a peer hears that has not said what it wants.
fn default_config(version: Version) -> AsyncConfig {
    use PacketInReason as R;
    let mut packet_in =
        bits(&[R::NoMatch, R::Action, R::ActionSet, R::Group, R::PacketOut, R::ExplicitMiss]);
    if version < Version::Of13 {
        packet_in |= bits(&[R::ImplicitMiss]);
    }
    let flow_removed = match version {
        Version::Of10 | Version::Of11 | Version::Of12 => 0b111,
        Version::Of13 => 0b1111,
        _ => 0b11_1111,
    };
    let mut c = AsyncConfig::default();
    *c.mask_mut(AsyncClass::PacketIn, false) = packet_in;
    *c.mask_mut(AsyncClass::FlowRemoved, false) = flow_removed;
    for secondary in [false, true] {
        *c.mask_mut(AsyncClass::PortStatus, secondary) = 0b111;
    }
    c
}
