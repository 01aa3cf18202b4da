//! Matches and fields on the wire: NXM (Nicira, 1.0 and 1.1) and OXM (1.2+).
//!
//! An entry is a header (class, field, has-mask, length), an experimenter id for class 0xffff, a
//! value and perhaps a mask. Source: OpenFlow 1.5.1 §7.2.3, `ovs-fields(7)`.

use alloc::string::String;
use alloc::vec::Vec;

use flow::field::{FIELDS, MaskRule, Oxm, Prereq, class};
use flow::tun_metadata::{MAX_OPTION_LEN, OptionMatch};
use flow::{Field, FieldId, Match, TunnelKey};
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

/// The wire type that Nicira's actions of fixed size name a field by: one of 4 bytes.
pub fn nicira_type(f: &'static Field) -> Option<&'static Oxm> {
    wire_type(f, None).filter(|o| o.class != class::EXPERIMENTER)
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
    /// Bytes of the value; as many follow for a mask.
    pub len: usize,
}

/// Reads a header, with its experimenter id. An unknown field is [`OfError::OFPBMC_BAD_FIELD`], a wrong
/// length [`OfError::OFPBMC_BAD_LEN`].
pub fn read_header(r: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let here = *r;
    let raw = read_raw_header(r)?;
    let (field, oxm) = raw.row.ok_or(here.error(OfError::OFPBMC_BAD_FIELD))?;
    match raw.value_len(field) {
        Some(len) => Ok(Header { field, has_mask: raw.has_mask, oxm, len }),
        None => Err(here.error(OfError::OFPBMC_BAD_LEN)),
    }
}

/// A header that may mean nothing.
struct RawHeader {
    class: u16,
    number: u8,
    row: Option<(&'static Field, &'static Oxm)>,
    has_mask: bool,
    /// Bytes of value and mask.
    payload: usize,
}

impl RawHeader {
    /// Bytes of the value, if the payload is what the field has. Options of a tunnel header may leave
    /// leading zeros out.
    fn value_len(&self, f: &Field) -> Option<usize> {
        let halves = if self.has_mask { 2 } else { 1 };
        let len = self.payload / halves;
        let fits = match f.tun_option() {
            Some(_) => len <= f.n_bytes.into() && self.payload.is_multiple_of(halves),
            None => self.payload == usize::from(f.n_bytes) * halves,
        };
        fits.then_some(len)
    }
}

fn read_raw_header(r: &mut Reader<'_>) -> Result<RawHeader, DecodeError> {
    let here = *r;
    let short = |_| here.error(OfError::OFPBMC_BAD_LEN);
    let class = r.u16().map_err(short)?;
    let b = r.u8().map_err(short)?;
    let mut payload = usize::from(r.u8().map_err(short)?);
    let mut experimenter = 0;
    if class == class::EXPERIMENTER {
        experimenter = r.u32().map_err(short)?;
        payload = payload.checked_sub(4).ok_or(here.error(OfError::OFPBMC_BAD_LEN))?;
    }
    let number = b >> 1;
    let row = Field::by_oxm(class, number, experimenter);
    Ok(RawHeader { class, number, row, has_mask: b & 1 != 0, payload })
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

/// Writes the header of a `tun_metadata` field, which is as long as the option.
pub fn put_option_header(out: &mut Vec<u8>, t: &Oxm, o: &OptionMatch) {
    out.put16(t.class);
    out.put8(t.field << 1 | u8::from(o.masked));
    out.put8(o.len as u8 * if o.masked { 2 } else { 1 });
}

/// Writes value and perhaps mask of a `tun_metadata` field.
pub fn put_option(out: &mut Vec<u8>, o: &OptionMatch) {
    out.extend_from_slice(&o.value[MAX_OPTION_LEN - o.len..]);
    if o.masked {
        out.extend_from_slice(&o.mask[MAX_OPTION_LEN - o.len..]);
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
    check_subfield(h.field, ofs, n_bits).ok_or(here.error(OfError::OFPBAC_BAD_SET_LEN))
}

/// The subfield, if it is inside its field.
pub fn check_subfield(f: &Field, ofs: u16, n_bits: u16) -> Option<Subfield> {
    let fits = n_bits > 0 && u32::from(ofs) + u32::from(n_bits) <= u32::from(f.bits);
    fits.then_some(Subfield { field: f.id, ofs, n_bits })
}

/// Reads value and mask of a field behind its header. Without a mask it is [`Field::wire_ones`].
pub fn read_value(r: &mut Reader<'_>, h: &Header) -> Result<(u128, u128), DecodeError> {
    let here = *r;
    let value = r.uint(h.len)?;
    let mask = if h.has_mask { r.uint(h.len)? } else { h.field.wire_ones() };
    if !h.field.is_valid(value) {
        return Err(here.error(OfError::OFPBMC_BAD_VALUE));
    }
    if value & !mask != 0 {
        return Err(here.error(OfError::OFPBMC_BAD_WILDCARDS));
    }
    Ok((value, mask))
}

/// Reads value and mask of a `tun_metadata` field behind its header.
pub fn read_option(r: &mut Reader<'_>, h: &Header) -> Result<OptionMatch, DecodeError> {
    let here = *r;
    let (value, mask) = (r.take(h.len)?, if h.has_mask { Some(r.take(h.len)?) } else { None });
    option(value, mask).ok_or(here.error(OfError::OFPBMC_BAD_WILDCARDS))
}

/// `None` if the value has bits outside the mask.
fn option(value: &[u8], mask: Option<&[u8]>) -> Option<OptionMatch> {
    let wide = |b: &[u8]| {
        let mut v = [0; MAX_OPTION_LEN];
        v[MAX_OPTION_LEN - b.len()..].copy_from_slice(b);
        v
    };
    if mask.is_some_and(|m| value.iter().zip(m).any(|(v, m)| v & !m != 0)) {
        return None;
    }
    let mut o = OptionMatch::new(wide(value), mask.map(wide));
    if mask.is_none() {
        o.mask = wide(&alloc::vec![0xff; value.len()]);
    }
    o.len = value.len();
    Some(o)
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
    while !r.is_empty() {
        read_entry(r, lenient, &mut out)?;
    }
    out.m.forget_default_packet_type();
    Ok(out)
}

/// An entry as it was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RawEntry<'a> {
    /// Its field's name, with `_W` behind it where a mask follows.
    pub name: String,
    pub value: &'a [u8],
    pub mask: Option<&'a [u8]>,
}

/// Reads one entry. `None`, and nothing is read, where it is cut off.
pub(crate) fn read_raw_entry<'a>(r: &mut Reader<'a>) -> Option<RawEntry<'a>> {
    let mut ahead = *r;
    let h = read_raw_header(&mut ahead).ok()?;
    let half = if h.has_mask { h.payload / 2 } else { h.payload };
    let value = ahead.take(half).ok()?;
    let mask = match h.has_mask {
        true => Some(ahead.take(half).ok()?),
        false => None,
    };
    let w = if h.has_mask { "_W" } else { "" };
    // The cookie's pseudo-field shares its number with a field of another length.
    let name = match h.row.filter(|(f, _)| h.value_len(f).is_some()) {
        Some((_, oxm)) => alloc::format!("{}{w}", oxm.name),
        None if (h.class, h.number) == COOKIE => alloc::format!("NXM_NX_COOKIE{w}"),
        None => alloc::format!("{}:{}", h.class, h.number),
    };
    *r = ahead;
    Some(RawEntry { name, value, mask })
}

