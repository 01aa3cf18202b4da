//! Clients and packets that talk nonsense: the daemon lives, and serves the others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::netns::Netns;
use testkit::process::{DEADLINE, eventually};
use testkit::story::{Story, Vm};
use testkit::sut::{Sut, Whose};

use crate::{can_run, start, switch, tools};

/// An OpenFlow header.
fn openflow(version: u8, kind: u8, length: u16, xid: u32) -> Vec<u8> {
    let mut header = vec![version, kind];
    header.extend(length.to_be_bytes());
    header.extend(xid.to_be_bytes());
    header
}

/// Bytes that look random and are the same on each run.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// What a bad client of any socket says.
fn nonsense() -> Vec<Vec<u8>> {
    let mut all = vec![
        Vec::new(),
        vec![0],
        vec![0; 100_000],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\"".to_vec(),
        b"{\"id\":1,\"method\":\"transact\",\"params\":[".to_vec(),
        b"[".repeat(200_000),
        b"{\"a\":".repeat(100_000),
        b"]]]]}}}}".to_vec(),
        b"null true 1e999999 -0 \"\\ud800\"".to_vec(),
        b"{\"id\":null,\"method\":null,\"params\":null}".to_vec(),
        b"{\"id\":0,\"method\":\"echo\"}".to_vec(),
        b"{\"id\":0,\"method\":\"transact\",\"params\":[\"Open_vSwitch\",{\"op\":7}]}".to_vec(),
        b"{\"id\":0,\"method\":\"transact\",\"params\":[\"no\",\"no\"]}".to_vec(),
        b"{\"id\":0,\"method\":\"monitor\",\"params\":[\"Open_vSwitch\",1,{\"Nope\":{}}]}".to_vec(),
        b"{\"id\":0,\"method\":\"monitor_cancel\",\"params\":[1,2,3]}".to_vec(),
        b"{\"id\":0,\"method\":\"ofproto/trace\",\"params\":[\"br0\",1,{}]}".to_vec(),
        b"{\"id\":0,\"method\":\"version\",\"params\":\"x\"}".to_vec(),
        b"{\"id\":0,\"result\":{},\"error\":null}".to_vec(),
    ];
    let mut string = b"{\"id\":\"".to_vec();
    string.resize(2 << 20, b'a');
    all.push(string);
    for seed in 1..20 {
        all.push(noise(seed, 4096));
    }
    // OpenFlow: every version and type with a wrong length or a body of noise.
    for version in [0, 1, 4, 5, 6, 7, 0xff] {
        for length in [0, 7, 8, 9, 0xffff] {
            all.push(openflow(version, 0, length, 1));
        }
        let hello = openflow(version, 0, 8, 1);
        for kind in (0..36).chain([0xff]) {
            let mut session = hello.clone();
            for (seed, body) in [(kind as u64 + 1, 0), (kind as u64 + 2, 8), (kind as u64 + 3, 120)]
            {
                session.extend(openflow(version, kind, 8 + body, 2));
                session.extend(noise(seed, usize::from(body)));
            }
            all.push(session);
        }
        // A message that is longer than what follows, and the client leaves.
        let mut session = hello;
        session.extend(openflow(version, 14, 4096, 3));
        session.extend([0; 64]);
        all.push(session);
    }
    all
}

/// Sends `bytes`, reads what comes back for a moment, leaves.
fn talk(socket: &str, bytes: &[u8]) {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        panic!("{socket} takes no more clients");
    };
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    // The daemon may well have closed already.
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4096];
    while let Ok(1..) = stream.read(&mut answer) {}
}

/// The daemon still serves everybody else.
fn serves(sut: &mut Sut<'_>, after: &str) {
    sut.check_alive().unwrap_or_else(|e| panic!("after {after}: {e}"));
    for line in ["ovs-vsctl --timeout=10 list-br", "ovs-ofctl -t 10 show br0", "ovs-appctl version"]
    {
        sut.ok(tools(), line).unwrap_or_else(|e| panic!("after {after}: {e}"));
    }
}

