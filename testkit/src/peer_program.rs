//! The network program of the tests: plays client and server in a namespace or a guest.
//!
//! On `std` alone, so that `rustc` makes a static program of it (`testkit/peer/main.rs`) in a second
//! that also runs in an initramfs; `sekisho demo` carries it inside. Times are milliseconds; every
//! client prints one line and ends with status 0 if it got its answer, 1 if not, 2 for a wrong
//! command line.
//!
//! ```text
//! peer serve ADDRESS         TCP echo on 23, UDP echo on 7, DNS on 53 (each A query -> ADDRESS)
//! peer files                 HTTP on 80, FTP on 21, TFTP on 69 (see `peer_files.rs`)
//! peer tcp IP PORT MS        connect, send a line, expect it back, close
//! peer hold IP PORT MS       connect, exchange a line, keep the connection open for MS, close
//! peer udp IP PORT MS        one datagram there and back, from one socket
//! peer dns IP NAME MS        ask for NAME, print the address
//! peer sink PORT             take one connection, read it to its end: `received BYTES HASH`
//! peer send IP PORT BYTES    send that many pseudo-random bytes: `sent BYTES HASH`
//! peer stream IP PORT MS     send as fast as possible for MS: `BITS_PER_SECOND`
//! peer flood IP BYTES        datagrams of that size to UDP port 9 as fast as possible, until it is killed
//! peer first IP MS           ask UDP echo every millisecond until it answers: when it did, in
//!                            microseconds of Unix time
//! ```

#[path = "peer_files.rs"]
mod files;

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs the program with its arguments (without its name); returns the exit status.
pub fn run(argv: &[String]) -> u8 {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["serve", address] => serve(parse(address)),
        ["files"] => files::serve(any),
        ["tcp", ip, port, ms] => tcp(to(ip, port), millis(ms), Duration::ZERO),
        ["hold", ip, port, ms] => tcp(to(ip, port), Duration::from_secs(5), millis(ms)),
        ["udp", ip, port, ms] => udp(to(ip, port), millis(ms)),
        ["dns", ip, name, ms] => dns(to(ip, "53"), name, millis(ms)),
        ["sink", port] => sink(parse(port)),
        ["send", ip, port, bytes] => send(to(ip, port), parse(bytes)),
        ["stream", ip, port, ms] => stream(to(ip, port), millis(ms)),
        ["flood", ip, bytes] => flood(to(ip, "9"), parse(bytes)),
        ["first", ip, ms] => first(to(ip, "7"), millis(ms)),
        _ => {
            eprintln!("peer: wrong command line: {words:?}");
            return 2;
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

fn parse<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| {
        eprintln!("peer: cannot read {word:?}");
        exit(2)
    })
}

fn to(ip: &str, port: &str) -> SocketAddr {
    SocketAddr::new(parse(ip), parse(port))
}

fn millis(word: &str) -> Duration {
    Duration::from_millis(parse(word))
}

/// The addresses a server listens on: of both families, or IPv4 alone where there is no IPv6.
fn any(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}

/// A datagram socket that talks to `to` alone.
fn datagrams(to: SocketAddr) -> Result<UdpSocket> {
    let [v6, v4] = any(0);
    let socket = UdpSocket::bind(if to.is_ipv6() { v6 } else { v4 })?;
    socket.connect(to)?;
    Ok(socket)
}

// ---- servers ----------------------------------------------------------------------------------

