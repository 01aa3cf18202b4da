//! From a changed key to actions that change the packet.
//!
//! Headers are compared group by group with what the packet has become by the actions so far. A
//! set action overwrites, of each field that differs, the bits that were looked at or set: those
//! are the same for all packets of the megaflow.

use dpif::{DpAction, SetGroup, SetMasked};
use flow::{FieldId, FlowKey, PacketKey, VLAN_PRESENT, nw_frag};
use packet::header::{ethertype, ipproto};

use super::Ctx;

/// The fields that a set action of a group can change.
fn group_fields(group: SetGroup) -> &'static [FieldId] {
    use FieldId as F;
    match group {
        SetGroup::SkbPriority => &[F::SkbPriority],
        SetGroup::SkbMark => &[F::PktMark],
        SetGroup::Tunnel => &[],
        SetGroup::Eth => &[F::EthSrc, F::EthDst],
        SetGroup::Mpls => &[F::MplsLabel, F::MplsTc, F::MplsBos, F::MplsTtl],
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
        self.commit_group(SetGroup::Eth);
        let l3 = match self.flow.pkt.dl_type {
            ethertype::IPV4 => Some(SetGroup::Ipv4),
            ethertype::IPV6 => Some(SetGroup::Ipv6),
            ethertype::ARP | ethertype::RARP => Some(SetGroup::Arp),
            _ => None,
        };
        if l3.is_some_and(|g| !self.flow.pkt.eq_masked(&self.base, &group_mask(g))) {
            self.wc.pkt.nw_proto = 0xff; // decides below whether there is a header to change
        }
        let k = &self.flow.pkt;
        // What has no protocol was not understood as far as its headers.
        let understood = k.nw_proto != 0;
        let icmpv6 = k.dl_type == ethertype::IPV6 && k.nw_proto == ipproto::ICMPV6;
        let icmp = k.dl_type == ethertype::IPV4 && k.nw_proto == ipproto::ICMP;
        let l4 = k.nw_frag & nw_frag::LATER == 0;
        let proto = k.nw_proto;
        match k.dl_type {
            ethertype::IPV4 if understood => self.commit_group(SetGroup::Ipv4),
            ethertype::IPV6 if understood => {
                self.commit_group(SetGroup::Ipv6);
                if icmpv6 && l4 {
                    self.commit_group(SetGroup::Nd);
                    self.commit_group(SetGroup::NdExtensions);
                }
            }
            ethertype::ARP | ethertype::RARP if understood => self.commit_group(SetGroup::Arp),
            _ => {}
        }
        if matches!(self.flow.pkt.dl_type, ethertype::IPV4 | ethertype::IPV6) && l4 {
            match proto {
                ipproto::TCP => self.commit_group(SetGroup::Tcp),
                ipproto::UDP => self.commit_group(SetGroup::Udp),
                ipproto::SCTP => self.commit_group(SetGroup::Sctp),
                _ if icmp || icmpv6 => self.commit_group(SetGroup::Icmp),
                _ => {}
            }
        }
        self.commit_vlans();
        self.commit_group(SetGroup::SkbPriority);
        self.commit_group(SetGroup::SkbMark);
    }

    fn commit_group(&mut self, group: SetGroup) {
        if self.flow.pkt.eq_masked(&self.base, &group_mask(group)) {
            return;
        }
        let mut mask = PacketKey::ZERO;
        for &field in group_fields(group) {
            let bits = field_bits(field);
            if self.flow.pkt.eq_masked(&self.base, &bits) {
                continue; // not set at all
            }
            mask |= &(&self.wc.pkt & &bits);
            let (now, was) = (self.flow.pkt.words(), self.base.words());
            // A bit that changed was marked when it was set; make sure of it all the same.
            for (((m, a), b), f) in mask.words_mut().iter_mut().zip(now).zip(was).zip(bits.words())
            {
                *m |= (a ^ b) & f;
            }
        }
        let value = &self.flow.pkt & &mask;
        self.wc.pkt |= &mask;
        for ((b, a), m) in
            self.base.words_mut().iter_mut().zip(self.flow.pkt.words()).zip(mask.words())
        {
            *b = (*b & !m) | (a & m);
        }
        self.out.push(DpAction::Set(alloc::boxed::Box::new(SetMasked { group, value, mask })));
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
