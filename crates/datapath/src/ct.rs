//! The connection tracker for all workers: shards behind locks.
//!
//! Both directions of a connection, and ICMP errors about it, hash into the same shard, unless it is
//! translated: then a packet may visit two, one after the other ([`conntrack::process`]). Packets
//! are read outside the lock; a lock is held for one look-up and state transition, and most packets of known
//! connections need none ([`Lookahead`]). Dumps and deletions go in steps, so they never hold a shard for long.

use arrayvec::ArrayVec;
use base::{Apart, Duration, HashKey, Instant, Tally, Zone, prefetch_to_write};
use conntrack::{
    Ceiling, ConnFilter, ConnId, ConnSnapshot, Conntrack, Counters, CtConfig, CtEvent, CtInfo,
    CtRequest, CtState, CtStats, Cursor, Edit, ExpectSnapshot, InvalidReason, Lookahead, Memory,
    PacketView, Parse, PolicyId, Shards, TimeoutPolicy, Tracked, Tuple, ZoneLimits,
};
use flow::PacketKey;
use netdev::BATCH;
use packet::PacketBuf;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::Arc;

/// Slots looked at under one lock by a dump or a deletion, connections by an expiry: some tens of
/// microseconds.
const STEP: usize = 64;

/// Work in steps rests after so long, and for so long. On a machine with few processors the worker would
/// else wait for the scheduler's next tick, some milliseconds, when both are at the same one.
const STRETCH: Duration = Duration::from_micros(200);
const REST: Duration = Duration::from_micros(50);

/// When work in steps has to rest next.
struct Pace(std::time::Instant);

impl Pace {
    fn new() -> Pace {
        Pace(std::time::Instant::now())
    }

    /// After a step.
    fn stepped(&mut self) {
        if self.0.elapsed() > STRETCH {
            std::thread::sleep(REST);
            self.0 = std::time::Instant::now();
        }
    }
}

/// One shard, and what is read of it without its lock, on cache lines of their own.
#[derive(Debug)]
struct Shard {
    locked: Apart<Mutex<Conntrack>>,
    ahead: Apart<Lookahead>,
}

/// Waits for a packet of another thread that moves a connection. If that takes long, the thread is waiting for a
/// processor, perhaps this one.
fn pause(tries: u32) {
    const SHORT: u32 = 200;
    const LONG: std::time::Duration = std::time::Duration::from_micros(20);
    match tries < SHORT {
        true => std::hint::spin_loop(),
        false => std::thread::sleep(LONG),
    }
}

impl Shard {
    fn new(t: Conntrack) -> Shard {
        Shard { ahead: Apart(t.lookahead()), locked: Apart(Mutex::new(t)) }
    }

    fn lock(&self) -> MutexGuard<'_, Conntrack> {
        self.locked.0.lock()
    }

    /// Takes one step of many. Who waits for the lock meanwhile has it next: without that, the next
    /// step would often have it before a waiter is awake.
    fn step<R>(&self, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        let mut shard = self.lock();
        let out = f(&mut shard);
        MutexGuard::unlock_fair(shard);
        out
    }
}

/// Packets that go through the tracker together, numbered as they were read.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    packets: ArrayVec<Tracked, BATCH>,
    /// The numbers of `packets`.
    numbers: ArrayVec<usize, BATCH>,
    /// Those that cannot be looked up, and why.
    refused: ArrayVec<(usize, InvalidReason), BATCH>,
}

impl Batch {
    /// Reads one more packet for a zone of `table`; `prior` is its [`CtRequest::prior`]. Gives it as it was read, if it can
    /// be looked up.
    #[inline]
    pub fn read(
        &mut self,
        table: &CtTable,
        view: &PacketView<'_>,
        zone: Zone,
        prior: Option<(ConnId, CtState)>,
    ) -> Option<&Tracked> {
        let n = self.numbers.len() + self.refused.len();
        self.packets.push(Tracked { prior, ..Tracked::NOTHING });
        let place = self.packets.last_mut()?;
        match place.read(view, zone, table.secret) {
            Ok(()) => {
                self.numbers.push(n);
                self.packets.last()
            }
            Err(reason) => {
                self.packets.pop();
                self.refused.push((n, reason));
                None
            }
        }
    }

