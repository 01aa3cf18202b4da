//! THE field table.
//!
//! One row per match field: its names, width, mask rule, text form, prerequisites, wire ids and
//! place in the key. Source: OpenFlow 1.5.1 §7.2.3, `ovs-fields(7)`.
//!
//! Values travel as `u128`, right-aligned; the mask of a field is a value too.

use core::fmt;

use packet::header::{ethertype, icmpv6, ipproto};

use crate::key::{FlowKey, PacketKey, VLAN_PRESENT, ct_state, nw_frag};
use crate::tun_metadata::N_OPTIONS;

/// Which masks a field's match may have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MaskRule {
    /// All bits or none.
    Exact,
    /// Any bits.
    Bitwise,
}

/// How a field's value is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Decimal.
    Decimal,
    /// 0x and hexadecimal digits.
    Hex,
    /// xx:xx:xx:xx:xx:xx.
    Ethernet,
    /// Dotted quad, mask as quad or prefix length.
    Ipv4,
    /// RFC 5952, mask as address or prefix length.
    Ipv6,
    /// OpenFlow port number (16 bits) or name.
    Port,
    /// OpenFlow port number in the 32-bit form.
    Port32,
    /// +flag-flag over [`crate::CT_STATE_FLAGS`].
    CtState,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// +flag-flag over the tunnel flags.
    TunFlags,
    /// +flag-flag over the TCP flags, or a number.
    TcpFlags,
    /// `(ns,type)`.
    PacketType,
}

/// What a packet must be for a field to exist in it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Prereq {
    /// Exists in every packet.
    None,
    /// An Ethernet packet.
    Ethernet,
    /// A VLAN tag.
    Vlan,
    /// ARP or RARP.
    Arp,
    /// MPLS, unicast or multicast.
    Mpls,
    /// NSH.
    Nsh,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// TCP over IPv4 or IPv6, not a later fragment.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP over IPv4.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// Neighbour solicitation or advertisement.
    Nd,
    /// Neighbour solicitation.
    NdSolicit,
    /// Neighbour advertisement.
    NdAdvert,
    /// A packet of a connection that the tracker knows.
    CtValid,
}

/// How much of a field the fixed match of OpenFlow 1.0, or that of 1.1, can ask for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Nothing.
    No,
    /// All bits or none.
    Exact,
    /// A prefix.
    Prefix,
    /// Any bits.
    Bits,
}

impl Prereq {
    /// Whether a packet (or a match's key) with these values satisfies the prerequisite.
    /// Later fragments have no transport header.
    pub fn holds(self, k: &PacketKey) -> bool {
        let ip = k.dl_type == ethertype::IPV4 || k.dl_type == ethertype::IPV6;
        let whole = k.nw_frag & nw_frag::LATER == 0;
        let nd = |t: u8| {
            k.dl_type == ethertype::IPV6
                && k.nw_proto == ipproto::ICMPV6
                && k.tp_src == u16::from(t)
                && k.tp_dst == 0
        };
        match self {
            Prereq::None => true,
            Prereq::Ethernet => k.packet_type == 0,
            Prereq::Vlan => k.packet_type == 0 && k.vlans[0].tci & VLAN_PRESENT != 0,
            Prereq::Arp => k.dl_type == ethertype::ARP || k.dl_type == ethertype::RARP,
            Prereq::Mpls => k.dl_type == ethertype::MPLS || k.dl_type == ethertype::MPLS_MCAST,
            Prereq::Nsh => k.dl_type == ethertype::NSH,
            Prereq::Ipv4 => k.dl_type == ethertype::IPV4,
            Prereq::Ipv6 => k.dl_type == ethertype::IPV6,
            Prereq::Ip => ip,
            Prereq::Tcp => ip && whole && k.nw_proto == ipproto::TCP,
            Prereq::Udp => ip && whole && k.nw_proto == ipproto::UDP,
            Prereq::Sctp => ip && whole && k.nw_proto == ipproto::SCTP,
            Prereq::Icmp => k.dl_type == ethertype::IPV4 && k.nw_proto == ipproto::ICMP,
            Prereq::Icmpv6 => k.dl_type == ethertype::IPV6 && k.nw_proto == ipproto::ICMPV6,
            Prereq::Nd => nd(icmpv6::NEIGHBOR_SOLICIT) || nd(icmpv6::NEIGHBOR_ADVERT),
            Prereq::NdSolicit => nd(icmpv6::NEIGHBOR_SOLICIT),
            Prereq::NdAdvert => nd(icmpv6::NEIGHBOR_ADVERT),
            Prereq::CtValid => k.ct_state & (ct_state::NEW | ct_state::EST | ct_state::RPL) != 0,
        }
    }
}

/// An OXM/NXM type of a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Oxm {
    /// Name in actions, e.g. `NXM_NX_REG0`.
    pub name: &'static str,
    /// OXM class.
    pub class: u16,
    /// Field number in its class.
    pub field: u8,
    /// Experimenter id when the class is 0xffff, else 0.
    pub experimenter: u32,
    /// Lowest OpenFlow wire version (0x01 to 0x06) whose standard has it. NXM is 1.
    pub version: u8,
}

/// OXM classes.
pub mod class {
    /// Nicira's basic class (`NXM_OF_*`).
    pub const NXM_OF: u16 = 0x0000;
    /// Nicira's extension class (`NXM_NX_*`).
    pub const NXM_NX: u16 = 0x0001;
    /// OpenFlow basic (`OXM_OF_*`).
    pub const OXM_OF: u16 = 0x8000;
    /// Packet registers.
    pub const OXM_PKT_REG: u16 = 0x8001;
    /// Experimenter.
    pub const EXPERIMENTER: u16 = 0xffff;
    /// Ericsson's (`ERICOXM_OF_*`).
    pub const ERICSSON: u16 = 0x1000;
    /// Experimenter id of Nicira.
    pub const NX: u32 = 0x0000_2320;
    /// Experimenter id of the ONF.
    pub const ONF: u32 = 0x4f4e_4600;
    /// Experimenter id used for NSH.
    pub const NSH: u32 = 0x005a_d650;
}

