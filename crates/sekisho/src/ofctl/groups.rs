//! Commands for groups and meters.

use flow::text::{Mode, NoNames};
use openflow::flow_mod::GROUP_ALL;
use openflow::message::{
    Body, GroupCommand, Message, MeterCommand, MeterConfig, MeterMod, meter_id,
};
use openflow::print::{BytesText, Style};
use openflow::text::group::parse_group_id;
use openflow::text::{ParsedGroup, parse_group, parse_group_file, parse_meter, parse_meter_id};
use openflow::version::Version;

use super::change::{self, read_file};
use super::protocols::{self, Protocols};
use super::{Tool, query};
use crate::applet::{Failure, Outcome};

/// The formats of the versions that have meters.
fn with_meters() -> Protocols {
    Protocols::of_versions(Version::Of13.bit() | Version::Of14.bit() | Version::Of15.bit())
}

/// Sends group mods, one after the other until one fails, or as a bundle.
fn send(
    tool: &mut Tool<'_, '_>,
    target: &str,
    groups: Vec<ParsedGroup>,
    source: Option<&change::Source<'_>>,
) -> Outcome {
    let mut usable =
        groups.iter().fold(Protocols::ALL, |set, g| set.and(protocols::usable_group(g)));
    if tool.settings.bundle {
        usable = usable.and(with_meters()); // which are those that have bundles
    }
    let (mut conn, protocol) = protocols::open(tool, target, usable)?;
    if !protocols::has_buckets(conn.version) {
        let word = groups.iter().find_map(|g| match g.group.command {
            GroupCommand::InsertBucket => Some("insert-bucket"),
            GroupCommand::RemoveBucket => Some("remove-bucket"),
            _ => None,
        });
        if let Some(word) = word {
            let text = format!("{word} needs OpenFlow 1.5 or later ('-O OpenFlow15')");
            return Err(Failure::fatal(text));
        }
    }
    let bodies = groups.into_iter().map(|g| Body::GroupMod(Box::new(g.group))).collect();
    change::send_all(tool, &mut conn, protocol, bodies, source)?;
    Ok(0)
}

/// Reads a file of groups and sends them.
fn file(tool: &mut Tool<'_, '_>, args: &[String], command: Option<GroupCommand>) -> Outcome {
    let names = tool.names_in(&args[0])?;
    let name = &args[1];
    let text = read_file(name, "open failed")?;
    let shown = change::shown(tool, name);
    let groups = parse_group_file(&text, command, &names, tool.settings.mode)
        .map_err(|e| tool.bad_text(Some((shown, e.line)), &e.text, &e.error))?;
    let mut source = change::Source::new(tool, name, &text);
    groups.iter().for_each(|g| source.push(g.0));
    send(tool, &args[0], groups.into_iter().map(|g| g.1).collect(), Some(&source))
}

/// Reads the group of a command line.
fn read(
    tool: &mut Tool<'_, '_>,
    args: &[String],
    command: GroupCommand,
) -> Result<ParsedGroup, Failure> {
    let text = args.get(1).map_or("", String::as_str);
    let names = tool.names_in(&args[0])?;
    parse_group(text, Some(command), &names, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, text, &e))
}

fn one(tool: &mut Tool<'_, '_>, args: &[String], command: GroupCommand) -> Outcome {
    if args.get(1).is_some_and(|t| t == "-") {
        // A file may say for every line what to do.
        return file(tool, args, (command != GroupCommand::Add).then_some(command));
    }
    let group = read(tool, args, command)?;
    send(tool, &args[0], vec![group], None)
}

pub(super) fn add_group(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    one(tool, args, GroupCommand::Add)
}

pub(super) fn add_groups(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    file(tool, args, None)
}

pub(super) fn mod_group(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let command = match tool.settings.may_create {
        true => GroupCommand::AddOrModify,
        false => GroupCommand::Modify,
    };
    one(tool, args, command)
}

pub(super) fn del_groups(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    one(tool, args, GroupCommand::Delete)
}

