//! Tables of database values in the five output formats of the OVSDB tools (ovsdb-client(1), "Output
//! Formatting Options"): `list`, `table`, `html`, `csv`, `json`, with cells as `string`, `bare` or `json`.

use std::fmt::Write;

use ovsdb::{Atom, ColumnType, Datum};
use serde_json::{Value, json};

use crate::getopt::{Arg, Opt};

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One line for each cell.
    List,
    /// An HTML table.
    Html,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// JSON (RFC 4627).
    Json,
}

/// `--data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellFormat {
    /// As `set` takes values: strings quoted where needed.
    String,
    /// Without punctuation.
    Bare,
    /// JSON of RFC 7047 section 5.1.
    Json,
}

/// How to print tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Layout.
    pub format: Format,
    /// Cells; `None` is [`CellFormat::String`].
    pub cell: CellFormat,
    /// Whether columns have headings.
    pub headings: bool,
    /// Indents JSON.
    pub pretty: bool,
    /// Most characters of a column of [`Format::Table`], 0 for no limit.
    pub max_width: usize,
}

/// What a formatting option means; see [`Style::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StyleOpt {
    /// `-f`
    Format,
    /// `-d`
    Data,
    /// `--no-headings`
    NoHeadings,
    /// `--pretty`
    Pretty,
    /// `--bare`
    Bare,
    /// `--max-column-width`
    MaxWidth,
}

/// The formatting options, for the tools' tables.
pub const STYLE_OPTIONS: &[Opt<StyleOpt>] = &[
    Opt { long: "format", short: Some('f'), arg: Arg::Required, id: StyleOpt::Format },
    Opt { long: "data", short: Some('d'), arg: Arg::Required, id: StyleOpt::Data },
    Opt { long: "no-headings", short: None, arg: Arg::None, id: StyleOpt::NoHeadings },
    Opt { long: "pretty", short: None, arg: Arg::None, id: StyleOpt::Pretty },
    Opt { long: "bare", short: None, arg: Arg::None, id: StyleOpt::Bare },
    Opt { long: "max-column-width", short: None, arg: Arg::Required, id: StyleOpt::MaxWidth },
];

impl Style {
    /// The style a tool starts with.
    pub fn new(format: Format) -> Self {
        Self { format, cell: CellFormat::String, headings: true, pretty: false, max_width: 0 }
    }

    /// Applies one option.
    ///
    /// # Errors
    /// An unknown format, with the text to print.
    pub fn apply(&mut self, option: StyleOpt, value: Option<&str>) -> Result<(), String> {
        let value = value.unwrap_or_default();
        match option {
            StyleOpt::Format => {
                self.format = match value {
                    "table" => Format::Table,
                    "list" => Format::List,
                    "html" => Format::Html,
                    "csv" => Format::Csv,
                    "json" => Format::Json,
                    _ => return Err(format!("unknown output format \"{value}\"")),
                }
            }
            StyleOpt::Data => {
                self.cell = match value {
                    "string" => CellFormat::String,
                    "bare" => CellFormat::Bare,
                    "json" => CellFormat::Json,
                    _ => return Err(format!("unknown data format \"{value}\"")),
                }
            }
            StyleOpt::NoHeadings => self.headings = false,
            StyleOpt::Pretty => self.pretty = true,
            StyleOpt::MaxWidth => match value.parse() {
                Ok(width) => self.max_width = width,
                Err(_) => return Err(format!("--max-column-width={value}: not a number")),
            },
            StyleOpt::Bare => {
                self.format = Format::List;
                self.cell = CellFormat::Bare;
                self.headings = false;
            }
        }
        Ok(())
    }
}

/// One cell: text, or a value with its type.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Text as it is.
    Text(String),
    /// A database value.
    Value(Datum, ColumnType),
    /// JSON as it is.
    Json(Value),
}

/// A table with headings.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Printed above it.
    pub caption: Option<String>,
    /// One for each column.
    pub headings: Vec<String>,
    /// As many cells as headings in each row.
    pub rows: Vec<Vec<Cell>>,
}

