//! Meters in text: `meter=1,kbps,burst,band=type=drop,rate=100,burst_size=10`.
//!
//! What stands before `band` describes the meter; behind its `=` every `type=` begins a band.

use alloc::format;
use core::fmt;

use flow::text::number::parse_number;
use flow::text::{TextError, Tok};

use super::args::Result;
use super::group::number32;
use crate::message::{
    Band, BandType, METER_FLAG_NAMES, MeterCommand, MeterConfig, MeterFlags, MeterMod, meter_id,
};

/// Words of a text, cut at what may stand between them.
struct Words<'a> {
    rest: Tok<'a>,
}

const SPACE: [char; 5] = [',', ' ', '\t', '\r', '\n'];

fn is_name_end(c: char) -> bool {
    c == '=' || SPACE.contains(&c)
}

impl<'a> Words<'a> {
    fn next(&mut self, sep: fn(char) -> bool) -> Option<Tok<'a>> {
        let t = self.rest.text;
        let start = t.find(|c| !sep(c))?;
        let end = t[start..].find(sep).map_or(t.len(), |n| start + n);
        let word = self.rest.slice(start..end);
        self.rest = self.rest.slice((end + 1).min(t.len())..t.len());
        Some(word)
    }

    fn name(&mut self) -> Option<Tok<'a>> {
        self.next(is_name_end)
    }

    /// The value of `name`.
    fn value(&mut self, name: Tok<'_>) -> Result<Tok<'a>> {
        self.next(|c| SPACE.contains(&c))
            .ok_or_else(|| TextError::new(name, format!("field {} missing value", name.text)))
    }
}

/// Reads which meter a request is about.
///
/// # Errors
/// In OVS's words.
pub fn parse_meter_id(line: &str) -> Result<u32> {
    let mut m = MeterConfig::default();
    head(&mut m, Tok::line(line), false)?;
    Ok(m.meter)
}

/// Reads a meter mod.
///
/// # Errors
/// In OVS's words.
pub fn parse_meter(line: &str, command: MeterCommand) -> Result<MeterMod> {
    let line = Tok::line(line);
    let mut meter = MeterConfig::default();
    if command == MeterCommand::Delete {
        head(&mut meter, line, false)?;
        return Ok(MeterMod { command, meter });
    }
    let end = line.slice(line.text.len()..line.text.len());
    let at = line.text.find("band");
    let bands = at.and_then(|at| line.slice(at..line.text.len()).split_once("="));
    let (Some(at), Some((_, bands))) = (at, bands) else {
        return Err(TextError::new(end, "must specify bands")
            .hint("end the meter with bands=type=drop,rate=RATE"));
    };
    head(&mut meter, line.slice(0..at), true)?;
    read_bands(&mut meter, bands)?;
    Ok(MeterMod { command, meter })
}

fn head(m: &mut MeterConfig, text: Tok<'_>, flags: bool) -> Result<()> {
    let mut words = Words { rest: text };
    while let Some(name) = words.name() {
        let flag = METER_FLAG_NAMES.iter().position(|n| *n == name.text).filter(|_| flags);
        if let Some(bit) = flag {
            m.flags |= MeterFlags::from_bits_retain(1 << bit);
            continue;
        }
        let v = words.value(name)?;
        if name.text != "meter" {
            return Err(TextError::new(name, format!("unknown keyword {}", name.text)));
        }
        m.meter = match meter_id::NAMES.iter().find(|n| n.0 == v.text) {
            Some((_, id)) => *id,
            None => number32(v)?,
        };
        if v.text.starts_with(|c: char| c.is_ascii_digit())
            && (m.meter == 0 || m.meter > meter_id::MAX)
        {
            return Err(TextError::new(v, "invalid value for meter")
                .hint("a number from 1 to 4294901760, controller or slowpath"));
        }
    }
    if m.meter == 0 {
        return Err(TextError::new(text.trim(), "must specify 'meter'"));
    }
    if flags && m.flags.is_empty() {
        return Err(TextError::new(text.trim(), "meter must specify either 'kbps' or 'pktps'"));
    }
    Ok(())
}

