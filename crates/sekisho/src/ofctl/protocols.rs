//! Flow formats: which are allowed, and how a switch is told of one.

use openflow::message::{Body, FlowFormat, GroupCommand, GroupMod, Message, Session as Agreed};
pub use openflow::protocol::{PROTOCOLS, Protocol, Protocols};
use openflow::text::ParsedGroup;
use openflow::version::Version;

use super::Tool;
use super::conn::Conn;
use crate::applet::Failure;

/// Reads a list as of `-F`.
///
/// # Errors
/// A name that is not known.
pub fn parse(text: &str) -> Result<Protocols, Failure> {
    let mut set = Protocols::NONE;
    for name in text.split(',').filter(|n| !n.is_empty()) {
        let unknown = || Failure::fatal(format!("{name}: unknown flow protocol"));
        set = set.or(Protocols::by_name(name).ok_or_else(unknown)?);
    }
    match set.is_empty() {
        true => Err(Failure::fatal(format!("{text}: no flow protocol specified"))),
        false => Ok(set),
    }
}

/// The formats that can say a group.
pub fn usable_group(g: &ParsedGroup) -> Protocols {
    // Whether a version has the command is not a matter of formats.
    let group = GroupMod { command: GroupCommand::Add, ..g.group.clone() };
    Protocols::of(|p| {
        let body = Body::GroupMod(Box::new(group.clone()));
        (has_buckets(p.version) || !g.needs_15)
            && Message::new(p.version, 0, body).encode(Agreed::default()).is_ok()
    })
}

/// Whether a version has commands for single buckets, and ids of them.
pub fn has_buckets(v: Version) -> bool {
    matches!(v, Version::Of10 | Version::Of15)
}

/// Tells the switch to use a format from now on. 1.0's has to be told; others are the version's own.
///
/// # Errors
/// The switch does not know the format, or the connection broke.
pub fn set(p: &Protocol, tool: &mut Tool<'_, '_>, conn: &mut Conn) -> Result<(), Failure> {
    if p.version == Version::Of10 {
        if p.nicira {
            tool.change(conn, Body::SetFlowFormat(FlowFormat::Nxm), false)?;
        }
        if p.table_id {
            tool.change(conn, Body::FlowModTableId(true), false)?;
            conn.agreed.flow_mod_table_id = true;
        }
    }
    Ok(())
}

/// The usable formats that are allowed.
fn check_allowed(tool: &Tool<'_, '_>, usable: Protocols) -> Result<Protocols, Failure> {
    let allowed = tool.settings.protocols;
    match allowed.and(usable) {
        none if none.is_empty() => Err(Failure::fatal(format!(
            "none of the usable flow formats ({usable}) is among the allowed flow formats ({allowed})"
        ))),
        some => Ok(some),
    }
}

/// Connects for flow mods: in the first allowed and usable format of the negotiated version.
///
/// # Errors
/// No format is both allowed and usable; no connection.
pub fn open(
    tool: &mut Tool<'_, '_>,
    target: &str,
    usable: Protocols,
) -> Result<(Conn, &'static Protocol), Failure> {
    let allowed = check_allowed(tool, usable)?;
    let mut conn = Conn::open(tool, target, super::conn::Socket::Management)?;
    let version = conn.version;
    let chosen = allowed.iter().find(|p| p.version == version).ok_or_else(|| {
        Failure::fatal(format!(
            "{target}: switch does not support any of the usable flow formats ({usable})"
        ))
    })?;
    set(chosen, tool, &mut conn)?;
    Ok((conn, chosen))
}

/// Connects for a dump of flows: in the format that says most.
///
/// # Errors
/// No connection; the switch refuses the format.
pub fn open_dump(
    tool: &mut Tool<'_, '_>,
    target: &str,
    usable: Protocols,
) -> Result<(Conn, bool), Failure> {
    let mut conn = Conn::open(tool, target, super::conn::Socket::Management)?;
    let allowed = check_allowed(tool, usable)?;
    let nxm = &PROTOCOLS[2];
    let wanted = allowed.iter().any(|p| p.nicira);
    let nicira = conn.version == Version::Of10 && wanted;
    if nicira {
        set(nxm, tool, &mut conn)?;
    }
    Ok((conn, nicira))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_formats_are_read() {
        assert_eq!(parse("NXM,oxm-openflow13").unwrap().to_string(), "NXM,OXM-OpenFlow13");
        assert!(parse("bogus").is_err() && parse(",").is_err());
    }
}
