//! Packets that the kernel forwards: they count as ever, and what changes the policy stops them at once.

use std::collections::BTreeMap;

use testkit::need;
use testkit::netns::Netns;
use testkit::process::{DEADLINE, Proc, eventually, pause};
use testkit::story::{Reach, Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::BINARY;

const OURS: Whose = Whose::Ours;

const POLICY: &str = "\
    table=0,priority=10,ip,ct_state=-trk,actions=ct(table=1)\n\
    table=0,priority=10,ipv6,ct_state=-trk,actions=ct(table=1)\n\
    table=0,priority=0,actions=normal\n\
    table=1,priority=10,in_port=2,ct_state=+trk+new,actions=ct(commit),normal\n\
    table=1,priority=10,ct_state=+trk+est,actions=normal\n\
    table=1,priority=9,icmp6,actions=normal\n";

fn show(sut: &Sut<'_>) -> BTreeMap<String, String> {
    let text = sut.ok(OURS, "ovs-appctl kernel-fast-path/show").unwrap();
    let pair = |l: &str| l.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn packets(sut: &Sut<'_>) -> u64 {
    show(sut)["packets"].parse().unwrap()
}

/// A switch with the two machines; `None`, with a note, if the kernel forwards nothing here.
fn stage(story: &Story) -> Option<Sut<'_>> {
    let sut = Sut::start(OURS, BINARY, &story.sw).unwrap();
    sut.add_bridge(OURS, &["vm1p", "vm2p"]).unwrap();
    let file = sut.file("kernel-path.flow");
    std::fs::write(&file, POLICY).unwrap();
    sut.ok(OURS, "ovs-ofctl del-flows br0").unwrap();
    sut.ok(OURS, &format!("ovs-ofctl add-flows br0 {file}")).unwrap();
    let text = sut.ok(OURS, "ovs-appctl kernel-fast-path/show").unwrap();
    if text.contains("forwards nothing") {
        need::absent(text.trim()).unwrap();
        return None;
    }
    Some(sut)
}

fn reaches(story: &Story) {
    eventually("vm1 reaches vm2", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(()))).unwrap();
}

fn set_mode(sut: &Sut<'_>, mode: &str) {
    sut.ok(OURS, &format!("ovs-vsctl set Open_vSwitch . other_config:kernel-fast-path={mode}"))
        .unwrap();
    eventually("the setting", DEADLINE, || Ok((show(sut)["mode"] == mode).then_some(()))).unwrap();
}

/// Packets that a flow has counted, by what its line has.
fn counted(sut: &Sut<'_>, line: &str) -> u64 {
    let text = sut.ok(OURS, "ovs-ofctl dump-flows br0").unwrap();
    let it = text.lines().find(|l| l.contains(line)).unwrap_or_else(|| panic!("{line}: {text}"));
    it.split_once("n_packets=").unwrap().1.split(',').next().unwrap().parse().unwrap()
}

/// What all flows of a bridge have counted, of packets (`n_packets`) or bytes.
fn of_all_flows(sut: &Sut<'_>, bridge: &str, what: &str) -> u64 {
    let text = sut.ok(OURS, &format!("ovs-ofctl dump-flows {bridge}")).unwrap();
    let what = format!("{what}=");
    let counts = text.split(&what).skip(1).map(|t| t.split(',').next().unwrap());
    counts.map(|n| n.parse::<u64>().unwrap()).sum()
}

/// Packets received and sent by a port, as OpenFlow tells.
fn of_port(sut: &Sut<'_>, port: &str) -> [u64; 2] {
    let text = sut.ok(OURS, &format!("ovs-ofctl dump-ports br0 {port}")).unwrap();
    let mut counts = text.split("pkts=").skip(1).map(|t| t.split(',').next().unwrap());
    [(); 2].map(|()| counts.next().unwrap().trim().parse().unwrap())
}

