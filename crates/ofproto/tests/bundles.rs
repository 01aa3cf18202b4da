//! Bundles: all or nothing, in 1.3's extension and since 1.4.
#![allow(clippy::unwrap_used)]

mod common;

use base::{Duration, OfPort, TableId};
use common::peer::*;
use common::{World, flow_mod, output};
use ofproto::{BUNDLE_IDLE_TIMEOUT, Criteria, Event, FlowModCounts, Session, SessionKind};
use openflow::error::OfError;
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
use openflow::message::*;
use openflow::version::Version;

const SPEAK: [Version; 3] = [Version::Of13, Version::Of14, Version::Of15];
const ID: u32 = 9;
const BOTH: u16 = bundle_flag::ATOMIC | bundle_flag::ORDERED;

fn control(kind: u16, flags: u16) -> Body {
    Body::BundleCtrl(BundleCtrl { id: ID, kind, flags })
}

fn add(version: Version, flags: u16, body: Body) -> Body {
    let message = message(version, 77, body);
    Body::BundleAdd(Box::new(BundleAdd { id: ID, flags, message }))
}

fn flow(fm: FlowMod) -> Body {
    Body::FlowMod(Box::new(FlowMod { table: fm.table.or(Some(TableId(0))), ..fm }))
}

fn open(w: &mut World, s: &mut Session, flags: u16) {
    let reply = one(w, s, control(0, flags));
    assert_eq!(reply, Body::BundleCtrl(BundleCtrl { id: ID, kind: 1, flags: 0 }));
}

fn count(w: &mut World) -> usize {
    w.bridge().tables().n_visible()
}

/// Flows as text, in some order that only depends on them.
fn dump(w: &mut World) -> Vec<String> {
    let all = Criteria::default();
    let rules = w.bridge().tables().select(&all);
    let mut text: Vec<String> = rules
        .map(|r| {
            let m = r.match_.expand();
            format!("{} {} {m:?} {:?} {}", r.table.0, r.priority, r.actions, r.stats.n_packets())
        })
        .collect();
    text.sort();
    text
}

#[test]
fn nothing_is_seen_before_the_commit_and_all_after_it() {
    for v in SPEAK {
        let mut w = World::story();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let before = dump(&mut w);
        open(&mut w, &mut s, BOTH);
        for n in 0..100 {
            let fm = flow_mod(&format!("table=5,reg0={n}"), &[output(2)]);
            assert!(ask(&mut w, &mut s, add(v, BOTH, flow(fm))).is_empty());
        }
        let gone = FlowMod { command: FlowModCommand::Delete, ..flow_mod("table=1", &[]) };
        assert!(ask(&mut w, &mut s, add(v, BOTH, flow(gone))).is_empty());
        assert_eq!(dump(&mut w), before);
        one(&mut w, &mut s, control(2, BOTH));
        assert_eq!(dump(&mut w), before);
        let reply = one(&mut w, &mut s, control(4, BOTH));
        assert_eq!(reply, Body::BundleCtrl(BundleCtrl { id: ID, kind: 5, flags: 0 }));
        assert_eq!(count(&mut w), 3 + 100, "{v}");
        assert_eq!(refused(&mut w, &mut s, control(4, BOTH)), OfError::OFPBFC_BAD_ID);
    }
}

