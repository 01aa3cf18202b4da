//! Random bodies of messages.

use core::time::Duration;

use base::{MacAddr, OfPort, TableId};
use flow::text::{Mode, NoNames};
use openflow::action::{Action, PacketInReason};
use openflow::flow_mod::{FlowModFlags, GROUP_ANY};
use openflow::message::*;
use openflow::text::parse_flow;
use openflow::version::Version;
use openflow::{FlowMod, FlowModCommand, Match};

use crate::generate::{self, Rng};

/// Whether all of a body is said in its version, so that it comes back as it was.
pub fn whole(m: &Message) -> bool {
    match &m.body {
        Body::IpfixBridgeReply(_)
        | Body::IpfixFlowReply(_)
        | Body::MeterMod(_)
        | Body::MeterConfigReply(_)
        | Body::MeterFeaturesReply(_)
        | Body::BundleCtrl(_)
        | Body::CtFlush(_)
        | Body::CtFlushZone(_)
        | Body::TlvTableMod(_)
        | Body::TlvTableReply(_)
        | Body::SetControllerId(_)
        | Body::DescReply(_)
        | Body::EchoReply(_) => true,
        Body::GroupMod(_)
        | Body::GroupDescReply(_)
        | Body::GroupStatsReply(_)
        | Body::FlowRemoved(_)
        | Body::PacketOut(_)
        | Body::FlowMonitorRequest(_)
        | Body::FlowMonitorReply(_) => m.version == Version::Of15,
        Body::TableDescReply(_) | Body::QueueStatsReply(_) => m.version >= Version::Of14,
        _ => false,
    }
}

/// A flow that a version can say, as a switch of it understands it.
fn a_flow(r: &mut Rng, v: Version) -> FlowMod {
    for _ in 0..200 {
        let line = generate::line(r);
        let Ok(parsed) = parse_flow(&line, FlowModCommand::Add, &NoNames, Mode::Strict) else {
            continue;
        };
        let nicira = v == Version::Of10;
        let body = Body::FlowMod(Box::new(parsed.flow));
        let m = Message { nicira, ..Message::new(v, 5, body) };
        let read =
            m.encode(crate::SESSION).ok().and_then(|b| Message::decode(&b, crate::SESSION).ok());
        if let Some(Message { body: Body::FlowMod(f), .. }) = read {
            return *f;
        }
    }
    FlowMod::default()
}

fn actions(r: &mut Rng, v: Version) -> Vec<Action> {
    let mut list = a_flow(r, v).actions;
    list.retain(|a| !a.is_instruction());
    list
}

fn a_match(r: &mut Rng, v: Version) -> Match {
    a_flow(r, v).match_
}

fn port(r: &mut Rng) -> OfPort {
    [OfPort(1), OfPort(0xfeff), OfPort::LOCAL, OfPort::NONE, OfPort(77)][r.below(5)]
}

fn real_port(r: &mut Rng) -> OfPort {
    [OfPort(1), OfPort(0xfeff), OfPort::LOCAL, OfPort(77)][r.below(4)]
}

fn n64(r: &mut Rng) -> u64 {
    [0, 1, u64::MAX, r.next()][r.below(4)]
}

fn n32(r: &mut Rng) -> u32 {
    [0, 1, r.next() as u32 & 0xffff, r.next() as u32][r.below(4)]
}

fn n16(r: &mut Rng) -> u16 {
    [0, 1, u16::MAX, r.next() as u16][r.below(4)]
}

fn maybe<T>(r: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    if r.one_in(2) { Some(make(r)) } else { None }
}

fn some<T>(r: &mut Rng, at_most: usize, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..r.below(at_most + 1)).map(|_| make(r)).collect()
}

fn duration(r: &mut Rng) -> Duration {
    Duration::new(r.below(100_000) as u64, r.below(1000) as u32 * 1_000_000)
}

fn bytes(r: &mut Rng, at_most: usize) -> Vec<u8> {
    some(r, at_most, |r| r.next() as u8)
}

