//! THE field table.
//!
//! One row per match field: its names, width, mask rule, text form, prerequisites, wire ids and
//! place in the key. Source: OpenFlow 1.5.1 §7.2.3, `ovs-fields(7)`.
//!
//! Values travel as `u128`, right-aligned; the mask of a field is a value too.

use core::fmt;

use packet::header::{ethertype, icmpv6, ipproto};

use crate::key::{FlowKey, PacketKey, VLAN_PRESENT};

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
}

impl Prereq {
    /// Whether a packet (or a match's key) with these values satisfies the prerequisite.
    ///
    /// Fragments are not looked at: a match on a port of a later fragment matches zero.
    pub fn holds(self, k: &PacketKey) -> bool {
        let ip = k.dl_type == ethertype::IPV4 || k.dl_type == ethertype::IPV6;
        let nd = |t: u8| {
            k.dl_type == ethertype::IPV6
                && k.nw_proto == ipproto::ICMPV6
                && k.tp_src == u16::from(t)
                && k.tp_dst == 0
        };
        match self {
            Prereq::None => true,
            Prereq::Ethernet => k.packet_type == 0,
            Prereq::Vlan => k.vlans[0].tci & VLAN_PRESENT != 0,
            Prereq::Arp => k.dl_type == ethertype::ARP || k.dl_type == ethertype::RARP,
            Prereq::Mpls => k.dl_type == ethertype::MPLS || k.dl_type == ethertype::MPLS_MCAST,
            Prereq::Nsh => k.dl_type == ethertype::NSH,
            Prereq::Ipv4 => k.dl_type == ethertype::IPV4,
            Prereq::Ipv6 => k.dl_type == ethertype::IPV6,
            Prereq::Ip => ip,
            Prereq::Tcp => ip && k.nw_proto == ipproto::TCP,
            Prereq::Udp => ip && k.nw_proto == ipproto::UDP,
            Prereq::Sctp => ip && k.nw_proto == ipproto::SCTP,
            Prereq::Icmp => k.dl_type == ethertype::IPV4 && k.nw_proto == ipproto::ICMP,
            Prereq::Icmpv6 => k.dl_type == ethertype::IPV6 && k.nw_proto == ipproto::ICMPV6,
            Prereq::Nd => nd(icmpv6::NEIGHBOR_SOLICIT) || nd(icmpv6::NEIGHBOR_ADVERT),
            Prereq::NdSolicit => nd(icmpv6::NEIGHBOR_SOLICIT),
            Prereq::NdAdvert => nd(icmpv6::NEIGHBOR_ADVERT),
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
        FIELDS.iter().find_map(|f| {
            let same =
                |o: &&Oxm| o.class == class && o.field == field && o.experimenter == experimenter;
            Some((f, f.oxms.iter().find(same)?))
        })
    }
}

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
/// text form, prerequisite, access, wire types, place. A place is a whole struct field, or
/// `(field >> shift)` for `bits` bits of it.
macro_rules! fields {
    ($($id:ident $name:literal [$($alias:literal)*] $bits:literal/$bytes:literal $mask:ident $format:ident
       $prereq:ident $access:ident [$($oxm:expr),*] @ $place:tt;)*) => {
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
                get: fields!(@get $bits $place),
                set: fields!(@set $bits $place),
            },
        )*];
    };
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
    ConjId "conj_id" [] 32/4 Exact Decimal None ro [nxm("NXM_NX_CONJ_ID", 37)] @ (conj_id);
    Metadata "metadata" [] 64/8 Bitwise Hex None rw [oxm("OXM_OF_METADATA", 2, 3)] @ (metadata);
    ActsetOutput "actset_output" [] 32/4 Exact Port32 None ro
        [exp("ONFOXM_ET_ACTSET_OUTPUT", class::ONF, 43, 4), oxm("OXM_OF_ACTSET_OUTPUT", 43, 6)] @ (actset);
    // Tunnel.
    TunId "tun_id" ["tunnel_id"] 64/8 Bitwise Hex None rw
        [nxm("NXM_NX_TUN_ID", 16), oxm("OXM_OF_TUNNEL_ID", 38, 4)] @ (pkt.tunnel.tun_id);
    TunSrc "tun_src" [] 32/4 Bitwise Ipv4 None rw [nxm("NXM_NX_TUN_IPV4_SRC", 31)] @ (pkt.tunnel.src);
    TunDst "tun_dst" [] 32/4 Bitwise Ipv4 None rw [nxm("NXM_NX_TUN_IPV4_DST", 32)] @ (pkt.tunnel.dst);
    TunIpv6Src "tun_ipv6_src" [] 128/16 Bitwise Ipv6 None rw
        [nxm("NXM_NX_TUN_IPV6_SRC", 109)] @ (pkt.tunnel.ipv6_src);
    TunIpv6Dst "tun_ipv6_dst" [] 128/16 Bitwise Ipv6 None rw
        [nxm("NXM_NX_TUN_IPV6_DST", 110)] @ (pkt.tunnel.ipv6_dst);
    TunFlags "tun_flags" [] 16/2 Bitwise TunFlags None rw [nxm("NXM_NX_TUN_FLAGS", 104)] @ (pkt.tunnel.flags);
    TunTtl "tun_ttl" [] 8/1 Exact Decimal None rw [] @ (pkt.tunnel.ttl);
    TunTos "tun_tos" [] 8/1 Exact Decimal None rw [] @ (pkt.tunnel.tos);
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
    TunGtpuFlags "tun_gtpu_flags" ["gtpu_flags"] 8/1 Bitwise Hex None rw
        [exp("NXOXM_ET_GTPU_FLAGS", class::NX, 15, 1)] @ (pkt.tunnel.gtpu_flags);
    TunGtpuMsgtype "tun_gtpu_msgtype" ["gtpu_msgtype"] 8/1 Bitwise Decimal None rw
        [exp("NXOXM_ET_GTPU_MSGTYPE", class::NX, 16, 1)] @ (pkt.tunnel.gtpu_msgtype);
    // Packet metadata.
    InPort "in_port" [] 16/2 Exact Port None rw [nxm_of("NXM_OF_IN_PORT", 0)] @ (pkt.in_port);
    InPortOxm "in_port_oxm" [] 32/4 Exact Port32 None rw [oxm("OXM_OF_IN_PORT", 0, 3)] @ (port32);
    SkbPriority "skb_priority" [] 32/4 Exact Hex None ro [] @ (pkt.skb_priority);
    PktMark "pkt_mark" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_PKT_MARK", 33)] @ (pkt.pkt_mark);
    DpHash "dp_hash" [] 32/4 Bitwise Hex None ro [nxm("NXM_NX_DP_HASH", 35)] @ (pkt.dp_hash);
    RecircId "recirc_id" [] 32/4 Exact Hex None ro [nxm("NXM_NX_RECIRC_ID", 36)] @ (pkt.recirc_id);
    PacketType "packet_type" [] 32/4 Exact PacketType None ro
        [oxm("OXM_OF_PACKET_TYPE", 44, 6)] @ (pkt.packet_type);
    // Connection tracking.
    CtState "ct_state" [] 32/4 Bitwise CtState None ro [nxm("NXM_NX_CT_STATE", 105)] @ (pkt.ct_state);
    CtZone "ct_zone" [] 16/2 Exact Decimal None ro [nxm("NXM_NX_CT_ZONE", 106)] @ (pkt.ct_zone);
    CtMark "ct_mark" [] 32/4 Bitwise Hex None rw [nxm("NXM_NX_CT_MARK", 107)] @ (pkt.ct_mark);
    CtLabel "ct_label" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_CT_LABEL", 108)] @ (pkt.ct_label);
    CtNwProto "ct_nw_proto" [] 8/1 Exact Decimal None ro [nxm("NXM_NX_CT_NW_PROTO", 119)] @ (pkt.ct_nw_proto);
    CtNwSrc "ct_nw_src" [] 32/4 Bitwise Ipv4 None ro [nxm("NXM_NX_CT_NW_SRC", 120)] @ (pkt.ct_nw_src);
    CtNwDst "ct_nw_dst" [] 32/4 Bitwise Ipv4 None ro [nxm("NXM_NX_CT_NW_DST", 121)] @ (pkt.ct_nw_dst);
    CtIpv6Src "ct_ipv6_src" [] 128/16 Bitwise Ipv6 None ro
        [nxm("NXM_NX_CT_IPV6_SRC", 122)] @ (pkt.ct_ipv6_src);
    CtIpv6Dst "ct_ipv6_dst" [] 128/16 Bitwise Ipv6 None ro
        [nxm("NXM_NX_CT_IPV6_DST", 123)] @ (pkt.ct_ipv6_dst);
    CtTpSrc "ct_tp_src" [] 16/2 Bitwise Decimal None ro [nxm("NXM_NX_CT_TP_SRC", 124)] @ (pkt.ct_tp_src);
    CtTpDst "ct_tp_dst" [] 16/2 Bitwise Decimal None ro [nxm("NXM_NX_CT_TP_DST", 125)] @ (pkt.ct_tp_dst);
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
    Xreg0 "xreg0" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG0", 0)] @ (reg64 0);
    Xreg1 "xreg1" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG1", 1)] @ (reg64 1);
    Xreg2 "xreg2" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG2", 2)] @ (reg64 2);
    Xreg3 "xreg3" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG3", 3)] @ (reg64 3);
    Xreg4 "xreg4" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG4", 4)] @ (reg64 4);
    Xreg5 "xreg5" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG5", 5)] @ (reg64 5);
    Xreg6 "xreg6" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG6", 6)] @ (reg64 6);
    Xreg7 "xreg7" [] 64/8 Bitwise Hex None rw [pkt_reg("OXM_OF_PKT_REG7", 7)] @ (reg64 7);
    Xxreg0 "xxreg0" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG0", 111)] @ (reg128 0);
    Xxreg1 "xxreg1" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG1", 112)] @ (reg128 1);
    Xxreg2 "xxreg2" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG2", 113)] @ (reg128 2);
    Xxreg3 "xxreg3" [] 128/16 Bitwise Hex None rw [nxm("NXM_NX_XXREG3", 114)] @ (reg128 3);
    // Ethernet.
    EthSrc "eth_src" ["dl_src"] 48/6 Bitwise Ethernet Ethernet rw
        [nxm_of("NXM_OF_ETH_SRC", 2), oxm("OXM_OF_ETH_SRC", 4, 3)] @ (pkt.dl_src);
    EthDst "eth_dst" ["dl_dst"] 48/6 Bitwise Ethernet Ethernet rw
        [nxm_of("NXM_OF_ETH_DST", 1), oxm("OXM_OF_ETH_DST", 3, 3)] @ (pkt.dl_dst);
    EthType "eth_type" ["dl_type"] 16/2 Exact Hex Ethernet ro
        [nxm_of("NXM_OF_ETH_TYPE", 3), oxm("OXM_OF_ETH_TYPE", 5, 3)] @ (pkt.dl_type);
    // VLAN.
    VlanTci "vlan_tci" [] 16/2 Bitwise Hex Ethernet rw [nxm_of("NXM_OF_VLAN_TCI", 4)] @ (pkt.vlans[0].tci);
    DlVlan "dl_vlan" [] 12/2 Exact Decimal Ethernet rw [] @ (pkt.vlans[0].tci >> 0);
    VlanVid "vlan_vid" [] 12/2 Bitwise Decimal Ethernet rw
        [oxm("OXM_OF_VLAN_VID", 6, 3)] @ (pkt.vlans[0].tci >> 0);
    DlVlanPcp "dl_vlan_pcp" [] 3/1 Exact Decimal Ethernet rw [] @ (pkt.vlans[0].tci >> 13);
    VlanPcp "vlan_pcp" [] 3/1 Exact Decimal Vlan rw [oxm("OXM_OF_VLAN_PCP", 7, 3)] @ (pkt.vlans[0].tci >> 13);
    // MPLS.
    MplsLabel "mpls_label" [] 20/4 Exact Decimal Mpls rw
        [oxm("OXM_OF_MPLS_LABEL", 34, 3)] @ (pkt.mpls_lse[0] >> 12);
    MplsTc "mpls_tc" [] 3/1 Exact Decimal Mpls rw [oxm("OXM_OF_MPLS_TC", 35, 3)] @ (pkt.mpls_lse[0] >> 9);
    MplsBos "mpls_bos" [] 1/1 Exact Decimal Mpls ro [oxm("OXM_OF_MPLS_BOS", 36, 4)] @ (pkt.mpls_lse[0] >> 8);
    MplsTtl "mpls_ttl" [] 8/1 Exact Decimal Mpls rw [nxm("NXM_NX_MPLS_TTL", 30)] @ (pkt.mpls_lse[0] >> 0);
    // NSH.
    NshFlags "nsh_flags" [] 8/1 Bitwise Decimal Nsh rw
        [exp("NXOXM_NSH_FLAGS", class::NSH, 1, 1)] @ (pkt.nsh_flags);
    NshTtl "nsh_ttl" [] 8/1 Exact Decimal Nsh rw [exp("NXOXM_NSH_TTL", class::NSH, 10, 1)] @ (pkt.nsh_ttl);
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
    // IP.
    IpSrc "ip_src" ["nw_src"] 32/4 Bitwise Ipv4 Ipv4 rw
        [nxm_of("NXM_OF_IP_SRC", 7), oxm("OXM_OF_IPV4_SRC", 11, 3)] @ (pkt.nw_src);
    IpDst "ip_dst" ["nw_dst"] 32/4 Bitwise Ipv4 Ipv4 rw
        [nxm_of("NXM_OF_IP_DST", 8), oxm("OXM_OF_IPV4_DST", 12, 3)] @ (pkt.nw_dst);
    Ipv6Src "ipv6_src" [] 128/16 Bitwise Ipv6 Ipv6 rw
        [nxm("NXM_NX_IPV6_SRC", 19), oxm("OXM_OF_IPV6_SRC", 26, 3)] @ (pkt.ipv6_src);
    Ipv6Dst "ipv6_dst" [] 128/16 Bitwise Ipv6 Ipv6 rw
        [nxm("NXM_NX_IPV6_DST", 20), oxm("OXM_OF_IPV6_DST", 27, 3)] @ (pkt.ipv6_dst);
    Ipv6Label "ipv6_label" [] 20/4 Bitwise Hex Ipv6 rw
        [nxm("NXM_NX_IPV6_LABEL", 27), oxm("OXM_OF_IPV6_FLABEL", 28, 3)] @ (pkt.ipv6_label);
    IpProto "nw_proto" ["ip_proto"] 8/1 Exact Decimal Ip ro
        [nxm_of("NXM_OF_IP_PROTO", 6), oxm("OXM_OF_IP_PROTO", 10, 3)] @ (pkt.nw_proto);
    NwTos "nw_tos" [] 8/1 Exact Decimal Ip rw [nxm_of("NXM_OF_IP_TOS", 5)] @ (pkt.nw_tos);
    IpDscp "ip_dscp" [] 6/1 Exact Decimal Ip rw [oxm("OXM_OF_IP_DSCP", 8, 3)] @ (pkt.nw_tos >> 2);
    IpEcn "nw_ecn" ["ip_ecn"] 2/1 Exact Decimal Ip rw
        [nxm("NXM_NX_IP_ECN", 28), oxm("OXM_OF_IP_ECN", 9, 3)] @ (pkt.nw_tos >> 0);
    IpTtl "nw_ttl" [] 8/1 Exact Decimal Ip rw [nxm("NXM_NX_IP_TTL", 29)] @ (pkt.nw_ttl);
    IpFrag "ip_frag" ["nw_frag"] 2/1 Bitwise Frag Ip ro [nxm("NXM_NX_IP_FRAG", 26)] @ (pkt.nw_frag);
    // ARP.
    ArpOp "arp_op" [] 16/2 Exact Decimal Arp rw
        [nxm_of("NXM_OF_ARP_OP", 15), oxm("OXM_OF_ARP_OP", 21, 3)] @ (pkt.nw_proto);
    ArpSpa "arp_spa" [] 32/4 Bitwise Ipv4 Arp rw
        [nxm_of("NXM_OF_ARP_SPA", 16), oxm("OXM_OF_ARP_SPA", 22, 3)] @ (pkt.nw_src);
    ArpTpa "arp_tpa" [] 32/4 Bitwise Ipv4 Arp rw
        [nxm_of("NXM_OF_ARP_TPA", 17), oxm("OXM_OF_ARP_TPA", 23, 3)] @ (pkt.nw_dst);
    ArpSha "arp_sha" [] 48/6 Bitwise Ethernet Arp rw
        [nxm("NXM_NX_ARP_SHA", 17), oxm("OXM_OF_ARP_SHA", 24, 3)] @ (pkt.arp_sha);
    ArpTha "arp_tha" [] 48/6 Bitwise Ethernet Arp rw
        [nxm("NXM_NX_ARP_THA", 18), oxm("OXM_OF_ARP_THA", 25, 3)] @ (pkt.arp_tha);
    // Transport.
    TcpSrc "tcp_src" ["tp_src"] 16/2 Bitwise Decimal Tcp rw
        [nxm_of("NXM_OF_TCP_SRC", 9), oxm("OXM_OF_TCP_SRC", 13, 3)] @ (pkt.tp_src);
    TcpDst "tcp_dst" ["tp_dst"] 16/2 Bitwise Decimal Tcp rw
        [nxm_of("NXM_OF_TCP_DST", 10), oxm("OXM_OF_TCP_DST", 14, 3)] @ (pkt.tp_dst);
    TcpFlags "tcp_flags" [] 12/2 Bitwise TcpFlags Tcp ro
        [nxm("NXM_NX_TCP_FLAGS", 34), exp("ONFOXM_ET_TCP_FLAGS", class::ONF, 42, 4),
         oxm("OXM_OF_TCP_FLAGS", 42, 6)] @ (pkt.tcp_flags);
    UdpSrc "udp_src" [] 16/2 Bitwise Decimal Udp rw
        [nxm_of("NXM_OF_UDP_SRC", 11), oxm("OXM_OF_UDP_SRC", 15, 3)] @ (pkt.tp_src);
    UdpDst "udp_dst" [] 16/2 Bitwise Decimal Udp rw
        [nxm_of("NXM_OF_UDP_DST", 12), oxm("OXM_OF_UDP_DST", 16, 3)] @ (pkt.tp_dst);
    SctpSrc "sctp_src" [] 16/2 Bitwise Decimal Sctp rw [oxm("OXM_OF_SCTP_SRC", 17, 3)] @ (pkt.tp_src);
    SctpDst "sctp_dst" [] 16/2 Bitwise Decimal Sctp rw [oxm("OXM_OF_SCTP_DST", 18, 3)] @ (pkt.tp_dst);
    IcmpType "icmp_type" [] 8/1 Exact Decimal Icmp rw
        [nxm_of("NXM_OF_ICMP_TYPE", 13), oxm("OXM_OF_ICMPV4_TYPE", 19, 3)] @ (pkt.tp_src);
    IcmpCode "icmp_code" [] 8/1 Exact Decimal Icmp rw
        [nxm_of("NXM_OF_ICMP_CODE", 14), oxm("OXM_OF_ICMPV4_CODE", 20, 3)] @ (pkt.tp_dst);
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
    NdReserved "nd_reserved" [] 32/4 Exact Hex Nd rw [] @ (pkt.nd_reserved);
    NdOptionsType "nd_options_type" [] 8/1 Exact Decimal Nd rw [] @ (pkt.nd_options_type);
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
