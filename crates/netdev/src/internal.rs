//! The switch's own ports: a tap where taps can be had, else one end of a veth pair.
//!
//! A container or a user namespace often has no right to `/dev/net/tun` but may make links. There an
//! internal port `br0` is a veth whose other end, named after it, the switch holds by a packet
//! socket. The host uses `br0` the same way. The pair goes with the port.

use std::sync::Arc;

use crate::af_packet::{AfPacket, Options};
use crate::link::Links;
use crate::tap::Tap;
use crate::{Counters, Errno, Error, Port, PortState, RxQueue, TxQueue, Warning};

/// Opens the internal port `name`, making its device, with so many receive queues.
///
/// # Errors
/// As [`Tap::with_queues`]; where there is no right to taps, that of making a veth pair.
pub fn open(name: &str, n_queues: usize) -> Result<Box<dyn Port>, Error> {
    match Tap::with_queues(name, n_queues) {
        Ok(tap) => Ok(Box::new(tap)),
        Err(e) if matches!(e.errno().0, libc::EACCES | libc::EPERM | libc::ENOENT) => {
            // The tap's reason is the one to tell if this does not work either.
            open_veth(name, n_queues).map_err(|_| e)
        }
        Err(e) => Err(e),
    }
}

/// Opens the internal port `name` as a veth pair, whether taps can be had or not.
///
/// # Errors
/// The links cannot be made, or `name` is taken.
pub fn open_veth(name: &str, n_queues: usize) -> Result<Box<dyn Port>, Error> {
    Ok(Box::new(VethEnd::open(name, n_queues)?))
}

/// Longest device name (`IFNAMSIZ` less its NUL).
const MAX_NAME: usize = 15;

/// Name of the switch's end: `br0~sw`, shortened to what a device name may have.
fn far_name(name: &str) -> String {
    const SUFFIX: &str = "~sw";
    if name.len() + SUFFIX.len() <= MAX_NAME {
        return format!("{name}{SUFFIX}");
    }
    let hash = base::hash_words(
        base::HashKey::default(),
        &name.bytes().map(u64::from).collect::<Vec<_>>(),
    );
    let kept: String = name.chars().take(4).filter(char::is_ascii).collect();
    format!("{kept}{:07x}{SUFFIX}", hash & 0xfff_ffff)
}

/// A veth pair as an internal port.
#[derive(Debug)]
struct VethEnd {
    name: String,
    ifindex: u32,
    links: Links,
    far: Option<AfPacket>,
}

impl VethEnd {
    fn open(name: &str, n_queues: usize) -> Result<VethEnd, Error> {
        let mut links = Links::open()?;
        let far = far_name(name);
        // A killed daemon may have left the pair behind. Only a pair with our name on it goes.
        if links.by_name(&far)?.is_some() {
            links.delete(&far)?;
        }
        links.add_veth(name, &far)?;
        let mut end = VethEnd { name: name.to_owned(), ifindex: 0, links, far: None };
        end.links.set_up(&far, true)?;
        let link = end.links.by_name(name)?;
        end.ifindex = link.ok_or_else(|| Error::open(name, Errno(libc::ENODEV)))?.ifindex;
        end.far = Some(AfPacket::open(&far, Options { n_queues, ..Options::default() })?);
        Ok(end)
    }

    fn gone(&self) -> Error {
        Error::open(&self.name, Errno(libc::ENODEV))
    }
}

impl Drop for VethEnd {
    fn drop(&mut self) {
        // Descriptors first: they hold the device busy.
        self.far = None;
        let _ = self.links.delete(&self.name);
    }
}

impl Port for VethEnd {
    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> Option<u32> {
        Some(self.ifindex)
    }

    fn state(&self) -> &Arc<PortState> {
        // `far` is there from the end of `open` until the drop.
        self.far.as_ref().expect("an open port has its far end").state()
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        self.far.as_mut()?.take_rx()
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        self.far.as_ref().ok_or_else(|| self.gone())?.open_tx()
    }

    fn counters(&self) -> Counters {
        self.far.as_ref().map(Port::counters).unwrap_or_default()
    }

    fn warnings(&self) -> &[Warning] {
        self.far.as_ref().map_or(&[], Port::warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_ends_have_names_that_fit_and_differ() {
        assert_eq!(far_name("br0"), "br0~sw");
        let (a, b) = (far_name("a-long-bridge-1"), far_name("a-long-bridge-2"));
        assert!(a.len() <= MAX_NAME && b.len() <= MAX_NAME && a != b, "{a} {b}");
    }
}
