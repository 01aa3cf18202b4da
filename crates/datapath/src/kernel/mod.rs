//! What of the connection cache the kernel has as well.
//!
//! A worker that serves packets of a connection from its cache [offers](Kernel::offer) the connection now and then: one
//! packet of some dozens, so that short connections are not worth an entry and long ones soon have one. What can be
//! offered goes by a [`Path`] that sends to one port and nothing else, after it tracked one connection or none. The
//! worker lets the entry serve when the queue that the packets come by was empty ([`Offers`]), so that packets do not
//! overtake those that wait there. A connection of TCP is offered with its first packet
//! ([`foresee`](crate::conns)), when nothing waits.
//!
//! From then on the kernel counts, and [`Kernel::collect`] brings it home: to the flows of the path, to the ports, to
//! the tracker. Whoever wants exact figures collects first. An entry whose path has a dead flow, whose connection is gone
//! or that nobody uses is retired, collected once more when no program can be at it, and used again.

mod offers;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use base::{DpPort, Duration, HashKey, Instant, hash_words};
use conntrack::{ConnId, Handshake, Shards};
use ebpf::{Counted, Entry, KernelPath, Key, Retag, Target, Terms};
use hashbrown::HashTable;
use netdev::{Port, PortState, Way};
use packet::header::{ETH_LEN, VLAN_LEN};
use parking_lot::{Mutex, MutexGuard};

use crate::conns::{Errand, Head, Path};
use crate::ct::CtTable;
use crate::stats::WorkerStats;
use crate::worker::Clock;

pub(crate) use offers::Offers;

/// An entry that served nothing for so long is retired.
const IDLE: Duration = Duration::from_secs(10);

/// For so long after it was retired a program may be at an entry: many times longer than one runs.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// For so long it most likely is.
const LIKELY: std::time::Duration = std::time::Duration::from_millis(20);

/// Places that are collected before others may have the table.
const AT_ONCE: usize = 64;

/// What is to be offered now or never waits so long for the table: longer than it takes to collect from those.
const WAIT: std::time::Duration = std::time::Duration::from_micros(50);

/// Ethernet addresses that are remembered of a port.
const MAX_HEARD: usize = 4096;

/// By which devices frames of which Ethernet addresses have come.
#[derive(Debug, Default)]
struct Heard(HashMap<u32, HashSet<[u8; 6]>>);

impl Heard {
    fn add(&mut self, ifindex: u32, src: [u8; 6]) {
        let of_port = self.0.entry(ifindex).or_default();
        if of_port.len() < MAX_HEARD {
            of_port.insert(src);
        }
    }

    fn has(&self, ifindex: u32, address: &[u8; 6]) -> bool {
        self.0.get(&ifindex).is_some_and(|of_port| of_port.contains(address))
    }
}

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
    /// Where packets go to an Ethernet address from which frames have come by this port, or not. The other end takes what
    /// goes right there for its own, so its address has to be heard of.
    fn target(&self, mode: KernelMode, heard: bool) -> Option<Target> {
        match (self.state.bypass()?, mode) {
            (Way::Nowhere, _) => None,
            (Way::Peer, KernelMode::Peer) if heard => Some(Target::Peer(self.ifindex)),
            _ => Some(Target::Device(self.ifindex)),
        }
    }

    /// The longest frame that comes with so many tags and goes out whole: with other tags it is longer, and so may it be.
    fn max_len(&self, n_tags: usize) -> u32 {
        match self.state.mtu() {
            0 => u32::MAX,
            mtu => mtu.saturating_add((ETH_LEN + n_tags * VLAN_LEN) as u32),
        }
    }
}

/// What an entry is used for.
#[derive(Debug)]
struct Served {
    path: Arc<Path>,
    /// If packets are tracked.
    conn: Option<ConnId>,
    ports: [Reach; 2],
    /// Of the frames that come.
    n_tags: usize,
    /// By how much those that are sent are longer.
    longer: i32,
    /// What was collected of it.
    counted: Counted,
    since: Instant,
    is_retired: bool,
}

/// An entry.
#[derive(Debug)]
struct Place {
    entry: &'static Entry,
    /// Nothing if it is free.
    served: Option<Served>,
}