/// Adds, replaces, modifies, deletes and evicts, and then fails: nothing has happened.
#[test]
fn a_failing_bundle_changes_nothing() {
    for v in SPEAK {
        let mut w = World::story();
        w.add("table=7,ip", &[output(1)]);
        w.run("in_port=2,arp");
        let mut spec = w.bridge().spec().clone();
        let settings =
            ofproto::TableSettings { max_flows: Some(2), evict: true, ..Default::default() };
        spec.tables.insert(7, settings);
        let now = w.now;
        w.bridge().set_spec(spec, now);
        w.add("table=7,tcp,idle_timeout=10,send_flow_rem", &[output(1)]);
        w.bridge().take_events();
        let before = dump(&mut w);
        let generation = w.sw.generation();
        let mut s = session(&mut w, SessionKind::Controller, v);
        open(&mut w, &mut s, BOTH);
        let changes = [
            flow_mod("table=7,udp", &[output(2)]),
            flow_mod("priority=10,arp", &[output(2)]),
            FlowMod { command: FlowModCommand::Modify, ..flow_mod("table=1", &[output(3)]) },
            FlowMod { command: FlowModCommand::Delete, ..flow_mod("table=1", &[]) },
            flow_mod("table=1,ip,in_port=2,ct_state=+new", &[]),
            FlowMod { command: FlowModCommand::Delete, ..flow_mod("table=0", &[]) },
            flow_mod("table=2,ip", &[]),
            FlowMod { flags: FlowModFlags::CHECK_OVERLAP, ..flow_mod("table=2,tcp", &[]) },
        ];
        for fm in changes {
            assert!(ask(&mut w, &mut s, add(v, BOTH, flow(fm))).is_empty());
        }
        let answers = ask(&mut w, &mut s, control(4, BOTH));
        let errors: Vec<OfError> = answers
            .iter()
            .map(|m| match &m.body {
                Body::Error(e) => e.error.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(errors, [OfError::OFPFMFC_OVERLAP, OfError::OFPBFC_MSG_FAILED], "{v}");
        assert_eq!(dump(&mut w), before, "{v}");
        assert_eq!(w.sw.generation(), generation, "no translation has become stale");
        assert!(w.bridge().take_events().is_empty());
        // The flow that was evicted and put back still times out.
        w.now += Duration::from_secs(11);
        let now = w.now;
        w.bridge().expire(now);
        assert_eq!(count(&mut w), before.len() - 1, "{v}");
    }
}

#[test]
fn requests_out_of_order_end_the_bundle() {
    use OfError as E;
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let fm = || flow(flow_mod("reg0=1", &[]));
        for kind in [2, 4, 6] {
            assert_eq!(refused(&mut w, &mut s, control(kind, 0)), E::OFPBFC_BAD_ID);
        }
        open(&mut w, &mut s, 0);
        assert_eq!(refused(&mut w, &mut s, control(0, 0)), E::OFPBFC_BAD_ID, "open twice");
        open(&mut w, &mut s, 0);
        assert_eq!(refused(&mut w, &mut s, control(2, 1)), E::OFPBFC_BAD_FLAGS);
        open(&mut w, &mut s, 0);
        assert_eq!(refused(&mut w, &mut s, add(v, 1, fm())), E::OFPBFC_BAD_FLAGS);
        open(&mut w, &mut s, 0);
        one(&mut w, &mut s, control(2, 0));
        assert_eq!(refused(&mut w, &mut s, control(2, 0)), E::OFPBFC_BUNDLE_CLOSED);
        open(&mut w, &mut s, 0);
        one(&mut w, &mut s, control(2, 0));
        assert_eq!(refused(&mut w, &mut s, add(v, 0, fm())), E::OFPBFC_BUNDLE_CLOSED);
        open(&mut w, &mut s, 0);
        assert_eq!(refused(&mut w, &mut s, control(4, 1)), E::OFPBFC_BAD_FLAGS);
        for kind in [1, 3, 5, 7, 8] {
            assert_eq!(refused(&mut w, &mut s, control(kind, 0)), E::OFPBFC_BAD_TYPE);
        }
        open(&mut w, &mut s, 0);
        assert_eq!(
            one(&mut w, &mut s, control(6, 0)),
            Body::BundleCtrl(BundleCtrl { id: ID, kind: 7, flags: 0 })
        );
        // A message opens the bundle it is for.
        assert!(ask(&mut w, &mut s, add(v, 0, fm())).is_empty());
        one(&mut w, &mut s, control(4, 0));
        assert_eq!(count(&mut w), 1);
    }
}

#[test]
fn what_cannot_be_in_a_bundle_is_refused_when_it_comes() {
    use OfError as E;
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        open(&mut w, &mut s, 0);
        let inside = Body::BarrierRequest;
        assert_eq!(refused(&mut w, &mut s, add(v, 0, inside)), E::OFPBFC_MSG_UNSUP);
        assert_eq!(refused(&mut w, &mut s, add(v, 0, control(0, 0))), E::OFPBFC_MSG_UNSUP);
        let other = message(v, 78, flow(flow_mod("", &[])));
        let other = Body::BundleAdd(Box::new(BundleAdd { id: ID, flags: 0, message: other }));
        assert_eq!(refused(&mut w, &mut s, other), E::OFPBFC_MSG_BAD_XID);
        let full = FlowMod { buffer_id: Some(7), ..flow_mod("", &[]) };
        assert_eq!(refused(&mut w, &mut s, add(v, 0, flow(full))), E::OFPBRC_BUFFER_UNKNOWN);
        one(&mut w, &mut s, control(4, 0));
        assert_eq!(count(&mut w), 0);
    }
}

