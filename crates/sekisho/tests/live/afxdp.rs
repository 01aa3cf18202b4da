//! Ports of `type=afxdp`: the story over them, and what is special to them.

use testkit::need;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{POLICY, Reach, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::BINARY;

const OURS: Whose = Whose::Ours;

fn get(sut: &Sut<'_>, interface: &str, column: &str) -> String {
    let line = format!("ovs-vsctl get Interface {interface} {column}");
    sut.ok(OURS, &line).unwrap().trim().trim_matches('"').to_owned()
}

/// Makes interfaces AF_XDP ones. False, with a note, if this kernel has no AF_XDP for us.
fn become_afxdp(sut: &Sut<'_>, interfaces: &[&str], options: &str) -> bool {
    for name in interfaces {
        sut.ok(OURS, &format!("ovs-vsctl set Interface {name} type=afxdp {options}")).unwrap();
        let error = get(sut, name, "error");
        let steps = ["making an AF_XDP socket", "making a BPF map", "loading the XDP program"];
        if steps.iter().any(|step| error.contains(step)) {
            return need::absent(&error).unwrap();
        }
        assert_eq!(error, "[]");
    }
    true
}

fn has_program(story: &Story, device: &str) -> bool {
    story.sw.ip(&format!("-d link show {device}")).unwrap().contains("prog/xdp")
}

fn reaches(story: &Story) {
    eventually("vm1 reaches vm2", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(()))).unwrap();
}

/// The story between machines with all their offloads on, in every mode that a veth has.
#[test]
fn the_story_over_af_xdp() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let mut sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    sut.add_bridge(OURS, &["vm1p", "vm2p"]).unwrap();
    sut.load_policy(OURS, POLICY).unwrap();
    let types = sut.ok(OURS, "ovs-vsctl get Open_vSwitch . iface_types").unwrap();
    assert!(types.contains("afxdp"), "{types}");
    for (options, mode) in [
        ("", "native"),
        ("options:xdp-mode=generic", "generic"),
        ("options:xdp-mode=native options:use-need-wakeup=false", "native"),
    ] {
        if !become_afxdp(&sut, &["vm1p", "vm2p"], options) {
            return;
        }
        for (port, number) in [("vm1p", "2"), ("vm2p", "3")] {
            assert_eq!(get(&sut, port, "status:xdp-mode"), mode);
            assert_eq!(get(&sut, port, "status:driver_name"), "veth");
            assert_eq!(get(&sut, port, "ofport"), number);
            assert!(has_program(&story, port) || mode == "generic");
        }
        reaches(&story);
        sut.ok(OURS, "ovs-appctl dpctl/flush-conntrack").unwrap();
        assert_eq!(story.reach(Vm::Two, 400).unwrap(), Reach::NONE, "{mode}");
        assert_eq!(story.reach(Vm::One, 5000).unwrap(), Reach::ALL, "{mode}");
        story.transfer(Vm::One, 8 << 20).unwrap();
        // The other way, by a connection that is allowed.
        sut.ok(
            OURS,
            "ovs-ofctl mod-flows br0 table=1,in_port=3,ct_state=+new,actions=ct(commit),normal",
        )
        .unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(|| story.transfer(Vm::One, 8 << 20));
            let back = scope.spawn(|| story.transfer(Vm::Two, 8 << 20));
            there.join().unwrap().unwrap();
            back.join().unwrap().unwrap();
        });
        sut.load_policy(OURS, POLICY).unwrap();
        let statistics = eventually("statistics", DEADLINE, || {
            let text = get(&sut, "vm1p", "statistics");
            Ok(text.contains("xsk_queue_0_rx_dropped").then_some(text))
        });
        statistics.unwrap();
    }
    // Back to a port like any other.
    for port in ["vm1p", "vm2p"] {
        sut.ok(OURS, &format!("ovs-vsctl set Interface {port} type=system")).unwrap();
        let status = get(&sut, port, "status");
        assert!(!status.contains("xdp-mode") && !has_program(&story, port), "{status}");
    }
    sut.check_alive().unwrap();
}

