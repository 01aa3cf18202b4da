//! Controllers and managers: a bridge that one drives, one that lost its own, who listens in, and
//! OVSDB from elsewhere.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use openflow::action::Action;
use openflow::flow_mod::FlowMod;
use openflow::message::{Body, Message, Session, frame_len, hello};
use openflow::version::Version;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::{can_run, start, switch, tools};

/// The far end of an OpenFlow connection: a controller of version 1.3.
struct Controller {
    stream: UnixStream,
    buf: Vec<u8>,
}

impl Controller {
    /// Waits for the switch and exchanges hellos.
    fn accept(listener: &UnixListener) -> Controller {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut c = Controller { stream, buf: Vec::new() };
        let ours = hello(1, Version::Of13.bit()).encode(Session::default()).unwrap();
        c.stream.write_all(&ours).unwrap();
        c.until("hello", |b| matches!(b, Body::Hello(_)));
        c
    }

    fn say(&mut self, xid: u32, body: Body) {
        let m = Message { version: Version::Of13, xid, nicira: false, more: false, body };
        self.stream.write_all(&m.encode(Session::default()).unwrap()).unwrap();
    }

    /// Reads messages, answering probes, until one is as asked.
    fn until(&mut self, what: &str, is: impl Fn(&Body) -> bool) -> Message {
        loop {
            while let Ok(Some(n)) = frame_len(&self.buf)
                && n <= self.buf.len()
            {
                let frame: Vec<u8> = self.buf.drain(..n).collect();
                let m = Message::decode(&frame, Session::default()).unwrap();
                if is(&m.body) {
                    return m;
                }
                assert!(!matches!(m.body, Body::Error(_)), "while waiting for {what}: {m:?}");
                if let Body::EchoRequest(data) = m.body {
                    self.say(m.xid, Body::EchoReply(data));
                }
            }
            let mut chunk = [0; 4096];
            let n = self.stream.read(&mut chunk).unwrap_or_else(|e| panic!("no {what}: {e}"));
            assert_ne!(n, 0, "closed before {what}");
            self.buf.extend_from_slice(&chunk[..n]);
        }
    }

    /// Asks something that is answered in order.
    fn barrier(&mut self) {
        self.say(77, Body::BarrierRequest);
        self.until("barrier reply", |b| *b == Body::BarrierReply);
    }

    fn flow(&mut self, priority: u16, port: base::OfPort) {
        let actions = vec![Action::Output { port, max_len: 0xffff }];
        self.say(
            5,
            Body::FlowMod(
                FlowMod { table: Some(base::TableId(0)), priority, actions, ..FlowMod::default() }
                    .into(),
            ),
        );
        self.barrier();
    }
}

fn get(sut: &Sut<'_>, table: &str, columns: &str) -> String {
    sut.ok(tools(), &format!("ovs-vsctl --bare --columns={columns} list {table}")).unwrap()
}

