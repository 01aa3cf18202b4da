//! Stateful policies beyond the story's: IPv6, related errors, zones and marks.

use std::time::{Duration, Instant};

use testkit::peer;
use testkit::story::{Story, Vm, transfer};
use testkit::sut::{Sut, Whose};

use crate::{can_run, start, switch, tools};

/// The story's machines, with servers on them.
pub fn machines() -> Story {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    if switch() == Whose::Stock {
        story.offloads_off().unwrap();
    }
    story
}

/// A switch between them with the flows of `policy`, one a line.
pub fn under_policy<'a>(story: &'a Story, policy: &str) -> Sut<'a> {
    let sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    let file = sut.file("policy.flow");
    std::fs::write(&file, policy).unwrap();
    sut.load_policy(tools(), &file).unwrap();
    sut
}

#[test]
fn a_stateful_policy_for_ipv6() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    story.enable_ipv6().unwrap();
    let sut = under_policy(
        &story,
        "# neighbour discovery is not tracked\n\
         priority=200,icmp6,icmp_type=135,actions=normal\n\
         priority=200,icmp6,icmp_type=136,actions=normal\n\
         priority=100,ipv6,actions=ct(table=1)\n\
         priority=1,actions=drop\n\
         table=1,ipv6,in_port=2,ct_state=+new,actions=ct(commit),normal\n\
         table=1,ipv6,ct_state=+est,actions=normal\n\
         table=1,ipv6,in_port=3,ct_state=+new,actions=drop\n",
    );
    let peer = peer::path().unwrap();
    let ask = |vm: Vm, what: &str, port: &str, patience: &str| {
        let to = format!("fd00::{}", vm.other().number());
        story.vm(vm).run(&[&peer, what, &to, port, patience]).unwrap().success()
    };
    let ping = |vm: Vm| {
        let to = format!("fd00::{}", vm.other().number());
        story.vm(vm).run(&["ping", "-6", "-c", "1", "-W", "1", &to]).unwrap().success()
    };
    assert!(
        !ping(Vm::Two) && !ask(Vm::Two, "tcp", "23", "300") && !ask(Vm::Two, "udp", "7", "300")
    );
    assert!(ping(Vm::One) && ask(Vm::One, "tcp", "23", "5000") && ask(Vm::One, "udp", "7", "5000"));
    transfer(story.vm(Vm::One), story.vm(Vm::Two), "fd00::2", 4 << 20).unwrap();
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    for start in [
        "icmpv6,orig=(src=fd00::1,dst=fd00::2,id=",
        "tcp,orig=(src=fd00::1,dst=fd00::2,sport=",
        "udp,orig=(src=fd00::1,dst=fd00::2,sport=",
    ] {
        assert!(connections.lines().any(|line| line.starts_with(start)), "{start}: {connections}");
    }
    assert!(!connections.contains("orig=(src=fd00::2"), "{connections}");
}

#[test]
fn related_errors_come_back() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let policy = |related: &str| {
        format!(
            "priority=100,ip,actions=ct(table=1)\n\
             priority=10,arp,actions=normal\n\
             priority=1,actions=drop\n\
             table=1,ip,in_port=2,ct_state=+new,actions=ct(commit),normal\n\
             table=1,ip,ct_state=+est,actions=normal\n\
             table=1,ip,in_port=3,ct_state=+rel-est,actions={related}\n"
        )
    };
    let sut = under_policy(&story, &policy("drop"));
    let peer = peer::path().unwrap();
    // A port where nobody listens: the other machine says so by an ICMP error. A fresh connection
    // each time, because the client's port is.
    let refused = || {
        let begin = Instant::now();
        let argv = [&peer, "udp", Vm::Two.ip(), "9999", "2000"];
        let ran = story.vm(Vm::One).run(&argv).unwrap();
        assert_eq!(ran.status, Some(1), "{ran}");
        (ran.stdout.contains("refused"), begin.elapsed())
    };
    let (told, took) = refused();
    assert!(!told && took >= Duration::from_millis(1900), "the error was to be dropped");
    let file = sut.file("policy.flow");
    std::fs::write(&file, policy("normal")).unwrap();
    sut.load_policy(tools(), &file).unwrap();
    let (told, took) = refused();
    assert!(told, "the error is related to the datagram and must come back; waited {took:?}");
    // An error about a connection that does not exist is not related to anything.
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    assert!(!connections.contains("icmp,"), "an error makes no connection: {connections}");
}

#[test]
fn zones_and_marks() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let sut = under_policy(
        &story,
        "priority=10,arp,actions=normal\n\
         priority=1,actions=drop\n\
         priority=100,ip,in_port=2,actions=ct(table=1,zone=5)\n\
         priority=100,ip,in_port=3,actions=load:5->NXM_NX_REG0[0..15],\
         ct(table=2,zone=NXM_NX_REG0[0..15])\n\
         table=1,ip,ct_state=+trk+new,\
         actions=ct(commit,zone=5,exec(set_field:0x7->ct_mark,set_field:0x1234->ct_label)),normal\n\
         table=1,ip,ct_state=+trk+est,actions=normal\n\
         table=2,ip,ct_zone=5,ct_mark=0x7,ct_label=0x1234,ct_state=+trk+est+rpl,actions=normal\n",
    );
    assert!(story.ping(Vm::One, 2).unwrap());
    assert!(!story.ping(Vm::Two, 1).unwrap());
    assert!(story.ask(Vm::One, "tcp", &["23", "5000"]).unwrap());
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack zone=5").unwrap();
    assert_eq!(connections.lines().count(), 2, "{connections}");
    for line in connections.lines() {
        assert!(line.contains(",zone=5,mark=7,labels=0x1234"), "{connections}");
    }
    assert_eq!(sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack zone=0").unwrap(), "");
    sut.ok(tools(), "ovs-appctl dpctl/flush-conntrack zone=5").unwrap();
    assert_eq!(sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap(), "");
}
