//! Putting a field into a match, and taking out what means nothing there.
//!
//! Text, codec and `learn` all say "field = value/mask"; a few fields mean more than their bits:
//! VLAN fields speak of the presence of a tag as well, `nw_tos` of the DSCP only.

use packet::header::{ethertype, ipproto};

use crate::field::{FieldId, Prereq};
use crate::key::{CT_STATE_VALID, Match, PacketKey, VLAN_PRESENT, ct_state};
use crate::tun_metadata::{MAX_OPTION_LEN, OptionMatch};

/// Bits of a VLAN id.
const VID: u16 = 0x0fff;
const PCP: u16 = 7 << 13;
/// `dl_vlan`'s value for "no tag" (`OFP10_VLAN_NONE`).
const VLAN_NONE: u16 = 0xffff;

impl Match {
    /// Requires the bits `mask` of `field` to be `value`, on top of what is required already.
    /// Bits of `value` outside `mask` are dropped.
    ///
    /// `dl_vlan` may be 0xffff, "no tag"; `vlan_vid` has the presence of the tag as bit 12.
    pub fn set(&mut self, field: FieldId, value: u128, mask: u128) {
        let tci = |m: &mut Match, value: u16, mask: u16| {
            let (k, w) = (&mut m.key.pkt.vlans[0].tci, &mut m.mask.pkt.vlans[0].tci);
            *k = (*k & !mask) | (value & mask);
            *w |= mask;
        };
        match field {
            FieldId::DlVlan if mask == 0 => {}
            FieldId::DlVlan if value as u16 == VLAN_NONE => tci(self, 0, u16::MAX),
            FieldId::DlVlan => tci(self, value as u16 & VID | VLAN_PRESENT, VID | VLAN_PRESENT),
            FieldId::VlanVid => tci(self, value as u16, mask as u16 & (VID | VLAN_PRESENT)),
            FieldId::DlVlanPcp | FieldId::VlanPcp if mask == 0 => {}
            FieldId::DlVlanPcp | FieldId::VlanPcp => {
                tci(self, (value as u16 & 7) << 13 | VLAN_PRESENT, 7 << 13 | VLAN_PRESENT);
            }
            FieldId::NwTos => self.set_bits(field, value, mask & 0xfc),
            _ => match field.row().tun_option() {
                None => self.set_bits(field, value, mask),
                Some(i) => {
                    let wide = |v: u128| {
                        let mut w = [0; MAX_OPTION_LEN];
                        w[MAX_OPTION_LEN - 16..].copy_from_slice(&v.to_be_bytes());
                        w
                    };
                    let m = (mask != u128::MAX).then(|| wide(mask));
                    self.set_tun_option(i, &OptionMatch::new(wide(value), m));
                }
            },
        }
    }

    fn set_bits(&mut self, field: FieldId, value: u128, mask: u128) {
        let row = field.row();
        row.set_masked(&mut self.key, value, mask);
        let old = row.get(&self.mask);
        row.set(&mut self.mask, old | mask);
        // What the key cannot hold of a wide field must not be asked for either.
        let kept = row.get(&self.mask);
        let v = row.get(&self.key);
        row.set(&mut self.key, v & kept);
    }

    /// Requires nothing of a field any more. VID and PCP leave each other, and that there is a tag.
    pub fn forget(&mut self, field: FieldId) {
        let row = match (field, self.mask.pkt.vlans[0].tci) {
            (FieldId::DlVlan | FieldId::VlanVid, tci) if tci & PCP != 0 => FieldId::DlVlan.row(),
            (FieldId::DlVlanPcp | FieldId::VlanPcp, tci) if tci & VID != 0 => field.row(),
            (FieldId::DlVlan | FieldId::VlanVid | FieldId::DlVlanPcp | FieldId::VlanPcp, _) => {
                FieldId::VlanTci.row()
            }
            _ => field.row(),
        };
        row.set(&mut self.key, 0);
        row.set(&mut self.mask, 0);
    }

    /// Requires Ethernet packets if the match asks for `field`, which only they have, and for no other
    /// kind of packets.
    pub fn imply_ethernet(&mut self, field: FieldId) {
        if field.row().prereq != Prereq::None && self.mask.pkt.packet_type == 0 {
            self.mask.pkt.packet_type = u32::MAX;
        }
    }

