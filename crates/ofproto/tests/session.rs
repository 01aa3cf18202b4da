//! OpenFlow connections: conversations in bytes.
#![allow(clippy::unwrap_used)]

mod common;

use base::{MacAddr, OfPort, TableId};
use common::peer::{Env, all_flows, ask, message, one, received, refused, send, session};
use common::{NORMAL, World, flow_mod, output};
use flow::{FieldId, Match};
use ofproto::{Closed, Event, Session, SessionKind};
use openflow::action::Action;
use openflow::error::OfError;
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
use openflow::message::*;
use openflow::version::Version;
use proptest::prelude::*;

const ALL: [Version; 4] = [Version::Of10, Version::Of13, Version::Of14, Version::Of15];

#[test]
fn the_highest_common_version_is_spoken() {
    for v in ALL {
        session(&mut World::new(), SessionKind::Service, v);
    }
    let mut w = World::new();
    let now = w.now;
    let mut s = Session::new(w.bridge(), SessionKind::Service, Version::Of13.bit(), now);
    received(&mut s);
    send(&mut w, &mut s, Version::Of10, Body::Hello(Version::Of10.bit()));
    let got = received(&mut s);
    assert!(matches!(got[..], [Message { body: Body::Error(_), .. }]), "{got:?}");
    assert_eq!(s.closed(), Some(&Closed::NoCommonVersion));
}

#[test]
fn answers_come_in_order_and_bytes_may_come_in_any_pieces() {
    for v in ALL {
        let mut w = World::story();
        let mut s = session(&mut w, SessionKind::Service, v);
        let mut bytes = Vec::new();
        for (xid, body) in [
            (1, Body::EchoRequest(vec![1, 2, 3])),
            (2, Body::FlowMod(Box::new(flow_mod("priority=7,tcp", &[output(2)])))),
            (3, Body::BarrierRequest),
            (4, Body::FeaturesRequest),
            (5, Body::FlowStatsRequest(all_flows())),
            (6, Body::GetConfigRequest),
        ] {
            bytes.extend(message(v, xid, body).encode(Default::default()).unwrap());
        }
        let now = w.now;
        for b in bytes {
            s.input(&mut w.sw, &Env, now, &[b]);
        }
        let mut got = received(&mut s);
        // What came behind the request of a dump is answered when the dump is taken.
        assert_eq!(got.last().unwrap().xid, 5);
        assert!(s.has_waiting_input());
        s.input(&mut w.sw, &Env, now, &[]);
        got.extend(received(&mut s));
        assert!(!s.has_waiting_input());
        let xids: Vec<u32> = got.iter().map(|m| m.xid).collect();
        assert_eq!(xids, [1, 3, 4, 5, 6]);
        assert_eq!(got[0].body, Body::EchoReply(vec![1, 2, 3]));
        let Body::FeaturesReply(f) = &got[2].body else { panic!() };
        assert_eq!((f.n_tables, f.n_buffers), (254, 0));
        assert_eq!(f.ports.len(), if v < Version::Of13 { 3 } else { 0 });
        let Body::FlowStatsReply(flows) = &got[3].body else { panic!() };
        assert_eq!(flows.len(), 8);
        assert!(flows.iter().any(|f| f.priority == 7 && f.actions == [output(2)]));
        let Body::GetConfigReply(c) = &got[4].body else { panic!() };
        assert_eq!((c.frag, c.miss_send_len), (0, 0));
    }
}

#[test]
fn a_flow_that_no_message_can_say_is_left_out_and_counted() {
    let mut w = World::new();
    // Each is 16 bytes in 1.0, and 8 in 1.5.
    let list = vec![Action::DecTtl(Vec::new()); 4090];
    w.add("priority=7,ip", &list);
    w.add("priority=8,tcp", &[output(2)]);
    for (v, n, omitted) in [(Version::Of10, 1, 1), (Version::Of15, 2, 0)] {
        let mut s = session(&mut w, SessionKind::Service, v);
        let Body::FlowStatsReply(flows) = one(&mut w, &mut s, Body::FlowStatsRequest(all_flows()))
        else {
            panic!()
        };
        let is_ours = |f: &&FlowStats| f.priority == 7 || f.priority == 8;
        assert_eq!(flows.iter().filter(is_ours).count(), n, "{v}");
        assert_eq!((s.take_omitted(), s.take_omitted()), (omitted, 0), "{v}");
    }
}

