//! What a transaction costs, with few rows and with many: prints microseconds per transaction.
//!
//! `cargo run --release -p sekisho-ovsdb --example ovsdb_bench [ROWS]`

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use ovsdb::server::{Now, Server};
use ovsdb::{Database, DbSchema, Log, UuidGen};
use serde_json::{Value, json};

const NOW: Now = Now { monotonic: base::Instant::ZERO, wall_ms: 0 };

fn add_port(n: usize) -> [Value; 3] {
    let name = format!("port{n}");
    [
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": name}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
               "row": {"name": name, "interfaces": ["named-uuid", "i"]}}),
        json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]],
               "mutations": [["ports", "insert", ["named-uuid", "p"]]]}),
    ]
}

fn measure(server: &mut Server, what: &str, n: usize, mut ops: impl FnMut(usize) -> Vec<Value>) {
    let start = Instant::now();
    for i in 0..n {
        let results = server.transact("Open_vSwitch", &ops(i), NOW);
        assert_eq!(ovsdb::client::transaction_error(&results), None);
    }
    let rows = server.db("Open_vSwitch").unwrap().data().n_rows();
    let each = start.elapsed().as_micros() as f64 / n as f64;
    println!("{what}: {each:.1} us (with {rows} rows at the end)");
}

fn main() {
    let n: usize = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(10_000);
    let file = std::env::temp_dir().join(format!("ovsdb-bench-{}.db", std::process::id()));
    let opened = Log::create(&file, DbSchema::open_vswitch()).unwrap();
    let mut server = Server::new(UuidGen::from_seed(1));
    server.add_db(Database::from_data(opened.data), Some(opened.log)).unwrap();
    let session = server.open_session();
    let monitor = json!({"id": 0, "method": "monitor_cond", "params": ["Open_vSwitch", "m",
        {"Interface": {}, "Port": {}, "Bridge": {}}]});
    server.input(session, NOW, monitor.to_string().as_bytes());
    let first = json!({"op": "insert", "table": "Open_vSwitch",
                       "row": {"bridges": ["named-uuid", "b"]}});
    let bridge = json!({"op": "insert", "table": "Bridge", "uuid-name": "b",
                        "row": {"name": "br0"}});
    server.transact("Open_vSwitch", &[first, bridge], NOW);
    measure(&mut server, "add a port, first 100", 100, |i| add_port(i).to_vec());
    server.output(session);
    measure(&mut server, "add a port, all", n - 100, |i| add_port(i + 100).to_vec());
    server.output(session);
    measure(&mut server, "add a port, 100 more", 100, |i| add_port(n + i).to_vec());
    server.output(session);
    measure(&mut server, "set a column by name", 1000, |i| {
        vec![
            json!({"op": "update", "table": "Interface", "where": [["name", "==", format!("port{i}")]],
                    "row": {"ofport": i}}),
        ]
    });
    server.output(session);
    let _ = std::fs::remove_file(&file);
}
