//! Tracked connections as the control socket shows them, and the log of what happened to them.

use std::collections::VecDeque;

use base::{Duration, Instant};
use conntrack::{ConnSnapshot, CtEvent, EventKind, Tuple};
use tokio::sync::oneshot;

use crate::clock;
use crate::control::Text;
use crate::ctl::conntrack::{
    ConnCounters, ConnEvent, ConnEventKind, ConnEvents, ConnFilter, ConnRecord, ConnTuple, L4, POLL,
};

/// Events kept for listeners that are slow to ask again.
const CAPACITY: usize = 16_384;

/// How long after the last request events are still collected.
const LINGER: Duration = Duration::from_secs(60);

/// A connection for the control socket, with its traffic if `accounting` is wanted.
///
/// As with the kernel's tracker, traffic is shown only where the operator asked for it
/// (Open_vSwitch `other_config:ct-acct`), so that listings keep the form that scripts know.
pub fn record(c: &ConnSnapshot, accounting: bool) -> ConnRecord {
    let counters = |t: conntrack::Traffic| ConnCounters { packets: t.packets, bytes: t.bytes };
    let [orig, reply] = c.traffic.map(|t| accounting.then(|| counters(t)));
    let states = c.tcp.map(|t| t.states.map(|s| s.name().to_owned()));
    let [state_orig, state_reply] = states.map_or([None, None], |s| s.map(Some));
    ConnRecord {
        proto: c.orig.proto,
        orig: tuple(&c.orig),
        reply: tuple(&c.reply),
        state: c.tcp.map(|t| t.kernel_state().name().to_owned()),
        state_orig,
        state_reply,
        timeout: u32::try_from(c.timeout.as_secs()).unwrap_or(u32::MAX),
        orig_counters: orig,
        reply_counters: reply,
        mark: c.mark,
        labels: c.label,
        zone: c.zone.0,
        seen_reply: c.seen_reply,
        assured: c.assured,
        id: fold(c.id.to_u64()),
        helper: c.helper.map(|h| h.name().to_owned()),
    }
}

/// Slot, shard and generation in 32 bits: connections that live at the same time differ.
fn fold(id: u64) -> u32 {
    let (slot, shard, generation) = (id as u32, (id >> 32) as u32 & 0xffff, (id >> 48) as u32);
    slot ^ shard << 22 ^ generation << 26
}

fn tuple(t: &Tuple) -> ConnTuple {
    let has_ports = matches!(t.proto, 6 | 17 | 33 | 132 | 136);
    let l4 = match t.icmp_parts() {
        Some((id, ty, code)) => L4::Icmp { ty, code, id },
        None if has_ports => L4::Ports { sport: t.src_id, dport: t.dst_id },
        None => L4::None,
    };
    ConnTuple { src: t.src, dst: t.dst, l4 }
}

#[derive(Debug)]
struct Waiter {
    seq: u64,
    filter: ConnFilter,
    until: Instant,
    answer: oneshot::Sender<Text>,
}

/// The last events by number, and who waits for the next.
#[derive(Debug, Default)]
pub struct ConnLog {
    events: VecDeque<ConnEvent>,
    /// Number of the newest event.
    seq: u64,
    waiters: Vec<Waiter>,
    asked: Option<Instant>,
}

impl ConnLog {
    /// Whether somebody listens, or did a moment ago.
    pub fn is_wanted(&self, now: Instant) -> bool {
        !self.waiters.is_empty() || self.asked.is_some_and(|t| now.since(t) < LINGER)
    }

    /// Adds an event.
    pub fn push(&mut self, event: &CtEvent, accounting: bool) {
        let kind = match event.kind {
            EventKind::New => ConnEventKind::New,
            EventKind::Update => ConnEventKind::Update,
            EventKind::Destroy => ConnEventKind::Destroy,
        };
        let time_us = u64::try_from(clock::unix_time().as_micros()).unwrap_or(u64::MAX);
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(ConnEvent { kind, time_us, record: record(&event.conn, accounting) });
        self.seq += 1;
    }

    /// Number of the newest event.
    pub fn seq(&mut self, now: Instant) -> u64 {
        self.asked = Some(now);
        self.seq
    }

    /// Answers with the events after `seq`, at once or when there are some.
    pub fn wait(&mut self, now: Instant, seq: u64, filter: ConnFilter) -> oneshot::Receiver<Text> {
        let (answer, receiver) = oneshot::channel();
        self.asked = Some(now);
        self.waiters.push(Waiter { seq: seq.min(self.seq), filter, until: now + POLL, answer });
        self.answer(now);
        receiver
    }

    /// Answers the waiters for whom there is something, or whose time is up.
    pub fn answer(&mut self, now: Instant) {
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            let reply = self.after(waiter.seq, &waiter.filter);
            if reply.events.is_empty() && reply.lost == 0 && now < waiter.until {
                if !waiter.answer.is_closed() {
                    self.waiters.push(waiter);
                }
                continue;
            }
            let text = serde_json::to_string(&reply).map_err(|e| e.to_string());
            let _ = waiter.answer.send(text);
        }
    }

    fn after(&self, seq: u64, filter: &ConnFilter) -> ConnEvents {
        let new = usize::try_from(self.seq - seq).unwrap_or(usize::MAX);
        let held = new.min(self.events.len());
        let events = self.events.range(self.events.len() - held..);
        ConnEvents {
            seq: self.seq,
            lost: (new - held) as u64,
            events: events.filter(|e| filter.matches(&e.record)).cloned().collect(),
        }
    }
}
