//! Groups: changes of them in every version, translation, counters, and who hears of them.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod common;

use base::OfPort;
use common::peer::{deliver, message, one, received, refused, send, session};
use common::{World, output};
use flow::text::{Mode, NoNames};
use ofproto::SessionKind::{Controller, Service};
use openflow::action::Action;
use openflow::error::OfError as E;
use openflow::flow_mod::{FlowMod, FlowModFlags, GROUP_ALL};
use openflow::message::*;
use openflow::text::{GroupText, parse_group};
use openflow::version::Version;

fn parse(text: &str, command: GroupCommand) -> Body {
    let parsed = parse_group(text, Some(command), &NoNames, Mode::Ovs);
    Body::GroupMod(Box::new(parsed.unwrap_or_else(|e| panic!("{e}: {text}")).group))
}

fn add(text: &str) -> Body {
    parse(text, GroupCommand::Add)
}

/// A bridge with ports 2 and 3, and groups that a controller of 1.5 adds.
fn world(groups: &[&str]) -> World {
    let mut w = World::new();
    let mut s = session(&mut w, Service, Version::Of15);
    for g in groups {
        send(&mut w, &mut s, Version::Of15, add(g));
        assert_eq!(received(&mut s), [], "{g}");
    }
    w
}

/// The groups as a dump tells them.
fn dump(w: &mut World, version: Version) -> Vec<String> {
    let mut s = session(w, Service, version);
    let Body::GroupDescReply(list) = one(w, &mut s, Body::GroupDescRequest(GROUP_ALL)) else {
        panic!()
    };
    let text = |d: &GroupDesc| {
        GroupText {
            group: d.group,
            type_: Some(d.type_),
            selection: &d.selection,
            buckets: &d.buckets,
            version,
            names: &NoNames,
        }
        .to_string()
    };
    list.iter().map(text).collect()
}

fn stats(w: &mut World, group: u32) -> GroupStats {
    let mut s = session(w, Service, Version::Of13);
    match one(w, &mut s, Body::GroupStatsRequest(group)) {
        Body::GroupStatsReply(mut list) if list.len() == 1 => list.remove(0),
        other => panic!("{other:?}"),
    }
}

const UDP: &str = "in_port=2,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=1,udp_dst=2";

#[test]
fn every_version_adds_changes_and_deletes() {
    for version in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, Service, version);
        let mut ask = |w: &mut World, body| send(w, &mut s, version, body);
        ask(&mut w, add("group_id=1,type=all,bucket=output:1,bucket=output:2"));
        ask(&mut w, add("group_id=7,type=all"));
        ask(&mut w, parse("group_id=1,type=indirect,bucket=output:3", GroupCommand::Modify));
        ask(&mut w, parse("group_id=9,type=all", GroupCommand::AddOrModify));
        ask(&mut w, parse("group_id=7", GroupCommand::Delete));
        ask(&mut w, parse("group_id=8", GroupCommand::Delete));
        assert_eq!(
            dump(&mut w, Version::Of15),
            ["group_id=1,type=indirect,bucket=bucket_id:0,actions=output:3", "group_id=9,type=all"],
            "{version}"
        );
        assert_eq!(received(&mut s), []);
        assert_eq!(refused(&mut w, &mut s, add("group_id=1,type=all")), E::OFPGMFC_GROUP_EXISTS);
        let modify = parse("group_id=2,type=all", GroupCommand::Modify);
        assert_eq!(refused(&mut w, &mut s, modify), E::OFPGMFC_UNKNOWN_GROUP);
        send(&mut w, &mut s, version, parse("", GroupCommand::Delete));
        assert_eq!(dump(&mut w, version), [""; 0]);
    }
}

#[test]
fn a_number_that_no_group_can_have_is_refused() {
    let mut w = World::new();
    let mut s = session(&mut w, Service, Version::Of13);
    let mut group = GroupMod { group: GROUP_MAX + 1, ..GroupMod::default() };
    group.command_bucket = bucket_id::ALL;
    let body = Body::GroupMod(Box::new(group));
    assert_eq!(refused(&mut w, &mut s, body), E::OFPGMFC_INVALID_GROUP);
}

