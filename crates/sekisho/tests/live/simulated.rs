//! The simulated world: devices in memory, a clock that stands still; and the daemon by its OVS name.

use std::path::Path;

use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually, signal};
use testkit::sut::{Sut, Whose, have_stock};

use crate::{BINARY, tools};

/// A simulated switch with `br0` and dummy ports `p1` to `pN`.
pub(crate) fn simulated(ns: &Netns, n_ports: u32) -> Sut<'_> {
    simulation_of(Whose::Ours, ns, n_ports)
}

/// The same of one switch or the other.
pub(crate) fn simulation_of(whose: Whose, ns: &Netns, n_ports: u32) -> Sut<'_> {
    let options: &[&str] = match whose {
        Whose::Ours => &["--simulate"],
        Whose::Stock => &["--enable-dummy=override", "--disable-system"],
    };
    let sut = Sut::start_with(whose, BINARY, ns, options).unwrap();
    let mut line = "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=dummy fail-mode=secure \
                    other-config:hwaddr=aa:55:aa:55:00:00"
        .to_owned();
    for n in 1..=n_ports {
        let capture = sut.file(&format!("p{n}.pcap"));
        line += &format!(
            " -- add-port br0 p{n} -- set Interface p{n} type=dummy ofport_request={n} \
             options:tx_pcap={capture}"
        );
    }
    sut.ok(tools(), &line).unwrap();
    sut
}

/// The frames in a capture file.
pub(crate) fn captured(sut: &Sut<'_>, port: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(sut.file(&format!("{port}.pcap"))).unwrap();
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_ne_bytes());
    let (mut rest, mut frames) = (&bytes[24..], Vec::new());
    while let Some(header) = rest.first_chunk::<16>() {
        let len = u32::from_ne_bytes(*header[8..].first_chunk().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

pub(crate) const UDP: &str = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=7,dst=9)";

#[test]
fn a_conversation_on_a_clock_that_stands_still() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 3);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    app("time/stop");
    let flow =
        "ovs-ofctl add-flow br0 in_port=1,idle_timeout=10,actions=mod_dl_dst:02:00:00:00:00:03,2";
    sut.ok(tools(), flow).unwrap();
    app(&format!("netdev-dummy/receive p1 {UDP}"));
    // 14 + 20 + 8 and a payload that counts from 0 to 63.
    let frames = captured(&sut, "p2");
    assert_eq!((frames.len(), frames[0].len()), (1, 106));
    assert_eq!(frames[0][..14], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1, 8, 0]);
    assert_eq!(frames[0][105], 63);
    assert!(captured(&sut, "p3").is_empty());
    // The next one is longer, and counted for the same megaflow and rule.
    app(&format!("netdev-dummy/receive p1 {UDP} --len 200"));
    assert_eq!(captured(&sut, "p2")[1].len(), 200);
    let flows = app("dpctl/dump-flows");
    assert!(flows.starts_with("flow-dump from the main thread:\n"), "{flows}");
    assert!(flows.contains("in_port(1)") && flows.contains("packets:1, bytes:200"), "{flows}");
    // A filter leaves out what asks for something else.
    for (filter, there) in
        [("in_port=p1", true), ("in_port=1,ip", true), ("in_port=p2", false), ("arp", false)]
    {
        let some = app(&format!("dpctl/dump-flows filter={filter}"));
        assert_eq!(some.contains("in_port(1)"), there, "{filter}: {some}");
    }
    let wrong =
        sut.tool(tools(), &["ovs-appctl", "dpctl/dump-flows", "filter=nonsense=1"]).unwrap();
    assert!(wrong.stderr.starts_with("ovs-vswitchd: Failed to parse filter ("), "{wrong}");
    let more = app("dpif/dump-flows -m br0");
    let parts: Vec<&str> = more.splitn(3, ' ').collect();
    assert!(parts[0].starts_with("ufid:") && parts[1].contains("in_port(p1)"), "{more}");
    let dump = || sut.ok(tools(), "ovs-ofctl dump-flows br0").unwrap();
    assert!(dump().contains("n_packets=2, n_bytes=306"), "{}", dump());
    // Numbers in the datapath are those in the names.
    let shown = app("dpif/show");
    assert!(shown.starts_with("dummy@ovs-dummy: hit:1 missed:1\n"), "{shown}");
    assert!(shown.contains("    br0 65534/100: (dummy-internal)\n"), "{shown}");
    assert!(shown.contains("    p3 3/3: (dummy)\n"), "{shown}");
    // Nothing ages until the clock is told to go on, and then everything does.
    assert_eq!(app("time/warp 9000 1000"), "warped\n");
    assert!(dump().contains("in_port"));
    app("time/warp 2000 500");
    assert!(!dump().contains("in_port"), "{}", dump());
    app(&format!("netdev-dummy/receive p1 {UDP}"));
    assert_eq!(captured(&sut, "p2").len(), 2);
}

