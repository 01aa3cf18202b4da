//! The story with real virtual machines: two QEMU guests on taps that QEMU opened.

use testkit::guest::{Guest, Images};
use testkit::need;
use testkit::netns::Netns;
use testkit::process::Ran;
use testkit::story::{POLICY, POLICY_IP, Vm};
use testkit::sut::Whose;

use crate::story::settle;
use crate::{can_run, start, switch, tools};

#[test]
fn story_qemu() {
    if !can_run(switch(), tools()) {
        return;
    }
    let Some(images) = Images::prepare().unwrap() else { return };
    let _turn = need::turn("cpu").unwrap();
    let sw = Netns::new("switch").unwrap();
    let mut vm1 = Guest::start(&sw, Vm::One, "tap2", &images).unwrap();
    let mut vm2 = Guest::start(&sw, Vm::Two, "tap4", &images).unwrap();
    let mut sut = start(&sw);
    vm1.ready().unwrap();
    vm2.ready().unwrap();
    for tap in ["tap2", "tap4"] {
        sw.ip(&format!("link set {tap} up")).unwrap();
    }
    sut.add_bridge(tools(), &["tap2", "tap4"]).unwrap();

    // Before the policy, both ways.
    answered(&vm1.sh("ping -c 3 192.168.0.2").unwrap());
    answered(&vm2.sh("ping -c 3 192.168.0.1").unwrap());

    let verbatim = switch() == Whose::Ours && tools() == Whose::Ours;
    sut.load_policy(tools(), if verbatim { POLICY } else { POLICY_IP }).unwrap();
    sut.ok(tools(), "ovs-appctl dpctl/flush-conntrack").unwrap();

    // VM2 -> VM1 is stopped.
    let ping = vm2.sh("ping -c 2 -W 1 192.168.0.1").unwrap();
    assert!(!ping.success() && ping.stdout.contains(" 100% packet loss"), "{ping}");
    let telnet = vm2.sh("(echo hello; sleep 1) | timeout 3 telnet 192.168.0.1 23").unwrap();
    assert!(!telnet.stdout.contains("hello"), "{telnet}");
    let dns = vm2.sh("timeout 3 nslookup www.example.org 192.168.0.1").unwrap();
    assert!(!dns.success(), "{dns}");

    // VM1 -> VM2 passes. The stock switch forwards no TCP or UDP of a guest with its default
    // offloads.
    answered(&vm1.sh("ping -c 3 192.168.0.2").unwrap());
    if switch() == Whose::Ours {
        let telnet = vm1.sh("(echo hello; sleep 1) | telnet 192.168.0.2 23").unwrap();
        assert!(telnet.stdout.contains("hello"), "{telnet}");
        let dns = vm1.sh("nslookup www.example.org 192.168.0.2").unwrap();
        assert!(dns.success() && dns.stdout.contains("Address: 192.168.0.2"), "{dns}");
        // Bulk data in segments as large as virtio makes them.
        vm2.sh("peer sink 5001 > /tmp/received &").unwrap();
        let sent = vm1.sh("sleep 1; peer send 192.168.0.2 5001 4000000").unwrap();
        let received = vm2.sh("sleep 1; cat /tmp/received").unwrap();
        let sent = sent.stdout.trim().strip_prefix("sent ").unwrap_or("nothing").to_owned();
        assert!(received.stdout.contains(&format!("received {sent}")), "{sent}: {received}");
    }

    // Counters and connections tell the same.
    settle(&sut);
    let flows = sut.ok(tools(), "ovs-ofctl dump-flows br0 table=1").unwrap();
    for line in flows.lines().filter(|l| l.contains("table=1")) {
        assert!(!line.contains("n_packets=0,"), "{flows}");
    }
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    assert!(connections.contains("icmp,orig=(src=192.168.0.1,dst=192.168.0.2,"), "{connections}");
    assert!(!connections.contains("orig=(src=192.168.0.2"), "{connections}");
    sut.check_alive().unwrap();
}

fn answered(ping: &Ran) {
    assert!(ping.success() && ping.stdout.contains(" 0% packet loss"), "{ping}");
}
