//! Tunnel options as fields: the table that a controller fills, and what depends on it.
#![allow(clippy::unwrap_used)]

mod common;

use common::peer::{all_flows, ask, message, one, refused, session};
use common::{World, flow_mod, output};
use flow::TlvMap;
use flow::tun_metadata::{MAX_OPTION_LEN, OptionMatch};
use ofproto::{Event, SessionKind};
use openflow::action::{Action, ControllerAction};
use openflow::error::OfError;
use openflow::message::*;
use openflow::version::Version;

fn change(command: TlvCommand, maps: &[(u16, u8, u8, u16)]) -> Body {
    let map = |&(class, kind, len, index): &(u16, u8, u8, u16)| TlvMap { class, kind, len, index };
    Body::TlvTableMod(TlvTableMod { command, maps: maps.iter().map(map).collect() })
}

fn table(w: &mut World, s: &mut ofproto::Session) -> Vec<(u16, u8, u8, u16)> {
    let Body::TlvTableReply(t) = one(w, s, Body::TlvTableRequest) else { panic!() };
    assert_eq!((t.max_space, t.max_fields), (256, 64));
    t.maps.iter().map(|m| (m.class, m.kind, m.len, m.index)).collect()
}

#[test]
fn the_table_changes_whole_or_not_at_all() {
    for v in Version::ALL {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        let two = [(0xffff, 0, 4, 0), (0xffff, 1, 124, 5)];
        assert!(ask(&mut w, &mut s, change(TlvCommand::Add, &two)).is_empty());
        assert_eq!(table(&mut w, &mut s), two);
        for (bad, error) in [
            ([(1, 1, 4, 1), (0xffff, 0, 4, 2)], OfError::NXTTMFC_DUP_ENTRY),
            ([(1, 1, 4, 1), (1, 2, 4, 0)], OfError::NXTTMFC_ALREADY_MAPPED),
            ([(1, 1, 124, 1), (1, 2, 8, 2)], OfError::NXTTMFC_TABLE_FULL),
        ] {
            assert_eq!(refused(&mut w, &mut s, change(TlvCommand::Add, &bad)), error);
            assert_eq!(table(&mut w, &mut s), two, "{error}");
        }
        // What is not mapped can be deleted all the same.
        let delete = change(TlvCommand::Delete, &[(0, 0, 0, 0), (0, 0, 0, 9)]);
        assert!(ask(&mut w, &mut s, delete).is_empty());
        assert_eq!(table(&mut w, &mut s), two[1..]);
        assert!(ask(&mut w, &mut s, change(TlvCommand::Clear, &[])).is_empty());
        assert!(table(&mut w, &mut s).is_empty());
    }
}

#[test]
fn a_field_that_flows_use_keeps_its_option() {
    let v = Version::Of13;
    let mut w = World::new();
    let mut s = session(&mut w, SessionKind::Service, v);
    let flow = |text: &str, actions: &[Action]| {
        let mut fm = flow_mod(text, actions);
        fm.table.get_or_insert(base::TableId(0));
        Body::FlowMod(Box::new(fm))
    };
    let unmapped = refused(&mut w, &mut s, flow("tun_metadata3=0x1234", &[]));
    assert_eq!(unmapped, OfError::NXFMFC_INVALID_TLV_FIELD);
    assert!(ask(&mut w, &mut s, change(TlvCommand::Add, &[(2, 2, 8, 3), (2, 3, 4, 4)])).is_empty());
    assert!(ask(&mut w, &mut s, flow("tun_metadata3=0x1234", &[output(3)])).is_empty());
    let mut seven = [0; MAX_OPTION_LEN];
    seven[MAX_OPTION_LEN - 1] = 7;
    let option = Box::new(OptionMatch::new(seven, None));
    let set = Action::SetTunOption { index: 4, option };
    assert!(ask(&mut w, &mut s, flow("table=1", &[set, output(3)])).is_empty());
    for index in [3, 4] {
        let delete = change(TlvCommand::Delete, &[(0, 0, 0, index)]);
        assert_eq!(refused(&mut w, &mut s, delete), OfError::NXTTMFC_INVALID_TLV_DEL);
    }
    let clear = change(TlvCommand::Clear, &[]);
    assert_eq!(refused(&mut w, &mut s, clear.clone()), OfError::NXTTMFC_INVALID_TLV_DEL);
    assert_eq!(table(&mut w, &mut s).len(), 2);
    w.bridge().flush_flows(base::Instant::from_secs(200));
    assert!(ask(&mut w, &mut s, clear).is_empty());
}

/// A packet-out of 1.5 says an option; a flow matches it, and a packet-in tells it.
#[test]
fn an_option_of_a_packet_out_is_seen() {
    let v = Version::Of15;
    let mut w = World::new();
    let mut s = session(&mut w, SessionKind::Controller, v);
    assert!(ask(&mut w, &mut s, change(TlvCommand::Add, &[(0xffff, 0, 8, 2)])).is_empty());
    w.add("tun_metadata2=0xfedcba98", &[Action::Controller(Box::<ControllerAction>::default())]);
    w.bridge().take_events();
    let mut metadata = flow::Match::ANY;
    metadata.set(flow::FieldId::InPort, 2, 0xffff);
    let mut value = [0; MAX_OPTION_LEN];
    value[MAX_OPTION_LEN - 4..].copy_from_slice(&[0xfe, 0xdc, 0xba, 0x98]);
    assert!(metadata.set_tun_option(2, &OptionMatch::new(value, None)));
    let table = Action::Output { port: base::OfPort::TABLE, max_len: 0 };
    let po = PacketOut { buffer_id: None, metadata, actions: vec![table], packet: vec![1; 60] };
    assert!(ask(&mut w, &mut s, Body::PacketOut(Box::new(po))).is_empty());
    let events = w.bridge().take_events();
    let [Event::Execute(x)] = &events[..] else { panic!("{events:?}") };
    let [dpif::DpAction::Userspace(u)] = &x.actions[..] else { panic!("{:?}", x.actions) };
    let dpif::UserspaceCookie::Controller(c) = &**u else { panic!() };
    let (_, event) = w.sw.packet_in(c, &[1; 60], &x.key).unwrap();
    let Event::PacketIn(p) = event else { panic!() };
    let option = p.metadata.tun_option(2).unwrap();
    assert_eq!((option.value, option.masked), (value, false));
}