#[test]
fn a_device_that_goes_down_and_one_that_answers_arp() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 2);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    sut.ok(tools(), "ovs-ofctl add-flow br0 actions=all").unwrap();
    let state = || sut.ok(tools(), "ovs-vsctl get Interface p2 admin_state").unwrap();
    assert_eq!(state(), "up\n");
    assert_eq!(app("netdev-dummy/set-admin-state p2 down"), "OK\n");
    assert_eq!(state(), "down\n");
    assert!(sut.ok(tools(), "ovs-ofctl show br0").unwrap().contains("config:     PORT_DOWN"));
    app("netdev-dummy/set-admin-state up");
    assert_eq!(state(), "up\n");

    app("netdev-dummy/ip4addr p2 10.0.0.9/24");
    app(
        "netdev-dummy/receive p1 eth(src=02:00:00:00:00:01,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0806),\
         arp(sip=10.0.0.1,tip=10.0.0.9,op=1,sha=02:00:00:00:00:01,tha=00:00:00:00:00:00)",
    );
    let reply = &captured(&sut, "p1")[0];
    assert_eq!(reply[..6], [2, 0, 0, 0, 0, 1]);
    assert_eq!(reply[20..22], [0, 2]);
    assert_eq!(reply[28..32], [10, 0, 0, 9]);

    // Bytes as they are; what is neither bytes nor a flow is refused.
    app("netdev-dummy/receive p1 0200000000020200000000019999");
    let bad = sut.tool(tools(), &["ovs-appctl", "netdev-dummy/receive", "p1", "frob(1)"]).unwrap();
    assert!(!bad.success(), "{}", bad.stdout);
    let long = ["ovs-appctl", "netdev-dummy/receive", "p1", UDP, "--len", "99999999999999"];
    assert!(sut.tool(tools(), &long).unwrap().stderr.contains("too large packet len"));
    let bad = sut.tool(tools(), &["ovs-appctl", "netdev-dummy/receive", "p9", "00"]).unwrap();
    assert!(bad.stderr.contains("no such dummy netdev"), "{}", bad.stderr);
}

#[test]
fn a_cable_between_two_devices() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 3);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    let socket = sut.file("cable");
    let plug = format!(
        "ovs-vsctl set Interface p2 options:pstream=punix:{socket} -- \
         set Interface p3 options:stream=unix:{socket}"
    );
    sut.ok(tools(), &plug).unwrap();
    let connected = || Ok((app("netdev-dummy/conn-state p3") == "p3: connected\n").then_some(()));
    eventually("the cable is plugged in", DEADLINE, connected).unwrap();
    assert_eq!(app("netdev-dummy/conn-state p2"), "p2: unknown\n");
    assert_eq!(app("netdev-dummy/conn-state"), "p3: connected\n");
    // Out of p2, over the cable, in by p3, out of p1.
    sut.ok(tools(), "ovs-ofctl add-flow br0 in_port=1,actions=2").unwrap();
    sut.ok(tools(), "ovs-ofctl add-flow br0 in_port=3,actions=1").unwrap();
    app(&format!("netdev-dummy/receive p1 {UDP}"));
    let arrived = || Ok((captured(&sut, "p1").len() == 1).then_some(()));
    eventually("the frame comes back", DEADLINE, arrived).unwrap();
    assert_eq!(captured(&sut, "p1"), captured(&sut, "p2"));
    sut.ok(tools(), "ovs-vsctl remove Interface p2 options pstream").unwrap();
    let gone = || Ok((app("netdev-dummy/conn-state p3") == "p3: disconnected\n").then_some(()));
    eventually("the other end notices", DEADLINE, gone).unwrap();
}

