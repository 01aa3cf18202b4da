//! What the control thread and the workers share: the switch's tables, behind one lock.
//!
//! [`World`] is the datapath's slow path. A worker that misses translates under the read lock; what
//! the packet's passage changes (learned addresses, events for controllers) is applied after that
//! lock is let go, under the write lock, and only if it is news. The control thread is woken when
//! there are events for it.
//!
//! Lock order: `switch`, then `recircs`. Neither is held while a datapath method is called that waits
//! for workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use base::{HashKey, Instant, RecircId};
use dpif::{DpAction, FlowStats, MegaflowSpec, SlowPath, Upcall, UserspaceCookie};
use flow::PacketKey;
use ofproto::recirc::{Frozen, RecircStore, RecircTable};
use ofproto::{Effect, Switch, XlateOut};
use packet::PacketBuf;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::dplog;

/// How long a frozen pipeline that nothing refers to is kept for packets on their way.
const RECIRC_GRACE: base::Duration = base::Duration::from_secs(10);

/// The recirculation ids, behind their own lock.
#[derive(Debug, Default)]
pub struct Recircs(Mutex<RecircTable>);

impl RecircStore for Recircs {
    fn intern(&self, state: Frozen) -> (RecircId, Arc<Frozen>) {
        self.0.lock().intern(state)
    }

    fn get(&self, id: RecircId) -> Option<Arc<Frozen>> {
        self.0.lock().get(id)
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// Bridges, tables, learned addresses.
    pub switch: RwLock<Switch>,
    recircs: Arc<Recircs>,
    generation: Arc<AtomicU64>,
    /// Name of the datapath in the log.
    dp: &'static str,
    /// Translations are cached for more packets than the one that asked. Turning it off is for
    /// tests; flush the datapath then.
    pub megaflows: AtomicBool,
    /// Wakes the control thread: a bridge has events.
    pub events: Notify,
}

impl World {
    /// A world without bridges, of datapath `dp`. `secret` keys the tables that strangers' packets
    /// look into.
    pub fn new(secret: HashKey, dp: &'static str) -> World {
        let recircs = Arc::new(Recircs::default());
        let switch = Switch::new(secret, Arc::clone(&recircs) as Arc<dyn RecircStore>);
        World {
            generation: switch.generation_handle(),
            switch: RwLock::new(switch),
            recircs,
            dp,
            megaflows: AtomicBool::new(true),
            events: Notify::new(),
        }
    }

    /// Lets go of frozen pipelines that nothing needs any more.
    pub fn collect_recircs(&self, now: Instant) {
        self.recircs.0.lock().collect(now, RECIRC_GRACE);
    }

    /// Does what a translation says is to happen besides.
    pub fn apply(&self, now: Instant, effects: &[Effect]) {
        if effects.is_empty() {
            return;
        }
        if !is_news(&self.switch.read(), now, effects) {
            return;
        }
        let mut switch = self.switch.write();
        for effect in effects {
            match effect {
                Effect::LearnMac(bridge, sighting) => {
                    if let Some(b) = switch.bridge_mut(*bridge) {
                        b.learn_mac(sighting, now);
                    }
                }
            }
        }
    }

    fn spec(&self, out: XlateOut, generation: u64) -> MegaflowSpec {
        let one_packet = || PacketKey::from_words([u64::MAX; flow::PACKET_WORDS]);
        MegaflowSpec {
            mask: if self.megaflows.load(Relaxed) { out.mask } else { one_packet() },
            actions: out.actions.into(),
            credit: Some(Arc::new(out.credits)),
            generation,
        }
    }
}

/// Whether some effect would change anything.
fn is_news(switch: &Switch, now: Instant, effects: &[Effect]) -> bool {
    effects.iter().any(|e| match e {
        Effect::LearnMac(bridge, sighting) => {
            switch.bridge(*bridge).is_some_and(|b| b.mac().would_change(sighting, now))
        }
    })
}

impl SlowPath for World {
    fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    fn upcall(&self, now: Instant, pkt: &PacketBuf, key: &PacketKey) -> Upcall {
        dplog::miss(self.dp, key);
        let generation = self.generation();
        let mut out = self.switch.read().xlate(now, key, None);
        out.credits.add(&FlowStats {
            n_packets: 1,
            n_bytes: pkt.len() as u64,
            used: Some(now),
            tcp_flags: key.tcp_flags,
        });
        self.apply(now, &std::mem::take(&mut out.effects));
        let spec = self.spec(out, generation);
        dplog::installed(key, &spec, now);
        Upcall { flow: Some(spec), execute: None }
    }

    fn revalidate(&self, now: Instant, key: &PacketKey) -> Option<MegaflowSpec> {
        let generation = self.generation();
        let switch = self.switch.read();
        let out = switch.xlate(now, key, None);
        // What the next packet's passage would change has to wait for that packet.
        let wants_packet = is_news(&switch, now, &out.effects);
        (!wants_packet).then(|| self.spec(out, generation))
    }

    fn userspace(
        &self,
        _now: Instant,
        pkt: &PacketBuf,
        key: &PacketKey,
        cookie: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>> {
        if let UserspaceCookie::Controller(cookie) = cookie {
            let event = self.switch.read().packet_in(cookie, pkt.frame(), key);
            if let Some((bridge, event)) = event
                && let Some(b) = self.switch.write().bridge_mut(bridge)
            {
                b.push_event(event);
                self.events.notify_one();
            }
        }
        None
    }
}