    /// Whether the match requires something of `field` already.
    pub fn speaks_of(&self, field: FieldId) -> bool {
        let tci = self.mask.pkt.vlans[0].tci;
        match field {
            FieldId::DlVlan | FieldId::VlanVid => tci & (VID | VLAN_PRESENT) != 0,
            FieldId::DlVlanPcp | FieldId::VlanPcp => tci & PCP != 0,
            _ => field.row().get(&self.mask) != 0,
        }
    }

    /// Lets only Ethernet packets through if the match asks for what only they have, and for no kind of
    /// packets. For matches that packets are looked up by; all of a table are to be tied.
    pub fn tie_to_ethernet(&mut self) {
        let m = &mut self.mask.pkt;
        let addresses = m.dl_src != [0; 6] || m.dl_dst != [0; 6];
        let tuple = m.ct_nw_proto != 0
            || m.ct_nw_src | m.ct_nw_dst != 0
            || m.ct_tp_src | m.ct_tp_dst != 0
            || m.ct_ipv6_src != [0; 16]
            || m.ct_ipv6_dst != [0; 16];
        let ethernet = m.dl_type != 0 || m.vlans[0].tci != 0 || addresses || tuple;
        if ethernet && m.packet_type == 0 {
            m.not_ethernet = u16::MAX;
        }
    }

    /// Forgets that packets must be Ethernet when a field says so anyway.
    pub fn forget_default_packet_type(&mut self) {
        let m = &self.mask.pkt;
        let ethernet =
            m.dl_type != 0 || m.vlans[0].tci != 0 || m.dl_src != [0; 6] || m.dl_dst != [0; 6];
        if ethernet && self.key.pkt.packet_type == 0 {
            self.mask.pkt.packet_type = 0;
        }
    }

    /// The value of `field` if all its bits are required.
    pub fn exact(&self, field: FieldId) -> Option<u128> {
        let row = field.row();
        (row.get(&self.mask) == row.all_ones()).then(|| row.get(&self.key))
    }

    /// The match as a packet that has what the match requires, and zeros.
    fn required(&self) -> &PacketKey {
        &self.key.pkt
    }

    /// Whether the match makes sure that `field` exists in the packets it lets through.
    pub fn has_prereq(&self, prereq: Prereq) -> bool {
        let (k, m) = (self.required(), &self.mask.pkt);
        if prereq == Prereq::Ethernet || prereq == Prereq::None {
            return prereq.holds(k);
        }
        if prereq == Prereq::Vlan {
            return prereq.holds(k) && m.vlans[0].tci & VLAN_PRESENT != 0;
        }
        if prereq == Prereq::CtValid {
            let not_invalid = k.ct_state & ct_state::TRK != 0
                && m.ct_state & ct_state::INV != 0
                && k.ct_state & ct_state::INV == 0;
            return k.ct_state & CT_STATE_VALID != 0 || not_invalid;
        }
        // Packets of another kind than Ethernet carry their EtherType in the packet type.
        let mut k = *k;
        match k.packet_type >> 16 {
            1 => k.dl_type = k.packet_type as u16,
            _ if k.packet_type != 0 => k.dl_type = ethertype::NOT_ETH_TYPE,
            _ => {}
        }
        prereq.holds(&k)
    }

    /// Whether every packet that matches `other` matches this one, by what the two say.
    pub fn covers(&self, other: &Match) -> bool {
        let mine = self.mask.words().iter().zip(self.key.words());
        let theirs = other.mask.words().iter().zip(other.key.words());
        mine.zip(theirs).all(|((m, k), (om, ok))| m & !om == 0 && (k ^ ok) & m == 0)
    }

