//! The tracker of one shard: packets in, verdicts out.
//!
//! `process` = [`parse`](crate::parse()) (pure) + `process_parsed` (the table). The second is
//! written top-down: look up, age, turn around (`force`), move the state machine, commit, label.

use crate::ceiling::{Ceiling, Quota};
use crate::conn::{Conn, Fit, Pause, Via, timeout};
use crate::conns::Conns;
use crate::dump::{ConnFilter, ConnSnapshot, Cursor};
use crate::event::{CtEvent, EventKind, Events};
use crate::front::{self, Only, Orphan, Tracked};
use crate::helper::{Expected, Related, Sought};
use crate::index::Index;
use crate::lookahead::Lookahead;
use crate::nat::{Alias, AliasId, Nat, NatRequest};
use crate::parse::{Body, PacketView, Parsed};
use crate::slab::Slab;
use crate::tcp::{self, Peer};
use crate::tuple::{Dir, Directed, Key};
use crate::wheel::Wheel;
use crate::zone::{ZoneLimits, Zones};
use crate::{
    ConnId, Counters, CtConfig, CtInfo, CtRequest, CtState, Edit, Helper, InvalidReason, Outcome,
    PolicyId, TimeoutClass, TimeoutPolicy,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::{HashKey, Instant, Zone};

/// What one call of [`Conntrack::expire`] did.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Expired {
    /// Connections removed.
    pub removed: usize,
    /// The budget ended before the work.
    pub more: bool,
}

/// A connection table with its state machines. Single-threaded: a front shards by
/// [`Parsed::shard`] and locks.
///
/// What commits write comes first, beside the lock, and is in two lines: each line that a visit writes has to come from
/// the processor that was here before, and what is only read need not.
#[derive(Debug)]
#[repr(C)]
pub struct Conntrack {
    // Written by commits: these, and of each only what comes first in it.
    pub(crate) slab: Conns,
    pub(crate) index: Index,
    pub(crate) wheel: Wheel,
    pub(crate) zones: Zones,
    pub(crate) counters: Counters,
    // What few packets write.
    pub(crate) quota: Quota,
    wheel_behind: bool,
    // Settings, and what few packets need.
    pub(crate) secret: HashKey,
    pub(crate) config: CtConfig,
    pub(crate) policies: Vec<TimeoutPolicy>,
    pub(crate) pause: Pause,
    /// Its number among the shards of a tracker.
    pub(crate) number: u16,
    pub(crate) events: Events,
    pub(crate) limits: Option<Arc<ZoneLimits>>,
    pub(crate) ceiling: Arc<Ceiling>,
    /// Where to look for a connection that may make room.
    pub(crate) hand: u32,
    /// Tuples that translated connections get their replies by.
    pub(crate) aliases: Slab<Alias>,
    pub(crate) alias_index: Index,
    /// What connections that are gone from here have left in shards.
    pub(crate) orphans: Vec<Orphan>,
    /// What other connections announced.
    pub(crate) expected: Expected,
}

/// A packet on its way.
#[derive(Copy, Clone)]
pub(crate) struct Passage<'a> {
    pub now: Instant,
    /// Of the packet's key.
    pub hash: u32,
    pub p: &'a Parsed,
    pub req: &'a CtRequest,
    /// What an earlier pass of this packet found.
    pub prior: Option<(ConnId, CtState)>,
    /// Number of the thread.
    pub lane: usize,
    /// What its connection may be, of this shard.
    pub hint: Option<(u32, &'a Conn)>,
    /// Whether it is expected.
    pub sought: Sought<'a>,
}

impl Passage<'_> {
    /// What made it expected.
    fn related(&self) -> Option<&Related> {
        match self.sought {
            Sought::Found(r) => Some(r),
            _ => None,
        }
    }

    /// How a new connection is to be translated.
    pub fn nat(&self) -> Option<NatRequest> {
        let asked = self.req.nat?;
        self.related().map_or(Some(asked), |r| Some(r.nat)).filter(|n| n.kind.is_some())
    }
}

/// What a packet has moved.
#[derive(Copy, Clone, Default)]
pub(crate) struct Moved {
    /// The connection, so it counts.
    pub counts: bool,
    /// Its time, which is shorter now than the wheel knows.
    pub sooner: bool,
    /// What somebody wants to hear of.
    pub changed: bool,
}

