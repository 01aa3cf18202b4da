//! Workers' threads with queues that fail, block, or bring anything at all.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};

use base::{DpPort, Instant, RecircId};
use common::{Net, Policy, out, udp};
use datapath::{Config, Cpu, Datapath, Event};
use dpif::{DpAction, HashAlg, SetGroup, SetMasked};
use flow::PacketKey;
use netdev::dummy::Dummy;
use netdev::{Port, PortState, Received, RxQueue, TxQueue};
use packet::{GsoType, Offload, PacketBuf};
use proptest::prelude::*;

/// A port that receives by a given queue and sends like a dummy.
#[derive(Debug)]
struct Custom {
    rx: Option<Box<dyn RxQueue>>,
    dummy: Dummy,
}

impl Custom {
    fn new(rx: impl RxQueue + 'static) -> Custom {
        Custom { rx: Some(Box::new(rx)), dummy: Dummy::new("custom", 0).0 }
    }
}

impl Port for Custom {
    fn name(&self) -> &str {
        "custom"
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn state(&self) -> &Arc<PortState> {
        self.dummy.state()
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        self.rx.take()
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, netdev::Error> {
        self.dummy.open_tx()
    }
}

/// Readable for ever, and nothing to read.
#[derive(Debug)]
struct Stuck {
    fd: UnixStream,
    _other: UnixStream,
}

impl Stuck {
    fn new() -> Stuck {
        let (fd, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"x").unwrap();
        Stuck { fd, _other: other }
    }
}

impl RxQueue for Stuck {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn recv(&mut self, _: &mut [PacketBuf]) -> Received {
        Received::default()
    }
}

/// The device is gone.
#[derive(Debug)]
struct Gone;

impl RxQueue for Gone {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn recv(&mut self, _: &mut [PacketBuf]) -> Received {
        Received { n: 0, more: false, gone: true }
    }
}

/// One byte on a socket is one packet to that UDP port.
#[derive(Debug)]
struct Bytes(UnixStream);

impl Bytes {
    fn new() -> (Bytes, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        (Bytes(a), b)
    }
}

impl RxQueue for Bytes {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let mut bytes = vec![0; bufs.len()];
        let n = self.0.read(&mut bytes).unwrap_or(0);
        for (b, port) in bufs.iter_mut().zip(&bytes[..n]) {
            b.copy_from(&udp([10, 0, 0, 1], [10, 0, 0, 2], 9, u16::from(*port), &[*port]));
        }
        Received { n, more: n == bytes.len(), gone: false }
    }
}

/// Sends the last byte of each packet to a channel.
#[derive(Debug)]
struct Tell(std::sync::mpsc::Sender<u8>);

impl TxQueue for Tell {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        for p in pkts {
            let _ = self.0.send(*p.frame().last().unwrap());
        }
        pkts.len()
    }
}

#[derive(Debug)]
struct Sink {
    dummy: Dummy,
    to: std::sync::mpsc::Sender<u8>,
}