/// Ends the daemons whose pid files are in a directory, for they are nobody's children.
struct Reaper(String);

impl Drop for Reaper {
    fn drop(&mut self) {
        for name in ["ovs-vswitchd", "ovsdb-server"] {
            let pid = std::fs::read_to_string(format!("{}/{name}.pid", self.0));
            if let Some(pid) = pid.ok().and_then(|t| t.trim().parse().ok()) {
                let _ = signal(pid, "KILL");
            }
        }
    }
}

#[test]
fn a_daemon_that_dies_of_a_defect_is_started_again() {
    let ns = Netns::new("mon").unwrap();
    let stage = Sut::stage(BINARY, &ns).unwrap();
    let _reaper = Reaper(stage.rundir().to_owned());
    let link = stage.file("ovsdb-server");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let said = stage
        .run(&[
            &link,
            "--no-dbs",
            "--detach",
            "--monitor",
            "--no-chdir",
            "--pidfile",
            "-vconsole:off",
        ])
        .unwrap();
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    let read = || -> Option<u32> {
        std::fs::read_to_string(stage.file("ovsdb-server.pid")).ok()?.trim().parse().ok()
    };
    let first = read().unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{first}/comm")).unwrap(), "ovsdb-server\n");
    signal(first, "ABRT").unwrap();
    let again = || Ok(read().filter(|pid| *pid != first));
    let second = eventually("another daemon", DEADLINE, again).unwrap();
    // One that is told to end is not.
    signal(second, "TERM").unwrap();
    let over = || Ok((!Path::new(&format!("/proc/{second}")).exists()).then_some(()));
    eventually("the daemon ends", DEADLINE, over).unwrap();
    assert_eq!(read(), None);

    // What goes wrong at the start is told to whoever started it.
    let bad = [&link, "--no-dbs", "--detach", "--unixctl=/nonexistent/x", "-vconsole:off"];
    let said = stage.run(&bad).unwrap();
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("could not initialize control socket"), "{}", said.stderr);
}

