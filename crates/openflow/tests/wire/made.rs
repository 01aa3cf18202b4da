//! Messages that no capture holds: what a switch says unasked, and what the newer versions added.

use core::time::Duration;

use base::{OfPort, TableId};
use flow::text::{Mode, NoNames, parse_match};
use openflow::action::{Action, PacketInReason};
use openflow::flow_mod::{FlowMod, GROUP_ANY};
use openflow::message::*;
use openflow::version::Version;

/// One of each, in some version.
fn bodies(v: Version) -> Vec<Body> {
    let m = |text| parse_match(text, &NoNames, Mode::Ovs).unwrap();
    let output = Action::Output { port: OfPort(3), max_len: 0 };
    let flow_mod = Box::new(FlowMod { actions: vec![output.clone()], ..FlowMod::default() });
    let inner = |body| Message::new(v, 6, body);
    let group = GroupMod {
        group: 5,
        command_bucket: bucket_id::ALL,
        buckets: vec![Bucket {
            id: 0,
            weight: 0,
            watch_port: OfPort::NONE,
            watch_group: GROUP_ANY,
            actions: vec![output.clone()],
        }],
        ..GroupMod::default()
    };
    let packet_in = |format, reason| {
        Body::PacketIn(Box::new(PacketIn {
            format,
            packet: vec![0; 60],
            total_len: 60,
            buffer_id: None,
            reason,
            table: TableId(3),
            cookie: if v < Version::Of13 && format == PacketInFormat::Standard {
                u64::MAX
            } else {
                9
            },
            metadata: m("in_port=1"),
            userdata: Vec::new(),
            continuation: Vec::new(),
        }))
    };
    let table = TableDesc { table: TableId(1), config: 0, eviction_flags: Some(1), vacancy: None };
    let role = Role { role: 2, generation_id: Some(4) };
    let watched = FlowMonitor {
        id: 3,
        command: MonitorCommand::Add,
        flags: monitor_flag::INITIAL | monitor_flag::ADD | monitor_flag::ACTIONS,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table: TableId::ALL,
        match_: m("ip,nw_src=10.0.0.0/8"),
    };
    let change = FlowChange {
        event: FlowEvent::Removed,
        reason: Some(FlowRemovedReason::Delete),
        table: TableId(2),
        priority: 9,
        idle_timeout: 5,
        hard_timeout: 6,
        cookie: 0x1234,
        match_: m("tcp,tp_dst=80"),
        actions: vec![output],
    };
    let removed = FlowRemoved {
        match_: m("udp,in_port=2"),
        priority: 100,
        cookie: 1,
        reason: FlowRemovedReason::IdleTimeout,
        table: TableId(0),
        duration: Duration::from_millis(1500),
        idle_timeout: 5,
        hard_timeout: 0,
        n_packets: 3,
        n_bytes: 180,
    };
    let features = TableFeatures {
        name: "one".into(),
        max_entries: 1000,
        has_properties: true,
        ..TableFeatures::default()
    };
    let port = PortDesc { port: OfPort(1), name: "p1".into(), ..PortDesc::default() };
    let exporter =
        IpfixStats { total_flows: 1, current_flows: u64::MAX, tx: 4, ..Default::default() };
    let config = AsyncConfig::default();
    vec![
        Body::FlowRemoved(Box::new(removed)),
        Body::PortStatus(PortReason::Modify, Box::new(port)),
        Body::RoleReply(role),
        Body::RoleStatus(role, 1),
        Body::ControllerStatus(Box::new(ControllerStatus {
            role: 2,
            reason: controller_reason::CHANNEL_STATUS,
            is_down: true,
            uri: "tcp:127.0.0.1:6653".into(),
            ..Default::default()
        })),
        Body::GetAsyncRequest,
        Body::GetAsyncReply(config),
        Body::TableStatus(
            TableReason::VacancyDown,
            TableDesc { vacancy: Some((1, 9, 5)), ..table.clone() },
        ),
        Body::TableDescReply(vec![table]),
        Body::Requestforward(Box::new(inner(Body::GroupMod(Box::new(group))))),
        Body::BundleCtrl(BundleCtrl { id: 8, kind: 4, flags: bundle_flag::ATOMIC }),
        Body::BundleAdd(Box::new(BundleAdd {
            id: 8,
            flags: bundle_flag::ORDERED,
            message: inner(Body::FlowMod(flow_mod)),
        })),
        packet_in(PacketInFormat::Standard, PacketInReason::NoMatch),
        packet_in(PacketInFormat::Nxt, PacketInReason::Action),
        packet_in(PacketInFormat::Nxt2, PacketInReason::InvalidTtl),
        Body::FlowMonitorCancel(5),
        Body::FlowMonitorPaused,
        Body::FlowMonitorResumed,
        Body::FlowMonitorRequest(vec![watched.clone(), FlowMonitor { id: 4, flags: 2, ..watched }]),
        Body::FlowMonitorReply(vec![
            FlowUpdate::Flow(Box::new(change.clone())),
            FlowUpdate::Flow(Box::new(FlowChange {
                event: FlowEvent::Added,
                reason: None,
                ..change
            })),
            FlowUpdate::Abbrev(0x99),
        ]),
        Body::IpfixBridgeRequest,
        Body::IpfixBridgeReply(vec![exporter]),
        Body::IpfixFlowRequest,
        Body::IpfixFlowReply(vec![exporter, IpfixStats { collector_set_id: 7, ..exporter }]),
        Body::TableStatsReply(vec![TableStats {
            active: 1,
            lookup: 2,
            matched: 3,
            ..TableStats::default()
        }]),
        Body::TableFeaturesRequest(vec![features.clone()]),
        Body::TableFeaturesReply(vec![features]),
    ]
}

/// The bytes of each, in every version and form that can say it.
pub fn messages() -> impl Iterator<Item = Vec<u8>> {
    let all = Version::ALL.into_iter().flat_map(|v| bodies(v).into_iter().map(move |b| (v, b)));
    all.flat_map(|(v, body)| {
        [false, true].map(|nicira| Message { nicira, ..Message::new(v, 6, body.clone()) })
    })
    .filter_map(|m| m.encode(super::SESSION).ok())
}