fn read_bands(m: &mut MeterConfig, text: Tok<'_>) -> Result<()> {
    let mut words = Words { rest: text };
    // Bands and where each begins; levels are of drop bands too until they are checked.
    let mut read: alloc::vec::Vec<(Tok<'_>, Band, u8)> = alloc::vec::Vec::new();
    while let Some(name) = words.name() {
        let v = words.value(name)?;
        if name.text == "type" {
            let kind = match BandType::NAMES.iter().position(|n| *n == v.text) {
                Some(0) => BandType::Drop,
                Some(_) => BandType::DscpRemark(0),
                None => {
                    let text = format!("field type unknown value {}", v.text);
                    return Err(TextError::new(v, text).hint("drop or dscp_remark"));
                }
            };
            read.push((v, Band { kind, rate: 0, burst_size: 0 }, 0));
            continue;
        }
        let Some((_, band, level)) = read.last_mut() else {
            return Err(TextError::new(name, "band must start with the 'type' keyword"));
        };
        match name.text {
            "rate" => band.rate = number32(v)?,
            "burst_size" => band.burst_size = number32(v)?,
            "prec_level" => {
                let n = parse_number(v.text).flatten().and_then(|n| u8::try_from(n).ok());
                *level = n.ok_or_else(|| {
                    TextError::new(v, format!("invalid prec_level \"{}\"", v.text))
                })?;
            }
            other => return Err(TextError::new(name, format!("unknown keyword {other}"))),
        }
    }
    if read.is_empty() {
        return Err(TextError::new(text, "meter must have bands"));
    }
    for (at, mut band, level) in read {
        let burst = m.flags.contains(MeterFlags::BURST);
        let why = match &mut band.kind {
            BandType::DscpRemark(_) if level == 0 => "'dscp_remark' band must have 'prec_level'",
            BandType::Drop if level != 0 => "Only 'dscp_remark' band may have 'prec_level'",
            _ if band.rate == 0 => "band must have 'rate'",
            _ if burst && band.burst_size == 0 => {
                "band must have 'burst_size' when 'burst' flag is set"
            }
            _ if !burst && band.burst_size != 0 => {
                "band may have 'burst_size' only when 'burst' flag is set"
            }
            kind => {
                if let BandType::DscpRemark(l) = kind {
                    *l = level;
                }
                m.bands.push(band);
                continue;
            }
        };
        return Err(TextError::new(at, why));
    }
    Ok(())
}

/// A number of a meter, or its name.
#[derive(Copy, Clone, Debug)]
pub struct MeterId(pub u32);

impl fmt::Display for MeterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match meter_id::NAMES.iter().find(|n| n.1 == self.0) {
            Some((name, _)) => f.write_str(name),
            None if self.0 > meter_id::MAX => f.write_str("unknown"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A meter in text: a line, and one for each band.
#[derive(Copy, Clone, Debug)]
pub struct MeterText<'a>(pub &'a MeterConfig);

impl fmt::Display for MeterText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "meter={} ", MeterId(m.meter))?;
        let mut rest = m.flags.bits();
        for (i, name) in METER_FLAG_NAMES.iter().enumerate() {
            if rest & 1 << i != 0 {
                write!(f, "{name} ")?;
                rest &= !(1 << i);
            }
        }
        if rest != 0 {
            write!(f, "flags:{rest:#x} ")?;
        }
        f.write_str("bands=")?;
        for b in &m.bands {
            write!(f, "\ntype={} rate={}", b.kind.name(), b.rate)?;
            if m.flags.contains(MeterFlags::BURST) {
                write!(f, " burst_size={}", b.burst_size)?;
            }
            if let BandType::DscpRemark(level) = b.kind {
                write!(f, " prec_level={level}")?;
            }
        }
        f.write_str("\n")
    }
}

/// A meter mod in text: what `ovs-ofctl` prints behind the heading.
#[derive(Copy, Clone, Debug)]
pub struct MeterModText<'a>(pub &'a MeterMod);

impl fmt::Display for MeterModText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.0.command {
            MeterCommand::Add => "ADD",
            MeterCommand::Modify => "MOD",
            MeterCommand::Delete => "DEL",
        };
        write!(f, "{word} {}", MeterText(&self.0.meter))
    }
}
