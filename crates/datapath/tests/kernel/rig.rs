//! A tracker with one connection, and devices with the program on them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base::{HashKey, Instant};
use conntrack::{
    ConnFilter, ConnId, ConnSnapshot, CtConfig, CtRequest, Dir, Known, PacketView, Sent, Shards,
};
use datapath::CtTable;
use ebpf::{Entry, KernelPath, Programs, Retag, Target, Terms};
use flow::PacketKey;
use netdev::af_packet::{AfPacket, Options};
use netdev::{Bypass, Port, RxQueue, TxQueue, new_batch};
use packet::{Offload, PacketBuf};
use testkit::netns::Netns;
use testkit::process::eventually;

use crate::shape::{MACS, Shape};

pub const PATIENCE: Duration = Duration::from_secs(5);

/// Moves the calling thread into a namespace.
pub fn enter(ns: &Netns) {
    let file = File::open(format!("/proc/{}/ns/net", ns.pid())).unwrap();
    #[allow(unsafe_code)] // std has no setns
    // SAFETY: a descriptor and a flag; changes only this thread's network namespace.
    let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
}

/// A device with its halves.
pub struct End {
    pub port: AfPacket,
    pub rx: Box<dyn RxQueue>,
    pub tx: Box<dyn TxQueue>,
}

impl End {
    pub fn open(device: &str, bypass: Option<Arc<Bypass>>) -> End {
        let exclusive =
            if bypass.is_some() { Options::default().exclusive } else { Default::default() };
        let options = Options { exclusive, bypass, ..Options::default() };
        let mut port = AfPacket::open(device, options).unwrap();
        let (rx, tx) = (port.take_rx().unwrap(), port.open_tx().unwrap());
        End { port, rx, tx }
    }

    /// A frame of one of our machines, if one is there.
    pub fn get(&mut self) -> Option<PacketBuf> {
        let mut bufs = new_batch();
        let got = self.rx.recv(&mut bufs[..1]);
        let is_ours = |p: &PacketBuf| MACS.iter().any(|m| p.frame()[6..12] == *m);
        (got.n == 1 && is_ours(&bufs[0])).then(|| bufs.swap_remove(0))
    }
}

/// A tracker and its connection.
pub struct Tracker {
    pub table: CtTable,
    pub conn: Option<ConnId>,
}

impl Tracker {
    pub fn new(path: Option<&KernelPath>) -> Tracker {
        let memory = path.map(KernelPath::memory);
        let config = CtConfig { tcp_pick_up: true, ..CtConfig::default() };
        Tracker { table: CtTable::new(HashKey([3, 4]), config, 1, memory), conn: None }
    }

    /// The long way, as packets go that begin a connection.
    pub fn open(&mut self, now: Instant, shape: &Shape) {
        let mut p = shape.packet();
        let mut key = PacketKey::ZERO;
        flow::extract(&mut p, &mut key);
        let req = CtRequest { commit: true, ..CtRequest::LOOK };
        let info = self.table.process(now, &p, key.dl_type, &req, &mut None);
        assert_eq!(info.invalid, None, "{shape:?}");
        self.conn = info.conn.or(self.conn);
    }

    /// As a worker that knows the connection does; whether it fits.
    pub fn known(&self, now: Instant, shape: &Shape) -> bool {
        let mut p = shape.packet();
        let mut key = PacketKey::ZERO;
        flow::extract(&mut p, &mut key);
        let Some(l3) = p.l3() else { return false };
        let csum_trusted = p.offload.csum_trusted();
        let view = PacketView { frame: p.frame(), l3, eth_type: key.dl_type, csum_trusted };
        let Some(sent) = Sent::read(&view) else { return false };
        let ahead = self.table.lookahead(0).unwrap();
        ahead.track_known(now, self.of(shape.dir), &sent, &CtRequest::LOOK, None).is_some()
    }

    pub fn of(&self, dir: Dir) -> Known {
        Known { conn: self.conn.unwrap(), dir, translated: false }
    }

    pub fn snapshot(&self) -> Option<ConnSnapshot> {
        let (mut all, now) = (Vec::new(), Instant::ZERO);
        self.table.dump(now, &ConnFilter::default(), |c| all.push(*c));
        all.pop()
    }
}

/// Whether both saw the same, as far as the clock lets them.
pub fn alike(a: &ConnSnapshot, b: &ConnSnapshot) -> bool {
    const CLOSE: Duration = Duration::from_secs(3);
    let close = a.timeout.abs_diff(b.timeout) < CLOSE;
    close && *a == ConnSnapshot { timeout: a.timeout, ..*b }
}

