//! Flow monitors, in the dialects of 1.0, 1.3 and 1.4.
#![allow(clippy::unwrap_used)]

mod common;

use base::{OfPort, TableId};
use common::peer::*;
use common::{World, flow_mod, output};
use flow::Match;
use flow::text::NoNames;
use ofproto::{Session, SessionKind};
use openflow::error::OfError;
use openflow::flow_mod::{FlowMod, FlowModCommand, GROUP_ANY};
use openflow::message::*;
use openflow::print::{MessageText, Style};
use openflow::version::Version;

const ALL: u16 = monitor_flag::INITIAL
    | monitor_flag::ADD
    | monitor_flag::DELETE
    | monitor_flag::MODIFY
    | monitor_flag::ACTIONS
    | monitor_flag::OWN;

fn monitor(id: u32, flags: u16) -> FlowMonitor {
    FlowMonitor {
        id,
        command: MonitorCommand::Add,
        flags,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table: TableId::ALL,
        match_: Match::ANY,
    }
}

fn watch(w: &mut World, s: &mut Session, m: FlowMonitor) -> Vec<String> {
    let got = ask(w, s, Body::FlowMonitorRequest(vec![m]));
    lines(&got)
}

/// The lines behind the headings.
fn lines(got: &[Message]) -> Vec<String> {
    let style = Style { names: &NoNames, verbosity: 0, session: Default::default() };
    got.iter()
        .flat_map(|message| {
            let text = MessageText { message, style }.to_string();
            let body: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
            match body.is_empty() {
                true => vec![text.split(' ').next().unwrap().to_owned()],
                false => body,
            }
        })
        .collect()
}

/// Gives the bridge's events to a session and what it says then.
fn heard(w: &mut World, s: &mut Session) -> Vec<String> {
    for e in w.bridge().take_events() {
        s.notify(w.now, &e);
    }
    lines(&received(s))
}

fn change(w: &mut World, command: FlowModCommand, text: &str) {
    let (flow, out) = text.split_once("->").unwrap_or((text, ""));
    let actions: Vec<_> = out.split(',').filter_map(|p| p.parse().ok()).map(output).collect();
    let fm = FlowMod { command, ..flow_mod(flow, &actions) };
    let now = w.now;
    w.bridge().flow_mod(&fm, now).unwrap();
}

#[test]
fn what_is_there_comes_goes_and_changes_is_told() {
    use FlowModCommand::{Add, Delete, Modify};
    for v in Version::ALL {
        let mut w = World::new();
        change(&mut w, Add, "in_port=1->2");
        w.bridge().take_events();
        let mut s = session(&mut w, SessionKind::Service, v);
        let first = if v >= Version::Of14 { "INITIAL" } else { "ADDED" };
        assert_eq!(
            watch(&mut w, &mut s, monitor(1, ALL)),
            [format!(" event={first} table=0 cookie=0 in_port=1 actions=output:2")]
        );
        change(&mut w, Add, "priority=7,in_port=2->1");
        change(&mut w, Add, "in_port=1,idle_timeout=5,hard_timeout=6->3");
        assert_eq!(
            heard(&mut w, &mut s),
            [
                " event=ADDED table=0 cookie=0 priority=7,in_port=2 actions=output:1",
                " event=ADDED table=0 idle_timeout=5 hard_timeout=6 cookie=0 in_port=1 \
                 actions=output:3"
            ]
        );
        change(&mut w, Modify, "in_port=2->5");
        change(&mut w, Modify, "in_port=2->5");
        assert_eq!(
            heard(&mut w, &mut s),
            [" event=MODIFIED table=0 cookie=0 priority=7,in_port=2 actions=output:5"],
            "what changes nothing is not told"
        );
        change(&mut w, Delete, "in_port=2");
        w.now += base::Duration::from_secs(6);
        let now = w.now;
        w.bridge().expire(now);
        assert_eq!(
            heard(&mut w, &mut s),
            [
                " event=DELETED reason=delete table=0 cookie=0 priority=7,in_port=2 \
                 actions=output:5",
                " event=DELETED reason=idle table=0 idle_timeout=5 hard_timeout=6 cookie=0 \
                 in_port=1 actions=output:3"
            ]
        );
    }
}

#[test]
fn own_changes_are_abbreviated_unless_asked_for() {
    for v in Version::ALL {
        for (flags, full) in [(ALL, true), (ALL & !monitor_flag::OWN, false)] {
            let mut w = World::new();
            let mut s = session(&mut w, SessionKind::Service, v);
            watch(&mut w, &mut s, monitor(1, flags));
            let fm = FlowMod { table: Some(TableId(0)), ..flow_mod("in_port=1", &[output(2)]) };
            let told = lines(&ask(&mut w, &mut s, Body::FlowMod(Box::new(fm))));
            match full {
                true => {
                    let text = " event=ADDED table=0 cookie=0 in_port=1 actions=output:2";
                    assert_eq!(told, [text], "{v}");
                }
                false => assert_eq!(told, [" event=ABBREV xid=0x4d"], "{v}"),
            }
            assert!(heard(&mut w, &mut s).is_empty(), "once");
        }
    }
}

