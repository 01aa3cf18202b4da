//! What the kernel says of its own types (BTF).

/// The number of a kernel function that programs may call, if the kernel has it.
pub fn kernel_function(name: &str) -> Option<u32> {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    function(&btf, name.as_bytes())
}

/// The number of the function `name` in a description of types in this machine's byte order.
///
/// Source: the kernel's `btf` documentation.
fn function(btf: &[u8], name: &[u8]) -> Option<u32> {
    const MAGIC: u16 = 0xeb9f;
    const FUNC: u32 = 12;
    let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?));
    if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
        return None;
    }
    let header = word(4)? as usize;
    let section = |offset: u32, len: u32| {
        let start = header.checked_add(offset as usize)?;
        btf.get(start..start.checked_add(len as usize)?)
    };
    let mut types = section(word(8)?, word(12)?)?;
    let names = section(word(16)?, word(20)?)?;
    for id in 1.. {
        let [n0, n1, n2, n3, i0, i1, i2, i3, ..] = *types else { return None };
        let info = u32::from_ne_bytes([i0, i1, i2, i3]);
        let (kind, n) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        if kind == FUNC {
            let at = u32::from_ne_bytes([n0, n1, n2, n3]) as usize;
            if names.get(at..)?.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)) {
                return Some(id);
            }
        }
        // What follows a type's first twelve bytes.
        let more = match kind {
            1 | 14 | 17 => 4,          // integer, variable, tag of a declaration
            3 => 12,                   // array
            4 | 5 | 15 | 19 => 12 * n, // structure, union, data section, 64-bit enumeration
            6 | 13 => 8 * n,           // enumeration, prototype
            _ => 0,
        };
        types = types.get(12 + more..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_among_other_types_by_its_whole_name() {
        let names = b"\0int\0find_me_not\0find_me\0";
        let mut types = Vec::new();
        let mut add = |name: u32, kind: u32, n: u32, more: usize| {
            for w in [name, kind << 24 | n, 0] {
                types.extend(w.to_ne_bytes());
            }
            types.extend(vec![0xff; more]);
        };
        add(1, 1, 0, 4);
        add(0, 4, 3, 36);
        add(0, 13, 2, 16);
        add(5, 12, 0, 0);
        add(17, 8, 0, 0); // not a function
        add(17, 12, 0, 0);
        let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for w in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            btf.extend(w.to_ne_bytes());
        }
        btf.extend(&types);
        btf.extend(names);
        assert_eq!(function(&btf, b"find_me"), Some(6));
        assert_eq!(function(&btf, b"find_me_not"), Some(4));
        assert_eq!(function(&btf, b"int"), None);
        for len in 0..btf.len() {
            // Cut anywhere, it is at most not found.
            assert!(function(&btf[..len], b"find_me").is_none(), "{len}");
        }
    }
}
