//! What sessions ask of the daemon.

use std::cell::RefCell;
use std::sync::Arc;

use datapath::Datapath;
use ofproto::{BridgeId, Environment};
use openflow::message::PortStats;

use crate::reconcile::Reconciler;

/// What sessions ask of the daemon.
pub(super) struct Env<'a> {
    pub(super) rec: RefCell<&'a mut Reconciler>,
    pub(super) dp: &'a Arc<Datapath>,
}

impl Environment for Env<'_> {
    fn port_stats(&self, _bridge: BridgeId, port: &ofproto::Port) -> PortStats {
        let Some(c) = self.rec.borrow_mut().port_counters(&port.spec.name) else {
            return PortStats::default();
        };
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
            ..PortStats::default()
        }
    }

    fn pull_flow_stats(&self) {
        self.dp.push_stats();
    }
}
