//! AF_PACKET ports on veth pairs and taps, in a namespace of each test's own.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

mod common;

use common::{End, MARK, inside, large, small, wait_running};
use netdev::af_packet::{AfPacket, Options};
use netdev::link::{LinkEvent, Links, Monitor};
use netdev::tap::Tap;
use netdev::{Error, RxDrop, TxDrop};
use packet::{GsoType, Offload};

fn veth(ns: &testkit::netns::Netns) {
    ns.ip("link add p1 type veth peer name q1").unwrap();
    ns.ip("link set p1 up").unwrap();
    ns.ip("link set q1 up").unwrap();
    wait_running(&["p1", "q1"]);
}

#[test]
fn a_large_segment_passes_whole_with_its_metadata() {
    let ns = inside("whole");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    for payload in [1, 1448, 20_000, 65_535 - 54] {
        let sent = large(payload, 1448, &[]);
        assert_eq!(q.send(&sent), 1, "{payload}: {:?}", q.port.state().counters());
        let got = p.marked();
        assert!(got.frame() == sent.frame(), "{payload}");
        // One segment is no longer a large packet.
        let gso = if payload <= 1448 { GsoType::None } else { GsoType::TcpV4 };
        assert_eq!(got.offload.gso_type, gso, "{payload}");
        assert!(got.offload.needs_csum);
        assert_eq!((got.offload.csum_start, got.offload.csum_offset), (34, 16));
    }
    let (c, d) = (p.port.state().counters(), q.port.state().counters());
    assert!(c.rx_packets >= 4 && c.rx_bytes > 85_000, "{c:?}");
    assert_eq!((d.tx_packets, d.tx_drops), (4, [0; TxDrop::ALL.len()]));
    assert_eq!(c.rx_drops, [0; RxDrop::ALL.len()]);
}

#[test]
fn what_is_too_large_for_the_device_is_cut_by_the_kernel() {
    let ns = inside("cut");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    // 64 KB of IP is more than a device's gso_max_size with the Ethernet header.
    assert_eq!(q.send(&large(65_535 - 40, 1448, &[])), 1);
    let mut payload = 0;
    while payload < 65_535 - 40 {
        let got = p.marked();
        assert!(got.len() <= 1502, "{}", got.len());
        payload += got.len() - 54;
    }
    assert_eq!(payload, 65_535 - 40);
}

#[test]
fn vlan_tags_arrive_in_the_frame() {
    let ns = inside("vlan");
    veth(&ns);
    let mut q = End::shared("q1");
    let customer = [0x81, 0, 0x60, 100];
    let service = [0x88, 0xa8, 0, 7];
    for options in with_and_without_ring() {
        let mut p = End::of(AfPacket::open("p1", options).unwrap());
        for tags in [&[customer][..], &[service], &[service, customer]] {
            let sent = small(tags);
            q.send(&sent);
            assert!(p.marked().frame() == sent.frame());
            let sent = large(9000, 1400, tags);
            q.send(&sent);
            let got = p.marked();
            assert!(got.frame() == sent.frame());
            assert_eq!(got.offload.csum_start, sent.offload.csum_start);
            assert_eq!((got.offload.gso_type, got.offload.gso_size), (GsoType::TcpV4, 1400));
        }
    }
}

#[test]
fn a_batch_keeps_its_order() {
    let ns = inside("order");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    let mut frames: Vec<_> = (0..100).map(|_| small(&[])).collect();
    for (i, f) in frames.iter_mut().enumerate() {
        f.frame_mut()[20] = i as u8;
    }
    let refs: Vec<_> = frames.iter().collect();
    assert_eq!(q.tx.send(&refs), 100);
    for i in 0..100 {
        assert_eq!(p.marked().frame()[20], i);
    }
}

#[test]
fn without_vnet_headers_the_device_gets_finished_segments() {
    let ns = inside("soft");
    veth(&ns);
    let plain = Options { vnet_hdr: false, exclusive: &[], ..Options::default() };
    let mut q = End::of(AfPacket::open("q1", plain).unwrap());
    let mut p = End::shared("p1");
    assert_eq!(q.send(&large(3000, 1448, &[])), 3);
    for (i, payload) in [1448, 1448, 104].into_iter().enumerate() {
        let got = p.marked();
        assert_eq!(got.len(), 54 + payload);
        assert_eq!(got.frame()[38..42], (1 + 1448 * i as u32).to_be_bytes());
        assert!(!got.offload.needs_csum && !got.offload.is_gso());
    }
    assert_eq!(q.port.state().counters().tx_segmented, 1);
}