impl Place {
    fn collect(&mut self, sum: &mut Sum) {
        self.served.iter_mut().for_each(|s| sum.add(self.entry, s));
    }
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
    places: Vec<Place>,
    /// Numbers of the places that serve, by their keys.
    serving: HashTable<u32>,
    /// Of those that do not serve any more, in their order.
    retired: VecDeque<(std::time::Instant, u32)>,
    free: Vec<u32>,
    heard: Heard,
    stats: KernelStats,
    mode: KernelMode,
    /// When it was last collected, and how long that took.
    collected: Option<(std::time::Instant, Duration)>,
}

impl Table {
    /// A place that is free, one more if need be. None if there may be no more.
    fn place(&mut self, path: &KernelPath) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        let at = u32::try_from(self.places.len()).ok()?;
        let may = u64::from(at) < self.stats.max_entries;
        let entry = may.then(|| path.entry()).flatten()?;
        self.places.push(Place { entry, served: None });
        Some(at)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kernel {
    path: Arc<KernelPath>,
    secret: HashKey,
    ports: Mutex<HashMap<DpPort, Reach>>,
    table: Mutex<Table>,
}

/// What is offered.
pub(crate) struct Candidate<'a> {
    pub head: &'a Head,
    pub path: &'a Arc<Path>,
    /// If its packets are tracked.
    pub conn: Option<ConnId>,
    pub in_port: DpPort,
    pub generation: u64,
    pub now: Instant,
    /// Packets of it follow on one of its handshake that was not sent yet: then none is in any queue.
    pub follows: bool,
}

