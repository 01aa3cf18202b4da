//! Memory in large pages.

use crate::sys;

/// Bytes of a huge page on the machines in use. Less is not worth the call.
const HUGE: usize = 2 << 20;

/// Asks the kernel to lay memory that nobody has touched yet out in huge pages, where it can. A processor knows
/// where some thousand pages are at a time; a table of many small ones makes it look that up for most
/// packets. A wish: without it all works as well.
pub fn prefer_huge_pages<T>(memory: &[T]) {
    if size_of_val(memory) >= HUGE {
        let _ = sys::advise_huge_pages(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping in which an address is.
    fn flags(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in smaps.lines() {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let hex = |s: &str| usize::from_str_radix(s, 16);
            if let Some((Ok(from), Ok(to))) = range.map(|(from, to)| (hex(from), hex(to))) {
                inside = (from..to).contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                return flags.to_owned();
            }
        }
        panic!("no mapping at {address:#x}");
    }

    #[test]
    fn a_large_table_is_in_huge_pages_if_the_kernel_has_any() {
        let (large, small) = (vec![0_u64; HUGE], vec![0_u64; HUGE / 64]);
        prefer_huge_pages(&large);
        prefer_huge_pages(&small);
        let has = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let middle = large[HUGE / 2..].as_ptr().addr();
        assert_eq!(flags(middle).split(' ').any(|f| f == "hg"), has);
        assert!(!flags(small.as_ptr().addr()).split(' ').any(|f| f == "hg"));
        assert!(large.iter().all(|w| *w == 0));
        prefer_huge_pages::<u64>(&[]);
    }
}
