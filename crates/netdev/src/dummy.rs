//! Ports in memory: for tests and the simulated datapath.
//!
//! A [`Dummy`] port hands the switch what a [`DummyHandle`] injects and keeps what the switch
//! sends for the handle to take. It can pretend to be a device without offloads.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use packet::PacketBuf;
use parking_lot::Mutex;

use crate::{BATCH, Error, Port, PortState, Received, RxQueue, TxDrop, TxQueue};

#[derive(Debug, Default)]
struct Wire {
    to_switch: VecDeque<PacketBuf>,
    from_switch: VecDeque<PacketBuf>,
}

/// The switch's side.
#[derive(Debug)]
pub struct Dummy {
    name: String,
    state: Arc<PortState>,
    wire: Arc<Mutex<Wire>>,
    rx_taken: bool,
}

/// The other end of the wire.
#[derive(Clone, Debug)]
pub struct DummyHandle {
    wire: Arc<Mutex<Wire>>,
}

impl DummyHandle {
    /// Puts a frame on the wire towards the switch.
    pub fn inject(&self, pkt: PacketBuf) {
        self.wire.lock().to_switch.push_back(pkt);
    }

    /// Takes the oldest frame that the switch sent.
    pub fn take(&self) -> Option<PacketBuf> {
        self.wire.lock().from_switch.pop_front()
    }
}

impl Dummy {
    /// A port with the given MTU (0: no limit) and the handle to its other end.
    pub fn new(name: &str, mtu: u32) -> (Dummy, DummyHandle) {
        let wire = Arc::new(Mutex::new(Wire::default()));
        let port = Dummy {
            name: name.to_owned(),
            state: Arc::new(PortState::new(mtu)),
            wire: Arc::clone(&wire),
            rx_taken: false,
        };
        (port, DummyHandle { wire })
    }
}

impl Port for Dummy {
    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn state(&self) -> &Arc<PortState> {
        &self.state
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return None;
        }
        Some(Box::new(Rx { wire: Arc::clone(&self.wire), state: Arc::clone(&self.state) }))
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        Ok(Box::new(Tx { wire: Arc::clone(&self.wire), state: Arc::clone(&self.state) }))
    }
}

#[derive(Debug)]
struct Rx {
    wire: Arc<Mutex<Wire>>,
    state: Arc<PortState>,
}

impl RxQueue for Rx {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let mut wire = self.wire.lock();
        let want = bufs.len().min(BATCH);
        let (mut n, mut bytes) = (0, 0);
        while n < want {
            let Some(pkt) = wire.to_switch.pop_front() else { break };
            bufs[n].copy_from(&pkt);
            bufs[n].set_layers(None, None);
            bytes += pkt.len();
            n += 1;
        }
        self.state.count_rx(n, bytes);
        Received { n, more: !wire.to_switch.is_empty(), gone: false }
    }
}

#[derive(Debug)]
struct Tx {
    wire: Arc<Mutex<Wire>>,
    state: Arc<PortState>,
}

impl TxQueue for Tx {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        let mtu = self.state.mtu();
        let mut wire = self.wire.lock();
        let (mut n, mut bytes) = (0, 0);
        for pkt in pkts {
            if crate::port::exceeds_mtu(pkt, mtu) {
                self.state.drop_tx(TxDrop::TooBig, 1);
                continue;
            }
            wire.from_switch.push_back((*pkt).clone());
            n += 1;
            bytes += pkt.len();
        }
        self.state.count_tx(n, bytes);
        n
    }
}
