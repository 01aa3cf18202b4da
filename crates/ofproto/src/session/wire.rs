//! Messages in and out: framing, negotiation, errors.

use alloc::format;
use alloc::vec::Vec;

use base::Instant;
use openflow::error::{DecodeError, OfError};
use openflow::message::{Body, ErrorMsg, Message};
use openflow::version::Version;

use super::{Closed, Environment, MAX_ERROR_DATA, Session};
use crate::switch::Switch;

/// Message type of hello and error, which have the same number in all versions.
const HELLO: u8 = 0;
const ERROR: u8 = 1;

impl Session {
    /// One message.
    pub(super) fn frame(
        &mut self,
        sw: &mut Switch,
        env: &dyn Environment,
        now: Instant,
        frame: &[u8],
    ) {
        let [version, kind, _, _, x @ ..] = frame else { return };
        let xid = x.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        let Some(agreed) = self.version else {
            self.hello(*version, *kind, xid, frame);
            return;
        };
        if *version != agreed as u8 {
            // Who speaks another version that exists is told so in it; all else is nonsense.
            match Version::from_wire(*version) {
                _ if *kind == HELLO || *kind == ERROR => {}
                Some(theirs) => {
                    self.send_error(theirs, xid, OfError::OFPBRC_BAD_VERSION, frame);
                }
                None => {
                    self.send_error(agreed, xid, OfError::OFPBRC_BAD_VERSION, frame);
                    self.close(Closed::Nonsense(format!(
                        "message of version {version:#04x} on a connection of {agreed}"
                    )));
                }
            }
            return;
        }
        let state = self.codec();
        match Message::decode(frame, state) {
            Ok(m) => {
                if let Err(refusal) = self.handle(sw, env, now, &m, frame) {
                    self.send_error(agreed, xid, refusal.error(), frame);
                }
            }
            // Never answer an error with an error.
            Err(_) if *kind == ERROR => {}
            Err(DecodeError { error, .. }) => self.send_error(agreed, xid, error, frame),
        }
    }

    /// The first message: which version will be spoken.
    fn hello(&mut self, version: u8, kind: u8, xid: u32, frame: &[u8]) {
        if kind != HELLO {
            self.close(Closed::Nonsense(format!("message type {kind} before hello")));
            return;
        }
        // All that both know; without a bitmap the peer knows all up to the header's version.
        let up_to =
            Version::ALL.iter().filter(|v| **v as u8 <= version).fold(0, |m: u32, v| m | v.bit());
        let theirs = match Message::decode(frame, openflow::message::Session::default()) {
            Ok(Message { body: Body::Hello(bitmap), .. }) if bitmap != 0 => bitmap,
            _ => up_to,
        };
        self.peer_versions = theirs;
        match Version::highest(theirs & self.allowed) {
            Some(v) => self.version = Some(v),
            None => {
                let v = Version::from_wire(version)
                    .or(Version::highest(self.allowed))
                    .unwrap_or(Version::Of10);
                let ours: Vec<&str> = Version::ALL
                    .iter()
                    .filter(|v| v.bit() & self.allowed != 0)
                    .map(|v| v.name())
                    .collect();
                let text = format!(
                    "We support versions {}, you support up to version {version:#04x}, no common \
                     versions.",
                    ours.join(" ")
                );
                let error = OfError::OFPHFC_INCOMPATIBLE;
                let data = text.into_bytes();
                self.send(v, xid, false, Body::Error(error_msg(error, data)));
                self.close(Closed::NoCommonVersion);
            }
        }
    }

    /// What was agreed on about the form of messages.
    pub fn codec(&self) -> openflow::message::Session {
        openflow::message::Session { flow_mod_table_id: self.flow_mod_table_id }
    }

    pub(super) fn send_error(&mut self, version: Version, xid: u32, error: OfError, frame: &[u8]) {
        let n = frame.len().min(MAX_ERROR_DATA);
        let body = Body::Error(error_msg(error, frame[..n].into()));
        self.send(version, xid, false, body);
    }

    pub(super) fn send(&mut self, version: Version, xid: u32, nicira: bool, body: Body) {
        self.push(&Message { version, xid, nicira, more: false, body });
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, to: &Message, body: Body) {
        let (version, xid, nicira) = (to.version, to.xid, to.nicira);
        self.push(&Message { version, xid, nicira, more: false, body });
    }

    /// Appends a message to the output, unless it cannot be said: it is too long, or nothing that
    /// this version knows.
    pub(super) fn push(&mut self, m: &Message) {
        let session = self.codec();
        let _ = m.encode_into(session, &mut self.output);
    }
}

fn error_msg(error: OfError, data: Vec<u8>) -> ErrorMsg {
    ErrorMsg { error: Some(error), raw: (0, 0), data }
}
