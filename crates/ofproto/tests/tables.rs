//! Flow mods: semantics, timeouts, and a naive table as the model.
#![allow(clippy::unwrap_used)]

mod common;

use base::{Instant, TableId};
use common::{NORMAL, World, flow_mod, output};
use flow::{FlowKey, Match};
use ofproto::{Criteria, Event, FailMode, FlowModError, RuleStats};
use openflow::action::Action;
use openflow::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
use openflow::message::FlowRemovedReason;
use proptest::prelude::*;

fn count(w: &mut World) -> usize {
    w.bridge().tables().n_visible()
}

fn apply(w: &mut World, command: FlowModCommand, text: &str, actions: &[Action]) -> usize {
    let fm = FlowMod { command, ..flow_mod(text, actions) };
    let now = w.now;
    let done = w.bridge().flow_mod(&fm, now).unwrap();
    done.added + done.modified + done.deleted
}

#[test]
fn a_standalone_bridge_is_a_learning_switch_until_it_has_a_controller() {
    let mut w = World::new();
    assert_eq!(count(&mut w), 0, "secure");
    let mut spec = w.bridge().spec().clone();
    let now = w.now;
    spec.fail_mode = FailMode::Standalone;
    w.bridge().set_spec(spec.clone(), now);
    let all = Criteria::default();
    let r = w.bridge().tables().select(&all).next().unwrap().clone();
    assert_eq!((r.priority, &r.actions[..]), (0, &[NORMAL][..]));
    assert!(r.is_table_miss());
    spec.has_controllers = true;
    w.bridge().set_spec(spec, now);
    assert_eq!(count(&mut w), 0);
}

#[test]
fn add_replaces_the_same_match_and_priority() {
    let mut w = World::new();
    w.add("in_port=2,ip", &[output(3)]);
    w.run("in_port=2,ip");
    w.add("in_port=2,ip", &[output(1)]);
    let stats = |w: &mut World| {
        let rules: Vec<_> = w.bridge().tables().select(&Criteria::default()).cloned().collect();
        assert_eq!(rules.len(), 1);
        rules[0].stats.n_packets()
    };
    assert_eq!(stats(&mut w), 1, "counters stay");
    w.add("in_port=2,ip,reset_counts", &[output(1)]);
    assert_eq!(stats(&mut w), 0);
    w.add("in_port=2,ip,priority=3", &[]);
    assert_eq!(count(&mut w), 2);
}

#[test]
fn modify_and_delete_loose_and_strict() {
    use FlowModCommand::{Delete, DeleteStrict, Modify, ModifyStrict};
    let mut w = World::new();
    w.add("priority=5,ip,in_port=2,cookie=7", &[output(3)]);
    w.add("priority=6,ip,nw_dst=10.0.0.1,cookie=8", &[output(3)]);
    w.add("priority=7,arp", &[output(3)]);
    w.add("table=9,priority=7,ip", &[output(1)]);
    assert_eq!(apply(&mut w, Modify, "table=0,ip", &[output(1)]), 2);
    assert_eq!(apply(&mut w, ModifyStrict, "table=0,priority=5,ip,in_port=2", &[NORMAL]), 1);
    assert_eq!(apply(&mut w, ModifyStrict, "table=0,priority=4,ip,in_port=2", &[NORMAL]), 0);
    assert_eq!(apply(&mut w, Modify, "table=0,priority=4,udp,cookie=1", &[NORMAL]), 1, "adds");
    let to = |w: &mut World, port| {
        let c = Criteria { out_port: base::OfPort(port), ..Criteria::default() };
        w.bridge().tables().select(&c).count()
    };
    assert_eq!((to(&mut w, 1), to(&mut w, 3), to(&mut w, 0xfffa)), (2, 1, 2));
    let now = w.now;
    let cookie =
        FlowMod { command: Delete, cookie: 7, cookie_mask: u64::MAX, ..FlowMod::default() };
    assert_eq!(w.bridge().flow_mod(&cookie, now).unwrap().deleted, 1);
    let fm = FlowMod { command: Delete, out_port: base::OfPort(3), ..FlowMod::default() };
    assert_eq!(w.bridge().flow_mod(&fm, now).unwrap().deleted, 1, "arp");
    assert_eq!(apply(&mut w, DeleteStrict, "table=9,priority=6,ip", &[]), 0);
    assert_eq!(apply(&mut w, DeleteStrict, "table=9,priority=7,ip", &[]), 1);
    assert_eq!(apply(&mut w, Delete, "", &[]), 2, "all that is left");
    assert_eq!(count(&mut w), 0);
}

