//! Meters of a bridge (OpenFlow 1.5.1 §5.11, §7.3.4.5). What they hold packets to is the datapath's
//! business; here is what controllers said of them, and the numbers they have there.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base::Instant;
use dpif::{BandKind, BandSpec, MAX_BANDS, MAX_METERS, MeterCounters, MeterSpec, MeterStore};
use openflow::message::{
    Band, BandType, MeterCommand, MeterConfig, MeterFeatures, MeterFlags, MeterMod, meter_id,
};

/// Why a meter mod was refused. Nothing of it was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterModError {
    /// `OFPMMFC_METER_EXISTS`
    #[error("the meter is there already")]
    Exists,
    /// `OFPMMFC_INVALID_METER`
    #[error("no meter can have this number")]
    Invalid,
    /// `OFPMMFC_UNKNOWN_METER`
    #[error("no such meter")]
    Unknown,
    /// `OFPMMFC_BAD_FLAGS`
    #[error("unknown flags")]
    BadFlags,
    /// `OFPMMFC_BAD_RATE`
    #[error("a band without a rate")]
    BadRate,
    /// `OFPMMFC_OUT_OF_METERS`
    #[error("too many meters")]
    OutOfMeters,
    /// `OFPMMFC_OUT_OF_BANDS`
    #[error("too many bands")]
    OutOfBands,
}

/// A meter.
#[derive(Debug)]
pub struct Meter {
    /// What the controller said.
    pub config: MeterConfig,
    /// When it was added.
    pub created: Instant,
    /// Its number in the datapath.
    pub(crate) number: u32,
}

/// The meters of a bridge. They leave the datapath with it.
#[derive(Debug, Default)]
pub struct Meters {
    meters: BTreeMap<u32, Meter>,
    /// `None`: the datapath has no meters.
    store: Option<Arc<dyn MeterStore>>,
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.delete(meter_id::ALL);
    }
}

fn spec(c: &MeterConfig) -> MeterSpec {
    let band = |b: &Band| BandSpec {
        kind: match b.kind {
            BandType::Drop => BandKind::Drop,
            BandType::DscpRemark(steps) => BandKind::DscpRemark(steps),
        },
        rate: b.rate,
        burst: b.burst_size,
    };
    let by_packet = c.flags.contains(MeterFlags::PKTPS);
    MeterSpec { by_packet, bands: c.bands.iter().map(band).collect() }
}

impl Meters {
    pub(crate) fn new(store: Option<Arc<dyn MeterStore>>) -> Meters {
        Meters { meters: BTreeMap::new(), store }
    }

    /// A meter.
    pub fn get(&self, id: u32) -> Option<&Meter> {
        self.meters.get(&id)
    }

    /// One meter, or all for [`meter_id::ALL`], by number.
    pub fn select(&self, id: u32) -> impl Iterator<Item = &Meter> {
        let range = if id == meter_id::ALL { 0..=u32::MAX } else { id..=id };
        self.meters.range(range).map(|m| m.1)
    }

    /// What meters can be.
    pub fn features(&self) -> MeterFeatures {
        if self.store.is_none() {
            return MeterFeatures::default();
        }
        let kinds = [BandType::Drop, BandType::DscpRemark(0)];
        let flags = MeterFlags::KBPS | MeterFlags::PKTPS | MeterFlags::BURST | MeterFlags::STATS;
        MeterFeatures {
            max_meters: MAX_METERS,
            band_types: kinds.iter().fold(0, |bits, k| bits | 1 << k.number()),
            capabilities: flags.bits().into(),
            max_bands: MAX_BANDS as u8,
            max_color: 0,
        }
    }

    /// What a meter counted.
    pub fn counters(&self, m: &Meter) -> MeterCounters {
        self.store.as_ref().map(|s| s.counters(m.number)).unwrap_or_default()
    }

    /// Applies a meter mod, and gives the meters that went.
    ///
    /// # Errors
    /// It cannot be done.
    pub(crate) fn apply(&mut self, m: &MeterMod, now: Instant) -> Result<Vec<u32>, MeterModError> {
        let id = m.meter.meter;
        if m.command == MeterCommand::Delete {
            return Ok(self.delete(id));
        }
        let store = self.store.as_ref().ok_or(MeterModError::Invalid)?;
        let special = matches!(id, meter_id::SLOWPATH | meter_id::CONTROLLER);
        if id == 0 || (id > meter_id::MAX && !special) {
            return Err(MeterModError::Invalid);
        }
        if m.meter.bands.len() > MAX_BANDS {
            return Err(MeterModError::OutOfBands);
        }
        let capabilities = self.features().capabilities;
        let old = self.meters.get_mut(&id);
        match (m.command, &old) {
            (MeterCommand::Add, Some(_)) => return Err(MeterModError::Exists),
            (MeterCommand::Modify, None) => return Err(MeterModError::Unknown),
            _ => {}
        }
        if u32::from(m.meter.flags.bits()) & !capabilities != 0 {
            return Err(MeterModError::BadFlags);
        }
        if m.meter.bands.iter().any(|b| b.rate == 0) {
            return Err(MeterModError::BadRate);
        }
        match old {
            Some(old) => {
                store.set(old.number, &spec(&m.meter), now);
                old.config = m.meter.clone();
            }
            None => {
                let number = store.add(&spec(&m.meter), now).ok_or(MeterModError::OutOfMeters)?;
                let meter = Meter { config: m.meter.clone(), created: now, number };
                self.meters.insert(id, meter);
            }
        }
        Ok(Vec::new())
    }

    /// Deletes one meter or all, and gives those that went.
    pub(crate) fn delete(&mut self, id: u32) -> Vec<u32> {
        let gone: Vec<(u32, u32)> = self.select(id).map(|m| (m.config.meter, m.number)).collect();
        for (id, number) in &gone {
            self.meters.remove(id);
            if let Some(store) = &self.store {
                store.remove(*number);
            }
        }
        gone.into_iter().map(|g| g.0).collect()
    }
}
