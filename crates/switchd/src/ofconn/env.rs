//! What sessions ask of the daemon.

use std::cell::RefCell;
use std::net::Ipv6Addr;
use std::sync::Arc;

use base::{Instant, Zone};
use conntrack::{ConnFilter, TupleFilter};
use datapath::Datapath;
use ofproto::{BridgeId, Environment};
use openflow::message::{CtFlush, CtTuple, PortStats, QueueConfig, QueueStats};

use crate::log;
use crate::reconcile::Reconciler;
use crate::status::PortCounters;

/// What sessions ask of the daemon.
pub(super) struct Env<'a> {
    pub(super) rec: RefCell<&'a mut Reconciler>,
    pub(super) dp: &'a Arc<Datapath>,
    /// Name of the datapath in the log.
    pub(super) dp_name: &'static str,
    pub(super) now: Instant,
}

/// What is said of one direction. Port 0 is any, as Open vSwitch has it, and so is a tuple of zeros,
/// which its tools send for ICMP when nothing was said.
fn tuple_filter(t: Option<CtTuple>, proto: u8) -> TupleFilter {
    let zeros =
        CtTuple { icmp_id: Some(0), icmp_type: Some(0), icmp_code: Some(0), ..CtTuple::default() };
    let t = t.filter(|t| *t != zeros).unwrap_or_default();
    let address = |a: Option<Ipv6Addr>| a.filter(|a| !a.is_unspecified()).map(|a| a.to_canonical());
    TupleFilter {
        src: address(t.src),
        dst: address(t.dst),
        proto: (proto != 0).then_some(proto),
        sport: t.src_port.filter(|p| *p != 0),
        dport: t.dst_port.filter(|p| *p != 0),
        icmp_id: t.icmp_id,
        icmp_type: t.icmp_type,
        icmp_code: t.icmp_code,
    }
}

impl Env<'_> {
    /// Whether the port is a simulated device, which has queue 0 and counters of its own.
    fn is_simulated(&self, port: &ofproto::Port) -> bool {
        let rec = self.rec.borrow();
        rec.host.sim.as_ref().is_some_and(|s| s.get(&port.spec.name).is_some())
    }
}

impl Environment for Env<'_> {
    fn port_stats(&self, _bridge: BridgeId, port: &ofproto::Port) -> PortStats {
        if port.spec.peer.is_some() {
            let (rx, tx) = (port.patch_stats.rx(), port.patch_stats.tx());
            let unknown = PortCounters::UNKNOWN;
            return PortStats {
                rx_packets: rx.0,
                rx_bytes: rx.1,
                tx_packets: tx.0,
                tx_bytes: tx.1,
                rx_dropped: unknown,
                tx_dropped: unknown,
                rx_errors: unknown,
                tx_errors: unknown,
                rx_frame_err: unknown,
                rx_over_err: unknown,
                rx_crc_err: unknown,
                collisions: unknown,
                ..PortStats::default()
            };
        }
        let name = &port.spec.name;
        let Some(c) = self.rec.borrow_mut().port_counters(name) else {
            return PortStats::default();
        };
        let custom = c.custom().map(|(k, v)| (k.to_owned(), v));
        PortStats {
            rx_packets: c.rx_packets,
            tx_packets: c.tx_packets,
            rx_bytes: c.rx_bytes,
            tx_bytes: c.tx_bytes,
            rx_dropped: c.rx_dropped,
            tx_dropped: c.tx_dropped,
            rx_errors: c.rx_errors,
            tx_errors: c.tx_errors,
            rx_frame_err: c.rx_frame_err,
            rx_over_err: c.rx_over_err,
            rx_crc_err: c.rx_crc_err,
            collisions: c.collisions,
            custom: if self.is_simulated(port) { custom.to_vec() } else { Vec::new() },
            ..PortStats::default()
        }
    }

    fn queues(&self, _bridge: BridgeId, port: &ofproto::Port) -> Vec<QueueConfig> {
        let queue = || QueueConfig { port: port.ofport, ..QueueConfig::default() };
        self.is_simulated(port).then(queue).into_iter().collect()
    }

    fn queue_stats(&self, _bridge: BridgeId, port: &ofproto::Port) -> Vec<QueueStats> {
        let unknown = || QueueStats {
            port: port.ofport,
            queue: 0,
            tx_bytes: PortCounters::UNKNOWN,
            tx_packets: PortCounters::UNKNOWN,
            tx_errors: PortCounters::UNKNOWN,
            duration: None,
        };
        self.is_simulated(port).then(unknown).into_iter().collect()
    }

    fn pull_flow_stats(&self) {
        self.dp.push_stats();
    }

    fn ct_flush(&self, which: &CtFlush) {
        let (mark, label) = (which.mark(), which.label());
        let whole = which.orig.is_none() && which.reply.is_none() && mark.1 == 0 && label.1 == 0;
        match which.zone.filter(|_| whole) {
            _ if !whole => log!(Dbg, CtDpif, "{}: ct_flush: {which}", self.dp_name),
            Some(zone) => log!(Dbg, CtDpif, "{}: ct_flush: zone {zone}", self.dp_name),
            None => log!(Dbg, CtDpif, "{}: ct_flush: <all>", self.dp_name),
        }
        let filter = ConnFilter {
            zone: which.zone.map(Zone),
            orig: tuple_filter(which.orig, which.proto),
            reply: tuple_filter(which.reply, which.proto),
            mark: (mark.1 != 0).then_some(mark),
            label: (label.1 != 0).then_some(label),
            ipv6: None,
        };
        self.dp.conntrack().delete(self.now, &filter);
    }
}
