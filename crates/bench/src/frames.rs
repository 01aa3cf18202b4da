//! Generators of frames, sent on a device by a packet socket: TCP SYNs, each of another connection, and what an
//! attacker sends ([`crafted`], [`scan`]).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netdev::af_packet::{AfPacket, Options};
use netdev::{BATCH, Port};
use packet::{PacketBuf, checksum};

/// Whom the frames are from, and to: a machine beyond the switch that is none of the story's.
pub const FROM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
/// Where the frames go.
pub const TO: [u8; 6] = [0x52, 0x54, 0, 0, 0, 4];

/// The address of the machine there.
const DST: u32 = 0xc0a8_0004;

/// Where in a frame what is.
const SRC: usize = 26;
const SPORT: usize = 34;
const TCP_CSUM: usize = 50;

/// The first packet of connection `n`: 60,000 of them for each address from 10.0.0.1 on, to
/// 192.168.0.4, port 80.
pub fn syn(n: u32) -> [u8; 60] {
    tcp(Tuple { src: 0x0a00_0001 + n / 60_000, sport: 1024 + (n % 60_000) as u16, ..ALLOWED }, n)
}

/// Addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub src: u32,
    pub dst: u32,
    pub sport: u16,
    pub dport: u16,
}

/// What a whitelist lets pass, by any one of the four.
pub const ALLOWED: Tuple = Tuple { src: 0x0a00_0001, dst: DST, sport: 12_345, dport: 80 };

/// Of each of the four fields, frame `n` has the bits of [`ALLOWED`] down to one that is another, and what comes
/// behind by chance: the bits that tell it from the whitelist are others than those of any of the next
/// 262,143 frames (Csikor et al., "Tuple Space Explosion", CoNEXT 2019).
pub fn crafted(n: u32) -> [u8; 60] {
    // All combinations, the longest prefixes not last.
    let at = n.wrapping_mul(0x2_4f35) % (1 << 18);
    let r = random(u64::from(n));
    let differ = |value: u32, bits: u32, at: u32, r: u32| {
        let bit = 1_u32 << (bits - 1 - at);
        (value ^ bit) & !(bit - 1) | r & (bit - 1)
    };
    let src = differ(ALLOWED.src, 32, at % 32, r as u32);
    let dst = differ(ALLOWED.dst, 32, at / 32 % 32, (r >> 32) as u32);
    let sport = differ(ALLOWED.sport.into(), 16, at / 1024 % 16, (r >> 16) as u32) as u16;
    let dport = differ(ALLOWED.dport.into(), 16, at / 16_384, (r >> 48) as u32) as u16;
    tcp(Tuple { src, dst, sport, dport }, n)
}

/// A SYN from anywhere to anywhere.
pub fn scan(n: u32) -> [u8; 60] {
    let (a, b) = (random(u64::from(n)), random(!u64::from(n)));
    tcp(Tuple { src: a as u32, dst: (a >> 32) as u32, sport: b as u16, dport: (b >> 16) as u16 }, n)
}

