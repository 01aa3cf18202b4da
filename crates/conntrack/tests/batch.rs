//! Packets that are looked up together get the verdicts that they would get one after the other.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use base::{Instant, Zone};
use common::{SECRET, Table, frame, view};
use conntrack::{
    ConnFilter, ConnSnapshot, CtInfo, CtRequest, Cursor, NatKind, NatRequest, Parse, Tracked, parse,
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
        elsewhere in 1..4_usize,
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
            let tracked: Vec<Tracked> = part.iter().enumerate().map(|(i, f)| {
                let mut t = Tracked::NOTHING;
                // Some were read for another zone before.
                let first = if i % elsewhere == 0 { req.zone } else { Zone(9) };
                t.read(&view(f), first, SECRET).unwrap();
                t.move_to(req.zone, SECRET);
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
