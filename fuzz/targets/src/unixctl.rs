//! Streams of JSON: the control socket's decoder and OVSDB's framer.
//!
//! Input: a byte that says how large the pieces are, then the stream.

use ovsdb::jsonrpc::{Framer, Message};
use switchd::unixctl::{Decoder, MAX_REQUEST, Reply, Request};

use crate::input::Input;

fn requests(bytes: &[u8], piece: usize) -> (Vec<Request>, bool) {
    let mut decoder = Decoder::new(MAX_REQUEST);
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next_request() {
                Ok(Some(r)) => all.push(r),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

fn values(bytes: &[u8], piece: usize) -> (Vec<serde_json::Value>, bool) {
    let mut framer = Framer::default();
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        framer.push(piece);
        loop {
            match framer.next_value() {
                Ok(Some(v)) => all.push(v),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

/// What is read does not depend on the pieces it comes in; what was read reads the same again.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = 1 + input.below(64);
    let stream = input.rest();
    let whole = requests(stream, usize::MAX);
    assert_eq!(whole, requests(stream, piece), "pieces of {piece}");
    for request in whole.0 {
        assert_eq!(requests(&request.encode(), 7), (vec![request.clone()], false));
        let reply = Reply::to(&request, Err("no".into()));
        let mut decoder = Decoder::new(MAX_REQUEST);
        decoder.feed(&reply.encode());
        assert_eq!(decoder.next_reply(), Ok(Some(reply)));
    }
    let whole = values(stream, usize::MAX);
    assert_eq!(whole, values(stream, piece), "pieces of {piece}");
    for value in whole.0 {
        let Ok(message) = Message::from_json(value) else { continue };
        let json = message.clone().into_json();
        let again = Message::from_json(json);
        assert!(again.is_ok_and(|m| m == message), "{message:?}");
    }
}
