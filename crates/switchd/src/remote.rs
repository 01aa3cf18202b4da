//! Where the other end of a connection is: `tcp:HOST[:PORT]`, `ptcp:[PORT][:HOST]`, `unix:PATH`,
//! `punix:PATH`, and `ssl:`/`pssl:`, which are `tcp:`/`ptcp:` with TLS.
//!
//! The same words name OpenFlow controllers and OVSDB managers; they differ in the default port.
//! A [`Stream`] and a [`Listener`] are of either kind of socket. The keys of TLS are in [`Keys`],
//! which all connections share: a connection that is made after they changed uses the new ones.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::{Duration, SystemTime};

use tls::{Ca, Context, Files};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::control;

/// IANA's port of OpenFlow.
pub const OPENFLOW_PORT: u16 = 6653;
/// IANA's port of OVSDB.
pub const OVSDB_PORT: u16 = 6640;

/// A connection method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Connect to this host and port.
    Tcp(String, u16),
    /// Listen on this port of this address.
    Ptcp(IpAddr, u16),
    /// Connect to this socket.
    Unix(PathBuf),
    /// Listen on this socket.
    Punix(PathBuf),
    /// Connect to this host and port with TLS.
    Ssl(String, u16),
    /// Listen for TLS on this port of this address.
    Pssl(IpAddr, u16),
}

/// Why a target is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The word before the colon.
    #[error(
        "{0}: no connection method; say tcp:HOST[:PORT], ptcp:[PORT][:IP], ssl:HOST[:PORT], \
         pssl:[PORT][:IP], unix:PATH or punix:PATH"
    )]
    Method(String),
    /// The port.
    #[error("{0}: {1} is not a port number")]
    Port(String, String),
    /// The address to listen on.
    #[error("{0}: {1} is not an IP address")]
    Address(String, String),
    /// Nothing after the colon.
    #[error("{0}: nowhere to connect to")]
    Empty(String),
}

impl Remote {
    /// Reads a target. `port` is the one that is meant when none is said.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(target: &str, port: u16) -> Result<Remote, ParseError> {
        let all = || target.to_owned();
        let (method, rest) = target.split_once(':').ok_or_else(|| ParseError::Method(all()))?;
        let number = |text: &str| match text {
            "" => Ok(port),
            _ => text.parse().map_err(|_| ParseError::Port(all(), text.to_owned())),
        };
        match method {
            "tcp" | "ssl" => {
                let (host, tail) = host(rest);
                if host.is_empty() {
                    return Err(ParseError::Empty(all()));
                }
                let make = if method == "tcp" { Remote::Tcp } else { Remote::Ssl };
                Ok(make(host.to_owned(), number(tail)?))
            }
            "ptcp" | "pssl" => {
                let (p, address) = rest.split_once(':').unwrap_or((rest, ""));
                let ip = address.trim_start_matches('[').trim_end_matches(']');
                let ip = match ip {
                    "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    _ => ip.parse().map_err(|_| ParseError::Address(all(), ip.to_owned()))?,
                };
                let make = if method == "ptcp" { Remote::Ptcp } else { Remote::Pssl };
                Ok(make(ip, number(p)?))
            }
            "unix" | "punix" if rest.is_empty() => Err(ParseError::Empty(all())),
            "unix" => Ok(Remote::Unix(rest.into())),
            "punix" => Ok(Remote::Punix(rest.into())),
            _ => Err(ParseError::Method(all())),
        }
    }

    /// Whether the other end connects to us.
    pub fn is_passive(&self) -> bool {
        matches!(self, Remote::Ptcp(..) | Remote::Punix(_) | Remote::Pssl(..))
    }
}

/// Host, which may be an IPv6 address in brackets, and what follows its colon.
fn host(text: &str) -> (&str, &str) {
    if let Some((host, tail)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return (host, tail.strip_prefix(':').unwrap_or(tail));
    }
    text.split_once(':').unwrap_or((text, ""))
}

/// The keys and certificates of all connections, as the SSL table or the command line has them.
#[derive(Clone, Debug, Default)]
pub struct Keys(Rc<RefCell<KeysInner>>);

#[derive(Debug, Default)]
struct KeysInner {
    files: Option<Files>,
    /// What the files made, and when they were last changed then.
    loaded: Option<(Context, Stamps)>,
}

