//! The database: sessions on a server with the Open vSwitch schema, and files that may be anything.
//!
//! Input of [`sessions`]: records. Kind 0 is bytes for the session as they are; kind 1 a transaction of operations
//! made from the bytes, 2 the same by another session; 3 lets time pass. Input of [`log_files`]: the file.

use std::sync::OnceLock;

use base::Instant;
use ovsdb::jsonrpc::Framer;
use ovsdb::replica::Replica;
use ovsdb::server::{Now, SessionId};
use ovsdb::{Data, Database, DbSchema, Log, Server, UuidGen};
use serde_json::{Value, json};

use crate::input::Input;

const DB: &str = "Open_vSwitch";
const MONITOR: &str = "monitor_cond";

/// Tables that operations are about, with columns that are set.
const TABLES: [(&str, &[&str]); 5] = [
    ("Open_vSwitch", &["bridges", "external_ids", "next_cfg", "ssl"]),
    ("Bridge", &["name", "ports", "fail_mode", "mirrors", "other_config", "flow_tables"]),
    ("Port", &["name", "interfaces", "tag", "trunks", "vlan_mode", "other_config"]),
    ("Interface", &["name", "type", "options", "ofport_request", "mtu_request", "external_ids"]),
    ("Mirror", &["name", "output_port", "select_src_port", "select_all"]),
];

fn value(input: &mut Input<'_>, depth: u8) -> Value {
    match input.u8() % if depth == 0 { 9 } else { 12 } {
        0 => json!(input.u8()),
        1 => json!(-i64::from(input.u16())),
        2 => json!("a"),
        3 => json!("br0"),
        4 => json!(input.u8() & 1 == 1),
        5 => json!(["named-uuid", format!("n{}", input.below(4))]),
        6 => json!(["set", []]),
        7 => json!(["map", [["k", "v"]]]),
        8 => json!(f64::from(input.u16()) / 3.0),
        9 => {
            let n = input.below(4);
            json!(["set", (0..n).map(|_| value(input, depth - 1)).collect::<Vec<_>>()])
        }
        10 => {
            let n = input.below(3);
            let pairs = (0..n).map(|_| json!([value(input, depth - 1), value(input, depth - 1)]));
            json!(["map", pairs.collect::<Vec<_>>()])
        }
        _ => {
            let n = input.below(4);
            json!([
                "set",
                (0..n)
                    .map(|_| json!(["named-uuid", format!("n{}", input.below(4))]))
                    .collect::<Vec<_>>()
            ])
        }
    }
}

fn column(input: &mut Input<'_>, columns: &[&'static str]) -> &'static str {
    let extra = ["_uuid", "_version", "nosuch"];
    let n = input.below(columns.len() + 4);
    columns.get(n).or_else(|| extra.get(n - columns.len())).copied().unwrap_or("name")
}

fn row(input: &mut Input<'_>, columns: &[&'static str]) -> Value {
    let n = input.below(4);
    (0..n).map(|_| (column(input, columns).to_owned(), value(input, 2))).collect()
}

fn operation(input: &mut Input<'_>) -> Value {
    let (table, columns) = TABLES[input.below(TABLES.len())];
    let conditions = |input: &mut Input<'_>| -> Value {
        let functions = ["==", "!=", "<", ">=", "includes", "excludes"];
        let n = input.below(3);
        (0..n)
            .map(|_| json!([column(input, columns), functions[input.below(6)], value(input, 1)]))
            .collect()
    };
    match input.u8() % 10 {
        0..=2 => {
            json!({"op": "insert", "table": table, "uuid-name": format!("n{}", input.below(4)),
            "row": row(input, columns)})
        }
        3 => {
            json!({"op": "update", "table": table, "where": conditions(input), "row": row(input, columns)})
        }
        4 => {
            let mutators = ["+=", "-=", "*=", "/=", "%=", "insert", "delete"];
            let n = input.below(3);
            let list: Vec<_> = (0..n)
                .map(|_| json!([column(input, columns), mutators[input.below(7)], value(input, 1)]))
                .collect();
            json!({"op": "mutate", "table": table, "where": conditions(input), "mutations": list})
        }
        5 => json!({"op": "delete", "table": table, "where": conditions(input)}),
        6 => json!({"op": "select", "table": table, "where": conditions(input)}),
        7 => {
            json!({"op": "wait", "table": table, "timeout": input.below(3), "where": conditions(input),
            "columns": [column(input, columns)], "until": "==", "rows": [row(input, columns)]})
        }
        8 => json!({"op": "comment", "comment": "c"}),
        _ => json!({"op": "abort"}),
    }
}

