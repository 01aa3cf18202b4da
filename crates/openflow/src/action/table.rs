//! THE table of actions: names, and what each is called on the wire of each version.
//!
//! Source: OpenFlow 1.0 §5.2.4 to 1.5 §7.2.6, `ovs-actions(7)`.

use crate::version::Version;

/// A wire encoding.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // named by their rows
pub enum Raw {
    Output10,
    Output,
    Enqueue10,
    SetVlanVid,
    SetVlanPcp,
    StripVlan,
    PushVlan,
    SetEthSrc,
    SetEthDst,
    SetIpv4Src,
    SetIpv4Dst,
    SetNwTos,
    SetNwEcn,
    SetNwTtl,
    SetL4Src,
    SetL4Dst,
    SetMplsLabel,
    NxSetMplsLabel,
    SetMplsTc,
    SetMplsTtl,
    DecMplsTtl,
    PushMpls,
    PopMpls,
    SetQueue,
    NxSetQueue,
    PopQueue,
    Group,
    NxGroup,
    DecTtl,
    DecTtlCntIds,
    SetField,
    CopyField,
    RegLoad,
    RegLoad2,
    RegMove,
    StackPush,
    StackPop,
    OutputReg,
    OutputReg2,
    OutputTrunc,
    Controller,
    Controller2,
    SetTunnel,
    SetTunnel64,
    Resubmit,
    ResubmitTable,
    ResubmitTableCt,
    Ct,
    CtClear,
    Nat,
    Learn,
    Learn2,
    Conjunction,
    Multipath,
    Bundle,
    BundleLoad,
    Note,
    Exit,
    Clone,
    Sample,
    Sample2,
    Sample3,
    Sample4,
    FinTimeout,
    CheckPktLarger,
    DeleteField,
    Encap,
    Decap,
    DecNshTtl,
    DebugSlow,
    DebugRecirc,
    NxWriteMetadata,
    Meter,
}

impl Raw {
    /// Whether it may be longer than what it says, by zeros or by parts that are told one after the other.
    pub fn has_any_length(self) -> bool {
        use Raw as R;
        matches!(
            self,
            R::SetField
                | R::RegLoad2
                | R::DecTtlCntIds
                | R::Controller2
                | R::Ct
                | R::Nat
                | R::Learn
                | R::Learn2
                | R::Bundle
                | R::BundleLoad
                | R::Note
                | R::Clone
                | R::CopyField
                | R::Encap
                | R::DeleteField
        )
    }
}

const NX: u32 = 0x2320;
const ONF: u32 = 0x4f4e_4600;

/// Encoding, vendor (0: standard), first and last version, type.
type Row = (Raw, u32, u8, u8, u16);

