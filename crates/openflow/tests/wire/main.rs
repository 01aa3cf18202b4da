//! Messages as `ovs-ofctl` 3.1 and `ovs-vswitchd` 3.1 wrote them: decode, encode, compare.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod made;

use openflow::message::{Body, Kind, Message, Session};

fn hex(s: &str) -> Vec<u8> {
    (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
}

const MESSAGES: &str = include_str!("../data/messages.hex");
const FLOWS: &str = include_str!("../data/flows.txt");

fn flow_lines() -> impl Iterator<Item = (&'static str, Vec<u8>, &'static str)> {
    let lines: Vec<&str> = FLOWS.lines().collect();
    (0..lines.len() / 3).map(move |i| (lines[3 * i], hex(lines[3 * i + 1]), lines[3 * i + 2]))
}

/// Messages, each behind no tab, and how they read.
const PRINTED: &str = include_str!("../data/printed.txt");

fn printed() -> impl Iterator<Item = Vec<u8>> {
    PRINTED.lines().filter(|l| !l.starts_with('\t')).map(hex)
}

const SESSION: Session = Session { flow_mod_table_id: true };

#[test]
fn captured_messages_survive() {
    let mut n = 0;
    for line in MESSAGES.lines() {
        let bytes = hex(line);
        let m = Message::decode(&bytes, SESSION).unwrap_or_else(|e| panic!("{e}: {line}"));
        let again = m.encode(SESSION).unwrap();
        let show = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
        if !matches!(m.body, Body::Hello(_)) {
            assert_eq!(show(&again), line, "{m:?}");
        }
        assert_eq!(Message::decode(&again, SESSION).unwrap(), m);
        n += 1;
    }
    assert!(n > 80, "{n}");
}

#[test]
fn captured_flow_mods_survive() {
    let mut n = 0;
    for (text, bytes, _) in flow_lines() {
        let m = Message::decode(&bytes, SESSION)
            .unwrap_or_else(|e| panic!("{e}: {text}: {bytes:02x?}"));
        let again = m.encode(SESSION).unwrap();
        let show = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
        assert_eq!(show(&again), show(&bytes), "{text}: {m:?}");
        n += 1;
    }
    assert!(n > 250, "{n}");
}

/// What is understood of any message means the same when it is said again, in its own kind and version; and
/// no kind of message is left out of that.
#[test]
fn every_kind_of_message_survives() {
    let mut seen = Vec::new();
    let all = MESSAGES.lines().map(hex).chain(flow_lines().map(|f| f.1)).chain(printed());
    for bytes in all.chain(made::messages()) {
        let Ok(m) = Message::decode(&bytes, SESSION) else { continue };
        let again = m.encode(SESSION).unwrap_or_else(|e| panic!("{e}: {m:?}"));
        assert_eq!(Message::decode(&again, SESSION).as_ref(), Ok(&m), "{bytes:02x?}");
        seen.extend(Message::peek_kind(&again).map(|k| k.0));
    }
    let missing: Vec<&str> = Kind::all().filter(|k| !seen.contains(k)).map(Kind::name).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// No byte that is cut off or changed makes the decoder panic, and what it accepts it can say.
#[test]
fn damaged_messages_are_refused_or_meant() {
    let all = MESSAGES.lines().map(hex).chain(flow_lines().map(|f| f.1)).chain(printed());
    for bytes in all.chain(made::messages()).filter(|b| b.len() < 600) {
        for cut in 8..bytes.len() {
            let mut b = bytes[..cut].to_vec();
            let len = (cut as u16).to_be_bytes();
            b[2..4].copy_from_slice(&len);
            let _ = Message::decode(&b, SESSION);
        }
        for i in 8..bytes.len() {
            for x in [0x01, 0x80, 0xff] {
                let mut b = bytes.clone();
                b[i] ^= x;
                let Ok(m) = Message::decode(&b, SESSION) else { continue };
                let Ok(again) = m.encode(SESSION) else { continue };
                // A version may say it in another form (`set_field` for Nicira's `set_tunnel`),
                // but then it stays so.
                let once = Message::decode(&again, SESSION);
                let once = once.unwrap_or_else(|e| panic!("{e}: byte {i} ^ {x:#x} of {m:?}"));
                let twice = once.encode(SESSION).unwrap();
                assert_eq!(twice, again, "byte {i} ^ {x:#x} of {bytes:02x?}");
            }
        }
    }
}
