//! Sets of packets, exactly: what a match lets through, what of it others take, what is left.
//!
//! A [`Region`] is what one match lets through. Of the connection state it keeps the set of states
//! that the tracker can give ([`FEASIBLE`]) instead of bits, so `+new+est` is nothing, and `+new`
//! and `+est` have nothing in common. [`Regions`] finds those that overlap a region by their masks,
//! as a classifier does; [`covered`] decides whether several together take all of one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use classifier::MiniMatch;
use flow::{FlowKey, Match, ct_state};

/// The states that a tracker gives: untracked, invalid, and what `new`, `est`, `rel`, `rpl` and
/// the translation bits make of a tracked packet. `new` and `est` exclude each other, and a reply
/// is never new (`ovs-fields(7)`, `ct_state`).
const FEASIBLE: [u8; N_FEASIBLE] = feasible();
const N_FEASIBLE: usize = 42;

const fn feasible() -> [u8; N_FEASIBLE] {
    use ct_state::{DNAT, EST, INV, NEW, REL, RPL, SNAT, TRK};
    let mut list = [0; N_FEASIBLE];
    let (mut n, mut s) = (0, 0u8);
    loop {
        let invalid = s & INV != 0;
        let never = if s & TRK == 0 {
            s != 0
        } else if invalid {
            s != INV | TRK
        } else {
            s & NEW != 0 && s & (EST | RPL) != 0
                || s & !(NEW | EST | REL | RPL | SNAT | DNAT | TRK) != 0
        };
        if !never {
            list[n] = s;
            n += 1;
        }
        if s == u8::MAX {
            assert!(n == N_FEASIBLE);
            return list;
        }
        s += 1;
    }
}

/// A set of connection states: bit N is [`FEASIBLE`]'s Nth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u64);

impl States {
    /// No state at all.
    pub const NONE: States = States(0);
    /// Every state.
    pub const ALL: States = States((1 << N_FEASIBLE) - 1);
    /// Never tracked.
    pub const UNTRACKED: States = States::matching(0, u8::MAX);
    /// Whatever the tracker says.
    pub const TRACKED: States = States(States::ALL.0 & !States::UNTRACKED.0);

    /// The states that have the bits `mask` as in `value`.
    pub const fn matching(value: u8, mask: u8) -> States {
        let (mut set, mut i) = (0, 0);
        while i < N_FEASIBLE {
            if FEASIBLE[i] & mask == value & mask {
                set |= 1 << i;
            }
            i += 1;
        }
        States(set)
    }

    /// Those in both.
    pub const fn and(self, other: States) -> States {
        States(self.0 & other.0)
    }

    /// Those in either.
    pub const fn or(self, other: States) -> States {
        States(self.0 | other.0)
    }

    /// Those that are not in `other`.
    pub const fn but(self, other: States) -> States {
        States(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of them are in `other`.
    pub const fn within(self, other: States) -> bool {
        self.but(other).is_empty()
    }
}

/// What a match lets through.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Everything but the connection state.
    cube: Match,
    /// Connection states.
    pub states: States,
}

impl Region {
    /// Of a match.
    pub fn of(m: &Match) -> Region {
        let mut cube = *m;
        cube.mask.pkt.ct_state = 0;
        cube.key.pkt.ct_state = 0;
        let states = States::matching(m.key.pkt.ct_state, m.mask.pkt.ct_state);
        Region { cube, states }
    }

    /// Whether a packet can be in both.
    pub fn overlaps(&self, other: &Region) -> bool {
        !self.states.and(other.states).is_empty() && self.cube.overlaps(&other.cube)
    }

    /// Whether all packets of `self` are in `other`.
    pub fn is_within(&self, other: &Region) -> bool {
        self.states.within(other.states) && self.cube.is_within(&other.cube)
    }

