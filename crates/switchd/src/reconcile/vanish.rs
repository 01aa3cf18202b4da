//! Devices that come, change, fail and go while the switch runs.
//!
//! The kernel tells of links and a worker of queues that failed, in no certain order; whoever comes second finds
//! nothing left to do. The log has one line of each device that is lost, which says what was lost with it.

use super::*;

/// A device whose queue fails in less time after it was opened fails for a reason that stays.
const WORKED: Duration = Duration::from_secs(10);

impl Reconciler {
    /// The host's link of this name changed, came or went. Returns whether an interface of ours
    /// is concerned.
    pub fn link_changed(&mut self, name: &str, now: Instant) -> bool {
        let link = self.host.link(name).0;
        let owner = self.bridges.iter().find(|(_, b)| b.ifaces.contains_key(name));
        let Some((bridge_name, bridge)) = owner else { return false };
        let kind = bridge.ifaces[name].device.as_ref().map(|d| d.kind);
        if link.is_none() && kind == Some(Kind::Internal) {
            // Moved into another namespace, a container's: still a port of ours. Had it been
            // deleted, its descriptor would have failed.
            return false;
        }
        let bridge_name = bridge_name.clone();
        self.follow(&bridge_name, name, link, now);
        true
    }

    fn follow(&mut self, bridge_name: &str, name: &str, link: Option<Link>, now: Instant) {
        let Some(bridge) = self.bridges.get_mut(bridge_name) else { return };
        let Some(iface) = bridge.ifaces.get_mut(name) else { return };
        if let Some(device) = &mut iface.device {
            let same = link.as_ref().map(|l| l.ifindex) == device.port.ifindex();
            if same || device.kind.is_in_memory() {
                if device.see(link, self.host.link(name).1) {
                    self.put_port(bridge_name, name, now);
                }
                return;
            }
            // It went, or another one has its name now.
            self.lose(bridge_name, name, no_such_device(name));
        }
        if link.is_some() {
            self.begin_again(bridge_name, name, now);
        }
        self.put_mirrors(bridge_name);
    }

    /// Opens the device of an interface that had none.
    fn begin_again(&mut self, bridge_name: &str, name: &str, now: Instant) {
        self.start(bridge_name, name, now);
        self.put_port(bridge_name, name, now);
        if let Some(wanted) = self.bridges.get(bridge_name).map(|b| b.config.clone()) {
            self.settle_bridge(bridge_name, &wanted, now);
        }
    }

    /// Closes an interface's device that is of no use any more. The log has one line of it, and of what was lost.
    fn lose(&mut self, bridge_name: &str, name: &str, why: String) {
        let Some(bridge) = self.bridges.get_mut(bridge_name) else { return };
        let Some(iface) = bridge.ifaces.get_mut(name) else { return };
        close(&self.world, &self.dp, bridge.id, iface);
        let losses = iface.device.take().map(|mut d| d.new_losses()).unwrap_or_default();
        iface.ofport = None;
        let losses: Vec<_> = losses.iter().map(|(reason, n)| format!("{reason} ({n})")).collect();
        let lost = if losses.is_empty() { "" } else { "; frames were lost: " };
        log!(Warn, Bridge, "bridge {bridge_name}: {why}{lost}{}", losses.join(", "));
        iface.error = Some(why);
    }

    /// A worker found that a port's device failed.
    pub fn port_failed(&mut self, dp_port: DpPort, now: Instant) {
        // Each queue of a device that went says so, the last ones when another device has its place.
        if !self.dp.has_failed(dp_port) {
            return;
        }
        let failed = self.bridges.iter().find_map(|(bridge, b)| {
            let mut devices = b.ifaces.iter().filter_map(|(n, i)| Some((n, i.device.as_ref()?)));
            let (name, device) = devices.find(|(_, d)| d.dp_port == dp_port)?;
            Some((bridge.clone(), name.clone(), device))
        });
        let Some((bridge, name, device)) = failed else { return };
        let (kind, created, ifindex) = (device.kind, device.created, device.port.ifindex());
        let link = self.host.link(&name).0;
        if link.is_none() && kind == Kind::Internal {
            self.lose(&bridge, &name, no_such_device(&name));
            // Nobody else would make it.
            self.begin_again(&bridge, &name, now);
        } else if link.as_ref().map(|l| l.ifindex) != ifindex {
            return self.follow(&bridge, &name, link, now);
        } else {
            self.lose(&bridge, &name, format!("{name}: its receive queue failed"));
            // What is opened anew may do better, once.
            if now.since(created) >= WORKED {
                self.begin_again(&bridge, &name, now);
            }
        }
        self.put_mirrors(&bridge);
    }
}

fn no_such_device(name: &str) -> String {
    format!("could not open network device {name} (No such device)")
}
