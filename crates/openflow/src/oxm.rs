//! Matches and fields on the wire: NXM (Nicira, 1.0 and 1.1) and OXM (1.2+).
//!
//! An entry is a header (class, field, has-mask, length), an experimenter id for class 0xffff, a
//! value and perhaps a mask. Source: OpenFlow 1.5.1 §7.2.3, `ovs-fields(7)`.

use alloc::vec::Vec;

use base::OfPort;
use flow::field::{Oxm, class};
use flow::{Field, FieldId, Match, VLAN_PRESENT};
use packet::header::{ethertype, ipproto};

use crate::error::{DecodeError, EncodeError, OfError};
use crate::subfield::Subfield;
use crate::version::Version;
use crate::wire::{Put, Reader};

/// `None` asks for the NXM form, else for the form of a version.
pub type Form = Option<Version>;

/// The wire type of a field in a form, if it has any.
pub fn wire_type(f: &'static Field, form: Form) -> Option<&'static Oxm> {
    let v = form.map_or(1, |v| v as u8);
    f.oxms.iter().rev().find(|o| o.version <= v).or(f.oxms.first())
}

/// A header.
#[derive(Copy, Clone, Debug)]
pub struct Header {
    /// The field's row.
    pub field: &'static Field,
    /// A mask follows the value.
    pub has_mask: bool,
    /// The wire type.
    pub oxm: &'static Oxm,
}

/// Reads a header, with its experimenter id. An unknown field is [`OfError::OFPBMC_BAD_FIELD`].
pub fn read_header(r: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let (h, len) = read_any_header(r)?;
    let h = h?;
    let want = usize::from(h.field.n_bytes) * if h.has_mask { 2 } else { 1 };
    if len != want {
        return Err(r.error(OfError::OFPBMC_BAD_LEN));
    }
    Ok(h)
}

type MaybeHeader = Result<Header, DecodeError>;

/// A header, or why it means nothing, and the bytes behind it.
fn read_any_header(r: &mut Reader<'_>) -> Result<(MaybeHeader, usize), DecodeError> {
    let here = *r;
    let cls = r.u16()?;
    let b = r.u8()?;
    let mut len = usize::from(r.u8()?);
    let mut experimenter = 0;
    if cls == class::EXPERIMENTER {
        if len < 4 {
            return Err(here.error(OfError::OFPBMC_BAD_LEN));
        }
        experimenter = r.u32()?;
        len -= 4;
    }
    let header = match Field::by_oxm(cls, b >> 1, experimenter) {
        Some((field, oxm)) => Ok(Header { field, has_mask: b & 1 != 0, oxm }),
        None => Err(here.error(OfError::OFPBMC_BAD_FIELD)),
    };
    Ok((header, len))
}

/// Writes a header.
pub fn put_header(out: &mut Vec<u8>, f: &Field, o: &Oxm, has_mask: bool) {
    let len = f.n_bytes * if has_mask { 2 } else { 1 };
    out.put16(o.class);
    out.put8(o.field << 1 | u8::from(has_mask));
    if o.class == class::EXPERIMENTER {
        out.put8(len + 4);
        out.put32(o.experimenter);
    } else {
        out.put8(len);
    }
}

/// Writes a field's header in a form, without mask.
pub fn put_field_header(out: &mut Vec<u8>, id: FieldId, form: Form) -> Result<(), EncodeError> {
    let f = id.row();
    let o = wire_type(f, form).ok_or(EncodeError::Field(f.name))?;
    put_header(out, f, o, false);
    Ok(())
}

/// Reads the header of a subfield.
pub fn read_subfield(r: &mut Reader<'_>, ofs: u16, n_bits: u16) -> Result<Subfield, DecodeError> {
    let here = *r;
    let h = read_header(r)?;
    check_subfield(h.field, ofs, n_bits).ok_or(here.error(OfError::OFPBAC_BAD_ARGUMENT))
}

/// The subfield, if it is inside its field.
pub fn check_subfield(f: &Field, ofs: u16, n_bits: u16) -> Option<Subfield> {
    let fits = n_bits > 0 && u32::from(ofs) + u32::from(n_bits) <= u32::from(f.bits);
    fits.then_some(Subfield { field: f.id, ofs: ofs as u8, n_bits: n_bits as u8 })
}

/// Reads value and mask of a field behind its header, as the field's values (see
/// [`flow::text::value::parse`] for `vlan_vid`).
pub fn read_value(r: &mut Reader<'_>, h: &Header) -> Result<(u128, u128), DecodeError> {
    let n = usize::from(h.field.n_bytes);
    let here = *r;
    let value = r.uint(n)?;
    let ones = ones(h.field);
    let mask = if h.has_mask {
        let m = r.uint(n)?;
        // Bits that the field has not are ignored in the mask.
        m & ones
    } else {
        ones
    };
    if value & !ones != 0 {
        return Err(here.error(OfError::OFPBMC_BAD_VALUE));
    }
    if value & !mask != 0 {
        return Err(here.error(OfError::OFPBMC_BAD_WILDCARDS));
    }
    Ok((value, mask))
}

/// All bits of a field as the wire has it.
pub fn ones(f: &Field) -> u128 {
    match f.id {
        FieldId::VlanVid => 0x1fff,
        FieldId::CtState => 0xff,
        _ => f.all_ones(),
    }
}

/// A match and, in NXM, the cookie it may have as a pseudo-field.
#[derive(Clone, PartialEq, Debug)]
pub struct NxMatch {
    /// The match.
    pub m: Match,
    /// Cookie and its mask.
    pub cookie: Option<(u64, u64)>,
}

/// `NXM_NX_COOKIE`, a pseudo-field of flow mods and statistics requests.
const COOKIE: (u16, u8) = (class::NXM_NX, 30);

/// Reads entries until the reader is empty. `lenient` steps over fields that are not known
/// (packet-in metadata).
pub fn read_match(r: &mut Reader<'_>, lenient: bool) -> Result<NxMatch, DecodeError> {
    let mut out = NxMatch { m: Match::ANY, cookie: None };
    let mut seen: u128 = 0;
    while !r.is_empty() {
        let here = *r;
        let p = r.peek();
        if p.len() >= 4 && u16::from_be_bytes([p[0], p[1]]) == COOKIE.0 && p[2] >> 1 == COOKIE.1 {
            let (masked, len) = (p[2] & 1 != 0, usize::from(p[3]));
            r.skip(4)?;
            if len != if masked { 16 } else { 8 } {
                return Err(here.error(OfError::OFPBMC_BAD_LEN));
            }
            let v = r.u64()?;
            let mask = if masked { r.u64()? } else { u64::MAX };
            out.cookie = Some((v & mask, mask));
            continue;
        }
        let (header, len) = read_any_header(r)?;
        let h = match header {
            Ok(h) => h,
            Err(_) if lenient => {
                r.skip(len)?;
                continue;
            }
            Err(e) => return Err(e),
        };
        let want = usize::from(h.field.n_bytes) * if h.has_mask { 2 } else { 1 };
        if len != want {
            return Err(here.error(OfError::OFPBMC_BAD_LEN));
        }
        let bit = 1u128 << (h.field.id as u8);
        if seen & bit != 0 {
            return Err(here.error(OfError::OFPBMC_DUP_FIELD));
        }
        seen |= bit;
        if !lenient && !out.m.has_prereq(h.field.prereq) {
            return Err(here.error(OfError::OFPBMC_BAD_PREREQ));
        }
        let (value, mask) = read_value(r, &h)?;
        let exact = flow::field::MaskRule::Exact;
        if h.field.mask == exact && mask != ones(h.field) && mask != 0 {
            return Err(here.error(OfError::OFPBMC_BAD_MASK));
        }
        if matches!(h.field.id, FieldId::InPortOxm | FieldId::ActsetOutput)
            && OfPort::from_wire32(value as u32).is_none()
        {
            return Err(here.error(OfError::OFPBMC_BAD_VALUE));
        }
        out.m.set(h.field.id, value, mask);
    }
    Ok(out)
}

/// Writes the entries of a match.
pub fn put_match(out: &mut Vec<u8>, m: &Match, form: Form) -> Result<(), EncodeError> {
    use FieldId as F;
    let mut w = Entries { out, m, form };
    w.fields(&[F::DpHash, F::RecircId, F::ConjId])?;
    w.field(if form.is_some() { F::InPortOxm } else { F::InPort })?;
    w.field(F::ActsetOutput)?;
    w.fields(&[F::EthSrc, F::EthDst, F::EthType])?;
    w.vlan()?;
    w.fields(&[F::MplsTc, F::MplsBos, F::MplsTtl, F::MplsLabel])?;
    w.l3()?;
    w.fields(&[
        F::TunId,
        F::TunFlags,
        F::TunSrc,
        F::TunDst,
        F::TunIpv6Src,
        F::TunIpv6Dst,
        F::TunGbpId,
        F::TunGbpFlags,
        F::TunErspanVer,
        F::TunErspanIdx,
        F::TunErspanDir,
        F::TunErspanHwid,
        F::TunGtpuFlags,
        F::TunGtpuMsgtype,
    ])?;
    w.fields(&[
        F::NshFlags,
        F::NshTtl,
        F::NshMdtype,
        F::NshNp,
        F::NshSpi,
        F::NshSi,
        F::NshC1,
        F::NshC2,
        F::NshC3,
        F::NshC4,
    ])?;
    w.registers()?;
    w.fields(&[
        F::PktMark,
        F::CtState,
        F::CtZone,
        F::CtMark,
        F::CtLabel,
        F::CtNwSrc,
        F::CtNwDst,
        F::CtIpv6Src,
        F::CtIpv6Dst,
        F::CtNwProto,
        F::CtTpSrc,
        F::CtTpDst,
        F::Metadata,
    ])
}

/// Writes the pseudo-field of the cookie, if any of its bits count.
pub fn put_cookie(out: &mut Vec<u8>, cookie: u64, mask: u64) {
    if mask != 0 {
        let masked = mask != u64::MAX;
        out.put16(COOKIE.0);
        out.put8(COOKIE.1 << 1 | u8::from(masked));
        out.put8(if masked { 16 } else { 8 });
        out.put64(cookie & mask);
        if masked {
            out.put64(mask);
        }
    }
}

struct Entries<'a> {
    out: &'a mut Vec<u8>,
    m: &'a Match,
    form: Form,
}

