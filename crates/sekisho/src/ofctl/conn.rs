//! A connection that speaks OpenFlow: hello, requests and their replies, one after the other.
//!
//! Transaction ids count up over all connections of the process, as they do in OVS's tool.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use openflow::message::{Body, Kind, Message, Session as Agreed, frame_len, hello};
use openflow::print::{BytesText, Style};
use openflow::version::Version;

use super::Tool;
use super::names::Names;
use super::target::{Stream, Target};
use crate::applet::Failure;
use crate::control::{log_warn, strerror};

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

/// Requests in one go: few enough that the errors of all of them fit the socket's buffer.
const WINDOW: usize = 256;

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
                let n = tool.next_log();
                log_warn(tool.session.err, n, "vconn", &text);
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
        self.stream.write_all(&bytes).map_err(|e| self.broke(&e))
    }

    /// Sends messages that are encoded already.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A switch that reads slowly is waited for.
        let sent = self.stream.set_nonblocking(false).and_then(|()| self.stream.write_all(bytes));
        sent.and_then(|()| self.stream.set_nonblocking(self.nonblocking))
            .map_err(|e| self.broke(&e))
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
        self.stream.write_all(&bytes).map_err(|e| self.broke(&e))?;
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

    /// Sends encoded requests that are answered only if they fail, and gives the first error, after which
    /// no more are sent. `xid` numbers requests and barriers. As OVS's tool waits for each request before the next,
    /// every request has a barrier behind it there; here there is one behind many, and while they are done
    /// the next are written.
    ///
    /// # Errors
    /// The connection broke; a request cannot be said in its version.
    pub fn change_many(
        &mut self,
        requests: impl Iterator<Item = Result<Vec<u8>, Failure>>,
        mut xid: impl FnMut() -> u32,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut requests = requests.peekable();
        let mut bytes = Vec::new();
        // The barrier of the requests that are being done.
        let mut waiting: Option<u32> = None;
        while waiting.is_some() || requests.peek().is_some() {
            let mut barrier = None;
            for request in requests.by_ref().take(WINDOW) {
                let start = bytes.len();
                bytes.extend(request?);
                set_xid(&mut bytes[start..], xid());
                barrier = Some(xid());
            }
            if let Some(xid) = barrier {
                let message = Message::new(self.version, xid, Body::BarrierRequest);
                message.encode_into(self.agreed, &mut bytes).map_err(fatal)?;
                self.stream.write_all(&bytes).map_err(|e| self.broke(&e))?;
                bytes.clear();
            }
            if let Some(waited) = waiting {
                let mut error = None;
                loop {
                    let answer = self.next(true)?;
                    if xid_of(&answer) == waited {
                        break;
                    }
                    if Message::peek_kind(&answer).is_some_and(|k| k.0 == Kind::Error) {
                        error.get_or_insert(answer);
                    }
                }
                if error.is_some() {
                    return Ok(error);
                }
            }
            waiting = barrier;
        }
        Ok(None)
    }

    /// Bytes of this connection as text.
    pub fn text(&self, bytes: &[u8], names: Option<&Names>, verbosity: u8) -> String {
        let style = Style { names: Names::or_none(names), verbosity, session: self.agreed };
        BytesText { bytes, style }.to_string()
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
