//! What the tests share: frames, a slow path made of a closure, a datapath with ports in memory.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use base::{DpPort, Instant, Zone};
use conntrack::CtRequest;
use datapath::{Config, Datapath};
use dpif::{
    Credit, DpAction, FlowStats, MegaflowSpec, Revalidation, SlowPath, Upcall, UserspaceCookie,
};
use flow::PacketKey;
use netdev::dummy::{Dummy, DummyHandle};
use packet::PacketBuf;
use packet::checksum::{add, checksum, finish, pseudo_v4};

pub type Translate = dyn Fn(&PacketKey) -> (PacketKey, Vec<DpAction>) + Send + Sync;

/// Counts packets per name, as a rule would.
#[derive(Debug, Default)]
pub struct Rule {
    pub n_packets: AtomicU64,
    pub n_bytes: AtomicU64,
}

#[derive(Debug)]
struct RuleCredit(Arc<Rule>);

impl Credit for RuleCredit {
    fn credit(&self, d: &FlowStats) {
        self.0.n_packets.fetch_add(d.n_packets, SeqCst);
        self.0.n_bytes.fetch_add(d.n_bytes, SeqCst);
    }

    fn is_same(&self, other: &dyn Credit) -> bool {
        let other = other.as_any().downcast_ref::<RuleCredit>();
        other.is_some_and(|o| Arc::ptr_eq(&self.0, &o.0))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// A slow path that asks a closure, and credits all to one rule.
pub struct Policy {
    pub translate: parking_lot::RwLock<Box<Translate>>,
    pub generation: AtomicU64,
    pub rule: Arc<Rule>,
    /// The tables are being changed.
    pub changing: AtomicBool,
    pub n_upcalls: AtomicU64,
    pub n_userspace: AtomicU64,
    pub install: bool,
    pub then: Option<Arc<[DpAction]>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policy")
    }
}

impl Policy {
    pub fn new(
        f: impl Fn(&PacketKey) -> (PacketKey, Vec<DpAction>) + Send + Sync + 'static,
    ) -> Policy {
        Policy {
            translate: parking_lot::RwLock::new(Box::new(f)),
            generation: AtomicU64::new(1),
            rule: Arc::default(),
            n_upcalls: AtomicU64::new(0),
            n_userspace: AtomicU64::new(0),
            changing: AtomicBool::new(false),
            install: true,
            then: None,
        }
    }

    pub fn change(
        &self,
        f: impl Fn(&PacketKey) -> (PacketKey, Vec<DpAction>) + Send + Sync + 'static,
    ) {
        *self.translate.write() = Box::new(f);
        self.generation.fetch_add(1, SeqCst);
    }

    fn spec(&self, key: &PacketKey) -> MegaflowSpec {
        let generation = self.generation.load(SeqCst);
        let (mask, actions) = (self.translate.read())(key);
        let credit = RuleCredit(Arc::clone(&self.rule));
        MegaflowSpec { mask, actions: actions.into(), credit: Some(Arc::new(credit)), generation }
    }
}

impl SlowPath for Policy {
    fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
    }

    fn upcall(&self, _now: Instant, pkt: &PacketBuf, key: &PacketKey) -> Upcall {
        self.n_upcalls.fetch_add(1, SeqCst);
        self.rule.n_packets.fetch_add(1, SeqCst);
        self.rule.n_bytes.fetch_add(pkt.len() as u64, SeqCst);
        let spec = self.spec(key);
        match self.install {
            true => Upcall { flow: Some(spec), execute: None },
            false => Upcall { flow: None, execute: Some(spec.actions) },
        }
    }

    fn revalidate(&self, _now: Instant, key: &PacketKey) -> Revalidation {
        match self.changing.load(SeqCst) {
            true => Revalidation::Later,
            false => Revalidation::Flow(self.spec(key)),
        }
    }

    fn userspace(
        &self,
        _now: Instant,
        _pkt: &PacketBuf,
        _key: &PacketKey,
        _cookie: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>> {
        self.n_userspace.fetch_add(1, SeqCst);
        self.then.clone()
    }
}

/// A datapath without threads on a simulated clock, ports 1 to `n`.
pub struct Net {
    pub dp: Datapath,
    pub policy: Arc<Policy>,
    pub ends: Vec<DummyHandle>,
    pub now: Instant,
}

impl Net {
    pub fn new(n_ports: u32, config: Config, policy: Policy) -> Net {
        Net::with_workers(1, n_ports, config, policy)
    }

