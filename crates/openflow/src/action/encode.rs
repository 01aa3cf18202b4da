//! Actions and instructions onto the wire.
//!
//! A version says an action in its standard form if it has one, else in Nicira's: `mod_dl_src` is
//! itself in 1.0 and `set_field` from 1.2 on, `load` is Nicira's until 1.5 has masked `set_field`.

use alloc::vec::Vec;

use base::{MacAddr, OfPort, TableId};
use flow::field::FIELDS;
use flow::tun_metadata::{MAX_OPTION_LEN, N_OPTIONS};
use flow::{Field, FieldId, Match, VLAN_PRESENT};
use packet::header::{ethertype, ipproto};

use super::table::{Raw, is_standard, wire_of};
use super::*;
use crate::error::EncodeError;
use crate::oxm;
use crate::version::Version;
use crate::wire::Put;

pub(super) type Result = core::result::Result<(), EncodeError>;

/// What the packets of a flow are known to be: some actions are said by protocol.
#[derive(Copy, Clone, Debug, Default)]
pub struct Known {
    vlan: bool,
    nw_proto: u8,
    options: OptionLens,
}

/// How many bytes the options of tunnel headers have that fields name, where that is known: the
/// header of such a field tells it.
#[derive(Copy, Clone, Debug)]
pub struct OptionLens([u8; N_OPTIONS]);

impl Default for OptionLens {
    /// All unknown, which is told as the longest.
    fn default() -> Self {
        OptionLens([MAX_OPTION_LEN as u8; N_OPTIONS])
    }
}

impl OptionLens {
    /// Option `i` has `len` bytes.
    pub fn set(&mut self, i: usize, len: u8) {
        if let Some(old) = self.0.get_mut(i) {
            *old = len;
        }
    }
}

impl Known {
    /// The same, with options as long as `lens` says.
    #[must_use]
    pub fn with_options(self, lens: &OptionLens) -> Known {
        Known { options: *lens, ..self }
    }
}

impl From<&Match> for Known {
    fn from(m: &Match) -> Known {
        let (k, w) = (&m.key.pkt, &m.mask.pkt);
        let vlan = k.vlans[0].tci & w.vlans[0].tci & VLAN_PRESENT != 0;
        Known { vlan, nw_proto: k.nw_proto, ..Known::default() }
    }
}

/// Writes actions (no instructions).
pub fn actions(out: &mut Vec<u8>, list: &[Action], v: Version, known: Known) -> Result {
    let mut e = Encoder { out, v, known };
    list.iter().try_for_each(|a| e.one(a))
}

