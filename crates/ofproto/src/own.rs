//! The switch's own flows of table 0: in-band control and fail-open.
//!
//! They go before all flows of controllers. No dump shows them, no flow mod reaches them, and no
//! limit counts them; `bridge/dump-flows` and traces name them by their priorities, which are higher than
//! any that a message can say. In-band control lets the host speak with its controllers and managers
//! over the bridge itself, whatever the flows say: it forwards, as a learning switch would, what
//! the host needs to get an address, to find its next hops, and to reach those at the other ends.
//!
//! Source: OVS's "In-Band Control" design and `ovs-vswitchd.conf.db(5)`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use base::{Cookie, Instant, MacAddr, OfPort, TableId};
use classifier::{Classifier, MiniMatch};
use flow::{Match, PacketKey};
use openflow::action::Action;
use openflow::flow_mod::FlowModFlags;
use openflow::version::Version;
use packet::header::{ethertype, ipproto};

use crate::rule::{Rule, RuleStats};
use crate::table::FlowTables;

/// Priority of the flow that makes a bridge a learning switch.
const FAIL_OPEN: u32 = 0xf0_f0f0;
/// Lowest priority of flows of in-band control. Each kind has its own so that it can be told; the order
/// does not matter, for all do the same.
const IN_BAND: u32 = 180_000;

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;

/// Whom the host is to reach over the bridge, and what is known of the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InBand {
    /// Queue that the packets go to (`other_config:in-band-queue`).
    pub queue: Option<u32>,
    /// Address of the LOCAL port, when it is known.
    pub local_mac: Option<MacAddr>,
    /// The other ends; with none, there is no in-band control.
    pub remotes: Vec<InBandRemote>,
}

/// One other end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct InBandRemote {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
    /// Address of the next hop on the way to it, when it is known.
    pub next_hop: Option<MacAddr>,
}

/// A match of some fields of the packet, by `(value, mask)` of each.
fn on(fields: impl Fn(&mut PacketKey, &mut PacketKey)) -> Match {
    let mut m = Match::ANY;
    fields(&mut m.key.pkt, &mut m.mask.pkt);
    m
}

/// ARP of one kind, and what else `fields` says.
fn arp(op: u8, fields: impl Fn(&mut PacketKey, &mut PacketKey)) -> Match {
    on(|k, m| {
        (k.dl_type, m.dl_type) = (ethertype::ARP, u16::MAX);
        (k.nw_proto, m.nw_proto) = (op, u8::MAX);
        fields(k, m);
    })
}

/// IPv4 of one protocol, and what else `fields` says.
fn ip(proto: u8, fields: impl Fn(&mut PacketKey, &mut PacketKey)) -> Match {
    on(|k, m| {
        (k.dl_type, m.dl_type) = (ethertype::IPV4, u16::MAX);
        (k.nw_proto, m.nw_proto) = (proto, u8::MAX);
        fields(k, m);
    })
}

impl InBand {
    /// Its flows: priorities and matches, each match once.
    fn flows(&self) -> Vec<(u32, Match)> {
        const ALL: [u8; 6] = [0xff; 6];
        let mut flows: Vec<Match> = Vec::new();
        let mut kinds: Vec<u32> = Vec::new();
        let mut put = |kind: u32, m: Match| {
            if !flows.contains(&m) {
                flows.push(m);
                kinds.push(IN_BAND + kind);
            }
        };
        if let Some(MacAddr(mac)) = self.local_mac.filter(|_| !self.remotes.is_empty()) {
            // The host asks for an address.
            put(
                0,
                ip(ipproto::UDP, |k, m| {
                    (k.in_port, m.in_port) = (OfPort::LOCAL.0.into(), u32::MAX);
                    (k.dl_src, m.dl_src) = (mac, ALL);
                    (k.tp_src, m.tp_src) = (DHCP_CLIENT, u16::MAX);
                    (k.tp_dst, m.tp_dst) = (DHCP_SERVER, u16::MAX);
                }),
            );
            put(1, arp(ARP_REPLY, |k, m| (k.dl_dst, m.dl_dst) = (mac, ALL)));
            put(2, arp(ARP_REQUEST, |k, m| (k.dl_src, m.dl_src) = (mac, ALL)));
        }
        for MacAddr(mac) in self.remotes.iter().filter_map(|r| r.next_hop) {
            put(3, arp(ARP_REPLY, |k, m| (k.dl_dst, m.dl_dst) = (mac, ALL)));
            put(4, arp(ARP_REQUEST, |k, m| (k.dl_src, m.dl_src) = (mac, ALL)));
        }
        for r in &self.remotes {
            let addr = r.addr.to_bits();
            put(5, arp(ARP_REPLY, |k, m| (k.nw_dst, m.nw_dst) = (addr, u32::MAX)));
            put(6, arp(ARP_REQUEST, |k, m| (k.nw_src, m.nw_src) = (addr, u32::MAX)));
            put(
                7,
                ip(ipproto::TCP, |k, m| {
                    (k.nw_dst, m.nw_dst) = (addr, u32::MAX);
                    (k.tp_dst, m.tp_dst) = (r.port, u16::MAX);
                }),
            );
            put(
                8,
                ip(ipproto::TCP, |k, m| {
                    (k.nw_src, m.nw_src) = (addr, u32::MAX);
                    (k.tp_src, m.tp_src) = (r.port, u16::MAX);
                }),
            );
        }
        kinds.into_iter().zip(flows).collect()
    }

