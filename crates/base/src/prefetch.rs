//! Hints to the processor, the one piece of code here that is not safe Rust.

/// Asks for the cache line in which `at` begins, so that it is there when it is needed. Waits for
/// nothing and changes nothing.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the hint has no safe form")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program can see and never faults; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(at).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for the cache line in which `at` begins as one that is going to be written, so that no other processor has
/// it when it is.
#[inline(always)]
pub fn prefetch_to_write<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(
        unsafe_code,
        reason = "the hint has no safe form, and as an intrinsic it forgets to write"
    )]
    // SAFETY: as above; processors that do not know the instruction do nothing.
    unsafe {
        core::arch::asm!(
            "prefetchw [{at}]",
            at = in(reg) core::ptr::from_ref(at),
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