fn text(r: &mut Rng, at_most: usize) -> String {
    some(r, at_most, |r| char::from(b'a' + r.below(26) as u8)).into_iter().collect()
}

fn bucket(r: &mut Rng, v: Version, id: u32, type_: GroupType) -> Bucket {
    let live = type_ == GroupType::FastFailover;
    Bucket {
        id,
        weight: if type_ == GroupType::Select { 1 + n16(r) / 2 } else { 0 },
        watch_port: if live { real_port(r) } else { OfPort::NONE },
        watch_group: GROUP_ANY,
        actions: actions(r, v),
    }
}

fn group_type(r: &mut Rng) -> GroupType {
    [GroupType::All, GroupType::Select, GroupType::Indirect, GroupType::FastFailover][r.below(4)]
}

fn buckets(r: &mut Rng, v: Version, type_: GroupType) -> Vec<Bucket> {
    let n = if type_ == GroupType::Indirect { 1 } else { r.below(4) as u32 };
    (0..n).map(|id| bucket(r, v, id, type_)).collect()
}

fn selection(r: &mut Rng, type_: GroupType) -> Selection {
    match type_ == GroupType::Select && r.one_in(2) {
        true => Selection { method: "dp_hash".into(), param: n64(r), fields: Vec::new() },
        false => Selection::default(),
    }
}

fn group_mod(r: &mut Rng, v: Version) -> GroupMod {
    let type_ = group_type(r);
    let command = [GroupCommand::Add, GroupCommand::Modify, GroupCommand::AddOrModify][r.below(3)];
    GroupMod {
        command,
        type_,
        group: n32(r) & 0xffff,
        command_bucket: bucket_id::ALL,
        selection: selection(r, type_),
        buckets: buckets(r, v, type_),
    }
}

fn group_desc(r: &mut Rng, v: Version) -> GroupDesc {
    let type_ = group_type(r);
    let (group, selection) = (n32(r), selection(r, type_));
    GroupDesc { group, type_, selection, buckets: buckets(r, v, type_) }
}

fn meter(r: &mut Rng) -> MeterConfig {
    let burst = r.one_in(2);
    let unit = [MeterFlags::KBPS, MeterFlags::PKTPS][r.below(2)];
    let flags = unit | if burst { MeterFlags::BURST } else { MeterFlags::empty() };
    let bands = some(r, 3, |r| Band {
        kind: if r.one_in(2) { BandType::Drop } else { BandType::DscpRemark(r.next() as u8) },
        rate: 1 + n32(r) / 2,
        burst_size: if burst { n32(r) } else { 0 },
    });
    MeterConfig { meter: 1 + n32(r) % 0xffff, flags, bands }
}

fn port_desc(r: &mut Rng) -> PortDesc {
    PortDesc {
        port: real_port(r),
        hw_addr: MacAddr::from_u64(r.next() & 0xffff_ffff_ffff),
        name: text(r, 15),
        config: r.next() as u32 & 0x65,
        state: r.next() as u32 & 1,
        current: r.next() as u32 & 0xffff,
        advertised: n32(r) & 0xfff,
        supported: n32(r) & 0xfff,
        peer: 0,
        curr_speed: n32(r),
        max_speed: n32(r),
    }
}

fn port_stats(r: &mut Rng) -> PortStats {
    PortStats {
        port: real_port(r),
        rx_packets: n64(r),
        tx_packets: n64(r),
        rx_bytes: n64(r),
        tx_bytes: n64(r),
        rx_dropped: n64(r),
        tx_dropped: n64(r),
        rx_errors: n64(r),
        tx_errors: n64(r),
        rx_frame_err: n64(r),
        rx_over_err: n64(r),
        rx_crc_err: n64(r),
        collisions: n64(r),
        duration: maybe(r, duration),
        custom: some(r, 3, |r| (format!("x{}", text(r, 9)), n64(r))),
        rfc2819: maybe(r, |r| Box::new(core::array::from_fn(|_| n64(r)))),
    }
}