/// A bridge with a port and an interface, as `ovs-vsctl add-br` makes them, named by the input.
fn add_bridge(input: &mut Input<'_>) -> Vec<Value> {
    let name = format!("br{}", input.below(4));
    vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "n0",
            "row": {"name": name, "type": "internal"}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "n1",
            "row": {"name": name, "interfaces": ["named-uuid", "n0"]}}),
        json!({"op": "insert", "table": "Bridge", "uuid-name": "n2",
            "row": {"name": name, "ports": ["named-uuid", "n1"]}}),
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["set", [["named-uuid", "n2"]]]]]}),
    ]
}

fn transaction(input: &mut Input<'_>) -> Value {
    let mut ops = vec![json!(DB)];
    if input.u8() & 1 == 1 {
        ops.extend(add_bridge(input));
    }
    while !input.is_empty() && ops.len() < 12 {
        ops.push(operation(input));
    }
    Value::Array(ops)
}

/// All rows, without versions, which replicas do not have.
fn rows(data: &Data) -> Value {
    data.tables()
        .map(|table| {
            let columns = || table.schema().columns.iter().filter(|c| c.name != "_version");
            let rows = table.iter().map(|row| {
                columns().filter_map(|c| row.get(&c.name)).map(|d| d.to_json()).collect::<Value>()
            });
            rows.collect::<Value>()
        })
        .collect()
}

fn received(server: &mut Server, id: SessionId) -> Vec<Value> {
    let mut framer = Framer::default();
    framer.push(&server.output(id));
    std::iter::from_fn(|| match framer.next_value() {
        Ok(v) => v,
        Err(e) => panic!("the server said what is no JSON: {e}"),
    })
    .collect()
}

fn empty() -> Database {
    static EMPTY: OnceLock<Database> = OnceLock::new();
    EMPTY
        .get_or_init(|| {
            let mut db = Database::new(DbSchema::open_vswitch());
            db.transact(
                &[json!({"op": "insert", "table": DB, "row": {}})],
                &mut UuidGen::from_seed(1),
            );
            db
        })
        .clone()
}

/// Plays the records; a replica that monitors everything must have what the server has.
pub fn sessions(data: &[u8]) {
    let mut server = Server::new(UuidGen::from_seed(9));
    let mut now = Now { monotonic: Instant::from_secs(1), wall_ms: 1000 };
    assert!(server.add_db(empty(), None).is_ok());
    let (a, b, watcher) = (server.open_session(), server.open_session(), server.open_session());
    let schema = empty().schema().clone();
    let mut replica = Replica::new(schema);
    let ask = json!({"id": "m", "method": MONITOR, "params": replica.monitor_params(MONITOR)});
    server.input(watcher, now, ask.to_string().as_bytes());
    for message in received(&mut server, watcher) {
        assert!(replica.load(MONITOR, &message["result"]).is_ok(), "{message}");
    }
    let mut input = Input::new(data);
    let mut steps = 0;
    while let Some((kind, mut body)) = input.record() {
        steps += 1;
        if steps > 40 {
            break;
        }
        match kind & 3 {
            0 => server.input(a, now, body.rest()),
            3 => {
                now.monotonic += std::time::Duration::from_millis(body.u16().into());
                server.poll(now);
            }
            kind => {
                let request =
                    json!({"id": steps, "method": "transact", "params": transaction(&mut body)});
                let who = if kind == 1 { a } else { b };
                server.input(who, now, request.to_string().as_bytes());
                assert!(kind == 1 || server.is_closed(b).is_none(), "{request}");
            }
        }
        for id in [a, b] {
            received(&mut server, id);
        }
        for message in received(&mut server, watcher) {
            let params = message["params"].as_array().cloned().unwrap_or_default();
            let method = message["method"].as_str().unwrap_or_default();
            let taken = replica.update(method, &params);
            assert!(matches!(taken, Ok(Some(_))), "{message}: {taken:?}");
        }
        let Some(db) = server.db(DB) else { panic!("the database is gone") };
        assert_eq!(rows(replica.data()), rows(db.data()), "after record {steps}");
    }
}

/// Opens a file with these bytes; what is found is found again.
pub fn log_files(data: &[u8]) {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = parent.join(format!("sekisho-fuzz-{}-{number}", std::process::id()));
    let path = dir.join("db");
    let made = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, data));
    assert!(made.is_ok(), "{made:?}");
    let first = Log::open(&path).map(|o| (rows(&o.data), o.recovered));
    let second = Log::open(&path).map(|o| (rows(&o.data), o.recovered));
    let _ = std::fs::remove_dir_all(&dir);
    match (first, second) {
        (Ok((rows, _)), Ok((again, recovered))) => {
            assert_eq!(rows, again);
            assert_eq!(recovered, None, "a damaged end is cut off once");
        }
        (Err(_), Err(_)) => {}
        (first, second) => panic!("opens once only: {first:?}, {second:?}"),
    }
}
