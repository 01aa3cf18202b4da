//! Our server and file driven by the stock tools of Open vSwitch, which must be installed.

#![allow(clippy::unwrap_used)]

mod harness;

use std::process::Stdio;

use harness::{Serving, TempDir, stdout, tool};
use ovsdb::{Database, DbSchema, Log};

#[test]
fn stock_vsctl_builds_a_bridge_and_sees_it() {
    let dir = TempDir::new("vsctl");
    let serving = Serving::open_vswitch(&dir.join("db.sock"), &dir.join("conf.db"));
    serving.vsctl(&["init"]);
    serving.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"]);
    serving.vsctl(&["add-port", "br0", "p1", "tag=5", "--", "set", "interface", "p1", "type=tap"]);
    assert_eq!(serving.vsctl(&["list-ports", "br0"]), "p1\n");
    assert_eq!(serving.vsctl(&["get", "port", "p1", "tag"]), "5\n");
    let show = serving.vsctl(&["show"]);
    assert!(show.contains("Bridge br0") && show.contains("tag: 5") && show.contains("type: tap"));
    serving.with(|server, _| {
        let data = server.db("Open_vSwitch").unwrap().data();
        let bridge = data.table("Bridge").unwrap().find("name", "br0").unwrap();
        assert_eq!(bridge.str("datapath_type"), Some("netdev"));
        assert_eq!(bridge.uuids("ports").count(), 2);
    });
    serving.vsctl(&["del-port", "p1"]);
    assert_eq!(serving.vsctl(&["list-ports", "br0"]), "");
    serving.vsctl(&["del-br", "br0"]);
    serving.with(|server, _| {
        let data = server.db("Open_vSwitch").unwrap().data();
        // Ports and interfaces went with the bridge.
        assert_eq!(data.n_rows(), 1);
    });
}

#[test]
fn stock_vsctl_waits_for_a_change() {
    let dir = TempDir::new("wait");
    let serving = Serving::open_vswitch(&dir.join("db.sock"), &dir.join("conf.db"));
    serving.vsctl(&["add-br", "br0"]);
    let db = format!("--db=unix:{}", serving.socket.display());
    let waiting = tool("ovs-vsctl")
        .args(["--no-wait", "--timeout=20", &db, "wait-until", "bridge", "br0", "fail_mode=secure"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    serving.vsctl(&["set", "bridge", "br0", "fail_mode=secure"]);
    assert!(waiting.wait_with_output().unwrap().status.success());
}

#[test]
fn stock_client_dumps_monitors_and_reads_the_schema() {
    let dir = TempDir::new("client");
    let serving = Serving::open_vswitch(&dir.join("db.sock"), &dir.join("conf.db"));
    serving.vsctl(&["add-br", "br0"]);
    let remote = format!("unix:{}", serving.socket.display());
    let client = |args: &[&str]| stdout(tool("ovsdb-client").arg("--timeout=10").args(args));
    assert_eq!(client(&["list-dbs", &remote]), "Open_vSwitch\n_Server\n");
    assert_eq!(client(&["get-schema-version", &remote, "Open_vSwitch"]), "8.3.1\n");
    let dump = client(&["dump", &remote, "Open_vSwitch", "Bridge", "name"]);
    assert!(dump.contains("br0"), "{dump}");
    let wait = client(&["wait", &remote, "Open_vSwitch", "connected"]);
    assert_eq!(wait, "");
    for command in ["monitor", "monitor-cond"] {
        let condition: &[&str] =
            if command == "monitor" { &[] } else { &[r#"[["name","==","br0"]]"#] };
        let mut args = vec![command, &remote, "Open_vSwitch"];
        args.extend(condition);
        args.extend(["Bridge", "name"]);
        // `--timeout` ends a monitor; what it printed until then is what matters.
        let output = tool("ovsdb-client").arg("--timeout=1").args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("initial") && text.contains("br0"), "{command}: {text}");
    }
    let backup = client(&["backup", &remote, "Open_vSwitch"]);
    assert!(backup.starts_with("OVSDB JSON "));
}

/// Stock `ovsdb-tool` reads our file, with differences in it, and we read its.
#[test]
fn files_are_exchanged_with_the_stock_tool() {
    let dir = TempDir::new("tool");
    let file = dir.join("conf.db");
    {
        let serving = Serving::open_vswitch(&dir.join("db.sock"), &file);
        serving.vsctl(&["add-br", "br0", "--", "add-port", "br0", "p1", "tag=5"]);
        serving.vsctl(&["set", "port", "p1", "tag=6", "trunks=1,2,3", "external_ids={a=b,c=d}"]);
        serving.vsctl(&["set", "port", "p1", "trunks=2,4", "external_ids:a=z"]);
        serving.vsctl(&["remove", "port", "p1", "external_ids", "c"]);
        serving.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow10"]);
    }
    let copy = dir.join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    let query = r#"["Open_vSwitch",{"op":"select","table":"Port","where":[["name","==","p1"]],
                    "columns":["tag","trunks","external_ids"]}]"#;
    let expected = "[{\"rows\":[{\"external_ids\":[\"map\",[[\"a\",\"z\"]]],\"tag\":6,\"trunks\":[\"set\",[2,4]]}]}]\n";
    let ask = |file: &std::path::Path| stdout(tool("ovsdb-tool").arg("query").arg(file).arg(query));
    assert_eq!(ask(&copy), expected);
    let log = stdout(tool("ovsdb-tool").args(["-mm", "show-log"]).arg(&copy));
    assert!(log.contains("record 0: \"Open_vSwitch\" schema"), "{log}");
    // The tool compacts the file; we read that and write on; the tool reads it again.
    stdout(tool("ovsdb-tool").arg("compact").arg(&copy));
    let opened = Log::open(&copy).unwrap();
    assert_eq!(opened.recovered, None);
    let mut log = opened.log;
    let mut db = Database::from_data(opened.data);
    assert_eq!(
        db.data().table("Port").unwrap().find("name", "p1").unwrap().integer("tag"),
        Some(6)
    );
    let mut uuids = ovsdb::UuidGen::from_seed(1);
    let op = serde_json::json!({"op": "mutate", "table": "Port", "where": [["name", "==", "p1"]],
        "mutations": [["trunks", "insert", ["set", [2, 7]]]]});
    let (_, commit) = db.transact(&[op], &mut uuids);
    log.append(db.schema(), &commit, 1).unwrap();
    drop(log);
    assert_eq!(ask(&copy), expected.replace("[2,4]", "[2,4,7]"));
    // We compact; the tool reads it.
    let mut opened = Log::open(&copy).unwrap();
    opened.log.compact(&opened.data, 2).unwrap();
    drop(opened);
    assert_eq!(ask(&copy), expected.replace("[2,4]", "[2,4,7]"));
}

/// A file the stock tools made from our schema and wrote transactions to.
#[test]
fn stock_transactions_are_read() {
    let dir = TempDir::new("stock");
    let (schema, file) = (dir.join("schema"), dir.join("stock.db"));
    std::fs::write(&schema, DbSchema::open_vswitch().to_json().to_string()).unwrap();
    stdout(tool("ovsdb-tool").arg("create").arg(&file).arg(&schema));
    for op in [
        r#"{"op":"insert","table":"Open_vSwitch","row":{"external_ids":["map",[["a","b"]]]}}"#,
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],
            "mutations":[["external_ids","insert",["map",[["c","d"]]]],["next_cfg","+=",3]]}"#,
        r#"{"op":"mutate","table":"Open_vSwitch","where":[],
            "mutations":[["external_ids","delete",["set",["a"]]]]}"#,
    ] {
        let transaction = format!("[\"Open_vSwitch\",{op}]");
        stdout(tool("ovsdb-tool").arg("transact").arg(&file).arg(transaction));
    }
    let opened = Log::open(&file).unwrap();
    let row = opened.data.table("Open_vSwitch").unwrap().first().unwrap();
    assert_eq!(row.get("external_ids").unwrap().to_string(), "{c=d}");
    assert_eq!(row.integer("next_cfg"), Some(3));
    // While we have it, the stock tool is kept away.
    let output = tool("ovsdb-tool").arg("compact").arg(&file).output().unwrap();
    assert!(!output.status.success());
}

