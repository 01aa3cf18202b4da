//! A batch with the connection cache.
//!
//! Stages: read the words of all packets and ask for their entries; find them, and ask for their
//! connections; then part by part, in the order in which they came, packets that have an entry and those
//! that have none. A part's packets go through the tracker shard by shard, then run by run
//! through the actions of their path.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use base::DpPort;
use conntrack::{ConnId, CtState, Known, PacketView, Sent, Shards, Standing, Translation};
use dpif::DropReason;
use netdev::BATCH;
use packet::PacketBuf;
use packet::header::tcp_flag;

use super::foresee::{Syn, handshake};
use super::path::{CtStep, Path, Replay, Stage};
use super::table::{MAX_CONNS, Sight};
use super::{ConnCache, Fate, Way, path_at};
use crate::ct::CtTable;
use crate::engine::{Engine, Run};
use crate::kernel::Candidate;
use crate::nat;

/// The verdict of an earlier step.
type Prior = Option<(ConnId, CtState)>;

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
    fn way(&mut self, slot: usize, generation: u64, buf: &PacketBuf) -> Way {
        let entry = match self.sight(slot) {
            Sight::New => return Way::Long,
            Sight::Again => return Way::Noted,
            Sight::Known(entry) => entry,
        };
        let Some(path) = self.path(entry.path, generation) else { return Way::Long };
        let n_conns = path.n_conns as u8;
        if n_conns > 0 {
            let head = &self.heads[slot];
            let view = PacketView {
                frame: buf.frame(),
                l3: head.l3.into(),
                eth_type: head.eth_type(),
                csum_trusted: buf.offload.csum_trusted(),
            };
            let Some(sent) = Sent::read(&view) else { return Way::Long };
            self.sent[slot] = sent;
        }
        self.entries[slot] = entry;
        Way::Short(n_conns)
    }
}

impl Engine {
    /// Processes the `n` frames in the first buffers with the cache's help.
    pub(crate) fn serve(&mut self, cache: &mut ConnCache, port: DpPort, n: usize) {
        cache.batch += 1;
        let mut plain = 0_u32;
        for (slot, buf) in self.bufs[..n].iter().enumerate() {
            plain |= u32::from(cache.read(slot, buf.frame(), port)) << slot;
        }
        for slot in 0..n {
            cache.ways[slot] = Way::Long;
            if plain & 1 << slot != 0 {
                cache.ways[slot] = cache.way(slot, self.generation, &self.bufs[slot]);
            }
        }
        ask_for_connections(&self.shared.ct, cache, n);
        let mut at = 0;
        while at < n {
            let way = cache.ways[at];
            let alike = |w: Way| match (way, w) {
                (Way::Short(0 | 1), Way::Short(n)) => n < 2,
                // With connections of several shards one after the other, so that each shard sees
                // packets in their order.
                (Way::Short(_), _) | (_, Way::Short(_)) => false,
                _ => true,
            };
            let more = cache.ways[at + 1..n].iter().take_while(|w| alike(**w)).count();
            let part = at..at + 1 + more;
            at = part.end;
            match way {
                Way::Short(n_conns) => {
                    if n_conns < 2 {
                        self.track_part(cache, part.clone());
                    } else {
                        self.track_one(cache, part.start);
                    }
                    self.short(cache, part, port);
                }
                Way::Long | Way::Noted => self.long(cache, part, port),
            }
        }
        match self.n_open.take() {
            0 => {}
            n => self.shared.ct.count_found(n),
        }
        self.expire_fragments_if_due();
    }

