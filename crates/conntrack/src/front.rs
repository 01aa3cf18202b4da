//! A packet's way through the shards of a tracker.
//!
//! The connection of a packet is in the shard of the packet's key, unless it is translated and the
//! packet comes from the translated side: then that shard has an alias that says where. Never are
//! two shards held at once: what one visit found out may be outdated at the next, and each step
//! looks again.

use core::cell::{OnceCell, RefCell};

use base::{HashKey, Instant, Zone};

use crate::alias::Holder;
use crate::conn::Conn;
use crate::helper::{ExpectId, Sought, assist};
use crate::lookahead::Lookahead;
use crate::nat::{Alias, AliasId, Nat, candidates};
use crate::parse::{PacketView, Parse, parse};
use crate::tracker::{Passage, Then};
use crate::tuple::{Key, Tuple};
use crate::{
    ConnId, ConnSnapshot, Conntrack, CtInfo, CtRequest, CtState, Edit, InvalidReason, Outcome,
    Parsed, parse_into,
};

/// The shards of one tracker. All have the same secret; shard `i` was made by
/// [`Conntrack::shard`]`(.., i)`.
pub trait Shards {
    /// How many there are, at least one. Packets that come in batches have the less to wait for the fewer there
    /// are.
    fn n(&self) -> usize;

    /// The secret of all of them.
    fn secret(&self) -> HashKey;

    /// Does something with one shard. Not called from within `f`.
    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R;

    /// The same; but if somebody else is at it and this is not to `wait`, nothing is done.
    fn try_with<R>(
        &self,
        shard: usize,
        wait: bool,
        f: impl FnOnce(&mut Conntrack) -> R,
    ) -> Option<R> {
        let _ = wait;
        Some(self.with(shard, f))
    }

    /// The [`Conntrack::lookahead`] of a shard: what a batch is going to read is asked for without a visit, and
    /// most packets need none.
    fn lookahead(&self, shard: usize) -> Option<&Lookahead> {
        let _ = shard;
        None
    }

    /// Counts packets that were tracked without a visit.
    fn count_found(&self, n: u64) {
        self.with(0, |t| t.count_found(n));
    }

    /// The number of the thread among those that track packets. To be wrong costs time only.
    fn lane(&self) -> usize {
        0
    }

    /// A visit is at hand: asks for the memory of the shard's lock.
    fn prepare(&self, shard: usize) {
        let _ = shard;
    }
}

/// What a connection that is gone has left in a shard.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Orphan {
    Alias(AliasId),
    /// With the control connection that announced it.
    Expected(ExpectId, ConnId),
}

impl Orphan {
    pub fn shard(&self) -> u16 {
        match self {
            Orphan::Alias(id) => id.shard,
            Orphan::Expected(id, _) => id.shard,
        }
    }
}

/// Visits a shard, and takes what connections that ended during that have in others out of those.
#[inline]
pub fn visit<S: Shards, R>(shards: &S, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
    let mut orphans = None;
    let out = shards.with(shard, |t| {
        let out = f(t);
        orphans = t.take_orphans();
        out
    });
    for orphan in orphans.into_iter().flatten() {
        shards.with(usize::from(orphan.shard()), |t| t.bury(orphan));
    }
    out
}

/// Runs a packet through a tracker. `edit` becomes what is to be changed in a packet of a control
/// connection. A fragment is invalid and not counted: the caller may put its datagram together.
#[inline]
pub fn track<S: Shards>(
    shards: &S,
    now: Instant,
    view: &PacketView<'_>,
    req: &CtRequest,
    edit: &mut Option<Edit>,
) -> CtInfo {
    // By reference: to move it costs more than to look at it.
    match &parse(view, req.zone) {
        Parse::Packet(p) => {
            let x = &passage(shards, now, p, req);
            let ip = view.frame.get(view.l3..).unwrap_or_default();
            pass(shards, x, crate::shard_of(x.hash, shards.n()), Some((ip, edit)))
        }
        // Of a datagram that may be tracked, once it is put together.
        Parse::Invalid(InvalidReason::Fragment) => {
            CtInfo::invalid(req.zone, InvalidReason::Fragment)
        }
        Parse::Invalid(reason) => shards.with(0, |t| t.refuse(req.zone, *reason)),
    }
}

