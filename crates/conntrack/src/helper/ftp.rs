//! What a segment of an FTP control connection says about a data connection.
//!
//! Four messages do (RFC 959 §4.1.2 and §4.2, RFC 2428): `PORT` and `EPRT`, the replies 227 and 229.
//! Each invites the other end to connect to its sender. A message is read only at the beginning of a
//! segment, and it must be whole: what is half a message here may be another one to its receiver.

use core::net::{IpAddr, Ipv4Addr};

use super::{Invitation, Named};
use crate::InvalidReason;

/// A message that is longer is none of interest.
const LONGEST: usize = 512;

type Reader = fn(&mut Line<'_>) -> Option<Invitation>;

const MESSAGES: [(&[u8], Reader); 4] =
    [(b"PORT ", port), (b"EPRT ", eprt), (b"227 ", pasv), (b"229 ", epsv)];

/// The message at the beginning of a segment's payload; `None` if it is another one.
pub(super) fn read(payload: &[u8]) -> Result<Option<Invitation>, InvalidReason> {
    let of = |word: &[u8]| payload.get(..word.len()).is_some_and(|p| p.eq_ignore_ascii_case(word));
    let Some((word, reader)) = MESSAGES.iter().find(|(word, _)| of(word)) else {
        return Ok(None);
    };
    let head = &payload[..payload.len().min(LONGEST)];
    match head.iter().position(|&b| b == b'\n') {
        Some(end) => {
            let mut line = Line { text: &head[..end], at: word.len() };
            reader(&mut line).map(Some).ok_or(InvalidReason::AlgSyntax)
        }
        None if head.len() < LONGEST => Err(InvalidReason::AlgSplit),
        None => Err(InvalidReason::AlgSyntax),
    }
}

/// `PORT 10,0,0,1,4,1`.
fn port(line: &mut Line<'_>) -> Option<Invitation> {
    line.skip_while(|b| b == b' ');
    let invitation = line.six_numbers()?;
    line.skip_while(|b| b == b' ' || b == b'\r');
    line.is_done().then_some(invitation)
}

/// `227 Entering Passive Mode (10,0,0,2,4,1).`: the numbers are the first in the text (RFC 1123
/// §4.1.2.6), with or without parentheses.
fn pasv(line: &mut Line<'_>) -> Option<Invitation> {
    line.skip_while(|b| !b.is_ascii_digit());
    let invitation = line.six_numbers()?;
    (!line.peek().is_some_and(|b| b.is_ascii_digit() || b == b',')).then_some(invitation)
}

/// `EPRT |1|10.0.0.1|1025|` (RFC 2428 §2).
fn eprt(line: &mut Line<'_>) -> Option<Invitation> {
    line.skip_while(|b| b == b' ');
    let delimiter = line.delimiter()?;
    let family = line.number(9)?;
    line.expect(delimiter)?;
    let start = line.at;
    line.skip_while(|b| b != delimiter);
    let text = core::str::from_utf8(&line.text[start..line.at]).ok()?;
    let addr = match family {
        1 => IpAddr::V4(text.parse().ok()?),
        2 => IpAddr::V6(text.parse().ok()?),
        _ => return None,
    };
    line.expect(delimiter)?;
    let port = line.number(u16::MAX)?;
    line.expect(delimiter)?;
    let at = (start as u16, text.len() as u16);
    Some(Invitation { addr: Some(Named { addr, at, commas: false }), port })
}

/// `229 Entering Extended Passive Mode (|||1025|)` (RFC 2428 §3).
fn epsv(line: &mut Line<'_>) -> Option<Invitation> {
    line.skip_while(|b| b != b'(');
    line.expect(b'(')?;
    let delimiter = line.delimiter()?;
    line.expect(delimiter)?;
    line.expect(delimiter)?;
    let port = line.number(u16::MAX)?;
    line.expect(delimiter)?;
    line.expect(b')')?;
    Some(Invitation { addr: None, port })
}

/// A line without its end, and how much of it was read.
struct Line<'a> {
    text: &'a [u8],
    at: usize,
}

