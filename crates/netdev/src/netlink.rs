//! Netlink messages: a writer, a reader, and a socket that asks and waits for the answer.
//!
//! Only what links and nftables need. All integers are in host byte order unless a family says
//! otherwise. A reader believes no length: what does not fit ends the iteration.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys::{self, Errno};

pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLA_F_NESTED: u16 = 0x8000;
/// Bits of an attribute's type that are not flags.
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;
/// How long to wait for the kernel's answer, which it gives within the request.
const PATIENCE: Duration = Duration::from_secs(5);

fn align(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// Writes messages one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    data: Vec<u8>,
    /// Start of the current message.
    msg: usize,
}

/// An attribute that is being filled.
#[must_use]
pub(crate) struct Open(usize);

impl Writer {
    /// Starts a message; `head` is the family's fixed part.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, seq: u32, head: &[u8]) -> &mut Self {
        self.msg = self.data.len();
        self.data.extend_from_slice(&[0; 4]);
        self.data.extend_from_slice(&kind.to_ne_bytes());
        self.data.extend_from_slice(&flags.to_ne_bytes());
        self.data.extend_from_slice(&seq.to_ne_bytes());
        self.data.extend_from_slice(&[0; 4]);
        self.data.extend_from_slice(head);
        self.close_message()
    }

    fn close_message(&mut self) -> &mut Self {
        self.data.resize(align(self.data.len()), 0);
        let len = (self.data.len() - self.msg) as u32;
        self.data[self.msg..self.msg + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Adds an attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = (4 + value.len()) as u16;
        self.data.extend_from_slice(&len.to_ne_bytes());
        self.data.extend_from_slice(&kind.to_ne_bytes());
        self.data.extend_from_slice(value);
        self.close_message()
    }

    /// Adds text with its terminating NUL.
    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut v = value.as_bytes().to_vec();
        v.push(0);
        self.attr(kind, &v)
    }

    /// Starts an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16) -> Open {
        let at = self.data.len();
        self.attr(kind | NLA_F_NESTED, &[]);
        Open(at)
    }

    /// Ends what [`Writer::nest`] started.
    pub(crate) fn end(&mut self, Open(at): Open) {
        let len = (self.data.len() - at) as u16;
        self.data[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.close_message();
    }

    /// All messages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }
}

/// One received message.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The error that an `NLMSG_ERROR` or `NLMSG_DONE` message reports; `Ok` is success.
    fn result(&self) -> Option<Result<(), Errno>> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = self.body.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
        Some(if code < 0 { Err(Errno(-code)) } else { Ok(()) })
    }
}

/// The messages of one datagram.
pub(crate) fn messages(mut data: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = data.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *head;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = data.get(HEADER..len)?;
        data = data.get(align(len)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    })
}

/// The attributes of a message body behind its fixed part, or of a nested attribute.
pub(crate) fn attrs(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *data.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = data.get(4..len)?;
        data = data.get(align(len)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// A 32-bit attribute; 0 if it is shorter.
pub(crate) fn u32_of(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
}

/// Text of an attribute, up to its NUL.
pub(crate) fn str_of(value: &[u8]) -> String {
    let end = value.iter().position(|&c| c == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A netlink socket for requests.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
}

impl Socket {
    /// A socket of a netlink family, a member of `groups` (a bit mask).
    pub(crate) fn open(family: i32, groups: u32) -> Result<Socket, Errno> {
        let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, family)?;
        sys::bind_netlink(fd.as_fd(), groups)?;
        Ok(Socket { fd, seq: 0, buf: vec![0; 64 << 10] })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A sequence number for a request; numbers of one socket never repeat soon.
    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends messages, waits until the one numbered `seq` is answered (acknowledged, or the end of
    /// its dump) and gives its other answers to `each`. The first error that answers any of the
    /// messages from number `first` on is returned.
    pub(crate) fn transact(
        &mut self,
        w: &Writer,
        (first, seq): (u32, u32),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), Errno> {
        sys::send(self.fd.as_fd(), w.bytes())?;
        let mut outcome = Ok(());
        loop {
            let n = self.recv_wait()?;
            for m in messages(&self.buf[..n]) {
                if !(first..=seq).contains(&m.seq) {
                    continue; // the late answer to a request that was given up
                }
                if m.flags & NLM_F_DUMP_INTR != 0 {
                    outcome = Err(Errno(libc::EAGAIN)); // changed under the dump: ask again
                }
                match m.result() {
                    Some(Err(e)) => {
                        outcome = outcome.and(Err(e));
                        if m.seq == seq {
                            return outcome;
                        }
                    }
                    Some(Ok(())) if m.seq == seq => return outcome,
                    Some(Ok(())) => {}
                    None => each(&m),
                }
            }
            // A refused batch (nftables) may never come to its last message.
            if outcome.is_err() && !sys::wait_readable(self.fd.as_fd(), Duration::ZERO) {
                return outcome;
            }
        }
    }

    fn recv_wait(&mut self) -> Result<usize, Errno> {
        loop {
            match self.recv_some() {
                Ok(n) => return Ok(n),
                Err(Errno(libc::EAGAIN)) => {
                    if !sys::wait_readable(self.fd.as_fd(), PATIENCE) {
                        return Err(Errno(libc::ETIMEDOUT));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Receives one datagram without waiting; [`Socket::datagram`] is its content.
    pub(crate) fn recv_some(&mut self) -> Result<usize, Errno> {
        loop {
            match sys::recv(self.fd.as_fd(), &mut self.buf) {
                Ok(n) if n > self.buf.len() => {
                    // Lost its end. Be ready for the next; the caller synchronises anew.
                    self.buf.resize(n.next_power_of_two(), 0);
                    return Err(Errno(libc::ENOBUFS));
                }
                Err(Errno(libc::EINTR)) => {}
                r => return r,
            }
        }
    }

    /// The first `n` bytes received.
    pub(crate) fn datagram(&self, n: usize) -> &[u8] {
        &self.buf[..n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.message(16, NLM_F_REQUEST, 7, &[1, 2, 3, 4]).attr_str(3, "eth0").attr(4, &[9; 5]);
        let nest = w.nest(18);
        w.attr_str(1, "veth");
        w.end(nest);
        w.message(17, 0, 8, &[]);
        let m: Vec<_> = messages(w.bytes()).collect();
        assert_eq!(m.len(), 2);
        assert_eq!((m[0].kind, m[0].seq, m[1].kind, m[1].seq), (16, 7, 17, 8));
        let a: Vec<_> = attrs(&m[0].body[4..]).collect();
        assert_eq!(a[0], (3, &b"eth0\0"[..]));
        assert_eq!(a[1], (4, &[9; 5][..]));
        assert_eq!(a[2].0, 18);
        assert_eq!(attrs(a[2].1).next(), Some((1, &b"veth\0"[..])));
        assert_eq!(m[1].body, &[] as &[u8]);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut w = Writer::default();
        w.message(16, 0, 1, &[]).attr(1, &[0; 4]);
        for at in 0..w.bytes().len() {
            for v in [0, 1, 3, 0xff] {
                let mut bad = w.bytes().to_vec();
                bad[at] = v;
                for m in messages(&bad) {
                    assert!(attrs(m.body).count() <= 2);
                }
            }
        }
        assert_eq!(messages(&w.bytes()[..10]).count(), 0);
    }
}