/// Runs a parsed packet through a tracker. It must have been parsed for `req.zone`. No helper reads
/// it.
#[inline]
pub fn process<S: Shards>(shards: &S, now: Instant, p: &Parsed, req: &CtRequest) -> CtInfo {
    let x = &passage(shards, now, p, req);
    pass(shards, x, crate::shard_of(x.hash, shards.n()), None)
}

#[inline]
fn passage<'a, S: Shards>(
    shards: &S,
    now: Instant,
    p: &'a Parsed,
    req: &'a CtRequest,
) -> Passage<'a> {
    let hash = p.hash(shards.secret());
    let lane = shards.lane();
    Passage { now, hash, p, req, prior: req.prior, lane, hint: None, sought: Sought::NotYet }
}

/// Where a helper finds the IP packet, and where it puts what to change in it.
pub(crate) type Bytes<'a> = (&'a [u8], &'a mut Option<Edit>);

/// The way of one packet whose key's shard is `home`.
#[inline]
fn pass<S: Shards>(shards: &S, x: &Passage<'_>, home: usize, bytes: Option<Bytes<'_>>) -> CtInfo {
    let mut then = Then::Done;
    let mut info = CtInfo::UNTRACKED;
    // What the visit leaves behind in other shards goes with the next visit that may need it.
    shards.with(home, |t| t.enter(x, &mut then, &mut info));
    match then {
        Then::Done => info,
        then => go_on(shards, x, home, then, info, bytes),
    }
}

/// A packet of a batch.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// What was read.
    pub parsed: Parsed,
    /// Its hash.
    pub hash: u32,
    /// [`CtRequest::prior`] of this packet.
    pub prior: Option<(ConnId, CtState)>,
}

impl Tracked {
    /// No packet yet.
    pub const NOTHING: Tracked = Tracked { parsed: Parsed::NOTHING, hash: 0, prior: None };

    /// Reads a frame for `zone` of the tracker with this secret, as [`parse_into`] does.
    #[inline]
    pub fn read(
        &mut self,
        view: &PacketView<'_>,
        zone: Zone,
        secret: HashKey,
    ) -> Result<(), InvalidReason> {
        parse_into(view, zone, &mut self.parsed)?;
        self.hash = self.parsed.hash(secret);
        Ok(())
    }

    /// Becomes what [`Tracked::read`] would have made of the same frame for another zone.
    #[inline]
    pub fn move_to(&mut self, zone: Zone, secret: HashKey) {
        if self.parsed.key.zone() != zone {
            self.parsed.key.set_zone(zone);
            self.hash = self.parsed.hash(secret);
        }
    }
}

/// Most packets that are looked up together.
const BATCH: usize = 32;

/// Shards whose packets of a batch are tracked together. A tracker may have more.
const GROUPS: usize = 64;

/// Runs parsed packets through a tracker and gives `done` each one's number and verdict. All must
/// have been parsed for `req.zone`; `req.prior` does not count.
///
/// The verdicts are those that [`process`] would give one after the other, but that packets of
/// different connections may change places. What the searches read is asked for beforehand
/// ([`Shards::lookahead`]), so a large table costs one wait for memory instead of one for each packet. Each shard is
/// visited once, one that somebody else is at last.
///
/// `ip` gives the IP packet of a number, for helpers; `done` also gets what is to be changed in it besides
/// its translation.
#[inline]
pub fn process_batch<'a, S: Shards>(
    shards: &S,
    now: Instant,
    batch: &[Tracked],
    req: &CtRequest,
    ip: impl Fn(usize) -> &'a [u8],
    mut done: impl FnMut(usize, &CtInfo, Option<&Edit>),
) {
    for (n, part) in batch.chunks(BATCH).enumerate() {
        let first = n * BATCH;
        let done = |i, info: &CtInfo, edit: Option<&Edit>| done(first + i, info, edit);
        process_part(shards, now, part, req, |i| ip(first + i), done);
    }
}

/// The numbers of the bits that are set, from the lowest on.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let i = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(i)
    })
}

