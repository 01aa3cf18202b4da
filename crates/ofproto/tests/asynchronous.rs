//! Asynchronous messages and roles: who hears what.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;

use base::{OfPort, TableId};
use common::World;
use common::peer::{ask, deliver, one, received, refused, send, session};
use ofproto::{BridgeId, Environment, Event, LimitStats, Port, RateLimit, Session, SessionKind};
use openflow::action::{Action, ControllerAction, PacketInReason};
use openflow::error::OfError;
use openflow::flow_mod::FlowMod;
use openflow::message::*;
use openflow::version::Version;

/// Sends packets of flows to controllers, as the datapath would.
fn packet_ins(w: &mut World, packets: &[&str], sessions: &mut [&mut Session]) {
    for packet in packets {
        let key = w.dp_key(packet);
        for a in w.run_key(&key).actions {
            let dpif::DpAction::Userspace(u) = a else { panic!("{a:?}") };
            let dpif::UserspaceCookie::Controller(u) = *u else { panic!() };
            let (_, e) = w.sw.packet_in(&u, &[5; 300], &key).unwrap();
            for s in sessions.iter_mut() {
                s.notify(w.now, &e);
            }
        }
    }
}

fn controller(c: ControllerAction) -> Action {
    Action::Controller(Box::new(c))
}

/// Reasons of the packet-ins that a session gets.
fn reasons(s: &mut Session) -> Vec<PacketInReason> {
    let reason = |m: Message| match m.body {
        Body::PacketIn(p) => p.reason,
        other => panic!("{other:?}"),
    };
    received(s).into_iter().map(reason).collect()
}

#[test]
fn a_controller_hears_what_a_tool_does_not() {
    for v in Version::ALL {
        let mut w = World::new();
        w.bridge().take_events();
        let mut c = session(&mut w, SessionKind::Controller, v);
        let mut t = session(&mut w, SessionKind::Service, v);
        w.add("in_port=2,hard_timeout=3,send_flow_rem,cookie=6", &[]);
        w.pass(4);
        let now = w.now;
        w.bridge().expire(now);
        w.port(7, 7, "new", Default::default());
        deliver(&mut w, &mut [&mut c, &mut t]);
        let got = received(&mut c);
        let [
            Message { body: Body::FlowRemoved(r), .. },
            Message { body: Body::PortStatus(PortReason::Add, p), .. },
            enabled @ ..,
        ] = &got[..]
        else {
            panic!("{got:?}")
        };
        assert_eq!((r.cookie, r.duration.as_secs(), p.port), (6, 4, OfPort(7)));
        // 1.0 has no word for what follows.
        assert_eq!(enabled.len(), usize::from(v > Version::Of10), "{enabled:?}");
        for m in enabled {
            let Body::PortStatus(PortReason::Modify, p) = &m.body else { panic!("{m:?}") };
            assert_eq!(p.state, port_state::LIVE);
        }
        assert!(received(&mut t).is_empty());
        let config = SwitchConfig { miss_send_len: 20, ..SwitchConfig::default() };
        send(&mut w, &mut t, v, Body::SetConfig(config));
        let br = w.br;
        w.sw.remove_port(br, OfPort(7));
        deliver(&mut w, &mut [&mut c, &mut t]);
        assert_eq!((received(&mut c).len(), received(&mut t).len()), (1, 1));
    }
}

