//! Meters: changes of them, flows that use them, and packets for controllers.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod common;

use std::sync::{Arc, Mutex};

use base::{Instant, TableId};
use common::peer::{deliver, one, received, refused, send, session};
use common::{World, output};
use dpif::{MeterCounters, MeterSpec, MeterStore};
use ofproto::SessionKind::{Controller, Service};
use openflow::action::{Action, ControllerAction};
use openflow::error::OfError as E;
use openflow::flow_mod::{FlowMod, FlowModFlags};
use openflow::message::*;
use openflow::text::{MeterText, parse_meter};
use openflow::version::Version;

/// A datapath's meters, by number; `None` for those that went.
#[derive(Debug, Default)]
struct Store(Mutex<Vec<Option<MeterSpec>>>);

impl MeterStore for Store {
    fn add(&self, spec: &MeterSpec, _: Instant) -> Option<u32> {
        let mut all = self.0.lock().unwrap();
        all.push(Some(spec.clone()));
        Some(all.len() as u32 - 1)
    }
    fn set(&self, id: u32, spec: &MeterSpec, _: Instant) {
        self.0.lock().unwrap()[id as usize] = Some(spec.clone());
    }
    fn remove(&self, id: u32) {
        self.0.lock().unwrap()[id as usize] = None;
    }
    fn counters(&self, id: u32) -> MeterCounters {
        MeterCounters { n_packets: id.into(), n_bytes: 60, bands: vec![(1, 2)] }
    }
}

fn world() -> (World, Arc<Store>) {
    let mut w = World::empty();
    let store = Arc::<Store>::default();
    w.sw.set_meters(store.clone());
    // A bridge that was there before has no meters.
    let now = w.now;
    let spec = w.bridge().spec().clone();
    w.br = w.sw.put_bridge("br1", spec, now);
    w.port(2, 2, "vm1p", Default::default());
    w.port(3, 3, "vm2p", Default::default());
    (w, store)
}

fn meter_mod(text: &str, command: MeterCommand) -> Body {
    Body::MeterMod(Box::new(parse_meter(text, command).unwrap()))
}

fn add(text: &str) -> Body {
    meter_mod(text, MeterCommand::Add)
}

fn flow(priority: u16, actions: Vec<Action>) -> Body {
    Body::FlowMod(Box::new(FlowMod {
        priority,
        flags: FlowModFlags::SEND_FLOW_REM,
        table: Some(TableId(0)),
        actions,
        ..FlowMod::default()
    }))
}

const UDP: &str = "in_port=2,udp";

#[test]
fn meters_are_added_changed_told_and_deleted() {
    let (mut w, store) = world();
    for version in [Version::Of13, Version::Of14, Version::Of15] {
        let mut s = session(&mut w, Service, version);
        send(
            &mut w,
            &mut s,
            version,
            add("meter=1,pktps,burst,band=type=drop,rate=5,burst_size=2"),
        );
        let remark = "meter=9,kbps,stats,band=type=dscp_remark,rate=7,prec_level=1";
        send(&mut w, &mut s, version, add(remark));
        let modify = meter_mod("meter=1,kbps,band=type=drop,rate=6", MeterCommand::Modify);
        send(&mut w, &mut s, version, modify);
        w.pass(3);
        let Body::MeterConfigReply(list) =
            one(&mut w, &mut s, Body::MeterConfigRequest(meter_id::ALL))
        else {
            panic!()
        };
        let texts: Vec<String> = list.iter().map(|m| MeterText(m).to_string()).collect();
        assert_eq!(
            texts,
            [
                "meter=1 kbps bands=\ntype=drop rate=6\n",
                "meter=9 kbps stats bands=\ntype=dscp_remark rate=7 prec_level=1\n"
            ]
        );
        let Body::MeterStatsReply(list) = one(&mut w, &mut s, Body::MeterStatsRequest(9)) else {
            panic!()
        };
        assert_eq!((list[0].n_bytes, &list[0].bands[..]), (60, &[(1, 2)][..]));
        assert_eq!(list[0].duration.map(|d| d.as_secs()), Some(3));
        for (body, error) in [
            (add("meter=1,kbps,band=type=drop,rate=6"), E::OFPMMFC_METER_EXISTS),
            (
                meter_mod("meter=2,kbps,band=type=drop,rate=6", MeterCommand::Modify),
                E::OFPMMFC_UNKNOWN_METER,
            ),
            (add("meter=all,kbps,band=type=drop,rate=6"), E::OFPMMFC_INVALID_METER),
            (Body::MeterStatsRequest(2), E::OFPMMFC_UNKNOWN_METER),
            (Body::MeterConfigRequest(2), E::OFPMMFC_UNKNOWN_METER),
        ] {
            assert_eq!(refused(&mut w, &mut s, body), error);
        }
        let bands = vec![Band { kind: BandType::Drop, rate: 1, burst_size: 0 }; 9];
        let meter = MeterConfig { meter: 3, flags: MeterFlags::KBPS, bands };
        let m = MeterMod { command: MeterCommand::Add, meter };
        let many = Body::MeterMod(Box::new(m.clone()));
        assert_eq!(refused(&mut w, &mut s, many), E::OFPMMFC_OUT_OF_BANDS);
        let mut no_rate = m.clone();
        no_rate.meter.bands = vec![Band { kind: BandType::Drop, rate: 0, burst_size: 0 }];
        let no_rate = Body::MeterMod(Box::new(no_rate));
        assert_eq!(refused(&mut w, &mut s, no_rate), E::OFPMMFC_BAD_RATE);
        send(&mut w, &mut s, version, meter_mod("meter=all", MeterCommand::Delete));
        assert_eq!(received(&mut s), []);
        assert!(store.0.lock().unwrap().iter().all(Option::is_none), "gone below as well");
    }
}

