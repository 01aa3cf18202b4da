//! Messages to bytes and back: headers, and which module reads which body.

use alloc::boxed::Box;
use alloc::vec::Vec;

use base::OfPort;

use super::kind::{Kind, Space};
use super::*;
use crate::action::OptionLens;
use crate::action::decode::{NX_VENDOR, ONF_VENDOR};
use crate::error::{DecodeError, EncodeError, OfError};
use crate::flow_mod::GROUP_ALL;
use crate::wire::{Put, Reader};

pub(super) type Result<T> = core::result::Result<T, DecodeError>;
pub(super) type Encoded = core::result::Result<(), EncodeError>;

/// What the two ends have agreed on that changes how bytes are read.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// 1.0: the command of a flow mod has the table in its high byte (`NXT_FLOW_MOD_TABLE_ID`).
    pub flow_mod_table_id: bool,
}

/// Length of the message at the front of a stream, once its first 4 bytes are there. Lengths
/// below 8 are an error of the peer; the connection cannot go on.
pub fn frame_len(stream: &[u8]) -> core::result::Result<Option<usize>, DecodeError> {
    let Some(h) = stream.first_chunk::<4>() else { return Ok(None) };
    match u16::from_be_bytes([h[2], h[3]]) {
        n if n < 8 => Err(DecodeError { error: OfError::OFPBRC_BAD_LEN, at: 2 }),
        n => Ok(Some(n.into())),
    }
}

impl Message {
    /// A message in its version's standard form.
    pub fn new(version: Version, xid: u32, body: Body) -> Message {
        Message { version, xid, nicira: false, more: false, body }
    }

    /// Reads one message. `bytes` is exactly the message ([`frame_len`]).
    pub fn decode(bytes: &[u8], session: Session) -> Result<Message> {
        let mut r = Reader::new(bytes, 0);
        let (v, typ, len, xid) = (r.u8()?, r.u8()?, r.u16()?, r.u32()?);
        if usize::from(len) != bytes.len() {
            return Err(DecodeError { error: OfError::OFPBRC_BAD_LEN, at: 2 });
        }
        if typ == 0 {
            // A hello may come in a version that is not known.
            return super::hello::read(&mut r, v, xid);
        }
        let version = Version::from_wire(v)
            .ok_or(DecodeError { error: OfError::OFPBRC_BAD_VERSION, at: 0 })?;
        let (kind, more) = read_kind(&mut r, version, typ)?;
        let nicira = kind.name().starts_with('N');
        let body = read_body(&mut r, kind, version, xid, session)?;
        Ok(Message { version, xid, nicira, more, body })
    }

    /// The kind of the message in a version and form that can say it.
    pub fn kind(&self) -> Option<Kind> {
        kind_of(self)
    }

    /// Writes the message.
    pub fn encode(&self, session: Session) -> core::result::Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(session, &mut out)?;
        Ok(out)
    }

    /// Appends the message; on an error, nothing.
    pub fn encode_into(&self, session: Session, out: &mut Vec<u8>) -> Encoded {
        let start = out.len();
        let done = self.append(session, out, start);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    fn append(&self, session: Session, out: &mut Vec<u8>, start: usize) -> Encoded {
        let v = self.version;
        let kind = kind_of(self).ok_or(EncodeError::Message("message"))?;
        let code = kind.code(v).ok_or(EncodeError::Message(kind.name()))?;
        out.put8(v as u8);
        out.put8(0);
        out.put16(0);
        out.put32(self.xid);
        let stats = |out: &mut Vec<u8>, reply: bool, code: u16| {
            let req = if v == Version::Of10 { 16 } else { 18 };
            out[start + 1] = req + u8::from(reply);
            out.put16(code);
            out.put16(u16::from(self.more));
            if v > Version::Of10 {
                out.put32(0);
            }
        };
        match kind.space() {
            Space::Type => out[start + 1] = code as u8,
            Space::Request => stats(out, false, code),
            Space::Reply => stats(out, true, code),
            Space::Nx | Space::Onf => {
                out[start + 1] = 4;
                out.put32(if kind.space() == Space::Nx { NX_VENDOR } else { ONF_VENDOR });
                out.put32(code.into());
            }
            Space::NxRequest | Space::NxReply | Space::OnfRequest | Space::OnfReply => {
                let reply = matches!(kind.space(), Space::NxReply | Space::OnfReply);
                let onf = matches!(kind.space(), Space::OnfRequest | Space::OnfReply);
                stats(out, reply, 0xffff);
                out.put32(if onf { ONF_VENDOR } else { NX_VENDOR });
                out.put32(code.into());
                if v == Version::Of10 {
                    out.put32(0);
                }
            }
        }
        write_body(out, self, kind, session)?;
        let len = u16::try_from(out.len() - start)
            .map_err(|_| EncodeError::TooLong(kind.name().into()))?;
        out.set16(start + 2, len);
        Ok(())
    }
}

