//! Flows ("rules") and what is counted for them.
//!
//! A rule is immutable; a modification makes another that shares its counters. Counters are
//! atomics in an `Arc` of their own, so that a cached translation can credit them without the
//! lock on the tables and without keeping the rule alive.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use base::{Cookie, Instant, OfPort, TableId};
use classifier::{Clause, Conjunctive, MiniMatch};
use dpif::FlowStats;
use openflow::action::Action;
use openflow::flow_mod::FlowModFlags;
use openflow::version::Version;

use crate::group::GroupCounters;
use crate::mirror::MirrorStats;
use crate::port::PatchStats;

/// What was counted for a rule.
#[derive(Debug, Default)]
pub struct RuleStats {
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    /// Nanoseconds of the last use, or of the making.
    used: AtomicU64,
    /// Nanoseconds of the last time that it was learned anew.
    learned: AtomicU64,
    /// Timeouts that a TCP connection's end has left it: idle in the high half, hard in the low; 0 for
    /// as they were.
    reduced: AtomicU32,
}

impl RuleStats {
    pub(crate) fn new(now: Instant) -> RuleStats {
        RuleStats { used: AtomicU64::new(now.as_nanos()), ..RuleStats::default() }
    }

    /// Counts packets.
    pub fn credit(&self, d: &FlowStats) {
        self.n_packets.fetch_add(d.n_packets, Relaxed);
        self.n_bytes.fetch_add(d.n_bytes, Relaxed);
        if let Some(t) = d.used {
            self.used.fetch_max(t.as_nanos(), Relaxed);
        }
    }

    /// A packet learned the rule again: its hard timeout counts anew.
    pub(crate) fn learn_again(&self, at: Instant) {
        self.learned.fetch_max(at.as_nanos(), Relaxed);
    }

    /// The end of a TCP connection shortens the rule's life. Seconds; 0 leaves a timeout as it is.
    fn reduce_timeouts(&self, idle: u16, hard: u16) {
        let least = |a: u16, b: u16| if a == 0 || (b != 0 && b < a) { b } else { a };
        let update = |old: u32| {
            let (i, h) = (least((old >> 16) as u16, idle), least(old as u16, hard));
            Some(u32::from(i) << 16 | u32::from(h))
        };
        // The closure never declines.
        let _ = self.reduced.fetch_update(Relaxed, Relaxed, update);
    }

    /// Takes over what was counted for another, of a rule that was not in its table yet.
    pub(crate) fn absorb(&self, other: &RuleStats) {
        self.credit(&FlowStats {
            n_packets: other.n_packets(),
            n_bytes: other.n_bytes(),
            used: Some(other.used()),
            tcp_flags: 0,
        });
    }

    /// Packets so far.
    pub fn n_packets(&self) -> u64 {
        self.n_packets.load(Relaxed)
    }

    /// Bytes so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Relaxed)
    }

    /// When it last had a packet, else when it was made.
    pub fn used(&self) -> Instant {
        Instant::from_nanos(self.used.load(Relaxed))
    }
}

/// Lookups of a table.
#[derive(Debug, Default)]
pub struct TableStats {
    n_matched: AtomicU64,
    n_missed: AtomicU64,
}

impl TableStats {
    /// Counts `n` lookups.
    pub fn credit(&self, n: u64, matched: bool) {
        if matched { &self.n_matched } else { &self.n_missed }.fetch_add(n, Relaxed);
    }

    /// Lookups that found a rule.
    pub fn n_matched(&self) -> u64 {
        self.n_matched.load(Relaxed)
    }

    /// All lookups.
    pub fn n_lookup(&self) -> u64 {
        self.n_matched() + self.n_missed.load(Relaxed)
    }
}

