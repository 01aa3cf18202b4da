//! Reading flows: one line of `add-flow`, and files of them.

use alloc::format;
use alloc::string::String;

use flow::text::scan::{Delim, Pair};
use flow::text::{MatchParser, Mode, NameMap, Pairs, TextError, Tok, parse, parse_port};
use packet::header::ethertype;

use super::actions::parse_actions;
use super::args::{parse_subfield, table_or_any, u16_arg, u64_arg, value_for};
use super::group::parse_group_id;
use crate::action::check::{Rules, check};
use crate::action::{Action, CtZone, LearnAction, LearnDst, LearnSpec, LearnSrc};
use crate::error::OfError;
use crate::flow_mod::{FlowMod, FlowModCommand, FlowModFlags};
use crate::protocol::Protocols;
use crate::subfield::Subfield;

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
    /// The formats that can say it.
    pub usable: Protocols,
}

/// Reads a flow for `command`. Add and modify need `actions=`; delete takes none.
pub fn parse_flow(
    line: &str,
    command: FlowModCommand,
    names: &dyn NameMap,
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
    let mut m = MatchParser::new(names, mode);
    for pair in Pairs::new(head) {
        let taken = keyword(&mut f, &pair, names, mode)? || m.take(&pair)?;
        if !taken && pair.key.text.contains('[') {
            take_part(&mut m, &pair)?;
        } else if !taken {
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
    let mut said = *m.so_far();
    said.forget_default_packet_type();
    // A packet type of EtherTypes is the EtherType.
    if said.key.pkt.packet_type >> 16 == 1 && said.mask.pkt.dl_type != 0 {
        said.key.pkt.dl_type = said.key.pkt.packet_type as u16;
    }
    let mut usable = of_match(&m).and(of_words(&f));
    let (match_, normalized) = m.finish()?;
    // OVS leaves it to the switch to drop what means nothing.
    f.match_ = if mode == Mode::Ovs { said } else { match_ };
    if let Some(a) = actions {
        f.actions = parse_actions(a, &said, names, mode)?;
        let rules = if mode == Mode::Ovs { Rules::Ovs } else { Rules::Tracked };
        let why = check(&f.actions, &said, f.table, rules).map(|p| {
            usable = usable.and(of_actions(&f.actions)).and(p);
        });
        let why = match why {
            Ok(()) if usable.is_empty() => Some(OfError::OFPBAC_MATCH_INCONSISTENT),
            why => why.err(),
        };
        if let Some(why) = why {
            let text = format!("actions are invalid with specified match ({})", why.name());
            return Err(TextError::new(a, text).hint("no version of OpenFlow says such a flow"));
        }
    }
    // A modification that asks for no cookie adds a flow if it finds none.
    if f.new_cookie.is_none() && f.cookie_mask == 0 && !delete {
        f.new_cookie = Some(0);
    }
    Ok(Parsed { flow: f, normalized, usable })
}

/// `NAME[FROM..TO]=NUMBER`
fn take_part<'a>(m: &mut MatchParser<'a, '_>, pair: &Pair<'a>) -> Result<(), TextError> {
    let (name, value) = (pair.key, pair.value);
    let sf = parse_subfield(name)?;
    let v = value_for(sf, value, name).map_err(|mut e| {
        if e.message.ends_with("cannot parse integer value") {
            e.message = format!("{}: {}", e.message, value.text);
        }
        e
    })?;
    if sf.row().tun_option().is_some() {
        let text = format!("{}: only the whole of {} can be matched", name.text, sf.row().name);
        return Err(TextError::new(name, text));
    }
    m.take_part(pair, sf.row(), v << sf.ofs, sf.mask())
}

/// The formats that can say what a match asks for.
fn of_match(m: &MatchParser<'_, '_>) -> Protocols {
    let fields = m.said().iter();
    let usable = fields
        .fold(Protocols::ALL, |p, &(f, mask)| p.and(Protocols::masked(f, mask, f.wire_ones())));
    let (k, w) = (&m.so_far().key.pkt, &m.so_far().mask.pkt);
    let ipv6 =
        k.dl_type == ethertype::IPV6 || k.packet_type == 1 << 16 | u32::from(ethertype::IPV6);
    let beyond = w.nw_proto != 0 || w.nw_tos != 0 || w.tp_src != 0 || w.tp_dst != 0;
    if ipv6 && beyond { usable.and(Protocols::NXM_OXM) } else { usable }
}

/// The formats that can say the rest of a flow.
fn of_words(f: &FlowMod) -> Protocols {
    let counts = FlowModFlags::NO_PKT_COUNTS | FlowModFlags::NO_BYT_COUNTS;
    let mut usable = Protocols::ALL;
    for (said, formats) in [
        (f.flags.contains(FlowModFlags::RESET_COUNTS), Protocols::OF12_UP),
        (f.flags.intersects(counts), Protocols::OF13_UP),
        (f.table.is_some(), Protocols::TABLE_ID),
        (f.out_group != crate::flow_mod::GROUP_ANY, Protocols::OF11_UP),
        (f.cookie_mask != 0, Protocols::NXM_OF11_UP),
    ] {
        if said {
            usable = usable.and(formats);
        }
    }
    usable
}

fn named(sf: Subfield) -> Protocols {
    if sf.row().oxms.is_empty() { Protocols::NONE } else { Protocols::ALL }
}

/// The same where there are only 4 bytes for a field's id.
fn named_shortly(sf: Subfield) -> Protocols {
    if crate::oxm::nicira_type(sf.row()).is_some() { Protocols::ALL } else { Protocols::NONE }
}

/// The formats that can say what `learn` asks for and sets.
fn of_learn(l: &LearnAction) -> Protocols {
    let of_spec = |s: &LearnSpec| {
        let src = match s.src {
            LearnSrc::Field(sf) => named_shortly(sf),
            LearnSrc::Value(_) => Protocols::ALL,
        };
        match s.dst {
            LearnDst::Match(sf) | LearnDst::Load(sf) => src.and(named_shortly(sf)),
            LearnDst::Output => src,
        }
    };
    let dst = l.result_dst.map_or(Protocols::ALL, named_shortly);
    l.specs.iter().fold(dst, |usable, s| usable.and(of_spec(s)))
}

/// The formats that can say actions, whatever the packets are.
fn of_actions(list: &[Action]) -> Protocols {
    list.iter().fold(Protocols::ALL, |usable, a| {
        usable.and(match a {
            Action::SetField { field, .. } if field.row().oxms.is_empty() => Protocols::NONE,
            Action::SetField { field, .. } => Protocols::exact(field.row()),
            Action::SetTunOption { .. } => Protocols::NXM_OXM,
            Action::PushVlan(_) => Protocols::OF11_UP,
            Action::Encap(_) | Action::Decap(_) | Action::DecNshTtl | Action::Meter(_) => {
                Protocols::OF13_UP
            }
            Action::ClearActions => Protocols::OF11_UP,
            Action::WriteMetadata { .. } => Protocols::NXM_OF11_UP,
            // Fields without a name on the wire cannot be said at all.
            Action::Load { dst: sf, .. }
            | Action::StackPush(sf)
            | Action::StackPop(sf)
            | Action::CheckPktLarger { dst: sf, .. }
            | Action::OutputReg { src: sf, .. } => named(*sf),
            Action::Move { src, dst } => named(*src).and(named(*dst)),
            Action::Clone(list) => of_actions(list),
            Action::WriteActions(list) => of_actions(list).and(Protocols::OF11_UP),
            Action::Learn(l) => of_learn(l),
            Action::Multipath(m) => named_shortly(m.dst),
            Action::Bundle(b) => b.dst.map_or(Protocols::ALL, named_shortly),
            Action::Ct(c) => match c.zone {
                CtZone::Field(sf) => of_actions(&c.exec).and(named_shortly(sf)),
                CtZone::Imm(_) => of_actions(&c.exec),
            },
            _ => Protocols::ALL,
        })
    })
}

/// Takes a pair that is no field. Gives false if it is not one of these words.
fn keyword(
    f: &mut FlowMod,
    pair: &Pair<'_>,
    names: &dyn NameMap,
    _mode: Mode,
) -> Result<bool, TextError> {
    let (name, value) = (pair.key.text, pair.value);
    let small = || u16_arg(value, name);
    let flag = match name {
        "send_flow_rem" => FlowModFlags::SEND_FLOW_REM,
        "check_overlap" => FlowModFlags::CHECK_OVERLAP,
        "reset_counts" => FlowModFlags::RESET_COUNTS,
        "no_packet_counts" => FlowModFlags::NO_PKT_COUNTS,
        "no_byte_counts" => FlowModFlags::NO_BYT_COUNTS,
        _ => FlowModFlags::empty(),
    };
    use FlowModCommand::{Add, Delete, DeleteStrict};
    let deletes = matches!(f.command, Delete | DeleteStrict);
    let has_meaning = match name {
        "idle_timeout" | "hard_timeout" => !deletes,
        "importance" => f.command == Add,
        "priority" => f.command != Delete,
        "out_port" | "out_group" => deletes,
        _ => flag.is_empty() || !deletes,
    };
    if !has_meaning {
        return Ok(false);
    }
    if !flag.is_empty() {
        f.flags |= flag;
        return Ok(true);
    }
    if name == "no_readonly_table" || name == "allow_hidden_fields" {
        return Ok(true);
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
            let text = format!("unknown table \"{}\"", value.text);
            f.table = table_or_any(value, text, names, Mode::Ovs)?;
        }
        "priority" => f.priority = small()?,
        "idle_timeout" => f.idle_timeout = small()?,
        "hard_timeout" => f.hard_timeout = small()?,
        "importance" => f.importance = small()?,
        "out_port" => {
            f.out_port = parse_port(value.text, names).ok_or_else(|| {
                let text = format!("{} is not a valid OpenFlow port", value.text);
                TextError::new(value, text)
            })?;
        }
        "out_group" => {
            f.out_group = parse_group_id(value.text).ok_or_else(|| {
                let text = format!("{} is not a valid OpenFlow group", value.text);
                TextError::new(value, text)
            })?;
        }
        "cookie" => cookie(f, value)?,
        "actions" => return Err(TextError::new(pair.key, "unknown keyword actions")),
        _ => {} // counters of a dump that is fed back
    }
    Ok(true)
}

fn cookie(f: &mut FlowMod, value: Tok<'_>) -> Result<(), TextError> {
    match value.split_once("/") {
        Some((_, m)) if f.command == FlowModCommand::Add => {
            return Err(TextError::new(m, "flow additions cannot use a cookie mask"));
        }
        Some((c, m)) => {
            let cookie = u64_arg(c)?;
            f.cookie_mask = u64_arg(m)?;
            f.cookie = cookie & f.cookie_mask;
        }
        None if matches!(f.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict) => {
            let c = value.text;
            let text = format!(
                "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={c}/-1)"
            );
            return Err(TextError::new(value, text));
        }
        None => {
            f.new_cookie = Some(u64_arg(value)?);
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
    names: &dyn NameMap,
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
    Some(parse_flow(&bare[at..], cmd, names, mode).map_err(|mut error| {
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
