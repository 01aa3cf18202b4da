//! Devices that are not there, vanish, come back, go down.

use testkit::process::{DEADLINE, eventually};
use testkit::story::{Reach, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::{can_run, start, switch, tools};

pub(crate) fn get(sut: &Sut<'_>, interface: &str, column: &str) -> String {
    let line = format!("ovs-vsctl get Interface {interface} {column}");
    sut.ok(tools(), &line).unwrap().trim().to_owned()
}

/// Waits until a column of an interface has a value.
pub(crate) fn becomes(
    sut: &Sut<'_>,
    interface: &str,
    column: &str,
    wanted: impl Fn(&str) -> bool,
) -> String {
    eventually(&format!("{column} of {interface}"), DEADLINE, || {
        let value = get(sut, interface, column);
        Ok(wanted(&value).then_some(value))
    })
    .unwrap_or_else(|e| panic!("{e}; it is {}", get(sut, interface, column)))
}

fn reaches(story: &Story) {
    eventually("vm1 reaches vm2", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(()))).unwrap();
}

#[test]
fn vanishing_devices() {
    if !can_run(switch(), tools()) {
        return;
    }
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    reaches(&story);

    for _ in 0..3 {
        story.sw.ip("link del vm1p").unwrap();
        // The stock switch keeps the port, down; it may as well be given up with an error.
        becomes(&sut, "vm1p", "link_state", |state| state != "up");
        assert_eq!(get(&sut, "vm2p", "link_state"), "up");
        assert!(!story.ping(Vm::Two, 1).unwrap());

        // It comes back under the same number and works again.
        story.plug(Vm::One).unwrap();
        becomes(&sut, "vm1p", "link_state", |state| state == "up");
        becomes(&sut, "vm1p", "ofport", |number| number == "2");
        assert_eq!(get(&sut, "vm1p", "error"), "[]");
        if switch() == Whose::Ours {
            // The stock switch goes on listening on the device that is gone.
            reaches(&story);
        }
    }
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

#[test]
fn a_device_may_come_later_than_its_port() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    story.sw.ip("link del vm2p").unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p"]).unwrap();
    let words = ["ovs-vsctl", "add-port", "br0", "vm2p"];
    let ran = sut.tool(tools(), &words).unwrap();
    // The row is made and the tool warns.
    assert!(ran.success() && ran.stderr.contains("could not open network device vm2p"), "{ran}");
    assert_eq!(get(&sut, "vm2p", "ofport"), "-1");
    story.plug(Vm::Two).unwrap();
    becomes(&sut, "vm2p", "ofport", |n| n.parse::<u16>().is_ok());
    reaches(&story);
    sut.check_alive().unwrap();
}

#[test]
fn links_that_go_down_are_seen() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    reaches(&story);
    becomes(&sut, "vm1p", "link_state", |s| s == "up");

    // The far end goes down, then our own end.
    story.vm(Vm::One).ip("link set eth0 down").unwrap();
    becomes(&sut, "vm1p", "link_state", |s| s == "down");
    assert_eq!(get(&sut, "vm1p", "admin_state"), "up");
    let show = eventually("LINK_DOWN", DEADLINE, || {
        let show = sut.ok(tools(), "ovs-ofctl show br0")?;
        let (_, vm1p) = show.split_once("2(vm1p)").unwrap_or_default();
        let state = vm1p.lines().find(|l| l.contains("state:")).unwrap_or_default().to_owned();
        Ok(state.contains("LINK_DOWN").then_some(show))
    });
    show.unwrap();
    story.sw.ip("link set vm1p down").unwrap();
    becomes(&sut, "vm1p", "admin_state", |s| s == "down");

    story.sw.ip("link set vm1p up").unwrap();
    story.vm(Vm::One).ip("link set eth0 up").unwrap();
    becomes(&sut, "vm1p", "link_state", |s| s == "up");
    becomes(&sut, "vm1p", "admin_state", |s| s == "up");
    reaches(&story);
    sut.check_alive().unwrap();
}

#[test]
fn a_restart_takes_the_devices_again() {
    if !can_run(switch(), tools()) {
        return;
    }
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    reaches(&story);
    for crash in [true, false] {
        if crash {
            sut.kill();
        } else {
            sut.stop().unwrap();
        }
        assert!(!story.ping(Vm::One, 1).unwrap(), "nobody else forwards");
        sut.start_again().unwrap();
        reaches(&story);
        assert_eq!(get(&sut, "vm1p", "ofport"), "2");
        assert_eq!(get(&sut, "vm2p", "ofport"), "3");
    }
    if switch() == Whose::Ours {
        assert_eq!(story.reach(Vm::Two, 5000).unwrap(), Reach::ALL);
    }
}

/// The host must not answer for frames that the switch took: an address on a port's device is none
/// of the guest's business.
#[test]
fn the_host_stack_stays_out() {
    if !can_run(switch(), tools()) || switch() == Whose::Stock {
        return;
    }
    let story = Story::new().unwrap();
    // The host would answer an ARP request and an echo request for this address.
    story.sw.ip("addr add 192.168.0.77/24 dev vm1p").unwrap();
    let vm1 = story.vm(Vm::One);
    let ask = ["ping", "-c", "1", "-W", "1", "192.168.0.77"];
    assert!(vm1.run(&ask).unwrap().success(), "without the switch the host answers");
    vm1.ip("neigh flush dev eth0").unwrap();
    let sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    reaches(&story);
    assert!(!vm1.run(&ask).unwrap().success(), "the host answered for a frame the switch took");
}