/// A flow.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it matches.
    pub match_: MiniMatch,
    /// Higher wins. What is higher than a controller can say is the switch's own.
    pub priority: u32,
    /// Where it is.
    pub table: TableId,
    /// The controller's mark.
    pub cookie: Cookie,
    /// Seconds without a packet until removal; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until removal; 0 for never.
    pub hard_timeout: u16,
    /// Importance for eviction.
    pub importance: u16,
    /// Flags it was added with.
    pub flags: FlowModFlags,
    /// The version of OpenFlow that its actions were said in, which traces repeat.
    pub version: Version,
    /// Its actions and instructions, as `ovs-ofctl` writes them.
    pub actions: Box<[Action]>,
    /// When it was added.
    pub created: Instant,
    /// When it was last modified; see [`Rule::modified`].
    pub modified: Instant,
    /// What was counted for it.
    pub stats: Arc<RuleStats>,
}

impl Rule {
    /// The same for a classifier.
    pub(crate) fn rank(&self) -> i32 {
        i32::try_from(self.priority).unwrap_or(i32::MAX)
    }

    /// Its priority as messages tell it, in which no flow of the switch's own is spoken of.
    pub fn told_priority(&self) -> u16 {
        u16::try_from(self.priority).unwrap_or(u16::MAX)
    }

    /// When it ends, as far as is known; `None` if it has no timeout.
    pub fn deadline(&self) -> Option<Instant> {
        let (idle, _) = self.timeouts();
        let secs = base::Duration::from_secs(u64::from(idle));
        let idle = (idle > 0).then(|| self.stats.used() + secs);
        match (self.hard_deadline(), idle) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// When it was last modified or learned again, which is what the hard timeout counts from.
    pub fn modified(&self) -> Instant {
        self.modified.max(Instant::from_nanos(self.stats.learned.load(Relaxed)))
    }

    /// When it ends even if packets come.
    pub(crate) fn hard_deadline(&self) -> Option<Instant> {
        let (_, hard) = self.timeouts();
        (hard > 0).then(|| self.modified() + base::Duration::from_secs(u64::from(hard)))
    }

    /// Its idle and hard timeouts in seconds, as the end of a TCP connection may have left them.
    pub fn timeouts(&self) -> (u16, u16) {
        let reduced = self.stats.reduced.load(Relaxed);
        let least = |t: u16, max: u16| if max > 0 && (t == 0 || t > max) { max } else { t };
        (least(self.idle_timeout, (reduced >> 16) as u16), least(self.hard_timeout, reduced as u16))
    }

    /// Whether the end of a TCP connection may shorten its life.
    pub(crate) fn has_fin_timeout(&self) -> bool {
        any(&self.actions, &|a| matches!(a, Action::FinTimeout { .. }))
    }

    /// What it learns that is to go with it: cookie and table.
    pub(crate) fn learns_with_delete(&self) -> Vec<(u64, TableId)> {
        let mut found = Vec::new();
        each(&self.actions, &mut |a| {
            if let Action::Learn(l) = a
                && l.delete_learned
            {
                found.push((l.cookie, l.table));
            }
        });
        found
    }

    /// Tells it from other rules; stays through modifications that keep its counters.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.stats) as usize
    }

    /// Matches everything at priority 0: what OpenFlow 1.3 calls a table-miss flow.
    pub fn is_table_miss(&self) -> bool {
        self.priority == 0 && self.match_.is_catch_all()
    }

    /// Whether it sends packets to `port`, by an action or an instruction.
    pub fn outputs_to(&self, port: OfPort) -> bool {
        any(&self.actions, &|a| match a {
            Action::Output { port: p, .. }
            | Action::OutputTrunc { port: p, .. }
            | Action::Enqueue { port: p, .. } => *p == port,
            Action::Controller(_) => port == OfPort::CONTROLLER,
            _ => false,
        })
    }

    /// Shows all its actions, nested ones included.
    pub(crate) fn walk(&self, f: &mut dyn FnMut(&Action)) {
        each(&self.actions, f);
    }

    /// Whether it sends packets to a group.
    pub fn uses_group(&self, group: u32) -> bool {
        any(&self.actions, &|a| matches!(a, Action::Group(g) if *g == group))
    }
}

impl Conjunctive for Rule {
    fn clauses(&self) -> impl Iterator<Item = Clause> {
        self.actions.iter().filter_map(|a| match *a {
            Action::Conjunction { id, clause, n_clauses } => Some(Clause { id, clause, n_clauses }),
            _ => None,
        })
    }
}

