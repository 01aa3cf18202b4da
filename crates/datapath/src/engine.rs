//! A worker's data path: one batch from reception to transmission.
//!
//! Stages: extract all keys; look up packet after packet and collect runs of packets with the
//! same megaflow; execute the actions of a run over all its packets; look up again what was
//! recirculated (depth first, so packets never overtake each other); at the end of the batch
//! send what was queued, port by port.
//!
//! # Packets
//! A packet is a slot: a buffer with its [`Meta`]. The first [`BATCH`] slots are received into,
//! the others are copies. Output queues a slot without copying; whoever wants to change a queued
//! slot changes a copy of it. A copy is free again when it is neither held by a run nor queued.
//!
//! # Rules
//! No allocation per packet (copies reuse their buffers; fragments that wait have their own), no lock but a conntrack shard's and, on
//! a miss, the slow path's; no log; no clock but to time a miss.

use std::cell::Cell;
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::{DpPort, Instant};
use conntrack::{ConnId, CtState, Tracked};
use dpif::{DpAction, DropReason, Revalidation, SlowPath};
use flow::PacketKey;
use netdev::{BATCH, FRAME_CAPACITY, TxQueue};
use packet::PacketBuf;

use crate::admission::Admission;
use crate::cache::{Caches, Hit, Local, connection_hash};
use crate::conns::{ConnCache, Replay, Trail};
use crate::ct::CtTable;
use crate::datapath::Config;
use crate::fragments::{FragTable, Waiting};
use crate::kernel::{Kernel, Offers};
use crate::meter::Meters;
use crate::registry::{Registry, Tray, confirm};
use crate::stats::WorkerStats;

/// Recirculations of one packet.
pub(crate) const MAX_RECIRCULATIONS: u32 = 6;

/// No trail is noted.
pub(crate) const NO_TRAIL: u8 = u8::MAX;

/// Copies in use that make the queues be sent before the end of the batch.
const MANY_COPIES: usize = 64;

/// Removed flows that are let go of in one sweep.
const SWEPT_AT_ONCE: usize = 2048;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) slow: Arc<dyn SlowPath>,
    pub(crate) registry: Registry,
    pub(crate) ct: Arc<CtTable>,
    pub(crate) fragments: FragTable,
    pub(crate) meters: Arc<Meters>,
    pub(crate) stats: Box<[WorkerStats]>,
    /// What the kernel forwards, if it does.
    pub(crate) kernel: Option<Kernel>,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) key: PacketKey,
    /// The header fields of `key` are older than the bytes.
    pub(crate) stale: bool,
    /// In some port's queue: must not be changed.
    pub(crate) queued: bool,
    /// In some run: must not be reused.
    held: bool,
    /// Connection and state that an earlier `ct` action gave.
    pub(crate) prior: Option<(ConnId, CtState)>,
    /// Which of the engine's trails notes what it meets.
    pub(crate) trail: u8,
    /// The tracker has read the bytes as they are: the slot's place in [`Engine::tracked`].
    pub(crate) is_read: bool,
}

impl Meta {
    const NEW: Meta = Meta {
        key: PacketKey::ZERO,
        stale: false,
        queued: false,
        held: false,
        prior: None,
        trail: NO_TRAIL,
        is_read: false,
    };

    /// The same for a copy that is in no slot.
    pub(crate) fn alone(&self) -> Meta {
        Meta { queued: false, held: false, trail: NO_TRAIL, ..self.clone() }
    }
}

/// Slots of packets that go the same way.
pub(crate) type Run = ArrayVec<u16, BATCH>;

/// Queue towards one port.
#[derive(Debug)]
struct Out {
    queue: Box<dyn TxQueue>,
    slots: Vec<u16>,
}

