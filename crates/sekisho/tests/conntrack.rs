//! The `conntrack` tool against a daemon that is a thread of this test: it keeps a few connections and
//! answers the words of `switchd::ctl::conntrack`, or, playing a stock daemon, those of `dpctl`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use switchd::ctl::conntrack::{
    ConnEvent, ConnEventKind, ConnEvents, ConnFilter, ConnRecord, ConnStats, ConnTuple, L4,
};
use switchd::unixctl::{Decoder, MAX_REQUEST, Reply, Request, unknown_command};

type Answer = fn(&mut Vec<ConnRecord>, &Request) -> Result<String, String>;

/// A run directory with a daemon in it.
struct Daemon {
    dir: PathBuf,
}

impl Daemon {
    fn start(name: &str, answer: Answer) -> Self {
        let pid = std::process::id();
        let dir = std::env::temp_dir().join(format!("sekisho-conntrack-{pid}-{name}"));
        std::fs::create_dir_all(&dir).expect("a run directory");
        std::fs::write(dir.join("ovs-vswitchd.pid"), format!("{pid}\n")).expect("a pid file");
        let listener =
            UnixListener::bind(dir.join(format!("ovs-vswitchd.{pid}.ctl"))).expect("a socket");
        let table = Arc::new(Mutex::new(connections()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let table = Arc::clone(&table);
                std::thread::spawn(move || serve(stream, &table, answer));
            }
        });
        Self { dir }
    }

    /// Exit status, standard output, standard error.
    fn call(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sekisho"))
            .arg("conntrack")
            .args(args)
            .env("OVS_RUNDIR", &self.dir)
            .output()
            .expect("the tool runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn serve(mut stream: UnixStream, table: &Mutex<Vec<ConnRecord>>, answer: Answer) {
    let mut decoder = Decoder::new(MAX_REQUEST);
    let mut buf = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buf) {
        decoder.feed(&buf[..n]);
        while let Ok(Some(request)) = decoder.next_request() {
            let result = answer(&mut table.lock().expect("no panic elsewhere"), &request);
            if stream.write_all(&Reply::to(&request, result).encode()).is_err() {
                return;
            }
        }
    }
}

fn connections() -> Vec<ConnRecord> {
    let conn = |proto: u8, timeout, state: &str, both_ways, l4: (L4, L4)| {
        let (a, b) = ("192.168.0.1".parse().expect("a"), "192.168.0.2".parse().expect("b"));
        ConnRecord {
            proto,
            orig: ConnTuple { src: a, dst: b, l4: l4.0 },
            reply: ConnTuple { src: b, dst: a, l4: l4.1 },
            state: (!state.is_empty()).then(|| state.to_owned()),
            state_orig: None,
            state_reply: None,
            timeout,
            orig_counters: None,
            reply_counters: None,
            mark: 0,
            labels: 0,
            zone: 0,
            seen_reply: both_ways,
            assured: both_ways,
            id: u32::from(proto),
            helper: None,
        }
    };
    let ports =
        |sport, dport| (L4::Ports { sport, dport }, L4::Ports { sport: dport, dport: sport });
    let ping = |id| (L4::Icmp { ty: 8, code: 0, id }, L4::Icmp { ty: 0, code: 0, id });
    vec![
        conn(17, 28, "", false, ports(38118, 53)),
        conn(6, 105, "TIME_WAIT", true, ports(48265, 22)),
        conn(1, 4, "", false, ping(52997)),
    ]
}

const UDP: &str = "udp      17 28 src=192.168.0.1 dst=192.168.0.2 sport=38118 dport=53 [UNREPLIED] \
                   src=192.168.0.2 dst=192.168.0.1 sport=53 dport=38118 mark=0 use=1\n";
const TCP: &str = "tcp      6 105 TIME_WAIT src=192.168.0.1 dst=192.168.0.2 sport=48265 dport=22 \
                   src=192.168.0.2 dst=192.168.0.1 sport=22 dport=48265 [ASSURED] mark=0 use=1\n";
const ICMP: &str = "icmp     1 4 src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id=52997 [UNREPLIED] \
                    src=192.168.0.2 dst=192.168.0.1 type=0 code=0 id=52997 mark=0 use=1\n";

fn said(done: &str) -> String {
    format!("conntrack v1.4.7 (conntrack-tools): {done}.\n")
}

