//! Text of flows, matches, packets and datapath keys: what is read can be written and reads the same again.
//!
//! Input of [`flows`]: a byte that chooses what the text is and how strictly it is read, then the text. Input of
//! [`datapath_keys`]: a byte whose lowest bit asks for the long form, then the text.

use base::DpPort;
use flow::text::{FlowText, MatchText, Mode, NoNames, Tok, parse_exact, parse_match};
use openflow::text::{ActionsText, parse_actions, parse_flow, parse_line};
use openflow::{FlowModCommand, Version};

use crate::input::Input;

/// Longer texts only take longer.
const MAX_TEXT: usize = 2000;

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(&bytes[..bytes.len().min(MAX_TEXT)]).ok()
}

/// An error's bytes are bytes of the text, at character boundaries.
fn check_span(text: &str, e: &flow::text::TextError) {
    assert!(text.get(e.span.clone()).is_some(), "{:?} is not in {text:?}: {e}", e.span);
    assert!(!e.message.is_empty());
}

/// Flows, files of flows, matches and packets.
pub fn flows(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let Some(text) = text_of(input.rest()) else { return };
    let mode = if kind & 1 == 0 { Mode::Strict } else { Mode::Ovs };
    match kind >> 1 & 3 {
        0 => flow(text, mode),
        1 => {
            for line in text.lines() {
                if let Some(Err(e)) = parse_line(line, None, &NoNames, mode) {
                    check_span(line, &e);
                }
            }
        }
        2 => one_match(text, mode),
        _ => packet(text),
    }
}

fn flow(text: &str, mode: Mode) {
    let flow = match parse_flow(text, FlowModCommand::Add, &NoNames, mode) {
        Ok(parsed) => parsed.flow,
        Err(e) => return check_span(text, &e),
    };
    let said = ActionsText { actions: &flow.actions, names: &NoNames, version: Version::Of10 };
    let said = said.to_string();
    match parse_actions(Tok::line(&said), &flow.match_, &NoNames, mode) {
        Ok(again) => assert_eq!(again, flow.actions, "{text:?} became {said:?}"),
        Err(e) => panic!("{text:?} became {said:?}: {e}"),
    }
}

fn one_match(text: &str, mode: Mode) {
    let m = match parse_match(text, &NoNames, mode) {
        Ok(m) => m,
        Err(e) => return check_span(text, &e),
    };
    let said = MatchText { m: &m, priority: None, names: &NoNames }.to_string();
    match parse_match(&said, &NoNames, mode) {
        Ok(again) => assert_eq!(again, m, "{text:?} became {said:?}"),
        Err(e) => panic!("{text:?} became {said:?}: {e}"),
    }
}

fn packet(text: &str) {
    match parse_exact(text, &NoNames) {
        Ok(key) => {
            let _ = FlowText { key: &key, names: &NoNames }.to_string();
        }
        Err(e) => check_span(text, &e),
    }
}

/// Keys as `dpctl/dump-flows` writes them.
pub fn datapath_keys(data: &[u8]) {
    let mut input = Input::new(data);
    let verbose = input.u8() & 1 != 0;
    let Some(text) = text_of(input.rest()) else { return };
    let ports = |name: &str| (name == "br0").then_some(DpPort(1));
    // A flow of the datapath is always of one port; none is written as nothing.
    let parse = |text: &str| {
        dpif::text::parse_key(text, &ports).map(|(key, mut mask)| {
            mask.in_port = u32::MAX;
            (&key & &mask, mask)
        })
    };
    let Ok((key, mask)) = parse(text) else { return };
    let write = |key, mask| {
        dpif::text::format_key(key, Some(mask), verbose, dpif::text::NO_NAMES).to_string()
    };
    let said = write(&key, &mask);
    match parse(&said) {
        // Not the keys themselves: a group whose header the packet has not is left out.
        Ok((k, m)) => assert_eq!(write(&k, &m), said, "{text:?}"),
        Err(e) => panic!("{text:?} became {said:?}: {e}"),
    }
}
