//! What the control thread and the workers share: the switch's tables, behind one lock.
//!
//! [`World`] is the datapath's slow path. A worker that misses translates under the read lock; what
//! the packet's passage changes (learned addresses) is applied after that lock is let go, under the
//! write lock, and only if it is news. Packets for controllers wait in a bounded queue of their own,
//! in which the ports take turns, and the control thread is woken.
//!
//! Lock order: `switch`, then `recircs` or the queue. None is held while a datapath method is
//! called that waits for workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use base::{DpPort, HashKey, Instant, RecircId};
use dpif::{
    DpAction, DropReason, FlowStats, Generation, MegaflowSpec, MeterStore, Revalidation, SlowPath,
    Upcall, UserspaceCookie,
};
use flow::{FlowKey, PacketKey};
use ofproto::recirc::{Frozen, RecircStore, RecircTable};
use ofproto::{BridgeId, Effect, Event, FairQueue, Switch, TraceRequest, XlateOut};
use packet::PacketBuf;
use packet::segment::{Segments, finish_checksum};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::tables::Tables;
use crate::vlog::{Limited, Module};
use crate::{dplog, log};

/// How long a frozen pipeline that nothing refers to is kept for packets on their way.
const RECIRC_GRACE: base::Duration = base::Duration::from_secs(10);
/// Packets that may wait for the control thread to take them to controllers.
const MAX_PACKET_INS: usize = 1024;

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
    pub switch: Tables,
    recircs: Arc<Recircs>,
    generation: Generation,
    /// Name of the datapath in the log.
    dp: &'static str,
    /// Translations are cached for more packets than the one that asked. Turning it off is for
    /// tests; flush the datapath then.
    pub megaflows: AtomicBool,
    packet_ins: Mutex<FairQueue<(BridgeId, u32), (BridgeId, Event)>>,
    n_overflows: AtomicU64,
    /// The datapath's meters.
    pub meters: Arc<datapath::Meters>,
    /// For what is wrong with flow tables.
    errors: Mutex<Limited>,
    /// For the traces of packets that flow tables send in circles.
    traces: Mutex<Limited>,
    /// Wakes the control thread: there are packets for controllers.
    pub events: Notify,
}

impl World {
    /// A world without bridges, of datapath `dp`. `secret` keys the tables that strangers' packets
    /// look into; the slow path's generation is at `generation`.
    pub fn new(secret: HashKey, dp: &'static str, generation: Generation) -> World {
        let recircs = Arc::new(Recircs::default());
        let meters = Arc::<datapath::Meters>::default();
        let mut switch = Switch::counting(secret, Arc::clone(&recircs) as _, generation);
        switch.set_meters(Arc::clone(&meters) as Arc<dyn MeterStore>);
        World {
            generation: switch.generation_handle(),
            switch: Tables::new(switch),
            recircs,
            dp,
            megaflows: AtomicBool::new(true),
            packet_ins: Mutex::default(),
            n_overflows: AtomicU64::new(0),
            meters,
            errors: Mutex::new(Limited::new(Module::OfprotoDpifXlate, 1, 5, Instant::ZERO)),
            traces: Mutex::new(Limited::new(Module::OfprotoDpifUpcall, 1, 1, Instant::ZERO)),
            events: Notify::new(),
        }
    }

    /// What waits for controllers, the ports in turn.
    pub fn take_packet_ins(&self) -> Vec<(BridgeId, Event)> {
        let mut queue = self.packet_ins.lock();
        std::iter::from_fn(|| queue.pop()).collect()
    }

    /// Packets that controllers did not get because too many were waiting.
    pub fn n_overflows(&self) -> u64 {
        self.n_overflows.load(Relaxed)
    }

    fn push_packet_in(&self, bridge: BridgeId, event: Event) {
        let Event::PacketIn(p) = &event else { return };
        let sender = (bridge, p.metadata.key.pkt.in_port);
        let mut queue = self.packet_ins.lock();
        queue.push(sender, (bridge, event));
        if queue.len() > MAX_PACKET_INS && queue.drop_one() {
            self.n_overflows.fetch_add(1, Relaxed);
        }
        drop(queue);
        self.events.notify_one();
    }

