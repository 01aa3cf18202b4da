use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Now {
    Now { monotonic: Instant::from_millis(ms), wall_ms: ms }
}

fn server() -> Server {
    // Reading the schema is most of the work of a case.
    static EMPTY: std::sync::OnceLock<Database> = std::sync::OnceLock::new();
    let empty = EMPTY.get_or_init(|| Database::new(DbSchema::open_vswitch()));
    let mut server = Server::new(UuidGen::from_seed(9));
    server.add_db(empty.clone(), None).unwrap();
    server
}

/// Sends a request and returns everything the session has got since.
fn ask(server: &mut Server, id: SessionId, now: Now, method: &str, params: Value) -> Vec<Value> {
    let message = json!({"id": method, "method": method, "params": params});
    server.input(id, now, message.to_string().as_bytes());
    received(server, id)
}

fn received(server: &mut Server, id: SessionId) -> Vec<Value> {
    let mut framer = Framer::default();
    framer.push(&server.output(id));
    std::iter::from_fn(|| framer.next_value().unwrap()).collect()
}

fn insert(name: &str) -> Value {
    json!(["Open_vSwitch", {"op": "insert", "table": "SSL", "uuid-name": "s", "row": {
        "private_key": name, "certificate": "c", "ca_cert": "a"}},
        {"op": "insert", "table": "Open_vSwitch", "row": {"ssl": ["named-uuid", "s"]}}])
}

fn wait(timeout: Option<u64>) -> Value {
    let mut op = json!({"op": "wait", "table": "SSL", "where": [], "columns": ["private_key"],
        "until": "==", "rows": [{"private_key": "k"}]});
    if let Some(ms) = timeout {
        op["timeout"] = json!(ms);
    }
    json!(["Open_vSwitch", op])
}

