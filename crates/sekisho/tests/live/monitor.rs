//! What `ovs-ofctl monitor` is told while things happen: packets, expired flows, ports.

use testkit::process::{DEADLINE, Proc, eventually};
use testkit::story::{Story, Vm};
use testkit::sut::Sut;

use crate::{can_run, start, switch, tools};

/// A monitor, listening.
fn monitor(sut: &Sut<'_>, version: &str) -> Proc {
    let monitor =
        sut.spawn_tool(tools(), &format!("ovs-ofctl -O {version} monitor br0 65534")).unwrap();
    // It is listening when the switch has a packet for it.
    let probe = "in_port=local,packet=ffffffffffff5254000000998899,actions=controller";
    eventually("the monitor listens", DEADLINE, || {
        sut.tool(tools(), &["ovs-ofctl", "packet-out", "br0", probe])?.ok()?;
        Ok(said(&monitor).contains("52:54:00:00:00:99").then_some(()))
    })
    .unwrap();
    monitor
}

/// All a monitor said: the stock one logs to standard error.
fn said(monitor: &Proc) -> String {
    monitor.stdout() + &monitor.stderr()
}

fn wait_for(monitor: &Proc, words: &[&str]) {
    let all = |text: &str| {
        // A message is a line with its transaction id and the lines until the next such.
        let mut messages = vec![String::new()];
        for line in text.lines() {
            if line.contains("(xid=") {
                messages.push(String::new());
            }
            messages.last_mut().unwrap().extend([line, " "]);
        }
        messages.iter().any(|message| words.iter().all(|word| message.contains(word)))
    };
    eventually(&format!("{words:?}"), DEADLINE, || Ok(all(&said(monitor)).then_some(())))
        .unwrap_or_else(|e| panic!("{e}\n{}", said(monitor)));
}

fn what_a_monitor_hears(version: &str) {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.ok(
        tools(),
        "ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev \
         protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15",
    )
    .unwrap();
    for (port, number) in [("vm1p", 2), ("vm2p", 3)] {
        let set = format!("-- set Interface {port} ofport_request={number}");
        sut.ok(tools(), &format!("ovs-vsctl add-port br0 {port} {set}")).unwrap();
    }
    let monitor = monitor(&sut, version);

    // A packet that a flow sends up.
    sut.ok(tools(), "ovs-ofctl add-flow br0 priority=9,icmp,in_port=2,actions=controller,normal")
        .unwrap();
    assert!(story.ping(Vm::One, 1).unwrap());
    wait_for(&monitor, &["PACKET_IN", "in_port=2", "(via action)", "icmp,", "nw_src=192.168.0.1"]);

    // Flows that leave: idle, then deleted.
    sut.ok(
        tools(),
        "ovs-ofctl add-flow br0 send_flow_rem,cookie=0x77,priority=8,idle_timeout=1,\
         in_port=7,actions=drop",
    )
    .unwrap();
    wait_for(&monitor, &["FLOW_REMOVED", "priority=8,in_port=7", "reason=idle", "cookie:0x77"]);
    sut.ok(tools(), "ovs-ofctl add-flow br0 send_flow_rem,priority=7,in_port=8,actions=drop")
        .unwrap();
    sut.ok(tools(), "ovs-ofctl --strict del-flows br0 priority=7,in_port=8").unwrap();
    wait_for(&monitor, &["FLOW_REMOVED", "priority=7,in_port=8", "reason=delete"]);

    // Ports: modified, deleted, added.
    story.vm(Vm::Two).ip("link set eth0 down").unwrap();
    wait_for(&monitor, &["PORT_STATUS", "MOD:", "3(vm2p)", "LINK_DOWN"]);
    sut.ok(tools(), "ovs-vsctl del-port vm2p").unwrap();
    wait_for(&monitor, &["PORT_STATUS", "DEL:", "3(vm2p)"]);
    sut.ok(tools(), "ovs-vsctl add-port br0 vm2p -- set Interface vm2p ofport_request=4").unwrap();
    wait_for(&monitor, &["PORT_STATUS", "ADD:", "4(vm2p)"]);
    drop(monitor);
    sut.check_alive().unwrap();
}

#[test]
fn a_monitor_hears_in_openflow_1_0() {
    what_a_monitor_hears("OpenFlow10");
}

#[test]
fn a_monitor_hears_in_openflow_1_3() {
    what_a_monitor_hears("OpenFlow13");
}

#[test]
fn a_monitor_hears_in_openflow_1_5() {
    what_a_monitor_hears("OpenFlow15");
}
