//! Kinds of ports: the bridge's own, internal ones, access and trunk ports.

use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{Story, Vm, transfer};
use testkit::sut::Whose;

use crate::{can_run, start, switch, tools};

/// Two machines on `br0` without a policy.
pub(crate) fn machines() -> Story {
    let story = Story::new().unwrap();
    if switch() == Whose::Stock {
        story.offloads_off().unwrap();
    }
    story
}

#[test]
fn the_bridge_and_internal_ports_are_devices_of_the_host() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    sut.ok(tools(), "ovs-vsctl add-port br0 int0 -- set Interface int0 type=internal").unwrap();
    for (device, address) in [("br0", "192.168.0.100"), ("int0", "192.168.0.101")] {
        // Each in a namespace of its own, as a container would have it: and the device stays a
        // port of the switch.
        let host = story.sw.sibling(device).unwrap();
        story.sw.ip(&format!("link set {device} netns {}", host.pid())).unwrap();
        host.ip(&format!("addr add {address}/24 dev {device}")).unwrap();
        host.ip(&format!("link set {device} up")).unwrap();
        if switch() == Whose::Stock {
            host.ok(&["ethtool", "-K", device, "tx", "off"]).unwrap();
        }
        eventually(&format!("{device} answers"), DEADLINE, || {
            let ping = ["ping", "-c", "1", "-W", "1", address];
            Ok(story.vm(Vm::One).run(&ping)?.success().then_some(()))
        })
        .unwrap();
        transfer(story.vm(Vm::One), &host, address, 4 << 20).unwrap();
        transfer(&host, story.vm(Vm::Two), Vm::Two.ip(), 4 << 20).unwrap();
    }
    sut.check_alive().unwrap();
}

/// `netdev`, `system` and none at all are all our datapath.
#[test]
fn a_bridge_of_any_datapath_type_forwards() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let sut = start(&story.sw);
    for datapath in ["", " -- set Bridge br0 datapath_type=system"] {
        sut.ok(tools(), &format!("ovs-vsctl add-br br0{datapath}")).unwrap();
        sut.ok(tools(), "ovs-vsctl add-port br0 vm1p -- add-port br0 vm2p").unwrap();
        eventually("it forwards", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(()))).unwrap();
        sut.ok(tools(), "ovs-vsctl del-br br0").unwrap();
        assert!(!story.ping(Vm::One, 1).unwrap());
    }
}

#[test]
fn internal_ports_come_and_go_with_their_rows() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &[]).unwrap();
    let has = |device: &str| story.sw.run(&["ip", "link", "show", device]).unwrap().success();
    assert!(has("br0"));
    for _ in 0..3 {
        sut.ok(tools(), "ovs-vsctl add-port br0 int0 -- set Interface int0 type=internal").unwrap();
        assert!(has("int0"));
        sut.ok(tools(), "ovs-vsctl del-port int0").unwrap();
        assert!(!has("int0"));
    }
    sut.ok(tools(), "ovs-vsctl del-br br0").unwrap();
    assert!(!has("br0"));
    sut.check_alive().unwrap();
}

#[test]
fn vlans_part_and_join() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    let reached = || story.ping(Vm::One, 1).unwrap();
    assert!(reached());
    sut.ok(tools(), "ovs-vsctl set Port vm1p tag=10 -- set Port vm2p tag=20").unwrap();
    assert!(!reached(), "two VLANs");
    sut.ok(tools(), "ovs-vsctl set Port vm2p tag=10").unwrap();
    assert!(reached(), "one VLAN");
    story.transfer(Vm::One, 4 << 20).unwrap();
    let fdb = sut.ok(tools(), "ovs-appctl fdb/show br0").unwrap();
    assert!(fdb.contains("    2    10  52:54:00:00:00:01"), "{fdb}");

    // Over a trunk between two bridges the tag goes along, under large segments too.
    sut.ok(tools(), "ovs-vsctl del-port vm2p").unwrap();
    story.sw.ip("link add trunk0 type veth peer name trunk1").unwrap();
    for device in ["trunk0", "trunk1"] {
        story.sw.ip(&format!("link set {device} up")).unwrap();
    }
    sut.ok(
        tools(),
        "ovs-vsctl add-br br1 -- set Bridge br1 datapath_type=netdev -- add-port br0 trunk0 \
         -- add-port br1 trunk1 -- add-port br1 vm2p tag=10",
    )
    .unwrap();
    eventually("the trunk forwards", DEADLINE, || Ok(reached().then_some(()))).unwrap();
    story.transfer(Vm::One, 4 << 20).unwrap();
    story.transfer(Vm::Two, 4 << 20).unwrap();
    sut.ok(tools(), "ovs-vsctl set Port trunk1 trunks=11,12").unwrap();
    assert!(!reached(), "a trunk without VLAN 10");
    sut.ok(tools(), "ovs-vsctl set Port trunk1 trunks=10,12").unwrap();
    assert!(reached(), "a trunk with VLAN 10");
    sut.ok(tools(), "ovs-vsctl set Port vm2p tag=12").unwrap();
    assert!(!reached(), "VLAN 10 on one side, 12 on the other");
    sut.check_alive().unwrap();
}

