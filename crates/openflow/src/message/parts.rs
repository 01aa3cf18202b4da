//! Replies of statistics that may be longer than a message: items are appended one by one, and a new
//! part begins when one is full. Nothing but the output is kept.

use alloc::vec::Vec;

use super::codec::Session;
use super::{Body, Message};
use crate::wire::Put;

/// Longest message.
const MAX: usize = u16::MAX as usize;
/// Where the flags of statistics stand, whose lowest bit says that more parts follow.
const FLAGS: usize = 11;

/// Appends a reply in parts to `out`. At least one part is written, also without items.
pub fn append<T>(
    out: &mut Vec<u8>,
    session: Session,
    to: &Message,
    items: impl Iterator<Item = T>,
    make: impl Fn(Vec<T>) -> Body,
) {
    let message = |body| Message { body, more: false, ..header(to) };
    let mut start = out.len();
    if message(make(Vec::new())).encode_into(session, out).is_err() {
        return;
    }
    let head = out[start..].to_vec();
    let mut scratch = Vec::new();
    for item in items {
        scratch.clear();
        let one = message(make(alloc::vec![item]));
        // What a version cannot say is left out.
        if one.encode_into(session, &mut scratch).is_err() {
            continue;
        }
        let item = &scratch[head.len()..];
        if out.len() - start + item.len() > MAX {
            finish(out, start);
            out[start + FLAGS] |= 1;
            start = out.len();
            out.extend_from_slice(&head);
        }
        out.extend_from_slice(item);
    }
    finish(out, start);
}

fn header(to: &Message) -> Message {
    let (version, xid, nicira) = (to.version, to.xid, to.nicira);
    Message { version, xid, nicira, more: false, body: Body::BarrierReply }
}

fn finish(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start;
    out.set16(start + 2, len as u16);
}

#[cfg(test)]
mod tests {
    use super::super::{PortDesc, frame_len};
    use super::*;
    use crate::version::Version;
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
