//! `netdev-dummy/…`: the world's side of simulated devices.

use std::net::Ipv4Addr;

use netdev::FRAME_CAPACITY;
use packet::header::ETH_LEN;

use crate::control::{Command, Text};
use crate::daemon::Daemon;
use crate::hex;
use crate::sim::SimDevice;

/// The table.
pub(super) const COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "netdev-dummy/receive",
        usage: "name [--qid queue_id] packet|flow [--len packet_len]",
        arity: (2, usize::MAX),
        run: |d, args| receive(d, args).into(),
    },
    Command {
        name: "netdev-dummy/set-admin-state",
        usage: "[netdev] up|down",
        arity: (1, 2),
        run: |d, args| set_admin_state(d, args).into(),
    },
    Command {
        name: "netdev-dummy/conn-state",
        usage: "[netdev]",
        arity: (0, 1),
        run: |d, args| conn_state(d, args).into(),
    },
    Command {
        name: "netdev-dummy/ip4addr",
        usage: "[netdev] ipaddr/mask-prefix-len",
        arity: (2, 2),
        run: |d, args| ip4addr(d, args).into(),
    },
];

/// Bytes in a frame made from a flow: as many as OVS puts there, counting up.
const PAYLOAD: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

fn device<'a>(d: &'a mut Daemon, name: &str) -> Option<&'a mut SimDevice> {
    d.rec.host.sim.as_mut()?.get_mut(name)
}

fn receive(d: &mut Daemon, args: &[String]) -> Text {
    let (name, rest) = args.split_first().ok_or("no such dummy netdev")?;
    if device(d, name).is_none() {
        return Err("no such dummy netdev".to_owned());
    }
    let n_queues = device(d, name).map_or(0, |device| device.n_queues());
    let (queue, rest) = match rest {
        [option, queue, rest @ ..] if option == "--qid" && !rest.is_empty() => {
            let queue = queue.parse().ok().filter(|q| *q < n_queues);
            (queue.ok_or("bad rx queue id.")?, rest)
        }
        rest => (0, rest),
    };
    let frames = frames(d, rest)?;
    if let Some(device) = device(d, name) {
        for frame in &frames {
            device.receive_by(queue, frame);
        }
    }
    d.settle();
    Ok(String::new())
}

/// Frames written in hexadecimal or as the datapath's flow.
fn frames(d: &Daemon, mut args: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let mut frames = Vec::new();
    while let [first, rest @ ..] = args {
        args = rest;
        if let Some(frame) = hex::parse(first).filter(|f| f.len() >= ETH_LEN) {
            if frame.len() > FRAME_CAPACITY {
                return Err("too large packet".to_owned());
            }
            frames.push(frame);
            continue;
        }
        let port = |name: &str| d.rec.dp_port_by_name(name);
        let (key, _) = dpif::text::parse_key(first, &port).map_err(|e| e.to_string())?;
        match args {
            [option, len, rest @ ..] if option == "--len" => {
                args = rest;
                let len = len.parse().ok().filter(|n| *n >= ETH_LEN);
                let len = len.ok_or("too small packet len")?;
                if len > FRAME_CAPACITY {
                    return Err("too large packet len".to_owned());
                }
                let frame = flow::compose(&key, &[], len);
                if frame.len() > len {
                    return Err(String::new());
                }
                frames.push(frame);
            }
            _ => frames.push(flow::compose(&key, &PAYLOAD, 0)),
        }
    }
    Ok(frames)
}

fn set_admin_state(d: &mut Daemon, args: &[String]) -> Text {
    let (state, name) = match args {
        [state] => (state, None),
        [name, state, ..] => (state, Some(name)),
        [] => return Err("Invalid Admin State".to_owned()),
    };
    let up = match state.to_ascii_lowercase().as_str() {
        "up" => true,
        "down" => false,
        _ => return Err("Invalid Admin State".to_owned()),
    };
    let names: Vec<String> = match (name, &mut d.rec.host.sim) {
        (Some(name), Some(sim)) if sim.get(name).is_some() => vec![name.clone()],
        (None, Some(sim)) => sim.iter().map(|(name, _)| name.clone()).collect(),
        _ => return Err("Unknown Dummy Interface".to_owned()),
    };
    for name in names {
        if let Some(device) = device(d, &name) {
            device.link.up = up;
        }
        d.link_changed(&name);
    }
    Ok("OK".to_owned())
}

fn conn_state(d: &mut Daemon, args: &[String]) -> Text {
    let word = |connected| match connected {
        Some(true) => "connected",
        Some(false) => "disconnected",
        None => "unknown",
    };
    let Some(sim) = &d.rec.host.sim else { return Ok(String::new()) };
    if let Some(name) = args.first() {
        let connected = sim.get(name).and_then(SimDevice::is_connected);
        return Ok(format!("{name}: {}\n", word(connected)));
    }
    let all = sim.iter().map(|(name, device)| (name, device.is_connected()));
    let known = all.filter(|(_, connected)| connected.is_some());
    Ok(known.map(|(name, connected)| format!("{name}: {}\n", word(connected))).collect())
}

fn ip4addr(d: &mut Daemon, args: &[String]) -> Text {
    let device = device(d, &args[0]).ok_or("Unknown Dummy Interface")?;
    let (address, plen) = args[1].split_once('/').unwrap_or((&args[1], "32"));
    let prefix = plen.parse().ok().filter(|n: &u8| *n <= 32);
    let parsed = address.parse::<Ipv4Addr>().ok().zip(prefix);
    let (address, _) = parsed.ok_or_else(|| format!("{}: invalid IP address", args[1]))?;
    device.add_address(address);
    Ok("OK".to_owned())
}
