use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::log::Log;
use crate::replica::Replica;
use crate::server::{Now, Server};

/// Roots own kids, kids own kids; everything that can refer weakly does.
const FAMILY: &str = r#"{"name":"Family","version":"1.0.0","tables":{
 "Root":{"isRoot":true,"maxRows":4,"indexes":[["name"],["n","other"]],"columns":{
  "name":{"type":"string","mutable":false},
  "n":{"type":{"key":{"type":"integer","minInteger":0,"maxInteger":9}}},
  "other":{"type":"string"},
  "eph":{"type":"string","ephemeral":true},
  "opt":{"type":{"key":"integer","min":0,"max":1}},
  "set":{"type":{"key":"integer","min":0,"max":4}},
  "map":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
  "kids":{"type":{"key":{"type":"uuid","refTable":"Kid"},"min":0,"max":"unlimited"}},
  "pals":{"type":{"key":{"type":"uuid","refTable":"Kid","refType":"weak"},"min":0,"max":"unlimited"}},
  "mixed":{"type":{"key":{"type":"uuid","refTable":"Kid"},
                   "value":{"type":"uuid","refTable":"Kid","refType":"weak"},
                   "min":0,"max":"unlimited"}}}},
 "Kid":{"columns":{
  "v":{"type":"integer"},
  "next":{"type":{"key":{"type":"uuid","refTable":"Kid"},"min":0,"max":1}},
  "home":{"type":{"key":{"type":"uuid","refTable":"Root","refType":"weak"},"min":0,"max":1}}}}}}"#;

/// What incremental bookkeeping says must be what counting anew says, and no reference dangles.
fn assert_consistent(db: &Database) {
    let again = Database::from_data(db.data.clone());
    assert_eq!(db.strong, again.strong);
    assert_eq!(db.weak, again.weak);
    assert_eq!(db.indexes, again.indexes);
    for (table, refs) in db.strong.iter().enumerate() {
        for uuid in refs.keys() {
            assert!(db.data.row(table, *uuid).is_some(), "dangling strong reference");
        }
    }
    for (table, refs) in db.weak.iter().enumerate() {
        for uuid in refs.keys() {
            assert!(db.data.row(table, *uuid).is_some(), "dangling weak reference");
        }
    }
    for (table, schema) in db.schema().tables.iter().enumerate() {
        let n = db.data.rows(table).len();
        assert!(schema.max_rows.is_none_or(|max| n as u64 <= max));
        for index in &db.indexes[table] {
            assert_eq!(index.len(), n, "an index has every row once");
        }
        if !schema.is_root {
            for uuid in db.data.rows(table).keys() {
                assert!(db.strong[table].contains_key(uuid), "an orphan was left");
            }
        }
    }
}

/// Rows without versions and ephemeral columns: what must survive a restart.
fn persistent(data: &Data) -> Value {
    let tables = data.tables().map(|table| {
        let rows: Vec<Value> = table
            .iter()
            .map(|row| {
                let columns = table.schema().columns.iter().filter(|c| !c.ephemeral);
                columns.map(|c| (c.name.clone(), row.get(&c.name).unwrap().to_json())).collect()
            })
            .collect();
        rows
    });
    json!(tables.collect::<Vec<_>>())
}

/// Rows without versions: what a replica must have.
fn visible(data: &Data) -> Value {
    let tables = data.tables().map(|table| {
        let rows: Vec<Value> = table
            .iter()
            .map(|row| {
                let columns = table.schema().columns.iter().filter(|c| c.name != "_version");
                columns.map(|c| (c.name.clone(), row.get(&c.name).unwrap().to_json())).collect()
            })
            .collect();
        rows
    });
    json!(tables.collect::<Vec<_>>())
}

/// The n-th row of a table, as a JSON reference; an unknown UUID if there is none.
fn nth(data: &Data, table: &str, n: u8) -> Value {
    let rows: Vec<Uuid> = data.table(table).unwrap().iter().map(|r| r.uuid()).collect();
    let uuid = rows.get(usize::from(n) % (rows.len() + 1)).copied().unwrap_or(Uuid(1));
    json!(["uuid", uuid.to_string()])
}

