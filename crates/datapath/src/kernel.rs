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

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::{DpPort, Duration, HashKey, Instant, hash_words};
use conntrack::{ConnId, Handshake, Shards};
use ebpf::{Counted, Entry, KernelPath, Key, Retag, Target, Terms};
use hashbrown::HashTable;
use netdev::{Port, PortState, Way};
use packet::header::{ETH_LEN, VLAN_LEN};
use parking_lot::Mutex;

use crate::conns::{Errand, Head, Path};
use crate::ct::CtTable;
use crate::stats::WorkerStats;
use crate::worker::Clock;

/// One packet of about so many that the cache serves is offered.
const OFFER_ONE_OF: u32 = 32;

/// An entry that served nothing for so long is retired.
const IDLE: Duration = Duration::from_secs(10);

/// For so long after it was retired a program may be at an entry: many times longer than one runs.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// For so long it most likely is.
const LIKELY: std::time::Duration = std::time::Duration::from_millis(20);

/// Rounds after which an entry serves even if the queue never was empty: more packets than wait in a ring.
const PATIENCE: u32 = 64;

/// Connections that a worker has offered and nobody has answered, at most.
const MAX_ASKED: usize = 512;

/// Who waits longer for an answer is no longer counted.
const ANSWER_TIME: Duration = Duration::from_secs(1);

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

/// An entry in use.
#[derive(Debug)]
struct Served {
    entry: &'static Entry,
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
    /// By their keys.
    served: HashTable<Served>,
    heard: Heard,
    /// In their order.
    retired: VecDeque<(std::time::Instant, Served)>,
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
    secret: HashKey,
    ports: Mutex<HashMap<DpPort, Reach>>,
    table: Mutex<Table>,
}

/// What a worker offered and the kernel does not serve yet.
#[derive(Debug)]
pub(crate) struct Offers {
    made: ArrayVec<Offer, 8>,
    countdown: u32,
    /// Not zero.
    random: u32,
    /// Ports and addresses that were told lately, and how often they need not be told again.
    told: [(DpPort, [u8; 6], u8); 4],
    /// What was offered before it was answered, and when, about in that order.
    asked: VecDeque<(ConnId, Instant)>,
}

