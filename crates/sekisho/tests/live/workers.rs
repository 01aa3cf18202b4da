//! Workers: how many, where, and who polls what, changed while packets flow.

use testkit::netns::Netns;
use testkit::process::DEADLINE;
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::BINARY;
use crate::simulated::{UDP, simulated};

/// What a file of `/proc/PID/task/TID` says of each thread of a worker that there is.
pub(crate) fn threads(pid: u32, file: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut all: Vec<String> = tasks
        .filter_map(|task| {
            // It may be gone meanwhile.
            let task = task.unwrap().path();
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let is_worker = name.starts_with("datapath");
            is_worker.then(|| std::fs::read_to_string(task.join(file)).ok()).flatten()
        })
        .collect();
    all.sort();
    all
}

/// Processors that threads of workers may run on, by thread.
fn affinities(pid: u32) -> Vec<String> {
    let key = "Cpus_allowed_list:";
    let list = |status: &String| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        line.trim().to_owned()
    };
    let mut all: Vec<String> = threads(pid, "status").iter().map(list).collect();
    all.sort();
    all
}

/// The first of a list of processors.
fn first(list: &str) -> usize {
    list.split([',', '-']).next().unwrap().parse().unwrap()
}

#[test]
fn settings_take_effect_while_packets_flow() {
    let story = Story::new().unwrap();
    let sut = Sut::start(Whose::Ours, BINARY, &story.sw).unwrap();
    sut.add_bridge(Whose::Ours, &["vm1p", "vm2p"]).unwrap();
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    ok("ovs-ofctl add-flow br0 actions=normal");
    assert!(story.ping(Vm::One, 2).unwrap());
    let set = |what: &str| drop(ok(&format!("ovs-vsctl set Open_vSwitch . other_config:{what}")));
    let shown = || ok("ovs-appctl dpif-netdev/pmd-rxq-show");
    let count = |text: &str, what: &str| text.matches(what).count();
    // Whoever looks at a start for what is wrong looks at this.
    let told = || sut.output();
    assert!(!told().is_empty() && !told().contains("PMD thread"), "{}", told());

    set("n-handler-threads=1");
    let everywhere = affinities(sut.pid().unwrap());
    assert_eq!((everywhere.len(), count(&shown(), "pmd thread")), (1, 1), "{}", shown());
    let cpu = first(&everywhere[0]);
    let argv = ["ping", "-q", "-i", "0.002", "-c", "1500", Vm::Two.ip()];
    let pinging = story.vm(Vm::One).spawn(&argv).unwrap();
    for _ in 0..5 {
        set("n-handler-threads=3");
        let text = shown();
        assert_eq!((count(&text, "pmd thread"), count(&text, "  port: ")), (3, 3), "{text}");
        assert!(told().contains("PMD thread on numa_id"), "{}", told());
        // Each port has a worker for itself.
        assert_eq!(count(&text, "overhead:"), 3, "{text}");
        ok("ovs-vsctl set Interface vm1p other_config:pmd-rxq-affinity=0:2");
        let text = shown();
        let (_, last) = text.split_once("core_id 2:\n").unwrap();
        assert!(last.starts_with("  isolated : true\n  port: vm1p "), "{text}");
        assert_eq!((count(last, "  port: "), count(&text, "  port: ")), (1, 3), "{text}");
        set(&format!("pmd-cpu-mask={:x}", 1u128 << cpu));
        assert_eq!(affinities(sut.pid().unwrap()), [cpu.to_string()]);
        assert!(shown().contains(&format!("core_id {cpu}:\n")), "{}", shown());
        set("pmd-rxq-assign=group");
        assert_eq!(
            ok("ovs-appctl dpif-netdev/pmd-rxq-rebalance"),
            "pmd rxq rebalance requested.\n"
        );
        ok("ovs-vsctl remove Interface vm1p other_config pmd-rxq-affinity");
        ok("ovs-vsctl remove Open_vSwitch . other_config pmd-cpu-mask -- remove Open_vSwitch . \
            other_config pmd-rxq-assign");
        set("n-handler-threads=2");
        assert_eq!(affinities(sut.pid().unwrap()), vec![everywhere[0].clone(); 2]);
    }
    let said = pinging.finish(DEADLINE).unwrap().ok().unwrap();
    assert!(said.contains("1500 received") && said.contains(" 0% packet loss"), "{said}");

    // A tap and a kernel device with two queues.
    ok("ovs-vsctl set Interface br0 options:n_rxq=2 -- set Interface vm2p options:n_rxq=2");
    let text = shown();
    for port in ["br0", "vm2p"] {
        for queue in 0..2 {
            let row = format!("  port: {port:<16}  queue-id:  {queue} (enabled)");
            assert_eq!(count(&text, &row), 1, "{text}");
        }
    }
    assert!(story.ping(Vm::One, 2).unwrap() && story.ping(Vm::Two, 2).unwrap());
    // Statistics of all workers are those of the datapath.
    let stats = ok("ovs-appctl dpif-netdev/pmd-stats-show");
    assert_eq!(count(&stats, "pmd thread"), 2, "{stats}");

    // What makes no sense is told once and changes nothing.
    for (wrong, says) in [
        (
            "n-handler-threads=none",
            "ignoring other_config:n-handler-threads=none: not a number from 1 to 64",
        ),
        ("pmd-cpu-mask=what", "other_config:pmd-cpu-mask=what: Invalid cpu mask"),
        ("pmd-rxq-assign=best", "pmd-rxq-assign=best is none of roundrobin, cycles, group"),
        (
            "pmd-spin-max=1h",
            "ignoring other_config:pmd-spin-max=1h: not a number from 0 to 1000000",
        ),
    ] {
        set(wrong);
        ok("ovs-vsctl set Bridge br0 other_config:dp-desc=again");
        ok("ovs-vsctl remove Bridge br0 other_config dp-desc");
        assert_eq!(count(&sut.output(), says), 1, "{}", sut.output());
        let key = wrong.split('=').next().unwrap();
        ok(&format!("ovs-vsctl remove Open_vSwitch . other_config {key}"));
    }
    ok("ovs-vsctl set Interface vm1p other_config:pmd-rxq-affinity=0-3");
    assert_eq!(count(&sut.output(), "vm1p: ignoring other_config:pmd-rxq-affinity=0-3"), 1);
    ok("ovs-vsctl set Interface vm1p options:n_rxq=many");
    assert_eq!(count(&sut.output(), "vm1p: ignoring options:n_rxq=many: not a number"), 1);
    assert!(story.ping(Vm::One, 2).unwrap());
}

