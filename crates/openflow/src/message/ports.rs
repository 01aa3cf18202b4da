//! Bodies about ports and queues, and the features reply, which 1.0 fills with ports.

use alloc::vec::Vec;

use super::codec::Result;
use super::*;
use crate::action::decode::port32;
use crate::error::OfError;
use crate::wire::{Put, Reader};

/// 1.0's feature bits have no 40 Gb/s to 1 Tb/s and OTHER: bits 7 to 11 are 1.1+'s 11 to 15.
fn features10(v: u32) -> u32 {
    v & 0x7f | (v & 0xf80) << 4
}

fn to_features10(v: u32) -> u32 {
    v & 0x7f | v >> 4 & 0xf80
}

/// Config bits that 1.1+ has.
const CONFIG11: u32 =
    port_config::PORT_DOWN | port_config::NO_RECV | port_config::NO_FWD | port_config::NO_PACKET_IN;

/// Reads a port number: two bytes in 1.0, else four; and the padding of each.
pub fn read_port_no(r: &mut Reader<'_>, v: Version, pad10: usize, pad: usize) -> Result<OfPort> {
    if v == Version::Of10 {
        let p = OfPort(r.u16()?);
        r.skip(pad10)?;
        return Ok(p);
    }
    let here = *r;
    let p = port32(r).map_err(|_| here.error(OfError::OFPBRC_BAD_PORT))?;
    r.skip(pad)?;
    Ok(p)
}

/// Writes a port number and its padding.
pub fn write_port_no(out: &mut Vec<u8>, p: OfPort, v: Version, pad10: usize, pad: usize) {
    if v == Version::Of10 {
        out.put16(p.0);
        out.zeros(pad10);
    } else {
        out.put32(p.to_wire32());
        out.zeros(pad);
    }
}