fn serve(address: Ipv4Addr) -> Result<()> {
    let listener = TcpListener::bind(&any(23)[..])?;
    let echo = UdpSocket::bind(&any(7)[..])?;
    let names = UdpSocket::bind(&any(53)[..])?;
    println!("serving");
    thread::spawn(move || answer(echo, |query| Some(query.to_vec())));
    thread::spawn(move || answer(names, move |query| dns_reply(query, address)));
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let mut line = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut line) {
                if stream.write_all(&line[..n]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

fn answer(socket: UdpSocket, reply: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut datagram = [0; 2048];
    loop {
        // An ICMP error for an earlier answer comes back as an error here: go on.
        let Ok((n, from)) = socket.recv_from(&mut datagram) else { continue };
        if let Some(reply) = reply(&datagram[..n]) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// Answers a query of one question: an A question with `address`, any other with no records.
fn dns_reply(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let header = query.get(..12)?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += 1 + usize::from(query[end]);
    }
    let question = query.get(12..end + 5)?;
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    let mut reply = header[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(question);
    if is_a {
        // Name by pointer to the question, A, IN, 60 s, 4 bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

fn sink(port: u16) -> Result<()> {
    let listener = TcpListener::bind(&any(port)[..])?;
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    let (mut hash, mut bytes, mut chunk) = (FNV, 0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut chunk)? {
            0 => break,
            n => {
                hash = fnv(hash, &chunk[..n]);
                bytes += n;
            }
        }
    }
    println!("received {bytes} {hash:016x}");
    Ok(())
}

// ---- clients ----------------------------------------------------------------------------------

fn tcp(to: SocketAddr, patience: Duration, hold: Duration) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"hello\n")?;
    let mut line = [0; 6];
    stream.read_exact(&mut line)?;
    if &line != b"hello\n" {
        return Err(Error::other("another line came back"));
    }
    println!("OK");
    thread::sleep(hold);
    Ok(())
}

fn exchange(to: SocketAddr, patience: Duration, query: &[u8]) -> Result<Vec<u8>> {
    let socket = datagrams(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(query)?;
    let mut datagram = vec![0; 2048];
    let n = socket.recv(&mut datagram)?;
    datagram.truncate(n);
    Ok(datagram)
}

fn udp(to: SocketAddr, patience: Duration) -> Result<()> {
    if exchange(to, patience, b"hello")? != b"hello" {
        return Err(Error::other("another datagram came back"));
    }
    println!("OK");
    Ok(())
}

fn dns(to: SocketAddr, name: &str, patience: Duration) -> Result<()> {
    let mut query = vec![0x5e, 0x15, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let reply = exchange(to, patience, &query)?;
    match reply[..] {
        [0x5e, 0x15, .., 0, 4, a, b, c, d] => println!("{}", Ipv4Addr::new(a, b, c, d)),
        _ => return Err(Error::other("not an answer with an address")),
    }
    Ok(())
}

fn first(to: SocketAddr, patience: Duration) -> Result<()> {
    let socket = datagrams(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    let begin = Instant::now();
    let mut datagram = [0; 16];
    while begin.elapsed() < patience {
        // Both fail at once while nothing answers for the other end.
        let _ = socket.send(b"first");
        if socket.recv(&mut datagram).is_ok() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Error::other)?;
            println!("{}", now.as_micros());
            return Ok(());
        }
    }
    Err(ErrorKind::TimedOut.into())
}

fn send(to: SocketAddr, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let (mut hash, mut left, mut seed) = (FNV, bytes, 0x9e37_79b9_7f4a_7c15_u64);
    let mut chunk = vec![0; 1 << 16];
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            // xorshift64: every part of the stream differs, so a lost or doubled part shows.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.copy_from_slice(&seed.to_le_bytes());
        }
        let part = &chunk[..left.min(chunk.len())];
        stream.write_all(part)?;
        hash = fnv(hash, part);
        left -= part.len();
    }
    println!("sent {bytes} {hash:016x}");
    Ok(())
}

fn stream(to: SocketAddr, time: Duration) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let chunk = vec![0x55; 1 << 17];
    let (begin, mut bytes) = (Instant::now(), 0);
    while begin.elapsed() < time {
        stream.write_all(&chunk)?;
        bytes += chunk.len();
    }
    println!("{:.0}", bytes as f64 * 8.0 / begin.elapsed().as_secs_f64());
    Ok(())
}

fn flood(to: SocketAddr, bytes: usize) -> Result<()> {
    let socket = datagrams(to)?;
    let datagram = vec![0x55; bytes];
    loop {
        // Nobody may listen, or there may be no device at all: go on, at leisure.
        if socket.send(&datagram).is_err() {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

// ---- FNV-1a -----------------------------------------------------------------------------------

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
