//! Interfaces and the devices behind them.
//!
//! [`Device`] is an open device together with what the host says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{DpPort, Instant, MacAddr};
use netdev::link::{Driver, Ethtool, Link, Settings};
use netdev::{Counters, Port, PortState, RxDrop, TxDrop};

/// What an Interface `type` means here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device that exists already.
    System,
    /// The same, by way of its driver.
    AfXdp,
    /// A tap that the switch makes: `internal` and `tap`.
    Internal,
    /// One end of a wire to another bridge.
    Patch,
    /// Receives nothing and takes everything.
    Null,
    /// Receives what a capture file holds.
    Replay,
    /// A simulated device.
    Dummy,
    /// A simulated device that the switch makes.
    DummyInternal,
    /// A simulated device with queues of its own threads, as far as these show.
    DummyPmd,
}

impl Kind {
    const NAMES: [(&'static str, Kind); 11] = [
        ("", Kind::System),
        ("system", Kind::System),
        ("afxdp", Kind::AfXdp),
        ("internal", Kind::Internal),
        ("tap", Kind::Internal),
        ("patch", Kind::Patch),
        ("null", Kind::Null),
        ("replay", Kind::Replay),
        ("dummy", Kind::Dummy),
        ("dummy-internal", Kind::DummyInternal),
        ("dummy-pmd", Kind::DummyPmd),
    ];

    /// The kind that a `type` names.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::NAMES.iter().find(|(n, _)| *n == name).map(|(_, k)| *k)
    }

    /// All types, for the database's `iface_types`; the simulated ones if there are such.
    pub fn names(simulated: bool) -> impl Iterator<Item = &'static str> {
        let rows = Kind::NAMES.iter().filter(move |(_, k)| simulated || !k.is_simulated());
        rows.map(|(n, _)| *n).filter(|n| !n.is_empty())
    }

    /// Whether it is a device of [`crate::sim`].
    pub fn is_simulated(self) -> bool {
        matches!(self, Kind::Dummy | Kind::DummyInternal | Kind::DummyPmd)
    }

    /// Whether it is a device that the host has without the switch.
    pub fn is_host_device(self) -> bool {
        matches!(self, Kind::System | Kind::AfXdp)
    }

    /// Whether it is no device of the host's.
    pub fn is_in_memory(self) -> bool {
        self.is_simulated() || matches!(self, Kind::Null | Kind::Replay)
    }

    /// What `dpif/show` calls it.
    pub fn shown(self) -> &'static str {
        match self {
            Kind::System => "system",
            Kind::AfXdp => "afxdp",
            Kind::Internal => "tap",
            Kind::Patch => "patch",
            Kind::Null => "null",
            Kind::Replay => "replay",
            Kind::Dummy => "dummy",
            Kind::DummyInternal => "dummy-internal",
            Kind::DummyPmd => "dummy-pmd",
        }
    }
}