/// Reads the rest of the headers: which kind it is, and whether more parts follow.
pub(crate) fn read_kind(r: &mut Reader<'_>, v: Version, typ: u8) -> Result<(Kind, bool)> {
    let here = *r;
    let request = if v == Version::Of10 { 16 } else { 18 };
    let mut more = false;
    let (space, code, none) = match typ {
        4 => {
            let (vendor, code) = (r.u32()?, r.u32()?);
            let space = match vendor {
                NX_VENDOR => Space::Nx,
                ONF_VENDOR => Space::Onf,
                _ => return Err(here.error(OfError::OFPBRC_BAD_VENDOR)),
            };
            (space, u16::try_from(code).unwrap_or(u16::MAX), OfError::OFPBRC_BAD_SUBTYPE)
        }
        t if t == request || t == request + 1 => {
            let reply = t == request + 1;
            let code = r.u16()?;
            more = r.u16()? & 1 != 0;
            if v > Version::Of10 {
                r.skip(4)?;
            }
            if code == 0xffff {
                let spaces = match r.u32()? {
                    NX_VENDOR => [Space::NxRequest, Space::NxReply],
                    ONF_VENDOR => [Space::OnfRequest, Space::OnfReply],
                    _ => return Err(here.error(OfError::OFPBRC_BAD_VENDOR)),
                };
                let code = u16::try_from(r.u32()?).unwrap_or(u16::MAX);
                if v == Version::Of10 {
                    r.skip(4)?;
                }
                (spaces[usize::from(reply)], code, OfError::OFPBRC_BAD_SUBTYPE)
            } else {
                let space = if reply { Space::Reply } else { Space::Request };
                (space, code, OfError::OFPBRC_BAD_STAT)
            }
        }
        t => (Space::Type, t.into(), OfError::OFPBRC_BAD_TYPE),
    };
    Ok((Kind::find(space, code, v).ok_or(here.error(none))?, more))
}