    /// One more packet, which was read before and is the same still.
    #[inline]
    pub fn read_again(
        &mut self,
        table: &CtTable,
        before: &Tracked,
        zone: Zone,
        prior: Option<(ConnId, CtState)>,
    ) {
        self.numbers.push(self.numbers.len() + self.refused.len());
        self.packets.push(Tracked { prior, ..before.clone() });
        if let Some(packet) = self.packets.last_mut() {
            packet.move_to(zone, table.secret);
        }
    }
}

/// The tracker.
#[derive(Debug)]
pub struct CtTable {
    secret: HashKey,
    shards: Box<[Shard]>,
    /// Packets that were tracked without a shard.
    found: Tally,
    /// Once there are any.
    limits: Mutex<Option<Arc<ZoneLimits>>>,
}

impl CtTable {
    /// An empty table of `n` shards (at least one), with its connections in `memory` if that is somewhere.
    pub fn new(
        secret: HashKey,
        config: CtConfig,
        n: usize,
        memory: Option<Arc<dyn Memory>>,
    ) -> CtTable {
        let n = n.max(1);
        let ceiling = Arc::new(Ceiling::with_memory(config.max_conns, memory));
        let shard = |i| {
            let mut shard = Conntrack::shard(secret, config, i as u16, ceiling.clone());
            shard.set_pause(pause);
            Shard::new(shard)
        };
        let shards = (0..n).map(shard).collect();
        CtTable { secret, shards, found: Tally::default(), limits: Mutex::new(None) }
    }

    /// Runs a packet whose layers are set through the tracker. A fragment is invalid for
    /// [`InvalidReason::Fragment`] and not counted yet: it may be one of a datagram that can be tracked.
    /// `edit` becomes what is to be changed in a packet of a control connection.
    #[inline]
    pub fn process(
        &self,
        now: Instant,
        pkt: &PacketBuf,
        eth_type: u16,
        req: &CtRequest,
        edit: &mut Option<Edit>,
    ) -> CtInfo {
        conntrack::track(self, now, &PacketView::of(pkt, eth_type), req, edit)
    }

