//! Memory that programs and we have in common, for as long as the process lives (Linux 6.9).
//!
//! The kernel finds a page when one of the two first touches it. A program has the lower half of an address, and
//! [follows](crate::asm::Asm::in_arena) it without a check by the verifier: where there is no page it reads zeroes, and
//! what it writes is lost.

#![allow(unsafe_code)] // mapped memory becomes values

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::Error;
use crate::map::{Create, create};
use crate::sys::last;

const ARENA: u32 = 33;
const MMAPABLE: u32 = 1 << 10;
const PAGE: usize = 4096;
/// All that an address of 32 bits reaches, but for the pages at both ends.
const SIZE: usize = (1 << 32) - 16 * PAGE;

/// See the module.
#[derive(Debug)]
pub struct Arena {
    fd: OwnedFd,
    base: NonNull<u8>,
    used: AtomicUsize,
}

// SAFETY: the memory is given out piece by piece, each once, and stays mapped for ever.
unsafe impl Send for Arena {}
// SAFETY: as above; the number of bytes given out is an atomic.
unsafe impl Sync for Arena {}

impl Arena {
    /// Memory of which nothing is used yet.
    pub fn new() -> Result<Arena, Error> {
        let max_entries = (SIZE / PAGE) as u32;
        let attr = Create { map_type: ARENA, flags: MMAPABLE, max_entries, ..Create::default() };
        let fd = create("arena", &attr)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, wherever the kernel finds room.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), SIZE, prot, flags, fd.as_raw_fd(), 0) };
        let base = NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED);
        let base = base.ok_or_else(|| last("mapping of the arena"))?;
        // The first page stays free, so that no address is zero.
        Ok(Arena { fd, base, used: AtomicUsize::new(PAGE) })
    }

    /// Puts a value into the arena, where it stays. `None` if there is no room.
    ///
    /// What programs write of it must be atomics.
    pub fn place<T: Sync + 'static>(&self, make: impl FnOnce() -> T) -> Option<&'static T> {
        let at = self.take(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: the piece has room for it, is aligned, is nobody else's, and stays.
        unsafe {
            at.write(make());
            Some(at.as_ref())
        }
    }

    /// The same for `n` values in a row.
    pub fn place_all<T: Sync + 'static>(
        &self,
        n: usize,
        make: impl Fn() -> T,
    ) -> Option<&'static [T]> {
        let at = self.take(size_of::<T>().checked_mul(n)?, align_of::<T>())?.cast::<T>();
        // SAFETY: as above, for each of the `n`.
        unsafe {
            (0..n).for_each(|i| at.add(i).write(make()));
            Some(std::slice::from_raw_parts(at.as_ptr(), n))
        }
    }

    /// A piece of memory that is nobody else's.
    fn take(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let align = align.max(64);
        let begin = |used: usize| used.next_multiple_of(align);
        let more = |used: usize| Some(begin(used) + size).filter(|end| *end <= SIZE);
        let used = self.used.fetch_update(Relaxed, Relaxed, more).ok()?;
        // SAFETY: within the mapping. Its base is the beginning of a page, and no type wants more.
        Some(unsafe { self.base.add(begin(used)) })
    }

    /// By what programs know something that [was placed](Arena::place).
    pub fn address<T>(of: &'static T) -> u32 {
        std::ptr::from_ref(of) as usize as u32
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::{Alu, Asm, Reg, Size};
    use crate::{Kind, Program, attach_filter};
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicU64;

    /// A program and we see one memory.
    #[test]
    fn what_a_program_writes_is_read_here() {
        // Not without the right to, and not with an old kernel.
        let Ok(arena) = Arena::new() else { return };
        let word = arena.place(|| AtomicU64::new(40)).expect("room");
        let mut a = Asm::new();
        a.load_map(Reg::R1, arena.as_fd().as_raw_fd());
        a.mov(Reg::R1, Arena::address(word) as i32);
        a.in_arena(Reg::R1, Reg::R1);
        a.load(Size::U64, Reg::R2, Reg::R1, 0);
        a.alu(Alu::Add, Reg::R2, 1);
        a.store(Size::U64, Reg::R1, 0, Reg::R2);
        a.mov(Reg::R0, -1);
        a.exit();
        let program = Program::load(Kind::SocketFilter, "adds", &a.finish()).expect("loaded");
        let (from, to) = UnixDatagram::pair().expect("sockets");
        attach_filter(to.as_fd(), &program).expect("attached");
        from.send(&[1]).expect("sent");
        from.send(&[1]).expect("sent");
        assert_eq!(word.load(Relaxed), 42);
    }

    #[test]
    fn pieces_do_not_overlap() {
        let Ok(arena) = Arena::new() else { return };
        let pieces: Vec<_> = (0..100)
            .filter_map(|i| arena.place(|| [AtomicU64::new(i), AtomicU64::new(i)]))
            .collect();
        assert_eq!(pieces.len(), 100);
        for (i, piece) in (0..).zip(&pieces) {
            assert!(piece.iter().all(|w| w.load(Relaxed) == i));
        }
    }
}