impl Default for Offers {
    fn default() -> Offers {
        let told = [(DpPort(0), [0; 6], 0); 4];
        let (made, asked) = (ArrayVec::new(), VecDeque::new());
        Offers { made, countdown: 0, random: 1, told, asked }
    }
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
        // Connections may take turns, so we do not: Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.countdown = OFFER_ONE_OF / 2 + self.random % OFFER_ONE_OF;
        !self.made.is_full()
    }

    /// Whether somebody should [hear](Kernel::hear) that a frame of this address has come by a port.
    #[inline]
    pub fn is_news(&mut self, port: DpPort, src: [u8; 6]) -> bool {
        let told = &mut self.told[port.0 as usize % 4];
        let is_old = (told.0, told.1) == (port, src) && told.2 > 0;
        *told = (port, src, if is_old { told.2 - 1 } else { u8::MAX });
        !is_old
    }

    /// Whether a connection may be offered that is not answered yet: not if many wait for their answers, for most of those
    /// will get none, and entries are few.
    pub fn may_ask(&mut self, now: Instant, is_asking: impl Fn(ConnId) -> bool) -> bool {
        // As two leave where one comes, there is room again soon, whoever else waits.
        for _ in 0..2 {
            if self.asked.len() < MAX_ASKED {
                break;
            }
            let oldest = self.asked.pop_front();
            let waits = |o: &(ConnId, Instant)| now.since(o.1) < ANSWER_TIME && is_asking(o.0);
            self.asked.extend(oldest.filter(waits));
        }
        self.asked.len() < MAX_ASKED
    }

    /// A connection was offered that is not answered yet.
    pub fn ask(&mut self, conn: ConnId, now: Instant) {
        self.asked.push_back((conn, now));
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
        let of_it = |s: &Served| s.ports.iter().any(|p| p.ifindex == gone.ifindex);
        let Table { served, heard, retired, .. } = &mut *table;
        heard.0.remove(&gone.ifindex);
        served.extract_if(|s| of_it(s)).for_each(|s| self.retire(retired, s));
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
        let reach = |port| self.ports.lock().get(&port).cloned();
        let (Some(from), Some(to)) = (reach(c.in_port), reach(out)) else { return };
        let key = c.head.kernel_key(from.ifindex);
        // Whoever has it may be at it for long; another packet will do.
        let Some(mut table) = self.table.try_lock() else { return };
        let hash = self.hash(&key);
        let Table { served, heard, retired, .. } = &mut *table;
        let [dst, src] = key.eth();
        if !c.follows {
            heard.add(from.ifindex, src);
        }
        if let Ok(there) = served.find_entry(hash, |s| s.entry.key() == key) {
            let Served { entry, path, conn, .. } = there.get();
            if Arc::ptr_eq(path, c.path) && *conn == c.conn {
                if entry.serves() < c.generation {
                    offers.add(c, entry);
                }
                return;
            }
            let (served, _) = there.remove();
            self.retire(retired, served);
        }
        let heard = heard.has(to.ifindex, &dst);
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
        let n = table.served.len() + table.retired.len();
        if n >= table.stats.max_entries as usize {
            table.stats.no_room += 1;
            return;
        }
        let Some(entry) = table.free.pop().or_else(|| self.path.entry()) else {
            table.stats.no_room += 1;
            return;
        };
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
            table.free.push(entry);
            return;
        }
        table.stats.made += 1;
        let (path, counted) = (Arc::clone(c.path), Counted::default());
        let (ports, conn) = ([from, to], c.conn.filter(|_| lent.is_some()));
        let (longer, since) = (tag.longer(), c.now);
        let served = Served { entry, path, conn, ports, n_tags, longer, counted, since };
        table.served.insert_unique(hash, served, |s| self.hash(&s.entry.key()));
        match c.follows {
            true => entry.serve(c.generation),
            false => offers.add(c, entry),
        }
    }

    fn retire(&self, retired: &mut VecDeque<(std::time::Instant, Served)>, served: Served) {
        served.entry.retire();
        self.path.take(served.entry);
        retired.push_back((std::time::Instant::now(), served));
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
        let Table { served, heard, retired, free, stats: totals, mode, .. } = &mut *table;
        let is_over = |served: &mut Served| {
            sum.add(served);
            // All of it may have changed.
            let to = &served.ports[1];
            let [dst, _] = served.entry.key().eth();
            let target = to.target(*mode, heard.has(to.ifindex, &dst));
            if let Some(target) = target {
                served.entry.lead(target, to.max_len(served.n_tags));
            }
            let lasts =
                |conn: ConnId| ct.lookahead(conn.shard()).is_some_and(|a| a.is_lasting(conn));
            let gone = || served.conn.is_some_and(|conn| !lasts(conn));
            let last = served.since.max(served.counted.used);
            target.is_none() || served.path.is_dead() || now.since(last) > IDLE || gone()
        };
        served.extract_if(is_over).for_each(|s| self.retire(retired, s));
        let lately = |r: &&mut (std::time::Instant, Served)| began.duration_since(r.0) < LIKELY;
        retired.iter_mut().rev().take_while(lately).for_each(|(_, s)| sum.add(s));
        while retired.front().is_some_and(|r| began.duration_since(r.0) > GRACE)
            && let Some((_, mut served)) = retired.pop_front()
        {
            sum.add(&mut served);
            free.push(served.entry);
        }
        totals.packets += sum.packets;
        totals.bytes += sum.bytes;
        stats.packets.add(sum.packets);
        stats.sent.add(sum.packets);
        stats.hit_kernel.add(sum.hits);
        stats.recirculated.add(sum.hits - sum.packets);
        if sum.tracked > 0 {
            ct.count_found(sum.tracked);
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
    /// Packets that were tracked.
    tracked: u64,
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
        let longer = |by: i64| bytes.saturating_add_signed(by * packets as i64);
        for f in &served.path.flows {
            f.local.flow.count(usize::MAX, new.used, packets, longer(f.longer), new.tcp_flags);
        }
        let ([from, to], sent) = (&served.ports, longer(served.longer.into()));
        from.state.count_rx(packets as usize, bytes as usize);
        to.state.count_tx(packets as usize, sent as usize);
        if !served.entry.leads_out() {
            to.state.count_past_device(packets, sent);
        }
        self.packets += packets;
        self.bytes += bytes;
        self.tracked += if served.conn.is_some() { packets } else { 0 };
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

    #[test]
    fn an_address_is_news_once_in_a_while() {
        let mut offers = Offers::default();
        let mut news = |port, n| offers.is_news(DpPort(port), [0, 0, 0, 0, 0, n]);
        assert!(news(2, 1) && news(3, 1) && news(2, 2));
        assert!(!news(3, 1) && !news(2, 2) && news(2, 1));
        // The port may be another by now.
        assert_eq!((0..2560).filter(|_| news(3, 1)).count(), 10);
    }

    /// Nobody waits long behind those that get no answer, and these give way in time.
    #[test]
    fn few_are_offered_before_they_are_answered() {
        let mut offers = Offers::default();
        // Of so many, those that are offered at a time where the first ones are not answered.
        let mut asks = |n: u64, at, n_deaf: u64| {
            let now = Instant::from_secs(at);
            let mut one = |id| {
                let may = offers.may_ask(now, |c| c.to_parts().0 < n_deaf);
                may.then(|| offers.ask(ConnId::from_parts(id, 0), now)).is_some()
            };
            (0..n).filter(|id| one(*id)).count()
        };
        let most = MAX_ASKED as u64;
        assert_eq!(asks(4 * most, 5, 0), 4 * MAX_ASKED);
        assert!(asks(4 * most, 5, 10) > 4 * MAX_ASKED - 50);
        assert_eq!(asks(4 * most, 5, u64::MAX), 0);
        assert_eq!(asks(4 * most, 6, u64::MAX), MAX_ASKED);
    }

    /// Connections that take turns are all offered some time.
    #[test]
    fn no_connection_is_passed_over_for_ever() {
        for n in 1..=64 {
            let mut offers = Offers::default();
            let mut seen = vec![false; n];
            for i in 0..n * 2000 {
                seen[i % n] |= offers.is_due();
            }
            assert!(seen.iter().all(|s| *s), "of {n}");
        }
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