    /// What is in both, given that they overlap.
    pub fn common(&self, other: &Region) -> Region {
        let mut cube = self.cube;
        cube.mask |= &other.cube.mask;
        cube.key |= &other.cube.key;
        Region { cube, states: self.states.and(other.states) }
    }
}

/// Members of a mask by (the hash of) their values in a part of it, those of high priority first.
type ByValue = HashMap<u64, Vec<u32>>;

/// A rule's region, small.
#[derive(Debug)]
struct Small {
    cube: MiniMatch,
    states: States,
    priority: u16,
    /// Index of its mask.
    mask: u32,
}

/// The regions of a table's rules. For each, those that take packets from it are found by their
/// masks.
#[derive(Debug, Default)]
pub struct Regions {
    all: Vec<Small>,
    masks: Vec<(FlowKey, Vec<u32>)>,
    /// For two masks: the members of the first by their values where both look.
    common: HashMap<(u32, u32), ByValue>,
    hasher: RandomState,
}

/// The hash of what a key has in a mask.
fn hash_of(hasher: &RandomState, key: &FlowKey, mask: &FlowKey) -> u64 {
    let mut hash = hasher.build_hasher();
    for (k, m) in key.words().iter().zip(mask.words()).filter(|(_, m)| **m != 0) {
        hash.write_u64(k & m);
    }
    hash.finish()
}

impl Regions {
    /// Of these, with their priorities.
    pub fn new(all: impl Iterator<Item = (Region, u16)>) -> Regions {
        let mut regions = Regions::default();
        let mut index: HashMap<FlowKey, u32> = HashMap::new();
        for (i, (r, priority)) in (0..).zip(all) {
            let mask = *index.entry(r.cube.mask).or_insert_with(|| {
                regions.masks.push((r.cube.mask, Vec::new()));
                regions.masks.len() as u32 - 1
            });
            let members = &mut regions.masks[mask as usize].1;
            let mut cube = MiniMatch::from(&r.cube);
            if let Some(&first) = members.first() {
                cube.share_mask(&regions.all[first as usize].cube);
            }
            members.push(i);
            regions.all.push(Small { cube, states: r.states, priority, mask });
        }
        let all = &regions.all;
        for (_, members) in &mut regions.masks {
            members.sort_by_key(|&i| std::cmp::Reverse(all[i as usize].priority));
        }
        regions
    }

    /// The region with this index.
    pub fn get(&self, i: usize) -> Region {
        Region { cube: self.all[i].cube.expand(), states: self.all[i].states }
    }

    /// Its states.
    pub fn states(&self, i: usize) -> States {
        self.all[i].states
    }

    /// Indices of those other than `i`, not of lower priority, that contain all its packets
    /// whatever their states.
    pub fn containing(&mut self, i: usize) -> Vec<usize> {
        let cube = self.get(i).cube;
        let mut found = Vec::new();
        for mask in 0..self.masks.len() {
            let all_seen = &self.masks[mask].0 & &cube.mask == self.masks[mask].0;
            if all_seen {
                found.extend(self.agreeing(mask, i, &cube));
            }
        }
        found.sort_unstable();
        found
    }

    /// Indices of those other than `i`, not of lower priority, that have packets in common with
    /// it. `None` if more than `limit` have the same values where they look at the same.
    pub fn overlapping(&mut self, i: usize, limit: usize) -> Option<Vec<usize>> {
        let cube = self.get(i).cube;
        let mut found: Vec<usize> = Vec::new();
        for mask in 0..self.masks.len() {
            let room = limit.checked_sub(found.len())?;
            found.extend(self.agreeing(mask, i, &cube).take(room + 1));
        }
        if found.len() > limit {
            return None;
        }
        let states = self.states(i);
        found.retain(|&o| !self.states(o).and(states).is_empty());
        found.sort_unstable();
        Some(found)
    }

    /// Members of a mask that agree with `i`, whose cube is given, where both look.
    fn agreeing<'a>(
        &'a mut self,
        mask: usize,
        i: usize,
        cube: &'a Match,
    ) -> impl Iterator<Item = usize> + 'a {
        let (all, members, hasher) = (&self.all, &self.masks[mask], &self.hasher);
        let common = &members.0 & &cube.mask;
        let by_value = self.common.entry((mask as u32, all[i].mask)).or_insert_with(|| {
            let mut by_value = ByValue::new();
            for &i in &members.1 {
                let key = all[i as usize].cube.expand().key;
                by_value.entry(hash_of(hasher, &key, &common)).or_default().push(i);
            }
            by_value
        });
        let same = by_value.get(&hash_of(hasher, &cube.key, &common)).into_iter().flatten();
        let priority = all[i].priority;
        same.map(|&o| o as usize)
            .take_while(move |&o| all[o].priority >= priority)
            .filter(move |&o| o != i && all[o].cube.overlaps(cube))
    }
}

/// Steps after which [`covered`] gives up.
const MAX_STEPS: u32 = 20_000;

/// Whether regions together take every packet of `r`. `None` if that would take too long to say.
pub fn covered(r: &Region, by: &[Region]) -> Option<bool> {
    let mut by: Vec<&Region> = by.iter().collect();
    // Those that ask for least cut the most away.
    by.sort_by_key(|b| b.cube.mask.words().iter().map(|w| w.count_ones()).sum::<u32>());
    let mut steps = MAX_STEPS;
    cover(r, &by, &mut steps)
}