fn read_entry(r: &mut Reader<'_>, lenient: bool, out: &mut NxMatch) -> Result<(), DecodeError> {
    let here = *r;
    let fail = |e: OfError| Err(here.error(e));
    let h = read_raw_header(r)?;
    let Ok(mut body) = r.sub(h.payload) else { return fail(OfError::OFPBMC_BAD_LEN) };
    let half = if h.has_mask { h.payload / 2 } else { h.payload };
    let (value, mask) = (body.take(half)?, if h.has_mask { Some(body.take(half)?) } else { None });
    if mask.is_some_and(|m| value.iter().zip(m).any(|(v, m)| v & !m != 0)) {
        return fail(OfError::OFPBMC_BAD_WILDCARDS);
    }
    if (h.class, h.number, half) == (COOKIE.0, COOKIE.1, 8) {
        if out.cookie.is_some() {
            return fail(OfError::OFPBMC_DUP_FIELD);
        }
        let number = |b: &[u8]| Reader::new(b, 0).u64();
        out.cookie = Some((number(value)?, mask.map_or(Ok(u64::MAX), number)?));
        return Ok(());
    }
    let row = h.row.filter(|(f, _)| h.value_len(f).is_some());
    let Some((f, _)) = row else {
        return if lenient { Ok(()) } else { fail(OfError::OFPBMC_BAD_FIELD) };
    };
    let whole = mask.is_none_or(|m| m.iter().all(|&b| b == 0xff));
    let none = mask.is_some_and(|m| m.iter().all(|&b| b == 0));
    if f.mask == MaskRule::Exact && !whole && !none {
        return fail(OfError::OFPBMC_BAD_MASK);
    }
    if let Some(i) = f.tun_option() {
        if out.m.tun_option(i).is_some() {
            return fail(OfError::OFPBMC_DUP_FIELD);
        }
        let set = option(value, mask).is_some_and(|o| out.m.set_tun_option(i, &o));
        return if set { Ok(()) } else { fail(OfError::OFPBMC_BAD_VALUE) };
    }
    let number = |b: &[u8]| Reader::new(b, 0).uint(b.len());
    let (v, ones) = (number(value)?, ones(f));
    if !f.is_valid(v) {
        return fail(OfError::OFPBMC_BAD_VALUE);
    }
    if !lenient && !out.m.has_prereq(f.prereq) {
        return fail(OfError::OFPBMC_BAD_PREREQ);
    }
    if out.m.speaks_of(f.id) {
        return fail(OfError::OFPBMC_DUP_FIELD);
    }
    if lenient && f.prereq != Prereq::None && out.m.mask.pkt.packet_type == 0 {
        // Nothing else may say that packets are Ethernet.
        out.m.mask.pkt.packet_type = u32::MAX;
    }
    out.m.set(f.id, v, mask.map_or(Ok(ones), number)? & ones);
    Ok(())
}