#[test]
fn buckets_come_and_go_alone() {
    let mut w = world(&["group_id=1,type=select,bucket=bucket_id:3,weight:5,output:2"]);
    let mut s = session(&mut w, Service, Version::Of15);
    let insert = |text: &str| parse(&format!("group_id=1,{text}"), GroupCommand::InsertBucket);
    let remove = |text: &str| parse(&format!("group_id=1,{text}"), GroupCommand::RemoveBucket);
    for body in [
        insert("command_bucket_id=first,bucket=bucket_id:1,weight:1,output:1"),
        insert("command_bucket_id=1,bucket=bucket_id:2,weight:1,output:3"),
        insert("command_bucket_id=last,bucket=bucket_id:4,weight:1,output:4"),
        remove("command_bucket_id=3"),
    ] {
        send(&mut w, &mut s, Version::Of15, body);
    }
    assert_eq!(
        dump(&mut w, Version::Of13),
        ["group_id=1,type=select,bucket=actions=output:1,bucket=actions=output:3,\
          bucket=actions=output:4"]
    );
    let twice = insert("command_bucket_id=last,bucket=bucket_id:4,output:4");
    assert_eq!(refused(&mut w, &mut s, twice), E::OFPGMFC_BUCKET_EXISTS);
    let nowhere = insert("command_bucket_id=9,bucket=bucket_id:5,output:4");
    assert_eq!(refused(&mut w, &mut s, nowhere), E::OFPGMFC_UNKNOWN_BUCKET);
    assert_eq!(refused(&mut w, &mut s, remove("command_bucket_id=9")), E::OFPGMFC_UNKNOWN_BUCKET);
    send(&mut w, &mut s, Version::Of15, remove("command_bucket_id=all"));
    assert_eq!(dump(&mut w, Version::Of10), ["group_id=1,type=select"]);
}

#[test]
fn flows_need_their_group_and_end_with_it() {
    let mut w = world(&["group_id=5,type=all"]);
    let mut s = session(&mut w, Controller, Version::Of13);
    let flow = |group, priority| {
        Body::FlowMod(Box::new(FlowMod {
            priority,
            flags: FlowModFlags::SEND_FLOW_REM,
            table: Some(base::TableId(0)),
            actions: vec![Action::Clone(vec![Action::Group(group)])],
            ..FlowMod::default()
        }))
    };
    assert_eq!(refused(&mut w, &mut s, flow(6, 1)), E::OFPBAC_BAD_OUT_GROUP);
    send(&mut w, &mut s, Version::Of13, flow(5, 1));
    send(&mut w, &mut s, Version::Of13, flow(5, 2));
    w.add("priority=3", &[output(3)]);
    assert_eq!(stats(&mut w, 5).ref_count, 2);
    deliver(&mut w, &mut [&mut s]);
    received(&mut s);
    send(&mut w, &mut s, Version::Of13, parse("", GroupCommand::Delete));
    deliver(&mut w, &mut [&mut s]);
    let gone = received(&mut s);
    let mut reasons = gone.iter().map(|m| match &m.body {
        Body::FlowRemoved(f) => (f.priority, f.reason),
        other => panic!("{other:?}"),
    });
    assert_eq!(reasons.len(), 2);
    assert!(reasons.all(|(p, r)| p < 3 && r == FlowRemovedReason::GroupDelete));
    assert_eq!(w.actions(UDP), "3");
}

#[test]
fn all_and_indirect_undo_what_a_bucket_did() {
    let mut w = world(&[
        "group_id=1,type=all,bucket=mod_nw_dst:1.1.1.1,output:3,bucket=output:3",
        "group_id=2,type=indirect,bucket=group:1",
        "group_id=3,type=all,bucket=output:3,output:1,bucket=drop,bucket=resubmit(,1)",
    ]);
    w.port(1, 9, "vm3p", Default::default());
    w.add("priority=1", &[Action::Group(1), output(1)]);
    assert_eq!(w.actions(UDP), "set(ipv4(dst=1.1.1.1)),3,set(ipv4(dst=10.0.0.2)),3,9");
    w.add("priority=2", &[Action::Group(2)]);
    assert_eq!(w.actions(UDP), "set(ipv4(dst=1.1.1.1)),3,set(ipv4(dst=10.0.0.2)),3");
    // The last output of a bucket counts.
    w.add("priority=3", &[Action::Group(3)]);
    assert_eq!(w.actions(UDP), "9");
}

#[test]
fn what_no_action_set_can_hold_is_refused_in_flows_and_passed_over_in_buckets() {
    let mut w = world(&["group_id=1,type=all,bucket=output:2,clone(output:3),note:01"]);
    w.add("priority=1", &[Action::Group(1)]);
    assert_eq!(w.actions("in_port=LOCAL,udp"), "2");
    let mut s = session(&mut w, Controller, Version::Of13);
    let set = vec![output(2), Action::Clone(vec![output(3)])];
    let actions = vec![Action::WriteActions(set)];
    let body = Body::FlowMod(Box::new(FlowMod { actions, ..FlowMod::default() }));
    assert_eq!(refused(&mut w, &mut s, body), E::OFPBAC_BAD_TYPE);
}

