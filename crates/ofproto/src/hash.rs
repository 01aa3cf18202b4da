//! Hashes of packets, as actions that choose by hash want them.
//!
//! Which link a packet takes can be seen from outside, so the functions are those of Open vSwitch:
//! Bob Jenkins' lookup3 over bytes, and MurmurHash3 over 32-bit words; both as they are on a
//! little-endian machine, over fields in network order.

use flow::{PacketKey, VLAN_PRESENT, nw_frag};
use openflow::action::HashFields;
use packet::header::{ethertype, ipproto};

/// VLAN id of a TCI.
const VID: u16 = 0xfff;

/// lookup3 of a string of bytes. A length that is a multiple of 12 has no last round.
pub(crate) fn jhash(bytes: &[u8], basis: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32).wrapping_add(basis);
    let mut state = [start; 3];
    for block in bytes.chunks(12) {
        for (s, word) in state.iter_mut().zip(block.chunks(4)) {
            let mut w = [0; 4];
            w[..word.len()].copy_from_slice(word);
            *s = s.wrapping_add(u32::from_le_bytes(w));
        }
        if block.len() == 12 {
            jhash_mix(&mut state);
        } else {
            jhash_final(&mut state);
        }
    }
    state[2]
}

fn jhash_mix(s: &mut [u32; 3]) {
    for (i, rot) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (x, y, z) = (i % 3, (i + 1) % 3, (i + 2) % 3);
        s[x] = s[x].wrapping_sub(s[z]) ^ s[z].rotate_left(rot);
        s[z] = s[z].wrapping_add(s[y]);
    }
}

fn jhash_final(s: &mut [u32; 3]) {
    for (i, rot) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (x, y) = ((i + 2) % 3, (i + 1) % 3);
        s[x] = (s[x] ^ s[y]).wrapping_sub(s[y].rotate_left(rot));
    }
}

/// One word more into a MurmurHash3.
pub(crate) fn hash_add(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// The end of a MurmurHash3.
pub(crate) fn hash_finish(hash: u32, last: u32) -> u32 {
    let mut h = hash ^ last;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// The hash of two words.
pub(crate) fn hash_2words(x: u32, y: u32) -> u32 {
    hash_finish(hash_add(hash_add(x, 0), y), 8)
}

fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    core::array::from_fn(|i| a[i] ^ b[i])
}

/// VLAN ids of all tags, folded.
fn vids(k: &PacketKey) -> u16 {
    k.vlans.iter().fold(0, |v, tag| v ^ (tag.tci & VID))
}

fn has_ports(k: &PacketKey) -> bool {
    matches!(k.nw_proto, ipproto::TCP | ipproto::SCTP)
}

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

/// Both addresses folded; an IPv4 one comes first in the bytes.
fn addresses(k: &PacketKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    match k.dl_type {
        ethertype::IPV4 => bytes[..4].copy_from_slice(&(k.nw_src ^ k.nw_dst).to_be_bytes()),
        ethertype::IPV6 => bytes = xor(&k.ipv6_src, &k.ipv6_dst),
        _ => {}
    }
    bytes
}

/// The same for both directions. Ports of UDP do not count.
pub(crate) fn symmetric_l4(k: &PacketKey, basis: u32) -> u32 {
    let ip = matches!(k.dl_type, ethertype::IPV4 | ethertype::IPV6);
    let ports = if ip && has_ports(k) { k.tp_src ^ k.tp_dst } else { 0 };
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&addresses(k));
    bytes[16..18].copy_from_slice(&k.dl_type.to_be_bytes());
    bytes[18..20].copy_from_slice(&vids(k).to_be_bytes());
    bytes[20..22].copy_from_slice(&ports.to_be_bytes());
    bytes[22..28].copy_from_slice(&xor(&k.dl_src, &k.dl_dst));
    bytes[28] = if ip { k.nw_proto } else { 0 };
    jhash(&bytes, basis)
}

/// Addresses and ports of IP; of other packets what [`symmetric_l2`] counts.
fn symmetric_l3l4(k: &PacketKey, basis: u32, udp: bool) -> u32 {
    let n_bytes = match k.dl_type {
        ethertype::IPV4 => 4,
        ethertype::IPV6 => 16,
        _ => return symmetric_l2(k, basis),
    };
    let mut hash = hash_bytes(basis, &addresses(k)[..n_bytes]);
    hash = hash_add(hash, k.nw_proto.into());
    if k.nw_frag == 0 && (has_ports(k) || (udp && k.nw_proto == ipproto::UDP)) {
        hash = hash_add(hash, (k.tp_src ^ k.tp_dst).swap_bytes().into());
    }
    hash_finish(hash, basis)
}

fn hash_bytes(hash: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(4)
        .fold(hash, |h, w| hash_add(h, u32::from_le_bytes([w[0], w[1], w[2], w[3]])))
}

/// Ethernet addresses, EtherType and VLANs. Packets without an Ethernet header are all alike.
fn symmetric_l2(k: &PacketKey, basis: u32) -> u32 {
    if k.packet_type != 0 {
        return 0;
    }
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&k.dl_type.to_be_bytes());
    bytes[2..4].copy_from_slice(&vids(k).to_be_bytes());
    bytes[4..10].copy_from_slice(&xor(&k.dl_src, &k.dl_dst));
    hash_finish(hash_bytes(basis, &bytes), basis)
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