fn cover(r: &Region, by: &[&Region], steps: &mut u32) -> Option<bool> {
    *steps = steps.checked_sub(1)?;
    if r.states.is_empty() {
        return Some(true);
    }
    let Some(at) = by.iter().position(|b| b.overlaps(r)) else { return Some(false) };
    let (b, rest) = (by[at], &by[at + 1..]);
    // What `b` does not take of the states …
    let left = Region { states: r.states.but(b.states), ..*r };
    if cover(&left, rest, steps)? {
        // … and of the packets: bit by bit that `b` asks for beyond `r`.
        let mut same = Region { states: r.states.and(b.states), ..*r };
        for word in 0..flow::FLOW_WORDS {
            let mut beyond = b.cube.mask.words()[word] & !r.cube.mask.words()[word];
            while beyond != 0 {
                let bit = beyond & beyond.wrapping_neg();
                beyond ^= bit;
                let wanted = b.cube.key.words()[word] & bit;
                same.cube.mask.words_mut()[word] |= bit;
                let mut other = same;
                other.cube.key.words_mut()[word] |= bit ^ wanted;
                if !cover(&other, rest, steps)? {
                    return Some(false);
                }
                same.cube.key.words_mut()[word] |= wanted;
            }
        }
        return Some(true);
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::text::{Mode, NoNames, parse_match};

    fn region(text: &str) -> Region {
        Region::of(&parse_match(text, &NoNames, Mode::Ovs).unwrap())
    }

    fn union(r: &str, by: &[&str]) -> Option<bool> {
        let by: Vec<Region> = by.iter().map(|t| region(t)).collect();
        covered(&region(r), &by)
    }

    #[test]
    fn states_know_what_a_tracker_says() {
        assert!(region("ip,ct_state=+new+est").states.is_empty());
        assert!(region("ip,ct_state=+new+rpl").states.is_empty());
        assert!(region("ip,ct_state=+new-trk").states.is_empty());
        assert!(!region("ip,ct_state=+new").overlaps(&region("ip,ct_state=+est")));
        assert!(region("ip,ct_state=+new").is_within(&region("ip,ct_state=+trk-est-inv")));
        assert!(!region("ip,ct_state=-new").is_within(&region("ip,ct_state=+trk")));
    }

    #[test]
    fn several_together_take_one() {
        assert_eq!(union("ip,nw_src=10.0.0.0/8", &["ip,nw_src=10.0.0.0/9"]), Some(false));
        let halves = ["ip,nw_src=10.0.0.0/9", "ip,nw_src=10.128.0.0/9"];
        assert_eq!(union("ip,nw_src=10.0.0.0/8", &halves), Some(true));
        assert_eq!(union("tcp,nw_src=10.0.0.0/8", &halves), Some(true));
        assert_eq!(union("ip,nw_src=10.0.0.0/7", &halves), Some(false));
        let states = ["ct_state=+trk+new", "ct_state=+trk-new", "ct_state=-trk"];
        assert_eq!(union("ip", &states), Some(true));
        assert_eq!(union("ip", &states[..2]), Some(false));
        assert_eq!(union("ip,ct_state=+trk", &states[..2]), Some(true));
    }

    /// Against counting: matches on four bits of a register and one state bit.
    #[test]
    fn cover_agrees_with_counting() {
        let mut seed = 1u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        let mut n_covered = 0;
        for _ in 0..2000 {
            let mut random = || {
                let (mask, value) = (next(16), next(16));
                let mut m = Match::ANY;
                m.set(flow::FieldId::Reg0, (value & mask).into(), mask.into());
                let bits = [0, ct_state::NEW, ct_state::TRK][next(3) as usize];
                let v = if next(2) == 0 { bits } else { 0 };
                m.set(flow::FieldId::CtState, v.into(), bits.into());
                m
            };
            let (r, by) = (random(), [random(), random(), random()]);
            let regions: Vec<Region> = by.iter().map(Region::of).collect();
            let ours = covered(&Region::of(&r), &regions);
            let all_taken = (0..16u32).all(|reg| {
                FEASIBLE.iter().all(|&state| {
                    let mut k = FlowKey::ZERO;
                    k.regs[0] = reg;
                    k.pkt.ct_state = state;
                    !r.matches(&k) || by.iter().any(|m| m.matches(&k))
                })
            });
            assert_eq!(ours, Some(all_taken), "{r:?} by {by:?}");
            n_covered += u32::from(all_taken);
            let ours = Region::of(&r);
            let priorities = [2, 1, 0];
            let mut all: Vec<_> = regions.iter().copied().zip(priorities).collect();
            all.push((ours, 1));
            let mut index = Regions::new(all.into_iter());
            let scan = |f: fn(&Region, &Region) -> bool| -> Vec<usize> {
                (0..2).filter(|&i| f(&ours, &regions[i])).collect()
            };
            assert_eq!(index.overlapping(3, 9), Some(scan(Region::overlaps)));
            assert_eq!(index.containing(3), scan(|a, b| a.cube.is_within(&b.cube)));
            let agree = (0..2).any(|i| ours.cube.overlaps(&regions[i].cube));
            assert_eq!(index.overlapping(3, 0).is_none(), agree);
        }
        assert!((100..1900).contains(&n_covered), "{n_covered} of 2000 tell nothing");
    }
}
