//! MAC learning: behind which port of a bridge an address was last seen, per VLAN.
//!
//! How: a hash table by (VLAN, address) over slots that are linked into one list per port, least
//! recently seen first. A full table takes the place of the least recently seen address of the port
//! that holds most, so a port that floods the table with made-up addresses loses its own first
//! (`ovs-vswitchd.conf.db(5)`, Bridge `other_config:mac-table-size`).
//!
//! Looking up is `&self` and changes nothing, so any number of translations may do it at once;
//! whether a packet teaches something is asked by [`MacTable::would_change`], and only then
//! [`MacTable::learn`] needs the table for itself. An address that is already known is refreshed
//! at most once a second.
//!
//! Packets that a cache forwards do not come by here. A cached translation holds the entry's
//! [`Touch`] and says through it that the address lives, without any lock; the table looks there before it
//! lets an entry go.
//!
//! Invariants: `by_address`, the port lists and `usage` always describe the same entries; static
//! entries are in no list, so neither age nor eviction reaches them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::{Duration, Instant, MacAddr, OfPort};
use hashbrown::HashMap;

/// Seconds that an address stays without being seen, unless configured
/// (`other_config:mac-aging-time`).
pub const DEFAULT_IDLE: Duration = Duration::from_secs(300);
/// Addresses kept, unless configured (`other_config:mac-table-size`).
pub const DEFAULT_MAX: usize = 8192;
/// For how long after a gratuitous ARP on a port that is no bond an address is not learned from
/// one on a bond: it would be our own, reflected.
pub const GRAT_ARP_LOCK: Duration = Duration::from_secs(5);

const NIL: u32 = u32::MAX;

/// An address in a VLAN; 0 for untagged.
type Address = (u16, MacAddr);

/// When an address was last seen. Shared with cached translations, which say so without the table.
#[derive(Debug)]
pub struct Touch(AtomicU64);

impl Touch {
    fn new(t: Instant) -> Arc<Touch> {
        Arc::new(Touch(AtomicU64::new(t.as_nanos())))
    }

    /// A packet from the address came at `t`.
    pub fn touch(&self, t: Instant) {
        self.0.fetch_max(t.as_nanos(), Relaxed);
    }

    fn get(&self) -> Instant {
        Instant::from_nanos(self.0.load(Relaxed))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    address: Address,
    port: OfPort,
    /// When it was last seen; static entries keep the time of their making.
    seen: Arc<Touch>,
    /// No learning from reflected gratuitous ARP before.
    grat_arp_lock: Instant,
    is_static: bool,
    /// `seen` when it was put at the end of its port's list.
    linked: Instant,
    /// Grows with each time that some entry is put at an end.
    order: u64,
    prev: u32,
    next: u32,
}

#[derive(Copy, Clone, Debug)]
struct PortList {
    head: u32,
    tail: u32,
    len: u32,
}

/// What a packet says about its source address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// VLAN, 0 for untagged.
    pub vlan: u16,
    /// Source address.
    pub mac: MacAddr,
    /// Port it came in by.
    pub port: OfPort,
    /// The packet is a gratuitous ARP.
    pub gratuitous_arp: bool,
    /// The port is a bond.
    pub bond: bool,
}

/// A row of `fdb/show`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Port.
    pub port: OfPort,
    /// VLAN, 0 for untagged.
    pub vlan: u16,
    /// Address.
    pub mac: MacAddr,
    /// Time since it was last seen; `None` for a static entry.
    pub age: Option<Duration>,
}

/// Counters of `fdb/stats-show`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Addresses that were learned.
    pub n_learned: u64,
    /// Addresses that aged out.
    pub n_expired: u64,
    /// Addresses that had to make room.
    pub n_evicted: u64,
    /// Addresses that changed their port.
    pub n_moved: u64,
    /// Packets from a static address that came by another port.
    pub n_static_elsewhere: u64,
}

impl core::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.n_learned += other.n_learned;
        self.n_expired += other.n_expired;
        self.n_evicted += other.n_evicted;
        self.n_moved += other.n_moved;
        self.n_static_elsewhere += other.n_static_elsewhere;
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct MacTable {
    idle: Duration,
    max: usize,
    by_address: HashMap<Address, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    ports: BTreeMap<OfPort, PortList>,
    /// (entries, port), to find the fullest port.
    usage: BTreeSet<(u32, OfPort)>,
    n_static: usize,
    /// `order` of the entry that was put at an end last.
    order: u64,
    /// Counters of its whole life.
    stats: Stats,
    /// What they were when they were cleared.
    cleared: Stats,
    n_static_elsewhere: Arc<AtomicU64>,
}

