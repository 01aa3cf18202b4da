//! The longer actions onto the wire: `controller`, `ct`, `nat`, `learn`, `bundle`, `sample`, `encap`.

use alloc::vec::Vec;

use base::{OfPort, TableId};

use super::encode::{Encoder, Result, actions, ofs_nbits};
use super::table::Raw;
use super::*;
use crate::wire::Put;

impl Encoder<'_> {
    pub(super) fn controller(&mut self, c: &ControllerAction) -> Result {
        let plain = c.userdata.is_empty() && !c.pause && c.meter.is_none();
        if c.is_plain() {
            return self.output(OfPort::CONTROLLER, c.max_len);
        }
        if plain {
            return self.put(Raw::Controller, "controller", |e| {
                e.out.put16(c.max_len);
                e.out.put16(c.controller_id);
                e.out.put8(c.reason as u8);
                Ok(())
            });
        }
        self.put(Raw::Controller2, "controller", |e| {
            e.out.zeros(6);
            // The padding of a number is counted as a part of it.
            let number = |out: &mut Vec<u8>, typ: u16, bytes: &[u8]| {
                let start = out.len();
                out.put16(typ);
                out.put16(8);
                out.extend_from_slice(bytes);
                out.pad8(start);
            };
            let prop = |out: &mut Vec<u8>, typ: u16, bytes: &[u8]| {
                let start = out.len();
                out.put16(typ);
                out.put16(4 + bytes.len() as u16);
                out.extend_from_slice(bytes);
                out.pad8(start);
            };
            if c.max_len != u16::MAX {
                number(e.out, 0, &c.max_len.to_be_bytes());
            }
            if c.controller_id != 0 {
                number(e.out, 1, &c.controller_id.to_be_bytes());
            }
            if c.reason != PacketInReason::Action {
                prop(e.out, 2, &[c.reason as u8]);
            }
            if !c.userdata.is_empty() {
                prop(e.out, 3, &c.userdata);
            }
            if c.pause {
                prop(e.out, 4, &[]);
            }
            if let Some(m) = c.meter {
                prop(e.out, 5, &m.to_be_bytes());
            }
            Ok(())
        })
    }

    pub(super) fn ct(&mut self, c: &CtAction) -> Result {
        let v = self.v;
        self.put(Raw::Ct, "ct", |e| {
            e.out.put16(u16::from(c.commit) | u16::from(c.force) << 1);
            match c.zone {
                CtZone::Imm(z) => {
                    e.out.put32(0);
                    e.out.put16(z);
                }
                CtZone::Field(sf) => {
                    e.nicira_header(sf.field)?;
                    e.out.put16(ofs_nbits(sf));
                }
            }
            e.out.put8(c.recirc_table.unwrap_or(TableId::ALL).0);
            e.out.zeros(3);
            e.out.put16(c.alg.map_or(0, |a| a as u16));
            let (before, after) = c.exec.split_at(c.exec.len().min(c.nat_at.into()));
            actions(e.out, before, v, e.known)?;
            if let Some(n) = &c.nat {
                e.nat(n)?;
            }
            actions(e.out, after, v, e.known)
        })
    }

    pub(super) fn nat(&mut self, n: &NatAction) -> Result {
        self.put(Raw::Nat, "nat", |e| {
            let kind = match n.kind {
                None => 0,
                Some(NatKind::Src) => 1,
                Some(NatKind::Dst) => 2,
            };
            let flags = kind
                | u16::from(n.persistent) << 2
                | u16::from(n.hash) << 3
                | u16::from(n.random) << 4;
            // The address of zeros is none.
            let addr = match n.addr {
                NatAddr::V4(min, _) if min.is_unspecified() => NatAddr::Unspec,
                NatAddr::V6(min, _) if min.is_unspecified() => NatAddr::Unspec,
                addr => addr,
            };
            let present = match addr {
                NatAddr::Unspec => 0,
                NatAddr::V4(_, max) => 1 | u16::from(max.is_some()) << 1,
                NatAddr::V6(_, max) => 4 | u16::from(max.is_some()) << 3,
            };
            let ports = n.ports.map_or(0, |p| 0x10 | u16::from(p.1.is_some()) << 5);
            e.out.zeros(2);
            e.out.put16(flags);
            e.out.put16(present | ports);
            match addr {
                NatAddr::Unspec => {}
                NatAddr::V4(min, max) => {
                    e.out.extend_from_slice(&min.octets());
                    max.iter().for_each(|a| e.out.extend_from_slice(&a.octets()));
                }
                NatAddr::V6(min, max) => {
                    e.out.extend_from_slice(&min.octets());
                    max.iter().for_each(|a| e.out.extend_from_slice(&a.octets()));
                }
            }
            if let Some((min, max)) = n.ports {
                e.out.put16(min);
                max.iter().for_each(|p| e.out.put16(*p));
            }
            Ok(())
        })
    }

    pub(super) fn learn(&mut self, l: &LearnAction) -> Result {
        let two = l.limit != 0 || l.result_dst.is_some();
        self.put(if two { Raw::Learn2 } else { Raw::Learn }, "learn", |e| {
            e.out.put16(l.idle_timeout);
            e.out.put16(l.hard_timeout);
            e.out.put16(l.priority);
            e.out.put64(l.cookie);
            let flags = u16::from(l.send_flow_rem)
                | u16::from(l.delete_learned) << 1
                | u16::from(l.result_dst.is_some()) << 2;
            e.out.put16(flags);
            e.out.put8(l.table.0);
            e.out.put8(0);
            e.out.put16(l.fin_idle_timeout);
            e.out.put16(l.fin_hard_timeout);
            if two {
                e.out.put32(l.limit);
                e.out.put16(l.result_dst.map_or(0, |d| d.ofs));
                e.out.put16(0);
                if let Some(d) = l.result_dst {
                    e.header(d.field)?;
                }
            }
            for s in &l.specs {
                let src = u16::from(matches!(s.src, LearnSrc::Value(_))) << 13;
                let dst = match s.dst {
                    LearnDst::Match(_) => 0,
                    LearnDst::Load(_) => 0x0800,
                    LearnDst::Output => 0x1000,
                };
                e.out.put16(src | dst | s.n_bits);
                match s.src {
                    LearnSrc::Value(v) => {
                        e.out.put_uint(v, usize::from(s.n_bits.div_ceil(16)) * 2);
                    }
                    LearnSrc::Field(sf) => {
                        e.nicira_header(sf.field)?;
                        e.out.put16(sf.ofs);
                    }
                }
                if let LearnDst::Match(sf) | LearnDst::Load(sf) = s.dst {
                    e.nicira_header(sf.field)?;
                    e.out.put16(sf.ofs);
                }
            }
            Ok(())
        })
    }

    pub(super) fn bundle(&mut self, b: &BundleAction) -> Result {
        let raw = if b.dst.is_some() { Raw::BundleLoad } else { Raw::Bundle };
        self.put(raw, "bundle", |e| {
            e.out.put16(b.algorithm);
            e.out.put16(b.fields as u16);
            e.out.put16(b.basis);
            // Members are given as NXM_OF_IN_PORT.
            e.out.put32(2);
            e.out.put16(b.members.len() as u16);
            match b.dst {
                Some(dst) => {
                    e.out.put16(ofs_nbits(dst));
                    e.nicira_header(dst.field)?;
                }
                None => e.out.zeros(6),
            }
            e.out.zeros(4);
            b.members.iter().for_each(|m| e.out.put16(m.0));
            Ok(())
        })
    }

    pub(super) fn sample(&mut self, s: &SampleAction) -> Result {
        let fields = [(s.obs_domain_src, s.obs_domain_id), (s.obs_point_src, s.obs_point_id)];
        if fields.iter().any(|f| f.0.is_some()) {
            return self.put(Raw::Sample4, "sample", |e| {
                e.out.put16(s.probability);
                e.out.put32(s.collector_set_id);
                for (src, n) in fields {
                    match src {
                        Some(sf) => {
                            e.nicira_header(sf.field)?;
                            e.out.put16(ofs_nbits(sf));
                            e.out.put16(0);
                        }
                        None => {
                            e.out.put32(0);
                            e.out.put32(n);
                        }
                    }
                }
                e.out.put16(s.sampling_port.0);
                e.out.put8(s.direction);
                e.out.zeros(5);
                Ok(())
            });
        }
        let raw = if s.direction != 0 {
            Raw::Sample3
        } else if s.sampling_port != OfPort::NONE {
            Raw::Sample2
        } else {
            Raw::Sample
        };
        self.put(raw, "sample", |e| {
            e.out.put16(s.probability);
            e.out.put32(s.collector_set_id);
            e.out.put32(s.obs_domain_id);
            e.out.put32(s.obs_point_id);
            if !matches!(raw, Raw::Sample) {
                e.out.put16(s.sampling_port.0);
                e.out.put8(s.direction);
            }
            Ok(())
        })
    }

    pub(super) fn encap(&mut self, x: &EncapAction) -> Result {
        self.put(Raw::Encap, "encap", |e| {
            e.out.put16(x.hdr_size);
            e.out.put32(x.packet_type);
            for p in &x.props {
                let start = e.out.len();
                e.out.put16(4);
                match p {
                    EncapProp::NshMdType(t) => {
                        e.out.put8(1);
                        e.out.put8(5);
                        e.out.put8(*t);
                    }
                    EncapProp::NshTlv { class, kind, data } => {
                        e.out.put8(2);
                        e.out.put8(8 + data.len().next_multiple_of(8) as u8);
                        e.out.put16(*class);
                        e.out.put8(*kind);
                        e.out.put8(data.len() as u8);
                        e.out.extend_from_slice(data);
                    }
                }
                e.out.pad8(start);
            }
            Ok(())
        })
    }
}