/// Echoes without end.
fn echoes(vm: &Netns, to: Vm) -> Proc {
    vm.spawn(&["ping", "-q", "-i", "0.002", to.ip()]).unwrap()
}

/// Echo requests that a machine received.
fn echoes_seen(vm: &Netns) -> u64 {
    let text = vm.ok(&["cat", "/proc/self/net/snmp"]).unwrap();
    let mut rows = text.lines().filter(|l| l.starts_with("Icmp:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.split_whitespace().position(|n| n == "InEchos").unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

/// Five hundred echoes of one machine by the other.
fn five_hundred_echoes(story: &Story) {
    let argv = ["ping", "-q", "-c", "500", "-i", "0.002", Vm::Two.ip()];
    let text = story.vm(Vm::One).ok(&argv).unwrap();
    assert!(text.contains("500 packets transmitted, 500 received"), "{text}");
}

/// For a while no echo request arrives.
fn none_arrives(story: &Story) {
    let seen = echoes_seen(story.vm(Vm::Two));
    pause(std::time::Duration::from_millis(200)).unwrap();
    assert_eq!(echoes_seen(story.vm(Vm::Two)), seen);
}

/// More packets are forwarded by the kernel.
fn goes_on(sut: &Sut<'_>) {
    let before = packets(sut);
    eventually("packets stay in the kernel", DEADLINE, || {
        Ok((packets(sut) > before + 50).then_some(()))
    })
    .unwrap();
}

#[test]
fn what_stays_in_the_kernel_is_counted_everywhere() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    sut.ok(OURS, "ovs-vsctl set Open_vSwitch . other_config:ct-acct=true").unwrap();
    for mode in ["off", "device", "peer"] {
        set_mode(&sut, mode);
        reaches(&story);
        sut.ok(OURS, "ovs-appctl dpctl/flush-conntrack").unwrap();
        sut.ok(OURS, "ovs-appctl dpctl/del-flows").unwrap();
        let lines = ["ct_state=-trk,ip ", "ct_state=+new+trk,in_port=2", "ct_state=+est+trk"];
        let all = || {
            let of = [of_port(&sut, "2"), of_port(&sut, "3")];
            (lines.map(|l| counted(&sut, l)), of, packets(&sut))
        };
        let before = all();
        five_hundred_echoes(&story);
        let after = all();
        let gained = |i: usize| after.0[i] - before.0[i];
        // Requests and replies; one request began the connection.
        assert_eq!([gained(0), gained(1), gained(2)], [1000, 1, 999], "{mode}");
        for (after, before) in after.1.iter().zip(&before.1) {
            for (n, old) in after.iter().zip(before) {
                // Neighbours may ask for each other meanwhile.
                assert!((500..520).contains(&(n - old)), "{mode}: {after:?} {before:?}");
            }
        }
        let in_kernel = after.2 - before.2;
        assert_eq!(in_kernel > 700, mode != "off", "{mode}: {in_kernel}");
        let conns = sut.ok(OURS, "conntrack -L -p icmp").unwrap();
        let echo = conns.lines().find(|l| l.contains("icmp")).unwrap();
        assert_eq!(echo.matches("packets=500").count(), 2, "{mode}: {conns}");
        let megaflows = sut.ok(OURS, "ovs-appctl dpctl/dump-flows").unwrap();
        let est = megaflows.lines().filter(|l| l.contains("+est") && l.contains("0x0800"));
        let n: u64 = est
            .map(|l| l.split_once("packets:").unwrap().1.split(',').next().unwrap())
            .map(|n| n.parse::<u64>().unwrap())
            .sum();
        // A packet that makes a megaflow is not counted by it.
        assert!((995..1000).contains(&n), "{mode}: {megaflows}");
    }
    // Streams, which begin and end with the workers, and the story.
    let before = packets(&sut);
    story.transfer(Vm::One, 64 << 20).unwrap();
    assert!(packets(&sut) > before + 500);
    let closed = |l: &str| !l.contains("ESTABLISHED");
    let conns = sut.ok(OURS, "ovs-appctl dpctl/dump-conntrack").unwrap();
    assert!(conns.lines().filter(|l| l.contains("tcp")).all(closed), "{conns}");
    assert_eq!(story.reach(Vm::Two, 400).unwrap(), Reach::NONE);
    assert_eq!(story.reach(Vm::One, 5000).unwrap(), Reach::ALL);
}

/// More of them than are collected at a time.
#[test]
fn a_hundred_connections_are_counted_to_the_last_packet() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    sut.ok(OURS, "ovs-vsctl set Open_vSwitch . other_config:ct-acct=true").unwrap();
    reaches(&story);
    sut.ok(OURS, "ovs-appctl dpctl/flush-conntrack").unwrap();
    let lines = ["ct_state=-trk,ip ", "ct_state=+new+trk,in_port=2", "ct_state=+est+trk"];
    let all = || (lines.map(|l| counted(&sut, l)), of_port(&sut, "2"));
    let (before, seen) = (all(), echoes_seen(story.vm(Vm::Two)));
    let ping = |n: u32| {
        let argv = ["ping", "-q", "-e", &n.to_string(), "-i", "0.02", Vm::Two.ip()];
        story.vm(Vm::One).spawn(&argv).unwrap()
    };
    let pings: Vec<Proc> = (1..=100).map(ping).collect();
    eventually("most are in the kernel", DEADLINE, || {
        let n = show(&sut)["entries"].split(' ').next().unwrap().parse::<u64>().unwrap();
        Ok((n > 128).then_some(()))
    })
    .unwrap();
    drop(pings);
    pause(std::time::Duration::from_millis(200)).unwrap();
    let (after, n) = (all(), echoes_seen(story.vm(Vm::Two)) - seen);
    let [all, new, est] = [0, 1, 2].map(|i| after.0[i] - before.0[i]);
    // One may ask again before it is answered.
    assert!(all == 2 * n && new >= 100 && new + est == all, "{n}: {all} {new} {est}");
    assert_eq!(tracked(&sut, "icmp"), 2 * n);
    for (now, old) in after.1.iter().zip(before.1) {
        // Neighbours may ask for each other meanwhile.
        assert!((n..n + 20).contains(&(now - old)), "{n}: {after:?} {before:?}");
    }
}

/// Packets of all connections of a protocol that the tracker has, both ways.
fn tracked(sut: &Sut<'_>, protocol: &str) -> u64 {
    let conns = sut.ok(OURS, &format!("conntrack -L -p {protocol}")).unwrap();
    let counts = conns.split("packets=").skip(1).map(|t| t.split(' ').next().unwrap());
    counts.map(|n| n.parse::<u64>().unwrap()).sum()
}

/// Of a connection of a dozen packets the first one is a worker's.
#[test]
fn short_connections_stay_in_the_kernel() {
    let mut story = Story::new().unwrap();
    story.enable_ipv6().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    sut.ok(OURS, "ovs-vsctl set Open_vSwitch . other_config:ct-acct=true").unwrap();
    reaches(&story);
    let (from, to) = (story.vm(Vm::One), story.vm(Vm::Two));
    for (ip, line) in [(Vm::Two.ip(), "ct_state=-trk,ip "), ("fd00::2", "ct_state=-trk,ipv6 ")] {
        eventually("vm1 reaches vm2", DEADLINE, || {
            let argv = ["ping", "-c", "1", "-W", "1", ip];
            Ok(story.vm(Vm::One).run(&argv)?.success().then_some(()))
        })
        .unwrap();
        // The first ones bring the flows.
        for _ in 0..3 {
            testkit::story::transfer(from, to, ip, 1000).unwrap();
        }
        sut.ok(OURS, "ovs-appctl dpctl/flush-conntrack").unwrap();
        let (flows, kernel) = (counted(&sut, line), packets(&sut));
        for _ in 0..10 {
            testkit::story::transfer(from, to, ip, 1000).unwrap();
        }
        eventually("both ends have closed", DEADLINE, || {
            let conns = sut.ok(OURS, "ovs-appctl dpctl/dump-conntrack")?;
            let n_closed = conns.matches("protoinfo=(state=TIME_WAIT)").count();
            Ok((n_closed == 10).then_some(()))
        })
        .unwrap();
        let (conns, in_kernel) = (tracked(&sut, "tcp"), packets(&sut) - kernel);
        assert!(conns >= 10 * 6 && in_kernel + 10 <= conns, "{in_kernel} of {conns} by {ip}");
        assert!(in_kernel >= conns * 9 / 10 - 10, "{in_kernel} of {conns} by {ip}");
        // Neighbours may ask for each other meanwhile.
        let gained = counted(&sut, line) - flows;
        assert!((conns..conns + 10).contains(&gained), "{gained} of {conns} by {ip}");
    }
    // Once they are over nothing is left of them.
    eventually("no entries", DEADLINE, || {
        Ok((show(&sut)["entries"].starts_with("0 ")).then_some(()))
    })
    .unwrap();
}

/// A bridge without a policy, and one that sends from port to port.
#[test]
fn what_is_not_tracked_stays_in_the_kernel_as_well() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    for flows in [
        &["priority=3,actions=normal"][..],
        &["priority=3,in_port=2,actions=output:3", "priority=3,in_port=3,actions=2"],
    ] {
        sut.ok(OURS, "ovs-ofctl del-flows br0").unwrap();
        for flow in flows {
            sut.ok(OURS, &format!("ovs-ofctl add-flow br0 {flow}")).unwrap();
        }
        reaches(&story);
        let sum = || of_all_flows(&sut, "br0", "n_packets");
        let (before, kernel) = (sum(), packets(&sut));
        let port = of_port(&sut, "3");
        five_hundred_echoes(&story);
        let gained = packets(&sut) - kernel;
        assert!(gained > 700, "{gained}");
        // Neighbours may ask for each other meanwhile.
        assert!((1000..1010).contains(&(sum() - before)), "{}", sum() - before);
        for (n, old) in of_port(&sut, "3").iter().zip(port) {
            assert!((500..510).contains(&(n - old)), "{n} {old}");
        }
        story.transfer(Vm::One, 16 << 20).unwrap();
        let _echoes = echoes(story.vm(Vm::One), Vm::Two);
        goes_on(&sut);
        sut.ok(OURS, "ovs-ofctl add-flow br0 priority=99,icmp,actions=drop").unwrap();
        none_arrives(&story);
        sut.ok(OURS, "ovs-ofctl --strict del-flows br0 priority=99,icmp").unwrap();
        sut.ok(OURS, "ovs-appctl fdb/flush br0").unwrap();
        goes_on(&sut);
    }
}

