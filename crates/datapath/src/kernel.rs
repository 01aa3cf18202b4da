//! What of the connection cache the kernel has as well.
//!
//! A worker that serves packets of a connection from its cache [offers](Kernel::offer) the connection now and then: one
//! packet of some dozens, so that short connections are not worth an entry and long ones soon have one. What can be
//! offered goes by a [`Path`] that sends to one port and nothing else, after it tracked one connection. The
//! worker lets the entry serve when the queue that the packets come by was empty ([`Offers`]), so that packets do not
//! overtake those that wait there.
//!
//! From then on the kernel counts, and [`Kernel::collect`] brings it home: to the flows of the path, to the ports, to
//! the tracker. Whoever wants exact figures collects first. An entry whose path has a dead flow, whose connection is gone
//! or that nobody uses is retired, collected once more when no program can be at it, and used again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::{DpPort, Duration, Instant};
use conntrack::{ConnId, Shards};
use ebpf::{Counted, Entry, KernelPath, Key, Target, Terms};
use netdev::{Port, PortState, Way};
use packet::header::{ETH_LEN, VLAN_LEN};
use parking_lot::Mutex;

use crate::conns::{Head, Path};
use crate::ct::CtTable;
use crate::stats::WorkerStats;
use crate::worker::Clock;

/// One packet of so many that the cache serves is offered.
const OFFER_ONE_OF: u32 = 32;

/// An entry that served nothing for so long is retired.
const IDLE: Duration = Duration::from_secs(10);

/// For so long after it was retired a program may be at an entry: many times longer than one runs.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Rounds after which an entry serves even if the queue never was empty: more packets than wait in a ring.
const PATIENCE: u32 = 64;

/// How much the kernel may do.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelMode {
    /// Nothing.
    Off,
    /// Send packets out by devices, through their queueing disciplines and past whoever listens there.
    Device,
    /// Where it can, hand packets to the other end of a veth.
    #[default]
    Peer,
}

/// A port that the kernel sends to.
#[derive(Clone, Debug)]
struct Reach {
    ifindex: u32,
    state: Arc<PortState>,
}

impl Reach {
    /// Where packets to an Ethernet address go. The other end takes what goes right there for its own, so its address has
    /// to be `heard`.
    fn target(&self, mode: KernelMode, heard: bool) -> Option<Target> {
        match (self.state.bypass()?, mode) {
            (Way::Nowhere, _) => None,
            (Way::Peer, KernelMode::Peer) if heard => Some(Target::Peer(self.ifindex)),
            _ => Some(Target::Device(self.ifindex)),
        }
    }

    /// The longest frame with so many tags that goes out whole.
    fn max_len(&self, n_tags: usize) -> u32 {
        match self.state.mtu() {
            0 => u32::MAX,
            mtu => mtu.saturating_add((ETH_LEN + n_tags * VLAN_LEN) as u32),
        }
    }
}

/// An entry in use.
#[derive(Debug)]
struct Served {
    entry: &'static Entry,
    path: Arc<Path>,
    conn: ConnId,
    ports: [Reach; 2],
    n_tags: usize,
    /// What was collected of it.
    counted: Counted,
    since: Instant,
}

/// How much is, or was, in the kernel.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// How much it may do. Nothing if time does not go here as it goes in the kernel (`time/stop`).
    pub mode: KernelMode,
    /// Entries: directions of connections that the kernel forwards.
    pub entries: u64,
    /// Most entries.
    pub max_entries: u64,
    /// Entries that were made.
    pub made: u64,
    /// Offers that found no room.
    pub no_room: u64,
    /// Packets that the kernel forwarded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Table {
    served: HashMap<Key, Served>,
    /// By which devices frames of which Ethernet addresses have come.
    heard: HashSet<(u32, [u8; 6])>,
    retired: Vec<(std::time::Instant, Served)>,
    free: Vec<&'static Entry>,
    stats: KernelStats,
    mode: KernelMode,
    /// When it was last collected, and how long that took.
    collected: Option<(std::time::Instant, Duration)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kernel {
    path: Arc<KernelPath>,
    ports: Mutex<HashMap<DpPort, Reach>>,
    table: Mutex<Table>,
}

/// What a worker offered and the kernel does not serve yet.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    made: ArrayVec<Offer, 8>,
    countdown: u32,
}

#[derive(Debug)]
struct Offer {
    port: DpPort,
    entry: &'static Entry,
    generation: u64,
    rounds: u32,
}

impl Offers {
    /// Whether one more packet is to be offered.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        if self.countdown > 0 {
            self.countdown -= 1;
            return false;
        }
        self.countdown = OFFER_ONE_OF;
        !self.made.is_full()
    }

    /// After a batch of a port was sent: its entries serve from now on if nothing waits there.
    #[inline]
    pub fn settle(&mut self, port: DpPort, waits: impl FnOnce() -> bool) {
        if self.made.is_empty() {
            return;
        }
        let has_more = waits();
        self.made.retain(|o| {
            if o.port != port {
                return true;
            }
            o.rounds += 1;
            if has_more && o.rounds < PATIENCE {
                return true;
            }
            o.entry.serve(o.generation);
            false
        });
    }

    /// No batch of a port, or not all that wait there, will come by this worker any more: its entries may be offered again
    /// where they do.
    pub fn forget(&mut self, port: DpPort) {
        self.made.retain(|o| o.port != port);
    }
}