/// Makes operations of three numbers.
fn operations(data: &Data, (kind, a, b): (u8, u8, u8)) -> Vec<Value> {
    if kind % 3 > 0 {
        return vec![operation(data, (kind / 3, a, b))];
    }
    // A kid that has a parent from the start, which chance alone seldom brings about.
    let name = format!("c{a}_{b}_{kind}");
    let home = nth(data, "Root", a);
    let pals = nth(data, "Kid", b);
    vec![
        json!({"op": "insert", "table": "Kid", "uuid-name": name, "row": {"v": b, "home": home}}),
        json!({"op": "mutate", "table": "Root", "where": [["n", ">=", a % 4]], "mutations": [
            ["kids", "insert", ["named-uuid", name]], ["pals", "insert", pals],
            ["mixed", "insert", ["map", [[["named-uuid", name], pals]]]]]}),
    ]
}

/// Makes an operation of three numbers.
fn operation(data: &Data, (kind, a, b): (u8, u8, u8)) -> Value {
    let (root, kid) = (|n| nth(data, "Root", n), |n| nth(data, "Kid", n));
    let at = |uuid: Value| json!([["_uuid", "==", uuid]]);
    let update = |table: &str, uuid: Value, row: Value| json!({"op": "update", "table": table, "where": at(uuid), "row": row});
    let mutate = |uuid: Value, column: &str, mutator: &str, arg: Value| {
        json!({"op": "mutate", "table": "Root", "where": at(uuid),
               "mutations": [[column, mutator, arg]]})
    };
    match kind % 19 {
        0 | 1 => json!({"op": "insert", "table": "Root", "row": {
            "name": format!("r{}", a % 6), "n": b % 12, "other": format!("o{}", a % 6)}}),
        2 => json!({"op": "insert", "table": "Kid", "uuid-name": format!("k{}", a % 3),
                    "row": {"v": b, "home": root(b)}}),
        3 => mutate(root(b), "kids", "insert", json!(["named-uuid", format!("k{}", a % 3)])),
        4 => mutate(root(b), "pals", "insert", kid(a)),
        5 => mutate(root(b), "kids", "insert", kid(a)),
        6 => mutate(root(b), "kids", "delete", kid(a)),
        7 => update("Kid", kid(a), json!({"next": kid(b)})),
        8 => update("Kid", kid(a), json!({"next": ["set", []], "v": b})),
        9 => json!({"op": "delete", "table": "Kid", "where": at(kid(a))}),
        10 => json!({"op": "delete", "table": "Root", "where": at(root(a))}),
        11 => update("Root", root(a), json!({"eph": format!("e{b}"), "opt": b % 3})),
        12 => mutate(root(a), "set", "insert", json!(["set", [b % 8, b % 8 + 1]])),
        13 => mutate(root(a), "map", "insert", json!(["map", [[format!("k{}", b % 4), "x"]]])),
        14 => update("Root", root(a), json!({"map": ["map", [[format!("k{}", b % 4), "y"]]]})),
        15 => mutate(root(a), "map", "delete", json!(["set", [format!("k{}", b % 4)]])),
        16 => update("Root", root(a), json!({"mixed": ["map", [[kid(a), kid(b)]]]})),
        17 => mutate(root(a), "n", "+=", json!(b % 3)),
        _ => json!({"op": "wait", "table": "Root", "where": [["n", ">", b % 5]], "until": "!=",
                    "columns": ["n"], "rows": [{"n": a % 10}], "timeout": 0}),
    }
}

fn family() -> DbSchema {
    DbSchema::parse_str(FAMILY).unwrap()
}

/// What a session sent, as notifications; the first reply is given to the replica.
struct Follower {
    session: crate::server::SessionId,
    replica: Replica,
    method: &'static str,
}

