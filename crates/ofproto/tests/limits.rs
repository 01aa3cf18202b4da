//! Tables that are full: refusal, eviction, vacancy, names.
#![allow(clippy::unwrap_used)]

mod common;

use base::{Duration, TableId};
use common::peer::*;
use common::{World, flow_mod};
use flow::FieldId;
use ofproto::{Criteria, Event, FlowModError, Session, SessionKind, TableSettings};
use openflow::error::OfError;
use openflow::flow_mod::FlowMod;
use openflow::message::*;
use openflow::subfield::Subfield;
use openflow::version::Version;

fn limit(w: &mut World, max: u32, evict: bool, groups: &[FieldId]) {
    let groups = groups.iter().map(|f| Subfield::whole(*f)).collect();
    let settings = TableSettings { max_flows: Some(max), evict, groups, ..Default::default() };
    let mut spec = w.bridge().spec().clone();
    spec.tables.insert(0, settings);
    let now = w.now;
    w.bridge().set_spec(spec, now);
}

fn try_add(w: &mut World, flow: &str) -> Result<(), FlowModError> {
    let now = w.now;
    w.bridge().flow_mod(&flow_mod(flow, &[]), now).map(drop)
}

/// The values of `reg0` of the flows that are there.
fn there(w: &mut World) -> Vec<u128> {
    let all = Criteria::default();
    let reg0 = FieldId::Reg0.row();
    let rules = w.bridge().tables().select(&all);
    let mut values: Vec<u128> = rules.map(|r| reg0.get(&r.match_.expand().key)).collect();
    values.sort_unstable();
    values
}

#[test]
fn a_full_table_refuses_new_flows_only() {
    let mut w = World::new();
    limit(&mut w, 2, false, &[]);
    try_add(&mut w, "reg0=1").unwrap();
    try_add(&mut w, "reg0=2,idle_timeout=10").unwrap();
    assert_eq!(try_add(&mut w, "reg0=3"), Err(FlowModError::TableFull));
    try_add(&mut w, "reg0=2").unwrap();
    try_add(&mut w, "table=1,reg0=3").unwrap();
    assert_eq!(there(&mut w), [1, 2, 3]);
    limit(&mut w, 3, false, &[]);
    try_add(&mut w, "reg0=4").unwrap();
    limit(&mut w, 1, false, &[]);
    assert_eq!(there(&mut w), [1, 2, 3, 4], "nobody goes who may not be evicted");
}

#[test]
fn who_ends_first_goes_first_and_who_never_ends_stays() {
    let mut w = World::new();
    limit(&mut w, 4, true, &[]);
    for (reg, timeouts) in
        [(1, "hard_timeout=500"), (2, "idle_timeout=200"), (3, "idle_timeout=300"), (4, "")]
    {
        try_add(&mut w, &format!("reg0={reg},{timeouts}")).unwrap();
    }
    // A packet moves the end of flow 2 behind that of flow 3.
    w.now += Duration::from_secs(150);
    let only = Criteria { match_: flow_mod("reg0=2", &[]).match_, ..Criteria::default() };
    let used = dpif::FlowStats { n_packets: 1, used: Some(w.now), ..Default::default() };
    w.bridge().tables().select(&only).for_each(|r| r.stats.credit(&used));
    try_add(&mut w, "reg0=5").unwrap();
    assert_eq!(there(&mut w), [1, 2, 4, 5]);
    try_add(&mut w, "reg0=6").unwrap();
    assert_eq!(there(&mut w), [1, 4, 5, 6]);
    try_add(&mut w, "reg0=7,send_flow_rem,idle_timeout=1").unwrap();
    w.bridge().take_events();
    try_add(&mut w, "reg0=8").unwrap();
    let events = w.bridge().take_events();
    let [Event::FlowRemoved(r)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(r.reason, FlowRemovedReason::Eviction);
    assert_eq!(there(&mut w), [4, 5, 6, 8]);
    assert_eq!(try_add(&mut w, "reg0=9"), Err(FlowModError::TableFull));
}

#[test]
fn importance_goes_before_time() {
    let mut w = World::new();
    limit(&mut w, 2, true, &[]);
    let now = w.now;
    for (reg, importance, timeout) in [(1, 7, 10), (2, 3, 1000), (3, 5, 1)] {
        let fm =
            FlowMod { importance, ..flow_mod(&format!("reg0={reg},hard_timeout={timeout}"), &[]) };
        w.bridge().flow_mod(&fm, now).unwrap();
    }
    assert_eq!(there(&mut w), [1, 3]);
}

/// Who adds many flows loses their own.
#[test]
fn the_largest_group_loses() {
    let mut w = World::new();
    limit(&mut w, 5, true, &[FieldId::InPort]);
    for (reg, port) in [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)] {
        // Those of port 2 end last.
        let flow = format!("reg0={reg},in_port={port},hard_timeout={}", 100 * port + reg);
        try_add(&mut w, &flow).unwrap();
    }
    try_add(&mut w, "reg0=6,in_port=1,idle_timeout=900").unwrap();
    assert_eq!(there(&mut w), [1, 3, 4, 5, 6]);
    limit(&mut w, 3, true, &[FieldId::InPort]);
    let left = there(&mut w);
    assert!(left.contains(&5) && left.len() == 3, "one of each port: {left:?}");
}

