//! `ofproto/…`, `bridge/…`: OpenFlow tables and what they would do.

use base::OfPort;
use flow::text::{PortMap, parse_exact};
use flow::{CT_STATE_FLAGS, FlowKey, extract};
use ofproto::Bridge;
use packet::PacketBuf;

use crate::control::{Answer, Command, Text};
use crate::daemon::Daemon;
use crate::hex;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command { name: "ofproto/list", usage: "", arity: (0, 0), run: list },
    Command {
        name: "ofproto/trace",
        usage: "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        arity: (1, usize::MAX),
        run: |d, args| trace(d, args).into(),
    },
];

fn list(d: &mut Daemon, _: &[String]) -> Answer {
    Ok(d.rec.bridges.keys().map(|n| format!("{n}\n")).collect()).into()
}

/// Port names of a bridge, for reading a flow.
struct Names<'a>(&'a Bridge);

impl PortMap for Names<'_> {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.0.port_by_name(name).map(|p| p.ofport)
    }

    fn name(&self, port: OfPort) -> Option<&str> {
        self.0.port(port).map(|p| p.spec.name.as_str())
    }
}

/// `est|trk`, `trk,est` or `+trk+est` as `--ct-next` takes it.
fn parse_ct_state(text: &str) -> Result<u8, String> {
    let mut state = 0;
    for word in text.split(['|', ',', '+', ' ']).filter(|w| !w.is_empty()) {
        let bit = CT_STATE_FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit);
        state |= bit.ok_or_else(|| format!("{word}: unknown ct_state flag(s)"))?;
    }
    Ok(state)
}

/// A packet written in hexadecimal.
fn parse_packet(text: &str) -> Result<Vec<u8>, String> {
    hex::parse(text).ok_or_else(|| "Trailing garbage in packet data".to_owned())
}

fn trace(d: &mut Daemon, args: &[String]) -> Text {
    let now = d.clock.now();
    let mut ct_next = Vec::new();
    let mut words = Vec::new();
    let mut generate = false;
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if let Some(state) = arg.strip_prefix("--ct-next=") {
            ct_next.push(parse_ct_state(state)?);
        } else if arg == "--ct-next" {
            let state = args.next().ok_or("Missing argument for option \"--ct-next\"")?;
            ct_next.push(parse_ct_state(state)?);
        } else if ["-generate", "--generate"].contains(&arg) {
            generate = true;
        } else if ["-consistent", "--consistent", "--names", "--no-names"].contains(&arg) {
            // Tables are looked at as they are now, under one lock: always consistent.
        } else {
            words.push(arg);
        }
    }
    let switch = d.world.switch.read();
    let (bridge, key, packet) = match words[..] {
        [flow] => datapath_flow(&switch, flow, None)?,
        [name, rest] => match switch.bridge_by_name(name) {
            Some(b) => (b, bridge_flow(b, rest)?, None),
            None if super::DATAPATHS.contains(&name) => datapath_flow(&switch, rest, None)?,
            None if name.starts_with("in_port(") || name.starts_with("recirc_id(") => {
                datapath_flow(&switch, name, Some(rest))?
            }
            None => return Err(format!("{name}: unknown bridge")),
        },
        [name, flow, packet] => match switch.bridge_by_name(name) {
            Some(b) => (b, bridge_flow(b, flow)?, Some(parse_packet(packet)?)),
            None => return Err(format!("{name}: unknown bridge")),
        },
        _ => return Err("syntax error: ofproto/trace bridge flow".to_owned()),
    };
    let mut key = key;
    if let Some(bytes) = &packet {
        let mut buf = PacketBuf::from_frame(bytes);
        let metadata = key.pkt;
        key.pkt = flow::PacketKey::ZERO;
        key.pkt.in_port = metadata.in_port;
        key.pkt.tunnel = metadata.tunnel;
        key.pkt.pkt_mark = metadata.pkt_mark;
        key.pkt.skb_priority = metadata.skb_priority;
        extract(&mut buf, &mut key.pkt);
    }
    let id = bridge.id;
    let text = switch.trace(now, id, &key, &ct_next, None);
    drop(switch);
    if generate || packet.is_some() {
        // The packet is real: what its passage makes happen besides happens.
        let mut dp_key = key.pkt;
        let switch = d.world.switch.read();
        let port = switch.bridge(id).and_then(|b| b.port(OfPort(key.pkt.in_port as u16)));
        dp_key.in_port = port.map_or(base::DpPort::NONE, |p| p.spec.dp_port).0;
        let out = switch.xlate(now, &dp_key, None);
        drop(switch);
        d.world.apply(now, &out.effects);
    }
    Ok(text)
}

fn bridge_flow(bridge: &Bridge, text: &str) -> Result<FlowKey, String> {
    parse_exact(text, &Names(bridge))
        .map_err(|e| format!("Bad openflow flow syntax: {}", e.message))
}

/// A flow in the datapath's words; its port says which bridge.
fn datapath_flow<'a>(
    switch: &'a ofproto::Switch,
    text: &str,
    packet: Option<&str>,
) -> Result<(&'a Bridge, FlowKey, Option<Vec<u8>>), String> {
    let by_name = |name: &str| {
        let (bridge, port) = switch.port_of_interface(name)?;
        Some(switch.bridge(bridge)?.port(port)?.spec.dp_port)
    };
    let (key, _) = dpif::text::parse_key(text, &by_name)
        .map_err(|e| format!("unknown bridge or bad datapath flow syntax: {e}"))?;
    let (bridge, port) = switch
        .port_of_dp(base::DpPort(key.in_port))
        .ok_or_else(|| format!("no port {} in the datapath", key.in_port))?;
    let bridge = switch.bridge(bridge).ok_or("unknown bridge")?;
    let mut flow = FlowKey::from(key);
    flow.pkt.in_port = u32::from(port.0);
    let packet = packet.map(parse_packet).transpose()?;
    Ok((bridge, flow, packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_states_in_any_spelling() {
        for text in ["trk,est", "est|trk", "+trk+est"] {
            assert_eq!(parse_ct_state(text), Ok(0x22), "{text}");
        }
        assert_eq!(parse_ct_state("bogus").unwrap_err(), "bogus: unknown ct_state flag(s)");
    }
}