fn messages(
    server: &mut Server,
    session: crate::server::SessionId,
) -> Vec<crate::jsonrpc::Message> {
    let mut framer = crate::jsonrpc::Framer::default();
    framer.push(&server.output(session));
    std::iter::from_fn(|| framer.next_value().unwrap())
        .map(|json| crate::jsonrpc::Message::from_json(json).unwrap())
        .collect()
}

const NOW: Now = Now { monotonic: base::Instant::ZERO, wall_ms: 1 };

impl Follower {
    fn new(server: &mut Server, method: &'static str) -> Follower {
        let session = server.open_session();
        let mut replica = Replica::new(Arc::new(family()));
        let params = replica.monitor_params(method);
        let request =
            crate::jsonrpc::Message::Request { id: json!(1), method: method.into(), params };
        server.input(session, NOW, &request.into_bytes());
        match messages(server, session).as_slice() {
            [crate::jsonrpc::Message::Reply { result, .. }] => {
                replica.load(method, result).unwrap();
            }
            other => panic!("{other:?}"),
        }
        Follower { session, replica, method }
    }

    fn follow(&mut self, server: &mut Server) {
        for message in messages(server, self.session) {
            let crate::jsonrpc::Message::Notification { method, params } = message else {
                panic!("{message:?}");
            };
            assert!(self.replica.update(&method, &params).unwrap().is_some());
        }
        let db = server.db("Family").unwrap();
        assert_eq!(visible(self.replica.data()), visible(db.data()), "{}", self.method);
    }
}

/// Roots with a small or an odd `n`, which come and go as it changes, and then other ones.
const CONDITIONS: [&str; 2] = [
    r#"[["n","<",3],["n","==",5],["set","includes",4]]"#,
    r#"[["n",">",1],["opt","==",["set",[]]]]"#,
];

/// A client of `monitor_cond` with a condition: its rows are those that satisfy it.
struct Conditional {
    session: crate::server::SessionId,
    replica: Replica,
    condition: Value,
}

impl Conditional {
    fn new(server: &mut Server) -> Conditional {
        let session = server.open_session();
        let mut replica = Replica::new(Arc::new(family()));
        let condition: Value = serde_json::from_str(CONDITIONS[0]).unwrap();
        let mut params = replica.monitor_params("monitor_cond");
        params[2]["Root"]["where"] = condition.clone();
        let request = json!({"id": 1, "method": "monitor_cond", "params": params});
        server.input(session, NOW, request.to_string().as_bytes());
        match messages(server, session).as_slice() {
            [crate::jsonrpc::Message::Reply { result, .. }] => {
                replica.load("monitor_cond", result).unwrap();
            }
            other => panic!("{other:?}"),
        }
        Conditional { session, replica, condition }
    }

    fn change(&mut self, server: &mut Server) {
        self.condition = serde_json::from_str(CONDITIONS[1]).unwrap();
        let id = json!(["monid", "Family"]);
        let request = json!({"id": 2, "method": "monitor_cond_change",
            "params": [id, id, {"Root": [{"where": self.condition}]}]});
        server.input(self.session, NOW, request.to_string().as_bytes());
    }

