//! Meters: what is said of them, and how it stands on the wire (OpenFlow 1.3+).
//!
//! Source: OpenFlow 1.5.1 §5.11, §7.3.4.5, §7.3.5.12 to 14.

use alloc::vec::Vec;
use core::time::Duration;

use bitflags::bitflags;

use super::codec::{Encoded, Result, set_len};
use super::ports::{duration, put_duration};
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Numbers of meters.
pub mod meter_id {
    /// The highest of a meter for flows.
    pub const MAX: u32 = 0xffff_0000;
    /// What packets on their way to the slow path pass.
    pub const SLOWPATH: u32 = 0xffff_fffd;
    /// What packets on their way to a controller pass.
    pub const CONTROLLER: u32 = 0xffff_fffe;
    /// All meters, in requests.
    pub const ALL: u32 = 0xffff_ffff;
    /// The names of those that have one.
    pub const NAMES: [(&str, u32); 3] =
        [("slowpath", SLOWPATH), ("controller", CONTROLLER), ("all", ALL)];
}

bitflags! {
    /// How a meter counts.
    #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
    pub struct MeterFlags: u16 {
        /// Rates are in kb/s.
        const KBPS = 1;
        /// Rates are in packets per second.
        const PKTPS = 1 << 1;
        /// Bands have a burst size.
        const BURST = 1 << 2;
        /// Counters are wanted.
        const STATS = 1 << 3;
        /// What is not known stays.
        const _ = !0;
    }
}

/// Names of the flags, by bit.
pub const FLAG_NAMES: [&str; 4] = ["kbps", "pktps", "burst", "stats"];

/// What happens to a packet beyond a band's rate.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum BandType {
    /// It is dropped.
    Drop,
    /// Its DSCP gets this many steps of drop precedence more.
    DscpRemark(u8),
}

impl BandType {
    /// Names, in the order of numbers, which begin at 1.
    pub const NAMES: [&str; 2] = ["drop", "dscp_remark"];

    /// Its number on the wire.
    pub fn number(self) -> u16 {
        match self {
            BandType::Drop => 1,
            BandType::DscpRemark(_) => 2,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.number() - 1)]
    }
}

/// A rate and what happens beyond it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Band {
    /// What happens.
    pub kind: BandType,
    /// kb/s or packets per second.
    pub rate: u32,
    /// kb or packets that may come at once.
    pub burst_size: u32,
}

/// What a meter is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterConfig {
    /// Its number.
    pub meter: u32,
    /// How it counts.
    pub flags: MeterFlags,
    /// Its bands.
    pub bands: Vec<Band>,
}

/// What a meter mod does. The numbers are the wire's.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u16)]
pub enum MeterCommand {
    /// A new meter.
    #[default]
    Add = 0,
    /// Replaces a meter.
    Modify = 1,
    /// Deletes a meter, or all.
    Delete = 2,
}

/// A change of meters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// What it is to be; for a deletion, only its number.
    pub meter: MeterConfig,
}

/// Counters of a meter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterStats {
    /// Its number.
    pub meter: u32,
    /// Flows that use it.
    pub flow_count: u32,
    /// Packets that came.
    pub n_packets: u64,
    /// Bytes that came.
    pub n_bytes: u64,
    /// Age.
    pub duration: Option<Duration>,
    /// Packets and bytes beyond the rate of each band.
    pub bands: Vec<(u64, u64)>,
}

/// What meters can be.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterFeatures {
    /// Most meters.
    pub max_meters: u32,
    /// Bits `1 << number` of [`BandType`].
    pub band_types: u32,
    /// Bits of [`MeterFlags`].
    pub capabilities: u32,
    /// Most bands of a meter.
    pub max_bands: u8,
    /// Highest colour.
    pub max_color: u8,
}

/// Bytes of a band.
const BAND: usize = 16;

fn read_bands(r: &mut Reader<'_>) -> Result<Vec<Band>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        if r.len() < BAND {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len != BAND {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let (rate, burst_size, level) = (r.u32()?, r.u32()?, r.u8()?);
        r.skip(3)?;
        let kind = match typ {
            1 => BandType::Drop,
            2 => BandType::DscpRemark(level),
            _ => return Err(here.error(OfError::OFPMMFC_BAD_BAND)),
        };
        list.push(Band { kind, rate, burst_size });
    }
    Ok(list)
}

