//! Devices that vanish, shrink, go down or take nothing while packets flow at full rate, and signals in between:
//! counted, survived, and told in the log once.

use serde_json::Value;
use testkit::need::{self, Turn};
use testkit::netns::Netns;
use testkit::peer;
use testkit::process::{DEADLINE, Proc, eventually, signal};
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::devices::{becomes, get};
use crate::workers::threads;
use crate::{can_run, coverage, start, switch, tools};

/// The story's machines, and a third one by which others are seen to go on.
struct Stage {
    story: Story,
    vm3: Netns,
    /// Two floods at once would leave the daemons no processor.
    _turn: Turn,
}

const VM3: &str = "192.168.0.3";
const MAC3: &str = "52:54:00:00:00:03";

impl Stage {
    fn new() -> Stage {
        let _turn = need::turn("cpu").unwrap();
        let story = Story::new().unwrap();
        let vm3 = story.sw.sibling("vm3").unwrap();
        if switch() == Whose::Stock {
            story.offloads_off().unwrap();
        }
        Stage { story, vm3, _turn }
    }

    /// The third machine on a veth of the switch's.
    fn with_veth() -> Stage {
        let stage = Stage::new();
        let peer = stage.vm3.pid();
        stage.story.sw.ip(&format!("link add vm3p type veth peer name eth0 netns {peer}")).unwrap();
        stage.story.sw.ip("link set vm3p up").unwrap();
        stage.vm3.ip(&format!("addr add {VM3}/24 dev eth0")).unwrap();
        stage.vm3.ip("link set eth0 up").unwrap();
        stage
    }

    /// Datagrams at full rate from a machine to an address.
    fn flood(&self, from: Vm, to: &str, bytes: usize) -> Proc {
        let peer = peer::path().unwrap();
        self.story.vm(from).spawn(&[&peer, "flood", to, &bytes.to_string()]).unwrap()
    }

    /// A machine and the third one reach each other.
    fn reaches_vm3(&self, vm: Vm) {
        let argv = ["ping", "-c", "3", "-i", "0.05", "-W", "1", VM3];
        eventually(&format!("{vm} reaches vm3"), DEADLINE, || {
            let ran = self.story.vm(vm).run(&argv)?;
            Ok(ran.success().then_some(()))
        })
        .unwrap();
    }
}