    fn actions(&self) -> Box<[Action]> {
        let queue = self.queue.map(Action::SetQueue);
        queue.into_iter().chain([NORMAL]).collect()
    }
}

const NORMAL: Action = Action::Output { port: OfPort::NORMAL, max_len: 0 };

/// Whether a packet is an answer to a host that asks for an address. With in-band control the
/// LOCAL port gets it whatever the flows say.
pub(crate) fn is_dhcp_answer(k: &PacketKey) -> bool {
    (k.dl_type, k.nw_proto) == (ethertype::IPV4, ipproto::UDP)
        && (k.tp_src, k.tp_dst) == (DHCP_SERVER, DHCP_CLIENT)
}

impl FlowTables {
    /// The switch's own flows.
    pub fn own(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let own = self.tables.first().and_then(|t| t.own.as_ref());
        own.into_iter().flat_map(|own| own.iter().map(|found| found.rule))
    }

    pub(crate) fn is_fail_open(&self) -> bool {
        self.own().any(|r| r.priority == FAIL_OPEN)
    }

    /// Puts `NORMAL` before all flows, or takes it away.
    pub(crate) fn set_fail_open(&mut self, on: bool, now: Instant) {
        let flow = on.then_some((FAIL_OPEN, Match::ANY));
        self.set_own(|p| p == FAIL_OPEN, flow.as_slice(), &[NORMAL], now);
    }

    /// Makes the flows of in-band control those that `wanted` needs. Those that stay go on counting.
    pub(crate) fn set_in_band(&mut self, wanted: &InBand, now: Instant) {
        self.set_own(|p| p < FAIL_OPEN, &wanted.flows(), &wanted.actions(), now);
    }

    /// Makes `flows` the own ones of the priorities of which `is` says so.
    fn set_own(
        &mut self,
        is: impl Fn(u32) -> bool,
        flows: &[(u32, Match)],
        actions: &[Action],
        now: Instant,
    ) {
        let hash = self.hash;
        let Some(table) = self.tables.first_mut() else { return };
        let own = table.own.get_or_insert_with(|| Box::new(Classifier::new(hash)));
        let olds: Vec<Arc<Rule>> =
            own.iter().map(|f| f.rule).filter(|r| is(r.priority)).cloned().collect();
        for old in &olds {
            own.remove(&old.match_.expand(), old.rank());
        }
        for (priority, m) in flows {
            let match_ = MiniMatch::from(m);
            let old = olds.iter().find(|r| r.priority == *priority && r.match_ == match_);
            let rule = match old {
                Some(old) => Rule { actions: actions.into(), ..Rule::clone(old) },
                None => Rule {
                    match_,
                    priority: *priority,
                    table: TableId(0),
                    cookie: Cookie(0),
                    idle_timeout: 0,
                    hard_timeout: 0,
                    importance: 0,
                    flags: FlowModFlags::default(),
                    version: Version::Of10,
                    actions: actions.into(),
                    created: now,
                    modified: now,
                    stats: Arc::new(RuleStats::new(now)),
                },
            };
            own.insert(m, rule.rank(), Arc::new(rule));
        }
        if own.is_empty() {
            table.own = None;
        }
    }
}
