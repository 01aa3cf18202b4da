//! Our switch on the stock database server.

use testkit::netns::Netns;
use testkit::process::{DEADLINE, Proc, eventually};
use testkit::scratch::Scratch;
use testkit::story::{Story, Vm};
use testkit::sut::have_stock;

use crate::BINARY;

/// Starts the stock server on its database in `dir`.
fn server(ns: &Netns, dir: &Scratch) -> Proc {
    let (db, socket) = (dir.join("conf.db"), dir.path().join("db.sock"));
    let _ = std::fs::remove_file(&socket);
    let remote = format!("--remote=punix:{}", socket.display());
    let unixctl = format!("--unixctl={}", dir.join("server.ctl"));
    let server = ns.spawn(&["ovsdb-server", &db, &remote, &unixctl, "-vconsole:off"]).unwrap();
    eventually("the database serves", DEADLINE, || Ok(socket.exists().then_some(()))).unwrap();
    server
}

#[test]
fn a_switch_on_the_stock_database_server() {
    if !have_stock().unwrap() {
        return;
    }
    let story = Story::new().unwrap();
    let dir = Scratch::new().unwrap();
    let schema = "/usr/share/openvswitch/vswitch.ovsschema";
    story.sw.ok(&["ovsdb-tool", "create", &dir.join("conf.db"), schema]).unwrap();
    let first = server(&story.sw, &dir);
    let remote = format!("unix:{}", dir.join("db.sock"));
    let rundir = dir.path().to_str().unwrap();
    let run = [BINARY, "run", "--rundir", rundir, "--ovsdb", &remote];
    let mut switch = story.sw.spawn(&run).unwrap();
    let vsctl = |line: &str| {
        let words = format!("ovs-vsctl --timeout=10 --db={remote} {line}");
        story.sw.ok(&words.split_whitespace().collect::<Vec<_>>()).unwrap()
    };
    vsctl("--no-wait init");
    vsctl("add-br br0 -- add-port br0 vm1p -- add-port br0 vm2p");
    assert_eq!(vsctl("get Interface vm1p ofport"), "1\n");
    assert!(story.ping(Vm::One, 3).unwrap());

    // A second switch on the same database stays out of it.
    let other = Scratch::new().unwrap();
    let rundir = other.path().to_str().unwrap();
    let mut second =
        story.sw.spawn(&[BINARY, "run", "--rundir", rundir, "--ovsdb", &remote]).unwrap();
    let refused = "another ovs-vswitchd process is running, disabling this process";
    let said = || Ok(second.stderr().contains(refused).then_some(()));
    eventually("the second switch waits", DEADLINE, said).unwrap();
    assert!(!other.path().join("br0.mgmt").exists());
    second.kill();

    // Without its database the switch goes on, and follows again when it is back.
    drop(first);
    assert!(story.ping(Vm::One, 3).unwrap());
    let _second_server = server(&story.sw, &dir);
    vsctl("del-port br0 vm2p");
    assert!(!story.ping(Vm::One, 1).unwrap());
    assert!(switch.alive());
}