impl Port for Sink {
    fn name(&self) -> &str {
        "sink"
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn state(&self) -> &Arc<PortState> {
        self.dummy.state()
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        None
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, netdev::Error> {
        Ok(Box::new(Tell(self.to.clone())))
    }
}

fn datapath(n_threads: usize, policy: Policy) -> (Datapath, Receiver<Event>) {
    with_clock(n_threads, policy, Arc::new(|| Instant::from_secs(1)))
}

fn with_clock(
    n_threads: usize,
    policy: Policy,
    clock: datapath::Clock,
) -> (Datapath, Receiver<Event>) {
    let (sender, events) = channel();
    let config = Config { n_threads, ..Config::default() };
    let sink: datapath::EventSink = Arc::new(move |e| {
        let _ = sender.send(e);
    });
    (Datapath::new(&config, Arc::new(policy), clock, sink).unwrap(), events)
}

fn with_sink(dp: &Datapath, number: u32) -> Receiver<u8> {
    let (to, from) = channel();
    dp.add_port(DpPort(number), &mut Sink { dummy: Dummy::new("sink", 0).0, to }).unwrap();
    from
}

#[test]
fn a_device_that_vanishes_is_reported_once() {
    let (dp, events) = datapath(0, Policy::new(|_| (PacketKey::ZERO, vec![])));
    dp.add_port(DpPort(4), &mut Custom::new(Gone)).unwrap();
    (0..3).for_each(|_| assert_eq!(dp.poll(Instant::ZERO), 0));
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [Event::PortFailed(DpPort(4))]);
    assert!(dp.has_failed(DpPort(4)));
    assert!(dp.remove_port(DpPort(4)));
    // Another one with its number has not failed.
    with_sink(&dp, 4);
    assert!(!dp.has_failed(DpPort(4)));
}

#[test]
fn a_queue_that_is_always_readable_does_not_keep_a_worker_busy() {
    let (dp, events) = datapath(1, Policy::new(|_| (PacketKey::ZERO, vec![out(2)])));
    dp.add_port(DpPort(1), &mut Custom::new(Stuck::new())).unwrap();
    assert_eq!(events.recv().unwrap(), Event::PortFailed(DpPort(1)));
    // The others go on.
    let sink = with_sink(&dp, 2);
    let (rx, mut wire) = Bytes::new();
    dp.add_port(DpPort(3), &mut Custom::new(rx)).unwrap();
    wire.write_all(&[7]).unwrap();
    assert_eq!(sink.recv().unwrap(), 7);
    assert!(dp.remove_port(DpPort(1)) && dp.remove_port(DpPort(3)));
}

#[test]
fn each_worker_sleeps_or_not_as_it_is_told() {
    let (dp, _events) = datapath(2, Policy::new(|_| (PacketKey::ZERO, vec![out(9)])));
    let sink = with_sink(&dp, 9);
    let mut wires: Vec<_> = (1..=2).map(|n| (DpPort(n), Bytes::new())).collect();
    let mut by_worker = std::collections::BTreeMap::new();
    for (port, (rx, wire)) in wires.drain(..) {
        dp.add_port(port, &mut Custom::new(rx)).unwrap();
        let queues = dp.queues();
        by_worker.insert(queues.iter().find(|q| q.port == port).unwrap().worker, wire);
    }
    let mut pass = |worker: usize, n: usize| {
        for _ in 0..n {
            by_worker.get_mut(&worker).unwrap().write_all(&[1]).unwrap();
            assert_eq!(sink.recv().unwrap(), 1);
        }
    };
    let slept = |worker: usize| dp.worker_stats(worker).sleeps;
    for sleepless in [1, 2] {
        dp.set_spin(3 - sleepless, std::time::Duration::ZERO);
        dp.set_spin(sleepless, std::time::Duration::MAX);
        // With the second packet the sleep before the first is counted.
        [1, 2].into_iter().for_each(|worker| pass(worker, 2));
        let before = [slept(sleepless), slept(3 - sleepless)];
        [1, 2].into_iter().for_each(|worker| pass(worker, 100));
        assert_eq!(slept(sleepless), before[0]);
        assert!(slept(3 - sleepless) > before[1]);
    }
}

#[test]
fn a_sleeping_worker_wakes_for_packets_and_commands() {
    let (dp, _events) = datapath(2, Policy::new(|_| (PacketKey::ZERO, vec![out(9)])));
    dp.workers().iter().for_each(|w| dp.set_spin(w.number, std::time::Duration::ZERO));
    let sink = with_sink(&dp, 9);
    let mut wires = Vec::new();
    for n in 1..=4 {
        let (rx, wire) = Bytes::new();
        dp.add_port(DpPort(n), &mut Custom::new(rx)).unwrap();
        wires.push(wire);
    }
    let workers: Vec<usize> = dp.queues().iter().map(|q| q.worker).collect();
    assert_eq!(workers.iter().filter(|w| **w == 1).count(), 2, "spread over the workers");
    for i in 0..100u8 {
        wires[usize::from(i) % 4].write_all(&[i]).unwrap();
        assert_eq!(sink.recv().unwrap(), i);
    }
    // One flow for each worker's port; all of it in the statistics of one.
    let s = dp.stats();
    assert_eq!((s.packets, s.missed, s.hits()), (100, 4, 96));
    assert_eq!(dp.flows().iter().map(|f| f.stats().n_packets).sum::<u64>(), 96);
}

/// [`Bytes`] that are seen to be there without a system call.
#[derive(Debug)]
struct Seen {
    queue: Bytes,
    waiting: Arc<AtomicI64>,
}

impl RxQueue for Seen {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.queue.fd()
    }