impl Entries<'_> {
    fn fields(&mut self, ids: &[FieldId]) -> Result<(), EncodeError> {
        ids.iter().try_for_each(|&id| self.field(id))
    }

    fn field(&mut self, id: FieldId) -> Result<(), EncodeError> {
        let f = id.row();
        let mask = match id {
            // The key holds 16 bits of a port's 32.
            FieldId::InPortOxm if self.m.mask.pkt.in_port != 0 => 0xffff_ffff,
            FieldId::ActsetOutput if self.m.mask.actset_output != 0 => 0xffff_ffff,
            FieldId::InPortOxm | FieldId::ActsetOutput => 0,
            FieldId::CtState if f.get(&self.m.mask) == 0xff => 0xffff_ffff,
            FieldId::ArpOp if f.get(&self.m.mask) == 0xff => 0xffff,
            _ => f.get(&self.m.mask),
        };
        self.put(id, f.get(&self.m.key), mask, f.all_ones())
    }

    fn put(&mut self, id: FieldId, v: u128, mask: u128, ones: u128) -> Result<(), EncodeError> {
        if mask == 0 {
            return Ok(());
        }
        let f = id.row();
        let o = wire_type(f, self.form).ok_or(EncodeError::Field(f.name))?;
        let has_mask = mask != ones;
        put_header(self.out, f, o, has_mask);
        self.out.put_uint(v & mask, f.n_bytes.into());
        if has_mask {
            self.out.put_uint(mask, f.n_bytes.into());
        }
        Ok(())
    }

    fn vlan(&mut self) -> Result<(), EncodeError> {
        let (k, m) = (self.m.key.pkt.vlans[0].tci, self.m.mask.pkt.vlans[0].tci);
        if self.form.is_none() {
            return self.put(FieldId::VlanTci, k.into(), m.into(), 0xffff);
        }
        let (vid, vid_mask) = (k & 0x1fff, m & 0x1fff);
        if m == 0xffff && k & VLAN_PRESENT == 0 {
            // No tag at all: what else is asked for cannot be said, nor needs it.
            return self.put(FieldId::VlanVid, 0, 0x1fff, 0x1fff);
        }
        self.put(FieldId::VlanVid, vid.into(), vid_mask.into(), 0x1fff)?;
        if m & 0xe000 != 0 {
            self.put(FieldId::VlanPcp, (k >> 13).into(), 7, 7)?;
        }
        Ok(())
    }

    fn l3(&mut self) -> Result<(), EncodeError> {
        use FieldId as F;
        let (k, m) = (&self.m.key.pkt, &self.m.mask.pkt);
        let dl_type = if k.packet_type >> 16 == 1 { k.packet_type as u16 } else { k.dl_type };
        let proto = if m.nw_proto == 0 { 0 } else { k.nw_proto };
        match dl_type {
            ethertype::IPV4 => self.fields(&[F::IpSrc, F::IpDst])?,
            ethertype::IPV6 => self.fields(&[F::Ipv6Src, F::Ipv6Dst, F::Ipv6Label])?,
            ethertype::ARP | ethertype::RARP => {
                return self.fields(&[F::ArpOp, F::ArpSpa, F::ArpTpa, F::ArpSha, F::ArpTha]);
            }
            _ => return Ok(()),
        }
        self.field(F::IpFrag)?;
        let (tos, tos_mask) = (k.nw_tos, m.nw_tos);
        if tos_mask & 0xfc != 0 {
            if self.form.is_some() {
                self.put(F::IpDscp, (tos >> 2).into(), 0x3f, 0x3f)?;
            } else {
                self.put(F::NwTos, (tos & 0xfc).into(), 0xff, 0xff)?;
            }
        }
        self.fields(&[F::IpEcn, F::IpTtl, F::IpProto])?;
        let v4 = dl_type == ethertype::IPV4;
        match proto {
            ipproto::TCP => self.fields(&[F::TcpSrc, F::TcpDst, F::TcpFlags]),
            ipproto::UDP => self.fields(&[F::UdpSrc, F::UdpDst]),
            ipproto::SCTP => self.fields(&[F::SctpSrc, F::SctpDst]),
            ipproto::ICMP if v4 => self.fields(&[F::IcmpType, F::IcmpCode]),
            ipproto::ICMPV6 if !v4 => {
                self.fields(&[F::Icmpv6Type, F::Icmpv6Code])?;
                if m.tp_src & 0xff == 0xff && (k.tp_src == 135 || k.tp_src == 136) {
                    self.field(F::NdTarget)?;
                    self.field(if k.tp_src == 135 { F::NdSll } else { F::NdTll })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Registers: in pairs as xregs in 1.5, else one by one.
    fn registers(&mut self) -> Result<(), EncodeError> {
        let (first, n) = match self.form {
            Some(Version::Of15) => (FieldId::Xreg0, 8),
            _ => (FieldId::Reg0, 16),
        };
        let first = first as usize;
        flow::field::FIELDS[first..first + n].iter().try_for_each(|f| self.field(f.id))
    }
}
