//! The text of fields, masks and matches, as `ovs-ofctl` and `ofproto/trace` write and read it.
//!
//! Reading: [`scan::Pairs`] cuts a line into `key=value` pieces that know where they stand;
//! [`value::parse`] reads one value; [`MatchParser`] collects a match; [`parse_exact`] reads the
//! flow of `ofproto/trace`. Writing: [`MatchText`], [`FlowText`], [`value::Value`].
//!
//! There are two ways of reading ([`Mode`]): OVS's, with its texts of errors, and the strict one,
//! which refuses what OVS takes although it cannot mean it. Every error tells the bytes of the
//! line it is about.

use alloc::string::String;
use core::fmt;
use core::ops::Range;

use base::{OfPort, TableId};

pub mod format;
pub mod number;
pub mod parse;
pub mod scan;
pub mod value;

pub use format::{FlowText, MatchText, flow_mask};
pub use parse::{MatchParser, parse_exact, parse_match};
pub use scan::{Pairs, Tok};

/// How much to accept.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Refuse what cannot be meant: octets above 255, contradictions, fields without their
    /// prerequisites, bits outside the mask.
    #[default]
    Strict,
    /// What OVS accepts.
    Ovs,
}

/// Names of ports and tables.
pub trait NameMap {
    /// The port with this name.
    fn number(&self, name: &str) -> Option<OfPort>;
    /// The name to print instead of the number, if names are wanted.
    fn name(&self, port: OfPort) -> Option<&str>;
    /// The table with this name.
    fn table_number(&self, _name: &str) -> Option<TableId> {
        None
    }
    /// The name to print instead of the table's number, if names are wanted.
    fn table_name(&self, _table: TableId) -> Option<&str> {
        None
    }
}

/// Knows no names.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoNames;

impl NameMap for NoNames {
    fn number(&self, _name: &str) -> Option<OfPort> {
        None
    }
    fn name(&self, _port: OfPort) -> Option<&str> {
        None
    }
}

/// A piece of text that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// The bytes of the line that are wrong.
    pub span: Range<usize>,
    /// What is wrong; for what OVS refuses too, in OVS's words.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl TextError {
    /// An error about a token.
    pub fn new(tok: Tok<'_>, message: impl Into<String>) -> TextError {
        TextError { span: tok.span(), message: message.into(), hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> TextError {
        self.hint = Some(hint.into());
        self
    }
}

/// The message alone.
impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for TextError {}

/// A port in text: its name if `ports` has one, a reserved name, or its number.
#[derive(Copy, Clone)]
pub struct PortText<'a>(pub OfPort, pub &'a dyn NameMap);

impl fmt::Debug for PortText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PortText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.name(self.0) {
            Some(name) => scan::write_name(f, name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The port that `text` names: a reserved name in any case, a number, or a name of `ports`.
/// Numbers may be those of OpenFlow 1.0 or of 1.1+.
pub fn parse_port(text: &str, names: &dyn NameMap) -> Option<OfPort> {
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        let n: u32 = text.parse().ok()?;
        return u16::try_from(n).map(OfPort).ok().or_else(|| match n {
            0xffff_ff00.. => OfPort::from_wire32(n),
            _ => None,
        });
    }
    let reserved = OfPort::RESERVED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    match reserved {
        Some(&(_, port)) => Some(port),
        None => names.number(&scan::read_name(text)),
    }
}

/// A table in text: its name if `names` has one, or its number.
#[derive(Copy, Clone)]
pub struct TableText<'a>(pub TableId, pub &'a dyn NameMap);

impl fmt::Debug for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.table_name(self.0) {
            Some(name) => scan::write_name(f, name),
            None => write!(f, "{}", self.0.0),
        }
    }
}

/// The table that `text` names: a number from 0 to 255, or a name of `names`.
pub fn parse_table(text: &str, names: &dyn NameMap) -> Option<TableId> {
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse().ok().map(TableId);
    }
    names.table_number(&scan::read_name(text))
}