#[test]
fn vacancy_is_told_once_each_way() {
    for v in [Version::Of14, Version::Of15] {
        let mut w = World::new();
        limit(&mut w, 10, false, &[]);
        let mut s = session(&mut w, SessionKind::Controller, v);
        let mut wanted = SetAsync::default();
        *wanted.config.mask_mut(AsyncClass::TableStatus, false) = 0b1_1000;
        ask(&mut w, &mut s, Body::SetAsync(wanted));
        let table_mod = TableMod {
            table: TableId(0),
            config: table_config::VACANCY_EVENTS,
            eviction_flags: None,
            vacancy: Some((20, 80)),
        };
        assert!(ask(&mut w, &mut s, Body::TableMod(table_mod)).is_empty());
        let told = |w: &mut World, s: &mut Session| {
            for e in w.bridge().take_events() {
                s.notify(w.now, &e);
            }
            received(s)
                .into_iter()
                .map(|m| match m.body {
                    Body::TableStatus(reason, t) => (reason, t.vacancy.unwrap().2),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let mut events = Vec::new();
        for reg in 0..10 {
            try_add(&mut w, &format!("reg0={reg}")).unwrap();
            events.extend(told(&mut w, &mut s));
        }
        assert_eq!(events, [(TableReason::VacancyDown, 10)]);
        let now = w.now;
        for reg in 0..9 {
            let command = openflow::flow_mod::FlowModCommand::Delete;
            let fm = FlowMod { command, ..flow_mod(&format!("reg0={reg}"), &[]) };
            w.bridge().flow_mod(&fm, now).unwrap();
            events.extend(told(&mut w, &mut s));
        }
        assert_eq!(events[1..], [(TableReason::VacancyUp, 90)], "{v}");
    }
}

/// 1.1 and 1.2: what becomes of packets that match no flow.
#[test]
fn a_table_says_what_a_miss_becomes() {
    for v in [Version::Of11, Version::Of12] {
        let mut w = World::new();
        w.add("table=2,in_port=2", &[common::output(3)]);
        let mut s = session(&mut w, SessionKind::Controller, v);
        let mut miss = |w: &mut World, table: u8, config: u32| {
            let m = TableMod { table: TableId(table), config, eviction_flags: None, vacancy: None };
            assert!(ask(w, &mut s, Body::TableMod(m)).is_empty());
            w.actions("in_port=2,ip")
        };
        assert_eq!(miss(&mut w, 0, 1), "drop");
        assert_eq!(miss(&mut w, 1, 1), "3", "{v}");
        assert_eq!(miss(&mut w, 1, 2), "drop");
        assert!(miss(&mut w, 1, 0).starts_with("userspace("), "to the controller");
        assert_eq!(miss(&mut w, 255, 1), "3");
        assert!(w.actions("in_port=3,ip").starts_with("userspace("), "behind the last table");
    }
}

#[test]
fn tables_are_configured_by_controllers() {
    for v in [Version::Of14, Version::Of15] {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Controller, v);
        let with = |table, config| TableMod { table, config, eviction_flags: None, vacancy: None };
        let descs = |w: &mut World, s: &mut Session| {
            let got = ask(w, s, Body::TableDescRequest);
            let lists = got.into_iter().map(|m| match m.body {
                Body::TableDescReply(list) => list,
                other => panic!("{other:?}"),
            });
            lists.flatten().collect::<Vec<_>>()
        };
        assert_eq!(descs(&mut w, &mut s).len(), 254);
        let all = with(TableId::ALL, table_config::EVICTION);
        assert!(ask(&mut w, &mut s, Body::TableMod(all)).is_empty());
        let on = |t: &TableDesc| t.config & table_config::EVICTION != 0;
        assert!(descs(&mut w, &mut s).iter().all(on));
        assert!(ask(&mut w, &mut s, Body::TableMod(with(TableId(3), 0))).is_empty());
        let off: Vec<u8> =
            descs(&mut w, &mut s).iter().filter(|t| !on(t)).map(|t| t.table.0).collect();
        assert_eq!(off, [3]);
        let own = Body::TableMod(with(TableId(254), 0));
        assert_eq!(refused(&mut w, &mut s, own), OfError::OFPTMFC_EPERM);
        let odd = TableMod { eviction_flags: Some(1), ..with(TableId(1), 0) };
        assert_eq!(refused(&mut w, &mut s, Body::TableMod(odd)), OfError::OFPTMFC_BAD_CONFIG);
    }
}