/// Our client and replica against the stock server, which is started for it.
#[test]
fn our_client_follows_the_stock_server() {
    use ovsdb::client::{Client, Idl, transaction_error};
    use serde_json::json;

    let dir = TempDir::new("stockserver");
    let (file, socket) = (dir.join("conf.db"), dir.join("db.sock"));
    drop(Log::create(&file, DbSchema::open_vswitch()).unwrap());
    let mut server = tool("ovsdb-server")
        .arg(format!("--remote=punix:{}", socket.display()))
        .arg(format!("--unixctl={}", dir.join("ctl").display()))
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let remote = ovsdb::remote::Remote::Unix(socket);
    let client = loop {
        match Client::connect(&remote, None) {
            Ok(client) => break client,
            Err(_) => {
                assert!(server.try_wait().unwrap().is_none(), "the stock server refuses our file");
                std::thread::yield_now();
            }
        }
    };
    let mut idl = Idl::new(client, "Open_vSwitch", None).unwrap();
    let results = idl
        .transact(vec![
            json!({"op": "insert", "table": "Open_vSwitch",
                   "row": {"bridges": ["named-uuid", "b"]}}),
            json!({"op": "insert", "table": "Bridge", "uuid-name": "b",
                   "row": {"name": "br0", "flood_vlans": ["set", [1, 2]]}}),
        ])
        .unwrap();
    assert_eq!(transaction_error(&results), None);
    idl.transact(vec![json!({"op": "mutate", "table": "Bridge", "where": [],
        "mutations": [["flood_vlans", "insert", 3], ["flood_vlans", "delete", 1]]})])
        .unwrap();
    let bridge = idl.data().table("Bridge").unwrap().find("name", "br0").unwrap();
    assert_eq!(bridge.get("flood_vlans").unwrap().to_string(), "[2, 3]");
    idl.transact(vec![json!({"op": "delete", "table": "Open_vSwitch", "where": []})]).unwrap();
    assert_eq!(idl.data().n_rows(), 0);
    server.kill().unwrap();
    server.wait().unwrap();
}
