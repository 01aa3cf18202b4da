//! A network namespace for the calling thread, frames, and waiting for them.

#![allow(dead_code)] // each test file uses a part

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netdev::af_packet::{AfPacket, Options};
use netdev::poll::Poller;
use netdev::{Port, RxQueue, TxQueue, new_batch};
use packet::{GsoType, Offload, PacketBuf};
use testkit::netns::Netns;

/// Moves the calling thread, and threads it will start, into a namespace.
pub fn enter(ns: &Netns) {
    let file = File::open(format!("/proc/{}/ns/net", ns.pid())).expect("namespace file");
    #[allow(unsafe_code)] // std has no setns
    // SAFETY: a descriptor and a flag; changes only this thread's network namespace.
    let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
}

/// A namespace with this thread in it.
pub fn inside(name: &str) -> Netns {
    let ns = Netns::new(name).expect("a network namespace (root or user namespaces)");
    enter(&ns);
    ns
}

/// Waits until links are operational. Right after it came up, a link has its carrier but not yet
/// its queue (the kernel's link watch comes later), and what is sent is lost.
pub fn wait_running(devices: &[&str]) {
    let mut links = netdev::link::Links::open().expect("rtnetlink");
    for device in devices {
        testkit::process::eventually(device, Duration::from_secs(10), || {
            let link = links.by_name(device)?;
            Ok(link.is_some_and(|l| l.running).then_some(()))
        })
        .expect("operational");
    }
}

/// One end of a test: a port with its halves.
pub struct End {
    pub port: Box<dyn Port>,
    pub rx: Box<dyn RxQueue>,
    pub tx: Box<dyn TxQueue>,
    bufs: Vec<PacketBuf>,
    poller: Poller,
    backlog: std::collections::VecDeque<PacketBuf>,
}

impl End {
    pub fn of(port: impl Port + 'static) -> End {
        End::of_boxed(Box::new(port))
    }

    pub fn of_boxed(mut port: Box<dyn Port>) -> End {
        let rx = port.take_rx().expect("first taker");
        let tx = port.open_tx().expect("a sending half");
        let poller = Poller::new().expect("epoll");
        poller.add(rx.fd().expect("a descriptor"), 0).expect("epoll add");
        let backlog = std::collections::VecDeque::new();
        End { port, rx, tx, bufs: new_batch(), poller, backlog }
    }

    /// A kernel device, shared with the host.
    pub fn shared(device: &str) -> End {
        let options = Options { exclusive: &[], ..Options::default() };
        End::of(AfPacket::open(device, options).expect("open"))
    }

    /// The next frame that `wanted` likes; others are forgotten. `None` after a time without.
    pub fn next(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&PacketBuf) -> bool,
    ) -> Option<PacketBuf> {
        let end = Instant::now() + patience;
        loop {
            while let Some(p) = self.backlog.pop_front() {
                if wanted(&p) {
                    return Some(p);
                }
            }
            let got = self.rx.recv(&mut self.bufs);
            self.backlog.extend(self.bufs[..got.n].iter().cloned());
            if got.n == 0 && !got.more {
                let left = end.checked_duration_since(Instant::now())?;
                self.poller.wait(Some(left), &mut Vec::new()).expect("wait");
            }
        }
    }

    /// The next frame with our mark ([`MARK`] as source address).
    pub fn marked(&mut self) -> PacketBuf {
        self.next(Duration::from_secs(5), |p| p.frame()[6..12] == MARK).expect("a frame within 5 s")
    }

    pub fn send(&mut self, p: &PacketBuf) -> usize {
        self.tx.send(&[p])
    }
}

/// Source address of the tests' frames.
pub const MARK: [u8; 6] = [2, 0xab, 0, 0, 0, 1];

/// A TCP/IPv4 segment with `payload` bytes to be cut at `size`, with a partial checksum, behind
/// `tags` VLAN tags.
pub fn large(payload: usize, size: u16, tags: &[[u8; 4]]) -> PacketBuf {
    let mut f = vec![2, 0xab, 0, 0, 0, 2];
    f.extend(MARK);
    f.extend(tags.concat());
    let l4 = f.len() + 2 + 20;
    f.extend([8, 0, 0x45, 0]);
    f.extend((40 + payload as u16).to_be_bytes());
    f.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    let sum = packet::checksum::checksum(&f[l4 - 20..]);
    f[l4 - 10..l4 - 8].copy_from_slice(&sum.to_be_bytes());
    f.extend([0, 80, 0x30, 0x39, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = packet::checksum::pseudo_v4(0x0a09_0001, 0x0a09_0002, 6, 20 + payload as u32);
    let sum = packet::checksum::fold(pseudo);
    f[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    f.extend((0..payload).map(|i| i as u8));
    let mut p = PacketBuf::from_frame(&f);
    p.offload = Offload {
        needs_csum: true,
        gso_type: GsoType::TcpV4,
        hdr_len: l4 as u16 + 20,
        gso_size: size,
        csum_start: l4 as u16,
        csum_offset: 16,
        ..Offload::default()
    };
    p
}

/// A small frame of an experimental EtherType.
pub fn small(tags: &[[u8; 4]]) -> PacketBuf {
    let mut f = vec![0xff; 6];
    f.extend(MARK);
    f.extend(tags.concat());
    f.extend([0x88, 0xb5]);
    f.resize(64, 0x5a);
    PacketBuf::from_frame(&f)
}

/// An ARP request for `target` from `sender`.
pub fn arp_request(sender: [u8; 4], target: [u8; 4]) -> PacketBuf {
    let mut f = vec![0xff; 6];
    f.extend(MARK);
    f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(MARK);
    f.extend(sender);
    f.extend([0; 6]);
    f.extend(target);
    f.resize(60, 0);
    PacketBuf::from_frame(&f)
}

/// An ARP reply to [`MARK`].
pub fn is_arp_reply(p: &PacketBuf) -> bool {
    p.frame().get(12..14) == Some(&[8, 6]) && p.frame().get(20..22) == Some(&[0, 2])
}
