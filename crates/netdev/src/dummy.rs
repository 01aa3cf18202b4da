//! Ports in memory: for tests and the simulated datapath.
//!
//! A [`Dummy`] port hands the switch what a [`DummyHandle`] injects and keeps what the switch
//! sends for the handle to take. It can pretend to be a device without offloads.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use packet::PacketBuf;
use parking_lot::Mutex;

use crate::port::exceeds_mtu;
use crate::soft::{Softener, Takes};
use crate::{BATCH, Error, Port, PortState, Received, RxQueue, TxDrop, TxQueue};

#[derive(Debug)]
struct Wire {
    /// By receive queue.
    to_switch: Vec<VecDeque<PacketBuf>>,
    from_switch: VecDeque<PacketBuf>,
}

/// The switch's side.
#[derive(Debug)]
pub struct Dummy {
    name: String,
    state: Arc<PortState>,
    wire: Arc<Mutex<Wire>>,
    offloads: bool,
    /// Receive queues that were given out.
    n_taken: usize,
}

/// The other end of the wire.
#[derive(Clone, Debug)]
pub struct DummyHandle {
    wire: Arc<Mutex<Wire>>,
}

impl DummyHandle {
    /// Puts a frame on the wire towards the switch, which receives it by its first queue.
    pub fn inject(&self, pkt: PacketBuf) {
        self.inject_into(0, pkt);
    }

    /// The same for one of its queues. False if there is no such queue.
    pub fn inject_into(&self, queue: usize, pkt: PacketBuf) -> bool {
        match self.wire.lock().to_switch.get_mut(queue) {
            Some(frames) => frames.push_back(pkt),
            None => return false,
        }
        true
    }

    /// How many receive queues the port has.
    pub fn n_queues(&self) -> usize {
        self.wire.lock().to_switch.len()
    }

    /// Takes the oldest frame that the switch sent.
    pub fn take(&self) -> Option<PacketBuf> {
        self.wire.lock().from_switch.pop_front()
    }
}

impl Dummy {
    /// A port with the given MTU (0: no limit) and the handle to its other end.
    pub fn new(name: &str, mtu: u32) -> (Dummy, DummyHandle) {
        let wire = Wire { to_switch: vec![VecDeque::new()], from_switch: VecDeque::new() };
        let wire = Arc::new(Mutex::new(wire));
        let port = Dummy {
            name: name.to_owned(),
            state: Arc::new(PortState::new(mtu)),
            wire: Arc::clone(&wire),
            offloads: true,
            n_taken: 0,
        };
        (port, DummyHandle { wire })
    }

    /// The same for a device that takes only finished frames.
    pub fn without_offloads(name: &str, mtu: u32) -> (Dummy, DummyHandle) {
        let (port, handle) = Dummy::new(name, mtu);
        (Dummy { offloads: false, ..port }, handle)
    }

    /// The same with so many receive queues, at least one.
    pub fn with_queues(self, n: usize) -> Dummy {
        self.wire.lock().to_switch.resize_with(n.max(1), VecDeque::new);
        self
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
        let queue = self.n_taken;
        if queue >= self.wire.lock().to_switch.len() {
            return None;
        }
        self.n_taken += 1;
        Some(Box::new(Rx { wire: Arc::clone(&self.wire), queue, state: Arc::clone(&self.state) }))
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        Ok(Box::new(Tx {
            wire: Arc::clone(&self.wire),
            offloads: self.offloads,
            soft: Softener::default(),
            state: Arc::clone(&self.state),
        }))
    }

    /// Those of OVS's simulated devices, one queue each way.
    fn custom_counters(&self) -> Vec<(String, u64)> {
        let c = self.state.counters();
        let rows = [
            ("rx_custom_packets_1", c.rx_packets),
            ("rx_custom_packets_2", c.rx_packets),
            ("rx_q0_bytes", c.rx_bytes),
            ("rx_q0_packets", c.rx_packets),
            ("tx_q0_bytes", c.tx_bytes),
            ("tx_q0_packets", c.tx_packets),
        ];
        rows.map(|(name, n)| (name.to_owned(), n)).into()
    }
}

#[derive(Debug)]
struct Rx {
    wire: Arc<Mutex<Wire>>,
    queue: usize,
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
        let Some(frames) = wire.to_switch.get_mut(self.queue) else { return Received::default() };
        while n < want {
            let Some(pkt) = frames.pop_front() else { break };
            bufs[n].copy_from(&pkt);
            bufs[n].set_layers(None, None);
            bytes += pkt.len();
            n += 1;
        }
        self.state.count_rx(n, bytes);
        Received { n, more: !frames.is_empty(), gone: false }
    }
}

#[derive(Debug)]
struct Tx {
    wire: Arc<Mutex<Wire>>,
    offloads: bool,
    soft: Softener,
    state: Arc<PortState>,
}

impl TxQueue for Tx {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        let (mut n, mut bytes) = (0, 0);
        let Tx { wire, offloads, state, soft } = self;
        let mtu = state.mtu();
        let mut wire = wire.lock();
        soft.run(Takes::with_vnet(*offloads), pkts, state, |batch| {
            for pkt in batch {
                if exceeds_mtu(pkt, mtu) {
                    state.drop_tx(TxDrop::TooBig, 1);
                    continue;
                }
                wire.from_switch.push_back((*pkt).clone());
                n += 1;
                bytes += pkt.len();
            }
        });
        state.count_tx(n, bytes);
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_batch;
    use packet::{GsoType, Offload};

