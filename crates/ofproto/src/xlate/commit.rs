//! From a changed key to actions that change the packet.
//!
//! Headers are compared group by group with what the packet has become by the actions so far. A
//! set action overwrites, of each field that differs, the bits that were looked at or set: those
//! are the same for all packets of the megaflow.

use alloc::boxed::Box;

use dpif::{DpAction, SetGroup, SetMasked};
use flow::{FieldId, FlowKey, PacketKey, VLAN_PRESENT, nw_frag};
use packet::header::{ethertype, ipproto};

use super::Ctx;
use super::mpls::{self, is_mpls, n_labels};

/// The fields that a set action of a group can change.
fn group_fields(group: SetGroup) -> &'static [FieldId] {
    use FieldId as F;
    match group {
        SetGroup::SkbPriority => &[F::SkbPriority],
        SetGroup::SkbMark => &[F::PktMark],
        SetGroup::Tunnel => &[],
        SetGroup::Eth => &[F::EthSrc, F::EthDst],
        SetGroup::Mpls => &[F::MplsLabel, F::MplsTc, F::MplsBos, F::MplsTtl],
        SetGroup::Nsh => {
            &[F::NshFlags, F::NshTtl, F::NshSpi, F::NshSi, F::NshC1, F::NshC2, F::NshC3, F::NshC4]
        }
        SetGroup::Ipv4 => &[F::IpSrc, F::IpDst, F::NwTos, F::IpTtl],
        SetGroup::Ipv6 => &[F::Ipv6Src, F::Ipv6Dst, F::Ipv6Label, F::NwTos, F::IpTtl],
        SetGroup::Arp => &[F::ArpOp, F::ArpSpa, F::ArpTpa, F::ArpSha, F::ArpTha],
        SetGroup::Nd => &[F::NdTarget, F::NdSll, F::NdTll],
        SetGroup::NdExtensions => &[F::NdReserved, F::NdOptionsType],
        SetGroup::Tcp | SetGroup::Udp | SetGroup::Sctp => &[F::TcpSrc, F::TcpDst],
        SetGroup::Icmp => &[F::IcmpType, F::IcmpCode],
    }
}

/// The bits of a field in a packet's key.
fn field_bits(field: FieldId) -> PacketKey {
    let mut k = FlowKey::ZERO;
    field.row().set(&mut k, u128::MAX);
    k.pkt
}

/// All bits that a set action of a group can change.
fn group_mask(group: SetGroup) -> PacketKey {
    group_fields(group).iter().fold(PacketKey::ZERO, |mut m, f| {
        m |= &field_bits(*f);
        m
    })
}