    fn follow(&mut self, server: &mut Server) {
        for message in messages(server, self.session) {
            if let crate::jsonrpc::Message::Notification { method, params } = message {
                assert!(self.replica.update(&method, &params).unwrap().is_some());
            }
        }
        let db = server.db("Family").unwrap();
        let schema = db.schema().table("Root").unwrap();
        let condition =
            Condition::parse_json(&self.condition, schema, &mut crate::types::NoSymbols).unwrap();
        let mut expected = db.data().clone();
        let root = db.schema().table_index("Root").unwrap();
        for (&uuid, row) in db.data().rows(root) {
            if !condition.matches_any(row) {
                expected.put(root, uuid, None);
            }
        }
        assert_eq!(visible(self.replica.data()), visible(&expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// After any transactions: references, indexes and orphans are in order, a failed transaction
    /// changed nothing, replicas of every dialect and a watch agree with the server, and the file,
    /// compacted or not, gives the same rows again.
    #[test]
    fn random_transactions_keep_everything_in_step(
        transactions in prop::collection::vec(
            prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..5), 1..40),
        late in 0usize..40,
        compact in 0usize..40,
    ) {
        let dir = std::env::temp_dir()
            .join(format!("ovsdb-family-{}-{:?}", std::process::id(), std::thread::current().id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("family.db");
        let opened = Log::create(&file, family()).unwrap();
        let mut server = Server::new(UuidGen::from_seed(1));
        server.add_db(Database::from_data(opened.data), Some(opened.log)).unwrap();
        let mut followers: Vec<Follower> =
            crate::replica::METHODS.map(|m| Follower::new(&mut server, m)).into();
        let mut conditional = Conditional::new(&mut server);
        let watch = server.watch("Family").unwrap();
        let mut watched = Data::new(Arc::new(family()));
        for (i, transaction) in transactions.iter().enumerate() {
            let before = server.db("Family").unwrap().data().clone();
            let ops: Vec<Value> = transaction.iter().flat_map(|&op| operations(&before, op)).collect();
            let results = server.transact("Family", &ops, NOW);
            let db = server.db("Family").unwrap();
            if crate::client::transaction_error(&results).is_some() {
                prop_assert_eq!(visible(&before), visible(db.data()));
            }
            assert_consistent(db);
            if i == late {
                followers.extend(crate::replica::METHODS.map(|m| Follower::new(&mut server, m)));
            }
            conditional.follow(&mut server);
            if i == late {
                conditional.change(&mut server);
                conditional.follow(&mut server);
            }
            if i == compact {
                server.compact("Family", 5).unwrap();
            }
            followers.iter_mut().for_each(|f| f.follow(&mut server));
            for change in server.take_changes(watch) {
                let old = watched.put(change.table, change.uuid, change.new);
                prop_assert_eq!(old, change.old);
            }
            let db = server.db("Family").unwrap();
            prop_assert_eq!(visible(&watched), visible(db.data()));
        }
        let data = server.db("Family").unwrap().data().clone();
        drop(server);
        let opened = Log::open(&file).unwrap();
        prop_assert_eq!(opened.recovered, None);
        prop_assert_eq!(persistent(&opened.data), persistent(&data));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Every length of the file opens with exactly the transactions that are whole in it, can be
/// written on, and has lost nothing then.
#[test]
fn a_torn_file_opens_with_the_acknowledged_prefix() {
    let dir = std::env::temp_dir().join(format!("ovsdb-torn-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("whole.db");
    let mut opened = Log::create(&file, family()).unwrap();
    let mut db = Database::from_data(opened.data);
    let mut uuids = UuidGen::from_seed(3);
    let mut acknowledged = vec![(opened.log.len() as usize, persistent(db.data()))];
    let insert = |n: i64| {
        [
            json!({"op": "insert", "table": "Root", "row": {
                "name": format!("r{n}"), "n": n, "other": "é", "kids": ["named-uuid", "k"]}}),
            json!({"op": "insert", "table": "Kid", "uuid-name": "k", "row": {"v": n}}),
        ]
    };
    for n in 0..3 {
        let (results, commit) = db.transact(&insert(n), &mut uuids);
        assert_eq!(crate::client::transaction_error(&results), None);
        opened.log.append(db.schema(), &commit, 9).unwrap();
        acknowledged.push((opened.log.len() as usize, persistent(db.data())));
    }
    drop(opened.log);
    let bytes = std::fs::read(&file).unwrap();
    let torn = dir.join("torn.db");
    for cut in 0..=bytes.len() {
        std::fs::write(&torn, &bytes[..cut]).unwrap();
        let result = Log::open(&torn);
        let Some((good, want)) = acknowledged.iter().rev().find(|(len, _)| *len <= cut) else {
            assert!(result.is_err(), "there is no schema in {cut} bytes");
            continue;
        };
        let mut opened = result.unwrap();
        assert_eq!(persistent(&opened.data), *want, "cut at {cut}");
        assert_eq!(opened.recovered.is_some(), *good != cut, "cut at {cut}");
        // Not every byte needs a second life: it costs an open and a write each.
        if cut % 7 == 0 {
            let mut db = Database::from_data(opened.data);
            let (_, commit) = db.transact(&insert(3), &mut uuids);
            opened.log.append(db.schema(), &commit, 9).unwrap();
            drop(opened.log);
            let again = Log::open(&torn).unwrap();
            assert_eq!(again.recovered, None);
            assert_eq!(persistent(&again.data), persistent(db.data()));
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Damage in the middle keeps what is behind it in another file, and two servers do not share one.
#[test]
fn damage_and_locks() {
    let dir = std::env::temp_dir().join(format!("ovsdb-damage-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("conf.db");
    let mut opened = Log::create(&file, family()).unwrap();
    assert!(Log::open(&file).is_err(), "the file is locked");
    let mut db = Database::from_data(opened.data);
    let first = opened.log.len() as usize;
    for n in 0..2 {
        let op = json!({"op": "insert", "table": "Root",
                        "row": {"name": format!("r{n}"), "other": format!("{n}")}});
        let (_, commit) = db.transact(&[op], &mut UuidGen::from_seed(n));
        opened.log.append(db.schema(), &commit, 9).unwrap();
    }
    drop(opened.log);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[first + 70] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let opened = Log::open(&file).unwrap();
    assert_eq!(opened.data.n_rows(), 0);
    assert!(opened.recovered.unwrap().contains("bad checksum"));
    assert_eq!(std::fs::read(dir.join("conf.db.damaged")).unwrap(), bytes[first..]);
    assert_eq!(std::fs::read(&file).unwrap(), bytes[..first]);
    drop(opened.log);
    std::fs::write(&file, b"OVSDB CLUSTER 1 x\n").unwrap();
    assert!(Log::open(&file).unwrap_err().to_string().contains("clustered"));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A file of another version is rewritten under ours, and the old one kept.
#[test]
fn a_file_of_another_version_is_converted() {
    let dir = std::env::temp_dir().join(format!("ovsdb-convert-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("conf.db");
    let other = |version: &str, columns: &str| {
        let json = format!(
            r#"{{"name":"D","version":"{version}","cksum":"77 1","tables":{{"T":{{"columns":{columns}}}}}}}"#
        );
        DbSchema::parse_str(&json).unwrap()
    };
    let old = r#"{"kept":{"type":"integer"},"dropped":{"type":"string"}}"#;
    let new = r#"{"kept":{"type":{"key":"integer","min":0,"max":1}},"added":{"type":"string"}}"#;
    let mut opened = Log::create(&file, other("1.0.0", old)).unwrap();
    let mut db = Database::from_data(opened.data);
    let op = json!({"op": "insert", "table": "T", "row": {"kept": 5, "dropped": "x"}});
    let (_, commit) = db.transact(&[op], &mut UuidGen::from_seed(1));
    opened.log.append(db.schema(), &commit, 1).unwrap();
    drop(opened.log);
    let before = std::fs::read(&file).unwrap();
    let mut opened = Log::open(&file).unwrap();
    assert_eq!(opened.convert(other("3.0.0", old), 2).unwrap(), None, "the tables are the same");
    let narrow = r#"{"kept":{"type":{"key":{"type":"integer","maxInteger":4}}}}"#;
    assert!(opened.convert(other("2.0.0", narrow), 2).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let backup = opened.convert(other("2.0.0", new), 2).unwrap().unwrap();
    assert!(backup.ends_with("conf.db.backup1.0.0-77"));
    assert_eq!(std::fs::read(&backup).unwrap(), before);
    drop(opened);
    let opened = Log::open(&file).unwrap();
    assert_eq!(opened.data.schema().version, "2.0.0");
    let row = opened.data.table("T").unwrap().first().unwrap();
    assert_eq!((row.integer("kept"), row.str("added")), (Some(5), Some("")));
    assert!(row.get("dropped").is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}
