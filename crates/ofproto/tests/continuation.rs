//! Paused pipelines: a controller gets the packet, gives it back, and it goes on.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;

use base::{DpPort, OfPort, TableId};
use common::World;
use common::peer::{Env, received, session};
use dpif::{DpAction, UserspaceCookie};
use flow::{FieldId, PacketKey};
use ofproto::port::VlanConfig;
use ofproto::{BridgeSpec, Event, FailMode, PortSpec, Session, SessionKind};
use openflow::error::OfError;
use openflow::message::*;
use openflow::text::parse_actions;
use openflow::version::Version;

const FRAME: [u8; 42] = {
    let mut f = [0; 42];
    (f[0], f[6], f[12], f[14], f[17], f[22], f[23]) = (2, 4, 8, 0x45, 28, 64, 17);
    (f[26], f[30], f[35], f[37], f[39]) = (10, 10, 1, 2, 8);
    f
};

/// A bridge with ports 2 to 9, and the flows of a file: `TABLE-AND-MATCH actions=…`, a line each.
fn world(flows: &str) -> World {
    let mut w = World::new();
    for port in 4..10 {
        w.port(port, port.into(), &format!("p{port}"), VlanConfig::default());
    }
    for line in flows.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (flow, actions) = line.split_once(" actions=").unwrap();
        w.add(flow, &list(actions));
    }
    w
}

fn list(text: &str) -> Vec<openflow::action::Action> {
    let tok = flow::text::Tok::line(text);
    let (any, no) = (flow::Match::ANY, &flow::text::NoNames);
    parse_actions(tok, &any, no, flow::text::Mode::Ovs).unwrap()
}

/// The datapath ports that a packet leaves by, in order, and how often a controller resumed it.
/// Recirculates, sends packet-ins to the session and resumes what is paused.
struct Datapath {
    ports: Vec<u32>,
    n_resumed: usize,
    last: Option<PacketIn>,
}

impl Datapath {
    fn run(w: &mut World, s: &mut Session, packet: &str) -> Datapath {
        let mut d = Datapath { ports: Vec::new(), n_resumed: 0, last: None };
        let key = w.dp_key(packet);
        let actions = w.run_key(&key).actions;
        d.go(w, s, key, actions);
        d
    }

    fn go(&mut self, w: &mut World, s: &mut Session, key: PacketKey, actions: Vec<DpAction>) {
        let v = s.version().unwrap();
        let mut work = VecDeque::from([(key, actions)]);
        while let Some((mut key, actions)) = work.pop_front() {
            for a in actions {
                match a {
                    DpAction::Output(p) => self.ports.push(p.0),
                    DpAction::Clone(nested) => work.push_back((key, nested.into_vec())),
                    DpAction::Ct(_) => key.ct_state = 0x21, // new, tracked
                    DpAction::Recirc(id) => {
                        let key = PacketKey { recirc_id: id.0, ..key };
                        let actions = w.run_key(&key).actions;
                        work.push_back((key, actions));
                    }
                    DpAction::Userspace(cookie) => {
                        let UserspaceCookie::Controller(c) = *cookie else { panic!() };
                        let (_, event) = w.sw.packet_in(&c, &FRAME, &key).unwrap();
                        s.notify(w.now, &event);
                    }
                    other => panic!("{other:?}"),
                }
            }
            for m in received(s) {
                let Body::PacketIn(p) = m.body else { panic!("{m:?}") };
                if !p.continuation.is_empty() {
                    self.n_resumed += 1;
                    let resume = Message::new(v, 1, Body::Resume(p.clone()));
                    let bytes = resume.encode(Default::default()).unwrap();
                    let now = w.now;
                    s.input(&mut w.sw, &Env, now, &bytes);
                    let said = received(s);
                    assert!(said.is_empty(), "{said:?}");
                }
                self.last = Some(*p);
            }
            let mut events = Vec::new();
            for b in w.sw.bridges_mut() {
                events.extend(b.take_events());
            }
            for e in events {
                let Event::Execute(x) = e else { continue };
                assert_eq!(x.packet.frame(), FRAME);
                work.push_back((x.key, x.actions.to_vec()));
            }
        }
    }
}