    fn is_ready(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let got = self.queue.recv(bufs);
        self.waiting.fetch_sub(got.n as i64, Relaxed);
        got
    }
}

#[test]
fn more_busy_queues_than_are_set_aside_are_all_served_between_sleeps() {
    const N: u8 = 12;
    let (dp, _events) = datapath(1, Policy::new(|_| (PacketKey::ZERO, vec![out(90)])));
    let sink = with_sink(&dp, 90);
    let add = |n: u8| {
        let (queue, wire) = Bytes::new();
        let waiting = Arc::default();
        let seen = Seen { queue, waiting: Arc::clone(&waiting) };
        dp.add_port(DpPort(n.into()), &mut Custom::new(seen)).unwrap();
        (wire, waiting)
    };
    let mut wires: Vec<_> = (1..=N).map(add).collect();
    for round in 0..4_000 {
        if round == 2_000 {
            // Queues that are set aside, or not, go; others take their places.
            for n in 1..=6 {
                assert!(dp.remove_port(DpPort(n.into())));
                wires[usize::from(n) - 1] = add(n);
            }
        }
        let spin = if round % 200 < 100 { 50 } else { 0 };
        if round % 100 == 0 {
            dp.set_spin(1, std::time::Duration::from_micros(spin));
        }
        for (wire, waiting) in &mut wires {
            wire.write_all(&[1]).unwrap();
            waiting.fetch_add(1, Relaxed);
        }
        for _ in 0..N {
            sink.recv_timeout(std::time::Duration::from_secs(20)).expect("a packet in each round");
        }
    }
    assert_eq!(dp.stats().packets, 4_000 * u64::from(N));
    assert_eq!(dp.queues().len(), N.into());
}

/// Bytes come in order and without a gap, so many.
fn check_order(from: &Receiver<u8>, n: usize) {
    for i in 0..n {
        let got = from.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(got, i as u8, "of {i}");
    }
}

#[test]
fn a_queue_that_moves_loses_nothing_and_keeps_its_order() {
    const N: usize = 30_000;
    let (dp, _events) = datapath(2, Policy::new(|_| (common::five_tuple_mask(), vec![out(9)])));
    let sink = with_sink(&dp, 9);
    let (rx, mut wire) = Bytes::new();
    dp.add_port(DpPort(1), &mut Custom::new(rx)).unwrap();
    let sender = std::thread::spawn(move || {
        (0..N).for_each(|i| wire.write_all(&[i as u8]).unwrap());
        wire
    });
    let checker = std::thread::spawn(move || check_order(&sink, N));
    let mut n_moves = 0;
    while !checker.is_finished() {
        n_moves += 1;
        assert!(dp.place(DpPort(1), 0, 1 + n_moves % 2));
        std::thread::yield_now();
    }
    checker.join().unwrap();
    drop(sender.join().unwrap());
    assert!(n_moves > 10, "{n_moves}");
    assert_eq!(dp.stats().packets, N as u64);
    assert!([1, 2].iter().all(|w| dp.worker_stats(*w).packets > 0));
    // Neither a queue nor a worker that there is not.
    assert!(!dp.place(DpPort(1), 1, 1) && !dp.place(DpPort(7), 0, 1) && !dp.place(DpPort(1), 0, 3));
}