#[test]
fn what_the_device_refuses_is_counted_by_reason() {
    let ns = inside("reasons");
    veth(&ns);
    let mut q = End::shared("q1");
    let mut long = small(&[]);
    long.insert(60, 2000);
    let mut lie = large(3000, 1448, &[]);
    lie.offload.csum_start = 60_000;
    assert_eq!(q.tx.send(&[&small(&[]), &long, &lie, &small(&[])]), 2);
    let c = q.port.state().counters();
    assert_eq!((c.tx_drop(TxDrop::TooBig), c.tx_drop(TxDrop::Malformed)), (1, 1));
    ns.ip("link set q1 down").unwrap();
    assert_eq!(q.tx.send(&[&small(&[]), &small(&[])]), 0);
    assert_eq!(q.port.state().counters().tx_drop(TxDrop::Down), 2);
}

/// The options of a shared port, with a ring and without.
fn with_and_without_ring() -> [Options; 2] {
    [32, 0].map(|ring| Options { ring, exclusive: &[], ..Options::default() })
}

#[test]
fn frames_that_came_too_fast_are_counted() {
    let ns = inside("overrun");
    veth(&ns);
    let mut q = End::shared("q1");
    // Small frames fill the ring, or the socket where there is none; large ones the socket.
    for (options, frame) in with_and_without_ring()
        .into_iter()
        .flat_map(|o| [(o.clone(), small(&[])), (o, large(20_000, 1448, &[]))])
    {
        let mut p = End::of(open_again("p1", &Options { buffer: 8192, ..options }));
        let sent: usize = (0..10).map(|_| q.tx.send(&[&frame; 32])).sum();
        assert_eq!(sent, 320);
        let (mut bufs, mut received) = (netdev::new_batch(), 0);
        testkit::process::eventually("all counted", std::time::Duration::from_secs(5), || {
            received += p.rx.recv(&mut bufs).n as u64;
            let lost = p.port.counters().rx_drop(RxDrop::Overrun);
            Ok((lost > 0 && received + lost >= 320).then_some(()))
        })
        .unwrap();
    }
}