/// Our database server by its OVS name, with the stock tools and the stock switch on it.
#[test]
fn the_database_server_by_its_ovs_name() {
    if !have_stock().unwrap() {
        return;
    }
    let ns = Netns::new("db").unwrap();
    let stage = Sut::stage(BINARY, &ns).unwrap();
    let _reaper = Reaper(stage.rundir().to_owned());
    let link = stage.file("ovsdb-server");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let ok = |argv: &[&str]| stage.run(argv).unwrap().ok().unwrap();
    let missing = stage.run(&[&link, "--detach", "nosuch.db"]).unwrap();
    assert_eq!(missing.status, Some(1));
    assert!(missing.stderr.contains("nosuch.db"), "{}", missing.stderr);

    let schema = "/usr/share/openvswitch/vswitch.ovsschema";
    ok(&["ovsdb-tool", "create", &stage.database(), schema]);
    let remote = format!("--remote=punix:{}", stage.file("db.sock"));
    let column = "--remote=db:Open_vSwitch,Open_vSwitch,manager_options";
    let start = [&*link, &stage.database(), &remote, column, "--detach", "--no-chdir", "--pidfile"];
    let said = stage.run(&[&start[..], &["--log-file", "-vconsole:off"]].concat()).unwrap();
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "", ""));
    // It listens before its parent ends.
    ok(&["ovs-vsctl", "--no-wait", "init"]);
    assert_eq!(ok(&["ovsdb-client", "list-dbs"]), "Open_vSwitch\n_Server\n");
    let app = |words: &[&str]| ok(&[&["ovs-appctl", "-t", "ovsdb-server"], words].concat());
    assert!(app(&["version"]).starts_with("ovsdb-server (Open vSwitch)"));
    assert_eq!(app(&["ovsdb-server/list-dbs"]), "Open_vSwitch\n_Server\n");

    // A remote out of a column, one by command, and none any more.
    let socket = stage.file("more.sock");
    ok(&["ovs-vsctl", "--no-wait", "set-manager", &format!("punix:{socket}")]);
    let there = || Ok(Path::new(&socket).exists().then_some(()));
    eventually("the manager's socket", DEADLINE, there).unwrap();
    let socket = stage.file("third.sock");
    app(&["ovsdb-server/add-remote", &format!("punix:{socket}")]);
    let there = || Ok(Path::new(&socket).exists().then_some(()));
    eventually("the third socket", DEADLINE, there).unwrap();
    let listed = ok(&["ovsdb-client", "list-dbs", &format!("unix:{socket}")]);
    assert_eq!(listed, "Open_vSwitch\n_Server\n");
    app(&["ovsdb-server/remove-remote", &format!("punix:{socket}")]);
    let gone = || Ok((!Path::new(&socket).exists()).then_some(()));
    eventually("the third socket goes", DEADLINE, gone).unwrap();
    let argv = ["ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/remove-remote", "punix:x"];
    assert!(stage.run(&argv).unwrap().stderr.contains("no such remote"));

    // The stock switch obeys it.
    let dummy = ["--enable-dummy=override", "--disable-system", "-vconsole:off"];
    ok(&[&["ovs-vswitchd", "--detach", "--no-chdir", "--pidfile", "--log-file"], &dummy[..]]
        .concat());
    ok(&["ovs-vsctl", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy"]);
    assert_eq!(ok(&["ovs-vsctl", "get", "Interface", "br0", "ofport"]), "65534\n");
    ok(&["ovs-appctl", "exit"]);

    // What was committed is there for the next server.
    app(&["ovsdb-server/compact"]);
    let pid = std::fs::read_to_string(stage.file("ovsdb-server.pid")).unwrap();
    app(&["exit"]);
    let gone = || Ok((!Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(()));
    eventually("the server ends", DEADLINE, gone).unwrap();
    assert!(!Path::new(&stage.file("db.sock")).exists());
    let dump = ok(&["ovsdb-tool", "query", &stage.database(), QUERY]);
    assert!(dump.contains("\"br0\""), "{dump}");
}

const QUERY: &str =
    r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#;

/// `ovs-vswitchd` as a service starts it, on the stock database server and with the stock tools.
#[test]
fn the_switch_by_its_ovs_name() {
    if !have_stock().unwrap() {
        return;
    }
    let ns = Netns::new("sim").unwrap();
    let stage = Sut::stage(BINARY, &ns).unwrap();
    let _reaper = Reaper(stage.rundir().to_owned());
    let link = stage.file("ovs-vswitchd");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let schema = "/usr/share/openvswitch/vswitch.ovsschema";
    let ok = |argv: &[&str]| stage.run(argv).unwrap().ok().unwrap();
    ok(&["ovsdb-tool", "create", &stage.database(), schema]);
    let remote = format!("--remote=punix:{}", stage.file("db.sock"));
    ok(&["ovsdb-server", &stage.database(), &remote, "--detach", "--no-chdir", "--pidfile"]);
    ok(&["ovs-vsctl", "--no-wait", "init"]);

    let start = [&link, "--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"];
    let start: Vec<&str> =
        start.iter().map(|s| s.as_ref()).chain(["--enable-dummy", "--disable-system"]).collect();
    let said = stage.run(&start).unwrap();
    assert!(said.success(), "{}", said.stderr);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    // Its parent ended, so everything is there.
    let pid = std::fs::read_to_string(stage.file("ovs-vswitchd.pid")).unwrap();
    let pid = pid.trim();
    assert!(Path::new(&stage.file(&format!("ovs-vswitchd.{pid}.ctl"))).exists());
    ok(&["ovs-vsctl", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy"]);
    assert_eq!(ok(&["ovs-appctl", "ofproto/list"]), "br0\n");

    // A second one is refused, and says so to whoever started it.
    let said = stage.run(&start).unwrap();
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains(&format!("already running as pid {pid}, aborting")));

    let log = std::fs::read_to_string(stage.file("ovs-vswitchd.log")).unwrap();
    for (line, number) in log.lines().zip(1..).take(3) {
        let parts: Vec<&str> = line.splitn(5, '|').collect();
        assert_eq!((parts.len(), parts[1]), (5, format!("{number:05}").as_str()), "{line}");
        assert_eq!((parts[0].len(), parts[3]), ("2026-11-23T06:26:44.352Z".len(), "INFO"));
    }
    ok(&["ovs-appctl", "exit", "--cleanup"]);
    let gone = || Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    eventually("the switch ends", DEADLINE, gone).unwrap();
    assert!(!Path::new(&stage.file("ovs-vswitchd.pid")).exists());
    ok(&["ovs-appctl", "-t", "ovsdb-server", "exit"]);
    assert_eq!(stage.whose(), Whose::Ours);
}

#[test]
fn a_flow_table_row_names_the_fields_whose_prefixes_are_tracked() {
    let ns = Netns::new("prefixes").unwrap();
    let sut = simulated(&ns, 2);
    for flow in ["priority=9,ip,nw_dst=10.1.2.3", "priority=1,ip,nw_dst=10.0.0.0/8"] {
        sut.ok(tools(), &format!("ovs-ofctl add-flow br0 {flow},actions=2")).unwrap();
    }
    let megaflow = || {
        let line = "ovs-appctl ofproto/trace br0 in_port=1,ip,nw_src=10.9.9.9,nw_dst=10.128.0.1";
        let trace = sut.ok(tools(), line).unwrap();
        trace.lines().find_map(|l| l.strip_prefix("Megaflow: ")).unwrap().to_owned()
    };
    let set = |prefixes: &str| {
        let line = format!("ovs-vsctl set Flow_Table t prefixes={prefixes}");
        sut.ok(tools(), &line).unwrap();
    };
    assert!(megaflow().contains("nw_dst=10.128.0.0/9,"), "{}", megaflow());
    let line = "ovs-vsctl -- --id=@t create Flow_Table name=t -- set Bridge br0 flow_tables:0=@t";
    sut.ok(tools(), line).unwrap();
    for (prefixes, want) in [
        ("none", "nw_dst=10.128.0.1,"),
        ("ipv6_label,nw_src", "nw_dst=10.128.0.1,"),
        ("nw_dst", "nw_dst=10.128.0.0/9,"),
    ] {
        set(prefixes);
        eventually(prefixes, DEADLINE, || Ok(megaflow().contains(want).then_some(()))).unwrap();
    }
    let log =
        sut.output() + &std::fs::read_to_string(sut.file("ovs-vswitchd.log")).unwrap_or_default();
    assert!(log.contains("bridge br0: 'prefixes' with incompatible field: ipv6_label"), "{log}");
}

#[test]
fn the_host_reaches_controllers_and_managers_over_the_bridge() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 1);
    let run = |line: &str| sut.ok(tools(), line).unwrap();
    let dump = || run("ovs-appctl bridge/dump-flows br0");
    run("ovs-ofctl add-flow br0 cookie=5,table=3,ip,actions=drop");
    let alone = dump();
    assert!(alone.starts_with("cookie=0x5, table_id=3, duration="), "{alone}");
    assert!(alone.ends_with("s, n_packets=0, n_bytes=0, ip,actions=drop\n"), "{alone}");
    run("ovs-vsctl set-controller br0 tcp:240.0.0.1 ptcp:12345 tcp:localhost");
    run("ovs-vsctl set-manager ssl:240.0.0.2:99 tcp:127.0.0.1:99");
    // The first controller begins with empty tables.
    run("ovs-ofctl add-flow br0 cookie=5,table=3,ip,actions=drop");
    let flows = dump();
    let own: Vec<&str> = flows.lines().filter(|l| l.contains("priority=18000")).collect();
    assert_eq!(own.len(), 11, "three of the host's, four of each other end: {flows}");
    assert!(own.iter().all(|l| l.ends_with(",actions=NORMAL")), "{flows}");
    for part in [
        "priority=180000,udp,in_port=LOCAL,dl_src=aa:55:aa:55:00:00,tp_src=68,tp_dst=67,",
        "priority=180007,tcp,nw_dst=240.0.0.1,tp_dst=6653,",
        "priority=180008,tcp,nw_src=240.0.0.2,tp_src=99,",
    ] {
        assert!(flows.contains(part), "{flows}");
    }
    let shown = run("ovs-ofctl dump-flows br0");
    assert_eq!(shown.matches("n_packets").count(), 1, "{shown}");
    let with_offload = run("ovs-appctl bridge/dump-flows --offload-stats br0");
    assert!(with_offload.contains("n_bytes=0, n_offload_packets=0, n_offload_bytes=0, priority="));
    run("ovs-vsctl set bridge br0 other-config:in-band-queue=3");
    assert_eq!(dump().matches("actions=set_queue:3,NORMAL").count(), 11);
    run("ovs-vsctl del-manager -- set-controller br0 tcp:240.0.0.1");
    run("ovs-vsctl set controller br0 connection_mode=out-of-band");
    assert_eq!(dump().lines().count(), 1);
    run("ovs-vsctl set controller br0 connection_mode=in-band");
    assert_eq!(dump().lines().count(), 8);
    run("ovs-vsctl set bridge br0 other-config:disable-in-band=true");
    assert_eq!(dump().lines().count(), 1);
}

/// A number that a port asks for too late stays another's, also when the daemon itself has written to
/// the database, until somebody changes something.
#[test]
fn a_port_that_comes_later_takes_no_number_away() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 0);
    let ok = |line: &str| sut.ok(tools(), line).unwrap();
    ok("ovs-vsctl add-port br0 patch -- set Interface patch type=patch options:peer=none");
    ok("ovs-vsctl add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1");
    ok("ovs-appctl time/warp 6000 1000");
    let numbers = || ok("ovs-vsctl get Interface patch ofport -- get Interface p1 ofport");
    assert_eq!(numbers(), "1\n2\n");
}