impl Cell {
    fn text(&self, format: CellFormat) -> String {
        match self {
            Self::Text(text) if format == CellFormat::Json => {
                Value::from(text.as_str()).to_string()
            }
            Self::Text(text) => text.clone(),
            Self::Json(json) => json.to_string(),
            Self::Value(datum, ty) => match format {
                CellFormat::String => datum.to_text(ty),
                CellFormat::Json => datum.to_json().to_string(),
                CellFormat::Bare => bare(datum),
            },
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Json(json) => json.clone(),
            Self::Value(datum, _) => datum.to_json(),
        }
    }
}

/// A value without quotes, brackets and commas.
fn bare(datum: &Datum) -> String {
    let atom = |a: &Atom| match a {
        Atom::String(s) => s.to_string(),
        other => other.to_string(),
    };
    let words: Vec<String> = match datum {
        Datum::Set(atoms) => atoms.iter().map(atom).collect(),
        Datum::Map(pairs) => {
            pairs.iter().map(|(k, v)| format!("{}={}", atom(k), atom(v))).collect()
        }
    };
    words.join(" ")
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The text of the table; `first` is false if another table was printed before it.
    pub fn print(&self, style: Style, first: bool) -> String {
        let mut out = String::new();
        match style.format {
            Format::List => self.list(style, first, &mut out),
            Format::Table => self.aligned(style, first, &mut out),
            Format::Html => self.html(style, &mut out),
            Format::Csv => self.csv(style, first, &mut out),
            Format::Json => {
                let data: Vec<Vec<Value>> =
                    self.rows.iter().map(|r| r.iter().map(Cell::json).collect()).collect();
                let mut value = json!({"headings": self.headings, "data": data});
                if let (Some(caption), Value::Object(map)) = (&self.caption, &mut value) {
                    map.insert("caption".into(), Value::from(caption.as_str()));
                }
                if style.pretty {
                    pretty(&value, 0, &mut out);
                } else {
                    out += &value.to_string();
                }
                out.push('\n');
            }
        }
        out
    }

    fn caption(&self, first: bool, out: &mut String) {
        if !first {
            out.push('\n');
        }
        if let Some(caption) = &self.caption {
            let _ = writeln!(out, "{caption}");
        }
    }

    fn list(&self, style: Style, first: bool, out: &mut String) {
        self.caption(first, out);
        for (i, row) in self.rows.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            for (heading, cell) in self.headings.iter().zip(row) {
                if style.headings {
                    let _ = write!(out, "{heading:<20}: ");
                }
                let _ = writeln!(out, "{}", cell.text(style.cell));
            }
        }
    }

    fn aligned(&self, style: Style, first: bool, out: &mut String) {
        self.caption(first, out);
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|r| r.iter().map(|c| c.text(style.cell)).collect()).collect();
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|i| {
                let limit = if style.max_width == 0 { usize::MAX } else { style.max_width };
                let heading = if style.headings { self.headings[i].chars().count() } else { 0 };
                let cells = rows.iter().map(|r| r[i].chars().count().min(limit));
                cells.chain([heading]).max().unwrap_or(0)
            })
            .collect();
        let mut line = |cells: &[String]| {
            let mut text = String::new();
            for (i, cell) in cells.iter().enumerate() {
                let gap = if i > 0 { " " } else { "" };
                let _ = write!(text, "{gap}{cell:<width$.width$}", width = widths[i]);
            }
            let _ = writeln!(out, "{}", text.trim_end_matches(' '));
        };
        if style.headings {
            line(&self.headings);
            line(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>());
        }
        rows.iter().for_each(|r| line(r));
    }

    fn html(&self, style: Style, out: &mut String) {
        let escape = |text: &str| {
            text.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
        };
        out.push_str("<table border=1>\n");
        if let Some(caption) = &self.caption {
            let _ = writeln!(out, "    <caption>{}</caption>", escape(caption));
        }
        let mut line = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
            out.push_str("  <tr>\n");
            for cell in cells {
                let _ = writeln!(out, "    <{tag}>{}</{tag}>", escape(&cell));
            }
            out.push_str("  </tr>\n");
        };
        if style.headings {
            line("th", &mut self.headings.iter().cloned());
        }
        for row in &self.rows {
            line("td", &mut row.iter().map(|c| c.text(style.cell)));
        }
        out.push_str("</table>\n");
    }

    fn csv(&self, style: Style, first: bool, out: &mut String) {
        if !first {
            out.push('\n');
        }
        if let Some(caption) = &self.caption {
            let _ = writeln!(out, "{}", csv_cell(caption));
        }
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            let _ = writeln!(out, "{}", cells.map(|c| csv_cell(&c)).collect::<Vec<_>>().join(","));
        };
        if style.headings {
            line(&mut self.headings.iter().cloned());
        }
        for row in &self.rows {
            line(&mut row.iter().map(|c| c.text(style.cell)));
        }
    }
}

