//! Servers of files: HTTP on 80, FTP on 21, TFTP on 69, IPv4 and IPv6, from the same shelf.
//!
//! A file `lines-N` has N numbered lines. What is stored by FTP is there under its name from then on.
//! The FTP server takes PORT and EPRT for the client's port (RFC 959, RFC 2428), and PASV and EPSV for its own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Files by name.
type Shelf = Arc<Mutex<HashMap<String, Vec<u8>>>>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until it is killed; listens where `any` says for a port.
pub fn serve(any: fn(u16) -> [SocketAddr; 2]) -> Result<()> {
    let shelf = Shelf::default();
    let [http, ftp] = [80, 21].map(|port| TcpListener::bind(&any(port)[..]));
    let (http, ftp, tftp) = (http?, ftp?, UdpSocket::bind(&any(69)[..])?);
    println!("serving files");
    let shelves = [shelf.clone(), shelf.clone()];
    let [for_http, for_tftp] = shelves;
    thread::spawn(move || each(&http, &for_http, answer_http));
    thread::spawn(move || serve_tftp(&tftp, any, &for_tftp));
    each(&ftp, &shelf, answer_ftp);
    Ok(())
}

fn each(listener: &TcpListener, shelf: &Shelf, answer: fn(TcpStream, &Shelf) -> Result<()>) {
    for stream in listener.incoming().flatten() {
        let shelf = shelf.clone();
        // A client that leaves in between is its own affair.
        thread::spawn(move || drop(answer(stream, &shelf)));
    }
}

fn file(shelf: &Shelf, name: &str) -> Option<Vec<u8>> {
    let name = name.trim_start_matches('/');
    if let Ok(shelf) = shelf.lock()
        && let Some(bytes) = shelf.get(name)
    {
        return Some(bytes.clone());
    }
    let n: u32 = name.strip_prefix("lines-")?.parse().ok()?;
    let mut text = String::new();
    for i in 1..=n {
        let _ = writeln!(text, "line {i}");
    }
    Some(text.into_bytes())
}

fn answer_http(stream: TcpStream, shelf: &Shelf) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().ok_or_else(|| Error::other("no request"))??;
    while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
    let mut stream = stream;
    match file(shelf, request.split(' ').nth(1).unwrap_or_default()) {
        None => stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        Some(body) => {
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat())
        }
    }
}

// ---- FTP --------------------------------------------------------------------------------------

/// Where the data connection comes from.
enum Data {
    /// The client connects.
    Passive(TcpListener),
    /// The client listens there.
    Active(SocketAddr),
}

impl Data {
    fn open(self) -> Result<TcpStream> {
        match self {
            Data::Passive(listener) => Ok(listener.accept()?.0),
            Data::Active(to) => TcpStream::connect_timeout(&to, PATIENCE),
        }
    }
}