/// Two bridges with a trunk between them, all of it AF_XDP and frames of 9,000 bytes.
#[test]
fn tags_and_large_frames_pass_af_xdp_ports() {
    let story = Story::new().unwrap();
    story.sw.ip("link add t0 mtu 9000 type veth peer name t1 mtu 9000").unwrap();
    for device in ["t0 up", "t1 up", "vm1p mtu 8996", "vm2p mtu 8996"] {
        story.sw.ip(&format!("link set {device}")).unwrap();
    }
    for vm in [Vm::One, Vm::Two] {
        story.vm(vm).ip("link set eth0 mtu 8996").unwrap();
    }
    let mut sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    for line in [
        "ovs-vsctl add-br br0 -- add-port br0 vm1p tag=100 -- add-port br0 t0",
        "ovs-vsctl add-br br1 -- add-port br1 vm2p tag=100 -- add-port br1 t1",
        "ovs-ofctl del-flows br1",
        "ovs-ofctl add-flow br1 priority=1,in_port=vm2p,actions=normal",
        "ovs-ofctl add-flow br1 priority=1,in_port=t1,dl_vlan=100,actions=normal",
    ] {
        sut.ok(OURS, line).unwrap();
    }
    if !become_afxdp(&sut, &["vm1p", "vm2p", "t0", "t1"], "") {
        return;
    }
    sut.ok(OURS, "ovs-ofctl add-flow br1 priority=1,in_port=vm2p,actions=normal").unwrap();
    sut.ok(OURS, "ovs-ofctl add-flow br1 priority=1,in_port=t1,dl_vlan=100,actions=normal")
        .unwrap();
    reaches(&story);
    for size in ["1472", "4000", "8968"] {
        let argv =
            ["ping", "-c", "2", "-i", "0.05", "-W", "1", "-M", "do", "-s", size, Vm::Two.ip()];
        let ran = story.vm(Vm::One).run(&argv).unwrap();
        assert!(ran.success(), "{ran}");
    }
    story.transfer(Vm::One, 8 << 20).unwrap();
    story.transfer(Vm::Two, 8 << 20).unwrap();
    let flows = sut.ok(OURS, "ovs-ofctl dump-flows br1 in_port=t1,dl_vlan=100").unwrap();
    assert!(flows.contains("dl_vlan=100") && !flows.contains("n_packets=0,"), "{flows}");
    sut.check_alive().unwrap();
}

/// Ports that go while frames come, devices that vanish, a daemon that is killed: nothing remains.
#[test]
fn af_xdp_ports_leave_nothing_behind() {
    let story = Story::new().unwrap();
    let mut sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    sut.add_bridge(OURS, &["vm1p", "vm2p"]).unwrap();
    if !become_afxdp(&sut, &["vm1p", "vm2p"], "") {
        return;
    }
    reaches(&story);
    let flood = ["ping", "-q", "-i", "0.002", "-c", "100000", Vm::Two.ip()];
    let mut flood = story.vm(Vm::One).spawn(&flood).unwrap();
    let without_program = |device: &str| {
        let gone = || Ok((!has_program(&story, device)).then_some(()));
        eventually("no XDP program", DEADLINE, gone).unwrap();
    };
    for _ in 0..5 {
        for port in ["vm1p", "vm2p"] {
            sut.ok(OURS, &format!("ovs-vsctl del-port {port}")).unwrap();
            without_program(port);
            let line = format!("ovs-vsctl add-port br0 {port} -- set Interface {port} type=afxdp");
            sut.ok(OURS, &line).unwrap();
            assert_eq!(get(&sut, port, "error"), "[]");
            assert!(has_program(&story, port));
        }
        reaches(&story);
    }
    flood.kill();
    for _ in 0..2 {
        story.sw.ip("link del vm1p").unwrap();
        eventually("vm1p is missed", DEADLINE, || {
            Ok(get(&sut, "vm1p", "error").contains("No such device").then_some(()))
        })
        .unwrap();
        story.plug(Vm::One).unwrap();
        reaches(&story);
        assert_eq!(get(&sut, "vm1p", "status:xdp-mode"), "native");
    }
    sut.kill();
    without_program("vm1p");
    without_program("vm2p");
    sut.start_again().unwrap();
    reaches(&story);
    assert!(has_program(&story, "vm1p"));
    sut.stop().unwrap();
    without_program("vm1p");
    without_program("vm2p");
}

