//! What a shard keeps of translated connections whose originals may be elsewhere.

use alloc::vec::Vec;
use base::{Instant, Zone};

use crate::conn::Conn;
use crate::front::{self, Only, Orphan};
use crate::nat::{Alias, AliasId, Nat};
use crate::slab::Entry;
use crate::tracker::{Passage, Then};
use crate::tuple::{Key, Tuple};
use crate::{
    ConnId, ConnSnapshot, Conntrack, CtConfig, CtInfo, CtRequest, InvalidReason, Outcome, Parsed,
};

/// Who has a tuple.
pub(crate) enum Holder {
    Nobody,
    Somebody,
    /// This connection, if it is alive.
    Elsewhere(ConnId),
}

impl Conntrack {
    /// What [`Conntrack::process_parsed`] would say of a packet, and the connection that the packet
    /// belongs to. Nothing changes.
    pub fn peek(
        &mut self,
        now: Instant,
        p: &Parsed,
        req: &CtRequest,
    ) -> (CtInfo, Option<ConnSnapshot>) {
        front::peek(&Only::of(self), now, p, req)
    }

    /// The connection of a packet whose key's shard this is, or where it is.
    pub(crate) fn seat(&self, now: Instant, p: &Parsed) -> Option<Result<Conn, ConnId>> {
        let id = self.id_of(&p.key)?;
        match id.shard == self.number {
            true => self.live_copy(now, id).map(Ok),
            false => Some(Err(id)),
        }
    }

    /// A connection as it is.
    pub(crate) fn live_copy(&self, now: Instant, id: ConnId) -> Option<Conn> {
        let c = self.conn(id)?;
        (!c.expired(now)).then(|| c.copied())
    }

    /// An empty tracker of one shard, with the rules of this one.
    pub(crate) fn sandbox(&self) -> Conntrack {
        let config = CtConfig { max_conns: usize::MAX, ..self.config };
        let mut copy = Conntrack::new(self.secret, config);
        copy.policies.clone_from(&self.policies);
        copy
    }

    /// Takes a connection of another tracker over; its state as it is there.
    pub(crate) fn adopt(&mut self, now: Instant, conn: Conn) -> ConnSnapshot {
        let nat = conn.nat();
        let slot = self.slab.insert(0);
        self.slab.get(slot).become_copy(&conn);
        let snapshot = ConnSnapshot::of(self.slab.get(slot), self.id(slot), now);
        self.index.insert(&mut self.slab, slot);
        self.wheel.insert(&self.slab, slot);
        self.zones.insert(&self.slab, slot);
        if let Some(mut nat) = nat
            && nat.alias.is_some()
        {
            let alias = Alias::new((nat.reply, nat.swapped), nat.reply.hash(self.secret));
            nat.alias = self.reserve(now, alias).ok();
            if let Some(alias) = nat.alias {
                self.settle_alias(alias, self.id(slot));
            }
            self.slab.get(slot).set_nat(nat);
        }
        snapshot
    }

    /// Commits a connection whose reply tuple is reserved, unless another packet did meanwhile.
    pub(crate) fn insert_translated(
        &mut self,
        x: &Passage<'_>,
        nat: Nat,
        info: &mut CtInfo,
        then: &mut Then,
    ) -> bool {
        // Replies of a connection that keeps its tuple must not be those of another.
        let clash = |a: &Alias| nat.alias.is_none() || a.swapped == x.p.swapped;
        let taken = self.alias_of(x).is_some_and(clash) || self.lookup(x).is_some();
        if !taken {
            self.insert(x, Some(nat), info, then);
        }
        !taken
    }

    /// Where the alias is whose replies have the packet's tuple, or its reverse.
    pub(crate) fn alias_slot(&self, x: &Passage<'_>) -> Option<u32> {
        if self.aliases.len() == 0 {
            return None;
        }
        self.alias_index.find(&self.aliases, x.hash, &x.p.key)
    }

    /// The alias itself.
    pub(crate) fn alias_of(&self, x: &Passage<'_>) -> Option<&Alias> {
        self.alias_slot(x).map(|slot| self.aliases.get(slot))
    }

    /// Counts a commit for which no tuple was free, and gives its verdict.
    pub(crate) fn refuse_translation(&mut self, zone: Zone) -> CtInfo {
        self.counters.insert_failed += 1;
        self.counters.drop += 1;
        let info = self.invalid(zone, InvalidReason::NatExhausted);
        CtInfo { outcome: Outcome::NatExhausted, ..info }
    }