fn write_bands(out: &mut Vec<u8>, bands: &[Band]) {
    for b in bands {
        out.put16(b.kind.number());
        out.put16(BAND as u16);
        out.put32(b.rate);
        out.put32(b.burst_size);
        out.put8(match b.kind {
            BandType::Drop => 0,
            BandType::DscpRemark(level) => level,
        });
        out.zeros(3);
    }
}

/// Reads a meter mod.
pub fn read_mod(r: &mut Reader<'_>) -> Result<MeterMod> {
    let here = *r;
    let command = match r.u16()? {
        0 => MeterCommand::Add,
        1 => MeterCommand::Modify,
        2 => MeterCommand::Delete,
        _ => return Err(here.error(OfError::OFPMMFC_BAD_COMMAND)),
    };
    let at = *r;
    let flags = MeterFlags::from_bits_retain(r.u16()?);
    let meter = r.u32()?;
    if command == MeterCommand::Delete {
        // What else it says does not count.
        r.rest();
        return Ok(MeterMod { command, meter: MeterConfig { meter, ..MeterConfig::default() } });
    }
    if flags.contains(MeterFlags::KBPS | MeterFlags::PKTPS) {
        return Err(at.error(OfError::OFPMMFC_BAD_FLAGS));
    }
    Ok(MeterMod { command, meter: MeterConfig { meter, flags, bands: read_bands(r)? } })
}

/// Writes a meter mod.
pub fn write_mod(out: &mut Vec<u8>, m: &MeterMod) {
    out.put16(m.command as u16);
    out.put16(m.meter.flags.bits());
    out.put32(m.meter.meter);
    write_bands(out, &m.meter.bands);
}

/// Reads the number of a meter and what pads it.
pub fn read_request(r: &mut Reader<'_>) -> Result<u32> {
    let meter = r.u32()?;
    r.skip(4)?;
    Ok(meter)
}

/// Reads what meters are.
pub fn read_configs(r: &mut Reader<'_>) -> Result<Vec<MeterConfig>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let len = usize::from(r.u16()?);
        if len < 8 {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let mut e = r.sub(len - 2)?;
        let flags = MeterFlags::from_bits_retain(e.u16()?);
        list.push(MeterConfig { flags, meter: e.u32()?, bands: read_bands(&mut e)? });
    }
    Ok(list)
}

/// Writes what a meter is.
pub fn write_config(out: &mut Vec<u8>, c: &MeterConfig) -> Encoded {
    let start = out.len();
    out.put16(0);
    out.put16(c.flags.bits());
    out.put32(c.meter);
    write_bands(out, &c.bands);
    set_len(out, start, start)
}

/// Reads counters of meters.
pub fn read_stats(r: &mut Reader<'_>) -> Result<Vec<MeterStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let here = *r;
        let meter = r.u32()?;
        let len = usize::from(r.u16()?);
        if len < 40 || !(len - 40).is_multiple_of(16) {
            return Err(here.error(OfError::OFPBRC_BAD_LEN));
        }
        let mut e = r.sub(len - 6)?;
        e.skip(6)?;
        let flow_count = e.u32()?;
        let (n_packets, n_bytes) = (e.u64()?, e.u64()?);
        let duration = duration(&mut e)?;
        let mut bands = Vec::new();
        while !e.is_empty() {
            bands.push((e.u64()?, e.u64()?));
        }
        list.push(MeterStats { meter, flow_count, n_packets, n_bytes, duration, bands });
    }
    Ok(list)
}

/// Writes the counters of a meter.
pub fn write_stats(out: &mut Vec<u8>, m: &MeterStats) -> Encoded {
    let start = out.len();
    out.put32(m.meter);
    out.put16(0);
    out.zeros(6);
    out.put32(m.flow_count);
    out.put64(m.n_packets);
    out.put64(m.n_bytes);
    put_duration(out, m.duration);
    for (packets, bytes) in &m.bands {
        out.put64(*packets);
        out.put64(*bytes);
    }
    set_len(out, start, start + 4)
}

/// Reads what meters can be.
pub fn read_features(r: &mut Reader<'_>) -> Result<MeterFeatures> {
    let f = MeterFeatures {
        max_meters: r.u32()?,
        band_types: r.u32()?,
        capabilities: r.u32()?,
        max_bands: r.u8()?,
        max_color: r.u8()?,
    };
    r.skip(2)?;
    Ok(f)
}

/// Writes what meters can be.
pub fn write_features(out: &mut Vec<u8>, f: &MeterFeatures) {
    out.put32(f.max_meters);
    out.put32(f.band_types);
    out.put32(f.capabilities);
    out.put8(f.max_bands);
    out.put8(f.max_color);
    out.zeros(2);
}