pub struct Rig {
    pub path: KernelPath,
    pub came: End,
    pub sender: End,
    pub out: End,
    pub far: End,
    pub clock: Box<dyn Fn() -> Instant>,
    /// What was waited without waiting, in nanoseconds.
    pub waited: Arc<AtomicU64>,
    pub bypass: Arc<Bypass>,
    pub ns: Netns,
}

/// Waits until links are operational.
pub fn wait_running(devices: &[&str]) {
    let mut links = netdev::link::Links::open().unwrap();
    for device in devices {
        eventually(device, PATIENCE, || {
            let link = links.by_name(device)?;
            Ok(link.is_some_and(|l| l.running).then_some(()))
        })
        .unwrap();
    }
}

/// Two devices of the switch and the other ends of both. `None` if the kernel or our rights do not suffice.
pub fn rig(name: &str) -> Option<Rig> {
    let (path, Programs { filter, ingress }) = match KernelPath::new(HashKey([5, 6]), 100) {
        Ok(all) => all,
        Err(e) => {
            testkit::need::absent(&format!("the kernel fast path ({e})")).unwrap();
            return None;
        }
    };
    let ns = Netns::new(name).unwrap();
    enter(&ns);
    for (a, b) in [("p1", "q1"), ("p2", "q2")] {
        ns.ip(&format!("link add {a} type veth peer name {b}")).unwrap();
        ns.ip(&format!("link set {a} up")).unwrap();
        ns.ip(&format!("link set {b} up")).unwrap();
    }
    wait_running(&["p1", "q1", "p2", "q2"]);
    let began = std::time::Instant::now();
    let waited = Arc::new(AtomicU64::new(1_000_000_000));
    let so_far = Arc::clone(&waited);
    let clock =
        move || Instant::from_nanos(so_far.load(Relaxed) + began.elapsed().as_nanos() as u64);
    path.set_clock(&clock);
    path.enable(true);
    path.generation().store(1, Relaxed);
    let bypass = Arc::new(Bypass { filter, ingress });
    let open = |device| End::open(device, Some(Arc::clone(&bypass)));
    let (came, out) = (open("p1"), open("p2"));
    assert_eq!(came.port.state().bypass(), Some(netdev::Way::Device));
    let (sender, far) = (End::open("q1", None), End::open("q2", None));
    Some(Rig { path, came, sender, out, far, clock: Box::new(clock), waited, bypass, ns })
}

/// Where a frame went.
#[derive(Debug, PartialEq, Eq)]
pub enum Went {
    Up(Vec<u8>, Offload),
    Through(Vec<u8>, Offload),
}

impl Rig {
    pub fn ifindex(end: &End) -> u32 {
        end.port.ifindex().unwrap()
    }

    /// Entries for both directions of a connection, all of whose packets come by `p1` and go out by `p2`.
    pub fn serve(&self, tracker: &Tracker, shape: &Shape, max_len: u32) -> [&'static Entry; 2] {
        [Dir::Orig, Dir::Reply].map(|dir| {
            let entry = self.path.entry().unwrap();
            let lent = tracker.table.lookahead(0).unwrap().lend(tracker.of(dir)).unwrap();
            let target = Target::Device(Rig::ifindex(&self.out));
            entry.set(&Terms {
                lent: Some(lent),
                mark_mask: 0,
                varies: (0, 0),
                max_len,
                tag: Retag::Keep,
                target,
            });
            let key = Shape { dir, ..shape.clone() }.key(Rig::ifindex(&self.came));
            self.path.put(&key, entry).unwrap();
            entry.serve(self.path.generation().load(Relaxed));
            entry
        })
    }

    /// It is that much later.
    pub fn wait(&self, time: Duration) {
        self.waited.fetch_add(time.as_nanos() as u64, Relaxed);
        self.path.set_clock(&self.clock);
    }

    pub fn send(&mut self, shape: &Shape) -> Went {
        self.send_packet(&shape.packet())
    }

    pub fn send_packet(&mut self, p: &PacketBuf) -> Went {
        assert_eq!(self.sender.tx.send(&[p]), 1, "{p:?}");
        let mut went = None;
        eventually("the frame", PATIENCE, || {
            if let Some(p) = self.came.get() {
                went = Some(Went::Up(p.frame().to_vec(), p.offload));
            } else if let Some(p) = self.far.get() {
                went = Some(Went::Through(p.frame().to_vec(), p.offload));
            }
            Ok(went.is_some().then_some(()))
        })
        .unwrap();
        went.unwrap()
    }
}
