//! Packets that are looked up together get the verdicts that they would get one after the other.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use base::{Instant, Zone};
use common::{SECRET, Table};
use conntrack::{
    ConnFilter, ConnSnapshot, CtInfo, CtRequest, Cursor, NatKind, NatRequest, PacketView, Parse,
    Tracked, parse,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

const T0: Instant = Instant::from_secs(100);

impl Table {
    /// All connections, by their tuples.
    fn connections(&self) -> Vec<ConnSnapshot> {
        let mut all = Vec::new();
        for shard in &self.0 {
            let (shard, mut cursor) = (shard.lock(), Cursor::default());
            shard.dump(T0, &mut cursor, &ConnFilter::default(), usize::MAX, |c| all.push(*c));
        }
        all.sort_by_key(|c| format!("{:?}", (c.orig, c.reply)));
        all
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut sum = conntrack::Counters::default();
        self.0.iter().for_each(|s| sum.add(s.lock().counters()));
        sum.rows().collect()
    }
}

/// A packet between client `n` and the server: TCP with these flags, or UDP.
fn frame(n: u8, up: bool, tcp: Option<u8>) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, n], [192, 0, 2, 1]);
    let (src, dst) = if up { (client, server) } else { (server, client) };
    let ports: [u16; 2] = if up { [1000, 80] } else { [80, 1000] };
    let mut body = ports.map(u16::to_be_bytes).concat();
    match tcp {
        Some(flags) => body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 255, 255, 0, 0, 0, 0]),
        None => body.extend([0, 8, 0, 0]),
    }
    let mut ip = vec![0x45, 0, 0, 20 + body.len() as u8, 0, 0, 0, 0, 64];
    ip.extend([if tcp.is_some() { 6 } else { 17 }, 0, 0]);
    ip.extend(src);
    ip.extend(dst);
    let sum = packet::checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(body);
    ip
}

fn view(frame: &[u8]) -> PacketView<'_> {
    PacketView { frame, l3: 0, eth_type: 0x800, csum_trusted: true }
}

/// What does not depend on where a connection is stored.
fn said(info: &CtInfo) -> String {
    let CtInfo { state, zone, mark, orig, dir, invalid, outcome, nat, .. } = info;
    format!("{state:?} {zone:?} {mark} {orig:?} {dir:?} {invalid:?} {outcome:?} {nat:?}")
}

fn packet() -> impl Strategy<Value = (u8, bool, Option<u8>)> {
    let flags = prop::sample::select(vec![2_u8, 0x12, 0x10, 0x11, 4]);
    (0..6_u8, any::<bool>(), prop::option::of(flags))
}

proptest! {
    #[test]
    fn together_or_one_by_one(
        packets in prop::collection::vec(packet(), 1..100),
        n_shards in 1..20_u16,
        batch in 1..70_usize,
        commit in any::<bool>(),
        force in any::<bool>(),
        translate in any::<bool>(),
    ) {
        let public = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let nat = NatRequest {
            kind: Some(NatKind::Src),
            addrs: Some((public, public)),
            ..NatRequest::default()
        };
        let req = CtRequest {
            zone: Zone(3),
            commit,
            force,
            mark: Some((7, 7)),
            nat: translate.then_some(nat),
            ..CtRequest::default()
        };
        let (alone, together) = (Table::new(n_shards, 1000), Table::new(n_shards, 1000));
        let frames: Vec<Vec<u8>> = packets.iter().map(|&(n, up, tcp)| frame(n, up, tcp)).collect();
        for part in frames.chunks(batch) {
            let expected: Vec<String> = part.iter().map(|f| {
                let Parse::Packet(p) = parse(&view(f), req.zone) else { panic!("not a packet") };
                said(&conntrack::process(&alone, T0, &p, &req))
            }).collect();
            let tracked: Vec<Tracked> = part.iter().map(|f| {
                let mut t = Tracked::NOTHING;
                t.read(&view(f), req.zone, SECRET).unwrap();
                t
            }).collect();
            let mut got = vec![String::new(); part.len()];
            conntrack::process_batch(&together, T0, &tracked, &req, |_| &[], |i, info, _| {
                assert!(got[i].is_empty(), "{i} twice");
                got[i] = said(info);
            });
            // Translated connections compete for tuples, so it counts who comes first.
            if !translate {
                prop_assert_eq!(&expected, &got);
            }
            prop_assert!(got.iter().all(|g| !g.is_empty()));
        }
        let of = |t: &Table| {
            let conns = t.connections().into_iter();
            conns.map(|c| (c.orig, c.traffic, c.mark, c.tcp)).collect::<Vec<_>>()
        };
        if !translate {
            prop_assert_eq!(of(&alone), of(&together));
            prop_assert_eq!(alone.counters(), together.counters());
        }
        prop_assert_eq!(alone.connections().len(), together.connections().len());
    }
}