/// A daemon of ours. Its events: the first call is told number 7; asked for what is after 7 it tells one
/// event; asked for more it fails, which ends the tool.
fn our_daemon(table: &mut Vec<ConnRecord>, request: &Request) -> Result<String, String> {
    let filter = |n: usize| -> Result<ConnFilter, String> {
        let Some(text) = request.params.get(n) else { return Ok(ConnFilter::default()) };
        serde_json::from_str(text).map_err(|e| e.to_string())
    };
    let json = |v: serde_json::Result<String>| v.map_err(|e| e.to_string());
    match request.method.as_str() {
        "conntrack/list" => {
            let filter = filter(0)?;
            let records: Vec<_> = table.iter().filter(|c| filter.matches(c)).collect();
            json(serde_json::to_string(&records))
        }
        "conntrack/delete" => {
            let filter = filter(0)?;
            let (gone, kept) = table.drain(..).partition::<Vec<_>, _>(|c| filter.matches(c));
            *table = kept;
            json(serde_json::to_string(&gone))
        }
        "conntrack/flush" => {
            table.clear();
            Ok("{}".into())
        }
        "conntrack/count" => Ok(table.len().to_string()),
        "conntrack/stats" => {
            let stats = [ConnStats { found: 3, ..ConnStats::default() }, ConnStats::default()];
            json(serde_json::to_string(&stats))
        }
        "conntrack/events" => {
            let mut events = ConnEvents { seq: 7, ..ConnEvents::default() };
            match request.params.first().map(String::as_str) {
                None => {}
                Some("7") => {
                    let record = table[0].clone();
                    let event = |kind, time_us| ConnEvent { kind, time_us, record: record.clone() };
                    events.seq = 10;
                    events.lost = 1;
                    events.events = vec![
                        event(ConnEventKind::New, 1_795_459_217_641_601),
                        event(ConnEventKind::Update, 1_795_459_217_641_602),
                    ];
                }
                Some(_) => return Err("no more".into()),
            }
            json(serde_json::to_string(&events))
        }
        other => Err(unknown_command(other)),
    }
}

#[test]
fn the_story_s_listing() {
    let d = Daemon::start("list", our_daemon);
    let all = format!("{UDP}{TCP}{ICMP}");
    assert_eq!(d.call(&["-L"]), (0, all, said("3 flow entries have been shown")));
    let one = said("1 flow entries have been shown");
    for (args, line) in [
        (&["-L", "-p", "udp"][..], UDP),
        (&["-L", "conntrack", "-p", "6"], TCP),
        (&["-L", "--dport", "22"], TCP),
        (&["-L", "-u", "ASSURED"], TCP),
        (&["-L", "-p", "tcp", "--state", "TIME_WAIT"], TCP),
        (&["-L", "-p", "icmp", "--icmp-id", "52997"], ICMP),
        (&["-G", "-p", "icmp"], ICMP),
    ] {
        assert_eq!(d.call(args), (0, line.to_owned(), one.clone()), "{args:?}");
    }
    assert_eq!(d.call(&["-L", "-w", "5"]).2, said("0 flow entries have been shown"));
    let missing = said("Operation failed: such conntrack doesn't exist").replace(".\n", "\n");
    assert_eq!(d.call(&["-G", "-p", "sctp"]), (1, String::new(), missing));
    assert_eq!(d.call(&["-C"]), (0, "3\n".into(), String::new()));
    let zeros = "invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 \
                 clash_resolve=0 chaintoolong=0 ";
    let stats = format!("cpu=0   \tfound=3 {zeros}\ncpu=1   \tfound=0 {zeros}\n");
    assert_eq!(d.call(&["-S"]), (0, stats, String::new()));
}

#[test]
fn deleting() {
    let d = Daemon::start("delete", our_daemon);
    let gone = said("1 flow entries have been deleted");
    assert_eq!(d.call(&["-D", "-p", "udp"]), (0, UDP.to_owned(), gone));
    let none = said("0 flow entries have been deleted");
    assert_eq!(d.call(&["-D", "-p", "udp"]), (1, String::new(), none));
    let emptied = said("connection tracking table has been emptied");
    assert_eq!(d.call(&["-F"]), (0, String::new(), emptied));
    assert_eq!(d.call(&["-C"]).1, "0\n");
}

#[test]
fn events_until_the_daemon_has_no_more() {
    let d = Daemon::start("events", our_daemon);
    let tail = "udp      17 28 src=192.168.0.1 dst=192.168.0.2 sport=38118 dport=53 [UNREPLIED] \
                src=192.168.0.2 dst=192.168.0.1 sport=53 dport=38118";
    let (status, out, err) = d.call(&["-E"]);
    assert_eq!(status, 1);
    assert_eq!(out, format!("    [NEW] {tail}\n [UPDATE] {tail}\n"));
    assert!(err.contains("1 events were lost\n") && err.ends_with("no more\n"), "{err}");
    let (_, out, _) = d.call(&["-E", "-e", "UPDATES", "-o", "timestamp,id"]);
    assert_eq!(out, format!("[1795459217.641602]\t [UPDATE] {tail} id=17\n"));
}