/// The wire types. Those of 1.1 that set a header field are deprecated in 1.2 and later, but taken.
pub static WIRE: &[Row] = &[
    (Raw::Output10, 0, 1, 1, 0),
    (Raw::Output, 0, 2, 6, 0),
    (Raw::SetVlanVid, 0, 1, 6, 1),
    (Raw::SetVlanPcp, 0, 1, 6, 2),
    (Raw::StripVlan, 0, 1, 1, 3),
    (Raw::SetEthSrc, 0, 1, 1, 4),
    (Raw::SetEthDst, 0, 1, 1, 5),
    (Raw::SetIpv4Src, 0, 1, 1, 6),
    (Raw::SetIpv4Dst, 0, 1, 1, 7),
    (Raw::SetNwTos, 0, 1, 1, 8),
    (Raw::SetL4Src, 0, 1, 1, 9),
    (Raw::SetL4Dst, 0, 1, 1, 10),
    (Raw::Enqueue10, 0, 1, 1, 11),
    (Raw::SetEthSrc, 0, 2, 6, 3),
    (Raw::SetEthDst, 0, 2, 6, 4),
    (Raw::SetIpv4Src, 0, 2, 6, 5),
    (Raw::SetIpv4Dst, 0, 2, 6, 6),
    (Raw::SetNwTos, 0, 2, 6, 7),
    (Raw::SetNwEcn, 0, 2, 6, 8),
    (Raw::SetL4Src, 0, 2, 6, 9),
    (Raw::SetL4Dst, 0, 2, 6, 10),
    (Raw::SetMplsLabel, 0, 2, 6, 13),
    (Raw::SetMplsTc, 0, 2, 6, 14),
    (Raw::SetMplsTtl, 0, 2, 6, 15),
    (Raw::DecMplsTtl, 0, 2, 6, 16),
    (Raw::PushVlan, 0, 2, 6, 17),
    (Raw::StripVlan, 0, 2, 6, 18),
    (Raw::PushMpls, 0, 2, 6, 19),
    (Raw::PopMpls, 0, 2, 6, 20),
    (Raw::SetQueue, 0, 2, 6, 21),
    (Raw::Group, 0, 2, 6, 22),
    (Raw::SetNwTtl, 0, 2, 6, 23),
    (Raw::DecTtl, 0, 2, 6, 24),
    (Raw::SetField, 0, 3, 6, 25),
    (Raw::CopyField, 0, 6, 6, 28),
    (Raw::Meter, 0, 6, 6, 29),
    (Raw::Resubmit, NX, 1, 6, 1),
    (Raw::SetTunnel, NX, 1, 6, 2),
    (Raw::NxSetQueue, NX, 1, 6, 4),
    (Raw::PopQueue, NX, 1, 6, 5),
    (Raw::RegMove, NX, 1, 6, 6),
    (Raw::RegLoad, NX, 1, 6, 7),
    (Raw::Note, NX, 1, 6, 8),
    (Raw::SetTunnel64, NX, 1, 6, 9),
    (Raw::Multipath, NX, 1, 6, 10),
    (Raw::Bundle, NX, 1, 6, 12),
    (Raw::BundleLoad, NX, 1, 6, 13),
    (Raw::ResubmitTable, NX, 1, 6, 14),
    (Raw::OutputReg, NX, 1, 6, 15),
    (Raw::Learn, NX, 1, 6, 16),
    (Raw::Exit, NX, 1, 6, 17),
    (Raw::DecTtl, NX, 1, 6, 18),
    (Raw::FinTimeout, NX, 1, 6, 19),
    (Raw::Controller, NX, 1, 6, 20),
    (Raw::DecTtlCntIds, NX, 1, 6, 21),
    (Raw::NxWriteMetadata, NX, 1, 6, 22),
    (Raw::PushMpls, NX, 1, 6, 23),
    (Raw::PopMpls, NX, 1, 6, 24),
    (Raw::SetMplsTtl, NX, 1, 6, 25),
    (Raw::DecMplsTtl, NX, 1, 6, 26),
    (Raw::StackPush, NX, 1, 6, 27),
    (Raw::StackPop, NX, 1, 6, 28),
    (Raw::Sample, NX, 1, 6, 29),
    (Raw::NxSetMplsLabel, NX, 1, 6, 30),
    (Raw::SetMplsTc, NX, 1, 6, 31),
    (Raw::OutputReg2, NX, 1, 6, 32),
    (Raw::RegLoad2, NX, 1, 6, 33),
    (Raw::Conjunction, NX, 1, 6, 34),
    (Raw::Ct, NX, 1, 6, 35),
    (Raw::Nat, NX, 1, 6, 36),
    (Raw::Controller2, NX, 1, 6, 37),
    (Raw::Sample2, NX, 1, 6, 38),
    (Raw::OutputTrunc, NX, 1, 6, 39),
    (Raw::NxGroup, NX, 1, 1, 40),
    (Raw::Sample3, NX, 1, 6, 41),
    (Raw::Clone, NX, 1, 6, 42),
    (Raw::CtClear, NX, 1, 6, 43),
    (Raw::ResubmitTableCt, NX, 1, 6, 44),
    (Raw::Learn2, NX, 1, 6, 45),
    (Raw::Encap, NX, 4, 6, 46),
    (Raw::Decap, NX, 4, 6, 47),
    (Raw::DecNshTtl, NX, 4, 6, 48),
    (Raw::DebugSlow, NX, 1, 6, 254),
    (Raw::DebugRecirc, NX, 1, 6, 255),
    (Raw::CheckPktLarger, NX, 1, 6, 49),
    (Raw::DeleteField, NX, 1, 6, 50),
    (Raw::Sample4, NX, 1, 6, 51),
    (Raw::CopyField, ONF, 4, 5, 3200),
];

