//! Fields of records that several threads have at once.
//!
//! A field is read and written whole, and in no order with others: who may write is settled elsewhere
//! ([`crate::conn`] says by what). On the processors in use it costs what a plain field costs.

use base::Instant;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

macro_rules! words {
    ($($name:ident $atomic:ident $ty:ty;)*) => {
        $(
            #[derive(Debug)]
            #[repr(transparent)]
            pub(crate) struct $name($atomic);

            impl $name {
                pub const fn new(v: $ty) -> $name {
                    $name($atomic::new(v))
                }

                #[inline(always)]
                pub fn get(&self) -> $ty {
                    self.0.load(Relaxed)
                }

                #[inline(always)]
                pub fn set(&self, v: $ty) {
                    self.0.store(v, Relaxed);
                }
            }
        )*
    };
}

words! {
    U8 AtomicU8 u8;
    U16 AtomicU16 u16;
    U32 AtomicU32 u32;
    U64 AtomicU64 u64;
}

/// Bits of a byte.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Bits(U8);

impl Bits {
    pub const fn new(v: u8) -> Bits {
        Bits(U8::new(v))
    }

    #[inline(always)]
    pub fn all(&self) -> u8 {
        self.0.get()
    }

    #[inline(always)]
    pub fn has(&self, bits: u8) -> bool {
        self.0.get() & bits != 0
    }

    #[inline(always)]
    pub fn put(&self, bits: u8, on: bool) {
        let old = self.0.get();
        self.0.set(if on { old | bits } else { old & !bits });
    }

    pub fn set_all(&self, v: u8) {
        self.0.set(v);
    }
}

/// A moment.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Time(U64);

impl Time {
    pub const fn new(t: Instant) -> Time {
        Time(U64::new(t.as_nanos()))
    }

    #[inline(always)]
    pub fn get(&self) -> Instant {
        Instant::from_nanos(self.0.get())
    }

    #[inline(always)]
    pub fn set(&self, t: Instant) {
        self.0.set(t.as_nanos());
    }
}