/// The kind that says a body.
fn kind_of(m: &Message) -> Option<Kind> {
    use Kind as K;
    let nx = m.nicira && m.version <= Version::Of11;
    let either = |standard: Kind, nicira: Kind| if nx { nicira } else { standard };
    let by_version = |standard: Kind, other: Kind| {
        if standard.code(m.version).is_some() { standard } else { other }
    };
    let as_said =
        |standard: Kind, nicira: Kind| if m.nicira { nicira } else { by_version(standard, nicira) };
    Some(match &m.body {
        Body::Hello(_) => K::Hello,
        Body::Error(_) => K::Error,
        Body::EchoRequest(_) => K::EchoRequest,
        Body::EchoReply(_) => K::EchoReply,
        Body::FeaturesRequest => K::FeaturesRequest,
        Body::FeaturesReply(_) => K::FeaturesReply,
        Body::GetConfigRequest => K::GetConfigRequest,
        Body::GetConfigReply(_) => K::GetConfigReply,
        Body::SetConfig(_) => K::SetConfig,
        Body::PacketIn(p) => match p.format {
            PacketInFormat::Standard => K::PacketIn,
            PacketInFormat::Nxt => K::NxPacketIn,
            PacketInFormat::Nxt2 => K::NxPacketIn2,
        },
        Body::PacketOut(_) => K::PacketOut,
        Body::FlowMod(_) => either(K::FlowMod, K::NxFlowMod),
        Body::FlowRemoved(_) => either(K::FlowRemoved, K::NxFlowRemoved),
        Body::PortStatus(..) => K::PortStatus,
        Body::PortMod(_) => K::PortMod,
        Body::TableMod(_) => K::TableMod,
        Body::BarrierRequest => K::BarrierRequest,
        Body::BarrierReply => K::BarrierReply,
        Body::RoleRequest(_) => as_said(K::RoleRequest, K::NxRoleRequest),
        Body::RoleReply(_) => as_said(K::RoleReply, K::NxRoleReply),
        Body::RoleStatus(..) => by_version(K::RoleStatus, K::OnfRoleStatus),
        Body::GetAsyncRequest => K::GetAsyncRequest,
        Body::GetAsyncReply(_) => K::GetAsyncReply,
        Body::SetAsync(s) if s.said.is_none() => as_said(K::SetAsync, K::NxSetAsync),
        Body::SetAsync(_) if m.version == Version::Of13 => K::NxSetAsync2,
        Body::SetAsync(_) => as_said(K::SetAsync, K::NxSetAsync2),
        Body::SetControllerId(_) => K::NxSetControllerId,
        Body::SetFlowFormat(_) => K::NxSetFlowFormat,
        Body::FlowModTableId(_) => K::NxFlowModTableId,
        Body::SetPacketInFormat(_) => K::NxSetPacketInFormat,
        Body::Resume(_) => K::NxResume,
        Body::FlowAge => K::NxFlowAge,
        Body::CtFlushZone(_) => K::NxCtFlushZone,
        Body::CtFlush(_) => K::NxCtFlush,
        Body::TlvTableMod(_) => K::NxTlvTableMod,
        Body::TlvTableRequest => K::NxTlvTableRequest,
        Body::TlvTableReply(_) => K::NxTlvTableReply,
        Body::BundleCtrl(_) => by_version(K::BundleCtrl, K::OnfBundleCtrl),
        Body::BundleAdd(_) => by_version(K::BundleAdd, K::OnfBundleAdd),
        Body::TableStatus(..) => K::TableStatus,
        Body::ControllerStatus(_) => K::ControllerStatus,
        Body::FlowMonitorCancel(_) => by_version(K::NxFlowMonitorCancel, K::OnfFlowMonitorCancel),
        Body::FlowMonitorPaused => by_version(K::NxFlowMonitorPaused, K::OnfFlowMonitorPaused),
        Body::FlowMonitorResumed => by_version(K::NxFlowMonitorResumed, K::OnfFlowMonitorResumed),
        Body::FlowMonitorRequest(_) => by_version(
            K::NxFlowMonitorRequest,
            by_version(K::OnfFlowMonitorRequest, K::FlowMonitorRequest),
        ),
        Body::FlowMonitorReply(_) => by_version(
            K::NxFlowMonitorReply,
            by_version(K::OnfFlowMonitorReply, K::FlowMonitorReply),
        ),
        Body::DescRequest => K::DescRequest,
        Body::DescReply(_) => K::DescReply,
        Body::FlowStatsRequest(_) => either(K::FlowRequest, K::NxFlowRequest),
        Body::FlowStatsReply(_) => either(K::FlowReply, K::NxFlowReply),
        Body::AggregateRequest(_) => either(K::AggregateRequest, K::NxAggregateRequest),
        Body::AggregateReply(_) => either(K::AggregateReply, K::NxAggregateReply),
        Body::IpfixBridgeRequest => K::NxIpfixBridgeRequest,
        Body::IpfixBridgeReply(_) => K::NxIpfixBridgeReply,
        Body::IpfixFlowRequest => K::NxIpfixFlowRequest,
        Body::IpfixFlowReply(_) => K::NxIpfixFlowReply,
        Body::TableStatsRequest => K::TableRequest,
        Body::TableStatsReply(_) => K::TableReply,
        Body::TableFeaturesRequest(_) => K::TableFeaturesRequest,
        Body::TableFeaturesReply(_) => K::TableFeaturesReply,
        Body::TableDescRequest => K::TableDescRequest,
        Body::TableDescReply(_) => K::TableDescReply,
        Body::PortStatsRequest(_) => K::PortRequest,
        Body::PortStatsReply(_) => K::PortReply,
        Body::PortDescRequest(_) => K::PortDescRequest,
        Body::PortDescReply(_) => K::PortDescReply,
        Body::QueueStatsRequest(..) => K::QueueRequest,
        Body::QueueStatsReply(_) => K::QueueReply,
        Body::QueueConfigRequest(..) => by_version(K::QueueGetConfigRequest, K::QueueDescRequest),
        Body::QueueConfigReply(..) => by_version(K::QueueGetConfigReply, K::QueueDescReply),
        Body::GroupMod(_) => by_version(K::GroupMod, K::NxGroupMod),
        Body::GroupStatsRequest(_) => by_version(K::GroupRequest, K::NxGroupRequest),
        Body::GroupStatsReply(_) => by_version(K::GroupReply, K::NxGroupReply),
        Body::GroupDescRequest(_) => by_version(K::GroupDescRequest, K::NxGroupDescRequest),
        Body::GroupDescReply(_) => by_version(K::GroupDescReply, K::NxGroupDescReply),
        Body::GroupFeaturesRequest => {
            by_version(K::GroupFeaturesRequest, K::NxGroupFeaturesRequest)
        }
        Body::GroupFeaturesReply(_) => by_version(K::GroupFeaturesReply, K::NxGroupFeaturesReply),
        Body::MeterMod(_) => K::MeterMod,
        Body::MeterStatsRequest(_) => K::MeterRequest,
        Body::MeterStatsReply(_) => K::MeterReply,
        Body::MeterConfigRequest(_) => K::MeterConfigRequest,
        Body::MeterConfigReply(_) => K::MeterConfigReply,
        Body::MeterFeaturesRequest => K::MeterFeaturesRequest,
        Body::MeterFeaturesReply(_) => K::MeterFeaturesReply,
        Body::Requestforward(_) if m.version < Version::Of13 => K::NxRequestforward,
        Body::Requestforward(_) => by_version(K::Requestforward, K::OnfRequestforward),
    })
}

/// What a bundle can hold.
const BUNDLABLE: [Kind; 6] = [
    Kind::FlowMod,
    Kind::NxFlowMod,
    Kind::GroupMod,
    Kind::NxGroupMod,
    Kind::PortMod,
    Kind::PacketOut,
];

