//! The simulated world: devices in memory, under the thumb of whoever tests.
//!
//! A simulated device is a [`netdev::dummy`] port whose other end is held here. What the switch sends
//! is taken from it after each turn of the datapath ([`Sim::collect`]): written to a capture file, sent
//! over its `cable`, answered if it asks who has the device's address. What arrives is put on it by
//! `netdev-dummy/receive`, or comes over the cable. With simulated devices the datapath has no thread of its own, so that nothing happens by itself and a
//! command's reply comes after all that the command set in motion.

mod cable;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use base::MacAddr;
use netdev::Port;
use netdev::dummy::{Dummy, DummyHandle};
use netdev::link::Link;
use packet::header::{be16, be32, ethertype};
use packet::{PacketBuf, pcap};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::log;

pub use cable::Arrival;
use cable::Cable;

/// MTU of a simulated device.
const MTU: u32 = 1500;

/// What simulated devices take the place of (`--enable-dummy`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing: they have types of their own.
    Beside,
    /// The type `system`.
    System,
    /// All types.
    Override,
}

/// See the module.
#[derive(Debug)]
pub struct Sim {
    /// What is simulated.
    pub level: Level,
    /// Number that the next device's address ends in.
    next: u32,
    /// Takes what comes over cables.
    arrivals: UnboundedSender<Arrival>,
    devices: BTreeMap<String, SimDevice>,
}

/// The world's side of a simulated device.
#[derive(Debug)]
pub struct SimDevice {
    handle: DummyHandle,
    /// What the host would say of it.
    pub link: Link,
    /// Addresses it answers ARP for.
    addresses: Vec<Ipv4Addr>,
    captured_in: Option<Pcap>,
    captured_out: Option<Pcap>,
    cable: Option<Cable>,
}

impl Sim {
    /// A world without devices. What comes over their cables goes to `arrivals`.
    pub fn new(level: Level, arrivals: UnboundedSender<Arrival>) -> Sim {
        // The datapath's own port would have been the first device.
        Sim { level, next: 1, arrivals, devices: BTreeMap::new() }
    }

    /// Makes a device, or opens the one of this name anew.
    pub fn open(
        &mut self,
        name: &str,
        options: &BTreeMap<String, String>,
        n_queues: usize,
    ) -> Box<dyn Port> {
        let (port, handle) = Dummy::without_offloads(name, MTU);
        let port = port.with_queues(n_queues);
        if let Some(device) = self.devices.get_mut(name) {
            device.handle = handle;
            return Box::new(port);
        }
        let number = u64::from(self.next);
        self.next += 1;
        let link = Link {
            name: name.to_owned(),
            mac: MacAddr::from_u64(0xaa55_aa55_0000 + number),
            mtu: MTU,
            up: true,
            running: true,
            lower_up: true,
            ..Link::default()
        };
        let device = SimDevice {
            handle,
            link,
            addresses: Vec::new(),
            captured_in: None,
            captured_out: None,
            cable: None,
        };
        self.devices.insert(name.to_owned(), device);
        self.configure(name, options);
        Box::new(port)
    }

    /// Follows a change of a device's options.
    pub fn configure(&mut self, name: &str, options: &BTreeMap<String, String>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let number = options.get("ifindex").and_then(|v| v.parse().ok());
        device.link.ifindex = number.unwrap_or(0);
        let file = |key: &str| {
            let path = options.get("pcap").or_else(|| options.get(key))?;
            let opened = Pcap::open(Path::new(path));
            opened.map_err(|e| log!(Warn, NetdevDummy, "{path}: {e}")).ok()
        };
        device.captured_in = file("rxq_pcap");
        device.captured_out = file("tx_pcap");
        let target = match (options.get("stream"), options.get("pstream")) {
            (Some(one), Some(other)) => {
                log!(Warn, NetdevDummy, "Open failed: both {other} and {one} are configured");
                return;
            }
            (one, other) => one.or(other),
        };
        if device.cable.as_ref().map(Cable::target) != target.map(String::as_str) {
            device.cable = target.and_then(|t| {
                let plugged = Cable::plug(name, t, self.arrivals.clone());
                plugged.map_err(|e| log!(Warn, NetdevDummy, "{t}: open failed ({e})")).ok()
            });
        }
    }