/// What is left to be done after a packet of a known connection.
enum Left {
    Moved(Moved),
    /// The connection is to go for another that the packet opens.
    MakeWay,
    Invalid(InvalidReason),
}

/// Whether a verdict is the last word.
pub(crate) enum Then {
    Done,
    /// The packet's connection had to go for it: it opens another.
    Again,
    /// The packet is of a translated connection.
    Elsewhere(AliasId, ConnId),
    /// A tuple has to be found for a new connection.
    Translate,
    /// The packet may be of an expected connection, by this key and its hash.
    Seek(Key, u32),
    /// The packet is fit, and its bytes are to be read.
    Help(Helper),
}

impl Conntrack {
    /// An empty table.
    pub fn new(secret: HashKey, config: CtConfig) -> Conntrack {
        let ceiling = Arc::new(Ceiling::new(config.max_conns));
        Conntrack::shard(secret, config, 0, ceiling)
    }

    /// The empty shard `number` of a tracker. All its shards have the same secret and ceiling.
    pub fn shard(
        secret: HashKey,
        config: CtConfig,
        number: u16,
        ceiling: Arc<Ceiling>,
    ) -> Conntrack {
        ceiling.rules.set_tcp_seq_chk(config.tcp_seq_chk);
        Conntrack {
            secret,
            config,
            slab: Conns::new(ceiling.memory.clone()),
            index: Index::default(),
            wheel: Wheel::new(),
            wheel_behind: false,
            zones: Zones::new(),
            limits: None,
            expected: Expected::new(ceiling.clone()),
            ceiling,
            quota: Quota::default(),
            hand: 0,
            policies: alloc::vec![TimeoutPolicy::DEFAULT],
            pause: |_| core::hint::spin_loop(),
            counters: Counters::default(),
            events: Events::default(),
            number,
            aliases: Slab::default(),
            alias_index: Index::default(),
            orphans: Vec::new(),
        }
    }

    /// Runs a packet through the tracker. `edit` becomes what is to be changed in a packet of a control
    /// connection.
    pub fn process(
        &mut self,
        now: Instant,
        view: &PacketView<'_>,
        req: &CtRequest,
        edit: &mut Option<Edit>,
    ) -> CtInfo {
        match front::track(&Only::of(self), now, view, req, edit) {
            CtInfo { invalid: Some(InvalidReason::Fragment), .. } => {
                self.refuse(req.zone, InvalidReason::Fragment)
            }
            info => info,
        }
    }

    /// Counts a packet that [`parse`](crate::parse()) did not want, and gives its verdict.
    pub fn refuse(&mut self, zone: Zone, reason: InvalidReason) -> CtInfo {
        self.counters.error += 1;
        self.invalid(zone, reason)
    }

    /// Runs a parsed packet through the table. It must have been parsed for `req.zone`. No helper reads
    /// it.
    pub fn process_parsed(&mut self, now: Instant, p: &Parsed, req: &CtRequest) -> CtInfo {
        front::process(&Only::of(self), now, p, req)
    }

    /// Runs several parsed packets through the table in their order; see [`front::process_batch`].
    pub fn process_batch(
        &mut self,
        now: Instant,
        batch: &[Tracked],
        req: &CtRequest,
        mut done: impl FnMut(usize, &CtInfo),
    ) {
        front::process_batch(&Only::of(self), now, batch, req, |_| &[], |i, info, _| done(i, info));
    }

    /// For those who have not the shard.
    pub fn lookahead(&self) -> Lookahead {
        Lookahead {
            buckets: self.index.buckets().clone(),
            places: self.slab.places().clone(),
            shared: self.ceiling.clone(),
            number: self.number,
        }
    }

    /// Counts packets that were tracked without the shard.
    pub fn count_found(&mut self, n: u64) {
        self.counters.found += n;
    }

    /// The first visit of a packet, to the shard of its key. The verdict is written in place: it is large.
    #[inline]
    pub(crate) fn enter(&mut self, x: &Passage<'_>, then: &mut Then, out: &mut CtInfo) {
        match self.search(x) {
            Some((slot, conn)) => {
                if conn.close_if_expired(x.now, self.pause) {
                    self.bury_expired(x.now, slot);
                    self.stranger(x, then, out);
                } else if conn.is_translated() {
                    self.known_translated(x, slot, then, out);
                } else {
                    let left = self.judge(x, slot, conn, Via::Orig, then, out);
                    self.settle(x, slot, left, then, out);
                }
            }
            None => self.stranger(x, then, out),
        }
    }