impl Default for MacTable {
    fn default() -> Self {
        Self::new(DEFAULT_IDLE, DEFAULT_MAX)
    }
}

impl MacTable {
    /// An empty table. `idle` is held to 15 s to 3600 s and `max` to 10 to 1,000,000, as the database's
    /// columns are.
    pub fn new(idle: Duration, max: usize) -> Self {
        let mut t = MacTable {
            idle,
            max,
            by_address: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            ports: BTreeMap::new(),
            usage: BTreeSet::new(),
            n_static: 0,
            order: 0,
            stats: Stats::default(),
            cleared: Stats::default(),
            n_static_elsewhere: Arc::default(),
        };
        t.configure(idle, max);
        t
    }

    /// Changes the limits. Entries beyond the new size go at the next call of [`MacTable::learn`].
    pub fn configure(&mut self, idle: Duration, max: usize) {
        self.idle = idle.clamp(Duration::from_secs(15), Duration::from_secs(3600));
        self.max = max.clamp(10, 1_000_000);
    }

    /// Entries, static ones included.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Most entries it holds.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Static entries.
    pub fn n_static(&self) -> usize {
        self.n_static
    }

    /// The counters since they were cleared.
    pub fn stats(&self) -> Stats {
        let (all, before) = (self.totals(), &self.cleared);
        Stats {
            n_learned: all.n_learned - before.n_learned,
            n_expired: all.n_expired - before.n_expired,
            n_evicted: all.n_evicted - before.n_evicted,
            n_moved: all.n_moved - before.n_moved,
            n_static_elsewhere: all.n_static_elsewhere - before.n_static_elsewhere,
        }
    }

    /// The counters since the table was made.
    pub fn totals(&self) -> Stats {
        Stats { n_static_elsewhere: self.n_static_elsewhere.load(Relaxed), ..self.stats }
    }

    /// Forgets what was counted.
    pub fn clear_stats(&mut self) {
        self.cleared = self.totals();
    }

    fn entry(&self, vlan: u16, mac: MacAddr) -> Option<&Entry> {
        self.by_address.get(&(vlan, mac)).map(|&i| &self.entries[i as usize])
    }

    /// The port that `mac` is behind.
    pub fn lookup(&self, vlan: u16, mac: MacAddr, now: Instant) -> Option<OfPort> {
        let e = self.entry(vlan, mac)?;
        (e.is_static || now < e.seen.get() + self.idle).then_some(e.port)
    }

    /// The cell that keeps the entry of an address alive, if what is known of it agrees with a
    /// packet that came in by `port`.
    pub fn touch_cell(&self, vlan: u16, mac: MacAddr, port: OfPort) -> Option<Arc<Touch>> {
        let e = self.entry(vlan, mac)?;
        (!e.is_static && e.port == port).then(|| e.seen.clone())
    }

    /// Counts a packet from a static address if it came by another port.
    pub fn note_static(&self, s: &Sighting) {
        if self.entry(s.vlan, s.mac).is_some_and(|e| e.is_static && e.port != s.port) {
            self.n_static_elsewhere.fetch_add(1, Relaxed);
        }
    }

    /// Whether [`MacTable::learn`] would do anything.
    pub fn would_change(&self, s: &Sighting, now: Instant) -> bool {
        if s.mac.is_multicast() {
            return false;
        }
        let Some(e) = self.entry(s.vlan, s.mac) else { return true };
        if e.is_static {
            return false;
        }
        if now.since(e.seen.get()) >= Duration::from_secs(1) {
            return true;
        }
        if s.gratuitous_arp {
            if !s.bond {
                return true; // the lock is to be set
            }
            if now < e.grat_arp_lock {
                return false;
            }
        }
        e.port != s.port
    }

    /// Learns from a packet. Returns whether lookups now answer differently, so that what was
    /// cached from them is stale.
    pub fn learn(&mut self, s: &Sighting, now: Instant) -> bool {
        if !self.would_change(s, now) {
            return false;
        }
        let known = self.by_address.get(&(s.vlan, s.mac)).copied();
        let i = match known {
            Some(i) => i,
            None => {
                self.make_room();
                self.stats.n_learned += 1;
                self.add(s.vlan, s.mac, s.port, now, false)
            }
        };
        let e = &mut self.entries[i as usize];
        let stale = now >= e.seen.get() + self.idle;
        e.seen.touch(now);
        if s.gratuitous_arp {
            if !s.bond {
                e.grat_arp_lock = now + GRAT_ARP_LOCK;
            } else if now < e.grat_arp_lock {
                self.touch(i);
                return stale;
            }
        }
        let moved = e.port != s.port;
        if moved {
            self.stats.n_moved += 1;
        }
        self.unlink(i);
        self.entries[i as usize].port = s.port;
        self.link(i);
        moved || stale || known.is_none()
    }

