//! Messages in the text of `ovs-ofctl`: what `show`, the dumps, `monitor`, `snoop` and a printed error
//! consist of.
//!
//! [`MessageText`] writes a message: a heading (`OFPT_FLOW_MOD (OF1.3) (xid=0x4):`) and a body; one
//! file per topic writes the bodies. [`BytesText`] does the same for bytes that may be no message.
//! Flows and actions are written by [`crate::text`].
//!
//! Invariant: a text ends with a newline, and nothing is trimmed afterwards.

use core::fmt::{self, Write};

use flow::text::NameMap;

use crate::error::DecodeError;
use crate::message::{Body, Message, Session};
use crate::text::{GroupId, GroupModText, MeterId, MeterModText};

mod bits;
mod bytes;
mod control;
mod diagnosis;
mod flows;
mod groups;
mod monitor;
mod nicira;
pub mod packets;
pub mod ports;
pub mod raw_match;
mod switch;
mod tables;

pub use bits::{Bits, Hex, Seconds};
pub use bytes::{BytesText, HexDump, HexLines, ReadText};
pub use control::role_name;
pub use diagnosis::{Diagnosis, normalized};
pub use switch::{frag_from_name, frag_name};
pub use tables::TableFeaturesText;

/// How to write messages.
#[derive(Copy, Clone)]
#[allow(missing_debug_implementations)] // a map of names need not be printable
pub struct Style<'a> {
    /// Names to write instead of the numbers of ports and tables.
    pub names: &'a dyn NameMap,
    /// 0 for the shortest text; from 1 on packets are shown, from 2 on payloads, from 3 on the bytes of
    /// packets and matches as they were said, from 5 on all bytes.
    pub verbosity: u8,
    /// How bytes inside messages are read.
    pub session: Session,
}

/// A message in text.
#[derive(Copy, Clone)]
pub struct MessageText<'a> {
    /// The message.
    pub message: &'a Message,
    /// How.
    pub style: Style<'a>,
}

impl fmt::Debug for MessageText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes `NAME (OF1.x) (xid=0x…):`; the version only above 1.0.
fn write_heading(out: &mut impl Write, m: &Message) -> fmt::Result {
    let name = m.kind().map_or("message", |k| k.name());
    bytes::heading(out, name, m.version, m.xid)?;
    let is_stats = name.ends_with(" reply") || name.ends_with(" request");
    if is_stats && m.more { out.write_str(" flags=[more]") } else { Ok(()) }
}