    /// A packet with the tuple that a translated connection began with, or its reverse. The second may
    /// be the tuple of another one's replies, which come as they are.
    #[cold]
    fn known_translated(&mut self, x: &Passage<'_>, slot: u32, then: &mut Then, out: &mut CtInfo) {
        let reversed = self.slab.get(slot).dir(x.p.swapped, Via::Orig) == Dir::Reply;
        match self.alias_of(x) {
            Some(alias) if reversed && alias.swapped == x.p.swapped && alias.conn.is_some() => {
                self.stranger(x, then, out);
            }
            _ => self.known_by(x, slot, Via::Orig, then, out),
        }
    }

    /// A packet whose key no connection has. What has the reverse of the tuple of a connection's replies is
    /// of that connection only if it was translated before now, or is an error about it.
    fn stranger(&mut self, x: &Passage<'_>, then: &mut Then, out: &mut CtInfo) {
        let Some(slot) = self.alias_slot(x) else { return self.unknown(x, then, out) };
        let alias = self.aliases.get(slot);
        let is_error = matches!(x.p.body, Body::Error);
        if let Some(conn) = alias.conn
            && (alias.swapped == x.p.swapped || is_error || x.prior.is_some_and(|p| p.0 == conn))
        {
            *then = Then::Elsewhere(self.alias_id(slot), conn);
            return;
        }
        // It may only be committed under another tuple.
        if x.req.commit && x.nat().is_none() {
            *out = self.refuse_translation(x.req.zone);
            return;
        }
        self.unknown(x, then, out);
    }

    /// The visit to a translated connection whose alias the packet's key is.
    pub(crate) fn enter_at(
        &mut self,
        x: &Passage<'_>,
        id: ConnId,
        then: &mut Then,
        out: &mut CtInfo,
    ) {
        if self.is_gone(x.now, id) {
            *then = Then::Again;
            return;
        }
        self.known_by(x, id.slot, Via::Reply, then, out);
    }

    /// A packet of a translated connection.
    #[inline(never)]
    fn known_by(
        &mut self,
        x: &Passage<'_>,
        slot: u32,
        via: Via,
        then: &mut Then,
        out: &mut CtInfo,
    ) {
        let left = self.judge(x, slot, self.slab.get(slot), via, then, out);
        self.settle(x, slot, left, then, out);
    }

    /// The verdict of a packet of a known connection, whose state it moves.
    #[inline(always)]
    fn judge(
        &self,
        x: &Passage<'_>,
        slot: u32,
        conn: &Conn,
        via: Via,
        then: &mut Then,
        out: &mut CtInfo,
    ) -> Left {
        let (p, req) = (x.p, x.req);
        let id = conn.id(self.number, slot);
        let way = (conn.dir(p.swapped, via), via);
        let _hold = conn.hold(self.pause);
        let mut moved = Moved::default();
        let state = if let Body::Error = p.body {
            CtState::TRK | CtState::REL | reply_bit(way.0)
        } else if req.commit && req.force && way.0 == Dir::Reply {
            return Left::MakeWay;
        } else if let Some((_, state)) = x.prior.filter(|(prior, _)| *prior == id) {
            state
        } else {
            let fit;
            (fit, moved) = self.advance(x.now, conn, way, &p.body, p.len);
            match fit {
                Fit::Part(still_new) => CtState::of_known(still_new, way.0),
                Fit::Reopen | Fit::Unsettled => return Left::MakeWay,
                Fit::Invalid(reason) => return Left::Invalid(reason),
            }
        };
        let labelled = req.commit && conn.label_by(req);
        if labelled {
            moved.changed |= self.events.enabled();
        }
        conn.answer(id, x, way, state, then, out);
        if labelled {
            out.outcome = Outcome::Updated;
        }
        Left::Moved(moved)
    }

    /// What is left to be done after a packet of a known connection.
    #[inline(always)]
    fn settle(
        &mut self,
        x: &Passage<'_>,
        slot: u32,
        left: Left,
        then: &mut Then,
        out: &mut CtInfo,
    ) {
        match left {
            Left::Moved(moved) => self.note(x.now, slot, moved),
            Left::MakeWay => self.make_way(x, slot, then),
            Left::Invalid(reason) => {
                // Commits nothing, but shows what connection it pretends to be of.
                let conn = self.slab.get(slot);
                let (mark, label) = (conn.mark(), conn.label());
                *out = CtInfo { mark, label, ..self.invalid(x.req.zone, reason) };
            }
        }
    }