#[test]
fn statistics_tell_what_was_counted() {
    for v in ALL {
        let mut w = World::new();
        w.add("cookie=5,priority=3,udp", &[output(3)]);
        w.add("table=7,priority=3,arp", &[NORMAL]);
        w.pass(2);
        w.run("in_port=2,udp");
        w.run("in_port=2,arp");
        w.pass(3);
        let mut s = session(&mut w, SessionKind::Service, v);
        let Body::FlowStatsReply(f) = one(&mut w, &mut s, Body::FlowStatsRequest(all_flows()))
        else {
            panic!()
        };
        let f0 = &f[0];
        assert_eq!((f.len(), f0.cookie, f0.priority, f0.n_packets, f0.n_bytes), (2, 5, 3, 1, 60));
        assert_eq!(f0.duration.as_millis(), 5000);
        let only = FlowStatsRequest { out_port: OfPort(3), ..all_flows() };
        let Body::AggregateReply(a) = one(&mut w, &mut s, Body::AggregateRequest(only)) else {
            panic!()
        };
        assert_eq!((a.n_flows, a.n_packets, a.n_bytes), (1, 1, 60));
        let tables: Vec<TableStats> = ask(&mut w, &mut s, Body::TableStatsRequest)
            .into_iter()
            .flat_map(|m| match m.body {
                Body::TableStatsReply(t) => t,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tables.len(), 254);
        assert_eq!((tables[0].active, tables[0].lookup, tables[0].matched), (1, 2, 1));
        let Body::PortStatsReply(p) = one(&mut w, &mut s, Body::PortStatsRequest(OfPort::NONE))
        else {
            panic!()
        };
        let ports: Vec<(u16, u64)> = p.iter().map(|p| (p.port.0, p.rx_packets)).collect();
        assert_eq!(ports, [(2, 2), (3, 3), (0xfffe, 0xfffe)]);
        let Body::PortStatsReply(p) = one(&mut w, &mut s, Body::PortStatsRequest(OfPort(3))) else {
            panic!()
        };
        assert_eq!(p.len(), 1);
        let Body::PortDescReply(p) = one(&mut w, &mut s, Body::PortDescRequest(OfPort::NONE))
        else {
            panic!()
        };
        assert_eq!((p[0].name.as_str(), p.len()), ("vm1p", 3));
        let Body::QueueStatsReply(q) =
            one(&mut w, &mut s, Body::QueueStatsRequest(OfPort::ALL, u32::MAX))
        else {
            panic!()
        };
        assert!(q.is_empty());
        let Body::PortStatsReply(p) = one(&mut w, &mut s, Body::PortStatsRequest(OfPort(9))) else {
            panic!()
        };
        assert!(p.is_empty(), "Open vSwitch answers with no rows, not with an error");
    }
}

#[test]
fn table_features_name_what_is_supported() {
    for v in [Version::Of13, Version::Of14, Version::Of15] {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        let parts = ask(&mut w, &mut s, Body::TableFeaturesRequest(Vec::new()));
        let tables: Vec<TableFeatures> = parts
            .into_iter()
            .flat_map(|m| match m.body {
                Body::TableFeaturesReply(t) => t,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tables.len(), 254);
        let next = |t: &TableFeatures| t.nonmiss.next.iter().collect::<Vec<_>>();
        assert_eq!(next(&tables[251]), [252, 253]);
        assert!(next(&tables[253]).is_empty());
        assert!(tables[0].mask.has(FieldId::EthDst) && !tables[0].mask.has(FieldId::EthType));
        let mut change = TableFeatures { name: "acl".into(), ..tables[7].clone() };
        let one = Body::TableFeaturesRequest(vec![change.clone()]);
        assert_eq!(refused(&mut w, &mut s, one), OfError::OFPTFFC_EPERM, "all or none");
        change.max_entries += 1;
        let mut all = tables.clone();
        all[7] = change.clone();
        let in_parts = |w: &mut World, s: &mut Session, all: &[TableFeatures]| {
            let (last, first) = all.split_last().unwrap();
            for (list, more) in
                first.chunks(8).map(|l| (l, true)).chain([(&[last.clone()][..], false)])
            {
                let body = Body::TableFeaturesRequest(list.to_vec());
                let m = Message { more, ..message(v, 77, body) };
                let now = w.now;
                s.input(&mut w.sw, &Env, now, &m.encode(Default::default()).unwrap());
            }
            received(s)
        };
        let answer = in_parts(&mut w, &mut s, &all);
        let [Message { body: Body::Error(e), .. }] = &answer[..] else { panic!() };
        assert_eq!(e.error, Some(OfError::OFPTFFC_EPERM), "the number of flows is not changed so");
        all[7].max_entries -= 1;
        let names: Vec<String> = in_parts(&mut w, &mut s, &all)
            .into_iter()
            .flat_map(|m| match m.body {
                Body::TableFeaturesReply(t) => t,
                other => panic!("{other:?}"),
            })
            .map(|t| t.name)
            .filter(|n| !n.is_empty())
            .collect();
        assert_eq!(names, ["acl"]);
        let twice = Body::TableFeaturesRequest(vec![all[3].clone(), all[3].clone()]);
        assert_eq!(refused(&mut w, &mut s, twice), OfError::NXTFFC_DUP_TABLE);
    }
}

#[test]
fn a_long_dump_comes_in_parts_none_too_long() {
    let mut w = World::new();
    for i in 0..3000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + i);
        w.add(&format!("ip,nw_src={ip}"), &[output(3), output(2), NORMAL]);
    }
    for v in ALL {
        let mut s = session(&mut w, SessionKind::Service, v);
        let parts = ask(&mut w, &mut s, Body::FlowStatsRequest(all_flows()));
        let n: usize = parts
            .iter()
            .map(|m| {
                assert!(m.encode(Default::default()).unwrap().len() <= 65535);
                let Body::FlowStatsReply(f) = &m.body else { panic!() };
                f.len()
            })
            .sum();
        assert_eq!(n, 3000);
        let more: Vec<bool> = parts.iter().map(|m| m.more).collect();
        assert!(more[..more.len() - 1].iter().all(|&m| m) && !more[more.len() - 1], "{v}");
    }
}

