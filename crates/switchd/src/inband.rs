//! In-band control: which controllers and managers the host is to reach over each bridge, and the next
//! hops on the way to them. [`ofproto::InBand`] makes flows of it.
//!
//! A controller or manager is meant unless its `connection_mode` is `out-of-band`; its target must name an
//! IPv4 address, not a host. Next hops that are not known are asked for each second, others now and
//! then (`ovs-vswitchd.conf.db(5)`, Controller `connection_mode`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use base::{Instant, MacAddr};
use ofproto::{InBand, InBandRemote};

use crate::config::{BridgeConfig, Config};
use crate::daemon::Daemon;
use crate::log;
use crate::remote::Remote;

/// How long what is known of a next hop counts, and how long it does when nothing is known.
const KNOWN: Duration = Duration::from_secs(10);
const UNKNOWN: Duration = Duration::from_secs(1);

/// What is known of the ways to the other ends.
#[derive(Debug, Default)]
pub struct NextHops {
    by_addr: BTreeMap<Ipv4Addr, NextHop>,
    /// When something is to be looked at again.
    due: Instant,
}

#[derive(Debug)]
struct NextHop {
    mac: Option<MacAddr>,
    until: Instant,
    /// That there is no route was logged.
    complained: bool,
}

impl NextHops {
    fn mac(
        &mut self,
        bridge: &str,
        addr: Ipv4Addr,
        now: Instant,
        find: impl FnOnce(Ipv4Addr) -> Result<Option<MacAddr>, String>,
    ) -> Option<MacAddr> {
        let known = self.by_addr.get(&addr);
        if let Some(hop) = known.filter(|h| now < h.until) {
            return hop.mac;
        }
        let complained = known.is_some_and(|h| h.complained);
        let found = find(addr);
        if let (false, Err(e)) = (complained, &found) {
            log!(Warn, InBand, "{bridge}: cannot find route for controller ({addr}): {e}");
        }
        let complained = found.is_err();
        let mac = found.unwrap_or_default();
        let until = now + if mac.is_some() { KNOWN } else { UNKNOWN };
        self.by_addr.insert(addr, NextHop { mac, until, complained });
        mac
    }
}

/// The other ends that the host reaches over a bridge.
fn remotes(config: &Config, bridge: &BridgeConfig) -> BTreeSet<(Ipv4Addr, u16)> {
    if bridge.disable_in_band {
        return BTreeSet::new();
    }
    let place = |remote: &Remote| match remote {
        Remote::Tcp(host, port) | Remote::Ssl(host, port) => {
            host.parse().ok().map(|ip: Ipv4Addr| (ip, *port))
        }
        _ => None,
    };
    let controllers = bridge.controllers.values().filter(|c| c.in_band);
    let controllers = controllers.filter_map(|c| place(&c.remote));
    let managers = config.managers.values().filter(|m| m.in_band);
    let managers = managers.filter_map(|m| place(&m.remote));
    controllers.chain(managers.filter(|(ip, _)| *ip != Ipv4Addr::LOCALHOST)).collect()
}

impl Daemon {
    /// The configuration changed: in-band control follows at once.
    pub(crate) fn configure_in_band(&mut self, now: Instant) {
        let all = self.config.bridges.values().flat_map(|b| remotes(&self.config, b));
        let wanted: BTreeSet<Ipv4Addr> = all.map(|(ip, _)| ip).collect();
        self.next_hops.by_addr.retain(|ip, _| wanted.contains(ip));
        self.next_hops.due = now;
        self.follow_in_band(now);
    }

    /// Follows the addresses of LOCAL ports and next hops.
    pub(crate) fn follow_in_band(&mut self, now: Instant) {
        if now < self.next_hops.due {
            return;
        }
        self.next_hops.due = now + UNKNOWN;
        let has_routes = self.rec.host.has_routes();
        for (name, bridge) in &self.rec.bridges {
            let Some(config) = self.config.bridges.get(name) else { continue };
            let find = |addr| match has_routes {
                true => netdev::route::next_hop(addr).map_err(|e| e.to_string()),
                false => Err("Operation not supported".to_owned()),
            };
            let remotes = remotes(&self.config, config).into_iter().map(|(addr, port)| {
                let next_hop = self.next_hops.mac(name, addr, now, find);
                InBandRemote { addr, port, next_hop }
            });
            let wanted = InBand {
                queue: config.in_band_queue,
                local_mac: Some(bridge.mac).filter(|m| *m != MacAddr::ZERO),
                remotes: remotes.collect(),
            };
            let switch = self.world.switch.read();
            let same = switch.bridge(bridge.id).is_none_or(|b| *b.in_band() == wanted);
            drop(switch);
            if !same && let Some(b) = self.world.switch.write().bridge_mut(bridge.id) {
                b.set_in_band(wanted, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_asked_for_until_they_are_known_and_then_seldom() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let (ip, mac) = (Ipv4Addr::new(192, 0, 2, 1), MacAddr([2; 6]));
        let mut hops = NextHops::default();
        assert_eq!(hops.mac("br0", ip, at(0), |_| Err("none".into())), None);
        assert_eq!(hops.mac("br0", ip, at(0), |_| panic!("asked too soon")), None);
        assert_eq!(hops.mac("br0", ip, at(1), |_| Ok(None)), None);
        assert_eq!(hops.mac("br0", ip, at(2), |_| Ok(Some(mac))), Some(mac));
        assert_eq!(hops.mac("br0", ip, at(11), |_| panic!("asked too soon")), Some(mac));
        assert_eq!(hops.mac("br0", ip, at(12), |_| Ok(None)), None);
    }
}