impl Line<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    fn skip_while(&mut self, f: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&f) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Any printable character that can't be part of an address or number.
    fn delimiter(&mut self) -> Option<u8> {
        let part = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b':';
        let byte = self.peek().filter(|&b| b.is_ascii_graphic() && !part(b))?;
        self.at += 1;
        Some(byte)
    }

    /// Decimal digits that make a number up to `max`.
    fn number(&mut self, max: u16) -> Option<u16> {
        let start = self.at;
        self.skip_while(|b| b.is_ascii_digit());
        let digits = &self.text[start..self.at];
        let value = |n: u32, b: &u8| n * 10 + u32::from(b - b'0');
        let n = (1..=5).contains(&digits.len()).then(|| digits.iter().fold(0, value))?;
        u16::try_from(n).ok().filter(|&n| n <= max)
    }

    /// `h1,h2,h3,h4,p1,p2`.
    fn six_numbers(&mut self) -> Option<Invitation> {
        let start = self.at;
        let mut n = [0; 6];
        let mut end = start;
        for (i, n) in n.iter_mut().enumerate() {
            if i > 0 {
                self.expect(b',')?;
            }
            *n = self.number(255)? as u8;
            if i == 3 {
                end = self.at;
            }
        }
        let [a, b, c, d, high, low] = n;
        let at = (start as u16, (end - start) as u16);
        let named = Named { addr: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), at, commas: true };
        Some(Invitation { addr: Some(named), port: u16::from_be_bytes([high, low]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    /// Address, its text and port; or the reason.
    fn said(text: &str) -> String {
        match read(text.as_bytes()) {
            Ok(None) => "nothing".into(),
            Ok(Some(Invitation { addr: None, port })) => port.to_string(),
            Ok(Some(Invitation { addr: Some(n), port })) => {
                let (at, len) = (usize::from(n.at.0), usize::from(n.at.1));
                std::format!("{} {} {port}", n.addr, &text[at..at + len])
            }
            Err(reason) => reason.name().into(),
        }
    }

    #[test]
    fn messages_and_what_is_none() {
        for (text, want) in [
            ("PORT 10,0,0,1,4,1\r\n", "10.0.0.1 10,0,0,1 1025"),
            ("port  10,0,0,1,255,255 \n", "10.0.0.1 10,0,0,1 65535"),
            ("PORT 10,0,0,1,4,1\r\nLIST\r\n", "10.0.0.1 10,0,0,1 1025"),
            ("EPRT |1|10.0.0.1|1025|\r\n", "10.0.0.1 10.0.0.1 1025"),
            ("EPRT !2!fc00::1!65535!\r\n", "fc00::1 fc00::1 65535"),
            ("227 Entering Passive Mode (10,0,0,2,4,1).\r\n", "10.0.0.2 10,0,0,2 1025"),
            ("227 Entering Passive Mode 10,0,0,2,4,1\r\n", "10.0.0.2 10,0,0,2 1025"),
            ("227 =10,0,0,2,4,1\n", "10.0.0.2 10,0,0,2 1025"),
            ("229 Entering Extended Passive Mode (|||1025|)\r\n", "1025"),
            ("USER anonymous\r\n", "nothing"),
            ("PORTAL\r\n", "nothing"),
            ("220 Welcome\r\n", "nothing"),
            ("227-more to come\r\n", "nothing"),
            ("", "nothing"),
            (" PORT 10,0,0,1,4,1\r\n", "nothing"),
        ] {
            assert_eq!(said(text), want, "{text:?}");
        }
    }

    #[test]
    fn half_a_message_and_nonsense_are_refused() {
        for text in ["PORT ", "PORT 10,0,0,1,4,1", "PORT 10,0,0,1,4,1\r", "227 (", "229 x (|||10"] {
            assert_eq!(said(text), "alg_split", "{text:?}");
        }
        let long = String::from("PORT ") + &"1".repeat(600) + "\r\n";
        for text in [
            "PORT \r\n",
            "PORT 10,0,0,1,4\r\n",
            "PORT 10,0,0,256,4,1\r\n",
            "PORT 10,0,0,1,4,256\r\n",
            "PORT 10,0,0,1,4,1,9\r\n",
            "PORT 10,0,0,1,4,1x\r\n",
            "PORT 10,0,0,1,4,99999999999999999999\r\n",
            "PORT 10,,0,1,4,1\r\n",
            "PORT -1,0,0,1,4,1\r\n",
            "EPRT |3|10.0.0.1|1025|\r\n",
            "EPRT |1|10.0.0.1|65536|\r\n",
            "EPRT |1|fc00::1|1025|\r\n",
            "EPRT |2|10.0.0.1|1025|\r\n",
            "EPRT |1|10.0.0.1|1025\r\n",
            "EPRT |1||1025|\r\n",
            "EPRT 1110.0.0.111025\r\n",
            "227 Entering Passive Mode\r\n",
            "227 (10,0,0,2,4,1,7)\r\n",
            "229 Entering Extended Passive Mode (|||99999|)\r\n",
            "229 Entering Extended Passive Mode |||1025|\r\n",
            "229 (||1025|)\r\n",
            "229 (|||1025)\r\n",
            long.as_str(),
        ] {
            assert_eq!(said(text), "alg_syntax", "{text:?}");
        }
    }
}
