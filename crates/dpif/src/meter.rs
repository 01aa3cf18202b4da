//! Meters: rates that a `meter` action holds packets to.
//!
//! The slow path makes them ([`MeterStore`]) and names them by a number in [`crate::DpAction::Meter`];
//! the datapath counts for them.

use alloc::vec::Vec;
use core::fmt;

use base::Instant;

/// Most meters of a datapath.
pub const MAX_METERS: u32 = 1 << 18;
/// Most bands of a meter.
pub const MAX_BANDS: usize = 8;

/// What happens to a packet beyond a band's rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum BandKind {
    /// It is dropped.
    Drop,
    /// Its DSCP gets this many steps of drop precedence more.
    DscpRemark(u8),
}

/// A rate, and what happens beyond it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct BandSpec {
    /// What happens.
    pub kind: BandKind,
    /// kb/s or packets per second, not 0.
    pub rate: u32,
    /// kb or packets that may come at once; 0 for what comes in a second.
    pub burst: u32,
}

/// A meter. Of the bands that a packet exceeds, the one with the highest rate acts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeterSpec {
    /// Rates are in packets per second, else in kb/s.
    pub by_packet: bool,
    /// At most [`MAX_BANDS`].
    pub bands: Vec<BandSpec>,
}

/// What a meter counted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MeterCounters {
    /// Packets that came; a large (GSO) packet is one, although it counts as its segments against the
    /// rate.
    pub n_packets: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Packets and bytes that each band acted on.
    pub bands: Vec<(u64, u64)>,
}

/// The meters of a datapath, for whoever configures them. Called while others send packets through.
pub trait MeterStore: Send + Sync + fmt::Debug {
    /// Makes a meter; its number, or `None` if there are [`MAX_METERS`].
    fn add(&self, spec: &MeterSpec, now: Instant) -> Option<u32>;
    /// Makes a meter another one, full and with nothing counted.
    fn set(&self, id: u32, spec: &MeterSpec, now: Instant);
    /// Ends a meter: packets pass it unhindered.
    fn remove(&self, id: u32);
    /// What it counted since it was made or set.
    fn counters(&self, id: u32) -> MeterCounters;
}