/// Writes what a flow does: instructions in 1.1+, else actions.
pub fn flow_actions(out: &mut Vec<u8>, list: &[Action], v: Version, known: Known) -> Result {
    if v == Version::Of10 {
        return actions(out, list, v, known);
    }
    let is_apply = |a: &Action| match a {
        Action::Meter(_) => v >= Version::Of15,
        a => !a.is_instruction(),
    };
    for a in list {
        if let Action::Meter(id) = a
            && !is_apply(a)
        {
            if v < Version::Of13 {
                return Err(EncodeError::Action("meter"));
            }
            out.put16(6);
            out.put16(8);
            out.put32(*id);
        }
    }
    if list.iter().any(is_apply) {
        let start = out.len();
        out.put16(4);
        out.zeros(6);
        let mut e = Encoder { out, v, known };
        list.iter().filter(|a| is_apply(a)).try_for_each(|a| e.one(a))?;
        finish_list(out, start)?;
    }
    for a in list {
        let start = out.len();
        match a {
            Action::ClearActions => {
                out.put16(5);
                out.put16(8);
                out.put32(0);
            }
            Action::WriteActions(inner) => {
                out.put16(3);
                out.zeros(6);
                actions(out, inner, v, known)?;
                finish_list(out, start)?;
            }
            Action::WriteMetadata { value, mask } => {
                out.put16(2);
                out.put16(24);
                out.put32(0);
                out.put64(*value);
                out.put64(*mask);
            }
            Action::GotoTable(t) => {
                out.put16(1);
                out.put16(8);
                out.put8(t.0);
                out.zeros(3);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A part of an option of the tunnel header, as value and mask.
fn option_part(dst: Subfield, value: u128) -> OptionMatch {
    let (mut v, mut m) = ([0; MAX_OPTION_LEN], [0; MAX_OPTION_LEN]);
    for bit in 0..dst.n_bits {
        let at = MAX_OPTION_LEN - 1 - usize::from((dst.ofs + bit) / 8);
        let one = 1 << ((dst.ofs + bit) % 8);
        m[at] |= one;
        if bit < 128 && value >> bit & 1 != 0 {
            v[at] |= one;
        }
    }
    OptionMatch::new(v, Some(m))
}

/// Ends an instruction that has actions; one without any is not written.
fn finish_list(out: &mut Vec<u8>, start: usize) -> Result {
    if out.len() == start + 8 {
        out.truncate(start);
        return Ok(());
    }
    finish(out, start)
}

/// Pads to 8 bytes and writes the length behind the type at `start`.
fn finish(out: &mut Vec<u8>, start: usize) -> Result {
    out.pad8(start);
    let len = u16::try_from(out.len() - start)
        .map_err(|_| EncodeError::TooLong("list of actions".into()))?;
    out.set16(start + 2, len);
    Ok(())
}

pub(super) fn ofs_nbits(sf: Subfield) -> u16 {
    sf.ofs << 6 | (sf.n_bits - 1)
}

pub(super) struct Encoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) v: Version,
    pub(super) known: Known,
}

impl Encoder<'_> {
    /// Writes an action's header, what `body` writes, and its length.
    pub(super) fn put(
        &mut self,
        raw: Raw,
        name: &'static str,
        body: impl FnOnce(&mut Self) -> Result,
    ) -> Result {
        let start = self.out.len();
        let (vendor, typ) = wire_of(raw, self.v).ok_or(EncodeError::Action(name))?;
        if vendor == 0 {
            self.out.put16(typ);
            self.out.put16(0);
        } else {
            self.out.put16(0xffff);
            self.out.put16(0);
            self.out.put32(vendor);
            self.out.put16(typ);
        }
        body(self)?;
        if self.out.len() - start < 8 {
            self.out.zeros(8 - (self.out.len() - start));
        }
        finish(self.out, start)
    }

    fn port(&mut self, p: OfPort) {
        self.out.put32(p.to_wire32());
    }

    pub(super) fn header(&mut self, id: FieldId) -> Result {
        self.versioned_header(id, None)
    }

    /// The header of a field in the form of a version.
    fn versioned_header(&mut self, id: FieldId, form: oxm::Form) -> Result {
        oxm::put_field_header(self.out, id, form)?;
        if let (Some(i), Some(len)) = (id.row().tun_option(), self.out.last_mut()) {
            *len = self.known.options.0.get(i).copied().unwrap_or(*len);
        }
        Ok(())
    }

    /// The header of a field in an action that has room for 4 bytes of it.
    pub(super) fn nicira_header(&mut self, id: FieldId) -> Result {
        match oxm::nicira_type(id.row()) {
            Some(_) => self.header(id),
            None => Err(EncodeError::Field(id.row().name)),
        }
    }

    pub(super) fn output(&mut self, port: OfPort, max_len: u16) -> Result {
        if self.v == Version::Of10 {
            return self.put(Raw::Output10, "output", |e| {
                e.out.put16(port.0);
                e.out.put16(max_len);
                Ok(())
            });
        }
        self.put(Raw::Output, "output", |e| {
            e.port(port);
            e.out.put16(max_len);
            Ok(())
        })
    }

    fn one(&mut self, a: &Action) -> Result {
        let whole = match a {
            Action::SetField { field: FieldId::VlanTci, value, .. } => Some(*value),
            Action::Load { dst, value } if dst.field == FieldId::VlanTci => Some(*value << dst.ofs),
            _ => None,
        };
        self.put_one(a)?;
        if let Some(tci) = whole {
            self.known.vlan = tci & u128::from(VLAN_PRESENT) != 0;
        }
        Ok(())
    }

    fn put_one(&mut self, a: &Action) -> Result {
        let v = self.v;
        match a {
            Action::Output { port, max_len } => self.output(*port, *max_len),
            Action::OutputReg { src, max_len } => {
                let long = oxm::nicira_type(src.row()).is_none();
                let raw = if long { Raw::OutputReg2 } else { Raw::OutputReg };
                self.put(raw, "output", |e| {
                    e.out.put16(ofs_nbits(*src));
                    if long {
                        e.out.put16(*max_len);
                        return e.header(src.field);
                    }
                    e.header(src.field)?;
                    e.out.put16(*max_len);
                    e.out.zeros(6);
                    Ok(())
                })
            }
            Action::OutputTrunc { port, max_len } => self.put(Raw::OutputTrunc, "output", |e| {
                e.out.put16(port.0);
                e.out.put32(*max_len);
                Ok(())
            }),
            Action::Controller(c) => self.controller(c),
            Action::Enqueue { port, queue } => {
                if v == Version::Of10 {
                    return self.put(Raw::Enqueue10, "enqueue", |e| {
                        e.out.put16(port.0);
                        e.out.zeros(6);
                        e.out.put32(*queue);
                        Ok(())
                    });
                }
                self.one(&Action::SetQueue(*queue))?;
                self.output(*port, u16::MAX)?;
                self.one(&Action::PopQueue)
            }
            Action::Group(id) if v == Version::Of10 => self.put(Raw::NxGroup, "group", |e| {
                e.out.zeros(2);
                e.out.put32(*id);
                Ok(())
            }),
            Action::Group(id) => self.put32(Raw::Group, "group", *id),
            Action::Bundle(b) => self.bundle(b),
            Action::SetVlanVid { vid, push } => {
                self.need_vlan(*push)?;
                if v >= Version::Of12 {
                    return self.set_field(FieldId::VlanVid, u128::from(vid | VLAN_PRESENT));
                }
                self.put16(Raw::SetVlanVid, "mod_vlan_vid", *vid)
            }
            Action::SetVlanPcp { pcp, push } => {
                self.need_vlan(*push)?;
                if v >= Version::Of12 {
                    return self.set_field(FieldId::VlanPcp, (*pcp).into());
                }
                self.put8(Raw::SetVlanPcp, "mod_vlan_pcp", *pcp)
            }
            Action::StripVlan => {
                self.known.vlan = false;
                self.put(Raw::StripVlan, "strip_vlan", |_| Ok(()))
            }
            Action::PushVlan(tpid) => {
                self.known.vlan = true;
                self.put16(Raw::PushVlan, "push_vlan", *tpid)
            }
            Action::SetEthSrc(m) => self.mod_eth(Raw::SetEthSrc, FieldId::EthSrc, *m),
            Action::SetEthDst(m) => self.mod_eth(Raw::SetEthDst, FieldId::EthDst, *m),
            Action::SetIpv4Src(x) => self.mod_ip(Raw::SetIpv4Src, FieldId::IpSrc, *x),
            Action::SetIpv4Dst(x) => self.mod_ip(Raw::SetIpv4Dst, FieldId::IpDst, *x),
            Action::SetNwTos(t) => {
                if v >= Version::Of12 {
                    return self.set_field(FieldId::IpDscp, (t >> 2).into());
                }
                self.put8(Raw::SetNwTos, "mod_nw_tos", *t)
            }
            Action::SetNwEcn(t) => match v {
                Version::Of10 => self.load(Subfield::whole(FieldId::IpEcn), (*t).into()),
                Version::Of11 => self.put8(Raw::SetNwEcn, "mod_nw_ecn", *t),
                _ => self.set_field(FieldId::IpEcn, (*t).into()),
            },
            Action::SetNwTtl(t) => match v {
                Version::Of10 => self.load(Subfield::whole(FieldId::IpTtl), (*t).into()),
                _ => self.put8(Raw::SetNwTtl, "mod_nw_ttl", *t),
            },
            Action::SetL4Src(p) => self.mod_port(Raw::SetL4Src, "mod_tp_src", *p, true),
            Action::SetL4Dst(p) => self.mod_port(Raw::SetL4Dst, "mod_tp_dst", *p, false),
            Action::SetField { field, value, mask } => self.set_field_masked(*field, *value, *mask),
            Action::SetTunOption { index, option } => {
                let form =
                    (v >= Version::Of15 || v >= Version::Of12 && !option.masked).then_some(v);
                self.set_option(
                    FIELDS[FieldId::TunMetadata0 as usize + usize::from(*index)].id,
                    option,
                    form,
                )
            }
            Action::Load { dst, value } if dst.row().tun_option().is_some() => {
                let form = (v >= Version::Of15).then_some(v);
                self.set_option(dst.field, &option_part(*dst, *value), form)
            }
            Action::Load { dst, value } => {
                if v >= Version::Of15 {
                    return self.set_field_masked(dst.field, value << dst.ofs, dst.mask());
                }
                self.load(*dst, *value)
            }
            Action::Move { src, dst } => {
                if v >= Version::Of15 {
                    return self.put(Raw::CopyField, "move", |e| {
                        e.out.put16(src.n_bits);
                        e.out.put16(src.ofs);
                        e.out.put16(dst.ofs);
                        e.out.zeros(2);
                        e.versioned_header(src.field, Some(v))?;
                        e.versioned_header(dst.field, Some(v))
                    });
                }
                self.put(Raw::RegMove, "move", |e| {
                    e.out.put16(src.n_bits);
                    e.out.put16(src.ofs);
                    e.out.put16(dst.ofs);
                    e.header(src.field)?;
                    e.header(dst.field)
                })
            }
            Action::StackPush(sf) => self.stack(Raw::StackPush, "push", *sf),
            Action::StackPop(sf) => self.stack(Raw::StackPop, "pop", *sf),
            Action::DecTtl(ids) if ids.is_empty() => self.put(Raw::DecTtl, "dec_ttl", |_| Ok(())),
            Action::DecTtl(ids) => self.put(Raw::DecTtlCntIds, "dec_ttl", |e| {
                e.out.put16(ids.len() as u16);
                e.out.zeros(4);
                ids.iter().for_each(|i| e.out.put16(*i));
                Ok(())
            }),
            Action::SetMplsLabel(l) => {
                if v >= Version::Of12 {
                    return self.set_field(FieldId::MplsLabel, (*l).into());
                }
                if v == Version::Of11 {
                    return self.put32(Raw::SetMplsLabel, "set_mpls_label", *l);
                }
                self.put(Raw::NxSetMplsLabel, "set_mpls_label", |e| {
                    e.out.zeros(2);
                    e.out.put32(*l);
                    Ok(())
                })
            }
            Action::SetMplsTc(t) => {
                if v >= Version::Of12 {
                    return self.set_field(FieldId::MplsTc, (*t).into());
                }
                self.put8(Raw::SetMplsTc, "set_mpls_tc", *t)
            }
            Action::SetMplsTtl(t) => self.put8(Raw::SetMplsTtl, "set_mpls_ttl", *t),
            Action::DecMplsTtl => self.put(Raw::DecMplsTtl, "dec_mpls_ttl", |_| Ok(())),
            Action::PushMpls(t) => self.put16(Raw::PushMpls, "push_mpls", *t),
            Action::PopMpls(t) => self.put16(Raw::PopMpls, "pop_mpls", *t),
            Action::Encap(x) => self.encap(x),
            Action::Decap(t) => self.put(Raw::Decap, "decap", |e| {
                e.out.zeros(2);
                e.out.put32(t.unwrap_or(USE_NEXT_PROTO));
                Ok(())
            }),
            Action::DecNshTtl => self.put(Raw::DecNshTtl, "dec_nsh_ttl", |_| Ok(())),
            Action::SetTunnel { id, .. } if v >= Version::Of12 => {
                self.set_field(FieldId::TunId, (*id).into())
            }
            Action::SetTunnel { id, wide } => match u32::try_from(*id) {
                Ok(id) if !wide => self.put(Raw::SetTunnel, "set_tunnel", |e| {
                    e.out.zeros(2);
                    e.out.put32(id);
                    Ok(())
                }),
                _ => self.put(Raw::SetTunnel64, "set_tunnel64", |e| {
                    e.out.zeros(6);
                    e.out.put64(*id);
                    Ok(())
                }),
            },
            Action::SetQueue(q) if is_standard(Raw::SetQueue, v) => {
                self.put32(Raw::SetQueue, "set_queue", *q)
            }
            Action::SetQueue(q) => self.put(Raw::NxSetQueue, "set_queue", |e| {
                e.out.zeros(2);
                e.out.put32(*q);
                Ok(())
            }),
            Action::PopQueue => self.put(Raw::PopQueue, "pop_queue", |_| Ok(())),
            Action::CheckPktLarger { len, dst } => {
                self.put(Raw::CheckPktLarger, "check_pkt_larger", |e| {
                    e.out.put16(*len);
                    e.out.put16(dst.ofs);
                    e.header(dst.field)
                })
            }
            Action::DeleteField(id) => self.put(Raw::DeleteField, "delete_field", |e| {
                let start = e.out.len();
                e.header(*id)?;
                e.out.zeros(14 - (e.out.len() - start));
                Ok(())
            }),
            Action::Resubmit { port, table, with_ct } => {
                let port = port.unwrap_or(OfPort::IN_PORT).0;
                let raw = if *with_ct { Raw::ResubmitTableCt } else { Raw::ResubmitTable };
                self.put(raw, "resubmit", |e| {
                    e.out.put16(port);
                    e.out.put8(table.unwrap_or(TableId::ALL).0);
                    Ok(())
                })
            }
            Action::Ct(c) => self.ct(c),
            Action::CtClear => self.put(Raw::CtClear, "ct_clear", |_| Ok(())),
            Action::Nat(n) => self.nat(n),
            Action::Learn(l) => self.learn(l),
            Action::Conjunction { id, clause, n_clauses } => {
                self.put(Raw::Conjunction, "conjunction", |e| {
                    e.out.put8(*clause);
                    e.out.put8(*n_clauses);
                    e.out.put32(*id);
                    Ok(())
                })
            }
            Action::Multipath(m) => self.put(Raw::Multipath, "multipath", |e| {
                e.out.put16(m.fields as u16);
                e.out.put16(m.basis);
                e.out.zeros(2);
                e.out.put16(m.algorithm);
                e.out.put16(m.max_link);
                e.out.put32(m.arg);
                e.out.zeros(2);
                e.out.put16(ofs_nbits(m.dst));
                e.nicira_header(m.dst.field)
            }),
            Action::Note(bytes) => self.put(Raw::Note, "note", |e| {
                e.out.extend_from_slice(bytes);
                Ok(())
            }),
            Action::Exit => self.put(Raw::Exit, "exit", |_| Ok(())),
            Action::Clone(list) => self.put(Raw::Clone, "clone", |e| {
                e.out.zeros(6);
                actions(e.out, list, v, e.known)
            }),
            Action::Sample(s) => self.sample(s),
            Action::FinTimeout { idle, hard } => self.put(Raw::FinTimeout, "fin_timeout", |e| {
                e.out.put16(*idle);
                e.out.put16(*hard);
                Ok(())
            }),
            Action::DebugRecirc => self.put(Raw::DebugRecirc, "debug_recirc", |_| Ok(())),
            Action::DebugSlow => self.put(Raw::DebugSlow, "debug_slow", |_| Ok(())),
            Action::UnrollXlate { .. } => Err(EncodeError::Action("unroll_xlate")),
            Action::Meter(id) => self.put32(Raw::Meter, "meter", *id),
            Action::WriteMetadata { value, mask } => {
                self.put(Raw::NxWriteMetadata, "write_metadata", |e| {
                    e.out.zeros(6);
                    e.out.put64(*value);
                    e.out.put64(*mask);
                    Ok(())
                })
            }
            Action::GotoTable(t) => {
                self.one(&Action::Resubmit { port: None, table: Some(*t), with_ct: false })
            }
            Action::ClearActions => Err(EncodeError::Action("clear_actions")),
            Action::WriteActions(_) => Err(EncodeError::Action("write_actions")),
        }
    }

    fn put8(&mut self, raw: Raw, name: &'static str, x: u8) -> Result {
        self.put(raw, name, |e| {
            e.out.put8(x);
            Ok(())
        })
    }

    fn put16(&mut self, raw: Raw, name: &'static str, x: u16) -> Result {
        self.put(raw, name, |e| {
            e.out.put16(x);
            Ok(())
        })
    }

    fn put32(&mut self, raw: Raw, name: &'static str, x: u32) -> Result {
        self.put(raw, name, |e| {
            e.out.put32(x);
            Ok(())
        })
    }

    /// 1.1+ set VLAN fields of tagged packets only: pushes a tag where 1.0 would.
    fn need_vlan(&mut self, push: bool) -> Result {
        if push && !self.known.vlan && self.v >= Version::Of11 {
            self.put16(Raw::PushVlan, "push_vlan", ethertype::VLAN)?;
        }
        self.known.vlan |= push;
        Ok(())
    }

    fn mod_eth(&mut self, raw: Raw, id: FieldId, m: MacAddr) -> Result {
        if self.v >= Version::Of12 {
            return self.set_field(id, m.to_u64().into());
        }
        self.put(raw, "mod_dl", |e| {
            e.out.extend_from_slice(&m.0);
            Ok(())
        })
    }

    fn mod_ip(&mut self, raw: Raw, id: FieldId, x: Ipv4Addr) -> Result {
        if self.v >= Version::Of12 {
            return self.set_field(id, u32::from(x).into());
        }
        self.put32(raw, "mod_nw", x.into())
    }

    fn mod_port(&mut self, raw: Raw, name: &'static str, p: u16, src: bool) -> Result {
        if self.v < Version::Of12 {
            return self.put16(raw, name, p);
        }
        use FieldId::{SctpDst, SctpSrc, TcpDst, TcpSrc, UdpDst, UdpSrc};
        let id = match (self.known.nw_proto, src) {
            (ipproto::TCP, true) => TcpSrc,
            (ipproto::TCP, false) => TcpDst,
            (ipproto::UDP, true) => UdpSrc,
            (ipproto::UDP, false) => UdpDst,
            (ipproto::SCTP, true) => SctpSrc,
            (ipproto::SCTP, false) => SctpDst,
            // Without the protocol there is only the old action.
            _ => return self.put16(raw, name, p),
        };
        self.set_field(id, p.into())
    }

    fn set_field(&mut self, id: FieldId, value: u128) -> Result {
        let f = id.row();
        self.put(Raw::SetField, "set_field", |e| {
            oxm::put_field_header(e.out, id, Some(e.v))?;
            e.out.put_uint(value, f.n_bytes.into());
            Ok(())
        })
    }

    fn set_field_masked(&mut self, id: FieldId, value: u128, mask: u128) -> Result {
        let f = id.row();
        let whole = mask == f.wire_ones();
        if self.v < Version::Of12 {
            return self.set_field_legacy(f, value, mask);
        }
        if whole {
            return self.set_field(id, value);
        }
        if self.v < Version::Of15 {
            return self.load_masked(f, value, mask);
        }
        let o = oxm::wire_type(f, Some(self.v)).ok_or(EncodeError::Field(f.name))?;
        self.put(Raw::SetField, "set_field", |e| {
            oxm::put_header(e.out, f, o, true);
            e.out.put_uint(value, f.n_bytes.into());
            e.out.put_uint(mask, f.n_bytes.into());
            Ok(())
        })
    }

    /// Sets an option of the tunnel header: with `set_field` in the form of a version, else with
    /// Nicira's `load`.
    fn set_option(&mut self, id: FieldId, o: &OptionMatch, form: oxm::Form) -> Result {
        let f = id.row();
        let t = oxm::wire_type(f, form).ok_or(EncodeError::Field(f.name))?;
        self.put(if form.is_some() { Raw::SetField } else { Raw::RegLoad2 }, "set_field", |e| {
            oxm::put_option_header(e.out, t, o);
            oxm::put_option(e.out, o);
            Ok(())
        })
    }

    /// 1.0 and 1.1 have an action for some fields, Nicira's load for the others.
    fn set_field_legacy(&mut self, f: &'static Field, value: u128, mask: u128) -> Result {
        if mask != f.wire_ones() {
            return self.load_masked(f, value, mask);
        }
        let v = value;
        match f.id {
            FieldId::VlanTci if v as u16 & VLAN_PRESENT == 0 => self.one(&Action::StripVlan),
            FieldId::VlanTci => {
                self.one(&Action::SetVlanVid { vid: v as u16 & 0xfff, push: true })?;
                self.one(&Action::SetVlanPcp { pcp: (v >> 13) as u8, push: false })
            }
            FieldId::VlanVid | FieldId::DlVlan => {
                self.one(&Action::SetVlanVid { vid: v as u16 & 0xfff, push: false })
            }
            FieldId::VlanPcp | FieldId::DlVlanPcp => {
                self.one(&Action::SetVlanPcp { pcp: v as u8, push: false })
            }
            FieldId::EthSrc => self.one(&Action::SetEthSrc(MacAddr::from_u64(v as u64))),
            FieldId::EthDst => self.one(&Action::SetEthDst(MacAddr::from_u64(v as u64))),
            FieldId::IpSrc => self.one(&Action::SetIpv4Src((v as u32).into())),
            FieldId::IpDst => self.one(&Action::SetIpv4Dst((v as u32).into())),
            FieldId::NwTos => self.one(&Action::SetNwTos(v as u8 & 0xfc)),
            FieldId::IpDscp => self.one(&Action::SetNwTos((v as u8) << 2)),
            FieldId::IpEcn => self.one(&Action::SetNwEcn(v as u8)),
            FieldId::TcpSrc | FieldId::UdpSrc => self.one(&Action::SetL4Src(v as u16)),
            FieldId::TcpDst | FieldId::UdpDst => self.one(&Action::SetL4Dst(v as u16)),
            _ => self.load_masked(f, value, mask),
        }
    }

    /// Loads for each run of ones in the mask, at most 64 bits each, from the lowest up. A field whose
    /// name is too long for that is loaded with its mask.
    fn load_masked(&mut self, f: &'static Field, value: u128, mask: u128) -> Result {
        if oxm::nicira_type(f).is_none() {
            let o = oxm::wire_type(f, None).ok_or(EncodeError::Field(f.name))?;
            let masked = mask != f.wire_ones();
            return self.put(Raw::RegLoad2, "load", |e| {
                oxm::put_header(e.out, f, o, masked);
                e.out.put_uint(value, f.n_bytes.into());
                if masked {
                    e.out.put_uint(mask, f.n_bytes.into());
                }
                Ok(())
            });
        }
        let mut ofs = 0;
        while ofs < f.bits {
            if mask >> ofs & 1 == 0 {
                ofs += 1;
                continue;
            }
            let run = ((mask >> ofs).trailing_ones() as u16).min(64).min(f.bits - ofs);
            let dst = Subfield { field: f.id, ofs, n_bits: run };
            self.load_part(dst, value >> ofs & dst.max())?;
            ofs += run;
        }
        Ok(())
    }

    fn load(&mut self, dst: Subfield, value: u128) -> Result {
        if dst.n_bits <= 64 && oxm::nicira_type(dst.row()).is_some() {
            return self.load_part(dst, value);
        }
        self.load_masked(dst.row(), value << dst.ofs, dst.mask())
    }

    fn load_part(&mut self, dst: Subfield, value: u128) -> Result {
        self.put(Raw::RegLoad, "load", |e| {
            e.out.put16(ofs_nbits(dst));
            e.header(dst.field)?;
            e.out.put64(value as u64);
            Ok(())
        })
    }

    fn stack(&mut self, raw: Raw, name: &'static str, sf: Subfield) -> Result {
        self.put(raw, name, |e| {
            e.out.put16(sf.ofs);
            e.header(sf.field)?;
            e.out.put16(sf.n_bits);
            Ok(())
        })
    }
}
