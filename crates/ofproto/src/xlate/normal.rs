//! `NORMAL`: what a learning switch with VLANs does (`ovs-vswitchd.conf.db(5)`, Port `vlan_mode`).

use alloc::format;

use base::{MacAddr, OfPort};
use flow::{VLAN_PRESENT, VlanTag};
use packet::header::ethertype;
use services::mac::Sighting;

use super::{Ctx, Effect};
use crate::port::{Port, PriorityTags, VlanMode};
use crate::trace::NodeKind;

const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;

/// The VLAN of a packet inside the switch.
#[derive(Copy, Clone)]
struct Vlan {
    /// 0 for none.
    vid: u16,
    /// Priority, in place in a TCI.
    pcp: u16,
    tpid: u16,
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
            self.report(NodeKind::Error, || {
                format!("dropping packet with partial VLAN tag received on port {in_port}")
            });
            return;
        }
        let Some(vlan) = self.input_vlan(from, tag) else { return };
        if MacAddr(self.flow.pkt.dl_dst).is_reserved() && !br.spec.forward_bpdu {
            self.report(NodeKind::Detail, || {
                "packet has reserved destination MAC, dropping".into()
            });
            return;
        }
        let gratuitous_arp = self.is_gratuitous_arp();
        let src = MacAddr(self.flow.pkt.dl_src);
        if from.is_some() {
            let sighting =
                Sighting { vlan: vlan.vid, mac: src, port: in_port, gratuitous_arp, bond: false };
            if !self.is_trace() && br.mac.would_change(&sighting, self.now) {
                self.effects.push(Effect::LearnMac(br.id, sighting));
                let name = from.map_or("", |p| &p.spec.name);
                self.report(NodeKind::Detail, || {
                    format!("learned that {src} is on port {name} in VLAN {}", vlan.vid)
                });
            }
            self.credits.addresses.extend(br.mac.touch_cell(vlan.vid, src, in_port));
        }
        let dst = MacAddr(self.flow.pkt.dl_dst);
        match br.mac.lookup(vlan.vid, dst, self.now) {
            Some(port) if port == in_port => {
                self.report(NodeKind::Detail, || "learned port is input port, dropping".into());
            }
            Some(port) => match br.port(port) {
                Some(p) => {
                    self.report(NodeKind::Detail, || "forwarding to learned port".into());
                    self.normal_output(p, vlan);
                }
                None => {
                    self.report(NodeKind::Warn, || "learned port is unknown, dropping".into());
                }
            },
            None => {
                self.report(NodeKind::Detail, || "no learned MAC for destination, flooding".into());
                for p in br.flood_order() {
                    if p.ofport != in_port && p.floodable() && p.spec.vlan.carries(vlan.vid) {
                        self.normal_output(p, vlan);
                    }
                }
            }
        }
    }

    /// The VLAN that a packet belongs to; `None` if the port does not admit it.
    fn input_vlan(&mut self, from: Option<&'a Port>, tag: VlanTag) -> Option<Vlan> {
        let tagged = tag.tci & VLAN_PRESENT != 0;
        let (vid, pcp) = if tagged { (tag.tci & VID, tag.tci & PCP) } else { (0, 0) };
        let tpid = if tag.tpid == 0 { ethertype::VLAN } else { tag.tpid };
        let Some(p) = from else { return Some(Vlan { vid, pcp, tpid }) };
        let (cfg, name) = (&p.spec.vlan, &p.spec.name);
        match cfg.mode {
            VlanMode::Access if vid != 0 => {
                self.report(NodeKind::Error, || {
                    format!(
                        "dropping VLAN {vid} tagged packet received on port {name} configured as \
                         VLAN {} access port",
                        cfg.tag
                    )
                });
                self.report(NodeKind::Warn, || {
                    "disallowed VLAN VID for this input port, dropping".into()
                });
                None
            }
            VlanMode::Access => Some(Vlan { vid: cfg.tag, pcp, tpid }),
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => {
                Some(Vlan { vid: cfg.tag, pcp, tpid })
            }
            _ if !cfg.trunks(vid) && (vid != cfg.tag || cfg.mode == VlanMode::Trunk) => {
                self.report(NodeKind::Error, || {
                    format!(
                        "dropping VLAN {vid} packet received on port {name} not configured for \
                         trunking VLAN {vid}"
                    )
                });
                self.report(NodeKind::Warn, || {
                    "disallowed VLAN VID for this input port, dropping".into()
                });
                None
            }
            _ => Some(Vlan { vid, pcp, tpid }),
        }
    }

    /// Sends out of a port with the tag that it wants.
    fn normal_output(&mut self, p: &'a Port, vlan: Vlan) {
        let cfg = &p.spec.vlan;
        let vid = match cfg.mode {
            VlanMode::Access => 0,
            VlanMode::NativeUntagged if vlan.vid == cfg.tag => 0,
            _ => vlan.vid,
        };
        let tagged = match cfg.priority_tags {
            _ if vid != 0 => true,
            PriorityTags::Never => false,
            PriorityTags::IfNonzero => vlan.pcp != 0,
            PriorityTags::Always => true,
        };
        let old = self.flow.pkt.vlans[0];
        let new = if tagged {
            VlanTag { tpid: vlan.tpid, tci: vid | vlan.pcp | VLAN_PRESENT }
        } else {
            VlanTag::default()
        };
        if new != old && (old.tci & VLAN_PRESENT != 0) {
            self.wc.pkt.vlans[0].tci |= PCP;
        }
        self.flow.pkt.vlans[0] = new;
        self.send_to(p, false);
        self.flow.pkt.vlans[0] = old;
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