fn from_port(port: u16) -> Match {
    let mut m = Match::ANY;
    m.set(FieldId::InPort, port.into(), 0xffff);
    m
}

#[test]
fn requests_that_cannot_be_done_are_refused_by_name() {
    for v in ALL {
        let mut w = World::new();
        w.add("priority=5,ip", &[]);
        let mut s = session(&mut w, SessionKind::Service, v);
        let mut no = |body, e: OfError| assert_eq!(refused(&mut w, &mut s, body), e, "{e}");
        let fm = |text: &str, actions: &[Action]| {
            let mut fm = flow_mod(text, actions);
            fm.table.get_or_insert(TableId(0));
            fm
        };
        let over = fm("priority=5,tcp,check_overlap", &[]);
        no(Body::FlowMod(Box::new(over)), OfError::OFPFMFC_OVERLAP);
        if v >= Version::Of13 {
            let own = fm("table=254", &[]);
            no(Body::FlowMod(Box::new(own)), OfError::OFPBRC_EPERM);
            let group = fm("", &[Action::Group(3)]);
            no(Body::FlowMod(Box::new(group)), OfError::OFPBAC_BAD_OUT_GROUP);
        }
        let po = PacketOut {
            buffer_id: Some(4),
            metadata: from_port(2),
            actions: vec![output(3)],
            packet: Vec::new(),
        };
        no(Body::PacketOut(Box::new(po)), OfError::OFPBRC_BUFFER_UNKNOWN);
        let pm = |port, hw_addr| {
            Body::PortMod(PortMod { port: OfPort(port), hw_addr, ..PortMod::default() })
        };
        no(pm(9, MacAddr::ZERO), OfError::OFPPMFC_BAD_PORT);
        no(pm(2, MacAddr::ZERO), OfError::OFPPMFC_BAD_HW_ADDR);
    }
}

