//! What is kept by zone: which connections there are, and how many there may be.
//!
//! Each shard links its connections by zone, the newest first ([`Zones`]), so that a zone is emptied
//! without a look at the others.
//!
//! Limits ([`ZoneLimits`]) are shared by the shards of a tracker. While a shard has them, each of
//! its connections is counted there as well, and a connection is only put in once it was counted:
//! no zone ever has more than its limit because two shards took the last place at once. A shard
//! that gets limits counts in what it holds; a tracker without limits pays nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;
use base::Zone;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::conns::Conns;
use crate::slab::NIL;

const N_ZONES: usize = 1 << 16;
const PAGE: usize = 256;

/// The connections of one zone, linked by their slots.
#[derive(Copy, Clone, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

const EMPTY: List = List { newest: NIL, oldest: NIL, len: 0 };

/// The connections of a shard by zone. Zones that were never used take no room.
///
/// The list of the zone that the last connection was put into is kept apart, for the next one's is mostly the same.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Zones {
    recent: List,
    recent_zone: Zone,
    pages: Box<[Option<Box<[List; PAGE]>>]>,
}

impl Zones {
    pub fn new() -> Zones {
        let mut pages = Vec::new();
        pages.resize_with(N_ZONES / PAGE, || None);
        Zones { recent: EMPTY, recent_zone: Zone(0), pages: pages.into() }
    }

    fn get(&self, zone: Zone) -> List {
        if zone == self.recent_zone {
            return self.recent;
        }
        let zone = usize::from(zone.0);
        self.pages[zone / PAGE].as_ref().map_or(EMPTY, |page| page[zone % PAGE])
    }

    /// The place of a list.
    fn place(&mut self, zone: Zone) -> &mut List {
        let zone = usize::from(zone.0);
        let page = self.pages[zone / PAGE].get_or_insert_with(|| Box::new([EMPTY; PAGE]));
        &mut page[zone % PAGE]
    }

    /// A list to be changed.
    fn list(&mut self, zone: Zone) -> &mut List {
        if zone == self.recent_zone { &mut self.recent } else { self.place(zone) }
    }

    /// Changes the zone whose list is kept apart.
    #[cold]
    fn turn_to(&mut self, zone: Zone) {
        *self.place(self.recent_zone) = self.recent;
        (self.recent, self.recent_zone) = (*self.place(zone), zone);
    }

    /// How many there are.
    pub fn len(&self, zone: Zone) -> u32 {
        self.get(zone).len
    }

    /// The one that is there longest.
    pub fn oldest(&self, zone: Zone) -> Option<u32> {
        Some(self.get(zone).oldest).filter(|slot| *slot != NIL)
    }

    /// Zones that have connections, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (Zone, u32)> {
        let recent = usize::from(self.recent_zone.0) / PAGE;
        let pages = self.pages.iter().enumerate();
        pages
            .filter(move |(i, page)| page.is_some() || *i == recent)
            .flat_map(|(i, _)| (i * PAGE..(i + 1) * PAGE).map(|zone| Zone(zone as u16)))
            .map(|zone| (zone, self.len(zone)))
            .filter(|(_, n)| *n > 0)
    }

    /// Puts a connection in.
    pub fn insert(&mut self, slab: &Conns, slot: u32) {
        let zone = slab.get(slot).key().zone();
        if zone != self.recent_zone {
            self.turn_to(zone);
        }
        let list = &mut self.recent;
        let next = list.newest;
        list.newest = slot;
        list.len += 1;
        if next == NIL {
            list.oldest = slot;
        } else {
            slab.get(next).zone_newer.set(slot);
        }
        let c = slab.get(slot);
        c.zone_newer.set(NIL);
        c.zone_older.set(next);
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slab: &Conns, slot: u32) {
        let c = slab.get(slot);
        let (newer, older) = (c.zone_newer.get(), c.zone_older.get());
        let list = self.list(c.key().zone());
        list.len -= 1;
        if newer == NIL {
            list.newest = older;
        } else {
            slab.get(newer).zone_older.set(older);
        }
        if older == NIL {
            list.oldest = newer;
        } else {
            slab.get(older).zone_newer.set(newer);
        }
    }
}

/// A zone without a limit of its own.
const NONE: u64 = u64::MAX;

/// How many connections zones may have.
#[derive(Debug)]
pub struct ZoneLimits {
    counts: Box<[AtomicU32]>,
    limits: Box<[AtomicU64]>,
    /// Of zones without one of their own.
    default: AtomicU64,
}

impl Default for ZoneLimits {
    fn default() -> Self {
        ZoneLimits::new()
    }
}

impl ZoneLimits {
    /// No limits.
    pub fn new() -> ZoneLimits {
        ZoneLimits {
            counts: (0..N_ZONES).map(|_| AtomicU32::new(0)).collect(),
            limits: (0..N_ZONES).map(|_| AtomicU64::new(NONE)).collect(),
            default: AtomicU64::new(NONE),
        }
    }

    /// Sets the limit of a zone, or lets the default hold there. What is over it stays.
    pub fn set(&self, zone: Zone, limit: Option<u32>) {
        self.limits[usize::from(zone.0)].store(limit.map_or(NONE, u64::from), Relaxed);
    }

    /// Sets the limit of all zones that have none of their own.
    pub fn set_default(&self, limit: Option<u32>) {
        self.default.store(limit.map_or(NONE, u64::from), Relaxed);
    }

    /// The zone's own limit.
    pub fn get(&self, zone: Zone) -> Option<u32> {
        // NONE does not fit.
        u32::try_from(self.limits[usize::from(zone.0)].load(Relaxed)).ok()
    }

    /// The limit of zones without one of their own.
    pub fn default_limit(&self) -> Option<u32> {
        u32::try_from(self.default.load(Relaxed)).ok()
    }

    /// Zones with a limit of their own.
    pub fn iter(&self) -> impl Iterator<Item = (Zone, u32)> {
        (0..=u16::MAX).filter_map(|z| Some((Zone(z), self.get(Zone(z))?)))
    }

    /// Whether a zone may have more connections, as it looks now.
    pub(crate) fn has_room(&self, zone: Zone) -> bool {
        u64::from(self.counts[usize::from(zone.0)].load(Relaxed)) < self.limit(zone)
    }

    /// Counts a connection in, if the zone may have more.
    pub(crate) fn admit(&self, zone: Zone) -> bool {
        let limit = self.limit(zone);
        let count = &self.counts[usize::from(zone.0)];
        count.fetch_update(Relaxed, Relaxed, |n| (u64::from(n) < limit).then_some(n + 1)).is_ok()
    }

    /// Counts connections in that are there already.
    pub(crate) fn count_in(&self, zone: Zone, n: u32) {
        self.counts[usize::from(zone.0)].fetch_add(n, Relaxed);
    }

    /// Counts connections out.
    pub(crate) fn count_out(&self, zone: Zone, n: u32) {
        self.counts[usize::from(zone.0)].fetch_sub(n, Relaxed);
    }

    fn limit(&self, zone: Zone) -> u64 {
        match self.limits[usize::from(zone.0)].load(Relaxed) {
            NONE => self.default.load(Relaxed),
            limit => limit,
        }
    }
}
