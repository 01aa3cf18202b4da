//! By what packets find their entries: a hash table in memory that the program sees.
//!
//! A bucket is a cache line of words, each of which says where an entry lies and, in the bits that such an address does not
//! need, has some bits of its key's hash. The entry has the key. We write a word when an entry is put in or taken out, which
//! costs no call of the kernel, so that short connections are worth it. The table doubles when it is half full: the
//! program reads at once where it is and how large. What it was before stays, for a program may be at it; all that
//! were before are smaller together than the last one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::*};

use base::{HashKey, hash_words};
use bpf::asm::{Alu, Asm, If, Label, Reg::*, Size};
use bpf::{Arena, Error};

use crate::Control;
use crate::entry::{Entry, Key};
use crate::filter::{KEY, entry, fixed};

/// Words of a bucket.
const SLOTS: usize = 16;
/// Bits of a word that an entry's address has not.
const TAG_BITS: u32 = align_of::<Entry>().trailing_zeros();
const TAG: u32 = (1 << TAG_BITS) - 1;
/// Buckets to begin with.
const FEWEST: usize = 64;

/// A word is zero if it is free.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Bucket([AtomicU32; SLOTS]);

/// The universal hash NH (Black and others, "UMAC: Fast and Secure Message Authentication", 1999), and its upper bits well
/// mixed: who does not know the numbers finds no keys that meet.
#[derive(Debug)]
pub(crate) struct Hash {
    adds: [[u32; 2]; Key::WORDS],
    mix: u64,
}

impl Hash {
    pub fn new(secret: HashKey) -> Hash {
        let adds = std::array::from_fn(|i| {
            let n = hash_words(secret, &[i as u64]);
            [n as u32, (n >> 32) as u32]
        });
        Hash { adds, mix: hash_words(secret, &[Key::WORDS as u64]) | 1 }
    }

    fn of(&self, key: &Key) -> u64 {
        let term = |(word, adds): (u64, &[u32; 2])| {
            let half = |n: u64, add: u32| u64::from((n as u32).wrapping_add(add));
            half(word, adds[0]).wrapping_mul(half(word >> 32, adds[1]))
        };
        let sum = key.words().into_iter().zip(&self.adds).map(term).fold(0, u64::wrapping_add);
        sum.wrapping_mul(self.mix)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    pub hash: Hash,
    state: Mutex<State>,
    most: usize,
}

#[derive(Debug)]
struct State {
    buckets: &'static [Bucket],
    /// Of the key of each word that is not free.
    hashes: Vec<u64>,
    n: usize,
}

fn full() -> Error {
    Error::System { what: "the table of entries", error: std::io::ErrorKind::OutOfMemory.into() }
}

impl State {
    fn new(arena: &Arena, n_buckets: usize) -> Option<State> {
        let buckets = arena.place_all(n_buckets, Bucket::default)?;
        Some(State { buckets, hashes: vec![0; n_buckets * SLOTS], n: 0 })
    }

    /// What the program reads of it.
    fn publish(&self, control: &Control) {
        let at = self.buckets.first().map_or(0, Arena::address);
        let mask = self.buckets.len() as u64 - 1;
        control.table.store(mask << 32 | u64::from(at), Release);
    }

    /// The bucket of a hash, and the number of its first word.
    fn bucket(&self, hash: u64) -> (&'static Bucket, usize) {
        let at = (hash >> 32) as usize & (self.buckets.len() - 1);
        (&self.buckets[at], at * SLOTS)
    }

    /// Puts a word into the bucket of its hash; whether there was room.
    fn add(&mut self, word: u32, hash: u64) -> bool {
        let (bucket, first) = self.bucket(hash);
        let Some(at) = bucket.0.iter().position(|w| w.load(Relaxed) == 0) else { return false };
        self.hashes[first + at] = hash;
        bucket.0[at].store(word, Release);
        self.n += 1;
        true
    }

    /// Another of so many buckets with the same words, but for those that find no room.
    fn resized(&self, arena: &Arena, n_buckets: usize) -> Option<State> {
        let mut new = State::new(arena, n_buckets)?;
        for (word, hash) in self.buckets.iter().flat_map(|b| &b.0).zip(&self.hashes) {
            let word = word.load(Relaxed);
            if word != 0 {
                new.add(word, *hash);
            }
        }
        Some(new)
    }
}

fn word(entry: &'static Entry, hash: u64) -> u32 {
    Arena::address(entry) | (hash >> (64 - TAG_BITS)) as u32
}

impl Table {
    /// A table for so many entries. `None` if there is no memory.
    pub fn new(arena: &Arena, control: &Control, secret: HashKey, most: u32) -> Option<Table> {
        let most = (most as usize * 2).div_ceil(SLOTS).next_power_of_two();
        let state = State::new(arena, FEWEST.min(most))?;
        state.publish(control);
        Some(Table { hash: Hash::new(secret), state: Mutex::new(state), most })
    }

    /// Lets packets of `key` find an entry. None may have that key.
    ///
    /// # Errors
    /// There is no room.
    pub fn put(
        &self,
        arena: &Arena,
        control: &Control,
        key: &Key,
        entry: &'static Entry,
    ) -> Result<(), Error> {
        entry.key.iter().zip(key.words()).for_each(|(word, v)| word.store(v, Relaxed));
        let hash = self.hash.of(key);
        let mut state = self.state.lock().map_err(|_| full())?;
        let n_buckets = state.buckets.len();
        if state.n >= n_buckets * SLOTS / 2
            && n_buckets < self.most
            && let Some(larger) = state.resized(arena, n_buckets * 2)
        {
            *state = larger;
            state.publish(control);
        }
        if state.add(word(entry, hash), hash) { Ok(()) } else { Err(full()) }
    }

