//! The kernel's program against the tracker: the same packets to both, and all that can be seen of the connections
//! compared after each.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use base::{HashKey, Instant};
use conntrack::{
    ConnFilter, ConnId, ConnSnapshot, CtConfig, CtRequest, Dir, Known, PacketView, Sent, Shards,
};
use datapath::CtTable;
use ebpf::{Entry, KernelPath, Key, Origin, Programs, Target, Terms};
use flow::PacketKey;
use netdev::af_packet::{AfPacket, Options};
use netdev::{Bypass, Port, RxQueue, TxQueue, new_batch};
use packet::header::{ethertype, ipproto, tcp_flag};
use packet::{GsoType, Offload, PacketBuf, checksum};
use testkit::netns::Netns;
use testkit::process::eventually;

const PATIENCE: Duration = Duration::from_secs(5);
const MACS: [[u8; 6]; 2] = [[2, 0xab, 0, 0, 0, 1], [2, 0xab, 0, 0, 0, 2]];
const SYN: u8 = tcp_flag::SYN as u8;
const ACK: u8 = tcp_flag::ACK as u8;

/// Moves the calling thread into a namespace.
fn enter(ns: &Netns) {
    let file = File::open(format!("/proc/{}/ns/net", ns.pid())).unwrap();
    #[allow(unsafe_code)] // std has no setns
    // SAFETY: a descriptor and a flag; changes only this thread's network namespace.
    let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
}

/// A device with its halves.
struct End {
    port: AfPacket,
    rx: Box<dyn RxQueue>,
    tx: Box<dyn TxQueue>,
}

impl End {
    fn open(device: &str, bypass: Option<Arc<Bypass>>) -> End {
        let exclusive =
            if bypass.is_some() { Options::default().exclusive } else { Default::default() };
        let options = Options { exclusive, bypass, ..Options::default() };
        let mut port = AfPacket::open(device, options).unwrap();
        let (rx, tx) = (port.take_rx().unwrap(), port.open_tx().unwrap());
        End { port, rx, tx }
    }

    /// A frame of one of our machines, if one is there.
    fn get(&mut self) -> Option<PacketBuf> {
        let mut bufs = new_batch();
        let got = self.rx.recv(&mut bufs[..1]);
        let is_ours = |p: &PacketBuf| MACS.iter().any(|m| p.frame()[6..12] == *m);
        (got.n == 1 && is_ours(&bufs[0])).then(|| bufs.swap_remove(0))
    }
}

/// Which sum a packet has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Sum {
    Partial,
    /// The same in a packet that nobody said so of.
    Pretended,
    Whole,
    Wrong,
    Zero,
}

/// One end of a conversation to the other.
#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    proto: u8,
    dir: Dir,
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    payload: usize,
    sum: Sum,
    tos: u8,
    ttl: u8,
    tci: Option<u16>,
    /// A SYN's offer.
    wscale: Option<u8>,
    /// What is wrong with the IP header, if anything.
    odd: Odd,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Odd {
    No,
    Fragment,
    HeaderSum,
    Options,
    /// The packet says that it is longer than its frame.
    TooLong,
    /// The frame is longer.
    Padded,
    /// TCP's header is said to be as long as can be; UDP's length is shorter than the packet's.
    Transport,
}

const ADDRESSES: [[u8; 16]; 2] = [
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2],
];
const PORTS: [u16; 2] = [4001, 80];

impl Shape {
    fn new(v6: bool, proto: u8, dir: Dir) -> Shape {
        let (seq, ack, window, flags, payload) = (0, 0, 1000, ACK, 10);
        let (sum, tos, ttl, tci, odd) = (Sum::Whole, 0, 64, None, Odd::No);
        let wscale = None;
        Shape { v6, proto, dir, seq, ack, window, flags, payload, sum, tos, ttl, tci, wscale, odd }
    }