#[test]
fn workers_come_and_go_while_packets_flow() {
    const N: usize = 30_000;
    let (dp, _events) = datapath(1, Policy::new(|_| (common::five_tuple_mask(), vec![out(9)])));
    let (to, from) = channel();
    let sink = Sink { dummy: Dummy::new("sink", 0).0, to };
    dp.open_port(DpPort(9), &sink).unwrap();
    let (rx, mut wire) = Bytes::new();
    let mut port = Custom::new(rx);
    dp.add_port(DpPort(1), &mut port).unwrap();
    let sender = std::thread::spawn(move || {
        (0..N).for_each(|i| wire.write_all(&[i as u8]).unwrap());
        wire
    });
    let checker = std::thread::spawn(move || check_order(&from, N));
    let open_tx = |port: DpPort| match port {
        DpPort(9) => sink.open_tx(),
        _ => Err(netdev::Error::gone("custom")),
    };
    let last = *netdev::cpu::available().last().unwrap();
    let mut n = 0;
    while !checker.is_finished() {
        n += 1;
        let wanted = match n % 4 {
            0 => vec![None],
            1 => vec![None, None, None],
            2 => vec![Some(Cpu(last))],
            _ => vec![None, Some(Cpu(last))],
        };
        assert!(dp.set_workers(&wanted, &open_tx).unwrap());
        assert!(!dp.set_workers(&wanted, &open_tx).unwrap());
        let mut cpus: Vec<_> = dp.workers().iter().map(|w| w.cpu).collect();
        cpus.sort();
        assert_eq!(cpus, wanted);
        let owner = dp.queues()[0].worker;
        assert!(dp.workers().iter().any(|w| w.number == owner));
    }
    checker.join().unwrap();
    drop(sender.join().unwrap());
    assert!(n > 4, "{n}");
    dp.push_stats();
    let stats = dp.stats();
    assert_eq!((stats.packets, stats.hits() + stats.missed), (N as u64, N as u64));
    // What cannot be had changes nothing.
    dp.set_workers(&[None], &open_tx).unwrap();
    let refused = dp.set_workers(&[Some(Cpu(9999))], &open_tx).unwrap_err().to_string();
    assert_eq!(refused, "cannot run a datapath thread on processor 9999 (Invalid argument)");
    assert!(matches!(dp.set_workers(&[None; 65], &open_tx), Err(datapath::Error::TooManyWorkers)));
    assert_eq!(dp.workers().len(), 1);
}

/// Frames without end, seen to be there without a system call.
#[derive(Debug)]
struct Flood {
    bell: Stuck,
    batches: Arc<AtomicU64>,
}

impl RxQueue for Flood {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.fd()
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        self.batches.fetch_add(1, Relaxed);
        for b in bufs.iter_mut() {
            b.copy_from(&udp([10, 0, 0, 1], [10, 0, 0, 2], 9, 1, &[1]));
        }
        Received { n: bufs.len(), more: true, gone: false }
    }
}

/// Tells for each batch how many the flood had had.
#[derive(Debug)]
struct Watched {
    queue: Bytes,
    flood: Arc<AtomicU64>,
    to: std::sync::mpsc::Sender<u64>,
}

impl RxQueue for Watched {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.queue.fd()
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let got = self.queue.recv(bufs);
        if got.n > 0 {
            let _ = self.to.send(self.flood.load(Relaxed));
        }
        got
    }
}

#[test]
fn flooding_ports_do_not_starve_another() {
    let (dp, _events) = datapath(1, Policy::new(|_| (PacketKey::ZERO, vec![])));
    let batches = Arc::new(AtomicU64::new(0));
    for n in 1..=3 {
        // One of them counts.
        let batches = if n == 1 { Arc::clone(&batches) } else { Arc::default() };
        let flood = Flood { bell: Stuck::new(), batches };
        dp.add_port(DpPort(n), &mut Custom::new(flood)).unwrap();
    }
    let (queue, mut wire) = Bytes::new();
    let (to, from) = channel();
    let watched = Watched { queue, flood: Arc::clone(&batches), to };
    // Ten full batches wait from the start: each has its turn after at most eight rounds without a look at
    // queues whose frames are not seen in memory.
    wire.write_all(&[1; 320]).unwrap();
    dp.add_port(DpPort(4), &mut Custom::new(watched)).unwrap();
    let seen: Vec<u64> = from.iter().take(10).collect();
    let most = seen.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    assert!(most <= 9, "{seen:?}");
    assert_eq!(dp.queues().len(), 4);
}

