//! A blocking OVSDB client for tools: connect, call, transact, wait for notifications.
//!
//! It works against any OVSDB server. While it waits it answers the server's `echo` requests, and
//! keeps notifications that arrive in the middle for [`Client::notification`]. One thread owns a
//! client; a deadline set with [`Client::set_deadline`] bounds every wait.

mod idl;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use idl::Idl;

use crate::error::Error;
use crate::jsonrpc::{Framer, Limits, Message, StreamError};
use crate::remote::Remote;
use crate::schema::DbSchema;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket could not be opened, or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("connection closed by the server")]
    Closed,
    /// The deadline passed.
    #[error("timed out")]
    TimedOut,
    /// The server sent something that is no JSON-RPC.
    #[error("{0}")]
    Stream(#[from] StreamError),
    /// The server answered with an error: the JSON of it.
    #[error("{0}")]
    Remote(Value),
    /// The server's answer has a form this client does not understand.
    #[error("unexpected answer to {method}: {what}")]
    Answer {
        /// The method that was called.
        method: &'static str,
        /// What was received.
        what: String,
    },
    /// The address cannot be used to connect.
    #[error("{0}")]
    Address(String),
}

impl ClientError {
    /// The error number of the operating system, if it came from there.
    pub fn raw_os_error(&self) -> Option<i32> {
        if let ClientError::Io(e) = self { e.raw_os_error() } else { None }
    }
}

/// What a server says without being asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// `update`, `update2`, `update3`, `locked`, `stolen`, `monitor_canceled` …
    pub method: String,
    /// Its arguments.
    pub params: Vec<Value>,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Stream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(s) => s.set_read_timeout(timeout),
            Stream::Tcp(s) => s.set_read_timeout(timeout),
            Stream::Tls(s) => s.socket().set_read_timeout(timeout),
        }
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(s) => s.set_write_timeout(timeout),
            Stream::Tcp(s) => s.set_write_timeout(timeout),
            Stream::Tls(s) => s.socket().set_write_timeout(timeout),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.read(buf),
            Stream::Tcp(s) => s.read(buf),
            Stream::Tls(s) => s.read(buf),
        }
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        match self {
            Stream::Unix(s) => s.write_all(buf),
            Stream::Tcp(s) => s.write_all(buf),
            Stream::Tls(s) => s.write_all(buf),
        }
    }
}

/// A connection to an OVSDB server.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    framer: Framer,
    buf: Vec<u8>,
    next_id: u64,
    deadline: Option<Instant>,
    notifications: VecDeque<Notification>,
    /// Replies to requests that nobody waits for at the moment.
    replies: VecDeque<(Value, Result<Value, Value>)>,
}

impl Client {
    /// Connects to `remote`. With a `deadline`, it holds for the connection and all calls. `keys` are
    /// those of TLS.
    ///
    /// # Errors
    /// [`ClientError::Io`] with the error of `connect`, or when a peer is not trusted;
    /// [`ClientError::Address`] for a remote that listens, or TLS without keys.
    pub fn connect(
        remote: &Remote,
        deadline: Option<Instant>,
        keys: Option<&tls::Context>,
    ) -> Result<Client, ClientError> {
        let stream = match remote {
            Remote::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Remote::Tcp(host, port) => {
                let stream = connect_tcp(host, *port, deadline)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Remote::Ssl(host, port) => {
                let keys = keys.ok_or_else(|| {
                    let text = "Private key must be configured to use SSL/TLS";
                    ClientError::Address(format!("{remote}: {text}"))
                })?;
                let stream = connect_tcp(host, *port, deadline)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(remaining(deadline)?)?;
                Stream::Tls(Box::new(tls::Stream::connect(keys, host, stream)?))
            }
            Remote::PassiveUnix(_) | Remote::PassiveTcp(..) | Remote::PassiveSsl(..) => {
                return Err(ClientError::Address(format!(
                    "{remote}: this address listens, it cannot be connected to"
                )));
            }
        };
        Ok(Client {
            stream,
            framer: Framer::new(Limits::default()),
            buf: vec![0; 64 << 10],
            next_id: 0,
            deadline,
            notifications: VecDeque::new(),
            replies: VecDeque::new(),
        })
    }

    /// Sets until when calls may wait; `None` for ever.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Sends a request and returns its id, to be waited for with [`Client::reply`].
    ///
    /// # Errors
    /// If the connection breaks or the deadline passes.
    pub fn request(&mut self, method: &str, params: Vec<Value>) -> Result<Value, ClientError> {
        let id = json!(self.next_id);
        self.next_id += 1;
        self.send(Message::Request { id: id.clone(), method: method.into(), params })?;
        Ok(id)
    }

    /// Sends a notification (`cancel`).
    ///
    /// # Errors
    /// If the connection breaks or the deadline passes.
    pub fn notify(&mut self, method: &str, params: Vec<Value>) -> Result<(), ClientError> {
        self.send(Message::Notification { method: method.into(), params })
    }

    /// Waits for the reply of the request `id`.
    ///
    /// # Errors
    /// [`ClientError::Remote`] if the reply is an error; others if none comes.
    pub fn reply(&mut self, id: &Value) -> Result<Value, ClientError> {
        loop {
            if let Some(i) = self.replies.iter().position(|(reply, _)| reply == id)
                && let Some((_, result)) = self.replies.remove(i)
            {
                return result.map_err(ClientError::Remote);
            }
            self.receive(self.deadline)?;
        }
    }

    /// Calls `method` and waits for the result.
    ///
    /// # Errors
    /// As [`Client::request`] and [`Client::reply`].
    pub fn call(&mut self, method: &str, params: Vec<Value>) -> Result<Value, ClientError> {
        let id = self.request(method, params)?;
        self.reply(&id)
    }

    /// Names of the databases of the server.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn list_dbs(&mut self) -> Result<Vec<String>, ClientError> {
        let result = self.call("list_dbs", vec![])?;
        serde_json::from_value(result.clone())
            .map_err(|_| ClientError::Answer { method: "list_dbs", what: result.to_string() })
    }