/// From an access port by a trunk between two bridges to another access port, with a policy and without.
#[test]
fn tags_are_put_on_and_taken_off_in_the_kernel() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    story.sw.ip("link add t1 type veth peer name t2").unwrap();
    story.sw.ip("link set t1 up").unwrap();
    story.sw.ip("link set t2 up").unwrap();
    let bridges = "set Port vm1p tag=10 -- del-port br0 vm2p -- add-port br0 t1 -- set Interface t1 ofport_request=4 \
        -- add-br br1 -- add-port br1 t2 -- add-port br1 vm2p tag=10";
    sut.ok(OURS, &format!("ovs-vsctl {bridges}")).unwrap();
    for policy in [true, false] {
        if !policy {
            sut.ok(OURS, "ovs-ofctl del-flows br0").unwrap();
            sut.ok(OURS, "ovs-ofctl add-flow br0 priority=0,actions=normal").unwrap();
        }
        reaches(&story);
        let bytes = || of_all_flows(&sut, "br1", "n_bytes");
        let (kernel, trunk, before) = (packets(&sut), of_port(&sut, "4"), bytes());
        five_hundred_echoes(&story);
        // There and back through two bridges.
        assert!(packets(&sut) - kernel > 1400, "{}", packets(&sut) - kernel);
        // And what neighbours ask each other.
        for (n, old) in of_port(&sut, "4").iter().zip(trunk) {
            assert!((500..510).contains(&(n - old)), "{n} {old}");
        }
        // Echoes of 98 bytes, and of 102 from the trunk.
        let gained = bytes() - before;
        assert!((100_000..101_000).contains(&gained), "{gained}");
        story.transfer(Vm::One, 4 << 20).unwrap();
        // The first ones bring the flows. The other bridge tracks nothing, and has of each too few to take note of.
        let short = |n| (0..n).try_for_each(|_| story.transfer(Vm::One, 1000));
        short(3).unwrap();
        let kernel = packets(&sut);
        short(5).unwrap();
        let gained = packets(&sut) - kernel;
        assert_eq!(gained >= 5 * 5, policy, "{gained}");
        assert_eq!(story.reach(Vm::Two, 400).unwrap().tcp, !policy);
    }
}

