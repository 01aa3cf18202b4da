//! Bundles: messages that take effect together or not at all (OpenFlow 1.5.1 §6.9; in 1.3 the ONF's
//! extension 230).
//!
//! A message is checked when it is added, as far as that is possible without the tables, and kept in
//! the form that takes least room. A commit applies all of them under the lock that the caller holds,
//! so no translation sees half; if one fails, the changes are undone backward from their list. Packets
//! to send are translated in their turn and go out only after all has succeeded.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use base::{Duration, Instant};
use openflow::error::OfError;
use openflow::message::{
    Body, BundleAdd, BundleCtrl, GroupMod, Message, PacketOut, PortMod, bundle_flag,
};
use openflow::version::Version;

use super::groups::events_of;
use super::requests::PendingPacket;
use super::{FlowModCounts, Refusal, Session};
use crate::event::{Event, Requester};
use crate::switch::Switch;
use crate::table::PreparedFlowMod;

/// How long a bundle may lie untouched, unless the daemon says otherwise.
pub const BUNDLE_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A message of a bundle.
#[derive(Debug)]
enum Part {
    FlowMod(Box<PreparedFlowMod>),
    GroupMod(Box<GroupMod>, Version, Requester),
    PortMod(PortMod),
    PacketOut(Box<PacketOut>),
}

#[derive(Debug)]
struct Entry {
    part: Part,
    xid: u32,
    /// The message that added it, for errors.
    frame: Box<[u8]>,
}

#[derive(Debug)]
struct Bundle {
    flags: u16,
    closed: bool,
    used: Instant,
    /// Transaction id and bytes of the message that opened it.
    opened_by: (u32, Box<[u8]>),
    entries: Vec<Entry>,
}

/// What a commit does when all of its messages have succeeded.
#[derive(Debug, Default)]
struct Later {
    packets: Vec<PendingPacket>,
    port_mods: Vec<PortMod>,
    events: Vec<Event>,
    flow_mods: FlowModCounts,
}

/// The bundles of a session.
#[derive(Debug, Default)]
pub(super) struct Bundles(BTreeMap<u32, Bundle>);

impl Bundle {
    fn new(flags: u16, xid: u32, frame: &[u8], now: Instant) -> Bundle {
        let opened_by = (xid, frame.into());
        Bundle { flags, closed: false, used: now, opened_by, entries: Vec::new() }
    }
}

impl Bundles {
    /// Opens a bundle. One with this id that is there already is dropped, and the request refused.
    fn open(&mut self, id: u32, bundle: Bundle) -> Result<(), Refusal> {
        if self.0.remove(&id).is_some() {
            return Err(Refusal::BundleBadId);
        }
        self.0.insert(id, bundle);
        Ok(())
    }

    /// The bundle, if it is open and has these flags; otherwise it is dropped.
    fn get(&mut self, id: u32, flags: u16) -> Result<&mut Bundle, Refusal> {
        let b = self.0.get(&id).ok_or(Refusal::BundleBadId)?;
        let why = match (b.closed, b.flags == flags) {
            (true, _) => Refusal::BundleClosed,
            (_, false) => Refusal::BundleBadFlags,
            _ => return self.0.get_mut(&id).ok_or(Refusal::BundleBadId),
        };
        self.0.remove(&id);
        Err(why)
    }

    fn take(&mut self, id: u32) -> Result<Bundle, Refusal> {
        self.0.remove(&id).ok_or(Refusal::BundleBadId)
    }
}

impl Session {
    /// Does what a bundle's control message asks. `frame` is its bytes.
    pub(super) fn bundle_control(
        &mut self,
        sw: &mut Switch,
        now: Instant,
        m: &Message,
        c: BundleCtrl,
        frame: &[u8],
    ) -> Result<(), Refusal> {
        match c.kind {
            0 => self.bundles.open(c.id, Bundle::new(c.flags, m.xid, frame, now))?,
            2 => {
                let b = self.bundles.get(c.id, c.flags)?;
                (b.closed, b.used) = (true, now);
            }
            4 => {
                let bundle = self.bundles.take(c.id)?;
                if bundle.flags != c.flags {
                    return Err(Refusal::BundleBadFlags);
                }
                self.commit(sw, now, m, bundle)?;
            }
            6 => drop(self.bundles.take(c.id)?),
            _ => return Err(Refusal::BundleBadType),
        }
        self.reply(m, Body::BundleCtrl(BundleCtrl { id: c.id, kind: c.kind + 1, flags: 0 }));
        Ok(())
    }

