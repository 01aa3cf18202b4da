//! Executing actions over a run of packets.

use std::mem;

use arrayvec::ArrayVec;
use base::RecircId;
use conntrack::{CtRequest, Edit, InvalidReason, Outcome, PacketView, Translation};
use dpif::{DpAction, DropReason, HashAlg, SetGroup, SetMasked};
use flow::{PacketKey, hash};
use netdev::BATCH;
use packet::GsoType;
use packet::header::ethertype;

use crate::engine::{Engine, MAX_RECIRCULATIONS, Run};
use crate::fragments::{Fate, Waiting};
use crate::meter::{self, Frame, Verdict};
use crate::{alg, ct, nat, rewrite};

/// The bits of the TOS that are the DSCP.
const DSCP: u8 = 0xfc;

/// Action lists within action lists.
const MAX_NESTING: u32 = 16;

/// How deep the packet already is.
#[derive(Copy, Clone)]
struct Depth {
    recirculations: u32,
    nesting: u32,
}

/// The fragments of a datagram that became whole at a `ct` action, and how many packets of the run are before them.
type Datagram = (usize, Vec<Waiting>);

enum Todo {
    /// With what else is to be changed in a control connection's packet.
    Translate(Translation, Option<Box<Edit>>),
    /// There is no tuple to translate it to.
    Exhausted,
    Fragment,
}

impl Engine {
    /// Executes a flow's actions; packets that went nowhere are counted as dropped by the
    /// pipeline.
    pub(crate) fn execute_counted(&mut self, run: &mut Run, actions: &[DpAction], depth: u32) {
        if !self.execute(run, actions, Depth { recirculations: depth, nesting: 0 }) {
            self.drop_packets(DropReason::Pipeline, run.len());
        }
    }

    /// Executes some of a flow's actions; whether anything became of the packets.
    pub(crate) fn execute_stage(&mut self, run: &mut Run, actions: &[DpAction]) -> bool {
        self.execute(run, actions, Depth { recirculations: 0, nesting: 0 })
    }