/// A worker without its thread.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Number of the worker: which statistics are its own.
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    caches: Caches,
    /// Not there while it serves a batch.
    conns: Option<Box<ConnCache>>,
    conn_cache: usize,
    pub(crate) trails: Box<[Trail]>,
    /// Packets of the batch that were tracked without a shard.
    pub(crate) n_open: Cell<u64>,
    /// Verdicts that the one packet under way has got already, in their order.
    pub(crate) replay: Replay,
    pub(crate) bufs: Vec<PacketBuf>,
    pub(crate) meta: Vec<Meta>,
    /// What the tracker has read of packets, for their next `ct` action; copies of packets have no place.
    pub(crate) tracked: Box<[Tracked; BATCH]>,
    free: Vec<u16>,
    ports: Vec<Option<Out>>,
    dirty: Vec<u32>,
    pub(crate) now: Instant,
    pub(crate) generation: u64,
    admission: Admission,
    tray: Arc<Tray>,
    /// State of the sample action's random numbers.
    pub(crate) random: u64,
    /// What the kernel is to forward.
    pub(crate) offers: Offers,
}

enum Found {
    /// The flow of the packet before.
    Current,
    /// Another flow.
    Other(Arc<Local>),
    /// No flow.
    Nothing,
}

impl Engine {
    pub(crate) fn new(id: usize, shared: Arc<Shared>, config: &Config) -> Engine {
        let secret = config.secret;
        Engine {
            id,
            tray: shared.registry.tray(),
            shared,
            caches: Caches::new(secret, config.exact_cache),
            conns: ConnCache::of(secret, config.conn_cache),
            conn_cache: config.conn_cache,
            trails: (0..BATCH).map(|_| Trail::default()).collect(),
            n_open: Cell::new(0),
            replay: Replay::new(),
            bufs: (0..BATCH).map(|_| PacketBuf::with_capacity(FRAME_CAPACITY)).collect(),
            meta: vec![Meta::NEW; BATCH],
            tracked: Box::new([Tracked::NOTHING; BATCH]),
            free: Vec::new(),
            ports: Vec::new(),
            dirty: Vec::new(),
            now: Instant::ZERO,
            generation: 0,
            admission: Admission::new(),
            random: secret.0[0] | 1,
            offers: Offers::default(),
        }
    }

    pub(crate) fn stats(&self) -> &WorkerStats {
        &self.shared.stats[self.id]
    }

    pub(crate) fn drop_packets(&self, reason: DropReason, n: usize) {
        self.stats().drop(reason, n as u64);
    }

    pub(crate) fn add_tx(&mut self, port: DpPort, queue: Box<dyn TxQueue>) {
        let at = port.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(Out { queue, slots: Vec::with_capacity(BATCH) });
    }

    pub(crate) fn remove_tx(&mut self, port: DpPort) {
        if let Some(p) = self.ports.get_mut(port.0 as usize) {
            *p = None;
        }
    }

    /// Whether flows were removed that this worker may still hold.
    pub(crate) fn sweep_is_due(&self) -> bool {
        !self.tray.is_empty()
    }

    /// Lets go of flows that were removed, of many only some. Those that were replaced go on as what replaced
    /// them, so that their packets need no translation.
    pub(crate) fn sweep(&mut self) {
        if !self.sweep_is_due() {
            return;
        }
        for flow in self.tray.take(SWEPT_AT_ONCE) {
            if self.caches.remove(&flow)
                && let Some(new) = self.shared.registry.live(flow.ufid)
            {
                self.caches.insert(&Local::new(new));
            }
        }
        if !self.sweep_is_due() {
            self.caches.sweep();
            if let Some(conns) = &mut self.conns {
                conns.sweep();
            }
        }
    }

    /// Lets go of all flows that were removed.
    pub(crate) fn sweep_all(&mut self) {
        while self.sweep_is_due() {
            self.sweep();
        }
    }

    /// Forgets all packets and flows, after a batch that was not finished.
    pub(crate) fn reset(&mut self) {
        self.ports.iter_mut().flatten().for_each(|p| p.slots.clear());
        self.dirty.clear();
        self.meta.iter_mut().for_each(|m| *m = Meta::NEW);
        self.free = (BATCH..self.bufs.len()).map(|s| s as u16).collect();
        self.caches.clear();
        self.replay.clear();
        self.trails.iter_mut().for_each(Trail::end);
        // What served the batch is gone with it.
        self.conns = ConnCache::of(self.caches.secret(), self.conn_cache);
    }