    fn l4(&self) -> (Vec<u8>, usize) {
        let [from, to] = match self.dir {
            Dir::Orig => [PORTS[0], PORTS[1]],
            Dir::Reply => [PORTS[1], PORTS[0]],
        };
        let mut l4 = Vec::new();
        let at = match self.proto {
            ipproto::TCP => {
                l4.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                l4.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
                let offset = match (self.odd, self.wscale) {
                    (Odd::Transport, _) => 0xf0,
                    (_, Some(_)) => 0x60,
                    _ => 0x50,
                };
                l4.extend([offset, self.flags]);
                l4.extend(self.window.to_be_bytes());
                l4.extend([0; 4]);
                l4.extend(self.wscale.into_iter().flat_map(|shift| [3, 3, shift, 0]));
                16
            }
            ipproto::UDP => {
                l4.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                let short = u16::from(self.odd == Odd::Transport && self.payload > 0);
                l4.extend((8 + self.payload as u16 - short).to_be_bytes());
                l4.extend([0; 2]);
                6
            }
            _ => {
                let types = if self.v6 { [128, 129] } else { [8, 0] };
                l4.extend([types[self.dir as usize], 0, 0, 0, 0x12, 0x34, 0, self.seq as u8]);
                2
            }
        };
        l4.extend((0..self.payload).map(|i| (i as u8).wrapping_mul(7)));
        (l4, at)
    }

    /// The frame.
    fn packet(&self) -> PacketBuf {
        let (src, dst) = (self.dir as usize, self.dir.flip() as usize);
        let (mut l4, at) = self.l4();
        let mut f = [MACS[dst], MACS[src]].concat();
        if let Some(tci) = self.tci {
            f.extend(ethertype::VLAN.to_be_bytes());
            f.extend(tci.to_be_bytes());
        }
        let more = if self.odd == Odd::TooLong { 9 } else { 0 };
        let pseudo = if self.v6 {
            f.extend(ethertype::IPV6.to_be_bytes());
            f.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
            f.extend((l4.len() as u16 + more).to_be_bytes());
            f.extend([self.proto, self.ttl]);
            f.extend([ADDRESSES[src], ADDRESSES[dst]].concat());
            let len = l4.len() as u32;
            checksum::pseudo_v6(&ADDRESSES[src], &ADDRESSES[dst], self.proto, len)
        } else {
            f.extend(ethertype::IPV4.to_be_bytes());
            let options: &[u8] = if self.odd == Odd::Options { &[1; 4] } else { &[] };
            let mut ip = vec![0x45 + options.len() as u8 / 4, self.tos];
            ip.extend((20 + options.len() as u16 + l4.len() as u16 + more).to_be_bytes());
            ip.extend([0, 1, if self.odd == Odd::Fragment { 0x20 } else { 0x40 }, 0]);
            ip.extend([self.ttl, self.proto, 0, 0]);
            ip.extend([&ADDRESSES[src][12..], &ADDRESSES[dst][12..], options].concat());
            let sum = checksum::checksum(&ip) ^ u16::from(self.odd == Odd::HeaderSum);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            f.extend(&ip);
            let [a, b] = [src, dst].map(|i| ADDRESSES[i]);
            let word = |a: [u8; 16]| u32::from_be_bytes([a[12], a[13], a[14], a[15]]);
            match self.proto {
                ipproto::ICMP => 0,
                proto => checksum::pseudo_v4(word(a), word(b), proto, l4.len() as u32),
            }
        };
        let sum = match self.sum {
            Sum::Zero => 0,
            Sum::Partial | Sum::Pretended => checksum::fold(pseudo),
            Sum::Whole => checksum::finish(checksum::add(pseudo, &l4)),
            Sum::Wrong => checksum::finish(checksum::add(pseudo, &l4)) ^ 0x101,
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let start = f.len();
        f.extend(&l4);
        if self.odd == Odd::Padded {
            f.extend([0xee; 5]);
        }
        let mut p = PacketBuf::from_frame(&f);
        if self.sum == Sum::Partial {
            (p.offload.needs_csum, p.offload.csum_start) = (true, start as u16);
            p.offload.csum_offset = at as u16;
        }
        p
    }

    fn key(&self, ifindex: u32) -> Key {
        let (src, dst) = (self.dir as usize, self.dir.flip() as usize);
        let eth = [MACS[dst], MACS[src]].concat().try_into().unwrap();
        let tci = self.tci.map_or(0, |t| t | Key::TAGGED);
        let origin = Origin { ifindex, eth, tci, proto: self.proto };
        let l4 = self.l4().0;
        let ports = match self.proto {
            ipproto::TCP | ipproto::UDP => [l4[0], l4[1], l4[2], l4[3]],
            _ => [l4[0], l4[1], l4[4], l4[5]],
        };
        let addresses = [ADDRESSES[src], ADDRESSES[dst]];
        match self.v6 {
            true => Key::v6(&origin, &addresses.concat().try_into().unwrap(), ports),
            false => {
                let v4 = [&addresses[0][12..], &addresses[1][12..]].concat();
                Key::v4(&origin, &v4.try_into().unwrap(), ports)
            }
        }
    }
}

/// A tracker and its connection.
struct Tracker {
    table: CtTable,
    conn: Option<ConnId>,
}

impl Tracker {
    fn new(path: Option<&KernelPath>) -> Tracker {
        let memory = path.map(KernelPath::memory);
        Tracker { table: CtTable::new(HashKey([3, 4]), CtConfig::default(), 1, memory), conn: None }
    }

