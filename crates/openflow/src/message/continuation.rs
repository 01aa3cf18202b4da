//! What a paused pipeline goes on with, as bytes for the controller to give back (`NXT_PACKET_IN2`
//! and `NXT_RESUME`).
//!
//! The form is a matter between a switch and itself. It is Open vSwitch's, so that its tools show what
//! is in it.

use alloc::vec::Vec;

use super::codec::Result;
use crate::action::{Action, decode, encode};
use crate::error::{EncodeError, OfError};
use crate::version::Version;
use crate::wire::{Put, Reader};

use base::TableId;

/// A paused pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Continuation {
    /// Names the bridge; all zeros for none.
    pub bridge: [u8; 16],
    /// Values on the stack and their widths in bits, a multiple of 8; the top first.
    pub stack: Vec<(u128, u16)>,
    /// Mirrors that have the packet already, as bits.
    pub mirrors: u32,
    /// The packet has been through the tracker.
    pub conntracked: bool,
    /// What is left to do.
    pub actions: Vec<Action>,
    /// The action set.
    pub action_set: Vec<Action>,
    /// Datapath port that the packet came in by; 0 for none.
    pub dp_port: u32,
}

/// Property types.
mod prop {
    pub const BRIDGE: u16 = 0x8000;
    pub const STACK: u16 = 0x8001;
    pub const MIRRORS: u16 = 0x8002;
    pub const CONNTRACKED: u16 = 0x8003;
    pub const TABLE_ID: u16 = 0x8004;
    pub const COOKIE: u16 = 0x8005;
    pub const ACTIONS: u16 = 0x8006;
    pub const ACTION_SET: u16 = 0x8007;
    pub const DP_PORT: u16 = 0x8008;
}

impl Continuation {
    /// Reads the bytes of a message of version `v`. What is not known is an error if `strict`.
    pub fn decode(bytes: &[u8], v: Version, strict: bool) -> Result<Continuation> {
        let mut c = Continuation::default();
        let mut r = Reader::new(bytes, 0);
        let (mut table, mut cookie) = (TableId(0), 0);
        while !r.is_empty() {
            let here = r;
            let (typ, mut p) = r.property()?;
            let bad_len = p.error(OfError::OFPBPC_BAD_LEN);
            match typ {
                prop::BRIDGE => c.bridge = p.array().map_err(|_| bad_len)?,
                prop::STACK => {
                    let n = p.len();
                    if !(1..=16).contains(&n) {
                        return Err(bad_len);
                    }
                    c.stack.push((p.uint(n)?, 8 * n as u16));
                }
                prop::MIRRORS => c.mirrors = p.u32().map_err(|_| bad_len)?,
                prop::CONNTRACKED => c.conntracked = true,
                prop::TABLE_ID => table = TableId(p.u8().map_err(|_| bad_len)?),
                prop::COOKIE => {
                    p.skip(4).map_err(|_| bad_len)?;
                    cookie = p.u64().map_err(|_| bad_len)?;
                }
                prop::ACTIONS => {
                    p.skip(4).map_err(|_| bad_len)?;
                    c.actions.push(Action::UnrollXlate { table, cookie });
                    c.actions.extend(decode::actions(&mut p, v)?);
                }
                prop::ACTION_SET => {
                    p.skip(4).map_err(|_| bad_len)?;
                    c.action_set.extend(decode::actions(&mut p, v)?);
                }
                prop::DP_PORT => c.dp_port = p.u32().map_err(|_| bad_len)?,
                _ if strict => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
                _ => {}
            }
        }
        Ok(c)
    }

    /// The bytes for a message of version `v`.
    ///
    /// # Errors
    /// The version cannot say one of the actions.
    pub fn encode(&self, v: Version) -> core::result::Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        if self.bridge != [0; 16] {
            put(&mut out, prop::BRIDGE, &self.bridge);
        }
        for (value, bits) in &self.stack {
            let n = usize::from(bits.div_ceil(8)).clamp(1, 16);
            put(&mut out, prop::STACK, &value.to_be_bytes()[16 - n..]);
        }
        if self.mirrors != 0 {
            put(&mut out, prop::MIRRORS, &self.mirrors.to_be_bytes());
        }
        if self.conntracked {
            put(&mut out, prop::CONNTRACKED, &[]);
        }
        let (mut table, mut cookie) = (TableId(0), 0);
        let mut rest = &self.actions[..];
        while let Some((first, tail)) = rest.split_first() {
            if let Action::UnrollXlate { table: t, cookie: c } = first {
                rest = tail;
                if *t != table {
                    table = *t;
                    put(&mut out, prop::TABLE_ID, &[table.0]);
                }
                if *c != cookie {
                    cookie = *c;
                    put(&mut out, prop::COOKIE, &padded(&cookie.to_be_bytes()));
                }
            }
            let end = rest.iter().position(|a| matches!(a, Action::UnrollXlate { .. }));
            let (group, tail) = rest.split_at(end.unwrap_or(rest.len()));
            rest = tail;
            put_actions(&mut out, prop::ACTIONS, group, v)?;
        }
        put_actions(&mut out, prop::ACTION_SET, &self.action_set, v)?;
        if self.dp_port != 0 {
            put(&mut out, prop::DP_PORT, &self.dp_port.to_be_bytes());
        }
        Ok(out)
    }
}

fn put(out: &mut Vec<u8>, typ: u16, body: &[u8]) {
    let start = out.len();
    out.put16(typ);
    out.put16(4 + body.len() as u16);
    out.extend_from_slice(body);
    out.pad8(start);
}

/// A body that begins at a multiple of 8.
fn padded(body: &[u8]) -> Vec<u8> {
    [&[0; 4], body].concat()
}

fn put_actions(
    out: &mut Vec<u8>,
    typ: u16,
    list: &[Action],
    v: Version,
) -> core::result::Result<(), EncodeError> {
    if list.is_empty() {
        return Ok(());
    }
    let mut body = Vec::new();
    encode::actions(&mut body, list, v, encode::Known::default())?;
    if u16::try_from(body.len() + 8).is_err() {
        return Err(EncodeError::TooLong("list of actions".into()));
    }
    put(out, typ, &padded(&body));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::OfPort;

    #[test]
    fn what_was_paused_comes_back() {
        let output = |port| Action::Output { port: OfPort(port), max_len: 0 };
        let unroll = |table, cookie| Action::UnrollXlate { table: TableId(table), cookie };
        let whole = Continuation {
            bridge: *b"0123456789abcdef",
            stack: alloc::vec![(0x1234, 16), (5, 8), (u128::MAX, 128)],
            mirrors: 3,
            conntracked: true,
            actions: alloc::vec![unroll(0, 0), output(1), unroll(4, 9), output(2), output(3)],
            action_set: alloc::vec![Action::Group(7)],
            dp_port: 12,
        };
        for c in [whole, Continuation::default()] {
            for v in [Version::Of11, Version::Of13, Version::Of15] {
                let bytes = c.encode(v).unwrap();
                assert_eq!(Continuation::decode(&bytes, v, true), Ok(c.clone()));
                for n in 0..bytes.len() {
                    let _ = Continuation::decode(&bytes[..n], v, true);
                }
            }
        }
        let strange = [0x90, 0, 0, 4, 0, 0, 0, 0];
        assert!(Continuation::decode(&strange, Version::Of10, true).is_err());
        assert!(Continuation::decode(&strange, Version::Of10, false).is_ok());
    }
}
