//! A batch with the connection cache.
//!
//! Stages: read the words of all packets and ask for their entries; find them, and ask for their
//! connections; then part by part, in the order in which they came, packets that have an entry and those
//! that have none. A part's packets go through the tracker shard by shard, then run by run
//! through the actions of their path.

use std::ops::Range;

use arrayvec::ArrayVec;
use base::DpPort;
use conntrack::{ConnId, CtState, Known, PacketView, Sent, Shards, Standing, Translation};
use dpif::DropReason;
use netdev::BATCH;

use super::head::Head;
use super::path::{CtStep, MAX_STEPS, Path, Replay, Stage};
use super::table::{Entry, MAX_CONNS, Sight};
use super::{ConnCache, Way};
use crate::engine::{Engine, Run};
use crate::nat;

/// Connections from which on it pays to ask for all before the first is needed.
const FEW: usize = 4;

/// How the packets of a part fared in the tracker.
#[derive(Debug)]
enum Fate {
    /// As the path expects.
    Fits,
    /// And these are the translations of its steps.
    Translated(ArrayVec<(usize, Translation), MAX_STEPS>),
    /// Otherwise; the verdicts that it got.
    Differs(Replay),
}

/// The verdict of an earlier step.
type Prior = Option<(ConnId, CtState)>;

/// What one packet's steps came to.
type Passed = Result<ArrayVec<(usize, Translation), MAX_STEPS>, Replay>;

impl ConnCache {
    /// Reads a packet and asks for its entry; whether it is plain.
    #[inline]
    fn read(&mut self, slot: usize, frame: &[u8], port: DpPort) -> bool {
        let head = &mut self.heads[slot];
        let plain = head.read(frame, port, self.secret);
        if plain {
            match head.is_v6() {
                false => self.v4.prefetch(head.hash),
                true => self.v6.prefetch(head.hash),
            }
        }
        plain
    }

    /// Which way a plain packet goes.
    #[inline]
    fn way(&mut self, slot: usize, generation: u64, view: impl Fn(&Head) -> Option<Sent>) -> Way {
        match self.sight(slot) {
            Sight::First => Way::Long,
            Sight::Again => Way::Noted,
            Sight::Known(entry) => {
                let Some(path) = self.path(entry.path, generation) else { return Way::Long };
                if !path.steps.is_empty() {
                    match view(&self.heads[slot]) {
                        Some(sent) => self.sent[slot] = sent,
                        None => return Way::Long,
                    }
                }
                Way::Short(entry)
            }
        }
    }

    fn path_of(&self, entry: &Entry) -> Option<&std::sync::Arc<Path>> {
        self.paths.get(entry.path.at as usize)?.path.as_ref()
    }

    fn n_conns(&self, slot: usize) -> Option<usize> {
        match &self.ways[slot] {
            Way::Short(entry) => self.path_of(entry).map(|p| p.n_conns),
            _ => None,
        }
    }
}

impl Engine {
    /// Processes the `n` frames in the first buffers with the cache's help.
    pub(crate) fn serve(&mut self, cache: &mut ConnCache, port: DpPort, n: usize) {
        cache.batch += 1;
        cache.ways[..n].fill(Way::Long);
        let mut plain = 0_u32;
        for (slot, buf) in self.bufs[..n].iter().enumerate() {
            plain |= u32::from(cache.read(slot, buf.frame(), port)) << slot;
        }
        for slot in 0..n {
            if plain & 1 << slot == 0 {
                continue;
            }
            let buf = &self.bufs[slot];
            cache.ways[slot] = cache.way(slot, self.generation, |head| {
                Sent::read(&PacketView {
                    frame: buf.frame(),
                    l3: head.l3.into(),
                    eth_type: head.eth_type(),
                    csum_trusted: buf.offload.csum_trusted(),
                })
            });
        }
        self.ask_for_connections(cache, n);
        let mut at = 0;
        while at < n {
            let kind = cache.n_conns(at);
            let alike = |slot: &usize| match kind {
                // With connections of several shards one after the other, so that each shard sees
                // packets in their order.
                Some(2..) => false,
                Some(_) => cache.n_conns(*slot).is_some_and(|n| n < 2),
                None => cache.n_conns(*slot).is_none(),
            };
            let end = (at + 1..n).find(|s| !alike(s)).unwrap_or(n);
            match kind {
                Some(_) => self.short(cache, at..end, port),
                None => self.long(cache, at..end, port),
            }
            at = end;
        }
        self.expire_fragments_if_due();
    }

