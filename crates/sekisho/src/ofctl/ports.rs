//! Ports: `mod-port`; and packets that are sent in through one.

use base::OfPort;
use flow::FieldId;
use flow::text::number::parse_number;
use flow::text::scan::Delim;
use flow::text::{MatchParser, NameMap, NoNames, Pairs, TextError, Tok, parse_port};
use openflow::Match;
use openflow::message::{Body, PacketOut, PortMod, port_config};
use openflow::text::parse_actions;

use super::Tool;
use super::query::hex_bytes;
use crate::applet::{Failure, Outcome};

/// What `mod-port` can do: word, bit, and whether the bit is set. `no-X` also reads `noX`.
const ACTIONS: [(&str, u32, bool); 14] = [
    ("up", port_config::PORT_DOWN, false),
    ("down", port_config::PORT_DOWN, true),
    ("stp", port_config::NO_STP, false),
    ("no-stp", port_config::NO_STP, true),
    ("receive", port_config::NO_RECV, false),
    ("no-receive", port_config::NO_RECV, true),
    ("receive-stp", port_config::NO_RECV_STP, false),
    ("no-receive-stp", port_config::NO_RECV_STP, true),
    ("flood", port_config::NO_FLOOD, false),
    ("no-flood", port_config::NO_FLOOD, true),
    ("forward", port_config::NO_FWD, false),
    ("no-forward", port_config::NO_FWD, true),
    ("packet-in", port_config::NO_PACKET_IN, false),
    ("no-packet-in", port_config::NO_PACKET_IN, true),
];

pub(super) fn mod_port(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let (target, port, word) = (&args[0], &args[1], &args[2]);
    let number = parse_port(port, &NoNames);
    let all = tool.port_descriptions(target)?;
    let found = match number {
        Some(n) => all.iter().find(|p| p.port == n),
        None => all.iter().find(|p| p.name == *port),
    };
    let desc =
        found.ok_or_else(|| Failure::fatal(format!("{target}: couldn't find port `{port}'")))?;
    let plain = |s: &str| s.to_ascii_lowercase().replacen("no-", "no", 1);
    let action = ACTIONS.iter().find(|a| plain(a.0) == plain(word));
    let (_, bit, set) =
        action.ok_or_else(|| Failure::fatal(format!("unknown mod-port command '{word}'")))?;
    let change = PortMod {
        port: desc.port,
        hw_addr: desc.hw_addr,
        config: if *set { *bit } else { 0 },
        mask: *bit,
        advertise: 0,
    };
    let mut conn = tool.open(target)?;
    tool.change(&mut conn, Body::PortMod(change), false)?;
    Ok(0)
}

/// Bytes of an Ethernet header.
const ETH_HEADER: usize = 14;

/// Reads a frame in hexadecimal.
fn frame(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = hex_bytes(text).ok_or("Trailing garbage in packet data")?;
    match bytes.len() {
        0..ETH_HEADER => Err("Packet data too short for Ethernet"),
        _ => Ok(bytes),
    }
}

/// Reads `in_port=1,packet=…,actions=…`.
pub(super) fn parse_packet_out(
    text: &str,
    names: &dyn NameMap,
    mode: flow::text::Mode,
) -> Result<PacketOut, TextError> {
    let whole = Tok::line(text);
    let end = whole.slice(text.len()..text.len());
    let (head, actions) = match text.find("action") {
        Some(at) => {
            let rest = whole.slice(at..text.len());
            (whole.slice(0..at), rest.split_once("=").map(|(_, b)| b))
        }
        None => (whole, None),
    };
    let mut m = MatchParser::new(names, mode);
    let mut packet = None;
    let mut packet_type = 0;
    for pair in Pairs::new(head) {
        match pair.key.text {
            "packet" => {
                let bytes = frame(pair.value.text)
                    .map_err(|e| TextError::new(pair.value, format!("packet: {e}")))?;
                packet = Some(bytes);
            }
            // `packet_type(NS,TYPE)`, which is no match's notation.
            "packet_type" if pair.delim == Delim::Paren => {
                let number = |text: &str| parse_number(text.trim()).flatten();
                let parts = pair.value.text.split_once(',');
                let parts = parts.and_then(|(ns, ty)| Some((number(ns)?, number(ty)?)));
                let bad = || {
                    let text = format!("packet_type({}) can't be interpreted", pair.value.text);
                    TextError::new(pair.value, text).hint("packet_type(NS,TYPE)")
                };
                let (ns, ty) = parts.ok_or_else(bad)?;
                packet_type = u32::from(u16::try_from(ns).map_err(|_| bad())?) << 16
                    | u32::from(u16::try_from(ty).map_err(|_| bad())?);
            }
            "in_port" if parse_port(pair.value.text, names).is_none() => {
                let text = format!("{} is not a valid OpenFlow port", pair.value.text);
                return Err(TextError::new(pair.value, text));
            }
            key => {
                if !m.take(&pair)? {
                    let text = match pair.delim {
                        Delim::None => format!("field {key} missing value"),
                        _ => format!("unknown keyword {key}"),
                    };
                    return Err(TextError::new(pair.key, text).hint(
                        "in_port, packet, metadata, registers, tunnel fields, then actions",
                    ));
                }
            }
        }
    }
    let packet = packet.ok_or_else(|| {
        TextError::new(end, "must specify packet").hint("packet=HEX before actions=")
    })?;
    let actions = actions.ok_or_else(|| TextError::new(end, "must specify an action"))?;
    let (mut metadata, _) = m.finish()?;
    let actions = parse_actions(actions, &Match::ANY, names, mode)?;
    if metadata.mask.pkt.in_port == 0 {
        metadata.set(FieldId::InPort, OfPort::CONTROLLER.0.into(), 0xffff);
    }
    metadata.set(FieldId::PacketType, packet_type.into(), u32::MAX.into());
    Ok(PacketOut { buffer_id: None, metadata, actions, packet })
}

pub(super) fn packet_out(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let target = &args[0];
    let mut all = Vec::new();
    match args {
        [_, text] => {
            let names = tool.names_in(target)?;
            all.push(
                parse_packet_out(text, &names, tool.settings.mode)
                    .map_err(|e| tool.bad_text(None, text, &e))?,
            );
        }
        [_, _, _] => return Err(Failure::fatal("Too many arguments (4)")),
        [_, port, actions, packets @ ..] => {
            let names = tool.names_in(target)?;
            let list = parse_actions(Tok::line(actions), &Match::ANY, &names, tool.settings.mode)
                .map_err(|e| tool.bad_text(None, actions, &e))?;
            let in_port = parse_port(port, &names)
                .ok_or_else(|| Failure::fatal(format!("{target}: unknown port `{port}'")))?;
            for text in packets {
                let packet = frame(text).map_err(Failure::fatal)?;
                let mut metadata = Match::ANY;
                metadata.set(FieldId::InPort, in_port.0.into(), 0xffff);
                all.push(PacketOut { buffer_id: None, metadata, actions: list.clone(), packet });
            }
        }
        _ => {}
    }
    let mut conn = tool.open(target)?;
    for out in all {
        tool.change(&mut conn, Body::PacketOut(Box::new(out)), false)?;
    }
    Ok(0)
}
