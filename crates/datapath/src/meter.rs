//! Meters: token buckets that all workers share.
//!
//! A bucket is a number of tokens that time fills and packets empty. All is atomics: no worker waits
//! for another. A refill adds, and never beyond the burst, for the time since the last one, which
//! one thread wins; a packet takes its tokens or, if there are not enough, exceeds the band and takes
//! none. Of the bands that a packet exceeds, the one with the highest rate acts (OpenFlow 1.5.1 §5.11).
//!
//! A token is a millionth of a bit or a billionth of a packet, so that a nanosecond brings as many as the
//! rate says, in kb/s or packets per second, and the largest burst fits 64 bits.
//!
//! Meters live in slots that stay where they are. A worker that reads one while it changes may hold a
//! packet to parts of the old and the new meter, once.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use base::Instant;
use dpif::{BandKind, MAX_BANDS, MAX_METERS, MeterCounters, MeterSpec, MeterStore};
use netdev::BATCH;
use parking_lot::Mutex;

use Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Slots that are made at once.
const CHUNK: usize = 256;
/// Tokens of a kb, or of a packet.
const UNIT: u64 = 1_000_000_000;
/// Tokens of a byte.
const BYTE: u64 = 8 * 1_000_000;

/// What a meter needs to know of a packet.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Frame {
    /// Its length.
    pub(crate) n_bytes: u64,
    /// Frames it will be on a wire, and their bytes.
    pub(crate) wire: (u64, u64),
}

/// What a meter says of a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// It passes, its DSCP changed ([`remarked`]).
    Remark(u8),
}

#[derive(Debug, Default)]
struct Band {
    rate: AtomicU32,
    /// 0 to drop, else steps of drop precedence + 1.
    remark: AtomicU32,
    /// Most tokens.
    full: AtomicU64,
    tokens: AtomicU64,
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
}

impl Band {
    /// Takes tokens if there are so many.
    fn take(&self, n: u64) -> bool {
        self.tokens.fetch_update(Relaxed, Relaxed, |t| t.checked_sub(n)).is_ok()
    }

    fn fill(&self, nanos: u64) {
        let full = self.full.load(Relaxed);
        let more = nanos.saturating_mul(self.rate.load(Relaxed).into());
        // It always succeeds: the closure gives a number.
        let _ =
            self.tokens.fetch_update(Relaxed, Relaxed, |t| Some(t.saturating_add(more).min(full)));
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// 0 for no meter.
    n_bands: AtomicU8,
    by_packet: AtomicBool,
    /// Nanoseconds of the last refill.
    filled: AtomicU64,
    n_packets: AtomicU64,
    n_bytes: AtomicU64,
    bands: [Band; MAX_BANDS],
}

/// The numbers of meters in use: the lowest free one is given next.
#[derive(Debug, Default)]
struct Numbers {
    /// All below were given.
    next: u32,
    /// Of those, what was given back.
    free: BTreeSet<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Meters {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    numbers: Mutex<Numbers>,
}

impl Default for Meters {
    fn default() -> Meters {
        let n = MAX_METERS as usize / CHUNK;
        Meters { chunks: (0..n).map(|_| OnceLock::new()).collect(), numbers: Mutex::default() }
    }
}

impl Meters {
    fn slot(&self, id: u32) -> Option<&Slot> {
        let id = id as usize;
        self.chunks.get(id / CHUNK)?.get()?.get(id % CHUNK)
    }