#[test]
fn simulated_devices_have_queues_and_threads_of_their_own() {
    let ns = Netns::new("queues").unwrap();
    let sut = simulated(&ns, 1);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    ok("ovs-vsctl add-port br0 p7 -- set Interface p7 type=dummy-pmd options:n_rxq=4");
    ok("ovs-ofctl add-flow br0 actions=drop");
    assert!(
        ok("ovs-appctl dpif/show").contains("p7 2/7: (dummy-pmd: n_rxq=4, n_txq=1, numa_id=0)")
    );
    let shown = ok("ovs-appctl dpif-netdev/pmd-rxq-show");
    for queue in 0..4 {
        let row = format!(
            "  port: p7                queue-id:  {queue} (enabled)   pmd usage: NOT AVAIL\n"
        );
        assert!(shown.contains(&row), "{shown}");
    }
    assert!(!shown.contains("port: p1") && !shown.contains("main thread"), "{shown}");
    ok(&format!("ovs-appctl netdev-dummy/receive p7 --qid 3 {UDP}"));
    ok(&format!("ovs-appctl netdev-dummy/receive p7 --qid 0 {UDP}"));
    ok(&format!("ovs-appctl netdev-dummy/receive p1 {UDP}"));
    let stats = ok("ovs-appctl dpif-netdev/pmd-stats-show");
    let received: Vec<_> = stats.lines().filter(|l| l.contains("received")).collect();
    assert_eq!(received, ["  packets received: 2", "  packets received: 1"], "{stats}");

    ok("ovs-vsctl set Interface p7 options:n_rxq=2");
    let shown = ok("ovs-appctl dpif-netdev/pmd-rxq-show");
    assert_eq!(shown.matches("port: p7").count(), 2, "{shown}");
    let argv = ["ovs-appctl", "netdev-dummy/receive", "p7", "--qid", "3", UDP];
    let refused = sut.tool(Whose::Ours, &argv).unwrap();
    assert!(refused.stderr.starts_with("bad rx queue id."), "{refused}");
    ok(&format!("ovs-appctl netdev-dummy/receive p7 --qid 1 {UDP}"));
    assert!(ok("ovs-ofctl dump-flows br0").contains("n_packets=4"));
}

