//! Hashes of packets.
//!
//! Which way a packet takes by its hash can be seen from outside, so the functions are those of Open
//! vSwitch: Bob Jenkins' lookup3 over bytes, and MurmurHash3 over 32-bit words; both as they are on a
//! little-endian machine, over fields in network order.

use packet::header::{ethertype, ipproto};

use crate::PacketKey;

/// VLAN id of a TCI.
pub const VID: u16 = 0xfff;

/// lookup3 of a string of bytes. A length that is a multiple of 12 has no last round.
pub fn jhash(bytes: &[u8], basis: u32) -> u32 {
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
pub fn hash_add(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// The end of a MurmurHash3.
pub fn hash_finish(hash: u32, last: u32) -> u32 {
    let mut h = hash ^ last;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// The hash of two words.
pub fn hash_2words(x: u32, y: u32) -> u32 {
    hash_finish(hash_add(hash_add(x, 0), y), 8)
}

fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    core::array::from_fn(|i| a[i] ^ b[i])
}

/// VLAN ids of all tags, folded.
fn vids(k: &PacketKey) -> u16 {
    k.vlans.iter().fold(0, |v, tag| v ^ (tag.tci & VID))
}

/// Whether ports count without being asked for.
pub fn has_ports(k: &PacketKey) -> bool {
    matches!(k.nw_proto, ipproto::TCP | ipproto::SCTP)
}

/// Both addresses folded; an IPv4 one comes first in the bytes.
pub fn addresses(k: &PacketKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    match k.dl_type {
        ethertype::IPV4 => bytes[..4].copy_from_slice(&(k.nw_src ^ k.nw_dst).to_be_bytes()),
        ethertype::IPV6 => bytes = xor(&k.ipv6_src, &k.ipv6_dst),
        _ => {}
    }
    bytes
}

/// The same for both directions. Ports of UDP do not count.
pub fn symmetric_l4(k: &PacketKey, basis: u32) -> u32 {
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

/// See [`five_tuple`], but the same for both directions; ports of UDP count with `udp`. Of other
/// packets than IP what [`symmetric_l2`] counts.
pub fn symmetric_l3l4(k: &PacketKey, basis: u32, udp: bool) -> u32 {
    let n_bytes = match k.dl_type {
        ethertype::IPV4 => 4,
        ethertype::IPV6 => 16,
        _ => return symmetric_l2(k, basis),
    };
    let mut hash = add_words(basis, &addresses(k)[..n_bytes]);
    hash = hash_add(hash, k.nw_proto.into());
    if k.nw_frag == 0 && (has_ports(k) || (udp && k.nw_proto == ipproto::UDP)) {
        hash = hash_add(hash, (k.tp_src ^ k.tp_dst).swap_bytes().into());
    }
    hash_finish(hash, basis)
}

/// Adds whole words.
fn add_words(hash: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(4)
        .fold(hash, |h, w| hash_add(h, u32::from_le_bytes([w[0], w[1], w[2], w[3]])))
}

/// Ethernet addresses, EtherType and VLANs. Packets without an Ethernet header are all alike.
pub fn symmetric_l2(k: &PacketKey, basis: u32) -> u32 {
    if k.packet_type != 0 {
        return 0;
    }
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&k.dl_type.to_be_bytes());
    bytes[2..4].copy_from_slice(&vids(k).to_be_bytes());
    bytes[4..10].copy_from_slice(&xor(&k.dl_src, &k.dl_dst));
    hash_finish(add_words(basis, &bytes), basis)
}

/// Addresses, protocol and ports, as they stand. Of other packets than IP and ARP the basis.
pub fn five_tuple(k: &PacketKey, basis: u32) -> u32 {
    /// What OVS ends this hash with.
    const LAST: u32 = 42;
    let mut hash = basis;
    match k.dl_type {
        ethertype::IPV6 => hash = add_words(add_words(hash, &k.ipv6_src), &k.ipv6_dst),
        ethertype::IPV4 | ethertype::ARP => {
            hash = hash_add(hash_add(hash, k.nw_src.swap_bytes()), k.nw_dst.swap_bytes());
        }
        _ => return hash_finish(hash, LAST),
    }
    hash = hash_add(hash, k.nw_proto.into());
    let icmp = matches!(k.nw_proto, ipproto::ICMP | ipproto::ICMPV6);
    if has_ports(k) || icmp || k.nw_proto == ipproto::UDP {
        let ports = u32::from(k.tp_src) << 16 | u32::from(k.tp_dst);
        hash = hash_add(hash, ports.swap_bytes());
    }
    hash_finish(hash, LAST)
}

/// The hash of a string of bytes.
pub fn hash_bytes(bytes: &[u8], basis: u32) -> u32 {
    let hash = bytes.chunks(4).fold(basis, |h, word| {
        let mut w = [0; 4];
        w[..word.len()].copy_from_slice(word);
        hash_add(h, u32::from_le_bytes(w))
    });
    hash_finish(hash, bytes.len() as u32)
}

/// The hash of a 64-bit number.
pub fn hash_u64(x: u64) -> u32 {
    hash_finish(hash_add(hash_add(0, x as u32), (x >> 32) as u32), 8)
}