fn add(v: Version, text: &str, actions: &str) -> Body {
    use flow::text::{Mode, NoNames};
    let line = format!("{text} actions={actions}");
    let parsed =
        openflow::text::parse_flow(&line, openflow::FlowModCommand::Add, &NoNames, Mode::Ovs);
    let fm = parsed.unwrap().flow;
    let table = fm.table.or((v > Version::Of10).then_some(base::TableId(0)));
    Body::FlowMod(Box::new(openflow::FlowMod { table, ..fm }))
}

#[test]
fn actions_name_options_that_are_there_and_no_more_of_them() {
    for v in [Version::Of10, Version::Of13, Version::Of15] {
        let mut w = World::new();
        let mut s = session(&mut w, SessionKind::Service, v);
        ask(&mut w, &mut s, change(TlvCommand::Add, &[(0xffff, 0, 4, 0), (0xffff, 1, 8, 1)]));
        for (actions, error) in [
            ("move:tun_metadata2[0..31]->reg0", OfError::NXFMFC_INVALID_TLV_FIELD),
            ("move:tun_metadata0[16..47]->reg0", OfError::OFPBAC_BAD_SET_LEN),
            ("set_field:1->tun_metadata2", OfError::NXFMFC_INVALID_TLV_FIELD),
            ("push:tun_metadata2[0..3]", OfError::NXFMFC_INVALID_TLV_FIELD),
            ("output:tun_metadata1[56..71]", OfError::OFPBAC_BAD_SET_LEN),
            ("delete_field:tun_metadata2", OfError::NXFMFC_INVALID_TLV_FIELD),
            ("learn(tun_metadata2[0..7]=reg0[0..7])", OfError::NXFMFC_INVALID_TLV_FIELD),
            ("learn(load:tun_metadata0[30..37]->reg0[0..7])", OfError::OFPBAC_BAD_SET_LEN),
            (
                "multipath(eth_src,50,modulo_n,1,0,tun_metadata2[0..7])",
                OfError::NXFMFC_INVALID_TLV_FIELD,
            ),
            ("clone(move:tun_metadata2[0..31]->reg0)", OfError::NXFMFC_INVALID_TLV_FIELD),
        ] {
            assert_eq!(refused(&mut w, &mut s, add(v, "in_port=2", actions)), error, "{actions}");
        }
        let ct = add(v, "ip,in_port=2", "ct(commit,zone=tun_metadata2[0..15])");
        assert_eq!(refused(&mut w, &mut s, ct), OfError::NXFMFC_INVALID_TLV_FIELD);
        // A dump names the fields by headers as long as the options are, so that it can be sent again.
        for (n, actions) in
            [(1, "move:tun_metadata0[0..31]->reg0"), (2, "push:tun_metadata1[0..63]")]
        {
            let text = format!("in_port={n}");
            assert!(ask(&mut w, &mut s, add(v, &text, actions)).is_empty(), "{actions}");
        }
        let request = message(v, 9, Body::FlowStatsRequest(all_flows()));
        let bytes = request.encode(Default::default()).unwrap();
        let now = w.now;
        s.input(&mut w.sw, &common::peer::Env, now, &bytes);
        let reply = s.take_output();
        let has = |header: [u8; 4]| reply.windows(4).any(|w| w == header);
        assert!(has([0, 1, 40 << 1, 4]) && has([0, 1, 41 << 1, 8]), "{v} {reply:x?}");
        // Until the flows are gone the options stay.
        for i in 0..2 {
            let gone = change(TlvCommand::Delete, &[(0, 0, 0, i)]);
            assert_eq!(refused(&mut w, &mut s, gone), OfError::NXTTMFC_INVALID_TLV_DEL);
        }
    }
}

#[test]
fn a_trace_takes_options_wherever_the_table_has_them() {
    let mut w = World::new();
    let mut s = session(&mut w, SessionKind::Service, Version::Of13);
    ask(&mut w, &mut s, change(TlvCommand::Add, &[(0xffff, 0, 8, 3), (0xffff, 1, 4, 0)]));
    let v = Version::Of13;
    for (text, actions) in [
        ("conj_id=7", "drop"),
        ("priority=5,tun_metadata0=0x1", "conjunction(7,1/2)"),
        ("priority=5,tun_metadata3=0x20000000000", "conjunction(7,2/2)"),
    ] {
        assert!(ask(&mut w, &mut s, add(v, text, actions)).is_empty());
    }
    let trace = w.trace("in_port=LOCAL,tun_metadata0=0x1,tun_metadata3=0x20000000000", &[]);
    assert!(trace.contains(" 0. conj_id=7, priority 32768\n"), "{trace}");
    assert!(trace.contains("     -> conj. priority=5,tun_metadata0=0x1\n"), "{trace}");
    let trace = w.trace("in_port=LOCAL,tun_metadata0=0x1,tun_metadata3=0x2", &[]);
    assert!(trace.contains(" 0. No match."), "{trace}");
}