    /// Adds or replaces an entry that neither ages nor moves (`fdb/add`). Returns whether lookups
    /// now answer differently.
    pub fn add_static(&mut self, vlan: u16, mac: MacAddr, port: OfPort, now: Instant) -> bool {
        if self.entry(vlan, mac).is_some_and(|e| e.is_static && e.port == port) {
            return false;
        }
        self.remove(vlan, mac);
        self.make_room();
        self.add(vlan, mac, port, now, true);
        true
    }

    /// Forgets one entry (`fdb/del`). Returns whether there was one.
    pub fn remove(&mut self, vlan: u16, mac: MacAddr) -> bool {
        match self.by_address.get(&(vlan, mac)) {
            Some(&i) => {
                self.drop_entry(i);
                true
            }
            None => false,
        }
    }

    /// Forgets all entries that were learned. Static ones stay.
    pub fn flush(&mut self) {
        self.retain(|_| false);
    }

    /// Forgets all entries of a port that goes away, static ones too.
    /// Returns their VLANs and addresses.
    pub fn flush_port(&mut self, port: OfPort) -> Vec<(u16, MacAddr)> {
        let gone: Vec<u32> = self
            .by_address
            .values()
            .copied()
            .filter(|&i| self.entries[i as usize].port == port)
            .collect();
        let addresses = gone.iter().map(|&i| self.entries[i as usize].address).collect();
        for i in gone {
            self.drop_entry(i);
        }
        addresses
    }

    /// Forgets an address if it was learned. Returns whether it was.
    pub fn forget(&mut self, vlan: u16, mac: MacAddr) -> bool {
        self.entry(vlan, mac).is_some_and(|e| !e.is_static) && self.remove(vlan, mac)
    }

    /// Forgets what was learned about a VLAN.
    pub fn flush_vlan(&mut self, vlan: u16) {
        self.retain(|e| e.address.0 != vlan);
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        let gone: Vec<u32> = self
            .by_address
            .values()
            .copied()
            .filter(|&i| {
                let e = &self.entries[i as usize];
                !e.is_static && !keep(e)
            })
            .collect();
        for i in gone {
            self.drop_entry(i);
        }
    }