/// How often a shard that somebody is at is tried again before one waits for it: a visit is over in less than
/// a microsecond, and to sleep takes many.
const TRIES: u32 = 100;

/// Makes visits, whose numbers are the bits of `left`, in the order in which their shards are to be had. `visit`
/// says whether the shard was there, as [`Shards::try_with`] does; it must be if it is to wait. Before a visit the
/// next one is [prepared](Shards::prepare).
#[inline]
pub fn as_they_come(
    mut left: u64,
    prepare: impl Fn(usize),
    mut visit: impl FnMut(usize, bool) -> bool,
) {
    for round in 0..=TRIES {
        let mut ahead = left;
        for i in bits(left) {
            ahead &= ahead - 1;
            if ahead != 0 {
                prepare(ahead.trailing_zeros() as usize);
            }
            if visit(i, round == TRIES) {
                left &= !(1 << i);
            }
        }
        if left == 0 {
            break;
        }
        core::hint::spin_loop();
    }
}

/// `part` has no more than [`BATCH`] packets.
#[inline]
fn process_part<'a, S: Shards>(
    shards: &S,
    now: Instant,
    part: &[Tracked],
    req: &CtRequest,
    ip: impl Fn(usize) -> &'a [u8],
    mut done: impl FnMut(usize, &CtInfo, Option<&Edit>),
) {
    let (n, lane) = (shards.n(), shards.lane());
    let passage = |i: usize, hint| {
        let Tracked { parsed: p, hash, prior } = &part[i];
        Passage { now, hash: *hash, p, req, prior: *prior, lane, hint, sought: Sought::NotYet }
    };
    let ahead_of = |t: &Tracked| shards.lookahead(crate::shard_of(t.hash, n));
    let open = part.first().and_then(ahead_of).is_some_and(Lookahead::is_open);
    let (mut asked, mut hints) = ([None; BATCH], [None; BATCH]);
    if open || part.len() > 1 {
        for (asked, t) in asked.iter_mut().zip(part) {
            *asked = ahead_of(t).and_then(|a| a.ask(t.hash));
        }
        for ((hint, t), asked) in hints.iter_mut().zip(part).zip(&asked) {
            *hint = asked.as_ref().and_then(|a| a.prefetch_conn(t.hash));
        }
    }
    let mut info = CtInfo::UNTRACKED;
    let (mut left, mut found) = (u32::MAX, 0);
    if open {
        // Packets of one connection keep their order: behind one that needs a visit, no other goes without.
        let mut held_up = 0_u64;
        for (i, t) in part.iter().enumerate() {
            let mark = 1 << (t.hash & 63);
            let ahead = asked[i].filter(|_| held_up & mark == 0).map(|a| a.ahead);
            match ahead.and_then(|a| a.enter(&passage(i, hints[i]), &mut info)) {
                Some(moved) => {
                    found += u64::from(moved);
                    left &= !(1 << i);
                    done(i, &info, None);
                }
                None => held_up |= mark,
            }
        }
    }
    // Bit `i` of a group is the packet `i`, bit `g` of `present` is group `g`.
    let (mut groups, mut present, mut others) = ([0_u32; GROUPS], 0_u64, 0_u32);
    for (i, t) in part.iter().enumerate().filter(|(i, _)| left & 1 << i != 0) {
        let shard = crate::shard_of(t.hash, n);
        match groups.get_mut(shard) {
            Some(group) => {
                *group |= 1 << i;
                present |= 1 << shard;
            }
            None => others |= 1 << i,
        }
    }
    if found != 0 {
        shards.count_found(found);
    }
    if present != 0 {
        shards.prepare(present.trailing_zeros() as usize);
    }
    as_they_come(
        present,
        |shard| shards.prepare(shard),
        |shard, wait| {
            let (mut left, mut stopped) = (groups[shard], None);
            let there = shards.try_with(shard, wait, |t| {
                for i in bits(u64::from(left)) {
                    let mut then = Then::Done;
                    t.enter(&passage(i, hints[i]), &mut then, &mut info);
                    left &= left - 1;
                    if !matches!(then, Then::Done) {
                        stopped = Some((i, then));
                        break;
                    }
                    done(i, &info, None);
                }
            });
            // The first packet that needs further visits goes on with them before the rest.
            if let Some((i, then)) = stopped {
                let mut edit = None;
                let bytes = Some((ip(i), &mut edit));
                let info = go_on(shards, &passage(i, None), shard, then, info, bytes);
                done(i, &info, edit.as_ref());
                singly(shards, left, &passage, &ip, &mut done);
            }
            there.is_some()
        },
    );
    if others != 0 {
        singly(shards, others, &passage, &ip, &mut done);
    }
}

