//! How many masks, and how many flows, a port may have.
//!
//! Which bits a translation looks at depends on the packet: a drop by a policy of four rules over four fields looks
//! at a prefix of each, and a sender who knows the rules can make it any combination of lengths, some
//! 260,000 of them (Csikor et al., "Tuple Space Explosion", CoNEXT 2019). A look-up tries mask after mask.
//! So each port has masks of its own, and few: a flow whose mask is new to its port gets it
//! as it is only while there are less than [`AS_ASKED`]. Beyond that it gets one that is wider and that fewer
//! kinds of packets have between them, in steps: whole bytes, whole fields, and in the end all bits. A wider
//! mask is always right, for whoever agrees with the packet in more bits gets the same
//! translation; it only takes more flows. A mask that is there is used at any time.
//!
//! Flows are limited for all ports together. No port can take all of it: whatever is free, a port may have
//! so many times as much.

use std::collections::{HashMap, HashSet};

use base::{HashKey, hash_words};
use flow::field::FIELDS;
use flow::{FlowKey, PACKET_WORDS, PacketKey};
use hashbrown::HashTable;

/// Masks of a port from which on a new one is not taken as it is asked for.
const AS_ASKED: usize = 64;
/// From which on one of whole bytes is not,
const WHOLE_BYTES: usize = 80;
/// and one of whole fields. One more can be there, that of all bits.
const WHOLE_FIELDS: usize = 96;

/// Flows that a port may have at most for each that is free.
const SHARE: usize = 16;

/// Flows of a port from which on those that nobody used are not kept for long.
const CROWD: usize = 4096;

/// Words of a key, and bits of them.
type Bits = Box<[(u8, u64)]>;

#[derive(Debug)]
struct Mask {
    bits: PacketKey,
    n_flows: usize,
}

#[derive(Debug, Default)]
struct PortMasks {
    masks: HashTable<Mask>,
    n_flows: usize,
}

/// The masks of all ports, with the number of flows that have each.
#[derive(Debug)]
pub(crate) struct Masks {
    secret: HashKey,
    /// Words and bits of each field.
    fields: Box<[Bits]>,
    ports: HashMap<u32, PortMasks>,
    n_flows: usize,
}

impl Masks {
    pub(crate) fn new(secret: HashKey) -> Masks {
        let bits = |field: &flow::Field| {
            let mut all = FlowKey::ZERO;
            field.set(&mut all, field.all_ones());
            let words = (0..).zip(all.pkt.words()).filter(|(_, w)| **w != 0);
            words.map(|(at, w)| (at, *w)).collect::<Bits>()
        };
        let fields = FIELDS.iter().map(bits).filter(|words| !words.is_empty()).collect();
        Masks { secret, fields, ports: HashMap::new(), n_flows: 0 }
    }

    pub(crate) fn n_flows(&self) -> usize {
        self.n_flows
    }

    /// The mask that a new flow of a port gets for the one that it needs: this or a wider one. And whether there is
    /// room for the flow, which is counted then, for [`Masks::remove`] to take back.
    pub(crate) fn add(&mut self, port: u32, needs: &PacketKey, limit: usize) -> (PacketKey, bool) {
        let ours = self.ports.entry(port).or_default();
        let has_room = ours.n_flows < SHARE.saturating_mul(limit.saturating_sub(self.n_flows));
        let mut bits = *needs;
        for step in [AS_ASKED, WHOLE_BYTES, WHOLE_FIELDS, usize::MAX] {
            match step {
                AS_ASKED => {}
                WHOLE_BYTES => bits = whole_bytes(&bits),
                WHOLE_FIELDS => widen(&mut bits, &self.fields),
                _ => bits = PacketKey::from_words([u64::MAX; PACKET_WORDS]),
            }
            let (secret, n_masks) = (self.secret, ours.masks.len());
            let hash = |m: &PacketKey| hash_words(secret, m.words());
            if let Some(mask) = ours.masks.find_mut(hash(&bits), |m| m.bits == bits) {
                mask.n_flows += usize::from(has_room);
                break;
            }
            if n_masks < step {
                if has_room {
                    let mask = Mask { bits, n_flows: 1 };
                    ours.masks.insert_unique(hash(&bits), mask, |m| hash(&m.bits));
                }
                break;
            }
        }
        ours.n_flows += usize::from(has_room);
        self.n_flows += usize::from(has_room);
        (bits, has_room)
    }

    /// A flow is gone.
    pub(crate) fn remove(&mut self, port: u32, bits: &PacketKey) {
        let Some(ours) = self.ports.get_mut(&port) else { return };
        let hash = hash_words(self.secret, bits.words());
        let Ok(mut entry) = ours.masks.find_entry(hash, |m| m.bits == *bits) else { return };
        self.n_flows -= 1;
        ours.n_flows -= 1;
        entry.get_mut().n_flows -= 1;
        if entry.get().n_flows == 0 {
            entry.remove();
        }
        if ours.n_flows == 0 {
            self.ports.remove(&port);
        }
    }

