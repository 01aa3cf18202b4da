//! Where the other end of a connection is: `tcp:HOST[:PORT]`, `ptcp:[PORT][:HOST]`, `unix:PATH`,
//! `punix:PATH`, and `ssl:`/`pssl:`, which are understood and refused until TLS is there.
//!
//! The same words name OpenFlow controllers and OVSDB managers; they differ in the default port.
//! A [`Stream`] and a [`Listener`] are of either kind of socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

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
    /// `ssl:` or `pssl:`.
    Tls {
        /// Whether it listens.
        passive: bool,
    },
}

/// Why a target is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The word before the colon.
    #[error(
        "{0}: no connection method; say tcp:HOST[:PORT], ptcp:[PORT][:IP], unix:PATH or punix:PATH"
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
            "tcp" => {
                let (host, tail) = host(rest);
                if host.is_empty() {
                    return Err(ParseError::Empty(all()));
                }
                Ok(Remote::Tcp(host.to_owned(), number(tail)?))
            }
            "ptcp" => {
                let (p, address) = rest.split_once(':').unwrap_or((rest, ""));
                let ip = address.trim_start_matches('[').trim_end_matches(']');
                let ip = match ip {
                    "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    _ => ip.parse().map_err(|_| ParseError::Address(all(), ip.to_owned()))?,
                };
                Ok(Remote::Ptcp(ip, number(p)?))
            }
            "unix" | "punix" if rest.is_empty() => Err(ParseError::Empty(all())),
            "unix" => Ok(Remote::Unix(rest.into())),
            "punix" => Ok(Remote::Punix(rest.into())),
            "ssl" | "pssl" => Ok(Remote::Tls { passive: method == "pssl" }),
            _ => Err(ParseError::Method(all())),
        }
    }

    /// Whether the other end connects to us.
    pub fn is_passive(&self) -> bool {
        matches!(self, Remote::Ptcp(..) | Remote::Punix(_) | Remote::Tls { passive: true })
    }
}

/// Host, which may be an IPv6 address in brackets, and what follows its colon.
fn host(text: &str) -> (&str, &str) {
    if let Some((host, tail)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return (host, tail.strip_prefix(':').unwrap_or(tail));
    }
    text.split_once(':').unwrap_or((text, ""))
}

fn no_tls() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "TLS is not supported yet")
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
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to an active remote.
    ///
    /// # Errors
    /// The host is unknown, nobody listens, it is not allowed.
    pub async fn connect(remote: &Remote) -> io::Result<Stream> {
        match remote {
            Remote::Tcp(host, port) => {
                let s = TcpStream::connect((host.as_str(), *port)).await?;
                s.set_nodelay(true)?;
                Ok(Stream::Tcp(s))
            }
            Remote::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Remote::Tls { .. } => Err(no_tls()),
            Remote::Ptcp(..) | Remote::Punix(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A socket that peers connect to. A unix socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// A unix socket and its file.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens where a passive remote says.
    ///
    /// # Errors
    /// The address is not ours or in use, or it is not allowed.
    pub async fn bind(remote: &Remote) -> io::Result<Listener> {
        match remote {
            Remote::Ptcp(ip, port) => TcpListener::bind((*ip, *port)).await.map(Listener::Tcp),
            Remote::Punix(path) => Listener::unix(path),
            Remote::Tls { .. } => Err(no_tls()),
            Remote::Tcp(..) | Remote::Unix(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Listens on a unix socket, replacing one that a dead daemon left there.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn unix(path: &Path) -> io::Result<Listener> {
        Ok(Listener::Unix(control::listen(path)?, path.to_owned()))
    }

    /// The next peer.
    ///
    /// # Errors
    /// Out of descriptors, most likely.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(l) => {
                let (s, _) = l.accept().await?;
                s.set_nodelay(true)?;
                Ok(Stream::Tcp(s))
            }
            Listener::Unix(l, _) => Ok(Stream::Unix(l.accept().await?.0)),
        }
    }

    /// The TCP port it has.
    pub fn port(&self) -> Option<u16> {
        match self {
            Listener::Tcp(l) => Some(l.local_addr().ok()?.port()),
            Listener::Unix(..) => None,
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
        match self {
            Remote::Tcp(host, port) if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Remote::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
            Remote::Ptcp(ip, port) => write!(f, "ptcp:{port}:{ip}"),
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
            Remote::Punix(path) => write!(f, "punix:{}", path.display()),
            Remote::Tls { passive } => f.write_str(if *passive { "pssl:" } else { "ssl:" }),
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
            ("ssl:1.2.3.4", Ok(Remote::Tls { passive: false })),
            ("pssl:", Ok(Remote::Tls { passive: true })),
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
        assert_eq!(reason(&no_tls()), "TLS is not supported yet");
    }
}