/// The packets of a batch whose bits are set, one after the other.
#[cold]
fn singly<'a, 'b, S: Shards>(
    shards: &S,
    set: u32,
    passage: &impl Fn(usize, Option<(u32, &'b Conn)>) -> Passage<'b>,
    ip: &impl Fn(usize) -> &'a [u8],
    done: &mut impl FnMut(usize, &CtInfo, Option<&Edit>),
) {
    for i in bits(u64::from(set)) {
        let x = passage(i, None);
        let mut edit = None;
        let bytes = Some((ip(i), &mut edit));
        let info = pass(shards, &x, crate::shard_of(x.hash, shards.n()), bytes);
        done(i, &info, edit.as_ref());
    }
}

/// What further visits a packet needs.
#[cold]
fn go_on<S: Shards>(
    shards: &S,
    x: &Passage<'_>,
    home: usize,
    mut then: Then,
    mut info: CtInfo,
    bytes: Option<Bytes<'_>>,
) -> CtInfo {
    // But for those that settle what the packet is of, each further round means that a connection went
    // or came between two visits.
    const ROUNDS: usize = 6;
    let related = OnceCell::new();
    let mut x = *x;
    for _ in 0..ROUNDS {
        match core::mem::replace(&mut then, Then::Done) {
            Then::Done => return fulfilled(shards, &x, info),
            Then::Help(helper) => {
                let info = fulfilled(shards, &x, info);
                return match bytes {
                    Some((ip, edit)) => assist(shards, &x, helper, ip, info, edit),
                    None => info,
                };
            }
            Then::Again => {}
            Then::Elsewhere(alias, conn) => {
                visit(shards, conn.shard.into(), |t| {
                    t.enter_at(&x, conn, &mut then, &mut info);
                });
                if let Then::Done | Then::Help(_) = then {
                    continue;
                }
                // That connection is gone.
                shards.with(home, |t| t.remove_alias(alias));
            }
            Then::Translate => {
                if let Some(bound) = bind(shards, &x, home, info, &mut then) {
                    info = bound;
                    continue;
                }
            }
            Then::Seek(key, hash) => {
                let place = crate::shard_of(hash, shards.n());
                let found = visit(shards, place, |t| t.seek(x.now, &key, hash));
                x.sought = match found {
                    Some(found) => Sought::Found(related.get_or_init(|| found)),
                    None => Sought::Nothing,
                };
            }
        }
        then = Then::Done;
        visit(shards, home, |t| t.enter(&x, &mut then, &mut info));
    }
    match then {
        Then::Done => fulfilled(shards, &x, info),
        _ => CtInfo::invalid(x.req.zone, InvalidReason::NatClash),
    }
}

/// Notes that an expected connection was committed, if the packet did so.
fn fulfilled<S: Shards>(shards: &S, x: &Passage<'_>, info: CtInfo) -> CtInfo {
    if let (Sought::Found(r), Outcome::Inserted) = (x.sought, info.outcome) {
        shards.with(r.expected.shard.into(), |t| t.fulfil(r.expected));
    }
    info
}

/// Commits a new connection with a translation: reserves a tuple for its replies, then puts it in.
/// `None` if another packet has committed it meanwhile.
fn bind<S: Shards>(
    shards: &S,
    x: &Passage<'_>,
    home: usize,
    mut info: CtInfo,
    then: &mut Then,
) -> Option<CtInfo> {
    visit(shards, home, |_| ());
    let (zone, orig) = (x.req.zone, x.p.key.tuple(x.p.swapped));
    let nat = x.nat()?;
    let kind = nat.kind?;
    for reply in candidates(orig, zone, kind, &nat, shards.secret(), x.now) {
        let (key, swapped) = reply.key(zone);
        let alias = if key != x.p.key {
            match reserve(shards, x.now, (key, swapped)) {
                Some(id) => Some(id),
                None => continue,
            }
        } else if shards.with(home, |t| t.alias_of(x).is_some()) {
            continue;
        } else {
            None
        };
        let nat = Nat { kind, reply: key, swapped, alias };
        let done = visit(shards, home, |t| t.insert_translated(x, nat, &mut info, then));
        if let Some(alias) = alias {
            shards.with(usize::from(alias.shard), |t| match info.conn {
                Some(conn) if done => t.settle_alias(alias, conn),
                _ => t.remove_alias(alias),
            });
        }
        return done.then_some(info);
    }
    Some(shards.with(home, |t| t.refuse_translation(zone)))
}

/// Reserves a tuple for replies, unless a connection has it or its reverse.
fn reserve<S: Shards>(shards: &S, now: Instant, reply: (Key, bool)) -> Option<AliasId> {
    let hash = reply.0.hash(shards.secret());
    let shard = crate::shard_of(hash, shards.n());
    let reserve = || visit(shards, shard, |t| t.reserve(now, Alias::new(reply, hash)));
    let conn = match reserve() {
        Ok(id) => return Some(id),
        Err(conn) => conn?,
    };
    // A connection that nobody has looked at since its time ran out takes its alias with it.
    visit(shards, conn.shard.into(), |t| t.is_gone(now, conn)).then(|| reserve().ok()).flatten()
}

/// Removes the connection that has this tuple in either direction; whether there was one.
pub fn delete<S: Shards>(shards: &S, now: Instant, tuple: &Tuple, zone: Zone) -> bool {
    let (key, _) = tuple.key(zone);
    let home = crate::shard_of(key.hash(shards.secret()), shards.n());
    let Some(id) = shards.with(home, |t| t.id_of(&key)) else { return false };
    visit(shards, usize::from(id.shard), |t| t.delete_id(now, id))
}

/// What [`process`] would say of a packet, and the connection that the packet belongs to. Nothing
/// changes.
pub fn peek<S: Shards>(
    shards: &S,
    now: Instant,
    p: &Parsed,
    req: &CtRequest,
) -> (CtInfo, Option<ConnSnapshot>) {
    let home = crate::shard_of(p.hash(shards.secret()), shards.n());
    // A table of its own, with this one connection, says what the rules are.
    let (mut copy, seat) = shards.with(home, |t| (t.sandbox(), t.seat(now, p)));
    let conn = seat.and_then(|seat| match seat {
        Ok(conn) => Some(conn),
        Err(conn) => shards.with(conn.shard.into(), |t| t.live_copy(now, conn)),
    });
    let snapshot = conn.map(|conn| copy.adopt(now, conn));
    let mut x = passage(shards, now, p, req);
    let key = p.key.towards(p.swapped);
    let hash = key.hash(shards.secret());
    let expected = shards.with(crate::shard_of(hash, shards.n()), |t| t.seek_copy(now, &key, hash));
    x.sought = expected.as_ref().map_or(Sought::Nothing, Sought::Found);
    occupy(shards, &x, &mut copy);
    let mut info = pass(&Only::of(&mut copy), &x, 0, None);
    // The copy has room.
    if info.outcome == Outcome::Inserted
        && let Some(outcome) = shards.with(home, |t| t.refusal(now, req.zone))
    {
        info = CtInfo { outcome, conn: None, nat: None, ..info };
    }
    (info, snapshot)
}

/// Takes the tuples in a copy that are taken in the table and would be tried before a free one, if the
/// packet commits a connection with a translation.
fn occupy<S: Shards>(shards: &S, x: &Passage<'_>, copy: &mut Conntrack) {
    let (zone, orig) = (x.req.zone, x.p.key.tuple(x.p.swapped));
    let Some((nat, kind)) = x.nat().and_then(|n| Some((n, n.kind?))).filter(|_| x.req.commit)
    else {
        return;
    };
    for reply in candidates(orig, zone, kind, &nat, shards.secret(), x.now) {
        let reply = reply.key(zone);
        let hash = reply.0.hash(shards.secret());
        if reply.0 == x.p.key {
            continue;
        }
        let place = crate::shard_of(hash, shards.n());
        let is_taken = match shards.with(place, |t| t.holder(x.now, &reply.0, hash)) {
            Holder::Nobody => false,
            Holder::Somebody => true,
            Holder::Elsewhere(conn) => {
                shards.with(conn.shard.into(), |t| t.live_copy(x.now, conn).is_some())
            }
        };
        if !is_taken {
            return;
        }
        let _ = copy.reserve(x.now, Alias::new(reply, hash));
    }
}

/// A tracker of one shard.
pub(crate) struct Only<'a> {
    secret: HashKey,
    table: RefCell<&'a mut Conntrack>,
}

impl<'a> Only<'a> {
    pub fn of(table: &'a mut Conntrack) -> Only<'a> {
        Only { secret: table.secret, table: RefCell::new(table) }
    }
}

impl Shards for Only<'_> {
    fn n(&self) -> usize {
        1
    }

    fn secret(&self) -> HashKey {
        self.secret
    }

    fn with<R>(&self, _: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        f(&mut self.table.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ceiling, CtConfig, CtState, NatKind, NatRequest, Parse, parse};
    use alloc::sync::Arc;
    use base::{Duration, Zone};
    use core::net::{IpAddr, Ipv4Addr};
    use packet::checksum::checksum;
    use std::vec::Vec;

    struct Table(Vec<RefCell<Conntrack>>);

    impl Shards for Table {
        fn n(&self) -> usize {
            self.0.len()
        }

        fn secret(&self) -> HashKey {
            HashKey([3, 4])
        }

        fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
            f(&mut self.0[shard].borrow_mut())
        }
    }

    impl Table {
        fn new() -> Table {
            let config = CtConfig::default();
            let ceiling = Arc::new(Ceiling::new(config.max_conns));
            let shard = |i| Conntrack::shard(HashKey([3, 4]), config, i, ceiling.clone());
            Table((0..5).map(|i| RefCell::new(shard(i))).collect())
        }

        fn n_aliases(&self) -> usize {
            self.0.iter().map(|s| s.borrow().aliases.len()).sum()
        }
    }

    /// A datagram of host `a` to host `b` without a checksum.
    fn datagram(a: u32, b: u32, sport: u16) -> Vec<u8> {
        let mut ip = std::vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        ip.extend((0x0a00_0000 | a).to_be_bytes());
        ip.extend((0x0a00_0000 | b).to_be_bytes());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend(sport.to_be_bytes());
        ip.extend([0, 53, 0, 8, 0, 0]);
        ip
    }

    /// What has the reverse of the tuple of a connection's replies begins another, which gets other
    /// replies; only what was translated before is of the first.
    #[test]
    fn a_tuple_that_others_are_translated_to_may_be_used_as_well() {
        let config = CtConfig::default();
        let ceiling = Arc::new(Ceiling::new(config.max_conns));
        let shard = |i| RefCell::new(Conntrack::shard(HashKey([3, 4]), config, i, ceiling.clone()));
        let table = Table((0..5).map(shard).collect());
        let now = Instant::from_secs(100);
        let send = |frame: &[u8], req: &CtRequest| {
            let view = crate::PacketView { frame, l3: 0, eth_type: 0x800, csum_trusted: true };
            let Parse::Packet(p) = parse(&view, req.zone) else { panic!("not a packet") };
            process(&table, now, &p, req)
        };
        let nat = |kind, addr: u32| {
            let addr = IpAddr::V4(Ipv4Addr::from(addr));
            let addrs = Some((addr, addr));
            let nat = NatRequest { kind: Some(kind), addrs, ..NatRequest::default() };
            CtRequest { commit: true, nat: Some(nat), ..CtRequest::default() }
        };
        // Host 1 asks host 80, which is host 2.
        let first = send(&datagram(1, 80, 1000), &nat(NatKind::Dst, 0x0a00_0002));
        let again =
            CtRequest { prior: first.conn.map(|c| (c, first.state)), ..CtRequest::default() };
        assert_eq!(send(&datagram(1, 2, 1000), &again).conn, first.conn);
        // It asks host 2 by its own name, from the same port.
        let look = CtRequest::default();
        assert!(send(&datagram(1, 2, 1000), &look).state.contains(CtState::NEW));
        let plain = CtRequest { commit: true, ..CtRequest::default() };
        assert_eq!(send(&datagram(1, 2, 1000), &plain).outcome, Outcome::NatExhausted);
        let second = send(&datagram(1, 2, 1000), &nat(NatKind::Src, 0));
        let port = second.nat.map(|n| n.tuple.src_id);
        assert!(second.conn.is_some() && second.conn != first.conn, "{second:?}");
        assert!(port.is_some_and(|p| p != 1000), "{second:?}");
        // Each gets its own replies.
        let mut reply = datagram(2, 1, 53);
        reply[22..24].copy_from_slice(&1000_u16.to_be_bytes());
        assert_eq!(send(&reply, &look).conn, first.conn);
        reply[22..24].copy_from_slice(&port.unwrap_or(0).to_be_bytes());
        let got = send(&reply, &look);
        assert_eq!(got.conn, second.conn);
        assert!(got.state.contains(CtState::EST | CtState::RPL), "{got:?}");
        // And its packets go on with it.
        assert_eq!(send(&datagram(1, 2, 1000), &look).conn, second.conn);
        assert_eq!(send(&datagram(1, 80, 1000), &look).conn, first.conn);
    }

    #[test]
    fn aliases_live_as_long_as_their_connections() {
        let table = Table::new();
        let start = Instant::from_secs(100);
        let public = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9));
        let nat = NatRequest {
            kind: Some(NatKind::Src),
            addrs: Some((public, public)),
            ..NatRequest::default()
        };
        let req = CtRequest { commit: true, nat: Some(nat), ..CtRequest::default() };
        for a in 1..=200 {
            let frame = datagram(a, 2, 1000);
            let view =
                crate::PacketView { frame: &frame, l3: 0, eth_type: 0x800, csum_trusted: true };
            let Parse::Packet(p) = parse(&view, req.zone) else { panic!("not a packet") };
            let info = process(&table, start, &p, &req);
            assert!(info.nat.is_some(), "{a}: {info:?}");
        }
        assert_eq!(table.n_aliases(), 200);
        // Deleted, half of them by a filter.
        let all = crate::ConnFilter::default();
        for i in 0..table.n() {
            let mut cursor = crate::Cursor::default();
            visit(&table, i, |t| t.delete(start, &mut cursor, &all, 20));
        }
        let n: usize = table.0.iter().map(|s| s.borrow().len()).sum();
        assert!(n > 0 && n < 200);
        assert_eq!(table.n_aliases(), n);
        // Timed out.
        let later = start + Duration::from_secs(1000);
        for i in 0..table.n() {
            visit(&table, i, |t| t.expire(later, usize::MAX));
        }
        assert_eq!(table.n_aliases(), 0);
    }

    #[test]
    fn a_verdict_of_another_zone_is_not_taken_for_this_ones() {
        let table = Table::new();
        let now = Instant::from_secs(100);
        let frame = datagram(1, 2, 1000);
        let view = crate::PacketView { frame: &frame, l3: 0, eth_type: 0x800, csum_trusted: true };
        let pass = |zone, prior| {
            let req = CtRequest { zone: Zone(zone), commit: true, prior, ..CtRequest::default() };
            let Parse::Packet(p) = parse(&view, req.zone) else { panic!("not a packet") };
            process(&table, now, &p, &req)
        };
        // More zones than shards, so that connections have the first slots of different shards.
        let infos: Vec<_> = (0..20).map(|zone| pass(zone, None)).collect();
        for (other, first) in infos.iter().enumerate() {
            let prior = first.conn.map(|c| (c, CtState::INVALID));
            for zone in 0..20 {
                let same = other == usize::from(zone);
                assert_eq!(pass(zone, prior).state == CtState::INVALID, same, "{other} {zone}");
            }
        }
    }
}