#[test]
fn overlap_permission_and_actions_are_checked_before_anything_is_done() {
    let mut w = World::new();
    w.add("priority=5,ip,in_port=2", &[]);
    let now = w.now;
    let mut refuse = |fm: FlowMod| w.bridge().flow_mod(&fm, now).unwrap_err();
    let over = flow_mod("priority=5,tcp,check_overlap", &[]);
    assert_eq!(refuse(over), FlowModError::Overlap);
    let mut own = flow_mod("", &[]);
    own.table = Some(TableId(254));
    assert_eq!(refuse(own.clone()), FlowModError::Permission);
    own.table = Some(TableId(255));
    assert_eq!(refuse(own), FlowModError::BadTable(TableId(255)));
    let back = flow_mod("table=3", &[Action::GotoTable(TableId(3))]);
    assert_eq!(refuse(back), FlowModError::BadGoto(TableId(3), TableId(3)));
    let group = flow_mod("", &[Action::Group(4)]);
    assert_eq!(refuse(group), FlowModError::BadOutGroup(4));
    let nested = flow_mod("", &[Action::Clone(vec![output(0xff42)])]);
    assert_eq!(refuse(nested), FlowModError::BadOutPort(base::OfPort(0xff42)));
    assert_eq!(count(&mut w), 1);
    w.add("priority=5,arp,check_overlap", &[]);
    w.add("priority=5,ip,in_port=2,check_overlap", &[]);
}

#[test]
fn timeouts_follow_the_packets_and_tell_controllers() {
    let mut w = World::new();
    w.add("priority=1,in_port=2,idle_timeout=10,send_flow_rem,cookie=5", &[]);
    w.add("priority=1,in_port=3,hard_timeout=15,send_flow_rem", &[]);
    w.add("priority=1,ipv6,idle_timeout=5", &[]);
    w.bridge().take_events();
    w.pass(8);
    w.run("in_port=2,ip");
    let mut gone = Vec::new();
    for _ in 0..20 {
        let now = w.now;
        assert!(!w.bridge().expire(now));
        for e in w.bridge().take_events() {
            let Event::FlowRemoved(r) = e else { panic!("{e:?}") };
            gone.push((now.as_secs() - 100, r.reason, r.cookie, r.n_packets));
        }
        w.pass(1);
    }
    use FlowRemovedReason::{HardTimeout, IdleTimeout};
    assert_eq!(gone, [(16, HardTimeout, 0, 0), (19, IdleTimeout, 5, 1)]);
    assert_eq!((count(&mut w), w.bridge().next_timeout()), (0, None));
}

/// What a flow is in the model: match, priority, cookie, action, packets, idle, hard, made, used.
#[derive(Clone, Debug, PartialEq)]
struct Naive {
    m: Match,
    priority: u16,
    table: u8,
    cookie: u64,
    port: u16,
    idle: u16,
    hard: u16,
    modified: u64,
    used: u64,
}