/// Reads a port.
pub fn read_port(r: &mut Reader<'_>, v: Version) -> Result<PortDesc> {
    if v == Version::Of10 {
        let port = OfPort(r.u16()?);
        return Ok(PortDesc {
            port,
            hw_addr: MacAddr(r.array()?),
            name: r.text(16)?,
            config: r.u32()? & 0x7f,
            state: r.u32()? & (port_state::LINK_DOWN | port_state::STP_MASK),
            current: features10(r.u32()?),
            advertised: features10(r.u32()?),
            supported: features10(r.u32()?),
            peer: features10(r.u32()?),
            curr_speed: 0,
            max_speed: 0,
        });
    }
    let port = port32(r)?;
    let here = *r;
    let len = usize::from(r.u16()?);
    r.skip(2)?;
    let mut p = PortDesc { port, hw_addr: MacAddr(r.array()?), ..Default::default() };
    r.skip(2)?;
    p.name = r.text(16)?;
    p.config = r.u32()? & CONFIG11;
    p.state = r.u32()? & 7;
    let speeds = |r: &mut Reader<'_>, p: &mut PortDesc| -> Result<()> {
        (p.current, p.advertised) = (r.u32()?, r.u32()?);
        (p.supported, p.peer) = (r.u32()?, r.u32()?);
        (p.curr_speed, p.max_speed) = (r.u32()?, r.u32()?);
        Ok(())
    };
    if v < Version::Of14 {
        speeds(r, &mut p)?;
        return Ok(p);
    }
    if len < 40 {
        return Err(here.error(OfError::OFPBRC_BAD_LEN));
    }
    let mut props = r.sub(len - 40)?;
    while props.len() >= 4 {
        let here = props;
        let (typ, len) = (props.u16()?, usize::from(props.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mut b = props.sub(len - 4)?;
        let pad = (len.next_multiple_of(8) - len).min(props.len());
        props.skip(pad)?;
        if typ == 0 {
            b.skip(4)?;
            speeds(&mut b, &mut p)?;
        }
    }
    Ok(p)
}

/// Writes a port.
pub fn write_port(out: &mut Vec<u8>, p: &PortDesc, v: Version) {
    if v == Version::Of10 {
        out.put16(p.port.0);
        out.extend_from_slice(&p.hw_addr.0);
        out.text(&p.name, 16);
        out.put32(p.config & 0x7f);
        out.put32(p.state & (port_state::LINK_DOWN | port_state::STP_MASK));
        for f in [p.current, p.advertised, p.supported, p.peer] {
            out.put32(to_features10(f));
        }
        return;
    }
    out.put32(p.port.to_wire32());
    out.put16(if v >= Version::Of14 { 72 } else { 0 });
    out.zeros(2);
    out.extend_from_slice(&p.hw_addr.0);
    out.zeros(2);
    out.text(&p.name, 16);
    out.put32(p.config & CONFIG11);
    out.put32(p.state & 7);
    if v >= Version::Of14 {
        out.put16(0);
        out.put16(32);
        out.zeros(4);
    }
    for f in [p.current, p.advertised, p.supported, p.peer, p.curr_speed, p.max_speed] {
        out.put32(f);
    }
}

/// Reads a features reply.
pub fn read_features(r: &mut Reader<'_>, v: Version) -> Result<Features> {
    let (dpid, n_buffers, n_tables, auxiliary_id) = (r.u64()?, r.u32()?, r.u8()?, r.u8()?);
    let auxiliary_id = if v >= Version::Of13 { auxiliary_id } else { 0 };
    r.skip(2)?;
    let (capabilities, actions) = (r.u32()?, r.u32()?);
    let actions = if v == Version::Of10 { actions } else { 0 };
    let mut ports = Vec::new();
    while v < Version::Of13 && !r.is_empty() {
        ports.push(read_port(r, v)?);
    }
    Ok(Features { dpid, n_buffers, n_tables, auxiliary_id, capabilities, actions, ports })
}

/// Writes a features reply.
pub fn write_features(out: &mut Vec<u8>, f: &Features, v: Version) {
    out.put64(f.dpid);
    out.put32(f.n_buffers);
    out.put8(f.n_tables);
    out.put8(if v >= Version::Of13 { f.auxiliary_id } else { 0 });
    out.zeros(2);
    out.put32(f.capabilities);
    out.put32(if v == Version::Of10 { f.actions } else { 0 });
    if v < Version::Of13 {
        f.ports.iter().for_each(|p| write_port(out, p, v));
    }
}

/// Reads a port mod.
pub fn read_mod(r: &mut Reader<'_>, v: Version) -> Result<PortMod> {
    let here = *r;
    if v == Version::Of10 {
        let port = OfPort(r.u16()?);
        let m = PortMod {
            port,
            hw_addr: MacAddr(r.array()?),
            config: r.u32()? & 0x7f,
            mask: r.u32()? & 0x7f,
            advertise: features10(r.u32()?),
        };
        r.skip(4)?;
        return Ok(m);
    }
    let port = port32(r).map_err(|_| here.error(OfError::OFPPMFC_BAD_PORT))?;
    r.skip(4)?;
    let hw_addr = MacAddr(r.array()?);
    r.skip(2)?;
    let (config, mask) = (r.u32()? & CONFIG11, r.u32()? & CONFIG11);
    let mut m = PortMod { port, hw_addr, config, mask, advertise: 0 };
    if v < Version::Of14 {
        m.advertise = r.u32()?;
        r.skip(4)?;
        return Ok(m);
    }
    while r.len() >= 4 {
        let here = *r;
        let (typ, len) = (r.u16()?, usize::from(r.u16()?));
        if len < 4 {
            return Err(here.error(OfError::OFPBPC_BAD_LEN));
        }
        let mut b = r.sub(len - 4)?;
        r.skip((len.next_multiple_of(8) - len).min(r.len()))?;
        match typ {
            0 => m.advertise = b.u32()?,
            _ => return Err(here.error(OfError::OFPBPC_BAD_TYPE)),
        }
    }
    Ok(m)
}

/// Writes a port mod.
pub fn write_mod(out: &mut Vec<u8>, m: &PortMod, v: Version) {
    if v == Version::Of10 {
        out.put16(m.port.0);
        out.extend_from_slice(&m.hw_addr.0);
        out.put32(m.config & 0x7f);
        out.put32(m.mask & 0x7f);
        out.put32(to_features10(m.advertise));
        out.zeros(4);
        return;
    }
    out.put32(m.port.to_wire32());
    out.zeros(4);
    out.extend_from_slice(&m.hw_addr.0);
    out.zeros(2);
    out.put32(m.config & CONFIG11);
    out.put32(m.mask & CONFIG11);
    if v < Version::Of14 {
        out.put32(m.advertise);
        out.zeros(4);
    } else if m.advertise != 0 {
        out.put16(0);
        out.put16(8);
        out.put32(m.advertise);
    }
}

/// Reads an age; `None` for unknown.
pub fn duration(r: &mut Reader<'_>) -> Result<Option<Duration>> {
    let (sec, nsec) = (r.u32()?, r.u32()?);
    if sec == u32::MAX {
        return Ok(None);
    }
    Ok(Some(Duration::new(sec.into(), nsec.min(999_999_999))))
}

/// Writes an age.
pub fn put_duration(out: &mut Vec<u8>, d: Option<Duration>) {
    match d {
        Some(d) => {
            out.put32(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
            out.put32(d.subsec_nanos());
        }
        None => out.put64(u64::MAX),
    }
}

/// Property of Nicira's own counters: experimenter, id, type.
const PROP_EXPERIMENTER: u16 = 0xffff;
const INTEL: u32 = 0xaa01;

/// Reads port counters.
pub fn read_stats(r: &mut Reader<'_>, v: Version) -> Result<Vec<PortStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        let mut p = PortStats::default();
        let here = *r;
        if v >= Version::Of14 {
            let len = usize::from(r.u16()?);
            if len < 80 {
                return Err(here.error(OfError::OFPBRC_BAD_LEN));
            }
            let mut e = r.sub(len - 2)?;
            e.skip(2)?;
            p.port = port32(&mut e)?;
            p.duration = duration(&mut e)?;
            counters(&mut e, &mut p)?;
            while e.len() >= 4 {
                let here = e;
                let (typ, len) = (e.u16()?, usize::from(e.u16()?));
                if len < 4 {
                    return Err(here.error(OfError::OFPBPC_BAD_LEN));
                }
                let mut b = e.sub(len - 4)?;
                let pad = (len.next_multiple_of(8) - len).min(e.len());
                e.skip(pad)?;
                prop(typ, &mut b, &mut p)?;
            }
        } else {
            p.port = read_port_no(r, v, 6, 4)?;
            counters(r, &mut p)?;
            p.rx_frame_err = r.u64()?;
            p.rx_over_err = r.u64()?;
            p.rx_crc_err = r.u64()?;
            p.collisions = r.u64()?;
            p.duration = if v >= Version::Of13 { duration(r)? } else { None };
        }
        list.push(p);
    }
    Ok(list)
}

fn counters(r: &mut Reader<'_>, p: &mut PortStats) -> Result<()> {
    for x in [
        &mut p.rx_packets,
        &mut p.tx_packets,
        &mut p.rx_bytes,
        &mut p.tx_bytes,
        &mut p.rx_dropped,
        &mut p.tx_dropped,
        &mut p.rx_errors,
        &mut p.tx_errors,
    ] {
        *x = r.u64()?;
    }
    Ok(())
}

fn prop(typ: u16, b: &mut Reader<'_>, p: &mut PortStats) -> Result<()> {
    match typ {
        0 => {
            b.skip(4)?;
            (p.rx_frame_err, p.rx_over_err) = (b.u64()?, b.u64()?);
            (p.rx_crc_err, p.collisions) = (b.u64()?, b.u64()?);
        }
        PROP_EXPERIMENTER => {
            let (vendor, kind) = (b.u32()?, b.u32()?);
            if vendor != INTEL {
                return Ok(());
            }
            if kind == 1 {
                let mut c = Box::new([0; 21]);
                b.skip(4)?;
                for x in c.iter_mut() {
                    *x = b.u64()?;
                }
                p.rfc2819 = Some(c);
            } else if kind == 2 {
                b.skip(2)?;
                let n = b.u16()?;
                for _ in 0..n {
                    let len = usize::from(b.u8()?);
                    let name = b.text(len)?;
                    p.custom.push((name, b.u64()?));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Writes port counters.
pub fn write_stats(out: &mut Vec<u8>, p: &PortStats, v: Version) {
    let start = out.len();
    let main = [
        p.rx_packets,
        p.tx_packets,
        p.rx_bytes,
        p.tx_bytes,
        p.rx_dropped,
        p.tx_dropped,
        p.rx_errors,
        p.tx_errors,
    ];
    let ethernet = [p.rx_frame_err, p.rx_over_err, p.rx_crc_err, p.collisions];
    if v < Version::Of14 {
        write_port_no(out, p.port, v, 6, 4);
        main.iter().chain(&ethernet).for_each(|x| out.put64(*x));
        if v >= Version::Of13 {
            put_duration(out, p.duration);
        }
        return;
    }
    out.zeros(4);
    out.put32(p.port.to_wire32());
    put_duration(out, p.duration);
    main.iter().for_each(|x| out.put64(*x));
    out.put16(0);
    out.put16(40);
    out.zeros(4);
    ethernet.iter().for_each(|x| out.put64(*x));
    if let Some(c) = &p.rfc2819 {
        out.put16(PROP_EXPERIMENTER);
        out.put16(16 + 8 * 21);
        out.put32(INTEL);
        out.put32(1);
        out.zeros(4);
        c.iter().for_each(|x| out.put64(*x));
    }
    if !p.custom.is_empty() {
        let at = out.len();
        out.put16(PROP_EXPERIMENTER);
        out.put16(0);
        out.put32(INTEL);
        out.put32(2);
        out.put16(0);
        out.put16(p.custom.len() as u16);
        for (name, value) in &p.custom {
            let n = name.len().min(255);
            out.put8(n as u8);
            out.extend_from_slice(&name.as_bytes()[..n]);
            out.put64(*value);
        }
        let len = out.len() - at;
        out.set16(at + 2, len as u16);
        out.pad8(at);
    }
    let len = out.len() - start;
    out.set16(start, len as u16);
}

/// Reads queue counters.
pub fn read_queues(r: &mut Reader<'_>, v: Version) -> Result<Vec<QueueStats>> {
    let mut list = Vec::new();
    while !r.is_empty() {
        if v >= Version::Of14 {
            let here = *r;
            let len = usize::from(r.u16()?);
            if len < 48 {
                return Err(here.error(OfError::OFPBRC_BAD_LEN));
            }
            let mut e = r.sub(len - 2)?;
            e.skip(6)?;
            let (port, queue) = (port32(&mut e)?, e.u32()?);
            let (tx_bytes, tx_packets, tx_errors) = (e.u64()?, e.u64()?, e.u64()?);
            let duration = duration(&mut e)?;
            list.push(QueueStats { port, queue, tx_bytes, tx_packets, tx_errors, duration });
            continue;
        }
        let port = read_port_no(r, v, 2, 0)?;
        let queue = r.u32()?;
        let (tx_bytes, tx_packets, tx_errors) = (r.u64()?, r.u64()?, r.u64()?);
        let duration = if v >= Version::Of13 { duration(r)? } else { None };
        list.push(QueueStats { port, queue, tx_bytes, tx_packets, tx_errors, duration });
    }
    Ok(list)
}

/// Writes queue counters.
pub fn write_queue(out: &mut Vec<u8>, q: &QueueStats, v: Version) {
    if v >= Version::Of14 {
        out.put16(48);
        out.zeros(6);
    }
    write_port_no(out, q.port, v, 2, 0);
    out.put32(q.queue);
    out.put64(q.tx_bytes);
    out.put64(q.tx_packets);
    out.put64(q.tx_errors);
    if v >= Version::Of13 {
        put_duration(out, q.duration);
    }
}