/// Who listens for long is asked whether it lives, and answers.
#[test]
fn a_silent_client_is_asked_whether_it_lives() {
    let ns = Netns::new("sim").unwrap();
    let sut = simulated(&ns, 1);
    let ok = |line: &str| sut.ok(tools(), line).unwrap();
    ok("ovs-appctl vlog/set console:rconn:dbg");
    ok("ovs-appctl time/stop");
    let monitor = sut.spawn_tool(tools(), "ovs-ofctl monitor br0 65534").unwrap();
    eventually("it listens and is asked", DEADLINE, || {
        ok("ovs-appctl time/warp 61000");
        let said = sut.output();
        Ok(said.contains("idle 61 seconds, sending inactivity probe").then_some(()))
    })
    .unwrap();
    ok("ovs-appctl time/warp 59000");
    assert!(!sut.output().contains("no response"), "{}", sut.output());
    drop(monitor);
}

/// Names of tables are a matter of the switch, which our tool and the stock one ask for them alike.
#[test]
fn tables_that_have_names() {
    let ns = Netns::new("names").unwrap();
    let sut = simulated(&ns, 1);
    let ofctl = |line: &str| sut.ok(tools(), &format!("ovs-ofctl {line}")).unwrap();
    ofctl("-O OpenFlow13 mod-table br0 3 name:acl");
    ofctl("-O OpenFlow15 mod-table br0 acl evict");
    ofctl("add-flow br0 table=acl,in_port=p1,actions=resubmit(,acl)");
    let rule = "in_port=p1 actions=resubmit(,acl)";
    let names = [("--names", format!(" table=acl, {rule}\n"))];
    let numbers = [("--no-names", " table=3, in_port=1 actions=resubmit(,3)\n".to_owned())];
    for (option, want) in names.into_iter().chain(numbers) {
        for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
            let got = ofctl(&format!("-O {version} {option} --no-stats dump-flows br0"));
            let got = got.replace(" reset_counts", "");
            assert_eq!(got, want, "{version}");
        }
    }
    let one = ofctl("--names --no-stats dump-flows br0 table=acl");
    assert_eq!(one.lines().count(), 1, "{one}");
    let coloured = ofctl("--color=always --no-stats dump-flows br0");
    assert!(coloured.contains("\x1b[1;31m\x1b[Kactions=\x1b[m\x1b[K"), "{coloured:?}");
    let exporter = sut.tool(tools(), &["ovs-ofctl", "dump-ipfix-bridge", "br0"]).unwrap();
    assert!(exporter.stdout.contains("NXST_NOT_CONFIGURED"), "{exporter:?}");
}

