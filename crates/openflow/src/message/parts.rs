//! Replies of statistics that may be longer than a message: items are appended one by one, and a new
//! part begins when one is full. Nothing but the output is kept.

use alloc::vec::Vec;

use super::codec::Session;
use super::{Body, FlowStats, Message, flows};
use crate::action::{Action, OptionLens};
use crate::error::EncodeError;
use crate::version::Version;
use crate::wire::Put;

/// Longest message.
const MAX: usize = u16::MAX as usize;
/// Where the flags of statistics stand, whose lowest bit says that more parts follow.
const FLAGS: usize = 11;

/// A reply that is being written.
#[derive(Clone, Debug)]
pub struct Parts {
    head: Vec<u8>,
    /// An item that did not fit the part before.
    carry: Vec<u8>,
    n_omitted: u64,
}

impl Parts {
    /// Of a reply to `to`; `empty` is what it says without items. `None` if the version cannot say it.
    pub fn new(session: Session, to: &Message, empty: Body) -> Option<Parts> {
        let head = message(to, empty).encode(session).ok()?;
        Some(Parts { head, carry: Vec::new(), n_omitted: 0 })
    }

    /// Items that were left out so far because no message can say them.
    pub fn n_omitted(&self) -> u64 {
        self.n_omitted
    }

    /// Appends the next part; gives whether more are to follow. What `write` cannot say is left out.
    pub fn append<T>(
        &mut self,
        out: &mut Vec<u8>,
        items: &mut impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), EncodeError>,
    ) -> bool {
        let start = out.len();
        out.extend_from_slice(&self.head);
        out.append(&mut self.carry);
        for item in items {
            let at = out.len();
            let too_long = |out: &Vec<u8>| out.len() - at > MAX - self.head.len();
            if write(out, item).is_err() || too_long(out) {
                out.truncate(at);
                self.n_omitted += 1;
            } else if out.len() - start > MAX {
                self.carry.extend_from_slice(&out[at..]);
                out.truncate(at);
                break;
            }
        }
        let more = !self.carry.is_empty();
        let len = out.len() - start;
        out.set16(start + 2, len as u16);
        out[start + FLAGS] |= u8::from(more);
        more
    }
}

/// Appends a whole reply in parts to `out`. At least one part is written, also without items.
pub fn append<T>(
    out: &mut Vec<u8>,
    session: Session,
    to: &Message,
    mut items: impl Iterator<Item = T>,
    make: impl Fn(Vec<T>) -> Body,
) {
    let Some(mut parts) = Parts::new(session, to, make(Vec::new())) else { return };
    let (head, mut one) = (parts.head.len(), Vec::new());
    let mut write = |out: &mut Vec<u8>, item| {
        one.clear();
        message(to, make(alloc::vec![item])).encode_into(session, &mut one)?;
        out.extend_from_slice(&one[head..]);
        Ok(())
    };
    while parts.append(out, &mut items, &mut write) {}
}

/// Appends a flow to a part of a reply of flow statistics, in Nicira's form if the version has it.
/// `options` is how long the options are that its actions name.
pub fn append_flow<A: AsRef<[Action]>>(
    out: &mut Vec<u8>,
    to: &Message,
    flow: &FlowStats<A>,
    options: &OptionLens,
) -> Result<(), EncodeError> {
    match to.nicira && to.version == Version::Of10 {
        true => flows::write_nx_stats(out, flow, options),
        false => flows::write_stats(out, flow, to.version, options),
    }
}

fn message(to: &Message, body: Body) -> Message {
    let (version, xid, nicira) = (to.version, to.xid, to.nicira);
    Message { version, xid, nicira, more: false, body }
}

#[cfg(test)]
mod tests {
    use super::super::{PortDesc, frame_len};
    use super::*;
    use base::OfPort;

    #[test]
    fn parts_are_full_messages_and_all_but_the_last_say_more() {
        let port = |n: u16| PortDesc { port: OfPort(n), ..PortDesc::default() };
        for v in Version::ALL {
            for n in [0, 1, 5000] {
                let to = Message::new(v, 7, Body::BarrierRequest);
                let mut out = Vec::from([1, 2, 3]);
                append(&mut out, Session::default(), &to, (1..=n).map(port), Body::PortDescReply);
                let (mut rest, mut got, mut more) = (&out[3..], Vec::new(), true);
                while !rest.is_empty() {
                    assert!(more);
                    let len = frame_len(rest).unwrap().unwrap();
                    let m = Message::decode(&rest[..len], Session::default()).unwrap();
                    rest = &rest[len..];
                    more = m.more;
                    assert!(!more || len > 65_000, "{len}");
                    let Body::PortDescReply(list) = m.body else { panic!() };
                    got.extend(list.iter().map(|p| p.port.0));
                }
                assert!(!more);
                assert_eq!(got, (1..=n).collect::<Vec<_>>(), "{v}");
            }
        }
    }
}
