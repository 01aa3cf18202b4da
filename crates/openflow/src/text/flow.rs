//! Reading flows: one line of `add-flow`, and files of them.

use alloc::format;
use alloc::string::String;

use base::TableId;
use flow::text::number::parse_number;
use flow::text::scan::{Delim, Pair};
use flow::text::{MatchParser, Mode, Pairs, PortMap, TextError, Tok, parse, parse_port};

use super::actions::parse_actions;
use crate::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};

/// Words of a flow that are not fields.
pub const KEYWORDS: [&str; 15] = [
    "table",
    "priority",
    "cookie",
    "idle_timeout",
    "hard_timeout",
    "importance",
    "out_port",
    "out_group",
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte_counts",
    "actions",
    "duration",
];

/// A flow that was read, and whether OVS's mode dropped fields of its match.
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed {
    /// The flow.
    pub flow: FlowMod,
    /// Requirements without their prerequisites were dropped.
    pub normalized: bool,
}

/// Reads a flow for `command`. Add and modify need `actions=`; delete takes none.
pub fn parse_flow(
    line: &str,
    command: FlowModCommand,
    ports: &dyn PortMap,
    mode: Mode,
) -> Result<Parsed, TextError> {
    let whole = Tok::line(line);
    let delete = matches!(command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    let mut f = FlowMod { command, ..FlowMod::default() };
    // Everything behind `actions=` belongs to the actions.
    let (head, actions) = match (delete, line.find("action")) {
        (true, _) | (false, None) => (whole, None),
        (false, Some(at)) => {
            let rest = whole.slice(at..line.len());
            let body = rest.split_once("=").map(|(_, b)| b);
            (whole.slice(0..at), body)
        }
    };
    if !delete && actions.is_none() {
        let end = whole.slice(line.len()..line.len());
        return Err(TextError::new(end, "must specify an action")
            .hint("end the flow with actions=ACTION[,ACTION...], e.g. actions=drop"));
    }
    let mut m = MatchParser::new(ports, mode);
    for pair in Pairs::new(head) {
        if !keyword(&mut f, &pair, ports, mode)? && !m.take(&pair)? {
            if pair.delim == Delim::None {
                let name = pair.key.text;
                return Err(TextError {
                    message: format!("field {name} missing value"),
                    ..parse::unknown_key(pair.key, &KEYWORDS)
                });
            }
            return Err(parse::unknown_key(pair.key, &KEYWORDS));
        }
    }
    let (match_, normalized) = m.finish()?;
    f.match_ = match_;
    if let Some(a) = actions {
        f.actions = parse_actions(a, &f.match_, ports, mode)?;
    }
    // A modification that asks for no cookie adds a flow if it finds none.
    if f.new_cookie.is_none() && f.cookie_mask == 0 && !delete {
        f.new_cookie = Some(0);
    }
    Ok(Parsed { flow: f, normalized })
}

fn small(pair: &Pair<'_>) -> Result<u16, TextError> {
    let bad = || {
        let text = format!("invalid {} \"{}\"", pair.key.text, pair.value.text);
        TextError::new(pair.value, text).hint("a number from 0 to 65535")
    };
    parse_number(pair.value.text).flatten().and_then(|n| u16::try_from(n).ok()).ok_or_else(bad)
}

/// Takes a pair that is no field. Gives false if it is not one of these words.
fn keyword(
    f: &mut FlowMod,
    pair: &Pair<'_>,
    ports: &dyn PortMap,
    _mode: Mode,
) -> Result<bool, TextError> {
    let (name, value) = (pair.key.text, pair.value);
    let flag = match name {
        "send_flow_rem" => FlowModFlags::SEND_FLOW_REM,
        "check_overlap" => FlowModFlags::CHECK_OVERLAP,
        "reset_counts" => FlowModFlags::RESET_COUNTS,
        "no_packet_counts" => FlowModFlags::NO_PKT_COUNTS,
        "no_byte_counts" => FlowModFlags::NO_BYT_COUNTS,
        _ => FlowModFlags::empty(),
    };
    if !flag.is_empty() {
        f.flags |= flag;
        return Ok(true);
    }
    if name == "no_readonly_table" || name == "allow_hidden_fields" {
        return Ok(true);
    }
    // They say nothing of what is to be deleted.
    let of_new = matches!(name, "idle_timeout" | "hard_timeout" | "importance");
    if of_new && matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict) {
        return Ok(false);
    }
    if !KEYWORDS.contains(&name)
        && !matches!(name, "n_packets" | "n_bytes" | "idle_age" | "hard_age")
    {
        return Ok(false);
    }
    if value.text.is_empty() {
        return Err(TextError::new(pair.key, format!("field {name} missing value")));
    }
    match name {
        "table" => {
            let table = parse_number(value.text).flatten().and_then(|n| u8::try_from(n).ok());
            let table = table.ok_or_else(|| {
                TextError::new(value, format!("unknown table \"{}\"", value.text))
                    .hint("tables are numbered 0 to 254")
            })?;
            f.table = (table != 255).then_some(TableId(table));
        }
        "priority" => f.priority = small(pair)?,
        "idle_timeout" => f.idle_timeout = small(pair)?,
        "hard_timeout" => f.hard_timeout = small(pair)?,
        "importance" => f.importance = small(pair)?,
        "out_port" => {
            f.out_port = parse_port(value.text, ports).ok_or_else(|| {
                let text = format!("{} is not a valid OpenFlow port", value.text);
                TextError::new(value, text)
            })?;
        }
        "out_group" => {
            let n = match value.text {
                "any" | "ANY" => Some(crate::flow_mod::GROUP_ANY),
                t => parse_number(t).flatten().and_then(|n| u32::try_from(n).ok()),
            };
            f.out_group = n.ok_or_else(|| {
                TextError::new(value, format!("invalid out_group: {}", value.text))
            })?;
        }
        "cookie" => cookie(f, value)?,
        "actions" => return Err(TextError::new(pair.key, "unknown keyword actions")),
        _ => {} // counters of a dump that is fed back
    }
    Ok(true)
}