    /// Adds a message to a bundle, which is opened if it is not there.
    pub(super) fn bundle_add(
        &mut self,
        now: Instant,
        m: &Message,
        add: &BundleAdd,
        frame: &[u8],
    ) -> Result<(), Refusal> {
        let part = match &add.message.body {
            Body::FlowMod(fm) => {
                Part::FlowMod(Box::new(PreparedFlowMod::new(fm, m.version, false)?))
            }
            Body::GroupMod(g) => {
                let by = Requester { session: self.id, xid: m.xid };
                Part::GroupMod(g.clone(), m.version, by)
            }
            Body::PortMod(pm) => Part::PortMod(*pm),
            Body::PacketOut(po) => Part::PacketOut(po.clone()),
            _ => return Err(Refusal::BundleUnsupported),
        };
        if !self.bundles.0.contains_key(&add.id) {
            self.bundles.open(add.id, Bundle::new(add.flags, m.xid, frame, now))?;
        }
        let b = self.bundles.get(add.id, add.flags)?;
        b.used = now;
        b.entries.push(Entry { part, xid: m.xid, frame: frame.into() });
        Ok(())
    }

    /// Applies a bundle.
    fn commit(
        &mut self,
        sw: &mut Switch,
        now: Instant,
        m: &Message,
        bundle: Bundle,
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge(self.bridge) else { return Ok(()) };
        let mark = br.tables.mark();
        let mut later = Later::default();
        for Entry { part, xid, frame } in bundle.entries {
            match self.apply_part(sw, now, part, bundle.flags, &mut later) {
                Ok(()) => {}
                Err(refusal) => {
                    if let Some(br) = sw.bridge_mut(self.bridge) {
                        br.tables.rollback(mark);
                    }
                    self.send_error(m.version, xid, refusal.error(), &frame);
                    return Err(Refusal::BundleFailed);
                }
            }
        }
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        br.events.extend(later.events);
        self.flow_mods += later.flow_mods;
        for pm in &later.port_mods {
            // It was checked, and the lock is held.
            let _ = br.port_mod(pm, Some(self.id));
        }
        let by = Requester { session: self.id, xid: m.xid };
        let changes = br.publish_changes(Some(by), now);
        self.tell_own(&changes, by);
        for packet in later.packets {
            packet.execute(sw, now);
        }
        Ok(())
    }

    /// Applies one message, in a way that can be undone.
    fn apply_part(
        &self,
        sw: &mut Switch,
        now: Instant,
        part: Part,
        flags: u16,
        later: &mut Later,
    ) -> Result<(), Refusal> {
        let Some(br) = sw.bridge_mut(self.bridge) else { return Ok(()) };
        match part {
            Part::GroupMod(group, version, by) => {
                let changes = br.tables.apply_group(&group, version, now)?;
                later.events.extend(events_of(&group, &changes, by));
            }
            Part::FlowMod(fm) => {
                let match_ = fm.rule.match_.expand();
                later.flow_mods.count(fm.command);
                br.tables.apply_prepared(*fm, &match_, now)?;
            }
            Part::PortMod(_) if flags & bundle_flag::ATOMIC != 0 => {
                // Devices cannot be set up and down at the moment the tables change.
                return Err(Refusal::BundleFailed);
            }
            Part::PortMod(pm) => match br.port(pm.port) {
                None => return Err(Refusal::PortModBadPort),
                Some(p) if p.spec.mac != pm.hw_addr => return Err(Refusal::PortModBadAddress),
                Some(_) => later.port_mods.push(pm),
            },
            Part::PacketOut(po) => {
                later.packets.push(self.translate_packet_out(sw, now, &po)?);
            }
        }
        Ok(())
    }

    /// Drops the bundles that lay untouched for `timeout`; the peer gets an error for each.
    pub fn expire_bundles(&mut self, now: Instant, timeout: Duration) {
        let Some(version) = self.version else { return };
        let old: Vec<u32> = self
            .bundles
            .0
            .iter()
            .filter(|(_, b)| now.since(b.used) >= timeout)
            .map(|b| *b.0)
            .collect();
        for id in old {
            if let Some(Bundle { opened_by: (xid, frame), .. }) = self.bundles.0.remove(&id) {
                self.send_error(version, xid, OfError::OFPBFC_TIMEOUT, &frame);
            }
        }
    }

    /// When some bundle's time is up if it is left untouched.
    pub fn next_bundle_timeout(&self, timeout: Duration) -> Option<Instant> {
        self.bundles.0.values().map(|b| b.used + timeout).min()
    }
}