/// Whether some action, nested ones included, is as asked.
fn any(actions: &[Action], is: &dyn Fn(&Action) -> bool) -> bool {
    let mut found = false;
    each(actions, &mut |a| found |= is(a));
    found
}

/// Calls `f` for each action, nested ones included.
fn each(actions: &[Action], f: &mut dyn FnMut(&Action)) {
    for a in actions {
        f(a);
        if let Action::WriteActions(nested) | Action::Clone(nested) = a {
            each(nested, f);
        }
    }
}

/// What a translation met: whoever caches it credits its packets here.
#[derive(Debug, Default, Clone)]
pub struct Credits {
    /// Rules in the order they were met, once per meeting.
    pub rules: Vec<Arc<RuleStats>>,
    /// Table lookups and whether they found a rule.
    pub tables: Vec<(Arc<TableStats>, bool)>,
    /// Groups, and by its place the bucket that the packet took; `None` for every bucket.
    pub groups: Vec<(Arc<GroupCounters>, Option<usize>)>,
    /// Learned addresses that stay alive as long as packets come.
    pub addresses: Vec<Arc<services::mac::Touch>>,
    /// Patches that packets pass: the end that they go out of, and the other.
    pub patches: Vec<(Arc<PatchStats>, Arc<PatchStats>)>,
    /// Mirrors that packets go to.
    pub mirrors: Vec<Arc<MirrorStats>>,
    /// Rules that packets learn again.
    pub learned: Vec<Arc<RuleStats>>,
    /// Rules whose life TCP connections' ends shorten, to these idle and hard timeouts.
    pub fin_timeouts: Vec<(Arc<RuleStats>, u16, u16)>,
    /// Frozen states that packets may still resume; held so that they are kept.
    pub frozen: Vec<Arc<crate::recirc::Frozen>>,
}

impl Credits {
    /// Counts packets for all that was met.
    pub fn add(&self, d: &FlowStats) {
        for r in &self.rules {
            r.credit(d);
        }
        for (t, matched) in &self.tables {
            t.credit(d.n_packets, *matched);
        }
        for (g, bucket) in &self.groups {
            g.credit(d, *bucket);
        }
        for (from, to) in &self.patches {
            from.pass(to, d.n_packets, d.n_bytes);
        }
        for m in &self.mirrors {
            m.credit(d);
        }
        if let Some(used) = d.used {
            for a in &self.addresses {
                a.touch(used);
            }
            for r in &self.learned {
                r.learn_again(used);
            }
        }
        const FIN_OR_RST: u16 = 0x05;
        if d.tcp_flags & FIN_OR_RST != 0 {
            for (r, idle, hard) in &self.fin_timeouts {
                r.reduce_timeouts(*idle, *hard);
            }
        }
    }
}

impl dpif::Credit for Credits {
    fn credit(&self, delta: &FlowStats) {
        self.add(delta);
    }

    fn is_same(&self, other: &dyn dpif::Credit) -> bool {
        fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        }
        fn same_pairs<T, U: PartialEq>(a: &[(Arc<T>, U)], b: &[(Arc<T>, U)]) -> bool {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1)
        }
        let Some(o) = other.as_any().downcast_ref::<Credits>() else { return false };
        same(&self.rules, &o.rules)
            && same(&self.addresses, &o.addresses)
            && same(&self.frozen, &o.frozen)
            && same(&self.learned, &o.learned)
            && same(&self.mirrors, &o.mirrors)
            && self.patches.len() == o.patches.len()
            && (self.patches.iter().zip(&o.patches))
                .all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && Arc::ptr_eq(&a.1, &b.1))
            && self.fin_timeouts.len() == o.fin_timeouts.len()
            && (self.fin_timeouts.iter().zip(&o.fin_timeouts))
                .all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && (a.1, a.2) == (b.1, b.2))
            && same_pairs(&self.tables, &o.tables)
            && same_pairs(&self.groups, &o.groups)
    }

    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}
