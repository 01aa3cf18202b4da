//! The text form of values: what `ovs-vsctl list` prints and `ovs-vsctl set` takes
//! (ovs-vsctl(8), "Database Values").

use super::atom::{Atom, AtomType, Symbols};
use super::base_type::BaseType;
use super::column_type::ColumnType;
use super::datum::Datum;
use super::uuid::Uuid;
use crate::error::{Error, Result};

/// Characters that end an unquoted word.
const DELIMITERS: &str = ":=, []{}!<>";

/// Whether string `s` must be printed in quotes, because bare it would read as something else.
pub fn needs_quotes(s: &str) -> bool {
    let mut bytes = s.bytes();
    let starts_like_word = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    !starts_like_word
        || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        || s == "true"
        || s == "false"
        || s.parse::<Uuid>().is_ok()
}

/// The text of an atom; strings are quoted only when needed.
pub fn atom_to_text(atom: &Atom) -> String {
    match atom {
        Atom::Integer(n) => n.to_string(),
        Atom::Real(_) => atom.to_json().to_string(),
        Atom::Boolean(b) => b.to_string(),
        Atom::String(s) if needs_quotes(s) => atom.to_json().to_string(),
        Atom::String(s) => s.to_string(),
        Atom::Uuid(u) => u.to_string(),
    }
}

/// A cursor over an argument such as `external_ids:a="b c"`.
///
/// Tools use it for their own grammar around values: [`TextParser::token`] takes a word or quoted
/// string, [`TextParser::rest`] is what follows.
#[derive(Debug, Clone)]
pub struct TextParser<'a> {
    whole: &'a str,
    pos: usize,
}

impl<'a> TextParser<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        TextParser { whole: text, pos: 0 }
    }

    /// What has not been taken yet.
    pub fn rest(&self) -> &'a str {
        &self.whole[self.pos..]
    }

    /// The next character, which stays.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes `prefix` if it comes next.
    pub fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.pos += prefix.len();
        }
        found
    }

    fn skip_spaces(&mut self) {
        self.pos = self.whole.len() - self.rest().trim_start().len();
    }

    fn error(&self, details: impl std::fmt::Display) -> Error {
        Error::text(format!("{}: {details}", self.whole))
    }

    /// Takes a word (up to a delimiter, perhaps empty) or a quoted string with its quotes.
    ///
    /// # Errors
    /// If a quoted string does not end.
    pub fn token(&mut self) -> Result<&'a str> {
        let rest = self.rest();
        let len = if let Some(quoted) = rest.strip_prefix('"') {
            let mut escaped = false;
            quoted
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .map(|n| n + 2)
                .ok_or_else(|| self.error("quoted string extends past end of argument"))?
        } else {
            rest.find(|c| DELIMITERS.contains(c)).unwrap_or(rest.len())
        };
        self.pos += len;
        Ok(&rest[..len])
    }
}

impl BaseType {
    /// Reads one atom from its text and checks its constraint.
    ///
    /// # Errors
    /// Worded as `ovs-vsctl` words them.
    pub fn parse_text(&self, text: &str, symbols: &mut dyn Symbols) -> Result<Atom> {
        let (low, high) = self.parse_text_range(text, false, symbols)?;
        debug_assert!(high.is_none(), "no range was asked for");
        Ok(low)
    }

    /// Like [`BaseType::parse_text`], but with `ranges` an integer type also takes `1-5`.
    fn parse_text_range(
        &self,
        text: &str,
        ranges: bool,
        symbols: &mut dyn Symbols,
    ) -> Result<(Atom, Option<i64>)> {
        let text_error = |details: String| Err(Error::text(details));
        if text.is_empty() {
            return text_error(
                "An empty string is not valid as input; use \"\" to represent the empty string"
                    .into(),
            );
        }
        let mut end = None;
        let atom = match self.atom {
            AtomType::Integer => {
                if let Ok(n) = text.parse() {
                    Atom::Integer(n)
                } else if let Some((low, high)) = integer_range(text).filter(|_| ranges) {
                    if high < low {
                        return text_error(format!(
                            "\"{text}\" is not a valid range. Range end cannot be before start."
                        ));
                    }
                    self.check(&Atom::Integer(high))?;
                    end = Some(high);
                    Atom::Integer(low)
                } else {
                    let or_range = if ranges { " or range" } else { "" };
                    return text_error(format!("\"{text}\" is not a valid integer{or_range}"));
                }
            }
            AtomType::Real => match text.parse::<f64>() {
                Ok(n) if n.is_finite() => Atom::real(n),
                _ => return text_error(format!("\"{text}\" is not a valid real number")),
            },
            AtomType::Boolean => match text {
                "true" | "yes" | "on" | "1" => Atom::Boolean(true),
                "false" | "no" | "off" | "0" => Atom::Boolean(false),
                _ => {
                    return text_error(format!(
                        "\"{text}\" is not a valid boolean (use \"true\" or \"false\")"
                    ));
                }
            },
            AtomType::String if text.starts_with('"') => {
                Atom::String(unquote(text).map_err(|e| Error::text(format!("{text}: {e}")))?.into())
            }
            AtomType::String => Atom::from(text),
            AtomType::Uuid => {
                let named = text.strip_prefix('@').and_then(|_| symbols.resolve(text));
                Atom::Uuid(named.map_or_else(|| text.parse(), Ok)?)
            }
        };
        self.check(&atom)?;
        Ok((atom, end))
    }
}