    /// [`CtTable::process`] for several packets, whose bytes from the IP header on `ip` gives. Gives
    /// `done` the number and verdict of each, perhaps in another order.
    pub(crate) fn process_batch<'a>(
        &self,
        now: Instant,
        batch: &Batch,
        req: &CtRequest,
        ip: impl Fn(usize) -> &'a [u8],
        mut done: impl FnMut(usize, &CtInfo, Option<&Edit>),
    ) {
        for &(n, reason) in &batch.refused {
            let info = match reason {
                InvalidReason::Fragment => CtInfo::invalid(req.zone, InvalidReason::Fragment),
                reason => self.refuse(req.zone, reason),
            };
            done(n, &info, None);
        }
        let ip = |i: usize| ip(batch.numbers[i]);
        conntrack::process_batch(self, now, &batch.packets, req, ip, |i, info, edit| {
            done(batch.numbers[i], info, edit);
        });
    }

    /// Counts a packet that cannot be tracked, and gives its verdict.
    pub(crate) fn refuse(&self, zone: Zone, reason: InvalidReason) -> CtInfo {
        self.shards[0].lock().refuse(zone, reason)
    }

    /// What [`CtTable::process`] would say, the connection that the packet belongs to, and the key
    /// as it would be. Nothing changes.
    pub fn peek(
        &self,
        now: Instant,
        pkt: &PacketBuf,
        key: &PacketKey,
        req: &CtRequest,
    ) -> (CtInfo, Option<ConnSnapshot>, PacketKey) {
        let (info, conn) = match conntrack::parse(&PacketView::of(pkt, key.dl_type), req.zone) {
            Parse::Invalid(reason) => (CtInfo::invalid(req.zone, reason), None),
            Parse::Packet(p) => conntrack::peek(self, now, &p, req),
        };
        let mut key = *key;
        store(&mut key, &info);
        (info, conn, key)
    }

    /// Calls `visit` for each connection that matches. Rests in between.
    pub fn dump(&self, now: Instant, filter: &ConnFilter, mut visit: impl FnMut(&ConnSnapshot)) {
        let mut found = Vec::with_capacity(STEP);
        let mut pace = Pace::new();
        for shard in &self.shards {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                shard.step(|s| s.dump(now, &mut cursor, filter, STEP, |c| found.push(*c)));
                found.drain(..).for_each(|c| visit(&c));
                pace.stepped();
            }
        }
    }

    /// Calls `visit` for each connection that another announced, in one zone or all.
    pub fn dump_expected(
        &self,
        now: Instant,
        zone: Option<Zone>,
        mut visit: impl FnMut(&ExpectSnapshot),
    ) {
        let mut found = Vec::new();
        for shard in &self.shards {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                let push = |e: &ExpectSnapshot| found.push(*e);
                shard.step(|s| s.dump_expected(now, &mut cursor, zone, STEP, push));
                found.drain(..).for_each(|e| visit(&e));
            }
        }
    }

    /// Removes the connections that match; how many there were. Rests in between.
    pub fn delete(&self, now: Instant, filter: &ConnFilter) -> usize {
        let (mut n, mut pace) = (0, Pace::new());
        let shards = Steps(self);
        for i in 0..self.shards.len() {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                n += conntrack::visit(&shards, i, |s| s.delete(now, &mut cursor, filter, STEP));
                pace.stepped();
            }
        }
        n
    }

    /// Removes the connection that has this tuple in either direction; whether there was one.
    pub fn delete_tuple(&self, now: Instant, tuple: &Tuple, zone: Zone) -> bool {
        conntrack::delete(self, now, tuple, zone)
    }

    /// Removes connections whose time ran out, looking at about `budget` of each shard. Returns
    /// whether there is more to do at once. Rests in between.
    pub fn expire(&self, now: Instant, budget: usize) -> bool {
        let mut pace = Pace::new();
        let mut step = |i| {
            let more = conntrack::visit(&Steps(self), i, |s| s.expire(now, STEP.min(budget)).more);
            pace.stepped();
            more
        };
        let n = budget.div_ceil(STEP);
        let mut expire = |i| (0..n).all(|_| step(i));
        (0..self.shards.len()).fold(false, |more, i| expire(i) | more)
    }

    /// When [`CtTable::expire`] may have work next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.shards.iter().filter_map(|s| s.lock().next_timeout()).min()
    }

    /// Connections in the table.
    pub fn len(&self) -> usize {
        self.shard_lens().iter().sum()
    }

    /// Connections by shard.
    pub fn shard_lens(&self) -> Vec<usize> {
        self.shards.iter().map(|s| s.lock().len()).collect()
    }

    /// As many connections as may be.
    pub fn is_full(&self) -> bool {
        self.len() >= self.config().max_conns
    }

    /// No connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Totals.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        sum.found = self.found.get();
        self.shards.iter().for_each(|s| sum.add(s.lock().counters()));
        sum
    }

    /// What kinds of connections there are.
    pub fn stats(&self, now: Instant, filter: &ConnFilter) -> CtStats {
        let mut stats = CtStats::default();
        self.dump(now, filter, |c| stats.count(c));
        stats
    }

    /// The settings for the whole table.
    pub fn config(&self) -> CtConfig {
        *self.shards[0].lock().config()
    }

    /// Changes the settings.
    pub fn set_config(&self, config: CtConfig) {
        self.shards.iter().for_each(|s| s.lock().set_config(config));
    }

    /// Changes the limits of zones, and what zones without one may have.
    pub fn change_limits(&self, change: impl FnOnce(&ZoneLimits)) {
        let mut limits = self.limits.lock();
        if let Some(limits) = &*limits {
            return change(limits);
        }
        let new = Arc::new(ZoneLimits::new());
        change(&new);
        self.shards.iter().for_each(|s| s.lock().set_limits(Some(new.clone())));
        *limits = Some(new);
    }

    /// The limits of zones, if there are any.
    pub fn limits(&self) -> Option<Arc<ZoneLimits>> {
        self.limits.lock().clone()
    }

    /// Connections of a zone.
    pub fn zone_len(&self, zone: Zone) -> usize {
        self.shards.iter().map(|s| s.lock().zone_len(zone)).sum()
    }

    /// Sets a timeout policy.
    pub fn set_policy(&self, id: PolicyId, policy: TimeoutPolicy) {
        self.shards.iter().for_each(|s| s.lock().set_policy(id, policy));
    }

    /// Queues up to `capacity` events from now on; 0 turns them off.
    pub fn set_events(&self, capacity: usize) {
        self.shards.iter().for_each(|s| s.lock().set_events(capacity));
    }

    /// Hands over the queued events; those of one connection are in order.
    pub fn drain_events(&self, mut visit: impl FnMut(CtEvent)) {
        for s in &self.shards {
            let mut events = Vec::new();
            {
                let mut shard = s.lock();
                events.extend(std::iter::from_fn(|| shard.next_event()));
            }
            events.into_iter().for_each(&mut visit);
        }
    }

    /// Events that were lost because the queue was full.
    pub fn lost_events(&self) -> u64 {
        self.shards.iter().map(|s| s.lock().lost_events()).sum()
    }
}

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Says which of the threads that track packets this one is.
pub(crate) fn set_lane(number: usize) {
    LANE.set(number);
}