/// A flood whose batches take so long, on a clock that stands still otherwise. One tells how many each had.
#[derive(Debug)]
struct Costly {
    flood: Flood,
    is_seen: bool,
    clock: Arc<AtomicU64>,
    ns: u64,
    all: [Arc<AtomicU64>; 4],
    to: Option<std::sync::mpsc::Sender<[u64; 4]>>,
}

impl RxQueue for Costly {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.flood.fd()
    }

    fn is_ready(&self) -> bool {
        self.is_seen
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        self.clock.fetch_add(self.ns, Relaxed);
        if let Some(to) = &self.to {
            let _ = to.send([0, 1, 2, 3].map(|i: usize| self.all[i].load(Relaxed)));
        }
        self.flood.recv(bufs)
    }
}

#[test]
fn ports_that_share_a_worker_get_the_same_time_whatever_their_packets_cost() {
    const COSTS: [u64; 4] = [320_000, 2_000, 5_000, 40_000];
    const N: usize = 50;
    let time = Arc::new(AtomicU64::new(1));
    let clock = Arc::clone(&time);
    let policy = Policy::new(|_| (PacketKey::ZERO, vec![]));
    let (dp, _events) =
        with_clock(1, policy, Arc::new(move || Instant::from_nanos(clock.load(Relaxed))));
    let all: [Arc<AtomicU64>; 4] = Default::default();
    let (to, from) = channel();
    for (i, ns) in COSTS.into_iter().enumerate() {
        let flood = Flood { bell: Stuck::new(), batches: Arc::clone(&all[i]) };
        let to = (i == 0).then(|| to.clone());
        // The last two are found by the poller only.
        let (is_seen, clock, all) = (i < 2, Arc::clone(&time), all.clone());
        let queue = Costly { flood, is_seen, clock, ns, all, to };
        dp.add_port(DpPort(i as u32 + 1), &mut Custom::new(queue)).unwrap();
    }
    // The first had the worker for themselves before the last came.
    let seen: Vec<_> = from.iter().skip_while(|n| n.contains(&0)).take(N + 1).collect();
    let got = [0, 1, 2, 3].map(|i: usize| (seen[N][i] - seen[0][i]) * COSTS[i]);
    assert_eq!(got[0], 16_000_000);
    assert!(got.iter().all(|ns| ns.abs_diff(got[0]) <= 1_040_000), "{got:?}");
    let busy: Vec<u64> = dp.queues().iter().map(|q| q.busy_ns).collect();
    assert!(busy.iter().all(|ns| *ns >= 14_000_000), "what they used is told: {busy:?}");
}

#[test]
fn a_panic_in_one_batch_costs_that_batch() {
    let policy = Policy::new(|k| {
        assert_ne!(k.tp_dst, 66, "a bug in the slow path");
        (common::five_tuple_mask(), vec![out(2)])
    });
    let (dp, events) = datapath(1, policy);
    let sink = with_sink(&dp, 2);
    let (rx, mut wire) = Bytes::new();
    dp.add_port(DpPort(1), &mut Custom::new(rx)).unwrap();
    for round in 0..3 {
        wire.write_all(&[round]).unwrap();
        assert_eq!(sink.recv().unwrap(), round);
        wire.write_all(&[66]).unwrap();
        assert_eq!(events.recv().unwrap(), Event::Panicked { worker: 1 });
    }
    wire.write_all(&[5]).unwrap();
    assert_eq!(sink.recv().unwrap(), 5);
}

