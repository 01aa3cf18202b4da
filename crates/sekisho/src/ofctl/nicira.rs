//! Nicira's extensions: flushing connections, and the table of tunnel options.

use flow::TlvMap;
use openflow::message::{Body, TlvCommand, TlvTableMod};
use openflow::text::ct_flush;

use super::Tool;
use super::protocols::{self, Protocols};
use crate::applet::{Failure, Outcome};

pub(super) fn ct_flush_zone(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let zone = number(&args[1])
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| Failure::fatal(format!("invalid zone_id \"{}\"", args[1])))?;
    let mut conn = tool.open(&args[0])?;
    tool.change(&mut conn, Body::CtFlushZone(zone), false)?;
    Ok(0)
}

pub(super) fn ct_flush(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let which = ct_flush::parse(&args[1..])
        .map_err(|e| Failure::fatal(format!("Failed to parse CT match: {e}")))?;
    let mut conn = tool.open(&args[0])?;
    tool.change(&mut conn, Body::CtFlush(Box::new(which)), false)?;
    Ok(0)
}

/// A number in C's notations.
fn number(text: &str) -> Option<u128> {
    flow::text::number::parse_number(text).flatten()
}

/// Reads `{class=N,type=N,len=N}->tun_metadataN[,…]`.
fn parse_tlv_maps(text: &str) -> Option<Vec<TlvMap>> {
    let mut maps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (head, tail) = rest.strip_prefix('{')?.split_once("}->tun_metadata")?;
        let [class, typ, len] = head.split(',').collect::<Vec<_>>()[..] else { return None };
        let value = |text: &str, key: &str| number(text.trim().strip_prefix(key)?);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        maps.push(TlvMap {
            class: value(class, "class=")?.try_into().ok()?,
            kind: value(typ, "type=")?.try_into().ok()?,
            len: value(len, "len=")?.try_into().ok()?,
            index: tail[..end].parse().ok()?,
        });
        rest = match &tail[end..] {
            "" => "",
            more => more.strip_prefix(',')?,
        };
    }
    Some(maps)
}

fn change_tlv_maps(tool: &mut Tool<'_, '_>, args: &[String], command: TlvCommand) -> Outcome {
    let text = args.get(1).map_or("", String::as_str);
    let maps = parse_tlv_maps(text).ok_or_else(|| Failure::fatal("invalid tlv mapping"))?;
    // Options are matched in formats of Nicira's and later ones.
    let (mut conn, _) = protocols::open(tool, &args[0], Protocols::NXM_OXM)?;
    tool.change(&mut conn, Body::TlvTableMod(TlvTableMod { command, maps }), false)?;
    Ok(0)
}

pub(super) fn add_tlv_map(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    change_tlv_maps(tool, args, TlvCommand::Add)
}

pub(super) fn del_tlv_map(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let command = if args.len() > 1 { TlvCommand::Delete } else { TlvCommand::Clear };
    change_tlv_maps(tool, args, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnel_options() {
        let maps = parse_tlv_maps(
            "{class=0xffff,type=0,len=4}->tun_metadata0,{class=1,type=0x2,len=8}->tun_metadata63",
        );
        let second = TlvMap { class: 1, kind: 2, len: 8, index: 63 };
        assert_eq!(maps.unwrap()[1], second);
        assert_eq!(parse_tlv_maps(""), Some(vec![]));
        for bad in ["x", "{class=1,type=2}->tun_metadata0", "{class=1,type=2,len=4}->tun_metadata"]
        {
            assert_eq!(parse_tlv_maps(bad), None, "{bad}");
        }
    }
}