fn paused_session(w: &mut World, v: Version) -> Session {
    let mut s = session(w, SessionKind::Controller, v);
    let bytes = Message::new(v, 2, Body::SetPacketInFormat(PacketInFormat::Nxt2));
    let bytes = bytes.encode(Default::default()).unwrap();
    let now = w.now;
    s.input(&mut w.sw, &Env, now, &bytes);
    for b in w.sw.bridges_mut() {
        b.take_events();
    }
    s
}

/// Packets leave by the ports of `want` whichever of the pauses there are.
fn check(flows: &str, want: &[u32]) {
    for v in Version::ALL {
        let mut flows = flows.to_owned();
        loop {
            let n_pauses = flows.matches("pause").count();
            let mut w = world(&flows.replace("pause", "controller(pause)"));
            let mut s = paused_session(&mut w, v);
            let d = Datapath::run(&mut w, &mut s, "in_port=2,udp,nw_ttl=64");
            assert_eq!(d.ports, want, "{v}\n{flows}");
            assert_eq!(d.n_resumed, n_pauses, "{v}\n{flows}");
            match flows.find("pause") {
                // Behind it is a comma.
                Some(at) => flows.replace_range(at..(at + 6).min(flows.len()), ""),
                None => break,
            }
        }
    }
}

#[test]
fn what_is_left_of_a_list_is_done_later() {
    check("in_port=2 actions=pause,3,pause,4,pause,5", &[3, 4, 5]);
    check("in_port=2 actions=3,pause,note:00", &[3]);
}

#[test]
fn so_is_what_is_left_of_the_lists_around_it() {
    check(
        "in_port=2 actions=pause,3,pause,resubmit(,1),pause,9
         table=1,in_port=2 actions=pause,4,pause,resubmit(,2),pause,8
         table=2,in_port=2 actions=pause,5,pause,resubmit:77,pause,7
         table=2,in_port=77 actions=pause,6,pause,note:00",
        &[3, 4, 5, 6, 7, 8, 9],
    );
}

#[test]
fn instructions_go_on_as_actions() {
    check(
        "in_port=2 actions=pause,3,pause,write_metadata:1/1,goto_table:1
         table=1,in_port=2,metadata=1 actions=pause,4,write_metadata:2/2,goto_table:2
         table=2,in_port=2,metadata=3 actions=pause,5",
        &[3, 4, 5],
    );
}

#[test]
fn the_stack_registers_and_the_action_set_wait() {
    check(
        "in_port=2 actions=set_field:3->reg0,pause,push:reg0[0..7],set_field:4->reg1,\
         push:reg1[],pause,pop:reg3[],output:reg3[],pop:reg4[0..7],pause,output:reg4[]",
        &[4, 3],
    );
    check(
        "in_port=2 actions=resubmit(,1),pause,3
         table=1 actions=write_actions(output:4)",
        &[3, 4],
    );
}

#[test]
fn a_copy_pauses_alone() {
    check(
        "in_port=2 actions=set_field:1->reg1,6,clone(set_field:5->reg1,resubmit(,1))
         table=1,reg1=5 actions=pause,resubmit(,2)
         table=2,reg1=5 actions=3
         table=2,reg1=1 actions=4",
        &[6, 3],
    );
}

#[test]
fn a_tracked_packet_stays_tracked() {
    check(
        "udp,in_port=2 actions=ct(table=1)
         table=1,udp actions=pause,resubmit(,2)
         table=2,udp,ct_state=+trk+new actions=4",
        &[4],
    );
}