    /// The long way, with notes of those packets that may be remembered.
    fn long(&mut self, cache: &mut ConnCache, slots: Range<usize>, port: DpPort) {
        let mut run = Run::new();
        for slot in slots.clone() {
            if !self.admit_received(slot, port) {
                continue;
            }
            if let Way::Noted = cache.ways[slot] {
                self.trails[slot].begin(&cache.heads[slot]);
                self.meta[slot].trail = slot as u8;
            }
            run.push(slot as u16);
        }
        self.pass(run, 0);
        for slot in slots {
            if let Way::Noted = cache.ways[slot] {
                cache.learn(&mut self.trails[slot]);
            }
        }
    }

    /// Asks for the connections of all packets that have some.
    fn ask_for_connections(&mut self, cache: &ConnCache, n: usize) {
        let mut all: ArrayVec<ConnId, { 2 * BATCH }> = ArrayVec::new();
        for way in &cache.ways[..n] {
            let Way::Short(entry) = way else { continue };
            let n_conns = cache.path_of(entry).map_or(0, |p| p.n_conns);
            for conn in &entry.conns[..n_conns] {
                if all.last() != Some(conn) {
                    all.push(*conn);
                }
            }
        }
        if all.len() <= FEW {
            return;
        }
        all.sort_unstable_by_key(|c| c.shard());
        let ct = &*self.shared.ct;
        for group in all.chunk_by(|a, b| a.shard() == b.shard()) {
            ct.with(group[0].shard(), |t| group.iter().for_each(|c| t.prefetch_known(*c)));
        }
    }

    /// Packets with entries.
    fn short(&mut self, cache: &mut ConnCache, slots: Range<usize>, port: DpPort) {
        let mut fates: [Fate; BATCH] = [const { Fate::Fits }; BATCH];
        self.track_part(cache, slots.clone(), &mut fates);
        let mut run = Run::new();
        let mut at = slots.start;
        while at < slots.end {
            let Way::Short(entry) = cache.ways[at] else { break };
            let Some(path) = cache.path_of(&entry).map(std::sync::Arc::clone) else { break };
            match std::mem::replace(&mut fates[at], Fate::Fits) {
                Fate::Fits => {
                    // All that go the same way.
                    let mut end = at;
                    while end < slots.end
                        && let Fate::Fits = fates[end]
                        && let Way::Short(e) = &cache.ways[end]
                        && e.path == entry.path
                    {
                        run.push(end as u16);
                        end += 1;
                    }
                    self.follow(cache, &path, &mut run, &[], port);
                    run.clear();
                    at = end;
                }
                Fate::Translated(nats) => {
                    run.push(at as u16);
                    self.follow(cache, &path, &mut run, &nats, port);
                    run.clear();
                    at += 1;
                }
                Fate::Differs(replay) => {
                    cache.ways[at] = Way::Noted;
                    self.replay = replay;
                    self.long(cache, at..at + 1, port);
                    self.replay.clear();
                    at += 1;
                }
            }
        }
    }