const fn nxm_of(name: &'static str, field: u8) -> Oxm {
    Oxm { name, class: class::NXM_OF, field, experimenter: 0, version: 1 }
}
const fn nxm(name: &'static str, field: u8) -> Oxm {
    Oxm { name, class: class::NXM_NX, field, experimenter: 0, version: 1 }
}
const fn oxm(name: &'static str, field: u8, version: u8) -> Oxm {
    Oxm { name, class: class::OXM_OF, field, experimenter: 0, version }
}
const fn pkt_reg(name: &'static str, field: u8) -> Oxm {
    Oxm { name, class: class::OXM_PKT_REG, field, experimenter: 0, version: 4 }
}
const fn eric(name: &'static str, field: u8) -> Oxm {
    Oxm { name, class: class::ERICSSON, field, experimenter: 0, version: 1 }
}
const fn exp(name: &'static str, experimenter: u32, field: u8, version: u8) -> Oxm {
    Oxm { name, class: class::EXPERIMENTER, field, experimenter, version }
}

/// A row of the table.
#[derive(Debug)]
pub struct Field {
    /// Its id: the row number.
    pub id: FieldId,
    /// Canonical name.
    pub name: &'static str,
    /// Other names accepted.
    pub aliases: &'static [&'static str],
    /// Significant bits.
    pub bits: u16,
    /// Bytes on the wire.
    pub n_bytes: u8,
    /// Mask rule.
    pub mask: MaskRule,
    /// Text form.
    pub format: Format,
    /// Prerequisite.
    pub prereq: Prereq,
    /// May be the destination of set-field, load and move.
    pub writable: bool,
    /// Wire types, in order of preference for old versions first.
    pub oxms: &'static [Oxm],
    /// What the fixed matches of OpenFlow 1.0 and of 1.1 can ask of it.
    pub fixed: [Fixed; 2],
    get: fn(&FlowKey) -> u128,
    set: fn(&mut FlowKey, u128),
}

impl Field {
    /// The field's value in `key`.
    #[inline]
    pub fn get(&self, key: &FlowKey) -> u128 {
        (self.get)(key)
    }

    /// Sets the field in `key`; bits of `value` above the field's width are dropped.
    #[inline]
    pub fn set(&self, key: &mut FlowKey, value: u128) {
        (self.set)(key, value & self.all_ones());
    }

    /// Sets the bits of the field that `mask` has.
    pub fn set_masked(&self, key: &mut FlowKey, value: u128, mask: u128) {
        let old = self.get(key);
        self.set(key, (old & !mask) | (value & mask));
    }

    /// All significant bits set.
    pub const fn all_ones(&self) -> u128 {
        if self.bits >= 128 { u128::MAX } else { (1 << self.bits) - 1 }
    }

    /// The bits that are the field's own: `nw_tos` has only those of the DSCP, in the place that they
    /// have in the header.
    pub const fn own_bits(&self) -> u128 {
        if matches!(self.id, FieldId::NwTos) { 0xfc } else { self.all_ones() }
    }

    /// All bits of the field's bytes on the wire. Of a longer field than 16 bytes, those of the last 16.
    pub const fn wire_ones(&self) -> u128 {
        if self.n_bytes >= 16 { u128::MAX } else { (1 << (self.n_bytes * 8)) - 1 }
    }

    /// Whether the field is one that OpenFlow only knows under other names (`dl_vlan`).
    pub fn is_vlan_alias(&self) -> bool {
        matches!(self.id, FieldId::DlVlan | FieldId::DlVlanPcp)
    }

    /// Whether a match may ask for bits of this value, given in the field's bytes on the wire.
    pub fn is_valid(&self, value: u128) -> bool {
        match self.id {
            FieldId::InPortOxm | FieldId::ActsetOutput => {
                base::OfPort::from_wire32(value as u32).is_some()
            }
            FieldId::NwTos => value & 3 == 0,
            FieldId::ArpOp | FieldId::CtState => value <= 0xff,
            FieldId::VlanVid => value <= 0x1fff,
            // Bits that the fields do not have are let through.
            FieldId::TunErspanIdx
            | FieldId::TunErspanVer
            | FieldId::TunErspanDir
            | FieldId::TunErspanHwid => value <= self.wire_ones(),
            FieldId::NshTtl => value <= 63,
            FieldId::NshMdtype => value == 1 || value == 2,
            _ => value & !self.all_ones() == 0,
        }
    }

    /// The row with this name or alias, in lower case as the man pages write them.
    pub fn by_name(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|f| f.name == name || f.aliases.contains(&name))
    }

    /// The row and wire type with this OXM name, e.g. `NXM_NX_REG0`.
    pub fn by_oxm_name(name: &str) -> Option<(&'static Field, &'static Oxm)> {
        FIELDS.iter().find_map(|f| Some((f, f.oxms.iter().find(|o| o.name == name)?)))
    }

    /// The row and wire type with this class, field number and experimenter.
    pub fn by_oxm(
        class: u16,
        field: u8,
        experimenter: u32,
    ) -> Option<(&'static Field, &'static Oxm)> {
        let row = BY_OXM[wire_class(class, experimenter)?][usize::from(field & 127)];
        let f = FIELDS.get(usize::from(row))?;
        let same =
            |o: &&Oxm| o.class == class && o.field == field && o.experimenter == experimenter;
        Some((f, f.oxms.iter().find(same)?))
    }

    /// The number of the option, for one of `tun_metadata0` to 63.
    pub fn tun_option(&self) -> Option<usize> {
        let i = (self.id as usize).checked_sub(FieldId::TunMetadata0 as usize)?;
        (i < N_OPTIONS).then_some(i)
    }
}

/// Place in [`BY_OXM`] of a class.
const fn wire_class(class: u16, experimenter: u32) -> Option<usize> {
    Some(match (class, experimenter) {
        (class::NXM_OF, _) => 0,
        (class::NXM_NX, _) => 1,
        (class::OXM_OF, _) => 2,
        (class::OXM_PKT_REG, _) => 3,
        (class::ERICSSON, _) => 4,
        (class::EXPERIMENTER, class::NX) => 5,
        (class::EXPERIMENTER, class::ONF) => 6,
        (class::EXPERIMENTER, class::NSH) => 7,
        _ => return None,
    })
}

/// Row of each wire type, by class and field number; 255 for none.
static BY_OXM: [[u8; 128]; 8] = {
    let mut index = [[u8::MAX; 128]; 8];
    let mut i = 0;
    while i < FIELDS.len() {
        let mut j = 0;
        while j < FIELDS[i].oxms.len() {
            let o = &FIELDS[i].oxms[j];
            if let Some(c) = wire_class(o.class, o.experimenter) {
                index[c][o.field as usize] = i as u8;
            }
            j += 1;
        }
        i += 1;
    }
    index
};

impl FieldId {
    /// The field's row.
    #[inline]
    pub fn row(self) -> &'static Field {
        &FIELDS[self as usize]
    }
}