    /// Executes actions. Returns whether anything became of the packets that are in the run afterwards,
    /// be it a counted drop. These are the caller's to release.
    fn execute(&mut self, run: &mut Run, actions: &[DpAction], depth: Depth) -> bool {
        let mut done = false;
        let mut trunc = None;
        if depth.nesting > MAX_NESTING {
            self.drop_packets(DropReason::NestingTooDeep, run.len());
            return true;
        }
        for (i, action) in actions.iter().enumerate() {
            let last = i + 1 == actions.len();
            match action {
                DpAction::Output(port) => {
                    let limit = mem::take(&mut trunc);
                    for &slot in run.iter() {
                        match limit {
                            Some(n) => self.output_truncated(*port, slot, n),
                            None => self.output(*port, slot),
                        }
                    }
                    done = true;
                }
                DpAction::Ct(request) => {
                    let whole = self.track(run, request);
                    if !whole.is_empty() {
                        self.go_on(run, whole, &actions[i + 1..], depth, done);
                    }
                    if run.is_empty() {
                        return true;
                    }
                }
                DpAction::CtClear => {
                    for &slot in run.iter() {
                        let meta = &mut self.meta[usize::from(slot)];
                        ct::clear(&mut meta.key);
                        meta.prior = None;
                    }
                }
                DpAction::Recirc(id) => {
                    self.on_branch(run, last, |e, r| e.recirculate(r, *id, depth.recirculations));
                    done = true;
                }
                DpAction::Set(set) => {
                    for slot in run.iter_mut() {
                        let bytes = !matches!(
                            set.group,
                            SetGroup::SkbMark | SetGroup::SkbPriority | SetGroup::Tunnel
                        );
                        if bytes {
                            self.own(slot);
                        }
                        let s = usize::from(*slot);
                        let (buf, meta) = (&mut self.bufs[s], &mut self.meta[s]);
                        rewrite::set(buf, &mut meta.key, set);
                        meta.stale |= bytes;
                    }
                }
                DpAction::PushVlan { tpid, tci } => {
                    self.rewrite(run, |buf, _| rewrite::push_vlan(buf, *tpid, *tci));
                }
                DpAction::PopVlan => self.rewrite(run, |buf, _| {
                    rewrite::pop_vlan(buf);
                }),
                DpAction::PushMpls { ethertype, lse } => {
                    self.rewrite(run, |buf, key| rewrite::push_mpls(buf, key, *ethertype, *lse));
                }
                DpAction::PopMpls { ethertype } => {
                    self.rewrite(run, |buf, key| rewrite::pop_mpls(buf, key, *ethertype));
                    // To read the packet anew is to see no deeper than as many tags as there is a limit
                    // to: let it be before something else than a label comes.
                    if !matches!(*ethertype, ethertype::MPLS | ethertype::MPLS_MCAST) {
                        run.iter().for_each(|&s| self.refresh(s));
                    }
                }
                DpAction::PushEth { dst, src } => {
                    self.rewrite(run, |buf, key| {
                        rewrite::push_eth(buf, dst.0, src.0, key.packet_type as u16);
                        key.packet_type = 0;
                    });
                    run.iter().for_each(|&s| self.refresh(s));
                }
                DpAction::PopEth => self.rewrite(run, |buf, key| {
                    rewrite::pop_eth(buf);
                    key.packet_type = 1 << 16 | u32::from(key.dl_type);
                }),
                DpAction::AddMpls { ethertype, lse } => {
                    self.rewrite(run, |buf, key| rewrite::add_mpls(buf, key, *ethertype, *lse));
                    run.iter().for_each(|&s| self.refresh(s));
                }
                DpAction::PushNsh(header) => {
                    self.rewrite(run, |buf, key| rewrite::push_nsh(buf, key, header));
                    run.iter().for_each(|&s| self.refresh(s));
                }
                DpAction::PopNsh => {
                    run.iter().for_each(|&s| self.refresh(s));
                    self.rewrite(run, |buf, key| {
                        rewrite::pop_nsh(buf, key);
                    });
                    run.iter().for_each(|&s| self.refresh(s));
                }
                DpAction::Hash { alg, basis } => {
                    for &slot in run.iter() {
                        self.refresh(slot);
                        let key = &mut self.meta[usize::from(slot)].key;
                        key.dp_hash = flow_hash(key, *alg, *basis);
                    }
                }
                DpAction::Trunc(n) => trunc = Some(*n as usize),
                DpAction::Userspace(cookie) => {
                    for slot in mem::take(run) {
                        self.refresh(slot);
                        let s = usize::from(slot);
                        let (buf, key) = (&self.bufs[s], &self.meta[s].key);
                        let then = self.shared.slow.userspace(self.now, buf, key, cookie);
                        let mut one = Run::from_iter([slot]);
                        if let Some(then) = then {
                            self.on_branch(&mut one, last, |e, r| {
                                e.nested(r, &then, depth);
                            });
                        }
                        self.join(run, one, last);
                    }
                    done = true;
                }
                DpAction::Clone(actions) => {
                    let only_output = actions.iter().all(|a| matches!(a, DpAction::Output(_)));
                    self.on_branch(run, last || only_output, |e, r| {
                        e.nested(r, actions, depth);
                    });
                    done = true;
                }
                DpAction::Sample { probability, actions } => {
                    let mut chosen: Run =
                        run.iter().copied().filter(|_| self.chance(*probability)).collect();
                    if !chosen.is_empty() {
                        chosen = self.copies(&chosen);
                        self.nested(&mut chosen, actions, depth);
                        self.release(&chosen);
                    }
                    done = true;
                }
                DpAction::CheckPktLen { len, greater, less_or_equal } => {
                    let is_long = |e: &Engine, s: u16| e.wire_len(s) > usize::from(*len);
                    let (long, short): (Run, Run) =
                        mem::take(run).into_iter().partition(|&s| is_long(self, s));
                    for (mut part, actions) in [(long, greater), (short, less_or_equal)] {
                        self.on_branch(&mut part, last, |e, r| {
                            if !e.nested(r, actions, depth) && last {
                                e.drop_packets(DropReason::Pipeline, r.len());
                            }
                        });
                        self.join(run, part, last);
                    }
                    done = true;
                }
                DpAction::Meter(id) => {
                    self.meter(run, *id);
                    if run.is_empty() {
                        return true;
                    }
                }
                DpAction::Drop(reason) => {
                    self.drop_packets(*reason, run.len());
                    return true;
                }
            }
        }
        done
    }

    fn nested(&mut self, run: &mut Run, actions: &[DpAction], depth: Depth) -> bool {
        self.execute(run, actions, Depth { nesting: depth.nesting + 1, ..depth })
    }

    /// Does something that uses packets up: on the run itself if it is not needed afterwards,
    /// else on copies.
    fn on_branch(&mut self, run: &mut Run, last: bool, f: impl FnOnce(&mut Engine, &mut Run)) {
        if last {
            f(self, run);
        } else {
            let mut copies = self.copies(run);
            f(self, &mut copies);
            self.release(&copies);
        }
    }

    /// Takes packets back that were on a branch, unless nothing is left to do with them: then there may be more of
    /// them, fragments, than fit.
    fn join(&mut self, run: &mut Run, part: Run, last: bool) {
        if last {
            self.release(&part);
        } else {
            run.extend(part);
        }
    }

    /// Changes the bytes of all packets.
    fn rewrite(
        &mut self,
        run: &mut Run,
        mut f: impl FnMut(&mut packet::PacketBuf, &mut PacketKey),
    ) {
        for slot in run.iter_mut() {
            self.own(slot);
            let s = usize::from(*slot);
            f(&mut self.bufs[s], &mut self.meta[s].key);
            self.meta[s].stale = true;
        }
    }