#[test]
fn packet_ins_are_whole_and_say_why_as_the_version_does() {
    use PacketInReason as R;
    for v in Version::ALL {
        let mut w = World::new();
        let mut c = session(&mut w, SessionKind::Controller, v);
        assert_eq!(c.wants_misses(), v < Version::Of13);
        w.bridge().set_miss_to_controller(c.wants_misses());
        w.add("udp", &[Action::Output { port: OfPort::CONTROLLER, max_len: 10 }]);
        for (table, reason) in [(1, R::Group), (2, R::ActionSet), (3, R::InvalidTtl)] {
            w.add(
                &format!("udp,tp_dst={table},priority=40000"),
                &[controller(ControllerAction { reason, ..ControllerAction::default() })],
            );
        }
        w.bridge().take_events();
        packet_ins(
            &mut w,
            &["in_port=2,udp", "in_port=2,udp,udp_dst=1", "in_port=2,udp,udp_dst=2"],
            &mut [&mut c],
        );
        packet_ins(&mut w, &["in_port=2,udp,udp_dst=3", "in_port=2,tcp"], &mut [&mut c]);
        let mut got = Vec::new();
        for m in received(&mut c) {
            let Body::PacketIn(p) = m.body else { panic!() };
            assert_eq!((p.packet.len(), p.total_len), (300, 300));
            assert_eq!(p.metadata.key.pkt.in_port, 2);
            got.push(p.reason);
        }
        // A TTL that ran out is told to who asks for it.
        let mut want = match v < Version::Of14 {
            true => vec![R::Action, R::Action, R::Action],
            false => vec![R::Action, R::Group, R::ActionSet],
        };
        want.extend((v < Version::Of13).then_some(R::NoMatch));
        assert_eq!(got, want, "{v}");
    }
}

#[test]
fn a_table_miss_flow_is_a_miss_since_1_3() {
    for v in Version::ALL {
        for format in [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2] {
            let mut w = World::new();
            let mut c = session(&mut w, SessionKind::Controller, v);
            send(&mut w, &mut c, v, Body::SetPacketInFormat(format));
            w.add("priority=0,cookie=9", &[controller(ControllerAction::default())]);
            w.bridge().take_events();
            packet_ins(&mut w, &["in_port=2,udp"], &mut [&mut c]);
            let got = received(&mut c);
            let [Message { body: Body::PacketIn(p), .. }] = &got[..] else { panic!("{got:?}") };
            let miss =
                if v < Version::Of13 { PacketInReason::Action } else { PacketInReason::NoMatch };
            assert_eq!((p.format, p.reason), (format, miss));
        }
    }
}

#[test]
fn a_controller_id_chooses_who_gets_it() {
    let mut w = World::new();
    let v = Version::Of13;
    let mut a = session(&mut w, SessionKind::Controller, v);
    let mut b = session(&mut w, SessionKind::Controller, v);
    send(&mut w, &mut b, v, Body::SetControllerId(123));
    let to = ControllerAction { controller_id: 123, ..ControllerAction::default() };
    w.add("udp", &[controller(ControllerAction::default()), controller(to)]);
    w.bridge().take_events();
    packet_ins(&mut w, &["in_port=2,udp"], &mut [&mut a, &mut b]);
    assert_eq!((received(&mut a).len(), received(&mut b).len()), (1, 1));
}

/// A request with masks of (packet-in, port-status) for the primary and the secondary side.
fn wanted(v: Version, masks: [(u32, u32); 2]) -> SetAsync {
    let mut s = SetAsync::default();
    let mut said = 0;
    for (secondary, (packet_in, port_status)) in [false, true].into_iter().zip(masks) {
        *s.config.mask_mut(AsyncClass::PacketIn, secondary) = packet_in;
        *s.config.mask_mut(AsyncClass::PortStatus, secondary) = port_status;
        said |= 5 << u8::from(secondary);
    }
    s.said = (v >= Version::Of14).then_some(said);
    s
}