/// Access to a place of the key as a value.
trait Place: Copy {
    fn load(self) -> u128;
    fn store(v: u128) -> Self;
}

macro_rules! int_place {
    ($($t:ty)*) => {$(
        impl Place for $t {
            fn load(self) -> u128 {
                u128::from(self)
            }
            fn store(v: u128) -> Self {
                v as $t
            }
        }
    )*};
}
int_place!(u8 u16 u32 u64);

impl Place for [u8; 6] {
    fn load(self) -> u128 {
        u128::from(base::MacAddr(self).to_u64())
    }
    fn store(v: u128) -> Self {
        base::MacAddr::from_u64(v as u64).0
    }
}

impl Place for [u8; 16] {
    fn load(self) -> u128 {
        u128::from_be_bytes(self)
    }
    fn store(v: u128) -> Self {
        v.to_be_bytes()
    }
}

/// Builds the table and [`FieldId`]. A row reads: id, name, aliases, bits, wire bytes, mask rule,
/// text form, prerequisite, access, wire types, place, and what the fixed matches of 1.0 and 1.1
/// have of it. A place is a whole struct field, or `(field >> shift)` for `bits` bits of it.
///
/// Of a `tun_metadata` field, longer than any other, a value is the lowest 128 bits.
macro_rules! fields {
    ($($id:ident $name:literal [$($alias:literal)*] $bits:literal/$bytes:literal $mask:ident $format:ident
       $prereq:ident $access:ident [$($oxm:expr),*] @ $place:tt $([$of10:ident / $of11:ident])?;)*) => {
        /// Names every field.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)] // each variant is documented by its row
        pub enum FieldId { $($id,)* }

        /// The table, in [`FieldId`] order.
        pub static FIELDS: [Field; [$(FieldId::$id),*].len()] = [$(
            Field {
                id: FieldId::$id,
                name: $name,
                aliases: &[$($alias),*],
                bits: $bits,
                n_bytes: $bytes,
                mask: MaskRule::$mask,
                format: Format::$format,
                prereq: Prereq::$prereq,
                writable: fields!(@access $access),
                oxms: &[$($oxm),*],
                fixed: fields!(@fixed $($of10 $of11)?),
                get: fields!(@get $bits $place),
                set: fields!(@set $bits $place),
            },
        )*];
    };
    (@fixed) => { [Fixed::No, Fixed::No] };
    (@fixed $of10:ident $of11:ident) => { [Fixed::$of10, Fixed::$of11] };
    (@access ro) => { false };
    (@access rw) => { true };
    (@get $bits:literal (reg64 $i:literal)) => {
        |k| (u128::from(k.regs[2 * $i]) << 32) | u128::from(k.regs[2 * $i + 1])
    };
    (@set $bits:literal (reg64 $i:literal)) => {
        |k, v| {
            k.regs[2 * $i] = (v >> 32) as u32;
            k.regs[2 * $i + 1] = v as u32;
        }
    };
    (@get $bits:literal (reg128 $i:literal)) => {
        |k| (0..4).fold(0, |v, j| (v << 32) | u128::from(k.regs[4 * $i + j]))
    };
    (@set $bits:literal (reg128 $i:literal)) => {
        |k, v| {
            for j in 0..4 {
                k.regs[4 * $i + j] = (v >> (96 - 32 * j)) as u32;
            }
        }
    };
    (@get $bits:literal (option $i:literal)) => { |k| k.tun_metadata.bits($i, 0) };
    (@set $bits:literal (option $i:literal)) => { |k, v| k.tun_metadata.set_bits($i, 0, v, u128::MAX) };
    (@get $bits:literal (port32)) => {
        |k| u128::from(base::OfPort(k.pkt.in_port as u16).to_wire32())
    };
    (@set $bits:literal (port32)) => {
        // A mask is all ones or zero, which this maps to all ones or zero.
        |k, v| k.pkt.in_port = (v as u32) & 0xffff
    };
    (@get $bits:literal (actset)) => {
        |k| u128::from(base::OfPort(k.actset_output as u16).to_wire32())
    };
    (@set $bits:literal (actset)) => { |k, v| k.actset_output = (v as u32) & 0xffff };
    (@get $bits:literal ($($p:ident).+ $([$i:literal] $(. $q:ident)?)?)) => {
        |k| Place::load(k.$($p).+$([$i]$(.$q)?)?)
    };
    (@set $bits:literal ($($p:ident).+ $([$i:literal] $(. $q:ident)?)?)) => {
        |k, v| k.$($p).+$([$i]$(.$q)?)? = Place::store(v)
    };
    (@get $bits:literal ($($p:ident).+ $([$i:literal] $(. $q:ident)?)? >> $shift:literal)) => {
        |k| (u128::from(k.$($p).+$([$i]$(.$q)?)?) >> $shift) & ((1 << $bits) - 1)
    };
    (@set $bits:literal ($($p:ident).+ $([$i:literal] $(. $q:ident)?)? >> $shift:literal)) => {
        |k, v| {
            let place = &mut k.$($p).+$([$i]$(.$q)?)?;
            let ones = ((1u128 << $bits) - 1) << $shift;
            *place = Place::store((u128::from(*place) & !ones) | ((v << $shift) & ones));
        }
    };
}

