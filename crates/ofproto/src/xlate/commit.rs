//! From a changed key to actions that change the packet.
//!
//! Headers are compared group by group with what the packet has become by the actions so far. A
//! set action overwrites the bits of its group that were looked at or set: those are the same for
//! all packets of the megaflow, so it does not matter that some keep their value.

use dpif::{DpAction, SetGroup, SetMasked};
use flow::{PacketKey, VLAN_PRESENT, nw_frag};
use packet::header::{ethertype, ipproto};

use super::Ctx;

/// All bits of the fields that a set action of `group` can change.
fn group_mask(group: SetGroup) -> PacketKey {
    let mut m = PacketKey::ZERO;
    match group {
        SetGroup::SkbPriority => m.skb_priority = u32::MAX,
        SetGroup::SkbMark => m.pkt_mark = u32::MAX,
        SetGroup::Tunnel => {}
        SetGroup::Eth => (m.dl_src, m.dl_dst) = ([0xff; 6], [0xff; 6]),
        SetGroup::Mpls => m.mpls_lse[0] = u32::MAX,
        SetGroup::Ipv4 => {
            (m.nw_src, m.nw_dst) = (u32::MAX, u32::MAX);
            (m.nw_tos, m.nw_ttl) = (0xff, 0xff);
        }
        SetGroup::Ipv6 => {
            (m.ipv6_src, m.ipv6_dst) = ([0xff; 16], [0xff; 16]);
            (m.nw_tos, m.nw_ttl, m.ipv6_label) = (0xff, 0xff, 0xf_ffff);
        }
        SetGroup::Arp => {
            (m.nw_src, m.nw_dst, m.nw_proto) = (u32::MAX, u32::MAX, 0xff);
            (m.arp_sha, m.arp_tha) = ([0xff; 6], [0xff; 6]);
        }
        SetGroup::Nd => {
            (m.nd_target, m.arp_sha, m.arp_tha) = ([0xff; 16], [0xff; 6], [0xff; 6]);
        }
        SetGroup::NdExtensions => (m.nd_reserved, m.nd_options_type) = (u32::MAX, 0xff),
        SetGroup::Tcp | SetGroup::Udp | SetGroup::Sctp => (m.tp_src, m.tp_dst) = (0xffff, 0xffff),
        SetGroup::Icmp => (m.tp_src, m.tp_dst) = (0xff, 0xff),
    }
    m
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
        let all = group_mask(group);
        if self.flow.pkt.eq_masked(&self.base, &all) {
            return;
        }
        let mut mask = &self.wc.pkt & &all;
        let (now, was) = (self.flow.pkt.words(), self.base.words());
        // A bit that changed was marked when it was set; make sure of it all the same.
        for ((m, (a, b)), all) in
            mask.words_mut().iter_mut().zip(now.iter().zip(was)).zip(all.words())
        {
            *m |= (a ^ b) & all;
        }
        let value = &self.flow.pkt & &mask;
        self.wc.pkt |= &mask;
        for ((b, a), all) in self.base.words_mut().iter_mut().zip(now).zip(all.words()) {
            *b = (*b & !all) | (a & all);
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
