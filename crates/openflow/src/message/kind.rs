//! THE table of messages: names, and what each is called on the wire of each version.
//!
//! Source: OpenFlow 1.0 §5.1 to 1.5 §7.1 and §7.3.5; Nicira's and the ONF's extensions as OVS
//! speaks them. Bundles are in every version, in those before 1.3 as the ONF's extension of 1.3 has them,
//! which OVS does not know there.

use crate::version::Version;

/// Where a message's number stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Space {
    /// In the header.
    Type,
    /// In a request of statistics.
    Request,
    /// In a reply of statistics.
    Reply,
    /// In Nicira's experimenter message.
    Nx,
    /// In Nicira's request of statistics.
    NxRequest,
    /// In Nicira's reply of statistics.
    NxReply,
    /// In the ONF's experimenter message.
    Onf,
    /// In the ONF's request of statistics.
    OnfRequest,
    /// In the ONF's reply of statistics.
    OnfReply,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $space:ident [$(($lo:literal, $hi:literal, $code:literal)),*];)*) => {
        /// A kind of message.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs)] // named by their rows
        pub enum Kind { $($kind),* }

        /// Kind, name, place and numbers in the versions from the first to the second.
        static KINDS: &[(Kind, &str, Space, &[(u8, u8, u16)])] =
            &[$((Kind::$kind, $name, Space::$space, &[$(($lo, $hi, $code)),*])),*];
    };
}