fn read_body(
    r: &mut Reader<'_>,
    kind: Kind,
    v: Version,
    xid: u32,
    session: Session,
) -> Result<Body> {
    use Kind as K;
    let body = match kind {
        K::Hello | K::EchoRequest => Body::EchoRequest(r.rest().to_vec()),
        K::Error => {
            let here = *r;
            let error = OfError::read(r, v)?;
            let mut raw = here;
            let raw = (raw.u16()?, raw.u16()?);
            Body::Error(ErrorMsg { error, raw, data: r.rest().to_vec() })
        }
        K::EchoReply => Body::EchoReply(r.rest().to_vec()),
        K::FeaturesRequest => Body::FeaturesRequest,
        K::FeaturesReply => Body::FeaturesReply(Box::new(ports::read_features(r, v)?)),
        K::GetConfigRequest => Body::GetConfigRequest,
        K::GetConfigReply => Body::GetConfigReply(read_config(r, v)?),
        K::SetConfig => Body::SetConfig(read_set_config(r, v)?),
        K::PacketIn => Body::PacketIn(Box::new(packets::read_in(r, v)?)),
        K::NxPacketIn => Body::PacketIn(Box::new(packets::read_nx_in(r)?)),
        K::NxPacketIn2 => Body::PacketIn(Box::new(packets::read_nx_in2(r, false)?)),
        K::NxResume => Body::Resume(Box::new(packets::read_nx_in2(r, true)?)),
        K::NxFlowAge => Body::FlowAge,
        K::NxCtFlushZone => {
            let here = *r;
            if r.array::<6>()? != [0; 6] {
                return Err(here.error(OfError::NXBRC_MUST_BE_ZERO));
            }
            Body::CtFlushZone(r.u16()?)
        }
        K::NxCtFlush => Body::CtFlush(Box::new(nicira::read_ct_flush(r)?)),
        K::NxTlvTableMod => Body::TlvTableMod(nicira::read_tlv_mod(r)?),
        K::NxTlvTableRequest => Body::TlvTableRequest,
        K::NxTlvTableReply => Body::TlvTableReply(nicira::read_tlv_table(r)?),
        K::PacketOut => Body::PacketOut(Box::new(packets::read_out(r, v)?)),
        K::FlowMod => Body::FlowMod(Box::new(flows::read_mod(r, v, session)?)),
        K::NxFlowMod => Body::FlowMod(Box::new(flows::read_nx_mod(r, v, session)?)),
        K::FlowRemoved => Body::FlowRemoved(Box::new(removed::read_removed(r, v)?)),
        K::NxFlowRemoved => Body::FlowRemoved(Box::new(removed::read_nx_removed(r)?)),
        K::PortStatus => {
            let here = *r;
            let reason = match r.u8()? {
                0 => PortReason::Add,
                1 => PortReason::Delete,
                2 => PortReason::Modify,
                _ => return Err(here.error(OfError::NXBRC_BAD_REASON)),
            };
            r.skip(7)?;
            Body::PortStatus(reason, Box::new(ports::read_port(r, v)?))
        }
        K::PortMod => Body::PortMod(ports::read_mod(r, v)?),
        K::TableMod => Body::TableMod(stats::read_table_mod(r, v)?),
        K::BarrierRequest => Body::BarrierRequest,
        K::BarrierReply => Body::BarrierReply,
        K::RoleRequest => Body::RoleRequest(read_role(r)?),
        K::RoleReply => Body::RoleReply(read_role(r)?),
        K::NxRoleRequest => Body::RoleRequest(read_nx_role(r)?),
        K::NxRoleReply => Body::RoleReply(read_nx_role(r)?),
        K::RoleStatus | K::OnfRoleStatus => {
            let here = *r;
            let role = r.u32()?;
            if role > 3 {
                return Err(here.error(OfError::OFPRRFC_BAD_ROLE));
            }
            let reason = r.u8()?;
            r.skip(3)?;
            Body::RoleStatus(Role { role, generation_id: Some(r.u64()?) }, reason)
        }
        K::GetAsyncRequest => Body::GetAsyncRequest,
        K::GetAsyncReply if v < Version::Of14 => Body::GetAsyncReply(asynch::read_masks(r, v)?),
        K::GetAsyncReply => Body::GetAsyncReply(asynch::read_props(r, v, false)?.config),
        K::SetAsync | K::NxSetAsync2 if asynch::has_props(kind, v) => {
            Body::SetAsync(asynch::read_props(r, v, true)?)
        }
        K::SetAsync | K::NxSetAsync | K::NxSetAsync2 => {
            Body::SetAsync(SetAsync { config: asynch::read_masks(r, v)?, said: None })
        }
        K::NxSetControllerId => {
            r.skip(6)?;
            Body::SetControllerId(r.u16()?)
        }
        K::NxSetFlowFormat => {
            let here = *r;
            Body::SetFlowFormat(match r.u32()? {
                0 => FlowFormat::OpenFlow10,
                2 => FlowFormat::Nxm,
                _ => return Err(here.error(OfError::OFPBRC_EPERM)),
            })
        }
        K::NxFlowModTableId => {
            let on = r.u8()?;
            r.skip(7)?;
            Body::FlowModTableId(on != 0)
        }
        K::NxSetPacketInFormat => {
            let here = *r;
            Body::SetPacketInFormat(match r.u32()? {
                0 => PacketInFormat::Standard,
                1 => PacketInFormat::Nxt,
                2 => PacketInFormat::Nxt2,
                _ => return Err(here.error(OfError::OFPBRC_EPERM)),
            })
        }
        K::BundleCtrl | K::OnfBundleCtrl => {
            let (id, kind, flags) = (r.u32()?, r.u16()?, r.u16()?);
            r.rest();
            Body::BundleCtrl(BundleCtrl { id, kind, flags })
        }
        K::BundleAdd | K::OnfBundleAdd => {
            let id = r.u32()?;
            r.skip(2)?;
            let flags = r.u16()?;
            let bad_len = r.error(OfError::OFPBFC_MSG_BAD_LEN);
            let header = *r.peek().first_chunk::<8>().ok_or(bad_len)?;
            if header[0] != v as u8 {
                return Err(r.error(OfError::OFPBFC_BAD_VERSION));
            }
            let len = frame_len(&header).ok().flatten().ok_or(bad_len)?;
            if len > r.len() {
                return Err(bad_len);
            }
            if header[4..] != xid.to_be_bytes() {
                return Err(r.error(OfError::OFPBFC_MSG_BAD_XID));
            }
            let at = r.at();
            let inner = r.take(len)?;
            let mut body = Reader::new(&inner[8..], at + 8);
            match read_kind(&mut body, v, header[1]) {
                Ok((kind, _)) if BUNDLABLE.contains(&kind) => {}
                _ => return Err(DecodeError { error: OfError::OFPBFC_MSG_UNSUP, at }),
            }
            let message =
                Message::decode(inner, session).map_err(|e| DecodeError { at: e.at + at, ..e })?;
            r.rest();
            Body::BundleAdd(Box::new(BundleAdd { id, flags, message }))
        }
        K::TableStatus => stats::read_status(r)?,
        K::ControllerStatus => Body::ControllerStatus(Box::new(controllers::read_status(r)?)),
        K::NxFlowMonitorCancel | K::OnfFlowMonitorCancel => Body::FlowMonitorCancel(r.u32()?),
        K::NxFlowMonitorPaused | K::OnfFlowMonitorPaused => Body::FlowMonitorPaused,
        K::NxFlowMonitorResumed | K::OnfFlowMonitorResumed => Body::FlowMonitorResumed,
        K::NxFlowMonitorRequest | K::OnfFlowMonitorRequest | K::FlowMonitorRequest => {
            Body::FlowMonitorRequest(monitor::read_requests(r, v)?)
        }
        K::NxFlowMonitorReply | K::OnfFlowMonitorReply | K::FlowMonitorReply => {
            Body::FlowMonitorReply(monitor::read_updates(r, v)?)
        }
        K::DescRequest => Body::DescRequest,
        K::DescReply => Body::DescReply(Box::new(SwitchDesc {
            mfr_desc: r.text(256)?,
            hw_desc: r.text(256)?,
            sw_desc: r.text(256)?,
            serial_num: r.text(32)?,
            dp_desc: r.text(256)?,
        })),
        K::FlowRequest => Body::FlowStatsRequest(flows::read_request(r, v)?),
        K::AggregateRequest => Body::AggregateRequest(flows::read_request(r, v)?),
        K::NxFlowRequest => Body::FlowStatsRequest(flows::read_nx_request(r)?),
        K::NxAggregateRequest => Body::AggregateRequest(flows::read_nx_request(r)?),
        K::FlowReply => Body::FlowStatsReply(flows::read_stats(r, v)?),
        K::NxFlowReply => Body::FlowStatsReply(flows::read_nx_stats(r)?),
        K::AggregateReply | K::NxAggregateReply => {
            Body::AggregateReply(flows::read_aggregate(r, v)?)
        }
        K::NxIpfixBridgeRequest => Body::IpfixBridgeRequest,
        K::NxIpfixBridgeReply => Body::IpfixBridgeReply(ipfix::read(r)?),
        K::NxIpfixFlowRequest => Body::IpfixFlowRequest,
        K::NxIpfixFlowReply => Body::IpfixFlowReply(ipfix::read(r)?),
        K::TableRequest => Body::TableStatsRequest,
        K::TableReply => Body::TableStatsReply(features::read_stats(r, v)?),
        K::TableFeaturesRequest => Body::TableFeaturesRequest(features::read_features(r, v)?),
        K::TableFeaturesReply => Body::TableFeaturesReply(features::read_features(r, v)?),
        K::TableDescRequest => Body::TableDescRequest,
        K::TableDescReply => Body::TableDescReply(stats::read_table_descs(r)?),
        K::PortRequest => Body::PortStatsRequest(ports::read_port_no(r, v, 6, 4)?),
        K::PortReply => Body::PortStatsReply(ports::read_stats(r, v)?),
        K::PortDescRequest if v < Version::Of15 => Body::PortDescRequest(OfPort::NONE),
        K::PortDescRequest => Body::PortDescRequest(ports::read_port_no(r, v, 6, 4)?),
        K::PortDescReply => {
            let mut list = Vec::new();
            while !r.is_empty() {
                list.push(ports::read_port(r, v)?);
            }
            Body::PortDescReply(list)
        }
        K::QueueRequest => {
            let port = ports::read_port_no(r, v, 2, 0)?;
            Body::QueueStatsRequest(if port == OfPort::ALL { OfPort::NONE } else { port }, r.u32()?)
        }
        K::QueueReply => Body::QueueStatsReply(ports::read_queues(r, v)?),
        K::QueueGetConfigRequest | K::QueueDescRequest => queues::read_request(r, v)?,
        K::QueueGetConfigReply | K::QueueDescReply => queues::read_reply(r, v)?,
        K::GroupMod | K::NxGroupMod => Body::GroupMod(Box::new(groups::read_mod(r, v)?)),
        K::GroupRequest | K::NxGroupRequest => Body::GroupStatsRequest(groups::read_request(r)?),
        K::GroupReply | K::NxGroupReply => Body::GroupStatsReply(groups::read_stats(r, v)?),
        // Only 1.5 and Nicira's may ask for one group.
        K::GroupDescRequest if v < Version::Of15 => Body::GroupDescRequest(GROUP_ALL),
        K::GroupDescRequest | K::NxGroupDescRequest => {
            Body::GroupDescRequest(groups::read_request(r)?)
        }
        K::GroupDescReply | K::NxGroupDescReply => Body::GroupDescReply(groups::read_descs(r, v)?),
        K::GroupFeaturesRequest | K::NxGroupFeaturesRequest => Body::GroupFeaturesRequest,
        K::GroupFeaturesReply | K::NxGroupFeaturesReply => {
            Body::GroupFeaturesReply(Box::new(groups::read_features(r)?))
        }
        K::MeterMod => Body::MeterMod(Box::new(meters::read_mod(r)?)),
        K::MeterRequest => Body::MeterStatsRequest(meters::read_request(r)?),
        K::MeterReply => Body::MeterStatsReply(meters::read_stats(r)?),
        K::MeterConfigRequest => Body::MeterConfigRequest(meters::read_request(r)?),
        K::MeterConfigReply => Body::MeterConfigReply(meters::read_configs(r)?),
        K::MeterFeaturesRequest => Body::MeterFeaturesRequest,
        K::MeterFeaturesReply => Body::MeterFeaturesReply(meters::read_features(r)?),
        K::Requestforward | K::NxRequestforward | K::OnfRequestforward => {
            Body::Requestforward(Box::new(read_forwarded(r, session)?))
        }
    };
    if !r.is_empty() && !matches!(body, Body::PortStatus(..)) {
        return Err(r.error(OfError::OFPBRC_BAD_LEN));
    }
    Ok(body)
}

