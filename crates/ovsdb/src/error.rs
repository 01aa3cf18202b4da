//! The one error type of this room.
//!
//! RFC 7047 §3.1 gives an error a short *tag* (`"constraint violation"`), and servers add `details`
//! for people and `syntax`, the piece of JSON that was wrong. The same three parts are what tools
//! print, so the type keeps them apart and knows both renderings.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

/// An OVSDB error: RFC 7047 §3.1 `<error>`.
///
/// `tag` is the machine-readable string of the RFC. Errors that come from text typed by a person
/// (an integer that does not parse) have no tag, only details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The error string of the RFC, for example `constraint violation`; empty if there is none.
    pub tag: Cow<'static, str>,
    /// What exactly is wrong, for people.
    pub details: Option<String>,
    /// The offending JSON, serialized.
    pub syntax: Option<String>,
}

/// Shorthand for results of this room.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a tag of RFC 7047 and details.
    pub fn new(tag: &'static str, details: impl Into<String>) -> Self {
        Error { tag: Cow::Borrowed(tag), details: Some(details.into()), syntax: None }
    }

    /// An error without a tag, for text typed by a person.
    pub fn text(details: impl Into<String>) -> Self {
        Error { tag: Cow::Borrowed(""), details: Some(details.into()), syntax: None }
    }

    /// `constraint violation`: the value is well formed but not allowed here.
    pub fn constraint(details: impl Into<String>) -> Self {
        Error::new("constraint violation", details)
    }

    /// `syntax error` at the JSON `at`.
    pub fn syntax(at: Option<&Value>, details: impl Into<String>) -> Self {
        Error::new("syntax error", details).at(at)
    }

    /// `I/O error`, as `ovsdb-server` names trouble with its file.
    pub fn io(details: impl Into<String>) -> Self {
        Error::new("I/O error", details)
    }

    /// Adds the offending JSON.
    #[must_use]
    pub fn at(mut self, json: Option<&Value>) -> Self {
        self.syntax = json.map(Value::to_string);
        self
    }

    /// Parses an `<error>` object of a reply. Returns `None` if `json` is not one.
    pub fn from_json(json: &Value) -> Option<Self> {
        let tag = json.get("error")?.as_str()?;
        let get = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Error {
            tag: Cow::Owned(tag.to_owned()),
            details: get("details"),
            syntax: get("syntax"),
        })
    }

    /// The `<error>` object of RFC 7047 §3.1.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("error".into(), Value::from(&*self.tag));
        if let Some(details) = &self.details {
            map.insert("details".into(), Value::from(details.as_str()));
        }
        if let Some(syntax) = &self.syntax {
            map.insert("syntax".into(), Value::from(syntax.as_str()));
        }
        Value::Object(map)
    }
}

/// `syntax "...": tag: details`, the form the OVS tools print.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.syntax {
            write!(f, "syntax \"{syntax}\": ")?;
        }
        match (&*self.tag, &self.details) {
            ("", Some(details)) => f.write_str(details),
            (tag, Some(details)) => write!(f, "{tag}: {details}"),
            (tag, None) => f.write_str(tag),
        }
    }
}

impl std::error::Error for Error {}
