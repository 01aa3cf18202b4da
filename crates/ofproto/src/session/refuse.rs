//! Why a request is refused, and the error that says so.

use flow::tun_metadata::TlvError;
use openflow::error::OfError;

use crate::group::GroupModError;
use crate::meter::MeterModError;
use crate::table::FlowModError;
use crate::tlv::TlvModError;

/// Why a request was refused. One row per error of OpenFlow that the switch itself finds; what is wrong
/// with a message's form is the codec's.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `OFPBRC_BAD_TYPE`
    #[error("the message is not supported")]
    BadType,
    /// `OFPBRC_BAD_STAT`
    #[error("the statistics are not supported")]
    BadStat,
    /// `OFPBRC_IS_SLAVE`
    #[error("a slave may not change the switch")]
    IsSlave,
    /// `OFPBRC_BUFFER_UNKNOWN`
    #[error("no such buffer")]
    BufferUnknown,
    /// `OFPBRC_BAD_PORT`
    #[error("no such port")]
    BadPort,
    /// `OFPBRC_BAD_TABLE_ID`
    #[error("no such table")]
    BadTable,
    /// `OFPPMFC_BAD_PORT`
    #[error("no such port")]
    PortModBadPort,
    /// `OFPPMFC_BAD_HW_ADDR`
    #[error("the port has another address")]
    PortModBadAddress,
    /// `OFPTMFC_BAD_TABLE`
    #[error("no such table")]
    TableModBadTable,
    /// `OFPTMFC_BAD_CONFIG`
    #[error("the table cannot be configured so")]
    TableModBadConfig,
    /// `OFPTMFC_EPERM`
    #[error("table 254 is the switch's own")]
    TableModPermission,
    /// `OFPBFC_BAD_ID`
    #[error("no such bundle, or one that is there already")]
    BundleBadId,
    /// `OFPBFC_BUNDLE_CLOSED`
    #[error("the bundle is closed")]
    BundleClosed,
    /// `OFPBFC_BAD_FLAGS`
    #[error("the bundle was opened with other flags")]
    BundleBadFlags,
    /// `OFPBFC_BAD_TYPE`
    #[error("no such request about bundles")]
    BundleBadType,
    /// `OFPBFC_MSG_UNSUP`
    #[error("the message cannot be in a bundle")]
    BundleUnsupported,
    /// `OFPBFC_MSG_FAILED`
    #[error("a message of the bundle failed")]
    BundleFailed,
    /// `OFPMOFC_MONITOR_EXISTS`
    #[error("there is a flow monitor with this id")]
    MonitorExists,
    /// `OFPMOFC_UNKNOWN_MONITOR`
    #[error("no such flow monitor")]
    MonitorUnknown,
    /// `NXST_NOT_CONFIGURED`
    #[error("nothing is configured to have these statistics")]
    StatsNotConfigured,
    /// `OFPTFFC_EPERM`
    #[error("tables cannot be changed so")]
    TableFeatures,
    /// `NXTFFC_DUP_TABLE`
    #[error("the same table twice")]
    TableFeaturesDuplicate,
    /// `OFPQOFC_BAD_PORT`
    #[error("no such port")]
    QueueBadPort,
    /// `OFPQOFC_BAD_QUEUE`
    #[error("no such queue")]
    QueueBadQueue,
    /// `OFPRRFC_STALE`
    #[error("the generation is older than one seen before")]
    RoleStale,
    /// `OFPRRFC_BAD_ROLE`
    #[error("no such role")]
    RoleBad,
    /// Of a change to the table of tunnel options.
    #[error(transparent)]
    Tlv(#[from] TlvModError),
    /// `NXR_STALE`
    #[error("the bridge where the packet paused is gone")]
    ResumeStale,
    /// What a paused packet is to go on with cannot be read.
    #[error("the continuation is damaged")]
    Continuation(OfError),
    /// Of a group mod.
    #[error(transparent)]
    Group(#[from] GroupModError),
    /// Of a meter mod.
    #[error(transparent)]
    Meter(#[from] MeterModError),
    /// Of a flow mod or its actions.
    #[error(transparent)]
    Flow(#[from] FlowModError),
}

impl Refusal {
    /// The error on the wire.
    pub fn error(self) -> OfError {
        use OfError as E;
        match self {
            Refusal::BadType => E::OFPBRC_BAD_TYPE,
            Refusal::BadStat => E::OFPBRC_BAD_STAT,
            Refusal::IsSlave => E::OFPBRC_IS_SECONDARY,
            Refusal::BufferUnknown => E::OFPBRC_BUFFER_UNKNOWN,
            Refusal::BadPort => E::OFPBRC_BAD_PORT,
            Refusal::BadTable => E::OFPBRC_BAD_TABLE_ID,
            Refusal::PortModBadPort => E::OFPPMFC_BAD_PORT,
            Refusal::PortModBadAddress => E::OFPPMFC_BAD_HW_ADDR,
            Refusal::TableModBadTable => E::OFPTMFC_BAD_TABLE,
            Refusal::TableModBadConfig => E::OFPTMFC_BAD_CONFIG,
            Refusal::TableModPermission => E::OFPTMFC_EPERM,
            Refusal::BundleBadId => E::OFPBFC_BAD_ID,
            Refusal::BundleClosed => E::OFPBFC_BUNDLE_CLOSED,
            Refusal::BundleBadFlags => E::OFPBFC_BAD_FLAGS,
            Refusal::BundleBadType => E::OFPBFC_BAD_TYPE,
            Refusal::BundleUnsupported => E::OFPBFC_MSG_UNSUP,
            Refusal::BundleFailed => E::OFPBFC_MSG_FAILED,
            Refusal::MonitorExists => E::OFPMOFC_MONITOR_EXISTS,
            Refusal::MonitorUnknown => E::OFPMOFC_UNKNOWN_MONITOR,
            Refusal::StatsNotConfigured => E::NXST_NOT_CONFIGURED,
            Refusal::TableFeatures => E::OFPTFFC_EPERM,
            Refusal::TableFeaturesDuplicate => E::NXTFFC_DUP_TABLE,
            Refusal::QueueBadPort => E::OFPQOFC_BAD_PORT,
            Refusal::QueueBadQueue => E::OFPQOFC_BAD_QUEUE,
            Refusal::RoleStale => E::OFPRRFC_STALE,
            Refusal::RoleBad => E::OFPRRFC_BAD_ROLE,
            Refusal::Tlv(e) => match e {
                TlvModError::Map(TlvError::BadOptLen) => E::NXTTMFC_BAD_OPT_LEN,
                TlvModError::Map(TlvError::BadFieldIdx) => E::NXTTMFC_BAD_FIELD_IDX,
                TlvModError::Map(TlvError::TableFull) => E::NXTTMFC_TABLE_FULL,
                TlvModError::Map(TlvError::AlreadyMapped) => E::NXTTMFC_ALREADY_MAPPED,
                TlvModError::Map(TlvError::DupEntry) => E::NXTTMFC_DUP_ENTRY,
                TlvModError::InUse => E::NXTTMFC_INVALID_TLV_DEL,
            },
            Refusal::ResumeStale => E::NXR_STALE,
            Refusal::Continuation(e) => e,
            Refusal::Group(e) => match e {
                GroupModError::Exists => E::OFPGMFC_GROUP_EXISTS,
                GroupModError::Invalid => E::OFPGMFC_INVALID_GROUP,
                GroupModError::Unknown => E::OFPGMFC_UNKNOWN_GROUP,
                GroupModError::UnknownBucket => E::OFPGMFC_UNKNOWN_BUCKET,
                GroupModError::BucketExists => E::OFPGMFC_BUCKET_EXISTS,
            },
            Refusal::Meter(e) => match e {
                MeterModError::Exists => E::OFPMMFC_METER_EXISTS,
                MeterModError::Invalid => E::OFPMMFC_INVALID_METER,
                MeterModError::Unknown => E::OFPMMFC_UNKNOWN_METER,
                MeterModError::BadFlags => E::OFPMMFC_BAD_FLAGS,
                MeterModError::BadRate => E::OFPMMFC_BAD_RATE,
                MeterModError::OutOfMeters => E::OFPMMFC_OUT_OF_METERS,
                MeterModError::OutOfBands => E::OFPMMFC_OUT_OF_BANDS,
            },
            Refusal::Flow(e) => match e {
                FlowModError::Overlap => E::OFPFMFC_OVERLAP,
                FlowModError::TableFull => E::OFPFMFC_TABLE_FULL,
                FlowModError::EmergencyTimeout => E::OFPFMFC_BAD_EMERG_TIMEOUT,
                FlowModError::BufferUnknown => E::OFPBRC_BUFFER_UNKNOWN,
                FlowModError::BadTable(_) => E::OFPBRC_BAD_TABLE_ID,
                FlowModError::Permission => E::OFPBRC_EPERM,
                FlowModError::BadOutPort(_) => E::OFPBAC_BAD_OUT_PORT,
                FlowModError::BadOutGroup(_) => E::OFPBAC_BAD_OUT_GROUP,
                FlowModError::BadMeter(_) => E::OFPMMFC_INVALID_METER,
                FlowModError::BadGoto(..) => E::OFPBIC_BAD_TABLE_ID,
                FlowModError::BadAction => E::OFPBAC_BAD_TYPE,
                FlowModError::OptionTooShort => E::OFPBAC_BAD_SET_LEN,
                FlowModError::UnmappedOption => E::NXFMFC_INVALID_TLV_FIELD,
            },
        }
    }
}
