//! Errors: THE table of what OpenFlow's error messages can say, and the errors of this crate.
//!
//! A row is a name and its numbers in each version; some exist in old versions only as Nicira's or
//! the ONF's extensions. Source: OpenFlow 1.0 to 1.5 §7.5.4; what OVS adds was read off
//! `ovs-ofctl ofp-print`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::version::Version;
use crate::wire::{Put, Reader};

/// Numbers of an error in the versions `lo` to `hi`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Code {
    lo: u8,
    hi: u8,
    /// 0, or the vendor.
    vendor: u32,
    typ: u16,
    code: u16,
}

const NX: u32 = 0x2320;
const ONF: u32 = 0x4f4e_4600;

const fn std(lo: u8, hi: u8, typ: u16, code: u16) -> Code {
    Code { lo, hi, vendor: 0, typ, code }
}
const fn nx(lo: u8, hi: u8, typ: u16, code: u16) -> Code {
    Code { lo, hi, vendor: NX, typ, code }
}
const fn onf(lo: u8, hi: u8, typ: u16, code: u16) -> Code {
    Code { lo, hi, vendor: ONF, typ, code }
}

macro_rules! errors {
    ($($name:ident [$($code:expr),*];)*) => {
        /// An error by its name.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs, non_camel_case_types)] // the names are the specification's
        #[repr(u16)]
        pub enum OfError { $($name),* }

        /// The table.
        static ERRORS: &[(OfError, &str, &[Code])] =
            &[$((OfError::$name, stringify!($name), &[$($code),*])),*];
    };
}