#[test]
fn ports_change_in_bundles_that_are_not_atomic() {
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let hw_addr = w.bridge().port(OfPort(2)).unwrap().spec.mac;
        let flags = port_config::NO_RECV;
        let pm = PortMod { port: OfPort(2), hw_addr, config: flags, mask: flags, advertise: 0 };
        for (atomic, ok) in [(bundle_flag::ATOMIC, false), (0, true)] {
            open(&mut w, &mut s, atomic);
            assert!(ask(&mut w, &mut s, add(v, atomic, Body::PortMod(pm))).is_empty());
            let fm = flow(flow_mod("reg1=1", &[]));
            assert!(ask(&mut w, &mut s, add(v, atomic, fm)).is_empty());
            ask(&mut w, &mut s, control(4, atomic));
            let changed = w.bridge().port(OfPort(2)).unwrap().desc().config & flags != 0;
            assert_eq!((changed, count(&mut w)), (ok, usize::from(ok)), "{v}");
        }
        let mut nobody = pm;
        nobody.port = OfPort(77);
        open(&mut w, &mut s, 0);
        let gone = FlowMod { command: FlowModCommand::Delete, ..flow_mod("", &[]) };
        ask(&mut w, &mut s, add(v, 0, flow(gone)));
        ask(&mut w, &mut s, add(v, 0, Body::PortMod(nobody)));
        assert_eq!(ask(&mut w, &mut s, control(4, 0)).len(), 2, "two errors");
        assert_eq!(count(&mut w), 1);
    }
}

/// A packet of a bundle sees the flows that came before it, and goes out only if all succeeds.
#[test]
fn packets_see_the_flows_before_them() {
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let out = |fails: bool, w: &mut World, s: &mut Session| {
            open(w, s, 0);
            ask(w, s, add(v, 0, flow(flow_mod("", &[output(2)]))));
            let po = PacketOut {
                buffer_id: None,
                metadata: flow_mod("in_port=3", &[]).match_,
                actions: vec![output(OfPort::TABLE.0)],
                packet: vec![0; 60],
            };
            ask(w, s, add(v, 0, Body::PacketOut(Box::new(po))));
            ask(w, s, add(v, 0, flow(flow_mod("", &[output(1)]))));
            if fails {
                let fm =
                    FlowMod { flags: FlowModFlags::CHECK_OVERLAP, ..flow_mod("ip", &[output(1)]) };
                ask(w, s, add(v, 0, flow(fm)));
            }
            ask(w, s, control(4, 0));
            w.bridge()
                .take_events()
                .into_iter()
                .filter_map(|e| match e {
                    Event::Execute(x) => Some(x.actions.to_vec()),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        assert!(out(true, &mut w, &mut s).is_empty());
        let sent = out(false, &mut w, &mut s);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0], [dpif::DpAction::Output(base::DpPort(2))], "{v}");
    }
}

#[test]
fn a_bundle_left_alone_times_out() {
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        open(&mut w, &mut s, 0);
        w.now += Duration::from_secs(9);
        ask(&mut w, &mut s, add(v, 0, flow(flow_mod("", &[]))));
        w.now += Duration::from_secs(9);
        s.expire_bundles(w.now, BUNDLE_IDLE_TIMEOUT);
        assert!(received(&mut s).is_empty());
        w.now += Duration::from_secs(1);
        s.expire_bundles(w.now, BUNDLE_IDLE_TIMEOUT);
        let got = received(&mut s);
        let [Message { xid: 77, body: Body::Error(e), .. }] = &got[..] else { panic!("{got:?}") };
        assert_eq!(e.error, Some(OfError::OFPBFC_TIMEOUT));
        assert_eq!(refused(&mut w, &mut s, control(4, 0)), OfError::OFPBFC_BAD_ID);
    }
}

#[test]
fn flow_mods_that_were_done_are_counted() {
    for v in SPEAK {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let delete = || FlowMod { command: FlowModCommand::Delete, ..flow_mod("udp", &[]) };
        let modify = || FlowMod { command: FlowModCommand::ModifyStrict, ..flow_mod("tcp", &[]) };
        send(&mut w, &mut s, v, flow(flow_mod("tcp", &[output(2)])));
        assert_eq!(s.take_flow_mods(), FlowModCounts { adds: 1, ..FlowModCounts::default() });
        open(&mut w, &mut s, BOTH);
        for fm in [flow_mod("tcp", &[]), delete(), modify()] {
            send(&mut w, &mut s, v, add(v, BOTH, flow(fm)));
        }
        assert_eq!(s.take_flow_mods(), FlowModCounts::default());
        one(&mut w, &mut s, control(4, BOTH));
        assert_eq!(s.take_flow_mods(), FlowModCounts { adds: 1, deletes: 1, modifications: 1 });
        // One that fails takes the others with it.
        open(&mut w, &mut s, BOTH);
        let bad = FlowMod { flags: FlowModFlags::CHECK_OVERLAP, ..flow_mod("ip", &[]) };
        for fm in [flow_mod("tcp,nw_src=1.0.0.0/8", &[]), bad] {
            send(&mut w, &mut s, v, add(v, BOTH, flow(fm)));
        }
        send(&mut w, &mut s, v, control(4, BOTH));
        assert_eq!(received(&mut s).len(), 2, "two errors");
        assert_eq!(s.take_flow_mods(), FlowModCounts::default());
    }
}
