//! What a device cannot take, done in software on the way out.
//!
//! A device with virtio-net headers takes everything but one thing (a partial CRC-32C of SCTP,
//! which that header cannot express); one with checksums takes no large packets; a device without
//! either takes only finished frames. Frames that
//! are fine as they are go out untouched and uncopied, in runs as long as possible; the others
//! are completed or cut into a pool of buffers that is reused. Order is kept.
//!
//! TCP whose frames would be longer than the device's MTU is cut shorter, so that it works between
//! devices of different MTUs: nobody on the way could tell the sender. What else is too long goes
//! to the device as it is, which refuses it.

use packet::segment::{Segments, cut_to, finish_checksum, longest_frame, needs_crc};
use packet::{Offload, PacketBuf};

use crate::port::frame_limit;
use crate::{BATCH, PortState, TxDrop};

/// What a device takes as it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Large packets and partial checksums.
    VirtioNet,
    /// Partial checksums.
    Checksums,
    /// Frames that are ready for the wire.
    Finished,
}

impl Takes {
    /// With virtio-net headers all, else nothing.
    pub(crate) fn with_vnet(vnet: bool) -> Takes {
        if vnet { Takes::VirtioNet } else { Takes::Finished }
    }

    fn is_fine(self, o: &Offload) -> bool {
        match self {
            Takes::VirtioNet => !needs_crc(o),
            Takes::Checksums => !needs_crc(o) && !o.is_gso(),
            Takes::Finished => !o.needs_csum && !o.is_gso(),
        }
    }
}

/// The pool of one sending half.
#[derive(Debug, Default)]
pub(crate) struct Softener {
    pool: Vec<PacketBuf>,
    /// A packet with other metadata than it came with.
    shorter: Option<PacketBuf>,
}

impl Softener {
    /// Gives `out` all of `pkts` in batches of at most [`BATCH`], each frame such that the device
    /// takes it.
    #[inline]
    pub(crate) fn run(
        &mut self,
        takes: Takes,
        pkts: &[&PacketBuf],
        state: &PortState,
        mut out: impl FnMut(&[&PacketBuf]),
    ) {
        let mtu = state.mtu();
        let fine = |p: &PacketBuf| takes.is_fine(&p.offload) && fits(p, mtu);
        let mut rest = pkts;
        while !rest.is_empty() {
            let run = rest.iter().position(|p| !fine(p)).unwrap_or(rest.len());
            let (whole, after) = rest.split_at(run);
            whole.chunks(BATCH).for_each(&mut out);
            let Some((odd, after)) = after.split_first() else { break };
            self.soften(takes, odd, state, &mut out);
            rest = after;
        }
    }

    #[cold]
    fn soften(
        &mut self,
        takes: Takes,
        pkt: &PacketBuf,
        state: &PortState,
        out: &mut impl FnMut(&[&PacketBuf]),
    ) {
        if self.pool.is_empty() {
            self.pool.resize_with(BATCH, || PacketBuf::with_capacity(2048));
        }
        let mtu = state.mtu();
        let cut = if fits(pkt, mtu) { None } else { cut_to(pkt, frame_limit(pkt, mtu)) };
        let pkt = match cut {
            Some(offload) => {
                let room = || PacketBuf::with_capacity(pkt.len());
                let shorter = self.shorter.get_or_insert_with(room);
                shorter.copy_from(pkt);
                shorter.offload = offload;
                shorter
            }
            None => pkt,
        };
        // The kernel cuts only what has its checksum left to do.
        let vnet = takes == Takes::VirtioNet;
        if vnet && !needs_crc(&pkt.offload) && (cut.is_none() || pkt.offload.needs_csum) {
            out(&[pkt]);
            return;
        }
        if !pkt.offload.is_gso() {
            if !pkt.offload.needs_csum {
                out(&[pkt]);
                return;
            }
            let whole = &mut self.pool[0];
            whole.copy_from(pkt);
            match finish_checksum(whole) {
                Ok(()) => out(&[whole]),
                Err(_) => state.drop_tx(TxDrop::Malformed, 1),
            }
            return;
        }
        let Ok(mut cut) = Segments::of(pkt) else {
            state.drop_tx(TxDrop::Malformed, 1);
            return;
        };
        state.count_segmented();
        while cut.remaining() > 0 {
            let mut n = 0;
            while n < BATCH && cut.next_into(&mut self.pool[n]) {
                n += 1;
            }
            let refs: [&PacketBuf; BATCH] = std::array::from_fn(|i| &self.pool[i]);
            out(&refs[..n]);
        }
    }
}

/// Whether each frame that `pkt` becomes is within the MTU, which is 0 for no limit.
#[inline]
fn fits(pkt: &PacketBuf, mtu: u32) -> bool {
    mtu == 0
        || pkt.len() <= mtu as usize + packet::header::ETH_LEN
        || longest_frame(pkt) <= frame_limit(pkt, mtu)
}