#[test]
fn bad_clients() {
    if !can_run(switch(), tools()) {
        return;
    }
    let ns = Netns::new("switch").unwrap();
    let mut sut = start(&ns);
    sut.add_bridge(tools(), &[]).unwrap();
    let mut sockets: Vec<String> = std::fs::read_dir(sut.rundir())
        .unwrap()
        .map(|entry| entry.unwrap().path().to_string_lossy().into_owned())
        .filter(|path| [".sock", ".ctl", ".mgmt", ".snoop"].iter().any(|end| path.ends_with(end)))
        .collect();
    sockets.sort();
    assert!(sockets.iter().any(|s| s.ends_with("br0.mgmt")), "{sockets:?}");
    assert!(sockets.iter().any(|s| s.ends_with(".ctl")), "{sockets:?}");
    let nonsense = nonsense();
    for socket in &sockets {
        for bytes in &nonsense {
            talk(socket, bytes);
        }
        serves(&mut sut, &format!("{} bad clients of {socket}", nonsense.len()));
    }

    // Many that say nothing and stay.
    let idle: Vec<Vec<UnixStream>> = sockets
        .iter()
        .map(|socket| (0..100).map(|_| UnixStream::connect(socket).unwrap()).collect())
        .collect();
    serves(&mut sut, "idle clients");
    drop(idle);
    serves(&mut sut, "idle clients that left");
    sut.stop().unwrap();
}

/// A client that never reads what it asked for is dropped or paused, and does not eat the memory.
#[test]
fn a_client_that_never_reads() {
    if !can_run(switch(), tools()) {
        return;
    }
    let ns = Netns::new("switch").unwrap();
    let mut sut = start(&ns);
    sut.add_bridge(tools(), &[]).unwrap();
    let before = testkit::sut::resident_bytes(sut.pid().unwrap()).unwrap();
    let echo = b"{\"id\":1,\"method\":\"echo\",\"params\":[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"]}";
    let mut stats = openflow(1, 0, 8, 1);
    for xid in 0..20_000 {
        // A request for the description, OpenFlow 1.0: a kilobyte of answer each.
        stats.extend(openflow(1, 16, 12, xid));
        stats.extend([0, 0, 0, 0]);
    }
    let clients = [("db.sock", echo.repeat(300_000)), ("br0.mgmt", stats)].map(|(name, bytes)| {
        let mut stream = UnixStream::connect(sut.file(name)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = stream.write_all(&bytes);
        stream
    });
    serves(&mut sut, "clients that never read");
    let after = testkit::sut::resident_bytes(sut.pid().unwrap()).unwrap();
    if switch() == Whose::Ours {
        assert!(after < before + (64 << 20), "{before} bytes of memory became {after}");
    }
    drop(clients);
    serves(&mut sut, "clients that never read and left");
}

/// Frames that lie about their lengths go through the whole pipeline (by packet-out to the tables)
/// with the stateful policy loaded.
#[test]
fn packets_that_lie() {
    if !can_run(switch(), tools()) {
        return;
    }
    let story = Story::new().unwrap();
    let mut sut = start(&story.sw);
    sut.add_bridge(tools(), &["vm1p", "vm2p"]).unwrap();
    sut.load_policy(tools(), testkit::story::POLICY_IP).unwrap();
    for (what, frame) in lying_frames() {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let packet = format!("in_port=2,packet={hex},actions=table");
        let ran = sut.tool(tools(), &["ovs-ofctl", "packet-out", "br0", &packet]).unwrap();
        // A frame too short for an Ethernet header may be refused, with words.
        assert!(ran.success() || !ran.stderr.is_empty(), "{what}: {ran}");
    }
    serves(&mut sut, "lying packets");
    let connections = sut.ok(tools(), "ovs-appctl dpctl/dump-conntrack").unwrap();
    assert!(!connections.contains("sport=4660"), "a lying packet made a connection: {connections}");
    eventually("honest traffic passes", DEADLINE, || Ok(story.ping(Vm::One, 1)?.then_some(())))
        .unwrap();
}