    /// The device is closed.
    pub fn close(&mut self, name: &str) {
        self.devices.remove(name);
    }

    /// A device.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut SimDevice> {
        self.devices.get_mut(name)
    }

    /// A device.
    pub fn get(&self, name: &str) -> Option<&SimDevice> {
        self.devices.get(name)
    }

    /// All devices by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &SimDevice)> {
        self.devices.iter()
    }

    /// Takes what the switch sent. Returns whether something came back because of it.
    pub fn collect(&mut self) -> bool {
        let mut answered = false;
        for device in self.devices.values_mut() {
            while let Some(pkt) = device.handle.take() {
                if let Some(file) = &mut device.captured_out {
                    file.write(pkt.frame());
                }
                if let Some(cable) = &device.cable {
                    cable.send(pkt.frame());
                }
                if let Some(reply) = device.arp_reply(pkt.frame()) {
                    device.receive(&reply);
                    answered = true;
                }
            }
        }
        answered
    }
}

impl SimDevice {
    /// A frame arrives from outside, at the first receive queue.
    pub fn receive(&mut self, frame: &[u8]) {
        self.receive_by(0, frame);
    }

    /// The same at one of its queues. False if there is no such queue.
    pub fn receive_by(&mut self, queue: usize, frame: &[u8]) -> bool {
        let is_there = self.handle.inject_into(queue, PacketBuf::from_frame(frame));
        if let Some(file) = &mut self.captured_in
            && is_there
        {
            file.write(frame);
        }
        is_there
    }

    /// How many receive queues it has.
    pub fn n_queues(&self) -> usize {
        self.handle.n_queues()
    }

    /// Whether its cable's other end is there; `None` without a cable, or with one that waits for it.
    pub fn is_connected(&self) -> Option<bool> {
        self.cable.as_ref().and_then(Cable::is_connected)
    }

    /// Gives the device an address that it answers for.
    pub fn add_address(&mut self, address: Ipv4Addr) {
        self.addresses.push(address);
    }

    /// The answer to a frame that asks who has one of the device's addresses.
    fn arp_reply(&self, frame: &[u8]) -> Option<[u8; 42]> {
        const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
        let is_request = be16(frame, 12) == Some(ethertype::ARP) && frame.get(14..22)? == REQUEST;
        let target = Ipv4Addr::from(be32(frame, 38)?);
        if !is_request || !self.addresses.contains(&target) {
            return None;
        }
        let mut reply = [0; 42];
        reply[..6].copy_from_slice(&frame[6..12]);
        reply[6..12].copy_from_slice(&self.link.mac.0);
        reply[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        reply[22..28].copy_from_slice(&self.link.mac.0);
        reply[28..32].copy_from_slice(&frame[38..42]);
        reply[32..42].copy_from_slice(&frame[22..32]);
        Some(reply)
    }
}

/// A capture file.
#[derive(Debug)]
struct Pcap(File);

impl Pcap {
    /// Opens a file to append to; a new one gets its header.
    fn open(path: &Path) -> io::Result<Pcap> {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(&pcap::file_header(1518))?;
        }
        Ok(Pcap(file))
    }

    /// A packet. A disk that is full loses it.
    fn write(&mut self, frame: &[u8]) {
        let now = clock::unix_time();
        let header =
            pcap::record_header(now.as_secs() as u32, now.subsec_micros(), frame.len() as u32);
        let mut record = Vec::with_capacity(header.len() + frame.len());
        record.extend(header);
        record.extend(frame);
        if let Err(e) = self.0.write_all(&record) {
            log!(Warn, NetdevDummy, "cannot write to a capture file: {e}");
        }
    }
}