    /// Sends a part's packets through the tracker.
    fn track_part(&self, cache: &ConnCache, slots: Range<usize>, fates: &mut [Fate; BATCH]) {
        let mut order: ArrayVec<(u16, u8), BATCH> = ArrayVec::new();
        for slot in slots {
            let Way::Short(entry) = &cache.ways[slot] else { continue };
            match cache.path_of(entry).map_or(0, |p| p.n_conns) {
                0 => {}
                1 => order.push((entry.conns[0].shard() as u16, slot as u8)),
                _ => fates[slot] = self.track_one(cache, slot),
            }
        }
        if order.windows(2).any(|w| w[0].0 != w[1].0) {
            order.sort_unstable();
        }
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            self.shared.ct.with(group[0].0.into(), |t| {
                // After a packet that went otherwise, those of its connection may too.
                let mut odd: ArrayVec<ConnId, BATCH> = ArrayVec::new();
                for &(_, slot) in group {
                    let slot = usize::from(slot);
                    let Way::Short(entry) = &cache.ways[slot] else { continue };
                    let Some(path) = cache.path_of(entry) else { continue };
                    if odd.contains(&entry.conns[0]) {
                        fates[slot] = Fate::Differs(Replay::new());
                        continue;
                    }
                    let passed = steps(path, &entry.conns, |step, known, prior| {
                        t.track_known(self.now, known, &cache.sent[slot], &step.request, prior)
                    });
                    if passed.is_err() {
                        odd.push(entry.conns[0]);
                    }
                    fates[slot] = fate(passed);
                }
            });
        }
    }

    /// Sends one packet of several connections through the tracker.
    fn track_one(&self, cache: &ConnCache, slot: usize) -> Fate {
        let Way::Short(entry) = &cache.ways[slot] else { return Fate::Fits };
        let Some(path) = cache.path_of(entry) else { return Fate::Fits };
        fate(steps(path, &entry.conns, |step, known, prior| {
            self.shared.ct.with(known.conn.shard(), |t| {
                t.track_known(self.now, known, &cache.sent[slot], &step.request, prior)
            })
        }))
    }

    /// Carries a path out for packets that all fit it.
    fn follow(
        &mut self,
        cache: &ConnCache,
        path: &Path,
        run: &mut Run,
        nats: &[(usize, Translation)],
        port: DpPort,
    ) {
        let (mut n_bytes, mut flags) = (0, 0);
        for &slot in run.iter() {
            n_bytes += self.bufs[usize::from(slot)].len() as i64;
            flags |= cache.heads[usize::from(slot)].tcp_flags();
        }
        let n = run.len();
        for f in &path.flows {
            let bytes = n_bytes + f.longer * n as i64;
            f.local.flow.count(self.id, self.now, n as u64, bytes as u64, flags);
        }
        self.stats().hit_conn.add((path.flows.len() * n) as u64);
        self.stats().recirculated.add((path.flows.len().saturating_sub(1) * n) as u64);
        if let Some(port) = path.output {
            run.iter().for_each(|&slot| self.output(port, slot));
            return;
        }
        for &slot in run.iter() {
            self.admit_received(usize::from(slot), port);
        }
        let mut done = false;
        for (i, stage) in path.stages.iter().enumerate() {
            run.iter().for_each(|&slot| self.refresh(slot));
            match stage {
                Stage::Translate(step) => {
                    let Some((_, t)) = nats.iter().find(|(at, _)| at == step) else { continue };
                    for slot in run.iter_mut() {
                        self.own(slot);
                        let s = usize::from(*slot);
                        nat::translate(&mut self.bufs[s], &mut self.meta[s].key, t);
                        self.meta[s].stale = true;
                    }
                }
                Stage::Do(actions) => {
                    let did = self.execute_stage(run, actions);
                    done |= did && i >= path.last;
                }
            }
        }
        if !done {
            self.drop_packets(DropReason::Pipeline, run.len());
        }
        self.release(run);
    }
}

/// Goes through the steps of a path for a packet of these connections. `track` gives the verdict of one.
#[inline]
fn steps(
    path: &Path,
    conns: &[ConnId; MAX_CONNS],
    mut track: impl FnMut(&CtStep, Known, Prior) -> Option<Standing>,
) -> Passed {
    let mut replay = Replay::new();
    let mut nats = ArrayVec::new();
    let mut prior = None;
    for (i, step) in path.steps.iter().enumerate() {
        let known = step.known(conns);
        let Some(s) = track(step, known, prior.filter(|_| step.has_prior)) else {
            return Err(replay);
        };
        // There are no more steps than fit.
        let _ = replay.try_push((known.conn, s.base));
        if !step.accepts(&s) {
            return Err(replay);
        }
        prior = Some((known.conn, s.state));
        if let Some(t) = s.nat {
            let _ = nats.try_push((i, t));
        }
    }
    Ok(nats)
}

fn fate(passed: Passed) -> Fate {
    match passed {
        Ok(nats) if nats.is_empty() => Fate::Fits,
        Ok(nats) => Fate::Translated(nats),
        Err(replay) => Fate::Differs(replay),
    }
}