    /// The schema of database `db`.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientError::Answer`] for a schema that is not valid.
    pub fn get_schema(&mut self, db: &str) -> Result<DbSchema, ClientError> {
        let result = self.call("get_schema", vec![json!(db)])?;
        DbSchema::parse_json(&result)
            .map_err(|e| ClientError::Answer { method: "get_schema", what: e.to_string() })
    }

    /// Runs a transaction; the result has an element for every operation, and one more, an
    /// `<error>`, if the commit failed. See [`transaction_error`].
    ///
    /// # Errors
    /// As [`Client::call`]. An operation that fails is no error here.
    pub fn transact(&mut self, db: &str, ops: Vec<Value>) -> Result<Vec<Value>, ClientError> {
        let params = std::iter::once(json!(db)).chain(ops).collect();
        match self.call("transact", params)? {
            Value::Array(results) => Ok(results),
            other => Err(ClientError::Answer { method: "transact", what: other.to_string() }),
        }
    }

    /// The next notification; `None` if none comes until `until` (or the deadline).
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn notification(
        &mut self,
        until: Option<Instant>,
    ) -> Result<Option<Notification>, ClientError> {
        let until = match (until, self.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(Some(notification));
            }
            match self.receive(until) {
                Err(ClientError::TimedOut) => return Ok(None),
                other => other?,
            }
        }
    }

    /// A notification that has arrived already, without waiting.
    pub fn take_notification(&mut self) -> Option<Notification> {
        self.notifications.pop_front()
    }

    fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.stream.set_write_timeout(remaining(self.deadline)?)?;
        self.stream.write_all(&message.into_bytes()).map_err(timeout_or_io)
    }

    /// Waits for one message and files it.
    fn receive(&mut self, until: Option<Instant>) -> Result<(), ClientError> {
        let value = loop {
            if let Some(value) = self.framer.next_value()? {
                break value;
            }
            self.stream.set_read_timeout(remaining(until)?)?;
            match self.stream.read(&mut self.buf) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(n) => self.framer.push(&self.buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(timeout_or_io(e)),
            }
        };
        match Message::from_json(value)? {
            Message::Reply { id, result } => self.replies.push_back((id, Ok(result))),
            Message::Error { id, error } => self.replies.push_back((id, Err(error))),
            Message::Notification { method, params } => {
                self.notifications.push_back(Notification { method, params });
            }
            Message::Request { id, method, params } if method == "echo" => {
                self.send(Message::echo_reply(id, params))?;
            }
            Message::Request { id, method, .. } => {
                let error = Error::new("unknown method", format!("client has no method {method}"));
                self.send(Message::Error { id, error: error.to_json() })?;
            }
        }
        Ok(())
    }

    /// Ends the connection for both directions.
    pub fn close(self) {
        // The peer may have closed it first; then there is nothing to do.
        let _ = match &self.stream {
            Stream::Unix(s) => s.shutdown(Shutdown::Both),
            Stream::Tcp(s) => s.shutdown(Shutdown::Both),
            Stream::Tls(s) => s.socket().shutdown(Shutdown::Both),
        };
    }
}

/// The time left, which as a socket timeout must not be zero.
fn remaining(until: Option<Instant>) -> Result<Option<Duration>, ClientError> {
    let Some(until) = until else { return Ok(None) };
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ClientError::TimedOut) } else { Ok(Some(left)) }
}

fn timeout_or_io(e: io::Error) -> ClientError {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut,
        _ => ClientError::Io(e),
    }
}

fn connect_tcp(host: &str, port: u16, deadline: Option<Instant>) -> Result<TcpStream, ClientError> {
    let mut last = None;
    for addr in (host, port).to_socket_addrs()? {
        let attempt = match remaining(deadline)? {
            Some(left) => TcpStream::connect_timeout(&addr, left),
            None => TcpStream::connect(addr),
        };
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(e) => last = Some(e),
        }
    }
    Err(last.map_or_else(|| ClientError::Address(format!("{host}: no address")), timeout_or_io))
}

/// The first error in the results of `transact`, with the number of its operation.
///
/// Operations behind a failed one have the result `null`; an error behind all operations is one of
/// the commit as a whole.
pub fn transaction_error(results: &[Value]) -> Option<(usize, Error)> {
    results.iter().enumerate().find_map(|(i, result)| Some((i, Error::from_json(result)?)))
}