#[test]
fn it_works_over_ipv6() {
    let mut story = Story::new().unwrap();
    story.enable_ipv6().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    reaches(&story);
    let before = packets(&sut);
    let argv = ["ping", "-6", "-q", "-c", "300", "-i", "0.002", "fd00::2"];
    eventually("vm1 reaches vm2 by IPv6", DEADLINE, || {
        let argv = ["ping", "-6", "-c", "1", "-W", "1", "fd00::2"];
        Ok(story.vm(Vm::One).run(&argv)?.success().then_some(()))
    })
    .unwrap();
    let text = story.vm(Vm::One).ok(&argv).unwrap();
    assert!(text.contains("300 received"), "{text}");
    assert!(packets(&sut) > before + 400, "{}", packets(&sut) - before);
}

#[test]
fn a_flow_mod_stops_it_at_once() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    reaches(&story);
    let _echoes = echoes(story.vm(Vm::One), Vm::Two);
    for _ in 0..5 {
        goes_on(&sut);
        sut.ok(OURS, "ovs-ofctl add-flow br0 priority=99,icmp,actions=drop").unwrap();
        none_arrives(&story);
        sut.ok(OURS, "ovs-ofctl --strict del-flows br0 priority=99,icmp").unwrap();
    }
    goes_on(&sut);
    // A port that is taken away, and its device.
    sut.ok(OURS, "ovs-vsctl del-port br0 vm2p").unwrap();
    none_arrives(&story);
    sut.ok(OURS, "ovs-vsctl add-port br0 vm2p -- set Interface vm2p ofport_request=3").unwrap();
    goes_on(&sut);
    story.sw.ip("link set vm2p down").unwrap();
    story.sw.ip("link set vm2p up").unwrap();
    goes_on(&sut);
    sut.ok(OURS, "ovs-appctl dpctl/flush-conntrack").unwrap();
    goes_on(&sut);
}

