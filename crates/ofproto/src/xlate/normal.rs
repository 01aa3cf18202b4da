//! `NORMAL`: what a learning switch with VLANs does (`ovs-vswitchd.conf.db(5)`, Port `vlan_mode`).

use alloc::format;

use base::{MacAddr, OfPort};
use flow::{VLAN_PRESENT, VlanTag};
use packet::header::ethertype;
use services::mac::Sighting;

use super::{Ctx, Effect};
use crate::port::{Port, PriorityTags, VlanMode};
use crate::trace::NodeKind;

pub(super) const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;

/// A tag of a packet inside the switch.
#[derive(Copy, Clone, Default)]
pub(super) struct Tag {
    /// 0 for none.
    tpid: u16,
    /// 0 for none.
    pub(super) vid: u16,
    /// Priority, in place in a TCI.
    pcp: u16,
}

/// The tags of a packet inside the switch, outermost first: that of its VLAN, and one that the switch
/// carries along.
pub(super) type Tags = [Tag; 2];

impl Tag {
    /// The tag of an untagged or priority-tagged packet in a VLAN.
    fn in_vlan(self, vid: u16) -> Tag {
        let tpid = if self.tpid == 0 { ethertype::VLAN } else { self.tpid };
        Tag { tpid, vid, ..self }
    }

    /// As it stands in a packet; one that says nothing is left out, unless it is to stay `always`.
    fn put(self, always: bool) -> VlanTag {
        let tci = self.vid | self.pcp;
        if tci == 0 && !(always && self.tpid != 0) {
            return VlanTag::default();
        }
        VlanTag { tpid: self.in_vlan(0).tpid, tci: tci | VLAN_PRESENT }
    }
}

/// The tags of a packet as it came.
fn tags_of(vlans: &[VlanTag; 2]) -> Tags {
    let mut tags = Tags::default();
    let present = vlans.iter().take_while(|v| v.tci & VLAN_PRESENT != 0);
    for (tag, v) in tags.iter_mut().zip(present) {
        *tag = Tag { tpid: v.tpid, vid: v.tci & VID, pcp: v.tci & PCP };
    }
    tags
}

impl<'a> Ctx<'a> {
    pub(super) fn normal(&mut self) {
        self.wc.pkt.dl_src = [0xff; 6];
        self.wc.pkt.dl_dst = [0xff; 6];
        let tag = self.flow.pkt.vlans[0];
        if tag.tci & VLAN_PRESENT != 0 {
            self.wc.pkt.vlans[0].tci |= VID | VLAN_PRESENT;
        }
        let br = self.br;
        let in_port = self.in_port();
        let from = br.port(in_port);
        let from_nowhere = matches!(in_port, OfPort::NONE | OfPort::CONTROLLER);
        if from.is_none() && !from_nowhere && !self.packet_out {
            self.report(NodeKind::Error, || format!("received packet on unknown port {in_port}"));
            self.report(NodeKind::Warn, || "no input bundle, dropping".into());
            return;
        }
        let is_tag = matches!(self.flow.pkt.dl_type, ethertype::VLAN | ethertype::QINQ);
        if is_tag && tag.tci & VLAN_PRESENT == 0 {
            self.report(NodeKind::Warn, || "partial VLAN tag, dropping".into());
            return;
        }
        if from.is_some_and(|p| br.mirrors.has_output(p.ofport)) {
            self.report(NodeKind::Warn, || "input port is mirror output port, dropping".into());
            return;
        }
        let tags = match from {
            Some(p) => self.admitted_tags(p),
            None => Some(tags_of(&self.flow.pkt.vlans)),
        };
        let Some(tags) = tags else {
            self.report(NodeKind::Warn, || {
                "disallowed VLAN VID for this input port, dropping".into()
            });
            return;
        };
        let vlan = tags[0].vid;
        let reserved = MacAddr(self.flow.pkt.dl_dst).is_reserved() && !br.spec.forward_bpdu;
        if reserved && from.is_some() {
            self.report(NodeKind::Detail, || {
                "packet has reserved destination MAC, dropping".into()
            });
            return;
        }
        let gratuitous_arp = self.is_gratuitous_arp();
        let src = MacAddr(self.flow.pkt.dl_src);
        if from.is_some() && !br.spec.flood_vlans.contains(&vlan) {
            let sighting = Sighting { vlan, mac: src, port: in_port, gratuitous_arp, bond: false };
            if !self.is_trace() {
                br.mac.note_static(&sighting);
            }
            if !self.is_trace() && br.mac.would_change(&sighting, self.now) {
                self.effects.push(Effect::LearnMac(br.id, sighting));
                let name = from.map_or("", |p| &p.spec.name);
                self.report(NodeKind::Detail, || {
                    format!("learned that {src} is on port {name} in VLAN {vlan}")
                });
            }
            self.credits.addresses.extend(br.mac.touch_cell(vlan, src, in_port));
        }
        let dst = MacAddr(self.flow.pkt.dl_dst);
        match self.learned_port(vlan, dst) {
            Some(port) if br.mirrors.has_output(port) => {
                self.report(NodeKind::Warn, || "learned port is a mirror port, dropping".into());
            }
            Some(port) if port == in_port => {
                self.report(NodeKind::Detail, || "learned port is input port, dropping".into());
            }
            Some(port) => match br.port(port) {
                Some(p) => {
                    self.report(NodeKind::Detail, || "forwarding to learned port".into());
                    self.normal_output(p, tags);
                }
                None => {
                    self.report(NodeKind::Warn, || "learned port is unknown, dropping".into());
                }
            },
            None => {
                self.report(NodeKind::Detail, || "no learned MAC for destination, flooding".into());
                for p in br.flood_order() {
                    if p.ofport != in_port
                        && p.floodable()
                        && p.spec.vlan.carries(tags.map(|t| t.vid))
                        && !br.mirrors.has_output(p.ofport)
                    {
                        self.normal_output(p, tags);
                    }
                }
            }
        }
    }