impl Kernel {
    pub fn new(secret: HashKey, path: Arc<KernelPath>) -> Kernel {
        let stats = KernelStats { max_entries: path.max_entries().into(), ..Default::default() };
        Kernel {
            path,
            secret,
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

    /// Whether there is anything to be had for packets that come by a port.
    pub fn comes_by(&self, port: DpPort) -> bool {
        self.path.is_enabled() && self.ports.lock().contains_key(&port)
    }

    /// A frame of an Ethernet address has come by a port. For those that nothing is offered for.
    pub fn hear(&self, port: DpPort, src: [u8; 6]) {
        let Some(ifindex) = self.ports.lock().get(&port).map(|p| p.ifindex) else { return };
        // Another one will do.
        if let Some(mut table) = self.table.try_lock() {
            table.heard.add(ifindex, src);
        }
    }

    /// No packet goes to the port any more.
    pub fn remove_port(&self, number: DpPort) {
        let Some(gone) = self.ports.lock().remove(&number) else { return };
        let mut table = self.table.lock();
        table.heard.0.remove(&gone.ifindex);
        let of_it = |s: &Served| s.ports.iter().any(|p| p.ifindex == gone.ifindex);
        for at in 0..table.places.len() {
            if table.places[at].served.as_ref().is_some_and(of_it) {
                self.retire(&mut table, at as u32);
            }
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        hash_words(self.secret, &key.words())
    }

    /// Makes an entry of what a worker serves from its cache, or lets the one there is serve again.
    #[cold]
    pub fn offer(&self, ct: &CtTable, c: &Candidate<'_>, offers: &mut Offers) {
        if !self.path.is_enabled() || offers.made.is_full() && !c.follows {
            return;
        }
        let Some(Errand { port: out, tag, mark_mask }) = c.path.for_kernel() else { return };
        let n_tags = usize::from(c.head.is_tagged());
        // What has no tag is left as it is, and one is enough.
        if !matches!((n_tags, tag), (_, Retag::Keep) | (0, Retag::Push { .. }) | (1, Retag::Pop)) {
            return;
        }
        let ports = self.ports.lock();
        let reach = |port| ports.get(&port).cloned();
        let (Some(from), Some(to)) = (reach(c.in_port), reach(out)) else { return };
        drop(ports);
        let key = c.head.kernel_key(from.ifindex);
        let table = match c.follows {
            true => self.table.try_lock_for(WAIT),
            // Another packet will do.
            false => self.table.try_lock(),
        };
        let Some(mut table) = table else { return };
        let hash = self.hash(&key);
        let [dst, src] = key.eth();
        if !c.follows {
            table.heard.add(from.ifindex, src);
        }
        let Table { places, serving, .. } = &*table;
        if let Some(&at) = serving.find(hash, |at| places[*at as usize].entry.key() == key) {
            let Place { entry, served } = &places[at as usize];
            let is_same = |s: &Served| Arc::ptr_eq(&s.path, c.path) && s.conn == c.conn;
            if served.as_ref().is_some_and(is_same) {
                if entry.serves() < c.generation {
                    offers.add(c, entry);
                }
                return;
            }
            self.retire(&mut table, at);
        }
        let heard = table.heard.has(to.ifindex, &dst);
        let Some(target) = to.target(table.mode, heard) else { return };
        let mut lent = None;
        if let (Some(conn), [first, ..]) = (c.conn, &*c.path.steps) {
            let known = first.known(&[conn; 2]);
            let Some(l) = ct.lookahead(conn.shard()).and_then(|a| a.lend(known)) else { return };
            let fits = c.path.steps.iter().all(|s| s.accepts(&l.standing, false));
            let in_time = match l.handshake {
                Handshake::Asked => c.follows,
                Handshake::Answered => true,
                Handshake::Done => !c.follows,
            };
            if !fits || !in_time {
                return;
            }
            lent = Some(l);
        }
        let Some(at) = table.place(&self.path) else {
            table.stats.no_room += 1;
            return;
        };
        let entry = table.places[at as usize].entry;
        entry.clear();
        entry.set(&Terms {
            lent,
            mark_mask,
            varies: c.head.varying(c.path),
            max_len: to.max_len(n_tags),
            tag,
            target,
        });
        if self.path.put(&key, entry).is_err() {
            table.stats.no_room += 1;
            table.free.push(at);
            return;
        }
        table.stats.made += 1;
        let (path, counted) = (Arc::clone(c.path), Counted::default());
        let (ports, conn) = ([from, to], c.conn.filter(|_| lent.is_some()));
        let (longer, since) = (tag.longer(), c.now);
        let is_retired = false;
        let served = Served { path, conn, ports, n_tags, longer, counted, since, is_retired };
        let Table { places, serving, .. } = &mut *table;
        places[at as usize].served = Some(served);
        serving.insert_unique(hash, at, |at| self.hash(&places[*at as usize].entry.key()));
        match c.follows {
            true => entry.serve(c.generation),
            false => offers.add(c, entry),
        }
    }

    /// No packet is served by a place any more, if it served any.
    fn retire(&self, table: &mut Table, at: u32) {
        let Table { places, serving, retired, .. } = table;
        let Place { entry, served } = &mut places[at as usize];
        let Some(served) = served.as_mut().filter(|s| !s.is_retired) else { return };
        served.is_retired = true;
        entry.retire();
        self.path.take(entry);
        if let Ok(there) = serving.find_entry(self.hash(&entry.key()), |other| *other == at) {
            there.remove();
        }
        retired.push_back((std::time::Instant::now(), at));
    }

    /// The same, unless it was done so lately that whoever asks again and again would do nothing else.
    pub fn collect_now_and_then(&self, clock: &Clock, ct: &CtTable, stats: &WorkerStats) {
        let lately = |(when, took): (std::time::Instant, Duration)| when.elapsed() < 4 * took;
        if !self.table.lock().collected.is_some_and(lately) {
            self.collect(clock, ct, stats);
        }
    }

    /// Brings home what the kernel counted, and retires what is of no use any more. Workers have the table now and then
    /// meanwhile.
    pub fn collect(&self, clock: &Clock, ct: &CtTable, stats: &WorkerStats) {
        let began = std::time::Instant::now();
        let now = clock();
        let mut at = 0;
        loop {
            let mut table = self.table.lock();
            if at == 0 {
                let in_time = self.path.is_in_time(|| clock());
                self.path.enable(table.mode != KernelMode::Off && in_time);
            }
            let mut sum = Sum::default();
            let end = table.places.len().min(at + AT_ONCE);
            self.collect_some(&mut table, at..end, (now, ct), &mut sum);
            at = end;
            let done = at == table.places.len();
            if done {
                collect_retired(&mut table, began, &mut sum);
                table.collected = Some((std::time::Instant::now(), began.elapsed()));
            }
            let totals = &mut table.stats;
            totals.packets += sum.packets;
            totals.bytes += sum.bytes;
            stats.packets.add(sum.packets);
            stats.sent.add(sum.packets);
            stats.hit_kernel.add(sum.hits);
            stats.recirculated.add(sum.hits - sum.packets);
            if sum.tracked > 0 {
                ct.count_found(sum.tracked);
            }
            // Whoever waits is next.
            MutexGuard::unlock_fair(table);
            if done {
                return;
            }
        }
    }

    /// The places of a range that are not retired.
    fn collect_some(
        &self,
        table: &mut Table,
        range: Range<usize>,
        (now, ct): (Instant, &CtTable),
        sum: &mut Sum,
    ) {
        for Place { entry, served } in &table.places[range.clone()] {
            if let Some(conn) = served.as_ref().and_then(|s| s.conn) {
                entry.prefetch();
                ct.lookahead(conn.shard()).into_iter().for_each(|a| a.prefetch_known(conn));
            }
        }
        for at in range {
            let Table { places, heard, mode, .. } = &mut *table;
            let Place { entry, served } = &mut places[at];
            let Some(served) = served.as_mut().filter(|s| !s.is_retired) else { continue };
            sum.add(entry, served);
            // All of it may have changed.
            let to = &served.ports[1];
            let [dst, _] = entry.key().eth();
            let target = to.target(*mode, heard.has(to.ifindex, &dst));
            if let Some(target) = target {
                entry.lead(target, to.max_len(served.n_tags));
            }
            let lasts =
                |conn: ConnId| ct.lookahead(conn.shard()).is_some_and(|a| a.is_lasting(conn));
            let gone = || served.conn.is_some_and(|conn| !lasts(conn));
            let last = served.since.max(served.counted.used);
            if target.is_none() || served.path.is_dead() || now.since(last) > IDLE || gone() {
                self.retire(table, at as u32);
            }
        }
    }

    /// From now on the kernel may do so much. Returns whether that is something else.
    pub fn set_mode(&self, mode: KernelMode) -> bool {
        std::mem::replace(&mut self.table.lock().mode, mode) != mode
    }

    pub fn stats(&self) -> KernelStats {
        let table = self.table.lock();
        let mode = if self.path.is_enabled() { table.mode } else { KernelMode::Off };
        KernelStats { mode, entries: table.serving.len() as u64, ..table.stats }
    }
}

/// Those that do not serve any more: some packets may have been at them when they were retired.
fn collect_retired(table: &mut Table, began: std::time::Instant, sum: &mut Sum) {
    let Table { places, retired, free, .. } = table;
    let since = |when: &std::time::Instant| began.saturating_duration_since(*when);
    let lately = retired.iter().rev().take_while(|(when, _)| since(when) < LIKELY);
    lately.for_each(|(_, at)| places[*at as usize].collect(sum));
    let n_over = retired.partition_point(|(when, _)| since(when) > GRACE);
    for (_, at) in retired.drain(..n_over) {
        let place = &mut places[at as usize];
        place.collect(sum);
        place.served = None;
        free.push(at);
    }
}

/// What was brought home.
#[derive(Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    /// Packets that were tracked.
    tracked: u64,
    /// Flows that they hit.
    hits: u64,
}

impl Sum {
    /// Credits what an entry counted since the last time.
    fn add(&mut self, entry: &Entry, served: &mut Served) {
        let (old, new) = (served.counted, entry.counted());
        let (packets, bytes) = (new.packets - old.packets, new.bytes - old.bytes);
        if packets == 0 {
            return;
        }
        served.counted = new;
        let longer = |by: i64| bytes.saturating_add_signed(by * packets as i64);
        for f in &served.path.flows {
            f.local.flow.count(usize::MAX, new.used, packets, longer(f.longer), new.tcp_flags);
        }
        let ([from, to], sent) = (&served.ports, longer(served.longer.into()));
        from.state.count_rx(packets as usize, bytes as usize);
        to.state.count_tx(packets as usize, sent as usize);
        if !entry.leads_out() {
            to.state.count_past_device(packets, sent);
        }
        self.packets += packets;
        self.bytes += bytes;
        self.tracked += if served.conn.is_some() { packets } else { 0 };
        self.hits += packets * served.path.flows.len() as u64;
    }
}