    /// Puts an alias in, unless somebody has its tuple: a connection of this shard, or the one whose
    /// place is told.
    pub(crate) fn reserve(
        &mut self,
        now: Instant,
        alias: Alias,
    ) -> Result<AliasId, Option<ConnId>> {
        let (hash, key) = (alias.hash(), *alias.key());
        if let Some(slot) = self.index.find(&self.slab, hash, &key)
            && !self.reap(now, slot)
        {
            return Err(None);
        }
        if let Some(slot) = self.alias_index.find(&self.aliases, hash, &key) {
            return Err(self.aliases.get(slot).conn);
        }
        let slot = self.aliases.insert(alias);
        self.alias_index.insert(&mut self.aliases, slot);
        Ok(self.alias_id(slot))
    }

    /// Who has the tuple of this key.
    pub(crate) fn holder(&self, now: Instant, key: &Key, hash: u32) -> Holder {
        if let Some(slot) = self.index.find(&self.slab, hash, key)
            && !self.slab.get(slot).expired(now)
        {
            return Holder::Somebody;
        }
        let alias = self.alias_index.find(&self.aliases, hash, key);
        match alias.map(|slot| self.aliases.get(slot).conn) {
            None => Holder::Nobody,
            Some(None) => Holder::Somebody,
            Some(Some(conn)) => Holder::Elsewhere(conn),
        }
    }

    /// Whether a connection is gone, be it by now because its time has run out.
    pub(crate) fn is_gone(&mut self, now: Instant, id: ConnId) -> bool {
        self.conn(id).is_none() || self.reap(now, id.slot)
    }

    pub(crate) fn alias_id(&self, slot: u32) -> AliasId {
        AliasId { shard: self.number, slot, generation: self.aliases.get(slot).generation() }
    }

    fn has_alias(&self, id: AliasId) -> bool {
        self.aliases.same(id.slot, id.generation).is_some()
    }

    /// Says what connection an alias is of.
    pub(crate) fn settle_alias(&mut self, id: AliasId, conn: ConnId) {
        if self.has_alias(id) {
            self.aliases.get_mut(id.slot).conn = Some(conn);
        }
    }

    /// Takes an alias out, if it is still there.
    pub(crate) fn remove_alias(&mut self, id: AliasId) {
        if self.has_alias(id) {
            self.alias_index.remove(&mut self.aliases, id.slot);
            self.aliases.remove(id.slot);
        }
    }

    /// Takes out what a connection has elsewhere that is about to go, or hands it on.
    #[cold]
    pub(crate) fn bereave(&mut self, slot: u32) {
        let owner = self.id(slot);
        let Some(extra) = self.slab.get(slot).take_extra() else { return };
        let alias = extra.nat.and_then(|n| n.alias).map(Orphan::Alias);
        let expected = extra.alg.and_then(|alg| alg.watch).map(|w| w.expected).unwrap_or_default();
        let expected = expected.into_iter().map(|id| Orphan::Expected(id, owner));
        for orphan in alias.into_iter().chain(expected) {
            match orphan.shard() == self.number {
                true => self.bury(orphan),
                false => self.orphans.push(orphan),
            }
        }
    }

    /// Takes out what is left of a connection that is gone.
    pub(crate) fn bury(&mut self, orphan: Orphan) {
        match orphan {
            Orphan::Alias(id) => self.remove_alias(id),
            Orphan::Expected(id, owner) => self.forget(id, owner),
        }
    }

    /// What is to go in other shards because connections of this one did.
    #[inline]
    pub(crate) fn take_orphans(&mut self) -> Option<Vec<Orphan>> {
        (!self.orphans.is_empty()).then(|| core::mem::take(&mut self.orphans))
    }

    /// The connection that a tuple of either direction belongs to, if both are in this shard.
    pub fn find(&self, now: Instant, tuple: &Tuple, zone: Zone) -> Option<ConnSnapshot> {
        let id = self.id_of(&tuple.key(zone).0)?;
        self.get(now, id)
    }

    /// The id of the connection that packets with this key belong to. It may be in another shard.
    pub(crate) fn id_of(&self, key: &Key) -> Option<ConnId> {
        let hash = key.hash(self.secret);
        match self.index.find(&self.slab, hash, key) {
            Some(slot) => Some(self.id(slot)),
            None => {
                let slot = self.alias_index.find(&self.aliases, hash, key)?;
                self.aliases.get(slot).conn
            }
        }
    }
}