#[test]
fn a_packet_out_is_translated_and_handed_to_the_datapath() {
    for v in ALL {
        let mut w = World::new();
        w.add("in_port=2", &[output(3)]);
        w.bridge().take_events();
        let mut s = session(&mut w, SessionKind::Service, v);
        let table = Action::Output { port: OfPort::TABLE, max_len: 0 };
        let po = PacketOut {
            buffer_id: None,
            metadata: from_port(2),
            actions: vec![Action::SetEthDst(MacAddr([9; 6])), table],
            packet: vec![1; 60],
        };
        assert!(ask(&mut w, &mut s, Body::PacketOut(Box::new(po))).is_empty());
        let events = w.bridge().take_events();
        let [Event::Execute(e)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((e.packet.frame(), e.key.in_port), (&[1; 60][..], 2));
        let text = dpif::text::format_actions(&e.actions, dpif::text::NO_NAMES).to_string();
        assert_eq!(text, "set(eth(dst=09:09:09:09:09:09)),3");
        let rule = w.bridge().tables().select(&Default::default()).next().unwrap().clone();
        assert_eq!(rule.stats.n_packets(), 1);
    }
}

#[test]
fn nonsense_ends_the_session_alone() {
    let mut w = World::new();
    let (mut good, mut bad) = (
        session(&mut w, SessionKind::Controller, Version::Of13),
        session(&mut w, SessionKind::Controller, Version::Of13),
    );
    let now = w.now;
    bad.input(&mut w.sw, &Env, now, &[4, 0, 0, 3, 0, 0, 0, 0]);
    assert!(matches!(bad.closed(), Some(Closed::Nonsense(_))), "{:?}", bad.closed());
    bad.input(&mut w.sw, &Env, now, b"GET / HTTP/1.1\r\n");
    let echo = one(&mut w, &mut good, Body::EchoRequest(Vec::new()));
    assert_eq!(echo, Body::EchoReply(Vec::new()));
    let mut early = Session::new(w.bridge(), SessionKind::Service, 0, now);
    early.input(&mut w.sw, &Env, now, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(early.closed().is_some() || early.version().is_none());
}

#[test]
fn flow_mods_of_all_kinds_arrive() {
    for v in ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        let mut send = |command, text: &str, actions: &[Action]| {
            let mut fm = FlowMod { command, ..flow_mod(text, actions) };
            fm.flags.remove(FlowModFlags::CHECK_OVERLAP);
            if v != Version::Of10 {
                fm.table.get_or_insert(TableId(0));
            }
            let got = ask(&mut w, &mut s, Body::FlowMod(Box::new(fm)));
            assert!(got.is_empty(), "{got:?}");
            w.bridge().tables().n_visible()
        };
        assert_eq!(send(FlowModCommand::Add, "priority=3,tcp,tp_dst=80", &[output(2)]), 1);
        assert_eq!(send(FlowModCommand::Add, "priority=3,udp", &[NORMAL]), 2);
        assert_eq!(send(FlowModCommand::Modify, "tcp", &[output(3)]), 2);
        assert_eq!(send(FlowModCommand::DeleteStrict, "priority=3,udp", &[]), 1);
        assert_eq!(send(FlowModCommand::Delete, "", &[]), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any bytes, and any damage to good messages, are survived.
    #[test]
    fn random_bytes_never_panic(
        junk in prop::collection::vec(any::<u8>(), 0..400),
        version in 0usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let v = ALL[version];
        let mut w = World::story();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let mut bytes = Vec::new();
        for body in [
            Body::FlowMod(Box::new(flow_mod("priority=7,tcp,tp_dst=5", &[output(2), NORMAL]))),
            Body::FlowStatsRequest(all_flows()),
            Body::PortStatsRequest(OfPort::NONE),
            Body::BarrierRequest,
        ] {
            let mut m = message(v, 9, body).encode(Default::default()).unwrap();
            for (at, x) in &damage {
                // Leave the length, so that what follows is still seen as messages.
                let at = 4 + at.index(m.len() - 4);
                m[at] ^= x;
            }
            bytes.extend(m);
        }
        bytes.extend(&junk);
        let now = w.now;
        s.input(&mut w.sw, &Env, now, &bytes);
        let mut framed = vec![v as u8, junk.first().copied().unwrap_or(0) % 36];
        framed.extend((8 + junk.len() as u16).to_be_bytes());
        framed.extend([0, 0, 0, 1]);
        framed.extend(&junk);
        let mut s = session(&mut w, SessionKind::Controller, v);
        s.input(&mut w.sw, &Env, now, &framed);
        w.run("in_port=2,tcp");
    }
}