#[test]
fn what_a_chain_of_groups_cannot_reach_is_dropped() {
    let mut w =
        world(&["group_id=1,type=all,bucket=group:2", "group_id=2,type=all,bucket=group:1"]);
    w.add("priority=1", &[Action::Group(1)]);
    assert_eq!(w.run(UDP).drop, Some(dpif::DropReason::RecursionTooDeep));
    let mut s = session(&mut w, Service, Version::Of15);
    send(&mut w, &mut s, Version::Of15, parse("group_id=2", GroupCommand::Delete));
    assert!(w.trace(UDP, &[]).contains(">> output to nonexistent group 2"));
}

#[test]
fn a_failed_port_is_passed_over() {
    let mut w = world(&[
        "group_id=1,type=ff,bucket=watch_port:2,output:2,bucket=watch_group:2,output:3,\
         bucket=watch_port:controller,controller",
        "group_id=2,type=ff,bucket=watch_port:3,output:3",
    ]);
    w.add("priority=1", &[Action::Group(1)]);
    let udp = "in_port=LOCAL,udp";
    assert_eq!(w.actions(udp), "2");
    let generation = w.sw.generation();
    w.config(2, port_config::PORT_DOWN);
    assert!(w.sw.generation() > generation, "translations made before are stale");
    assert_eq!(w.actions(udp), "3");
    let mut spec = w.bridge().port(OfPort(3)).unwrap().spec.clone();
    spec.link_up = false;
    let (br, now) = (w.br, w.now);
    w.sw.put_port(br, OfPort(3), spec, now);
    assert_eq!(w.actions(udp), "drop");
    let trace = w.trace(udp, &[]);
    for line in [
        " -> bucket 0: not live due to port 2",
        " -> bucket 1: not live due to port 2",
        " -> no live bucket",
    ] {
        assert!(trace.contains(line), "{line} in {trace}");
    }
    w.bridge().set_controlled(true);
    assert!(w.actions(udp).starts_with("userspace("));
    w.config(2, 0);
    assert_eq!(w.actions(udp), "2");
}