fn integer_range(text: &str) -> Option<(i64, i64)> {
    // A leading minus belongs to the number.
    let dash = text.get(1..)?.find('-')? + 1;
    Some((text[..dash].parse().ok()?, text[dash + 1..].parse().ok()?))
}

/// Takes the JSON string `text` apart.
fn unquote(text: &str) -> std::result::Result<String, String> {
    serde_json::from_str::<String>(text).map_err(|_| {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c == '\\' {
                match chars.next() {
                    Some(c) if "\"\\/bfnrtu".contains(c) => {}
                    Some(c) => return format!("bad escape \\{c}"),
                    None => break,
                }
            }
        }
        "invalid quoted string".to_owned()
    })
}

impl ColumnType {
    /// Reads a value from the text of `ovs-vsctl set`, `@name` going to `symbols`.
    ///
    /// Brackets and braces may be left away and elements separated by commas or spaces. Number of
    /// elements and constraints are checked.
    ///
    /// # Errors
    /// Worded as `ovs-vsctl` words them.
    pub fn parse_text(&self, text: &str, symbols: &mut dyn Symbols) -> Result<Datum> {
        let datum = self.parse_text_any_len(text, symbols)?;
        let n = datum.len();
        if n < self.min as usize {
            return Err(Error::text(format!(
                "{text}: {n} value(s) specified but the minimum number is {}",
                self.min
            )));
        }
        if !self.allows_len(n) {
            return Err(Error::text(format!(
                "{text}: {n} value(s) specified but the maximum number is {}",
                self.max
            )));
        }
        Ok(datum)
    }