#[test]
fn a_wait_ends_by_a_change_a_timeout_or_cancel() {
    let mut server = server();
    let (a, b) = (server.open_session(), server.open_session());
    assert_eq!(ask(&mut server, a, at(0), "transact", wait(Some(50))), [] as [Value; 0]);
    assert_eq!(server.next_timeout(), Some(Instant::from_millis(50)));
    server.poll(at(49));
    assert!(received(&mut server, a).is_empty());
    server.poll(at(50));
    let timed_out = &received(&mut server, a)[0]["result"][0];
    assert_eq!(timed_out["error"], json!("timed out"));
    assert_eq!(server.next_timeout(), None);
    // Without a timeout it waits for ever, unless it is cancelled.
    assert!(ask(&mut server, a, at(60), "transact", wait(None)).is_empty());
    server.input(a, at(60), br#"{"id":null,"method":"cancel","params":["transact"]}"#);
    assert_eq!(received(&mut server, a)[0]["error"], json!("canceled"));
    // The commit of another session ends it.
    assert!(ask(&mut server, a, at(70), "transact", wait(None)).is_empty());
    assert_eq!(ask(&mut server, b, at(71), "transact", insert("k")).len(), 1);
    assert_eq!(server.take_ready(), [a, b]);
    assert_eq!(received(&mut server, a)[0]["result"], json!([{}]));
    // One that belongs to a closed session is forgotten.
    assert!(
        ask(
            &mut server,
            a,
            at(80),
            "transact",
            json!(["Open_vSwitch", {"op": "wait",
        "table": "SSL", "where": [], "columns": [], "until": "==", "rows": []}])
        )
        .is_empty()
    );
    server.close_session(a);
    server.poll(at(1000));
    assert_eq!(server.n_sessions(), 1);
}

#[test]
fn locks_pass_from_session_to_session() {
    let mut server = server();
    let (a, b) = (server.open_session(), server.open_session());
    let now = at(0);
    let locked = |reply: Vec<Value>| reply[0]["result"]["locked"].clone();
    assert_eq!(locked(ask(&mut server, a, now, "lock", json!(["l"]))), json!(true));
    assert_eq!(locked(ask(&mut server, b, now, "lock", json!(["l"]))), json!(false));
    let assert = json!(["Open_vSwitch", {"op": "assert", "lock": "l"}]);
    assert_eq!(ask(&mut server, a, now, "transact", assert.clone())[0]["result"], json!([{}]));
    let refused = ask(&mut server, b, now, "transact", assert);
    assert_eq!(refused[0]["result"][0]["error"], json!("not owner"));
    server.close_session(a);
    let told = received(&mut server, b);
    assert_eq!((&told[0]["method"], &told[0]["params"]), (&json!("locked"), &json!(["l"])));
    let c = server.open_session();
    assert_eq!(locked(ask(&mut server, c, now, "steal", json!(["l"]))), json!(true));
    assert_eq!(received(&mut server, b)[0]["method"], json!("stolen"));
    assert_eq!(ask(&mut server, c, now, "unlock", json!(["l"]))[0]["result"], json!({}));
    assert_eq!(received(&mut server, b)[0]["method"], json!("locked"));
}

#[test]
fn a_bad_stream_ends_its_session_only() {
    let mut server = server();
    let (a, b) = (server.open_session(), server.open_session());
    server.input(a, at(0), b"{\"id\":0,\"method\":\"echo\",\"params\":[]}nonsense");
    assert_eq!(received(&mut server, a).len(), 1);
    assert!(server.is_closed(a).unwrap().contains("malformed JSON"));
    server.input(a, at(0), b"{\"id\":0,\"method\":\"echo\",\"params\":[]}");
    assert!(received(&mut server, a).is_empty());
    assert_eq!(ask(&mut server, b, at(0), "echo", json!([1]))[0]["result"], json!([1]));
    assert!(server.is_closed(b).is_none());
}

/// A disk that fails fails the transaction, which then did not happen.
#[test]
fn a_failing_disk_fails_the_transaction() {
    let dir = std::env::temp_dir().join(format!("ovsdb-full-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let mut opened = Log::create(&dir.join("db"), DbSchema::open_vswitch()).unwrap();
    opened.log.use_file_for_test(std::fs::File::open(dir.join("db")).unwrap());
    let mut server = Server::new(UuidGen::from_seed(9));
    server.add_db(Database::from_data(opened.data), Some(opened.log)).unwrap();
    let Value::Array(mut ops) = insert("k") else { panic!() };
    ops.remove(0);
    let results = server.transact("Open_vSwitch", &ops, at(0));
    let (at_op, error) = crate::client::transaction_error(&results).unwrap();
    assert_eq!((at_op, &*error.tag), (2, "I/O error"));
    assert_eq!(server.db("Open_vSwitch").unwrap().data().n_rows(), 0);
    assert_eq!(server.take_trouble().len(), 1);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The log is rewritten when it has grown much, and never loses the contents.
#[test]
fn a_long_log_is_compacted() {
    let dir = std::env::temp_dir().join(format!("ovsdb-compact-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("db");
    let opened = Log::create(&file, DbSchema::open_vswitch()).unwrap();
    let mut server = Server::new(UuidGen::from_seed(9));
    server.add_db(Database::from_data(opened.data), Some(opened.log)).unwrap();
    let row = json!({"op": "insert", "table": "Open_vSwitch", "row": {}});
    server.transact("Open_vSwitch", &[row], at(0));
    let (mut largest, mut compacted) = (0, false);
    for n in 0..40 {
        let big = format!("{n}").repeat(50_000);
        let op = json!({"op": "update", "table": "Open_vSwitch", "where": [],
                        "row": {"system_version": big}});
        server.transact("Open_vSwitch", &[op], at(0));
        let len = server.log("Open_vSwitch").unwrap().len();
        compacted |= len < largest;
        largest = largest.max(len);
    }
    assert!(compacted && largest < 3 << 20, "{largest}");
    drop(server);
    let opened = Log::open(&file).unwrap();
    let row = opened.data.table("Open_vSwitch").unwrap().first().unwrap();
    assert_eq!(row.str("system_version"), Some("39".repeat(50_000).as_str()));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Pieces of JSON-RPC that get past the framer more often than random bytes.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"id\":",
        "\"method\":",
        "\"params\":",
        "null",
        "1",
        "-1e99",
        "\"transact\"",
        "\"monitor\"",
        "\"monitor_cond\"",
        "\"Open_vSwitch\"",
        "\"m\"",
        "\"x\"",
        "{\"id\":1,\"method\":\"transact\",\"params\":[\"Open_vSwitch\",",
        "{\"op\":\"insert\",\"table\":\"Bridge\",\"row\":{\"name\":\"b\"}}",
        "{\"op\":\"select\",\"table\":\"Port\",\"where\":[[\"tag\",\"<\",",
        "{\"op\":\"mutate\",\"table\":\"Open_vSwitch\",\"where\":[],\"mutations\":[[\"next_cfg\",\"+=\",",
        "{\"id\":2,\"method\":\"monitor_cond\",\"params\":[\"Open_vSwitch\",\"m\",{\"Bridge\":[{",
        "\"where\":[",
        "\"columns\":[\"name\"]",
        "[\"named-uuid\",\"a\"]",
        "[\"set\",[",
        "[\"map\",[[",
        "}]}",
        "]}",
        "]]}]}",
        "\"\\u0000\"",
        "é",
        "{\"id\":3,\"method\":\"lock\",\"params\":[\"l\"]}",
        "{\"id\":null,\"method\":\"cancel\",\"params\":[1]}",
        "{\"id\":4,\"result\":{},\"error\":null}",
    ]);
    prop_oneof![
        9 => words.prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever a client sends: nothing panics, other sessions work, and how the bytes were cut
    /// into pieces does not matter.
    #[test]
    fn arbitrary_bytes_do_no_harm(
        pieces in prop::collection::vec(fragment(), 0..40),
        cut in 1usize..50,
    ) {
        let bytes = pieces.concat();
        let mut outputs = Vec::new();
        for step in [bytes.len().max(1), cut] {
            let mut server = server();
            let (a, b) = (server.open_session(), server.open_session());
            for chunk in bytes.chunks(step) {
                server.input(a, at(0), chunk);
            }
            outputs.push((server.output(a), server.is_closed(a).is_some()));
            let reply = ask(&mut server, b, at(1), "echo", json!(["there"]));
            prop_assert_eq!(&reply[0]["result"], &json!(["there"]));
            server.close_session(a);
        }
        prop_assert_eq!(&outputs[0], &outputs[1]);
    }
}
