//! What the host knows of its links, and changing it (rtnetlink and ethtool).
//!
//! [`Links`] asks and changes; [`Monitor`] tells when links appear, change and vanish. Both work
//! in the network namespace of the thread that opened them. Answers are taken at once: the kernel
//! answers rtnetlink within the request, so [`Links`] waits for it.

mod ethtool;
mod monitor;

use std::collections::BTreeMap;

use base::MacAddr;

pub use ethtool::{Driver, Ethtool, Features, Settings};
pub use monitor::{LinkEvent, Monitor};

use crate::netlink::{
    self, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, Socket, Writer, attrs,
    u32_of,
};
use crate::{Errno, Error, Way};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

/// `struct ifinfomsg` of `linux/rtnetlink.h`: family, pad, type, index, flags, change mask.
const IFINFO: usize = 16;

/// Attributes of a link (`linux/if_link.h`).
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const QDISC: u16 = 6;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const STATS64: u16 = 23;
    pub(super) const CARRIER_CHANGES: u16 = 35;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const MAX_MTU: u16 = 51;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const VETH_INFO_PEER: u16 = 1;
}

/// Device flags (`linux/if.h`).
mod iff {
    pub(super) const UP: u32 = 1;
    pub(super) const LOOPBACK: u32 = 0x8;
    pub(super) const RUNNING: u32 = 0x40;
    pub(super) const NOARP: u32 = 0x80;
    pub(super) const PROMISC: u32 = 0x100;
    pub(super) const LOWER_UP: u32 = 0x1_0000;
}

/// One link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Ethernet address; zero if the link has none.
    pub mac: MacAddr,
    /// Largest network-layer packet in bytes.
    pub mtu: u32,
    /// Largest MTU that the driver takes; 0 if unknown.
    pub max_mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Operational (up, and carrier present).
    pub running: bool,
    /// The physical layer (or the veth's other end) is up.
    pub lower_up: bool,
    /// In promiscuous mode by its flags (not by a packet socket's membership).
    pub promiscuous: bool,
    /// Does not answer ARP.
    pub noarp: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Driver kind (`veth`, `tun`, `bridge`, …); `None` for most physical devices.
    pub kind: Option<String>,
    /// Interface index of the bridge, bond, … that it belongs to.
    pub master: Option<u32>,
    /// Interface index of the other end (veth) or of the device below.
    pub peer: Option<u32>,
    /// Namespace id of `peer`, if it is in another namespace.
    pub peer_netns: Option<i32>,
    /// The queueing discipline through which it sends.
    pub qdisc: Option<String>,
    /// How often the carrier came or went.
    pub carrier_changes: u32,
    /// Counters.
    pub stats: LinkStats,
}

/// Counters of a link as the host sees them (`struct rtnl_link_stats64`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Failed transmissions.
    pub tx_errors: u64,
    /// Dropped on reception for lack of resources.
    pub rx_dropped: u64,
    /// Dropped on transmission for lack of resources.
    pub tx_dropped: u64,
    /// Multicast packets received.
    pub rx_multicast: u64,
    /// Collisions.
    pub collisions: u64,
    /// Ring buffer overflows.
    pub rx_over_errors: u64,
    /// Packets with a bad checksum of the frame.
    pub rx_crc_errors: u64,
    /// Misaligned frames.
    pub rx_frame_errors: u64,
    /// Missed by the device.
    pub rx_missed_errors: u64,
}

impl LinkStats {
    fn parse(value: &[u8]) -> LinkStats {
        let n = |i: usize| {
            let word = value.get(8 * i..).and_then(|v| v.first_chunk());
            word.map_or(0, |b| u64::from_ne_bytes(*b))
        };
        LinkStats {
            rx_packets: n(0),
            tx_packets: n(1),
            rx_bytes: n(2),
            tx_bytes: n(3),
            rx_errors: n(4),
            tx_errors: n(5),
            rx_dropped: n(6),
            tx_dropped: n(7),
            rx_multicast: n(8),
            collisions: n(9),
            rx_over_errors: n(11),
            rx_crc_errors: n(12),
            rx_frame_errors: n(13),
            rx_missed_errors: n(15),
        }
    }

    /// The same counters seen from the other side. The host's view of a tap that the switch holds
    /// is the inverse of the switch's: what the host sends there is what the switch receives.
    /// What has no counterpart on that side becomes zero.
    pub fn inverted(&self) -> LinkStats {
        LinkStats {
            rx_packets: self.tx_packets,
            tx_packets: self.rx_packets,
            rx_bytes: self.tx_bytes,
            tx_bytes: self.rx_bytes,
            rx_errors: self.tx_errors,
            tx_errors: self.rx_errors,
            rx_dropped: self.tx_dropped,
            tx_dropped: self.rx_dropped,
            ..LinkStats::default()
        }
    }
}