impl fmt::Display for MessageText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, style) = (self.message, self.style);
        write_heading(out, m)?;
        match &m.body {
            Body::Hello(bitmap) => switch::write_hello(out, *bitmap, None),
            Body::Error(e) => control::write_error(out, e, style),
            Body::EchoRequest(data) | Body::EchoReply(data) => {
                writeln!(out, " {} bytes of payload", data.len())?;
                match style.verbosity {
                    0 | 1 => Ok(()),
                    _ => write!(out, "{}", HexDump(data)),
                }
            }
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
            | Body::FlowMonitorResumed => writeln!(out),
            Body::FlowMonitorCancel(id) => writeln!(out, " id={id}"),
            Body::FlowMonitorRequest(list) => monitor::write_requests(out, list, style),
            Body::FlowMonitorReply(list) => monitor::write_updates(out, list, m.version, style),
            Body::TableStatus(reason, t) => tables::write_status(out, *reason, t, style.names),
            Body::FeaturesReply(x) => switch::write_features(out, x, m.version),
            Body::GetConfigReply(x) | Body::SetConfig(x) => switch::write_config(out, x),
            Body::PacketIn(x) | Body::Resume(x) => packets::write_in(out, x, m.version, style),
            Body::PacketOut(x) => packets::write_out(out, x, m.version, style),
            Body::FlowMod(x) => flows::write_mod(out, x, m.version, style, None),
            Body::FlowRemoved(x) => flows::write_removed(out, x, m, style),
            Body::PortStatus(reason, x) => ports::write_status(out, *reason, x, m.version),
            Body::PortMod(x) => ports::write_mod(out, x, style.names),
            Body::TableMod(x) => tables::write_mod(out, x, m.version, style.names),
            Body::RoleRequest(x) | Body::RoleReply(x) => control::write_role(out, x, m),
            Body::ControllerStatus(x) => control::write_controller_status(out, x),
            Body::RoleStatus(x, reason) => control::write_role_status(out, x, *reason),
            Body::GetAsyncReply(x) => control::write_async(out, x),
            Body::SetAsync(x) => control::write_async(out, &x.config),
            Body::SetControllerId(id) => writeln!(out, " id={id}"),
            Body::SetFlowFormat(x) => control::write_flow_format(out, *x),
            Body::FlowModTableId(on) => {
                writeln!(out, " {}", if *on { "enable" } else { "disable" })
            }
            Body::CtFlushZone(zone) => writeln!(out, " zone_id={zone}"),
            Body::CtFlush(x) => writeln!(out, " {x}"),
            Body::TlvTableMod(x) => nicira::write_tlv_mod(out, x),
            Body::TlvTableReply(x) => nicira::write_tlv_table(out, x),
            Body::SetPacketInFormat(x) => writeln!(out, " format={}", packets::format_name(*x)),
            Body::BundleCtrl(x) => control::write_bundle(out, x),
            Body::BundleAdd(x) => control::write_bundle_add(out, x, style),
            Body::DescReply(x) => switch::write_desc(out, x),
            Body::FlowStatsRequest(x) | Body::AggregateRequest(x) => {
                flows::write_request(out, x, style.names)
            }
            Body::FlowStatsReply(list) => flows::write_stats(out, list, m.version, style.names),
            Body::AggregateReply(x) => flows::write_aggregate(out, x),
            Body::IpfixBridgeReply(list) => nicira::write_ipfix_bridge(out, list),
            Body::IpfixFlowReply(list) => nicira::write_ipfix_flow(out, list),
            Body::TableStatsReply(list) => tables::write_stats(out, list, m.version),
            Body::TableFeaturesRequest(list) | Body::TableFeaturesReply(list) => {
                write!(out, "{}", TableFeaturesText(list, m.version))
            }
            Body::TableDescReply(list) => tables::write_descs(out, list, style.names),
            Body::PortStatsRequest(port) => {
                write!(out, " port_no=")?;
                ports::write_any_port(out, *port, style.names)?;
                writeln!(out)
            }
            Body::PortStatsReply(list) => ports::write_stats(out, list, style.names),
            Body::PortDescRequest(port) => {
                write!(out, " port=")?;
                ports::write_any_port(out, *port, style.names)?;
                writeln!(out)
            }
            Body::PortDescReply(list) => {
                writeln!(out)?;
                ports::write_descs(out, list, m.version)
            }
            Body::QueueStatsRequest(port, queue) => {
                write!(out, " port=")?;
                ports::write_any_port(out, *port, style.names)?;
                write!(out, " queue=")?;
                ports::write_queue_id(out, *queue)?;
                writeln!(out)
            }
            Body::QueueStatsReply(list) => ports::write_queues(out, list, style.names),
            Body::QueueConfigRequest(port, queue) => {
                ports::write_queue_config_request(out, *port, *queue, style.names)
            }
            Body::QueueConfigReply(_, list) => ports::write_queue_configs(out, list, style.names),
            Body::GroupMod(group) => {
                let text = GroupModText { group, version: m.version, names: style.names };
                writeln!(out, "\n {text}")
            }
            Body::GroupStatsRequest(id) => writeln!(out, " group_id={}", GroupId(*id)),
            Body::GroupDescRequest(id) => writeln!(out, " group_id={}", GroupId(*id)),
            Body::GroupStatsReply(list) => groups::write_stats(out, list),
            Body::GroupDescReply(list) => groups::write_descs(out, list, m.version, style),
            Body::GroupFeaturesReply(x) => groups::write_features(out, x, m.version),
            Body::MeterMod(x) => write!(out, " {}", MeterModText(x)),
            Body::MeterStatsRequest(id) | Body::MeterConfigRequest(id) => {
                writeln!(out, " meter={}", MeterId(*id))
            }
            Body::MeterStatsReply(list) => groups::write_meter_stats(out, list),
            Body::MeterConfigReply(list) => groups::write_meters(out, list),
            Body::MeterFeaturesReply(x) => groups::write_meter_features(out, x),
            Body::Requestforward(x) => groups::write_forwarded(out, x, style),
        }
    }
}

/// Writes what a failed decode is printed as.
fn write_decode_error(out: &mut impl Write, e: &DecodeError, bytes: &[u8]) -> fmt::Result {
    writeln!(out, "***decode error: {}***", e.error)?;
    write!(out, "{}", HexDump(bytes))
}