    /// No packet finds an entry by its key any more.
    pub fn take(&self, entry: &'static Entry) {
        let hash = self.hash.of(&entry.key());
        let Ok(mut state) = self.state.lock() else { return };
        let (bucket, _) = state.bucket(hash);
        let word = word(entry, hash);
        // It may never have been put there.
        if let Some(slot) = bucket.0.iter().find(|w| w.load(Relaxed) == word) {
            slot.store(0, Release);
            state.n -= 1;
        }
    }
}

/// Assembles a search for the key on the stack. `R7` is the entry then; there is none at `nothing`.
pub(crate) fn search(a: &mut Asm, hash: &Hash, control: &'static Control, nothing: Label) {
    let (look, next, found) = (a.label(), a.label(), a.label());
    let at = |i: usize| KEY + 8 * i as i16;
    a.mov(R0, 0);
    for (i, adds) in hash.adds.iter().enumerate() {
        for (half, (reg, add)) in [R1, R2].into_iter().zip(adds).enumerate() {
            a.load(Size::U32, reg, R10, at(i) + 4 * half as i16);
            a.alu32(Alu::Add, reg, *add as i32);
        }
        a.alu(Alu::Mul, R1, R2);
        a.alu(Alu::Add, R0, R1);
    }
    a.load_imm64(R1, hash.mix);
    a.alu(Alu::Mul, R0, R1);
    // Its bucket.
    fixed(a, R2, control);
    a.load(Size::U64, R2, R2, std::mem::offset_of!(Control, table) as i16);
    a.mov(R3, R2);
    a.alu(Alu::Shr, R3, 32);
    a.mov(R1, R0);
    a.alu(Alu::Shr, R1, 32);
    a.alu(Alu::And, R1, R3);
    a.alu(Alu::Shl, R1, size_of::<Bucket>().trailing_zeros() as i32);
    a.alu32(Alu::Add, R2, R1);
    a.in_arena(R2, R2);
    a.alu(Alu::Shr, R0, (64 - TAG_BITS) as i32);
    a.mov(R3, SLOTS as i32);
    a.put(look);
    a.load(Size::U32, R1, R2, 0);
    a.mov(R4, R1);
    a.alu(Alu::And, R4, TAG as i32);
    a.jump(If::Ne, R4, R0, next);
    a.alu(Alu::Sub, R1, R4);
    a.jump(If::Eq, R1, 0, next);
    a.in_arena(R7, R1);
    for i in 0..Key::WORDS {
        a.load(Size::U64, R4, R7, entry!(key) + 8 * i as i16);
        a.load(Size::U64, R5, R10, at(i));
        a.jump(If::Ne, R4, R5, next);
    }
    a.goto(found);
    a.put(next);
    a.alu(Alu::Add, R2, size_of::<AtomicU32>() as i32);
    a.alu(Alu::Sub, R3, 1);
    a.jump(If::Ne, R3, 0, look);
    a.goto(nothing);
    a.put(found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Origin;

    const SECRET: HashKey = HashKey([1, 2]);

    fn key(n: u32) -> Key {
        let origin = Origin { ifindex: 3, eth: [7; 12], tci: 0, proto: 6 };
        Key::v4(&origin, &[10, 0, 0, 1, 10, 0, 0, 2], n.to_be_bytes())
    }

    /// What the program would find.
    fn find(table: &Table, key: &Key) -> Option<u32> {
        let hash = table.hash.of(key);
        let state = table.state.lock().ok()?;
        let tag = (hash >> (64 - TAG_BITS)) as u32;
        let words = state.bucket(hash).0.0.iter().map(|w| w.load(Relaxed));
        words.filter(|w| *w != 0 && w & TAG == tag).map(|w| w & !TAG).next()
    }

    #[test]
    fn entries_are_found_while_the_table_grows_and_until_they_are_taken() {
        // Not without the right to, and not with an old kernel.
        let Ok(arena) = Arena::new() else { return };
        let control = arena.place(Control::default).expect("room");
        let table = Table::new(&arena, control, SECRET, 5000).expect("room");
        let entries: Vec<_> = (0..5000)
            .map(|n| (key(n), arena.place(Entry::default).expect("room")))
            .filter(|(key, entry)| table.put(&arena, control, key, entry).is_ok())
            .collect();
        assert!(entries.len() > 4900, "{} of 5000", entries.len());
        let place = control.table.load(Relaxed);
        assert_eq!(place >> 32, 1023, "as large as it may be");
        let n_found = |keys: &mut dyn Iterator<Item = &(Key, &'static Entry)>| {
            keys.filter(|(k, e)| find(&table, k) == Some(Arena::address(*e))).count()
        };
        // Few have another with their tag before them in their bucket.
        assert!(n_found(&mut entries.iter()) > entries.len() * 9 / 10);
        let (gone, left) = entries.split_at(2000);
        gone.iter().for_each(|(_, e)| table.take(e));
        gone.iter().for_each(|(_, e)| table.take(e));
        assert_eq!(n_found(&mut gone.iter()), 0);
        assert!(n_found(&mut left.iter()) > left.len() * 9 / 10);
        assert_eq!(table.state.lock().expect("whole").n, left.len());
    }

    #[test]
    fn a_key_of_one_version_is_not_one_of_the_other() {
        let origin = Origin { ifindex: 3, eth: [7; 12], tci: 0, proto: 17 };
        let mut addresses = [0; 32];
        addresses[..8].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let v4 = Key::v4(&origin, &[10, 0, 0, 1, 10, 0, 0, 2], [0; 4]);
        assert_ne!(v4, Key::v6(&origin, &addresses, [0; 4]));
        assert_eq!(v4.words()[3], u64::from_ne_bytes([10, 0, 0, 1, 10, 0, 0, 2]));
    }
}
