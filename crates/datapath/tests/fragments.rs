//! Fragments at a `ct` action: they wait, get the verdict of their datagram and go on as they came.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use base::{Duration, RecircId, Zone};
use common::{Net, Policy, commit, out, udp};
use conntrack::frag::{PURGE_AFTER, TIMEOUT};
use conntrack::{CtRequest, InvalidReason, NatKind, NatRequest};
use datapath::{Config, DpStats};
use dpif::{DpAction, DropReason};
use flow::{PacketKey, ct_state, nw_frag};
use packet::checksum::{add, checksum, finish, pseudo_v4, pseudo_v6};
use packet::{GsoType, PacketBuf};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 0, 0, 3];
const V: [u8; 4] = [10, 0, 0, 9];

const fn host6(n: u8) -> [u8; 16] {
    [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]
}

/// UDP between two hosts, over IPv4 or IPv6.
fn datagram(v6: bool, src: u8, dst: u8, sport: u16, dport: u16, n: usize) -> PacketBuf {
    let data: Vec<u8> = (0..n).map(|i| (i * 3 + i / 256) as u8).collect();
    let host = |n| [10, 0, 0, n];
    if !v6 {
        return udp(host(src), host(dst), sport, dport, &data);
    }
    let (src, dst) = (host6(src), host6(dst));
    let mut l4 = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    l4.extend((8 + n as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(data);
    let sum = finish(add(pseudo_v6(&src, &dst, 17, l4.len() as u32), &l4));
    l4[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
    f.extend((l4.len() as u16).to_be_bytes());
    f.extend([17, 64]);
    f.extend(src);
    f.extend(dst);
    f.extend(l4);
    PacketBuf::from_frame(&f)
}

/// Cuts a packet without options into fragments of `size` bytes of payload, as its sender would.
fn cut(p: &PacketBuf, id: u16, size: usize) -> Vec<PacketBuf> {
    let frame = p.frame();
    let v6 = frame[12] == 0x86;
    let (head, l4) = frame.split_at(if v6 { 54 } else { 34 });
    let n = l4.len().div_ceil(size);
    let fragment = |(i, part): (usize, &[u8])| {
        let mut f = head.to_vec();
        let (offset, more) = ((i * size) as u16, i + 1 < n);
        if v6 {
            f[18..20].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            f[20] = 44;
            f.extend([17, 0]);
            f.extend((offset | u16::from(more)).to_be_bytes());
            f.extend([0, 0]);
            f.extend(id.to_be_bytes());
        } else {
            f[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            f[18..20].copy_from_slice(&id.to_be_bytes());
            let flag = if more { 0x2000 } else { 0 };
            f[20..22].copy_from_slice(&(flag | (offset / 8)).to_be_bytes());
            f[24..26].fill(0);
            let sum = checksum(&f[14..34]);
            f[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        f.extend(part);
        PacketBuf::from_frame(&f)
    };
    l4.chunks(size).enumerate().map(fragment).collect()
}

fn ct(request: CtRequest) -> DpAction {
    DpAction::Ct(Box::new(request))
}

/// All packets go through these actions.
fn always(n_ports: u32, actions: Vec<DpAction>) -> Net {
    Net::simulated(n_ports, Policy::new(move |_| (PacketKey::ZERO, actions.clone())))
}

/// IP packets of frames, which are too long to be printed.
fn frames(packets: &[PacketBuf]) -> Vec<Vec<u8>> {
    packets.iter().map(|p| p.frame()[14..].to_vec()).collect()
}

/// What leaves by each port when these come in by port 1 as one batch.
fn pass(net: &Net, packets: &[PacketBuf]) -> Vec<Vec<Vec<u8>>> {
    net.inject(1, packets);
    net.run();
    net.outputs().iter().map(|o| frames(o)).collect()
}

fn all_drops(s: &DpStats) -> u64 {
    s.drops.iter().sum()
}

#[test]
fn fragments_leave_together_at_the_place_of_the_last_to_come() {
    for v6 in [false, true] {
        let net = always(2, vec![commit(0), out(2)]);
        let single = |sport| datagram(v6, 1, 2, sport, 9, 20);
        let parts = cut(&datagram(v6, 1, 2, 1000, 53, 4000), 1, 1400);
        let batch =
            [&single(1), &parts[1], &single(2), &parts[0], &parts[2], &single(3)].map(Clone::clone);
        let want = [&batch[0], &batch[2], &parts[0], &parts[1], &parts[2], &batch[5]];
        let want = want.map(|p| p.frame()[14..].to_vec());
        // As a miss, and as hits.
        for round in 0..2 {
            assert!(pass(&net, &batch)[1] == want, "round {round}");
        }
        assert_eq!(all_drops(&net.dp.stats()), 0);
        assert_eq!(net.dp.conntrack().len(), 4);
        assert!(net.dp.fragments().is_empty());
        assert_eq!(net.dp.fragments().counters(v6).completed, 6);
    }
}

#[test]
fn among_packets_of_one_flow_fragments_keep_their_place() {
    let net = always(2, vec![commit(0), out(2)]);
    let x = cut(&udp(A, B, 1000, 53, &[7; 4000]), 1, 1400);
    let y = cut(&udp(C, B, 1000, 53, &[7; 2000]), 2, 1400);
    // Too small to be held: goes on alone, invalid.
    let small = &cut(&udp(A, B, 1000, 53, &[7; 2000]), 3, 800)[1];
    for _ in 0..2 {
        pass(&net, &[&x[0], &x[1], &y[0]].map(Clone::clone));
        let batch = [small, &x[2], small, &y[1], small].map(Clone::clone);
        let want = [small, &x[0], &x[1], &x[2], small, &y[0], &y[1], small].map(Clone::clone);
        assert!(pass(&net, &batch)[1] == frames(&want));
    }
}

#[test]
fn behind_the_tracker_each_fragment_is_what_it_was_and_has_the_verdict_of_all() {
    for v6 in [false, true] {
        let keys: Arc<Mutex<Vec<PacketKey>>> = Arc::default();
        let policy = Policy::new({
            let keys = Arc::clone(&keys);
            move |k| {
                let mut mask = PacketKey::ZERO;
                (mask.recirc_id, mask.nw_frag) = (!0, !0);
                if k.recirc_id == 0 {
                    return (mask, vec![commit(7), DpAction::Recirc(RecircId(1))]);
                }
                keys.lock().unwrap().push(*k);
                (mask, vec![out(if k.nw_frag & nw_frag::LATER == 0 { 2 } else { 3 })])
            }
        });
        let net = Net::simulated(3, policy);
        let parts = cut(&datagram(v6, 1, 2, 1000, 53, 4000), 1, 1400);
        for _ in 0..2 {
            let outputs = pass(&net, &parts);
            assert!(outputs[1] == frames(&parts[..1]));
            assert!(outputs[2] == frames(&parts[1..]));
        }
        let keys = keys.lock().unwrap();
        assert_eq!(keys.len(), 2, "translations behind the tracker");
        for (k, later) in keys.iter().zip([false, true]) {
            assert_eq!(k.ct_state, ct_state::TRK | ct_state::NEW);
            assert_eq!((k.ct_zone, k.ct_nw_proto, k.ct_tp_src, k.ct_tp_dst), (7, 17, 1000, 53));
            assert_eq!(
                (k.nw_frag & nw_frag::LATER != 0, k.nw_frag & nw_frag::ANY != 0),
                (later, true)
            );
            assert_eq!((k.tp_src, k.tp_dst), if later { (0, 0) } else { (1000, 53) });
        }
    }
}

/// Port 1 opens connections that are translated, port 2 answers.
fn translating(kind: NatKind, to: IpAddr, ports: Option<(u16, u16)>) -> Net {
    Net::simulated(
        2,
        Policy::new(move |k| {
            let nat = match k.in_port {
                1 => NatRequest {
                    kind: Some(kind),
                    addrs: Some((to, to)),
                    ports,
                    ..NatRequest::default()
                },
                _ => NatRequest::default(),
            };
            let commit = k.in_port == 1;
            let request =
                CtRequest { zone: Zone(7), commit, nat: Some(nat), ..CtRequest::default() };
            let mut mask = PacketKey::ZERO;
            mask.in_port = !0;
            (mask, vec![ct(request), out(3 - k.in_port)])
        }),
    )
}

fn address(v6: bool) -> IpAddr {
    if v6 { host6(9).into() } else { V.into() }
}

#[test]
fn translated_fragments_are_those_that_the_other_address_would_have_sent() {
    for v6 in [false, true] {
        let net = translating(NatKind::Src, address(v6), Some((4000, 4000)));
        for (size, tags) in [(1400, 0), (1232, 1), (2400, 1)] {
            let tag = |p: &mut PacketBuf| {
                p.insert(12, 4 * tags);
                (0..tags).for_each(|i| {
                    p.frame_mut()[12 + 4 * i..][..4].copy_from_slice(&[0x81, 0, 0, 9])
                });
            };
            let mut sent = cut(&datagram(v6, 1, 2, 1000, 53, 5000), 1, size);
            let mut want = cut(&datagram(v6, 9, 2, 4000, 53, 5000), 1, size);
            sent.iter_mut().chain(&mut want).for_each(tag);
            let mut order = sent.clone();
            order.reverse();
            let got = pass(&net, &order);
            assert!(got[1] == frames(&want), "{v6} {size} {} frames", got[1].len());
            // Answers in fragments of their own.
            net.inject(2, &cut(&datagram(v6, 2, 9, 53, 4000, 3000), 5, 1400));
            net.run();
            let want = cut(&datagram(v6, 2, 1, 53, 1000, 3000), 5, 1400);
            assert!(frames(&net.outputs()[0]) == frames(&want));
        }
        let net = translating(NatKind::Dst, address(v6), Some((8080, 8080)));
        let sent = cut(&datagram(v6, 1, 2, 1000, 53, 5000), 1, 1400);
        let want = cut(&datagram(v6, 1, 9, 1000, 8080, 5000), 1, 1400);
        assert!(pass(&net, &sent)[1] == frames(&want));
    }
}

#[test]
fn without_a_free_port_no_fragment_goes_on() {
    let net = translating(NatKind::Src, V.into(), Some((4000, 4000)));
    assert_eq!(pass(&net, &[udp(A, B, 1000, 53, b"")])[1].len(), 1);
    let parts = cut(&udp(C, B, 1000, 53, &[0; 4000]), 1, 1400);
    assert!(pass(&net, &parts).iter().all(Vec::is_empty));
    let stats = net.dp.stats();
    assert_eq!((stats.dropped(DropReason::NatExhausted), all_drops(&stats)), (3, 3));
    assert!(net.dp.fragments().is_empty());
}

#[test]
fn a_checksum_left_to_the_device_is_finished_for_the_whole() {
    for nat in [false, true] {
        let net = match nat {
            true => translating(NatKind::Src, V.into(), Some((4000, 4000))),
            false => always(2, vec![commit(0), out(2)]),
        };
        let mut partial = udp(A, B, 1000, 53, &[7; 4000]);
        let pseudo = !finish(pseudo_v4(u32::from_be_bytes(A), u32::from_be_bytes(B), 17, 4008));
        partial.frame_mut()[40..42].copy_from_slice(&pseudo.to_be_bytes());
        let mut parts = cut(&partial, 1, 1400);
        let o = &mut parts[0].offload;
        (o.needs_csum, o.csum_start, o.csum_offset) = (true, 34, 6);
        net.inject(1, &parts);
        net.run();
        let got = net.outputs().remove(1);
        let want =
            if nat { udp(V, B, 4000, 53, &[7; 4000]) } else { udp(A, B, 1000, 53, &[7; 4000]) };
        assert!(frames(&got) == frames(&cut(&want, 1, 1400)));
        assert!(got.iter().all(|p| !p.offload.needs_csum));
    }
}

#[test]
fn a_large_datagram_is_more_than_a_batch() {
    for v6 in [false, true] {
        let net = always(3, vec![commit(1), out(2), commit(2), DpAction::Clone([out(3)].into())]);
        net.dp.fragments().set_config({
            let mut c = net.dp.fragments().config();
            (c.v4.min_len, c.v6.min_len) = (400, 400);
            c
        });
        let parts = cut(&datagram(v6, 1, 2, 1000, 53, 60_000), 1, 400);
        assert!(parts.len() > 128);
        // The last one first, so that the first completes all.
        let mut order = parts.clone();
        order.reverse();
        for _ in 0..2 {
            let outputs = pass(&net, &order);
            assert!(outputs[1] == frames(&parts), "behind the first zone");
            assert!(outputs[2] == frames(&parts), "behind the second zone");
        }
        assert_eq!(net.dp.conntrack().len(), 2);
        assert_eq!(all_drops(&net.dp.stats()), 0);
    }
}

#[test]
fn any_number_of_ct_actions_may_follow_each_other() {
    let many: Vec<_> = (0..1000).map(commit).chain([out(2)]).collect();
    let net = always(2, many);
    let parts = cut(&udp(A, B, 1000, 53, &[7; 60_000]), 1, 1400);
    let mut order = parts.clone();
    order.reverse();
    assert!(pass(&net, &order)[1] == frames(&parts));
    assert_eq!(net.dp.conntrack().len(), 1000);
    assert_eq!(all_drops(&net.dp.stats()), 0);
}

#[test]
fn fragments_fit_into_no_run_of_packets() {
    // Long and short packets part before they are tracked, and meet again behind it.
    let check = DpAction::CheckPktLen {
        len: 500,
        greater: Box::new([commit(0), out(2)]),
        less_or_equal: Box::new([commit(0), out(3)]),
    };
    for then in [vec![], vec![out(4)]] {
        let net = always(4, [vec![check.clone()], then.clone()].concat());
        let parts = cut(&udp(A, B, 1000, 53, &[7; 60_000]), 1, 1400);
        let (first, others) = parts.split_first().unwrap();
        pass(&net, others);
        // The first fragment has a megaflow of its own: a batch of them, all but one of datagrams
        // that go on waiting or are short.
        let mut batch: Vec<_> =
            (2..30).map(|id| cut(&udp(C, B, id, 53, &[0; 900]), id, 400)[0].clone()).collect();
        batch.push(first.clone());
        let outputs = pass(&net, &batch);
        assert!(outputs[1] == frames(&parts));
        assert_eq!(outputs[2].len(), 28, "too small to wait, so they go on");
        assert_eq!(outputs[3].len(), if then.is_empty() { 0 } else { batch.len() });
    }
}

#[test]
fn fragments_in_a_clone_are_copies() {
    let net = always(3, vec![DpAction::Clone([commit(1), out(2)].into()), out(3)]);
    let parts = cut(&udp(A, B, 1000, 53, &[7; 4000]), 1, 1400);
    let outputs = pass(&net, &parts);
    assert!(outputs[1] == frames(&parts) && outputs[2] == frames(&parts));
    // What the clone holds is not dropped, and neither is the packet.
    pass(&net, &parts[..2]);
    assert_eq!(all_drops(&net.dp.stats()), 0);
    assert_eq!(net.dp.fragments().len(), 2);
}

#[test]
fn packets_that_nothing_becomes_of_are_counted_once() {
    let net = always(2, vec![commit(1)]);
    let parts = cut(&udp(A, B, 1000, 53, &[7; 4000]), 1, 1400);
    let mut batch = parts[..2].to_vec();
    batch.push(udp(A, B, 1, 2, b""));
    pass(&net, &batch);
    let dropped = || net.dp.stats().dropped(DropReason::Pipeline);
    assert_eq!(dropped(), 1);
    pass(&net, &parts[2..]);
    assert_eq!((dropped(), all_drops(&net.dp.stats())), (4, 4));
    // With an output before, they are no drops.
    let net = always(2, vec![out(2), commit(1)]);
    assert!(pass(&net, &parts)[1] == frames(&parts));
    assert_eq!(all_drops(&net.dp.stats()), 0);
}

#[test]
fn fragments_that_wait_too_long_are_drops() {
    let mut net = always(2, vec![commit(0), out(2)]);
    let parts = cut(&udp(A, B, 1000, 53, &[7; 4000]), 1, 1400);
    let expired = |net: &Net| net.dp.stats().dropped(DropReason::FragmentExpired);
    pass(&net, &parts[..2]);
    net.now += TIMEOUT + Duration::from_millis(1);
    net.dp.purge_fragments(net.now);
    assert_eq!((expired(&net), net.dp.fragments().len()), (0, 2));
    // Any packet through the tracker is reason to look.
    assert_eq!(pass(&net, &[udp(A, B, 1, 2, b"")])[1].len(), 1);
    assert_eq!((expired(&net), net.dp.fragments().len()), (2, 0));
    assert_eq!(net.dp.fragments().counters(false).expired, 2);
    // Without one, somebody else does it, later.
    pass(&net, &parts[..1]);
    net.now += TIMEOUT + PURGE_AFTER;
    net.dp.purge_fragments(net.now);
    assert_eq!((expired(&net), net.dp.fragments().len()), (3, 0));
    assert_eq!(net.dp.fragments().counters(false).purged, 1);
    assert_eq!(all_drops(&net.dp.stats()), 3);
}

#[test]
fn fragments_that_make_room_are_drops_and_refused_ones_are_invalid() {
    let policy = Policy::new(|k| {
        let mut mask = PacketKey::ZERO;
        (mask.recirc_id, mask.ct_state) = (!0, !0);
        match (k.recirc_id, k.ct_state & ct_state::INV) {
            (0, _) => (mask, vec![commit(0), DpAction::Recirc(RecircId(1))]),
            (_, 0) => (mask, vec![out(3)]),
            _ => (mask, vec![DpAction::Drop(DropReason::Pipeline)]),
        }
    });
    let net = Net::simulated(3, policy);
    let table = net.dp.fragments();
    let mut config = table.config();
    config.max_fragments = 4;
    table.set_config(config);
    let first = |src, id| cut(&udp(src, B, 1000, 53, &[7; 4000]), id, 1400).remove(0);
    let flood: Vec<_> = (0..5).map(|id| first(A, id)).collect();
    assert!(pass(&net, &flood).iter().all(Vec::is_empty));
    let invalid = |reason| net.dp.conntrack().counters().invalid_by(reason);
    assert_eq!(invalid(InvalidReason::FragmentsFull), 1);
    let parts = cut(&udp(C, B, 1000, 53, &[7; 2000]), 9, 1400);
    net.inject(2, &parts);
    net.run();
    assert!(frames(&net.outputs()[2]) == frames(&parts));
    let stats = net.dp.stats();
    assert_eq!(stats.dropped(DropReason::FragmentEvicted), 2);
    assert_eq!((stats.dropped(DropReason::Pipeline), all_drops(&stats)), (1, 3));
    // A large packet is none that a device could cut.
    let mut large = cut(&udp(A, B, 1000, 53, &[7; 4000]), 70, 1400).remove(1);
    (large.offload.gso_type, large.offload.gso_size) = (GsoType::Udp, 1400);
    pass(&net, &[large]);
    assert_eq!(invalid(InvalidReason::BadHeader), 1);
    assert_eq!(net.dp.fragments().len(), 2);
}

#[test]
fn packets_of_the_control_plane_and_of_several_ports_meet() {
    let net = always(3, vec![commit(0), out(3)]);
    let parts = cut(&udp(A, B, 1000, 53, &[7; 4000]), 1, 1400);
    net.inject(1, &parts[..1]);
    net.inject(2, &parts[1..2]);
    net.run();
    assert!(net.outputs().iter().all(Vec::is_empty));
    let mut key = PacketKey::ZERO;
    key.in_port = 2;
    net.dp.execute(net.now, &parts[2], &key, &[commit(0), out(3)]);
    assert!(frames(&net.outputs()[2]) == frames(&parts));
}

#[test]
fn turned_off_nothing_waits() {
    for v6 in [false, true] {
        let net = always(2, vec![commit(0), out(2)]);
        let mut config = net.dp.fragments().config();
        config.rules_mut(v6).enabled = false;
        net.dp.fragments().set_config(config);
        let parts = cut(&datagram(v6, 1, 2, 1000, 53, 4000), 1, 1400);
        assert!(pass(&net, &parts)[1] == frames(&parts));
        let counters = net.dp.conntrack().counters();
        assert_eq!((counters.invalid_by(InvalidReason::Fragment), counters.invalid), (3, 3));
        assert!(net.dp.conntrack().is_empty());
    }
}

#[test]
fn packets_without_an_ethernet_header_are_reassembled_too() {
    for v6 in [false, true] {
        let mac = base::MacAddr;
        let nat = NatRequest {
            kind: Some(NatKind::Src),
            addrs: Some((address(v6), address(v6))),
            ports: Some((4000, 4000)),
            ..NatRequest::default()
        };
        let request = CtRequest { commit: true, nat: Some(nat), ..CtRequest::default() };
        let push = DpAction::PushEth { dst: mac([2, 0, 0, 0, 0, 2]), src: mac([2, 0, 0, 0, 0, 1]) };
        let net = always(2, vec![DpAction::PopEth, ct(request), push, out(2)]);
        let sent = cut(&datagram(v6, 1, 2, 1000, 53, 4000), 1, 1400);
        let want = cut(&datagram(v6, 9, 2, 4000, 53, 4000), 1, 1400);
        assert!(pass(&net, &sent)[1] == frames(&want));
    }
}

#[test]
fn workers_share_what_waits() {
    const N: u16 = 200;
    let policy = Policy::new(|_| (PacketKey::ZERO, vec![commit(0), out(3)]));
    let net = Net::new(3, Config { n_threads: 2, ..Config::default() }, policy);
    for id in 0..N {
        let parts = cut(&udp(A, B, 1000 + id, 53, &[7; 4000]), id, 1400);
        // Each fragment by another port than the one before, of which each has its worker.
        for (i, p) in parts.iter().enumerate() {
            net.inject(1 + (u32::from(id) + i as u32) % 2, std::slice::from_ref(p));
        }
    }
    // All arrive (the wait is for the threads, not for a time).
    let mut arrived = 0;
    while arrived < 3 * usize::from(N) {
        arrived += net.outputs()[2].len();
        std::thread::yield_now();
    }
    assert!(net.dp.fragments().is_empty());
    assert_eq!(net.dp.conntrack().len(), usize::from(N));
    assert_eq!(all_drops(&net.dp.stats()), 0);
}