fn write_body(out: &mut Vec<u8>, m: &Message, kind: Kind, session: Session) -> Encoded {
    let v = m.version;
    match &m.body {
        Body::Hello(bitmap) => {
            // A bitmap is needed unless all versions up to the header's are spoken. None is not said.
            let v = v as u32;
            if *bitmap != (1 << (v + 1)) - 2 && *bitmap != 0 {
                out.put16(1);
                out.put16(8);
                out.put32(*bitmap);
            }
        }
        Body::Error(e) => {
            match e.error {
                Some(x) => x.put(out, v),
                None => {
                    out.put16(e.raw.0);
                    out.put16(e.raw.1);
                }
            }
            out.extend_from_slice(&e.data);
        }
        Body::EchoRequest(d) | Body::EchoReply(d) => out.extend_from_slice(d),
        Body::FeaturesRequest
        | Body::GetConfigRequest
        | Body::BarrierRequest
        | Body::BarrierReply
        | Body::GetAsyncRequest
        | Body::DescRequest
        | Body::FlowAge
        | Body::TlvTableRequest
        | Body::TableStatsRequest
        | Body::IpfixBridgeRequest
        | Body::IpfixFlowRequest
        | Body::TableDescRequest
        | Body::GroupFeaturesRequest
        | Body::MeterFeaturesRequest
        | Body::FlowMonitorPaused
        | Body::FlowMonitorResumed => {}
        Body::TableStatus(reason, t) => stats::write_status(out, *reason, t),
        Body::ControllerStatus(s) => controllers::write_status(out, s),
        Body::FlowMonitorCancel(id) => out.put32(*id),
        Body::FlowMonitorRequest(list) => {
            for m in list {
                monitor::write_request(out, m, v)?;
            }
        }
        Body::FlowMonitorReply(list) => {
            for u in list {
                monitor::write_update(out, u, v)?;
            }
        }
        Body::FeaturesReply(f) => ports::write_features(out, f, v),
        Body::GetConfigReply(c) | Body::SetConfig(c) => write_config(out, c, v),
        Body::PacketIn(p) => packets::write_in(out, p, v)?,
        Body::Resume(p) => packets::write_nx_in2(out, p, v)?,
        Body::CtFlushZone(zone) => {
            out.zeros(6);
            out.put16(*zone);
        }
        Body::CtFlush(f) => nicira::write_ct_flush(out, f),
        Body::TlvTableMod(m) => nicira::write_tlv_mod(out, m),
        Body::TlvTableReply(t) => nicira::write_tlv_table(out, t),
        Body::PacketOut(p) => packets::write_out(out, p, v)?,
        Body::FlowMod(f) if kind == Kind::NxFlowMod => flows::write_nx_mod(out, f, v, session)?,
        Body::FlowMod(f) => flows::write_mod(out, f, v, session)?,
        Body::FlowRemoved(f) if kind == Kind::NxFlowRemoved => removed::write_nx_removed(out, f)?,
        Body::FlowRemoved(f) => removed::write_removed(out, f, v)?,
        Body::PortStatus(reason, p) => {
            out.put8(*reason as u8);
            out.zeros(7);
            ports::write_port(out, p, v);
        }
        Body::PortMod(p) => ports::write_mod(out, p, v),
        Body::TableMod(t) => stats::write_table_mod(out, t, v),
        Body::RoleRequest(r) | Body::RoleReply(r) => {
            if kind.space() == Space::Nx {
                // Nicira's numbers: 0 other, 1 master, 2 slave.
                out.put32(r.role.saturating_sub(1));
            } else {
                out.put32(r.role);
                out.zeros(4);
                out.put64(r.generation_id.unwrap_or(u64::MAX));
            }
        }
        Body::RoleStatus(r, reason) => {
            out.put32(r.role);
            out.put8(*reason);
            out.zeros(3);
            out.put64(r.generation_id.unwrap_or(u64::MAX));
        }
        Body::GetAsyncReply(c) if v < Version::Of14 => asynch::write_masks(out, c),
        Body::GetAsyncReply(c) => {
            asynch::write_props(out, &SetAsync { config: *c, said: None }, v);
        }
        Body::SetAsync(s) if asynch::has_props(kind, v) => {
            asynch::write_props(out, s, v);
        }
        Body::SetAsync(s) => asynch::write_masks(out, &s.config),
        Body::SetControllerId(id) => {
            out.zeros(6);
            out.put16(*id);
        }
        Body::SetFlowFormat(f) => out.put32(*f as u32),
        Body::FlowModTableId(on) => {
            out.put8(u8::from(*on));
            out.zeros(7);
        }
        Body::SetPacketInFormat(f) => out.put32(*f as u32),
        Body::BundleCtrl(b) => {
            out.put32(b.id);
            out.put16(b.kind);
            out.put16(b.flags);
        }
        Body::BundleAdd(b) => {
            out.put32(b.id);
            out.put16(0);
            out.put16(b.flags);
            out.extend_from_slice(&b.message.encode(session)?);
        }
        Body::DescReply(d) => {
            out.text(&d.mfr_desc, 256);
            out.text(&d.hw_desc, 256);
            out.text(&d.sw_desc, 256);
            out.text(&d.serial_num, 32);
            out.text(&d.dp_desc, 256);
        }
        Body::FlowStatsRequest(q) | Body::AggregateRequest(q) => {
            if kind.space() == Space::NxRequest {
                flows::write_nx_request(out, q)?;
            } else {
                flows::write_request(out, q, v)?;
            }
        }
        Body::FlowStatsReply(list) => {
            let options = OptionLens::default();
            for f in list {
                if kind == Kind::NxFlowReply {
                    flows::write_nx_stats(out, f, &options)?;
                } else {
                    flows::write_stats(out, f, v, &options)?;
                }
            }
        }
        Body::AggregateReply(a) => flows::write_aggregate(out, a, v),
        Body::IpfixBridgeReply(list) | Body::IpfixFlowReply(list) => ipfix::write(out, list),
        Body::TableStatsReply(list) => list.iter().for_each(|t| features::write_stats(out, t, v)),
        Body::TableFeaturesRequest(list) | Body::TableFeaturesReply(list) => {
            list.iter().for_each(|t| features::write_features(out, t, v));
        }
        Body::TableDescReply(list) => list.iter().for_each(|t| stats::write_table_desc(out, t)),
        Body::PortStatsRequest(p) => ports::write_port_no(out, *p, v, 6, 4),
        Body::PortStatsReply(list) => list.iter().for_each(|p| ports::write_stats(out, p, v)),
        Body::PortDescRequest(_) if v < Version::Of15 => {}
        Body::PortDescRequest(p) => ports::write_port_no(out, *p, v, 6, 4),
        Body::PortDescReply(list) => list.iter().for_each(|p| ports::write_port(out, p, v)),
        Body::QueueStatsRequest(port, queue) => {
            let any = *port == OfPort::NONE && v == Version::Of10;
            ports::write_port_no(out, if any { OfPort::ALL } else { *port }, v, 2, 0);
            out.put32(*queue);
        }
        Body::QueueStatsReply(list) => list.iter().for_each(|q| ports::write_queue(out, q, v)),
        Body::QueueConfigRequest(port, queue) => queues::write_request(out, *port, *queue, v),
        Body::QueueConfigReply(port, list) => queues::write_reply(out, *port, list, v),
        Body::GroupMod(g) => groups::write_mod(out, g, v)?,
        Body::GroupDescRequest(_) if v > Version::Of10 && v < Version::Of15 => {}
        Body::GroupStatsRequest(id)
        | Body::GroupDescRequest(id)
        | Body::MeterStatsRequest(id)
        | Body::MeterConfigRequest(id) => {
            out.put32(*id);
            out.zeros(4);
        }
        Body::GroupStatsReply(list) => {
            list.iter().try_for_each(|g| groups::write_stats(out, g, v))?;
        }
        Body::GroupDescReply(list) => {
            list.iter().try_for_each(|g| groups::write_desc(out, g, v))?
        }
        Body::GroupFeaturesReply(f) => groups::write_features(out, f),
        Body::MeterMod(m) => meters::write_mod(out, m),
        Body::MeterStatsReply(list) => {
            list.iter().try_for_each(|m| meters::write_stats(out, m))?;
        }
        Body::MeterConfigReply(list) => {
            list.iter().try_for_each(|m| meters::write_config(out, m))?;
        }
        Body::MeterFeaturesReply(f) => meters::write_features(out, f),
        Body::Requestforward(m) => out.extend_from_slice(&m.encode(session)?),
    }
    Ok(())
}

