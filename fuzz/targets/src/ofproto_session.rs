//! An OpenFlow session with a switch, and the translation of packets under whatever it configured.
//!
//! Input: a byte for the version, then records: kind 0 is bytes for the session as they are; kind 1 a message
//! whose version and length are put right; kind 2 a port byte and a frame to translate; kind 3 lets time pass.

use std::sync::{Arc, Mutex, PoisonError};

use base::{DpPort, Duration, HashKey, Instant, MacAddr, OfPort, RecircId};
use flow::text::flow_mask;
use flow::{FlowKey, PACKET_WORDS, PacketKey};
use ofproto::{
    Bridge, BridgeId, BridgeSpec, Environment, FailMode, Frozen, Port, PortSpec, RecircStore,
    RecircTable, Session, SessionKind, Switch,
};
use openflow::Version;
use openflow::message::{Body, CtFlush, Message, PortStats, frame_len};
use packet::PacketBuf;
use packet::header::ipproto;

use crate::input::{Input, Random};
use crate::openflow_msg::SESSION;

#[derive(Debug, Default)]
struct Recircs(Mutex<RecircTable>);

impl RecircStore for Recircs {
    fn intern(&self, state: Frozen) -> (RecircId, Arc<Frozen>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).intern(state)
    }
    fn get(&self, id: RecircId) -> Option<Arc<Frozen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id)
    }
}

struct NoCounters;

impl Environment for NoCounters {
    fn port_stats(&self, _bridge: BridgeId, _port: &Port) -> PortStats {
        PortStats::default()
    }
    fn pull_flow_stats(&self) {}

    fn ct_flush(&self, _: &CtFlush) {}
}

/// A bridge with LOCAL and two more ports.
fn switch(now: Instant) -> (Switch, BridgeId) {
    let mut sw = Switch::new(HashKey([1, 2]), Arc::new(Recircs::default()));
    let spec = BridgeSpec { fail_mode: FailMode::Secure, ..BridgeSpec::default() };
    let bridge = sw.put_bridge("br0", spec, now);
    for (of, dp, name) in [(OfPort::LOCAL, 1, "br0"), (OfPort(2), 2, "p2"), (OfPort(3), 3, "p3")] {
        let spec = PortSpec {
            name: name.into(),
            dp_port: DpPort(dp),
            mac: MacAddr([0xaa, 0, 0, 0, 0, dp as u8]),
            admin_up: true,
            link_up: true,
            ..PortSpec::default()
        };
        sw.put_port(bridge, of, spec, now);
    }
    (sw, bridge)
}

/// What came out of the session is OpenFlow.
fn check_output(session: &mut Session) {
    let out = session.take_output();
    let mut rest = &out[..];
    while !rest.is_empty() {
        let Ok(Some(n)) = frame_len(rest) else { panic!("no message: {rest:02x?}") };
        let (message, tail) = rest.split_at(n);
        if let Err(e) = Message::decode(message, SESSION) {
            panic!("a reply that cannot be read: {e}: {message:02x?}");
        }
        rest = tail;
    }
}

/// A key that agrees with `key` on the bits of `mask` and is of the same kind of packet.
fn twin(key: &PacketKey, mask: &PacketKey, random: &mut Random) -> PacketKey {
    let meaning = flow_mask(&FlowKey::from(*key)).pkt;
    let mut twin = *key;
    for i in 0..PACKET_WORDS {
        let free = meaning.words()[i] & !mask.words()[i];
        twin.words_mut()[i] ^= free & random.next_u64();
    }
    // Which headers there are is as before, and what no packet off the wire has.
    twin.in_port = key.in_port;
    (twin.dl_type, twin.nw_proto, twin.nw_frag) = (key.dl_type, key.nw_proto, key.nw_frag);
    (twin.vlans, twin.mpls_lse) = (key.vlans, key.mpls_lse);
    (twin.recirc_id, twin.dp_hash, twin.ct_state) = (key.recirc_id, key.dp_hash, key.ct_state);
    (twin.skb_priority, twin.pkt_mark, twin.tunnel) = (key.skb_priority, key.pkt_mark, key.tunnel);
    (twin.ct_zone, twin.ct_mark, twin.ct_label) = (key.ct_zone, key.ct_mark, key.ct_label);
    (twin.ct_nw_proto, twin.ct_nw_src, twin.ct_nw_dst) =
        (key.ct_nw_proto, key.ct_nw_src, key.ct_nw_dst);
    (twin.ct_ipv6_src, twin.ct_ipv6_dst) = (key.ct_ipv6_src, key.ct_ipv6_dst);
    (twin.ct_tp_src, twin.ct_tp_dst) = (key.ct_tp_src, key.ct_tp_dst);
    if key.nw_proto == ipproto::ICMPV6 {
        (twin.tp_src, twin.tp_dst, twin.nd_options_type) =
            (key.tp_src, key.tp_dst, key.nd_options_type);
    }
    twin
}

fn packet(sw: &mut Switch, now: Instant, mut body: Input<'_>) {
    let in_port = 1 + body.below(3) as u32;
    let frame = body.rest();
    let mut key = PacketKey { in_port, ..PacketKey::ZERO };
    flow::extract(&mut PacketBuf::from_frame(frame), &mut key);
    let out = sw.xlate(now, &key, None);
    // A recirculated packet is translated on from where it was frozen.
    for id in 1..4 {
        let thawed = PacketKey { recirc_id: id, ct_state: 0x21, ..key };
        let _ = sw.xlate(now, &thawed, None);
    }
    let seed = frame.iter().fold(7, |s: u64, b| s.wrapping_mul(31).wrapping_add(u64::from(*b)));
    let mut random = Random(seed);
    for _ in 0..4 {
        let twin = twin(&key, &out.mask, &mut random);
        let other = sw.xlate(now, &twin, None);
        assert!(
            other.actions == out.actions && other.drop == out.drop,
            "{key:?}\nand its twin {twin:?}\nagree on {:?}, but have {:?} and {:?}",
            out.mask,
            out.actions,
            other.actions
        );
    }
    sw.apply(now, &out.effects);
}

/// Plays the records.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let version = Version::ALL[input.below(Version::ALL.len())];
    let mut now = Instant::from_secs(100);
    let (mut sw, id) = switch(now);
    let Some(bridge) = sw.bridge_mut(id) else { return };
    let mut session = Session::new(bridge, SessionKind::Controller, version.bit(), now);
    if let Ok(hello) = Message::new(version, 1, Body::Hello(version.bit())).encode(SESSION) {
        session.input(&mut sw, &NoCounters, now, &hello);
    }
    let mut steps = 0;
    while let Some((kind, body)) = input.record() {
        steps += 1;
        if steps > 64 {
            break;
        }
        match kind & 3 {
            0 => session.input(&mut sw, &NoCounters, now, body.clone().rest()),
            1 => {
                let mut message = body.clone().rest().to_vec();
                if message.len() < 8 {
                    message.resize(8, 0);
                }
                message[0] = version as u8;
                let len = message.len().min(0xffff) as u16;
                message[2..4].copy_from_slice(&len.to_be_bytes());
                session.input(&mut sw, &NoCounters, now, &message);
            }
            2 => packet(&mut sw, now, body),
            _ => {
                now += Duration::from_secs(body.clone().u16().into());
                if let Some(b) = sw.bridge_mut(id) {
                    b.expire(now);
                }
            }
        }
        let events = sw.bridge_mut(id).map(Bridge::take_events).unwrap_or_default();
        for event in events {
            session.notify(now, &event);
        }
        check_output(&mut session);
    }
}
