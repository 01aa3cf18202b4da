//! Protocols that say in one connection where the next will go: FTP and TFTP.
//!
//! A connection that was committed with a [`Helper`] is a control connection. Its packets are read
//! (`ftp`, `tftp`), and a message that invites the other end makes an expectation (`expect`): a packet
//! that fits it is `rel`, takes mark, label and translation of the control connection, and shows its
//! tuple. Where the control connection is translated, so are the addresses in its messages; from then
//! on its sequence numbers are moved (`shift`).
//!
//! Bounds: an end can invite to itself only, to ports that are not privileged, so nothing opens that it
//! could not have opened by connecting itself; a connection has at most [`PER_CONN`] expectations, a
//! tracker [`MAX_EXPECTED`], and none lives longer than [`LIFETIME`] after its last use or than its
//! control connection. What is refused is `inv`, with the reason.

mod assist;
mod expect;
mod ftp;
mod shift;
mod tftp;

use arrayvec::{ArrayString, ArrayVec};
use base::Duration;
use core::fmt::Write;
use core::net::IpAddr;
use packet::header::ipproto;

pub(crate) use assist::assist;
pub use expect::ExpectSnapshot;
pub(crate) use expect::{ExpectId, Expectation, Expected, Filter, Related, Sought};
pub(crate) use shift::Shifts;

/// Most expectations of a connection. The one that was made first makes room for another.
pub(crate) const PER_CONN: usize = 8;

/// Most expectations of a tracker.
pub const MAX_EXPECTED: u32 = 65_536;

/// How long an expectation waits for its next packet.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// An application protocol with connections that depend on others (`alg` of `ovs-actions(7)`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Helper {
    /// File Transfer Protocol (RFC 959, RFC 2428), over TCP.
    Ftp,
    /// Trivial File Transfer Protocol (RFC 1350), over UDP.
    Tftp,
}

impl Helper {
    /// All helpers.
    pub const ALL: [Helper; 2] = [Helper::Ftp, Helper::Tftp];

    /// The name in actions and dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Helper::Ftp => "ftp",
            Helper::Tftp => "tftp",
        }
    }

    /// IP protocol of its connections.
    pub(crate) const fn proto(self) -> u8 {
        match self {
            Helper::Ftp => ipproto::TCP,
            Helper::Tftp => ipproto::UDP,
        }
    }
}

/// "Connect to me": what a message asks of its receiver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// The address to connect to, if it names one.
    pub addr: Option<Named>,
    pub port: u16,
}

/// An address in a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub addr: IpAddr,
    /// Offset and length of its text in the payload.
    pub at: (u16, u16),
    /// `10,0,0,1` rather than `10.0.0.1`.
    pub commas: bool,
}

impl Named {
    /// Another address instead.
    fn replace(&self, addr: IpAddr) -> TextEdit {
        let mut text = ArrayString::new();
        // An address always fits.
        let _ = match addr {
            IpAddr::V4(a) if self.commas => {
                let [a, b, c, d] = a.octets();
                write!(text, "{a},{b},{c},{d}")
            }
            _ => write!(text, "{addr}"),
        };
        TextEdit { at: self.at.0, len: self.at.1, text }
    }
}

/// What is to be changed in a packet of a control connection, besides its translation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// To be added to the sequence number.
    pub seq: u32,
    /// A text within the payload that another replaces.
    pub text: Option<TextEdit>,
    /// What moved the numbers that the packet acknowledges.
    acked: Shifts,
}

impl Edit {
    /// The number that has to stand in the packet for one that it acknowledges, be it in the header
    /// or in an option (RFC 2018).
    pub fn ack(&self, ack: u32) -> u32 {
        self.acked.sent(ack)
    }
}

/// A text that replaces another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TextEdit {
    /// Offset in the payload.
    pub at: u16,
    /// Bytes that go.
    pub len: u16,
    /// What comes instead: an address.
    pub text: ArrayString<45>,
}

/// What a control connection remembers.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub helper: Helper,
    /// By direction: how the numbers of what was sent are moved.
    pub shifts: [Shifts; 2],
    /// By direction: where lines begin.
    lines: [Lines; 2],
    /// What is expected because of it, oldest first.
    pub expected: ArrayVec<ExpectId, PER_CONN>,
}

impl Watch {
    pub fn new(helper: Helper) -> Watch {
        Watch {
            helper,
            shifts: Default::default(),
            lines: Default::default(),
            expected: ArrayVec::new(),
        }
    }
}

/// Where in a stream lines begin, as far as segments end with a line.
///
/// A text that looks like a message may stand in the middle of a line, and who can make the other end
/// send short segments could make one of them begin with it.
#[derive(Copy, Clone, Debug, Default)]
struct Lines {
    /// The last two beginnings: the older for a retransmission.
    begins: [u32; 2],
    known: bool,
}

impl Lines {
    fn begins_at(&self, seq: u32) -> bool {
        !self.known || self.begins.contains(&seq)
    }

    fn note(&mut self, seq: u32, payload: &[u8]) {
        if payload.last() != Some(&b'\n') {
            // From the first segment on it counts where it began.
            if !self.known {
                (self.begins, self.known) = ([seq; 2], true);
            }
            return;
        }
        let end = seq.wrapping_add(payload.len() as u32);
        if !self.known {
            (self.begins, self.known) = ([seq, end], true);
        } else if end.wrapping_sub(self.begins[1]) as i32 > 0 {
            self.begins = [self.begins[1], end];
        }
    }
}
