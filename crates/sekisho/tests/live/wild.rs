//! Controllers that others wrote: os-ken's, with a learning switch in each version that it speaks, and
//! Faucet. `scripts/deps` installs them from PyPI into `target/controllers`.

use std::path::PathBuf;

use testkit::need;
use testkit::process::{DEADLINE, Proc, eventually};
use testkit::story::{Story, Vm};
use testkit::sut::Sut;

use crate::{can_run, start, switch, tools};

/// A program of the virtual environment. Where it could not be installed the reason is noted, and
/// the test is skipped: PyPI is not everywhere.
fn program(name: &str) -> Option<String> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let dir = target.parent().unwrap().join("controllers");
    let program = dir.join("bin").join(name);
    if program.is_file() {
        return Some(program.display().to_string());
    }
    match std::fs::read_to_string(dir.join("unavailable")) {
        Ok(why) => eprintln!("SKIPPED: no {name}: {why}"),
        Err(_) => assert!(!need::absent(&format!("{name} (`make deps` installs it)")).unwrap()),
    }
    None
}

fn spawn(sut: &Sut<'_>, env: &[(&str, String)], argv: &[&str]) -> Proc {
    let env: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut line = vec!["env"];
    line.extend(env.iter().map(String::as_str));
    line.extend(argv);
    sut.ns().spawn(&line).unwrap()
}

fn connected(sut: &Sut<'_>, want: &str) {
    eventually("the controller is connected", DEADLINE, || {
        let line = "ovs-vsctl --bare --columns=is_connected list Controller";
        Ok((sut.ok(tools(), line)?.trim() == want).then_some(()))
    })
    .unwrap();
}

#[test]
fn os_ken_makes_a_learning_switch_in_every_version() {
    if !can_run(switch(), tools()) {
        return;
    }
    let Some(manager) = program("osken-manager") else { return };
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/learning_switch.py");
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        let mut story = Story::new().unwrap();
        story.serve().unwrap();
        let mut sut = start(&story.sw);
        sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
        let line = format!(
            "ovs-vsctl set Bridge br0 protocols={version} fail_mode=secure \
             -- set-controller br0 tcp:127.0.0.1:6653"
        );
        sut.ok(tools(), &line).unwrap();
        let env = [("VERSION", version.to_owned())];
        let argv = [&*manager, "--ofp-listen-host=127.0.0.1", "--ofp-tcp-listen-port=6653", app];
        let mut controller = spawn(&sut, &env, &argv);
        connected(&sut, "true");
        eventually("a ping passes", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(())))
            .unwrap_or_else(|e| panic!("{version}: {e}\n{}", controller.stderr()));
        // TCP begins with packets whose checksums their sender left to the device.
        story.transfer(Vm::One, 300_000).unwrap();
        let flows = sut.ok(tools(), &format!("ovs-ofctl -O {version} dump-flows br0")).unwrap();
        assert!(flows.contains("cookie=0x7") && flows.contains("idle_timeout=30"), "{flows}");
        assert!(controller.alive(), "{}", controller.stderr());
        let said = controller.stdout() + &controller.stderr();
        assert!(!said.contains("ERROR"), "{version}: {said}");
        controller.kill();
        connected(&sut, "false");
        sut.check_alive().unwrap();
    }
}

/// Faucet, with a configuration that says what the ports of `br0` are.
struct Faucet {
    program: String,
    running: Option<Proc>,
}

