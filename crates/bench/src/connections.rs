//! Connections per second: one thread and one poll set at each end.
//!
//! Threads that block would spend the machine's two cores on switching between each other and hide
//! what the switch costs. The client keeps a number of connects under way over several ports (so
//! that no listener's backlog is the limit), and as soon as one succeeds closes it and begins anew; the
//! server closes what the client has closed.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::task::{LocalSet, spawn_local};

/// First port of the servers.
const PORT: u16 = 7000;
/// Number of ports.
const PORTS: u16 = 8;
/// Connects under way.
const CONCURRENT: u16 = 64;
/// What may wait to be accepted on one port.
const BACKLOG: u32 = 8192;

fn run(future: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, future)
}

/// Accepts connections on all ports until it is killed. Says `listening` when it does.
pub fn serve(ip: &str) -> Result<()> {
    let ip = ip.parse().context("the server's address")?;
    run(async move {
        for port in PORT..PORT + PORTS {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(ip, port))?;
            let listener = socket.listen(BACKLOG)?;
            spawn_local(async move {
                loop {
                    let Ok((mut stream, _)) = listener.accept().await else { continue };
                    spawn_local(async move {
                        let mut buf = [0; 64];
                        while let Ok(1..) = stream.read(&mut buf).await {}
                    });
                }
            });
        }
        println!("listening");
        std::future::pending().await
    })
}

/// Connects and closes for `time`; prints connections per second and how many failed.
pub fn connect(ip: &str, time: Duration) -> Result<()> {
    let ip = ip.parse().context("the server's address")?;
    run(async move {
        let begin = Instant::now();
        let (good, bad) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u64)));
        let tasks: Vec<_> = (0..CONCURRENT)
            .map(|i| {
                let to = SocketAddr::new(ip, PORT + i % PORTS);
                let (good, bad) = (Rc::clone(&good), Rc::clone(&bad));
                spawn_local(async move {
                    while begin.elapsed() < time {
                        let left = time.saturating_sub(begin.elapsed());
                        let Ok(socket) = TcpSocket::new_v4() else { break };
                        match tokio::time::timeout(left, socket.connect(to)).await {
                            Ok(Ok(_closed_at_once)) => good.set(good.get() + 1),
                            Ok(Err(_)) => bad.set(bad.get() + 1),
                            // The time is over.
                            Err(_) => {}
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        println!("{:.0} {}", good.get() as f64 / begin.elapsed().as_secs_f64(), bad.get());
        Ok(())
    })
}

/// Opens `n` connections and keeps them until it is killed. Says `held` when all stand.
pub fn hold(ip: &str, n: u16) -> Result<()> {
    let ip: std::net::IpAddr = ip.parse().context("the server's address")?;
    let connect = |i| std::net::TcpStream::connect(SocketAddr::new(ip, PORT + i % PORTS));
    let held = (0..n).map(connect).collect::<Result<Vec<_>, _>>()?;
    println!("held");
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}
