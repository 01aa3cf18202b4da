//! `bundle`: changes of several kinds from a file, all or none of them (`ovs-ofctl(8)`).

use base::TableId;
use flow::text::{NameMap, TextError};
use openflow::FlowModCommand;
use openflow::message::Body;
use openflow::text::flow::parse_line;
use openflow::text::parse_group;

use super::Tool;
use super::change::{Source, read_file, send_all};
use super::ports::parse_packet_out;
use super::protocols::{self, Protocols};
use crate::applet::Outcome;

/// Reads a line: `flow`, `group` or `packet-out` and what these commands take; gives it with the formats
/// that can say it. `None` for blank lines and comments.
fn parse(
    line: &str,
    names: &dyn NameMap,
    mode: flow::text::Mode,
) -> Option<Result<(Body, Protocols), TextError>> {
    let bare = line.split('#').next().unwrap_or_default();
    let start = bare.len() - bare.trim_start().len();
    let word = bare[start..].split([' ', '\t', ',']).next().filter(|w| !w.is_empty())?;
    let at = start + word.len();
    let rest = &bare[at..];
    let parsed = match word {
        // A flow without a command is added.
        "flow" => parse_line(rest, None, names, mode)
            .unwrap_or_else(|| openflow::text::parse_flow("", FlowModCommand::Add, names, mode))
            .map(|p| {
                let usable = p.usable;
                let mut flow = p.flow;
                let delete =
                    matches!(flow.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
                if !delete {
                    flow.table.get_or_insert(TableId(0));
                }
                (Body::FlowMod(Box::new(flow)), usable)
            }),
        "group" => parse_group(rest, None, names, mode).map(|g| {
            let usable = protocols::usable_group(&g);
            (Body::GroupMod(Box::new(g.group)), usable)
        }),
        "packet-out" => parse_packet_out(rest, names, mode)
            .map(|p| (Body::PacketOut(Box::new(p)), Protocols::ALL)),
        _ => {
            let tok = flow::text::Tok::line(bare).slice(start..at);
            let text = format!("Unsupported bundle message type: {word}");
            return Some(Err(TextError::new(tok, text).hint("flow, group or packet-out")));
        }
    };
    Some(parsed.map_err(|mut e| {
        if e.span.end <= rest.len() {
            e.span = e.span.start + at..e.span.end + at;
        }
        e
    }))
}

pub(super) fn bundle(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let names = tool.names_in(&args[0])?;
    let text = read_file(&args[1], "open failed")?;
    let mut usable = tool.settings.protocols;
    let mut bodies = Vec::new();
    let mut source = Source::new(tool, &args[1], &text);
    for (i, line) in text.lines().enumerate() {
        let Some(parsed) = parse(line, &names, tool.settings.mode) else { continue };
        let (body, can) = parsed.map_err(|e| tool.bad_text(Some((&args[1], i + 1)), line, &e))?;
        usable = usable.and(can);
        bodies.push(body);
        source.push(i + 1);
    }
    let (mut conn, protocol) = protocols::open(tool, &args[0], usable)?;
    send_all(tool, &mut conn, protocol, bodies, Some(&source))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::text::Mode;

    #[test]
    fn lines() {
        let names = flow::text::NoNames;
        let kind = |line: &str| match parse(line, &names, Mode::Strict)? {
            Ok((Body::FlowMod(f), _)) => Some(format!("{:?}", f.command)),
            Ok((Body::GroupMod(_), _)) => Some("group".to_owned()),
            Ok((Body::PacketOut(_), _)) => Some("packet".to_owned()),
            Ok(_) => None,
            Err(e) => Some(format!("{}-{} {}", e.span.start, e.span.end, e.message)),
        };
        let is = |line, want: &str| assert_eq!(kind(line).as_deref(), Some(want), "{line}");
        is("flow ip,actions=drop", "Add");
        is(" flow delete ip", "Delete");
        is("flow modify_strict ip,actions=1", "ModifyStrict");
        is("group add group_id=1,type=all,bucket=output:2", "group");
        is("packet-out in_port=1,packet=0102030405060708090a0b0c0d0e,actions=2", "packet");
        is("meter x", "0-5 Unsupported bundle message type: meter");
        is("flow ipx,actions=drop", "5-8 field ipx missing value");
        assert_eq!(kind("# nothing"), None);
        assert_eq!(kind(""), None);
    }
}
