//! Groups in text: `group_id=1,type=select,bucket=weight:2,actions=output:1,bucket=output:2`.
//!
//! What stands before the first `bucket=` describes the group, what stands behind one describes a
//! bucket: words of its own, and actions, with or without `actions=` before them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use base::OfPort;
use flow::field::MaskRule;
use flow::text::number::parse_number;
use flow::text::scan::Pair;
use flow::text::value::{self, to_text};
use flow::text::{Mode, NameMap, NoNames, Pairs, PortText, TextError, Tok, parse_port};
use flow::{Field, FieldId};

use super::actions::Parser;
use super::args::Result;
use super::flow::LineError;
use super::format::ActionsText;
use crate::flow_mod::{GROUP_ALL, GROUP_ANY};
use crate::message::{
    Bucket, GROUP_MAX, GroupCommand, GroupMod, GroupType, METHOD_LEN, Selection, bucket_id,
};
use crate::version::Version;

/// Words that begin a line of a file, and what the line then does.
const COMMANDS: [(&str, GroupCommand); 6] = [
    ("add", GroupCommand::Add),
    ("delete", GroupCommand::Delete),
    ("modify", GroupCommand::Modify),
    ("add_or_mod", GroupCommand::AddOrModify),
    ("insert_bucket", GroupCommand::InsertBucket),
    ("remove_bucket", GroupCommand::RemoveBucket),
];

/// A group mod that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParsedGroup {
    /// The group mod.
    pub group: GroupMod,
    /// It says what only 1.5, and Nicira's messages in 1.0, can say.
    pub needs_15: bool,
}

/// A 32-bit number.
pub(super) fn number32(tok: Tok<'_>) -> Result<u32> {
    if tok.text.is_empty() {
        return Err(TextError::new(tok, "missing required numeric argument"));
    }
    let n = parse_number(tok.text).flatten().and_then(|n| u32::try_from(n).ok());
    n.ok_or_else(|| {
        TextError::new(tok, format!("invalid numeric format {}", tok.text))
            .hint("a number from 0 to 4294967295")
    })
}

/// Reads a group mod. Without `command` the line may begin with one; else it adds.
///
/// # Errors
/// In OVS's words.
pub fn parse_group(
    line: &str,
    command: Option<GroupCommand>,
    names: &dyn NameMap,
    mode: Mode,
) -> Result<ParsedGroup> {
    let mut line = Tok::line(line);
    let command = command.unwrap_or_else(|| {
        let start = line.text.len() - line.text.trim_start_matches([' ', '\t', '\r', '\n']).len();
        let rest = &line.text[start..];
        let word = &rest[..rest.find([',', ' ', '\t', '\r', '\n']).unwrap_or(rest.len())];
        // OVS takes a beginning of the word for the word.
        let known = COMMANDS.iter().find(|c| !word.is_empty() && c.0.starts_with(word));
        let len = if known.is_some() { start + word.len() } else { start };
        line = line.slice(len..line.text.len());
        known.map_or(GroupCommand::Add, |c| c.1)
    });
    let mut p = GroupParser {
        group: GroupMod {
            command,
            group: GROUP_ANY,
            command_bucket: bucket_id::ALL,
            ..GroupMod::default()
        },
        needs_15: command.is_about_buckets(),
        had_type: false,
        had_bucket_id: false,
        names,
        mode,
    };
    if command == GroupCommand::Delete && line.text.is_empty() {
        p.group.group = GROUP_ALL;
    } else {
        p.line(line)?;
    }
    Ok(ParsedGroup { group: p.group, needs_15: p.needs_15 })
}

/// Reads a file of groups: one a line; blank lines and `#` comments are skipped.
///
/// # Errors
/// The first line that is no group.
pub fn parse_group_file(
    text: &str,
    command: Option<GroupCommand>,
    names: &dyn NameMap,
    mode: Mode,
) -> core::result::Result<Vec<(usize, ParsedGroup)>, LineError> {
    let mut groups = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let bare = line.split('#').next().unwrap_or_default();
        if bare.trim().is_empty() {
            continue;
        }
        let parsed = parse_group(bare, command, names, mode).map_err(|error| LineError {
            line: i + 1,
            text: line.into(),
            error,
        })?;
        groups.push((i + 1, parsed));
    }
    Ok(groups)
}

struct GroupParser<'p> {
    group: GroupMod,
    needs_15: bool,
    had_type: bool,
    had_bucket_id: bool,
    names: &'p dyn NameMap,
    mode: Mode,
}