    /// Like [`ColumnType::parse_text`], with any number of elements (`add`, `remove`).
    ///
    /// # Errors
    /// As [`ColumnType::parse_text`].
    pub fn parse_text_any_len(&self, text: &str, symbols: &mut dyn Symbols) -> Result<Datum> {
        let mut p = TextParser::new(text);
        let (open, close) = if self.is_map() { ("{", "}") } else { ("[", "]") };
        let (mut atoms, mut pairs) = (Vec::new(), Vec::new());
        p.skip_spaces();
        let bracketed = p.eat(open);
        loop {
            p.skip_spaces();
            let Some(next) = p.peek() else { break };
            if bracketed && p.rest().starts_with(close) {
                break;
            }
            if DELIMITERS.contains(next) {
                return Err(p.error(format_args!("unexpected \"{next}\" parsing {self}")));
            }
            let element = p.rest();
            let (key, end) = self.key.parse_text_range(p.token()?, true, symbols)?;
            if let Some(base) = &self.value {
                p.skip_spaces();
                if !p.eat("=") {
                    let at = match p.peek() {
                        Some(c) => format!("\"{c}\""),
                        None => "end of input".to_owned(),
                    };
                    return Err(Error::text(format!(
                        "{element}: syntax error at {at} expecting \"=\""
                    )));
                }
                p.skip_spaces();
                pairs.push((key, base.parse_text(p.token()?, symbols)?));
            } else {
                let low = key.as_integer().filter(|_| end.is_some());
                atoms.push(key);
                if let (Some(low), Some(high)) = (low, end) {
                    if high.saturating_sub(low) >= 1 << 20 {
                        return Err(p.error("range is too large"));
                    }
                    atoms.extend((low + 1..=high).map(Atom::Integer));
                }
            }
            p.skip_spaces();
            p.eat(",");
        }
        if bracketed && !p.eat(close) {
            return Err(p.error(format_args!("missing \"{close}\" at end of data")));
        }
        p.skip_spaces();
        if !p.rest().is_empty() {
            return Err(p.error(format_args!("trailing garbage after \"{close}\"")));
        }
        if self.is_map() {
            Datum::checked_map(pairs).map_err(|_| p.error("map contains duplicate key"))
        } else {
            Datum::checked_set(atoms).map_err(|_| p.error("set contains duplicate value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::atom::NoSymbols;
    use crate::schema::DbSchema;

    fn parse(table: &str, column: &str, text: &str) -> String {
        let schema = DbSchema::open_vswitch();
        let ty = &schema.table(table).unwrap().column(column).unwrap().ty;
        match ty.parse_text(text, &mut NoSymbols) {
            Ok(datum) => datum.to_text(ty),
            Err(e) => format!("error: {e}"),
        }
    }

    /// What `ovs-vsctl set` 3.1.0 followed by `get` says.
    #[test]
    fn as_ovs_vsctl_reads_and_prints() {
        let rows = [
            ("Port", "tag", "abc", "error: \"abc\" is not a valid integer or range"),
            ("Port", "tag", "0x10", "error: \"0x10\" is not a valid integer or range"),
            (
                "Port",
                "tag",
                "9999",
                "error: constraint violation: 9999 is not in the valid range 0 to 4095 (inclusive)",
            ),
            ("Port", "tag", "5", "5"),
            ("Port", "tag", "[]", "[]"),
            (
                "Port",
                "tag",
                "[1,2]",
                "error: [1,2]: 2 value(s) specified but the maximum number is 1",
            ),
            ("Port", "trunks", "1-5,7", "[1, 2, 3, 4, 5, 7]"),
            (
                "Port",
                "trunks",
                "5-1",
                "error: \"5-1\" is not a valid range. Range end cannot be before start.",
            ),
            ("Port", "trunks", "[1,2", "error: [1,2: missing \"]\" at end of data"),
            ("Port", "trunks", "[1 2]", "[1, 2]"),
            ("Port", "trunks", "1,", "[1]"),
            ("Port", "trunks", "[1,1]", "error: [1,1]: set contains duplicate value"),
            (
                "Port",
                "trunks",
                "{1}",
                "error: {1}: unexpected \"{\" parsing set of up to 4096 integers",
            ),
            ("Bridge", "stp_enable", "yes", "true"),
            (
                "Bridge",
                "stp_enable",
                "foo",
                "error: \"foo\" is not a valid boolean (use \"true\" or \"false\")",
            ),
            (
                "Bridge",
                "mcast_snooping_enable",
                "[]",
                "error: []: 0 value(s) specified but the minimum number is 1",
            ),
            (
                "Bridge",
                "fail_mode",
                "bogus",
                "error: constraint violation: bogus is not one of the allowed values \
              ([secure, standalone])",
            ),
            ("Bridge", "external_ids", "{a=b, c=\"d e\"}", "{a=b, c=\"d e\"}"),
            ("Bridge", "external_ids", "{a}", "error: a}: syntax error at \"}\" expecting \"=\""),
            ("Bridge", "external_ids", "a:b", "error: a:b: syntax error at \":\" expecting \"=\""),
            (
                "Bridge",
                "external_ids",
                "a=b,f=[",
                "error: An empty string is not valid as input; use \"\" to represent the empty string",
            ),
            (
                "Bridge",
                "external_ids",
                "a=b=c",
                "error: a=b=c: unexpected \"=\" parsing map of (string, string) pairs",
            ),
            ("Bridge", "external_ids", "a=b,a=c", "error: a=b,a=c: map contains duplicate key"),
            (
                "Bridge",
                "external_ids",
                "\"abc",
                "error: \"abc: quoted string extends past end of argument",
            ),
            (
                "Bridge",
                "external_ids",
                "z=true n=12 f=-1.5 e=\"\" q=\"a\\\"b\" s=a.b _x=a-b at=@a",
                "{_x=a-b, at=\"@a\", e=\"\", f=\"-1.5\", n=\"12\", q=\"a\\\"b\", s=a.b, z=\"true\"}",
            ),
            (
                "Bridge",
                "external_ids",
                "u=4e8a3372-498a-4259-8ff4-c19044975729 w=ü",
                "{u=\"4e8a3372-498a-4259-8ff4-c19044975729\", w=\"ü\"}",
            ),
            ("Bridge", "ports", "foo", "error: \"foo\" is not a valid UUID"),
            ("Interface", "type", "a=b", "error: a=b: unexpected \"=\" parsing string"),
            ("Interface", "type", "\"\\u0041\\n\"", "\"A\\n\""),
            ("Interface", "type", "\"\\q\"", "error: \"\\q\": bad escape \\q"),
            (
                "Interface",
                "mac",
                "a=b",
                "error: a=b: unexpected \"=\" parsing set of up to 1 strings",
            ),
            ("Interface", "ofport_request", " 5", "5"),
            ("Interface", "ofport_request", "+5", "5"),
            (
                "Interface",
                "ofport_request",
                "999999",
                "error: constraint violation: 999999 is not in the valid range 1 to 65279 (inclusive)",
            ),
            ("Interface", "cfm_mpid", "-9223372036854775808", "-9223372036854775808"),
            (
                "NetFlow",
                "active_timeout",
                "-2",
                "error: constraint violation: -2 is less than minimum allowed value -1",
            ),
        ];
        for (table, column, text, want) in rows {
            assert_eq!(parse(table, column, text), want, "{table} {column} {text}");
        }
    }
}