fn csv_cell(text: &str) -> String {
    if text.contains(['\n', '\t', ',', '"']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// JSON indented by two spaces, closing brackets at the end of the last line, as OVS writes it.
pub fn pretty(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(out, depth + 1);
                pretty(item, depth + 1, out);
            }
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(out, depth + 1);
                let _ = write!(out, "{}: ", Value::from(key.as_str()));
                pretty(item, depth + 1, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::AtomType;

    fn table() -> Table {
        let string = ColumnType::scalar(AtomType::String);
        let optional = ColumnType { min: 0, ..string.clone() };
        let map = ColumnType {
            value: Some(AtomType::String.into()),
            min: 0,
            max: ovsdb::types::UNLIMITED,
            ..string.clone()
        };
        let mut t = Table::new(["name", "fail_mode", "other_config"]);
        for (name, config) in [("br0", vec![("a-b", "x y"), ("foo", "1")]), ("b<1>", vec![])] {
            t.rows.push(vec![
                Cell::Value(Datum::scalar(name), string.clone()),
                Cell::Value(Datum::Set(Vec::new()), optional.clone()),
                Cell::Value(Datum::map(config), map.clone()),
            ]);
        }
        t
    }

    fn style(options: &[(StyleOpt, &str)]) -> Style {
        let mut style = Style::new(Format::List);
        for (option, value) in options {
            style.apply(*option, Some(value)).unwrap();
        }
        style
    }

    #[test]
    fn formats() {
        let t = table();
        let print = |options: &[(StyleOpt, &str)]| t.print(style(options), true);
        assert_eq!(
            print(&[]),
            "name                : br0\nfail_mode           : []\n\
             other_config        : {a-b=\"x y\", foo=\"1\"}\n\n\
             name                : \"b<1>\"\nfail_mode           : []\nother_config        : {}\n"
        );
        assert_eq!(
            print(&[(StyleOpt::Format, "table")]),
            "name   fail_mode other_config\n------ --------- --------------------\n\
             br0    []        {a-b=\"x y\", foo=\"1\"}\n\"b<1>\" []        {}\n"
        );
        assert_eq!(
            print(&[(StyleOpt::Format, "csv"), (StyleOpt::NoHeadings, "")]),
            "br0,[],\"{a-b=\"\"x y\"\", foo=\"\"1\"\"}\"\n\"\"\"b<1>\"\"\",[],{}\n"
        );
        assert_eq!(print(&[(StyleOpt::Bare, "")]), "br0\n\na-b=x y foo=1\n\nb<1>\n\n\n");
        assert_eq!(
            print(&[(StyleOpt::Format, "json")]),
            "{\"data\":[[\"br0\",[\"set\",[]],[\"map\",[[\"a-b\",\"x y\"],[\"foo\",\"1\"]]]],\
             [\"b<1>\",[\"set\",[]],[\"map\",[]]]],\
             \"headings\":[\"name\",\"fail_mode\",\"other_config\"]}\n"
        );
        assert!(
            print(&[(StyleOpt::Format, "html"), (StyleOpt::Data, "bare")])
                .contains("    <td>b&lt;1&gt;</td>\n")
        );
        assert!(print(&[(StyleOpt::Data, "json")]).starts_with("name                : \"br0\"\n"));
    }

    #[test]
    fn pretty_json() {
        let mut out = String::new();
        pretty(&json!({"data": [["br0"]], "headings": ["name"], "e": []}), 0, &mut out);
        assert_eq!(
            out,
            "{\n  \"data\": [\n    [\n      \"br0\"]],\n  \"e\": [],\n  \"headings\": [\n    \"name\"]}"
        );
    }

    #[test]
    fn unknown_styles() {
        let mut style = Style::new(Format::Table);
        assert_eq!(
            style.apply(StyleOpt::Format, Some("x")).unwrap_err(),
            "unknown output format \"x\""
        );
        assert_eq!(
            style.apply(StyleOpt::Data, Some("x")).unwrap_err(),
            "unknown data format \"x\""
        );
    }
}