#[test]
fn what_was_asked_for_is_heard_and_told() {
    use PacketInReason as R;
    for v in Version::ALL {
        let mut w = World::new();
        let mut c = session(&mut w, SessionKind::Controller, v);
        let bit = |r: R| 1 << (r as u32);
        let set = wanted(v, [(bit(R::InvalidTtl), 0b10), (bit(R::Action) | bit(R::NoMatch), 0)]);
        send(&mut w, &mut c, v, Body::SetAsync(set));
        assert!(received(&mut c).is_empty());
        for (n, reason) in [R::NoMatch, R::Action, R::InvalidTtl].into_iter().enumerate() {
            let to = ControllerAction { reason, ..ControllerAction::default() };
            w.add(&format!("udp,tp_dst={n}"), &[controller(to)]);
        }
        w.add("priority=0", &[controller(ControllerAction::default())]);
        w.bridge().take_events();
        let packets = [
            "in_port=2,udp",
            "in_port=2,udp,udp_dst=1",
            "in_port=2,udp,udp_dst=2",
            "in_port=2,tcp",
        ];
        packet_ins(&mut w, &packets, &mut [&mut c]);
        w.port(7, 7, "new", Default::default());
        let br = w.br;
        w.sw.remove_port(br, OfPort(7));
        deliver(&mut w, &mut [&mut c]);
        let got = received(&mut c);
        let [
            Message { body: Body::PacketIn(p), .. },
            Message { body: Body::PortStatus(PortReason::Delete, _), .. },
        ] = &got[..]
        else {
            panic!("{v}: {got:?}")
        };
        assert_eq!(p.reason, R::InvalidTtl);
        if v >= Version::Of13 {
            let Body::GetAsyncReply(told) = one(&mut w, &mut c, Body::GetAsyncRequest) else {
                panic!()
            };
            for secondary in [false, true] {
                for class in [AsyncClass::PacketIn, AsyncClass::PortStatus] {
                    assert_eq!(
                        told.mask(class, secondary),
                        set.config.mask(class, secondary),
                        "{class:?}"
                    );
                }
            }
            // The older form says all; properties leave alone what they do not name.
            let removed = told.mask(AsyncClass::FlowRemoved, false);
            assert_eq!(removed, if v >= Version::Of14 { 0x3f } else { 0 });
        }
        // The other side: misses are what they are in the version.
        let slave = Body::RoleRequest(Role { role: 3, generation_id: Some(1) });
        let mut m = Message::new(v, 4, slave);
        m.nicira = v < Version::Of12;
        let bytes = m.encode(Default::default()).unwrap();
        let now = w.now;
        c.input(&mut w.sw, &common::peer::Env, now, &bytes);
        received(&mut c);
        packet_ins(&mut w, &packets, &mut [&mut c]);
        let miss = if v < Version::Of13 { R::Action } else { R::NoMatch };
        assert_eq!(reasons(&mut c), [R::NoMatch, R::Action, miss], "{v}");
    }
}

#[test]
fn a_port_mod_is_news_to_others() {
    for v in Version::ALL {
        let mut w = World::new();
        w.bridge().take_events();
        let mut a = session(&mut w, SessionKind::Controller, v);
        let mut b = session(&mut w, SessionKind::Controller, v);
        let hw_addr = w.bridge().port(OfPort(2)).unwrap().spec.mac;
        let bits = port_config::NO_FWD;
        let m = PortMod { port: OfPort(2), hw_addr, config: bits, mask: bits, advertise: 0 };
        assert!(ask(&mut w, &mut a, Body::PortMod(m)).is_empty());
        deliver(&mut w, &mut [&mut a, &mut b]);
        assert_eq!(received(&mut a).len(), usize::from(v == Version::Of15), "{v}");
        let got = received(&mut b);
        let [Message { body: Body::PortStatus(PortReason::Modify, p), .. }] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!(p.config, bits);
        // 1.1 and later have no word for this bit.
        w.config(2, bits | port_config::NO_FLOOD);
        deliver(&mut w, &mut [&mut a, &mut b]);
        for s in [&mut a, &mut b] {
            assert_eq!(received(s).len(), usize::from(v == Version::Of10), "{v}");
        }
        // Down: not live at once, and the link follows.
        let bits = port_config::PORT_DOWN;
        let m = PortMod { port: OfPort(2), hw_addr, config: bits, mask: bits, advertise: 0 };
        assert!(ask(&mut w, &mut a, Body::PortMod(m)).is_empty());
        let events = w.bridge().take_events();
        let down = |e: &Event| matches!(e, Event::SetPortAdmin { up: false, .. });
        assert!(events.iter().any(down), "{events:?}");
        assert!(!w.bridge().port(OfPort(2)).unwrap().is_live());
    }
}

