//! The longest time for which a switch forwards nothing, seen from the machines beside it.
//!
//! The sender sends a small UDP packet every quarter of a millisecond with its number and the
//! time. For each that arrives, the receiver counts from the sending of the first packet that had
//! not arrived until then: the latency of this packet if none was lost before it. The longest such
//! time is the gap.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// The port that the receiver listens on.
const PORT: u16 = 9;
/// Between two packets.
const INTERVAL: Duration = Duration::from_micros(250);
/// The receiver ends when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(2);

fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?)
}

/// Sends to `ip` until it is killed, from one port or each packet from a new one.
pub fn send(ip: &str, new_ports: bool) -> Result<()> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((ip, PORT))?;
        Ok(socket)
    };
    let mut socket = open()?;
    for number in 0u64.. {
        if new_ports {
            socket = open()?;
        }
        let mut packet = [0; 18];
        packet[..8].copy_from_slice(&number.to_be_bytes());
        packet[8..16].copy_from_slice(&now()?.to_be_bytes());
        match socket.send(&packet) {
            // A full queue loses the packet, which is what the receiver is to see.
            Err(e) if !matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::WouldBlock) => {
                return Err(e.into());
            }
            _ => std::thread::sleep(INTERVAL),
        }
    }
    Ok(())
}

/// Receives until nothing comes any more, and prints the longest gap in microseconds, the packets
/// that came and those that were lost before one that came.
pub fn receive(ip: &str) -> Result<()> {
    let socket = UdpSocket::bind((ip, PORT))?;
    println!("listening");
    let mut last: Option<(u64, u64)> = None;
    let (mut longest, mut n, mut lost) = (0, 0u64, 0);
    loop {
        let mut packet = [0; 18];
        match socket.recv(&mut packet) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) => return Err(e.into()),
        }
        let arrived = now()?;
        let word = |i: usize| -> Result<u64> {
            Ok(u64::from_be_bytes(packet[i..i + 8].try_into().context("a short packet")?))
        };
        let (number, sent) = (word(0)?, word(8)?);
        // A lost one was sent about an interval after the last that came.
        let since = match last {
            Some((before, at)) if number > before + 1 => {
                lost += number - before - 1;
                at + u64::try_from(INTERVAL.as_nanos())?
            }
            _ => sent,
        };
        longest = longest.max(arrived.saturating_sub(since.min(sent)));
        last = Some((number, sent));
        n += 1;
        socket.set_read_timeout(Some(SILENCE))?;
    }
    println!("{} {n} {lost}", longest / 1000);
    Ok(())
}
