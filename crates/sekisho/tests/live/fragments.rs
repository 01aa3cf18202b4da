//! Packets larger than the wire's frames, in fragments through the connection tracker: plain and translated,
//! IPv4 and IPv6.

use testkit::netns::Netns;
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::simulated::{UDP, simulated};
use crate::traffic::{machines, under_policy};
use crate::{can_run, switch, tools};

/// Neighbour discovery goes past the tracker.
const NEIGHBOURS: &str = "priority=200,arp,actions=normal\n\
     priority=200,icmp6,icmp_type=135,actions=normal\n\
     priority=200,icmp6,icmp_type=136,actions=normal\n\
     priority=1,actions=drop\n";

fn ping(story: &Story, from: Vm, to: &str, size: &str) -> bool {
    let argv = ["ping", "-c", "3", "-i", "0.2", "-W", "2", "-s", size, to];
    story.vm(from).run(&argv).unwrap().success()
}

fn status(sut: &Sut<'_>, line: &str) -> u64 {
    let text = sut.ok(tools(), "ovs-appctl dpctl/ipf-get-status").unwrap();
    let found = text.lines().find_map(|l| l.trim().strip_prefix(line)?.strip_prefix(": "));
    found.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}: {text}"))
}

#[test]
fn large_pings_pass_a_stateful_policy() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    story.enable_ipv6().unwrap();
    let sut = under_policy(
        &story,
        &format!(
            "{NEIGHBOURS}priority=100,ip,actions=ct(table=1)\n\
             priority=100,ipv6,actions=ct(table=1)\n\
             table=1,in_port=2,ct_state=+trk+new,ip,actions=ct(commit),output:3\n\
             table=1,in_port=2,ct_state=+trk+new,ipv6,actions=ct(commit),output:3\n\
             table=1,in_port=2,ct_state=+trk+est,actions=output:3\n\
             table=1,in_port=3,ct_state=+trk+est+rpl,actions=output:2\n"
        ),
    );
    for (version, one, two) in [("v4", "192.168.0.1", "192.168.0.2"), ("v6", "fd00::1", "fd00::2")]
    {
        assert!(ping(&story, Vm::One, two, "8000"), "{two}");
        assert!(!ping(&story, Vm::Two, one, "8000"), "nobody opens connections to {one}");
        let completed = status(&sut, &format!("{version} frags completed"));
        // Three pings there and back and three that end here, each in six fragments; what is new is
        // tracked once more by the commit.
        assert!(completed >= 9 * 6, "{completed} fragments of {version}");
        assert_eq!(status(&sut, &format!("{version} frags accepted")), completed);
    }
    assert_eq!(status(&sut, "num frag"), 0);
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    let of = |start: &str| connections.lines().filter(|l| l.starts_with(start)).count();
    assert_eq!(
        (of("icmp,orig=(src=192.168.0.1"), of("icmpv6,orig=(src=fd00::1")),
        (1, 1),
        "{connections}"
    );
    // Turned off, they are invalid, and small ones pass as before.
    for version in ["v4", "v6"] {
        sut.ok(tools(), &format!("ovs-appctl dpctl/ipf-set-disabled {version}")).unwrap();
    }
    for two in ["192.168.0.2", "fd00::2"] {
        assert!(!ping(&story, Vm::One, two, "8000") && ping(&story, Vm::One, two, "100"), "{two}");
    }
}

#[test]
fn large_pings_are_translated() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    story.enable_ipv6().unwrap();
    // The second machine knows the first by addresses which are nowhere.
    for ip in ["192.168.0.9", "fd00::9"] {
        let line = format!("neigh replace {ip} lladdr {} dev eth0 nud permanent", Vm::One.mac());
        story.vm(Vm::Two).ip(&line).unwrap();
    }
    let sut = under_policy(
        &story,
        &format!(
            "{NEIGHBOURS}priority=100,in_port=2,ip,actions=ct(commit,zone=1,nat(src=192.168.0.9)),output:3\n\
             priority=100,in_port=2,ipv6,actions=ct(commit,zone=1,nat(src=fd00::9)),output:3\n\
             priority=100,in_port=3,ip,actions=ct(zone=1,nat,table=1)\n\
             priority=100,in_port=3,ipv6,actions=ct(zone=1,nat,table=1)\n\
             table=1,ct_state=+trk+est+rpl,actions=output:2\n"
        ),
    );
    for two in ["192.168.0.2", "fd00::2"] {
        assert!(ping(&story, Vm::One, two, "8000"), "{two}");
        assert!(ping(&story, Vm::One, two, "100"), "{two}");
    }
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack zone=1").unwrap();
    for words in [
        ["icmp,orig=(src=192.168.0.1,", "reply=(src=192.168.0.2,dst=192.168.0.9,"],
        ["icmpv6,orig=(src=fd00::1,", "reply=(src=fd00::2,dst=fd00::9,"],
    ] {
        let is_it = |l: &&str| words.iter().all(|w| l.contains(w));
        assert_eq!(connections.lines().filter(is_it).count(), 2, "{words:?}: {connections}");
    }
}