/// Frames that a device of the switch's namespace sent, as the host counts.
fn device_sent(story: &Story) -> u64 {
    let text = story.sw.ok(&["cat", "/proc/self/net/dev"]).unwrap();
    let line = text.lines().find_map(|l| l.trim().strip_prefix("vm2p:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn a_device_is_passed_over_only_where_it_may_be() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    reaches(&story);
    let _echoes = echoes(story.vm(Vm::One), Vm::Two);
    let through_device = || {
        goes_on(&sut);
        let (kernel, device) = (packets(&sut), device_sent(&story));
        goes_on(&sut);
        // Of the packets of both ways every second one goes there.
        (device_sent(&story) - device) * 4 > packets(&sut) - kernel
    };
    assert!(!through_device());
    set_mode(&sut, "device");
    assert!(through_device());
    set_mode(&sut, "peer");
    assert!(!through_device());
    if !need::programs(&["tc"]).unwrap() {
        return;
    }
    story.sw.ok(&["tc", "qdisc", "add", "dev", "vm2p", "root", "pfifo"]).unwrap();
    // The switch looks at devices with the next statistics.
    eventually("packets go by the queue", DEADLINE, || Ok(through_device().then_some(()))).unwrap();
    set_mode(&sut, "off");
    let before = packets(&sut);
    pause(std::time::Duration::from_millis(200)).unwrap();
    assert_eq!(packets(&sut), before);
    assert!(story.ping(Vm::One, 1).unwrap());
}

/// A machine takes only what is addressed to it, whichever way it comes.
#[test]
fn frames_for_others_are_not_taken() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    reaches(&story);
    let line = "table=1,priority=50,icmp,in_port=2,ct_state=+trk+est,actions=output:3";
    sut.ok(OURS, &format!("ovs-ofctl add-flow br0 {line}")).unwrap();
    let _echoes = echoes(story.vm(Vm::One), Vm::Two);
    goes_on(&sut);
    let neighbour = |mac| format!("neigh replace {} lladdr {mac} dev eth0", Vm::Two.ip());
    story.vm(Vm::One).ip(&neighbour("02:00:00:00:00:99")).unwrap();
    let still = || {
        let seen = echoes_seen(story.vm(Vm::Two));
        pause(std::time::Duration::from_millis(100)).unwrap();
        echoes_seen(story.vm(Vm::Two)) == seen
    };
    eventually("echoes go astray", DEADLINE, || Ok(still().then_some(()))).unwrap();
    let seen = echoes_seen(story.vm(Vm::Two));
    goes_on(&sut);
    goes_on(&sut);
    // Some may have been on their way still.
    let taken = echoes_seen(story.vm(Vm::Two)) - seen;
    assert!(taken < 50, "{taken} echoes for another machine");
    story.vm(Vm::One).ip(&neighbour(Vm::Two.mac())).unwrap();
    eventually("echoes arrive", DEADLINE, || {
        Ok((echoes_seen(story.vm(Vm::Two)) > seen + 50).then_some(()))
    })
    .unwrap();
}

#[test]
fn what_the_kernel_uses_is_in_use() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(sut) = stage(&story) else { return };
    reaches(&story);
    let line = "table=1,priority=50,icmp,ct_state=+trk+est,idle_timeout=2,actions=normal";
    sut.ok(OURS, &format!("ovs-ofctl add-flow br0 {line}")).unwrap();
    // Two workers are as good as one.
    sut.ok(OURS, "ovs-vsctl set Open_vSwitch . other_config:n-handler-threads=2").unwrap();
    let echoes = echoes(story.vm(Vm::One), Vm::Two);
    goes_on(&sut);
    let has_flow = || sut.ok(OURS, "ovs-ofctl dump-flows br0").unwrap().contains("idle_timeout=2");
    let has_conn = || sut.ok(OURS, "conntrack -L -p icmp").unwrap().contains("src=192.168.0.1");
    for _ in 0..5 {
        pause(std::time::Duration::from_secs(1)).unwrap();
        assert!(has_flow() && has_conn());
    }
    drop(echoes);
    eventually("nobody uses the flow", DEADLINE, || Ok((!has_flow()).then_some(()))).unwrap();
    // Time does not stand still in the kernel.
    sut.ok(OURS, "ovs-appctl time/stop").unwrap();
    assert_eq!(show(&sut)["mode"], "off");
}

#[test]
fn nothing_of_it_outlives_the_daemon() {
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let Some(mut sut) = stage(&story) else { return };
    reaches(&story);
    let _echoes = echoes(story.vm(Vm::One), Vm::Two);
    goes_on(&sut);
    sut.kill();
    none_arrives(&story);
    sut.start_again().unwrap();
    reaches(&story);
    let file = sut.file("kernel-path.flow");
    sut.ok(OURS, &format!("ovs-ofctl add-flows br0 {file}")).unwrap();
    goes_on(&sut);
}
