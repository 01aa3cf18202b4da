//! What the tool says in its log: the lines of OVS's libraries, which print them on standard error.

use std::sync::atomic::{AtomicU32, Ordering};

use flow::text::{MatchText, NoNames};
use openflow::Match;
use openflow::error::DecodeError;
use openflow::message::Message;
use openflow::print::Diagnosis;
use switchd::log;
use switchd::vlog::{self, Level};

/// Says what there is to say of something that could not be read.
pub fn diagnosis(d: &Diagnosis) {
    if let Some(module) = vlog::find_module(d.module) {
        vlog::write(module, Level::Warn, format_args!("{}", d.text));
    }
}

/// Says it of bytes that are printed, and what was read in them.
pub fn message(bytes: &[u8], read: &Result<Message, DecodeError>) {
    for d in Diagnosis::of_message(bytes, read) {
        diagnosis(&d);
    }
    if let Some((before, after)) = openflow::print::normalized(bytes) {
        normalized(&before, &after);
    }
}

/// Says that parts of a match mean nothing and were dropped; of the first few only.
pub fn normalized(before: &Match, after: &Match) {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    if TOLD.fetch_add(1, Ordering::Relaxed) >= 5 {
        return;
    }
    let [before, after] =
        [before, after].map(|m| MatchText { m, priority: None, names: &NoNames }.to_string());
    log!(Info, OfpMatch, "normalization changed ofp_match, details:");
    log!(Info, OfpMatch, " pre: {before}");
    log!(Info, OfpMatch, "post: {after}");
}
