//! MPLS: label stacks of up to three entries.
//!
//! A pushed first label hides the network header: its fields are cleared. Behind the last label that
//! is popped there may be anything: whatever needs it waits until the datapath has looked
//! ([`acts_without_l3`]).

use dpif::DropReason;
use flow::field::Prereq;
use flow::{FieldId, PacketKey};
use openflow::action::{Action, ControllerAction, PacketInReason};
use packet::header::ethertype;

use super::Ctx;
use crate::trace::NodeKind;

/// Labels of a stack that are seen.
pub(super) const MAX_LABELS: usize = 3;

const LABEL: u32 = 0xffff_f000;
const TC: u32 = 0x0000_0e00;
/// Bottom of stack.
pub(super) const BOS: u32 = 0x0000_0100;
const TTL: u32 = 0x0000_00ff;

/// Whether an EtherType means MPLS.
pub(super) fn is_mpls(dl_type: u16) -> bool {
    matches!(dl_type, ethertype::MPLS | ethertype::MPLS_MCAST)
}

/// Whether a packet begins, behind an Ethernet header or not, with IP.
fn is_ip(k: &PacketKey) -> bool {
    let dl_type = if k.packet_type == 0 { k.dl_type } else { k.packet_type as u16 };
    matches!(dl_type, ethertype::IPV4 | ethertype::IPV6)
}

/// Labels that a packet has, as far as they are seen.
pub(super) fn n_labels(k: &PacketKey) -> usize {
    if !is_mpls(k.dl_type) {
        return 0;
    }
    match k.mpls_lse.iter().position(|l| l & BOS != 0) {
        Some(bottom) => bottom + 1,
        None => k.mpls_lse.iter().filter(|l| **l != 0).count(),
    }
}

/// Adds a label above `n` others. The first one takes its TTL and class from the IP header.
pub(super) fn push(k: &mut PacketKey, n: usize, ethertype: u16) {
    if n > 0 {
        k.mpls_lse.copy_within(0..n, 1);
        k.mpls_lse[0] &= !BOS;
    } else {
        let ip = is_ip(k);
        let label = if k.dl_type == ethertype::IPV6 { 2 } else { 0 }; // explicit null
        let tc = if ip { u32::from(k.nw_tos & 0xfc) >> 2 & 7 } else { 0 };
        let ttl = if ip && k.nw_ttl != 0 { k.nw_ttl } else { 64 };
        k.mpls_lse[0] = label << 12 | tc << 9 | BOS | u32::from(ttl);
    }
    k.dl_type = ethertype;
}

/// Takes away the outermost of `n` labels. `false` if what it uncovers is not known.
pub(super) fn pop(k: &mut PacketKey, n: usize, ethertype: u16) -> bool {
    if n == 0 || (n == MAX_LABELS && k.mpls_lse[n - 1] & BOS == 0) {
        return false;
    }
    k.mpls_lse.copy_within(1..n, 0);
    k.mpls_lse[n - 1] = 0;
    k.dl_type = ethertype;
    true
}