#[test]
fn flows_need_their_meter_and_end_with_it() {
    let (mut w, _) = world();
    let mut s = session(&mut w, Controller, Version::Of14);
    let metered = |m| vec![Action::Meter(m), output(3)];
    assert_eq!(refused(&mut w, &mut s, flow(2, metered(1))), E::OFPMMFC_INVALID_METER);
    send(&mut w, &mut s, Version::Of14, add("meter=1,kbps,band=type=drop,rate=5"));
    send(&mut w, &mut s, Version::Of14, flow(2, metered(1)));
    send(&mut w, &mut s, Version::Of14, flow(1, vec![output(3)]));
    assert_eq!(w.actions(UDP), "meter(0),3");
    let Body::MeterStatsReply(list) = one(&mut w, &mut s, Body::MeterStatsRequest(1)) else {
        panic!()
    };
    assert_eq!(list[0].flow_count, 1);
    deliver(&mut w, &mut [&mut s]);
    received(&mut s);
    send(&mut w, &mut s, Version::Of14, meter_mod("meter=1", MeterCommand::Delete));
    deliver(&mut w, &mut [&mut s]);
    let [Message { body: Body::FlowRemoved(gone), .. }] = &received(&mut s)[..] else { panic!() };
    assert_eq!((gone.priority, gone.reason), (2, FlowRemovedReason::MeterDelete));
    assert_eq!(w.actions(UDP), "3");
}

#[test]
fn packets_for_controllers_pass_a_meter() {
    let (mut w, _) = world();
    let mut s = session(&mut w, Service, Version::Of13);
    let controller = |meter| {
        let c = ControllerAction { meter, ..ControllerAction::default() };
        vec![Action::Controller(Box::new(c))]
    };
    send(&mut w, &mut s, Version::Of13, add("meter=4,pktps,band=type=drop,rate=5"));
    w.add("priority=1", &controller(Some(4)));
    w.add("priority=2,in_port=3", &controller(None));
    assert!(w.actions(UDP).starts_with("sample(sample=100.0%,actions(meter(0),userspace("));
    assert!(w.actions("in_port=3,udp").starts_with("userspace("));
    send(&mut w, &mut s, Version::Of13, add("meter=controller,pktps,band=type=drop,rate=5"));
    assert!(w.actions(UDP).starts_with("sample(sample=100.0%,actions(meter(0),"));
    assert!(w.actions("in_port=3,udp").starts_with("sample(sample=100.0%,actions(meter(1),"));
}

#[test]
fn a_bridge_takes_its_meters_along() {
    let (mut w, store) = world();
    let mut s = session(&mut w, Service, Version::Of13);
    send(&mut w, &mut s, Version::Of13, add("meter=4,pktps,band=type=drop,rate=5"));
    assert!(store.0.lock().unwrap()[0].is_some());
    w.sw.remove_bridge(w.br);
    assert!(store.0.lock().unwrap()[0].is_none());
}

#[test]
fn without_a_datapaths_meters_there_are_none() {
    let mut w = World::new();
    let mut s = session(&mut w, Service, Version::Of13);
    let Body::MeterFeaturesReply(f) = one(&mut w, &mut s, Body::MeterFeaturesRequest) else {
        panic!()
    };
    assert_eq!(f, MeterFeatures::default());
    let body = add("meter=1,kbps,band=type=drop,rate=5");
    assert_eq!(refused(&mut w, &mut s, body), E::OFPMMFC_INVALID_METER);
}