impl Shards for CtTable {
    fn n(&self) -> usize {
        self.shards.len()
    }

    fn secret(&self) -> HashKey {
        self.secret
    }

    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        f(&mut self.shards[shard].lock())
    }

    fn try_with<R>(
        &self,
        shard: usize,
        wait: bool,
        f: impl FnOnce(&mut Conntrack) -> R,
    ) -> Option<R> {
        let shard = &self.shards[shard];
        let mut shard = if wait { shard.lock() } else { shard.locked.0.try_lock()? };
        Some(f(&mut shard))
    }

    fn count_found(&self, n: u64) {
        self.found.add(n);
    }

    fn lane(&self) -> usize {
        LANE.get()
    }

    fn prepare(&self, shard: usize) {
        prefetch_to_write(&self.shards[shard].locked);
    }

    fn lookahead(&self, shard: usize) -> Option<&Lookahead> {
        self.shards.get(shard).map(|s| &s.ahead.0)
    }
}

/// The table for work in steps.
struct Steps<'a>(&'a CtTable);

impl Shards for Steps<'_> {
    fn n(&self) -> usize {
        self.0.n()
    }

    fn secret(&self) -> HashKey {
        self.0.secret
    }

    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        self.0.shards[shard].step(f)
    }
}

/// Writes the verdict into the `ct_*` fields.
pub(crate) fn store(key: &mut PacketKey, info: &CtInfo) {
    clear(key);
    key.ct_state = info.state.bits();
    key.ct_zone = info.zone.0;
    key.ct_mark = info.mark;
    key.ct_label = info.label.to_be_bytes();
    let Some(t) = &info.orig else { return };
    key.ct_nw_proto = t.proto();
    let (src, dst) = t.addrs();
    if t.is_ipv6() {
        (key.ct_ipv6_src, key.ct_ipv6_dst) = (src.to_be_bytes(), dst.to_be_bytes());
    } else {
        (key.ct_nw_src, key.ct_nw_dst) = (src as u32, dst as u32);
    }
    // In the key an ICMP connection shows its type and code.
    (key.ct_tp_src, key.ct_tp_dst) = t.tp();
}

/// No verdict.
pub(crate) fn clear(key: &mut PacketKey) {
    (key.ct_state, key.ct_zone, key.ct_mark, key.ct_label) = (0, 0, 0, [0; 16]);
    (key.ct_nw_proto, key.ct_nw_src, key.ct_nw_dst) = (0, 0, 0);
    (key.ct_ipv6_src, key.ct_ipv6_dst) = ([0; 16], [0; 16]);
    (key.ct_tp_src, key.ct_tp_dst) = (0, 0);
}
