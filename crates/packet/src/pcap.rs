//! Capture files: pcap, as `tcpdump -w` writes it, and pcapng, as Wireshark does.
//!
//! [`frames`] reads Ethernet frames from a file's bytes; nothing is copied. Both byte orders, both
//! resolutions of pcap's times, and of pcapng all blocks that hold frames are understood (IETF drafts
//! `draft-ietf-opsawg-pcap` and `draft-ietf-opsawg-pcapng`); times are not read. [`file_header`] and
//! [`record_header`] are what a writer of pcap needs.

use alloc::vec::Vec;

use Error::{BadBlock, CutShort, LinkType, NoInterface, NotACapture};

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
/// Bytes of a pcap file before its first record.
pub const FILE_HEADER_LEN: usize = 24;
/// Bytes of a pcap record before its frame.
pub const RECORD_HEADER_LEN: usize = 16;

/// pcapng's block types (section 11.1 of the draft).
mod block {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// What is wrong with a capture file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first bytes are those of neither format; here are up to four of them, and how many.
    #[error(
        "not a capture file: it begins with {}, a pcap file with d4c3b2a1, a1b2c3d4, 4d3cb2a1 or \
         a1b23c4d, a pcapng file with 0a0d0d0a",
        Hex(.0, *.1)
    )]
    NotACapture([u8; 4], usize),
    /// Frames that are not Ethernet's, by their `LINKTYPE_` number.
    #[error("its frames are of link type {0}, not Ethernet (1): capture on one Ethernet device")]
    LinkType(u32),
    /// The file ends within something.
    #[error("the file ends within frame {0} or the header before it")]
    CutShort(usize),
    /// A pcapng block whose length cannot be, at this offset.
    #[error("no pcapng block can be as long as the one at offset {0} says")]
    BadBlock(usize),
    /// A frame of an interface that the pcapng file does not describe.
    #[error("frame {0} is of an interface that the file does not describe")]
    NoInterface(usize),
}

/// The first `n` bytes.
struct Hex<'a>(&'a [u8; 4], usize);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.1 == 0 {
            return f.write_str("nothing");
        }
        self.0[..self.1.min(4)].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One frame of a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What was captured of it, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// How long it was on the wire.
    pub original_len: usize,
}

/// How a file's numbers are written.
#[derive(Copy, Clone, Debug)]
struct Order {
    big_endian: bool,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) })
    }
}

#[derive(Clone, Debug)]
enum Format {
    Pcap(Order),
    /// With the current section's interfaces: link type, longest frame (0: no limit).
    Pcapng(Order, Vec<(u16, usize)>),
}

/// The frames of a file in their order, until the first error. Errors count frames from 1.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    n: usize,
    format: Format,
    failed: bool,
}

/// Reads a capture file.
///
/// # Errors
/// It is none, or not one of Ethernet. What is wrong further on is found there.
pub fn frames(bytes: &[u8]) -> Result<Frames<'_>, Error> {
    let mut first = [0; 4];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let pcap = |big_endian| {
        let order = Order { big_endian };
        // The upper bits tell of frame check sequences.
        let link_type = order.u32(bytes, FILE_HEADER_LEN - 4).ok_or(CutShort(1))? & 0xffff;
        if link_type != ETHERNET {
            return Err(LinkType(link_type));
        }
        Ok((Format::Pcap(order), FILE_HEADER_LEN))
    };
    let (format, at) = match u32::from_be_bytes(first) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => pcap(true)?,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => pcap(false)?,
        block::SECTION_HEADER => (Format::Pcapng(Order { big_endian: false }, Vec::new()), 0),
        _ => return Err(NotACapture(first, bytes.len())),
    };
    Ok(Frames { bytes, at, n: 0, format, failed: false })
}