/// The encoding with this vendor (0: none) and type.
pub fn raw_of(vendor: u32, code: u16, v: Version) -> Option<Raw> {
    let v = v as u8;
    WIRE.iter().find(|r| r.1 == vendor && r.4 == code && r.2 <= v && v <= r.3).map(|r| r.0)
}

/// Vendor and type of an encoding, the standard one if the version has both.
pub fn wire_of(raw: Raw, v: Version) -> Option<(u32, u16)> {
    let v = v as u8;
    WIRE.iter().find(|r| r.0 == raw && r.2 <= v && v <= r.3).map(|r| (r.1, r.4))
}

/// Whether the version has the encoding in its standard.
pub fn is_standard(raw: Raw, v: Version) -> bool {
    wire_of(raw, v).is_some_and(|w| w.0 == 0)
}

/// Actions that features replies name in a bitmap, in OVS's order: name, encodings, and the
/// last version that names it; from 1.2 on `set_field` is named for what it does.
const IN_BITMAPS: [(&str, &[Raw], Version); 25] = [
    ("output", &[Raw::Output10, Raw::Output], Version::Of15),
    ("group", &[Raw::Group], Version::Of15),
    ("enqueue", &[Raw::Enqueue10], Version::Of15),
    ("set_field", &[Raw::SetField], Version::Of15),
    ("set_vlan_vid", &[Raw::SetVlanVid], Version::Of11),
    ("set_vlan_pcp", &[Raw::SetVlanPcp], Version::Of11),
    ("strip_vlan", &[Raw::StripVlan], Version::Of15),
    ("push_vlan", &[Raw::PushVlan], Version::Of15),
    ("mod_dl_src", &[Raw::SetEthSrc], Version::Of11),
    ("mod_dl_dst", &[Raw::SetEthDst], Version::Of11),
    ("mod_nw_src", &[Raw::SetIpv4Src], Version::Of11),
    ("mod_nw_dst", &[Raw::SetIpv4Dst], Version::Of11),
    ("mod_nw_tos", &[Raw::SetNwTos], Version::Of11),
    ("mod_nw_ecn", &[Raw::SetNwEcn], Version::Of11),
    ("mod_nw_ttl", &[Raw::SetNwTtl], Version::Of15),
    ("mod_tp_src", &[Raw::SetL4Src], Version::Of11),
    ("mod_tp_dst", &[Raw::SetL4Dst], Version::Of11),
    ("dec_ttl", &[Raw::DecTtl], Version::Of15),
    ("set_mpls_label", &[Raw::SetMplsLabel], Version::Of11),
    ("set_mpls_tc", &[Raw::SetMplsTc], Version::Of11),
    ("set_mpls_ttl", &[Raw::SetMplsTtl], Version::Of15),
    ("dec_mpls_ttl", &[Raw::DecMplsTtl], Version::Of15),
    ("push_mpls", &[Raw::PushMpls], Version::Of15),
    ("pop_mpls", &[Raw::PopMpls], Version::Of15),
    ("set_queue", &[Raw::SetQueue], Version::Of15),
];

/// The actions that a version's standard has, by name, and their bits in its bitmaps.
pub fn bitmap(v: Version) -> impl Iterator<Item = (&'static str, u32)> {
    IN_BITMAPS.iter().filter(move |row| v <= row.2).filter_map(move |(name, raws, _)| {
        let (vendor, code) = raws.iter().find_map(|r| wire_of(*r, v))?;
        (vendor == 0 && code < 32).then_some((*name, 1 << code))
    })
}