    /// Several workers take turns.
    pub fn with_workers(n: usize, n_ports: u32, config: Config, policy: Policy) -> Net {
        let policy = Arc::new(policy);
        let dp = Datapath::new(
            &config,
            Arc::clone(&policy) as Arc<dyn SlowPath>,
            Arc::new(|| Instant::ZERO),
            Arc::new(|_| ()),
        )
        .unwrap();
        dp.set_workers(&vec![None; n], &|_| Err(netdev::Error::gone("no port"))).unwrap();
        let ends = (1..=n_ports)
            .map(|n| {
                let (mut port, end) = Dummy::new(&format!("p{n}"), 0);
                dp.add_port(DpPort(n), &mut port).unwrap();
                end
            })
            .collect();
        Net { dp, policy, ends, now: Instant::from_secs(1) }
    }

    pub fn simulated(n_ports: u32, policy: Policy) -> Net {
        Net::new(n_ports, Config { n_threads: 0, ..Config::default() }, policy)
    }

    /// Lets packets in by a port as one batch.
    pub fn inject(&self, port: u32, packets: &[PacketBuf]) {
        for p in packets {
            self.ends[port as usize - 1].inject(p.clone());
        }
    }

    pub fn run(&self) {
        while self.dp.poll(self.now) > 0 {}
    }

    /// What came out of each port since the last call.
    pub fn outputs(&self) -> Vec<Vec<PacketBuf>> {
        self.ends.iter().map(|e| std::iter::from_fn(|| e.take()).collect()).collect()
    }

    /// Sends one packet in and gives what comes out, by port.
    pub fn send(&self, port: u32, p: &PacketBuf) -> Vec<Vec<PacketBuf>> {
        self.inject(port, std::slice::from_ref(p));
        self.run();
        self.outputs()
    }
}

pub fn out(port: u32) -> DpAction {
    DpAction::Output(DpPort(port))
}

pub fn commit(zone: u16) -> DpAction {
    let request = CtRequest { zone: Zone(zone), commit: true, ..CtRequest::default() };
    DpAction::Ct(Box::new(request))
}

pub fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, l4: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, dst[3], 2, 0, 0, 0, 0, src[3], 8, 0];
    f.extend([0x45, 0]);
    f.extend((20 + l4.len() as u16).to_be_bytes());
    f.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
    f.extend(src);
    f.extend(dst);
    let csum = checksum(&f[14..34]);
    f[24..26].copy_from_slice(&csum.to_be_bytes());
    f.extend(l4);
    f
}

fn with_csum(src: [u8; 4], dst: [u8; 4], proto: u8, mut l4: Vec<u8>, at: usize) -> Vec<u8> {
    let (s, d) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
    let sum = finish(add(pseudo_v4(s, d, proto, l4.len() as u32), &l4));
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ipv4(src, dst, proto, &l4)
}

pub fn udp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, payload: &[u8]) -> PacketBuf {
    let mut l4 = Vec::new();
    l4.extend(sport.to_be_bytes());
    l4.extend(dport.to_be_bytes());
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    PacketBuf::from_frame(&with_csum(src, dst, 17, l4, 6))
}

#[derive(Copy, Clone)]
pub struct Tcp {
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
}

pub fn tcp(t: Tcp, payload: &[u8]) -> PacketBuf {
    let mut l4 = Vec::new();
    l4.extend(t.sport.to_be_bytes());
    l4.extend(t.dport.to_be_bytes());
    l4.extend(t.seq.to_be_bytes());
    l4.extend(t.ack.to_be_bytes());
    l4.extend([0x50, t.flags, 0xff, 0xff, 0, 0, 0, 0]);
    l4.extend(payload);
    PacketBuf::from_frame(&with_csum(t.src, t.dst, 6, l4, 16))
}

/// An exact match on ports and addresses, a usual mask.
pub fn five_tuple_mask() -> PacketKey {
    let mut m = PacketKey::ZERO;
    (m.nw_src, m.nw_dst, m.nw_proto) = (!0, !0, !0);
    (m.tp_src, m.tp_dst) = (!0, !0);
    m
}
