//! Setting and moving fields.
//!
//! A field is set only if the packet has it: the bits that tell so are looked at.

use alloc::format;

use flow::field::{Field, FieldId, Prereq};
use flow::{FlowKey, VLAN_PRESENT, ct_state, nw_frag};
use openflow::Subfield;
use openflow::action::Action;
use packet::header::{ethertype, ipproto};

use super::Ctx;
use crate::trace::NodeKind;

impl Ctx<'_> {
    /// Marks the bits of a field as looked at.
    pub(super) fn look_at(&mut self, sf: Subfield) {
        mark(sf.row(), sf.mask() & sf.row().own_bits(), &mut self.wc);
    }

    /// Whether the packet has what a field needs; marks what tells so.
    pub(super) fn has_prereq(&mut self, p: Prereq) -> bool {
        let (mut k, w) = (self.flow.pkt, &mut self.wc.pkt);
        if k.packet_type != 0 {
            // What is no Ethernet is what its packet type says.
            k.dl_type = k.packet_type as u16;
        }
        let k = &k;
        match p {
            Prereq::None | Prereq::Ethernet => {}
            // The EtherType and packet type are always looked at.
            Prereq::Arp | Prereq::Mpls | Prereq::Nsh => {}
            Prereq::Ipv4 | Prereq::Ipv6 | Prereq::Ip => {}
            Prereq::Vlan => w.vlans[0].tci |= VLAN_PRESENT,
            Prereq::CtValid => w.ct_state |= ct_state::NEW | ct_state::EST | ct_state::RPL,
            Prereq::Tcp | Prereq::Udp | Prereq::Sctp | Prereq::Icmp | Prereq::Icmpv6 => {
                if Prereq::Ip.holds(k) {
                    w.nw_proto = 0xff;
                }
            }
            Prereq::Nd | Prereq::NdSolicit | Prereq::NdAdvert => {
                if Prereq::Ip.holds(k) {
                    w.nw_proto = 0xff;
                    if Prereq::Icmpv6.holds(k) {
                        (w.tp_src, w.tp_dst) = (0xffff, 0xffff);
                    }
                }
            }
        }
        let l4 = matches!(p, Prereq::Tcp | Prereq::Udp | Prereq::Sctp | Prereq::Icmp)
            || matches!(p, Prereq::Icmpv6 | Prereq::Nd | Prereq::NdSolicit | Prereq::NdAdvert);
        p.holds(k) && !(l4 && k.nw_frag & nw_frag::LATER != 0)
    }

    /// `set_field` and `load`.
    pub(super) fn set_field(&mut self, field: FieldId, value: u128, mask: u128) {
        let row = field.row();
        if !self.has_prereq(row.prereq) {
            self.report(NodeKind::Warn, || {
                format!("unmet prerequisites for {}, set_field ignored", row.name)
            });
            return;
        }
        if matches!(row.prereq, Prereq::Ipv4 | Prereq::Ipv6 | Prereq::Ip | Prereq::Arp) {
            self.wc.pkt.nw_proto = 0xff; // whether there is a header to change
        }
        self.store(row, value, mask);
    }

    fn store(&mut self, row: &Field, value: u128, mask: u128) {
        let mask = mask & row.own_bits();
        // What goes into the tunnel header does not depend on the header that the packet came with.
        if !row.name.starts_with("tun_") {
            mark(row, mask, &mut self.wc);
        }
        if matches!(row.id, FieldId::CtMark | FieldId::CtLabel) {
            mark(row, mask, &mut self.ct_set);
        }
        row.set_masked(&mut self.flow, value, mask);
        if is_vlan(row.id) {
            self.tidy_vlan(row.id);
        }
    }

    /// A tag that gets a VID or priority gets a protocol too. Without the bit that says so there is none,
    /// whatever else `vlan_tci` was set to.
    fn tidy_vlan(&mut self, field: FieldId) {
        let tag = &mut self.flow.pkt.vlans[0];
        if field != FieldId::VlanTci {
            tag.tci |= VLAN_PRESENT;
            self.wc.pkt.vlans[0].tci |= VLAN_PRESENT;
        }
        if tag.tci != 0 && tag.tpid == 0 {
            tag.tpid = ethertype::VLAN;
        }
    }

    /// `move`.
    pub(super) fn move_field(&mut self, src: Subfield, dst: Subfield) {
        if !self.has_prereq(dst.row().prereq) || !self.has_prereq(src.row().prereq) {
            return;
        }
        self.look_at(src);
        let value = src.get(&self.flow);
        self.load(dst, value);
        self.report_subfield(dst);
    }

    /// Puts a value that the switch itself computed into a part of a field. The options of a tunnel
    /// header are longer than any other.
    pub(super) fn load(&mut self, dst: Subfield, value: u128) {
        if dst.row().tun_option().is_some() {
            dst.set(&mut self.flow, value);
            return;
        }
        // A number alone makes no tag, other than one that is set.
        let row = match dst.field {
            FieldId::VlanVid => FieldId::VlanTci.row(),
            _ => dst.row(),
        };
        self.store(row, (value & dst.max()) << dst.ofs, dst.mask());
    }

    /// The action `load`.
    pub(super) fn set_part(&mut self, dst: Subfield, value: u128) {
        match dst.row().tun_option() {
            Some(_) => self.load(dst, value),
            None => self.set_field(dst.field, (value & dst.max()) << dst.ofs, dst.mask()),
        }
    }

    /// `delete_field`: the packet has the tunnel option no more.
    pub(super) fn delete_field(&mut self, field: FieldId) {
        if let Some(i) = field.row().tun_option() {
            self.flow.tun_metadata.delete(i);
        }
        self.report(NodeKind::Detail, || format!("delete {}", field.row().name));
    }

    /// The value of a stack pop.
    pub(super) fn pop_into(&mut self, dst: Subfield, value: u128) {
        if self.has_prereq(dst.row().prereq) {
            self.load(dst, value);
            self.report_subfield(dst);
        }
    }

    /// The actions of OpenFlow 1.0 and 1.1 that set one header field.
    pub(super) fn set_header(&mut self, a: &Action) {
        let (k, w) = (&mut self.flow.pkt, &mut self.wc.pkt);
        let ip = Prereq::Ip.holds(k);
        let v4 = k.dl_type == ethertype::IPV4;
        match a {
            Action::SetEthSrc(m) => return (k.dl_src, w.dl_src) = (m.0, [0xff; 6]),
            Action::SetEthDst(m) => return (k.dl_dst, w.dl_dst) = (m.0, [0xff; 6]),
            Action::SetIpv4Src(ip) if v4 => (k.nw_src, w.nw_src) = (ip.to_bits(), u32::MAX),
            Action::SetIpv4Dst(ip) if v4 => (k.nw_dst, w.nw_dst) = (ip.to_bits(), u32::MAX),
            Action::SetNwTos(tos) if ip => {
                w.nw_tos |= 0xfc;
                k.nw_tos = (k.nw_tos & 3) | (tos & 0xfc);
            }
            Action::SetNwEcn(ecn) if ip => {
                w.nw_tos |= 3;
                k.nw_tos = (k.nw_tos & 0xfc) | (ecn & 3);
            }
            Action::SetNwTtl(ttl) if ip => (k.nw_ttl, w.nw_ttl) = (*ttl, 0xff),
            Action::SetL4Src(port) | Action::SetL4Dst(port)
                if ip && k.nw_frag & nw_frag::LATER == 0 =>
            {
                w.nw_proto = 0xff;
                if !matches!(k.nw_proto, ipproto::TCP | ipproto::UDP | ipproto::SCTP) {
                    return;
                }
                if matches!(a, Action::SetL4Src(_)) {
                    (k.tp_src, w.tp_src) = (*port, 0xffff);
                } else {
                    (k.tp_dst, w.tp_dst) = (*port, 0xffff);
                }
            }
            _ => return,
        }
        w.nw_proto = 0xff; // whether there is a header to change
    }
}

fn is_vlan(f: FieldId) -> bool {
    matches!(
        f,
        FieldId::VlanTci
            | FieldId::DlVlan
            | FieldId::VlanVid
            | FieldId::DlVlanPcp
            | FieldId::VlanPcp
    )
}

/// Sets bits of a field in a mask.
pub(super) fn mark(row: &Field, bits: u128, mask: &mut FlowKey) {
    let old = row.get(mask);
    row.set(mask, old | bits);
}