    /// The long way, as packets go that begin a connection.
    fn open(&mut self, now: Instant, shape: &Shape) {
        let mut p = shape.packet();
        let mut key = PacketKey::ZERO;
        flow::extract(&mut p, &mut key);
        let req = CtRequest { commit: true, ..CtRequest::LOOK };
        let info = self.table.process(now, &p, key.dl_type, &req, &mut None);
        assert_eq!(info.invalid, None, "{shape:?}");
        self.conn = info.conn.or(self.conn);
    }

    /// As a worker that knows the connection does; whether it fits.
    fn known(&self, now: Instant, shape: &Shape) -> bool {
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

    fn of(&self, dir: Dir) -> Known {
        Known { conn: self.conn.unwrap(), dir, translated: false }
    }

    fn snapshot(&self) -> Option<ConnSnapshot> {
        let (mut all, now) = (Vec::new(), Instant::ZERO);
        self.table.dump(now, &ConnFilter::default(), |c| all.push(*c));
        all.pop()
    }
}

/// Whether both saw the same, as far as the clock lets them.
fn alike(a: &ConnSnapshot, b: &ConnSnapshot) -> bool {
    const CLOSE: Duration = Duration::from_secs(3);
    let close = a.timeout.abs_diff(b.timeout) < CLOSE;
    close && *a == ConnSnapshot { timeout: a.timeout, ..*b }
}

struct Rig {
    path: KernelPath,
    came: End,
    sender: End,
    out: End,
    far: End,
    clock: Box<dyn Fn() -> Instant>,
    bypass: Arc<Bypass>,
    ns: Netns,
}

/// Waits until links are operational.
fn wait_running(devices: &[&str]) {
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
fn rig(name: &str) -> Option<Rig> {
    let (path, Programs { filter, ingress }) = match KernelPath::new(100) {
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
    let clock = move || Instant::from_nanos(1_000_000_000 + began.elapsed().as_nanos() as u64);
    path.set_clock(clock);
    path.enable(true);
    path.generation().store(1, std::sync::atomic::Ordering::Relaxed);
    let bypass = Arc::new(Bypass { filter, ingress });
    let open = |device| End::open(device, Some(Arc::clone(&bypass)));
    let (came, out) = (open("p1"), open("p2"));
    assert_eq!(came.port.state().bypass(), Some(netdev::Way::Device));
    let (sender, far) = (End::open("q1", None), End::open("q2", None));
    Some(Rig { path, came, sender, out, far, clock: Box::new(clock), bypass, ns })
}

/// Where a frame went.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    Up(Vec<u8>, Offload),
    Through(Vec<u8>, Offload),
}

impl Rig {
    fn ifindex(end: &End) -> u32 {
        end.port.ifindex().unwrap()
    }

    /// Entries for both directions of a connection, all of whose packets come by `p1` and go out by `p2`.
    fn serve(&self, tracker: &Tracker, shape: &Shape, max_len: u32) -> [&'static Entry; 2] {
        [Dir::Orig, Dir::Reply].map(|dir| {
            let entry = self.path.entry().unwrap();
            let lent = tracker.table.lookahead(0).unwrap().lend(tracker.of(dir)).unwrap();
            let target = Target::Device(Rig::ifindex(&self.out));
            entry.set(&Terms { lent, mark_mask: 0, varies: (0, 0), max_len, target });
            let key = Shape { dir, ..shape.clone() }.key(Rig::ifindex(&self.came));
            self.path.put(&key, entry).unwrap();
            entry.serve(self.path.generation().load(std::sync::atomic::Ordering::Relaxed));
            entry
        })
    }

    fn send(&mut self, shape: &Shape) -> Went {
        self.send_packet(&shape.packet())
    }

    fn send_packet(&mut self, p: &PacketBuf) -> Went {
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

/// Numbers that look random; `seed` makes them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }

    /// Around a number, or far from it.
    fn near(&mut self, n: u32, by: u32) -> u32 {
        let off = self.of(&[0, 0, 0, 1, u32::MAX, 100, by, by.wrapping_neg(), by + 1, 1 << 31]);
        n.wrapping_add(off)
    }
}

/// Brings a connection of both trackers to where entries can be made.
fn converse(trackers: &mut [Tracker; 2], now: Instant, shape: &Shape, wscale: [Option<u8>; 2]) {
    let say = |trackers: &mut [Tracker; 2], dir, seq, ack, flags| {
        let wscale = wscale[dir as usize].filter(|_| flags & SYN != 0);
        let s =
            Shape { dir, seq, ack, flags, wscale, payload: 0, sum: Sum::Whole, ..shape.clone() };
        trackers.iter_mut().for_each(|t| t.open(now, &s));
    };
    if shape.proto == ipproto::TCP {
        say(trackers, Dir::Orig, 1000, 0, SYN);
        say(trackers, Dir::Reply, 5000, 1001, SYN | ACK);
        say(trackers, Dir::Orig, 1001, 5001, ACK);
        say(trackers, Dir::Reply, 5001, 1001, ACK);
    } else {
        say(trackers, Dir::Orig, 1, 0, 0);
        say(trackers, Dir::Reply, 1, 0, 0);
        say(trackers, Dir::Orig, 1, 0, 0);
    }
}

/// What the tracker takes and the program leaves to workers.
fn is_left_to_workers(s: &Shape, max_len: usize) -> bool {
    let l4 = s.l4().0.len();
    s.sum != Sum::Partial && s.sum != Sum::Zero && l4 > 64
        || s.odd == Odd::Transport && s.proto == ipproto::UDP && s.payload > 0
        || s.packet().len() > max_len
        || s.proto == ipproto::TCP && s.flags & (SYN | 1 | 4) != 0
        // Not plain.
        || matches!(s.odd, Odd::Fragment | Odd::Options | Odd::TooLong | Odd::HeaderSum)
}

#[test]
fn the_program_does_what_the_tracker_does() {
    let Some(mut rig) = rig("kp-diff") else { return };
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    let mut dice = Dice(seed);
    let mut n_through = 0;
    for round in 0..40 {
        let protos =
            [ipproto::TCP, ipproto::TCP, ipproto::UDP, if round % 2 == 0 { 1 } else { 58 }];
        let mut base = Shape::new(round % 2 == 1, dice.of(&protos), Dir::Orig);
        base.tci = dice.of(&[None, None, Some(7)]);
        let max_len = dice.of(&[1514, 1514, 90]);
        let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
        let wscale = [dice.of(&[None, Some(7)]), dice.of(&[None, Some(2)])];
        converse(&mut trackers, (rig.clock)(), &base, wscale);
        let entries = rig.serve(&trackers[0], &base, max_len as u32);
        for _ in 0..60 {
            let dir = dice.of(&[Dir::Orig, Dir::Reply]);
            let tcp = trackers[1].snapshot().and_then(|s| s.tcp);
            let before = trackers.each_ref().map(Tracker::snapshot);
            let (wide, narrow) = (67035 << dice.of(&[0, 0, 2, 7]), 1000 << dice.of(&[0, 7]));
            let (seq, ack) = match dir {
                Dir::Orig => (dice.near(1001, 1000), dice.near(5001, wide)),
                Dir::Reply => (dice.near(5001, narrow), dice.near(1001, 67035)),
            };
            let shape = Shape {
                dir,
                seq,
                ack,
                window: dice.of(&[0, 1, 1000, 65535]),
                flags: dice.of(&[ACK, ACK, ACK, ACK | 8, ACK | 8, ACK | 0x20, ACK | 0xc0, 0, 8]),
                payload: dice.of(&[0, 0, 1, 10, 40, 44, 45, 56, 57, 400]),
                sum: dice.of(&[
                    Sum::Whole,
                    Sum::Whole,
                    Sum::Partial,
                    Sum::Partial,
                    Sum::Wrong,
                    Sum::Pretended,
                    Sum::Zero,
                ]),
                tos: dice.of(&[0, 2, 0xb8]),
                ttl: dice.of(&[64, 1, 255]),
                odd: dice.of(&[
                    Odd::No,
                    Odd::No,
                    Odd::No,
                    Odd::No,
                    Odd::Padded,
                    Odd::Fragment,
                    Odd::HeaderSum,
                    Odd::Options,
                    Odd::TooLong,
                    Odd::Transport,
                ]),
                ..base.clone()
            };
            let said = || format!("seed {seed}: {shape:?} after {before:?} ({tcp:?})");
            // What is not of IPv6, and sums that ICMP has not: no pseudo header, none at all.
            let is_echo = ![ipproto::TCP, ipproto::UDP].contains(&shape.proto);
            let is_no_shape = shape.v6
                && matches!(shape.odd, Odd::Fragment | Odd::HeaderSum | Odd::Options)
                || is_echo
                    && (matches!(shape.sum, Sum::Partial | Sum::Pretended | Sum::Zero)
                        || shape.odd == Odd::Transport)
                || shape.proto == ipproto::TCP && shape.sum == Sum::Zero;
            if is_no_shape {
                continue;
            }
            let plain = !matches!(shape.odd, Odd::Fragment | Odd::Options | Odd::TooLong);
            let now = (rig.clock)();
            let counted = entries.map(Entry::counted);
            let fits = plain && trackers[1].known(now, &shape);
            entries.iter().for_each(|e| e.serve(1));
            let went = rig.send(&shape);
            let frame = shape.packet();
            let is_through = fits && !is_left_to_workers(&shape, max_len);
            match &went {
                Went::Through(f, offload) => {
                    assert!(is_through, "forwarded: {}", said());
                    assert_eq!(f, frame.frame(), "{}", said());
                    assert_eq!(offload.needs_csum, frame.offload.needs_csum, "{}", said());
                    let after = entries[dir as usize].counted();
                    let old = counted[dir as usize];
                    assert_eq!(after.packets, old.packets + 1, "{}", said());
                    assert_eq!(after.bytes, old.bytes + frame.len() as u64, "{}", said());
                    n_through += 1;
                }
                Went::Up(f, _) => {
                    assert!(!is_through, "left to workers: {}", said());
                    assert_eq!(f, frame.frame(), "{}", said());
                    assert_eq!(entries.map(Entry::counted), counted, "{}", said());
                    let untouched = trackers[0].snapshot().zip(before[0]);
                    assert!(untouched.is_some_and(|(a, b)| alike(&a, &b)), "{}", said());
                    // The worker that gets it does this.
                    assert_eq!(plain && trackers[0].known(now, &shape), fits, "{}", said());
                }
            }
            let [ours, twin] = trackers.each_ref().map(|t| t.snapshot().unwrap());
            let twin = ConnSnapshot { id: ours.id, start: ours.start, ..twin };
            assert!(alike(&ours, &twin), "{ours:?}\n{twin:?}\n{}", said());
        }
        for (entry, dir) in entries.iter().zip([Dir::Orig, Dir::Reply]) {
            entry.retire();
            rig.path.take(&Shape { dir, ..base.clone() }.key(Rig::ifindex(&rig.came)));
        }
    }
    assert!(n_through > 200, "{n_through} packets stayed in the kernel; seed {seed}");
}

/// Everything that makes an entry wrong stops it at the next packet.
#[test]
fn an_entry_serves_only_while_all_is_as_it_was() {
    use std::sync::atomic::Ordering::Relaxed;
    let Some(mut rig) = rig("kp-stops") else { return };
    let shape = Shape { payload: 0, seq: 1, ..Shape::new(false, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2]);
    let [entry, _] = rig.serve(&trackers[0], &shape, 1514);
    let served = std::cell::Cell::new(1);
    let passes = |rig: &mut Rig| {
        entry.serve(served.get());
        matches!(rig.send(&shape), Went::Through(..))
    };
    assert!(passes(&mut rig));
    rig.path.enable(false);
    assert!(!passes(&mut rig));
    rig.path.enable(true);
    assert!(passes(&mut rig));
    rig.path.generation().store(2, Relaxed);
    assert!(!passes(&mut rig));
    served.set(2);
    assert!(passes(&mut rig));
    // A packet of another TTL, where that counts.
    let known = trackers[0].of(Dir::Orig);
    let lent = trackers[0].table.lookahead(0).unwrap().lend(known).unwrap();
    let target = Target::Device(Rig::ifindex(&rig.out));
    let terms = Terms { lent, mark_mask: 0, varies: (0xff << 16, 63 << 16), max_len: 1514, target };
    entry.set(&terms);
    assert!(!passes(&mut rig));
    entry.set(&Terms { varies: (0xff << 16, 64 << 16), ..terms });
    assert!(passes(&mut rig));
    // A mark that a flow looks at, and that changes.
    entry.set(&Terms { mark_mask: 0xff, ..terms });
    entry.set(&Terms { mark_mask: 0xff, varies: (0, 0), ..terms });
    assert!(passes(&mut rig));
    let req = CtRequest { commit: true, mark: Some((5, 0xff)), ..CtRequest::LOOK };
    let mut p = shape.packet();
    let mut key = PacketKey::ZERO;
    flow::extract(&mut p, &mut key);
    trackers[0].table.process((rig.clock)(), &p, key.dl_type, &req, &mut None);
    assert!(!passes(&mut rig));
    entry.set(&Terms { varies: (0, 0), ..terms });
    assert!(passes(&mut rig));
    // Somebody wants to hear of events.
    trackers[0].table.set_events(10);
    assert!(!passes(&mut rig));
    trackers[0].table.set_events(0);
    assert!(passes(&mut rig));
    // The connection is gone, and another has its place.
    assert_eq!(trackers[0].table.delete((rig.clock)(), &ConnFilter::default()), 1);
    assert!(!passes(&mut rig));
    let old = trackers[0].conn.unwrap();
    let [ours, _] = &mut trackers;
    for dir in [Dir::Orig, Dir::Reply, Dir::Orig] {
        ours.open((rig.clock)(), &Shape { dir, ..shape.clone() });
    }
    assert_ne!(ours.conn.unwrap(), old);
    assert!(!passes(&mut rig));
    rig.serve(ours, &shape, 1514);
    assert!(matches!(rig.send(&Shape { dir: Dir::Reply, ..shape.clone() }), Went::Through(..)));
}

/// Who asks for the time may have to wait; that does not make it another time.
#[test]
fn time_is_told_apart_from_waiting() {
    let Ok((path, _)) = KernelPath::new(1) else { return };
    let began = std::time::Instant::now();
    let clock = || Instant::from_nanos(5_000_000_000 + began.elapsed().as_nanos() as u64);
    path.set_clock(clock);
    let wait = || std::thread::sleep(Duration::from_millis(150));
    let later = |seconds| clock() + Duration::from_secs(seconds);
    assert!(path.is_in_time(clock));
    assert!(!path.is_in_time(|| later(1)));
    let waits = || {
        wait();
        let now = clock();
        wait();
        now
    };
    assert!(path.is_in_time(waits));
    assert!(!path.is_in_time(|| waits() + Duration::from_secs(1)));
}

/// A packet that the sender's device would have cut goes on as it is, if what it is to be cut to is short enough.
#[test]
fn large_segments_go_out_whole() {
    let Some(mut rig) = rig("kp-large") else { return };
    let base = Shape { seq: 1001, ack: 5001, ..Shape::new(false, ipproto::TCP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &base, [Some(7); 2]);
    let [orig, _] = rig.serve(&trackers[0], &base, 200);
    let shape = Shape { payload: 900, sum: Sum::Partial, ..base };
    assert!(matches!(rig.send(&shape), Went::Up(..)), "longer than a frame may be");
    orig.serve(1);
    let mut p = shape.packet();
    (p.offload.gso_type, p.offload.gso_size, p.offload.hdr_len) = (GsoType::TcpV4, 100, 54);
    let Went::Through(frame, offload) = rig.send_packet(&p) else { panic!("it went up") };
    assert_eq!(frame, p.frame());
    assert_eq!((offload.gso_type, offload.gso_size), (GsoType::TcpV4, 100));
    // Cut to frames that are too long for the way out: a worker cuts it shorter.
    for (size, goes_out) in [(146, true), (147, false)] {
        p.offload.gso_size = size;
        let went = rig.send_packet(&p);
        assert_eq!(matches!(went, Went::Through(..)), goes_out, "{size}");
    }
}

#[test]
fn packets_arrive_at_the_other_end_in_another_namespace() {
    let Some(mut rig) = rig("kp-peer") else { return };
    let other = rig.ns.sibling("other").unwrap();
    rig.ns.ip(&format!("link add p3 type veth peer name eth0 netns {}", other.pid())).unwrap();
    rig.ns.ip("link set p3 up").unwrap();
    other.ip("link set eth0 up").unwrap();
    enter(&other);
    wait_running(&["eth0"]);
    rig.far = End::open("eth0", None);
    enter(&rig.ns);
    let p3 = End::open("p3", Some(Arc::clone(&rig.bypass)));
    assert_eq!(p3.port.state().bypass(), Some(netdev::Way::Peer));
    let shape = Shape { payload: 20, seq: 1, ..Shape::new(true, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2]);
    for entry in rig.serve(&trackers[0], &shape, 1514) {
        entry.lead(Target::Peer(Rig::ifindex(&p3)), 1514);
        assert!(!entry.leads_out());
    }
    for dir in [Dir::Orig, Dir::Reply] {
        for sum in [Sum::Whole, Sum::Partial] {
            let shape = Shape { dir, sum, ..shape.clone() };
            assert!(matches!(rig.send(&shape), Went::Through(..)), "{shape:?}");
        }
    }
}

/// A packet that a worker gets is not overtaken by those behind it.
#[test]
fn what_follows_a_packet_that_went_up_goes_up_too() {
    let Some(mut rig) = rig("kp-order") else { return };
    let short = Shape { seq: 1001, ack: 5001, ..Shape::new(false, ipproto::TCP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &short, [Some(7); 2]);
    let [orig, reply] = rig.serve(&trackers[0], &short, 1514);
    // Too long to be summed; the end of the connection; a number of another one.
    let long = Shape { payload: 400, ..short.clone() };
    let last = Shape { flags: ACK | tcp_flag::FIN as u8, ..short.clone() };
    let stray = Shape { seq: 1 << 31, ..short.clone() };
    for first in [long, last, stray] {
        assert!(matches!(rig.send(&short), Went::Through(..)));
        assert!(matches!(rig.send(&first), Went::Up(..)), "{first:?}");
        assert_eq!((orig.serves(), reply.serves()), (0, 1));
        assert!(matches!(rig.send(&short), Went::Up(..)), "after {first:?}");
        orig.serve(1);
    }
    assert!(matches!(rig.send(&short), Went::Through(..)));
}

/// What was taken has one copy, and what was not has one, too.
#[test]
fn no_packet_goes_both_ways() {
    let Some(mut rig) = rig("kp-once") else { return };
    let shape = Shape { payload: 20, seq: 1, ..Shape::new(false, ipproto::UDP, Dir::Orig) };
    let mut trackers = [Tracker::new(Some(&rig.path)), Tracker::new(None)];
    converse(&mut trackers, (rig.clock)(), &shape, [None; 2]);
    let [entry, _] = rig.serve(&trackers[0], &shape, 1514);
    for i in 0..100 {
        if i % 3 == 0 {
            entry.retire()
        } else {
            entry.serve(1)
        };
        assert_eq!(matches!(rig.send(&shape), Went::Through(..)), i % 3 != 0);
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(rig.far.get().is_none() && rig.came.get().is_none());
    // What leaves by the device does not come back.
    assert_eq!(rig.came.tx.send(&[&shape.packet()]), 1);
    eventually("it arrives", PATIENCE, || Ok(rig.sender.get())).unwrap();
    assert!(rig.came.get().is_none() && rig.far.get().is_none());
}