/// As [`our_daemon`], but more events never come.
fn patient_daemon(table: &mut Vec<ConnRecord>, request: &Request) -> Result<String, String> {
    while request.params.first().is_some_and(|seq| seq == "10") {
        std::thread::park();
    }
    our_daemon(table, request)
}

#[test]
fn events_until_interrupted() {
    use std::io::{BufRead, BufReader};
    for (signal, output) in [("-INT", "id"), ("-TERM", "xml")] {
        let d = Daemon::start(signal, patient_daemon);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sekisho"))
            .args(["conntrack", "-E", "-o", output])
            .env("OVS_RUNDIR", &d.dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let is_event = |line: &String| line.contains("UPDATE") || line.contains("\"update\"");
        assert!(lines.by_ref().map_while(Result::ok).any(|l| is_event(&l)));
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let said_at_end = child.wait_with_output().expect("it ends");
        assert!(said_at_end.status.success());
        let err = String::from_utf8_lossy(&said_at_end.stderr).into_owned();
        assert!(err.ends_with(&said("2 flow events have been shown")), "{err}");
        let end: &[&str] = if output == "xml" { &["</conntrack>"] } else { &[] };
        assert_eq!(rest, end);
    }
}

/// What Open vSwitch answers.
fn stock_daemon(table: &mut Vec<ConnRecord>, request: &Request) -> Result<String, String> {
    let line = |proto: &str, ports: (&str, &str), rest: &str| {
        format!(
            "{proto},orig=(src=192.168.0.1,dst=192.168.0.2,{}),\
             reply=(src=192.168.0.2,dst=192.168.0.1,{}),{rest}\n",
            ports.0, ports.1
        )
    };
    match request.method.as_str() {
        "dpctl/dump-conntrack" if request.params == ["-s"] => Ok(table
            .iter()
            .filter(|c| c.proto != 17)
            .map(|c| match c.proto {
                6 => line(
                    "tcp",
                    ("sport=48265,dport=22", "sport=22,dport=48265"),
                    "timeout=105,protoinfo=(state=TIME_WAIT)",
                ),
                _ => line("icmp", ("id=9,type=8,code=0", "id=9,type=0,code=0"), "timeout=4"),
            })
            .collect()),
        "dpctl/flush-conntrack" if request.params.is_empty() => {
            table.clear();
            Ok(String::new())
        }
        "dpctl/flush-conntrack" => {
            let wanted = "ct_nw_src=192.168.0.1,ct_nw_dst=192.168.0.2,ct_nw_proto=6,\
                          ct_tp_src=48265,ct_tp_dst=22";
            assert_eq!(request.params, ["zone=0", wanted]);
            table.retain(|c| c.proto != 6);
            Ok(String::new())
        }
        "dpctl/ct-get-nconns" => Ok(table.len().to_string()),
        other => Err(unknown_command(other)),
    }
}

#[test]
fn a_stock_daemon() {
    let d = Daemon::start("stock", stock_daemon);
    let icmp = "icmp     1 4 src=192.168.0.1 dst=192.168.0.2 type=8 code=0 id=9 src=192.168.0.2 \
                dst=192.168.0.1 type=0 code=0 id=9 mark=0 use=1\n";
    let two = said("2 flow entries have been shown");
    assert_eq!(d.call(&["-L"]), (0, format!("{TCP}{icmp}"), two));
    let gone = said("1 flow entries have been deleted");
    assert_eq!(d.call(&["-D", "-p", "tcp"]), (0, TCP.to_owned(), gone));
    assert_eq!(d.call(&["-L"]).1, icmp);
    assert_eq!(d.call(&["-C"]).1, "2\n");
    let text = said("this daemon does not report events").replace(".\n", "\n");
    assert_eq!(d.call(&["-E"]), (1, String::new(), text));
}

#[test]
fn nobody_there() {
    let dir = std::env::temp_dir().join(format!("sekisho-conntrack-{}-none", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .args(["conntrack", "-L"])
        .env("OVS_RUNDIR", &dir)
        .output()
        .expect("the tool runs");
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("conntrack v1.4.7 (conntrack-tools): cannot read pidfile"), "{err}");
}

#[test]
fn a_reader_that_leaves() {
    let d = Daemon::start("pipe", our_daemon);
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .args(["conntrack", "-L"])
        .env("OVS_RUNDIR", &d.dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tool runs");
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").success());
}