    /// Moves the state machine, counters and clock of a connection that is held by a packet of a direction.
    #[inline(always)]
    pub(crate) fn advance(
        &self,
        now: Instant,
        conn: &Conn,
        way: (Dir, Via),
        body: &Body,
        len: u32,
    ) -> (Fit, Moved) {
        // The first of two stages tells of the second only if somebody wants to know.
        let before = self.events.enabled().then(|| conn.stage());
        let policy = PolicyId(conn.policy.get());
        let timeout = |class| timeout(&self.policies, policy, class);
        let mut sooner = false;
        let shard = Some(&mut sooner);
        let fit = conn.advance(now, way, (body, len), self.config.tcp_seq_chk, shard, timeout);
        let changed = before.is_some_and(|before| before != conn.stage());
        (fit, Moved { counts: true, sooner, changed })
    }

    /// Counts what a packet has moved, and tells whom it concerns.
    #[inline(always)]
    pub(crate) fn note(&mut self, now: Instant, slot: u32, moved: Moved) {
        self.counters.found += u64::from(moved.counts);
        if moved.sooner || moved.changed {
            self.tell(now, slot, moved.sooner, moved.changed);
        }
    }

    /// Tells the wheel that a connection's time is shorter now, and who listens that it changed.
    #[cold]
    pub(crate) fn tell(&mut self, now: Instant, slot: u32, sooner: bool, changed: bool) {
        if sooner {
            let _hold = self.slab.get(slot).hold(self.pause);
            self.wheel.remove(&self.slab, slot);
            self.wheel.insert(&self.slab, slot);
        }
        if changed {
            self.event(now, slot, EventKind::Update);
        }
    }

    /// Removes a connection for another that its packet opens.
    #[cold]
    fn make_way(&mut self, x: &Passage<'_>, slot: u32, then: &mut Then) {
        self.counters.delete += 1;
        self.remove(x.now, slot);
        *then = Then::Again;
    }