    fn output_truncated(&mut self, port: base::DpPort, slot: u16, limit: usize) {
        if self.bufs[usize::from(slot)].len() <= limit {
            return self.output(port, slot);
        }
        let copy = self.copy(slot);
        let buf = &mut self.bufs[usize::from(copy)];
        buf.truncate(limit);
        // What is left is no packet that could be segmented or summed.
        buf.offload = packet::Offload::default();
        self.output(port, copy);
        self.release(&[copy]);
    }

    /// Sends packets through the tracker, and takes out of the run what the tracker refuses or holds. Gives
    /// what it held that is whole now.
    fn track(&mut self, run: &mut Run, request: &CtRequest) -> Vec<Datagram> {
        let mut batch = ct::Batch::default();
        for &slot in run.iter() {
            let s = usize::from(slot);
            let (was, l3, l4) = (self.meta[s].key.dl_type, self.bufs[s].l3(), self.bufs[s].l4());
            self.refresh(slot);
            let prior = self.replay.pop_at(0).or(self.meta[s].prior);
            if self.meta[s].is_read
                && let Some(before) = self.tracked.get(s)
            {
                batch.read_again(&self.shared.ct, before, request.zone, prior);
                continue;
            }
            let buf = &mut self.bufs[s];
            let mut dl_type = self.meta[s].key.dl_type;
            if matches!(dl_type, ethertype::VLAN | ethertype::QINQ) && dl_type != was {
                // What a pushed tag hides from a reader was there before.
                dl_type = was;
                buf.set_layers(l3, l4);
            }
            let view = PacketView::of(buf, dl_type);
            let read = batch.read(&self.shared.ct, &view, request.zone, prior);
            if let (Some(read), Some(place)) = (read, self.tracked.get_mut(s)) {
                place.clone_from(read);
                self.meta[s].is_read = true;
            }
        }
        // What is left to do about packets, by their places in the run.
        let mut todo: ArrayVec<(usize, Todo), BATCH> = ArrayVec::new();
        let bufs = &self.bufs;
        let ip = |i: usize| {
            let buf = &bufs[usize::from(run[i])];
            buf.l3().map_or(&[][..], |l3| &buf.frame()[l3..])
        };
        self.shared.ct.process_batch(self.now, &batch, request, ip, |i, info, edit| {
            let meta = &mut self.meta[usize::from(run[i])];
            ct::store(&mut meta.key, info);
            meta.prior = info.conn.map(|c| (c, info.state));
            if let Some(trail) = self.trails.get_mut(usize::from(meta.trail)) {
                trail.tracked(info);
            }
            if let Some(translation) = info.nat {
                todo.push((i, Todo::Translate(translation, edit.copied().map(Box::new))));
            } else if info.outcome == Outcome::NatExhausted {
                todo.push((i, Todo::Exhausted));
            } else if info.invalid == Some(InvalidReason::Fragment) {
                todo.push((i, Todo::Fragment));
            }
        });
        todo.sort_unstable_by_key(|(i, _)| *i);
        let mut gone = Run::new();
        let mut whole = Vec::new();
        for (i, todo) in todo {
            let slot = run[i];
            match todo {
                Todo::Translate(translation, edit) => {
                    self.own(&mut run[i]);
                    let s = usize::from(run[i]);
                    if let Some(edit) = edit {
                        alg::edit(&mut self.bufs[s], &self.meta[s].key, &edit);
                    }
                    nat::translate(&mut self.bufs[s], &mut self.meta[s].key, &translation);
                    self.meta[s].stale = true;
                }
                Todo::Exhausted => {
                    self.drop_packets(DropReason::NatExhausted, 1);
                    gone.push(slot);
                }
                Todo::Fragment => match self.fragment(slot, request) {
                    Fate::Refused(info) => {
                        ct::store(&mut self.meta[usize::from(slot)].key, &info);
                    }
                    Fate::Gone => gone.push(slot),
                    Fate::Whole(datagram) => {
                        whole.push((i - gone.len(), datagram));
                        gone.push(slot);
                    }
                },
            }
        }
        if !gone.is_empty() {
            run.retain(|s| !gone.contains(s));
            self.release(&gone);
        }
        self.expire_fragments_if_due();
        whole
    }