impl<'a> Frames<'a> {
    /// The next frame; `None` at the end.
    fn read(&mut self) -> Result<Option<Frame<'a>>, Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = CutShort(self.n + 1);
        match &mut self.format {
            Format::Pcap(order) => {
                let field = |at| order.u32(rest, at).map(|n| n as usize).ok_or(cut);
                let (len, original_len) = (field(8)?, field(12)?);
                let bytes = rest.get(RECORD_HEADER_LEN..).and_then(|r| r.get(..len)).ok_or(cut)?;
                self.at += RECORD_HEADER_LEN + len;
                Ok(Some(Frame { bytes, original_len }))
            }
            Format::Pcapng(..) => self.read_blocks(),
        }
    }

    /// Reads pcapng blocks up to the next that holds a frame.
    fn read_blocks(&mut self) -> Result<Option<Frame<'a>>, Error> {
        let Format::Pcapng(order, interfaces) = &mut self.format else { return Ok(None) };
        let number = self.n + 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            // The type of a section header is the same in both orders; the order is within.
            let is_section = rest.starts_with(&block::SECTION_HEADER.to_be_bytes());
            if is_section {
                order.big_endian = match rest.get(8..12).ok_or(CutShort(number))? {
                    [0x1a, 0x2b, 0x3c, 0x4d] => true,
                    [0x4d, 0x3c, 0x2b, 0x1a] => false,
                    _ => return Err(BadBlock(self.at)),
                };
                interfaces.clear();
            }
            let kind = order.u32(rest, 0).ok_or(CutShort(number))?;
            let len = order.u32(rest, 4).ok_or(CutShort(number))? as usize;
            let bad = BadBlock(self.at);
            if len < 12 || !len.is_multiple_of(4) {
                return Err(bad);
            }
            let body = rest.get(8..len - 4).filter(|_| rest.len() >= len);
            let body = body.ok_or(CutShort(number))?;
            self.at += len;
            let (interface, captured, original, from) = match kind {
                block::INTERFACE => {
                    let link_type = order.u16(body, 0).ok_or(bad)?;
                    interfaces.push((link_type, order.u32(body, 4).ok_or(bad)? as usize));
                    continue;
                }
                block::ENHANCED_PACKET => {
                    (order.u32(body, 0), order.u32(body, 12), order.u32(body, 16), 20)
                }
                block::PACKET => {
                    let interface = order.u16(body, 0).map(u32::from);
                    (interface, order.u32(body, 12), order.u32(body, 16), 20)
                }
                block::SIMPLE_PACKET => {
                    let original = order.u32(body, 0);
                    let limit = interfaces.first().map_or(0, |i| i.1) as u32;
                    let captured = original.map(|n| if limit == 0 { n } else { n.min(limit) });
                    (Some(0), captured, original, 4)
                }
                // Names, statistics and whatever else there will be.
                _ => continue,
            };
            let (interface, captured) = (interface.ok_or(bad)?, captured.ok_or(bad)?);
            let &(link_type, _) = interfaces.get(interface as usize).ok_or(NoInterface(number))?;
            if u32::from(link_type) != ETHERNET {
                return Err(LinkType(link_type.into()));
            }
            let bytes = body.get(from..).and_then(|b| b.get(..captured as usize)).ok_or(bad)?;
            return Ok(Some(Frame { bytes, original_len: original.ok_or(bad)? as usize }));
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        self.n += 1;
        next
    }
}

/// The beginning of a pcap file of Ethernet frames of up to `longest` bytes, in this machine's byte
/// order, with times in microseconds.
pub fn file_header(longest: u32) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_ne_bytes());
    header[4..6].copy_from_slice(&2u16.to_ne_bytes());
    header[6..8].copy_from_slice(&4u16.to_ne_bytes());
    // The time zone and the accuracy of times are always 0.
    header[16..20].copy_from_slice(&longest.to_ne_bytes());
    header[20..].copy_from_slice(&ETHERNET.to_ne_bytes());
    header
}