fn small_match() -> impl Strategy<Value = Match> {
    (0u8..3, 0u8..3, 0u8..3).prop_map(|(port, dl, proto)| {
        let mut m = Match::ANY;
        if port > 0 {
            (m.key.pkt.in_port, m.mask.pkt.in_port) = (u32::from(port) + 1, u32::MAX);
        }
        if dl > 0 {
            let t = [0x800, 0x806][usize::from(dl) - 1];
            (m.key.pkt.dl_type, m.mask.pkt.dl_type) = (t, 0xffff);
        }
        if proto > 0 {
            (m.key.pkt.nw_proto, m.mask.pkt.nw_proto) = (proto, 0xff);
        }
        m
    })
}

#[derive(Clone, Debug)]
enum Op {
    Mod(Box<FlowMod>),
    Packet(Box<FlowKey>),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let flow_mod = (
        (small_match(), 0u8..5, 0u16..3, prop::option::of(0u8..2), prop::option::of(0u64..3)),
        (0u64..3, 0u64..2, 0u16..3, 0u16..2, any::<[bool; 3]>()),
    );
    let flow_mod = flow_mod.prop_map(|(a, b)| {
        let (mut match_, command, priority, table, new_cookie) = a;
        // As the tables keep them.
        match_.tie_to_ethernet();
        let (cookie, cookie_mask, port, timeout, flags) = b;
        use FlowModCommand::{Add, Delete, DeleteStrict, Modify, ModifyStrict};
        let command = [Add, Modify, ModifyStrict, Delete, DeleteStrict][usize::from(command)];
        let mut f = FlowModFlags::empty();
        f.set(FlowModFlags::CHECK_OVERLAP, flags[0]);
        f.set(FlowModFlags::RESET_COUNTS, flags[1]);
        Op::Mod(Box::new(FlowMod {
            command,
            match_,
            priority,
            table: table.map(TableId),
            new_cookie,
            modify_cookie: new_cookie.is_some(),
            cookie,
            cookie_mask: cookie_mask * u64::MAX,
            idle_timeout: timeout * 5,
            hard_timeout: if flags[2] { 7 } else { 0 },
            out_port: if port == 2 { base::OfPort(1) } else { base::OfPort::NONE },
            flags: f,
            actions: vec![output(port)],
            ..FlowMod::default()
        }))
    });
    prop_oneof![
        6 => flow_mod,
        2 => small_match().prop_map(|m| Op::Packet(Box::new(m.key))),
        2 => (1u64..4).prop_map(Op::Pass),
    ]
}

/// The naive table.
fn model(list: &mut Vec<Naive>, op: &FlowMod, now: u64) -> Result<(), FlowModError> {
    let admits = |f: &Naive, delete: bool| {
        let strict =
            matches!(op.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
        let matches = if strict {
            f.m == op.match_ && f.priority == op.priority
        } else {
            f.m.is_within(&op.match_)
        };
        matches
            && op.table.is_none_or(|t| t.0 == f.table)
            && (f.cookie ^ op.cookie) & op.cookie_mask == 0
            && (!delete || op.out_port == base::OfPort::NONE || f.port == op.out_port.0)
    };
    let [Action::Output { port, .. }] = op.actions[..] else { unreachable!() };
    let table = op.table.map_or(0, |t| t.0);
    let add = |list: &mut Vec<Naive>| {
        let same = |f: &Naive| f.table == table && f.m == op.match_ && f.priority == op.priority;
        let overlap =
            |f: &Naive| f.table == table && f.priority == op.priority && f.m.overlaps(&op.match_);
        if op.flags.contains(FlowModFlags::CHECK_OVERLAP)
            && !list.iter().any(same)
            && list.iter().any(overlap)
        {
            return Err(FlowModError::Overlap);
        }
        // One that takes another's place has been idle since that was.
        let used = list.iter().find(|f| same(f)).map_or(now, |f| f.used);
        list.retain(|f| !same(f));
        list.push(Naive {
            m: op.match_,
            priority: op.priority,
            table,
            cookie: op.new_cookie.unwrap_or(0),
            port: port.0,
            idle: op.idle_timeout,
            hard: op.hard_timeout,
            modified: now,
            used,
        });
        Ok(())
    };
    match op.command {
        FlowModCommand::Add => add(list)?,
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
            let mut any = false;
            for f in list.iter_mut().filter(|f| admits(f, false)) {
                any = true;
                (f.port, f.modified) = (port.0, now);
                f.cookie = op.new_cookie.unwrap_or(f.cookie);
            }
            if !any && op.new_cookie.is_some() && op.cookie_mask == 0 {
                add(list)?;
            }
        }
        FlowModCommand::Delete | FlowModCommand::DeleteStrict => list.retain(|f| !admits(f, true)),
    }
    Ok(())
}

