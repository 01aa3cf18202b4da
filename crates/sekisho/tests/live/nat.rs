//! Address translation between real machines: by `nat(src=…)`, by `nat(dst=…)`, IPv4 and IPv6.

use testkit::peer;
use testkit::story::{Vm, transfer};

use crate::traffic::{machines, under_policy};
use crate::{can_run, switch, tools};

#[test]
fn sources_and_destinations_are_translated() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    // The second machine knows the first as 192.168.0.9, which is nowhere; the first knows the
    // second as 192.168.0.80 as well.
    for (vm, ip) in [(Vm::One, "192.168.0.80"), (Vm::Two, "192.168.0.9")] {
        let line = format!("neigh replace {ip} lladdr {} dev eth0 nud permanent", vm.other().mac());
        story.vm(vm).ip(&line).unwrap();
    }
    let sut = under_policy(
        &story,
        "priority=100,arp,actions=normal\n\
         priority=50,ip,in_port=2,nw_dst=192.168.0.80,actions=ct(commit,zone=1,nat(dst=192.168.0.2),table=1)\n\
         priority=40,ip,in_port=2,actions=ct(commit,zone=2,nat(src=192.168.0.9:40000-40999),table=1)\n\
         priority=40,ip,in_port=3,nw_dst=192.168.0.9,actions=ct(zone=2,nat,table=2)\n\
         priority=30,ip,in_port=3,actions=ct(zone=1,nat,table=2)\n\
         table=1,ct_state=-inv+trk+snat,actions=output:3\n\
         table=1,ct_state=-inv+trk+dnat,actions=output:3\n\
         table=2,ct_state=+rpl+trk,actions=output:2\n",
    );
    let peer = peer::path().unwrap();
    let one = story.vm(Vm::One);
    let ask = |what: &str, to: &str, port: &str, patience: &str| {
        one.run(&[&peer, what, to, port, patience]).unwrap().success()
    };
    for to in ["192.168.0.2", "192.168.0.80"] {
        assert!(one.run(&["ping", "-c", "1", "-W", "2", to]).unwrap().success(), "ping {to}");
        assert!(ask("tcp", to, "23", "5000"), "tcp to {to}");
        assert!(ask("udp", to, "7", "5000"), "udp to {to}");
        // Large segments, whose checksums the devices are to complete.
        transfer(one, story.vm(Vm::Two), to, 4 << 20).unwrap();
    }
    // Nobody comes in by the names that exist for answers only.
    let back = story.vm(Vm::Two);
    assert!(!back.run(&[&peer, "tcp", "192.168.0.9", "23", "300"]).unwrap().success());
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    let has = |start: &str, rest: &[&str]| {
        let fits = |l: &str| l.starts_with(start) && rest.iter().all(|r| l.contains(r));
        assert!(connections.lines().any(fits), "{start} {rest:?}: {connections}");
    };
    for proto in ["tcp", "udp", "icmp"] {
        has(
            &format!("{proto},orig=(src=192.168.0.1,dst=192.168.0.2,"),
            &["reply=(src=192.168.0.2,dst=192.168.0.9,", ",zone=2"],
        );
        has(
            &format!("{proto},orig=(src=192.168.0.1,dst=192.168.0.80,"),
            &["reply=(src=192.168.0.2,dst=192.168.0.1,", ",zone=1"],
        );
    }
    let ported = connections.lines().filter(|l| l.starts_with("tcp") && l.contains("zone=2"));
    for line in ported {
        let port = line.rsplit_once("dport=").and_then(|(_, p)| p.split(')').next()).unwrap();
        assert!((40_000..41_000).contains(&port.parse::<u32>().unwrap()), "{line}");
    }
}

#[test]
fn errors_about_translated_packets_reach_their_sender() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let line = format!("neigh replace 192.168.0.9 lladdr {} dev eth0 nud permanent", Vm::One.mac());
    story.vm(Vm::Two).ip(&line).unwrap();
    let _sut = under_policy(
        &story,
        "priority=100,arp,actions=normal\n\
         ip,in_port=2,actions=ct(commit,nat(src=192.168.0.9),table=1)\n\
         ip,in_port=3,actions=ct(nat,table=2)\n\
         table=1,ct_state=+trk-inv,actions=output:3\n\
         table=2,ct_state=+trk+rel+rpl,actions=output:2\n",
    );
    // Nobody listens there: the kernel of the second machine says so to 192.168.0.9, and the socket
    // of the first hears it at once.
    let ran = story
        .vm(Vm::One)
        .run(&[&peer::path().unwrap(), "udp", "192.168.0.2", "4444", "5000"])
        .unwrap();
    assert!(!ran.success());
    assert!(ran.text().contains("refused"), "{}", ran.text());
}
