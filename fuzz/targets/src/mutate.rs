//! Small changes of an input, by a seed: what the replay test adds to the kept corpus.

use crate::input::Random;

/// Values that lengths, counts and enumerations break at.
const EDGES: [u64; 9] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0xffff_ffff];

/// `input` with one to four changes: bits, bytes and numbers overwritten, pieces cut out, doubled, moved
/// or taken from `other`.
pub fn mutate(input: &[u8], other: &[u8], seed: u64, max_len: usize) -> Vec<u8> {
    let mut r = Random(seed);
    let mut out = input.to_vec();
    for _ in 0..=r.below(4) {
        let at = r.below(out.len() + 1);
        let left = out.len() - at;
        match r.below(8) {
            0 if left > 0 => out[at] ^= 1 << r.below(8),
            1 if left > 0 => out[at] = r.next_u64() as u8,
            2 => {
                let bytes = EDGES[r.below(EDGES.len())].to_be_bytes();
                let n = [1, 2, 4, 8][r.below(4)].min(left);
                out[at..at + n].copy_from_slice(&bytes[8 - n..]);
            }
            3 if left > 0 => {
                let n = [1, 2, 4, 8][r.below(4)].min(left);
                let step = [1u8, 0xff][r.below(2)];
                out[at + n - 1] = out[at + n - 1].wrapping_add(step);
            }
            4 => {
                let n = r.below(left.min(32) + 1);
                out.drain(at..at + n);
            }
            5 => {
                let n = r.below(left.min(64) + 1);
                let piece = out[at..at + n].to_vec();
                let to = r.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            6 if !other.is_empty() => {
                let from = r.below(other.len());
                let n = r.below((other.len() - from).min(64)) + 1;
                let piece = &other[from..from + n];
                let replaced = if r.below(2) == 0 { n.min(left) } else { 0 };
                out.splice(at..at + replaced, piece.iter().copied());
            }
            7 => out.truncate(at),
            _ => {}
        }
    }
    out.truncate(max_len);
    out
}
