//! A connection that speaks OpenFlow: hello, requests and their replies, one after the other.
//!
//! Transaction ids count up over all connections of the process, as they do in OVS's tool.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use openflow::message::{
    Body, BundleCtrl, Kind, Message, Session as Agreed, add_to_bundle, bundle_flag, frame_len,
    hello,
};
use openflow::print::{BytesText, Style};
use openflow::version::Version;
use switchd::vlog::{self, Level, Module};

use super::Tool;
use super::names::Names;
use super::target::{Stream, Target};
use crate::applet::Failure;
use crate::control::strerror;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    /// What it was asked for as.
    pub asked: String,
    /// What the connection is called in errors: `unix:PATH` or `tcp:HOST:PORT`.
    pub name: String,
    /// The negotiated version.
    pub version: Version,
    /// How flow mods are read and written.
    pub agreed: Agreed,
    /// Room for one read.
    buf: Box<[u8]>,
    unread: Vec<u8>,
    queue: VecDeque<Vec<u8>>,
    nonblocking: bool,
}

impl std::os::fd::AsFd for Conn {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Requests that are not worth a bundle.
const FEW: usize = 64;
/// Requests in a bundle: few enough that the errors of all of them fit the socket's buffer.
const BUNDLED: usize = 256;

/// What became of a bundle.
enum Bundled {
    Done,
    /// Nothing was done: the request with this number was refused.
    Refused(usize),
    /// Nothing was done: the switch does not know bundles, or not such.
    Unknown,
}

fn is_error(bytes: &[u8]) -> bool {
    Message::peek_kind(bytes).is_some_and(|k| k.0 == Kind::Error)
}

/// How a target was connected to: a flow of messages, or a snoop on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// `.mgmt`
    Management,
    /// `.snoop`
    Snoop,
}

impl Conn {
    /// Connects to what `text` names and agrees on one of the tool's versions.
    ///
    /// # Errors
    /// Nobody there, or no version in common.
    pub fn open(tool: &mut Tool<'_, '_>, text: &str, socket: Socket) -> Result<Self, Failure> {
        let suffix = if socket == Socket::Snoop { "snoop" } else { "mgmt" };
        let target = Target::find(text, suffix)?;
        let stream = target.connect(tool.settings.keys.as_ref()).map_err(|e| {
            let why = strerror(&e);
            match text.contains(':') {
                true => Failure::fatal(format!("connecting to {text} ({why})")),
                false => Failure::fatal(format!("{text}: failed to connect to socket ({why})")),
            }
        })?;
        let mut conn = Self {
            stream,
            asked: text.to_owned(),
            name: target.to_string(),
            version: Version::Of10,
            agreed: Agreed::default(),
            buf: vec![0; 64 << 10].into(),
            unread: Vec::new(),
            queue: VecDeque::new(),
            nonblocking: false,
        };
        conn.negotiate(tool).map_err(|e| {
            let why = match e.kind() {
                io::ErrorKind::InvalidData => "Protocol error".to_owned(),
                io::ErrorKind::UnexpectedEof => "End of file".to_owned(),
                _ => strerror(&e),
            };
            match text.contains(':') {
                true => Failure::fatal(format!("connecting to {text} ({why})")),
                false => Failure::fatal(format!("{text}: failed to connect to socket ({why})")),
            }
        })?;
        Ok(conn)
    }