    /// TCP over IPv4 with 3000 bytes of payload to be cut at 1400.
    fn large() -> PacketBuf {
        let mut f = vec![0; 12];
        f.extend([8, 0, 0x45, 0]);
        f.extend(3040u16.to_be_bytes());
        f.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        f.extend([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        f.resize(54 + 3000, 9);
        let mut p = PacketBuf::from_frame(&f);
        p.offload = Offload {
            needs_csum: true,
            gso_type: GsoType::TcpV4,
            gso_size: 1400,
            csum_start: 34,
            csum_offset: 16,
            ..Offload::default()
        };
        p
    }

    fn lengths(h: &DummyHandle) -> Vec<usize> {
        std::iter::from_fn(|| h.take()).map(|p| p.len()).collect()
    }

    #[test]
    fn a_port_without_offloads_gets_segments_in_order_among_the_rest() {
        let (port, h) = Dummy::without_offloads("d0", 1500);
        let mut tx = port.open_tx().unwrap();
        let (big, small) = (large(), PacketBuf::from_frame(&[1; 60]));
        assert_eq!(tx.send(&[&small, &big, &small]), 5);
        assert_eq!(lengths(&h), [60, 1454, 1454, 254, 60]);
        assert_eq!(port.state().counters().tx_segmented, 1);
    }

    #[test]
    fn a_port_with_offloads_gets_them_whole() {
        let (port, h) = Dummy::new("d0", 1500);
        port.open_tx().unwrap().send(&[&large()]);
        let got = h.take().unwrap();
        assert_eq!((got.len(), got.offload), (3054, large().offload));
    }

    #[test]
    fn tcp_is_cut_to_the_mtu_of_the_port() {
        // With metadata the device cuts it, at the size that fits here.
        let (port, h) = Dummy::new("d0", 1000);
        let mut tagged = large();
        tagged.insert(12, 4);
        tagged.frame_mut()[12..14].copy_from_slice(&[0x81, 0]);
        tagged.offload.csum_start += 4;
        assert_eq!(port.open_tx().unwrap().send(&[&large(), &tagged]), 2);
        for (len, hdr_len) in [(3054, 54), (3058, 58)] {
            let got = h.take().unwrap();
            let o = got.offload;
            assert_eq!((got.len(), o.gso_size, o.hdr_len, o.needs_csum), (len, 960, hdr_len, true));
        }

        // Without, or with a checksum that is complete, it is cut in software.
        let mut jumbo = large();
        jumbo.offload = Offload::default();
        for dummy in [Dummy::new, Dummy::without_offloads] {
            let (port, h) = dummy("d1", 1000);
            assert_eq!(port.open_tx().unwrap().send(&[&jumbo]), 4);
            assert_eq!(lengths(&h), [1014, 1014, 1014, 174]);
            assert_eq!(port.state().counters().tx_segmented, 1);
        }
    }

    #[test]
    fn what_is_not_tcp_is_refused_when_too_long() {
        let (port, h) = Dummy::new("d0", 1000);
        let mut udp = large();
        udp.offload = Offload::default();
        udp.frame_mut()[23] = 17;
        let mut syn = large();
        syn.offload = Offload::default();
        syn.frame_mut()[47] = 2;
        let mut fragment = large();
        fragment.offload = Offload::default();
        fragment.frame_mut()[20] = 0x20;
        assert_eq!(port.open_tx().unwrap().send(&[&udp, &syn, &fragment]), 0);
        assert!(h.take().is_none());
        assert_eq!(port.state().counters().tx_drop(TxDrop::TooBig), 3);
    }

    #[test]
    fn losses_have_their_reasons() {
        let (port, h) = Dummy::without_offloads("d0", 1300);
        let mut tx = port.open_tx().unwrap();
        let mut lie = large();
        lie.offload.csum_start = 20;
        let long = PacketBuf::from_frame(&[0; 1315]);
        let mut tagged = PacketBuf::from_frame(&[0; 1318]);
        tagged.frame_mut()[12..14].copy_from_slice(&[0x81, 0]);
        assert_eq!(tx.send(&[&lie, &long, &tagged]), 1);
        let c = port.state().counters();
        assert_eq!((c.tx_drop(TxDrop::Malformed), c.tx_drop(TxDrop::TooBig)), (1, 1));
        assert_eq!(lengths(&h), [1318]);
    }

    #[test]
    fn each_queue_receives_its_own() {
        let (port, h) = Dummy::new("d0", 0);
        let mut port = port.with_queues(2);
        let mut queues: Vec<_> = std::iter::from_fn(|| port.take_rx()).collect();
        assert_eq!(queues.len(), 2);
        h.inject(PacketBuf::from_frame(&[0; 60]));
        assert!(h.inject_into(1, PacketBuf::from_frame(&[0; 61])));
        assert!(!h.inject_into(2, PacketBuf::from_frame(&[0; 62])));
        let mut bufs = new_batch();
        for (queue, len) in queues.iter_mut().zip([60, 61]) {
            assert_eq!((queue.recv(&mut bufs).n, bufs[0].len()), (1, len));
            assert_eq!(queue.recv(&mut bufs).n, 0);
        }
    }

    #[test]
    fn what_is_injected_is_received_with_its_metadata() {
        let (mut port, h) = Dummy::new("d0", 0);
        let mut rx = port.take_rx().unwrap();
        assert!(port.take_rx().is_none());
        h.inject(large());
        let mut bufs = new_batch();
        assert_eq!(rx.recv(&mut bufs), Received { n: 1, more: false, gone: false });
        assert_eq!((bufs[0].len(), bufs[0].offload.gso_size), (3054, 1400));
        assert_eq!(port.state().counters().rx_bytes, 3054);
    }
}
