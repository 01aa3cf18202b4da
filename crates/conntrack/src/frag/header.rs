//! What a fragment says about itself.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::Zone;
use packet::checksum::checksum;
use packet::header::{IPV4_LEN, IPV6_LEN, be16, be32, ethertype, ipproto};

use crate::InvalidReason as R;
use crate::PacketView;

/// Flag and offset of IPv4's fragment field, in units of eight bytes.
const MORE_V4: u16 = 0x2000;
const OFFSET_V4: u16 = 0x1fff;
/// The same of IPv6's, where the offset counts bytes.
const MORE_V6: u16 = 1;
const OFFSET_V6: u16 = 0xfff8;
/// Bytes of the IPv6 fragment header.
pub(super) const FRAGMENT_LEN: usize = 8;

/// Which datagram a fragment is of (RFC 791 §3.2, RFC 8200 §4.5), and where it is tracked.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatagramKey {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IPv4: the protocol. IPv6: 0, for the first fragment's may differ from the others'.
    pub proto: u8,
    /// The zone of the `ct` action.
    pub zone: Zone,
    /// Where in the pipeline that is (`recirc_id`): the same datagram may wait in several places.
    pub place: u32,
}

impl DatagramKey {
    /// IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.src.is_ipv6()
    }
}

impl fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DatagramKey { id, src, dst, proto, zone, place } = self;
        write!(f, "{src}>{dst} proto {proto} id {id} zone {} place {place}", zone.0)
    }
}

/// A fragment's header. Offsets are in the frame, `start` and `end` in the datagram's payload.
#[derive(Copy, Clone, Debug)]
pub struct FragHeader {
    /// The datagram.
    pub key: DatagramKey,
    /// First byte of the payload that it has.
    pub start: u32,
    /// The byte behind its last one.
    pub end: u32,
    /// No more fragments behind it.
    pub last: bool,
    /// Bytes of the IP packet.
    pub ip_len: u32,
    /// The IP header.
    pub l3: usize,
    /// IPv6: the fragment header.
    pub frag_at: usize,
    /// IPv6: the byte that announces the fragment header.
    pub next_at: usize,
    /// The payload.
    pub payload: usize,
}

impl FragHeader {
    /// Reads a fragment that is on its way through `zone` at `place`.
    ///
    /// # Errors
    /// It cannot be read, or is no fragment (then [`R::BadHeader`]).
    pub fn parse(view: &PacketView<'_>, zone: Zone, place: u32) -> Result<FragHeader, R> {
        let h = match view.eth_type {
            ethertype::IPV4 => v4(view.frame, view.l3, zone, place)?,
            ethertype::IPV6 => v6(view.frame, view.l3, zone, place)?,
            _ => return Err(R::BadHeader),
        };
        // All but the last are cut at multiples of eight: nothing else could follow on it.
        if !h.last && (h.end - h.start) % 8 != 0 { Err(R::FragmentBounds) } else { Ok(h) }
    }

    /// The one with offset 0.
    pub const fn is_first(&self) -> bool {
        self.start == 0
    }
}

fn v4(frame: &[u8], l3: usize, zone: Zone, place: u32) -> Result<FragHeader, R> {
    let ip = frame.get(l3..).ok_or(R::Truncated)?;
    let header = ip.first_chunk::<IPV4_LEN>().ok_or(R::Truncated)?;
    let len = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(be16(header, 2).ok_or(R::Truncated)?);
    if header[0] >> 4 != 4 || len < IPV4_LEN || total < len {
        return Err(R::BadHeader);
    }
    if total > ip.len() {
        return Err(R::Truncated);
    }
    if checksum(&ip[..len]) != 0 {
        return Err(R::L3Checksum);
    }
    let word = be16(header, 6).ok_or(R::Truncated)?;
    if word & (MORE_V4 | OFFSET_V4) == 0 {
        return Err(R::BadHeader);
    }
    let addr = |at| be32(header, at).map(|a| IpAddr::V4(Ipv4Addr::from(a))).ok_or(R::Truncated);
    let start = u32::from(word & OFFSET_V4) * 8;
    Ok(FragHeader {
        key: DatagramKey {
            id: be16(header, 4).ok_or(R::Truncated)?.into(),
            src: addr(12)?,
            dst: addr(16)?,
            proto: header[9],
            zone,
            place,
        },
        start,
        end: start + (total - len) as u32,
        last: word & MORE_V4 == 0,
        ip_len: total as u32,
        l3,
        frag_at: 0,
        next_at: 0,
        payload: l3 + len,
    })
}

fn v6(frame: &[u8], l3: usize, zone: Zone, place: u32) -> Result<FragHeader, R> {
    let ip = frame.get(l3..).ok_or(R::Truncated)?;
    let header = ip.first_chunk::<IPV6_LEN>().ok_or(R::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(R::BadHeader);
    }
    let total = IPV6_LEN + usize::from(be16(header, 4).ok_or(R::Truncated)?);
    let ip = ip.get(..total).ok_or(R::Truncated)?;
    // What comes before the fragment header is the same in all fragments (RFC 8200 §4.5).
    let (mut next_at, mut at) = (6, IPV6_LEN);
    loop {
        let len = match ip[next_at] {
            ipproto::HOPOPTS | ipproto::ROUTING | ipproto::DSTOPTS | ipproto::MH => {
                (usize::from(*ip.get(at + 1).ok_or(R::Truncated)?) + 1) * 8
            }
            ipproto::AH => (usize::from(*ip.get(at + 1).ok_or(R::Truncated)?) + 2) * 4,
            ipproto::FRAGMENT => {
                let h: &[u8; FRAGMENT_LEN] =
                    ip.get(at..).and_then(|h| h.first_chunk()).ok_or(R::Truncated)?;
                let word = u16::from_be_bytes([h[2], h[3]]);
                if word & (MORE_V6 | OFFSET_V6) != 0 {
                    let addr = |at: usize| {
                        let a: Option<&[u8; 16]> = header.get(at..).and_then(|a| a.first_chunk());
                        a.map(|a| IpAddr::V6(Ipv6Addr::from(*a))).ok_or(R::Truncated)
                    };
                    let start = u32::from(word & OFFSET_V6);
                    let payload = at + FRAGMENT_LEN;
                    return Ok(FragHeader {
                        key: DatagramKey {
                            id: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                            src: addr(8)?,
                            dst: addr(24)?,
                            proto: 0,
                            zone,
                            place,
                        },
                        start,
                        end: start + (total - payload) as u32,
                        last: word & MORE_V6 == 0,
                        ip_len: total as u32,
                        l3,
                        frag_at: l3 + at,
                        next_at: l3 + next_at,
                        payload: l3 + payload,
                    });
                }
                // A packet in one piece (RFC 6946).
                FRAGMENT_LEN
            }
            _ => return Err(R::BadHeader),
        };
        next_at = at;
        at += len;
        if at >= total {
            return Err(R::Truncated);
        }
    }
}