/// What is offered.
pub(crate) struct Candidate<'a> {
    pub head: &'a Head,
    pub path: &'a Arc<Path>,
    pub conn: ConnId,
    pub in_port: DpPort,
    pub generation: u64,
    pub now: Instant,
}

impl Kernel {
    pub fn new(path: Arc<KernelPath>) -> Kernel {
        let stats = KernelStats { max_entries: path.max_entries().into(), ..Default::default() };
        Kernel {
            path,
            ports: Mutex::default(),
            table: Mutex::new(Table { stats, ..Table::default() }),
        }
    }

    pub fn add_port(&self, number: DpPort, port: &dyn Port) {
        if let (Some(_), Some(ifindex)) = (port.state().bypass(), port.ifindex()) {
            let state = Arc::clone(port.state());
            self.ports.lock().insert(number, Reach { ifindex, state });
        }
    }

    /// No packet goes to the port any more.
    pub fn remove_port(&self, number: DpPort) {
        let Some(gone) = self.ports.lock().remove(&number) else { return };
        let mut table = self.table.lock();
        let of_it = |s: &Served| s.ports.iter().any(|p| p.ifindex == gone.ifindex);
        let keys: Vec<Key> =
            table.served.iter().filter(|(_, s)| of_it(s)).map(|(k, _)| *k).collect();
        keys.iter().for_each(|k| self.retire(&mut table, k));
        table.heard.retain(|(ifindex, _)| *ifindex != gone.ifindex);
    }

    /// Makes an entry of what a worker serves from its cache, or lets the one there is serve again.
    #[cold]
    pub fn offer(&self, ct: &CtTable, c: &Candidate<'_>, offers: &mut Offers) {
        if !self.path.is_enabled() || offers.made.is_full() {
            return;
        }
        let Some((out, mark_mask)) = c.path.for_kernel() else { return };
        let reach = |port| self.ports.lock().get(&port).cloned();
        let (Some(from), Some(to)) = (reach(c.in_port), reach(out)) else { return };
        let key = c.head.kernel_key(from.ifindex);
        // Whoever has it may be at it for long; another packet will do.
        let Some(mut table) = self.table.try_lock() else { return };
        let [dst, src] = key.eth();
        if table.heard.len() < table.stats.max_entries as usize {
            table.heard.insert((from.ifindex, src));
        }
        if let Some(served) = table.served.get(&key) {
            if Arc::ptr_eq(&served.path, c.path) && served.conn == c.conn {
                let entry = served.entry;
                if entry.serves() < c.generation {
                    offers.add(c, entry);
                }
                return;
            }
            self.retire(&mut table, &key);
        }
        let heard = table.heard.contains(&(to.ifindex, dst));
        let Some(target) = to.target(table.mode, heard) else { return };
        let known = c.path.steps[0].known(&[c.conn; 2]);
        let Some(lent) = ct.lookahead(c.conn.shard()).and_then(|a| a.lend(known)) else { return };
        if !c.path.steps.iter().all(|s| s.accepts(&lent.standing, false)) {
            return;
        }
        let n = table.served.len() + table.retired.len();
        if n >= table.stats.max_entries as usize {
            table.stats.no_room += 1;
            return;
        }
        let Some(entry) = table.free.pop().or_else(|| self.path.entry()) else {
            table.stats.no_room += 1;
            return;
        };
        let n_tags = usize::from(c.head.is_tagged());
        entry.clear();
        entry.set(&Terms {
            lent,
            mark_mask,
            varies: c.head.varying(c.path),
            max_len: to.max_len(n_tags),
            target,
        });
        if self.path.put(&key, entry).is_err() {
            table.stats.no_room += 1;
            table.free.push(entry);
            return;
        }
        table.stats.made += 1;
        let (path, counted) = (Arc::clone(c.path), Counted::default());
        let ports = [from, to];
        let served = Served { entry, path, conn: c.conn, ports, n_tags, counted, since: c.now };
        table.served.insert(key, served);
        offers.add(c, entry);
    }

    fn retire(&self, table: &mut Table, key: &Key) {
        let Some(served) = table.served.remove(key) else { return };
        served.entry.retire();
        self.path.take(key);
        table.retired.push((std::time::Instant::now(), served));
    }

    /// The same, unless it was done so lately that whoever asks again and again would do nothing else.
    pub fn collect_now_and_then(&self, clock: &Clock, ct: &CtTable, stats: &WorkerStats) {
        let lately = |(when, took): (std::time::Instant, Duration)| when.elapsed() < 4 * took;
        if !self.table.lock().collected.is_some_and(lately) {
            self.collect(clock, ct, stats);
        }
    }