/// What stands before a frame of `len` bytes, received at this time since 1970.
pub fn record_header(seconds: u32, micros: u32, len: u32) -> [u8; RECORD_HEADER_LEN] {
    let mut header = [0; RECORD_HEADER_LEN];
    for (to, word) in header.chunks_exact_mut(4).zip([seconds, micros, len, len]) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;

    fn pcap(all: &[&[u8]]) -> Vec<u8> {
        let mut file = file_header(65_535).to_vec();
        for bytes in all {
            file.extend(record_header(1, 2, bytes.len() as u32));
            file.extend(*bytes);
        }
        file
    }

    /// The same as another machine would have written it.
    fn swapped(mut file: Vec<u8>) -> Vec<u8> {
        let mut swap = |at: usize, n: usize| file[at..at + n].reverse();
        for (at, n) in [(0, 4), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4), (20, 4)] {
            swap(at, n);
        }
        let mut at = FILE_HEADER_LEN;
        while at < file.len() {
            let len = u32::from_ne_bytes(*file[at + 8..].first_chunk().unwrap()) as usize;
            (0..4).for_each(|i| file[at + 4 * i..at + 4 * i + 4].reverse());
            at += RECORD_HEADER_LEN + len;
        }
        file
    }

    /// A block of `kind`.
    fn pcapng_block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let word = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let padded = body.len().next_multiple_of(4);
        let len = word(12 + padded as u32);
        let mut all = [word(kind), len].concat();
        all.extend(body);
        all.resize(8 + padded, 0);
        all.extend(len);
        all
    }

    fn words(big_endian: bool, all: &[u32]) -> Vec<u8> {
        let word = |n: &u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        all.iter().flat_map(word).collect()
    }

    fn interface(big_endian: bool, link_type: u16, longest: u32) -> Vec<u8> {
        let kind = if big_endian { link_type.to_be_bytes() } else { link_type.to_le_bytes() };
        let body = [&kind[..], &[0; 2], &words(big_endian, &[longest])].concat();
        pcapng_block(big_endian, block::INTERFACE, &body)
    }

    fn section(big_endian: bool) -> Vec<u8> {
        let body = words(big_endian, &[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]);
        pcapng_block(big_endian, block::SECTION_HEADER, &body)
    }

    fn enhanced(big_endian: bool, interface: u32, original: u32, frame: &[u8]) -> Vec<u8> {
        let mut body = words(big_endian, &[interface, 0, 0, frame.len() as u32, original]);
        body.extend(frame);
        // An option behind the frame is none of its bytes.
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(words(big_endian, &[0]));
        pcapng_block(big_endian, block::ENHANCED_PACKET, &body)
    }

    fn read(file: &[u8]) -> Result<Vec<(Vec<u8>, usize)>, Error> {
        frames(file)?.map(|f| f.map(|f| (f.bytes.to_vec(), f.original_len))).collect()
    }

    #[test]
    fn pcap_in_all_orders_and_resolutions() {
        let file = pcap(&[b"one", b"", b"three"]);
        let expected = vec![(b"one".to_vec(), 3), (vec![], 0), (b"three".to_vec(), 5)];
        assert_eq!(read(&file), Ok(expected.clone()));
        assert_eq!(read(&swapped(file.clone())), Ok(expected.clone()));
        let mut nanos = file;
        nanos[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_ne_bytes());
        assert_eq!(read(&nanos), Ok(expected.clone()));
        // Four bytes of frame check sequence, as the upper bits of the link type say.
        nanos[20..24].copy_from_slice(&(1u32 | 0x2400_0000).to_ne_bytes());
        assert_eq!(read(&nanos), Ok(expected));
        assert_eq!(read(&pcap(&[])), Ok(vec![]));
    }

    #[test]
    fn pcapng_with_all_that_holds_frames() {
        for big in [false, true] {
            let mut file = [section(big), interface(big, 1, 4), interface(big, 1, 0)].concat();
            file.extend(pcapng_block(big, 5, b"statistics, skipped"));
            file.extend(enhanced(big, 1, 9, b"whole"));
            let simple = [&words(big, &[6])[..], b"simp"].concat();
            file.extend(pcapng_block(big, block::SIMPLE_PACKET, &simple));
            let id = if big { [0, 1] } else { [1, 0] };
            let old = [&id[..], &[0; 2], &words(big, &[0, 0, 3, 3]), b"old"].concat();
            file.extend(pcapng_block(big, block::PACKET, &old));
            // Another section, of the other order, has interfaces of its own.
            file.extend(
                [section(!big), interface(!big, 1, 0), enhanced(!big, 0, 1, b"x")].concat(),
            );
            let expected = [(&b"whole"[..], 9), (b"simp", 6), (b"old", 3), (b"x", 1)];
            assert_eq!(read(&file).unwrap(), expected.map(|(b, n)| (b.to_vec(), n)));
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        let text = |file: &[u8]| read(file).unwrap_err().to_string();
        assert!(text(b"").contains("it begins with nothing,"), "{}", text(b""));
        assert!(text(b"#!/bin/sh").contains("it begins with 23212f62,"));
        assert_eq!(read(&file_header(0)[..20]), Err(CutShort(1)));
        let mut cooked = pcap(&[b"frame"]);
        cooked[20..24].copy_from_slice(&113u32.to_ne_bytes());
        assert_eq!(read(&cooked), Err(LinkType(113)));
        let file = pcap(&[b"one", b"two"]);
        for len in file.len() - RECORD_HEADER_LEN - 2..file.len() {
            assert_eq!(read(&file[..len]), Err(CutShort(2)), "{len}");
        }
        let begin = || [section(false), interface(false, 1, 0), interface(false, 105, 0)].concat();
        let with = |more: Vec<u8>| [begin(), more].concat();
        let good = with(enhanced(false, 0, 1, b"x"));
        assert_eq!(read(&good[..good.len() - 1]), Err(CutShort(1)));
        assert_eq!(read(&with(enhanced(false, 1, 1, b"x"))), Err(LinkType(105)));
        assert_eq!(read(&with(enhanced(false, 2, 1, b"x"))), Err(NoInterface(1)));
        let at = begin().len();
        assert_eq!(read(&with(words(false, &[1, 10, 0, 0]))), Err(BadBlock(at)));
        let too_long = words(false, &[0, 0, 0, 1000, 1000]);
        assert_eq!(read(&with(pcapng_block(false, 6, &too_long))), Err(BadBlock(at)));
        assert_eq!(read(&with(pcapng_block(false, 6, &[]))), Err(BadBlock(at)));
        // Nothing comes after an error.
        assert_eq!(frames(&file[..file.len() - 1]).unwrap().count(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(
            seed in 0..3usize,
            changes in proptest::collection::vec((0..200usize, any::<u8>()), 0..6),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut file = match seed {
                0 => pcap(&[b"one frame", b"another one"]),
                1 => [section(true), interface(true, 1, 0), enhanced(true, 0, 7, b"a frame")].concat(),
                _ => section(false),
            };
            file.extend(noise);
            for (at, byte) in changes {
                if let Some(to) = file.get_mut(at) {
                    *to = byte;
                }
            }
            if let Ok(all) = frames(&file) {
                let total: usize = all.flatten().map(|f| f.bytes.len()).sum();
                prop_assert!(total <= file.len());
            }
        }
    }
}
