//! Addresses of OVSDB peers, as ovsdb(7) "Connection Methods" writes them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// The port IANA gave OVSDB, used where an address names none.
pub const OVSDB_PORT: u16 = 6640;

/// Where a database is (`unix:`, `tcp:`, `ssl:`) or is served (`punix:`, `ptcp:`, `pssl:`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// Connect to a Unix socket.
    Unix(PathBuf),
    /// Connect to a host (name or address) and port.
    Tcp(String, u16),
    /// The same with TLS.
    Ssl(String, u16),
    /// Listen on a Unix socket.
    PassiveUnix(PathBuf),
    /// Listen on a port, at one address or all.
    PassiveTcp(u16, Option<IpAddr>),
    /// The same with TLS.
    PassiveSsl(u16, Option<IpAddr>),
}

impl Remote {
    /// Whether this end listens.
    pub fn is_passive(&self) -> bool {
        matches!(self, Remote::PassiveUnix(_) | Remote::PassiveTcp(..) | Remote::PassiveSsl(..))
    }

    /// Reads one or more remotes separated by commas.
    ///
    /// # Errors
    /// As [`Remote::from_str`].
    pub fn parse_list(text: &str) -> Result<Vec<Remote>, Error> {
        text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse).collect()
    }
}

fn port(text: &str, whole: &str) -> Result<u16, Error> {
    text.parse().map_err(|_| Error::text(format!("{whole}: \"{text}\" is not a port number")))
}

/// `HOST[:PORT]`, an IPv6 address in brackets.
fn host_port(text: &str, whole: &str) -> Result<(String, u16), Error> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner
            .split_once(']')
            .ok_or_else(|| Error::text(format!("{whole}: \"]\" is missing after \"[\"")))?,
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    if host.is_empty() {
        return Err(Error::text(format!("{whole}: host is missing")));
    }
    match rest.strip_prefix(':') {
        Some(p) => Ok((host.to_owned(), port(p, whole)?)),
        None if rest.is_empty() => Ok((host.to_owned(), OVSDB_PORT)),
        None => Err(Error::text(format!("{whole}: \"{rest}\" follows the host, not a port"))),
    }
}

/// `[PORT][:ADDRESS]`.
fn port_addr(text: &str, whole: &str) -> Result<(u16, Option<IpAddr>), Error> {
    let (p, addr) = text.split_once(':').unwrap_or((text, ""));
    let p = if p.is_empty() { OVSDB_PORT } else { port(p, whole)? };
    if addr.is_empty() {
        return Ok((p, None));
    }
    let addr = addr.trim_start_matches('[').trim_end_matches(']');
    let addr = addr
        .parse()
        .map_err(|_| Error::text(format!("{whole}: \"{addr}\" is not an IP address")))?;
    Ok((p, Some(addr)))
}

impl FromStr for Remote {
    type Err = Error;

    /// # Errors
    /// Says what is missing or which forms there are.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (class, rest) = text.split_once(':').unwrap_or((text, ""));
        let path = || {
            if rest.is_empty() {
                Err(Error::text(format!("{text}: path of the socket is missing")))
            } else {
                Ok(PathBuf::from(rest))
            }
        };
        Ok(match class {
            "unix" => Remote::Unix(path()?),
            "punix" => Remote::PassiveUnix(path()?),
            "tcp" => host_port(rest, text).map(|(h, p)| Remote::Tcp(h, p))?,
            "ssl" => host_port(rest, text).map(|(h, p)| Remote::Ssl(h, p))?,
            "ptcp" => port_addr(rest, text).map(|(p, a)| Remote::PassiveTcp(p, a))?,
            "pssl" => port_addr(rest, text).map(|(p, a)| Remote::PassiveSsl(p, a))?,
            _ => {
                return Err(Error::text(format!(
                    "{text}: unknown connection method; use unix:PATH, tcp:HOST:PORT, \
                     ssl:HOST:PORT, punix:PATH, ptcp:PORT[:ADDRESS] or pssl:PORT[:ADDRESS]"
                )));
            }
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let active = |f: &mut fmt::Formatter<'_>, class: &str, host: &str, p: &u16| {
            if host.contains(':') {
                write!(f, "{class}:[{host}]:{p}")
            } else {
                write!(f, "{class}:{host}:{p}")
            }
        };
        let passive =
            |f: &mut fmt::Formatter<'_>, class: &str, p: &u16, addr: &Option<IpAddr>| match addr {
                Some(IpAddr::V6(a)) => write!(f, "{class}:{p}:[{a}]"),
                Some(a) => write!(f, "{class}:{p}:{a}"),
                None => write!(f, "{class}:{p}"),
            };
        match self {
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
            Remote::PassiveUnix(path) => write!(f, "punix:{}", path.display()),
            Remote::Tcp(host, p) => active(f, "tcp", host, p),
            Remote::Ssl(host, p) => active(f, "ssl", host, p),
            Remote::PassiveTcp(p, addr) => passive(f, "ptcp", p, addr),
            Remote::PassiveSsl(p, addr) => passive(f, "pssl", p, addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_round_trip() {
        for text in [
            "unix:/run/db.sock",
            "punix:db.sock",
            "tcp:10.0.0.1:6640",
            "tcp:[::1]:1",
            "ssl:host:6640",
            "ptcp:6640",
            "ptcp:6640:127.0.0.1",
            "pssl:1:[::1]",
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:h".parse(), Ok(Remote::Tcp("h".into(), OVSDB_PORT)));
        for bad in ["", "unix:", "tcp:", "tcp:h:x", "tcp:[::1", "tcp:[::1]x", "foo:1", "ptcp:1:x"] {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
    }
}