#[test]
fn select_asks_the_datapath_for_a_hash() {
    let mut w = world(&["group_id=1,type=select,bucket=weight:3,output:2,bucket=output:3,\
                         bucket=weight:0,output:1"]);
    w.add("priority=1", &[Action::Group(1), output(1)]);
    let udp = "in_port=LOCAL,udp";
    let x = w.run(udp);
    let [dpif::DpAction::Hash { alg: dpif::HashAlg::SymL4, basis: 0 }, dpif::DpAction::Recirc(id)] =
        x.actions[..]
    else {
        panic!("{:?}", x.actions)
    };
    let mut key = w.dp_key(udp);
    key.recirc_id = id.0;
    let mut sent = [0; 2];
    for hash in 1..=1600 {
        key.dp_hash = hash;
        let x = w.run_key(&key);
        assert_eq!(x.mask.dp_hash, 0xf, "the megaflow covers what hashes to the same slot");
        match x.actions[0] {
            dpif::DpAction::Output(p) => sent[p.0 as usize - 2] += 1,
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, [1200, 400]);
    let s = stats(&mut w, 1);
    assert_eq!((s.n_packets, s.n_bytes), (1600, 1600 * 60));
    assert_eq!(s.buckets, [(1200, 72_000), (400, 24_000), (0, 0)]);
    // Without bucket 0, its slots go to the next.
    let mut session = session(&mut w, Service, Version::Of15);
    let text = "group_id=1,type=select,bucket=watch_port:9,weight:3,output:2,bucket=output:3";
    send(&mut w, &mut session, Version::Of15, parse(text, GroupCommand::Modify));
    for hash in 1..=16 {
        key.dp_hash = hash;
        assert_eq!(w.run_key(&key).actions[0], dpif::DpAction::Output(base::DpPort(3)));
    }
}

#[test]
fn select_by_fields_looks_at_those() {
    let mut w = world(&["group_id=1,type=select,selection_method=hash,\
                         fields(ip_dst=255.255.255.0,tcp_dst,udp_src),bucket=output:2,bucket=output:3"]);
    w.add("priority=1", &[Action::Group(1)]);
    let x = w.run("in_port=LOCAL,udp,nw_dst=10.1.2.3,udp_src=5,udp_dst=6");
    assert_eq!(x.mask.nw_dst, 0xffff_ff00);
    assert_eq!((x.mask.tp_src, x.mask.tp_dst), (0xffff, 0), "not a TCP port");
    let mut seen = [0; 2];
    for host in 0..=255 {
        let flow = format!("in_port=LOCAL,udp,nw_dst=10.1.{host}.3,udp_src=5,udp_dst=6");
        let again = format!("in_port=LOCAL,udp,nw_dst=10.1.{host}.77,udp_src=5,udp_dst=9");
        let port = w.actions(&flow);
        assert_eq!(port, w.actions(&again));
        seen[port.parse::<usize>().unwrap() - 2] += 1;
    }
    assert!(seen.iter().all(|n| (90..=166).contains(n)), "{seen:?}");
}

#[test]
fn a_bucket_tells_its_reason_to_controllers() {
    let mut w = world(&["group_id=1,type=indirect,bucket=controller"]);
    w.add("priority=1", &[Action::Group(1)]);
    let x = w.run(UDP);
    let dpif::DpAction::Userspace(cookie) = &x.actions[0] else { panic!("{:?}", x.actions) };
    let dpif::UserspaceCookie::Controller(c) = &**cookie else { panic!() };
    assert_eq!(c.reason, openflow::action::PacketInReason::Group as u8);
}

#[test]
fn other_controllers_hear_of_changes_in_their_version() {
    let mut w = world(&["group_id=1,type=all,bucket=bucket_id:3,output:2"]);
    let mut one_ = session(&mut w, Controller, Version::Of15);
    let mut of14 = session(&mut w, Controller, Version::Of14);
    let mut of13 = session(&mut w, Controller, Version::Of13);
    let mut of10 = session(&mut w, Controller, Version::Of10);
    for s in [&mut one_, &mut of14, &mut of10] {
        let mut wanted = SetAsync::default();
        *wanted.config.mask_mut(AsyncClass::Requestforward, false) = 0b11;
        wanted.said = Some(1 << (2 * AsyncClass::Requestforward as u16));
        let version = s.version().unwrap();
        send(&mut w, s, version, Body::SetAsync(wanted));
    }
    w.bridge().take_events();
    let text = "group_id=1,command_bucket_id=last,bucket=bucket_id:4,output:3";
    send(&mut w, &mut one_, Version::Of15, parse(text, GroupCommand::InsertBucket));
    deliver(&mut w, &mut [&mut one_, &mut of14, &mut of13, &mut of10]);
    assert_eq!(received(&mut one_), [], "not who asked");
    assert_eq!(received(&mut of13), [], "not who did not ask for it");
    for s in [&mut of14, &mut of10] {
        let [Message { body: Body::Requestforward(inner), .. }] = &received(s)[..] else {
            panic!()
        };
        let Body::GroupMod(g) = &inner.body else { panic!() };
        // 1.4 cannot say what is done to single buckets.
        let (command, n) = match inner.version {
            Version::Of10 => (GroupCommand::InsertBucket, 1),
            _ => (GroupCommand::Modify, 2),
        };
        assert_eq!((inner.xid, g.command, g.buckets.len()), (77, command, n));
    }
}

#[test]
fn a_bundle_that_fails_leaves_groups_as_they_were() {
    let mut w = world(&["group_id=1,type=all,bucket=output:2"]);
    w.add("priority=1", &[Action::Group(1)]);
    let mut s = session(&mut w, Service, Version::Of14);
    let control = |kind| Body::BundleCtrl(BundleCtrl { id: 1, kind, flags: 3 });
    let inner = |body| {
        let message = message(Version::Of14, 77, body);
        Body::BundleAdd(Box::new(BundleAdd { id: 1, flags: 3, message }))
    };
    let run = |w: &mut World, s: &mut ofproto::Session, last: Body| {
        for body in [control(0), inner(parse("", GroupCommand::Delete))] {
            send(w, s, Version::Of14, body);
        }
        send(w, s, Version::Of14, inner(add("group_id=2,type=all,bucket=output:3")));
        send(w, s, Version::Of14, inner(last));
        send(w, s, Version::Of14, control(4));
        received(s).iter().any(|m| matches!(m.body, Body::Error(_)))
    };
    let udp = "in_port=LOCAL,udp";
    assert!(run(&mut w, &mut s, add("group_id=2,type=all")), "the second 2 is refused");
    assert_eq!(dump(&mut w, Version::Of13), ["group_id=1,type=all,bucket=actions=output:2"]);
    assert_eq!(w.actions(udp), "2");
    assert_eq!(stats(&mut w, 1).ref_count, 1);
    assert!(!run(&mut w, &mut s, add("group_id=3,type=all")));
    assert_eq!(dump(&mut w, Version::Of13).len(), 2);
    assert_eq!(w.actions(udp), "drop", "the flow went with its group");
}
