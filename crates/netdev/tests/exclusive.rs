//! Taking devices from the host's stack, by each method, as root and as nobody.

#![allow(clippy::unwrap_used)] // a test's namespace is its own to break

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use common::{End, arp_request, inside, is_arp_reply};
use netdev::Warning;
use netdev::af_packet::{AfPacket, Options};
use netdev::exclusive::Method;
use netdev::link::Links;
use testkit::netns::Netns;

const HOST: [u8; 4] = [10, 1, 0, 1];
const GUEST: [u8; 4] = [10, 1, 0, 2];

fn ip(line: &str) {
    let status = std::process::Command::new("ip").args(line.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {line}");
}

/// A veth pair whose switch side p1 has an address of the host; in the current namespace.
fn addressed_veth() -> End {
    for line in [
        "link add p1 type veth peer name q1",
        "addr add 10.1.0.1/24 dev p1",
        "link set p1 up",
        "link set q1 up",
    ] {
        ip(line);
    }
    common::wait_running(&["p1", "q1"]);
    End::shared("q1")
}

/// Whether the host answers an ARP request that comes in on p1 within `patience`.
fn answered(q: &mut End, patience: Duration) -> bool {
    assert_eq!(q.send(&arp_request(GUEST, HOST)), 1);
    q.next(patience, is_arp_reply).is_some()
}

/// The host answers, however busy it is.
fn host_answers(q: &mut End) -> bool {
    answered(q, Duration::from_secs(5))
}

/// The host does not answer, or would do so only later than it usually does.
fn host_is_silent(q: &mut End) -> bool {
    !answered(q, Duration::from_millis(100))
}

fn open(methods: &'static [Method]) -> AfPacket {
    AfPacket::open("p1", Options { exclusive: methods, ..Options::default() }).unwrap()
}

/// The host answers before and after, but not while the switch has the device; the switch gets
/// the request then.
fn silences(methods: &'static [Method]) {
    let mut q = addressed_veth();
    assert!(host_answers(&mut q));
    let port = open(methods);
    assert_eq!(port.exclusive(), Some(methods[0]));
    let mut p = End::of(port);
    assert!(host_is_silent(&mut q));
    assert_eq!(p.marked().frame()[12..14], [8, 6]);
    drop(p);
    assert!(host_answers(&mut q));
    // And again: nothing is left over.
    let _again = open(methods);
    assert!(host_is_silent(&mut q));
}

#[test]
fn tcx_silences_the_host() {
    let _ns = inside("tcx");
    silences(&[Method::Tcx]);
}

#[test]
fn nftables_silences_the_host_with_a_table_of_our_name() {
    let ns = inside("nft");
    silences(&[Method::Nftables]);
    let mut q = End::shared("q1");
    let port = open(&[Method::Nftables]);
    assert!(ns.ok(&["nft", "list", "tables"]).unwrap().contains("sekisho-p1"));
    assert!(host_is_silent(&mut q));
    drop(port);
    assert!(!ns.ok(&["nft", "list", "tables"]).unwrap().contains("sekisho"));
}

#[test]
fn without_arp_the_host_is_silent_and_a_warning_tells() {
    let _ns = inside("noarp");
    silences(&[Method::NoArp]);
    let port = AfPacket::open("q1", Options { exclusive: &[Method::NoArp], ..Options::default() });
    // q1 is held by nobody: the test's end was dropped with `silences`.
    let port = port.unwrap();
    let told = netdev::Port::warnings(&port);
    assert!(matches!(told, [Warning::NotExclusive { .. }]), "{told:?}");
    assert!(Links::open().unwrap().by_name("q1").unwrap().unwrap().noarp);
    drop(port);
    assert!(!Links::open().unwrap().by_name("q1").unwrap().unwrap().noarp);
}

#[test]
fn a_port_of_a_bridge_is_refused() {
    let _ns = inside("bridge");
    let _q = addressed_veth();
    ip("link add lxbr type bridge");
    ip("link set p1 master lxbr");
    let e = AfPacket::open("p1", Options::default()).unwrap_err();
    assert_eq!(
        e.to_string(),
        "could not open network device p1 (Device or resource busy): it is a port of the bridge lxbr"
    );
}

/// Not a test: holds p1 until it is killed, for [`a_killed_switch_leaves_nothing_behind`].
#[test]
#[ignore = "run by another test in a process of its own"]
fn hold() {
    let methods: &[Method] = match std::env::var("HOLD").as_deref() {
        Ok("Tcx") => &[Method::Tcx],
        Ok("Nftables") => &[Method::Nftables],
        _ => return,
    };
    let port = open(methods);
    println!("\nheld by {:?}", port.exclusive());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_switch_leaves_nothing_behind() {
    let ns = inside("killed");
    let mut q = addressed_veth();
    let exe = std::env::current_exe().unwrap();
    for method in [Method::Tcx, Method::Nftables] {
        let mut cmd = ns.command(exe.to_str().unwrap());
        cmd.args(["--exact", "hold", "--ignored", "--nocapture"])
            .env("HOLD", format!("{method:?}"))
            .stdout(Stdio::piped());
        let mut holder = cmd.spawn().unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        let held = lines.find(|l| l.as_ref().is_ok_and(|l| l.starts_with("held")));
        assert_eq!(held.unwrap().unwrap(), format!("held by Some({method:?})"));
        assert!(host_is_silent(&mut q));
        let e = AfPacket::open("p1", Options::default()).unwrap_err().to_string();
        assert!(e.contains("(Device or resource busy): it is already a port of a switch"), "{e}");
        holder.kill().unwrap();
        holder.wait().unwrap();
        // The kernel lets the netlink socket's table go a moment after the process.
        testkit::process::eventually("the host answers again", Duration::from_secs(5), || {
            Ok((!host_is_silent(&mut q)).then_some(()))
        })
        .unwrap();
        let port = open(Method::ALL);
        assert_eq!(port.exclusive(), Some(Method::Tcx));
    }
}

/// Not a test by itself: what [`rootless_switch_in_a_user_namespace`] runs as nobody.
#[test]
#[ignore = "run by another test inside an unprivileged user namespace"]
fn rootless_inside() {
    if std::env::var_os("ROOTLESS").is_none() {
        return;
    }
    ip("link set lo up");
    let mut q = addressed_veth();
    assert!(host_answers(&mut q));
    let port = open(Method::ALL);
    assert_eq!(port.exclusive(), Some(Method::Nftables), "{:?}", netdev::Port::warnings(&port));
    let mut p = End::of(port);
    assert!(host_is_silent(&mut q));
    p.marked();
    let sent = common::large(40_000, 1448, &[[0x81, 0, 0, 9]]);
    assert_eq!(q.send(&sent), 1);
    let got = p.marked();
    assert!(got.frame() == sent.frame());
    assert_eq!(got.offload.gso_size, 1448);
    assert_eq!(p.send(&sent), 1);
    assert!(q.marked().frame() == sent.frame());
    drop(p);
    assert!(host_answers(&mut q));
    println!("\nrootless is well");
}

#[test]
fn rootless_switch_in_a_user_namespace() {
    // A copy where everybody may read it.
    let dir = std::env::temp_dir().join(format!("sekisho-rootless-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let exe = dir.join("exclusive");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let root = testkit::process::host(&["id", "-u"]).unwrap().trim() == "0";
    let mut argv = vec!["unshare", "--user", "--map-root-user", "--net", "--"];
    if root {
        argv.splice(0..0, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let exe = exe.to_str().unwrap().to_owned();
    argv.extend([&exe, "--exact", "rootless_inside", "--ignored", "--nocapture"]);
    let out = std::process::Command::new(argv[0])
        .args(&argv[1..])
        .env("ROOTLESS", "1")
        .current_dir("/")
        .output();
    std::fs::remove_dir_all(&dir).unwrap();
    let out = out.unwrap();
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("rootless is well"), "{text}");
}

#[test]
fn two_namespaces_may_each_have_their_device_of_that_index() {
    let ns = inside("twins-a");
    let _q = addressed_veth();
    let _held = open(&[Method::Tcx]);
    let twin: Netns = ns.sibling("twins-b").unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            common::enter(&twin);
            let _q = addressed_veth();
            assert_eq!(open(&[Method::Tcx]).exclusive(), Some(Method::Tcx));
        });
    });
}