    /// The ports that have so many masks, or flows, that those go soon that nobody used.
    pub(crate) fn crowded(&self) -> HashSet<u32> {
        let is_crowded = |p: &PortMasks| p.masks.len() >= AS_ASKED || p.n_flows >= CROWD;
        self.ports.iter().filter(|(_, p)| is_crowded(p)).map(|(port, _)| *port).collect()
    }
}

/// Each byte that has a bit has all.
fn whole_bytes(mask: &PacketKey) -> PacketKey {
    let whole = |w: &u64| u64::from_ne_bytes(w.to_ne_bytes().map(|b| if b == 0 { 0 } else { !0 }));
    PacketKey::from_words(std::array::from_fn(|at| whole(&mask.words()[at])))
}

/// Each field that has a bit has all.
fn widen(mask: &mut PacketKey, fields: &[Bits]) {
    let old = *mask;
    for field in fields {
        if field.iter().any(|&(at, bits)| old.words()[usize::from(at)] & bits != 0) {
            field.iter().for_each(|&(at, bits)| mask.words_mut()[usize::from(at)] |= bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u32 = 3;
    /// All that fit.
    const MANY: usize = 1 << 20;

    fn covers(wide: &PacketKey, narrow: &PacketKey) -> bool {
        &(wide & narrow) == narrow
    }

    /// A prefix of each of four fields.
    fn prefixes(lengths: [u32; 4]) -> PacketKey {
        let bits =
            |width: u32, n: u32| (u64::MAX << (width - n)) as u32 & ((1_u64 << width) - 1) as u32;
        let [src, dst, sport, dport] = lengths;
        PacketKey {
            in_port: u32::MAX,
            nw_src: bits(32, src),
            nw_dst: bits(32, dst),
            tp_src: bits(16, sport) as u16,
            tp_dst: bits(16, dport) as u16,
            ..PacketKey::ZERO
        }
    }

    #[test]
    fn whatever_is_asked_for_masks_are_few_and_cover_it() {
        let mut masks = Masks::new(HashKey([1, 2]));
        let mut added = Vec::new();
        for n in 0..20_000_u32 {
            let r = n.wrapping_mul(2_654_435_761);
            let mut mask =
                prefixes([1 + r % 32, 1 + (r >> 5) % 32, 1 + (r >> 10) % 16, 1 + (r >> 14) % 16]);
            // And such as no policy has.
            if n % 3 == 0 {
                let word = r as usize % PACKET_WORDS;
                mask.words_mut()[word] |= u64::from(r).rotate_left(n);
            }
            let (given, has_room) = masks.add(PORT, &mask, MANY);
            assert!(has_room && covers(&given, &mask));
            assert!(masks.ports[&PORT].masks.len() <= WHOLE_FIELDS + 1);
            added.push(given);
        }
        assert_eq!((masks.n_flows(), masks.crowded()), (20_000, HashSet::from([PORT])));
        // What another port does is not this one's matter.
        let (given, _) = masks.add(PORT + 1, &prefixes([3, 5, 7, 9]), MANY);
        assert_eq!(given, prefixes([3, 5, 7, 9]));
        masks.remove(PORT + 1, &given);
        added.iter().for_each(|m| masks.remove(PORT, m));
        assert_eq!((masks.n_flows(), masks.ports.len()), (0, 0));
    }

    #[test]
    fn steps_make_bytes_and_then_fields_whole() {
        let mut masks = Masks::new(HashKey([1, 2]));
        let fill = |masks: &mut Masks, n: u32| {
            (0..n).for_each(|i| {
                masks.add(PORT, &PacketKey { pkt_mark: 1 + i, ..PacketKey::ZERO }, MANY);
            });
        };
        fill(&mut masks, 64);
        let (given, _) = masks.add(PORT, &prefixes([9, 8, 1, 16]), MANY);
        assert_eq!(given, prefixes([16, 8, 8, 16]));
        // One that is there is used.
        let there = PacketKey { pkt_mark: 5, ..PacketKey::ZERO };
        assert_eq!(masks.add(PORT, &there, MANY).0, there);
        for n in 1..40_u8 {
            let ct_label =
                std::array::from_fn(|at| if at < 8 && n >> at & 1 == 1 { !0 } else { 0 });
            masks.add(PORT, &PacketKey { ct_label, ..PacketKey::ZERO }, MANY);
        }
        let (given, _) = masks.add(PORT, &prefixes([9, 0, 1, 0]), MANY);
        assert_eq!(given, prefixes([32, 0, 16, 0]));
    }

    #[test]
    fn a_port_leaves_room_for_others() {
        let mut masks = Masks::new(HashKey([1, 2]));
        let mask = prefixes([1, 1, 1, 1]);
        let mut fill = |port, limit| (0..limit).filter(|_| masks.add(port, &mask, limit).1).count();
        assert_eq!(fill(1, 1700), 1600);
        assert_eq!(fill(2, 1700), 95);
        assert!(fill(3, 1700) > 0);
        // But few flows may be all one port's.
        let mut masks = Masks::new(HashKey([1, 2]));
        assert_eq!((0..20).filter(|_| masks.add(1, &mask, 10).1).count(), 10);
    }
}
