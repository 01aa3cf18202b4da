//! Our server and file driven by the stock tools of Open vSwitch, which must be installed.

#![allow(clippy::unwrap_used)]

mod harness;

use std::io::BufRead;
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
        // A monitor does not end by itself: read until the row is there.
        let mut monitor = tool("ovsdb-client")
            .arg("--timeout=30")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(monitor.stdout.take().unwrap()).lines();
        let found = lines.map_while(Result::ok).any(|l| l.contains("initial") && l.contains("br0"));
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        assert!(found, "{command} did not show the bridge");
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

/// A stock server for one file, killed at the end.
struct Stock(std::process::Child);

impl Stock {
    fn start(dir: &TempDir, files: &[&std::path::Path]) -> (Stock, ovsdb::remote::Remote) {
        let socket = dir.join("stock.sock");
        let mut command = tool("ovsdb-server");
        command
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--unixctl={}", dir.join("ctl").display()))
            .args(files)
            .stderr(Stdio::null());
        (Stock(command.spawn().unwrap()), ovsdb::remote::Remote::Unix(socket))
    }

    fn connect(&mut self, remote: &ovsdb::remote::Remote) -> ovsdb::client::Client {
        loop {
            match ovsdb::client::Client::connect(remote, None, None) {
                Ok(client) => return client,
                Err(_) => {
                    let ended = self.0.try_wait().unwrap();
                    assert!(ended.is_none(), "the stock server refuses our file");
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our client and replica against the stock server.
#[test]
fn our_client_follows_the_stock_server() {
    use ovsdb::client::{Idl, transaction_error};
    use serde_json::json;

    let dir = TempDir::new("stockserver");
    let file = dir.join("conf.db");
    drop(Log::create(&file, DbSchema::open_vswitch()).unwrap());
    let (mut server, remote) = Stock::start(&dir, &[&file]);
    let mut idl = Idl::new(server.connect(&remote), "Open_vSwitch", None).unwrap();
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
}

/// The stock daemon, with a simulated datapath, runs on our database: it takes its lock, follows
/// the configuration and writes back.
#[test]
fn the_stock_daemon_runs_on_our_database() {
    let dir = TempDir::new("vswitchd");
    let serving = Serving::open_vswitch(&dir.join("db.sock"), &dir.join("conf.db"));
    serving.vsctl(&["init"]);
    let remote = format!("unix:{}", serving.socket.display());
    let child = tool("ovs-vswitchd")
        .env("OVS_RUNDIR", &dir.0)
        .args([&remote, "--enable-dummy=override", "--disable-system", "--disable-system-route"])
        .arg(format!("--unixctl={}", dir.join("vswitchd.ctl").display()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _daemon = Stock(child);
    // Without --no-wait the tool returns when the daemon has done what it asks for.
    let db = format!("--db={remote}");
    let vsctl = |args: &[&str]| stdout(tool("ovs-vsctl").args(["--timeout=30", &db]).args(args));
    vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy"]);
    vsctl(&["add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dummy"]);
    assert_eq!(vsctl(&["get", "interface", "p1", "ofport"]), "1\n");
    assert_eq!(vsctl(&["get", "bridge", "br0", "datapath_id"]).len(), 19);
    vsctl(&["del-br", "br0"]);
    serving.with(|server, _| {
        let data = server.db("Open_vSwitch").unwrap().data();
        assert!(data.table("Interface").unwrap().is_empty());
        let root = data.table("Open_vSwitch").unwrap().first().unwrap();
        assert_eq!(root.integer("cur_cfg"), root.integer("next_cfg"));
    });
}

/// Rows without their UUIDs.
fn json_rows(rows: Vec<serde_json::Value>) -> serde_json::Value {
    if rows.is_empty() { serde_json::json!({}) } else { serde_json::json!({ "<rows>": rows }) }
}

/// UUIDs differ between servers, and rows of a select come in any order.
fn scrub(json: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match json {
        Value::String(text) => {
            let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(c) = rest.chars().next() {
                let run = rest.find(|c| !is_hex(c)).unwrap_or(rest.len());
                if run == 36 {
                    out.push_str("UUID");
                    rest = &rest[36..];
                } else {
                    let n = run.max(c.len_utf8());
                    out.push_str(&rest[..n]);
                    rest = &rest[n..];
                }
            }
            // How long a wait took, and which of two rows is the first, is chance.
            if out.starts_with("\"wait\" timed out after") {
                out.retain(|c| !c.is_ascii_digit());
            }
            let mut sentences: Vec<&str> =
                out.split(".  ").map(|s| s.trim_end_matches('.')).collect();
            sentences[1..]
                .sort_by_key(|s| s.trim_start_matches("First").trim_start_matches("Second"));
            Value::from(sentences.join(". ").replace("Second row", "First row"))
        }
        Value::Array(items) => items.iter().map(scrub).collect(),
        Value::Object(map) => {
            let mut map: serde_json::Map<String, Value> =
                map.iter().map(|(k, v)| (k.clone(), scrub(v))).collect();
            if map.keys().all(|k| k.parse::<ovsdb::Uuid>().is_ok()) {
                let mut rows: Vec<Value> = map.into_iter().map(|(_, row)| row).collect();
                rows.sort_by_key(Value::to_string);
                return json_rows(rows);
            }
            if let Some(Value::Array(rows)) = map.get_mut("rows") {
                rows.sort_by_key(Value::to_string);
            }
            Value::Object(map)
        }
        other => other.clone(),
    }
}

/// Every line of `tests/conversation.txt` is a transaction on database T, or after `call` another
/// request; both servers must answer the same, errors with their wording included.
#[test]
fn both_servers_answer_the_same() {
    use ovsdb::client::ClientError;
    use serde_json::Value;

    let dir = TempDir::new("same");
    let schema = || DbSchema::parse_str(include_str!("conversation.ovsschema")).unwrap();
    let (ours, stock) = (dir.join("ours.db"), dir.join("stock.db"));
    drop(Log::create(&stock, schema()).unwrap());
    let serving = Serving::new(&dir.join("ours.sock"), vec![(schema(), &ours)]);
    let (mut server, remote) = Stock::start(&dir, &[&stock]);
    let mut theirs = server.connect(&remote);
    let ours = ovsdb::remote::Remote::Unix(serving.socket.clone());
    let mut ours = ovsdb::client::Client::connect(&ours, None, None).unwrap();
    let soon = Some(std::time::Instant::now() + std::time::Duration::from_secs(60));
    ours.set_deadline(soon);
    theirs.set_deadline(soon);
    let mut differences = Vec::new();
    let mut n = 0;
    for line in include_str!("conversation.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (method, params) = match line.strip_prefix("call ") {
            Some(call) => {
                let (method, params) = call.split_once(' ').unwrap();
                (method, params.to_owned())
            }
            None => ("transact", format!("[\"T\",{line}]")),
        };
        let params: Vec<Value> = serde_json::from_str(&params).unwrap();
        let ask = |client: &mut ovsdb::client::Client| {
            let answer = match client.call(method, params.clone()) {
                Ok(result) => result,
                Err(ClientError::Remote(error)) => error,
                Err(e) => panic!("{line}: {e}"),
            };
            // What came before the reply came because of it.
            let mut all = Vec::new();
            while let Some(n) = client.take_notification() {
                all.push(scrub(&serde_json::json!([n.method, n.params])));
            }
            // Monitors are served in no order.
            all.sort_by_key(Value::to_string);
            all.push(scrub(&answer));
            Value::from(all)
        };
        let (a, b) = (ask(&mut ours), ask(&mut theirs));
        n += 1;
        if a != b {
            differences.push(format!("{line}\n  ours   {a}\n  stock  {b}\n"));
        }
    }
    assert!(n > 100, "the conversation is long");
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.concat());
}