/// When the key, the certificate and the CA's were last changed.
type Stamps = [Option<SystemTime>; 3];

impl Keys {
    /// Uses other files from now on.
    pub fn set(&self, files: Option<Files>) {
        let mut inner = self.0.borrow_mut();
        if inner.files != files {
            *inner = KeysInner { files, loaded: None };
        }
    }

    /// What the files make now: they are read again when they have changed.
    fn context(&self) -> io::Result<Context> {
        let inner = &mut *self.0.borrow_mut();
        let Some(files) = &inner.files else {
            let text = "Private key must be configured to use SSL";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let ca = match &files.ca {
            Ca::File(path) | Ca::Bootstrap(path) => changed(path),
            Ca::None => None,
        };
        let stamps = [changed(&files.private_key), changed(&files.certificate), ca];
        if let Some((context, _)) = inner.loaded.as_ref().filter(|l| l.1 == stamps) {
            return Ok(context.clone());
        }
        let context = Context::load(files)?;
        inner.loaded = Some((context.clone(), stamps));
        Ok(context)
    }
}

/// Time that a peer has for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Waits for a handshake, which a peer that says nothing would hold up for ever.
async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out")),
    }
}

/// What happened, in the words of `strerror(3)`.
pub fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over TCP with TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to an active remote.
    ///
    /// # Errors
    /// The host is unknown, nobody listens, it is not allowed; there are no keys, or the peer is
    /// not trusted.
    pub async fn connect(remote: &Remote, keys: &Keys) -> io::Result<Stream> {
        let tcp = async |host: &str, port: u16| {
            let s = TcpStream::connect((host, port)).await?;
            s.set_nodelay(true)?;
            Ok::<_, io::Error>(s)
        };
        match remote {
            Remote::Tcp(host, port) => tcp(host, *port).await.map(Stream::Tcp),
            Remote::Ssl(host, port) => {
                let context = keys.context()?;
                let socket = tcp(host, *port).await?;
                let connector = TlsConnector::from(context.client());
                let s = in_time(connector.connect(Context::server_name(host), socket)).await?;
                context.handshaken(s.get_ref().1.peer_certificates())?;
                Ok(Stream::Tls(Box::new(s.into())))
            }
            Remote::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Remote::Ptcp(..) | Remote::Pssl(..) | Remote::Punix(_) => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A socket that peers connect to. A unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of TCP with TLS.
    Tls(TcpListener, Keys),
    /// A unix socket and its file.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens where a passive remote says.
    ///
    /// # Errors
    /// The address is not ours or in use, or it is not allowed.
    pub async fn bind(remote: &Remote, keys: &Keys) -> io::Result<Listener> {
        match remote {
            Remote::Ptcp(ip, port) => TcpListener::bind((*ip, *port)).await.map(Listener::Tcp),
            Remote::Pssl(ip, port) => {
                let listener = TcpListener::bind((*ip, *port)).await?;
                Ok(Listener::Tls(listener, keys.clone()))
            }
            Remote::Punix(path) => Listener::unix(path),
            Remote::Tcp(..) | Remote::Ssl(..) | Remote::Unix(_) => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Listens on a unix socket, replacing one that a dead daemon left there.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn unix(path: &Path) -> io::Result<Listener> {
        Ok(Listener::Unix(control::listen(path)?, path.to_owned()))
    }

    /// The next peer. Its handshake, if there is one, is still to be done, apart from this
    /// listener: [`Peer::open`].
    ///
    /// # Errors
    /// Out of descriptors, most likely.
    pub async fn accept(&self) -> io::Result<Peer> {
        let (stream, keys) = match self {
            Listener::Tcp(l) => (Stream::Tcp(l.accept().await?.0), None),
            Listener::Tls(l, keys) => (Stream::Tcp(l.accept().await?.0), Some(keys.clone())),
            Listener::Unix(l, _) => (Stream::Unix(l.accept().await?.0), None),
        };
        Ok(Peer { stream, keys })
    }

    /// The TCP port it has.
    pub fn port(&self) -> Option<u16> {
        match self {
            Listener::Tcp(l) | Listener::Tls(l, _) => Some(l.local_addr().ok()?.port()),
            Listener::Unix(..) => None,
        }
    }
}

/// Somebody who connected.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    /// For TLS.
    keys: Option<Keys>,
}

impl Peer {
    /// How it connected, as a connection method.
    pub fn kind(&self) -> &'static str {
        match (&self.stream, &self.keys) {
            (Stream::Unix(_), _) => "unix",
            (_, None) => "tcp",
            (_, Some(_)) => "ssl",
        }
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// There are no keys, the peer is not trusted, or it does not finish in time.
    pub async fn open(self) -> io::Result<Stream> {
        if let Stream::Tcp(s) = &self.stream {
            s.set_nodelay(true)?;
        }
        match (self.stream, self.keys) {
            (Stream::Tcp(socket), Some(keys)) => {
                let acceptor = TlsAcceptor::from(keys.context()?.server()?);
                let s = in_time(acceptor.accept(socket)).await?;
                Ok(Stream::Tls(Box::new(s.into())))
            }
            (stream, _) => Ok(stream),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A target that is only for the log.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self {
            Remote::Tcp(..) => "tcp",
            Remote::Ptcp(..) => "ptcp",
            Remote::Ssl(..) => "ssl",
            Remote::Pssl(..) => "pssl",
            Remote::Unix(path) => return write!(f, "unix:{}", path.display()),
            Remote::Punix(path) => return write!(f, "punix:{}", path.display()),
        };
        match self {
            Remote::Tcp(host, port) | Remote::Ssl(host, port) if host.contains(':') => {
                write!(f, "{method}:[{host}]:{port}")
            }
            Remote::Tcp(host, port) | Remote::Ssl(host, port) => {
                write!(f, "{method}:{host}:{port}")
            }
            Remote::Ptcp(ip, port) | Remote::Pssl(ip, port) => write!(f, "{method}:{port}:{ip}"),
            Remote::Unix(_) | Remote::Punix(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let tcp = |h: &str, p| Ok(Remote::Tcp(h.into(), p));
        for (text, want) in [
            ("tcp:10.0.0.1", tcp("10.0.0.1", 6653)),
            ("tcp:10.0.0.1:99", tcp("10.0.0.1", 99)),
            ("tcp:[::1]", tcp("::1", 6653)),
            ("tcp:[::1]:99", tcp("::1", 99)),
            ("ptcp:", Ok(Remote::Ptcp(any, 6653))),
            ("ptcp:0", Ok(Remote::Ptcp(any, 0))),
            ("ptcp::127.0.0.1", Ok(Remote::Ptcp(Ipv4Addr::LOCALHOST.into(), 6653))),
            ("ptcp:7:[::1]", Ok(Remote::Ptcp(std::net::Ipv6Addr::LOCALHOST.into(), 7))),
            ("unix:/a", Ok(Remote::Unix("/a".into()))),
            ("punix:a:b", Ok(Remote::Punix("a:b".into()))),
            ("ssl:1.2.3.4", Ok(Remote::Ssl("1.2.3.4".into(), 6653))),
            ("pssl:", Ok(Remote::Pssl(any, 6653))),
            ("pssl:9:::1", Ok(Remote::Pssl(std::net::Ipv6Addr::LOCALHOST.into(), 9))),
            ("ssl:", Err(ParseError::Empty("ssl:".into()))),
            ("tcp:", Err(ParseError::Empty("tcp:".into()))),
            ("unix:", Err(ParseError::Empty("unix:".into()))),
            ("tcp", Err(ParseError::Method("tcp".into()))),
            ("udp:1", Err(ParseError::Method("udp:1".into()))),
            ("tcp:a:70000", Err(ParseError::Port("tcp:a:70000".into(), "70000".into()))),
            ("ptcp:1:x", Err(ParseError::Address("ptcp:1:x".into(), "x".into()))),
        ] {
            assert_eq!(Remote::parse(text, OPENFLOW_PORT), want, "{text}");
        }
    }

    #[test]
    fn reasons_are_short() {
        let e = io::Error::from_raw_os_error(111);
        assert_eq!(reason(&e), "Connection refused");
        let none = Keys::default().context().map(drop).unwrap_err();
        assert_eq!(reason(&none), "Private key must be configured to use SSL");
    }
}