#[test]
fn the_other_side_of_a_patch_port_pauses_alone() {
    let mut w = world("in_port=2 actions=3,77,4");
    let now = w.now;
    let spec = BridgeSpec { fail_mode: FailMode::Secure, ..BridgeSpec::default() };
    let other = w.sw.put_bridge("br1", spec, now);
    let patch = |name: &str, peer: &str| PortSpec {
        name: name.into(),
        dp_port: DpPort::NONE,
        peer: Some(ofproto::port::Peer { port: peer.into() }),
        admin_up: true,
        link_up: true,
        ..PortSpec::default()
    };
    let real = PortSpec { name: "q".into(), dp_port: DpPort(20), ..patch("", "") };
    let br = w.br;
    w.sw.put_port(br, OfPort(77), patch("a", "b"), now);
    w.sw.put_port(other, OfPort(78), patch("b", "a"), now);
    w.sw.put_port(other, OfPort(1), PortSpec { peer: None, ..real }, now);
    let fm = common::flow_mod("in_port=78", &list("controller(pause),1"));
    w.sw.bridge_mut(other).unwrap().flow_mod(&fm, now).unwrap();
    let mut s = paused_session(&mut w, Version::Of13);
    let d = Datapath::run(&mut w, &mut s, "in_port=2,udp,nw_ttl=64");
    assert_eq!((&d.ports[..], d.n_resumed), (&[3, 4, 20][..], 1));
    let p = d.last.unwrap();
    let c = Continuation::decode(&p.continuation, Version::Of13, true).unwrap();
    assert_eq!((c.dp_port, p.metadata.key.pkt.in_port), (2, 78));
}

#[test]
fn what_a_controller_sees_of_a_pause() {
    let mut w = world(
        "cookie=7,in_port=2 actions=set_field:9->reg2,goto_table:1
         table=1,cookie=8 actions=controller(pause,userdata=01.02,id=0),3",
    );
    let mut s = paused_session(&mut w, Version::Of15);
    let d = Datapath::run(&mut w, &mut s, "in_port=2,udp,nw_ttl=64");
    let p = d.last.unwrap();
    assert_eq!((p.table, p.userdata, p.packet), (TableId(0), vec![1, 2], FRAME.to_vec()));
    assert_eq!(FieldId::Reg2.row().get(&p.metadata.key), 9);
    // Other forms have no room for it: the packet ends.
    let bytes = Message::new(Version::Of15, 2, Body::SetPacketInFormat(PacketInFormat::Nxt));
    let now = w.now;
    s.input(&mut w.sw, &Env, now, &bytes.encode(Default::default()).unwrap());
    let d = Datapath::run(&mut w, &mut s, "in_port=2,udp,nw_ttl=64");
    assert_eq!((d.ports.len(), d.n_resumed), (0, 0));
}

#[test]
fn what_cannot_go_on_is_refused() {
    let mut w = world("in_port=2 actions=controller(pause),3");
    let v = Version::Of13;
    let mut s = paused_session(&mut w, v);
    let key = w.dp_key("in_port=2,udp,nw_ttl=64");
    let actions = w.run_key(&key).actions;
    let [DpAction::Userspace(cookie)] = &actions[..] else { panic!("{actions:?}") };
    let UserspaceCookie::Controller(c) = &**cookie else { panic!() };
    let (_, event) = w.sw.packet_in(c, &FRAME, &key).unwrap();
    s.notify(w.now, &event);
    let [Message { body: Body::PacketIn(p), .. }] = &received(&mut s)[..] else { panic!() };
    let good = Continuation::decode(&p.continuation, v, true).unwrap();
    let mut error = |c: Vec<u8>| {
        let p = PacketIn { continuation: c, ..(**p).clone() };
        let bytes = Message::new(v, 6, Body::Resume(Box::new(p))).encode(Default::default());
        let bytes = bytes.unwrap();
        let now = w.now;
        s.input(&mut w.sw, &Env, now, &bytes);
        let [Message { body: Body::Error(e), .. }] = &received(&mut s)[..] else { panic!() };
        assert_eq!(e.data, bytes);
        assert!(w.bridge().take_events().is_empty());
        e.error.unwrap()
    };
    let strange = Continuation { bridge: [3; 16], ..good.clone() }.encode(v).unwrap();
    assert_eq!(error(strange), OfError::NXR_STALE);
    assert_eq!(error(Vec::new()), OfError::NXR_STALE);
    let mut damaged = good.encode(v).unwrap();
    damaged.extend([0x77, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(error(damaged), OfError::OFPBPC_BAD_TYPE);
    let bad = Continuation { actions: list("group:4"), ..good }.encode(v).unwrap();
    assert_eq!(error(bad), OfError::OFPBAC_BAD_OUT_GROUP);
}
