//! Two 64-bit words at a time: SSE2, which every x86-64 has, and plain integers elsewhere.

#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain {
    /// See the module.
    #[derive(Copy, Clone, Debug)]
    pub(crate) struct Two([u64; 2]);

    impl Two {
        /// Two words.
        #[inline(always)]
        pub fn new(words: [u64; 2]) -> Two {
            Two(words)
        }

        /// Eight words of 16 bits.
        #[inline(always)]
        pub fn from_u16(x: [u16; 8]) -> Two {
            let word = |w: &[u16]| w.iter().rev().fold(0, |x, &w| x << 16 | u64::from(w));
            Two([word(&x[..4]), word(&x[4..])])
        }

        /// Sixteen bits, eight times.
        #[inline(always)]
        pub fn splat_u16(x: u16) -> Two {
            Two::from_u16([x; 8])
        }

        /// The bits that both have.
        #[inline(always)]
        pub fn and(self, o: Two) -> Two {
            Two([self.0[0] & o.0[0], self.0[1] & o.0[1]])
        }

        /// The bits that either has.
        #[inline(always)]
        pub fn or(self, o: Two) -> Two {
            Two([self.0[0] | o.0[0], self.0[1] | o.0[1]])
        }

        /// The bits that one has and the other has not.
        #[inline(always)]
        pub fn xor(self, o: Two) -> Two {
            Two([self.0[0] ^ o.0[0], self.0[1] ^ o.0[1]])
        }

        /// The sums of the words, modulo 2^64.
        #[inline(always)]
        pub fn add(self, o: Two) -> Two {
            Two([self.0[0].wrapping_add(o.0[0]), self.0[1].wrapping_add(o.0[1])])
        }

        /// The first word plus the second, modulo 2^64.
        #[inline(always)]
        pub fn sum(self) -> u64 {
            self.0[0].wrapping_add(self.0[1])
        }

        /// Of each word, the product of its halves.
        #[inline(always)]
        pub fn halves_multiplied(self) -> Two {
            Two(self.0.map(|w| (w & 0xffff_ffff) * (w >> 32)))
        }

        /// Whether both words are zero.
        #[inline(always)]
        pub fn is_zero(self) -> bool {
            self.0 == [0; 2]
        }

        /// Which of the eight words of 16 bits are the same: two bits each, the first word's lowest.
        #[inline(always)]
        pub fn same_u16(self, o: Two) -> u32 {
            let bytes = |w: u64, o: u64, at: u32| {
                let same = |i: &u32| (w ^ o) >> (16 * i) & 0xffff == 0;
                (0..4).filter(same).fold(0, |m, i| m | 3 << (at + 2 * i))
            };
            bytes(self.0[0], o.0[0], 0) | bytes(self.0[1], o.0[1], 8)
        }
    }
}

/// The functions of `plain`, by the names of the instructions.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use safe_arch::*;

    /// See the module.
    #[derive(Copy, Clone, Debug)]
    pub(crate) struct Two(m128i);

    impl Two {
        /// Two words.
        #[inline(always)]
        pub fn new([a, b]: [u64; 2]) -> Two {
            Two(set_i64_m128i(b as i64, a as i64))
        }

        /// Eight words of 16 bits.
        #[inline(always)]
        pub fn from_u16(x: [u16; 8]) -> Two {
            Two(m128i::from(x))
        }

        /// Sixteen bits, eight times.
        #[inline(always)]
        pub fn splat_u16(x: u16) -> Two {
            Two(set_splat_i16_m128i(x as i16))
        }

        /// The bits that both have.
        #[inline(always)]
        pub fn and(self, o: Two) -> Two {
            Two(bitand_m128i(self.0, o.0))
        }

        /// The bits that either has.
        #[inline(always)]
        pub fn or(self, o: Two) -> Two {
            Two(bitor_m128i(self.0, o.0))
        }

        /// The bits that one has and the other has not.
        #[inline(always)]
        pub fn xor(self, o: Two) -> Two {
            Two(bitxor_m128i(self.0, o.0))
        }

        /// The sums of the words, modulo 2^64.
        #[inline(always)]
        pub fn add(self, o: Two) -> Two {
            Two(add_i64_m128i(self.0, o.0))
        }

        /// The first word plus the second, modulo 2^64.
        #[inline(always)]
        pub fn sum(self) -> u64 {
            let second = unpack_high_i64_m128i(self.0, self.0);
            get_i64_from_m128i_s(add_i64_m128i(self.0, second)) as u64
        }

        /// Of each word, the product of its halves.
        #[inline(always)]
        pub fn halves_multiplied(self) -> Two {
            Two(mul_widen_u32_odd_m128i(self.0, shr_imm_u64_m128i::<32>(self.0)))
        }

        /// Whether both words are zero.
        #[inline(always)]
        pub fn is_zero(self) -> bool {
            move_mask_i8_m128i(cmp_eq_mask_i8_m128i(self.0, zeroed_m128i())) == 0xffff
        }

        /// Which of the eight words of 16 bits are the same: two bits each, the first word's lowest.
        #[inline(always)]
        pub fn same_u16(self, o: Two) -> u32 {
            move_mask_i8_m128i(cmp_eq_mask_i16_m128i(self.0, o.0)) as u32
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use plain::Two;
#[cfg(target_arch = "x86_64")]
pub(crate) use sse2::Two;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// All that two pairs of words and two rows of 16 bits give, for either form.
    macro_rules! all {
        ($form:ident, $a:expr, $b:expr, $c:expr, $d:expr) => {{
            use super::$form::Two;
            let (a, b) = (Two::new($a), Two::new($b));
            let (c, d) = (Two::from_u16($c), Two::splat_u16($d));
            let all = [a.and(b), a.or(b), a.xor(b), a.add(b), a.halves_multiplied(), c, d];
            let low = Two::new([u64::MAX, 0]);
            (
                all.map(|x| (x.and(low).sum(), x.sum(), x.is_zero())),
                [c.same_u16(d), a.xor(a).same_u16(b), a.same_u16(c)],
                a.xor(a).is_zero(),
            )
        }};
    }

    /// Words in which halves and quarters are often zero or alike.
    fn words() -> impl Strategy<Value = [u64; 2]> {
        prop::array::uniform8(0u16..4).prop_map(|x| {
            let word = |i: usize| (0..4).fold(0, |w, j| w << 16 | u64::from(x[i + j]));
            [word(0), word(4)]
        })
    }

    proptest! {
        #[test]
        fn both_forms_agree(
            a in words(), b in any::<[u64; 2]>(), c in prop::array::uniform8(0u16..3), d in 0u16..3,
        ) {
            #[cfg(target_arch = "x86_64")]
            prop_assert_eq!(all!(plain, a, b, c, d), all!(sse2, a, b, c, d));
            let (_, [same, ..], zero) = all!(plain, b, a, c, d);
            prop_assert!(zero);
            prop_assert!((0..8).all(|i| (same >> (2 * i) & 3 == 3) == (c[i] == d)));
        }
    }
}