    /// Brings home what the kernel counted, and retires what is of no use any more.
    pub fn collect(&self, clock: &Clock, ct: &CtTable, stats: &WorkerStats) {
        let mut table = self.table.lock();
        self.path.enable(table.mode != KernelMode::Off && self.path.is_in_time(|| clock()));
        let now = clock();
        let began = std::time::Instant::now();
        let mut sum = Sum::default();
        let mut over = Vec::new();
        let Table { served: all, heard, mode, .. } = &mut *table;
        for (key, served) in all {
            sum.add(served);
            // All of it may have changed.
            let to = &served.ports[1];
            let target = to.target(*mode, heard.contains(&(to.ifindex, key.eth()[0])));
            if let Some(target) = target {
                served.entry.lead(target, to.max_len(served.n_tags));
            }
            let gone =
                || ct.lookahead(served.conn.shard()).is_none_or(|a| !a.is_there(served.conn));
            let last = served.since.max(served.counted.used);
            if target.is_none() || served.path.is_dead() || now.since(last) > IDLE || gone() {
                over.push(*key);
            }
        }
        over.iter().for_each(|key| self.retire(&mut table, key));
        let Table { retired, free, stats: totals, .. } = &mut *table;
        retired.retain_mut(|(when, served)| {
            sum.add(served);
            let over = when.elapsed() > GRACE;
            if over {
                free.push(served.entry);
            }
            !over
        });
        totals.packets += sum.packets;
        totals.bytes += sum.bytes;
        stats.packets.add(sum.packets);
        stats.sent.add(sum.packets);
        stats.hit_kernel.add(sum.hits);
        stats.recirculated.add(sum.hits - sum.packets);
        if sum.packets > 0 {
            ct.count_found(sum.packets);
        }
        table.collected = Some((std::time::Instant::now(), began.elapsed()));
    }

    /// From now on the kernel may do so much. Returns whether that is something else.
    pub fn set_mode(&self, mode: KernelMode) -> bool {
        std::mem::replace(&mut self.table.lock().mode, mode) != mode
    }

    pub fn stats(&self) -> KernelStats {
        let table = self.table.lock();
        let mode = if self.path.is_enabled() { table.mode } else { KernelMode::Off };
        KernelStats { mode, entries: table.served.len() as u64, ..table.stats }
    }
}

impl Offers {
    fn add(&mut self, c: &Candidate<'_>, entry: &'static Entry) {
        if self.made.iter().any(|o| std::ptr::eq(o.entry, entry)) {
            return;
        }
        let (port, generation) = (c.in_port, c.generation);
        // There was room when it was offered.
        let _ = self.made.try_push(Offer { port, entry, generation, rounds: 0 });
    }
}

/// What was brought home.
#[derive(Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    /// Flows that they hit.
    hits: u64,
}

impl Sum {
    /// Credits what an entry counted since the last time.
    fn add(&mut self, served: &mut Served) {
        let (old, new) = (served.counted, served.entry.counted());
        let (packets, bytes) = (new.packets - old.packets, new.bytes - old.bytes);
        if packets == 0 {
            return;
        }
        served.counted = new;
        for f in &served.path.flows {
            f.local.flow.count(usize::MAX, new.used, packets, bytes, new.tcp_flags);
        }
        let [from, to] = &served.ports;
        from.state.count_rx(packets as usize, bytes as usize);
        to.state.count_tx(packets as usize, bytes as usize);
        if !served.entry.leads_out() {
            to.state.count_past_device(packets, bytes);
        }
        self.packets += packets;
        self.bytes += bytes;
        self.hits += packets * served.path.flows.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(offers: &mut Offers, port: u32) -> &'static Entry {
        let entry: &'static Entry = Box::leak(Box::default());
        let offer = Offer { port: DpPort(port), entry, generation: 3, rounds: 0 };
        offers.made.try_push(offer).expect("room");
        entry
    }

    #[test]
    fn an_entry_serves_when_nothing_waits_or_for_too_long() {
        let mut offers = Offers::default();
        let [a, b] = [1, 2].map(|port| offered(&mut offers, port));
        offers.settle(DpPort(1), || true);
        offers.settle(DpPort(2), || false);
        assert_eq!((a.serves(), b.serves()), (0, 3));
        (2..PATIENCE).for_each(|_| offers.settle(DpPort(1), || true));
        assert_eq!(a.serves(), 0);
        offers.settle(DpPort(1), || true);
        assert_eq!(a.serves(), 3);
        assert!(offers.made.is_empty());
    }

    /// They would take the place of others for ever, and say later that an entry serves that is another's.
    #[test]
    fn what_was_offered_of_a_queue_that_is_gone_is_forgotten() {
        let mut offers = Offers::default();
        let [gone, other] = [1, 2].map(|port| offered(&mut offers, port));
        offers.forget(DpPort(1));
        offers.settle(DpPort(1), || false);
        offers.settle(DpPort(2), || false);
        assert_eq!((gone.serves(), other.serves()), (0, 3));
    }
}
