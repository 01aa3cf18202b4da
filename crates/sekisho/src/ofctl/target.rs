//! What a command line means by a switch: a socket.
//!
//! A text with a known method in front (`unix:PATH`, `tcp:HOST[:PORT]`, `ssl:HOST[:PORT]`) is that; a path to a socket is that
//! socket; a name is a bridge, whose socket is `RUNDIR/NAME.mgmt` (or `.snoop`).

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::applet::Failure;
use crate::control::rundir;

/// Port of OpenFlow where none is given.
const OPENFLOW_PORT: u16 = 6653;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String, u16),
    /// The same with TLS.
    Ssl(String, u16),
}

impl Target {
    /// The target that `text` names; `suffix` (`mgmt`, `snoop`) is that of a bridge's socket.
    ///
    /// # Errors
    /// No such bridge or socket, a method that is not known, a port that is no number.
    pub fn find(text: &str, suffix: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(match path.starts_with('/') {
                true => path.into(),
                false => rundir().join(path),
            }));
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            return host_port(text, rest).map(|(host, port)| Self::Tcp(host, port));
        }
        if let Some(rest) = text.strip_prefix("ssl:") {
            return host_port(text, rest).map(|(host, port)| Self::Ssl(host, port));
        }
        let of_bridge = rundir().join(format!("{text}.{suffix}"));
        let is_socket = |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.file_type().is_socket());
        if is_socket(&of_bridge) {
            Ok(Self::Unix(of_bridge))
        } else if is_socket(Path::new(text)) {
            Ok(Self::Unix(text.into()))
        } else {
            Err(Failure::fatal(format!("{text} is not a bridge or a socket")))
        }
    }

    /// Connects; with `keys` where TLS is meant.
    ///
    /// # Errors
    /// Those of the socket; there are no keys, or the peer is not trusted.
    pub fn connect(&self, keys: Option<&tls::Context>) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
            Self::Tcp(host, port) => connect_tcp(host, *port).map(Stream::Tcp),
            Self::Ssl(host, port) => {
                let no_keys = || io::Error::other("Private key must be configured to use SSL/TLS");
                let keys = keys.ok_or_else(no_keys)?;
                let stream = tls::Stream::connect(keys, host, connect_tcp(host, *port)?)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }
}

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// As a connection method.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (method, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) => ("tcp", host, port),
            Self::Ssl(host, port) => ("ssl", host, port),
        };
        match host.contains(':') {
            true => write!(f, "{method}:[{host}]:{port}"),
            false => write!(f, "{method}:{host}:{port}"),
        }
    }
}

/// `HOST[:PORT]`, with brackets around an IPv6 address.
fn host_port(text: &str, rest: &str) -> Result<(String, u16), Failure> {
    let bad = |why: &str| Failure::fatal(format!("{text}: {why}"));
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, tail) = inner.split_once(']').ok_or_else(|| bad("no \"]\" after \"[\""))?;
            match tail.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if tail.is_empty() => (host, None),
                None => return Err(bad("what follows \"]\" must be :PORT")),
            }
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if host.is_empty() {
        return Err(bad("host name must be specified"));
    }
    let port = match port {
        None => OPENFLOW_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(bad(&format!("bad port number \"{port}\""))),
        },
    };
    Ok((host.to_owned(), port))
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Of the file system.
    Unix(UnixStream),
    /// Of a network.
    Tcp(TcpStream),
    /// The same with TLS.
    Tls(Box<tls::Stream>),
}

impl Stream {
    /// Whether reading fails instead of waiting.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.set_nonblocking(nonblocking),
            Self::Tcp(s) => s.set_nonblocking(nonblocking),
            Self::Tls(s) => s.socket().set_nonblocking(nonblocking),
        }
    }
}

impl std::os::fd::AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Unix(s) => s.as_fd(),
            Self::Tcp(s) => s.as_fd(),
            Self::Tls(s) => s.socket().as_fd(),
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.read(buf),
            Self::Tcp(s) => s.read(buf),
            Self::Tls(s) => s.read(buf),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.write(buf),
            Self::Tcp(s) => s.write(buf),
            Self::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods() {
        let find = |text: &str| Target::find(text, "mgmt");
        assert_eq!(find("unix:/x/y").unwrap(), Target::Unix("/x/y".into()));
        assert_eq!(find("tcp:h").unwrap(), Target::Tcp("h".into(), 6653));
        assert_eq!(find("tcp:10.0.0.1:7").unwrap(), Target::Tcp("10.0.0.1".into(), 7));
        assert_eq!(find("tcp:[::1]:7").unwrap(), Target::Tcp("::1".into(), 7));
        assert_eq!(find("tcp:[::1]").unwrap(), Target::Tcp("::1".into(), 6653));
        assert_eq!(find("ssl:h:7").unwrap(), Target::Ssl("h".into(), 7));
        for bad in ["tcp:", "tcp:h:x", "tcp:h:0", "tcp:[::1", "tcp:[::1]7", "ssl:"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn neither_bridge_nor_socket() {
        match Target::find("no-such-bridge", "mgmt") {
            Err(Failure::Fatal(1, text)) => {
                assert_eq!(text, "no-such-bridge is not a bridge or a socket");
            }
            other => panic!("{other:?}"),
        }
    }
}