fn table_desc(r: &mut Rng) -> TableDesc {
    TableDesc {
        table: TableId(r.next() as u8),
        config: n32(r) & 0xc,
        eviction_flags: maybe(r, |r| n32(r) & 7),
        vacancy: maybe(r, |r| (r.below(50) as u8, 50 + r.below(51) as u8, r.below(101) as u8)),
    }
}

fn table_features(r: &mut Rng) -> TableFeatures {
    TableFeatures {
        table: TableId(r.below(255) as u8),
        name: text(r, 31),
        metadata_match: n64(r),
        metadata_write: n64(r),
        max_entries: n32(r),
        has_properties: true,
        ..TableFeatures::default()
    }
}

fn packet_in(r: &mut Rng, v: Version) -> PacketIn {
    let packet = [&[7], &bytes(r, 90)[..]].concat();
    PacketIn {
        format: [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2][r.below(3)],
        total_len: packet.len() as u32 + n32(r) % 1000,
        packet,
        buffer_id: None,
        reason: [PacketInReason::NoMatch, PacketInReason::Action, PacketInReason::InvalidTtl]
            [r.below(3)],
        table: TableId(r.next() as u8),
        cookie: n64(r),
        metadata: a_match(r, v),
        userdata: bytes(r, 20),
        continuation: Vec::new(),
    }
}

fn packet_out(r: &mut Rng, v: Version) -> PacketOut {
    let mut metadata = Match::ANY;
    metadata.set(flow::FieldId::InPort, real_port(r).0.into(), 0xffff);
    PacketOut { buffer_id: None, metadata, actions: actions(r, v), packet: bytes(r, 100) }
}

fn tuple(r: &mut Rng) -> CtTuple {
    let v6 = |r: &mut Rng| {
        core::net::Ipv6Addr::from(u128::from(r.next()) << 64 | 1 << 100 | u128::from(r.next()))
    };
    CtTuple {
        src: maybe(r, v6),
        dst: maybe(r, v6),
        src_port: maybe(r, n16),
        dst_port: maybe(r, n16),
        icmp_id: maybe(r, n16),
        icmp_type: maybe(r, |r| r.next() as u8),
        icmp_code: maybe(r, |r| r.next() as u8),
    }
}

fn ct_flush(r: &mut Rng) -> CtFlush {
    CtFlush {
        proto: r.next() as u8,
        orig: maybe(r, tuple),
        reply: maybe(r, tuple),
        zone: maybe(r, n16),
        mark: maybe(r, n32),
        mark_mask: maybe(r, n32),
        label: maybe(r, |r| u128::from(r.next())),
        label_mask: maybe(r, |r| u128::from(r.next()) << 64),
    }
}

fn flow_request(r: &mut Rng, v: Version) -> FlowStatsRequest {
    FlowStatsRequest {
        match_: a_match(r, v),
        cookie: 0,
        cookie_mask: 0,
        out_port: port(r),
        out_group: GROUP_ANY,
        table: TableId(r.next() as u8),
    }
}

fn flow_stats(r: &mut Rng, v: Version) -> FlowStats {
    FlowStats {
        match_: a_match(r, v),
        actions: actions(r, v),
        table: TableId(r.next() as u8),
        priority: n16(r),
        duration: duration(r),
        idle_timeout: n16(r),
        hard_timeout: n16(r),
        cookie: n64(r),
        n_packets: n64(r),
        n_bytes: n64(r),
        idle_age: None,
        hard_age: None,
        importance: n16(r),
        flags: FlowModFlags::empty(),
    }
}