    fn start(&mut self, now: Instant) {
        self.now = now;
        self.generation = self.shared.slow.generation();
    }

    /// Processes the `n` frames in the first buffers, received from `port`.
    pub(crate) fn process(&mut self, now: Instant, port: DpPort, n: usize) {
        self.start(now);
        self.stats().packets.add(n as u64);
        self.stats().batches.add(1);
        match self.conns.take() {
            Some(mut conns) => {
                self.serve(&mut conns, port, n);
                self.conns = Some(conns);
            }
            None => {
                let run = (0..n).filter(|&s| self.admit_received(s, port));
                let run = run.map(|s| s as u16).collect();
                self.pass(run, 0);
            }
        }
        self.flush();
    }

    /// Reads a frame that was received into a slot. Returns false if it is none.
    pub(crate) fn admit_received(&mut self, slot: usize, port: DpPort) -> bool {
        let (buf, meta) = (&mut self.bufs[slot], &mut self.meta[slot]);
        if buf.len() < packet::header::ETH_LEN {
            self.drop_packets(DropReason::RxInvalidPacket, 1);
            return false;
        }
        meta.key = PacketKey::ZERO;
        meta.key.in_port = port.0;
        (meta.stale, meta.prior, meta.trail, meta.is_read) = (false, None, NO_TRAIL, false);
        flow::extract(buf, &mut meta.key);
        true
    }

    /// Runs actions on a packet that the control plane made. `key` gives the metadata (port,
    /// mark, tunnel, conntrack); its header fields are read from the packet.
    pub(crate) fn execute_one(
        &mut self,
        now: Instant,
        pkt: &PacketBuf,
        key: &PacketKey,
        actions: &[DpAction],
    ) {
        self.start(now);
        self.bufs[0].copy_from(pkt);
        self.meta[0] = Meta { key: *key, stale: true, ..Meta::NEW };
        self.refresh(0);
        let mut run = Run::from_iter([0]);
        self.execute_counted(&mut run, actions, 0);
        self.release(&run);
        self.flush();
    }

    /// Looks packets up and executes what is found, in their order. Releases them.
    pub(crate) fn pass(&mut self, packets: Run, depth: u32) {
        let mut run = Run::new();
        let mut current: Option<Arc<Local>> = None;
        let hash_of = |&slot: &u16| {
            let key = &self.meta[usize::from(slot)].key;
            let hash = connection_hash(self.caches.secret(), key);
            self.caches.prefetch(hash);
            hash
        };
        let hashes: ArrayVec<u64, BATCH> = packets.iter().map(hash_of).collect();
        for (slot, hash) in packets.into_iter().zip(hashes) {
            let found = self.find(slot, hash, current.as_ref());
            if matches!(found, Found::Current) {
                run.push(slot);
                continue;
            }
            if let Some(local) = current.take() {
                self.run_flow(&mut run, &local, depth);
            }
            run.clear();
            if let Found::Other(local) = found {
                run.push(slot);
                current = Some(local);
            } else {
                let actions = self.miss(slot);
                let mut one = Run::from_iter([slot]);
                self.execute_counted(&mut one, &actions, depth);
                self.release(&one);
            }
        }
        if let Some(local) = current {
            self.run_flow(&mut run, &local, depth);
        }
    }