fn is_connected(sut: &Sut<'_>, table: &str, want: bool) {
    eventually(&format!("{table} is connected: {want}"), DEADLINE, || {
        Ok((get(sut, table, "is_connected").trim() == want.to_string()).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_controller_drives_a_bridge_and_is_overheard() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    let socket = sut.file("controller.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    sut.ok(tools(), &format!("ovs-vsctl set-controller br0 unix:{socket}")).unwrap();
    let mut controller = Controller::accept(&listener);
    is_connected(&sut, "Controller", true);
    assert_eq!(get(&sut, "Controller", "role").trim(), "other");
    assert!(get(&sut, "Controller", "status").contains("state=ACTIVE"));
    assert!(!story.ping(Vm::One, 1).unwrap(), "its flows are the controller's to add");

    let snoop = sut.spawn_tool(tools(), "ovs-ofctl snoop br0").unwrap();
    eventually("the snooper hears", DEADLINE, || {
        controller.barrier();
        Ok((snoop.stdout() + &snoop.stderr()).contains("OFPT_BARRIER_REPLY").then_some(()))
    })
    .unwrap();
    controller.say(2, Body::FeaturesRequest);
    let reply = controller.until("features", |b| matches!(b, Body::FeaturesReply(_)));
    assert_eq!(reply.xid, 2);

    controller.flow(0, base::OfPort::CONTROLLER);
    // More than one, because the stock switch may not have forgotten yet that they are dropped.
    assert!(!story.ping(Vm::One, 3).unwrap());
    let m = controller.until("packet in", |b| matches!(b, Body::PacketIn(_)));
    let Body::PacketIn(p) = m.body else { panic!("{m:?}") };
    assert_eq!(p.packet.len() as u32, p.total_len, "the whole packet");
    controller.flow(9, base::OfPort::NORMAL);
    // The machine may still be waiting for the answer to the ARP request that was not let through.
    eventually("it forwards", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(()))).unwrap();
    story.vm(Vm::Two).ip("link set eth0 down").unwrap();
    controller.until("port status", |b| matches!(b, Body::PortStatus(..)));

    for what in ["OFPT_FEATURES_REQUEST", "OFPT_PACKET_IN", "OFPT_FLOW_MOD", "OFPT_PORT_STATUS"] {
        eventually(&format!("the snooper hears {what}"), DEADLINE, || {
            Ok((snoop.stdout() + &snoop.stderr()).contains(what).then_some(()))
        })
        .unwrap();
    }
    drop(controller);
    is_connected(&sut, "Controller", false);
    drop(listener);
    sut.ok(tools(), "ovs-vsctl del-controller br0").unwrap();
    let flows = sut.ok(tools(), "ovs-ofctl dump-flows br0").unwrap();
    assert!(flows.contains("actions=NORMAL") && flows.lines().count() == 2, "{flows}");
    sut.check_alive().unwrap();
}

/// The clock is moved on, so that fifteen seconds pass at once.
#[test]
fn a_bridge_without_its_controller_fails_open_or_secure() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    let socket = sut.file("controller.sock");
    let reached = || story.ping(Vm::One, 1).unwrap();
    for secure in [false, true] {
        let mode = if secure { "secure" } else { "standalone" };
        sut.ok(tools(), &format!("ovs-vsctl set-fail-mode br0 {mode}")).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        sut.ok(tools(), &format!("ovs-vsctl set-controller br0 unix:{socket}")).unwrap();
        let controller = Controller::accept(&listener);
        is_connected(&sut, "Controller", true);
        assert!(!reached());
        drop((listener, controller));
        std::fs::remove_file(&socket).unwrap();
        is_connected(&sut, "Controller", false);
        sut.ok(tools(), "ovs-appctl time/warp 10000").unwrap();
        assert!(!reached(), "{mode}: not yet");
        sut.ok(tools(), "ovs-appctl time/warp 10000").unwrap();
        if secure {
            assert!(!reached());
        } else {
            eventually("it fails open", DEADLINE, || Ok(reached().then_some(()))).unwrap();
            let flows = sut.ok(tools(), "ovs-ofctl dump-flows br0").unwrap();
            assert!(!flows.contains("NORMAL"), "not a flow of controllers: {flows}");
        }
        let listener = UnixListener::bind(&socket).unwrap();
        sut.ok(tools(), "ovs-appctl time/warp 10000").unwrap();
        let controller = Controller::accept(&listener);
        is_connected(&sut, "Controller", true);
        eventually("it is the controller's again", DEADLINE, || Ok((!reached()).then_some(())))
            .unwrap();
        drop((listener, controller));
        std::fs::remove_file(&socket).unwrap();
        sut.ok(tools(), "ovs-vsctl del-controller br0").unwrap();
    }
    sut.check_alive().unwrap();
}

#[test]
fn tools_reach_a_bridge_over_tcp() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p"]).unwrap();
    sut.ok(tools(), "ovs-vsctl set-controller br0 ptcp:6653:127.0.0.1").unwrap();
    let show = eventually("it listens", DEADLINE, || {
        let ran = sut.tool(tools(), &["ovs-ofctl", "show", "tcp:127.0.0.1:6653"])?;
        Ok(ran.success().then_some(ran.stdout))
    })
    .unwrap();
    assert!(show.contains(" 2(vm1p):"), "{show}");
    let flows = sut.ok(tools(), "ovs-ofctl dump-flows tcp:127.0.0.1").unwrap();
    assert!(flows.contains("NORMAL"), "a service controller does not take the flows: {flows}");
    sut.ok(tools(), "ovs-vsctl del-controller br0").unwrap();
    eventually("it listens no more", DEADLINE, || {
        let ran = sut.tool(tools(), &["ovs-ofctl", "show", "tcp:127.0.0.1:6653"])?;
        Ok((!ran.success()).then_some(()))
    })
    .unwrap();
}

#[test]
fn managers_read_and_write_the_database() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.ok(tools(), "ovs-vsctl set-manager ptcp:6640:127.0.0.1").unwrap();
    let remote = "ovs-vsctl --timeout=5 --db=tcp:127.0.0.1:6640";
    eventually("it listens", DEADLINE, || {
        let line = format!("{remote} --no-wait list-br");
        let ran = sut.tool(tools(), &line.split(' ').collect::<Vec<_>>())?;
        Ok(ran.success().then_some(()))
    })
    .unwrap();
    sut.ok(tools(), &format!("{remote} add-br br7")).unwrap();
    assert_eq!(sut.ok(tools(), "ovs-vsctl list-br").unwrap(), "br7\n");
    eventually("its port is told", DEADLINE, || {
        Ok(get(&sut, "Manager", "status").contains("bound_port=6640").then_some(()))
    })
    .unwrap();

    // One that we connect to, and which asks what there is.
    let socket = sut.file("manager.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    sut.ok(tools(), &format!("ovs-vsctl set-manager unix:{socket}")).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"{\"id\":1,\"method\":\"list_dbs\",\"params\":[]}").unwrap();
    let mut answer = String::new();
    while !answer.contains("Open_vSwitch") {
        let mut chunk = [0; 512];
        let n = stream.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "closed: {answer}");
        answer.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
    }
    is_connected(&sut, "Manager", true);
    let gone = sut.tool(tools(), &["ovs-vsctl", "--timeout=5", "--db=tcp:127.0.0.1:6640", "show"]);
    assert!(!gone.unwrap().success(), "the listener is gone");
    drop((stream, listener));
    is_connected(&sut, "Manager", false);
    sut.check_alive().unwrap();
}