fn removed(r: &mut Rng, v: Version) -> FlowRemoved {
    FlowRemoved {
        match_: a_match(r, v),
        priority: n16(r),
        cookie: n64(r),
        reason: [
            FlowRemovedReason::IdleTimeout,
            FlowRemovedReason::HardTimeout,
            FlowRemovedReason::Delete,
            FlowRemovedReason::GroupDelete,
            FlowRemovedReason::MeterDelete,
            FlowRemovedReason::Eviction,
        ][r.below(6)],
        table: TableId(r.next() as u8),
        duration: duration(r),
        idle_timeout: n16(r),
        hard_timeout: n16(r),
        n_packets: n64(r),
        n_bytes: n64(r),
    }
}

fn monitor(r: &mut Rng, v: Version) -> FlowMonitor {
    FlowMonitor {
        id: n32(r),
        command: MonitorCommand::Add,
        flags: monitor_flag::ADD | r.next() as u16 & 0x3f,
        out_port: port(r),
        out_group: GROUP_ANY,
        table: TableId(r.next() as u8),
        match_: a_match(r, v),
    }
}

fn update(r: &mut Rng, v: Version) -> FlowUpdate {
    let event = [FlowEvent::Added, FlowEvent::Removed, FlowEvent::Modified][r.below(3)];
    FlowUpdate::Flow(Box::new(FlowChange {
        event,
        reason: (event == FlowEvent::Removed).then_some(FlowRemovedReason::Delete),
        table: TableId(r.next() as u8),
        priority: n16(r),
        idle_timeout: n16(r),
        hard_timeout: n16(r),
        cookie: n64(r),
        match_: a_match(r, v),
        actions: actions(r, v),
    }))
}

fn exporter(r: &mut Rng) -> IpfixStats {
    IpfixStats {
        total_flows: n64(r),
        current_flows: n64(r),
        n_packets: n64(r),
        ipv4: n64(r),
        ipv6: n64(r),
        errors: n64(r),
        ipv4_errors: n64(r),
        ipv6_errors: n64(r),
        tx: n64(r),
        tx_errors: n64(r),
        collector_set_id: n32(r),
    }
}

