//! The longest time for which a switch forwards nothing, seen from the machines beside it.
//!
//! The sender sends a small UDP packet every quarter of a millisecond with its number and the
//! time. For each that arrives, the receiver counts from the sending of the first packet that had
//! not arrived until then: the latency of this packet if none was lost before it. The longest such
//! time is the gap.
//!
//! A virtual machine stands still now and then, and nothing is forwarded then either. So on each
//! processor a program of the highest priority sleeps for a tenth of a millisecond again and again and
//! notes when it overslept; that time is taken off the gaps that it falls into.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use testkit::netns::Netns;
use testkit::process::{Proc, pause};
use testkit::story::{Story, Vm};

use crate::say;
use crate::stage::Stage;

/// The port that the receiver listens on.
const PORT: u16 = 9;
/// Between two packets.
const INTERVAL: Duration = Duration::from_micros(250);
/// Gaps that may be shorter than they seem, and stalls, are noted from this length on.
const NOTED: Duration = Duration::from_micros(300);
/// A watcher sleeps for so long.
const NAP: Duration = Duration::from_micros(100);
/// The receiver gives up when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(300);
/// The number of the packets that tell the receiver to end, and how many are sent.
const END: u64 = u64::MAX;
const N_END: u32 = 20;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn now() -> Result<u64> {
    Ok(nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?))
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

/// Tells the receiver to end.
pub fn end(ip: &str) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for _ in 0..N_END {
        // Once it has ended nobody listens.
        let _ = socket.send_to(&[END.to_be_bytes(), [0; 8]].concat(), (ip, PORT));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Prints when this thread overslept, from and until when in nanoseconds, until it is killed.
pub fn watch() -> Result<()> {
    let mut before = now()?;
    loop {
        std::thread::sleep(NAP);
        let after = now()?;
        let due = before + nanos(NAP);
        if after > due + nanos(NOTED) {
            println!("{due} {after}");
        }
        before = after;
    }
}

/// Receives until it is told to end. Prints gaps, from and until when in nanoseconds, and in the
/// last line the longest in microseconds, the packets that came and those that were lost before one
/// that came.
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
        if number == END {
            break;
        }
        // A lost one was sent about an interval after the last that came.
        let since = match last {
            Some((before, at)) if number > before + 1 => {
                lost += number - before - 1;
                at + nanos(INTERVAL)
            }
            _ => sent,
        };
        let since = since.min(sent);
        let gap = arrived.saturating_sub(since);
        if gap > nanos(NOTED) {
            println!("{since} {arrived}");
        }
        longest = longest.max(gap);
        last = Some((number, sent));
        n += 1;
        socket.set_read_timeout(Some(SILENCE))?;
    }
    println!("{} {n} {lost}", longest / 1000);
    Ok(())
}

/// From and until when.
type Span = (u64, u64);

/// The lines that are spans.
fn spans(text: &str) -> Vec<Span> {
    let span = |line: &str| {
        let (from, until) = line.split_once(' ')?;
        Some((from.parse().ok()?, until.parse().ok()?))
    };
    text.lines().filter_map(span).collect()
}

/// Nanoseconds of a span during which none of the stalls was. They are in order of their beginnings.
fn without(stalls: &[Span], (from, until): Span) -> u64 {
    let (mut at, mut left) = (from, 0);
    for &(begin, end) in stalls {
        if begin < until && end > at {
            left += begin.saturating_sub(at);
            at = end;
        }
    }
    left + until.saturating_sub(at)
}

/// Packets from vm1 to vm2, all the time.
#[derive(Debug)]
pub struct Probe<'a> {
    stage: &'a Stage<'a>,
    one: &'a Netns,
    sender: Proc,
    receiver: Proc,
    watchers: Vec<Proc>,
}

impl<'a> Probe<'a> {
    /// Starts sending; `sender` is the command of this program that does it.
    pub fn start(stage: &'a Stage<'a>, story: &'a Story, sender: &str) -> Result<Probe<'a>> {
        // Both ends run before all others: it is the switch that is to be waited for.
        let first = ["chrt", "--fifo", "10"];
        let to = Vm::Two.ip();
        let receive = [&first[..], &stage.end(&["receive-probe", to])].concat();
        let mut receiver = story.vm(Vm::Two).spawn(&receive)?;
        receiver.wait_for("listens", |out| out.contains("listening"))?;
        let watch = |cpu: usize| {
            let cpu = cpu.to_string();
            let first = ["taskset", "-c", &cpu, "chrt", "--fifo", "20"];
            story.sw.spawn(&[&first[..], &stage.end(&["watch"])].concat())
        };
        let n = std::thread::available_parallelism()?.get();
        let watchers = (0..n).map(watch).collect::<Result<_>>()?;
        let send = [&first[..], &stage.end(&[sender, to])].concat();
        let sender = story.vm(Vm::One).spawn(&send)?;
        pause(Duration::from_millis(300))?;
        Ok(Probe { stage, one: story.vm(Vm::One), sender, receiver, watchers })
    }

    /// The longest gap in milliseconds.
    pub fn finish(mut self) -> Result<f64> {
        ensure!(self.sender.alive(), "the sender ended: {}", self.sender.stderr());
        // A gap ends with a packet that comes.
        pause(Duration::from_millis(500))?;
        self.sender.kill();
        self.one.ok(&self.stage.end(&["end-probe", Vm::Two.ip()]))?;
        let out = self.receiver.finish(Duration::from_secs(30))?.ok()?;
        let mut stalls = Vec::new();
        for mut watcher in self.watchers {
            ensure!(watcher.alive(), "a watcher ended: {}", watcher.stderr());
            watcher.kill();
            stalls.extend(spans(&watcher.stdout()));
        }
        stalls.sort_unstable();
        let line = out.lines().last().context("no figures")?;
        let mut words = line.split(' ').map(str::parse::<u64>);
        let (Some(Ok(seen)), Some(Ok(n)), Some(Ok(lost))) =
            (words.next(), words.next(), words.next())
        else {
            bail!("no figures in {line:?}");
        };
        ensure!(n > 100, "{n} packets came");
        let longest = spans(&out).into_iter().map(|gap| without(&stalls, gap)).max();
        let gap = longest.map_or(seen as f64, |ns| ns as f64 / 1e3);
        let stalled: u64 = stalls.iter().map(|(from, until)| until - from).sum();
        say(format_args!(
            "  probe: {n} packets came, {lost} were lost; the longest gap was {gap:.0} us, {seen} us \
             with stalls of the machine, of which there were {}, {} ms together",
            stalls.len(),
            stalled / 1_000_000
        ));
        Ok(gap / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_taken_off_gaps_once() {
        let stalls = spans("listening\n0 10\n20 30\n25 28\n26 40\n7 8 9\n100 110\n");
        assert_eq!(stalls.len(), 5);
        assert_eq!(without(&stalls, (10, 20)), 10);
        assert_eq!(without(&stalls, (5, 25)), 10);
        assert_eq!(without(&stalls, (15, 50)), 15);
        assert_eq!(without(&stalls, (22, 24)), 0);
        assert_eq!(without(&[], (1, 4)), 3);
    }
}
