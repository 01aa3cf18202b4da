//! What is said comes back: flows from text to bytes and to text again, messages from bytes to meaning and to
//! bytes again, in every version that can say them. Fresh ones in each run; `SEED=N` takes those of a run
//! that failed, `CASES=N` more of them.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[path = "../vocabulary/generate.rs"]
#[allow(dead_code)]
mod generate;
mod random;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flow::text::{Mode, NoNames};
use generate::Rng;
use openflow::message::{Body, FlowStats, Message, Session};
use openflow::protocol::Protocol;
use openflow::text::{FlowStatsText, parse_flow};
use openflow::{FlowMod, FlowModCommand, FlowModFlags, Version};

const SESSION: Session = Session { flow_mod_table_id: true };

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seed of this run, which a failure prints.
fn seed() -> u64 {
    env("SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64)
    })
}

fn hex(b: &[u8]) -> String {
    b.iter().fold(String::new(), |mut s, x| {
        let _ = write!(s, "{x:02x}");
        s
    })
}

fn encode(flow: &FlowMod, p: &Protocol) -> Result<Vec<u8>, String> {
    let mut flow = flow.clone();
    if p.version > Version::Of10 {
        flow.table = flow.table.or(Some(base::TableId(0)));
    }
    let m =
        Message { nicira: p.nicira, ..Message::new(p.version, 0, Body::FlowMod(Box::new(flow))) };
    m.encode(SESSION).map_err(|e| e.to_string())
}

/// A flow as a dump writes it, which can be read again.
fn dumped(f: &FlowMod, version: Version) -> String {
    let stats = FlowStats {
        match_: f.match_,
        table: f.table.unwrap_or(base::TableId(0)),
        priority: f.priority,
        cookie: f.new_cookie.unwrap_or(0),
        idle_timeout: f.idle_timeout,
        hard_timeout: f.hard_timeout,
        importance: f.importance,
        // 1.0 and 1.1 reset them whenever a flow takes another's place.
        flags: match version < Version::Of12 {
            true => f.flags - FlowModFlags::RESET_COUNTS,
            false => f.flags,
        },
        actions: f.actions.clone(),
        duration: Duration::ZERO,
        idle_age: None,
        hard_age: None,
        n_packets: 0,
        n_bytes: 0,
    };
    FlowStatsText { f: &stats, stats: false, version, names: &NoNames }.to_string()
}

/// Why a flow does not come back.
enum Lost {
    /// A switch refuses it, and may: that a packet has what an action needs is looked at as a whole there.
    Refused,
    Wrong(String),
}

impl From<String> for Lost {
    fn from(why: String) -> Lost {
        Lost::Wrong(why)
    }
}

/// Says a line in a format, understands it and says it again; then writes what was understood, reads that and
/// says it once more.
fn round(line: &str, flow: &FlowMod, p: &Protocol) -> Result<(), Lost> {
    let sent = encode(flow, p)?;
    if Message::decode(&sent, SESSION).is_err() {
        return Err(Lost::Refused);
    }
    let read = |bytes: &[u8]| match Message::decode(bytes, SESSION).map(|m| m.body) {
        Ok(Body::FlowMod(f)) => Ok(*f),
        other => Err(format!("{other:?}: {}", hex(bytes))),
    };
    // A version may say it in another form (`set_field` for a load), but then it stays so.
    let again = encode(&read(&sent)?, p)?;
    let back = read(&again)?;
    let stays = encode(&back, p)?;
    if stays != again {
        return Err(format!("bytes\n  {}\n  {}", hex(&again), hex(&stays)).into());
    }
    let text = dumped(&back, p.version);
    let parsed = parse_flow(&text, FlowModCommand::Add, &NoNames, Mode::Strict)
        .map_err(|e| format!("{e} in what was written: {text}"))?;
    let third = encode(&parsed.flow, p).map_err(|e| format!("{e}: {text}"))?;
    let written = dumped(&read(&third)?, p.version);
    match written == text {
        true => Ok(()),
        false => Err(format!("{line}\n  text  {text}\n  again {written}").into()),
    }
}

#[test]
fn flows_from_text_to_bytes_to_text() {
    let seed = seed();
    let mut r = Rng(seed);
    let mut lines = generate::fixed();
    lines.extend((0..env("CASES").unwrap_or(600)).map(|_| generate::line(&mut r)));
    let (mut n, mut refused, mut wrong) = (0, 0, Vec::new());
    for line in &lines {
        let Ok(parsed) = parse_flow(line, FlowModCommand::Add, &NoNames, Mode::Strict) else {
            continue;
        };
        for p in parsed.usable.iter().filter(|p| p.table_id) {
            n += 1;
            match round(line, &parsed.flow, p) {
                Ok(()) => {}
                Err(Lost::Refused) => refused += 1,
                Err(Lost::Wrong(why)) => wrong.push(format!("{}: {line}\n  {why}", p.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "SEED={seed}: {} of {n}\n{}", wrong.len(), wrong.join("\n"));
    assert!(n > 5000 && refused < n / 50, "{refused} of {n} refused");
}

#[test]
fn messages_from_meaning_to_bytes_to_meaning() {
    let seed = seed();
    let mut r = Rng(seed);
    let (mut n, mut wrong) = (0, Vec::new());
    for _ in 0..env("CASES").unwrap_or(60) {
        for v in Version::ALL {
            for body in random::bodies(&mut r, v) {
                let m = Message { nicira: r.one_in(4), ..Message::new(v, 5, body) };
                // Not every version can say all.
                let Ok(sent) = m.encode(SESSION) else { continue };
                n += 1;
                let read = Message::decode(&sent, SESSION);
                let Ok(back) = &read else {
                    wrong.push(format!("{v} {:?} of {m:?}: {}", read, hex(&sent)));
                    continue;
                };
                // A version may say it in another form, but then it stays so.
                let again = back.encode(SESSION).unwrap_or_default();
                let stays = Message::decode(&again, SESSION)
                    .map(|m| (m.encode(SESSION).unwrap_or_default(), m));
                match stays {
                    Ok((stays, m)) if stays == again && (again != sent || m == *back) => {}
                    other => wrong.push(format!(
                        "{v} {m:?}\n  {}\n  {}\n  {other:?}",
                        hex(&sent),
                        hex(&again)
                    )),
                }
                if random::whole(&m) && back.body != m.body {
                    wrong.push(format!("{v} {:?}\n  {:?}", m.body, back.body));
                }
            }
        }
    }
    wrong.truncate(12);
    assert!(wrong.is_empty(), "SEED={seed}: of {n}\n{}", wrong.join("\n"));
    assert!(n > 10_000, "{n}");
}