impl GroupParser<'_> {
    fn line(&mut self, line: Tok<'_>) -> Result<()> {
        let command = self.group.command;
        let described =
            matches!(command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify);
        const BUCKET: &str = "bucket=";
        let head_end = line.text.find(BUCKET).unwrap_or(line.text.len());
        let head = line.slice(0..head_end);
        let mut rest = line.slice(head_end..line.text.len());
        if !rest.text.is_empty() && !described && command != GroupCommand::InsertBucket {
            return Err(TextError::new(rest.slice(0..BUCKET.len()), "bucket is not needed"));
        }
        for pair in Pairs::new(head) {
            self.keyword(&pair, described)?;
        }
        self.check_head(head, described)?;
        while let Some(body) = rest.text.strip_prefix(BUCKET) {
            let end = body.find(BUCKET).unwrap_or(body.len()) + BUCKET.len();
            let bucket = self.bucket(rest.slice(BUCKET.len()..end))?;
            let weighs = bucket.weight != 0 && self.group.type_ != GroupType::Select;
            if weighs && command != GroupCommand::InsertBucket {
                let text = "Only select groups can have bucket weights.";
                return Err(TextError::new(rest.slice(BUCKET.len()..end).trim(), text));
            }
            self.group.buckets.push(bucket);
            rest = rest.slice(end..rest.text.len());
        }
        if self.group.type_ == GroupType::Indirect && self.group.buckets.len() > 1 {
            let text = "Indirect groups can have at most one bucket.";
            return Err(TextError::new(line.slice(head_end..line.text.len()), text));
        }
        Ok(())
    }

    fn keyword(&mut self, pair: &Pair<'_>, described: bool) -> Result<()> {
        let v = pair.value;
        // What describes a group is of no use to a command that takes it as it is.
        let not_needed = match pair.key.text {
            "type" => "type is not needed",
            "selection_method" => "selection method is not needed",
            "selection_method_param" => "selection method param is not needed",
            "fields" => "fields are not needed",
            _ => "",
        };
        if !described && !not_needed.is_empty() {
            return Err(TextError::new(pair.key, not_needed));
        }
        match pair.key.text {
            "command_bucket_id" => {
                self.group.command_bucket = self.command_bucket(pair)?;
                self.had_bucket_id = true;
            }
            "group_id" if v.text == "all" => self.group.group = GROUP_ALL,
            "group_id" => {
                let id = number32(v)?;
                if id != GROUP_ALL && id > GROUP_MAX {
                    return Err(TextError::new(v, format!("invalid group id {id}")));
                }
                self.group.group = id;
            }
            "type" => {
                let known = GroupType::ALL_TYPES.into_iter().find(|t| t.name() == v.text);
                self.group.type_ = match v.text {
                    "fast_failover" => GroupType::FastFailover,
                    _ => known.ok_or_else(|| {
                        TextError::new(v, format!("invalid group type {}", v.text))
                            .hint("all, select, indirect or ff")
                    })?,
                };
                self.had_type = true;
            }
            "selection_method" => {
                if v.text.len() >= METHOD_LEN {
                    let most = METHOD_LEN - 1;
                    let text = format!("selection method is longer than {most} bytes long");
                    return Err(TextError::new(v, text));
                }
                self.group.selection.method = v.text.to_string();
                self.needs_15 = true;
            }
            "selection_method_param" => {
                let n = parse_number(v.text).flatten().and_then(|n| u64::try_from(n).ok());
                self.group.selection.param = n.ok_or_else(|| match v.text {
                    "" => TextError::new(pair.key, "missing required numeric argument"),
                    text => TextError::new(v, format!("invalid numeric format {text}")),
                })?;
                self.needs_15 = true;
            }
            "fields" => {
                for field in Pairs::new(v) {
                    self.field(&field)?;
                }
                self.group.selection.fields.sort_unstable();
                self.needs_15 = true;
            }
            name => return Err(TextError::new(pair.key, format!("unknown keyword {name}"))),
        }
        Ok(())
    }

    fn command_bucket(&self, pair: &Pair<'_>) -> Result<u32> {
        let v = pair.value;
        if !self.group.command.is_about_buckets() {
            return Err(TextError::new(pair.key, "command bucket id is not needed"));
        }
        let id = match v.text {
            "all" => bucket_id::ALL,
            "first" => bucket_id::FIRST,
            "last" => bucket_id::LAST,
            _ => number32(v)?,
        };
        let place = matches!(id, bucket_id::FIRST | bucket_id::LAST | bucket_id::ALL);
        if id > bucket_id::MAX && !place {
            return Err(TextError::new(v, format!("invalid command bucket id {id}")));
        }
        if id == bucket_id::ALL && self.group.command != GroupCommand::RemoveBucket {
            return Err(TextError::new(v, "command_bucket_id=all is not permitted")
                .hint("first, last or the id of a bucket"));
        }
        Ok(id)
    }

    /// A field of `fields(…)`: its name, and perhaps the bits that count.
    fn field(&mut self, pair: &Pair<'_>) -> Result<()> {
        let (key, v) = (pair.key, pair.value);
        let row = Field::by_name(key.text).ok_or_else(|| {
            TextError::new(key, format!("{}: unknown field {}", v.text, key.text))
        })?;
        let fields = &mut self.group.selection.fields;
        if fields.iter().any(|f| f.0 == row.id) {
            return Err(TextError::new(key, format!("{}: duplicate field", key.text)));
        }
        let mask = match v.text {
            "" => row.all_ones(),
            text => {
                let mask = value::parse(row, v, self.names, self.mode)?.0;
                if mask == 0 {
                    let text = "values are wildcards here and must not be all-zeros";
                    return Err(TextError::new(v, format!("{}: {text}", v.text)));
                }
                if row.mask == MaskRule::Exact && mask != row.all_ones() {
                    let text = format!("{text}: invalid mask for field {}", row.name);
                    return Err(TextError::new(v, text));
                }
                mask
            }
        };
        fields.push((row.id, mask));
        Ok(())
    }

    fn check_head(&self, head: Tok<'_>, described: bool) -> Result<()> {
        let g = &self.group;
        let why = if g.group == GROUP_ANY {
            "must specify a group_id"
        } else if described && !self.had_type {
            "must specify a type"
        } else if g.selection.method != "hash" && !g.selection.fields.is_empty() {
            "fields may only be specified with \"selection_method=hash\""
        } else if g.selection.method.is_empty() && g.selection.param != 0 {
            "selection_method_param is only allowed with \"selection_method\""
        } else if g.command == GroupCommand::InsertBucket && !self.had_bucket_id {
            "must specify a command bucket id"
        } else {
            return Ok(());
        };
        Err(TextError::new(head.trim(), why))
    }

    fn bucket(&mut self, text: Tok<'_>) -> Result<Bucket> {
        let type_ = self.group.type_;
        let mut b = Bucket {
            id: bucket_id::ALL,
            weight: u16::from(type_ == GroupType::Select),
            watch_port: OfPort::NONE,
            watch_group: GROUP_ANY,
            actions: Vec::new(),
        };
        let mut actions: Vec<Tok<'_>> = Vec::new();
        for pair in Pairs::new(text) {
            let v = pair.value;
            match pair.key.text.to_ascii_lowercase().as_str() {
                "weight" => {
                    let n = parse_number(v.text).flatten().and_then(|n| u16::try_from(n).ok());
                    b.weight = n.ok_or_else(|| {
                        TextError::new(v, format!("invalid weight \"{}\"", v.text))
                            .hint("a number from 0 to 65535")
                    })?;
                }
                "watch_port" => {
                    let watchable = |p: &OfPort| {
                        *p < OfPort::MAX || matches!(*p, OfPort::NONE | OfPort::CONTROLLER)
                    };
                    let port = parse_port(v.text, self.names).filter(watchable);
                    b.watch_port = port.ok_or_else(|| {
                        TextError::new(v, format!("{}: invalid watch_port", v.text))
                    })?;
                }
                "watch_group" => {
                    b.watch_group = number32(v)?;
                    if b.watch_group > GROUP_MAX {
                        let text = format!("invalid watch_group id {}", b.watch_group);
                        return Err(TextError::new(v, text));
                    }
                }
                "bucket_id" => {
                    b.id = number32(v)?;
                    if b.id > bucket_id::MAX {
                        return Err(TextError::new(v, format!("invalid bucket_id id {}", b.id)));
                    }
                    self.needs_15 = true;
                }
                "action" | "actions" => actions.push(v),
                _ => actions.push(pair.whole(text)),
            }
        }
        if actions.is_empty() {
            return Err(TextError::new(text.trim(), "bucket must specify actions"));
        }
        if type_ == GroupType::FastFailover && !b.has_liveness() {
            let why = "fast failover bucket requires watch_port or watch_group";
            return Err(TextError::new(text.trim(), why));
        }
        b.actions = Parser::new(None, self.names, self.mode).pieces(&actions)?;
        if self.mode == Mode::Ovs {
            // OVS's tool forgets what it knew of versions as soon as it reads actions, and leaves
            // out what the version it speaks cannot say.
            self.needs_15 = false;
        }
        Ok(b)
    }
}

