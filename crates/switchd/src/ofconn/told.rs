//! Telling controllers what becomes of each other (`OFPT_CONTROLLER_STATUS`, OpenFlow 1.5.1 §7.4.8): who of
//! those that are configured is connected, and in which role. What was told last is compared with what is.

use std::collections::BTreeMap;

use base::Instant;
use ofproto::Event;
use openflow::message::{ControllerStatus, controller_reason as reason};

use super::{BridgeConnections, Connections};

/// What was told of a controller.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    is_down: bool,
    /// That of its connection; of one that is lost, what it was.
    role: u32,
}

/// `OFPCR_ROLE_EQUAL`
const EQUAL: u32 = 1;

impl BridgeConnections {
    fn told_now(&self, target: &str) -> Told {
        let mut all = self.connections.values();
        let connection =
            all.find(|c| c.target.as_deref() == Some(target) && c.session.version().is_some());
        let role = match connection {
            Some(c) => c.session.role_number(),
            None => self.told.get(target).map_or(EQUAL, |t| t.role),
        };
        Told { is_down: connection.is_none(), role }
    }

    /// What changed since it was last asked.
    fn changes(&mut self) -> Vec<ControllerStatus> {
        let now: BTreeMap<String, Told> =
            self.controllers.keys().map(|t| (t.clone(), self.told_now(t))).collect();
        let mut changes = Vec::new();
        let mut tell = |target: &str, t: Told, reason: u8| {
            let Told { is_down, role } = t;
            changes.push(ControllerStatus {
                short_id: 0,
                role,
                reason,
                is_down,
                uri: target.into(),
            });
        };
        for (target, old) in self.told.iter().filter(|(t, _)| !now.contains_key(*t)) {
            tell(target, Told { is_down: true, ..*old }, reason::CONTROLLER_REMOVED);
        }
        for (target, &new) in &now {
            let old = self.told.get(target).copied().unwrap_or_else(|| {
                let old = Told { is_down: true, role: EQUAL };
                tell(target, old, reason::CONTROLLER_ADDED);
                old
            });
            if old.is_down != new.is_down {
                tell(target, new, reason::CHANNEL_STATUS);
            }
            if old.role != new.role {
                tell(target, new, reason::ROLE);
            }
        }
        self.told = now;
        changes
    }
}

impl Connections {
    /// Tells sessions that asked for it what became of controllers.
    pub(super) fn tell_statuses(&mut self, now: Instant) {
        let changes: Vec<_> = self
            .bridges
            .values_mut()
            .map(|b| (b.id, b.changes()))
            .filter(|c| !c.1.is_empty())
            .collect();
        for (id, statuses) in changes {
            for status in statuses {
                self.notify(now, id, &Event::ControllerStatus(status));
            }
        }
    }
}
