//! A port that receives what a capture file holds: `type=replay`.
//!
//! The file is read when the port is opened and kept in memory; a reception copies frames into the
//! caller's buffers, as a NIC would. With [`Options::repeat`] it begins again after the last frame and
//! so is always ready; else the queue is silent from then on. What is sent to the port is taken and
//! counted, as by [`crate::null`].
//!
//! For measuring the switch without devices, and for feeding it what was captured elsewhere. Frames
//! come as fast as they are asked for, not at the times in the file.
//!
//! The queue's descriptor is an event counter that is readable as long as there are frames, so that the
//! queue is polled as any other and costs nothing when it is silent.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packet::{Offload, PacketBuf, header, pcap};

use crate::null::Sink;
use crate::sys;
use crate::{BATCH, Errno, Error, FRAME_CAPACITY, Port, PortState, Received, RxQueue, TxQueue};

/// Longest file that is kept in memory.
pub const MAX_FILE: u64 = 512 << 20;

/// Frames lie at multiples of this in memory and are copied in pieces of it: one cache line, which the
/// compiler copies without a call.
const PIECE: usize = 64;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The capture file: pcap or pcapng, of Ethernet frames.
    pub file: PathBuf,
    /// Begin again after the last frame.
    pub repeat: bool,
    /// Receive queues, at least one. Frames are spread over them by their addresses and ports, the same for both
    /// directions, as a NIC with several queues does.
    pub n_queues: usize,
}

/// Why a capture file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("{0}")]
    Io(Errno),
    /// A directory, a pipe or the like.
    #[error("not a file")]
    NotAFile,
    /// Longer than [`MAX_FILE`].
    #[error(
        "{0} bytes are more than are kept in memory ({MAX_FILE}): take a part of it \
         (editcap -c, tcpdump -c)"
    )]
    TooLarge(u64),
    /// What is in it is no capture.
    #[error(transparent)]
    Format(#[from] pcap::Error),
    /// A capture of nothing.
    #[error("no frames in it")]
    Empty,
    /// Only the first bytes of a frame were captured.
    #[error(
        "of frame {frame} only {captured} of {len} bytes were captured: capture whole frames (tcpdump -s 0)"
    )]
    Partial {
        /// Which, from 1.
        frame: usize,
        /// Bytes in the file.
        captured: usize,
        /// Bytes on the wire.
        len: usize,
    },
    /// A frame that no device would deliver.
    #[error(
        "frame {frame} has {len} bytes; {min} to {FRAME_CAPACITY} can be received",
        min = header::ETH_LEN
    )]
    Length {
        /// Which, from 1.
        frame: usize,
        /// Its length.
        len: usize,
    },
}