    /// Drops what aged out. Returns whether anything did.
    pub fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        let ports: Vec<OfPort> = self.ports.keys().copied().collect();
        for port in ports {
            while let Some(list) = self.ports.get(&port) {
                let head = list.head;
                if now >= self.entries[head as usize].seen.get() + self.idle {
                    self.drop_entry(head);
                    self.stats.n_expired += 1;
                    any = true;
                } else if self.touched_since_linked(head) {
                    self.touch(head);
                } else {
                    break;
                }
            }
        }
        any
    }

    /// When [`MacTable::expire`] has something to do next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.ports.values().map(|l| self.entries[l.head as usize].linked + self.idle).min()
    }

    /// The rows of `fdb/show`, longest unseen first; static entries stand where they were added.
    pub fn rows(&self, now: Instant) -> impl Iterator<Item = Row> + '_ {
        let mut all: Vec<_> =
            self.by_address.values().map(|&i| &self.entries[i as usize]).collect();
        all.sort_by_key(|e| (if e.is_static { e.linked } else { e.seen.get() }, e.order));
        all.into_iter().map(move |e| Row {
            port: e.port,
            vlan: e.address.0,
            mac: e.address.1,
            age: (!e.is_static).then(|| now.since(e.seen.get())),
        })
    }

    fn make_room(&mut self) {
        while self.by_address.len() >= self.max {
            let Some(&(_, port)) = self.usage.last() else { return };
            let Some(list) = self.ports.get(&port) else { return };
            let (head, len) = (list.head, list.len);
            // Give those that cached translations keep alive their true place first.
            for _ in 0..len {
                let Some(list) = self.ports.get(&port) else { return };
                let head = list.head;
                if !self.touched_since_linked(head) {
                    break;
                }
                self.touch(head);
            }
            let head = self.ports.get(&port).map_or(head, |l| l.head);
            self.drop_entry(head);
            self.stats.n_evicted += 1;
        }
    }

    fn add(&mut self, vlan: u16, mac: MacAddr, port: OfPort, now: Instant, fixed: bool) -> u32 {
        self.order += 1;
        let e = Entry {
            address: (vlan, mac),
            port,
            seen: Touch::new(now),
            grat_arp_lock: Instant::ZERO,
            is_static: fixed,
            linked: now,
            order: self.order,
            prev: NIL,
            next: NIL,
        };
        let i = match self.free.pop() {
            Some(i) => {
                self.entries[i as usize] = e;
                i
            }
            None => {
                self.entries.push(e);
                (self.entries.len() - 1) as u32
            }
        };
        self.by_address.insert((vlan, mac), i);
        if fixed {
            self.n_static += 1;
        } else {
            self.link(i);
        }
        i
    }

    fn drop_entry(&mut self, i: u32) {
        let e = &self.entries[i as usize];
        let (address, is_static) = (e.address, e.is_static);
        if is_static {
            self.n_static -= 1;
        } else {
            self.unlink(i);
        }
        self.by_address.remove(&address);
        self.free.push(i);
    }

    /// A cached translation has seen the address after its entry got its place.
    fn touched_since_linked(&self, i: u32) -> bool {
        let e = &self.entries[i as usize];
        e.seen.get() > e.linked
    }

    /// Moves an entry to the end of its port's list.
    fn touch(&mut self, i: u32) {
        self.unlink(i);
        self.link(i);
    }

    fn link(&mut self, i: u32) {
        let port = self.entries[i as usize].port;
        let list = self.ports.entry(port).or_insert(PortList { head: i, tail: NIL, len: 0 });
        let tail = core::mem::replace(&mut list.tail, i);
        self.usage.remove(&(list.len, port));
        list.len += 1;
        self.usage.insert((list.len, port));
        self.order += 1;
        let e = &mut self.entries[i as usize];
        (e.prev, e.next, e.linked, e.order) = (tail, NIL, e.seen.get(), self.order);
        if tail != NIL {
            self.entries[tail as usize].next = i;
        }
    }

    fn unlink(&mut self, i: u32) {
        let Entry { port, prev, next, .. } = self.entries[i as usize];
        if prev != NIL {
            self.entries[prev as usize].next = next;
        }
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        let Some(list) = self.ports.get_mut(&port) else { return };
        if list.head == i {
            list.head = next;
        }
        if list.tail == i {
            list.tail = prev;
        }
        self.usage.remove(&(list.len, port));
        list.len -= 1;
        if list.len == 0 {
            self.ports.remove(&port);
        } else {
            let len = list.len;
            self.usage.insert((len, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(0x5254_0000_0000 | n)
    }

    fn seen(n: u64, port: u16) -> Sighting {
        Sighting { vlan: 0, mac: mac(n), port: OfPort(port), gratuitous_arp: false, bond: false }
    }

    #[test]
    fn learns_refreshes_moves_and_forgets() {
        let mut t = MacTable::default();
        assert!(t.learn(&seen(1, 2), at(0)));
        assert_eq!(t.lookup(0, mac(1), at(0)), Some(OfPort(2)));
        assert_eq!(t.lookup(7, mac(1), at(0)), None, "another VLAN");
        assert!(!t.would_change(&seen(1, 2), at(0)));
        assert!(t.would_change(&seen(1, 2), at(1)), "a second later it is refreshed");
        assert!(!t.learn(&seen(1, 2), at(200)), "lookups answer as before");
        assert!(t.learn(&seen(1, 3), at(200)));
        assert_eq!(t.lookup(0, mac(1), at(499)), Some(OfPort(3)));
        assert_eq!(t.lookup(0, mac(1), at(500)), None);
        assert_eq!(t.next_timeout(), Some(at(500)));
        assert!(!t.expire(at(499)));
        assert!(t.expire(at(500)));
        let want =
            Stats { n_learned: 1, n_expired: 1, n_evicted: 0, n_moved: 1, n_static_elsewhere: 0 };
        assert_eq!(t.stats(), want);
        assert_eq!((t.len(), t.next_timeout()), (0, None));
    }

    #[test]
    fn group_addresses_teach_nothing() {
        let mut t = MacTable::default();
        let s = Sighting { mac: MacAddr::BROADCAST, ..seen(0, 1) };
        assert!(!t.learn(&s, at(0)) && t.is_empty());
    }

    #[test]
    fn static_entries_stay_and_never_move() {
        let mut t = MacTable::default();
        assert!(t.add_static(0, mac(1), OfPort(1), at(0)));
        assert!(!t.learn(&seen(1, 2), at(10)));
        t.expire(at(10_000));
        t.flush();
        assert_eq!(t.lookup(0, mac(1), at(10_000)), Some(OfPort(1)));
        assert_eq!((t.n_static(), t.rows(at(0)).next().unwrap().age), (1, None));
        assert!(t.remove(0, mac(1)));
        assert_eq!((t.n_static(), t.len()), (0, 0));
    }

    #[test]
    fn a_full_table_takes_from_the_fullest_port() {
        let mut t = MacTable::new(DEFAULT_IDLE, 10);
        t.learn(&seen(100, 1), at(0));
        for n in 0..50 {
            t.learn(&seen(n, 2), at(1 + n));
        }
        assert_eq!(t.lookup(0, mac(100), at(60)), Some(OfPort(1)), "the quiet port keeps its own");
        assert_eq!((t.len(), t.stats().n_evicted), (10, 41));
        assert_eq!(t.lookup(0, mac(40), at(60)), None);
        assert_eq!(t.lookup(0, mac(41), at(60)), Some(OfPort(2)));
    }

    #[test]
    fn gratuitous_arp_locks_out_its_reflection_from_a_bond() {
        let mut t = MacTable::default();
        let plain = Sighting { gratuitous_arp: true, ..seen(1, 1) };
        let reflected = Sighting { gratuitous_arp: true, bond: true, ..seen(1, 9) };
        t.learn(&plain, at(0));
        assert!(!t.learn(&reflected, at(2)));
        assert_eq!(t.lookup(0, mac(1), at(2)), Some(OfPort(1)));
        assert!(t.learn(&reflected, at(5)), "the lock has ended");
        assert_eq!(t.lookup(0, mac(1), at(5)), Some(OfPort(9)));
    }

    #[test]
    fn packets_that_a_cache_forwards_keep_an_address_alive() {
        let mut t = MacTable::new(DEFAULT_IDLE, 10);
        for n in 0..10 {
            t.learn(&seen(n, 1), at(0));
        }
        let cell = t.touch_cell(0, mac(0), OfPort(1)).unwrap();
        assert!(t.touch_cell(0, mac(0), OfPort(2)).is_none());
        cell.touch(at(250));
        assert_eq!(t.lookup(0, mac(0), at(549)), Some(OfPort(1)));
        assert!(!t.would_change(&seen(0, 1), at(250)));
        t.learn(&seen(77, 1), at(260));
        assert_eq!(t.lookup(0, mac(1), at(260)), None, "the oldest made room");
        assert!(t.lookup(0, mac(0), at(260)).is_some());
        t.expire(at(400));
        assert_eq!((t.len(), t.next_timeout()), (2, Some(at(550))));
        t.expire(at(550));
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn a_vanished_port_takes_its_entries_along() {
        let mut t = MacTable::default();
        t.learn(&seen(1, 1), at(0));
        t.learn(&seen(2, 2), at(0));
        t.add_static(5, mac(3), OfPort(1), at(0));
        let gone = t.flush_port(OfPort(1));
        assert!(!gone.is_empty() && gone.iter().all(|(vlan, mac)| t.entry(*vlan, *mac).is_none()));
        assert_eq!(t.len(), 1);
        assert_eq!(t.lookup(0, mac(2), at(0)), Some(OfPort(2)));
    }

    proptest! {
        /// Random traffic against a plain list of (address, port, last seen).
        #[test]
        fn agrees_with_a_list(ops in prop::collection::vec((0u64..30, 1u16..4, 0u8..20), 0..300)) {
            let mut t = MacTable::new(Duration::from_secs(15), 10);
            let mut list: Vec<(u64, u16, u64)> = Vec::new();
            for (i, (n, port, op)) in ops.into_iter().enumerate() {
                let now = i as u64;
                match op {
                    0 => {
                        t.flush_port(OfPort(port));
                        list.retain(|e| e.1 != port);
                    }
                    1 => {
                        t.expire(at(now));
                        list.retain(|e| now < e.2 + 15);
                    }
                    _ => {
                        t.learn(&seen(n, port), at(now));
                        if !list.iter().any(|e| e.0 == n) && list.len() == 10 {
                            let count = |p: u16| list.iter().filter(|e| e.1 == p).count();
                            let full = (1..4).max_by_key(|&p| (count(p), p)).unwrap();
                            let at = list.iter().position(|e| e.1 == full).unwrap();
                            list.remove(at);
                        }
                        list.retain(|e| e.0 != n);
                        list.push((n, port, now));
                    }
                }
                prop_assert_eq!(t.len(), list.len());
                for &(n, port, seen) in &list {
                    let want = (now < seen + 15).then_some(OfPort(port));
                    prop_assert_eq!(t.lookup(0, mac(n), at(now)), want);
                }
                let oldest = list.iter().map(|e| at(e.2 + 15)).min();
                prop_assert_eq!(t.next_timeout(), oldest);
                prop_assert_eq!(t.rows(at(now)).count(), list.len());
            }
        }
    }
}