/// The `n`th of a sequence that nobody sees an order in (SplitMix64).
fn random(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A SYN with this sequence number.
fn tcp(t: Tuple, seq: u32) -> [u8; 60] {
    let mut f = [0; 60];
    f[..6].copy_from_slice(&TO);
    f[6..12].copy_from_slice(&FROM);
    f[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    f[SRC..SRC + 4].copy_from_slice(&t.src.to_be_bytes());
    f[30..34].copy_from_slice(&t.dst.to_be_bytes());
    f[SPORT..SPORT + 2].copy_from_slice(&t.sport.to_be_bytes());
    f[36..38].copy_from_slice(&t.dport.to_be_bytes());
    f[38..42].copy_from_slice(&seq.to_be_bytes());
    (f[46], f[47]) = (0x50, 2);
    f[48..50].copy_from_slice(&0xffff_u16.to_be_bytes());
    let ip = checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&ip.to_be_bytes());
    let pseudo = checksum::pseudo_v4(t.src, t.dst, 6, 20);
    let tcp = checksum::finish(checksum::add(pseudo, &f[34..54]));
    f[TCP_CSUM..TCP_CSUM + 2].copy_from_slice(&tcp.to_be_bytes());
    f
}

/// The answer that nobody gives: a frame that tells a switch where [`TO`] is.
fn announcement() -> [u8; 60] {
    let mut f = [0; 60];
    f[..6].fill(0xff);
    f[6..12].copy_from_slice(&TO);
    // An ARP announcement (RFC 5227).
    f[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    f[22..28].copy_from_slice(&TO);
    f[28..32].copy_from_slice(&DST.to_be_bytes());
    f[38..42].copy_from_slice(&DST.to_be_bytes());
    f
}

fn open(device: &str) -> Result<Box<dyn netdev::TxQueue>> {
    let options = Options { exclusive: &[], ring: 0, promiscuous: false, ..Options::default() };
    Ok(AfPacket::open(device, options)?.open_tx()?)
}

/// Tells the switch where [`TO`] is.
pub fn announce(device: &str) -> Result<()> {
    let sent = open(device)?.send(&[&PacketBuf::from_frame(&announcement())]);
    ensure!(sent == 1, "{device} did not take the frame");
    Ok(())
}

/// The frames of one of the ends that [`crate::run_end`] names.
pub fn generator(end: &str) -> Option<fn(u32) -> [u8; 60]> {
    match end {
        "send-syns" => Some(syn),
        "send-crafted" => Some(crafted),
        "send-scan" => Some(scan),
        _ => None,
    }
}

/// Sends `n` frames from number `first` on, no more than `rate` a second (0: as
/// fast as can be). Prints how many were sent and in what time in seconds.
pub fn send(make: fn(u32) -> [u8; 60], device: &str, first: u32, n: u32, rate: u32) -> Result<()> {
    let mut queue = open(device)?;
    let began = Instant::now();
    let end = first.checked_add(n).context("so many frames cannot be numbered")?;
    let mut at = first;
    let mut bufs = vec![PacketBuf::from_frame(&make(0)); BATCH];
    while at < end {
        let batch = &mut bufs[..BATCH.min((end - at) as usize)];
        for buf in &mut *batch {
            buf.frame_mut().copy_from_slice(&make(at));
            at += 1;
        }
        queue.send(&batch.iter().collect::<Vec<_>>());
        if rate > 0 {
            let due = Duration::from_secs_f64(f64::from(at - first) / f64::from(rate));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    println!("{n} {:.3}", began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_a_tracker_takes() {
        let f = syn(123_456);
        assert_eq!(checksum::checksum(&f[14..34]), 0, "a right header sums up to nothing");
        let sum = checksum::pseudo_v4(0x0a00_0003, 0xc0a8_0004, 6, 20);
        assert_eq!(checksum::finish(checksum::add(sum, &f[34..54])), 0);
        for f in [crafted(123_456), scan(123_456)] {
            let word = |at| u32::from_be_bytes([f[at], f[at + 1], f[at + 2], f[at + 3]]);
            assert_eq!(checksum::checksum(&f[14..34]), 0);
            let sum = checksum::pseudo_v4(word(26), word(30), 6, 20);
            assert_eq!(checksum::finish(checksum::add(sum, &f[34..54])), 0);
        }
        assert_ne!(syn(60_000)[SRC..SPORT + 2], syn(0)[SRC..SPORT + 2]);
        assert_eq!(u16::from_be_bytes([f[SPORT], f[SPORT + 1]]), 1024 + 3456);
    }

    #[test]
    fn crafted_frames_differ_from_what_is_allowed_at_all_combinations_of_bits() {
        let allowed = tcp(ALLOWED, 0);
        let mut combinations: Vec<[u32; 4]> = (0..1 << 18)
            .map(|n| {
                let f = crafted(n);
                [(26, 4), (30, 4), (34, 2), (36, 2)].map(|(at, len)| {
                    let field = |f: &[u8; 60]| {
                        f[at..at + len].iter().fold(0_u32, |v, b| v << 8 | u32::from(*b))
                    };
                    (field(&f) ^ field(&allowed)).leading_zeros()
                })
            })
            .collect();
        combinations.sort_unstable();
        combinations.dedup();
        assert_eq!(combinations.len(), 1 << 18);
    }
}
