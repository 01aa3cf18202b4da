//! Devices that are only the switch's own: `type=null` and `type=replay` ([`netdev::null`],
//! [`netdev::replay`]).
//!
//! The host knows nothing of them. What it says of other devices ([`Link`]) is kept here: always a
//! link, and whatever address and MTU they are given.

use std::collections::BTreeMap;

use base::{HashKey, MacAddr};
use netdev::Port;
use netdev::link::Link;
use netdev::null::Null;
use netdev::replay::{Options, Replay};

use crate::config::InterfaceConfig;

/// MTU of a device that is given none.
const MTU: u32 = 1500;

/// The devices by name. See the module.
#[derive(Debug, Default)]
pub struct Memory {
    links: BTreeMap<String, Link>,
}

impl Memory {
    /// Makes a device of `type=null`.
    ///
    /// # Errors
    /// An option, of which it has none.
    pub fn open_null(
        &mut self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Box<dyn Port>, String> {
        if let Some(option) = options.keys().next() {
            return Err(format!("{name}: type=null has no options, so no options:{option}"));
        }
        self.add(name);
        Ok(Box::new(Null::new(name, MTU)))
    }

    /// Makes a device of `type=replay`. `endless`: whether something that never ends can be played.
    ///
    /// # Errors
    /// What is wrong with an option or the file, and what would be right.
    pub fn open_replay(
        &mut self,
        name: &str,
        config: &InterfaceConfig,
        endless: bool,
    ) -> Result<Box<dyn Port>, String> {
        let options = Options { n_queues: config.n_rxq, ..replay_options(name, &config.options)? };
        if options.repeat && !endless {
            return Err(format!(
                "{name}: options:loop=true would never end in the simulated datapath, which works until \
                 nothing moves: options:loop=false"
            ));
        }
        let port = Replay::open(name, MTU, &options).map_err(|e| e.to_string())?;
        self.add(name);
        Ok(Box::new(port))
    }

    fn add(&mut self, name: &str) {
        let words: Vec<u64> = name.bytes().map(u64::from).collect();
        // Locally administered, not a group; the same each time.
        let drawn = base::hash_words(HashKey::default(), &words);
        let link = Link {
            name: name.to_owned(),
            mac: MacAddr::from_u64(drawn & 0xfcff_ffff_ffff | 0x0200_0000_0000),
            mtu: MTU,
            up: true,
            running: true,
            lower_up: true,
            ..Link::default()
        };
        self.links.insert(name.to_owned(), link);
    }

    /// The device is closed.
    pub fn close(&mut self, name: &str) {
        self.links.remove(name);
    }

    /// What there is to say of a device.
    pub fn get(&self, name: &str) -> Option<&Link> {
        self.links.get(name)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Link> {
        self.links.get_mut(name)
    }
}

/// What an Interface's `options` ask of a replay.
fn replay_options(name: &str, options: &BTreeMap<String, String>) -> Result<Options, String> {
    if let Some(option) = options.keys().find(|o| !["pcap", "loop", "n_rxq"].contains(&o.as_str()))
    {
        return Err(format!(
            "{name}: type=replay has no options:{option}; it has options:pcap=FILE, options:loop=true and options:n_rxq=N"
        ));
    }
    let file = options.get("pcap").filter(|f| !f.is_empty()).ok_or_else(|| {
        format!("{name}: type=replay needs options:pcap=FILE, a capture (pcap or pcapng) to replay")
    })?;
    let repeat = match options.get("loop").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(format!("{name}: options:loop={other} is neither true nor false"));
        }
    };
    Ok(Options { file: file.into(), repeat, n_queues: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_those_that_there_are() {
        let read = |all: &[(&str, &str)]| replay_options("r0", &options(all));
        let once = Options { file: "/a.pcap".into(), repeat: false, n_queues: 1 };
        assert_eq!(read(&[("pcap", "/a.pcap")]), Ok(once.clone()));
        assert_eq!(read(&[("pcap", "/a.pcap"), ("loop", "false")]), Ok(once.clone()));
        let endless = Options { repeat: true, ..once };
        assert_eq!(read(&[("pcap", "/a.pcap"), ("loop", "true")]), Ok(endless));
        assert!(read(&[]).unwrap_err().starts_with("r0: type=replay needs options:pcap=FILE"));
        assert!(read(&[("pcap", "")]).unwrap_err().contains("needs options:pcap=FILE"));
        let wrong = read(&[("pcap", "/a.pcap"), ("loop", "yes")]).unwrap_err();
        assert_eq!(wrong, "r0: options:loop=yes is neither true nor false");
        let wrong = read(&[("pcap", "/a.pcap"), ("lop", "true")]).unwrap_err();
        assert!(wrong.contains("has no options:lop; it has options:pcap=FILE"), "{wrong}");
        let mut memory = Memory::default();
        let wrong = memory.open_null("n0", &options(&[("pcap", "/a")])).unwrap_err();
        assert_eq!(wrong, "n0: type=null has no options, so no options:pcap");
        assert!(memory.get("n0").is_none());
    }

    #[test]
    fn addresses_are_local_and_differ() {
        let mut memory = Memory::default();
        for name in ["n0", "n1"] {
            memory.open_null(name, &options(&[])).unwrap();
        }
        let mac = |name| memory.get(name).unwrap().mac;
        assert_ne!(mac("n0"), mac("n1"));
        assert!(["n0", "n1"].iter().all(|n| mac(n).0[0] & 3 == 2));
    }
}
