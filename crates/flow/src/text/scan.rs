//! Cutting lines into pieces that know where they stand.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::{self, Write};
use core::ops::Range;

/// A piece of a line.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tok<'a> {
    /// The text.
    pub text: &'a str,
    /// The byte of the line where it begins.
    pub at: usize,
}

impl<'a> Tok<'a> {
    /// All of a line.
    pub fn line(text: &'a str) -> Tok<'a> {
        Tok { text, at: 0 }
    }

    /// Its bytes in the line.
    pub fn span(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// The part from `range.start` to `range.end`, counted in this token.
    pub fn slice(self, range: Range<usize>) -> Tok<'a> {
        Tok { text: &self.text[range.clone()], at: self.at + range.start }
    }

    /// Without white space around.
    pub fn trim(self) -> Tok<'a> {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len().max(start);
        self.slice(start..end)
    }

    /// What is before and behind the first `sep`.
    pub fn split_once(self, sep: &str) -> Option<(Tok<'a>, Tok<'a>)> {
        let i = self.text.find(sep)?;
        Some((self.slice(0..i), self.slice(i + sep.len()..self.text.len())))
    }

    /// Its pieces between `sep`s.
    pub fn split(self, sep: char) -> impl Iterator<Item = Tok<'a>> {
        let base = self.text.as_ptr() as usize;
        self.text.split(sep).map(move |t| Tok { text: t, at: self.at + t.as_ptr() as usize - base })
    }
}

/// What stands between a key and its value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Delim {
    /// Nothing: there is no value.
    None,
    /// `=`
    Equals,
    /// `:`
    Colon,
    /// `(`; the value ends before the matching `)`.
    Paren,
}

/// A key and perhaps a value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Pair<'a> {
    /// The key.
    pub key: Tok<'a>,
    /// The value, empty if there is none.
    pub value: Tok<'a>,
    /// What stands between them.
    pub delim: Delim,
    /// For [`Delim::Paren`]: whether the parenthesis is closed.
    pub closed: bool,
}

impl<'a> Pair<'a> {
    /// Key, delimiter and value in one.
    pub fn whole(&self, line: Tok<'a>) -> Tok<'a> {
        let end = self.value.span().end.max(self.key.span().end) - line.at;
        let closes = self.delim == Delim::Paren && line.text.as_bytes().get(end) == Some(&b')');
        line.slice(self.key.at - line.at..end + usize::from(closes))
    }
}

/// The pairs of a line: `key`, `key=value`, `key:value` or `key(value)`, with commas or white space
/// between. A value goes to the next comma or white space outside parentheses; `key(a)->b` gives
/// the value `a)->b`.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    line: Tok<'a>,
    pos: usize,
}

impl<'a> Pairs<'a> {
    /// Of this text.
    pub fn new(line: Tok<'a>) -> Pairs<'a> {
        Pairs { line, pos: 0 }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> Tok<'a> {
        self.line.slice(self.pos..self.line.text.len())
    }
}

fn is_sep(c: u8) -> bool {
    matches!(c, b',' | b' ' | b'\t' | b'\r' | b'\n')
}

/// Where a value that begins at `from` ends: at a byte for which `end` holds, outside parentheses.
fn value_end(s: &[u8], from: usize, end: impl Fn(u8) -> bool) -> usize {
    let mut level = 0;
    let mut i = from;
    while i < s.len() && (level > 0 || !end(s[i])) {
        match s[i] {
            b'(' => level += 1,
            b')' if level > 0 => level -= 1,
            _ => {}
        }
        i += 1;
    }
    i
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let s = self.line.text.as_bytes();
        while self.pos < s.len() && is_sep(s[self.pos]) {
            self.pos += 1;
        }
        if self.pos >= s.len() {
            return None;
        }
        let start = self.pos;
        let mut key_end = start;
        while key_end < s.len() && !is_sep(s[key_end]) && !matches!(s[key_end], b':' | b'=' | b'(')
        {
            key_end += 1;
        }
        let key = self.line.slice(start..key_end);
        let delim = match s.get(key_end) {
            Some(b':') => Delim::Colon,
            Some(b'=') => Delim::Equals,
            Some(b'(') => Delim::Paren,
            _ => Delim::None,
        };
        let from = (key_end + 1).min(s.len());
        let (to, closed) = match delim {
            Delim::None => (from.min(key_end), true),
            Delim::Colon | Delim::Equals => (value_end(s, from, is_sep), true),
            Delim::Paren => {
                let to = value_end(s, from, |c| c == b')');
                if s[to..].starts_with(b")->") {
                    (value_end(s, to + 1, is_sep), true)
                } else {
                    (to, to < s.len())
                }
            }
        };
        let (from, to) = if delim == Delim::None { (key_end, key_end) } else { (from, to) };
        self.pos = (to + 1).min(s.len());
        Some(Pair { key, value: self.line.slice(from..to), delim, closed })
    }
}