/// Writes the length from `start` on at `at`.
pub(super) fn set_len(out: &mut Vec<u8>, start: usize, at: usize) -> Encoded {
    let len = u16::try_from(out.len() - start)
        .map_err(|_| EncodeError::TooLong("part of a message".into()))?;
    out.set16(at, len);
    Ok(())
}

/// The request of another controller, all that is left.
fn read_forwarded(r: &mut Reader<'_>, session: Session) -> Result<Message> {
    let at = r.at();
    let bytes = r.rest();
    if bytes.len() < 8 {
        return Err(DecodeError { error: OfError::OFPBRC_BAD_LEN, at });
    }
    let inner = Message::decode(bytes, session).map_err(|e| DecodeError { at: e.at + at, ..e })?;
    match inner.body {
        Body::GroupMod(_) | Body::MeterMod(_) => Ok(inner),
        _ => Err(DecodeError { error: OfError::OFPBFC_MSG_UNSUP, at }),
    }
}

fn read_config(r: &mut Reader<'_>, v: Version) -> Result<SwitchConfig> {
    let flags = r.u16()?;
    Ok(SwitchConfig {
        frag: flags as u8 & 3,
        invalid_ttl_to_controller: (v < Version::Of13).then_some(flags & 4 != 0),
        miss_send_len: r.u16()?,
    })
}

