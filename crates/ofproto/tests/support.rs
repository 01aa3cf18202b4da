//! What becomes of actions that the datapath is said not to have.
#![allow(clippy::unwrap_used)]

mod common;

use common::{World, output};
use dpif::SlowReason;
use flow::Match;
use flow::text::{Mode, NoNames, Tok};
use ofproto::Support;
use openflow::action::Action;

fn list(text: &str) -> Vec<Action> {
    openflow::text::parse_actions(Tok::line(text), &Match::ANY, &NoNames, Mode::Ovs).unwrap()
}

#[test]
fn a_copy_is_a_sample_of_all_or_not_made() {
    let mut w = World::new();
    w.add("", &list("clone(ct(commit),output:3),LOCAL"));
    let generation = w.sw.generation();
    assert_eq!(w.actions("in_port=2,ip"), "clone(ct(commit),3),1");
    w.sw.set_support(Support { clone: false, ..Support::default() });
    assert!(w.sw.generation() > generation, "what was cached is stale");
    assert_eq!(w.actions("in_port=2,ip"), "sample(sample=100.0%,actions(ct(commit),3)),1");
    w.sw.set_support(Support { clone: false, sample_nesting: 2, ..Support::default() });
    assert_eq!(w.actions("in_port=2,ip"), "1");
}

#[test]
fn a_length_is_asked_of_the_packet_itself() {
    let mut w = World::new();
    w.add("", &list("check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1)"));
    w.add("table=1,reg0=1", &[output(3)]);
    w.add("table=1,reg0=0", &list("LOCAL"));
    assert_eq!(w.actions("in_port=2,ip"), "check_pkt_len(size=100,gt(3),le(1))");
    w.sw.set_support(Support { check_pkt_len: false, ..Support::default() });
    let key = w.dp_key("in_port=2,ip");
    for (len, port) in [(100, 1), (101, 3)] {
        let x = w.sw.xlate_packet(w.now, &key, len);
        assert_eq!(x.actions, [dpif::DpAction::Output(base::DpPort(port))]);
        assert_eq!(x.slow, Some(SlowReason::Action), "each packet by itself");
    }
    assert_eq!(w.actions("in_port=2,ip"), "1", "without a packet: as if it were short");
}

#[test]
fn labels_outside_of_ethernet_are_for_the_slow_path() {
    let mut w = World::new();
    w.add("", &list("encap(mpls),encap(ethernet),output:3"));
    let key = w.dp_key("in_port=2,ip");
    assert_eq!(w.run_key(&key).slow, None);
    w.sw.set_support(Support { add_mpls: false, ..Support::default() });
    assert_eq!(w.run_key(&key).slow, Some(SlowReason::Action));
}