/// Bodies of every kind that has more than a number to say.
pub fn bodies(r: &mut Rng, v: Version) -> Vec<Body> {
    let role = Role { role: r.below(4) as u32, generation_id: Some(n64(r)) };
    vec![
        Body::EchoReply(bytes(r, 40)),
        Body::FeaturesReply(Box::new(Features {
            dpid: n64(r),
            n_buffers: n32(r),
            n_tables: r.next() as u8,
            auxiliary_id: r.next() as u8,
            capabilities: n32(r) & 0xef,
            actions: n32(r) & 0xfff,
            ports: some(r, 3, port_desc),
        })),
        Body::PacketIn(Box::new(packet_in(r, v))),
        Body::PacketOut(Box::new(packet_out(r, v))),
        Body::FlowRemoved(Box::new(removed(r, v))),
        Body::PortStatus(
            [PortReason::Add, PortReason::Delete, PortReason::Modify][r.below(3)],
            Box::new(port_desc(r)),
        ),
        Body::PortMod(PortMod {
            port: real_port(r),
            hw_addr: MacAddr::from_u64(r.next() & 0xffff_ffff_ffff),
            config: n32(r) & 0x65,
            mask: n32(r) & 0x65,
            advertise: n32(r) & 0xfff,
        }),
        Body::TableMod(TableMod {
            table: TableId(r.next() as u8),
            config: n32(r) & 0xf,
            eviction_flags: maybe(r, |r| n32(r) & 7),
            vacancy: maybe(r, |r| (r.below(50) as u8, 50 + r.below(51) as u8)),
        }),
        Body::RoleRequest(role),
        Body::RoleReply(role),
        Body::RoleStatus(role, r.below(3) as u8),
        Body::ControllerStatus(Box::new(ControllerStatus {
            short_id: n16(r),
            role: role.role,
            reason: r.below(7) as u8,
            is_down: r.below(2) == 0,
            uri: ["", "tcp:1.2.3.4", "ssl:[::1]:6653"][r.below(3)].into(),
        })),
        Body::SetControllerId(n16(r)),
        Body::CtFlushZone(n16(r)),
        Body::CtFlush(Box::new(ct_flush(r))),
        Body::BundleCtrl(BundleCtrl { id: n32(r), kind: r.below(8) as u16, flags: n16(r) & 3 }),
        Body::BundleAdd(Box::new(BundleAdd {
            id: n32(r),
            flags: n16(r) & 3,
            message: Message::new(v, 5, Body::GroupMod(Box::new(group_mod(r, v)))),
        })),
        Body::TableStatus(TableReason::VacancyDown, table_desc(r)),
        Body::FlowMonitorRequest(some(r, 2, |r| monitor(r, v))),
        Body::FlowMonitorReply(some(r, 2, |r| update(r, v))),
        Body::DescReply(Box::new(SwitchDesc {
            mfr_desc: text(r, 200),
            hw_desc: text(r, 200),
            sw_desc: text(r, 200),
            serial_num: text(r, 31),
            dp_desc: text(r, 200),
        })),
        Body::FlowStatsRequest(flow_request(r, v)),
        Body::AggregateRequest(flow_request(r, v)),
        Body::FlowStatsReply(some(r, 3, |r| flow_stats(r, v))),
        Body::AggregateReply(AggregateStats {
            n_packets: n64(r),
            n_bytes: n64(r),
            n_flows: n32(r),
        }),
        Body::IpfixBridgeReply(some(r, 2, exporter)),
        Body::IpfixFlowReply(some(r, 3, exporter)),
        Body::TableStatsReply(some(r, 3, |r| TableStats {
            features: table_features(r),
            active: n32(r),
            lookup: n64(r),
            matched: n64(r),
        })),
        Body::TableFeaturesReply(some(r, 3, table_features)),
        Body::TableDescReply(some(r, 3, table_desc)),
        Body::PortStatsRequest(port(r)),
        Body::PortStatsReply(some(r, 3, port_stats)),
        Body::PortDescReply(some(r, 3, port_desc)),
        Body::QueueStatsRequest(port(r), n32(r)),
        Body::QueueStatsReply(some(r, 3, |r| QueueStats {
            port: real_port(r),
            queue: n32(r),
            tx_bytes: n64(r),
            tx_packets: n64(r),
            tx_errors: n64(r),
            duration: maybe(r, duration),
        })),
        Body::GroupMod(Box::new(group_mod(r, v))),
        Body::GroupStatsReply(some(r, 3, |r| GroupStats {
            group: n32(r),
            ref_count: n32(r),
            n_packets: n64(r),
            n_bytes: n64(r),
            duration: Some(duration(r)),
            buckets: some(r, 3, |r| (n64(r), n64(r))),
        })),
        Body::GroupDescReply(some(r, 3, |r| group_desc(r, v))),
        Body::GroupFeaturesReply(Box::new(GroupFeatures {
            types: n32(r) & 0xf,
            capabilities: n32(r) & 0xf,
            max_groups: core::array::from_fn(|_| n32(r)),
            actions: core::array::from_fn(|_| n32(r)),
        })),
        Body::MeterMod(Box::new(MeterMod {
            command: [MeterCommand::Add, MeterCommand::Modify][r.below(2)],
            meter: meter(r),
        })),
        Body::MeterStatsReply(some(r, 3, |r| MeterStats {
            meter: n32(r),
            flow_count: n32(r),
            n_packets: n64(r),
            n_bytes: n64(r),
            duration: Some(duration(r)),
            bands: some(r, 3, |r| (n64(r), n64(r))),
        })),
        Body::MeterConfigReply(some(r, 3, meter)),
        Body::MeterFeaturesReply(MeterFeatures {
            max_meters: n32(r),
            band_types: n32(r) & 6,
            capabilities: n32(r) & 0xf,
            max_bands: r.next() as u8,
            max_color: r.next() as u8,
        }),
    ]
}