    /// The connection of a packet, and its slot; its time may have run out.
    #[inline]
    fn search<'a>(&'a self, x: &Passage<'a>) -> Option<(u32, &'a Conn)> {
        let hinted = x.hint.filter(|(_, c)| c.is_alive() && c.has_key(&x.p.key));
        hinted.or_else(|| {
            let slot = self.index.find(&self.slab, x.hash, &x.p.key)?;
            Some((slot, self.slab.get(slot)))
        })
    }

    /// The live connection of a packet; one whose time ran out goes now.
    pub(crate) fn lookup(&mut self, x: &Passage<'_>) -> Option<u32> {
        let (slot, _) = self.search(x)?;
        (!self.reap(x.now, slot)).then_some(slot)
    }

    /// Removes a connection if its time has run out; whether it had.
    #[inline]
    pub(crate) fn reap(&mut self, now: Instant, slot: u32) -> bool {
        let expired = self.slab.get(slot).close_if_expired(now, self.pause);
        if expired {
            self.bury_expired(now, slot);
        }
        expired
    }

    #[cold]
    fn bury_expired(&mut self, now: Instant, slot: u32) {
        self.counters.expired += 1;
        self.remove(now, slot);
    }

    /// A packet of no known connection: new, and committed if asked; or invalid.
    fn unknown(&mut self, x: &Passage<'_>, then: &mut Then, out: &mut CtInfo) {
        let Passage { p, req, .. } = *x;
        let opens = match &p.body {
            Body::Tcp(s) => tcp::may_open(s, self.config.tcp_pick_up),
            Body::Icmp { answer: true } => Err(InvalidReason::IcmpUnasked),
            Body::Error => Err(InvalidReason::IcmpNoConn),
            Body::Icmp { .. } | Body::Other => Ok(()),
        };
        if let Err(reason) = opens {
            *out = self.invalid(req.zone, reason);
            return;
        }
        if let Sought::NotYet = x.sought
            && let Some((key, hash)) = self.may_be_expected(x)
        {
            *then = Then::Seek(key, hash);
            return;
        }
        self.counters.new += 1;
        *out = CtInfo::UNTRACKED;
        (out.state, out.zone) = (CtState::TRK | CtState::NEW, req.zone);
        out.orig = Some(Directed::new(p.key, p.swapped));
        if let Some(r) = x.related() {
            out.state |= CtState::REL;
            (out.mark, out.label, out.orig) = (r.mark, r.label, Some(Directed::of(&r.parent)));
        }
        if !req.commit {
            return;
        }
        // Before a tuple is looked for.
        if self.limits.as_ref().is_some_and(|l| !l.has_room(req.zone)) {
            return self.refuse_commit(Outcome::ZoneFull, out);
        }
        if req.nat.is_some() && x.nat().is_some() {
            *then = Then::Translate;
            return;
        }
        self.insert(x, None, out, then);
    }

    /// Puts a new connection in, if there is room.
    pub(crate) fn insert(
        &mut self,
        x: &Passage<'_>,
        nat: Option<Nat>,
        out: &mut CtInfo,
        then: &mut Then,
    ) {
        let Passage { now, p, req, .. } = *x;
        if !(self.has_room() || self.make_room(now) && self.has_room()) {
            return self.refuse_commit(Outcome::TableFull, out);
        }
        if self.limits.as_ref().is_some_and(|l| !l.admit(req.zone)) {
            return self.refuse_commit(Outcome::ZoneFull, out);
        }
        let class = match p.body {
            Body::Tcp(_) => TimeoutClass::TcpSynSent,
            Body::Icmp { .. } => TimeoutClass::IcmpFirst,
            Body::Other | Body::Error => TimeoutClass::UdpFirst,
        };
        let policy = req.timeout_policy.filter(|_| TimeoutPolicy::covers(p.key.proto()));
        let policy = policy.unwrap_or_default();
        let slot = self.slab.insert(x.lane);
        let conn = self.slab.get(slot);
        conn.begin((&p.key, p.swapped), x.hash, now, p.len);
        match &p.body {
            Body::Tcp(s) => conn.set_peers(&tcp::opened_by(s)),
            _ => conn.set_peers(&[Peer::SILENT; 2]),
        }
        conn.policy.set(policy.0);
        conn.expires.set(now + timeout(&self.policies, policy, class));
        match x.related() {
            // Its mark and label are not its own (as in OVS).
            Some(r) => {
                conn.set_parent(r.parent);
                conn.set_mark((r.mark, u32::MAX));
                conn.set_label((r.label, u128::MAX));
            }
            None => {
                if let Some(mark) = req.mark {
                    conn.set_mark(mark);
                }
                if let Some(label) = req.label {
                    conn.set_label(label);
                }
            }
        }
        (out.mark, out.label) = (conn.mark(), conn.label());
        if let Some(helper) = req.helper.filter(|h| h.proto() == p.key.proto()) {
            conn.set_helper(helper);
            *then = Then::Help(helper);
        }
        if let Some(nat) = nat {
            out.state |= nat.state(Dir::Orig);
            out.nat = Some(nat.translation(&conn.orig(), Dir::Orig, false));
            conn.set_nat(nat);
        }
        self.index.insert(&mut self.slab, slot);
        self.wheel.insert(&self.slab, slot);
        self.zones.insert(&self.slab, slot);
        self.slab.get(slot).open_up();
        self.counters.insert += 1;
        if self.events.enabled() {
            self.event(now, slot, EventKind::New);
        }
        out.conn = Some(self.id(slot));
        out.outcome = Outcome::Inserted;
    }

    pub(crate) fn invalid(&mut self, zone: Zone, reason: InvalidReason) -> CtInfo {
        self.counters.count_invalid(reason);
        CtInfo::invalid(zone, reason)
    }

    pub(crate) fn event(&mut self, now: Instant, slot: u32, kind: EventKind) {
        let conn = self.snapshot(now, slot);
        self.events.push(CtEvent { kind, conn });
    }

    /// Takes a live connection out of everything.
    pub(crate) fn remove(&mut self, now: Instant, slot: u32) {
        self.slab.get(slot).close(self.pause);
        self.wheel.remove(&self.slab, slot);
        self.retire(now, slot);
    }

    /// Takes a live connection that is closed and out of the wheel out of the rest.
    fn retire(&mut self, now: Instant, slot: u32) {
        if self.events.enabled() {
            self.event(now, slot, EventKind::Destroy);
        }
        if let Some(limits) = &self.limits {
            limits.count_out(self.slab.get(slot).key().zone(), 1);
        }
        if self.slab.get(slot).has_extra() {
            self.bereave(slot);
        }
        self.zones.remove(&self.slab, slot);
        self.index.remove(&mut self.slab, slot);
        self.slab.remove(slot);
        self.quota.trim(&self.ceiling, self.slab.len());
    }

    /// Removes connections whose time ran out, looking at no more than `budget` connections.
    pub fn expire(&mut self, now: Instant, budget: usize) -> Expired {
        let mut done = Expired::default();
        let n_expected = self.expected.remove_expired(now, budget);
        for _ in 0..budget - n_expected {
            let Some(slot) = self.wheel.pop_due(&self.slab, now) else {
                self.wheel_behind = false;
                return done;
            };
            if self.slab.get(slot).close_if_expired(now, self.pause) {
                self.counters.expired += 1;
                self.retire(now, slot);
                done.removed += 1;
            } else {
                let _hold = self.slab.get(slot).hold(self.pause);
                self.wheel.insert(&self.slab, slot);
            }
        }
        self.wheel_behind = true;
        done.more = true;
        done
    }

    /// When [`Conntrack::expire`] may have work next; `None` if the table is empty.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.wheel_behind {
            return Some(Instant::ZERO);
        }
        self.wheel.next_time().into_iter().chain(self.expected.next_timeout()).min()
    }

    /// Calls `visit` for connections that match, looking at no more than `budget` slots.
    pub fn dump(
        &self,
        now: Instant,
        cursor: &mut Cursor,
        filter: &ConnFilter,
        budget: usize,
        mut visit: impl FnMut(&ConnSnapshot),
    ) {
        for slot in cursor.step(self.slab.slots(), budget) {
            if let Some(c) = self.slab.live(slot)
                && !c.expired(now)
                && filter.matches(c)
            {
                visit(&self.snapshot(now, slot));
            }
        }
    }

    /// Removes connections that match, looking at no more than `budget` slots; how many went.
    pub fn delete(
        &mut self,
        now: Instant,
        cursor: &mut Cursor,
        filter: &ConnFilter,
        budget: usize,
    ) -> usize {
        if let Some(zone) = filter.whole_zone() {
            return self.empty_zone(now, cursor, zone, budget);
        }
        let mut n = 0;
        for slot in cursor.step(self.slab.slots(), budget) {
            if self.slab.live(slot).is_some_and(|c| filter.matches(c)) {
                self.counters.delete += 1;
                self.remove(now, slot);
                n += 1;
            }
        }
        n
    }

    /// The id of the connection in a slot.
    pub(crate) fn id(&self, slot: u32) -> ConnId {
        self.slab.get(slot).id(self.number, slot)
    }

    /// The connection of an id, if it is here and lives.
    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.slab.same(id.slot, id.generation).filter(|_| id.shard == self.number)
    }

    fn snapshot(&self, now: Instant, slot: u32) -> ConnSnapshot {
        ConnSnapshot::of(self.slab.get(slot), self.id(slot), now)
    }

    /// Removes one connection; whether it was there.
    pub fn delete_id(&mut self, now: Instant, id: ConnId) -> bool {
        let there = self.conn(id).is_some();
        if there {
            self.counters.delete += 1;
            self.remove(now, id.slot);
        }
        there
    }

    /// One connection by id, unless its time has run out.
    pub fn get(&self, now: Instant, id: ConnId) -> Option<ConnSnapshot> {
        let c = self.conn(id)?;
        (!c.expired(now)).then(|| self.snapshot(now, id.slot))
    }

    /// Removes everything at once.
    pub fn flush(&mut self, now: Instant) -> usize {
        self.delete(now, &mut Cursor::default(), &ConnFilter::default(), usize::MAX)
    }

    /// Connections in the table, expired ones that were not yet met included.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// No connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Totals.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The oldest queued event.
    pub fn next_event(&mut self) -> Option<CtEvent> {
        self.events.pop()
    }

    /// Events that found the queue full.
    pub fn lost_events(&self) -> u64 {
        self.events.lost
    }
}

#[inline]
fn reply_bit(dir: Dir) -> CtState {
    match dir {
        Dir::Orig => CtState::UNTRACKED,
        Dir::Reply => CtState::RPL,
    }
}