/// A device with two queues has two sockets, whose frames all come through.
#[test]
fn all_queues_of_a_device_are_read() {
    if !need::programs(&["ethtool"]).unwrap() {
        return;
    }
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let queues = |device: &'static str| ["ethtool", "-L", device, "rx", "2", "tx", "2"];
    // A veth has room for as many queues as there are processors.
    if !story.sw.run(&queues("vm1p")).unwrap().success() {
        need::absent("veth devices with two queues").unwrap();
        return;
    }
    story.vm(Vm::One).ok(&queues("eth0")).unwrap();
    let mut sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    sut.add_bridge(OURS, &["vm1p", "vm2p"]).unwrap();
    if !become_afxdp(&sut, &["vm1p", "vm2p"], "") {
        return;
    }
    reaches(&story);
    // Each time another port, so another queue half of the time.
    for n in 0..20 {
        assert!(story.ask(Vm::One, "udp", &["7", "5000"]).unwrap(), "{n}");
    }
    let statistics = eventually("statistics", DEADLINE, || {
        let text = get(&sut, "vm1p", "statistics");
        Ok(text.contains("xsk_queue_1_rx_dropped=0").then_some(text))
    });
    assert!(!statistics.unwrap().contains("xsk_queue_2"));
    sut.ok(OURS, "ovs-vsctl set Interface vm1p options:n_rxq=1").unwrap();
    assert_eq!(get(&sut, "vm1p", "error"), "[]");
    sut.ok(OURS, "ovs-vsctl clear Interface vm1p options").unwrap();
    reaches(&story);
    sut.check_alive().unwrap();
}

/// What cannot be is said where the user looks for it.
#[test]
fn options_of_af_xdp_that_cannot_be() {
    let story = Story::new().unwrap();
    let sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    sut.add_bridge(OURS, &["vm1p", "vm2p"]).unwrap();
    if !become_afxdp(&sut, &["vm1p"], "") {
        return;
    }
    for (options, wanted) in [
        ("xdp-mode=fast", "options:xdp-mode=fast is none of best-effort, native-with-zerocopy"),
        ("n_rxq=99", "options:n_rxq=99 is no number from 1 to 16"),
        ("n_rxq=2", "binding the AF_XDP socket of queue 1 in native"),
        ("xdp-mode=native-with-zerocopy", "options:xdp-mode=native"),
    ] {
        sut.ok(OURS, "ovs-vsctl clear Interface vm1p options").unwrap();
        sut.ok(OURS, &format!("ovs-vsctl set Interface vm1p options:{options}")).unwrap();
        let error = get(&sut, "vm1p", "error");
        assert!(error.contains("vm1p") && error.contains(wanted), "{options}: {error}");
        assert!(!has_program(&story, "vm1p"));
    }
    sut.ok(OURS, "ovs-vsctl clear Interface vm1p options").unwrap();
    assert_eq!(get(&sut, "vm1p", "error"), "[]");
    reaches(&story);
    let show = sut.ok(OURS, "ovs-appctl dpif/show").unwrap();
    assert!(show.contains("(afxdp: xdp-mode=best-effort)"), "{show}");
    // A device that somebody else's program has.
    sut.ok(OURS, "ovs-vsctl del-port vm1p").unwrap();
    let other = Sut::start(OURS, BINARY, &story.sw).unwrap();
    other
        .ok(OURS, "ovs-vsctl add-br br9 -- add-port br9 vm1p -- set Interface vm1p type=afxdp")
        .unwrap();
    let line = "ovs-vsctl add-port br0 vm1p -- set Interface vm1p type=afxdp";
    let ran = sut.tool(OURS, &line.split(' ').collect::<Vec<_>>()).unwrap();
    assert!(ran.text().contains("Device or resource busy"), "{ran}");
}