#[test]
fn one_primary_at_a_time_and_secondaries_only_look() {
    for v in [Version::Of12, Version::Of13, Version::Of14, Version::Of15] {
        let mut w = World::new();
        w.bridge().take_events();
        let mut a = session(&mut w, SessionKind::Controller, v);
        let mut b = session(&mut w, SessionKind::Controller, v);
        let role = |role, id| Body::RoleRequest(Role { role, generation_id: Some(id) });
        let reply = one(&mut w, &mut a, role(2, 5));
        assert_eq!(reply, Body::RoleReply(Role { role: 2, generation_id: Some(5) }));
        one(&mut w, &mut b, role(2, 6));
        deliver(&mut w, &mut [&mut a, &mut b]);
        assert_eq!((a.role(), b.role()), ("slave", "master"));
        let told: Vec<Body> = received(&mut a).into_iter().map(|m| m.body).collect();
        let lost = Body::RoleStatus(Role { role: 3, generation_id: Some(6) }, 0);
        assert_eq!(told, if v < Version::Of13 { vec![] } else { vec![lost] });
        let fm = Body::FlowMod(Box::new(FlowMod { table: Some(TableId(0)), ..FlowMod::default() }));
        assert_eq!(refused(&mut w, &mut a, fm.clone()), OfError::OFPBRC_IS_SECONDARY);
        assert!(ask(&mut w, &mut b, fm).is_empty());
        assert_eq!(refused(&mut w, &mut a, role(2, 4)), OfError::OFPRRFC_STALE);
        assert_eq!(w.bridge().tables().n_visible(), 1);
        // "No change" asks, and equals need no generation.
        let asked = one(&mut w, &mut a, role(0, 0));
        assert_eq!(asked, Body::RoleReply(Role { role: 3, generation_id: Some(6) }));
        let equal = one(&mut w, &mut a, role(1, 0));
        assert_eq!(equal, Body::RoleReply(Role { role: 1, generation_id: Some(6) }));
    }
}

/// A daemon with connections and a port with queues.
#[derive(Default)]
struct Richer {
    flushed: RefCell<Vec<CtFlush>>,
}

impl Environment for Richer {
    fn port_stats(&self, _: BridgeId, _: &Port) -> PortStats {
        PortStats::default()
    }
    fn pull_flow_stats(&self) {}
    fn ct_flush(&self, which: &CtFlush) {
        self.flushed.borrow_mut().push(*which);
    }
    fn queues(&self, _: BridgeId, p: &Port) -> Vec<QueueConfig> {
        let queue = |queue| QueueConfig { port: p.ofport, queue, min_rate: None, max_rate: None };
        if p.ofport == OfPort(2) { vec![queue(0), queue(4)] } else { vec![] }
    }
}

#[test]
fn queues_and_connections_are_the_daemons() {
    for v in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        let env = Richer::default();
        let mut ask = |body: Body| {
            let bytes = Message::new(v, 5, body).encode(Default::default()).unwrap();
            let now = w.now;
            s.input(&mut w.sw, &env, now, &bytes);
            received(&mut s).into_iter().map(|m| m.body).collect::<Vec<_>>()
        };
        assert!(ask(Body::CtFlushZone(7)).is_empty());
        let flush = CtFlush { proto: 6, mark: Some(3), ..CtFlush::default() };
        assert!(ask(Body::CtFlush(Box::new(flush))).is_empty());
        let zone = CtFlush { zone: Some(7), ..CtFlush::default() };
        assert_eq!(*env.flushed.borrow(), [zone, flush]);
        let error = |got: &[Body]| match got {
            [Body::Error(e)] => e.error.unwrap(),
            other => panic!("{other:?}"),
        };
        let all = u32::MAX;
        let got = ask(Body::QueueConfigRequest(OfPort(2), all));
        let [Body::QueueConfigReply(_, list)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(list.iter().map(|q| (q.port.0, q.queue)).collect::<Vec<_>>(), [(2, 0), (2, 4)]);
        let none = ask(Body::QueueConfigRequest(OfPort(9), all));
        assert_eq!(error(&none), OfError::OFPQOFC_BAD_PORT);
        if v >= Version::Of14 {
            let got = ask(Body::QueueConfigRequest(OfPort::NONE, 4));
            let [Body::QueueConfigReply(_, list)] = &got[..] else { panic!("{got:?}") };
            assert_eq!(list.len(), 1);
            let none = ask(Body::QueueConfigRequest(OfPort(3), 4));
            assert_eq!(error(&none), OfError::OFPQOFC_BAD_QUEUE);
        }
    }
}