impl Link {
    /// How packets get to what is behind it. Past a veth's own queueing discipline, if it has one, none may go to its
    /// other end.
    pub fn way(&self) -> Way {
        let is_far = self.kind.as_deref() == Some("veth") && self.peer_netns.is_some();
        let is_plain = self.qdisc.as_deref() == Some("noqueue");
        match (self.up && self.lower_up, is_far && is_plain) {
            (false, _) => Way::Nowhere,
            (true, false) => Way::Device,
            (true, true) => Way::Peer,
        }
    }

    /// Reads the body of an `RTM_NEWLINK` or `RTM_DELLINK` message.
    fn parse(body: &[u8]) -> Option<Link> {
        let flags = u32_of(body.get(8..IFINFO)?);
        let mut link = Link {
            ifindex: u32_of(&body[4..]),
            up: flags & iff::UP != 0,
            running: flags & iff::RUNNING != 0,
            lower_up: flags & iff::LOWER_UP != 0,
            promiscuous: flags & iff::PROMISC != 0,
            noarp: flags & iff::NOARP != 0,
            loopback: flags & iff::LOOPBACK != 0,
            ..Link::default()
        };
        for (kind, value) in attrs(&body[IFINFO..]) {
            match kind {
                ifla::IFNAME => link.name = netlink::str_of(value),
                ifla::ADDRESS => {
                    if let Ok(mac) = value.try_into() {
                        link.mac = MacAddr(mac);
                    }
                }
                ifla::MTU => link.mtu = u32_of(value),
                ifla::MAX_MTU => link.max_mtu = u32_of(value),
                ifla::MASTER => link.master = Some(u32_of(value)).filter(|&i| i != 0),
                ifla::LINK => link.peer = Some(u32_of(value)).filter(|&i| i != 0),
                ifla::LINK_NETNSID => link.peer_netns = Some(u32_of(value) as i32),
                ifla::QDISC => link.qdisc = Some(netlink::str_of(value)),
                ifla::CARRIER_CHANGES => link.carrier_changes = u32_of(value),
                ifla::STATS64 => link.stats = LinkStats::parse(value),
                ifla::LINKINFO => {
                    let kind = attrs(value).find(|(k, _)| *k == ifla::INFO_KIND);
                    link.kind = kind.map(|(_, v)| netlink::str_of(v));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// The links that a datagram of the kernel describes.
pub fn links_of_datagram(datagram: &[u8]) -> impl Iterator<Item = Link> {
    netlink::messages(datagram).filter_map(|m| Link::parse(m.body))
}

/// Asks for links and changes them.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

fn ifinfo(ifindex: u32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut h = [0; IFINFO];
    h[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    h[8..12].copy_from_slice(&flags.to_ne_bytes());
    h[12..16].copy_from_slice(&change.to_ne_bytes());
    h
}

impl Links {
    /// For the calling thread's network namespace.
    pub fn open() -> Result<Links, Error> {
        let socket = Socket::open(libc::NETLINK_ROUTE, 0)
            .map_err(|errno| Error::Netlink { action: "socket", errno })?;
        Ok(Links { socket })
    }

    /// All links, by interface index.
    pub fn dump(&mut self) -> Result<BTreeMap<u32, Link>, Error> {
        let fail = |errno| Error::Netlink { action: "link dump", errno };
        for attempt in 0.. {
            let mut found = BTreeMap::new();
            let seq = self.socket.next_seq();
            let mut w = Writer::default();
            w.message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, seq, &ifinfo(0, 0, 0));
            let r = self.socket.transact(&w, (seq, seq), |m| {
                if let (RTM_NEWLINK, Some(link)) = (m.kind, Link::parse(m.body)) {
                    found.insert(link.ifindex, link);
                }
            });
            match r {
                // A change interrupted the dump, or a buffer had to grow.
                Err(Errno(libc::EAGAIN | libc::ENOBUFS)) if attempt < 10 => {}
                r => return r.map(|()| found).map_err(fail),
            }
        }
        Err(fail(Errno(libc::EAGAIN)))
    }

    fn get(&mut self, head: &[u8], name: Option<&str>) -> Result<Option<Link>, Errno> {
        let mut found = None;
        let seq = self.socket.next_seq();
        let mut w = Writer::default();
        w.message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, seq, head);
        if let Some(name) = name {
            w.attr_str(ifla::IFNAME, name);
        }
        let r = self.socket.transact(&w, (seq, seq), |m| {
            if m.kind == RTM_NEWLINK {
                found = Link::parse(m.body);
            }
        });
        match r {
            Ok(()) => Ok(found),
            Err(Errno(libc::ENODEV)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The link of that name, if there is one.
    pub fn by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        if crate::sys::Ifreq::new(name).is_err() {
            return Ok(None); // no link can have it
        }
        self.get(&ifinfo(0, 0, 0), Some(name)).map_err(|errno| Error::open(name, errno))
    }

    /// The link of that interface index, if there is one.
    pub fn by_index(&mut self, ifindex: u32) -> Result<Option<Link>, Error> {
        if ifindex == 0 {
            return Ok(None);
        }
        self.get(&ifinfo(ifindex, 0, 0), None)
            .map_err(|errno| Error::Netlink { action: "link query", errno })
    }

    fn change(
        &mut self,
        name: &str,
        action: &'static str,
        (flags, mask): (u32, u32),
        value: Option<(u16, &[u8])>,
    ) -> Result<(), Error> {
        let fail = |errno| Error::Change { device: name.to_owned(), action, errno };
        crate::sys::Ifreq::new(name).map_err(fail)?;
        let seq = self.socket.next_seq();
        let mut w = Writer::default();
        w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, seq, &ifinfo(0, flags, mask));
        w.attr_str(ifla::IFNAME, name);
        if let Some((kind, value)) = value {
            w.attr(kind, value);
        }
        self.socket.transact(&w, (seq, seq), |_| ()).map_err(fail)
    }

    /// Takes the link up or down.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), Error> {
        let action = if up { "setting the link up" } else { "setting the link down" };
        self.change(name, action, (if up { iff::UP } else { 0 }, iff::UP), None)
    }

    /// Makes a pair of links that are each other's far end. Both start down.
    pub fn add_veth(&mut self, name: &str, far: &str) -> Result<(), Error> {
        let fail =
            |errno| Error::Change { device: name.to_owned(), action: "making a veth pair", errno };
        for name in [name, far] {
            crate::sys::Ifreq::new(name).map_err(fail)?;
        }
        let seq = self.socket.next_seq();
        let mut w = Writer::default();
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        w.message(RTM_NEWLINK, flags, seq, &ifinfo(0, 0, 0));
        w.attr_str(ifla::IFNAME, name);
        let info = w.nest(ifla::LINKINFO);
        w.attr_str(ifla::INFO_KIND, "veth");
        let data = w.nest(ifla::INFO_DATA);
        // The peer's description: a message's fixed part and its one attribute.
        let mut peer = ifinfo(0, 0, 0).to_vec();
        peer.extend_from_slice(&((4 + far.len() + 1) as u16).to_ne_bytes());
        peer.extend_from_slice(&ifla::IFNAME.to_ne_bytes());
        peer.extend_from_slice(far.as_bytes());
        peer.push(0);
        w.attr(ifla::VETH_INFO_PEER, &peer);
        w.end(data);
        w.end(info);
        self.socket.transact(&w, (seq, seq), |_| ()).map_err(fail)
    }

    /// Deletes a link, and a veth's other end with it.
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        let fail = |errno| Error::Change { device: name.to_owned(), action: "deleting", errno };
        crate::sys::Ifreq::new(name).map_err(fail)?;
        let seq = self.socket.next_seq();
        let mut w = Writer::default();
        w.message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, seq, &ifinfo(0, 0, 0));
        w.attr_str(ifla::IFNAME, name);
        self.socket.transact(&w, (seq, seq), |_| ()).map_err(fail)
    }

    /// Sets the Ethernet address.
    pub fn set_mac(&mut self, name: &str, mac: MacAddr) -> Result<(), Error> {
        self.change(name, "setting the address", (0, 0), Some((ifla::ADDRESS, &mac.0)))
    }

    /// Sets the MTU.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), Error> {
        let value = mtu.to_ne_bytes();
        self.change(name, "setting the MTU", (0, 0), Some((ifla::MTU, &value)))
    }

    /// Sets whether the host answers and sends ARP on the link.
    pub fn set_arp(&mut self, name: &str, arp: bool) -> Result<(), Error> {
        let flags = if arp { 0 } else { iff::NOARP };
        self.change(name, "changing ARP", (flags, iff::NOARP), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_by_every_way() {
        let mut links = Links::open().unwrap();
        let lo = links.by_name("lo").unwrap().unwrap();
        assert!(lo.loopback && lo.ifindex == 1);
        assert_eq!(links.by_index(1).unwrap().unwrap().name, "lo");
        assert_eq!(links.dump().unwrap()[&1].mtu, lo.mtu);
        assert_eq!(links.by_name("nosuchdev").unwrap(), None);
        assert_eq!(links.by_name("a-name-too-long-for-linux").unwrap(), None);
        assert_eq!(links.by_index(0).unwrap(), None);
    }

    #[test]
    fn refused_changes_say_what_and_why() {
        let e = Links::open().unwrap().set_mtu("nosuchdev", 1400).unwrap_err();
        assert_eq!(e.to_string(), "nosuchdev: setting the MTU failed (No such device)");
    }

    #[test]
    fn the_inverse_of_the_inverse_keeps_what_both_sides_have() {
        let s = LinkStats {
            rx_packets: 1,
            tx_packets: 2,
            rx_bytes: 3,
            tx_dropped: 4,
            ..LinkStats::default()
        };
        assert_eq!(s.inverted().inverted(), s);
        assert_eq!(s.inverted().rx_packets, 2);
    }
}