errors! {
    OFPHFC_INCOMPATIBLE [std(1, 6, 0, 0)];
    OFPHFC_EPERM [std(1, 6, 0, 1)];
    OFPBRC_BAD_VERSION [std(1, 6, 1, 0)];
    OFPBRC_BAD_TYPE [std(1, 6, 1, 1)];
    OFPBRC_BAD_STAT [std(1, 6, 1, 2)];
    OFPBRC_BAD_VENDOR [std(1, 6, 1, 3)];
    OFPBRC_BAD_SUBTYPE [std(1, 6, 1, 4)];
    OFPBRC_EPERM [std(1, 6, 1, 5)];
    OFPBRC_BAD_LEN [std(1, 6, 1, 6)];
    OFPBRC_BUFFER_EMPTY [std(1, 6, 1, 7)];
    OFPBRC_BUFFER_UNKNOWN [std(1, 6, 1, 8)];
    OFPBRC_BAD_TABLE_ID [std(2, 6, 1, 9), nx(1, 1, 1, 512)];
    OFPBRC_IS_SECONDARY [std(3, 6, 1, 10)];
    OFPBRC_BAD_PORT [std(3, 6, 1, 11), nx(1, 2, 1, 514)];
    OFPBRC_BAD_PACKET [std(3, 6, 1, 12)];
    OFPBRC_MULTIPART_BUFFER_OVERFLOW [std(4, 6, 1, 13)];
    OFPBRC_MULTIPART_REQUEST_TIMEOUT [std(5, 6, 1, 14), onf(4, 4, 2640, 0)];
    OFPBRC_MULTIPART_REPLY_TIMEOUT [std(5, 6, 1, 15), onf(4, 4, 2641, 0)];
    OFPBRC_MULTIPART_BAD_SCHED [std(6, 6, 1, 16)];
    OFPBRC_PIPELINE_FIELDS_ONLY [std(6, 6, 1, 17)];
    OFPBRC_UNKNOWN [std(6, 6, 1, 18)];
    OFPBAC_BAD_TYPE [std(1, 6, 2, 0)];
    OFPBAC_BAD_LEN [std(1, 6, 2, 1)];
    OFPBAC_BAD_VENDOR [std(1, 6, 2, 2)];
    OFPBAC_BAD_VENDOR_TYPE [std(1, 6, 2, 3)];
    OFPBAC_BAD_OUT_PORT [std(1, 6, 2, 4)];
    OFPBAC_BAD_ARGUMENT [std(1, 6, 2, 5)];
    OFPBAC_EPERM [std(1, 6, 2, 6)];
    OFPBAC_TOO_MANY [std(1, 6, 2, 7)];
    OFPBAC_BAD_QUEUE [std(1, 6, 2, 8)];
    OFPBAC_BAD_OUT_GROUP [std(2, 6, 2, 9), nx(1, 1, 2, 9)];
    OFPBAC_MATCH_INCONSISTENT [std(2, 6, 2, 10), nx(1, 1, 1, 522)];
    OFPBAC_UNSUPPORTED_ORDER [std(2, 6, 2, 11)];
    OFPBAC_BAD_TAG [std(2, 6, 2, 12)];
    OFPBAC_BAD_SET_TYPE [std(3, 6, 2, 13), nx(1, 2, 1, 523)];
    OFPBAC_BAD_SET_LEN [std(3, 6, 2, 14), nx(1, 2, 1, 524)];
    OFPBAC_BAD_SET_ARGUMENT [std(3, 6, 2, 15), nx(1, 2, 1, 525)];
    OFPBAC_BAD_SET_MASK [std(6, 6, 2, 16), onf(4, 5, 4250, 0)];
    OFPBAC_BAD_METER [std(6, 6, 2, 17)];
    OFPFMFC_TABLE_FULL [std(1, 1, 3, 0), std(2, 6, 5, 1)];
    OFPBIC_UNKNOWN_INST [std(2, 6, 3, 0)];
    OFPFMFC_OVERLAP [std(1, 1, 3, 1), std(2, 6, 5, 3)];
    OFPBIC_UNSUP_INST [std(2, 6, 3, 1), nx(1, 1, 2, 257)];
    OFPFMFC_EPERM [std(1, 1, 3, 2), std(2, 6, 5, 4)];
    OFPBIC_BAD_TABLE_ID [std(2, 6, 3, 2)];
    OFPFMFC_BAD_EMERG_TIMEOUT [std(1, 1, 3, 3)];
    OFPBIC_UNSUP_METADATA [std(2, 6, 3, 3)];
    OFPFMFC_BAD_COMMAND [std(1, 1, 3, 4), std(2, 6, 5, 6)];
    OFPBIC_UNSUP_METADATA_MASK [std(2, 6, 3, 4)];
    OFPFMFC_UNSUPPORTED [std(1, 1, 3, 5)];
    OFPBIC_BAD_EXPERIMENTER [std(2, 6, 3, 5)];
    OFPBIC_BAD_EXP_TYPE [std(2, 2, 3, 5), std(3, 6, 3, 6)];
    OFPBIC_BAD_LEN [std(3, 6, 3, 7)];
    OFPBIC_EPERM [std(3, 6, 3, 8)];
    OFPBIC_DUP_INST [std(5, 6, 3, 9), nx(2, 2, 3, 256), onf(3, 4, 2600, 0)];
    OFPPMFC_BAD_PORT [std(1, 1, 4, 0), std(2, 6, 7, 0)];
    OFPBMC_BAD_TYPE [std(2, 6, 4, 0)];
    OFPPMFC_BAD_HW_ADDR [std(1, 1, 4, 1), std(2, 6, 7, 1)];
    OFPBMC_BAD_LEN [std(2, 6, 4, 1)];
    OFPBMC_BAD_TAG [std(2, 6, 4, 2)];
    OFPBMC_BAD_DL_ADDR_MASK [std(2, 6, 4, 3)];
    OFPBMC_BAD_NW_ADDR_MASK [std(2, 6, 4, 4)];
    OFPBMC_BAD_WILDCARDS [std(2, 6, 4, 5), nx(1, 1, 1, 262)];
    OFPBMC_BAD_FIELD [std(2, 6, 4, 6), nx(1, 1, 0, 263)];
    OFPBMC_BAD_VALUE [std(2, 6, 4, 7), nx(1, 1, 1, 258)];
    OFPBMC_BAD_MASK [std(3, 6, 4, 8), nx(1, 2, 1, 259)];
    OFPBMC_BAD_PREREQ [std(3, 6, 4, 9), nx(1, 2, 1, 260)];
    OFPBMC_DUP_FIELD [std(3, 6, 4, 10), nx(1, 2, 1, 261)];
    OFPBMC_EPERM [std(3, 6, 4, 11)];
    OFPQOFC_BAD_PORT [std(1, 1, 5, 0), std(2, 6, 9, 0)];
    OFPFMFC_UNKNOWN [std(2, 6, 5, 0)];
    OFPQOFC_BAD_QUEUE [std(1, 1, 5, 1), std(2, 6, 9, 1)];
    OFPQOFC_EPERM [std(1, 1, 5, 2), std(2, 6, 9, 2)];
    OFPFMFC_BAD_TABLE_ID [std(2, 6, 5, 2)];
    OFPFMFC_BAD_TIMEOUT [std(2, 6, 5, 5)];
    OFPFMFC_BAD_FLAGS [std(3, 6, 5, 7), nx(1, 1, 3, 258), nx(2, 2, 5, 258)];
    OFPFMFC_CANT_SYNC [std(5, 6, 5, 8)];
    OFPFMFC_BAD_PRIORITY [std(5, 6, 5, 9)];
    OFPFMFC_IS_SYNC [std(5, 6, 5, 10)];
    OFPGMFC_GROUP_EXISTS [std(2, 6, 6, 0), nx(1, 1, 6, 0)];
    OFPGMFC_INVALID_GROUP [std(2, 6, 6, 1), nx(1, 1, 6, 1)];
    OFPGMFC_WEIGHT_UNSUPPORTED [std(2, 6, 6, 2), nx(1, 1, 6, 2)];
    OFPGMFC_OUT_OF_GROUPS [std(2, 6, 6, 3), nx(1, 1, 6, 3)];
    OFPGMFC_OUT_OF_BUCKETS [std(2, 6, 6, 4), nx(1, 1, 6, 4)];
    OFPGMFC_CHAINING_UNSUPPORTED [std(2, 6, 6, 5), nx(1, 1, 6, 5)];
    OFPGMFC_WATCH_UNSUPPORTED [std(2, 6, 6, 6), nx(1, 1, 6, 6)];
    OFPGMFC_LOOP [std(2, 6, 6, 7), nx(1, 1, 6, 7)];
    OFPGMFC_UNKNOWN_GROUP [std(2, 6, 6, 8), nx(1, 1, 6, 8)];
    OFPGMFC_CHAINED_GROUP [std(3, 6, 6, 9), nx(1, 1, 6, 9)];
    OFPGMFC_BAD_TYPE [std(3, 6, 6, 10), nx(1, 1, 6, 10)];
    OFPGMFC_BAD_COMMAND [std(3, 6, 6, 11), nx(1, 1, 6, 11)];
    OFPGMFC_BAD_BUCKET [std(3, 6, 6, 12), nx(1, 1, 6, 12)];
    OFPGMFC_BAD_WATCH [std(3, 6, 6, 13), nx(1, 1, 6, 13)];
    OFPGMFC_EPERM [std(3, 6, 6, 14), nx(1, 1, 6, 14)];
    OFPGMFC_UNKNOWN_BUCKET [std(6, 6, 6, 15), nx(1, 1, 6, 15)];
    OFPGMFC_BUCKET_EXISTS [std(6, 6, 6, 16), nx(1, 1, 6, 16)];
    OFPPMFC_BAD_CONFIG [std(2, 6, 7, 2)];
    OFPPMFC_BAD_ADVERTISE [std(2, 6, 7, 3)];
    OFPPMFC_EPERM [std(3, 6, 7, 4)];
    OFPTMFC_BAD_TABLE [std(2, 6, 8, 0)];
    OFPTMFC_BAD_CONFIG [std(2, 6, 8, 1)];
    OFPTMFC_EPERM [std(3, 6, 8, 2)];
    OFPSCFC_BAD_FLAGS [std(2, 6, 10, 0)];
    OFPSCFC_BAD_LEN [std(2, 6, 10, 1)];
    OFPSCFC_EPERM [std(3, 6, 10, 2)];
    OFPRRFC_STALE [std(3, 6, 11, 0)];
    OFPRRFC_UNSUP [std(3, 6, 11, 1)];
    OFPRRFC_BAD_ROLE [std(3, 6, 11, 2), nx(1, 2, 1, 513)];
    OFPRRFC_ID_UNSUP [std(6, 6, 11, 3)];
    OFPRRFC_ID_IN_USE [std(6, 6, 11, 4)];
    OFPMMFC_UNKNOWN [std(4, 6, 12, 0)];
    OFPMMFC_METER_EXISTS [std(4, 6, 12, 1)];
    OFPMMFC_INVALID_METER [std(4, 6, 12, 2)];
    OFPMMFC_UNKNOWN_METER [std(4, 6, 12, 3)];
    OFPMMFC_BAD_COMMAND [std(4, 6, 12, 4)];
    OFPMMFC_BAD_FLAGS [std(4, 6, 12, 5)];
    OFPMMFC_BAD_RATE [std(4, 6, 12, 6)];
    OFPMMFC_BAD_BURST [std(4, 6, 12, 7)];
    OFPMMFC_BAD_BAND [std(4, 6, 12, 8)];
    OFPMMFC_BAD_BAND_VALUE [std(4, 6, 12, 9)];
    OFPMMFC_OUT_OF_METERS [std(4, 6, 12, 10)];
    OFPMMFC_OUT_OF_BANDS [std(4, 6, 12, 11)];
    OFPTFFC_BAD_TABLE [std(4, 6, 13, 0)];
    OFPTFFC_BAD_METADATA [std(4, 6, 13, 1)];
    OFPBPC_BAD_TYPE [std(4, 4, 13, 2), std(5, 6, 14, 0), nx(1, 2, 13, 2), nx(3, 3, 25, 0)];
    OFPBPC_BAD_LEN [std(4, 4, 13, 3), std(5, 6, 14, 1), nx(1, 2, 13, 3), nx(3, 3, 26, 0)];
    OFPBPC_BAD_VALUE [std(4, 4, 13, 4), std(5, 6, 14, 2), nx(1, 2, 13, 4), nx(3, 3, 27, 0)];
    OFPTFFC_EPERM [std(4, 6, 13, 5)];
    OFPTFFC_BAD_CAPA [std(6, 6, 13, 6)];
    OFPTFFC_BAD_MAX_ENT [std(6, 6, 13, 7)];
    OFPTFFC_BAD_FEATURES [std(6, 6, 13, 8)];
    OFPTFFC_BAD_COMMAND [std(6, 6, 13, 9)];
    OFPTFFC_TOO_MANY [std(6, 6, 13, 10)];
    OFPBPC_TOO_MANY [nx(1, 2, 14, 3), std(5, 6, 14, 3), nx(3, 3, 28, 0), onf(4, 4, 4443, 0)];
    OFPBPC_DUP_TYPE [nx(1, 2, 14, 4), std(5, 6, 14, 4), nx(3, 3, 29, 0), onf(4, 4, 4444, 0)];
    OFPBPC_BAD_EXPERIMENTER [nx(1, 2, 14, 5), std(5, 6, 14, 5), nx(3, 3, 30, 0), onf(4, 4, 4445, 0)];
    OFPBPC_BAD_EXP_TYPE [nx(1, 2, 14, 6), std(5, 6, 14, 6), nx(3, 3, 31, 0), onf(4, 4, 4446, 0)];
    OFPBPC_BAD_EXP_VALUE [nx(1, 2, 14, 7), std(5, 6, 14, 7), nx(3, 3, 32, 0), onf(4, 4, 4447, 0)];
    OFPBPC_EPERM [nx(1, 2, 14, 8), std(5, 6, 14, 8), nx(3, 3, 33, 0), onf(4, 4, 4448, 0)];
    OFPACFC_INVALID [std(5, 6, 15, 0)];
    OFPACFC_UNSUPPORTED [std(5, 6, 15, 1)];
    OFPACFC_EPERM [std(5, 6, 15, 2)];
    OFPMOFC_UNKNOWN [std(5, 6, 16, 0)];
    OFPMOFC_MONITOR_EXISTS [std(5, 6, 16, 1), nx(1, 2, 1, 517), nx(3, 4, 6, 0)];
    OFPMOFC_INVALID_MONITOR [std(5, 6, 16, 2)];
    OFPMOFC_UNKNOWN_MONITOR [std(5, 6, 16, 3), nx(1, 2, 1, 519), nx(3, 4, 8, 0)];
    OFPMOFC_BAD_COMMAND [std(5, 6, 16, 4)];
    OFPMOFC_BAD_FLAGS [std(5, 6, 16, 5), nx(1, 2, 1, 518), nx(3, 4, 7, 0)];
    OFPMOFC_BAD_TABLE_ID [std(5, 6, 16, 6)];
    OFPMOFC_BAD_OUT [std(5, 6, 16, 7)];
    OFPBFC_UNKNOWN [std(5, 6, 17, 0), onf(4, 4, 2300, 0)];
    OFPBFC_EPERM [std(5, 6, 17, 1), onf(4, 4, 2301, 0)];
    OFPBFC_BAD_ID [std(5, 6, 17, 2), onf(4, 4, 2302, 0)];
    OFPBFC_BUNDLE_EXIST [std(5, 6, 17, 3), onf(4, 4, 2303, 0)];
    OFPBFC_BUNDLE_CLOSED [std(5, 6, 17, 4), onf(4, 4, 2304, 0)];
    OFPBFC_OUT_OF_BUNDLES [std(5, 6, 17, 5), onf(4, 4, 2305, 0)];
    OFPBFC_BAD_TYPE [std(5, 6, 17, 6), onf(4, 4, 2306, 0)];
    OFPBFC_BAD_FLAGS [std(5, 6, 17, 7), onf(4, 4, 2307, 0)];
    OFPBFC_MSG_BAD_LEN [std(5, 6, 17, 8), onf(4, 4, 2308, 0)];
    OFPBFC_MSG_BAD_XID [std(5, 6, 17, 9), onf(4, 4, 2309, 0)];
    OFPBFC_MSG_UNSUP [std(5, 6, 17, 10), onf(4, 4, 2310, 0)];
    OFPBFC_MSG_CONFLICT [std(5, 6, 17, 11), onf(4, 4, 2311, 0)];
    OFPBFC_MSG_TOO_MANY [std(5, 6, 17, 12), onf(4, 4, 2312, 0)];
    OFPBFC_MSG_FAILED [std(5, 6, 17, 13), onf(4, 4, 2313, 0)];
    OFPBFC_TIMEOUT [std(5, 6, 17, 14), onf(4, 4, 2314, 0)];
    OFPBFC_BUNDLE_IN_PROGRESS [std(5, 6, 17, 15), onf(4, 4, 2315, 0)];
    OFPBFC_SCHED_NOT_SUPPORTED [std(6, 6, 17, 16)];
    OFPBFC_SCHED_FUTURE [std(6, 6, 17, 17)];
    OFPBFC_SCHED_PAST [std(6, 6, 17, 18)];
    NXBRC_NXM_INVALID [nx(1, 2, 1, 256), nx(3, 6, 2, 0)];
    NXBRC_NXM_BAD_TYPE [nx(1, 2, 1, 257), nx(3, 6, 3, 0)];
    NXBMC_CT_DATAPATH_SUPPORT [nx(1, 2, 1, 264), nx(3, 6, 43, 0)];
    NXBAC_CT_DATAPATH_SUPPORT [nx(1, 2, 1, 265), nx(3, 6, 42, 0)];
    NXBRC_MUST_BE_ZERO [nx(1, 2, 1, 515), nx(3, 6, 4, 0)];
    NXBRC_BAD_REASON [nx(1, 2, 1, 516), nx(3, 6, 5, 0)];
    NXBRC_FM_BAD_EVENT [nx(1, 2, 1, 520), nx(3, 6, 9, 0)];
    NXBRC_UNENCODABLE_ERROR [nx(1, 2, 1, 521), nx(3, 6, 10, 0)];
    NXTTMFC_BAD_COMMAND [nx(1, 2, 1, 527), nx(3, 6, 16, 0)];
    NXTTMFC_BAD_OPT_LEN [nx(1, 2, 1, 528), nx(3, 6, 17, 0)];
    NXTTMFC_BAD_FIELD_IDX [nx(1, 2, 1, 529), nx(3, 6, 18, 0)];
    NXTTMFC_TABLE_FULL [nx(1, 2, 1, 530), nx(3, 6, 19, 0)];
    NXTTMFC_ALREADY_MAPPED [nx(1, 2, 1, 531), nx(3, 6, 20, 0)];
    NXTTMFC_DUP_ENTRY [nx(1, 2, 1, 532), nx(3, 6, 21, 0)];
    NXR_NOT_SUPPORTED [nx(1, 2, 1, 533), nx(3, 6, 34, 0)];
    NXR_STALE [nx(1, 2, 1, 534), nx(3, 6, 35, 0)];
    NXST_NOT_CONFIGURED [nx(1, 2, 1, 535), nx(3, 6, 36, 0)];
    NXBAC_MUST_BE_ZERO [nx(1, 2, 2, 256), nx(3, 6, 11, 0)];
    NXBAC_BAD_CONJUNCTION [nx(1, 2, 2, 526), nx(3, 6, 15, 0)];
    NXFMFC_HARDWARE [nx(1, 2, 5, 256), nx(3, 6, 12, 0)];
    NXFMFC_BAD_TABLE_ID [nx(1, 2, 5, 257), nx(3, 6, 13, 0)];
    OFPBFC_BAD_VERSION [nx(5, 6, 22, 0)];
    NXQOFC_QUEUE_ERROR [nx(5, 6, 23, 0)];
    NXFMFC_INVALID_TLV_FIELD [nx(1, 2, 1, 536), nx(3, 6, 37, 0)];
    NXTTMFC_INVALID_TLV_DEL [nx(1, 2, 1, 537), nx(3, 6, 38, 0)];
    NXBAC_BAD_HEADER_TYPE [nx(4, 6, 39, 0)];
    NXBAC_UNKNOWN_ED_PROP [nx(4, 6, 40, 0)];
    NXBAC_BAD_ED_PROP [nx(4, 6, 41, 0)];
    NXTFFC_DUP_TABLE [nx(4, 6, 44, 0)];
}