/// A file whose flow the switch refuses: what stands before it is done, what stands behind it is not, in a
/// long file as in a short one, and the line is named.
#[test]
fn nothing_behind_a_refused_flow() {
    let ns = Netns::new("refused").unwrap();
    let sut = simulated(&ns, 1);
    for (n, bad) in [(5, 3), (1000, 700), (1000, 1), (300, 257)] {
        for version in ["OpenFlow10", "OpenFlow11", "OpenFlow13", "OpenFlow14"] {
            sut.ok(tools(), "ovs-ofctl del-flows br0").unwrap();
            let flow = |i: u32| match i == bad {
                true => format!("priority={i},actions=group:77\n"),
                false => format!("priority={i},actions=drop\n"),
            };
            let file: String = (1..=n).map(flow).collect();
            let argv = ["ovs-ofctl", "-O", version, "add-flows", "br0", "-"];
            let got = sut.tool_with_input(tools(), &argv, file.as_bytes()).unwrap();
            assert_eq!(got.status, Some(1), "{got:?}");
            assert!(got.stderr.contains("OFPBAC_BAD_OUT_GROUP"), "{got:?}");
            if tools() == Whose::Ours {
                let place = format!("stdin:{bad}: refused by the switch");
                assert!(got.stderr.contains(&place), "{got:?}");
            }
            let flows = sut.ok(tools(), "ovs-ofctl dump-aggregate br0").unwrap();
            let want = format!("flow_count={}", bad - 1);
            assert!(flows.trim_end().ends_with(&want), "{version} {n}: {flows}");
        }
    }
}

/// Counters of events only grow, also those of a bridge that goes.
#[test]
fn what_a_bridge_learned_stays_counted() {
    let ns = Netns::new("coverage").unwrap();
    let sut = simulated(&ns, 2);
    let app = |line: &str| sut.ok(tools(), &format!("ovs-appctl {line}")).unwrap();
    sut.ok(tools(), "ovs-ofctl add-flow br0 actions=normal").unwrap();
    app(&format!("netdev-dummy/receive p1 {UDP}"));
    let learned = || app("coverage/read-counter mac_learning_learned");
    assert_eq!(learned(), "1\n");
    sut.ok(tools(), "ovs-vsctl del-br br0").unwrap();
    assert_eq!(learned(), "1\n");
}