    /// Drops requirements on fields that packets of this match do not have, as OVS does with what
    /// it gets from a user or a controller. Gives whether something was dropped.
    ///
    /// The test is OVS's, by protocol and not by field: `udp,tcp_dst=80` keeps its port.
    pub fn normalize(&mut self) -> bool {
        let before = *self;
        let (k, m) = (*self.required(), self.mask.pkt);
        let dl_type = match k.packet_type >> 16 {
            1 if m.packet_type != 0 => k.packet_type as u16,
            _ if m.dl_type == u16::MAX => k.dl_type,
            _ => 0,
        };
        let is = |types: &[u16]| types.contains(&dl_type);
        let v4 = is(&[ethertype::IPV4]);
        let v6 = is(&[ethertype::IPV6]);
        let arp = is(&[ethertype::ARP, ethertype::RARP]);
        let mpls = is(&[ethertype::MPLS, ethertype::MPLS_MCAST]);
        let nsh = is(&[ethertype::NSH]);
        let proto = if m.nw_proto == u8::MAX { k.nw_proto } else { 0 };
        let ports = [ipproto::TCP, ipproto::UDP, ipproto::SCTP].contains(&proto);
        let icmp = (v4 && proto == ipproto::ICMP) || (v6 && proto == ipproto::ICMPV6);
        let nd = v6
            && proto == ipproto::ICMPV6
            && (k.tp_src == 135 || k.tp_src == 136)
            && m.tp_src & 0xff == 0xff;

        let w = &mut self.mask.pkt;
        if !v4 && !arp {
            w.nw_src = 0;
            w.nw_dst = 0;
        }
        if !v4 && !v6 {
            w.nw_tos = 0;
            w.nw_ttl = 0;
            w.nw_frag = 0;
        }
        if !v4 && !v6 && !arp {
            w.nw_proto = 0;
        }
        if !((v4 || v6) && (ports || icmp)) {
            w.tp_src = 0;
            w.tp_dst = 0;
        }
        if !((v4 || v6) && proto == ipproto::TCP) {
            w.tcp_flags = 0;
        }
        if !(arp || nd && k.tp_src == 135) {
            w.arp_sha = [0; 6];
        }
        if !(arp || nd && k.tp_src == 136) {
            w.arp_tha = [0; 6];
        }
        if !v6 {
            w.ipv6_src = [0; 16];
            w.ipv6_dst = [0; 16];
            w.ipv6_label = 0;
        }
        if !nd {
            w.nd_target = [0; 16];
            w.nd_reserved = 0;
            w.nd_options_type = 0;
        }
        if !mpls {
            w.mpls_lse = [0; 3];
        }
        if !nsh {
            w.nsh_flags = 0;
            w.nsh_ttl = 0;
            w.nsh_mdtype = 0;
            w.nsh_np = 0;
            w.nsh_path = 0;
            w.nsh_context = [0; 4];
        }
        self.key = &self.key & &self.mask;
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_fields_speak_of_the_tag_as_well() {
        let set = |f: FieldId, v: u128, m: u128| {
            let mut x = Match::ANY;
            x.set(f, v, m);
            (x.key.pkt.vlans[0].tci, x.mask.pkt.vlans[0].tci)
        };
        assert_eq!(set(FieldId::DlVlan, 5, 0xfff), (0x1005, 0x1fff));
        assert_eq!(set(FieldId::DlVlan, 0xffff, 0xffff), (0, 0xffff));
        assert_eq!(set(FieldId::VlanVid, 5, 0x1fff), (5, 0x1fff));
        assert_eq!(set(FieldId::VlanVid, 0x1000, 0x1000), (0x1000, 0x1000));
        assert_eq!(set(FieldId::VlanPcp, 3, 7), (0x7000, 0xf000));
        assert_eq!(set(FieldId::VlanTci, 0x1005, 0xffff), (0x1005, 0xffff));
    }

    #[test]
    fn the_key_has_no_bit_outside_the_mask() {
        for f in &crate::field::FIELDS {
            for mask in [0, 0x5555, f.all_ones()] {
                let mut m = Match::ANY;
                m.set(f.id, u128::MAX, mask & f.all_ones());
                assert_eq!(m.key, &m.key & &m.mask, "{}", f.name);
            }
        }
    }

    #[test]
    fn normalize_drops_what_does_not_exist() {
        let mut m = Match::ANY;
        m.set(FieldId::TcpDst, 80, 0xffff);
        assert!(m.normalize());
        assert_eq!(m, Match::ANY);
        let mut m = Match::ANY;
        m.set(FieldId::EthType, 0x800, 0xffff);
        m.set(FieldId::IpProto, 17, 0xff);
        m.set(FieldId::TcpDst, 80, 0xffff);
        assert!(!m.normalize());
    }
}