    /// Where an address is. What this packet's passage taught counts already.
    fn learned_port(&self, vlan: u16, mac: MacAddr) -> Option<OfPort> {
        if self.br.spec.flood_vlans.contains(&vlan) {
            return None;
        }
        let taught = self.effects.iter().rev().find_map(|e| match e {
            Effect::LearnMac(br, s) if *br == self.br.id && (s.vlan, s.mac) == (vlan, mac) => {
                Some(s.port)
            }
            _ => None,
        });
        taught.or_else(|| self.br.mac.lookup(vlan, mac, self.now))
    }

    /// The tags of the packet, its VLAN's first, as it is in the VLANs of a port; `None` if the port
    /// does not admit it.
    pub(super) fn admitted_tags(&mut self, p: &'a Port) -> Option<Tags> {
        let mut tags = tags_of(&self.flow.pkt.vlans);
        let (cfg, name, vid) = (&p.spec.vlan, &p.spec.name, tags[0].vid);
        let why = match cfg.mode {
            VlanMode::Access if vid != 0 => format!(
                "dropping VLAN {vid} tagged packet received on port {name} configured as VLAN {} \
                 access port",
                cfg.tag
            ),
            VlanMode::Access => return Some([tags[0].in_vlan(cfg.tag), Tag::default()]),
            VlanMode::Dot1qTunnel if cfg.admits_customer(vid) => {
                let around = Tag { tpid: cfg.qinq_ethertype, vid: cfg.tag, pcp: 0 };
                return Some([around, tags[0]]);
            }
            VlanMode::Dot1qTunnel => format!(
                "dropping VLAN {vid} packet received on dot1q-tunnel port {name} that excludes \
                 this VLAN"
            ),
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => {
                tags[0] = tags[0].in_vlan(cfg.tag);
                return Some(tags);
            }
            _ if cfg.trunks(vid) || (vid == cfg.tag && cfg.mode != VlanMode::Trunk) => {
                return Some(tags);
            }
            _ => format!(
                "dropping VLAN {vid} packet received on port {name} not configured for trunking \
                 VLAN {vid}"
            ),
        };
        self.report(NodeKind::Error, || why);
        None
    }

    /// Sends out of a port with the tags that it wants.
    pub(super) fn normal_output(&mut self, p: &'a Port, tags: Tags) {
        let cfg = &p.spec.vlan;
        let mut out = match cfg.mode {
            VlanMode::Access => Tags::default(),
            VlanMode::NativeUntagged if tags[0].vid == cfg.tag => [tags[1], Tag::default()],
            VlanMode::Dot1qTunnel => [tags[1], Tag::default()],
            _ => tags,
        };
        if cfg.mode == VlanMode::Dot1qTunnel && !cfg.cvlans.is_empty() {
            self.wc.pkt.vlans[1].tci = u16::MAX;
        }
        let old = self.flow.pkt.vlans;
        if cfg.priority_tags != PriorityTags::Never {
            out[0].pcp = old[0].tci & PCP;
        }
        let new = out.map(|t| t.put(cfg.priority_tags == PriorityTags::Always));
        if new[0] != old[0] && old[0].tci & VLAN_PRESENT != 0 {
            self.wc.pkt.vlans[0].tci |= PCP;
        }
        self.flow.pkt.vlans = new;
        self.send_to(p, false);
        self.flow.pkt.vlans = old;
    }

    /// An ARP packet by which a host tells all who it is; looks at what says so.
    fn is_gratuitous_arp(&mut self) -> bool {
        const REPLY: u8 = 2;
        let (k, w) = (&self.flow.pkt, &mut self.wc.pkt);
        if k.dl_type != ethertype::ARP || k.dl_dst != [0xff; 6] {
            return false;
        }
        w.nw_proto = 0xff;
        if k.nw_proto == REPLY {
            return true;
        }
        if k.nw_proto != 1 {
            return false;
        }
        (w.nw_src, w.nw_dst) = (u32::MAX, u32::MAX);
        k.nw_src == k.nw_dst
    }
}