fn answer_ftp(stream: TcpStream, shelf: &Shelf) -> Result<()> {
    // A socket for both versions knows IPv4 by addresses of IPv6.
    let (here, peer) = (stream.local_addr()?.ip().to_canonical(), stream.peer_addr()?.ip());
    let mut out = stream.try_clone()?;
    let mut data = None;
    out.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match word {
            "USER" => "331 any password".to_owned(),
            "PASS" => "230 welcome".to_owned(),
            "PWD" => "257 \"/\"".to_owned(),
            "TYPE" | "CWD" => "200 as you say".to_owned(),
            "PASV" | "EPSV" => {
                let listener = TcpListener::bind((here, 0))?;
                let port = listener.local_addr()?.port();
                data = Some(Data::Passive(listener));
                match here {
                    IpAddr::V4(ip) if word == "PASV" => {
                        let [a, b, c, d] = ip.octets();
                        let [e, f] = port.to_be_bytes();
                        format!("227 Entering Passive Mode ({a},{b},{c},{d},{e},{f}).")
                    }
                    _ => format!("229 Entering Extended Passive Mode (|||{port}|)"),
                }
            }
            "PORT" | "EPRT" => match named(rest).filter(|to| to.ip() == peer.to_canonical()) {
                Some(to) => {
                    data = Some(Data::Active(to));
                    "200 there".to_owned()
                }
                None => format!("501 {rest} is not of {peer}"),
            },
            "RETR" => match (file(shelf, rest), data.take()) {
                (None, _) => "550 no such file".to_owned(),
                (_, None) => "425 where to?".to_owned(),
                (Some(bytes), Some(data)) => {
                    out.write_all(b"150 coming\r\n")?;
                    match data.open().and_then(|mut to| to.write_all(&bytes)) {
                        Ok(()) => "226 done".to_owned(),
                        Err(e) => format!("425 {e}"),
                    }
                }
            },
            "STOR" => match data.take() {
                None => "425 where from?".to_owned(),
                Some(data) => {
                    out.write_all(b"150 let it come\r\n")?;
                    let mut bytes = Vec::new();
                    match data.open().and_then(|mut from| from.read_to_end(&mut bytes)) {
                        Ok(_) => {
                            let mut shelf = shelf.lock().map_err(|_| Error::other("no shelf"))?;
                            shelf.insert(rest.trim_start_matches('/').to_owned(), bytes);
                            "226 done".to_owned()
                        }
                        Err(e) => format!("425 {e}"),
                    }
                }
            },
            "QUIT" => {
                out.write_all(b"221 bye\r\n")?;
                break;
            }
            _ => "502 no such command".to_owned(),
        };
        out.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

/// The address that PORT (`10,0,0,1,4,1`) or EPRT (`|2|fd00::1|1025|`) names.
fn named(text: &str) -> Option<SocketAddr> {
    if let Some(text) = text.strip_prefix('|') {
        let mut parts = text.split('|').skip(1);
        return Some((parts.next()?.parse::<IpAddr>().ok()?, parts.next()?.parse().ok()?).into());
    }
    let bytes: Vec<u8> = text.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [a, b, c, d, e, f] = bytes[..] else { return None };
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, f])).into())
}

// ---- TFTP (RFC 1350) --------------------------------------------------------------------------

const BLOCK: usize = 512;
/// Times that a block is sent.
const TRIES: usize = 5;

fn serve_tftp(socket: &UdpSocket, any: fn(u16) -> [SocketAddr; 2], shelf: &Shelf) {
    let mut request = [0; 600];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut request) else { continue };
        let [0, 1, rest @ ..] = &request[..n] else { continue };
        let name = rest.split(|b| *b == 0).next().unwrap_or_default();
        let bytes = file(shelf, &String::from_utf8_lossy(name));
        thread::spawn(move || {
            // From another port than the one that was asked, which is what makes it a case for a helper.
            let socket = UdpSocket::bind(&any(0)[..])?;
            socket.connect(from)?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            match bytes {
                None => socket.send(b"\0\x05\0\x01no such file\0").map(drop),
                Some(bytes) => send_blocks(&socket, &bytes),
            }
        });
    }
}

fn send_blocks(socket: &UdpSocket, bytes: &[u8]) -> Result<()> {
    let mut ack = [0; 64];
    // The last one is shorter than the others, be it empty.
    for block in 0..=bytes.len() / BLOCK {
        let number = (block as u16).wrapping_add(1).to_be_bytes();
        let part = &bytes[block * BLOCK..bytes.len().min((block + 1) * BLOCK)];
        let message = [&[0, 3], &number[..], part].concat();
        let acknowledged = (0..TRIES).any(|_| {
            let _ = socket.send(&message);
            matches!(socket.recv(&mut ack), Ok(4..) if ack[..4] == [0, 4, number[0], number[1]])
        });
        if !acknowledged {
            return Err(Error::other("the client does not answer"));
        }
    }
    Ok(())
}