/// Type of a vendor's error in 1.0 and 1.1 (`NXET_VENDOR`).
const NXET_VENDOR: u16 = 0xb0c2;
/// Type of an experimenter's error in 1.2+.
const EXPERIMENTER: u16 = 0xffff;

impl OfError {
    /// All errors.
    pub fn all() -> impl Iterator<Item = OfError> {
        ERRORS.iter().map(|r| r.0)
    }

    /// Its name, e.g. `OFPBRC_EPERM`.
    pub fn name(self) -> &'static str {
        ERRORS[self as usize].1
    }

    /// Whether the version has it.
    pub fn in_version(self, v: Version) -> bool {
        ERRORS[self as usize].2.iter().any(|c| c.lo <= v as u8 && v as u8 <= c.hi)
    }

    /// Vendor (0 for none), type and code in a version that has it.
    pub fn numbers(self, v: Version) -> Option<(u32, u16, u16)> {
        let fits = |c: &&Code| c.lo <= v as u8 && v as u8 <= c.hi;
        ERRORS[self as usize].2.iter().find(fits).map(|c| (c.vendor, c.typ, c.code))
    }

    /// Writes type and code, with what goes between header and data. What the version cannot say
    /// becomes `NXBRC_UNENCODABLE_ERROR`.
    pub fn put(self, out: &mut Vec<u8>, v: Version) {
        let fits = |c: &&Code| c.lo <= v as u8 && v as u8 <= c.hi;
        let find = |e: OfError| ERRORS[e as usize].2.iter().find(fits);
        let Some(c) = find(self).or_else(|| find(OfError::NXBRC_UNENCODABLE_ERROR)) else { return };
        if c.vendor == 0 {
            out.put16(c.typ);
            out.put16(c.code);
        } else if v <= Version::Of11 {
            out.put16(NXET_VENDOR);
            out.put16(0);
            out.put32(c.vendor);
            out.put16(c.typ);
            out.put16(c.code);
        } else {
            out.put16(EXPERIMENTER);
            out.put16(c.typ);
            out.put32(c.vendor);
        }
    }

    /// Reads type and code. `None` for one that is not in the table.
    pub fn read(r: &mut Reader<'_>, v: Version) -> Result<Option<OfError>, DecodeError> {
        let (mut typ, mut code) = (r.u16()?, r.u16()?);
        let mut vendor = 0;
        if typ == NXET_VENDOR && v <= Version::Of11 {
            vendor = r.u32()?;
            (typ, code) = (r.u16()?, r.u16()?);
        } else if typ == EXPERIMENTER && v >= Version::Of12 {
            (typ, code, vendor) = (code, 0, r.u32()?);
        }
        let same = |c: &Code| {
            c.lo <= v as u8 && v as u8 <= c.hi && (c.vendor, c.typ, c.code) == (vendor, typ, code)
        };
        Ok(ERRORS.iter().find(|row| row.2.iter().any(same)).map(|row| row.0))
    }
}

