//! Translated packets: a packet that went through the datapath is byte for byte what its sender would
//! have sent with the other address and port, checksums included.

mod common;

use base::Zone;
use common::{Net, Policy, ipv4, out, udp};
use conntrack::{CtRequest, NatKind, NatRequest};
use dpif::{DpAction, DropReason};
use flow::PacketKey;
use packet::checksum::{add, checksum, finish, pseudo_v6};
use packet::{Offload, PacketBuf};
use std::net::IpAddr;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
/// The address that the world sees.
const V: [u8; 4] = [10, 0, 0, 9];
const A6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const V6: [u8; 16] = [0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// Port 1 opens connections that are translated, port 2 answers.
fn net(kind: NatKind, to: IpAddr, ports: Option<(u16, u16)>) -> Net {
    let policy = Policy::new(move |k| {
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
        let zone = Zone(7);
        let request = CtRequest { zone, commit, nat: Some(nat), ..CtRequest::default() };
        (PacketKey::ZERO, vec![DpAction::Ct(Box::new(request)), out(3 - k.in_port)])
    });
    Net::simulated(2, policy)
}

/// What one packet becomes, without its Ethernet header.
fn passed(net: &Net, port: u32, p: &PacketBuf) -> Vec<u8> {
    let outputs = net.send(port, p);
    let to = &outputs[2 - port as usize];
    assert_eq!(to.len(), 1, "packets out");
    to[0].frame()[14..].to_vec()
}

fn ip(p: &PacketBuf) -> Vec<u8> {
    p.frame()[14..].to_vec()
}

/// An ICMP error of `src` about an IP packet.
fn unreachable(src: [u8; 4], dst: [u8; 4], quoted: &[u8]) -> PacketBuf {
    let mut m = vec![3, 3, 0, 0, 0, 0, 0, 0];
    m.extend(quoted);
    let sum = checksum(&m);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    PacketBuf::from_frame(&ipv4(src, dst, 1, &m))
}

fn ping(src: [u8; 4], dst: [u8; 4], ty: u8, id: u16) -> PacketBuf {
    let mut m = vec![ty, 0, 0, 0];
    m.extend(id.to_be_bytes());
    m.extend(b"\0\x01odd number");
    let sum = checksum(&m);
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    PacketBuf::from_frame(&ipv4(src, dst, 1, &m))
}

fn ipv6(src: [u8; 16], dst: [u8; 16], proto: u8, mut l4: Vec<u8>, csum_at: usize) -> PacketBuf {
    let sum = finish(add(pseudo_v6(&src, &dst, proto, l4.len() as u32), &l4));
    l4[csum_at..csum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
    f.extend((l4.len() as u16).to_be_bytes());
    f.extend([proto, 64]);
    f.extend(src);
    f.extend(dst);
    f.extend(l4);
    PacketBuf::from_frame(&f)
}

fn udp6(src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16) -> PacketBuf {
    let ports = [sport.to_be_bytes(), dport.to_be_bytes(), 11u16.to_be_bytes(), [0, 0]].concat();
    ipv6(src, dst, 17, [ports, b"odd".to_vec()].concat(), 6)
}

fn unreachable6(src: [u8; 16], dst: [u8; 16], quoted: &[u8]) -> PacketBuf {
    ipv6(src, dst, 58, [&[1, 4, 0, 0, 0, 0, 0, 0], quoted].concat(), 2)
}

#[test]
fn a_source_is_translated_and_its_answers_are_translated_back() {
    let net = net(NatKind::Src, V.into(), Some((4000, 4000)));
    let sent = udp(A, B, 1000, 53, b"query");
    for _ in 0..2 {
        assert_eq!(passed(&net, 1, &sent), ip(&udp(V, B, 4000, 53, b"query")));
        let answer = udp(B, V, 53, 4000, b"answer");
        assert_eq!(passed(&net, 2, &answer), ip(&udp(B, A, 53, 1000, b"answer")));
    }
}

#[test]
fn an_error_about_a_translated_packet_reaches_its_sender_in_his_own_terms() {
    let net = net(NatKind::Src, V.into(), Some((4000, 4000)));
    let sent = udp(A, B, 1000, 53, b"query");
    let seen = passed(&net, 1, &sent);
    // From its receiver, and from a router on the way that quotes eight bytes of payload only.
    for (who, quoted) in [(B, &seen[..]), ([10, 0, 0, 77], &seen[..28])] {
        let error = unreachable(who, V, quoted);
        let mut want = ip(&sent);
        want.truncate(quoted.len());
        let got = passed(&net, 2, &error);
        assert_eq!(got, ip(&unreachable(who, A, &want)));
    }
}

#[test]
fn a_destination_is_translated_and_an_error_comes_from_the_virtual_address() {
    let net = net(NatKind::Dst, B.into(), Some((8080, 8080)));
    let sent = udp(A, V, 1000, 80, b"query");
    let seen = passed(&net, 1, &sent);
    assert_eq!(seen, ip(&udp(A, B, 1000, 8080, b"query")));
    let answer = udp(B, A, 8080, 1000, b"answer");
    assert_eq!(passed(&net, 2, &answer), ip(&udp(V, A, 80, 1000, b"answer")));
    let error = unreachable(B, A, &seen);
    assert_eq!(passed(&net, 2, &error), ip(&unreachable(V, A, &ip(&sent))));
}

#[test]
fn two_virtual_ports_of_one_server_are_told_apart_by_the_source_port() {
    let net = net(NatKind::Dst, B.into(), Some((8080, 8080)));
    assert_eq!(passed(&net, 1, &udp(A, V, 1000, 80, b"1")), ip(&udp(A, B, 1000, 8080, b"1")));
    assert_eq!(passed(&net, 1, &udp(A, V, 1000, 81, b"2")), ip(&udp(A, B, 1001, 8080, b"2")));
    for (port, virtual_port) in [(1000, 80), (1001, 81)] {
        let answer = udp(B, A, 8080, port, b"answer");
        assert_eq!(passed(&net, 2, &answer), ip(&udp(V, A, virtual_port, 1000, b"answer")));
    }
    let error = unreachable(B, A, &ip(&udp(A, B, 1001, 8080, b"2")));
    let want = unreachable(V, A, &ip(&udp(A, V, 1000, 81, b"2")));
    assert_eq!(passed(&net, 2, &error), ip(&want));
}

#[test]
fn pings_with_one_identifier_stay_apart() {
    let net = net(NatKind::Src, V.into(), None);
    let c = [10, 0, 0, 3];
    assert_eq!(passed(&net, 1, &ping(A, B, 8, 77)), ip(&ping(V, B, 8, 77)));
    assert_eq!(passed(&net, 1, &ping(c, B, 8, 77)), ip(&ping(V, B, 8, 78)));
    assert_eq!(passed(&net, 2, &ping(B, V, 0, 78)), ip(&ping(B, c, 0, 77)));
    assert_eq!(passed(&net, 2, &ping(B, V, 0, 77)), ip(&ping(B, A, 0, 77)));
}

#[test]
fn ipv6_and_its_errors_are_translated() {
    let net = net(NatKind::Src, V6.into(), Some((4000, 4000)));
    let sent = udp6(A6, B6, 1000, 53);
    let seen = passed(&net, 1, &sent);
    assert_eq!(seen, ip(&udp6(V6, B6, 4000, 53)));
    assert_eq!(passed(&net, 2, &udp6(B6, V6, 53, 4000)), ip(&udp6(B6, A6, 53, 1000)));
    let error = unreachable6(B6, V6, &seen);
    assert_eq!(passed(&net, 2, &error), ip(&unreachable6(B6, A6, &ip(&sent))));
}

#[test]
fn a_checksum_that_the_device_will_complete_covers_the_new_address() {
    let net = net(NatKind::Src, V.into(), Some((4000, 4000)));
    // The field holds the sum of the pseudo-header, not complemented.
    let partial = |src: [u8; 4], sport| {
        let mut p = udp(src, B, sport, 53, b"query");
        let (s, d) = (u32::from_be_bytes(src), u32::from_be_bytes(B));
        let pseudo = !finish(packet::checksum::pseudo_v4(s, d, 17, 13));
        p.frame_mut()[40..42].copy_from_slice(&pseudo.to_be_bytes());
        p.offload =
            Offload { needs_csum: true, csum_start: 34, csum_offset: 6, ..Offload::default() };
        p
    };
    assert_eq!(passed(&net, 1, &partial(A, 1000)), ip(&partial(V, 4000)));
}

#[test]
fn without_a_free_port_a_packet_does_not_go_on_untranslated() {
    let net = net(NatKind::Src, V.into(), Some((4000, 4000)));
    passed(&net, 1, &udp(A, B, 1000, 53, b""));
    let outputs = net.send(1, &udp([10, 0, 0, 3], B, 1000, 53, b""));
    assert!(outputs.iter().all(Vec::is_empty));
    let stats = net.dp.stats();
    assert_eq!(stats.drops[DropReason::NatExhausted as usize], 1);
    assert_eq!(net.dp.conntrack().counters().insert_failed, 1);
    // The connection that has the port goes on.
    passed(&net, 2, &udp(B, V, 53, 4000, b""));
}
