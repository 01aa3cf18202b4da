//! Errors, roles, asynchronous messages, bundles.

use core::fmt::{self, Write};

use super::{Bits, BytesText, Hex, HexDump, MessageText, Style};
use crate::message::{
    AsyncClass, AsyncConfig, Body, BundleAdd, BundleCtrl, ControllerStatus, ErrorMsg, FlowFormat,
    Message, Role,
};

/// Writes an error and the message it is about.
pub(super) fn write_error(out: &mut impl Write, e: &ErrorMsg, style: Style<'_>) -> fmt::Result {
    let Some(error) = e.error else {
        writeln!(out, " ***unknown error type {} code {}***", e.raw.0, e.raw.1)?;
        return write!(out, "{}", HexDump(&e.data));
    };
    writeln!(out, " {error}")?;
    if error.name().starts_with("OFPHFC_") {
        for &b in &e.data {
            match b {
                b' '..=b'~' => out.write_char(b.into())?,
                _ => write!(out, "\\{b:03o}")?,
            }
        }
        return writeln!(out);
    }
    write!(out, "{}", BytesText { bytes: &e.data, style: Style { verbosity: 1, ..style } })
}

/// The name of a role.
pub fn role_name(role: u32) -> &'static str {
    match role {
        0 => "nochange",
        1 => "equal",
        2 => "primary",
        3 => "secondary",
        _ => "unknown",
    }
}

/// Writes a role.
pub(super) fn write_role(out: &mut impl Write, x: &Role, m: &Message) -> fmt::Result {
    write!(out, " role={}", role_name(x.role))?;
    match x.generation_id {
        // A request that asks for no change has none that counts.
        Some(_) if matches!(m.body, Body::RoleRequest(_)) && x.role == 0 => writeln!(out),
        Some(id) if id != u64::MAX && m.kind().is_some_and(|k| k.name().starts_with('O')) => {
            writeln!(out, " generation_id={id}")
        }
        _ => writeln!(out),
    }
}

/// Writes that a role was taken away.
pub(super) fn write_role_status(out: &mut impl Write, x: &Role, reason: u8) -> fmt::Result {
    write!(out, " role={}", role_name(x.role))?;
    if let Some(id) = x.generation_id.filter(|&id| id != u64::MAX) {
        write!(out, " generation_id={id}")?;
    }
    let reason = match reason {
        0 => "primary_request",
        1 => "configuration_changed",
        2 => "experimenter_data_changed",
        _ => "(unknown)",
    };
    writeln!(out, " reason={reason}")
}

/// Writes what became of a controller.
pub(super) fn write_controller_status(out: &mut impl Write, x: &ControllerStatus) -> fmt::Result {
    let reason = AsyncClass::ControllerStatus.reasons().get(usize::from(x.reason));
    let channel = if x.is_down { "down" } else { "up" };
    write!(out, " reason={}", reason.unwrap_or(&"(unknown)"))?;
    write!(out, " role={} channel={channel}", role_name(x.role))?;
    if x.short_id != 0 {
        write!(out, " short_id={}", x.short_id)?;
    }
    if !x.uri.is_empty() {
        write!(out, " uri={}", x.uri)?;
    }
    writeln!(out)
}

/// Writes which asynchronous messages are wanted. A class that Open vSwitch does not have is told where it is on.
pub(super) fn write_async(out: &mut impl Write, c: &AsyncConfig) -> fmt::Result {
    for (secondary, role) in [(false, "primary"), (true, "secondary")] {
        writeln!(out, "\n {role}:")?;
        for class in AsyncClass::all() {
            if class == AsyncClass::ControllerStatus && c.mask(class, secondary) == 0 {
                continue;
            }
            write!(out, "{:>16}:", class.name())?;
            match c.mask(class, secondary) {
                0 => writeln!(out, " (off)")?,
                bits => {
                    let names = class.reasons();
                    writeln!(out, " {}", Bits { bits, names, separator: ' ' })?;
                }
            }
        }
    }
    Ok(())
}

/// Writes a form of flows.
pub(super) fn write_flow_format(out: &mut impl Write, x: FlowFormat) -> fmt::Result {
    writeln!(
        out,
        " format={}",
        match x {
            FlowFormat::OpenFlow10 => "openflow10",
            FlowFormat::Nxm => "nxm",
        }
    )
}

fn write_flags(out: &mut impl Write, flags: u16) -> fmt::Result {
    let names = &["atomic", "ordered"];
    write!(out, " flags={}", Bits { bits: flags.into(), names, separator: ' ' })
}

/// Writes bundle control.
pub(super) fn write_bundle(out: &mut impl Write, x: &BundleCtrl) -> fmt::Result {
    let kinds = [
        "OPEN_REQUEST",
        "OPEN_REPLY",
        "CLOSE_REQUEST",
        "CLOSE_REPLY",
        "COMMIT_REQUEST",
        "COMMIT_REPLY",
        "DISCARD_REQUEST",
        "DISCARD_REPLY",
    ];
    let kind = kinds.get(usize::from(x.kind)).copied().unwrap_or("UNKNOWN");
    write!(out, "\n bundle_id={} type={kind}", Hex(x.id.into()))?;
    write_flags(out, x.flags)?;
    writeln!(out)
}

/// Writes a message for a bundle.
pub(super) fn write_bundle_add(
    out: &mut impl Write,
    x: &BundleAdd,
    style: Style<'_>,
) -> fmt::Result {
    write!(out, "\n bundle_id={}", Hex(x.id.into()))?;
    write_flags(out, x.flags)?;
    write!(out, "\n{}", MessageText { message: &x.message, style })
}