kinds! {
    Hello "OFPT_HELLO" Type [(1, 6, 0)];
    Error "OFPT_ERROR" Type [(1, 6, 1)];
    EchoRequest "OFPT_ECHO_REQUEST" Type [(1, 6, 2)];
    EchoReply "OFPT_ECHO_REPLY" Type [(1, 6, 3)];
    FeaturesRequest "OFPT_FEATURES_REQUEST" Type [(1, 6, 5)];
    FeaturesReply "OFPT_FEATURES_REPLY" Type [(1, 6, 6)];
    GetConfigRequest "OFPT_GET_CONFIG_REQUEST" Type [(1, 6, 7)];
    GetConfigReply "OFPT_GET_CONFIG_REPLY" Type [(1, 6, 8)];
    SetConfig "OFPT_SET_CONFIG" Type [(1, 6, 9)];
    PacketIn "OFPT_PACKET_IN" Type [(1, 6, 10)];
    FlowRemoved "OFPT_FLOW_REMOVED" Type [(1, 6, 11)];
    PortStatus "OFPT_PORT_STATUS" Type [(1, 6, 12)];
    PacketOut "OFPT_PACKET_OUT" Type [(1, 6, 13)];
    FlowMod "OFPT_FLOW_MOD" Type [(1, 6, 14)];
    GroupMod "OFPT_GROUP_MOD" Type [(2, 6, 15)];
    PortMod "OFPT_PORT_MOD" Type [(1, 1, 15), (2, 6, 16)];
    TableMod "OFPT_TABLE_MOD" Type [(2, 6, 17)];
    BarrierRequest "OFPT_BARRIER_REQUEST" Type [(1, 1, 18), (2, 6, 20)];
    BarrierReply "OFPT_BARRIER_REPLY" Type [(1, 1, 19), (2, 6, 21)];
    QueueGetConfigRequest "OFPT_QUEUE_GET_CONFIG_REQUEST" Type [(1, 1, 20), (2, 4, 22)];
    QueueGetConfigReply "OFPT_QUEUE_GET_CONFIG_REPLY" Type [(1, 1, 21), (2, 4, 23)];
    RoleRequest "OFPT_ROLE_REQUEST" Type [(3, 6, 24)];
    RoleReply "OFPT_ROLE_REPLY" Type [(3, 6, 25)];
    GetAsyncRequest "OFPT_GET_ASYNC_REQUEST" Type [(4, 6, 26)];
    GetAsyncReply "OFPT_GET_ASYNC_REPLY" Type [(4, 6, 27)];
    SetAsync "OFPT_SET_ASYNC" Type [(4, 6, 28)];
    MeterMod "OFPT_METER_MOD" Type [(4, 6, 29)];
    RoleStatus "OFPT_ROLE_STATUS" Type [(5, 6, 30)];
    TableStatus "OFPT_TABLE_STATUS" Type [(5, 6, 31)];
    Requestforward "OFPT_REQUESTFORWARD" Type [(5, 6, 32)];
    NxRequestforward "NXT_REQUESTFORWARD" Nx [(1, 3, 132)];
    OnfRequestforward "ONFT_REQUESTFORWARD" Onf [(4, 4, 2350)];
    ControllerStatus "OFPT_CONTROLLER_STATUS" Type [(6, 6, 35)];
    BundleCtrl "OFPT_BUNDLE_CONTROL" Type [(5, 6, 33)];
    BundleAdd "OFPT_BUNDLE_ADD_MESSAGE" Type [(5, 6, 34)];
    OnfBundleCtrl "ONFT_BUNDLE_CONTROL" Onf [(1, 4, 2300)];
    OnfBundleAdd "ONFT_BUNDLE_ADD_MESSAGE" Onf [(1, 4, 2301)];
    OnfRoleStatus "ONFT_ROLE_STATUS" Onf [(4, 4, 1911)];
    NxRoleRequest "NXT_ROLE_REQUEST" Nx [(1, 6, 10)];
    NxRoleReply "NXT_ROLE_REPLY" Nx [(1, 6, 11)];
    NxSetFlowFormat "NXT_SET_FLOW_FORMAT" Nx [(1, 2, 12)];
    NxFlowMod "NXT_FLOW_MOD" Nx [(1, 6, 13)];
    NxFlowRemoved "NXT_FLOW_REMOVED" Nx [(1, 6, 14)];
    NxFlowModTableId "NXT_FLOW_MOD_TABLE_ID" Nx [(1, 6, 15)];
    NxSetPacketInFormat "NXT_SET_PACKET_IN_FORMAT" Nx [(1, 6, 16)];
    NxPacketIn "NXT_PACKET_IN" Nx [(1, 6, 17)];
    NxFlowAge "NXT_FLOW_AGE" Nx [(1, 6, 18)];
    NxSetAsync "NXT_SET_ASYNC_CONFIG" Nx [(1, 6, 19)];
    NxSetControllerId "NXT_SET_CONTROLLER_ID" Nx [(1, 6, 20)];
    NxFlowMonitorCancel "NXT_FLOW_MONITOR_CANCEL" Nx [(1, 3, 21)];
    NxFlowMonitorPaused "NXT_FLOW_MONITOR_PAUSED" Nx [(1, 3, 22)];
    NxFlowMonitorResumed "NXT_FLOW_MONITOR_RESUMED" Nx [(1, 3, 23)];
    OnfFlowMonitorCancel "ONFT_FLOW_MONITOR_CANCEL" Onf [(4, 4, 1870)];
    OnfFlowMonitorPaused "ONFT_FLOW_MONITOR_PAUSED" Onf [(4, 4, 1871)];
    OnfFlowMonitorResumed "ONFT_FLOW_MONITOR_RESUMED" Onf [(4, 4, 1872)];
    NxTlvTableMod "NXT_TLV_TABLE_MOD" Nx [(1, 6, 24)];
    NxTlvTableRequest "NXT_TLV_TABLE_REQUEST" Nx [(1, 6, 25)];
    NxTlvTableReply "NXT_TLV_TABLE_REPLY" Nx [(1, 6, 26)];
    NxSetAsync2 "NXT_SET_ASYNC_CONFIG2" Nx [(1, 4, 27)];
    NxResume "NXT_RESUME" Nx [(1, 6, 28)];
    NxCtFlushZone "NXT_CT_FLUSH_ZONE" Nx [(1, 6, 29)];
    NxCtFlush "NXT_CT_FLUSH" Nx [(1, 6, 32)];
    NxPacketIn2 "NXT_PACKET_IN2" Nx [(1, 6, 30)];
    NxGroupMod "NXT_GROUP_MOD" Nx [(1, 1, 31)];
    DescRequest "OFPST_DESC request" Request [(1, 6, 0)];
    DescReply "OFPST_DESC reply" Reply [(1, 6, 0)];
    FlowRequest "OFPST_FLOW request" Request [(1, 6, 1)];
    FlowReply "OFPST_FLOW reply" Reply [(1, 6, 1)];
    AggregateRequest "OFPST_AGGREGATE request" Request [(1, 6, 2)];
    AggregateReply "OFPST_AGGREGATE reply" Reply [(1, 6, 2)];
    TableRequest "OFPST_TABLE request" Request [(1, 6, 3)];
    TableReply "OFPST_TABLE reply" Reply [(1, 6, 3)];
    PortRequest "OFPST_PORT request" Request [(1, 6, 4)];
    PortReply "OFPST_PORT reply" Reply [(1, 6, 4)];
    QueueRequest "OFPST_QUEUE request" Request [(1, 6, 5)];
    QueueReply "OFPST_QUEUE reply" Reply [(1, 6, 5)];
    GroupRequest "OFPST_GROUP request" Request [(2, 6, 6)];
    GroupReply "OFPST_GROUP reply" Reply [(2, 6, 6)];
    GroupDescRequest "OFPST_GROUP_DESC request" Request [(2, 6, 7)];
    GroupDescReply "OFPST_GROUP_DESC reply" Reply [(2, 6, 7)];
    GroupFeaturesRequest "OFPST_GROUP_FEATURES request" Request [(3, 6, 8)];
    GroupFeaturesReply "OFPST_GROUP_FEATURES reply" Reply [(3, 6, 8)];
    MeterRequest "OFPST_METER request" Request [(4, 6, 9)];
    MeterReply "OFPST_METER reply" Reply [(4, 6, 9)];
    MeterConfigRequest "OFPST_METER_CONFIG request" Request [(4, 6, 10)];
    MeterConfigReply "OFPST_METER_CONFIG reply" Reply [(4, 6, 10)];
    MeterFeaturesRequest "OFPST_METER_FEATURES request" Request [(4, 6, 11)];
    MeterFeaturesReply "OFPST_METER_FEATURES reply" Reply [(4, 6, 11)];
    TableFeaturesRequest "OFPST_TABLE_FEATURES request" Request [(4, 6, 12)];
    TableFeaturesReply "OFPST_TABLE_FEATURES reply" Reply [(4, 6, 12)];
    PortDescRequest "OFPST_PORT_DESC request" Request [(1, 6, 13)];
    PortDescReply "OFPST_PORT_DESC reply" Reply [(1, 6, 13)];
    TableDescRequest "OFPST_TABLE_DESC request" Request [(5, 6, 14)];
    TableDescReply "OFPST_TABLE_DESC reply" Reply [(5, 6, 14)];
    QueueDescRequest "OFPST_QUEUE_DESC request" Request [(5, 6, 15)];
    QueueDescReply "OFPST_QUEUE_DESC reply" Reply [(5, 6, 15)];
    FlowMonitorRequest "OFPST_FLOW_MONITOR request" Request [(5, 6, 16)];
    FlowMonitorReply "OFPST_FLOW_MONITOR reply" Reply [(5, 6, 16)];
    NxFlowRequest "NXST_FLOW request" NxRequest [(1, 1, 0)];
    NxFlowReply "NXST_FLOW reply" NxReply [(1, 1, 0)];
    NxAggregateRequest "NXST_AGGREGATE request" NxRequest [(1, 1, 1)];
    NxAggregateReply "NXST_AGGREGATE reply" NxReply [(1, 1, 1)];
    NxIpfixBridgeRequest "NXST_IPFIX_BRIDGE request" NxRequest [(1, 6, 3)];
    NxIpfixBridgeReply "NXST_IPFIX_BRIDGE reply" NxReply [(1, 6, 3)];
    NxIpfixFlowRequest "NXST_IPFIX_FLOW request" NxRequest [(1, 6, 4)];
    NxIpfixFlowReply "NXST_IPFIX_FLOW reply" NxReply [(1, 6, 4)];
    NxGroupRequest "NXST_GROUP request" NxRequest [(1, 1, 7)];
    NxGroupReply "NXST_GROUP reply" NxReply [(1, 1, 7)];
    NxFlowMonitorRequest "NXST_FLOW_MONITOR request" NxRequest [(1, 3, 2)];
    NxFlowMonitorReply "NXST_FLOW_MONITOR reply" NxReply [(1, 3, 2)];
    OnfFlowMonitorRequest "ONFST_FLOW_MONITOR request" OnfRequest [(4, 4, 1870)];
    OnfFlowMonitorReply "ONFST_FLOW_MONITOR reply" OnfReply [(4, 4, 1870)];
    NxGroupDescRequest "NXST_GROUP_DESC request" NxRequest [(1, 1, 8)];
    NxGroupDescReply "NXST_GROUP_DESC reply" NxReply [(1, 1, 8)];
    NxGroupFeaturesRequest "NXST_GROUP_FEATURES request" NxRequest [(1, 2, 9)];
    NxGroupFeaturesReply "NXST_GROUP_FEATURES reply" NxReply [(1, 2, 9)];
}

impl Kind {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Kind> {
        KINDS.iter().map(|k| k.0)
    }

    /// Its name as `ovs-ofctl` prints it, e.g. `OFPT_FLOW_MOD`, `NXST_FLOW reply`.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// Where its number stands.
    pub fn space(self) -> Space {
        KINDS[self as usize].2
    }

    /// Its number in a version that has it.
    pub fn code(self, v: Version) -> Option<u16> {
        let v = v as u8;
        KINDS[self as usize].3.iter().find(|c| c.0 <= v && v <= c.1).map(|c| c.2)
    }

    /// The kind with this number.
    pub fn find(space: Space, code: u16, v: Version) -> Option<Kind> {
        Kind::all().find(|k| k.space() == space && k.code(v) == Some(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_one_kind() {
        for k in Kind::all() {
            for v in Version::ALL {
                if let Some(code) = k.code(v) {
                    assert_eq!(Kind::find(k.space(), code, v), Some(k), "{}", k.name());
                }
            }
        }
    }
}