/// The same in a request: flags that there are not are an error.
fn read_set_config(r: &mut Reader<'_>, v: Version) -> Result<SwitchConfig> {
    let mut flags = *r;
    if flags.u16()? & if v < Version::Of13 { !7 } else { !3 } != 0 {
        return Err(r.error(OfError::OFPSCFC_BAD_FLAGS));
    }
    read_config(r, v)
}

fn write_config(out: &mut Vec<u8>, c: &SwitchConfig, v: Version) {
    let ttl = v < Version::Of13 && c.invalid_ttl_to_controller == Some(true);
    out.put16(u16::from(c.frag) | u16::from(ttl) << 2);
    out.put16(c.miss_send_len);
}

fn read_role(r: &mut Reader<'_>) -> Result<Role> {
    let here = *r;
    let role = r.u32()?;
    r.skip(4)?;
    let generation_id = Some(r.u64()?);
    match role {
        0..=3 => Ok(Role { role, generation_id }),
        _ => Err(here.error(OfError::OFPRRFC_BAD_ROLE)),
    }
}

fn read_nx_role(r: &mut Reader<'_>) -> Result<Role> {
    let here = *r;
    match r.u32()? {
        role @ 0..=2 => Ok(Role { role: role + 1, generation_id: None }),
        _ => Err(here.error(OfError::OFPRRFC_BAD_ROLE)),
    }
}