/// Writes the entries of a match.
pub fn put_match(out: &mut Vec<u8>, m: &Match, form: Form) -> Result<(), EncodeError> {
    use FieldId as F;
    let start = out.len();
    let mut w = Entries { out, m, form, ethernet: false };
    let (k, mask) = (m.key.pkt.packet_type, m.mask.pkt.packet_type);
    if k != 0 {
        w.put(F::PacketType, k.into(), mask.into(), u32::MAX.into())?;
    }
    w.fields(&[F::DpHash, F::RecircId, F::ConjId])?;
    w.field(if form.is_some() { F::InPortOxm } else { F::InPort })?;
    w.field(F::ActsetOutput)?;
    w.fields(&[F::EthSrc, F::EthDst, F::EthType])?;
    w.vlan()?;
    if m.has_prereq(Prereq::Mpls) {
        w.fields(&[F::MplsTc, F::MplsBos, F::MplsTtl, F::MplsLabel])?;
    }
    w.l3()?;
    // Most matches ask for nothing of a tunnel.
    let tunnel = m.mask.pkt.tunnel != TunnelKey::default();
    if tunnel {
        w.fields(&[
            F::TunId,
            F::TunFlags,
            F::TunSrc,
            F::TunDst,
            F::TunIpv6Src,
            F::TunIpv6Dst,
            F::TunGbpId,
            F::TunGbpFlags,
        ])?;
    }
    for i in m.mask.tun_metadata.fields() {
        w.option(i)?;
    }
    if tunnel {
        w.fields(&[
            F::TunErspanIdx,
            F::TunErspanVer,
            F::TunErspanDir,
            F::TunErspanHwid,
            F::TunGtpuFlags,
            F::TunGtpuMsgtype,
        ])?;
    }
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
        F::CtIpv6Src,
        F::CtNwDst,
        F::CtIpv6Dst,
    ])?;
    if m.key.pkt.ct_nw_proto != 0 {
        w.fields(&[F::CtNwProto, F::CtTpSrc, F::CtTpDst])?;
    }
    w.field(F::Metadata)?;
    // That packets are Ethernet is said when nothing else says so.
    if k == 0 && mask != 0 && !w.ethernet {
        let rest = w.out.split_off(start);
        w.put(F::PacketType, 0, mask.into(), u32::MAX.into())?;
        w.out.extend_from_slice(&rest);
    }
    Ok(())
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
    /// A field of Ethernet packets was written.
    ethernet: bool,
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
            FieldId::ArpOp if f.get(&self.m.mask) == 0xff => 0xffff,
            _ => f.get(&self.m.mask),
        };
        if mask == 0 {
            return Ok(());
        }
        let ones = match id {
            // Only one of its bits is for others to see, so it always has a mask.
            FieldId::TunFlags => 0xffff,
            _ => f.all_ones(),
        };
        self.put(id, f.get(&self.m.key), mask, ones)
    }

    fn put(&mut self, id: FieldId, v: u128, mask: u128, ones: u128) -> Result<(), EncodeError> {
        if mask == 0 {
            return Ok(());
        }
        let f = id.row();
        self.ethernet |= f.prereq != Prereq::None;
        let o = wire_type(f, self.form).ok_or(EncodeError::Field(f.name))?;
        let has_mask = mask != ones;
        put_header(self.out, f, o, has_mask);
        self.out.put_uint(v & mask, f.n_bytes.into());
        if has_mask {
            self.out.put_uint(mask, f.n_bytes.into());
        }
        Ok(())
    }

    fn option(&mut self, i: usize) -> Result<(), EncodeError> {
        let Some(o) = self.m.tun_option(i) else { return Ok(()) };
        let f = &FIELDS[FieldId::TunMetadata0 as usize + i];
        let t = wire_type(f, self.form).ok_or(EncodeError::Field(f.name))?;
        put_option_header(self.out, t, &o);
        put_option(self.out, &o);
        Ok(())
    }

    fn vlan(&mut self) -> Result<(), EncodeError> {
        let (k, m) = (self.m.key.pkt.vlans[0].tci, self.m.mask.pkt.vlans[0].tci);
        if self.form.is_none() {
            return self.put(FieldId::VlanTci, k.into(), m.into(), 0xffff);
        }
        let (vid, vid_mask) = (k & 0x1fff, m & 0x1fff);
        self.put(FieldId::VlanVid, vid.into(), vid_mask.into(), 0x1fff)?;
        // Without a tag there is no priority.
        if vid != 0 && m & 0xe000 != 0 {
            self.put(FieldId::VlanPcp, (k >> 13).into(), 7, 7)?;
        }
        Ok(())
    }

    fn l3(&mut self) -> Result<(), EncodeError> {
        use FieldId as F;
        let (k, m) = (&self.m.key.pkt, &self.m.mask.pkt);
        let dl_type = match k.packet_type >> 16 {
            1 => k.packet_type as u16,
            _ if k.packet_type != 0 => return Ok(()),
            _ => k.dl_type,
        };
        let proto = if m.nw_proto == 0 { 0 } else { k.nw_proto };
        match dl_type {
            ethertype::IPV4 => self.fields(&[F::IpSrc, F::IpDst])?,
            ethertype::IPV6 => self.fields(&[F::Ipv6Src, F::Ipv6Dst])?,
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
        self.fields(&[F::IpEcn, F::IpTtl, F::Ipv6Label, F::IpProto])?;
        let v4 = dl_type == ethertype::IPV4;
        match proto {
            ipproto::TCP => self.fields(&[F::TcpSrc, F::TcpDst, F::TcpFlags]),
            ipproto::UDP => self.fields(&[F::UdpSrc, F::UdpDst]),
            ipproto::SCTP => self.fields(&[F::SctpSrc, F::SctpDst]),
            ipproto::ICMP if v4 => self.icmp(F::IcmpType, F::IcmpCode),
            ipproto::ICMPV6 if !v4 => {
                self.icmp(F::Icmpv6Type, F::Icmpv6Code)?;
                if (k.tp_src == 135 || k.tp_src == 136) && k.tp_dst == 0 {
                    self.fields(&[F::NdReserved, F::NdTarget, F::NdOptionsType])?;
                    self.field(if k.tp_src == 135 { F::NdSll } else { F::NdTll })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Type and code, which are matched exactly or not at all.
    fn icmp(&mut self, kind: FieldId, code: FieldId) -> Result<(), EncodeError> {
        let (k, m) = (&self.m.key.pkt, &self.m.mask.pkt);
        for (id, v, mask) in [(kind, k.tp_src, m.tp_src), (code, k.tp_dst, m.tp_dst)] {
            if mask != 0 {
                self.put(id, (v & 0xff).into(), 0xff, 0xff)?;
            }
        }
        Ok(())
    }

    /// Registers: in pairs as xregs in 1.5, else one by one.
    fn registers(&mut self) -> Result<(), EncodeError> {
        if self.m.mask.regs == [0; 32] {
            return Ok(());
        }
        let (first, n) = match self.form {
            Some(Version::Of15) => (FieldId::Xreg0, 16),
            _ => (FieldId::Reg0, 32),
        };
        let first = first as usize;
        FIELDS[first..first + n].iter().try_for_each(|f| self.field(f.id))
    }
}
