//! `monitor` and `snoop`: messages printed as they come.

use std::time::{SystemTime, UNIX_EPOCH};

use openflow::message::{Body, PacketInFormat, SwitchConfig};

use super::conn::{Conn, Socket};
use super::{Tool, query};
use crate::applet::{Failure, Outcome};
use crate::control::utc;

/// Prints what comes until the other end is gone.
fn watch(tool: &mut Tool<'_, '_>, conn: &mut Conn, answer: bool, target: &str) -> Outcome {
    let names = tool.names_out(target)?;
    loop {
        let bytes = conn.next(answer)?;
        if tool.settings.timestamp {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let date = utc(now.as_secs()).replace('T', " ").replace('Z', "");
            writeln!(tool.session.out, "{date}.{:03}: ", now.subsec_millis())?;
        }
        let map = names.as_ref().map(|n| n as &dyn flow::text::PortMap);
        let text = conn.text(&bytes, map, tool.settings.verbosity + 2);
        tool.session.out.write_all(text.as_bytes())?;
        tool.session.out.flush()?;
    }
}

/// Asks for packet-ins in a form: the one of `-P`, which must be known, or the best that is.
fn set_packet_in(tool: &mut Tool<'_, '_>, conn: &mut Conn) -> Result<(), Failure> {
    if let Some(format) = tool.settings.packet_in {
        return tool.change(conn, Body::SetPacketInFormat(format), false);
    }
    for format in [PacketInFormat::Nxt2, PacketInFormat::Nxt] {
        let request = conn.message(tool.next_xid(), Body::SetPacketInFormat(format));
        let barrier = tool.next_xid();
        if conn.change(&request, barrier)?.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) fn monitor(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut miss_send_len = None;
    let mut invalid_ttl = false;
    for arg in &args[1..] {
        match arg.parse::<u16>() {
            Ok(len) => miss_send_len = Some(len),
            Err(_) if arg == "invalid_ttl" => invalid_ttl = true,
            Err(_) => {
                let text = format!("{arg}: unsupported \"monitor\" argument");
                return Err(Failure::fatal(text));
            }
        }
    }
    let mut conn = tool.open(&args[0])?;
    if miss_send_len.is_some() || invalid_ttl {
        let old = query::config(tool, &mut conn)?;
        let config = SwitchConfig {
            miss_send_len: miss_send_len.unwrap_or(old.miss_send_len),
            invalid_ttl_to_controller: match invalid_ttl {
                true => Some(true),
                false => old.invalid_ttl_to_controller,
            },
            ..old
        };
        tool.change(&mut conn, Body::SetConfig(config), false)?;
    }
    set_packet_in(tool, &mut conn)?;
    watch(tool, &mut conn, true, &args[0])
}

pub(super) fn snoop(tool: &mut Tool<'_, '_>, args: &[String]) -> Outcome {
    let mut conn = Conn::open(tool, &args[0], Socket::Snoop)?;
    watch(tool, &mut conn, false, &args[0])
}