fields! {
    // Pipeline.
    DpHash "dp_hash" [] 32/4 Bitwise Hex None ro
        [exp("NXOXM_ET_DP_HASH", class::NX, 0, 1), nxm("NXM_NX_DP_HASH", 35)] @ (pkt.dp_hash);
    RecircId "recirc_id" [] 32/4 Exact Decimal None ro [nxm("NXM_NX_RECIRC_ID", 36)] @ (pkt.recirc_id);
    PacketType "packet_type" [] 32/4 Exact PacketType None ro
        [oxm("OXM_OF_PACKET_TYPE", 44, 6)] @ (pkt.packet_type);
    ConjId "conj_id" [] 32/4 Exact Decimal None ro [nxm("NXM_NX_CONJ_ID", 37)] @ (conj_id);
    // Tunnel.
    TunId "tun_id" ["tunnel_id"] 64/8 Bitwise Hex None rw
        [nxm("NXM_NX_TUN_ID", 16), oxm("OXM_OF_TUNNEL_ID", 38, 4)] @ (pkt.tunnel.tun_id);
    TunSrc "tun_src" [] 32/4 Bitwise Ipv4 None rw [nxm("NXM_NX_TUN_IPV4_SRC", 31)] @ (pkt.tunnel.src);
    TunDst "tun_dst" [] 32/4 Bitwise Ipv4 None rw [nxm("NXM_NX_TUN_IPV4_DST", 32)] @ (pkt.tunnel.dst);
    TunIpv6Src "tun_ipv6_src" [] 128/16 Bitwise Ipv6 None rw
        [nxm("NXM_NX_TUN_IPV6_SRC", 109)] @ (pkt.tunnel.ipv6_src);
    TunIpv6Dst "tun_ipv6_dst" [] 128/16 Bitwise Ipv6 None rw
        [nxm("NXM_NX_TUN_IPV6_DST", 110)] @ (pkt.tunnel.ipv6_dst);
    TunFlags "tun_flags" [] 1/2 Bitwise TunFlags None rw [nxm("NXM_NX_TUN_FLAGS", 104)] @ (pkt.tunnel.flags >> 0);
    TunTtl "tun_ttl" [] 8/1 Exact Decimal None ro [] @ (pkt.tunnel.ttl);
    TunTos "tun_tos" [] 8/1 Exact Decimal None ro [] @ (pkt.tunnel.tos);
    TunGbpId "tun_gbp_id" [] 16/2 Bitwise Decimal None rw
        [nxm("NXM_NX_TUN_GBP_ID", 38)] @ (pkt.tunnel.gbp_id);
    TunGbpFlags "tun_gbp_flags" [] 8/1 Bitwise Hex None rw
        [nxm("NXM_NX_TUN_GBP_FLAGS", 39)] @ (pkt.tunnel.gbp_flags);
    TunErspanIdx "tun_erspan_idx" [] 20/4 Bitwise Hex None rw
        [exp("NXOXM_ET_ERSPAN_IDX", class::NX, 11, 1)] @ (pkt.tunnel.erspan_idx);
    TunErspanVer "tun_erspan_ver" [] 4/1 Bitwise Decimal None rw
        [exp("NXOXM_ET_ERSPAN_VER", class::NX, 12, 1)] @ (pkt.tunnel.erspan_ver);
    TunErspanDir "tun_erspan_dir" [] 1/1 Bitwise Decimal None rw
        [exp("NXOXM_ET_ERSPAN_DIR", class::NX, 13, 1)] @ (pkt.tunnel.erspan_dir);
    TunErspanHwid "tun_erspan_hwid" [] 6/1 Bitwise Hex None rw
        [exp("NXOXM_ET_ERSPAN_HWID", class::NX, 14, 1)] @ (pkt.tunnel.erspan_hwid);
    TunGtpuFlags "tun_gtpu_flags" ["gtpu_flags"] 8/1 Bitwise Hex None ro
        [exp("NXOXM_ET_GTPU_FLAGS", class::NX, 15, 1)] @ (pkt.tunnel.gtpu_flags);
    TunGtpuMsgtype "tun_gtpu_msgtype" ["gtpu_msgtype"] 8/1 Bitwise Decimal None ro
        [exp("NXOXM_ET_GTPU_MSGTYPE", class::NX, 16, 1)] @ (pkt.tunnel.gtpu_msgtype);
    TunMetadata0 "tun_metadata0" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA0", 40)] @ (option 0);
    TunMetadata1 "tun_metadata1" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA1", 41)] @ (option 1);
    TunMetadata2 "tun_metadata2" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA2", 42)] @ (option 2);
    TunMetadata3 "tun_metadata3" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA3", 43)] @ (option 3);
    TunMetadata4 "tun_metadata4" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA4", 44)] @ (option 4);
    TunMetadata5 "tun_metadata5" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA5", 45)] @ (option 5);
    TunMetadata6 "tun_metadata6" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA6", 46)] @ (option 6);
    TunMetadata7 "tun_metadata7" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA7", 47)] @ (option 7);
    TunMetadata8 "tun_metadata8" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA8", 48)] @ (option 8);
    TunMetadata9 "tun_metadata9" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA9", 49)] @ (option 9);
    TunMetadata10 "tun_metadata10" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA10", 50)] @ (option 10);
    TunMetadata11 "tun_metadata11" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA11", 51)] @ (option 11);
    TunMetadata12 "tun_metadata12" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA12", 52)] @ (option 12);
    TunMetadata13 "tun_metadata13" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA13", 53)] @ (option 13);
    TunMetadata14 "tun_metadata14" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA14", 54)] @ (option 14);
    TunMetadata15 "tun_metadata15" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA15", 55)] @ (option 15);
    TunMetadata16 "tun_metadata16" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA16", 56)] @ (option 16);
    TunMetadata17 "tun_metadata17" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA17", 57)] @ (option 17);
    TunMetadata18 "tun_metadata18" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA18", 58)] @ (option 18);
    TunMetadata19 "tun_metadata19" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA19", 59)] @ (option 19);
    TunMetadata20 "tun_metadata20" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA20", 60)] @ (option 20);
    TunMetadata21 "tun_metadata21" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA21", 61)] @ (option 21);
    TunMetadata22 "tun_metadata22" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA22", 62)] @ (option 22);
    TunMetadata23 "tun_metadata23" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA23", 63)] @ (option 23);
    TunMetadata24 "tun_metadata24" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA24", 64)] @ (option 24);
    TunMetadata25 "tun_metadata25" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA25", 65)] @ (option 25);
    TunMetadata26 "tun_metadata26" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA26", 66)] @ (option 26);
    TunMetadata27 "tun_metadata27" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA27", 67)] @ (option 27);
    TunMetadata28 "tun_metadata28" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA28", 68)] @ (option 28);
    TunMetadata29 "tun_metadata29" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA29", 69)] @ (option 29);
    TunMetadata30 "tun_metadata30" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA30", 70)] @ (option 30);
    TunMetadata31 "tun_metadata31" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA31", 71)] @ (option 31);
    TunMetadata32 "tun_metadata32" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA32", 72)] @ (option 32);
    TunMetadata33 "tun_metadata33" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA33", 73)] @ (option 33);
    TunMetadata34 "tun_metadata34" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA34", 74)] @ (option 34);
    TunMetadata35 "tun_metadata35" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA35", 75)] @ (option 35);
    TunMetadata36 "tun_metadata36" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA36", 76)] @ (option 36);
    TunMetadata37 "tun_metadata37" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA37", 77)] @ (option 37);
    TunMetadata38 "tun_metadata38" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA38", 78)] @ (option 38);
    TunMetadata39 "tun_metadata39" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA39", 79)] @ (option 39);
    TunMetadata40 "tun_metadata40" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA40", 80)] @ (option 40);
    TunMetadata41 "tun_metadata41" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA41", 81)] @ (option 41);
    TunMetadata42 "tun_metadata42" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA42", 82)] @ (option 42);
    TunMetadata43 "tun_metadata43" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA43", 83)] @ (option 43);
    TunMetadata44 "tun_metadata44" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA44", 84)] @ (option 44);
    TunMetadata45 "tun_metadata45" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA45", 85)] @ (option 45);
    TunMetadata46 "tun_metadata46" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA46", 86)] @ (option 46);
    TunMetadata47 "tun_metadata47" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA47", 87)] @ (option 47);
    TunMetadata48 "tun_metadata48" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA48", 88)] @ (option 48);
    TunMetadata49 "tun_metadata49" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA49", 89)] @ (option 49);
    TunMetadata50 "tun_metadata50" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA50", 90)] @ (option 50);
    TunMetadata51 "tun_metadata51" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA51", 91)] @ (option 51);
    TunMetadata52 "tun_metadata52" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA52", 92)] @ (option 52);
    TunMetadata53 "tun_metadata53" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA53", 93)] @ (option 53);
    TunMetadata54 "tun_metadata54" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA54", 94)] @ (option 54);
    TunMetadata55 "tun_metadata55" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA55", 95)] @ (option 55);
    TunMetadata56 "tun_metadata56" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA56", 96)] @ (option 56);
    TunMetadata57 "tun_metadata57" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA57", 97)] @ (option 57);
    TunMetadata58 "tun_metadata58" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA58", 98)] @ (option 58);
    TunMetadata59 "tun_metadata59" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA59", 99)] @ (option 59);
    TunMetadata60 "tun_metadata60" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA60", 100)] @ (option 60);
    TunMetadata61 "tun_metadata61" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA61", 101)] @ (option 61);
    TunMetadata62 "tun_metadata62" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA62", 102)] @ (option 62);
    TunMetadata63 "tun_metadata63" [] 992/124 Bitwise Hex None rw [nxm("NXM_NX_TUN_METADATA63", 103)] @ (option 63);
    // Packet metadata.
    Metadata "metadata" [] 64/8 Bitwise Hex None rw [oxm("OXM_OF_METADATA", 2, 3)] @ (metadata) [No/Bits];
    InPort "in_port" [] 16/2 Exact Port None rw [nxm_of("NXM_OF_IN_PORT", 0)] @ (pkt.in_port) [Exact/Exact];
    InPortOxm "in_port_oxm" [] 32/4 Exact Port32 None rw [oxm("OXM_OF_IN_PORT", 0, 3)] @ (port32) [No/Exact];
    ActsetOutput "actset_output" [] 32/4 Exact Port32 None ro
        [exp("ONFOXM_ET_ACTSET_OUTPUT", class::ONF, 43, 4), oxm("OXM_OF_ACTSET_OUTPUT", 43, 6)] @ (actset);
    SkbPriority "skb_priority" [] 32/4 Exact Hex None ro [] @ (pkt.skb_priority);
    PktMark "pkt_mark" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_PKT_MARK", 33)] @ (pkt.pkt_mark);
    // Connection tracking.
    CtState "ct_state" [] 32/4 Bitwise CtState None ro [nxm("NXM_NX_CT_STATE", 105)] @ (pkt.ct_state);
    CtZone "ct_zone" [] 16/2 Exact Hex None ro [nxm("NXM_NX_CT_ZONE", 106)] @ (pkt.ct_zone);
    CtMark "ct_mark" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_CT_MARK", 107)] @ (pkt.ct_mark);
    CtLabel "ct_label" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_CT_LABEL", 108)] @ (pkt.ct_label);
    CtNwProto "ct_nw_proto" [] 8/1 Exact Decimal CtValid ro [nxm("NXM_NX_CT_NW_PROTO", 119)] @ (pkt.ct_nw_proto);
    CtNwSrc "ct_nw_src" [] 32/4 Bitwise Ipv4 CtValid ro [nxm("NXM_NX_CT_NW_SRC", 120)] @ (pkt.ct_nw_src);
    CtNwDst "ct_nw_dst" [] 32/4 Bitwise Ipv4 CtValid ro [nxm("NXM_NX_CT_NW_DST", 121)] @ (pkt.ct_nw_dst);
    CtIpv6Src "ct_ipv6_src" [] 128/16 Bitwise Ipv6 CtValid ro
        [nxm("NXM_NX_CT_IPV6_SRC", 122)] @ (pkt.ct_ipv6_src);
    CtIpv6Dst "ct_ipv6_dst" [] 128/16 Bitwise Ipv6 CtValid ro
        [nxm("NXM_NX_CT_IPV6_DST", 123)] @ (pkt.ct_ipv6_dst);
    CtTpSrc "ct_tp_src" [] 16/2 Bitwise Decimal CtValid ro [nxm("NXM_NX_CT_TP_SRC", 124)] @ (pkt.ct_tp_src);
    CtTpDst "ct_tp_dst" [] 16/2 Bitwise Decimal CtValid ro [nxm("NXM_NX_CT_TP_DST", 125)] @ (pkt.ct_tp_dst);
    // Registers.
    Reg0 "reg0" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG0", 0)] @ (regs[0]);
    Reg1 "reg1" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG1", 1)] @ (regs[1]);
    Reg2 "reg2" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG2", 2)] @ (regs[2]);
    Reg3 "reg3" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG3", 3)] @ (regs[3]);
    Reg4 "reg4" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG4", 4)] @ (regs[4]);
    Reg5 "reg5" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG5", 5)] @ (regs[5]);
    Reg6 "reg6" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG6", 6)] @ (regs[6]);
    Reg7 "reg7" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG7", 7)] @ (regs[7]);
    Reg8 "reg8" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG8", 8)] @ (regs[8]);
    Reg9 "reg9" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG9", 9)] @ (regs[9]);
    Reg10 "reg10" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG10", 10)] @ (regs[10]);
    Reg11 "reg11" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG11", 11)] @ (regs[11]);
    Reg12 "reg12" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG12", 12)] @ (regs[12]);
    Reg13 "reg13" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG13", 13)] @ (regs[13]);
    Reg14 "reg14" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG14", 14)] @ (regs[14]);
    Reg15 "reg15" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_REG15", 15)] @ (regs[15]);
    Reg16 "reg16" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG16", class::NX, 17, 1)] @ (regs[16]);
    Reg17 "reg17" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG17", class::NX, 18, 1)] @ (regs[17]);
    Reg18 "reg18" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG18", class::NX, 19, 1)] @ (regs[18]);
    Reg19 "reg19" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG19", class::NX, 20, 1)] @ (regs[19]);
    Reg20 "reg20" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG20", class::NX, 21, 1)] @ (regs[20]);
    Reg21 "reg21" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG21", class::NX, 22, 1)] @ (regs[21]);
    Reg22 "reg22" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG22", class::NX, 23, 1)] @ (regs[22]);
    Reg23 "reg23" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG23", class::NX, 24, 1)] @ (regs[23]);
    Reg24 "reg24" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG24", class::NX, 25, 1)] @ (regs[24]);
    Reg25 "reg25" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG25", class::NX, 26, 1)] @ (regs[25]);
    Reg26 "reg26" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG26", class::NX, 27, 1)] @ (regs[26]);
    Reg27 "reg27" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG27", class::NX, 28, 1)] @ (regs[27]);
    Reg28 "reg28" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG28", class::NX, 29, 1)] @ (regs[28]);
    Reg29 "reg29" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG29", class::NX, 30, 1)] @ (regs[29]);
    Reg30 "reg30" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG30", class::NX, 31, 1)] @ (regs[30]);
    Reg31 "reg31" [] 32/4 Bitwise Hex None rw [exp("NXOXM_ET_REG31", class::NX, 32, 1)] @ (regs[31]);
    Xreg0 "xreg0" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG0", 0)] @ (reg64 0);
    Xreg1 "xreg1" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG1", 1)] @ (reg64 1);
    Xreg2 "xreg2" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG2", 2)] @ (reg64 2);
    Xreg3 "xreg3" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG3", 3)] @ (reg64 3);
    Xreg4 "xreg4" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG4", 4)] @ (reg64 4);
    Xreg5 "xreg5" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG5", 5)] @ (reg64 5);
    Xreg6 "xreg6" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG6", 6)] @ (reg64 6);
    Xreg7 "xreg7" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG7", 7)] @ (reg64 7);
    Xreg8 "xreg8" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG8", 8)] @ (reg64 8);
    Xreg9 "xreg9" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG9", 9)] @ (reg64 9);
    Xreg10 "xreg10" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG10", 10)] @ (reg64 10);
    Xreg11 "xreg11" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG11", 11)] @ (reg64 11);
    Xreg12 "xreg12" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG12", 12)] @ (reg64 12);
    Xreg13 "xreg13" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG13", 13)] @ (reg64 13);
    Xreg14 "xreg14" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG14", 14)] @ (reg64 14);
    Xreg15 "xreg15" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG15", 15)] @ (reg64 15);
    Xxreg0 "xxreg0" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG0", 111)] @ (reg128 0);
    Xxreg1 "xxreg1" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG1", 112)] @ (reg128 1);
    Xxreg2 "xxreg2" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG2", 113)] @ (reg128 2);
    Xxreg3 "xxreg3" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG3", 114)] @ (reg128 3);
    Xxreg4 "xxreg4" [] 128/16 Bitwise Hex None rw [exp("NXOXM_ET_XXREG4", class::NX, 33, 1)] @ (reg128 4);
    Xxreg5 "xxreg5" [] 128/16 Bitwise Hex None rw [exp("NXOXM_ET_XXREG5", class::NX, 34, 1)] @ (reg128 5);
    Xxreg6 "xxreg6" [] 128/16 Bitwise Hex None rw [exp("NXOXM_ET_XXREG6", class::NX, 35, 1)] @ (reg128 6);
    Xxreg7 "xxreg7" [] 128/16 Bitwise Hex None rw [exp("NXOXM_ET_XXREG7", class::NX, 36, 1)] @ (reg128 7);
    // Ethernet.
    EthSrc "eth_src" ["dl_src"] 48/6 Bitwise Ethernet Ethernet rw
        [nxm_of("NXM_OF_ETH_SRC", 2), oxm("OXM_OF_ETH_SRC", 4, 3)] @ (pkt.dl_src) [Exact/Bits];
    EthDst "eth_dst" ["dl_dst"] 48/6 Bitwise Ethernet Ethernet rw
        [nxm_of("NXM_OF_ETH_DST", 1), oxm("OXM_OF_ETH_DST", 3, 3)] @ (pkt.dl_dst) [Exact/Bits];
    EthType "eth_type" ["dl_type"] 16/2 Exact Hex Ethernet ro
        [nxm_of("NXM_OF_ETH_TYPE", 3), oxm("OXM_OF_ETH_TYPE", 5, 3)] @ (pkt.dl_type) [Exact/Exact];
    // VLAN.
    VlanTci "vlan_tci" [] 16/2 Bitwise Hex Ethernet rw [nxm_of("NXM_OF_VLAN_TCI", 4)] @ (pkt.vlans[0].tci) [Exact/Exact];
    DlVlan "dl_vlan" [] 12/2 Exact Decimal Ethernet rw [] @ (pkt.vlans[0].tci >> 0) [Exact/Exact];
    VlanVid "vlan_vid" [] 12/2 Bitwise Decimal Ethernet rw
        [oxm("OXM_OF_VLAN_VID", 6, 3)] @ (pkt.vlans[0].tci >> 0) [Exact/Exact];
    DlVlanPcp "dl_vlan_pcp" [] 3/1 Exact Decimal Ethernet rw [] @ (pkt.vlans[0].tci >> 13) [Exact/Exact];
    VlanPcp "vlan_pcp" [] 3/1 Exact Decimal Vlan rw [oxm("OXM_OF_VLAN_PCP", 7, 3)] @ (pkt.vlans[0].tci >> 13) [Exact/Exact];
    // MPLS.
    MplsLabel "mpls_label" [] 20/4 Exact Decimal Mpls rw
        [oxm("OXM_OF_MPLS_LABEL", 34, 3)] @ (pkt.mpls_lse[0] >> 12) [No/Exact];
    MplsTc "mpls_tc" [] 3/1 Exact Decimal Mpls rw [oxm("OXM_OF_MPLS_TC", 35, 3)] @ (pkt.mpls_lse[0] >> 9) [No/Exact];
    MplsBos "mpls_bos" [] 1/1 Exact Decimal Mpls ro [oxm("OXM_OF_MPLS_BOS", 36, 4)] @ (pkt.mpls_lse[0] >> 8);
    MplsTtl "mpls_ttl" [] 8/1 Exact Decimal Mpls rw [nxm("NXM_NX_MPLS_TTL", 30)] @ (pkt.mpls_lse[0] >> 0);
    // IP.
    IpSrc "ip_src" ["nw_src"] 32/4 Bitwise Ipv4 Ipv4 rw
        [nxm_of("NXM_OF_IP_SRC", 7), oxm("OXM_OF_IPV4_SRC", 11, 3)] @ (pkt.nw_src) [Prefix/Bits];
    IpDst "ip_dst" ["nw_dst"] 32/4 Bitwise Ipv4 Ipv4 rw
        [nxm_of("NXM_OF_IP_DST", 8), oxm("OXM_OF_IPV4_DST", 12, 3)] @ (pkt.nw_dst) [Prefix/Bits];
    Ipv6Src "ipv6_src" [] 128/16 Bitwise Ipv6 Ipv6 rw
        [nxm("NXM_NX_IPV6_SRC", 19), oxm("OXM_OF_IPV6_SRC", 26, 3)] @ (pkt.ipv6_src);
    Ipv6Dst "ipv6_dst" [] 128/16 Bitwise Ipv6 Ipv6 rw
        [nxm("NXM_NX_IPV6_DST", 20), oxm("OXM_OF_IPV6_DST", 27, 3)] @ (pkt.ipv6_dst);
    Ipv6Label "ipv6_label" [] 20/4 Bitwise Hex Ipv6 rw
        [nxm("NXM_NX_IPV6_LABEL", 27), oxm("OXM_OF_IPV6_FLABEL", 28, 3)] @ (pkt.ipv6_label);
    IpProto "nw_proto" ["ip_proto"] 8/1 Exact Decimal Ip ro
        [nxm_of("NXM_OF_IP_PROTO", 6), oxm("OXM_OF_IP_PROTO", 10, 3)] @ (pkt.nw_proto) [Exact/Exact];
    NwTos "nw_tos" [] 8/1 Exact Decimal Ip rw [nxm_of("NXM_OF_IP_TOS", 5)] @ (pkt.nw_tos) [Exact/Exact];
    IpDscp "ip_dscp" [] 6/1 Exact Decimal Ip rw [oxm("OXM_OF_IP_DSCP", 8, 3)] @ (pkt.nw_tos >> 2) [Exact/Exact];
    IpEcn "nw_ecn" ["ip_ecn"] 2/1 Exact Decimal Ip rw
        [nxm("NXM_NX_IP_ECN", 28), oxm("OXM_OF_IP_ECN", 9, 3)] @ (pkt.nw_tos >> 0) [No/Exact];
    IpTtl "nw_ttl" [] 8/1 Exact Decimal Ip rw [nxm("NXM_NX_IP_TTL", 29)] @ (pkt.nw_ttl);
    IpFrag "ip_frag" ["nw_frag"] 2/1 Bitwise Frag Ip ro [nxm("NXM_NX_IP_FRAG", 26)] @ (pkt.nw_frag);
    // ARP.
    ArpOp "arp_op" [] 16/2 Exact Decimal Arp rw
        [nxm_of("NXM_OF_ARP_OP", 15), oxm("OXM_OF_ARP_OP", 21, 3)] @ (pkt.nw_proto) [Exact/Exact];
    ArpSpa "arp_spa" [] 32/4 Bitwise Ipv4 Arp rw
        [nxm_of("NXM_OF_ARP_SPA", 16), oxm("OXM_OF_ARP_SPA", 22, 3)] @ (pkt.nw_src) [Prefix/Bits];
    ArpTpa "arp_tpa" [] 32/4 Bitwise Ipv4 Arp rw
        [nxm_of("NXM_OF_ARP_TPA", 17), oxm("OXM_OF_ARP_TPA", 23, 3)] @ (pkt.nw_dst) [Prefix/Bits];
    ArpSha "arp_sha" [] 48/6 Bitwise Ethernet Arp rw
        [nxm("NXM_NX_ARP_SHA", 17), oxm("OXM_OF_ARP_SHA", 24, 3)] @ (pkt.arp_sha);
    ArpTha "arp_tha" [] 48/6 Bitwise Ethernet Arp rw
        [nxm("NXM_NX_ARP_THA", 18), oxm("OXM_OF_ARP_THA", 25, 3)] @ (pkt.arp_tha);
    // Transport.
    TcpSrc "tcp_src" ["tp_src"] 16/2 Bitwise Decimal Tcp rw
        [nxm_of("NXM_OF_TCP_SRC", 9), oxm("OXM_OF_TCP_SRC", 13, 3)] @ (pkt.tp_src) [Exact/Exact];
    TcpDst "tcp_dst" ["tp_dst"] 16/2 Bitwise Decimal Tcp rw
        [nxm_of("NXM_OF_TCP_DST", 10), oxm("OXM_OF_TCP_DST", 14, 3)] @ (pkt.tp_dst) [Exact/Exact];
    TcpFlags "tcp_flags" [] 12/2 Bitwise TcpFlags Tcp ro
        [nxm("NXM_NX_TCP_FLAGS", 34), exp("ONFOXM_ET_TCP_FLAGS", class::ONF, 42, 4),
         oxm("OXM_OF_TCP_FLAGS", 42, 6)] @ (pkt.tcp_flags);
    UdpSrc "udp_src" [] 16/2 Bitwise Decimal Udp rw
        [nxm_of("NXM_OF_UDP_SRC", 11), oxm("OXM_OF_UDP_SRC", 15, 3)] @ (pkt.tp_src) [Exact/Exact];
    UdpDst "udp_dst" [] 16/2 Bitwise Decimal Udp rw
        [nxm_of("NXM_OF_UDP_DST", 12), oxm("OXM_OF_UDP_DST", 16, 3)] @ (pkt.tp_dst) [Exact/Exact];
    SctpSrc "sctp_src" [] 16/2 Bitwise Decimal Sctp rw [oxm("OXM_OF_SCTP_SRC", 17, 3)] @ (pkt.tp_src) [No/Exact];
    SctpDst "sctp_dst" [] 16/2 Bitwise Decimal Sctp rw [oxm("OXM_OF_SCTP_DST", 18, 3)] @ (pkt.tp_dst) [No/Exact];
    IcmpType "icmp_type" [] 8/1 Exact Decimal Icmp rw
        [nxm_of("NXM_OF_ICMP_TYPE", 13), oxm("OXM_OF_ICMPV4_TYPE", 19, 3)] @ (pkt.tp_src) [Exact/Exact];
    IcmpCode "icmp_code" [] 8/1 Exact Decimal Icmp rw
        [nxm_of("NXM_OF_ICMP_CODE", 14), oxm("OXM_OF_ICMPV4_CODE", 20, 3)] @ (pkt.tp_dst) [Exact/Exact];
    Icmpv6Type "icmpv6_type" [] 8/1 Exact Decimal Icmpv6 rw
        [nxm("NXM_NX_ICMPV6_TYPE", 21), oxm("OXM_OF_ICMPV6_TYPE", 29, 3)] @ (pkt.tp_src);
    Icmpv6Code "icmpv6_code" [] 8/1 Exact Decimal Icmpv6 rw
        [nxm("NXM_NX_ICMPV6_CODE", 22), oxm("OXM_OF_ICMPV6_CODE", 30, 3)] @ (pkt.tp_dst);
    NdTarget "nd_target" [] 128/16 Bitwise Ipv6 Nd rw
        [nxm("NXM_NX_ND_TARGET", 23), oxm("OXM_OF_IPV6_ND_TARGET", 31, 3)] @ (pkt.nd_target);
    NdSll "nd_sll" [] 48/6 Bitwise Ethernet NdSolicit rw
        [nxm("NXM_NX_ND_SLL", 24), oxm("OXM_OF_IPV6_ND_SLL", 32, 3)] @ (pkt.arp_sha);
    NdTll "nd_tll" [] 48/6 Bitwise Ethernet NdAdvert rw
        [nxm("NXM_NX_ND_TLL", 25), oxm("OXM_OF_IPV6_ND_TLL", 33, 3)] @ (pkt.arp_tha);
    NdReserved "nd_reserved" [] 32/4 Exact Decimal Nd rw [eric("ERICOXM_OF_ICMPV6_ND_RESERVED", 1)] @ (pkt.nd_reserved);
    NdOptionsType "nd_options_type" [] 8/1 Exact Decimal Nd rw
        [eric("ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", 2)] @ (pkt.nd_options_type);
    // NSH.
    NshFlags "nsh_flags" [] 8/1 Bitwise Decimal Nsh rw
        [exp("NXOXM_NSH_FLAGS", class::NSH, 1, 1)] @ (pkt.nsh_flags);
    NshMdtype "nsh_mdtype" [] 8/1 Exact Decimal Nsh ro
        [exp("NXOXM_NSH_MDTYPE", class::NSH, 2, 1)] @ (pkt.nsh_mdtype);
    NshNp "nsh_np" [] 8/1 Exact Decimal Nsh ro [exp("NXOXM_NSH_NP", class::NSH, 3, 1)] @ (pkt.nsh_np);
    NshSpi "nsh_spi" ["nsp"] 24/4 Exact Hex Nsh rw
        [exp("NXOXM_NSH_SPI", class::NSH, 4, 1)] @ (pkt.nsh_path >> 8);
    NshSi "nsh_si" ["nsi"] 8/1 Exact Decimal Nsh rw [exp("NXOXM_NSH_SI", class::NSH, 5, 1)] @ (pkt.nsh_path >> 0);
    NshC1 "nsh_c1" ["nshc1"] 32/4 Bitwise Hex Nsh rw
        [exp("NXOXM_NSH_C1", class::NSH, 6, 1)] @ (pkt.nsh_context[0]);
    NshC2 "nsh_c2" ["nshc2"] 32/4 Bitwise Hex Nsh rw
        [exp("NXOXM_NSH_C2", class::NSH, 7, 1)] @ (pkt.nsh_context[1]);
    NshC3 "nsh_c3" ["nshc3"] 32/4 Bitwise Hex Nsh rw
        [exp("NXOXM_NSH_C3", class::NSH, 8, 1)] @ (pkt.nsh_context[2]);
    NshC4 "nsh_c4" ["nshc4"] 32/4 Bitwise Hex Nsh rw
        [exp("NXOXM_NSH_C4", class::NSH, 9, 1)] @ (pkt.nsh_context[3]);
    NshTtl "nsh_ttl" [] 8/1 Exact Decimal Nsh rw [exp("NXOXM_NSH_TTL", class::NSH, 10, 1)] @ (pkt.nsh_ttl);
}

