//! The packet buffer.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use crate::Offload;

/// Bytes kept free before a received frame: room for a virtio-net header, VLAN tags, MPLS labels
/// and an IPv6 tunnel header.
pub const HEADROOM: usize = 128;

/// Marks an unknown layer offset.
const NO_LAYER: u16 = u16::MAX;

/// One frame, from its Ethernet header on, in a buffer with headroom and tailroom.
///
/// Layer offsets are relative to the frame's first byte; whoever parses the frame sets them
/// ([`PacketBuf::set_layers`]), and pushing or pulling bytes keeps them right.
#[derive(Clone)]
pub struct PacketBuf {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    l3: u16,
    l4: u16,
    /// Checksum and segmentation metadata.
    pub offload: Offload,
}

impl PacketBuf {
    /// An empty packet with [`HEADROOM`] and space for `capacity` frame bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        PacketBuf {
            buf: vec![0; HEADROOM + capacity].into_boxed_slice(),
            start: HEADROOM,
            end: HEADROOM,
            l3: NO_LAYER,
            l4: NO_LAYER,
            offload: Offload::default(),
        }
    }

    /// A packet that holds a copy of `frame`, without offload metadata.
    pub fn from_frame(frame: &[u8]) -> Self {
        let mut p = PacketBuf::with_capacity(frame.len());
        p.buf[HEADROOM..].copy_from_slice(frame);
        p.end = p.buf.len();
        p
    }

    /// Becomes empty again: full headroom, no layers, no offload metadata.
    pub fn reset(&mut self) {
        self.start = HEADROOM.min(self.buf.len());
        self.end = self.start;
        self.clear_layers();
        self.offload = Offload::default();
    }

    /// Makes this a copy of `other`, growing the buffer if it must.
    pub fn copy_from(&mut self, other: &PacketBuf) {
        let frame = other.frame();
        if self.buf.len() < HEADROOM + frame.len() {
            self.buf = vec![0; HEADROOM + frame.len()].into_boxed_slice();
        }
        self.start = HEADROOM;
        self.end = HEADROOM + frame.len();
        self.buf[self.start..self.end].copy_from_slice(frame);
        (self.l3, self.l4, self.offload) = (other.l3, other.l4, other.offload);
    }

    /// The frame.
    #[inline]
    pub fn frame(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The frame, writable.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    /// Frame length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes free before the frame.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// The whole space behind the headroom, for a receive call to fill. After it, call
    /// [`PacketBuf::set_len`].
    pub fn recv_space(&mut self) -> &mut [u8] {
        &mut self.buf[HEADROOM..]
    }

    /// Bytes that [`PacketBuf::recv_space`] has.
    pub fn capacity(&self) -> usize {
        self.buf.len().saturating_sub(HEADROOM)
    }

    /// Makes room for a frame of `capacity` bytes. If the buffer has to grow, its content is lost.
    pub fn reserve(&mut self, capacity: usize) {
        if self.capacity() < capacity {
            *self = PacketBuf::with_capacity(capacity);
        }
    }

    /// The frame is now the first `len` bytes of the receive space (cut to the capacity).
    pub fn set_len(&mut self, len: usize) {
        self.start = HEADROOM;
        self.end = (HEADROOM + len).min(self.buf.len());
        self.clear_layers();
    }

    /// Cuts the frame to `len` bytes if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Adds `n` bytes of unspecified content before the frame, moving the frame only if the
    /// headroom is too small. Layer offsets and the offload metadata follow.
    pub fn push_front(&mut self, n: usize) {
        if self.start < n {
            let len = self.len();
            let mut grown = vec![0; HEADROOM + n + len].into_boxed_slice();
            grown[HEADROOM + n..].copy_from_slice(self.frame());
            self.buf = grown;
            self.start = HEADROOM + n;
            self.end = self.start + len;
        }
        self.start -= n;
        self.shift_layers(n as isize);
    }

    /// Removes `n` bytes (at most the frame) from the front; layers and offload follow.
    pub fn pull_front(&mut self, n: usize) {
        let n = n.min(self.len());
        self.start += n;
        self.shift_layers(-(n as isize));
    }

    /// Opens a gap of `n` bytes at `offset`, moving the bytes before it towards the headroom.
    /// `offset` must be within the frame.
    pub fn insert(&mut self, offset: usize, n: usize) {
        self.push_front(n);
        self.frame_mut().copy_within(n..n + offset, 0);
    }

    /// Removes `n` bytes at `offset`. `offset + n` must be within the frame.
    pub fn remove(&mut self, offset: usize, n: usize) {
        self.frame_mut().copy_within(0..offset, n);
        self.pull_front(n);
    }

    /// Replaces `n` bytes at `offset`, which is behind all headers: layers and offload stay. `offset + n`
    /// must be within the frame.
    pub fn splice(&mut self, offset: usize, n: usize, bytes: &[u8]) {
        let kept = (self.l3, self.l4, self.offload);
        match bytes.len().checked_sub(n) {
            Some(more) => self.insert(offset, more),
            None => self.remove(offset, n - bytes.len()),
        }
        (self.l3, self.l4, self.offload) = kept;
        self.frame_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Offset of the network header, if known.
    #[inline]
    pub fn l3(&self) -> Option<usize> {
        (self.l3 != NO_LAYER).then_some(self.l3 as usize)
    }

    /// Offset of the transport header, if known.
    #[inline]
    pub fn l4(&self) -> Option<usize> {
        (self.l4 != NO_LAYER).then_some(self.l4 as usize)
    }

    /// Sets the layer offsets; `None` for unknown. Offsets beyond the frame are unknown too.
    #[inline]
    pub fn set_layers(&mut self, l3: Option<usize>, l4: Option<usize>) {
        let len = self.len();
        let fit = |o: Option<usize>| match o {
            Some(o) if o <= len && o < NO_LAYER as usize => o as u16,
            _ => NO_LAYER,
        };
        (self.l3, self.l4) = (fit(l3), fit(l4));
    }

    fn clear_layers(&mut self) {
        (self.l3, self.l4) = (NO_LAYER, NO_LAYER);
    }

    fn shift_layers(&mut self, by: isize) {
        for layer in [&mut self.l3, &mut self.l4] {
            if *layer != NO_LAYER {
                *layer = u16::try_from(*layer as isize + by).unwrap_or(NO_LAYER);
            }
        }
        self.offload.shift(by);
    }
}

impl fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBuf")
            .field("len", &self.len())
            .field("l3", &self.l3())
            .field("l4", &self.l4())
            .field("offload", &self.offload)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn insert_and_remove_are_inverse() {
        let frame: Vec<u8> = (0..60).collect();
        let mut p = PacketBuf::from_frame(&frame);
        p.set_layers(Some(14), Some(34));
        p.insert(12, 4);
        assert_eq!(&p.frame()[..12], &frame[..12]);
        assert_eq!(&p.frame()[16..], &frame[12..]);
        assert_eq!((p.l3(), p.l4()), (Some(18), Some(38)));
        p.remove(12, 4);
        assert_eq!(p.frame(), &frame[..]);
        assert_eq!((p.l3(), p.l4()), (Some(14), Some(34)));
    }

    #[test]
    fn splicing_the_payload_leaves_the_headers_where_they_are() {
        for with in [&b""[..], b"12", b"1234", b"a longer text than before"] {
            let mut p = PacketBuf::from_frame(b"headers PAYLOAD tail");
            p.set_layers(Some(3), Some(7));
            p.offload.csum_start = 7;
            p.splice(8, 4, with);
            assert_eq!(p.frame(), [b"headers ", with, b"OAD tail"].concat());
            assert_eq!((p.l3(), p.l4(), p.offload.csum_start), (Some(3), Some(7), 7));
        }
    }

    #[test]
    fn push_front_grows_when_the_headroom_is_used_up() {
        let mut p = PacketBuf::from_frame(&[7; 20]);
        for _ in 0..10 {
            p.push_front(50);
        }
        assert_eq!(p.len(), 520);
        assert_eq!(&p.frame()[500..], &[7; 20]);
    }

    #[test]
    fn pulling_past_a_layer_forgets_it() {
        let mut p = PacketBuf::from_frame(&[0; 40]);
        p.set_layers(Some(14), Some(34));
        p.pull_front(20);
        assert_eq!((p.l3(), p.l4()), (None, Some(14)));
        p.pull_front(100);
        assert!(p.is_empty());
    }
}
