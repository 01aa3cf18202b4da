//! `learn` and `fin_timeout`: flows that packets make and end.
#![allow(clippy::unwrap_used)]

mod common;

use base::TableId;
use common::World;
use flow::text::{Mode, NoNames};
use ofproto::Criteria;
use openflow::flow_mod::FlowModCommand;
use openflow::text::{ActionsText, parse_flow};
use openflow::version::Version;

fn add(w: &mut World, flow: &str) {
    let fm = parse_flow(flow, FlowModCommand::Add, &NoNames, Mode::Ovs).unwrap().flow;
    let now = w.now;
    w.bridge().flow_mod(&fm, now).unwrap();
}

/// `n_packets actions` of the flows of a table, sorted.
fn flows(w: &mut World, table: u8) -> Vec<String> {
    let c = Criteria { table: Some(TableId(table)), ..Criteria::default() };
    let text = |r: &std::sync::Arc<ofproto::Rule>| {
        let actions = ActionsText { actions: &r.actions, names: &NoNames, version: Version::Of10 };
        format!("{} {} {actions}", r.stats.n_packets(), r.priority)
    };
    let mut all: Vec<String> = w.bridge().tables().select(&c).map(text).collect();
    all.sort();
    all
}

const FROM_2: &str =
    "in_port=2,tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1";
const LEARN: &str = "learn(table=1,hard_timeout=10,priority=7,cookie=0x5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],\
                     output:NXM_OF_IN_PORT[],load:0x7->NXM_NX_REG1[3..5])";

#[test]
fn the_next_packet_meets_what_one_has_learned() {
    let mut w = World::new();
    add(&mut w, &format!("actions={LEARN},resubmit(,1)"));
    add(&mut w, "table=1,priority=1,actions=flood");
    assert_eq!(w.actions(FROM_2), "1,3");
    let back = "in_port=3,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01";
    assert_eq!(w.actions(back), "2");
    let itself = "in_port=2,dl_src=02:00:00:00:00:09,dl_dst=02:00:00:00:00:09";
    assert_eq!(w.actions(itself), "1,3", "a packet's own lookups do not find it");
    let x = w.run(itself);
    assert!(x.actions.is_empty(), "to the port that it came from: {:?}", x.actions);
    assert_eq!(
        flows(&mut w, 1),
        [
            "0 7 output:3,load:0x7->NXM_NX_REG1[3..5]",
            "1 7 output:2,load:0x7->NXM_NX_REG1[3..5]",
            "1 7 output:2,load:0x7->NXM_NX_REG1[3..5]",
            "2 1 FLOOD",
        ],
    );
}

#[test]
fn what_was_looked_up_before_stays_looked_up() {
    let mut w = World::new();
    add(&mut w, "actions=resubmit(,1)");
    add(
        &mut w,
        "table=1,priority=1,actions=learn(table=1,priority=5,in_port=2,output:NXM_OF_IN_PORT[]),output:3",
    );
    assert_eq!(w.actions(FROM_2), "3");
    assert_eq!(
        flows(&mut w, 1),
        [
            "0 5 output:2",
            "1 1 learn(table=1,priority=5,in_port=2,output:NXM_OF_IN_PORT[]),output:3"
        ]
    );
}

#[test]
fn learning_again_is_no_news_but_counts_the_hard_timeout_anew() {
    let mut w = World::new();
    add(&mut w, &format!("actions={LEARN}"));
    assert_eq!(w.run(FROM_2).effects.len(), 1);
    w.pass(8);
    let x = w.run(FROM_2);
    assert!(!x.effects[0].is_news(&w.sw, w.now), "it is known");
    w.pass(8);
    let now = w.now;
    w.bridge().expire(now);
    assert_eq!(flows(&mut w, 1).len(), 1);
    w.pass(2);
    let now = w.now;
    w.bridge().expire(now);
    assert_eq!(flows(&mut w, 1).len(), 1, "at the very moment it is still there");
    w.pass(1);
    let now = w.now;
    w.bridge().expire(now);
    assert!(flows(&mut w, 1).is_empty());
    assert!(x.credits.learned.len() == 1 && w.run(FROM_2).effects.len() == 1, "learned anew");
}

#[test]
fn no_more_are_learned_than_the_limit() {
    let mut w = World::new();
    add(
        &mut w,
        "actions=learn(table=1,cookie=0x9,limit=1,result_dst=NXM_NX_REG0[4],NXM_OF_IN_PORT[],load:0x3->NXM_NX_REG2[]),resubmit(,2)",
    );
    add(&mut w, "table=2,reg0=0x10,actions=3");
    add(&mut w, "table=2,reg0=0,actions=2");
    assert_eq!(w.actions("in_port=2,arp"), "3");
    assert_eq!(w.actions("in_port=3,arp"), "2", "the limit is reached");
    assert_eq!(w.actions("in_port=2,arp"), "3", "what is learned already is");
    assert_eq!(flows(&mut w, 1).len(), 1);
}

#[test]
fn learned_flows_go_with_the_last_that_learns_them() {
    let mut w = World::new();
    let learn = "learn(table=1,cookie=0x9,delete_learned,NXM_OF_IN_PORT[],load:0x3->NXM_NX_REG2[])";
    add(&mut w, &format!("in_port=2,actions={learn}"));
    add(&mut w, &format!("in_port=3,actions={learn},2"));
    add(&mut w, "table=1,priority=3,actions=drop");
    w.run("in_port=2,arp");
    w.run("in_port=3,arp");
    assert_eq!(flows(&mut w, 1).len(), 3);
    let mut del = common::flow_mod("table=0,in_port=2", &[]);
    del.command = FlowModCommand::Delete;
    let now = w.now;
    w.bridge().flow_mod(&del, now).unwrap();
    assert_eq!(flows(&mut w, 1).len(), 3, "another still learns them");
    add(&mut w, "in_port=3,actions=2");
    assert_eq!(flows(&mut w, 1), ["0 3 drop"]);
}

#[test]
fn the_end_of_a_connection_shortens_lives() {
    let mut w = World::new();
    add(
        &mut w,
        "in_port=2,tcp,idle_timeout=60,actions=fin_timeout(idle_timeout=5,hard_timeout=20),3",
    );
    let x = w.run(FROM_2);
    let timeouts =
        |w: &mut World| w.bridge().tables().select(&Criteria::default()).next().unwrap().timeouts();
    assert_eq!(timeouts(&mut w), (60, 0));
    let fin = dpif::FlowStats { n_packets: 1, n_bytes: 60, used: Some(w.now), tcp_flags: 0x11 };
    x.credits.add(&fin);
    assert_eq!(timeouts(&mut w), (5, 20));
    for _ in 0..6 {
        w.pass(1);
        let now = w.now;
        w.bridge().expire(now);
    }
    assert!(flows(&mut w, 0).is_empty(), "although its time was to be up much later");
}
