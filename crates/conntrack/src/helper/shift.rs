//! How edits of a TCP stream move its sequence numbers.
//!
//! What one end sends has other numbers behind an edit that made its text longer or shorter; what the
//! other end acknowledges has to be moved back. Numbers before an edit may still come: in
//! retransmissions, and in acknowledgments on their way. So the last edits are kept with their places.

/// One edit, in the numbers of the sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
struct Change {
    start: u32,
    old_len: u16,
    new_len: u16,
}

impl Change {
    fn end(&self) -> u32 {
        self.start.wrapping_add(self.old_len.into())
    }

    fn delta(&self) -> u32 {
        u32::from(self.new_len).wrapping_sub(self.old_len.into())
    }
}

/// Edits that are kept with their place. More are not on their way at once: a client waits for the
/// answer to its command.
const KEPT: usize = 4;

/// The edits of what one end of a connection sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Shifts {
    /// What older edits together add.
    base: u32,
    n: u8,
    /// Oldest first.
    last: [Change; KEPT],
}

/// Whether `a` is at or before `b` modulo 2³².
fn le(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) as i32 >= 0
}

impl Shifts {
    fn changes(&self) -> &[Change] {
        &self.last[..usize::from(self.n)]
    }

    /// Nothing was moved.
    pub fn is_none(&self) -> bool {
        self.n == 0 && self.base == 0
    }

    /// The number that the receiver knows for a sender's; `None` within a text that was replaced.
    pub fn seen(&self, seq: u32) -> Option<u32> {
        let mut delta = self.base;
        for c in self.changes() {
            let into = seq.wrapping_sub(c.start);
            if le(seq, c.start) {
                break;
            }
            if into < u32::from(c.old_len) {
                return None;
            }
            delta = delta.wrapping_add(c.delta());
        }
        Some(seq.wrapping_add(delta))
    }

    /// The number that the sender knows for a receiver's. Within a new text it is that of its
    /// beginning: half a replacement is no part of what the sender sent.
    pub fn sent(&self, seq: u32) -> u32 {
        let mut delta = self.base;
        for c in self.changes() {
            let start = c.start.wrapping_add(delta);
            if le(seq, start) {
                break;
            }
            if seq.wrapping_sub(start) < u32::from(c.new_len) {
                return c.start;
            }
            delta = delta.wrapping_add(c.delta());
        }
        seq.wrapping_sub(delta)
    }

    /// Whether `len` bytes from `seq` on overlap a text that was replaced.
    pub fn overlap(&self, seq: u32, len: u32) -> bool {
        let end = seq.wrapping_add(len);
        self.changes().iter().any(|c| !le(end, c.start) && !le(c.end(), seq))
    }

    /// Notes that the text of `old_len` bytes at `start` has `new_len` now. Whether it could: it is the
    /// same as before, or behind all others, or moves nothing.
    pub fn note(&mut self, start: u32, old_len: u16, new_len: u16) -> bool {
        let new = Change { start, old_len, new_len };
        if self.changes().contains(&new) {
            return true;
        }
        if new.delta() == 0 {
            return !self.overlap(start, old_len.into());
        }
        if self.changes().last().is_some_and(|c| !le(c.end(), start)) {
            return false;
        }
        if usize::from(self.n) == KEPT {
            self.base = self.base.wrapping_add(self.last[0].delta());
            self.last.rotate_left(1);
            self.n -= 1;
        }
        self.last[usize::from(self.n)] = new;
        self.n += 1;
        true
    }

    /// Forgets the places of edits that are so far behind that they would soon be taken for ahead.
    pub fn age(&mut self, seq: u32) {
        const FAR: u32 = 1 << 30;
        while self.n > 0 && seq.wrapping_sub(self.last[0].start).wrapping_sub(FAR) < FAR {
            self.base = self.base.wrapping_add(self.last[0].delta());
            self.last.rotate_left(1);
            self.n -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_before_within_and_behind_an_edit() {
        let mut s = Shifts::default();
        assert!(s.note(100, 8, 10));
        assert!(s.note(200, 10, 4));
        for (sent, seen) in [(99, 99), (100, 100), (108, 110), (200, 202), (210, 206), (300, 296)] {
            assert_eq!(s.seen(sent), Some(seen));
            assert_eq!(s.sent(seen), sent);
        }
        assert_eq!((s.seen(101), s.seen(107), s.seen(205)), (None, None, None));
        // Half of a new text was received: the sender has to send the old one again.
        assert_eq!((s.sent(101), s.sent(109), s.sent(203)), (100, 100, 200));
        assert!(s.overlap(90, 11) && !s.overlap(90, 10));
        assert!(s.overlap(107, 1) && !s.overlap(108, 92));
    }

    #[test]
    fn an_edit_is_noted_once_and_never_before_another() {
        let mut s = Shifts::default();
        assert!(s.note(100, 8, 10) && s.note(100, 8, 10));
        assert_eq!(s.seen(108), Some(110));
        assert!(!s.note(100, 8, 9) && !s.note(107, 8, 9) && !s.note(50, 8, 9));
        assert!(s.note(50, 8, 8) && !s.note(101, 3, 3));
        assert_eq!(s.seen(108), Some(110));
    }

    proptest! {
        /// Against a sender's stream and a receiver's, byte by byte, from any first number on.
        #[test]
        fn both_directions_agree_with_the_streams(
            isn: u32,
            edits in prop::collection::vec((0_u32..40, 1_u16..30, 1_u16..30), 0..12),
        ) {
            let mut s = Shifts::default();
            let (mut sent, mut seen) = (isn, isn);
            for (gap, old_len, new_len) in edits {
                for _ in 0..gap {
                    prop_assert_eq!(s.seen(sent), Some(seen));
                    prop_assert_eq!(s.sent(seen), sent);
                    (sent, seen) = (sent.wrapping_add(1), seen.wrapping_add(1));
                }
                prop_assert!(s.note(sent, old_len, new_len));
                prop_assert_eq!(s.sent(seen), sent);
                sent = sent.wrapping_add(old_len.into());
                seen = seen.wrapping_add(new_len.into());
                s.age(sent);
            }
            prop_assert_eq!(s.seen(sent), Some(seen));
            prop_assert_eq!(s.sent(seen), sent);
            // Long after, only the sum matters.
            for _ in 0..6 {
                (sent, seen) = (sent.wrapping_add(1 << 29), seen.wrapping_add(1 << 29));
                s.age(sent);
                prop_assert_eq!(s.seen(sent), Some(seen));
                prop_assert_eq!(s.sent(seen), sent);
            }
        }
    }
}