impl Ctx<'_> {
    /// [`n_labels`] of the packet; looks at what tells.
    pub(super) fn count_labels(&mut self) -> usize {
        let k = &self.flow.pkt;
        if is_mpls(k.dl_type) {
            for (lse, mask) in k.mpls_lse.iter().zip(&mut self.wc.pkt.mpls_lse) {
                *mask |= BOS;
                if lse & BOS != 0 {
                    break;
                }
            }
        }
        n_labels(k)
    }

    /// Puts a label on the packet as the pipeline sees it.
    pub(super) fn add_label(&mut self, n: usize, ethertype: u16) {
        let (k, w) = (&mut self.flow.pkt, &mut self.wc.pkt);
        w.mpls_lse[..n].fill(u32::MAX);
        if n == 0 && is_ip(k) {
            w.nw_tos |= 0xfc;
            w.nw_ttl = 0xff;
        }
        push(k, n, ethertype);
        if n == 0 {
            clear_l3(k);
        }
    }

    /// Takes a label off the packet as the pipeline sees it. `false` if there is none, or if it is
    /// not known what is beneath.
    pub(super) fn remove_label(&mut self, n: usize, ethertype: u16) -> bool {
        let done = pop(&mut self.flow.pkt, n, ethertype);
        if done {
            self.wc.pkt.mpls_lse[1..n].fill(u32::MAX);
        }
        done
    }

    pub(super) fn push_mpls(&mut self, ethertype: u16) {
        let n = self.count_labels();
        if n >= MAX_LABELS {
            self.error = Some(DropReason::TooManyMplsLabels);
            return;
        }
        if n == 0 {
            self.commit();
        }
        self.add_label(n, ethertype);
    }

    pub(super) fn pop_mpls(&mut self, ethertype: u16) {
        let n = self.count_labels();
        if self.remove_label(n, ethertype) {
            self.was_mpls |= !is_mpls(ethertype);
        } else if n >= MAX_LABELS {
            self.error = Some(DropReason::TooManyMplsLabels);
        }
    }

    /// Sets bits of the outermost label stack entry.
    fn set_lse(&mut self, mask: u32, value: u32) {
        if is_mpls(self.flow.pkt.dl_type) {
            self.wc.pkt.mpls_lse[0] |= mask;
            let lse = &mut self.flow.pkt.mpls_lse[0];
            *lse = (*lse & !mask) | (value & mask);
        }
    }

    pub(super) fn set_mpls_label(&mut self, label: u32) {
        self.set_lse(LABEL, label << 12);
    }

    pub(super) fn set_mpls_tc(&mut self, tc: u8) {
        self.set_lse(TC, u32::from(tc) << 9);
    }

    pub(super) fn set_mpls_ttl(&mut self, ttl: u8) {
        self.set_lse(TTL, u32::from(ttl));
    }

    /// `false` ends the list of actions.
    pub(super) fn dec_mpls_ttl(&mut self) -> bool {
        if is_mpls(self.flow.pkt.dl_type) {
            self.wc.pkt.mpls_lse[0] |= TTL;
            let ttl = self.flow.pkt.mpls_lse[0] & TTL;
            if ttl > 1 {
                self.set_lse(TTL, ttl - 1);
                return true;
            }
            self.ttl_exception(0);
        }
        self.report(NodeKind::Warn, || "MPLS decrement TTL exception".into());
        false
    }

    /// Tells controllers of this id that a packet has no time left to live.
    pub(super) fn ttl_exception(&mut self, controller_id: u16) {
        self.controller(&ControllerAction {
            controller_id,
            reason: PacketInReason::InvalidTtl,
            ..ControllerAction::default()
        });
    }
}

/// What is behind a label is not looked at.
fn clear_l3(k: &mut PacketKey) {
    let l2 = *k;
    *k = PacketKey {
        tunnel: l2.tunnel,
        skb_priority: l2.skb_priority,
        pkt_mark: l2.pkt_mark,
        recirc_id: l2.recirc_id,
        in_port: l2.in_port,
        packet_type: l2.packet_type,
        ct_state: l2.ct_state,
        ct_nw_proto: l2.ct_nw_proto,
        ct_zone: l2.ct_zone,
        ct_mark: l2.ct_mark,
        ct_label: l2.ct_label,
        dl_dst: l2.dl_dst,
        dl_src: l2.dl_src,
        dl_type: l2.dl_type,
        vlans: l2.vlans,
        mpls_lse: l2.mpls_lse,
        ..PacketKey::ZERO
    };
}

/// Whether an action can be done, or put off, without what is behind the last label that was popped.
pub(super) fn acts_without_l3(a: &Action) -> bool {
    match a {
        Action::Output { .. }
        | Action::OutputTrunc { .. }
        | Action::OutputReg { .. }
        | Action::Enqueue { .. }
        | Action::SetVlanVid { .. }
        | Action::SetVlanPcp { .. }
        | Action::SetEthSrc(_)
        | Action::SetEthDst(_)
        | Action::SetTunnel { .. }
        | Action::SetTunOption { .. }
        | Action::SetQueue(_)
        | Action::Group(_) => true,
        Action::SetField { field, .. } => !is_l3_or_higher(*field),
        Action::Load { dst, .. } => !is_l3_or_higher(dst.field),
        _ => false,
    }
}

/// Whether a field is of the network header or above.
fn is_l3_or_higher(field: FieldId) -> bool {
    use Prereq::{Ethernet, Mpls, None, Vlan};
    !matches!(field.row().prereq, None | Ethernet | Vlan | Mpls)
}