/// Two machines, each on a bridge of its own, with patch ports between the bridges.
#[test]
fn patch_ports_join_bridges() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p"]).unwrap();
    sut.ok(
        tools(),
        "ovs-vsctl add-br br1 -- set Bridge br1 datapath_type=netdev -- add-port br1 vm2p \
         -- add-port br0 to1 -- set Interface to1 type=patch options:peer=to0 ofport_request=9 \
         -- add-port br1 to0 -- set Interface to0 type=patch options:peer=to1 ofport_request=8",
    )
    .unwrap();
    eventually("the bridges forward", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(())))
        .unwrap();
    story.transfer(Vm::One, 4 << 20).unwrap();
    story.transfer(Vm::Two, 4 << 20).unwrap();
    // Each bridge has learned both machines, the far one behind its patch port.
    for (bridge, vm, port) in
        [("br0", Vm::One, "    2"), ("br0", Vm::Two, "    9"), ("br1", Vm::One, "    8")]
    {
        let fdb = sut.ok(tools(), &format!("ovs-appctl fdb/show {bridge}")).unwrap();
        assert!(fdb.contains(&format!("{port}     0  {}", vm.mac())), "{bridge}: {fdb}");
    }
    let show = sut.ok(tools(), "ovs-appctl dpif/show").unwrap();
    assert!(show.contains("    to1 9/none: (patch: peer=to0)\n"), "{show}");
    assert!(show.contains("    to0 8/none: (patch: peer=to1)\n"), "{show}");
    let state = sut.ok(tools(), "ovs-vsctl get Interface to0 link_state admin_state").unwrap();
    assert_eq!(state, "up\nup\n");
    // A patch port whose peer does not exist leads nowhere; one that comes back leads there again.
    sut.ok(tools(), "ovs-vsctl set Interface to1 options:peer=nowhere").unwrap();
    assert!(!story.ping(Vm::One, 1).unwrap());
    sut.ok(tools(), "ovs-vsctl set Interface to1 options:peer=to0").unwrap();
    eventually("it leads there again", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(())))
        .unwrap();
    sut.ok(tools(), "ovs-vsctl del-br br1").unwrap();
    assert!(!story.ping(Vm::One, 1).unwrap());
    sut.check_alive().unwrap();
}

/// Frames with and without a tag come to one port, which is a trunk, a native and an access port in
/// turn. A bridge of its own, behind a veth pair, makes them: VLAN devices are not in every kernel.
#[test]
fn tagged_and_untagged_frames_on_one_port() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = machines();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm2p"]).unwrap();
    story.sw.ip("link add over type veth peer name under").unwrap();
    for device in ["over", "under"] {
        story.sw.ip(&format!("link set {device} up")).unwrap();
    }
    sut.ok(
        tools(),
        "ovs-vsctl add-br maker -- set Bridge maker datapath_type=netdev \
         -- add-port maker vm1p tag=10 -- add-port maker over \
         -- add-port maker plain -- set Interface plain type=internal \
         -- add-port br0 under -- set Interface under ofport_request=7",
    )
    .unwrap();
    let tagged = story.vm(Vm::One);
    let untagged = story.sw.sibling("untagged").unwrap();
    story.sw.ip(&format!("link set plain netns {}", untagged.pid())).unwrap();
    untagged.ip("addr add 192.168.0.9/24 dev plain").unwrap();
    untagged.ip("link set plain up").unwrap();
    if switch() == Whose::Stock {
        untagged.ok(&["ethtool", "-K", "plain", "tx", "off"]).unwrap();
    }
    let (far, ip) = (story.vm(Vm::Two), Vm::Two.ip());
    let reaches = |ns: &Netns| ns.run(&["ping", "-c", "1", "-W", "1", ip]).unwrap().success();
    let check = |settings: &str, with_tag: bool, without: bool| {
        sut.ok(tools(), &format!("ovs-vsctl {settings}")).unwrap();
        for (what, ns, want) in [("tagged", tagged, with_tag), ("untagged", &untagged, without)] {
            if want {
                let what = format!("{settings}: {what}");
                eventually(&what, DEADLINE, || Ok(reaches(ns).then_some(()))).unwrap();
                transfer(ns, far, ip, 2 << 20).unwrap();
            } else {
                assert!(!reaches(ns), "{settings}: {what}");
            }
        }
    };
    check("set Port vm2p tag=10", true, false);
    let fdb = sut.ok(tools(), "ovs-appctl fdb/show br0").unwrap();
    assert!(fdb.contains(&format!("    7    10  {}", Vm::One.mac())), "{fdb}");
    check("clear Port vm2p tag", false, true);
    // What has no tag is in VLAN 20 on a native port, and leaves it without one or with one.
    check(
        "set Port under vlan_mode=native-untagged tag=20 trunks=10,20 -- set Port vm2p tag=20",
        false,
        true,
    );
    check("set Port vm2p tag=10", true, false);
    check("set Port under trunks=11,20", false, false);
    // An access port takes no tagged frames, except a priority tag.
    check("set Port under vlan_mode=access tag=20 trunks=[] -- set Port vm2p tag=20", false, true);
    check("set Port under tag=10 -- set Port vm2p tag=10", false, true);
    // On a native-tagged port the answers have a tag, which a plain machine does not take.
    check("set Port under vlan_mode=native-tagged tag=20 -- set Port vm2p tag=20", false, false);
    sut.check_alive().unwrap();
}