impl Faucet {
    /// Runs it with another configuration and waits until it has set the bridge up.
    fn configure(&mut self, sut: &Sut<'_>, interfaces: &str) {
        if let Some(mut old) = self.running.take() {
            old.kill();
            connected(sut, "false");
        }
        let config = format!(
            "vlans:
  office: {{vid: 100, faucet_mac: '0e:00:00:00:01:00', faucet_vips: ['192.168.0.254/24']}}
  lab: {{vid: 200, faucet_mac: '0e:00:00:00:02:00', faucet_vips: ['10.9.0.254/24']}}
routers:
  between: {{vlans: [office, lab]}}
acls:
  no-udp:
    - rule: {{dl_type: 0x800, nw_proto: 17, actions: {{allow: 0}}}}
    - rule: {{actions: {{allow: 1}}}}
dps:
  sw1:
    dp_id: 0x1
    hardware: 'Open vSwitch'
    interfaces:
{interfaces}"
        );
        let file = sut.file("faucet.yaml");
        std::fs::write(&file, config).unwrap();
        // It starts another program of its environment.
        let bin = std::path::Path::new(&self.program).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap_or_default();
        let env = [
            ("PATH", format!("{bin}:{path}")),
            ("FAUCET_CONFIG", file),
            ("FAUCET_LOG", sut.file("faucet.log")),
            ("FAUCET_EXCEPTION_LOG", sut.file("faucet_exception.log")),
        ];
        let argv =
            [&*self.program, "--ryu-ofp-listen-host=127.0.0.1", "--ryu-ofp-tcp-listen-port=6653"];
        self.running = Some(spawn(sut, &env, &argv));
        connected(sut, "true");
    }

    fn log(&self, sut: &Sut<'_>) -> String {
        let read = |name: &str| std::fs::read_to_string(sut.file(name)).unwrap_or_default();
        read("faucet.log") + &read("faucet_exception.log")
    }
}

#[test]
fn faucet_switches_filters_and_routes() {
    if !can_run(switch(), tools()) {
        return;
    }
    let Some(program) = program("faucet") else { return };
    let mut story = Story::new().unwrap();
    story.serve().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    sut.ok(
        tools(),
        "ovs-vsctl set Bridge br0 protocols=OpenFlow13 fail_mode=secure \
         other-config:datapath-id=0000000000000001 -- set-controller br0 tcp:127.0.0.1:6653",
    )
    .unwrap();
    let mut faucet = Faucet { program, running: None };
    let reaches = |what: &str, faucet: &Faucet, want: &dyn Fn() -> bool| {
        eventually(what, 2 * DEADLINE, || Ok(want().then_some(())))
            .unwrap_or_else(|e| panic!("{e}\n{}", faucet.log(&sut)));
    };

    // One VLAN, and an ACL on the first machine's port.
    faucet.configure(
        &sut,
        "      2: {native_vlan: office, acl_in: no-udp}\n      3: {native_vlan: office}\n",
    );
    reaches("a ping passes", &faucet, &|| story.ping(Vm::One, 1).unwrap());
    let reach = story.reach(Vm::One, 300).unwrap();
    assert_eq!((reach.icmp, reach.tcp, reach.udp), (true, true, false), "{}", faucet.log(&sut));

    // Two VLANs do not meet by themselves; between them Faucet routes.
    faucet.configure(&sut, "      2: {native_vlan: office}\n      3: {native_vlan: lab}\n");
    let vm2 = story.vm(Vm::Two);
    vm2.ip("addr add 10.9.0.2/24 dev eth0").unwrap();
    vm2.ip("route add 192.168.0.1/32 via 10.9.0.254 src 10.9.0.2").unwrap();
    story.vm(Vm::One).ip("route add 10.9.0.0/24 via 192.168.0.254").unwrap();
    let ping = |ip: &str| {
        let argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", ip];
        story.vm(Vm::One).run(&argv).unwrap().success()
    };
    reaches("the gateway answers", &faucet, &|| ping("192.168.0.254"));
    reaches("a ping is routed", &faucet, &|| ping("10.9.0.2"));
    assert!(!story.ping(Vm::One, 1).unwrap(), "the VLANs are apart");
    let log = faucet.log(&sut);
    assert!(!log.contains("OFPErrorMsg") && !log.contains("Traceback"), "{log}");
    sut.check_alive().unwrap();
}