/// Writes a port's or table's name: as it is if it is alphanumeric, starts with a letter and is not
/// reserved, else as a JSON string.
pub fn write_name(f: &mut impl Write, name: &str) -> fmt::Result {
    let plain = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
        && name.bytes().all(|c| c.is_ascii_alphanumeric())
        && !base::OfPort::RESERVED.iter().any(|(r, _)| r.eq_ignore_ascii_case(name));
    if plain {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// What [`write_name`] wrote: a name, in quotes or without.
pub fn read_name(text: &str) -> Cow<'_, str> {
    let quoted = |t: &'_ str| t.len() >= 2 && t.starts_with('"') && t.ends_with('"');
    if !quoted(text) {
        return Cow::Borrowed(text);
    }
    let inner = &text[1..text.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut name = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '\\' { rest.next() } else { None }) {
            ('\\', Some('n')) => name.push('\n'),
            ('\\', Some('t')) => name.push('\t'),
            ('\\', Some('r')) => name.push('\r'),
            ('\\', Some('u')) => {
                let code = rest.as_str().get(..4).and_then(|d| u32::from_str_radix(d, 16).ok());
                name.extend(code.and_then(char::from_u32));
                rest = rest.as_str().get(4..).unwrap_or_default().chars();
            }
            ('\\', Some(c)) => name.push(c),
            (c, _) => name.push(c),
        }
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn names_are_read_as_written() {
        for name in ["p1", "a-b", "a\"b\\c", "line\nfeed\u{1}", "", "LOCAL", "ä"] {
            let mut text = String::new();
            write_name(&mut text, name).unwrap();
            assert_eq!(read_name(&text), name, "{text}");
        }
        assert_eq!(read_name("\""), "\"");
    }

    fn pairs(s: &str) -> Vec<(&str, &str)> {
        Pairs::new(Tok::line(s)).map(|p| (p.key.text, p.value.text)).collect()
    }

    #[test]
    fn keys_and_values() {
        assert_eq!(pairs("ip, in_port=2 ,x"), [("ip", ""), ("in_port", "2"), ("x", "")]);
        assert_eq!(
            pairs("ct(commit,zone=5,nat(src=1.2.3.4)),normal"),
            [("ct", "commit,zone=5,nat(src=1.2.3.4)"), ("normal", "")]
        );
        assert_eq!(pairs("set_field:5->x"), [("set_field", "5->x")]);
        assert_eq!(
            pairs("check(100)->NXM_NX_REG0[1],a"),
            [("check", "100)->NXM_NX_REG0[1]"), ("a", "")]
        );
        assert_eq!(pairs("ct(table=1"), [("ct", "table=1")]);
        assert_eq!(pairs("ct(commit)normal"), [("ct", "commit"), ("normal", "")]);
        assert_eq!(pairs(" , "), []);
        assert_eq!(pairs("a="), [("a", "")]);
        assert_eq!(pairs("packet_type=(1,0x800),b"), [("packet_type", "(1,0x800)"), ("b", "")]);
    }

    #[test]
    fn a_pair_is_whole_with_its_parenthesis() {
        let line = Tok::line("resubmit(,4),a=1,b(c)->d,e");
        let whole: Vec<&str> = Pairs::new(line).map(|p| p.whole(line).text).collect();
        assert_eq!(whole, ["resubmit(,4)", "a=1", "b(c)->d", "e"]);
    }

    #[test]
    fn pieces_know_where_they_stand() {
        let line = "ip,nw_src=1.2.3.4, tp_dst=5";
        for p in Pairs::new(Tok::line(line)) {
            assert_eq!(&line[p.key.span()], p.key.text);
            assert_eq!(&line[p.value.span()], p.value.text);
        }
    }
}