/// A key that can be shown field by field.
pub(crate) trait AsFlow {
    fn as_flow(&self) -> FlowKey;
}

impl AsFlow for FlowKey {
    fn as_flow(&self) -> FlowKey {
        *self
    }
}

impl AsFlow for PacketKey {
    fn as_flow(&self) -> FlowKey {
        FlowKey { pkt: *self, ..FlowKey::ZERO }
    }
}

/// Writes the non-zero fields whose prerequisites hold, each place once.
pub(crate) fn debug_fields(f: &mut fmt::Formatter<'_>, key: &impl AsFlow) -> fmt::Result {
    let key = key.as_flow();
    let mut rest = key;
    let mut map = f.debug_map();
    for field in &FIELDS {
        if field.get(&rest) != 0 && field.prereq.holds(&key.pkt) {
            map.entry(&field.name, &format_args!("{:#x}", field.get(&key)));
            field.set(&mut rest, 0);
        }
    }
    map.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_row_numbers_and_names_are_unique() {
        for (i, f) in FIELDS.iter().enumerate() {
            assert_eq!(f.id as usize, i);
            for name in f.aliases.iter().chain([&f.name]) {
                assert_eq!(Field::by_name(name).map(|g| g.id), Some(f.id), "{name}");
            }
            for o in f.oxms {
                let (g, p) = Field::by_oxm(o.class, o.field, o.experimenter).unwrap();
                assert_eq!((g.id, p), (f.id, o));
                assert_eq!(Field::by_oxm_name(o.name).unwrap().0.id, f.id);
            }
        }
    }

    #[test]
    fn every_field_holds_every_bit_and_no_other() {
        for f in &FIELDS {
            assert!(usize::from(f.n_bytes) * 8 >= usize::from(f.bits), "{}", f.name);
            if f.tun_option().is_some() {
                continue; // has no place before the switch gives it one
            }
            let all = if matches!(f.format, Format::Port32) {
                0xffff_ffff
            } else if f.id == FieldId::CtState || f.id == FieldId::ArpOp {
                0xff // narrower in the key than on the wire
            } else {
                f.all_ones()
            };
            let mut k = FlowKey::ZERO;
            f.set(&mut k, u128::MAX);
            if !matches!(f.format, Format::Port | Format::Port32)
                && !matches!(f.id, FieldId::IcmpType | FieldId::IcmpCode)
            {
                assert_eq!(f.get(&k), all, "{}", f.name);
            }
            f.set(&mut k, 0);
            assert!(k.is_zero(), "{}", f.name);
        }
    }
}