    /// `TYPE@NAME` of the datapath.
    pub fn datapath_name(&self) -> &'static str {
        self.dp
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
        let switch = self.switch.read();
        if !is_news(&switch, now, effects) {
            effects.iter().for_each(|e| e.refresh(&switch, now));
            return;
        }
        drop(switch);
        let mut switch = self.switch.write();
        switch.apply(now, effects);
        self.events.notify_one();
    }

    /// Logs what is wrong with the tables that a packet met.
    fn complain(&self, now: Instant, key: &PacketKey, out: &XlateOut) {
        for e in &out.errors {
            if self.errors.lock().allow(now).is_some() {
                log!(Warn, OfprotoDpifXlate, "{e}");
            }
        }
        let endless = [DropReason::RecursionTooDeep, DropReason::TooManyResubmits];
        if out.drop.is_some_and(|r| endless.contains(&r))
            && let Some(bridge) = out.bridge
            && self.traces.lock().allow(now).is_some()
        {
            let switch = self.switch.read();
            let mut flow = FlowKey::from(*key);
            if let Some((_, port)) = switch.port_of_dp(DpPort(key.in_port)) {
                flow.pkt.in_port = u32::from(port.0);
            }
            let request = TraceRequest {
                bridge,
                key: &flow,
                is_real: false,
                ct_next: &[],
                actions: None,
                names: false,
            };
            let text = switch.trace(now, &request, &|_, _| None).text;
            log!(Warn, OfprotoDpifUpcall, "{}", text.trim_end());
        }
    }

    fn spec(&self, out: XlateOut, generation: u64) -> MegaflowSpec {
        let one_packet = || PacketKey::from_words([u64::MAX; flow::PACKET_WORDS]);
        MegaflowSpec {
            mask: if self.megaflows.load(Relaxed) { out.mask } else { one_packet() },
            actions: match out.slow {
                Some(reason) => {
                    let up = DpAction::Userspace(Box::new(UserspaceCookie::SlowPath(reason)));
                    Arc::new([up.metered(out.slow_meter)])
                }
                None => out.actions.into(),
            },
            credit: Some(Arc::new(out.credits)),
            generation,
        }
    }
}

/// Whether some effect would change anything.
fn is_news(switch: &Switch, now: Instant, effects: &[Effect]) -> bool {
    effects.iter().any(|e| e.is_news(switch, now))
}

/// The frames that a packet would be on a wire: complete, and cut to size if its sender left that to
/// the device. One that cannot be is none.
fn for_each_frame(pkt: &PacketBuf, mut f: impl FnMut(&[u8])) {
    if pkt.offload.is_gso() {
        let Ok(mut segments) = Segments::of(pkt) else { return };
        let mut segment = PacketBuf::with_capacity(2048);
        while segments.next_into(&mut segment) {
            f(segment.frame());
        }
    } else if pkt.offload.needs_csum {
        let mut whole = PacketBuf::with_capacity(pkt.len());
        whole.copy_from(pkt);
        if finish_checksum(&mut whole).is_ok() {
            f(whole.frame());
        }
    } else {
        f(pkt.frame());
    }
}

impl SlowPath for World {
    fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    fn upcall(&self, now: Instant, pkt: &PacketBuf, key: &PacketKey) -> Upcall {
        dplog::miss(self.dp, key);
        let generation = self.generation();
        let mut out = self.switch.read().xlate_packet(now, key, pkt.len());
        out.credits.add(&FlowStats {
            n_packets: 1,
            n_bytes: pkt.len() as u64,
            used: Some(now),
            tcp_flags: key.tcp_flags,
        });
        self.apply(now, &std::mem::take(&mut out.effects));
        self.complain(now, key, &out);
        // The flow hands each of its packets back; this one goes on at once.
        let execute = out.slow.map(|_| Arc::from(&out.actions[..]));
        let spec = self.spec(out, generation);
        dplog::installed(key, &spec, now);
        Upcall { flow: Some(spec), execute }
    }

    fn revalidate(&self, now: Instant, key: &PacketKey) -> Revalidation {
        let generation = self.generation();
        let Some(switch) = self.switch.read_unless_changing() else { return Revalidation::Later };
        let out = switch.xlate(now, key, None);
        // What the next packet's passage would change has to wait for that packet.
        let wants_packet = is_news(&switch, now, &out.effects);
        match wants_packet {
            true => Revalidation::Gone,
            false => Revalidation::Flow(self.spec(out, generation)),
        }
    }