impl From<std::io::Error> for Fault {
    fn from(e: std::io::Error) -> Fault {
        Fault::Io(Errno(e.raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// The frames of a file, each at a multiple of [`PIECE`].
#[derive(Debug, Default)]
struct Frames {
    pieces: Vec<[u8; PIECE]>,
    /// First piece and length of each.
    index: Vec<(u32, u32)>,
}

impl Frames {
    /// One for each of so many queues.
    fn read(path: &Path, n_queues: usize) -> Result<Vec<Frames>, Fault> {
        let kind = std::fs::metadata(path)?;
        if !kind.is_file() {
            return Err(Fault::NotAFile);
        }
        let too_large = |len: u64| if len > MAX_FILE { Err(Fault::TooLarge(len)) } else { Ok(()) };
        too_large(kind.len())?;
        let mut bytes = Vec::new();
        // It may grow meanwhile.
        std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        too_large(bytes.len() as u64)?;
        Frames::parse(&bytes, n_queues)
    }

    fn parse(bytes: &[u8], n_queues: usize) -> Result<Vec<Frames>, Fault> {
        let mut queues: Vec<_> = (0..n_queues.max(1)).map(|_| Frames::default()).collect();
        for (frame, number) in pcap::frames(bytes)?.zip(1..) {
            let pcap::Frame { bytes, original_len } = frame?;
            let len = bytes.len();
            if len < original_len {
                return Err(Fault::Partial { frame: number, captured: len, len: original_len });
            }
            if !(header::ETH_LEN..=FRAME_CAPACITY).contains(&len) {
                return Err(Fault::Length { frame: number, len });
            }
            let frames = &mut queues[spread(bytes, n_queues.max(1))];
            // Both fit: a file is smaller than 2³² bytes, and a frame takes more of it than a piece's index.
            frames.index.push((frames.pieces.len() as u32, len as u32));
            for chunk in bytes.chunks(PIECE) {
                let mut piece = [0; PIECE];
                piece[..chunk.len()].copy_from_slice(chunk);
                frames.pieces.push(piece);
            }
        }
        if queues.iter().all(|q| q.index.is_empty()) {
            return Err(Fault::Empty);
        }
        Ok(queues)
    }
}

/// The queue of a frame, of `n`: by addresses and ports of IP, by addresses alone for a fragment, else the first.
fn spread(frame: &[u8], n: usize) -> usize {
    use packet::header::{be16, be32, ethertype};
    let tags = [12, 16]
        .iter()
        .take_while(|at| matches!(be16(frame, **at), Some(ethertype::VLAN | ethertype::QINQ)));
    let at = header::ETH_LEN + tags.count() * header::VLAN_LEN;
    let word = |at| be32(frame, at).map_or(0, u64::from);
    let (addresses, proto, l4) = match be16(frame, at - 2) {
        Some(ethertype::IPV4) => {
            let is_fragment = be16(frame, at + 6).is_some_and(|f| f & 0x3fff != 0);
            let header_len = usize::from(frame.get(at).copied().unwrap_or(0) & 15) * 4;
            (word(at + 12) ^ word(at + 16), at + 9, (!is_fragment).then_some(at + header_len))
        }
        Some(ethertype::IPV6) => {
            let both = (8..40).step_by(4).fold(0, |sum, offset| sum ^ word(at + offset));
            (both, at + 6, Some(at + 40))
        }
        _ => return 0,
    };
    let proto = frame.get(proto).copied().unwrap_or(0);
    let has_ports = matches!(proto, 6 | 17 | 132);
    let ports = l4.filter(|_| has_ports).map_or(0, |l4| word(l4) ^ (word(l4) >> 16)) & 0xffff;
    let hash = base::hash_words(base::HashKey::default(), &[addresses, u64::from(proto), ports]);
    (hash % n as u64) as usize
}

/// See the module.
#[derive(Debug)]
pub struct Replay {
    name: String,
    state: Arc<PortState>,
    /// Receiving halves that were not given out, the next one last.
    rx: Vec<Rx>,
}

impl Replay {
    /// A port of this name. Its MTU limits nothing.
    ///
    /// # Errors
    /// The file cannot be replayed; see [`Fault`].
    pub fn open(name: &str, mtu: u32, options: &Options) -> Result<Replay, Error> {
        let queues =
            Frames::read(&options.file, options.n_queues).map_err(|fault| Error::Replay {
                device: name.to_owned(),
                // The daemon's directory is not that of whoever gave a relative path.
                file: std::path::absolute(&options.file).unwrap_or_else(|_| options.file.clone()),
                fault,
            })?;
        let state = Arc::new(PortState::new(mtu));
        let mut rx = Vec::with_capacity(queues.len());
        for frames in queues.into_iter().rev() {
            let bell = sys::eventfd().map_err(|e| Error::open(name, e))?;
            if !frames.index.is_empty() {
                sys::eventfd_ring(bell.as_fd());
            }
            let (repeat, state) = (options.repeat, Arc::clone(&state));
            rx.push(Rx { frames, next: 0, repeat, bell, state });
        }
        Ok(Replay { name: name.to_owned(), state, rx })
    }
}

impl Port for Replay {
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
        self.rx.pop().map(|rx| Box::new(rx) as _)
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, Error> {
        Ok(Box::new(Sink { state: Arc::clone(&self.state) }))
    }
}

#[derive(Debug)]
struct Rx {
    frames: Frames,
    /// Which comes next; as many as there are when all have come.
    next: usize,
    repeat: bool,
    /// Readable as long as there are frames.
    bell: OwnedFd,
    state: Arc<PortState>,
}

impl RxQueue for Rx {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn is_ready(&self) -> bool {
        self.next < self.frames.index.len()
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let want = bufs.len().min(BATCH);
        let (mut n, mut bytes) = (0, 0);
        while n < want
            && let Some(&(first, len)) = self.frames.index.get(self.next)
        {
            let (first, len, buf) = (first as usize, len as usize, &mut bufs[n]);
            let n_pieces = len.div_ceil(PIECE);
            buf.reserve(n_pieces * PIECE);
            let (space, _) = buf.recv_space().as_chunks_mut::<PIECE>();
            for (to, from) in space.iter_mut().zip(&self.frames.pieces[first..first + n_pieces]) {
                *to = *from;
            }
            buf.set_len(len);
            buf.offload = Offload::default();
            bytes += len;
            n += 1;
            self.next += 1;
            if self.repeat && self.next == self.frames.index.len() {
                self.next = 0;
            }
        }
        self.state.count_rx(n, bytes);
        let more = self.is_ready();
        if !more {
            sys::eventfd_clear(self.bell.as_fd());
        }
        Received { n, more, gone: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_batch;
    use crate::poll::Poller;
    use std::time::Duration;

    /// A file with these frames, removed at the end.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, bytes: &[u8]) -> File {
            let path = std::env::temp_dir().join(format!("replay-{name}-{}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            File(path)
        }

        fn of_frames(name: &str, frames: &[&[u8]]) -> File {
            let mut bytes = pcap::file_header(65_535).to_vec();
            for frame in frames {
                bytes.extend(pcap::record_header(0, 0, frame.len() as u32));
                bytes.extend(*frame);
            }
            File::new(name, &bytes)
        }

        fn open(&self, repeat: bool) -> Result<Replay, Error> {
            Replay::open("r0", 1500, &Options { file: self.0.clone(), repeat, n_queues: 1 })
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn frames_come_once_and_then_the_queue_is_silent() {
        let sizes: Vec<Vec<u8>> = (14..94).map(|n: usize| vec![n as u8; n * n / 2]).collect();
        let file = File::of_frames("once", &sizes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut port = file.open(false).unwrap();
        let mut rx = port.take_rx().unwrap();
        assert!(port.take_rx().is_none());
        let mut poller = Poller::new().unwrap();
        poller.add(rx.fd().unwrap(), 7).unwrap();
        let (mut bufs, mut ready, mut got) = (new_batch(), Vec::new(), Vec::new());
        // Smaller than what comes: as after headers were pushed and the buffer was made anew.
        bufs[0] = PacketBuf::with_capacity(10);
        for (n, more) in [(32, true), (32, true), (16, false), (0, false)] {
            poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
            assert_eq!((ready.len(), rx.is_ready()), (usize::from(n > 0), n > 0));
            bufs[0].offload.needs_csum = true;
            assert_eq!(rx.recv(&mut bufs), Received { n, more, gone: false });
            got.extend(bufs[..n].iter().map(|b| b.frame().to_vec()));
            assert!(bufs[..n].iter().all(|b| b.offload == Offload::default()));
        }
        assert!(got == sizes);
        let c = port.counters();
        assert_eq!((c.rx_packets, c.rx_bytes), (80, sizes.iter().map(|s| s.len() as u64).sum()));
    }

    #[test]
    fn a_loop_goes_on_within_a_batch() {
        let frames: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 60]).collect();
        let file = File::of_frames("loop", &frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut port = file.open(true).unwrap();
        let mut rx = port.take_rx().unwrap();
        let mut bufs = new_batch();
        for round in 0..4 {
            assert!(rx.is_ready());
            assert_eq!(rx.recv(&mut bufs), Received { n: BATCH, more: true, gone: false });
            let first: Vec<u8> = bufs.iter().map(|b| b.frame()[59]).collect();
            let expected: Vec<u8> = (0..BATCH).map(|i| ((round * BATCH + i) % 5) as u8).collect();
            assert_eq!(first, expected);
        }
        let sent: Vec<&PacketBuf> = bufs.iter().collect();
        assert_eq!(port.open_tx().unwrap().send(&sent), BATCH);
        assert_eq!(port.counters().tx_bytes, 60 * BATCH as u64);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let text = |file: &File| file.open(true).unwrap_err().to_string();
        let absent = File(std::env::temp_dir().join("no-such-file"));
        let said = text(&absent);
        assert!(said.starts_with("could not open network device r0 (/"), "{said}");
        assert!(said.ends_with("no-such-file: No such file or directory)"), "{said}");
        assert_eq!(absent.open(true).unwrap_err().errno(), Errno(libc::ENOENT));
        let directory = File(std::env::temp_dir());
        assert!(text(&directory).ends_with(": not a file)"));
        let script = File::new("script", b"#!/bin/sh\n");
        assert!(
            text(&script).contains(": not a capture file: it begins with 23212f62, a pcap file")
        );
        assert_eq!(script.open(true).unwrap_err().errno(), Errno(libc::EINVAL));
        assert!(text(&File::of_frames("none", &[])).ends_with(": no frames in it)"));
        let runt = File::of_frames("runt", &[&[0; 60], &[0; 13]]);
        assert!(text(&runt).ends_with(": frame 2 has 13 bytes; 14 to 65600 can be received)"));
        let giant = File::of_frames("giant", &[&[0; FRAME_CAPACITY + 1]]);
        assert!(text(&giant).contains(": frame 1 has 65601 bytes;"), "{}", text(&giant));
        assert!(File::of_frames("largest", &[&[0; FRAME_CAPACITY]]).open(true).is_ok());
        let mut bytes = pcap::file_header(65_535).to_vec();
        bytes.extend(pcap::record_header(0, 0, 20));
        bytes[36..40].copy_from_slice(&1514u32.to_ne_bytes());
        bytes.extend([0; 20]);
        let partial = File::new("partial", &bytes);
        assert!(text(&partial).contains("of frame 1 only 20 of 1514 bytes were captured: capture"));
        let sparse = File::new("sparse", b"");
        std::fs::File::options()
            .write(true)
            .open(&sparse.0)
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        assert!(text(&sparse).contains(": 536870913 bytes are more than are kept in memory"));
    }

    #[test]
    fn frames_are_spread_over_queues_by_connection() {
        let udp = |a: u8, b: u8, sport: u8, dport: u8, tags: &[u8]| {
            let mut f = vec![0; 12];
            f.extend(tags);
            f.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, a, 10, 0, 0, b]);
            f.extend([0, sport, 0, dport, 0, 8, 0, 0]);
            f
        };
        let mut used = [false; 4];
        for n in 0..64 {
            let queue = spread(&udp(1, 2, n, 53, &[]), 4);
            used[queue] = true;
            assert_eq!(queue, spread(&udp(2, 1, 53, n, &[]), 4), "both directions");
            assert_eq!(queue, spread(&udp(1, 2, n, 53, &[0x81, 0, 0, 7]), 4), "tagged");
        }
        assert_eq!(used, [true; 4]);
        // Fragments go by addresses alone; what is no IP, or too short for it, by the first queue.
        let fragment = |sport| {
            let mut f = udp(1, 2, sport, 53, &[]);
            f[20] = 0x20;
            spread(&f, 4)
        };
        assert!((0..64).all(|n| fragment(n) == fragment(0)));
        assert_eq!(spread(&[0; 14], 4), 0);
        assert_eq!(spread(&udp(1, 2, 3, 4, &[])[..14], 1), 0);

        let frames: Vec<_> = (0..64).map(|n| udp(1, 2, n, 53, &[])).collect();
        let refs: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let file = File::of_frames("queues", &refs);
        let options = Options { file: file.0.clone(), repeat: false, n_queues: 4 };
        let mut port = Replay::open("r0", 1500, &options).unwrap();
        let mut bufs = new_batch();
        for queue in 0..4 {
            let mut rx = port.take_rx().unwrap();
            let wanted: Vec<_> = refs.iter().filter(|f| spread(f, 4) == queue).collect();
            let got = rx.recv(&mut bufs);
            assert_eq!(got.n, wanted.len());
            assert!(bufs.iter().zip(&wanted).all(|(b, f)| b.frame() == **f));
        }
        assert!(port.take_rx().is_none());
        assert_eq!(port.state().counters().rx_packets, 64);
    }
}