    /// The long way, with notes of those packets that may be remembered.
    fn long(&mut self, cache: &mut ConnCache, slots: Range<usize>, port: DpPort) {
        let mut run = Run::new();
        // What may open a connection or answer, where the kernel can have the rest of it.
        let (mut syns, mut offered) = (ArrayVec::<Syn, BATCH>::new(), None);
        for slot in slots.clone() {
            if !self.admit_received(slot, port) {
                continue;
            }
            let key = &self.meta[slot].key;
            if key.tcp_flags & tcp_flag::SYN != 0
                && let Some(kernel) = &self.shared.kernel
                && *offered.get_or_insert_with(|| kernel.comes_by(port))
            {
                if self.offers.is_news(port, key.dl_src) {
                    kernel.hear(port, key.dl_src);
                }
                syns.push(Syn::new(slot, self.bufs[slot].frame()));
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
        for syn in &syns {
            if let Some(of) = handshake(&self.meta[syn.slot]) {
                self.foresee(cache, syn, port, of);
            }
        }
    }

    /// Packets with entries, after the tracker.
    fn short(&mut self, cache: &mut ConnCache, slots: Range<usize>, port: DpPort) {
        let mut run = Run::new();
        let mut at = slots.start;
        while at < slots.end {
            let entry = cache.entries[at];
            if let Fate::Differs = cache.fates[at] {
                cache.ways[at] = Way::Noted;
                let found = cache.replays.iter().position(|r| r.0 == at);
                self.replay = found.map(|i| cache.replays.swap_remove(i).1).unwrap_or_default();
                self.long(cache, at..at + 1, port);
                self.replay.clear();
                at += 1;
                continue;
            }
            let Some(path) = path_at(&cache.paths, entry.path).map(Arc::clone) else { break };
            // All that go the same way; each translation is its own.
            let alone = cache.fates[at] == Fate::Translated;
            let alike = |s: &usize| {
                !alone && cache.fates[*s] == Fate::Fits && cache.entries[*s].path == entry.path
            };
            let end = (at + 1..slots.end).find(|s| !alike(s)).unwrap_or(slots.end);
            run.clear();
            run.extend((at..if alone { at + 1 } else { end }).map(|s| s as u16));
            at += run.len();
            self.follow(cache, &path, &mut run, port);
        }
        cache.nats.clear();
    }

    /// Sends a part's packets, of no more than one connection each, through the tracker: those that need no shard,
    /// then the others shard by shard.
    fn track_part(&self, cache: &mut ConnCache, slots: Range<usize>) {
        let ConnCache { paths, ways, entries, sent, fates, nats, replays, .. } = cache;
        let mut order: ArrayVec<(u16, u8), BATCH> = ArrayVec::new();
        // After a packet that went otherwise, those of its connection may too; and behind one that needs a shard, all
        // of its connection visit it.
        let mut odd: ArrayVec<ConnId, BATCH> = ArrayVec::new();
        let (mut shards, mut held_up) = (0_u64, 0_u64);
        for slot in slots {
            fates[slot] = Fate::Fits;
            if ways[slot] != Way::Short(1) {
                continue;
            }
            let conns = &entries[slot].conns;
            let mark = 1 << (conns[0].to_parts().0 & 63);
            let Some(path) = path_at(paths, entries[slot].path) else { continue };
            let Some(first) = path.steps.first() else { continue };
            let mut served = None;
            if held_up & mark == 0 && !odd.contains(&conns[0]) {
                served = self.track_openly(first, first.known(conns), &sent[slot], None);
            }
            if served.is_some() {
                let mut notes = Notes { slot, nats, replays };
                fates[slot] = notes.judge(path, conns, |step, known, prior, nat| {
                    served.take().or_else(|| self.track_step(step, known, &sent[slot], prior, nat))
                });
                if fates[slot] == Fate::Differs {
                    odd.push(conns[0]);
                }
                continue;
            }
            held_up |= mark;
            let shard = conns[0].shard() as u16;
            shards |= 1 << (shard & 63);
            order.push((shard, slot as u8));
        }
        if shards.count_ones() > 1 {
            order.sort_unstable();
        }
        let groups: ArrayVec<_, BATCH> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let prepare = |i: usize| self.shared.ct.prepare(groups[i][0].0.into());
        conntrack::as_they_come((1 << groups.len()) - 1, prepare, |i, wait| {
            let group = groups[i];
            let visited = self.shared.ct.try_with(group[0].0.into(), wait, |t| {
                for &(_, slot) in group {
                    let slot = usize::from(slot);
                    let conns = &entries[slot].conns;
                    if odd.contains(&conns[0]) {
                        fates[slot] = Fate::Differs;
                        continue;
                    }
                    let Some(path) = path_at(paths, entries[slot].path) else { continue };
                    let mut notes = Notes { slot, nats, replays };
                    fates[slot] = notes.judge(path, conns, |step, known, prior, nat| {
                        t.track_known(self.now, known, &sent[slot], &step.request, prior, nat)
                    });
                    if fates[slot] == Fate::Differs {
                        odd.push(conns[0]);
                    }
                }
            });
            visited.is_some()
        });
    }

    /// Sends one packet of several connections through the tracker.
    fn track_one(&self, cache: &mut ConnCache, slot: usize) {
        let ConnCache { paths, entries, sent, fates, nats, replays, .. } = cache;
        let Some(path) = path_at(paths, entries[slot].path) else { return };
        let mut notes = Notes { slot, nats, replays };
        fates[slot] = notes.judge(path, &entries[slot].conns, |step, known, prior, nat| {
            self.track_step(step, known, &sent[slot], prior, nat)
        });
    }

    /// One `ct` action for a packet, with the connection's shard only if need be.
    fn track_step(
        &self,
        step: &CtStep,
        known: Known,
        sent: &Sent,
        prior: Prior,
        nat: &mut Option<Translation>,
    ) -> Option<Standing> {
        self.track_openly(step, known, sent, prior).or_else(|| {
            self.shared.ct.with(known.conn.shard(), |t| {
                t.track_known(self.now, known, sent, &step.request, prior, nat)
            })
        })
    }

    /// The same without the shard; `None` if it takes that, and nothing has changed.
    #[inline]
    fn track_openly(
        &self,
        step: &CtStep,
        known: Known,
        sent: &Sent,
        prior: Prior,
    ) -> Option<Standing> {
        let ct = &self.shared.ct;
        let ahead = ct.lookahead(known.conn.shard()).filter(|a| a.is_open())?;
        let standing = ahead.track_known(self.now, known, sent, &step.request, prior)?;
        if prior.is_none_or(|p| p.0 != known.conn) {
            self.n_open.update(|n| n + 1);
        }
        Some(standing)
    }

    /// Offers the connection of a packet to the kernel.
    #[cold]
    fn offer(&mut self, cache: &ConnCache, path: &Arc<Path>, slot: usize, in_port: DpPort) {
        let Some(kernel) = &self.shared.kernel else { return };
        let candidate = Candidate {
            head: &cache.heads[slot],
            path,
            conn: (path.n_conns > 0).then_some(cache.entries[slot].conns[0]),
            in_port,
            generation: self.generation,
            now: self.now,
            follows: false,
        };
        kernel.offer(&self.shared.ct, &candidate, &mut self.offers);
    }

    /// Carries a path out for packets that all fit it.
    fn follow(&mut self, cache: &ConnCache, path: &Arc<Path>, run: &mut Run, port: DpPort) {
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
        if self.shared.kernel.is_some() && self.offers.is_due() {
            self.offer(cache, path, run[0].into(), port);
        }
        if let Some(to) = path.output {
            run.iter().for_each(|&slot| self.output(to, slot));
            return;
        }
        let first = usize::from(run[0]);
        for &slot in run.iter() {
            self.admit_received(usize::from(slot), port);
        }
        let mut done = false;
        for (i, stage) in path.stages.iter().enumerate() {
            run.iter().for_each(|&slot| self.refresh(slot));
            match stage {
                Stage::Translate(step) => {
                    let of_step = |n: &&(usize, usize, _)| (n.0, n.1) == (first, *step);
                    let Some((.., t)) = cache.nats.iter().find(of_step) else { continue };
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

/// Asks for the connections of all packets that have some.
fn ask_for_connections(ct: &CtTable, cache: &ConnCache, n: usize) {
    for (way, entry) in cache.ways[..n].iter().zip(&cache.entries) {
        let Way::Short(n_conns) = way else { continue };
        for conn in &entry.conns[..usize::from(*n_conns)] {
            ct.lookahead(conn.shard()).into_iter().for_each(|a| a.prefetch_known(*conn));
        }
    }
}

/// Where it is noted what became of a packet in the tracker.
struct Notes<'a> {
    slot: usize,
    nats: &'a mut Vec<(usize, usize, Translation)>,
    replays: &'a mut Vec<(usize, Replay)>,
}

impl Notes<'_> {
    /// Goes through the steps of a path for a packet of these connections. `track` gives the verdict of
    /// one, and its translation.
    #[inline]
    fn judge(
        &mut self,
        path: &Path,
        conns: &[ConnId; MAX_CONNS],
        mut track: impl FnMut(&CtStep, Known, Prior, &mut Option<Translation>) -> Option<Standing>,
    ) -> Fate {
        let mut fate = Fate::Fits;
        let mut prior: Prior = None;
        // The state of each step's connection before its translation.
        let mut bases = Replay::new();
        for (i, step) in path.steps.iter().enumerate() {
            let known = step.known(conns);
            let mut nat = None;
            let s = track(step, known, prior.filter(|_| step.has_prior), &mut nat);
            // There are no more steps than fit.
            if let Some(s) = &s {
                let _ = bases.try_push((known.conn, s.base));
            }
            let Some(s) = s.filter(|s| step.accepts(s, nat.is_some())) else {
                self.replays.push((self.slot, bases));
                return Fate::Differs;
            };
            prior = Some((known.conn, s.state));
            if let Some(t) = nat {
                self.nats.push((self.slot, i, t));
                fate = Fate::Translated;
            }
        }
        fate
    }
}