/// Frames made from honest ones by a lie each, with the lie's name. TCP and UDP come from port
/// 4660, so that a connection made of one would be found.
fn lying_frames() -> Vec<(String, Vec<u8>)> {
    let ethernet = |kind: u16| {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1];
        frame.extend(kind.to_be_bytes());
        frame
    };
    let ipv4 = |protocol: u8, body: &[u8], lie: &dyn Fn(&mut Vec<u8>)| {
        let total = (20 + body.len()) as u16;
        let mut header = vec![0x45, 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 1, 0, 0, 64, protocol, 0, 0, 192, 168, 0, 1, 192, 168, 0, 2]);
        lie(&mut header);
        header[10..12].fill(0);
        let sum = checksum(&header[..20]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = ethernet(0x0800);
        frame.extend(header);
        frame.extend(body);
        frame
    };
    let tcp = |offset: u8, flags: u8| {
        let mut body = vec![0x12, 0x34, 0, 23, 0, 0, 0, 1, 0, 0, 0, 0, offset << 4, flags];
        body.extend([0xff, 0xff, 0, 0, 0, 0]);
        body
    };
    let udp = |length: u16| {
        let mut body = vec![0x12, 0x34, 0, 53];
        body.extend(length.to_be_bytes());
        body.extend([0, 0, 1, 2, 3, 4]);
        body
    };
    let honest = |_: &mut Vec<u8>| {};
    let mut frames = vec![
        ("IHL 0".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[0] = 0x40)),
        ("IHL 4".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[0] = 0x44)),
        ("IHL 15".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[0] = 0x4f)),
        ("IP version 9".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[0] = 0x95)),
        ("total length 0".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[2..4].fill(0))),
        ("total length 19".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[3] = 19)),
        ("total length 65535".to_owned(), ipv4(6, &tcp(5, 2), &|h| h[2..4].fill(0xff))),
        ("TCP data offset 0".to_owned(), ipv4(6, &tcp(0, 2), &honest)),
        ("TCP data offset 4".to_owned(), ipv4(6, &tcp(4, 2), &honest)),
        ("TCP data offset 15".to_owned(), ipv4(6, &tcp(15, 2), &honest)),
        ("UDP length 0".to_owned(), ipv4(17, &udp(0)[..8], &|h| h[3] = 27)),
        ("UDP length 7".to_owned(), ipv4(17, &udp(7), &honest)),
        ("UDP length 65535".to_owned(), ipv4(17, &udp(0xffff), &honest)),
        ("ICMP of 3 bytes".to_owned(), ipv4(1, &[8, 0, 0], &honest)),
        ("ICMP error about nothing".to_owned(), ipv4(1, &[3, 1, 0, 0, 0, 0, 0, 0], &honest)),
    ];
    // An ICMP error about a lying packet.
    let mut about = vec![3, 1, 0, 0, 0, 0, 0, 0, 0x4f, 0, 0, 20];
    about.extend([0; 16]);
    frames.push(("ICMP error about IHL 15".to_owned(), ipv4(1, &about, &honest)));
    // IPv6 with a chain of extension headers that ends nowhere, and one that is longer than all.
    for (what, extension) in [
        ("endless extension headers", [0, 0, 0, 0, 0, 0, 0, 0].repeat(100)),
        ("an extension header of 2048 bytes", vec![6, 255, 0, 0, 0, 0, 0, 0]),
        ("a fragment header cut off", vec![44, 0, 0]),
    ] {
        let mut frame = ethernet(0x86dd);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((extension.len() as u16).to_be_bytes());
        frame.extend([if what.starts_with("a fragment") { 44 } else { 0 }, 64]);
        frame.extend([0xfd; 32]);
        frame.extend(extension);
        frames.push((what.to_owned(), frame));
    }
    // VLAN tags without end, ARP and MPLS cut off.
    let mut tags = ethernet(0x8100);
    tags.extend([0, 1, 0x81, 0].repeat(300));
    frames.push(("VLAN tags without end".to_owned(), tags));
    for kind in [0x8100, 0x88a8, 0x0806, 0x8847, 0x0800, 0x86dd, 0x894f, 0x0005] {
        for length in [0, 1, 3, 19, 39] {
            let mut frame = ethernet(kind);
            frame.extend(vec![0x45; length]);
            frames.push((format!("type {kind:#06x} and {length} bytes"), frame));
        }
    }
    // An honest TCP packet and an honest IPv6 one, cut at each byte.
    let syn = ipv4(6, &tcp(5, 2), &honest);
    for cut in 14..syn.len() {
        frames.push((format!("TCP cut at {cut}"), syn[..cut].to_vec()));
    }
    frames
}

/// The Internet checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
