//! What the daemon tells the database of what runs.

use ovsdb::data::Data;
use ovsdb::types::{Datum, Uuid};
use serde_json::Value;

use crate::config::Config;
use crate::device::{Device, Kind};
use crate::log;
use crate::managers::Status as Manager;
use crate::ofconn::Status as Controller;
use crate::reconcile::{Iface, Reconciler};
use crate::writeback::WriteBack;

/// The operations that bring the status columns up to date, and `cur_cfg` when `config` says so.
pub fn operations(db: &Data, config: &Config, rec: &Reconciler) -> Vec<Value> {
    let mut w = WriteBack::new(db);
    if let Some(root) = config.root {
        w.set("Open_vSwitch", root, "cur_cfg", &Datum::scalar(config.next_cfg));
        let simulated = rec.host.sim.is_some();
        let types =
            ["dummy", "netdev", "system"].into_iter().filter(|t| simulated || *t != "dummy");
        w.set("Open_vSwitch", root, "datapath_types", &Datum::set(types.map(str::to_owned)));
        let kinds = Kind::names(simulated).map(str::to_owned);
        w.set("Open_vSwitch", root, "iface_types", &Datum::set(kinds));
        w.set("Open_vSwitch", root, "dpdk_initialized", &Datum::scalar(false));
    }
    for (name, bridge) in &rec.bridges {
        let uuid = bridge.config.uuid;
        w.string("Bridge", uuid, "datapath_id", Some(&format!("{:016x}", bridge.dpid)));
        w.string_scalar("Bridge", uuid, "datapath_version", "<built-in>");
        for (iface_name, iface) in &bridge.ifaces {
            interface(&mut w, iface, iface_name == name);
        }
    }
    w.into_ops()
}

fn interface(w: &mut WriteBack<'_>, iface: &Iface, is_local: bool) {
    const TABLE: &str = "Interface";
    let uuid = iface.config.uuid;
    w.string(TABLE, uuid, "error", iface.error.as_deref());
    let ofport = match iface.ofport {
        Some(p) => i64::from(p.0),
        None => -1,
    };
    w.integer(TABLE, uuid, "ofport", Some(ofport));
    let Some(device) = &iface.device else {
        no_device(w, uuid, iface);
        return;
    };
    let state = |up: bool| Some(if up { "up" } else { "down" });
    w.string(TABLE, uuid, "admin_state", state(device.admin_up()));
    w.string(TABLE, uuid, "link_state", state(device.link_up()));
    w.integer(TABLE, uuid, "link_resets", i64::try_from(device.link_resets).ok());
    w.string(TABLE, uuid, "mac_in_use", Some(&device.mac().to_string()));
    let link = device.link.as_ref();
    w.integer(TABLE, uuid, "mtu", link.map(|l| i64::from(l.mtu)));
    w.integer(TABLE, uuid, "ifindex", link.map(|l| i64::from(l.ifindex)));
    let settings = device.settings;
    let speed = settings.speed.map(|mbps| i64::from(mbps) * 1_000_000);
    w.integer(TABLE, uuid, "link_speed", speed);
    let duplex = settings.full_duplex.map(|full| if full { "full" } else { "half" });
    w.string(TABLE, uuid, "duplex", duplex);
    let driver = &device.driver;
    let name = if is_local && driver.name.is_empty() { "tun" } else { &driver.name };
    let mut rows = device.port.status();
    if !name.is_empty() {
        rows.extend([
            ("driver_name", name.to_owned()),
            ("driver_version", driver.version.clone()),
            ("firmware_version", driver.firmware.clone()),
        ]);
    }
    w.set(TABLE, uuid, "status", &Datum::map(rows.into_iter().map(|(k, v)| (k.to_owned(), v))));
}

/// An interface without a device: a patch port, which is always up, or one that failed.
fn no_device(w: &mut WriteBack<'_>, uuid: Uuid, iface: &Iface) {
    const TABLE: &str = "Interface";
    let state = if iface.ofport.is_some() { Some("up") } else { None };
    for column in ["admin_state", "link_state"] {
        w.string(TABLE, uuid, column, state);
    }
    for column in ["mac_in_use", "duplex"] {
        w.string(TABLE, uuid, column, None);
    }
    for column in ["mtu", "ifindex", "link_speed", "link_resets"] {
        w.integer(TABLE, uuid, column, None);
    }
    w.set(TABLE, uuid, "status", &Datum::map::<String, String>([]));
    w.set(TABLE, uuid, "statistics", &Datum::map::<String, i64>([]));
}

