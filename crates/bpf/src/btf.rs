//! What the kernel says of its own types (BTF).
//!
//! Source: the kernel's `btf` documentation.

/// The kernel's types.
#[derive(Debug)]
pub struct Types {
    btf: Vec<u8>,
    /// Where each type begins, by its number less one.
    at: Vec<usize>,
    names: usize,
}

/// Kinds of types.
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

/// Where bits are in a structure.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The byte that they are in.
    pub byte: usize,
    /// The lowest of them, from the byte's lowest.
    pub first: u32,
    /// How many.
    pub n: u32,
}

impl Types {
    /// Those of the kernel that runs, if it tells.
    pub fn of_kernel() -> Option<Types> {
        Types::read(std::fs::read("/sys/kernel/btf/vmlinux").ok()?)
    }

    /// Reads a description in this machine's byte order.
    fn read(btf: Vec<u8>) -> Option<Types> {
        const MAGIC: u16 = 0xeb9f;
        let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?) as usize);
        if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
            return None;
        }
        let header = word(4)?;
        let mut next = header.checked_add(word(8)?)?;
        let end = next.checked_add(word(12)?)?;
        let names = header.checked_add(word(16)?)?;
        btf.get(names..names.checked_add(word(20)?)?)?;
        btf.get(..end)?;
        let mut at = Vec::new();
        while next < end {
            at.push(next);
            let info = word(next + 4)?;
            let (kind, n) = (info >> 24 & 0x1f, info & 0xffff);
            // What follows a type's first twelve bytes.
            let more = match kind {
                1 | 14 | 17 => 4,          // integer, variable, tag of a declaration
                3 => 12,                   // array
                4 | 5 | 15 | 19 => 12 * n, // structure, union, data section, 64-bit enumeration
                6 | 13 => 8 * n,           // enumeration, prototype
                _ => 0,
            };
            next += 12 + more;
        }
        (next == end).then_some(Types { btf, at, names })
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.btf.get(at..).and_then(|b| b.first_chunk());
        bytes.map_or(0, |b| u32::from_ne_bytes(*b))
    }

    fn is_named(&self, at: usize, name: &str) -> bool {
        let own = self.btf.get(self.names + self.word(at) as usize..);
        let rest = own.and_then(|n| n.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    fn kind(&self, at: usize) -> u32 {
        self.word(at + 4) >> 24 & 0x1f
    }

    /// Where the type of this kind and name begins, and its number.
    fn find(&self, kind: u32, name: &str) -> Option<(usize, u32)> {
        let mut all = self.at.iter().zip(1..);
        let it = all.find(|(at, _)| self.kind(**at) == kind && self.is_named(**at, name))?;
        Some((*it.0, it.1))
    }

    /// The number of a function that programs may call, if the kernel has it.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.find(FUNC, name).map(|(_, id)| id)
    }

    /// Where the bits of this name are in the structure of that, perhaps within structures without a name.
    pub fn bits(&self, structure: &str, name: &str) -> Option<Bits> {
        let (bit, n) = self.bits_in(self.find(STRUCT, structure)?.0, name, 8)?;
        let (byte, first) = (bit as usize / 8, bit % 8);
        (first + n <= 8).then_some(Bits { byte, first, n })
    }

    fn bits_in(&self, at: usize, name: &str, depth: u32) -> Option<(u32, u32)> {
        let info = self.word(at + 4);
        let (n, sized) = (info & 0xffff, info >> 31 == 1);
        for i in 0..n as usize {
            let member = at + 12 * (i + 1);
            let offset = self.word(member + 8);
            let (bit, size) = if sized { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            if self.is_named(member, name) {
                return (size > 0).then_some((bit, size));
            }
            let within = || {
                let id = self.word(member + 4) as usize;
                let inner = *self.at.get(id.checked_sub(1)?)?;
                let has_members = [STRUCT, UNION].contains(&self.kind(inner));
                if !has_members || !self.is_named(member, "") || depth == 0 {
                    return None;
                }
                self.bits_in(inner, name, depth - 1)
            };
            if let Some((inner, size)) = within() {
                return Some((bit + inner, size));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description: names, and types of name, kind, number of members (the highest bit: their sizes are told) and what
    /// follows.
    fn description(names: &[u8], types: &[(u32, u32, u32, &[u32])]) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, kind, n, more) in types {
            let words = [*name, kind << 24 | n, 0];
            text.extend(words.iter().chain(*more).flat_map(|w| w.to_ne_bytes()));
        }
        let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for w in [24, 0, text.len() as u32, text.len() as u32, names.len() as u32] {
            btf.extend(w.to_ne_bytes());
        }
        btf.extend(&text);
        btf.extend(names);
        btf
    }

    const NAMES: &[u8] = b"\0int\0find_me_not\0find_me\0skb\0";
    const SIZED: u32 = 1 << 31;

    fn made_up() -> Vec<u8> {
        description(
            NAMES,
            &[
                (1, 1, 0, &[0]),
                // An anonymous structure: an integer, and two bits at the 35th.
                (0, 4, 2 | SIZED, &[1, 1, 0, 17, 1, 35 | 2 << 24]),
                // A union of it and an integer.
                (0, 5, 2 | SIZED, &[1, 1, 0, 0, 2, 0]),
                (0, 13, 2, &[0; 4]),
                (5, 12, 0, &[]),
                (17, 8, 0, &[]), // not a function
                (17, 12, 0, &[]),
                (25, 4, 2 | SIZED, &[1, 1, 0, 0, 3, 64]),
            ],
        )
    }

    #[test]
    fn a_function_is_found_among_other_types_by_its_whole_name() {
        let types = Types::read(made_up()).expect("types");
        assert_eq!(types.function("find_me"), Some(7));
        assert_eq!(types.function("find_me_not"), Some(5));
        assert_eq!(types.function("int"), None);
    }

    #[test]
    fn bits_are_found_within_structures_without_a_name() {
        let types = Types::read(made_up()).expect("types");
        assert_eq!(types.bits("skb", "find_me"), Some(Bits { byte: 12, first: 3, n: 2 }));
        assert_eq!(types.bits("skb", "int"), None, "not bits");
        assert_eq!(types.bits("no_such", "find_me"), None);
    }

    #[test]
    fn what_is_cut_is_nothing() {
        let whole = made_up();
        for len in 0..whole.len() {
            assert!(Types::read(whole[..len].to_vec()).is_none(), "{len}");
        }
    }

    #[test]
    fn a_structure_within_itself_comes_to_an_end() {
        let types = Types::read(description(NAMES, &[(25, 4, 1 | SIZED, &[0, 1, 8])]));
        assert_eq!(types.expect("types").bits("skb", "find_me"), None);
    }
}