type Row = (u8, u16, Match, u64, u16);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_sequence_of_flow_mods_agrees_with_a_naive_table(
        ops in prop::collection::vec(op(), 1..60)
    ) {
        let mut w = World::new();
        let mut list: Vec<Naive> = Vec::new();
        for op in ops {
            let now = w.now;
            match op {
                Op::Mod(fm) => {
                    let want = model(&mut list, &fm, now.as_secs());
                    let got = w.bridge().flow_mod(&fm, now).map(|_| ());
                    prop_assert_eq!(got, want);
                }
                Op::Packet(mut key) => {
                    let best = list
                        .iter_mut()
                        .filter(|f| f.table == 0 && f.m.matches(&key))
                        .max_by_key(|f| f.priority);
                    let tie = best.as_ref().map(|b| b.priority);
                    let used = best.map(|f| (f.m, f.priority));
                    let ambiguous = list
                        .iter()
                        .filter(|f| f.table == 0 && f.m.matches(&key) && Some(f.priority) == tie)
                        .count() > 1;
                    if ambiguous {
                        continue; // any of them may win
                    }
                    if let Some((m, p)) = used {
                        for f in list.iter_mut().filter(|f| f.table == 0 && f.m == m && f.priority == p) {
                            f.used = now.as_secs();
                        }
                    }
                    if key.pkt.in_port == 0 {
                        key.pkt.in_port = 2;
                        // Not the packet that the model looked at, if some flow has an in_port.
                        if list.iter().any(|f| f.m.mask.pkt.in_port != 0) {
                            list.clear();
                            w = World::new();
                            continue;
                        }
                    }
                    w.run_key(&key.pkt);
                }
                Op::Pass(secs) => {
                    w.pass(secs);
                    let now = w.now;
                    w.bridge().expire(now);
                    let t = now.as_secs();
                    let over = |since: u64, secs: u16| secs > 0 && t > since + u64::from(secs);
                    list.retain(|f| !over(f.used, f.idle) && !over(f.modified, f.hard));
                }
            }
            let mut got: Vec<Row> = w.bridge().tables().select(&Criteria::default()).map(|r| {
                let [Action::Output { port, .. }] = r.actions[..] else { unreachable!() };
                (r.table.0, r.told_priority(), r.match_.expand(), r.cookie.0, port.0)
            }).collect();
            let mut want: Vec<Row> =
                list.iter().map(|f| (f.table, f.priority, f.m, f.cookie, f.port)).collect();
            let order = |r: &Row| (r.0, r.1, *r.2.key.words(), *r.2.mask.words());
            got.sort_by_key(order);
            want.sort_by_key(order);
            prop_assert_eq!(got, want);
        }
    }
}

#[test]
fn counters_are_shared_with_whoever_credits_them() {
    let s = RuleStats::default();
    let used = Some(Instant::from_secs(9));
    s.credit(&dpif::FlowStats { n_packets: 2, n_bytes: 120, used, tcp_flags: 0 });
    s.credit(&dpif::FlowStats { n_packets: 1, n_bytes: 60, used: None, tcp_flags: 0 });
    assert_eq!((s.n_packets(), s.n_bytes(), s.used()), (3, 180, Instant::from_secs(9)));
}