#[test]
fn a_limit_makes_ports_take_turns() {
    let mut w = World::new();
    let mut c = session(&mut w, SessionKind::Controller, Version::Of13);
    let now = w.now;
    c.set_packet_in_limit(Some(RateLimit { rate: 10, burst: 4 }), now);
    w.add("", &[controller(ControllerAction::default())]);
    let ports = |c: &mut Session| {
        let port = |m: Message| match m.body {
            Body::PacketIn(p) => p.metadata.key.pkt.in_port,
            other => panic!("{other:?}"),
        };
        received(c).into_iter().map(port).collect::<Vec<_>>()
    };
    // Four at once, four wait; the greedier port loses when more come.
    packet_ins(&mut w, &["in_port=2"; 9], &mut [&mut c]);
    packet_ins(&mut w, &["in_port=3"], &mut [&mut c]);
    assert_eq!(ports(&mut c), [2; 4]);
    assert_eq!(c.next_timeout(), Some(now + base::Duration::from_millis(100)));
    w.pass(1);
    c.run(w.now);
    assert_eq!(ports(&mut c), [2, 3, 2, 2]);
    assert_eq!(c.next_timeout(), None);
    let stats: Vec<_> = c.packet_in_stats().collect();
    let some = LimitStats { backlog: 0, bypassed: 4, queued: 6, dropped: 2 };
    assert_eq!(stats, [("action", some), ("miss", LimitStats::default())]);
    // Without a limit all go as they come; what is not limited any more does not wait for it.
    packet_ins(&mut w, &["in_port=2"; 3], &mut [&mut c]);
    c.set_packet_in_limit(None, now);
    packet_ins(&mut w, &["in_port=2"; 9], &mut [&mut c]);
    assert_eq!(ports(&mut c).len(), 9);
}

#[test]
fn who_asks_in_1_5_is_told_what_becomes_of_controllers() {
    for v in [Version::Of14, Version::Of15] {
        let mut w = World::new();
        w.bridge().take_events();
        let mut a = session(&mut w, SessionKind::Controller, v);
        let told = |w: &mut World, a: &mut Session, reason| {
            let s = ControllerStatus {
                role: 2,
                reason,
                uri: "tcp:1.2.3.4".into(),
                ..Default::default()
            };
            a.notify(w.now, &Event::ControllerStatus(s.clone()));
            let told: Vec<Body> = received(a).into_iter().map(|m| m.body).collect();
            assert!(told.is_empty() || told == [Body::ControllerStatus(Box::new(s))], "{told:?}");
            !told.is_empty()
        };
        assert!(!told(&mut w, &mut a, controller_reason::ROLE), "unasked");
        let mut wanted = SetAsync {
            said: Some(1 << (2 * AsyncClass::ControllerStatus as u16)),
            ..Default::default()
        };
        *wanted.config.mask_mut(AsyncClass::ControllerStatus, false) = 1 << controller_reason::ROLE;
        send(&mut w, &mut a, v, Body::SetAsync(wanted));
        received(&mut a);
        assert_eq!(told(&mut w, &mut a, controller_reason::ROLE), v == Version::Of15);
        assert!(!told(&mut w, &mut a, controller_reason::CHANNEL_STATUS), "not asked for");
    }
}