/// The operations that bring the status columns of the Controller table up to date.
pub fn controllers(db: &Data, rows: impl Iterator<Item = (Uuid, Controller)>) -> Vec<Value> {
    const TABLE: &str = "Controller";
    let mut w = WriteBack::new(db);
    for (uuid, status) in rows {
        w.set(TABLE, uuid, "is_connected", &Datum::scalar(status.is_connected));
        w.string(TABLE, uuid, "role", status.role);
        w.set(TABLE, uuid, "status", &Datum::map(status.pairs));
    }
    w.into_ops()
}

/// The operations that bring the status columns of the Manager table up to date.
pub fn managers(db: &Data, rows: impl Iterator<Item = (Uuid, Manager)>) -> Vec<Value> {
    const TABLE: &str = "Manager";
    let mut w = WriteBack::new(db);
    for (uuid, status) in rows {
        w.set(TABLE, uuid, "is_connected", &Datum::scalar(status.is_connected));
        w.set(TABLE, uuid, "status", &Datum::map(status.pairs));
    }
    w.into_ops()
}

/// The operations that bring the `statistics` columns up to date.
pub fn statistics(db: &Data, rec: &mut Reconciler) -> Vec<Value> {
    let mut devices = Vec::new();
    for bridge in rec.bridges.values() {
        for (name, iface) in &bridge.ifaces {
            if iface.device.is_some() {
                devices.push((iface.config.uuid, name.clone()));
            }
        }
    }
    let mut w = WriteBack::new(db);
    for (uuid, name) in devices {
        let Some(counters) = rec.port_counters(&name) else { continue };
        let columns = counters.columns().map(|(k, v)| (k.to_owned(), v));
        let rows = columns.chain(rec.custom_counters(&name));
        let rows = rows.map(|(k, v)| (k, i64::try_from(v).unwrap_or(i64::MAX)));
        w.set("Interface", uuid, "statistics", &Datum::map(rows));
    }
    tell_losses(rec);
    mirrors(&mut w, rec);
    w.into_ops()
}

/// Tells the log why ports lost frames that it was not told before.
fn tell_losses(rec: &mut Reconciler) {
    let all = rec.bridges.values_mut().flat_map(|b| b.ifaces.values_mut());
    for device in all.filter_map(|i| i.device.as_mut()) {
        for (reason, n) in device.new_losses() {
            let (name, more) = (&device.name, "more are counted in its statistics and not told");
            log!(Info, Netdev, "{name}: frames were lost: {reason} ({n} so far; {more})");
        }
    }
}

/// Statistics of mirrors; of one that is not in force there are none.
fn mirrors(w: &mut WriteBack<'_>, rec: &Reconciler) {
    for bridge in rec.bridges.values() {
        let counted = rec.mirror_counts(bridge);
        for row in &bridge.config.mirrors {
            let counts = counted.iter().find(|(uuid, _)| *uuid == row.uuid).map(|(_, c)| *c);
            let rows = counts
                .into_iter()
                .flat_map(|[packets, bytes]| [("tx_packets", packets), ("tx_bytes", bytes)]);
            let rows = rows.map(|(k, v)| (k.to_owned(), i64::try_from(v).unwrap_or(i64::MAX)));
            w.set("Mirror", row.uuid, "statistics", &Datum::map(rows));
        }
    }
}

/// Counters of a port as OpenFlow and the database name them. What is not counted is
/// [`PortCounters::UNKNOWN`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Packets the switch received.
    pub rx_packets: u64,
    /// Bytes the switch received.
    pub rx_bytes: u64,
    /// Lost on the way in.
    pub rx_dropped: u64,
    /// Bad frames.
    pub rx_errors: u64,
    /// Alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// Frame checksum errors.
    pub rx_crc_err: u64,
    /// Missed by the device.
    pub rx_missed: u64,
    /// Multicast packets.
    pub rx_multicast: u64,
    /// Packets the switch sent.
    pub tx_packets: u64,
    /// Bytes the switch sent.
    pub tx_bytes: u64,
    /// Lost on the way out.
    pub tx_dropped: u64,
    /// Failed transmissions.
    pub tx_errors: u64,
    /// Collisions.
    pub collisions: u64,
}

impl PortCounters {
    /// Stands for a counter that the device does not have; so it goes over the wire, too.
    pub const UNKNOWN: u64 = u64::MAX;

