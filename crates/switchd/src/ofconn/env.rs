//! What sessions ask of the daemon.

use std::cell::RefCell;
use std::sync::Arc;

use base::Instant;
use datapath::Datapath;
use ofproto::{BridgeId, Environment};
use openflow::message::{CtFlush, PortStats, QueueConfig, QueueStats};

use crate::ctflush;
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
        let custom = self.rec.borrow().custom_counters(name);
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
            custom,
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
        ctflush::flush(self.dp.conntrack(), self.now, self.dp_name, which);
    }
}
