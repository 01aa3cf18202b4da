//! A bridge to play with: three ports, a clock, and flows written as text.
#![allow(dead_code, clippy::unwrap_used)]

pub mod peer;

use std::sync::{Arc, Mutex};

use base::{DpPort, Duration, HashKey, Instant, MacAddr, OfPort, RecircId, TableId};
use flow::text::{Mode, NoNames, parse_exact, parse_match};
use flow::{FlowKey, PacketKey};
use ofproto::port::VlanConfig;
use ofproto::{
    BridgeId, BridgeSpec, FailMode, Frozen, PortSpec, RecircStore, RecircTable, Switch,
    TraceRequest, XlateOut,
};
use openflow::action::{Action, CtAction};
use openflow::flow_mod::{FlowMod, FlowModFlags};
use openflow::message::PortMod;

#[derive(Debug, Default)]
pub struct Locked(Mutex<RecircTable>);

impl RecircStore for Locked {
    fn intern(&self, state: Frozen) -> (RecircId, Arc<Frozen>) {
        self.0.lock().unwrap().intern(state)
    }
    fn get(&self, id: RecircId) -> Option<Arc<Frozen>> {
        self.0.lock().unwrap().get(id)
    }
}

pub struct World {
    pub sw: Switch,
    pub br: BridgeId,
    pub now: Instant,
}

pub fn output(port: u16) -> Action {
    Action::Output { port: OfPort(port), max_len: 0 }
}

pub const NORMAL: Action = Action::Output { port: OfPort::NORMAL, max_len: 0 };

pub fn ct(table: Option<u8>, commit: bool) -> Action {
    let recirc_table = table.map(TableId);
    Action::Ct(Box::new(CtAction { commit, recirc_table, ..CtAction::default() }))
}

pub fn resubmit(table: u8) -> Action {
    Action::Resubmit { port: None, table: Some(TableId(table)), with_ct: false }
}

/// `table=T,priority=P,…` as a flow mod.
pub fn flow_mod(text: &str, actions: &[Action]) -> FlowMod {
    let mut fm = FlowMod { actions: actions.to_vec(), ..FlowMod::default() };
    let mut rest = Vec::new();
    for word in text.split(',').filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some(("table", v)) => fm.table = Some(TableId(v.parse().unwrap())),
            Some(("priority", v)) => fm.priority = v.parse().unwrap(),
            Some(("idle_timeout", v)) => fm.idle_timeout = v.parse().unwrap(),
            Some(("hard_timeout", v)) => fm.hard_timeout = v.parse().unwrap(),
            Some(("cookie", v)) => fm.new_cookie = Some(v.parse().unwrap()),
            _ if word == "send_flow_rem" => fm.flags |= FlowModFlags::SEND_FLOW_REM,
            _ if word == "check_overlap" => fm.flags |= FlowModFlags::CHECK_OVERLAP,
            _ if word == "reset_counts" => fm.flags |= FlowModFlags::RESET_COUNTS,
            _ => rest.push(word),
        }
    }
    fm.match_ = parse_match(&rest.join(","), &NoNames, Mode::Ovs).unwrap();
    fm
}

impl World {
    /// A secure bridge br0 without ports.
    pub fn empty() -> World {
        let mut sw = Switch::new(HashKey([1, 2]), Arc::new(Locked::default()));
        let now = Instant::from_secs(100);
        let spec = BridgeSpec { fail_mode: FailMode::Secure, ..BridgeSpec::default() };
        let br = sw.put_bridge("br0", spec, now);
        World { sw, br, now }
    }

    /// A secure bridge br0 with LOCAL and ports 2 and 3, whose datapath ports are 1, 2 and 3.
    pub fn new() -> World {
        let mut w = World::empty();
        w.port(OfPort::LOCAL.0, 1, "br0", VlanConfig::default());
        w.port(2, 2, "vm1p", VlanConfig::default());
        w.port(3, 3, "vm2p", VlanConfig::default());
        w
    }

    /// The seven lines of the story's policy.
    pub fn story() -> World {
        let mut w = World::new();
        w.add("priority=100,ip", &[ct(Some(1), false)]);
        w.add("priority=10,arp", &[NORMAL]);
        w.add("priority=1", &[]);
        w.add("table=1,ip,in_port=2,ct_state=+new", &[ct(None, true), NORMAL]);
        w.add("table=1,ip,in_port=2,ct_state=+est", &[NORMAL]);
        w.add("table=1,ip,in_port=3,ct_state=+new", &[]);
        w.add("table=1,ip,in_port=3,ct_state=+est", &[NORMAL]);
        w
    }

    pub fn port(&mut self, ofport: u16, dp: u32, name: &str, vlan: VlanConfig) {
        let spec = PortSpec {
            name: name.into(),
            dp_port: DpPort(dp),
            mac: MacAddr([0xaa, 0, 0, 0, 0, dp as u8]),
            vlan,
            admin_up: true,
            link_up: true,
            ..PortSpec::default()
        };
        self.sw.put_port(self.br, OfPort(ofport), spec, self.now);
    }

    /// Sets a port's configuration bits, as a port mod does.
    pub fn config(&mut self, port: u16, config: u32) {
        let hw_addr = self.bridge().port(OfPort(port)).unwrap().spec.mac;
        let m = PortMod { port: OfPort(port), hw_addr, config, mask: !0, advertise: 0 };
        assert_eq!(self.bridge().port_mod(&m, None), Ok(true));
    }

    pub fn bridge(&mut self) -> &mut ofproto::Bridge {
        self.sw.bridge_mut(self.br).unwrap()
    }

    pub fn add(&mut self, flow: &str, actions: &[Action]) {
        let now = self.now;
        self.bridge().flow_mod(&flow_mod(flow, actions), now).unwrap();
    }

    /// A packet's key: text as `ofproto/trace` reads it, with an OpenFlow `in_port`.
    pub fn key(&self, text: &str) -> FlowKey {
        parse_exact(text, &NoNames).unwrap()
    }

    /// The same for the datapath.
    pub fn dp_key(&self, text: &str) -> PacketKey {
        let mut k = self.key(text).pkt;
        let port = OfPort(k.in_port as u16);
        k.in_port = self.sw.bridge(self.br).unwrap().port(port).unwrap().spec.dp_port.0;
        k
    }

    /// Translates and does the effects, as the daemon does.
    pub fn run_key(&mut self, key: &PacketKey) -> XlateOut {
        let x = self.sw.xlate(self.now, key, None);
        x.credits.add(&dpif::FlowStats {
            n_packets: 1,
            n_bytes: 60,
            used: Some(self.now),
            tcp_flags: 0,
        });
        self.sw.apply(self.now, &x.effects);
        x
    }

    pub fn run(&mut self, text: &str) -> XlateOut {
        let key = self.dp_key(text);
        self.run_key(&key)
    }

    /// Datapath actions of a packet as text.
    pub fn actions(&mut self, text: &str) -> String {
        let x = self.run(text);
        dpif::text::format_actions(&x.actions, dpif::text::NO_NAMES).to_string()
    }

    pub fn trace(&self, text: &str, ct_next: &[u8]) -> String {
        let key = self.key(text);
        let request = TraceRequest {
            bridge: self.br,
            key: &key,
            is_real: false,
            ct_next,
            actions: None,
            names: false,
        };
        self.sw.trace(self.now, &request, &|_, _| None).text
    }

    pub fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }
}