    /// Puts the fragments of whole datagrams among the packets of a run and executes the actions behind their `ct` action,
    /// part by part as it is too much for one run. The last part is left in the run: its caller goes on with it,
    /// so that there may be any number of such actions. `done` says whether anything became of the packets already.
    #[cold]
    fn go_on(
        &mut self,
        run: &mut Run,
        whole: Vec<Datagram>,
        rest: &[DpAction],
        depth: Depth,
        done: bool,
    ) {
        let mut last = Run::new();
        let mut next = |e: &mut Engine, part: Run| {
            if part.is_empty() {
                return;
            }
            let mut before = mem::replace(&mut last, part);
            if !before.is_empty()
                && !e.execute(&mut before, rest, depth)
                && !done
                && depth.nesting == 0
            {
                e.drop_packets(DropReason::Pipeline, before.len());
            }
            e.release(&before);
        };
        let mut packets = mem::take(run).into_iter();
        let mut n_before = 0;
        for (at, datagram) in whole {
            next(self, packets.by_ref().take(at - n_before).collect());
            n_before = at;
            for chunk in datagram.chunks(BATCH) {
                let slots = chunk.iter().map(|f| self.admit(f)).collect();
                next(self, slots);
            }
        }
        next(self, packets.collect());
        *run = last;
    }

    /// Takes the packets that a meter drops out of the run, and re-marks those that it says so of.
    fn meter(&mut self, run: &mut Run, id: u32) {
        let frames: ArrayVec<Frame, BATCH> = (run.iter())
            .map(|&s| {
                let n_bytes = self.bufs[usize::from(s)].len() as u64;
                Frame { n_bytes, wire: self.on_wire(s) }
            })
            .collect();
        let verdicts = self.shared.meters.pass(id, self.now, &frames);
        let mut dropped = Run::new();
        for (slot, verdict) in mem::take(run).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Pass => run.push(slot),
                Verdict::Drop => dropped.push(slot),
                Verdict::Remark(steps) => run.push(self.remark(slot, steps)),
            }
        }
        self.drop_packets(DropReason::Meter, dropped.len());
        self.release(&dropped);
    }

    /// Raises the drop precedence of a packet, if its DSCP is of a class that has one.
    fn remark(&mut self, mut slot: u16, steps: u8) -> u16 {
        self.refresh(slot);
        let key = &self.meta[usize::from(slot)].key;
        let group = match key.dl_type {
            ethertype::IPV4 => SetGroup::Ipv4,
            ethertype::IPV6 => SetGroup::Ipv6,
            _ => return slot,
        };
        let mut set = SetMasked { group, value: PacketKey::ZERO, mask: PacketKey::ZERO };
        set.value.nw_tos = meter::remarked(key.nw_tos, steps) & DSCP;
        set.mask.nw_tos = DSCP;
        if set.value.nw_tos != key.nw_tos & DSCP {
            self.own(&mut slot);
            let s = usize::from(slot);
            rewrite::set(&mut self.bufs[s], &mut self.meta[s].key, &set);
            self.meta[s].stale = true;
        }
        slot
    }

    /// Looks the packets up again. Uses them up: the run is empty afterwards.
    fn recirculate(&mut self, run: &mut Run, id: RecircId, depth: u32) {
        if depth >= MAX_RECIRCULATIONS {
            self.drop_packets(DropReason::Recirculation, run.len());
            return;
        }
        for &slot in run.iter() {
            self.refresh(slot);
            self.meta[usize::from(slot)].key.recirc_id = id.0;
        }
        self.stats().recirculated.add(run.len() as u64);
        self.pass(mem::take(run), depth + 1);
    }

    /// Frames that the packet will be on a wire, and their bytes.
    fn on_wire(&self, slot: u16) -> (u64, u64) {
        let buf = &self.bufs[usize::from(slot)];
        let len = buf.len() as u64;
        let header = u64::from(buf.offload.hdr_len).min(len);
        match u64::from(buf.offload.gso_size) {
            size if size > 0 && buf.offload.gso_type != GsoType::None => {
                let n = (len - header).div_ceil(size).max(1);
                (n, len + (n - 1) * header)
            }
            _ => (1, len),
        }
    }

    /// Bytes of the longest frame that the packet will be on a wire.
    fn wire_len(&self, slot: u16) -> usize {
        let buf = &self.bufs[usize::from(slot)];
        match buf.offload.gso_type {
            GsoType::None => buf.len(),
            _ => {
                let segment = usize::from(buf.offload.hdr_len) + usize::from(buf.offload.gso_size);
                segment.min(buf.len())
            }
        }
    }

    /// True with a chance of `probability` / 2^32.
    fn chance(&mut self, probability: u32) -> bool {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        probability == u32::MAX || ((x >> 32) as u32) < probability
    }
}

/// `dp_hash` of a packet: never 0, which means "not computed".
fn flow_hash(key: &PacketKey, alg: HashAlg, basis: u32) -> u32 {
    let h = match alg {
        // OVS adds the basis to a hash that its devices may have computed already.
        HashAlg::L4 => hash::hash_2words(hash::five_tuple(key, 0), basis),
        HashAlg::SymL4 => hash::symmetric_l3l4(key, basis, false),
    };
    h.max(1)
}
