//! Hashes of packets, as actions that choose by hash want them. The functions are [`flow::hash`]'s.

use flow::hash::{VID, addresses, has_ports, jhash, symmetric_l3l4, symmetric_l4};
use flow::{PacketKey, VLAN_PRESENT, nw_frag};
use openflow::action::HashFields;
use packet::header::{ethertype, ipproto};

/// The hash of the fields of a packet that `fields` names.
pub(crate) fn hash_fields(k: &PacketKey, fields: HashFields, basis: u32) -> u32 {
    match fields {
        HashFields::EthSrc => jhash(&k.dl_src, basis),
        HashFields::SymmetricL4 => symmetric_l4(k, basis),
        HashFields::SymmetricL3L4 => symmetric_l3l4(k, basis, false),
        HashFields::SymmetricL3L4Udp => symmetric_l3l4(k, basis, true),
        HashFields::NwSrc => address(k, k.nw_src, &k.ipv6_src, basis),
        HashFields::NwDst => address(k, k.nw_dst, &k.ipv6_dst, basis),
        HashFields::SymmetricL3 => {
            let mut bytes = [0; 20];
            bytes[..16].copy_from_slice(&addresses(k));
            bytes[16..18].copy_from_slice(&k.dl_type.to_be_bytes());
            jhash(&bytes, basis)
        }
    }
}

fn address(k: &PacketKey, v4: u32, v6: &[u8; 16], basis: u32) -> u32 {
    match k.dl_type {
        ethertype::IPV4 => jhash(&v4.to_be_bytes(), basis),
        ethertype::IPV6 => jhash(v6, basis),
        _ => basis,
    }
}

/// Marks in `w` what [`hash_fields`] of the packet `k` looks at.
pub(crate) fn mask_hash_fields(k: &PacketKey, w: &mut PacketKey, fields: HashFields) {
    let (v4, v6) = (k.dl_type == ethertype::IPV4, k.dl_type == ethertype::IPV6);
    let (mut src, mut dst, mut ports) = (false, false, false);
    match fields {
        HashFields::EthSrc => w.dl_src = [0xff; 6],
        HashFields::SymmetricL4 => {
            (w.dl_src, w.dl_dst) = ([0xff; 6], [0xff; 6]);
            (src, dst) = (true, true);
            if v4 || v6 {
                w.nw_proto = 0xff;
                ports = k.nw_proto != ipproto::UDP;
            }
            w.vlans.iter_mut().for_each(|tag| tag.tci |= VID | VLAN_PRESENT);
        }
        HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp => {
            (src, dst) = (true, true);
            if v4 || v6 {
                w.nw_proto = 0xff;
                let udp = fields == HashFields::SymmetricL3L4Udp && k.nw_proto == ipproto::UDP;
                ports = (has_ports(k) || udp) && k.nw_frag & (nw_frag::ANY | nw_frag::LATER) == 0;
            }
        }
        HashFields::NwSrc => src = true,
        HashFields::NwDst => dst = true,
        HashFields::SymmetricL3 => (src, dst) = (true, true),
    }
    if src && v4 {
        w.nw_src = u32::MAX;
    }
    if dst && v4 {
        w.nw_dst = u32::MAX;
    }
    if src && v6 {
        w.ipv6_src = [0xff; 16];
    }
    if dst && v6 {
        w.ipv6_dst = [0xff; 16];
    }
    if ports {
        (w.tp_src, w.tp_dst) = (u16::MAX, u16::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_hash_the_same() {
        let mut k = PacketKey {
            dl_type: ethertype::IPV4,
            nw_proto: ipproto::TCP,
            nw_src: 0x0a00_0001,
            nw_dst: 0x0a00_0002,
            tp_src: 40000,
            tp_dst: 80,
            dl_src: [2, 0, 0, 0, 0, 1],
            dl_dst: [2, 0, 0, 0, 0, 2],
            ..PacketKey::ZERO
        };
        for fields in [
            HashFields::SymmetricL4,
            HashFields::SymmetricL3L4,
            HashFields::SymmetricL3L4Udp,
            HashFields::SymmetricL3,
        ] {
            let one = hash_fields(&k, fields, 7);
            core::mem::swap(&mut k.nw_src, &mut k.nw_dst);
            core::mem::swap(&mut k.tp_src, &mut k.tp_dst);
            core::mem::swap(&mut k.dl_src, &mut k.dl_dst);
            assert_eq!(one, hash_fields(&k, fields, 7), "{fields:?}");
        }
    }
}