    fn negotiate(&mut self, tool: &mut Tool<'_, '_>) -> io::Result<()> {
        let ours = tool.settings.versions;
        let mine = hello(tool.next_xid(), ours).encode(self.agreed).map_err(invalid)?;
        self.stream.write_all(&mine)?;
        let Message { body: Body::Hello(theirs), .. } =
            Message::decode(&self.recv()?, self.agreed).map_err(invalid)?
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match Version::highest(ours & theirs) {
            Some(version) => {
                self.version = version;
                Ok(())
            }
            None => {
                let text = format!(
                    "{}: version negotiation failed (we support {}, peer supports {})",
                    self.name,
                    versions_text(ours),
                    versions_text(theirs)
                );
                switchd::log!(Warn, Vconn, "{text}");
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// A message of this connection's version.
    pub fn message(&self, xid: u32, body: Body) -> Message {
        Message::new(self.version, xid, body)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The version cannot say it, or the connection broke.
    pub fn send(&mut self, message: &Message) -> Result<(), Failure> {
        let bytes = message.encode(self.agreed).map_err(|e| Failure::fatal(e.to_string()))?;
        self.put(&bytes)
    }

    /// Sends messages that are encoded already.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A switch that reads slowly is waited for.
        self.stream.set_nonblocking(false).map_err(|e| self.broke(&e))?;
        self.put(bytes)?;
        self.stream.set_nonblocking(self.nonblocking).map_err(|e| self.broke(&e))
    }

    /// Writes messages.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|e| self.broke(&e))?;
        if vlog::enabled(Module::Vconn, Level::Dbg) {
            let mut rest = bytes;
            while let Some(message) = frame_len(rest).ok().flatten().and_then(|len| rest.get(..len))
            {
                let text = self.text(message, None, 1);
                switchd::log!(Dbg, Vconn, "{}: sent (Success): {text}", self.name);
                rest = &rest[message.len()..];
            }
        }
        Ok(())
    }

    /// Whether [`Conn::try_next`] gives `None` instead of waiting.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_nonblocking(&mut self, nonblocking: bool) -> Result<(), Failure> {
        self.nonblocking = nonblocking;
        self.stream.set_nonblocking(nonblocking).map_err(|e| self.broke(&e))
    }

    /// The next message if it is there, as bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn try_next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.recv() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(self.broke(&e)),
        }
    }

    /// Answers a question whether we are there.
    ///
    /// # Errors
    /// The connection broke.
    pub fn answer_echo(&mut self, question: &[u8]) -> Result<(), Failure> {
        let reply = Body::EchoReply(question[8..].to_vec());
        let reply = Message::new(self.version, xid_of(question), reply);
        let bytes = reply.encode(self.agreed).map_err(|e| Failure::fatal(e.to_string()))?;
        self.send_bytes(&bytes)
    }

    /// The connection broke.
    pub fn broke(&self, e: &io::Error) -> Failure {
        let why = match e.kind() {
            io::ErrorKind::UnexpectedEof => "End of file".to_owned(),
            io::ErrorKind::InvalidData => "Protocol error".to_owned(),
            _ => strerror(e),
        };
        Failure::fatal(format!("talking to {} ({why})", self.name))
    }

    /// The next message, as bytes.
    fn recv(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                if vlog::enabled(Module::Vconn, Level::Dbg) {
                    let text = self.text(&message, None, 1);
                    switchd::log!(Dbg, Vconn, "{}: received: {text}", self.name);
                }
                return Ok(message);
            }
            let n = match self.stream.read(&mut self.buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.unread.extend_from_slice(&self.buf[..n]);
            let mut at = 0;
            while let Some(len) = frame_len(&self.unread[at..]).map_err(invalid)? {
                let Some(frame) = self.unread.get(at..at + len) else { break };
                self.queue.push_back(frame.to_vec());
                at += len;
            }
            self.unread.drain(..at);
        }
    }

    /// The next message, as bytes; a question whether we are there is answered first.
    ///
    /// # Errors
    /// The connection broke.
    pub fn next(&mut self, answer: bool) -> Result<Vec<u8>, Failure> {
        let bytes = self.recv().map_err(|e| self.broke(&e))?;
        if answer && Message::peek_kind(&bytes).is_some_and(|k| k.0 == Kind::EchoRequest) {
            self.answer_echo(&bytes)?;
        }
        Ok(bytes)
    }

    /// Sends a request and waits for its reply; what else comes meanwhile is dropped.
    ///
    /// # Errors
    /// The connection broke.
    pub fn transact(&mut self, request: &Message) -> Result<Vec<u8>, Failure> {
        self.send(request)?;
        self.reply(request.xid)
    }

    /// The next message with a transaction id; what else comes meanwhile is dropped.
    ///
    /// # Errors
    /// The connection broke.
    pub fn reply(&mut self, xid: u32) -> Result<Vec<u8>, Failure> {
        loop {
            let bytes = self.next(true)?;
            if xid_of(&bytes) == xid {
                return Ok(bytes);
            }
        }
    }

    /// All parts of the reply to a request.
    ///
    /// # Errors
    /// The connection broke, or a part is none.
    pub fn ask_all(&mut self, request: &Message) -> Result<Vec<Message>, Failure> {
        self.send(request)?;
        let mut parts = Vec::new();
        loop {
            let bytes = self.reply(request.xid)?;
            let part = self.decode(&bytes)?;
            let more = part.more;
            parts.push(part);
            if !more {
                return Ok(parts);
            }
        }
    }

    /// The decoded reply to a request.
    ///
    /// # Errors
    /// The connection broke, or the reply is none.
    pub fn ask(&mut self, xid: u32, body: Body) -> Result<Message, Failure> {
        let request = self.message(xid, body);
        let bytes = self.transact(&request)?;
        self.decode(&bytes)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(&self, bytes: &[u8]) -> Result<Message, Failure> {
        Message::decode(bytes, self.agreed)
            .map_err(|e| Failure::fatal(format!("talking to {}: {e}", self.name)))
    }

    /// Sends a request that is answered only if it fails, and a barrier; gives the error if there is one.
    ///
    /// # Errors
    /// The connection broke.
    pub fn change(
        &mut self,
        request: &Message,
        barrier_xid: u32,
    ) -> Result<Option<Vec<u8>>, Failure> {
        // Both at once: the switch is woken once for them.
        let mut bytes = request.encode(self.agreed).map_err(fatal)?;
        let barrier = Message::new(self.version, barrier_xid, Body::BarrierRequest);
        barrier.encode_into(self.agreed, &mut bytes).map_err(fatal)?;
        self.put(&bytes)?;
        let mut answer = None;
        loop {
            let bytes = self.next(true)?;
            match xid_of(&bytes) {
                x if x == barrier_xid => return Ok(answer),
                x if x == request.xid => answer = Some(bytes),
                _ => {}
            }
        }
    }

    /// Sends encoded requests that are answered only if they fail, in order, and gives the first error with
    /// the place of its request in the list: what is before it was done, what is behind it was not.
    /// `xid` numbers messages.
    ///
    /// Few are sent one after the other, each with a barrier, as OVS's tool does. To wait for each of many
    /// takes ten times as long, so these are bundled, if the switch knows bundles: one with a request that is
    /// refused changes nothing, and what stood before the refused one is bundled again.
    ///
    /// # Errors
    /// The connection broke.
    pub fn change_many(
        &mut self,
        mut requests: Vec<Vec<u8>>,
        mut xid: impl FnMut() -> u32,
    ) -> Result<Option<(usize, Vec<u8>)>, Failure> {
        let mut bundles = requests.len() > FEW;
        let (mut at, mut window) = (0, BUNDLED);
        while at < requests.len() {
            let end = (at + window).min(requests.len());
            if bundles && end - at > 1 {
                match self.bundle(&mut requests[at..end], &mut xid)? {
                    Bundled::Done => (at, window) = (end, BUNDLED),
                    Bundled::Refused(i) => window = i.max(1),
                    Bundled::Unknown => bundles = false,
                }
                continue;
            }
            if let Some(error) = self.change_encoded(&mut requests[at], &mut xid)? {
                return Ok(Some((at, error)));
            }
            (at, window) = (at + 1, BUNDLED);
        }
        Ok(None)
    }

    /// Sends one encoded request, and a barrier; gives the error if there is one.
    fn change_encoded(
        &mut self,
        request: &mut [u8],
        xid: &mut impl FnMut() -> u32,
    ) -> Result<Option<Vec<u8>>, Failure> {
        set_xid(request, xid());
        let barrier = xid();
        let mut bytes = request.to_vec();
        Message::new(self.version, barrier, Body::BarrierRequest)
            .encode_into(self.agreed, &mut bytes)
            .map_err(fatal)?;
        self.put(&bytes)?;
        let mut error = None;
        self.until(barrier, |answer| {
            if is_error(&answer) {
                error.get_or_insert(answer);
            }
        })?;
        Ok(error)
    }

    /// Sends encoded requests as a bundle.
    fn bundle(
        &mut self,
        requests: &mut [Vec<u8>],
        xid: &mut impl FnMut() -> u32,
    ) -> Result<Bundled, Failure> {
        const ID: u32 = 0;
        let flags = bundle_flag::ATOMIC | bundle_flag::ORDERED;
        let control = |kind| Body::BundleCtrl(BundleCtrl { id: ID, kind, flags });
        let open = xid();
        let mut bytes = self.message(open, control(0)).encode(self.agreed).map_err(fatal)?;
        let first = open.wrapping_add(1);
        for request in &mut *requests {
            let n = xid();
            set_xid(request, n);
            add_to_bundle(&mut bytes, self.version, n, (ID, flags), request).map_err(fatal)?;
        }
        let barrier = xid();
        let message = self.message(barrier, Body::BarrierRequest);
        message.encode_into(self.agreed, &mut bytes).map_err(fatal)?;
        self.put(&bytes)?;

        // Numbers of requests that were refused; `usize::MAX` for the bundle itself.
        let mut errors = Vec::new();
        let note = |errors: &mut Vec<usize>, answer: &[u8]| {
            if is_error(answer) {
                let i = xid_of(answer).wrapping_sub(first) as usize;
                errors.push(if i < requests.len() { i } else { usize::MAX });
            }
        };
        self.until(barrier, |answer| note(&mut errors, &answer))?;
        let end = xid();
        // A switch may keep a bundle without the messages that it refused.
        let wanted = if errors.is_empty() { 4 } else { 6 };
        self.send(&self.message(end, control(wanted)))?;
        let answer = self.until(end, |answer| note(&mut errors, &answer))?;
        note(&mut errors, &answer);
        Ok(match errors.into_iter().min() {
            None => Bundled::Done,
            Some(usize::MAX) => Bundled::Unknown,
            Some(i) => Bundled::Refused(i),
        })
    }

    /// Gives away what comes until the answer to a request, and gives that.
    fn until(&mut self, xid: u32, mut each: impl FnMut(Vec<u8>)) -> Result<Vec<u8>, Failure> {
        loop {
            let answer = self.next(true)?;
            if xid_of(&answer) == xid {
                return Ok(answer);
            }
            each(answer);
        }
    }

    /// Bytes of this connection as text.
    pub fn text(&self, bytes: &[u8], names: Option<&Names>, verbosity: u8) -> String {
        self.bytes_text(bytes, names, verbosity).to_string()
    }

    /// The same, still to be written.
    pub fn bytes_text<'a>(
        &self,
        bytes: &'a [u8],
        names: Option<&'a Names>,
        verbosity: u8,
    ) -> BytesText<'a> {
        let style = Style { names: Names::or_none(names), verbosity, session: self.agreed };
        BytesText { bytes, style }
    }
}

/// What the version of a connection cannot say.
pub fn fatal(e: openflow::error::EncodeError) -> Failure {
    Failure::fatal(e.to_string())
}

fn invalid(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

/// The transaction id in a header.
pub fn xid_of(bytes: &[u8]) -> u32 {
    bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Changes the transaction id in a header.
pub fn set_xid(bytes: &mut [u8], xid: u32) {
    if let Some(b) = bytes.get_mut(4..8) {
        b.copy_from_slice(&xid.to_be_bytes());
    }
}

/// `version 0x01`, or `versions 0x01, 0x04`.
fn versions_text(bitmap: u32) -> String {
    let list: Vec<String> =
        (0..32).filter(|b| bitmap & 1 << b != 0).map(|b| format!("0x{b:02x}")).collect();
    let plural = if list.len() == 1 { "" } else { "s" };
    format!("version{plural} {}", list.join(", "))
}