fn actions() -> impl Strategy<Value = Vec<DpAction>> {
    let groups = [
        SetGroup::Eth,
        SetGroup::Mpls,
        SetGroup::Ipv4,
        SetGroup::Ipv6,
        SetGroup::Arp,
        SetGroup::Nd,
        SetGroup::NdExtensions,
        SetGroup::Tcp,
        SetGroup::Udp,
        SetGroup::Sctp,
        SetGroup::Icmp,
        SetGroup::SkbMark,
    ];
    let set =
        (proptest::sample::select(groups.to_vec()), any::<u64>()).prop_map(|(group, seed)| {
            let value = PacketKey::from_words(std::array::from_fn(|i| seed.rotate_left(i as u32)));
            DpAction::Set(Box::new(SetMasked { group, value, mask: value }))
        });
    let leaf = prop_oneof![
        4 => (1u32..4).prop_map(out),
        4 => set,
        1 => any::<u16>().prop_map(|tci| DpAction::PushVlan { tpid: 0x8100, tci }),
        2 => Just(DpAction::PopVlan),
        1 => any::<u32>().prop_map(|lse| DpAction::PushMpls { ethertype: 0x8847, lse }),
        2 => Just(DpAction::PopMpls { ethertype: 0x0800 }),
        1 => Just(DpAction::PopEth),
        1 => Just(DpAction::PushEth { dst: Default::default(), src: Default::default() }),
        2 => Just(DpAction::Ct(Box::default())),
        1 => Just(DpAction::CtClear),
        1 => Just(DpAction::Recirc(RecircId(1))),
        1 => Just(DpAction::Hash { alg: HashAlg::SymL4, basis: 1 }),
        1 => (0u32..200).prop_map(DpAction::Trunc),
    ];
    let tree = leaf.prop_recursive(3, 16, 4, |inner| {
        let list = proptest::collection::vec(inner, 0..4);
        prop_oneof![
            list.clone().prop_map(|a| DpAction::Clone(a.into())),
            list.clone().prop_map(|a| DpAction::Sample { probability: 1 << 31, actions: a.into() }),
            (list.clone(), list).prop_map(|(a, b)| DpAction::CheckPktLen {
                len: 64,
                greater: a.into(),
                less_or_equal: b.into()
            }),
        ]
    });
    proptest::collection::vec(tree, 0..8)
}

/// Random bytes behind a plausible beginning, with plausible or absurd offload metadata.
fn frames() -> impl Strategy<Value = PacketBuf> {
    const KINDS: [&[u8]; 5] =
        [&[], &[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[8, 6, 0, 1, 8, 0, 6, 4], &[0x88, 0x47]];
    let kind = proptest::sample::select(&KINDS[..]);
    let tail = proptest::collection::vec(any::<u8>(), 0..120);
    let offload = prop_oneof![
        Just(Offload::default()),
        (any::<u16>(), any::<u16>()).prop_map(|(csum_start, csum_offset)| Offload {
            needs_csum: true,
            gso_type: GsoType::TcpV4,
            gso_size: 100,
            csum_start,
            csum_offset,
            ..Offload::default()
        }),
    ];
    (kind, tail, offload, any::<bool>()).prop_map(|(kind, tail, offload, addresses)| {
        let mut f = if addresses { vec![2; 12] } else { vec![] };
        f.extend(kind);
        f.extend(tail);
        let mut p = PacketBuf::from_frame(&f);
        p.offload = offload;
        p
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// No frame and no actions panic; a second time through the caches gives the same.
    #[test]
    fn any_frame_takes_any_actions(
        first in actions(),
        second in actions(),
        batch in proptest::collection::vec(frames(), 1..20),
    ) {
        // Samples differ by design.
        let random = format!("{first:?}{second:?}").contains("Sample");
        let net = Net::simulated(3, Policy::new(move |k| {
            (PacketKey::ZERO, if k.recirc_id == 0 { first.clone() } else { second.clone() })
        }));
        let round = || {
            let mut seen = Vec::new();
            for p in &batch {
                let out = net.send(1, p);
                seen.push(out.iter().map(|o| o.iter().map(|p| p.frame().to_vec()).collect())
                    .collect::<Vec<Vec<_>>>());
            }
            seen
        };
        let (miss, hit) = (round(), round());
        if !random {
            prop_assert_eq!(miss, hit);
        }
        net.inject(1, &batch);
        net.run();
    }
}
