//! Mirrors: copies of what comes in and goes out, for whoever looks on.
//!
//! A mirror gets a packet once, as it came or as it first leaves, and again only after an action
//! has changed the packet ([`Ctx::note_change`]). What goes through patch ports is mirrored where it
//! enters or leaves the switch, not on the way; each bridge's mirrors are its own.

use base::MacAddr;
use flow::{FieldId, VLAN_PRESENT, nw_frag};
use openflow::action::Action;
use packet::header::ethertype;

use super::Ctx;
use super::normal::VID;
use crate::mirror::{MirrorBits, MirrorOutput};
use crate::port::Port;
use crate::trace::NodeKind;

impl<'a> Ctx<'a> {
    /// Copies the packet to those who want what comes in.
    pub(super) fn mirror_input(&mut self) {
        let br = self.br;
        if !br.mirrors.is_empty()
            && !self.resumed
            && let Some(p) = br.port(self.in_port())
        {
            self.mirror(p, br.mirrors.of_source(p.ofport));
        }
    }

    /// Copies the packet to those who want what goes out of a port.
    pub(super) fn mirror_output(&mut self, p: &'a Port) {
        if !self.br.mirrors.is_empty() {
            self.mirror(p, self.br.mirrors.of_destination(p.ofport));
        }
    }

    /// Whether the packet came in by a port that is there for mirrors only; if so, says it.
    pub(super) fn came_by_mirror_port(&mut self) -> bool {
        let port = self.br.port(self.in_port());
        let Some(p) = port.filter(|p| self.br.mirrors.has_output(p.ofport)) else { return false };
        self.report(NodeKind::Error, || {
            alloc::format!(
                "dropping packet received on port {}, which is reserved exclusively for mirroring",
                p.spec.name
            )
        });
        true
    }

    /// `p` is the port whose VLAN the packet is in.
    fn mirror(&mut self, p: &'a Port, candidates: MirrorBits) {
        let Some(tags) = self.admitted_tags(p) else { return };
        let br = self.br;
        for slot in 0..MirrorBits::BITS {
            // Sending to one may have sent to others.
            if (candidates & !self.mirrors) >> slot & 1 == 0 {
                continue;
            }
            let Some(m) = br.mirrors.get(slot) else { continue };
            if !m.spec.vlans.is_empty() {
                self.wc.pkt.vlans[0].tci |= VID | VLAN_PRESENT;
                if !m.spec.vlans.contains(&tags[0].vid) {
                    continue;
                }
            }
            if let Some(filter) = &m.spec.filter {
                self.wc |= &filter.mask;
                if !filter.matches(&self.flow) {
                    continue;
                }
            }
            self.mirrors |= m.same_output;
            self.credits.mirrors.push(m.stats.clone());
            let old = core::mem::replace(&mut self.snaplen, m.spec.snaplen);
            match m.spec.output {
                MirrorOutput::Port(port) => {
                    if let Some(out) = br.port(port) {
                        self.normal_output(out, tags);
                    }
                }
                MirrorOutput::Vlan(vlan) => {
                    let reserved = MacAddr(self.flow.pkt.dl_dst).is_reserved();
                    let mut moved = tags;
                    moved[0].vid = vlan;
                    for out in br.flood_order().filter(|_| vlan != tags[0].vid && !reserved) {
                        if out.spec.vlan.carries(moved.map(|t| t.vid))
                            && !br.mirrors.has_output(out.ofport)
                        {
                            self.normal_output(out, moved);
                        }
                    }
                }
            }
            self.snaplen = old;
        }
    }

    /// Before an action: if it changes the packet, mirrors shall get it again.
    pub(super) fn note_change(&mut self, a: &Action) {
        if self.mirrors == 0 {
            return;
        }
        let k = &self.flow.pkt;
        let is_ip = matches!(k.dl_type, ethertype::IPV4 | ethertype::IPV6);
        let sets = |field: FieldId| {
            let row = field.row();
            row.prereq.holds(k) && !is_metadata(field)
        };
        let changes = match a {
            Action::StripVlan
            | Action::PushVlan(_)
            | Action::SetVlanVid { .. }
            | Action::SetVlanPcp { .. }
            | Action::SetEthSrc(_)
            | Action::SetEthDst(_)
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::DecNshTtl
            | Action::DecTtl(_)
            | Action::Encap(_)
            | Action::Decap(_)
            | Action::Nat(_) => true,
            Action::SetField { field, .. } => sets(*field),
            Action::Load { dst, .. } => sets(dst.field),
            Action::SetIpv4Src(_) | Action::SetIpv4Dst(_) => k.dl_type == ethertype::IPV4,
            Action::SetNwTos(_) | Action::SetNwEcn(_) | Action::SetNwTtl(_) => is_ip,
            Action::SetL4Src(_) | Action::SetL4Dst(_) => is_ip && k.nw_frag & nw_frag::LATER == 0,
            _ => false,
        };
        if changes {
            self.mirrors = 0;
        }
    }
}

/// Whether a field is of the pipeline and not of the packet. Those of a tunnel are of the packet that
/// the tunnel makes.
fn is_metadata(field: FieldId) -> bool {
    match field {
        FieldId::DpHash | FieldId::RecircId | FieldId::PacketType | FieldId::ConjId => true,
        f if (FieldId::TunMetadata0..=FieldId::TunMetadata63).contains(&f) => true,
        f => (FieldId::Metadata..FieldId::EthSrc).contains(&f),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_fields_are_of_the_packet() {
        let metadata =
            ["in_port", "reg3", "xxreg1", "metadata", "ct_mark", "pkt_mark", "tun_metadata5"];
        let packet =
            ["eth_src", "vlan_vid", "nw_src", "tcp_dst", "arp_spa", "mpls_label", "tun_id"];
        let id = |name: &str| flow::Field::by_name(name).unwrap().id;
        assert!(metadata.iter().all(|n| is_metadata(id(n))));
        assert!(!packet.iter().any(|n| is_metadata(id(n))));
    }
}