fn cookie(f: &mut FlowMod, value: Tok<'_>) -> Result<(), TextError> {
    let number = |t: Tok<'_>| {
        let n = parse_number(t.text).flatten().and_then(|n| u64::try_from(n).ok());
        n.ok_or_else(|| {
            TextError::new(t, format!("{}: bad syntax for cookie", t.text))
                .hint("a 64-bit number, like 0x1234")
        })
    };
    match value.split_once("/") {
        Some((_, m)) if f.command == FlowModCommand::Add => {
            return Err(TextError::new(m, "flow additions cannot use a cookie mask"));
        }
        Some((c, m)) => {
            f.cookie_mask = if m.text == "-1" { u64::MAX } else { number(m)? };
            f.cookie = number(c)? & f.cookie_mask;
        }
        None if matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict) => {
            let c = value.text;
            let text = format!(
                "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={c}/-1)"
            );
            return Err(TextError::new(value, text));
        }
        None => {
            f.new_cookie = Some(number(value)?);
            f.modify_cookie = f.command != FlowModCommand::Add;
        }
    }
    Ok(())
}

/// A line of a file that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineError {
    /// 1-based.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What is wrong in it.
    pub error: TextError,
}

/// Reads one line of a file of flows, which may begin with a command if none is given. `None` for
/// blank lines and comments.
pub fn parse_line(
    line: &str,
    command: Option<FlowModCommand>,
    ports: &dyn PortMap,
    mode: Mode,
) -> Option<Result<Parsed, TextError>> {
    let bare = line.split('#').next().unwrap_or_default();
    if bare.trim().is_empty() {
        return None;
    }
    let (cmd, at) = match command {
        Some(c) => (c, 0),
        None => line_command(bare),
    };
    Some(parse_flow(&bare[at..], cmd, ports, mode).map_err(|mut error| {
        error.span = error.span.start + at..error.span.end + at;
        error
    }))
}

/// The command word of a line, `add` without one, and where the flow begins.
fn line_command(line: &str) -> (FlowModCommand, usize) {
    use FlowModCommand::{Add, Delete, DeleteStrict, Modify, ModifyStrict};
    let start = line.len() - line.trim_start().len();
    for (word, c) in [
        ("add", Add),
        ("modify_strict", ModifyStrict),
        ("modify", Modify),
        ("delete_strict", DeleteStrict),
        ("delete", Delete),
    ] {
        if let Some(rest) = line[start..].strip_prefix(word)
            && (rest.is_empty() || rest.starts_with([' ', '\t']))
        {
            return (c, start + word.len());
        }
    }
    (Add, start)
}