impl Ctx<'_> {
    /// Adds the actions that make the packet what the key says.
    pub(super) fn commit(&mut self) {
        self.commit_encap();
        if self.flow.pkt.packet_type == 0 && self.base.packet_type == 0 {
            self.commit_group(SetGroup::Eth);
        }
        // Labels go before what is behind them is changed.
        let unlabelled = is_mpls(self.base.dl_type) && !is_mpls(self.flow.pkt.dl_type);
        if unlabelled {
            self.commit_mpls(false);
        }
        if self.flow.pkt.dl_type == ethertype::NSH {
            if self.flow.pkt.nsh_mdtype != 1 {
                // Other types of metadata have no contexts.
                self.base.nsh_context = self.flow.pkt.nsh_context;
            }
            self.commit_group(SetGroup::Nsh);
        }
        self.commit_l3();
        if !unlabelled {
            self.commit_mpls(false);
        }
        self.commit_vlans();
        self.commit_group(SetGroup::SkbPriority);
        self.commit_group(SetGroup::SkbMark);
    }

    /// The network header and what is behind it. Those of a labelled packet are not seen.
    fn commit_l3(&mut self) {
        let l3 = match self.base.dl_type {
            ethertype::IPV4 => SetGroup::Ipv4,
            ethertype::IPV6 => SetGroup::Ipv6,
            // Of RARP, OVS changes nothing in the packet.
            ethertype::ARP => SetGroup::Arp,
            _ => return,
        };
        let k = &self.flow.pkt;
        if is_mpls(k.dl_type) {
            return;
        }
        // What has no protocol was not understood as far as its headers, if anybody looked.
        let nothing = k.nw_proto == 0 && self.wc.pkt.nw_proto != 0;
        if nothing || self.was_mpls {
            return;
        }
        let (proto, later) = (k.nw_proto, k.nw_frag & nw_frag::LATER != 0);
        self.commit_group(l3);
        if later || l3 == SetGroup::Arp {
            return;
        }
        match (l3, proto) {
            (_, ipproto::TCP) => self.commit_group(SetGroup::Tcp),
            (_, ipproto::UDP) => self.commit_group(SetGroup::Udp),
            (_, ipproto::SCTP) => self.commit_group(SetGroup::Sctp),
            (SetGroup::Ipv4, ipproto::ICMP) => self.commit_group(SetGroup::Icmp),
            (SetGroup::Ipv6, ipproto::ICMPV6) => {
                self.commit_group(SetGroup::NdExtensions);
                self.commit_group(SetGroup::Nd);
                self.commit_group(SetGroup::Icmp);
            }
            _ => {}
        }
    }

    /// Labels that both have, from the bottom, stay; those above them are popped, one is set if it
    /// can take the place of another, and new ones are pushed.
    /// With `outside`, before the Ethernet header.
    pub(super) fn commit_mpls(&mut self, outside: bool) {
        let new = self.flow.pkt;
        let n = n_labels(&new);
        let mut old_n = n_labels(&self.base);
        let same = |base: &PacketKey, old_n: usize| {
            let below = |k: &PacketKey, n: usize, i: usize| k.mpls_lse[n - 1 - i];
            (0..n.min(old_n)).take_while(|&i| below(&new, n, i) == below(base, old_n, i)).count()
        };
        let mut common = same(&self.base, old_n);
        while old_n > common {
            if old_n - 1 == common && n > common {
                let lse = new.mpls_lse[n - old_n];
                self.base.mpls_lse[0] = lse;
                let mut set = SetMasked {
                    group: SetGroup::Mpls,
                    value: PacketKey::ZERO,
                    mask: PacketKey::ZERO,
                };
                (set.value.mpls_lse[0], set.mask.mpls_lse[0]) = (lse, u32::MAX);
                self.out.push(DpAction::Set(Box::new(set)));
                common += 1;
            } else {
                let ethertype = match is_mpls(new.dl_type) || old_n == 1 {
                    true => new.dl_type,
                    false => ethertype::MPLS,
                };
                self.out.push(DpAction::PopMpls { ethertype });
                mpls::pop(&mut self.base, old_n, new.dl_type);
                old_n -= 1;
            }
        }
        while old_n < n {
            let lse = new.mpls_lse[n - old_n - 1];
            let ethertype = new.dl_type;
            if outside && !self.sw.support().add_mpls {
                self.slow = Some(dpif::SlowReason::Action);
            }
            self.out.push(match outside {
                true => DpAction::AddMpls { ethertype, lse },
                false => DpAction::PushMpls { ethertype, lse },
            });
            // The headers behind it stay known, for copies that have no label.
            mpls::push(&mut self.base, old_n, new.dl_type);
            self.base.mpls_lse[0] = lse;
            old_n += 1;
        }
    }

    fn commit_group(&mut self, group: SetGroup) {
        if self.flow.pkt.eq_masked(&self.base, &group_mask(group)) {
            return;
        }
        // Type and code are one.
        let whole = group == SetGroup::Icmp;
        let mut mask = if whole { group_mask(group) } else { PacketKey::ZERO };
        for &field in group_fields(group) {
            let bits = field_bits(field);
            // What was not set at all does not come along, but in NSH, which is set as one.
            if group != SetGroup::Nsh && self.flow.pkt.eq_masked(&self.base, &bits) {
                continue;
            }
            mask |= &(&self.wc.pkt & &bits);
            let (now, was) = (self.flow.pkt.words(), self.base.words());
            // A bit that changed was marked when it was set; make sure of it all the same.
            for (((m, a), b), f) in mask.words_mut().iter_mut().zip(now).zip(was).zip(bits.words())
            {
                *m |= (a ^ b) & f;
            }
        }
        let mut value = &self.flow.pkt & &mask;
        self.wc.pkt |= &mask;
        for ((b, a), m) in
            self.base.words_mut().iter_mut().zip(self.flow.pkt.words()).zip(mask.words())
        {
            *b = (*b & !m) | (a & m);
        }
        if whole {
            value.dl_type = self.flow.pkt.dl_type; // of which IP
        }
        self.out.push(DpAction::Set(Box::new(SetMasked { group, value, mask })));
    }

    fn commit_vlans(&mut self) {
        let (new, old) = (self.flow.pkt.vlans, self.base.vlans);
        if new == old {
            return;
        }
        let count =
            |v: &[flow::VlanTag; 2]| v.iter().take_while(|t| t.tci & VLAN_PRESENT != 0).count();
        let (mut n, mut o) = (count(&new), count(&old));
        // Innermost tags that both have stay.
        while n > 0 && o > 0 && new[n - 1] == old[o - 1] {
            (n, o) = (n - 1, o - 1);
        }
        for i in (0..o).rev() {
            self.out.push(DpAction::PopVlan);
            self.wc.pkt.vlans[i] = flow::VlanTag { tpid: 0xffff, tci: 0xffff };
        }
        for tag in new[..n].iter().rev() {
            self.out.push(DpAction::PushVlan { tpid: tag.tpid, tci: tag.tci });
        }
        self.base.vlans = new;
    }
}