#[test]
fn the_longest_sleep_is_for_all_or_core_by_core() {
    let ns = Netns::new("sleeps").unwrap();
    let sut = simulated(&ns, 1);
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    let set = |us: &str| {
        drop(ok(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-sleep-max={us}")))
    };
    let shown = || ok("ovs-appctl dpif-netdev/pmd-sleep-show");
    assert_eq!(shown(), "Default max sleep:    0 us\n", "no thread yet");
    ok("ovs-vsctl add-port br0 p7 -- set Interface p7 type=dummy-pmd options:n_rxq=2");
    let text = shown();
    let core: usize =
        text.split_once("core_id ").unwrap().1.split(':').next().unwrap().parse().unwrap();
    let of_core = |us: u64| format!(" core_id {core}:\n  max sleep: {us:4} us\n");
    assert!(text.contains(&of_core(0)), "{text}");
    for (value, default, own) in [
        ("50", 50, 50),
        (&*format!("{core}:300,0{core}:20,7"), 7, 20),
        (&format!("{core}:300"), 0, 300),
        ("10001", 10_000, 10_000),
        ("qwe", 0, 0),
    ] {
        set(value);
        let text = shown();
        assert!(text.starts_with(&format!("Default max sleep: {default:4} us\n")), "{text}");
        assert!(text.contains(&of_core(own)), "{value}: {text}");
        let told = format!("core id: {core:2}, max sleep: {own:4} us.");
        assert!(sut.output().contains(&told), "{value}: {}", sut.output());
    }
    assert!(sut.output().contains("ignoring qwe of other_config:pmd-sleep-max=qwe"));
}

#[test]
fn queues_are_given_out_anew_when_a_worker_has_too_much_to_do() {
    let ns = Netns::new("balance").unwrap();
    let sut = Sut::start(Whose::Ours, BINARY, &ns).unwrap();
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    let set = |what: &str| drop(ok(&format!("ovs-vsctl set Open_vSwitch . other_config:{what}")));
    ok("ovs-appctl vlog/set dpif_netdev:console:dbg");
    ok("ovs-appctl time/stop");
    ok("ovs-vsctl add-br br0");
    for port in ["i1", "i2"] {
        ok(&format!("ovs-vsctl add-port br0 {port} -- set Interface {port} type=internal"));
    }
    set("n-handler-threads=1");
    // What has passed since is looked at every minute; nobody is idle enough not to be overloaded.
    let minutes = || drop(ok("ovs-appctl time/warp 130000 5000"));
    let told = |what: &str| sut.output().matches(what).count();
    set("pmd-auto-lb-load-threshold=0");
    minutes();
    assert_eq!(told("nothing to do"), 0, "it is not asked for: {}", sut.output());
    set("pmd-auto-lb=true");
    assert_eq!(told("is enabled, interval 1 mins, pmd load threshold 0%"), 1, "{}", sut.output());
    minutes();
    assert!(told("nothing to do, not enough non-isolated PMDs or RxQs.") > 0, "{}", sut.output());
    set("n-handler-threads=2");
    minutes();
    assert!(told("Variance improvement 0%.") > 0, "{}", sut.output());
    let assigned = || told("Performing pmd to rx queue assignment using cycles algorithm.");
    let before = assigned();
    assert_eq!(told("queues are given out anew"), 0, "{}", sut.output());
    // Nothing to gain is enough.
    set("pmd-auto-lb-improvement-threshold=0");
    minutes();
    let n = told("queues are given out anew");
    assert!(n > 0 && assigned() == before + n, "{n} {before}: {}", sut.output());
    set("pmd-auto-lb=false");
    assert!(sut.output().trim_end().ends_with("PMD auto load balance is disabled."));
    minutes();
    assert_eq!(told("queues are given out anew"), n, "{}", sut.output());
}

#[test]
fn workers_go_before_others_if_they_are_told_to() {
    let ns = Netns::new("realtime").unwrap();
    let sut = Sut::start(Whose::Ours, BINARY, &ns).unwrap();
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    let set = |what: &str| drop(ok(&format!("ovs-vsctl {what}")));
    set("add-br br0 -- add-port br0 i1 -- set Interface i1 type=internal");
    set("set Open_vSwitch . other_config:n-handler-threads=2");
    let pid = sut.pid().unwrap();
    // Priority and policy (1 is SCHED_FIFO) of each worker.
    let scheduled = || -> Vec<(u32, u32)> {
        let numbers = |stat: &String| {
            // The fields 40 and 41 of proc(5); what is behind the name begins with field 3.
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let field = |n: usize| fields.split_whitespace().nth(n - 3).unwrap().parse().unwrap();
            (field(40), field(41))
        };
        threads(pid, "stat").iter().map(numbers).collect()
    };
    assert_eq!(scheduled(), [(0, 0); 2]);
    set("set Open_vSwitch . other_config:pmd-rt-priority=7");
    if scheduled() == [(0, 0); 2] {
        assert!(sut.output().contains("worker 1 has no real-time priority"), "{}", sut.output());
        return;
    }
    assert_eq!(scheduled(), [(7, 1); 2]);
    // Those that come later too.
    set("set Open_vSwitch . other_config:n-handler-threads=3");
    assert_eq!(scheduled(), [(7, 1); 3]);
    set("set Open_vSwitch . other_config:pmd-rt-priority=100");
    assert_eq!(scheduled(), [(0, 0); 3]);
    let told = "ignoring other_config:pmd-rt-priority=100: not a number from 0 to 99";
    assert!(sut.output().contains(told), "{}", sut.output());
}

/// Open vSwitch's own tests look at what a switch without bridges has written.
#[test]
fn what_nobody_asked_for_is_told_with_the_first_simulated_bridge() {
    let ns = Netns::new("first").unwrap();
    let sut = Sut::start_with(Whose::Ours, BINARY, &ns, &["--simulate"]).unwrap();
    let ok = |line: &str| sut.ok(Whose::Ours, line).unwrap();
    ok("ovs-vsctl set Open_vSwitch . external_ids:read=true");
    let told = ["PMD auto load balance is disabled.", "Default PMD thread max sleep:    0 us."];
    assert!(told.iter().all(|line| !sut.output().contains(line)), "{}", sut.output());
    ok("ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=dummy");
    assert!(told.iter().all(|line| sut.output().contains(line)), "{}", sut.output());
}