/// Which bucket a command is about, or a bucket is.
fn write_bucket_id(out: &mut impl Write, id: u32) -> fmt::Result {
    match id {
        bucket_id::FIRST => out.write_str("first"),
        bucket_id::LAST => out.write_str("last"),
        bucket_id::ALL => out.write_str("all"),
        id => write!(out, "{id}"),
    }
}

/// A number of a group, or its name.
#[derive(Copy, Clone, Debug)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            GROUP_ALL => f.write_str("ALL"),
            GROUP_ANY => f.write_str("ANY"),
            id => write!(f, "{id}"),
        }
    }
}

/// Reads [`GroupId`]'s text. Hexadecimal numbers are none here.
pub fn parse_group_id(text: &str) -> Option<u32> {
    match text {
        t if t.eq_ignore_ascii_case("any") => Some(GROUP_ANY),
        t if t.eq_ignore_ascii_case("all") => Some(GROUP_ALL),
        t => t.parse().ok(),
    }
}

/// A group in text.
#[derive(Copy, Clone)]
pub struct GroupText<'a> {
    /// Its number.
    pub group: u32,
    /// What it does; `None` to leave that out.
    pub type_: Option<GroupType>,
    /// How it chooses.
    pub selection: &'a Selection,
    /// Its buckets.
    pub buckets: &'a [Bucket],
    /// The version it was said in: some tell no ids of buckets.
    pub version: Version,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