#[test]
fn only_flows_that_a_monitor_is_about_are_told() {
    use FlowModCommand::{Add, Modify};
    let (told, not) = (
        ["table=1,tcp->2,3", "table=1,tcp,tcp_dst=80->3"],
        ["tcp->3", "table=1,ip->3", "table=1,tcp,tcp_src=1->2"],
    );
    for v in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        let m = FlowMonitor {
            table: TableId(1),
            out_port: OfPort(3),
            match_: flow_mod("tcp", &[]).match_,
            ..monitor(4, ALL)
        };
        watch(&mut w, &mut s, m);
        for (flow, n) in told.iter().map(|f| (f, 1)).chain(not.iter().map(|f| (f, 0))) {
            change(&mut w, Add, flow);
            assert_eq!(heard(&mut w, &mut s).len(), n, "{flow}");
        }
        // A flow that stops using the port is told of, too.
        change(&mut w, Modify, "table=1,tcp,tcp_dst=80->2");
        assert_eq!(heard(&mut w, &mut s).len(), 1);
        // And then no more.
        change(&mut w, Modify, "table=1,tcp,tcp_dst=80->1");
        assert!(heard(&mut w, &mut s).is_empty());
    }
}

#[test]
fn monitors_end_and_errors_are_told() {
    for v in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        watch(&mut w, &mut s, monitor(1, ALL));
        let again = Body::FlowMonitorRequest(vec![monitor(2, ALL), monitor(1, ALL)]);
        assert_eq!(refused(&mut w, &mut s, again), OfError::OFPMOFC_MONITOR_EXISTS);
        let cancel = |id| match v >= Version::Of14 {
            true => Body::FlowMonitorRequest(vec![FlowMonitor::delete(id)]),
            false => Body::FlowMonitorCancel(id),
        };
        assert_eq!(
            refused(&mut w, &mut s, cancel(2)),
            OfError::OFPMOFC_UNKNOWN_MONITOR,
            "a request is done whole or not at all"
        );
        let none = Body::FlowMonitorRequest(vec![monitor(3, monitor_flag::ACTIONS)]);
        assert_eq!(refused(&mut w, &mut s, none), OfError::OFPMOFC_BAD_FLAGS);
        ask(&mut w, &mut s, cancel(1));
        change(&mut w, FlowModCommand::Add, "in_port=1->2");
        assert!(heard(&mut w, &mut s).is_empty(), "{v}");
    }
}

/// A peer that does not read gets no more updates; later it learns how things are.
#[test]
fn updates_are_suspended_while_nobody_reads() {
    use FlowModCommand::{Add, Delete, Modify};
    for v in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        watch(&mut w, &mut s, monitor(1, ALL));
        change(&mut w, Add, "reg0=1->1");
        change(&mut w, Add, "reg0=2->1");
        let mut n = 2;
        while !s.may_resume_monitors() && n < 10_000 {
            change(&mut w, Add, &format!("table=2,reg1={n}->1,2,3,4,5,6,7,8,9,10,11,12,13,14"));
            n += 1;
            for e in w.bridge().take_events() {
                s.notify(w.now, &e);
            }
            if s.output_len() > 200_000 {
                break;
            }
        }
        assert!(n > 300, "a small backlog is no reason");
        for (command, flow) in [
            (Modify, "reg0=1->7"),
            (Delete, "reg0=2"),
            (Add, "reg0=3->1"),
            (Add, "reg0=4->1"),
            (Delete, "reg0=4"),
            (Modify, "reg0=3->8"),
        ] {
            change(&mut w, command, flow);
        }
        let mut got = heard(&mut w, &mut s);
        let paused = got.iter().position(|l| l.contains("PAUSED")).unwrap();
        let after: Vec<String> = got.drain(paused + 1..).collect();
        let none: [&str; 0] = [];
        let others = |l: &&String| !l.contains("table=2 ");
        assert_eq!(
            after.iter().filter(others).collect::<Vec<_>>(),
            [" event=DELETED reason=delete table=0 cookie=0 reg0=0x2 actions=output:1"],
            "{v}"
        );
        assert!(!s.may_resume_monitors(), "the peer has not read it yet");
        assert_eq!(received(&mut s).len(), none.len());
        assert!(s.may_resume_monitors());
        s.resume_monitors();
        let got = lines(&received(&mut s));
        assert!(got.last().unwrap().contains("RESUMED"), "{got:?}");
        let mut got: Vec<String> =
            got.iter().filter(|l| l.contains("reg0")).map(String::clone).collect();
        got.sort();
        assert_eq!(
            got,
            [
                " event=ADDED table=0 cookie=0 reg0=0x3 actions=output:8",
                " event=MODIFIED table=0 cookie=0 reg0=0x1 actions=output:7"
            ],
            "{v}"
        );
        change(&mut w, Add, "reg0=9->1");
        assert_eq!(heard(&mut w, &mut s).len(), 1, "updates go on");
    }
}
