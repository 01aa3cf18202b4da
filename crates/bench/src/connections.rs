//! Connections per second: one thread and one poll set at each end.
//!
//! Threads that block would spend the machine's two cores on switching between each other and hide
//! what the switch costs, and so would an executor that does more for each connection than the kernel has to be asked. The
//! client keeps a number of connects under way over several ports (so that no listener's backlog is the limit), and as soon as
//! one succeeds closes it and begins anew; the server closes what the client has closed.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// First port of the servers.
const PORT: u16 = 7000;
/// Number of ports.
const PORTS: u16 = 8;
/// Connects under way.
const CONCURRENT: usize = 64;
/// Events that are read at once.
const EVENTS: usize = 256;

fn server(ip: IpAddr, i: usize) -> SocketAddr {
    SocketAddr::new(ip, PORT + i as u16 % PORTS)
}

/// Accepts connections on all ports until it is killed. Says `listening` when it does.
pub fn serve(ip: &str) -> Result<()> {
    let ip = ip.parse().context("the server's address")?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    let mut listeners = Vec::new();
    for i in 0..usize::from(PORTS) {
        let mut listener = TcpListener::bind(server(ip, i))?;
        poll.registry().register(&mut listener, Token(i), Interest::READABLE)?;
        listeners.push(listener);
    }
    println!("listening");
    // By their tokens, behind the listeners, and places that are free.
    let (mut streams, mut free) = (Vec::new(), Vec::new());
    loop {
        wait(&mut poll, &mut events, None)?;
        for event in &events {
            let Token(at) = event.token();
            let Some(listener) = listeners.get(at) else {
                let at = at - listeners.len();
                if streams.get_mut(at).and_then(Option::as_mut).is_some_and(is_over) {
                    streams[at] = None;
                    free.push(at);
                }
                continue;
            };
            loop {
                let mut stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                    Err(e) => return Err(e).context("accepting a connection"),
                };
                let at = free.pop().unwrap_or(streams.len());
                let token = Token(at + listeners.len());
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                match streams.get_mut(at) {
                    Some(place) => *place = Some(stream),
                    None => streams.push(Some(stream)),
                }
            }
        }
    }
}

/// Whether the other end has closed; what it sent meanwhile is nothing to us.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut buf = [0; 64];
    loop {
        match stream.read(&mut buf) {
            Ok(1..) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Ok(0) | Err(_) => return true,
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, time: Option<Duration>) -> Result<()> {
    match poll.poll(events, time) {
        Err(e) if e.kind() != ErrorKind::Interrupted => Err(e).context("waiting for events"),
        _ => Ok(()),
    }
}

/// Connects and closes for `time`; prints connections per second and how many failed.
pub fn connect(ip: &str, time: Duration) -> Result<()> {
    let ip: IpAddr = ip.parse().context("the server's address")?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    let mut under_way: [Option<TcpStream>; CONCURRENT] = [const { None }; CONCURRENT];
    let (mut n, mut good, mut bad) = (0, 0_u64, 0_u64);
    let begin = Instant::now();
    while begin.elapsed() < time {
        for (i, place) in under_way.iter_mut().enumerate().filter(|(_, p)| p.is_none()) {
            n += 1;
            match TcpStream::connect(server(ip, n)) {
                Ok(stream) => {
                    let stream = place.insert(stream);
                    poll.registry().register(stream, Token(i), Interest::WRITABLE)?;
                }
                Err(_) => bad += 1,
            }
        }
        wait(&mut poll, &mut events, Some(time.saturating_sub(begin.elapsed())))?;
        for event in &events {
            let place = &mut under_way[event.token().0];
            match place.take().map(|stream| stream.take_error()) {
                Some(Ok(None)) => good += 1,
                Some(_) => bad += 1,
                None => {}
            }
        }
    }
    println!("{:.0} {bad}", good as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

/// Opens `n` connections and keeps them until it is killed. Says `held` when all stand.
pub fn hold(ip: &str, n: usize) -> Result<()> {
    let ip = ip.parse().context("the server's address")?;
    let connect = |i| std::net::TcpStream::connect(server(ip, i));
    let held = (0..n).map(connect).collect::<Result<Vec<_>, _>>()?;
    println!("held");
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}
