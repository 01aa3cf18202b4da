//! Flows ("rules") and what is counted for them.
//!
//! A rule is immutable; a modification makes another that shares its counters. Counters are
//! atomics in an `Arc` of their own, so that a cached translation can credit them without the
//! lock on the tables and without keeping the rule alive.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base::{Cookie, Instant, OfPort, TableId};
use classifier::{Clause, Conjunctive, MiniMatch};
use dpif::FlowStats;
use openflow::action::Action;
use openflow::flow_mod::FlowModFlags;
use openflow::version::Version;

/// What was counted for a rule.
#[derive(Debug, Default)]
pub struct RuleStats {
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    /// Nanoseconds of the last use, or of the making.
    used: AtomicU64,
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
    /// Higher wins.
    pub priority: u16,
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
    /// When it was last modified, which is what the hard timeout counts from.
    pub modified: Instant,
    /// What was counted for it.
    pub stats: Arc<RuleStats>,
}

impl Rule {
    /// When it ends, as far as is known; `None` if it has no timeout.
    pub fn deadline(&self) -> Option<Instant> {
        let secs = |s: u16| base::Duration::from_secs(u64::from(s));
        let hard = (self.hard_timeout > 0).then(|| self.modified + secs(self.hard_timeout));
        let idle = (self.idle_timeout > 0).then(|| self.stats.used() + secs(self.idle_timeout));
        match (hard, idle) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
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
    actions.iter().any(|a| {
        is(a)
            || match a {
                Action::WriteActions(nested) | Action::Clone(nested) => any(nested, is),
                _ => false,
            }
    })
}

/// What a translation met: whoever caches it credits its packets here.
#[derive(Debug, Default, Clone)]
pub struct Credits {
    /// Rules in the order they were met, once per meeting.
    pub rules: Vec<Arc<RuleStats>>,
    /// Table lookups and whether they found a rule.
    pub tables: Vec<(Arc<TableStats>, bool)>,
    /// Learned addresses that stay alive as long as packets come.
    pub addresses: Vec<Arc<services::mac::Touch>>,
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
        if let Some(used) = d.used {
            for a in &self.addresses {
                a.touch(used);
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
        let Some(o) = other.as_any().downcast_ref::<Credits>() else { return false };
        same(&self.rules, &o.rules)
            && same(&self.addresses, &o.addresses)
            && same(&self.frozen, &o.frozen)
            && self.tables.len() == o.tables.len()
            && self.tables.iter().zip(&o.tables).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1)
    }

    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}