    /// The flow of a packet with this [`connection_hash`]. A flow of an old generation is asked about
    /// first; if it is wrong it goes, and another one may answer.
    #[inline]
    fn find(&mut self, slot: u16, hash: u64, current: Option<&Arc<Local>>) -> Found {
        let key = &self.meta[usize::from(slot)].key;
        loop {
            let stats = &self.shared.stats[self.id];
            let Some((local, hit)) = self.caches.look_up(hash, key) else { return Found::Nothing };
            if local.flow.generation() >= self.generation {
                match hit {
                    Hit::Exact => stats.hit_exact.add(1),
                    Hit::Megaflow(n) => {
                        stats.hit_megaflow.add(1);
                        stats.subtables_searched.add(u64::from(n));
                    }
                }
            } else {
                match self.shared.slow.revalidate(self.now, key) {
                    Revalidation::Later => stats.stale.add(1),
                    Revalidation::Flow(spec) if confirm(&local.flow, &spec) => stats.stale.add(1),
                    Revalidation::Flow(_) | Revalidation::Gone => {
                        self.shared.registry.remove(&local.flow);
                        continue;
                    }
                }
            }
            return match current {
                Some(c) if Arc::ptr_eq(c, local) => Found::Current,
                _ => Found::Other(Arc::clone(local)),
            };
        }
    }

    /// The flow that would answer for a key at once.
    pub(crate) fn cached(&mut self, key: &PacketKey) -> Option<Arc<Local>> {
        let hash = connection_hash(self.caches.secret(), key);
        let (local, _) = self.caches.look_up(hash, key)?;
        (local.flow.generation() >= self.generation).then(|| Arc::clone(local))
    }

    /// No cache knows the packet: asks the slow path.
    fn miss(&mut self, slot: u16) -> Arc<[DpAction]> {
        self.stats().missed.add(1);
        let meta = &self.meta[usize::from(slot)];
        let began = std::time::Instant::now();
        let up = self.shared.slow.upcall(self.now, &self.bufs[usize::from(slot)], &meta.key);
        self.stats().slow_ns.add(began.elapsed().as_nanos() as u64);
        let actions = up.execute.or_else(|| up.flow.as_ref().map(|f| Arc::clone(&f.actions)));
        if let Some(spec) = up.flow {
            let stats = &self.shared.stats[self.id];
            let hash = connection_hash(self.caches.secret(), &meta.key);
            if !self.admission.admits(self.now, meta.key.in_port, hash) {
                stats.passed_over.add(1);
            } else if let Some(new) = self.shared.registry.install(&meta.key, spec, self.now) {
                stats.widened.add(u64::from(new.is_widened));
                self.caches.insert(&Local::new(new.flow));
            } else {
                stats.lost.add(1);
            }
        }
        actions.unwrap_or_else(|| Arc::from([DpAction::Drop(DropReason::UpcallError)]))
    }

    fn run_flow(&mut self, run: &mut Run, local: &Arc<Local>, depth: u32) {
        let (mut n_bytes, mut flags) = (0, 0);
        for &slot in run.iter() {
            n_bytes += self.bufs[usize::from(slot)].len() as u64;
            let meta = &self.meta[usize::from(slot)];
            flags |= meta.key.tcp_flags;
            if let Some(trail) = self.trails.get_mut(usize::from(meta.trail)) {
                trail.hit(local);
            }
        }
        local.flow.count(self.id, self.now, run.len() as u64, n_bytes, flags);
        self.execute_counted(run, &local.actions, depth);
        self.release(run);
    }

    /// Brings the header fields of the key up to the bytes.
    pub(crate) fn refresh(&mut self, slot: u16) {
        let (buf, meta) = (&mut self.bufs[usize::from(slot)], &mut self.meta[usize::from(slot)]);
        if !std::mem::take(&mut meta.stale) {
            return;
        }
        meta.is_read = false;
        let old = meta.key;
        let mut key = PacketKey::ZERO;
        key.tunnel = old.tunnel;
        (key.skb_priority, key.pkt_mark) = (old.skb_priority, old.pkt_mark);
        (key.dp_hash, key.recirc_id) = (old.dp_hash, old.recirc_id);
        (key.in_port, key.packet_type) = (old.in_port, old.packet_type);
        (key.ct_state, key.ct_zone, key.ct_mark) = (old.ct_state, old.ct_zone, old.ct_mark);
        (key.ct_label, key.ct_nw_proto) = (old.ct_label, old.ct_nw_proto);
        (key.ct_nw_src, key.ct_nw_dst) = (old.ct_nw_src, old.ct_nw_dst);
        (key.ct_ipv6_src, key.ct_ipv6_dst) = (old.ct_ipv6_src, old.ct_ipv6_dst);
        (key.ct_tp_src, key.ct_tp_dst) = (old.ct_tp_src, old.ct_tp_dst);
        flow::extract(buf, &mut key);
        meta.key = key;
    }

