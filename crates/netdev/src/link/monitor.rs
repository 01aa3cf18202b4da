//! Telling when links appear, change and vanish.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::{Link, LinkStats, Links, RTM_DELLINK, RTM_NEWLINK};
use crate::netlink::{Socket, messages};
use crate::{Errno, Error};

/// Multicast group of link changes (`RTMGRP_LINK`).
const GROUP: u32 = 1;
/// Family of notices that a bridge sends about its ports; they describe no change of the link.
const AF_BRIDGE: u8 = 7;

/// A change of the set of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link appeared (or was there when the monitor was opened).
    Added(Link),
    /// Something but the counters changed, maybe the name.
    Changed {
        /// What it was.
        old: Box<Link>,
        /// What it is.
        new: Box<Link>,
    },
    /// A link vanished, or moved to another namespace.
    Removed(Link),
}

/// Follows the links of one network namespace.
///
/// Keeps its own picture, so that a repeated notice of the kernel yields nothing, and a lost one
/// (the socket's buffer overflowed) is made up by asking for all links and comparing.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    links: Links,
    known: BTreeMap<u32, Link>,
    resync: bool,
}

impl Monitor {
    /// For the calling thread's network namespace. The first [`Monitor::poll`] reports all links
    /// as added.
    pub fn open() -> Result<Monitor, Error> {
        let socket = Socket::open(libc::NETLINK_ROUTE, GROUP)
            .map_err(|errno| Error::Netlink { action: "socket", errno })?;
        Ok(Monitor { socket, links: Links::open()?, known: BTreeMap::new(), resync: true })
    }

    /// All links as of the last poll, by interface index.
    pub fn known(&self) -> &BTreeMap<u32, Link> {
        &self.known
    }

    /// What has happened since the last call, in order. Does not wait for events; readable means
    /// call.
    pub fn poll(&mut self) -> Result<Vec<LinkEvent>, Error> {
        let mut events = Vec::new();
        loop {
            match self.socket.recv_some() {
                Ok(n) => {
                    for m in messages(self.socket.datagram(n)) {
                        if m.body.first() == Some(&AF_BRIDGE) {
                            continue;
                        }
                        let Some(link) = Link::parse(m.body) else { continue };
                        match m.kind {
                            RTM_NEWLINK => note(&mut self.known, link, &mut events),
                            RTM_DELLINK => {
                                let gone = self.known.remove(&link.ifindex);
                                events.extend(gone.map(LinkEvent::Removed));
                            }
                            _ => {}
                        }
                    }
                }
                Err(Errno(libc::EAGAIN)) => break,
                Err(Errno(libc::ENOBUFS)) => self.resync = true,
                Err(errno) => return Err(Error::Netlink { action: "link monitor", errno }),
            }
        }
        if self.resync {
            let now = self.links.dump()?;
            self.resync = false;
            let gone: Vec<u32> =
                self.known.keys().filter(|i| !now.contains_key(i)).copied().collect();
            for ifindex in gone {
                events.extend(self.known.remove(&ifindex).map(LinkEvent::Removed));
            }
            for link in now.into_values() {
                note(&mut self.known, link, &mut events);
            }
        }
        Ok(events)
    }
}

/// Takes a description into the picture and reports it if it is news.
fn note(known: &mut BTreeMap<u32, Link>, new: Link, events: &mut Vec<LinkEvent>) {
    let still = |l: &Link| Link { stats: LinkStats::default(), ..l.clone() };
    match known.insert(new.ifindex, new.clone()) {
        None => events.push(LinkEvent::Added(new)),
        // Interface indexes are not used again soon, but names of another link may be.
        Some(old) if still(&old) != still(&new) => {
            events.push(LinkEvent::Changed { old: Box::new(old), new: Box::new(new) });
        }
        Some(_) => {}
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_is_reported() {
        let mut known = BTreeMap::new();
        let mut events = Vec::new();
        let a = Link { name: "a".into(), ifindex: 5, ..Link::default() };
        note(&mut known, a.clone(), &mut events);
        let mut busy = a.clone();
        busy.stats.rx_packets = 9;
        note(&mut known, busy.clone(), &mut events);
        let b = Link { name: "b".into(), ..a.clone() };
        note(&mut known, b.clone(), &mut events);
        assert_eq!(
            events,
            [LinkEvent::Added(a), LinkEvent::Changed { old: Box::new(busy), new: Box::new(b) }]
        );
    }
}
