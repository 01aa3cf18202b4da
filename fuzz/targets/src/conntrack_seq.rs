//! The connection table under a sequence of packets, time steps and deletions.
//!
//! Input: records. Kind 0 to 3 is a packet (3: of a helper's connection): a byte of request (commit, force, zone, trusted checksum, translation), a byte of
//! time in units of 100 ms, the frame. Kind 4 lets seconds pass and expires, 5 deletes a connection, 6 flushes.

use base::{Duration, HashKey, Instant, Zone};
use conntrack::{
    ConnFilter, Conntrack, CtConfig, CtRequest, Cursor, Helper, NatKind, NatRequest, PacketView,
};
use flow::PacketKey;
use packet::PacketBuf;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::input::Input;

/// So few that the limit is met.
const MAX_CONNS: usize = 6;

fn count(ct: &Conntrack, now: Instant) -> usize {
    let mut n = 0;
    ct.dump(now, &mut Cursor::default(), &ConnFilter::default(), usize::MAX, |c| {
        for tuple in [&c.orig, &c.reply] {
            assert!(ct.find(now, tuple, c.zone).is_some(), "what is listed is found");
        }
        n += 1;
    });
    n
}

/// A translation to the one address that there is.
fn nat(flags: u8, eth_type: u16) -> NatRequest {
    let to = match eth_type {
        0x86dd => IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 9)),
        _ => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)),
    };
    NatRequest {
        kind: Some(if flags & 0x40 != 0 { NatKind::Src } else { NatKind::Dst }),
        addrs: Some((to, to)),
        ports: (flags & 0x80 != 0).then_some((80, 81)),
        ..NatRequest::default()
    }
}

/// Feeds the table and checks after each step that count, listing and limit agree.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let config =
        CtConfig { max_conns: MAX_CONNS, tcp_seq_chk: input.u8() & 1 == 0, tcp_pick_up: true };
    let mut ct = Conntrack::new(HashKey([3, 4]), config);
    let mut now = Instant::from_secs(1000);
    let mut last = None;
    let mut steps = 0;
    while let Some((kind, mut body)) = input.record() {
        steps += 1;
        if steps > 200 {
            break;
        }
        match kind % 7 {
            0..=3 => {
                let flags = body.u8();
                now += Duration::from_millis(u64::from(body.u8()) * 100);
                let mut pkt = PacketBuf::from_frame(body.rest());
                let mut key = PacketKey::ZERO;
                flow::extract(&mut pkt, &mut key);
                pkt.offload.csum_valid = flags & 8 != 0;
                let req = CtRequest {
                    zone: Zone(u16::from(flags >> 4 & 1)),
                    commit: flags & 1 != 0,
                    force: flags & 2 != 0,
                    mark: (flags & 4 != 0).then_some((5, 7)),
                    nat: (flags & 0x20 != 0).then(|| nat(flags, key.dl_type)),
                    helper: (kind % 7 == 3).then_some(match key.nw_proto {
                        17 => Helper::Tftp,
                        _ => Helper::Ftp,
                    }),
                    ..CtRequest::default()
                };
                let mut edit = None;
                let info = ct.process(now, &PacketView::of(&pkt, key.dl_type), &req, &mut edit);
                if let Some(text) = edit.and_then(|e| e.text) {
                    assert!(usize::from(text.at) + usize::from(text.len) <= pkt.len());
                }
                if let Some(id) = info.conn {
                    assert!(ct.get(now, id).is_some(), "a verdict names a connection that lives");
                    last = Some(id);
                }
                assert!(info.invalid.is_none() || info.conn.is_none());
            }
            4 => {
                now += Duration::from_secs(u64::from(body.u16()));
                while ct.expire(now, 3).more {}
                assert_eq!(count(&ct, now), ct.len(), "after expiry all that is counted lives");
                assert_eq!(ct.next_timeout().is_none(), ct.is_empty());
            }
            5 => {
                if let Some(id) = last.take() {
                    let before = ct.len();
                    let there = ct.delete_id(now, id);
                    assert_eq!(ct.len() + usize::from(there), before);
                    assert!(ct.get(now, id).is_none());
                }
            }
            _ => {
                ct.flush(now);
                assert!(ct.is_empty());
            }
        }
        assert!(ct.len() <= MAX_CONNS);
        assert!(count(&ct, now) <= ct.len());
        let mut n_expected = 0;
        let mut cursor = Cursor::default();
        ct.dump_expected(now, &mut cursor, None, usize::MAX, |_| n_expected += 1);
        assert!(n_expected <= 8 * ct.len(), "expectations go with their connections");
    }
}