    fn userspace(
        &self,
        now: Instant,
        pkt: &PacketBuf,
        key: &PacketKey,
        cookie: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>> {
        match cookie {
            UserspaceCookie::Controller(cookie) => {
                let switch = self.switch.read();
                for_each_frame(pkt, |frame| {
                    if let Some((bridge, event)) = switch.packet_in(cookie, frame, key) {
                        self.push_packet_in(bridge, event);
                    }
                });
                None
            }
            // The flow counts its packets for whoever they are to be counted for.
            UserspaceCookie::SlowPath(_) => {
                let out = self.switch.read().xlate_packet(now, key, pkt.len());
                self.apply(now, &out.effects);
                Some(out.actions.into())
            }
            UserspaceCookie::SFlow { .. } | UserspaceCookie::Ipfix { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{DpPort, OfPort};
    use dpif::ControllerCookie;
    use ofproto::{BridgeSpec, PortSpec};
    use openflow::action::Action;
    use openflow::flow_mod::FlowMod;
    use packet::Offload;

    /// A world whose bridge sends all to controllers, and the cookie that comes up with each packet.
    fn world() -> (World, ControllerCookie) {
        let world = World::new(HashKey([1, 2]), "test", Generation::default());
        let now = Instant::from_secs(1);
        let mut switch = world.switch.write();
        let br = switch.put_bridge("br0", BridgeSpec::default(), now);
        for n in [2, 3] {
            let spec =
                PortSpec { dp_port: DpPort(n), name: format!("p{n}"), ..PortSpec::default() };
            switch.put_port(br, OfPort(n as u16), spec, now);
        }
        let actions = vec![Action::Controller(Box::default())];
        let fm = FlowMod { actions, ..FlowMod::default() };
        switch.bridge_mut(br).unwrap().flow_mod(&fm, now).unwrap();
        drop(switch);
        let key = PacketKey { in_port: 2, ..PacketKey::default() };
        let flow = world.upcall(now, &PacketBuf::from_frame(&[0; 60]), &key).flow.unwrap();
        let [DpAction::Userspace(cookie)] = &flow.actions[..] else { panic!("{:?}", flow.actions) };
        let UserspaceCookie::Controller(cookie) = &**cookie else { panic!() };
        (world, cookie.clone())
    }

    fn send_up(world: &World, port: u32, cookie: &ControllerCookie, pkt: &PacketBuf) {
        let key = PacketKey { in_port: port, ..PacketKey::default() };
        let cookie = UserspaceCookie::Controller(cookie.clone());
        world.userspace(Instant::from_secs(1), pkt, &key, &cookie);
    }

    #[test]
    fn a_flood_keeps_the_newest() {
        let (world, cookie) = world();
        for n in 0..2 * MAX_PACKET_INS {
            let pkt = PacketBuf::from_frame(&[n as u8; 60]);
            send_up(&world, 2, &cookie, &pkt);
        }
        assert_eq!(world.n_overflows(), MAX_PACKET_INS as u64);
        let all = world.take_packet_ins();
        assert_eq!(all.len(), MAX_PACKET_INS);
        let Event::PacketIn(first) = &all[0].1 else { panic!() };
        assert_eq!(first.packet[0], (MAX_PACKET_INS % 256) as u8, "the oldest were dropped");
        assert!(world.take_packet_ins().is_empty());
    }

    #[test]
    fn what_a_sender_left_to_the_device_is_done() {
        let (world, cookie) = world();
        // UDP from 10.0.0.1 to 10.0.0.2 with the sum of the pseudo-header in its checksum's place.
        let mut frame = vec![0; 42];
        (frame[12], frame[14], frame[17], frame[23]) = (8, 0x45, 28, 17);
        (frame[26], frame[29], frame[30], frame[33]) = (10, 1, 10, 2);
        (frame[39], frame[40], frame[41]) = (8, 0x14, 0x1c);
        let mut pkt = PacketBuf::from_frame(&frame);
        pkt.offload =
            Offload { needs_csum: true, csum_start: 34, csum_offset: 6, ..Offload::default() };
        send_up(&world, 2, &cookie, &pkt);
        let all = world.take_packet_ins();
        let [(_, Event::PacketIn(p))] = &all[..] else { panic!("{all:?}") };
        assert_eq!(p.packet.len(), 42);
        let mut whole = PacketBuf::from_frame(&frame);
        whole.offload = pkt.offload;
        finish_checksum(&mut whole).unwrap();
        assert_ne!(p.packet[40..], frame[40..]);
        assert_eq!(*p.packet, *whole.frame());
    }
}
