//! TCP streams: as many bytes as one connection takes, and how many the receiver got.
//!
//! Each stream has a thread at both ends that writes and reads 128 KiB at a time. The receiver does not count the first half
//! second, and tells the sender what it counted when the stream is at its end.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use testkit::netns::Netns;
use testkit::story::Vm;

use crate::stage::Stage;

const PORT: u16 = 5201;
const CHUNK: usize = 128 << 10;
/// Not counted: the connection finds its speed.
const OMIT: Duration = Duration::from_millis(500);
/// A stream that does not move for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gb/s that vm2 got of `n` TCP streams of so many seconds from this machine.
pub fn measure(stage: &Stage<'_>, from: &Netns, n: u32, seconds: u64) -> Result<f64> {
    let (n, duration) = (n.to_string(), seconds.to_string());
    let argv = stage.end(&["make-streams", Vm::Two.ip(), &n, &duration]);
    let within = Duration::from_secs(seconds) + 3 * PATIENCE;
    let rate = from.run_within(&argv, within)?.ok()?;
    rate.trim().parse().with_context(|| format!("no rate: {rate}"))
}

/// Receives streams until it is killed. Says `listening` when it does.
pub fn serve(ip: &str) -> Result<()> {
    let listener = TcpListener::bind((ip, PORT))?;
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream?;
        // A sender that goes away in between is its own affair.
        std::thread::spawn(move || drop(receive(stream)));
    }
    Ok(())
}

/// Reads a stream to its end and answers with how many bytes came in how many nanoseconds.
fn receive(mut stream: TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let (mut began, mut counted, mut n) = (None, None, 0);
    let mut last = Instant::now();
    loop {
        let got = stream.read(&mut chunk)?;
        if got == 0 {
            break;
        }
        last = Instant::now();
        let began = *began.get_or_insert(last);
        if counted.is_some() {
            n += got as u64;
        } else if last - began >= OMIT {
            counted = Some(last);
        }
    }
    let nanos = counted.map_or(0, |from| (last - from).as_nanos() as u64);
    stream.write_all(&[n.to_be_bytes(), nanos.to_be_bytes()].concat())
}

/// Sends `n` streams for `time` and the half second before. Prints the Gb/s that were received.
pub fn make(ip: &str, n: u32, time: Duration) -> Result<()> {
    let to = SocketAddr::new(ip.parse::<IpAddr>().context("the server's address")?, PORT);
    let end = Instant::now() + OMIT + time;
    let threads: Vec<_> = (0..n).map(|_| std::thread::spawn(move || send(to, end))).collect();
    let mut sum = 0.0;
    for thread in threads {
        sum += thread.join().map_err(|_| anyhow!("a sender panicked"))??;
    }
    println!("{sum}");
    Ok(())
}

/// Sends one stream; the Gb/s that were received of it.
fn send(to: SocketAddr, end: Instant) -> Result<f64> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("cannot connect")?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let chunk = vec![0; CHUNK];
    while Instant::now() < end {
        // What fits is sent in part before a timeout: that counts as moving.
        ensure!(stream.write(&chunk).context("the stream stands still")? > 0, "nothing was sent");
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).context("the receiver does not tell what came")?;
    let word = |i: usize| u64::from_be_bytes(std::array::from_fn(|at| answer[i + at]));
    let (n, nanos) = (word(0), word(8));
    ensure!(nanos > 0, "the stream did not last {OMIT:?}");
    Ok(n as f64 * 8.0 / nanos as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_tells_the_rate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || receive(listener.accept().unwrap().0));
        let rate = send(to, Instant::now() + OMIT + Duration::from_millis(100)).unwrap();
        server.join().unwrap().unwrap();
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