    /// From what the switch counted and what the kernel says of the device, if it is one of the kernel's.
    ///
    /// Packets and bytes are the device's own, since the device is the port: a frame that the
    /// host's end sent and the switch was too slow to take was still received. What went past the device is added.
    pub fn of(device: &Device, link: Option<netdev::link::LinkStats>) -> PortCounters {
        if let Some(stats) = &link {
            device.port.note_device(stats);
        }
        let own = device.counters();
        if device.kind.is_simulated() {
            return PortCounters::simulated(&own);
        }
        let lost_in: u64 = own.rx_drops.iter().sum();
        let lost_out: u64 = own.tx_drops.iter().sum();
        let Some(link) = link.filter(|_| !device.kind.is_in_memory()) else {
            return PortCounters {
                rx_packets: own.rx_packets,
                rx_bytes: own.rx_bytes,
                rx_dropped: lost_in,
                tx_packets: own.tx_packets,
                tx_bytes: own.tx_bytes,
                tx_dropped: lost_out,
                ..PortCounters::default()
            };
        };
        let link = if device.kind == Kind::Internal { link.inverted() } else { link };
        PortCounters {
            rx_packets: link.rx_packets,
            rx_bytes: link.rx_bytes,
            rx_dropped: lost_in,
            rx_errors: link.rx_errors,
            rx_frame_err: link.rx_frame_errors,
            rx_over_err: link.rx_over_errors,
            rx_crc_err: link.rx_crc_errors,
            rx_missed: link.rx_missed_errors,
            rx_multicast: link.rx_multicast,
            tx_packets: link.tx_packets + own.past_device,
            tx_bytes: link.tx_bytes + own.bytes_past_device,
            tx_dropped: lost_out,
            tx_errors: link.tx_errors,
            collisions: link.collisions,
        }
    }

    /// Those of a simulated device, which has no hardware whose errors could be counted.
    fn simulated(own: &netdev::Counters) -> PortCounters {
        const NONE: u64 = PortCounters::UNKNOWN;
        PortCounters {
            rx_packets: own.rx_packets,
            rx_bytes: own.rx_bytes,
            rx_dropped: NONE,
            rx_errors: NONE,
            rx_frame_err: NONE,
            rx_over_err: NONE,
            rx_crc_err: NONE,
            rx_missed: NONE,
            rx_multicast: NONE,
            tx_packets: own.tx_packets,
            tx_bytes: own.tx_bytes,
            tx_dropped: NONE,
            tx_errors: NONE,
            collisions: NONE,
        }
    }

    /// Each by the name that the Interface table's `statistics` has for it.
    fn by_name(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("collisions", &mut self.collisions),
            ("rx_bytes", &mut self.rx_bytes),
            ("rx_crc_err", &mut self.rx_crc_err),
            ("rx_dropped", &mut self.rx_dropped),
            ("rx_errors", &mut self.rx_errors),
            ("rx_frame_err", &mut self.rx_frame_err),
            ("rx_missed_errors", &mut self.rx_missed),
            ("rx_multicast_packets", &mut self.rx_multicast),
            ("rx_over_err", &mut self.rx_over_err),
            ("rx_packets", &mut self.rx_packets),
            ("tx_bytes", &mut self.tx_bytes),
            ("tx_dropped", &mut self.tx_dropped),
            ("tx_errors", &mut self.tx_errors),
            ("tx_packets", &mut self.tx_packets),
        ]
    }

    /// As the Interface table's `statistics`.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let all = { *self }.by_name().map(|(name, n)| (name, *n));
        all.into_iter().filter(|(_, n)| *n != PortCounters::UNKNOWN)
    }

    /// From [`PortCounters::columns`]; those that are not there are unknown.
    pub fn from_columns(columns: impl IntoIterator<Item = (impl AsRef<str>, u64)>) -> PortCounters {
        let mut all = PortCounters::default();
        all.by_name().into_iter().for_each(|(_, n)| *n = PortCounters::UNKNOWN);
        for (name, n) in columns {
            let found = all.by_name().into_iter().find(|(known, _)| *known == name.as_ref());
            found.into_iter().for_each(|(_, place)| *place = n);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_make_the_counters_that_they_are_of() {
        let mut all = PortCounters::default();
        all.by_name().into_iter().zip(1..).for_each(|((_, place), n)| *place = n);
        assert_eq!(all.columns().count(), 14);
        assert_eq!(PortCounters::from_columns(all.columns()), all);
        let some = PortCounters::from_columns([("rx_bytes", 7), ("no_such", 8)]);
        assert_eq!(some.columns().collect::<Vec<_>>(), [("rx_bytes", 7)]);
    }
}
