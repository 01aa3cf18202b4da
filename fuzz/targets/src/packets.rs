//! Received frames: extraction of the key, completion of checksums, segmentation.
//!
//! Input: a virtio-net header of 10 bytes, as a guest or another host process writes it, then the frame.

use flow::PacketKey;
use packet::checksum::checksum;
use packet::header::ethertype;
use packet::segment::{Segments, finish_checksum};
use packet::{Offload, PacketBuf};

use crate::input::Input;

/// Extracts and segments; checks that layers are inside, that nothing depends on what was before, and that
/// segments are as many as announced, have whole headers and right IP checksums.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let header = input.array();
    let frame = input.rest();
    let mut pkt = PacketBuf::from_frame(frame);
    let mut key = PacketKey::ZERO;
    flow::extract(&mut pkt, &mut key);
    assert_eq!(pkt.frame(), frame, "looking changes nothing");
    let (l3, l4) = (pkt.l3(), pkt.l4());
    assert!(l3.is_none_or(|o| o <= frame.len()) && l4.is_none_or(|o| o <= frame.len()));
    assert!(l4.is_none() || l3 <= l4);
    let mut again = PacketKey::ZERO;
    flow::extract(&mut pkt, &mut again);
    assert!(key == again && (l3, l4) == (pkt.l3(), pkt.l4()));
    let Some(offload) = Offload::from_bytes(&header) else { return };
    pkt.offload = offload;
    if !offload.is_gso() {
        let finished = finish_checksum(&mut pkt);
        assert_eq!(pkt.len(), frame.len());
        assert!(finished.is_err() || !pkt.offload.needs_csum);
        return;
    }
    let Ok(mut segments) = Segments::of(&pkt) else { return };
    let n = segments.remaining();
    let mut out = PacketBuf::with_capacity(64);
    let mut made = 0;
    while segments.next_into(&mut out) {
        made += 1;
        assert!(made <= n, "more segments than announced");
        assert!(out.len() <= frame.len() && !out.offload.is_gso());
        let mut of_segment = PacketKey::ZERO;
        flow::extract(&mut out, &mut of_segment);
        // A large packet may say a wrong length, so that extraction stops; its segments do not.
        if l4.is_some() {
            assert_eq!((of_segment.dl_type, of_segment.nw_proto), (key.dl_type, key.nw_proto));
            assert_eq!((of_segment.tp_src, of_segment.tp_dst), (key.tp_src, key.tp_dst));
        }
        if let (ethertype::IPV4, Some(l3)) = (of_segment.dl_type, out.l3()) {
            let len = usize::from(out.frame()[l3] & 15) * 4;
            assert_eq!(checksum(&out.frame()[l3..l3 + len]), 0, "IP checksum of a segment");
        }
    }
    assert_eq!(made, n);
}
