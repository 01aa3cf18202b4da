//! Reading and writing the bytes of messages, with bounds.

use alloc::vec::Vec;

use crate::error::{DecodeError, OfError};

/// Reads big-endian numbers from the front of a slice. What is too short gives
/// [`OfError::OFPBRC_BAD_LEN`] with the place in the message.
#[derive(Copy, Clone, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    /// Offset of `data` in the message.
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of bytes that begin at offset `at` of a message.
    pub fn new(data: &'a [u8], at: usize) -> Reader<'a> {
        Reader { data, at }
    }

    /// Offset of the next byte in the message.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// An error here.
    pub fn error(&self, error: OfError) -> DecodeError {
        DecodeError { error, at: self.at }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if n > self.data.len() {
            return Err(self.error(OfError::OFPBRC_BAD_LEN));
        }
        let (head, tail) = self.data.split_at(n);
        self.data = tail;
        self.at += n;
        Ok(head)
    }

    /// A reader of the next `n` bytes.
    pub fn sub(&mut self, n: usize) -> Result<Reader<'a>, DecodeError> {
        let at = self.at;
        Ok(Reader { data: self.take(n)?, at })
    }

    /// Steps over `n` bytes.
    pub fn skip(&mut self, n: usize) -> Result<(), DecodeError> {
        self.take(n).map(drop)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let r = self.data;
        self.at += r.len();
        self.data = &[];
        r
    }

    /// All that is left, without reading it.
    pub fn peek(&self) -> &'a [u8] {
        self.data
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut a = [0; N];
        a.copy_from_slice(self.take(N)?);
        Ok(a)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// `n` bytes as a number, of which the last 16 count.
    pub fn uint(&mut self, n: usize) -> Result<u128, DecodeError> {
        Ok(self.take(n)?.iter().fold(0, |v, &b| (v << 8) | u128::from(b)))
    }

    /// The next property: its type and its value. The padding to 8 bytes behind it is stepped over.
    pub fn property(&mut self) -> Result<(u16, Reader<'a>), DecodeError> {
        let bad = self.error(OfError::OFPBPC_BAD_LEN);
        let mut here = *self;
        let (typ, len) = match (here.u16(), here.u16()) {
            (Ok(typ), Ok(len)) if len >= 4 => (typ, usize::from(len)),
            _ => return Err(bad),
        };
        let mut whole = self.sub(len.next_multiple_of(8)).map_err(|_| bad)?.sub(len)?;
        whole.skip(4)?;
        Ok((typ, whole))
    }

    /// Text in a field of `n` bytes, up to the first zero.
    pub fn text(&mut self, n: usize) -> Result<alloc::string::String, DecodeError> {
        let b = self.take(n)?;
        let end = b.iter().position(|&c| c == 0).unwrap_or(n);
        Ok(alloc::string::String::from_utf8_lossy(&b[..end]).into_owned())
    }
}

/// Appends big-endian numbers to a vector.
pub trait Put {
    /// A byte.
    fn put8(&mut self, v: u8);
    /// Two bytes.
    fn put16(&mut self, v: u16);
    /// Four bytes.
    fn put32(&mut self, v: u32);
    /// Eight bytes.
    fn put64(&mut self, v: u64);
    /// The low `n` bytes of a number.
    fn put_uint(&mut self, v: u128, n: usize);
    /// `n` zeros.
    fn zeros(&mut self, n: usize);
    /// Zeros until the length from `start` on is a multiple of 8.
    fn pad8(&mut self, start: usize);
    /// Text in a field of `n` bytes, cut to leave a zero at the end.
    fn text(&mut self, s: &str, n: usize);
    /// Overwrites two bytes.
    fn set16(&mut self, at: usize, v: u16);
}

impl Put for Vec<u8> {
    fn put8(&mut self, v: u8) {
        self.push(v);
    }
    fn put16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_uint(&mut self, v: u128, n: usize) {
        self.zeros(n.saturating_sub(16));
        self.extend_from_slice(&v.to_be_bytes()[16 - n.min(16)..]);
    }
    fn zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }
    fn pad8(&mut self, start: usize) {
        self.zeros((self.len() - start).next_multiple_of(8) - (self.len() - start));
    }
    fn text(&mut self, s: &str, n: usize) {
        let mut end = s.len().min(n - 1);
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        self.extend_from_slice(&s.as_bytes()[..end]);
        self.zeros(n - end);
    }
    fn set16(&mut self, at: usize, v: u16) {
        self[at..at + 2].copy_from_slice(&v.to_be_bytes());
    }
}