#[test]
fn fragments_that_nothing_follows_on_wait_where_they_can_be_seen() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let sut = under_policy(
        &story,
        &format!(
            "{NEIGHBOURS}priority=100,ip,ip_frag=later,actions=drop\n\
             priority=90,ip,actions=ct(commit,zone=9),normal\n"
        ),
    );
    assert!(!ping(&story, Vm::One, "192.168.0.2", "2000"));
    assert_eq!((status(&sut, "num frag"), status(&sut, "v4 frags accepted")), (3, 3));
    let text = sut.ok(tools(), "ovs-appctl dpctl/ipf-get-status -m").unwrap();
    let waiting = |l: &&str| {
        l.starts_with("(src=192.168.0.1,dst=192.168.0.2,recirc_id=0,ip_id=")
            && l.ends_with(",dl_type=0x800,zone=9,nw_proto=1,num_fragments=1,state=first frag)")
    };
    assert_eq!(text.lines().filter(waiting).count(), 3, "{text}");
    // What the commands take, and what they say to what they do not.
    let say = |line: &str| {
        let mut argv = vec!["ovs-appctl"];
        argv.extend(line.split(' '));
        let ran = sut.tool(tools(), &argv).unwrap();
        (ran.success(), format!("{}{}", ran.stdout, ran.stderr))
    };
    for (line, ok, answer) in [
        ("dpctl/ipf-set-enabled v6", true, "enabling fragmentation reassembly successful"),
        ("dpctl/ipf-set-disabled v4", true, "disabling fragmentation reassembly successful"),
        (
            "dpctl/ipf-set-enabled v5",
            false,
            "parameter missing: 'v4' for IPv4 or 'v6' for IPv6 (Invalid argument)",
        ),
        ("dpctl/ipf-set-min-frag v4 400", true, "setting minimum fragment size successful"),
        (
            "dpctl/ipf-set-min-frag v6 399",
            false,
            "requested minimum fragment size too small; see documentation (Operation not permitted)",
        ),
        (
            "dpctl/ipf-set-min-frag v4 many",
            false,
            "parameter missing for minimum fragment size (Invalid argument)",
        ),
        (
            "dpctl/ipf-set-min-frag ip 400",
            false,
            "parameter missing: v4 for IPv4 or v6 for IPv6 (Invalid argument)",
        ),
        ("dpctl/ipf-set-max-nfrags 5000", true, "setting maximum fragments successful"),
        (
            "dpctl/ipf-set-max-nfrags 5001",
            false,
            "setting maximum fragments failed (Operation not permitted)",
        ),
        (
            "dpctl/ipf-set-max-nfrags lots",
            false,
            "parameter missing for maximum fragments (Invalid argument)",
        ),
        ("dpctl/ipf-get-status br0", false, "datapath not found (Invalid argument)"),
    ] {
        let (success, text) = say(line);
        assert_eq!(success, ok, "{line}: {text}");
        assert!(text.contains(answer), "{line}: {text}");
    }
    for (line, n) in [
        ("v4 enabled", 0),
        ("v6 enabled", 1),
        ("max num frags (v4/v6)", 5000),
        ("min v4 frag size", 400),
        ("min v6 frag size", 1280),
    ] {
        assert_eq!(status(&sut, line), n, "{line}");
    }
}

#[test]
fn why_says_what_a_fragment_waits_for() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 2);
    for flow in
        ["ip,actions=ct(table=1)", "table=1,ct_state=+est,actions=2", "table=1,actions=ct(commit)"]
    {
        sut.ok(tools(), &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
    }
    let why = |flow: &str| {
        let flow = format!("in_port=1,udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,{flow}");
        sut.ok(Whose::Ours, &format!("why br0 {flow}")).unwrap()
    };
    let waits = "a fragment waits until its datagram is whole, and gets its verdict";
    let first = "ip_frag=first,udp_src=7,udp_dst=9";
    assert!(why(first).contains(&format!("{waits}: no connection between")), "{}", why(first));
    assert!(
        why("ip_frag=later").contains(&format!("{waits}; this one")),
        "{}",
        why("ip_frag=later")
    );
    // Once its connection is known, the first fragment tells.
    sut.ok(tools(), &format!("ovs-appctl netdev-dummy/receive p1 {UDP}")).unwrap();
    assert!(why(first).contains(&format!("{waits}: it is of a connection")), "{}", why(first));
    sut.ok(tools(), "ovs-appctl dpctl/ipf-set-disabled v4").unwrap();
    assert!(why(first).contains("cannot be tracked without reassembly"), "{}", why(first));
}