    /// What becomes of packets that come at the same time. One that is not configured lets all pass
    /// (`ovs-ofctl(8)`).
    pub(crate) fn pass(&self, id: u32, now: Instant, frames: &[Frame]) -> ArrayVec<Verdict, BATCH> {
        let mut verdicts: ArrayVec<Verdict, BATCH> =
            std::iter::repeat_n(Verdict::Pass, frames.len()).collect();
        let Some(slot) = self.slot(id) else { return verdicts };
        let bands = &slot.bands[..usize::from(slot.n_bands.load(Acquire)).min(MAX_BANDS)];
        if bands.is_empty() {
            return verdicts;
        }
        let last = slot.filled.fetch_max(now.as_nanos(), AcqRel);
        if let Some(passed) = now.as_nanos().checked_sub(last).filter(|&n| n > 0) {
            bands.iter().for_each(|b| b.fill(passed));
        }
        slot.n_packets.fetch_add(frames.len() as u64, Relaxed);
        slot.n_bytes.fetch_add(frames.iter().map(|f| f.n_bytes).sum(), Relaxed);
        let by_packet = slot.by_packet.load(Relaxed);
        let cost = |f: &Frame| if by_packet { f.wire.0 * UNIT } else { f.wire.1 * BYTE };
        let all: u64 = frames.iter().map(cost).sum();
        // The band that each packet exceeds, and its rate.
        let mut exceeded: ArrayVec<Option<(u32, usize)>, BATCH> =
            std::iter::repeat_n(None, frames.len()).collect();
        for (i, band) in bands.iter().enumerate() {
            if band.take(all) {
                continue;
            }
            let rate = band.rate.load(Relaxed);
            for (f, e) in frames.iter().zip(&mut exceeded) {
                if !band.take(cost(f)) && e.is_none_or(|(highest, _)| rate > highest) {
                    *e = Some((rate, i));
                }
            }
        }
        for ((f, e), verdict) in frames.iter().zip(exceeded).zip(&mut verdicts) {
            let Some((_, i)) = e else { continue };
            let band = &bands[i];
            band.n_packets.fetch_add(1, Relaxed);
            band.n_bytes.fetch_add(f.n_bytes, Relaxed);
            *verdict = match band.remark.load(Relaxed) {
                0 => Verdict::Drop,
                steps => Verdict::Remark((steps - 1) as u8),
            };
        }
        verdicts
    }
}

impl MeterStore for Meters {
    fn add(&self, spec: &MeterSpec, now: Instant) -> Option<u32> {
        let mut numbers = self.numbers.lock();
        let id = match numbers.free.pop_first() {
            Some(id) => id,
            None if numbers.next == MAX_METERS => return None,
            None => {
                numbers.next += 1;
                numbers.next - 1
            }
        };
        drop(numbers);
        self.chunks[id as usize / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        self.set(id, spec, now);
        Some(id)
    }

    fn set(&self, id: u32, spec: &MeterSpec, now: Instant) {
        let Some(slot) = self.slot(id) else { return };
        slot.n_bands.store(0, Release);
        slot.by_packet.store(spec.by_packet, Relaxed);
        slot.filled.store(now.as_nanos(), Relaxed);
        slot.n_packets.store(0, Relaxed);
        slot.n_bytes.store(0, Relaxed);
        for (band, b) in slot.bands.iter().zip(&spec.bands) {
            let burst = if b.burst == 0 { b.rate } else { b.burst };
            let full = u64::from(burst) * UNIT;
            band.rate.store(b.rate, Relaxed);
            band.remark.store(
                match b.kind {
                    BandKind::Drop => 0,
                    BandKind::DscpRemark(steps) => u32::from(steps) + 1,
                },
                Relaxed,
            );
            band.full.store(full, Relaxed);
            band.tokens.store(full, Relaxed);
            band.n_packets.store(0, Relaxed);
            band.n_bytes.store(0, Relaxed);
        }
        slot.n_bands.store(spec.bands.len().min(MAX_BANDS) as u8, Release);
    }

    fn remove(&self, id: u32) {
        let Some(slot) = self.slot(id) else { return };
        slot.n_bands.store(0, Release);
        self.numbers.lock().free.insert(id);
    }

    fn counters(&self, id: u32) -> MeterCounters {
        let Some(slot) = self.slot(id) else { return MeterCounters::default() };
        let n = usize::from(slot.n_bands.load(Acquire)).min(MAX_BANDS);
        let both = |b: &Band| (b.n_packets.load(Relaxed), b.n_bytes.load(Relaxed));
        MeterCounters {
            n_packets: slot.n_packets.load(Relaxed),
            n_bytes: slot.n_bytes.load(Relaxed),
            bands: slot.bands[..n].iter().map(both).collect(),
        }
    }
}

/// A TOS with `steps` more drop precedence. Only the assured forwarding classes (RFC 2597: AFxy is
/// DSCP 8x + 2y, y from 1 to 3) have one; others stay as they are.
pub(crate) fn remarked(tos: u8, steps: u8) -> u8 {
    let (class, precedence) = (tos >> 5, tos >> 3 & 3);
    let assured = (1..=4).contains(&class) && precedence != 0 && tos & 4 == 0;
    if !assured {
        return tos;
    }
    let precedence = precedence.saturating_add(steps).min(3);
    tos & !0x18 | precedence << 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpif::BandSpec;

    const DROP: BandKind = BandKind::Drop;

    fn meter(by_packet: bool, bands: &[(BandKind, u32, u32)]) -> MeterSpec {
        let band = |&(kind, rate, burst)| BandSpec { kind, rate, burst };
        MeterSpec { by_packet, bands: bands.iter().map(band).collect() }
    }

    fn frames(n: usize, n_bytes: u64) -> Vec<Frame> {
        vec![Frame { n_bytes, wire: (1, n_bytes) }; n]
    }

    fn passed(m: &Meters, id: u32, ms: u64, frames: &[Frame]) -> usize {
        let verdicts = m.pass(id, Instant::from_nanos(ms * 1_000_000), frames);
        verdicts.iter().filter(|v| **v == Verdict::Pass).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let m = Meters::default();
        let id = m.add(&meter(true, &[(DROP, 10, 3)]), Instant::ZERO).unwrap();
        assert_eq!(passed(&m, id, 0, &frames(5, 60)), 3);
        assert_eq!(passed(&m, id, 99, &frames(1, 60)), 0);
        assert_eq!(passed(&m, id, 100, &frames(2, 60)), 1);
        assert_eq!(passed(&m, id, 100_000, &frames(9, 60)), 3, "never more than the burst");
        let c = m.counters(id);
        assert_eq!((c.n_packets, c.n_bytes), (17, 17 * 60));
        assert_eq!(c.bands, [(10, 600)]);
    }

    #[test]
    fn bits_count_and_segments_too() {
        let m = Meters::default();
        // 8 kb at once: a thousand bytes.
        let id = m.add(&meter(false, &[(DROP, 8, 0)]), Instant::ZERO).unwrap();
        assert_eq!(passed(&m, id, 0, &frames(3, 400)), 2);
        assert_eq!(passed(&m, id, 0, &frames(1, 201)), 0);
        assert_eq!(passed(&m, id, 0, &frames(1, 200)), 1);
        let id = m.add(&meter(true, &[(DROP, 1, 4)]), Instant::ZERO).unwrap();
        let large = [Frame { n_bytes: 3000, wire: (3, 3132) }];
        assert_eq!((passed(&m, id, 0, &large), passed(&m, id, 0, &large)), (1, 0));
    }

    #[test]
    fn the_band_with_the_highest_rate_acts() {
        let m = Meters::default();
        let remark = BandKind::DscpRemark(2);
        let id = m.add(&meter(true, &[(remark, 1, 1), (DROP, 5, 2)]), Instant::ZERO).unwrap();
        let verdicts = m.pass(id, Instant::ZERO, &frames(3, 60));
        assert_eq!(verdicts[..], [Verdict::Pass, Verdict::Remark(2), Verdict::Drop]);
        assert_eq!(m.counters(id).bands, [(1, 60), (1, 60)]);
    }

    #[test]
    fn numbers_are_used_again_and_what_is_no_meter_lets_pass() {
        let m = Meters::default();
        let spec = meter(true, &[(DROP, 1, 1)]);
        let add = || m.add(&spec, Instant::ZERO).unwrap();
        assert_eq!((add(), add(), add()), (0, 1, 2));
        m.remove(1);
        assert_eq!(passed(&m, 1, 0, &frames(9, 60)), 9);
        assert_eq!(passed(&m, 70_000, 0, &frames(9, 60)), 9);
        assert_eq!((add(), add()), (1, 3));
        m.set(1, &meter(true, &[]), Instant::ZERO);
        assert_eq!(passed(&m, 1, 0, &frames(9, 60)), 9);
    }

    #[test]
    fn the_largest_numbers_fit() {
        let m = Meters::default();
        let id = m.add(&meter(true, &[(DROP, u32::MAX, u32::MAX)]), Instant::ZERO).unwrap();
        assert_eq!(passed(&m, id, 0, &frames(32, 60)), 32);
        assert_eq!(passed(&m, id, u64::MAX / 2_000_000, &frames(32, 60)), 32);
    }

    #[test]
    fn only_assured_forwarding_is_remarked() {
        // AF11 to AF12, AF13 and no further; AF43 stays.
        assert_eq!([1, 2, 9].map(|n| remarked(10 << 2, n)), [12 << 2, 14 << 2, 14 << 2]);
        assert_eq!(remarked(38 << 2 | 1, 1), 38 << 2 | 1);
        // Best effort, expedited forwarding and class selectors.
        for dscp in [0, 46, 8, 40, 11] {
            assert_eq!(remarked(dscp << 2, 1), dscp << 2);
        }
    }
}
