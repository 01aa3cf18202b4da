//! Checksum and segmentation metadata: the virtio-net header as data.
//!
//! Source: virtio 1.2 §5.1.6 and Linux `include/uapi/linux/virtio_net.h`.

/// Bytes of the header as AF_PACKET's `PACKET_VNET_HDR` and a tap with a header size of 10 use it.
pub const VNET_HDR_LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_ECN: u8 = 0x80;

/// What kind of large packet a frame is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum GsoType {
    /// Not a large packet.
    #[default]
    None,
    /// TCP over IPv4, to be cut into segments of `gso_size` payload bytes.
    TcpV4,
    /// UDP datagram to be cut into IP fragments (obsolete UFO).
    Udp,
    /// TCP over IPv6.
    TcpV6,
    /// UDP to be cut into datagrams of `gso_size` payload bytes (USO).
    UdpL4,
}

impl GsoType {
    const WIRE: [(GsoType, u8); 5] = [
        (GsoType::None, 0),
        (GsoType::TcpV4, 1),
        (GsoType::Udp, 3),
        (GsoType::TcpV6, 4),
        (GsoType::UdpL4, 5),
    ];
}

/// What is known and what is still to be done about a frame's checksum and size.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// The checksum at `csum_start + csum_offset` holds the pseudo-header sum only; the sum over
    /// everything from `csum_start` on is still to be added (CHECKSUM_PARTIAL).
    pub needs_csum: bool,
    /// The device has checked the transport checksum.
    pub csum_valid: bool,
    /// Kind of large packet.
    pub gso_type: GsoType,
    /// TCP segments carry ECN CWR.
    pub gso_ecn: bool,
    /// Length of all headers of a large packet, in bytes; a hint.
    pub hdr_len: u16,
    /// Payload bytes per segment of a large packet.
    pub gso_size: u16,
    /// Offset in the frame where the checksum starts.
    pub csum_start: u16,
    /// Offset of the checksum field from `csum_start`.
    pub csum_offset: u16,
}

impl Offload {
    /// A large packet that must be cut before a port without segmentation offload takes it.
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso_type != GsoType::None
    }

    /// The transport checksum need not be verified: checked by the device, or partial, which
    /// only a sender on this host leaves.
    #[inline]
    pub fn csum_trusted(&self) -> bool {
        self.needs_csum || self.csum_valid
    }

    /// Reads the 10-byte header in host byte order. An unknown segmentation type is refused.
    pub fn from_bytes(h: &[u8; VNET_HDR_LEN]) -> Option<Offload> {
        let word = |i: usize| u16::from_ne_bytes([h[i], h[i + 1]]);
        let (gso_type, _) = *GsoType::WIRE.iter().find(|(_, w)| *w == h[1] & !GSO_ECN)?;
        Some(Offload {
            needs_csum: h[0] & F_NEEDS_CSUM != 0,
            csum_valid: h[0] & F_DATA_VALID != 0,
            gso_type,
            gso_ecn: h[1] & GSO_ECN != 0,
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes the 10-byte header in host byte order, as a sender does (no DATA_VALID).
    pub fn to_bytes(&self) -> [u8; VNET_HDR_LEN] {
        let mut h = [0; VNET_HDR_LEN];
        h[0] = if self.needs_csum { F_NEEDS_CSUM } else { 0 };
        let wire = GsoType::WIRE.iter().find(|(t, _)| *t == self.gso_type);
        h[1] = wire.map_or(0, |(_, w)| *w) | if self.gso_ecn { GSO_ECN } else { 0 };
        for (i, v) in
            [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset].into_iter().enumerate()
        {
            h[2 + 2 * i..4 + 2 * i].copy_from_slice(&v.to_ne_bytes());
        }
        h
    }

    /// The frame grew (`by` > 0) or shrank at its front.
    pub(crate) fn shift(&mut self, by: isize) {
        if self.needs_csum {
            self.csum_start = u16::try_from(self.csum_start as isize + by).unwrap_or(0);
        }
        if self.is_gso() {
            self.hdr_len = u16::try_from(self.hdr_len as isize + by).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segmentation_type_round_trips() {
        for (gso_type, _) in GsoType::WIRE {
            for gso_ecn in [false, true] {
                let o = Offload {
                    needs_csum: true,
                    csum_valid: false,
                    gso_type,
                    gso_ecn,
                    hdr_len: 66,
                    gso_size: 1448,
                    csum_start: 34,
                    csum_offset: 16,
                };
                assert_eq!(Offload::from_bytes(&o.to_bytes()), Some(o));
            }
        }
        let mut h = Offload::default().to_bytes();
        h[1] = 9;
        assert_eq!(Offload::from_bytes(&h), None);
    }
}
