//! OXS: statistics as 1.5 says them (§7.2.5), and times.

use alloc::vec::Vec;
use core::time::Duration;

use super::codec::Result;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// Reads a time of seconds and nanoseconds.
pub fn duration(r: &mut Reader<'_>) -> Result<Duration> {
    let (sec, nsec) = (r.u32()?, r.u32()?);
    Ok(Duration::new(sec.into(), nsec.min(999_999_999)))
}

/// Writes a time as seconds and nanoseconds.
pub fn put_duration(out: &mut Vec<u8>, d: Duration) {
    out.put32(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
    out.put32(d.subsec_nanos());
}

/// Statistics as 1.5 says them.
pub struct Oxs {
    pub duration: Duration,
    pub idle: Option<u32>,
    pub n_packets: u64,
    pub n_bytes: u64,
    pub n_flows: Option<u32>,
}

/// Reads statistics.
pub fn read_oxs(r: &mut Reader<'_>) -> Result<Oxs> {
    let mut s = Oxs {
        duration: Duration::ZERO,
        idle: None,
        n_packets: u64::MAX,
        n_bytes: u64::MAX,
        n_flows: None,
    };
    let here = *r;
    r.skip(2)?;
    let len = usize::from(r.u16()?);
    if len < 4 {
        return Err(here.error(OfError::OFPBRC_BAD_LEN));
    }
    let mut b = r.sub(len - 4)?;
    r.skip((len.next_multiple_of(8) - len).min(r.len()))?;
    while !b.is_empty() {
        let (class, field, len) = (b.u16()?, b.u8()?, usize::from(b.u8()?));
        let mut x = b.sub(len)?;
        if class != 0x8002 {
            continue;
        }
        match field >> 1 {
            0 => s.duration = duration(&mut x)?,
            1 => s.idle = Some(x.u32()?),
            3 => s.n_flows = Some(x.u32()?),
            4 => s.n_packets = x.u64()?,
            5 => s.n_bytes = x.u64()?,
            _ => {}
        }
    }
    Ok(s)
}

impl Oxs {
    /// Writes statistics, with the duration if they are of a flow.
    pub fn write(&self, out: &mut Vec<u8>, flow: bool) {
        let start = out.len();
        out.put32(0);
        let head = |out: &mut Vec<u8>, field: u8, len: u8| {
            out.put16(0x8002);
            out.put8(field << 1);
            out.put8(len);
        };
        if flow {
            head(out, 0, 8);
            put_duration(out, self.duration);
        }
        if let Some(idle) = self.idle {
            head(out, 1, 8);
            out.put32(idle);
            out.put32(0);
        }
        head(out, 4, 8);
        out.put64(self.n_packets);
        head(out, 5, 8);
        out.put64(self.n_bytes);
        if let Some(n) = self.n_flows {
            head(out, 3, 4);
            out.put32(n);
        }
        let len = out.len() - start;
        out.set16(start + 2, len as u16);
        out.pad8(start);
    }
}
