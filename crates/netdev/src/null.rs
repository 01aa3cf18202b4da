//! A port to nowhere: `type=null` receives nothing and takes all that is sent, counted.
//!
//! For measuring the switch alone, and for traffic that is to be counted and thrown away.

use std::sync::Arc;

use packet::PacketBuf;

use crate::{Error, Port, PortState, RxQueue, TxQueue};

/// See the module.
#[derive(Debug)]
pub struct Null {
    name: String,
    state: Arc<PortState>,
}

impl Null {
    /// A port of this name. Its MTU limits nothing.
    pub fn new(name: &str, mtu: u32) -> Null {
        Null { name: name.to_owned(), state: Arc::new(PortState::new(mtu)) }
    }
}

impl Port for Null {
    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn state(&self) -> &Arc<PortState> {
        &self.state
    }

    /// There is none: nothing ever comes.
    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        None
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        Ok(Box::new(Sink { state: Arc::clone(&self.state) }))
    }
}

/// Takes and counts packets; one with segments to be cut counts once, as for a device that cuts them.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) state: Arc<PortState>,
}

impl TxQueue for Sink {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        self.state.count_tx(pkts.len(), pkts.iter().map(|p| p.len()).sum());
        pkts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{GsoType, Offload};

    #[test]
    fn all_is_taken_and_counted_whatever_its_size() {
        let mut port = Null::new("n0", 1500);
        assert!(port.take_rx().is_none());
        let mut jumbo = PacketBuf::from_frame(&[0; 9000]);
        jumbo.offload = Offload { gso_type: GsoType::TcpV4, gso_size: 1448, ..Offload::default() };
        let (small, empty) = (PacketBuf::from_frame(&[1; 60]), PacketBuf::from_frame(&[]));
        assert_eq!(port.open_tx().unwrap().send(&[&small, &jumbo]), 2);
        assert_eq!(port.open_tx().unwrap().send(&[&empty, &small]), 2);
        let c = port.counters();
        assert_eq!((c.tx_packets, c.tx_bytes, c.rx_packets), (4, 9120, 0));
        assert_eq!(c.tx_drops.iter().sum::<u64>(), 0);
    }
}