/// The name.
impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are no message: the error to answer with, and where in the message it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error} at byte {at}")]
pub struct DecodeError {
    /// What to answer.
    pub error: OfError,
    /// Offset of the byte in the message.
    pub at: usize,
}

/// Why something cannot be said in a version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// A field has no wire form.
    #[error("field {0} cannot be said in this version of OpenFlow")]
    Field(&'static str),
    /// An action has no wire form.
    #[error("action {0} cannot be said in this version of OpenFlow")]
    Action(&'static str),
    /// A message has no wire form.
    #[error("{0} cannot be said in this version of OpenFlow")]
    Message(&'static str),
    /// Longer than a message may be.
    #[error("{0} is longer than 65535 bytes")]
    TooLong(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_every_version_that_has_it() {
        for e in OfError::all() {
            for v in Version::ALL.into_iter().filter(|&v| e.in_version(v)) {
                let mut out = Vec::new();
                e.put(&mut out, v);
                let read = OfError::read(&mut Reader::new(&out, 0), v).unwrap().unwrap();
                // 1.1 has one number for both.
                let shares = (e, v) == (OfError::OFPBIC_BAD_EXP_TYPE, Version::Of11);
                let e = if shares { OfError::OFPBIC_BAD_EXPERIMENTER } else { e };
                assert_eq!(read, e, "{v}");
            }
        }
    }

    #[test]
    fn what_a_version_lacks_is_said_so() {
        let mut out = Vec::new();
        OfError::OFPBFC_TIMEOUT.put(&mut out, Version::Of10);
        let e = OfError::read(&mut Reader::new(&out, 0), Version::Of10);
        assert_eq!(e, Ok(Some(OfError::NXBRC_UNENCODABLE_ERROR)));
        assert_eq!(OfError::OFPBRC_EPERM.name(), "OFPBRC_EPERM");
    }
}
