//! Devices with several receive queues: each frame comes once, and those of a connection by one queue.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{End, MARK, inside, wait_running};
use netdev::af_packet::{AfPacket, Options};
use netdev::poll::Poller;
use netdev::tap::Tap;
use netdev::{Port, RxQueue, new_batch};
use packet::PacketBuf;

/// UDP over IPv4 of a connection by its number, from one side or the other; the last byte counts.
fn datagram(connection: u8, back: bool, n: u8) -> PacketBuf {
    let mut f = vec![2, 0xab, 0, 0, 0, 2];
    f.extend(MARK);
    f.extend([8, 0, 0x45, 0, 0, 29, 0, 1, 0x40, 0, 64, 17, 0, 0]);
    let (mut a, mut b) = ([10, 9, 0, 1], [10, 9, 0, 2]);
    let (mut sport, mut dport) = ([4, connection], [0, 53]);
    if back {
        std::mem::swap(&mut a, &mut b);
        std::mem::swap(&mut sport, &mut dport);
    }
    f.extend([a, b].concat());
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f.extend([sport, dport].concat());
    f.extend([0, 9, 0, 0, n]);
    PacketBuf::from_frame(&f)
}

fn all_queues(port: &mut dyn Port) -> Vec<Box<dyn RxQueue>> {
    std::iter::from_fn(|| port.take_rx()).collect()
}

/// What comes by each queue until so many frames that are wanted came: `wanted` gives connection and count.
fn receive(
    queues: &mut [Box<dyn RxQueue>],
    n: usize,
    wanted: impl Fn(&[u8]) -> Option<(u8, u8)>,
) -> BTreeMap<u8, Vec<(usize, u8)>> {
    let mut poller = Poller::new().unwrap();
    for (q, token) in queues.iter().zip(0..) {
        poller.add(q.fd().unwrap(), token).unwrap();
    }
    let (mut by_connection, mut count) = (BTreeMap::<u8, Vec<_>>::new(), 0);
    let (mut bufs, end) = (new_batch(), Instant::now() + Duration::from_secs(10));
    while count < n && Instant::now() < end {
        let mut ready = Vec::new();
        poller.wait(Some(Duration::from_millis(100)), &mut ready).unwrap();
        for at in ready {
            let got = queues[at as usize].recv(&mut bufs);
            for (connection, i) in bufs[..got.n].iter().filter_map(|p| wanted(p.frame())) {
                by_connection.entry(connection).or_default().push((at as usize, i));
                count += 1;
            }
        }
    }
    by_connection
}

/// Each connection has all its frames, in order, by one queue, and more than one queue is used.
fn check(got: &BTreeMap<u8, Vec<(usize, u8)>>, n_connections: usize, frames: &[u8]) {
    assert_eq!(got.len(), n_connections);
    for (connection, seen) in got {
        assert!(seen.iter().map(|s| s.1).eq(frames.iter().copied()), "{connection}: {seen:?}");
        assert!(seen.iter().all(|s| s.0 == seen[0].0), "{connection}: {seen:?}");
    }
    let used: BTreeSet<usize> = got.values().map(|s| s[0].0).collect();
    assert!(used.len() > 1, "{got:?}");
}

#[test]
fn a_kernel_device_hands_each_connection_to_one_of_its_sockets() {
    let ns = inside("fanout");
    ns.ip("link add p1 type veth peer name q1").unwrap();
    // One that was opened before it came up, and one after.
    for is_up in [false, true] {
        if is_up {
            ns.ip("link set p1 up").unwrap();
            ns.ip("link set q1 up").unwrap();
            wait_running(&["p1", "q1"]);
        }
        let options = Options { n_queues: 3, exclusive: &[], ..Options::default() };
        let mut port = AfPacket::open("p1", options).unwrap();
        let mut queues = all_queues(&mut port);
        if port.warnings().iter().any(|w| w.to_string().contains("PACKET_FANOUT")) {
            assert!(!is_up && queues.len() == 1, "{:?}", port.warnings());
            continue;
        }
        assert_eq!(queues.len(), 3);
        if !is_up {
            ns.ip("link set p1 up").unwrap();
            ns.ip("link set q1 up").unwrap();
            wait_running(&["p1", "q1"]);
        }
        let mut q = End::shared("q1");
        for n in 0..4 {
            for connection in 0..30 {
                q.send(&datagram(connection, n % 2 == 1, n));
            }
        }
        let got = receive(&mut queues, 120, |f| {
            let is_ours = f[6..12] == MARK && f[12..14] == [8, 0];
            is_ours.then(|| (if f[42] % 2 == 1 { f[37] } else { f[35] }, f[42]))
        });
        check(&got, 30, &[0, 1, 2, 3]);
        // What is sent does not come back.
        let mut tx = port.open_tx().unwrap();
        (0..30).for_each(|connection| assert_eq!(tx.send(&[&datagram(connection, false, 9)]), 1));
        (0..30).for_each(|connection| assert_eq!(q.send(&datagram(connection, false, 8)), 1));
        let got = receive(&mut queues, 30, |f| (f[6..12] == MARK).then(|| (f[35], f[42])));
        check(&got, 30, &[8]);
        let c = port.counters();
        assert!(c.rx_packets >= 150 && c.rx_drops.iter().all(|n| *n == 0), "{c:?}");
        drop((port, queues));
        ns.ip("link set p1 down").unwrap();
    }
}

#[test]
fn the_host_sends_each_connection_into_one_queue_of_a_tap() {
    let ns = inside("multiqueue");
    let mut tap = Tap::with_queues("br0", 2).unwrap();
    assert!(tap.warnings().is_empty(), "{:?}", tap.warnings());
    let mut queues = all_queues(&mut tap);
    assert_eq!(queues.len(), 2);
    ns.ip("addr add 10.9.0.1/24 dev br0").unwrap();
    ns.ip("link set br0 up").unwrap();
    wait_running(&["br0"]);
    ns.ip("neigh add 10.9.0.2 lladdr 02:ab:00:00:00:01 dev br0").unwrap();
    let hosts: Vec<_> = (0..30).map(|n| UdpSocket::bind(("10.9.0.1", 4000 + n)).unwrap()).collect();
    for n in 0..4u8 {
        for host in &hosts {
            assert_eq!(host.send_to(&[n; 9], "10.9.0.2:53").unwrap(), 9);
        }
    }
    let got = receive(&mut queues, 120, |f| {
        let is_ours = f[12..14] == [8, 0] && f[23] == 17;
        is_ours.then(|| ((u16::from_be_bytes([f[34], f[35]]) - 4000) as u8, f[42]))
    });
    check(&got, 30, &[0, 1, 2, 3]);
    // Both sending halves, and one more, reach the host.
    hosts[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = datagram(0, true, 7);
    let f = answer.frame_mut();
    let mac = netdev::link::Links::open().unwrap().by_name("br0").unwrap().unwrap().mac;
    f[..6].copy_from_slice(&mac.0);
    f[36..38].copy_from_slice(&4000u16.to_be_bytes());
    for _ in 0..3 {
        assert_eq!(tap.open_tx().unwrap().send(&[&answer]), 1);
        let mut data = [0; 9];
        assert_eq!(hosts[0].recv_from(&mut data).unwrap(), (1, "10.9.0.2:53".parse().unwrap()));
        assert_eq!(data[0], 7);
    }
}
