//! The other end of an OpenFlow connection.

use base::{OfPort, TableId};
use ofproto::{BridgeId, Environment, Port, Session, SessionKind};
use openflow::error::OfError;
use openflow::flow_mod::GROUP_ANY;
use openflow::message::*;
use openflow::version::Version;

use super::World;

/// A daemon that knows little.
pub struct Env;

impl Environment for Env {
    fn port_stats(&self, _: BridgeId, p: &Port) -> PortStats {
        PortStats { rx_packets: u64::from(p.ofport.0), ..PortStats::default() }
    }
    fn pull_flow_stats(&self) {}
    fn ct_flush(&self, _: &CtFlush) {}
}

pub fn session(w: &mut World, kind: SessionKind, version: Version) -> Session {
    let now = w.now;
    let mut s = Session::new(w.bridge(), kind, 0, now);
    let hello = received(&mut s);
    assert!(matches!(hello[..], [Message { body: Body::Hello(_), .. }]));
    send(w, &mut s, version, Body::Hello(version.bit()));
    assert_eq!(s.version(), Some(version));
    assert!(received(&mut s).is_empty());
    s
}

pub fn message(version: Version, xid: u32, body: Body) -> Message {
    Message { version, xid, nicira: false, more: false, body }
}

pub fn send(w: &mut World, s: &mut Session, version: Version, body: Body) {
    let bytes = message(version, 77, body).encode(Default::default()).unwrap();
    let now = w.now;
    s.input(&mut w.sw, &Env, now, &bytes);
}

/// What the peer would read.
pub fn received(s: &mut Session) -> Vec<Message> {
    let mut bytes = Vec::new();
    loop {
        let some = s.take_output();
        bytes.extend_from_slice(&some);
        // A long dump comes in steps.
        if some.len() < 256 << 10 {
            break;
        }
    }
    let (mut rest, mut out) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let n = openflow::message::frame_len(rest).unwrap().unwrap();
        let (frame, tail) = rest.split_at(n);
        out.push(Message::decode(frame, Default::default()).unwrap());
        rest = tail;
    }
    out
}

pub fn ask(w: &mut World, s: &mut Session, body: Body) -> Vec<Message> {
    let version = s.version().unwrap();
    send(w, s, version, body);
    received(s)
}

pub fn one(w: &mut World, s: &mut Session, body: Body) -> Body {
    let mut got = ask(w, s, body);
    assert_eq!(got.len(), 1, "{got:?}");
    let m = got.remove(0);
    assert_eq!(m.xid, 77);
    m.body
}

pub fn refused(w: &mut World, s: &mut Session, body: Body) -> OfError {
    let version = s.version().unwrap();
    let bytes = message(version, 77, body.clone()).encode(Default::default()).unwrap();
    let Body::Error(e) = one(w, s, body) else { panic!() };
    assert_eq!(e.data, bytes, "the offending message");
    e.error.unwrap()
}

/// A request for all flows.
pub fn all_flows() -> FlowStatsRequest {
    FlowStatsRequest {
        match_: flow::Match::ANY,
        cookie: 0,
        cookie_mask: 0,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table: TableId::ALL,
    }
}

pub fn deliver(w: &mut World, sessions: &mut [&mut Session]) {
    let now = w.now;
    for e in w.bridge().take_events() {
        for s in sessions.iter_mut() {
            s.notify(now, &e);
        }
    }
}