/// A machine's neighbours, for whom it need not ask, and who need not be asked for it.
fn know(ns: &Netns, neighbours: &[(&str, &str)]) {
    for (ip, mac) in neighbours {
        ns.ip(&format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent")).unwrap();
    }
}

/// All packets are the workers', who count what devices do not take. What the kernel sends is lost as it is to a Linux bridge.
fn leave_to_workers(sut: &Sut<'_>) {
    let line = "ovs-vsctl set Open_vSwitch . other_config:kernel-fast-path=off";
    sut.ok(tools(), line).unwrap();
}

/// Frames that a namespace's device received.
fn received(ns: &Netns, device: &str) -> u64 {
    let text = ns.ok(&["cat", "/proc/self/net/dev"]).unwrap();
    let line = text.lines().find_map(|l| l.trim().strip_prefix(&format!("{device}:")));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A thousand more frames arrive at a namespace's device.
fn flows(ns: &Netns, device: &str) {
    let before = received(ns, device);
    let what = format!("frames arrive at {} of {}", device, ns.name());
    eventually(&what, DEADLINE, || Ok((received(ns, device) > before + 1000).then_some(())))
        .unwrap();
}

/// Frames that a port lost on their way out, as OpenFlow tells it.
fn lost(sut: &Sut<'_>, port: &str) -> u64 {
    let text = sut.ok(tools(), &format!("ovs-ofctl dump-ports br0 {port}")).unwrap();
    let (_, sent) = text.split_once("tx pkts=").unwrap();
    let (_, drop) = sent.split_once("drop=").unwrap();
    drop.split(',').next().unwrap().parse().unwrap()
}

/// Lines of our log with all of `words`.
fn lines(sut: &Sut<'_>, words: &[&str]) -> Vec<String> {
    let log = sut.output();
    let has_all = |l: &&str| words.iter().all(|w| l.contains(w));
    log.lines().filter(has_all).map(str::to_owned).collect()
}

/// Frames that our switch lost at a port for a reason.
fn lost_for(sut: &Sut<'_>, port: &str, reason: &str) -> u64 {
    let status: Value =
        serde_json::from_str(&sut.ok(tools(), "ovs-appctl sekisho/status").unwrap()).unwrap();
    let mut all = status["reasons"].as_array().unwrap().iter();
    let row = all.find(|r| r["port"] == port && r["name"] == reason);
    row.map_or(0, |r| r["n"].as_u64().unwrap())
}

/// Workers sleep: between some packets they do not look ten thousand times.
fn sleeps(sut: &Sut<'_>, stage: &Stage, from: Vm) {
    if switch() == Whose::Stock {
        return;
    }
    let polls = || -> u64 {
        let is_poll = |name: &str| name.ends_with("_polls");
        coverage(sut).iter().filter(|(name, _)| is_poll(name)).map(|(_, n)| n).sum()
    };
    let before = polls();
    stage.reaches_vm3(from);
    let n = polls() - before;
    assert!(n < 10_000, "{n} turns for a few packets: a worker does not sleep");
}

/// A device is deleted while frames go to it, and another one while they come from it. Every frame that the switch
/// received is counted as sent or as dropped, and the log has one line of each device.
#[test]
fn a_port_vanishes_under_a_stream() {
    if !can_run(switch(), tools()) {
        return;
    }
    let stage = Stage::with_veth();
    let story = &stage.story;
    stage.vm3.ip(&format!("link set eth0 address {MAC3}")).unwrap();
    let (one, two) = ((Vm::One.ip(), Vm::One.mac()), (Vm::Two.ip(), Vm::Two.mac()));
    know(&stage.vm3, &[one, two]);
    know(story.vm(Vm::One), &[two, (VM3, MAC3)]);
    know(story.vm(Vm::Two), &[one, (VM3, MAC3)]);
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p", "vm3p"]).unwrap();
    leave_to_workers(&sut);
    // Each packet goes to one port, or to none.
    let flows_of = [(Vm::One.ip(), 2), (Vm::Two.ip(), 3), (VM3, 4)]
        .map(|(ip, port)| format!("ip,nw_dst={ip},actions=output:{port}\n"));
    let file = sut.file("policy.flow");
    std::fs::write(&file, flows_of.concat() + "priority=0,actions=drop\n").unwrap();
    sut.load_policy(tools(), &file).unwrap();
    let flood = stage.flood(Vm::One, Vm::Two.ip(), 1000);
    flows(story.vm(Vm::Two), "eth0");
    for vm in [Vm::Two, Vm::One, Vm::Two] {
        let port = format!("{vm}p");
        let told = |words: &[&str]| lines(&sut, &[words, &[&*port]].concat());
        let (before, warned) = (told(&[]).len(), told(&["|WARN|"]).len());
        story.sw.ip(&format!("link del {port}")).unwrap();
        becomes(&sut, &port, "link_state", |state| state != "up");
        stage.reaches_vm3(vm.other());
        story.plug(vm).unwrap();
        know(story.vm(vm), &[[two, one][vm.number() - 1], (VM3, MAC3)]);
        becomes(&sut, &port, "link_state", |state| state == "up");
        if switch() == Whose::Stock {
            // It goes on listening on the device that is gone.
            break;
        }
        flows(story.vm(Vm::Two), "eth0");
        let warned: Vec<_> = told(&["|WARN|"]).split_off(warned);
        assert!(warned.len() == 1 && warned[0].contains("(No such device)"), "{warned:#?}");
        let says_lost = warned[0].contains("frames were lost: ") && warned[0].contains("tx-");
        assert!(says_lost || vm == Vm::One, "{warned:#?}");
        // That it is there again, who polls it, and maybe that it is too fast.
        let all = told(&[]).split_off(before);
        assert!(all.len() <= 5, "{all:#?}");
    }
    drop(flood);
    sleeps(&sut, &stage, Vm::One);
    if switch() == Whose::Ours {
        let all = coverage(&sut);
        let n = |name: &str| all.get(name).copied().unwrap_or(0);
        let is_drop = |name: &str| name.starts_with("drop_") || name.starts_with("datapath_drop_");
        let dropped: u64 = all.iter().filter(|(name, _)| is_drop(name)).map(|(_, n)| n).sum();
        // What a device did not take was sent to it.
        let before_sending = dropped - n("datapath_drop_tx_failed");
        assert!(n("datapath_drop_tx_failed") > 0 && before_sending > 0, "{all:#?}");
        assert_eq!(n("datapath_packets"), n("datapath_sent") + before_sending, "{all:#?}");
    }
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

/// Devices that take nothing for a while: the frames are counted by the reason, the log has a line for each, workers
/// sleep all the same, others go on, and so does the port when it is over. The stock switch counts nothing of it.
#[test]
fn a_port_refuses_a_stream() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    let stage = Stage::with_veth();
    let sw = &stage.story.sw;
    let mut sut = start(sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p", "vm3p"]).unwrap();
    leave_to_workers(&sut);
    stage.reaches_vm3(Vm::One);
    let cases = [
        ("link set vm2p mtu 800", "link set vm2p mtu 1500", "tx-too-big"),
        ("link set vm2p down", "link set vm2p up", "tx-down"),
        ("qdisc add dev vm2p root tbf rate 8kbit burst 1600 limit 1600", "", "tx-queue-full"),
    ];
    for (bad, good, reason) in cases {
        let flood = stage.flood(Vm::One, Vm::Two.ip(), 1000);
        flows(stage.story.vm(Vm::Two), "eth0");
        let before = lost(&sut, "vm2p");
        if good.is_empty() {
            sw.ok(&[&["tc"], &*bad.split(' ').collect::<Vec<_>>()].concat()).unwrap();
        } else {
            sw.ip(bad).unwrap();
        }
        eventually(bad, DEADLINE, || Ok((lost(&sut, "vm2p") > before + 1000).then_some(())))
            .unwrap();
        stage.reaches_vm3(Vm::One);
        assert!(lost_for(&sut, "vm2p", reason) > 1000, "{reason}");
        drop(flood);
        sleeps(&sut, &stage, Vm::One);
        if good.is_empty() {
            sw.ok(&["tc", "qdisc", "del", "dev", "vm2p", "root"]).unwrap();
        } else {
            sw.ip(good).unwrap();
        }
        let _flood = stage.flood(Vm::One, Vm::Two.ip(), 1000);
        flows(stage.story.vm(Vm::Two), "eth0");
    }
    for (.., reason) in cases {
        let told = || lines(&sut, &["vm2p: frames were lost: ", reason]);
        eventually(reason, DEADLINE, || Ok((!told().is_empty()).then_some(()))).unwrap();
        assert_eq!(told().len(), 1, "{:#?}", told());
    }
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

/// A tap of several queues that another program has: it stops reading, is killed, and comes back. (The stock switch
/// needs machines without offloads, and does not come back to a device that was gone.)
#[test]
fn the_owner_of_a_tap_stops_and_dies_under_a_stream() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    let stage = Stage::new();
    let sw = &stage.story.sw;
    // Another switch has the tap, and the third machine on it.
    let mut owner = start(sw);
    let make = format!(
        "ovs-vsctl add-br brg -- set Bridge brg datapath_type=netdev other-config:hwaddr={MAC3} \
         -- add-port brg tap3 -- set Interface tap3 type=tap options:n_rxq=2"
    );
    owner.ok(tools(), &make).unwrap();
    let plug = || {
        sw.ip(&format!("link set brg netns {}", stage.vm3.pid())).unwrap();
        stage.vm3.ip(&format!("addr add {VM3}/24 dev brg")).unwrap();
        stage.vm3.ip("link set brg up").unwrap();
        sw.ip("link set tap3 up").unwrap();
    };
    plug();
    let mut sut = start(sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    let add = "ovs-vsctl add-port br0 tap3 -- set Interface tap3 ofport_request=4 options:n_rxq=2";
    sut.ok(tools(), add).unwrap();
    stage.reaches_vm3(Vm::One);

    let flood = stage.flood(Vm::One, VM3, 1000);
    flows(&stage.vm3, "brg");
    let before = lost(&sut, "tap3");
    let pid = owner.pid().unwrap();
    signal(pid, "STOP").unwrap();
    eventually("what it does not read is counted", DEADLINE, || {
        Ok((lost(&sut, "tap3") > before + 1000).then_some(()))
    })
    .unwrap();
    eventually("others go on", DEADLINE, || Ok(stage.story.ping(Vm::One, 3)?.then_some(())))
        .unwrap();
    assert!(lost_for(&sut, "tap3", "tx-device") > 1000);
    let told = || lines(&sut, &["tap3: frames were lost: tx-device"]);
    eventually("it is told", DEADLINE, || Ok((!told().is_empty()).then_some(()))).unwrap();
    signal(pid, "CONT").unwrap();
    flows(&stage.vm3, "brg");

    owner.kill();
    becomes(&sut, "tap3", "link_state", |state| state != "up");
    eventually("others go on", DEADLINE, || Ok(stage.story.ping(Vm::One, 3)?.then_some(())))
        .unwrap();
    owner.start_again().unwrap();
    eventually("it has its tap again", DEADLINE, || {
        Ok(owner.ok(tools(), "ovs-vsctl get Interface tap3 link_state").ok())
    })
    .unwrap();
    plug();
    becomes(&sut, "tap3", "link_state", |state| state == "up");
    flows(&stage.vm3, "brg");
    drop(flood);
    sleeps(&sut, &stage, Vm::One);
    let gone = lines(&sut, &["|WARN|", "tap3"]);
    assert!(gone.len() == 1 && gone[0].contains("(No such device)"), "{gone:#?}");
    // Each of the two devices has told it once; the second may have been read before it was full.
    let all = lines(&sut, &["tap3"]);
    let (first, second) = all.split_at(all.iter().position(|l| *l == gone[0]).unwrap());
    let told = told();
    let n_told = |of: &[String]| of.iter().filter(|l| told.contains(l)).count();
    assert!(n_told(first) == 1 && n_told(second) <= 1, "{all:#?}");
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

/// A tap of the switch's own, of several queues, is deleted by somebody else: it is made again. The stock switch
/// looks for frames on what is gone for ever after.
#[test]
fn a_tap_of_its_own_is_deleted_under_a_stream() {
    if switch() == Whose::Stock || !can_run(switch(), tools()) {
        return;
    }
    const IP: &str = "192.168.0.4";
    let stage = Stage::with_veth();
    let sw = &stage.story.sw;
    let mut sut = start(sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p", "vm3p"]).unwrap();
    let add = "ovs-vsctl add-port br0 int0 -- set Interface int0 type=tap options:n_rxq=3 \
               -- set Interface int0 ofport_request=7 mac=\"5a:00:00:00:00:04\"";
    sut.ok(tools(), add).unwrap();
    let _flood = stage.flood(Vm::One, IP, 1000);
    for n in 0..3 {
        eventually("int0 is there", DEADLINE, || {
            Ok(sw
                .run(&["ip", "addr", "add", &format!("{IP}/24"), "dev", "int0"])?
                .success()
                .then_some(()))
        })
        .unwrap();
        sw.ip("link set int0 up").unwrap();
        becomes(&sut, "int0", "link_state", |state| state == "up");
        assert_eq!(get(&sut, "int0", "ofport"), "7");
        flows(sw, "int0");
        sw.ip("link del int0").unwrap();
        stage.reaches_vm3(Vm::Two);
        eventually("it is told", DEADLINE, || {
            Ok((lines(&sut, &["|WARN|", "int0"]).len() > n).then_some(()))
        })
        .unwrap();
    }
    let told = lines(&sut, &["|WARN|", "int0"]);
    assert!(told.len() == 3 && told.iter().all(|l| l.contains("(No such device)")), "{told:#?}");
    becomes(&sut, "int0", "error", |error| error == "[]");
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}

/// The process is stopped and goes on again and again, which interrupts what its threads wait in.
#[test]
fn signals_lose_nothing() {
    if !can_run(switch(), tools()) {
        return;
    }
    let stage = Stage::with_veth();
    let mut sut = start(&stage.story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p", "vm3p"]).unwrap();
    stage.reaches_vm3(Vm::One);
    let pid = sut.pid().unwrap();
    let names = || threads(pid, "comm");
    let before = names();
    assert!(switch() == Whose::Stock || !before.is_empty());
    for _ in 0..10 {
        // Idle as well as under way.
        let sent = std::thread::scope(|scope| {
            let sent = scope.spawn(|| stage.story.transfer(Vm::One, 4 << 20));
            for _ in 0..3 {
                for name in ["STOP", "CONT", "STOP", "CONT", "WINCH"] {
                    signal(pid, name).unwrap();
                }
            }
            sent.join().unwrap()
        });
        sent.unwrap();
    }
    stage.reaches_vm3(Vm::Two);
    assert_eq!(names(), before);
    for port in ["vm1p", "vm2p"].into_iter().filter(|_| switch() == Whose::Ours) {
        for reason in
            ["rx-error", "rx-unknown-offload", "tx-error", "tx-queue-full", "tx-malformed"]
        {
            assert_eq!(lost_for(&sut, port, reason), 0, "{port}: {reason}");
        }
    }
    sleeps(&sut, &stage, Vm::One);
    sut.check_alive().unwrap();
    sut.stop().unwrap();
}