impl fmt::Debug for GroupText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GroupText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group_id={}", self.group)?;
        if let Some(t) = self.type_ {
            write!(f, ",type={}", t.name())?;
        }
        write_selection(f, self.selection)?;
        self.buckets.iter().try_for_each(|b| self.bucket(f, b))
    }
}

fn write_selection(f: &mut impl Write, s: &Selection) -> fmt::Result {
    if s.method.is_empty() {
        return Ok(());
    }
    write!(f, ",selection_method={}", s.method)?;
    if s.param != 0 {
        write!(f, ",selection_method_param={}", s.param)?;
    }
    match fields_text(s).as_slice() {
        [] => Ok(()),
        [one] => write!(f, ",fields={one}"),
        many => write!(f, ",fields({})", many.join(",")),
    }
}

/// The fields that count for a selection: a name, and which bits if not all.
pub fn fields_text(s: &Selection) -> Vec<String> {
    let text = |(id, mask): &(FieldId, u128)| {
        let row = id.row();
        match *mask == row.all_ones() {
            true => row.name.to_string(),
            false => format!("{}={}", row.name, to_text(row, *mask, row.all_ones(), &NoNames)),
        }
    };
    s.fields.iter().map(text).collect()
}

impl GroupText<'_> {
    fn bucket(&self, f: &mut fmt::Formatter<'_>, b: &Bucket) -> fmt::Result {
        let usual = u16::from(self.type_ == Some(GroupType::Select));
        f.write_str(",bucket=")?;
        if self.version == Version::Of10 || self.version >= Version::Of15 {
            f.write_str("bucket_id:")?;
            write_bucket_id(f, b.id)?;
            f.write_char(',')?;
        }
        if b.weight != usual {
            write!(f, "weight:{},", b.weight)?;
        }
        if b.watch_port != OfPort::NONE {
            write!(f, "watch_port:{},", PortText(b.watch_port, self.names))?;
        }
        if b.watch_group != GROUP_ANY {
            write!(f, "watch_group:{},", b.watch_group)?;
        }
        let (actions, names, version) = (&b.actions, self.names, self.version);
        write!(f, "actions={}", ActionsText { actions, names, version })
    }
}

/// A group mod in text: what `ovs-ofctl` prints behind the heading.
#[derive(Copy, Clone)]
pub struct GroupModText<'a> {
    /// The group mod.
    pub group: &'a GroupMod,
    /// The version it was said in.
    pub version: Version,
    /// Names of ports and tables.
    pub names: &'a dyn NameMap,
}

impl fmt::Debug for GroupModText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GroupModText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let g = self.group;
        f.write_str(match g.command {
            GroupCommand::Add => "ADD ",
            GroupCommand::Modify => "MOD ",
            GroupCommand::AddOrModify => "ADD_OR_MOD ",
            GroupCommand::Delete => "DEL ",
            GroupCommand::InsertBucket => "INSERT_BUCKET ",
            GroupCommand::RemoveBucket => "REMOVE_BUCKET ",
        })?;
        if g.command.is_about_buckets() {
            f.write_str("command_bucket_id:")?;
            write_bucket_id(f, g.command_bucket)?;
            f.write_char(',')?;
        }
        let type_ = (!g.command.is_about_buckets()).then_some(g.type_);
        let (selection, buckets) = (&g.selection, &g.buckets[..]);
        let (version, names) = (self.version, self.names);
        write!(f, "{}", GroupText { group: g.group, type_, selection, buckets, version, names })
    }
}
