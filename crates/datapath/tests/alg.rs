//! FTP control connections behind a translated address: what comes out is byte for byte what the client
//! would have sent from the other address, checksums, numbers and acknowledgments included.

mod common;

use base::Zone;
use common::{Net, Policy, Tcp, ipv4, out, tcp};
use conntrack::{CtRequest, Helper, NatKind, NatRequest};
use dpif::DpAction;
use flow::PacketKey;
use packet::checksum::{add, finish, pseudo_v4, pseudo_v6};
use packet::{Offload, PacketBuf};
use proptest::prelude::*;
use std::net::IpAddr;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
/// The address that the world sees.
const V: [u8; 4] = [203, 0, 113, 240];
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Port 1 has clients behind one address, port 2 the world.
fn net(to: IpAddr) -> Net {
    let policy = Policy::new(move |k| {
        let nat = NatRequest {
            kind: (k.in_port == 1).then_some(NatKind::Src),
            addrs: (k.in_port == 1).then_some((to, to)),
            ..NatRequest::default()
        };
        let request = CtRequest {
            zone: Zone(7),
            commit: true,
            nat: Some(nat),
            helper: Some(Helper::Ftp),
            ..CtRequest::default()
        };
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

fn up(src: [u8; 4], flags: u8, seq: u32, ack: u32, text: &[u8]) -> PacketBuf {
    tcp(Tcp { src, dst: B, sport: 4000, dport: 21, seq, ack, flags }, text)
}

fn down(dst: [u8; 4], flags: u8, seq: u32, ack: u32, text: &[u8]) -> PacketBuf {
    tcp(Tcp { src: B, dst, sport: 21, dport: 4000, seq, ack, flags }, text)
}

/// An acknowledgment with blocks behind it.
fn sack(dst: [u8; 4], ack: u32, blocks: [u32; 4]) -> PacketBuf {
    let mut l4 = vec![0, 21, 0x0f, 0xa0];
    l4.extend(501_u32.to_be_bytes());
    l4.extend(ack.to_be_bytes());
    l4.extend([0xa0, ACK, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 5, 18]);
    blocks.iter().for_each(|b| l4.extend(b.to_be_bytes()));
    let pseudo = pseudo_v4(u32::from_be_bytes(B), u32::from_be_bytes(dst), 6, l4.len() as u32);
    let sum = finish(add(pseudo, &l4));
    l4[16..18].copy_from_slice(&sum.to_be_bytes());
    PacketBuf::from_frame(&ipv4(B, dst, 6, &l4))
}

fn ip(p: &PacketBuf) -> Vec<u8> {
    p.frame()[14..].to_vec()
}

fn open(net: &Net) {
    assert_eq!(passed(net, 1, &up(A, SYN, 100, 0, b"")), ip(&up(V, SYN, 100, 0, b"")));
    passed(net, 2, &down(V, SYN | ACK, 500, 101, b""));
    passed(net, 1, &up(A, ACK, 101, 501, b""));
}

#[test]
fn a_message_and_all_behind_it_are_as_if_sent_from_the_other_address() {
    let net = net(V.into());
    open(&net);
    let (own, public) = (&b"PORT 10,0,0,1,4,1\r\n"[..], &b"PORT 203,0,113,240,4,1\r\n"[..]);
    let (n, m) = (own.len() as u32, public.len() as u32);
    for _again in 0..2 {
        let got = passed(&net, 1, &up(A, ACK, 101, 501, own));
        assert_eq!(got, ip(&up(V, ACK, 101, 501, public)));
    }
    let ok = b"200 odd\r\n";
    let got = passed(&net, 2, &down(V, ACK, 501, 101 + m, ok));
    assert_eq!(got, ip(&down(A, ACK, 501, 101 + n, ok)));
    let got = passed(&net, 1, &up(A, ACK, 101 + n, 510, b"LIST\r\n"));
    assert_eq!(got, ip(&up(V, ACK, 101 + m, 510, b"LIST\r\n")));
    // The server has the command that followed, and misses the first.
    let got = passed(&net, 2, &sack(V, 101, [101 + m, 107 + m, 101, 101 + m]));
    assert_eq!(got, ip(&sack(A, 101, [101 + n, 107 + n, 101, 101 + n])));
    // The data connection reaches the client.
    let data =
        |dst| tcp(Tcp { src: B, dst, sport: 20, dport: 1025, seq: 1, ack: 0, flags: SYN }, b"");
    assert_eq!(passed(&net, 2, &data(V)), ip(&data(A)));
}

#[test]
fn a_checksum_that_the_device_will_complete_covers_the_new_length() {
    let net = net(V.into());
    open(&net);
    let partial = |src: [u8; 4], text: &[u8]| {
        let mut p = up(src, ACK, 101, 501, text);
        let (s, d) = (u32::from_be_bytes(src), u32::from_be_bytes(B));
        let pseudo = !finish(pseudo_v4(s, d, 6, 20 + text.len() as u32));
        p.frame_mut()[50..52].copy_from_slice(&pseudo.to_be_bytes());
        p.offload =
            Offload { needs_csum: true, csum_start: 34, csum_offset: 16, ..Offload::default() };
        p
    };
    let got = passed(&net, 1, &partial(A, b"PORT 10,0,0,1,4,1\r\n"));
    assert_eq!(got, ip(&partial(V, b"PORT 203,0,113,240,4,1\r\n")));
}

#[test]
fn an_ipv6_message_is_changed_too() {
    let at = |n: u16| std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, n);
    let tcp6 = |src: u16, flags: u8, seq: u32, text: &[u8]| {
        let mut l4 = vec![0x0f, 0xa0, 0, 21];
        l4.extend(seq.to_be_bytes());
        l4.extend(501_u32.to_be_bytes());
        l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        l4.extend(text);
        let (src, dst) = (at(src).octets(), at(2).octets());
        let sum = finish(add(pseudo_v6(&src, &dst, 6, l4.len() as u32), &l4));
        l4[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
        f.extend((l4.len() as u16).to_be_bytes());
        f.extend([6, 64]);
        f.extend(src);
        f.extend(dst);
        f.extend(l4);
        PacketBuf::from_frame(&f)
    };
    let net = net(at(0x240).into());
    passed(&net, 1, &tcp6(1, SYN, 100, b""));
    let got = passed(&net, 1, &tcp6(1, ACK, 101, b"EPRT |2|fc00::1|1025|\r\n"));
    assert_eq!(got, ip(&tcp6(0x240, ACK, 101, b"EPRT |2|fc00::240|1025|\r\n")));
    let got = passed(&net, 1, &tcp6(1, ACK, 124, b"LIST\r\n"));
    assert_eq!(got, ip(&tcp6(0x240, ACK, 126, b"LIST\r\n")));
}

proptest! {
    /// Whatever address is there and comes, the stream stays whole and the checksums right.
    #[test]
    fn any_address_and_any_tail(to: [u8; 4], tail in "[ -~]{0,40}\r\n", rounds in 1_u32..6) {
        prop_assume!(to != [0; 4] && to != B && to != A);
        let net = net(to.into());
        passed(&net, 1, &up(A, SYN, 100, 0, b""));
        let own = format!("PORT 10,0,0,1,4,1\r\n{tail}");
        let [a, b, c, d] = to;
        let public = format!("PORT {a},{b},{c},{d},4,1\r\n{tail}");
        for i in 0..rounds {
            let (sent, seen) = (101 + i * own.len() as u32, 101 + i * public.len() as u32);
            let got = passed(&net, 1, &up(A, ACK, sent, 501, own.as_bytes()));
            prop_assert_eq!(got, ip(&up(to, ACK, seen, 501, public.as_bytes())));
        }
    }
}