/// Opens a device that was open a moment ago: a program that another test starts holds what this process
/// holds between its fork and its exec.
fn open_again(name: &str, options: &Options) -> AfPacket {
    testkit::process::eventually("the device is free", testkit::process::DEADLINE, || {
        match AfPacket::open(name, options.clone()) {
            Ok(port) => Ok(Some(port)),
            Err(Error::Busy { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    })
    .unwrap()
}

#[test]
fn small_and_large_frames_keep_their_order() {
    let ns = inside("sizes");
    veth(&ns);
    let mut q = End::shared("q1");
    for options in with_and_without_ring() {
        let mut p = End::of(open_again("p1", &options));
        // The longest that may lie in the ring's slot, and what is beyond it, among them.
        let payloads = [1, 40_000, 1960, 1800, 1, 9000, 65_535 - 54, 1400, 1950, 1, 1];
        for round in 0..20 {
            let mut sent: Vec<_> = payloads.iter().map(|&n| large(n, 1000, &[])).collect();
            for (i, pkt) in sent.iter_mut().enumerate() {
                pkt.frame_mut()[20] = i as u8;
            }
            assert_eq!(q.tx.send(&sent.iter().collect::<Vec<_>>()), sent.len());
            for pkt in &sent {
                let got = p.marked();
                assert!(got.frame() == pkt.frame(), "round {round}, {} bytes", pkt.len());
                assert_eq!(got.offload.needs_csum, pkt.offload.needs_csum);
            }
        }
        assert_eq!(p.port.counters().rx_drops, [0; RxDrop::ALL.len()]);
    }
}

#[test]
fn the_crc_of_sctp_is_finished_before_it_leaves() {
    let ns = inside("sctp");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    let mut sent = large(100, 0, &[]);
    sent.frame_mut()[23] = 132;
    sent.frame_mut()[42..46].fill(0);
    let crc = packet::crc32c::crc32c(&sent.frame()[34..]).to_le_bytes();
    sent.offload =
        Offload { needs_csum: true, csum_start: 34, csum_offset: 8, ..Offload::default() };
    assert_eq!(q.send(&sent), 1);
    let got = p.marked();
    assert_eq!(got.frame()[42..46], crc);
    assert!(!got.offload.needs_csum);
}

#[test]
fn a_device_that_goes_down_works_again_when_it_is_up() {
    let ns = inside("updown");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    let mut links = Links::open().unwrap();
    links.set_up("p1", false).unwrap();
    let got = p.rx.recv(&mut netdev::new_batch());
    assert!(!got.gone);
    links.set_up("p1", true).unwrap();
    wait_running(&["p1", "q1"]);
    assert_eq!(q.send(&small(&[])), 1);
    p.marked();
}

#[test]
fn frames_that_wait_while_the_device_goes_down_come_in_order_and_none_later() {
    let ns = inside("waiting");
    veth(&ns);
    for options in with_and_without_ring() {
        let (mut p, mut q) = (End::of(AfPacket::open("p1", options).unwrap()), End::shared("q1"));
        for payload in [9000, 8000] {
            assert_eq!(q.send(&large(payload, 1000, &[])), 1);
        }
        ns.ip("link set p1 down").unwrap();
        ns.ip("link set p1 up").unwrap();
        wait_running(&["p1", "q1"]);
        assert_eq!(q.send(&large(7000, 1000, &[])), 1);
        assert_eq!([(); 3].map(|()| p.marked().len()), [9054, 8054, 7054]);
        assert_eq!(p.port.counters().rx_drops, [0; RxDrop::ALL.len()]);
    }
}

#[test]
fn a_device_that_vanishes_is_noticed_and_harmless() {
    let ns = inside("vanish");
    veth(&ns);
    let mut monitor = Monitor::open().unwrap();
    let names = |events: Vec<LinkEvent>| -> Vec<String> {
        let mut names: Vec<String> = events
            .into_iter()
            .filter_map(|e| match e {
                LinkEvent::Added(l) => Some(format!("+{}", l.name)),
                LinkEvent::Removed(l) => Some(format!("-{}", l.name)),
                LinkEvent::Changed { .. } => None,
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(monitor.poll().unwrap()), ["+lo", "+p1", "+q1"]);
    let mut p = End::shared("p1");
    let old = p.port.ifindex();
    ns.ip("link del p1").unwrap();
    assert_eq!(names(monitor.poll().unwrap()), ["-p1", "-q1"]);
    assert_eq!(p.rx.recv(&mut netdev::new_batch()).n, 0);
    assert_eq!(p.send(&small(&[])), 0);
    assert_eq!(p.port.state().counters().tx_drop(TxDrop::Gone), 1);

    veth(&ns);
    assert_eq!(names(monitor.poll().unwrap()), ["+p1", "+q1"]);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    assert_ne!(p.port.ifindex(), old);
    q.send(&small(&[]));
    p.marked();
}

#[test]
fn the_monitor_reports_changes_once_and_survives_an_overflow() {
    let ns = inside("monitor");
    veth(&ns);
    let mut monitor = Monitor::open().unwrap();
    monitor.poll().unwrap();
    let mut links = Links::open().unwrap();
    links.set_mtu("p1", 1400).unwrap();
    let mac = base::MacAddr([2, 0, 0, 0, 0, 9]);
    links.set_mac("p1", mac).unwrap();
    monitor.poll().unwrap();
    let known = monitor.known().values().find(|l| l.name == "p1").unwrap().clone();
    assert_eq!((known.mtu, known.mac, known.kind.as_deref()), (1400, mac, Some("veth")));
    assert!(known.up && known.running && known.lower_up);
    assert_eq!(monitor.poll().unwrap(), []);
    // Far more notices than the socket's buffer holds.
    for i in 0..2000 {
        links.set_mtu("p1", 1000 + i % 100).unwrap();
    }
    links.set_mtu("p1", 1234).unwrap();
    ns.ip("link add last type veth peer name tsal").unwrap();
    monitor.poll().unwrap();
    let find = |m: &Monitor, n: &str| m.known().values().find(|l| l.name == n).cloned();
    assert_eq!(find(&monitor, "p1").unwrap().mtu, 1234);
    assert!(find(&monitor, "last").is_some());
}

#[test]
fn a_tap_of_our_own_and_the_host_exchange_frames() {
    let ns = inside("tap");
    let mut tap = End::of(Tap::open("br0").unwrap());
    assert!(tap.port.warnings().is_empty(), "{:?}", tap.port.warnings());
    assert_eq!(internal_port_works(&ns, &mut tap).as_deref(), Some("tun"));

    // The link's MTU holds for what is not to be segmented.
    let mut long = small(&[]);
    long.insert(60, 1500);
    assert_eq!(tap.send(&long), 0);
    assert_eq!(tap.port.state().counters().tx_drop(TxDrop::TooBig), 1);
}

#[test]
fn an_internal_port_without_taps_is_a_veth_that_goes_with_it() {
    let ns = inside("veth-internal");
    let mut port = End::of_boxed(netdev::internal::open_veth("br0", 1).unwrap());
    assert_eq!(internal_port_works(&ns, &mut port).as_deref(), Some("veth"));
    // What a killed switch leaves behind is not in the way.
    std::mem::forget(port);
    let again = netdev::internal::open_veth("br0", 1).unwrap();
    drop(again);
    let links = Links::open().unwrap().dump().unwrap();
    assert!(links.values().all(|l| !l.name.starts_with("br0")), "{links:?}");
}

/// The host and the switch's end of internal port `br0` exchange datagrams; the device's kind.
fn internal_port_works(ns: &testkit::netns::Netns, tap: &mut End) -> Option<String> {
    use std::net::UdpSocket;
    ns.ip("addr add 10.9.0.1/24 dev br0").unwrap();
    ns.ip("link set br0 up").unwrap();
    wait_running(&["br0"]);
    let link = Links::open().unwrap().by_name("br0").unwrap().unwrap();
    assert_eq!(Some(link.ifindex), tap.port.ifindex());
    ns.ip("neigh add 10.9.0.2 lladdr 02:ab:00:00:00:01 dev br0").unwrap();
    let host = UdpSocket::bind("10.9.0.1:4000").unwrap();
    host.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    host.send_to(&[7; 100], "10.9.0.2:5000").unwrap();
    let is_udp = |p: &packet::PacketBuf| p.frame()[12..14] == [8, 0] && p.frame()[23] == 17;
    let mut got = tap.next(std::time::Duration::from_secs(5), is_udp).unwrap();
    assert_eq!(got.len(), 142);
    assert!(got.offload.needs_csum, "the host leaves the checksum to us");
    // Back to the sender: addresses and ports swapped keep the checksum.
    let f = got.frame_mut();
    for (a, b, n) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        for i in 0..n {
            f.swap(a + i, b + i);
        }
    }
    assert_eq!(tap.send(&got), 1);
    let mut data = [0; 200];
    assert_eq!(host.recv_from(&mut data).unwrap(), (100, "10.9.0.2:5000".parse().unwrap()));
    link.kind
}

#[test]
fn a_tap_that_another_process_holds_passes_segments_both_ways() {
    let ns = inside("qemu");
    // The tap's own descriptor plays the guest; the switch has the device only.
    let mut guest = End::of(Tap::open("tap0").unwrap());
    ns.ip("link set tap0 up").unwrap();
    wait_running(&["tap0"]);
    let mut switch = End::of(AfPacket::open("tap0", Options::default()).unwrap());
    let sent = large(30_000, 1448, &[]);
    assert_eq!(guest.send(&sent), 1);
    let got = switch.marked();
    assert!(got.frame() == sent.frame());
    assert_eq!(got.offload.gso_size, 1448);
    assert_eq!(switch.send(&sent), 1);
    let got = guest.marked();
    assert!(got.frame() == sent.frame());
    assert_eq!((got.offload.gso_type, got.offload.csum_start), (GsoType::TcpV4, 34));
    let tagged = large(30_000, 1448, &[[0x81, 0, 0, 5]]);
    switch.send(&tagged);
    let got = guest.marked();
    assert!(got.frame() == tagged.frame());
    assert_eq!(got.offload.csum_start, 38);
}

#[test]
fn a_udp_segment_offload_passes_too() {
    let ns = inside("uso");
    veth(&ns);
    let (mut p, mut q) = (End::shared("p1"), End::shared("q1"));
    let mut sent = large(5000, 1000, &[]);
    // Make it UDP: shorter header, so the first bytes of the TCP header become payload.
    sent.frame_mut()[23] = 17;
    let ip_sum = packet::checksum::update16(
        u16::from_be_bytes([sent.frame()[24], sent.frame()[25]]),
        0x4006,
        0x4011,
    );
    sent.frame_mut()[24..26].copy_from_slice(&ip_sum.to_be_bytes());
    sent.frame_mut()[38..40].copy_from_slice(&5020u16.to_be_bytes());
    sent.offload =
        Offload { gso_type: GsoType::UdpL4, csum_offset: 6, hdr_len: 42, ..sent.offload };
    assert_eq!(q.send(&sent), 1);
    let got = p.marked();
    assert_eq!((got.offload.gso_type, got.offload.gso_size), (GsoType::UdpL4, 1000));
    assert!(got.frame() == sent.frame());
}

#[test]
fn a_tap_that_is_deleted_is_gone() {
    let ns = inside("gone");
    let mut tap = End::of(Tap::open("br0").unwrap());
    ns.ip("link set br0 up").unwrap();
    wait_running(&["br0"]);
    ns.ip("link del br0").unwrap();
    let got = tap.rx.recv(&mut netdev::new_batch());
    assert!(got.gone && got.n == 0);
    assert_eq!(tap.send(&small(&[])), 0);
    assert_eq!(tap.port.state().counters().tx_drop(TxDrop::Gone), 1);
}

#[test]
fn errors_read_like_those_of_ovs() {
    let ns = inside("errors");
    veth(&ns);
    let open = |n: &str| AfPacket::open(n, Options::default()).unwrap_err().to_string();
    assert_eq!(open("nosuchdev"), "could not open network device nosuchdev (No such device)");
    assert_eq!(
        open("a-name-that-is-too-long"),
        "could not open network device a-name-that-is-too-long (No such device)"
    );
    assert_eq!(
        Tap::open("a-name-that-is-too-long").unwrap_err().to_string(),
        "could not open network device a-name-that-is-too-long (File name too long)"
    );
    assert_eq!(
        Tap::open("br%d").unwrap_err().to_string(),
        "could not open network device br%d (Invalid argument)"
    );
    assert_eq!(
        Tap::open("p1").unwrap_err().to_string(),
        "could not open network device p1 (Invalid argument)"
    );
    let _held = Tap::open("br0").unwrap();
    assert!(matches!(Tap::open("br0"), Err(Error::Busy { .. })));
}

#[test]
fn drivers_and_speeds_are_known() {
    use netdev::link::{Ethtool, Features};
    let ns = inside("ethtool");
    veth(&ns);
    let e = Ethtool::open().unwrap();
    let d = e.driver("p1").unwrap();
    assert_eq!((d.name.as_str(), d.version.as_str(), d.firmware.as_str()), ("veth", "1.0", ""));
    let s = e.settings("p1").unwrap();
    assert_eq!(s.current, Features::FD_10GB | Features::COPPER);
    assert_eq!((s.speed, s.full_duplex), (Some(10_000), Some(true)));
    assert_eq!(e.driver("nosuchdev").unwrap_err().to_string(), "No such device");
}

#[test]
fn statistics_of_a_tap_are_the_inverse_of_ours() {
    let ns = inside("stats");
    let mut tap = End::of(Tap::open("br0").unwrap());
    ns.ip("link set br0 up").unwrap();
    wait_running(&["br0"]);
    let before = Links::open().unwrap().by_name("br0").unwrap().unwrap().stats;
    for _ in 0..5 {
        assert_eq!(tap.send(&small(&[])), 1);
    }
    let after = Links::open().unwrap().by_name("br0").unwrap().unwrap().stats;
    let ours = after.inverted();
    assert_eq!(ours.tx_packets - before.inverted().tx_packets, 5);
    assert_eq!(ours.tx_bytes - before.inverted().tx_bytes, 5 * 64);
    assert_eq!(MARK[0] & 1, 0);
}