/// Losses that were told of. By reason: so many are no news; all, while what loses them lasts.
#[derive(Debug, Default)]
struct Told(BTreeMap<&'static str, u64>);

impl Told {
    const ALL: u64 = u64::MAX;

    /// Whether losses for a reason, so many by now, were not told; then they are from now on.
    fn is_news(&mut self, reason: &'static str, n: u64) -> bool {
        let told = self.0.entry(reason).or_default();
        let is_news = n > *told;
        if is_news {
            *told = Told::ALL;
        }
        is_news
    }

    /// What lost frames, so many by now, has ended: the next that is lost is news. Losses that were not told still are.
    fn again(&mut self, reason: &'static str, n: u64) {
        if let Some(told) = self.0.get_mut(reason).filter(|told| **told == Told::ALL) {
            *told = n;
        }
    }
}

/// An open device.
#[derive(Debug)]
pub struct Device {
    /// Name of the interface and of the device.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its number in the datapath.
    pub dp_port: DpPort,
    /// Keeps the device open.
    pub port: Box<dyn Port>,
    /// Counters of the queues.
    pub state: Arc<PortState>,
    /// When it was opened.
    pub created: Instant,
    /// What the host says of it; `None` while it does not exist.
    pub link: Option<Link>,
    /// Speed and features.
    pub settings: Settings,
    /// Who drives it.
    pub driver: Driver,
    /// Times the carrier was seen to change, for `link_resets`.
    pub link_resets: u64,
    told: Told,
}

impl Device {
    /// Takes over an open port.
    pub fn new(
        name: &str,
        kind: Kind,
        dp_port: DpPort,
        port: Box<dyn Port>,
        now: Instant,
    ) -> Device {
        Device {
            name: name.to_owned(),
            kind,
            dp_port,
            state: Arc::clone(port.state()),
            port,
            created: now,
            link: None,
            settings: Settings::default(),
            driver: Driver::default(),
            link_resets: 0,
            told: Told::default(),
        }
    }

    /// Takes in what the host says now. Returns whether it is news.
    pub fn see(&mut self, link: Option<Link>, ethtool: Option<&Ethtool>) -> bool {
        if let Some(tool) = ethtool
            && link.is_some()
        {
            self.settings = tool.settings(&self.name).unwrap_or_default();
            if self.driver.name.is_empty() {
                self.driver = tool.driver(&self.name).unwrap_or_default();
            }
        }
        if let Some(link) = &link {
            self.state.note_link(link);
            self.port.note_device(&link.stats);
            if link.up {
                self.told.again(TxDrop::Down.name(), self.state.counters().tx_drop(TxDrop::Down));
            }
        }
        let up = |l: &Option<Link>| l.as_ref().is_some_and(|l| l.lower_up);
        if up(&link) != up(&self.link) {
            self.link_resets += 1;
        }
        let news = self.link != link;
        self.link = link;
        news
    }

    /// Administratively up.
    pub fn admin_up(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.up)
    }

    /// Has a link.
    pub fn link_up(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.up && l.lower_up)
    }

    /// Its address.
    pub fn mac(&self) -> MacAddr {
        self.link.as_ref().map_or(MacAddr::ZERO, |l| l.mac)
    }

    /// Why frames were lost that was not told before, and how many so far.
    pub fn new_losses(&mut self) -> Vec<(&'static str, u64)> {
        let counters = self.counters();
        let received = RxDrop::ALL.iter().map(|r| (r.name(), counters.rx_drop(*r)));
        let sent = TxDrop::ALL.iter().map(|r| (r.name(), counters.tx_drop(*r)));
        received.chain(sent).filter(|(reason, n)| self.told.is_news(reason, *n)).collect()
    }

    /// What went through the switch's end of it.
    pub fn counters(&self) -> Counters {
        self.port.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netdev::dummy::Dummy;
    use packet::PacketBuf;

    #[test]
    fn each_reason_of_losses_is_told_once() {
        let (port, _end) = Dummy::new("p1", 100);
        let mut tx = port.open_tx().unwrap();
        let mut device =
            Device::new("p1", Kind::Dummy, DpPort(1), Box::new(port), Instant::from_secs(1));
        assert!(device.new_losses().is_empty());
        let long = PacketBuf::from_frame(&[0; 200]);
        assert_eq!(tx.send(&[&long, &long]), 0);
        assert_eq!(device.new_losses(), [("tx-too-big", 2)]);
        // Another MTU, and the same reason again: counted, and no news.
        device.state.set_mtu(150);
        assert_eq!(tx.send(&[&long, &PacketBuf::from_frame(&[0; 160])]), 1);
        assert!(device.new_losses().is_empty());
        assert_eq!(device.counters().tx_drop(TxDrop::TooBig), 3);
    }

    #[test]
    fn what_was_told_is_news_again_only_after_it_ended() {
        let mut told = Told::default();
        assert!(!told.is_news("tx-down", 0));
        // It ended before anybody looked.
        told.again("tx-down", 5);
        assert!(told.is_news("tx-down", 5) && !told.is_news("tx-down", 6));
        told.again("tx-down", 6);
        assert!(!told.is_news("tx-down", 6));
        assert!(told.is_news("tx-down", 7) && !told.is_news("tx-down", 8));
        assert!(told.is_news("tx-gone", 1));
    }
}