pub(super) fn insert_buckets(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    one(tool, args, GroupCommand::InsertBucket)
}

pub(super) fn remove_buckets(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    one(tool, args, GroupCommand::RemoveBucket)
}

pub(super) fn dump_groups(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let group = match args.get(1) {
        None => GROUP_ALL,
        Some(text) => match parse_group_id(text) {
            Some(id) => id,
            // OVS's tool warns and shows all.
            None if tool.settings.mode == Mode::Ovs => GROUP_ALL,
            None => {
                let text = format!(
                    "{text} is not a valid group ID.  (Valid group IDs are 32-bit nonnegative \
                     integers or the keywords ANY or ALL.)"
                );
                return Err(Failure::fatal(text));
            }
        },
    };
    query::dump_one(tool, &args[0], Body::GroupDescRequest(group))
}

pub(super) fn dump_group_stats(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let group = read(tool, args, GroupCommand::Delete)?.group.group;
    query::dump_one(tool, &args[0], Body::GroupStatsRequest(group))
}

pub(super) fn dump_group_features(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    query::dump_one(tool, &args[0], Body::GroupFeaturesRequest)
}

/// Prints a group as it would be sent.
pub(super) fn parse_group_command(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let parsed = parse_group(&args[0], Some(GroupCommand::Add), &NoNames, tool.settings.mode)
        .map_err(|e| tool.bad_text(None, &args[0], &e))?;
    let usable = protocols::usable_group(&parsed);
    writeln!(tool.session.out, "usable protocols: {usable}")?;
    let Some(protocol) = usable.and(tool.settings.protocols).iter().next() else {
        return Err(Failure::fatal("no usable protocol"));
    };
    let version = protocol.version;
    writeln!(tool.session.out, "chosen version: {}", version.name())?;
    let message = Message::new(version, tool.next_xid(), Body::GroupMod(Box::new(parsed.group)));
    let session = openflow::message::Session::default();
    let bytes = message.encode(session).map_err(|e| Failure::fatal(e.to_string()))?;
    let style = Style { names: &NoNames, verbosity: tool.settings.verbosity, session };
    write!(tool.session.out, "{}", BytesText { bytes: &bytes, style })?;
    Ok(0)
}

fn change_meter(tool: &mut Tool<'_, '_>, args: &[String], command: MeterCommand) -> Outcome {
    let all = MeterConfig { meter: meter_id::ALL, ..MeterConfig::default() };
    let meter = match args.get(1) {
        Some(text) => parse_meter(text, command).map_err(|e| tool.bad_text(None, text, &e))?,
        None => MeterMod { command, meter: all },
    };
    let (mut conn, _) = protocols::open(tool, &args[0], with_meters())?;
    tool.change(&mut conn, Body::MeterMod(Box::new(meter)), false)?;
    Ok(0)
}

pub(super) fn add_meter(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    change_meter(tool, args, MeterCommand::Add)
}

pub(super) fn mod_meter(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    change_meter(tool, args, MeterCommand::Modify)
}

pub(super) fn del_meters(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    change_meter(tool, args, MeterCommand::Delete)
}

fn ask_meters(tool: &mut Tool<'_, '_>, args: &[String], body: fn(u32) -> Body) -> Outcome {
    let meter = match args.get(1) {
        Some(text) => parse_meter_id(text).map_err(|e| tool.bad_text(None, text, &e))?,
        None => meter_id::ALL,
    };
    let (mut conn, _) = protocols::open(tool, &args[0], with_meters())?;
    let request = conn.message(tool.next_xid(), body(meter));
    query::dump(tool, &mut conn, &request)
}

pub(super) fn dump_meters(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    ask_meters(tool, args, Body::MeterConfigRequest)
}

pub(super) fn meter_stats(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    ask_meters(tool, args, Body::MeterStatsRequest)
}

pub(super) fn meter_features(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    ask_meters(tool, args, |_| Body::MeterFeaturesRequest)
}