    /// A slot for a copy.
    fn vacant(&mut self) -> usize {
        match self.free.pop() {
            Some(slot) => usize::from(slot),
            None => {
                self.bufs.push(PacketBuf::with_capacity(2048));
                self.meta.push(Meta::NEW);
                self.bufs.len() - 1
            }
        }
    }

    /// A slot, held by the caller, with a packet that waited in none.
    pub(crate) fn admit(&mut self, packet: &Waiting) -> u16 {
        let slot = self.vacant();
        self.bufs[slot].copy_from(&packet.buf);
        self.meta[slot] = Meta { held: true, ..packet.meta.clone() };
        slot as u16
    }

    /// A copy of a packet, held by the caller.
    pub(crate) fn copy(&mut self, from: u16) -> u16 {
        let slot = self.vacant();
        let (low, high) = self.bufs.split_at_mut(slot.max(usize::from(from)));
        if slot > usize::from(from) {
            high[0].copy_from(&low[usize::from(from)]);
        } else {
            low[slot].copy_from(&high[0]);
        }
        self.meta[slot] =
            Meta { queued: false, held: true, ..self.meta[usize::from(from)].clone() };
        slot as u16
    }

    /// Copies of all packets of a run, held by the caller.
    pub(crate) fn copies(&mut self, run: &Run) -> Run {
        run.iter().map(|&s| self.copy(s)).collect()
    }

    /// Makes a packet changeable: one that is queued is replaced in its run by a copy.
    pub(crate) fn own(&mut self, slot: &mut u16) {
        if self.meta[usize::from(*slot)].queued {
            let copy = self.copy(*slot);
            self.let_go(*slot);
            *slot = copy;
        }
    }

    /// The run is done.
    pub(crate) fn release(&mut self, run: &[u16]) {
        run.iter().for_each(|&s| self.let_go(s));
        if self.bufs.len() - BATCH - self.free.len() >= MANY_COPIES {
            self.flush();
        }
    }

    fn let_go(&mut self, slot: u16) {
        let meta = &mut self.meta[usize::from(slot)];
        if usize::from(slot) >= BATCH && std::mem::take(&mut meta.held) && !meta.queued {
            self.free.push(slot);
        }
    }

    /// Queues a packet for a port.
    pub(crate) fn output(&mut self, port: DpPort, slot: u16) {
        let Some(Some(out)) = self.ports.get_mut(port.0 as usize) else {
            self.drop_packets(DropReason::InvalidPort, 1);
            return;
        };
        if out.slots.is_empty() {
            self.dirty.push(port.0);
        }
        out.slots.push(slot);
        self.meta[usize::from(slot)].queued = true;
    }

    /// Sends all queues.
    fn flush(&mut self) {
        while let Some(port) = self.dirty.pop() {
            let Some(Some(out)) = self.ports.get_mut(port as usize) else { continue };
            let mut lost = 0;
            for chunk in out.slots.chunks(BATCH) {
                let frames: ArrayVec<&PacketBuf, BATCH> =
                    chunk.iter().map(|&s| &self.bufs[usize::from(s)]).collect();
                lost += frames.len() - out.queue.send(&frames).min(frames.len());
                let stats = &self.shared.stats[self.id];
                stats.sent.add(frames.len() as u64);
                stats.sent_batches.add(1);
            }
            for slot in out.slots.drain(..) {
                let meta = &mut self.meta[usize::from(slot)];
                // The first queue that names a copy frees it; it stays untouched until all are
                // sent, because nothing is copied here.
                let was = std::mem::take(&mut meta.queued);
                if was && !meta.held && usize::from(slot) >= BATCH {
                    self.free.push(slot);
                }
            }
            if lost > 0 {
                self.shared.stats[self.id].drop(DropReason::TxFull, lost as u64);
            }
        }
    }
}
